//! Which versions of CPython this machine has, and whether they are enough.
//!
//! Owns where interpreters are looked for and which versions must be there. Virtual environments and
//! fetching what is missing are the Makefile's part; what runs on them is [`crate::contract`]'s.

use std::cmp::Reverse;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::{complain, say};

/// The versions greenloom is tested with, by the number behind `3.`.
const MINORS: [u32; 4] = [11, 12, 13, 14];

/// One of each of these must be there: the oldest, and one of those that came after.
const REQUIRED: [&[u32]; 2] = [&[11], &[12, 13]];

/// Where `.ci/debian-python` unpacks interpreters, from the root of the checkout.
const FETCHED: &str = ".interpreters";

/// Prints the version of an ordinary CPython that can make virtual environments; fails for any other.
const PROBE: &str = "import sys, sysconfig, ensurepip, venv\n\
    assert sys.implementation.name == 'cpython' and not hasattr(sys, 'gettotalrefcount')\n\
    assert not sysconfig.get_config_var('Py_GIL_DISABLED')\n\
    print('.'.join(map(str, sys.version_info[:3])))";

/// An interpreter that works.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Interpreter {
    pub(crate) minor: u32,
    /// As in `3.12.1`.
    pub(crate) version: String,
    pub(crate) python: PathBuf,
}

impl Interpreter {
    /// The interpreter at `python`, if it is one that greenloom can be tested with.
    pub(crate) fn at(python: &Path) -> Option<Self> {
        let probe = Command::new(python).args(["-c", PROBE]).stderr(Stdio::null()).output().ok()?;
        Self::from_probe(python, probe.status.success(), &String::from_utf8_lossy(&probe.stdout))
    }

    fn from_probe(python: &Path, success: bool, printed: &str) -> Option<Self> {
        let version = printed.trim().to_owned();
        let minor = minor_of(&version)?;
        success.then(|| Self { minor, version, python: python.to_path_buf() })
    }

    /// Its virtual environment, as `make interpreters` names it.
    pub(crate) fn venv(&self, root: &Path) -> PathBuf {
        root.join(format!(".venv-3.{}", self.minor))
    }
}

/// `cargo xtask interpreters`: a line `3.12 /path/to/python` for each that needs an environment beside
/// `own`, and a line `missing 3.13` for each that would have to be fetched.
pub(crate) fn list(root: &Path, own: &Path) -> Result<(), String> {
    let own = own_interpreter(own)?;
    let further = further(root, &own);
    for interpreter in &further {
        say(&format!("3.{} {}", interpreter.minor, interpreter.python.display()));
    }
    for alternatives in missing(&minors(&own, &further)) {
        // The newest of them: Debian's stable release has it.
        if let Some(newest) = alternatives.last() {
            say(&format!("missing 3.{newest}"));
        }
    }
    Ok(())
}

/// The interpreter of the environment that everything else runs on.
pub(crate) fn own_interpreter(python: &Path) -> Result<Interpreter, String> {
    Interpreter::at(python).ok_or_else(|| format!("{}: not a CPython 3 with venv", python.display()))
}

/// One interpreter of every version but `own`'s, the oldest first.
pub(crate) fn further(root: &Path, own: &Interpreter) -> Vec<Interpreter> {
    let path: Vec<PathBuf> =
        std::env::var_os("PATH").map(|path| std::env::split_paths(&path).collect()).unwrap_or_default();
    let pyenv = std::env::var_os("PYENV_ROOT")
        .map(PathBuf::from)
        .or_else(|| std::env::var_os("HOME").map(|home| Path::new(&home).join(".pyenv")));
    MINORS
        .into_iter()
        .filter(|minor| *minor != own.minor)
        .filter_map(|minor| {
            candidates(minor, &path, pyenv.as_deref(), root)
                .iter()
                .filter_map(|python| Interpreter::at(python))
                .find(|found| found.minor == minor)
        })
        .collect()
}

/// Says loudly which versions are missing; that is a failure where everything is supposed to be there.
pub(crate) fn judge(own: &Interpreter, further: &[Interpreter], in_ci: bool) -> Result<(), String> {
    let missing = missing(&minors(own, further));
    if missing.is_empty() {
        return Ok(());
    }
    let reason = missing.iter().map(|alternatives| remedy(alternatives)).collect::<Vec<_>>().join("\n");
    if in_ci {
        return Err(reason);
    }
    complain(&reason);
    Ok(())
}

/// The requirements that none of `minors` fulfils.
fn missing(minors: &[u32]) -> Vec<&'static [u32]> {
    REQUIRED.into_iter().filter(|set| !set.iter().any(|minor| minors.contains(minor))).collect()
}

fn minors(own: &Interpreter, further: &[Interpreter]) -> Vec<u32> {
    std::iter::once(own).chain(further).map(|interpreter| interpreter.minor).collect()
}

fn remedy(alternatives: &[u32]) -> String {
    let names = alternatives.iter().map(|minor| format!("3.{minor}")).collect::<Vec<_>>().join(" or ");
    let newest = alternatives.last().copied().unwrap_or_default();
    format!(
        "!!! CPython {names} is NOT TESTED: it is not on this machine !!!\n\
         `make interpreters` fetches it from Debian's archive where apt is; anywhere, with pyenv: \
         pyenv install 3.{newest}; or put python3.{newest} on the PATH"
    )
}

/// Where CPython 3.`minor` may lie, in the order of preference: the PATH, pyenv, what was fetched.
fn candidates(minor: u32, path: &[PathBuf], pyenv: Option<&Path>, root: &Path) -> Vec<PathBuf> {
    let name = format!("python3.{minor}");
    let mut found: Vec<PathBuf> = path.iter().map(|folder| folder.join(&name)).collect();
    if let Some(pyenv) = pyenv {
        found.extend(pyenv_versions(pyenv, minor).iter().map(|version| version.join("bin/python")));
    }
    found.push(root.join(FETCHED).join(format!("3.{minor}/usr/bin/{name}")));
    found.retain(|python| python.is_file());
    found
}

/// pyenv's folders of CPython 3.`minor`, the newest first.
fn pyenv_versions(pyenv: &Path, minor: u32) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(pyenv.join("versions")) else { return Vec::new() };
    let mut found: Vec<(u32, PathBuf)> = entries
        .flatten()
        .filter_map(|entry| {
            let name = entry.file_name().into_string().ok()?;
            let patch = name.strip_prefix(&format!("3.{minor}."))?.parse().ok()?;
            Some((patch, entry.path()))
        })
        .collect();
    found.sort_by_key(|(patch, _)| Reverse(*patch));
    found.into_iter().map(|(_, folder)| folder).collect()
}

/// 12 for `3.12.1`.
fn minor_of(version: &str) -> Option<u32> {
    version.strip_prefix("3.")?.split('.').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn interpreter(minor: u32) -> Interpreter {
        Interpreter { minor, version: format!("3.{minor}.0"), python: PathBuf::new() }
    }

    /// A folder for one test, removed at its end.
    struct Folder(PathBuf);

    impl Folder {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("xtask-{name}-{}", std::process::id()));
            fs::create_dir_all(&path).unwrap();
            Self(path)
        }

        /// An empty file: whether it works is another question.
        fn python(&self, path: &str) -> PathBuf {
            let python = self.0.join(path);
            fs::create_dir_all(python.parent().unwrap()).unwrap();
            fs::write(&python, "").unwrap();
            python
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn the_path_comes_before_pyenv_and_what_was_fetched_last() {
        let folder = Folder::new("candidates");
        let on_path = folder.python("bin/python3.12");
        let old = folder.python("pyenv/versions/3.12.9/bin/python");
        let new = folder.python("pyenv/versions/3.12.10/bin/python");
        folder.python("pyenv/versions/3.1.2/bin/python");
        folder.python("pyenv/versions/3.12-dev/bin/python");
        let fetched = folder.python(".interpreters/3.12/usr/bin/python3.12");
        let path = [folder.0.join("nowhere"), folder.0.join("bin")];
        let found = candidates(12, &path, Some(&folder.0.join("pyenv")), &folder.0);
        assert_eq!(found, [on_path, new, old, fetched]);
    }

    #[test]
    fn a_shim_that_fails_is_no_interpreter() {
        let python = Path::new("/somewhere/python3.13");
        let found = Interpreter::from_probe(python, true, "3.13.2\n").unwrap();
        assert_eq!((found.minor, found.version.as_str()), (13, "3.13.2"));
        assert_eq!(Interpreter::from_probe(python, false, "3.13.2\n"), None);
        assert_eq!(Interpreter::from_probe(python, true, "2.7.18\n"), None);
        for no_interpreter in ["/bin/false", "/bin/true", "/nowhere/python3.13"] {
            assert_eq!(Interpreter::at(Path::new(no_interpreter)), None, "{no_interpreter}");
        }
    }

    #[test]
    fn the_oldest_and_a_newer_one_are_required() {
        assert_eq!(missing(&[11, 13]).len(), 0);
        assert_eq!(missing(&[11, 12, 14]).len(), 0);
        assert_eq!(missing(&[12]), [&[11][..]]);
        assert_eq!(missing(&[11, 14]), [&[12, 13][..]]);
    }

    #[test]
    fn a_missing_one_fails_only_in_ci_and_says_how_to_get_it() {
        let own = interpreter(11);
        let reason = judge(&own, &[], true).unwrap_err();
        assert!(reason.contains("3.12 or 3.13") && reason.contains("make interpreters"), "{reason}");
        assert!(judge(&own, &[interpreter(12)], true).is_ok());
        assert!(judge(&own, &[], false).is_ok());
    }
}
