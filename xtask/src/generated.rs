//! Files made from the sources: docs/options.md, and the table of engines in README.md.
//!
//! `cargo xtask options` writes them, [`crate::tidy`] refuses a checkout in which they are stale. What they
//! say is crate config's; only where it goes is decided here.

use std::fs;
use std::path::Path;

use crate::{repository, say};

const OPTIONS: &str = "docs/options.md";
const README: &str = "README.md";
const TABLE_BEGINS: &str = "<!-- engines: written by `cargo xtask options` -->";
const TABLE_ENDS: &str = "<!-- engines end -->";

/// Writes the generated files anew.
///
/// # Errors
/// A file cannot be read or written, or README.md has lost the marks of its table.
pub(crate) fn write() -> Result<(), String> {
    let root = repository::root();
    for (name, text) in wanted(&root)? {
        let path = root.join(name);
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
        }
        fs::write(&path, text).map_err(|error| format!("{name}: {error}"))?;
        say(&format!("written: {name}"));
    }
    Ok(())
}

/// The generated files that differ from what would be written now.
///
/// # Errors
/// README.md cannot be read or has lost the marks of its table.
pub(crate) fn check(root: &Path) -> Result<Vec<String>, String> {
    let wanted = wanted(root)?;
    let stale = wanted.into_iter().filter(|(name, text)| {
        // A file that is missing is as stale as one that differs.
        fs::read_to_string(root.join(name)).map_or(true, |present| present != *text)
    });
    Ok(stale.map(|(name, _)| format!("{name}: stale: run `cargo xtask options`")).collect())
}

fn wanted(root: &Path) -> Result<[(&'static str, String); 2], String> {
    let readme = fs::read_to_string(root.join(README)).map_err(|error| format!("{README}: {error}"))?;
    let table = greenloom_config::engines_markdown();
    Ok([(OPTIONS, greenloom_config::options_markdown()), (README, with_table(&readme, &table)?)])
}

/// `readme` with `table` between the marks.
fn with_table(readme: &str, table: &str) -> Result<String, String> {
    let lost = || format!("{README}: the lines {TABLE_BEGINS} and {TABLE_ENDS} mark the table of engines");
    let (before, rest) = readme.split_once(TABLE_BEGINS).ok_or_else(lost)?;
    let (_, after) = rest.split_once(TABLE_ENDS).ok_or_else(lost)?;
    Ok(format!("{before}{TABLE_BEGINS}\n{}\n{TABLE_ENDS}{after}", table.trim()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_stands_between_its_marks() {
        let readme = format!("above\n{TABLE_BEGINS}\nold\n{TABLE_ENDS}\nbelow\n");
        let written = with_table(&readme, "| new |\n").unwrap();
        assert_eq!(written, format!("above\n{TABLE_BEGINS}\n| new |\n{TABLE_ENDS}\nbelow\n"));
        assert_eq!(with_table(&written, "| new |\n").unwrap(), written);
    }

    #[test]
    fn lost_marks_are_an_error() {
        assert!(with_table("nothing here", "x").unwrap_err().contains("mark the table"));
    }
}
