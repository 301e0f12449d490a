//! `start_response` and `write`, as PEP 3333 has them and as lenient as uWSGI's where applications rely on it.
//!
//! What the application gives is checked and copied at once: nothing that it changes or frees later matters.

use greenloom_worker::CoreId;
use greenloom_worker::proto::http1::response::ResponseError;
use pyo3::exceptions::{PyAssertionError, PyOSError, PyRuntimeError, PyTypeError, PyValueError};
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList, PyString, PyTuple};

use crate::driver::server::{self, Server};
use crate::wsgi::gateway::write_now;

/// Status and fields of a response before its head leaves.
#[derive(Default)]
pub(crate) struct Head {
    /// Whether `start_response` was called.
    pub(crate) given: bool,
    status: Vec<u8>,
    bytes: Vec<u8>,
    /// End of each name and each value in `bytes`, in turn.
    ends: Vec<u32>,
}

impl Head {
    /// Forgets everything but the capacity.
    pub(crate) fn clear(&mut self) {
        self.given = false;
        self.status.clear();
        self.bytes.clear();
        self.ends.clear();
    }

    /// Begins one with this status.
    pub(crate) fn begin(&mut self, status: &[u8]) {
        self.given = true;
        self.status.extend_from_slice(status);
    }

    /// Whether there is a field of that name, in any case.
    pub(crate) fn has(&self, name: &[u8]) -> bool {
        self.fields().any(|(other, _)| other.eq_ignore_ascii_case(name))
    }

    /// Adds a field, if it is one.
    pub(crate) fn push_checked(&mut self, name: &[u8], value: &[u8]) -> PyResult<()> {
        if name.is_empty() || !name.iter().all(|&byte| byte > b' ' && byte < 0x7f && byte != b':') {
            return Err(PyValueError::new_err(format!(
                "http header key {:?} is no field name",
                String::from_utf8_lossy(name)
            )));
        }
        if value.iter().any(|&byte| (byte < b' ' && byte != b'\t') || byte == 0x7f) {
            return Err(PyValueError::new_err(format!(
                "the value of the http header {} holds a control character (a line end would start another header)",
                String::from_utf8_lossy(name)
            )));
        }
        self.push(name);
        self.push(value);
        Ok(())
    }

    fn push(&mut self, text: &[u8]) {
        self.bytes.extend_from_slice(text);
        self.ends.push(u32::try_from(self.bytes.len()).unwrap_or(u32::MAX));
    }

    fn fields(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        let mut start = 0;
        self.ends.as_chunks::<2>().0.iter().map(move |&[name_end, value_end]| {
            let (name_end, value_end) = (name_end as usize, value_end as usize);
            let pair = (&self.bytes[start..name_end], &self.bytes[name_end..value_end]);
            start = value_end;
            pair
        })
    }
}

/// Writes the head of a core's response, from what `start_response` was given.
pub(crate) fn send_head(server: &Server, core: CoreId) -> Result<(), ResponseError> {
    let slot = server.slot(core);
    let head = slot.head.borrow();
    server.worker.borrow_mut().respond(core, &head.status, slot.known_length.get(), |writer| {
        head.fields().try_for_each(|(name, value)| writer.field(name, value))
    })
}

/// `start_response`. One object serves the requests of a core one after the other, unless an application keeps it.
#[pyclass(frozen, module = "greenloom._greenloom", name = "start_response")]
pub(crate) struct Responder {
    core: CoreId,
    generation: std::sync::atomic::AtomicU64,
    write: Py<Write>,
}

impl Responder {
    pub(crate) fn new(py: Python<'_>, core: CoreId, generation: u64) -> PyResult<Py<Self>> {
        let write = Py::new(py, Write { core, generation: generation.into() })?;
        Py::new(py, Self { core, generation: generation.into(), write })
    }

    /// Makes the object serve another request, if nobody else holds it or its `write`.
    pub(crate) fn reuse(this: &Py<Self>, py: Python<'_>, generation: u64) -> bool {
        let responder = this.bind(py).get();
        if references(this.as_ptr()) != 1 || references(responder.write.as_ptr()) != 1 {
            return false;
        }
        responder.generation.store(generation, std::sync::atomic::Ordering::Relaxed);
        responder.write.get().generation.store(generation, std::sync::atomic::Ordering::Relaxed);
        true
    }
}

#[pymethods]
impl Responder {
    #[pyo3(signature = (status, headers, exc_info=None, /))]
    fn __call__<'py>(
        &self,
        py: Python<'py>,
        status: &Bound<'py, PyAny>,
        headers: &Bound<'py, PyAny>,
        exc_info: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Py<Write>> {
        let server = owner("start_response", self.core, &self.generation)?;
        let exc_info = exc_info.filter(|info| !info.is_none());
        if server.worker.borrow().response_begun(self.core) {
            if let Some(info) = exc_info {
                return Err(raised(info)?);
            }
            return Err(PyOSError::new_err("headers already sent"));
        }
        if exc_info.is_none() && server.slot(self.core).head.borrow().given {
            return Err(PyAssertionError::new_err(
                "start_response() was called a second time without exc_info (PEP 3333 allows that only with it)",
            ));
        }
        // A refused call leaves no half of a response behind.
        let slot = server.slot(self.core);
        slot.head.borrow_mut().clear();
        if let Err(error) = fill(server, self.core, status, headers) {
            slot.head.borrow_mut().clear();
            return Err(error);
        }
        Ok(self.write.clone_ref(py))
    }
}

/// How often an object is referred to.
pub(crate) fn references(object: *mut ffi::PyObject) -> ffi::Py_ssize_t {
    // SAFETY: attached, and the callers hold a reference to the object.
    unsafe { ffi::Py_REFCNT(object) }
}

/// The exception of an `exc_info` tuple (PEP 3333: raised again when the headers have left).
fn raised(info: &Bound<'_, PyAny>) -> PyResult<PyErr> {
    let info = info.cast::<PyTuple>()?;
    let value = info.get_item(1)?;
    let error = PyErr::from_value(value);
    Ok(error)
}

fn fill(
    server: &Server,
    core: CoreId,
    status: &Bound<'_, PyAny>,
    headers: &Bound<'_, PyAny>,
) -> PyResult<()> {
    let Ok(status) = status.cast::<PyString>() else {
        return Err(PyTypeError::new_err("http status must be a string"));
    };
    let Some(text) = latin1_bytes(status) else {
        return Err(PyTypeError::new_err("http status string must be encodable in latin1"));
    };
    if !is_status(text) {
        return Err(PyValueError::new_err(format!(
            "http status must be three digits and a reason, like '200 OK', not {status:?}"
        )));
    }
    let Ok(headers) = headers.cast_exact::<PyList>() else {
        return Err(PyTypeError::new_err("http headers must be in a python list"));
    };
    // No Python code runs in this loop, so the list cannot change and the slot may stay borrowed.
    let mut head = server.slot(core).head.borrow_mut();
    head.begin(text);
    for index in 0..headers.len() {
        let header = headers.get_item(index)?;
        let Ok(pair) = header.cast_exact::<PyTuple>() else {
            return Err(PyTypeError::new_err("http header must be defined in a tuple"));
        };
        if pair.len() != 2 {
            return Err(PyTypeError::new_err("http header must be a 2-item tuple"));
        }
        let name = pair.get_borrowed_item(0)?;
        let value = pair.get_borrowed_item(1)?;
        let Ok(name) = name.cast::<PyString>() else {
            return Err(PyTypeError::new_err("http header key must be a string"));
        };
        let Ok(value) = value.cast::<PyString>() else {
            return Err(PyTypeError::new_err("http header value must be a string"));
        };
        let (Some(name), Some(value)) = (latin1_bytes(&name), latin1_bytes(&value)) else {
            return Err(PyTypeError::new_err("http header must be encodable in latin1"));
        };
        head.push_checked(name, value)?;
    }
    Ok(())
}

fn is_status(text: &[u8]) -> bool {
    let (digits, rest) = text.split_at(text.len().min(3));
    digits.len() == 3
        && digits[0] != b'0'
        && digits.iter().all(u8::is_ascii_digit)
        && rest.first().is_none_or(|&byte| byte == b' ')
        && !rest.iter().any(|&byte| byte < b' ' || byte == 0x7f)
}

/// The characters of a string that has one byte for each; lives as long as the string.
fn latin1_bytes<'a>(text: &'a Bound<'_, PyString>) -> Option<&'a [u8]> {
    let object = text.as_ptr();
    // SAFETY: `object` is a `str`, and from 3.12 on every `str` is ready; before, PEP 393 strings made by Python are.
    if unsafe { ffi::PyUnicode_KIND(object) } != ffi::PyUnicode_1BYTE_KIND {
        return None;
    }
    // SAFETY: as above; the kind says one byte per character.
    let data = unsafe { ffi::PyUnicode_1BYTE_DATA(object) };
    // SAFETY: as above.
    let length = unsafe { ffi::PyUnicode_GET_LENGTH(object) };
    // SAFETY: a `str` never changes and is kept alive by `text`.
    Some(unsafe { std::slice::from_raw_parts(data, usize::try_from(length).unwrap_or(0)) })
}

/// The `write` callable.
#[pyclass(frozen, module = "greenloom._greenloom", name = "write")]
pub(crate) struct Write {
    core: CoreId,
    generation: std::sync::atomic::AtomicU64,
}

#[pymethods]
impl Write {
    #[pyo3(signature = (data, /))]
    fn __call__(&self, py: Python<'_>, data: &Bound<'_, PyAny>) -> PyResult<()> {
        let server = owner("write", self.core, &self.generation)?;
        let Ok(data) = data.cast::<PyBytes>() else {
            return Err(PyTypeError::new_err(format!(
                "write() takes bytes, not {}; encode text first",
                data.get_type().name()?
            )));
        };
        write_now(py, server, self.core, data.as_bytes())
    }
}

/// The server, if the caller's request is still the one of that generation.
fn owner(what: &str, core: CoreId, generation: &std::sync::atomic::AtomicU64) -> PyResult<&'static Server> {
    let Some(server) = server::of_this_thread() else {
        return Err(PyRuntimeError::new_err(format!(
            "{what}() was called from a thread of the application; only the request's own code may call it"
        )));
    };
    if server.slot(core).generation.get() != generation.load(std::sync::atomic::Ordering::Relaxed) {
        return Err(PyRuntimeError::new_err(format!("{what}() of a request that has ended")));
    }
    Ok(server)
}
