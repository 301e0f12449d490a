//! The variables of a script (RFC 3875 §4.1): those of its request and a few of the server's, nothing else.

use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};

use greenloom_config::CgiSettings;
use greenloom_proto::http1::head::variable_name;

use super::find::Target;
use crate::{Request, Source};

/// Programs are looked for there when the server itself has no PATH.
const PATH: &str = "/usr/local/bin:/usr/bin:/bin";
/// A field of this name would become what HTTP libraries take for the address of a proxy (CVE-2016-5385).
const PROXY: &[u8] = b"HTTP_PROXY";

/// Variables by name, in order, each once.
#[derive(Clone, Debug, Default)]
pub(crate) struct Environment(Vec<(Vec<u8>, Vec<u8>)>);

impl Environment {
    fn set(&mut self, name: &[u8], value: &[u8]) {
        // What cannot stand in an environment is not there.
        if name.is_empty() || name.contains(&b'=') || name.contains(&0) || value.contains(&0) {
            return;
        }
        match self.0.iter_mut().find(|(known, _)| known == name) {
            Some((_, old)) => value.clone_into(old),
            None => self.0.push((name.to_vec(), value.to_vec())),
        }
    }

    fn unset(&mut self, name: &[u8]) {
        self.0.retain(|(known, _)| known != name);
    }

    /// The variables of a request. `host` and `port`: the server's own.
    pub(crate) fn of_request(request: &Request, host: &[u8], port: &[u8]) -> Self {
        let mut environment = Self::default();
        environment.set(b"GATEWAY_INTERFACE", b"CGI/1.1");
        environment.set(b"SERVER_SOFTWARE", concat!("greenloom/", env!("CARGO_PKG_VERSION")).as_bytes());
        environment.set(b"REDIRECT_STATUS", b"200");
        match request.source {
            Source::Http => environment.add_http(request, host, port),
            Source::Uwsgi => environment.add_packet(request),
        }
        environment.set(b"QUERY_STRING", request.query());
        match request.content_length.filter(|&length| length > 0) {
            Some(length) => environment.set(b"CONTENT_LENGTH", length.to_string().as_bytes()),
            None => environment.unset(b"CONTENT_LENGTH"),
        }
        environment
    }

    fn add_http(&mut self, request: &Request, host: &[u8], port: &[u8]) {
        let mut value = Vec::new();
        // §4.1.14: what the client calls the server, where it says so.
        let named = request.text(request.head.host);
        let named = match named.iter().rposition(|&byte| byte == b':') {
            Some(at) if !named.ends_with(b"]") => &named[..at],
            _ => named,
        };
        self.set(b"SERVER_NAME", if named.is_empty() { host } else { named });
        self.set(b"SERVER_PORT", port);
        for name in
            [&b"REQUEST_METHOD"[..], b"REQUEST_URI", b"SERVER_PROTOCOL", b"REMOTE_ADDR", b"REMOTE_PORT"]
        {
            value.clear();
            if request.append_variable(name, &mut value) {
                self.set(name, &value);
            }
        }
        let mut name = Vec::new();
        for field in &request.head.fields {
            name.clear();
            variable_name(request.text(field.name), &mut name);
            value.clear();
            if name != PROXY && request.append_variable(&name, &mut value) {
                self.set(&name, &value);
            }
        }
    }

    fn add_packet(&mut self, request: &Request) {
        for &(name, value) in &request.vars {
            let (name, value) = (request.text(name), request.text(value));
            let is_empty_content = value.is_empty() && name == b"CONTENT_TYPE";
            if name != PROXY && !name.starts_with(b"UWSGI_") && !is_empty_content {
                self.set(name, value);
            }
        }
    }

    /// Everything for the script that was found.
    pub(crate) fn complete(mut self, settings: &CgiSettings, target: &Target) -> Vec<(OsString, OsString)> {
        self.set(b"SCRIPT_FILENAME", target.file.as_os_str().as_bytes());
        self.set(b"SCRIPT_NAME", &target.name);
        self.set(b"DOCUMENT_ROOT", target.root.as_os_str().as_bytes());
        if target.path_info.is_empty() {
            self.unset(b"PATH_INFO");
            self.unset(b"PATH_TRANSLATED");
        } else {
            self.set(b"PATH_INFO", &target.path_info);
            let translated = [target.root.as_os_str().as_bytes(), &target.path_info].concat();
            self.set(b"PATH_TRANSLATED", &translated);
        }
        let path = std::env::var_os("PATH").unwrap_or_else(|| PATH.into());
        self.set(b"PATH", path.as_bytes());
        for (name, value) in &settings.env {
            match value {
                Some(value) => self.set(name.as_bytes(), value.as_bytes()),
                None => {
                    if let Some(value) = std::env::var_os(name) {
                        self.set(name.as_bytes(), value.as_bytes());
                    }
                }
            }
        }
        for name in &settings.unset {
            self.unset(name.as_bytes());
        }
        self.0
            .into_iter()
            .map(|(name, value)| (OsString::from_vec(name), OsString::from_vec(value)))
            .collect()
    }
}
