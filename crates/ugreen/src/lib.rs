//! uGreen: coroutines on stacks of their own. They know no language: whatever runs on one may be suspended at any depth.
//!
//! | file | owns |
//! | --- | --- |
//! | `stack.rs` | the memory of one stack, its bounds, giving back what a deep use left |
//! | `coroutine.rs` | entering, suspending, resuming, ending, abandoning |
//!
//! # What lies where
//!
//! ```text
//!   the thread's own stack                    a stack of 8 MiB of address space
//!
//!   main                                      top     parent link: where resume() was called
//!    driver's loop                                     closure given to Coroutine::start
//!     perform(action)                                   the application's frames, C or any other,
//!      Coroutine::resume() ---- switch ----------->      as deep as they like
//!                          <--- switch ------------       Yielder::suspend()
//!                                             -64 KiB  kept by Stack::trim(); below: only after a deep use
//!                                             lowest
//!                                                      guard page: a touch is SIGSEGV
//! ```
//!
//! A switch saves the callee-saved registers on the stack that is left and loads the stack pointer of the other one: the
//! kernel has no part in it. Frames stay where they are, so pointers into a suspended stack stay valid.
//!
//! # Rules
//!
//! - One thread: a coroutine stays on the thread that made it (nothing here is `Send`).
//! - Nobody unwinds a suspended stack. It may hold frames of C, which nothing can unwind, and frames whose `Drop` would
//!   run application code from the wrong place. A coroutine ends by returning, or it is abandoned with its stack.
//! - A panic that leaves the closure of a coroutine ends the process: there is no frame below to catch it.
//! - Which stack goes with what else (in CPython: a thread state), and how many are kept, is the driver's business.
#![allow(unsafe_code, reason = "stacks are raw memory; every block argues")]

mod coroutine;
mod stack;

pub use coroutine::{Coroutine, State, Yielder, YielderHandle};
pub use greenloom_sys::limits::max_map_count;
pub use stack::{Stack, mappings_needed};
