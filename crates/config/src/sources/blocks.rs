//! `for` and `if` blocks: a body of entries, used once per item.

use super::{Gatherer, substitute};
use crate::error::ConfigError;
use crate::options::{self, BlockKind, Condition, Given};
use crate::origin::Origin;
use crate::values;
use crate::world::{self, PathKind};

/// More turns than this are a mistake in `for-times`.
const TIMES_MAX: u64 = 10_000;

/// A block whose end has not been seen.
#[derive(Debug)]
pub(super) struct OpenBlock {
    pub(super) origin: Origin,
    pub(super) body: Vec<(String, String, Origin)>,
    kind: BlockKind,
    name: String,
    value: String,
}

impl OpenBlock {
    pub(super) fn begin(kind: BlockKind, name: &str, value: String, origin: &Origin) -> Self {
        Self { origin: origin.clone(), body: Vec::new(), kind, name: name.to_owned(), value }
    }
}

impl Gatherer<'_> {
    /// Uses the body of the open block as often as it says.
    pub(super) fn end_block(&mut self) -> Result<(), ConfigError> {
        let Some(block) = self.block.take() else {
            return Ok(());
        };
        let items = self.items(&block)?;
        for item in items {
            for (name, value, origin) in &block.body {
                let value = value.replace("%(_)", &item);
                self.add(&name.replace("%(_)", &item), &value, origin)?;
            }
        }
        Ok(())
    }

    /// Refuses a block that is open where it cannot be.
    pub(super) fn close_block(&mut self, place: &str) -> Result<(), ConfigError> {
        match &self.block {
            None => Ok(()),
            Some(block) => Err(ConfigError::source(
                &block.origin,
                format!("the block begun with \"{}\" has no end in {place}", block.name),
                "add endfor, endif or end behind its last line",
            )),
        }
    }

    /// The values of `%(_)`, one per use of the body.
    fn items(&self, block: &OpenBlock) -> Result<Vec<String>, ConfigError> {
        let value = block.value.as_str();
        let bad = |reason: String, remedy: &str| {
            let given = Given { name: &block.name, value, origin: &block.origin };
            ConfigError::bad_value(&given, reason, remedy)
        };
        match block.kind {
            BlockKind::For => Ok(value.split_whitespace().map(str::to_owned).collect()),
            BlockKind::ForGlob => Ok(world::glob(self.world, value)),
            BlockKind::ForTimes => {
                let times = values::count(value, 0, TIMES_MAX)
                    .map_err(|refusal| bad(refusal.reason, &refusal.remedy))?;
                Ok((1..=times).map(|number| number.to_string()).collect())
            }
            BlockKind::ForReadline => {
                let bytes = self.world.read(value).map_err(|error| {
                    bad(format!("cannot read the file: {error}"), "check its path and permissions")
                })?;
                let text = String::from_utf8_lossy(&bytes).into_owned();
                Ok(text.lines().map(|line| line.trim_end().to_owned()).collect())
            }
            BlockKind::If(condition, wanted) => {
                let matched = self.matched(condition, value);
                Ok(match (matched, wanted) {
                    (Some(item), true) => vec![item],
                    (None, false) => vec![value.to_owned()],
                    _ => Vec::new(),
                })
            }
        }
    }

    /// What the condition matched; `None` when it does not hold.
    fn matched(&self, condition: Condition, value: &str) -> Option<String> {
        let kind = || self.world.kind(value);
        let path = |holds: bool| holds.then(|| value.to_owned());
        match condition {
            Condition::Env => {
                let (name, wanted) = name_and_value(value);
                self.world.variable(name).filter(|actual| wanted.is_none_or(|text| text == actual))
            }
            Condition::Opt => {
                let (name, wanted) = name_and_value(value);
                substitute::first_value(name, &self.entries)
                    .filter(|actual| wanted.is_none_or(|text| text == *actual))
                    .map(str::to_owned)
            }
            Condition::Exists => path(kind().is_some()),
            Condition::File => path(kind() == Some(PathKind::File)),
            Condition::Dir => path(kind() == Some(PathKind::Directory)),
            Condition::Hostname => path(self.world.hostname() == value),
            Condition::Plugin => path(options::is_part(value)),
            // A configuration is only ever read at a first start.
            Condition::Reload => None,
        }
    }
}

fn name_and_value(text: &str) -> (&str, Option<&str>) {
    match text.split_once('=') {
        Some((name, value)) => (name.trim(), Some(value.trim())),
        None => (text, None),
    }
}
