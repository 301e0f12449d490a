//! The checkout as a tree of files: where it is, and which files belong to the project.
//!
//! Leaves what is in the files to [`crate::tidy`].

use std::fs;
use std::path::{Path, PathBuf};

/// Folders whose sources are the project's own.
const SOURCE_FOLDERS: [&str; 8] =
    ["crates", "xtask", "python", "tests", "conformance", "examples", "benches", "fuzz"];

/// Folders that tools fill.
const TOOL_FOLDERS: [&str; 2] = ["target", "__pycache__"];

/// The root of the checkout.
pub(crate) fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().expect("xtask lies in the root of the checkout").to_path_buf()
}

/// One source file: its path from the root, with `/`, and its text.
#[derive(Debug)]
pub(crate) struct Source {
    pub(crate) path: String,
    pub(crate) text: String,
}

/// Every file with one of these endings in the project's source folders, sorted by path.
///
/// # Errors
/// A file that cannot be read or is not UTF-8, named.
pub(crate) fn sources(root: &Path, endings: &[&str]) -> Result<Vec<Source>, String> {
    let mut found = Vec::new();
    for folder in SOURCE_FOLDERS {
        let folder = root.join(folder);
        if folder.is_dir() {
            collect(root, &folder, endings, &mut found)?;
        }
    }
    found.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(found)
}

/// The names of the files directly in `folder`, sorted; empty when there is no such folder.
pub(crate) fn file_names(folder: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let mut names: Vec<String> =
        entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

fn collect(root: &Path, folder: &Path, endings: &[&str], found: &mut Vec<Source>) -> Result<(), String> {
    let entries = fs::read_dir(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    for entry in entries {
        let path = entry.map_err(|error| format!("{}: {error}", folder.display()))?.path();
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        if name.starts_with('.') || TOOL_FOLDERS.contains(&name.as_str()) {
            continue;
        }
        if path.is_dir() {
            collect(root, &path, endings, found)?;
        } else if endings.iter().any(|ending| name.ends_with(ending)) {
            let text = fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
            let below = path.strip_prefix(root).unwrap_or(&path);
            found.push(Source { path: below.to_string_lossy().replace('\\', "/"), text });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_its_own_source_and_no_build_output() {
        let found = sources(&root(), &[".rs"]).unwrap();
        assert!(found.iter().any(|source| source.path == "xtask/src/repository.rs"));
        assert!(found.iter().all(|source| !source.path.contains("/target/")));
    }
}
