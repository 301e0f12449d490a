//! The first lines of the log: what starts, where, and within which limits. Texts as uWSGI's, for those who search
//! their logs for them.

use greenloom_config::Settings;
use greenloom_sys::{clock, limits};

use crate::log::say;
use crate::tree::Launch;

/// Prints the lines; the limit of open files is set before, see [`crate::open_files::adjust`].
pub fn print(version: &str, settings: &Settings, launch: &Launch) {
    let now = clock::ctime(clock::unix_seconds());
    say!("*** Starting greenloom {version} ({}bit) on [{now}] ***", usize::BITS);
    say!("os: Linux-{}", limits::kernel_release().unwrap_or_default());
    say!("nodename: {}", limits::host_name().unwrap_or_default());
    say!("machine: {}", std::env::consts::ARCH);
    if let Ok(cpus) = std::thread::available_parallelism() {
        say!("detected number of CPU cores: {cpus}");
    }
    if let Ok(directory) = std::env::current_dir() {
        say!("current working directory: {}", directory.display());
    }
    say!("detected binary path: {}", launch.program.display());
    if !settings.master {
        say!("*** WARNING: you are running greenloom without its master process manager ***");
    }
    if limits::is_root() && settings.master_process.uid.is_none_or(|uid| uid == 0) {
        say!(
            "*** WARNING: you are running greenloom as root: whoever takes over the application has the machine (use the --uid \
             flag) ***"
        );
    }
    say!("your processes number limit is {}", number(limits::processes()));
    say!("your memory page size is {} bytes", limits::page_size());
    let files = number(limits::open_files().soft);
    say!("detected max file descriptor number: {files}");
    if settings.async_mode {
        say!("- async cores set to {} - fd table size: {files}", settings.cores);
    }
    say!("your server socket listen backlog is limited to {} connections", settings.listen_backlog);
    let mercy_s = settings.limits.worker_reload_mercy_ms / 1000;
    say!("your mercy for graceful operations on workers is {mercy_s} seconds");
    say!("*** Operational MODE: {} ***", mode(settings));
}

fn mode(settings: &Settings) -> &'static str {
    match (settings.async_mode, settings.processes > 1) {
        (false, false) => "single process",
        (false, true) => "preforking",
        (true, false) => "async",
        (true, true) => "preforking+async",
    }
}

fn number(limit: Option<u64>) -> String {
    limit.map_or_else(|| String::from("unlimited"), |limit| limit.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mode_has_uwsgis_names() {
        let mut settings = Settings::default();
        assert_eq!(mode(&settings), "single process");
        settings.processes = 2;
        assert_eq!(mode(&settings), "preforking");
        settings.async_mode = true;
        assert_eq!(mode(&settings), "preforking+async");
        settings.processes = 1;
        assert_eq!(mode(&settings), "async");
    }
}
