//! The process tree as its users see it: real processes, real sockets, real posix signals.
//!
//! The server is `examples/toy_server.rs`. Waits are conditions with a deadline.
#![expect(clippy::tests_outside_test_module, reason = "the whole file is a test")]

mod harness;

use std::os::unix::fs::PermissionsExt as _;

use harness::{Folder, Server, eventually, parent_of, send_signal};

#[test]
fn two_workers_start_and_answer() {
    let server = Server::start(&["tcp=127.0.0.1:0", "processes=2"]);
    server.wait_ready(1, 2);
    let workers = server.workers();
    assert_eq!(workers.len(), 2);
    for number in 1..=20 {
        let who = server.who();
        assert!(workers.contains(&who.pid), "{who:?} is none of {workers:?}");
        assert!((1..=2).contains(&who.id));
        assert_eq!(who.request, number, "requests are counted for the instance");
    }
    assert_eq!(server.stop("TERM"), 0);
    assert!(server.log().contains("goodbye to greenloom."));
}

#[test]
fn every_kind_of_address_is_served() {
    let folder = Folder::new("addresses");
    let path = folder.path("app.sock");
    let name = format!("greenloom-test-{}", std::process::id());
    let server = Server::start(&[
        "tcp=[::1]:0",
        &format!("unix={path}"),
        &format!("abstract={name}"),
        "tcp=localhost:0",
    ]);
    server.wait_ready(1, 1);
    let log = server.log();
    assert!(log.contains("greenloom socket 0 bound to TCP6 address [::1]:"), "{log}");
    assert!(log.contains(&format!("greenloom socket 1 bound to UNIX address {path} fd ")), "{log}");
    assert!(log.contains(&format!("greenloom socket 2 bound to UNIX address @{name} fd ")), "{log}");
    for index in 0..4 {
        assert_eq!(server.ask(index, "who").split(' ').count(), 3);
    }
}

#[test]
fn a_listener_that_is_open_already_is_served() {
    let folder = Folder::new("inherited");
    let listener = std::os::unix::net::UnixListener::bind(folder.path("x.sock")).unwrap();
    let server = Server::start_with_listener(&["fd=10"], &listener, 10);
    server.wait_ready(1, 1);
    assert!(server.log().contains("greenloom socket 0 inherited UNIX address"), "{}", server.log());
    assert_eq!(server.ask(0, "who").split(' ').count(), 3);
    let server = Server::start(&["fd=77"]);
    assert_eq!(server.wait_exit(), 1);
    assert!(server.log().contains("the descriptor is not a listening socket"), "{}", server.log());
}

#[test]
fn a_killed_worker_is_replaced() {
    let server = Server::start(&["tcp=127.0.0.1:0"]);
    server.wait_ready(1, 1);
    let old = server.workers()[0];
    send_signal(old, "KILL");
    server.wait_for(&format!("DAMN ! worker 1 (pid: {old}) died, killed by signal 9 :( trying respawn ..."));
    server.wait_for("Respawned greenloom worker 1 (new pid: ");
    let new = server.who();
    assert_ne!(new.pid, old);
    assert_eq!(new.id, 1);
}

#[test]
fn a_terminated_worker_finishes_its_requests_and_is_replaced() {
    let server = Server::start(&["tcp=127.0.0.1:0"]);
    server.wait_ready(1, 1);
    let old = server.workers()[0];
    let held = server.hold();
    send_signal(old, "TERM");
    assert_eq!(held.finish(), "done");
    server.wait_for(&format!("worker 1 killed successfully (pid: {old})"));
    assert_ne!(server.who().pid, old);
}

#[test]
fn an_interrupt_means_nothing_to_workers_and_generations() {
    let server = Server::start(&["tcp=127.0.0.1:0"]);
    server.wait_ready(1, 1);
    let worker = server.workers()[0];
    let generation = parent_of(worker);
    for signal in ["INT", "HUP", "QUIT"] {
        send_signal(worker, signal);
        send_signal(generation, signal);
    }
    assert_eq!(server.who().pid, worker);
    assert_eq!(parent_of(worker), generation);
}

#[test]
fn a_killed_generation_is_replaced_while_its_workers_serve_on() {
    let server = Server::start(&["tcp=127.0.0.1:0", "processes=2"]);
    server.wait_ready(1, 2);
    let old = server.workers();
    let held = server.hold();
    send_signal(parent_of(old[0]), "KILL");
    while !server.log().contains("greenloom is ready (generation 2, 2 workers)") {
        server.who();
    }
    assert!(server.log().contains("died, killed by signal 9 :( its workers serve on"), "{}", server.log());
    assert_eq!(held.finish(), "done", "a request of the old generation is finished");
    eventually("the old workers have left", || old.iter().all(|pid| !harness::is_alive(*pid)));
    let new = server.who();
    assert!(!old.contains(&new.pid));
    send_signal(new.pid, "KILL");
    server.wait_for(&format!("Respawned greenloom worker {} (new pid: ", new.id));
    assert_eq!(server.stop("INT"), 0);
}

#[test]
fn a_generation_that_cannot_load_any_more_is_tried_again() {
    let folder = Folder::new("broken");
    let broken = folder.path("broken");
    let server = Server::start(&["tcp=127.0.0.1:0", &format!("fail-load={broken}")]);
    server.wait_ready(1, 1);
    let old = server.workers()[0];
    std::fs::write(&broken, "").unwrap();
    send_signal(parent_of(old), "KILL");
    server.wait_for("generations ended early in a row, the next one starts in ");
    assert_eq!(server.who().pid, old, "the old worker serves on");
    std::fs::remove_file(&broken).unwrap();
    eventually("a later generation serves", || server.who().pid != old);
    eventually("the old worker has left", || !harness::is_alive(old));
}

#[test]
fn nobody_outlives_a_killed_master() {
    for block in ["block=false", "block=true"] {
        let server = Server::start(&["tcp=127.0.0.1:0", "processes=2", block]);
        server.wait_ready(1, 2);
        let mut everybody = server.workers();
        everybody.push(parent_of(everybody[0]));
        assert_ne!(everybody[2], server.pid());
        send_signal(server.pid(), "KILL");
        eventually("all processes are gone", || everybody.iter().all(|pid| !harness::is_alive(*pid)));
    }
}

#[test]
fn an_endless_load_can_be_ended() {
    let folder = Folder::new("endless");
    let endless = folder.path("endless");
    std::fs::write(&endless, "").unwrap();
    let slow = format!("slow-load={endless}");
    for signals in [vec!["TERM"], vec!["INT", "INT"]] {
        let server = Server::start(&["tcp=127.0.0.1:0", &slow]);
        server.wait_for("spawned greenloom generation 1 (pid: ");
        for signal in signals {
            send_signal(server.pid(), signal);
        }
        assert_eq!(server.wait_exit(), 0);
    }
    let server = Server::start(&["tcp=127.0.0.1:0", &slow]);
    server.wait_for("spawned greenloom generation 1 (pid: ");
    send_signal(server.pid(), "KILL");
    server.wait_exit();
    let server = Server::start(&["tcp=127.0.0.1:0", &slow, "lazy-apps=true", "mercy-ms=50"]);
    server.wait_for("spawned greenloom worker 1 (pid: ");
    assert_eq!(server.stop("TERM"), 0);
}

#[test]
fn descriptors_are_where_they_belong() {
    let server = Server::start(&["tcp=127.0.0.1:0", "processes=3"]);
    server.wait_ready(1, 3);
    let workers = server.workers();
    let master = harness::open_files(server.pid());
    let generation = harness::open_files(parent_of(workers[0]));
    let pidfds = generation.iter().filter(|file| file.contains("pidfd")).count();
    assert_eq!(pidfds, 3, "one for each worker: {generation:?}");
    let kinds = |pid| {
        let mut files = harness::open_files(pid);
        for file in &mut files {
            file.truncate(file.find('[').unwrap_or(file.len()));
        }
        files.sort();
        files
    };
    let expected = kinds(workers[0]);
    assert!(expected.iter().all(|file| !file.contains("pidfd")), "{expected:?}");
    assert_eq!(kinds(workers[1]), expected);
    assert_eq!(kinds(workers[2]), expected);
    send_signal(workers[0], "KILL");
    server.wait_for("Respawned greenloom worker 1 (new pid: ");
    eventually("the new worker serves", || server.who().id == 1);
    let new = *server.workers().iter().find(|pid| !workers.contains(pid)).unwrap();
    eventually("no connection is open", || kinds(new) == expected);
    assert_eq!(harness::open_files(server.pid()).len(), master.len());
    assert_eq!(harness::open_files(parent_of(new)).len(), generation.len());
}

#[test]
fn orphans_of_the_application_are_collected() {
    let server = Server::start(&["tcp=127.0.0.1:0"]);
    server.wait_ready(1, 1);
    let orphan = server.ask(0, "orphan");
    let entry = std::path::Path::new("/proc").join(&orphan);
    eventually("the orphan is dead and collected", || !entry.exists());
    assert_eq!(server.stop("TERM"), 0);
}

#[test]
fn a_stop_waits_for_requests() {
    for signal in ["TERM", "INT"] {
        let server = Server::start(&["tcp=127.0.0.1:0", "processes=2"]);
        server.wait_ready(1, 2);
        let held = server.hold();
        send_signal(server.pid(), signal);
        server.wait_for("SIGINT/SIGTERM received...killing workers...");
        assert_eq!(held.finish(), "done");
        assert_eq!(server.wait_exit(), 0);
        assert_eq!(server.log().matches("buried after").count(), 2);
    }
}

#[test]
fn a_second_signal_waits_for_nothing() {
    let server = Server::start(&["tcp=127.0.0.1:0"]);
    server.wait_ready(1, 1);
    let held = server.hold();
    send_signal(server.pid(), "INT");
    server.wait_for("SIGINT/SIGTERM received...killing workers...");
    send_signal(server.pid(), "INT");
    assert_eq!(server.wait_exit(), 0);
    assert_eq!(held.finish(), "", "cut off");
}

#[test]
fn workers_that_do_not_leave_are_killed() {
    let server = Server::start(&["tcp=127.0.0.1:0", "processes=2", "block=true", "mercy-ms=50"]);
    server.wait_ready(1, 2);
    let workers = server.workers();
    assert_eq!(server.stop("TERM"), 0);
    assert!(server.log().contains("is taking too much time to die...NO MERCY !!!"));
    assert!(workers.iter().all(|pid| !harness::is_alive(*pid)));
}

#[test]
fn a_load_failure_ends_the_start() {
    let folder = Folder::new("load-failure");
    let broken = folder.path("broken");
    std::fs::write(&broken, "").unwrap();
    let fail = format!("fail-load={broken}");
    for how in ["lazy-apps=false", "lazy-apps=true"] {
        let socket = format!("unix={}", folder.path("app.sock"));
        let server = Server::start(&[&socket, "processes=2", "vacuum=true", &fail, how]);
        assert_eq!(server.wait_exit(), 22);
        let log = server.log();
        assert!(log.contains("cannot load the toy"), "{log}");
        assert!(log.contains("need-app requested, destroying the instance..."), "{log}");
        assert!(!std::path::Path::new(&folder.path("app.sock")).exists());
        let server = Server::start(&["tcp=127.0.0.1:0", "need-app=false", &fail, how]);
        server.wait_ready(1, 1);
        assert!(server.log().contains("going on without this application"));
    }
}

#[test]
fn a_crash_loop_is_throttled_and_the_master_stays_at_hand() {
    let folder = Folder::new("crash-loop");
    let crash = folder.path("crash");
    std::fs::write(&crash, "").unwrap();
    let server = Server::start(&["tcp=127.0.0.1:0", &format!("crash={crash}")]);
    for (deaths, wait_ms) in [(2, 100), (3, 200), (4, 400)] {
        server.wait_for(&format!(
            "worker 1 ended early {deaths} times in a row, the next attempt is in {wait_ms} ms"
        ));
    }
    let deaths = server.log().matches("died, exit code 3 :( trying respawn").count();
    assert!((4..=5).contains(&deaths), "{deaths} deaths");
    std::fs::remove_file(&crash).unwrap();
    server.wait_ready(1, 1);
    std::fs::write(&crash, "").unwrap();
    send_signal(server.workers()[0], "KILL");
    server.wait_for("the next attempt is in 800 ms");
    assert_eq!(server.stop("TERM"), 0);
}

#[test]
fn files_are_written_and_removed() {
    let folder = Folder::new("files");
    let (pidfile, socket) = (folder.path("app.pid"), folder.path("app.sock"));
    std::fs::write(&pidfile, "4194304999 stale\n").unwrap();
    let arguments = [
        format!("unix={socket}"),
        format!("pidfile={pidfile}"),
        String::from("chmod=640"),
        String::from("vacuum=true"),
    ];
    let server = Server::start(&arguments.each_ref().map(String::as_str));
    server.wait_ready(1, 1);
    assert_eq!(std::fs::read_to_string(&pidfile).unwrap(), format!("{}\n", server.pid()));
    assert_eq!(std::fs::metadata(&socket).unwrap().permissions().mode() & 0o777, 0o640);
    assert_eq!(server.stop("TERM"), 0);
    let log = server.log();
    assert!(log.contains(&format!("VACUUM: unix socket {socket} removed.")), "{log}");
    assert!(log.contains("VACUUM: pidfile removed."), "{log}");
    assert!(!std::path::Path::new(&socket).exists() && !std::path::Path::new(&pidfile).exists());
}

#[test]
fn a_socket_that_somebody_else_has_put_there_is_not_removed() {
    let folder = Folder::new("replaced");
    let socket = folder.path("app.sock");
    let server = Server::start(&[&format!("unix={socket}"), "vacuum=true"]);
    server.wait_ready(1, 1);
    std::fs::remove_file(&socket).unwrap();
    let theirs = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    assert_eq!(server.stop("TERM"), 0);
    assert!(std::path::Path::new(&socket).exists());
    drop(theirs);
}

#[test]
fn an_address_in_use_ends_the_start() {
    let folder = Folder::new("conflict");
    let socket = folder.path("app.sock");
    let first = Server::start(&["tcp=127.0.0.1:0", &format!("unix={socket}")]);
    first.wait_ready(1, 1);
    let port = first.port(0);
    let conflict =
        format!("probably another instance of greenloom is running on the same address (127.0.0.1:{port}).");
    let second = Server::start(&[&format!("tcp=127.0.0.1:{port}")]);
    assert_eq!(second.wait_exit(), 1);
    assert!(second.log().contains(&conflict), "{}", second.log());
    assert!(second.log().contains("(command line, argument 1)"), "{}", second.log());
    let third = Server::start(&[&format!("unix={socket}")]);
    assert_eq!(third.wait_exit(), 1);
    assert!(third.log().contains("probably another instance"), "{}", third.log());
    assert_eq!(first.ask(1, "who").split(' ').count(), 3, "the first one's socket file is still there");
}

#[test]
fn an_old_socket_file_makes_way_and_another_file_does_not() {
    let folder = Folder::new("leftovers");
    let (stale, file) = (folder.path("stale.sock"), folder.path("precious.txt"));
    drop(std::os::unix::net::UnixListener::bind(&stale).unwrap());
    let server = Server::start(&[&format!("unix={stale}")]);
    server.wait_ready(1, 1);
    std::fs::write(&file, "precious").unwrap();
    let server = Server::start(&[&format!("unix={file}")]);
    assert_eq!(server.wait_exit(), 1);
    assert!(server.log().contains("a file that is not a socket is in the way"), "{}", server.log());
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "precious");
}

#[test]
fn what_cannot_be_done_is_said_before_anything_starts() {
    for (arguments, complaint) in [
        (vec![], "nothing to listen on"),
        (
            vec!["tcp=127.0.0.1:0", "backlog=2000000000"],
            "Listen queue size is greater than the system max net.core.somaxconn (",
        ),
        (
            vec!["tcp=127.0.0.1:0", "pidfile=/nonexistent/x.pid"],
            "cannot write the pid file /nonexistent/x.pid",
        ),
        (vec!["tcp=127.0.0.1:0", "master=false", "processes=2"], "2 processes need the master"),
        (vec!["unix=/nonexistent/x.sock"], "create its directory first"),
    ] {
        let server = Server::start(&arguments);
        assert_eq!(server.wait_exit(), 1, "{arguments:?}");
        assert!(server.log().contains(complaint), "{arguments:?}: {}", server.log());
        assert!(!server.log().contains("spawned"), "{arguments:?}: {}", server.log());
    }
}

#[test]
fn without_a_master_the_process_itself_serves() {
    let folder = Folder::new("single");
    let socket = folder.path("app.sock");
    let server = Server::start(&[&format!("unix={socket}"), "master=false", "vacuum=true"]);
    server.wait_ready(1, 1);
    let who: Vec<String> = server.ask(0, "who").split(' ').map(str::to_owned).collect();
    assert_eq!(who[0], server.pid().to_string());
    let held = server.hold();
    send_signal(server.pid(), "INT");
    server.wait_for("SIGINT/SIGTERM received");
    assert_eq!(held.finish(), "done");
    assert_eq!(server.wait_exit(), 0);
    assert!(!std::path::Path::new(&socket).exists());
    let server = Server::start(&["tcp=127.0.0.1:0", "master=false", "block=true", "mercy-ms=50"]);
    server.wait_ready(1, 1);
    assert_eq!(server.stop("TERM"), 1, "an application that never returns is left behind");
}

#[test]
fn a_server_started_by_an_application_is_a_server_of_its_own() {
    let server = Server::start_with_variable(
        &["tcp=127.0.0.1:0"],
        ("GREENLOOM_GENERATION", "4;1;1;40;41;42;46;43,44;45=http"),
    );
    server.wait_ready(1, 1);
    let server = Server::start_with_variable(&["tcp=127.0.0.1:0"], ("GREENLOOM_GENERATION", "nonsense"));
    assert_eq!(server.wait_exit(), 1);
    assert!(server.log().contains("start greenloom from a fresh environment"), "{}", server.log());
}
