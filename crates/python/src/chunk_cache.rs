//! A bounded free list for the 16 KiB chunks of CPython's data stack.
//!
//! From 3.11 on the frames of Python functions lie in chunks that hang on the thread state. Every new greenlet and
//! every new thread takes a chunk of 16 KiB from the arena allocator when its first Python function is called, and
//! gives it back at its end: two system calls and the page faults of fresh memory, several times the cost of the
//! greenlet itself. So does a call that happens to cross the end of a chunk, each time it is made.
//!
//! This wraps the arena allocator of the process: blocks of exactly that size are kept up to a limit; all others, and
//! all beyond the limit, are the original allocator's business. pymalloc's arenas (1 MiB, 256 KiB in some builds) are
//! among those others. A kept block is as good as a new one: CPython writes the three words at the head of a chunk and
//! every slot of a frame before it reads them, and expects no zeroes, since frames lie where earlier ones have been.
//!
//! Who decides about the limit, and that only workers have a cache, is `application.rs`.

use std::ffi::c_void;
use std::ptr;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicPtr, AtomicU64, Ordering};

use pyo3::ffi;
use pyo3::prelude::*;

/// `DATA_STACK_CHUNK_SIZE` of CPython. Chunks for larger frames have a multiple of it and are not kept.
const CHUNK_BYTES: usize = 16 * 1024;

/// What a kept block begins with.
struct Kept {
    next: *mut Kept,
}

/// Stands in for the head of the list while a thread works on it; no block has this address.
const BUSY: *mut Kept = ptr::without_provenance_mut(1);

/// The list, its limit, and the allocator below it. It lives as long as the process: CPython keeps a pointer to it.
struct Cache {
    original: Original,
    limit: u64,
    /// The first kept block, null, or [`BUSY`]. Whoever swaps it for `BUSY` and finds something else owns the list,
    /// and the counters but the last, until it stores the new head.
    ///
    /// Nobody waits: a thread that finds the list busy goes to the original allocator. That is rare, since nearly all
    /// callers hold the interpreter lock; and a child that is forked while another thread of its parent owned the list
    /// finds it busy for ever, has no cache, and never hangs.
    head: AtomicPtr<Kept>,
    kept: AtomicU64,
    hits: AtomicU64,
    misses: AtomicU64,
    /// How often the list was busy.
    busy: AtomicU64,
}

/// Both functions of the allocator that was there before.
struct Original {
    context: *mut c_void,
    alloc: extern "C" fn(*mut c_void, usize) -> *mut c_void,
    free: extern "C" fn(*mut c_void, *mut c_void, usize),
}

// SAFETY: the context is only passed back to the functions that came with it, which CPython calls from any thread.
unsafe impl Send for Original {}
// SAFETY: as above.
unsafe impl Sync for Original {}

static CACHE: OnceLock<Cache> = OnceLock::new();

/// Keeps up to `limit` chunks from now on, in this process and its children; 0 leaves everything as it is. To be called
/// once: the first limit stays.
pub(crate) fn install(_: Python<'_>, limit: u32) {
    if limit == 0 {
        return;
    }
    let mut original = ffi::PyObjectArenaAllocator { ctx: ptr::null_mut(), alloc: None, free: None };
    // SAFETY: the pointer is valid for the call; the token says that the thread is attached.
    unsafe { ffi::PyObject_GetArenaAllocator(&raw mut original) };
    let (Some(original_alloc), Some(original_free)) = (original.alloc, original.free) else { return };
    let cache = Cache {
        original: Original { context: original.ctx, alloc: original_alloc, free: original_free },
        limit: u64::from(limit),
        head: AtomicPtr::new(ptr::null_mut()),
        kept: AtomicU64::new(0),
        hits: AtomicU64::new(0),
        misses: AtomicU64::new(0),
        busy: AtomicU64::new(0),
    };
    if CACHE.set(cache).is_err() {
        return;
    }
    let Some(cache) = CACHE.get() else { return };
    let mut ours = ffi::PyObjectArenaAllocator {
        ctx: ptr::from_ref(cache).cast_mut().cast(),
        alloc: Some(alloc),
        free: Some(free),
    };
    // SAFETY: attached, and CPython copies what the pointer leads to. Blocks that the original allocator has handed out
    // before may come to `free`: they are of the same kind as those that `alloc` hands out.
    unsafe { ffi::PyObject_SetArenaAllocator(&raw mut ours) };
}

/// `(limit, kept, hits, misses, busy)`: how many chunks may be kept and are kept now, how many were asked for and found
/// or not found, and how often another thread was at the list. All 0 without a cache.
pub(crate) fn stats() -> (u64, u64, u64, u64, u64) {
    CACHE.get().map_or_else(Default::default, |cache| {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        (cache.limit, read(&cache.kept), read(&cache.hits), read(&cache.misses), read(&cache.busy))
    })
}

impl Cache {
    /// The head of the list, which now belongs to the caller, who has to call `give_back`. None: it is busy.
    fn take_over(&self) -> Option<*mut Kept> {
        let head = self.head.swap(BUSY, Ordering::Acquire);
        if head == BUSY {
            self.busy.fetch_add(1, Ordering::Relaxed);
            return None;
        }
        Some(head)
    }

    fn give_back(&self, head: *mut Kept) {
        self.head.store(head, Ordering::Release);
    }

    /// A kept block.
    fn pop(&self) -> Option<*mut c_void> {
        let first = self.take_over()?;
        if first.is_null() {
            add(&self.misses, 1);
            self.give_back(first);
            return None;
        }
        // SAFETY: the list is ours, so `first` is a block that `push` has made a `Kept` and nobody has taken since.
        let next = unsafe { (*first).next };
        add(&self.hits, 1);
        add(&self.kept, u64::MAX);
        self.give_back(next);
        Some(first.cast())
    }

    /// False: the block is still the caller's.
    fn push(&self, block: *mut c_void) -> bool {
        let Some(first) = self.take_over() else { return false };
        if self.kept.load(Ordering::Relaxed) >= self.limit {
            self.give_back(first);
            return false;
        }
        let block: *mut Kept = block.cast();
        // SAFETY: the caller owns the block, which has room for many pointers and is aligned to a page.
        unsafe { block.write(Kept { next: first }) };
        add(&self.kept, 1);
        self.give_back(block);
        true
    }
}

/// Only for the owner of the list: it is the only writer, so that no locked instruction is needed.
fn add(counter: &AtomicU64, number: u64) {
    counter.store(counter.load(Ordering::Relaxed).wrapping_add(number), Ordering::Relaxed);
}

extern "C" fn alloc(context: *mut c_void, bytes: usize) -> *mut c_void {
    // SAFETY: CPython passes the context that `install` has set: the cache in its static.
    let cache = unsafe { &*context.cast::<Cache>() };
    if bytes == CHUNK_BYTES
        && let Some(block) = cache.pop()
    {
        return block;
    }
    (cache.original.alloc)(cache.original.context, bytes)
}

extern "C" fn free(context: *mut c_void, block: *mut c_void, bytes: usize) {
    // SAFETY: as in `alloc`.
    let cache = unsafe { &*context.cast::<Cache>() };
    if bytes == CHUNK_BYTES && !block.is_null() && cache.push(block) {
        return;
    }
    (cache.original.free)(cache.original.context, block, bytes);
}
