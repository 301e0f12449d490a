//! Raising a uwsgi signal of another instance: a uwsgi packet without variables, and its answer of the same shape.
//!
//! ```text
//! 6E 00 00 NN     modifier1 110, no bytes, the signal
//! FF 00 00 RR     1: raised, 0: refused
//! ```

use greenloom_worker::Interest;
use pyo3::exceptions::{PyOSError, PyValueError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use super::info::require_server;
use super::{Text, sockets, waits};

/// The packet that raises a signal.
const RAISE: u8 = 110;
/// The answer's first byte, and its last when the signal was raised.
const ANSWER: u8 = 255;
const RAISED: u8 = 1;

/// Raises it and waits for the answer: a request with a suspend engine is suspended, anybody else blocks.
pub(super) fn raise(py: Python<'_>, number: u8, node: Text) -> PyResult<()> {
    let name = node.to_lossy();
    let failed = || PyOSError::new_err(format!("unable to deliver signal {number} to node {name}"));
    let timeout_s = require_server("signal")?.socket_timeout_s;
    let fd = sockets::connect_waiting(py, node, timeout_s)?;
    if fd < 0 {
        return Err(failed());
    }
    let answer = exchange(py, fd, number, timeout_s);
    sockets::close_quietly(py, fd);
    match answer?.as_deref() {
        Some([ANSWER, 0, 0, RAISED]) => Ok(()),
        Some([ANSWER, 0, 0, _]) => {
            Err(PyValueError::new_err(format!("node {name} rejected signal {number}")))
        }
        _ => Err(failed()),
    }
}

/// The answer of four bytes, as far as it came.
fn exchange(py: Python<'_>, fd: i32, number: u8, timeout_s: f64) -> PyResult<Option<Vec<u8>>> {
    if !sockets::write_all(py, fd, &PyBytes::new(py, &[RAISE, 0, 0, number]))? {
        return Ok(None);
    }
    let posix = py.import("posix")?;
    let mut answer = Vec::new();
    while answer.len() < 4 {
        if !waits::wait_here(py, "signal", fd, Interest::Read, timeout_s)? {
            return Ok(None);
        }
        let bytes: Vec<u8> = match posix.call_method1(intern!(py, "read"), (fd, 4 - answer.len())) {
            Ok(bytes) => bytes.extract()?,
            Err(error) if error.is_instance_of::<PyOSError>(py) => return Ok(None),
            Err(error) => return Err(error),
        };
        if bytes.is_empty() {
            return Ok(None);
        }
        answer.extend(bytes);
    }
    Ok(Some(answer))
}
