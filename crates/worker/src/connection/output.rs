//! Output of one connection that its socket would not take: in memory up to the high-water mark; what a caller cannot
//! hold back (the WSGI `write` callable without a suspend engine) goes on in a spool file.

use std::fs::File;
use std::io;
use std::os::fd::BorrowedFd;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use greenloom_sys::{net, spool};

/// Bytes read back from the spool file at a time.
const REFILL: u64 = 64 * 1024;

#[derive(Debug)]
struct Spool {
    file: File,
    read: u64,
    written: u64,
}

/// Sends in a row: then others get their turn.
const SENDS: usize = 4;

/// What [`Output::drain`] came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Drained {
    /// The socket took nothing.
    Nothing,
    /// The socket took something and is full now, or all has left.
    Some,
    /// The socket may take more.
    MayGoOn,
}

/// A queue of bytes.
#[derive(Debug, Default)]
pub(crate) struct Output {
    memory: Vec<u8>,
    /// Where the unsent bytes of `memory` begin.
    start: usize,
    /// Bytes behind those in memory.
    spool: Option<Spool>,
}

impl Output {
    /// Bytes in memory.
    pub(crate) fn in_memory(&self) -> usize {
        self.memory.len() - self.start
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.in_memory() == 0 && self.spool.is_none()
    }

    /// Appends. Bytes behind spooled ones are spooled, too, so that the order stays.
    pub(crate) fn push(&mut self, bytes: &[u8]) -> io::Result<()> {
        if let Some(spool) = &mut self.spool {
            return append(spool, bytes);
        }
        self.memory.extend_from_slice(bytes);
        Ok(())
    }

    /// Appends to the spool file.
    pub(crate) fn push_spooled(&mut self, bytes: &[u8], directory: &Path) -> io::Result<()> {
        if self.spool.is_none() {
            self.spool = Some(Spool { file: spool::create(directory)?, read: 0, written: 0 });
        }
        self.push(bytes)
    }

    /// Whether bytes wait in the spool file: those in memory are not all.
    pub(crate) fn is_spooled(&self) -> bool {
        self.spool.is_some()
    }

    /// Sends what the socket takes, within bounds.
    pub(crate) fn drain(&mut self, fd: BorrowedFd<'_>) -> io::Result<Drained> {
        let mut drained = Drained::Nothing;
        for _ in 0..SENDS {
            if self.in_memory() == 0 {
                self.memory.clear();
                self.start = 0;
                if !self.refill()? {
                    return Ok(drained);
                }
            }
            let n = net::send(fd, &self.memory[self.start..])?;
            if n == 0 {
                return Ok(drained);
            }
            self.start += n;
            drained = Drained::Some;
        }
        Ok(if self.is_empty() { drained } else { Drained::MayGoOn })
    }

    fn refill(&mut self) -> io::Result<bool> {
        let Some(spool) = &mut self.spool else { return Ok(false) };
        let n = (spool.written - spool.read).min(REFILL);
        self.memory.resize(usize::try_from(n).unwrap_or(0), 0);
        spool.file.read_exact_at(&mut self.memory, spool.read)?;
        spool.read += n;
        if spool.read == spool.written {
            self.spool = None;
        }
        Ok(n > 0)
    }
}

fn append(spool: &mut Spool, bytes: &[u8]) -> io::Result<()> {
    spool.file.write_all_at(bytes, spool.written)?;
    spool.written += bytes.len() as u64;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read as _;
    use std::os::fd::AsFd as _;
    use std::os::unix::net::UnixStream;

    #[test]
    fn bytes_leave_in_order_through_memory_and_spool() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let mut output = Output::default();
        let pattern: Vec<u8> = (0u8..=250).cycle().take(700_000).collect();
        output.push(&pattern[..1000]).unwrap();
        output.push_spooled(&pattern[1000..600_000], &std::env::temp_dir()).unwrap();
        output.push(&pattern[600_000..]).unwrap();
        assert_eq!(output.in_memory(), 1000);
        let mut got = Vec::new();
        let mut piece = vec![0; 65536];
        while got.len() < pattern.len() {
            output.drain(ours.as_fd()).unwrap();
            let n = theirs.read(&mut piece).unwrap();
            got.extend_from_slice(&piece[..n]);
        }
        assert!(output.is_empty());
        assert!(got == pattern);
    }
}
