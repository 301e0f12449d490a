//! uwsgi signals through a real process tree: who runs which signal, through reloads and deaths; and files that are
//! watched.
//!
//! The server is `examples/toy_server.rs`. Waits are conditions with a deadline.
#![expect(clippy::tests_outside_test_module, reason = "the whole file is a test")]

#[expect(dead_code, reason = "other tests need more of it")]
mod harness;

use std::time::{Duration, Instant};

use harness::{Folder, Server, eventually, send_signal};

/// How often a worker has run a signal; without an id, any worker.
fn runs(server: &Server, id: Option<u32>, number: u8) -> usize {
    let line = id
        .map_or_else(|| format!(" runs signal {number} "), |id| format!("worker {id} runs signal {number} "));
    server.log().matches(&line).count()
}

/// How often the process has run a signal.
fn runs_by(server: &Server, pid: u32) -> usize {
    server
        .log()
        .lines()
        .filter(|line| line.contains("runs signal") && line.ends_with(&format!("(pid: {pid})")))
        .count()
}

/// Signals of a timer of 20 ms that run within a second. A second timer would make twice as many.
fn assert_one_timer(server: &Server, number: u8) {
    let (before, began) = (runs(server, None, number), Instant::now());
    eventually("a second", || began.elapsed() > Duration::from_secs(1));
    let (ticks, passed) = (runs(server, None, number) - before, began.elapsed());
    assert!(ticks > 0 && ticks as u128 <= passed.as_millis() / 20 * 3 / 2, "{ticks} ticks in {passed:?}");
}

#[test]
fn a_signal_runs_where_its_target_says() {
    let server = Server::start(&[
        "tcp=127.0.0.1:0",
        "processes=2",
        "handler=5:workers",
        "handler=6:worker2",
        "handler=7:",
        "handler=8:mule1",
    ]);
    server.wait_ready(1, 2);
    server.wait_for("[uwsgi-signal] signum 5 registered (wid: 0 modifier1: 0 target: workers)");
    server.wait_for("[uwsgi-signal] signum 7 registered (wid: 0 modifier1: 0 target: default, any worker)");
    server.wait_for(
        "[uwsgi-signal] the application of generation 1: signal target \"mule1\": greenloom has no mules",
    );
    for number in [5, 6, 7, 7, 9] {
        assert_eq!(server.ask(0, &format!("raise {number}")), "raised");
    }
    for (id, number, times) in [(Some(1), 5, 1), (Some(2), 5, 1), (Some(2), 6, 1), (None, 7, 2)] {
        eventually(&format!("{id:?} runs signal {number}"), || runs(&server, id, number) == times);
    }
    server.wait_for("signal 9 dropped (1 so far): no handler is registered for it");
    assert_eq!(server.stop("TERM"), 0);
    assert_eq!(server.log().matches("runs signal").count(), 5);
}

#[test]
fn a_reload_keeps_a_timer_single() {
    let server = Server::start(&["tcp=127.0.0.1:0", "handler=1:", "timer=1:20"]);
    server.wait_ready(1, 1);
    let old = server.workers()[0];
    eventually("the timer runs", || runs_by(&server, old) >= 5);
    send_signal(server.pid(), "HUP");
    server.wait_ready(2, 1);
    eventually("the old worker has left", || server.workers().len() == 1);
    let (new, by_old) = (server.workers()[0], runs_by(&server, old));
    eventually("the timer runs on", || runs_by(&server, new) >= 5);
    assert_one_timer(&server, 1);
    assert_eq!(runs_by(&server, old), by_old);
    assert_eq!(server.stop("TERM"), 0);
}

#[test]
fn workers_that_load_the_application_themselves_have_one_timer_together() {
    let server = Server::start(&[
        "tcp=127.0.0.1:0",
        "processes=3",
        "lazy-apps=true",
        "handler=1:worker3",
        "timer=1:20",
    ]);
    server.wait_ready(1, 3);
    assert_one_timer(&server, 1);
    // A worker that takes another's place changes nothing.
    send_signal(server.workers()[2], "KILL");
    server.wait_for("Respawned greenloom worker 3");
    let new = *server.workers().last().unwrap();
    eventually("the timer runs on", || runs_by(&server, new) >= 5);
    assert_one_timer(&server, 1);
    assert_eq!(server.log().matches("signum 1 registered").count(), 1);
    assert_eq!(server.stop("TERM"), 0);
    assert_eq!(runs(&server, None, 1), runs(&server, Some(3), 1));
}

#[test]
fn signals_that_a_dead_worker_has_not_taken_are_its_successors() {
    let folder = Folder::new("deaf");
    let deaf = folder.path("deaf");
    std::fs::write(&deaf, "").unwrap();
    let server =
        Server::start(&["tcp=127.0.0.1:0", "handler=1:worker1", "handler=2:", &format!("deaf={deaf}")]);
    server.wait_ready(1, 1);
    for _ in 0..100 {
        assert_eq!(server.ask(0, "raise 1"), "raised");
        assert_eq!(server.ask(0, "raise 2"), "raised");
    }
    // The last one has come to the master, so the others have, too. They are more than a process is given at once.
    assert_eq!(server.ask(0, "raise 9"), "raised");
    server.wait_for("signal 9 dropped");
    std::fs::remove_file(&deaf).unwrap();
    send_signal(server.workers()[0], "KILL");
    eventually("the successor runs them", || runs(&server, None, 1) >= 100 && runs(&server, None, 2) >= 100);
    assert_eq!(server.stop("TERM"), 0);
    assert_eq!((runs(&server, None, 1), runs(&server, None, 2)), (100, 100));
}

#[test]
fn a_reload_loses_no_signal() {
    let server = Server::start(&["tcp=127.0.0.1:0", "processes=2", "handler=1:"]);
    server.wait_ready(1, 2);
    let mut raised = 0;
    for generation in 2..5 {
        send_signal(server.pid(), "HUP");
        let ready = format!("greenloom is ready (generation {generation}, 2 workers)");
        while !server.log().contains(&ready) {
            assert_eq!(server.ask(0, "raise 1"), "raised");
            raised += 1;
        }
    }
    eventually(&format!("{raised} signals"), || runs(&server, None, 1) >= raised);
    assert_eq!(server.stop("TERM"), 0);
    assert_eq!(runs(&server, None, 1), raised);
}

#[test]
fn files_that_change_raise_signals_or_reload() {
    let folder = Folder::new("watched");
    let (watched, touched) = (folder.path("watched"), folder.path("touched"));
    std::fs::write(&watched, "1").unwrap();
    let server = Server::start(&[
        "tcp=127.0.0.1:0",
        "handler=1:",
        &format!("monitor=1:{watched}"),
        &format!("touch-reload={touched}"),
    ]);
    server.wait_ready(1, 1);
    std::fs::write(&watched, "22").unwrap();
    eventually("the change is a signal", || runs(&server, None, 1) == 1);
    std::fs::write(&touched, "").unwrap();
    server.wait_for(&format!("*** {touched} has been touched... grace them all !!! ***"));
    server.wait_ready(2, 1);
    eventually("the old worker has left", || server.workers().len() == 1);
    std::fs::write(&watched, "333").unwrap();
    eventually("the change is a signal for the new worker", || runs_by(&server, server.workers()[0]) == 1);
    assert_eq!(server.stop("TERM"), 0);
    assert_eq!(server.log().matches("has been touched").count(), 1);
    assert_eq!(runs(&server, None, 1), 2);
}
