//! One stack: its memory, its bounds, and giving back what a deep use left resident.
//!
//! Owns the memory. What runs on it is the coroutine's; how many there are is the driver's.

use std::io;
use std::num::NonZeroUsize;

use greenloom_sys::stack_memory::{self, StackMemory};

/// What [`Stack::trim`] leaves. Ordinary requests to CPython use 8 to 24 KiB of C stack.
const KEPT: usize = 64 * 1024;
/// How far below [`KEPT`] is looked for traces of a deep use.
const SAMPLES: usize = 16;
/// Bytes between two samples: no power of two, as frames of equal size would put the same field under each.
const SAMPLE_STRIDE: usize = 1016;

/// A stack that no coroutine uses at the moment.
#[derive(Debug)]
pub struct Stack(StackMemory);

impl Stack {
    /// Reserves a stack of `bytes`, rounded up to whole pages. Only what is touched becomes resident.
    pub fn new(bytes: usize) -> io::Result<Self> {
        StackMemory::reserve(bytes.max(corosensei::stack::MIN_STACK_SIZE)).map(Self)
    }

    /// The lowest usable address, and how many bytes can be used from there on.
    pub fn limits(&self) -> (NonZeroUsize, usize) {
        (self.0.lowest(), self.0.len())
    }

    /// After a deep use: gives the memory below the top 64 KiB back to the kernel. Otherwise costs a few nanoseconds.
    ///
    /// A deep use is told by what it left in the 16 KiB below those: several samples over four pages, as a single big
    /// frame may step over one page without a trace. An unconditional madvise(2) would cost a microsecond a request.
    #[inline]
    pub fn trim(&mut self) {
        if self.was_deep() {
            self.release();
        }
    }

    #[inline]
    fn was_deep(&self) -> bool {
        let depths = (1..=SAMPLES).map(|sample| KEPT + sample * SAMPLE_STRIDE);
        depths.filter_map(|depth| self.0.word_at_depth(depth)).fold(0, |bits, word| bits | word) != 0
    }

    #[cold]
    fn release(&mut self) {
        // It cannot fail on a mapping of this kind; if it did, the memory would stay resident and nothing else happen.
        let _ = self.0.release_below(KEPT);
    }
}

// SAFETY: the memory below `base` is readable and writable down to a page that is neither, so that an overflow faults;
// it is page aligned and at least MIN_STACK_SIZE long (`Stack::new`), and stays mapped as long as this value lives.
unsafe impl corosensei::stack::Stack for Stack {
    #[inline]
    fn base(&self) -> corosensei::stack::StackPointer {
        self.0.top()
    }

    #[inline]
    fn limit(&self) -> corosensei::stack::StackPointer {
        self.0.guard()
    }
}

/// How many mappings a process needs in which each of `cores` cores has a stack, of those that the kernel grants it
/// (`vm.max_map_count`): two for each stack, and some for everything else.
pub fn mappings_needed(cores: usize) -> u64 {
    /// Programs, shared libraries (four or five each) and heaps of a large application, and room to spare.
    const EVERYTHING_ELSE: usize = 2_000;
    let mappings = cores.saturating_mul(stack_memory::MAPPINGS).saturating_add(EVERYTHING_ELSE);
    u64::try_from(mappings).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limits_are_what_was_asked_for() {
        let stack = Stack::new(8 << 20).unwrap();
        let (lowest, usable) = stack.limits();
        assert_eq!(usable, 8 << 20);
        assert_eq!(lowest.get() + usable, corosensei::stack::Stack::base(&stack).get());
        assert!(corosensei::stack::Stack::limit(&stack) < lowest);
    }

    #[test]
    fn a_tiny_stack_is_still_a_stack() {
        let mut stack = Stack::new(1).unwrap();
        assert!(stack.limits().1 >= corosensei::stack::MIN_STACK_SIZE);
        stack.trim();
    }

    #[test]
    fn two_mappings_a_core_and_some() {
        assert_eq!(mappings_needed(10_000) - mappings_needed(0), 20_000);
        // The kernel's default has room for these.
        assert!((2_000..65_530).contains(&mappings_needed(30_000)));
        assert!(mappings_needed(usize::MAX) > u64::from(u32::MAX));
    }
}
