//! The environ of a request: a copy of a template that already holds what never changes, and what the request brings.
//!
//! Keys are interned strings; the keys of header fields are remembered by the field's name as it was sent, together
//! with the last value, for browsers and proxies send the same fields again and again.

use std::cell::{Cell, RefCell};
use std::net::IpAddr;

use greenloom_worker::config::{Protocol, Settings};
use greenloom_worker::proto::http1::head::{Field, variable_name};
use greenloom_worker::{CoreId, Peer, Request, Source};
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyString};

use crate::api;
use crate::driver::server::Listener;
use crate::wsgi::errors::errors_stream;
use crate::wsgi::file_wrapper::FileWrapper;
use crate::wsgi::input::Input;

/// Places in the table of field names; a power of two. A name that meets another one in its place replaces it.
pub(crate) const REMEMBERED: usize = 256;
/// Values longer than this are not kept.
const KEPT_VALUE: usize = 256;

macro_rules! keys {
    ($($name:ident = $text:literal),+ $(,)?) => {
        /// Keys that every environ has, interned once.
        struct Keys { $($name: Py<PyString>),+ }

        impl Keys {
            fn new(py: Python<'_>) -> Self {
                Self { $($name: PyString::intern(py, $text).unbind()),+ }
            }
        }
    };
}

keys! {
    method = "REQUEST_METHOD",
    uri = "REQUEST_URI",
    path = "PATH_INFO",
    query = "QUERY_STRING",
    protocol = "SERVER_PROTOCOL",
    script = "SCRIPT_NAME",
    address = "REMOTE_ADDR",
    port = "REMOTE_PORT",
    content_length = "CONTENT_LENGTH",
    input = "wsgi.input",
    scheme = "wsgi.url_scheme",
    core = "uwsgi.core",
    ready_fd = "uwsgi.ready_fd",
    timeout = "x-wsgiorg.fdevent.timeout",
}

impl Keys {
    fn of_every_http_request(&self) -> [&Py<PyString>; 7] {
        [&self.method, &self.uri, &self.path, &self.protocol, &self.address, &self.port, &self.input]
    }
}

/// Strings that most requests need.
struct Common {
    empty: Py<PyString>,
    slash: Py<PyString>,
    get: Py<PyString>,
    post: Py<PyString>,
    head: Py<PyString>,
    http10: Py<PyString>,
    http11: Py<PyString>,
    https: Py<PyString>,
}

/// A field name that was seen, its key, and its last value.
struct Remembered {
    name: Vec<u8>,
    key: Py<PyString>,
    value: Vec<u8>,
    text: Option<Py<PyString>>,
}

/// Makes environs. One per worker.
pub(crate) struct EnvironBuilder {
    keys: Keys,
    common: Common,
    /// One for each listener.
    templates: Vec<Py<PyDict>>,
    cores: Vec<Py<PyAny>>,
    fields: Vec<Cell<Option<Box<Remembered>>>>,
    /// The last client's address and its text.
    address: RefCell<Option<(IpAddr, Py<PyString>)>>,
}

impl EnvironBuilder {
    pub(crate) fn new(py: Python<'_>, settings: &Settings, listeners: &[Listener]) -> PyResult<Self> {
        let intern = |text: &str| PyString::intern(py, text).unbind();
        let errors = errors_stream(py)?;
        let mut templates = Vec::new();
        let keys = Keys::new(py);
        for (index, Listener { port, .. }) in listeners.iter().enumerate() {
            let template = PyDict::new(py);
            template.set_item("wsgi.version", (1, 0))?;
            template.set_item("wsgi.url_scheme", "http")?;
            template.set_item("wsgi.errors", &errors)?;
            template.set_item("wsgi.multithread", false)?;
            template.set_item("wsgi.multiprocess", settings.processes > 1)?;
            template.set_item("wsgi.run_once", false)?;
            template.set_item("wsgi.input_terminated", true)?;
            template.set_item("wsgi.file_wrapper", py.get_type::<FileWrapper>())?;
            template.set_item("uwsgi.version", PyBytes::new(py, api::info::VERSION.as_bytes()))?;
            template.set_item("uwsgi.node", PyBytes::new(py, &api::info::hostname()))?;
            template.set_item("SERVER_NAME", String::from_utf8_lossy(&api::info::hostname()))?;
            template.set_item("SERVER_PORT", if port.is_empty() { "80" } else { port })?;
            template.set_item("SCRIPT_NAME", "")?;
            template.set_item("QUERY_STRING", "")?;
            if settings.async_mode {
                for (name, function) in api::waits::fdevent(py)? {
                    template.set_item(name, function)?;
                }
                template.set_item("x-wsgiorg.fdevent.timeout", py.None())?;
            }
            if !port.is_empty() && settings.listeners.get(index).is_some_and(|l| l.protocol == Protocol::Http)
            {
                // Keys that every such request sets: with them in the template its copy has room for the rest.
                for key in keys.of_every_http_request() {
                    template.set_item(key, "")?;
                }
            }
            templates.push(template.unbind());
        }
        let cores = if settings.cores > 1 { settings.cores } else { 0 };
        Ok(Self {
            keys,
            common: Common {
                empty: intern(""),
                slash: intern("/"),
                get: intern("GET"),
                post: intern("POST"),
                head: intern("HEAD"),
                http10: intern("HTTP/1.0"),
                http11: intern("HTTP/1.1"),
                https: intern("https"),
            },
            templates,
            cores: (0..cores)
                .map(|core| Ok(core.into_pyobject(py)?.into_any().unbind()))
                .collect::<PyResult<_>>()?,
            fields: (0..REMEMBERED).map(|_| Cell::new(None)).collect(),
            address: RefCell::new(None),
        })
    }

    /// The environ of `request`, which runs in `core`; without `SCRIPT_NAME` and `PATH_INFO` split for a mount.
    pub(crate) fn build<'py>(
        &self,
        py: Python<'py>,
        request: &Request,
        core: CoreId,
        input: &Bound<'py, Input>,
    ) -> PyResult<Bound<'py, PyDict>> {
        let template = self.templates.get(request.listener).or_else(|| self.templates.first());
        let environ = match template {
            Some(template) => template.bind(py).copy()?,
            None => PyDict::new(py),
        };
        match request.source {
            Source::Http => self.http(py, request, &environ)?,
            Source::Uwsgi => self.uwsgi(py, request, &environ)?,
        }
        environ.set_item(&self.keys.input, input)?;
        if let Some(core) = self.cores.get(core.0 as usize) {
            environ.set_item(&self.keys.core, core)?;
        }
        Ok(environ)
    }

    fn http(&self, py: Python<'_>, request: &Request, environ: &Bound<'_, PyDict>) -> PyResult<()> {
        let keys = &self.keys;
        let head = &request.head;
        match request.method() {
            b"GET" => environ.set_item(&keys.method, &self.common.get)?,
            b"POST" => environ.set_item(&keys.method, &self.common.post)?,
            b"HEAD" => environ.set_item(&keys.method, &self.common.head)?,
            other => environ.set_item(&keys.method, latin1(py, other))?,
        }
        let path = match request.path() {
            b"/" => self.common.slash.bind(py).clone(),
            path => latin1(py, path),
        };
        if head.target == head.path && head.path_is_plain {
            environ.set_item(&keys.uri, &path)?;
        } else {
            environ.set_item(&keys.uri, latin1(py, request.uri()))?;
            environ.set_item(&keys.query, latin1(py, request.query()))?;
        }
        environ.set_item(&keys.path, path)?;
        let is_11 = request.protocol() == b"HTTP/1.1";
        environ.set_item(&keys.protocol, if is_11 { &self.common.http11 } else { &self.common.http10 })?;
        match request.peer {
            Peer::Ip(address, port) => {
                environ.set_item(&keys.address, self.address_text(py, address))?;
                let mut digits = [0; 5];
                environ.set_item(&keys.port, latin1(py, decimal(port, &mut digits)))?;
            }
            Peer::Unix => environ.set_item(&keys.address, &self.common.empty)?,
        }
        for field in &head.fields {
            self.field(py, request, field, environ, head.repeats)?;
        }
        if let (Some(length), true) =
            (request.content_length, head.framing == greenloom_worker::proto::http1::head::Framing::Chunked)
        {
            // The body is complete: a decoded length serves applications that look for one.
            environ.set_item(&keys.content_length, length.to_string())?;
        }
        Ok(())
    }

    fn address_text<'py>(&self, py: Python<'py>, address: IpAddr) -> Bound<'py, PyString> {
        if let Some((last, text)) = self.address.borrow().as_ref()
            && *last == address
        {
            return text.bind(py).clone();
        }
        let text = PyString::new(py, &address.to_string());
        let old = self.address.replace(Some((address, text.clone().unbind())));
        drop(old);
        text
    }

    fn field(
        &self,
        py: Python<'_>,
        request: &Request,
        field: &Field,
        environ: &Bound<'_, PyDict>,
        repeats: bool,
    ) -> PyResult<()> {
        let (name, value) = (request.text(field.name), request.text(field.value));
        let place = &self.fields[place(name)];
        let mut remembered = match place.take() {
            Some(remembered) if remembered.name == name => remembered,
            _ => {
                let mut variable = Vec::with_capacity(name.len() + 5);
                variable_name(name, &mut variable);
                let key = PyString::intern(py, &latin1(py, &variable).to_string()).unbind();
                Box::new(Remembered { name: name.to_vec(), key, value: Vec::new(), text: None })
            }
        };
        let text = match &remembered.text {
            Some(text) if remembered.value == value => text.bind(py).clone(),
            _ => {
                let text = latin1(py, value);
                if value.len() <= KEPT_VALUE {
                    remembered.value.clear();
                    remembered.value.extend_from_slice(value);
                    remembered.text = Some(text.clone().unbind());
                }
                text
            }
        };
        let key = remembered.key.bind(py).clone();
        place.set(Some(remembered));
        if repeats && let Some(before) = environ.get_item(&key)? {
            // RFC 9110 §5.3; cookies are joined by their own rule (RFC 6265 §5.4).
            let separator = if key == "HTTP_COOKIE" { "; " } else { ", " };
            return environ.set_item(&key, format!("{before}{separator}{text}"));
        }
        environ.set_item(key, text)
    }

    fn uwsgi(&self, py: Python<'_>, request: &Request, environ: &Bound<'_, PyDict>) -> PyResult<()> {
        let (mut https, mut scheme) = (false, None);
        for (key, value) in &request.vars {
            let (key, value) = (request.text(*key), request.text(*value));
            // Variables that make uWSGI load code or move about are ignored; empty CONTENT_* mean absent ones; a
            // `Proxy` field of the client would become HTTP_PROXY, which libraries take for their own.
            if key == b"UWSGI_SCHEME" {
                scheme = Some(value);
            }
            if key.starts_with(b"UWSGI_") || key == b"HTTP_PROXY" {
                continue;
            }
            if value.is_empty() && (key == b"CONTENT_TYPE" || key == b"CONTENT_LENGTH") {
                continue;
            }
            if key == b"HTTPS" {
                https = value.eq_ignore_ascii_case(b"on") || value == b"1";
            }
            environ.set_item(self.variable(py, key), latin1(py, value))?;
        }
        // What a front end says in so many words counts before that.
        if scheme == Some(b"https") || (https && scheme != Some(b"http")) {
            environ.set_item(&self.keys.scheme, &self.common.https)?;
        }
        Ok(())
    }

    /// The interned key of a uwsgi variable.
    fn variable<'py>(&self, py: Python<'py>, name: &[u8]) -> Bound<'py, PyString> {
        let place = &self.fields[place(name)];
        let taken = place.take();
        if let Some(remembered) =
            taken.filter(|remembered| remembered.name == name && remembered.value.is_empty())
        {
            let key = remembered.key.bind(py).clone();
            place.set(Some(remembered));
            return key;
        }
        let key = PyString::intern(py, &latin1(py, name).to_string());
        place.set(Some(Box::new(Remembered {
            name: name.to_vec(),
            key: key.clone().unbind(),
            value: Vec::new(),
            text: None,
        })));
        key
    }

    /// Splits the path at a mount point of `prefix` bytes.
    pub(crate) fn mount(
        &self,
        py: Python<'_>,
        environ: &Bound<'_, PyDict>,
        path: &[u8],
        prefix: usize,
    ) -> PyResult<()> {
        environ.set_item(&self.keys.script, latin1(py, &path[..prefix]))?;
        environ.set_item(&self.keys.path, latin1(py, &path[prefix..]))
    }

    /// Says in the environ how the last wait ended.
    pub(crate) fn mark_wait(
        &self,
        py: Python<'_>,
        environ: &Bound<'_, PyDict>,
        ready_fd: Option<i32>,
        timed_out: bool,
    ) -> PyResult<()> {
        environ.set_item(&self.keys.timeout, timed_out.then_some(true))?;
        environ.set_item(&self.keys.ready_fd, ready_fd.into_pyobject(py)?)
    }
}

/// Bytes of a client as WSGI wants them: one character for each (PEP 3333, "Unicode Issues").
pub(crate) fn latin1<'py>(py: Python<'py>, bytes: &[u8]) -> Bound<'py, PyString> {
    let length = ffi::Py_ssize_t::try_from(bytes.len()).unwrap_or(0);
    // SAFETY: attached; pointer and length are of one slice; Latin-1 has no invalid bytes.
    let object = unsafe { ffi::PyUnicode_DecodeLatin1(bytes.as_ptr().cast(), length, std::ptr::null()) };
    // SAFETY: a new reference to a `str`, or null when memory is exhausted, which panics.
    let text = unsafe { Bound::from_owned_ptr(py, object) };
    // SAFETY: PyUnicode_DecodeLatin1 makes nothing but `str`.
    unsafe { text.cast_into_unchecked() }
}

/// The place of a field name among [`REMEMBERED`].
pub(crate) fn place(name: &[u8]) -> usize {
    let (first, last) = (name.first().copied().unwrap_or(0), name.last().copied().unwrap_or(0));
    let middle = name.get(name.len() / 2).copied().unwrap_or(0);
    let mixed = usize::from(first) ^ usize::from(middle) << 2 ^ usize::from(last) << 4 ^ name.len() << 3;
    (mixed ^ mixed >> 8) % REMEMBERED
}

fn decimal(mut number: u16, digits: &mut [u8; 5]) -> &[u8] {
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + u8::try_from(number % 10).unwrap_or(0);
        number /= 10;
        if number == 0 {
            return &digits[at..];
        }
    }
}
