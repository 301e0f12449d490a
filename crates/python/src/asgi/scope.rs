//! The connection scope of a request, from its head or its uwsgi variables.
//!
//! Header fields are remembered as they were sent, for browsers and proxies send the same ones again and again; a pair of
//! bytes never changes, so that requests may share it.

use std::cell::Cell;
use std::net::IpAddr;

use greenloom_worker::config::{Protocol, Settings};
use greenloom_worker::{Peer, Request, Source};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyList, PyString, PyTuple};

use super::channel::Sent;
use crate::driver::server::Listener;
use crate::load::App;
use crate::wsgi::environ::{REMEMBERED, latin1, place};

/// Version of the ASGI specification, and of its HTTP part, that messages follow.
const VERSION: &str = "3.0";
const SPEC_VERSION: &str = "2.4";
/// Fields longer than this are not kept.
const KEPT_FIELD: usize = 256;

/// A field that was seen, and its pair.
struct Remembered {
    name: Vec<u8>,
    value: Vec<u8>,
    lower: Py<PyBytes>,
    pair: Py<PyTuple>,
}

/// Makes scopes. One per worker.
pub(crate) struct ScopeBuilder {
    /// `greenloom.engines.asgi.Exchange`.
    pub(super) exchange: Py<PyAny>,
    /// What `send` returns when all is said, and what makes it wait otherwise: `greenloom.engines.asgi.drained`.
    pub(super) sent: Py<Sent>,
    pub(super) waits: Py<PyAny>,
    /// One for each listener: what its requests have in common.
    templates: Vec<Py<PyDict>>,
    asgi: Py<PyDict>,
    extensions: Py<PyDict>,
    /// For each application what its lifespan has left for requests.
    states: Vec<Py<PyDict>>,
    fields: Vec<Cell<Option<Box<Remembered>>>>,
    /// Clients by their port, as far as they have come before: their connections are kept.
    clients: Vec<Cell<Option<Client>>>,
    /// The last path as it was sent, and decoded.
    path: Cell<Option<(Py<PyBytes>, Py<PyString>)>>,
}

/// Address and port of a client, and the pair of both.
struct Client(IpAddr, u16, Py<PyTuple>);

/// Clients that are remembered.
const CLIENTS: usize = 128;

impl ScopeBuilder {
    pub(crate) fn new(
        py: Python<'_>,
        settings: &Settings,
        listeners: &[Listener],
        apps: &[App],
    ) -> PyResult<Self> {
        let asgi = PyDict::new(py);
        asgi.set_item(intern!(py, "version"), VERSION)?;
        asgi.set_item(intern!(py, "spec_version"), SPEC_VERSION)?;
        let extensions = PyDict::new(py);
        extensions.set_item(intern!(py, "http.response.pathsend"), PyDict::new(py))?;
        let module = py.import("greenloom.engines.asgi")?;
        let mut templates = Vec::new();
        for (index, listener) in listeners.iter().enumerate() {
            let template = PyDict::new(py);
            template.set_item(intern!(py, "type"), "http")?;
            template.set_item(intern!(py, "http_version"), "1.1")?;
            template.set_item(intern!(py, "scheme"), "http")?;
            template.set_item(intern!(py, "root_path"), "")?;
            template.set_item(intern!(py, "query_string"), PyBytes::new(py, b""))?;
            template.set_item(intern!(py, "client"), py.None())?;
            template.set_item(intern!(py, "server"), listener.server(py)?)?;
            if settings.listeners.get(index).is_some_and(|listener| listener.protocol == Protocol::Http) {
                // Keys that every request sets: with them in the template its copy has room for them.
                for key in ["asgi", "method", "path", "raw_path", "headers", "state", "extensions"] {
                    template.set_item(PyString::intern(py, key), py.None())?;
                }
            }
            templates.push(template.unbind());
        }
        Ok(Self {
            exchange: module.getattr("Exchange")?.unbind(),
            sent: Py::new(py, Sent)?,
            waits: module.getattr("drained")?.unbind(),
            templates,
            asgi: asgi.unbind(),
            extensions: extensions.unbind(),
            states: states(py, apps),
            fields: (0..REMEMBERED).map(|_| Cell::new(None)).collect(),
            clients: (0..CLIENTS).map(|_| Cell::new(None)).collect(),
            path: Cell::new(None),
        })
    }

    /// The scope of an application's lifespan, and what that leaves for requests.
    pub(crate) fn lifespan<'py>(&self, py: Python<'py>, app: usize) -> PyResult<Bound<'py, PyDict>> {
        let scope = PyDict::new(py);
        scope.set_item(intern!(py, "type"), "lifespan")?;
        scope.set_item(intern!(py, "asgi"), self.asgi.bind(py).copy()?)?;
        scope.set_item(intern!(py, "state"), self.states[app].bind(py))?;
        Ok(scope)
    }

    /// The scope of `request`, which is for `app`, whose mount point are the first `prefix` bytes of the path.
    pub(super) fn build<'py>(
        &self,
        py: Python<'py>,
        request: &Request,
        app: usize,
        prefix: usize,
    ) -> PyResult<Bound<'py, PyDict>> {
        let template = self.templates.get(request.listener).or_else(|| self.templates.first());
        let scope = match template {
            Some(template) => template.bind(py).copy()?,
            None => PyDict::new(py),
        };
        // What an application changes in these is its own.
        scope.set_item(intern!(py, "asgi"), self.asgi.bind(py).copy()?)?;
        scope.set_item(intern!(py, "extensions"), self.extensions.bind(py).copy()?)?;
        scope.set_item(intern!(py, "state"), self.states[app].bind(py).copy()?)?;
        match request.method() {
            b"GET" => scope.set_item(intern!(py, "method"), intern!(py, "GET"))?,
            b"POST" => scope.set_item(intern!(py, "method"), intern!(py, "POST"))?,
            other => {
                scope.set_item(intern!(py, "method"), latin1(py, &other.to_ascii_uppercase()))?;
            }
        }
        let version = request.protocol().strip_prefix(b"HTTP/").unwrap_or(b"1.1");
        if version != b"1.1" {
            scope.set_item(intern!(py, "http_version"), latin1(py, version))?;
        }
        let raw_path = match request.source {
            Source::Http => request.text(request.head.path),
            Source::Uwsgi => request.uri().split(|&byte| byte == b'?').next().unwrap_or_default(),
        };
        let query = request.query();
        if !query.is_empty() {
            scope.set_item(intern!(py, "query_string"), PyBytes::new(py, query))?;
        }
        match request.source {
            Source::Http => self.http(py, request, prefix, raw_path, &scope)?,
            Source::Uwsgi => {
                scope.set_item(intern!(py, "raw_path"), PyBytes::new(py, raw_path))?;
                self.uwsgi(py, request, prefix, &scope)?;
            }
        }
        Ok(scope)
    }

    fn http(
        &self,
        py: Python<'_>,
        request: &Request,
        prefix: usize,
        raw_path: &[u8],
        scope: &Bound<'_, PyDict>,
    ) -> PyResult<()> {
        let path = request.path();
        let (raw, decoded) = match self.path.take() {
            Some(last) if last.0.as_bytes(py) == raw_path => last,
            _ => (PyBytes::new(py, raw_path).unbind(), text(py, path).unbind()),
        };
        scope.set_item(intern!(py, "raw_path"), &raw)?;
        scope.set_item(intern!(py, "path"), &decoded)?;
        if raw_path.len() <= KEPT_FIELD {
            drop(self.path.replace(Some((raw, decoded))));
        }
        if prefix > 0 {
            scope.set_item(intern!(py, "root_path"), text(py, &path[..prefix]))?;
        }
        if let Peer::Ip(address, port) = request.peer {
            scope.set_item(intern!(py, "client"), self.client(py, address, port)?)?;
        }
        let headers = PyList::empty(py);
        for field in &request.head.fields {
            headers.append(self.field(py, request.text(field.name), request.text(field.value))?)?;
        }
        scope.set_item(intern!(py, "headers"), headers)
    }

    fn client<'py>(&self, py: Python<'py>, address: IpAddr, port: u16) -> PyResult<Bound<'py, PyTuple>> {
        let place = &self.clients[usize::from(port) % CLIENTS];
        let client = match place.take() {
            Some(client) if client.0 == address && client.1 == port => client,
            _ => Client(address, port, (address.to_string(), port).into_pyobject(py)?.unbind()),
        };
        let pair = client.2.bind(py).clone();
        drop(place.replace(Some(client)));
        Ok(pair)
    }

    /// The pair of a field: its name in lower case, and its value.
    fn field<'py>(&self, py: Python<'py>, name: &[u8], value: &[u8]) -> PyResult<Bound<'py, PyTuple>> {
        let place = &self.fields[place(name)];
        let remembered = place.take();
        let lower = match remembered {
            Some(remembered) if remembered.name == name => {
                if remembered.value == value {
                    let pair = remembered.pair.bind(py).clone();
                    place.set(Some(remembered));
                    return Ok(pair);
                }
                let lower = remembered.lower.bind(py).clone();
                place.set(Some(remembered));
                lower
            }
            _ => PyBytes::new(py, &name.to_ascii_lowercase()),
        };
        let pair = PyTuple::new(py, [lower.clone(), PyBytes::new(py, value)])?;
        if name.len() + value.len() <= KEPT_FIELD {
            place.set(Some(Box::new(Remembered {
                name: name.to_vec(),
                value: value.to_vec(),
                lower: lower.unbind(),
                pair: pair.clone().unbind(),
            })));
        }
        Ok(pair)
    }

    fn uwsgi(
        &self,
        py: Python<'_>,
        request: &Request,
        prefix: usize,
        scope: &Bound<'_, PyDict>,
    ) -> PyResult<()> {
        let headers = PyList::empty(py);
        let var = |name: &[u8]| request.var(name).unwrap_or_default();
        for (key, value) in &request.vars {
            let (key, value) = (request.text(*key), request.text(*value));
            let name = match key {
                // A `Proxy` field of the client, which libraries take for their own.
                b"HTTP_PROXY" => continue,
                b"CONTENT_TYPE" | b"CONTENT_LENGTH" if value.is_empty() => continue,
                b"CONTENT_TYPE" => b"content-type".to_vec(),
                b"CONTENT_LENGTH" => b"content-length".to_vec(),
                _ => match key.strip_prefix(b"HTTP_") {
                    Some(name) => name
                        .iter()
                        .map(|&byte| if byte == b'_' { b'-' } else { byte.to_ascii_lowercase() })
                        .collect(),
                    None => continue,
                },
            };
            headers.append(self.field(py, &name, value)?)?;
        }
        scope.set_item(intern!(py, "headers"), headers)?;
        let (script, path) = (var(b"SCRIPT_NAME"), request.path());
        // What the front end has taken off, and what the mount point takes.
        let root = [script, &path[..prefix]].concat();
        let full = [script, path].concat();
        scope.set_item(intern!(py, "path"), text(py, &full))?;
        if !root.is_empty() {
            scope.set_item(intern!(py, "root_path"), text(py, &root))?;
        }
        let (https, scheme) = (var(b"HTTPS"), var(b"UWSGI_SCHEME"));
        let https = https.eq_ignore_ascii_case(b"on") || https == b"1";
        if scheme == b"https" || (https && scheme != b"http") {
            scope.set_item(intern!(py, "scheme"), intern!(py, "https"))?;
        }
        let number = |text: &[u8]| std::str::from_utf8(text).ok().and_then(|text| text.parse::<u16>().ok());
        let address = var(b"REMOTE_ADDR");
        if !address.is_empty() {
            let port = number(var(b"REMOTE_PORT")).unwrap_or(0);
            scope.set_item(intern!(py, "client"), (latin1(py, address), port))?;
        }
        let name = var(b"SERVER_NAME");
        if !name.is_empty()
            && let Some(port) = number(var(b"SERVER_PORT"))
        {
            scope.set_item(intern!(py, "server"), (latin1(py, name), port))?;
        }
        Ok(())
    }
}

/// A state for each application; one that is mounted several times has one lifespan.
fn states(py: Python<'_>, apps: &[App]) -> Vec<Py<PyDict>> {
    let mut states: Vec<Py<PyDict>> = Vec::new();
    for app in apps {
        let earlier = apps[..states.len()].iter().position(|earlier| earlier.callable.is(&app.callable));
        let state = earlier.map_or_else(|| PyDict::new(py).unbind(), |place| states[place].clone_ref(py));
        states.push(state);
    }
    states
}

/// The characters of a decoded path; bytes that are no UTF-8 are replaced.
fn text<'py>(py: Python<'py>, bytes: &[u8]) -> Bound<'py, PyString> {
    if bytes.is_ascii() { latin1(py, bytes) } else { PyString::new(py, &String::from_utf8_lossy(bytes)) }
}
