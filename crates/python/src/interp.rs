//! Thread states of the interpreter, one for each stack of uGreen. The only file that swaps them.
//!
//! CPython keeps in a `PyThreadState` what belongs to a chain of frames: the frames themselves, the exception being
//! handled, the context, the depth of recursion, the memory of frames ("data stack"). A core with a stack of its own
//! needs one of its own; nothing of it is read or written here, it is only made the current one.
//!
//! ```text
//!             loop                                   core
//!             ---------------------------            ------------------------------
//!             main is current
//!   enter()   [1] key := ts   (before 3.12)
//!             [2] Swap(ts)
//!             [3] main slot := ts  (from 3.13)
//!             resume  ------------------------->     ts is current; Python runs
//!             ts is still current  <------------     suspend, or the end
//!   leave()   [1] [2] [3] with main
//!             main is current
//! ```
//!
//! | step | why |
//! | --- | --- |
//! | 1 | Before 3.12 `PyThreadState_Swap` leaves alone which thread state belongs to the OS thread; `PyGILState_Ensure`, which many extension modules call, then takes the lock twice and hangs. The pthread key is found at start. Debug builds up to 3.11 check the pair inside `Swap`, so the key goes first. |
//! | 2 | From 3.12 on it hands the GIL over: another thread may run in between. |
//! | 3 | From 3.13 on a posix signal is announced to one thread state, that of the process's start; handlers would run only after the core returns. The runtime's pointer to it is found at start; without it handlers come late, nothing else. |
//!
//! From 3.14 on CPython compares addresses with the bounds of the stack: a thread state and its stack always stay
//! together, and the bounds are set when the pair is made. Without that, containers are leaked and the recursion guard of
//! C code is off.

use std::ffi::{c_int, c_void};

use greenloom_ugreen::Stack;
use pyo3::ffi;
use pyo3::prelude::*;

/// `PyUnstable_ThreadState_SetStackProtection` (from 3.14 on).
type SetStackProtection = unsafe extern "C" fn(*mut ffi::PyThreadState, *mut c_void, usize) -> c_int;

/// Words of `_PyRuntime` that are searched for the pointer to the main thread state.
const RUNTIME_WORDS: usize = 512;
/// Keys of one process at most (glibc's `PTHREAD_KEYS_MAX`).
const KEYS: libc::pthread_key_t = 1024;

/// How thread states are swapped on this interpreter.
pub(crate) struct Interpreter {
    main: *mut ffi::PyThreadState,
    owner: *mut ffi::PyInterpreterState,
    key: Option<libc::pthread_key_t>,
    main_slot: Option<*mut *mut ffi::PyThreadState>,
    protect: Option<SetStackProtection>,
}

/// One thread state. It belongs to one stack, and lives as long as the process: dropping this leaves it as it is.
pub(crate) struct ThreadState(*mut ffi::PyThreadState);

impl Interpreter {
    /// Finds what the version at hand needs; on the thread that will run the loop, after the process's last fork.
    /// The message says what is missing, and what to do.
    pub(crate) fn examine(py: Python<'_>) -> Result<Self, String> {
        let version = py.version_info();
        // SAFETY: attached.
        let main = unsafe { ffi::PyThreadState_Get() };
        // SAFETY: `main` is the current thread state.
        let owner = unsafe { ffi::PyThreadState_GetInterpreter(main) };
        let key = if version < (3, 12) {
            Some(find_gilstate_key(main).ok_or_else(|| {
                format!(
                    "--ugreen cannot run on this Python {}.{}: the key of its thread states was not found; use \
                     CPython 3.12 or newer, or --greenlet",
                    version.major, version.minor
                )
            })?)
        } else {
            None
        };
        let protect = if version >= (3, 14) {
            Some(find_stack_protection().ok_or_else(|| {
                "--ugreen cannot run on this Python: PyUnstable_ThreadState_SetStackProtection is missing, which \
                 CPython has from 3.14.1 on; upgrade Python, or use --greenlet"
                    .to_owned()
            })?)
        } else {
            None
        };
        let main_slot = if version >= (3, 13) { find_main_slot(main) } else { None };
        if version >= (3, 13) && main_slot.is_none() {
            crate::traceback::log_line(
                "ugreen: the interpreter's main thread state was not found; handlers of the signal module run only \
                 while no request does",
            );
        }
        Ok(Self { main, owner, key, main_slot, protect })
    }

    /// Makes a thread state for a stack.
    pub(crate) fn new_state(&self, stack: &Stack) -> Option<ThreadState> {
        // SAFETY: attached; the interpreter lives as long as the process.
        let state = unsafe { ffi::PyThreadState_New(self.owner) };
        if state.is_null() {
            return None;
        }
        if let Some(protect) = self.protect {
            let (lowest, size) = stack.limits();
            // SAFETY: a thread state that has never run, and the stack it will run on, which it never leaves.
            if unsafe { protect(state, std::ptr::with_exposed_provenance_mut(lowest.get()), size) } != 0 {
                // SAFETY: attached; an exception is set.
                unsafe { ffi::PyErr_Clear() };
            }
        }
        Some(ThreadState(state))
    }

    /// Makes a core's thread state current. To be followed by resuming its coroutine, and then [`Self::leave`].
    pub(crate) fn enter(&self, state: &ThreadState) {
        self.swap(state.0);
    }

    /// Makes the loop's thread state current again.
    pub(crate) fn leave(&self) {
        self.swap(self.main);
    }

    #[inline]
    fn swap(&self, state: *mut ffi::PyThreadState) {
        if let Some(key) = self.key {
            // SAFETY: the key that `find_gilstate_key` has proved to be CPython's.
            unsafe { libc::pthread_setspecific(key, state.cast()) };
        }
        #[expect(clippy::disallowed_methods, reason = "this is the file that swaps")]
        // SAFETY: attached on the thread that all states of cores were made on; `state` lives: states of cores are
        // never deleted.
        unsafe {
            ffi::PyThreadState_Swap(state);
        }
        if let Some(slot) = self.main_slot {
            // SAFETY: the one word of the runtime that held the main thread state. It is read by signal handlers on
            // whichever thread, so it is stored whole.
            unsafe { std::sync::atomic::AtomicPtr::from_ptr(slot) }
                .store(state, std::sync::atomic::Ordering::Relaxed);
        }
    }
}

impl ThreadState {
    /// The same, to look at.
    pub(crate) fn look(&self) -> Self {
        Self(self.0)
    }

    /// The innermost frame, while it is suspended.
    pub(crate) fn frame<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyAny>> {
        // SAFETY: attached; the state lives and is not running.
        let frame = unsafe { ffi::PyThreadState_GetFrame(self.0) };
        // SAFETY: a new reference or null.
        unsafe { Bound::from_owned_ptr_or_opt(py, frame.cast()) }
    }
}

/// The pthread key in which CPython before 3.12 keeps each thread's state.
fn find_gilstate_key(main: *mut ffi::PyThreadState) -> Option<libc::pthread_key_t> {
    (0..KEYS).find(|&key| {
        // SAFETY: glibc answers null for keys that are not in use.
        if unsafe { libc::pthread_getspecific(key) } != main.cast::<c_void>() {
            return false;
        }
        // Others may keep the same pointer: CPython's own answer must follow the key.
        let sentinel = std::ptr::without_provenance_mut::<c_void>(0x10);
        // SAFETY: the key is in use, and its value is put back before anything else runs on this thread.
        unsafe { libc::pthread_setspecific(key, sentinel) };
        // SAFETY: reads the key and nothing else.
        let answer = unsafe { ffi::PyGILState_GetThisThreadState() };
        // SAFETY: as above.
        unsafe { libc::pthread_setspecific(key, main.cast()) };
        answer.cast::<c_void>() == sentinel
    })
}

/// The runtime's pointer to the main thread state: the only word in its first part that equals it.
fn find_main_slot(main: *mut ffi::PyThreadState) -> Option<*mut *mut ffi::PyThreadState> {
    let runtime = symbol(c"_PyRuntime")?.cast::<*mut ffi::PyThreadState>();
    let mut found = None;
    for index in 0..RUNTIME_WORDS {
        // SAFETY: `_PyRuntime` is far larger than this part of it (over 100 KiB in 3.13).
        let word = unsafe { runtime.add(index) };
        // SAFETY: as above; aligned, for the runtime begins at an aligned address.
        if unsafe { word.read_volatile() } == main {
            if found.is_some() {
                return None;
            }
            found = Some(word);
        }
    }
    found
}

fn find_stack_protection() -> Option<SetStackProtection> {
    let address = symbol(c"PyUnstable_ThreadState_SetStackProtection")?;
    // SAFETY: the function of that name has this signature in every version that has it.
    Some(unsafe { std::mem::transmute::<*mut c_void, SetStackProtection>(address) })
}

fn symbol(name: &std::ffi::CStr) -> Option<*mut c_void> {
    // SAFETY: a NUL-terminated name; looks through what the process has loaded.
    let address = unsafe { libc::dlsym(libc::RTLD_DEFAULT, name.as_ptr()) };
    (!address.is_null()).then_some(address)
}
