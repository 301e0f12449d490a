//! Settings of CGI scripts.

use std::path::PathBuf;

use crate::origin::Origin;

/// CGI scripts. All paths are absolute: relative ones were counted from `--chdir`, or from where the server was started.
#[derive(Clone, Debug)]
pub struct CgiSettings {
    /// Where scripts are (`--cgi`), in order of appearance; each prefix at most once.
    pub mounts: Vec<CgiMount>,
    /// Scripts that no mount has are in the request's `DOCUMENT_ROOT` (`--cgi-from-docroot`). Default off.
    pub from_docroot: bool,
    /// What the path of a script ends with, as it was written, and the program that runs such scripts: an absolute path,
    /// or a name to be looked up in `PATH` (`--cgi-helper`). The first one that fits counts.
    pub helpers: Vec<(String, String)>,
    /// What the path of a script has to end with, as it was written (`--cgi-allowed-ext`); empty allows all.
    pub allowed_ext: Vec<String>,
    /// Names that stand for a directory, in order (`--cgi-index`): plain names.
    pub index: Vec<String>,
    /// Directories into which links may lead (`--cgi-safe`).
    pub safe: Vec<PathBuf>,
    /// Variables that no script gets (`--cgi-unset`).
    pub unset: Vec<String>,
    /// Variables that scripts get besides those of the request and `PATH` (`--cgi-env`), in order; `None` is the
    /// server's own value, if it has one.
    pub env: Vec<(String, Option<String>)>,
    /// Longest head of a response, and bytes read at a time (`--cgi-buffer-size`). Default 64 KiB.
    pub buffer_bytes: usize,
    /// How long a script may be silent while it is waited for (`--cgi-timeout`). Default 60 s, never 0.
    pub timeout_ms: u64,
    /// Scripts per worker that run at the same time (`--cgi-max-processes`). At least 1, default 64.
    pub max_processes: u32,
    /// A script whose response is none is killed. Default on; off with `--cgi-do-not-kill-on-error`.
    pub kill_on_error: bool,
}

/// One `--cgi`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CgiMount {
    /// Path prefix, as in [`crate::Mount::prefix`].
    pub prefix: String,
    /// A directory of scripts, or one script.
    pub path: PathBuf,
    /// Which configuration entry asked for it.
    pub origin: Origin,
}

impl Default for CgiSettings {
    fn default() -> Self {
        Self {
            mounts: Vec::new(),
            from_docroot: false,
            helpers: Vec::new(),
            allowed_ext: Vec::new(),
            index: Vec::new(),
            safe: Vec::new(),
            unset: Vec::new(),
            env: Vec::new(),
            buffer_bytes: 64 << 10,
            timeout_ms: 60_000,
            max_processes: 64,
            kill_on_error: true,
        }
    }
}

impl CgiSettings {
    /// Whether there is any place where scripts could be.
    pub fn has_scripts(&self) -> bool {
        self.from_docroot || !self.mounts.is_empty()
    }
}
