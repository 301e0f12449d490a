//! Request bodies: collected before a core is taken, in memory up to a threshold, in a spool file above it.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use greenloom_sys::spool;

/// A complete request body.
#[derive(Debug, Default)]
pub enum Body {
    /// No bytes.
    #[default]
    Empty,
    /// Small enough for memory.
    Memory(Vec<u8>),
    /// In a file without a name.
    File {
        /// The file; its position means nothing.
        file: File,
        /// Bytes in it.
        len: u64,
    },
}

/// Memory reserved at most before bytes have arrived, so that announcing a body costs the client its bytes first.
const RESERVE: u64 = 16 * 1024;

/// Collects a body whose bytes come in pieces.
#[derive(Debug)]
pub(crate) struct Collector {
    body: Body,
    received: u64,
    threshold: u64,
}

impl Collector {
    /// `announced`: the length, if known; above `threshold` the body goes to a file.
    pub(crate) fn new(announced: Option<u64>, threshold: u64) -> Self {
        let reserve = announced.unwrap_or(RESERVE).min(RESERVE).min(threshold);
        let memory = Vec::with_capacity(usize::try_from(reserve).unwrap_or(0));
        Self { body: Body::Memory(memory), received: 0, threshold }
    }

    /// Bytes so far.
    pub(crate) fn received(&self) -> u64 {
        self.received
    }

    /// Adds bytes; fails when the spool file cannot be written.
    pub(crate) fn push(&mut self, bytes: &[u8], directory: &Path) -> io::Result<()> {
        let total = self.received + bytes.len() as u64;
        if let Body::Memory(memory) = &mut self.body {
            if total <= self.threshold {
                memory.extend_from_slice(bytes);
                self.received = total;
                return Ok(());
            }
            let file = spool::create(directory)?;
            file.write_all_at(memory, 0)?;
            self.body = Body::File { file, len: self.received };
        }
        if let Body::File { file, len } = &mut self.body {
            file.write_all_at(bytes, *len)?;
            *len = total;
        }
        self.received = total;
        Ok(())
    }

    /// The body, complete.
    pub(crate) fn finish(self) -> Body {
        match self.body {
            Body::Memory(memory) if memory.is_empty() => Body::Empty,
            body => body,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn collect(pieces: &[&[u8]], threshold: u64) -> Body {
        let mut collector = Collector::new(None, threshold);
        for piece in pieces {
            collector.push(piece, &std::env::temp_dir()).unwrap();
        }
        collector.finish()
    }

    #[test]
    fn at_the_threshold_it_stays_in_memory_above_it_goes_to_a_file() {
        assert!(matches!(collect(&[], 4), Body::Empty));
        assert!(matches!(collect(&[b"ab", b"cd"], 4), Body::Memory(m) if m == b"abcd"));
        let Body::File { file, len } = collect(&[b"ab", b"cd", b"efg"], 4) else { panic!("not spooled") };
        let mut bytes = [0; 7];
        file.read_exact_at(&mut bytes, 0).unwrap();
        assert_eq!((&bytes, len), (b"abcdefg", 7));
    }

    #[test]
    fn a_spool_directory_that_is_missing_is_an_error() {
        let mut collector = Collector::new(Some(10), 4);
        assert!(collector.push(b"0123456789", Path::new("/nonexistent")).is_err());
    }
}
