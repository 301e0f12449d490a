//! Settings of files that are served without the application.

use std::path::PathBuf;

use regex::bytes::Regex;

use crate::origin::Origin;

/// Files that are served without the application. All paths are absolute: relative ones were counted from `--chdir`, or
/// from where the server was started.
#[derive(Clone, Debug)]
pub struct StaticSettings {
    /// Directories in which each path is looked for, in order (`--check-static`).
    pub check: Vec<PathBuf>,
    /// Also look in the request's `DOCUMENT_ROOT` (`--check-static-docroot`). Default off.
    pub check_docroot: bool,
    /// Paths and what is served there (`--static-map`, `--static-map2`), in order of appearance. A prefix may be there
    /// more than once: what is not in the first target is looked for in the next.
    pub maps: Vec<StaticMap>,
    /// Names that stand for a directory, in order (`--static-index`): plain names.
    pub index: Vec<String>,
    /// What the path of a request that is left to the application ends with, as it was written (`--static-skip-ext`).
    pub skip_ext: Vec<String>,
    /// Directories into which links may lead (`--static-safe`).
    pub safe: Vec<PathBuf>,
    /// Serve names that begin with a dot (`--static-dotfiles`). Default off; `.well-known` is always served.
    pub dotfiles: bool,
    /// How long files stay fresh (`--static-expires` and its kin), in order of appearance.
    pub expires: Vec<ExpiresRule>,
    /// Which files may have a compressed one beside them.
    pub gzip: Precompressed,
    /// Files that say which ending has which type (`--mimefile`). Empty: `/etc/mime.types`, if it is there.
    pub mime_files: Vec<PathBuf>,
    /// What the application may leave to the server.
    pub hand_over: HandOver,
    /// Threads per worker that read from disk what is not in memory (`--offload-threads`). At least 1, default 4.
    pub threads: u32,
}

/// A path prefix and the directory or file behind it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StaticMap {
    /// Path prefix, as in [`crate::Mount::prefix`].
    pub prefix: String,
    /// A directory, or one file.
    pub target: PathBuf,
    /// The whole path stands below the target (`--static-map2`), not only what follows the prefix.
    pub keeps_prefix: bool,
    /// Which configuration entry asked for it.
    pub origin: Origin,
}

/// How long the files of a rule stay fresh.
#[derive(Clone, Debug)]
pub struct ExpiresRule {
    /// Which files.
    pub subject: ExpiresSubject,
    /// For how long. At most 100 years.
    pub seconds: u64,
    /// Counted from the file's last change (`-mtime`), not from now.
    pub from_mtime: bool,
}

/// What a rule looks at.
#[derive(Clone, Debug)]
pub enum ExpiresSubject {
    /// The path of the file (`--static-expires`).
    File(Regex),
    /// The target of the request, with its query (`--static-expires-uri`).
    Uri(Regex),
    /// `PATH_INFO` (`--static-expires-path-info`).
    PathInfo(Regex),
    /// The type (`--static-expires-type`), as it was written.
    Type(String),
}

/// Which files may have a compressed one beside them: one of the conditions is enough.
#[derive(Clone, Debug, Default)]
pub struct Precompressed {
    /// All of them (`--static-gzip-all`).
    pub all: bool,
    /// Files whose path matches (`--static-gzip`).
    pub patterns: Vec<Regex>,
    /// Files below these directories (`--static-gzip-dir`).
    pub directories: Vec<PathBuf>,
    /// Files whose path ends so, as it was written (`--static-gzip-ext`).
    pub suffixes: Vec<String>,
}

/// Files that the application names in its response, and the server sends.
#[derive(Clone, Debug, Default)]
pub struct HandOver {
    /// `X-Sendfile` may name files below these directories (`--x-sendfile`).
    pub x_sendfile: Vec<PathBuf>,
    /// `X-Accel-Redirect: /prefix/rest` means `rest` below the target (`--x-accel-redirect`).
    pub x_accel: Vec<StaticMap>,
}

impl Default for StaticSettings {
    fn default() -> Self {
        Self {
            check: Vec::new(),
            check_docroot: false,
            maps: Vec::new(),
            index: Vec::new(),
            skip_ext: Vec::new(),
            safe: Vec::new(),
            dotfiles: false,
            expires: Vec::new(),
            gzip: Precompressed::default(),
            mime_files: Vec::new(),
            hand_over: HandOver::default(),
            threads: 4,
        }
    }
}

impl StaticSettings {
    /// Whether paths of requests are looked up as files at all.
    pub fn looks_up_paths(&self) -> bool {
        self.check_docroot || !self.check.is_empty() || !self.maps.is_empty()
    }
}
