//! `wsgi.file_wrapper` (PEP 3333, "Optional Platform-Specific File Handling").
//!
//! Owns the wrapper class, its iteration and the question whether a real file stands behind what is wrapped, and where it
//! is read: such a file the server sends itself.

use std::fs::File;
use std::mem::ManuallyDrop;
use std::os::fd::{FromRawFd, RawFd};
use std::os::unix::fs::FileExt as _;

use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::intern;
use pyo3::prelude::*;

/// What `environ["wsgi.file_wrapper"](filelike, block_size=32768)` returns.
#[pyclass(frozen, module = "greenloom._greenloom", name = "FileWrapper")]
#[derive(Debug)]
pub(crate) struct FileWrapper {
    filelike: Py<PyAny>,
    block_size: isize,
}

impl FileWrapper {
    /// The bytes that `filelike.read()` would still return, when a regular file stands behind it.
    ///
    /// Only objects known to be thin over a descriptor qualify: `io.FileIO`, `open(path, "rb")` in both
    /// buffered forms, and `tempfile.NamedTemporaryFile` around them. A `fileno()` alone proves nothing:
    /// `gzip.GzipFile` has one, and its descriptor holds other bytes than its `read()` returns. Anything
    /// else, and any error while asking, gives `None`: the wrapper is then simply iterated.
    pub(crate) fn rest(&self, py: Python<'_>) -> Option<Rest> {
        rest_of(self.filelike.bind(py)).ok().flatten()
    }
}

/// A part of a file, with a descriptor of its own: whatever becomes of the application's.
#[derive(Debug)]
pub(crate) struct Rest {
    pub(crate) file: File,
    pub(crate) offset: u64,
    pub(crate) len: u64,
}

#[pymethods]
impl FileWrapper {
    #[new]
    #[pyo3(signature = (filelike, block_size=32768, /))]
    fn new(filelike: Bound<'_, PyAny>, block_size: isize) -> PyResult<Self> {
        // An object that cannot be read is the application's mistake: say so where the mistake is.
        filelike.getattr(intern!(filelike.py(), "read"))?;
        Ok(Self { filelike: filelike.unbind(), block_size })
    }

    fn __iter__(slf: Bound<'_, Self>) -> Bound<'_, Self> {
        slf
    }

    fn __next__<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        let filelike = self.filelike.bind(py);
        let block = if self.block_size > 0 {
            filelike.call_method1(intern!(py, "read"), (self.block_size,))?
        } else {
            filelike.call_method0(intern!(py, "read"))?
        };
        Ok(if block.is_truthy()? { Some(block) } else { None })
    }

    /// Calls the wrapped object's `close()`, if it has one.
    fn close(&self, py: Python<'_>) -> PyResult<()> {
        if let Some(close) = self.filelike.bind(py).getattr_opt(intern!(py, "close"))? {
            close.call0()?;
        }
        Ok(())
    }

    /// The name `wsgiref` gives it.
    #[getter(filelike)]
    fn python_filelike(&self, py: Python<'_>) -> Py<PyAny> {
        self.filelike.clone_ref(py)
    }

    /// The name `wsgiref` gives it.
    #[getter]
    fn blksize(&self) -> isize {
        self.block_size
    }

    // No `__clear__`: the reference never changes, and a cycle through it is broken at its other end.
    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.filelike)
    }
}

fn rest_of(filelike: &Bound<'_, PyAny>) -> PyResult<Option<Rest>> {
    let py = filelike.py();
    let io = py.import(intern!(py, "io"))?;
    let temporary = py.import(intern!(py, "tempfile"))?.getattr(intern!(py, "_TemporaryFileWrapper"))?;
    let file = if filelike.get_type().is(&temporary) {
        filelike.getattr(intern!(py, "file"))?
    } else {
        filelike.clone()
    };
    let kind = file.get_type();
    let file_io = io.getattr(intern!(py, "FileIO"))?;
    let writes = kind.is(&io.getattr(intern!(py, "BufferedRandom"))?);
    let buffered = writes || kind.is(&io.getattr(intern!(py, "BufferedReader"))?);
    let raw = if buffered { file.getattr(intern!(py, "raw"))? } else { file.clone() };
    if !raw.get_type().is(&file_io) {
        return Ok(None);
    }
    if writes {
        file.call_method0(intern!(py, "flush"))?;
    }
    let fd: RawFd = file.call_method0(intern!(py, "fileno"))?.extract()?;
    let offset: u64 = file.call_method0(intern!(py, "tell"))?.extract()?;
    Ok(regular(fd).map(|(file, size)| Rest { file, offset, len: size.saturating_sub(offset) }))
}

/// The regular file behind `fd`, and its size in bytes; `None` for pipes, sockets, devices and directories.
fn regular(fd: RawFd) -> Option<(File, u64)> {
    if fd < 0 {
        return None;
    }
    // SAFETY: `fd` is not negative and belongs to a Python file object the caller holds, which answered
    // `fileno()` just now and would have raised if closed; `ManuallyDrop` leaves closing it to that object.
    let file = ManuallyDrop::new(unsafe { File::from_raw_fd(fd) });
    let metadata = file.metadata().ok()?;
    // Files of /proc and /sys have bytes and no size: they are read.
    let has_size = metadata.len() > 0 || file.read_at(&mut [0], 0).is_ok_and(|n| n == 0);
    if metadata.is_file() && has_size { Some((file.try_clone().ok()?, metadata.len())) } else { None }
}
