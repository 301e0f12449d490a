//! From the list of entries to settings, or to the text somebody asked for. [`load`] is the front door.

use std::ffi::OsString;

use crate::draft::{Asked, Draft};
use crate::engines;
use crate::error::ConfigError;
use crate::help;
use crate::options::{self, Found, Given, InformationKind, OptionDef, Role, SourceKind};
use crate::print;
use crate::settings::Settings;
use crate::sources::{self, Entry, Gathered};
use crate::values;
use crate::world::{PathKind, World};

/// What the configuration asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Action {
    /// Start the server.
    Run,
    /// Print the help.
    Help(String),
    /// Print the version.
    Version(String),
    /// Say that the configuration is good: it has been checked.
    Check(String),
    /// Print the effective configuration.
    PrintConfig(String),
    /// Print the table of engines.
    LoopList(String),
    /// Print the values asked for with `--get`.
    Get(String),
}

impl Action {
    /// The text to print before leaving with code 0, newline included; `None` means: start.
    pub fn text(&self) -> Option<&str> {
        match self {
            Self::Run => None,
            Self::Help(text)
            | Self::Version(text)
            | Self::Check(text)
            | Self::PrintConfig(text)
            | Self::LoopList(text)
            | Self::Get(text) => Some(text),
        }
    }
}

/// A configuration that was read and, for [`Action::Run`] and [`Action::Check`], found good.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// What to do.
    pub action: Action,
    /// The settings. Only complete for [`Action::Run`] and [`Action::Check`].
    pub settings: Settings,
    /// Every entry of every source, in the order of their effect.
    pub entries: Vec<Entry>,
    /// Lines for the log at start.
    pub notices: Vec<String>,
}

/// Reads the whole configuration: environment, command line (`args`, without the program's name), files.
///
/// # Errors
/// [`ConfigError`], with everything that could be found wrong in one pass; print it and exit with code 1.
pub fn load(args: &[OsString], world: &dyn World) -> Result<Loaded, ConfigError> {
    // A service manager that has opened sockets (`sd_listen_fds(3)`): which, the master finds out.
    resolve(args, world, world.variable("LISTEN_FDS").is_some())
}

/// Like [`load`], for a process that has its listening sockets already: a configuration that names none is complete.
///
/// # Errors
/// As for [`load`].
pub fn load_inheriting(args: &[OsString], world: &dyn World) -> Result<Loaded, ConfigError> {
    resolve(args, world, true)
}

fn resolve(args: &[OsString], world: &dyn World, has_listeners: bool) -> Result<Loaded, ConfigError> {
    let gathered = sources::gather(args, world)?;
    if let Some(action) = text_without_settings(&gathered.entries)? {
        let settings = Settings::default();
        return Ok(Loaded { action, settings, entries: gathered.entries, notices: gathered.notices });
    }
    let Gathered { entries, referenced, mut notices } = gathered;
    let mut errors = Vec::new();
    let mut draft = Draft::new(world);
    draft.has_listeners = has_listeners;
    for entry in &entries {
        apply(entry, referenced.contains(&entry.name), &mut draft, &mut notices, &mut errors);
    }
    let (mut settings, unfit, without_effect) = draft.finish();
    notices.extend(without_effect);
    settings.given = entries
        .iter()
        .map(|entry| {
            (entry.name.clone(), (!entry.value.is_empty()).then(|| entry.value.clone().into_bytes()))
        })
        .collect();
    let asked = |kind| asks_for(&entries, kind);
    if settings.master && !asked(InformationKind::PrintConfig) {
        errors.extend(entries.iter().filter_map(|entry| read_only_once(entry, world)));
    }
    // What is missing may only be missing because what stands there was refused; and a configuration that
    // is to be shown need not be whole.
    let keep_missing = errors.is_empty() && !asked(InformationKind::PrintConfig);
    errors.extend(
        unfit.into_iter().filter(|error| keep_missing || !matches!(error, ConfigError::Missing { .. })),
    );
    if let Some(error) = ConfigError::from_list(errors) {
        return Err(error);
    }
    let action = if asked(InformationKind::PrintConfig) {
        Action::PrintConfig(print::print_config(&entries))
    } else if asked(InformationKind::Check) {
        Action::Check("configuration OK\n".to_owned())
    } else {
        if asked(InformationKind::ShowConfig) {
            notices.extend(print::print_config(&entries).lines().map(str::to_owned));
        }
        Action::Run
    };
    Ok(Loaded { action, settings, entries, notices })
}

/// The texts that need no good configuration.
fn text_without_settings(entries: &[Entry]) -> Result<Option<Action>, ConfigError> {
    for entry in entries {
        let Some(kind) = information(entry) else {
            continue;
        };
        if values::is_off(&entry.value) {
            continue;
        }
        match kind {
            InformationKind::Help => {
                return help::help(&entry.value).map(Action::Help).map(Some).ok_or_else(|| {
                    let remedy = match options::nearest(&entry.value) {
                        Some(nearest) => format!("did you mean {nearest}?"),
                        None => format!("categories are: {}", help::category_words()),
                    };
                    ConfigError::bad_value(&given(entry), "neither a category nor an option", remedy)
                });
            }
            InformationKind::Version => {
                return Ok(Some(Action::Version(format!("{}\n", env!("CARGO_PKG_VERSION")))));
            }
            InformationKind::EnginesJson => return Ok(Some(Action::LoopList(engines::engines_json()))),
            InformationKind::LoopList => return Ok(Some(Action::LoopList(engines::loop_list()))),
            InformationKind::Get
            | InformationKind::Check
            | InformationKind::PrintConfig
            | InformationKind::ShowConfig => {}
        }
    }
    let mut wanted =
        entries.iter().filter(|entry| information(entry) == Some(InformationKind::Get)).peekable();
    if wanted.peek().is_none() {
        return Ok(None);
    }
    let mut text = String::new();
    for entry in wanted {
        let first = entries.iter().find(|other| other.name == entry.value);
        if let Some(first) = first {
            text.push_str(&first.value);
            text.push('\n');
        }
    }
    Ok(Some(Action::Get(text)))
}

fn information(entry: &Entry) -> Option<InformationKind> {
    match entry.found {
        Some(Found::Option(OptionDef { role: Role::Information(kind), .. })) => Some(*kind),
        _ => None,
    }
}

fn asks_for(entries: &[Entry], kind: InformationKind) -> bool {
    entries.iter().any(|entry| information(entry) == Some(kind) && values::flag(&entry.value))
}

fn apply(
    entry: &Entry,
    referenced: bool,
    draft: &mut Draft<'_>,
    notices: &mut Vec<String>,
    errors: &mut Vec<ConfigError>,
) {
    let origin = entry.origin.clone();
    let option = match entry.found {
        Some(Found::Option(option)) => option,
        Some(Found::Elsewhere(_)) if entry.placeholder || values::is_off(&entry.value) => return,
        Some(Found::Elsewhere(group)) => {
            errors.push(not_available(entry, group));
            return;
        }
        None if entry.placeholder => return,
        None if entry.strict && referenced => {
            errors.push(ConfigError::source(
                &origin,
                format!("[strict-mode] unknown config directive: {}", entry.name),
                format!("if it is meant as a placeholder, write \"set-placeholder = {}=...\"", entry.name),
            ));
            return;
        }
        // What nobody refers to is a mistake, wherever it stands.
        None if referenced => return,
        None => {
            errors.push(match options::elsewhere_by_start(&entry.name) {
                Some(_) if values::is_off(&entry.value) => return,
                Some(group) => not_available(entry, group),
                None => ConfigError::UnknownOption {
                    name: entry.name.clone(),
                    origin,
                    nearest: options::nearest(&entry.name).map(str::to_owned),
                },
            });
            return;
        }
    };
    if matches!(option.role, Role::Setting(_) | Role::Switch(_)) {
        draft.last.insert(option.name, Asked::new((), &given(entry)));
    }
    match option.role {
        Role::Setting(set) => {
            if let Err(refusal) = set(draft, &given(entry)) {
                errors.push(if refusal.unavailable {
                    ConfigError::not_available(&entry.name, &origin, refusal.reason, refusal.remedy)
                } else {
                    ConfigError::bad_value(&given(entry), refusal.reason, refusal.remedy)
                });
            }
        }
        Role::Switch(switch) => {
            switch(draft, values::flag(&entry.value), &given(entry));
        }
        Role::NothingButSaid if !values::is_off(&entry.value) => {
            notices.push(format!("{origin}: \"{}\" has no effect: {}", entry.name, option.help));
        }
        Role::Information(_)
        | Role::NothingButSaid
        | Role::Nothing
        | Role::Source(_)
        | Role::Block(_)
        | Role::EndBlock => {}
    }
}

/// Refuses standard input and pipes where processes that start later read the configuration again.
fn read_only_once(entry: &Entry, world: &dyn World) -> Option<ConfigError> {
    let Some(Found::Option(OptionDef { role: Role::Source(kind), .. })) = entry.found else { return None };
    if !matches!(kind, SourceKind::Ini | SourceKind::ByExtension | SourceKind::Inherit) {
        return None;
    }
    let path = entry.value.split(':').next().unwrap_or_default();
    let once = path == "-" || world.kind(path) == Some(PathKind::Other);
    once.then(|| {
        ConfigError::bad_value(
            &given(entry),
            "this can be read only once, and each generation of workers reads the configuration again",
            "write it to a file and name that, or serve without a master (--master=false)",
        )
    })
}

fn not_available(entry: &Entry, group: &options::Elsewhere) -> ConfigError {
    ConfigError::not_available(&entry.name, &entry.origin, group.reason, group.remedy)
}

fn given(entry: &Entry) -> Given<'_> {
    Given { name: &entry.name, value: &entry.value, origin: &entry.origin }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engines::{Engine, LoopEngine, SuspendEngine};
    use crate::origin::Origin;
    use crate::settings::{Address, Protocol};
    use crate::world::fake::FakeWorld;
    use proptest::prelude::*;

    const APP: &str = "--http-socket=127.0.0.1:0 -w shop";

    fn with(world: &FakeWorld, line: &str) -> Result<Loaded, ConfigError> {
        let args: Vec<OsString> = line.split_whitespace().map(Into::into).collect();
        load(&args, world)
    }

    fn settings(line: &str) -> Settings {
        with(&FakeWorld::default(), &format!("{APP} {line}")).unwrap().settings
    }

    fn refused(line: &str) -> String {
        with(&FakeWorld::default(), &format!("{APP} {line}")).unwrap_err().to_string()
    }

    #[test]
    fn the_seeds_command_line() {
        let loaded =
            with(&FakeWorld::default(), "--socket :3031 -w tests.cpubound_async --async 10").unwrap();
        let settings = loaded.settings;
        assert_eq!(loaded.action, Action::Run);
        assert_eq!(settings.listeners[0].address, Address::Tcp { host: "0.0.0.0".to_owned(), port: 3031 });
        assert_eq!(settings.listeners[0].protocol, Protocol::Uwsgi);
        assert_eq!(settings.python.module.as_deref(), Some("tests.cpubound_async"));
        assert_eq!((settings.cores, settings.async_mode), (10, true));
        assert_eq!(settings.engine, Engine { loop_engine: LoopEngine::Native, suspend: SuspendEngine::None });
    }

    #[test]
    fn defaults() {
        let settings = settings("");
        assert_eq!((settings.cores, settings.async_mode, settings.processes), (1, false, 1));
        assert!(settings.master && settings.need_app && settings.limits.coalesce && settings.vacuum);
        assert_eq!(settings.limits.head_bytes, 16_384);
    }

    #[test]
    fn async_of_one_and_of_none() {
        assert!(settings("--async 1").async_mode);
        assert!(!settings("--async 0").async_mode);
        assert_eq!(settings("--async 0").cores, 1);
    }

    #[test]
    fn the_last_value_wins_and_positional_files_come_last() {
        let world =
            FakeWorld::default().file("x.ini", "[uwsgi]\nprocesses = 4\n").variable("UWSGI_PROCESSES", "7");
        let processes = |line: &str| with(&world, &format!("{APP} {line}")).unwrap().settings.processes;
        assert_eq!(processes(""), 7);
        assert_eq!(processes("--processes 2 --ini x.ini"), 4);
        assert_eq!(processes("--ini x.ini --processes 2"), 2);
        assert_eq!(processes("x.ini --processes 2"), 4);
    }

    #[test]
    fn environment() {
        let world = FakeWorld::default()
            .variable("UWSGI_PROCESSES", "2")
            .variable("GREENLOOM_PROCESSES", "3")
            .variable("UWSGI_VERSION", "2.0.31")
            .variable("UWSGI_SOMETHING", "x")
            .variable("GREENLOOM__PRIVATE", "x")
            .variable("GREENLOOM_PORT_80_TCP_ADDR", "10.0.0.1")
            .variable("GREENLOOM_SERVICE_HOST", "10.0.0.1")
            .variable("UWSGI_RELOADS", "1");
        let loaded = with(&world, APP).unwrap();
        assert_eq!(loaded.settings.processes, 3);
        assert_eq!(loaded.action, Action::Run);
        let world = FakeWorld::default().variable("GREENLOOM_PROCESES", "3");
        let error = with(&world, APP).unwrap_err().to_string();
        assert!(error.contains("GREENLOOM_PROCESES") && error.contains("processes"), "{error}");
        let world = FakeWorld::default().variable("UWSGI_CHEAPER", "3");
        assert_eq!(with(&world, APP).unwrap_err().option(), Some("cheaper"));
    }

    #[test]
    fn a_file_named_by_the_environment() {
        let world = FakeWorld::default()
            .file("site.ini", "[uwsgi]\nprocesses = 4\nasync = 3\n")
            .variable("UWSGI_INI", "site.ini");
        let settings = with(&world, &format!("{APP} -p 2")).unwrap().settings;
        assert_eq!((settings.processes, settings.cores), (2, 3));
    }

    #[test]
    fn unknown_names_in_files() {
        let world = FakeWorld::default()
            .file("typo.ini", "[uwsgi]\nmaster = true\nproceses = 2\n")
            .file("placeholder.ini", "[uwsgi]\nbase = /srv\nchdir = %(base)/shop\n")
            .file("strict.ini", "[uwsgi]\nstrict = true\nbase = /srv\nchdir = %(base)/shop\n")
            .file("router.ini", "[uwsgi]\nhttp-port = 80\nset-ph = a=%(http-port)\n");
        let error = with(&world, &format!("{APP} typo.ini")).unwrap_err().to_string();
        assert!(
            error.starts_with("typo.ini:3: unknown option \"proceses\"; did you mean \"processes\"?"),
            "{error}"
        );
        let loaded = with(&world, &format!("{APP} placeholder.ini")).unwrap();
        assert_eq!(loaded.settings.chdir.unwrap().to_str(), Some("/srv/shop"));
        assert_eq!(loaded.notices, ["[greenloom] getting INI configuration from placeholder.ini"]);
        let error = with(&world, &format!("{APP} strict.ini")).unwrap_err().to_string();
        assert!(error.contains("[strict-mode] unknown config directive: base"), "{error}");
        assert!(with(&world, &format!("{APP} router.ini")).is_ok());
    }

    #[test]
    fn placeholders_cannot_be_named_like_options() {
        assert!(refused("--set-ph socket=1").contains("you cannot use socket as a placeholder"));
        assert_eq!(settings("--set processes=3").processes, 3);
    }

    #[test]
    fn everything_wrong_is_said_at_once() {
        let world = FakeWorld::default()
            .file("x.ini", "[uwsgi]\ncheaper = 30\nprocesses = many\nstats-push = :9191\n");
        let error = with(&world, "x.ini").unwrap_err();
        let options: Vec<_> = error.parts().iter().filter_map(ConfigError::option).collect();
        assert_eq!(options, ["cheaper", "processes", "stats-push"]);
        assert_eq!(error.to_string().lines().count(), 3);
    }

    #[test]
    fn what_is_switched_off_anyway_is_accepted() {
        let world = FakeWorld::default()
            .file("x.ini", "[uwsgi]\nharakiri = 0\nlog-micros = false\nugreen = off\ncheaper = 0\n");
        assert!(with(&world, &format!("{APP} x.ini")).is_ok());
    }

    #[test]
    fn engines_that_are_not_built_are_refused_with_what_is() {
        for line in ["--async 10 --stackless", "--loop libev --async 2", "--coroae 1"] {
            let error = refused(line);
            assert!(error.contains("not in this version") && error.contains("--async N"), "{line}: {error}");
        }
        assert!(refused("--loop twisted").contains("unavailable loop engine"));
        assert!(refused("--async 2 --ugreen --greenlet").contains("choose one suspend engine"));
        assert!(refused("--asyncio 10 --ugreen").contains("does not go with"));
        assert!(settings("--loop async --async 3").async_mode);
    }

    #[test]
    fn suspend_engines_need_cores() {
        for (name, suspend) in [("ugreen", SuspendEngine::UGreen), ("greenlet", SuspendEngine::Greenlet)] {
            let settings = settings(&format!("--async 10 --{name} --plugin {name}"));
            assert_eq!(settings.engine, Engine { loop_engine: LoopEngine::Native, suspend });
            let error = refused(&format!("--{name}"));
            assert!(error.contains("requires async mode") && error.contains("add async = N"), "{error}");
            assert!(refused(&format!("--async 0 --{name}")).contains("requires async mode"));
        }
        assert!(settings("--ugreen=false").engine.suspend == SuspendEngine::None);
    }

    #[test]
    fn gevent_brings_its_own_green_threads() {
        use crate::settings::{GeventSettings, Patching};
        let of = |line: &str| settings(line).python.gevent;
        let engine = settings("--gevent 1 --plugins python,gevent").engine;
        assert_eq!(engine, Engine { loop_engine: LoopEngine::Gevent, suspend: SuspendEngine::Own });
        assert_eq!(settings("--gevent 100").cores, 100);
        assert_eq!(settings("--loop gevent --async 7").engine, engine);
        assert_eq!(of("--gevent 2"), GeventSettings { patching: None, wait_for_hub: false });
        for name in ["gevent-monkey-patch", "gevent-early-monkey-patch"] {
            assert_eq!(of(&format!("--gevent 2 --{name}")).patching, Some(Patching::BeforeLoading), "{name}");
        }
        let late = of("--gevent 2 --gevent-late-monkey-patch --gevent-wait-for-hub");
        assert_eq!(late, GeventSettings { patching: Some(Patching::BeforeServing), wait_for_hub: true });
        assert_eq!(of("--gevent 2 --gevent-monkey-patch --gevent-monkey-patch=false").patching, None);
        for other in ["--greenlet", "--ugreen"] {
            assert!(refused(&format!("--gevent 2 {other}")).contains("does not go with"), "{other}");
        }
        assert!(refused("--gevent 2 --threads 2").contains("exclude each other"));
        assert!(refused("--loop gevent").contains("the gevent loop engine requires async mode"));
    }

    #[test]
    fn loops_of_asyncio_come_with_greenlets() {
        let of = |line: &str| {
            let engine = settings(line).engine;
            assert_eq!(engine.suspend, SuspendEngine::Greenlet, "{line}");
            engine.loop_engine
        };
        for line in
            ["--asyncio 2", "--asyncio 2 --greenlet", "--loop asyncio --async 2 --plugin asyncio,greenlet"]
        {
            assert_eq!(of(line), LoopEngine::Asyncio, "{line}");
        }
        assert_eq!(of("--asyncio-loop asyncio --asyncio 2"), LoopEngine::Asyncio);
        assert_eq!(of("--asyncio-loop uvloop --asyncio 2"), LoopEngine::Uvloop);
        assert_eq!(of("--loop uvloop --async 2 --greenlet"), LoopEngine::Uvloop);
        assert_eq!(of("--tornado 2 --plugins tornado"), LoopEngine::Tornado);
        assert_eq!(settings("--tornado 7").cores, 7);
        assert!(refused("--asyncio 2 --asyncio-loop trio").contains("write asyncio or uvloop"));
        assert!(refused("--asyncio 2 --threads 2").contains("exclude each other"));
        let loaded = with(&FakeWorld::default(), &format!("{APP} --async 2 --asyncio-loop uvloop")).unwrap();
        assert!(
            loaded.notices.iter().any(|notice| notice.contains("belongs to asyncio")),
            "{:?}",
            loaded.notices
        );
    }

    #[test]
    fn code_that_blocks_is_named_under_loop_engines() {
        let of = |line: &str| settings(line).python.block_warning_ms;
        assert_eq!((of(""), of("--async 2 --greenlet"), of("--gevent 2")), (0, 0, 100));
        assert_eq!((of("--block-warning 0.25"), of("--gevent 2 --block-warning 0")), (250, 0));
        assert!(refused("--block-warning soon").contains("block-warning"));
    }

    #[test]
    fn options_of_gevent_have_no_effect_without_it() {
        let loaded = with(&FakeWorld::default(), &format!("{APP} --async 2 --gevent-monkey-patch")).unwrap();
        assert!(
            loaded.notices.iter().any(|notice| notice.contains("belongs to gevent")),
            "{:?}",
            loaded.notices
        );
    }

    #[test]
    fn stacks_are_given_in_pages_of_the_system() {
        assert_eq!(settings("").ugreen_stack_bytes, 8 << 20);
        let bytes = |world: &FakeWorld, pages: u32| {
            let line = format!("{APP} --ugreen-stacksize {pages}");
            with(world, &line).map(|loaded| loaded.settings.ugreen_stack_bytes)
        };
        let pages_of_4k = FakeWorld::default();
        assert_eq!(bytes(&pages_of_4k, 128).unwrap(), 512 << 10);
        assert_eq!(bytes(&pages_of_4k, 24).unwrap(), 96 << 10);
        let error = bytes(&pages_of_4k, 23).unwrap_err().to_string();
        assert!(error.contains("92 KiB is too small") && error.contains("write 24 or more"), "{error}");
        for pages in [0, 262_145] {
            let error = bytes(&pages_of_4k, pages).unwrap_err().to_string();
            assert!(error.contains("from 24 to 262144"), "{error}");
        }
        // AT_PAGESZ in the auxiliary vector, between two other entries.
        let words = [33_usize, 7, 6, 65_536, 0, 0];
        let vector: Vec<u8> = words.iter().flat_map(|word| word.to_ne_bytes()).collect();
        let mut pages_of_64k = FakeWorld::default();
        pages_of_64k.files.insert("/proc/self/auxv".to_owned(), vector);
        assert_eq!(bytes(&pages_of_64k, 2).unwrap(), 128 << 10);
        assert!(bytes(&pages_of_64k, 1).unwrap_err().to_string().contains("write 2 or more"));
    }

    #[test]
    fn a_stack_size_without_stacks_is_accepted_and_said() {
        let loaded = with(&FakeWorld::default(), &format!("{APP} --async 2 --ugreen-stacksize 256")).unwrap();
        assert_eq!(loaded.notices.len(), 1);
        assert!(loaded.notices[0].contains("\"ugreen-stacksize\" has no effect"), "{:?}", loaded.notices);
        let line = format!("{APP} --async 2 --ugreen --ugreen-stacksize 256");
        assert!(with(&FakeWorld::default(), &line).unwrap().notices.is_empty());
    }

    #[test]
    fn chunks_of_frames_that_are_kept() {
        let chunks = |line: &str| settings(line).python.chunk_cache;
        assert_eq!((chunks(""), chunks("--chunk-cache 0"), chunks("--chunk-cache 5000")), (256, 0, 5000));
        assert!(refused("--chunk-cache -1").contains("whole number"));
    }

    #[test]
    fn threads_are_refused_with_what_to_write() {
        assert!(refused("--threads 4").contains("processes = N"));
        assert!(refused("--threads 4 --async 10").contains("exclude each other"));
        assert_eq!(settings("--threads 1").cores, 1);
    }

    #[test]
    fn deadlines_by_prefix() {
        let timeouts = |line: &str| settings(line).limits.request_timeouts;
        assert_eq!(timeouts(""), []);
        assert_eq!(timeouts("--request-timeout 30"), [(String::new(), 30_000)]);
        assert_eq!(
            timeouts("--request-timeout /=0.5 --request-timeout /events/=0 --request-timeout /a=b=250ms"),
            [(String::new(), 500), ("/events".to_owned(), 0), ("/a=b".to_owned(), 250)]
        );
        for (line, reason) in [
            ("--request-timeout soon", "not a time"),
            ("--request-timeout /events", "not a time"),
            ("--request-timeout /events=", "not a time"),
            ("--request-timeout events=5", "not a path prefix"),
            ("--request-timeout =5", "not a path prefix"),
            ("--request-timeout 5 --request-timeout /=6", "a deadline already"),
            ("--request-timeout /a=5 --request-timeout /a/=5", "a deadline already"),
        ] {
            let error = refused(line);
            assert!(error.contains(reason) && error.contains("request-timeout"), "{line}: {error}");
        }
    }

    #[test]
    fn what_does_not_go_together() {
        assert!(refused("--processes 2 --master=false").contains("without a master"));
        let engineless = refused("--body-early /up --async 5");
        assert!(
            engineless.contains("needs a suspend engine") && engineless.contains("ugreen"),
            "{engineless}"
        );
        assert!(refused("--http-socket :80 --socket :80").contains("listener on this address already"));
        assert!(refused("--mount /a=x --mount /a/=y").contains("mounted already"));
        assert!(refused("--head-timeout 0").contains("cannot be switched off"));
    }

    #[test]
    fn what_is_missing() {
        let world = FakeWorld::default();
        let error = with(&world, "-w shop").unwrap_err().to_string();
        assert!(error.contains("nothing to listen on") && error.contains("--http-socket"), "{error}");
        let error = with(&world, "--http-socket :0").unwrap_err().to_string();
        assert!(error.contains("no application") && error.contains("--module"), "{error}");
        assert!(with(&world, "--http-socket :0 --no-need-app").is_ok());
    }

    #[test]
    fn limits() {
        let limits =
            settings("-b 64k -v 100 --limit-post 10m --head-timeout 2.5 -z 1m --keep-alive-timeout 0").limits;
        assert_eq!((limits.head_bytes, limits.max_vars), (65_535, 200));
        assert_eq!((limits.limit_post, limits.head_timeout_ms), (10 << 20, 2500));
        assert_eq!((limits.socket_timeout_ms, limits.keep_alive_ms), (60_000, 0));
        assert_eq!(settings("--http-keepalive").limits.keep_alive_ms, 75_000);
        assert_eq!(settings("--http-keepalive=20").limits.keep_alive_ms, 20_000);
    }

    #[test]
    fn backlog_above_the_kernels_limit() {
        let world = FakeWorld::default().file("/proc/sys/net/core/somaxconn", "128\n");
        let error = with(&world, &format!("{APP} -l 1024")).unwrap_err().to_string();
        assert!(error.contains("net.core.somaxconn (128)"), "{error}");
        assert!(with(&world, &format!("{APP} -l 128")).is_ok());
    }

    #[test]
    fn sockets_take_the_protocol_that_is_set_in_the_end() {
        let settings = settings("--socket :1 --uwsgi-socket :2 --protocol http");
        let protocols: Vec<_> = settings.listeners.iter().map(|listener| listener.protocol).collect();
        assert_eq!(protocols, [Protocol::Http, Protocol::Http, Protocol::Uwsgi]);
        assert_eq!(settings.listeners[1].origin, Origin::CommandLine { index: 4 });
    }

    #[test]
    fn python_settings() {
        let world = FakeWorld::default().file("/opt/libs/a/x.py", "").file("/opt/libs/b/x.py", "");
        let loaded = with(
            &world,
            "--http :0 shop.py --pp /opt/libs/* --pp . -H /venv --mount /api/=api:app --plugins 0:python3,http --env A=b=c",
        );
        let settings = loaded.unwrap().settings;
        let python = &settings.python;
        assert_eq!(python.wsgi_file.as_deref().unwrap().to_str(), Some("shop.py"));
        let paths: Vec<_> = python.pythonpath.iter().map(|path| path.to_str().unwrap()).collect();
        assert_eq!(paths, ["/opt/libs/a", "/opt/libs/b", "."]);
        assert_eq!((python.mounts[0].prefix.as_str(), python.mounts[0].app.as_str()), ("/api", "api:app"));
        assert_eq!(settings.plugins, ["python3", "http"]);
        assert_eq!(settings.env, [("A".to_owned(), "b=c".to_owned())]);
        assert!(refused("--plugin php").contains("no part \"php\""));
        assert!(refused("-w ./shop.py:app").contains("wsgi-file"));
    }

    #[test]
    fn standard_input_is_refused_where_it_would_be_read_again() {
        let world = FakeWorld::default().file("-", "[uwsgi]\nprocesses = 2\n");
        let error = with(&world, &format!("{APP} --ini -")).unwrap_err().to_string();
        assert!(error.contains("only once") && error.contains("--master=false"), "{error}");
        assert!(with(&world, &format!("{APP} --ini - --check")).is_err());
        assert!(with(&world, &format!("{APP} --ini -:uwsgi")).is_err());
        assert!(with(&world, &format!("{APP} --ini - --master=false -p 1")).is_ok());
        assert!(with(&world, &format!("{APP} --ini - --print-config")).is_ok());
    }

    #[test]
    fn texts() {
        let world = FakeWorld::default().file("x.ini", "[uwsgi]\nbase = 1\nset-ph = k=%(base)\n");
        let text = |line: &str| with(&world, line).unwrap().action;
        assert!(matches!(text("--version"), Action::Version(version) if version.ends_with('\n')));
        assert!(matches!(text("--loop-list"), Action::LoopList(list) if list.contains("ugreen")));
        assert!(
            matches!(text("--engines-json"), Action::LoopList(json) if json.starts_with("[{\"loop\":\"native\""))
        );
        assert!(matches!(text("--help"), Action::Help(help) if help.contains("--http-socket")));
        assert!(
            matches!(text("--help engines"), Action::Help(help) if help.contains("--async") && !help.contains("--chdir"))
        );
        assert!(matches!(text("--help chdir"), Action::Help(help) if help.contains("DIRECTORY")));
        assert!(with(&world, "--help proceses").unwrap_err().to_string().contains("processes"));
        assert_eq!(text("x.ini --get base --get none"), Action::Get("1\n".to_owned()));
        assert_eq!(text(&format!("{APP} --check")), Action::Check("configuration OK\n".to_owned()));
        assert!(with(&world, "--check").is_err());
        assert!(matches!(text("--print-config"), Action::PrintConfig(_)));
        let loaded = with(&world, &format!("{APP} --show-config")).unwrap();
        assert!(loaded.action == Action::Run && loaded.notices.iter().any(|line| line == "module = shop"));
    }

    #[test]
    fn listeners_may_come_along() {
        let none = ["--module".into(), "shop".into()];
        let world = FakeWorld::default();
        assert!(load(&none, &world).unwrap_err().to_string().contains("nothing to listen on"));
        assert!(load_inheriting(&none, &world).unwrap().settings.listeners.is_empty());
        let activated = world.variable("LISTEN_FDS", "1");
        assert!(load(&none, &activated).unwrap().settings.listeners.is_empty());
    }

    #[test]
    fn cosmetic_options_are_accepted_and_said() {
        let loaded = with(&FakeWorld::default(), &format!("{APP} --procname shop --enable-threads")).unwrap();
        assert_eq!(loaded.notices.len(), 1);
        assert!(loaded.notices[0].contains("\"procname\" has no effect"));
    }

    proptest! {
        #[test]
        fn no_value_of_any_option_panics(
            uses in proptest::collection::vec(
                (any::<proptest::sample::Index>(), "(/|:|@|file:|[0-9]{1,21}|-1|off|true|\\PC{0,6})[ =:.]?([0-9]{1,21}|[kmgsh]{1,2}|%|\\PC{0,6})"),
                1..5,
            )
        ) {
            let names: Vec<_> = options::all().flat_map(OptionDef::names).collect();
            let args: Vec<OsString> =
                uses.iter().map(|(name, value)| format!("--{}={value}", name.get(&names)).into()).collect();
            let _ = load(&args, &FakeWorld::default());
        }

        #[test]
        fn no_command_line_panics(
            args in proptest::collection::vec("-{0,2}([a-zC]|socket|mount|env|help|get|async|set|for|endfor|ini|x\\.ini|if-opt)?[=: ]?\\PC{0,8}", 0..6)
        ) {
            let args: Vec<OsString> = args.into_iter().map(Into::into).collect();
            let _ = load(&args, &FakeWorld::default().file("x.ini", "[uwsgi]\nprocesses = %(async + 1)\n"));
        }
    }
}
