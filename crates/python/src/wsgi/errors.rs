//! `wsgi.errors`: the text stream applications write their own messages to.
//!
//! Owns the making of one stream per worker over descriptor 2, where the server's log goes. It is not
//! `sys.stderr`: an application that replaces or closes that one must not lose its neighbours' messages.

use pyo3::prelude::*;
use pyo3::types::{IntoPyDict, PyAny};

/// A new text stream: UTF-8, never failing on what cannot be encoded, written out at each line's end.
pub(crate) fn errors_stream(py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
    let options = [
        ("mode", "w".into_pyobject(py)?.into_any()),
        ("buffering", 1_i32.into_pyobject(py)?.into_any()),
        ("encoding", "utf-8".into_pyobject(py)?.into_any()),
        ("errors", "backslashreplace".into_pyobject(py)?.into_any()),
        ("closefd", false.into_pyobject(py)?.to_owned().into_any()),
    ]
    .into_py_dict(py)?;
    py.import("io")?.call_method("open", (2,), Some(&options))
}
