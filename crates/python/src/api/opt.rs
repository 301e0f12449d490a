//! `uwsgi.opt`: the options in effect as applications see them.
//!
//! Owns the translation into uWSGI's shape: keys are `str`, values `bytes`, `True` for an option without a
//! value. A repeated option gives a list (uWSGI on Python 3 keeps only the last value there).

use pyo3::prelude::*;
use pyo3::types::{PyBool, PyBytes, PyDict, PyList};

/// A new dict of `options`, which are (name, value) in the order given.
pub(super) fn to_dict<'py>(
    py: Python<'py>,
    options: &[(String, Option<Vec<u8>>)],
) -> PyResult<Bound<'py, PyDict>> {
    let dict = PyDict::new(py);
    for (name, value) in options {
        let value = match value {
            Some(bytes) => PyBytes::new(py, bytes).into_any(),
            None => PyBool::new(py, true).to_owned().into_any(),
        };
        match dict.get_item(name)? {
            None => dict.set_item(name, value)?,
            // A flag given twice is still a flag.
            Some(first) if first.is(&value) => {}
            Some(first) => match first.cast_into::<PyList>() {
                Ok(list) => list.append(value)?,
                Err(first) => dict.set_item(name, PyList::new(py, [first.into_inner(), value])?)?,
            },
        }
    }
    Ok(dict)
}
