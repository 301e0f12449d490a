//! From the environment, the command line and files to one list of entries.
//!
//! Owns the order of sources, files within files, blocks and placeholders. What an entry's value means is none of
//! its business: `resolve` applies the list to the settings.

mod blocks;
mod command_line;
mod environment;
mod ini;
mod substitute;

use std::collections::HashSet;
use std::ffi::OsString;
use std::sync::Arc;

use crate::error::ConfigError;
use crate::options::{self, Found, Role, SourceKind};
use crate::origin::Origin;
use crate::values;
use crate::world::World;
use blocks::OpenBlock;
use ini::FileFacts;

/// Files within files within files: more than this is a circle.
const DEPTH_MAX: u32 = 32;
/// More entries than this come from a block gone wild.
const ENTRIES_MAX: usize = 100_000;

/// One option or placeholder with its value.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Name as it was written.
    pub name: String,
    /// Value, after all substitutions.
    pub value: String,
    /// Where it stands.
    pub origin: Origin,
    /// What the name stands for; `None` is a placeholder or a mistake.
    pub(crate) found: Option<Found>,
    /// Set with `set-placeholder`.
    pub(crate) placeholder: bool,
    /// `strict` stood before it.
    pub(crate) strict: bool,
}

/// Everything the sources hold.
#[derive(Debug)]
pub(crate) struct Gathered {
    pub(crate) entries: Vec<Entry>,
    /// Names that some `%(...)` or `if-opt` mentions.
    pub(crate) referenced: HashSet<String>,
    /// Lines for the log.
    pub(crate) notices: Vec<String>,
}

/// Reads all sources.
pub(crate) fn gather(args: &[OsString], world: &dyn World) -> Result<Gathered, ConfigError> {
    let mut gatherer = Gatherer::new(world);
    environment::read(&mut gatherer)?;
    let command_line = command_line::parse(args)?;
    for item in command_line {
        gatherer.add(&item.name, &item.value, &item.origin)?;
    }
    gatherer.close_block("the command line")?;
    gatherer.inherit()?;
    gatherer.substitute_all()?;
    Ok(Gathered { entries: gatherer.entries, referenced: gatherer.referenced, notices: gatherer.notices })
}

/// The list in the making.
#[derive(Debug)]
struct Gatherer<'w> {
    world: &'w dyn World,
    entries: Vec<Entry>,
    referenced: HashSet<String>,
    notices: Vec<String>,
    block: Option<OpenBlock>,
    declared: Vec<Declared>,
    strict: bool,
    depth: u32,
    first_file: Option<FileFacts>,
    last_ini: Option<String>,
    /// Entries of `inherit` seen so far, as indices, and how many of them have been read.
    inherits: Vec<usize>,
    inherited: usize,
}

/// An option made by `declare-option`.
#[derive(Clone, Debug)]
struct Declared {
    name: String,
    template: String,
}

impl<'w> Gatherer<'w> {
    fn new(world: &'w dyn World) -> Self {
        Self {
            world,
            entries: Vec::new(),
            referenced: HashSet::new(),
            notices: Vec::new(),
            block: None,
            declared: Vec::new(),
            strict: false,
            depth: 0,
            first_file: None,
            last_ini: None,
            inherits: Vec::new(),
            inherited: 0,
        }
    }

    /// Takes one name and value, in order.
    fn add(&mut self, name: &str, value: &str, origin: &Origin) -> Result<(), ConfigError> {
        substitute::references(value, &mut self.referenced);
        let found = options::find(name);
        let role = match found {
            Some(Found::Option(option)) => Some(option.role),
            Some(Found::Elsewhere(_)) | None => None,
        };
        if let Some(block) = &mut self.block {
            return match role {
                Some(Role::EndBlock) => self.end_block(),
                Some(Role::Block(_)) => Err(ConfigError::source(
                    origin,
                    format!("recursive logic in options is not supported (option = {name})"),
                    format!("end the block begun at {} first", block.origin),
                )),
                _ => {
                    block.body.push((name.to_owned(), value.to_owned(), origin.clone()));
                    Ok(())
                }
            };
        }
        match role {
            Some(Role::EndBlock) => Err(ConfigError::source(
                origin,
                format!("\"{name}\" without a block to end"),
                "remove it, or begin the block with for = ... or if-... = ...",
            )),
            Some(Role::Block(kind)) => {
                if kind == options::BlockKind::If(options::Condition::Opt, true)
                    || kind == options::BlockKind::If(options::Condition::Opt, false)
                {
                    let name = value.split('=').next().unwrap_or(value);
                    self.referenced.insert(name.trim().to_owned());
                }
                let value = self.substitute_now(value, origin)?;
                self.block = Some(OpenBlock::begin(kind, name, value, origin));
                Ok(())
            }
            Some(Role::Source(kind)) => {
                let value = self.substitute_now(value, origin)?;
                self.push(name, &value, origin, found)?;
                self.source(kind, &value, origin)
            }
            _ => match self.declared.iter().find(|declared| declared.name == name).cloned() {
                Some(declared) => self.expand_declared(&declared, value, origin),
                None => self.push(name, value, origin, found),
            },
        }
    }

    fn push(
        &mut self,
        name: &str,
        value: &str,
        origin: &Origin,
        found: Option<Found>,
    ) -> Result<(), ConfigError> {
        if self.entries.len() >= ENTRIES_MAX {
            return Err(ConfigError::source(
                origin,
                format!("more than {ENTRIES_MAX} entries"),
                "look for a block or an include that repeats too often",
            ));
        }
        self.entries.push(Entry {
            name: name.to_owned(),
            value: value.to_owned(),
            origin: origin.clone(),
            found,
            placeholder: false,
            strict: self.strict && matches!(origin, Origin::File { .. }),
        });
        Ok(())
    }

    fn source(&mut self, kind: SourceKind, value: &str, origin: &Origin) -> Result<(), ConfigError> {
        match kind {
            SourceKind::Ini => self.read_ini(value, origin),
            SourceKind::ByExtension => self.read_by_extension(value, origin),
            SourceKind::Inherit => {
                self.inherits.push(self.entries.len() - 1);
                Ok(())
            }
            SourceKind::Set => {
                let (name, value) = pair(value, origin)?;
                self.add(name, value, origin)
            }
            SourceKind::SetPlaceholder => self.set_placeholder(value, origin),
            SourceKind::Strict => {
                self.strict = values::flag(value);
                Ok(())
            }
            SourceKind::Declare => {
                let (name, template) = pair(value, origin)?;
                if options::find(name).is_some() {
                    return Err(ConfigError::source(
                        origin,
                        format!("there is an option \"{name}\" already"),
                        "choose another name",
                    ));
                }
                self.declared.push(Declared { name: name.to_owned(), template: template.to_owned() });
                Ok(())
            }
        }
    }

    fn set_placeholder(&mut self, value: &str, origin: &Origin) -> Result<(), ConfigError> {
        let (name, value) = pair(value, origin)?;
        if matches!(options::find(name), Some(Found::Option(_))) {
            return Err(ConfigError::source(
                origin,
                format!("you cannot use {name} as a placeholder, it is already available as an option"),
                "choose another name",
            ));
        }
        self.push(name, value, origin, None)?;
        if let Some(entry) = self.entries.last_mut() {
            entry.placeholder = true;
        }
        Ok(())
    }

    fn expand_declared(
        &mut self,
        declared: &Declared,
        value: &str,
        origin: &Origin,
    ) -> Result<(), ConfigError> {
        let words: Vec<&str> = value.split(' ').filter(|word| !word.is_empty()).collect();
        self.deeper(origin, |this| {
            for item in declared.template.split(';').filter(|item| !item.trim().is_empty()) {
                let (name, template) = pair(item, origin)?;
                let value = substitute::words(template, &words);
                this.add(name, &value, origin)?;
            }
            Ok(())
        })
    }

    /// Reads a file named with `include`, `inherit`, `config` or as a positional argument.
    fn read_by_extension(&mut self, value: &str, origin: &Origin) -> Result<(), ConfigError> {
        let path = value.split_once(':').map_or(value, |(path, _)| path);
        match path.rsplit_once('.').map(|(_, extension)| extension) {
            _ if path == "-" || path.is_empty() => self.read_ini(value, origin),
            Some("ini") => self.read_ini(value, origin),
            Some("xml" | "yaml" | "yml" | "json" | "js") => Err(other_format(value, origin)),
            _ => Err(ConfigError::source(
                origin,
                format!("unable to load configuration from {value}"),
                "configuration files are ini files: give it a name that ends with .ini, or use --ini",
            )),
        }
    }

    fn read_ini(&mut self, value: &str, origin: &Origin) -> Result<(), ConfigError> {
        self.deeper(origin, |this| ini::read(this, value, origin))
    }

    /// Runs something that may come back here, a bounded number of times.
    fn deeper(
        &mut self,
        origin: &Origin,
        run: impl FnOnce(&mut Self) -> Result<(), ConfigError>,
    ) -> Result<(), ConfigError> {
        if self.depth >= DEPTH_MAX {
            return Err(ConfigError::source(
                origin,
                format!("files or options within each other more than {DEPTH_MAX} deep"),
                "look for a file that includes itself, or an option declared by itself",
            ));
        }
        self.depth += 1;
        let result = run(self);
        self.depth -= 1;
        result
    }

    /// Reads what `inherit` names, after everything else; inherited files may inherit again.
    fn inherit(&mut self) -> Result<(), ConfigError> {
        while let Some(&index) = self.inherits.get(self.inherited) {
            self.inherited += 1;
            let entry = self.entries[index].clone();
            if self.inherited > DEPTH_MAX as usize {
                return Err(ConfigError::source(
                    &entry.origin,
                    format!("more than {DEPTH_MAX} inherited files"),
                    "look for a file that inherits itself",
                ));
            }
            self.read_by_extension(&entry.value, &entry.origin)?;
        }
        Ok(())
    }

    /// What can be substituted while the list is being built; the rest stays as it is.
    fn substitute_now(&self, value: &str, origin: &Origin) -> Result<String, ConfigError> {
        let value = substitute::variables(value, self.world);
        let value = substitute::resources(&value, self.world, origin)?;
        substitute::placeholders(&value, &self.entries, origin)
    }

    /// The three passes over the whole list, in their order.
    fn substitute_all(&mut self) -> Result<(), ConfigError> {
        for entry in &mut self.entries {
            entry.value = substitute::variables(&entry.value, self.world);
        }
        for entry in &mut self.entries {
            entry.value = substitute::resources(&entry.value, self.world, &entry.origin)?;
        }
        for index in 0..self.entries.len() {
            let entry = &self.entries[index];
            if entry.value.contains("%(") {
                let value = substitute::placeholders(&entry.value, &self.entries, &entry.origin)?;
                self.entries[index].value = value;
            }
        }
        Ok(())
    }
}

/// `name=value` of `set` and its like.
fn pair<'t>(text: &'t str, origin: &Origin) -> Result<(&'t str, &'t str), ConfigError> {
    match text.split_once('=') {
        Some((name, value)) if !name.trim().is_empty() => Ok((name.trim(), value.trim())),
        _ => Err(ConfigError::source(origin, format!("{text:?} is not NAME=VALUE"), "write NAME=VALUE")),
    }
}

fn other_format(value: &str, origin: &Origin) -> ConfigError {
    ConfigError::source(
        origin,
        format!("unable to load configuration from {value}: of configuration files only ini is read"),
        "write the same options as \"name = value\" below a line [uwsgi] in a file that ends with .ini",
    )
}

/// The name of a file as origins carry it.
fn shared(text: &str) -> Arc<str> {
    Arc::from(text)
}
