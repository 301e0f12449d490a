//! Options, their sources, and the table of engines: from what users write to validated [`Settings`].
//!
//! The front door is [`load`]. On the way: `sources` reads the environment, the command line and ini files into one
//! list of entries; `options` defines each option once; `resolve` applies the entries to a `draft`, which checks what
//! must go together; `help` and `print` make texts from the same list.
//!
//! This crate opens no socket, changes nothing in the process, prints nothing and does not check whether applications
//! exist: it says what was asked for. Only of files and scripts to be served it says, in a notice, which are not there. All reading goes through [`World`].

#![forbid(unsafe_code)]

mod draft;
mod engines;
mod error;
mod files;
#[doc(hidden)]
pub mod fuzz_entry;
mod help;
mod log_format;
mod operations;
mod options;
mod origin;
mod print;
mod resolve;
mod settings;
mod sources;
mod values;
mod world;

pub use engines::{
    Engine, LoopEngine, PAIRS, Pair, SuspendEngine, available_now, engines_json, engines_markdown, loop_list,
};
pub use error::ConfigError;
pub use help::options_markdown;
pub use log_format::{LogFormat, LogFormatError, LogItem, LogVariable};
pub use origin::Origin;
pub use print::print_config;
pub use regex::bytes::Regex;
pub use resolve::{Action, Loaded, load, load_inheriting};
pub use settings::{
    Address, CGI_MODIFIER, CgiMount, CgiSettings, ExpiresRule, ExpiresSubject, GeventSettings, HandOver,
    Interface, Limits, ListenerSpec, LogSettings, MasterSettings, Mount, Patching, Precompressed, Protocol,
    PythonSettings, Recycling, Settings, SignalSettings, StaticMap, StaticSettings, StatusSettings,
};
pub use sources::Entry;
pub use world::{PathKind, RealWorld, World};
