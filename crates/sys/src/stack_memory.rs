//! Memory for the stack of a coroutine: reserved address space with a page below it that nobody can touch.
//!
//! ```text
//!  lowest mapped address     lowest()                                              top()
//!  |  guard page, PROT_NONE  |  readable and writable, no page of it there before it is touched  |
//! ```
//!
//! Owns the mapping. What runs on it, and when it is trimmed, is decided by others.

use std::io;
use std::num::NonZeroUsize;
use std::ptr::NonNull;

use rustix::mm::{Advice, MapFlags, MprotectFlags, ProtFlags};

use crate::limits::page_size;

/// Two mappings of the kernel's (`vm.max_map_count` bounds them): the guard page, and what can be used.
pub const MAPPINGS: usize = 2;

/// Private, anonymous memory that grows downwards to a guard page, and is unmapped on drop.
#[derive(Debug)]
pub struct StackMemory {
    guard: NonNull<usize>,
    guard_bytes: usize,
    bytes: usize,
}

impl StackMemory {
    /// Reserves `bytes` (rounded up to whole pages) above a guard page. Nothing of it is resident yet.
    ///
    /// # Errors
    /// `OutOfMemory`: too many mappings (`vm.max_map_count`), a limit of address space, or, with
    /// `vm.overcommit_memory=2`, of memory promised. `InvalidInput`: no page at all, or more than there can be.
    pub fn reserve(bytes: usize) -> io::Result<Self> {
        let page = page_size();
        let bytes = bytes.checked_next_multiple_of(page).filter(|bytes| *bytes > 0);
        let mapped = bytes.and_then(|bytes| bytes.checked_add(page));
        let (Some(bytes), Some(mapped)) = (bytes, mapped) else {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "a stack of an impossible size"));
        };
        let flags = MapFlags::PRIVATE | MapFlags::NORESERVE | MapFlags::STACK;
        // SAFETY: a new mapping at an address the kernel chooses disturbs no other memory.
        let start =
            unsafe { rustix::mm::mmap_anonymous(std::ptr::null_mut(), mapped, ProtFlags::empty(), flags) }?;
        let guard = NonNull::new(start.cast::<usize>()).ok_or(rustix::io::Errno::NOMEM)?;
        // From here on a failure unmaps it again.
        let memory = Self { guard, guard_bytes: page, bytes };
        let usable = memory.pointer_above_guard().cast();
        // SAFETY: all but the first page of the mapping made above; it holds nothing yet.
        unsafe { rustix::mm::mprotect(usable, bytes, MprotectFlags::READ | MprotectFlags::WRITE) }?;
        // Where huge pages are on for everything, the first touch would make 2 MiB resident. A kernel without huge
        // pages does not know the advice (EINVAL), and needs none.
        // SAFETY: the same pages; the advice changes no content.
        match unsafe { rustix::mm::madvise(usable, bytes, Advice::LinuxNoHugepage) } {
            Ok(()) | Err(rustix::io::Errno::INVAL) => Ok(memory),
            Err(error) => Err(error.into()),
        }
    }

    /// The address right above the highest usable byte: where a stack begins. Page aligned.
    #[inline]
    pub fn top(&self) -> NonZeroUsize {
        self.guard.addr().saturating_add(self.guard_bytes + self.bytes)
    }

    /// The lowest usable address. Page aligned; the guard page ends here.
    #[inline]
    pub fn lowest(&self) -> NonZeroUsize {
        self.guard.addr().saturating_add(self.guard_bytes)
    }

    /// The lowest mapped address: the guard page's.
    #[inline]
    pub fn guard(&self) -> NonZeroUsize {
        self.guard.addr()
    }

    /// Usable bytes.
    #[inline]
    pub fn len(&self) -> usize {
        self.bytes
    }

    /// Never: memory without a page cannot be reserved.
    pub fn is_empty(&self) -> bool {
        false
    }

    /// The aligned word that lies `depth` bytes below the top, rounded up to whole words; `None` where there is none.
    ///
    /// A page that was never touched reads as zeros and does not become resident by it.
    #[inline]
    pub fn word_at_depth(&self, depth: usize) -> Option<usize> {
        let depth = depth.checked_next_multiple_of(size_of::<usize>())?;
        if depth == 0 || depth > self.bytes {
            return None;
        }
        // SAFETY: `depth` lies in (0, bytes], so the result is inside the usable part of the mapping.
        let word = unsafe { self.pointer_above_guard().byte_add(self.bytes - depth) };
        // SAFETY: readable memory of our own mapping, aligned (both bounds are), any bits are a usize; volatile,
        // because code on the stack writes there without the compiler's knowledge. This type is not `Sync`.
        Some(unsafe { word.read_volatile() })
    }

    /// Gives the pages more than `top_bytes` below the top back to the kernel; they read as zeros from now on.
    ///
    /// For a stack on which nothing is running or suspended: that is what the `&mut` stands for.
    pub fn release_below(&mut self, top_bytes: usize) -> io::Result<()> {
        let kept = top_bytes.checked_next_multiple_of(self.guard_bytes).unwrap_or(usize::MAX);
        let Some(released) = self.bytes.checked_sub(kept).filter(|released| *released > 0) else {
            return Ok(());
        };
        // SAFETY: `released` bytes from the lowest usable address lie in our mapping, and nothing on this stack is
        // alive: who runs code on it owns this value, and cannot have called with `&mut` then.
        unsafe { rustix::mm::madvise(self.pointer_above_guard().cast(), released, Advice::LinuxDontNeed) }?;
        Ok(())
    }

    #[inline]
    fn pointer_above_guard(&self) -> *mut usize {
        // SAFETY: the guard page is the first part of the mapping, so this stays inside it.
        unsafe { self.guard.as_ptr().byte_add(self.guard_bytes) }
    }
}

impl Drop for StackMemory {
    fn drop(&mut self) {
        // SAFETY: the whole mapping that `reserve` made; nothing runs on it, or its user would still own this value.
        // A failure leaves it mapped, which harms nobody.
        let _ = unsafe { rustix::mm::munmap(self.guard.as_ptr().cast(), self.guard_bytes + self.bytes) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_pages_above_a_guard_page() {
        let memory = StackMemory::reserve(100_000).unwrap();
        let page = page_size();
        assert_eq!(memory.len(), 100_000_usize.next_multiple_of(page));
        assert_eq!(memory.lowest().get() - memory.guard().get(), page);
        assert_eq!(memory.top().get() - memory.lowest().get(), memory.len());
        let line = mapping_of(memory.guard().get());
        assert!(line.contains("---p"), "{line}");
        let line = mapping_of(memory.lowest().get());
        assert!(line.contains("rw-p"), "{line}");
    }

    #[test]
    fn impossible_sizes_are_refused() {
        for bytes in [0, usize::MAX, usize::MAX - page_size()] {
            assert_eq!(
                StackMemory::reserve(bytes).unwrap_err().kind(),
                io::ErrorKind::InvalidInput,
                "{bytes}"
            );
        }
        assert_eq!(StackMemory::reserve(1 << 60).unwrap_err().kind(), io::ErrorKind::OutOfMemory);
    }

    #[test]
    fn words_are_read_inside_only() {
        let memory = StackMemory::reserve(page_size()).unwrap();
        assert_eq!(memory.word_at_depth(0), None);
        assert_eq!(memory.word_at_depth(1), Some(0));
        assert_eq!(memory.word_at_depth(page_size()), Some(0));
        assert_eq!(memory.word_at_depth(page_size() + 1), None);
        assert_eq!(memory.word_at_depth(usize::MAX), None);
    }

    #[test]
    fn what_is_below_is_released_and_what_is_above_kept() {
        let page = page_size();
        let mut memory = StackMemory::reserve(8 * page).unwrap();
        for depth in 1..=8 {
            write_at_depth(&memory, depth * page);
        }
        memory.release_below(2 * page + 1).unwrap();
        let words: Vec<_> = (1..=8).map(|depth| memory.word_at_depth(depth * page).unwrap()).collect();
        assert_eq!(words, [1, 1, 1, 0, 0, 0, 0, 0]);
        memory.release_below(usize::MAX).unwrap();
        memory.release_below(8 * page).unwrap();
        assert_eq!(memory.word_at_depth(3 * page), Some(1));
    }

    #[test]
    fn drop_unmaps() {
        let memory = StackMemory::reserve(page_size()).unwrap();
        // Somebody else's mapping may take the place, but hardly with these very bounds and rights.
        let (guard, top) = (memory.guard().get(), memory.top().get());
        let line = mapping_of(guard);
        drop(memory);
        assert_ne!(mapping_of(guard), line, "{guard:x} to {top:x}");
    }

    fn write_at_depth(memory: &StackMemory, depth: usize) {
        assert!(depth > 0 && depth <= memory.len());
        // SAFETY: inside the usable part, as asserted.
        let word = unsafe { memory.pointer_above_guard().byte_add(memory.len() - depth) };
        // SAFETY: writable memory of our own, aligned to pages.
        unsafe { word.write_volatile(1) };
    }

    /// The line of /proc/self/maps about the mapping that holds `address`.
    fn mapping_of(address: usize) -> String {
        let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
        let holds = |line: &&str| {
            let bounds = line.split(' ').next().and_then(|bounds| bounds.split_once('-'));
            let number = |text: &str| usize::from_str_radix(text, 16).unwrap();
            bounds.is_some_and(|(low, high)| (number(low)..number(high)).contains(&address))
        };
        maps.lines().find(holds).unwrap_or_default().to_owned()
    }
}
