//! The statistics as one JSON document, with uWSGI's keys, so that its tools read it; what uWSGI does not have stands in
//! an object `greenloom` of its own at each level.
//!
//! Of a running request only method, target, host and address are shown: other fields of a client may be secrets. What
//! is not UTF-8 is shown with replacement characters, so that the document always is.

use serde::Serialize as _;
use serde_json::{Value, json};

use super::snapshot::{Picture, ProcessPicture, SeatPicture, WorkerPicture, WorkerState};
use crate::scoreboard::{AppView, RecordView, Sum};

/// What does not change while the master lives.
#[derive(Clone, Debug, Default)]
pub(crate) struct Host {
    pub(crate) pid: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) directory: String,
}

/// The names of uWSGI's locks behind the user's.
const LOCKS: [&str; 7] = ["signal", "filemon", "timer", "rbtimer", "cron", "rpc", "snmp"];

/// The document.
pub(crate) fn document(picture: &Picture, host: &Host) -> Value {
    let queued: u64 = picture.listeners.iter().map(|listener| u64::from(listener.queue)).sum();
    let user_locks = picture.locks.iter().copied().chain(picture.locks.is_empty().then_some(0));
    let locks = user_locks.enumerate().map(|(number, pid)| json!({ format!("user {number}"): pid }));
    let locks = locks.chain(LOCKS.iter().map(|name| json!({ *name: 0 })));
    let sockets = picture.listeners.iter().map(|listener| {
        json!({
            "name": listener.name,
            "proto": listener.protocol,
            "queue": listener.queue,
            "max_queue": listener.max_queue,
            "shared": 0,
            "can_offload": 0,
        })
    });
    let wanted = |id: u32| id <= picture.processes;
    let shown = picture.workers.iter().filter(|(id, worker)| wanted(**id) || !worker.processes.is_empty());
    let workers = shown.map(|(&id, of)| worker(id, of, picture));
    let leaving = picture.processes().filter(|process| process.state == WorkerState::Draining);
    let leaving = leaving.map(|process| {
        json!({
            "pid": process.pid,
            "worker": process.seat.as_ref().map(|seat| seat.life.worker),
            "generation": process.generation,
            "busy_cores": process.seat.as_ref().map_or(0, |seat| seat.state.busy_cores),
            "connections": process.seat.as_ref().map_or(0, |seat| seat.state.connections),
        })
    });
    json!({
        "version": env!("CARGO_PKG_VERSION"),
        "listen_queue": queued,
        "listen_queue_errors": 0,
        "signal_queue": 0,
        "load": queued,
        "pid": host.pid,
        "uid": host.uid,
        "gid": host.gid,
        "cwd": host.directory,
        "locks": locks.collect::<Value>(),
        "caches": [],
        "metrics": {},
        "sockets": sockets.collect::<Value>(),
        "workers": workers.collect::<Value>(),
        "spoolers": [],
        "crons": [],
        "greenloom": {
            "phase": picture.phase.name(),
            "ready": picture.is_ready(),
            "generation": picture.serving,
            "requests": picture.requests,
            "reloads": picture.reloads[0],
            "failed_reloads": picture.reloads[1],
            "upgrades": picture.upgrades,
            "leaving": leaving.collect::<Value>(),
        },
    })
}

/// The bytes to send: indented by tabs, or without any white space.
pub(crate) fn bytes(document: &Value, minified: bool) -> Vec<u8> {
    let mut bytes = Vec::new();
    if minified {
        bytes = document.to_string().into_bytes();
    } else {
        let formatter = serde_json::ser::PrettyFormatter::with_indent(b"\t");
        let mut serializer = serde_json::Serializer::with_formatter(&mut bytes, formatter);
        // Writing into memory cannot fail, and the document has no keys that are not text.
        let _ = document.serialize(&mut serializer);
    }
    bytes.push(b'\n');
    bytes
}

fn worker(id: u32, worker: &WorkerPicture, picture: &Picture) -> Value {
    // The one that serves, or will; one that only drains is listed elsewhere.
    let process = worker.processes.first().filter(|process| process.state != WorkerState::Draining);
    let seat = process.and_then(|process| process.seat.as_ref());
    let busy = seat.is_some_and(|seat| seat.state.busy_cores > 0);
    let status = if process.is_none() {
        "cheap"
    } else if busy {
        "busy"
    } else {
        "idle"
    };
    let of = |sum| worker.sums.of(sum);
    let mut shown = json!({
        "id": id,
        "pid": process.map_or(0, |process| process.pid),
        "accepting": u32::from(process.is_some_and(|process| process.state == WorkerState::Accepting)),
        "requests": of(Sum::Requests),
        "delta_requests": seat.map_or(0, |seat| seat.sums.of(Sum::Requests)),
        "exceptions": of(Sum::Exceptions),
        "harakiri_count": worker.harakiri,
        "signals": of(Sum::Signals),
        "signal_queue": 0,
        "status": status,
        "rss": process.map_or(0, |process| process.rss),
        "vsz": process.map_or(0, |process| process.vsz),
        "running_time": of(Sum::RunningUs),
        "last_spawn": seat.map_or(0, |seat| seat.life.started_unix_s),
        "respawn_count": worker.spawns,
        "tx": of(Sum::SentBytes),
        "avg_rt": seat.map_or(0, |seat| seat.state.average_us),
        "apps": seat.map(|seat| apps(&seat.apps)).unwrap_or_default().into_iter().collect::<Value>(),
        "cores": seat.map(|seat| cores(seat, picture)).unwrap_or_default().into_iter().collect::<Value>(),
    });
    if let (Some(shown), Some(process)) = (shown.as_object_mut(), process) {
        shown.insert("greenloom".to_owned(), extras(worker, process, picture));
    }
    shown
}

fn extras(worker: &WorkerPicture, process: &ProcessPicture, picture: &Picture) -> Value {
    let cores = process.cores();
    let state = process.seat.as_ref().map(|seat| seat.state).unwrap_or_default();
    json!({
        "generation": process.generation,
        "state": process.state.name(),
        "age_s": picture.now_ms.saturating_sub(process.since_ms) / 1000,
        "running_cores": cores.running,
        "suspended_cores": cores.suspended,
        "switches": worker.sums.of(Sum::Switches),
        "connections": {
            "open": state.connections,
            "idle": state.idle,
            "reading": state.reading,
            "busy": state.busy,
            "draining": state.draining,
            "parked": state.parked,
        },
        "accepted": worker.sums.of(Sum::Accepted),
        "queue_full": worker.sums.of(Sum::QueueFull),
        "queue_age_ms": process.queue_age_ms(picture.now_ms),
        "loop_lag_us": process.lag_us(picture.now_ms),
        "clients_gone": worker.sums.of(Sum::ClientsGone),
        "deadlines": worker.sums.of(Sum::Deadlines),
        "abandoned": worker.sums.of(Sum::Abandoned),
        "recycled": worker.recycled,
        "files": worker.sums.of(Sum::Files),
        "scripts": worker.sums.of(Sum::Scripts),
    })
}

fn apps(apps: &[AppView]) -> Vec<Value> {
    let numbered = apps.iter().enumerate();
    let shown = numbered.map(|(id, app)| {
        json!({
            "id": id,
            "modifier1": 0,
            "mountpoint": String::from_utf8_lossy(&app.mount),
            "startup_time": app.loading_s,
            "requests": app.requests,
            "exceptions": app.exceptions,
            "chdir": "",
        })
    });
    shown.collect()
}

fn cores(seat: &SeatPicture, picture: &Picture) -> Vec<Value> {
    let Some(used) = &seat.cores else { return Vec::new() };
    let unused = RecordView::default();
    (0..seat.life.cores)
        .map(|id| {
            let at = id.checked_sub(seat.first_used_core).and_then(|at| usize::try_from(at).ok());
            core(id, at.and_then(|at| used.get(at)).unwrap_or(&unused), picture)
        })
        .collect()
}

fn core(id: u32, core: &RecordView, picture: &Picture) -> Value {
    let mut shown = json!({
        "id": id,
        "requests": core.requests,
        "static_requests": 0,
        "routed_requests": 0,
        "offloaded_requests": 0,
        "write_errors": core.write_errors,
        "read_errors": core.read_errors,
        "in_request": u32::from(core.request.is_some()),
        "vars": [],
        "req_info": {},
    });
    if let (Some(shown), Some(request)) = (shown.as_object_mut(), &core.request) {
        let text = |name: &str, value: &[u8]| format!("{name}={}", String::from_utf8_lossy(value));
        let mut path = request.uri.split(|&byte| byte == b'?');
        let vars = json!([
            text("REQUEST_METHOD", &request.method),
            text("REQUEST_URI", &request.uri),
            text("PATH_INFO", &percent_decoded(path.next().unwrap_or_default())),
            text("REMOTE_ADDR", &request.address),
            text("HTTP_HOST", &request.host),
            "",
        ]);
        shown.insert("vars".to_owned(), vars);
        shown.insert("req_info".to_owned(), json!({ "request_start": request.unix_us / 1_000_000 }));
        shown.insert(
            "greenloom".to_owned(),
            json!({
                "state": core.state.name(),
                "switches": request.switches,
                "age_ms": picture.now_ms.saturating_sub(request.began_ms),
            }),
        );
    }
    shown
}

/// Whatever is no code for a byte stays as it is.
fn percent_decoded(text: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((&first, behind)) = rest.split_first() {
        let code = behind.first_chunk::<2>().filter(|_| first == b'%').and_then(|digits| {
            let digit = |byte: u8| char::from(byte).to_digit(16);
            u8::try_from(digit(digits[0])? * 16 + digit(digits[1])?).ok()
        });
        bytes.push(code.unwrap_or(first));
        rest = if code.is_some() { &behind[2..] } else { behind };
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scoreboard::{Begun, RemoteAddress};
    use crate::status::snapshot::tests::tree;

    fn shown(with_cores: bool) -> Value {
        let (tree, totals) = tree();
        let seat = tree.generations[1].scoreboard.seat(0).unwrap();
        seat.ended(200, 622, 341, 1);
        seat.set_app(0, b"/shop", 2);
        seat.note_core(1);
        seat.core(1).unwrap().begin(&Begun {
            unix_us: 1_795_289_818_000_000,
            now_ms: 1,
            method: b"GET",
            uri: b"/x%41\xff?a=\"\n",
            host: b"example.org",
            address: RemoteAddress::Ip("127.0.0.1".parse().unwrap()),
        });
        document(&Picture::take(&tree, &totals, with_cores), &Host::default())
    }

    #[test]
    fn what_a_client_sends_cannot_break_the_document() {
        let text = bytes(&shown(true), false);
        let read: Value = serde_json::from_slice(&text).unwrap();
        let core = &read["workers"][0]["cores"][1];
        assert_eq!(core["in_request"], 1);
        assert_eq!(core["vars"][1], "REQUEST_URI=/x%41\u{fffd}?a=\"\n");
        assert_eq!(core["vars"][2], "PATH_INFO=/xA\u{fffd}");
        assert_eq!(core["vars"][5], "");
        assert_eq!(core["req_info"]["request_start"], 1_795_289_818);
        assert!(text.starts_with(b"{\n\t\""));
    }

    #[test]
    fn minified_and_without_cores() {
        let document = shown(false);
        let text = String::from_utf8(bytes(&document, true)).unwrap();
        assert!(!text.trim_end().contains(['\n', '\t']) && !text.contains(": "), "{text}");
        assert_eq!(document["workers"][0]["cores"], json!([]));
        assert_eq!(document["workers"][0]["apps"][0]["mountpoint"], "/shop");
        assert_eq!(document["workers"][0]["tx"], 622);
    }

    #[test]
    fn a_worker_is_the_process_that_serves_and_the_others_are_leaving() {
        let document = shown(true);
        assert_eq!(document["workers"].as_array().unwrap().len(), 2);
        assert_eq!(document["workers"][0]["greenloom"]["generation"], 2);
        assert_eq!(document["greenloom"]["leaving"][0]["generation"], 1);
    }

    #[test]
    fn codes_of_bytes() {
        assert_eq!(percent_decoded(b"/a%20b%2"), b"/a b%2");
        assert_eq!(percent_decoded(b"%zz%+1%"), b"%zz%+1%");
    }
}
