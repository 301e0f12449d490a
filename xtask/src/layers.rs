//! Who may depend on whom: the table of ARCHITECTURE.md, compared with `cargo metadata`.
//!
//! A new edge is a design decision: it is made here and in ARCHITECTURE.md, in one commit with its reason.

use std::path::Path;
use std::process::Command;

use serde_json::Value;

/// Each crate of the workspace with the crates of ours it may name in its manifest, whatever for.
const TABLE: [(&str, &[&str]); 10] = [
    ("greenloom-sys", &[]),
    ("greenloom-proto", &[]),
    ("greenloom-config", &[]),
    ("greenloom-reactor", &["greenloom-sys"]),
    ("greenloom-ugreen", &["greenloom-sys"]),
    ("greenloom-worker", &["greenloom-sys", "greenloom-proto", "greenloom-config", "greenloom-reactor"]),
    ("greenloom-master", &["greenloom-sys", "greenloom-proto", "greenloom-config", "greenloom-reactor"]),
    ("greenloom-cli", &["greenloom-config", "greenloom-master", "greenloom-worker"]),
    ("greenloom-python", &["greenloom-worker", "greenloom-cli", "greenloom-ugreen"]),
    ("xtask", &["greenloom-config"]),
];

/// The edges that the table does not allow, one sentence each.
///
/// # Errors
/// `cargo metadata` fails or answers something else than JSON.
pub(crate) fn check(root: &Path) -> Result<Vec<String>, String> {
    let output = Command::new("cargo")
        .args(["metadata", "--no-deps", "--format-version", "1", "--offline"])
        .current_dir(root)
        .output()
        .map_err(|error| format!("cargo metadata: {error}"))?;
    if !output.status.success() {
        return Err(format!("cargo metadata failed:\n{}", String::from_utf8_lossy(&output.stderr)));
    }
    let metadata: Value =
        serde_json::from_slice(&output.stdout).map_err(|error| format!("cargo metadata: {error}"))?;
    Ok(violations(&metadata))
}

fn violations(metadata: &Value) -> Vec<String> {
    let packages: Vec<(&str, Vec<&str>)> = members(metadata);
    let ours: Vec<&str> = packages.iter().map(|(name, _)| *name).collect();
    let mut found = Vec::new();
    for (name, dependencies) in &packages {
        let Some((_, allowed)) = TABLE.iter().find(|(known, _)| known == name) else {
            found.push(format!("crate {name} is not in the table of xtask/src/layers.rs: give it a place"));
            continue;
        };
        for dependency in dependencies.iter().filter(|dependency| ours.contains(dependency)) {
            if !allowed.contains(dependency) {
                let allowed = if allowed.is_empty() { "nothing of ours".into() } else { allowed.join(", ") };
                found.push(format!("{name} depends on {dependency}; it may depend on: {allowed}"));
            }
        }
    }
    found
}

/// Every package of the workspace with the names it depends on, of all kinds (normal, dev, build).
fn members(metadata: &Value) -> Vec<(&str, Vec<&str>)> {
    list(&metadata["packages"])
        .iter()
        .map(|package| {
            let edges = list(&package["dependencies"]);
            let names = edges.iter().filter_map(|edge| edge["name"].as_str()).collect();
            (package["name"].as_str().unwrap_or_default(), names)
        })
        .collect()
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map(Vec::as_slice).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_workspace_keeps_its_layers() {
        assert_eq!(check(&crate::repository::root()).unwrap(), Vec::<String>::new());
    }

    #[test]
    fn every_crate_of_the_table_is_in_the_workspace() {
        let manifest = std::fs::read_to_string(crate::repository::root().join("Cargo.toml")).unwrap();
        for (name, _) in TABLE.iter().filter(|(name, _)| *name != "xtask") {
            let folder = name.trim_start_matches("greenloom-");
            assert!(crate::repository::root().join("crates").join(folder).is_dir(), "{name}");
        }
        assert!(manifest.contains("\"crates/*\""));
    }

    #[test]
    fn a_forbidden_edge_is_named() {
        let metadata = json!({"packages": [
            {"name": "greenloom-proto", "dependencies": [{"name": "greenloom-sys"}, {"name": "memchr"}]},
            {"name": "greenloom-sys", "dependencies": []},
        ]});
        assert_eq!(
            violations(&metadata),
            ["greenloom-proto depends on greenloom-sys; it may depend on: nothing of ours"]
        );
    }

    #[test]
    fn a_dev_dependency_counts() {
        let metadata = json!({"packages": [
            {"name": "greenloom-reactor", "dependencies": [{"name": "greenloom-worker", "kind": "dev"}]},
            {"name": "greenloom-worker", "dependencies": []},
        ]});
        assert_eq!(violations(&metadata).len(), 1);
    }

    #[test]
    fn an_unknown_crate_asks_for_a_place() {
        let metadata = json!({"packages": [{"name": "greenloom-extra", "dependencies": []}]});
        assert!(violations(&metadata)[0].contains("give it a place"));
    }
}
