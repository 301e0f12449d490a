//! Which file a path means: the rules of `--static-map` and its like, and the opening of what they name. Nothing here
//! knows connections; everything runs in the loop without patience for a disk, or on a helper with.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use greenloom_config::{CgiSettings, StaticMap, StaticSettings};
use greenloom_proto::http1::accept_encoding::{self, Coding};
use greenloom_proto::http1::head::percent_decode;
use greenloom_sys::files::{self, Facts, Kind, Patience};

use super::mime::Types;
use crate::suspension::covers;
use crate::{Request, Source};

/// A directory's name is looked up anew after so long: what is deployed by renaming a directory is seen soon, and no
/// request pays for it.
const ROOT_AGE_MS: u64 = 1000;

/// What [`Statics::find`] found.
#[derive(Debug)]
pub(crate) enum Found {
    /// The file to send.
    File(Box<FoundFile>),
    /// None of the rules names a file.
    Nothing,
    /// One does, and it cannot be opened: the status of the answer, and why.
    Refused(u16, String),
}

/// An open file.
#[derive(Debug)]
pub(crate) struct FoundFile {
    pub(crate) file: File,
    pub(crate) facts: Facts,
    /// Its path as the rules make it: of the file asked for, whichever of its forms is open.
    pub(crate) name: Vec<u8>,
    /// It holds the bytes in this coding.
    pub(crate) coding: Option<Coding>,
    /// What is sent depends on what codings the client takes.
    pub(crate) varies: bool,
}

/// What is asked for.
#[derive(Clone, Debug)]
pub(crate) enum Wanted {
    /// What the rules make of this path.
    Path {
        /// Decoded.
        path: Vec<u8>,
        /// The request's `DOCUMENT_ROOT`, where that is looked at.
        docroot: Option<Vec<u8>>,
    },
    /// This path of the file system, which an application has handed over (`X-Sendfile`).
    HandedPath(Vec<u8>),
    /// This path of the server's own (`X-Accel-Redirect`).
    HandedName(Vec<u8>),
}

/// A look for a file, complete: what a helper needs.
#[derive(Clone, Debug)]
pub(crate) struct Look {
    pub(crate) wanted: Wanted,
    /// The request's `Accept-Encoding`.
    pub(crate) accept_encoding: Option<Vec<u8>>,
}

/// The rules of one worker.
#[derive(Debug)]
pub(crate) struct Statics {
    settings: StaticSettings,
    pub(crate) types: Types,
    /// Whether any rule is about paths of requests.
    has_paths: bool,
}

/// Directories that were opened lately.
#[derive(Debug, Default)]
pub(crate) struct Roots(HashMap<PathBuf, (OwnedFd, u64)>);

impl Roots {
    fn get(&mut self, path: &Path, patience: Patience, now_ms: u64) -> io::Result<BorrowedFd<'_>> {
        let is_fresh = self.0.get(path).is_some_and(|(_, at_ms)| now_ms < at_ms + ROOT_AGE_MS);
        if !is_fresh {
            self.forget_old(now_ms);
            let root = files::open_root(path, patience)?;
            self.0.insert(path.to_owned(), (root, now_ms));
        }
        match self.0.get(path) {
            Some((root, _)) => Ok(root.as_fd()),
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }
}

impl Roots {
    /// Closes those that were opened too long ago: an idle worker keeps nobody from unmounting them.
    pub(crate) fn forget_old(&mut self, now_ms: u64) {
        self.0.retain(|_, (_, at_ms)| now_ms < *at_ms + ROOT_AGE_MS);
    }

    /// When there is something to forget, if anything is open.
    pub(crate) fn old_at_ms(&self) -> Option<u64> {
        self.0.values().map(|(_, at_ms)| at_ms + ROOT_AGE_MS).max()
    }
}

/// A walk through the rules.
struct Walk<'a> {
    settings: &'a StaticSettings,
    roots: &'a mut Roots,
    patience: Patience,
    now_ms: u64,
    accept_encoding: Option<&'a [u8]>,
    /// Other forms of a file may be sent in its place.
    has_forms: bool,
    /// Lines for the log.
    notes: &'a mut Vec<String>,
}

impl Statics {
    /// `None`: no file is ever served.
    pub(crate) fn new(settings: &StaticSettings, cgi: &CgiSettings) -> Option<Arc<Self>> {
        let has_paths = !settings.check.is_empty() || !settings.maps.is_empty() || settings.check_docroot;
        let hands = !settings.hand_over.x_sendfile.is_empty() || !settings.hand_over.x_accel.is_empty();
        if !has_paths && !hands && !cgi.has_scripts() {
            return None;
        }
        let types = Types::read(&settings.mime_files);
        Some(Arc::new(Self { settings: settings.clone(), types, has_paths }))
    }

    pub(crate) fn settings(&self) -> &StaticSettings {
        &self.settings
    }

    /// Whether applications may hand files over, by path and by the server's names.
    pub(crate) fn hands_over(&self) -> (bool, bool) {
        let hand_over = &self.settings.hand_over;
        (!hand_over.x_sendfile.is_empty(), !hand_over.x_accel.is_empty())
    }

    /// What to look for on behalf of a request; `None`: it cannot mean a file.
    pub(crate) fn look_for(&self, request: &Request) -> Option<Look> {
        if !self.has_paths || !matches!(request.method(), b"GET" | b"HEAD") {
            return None;
        }
        let path = request.path();
        if self.settings.skip_ext.iter().any(|end| path.ends_with(end.as_bytes())) {
            return None;
        }
        if !may_be_a_file(path, self.settings.dotfiles) || has_encoded_slash(request) {
            return None;
        }
        let is_under = |map: &StaticMap| covers(map.prefix.as_bytes(), path);
        let has_rule = !self.settings.check.is_empty()
            || self.settings.check_docroot
            || self.settings.maps.iter().any(is_under);
        if !has_rule {
            return None;
        }
        let docroot = request.var(b"DOCUMENT_ROOT").filter(|_| self.settings.check_docroot);
        let docroot = docroot.filter(|root| root.starts_with(b"/")).map(<[u8]>::to_vec);
        let mut accept_encoding = Vec::new();
        let has_codings =
            self.has_codings() && request.append_variable(b"HTTP_ACCEPT_ENCODING", &mut accept_encoding);
        Some(Look {
            wanted: Wanted::Path { path: path.to_vec(), docroot },
            accept_encoding: has_codings.then_some(accept_encoding),
        })
    }

    fn has_codings(&self) -> bool {
        let gzip = &self.settings.gzip;
        gzip.all || !(gzip.patterns.is_empty() && gzip.directories.is_empty() && gzip.suffixes.is_empty())
    }

    /// Finds and opens the file.
    ///
    /// # Errors
    /// `WouldBlock` without patience: ask again with, where one may wait.
    pub(crate) fn find(
        &self,
        look: &Look,
        roots: &mut Roots,
        patience: Patience,
        now_ms: u64,
        notes: &mut Vec<String>,
    ) -> io::Result<Found> {
        let accept_encoding = look.accept_encoding.as_deref();
        let has_forms = matches!(look.wanted, Wanted::Path { .. });
        let settings = &self.settings;
        let mut walk = Walk { settings, roots, patience, now_ms, accept_encoding, has_forms, notes };
        match &look.wanted {
            Wanted::Path { path, docroot } => walk.by_rules(path, docroot.as_deref()),
            Wanted::HandedPath(path) => walk.handed_path(path),
            Wanted::HandedName(name) => walk.handed_name(name),
        }
    }
}

/// Whether a decoded path may name a file at all: absolute, without `.` and `..` segments, zero bytes, and (unless allowed)
/// names that begin with a dot. `.well-known` is a name like others (RFC 8615).
pub(crate) fn may_be_a_file(path: &[u8], dotfiles: bool) -> bool {
    path.first() == Some(&b'/')
        && !path.contains(&0)
        && path.split(|&byte| byte == b'/').all(|segment| match segment {
            b"." | b".." => false,
            [b'.', ..] => dotfiles || segment == b".well-known",
            _ => true,
        })
}

/// Whether a path has a slash in it that is part of a name: no file has such a name.
fn has_encoded_slash(request: &Request) -> bool {
    let raw = match request.source {
        Source::Http if request.head.path_is_plain => return false,
        Source::Http => request.text(request.head.path),
        Source::Uwsgi => request.uri().split(|&byte| byte == b'?').next().unwrap_or_default(),
    };
    raw.windows(3).any(|window| window.eq_ignore_ascii_case(b"%2f"))
}

/// A path below a root: without empty segments, never empty.
fn relative(path: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(path.len());
    for segment in path.split(|&byte| byte == b'/').filter(|segment| !segment.is_empty()) {
        if !out.is_empty() {
            out.push(b'/');
        }
        out.extend_from_slice(segment);
    }
    if out.is_empty() {
        out.push(b'.');
    }
    out
}

fn as_path(bytes: &[u8]) -> &Path {
    Path::new(std::ffi::OsStr::from_bytes(bytes))
}

impl Walk<'_> {
    fn by_rules(&mut self, path: &[u8], docroot: Option<&[u8]>) -> io::Result<Found> {
        let settings = self.settings;
        for root in &settings.check {
            if let Some(found) = self.under(root, path)? {
                return Ok(found);
            }
        }
        for keeps_prefix in [false, true] {
            for map in settings.maps.iter().filter(|map| map.keeps_prefix == keeps_prefix) {
                if let Some(found) = self.map(map, path)? {
                    return Ok(found);
                }
            }
        }
        if let Some(root) = docroot
            && let Some(found) = self.under(as_path(root), path)?
        {
            return Ok(found);
        }
        Ok(Found::Nothing)
    }

    fn map(&mut self, map: &StaticMap, path: &[u8]) -> io::Result<Option<Found>> {
        if !covers(map.prefix.as_bytes(), path) {
            return Ok(None);
        }
        let rest = if map.keeps_prefix { path } else { path.get(map.prefix.len()..).unwrap_or_default() };
        match self.under(&map.target, rest)? {
            // The target may be the file itself.
            None if rest.is_empty() => match (map.target.parent(), map.target.file_name()) {
                (Some(parent), Some(name)) => self.under(parent, name.as_bytes()),
                _ => Ok(None),
            },
            found => Ok(found),
        }
    }

    /// `X-Sendfile: /path`, below one of the directories that may be handed over.
    fn handed_path(&mut self, path: &[u8]) -> io::Result<Found> {
        let is_plain = may_be_a_file(path, true);
        for root in self.settings.hand_over.x_sendfile.iter().filter(|_| is_plain) {
            let Some(rest) = path.strip_prefix(root.as_os_str().as_bytes()) else { continue };
            if rest.first() == Some(&b'/')
                && let Some(found) = self.under(root, rest)?
            {
                return Ok(found);
            }
        }
        Ok(Found::Nothing)
    }

    /// `X-Accel-Redirect: /prefix/rest`, percent-encoded as a target is.
    fn handed_name(&mut self, name: &[u8]) -> io::Result<Found> {
        let mut decoded = Vec::new();
        percent_decode(name, &mut decoded);
        let name = &decoded;
        if !may_be_a_file(name, true) {
            return Ok(Found::Nothing);
        }
        let settings = self.settings;
        for map in &settings.hand_over.x_accel {
            if let Some(found) = self.map(map, name)? {
                return Ok(found);
            }
        }
        Ok(Found::Nothing)
    }

    /// The file that `path` means below `root`, or the index of the directory that it means.
    fn under(&mut self, root: &Path, path: &[u8]) -> io::Result<Option<Found>> {
        let rest = relative(path);
        let opened = match self.open(root, &rest) {
            Ok(Some(opened)) => opened,
            Ok(None) => return Ok(None),
            Err(error) => {
                // A directory that may be entered and not listed can have an index all the same.
                if error.kind() == io::ErrorKind::PermissionDenied
                    && let Some(found) = self.index(root, &rest)?
                {
                    return Ok(Some(found));
                }
                return Self::refused(&error, root, &rest).map_or(Err(error), |found| Ok(Some(found)));
            }
        };
        let facts = files::facts(&opened)?;
        match facts.kind {
            Kind::File if path.ends_with(b"/") => Ok(None),
            Kind::File => self.in_form(root, &rest, opened, facts).map(Some),
            Kind::Directory => self.index(root, &rest),
            Kind::Other => Ok(None),
        }
    }

    fn index(&mut self, root: &Path, directory: &[u8]) -> io::Result<Option<Found>> {
        let settings = self.settings;
        for index in &settings.index {
            let path = match directory {
                b"." => index.as_bytes().to_vec(),
                directory => [directory, b"/", index.as_bytes()].concat(),
            };
            let opened = match self.open(root, &path) {
                Ok(Some(opened)) => opened,
                Ok(None) => continue,
                Err(error) => {
                    return Self::refused(&error, root, &path).map_or(Err(error), |found| Ok(Some(found)));
                }
            };
            let facts = files::facts(&opened)?;
            if facts.kind == Kind::File {
                return self.in_form(root, &path, opened, facts).map(Some);
            }
        }
        Ok(None)
    }

    /// The file itself, or what lies beside it in a coding that the client takes.
    fn in_form(&mut self, root: &Path, path: &[u8], file: File, facts: Facts) -> io::Result<Found> {
        let name = name_of(root, path);
        let varies = self.has_forms(&name);
        if varies {
            for coding in accept_encoding::accepted(self.accept_encoding) {
                let coded = match self.open(root, &[path, coding.suffix().as_bytes()].concat()) {
                    // Whether it is there must be found out where one may wait.
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Err(error),
                    opened => opened.ok().flatten(),
                };
                if let Some(coded) = coded
                    && let Ok(facts) = files::facts(&coded)
                    && facts.kind == Kind::File
                {
                    let coding = Some(coding);
                    return Ok(Found::File(Box::new(FoundFile { file: coded, facts, name, coding, varies })));
                }
            }
        }
        Ok(Found::File(Box::new(FoundFile { file, facts, name, coding: None, varies })))
    }

    /// The answer to a file that is there and cannot be opened; `None`: that is not for the client.
    fn refused(error: &io::Error, root: &Path, path: &[u8]) -> Option<Found> {
        let status = match error.kind() {
            io::ErrorKind::WouldBlock => return None,
            io::ErrorKind::PermissionDenied => 403,
            // EMFILE, ENFILE: too many open files.
            _ if matches!(error.raw_os_error(), Some(24 | 23)) => 503,
            _ => 500,
        };
        let remedy = if status == 503 { "; raise --max-fd" } else { "" };
        let name = name_of(root, path);
        let name = String::from_utf8_lossy(&name);
        Some(Found::Refused(status, format!("cannot open {}: {error}{remedy}", name.escape_debug())))
    }

    fn has_forms(&self, name: &[u8]) -> bool {
        let gzip = &self.settings.gzip;
        self.has_forms
            && (gzip.all
                || gzip.suffixes.iter().any(|end| name.ends_with(end.as_bytes()))
                || gzip.directories.iter().any(|directory| as_path(name).starts_with(directory))
                || gzip.patterns.iter().any(|pattern| pattern.is_match(name)))
    }

    /// `None`: there is no such file, or it is none of these.
    fn open(&mut self, root: &Path, path: &[u8]) -> io::Result<Option<File>> {
        let fd = match self.roots.get(root, self.patience, self.now_ms) {
            Ok(fd) => fd,
            Err(error) if is_absent(&error) => return Ok(None),
            Err(error) => return Err(error),
        };
        match files::open_beneath(fd, path, self.patience) {
            Ok(file) => Ok(Some(file)),
            Err(error) if is_absent(&error) => Ok(None),
            Err(error) if error.kind() == io::ErrorKind::CrossesDevices => match self.patience {
                Patience::None => Err(io::ErrorKind::WouldBlock.into()),
                Patience::Wait => self.open_elsewhere(root, path),
            },
            Err(error) => Err(error),
        }
    }

    /// A link leads out of `root`: it may lead to a directory that is safe as well (`--static-safe`), or back.
    fn open_elsewhere(&mut self, root: &Path, path: &[u8]) -> io::Result<Option<File>> {
        let asked = root.join(as_path(path));
        let Ok(real) = std::fs::canonicalize(&asked) else { return Ok(None) };
        // A rule may name the link itself: then whoever wrote it means what it leads to.
        let is_named = self.settings.maps.iter().any(|map| map.target == asked);
        let named = real.parent().filter(|_| is_named);
        let safe = self.settings.safe.iter().map(PathBuf::as_path);
        for safe in std::iter::once(root).chain(safe).chain(named) {
            let Ok(safe) = std::fs::canonicalize(safe) else { continue };
            let Ok(rest) = real.strip_prefix(&safe) else { continue };
            // Once more from there: whatever has been renamed meanwhile, nothing leads out.
            let safe = files::open_root(&safe, Patience::Wait)?;
            return match files::open_beneath(
                safe.as_fd(),
                &relative(rest.as_os_str().as_bytes()),
                Patience::Wait,
            ) {
                Err(error) if is_absent(&error) => Ok(None),
                other => other.map(Some),
            };
        }
        self.notes.push(format!(
            "[fileserve] security error: {} is not under {} or a safe path (--static-safe)",
            real.display(),
            root.display()
        ));
        Ok(None)
    }
}

/// Whether an error says that there is no such file.
fn is_absent(error: &io::Error) -> bool {
    use io::ErrorKind as K;
    matches!(error.kind(), K::NotFound | K::NotADirectory | K::InvalidFilename)
        // ELOOP has no stable kind. ENXIO: a socket, or a pipe or device without its other end.
        || matches!(error.raw_os_error(), Some(40 | 6))
}

fn name_of(root: &Path, path: &[u8]) -> Vec<u8> {
    match path {
        b"." => root.as_os_str().as_bytes().to_vec(),
        path => [root.as_os_str().as_bytes(), b"/", path].concat(),
    }
}

impl FoundFile {
    /// Whether descriptor and name belong together; for messages.
    pub(crate) fn shown(&self) -> String {
        format!("{} (fd {})", String::from_utf8_lossy(&self.name).escape_debug(), self.file.as_raw_fd())
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use greenloom_config::{Origin, Precompressed};

    use super::*;

    struct Tree(PathBuf);

    impl Tree {
        fn new(name: &str) -> Self {
            let top = std::env::temp_dir().join(format!("greenloom-statics-{}-{name}", std::process::id()));
            for directory in ["a/sub", "a/empty", "b/s", "safe"] {
                std::fs::create_dir_all(top.join(directory)).unwrap();
            }
            for path in
                ["a/x", "a/sub/index.html", "a/.dot", "a/y.gz", "a/y", "b/x", "b/s/z", "safe/t", "out"]
            {
                std::fs::write(top.join(path), path).unwrap();
            }
            let link = |target: &str, name: &str| symlink(target, top.join(name)).unwrap();
            link("sub/index.html", "a/inside");
            link("../out", "a/outside");
            link("../safe/t", "a/safe");
            link("loop", "a/loop");
            symlink(top.join("a/x"), top.join("a/absolute")).unwrap();
            Self(top)
        }

        fn map(&self, prefix: &str, target: &str, keeps_prefix: bool) -> StaticMap {
            let origin = Origin::Default;
            StaticMap { prefix: prefix.to_owned(), target: self.0.join(target), keeps_prefix, origin }
        }

        /// The path below the tree of what is found for a request; a status; or nothing. With patience and without it
        /// is the same, where without is enough.
        fn find(&self, settings: &StaticSettings, target: &str) -> String {
            let statics = Statics::new(settings, &CgiSettings::default()).unwrap();
            let request = Request::sample(
                format!("GET {target} HTTP/1.1\r\nHost: x\r\nAccept-Encoding: gzip\r\n\r\n").as_bytes(),
            );
            let Some(look) = statics.look_for(&request) else { return "not looked for".to_owned() };
            let mut notes = Vec::new();
            let mut find = |patience| {
                statics.find(&look, &mut Roots::default(), patience, 0, &mut notes).map(|found| match found {
                    Found::File(file) => {
                        let real = files::real_path(&file.file).unwrap();
                        let top = self.0.canonicalize().unwrap();
                        real.strip_prefix(top).unwrap().to_str().unwrap().to_owned()
                    }
                    Found::Nothing => "nothing".to_owned(),
                    Found::Refused(status, _) => status.to_string(),
                })
            };
            let found = find(Patience::Wait).unwrap();
            match find(Patience::None) {
                Ok(at_once) => assert_eq!(at_once, found, "{target}"),
                Err(error) => assert_eq!(error.kind(), io::ErrorKind::WouldBlock),
            }
            found
        }
    }

    impl Drop for Tree {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn rules_in_their_order() {
        let tree = Tree::new("rules");
        let settings = StaticSettings {
            maps: vec![
                tree.map("/s", "b", true),
                tree.map("/s", "a", false),
                tree.map("/one", "out", false),
                tree.map("/s", "b", false),
            ],
            index: vec!["missing".to_owned(), "index.html".to_owned()],
            skip_ext: vec![".py".to_owned()],
            ..StaticSettings::default()
        };
        for (target, expected) in [
            ("/s/x", "a/x"),
            ("/s/z", "b/s/z"),
            ("/s/s/z", "b/s/z"),
            ("/s//x", "a/x"),
            ("/s/x/", "nothing"),
            ("/s/sub", "a/sub/index.html"),
            ("/s/sub/", "a/sub/index.html"),
            ("/s/empty/", "nothing"),
            ("/s/nothing", "nothing"),
            ("/one", "out"),
            ("/one/", "nothing"),
            ("/one/more", "nothing"),
            ("/sx", "not looked for"),
            ("/s/x.py", "not looked for"),
            ("/s/.dot", "not looked for"),
            ("/s/%2e%2e/out", "not looked for"),
            ("/s/..%2fout", "not looked for"),
            ("/s/sub%2Findex.html", "not looked for"),
            ("/s/x%00", "not looked for"),
        ] {
            assert_eq!(tree.find(&settings, target), expected, "{target}");
        }
    }

    #[test]
    fn links_lead_where_they_may() {
        let tree = Tree::new("links");
        let closed = StaticSettings { check: vec![tree.0.join("a")], ..StaticSettings::default() };
        let open = StaticSettings { safe: vec![tree.0.join("safe")], dotfiles: true, ..closed.clone() };
        for (target, without, with) in [
            ("/inside", "a/sub/index.html", "a/sub/index.html"),
            ("/absolute", "a/x", "a/x"),
            ("/outside", "nothing", "nothing"),
            ("/safe", "nothing", "safe/t"),
            ("/loop", "nothing", "nothing"),
            ("/.dot", "not looked for", "a/.dot"),
        ] {
            assert_eq!(tree.find(&closed, target), without, "{target}");
            assert_eq!(tree.find(&open, target), with, "{target}");
        }
    }

    #[test]
    fn a_form_beside_the_file() {
        let tree = Tree::new("forms");
        let gzip = |gzip| StaticSettings { check: vec![tree.0.join("a")], gzip, ..StaticSettings::default() };
        let all = gzip(Precompressed { all: true, ..Precompressed::default() });
        assert_eq!(tree.find(&all, "/y"), "a/y.gz");
        assert_eq!(tree.find(&all, "/x"), "a/x");
        let ends = gzip(Precompressed { suffixes: vec!["z".to_owned()], ..Precompressed::default() });
        assert_eq!(tree.find(&ends, "/y"), "a/y");
        let below = gzip(Precompressed { directories: vec![tree.0.join("a")], ..Precompressed::default() });
        assert_eq!(tree.find(&below, "/y"), "a/y.gz");
    }

    #[test]
    fn a_directory_that_is_swapped_is_seen_within_a_second() {
        let tree = Tree::new("swapped");
        symlink("a", tree.0.join("current")).unwrap();
        let settings = StaticSettings { check: vec![tree.0.join("current")], ..StaticSettings::default() };
        let statics = Statics::new(&settings, &CgiSettings::default()).unwrap();
        let request = Request::sample(b"GET /x HTTP/1.1\r\nHost: x\r\n\r\n");
        let look = statics.look_for(&request).unwrap();
        let mut roots = Roots::default();
        let mut find = |now_ms| match statics.find(&look, &mut roots, Patience::Wait, now_ms, &mut Vec::new())
        {
            Ok(Found::File(file)) => std::fs::read_to_string(files::real_path(&file.file).unwrap()).unwrap(),
            other => panic!("{other:?}"),
        };
        assert_eq!(find(5000), "a/x");
        symlink("b", tree.0.join("next")).unwrap();
        std::fs::rename(tree.0.join("next"), tree.0.join("current")).unwrap();
        assert_eq!(find(5999), "a/x");
        assert_eq!(find(6000), "b/x");
    }
}
