//! Which script a path means, and how it is run: the walk below a `--cgi` directory. Looks at the file system, so it runs
//! on a helper.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};

use greenloom_config::CgiSettings;
use greenloom_proto::cgi::query_words;
use greenloom_sys::script;

use crate::native::statics::may_be_a_file;

/// Where to look.
#[derive(Clone, Debug)]
pub(crate) struct Base {
    /// The mount point; empty for the whole site.
    pub(crate) prefix: Vec<u8>,
    /// A directory of scripts, or one script for everything below.
    pub(crate) path: PathBuf,
}

/// A script that was found.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Target {
    pub(crate) program: PathBuf,
    pub(crate) args: Vec<OsString>,
    /// Its own directory.
    pub(crate) directory: PathBuf,
    /// `SCRIPT_FILENAME`: the script, without links.
    pub(crate) file: PathBuf,
    /// `SCRIPT_NAME`.
    pub(crate) name: Vec<u8>,
    /// `PATH_INFO`: what follows the script in the path; empty or begins with a slash.
    pub(crate) path_info: Vec<u8>,
    /// `DOCUMENT_ROOT`.
    pub(crate) root: PathBuf,
}

/// No script is run.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) status: u16,
    /// For the log; `None`: the client's mistake, which its line shows.
    pub(crate) reason: Option<String>,
    /// Where the client has to go instead.
    pub(crate) location: Option<Vec<u8>>,
}

impl Refusal {
    fn quiet(status: u16) -> Self {
        Self { status, reason: None, location: None }
    }

    pub(super) fn because(status: u16, reason: String) -> Self {
        Self { status, reason: Some(reason), location: None }
    }
}

/// Finds the script for `path`, which is decoded and lies below the base's prefix; `query` is as sent. `has_words`: it may
/// become arguments.
pub(crate) fn find(
    settings: &CgiSettings,
    base: &Base,
    path: &[u8],
    query: &[u8],
    has_words: bool,
) -> Result<Target, Refusal> {
    if !may_be_a_file(path, true) {
        return Err(Refusal::quiet(404));
    }
    let below = path.get(base.prefix.len()..).unwrap_or_default();
    let root = std::fs::canonicalize(&base.path).map_err(|error| missing(&base.path, &error))?;
    let is_script = root.is_file();
    let (file, name_len) =
        if is_script { (root.clone(), 0) } else { walk(settings, &root, below, path, query)? };
    let root_directory = if is_script { parent(&root) } else { root };
    let name = [&base.prefix, below.get(..name_len.min(below.len())).unwrap_or_default()].concat();
    let path_info = below.get(name_len..).unwrap_or_default().to_vec();
    let (program, mut args) = program(settings, &file, is_script)?;
    if has_words && args.is_empty() {
        // §4.4. Never for an interpreter, which would take a word that begins with a dash for an option of its own
        // (CVE-2012-1823).
        args.extend(query_words(query).unwrap_or_default().into_iter().map(OsString::from_vec));
    }
    Ok(Target { program, args, directory: parent(&file), file, name, path_info, root: root_directory })
}

fn missing(path: &Path, error: &io::Error) -> Refusal {
    match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => Refusal::quiet(404),
        _ => Refusal::because(500, format!("cannot look for a CGI script in {}: {error}", path.display())),
    }
}

fn parent(path: &Path) -> PathBuf {
    path.parent().unwrap_or_else(|| Path::new("/")).to_owned()
}

/// Goes down part by part to the first that is no directory, or to a directory's index: the script, without links, and
/// how many bytes of `below` name it.
fn walk(
    settings: &CgiSettings,
    root: &Path,
    below: &[u8],
    path: &[u8],
    query: &[u8],
) -> Result<(PathBuf, usize), Refusal> {
    let mut at = root.to_owned();
    let mut used = 0;
    for part in below.split_inclusive(|&byte| byte == b'/') {
        let name = part.strip_suffix(b"/").unwrap_or(part);
        if name.is_empty() {
            used += part.len();
            continue;
        }
        let next = at.join(OsStr::from_bytes(name));
        let next = std::fs::canonicalize(&next).map_err(|error| missing(&next, &error))?;
        if !is_safe(settings, root, &next) {
            let reason = format!(
                "CGI security error: {} is not under {} or a safe path (--cgi-safe)",
                next.display(),
                root.display()
            );
            return Err(Refusal::because(403, reason));
        }
        if !next.is_dir() {
            let ends_with = |end: &String| name.ends_with(end.as_bytes());
            if !settings.allowed_ext.is_empty() && !settings.allowed_ext.iter().any(ends_with) {
                return Err(Refusal::quiet(403));
            }
            return Ok((next, used + name.len()));
        }
        at = next;
        used += part.len();
    }
    if !path.ends_with(b"/") {
        let mut location = encoded(path);
        location.push(b'/');
        if !query.is_empty() {
            location.push(b'?');
            location.extend_from_slice(query);
        }
        return Err(Refusal { status: 301, reason: None, location: Some(location) });
    }
    let allowed = |name: &&String| {
        settings.allowed_ext.is_empty() || settings.allowed_ext.iter().any(|end| name.ends_with(end.as_str()))
    };
    for index in settings.index.iter().filter(allowed) {
        let candidate = at.join(index);
        if let Ok(real) = std::fs::canonicalize(&candidate)
            && real.is_file()
            && is_safe(settings, root, &real)
        {
            // The index is part of the script's name, as if it had been asked for; nothing follows it.
            return Ok((real, used));
        }
    }
    Err(Refusal::quiet(404))
}

/// Whether a path without links lies below the directory of scripts, or one that is safe as well.
fn is_safe(settings: &CgiSettings, root: &Path, real: &Path) -> bool {
    let below = |safe: &PathBuf| std::fs::canonicalize(safe).is_ok_and(|safe| real.starts_with(safe));
    real.starts_with(root) || settings.safe.iter().any(below)
}

/// A path as it may stand in a Location: what is special in one is escaped.
fn encoded(path: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(path.len() + 8);
    // More than one slash at the start would name another host.
    let path = match path.iter().position(|&byte| byte != b'/') {
        Some(at) if at > 1 => &path[at - 1..],
        _ => path,
    };
    for &byte in path {
        if byte.is_ascii_alphanumeric() || b"/-._~!$&'()*+,;=:@".contains(&byte) {
            out.push(byte);
        } else {
            out.extend_from_slice(format!("%{byte:02X}").as_bytes());
        }
    }
    out
}

/// What is run for a script: itself, or the helper for its ending with its path as argument.
fn program(settings: &CgiSettings, file: &Path, is_base: bool) -> Result<(PathBuf, Vec<OsString>), Refusal> {
    let ends_with = |(end, _): &&(String, String)| file.as_os_str().as_bytes().ends_with(end.as_bytes());
    if let Some((_, helper)) = settings.helpers.iter().filter(|_| !is_base).find(ends_with) {
        return match on_path(helper) {
            Some(helper) => Ok((helper, vec![file.as_os_str().to_owned()])),
            None => Err(Refusal::because(
                500,
                format!("there is no program {helper} on PATH (--cgi-helper); write its whole path"),
            )),
        };
    }
    if !file.is_file() {
        return Err(Refusal::quiet(404));
    }
    match script::may_execute(file) {
        Ok(()) => Ok((file.to_owned(), Vec::new())),
        Err(error) => Err(Refusal::because(
            403,
            format!(
                "cannot run {}: {error}; make it executable (chmod +x), or name an interpreter for its ending \
                 (--cgi-helper)",
                file.display()
            ),
        )),
    }
}

/// A program by its name or path.
fn on_path(name: &str) -> Option<PathBuf> {
    if name.contains('/') {
        return Some(PathBuf::from(name));
    }
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path)
        .map(|directory| directory.join(name))
        .find(|candidate| candidate.is_file() && script::may_execute(candidate).is_ok())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::*;

    struct Tree(PathBuf);

    impl Tree {
        fn new(name: &str) -> Self {
            let top = std::env::temp_dir().join(format!("greenloom-cgi-{}-{name}", std::process::id()));
            std::fs::create_dir_all(top.join("cgi/sub/empty")).unwrap();
            let top = top.canonicalize().unwrap();
            for (path, mode) in [
                ("cgi/run.cgi", 0o755),
                ("cgi/plain.cgi", 0o644),
                ("cgi/page.php", 0o644),
                ("cgi/sub/index.cgi", 0o755),
                ("cgi/sub/a b", 0o755),
                ("outside.cgi", 0o755),
            ] {
                std::fs::write(top.join(path), "#!/bin/sh\n").unwrap();
                std::fs::set_permissions(top.join(path), std::fs::Permissions::from_mode(mode)).unwrap();
            }
            symlink("run.cgi", top.join("cgi/link.cgi")).unwrap();
            symlink("../outside.cgi", top.join("cgi/out.cgi")).unwrap();
            Self(top)
        }

        fn find(&self, settings: &CgiSettings, path: &str) -> Result<Target, Refusal> {
            let base = Base { prefix: b"/cgi-bin".to_vec(), path: self.0.join("cgi") };
            find(settings, &base, path.as_bytes(), b"a=1", true)
        }
    }

    impl Drop for Tree {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    fn settings() -> CgiSettings {
        CgiSettings {
            index: vec!["index.cgi".to_owned()],
            helpers: vec![(".php".to_owned(), "/bin/cat".to_owned())],
            ..CgiSettings::default()
        }
    }

    #[test]
    fn rfc3875_4_1_13_script_name_and_path_info() {
        let tree = Tree::new("names");
        for (path, file, name, info) in [
            ("/cgi-bin/run.cgi", "cgi/run.cgi", "/cgi-bin/run.cgi", ""),
            ("/cgi-bin/run.cgi/", "cgi/run.cgi", "/cgi-bin/run.cgi", "/"),
            ("/cgi-bin/run.cgi/a//b", "cgi/run.cgi", "/cgi-bin/run.cgi", "/a//b"),
            ("/cgi-bin/link.cgi/x", "cgi/run.cgi", "/cgi-bin/link.cgi", "/x"),
            ("/cgi-bin//run.cgi", "cgi/run.cgi", "/cgi-bin//run.cgi", ""),
            ("/cgi-bin/sub/a b", "cgi/sub/a b", "/cgi-bin/sub/a b", ""),
            ("/cgi-bin/sub/", "cgi/sub/index.cgi", "/cgi-bin/sub/", ""),
        ] {
            let target = tree.find(&settings(), path).unwrap();
            assert_eq!(target.file, tree.0.join(file), "{path}");
            assert_eq!((target.name, target.path_info), (name.into(), info.into()), "{path}");
            assert_eq!(target.root, tree.0.join("cgi"));
            assert_eq!(target.program, target.file);
        }
        let php = tree.find(&settings(), "/cgi-bin/page.php/i").unwrap();
        assert_eq!(php.program, Path::new("/bin/cat"));
        assert_eq!(php.args, [tree.0.join("cgi/page.php").into_os_string()]);
    }

    #[test]
    fn what_is_not_run() {
        let tree = Tree::new("refused");
        let status = |settings: &CgiSettings, path: &str| tree.find(settings, path).map_err(|r| r.status);
        let open = settings();
        for (path, expected) in [
            ("/cgi-bin/nothing", 404),
            ("/cgi-bin/nothing/run.cgi", 404),
            ("/cgi-bin/plain.cgi", 403),
            ("/cgi-bin/out.cgi", 403),
            ("/cgi-bin/sub", 301),
            ("/cgi-bin", 301),
            ("/cgi-bin/sub/empty/", 404),
            ("/cgi-bin/../outside.cgi", 404),
            ("/cgi-bin/./run.cgi", 404),
            ("/cgi-bin/run\0.cgi", 404),
        ] {
            assert_eq!(status(&open, path), Err(expected), "{path}");
        }
        let safe = CgiSettings { safe: vec![tree.0.clone()], ..settings() };
        assert!(status(&safe, "/cgi-bin/out.cgi").is_ok());
        let only = CgiSettings { allowed_ext: vec![".cgi".to_owned()], ..settings() };
        assert_eq!(status(&only, "/cgi-bin/page.php"), Err(403));
        assert!(status(&only, "/cgi-bin/run.cgi/x.php").is_ok());
    }

    #[test]
    fn a_redirect_never_leads_to_another_host() {
        let tree = Tree::new("redirect");
        let base = Base { prefix: Vec::new(), path: tree.0.join("cgi") };
        let to = |path: &[u8]| find(&settings(), &base, path, b"x=\xff", true).unwrap_err().location.unwrap();
        assert_eq!(to(b"/sub"), b"/sub/?x=\xff");
        assert_eq!(to(b"//sub"), b"/sub/?x=\xff");
        assert_eq!(to(b"///sub"), b"/sub/?x=\xff");
    }

    #[test]
    fn one_script_for_everything_below() {
        let tree = Tree::new("one");
        let base = Base { prefix: b"/app".to_vec(), path: tree.0.join("cgi/run.cgi") };
        let target = find(&settings(), &base, b"/app/x/y", b"one+two%20x", true).unwrap();
        assert_eq!((target.name, target.path_info), (b"/app".to_vec(), b"/x/y".to_vec()));
        assert_eq!(target.args, ["one", "two x"]);
        assert_eq!(target.root, tree.0.join("cgi"));
    }
}
