//! A request's body on its way into a script.

use std::fs::File;
use std::io;
use std::os::fd::BorrowedFd;
use std::os::unix::fs::FileExt as _;

use greenloom_sys::process;

use crate::body::Body;
use crate::incoming::{BodyFailure, Incoming};

/// Bytes of a body that are held for a script at a time.
const PIECE: usize = 64 * 1024;

/// The body on its way in.
#[derive(Debug)]
pub(super) enum Input {
    None,
    /// Bytes, and how many of them have gone in.
    Memory(Vec<u8>, usize),
    File {
        file: File,
        at: u64,
        len: u64,
    },
    /// As the client sends it; a piece that the pipe would not take waits beside it.
    Coming {
        incoming: Box<Incoming>,
        piece: Vec<u8>,
        at: usize,
    },
}

/// What feeding a script came to.
pub(super) enum Fed {
    /// There is nothing more to feed.
    Over,
    /// The script has to read first.
    Script,
    /// The client has to send first.
    Client,
    /// The body will never be complete.
    Failed(BodyFailure),
}

impl Input {
    /// A body that is complete.
    pub(super) fn whole(body: Body) -> Self {
        match body {
            Body::Empty => Self::None,
            Body::Memory(bytes) => Self::Memory(bytes, 0),
            Body::File { file, len } => Self::File { file, at: 0, len },
        }
    }

    /// A body that is still coming.
    pub(super) fn coming(incoming: Box<Incoming>) -> Self {
        Self::Coming { incoming, piece: Vec::new(), at: 0 }
    }

    /// The body that is still coming.
    pub(super) fn incoming(&self) -> Option<&Incoming> {
        if let Self::Coming { incoming, .. } = self { Some(incoming) } else { None }
    }

    /// The same, to be changed.
    pub(super) fn incoming_mut(&mut self) -> Option<&mut Incoming> {
        if let Self::Coming { incoming, .. } = self { Some(incoming) } else { None }
    }

    /// Writes some of the body to a script; `None`: something has gone in.
    pub(super) fn feed(&mut self, fd: BorrowedFd<'_>) -> io::Result<Option<Fed>> {
        match self {
            Self::None => return Ok(Some(Fed::Over)),
            Self::Memory(bytes, at) if *at == bytes.len() => return Ok(Some(Fed::Over)),
            Self::Memory(bytes, at) => *at += process::write_pipe(fd, &bytes[*at..])?,
            Self::File { at, len, .. } if at == len => return Ok(Some(Fed::Over)),
            Self::File { file, at, len } => {
                let mut piece = vec![0; PIECE.min(usize::try_from(*len - *at).unwrap_or(PIECE))];
                file.read_exact_at(&mut piece, *at)?;
                *at += process::write_pipe(fd, &piece)? as u64;
            }
            Self::Coming { incoming, piece, at } => {
                if *at == piece.len() {
                    piece.resize(PIECE, 0);
                    let n = incoming.take(piece);
                    piece.truncate(n);
                    *at = 0;
                    if n == 0 {
                        return Ok(Some(match incoming.failure() {
                            Some(failure) => Fed::Failed(failure),
                            None if incoming.is_received() => Fed::Over,
                            None => Fed::Client,
                        }));
                    }
                }
                *at += process::write_pipe(fd, &piece[*at..])?;
            }
        }
        Ok(None)
    }
}
