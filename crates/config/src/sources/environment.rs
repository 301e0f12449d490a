//! Environment variables `UWSGI_FOO_BAR` and `GREENLOOM_FOO_BAR` for the option `foo-bar`.
//!
//! uWSGI's come first, so greenloom's win; each group is sorted by name, for the environment has no order.

use super::{Gatherer, shared};
use crate::error::ConfigError;
use crate::options::{self, Found, Role};
use crate::origin::Origin;

/// Variables that a uWSGI or a greenloom sets for its own children.
const INTERNAL: &[&str] = &[
    "UWSGI_RELOADS",
    "UWSGI_VASSALS_DIR",
    "UWSGI_EMPEROR_FD",
    "UWSGI_EMPEROR_FD_CONFIG",
    "UWSGI_EMPEROR_PROXY",
    "UWSGI_BROODLORD_NUM",
    "UWSGI_JAIL_PID",
    "UWSGI_ORIGINAL_PROC_NAME",
    "GREENLOOM_GENERATION",
];

/// Variables that begin so belong to greenloom's own processes, not to the user.
const OWN_START: &str = "GREENLOOM__";

pub(super) fn read(gatherer: &mut Gatherer<'_>) -> Result<(), ConfigError> {
    let mut variables = gatherer.world.variables();
    variables.sort();
    for start in ["UWSGI_", "GREENLOOM_"] {
        for (name, value) in &variables {
            let Some(rest) = name.strip_prefix(start) else {
                continue;
            };
            let internal = INTERNAL.contains(&name.as_str()) || name.starts_with(OWN_START);
            if rest.is_empty() || internal || is_service(rest) {
                continue;
            }
            let option = rest.to_lowercase().replace('_', "-");
            let origin = Origin::Environment { name: shared(name) };
            match options::find(&option) {
                // Images set UWSGI_VERSION to remember what they installed; nobody asks for help this way.
                Some(Found::Option(found)) if matches!(found.role, Role::Information(_)) => {
                    gatherer
                        .notices
                        .push(format!("{origin}: ignored, \"{option}\" works on the command line only"));
                }
                // A stray name of uWSGI's is no harm: the variable may belong to something else.
                None if start == "UWSGI_" && options::elsewhere_by_start(&option).is_none() => {
                    gatherer.push(&option, value, &origin, None)?;
                    if let Some(entry) = gatherer.entries.last_mut() {
                        entry.placeholder = true;
                    }
                }
                _ => gatherer.add(&option, value, &origin)?,
            }
        }
    }
    Ok(())
}

/// Kubernetes and Docker describe a service called "greenloom" or "uwsgi" with variables of these names.
fn is_service(rest: &str) -> bool {
    ["PORT", "SERVICE_HOST", "SERVICE_PORT"].contains(&rest)
        || rest.starts_with("PORT_")
        || rest.starts_with("SERVICE_PORT_")
}
