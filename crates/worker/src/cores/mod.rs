//! Cores: the slots requests run in, and what a suspended one waits for.

pub(crate) mod table;
pub(crate) mod watch;

/// Names a core: 0 up to the number of cores less one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct CoreId(pub u32);

impl CoreId {
    pub(crate) fn at(self) -> usize {
        self.0 as usize
    }
}

/// To read, to write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Interest {
    /// Readable, or at its end, or broken.
    Read,
    /// Writable, or broken.
    Write,
}
