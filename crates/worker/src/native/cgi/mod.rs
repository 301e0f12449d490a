//! CGI scripts (RFC 3875), run by the reactor: nothing here waits, and no engine is needed.
//!
//! | file | owns |
//! | --- | --- |
//! | `find.rs` | which script a path means, and how it is run |
//! | `environment.rs` | its variables |
//! | `input.rs` | the body on its way in |
//! | `run.rs` | one run: the body in, the response out, all as it comes; what ends it |
//! | `children.rs` | the processes: how many run, who waits, who is collected |
//!
//! ```text
//! helper: find, start      loop: body -> stdin | stdout -> head -> client      pidfd: collected
//! ```

pub(crate) mod children;
pub(crate) mod environment;
pub(crate) mod find;
mod input;
pub(crate) mod run;

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt as _;
use std::path::PathBuf;

use greenloom_config::CgiSettings;

use crate::Request;
use crate::suspension::covers;
use find::Base;

/// `modifier1` of requests that are for a script, whatever their path.
pub(crate) const MODIFIER: u8 = 9;

/// Which requests are for scripts.
#[derive(Debug)]
pub(crate) struct Rules {
    pub(crate) settings: CgiSettings,
}

impl Rules {
    /// `None`: there are no scripts.
    pub(crate) fn new(settings: &CgiSettings) -> Option<Self> {
        settings.has_scripts().then(|| Self { settings: settings.clone() })
    }

    /// Where the script of a request is; `None`: it is for somebody else. `has_app`: there is an application, which has
    /// everything that is not mounted.
    pub(crate) fn base(&self, request: &Request, has_app: bool) -> Option<Base> {
        let path = request.path();
        let is_ours = request.modifier1 == MODIFIER;
        let mount = self
            .settings
            .mounts
            .iter()
            .filter(|mount| is_ours || !has_app || !mount.prefix.is_empty())
            .filter(|mount| covers(mount.prefix.as_bytes(), path))
            .max_by_key(|mount| mount.prefix.len());
        if let Some(mount) = mount {
            return Some(Base { prefix: mount.prefix.clone().into_bytes(), path: mount.path.clone() });
        }
        if !self.settings.from_docroot || (has_app && !is_ours) {
            return None;
        }
        let root = request.var(b"DOCUMENT_ROOT").filter(|root| root.starts_with(b"/"))?;
        Some(Base { prefix: Vec::new(), path: PathBuf::from(OsString::from_vec(root.to_vec())) })
    }
}
