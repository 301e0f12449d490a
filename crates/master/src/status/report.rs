//! How things stand, for `greenloom ctl status`: one JSON object, made for programs to read and for `ctl` to print.

use serde_json::{Value, json};

use super::snapshot::{Picture, ProcessPicture};
use super::stats::Host;

/// The object.
pub(crate) fn report(picture: &Picture, host: &Host) -> Value {
    let generations = picture.generations.iter().map(|generation| {
        json!({
            "number": generation.number,
            "pid": generation.pid,
            "stage": generation.stage,
            "serving": picture.serving == Some(generation.number),
            "workers": generation.workers,
        })
    });
    let workers = picture.workers.iter().flat_map(|(&id, worker)| {
        let shown = worker.processes.iter().map(move |process| of_process(id, process, picture));
        let absent = (worker.processes.is_empty() && id <= picture.processes)
            .then(|| json!({ "id": id, "pid": 0, "state": "down" }));
        shown.chain(absent)
    });
    let listeners = picture.listeners.iter().map(|listener| {
        json!({
            "name": listener.name,
            "protocol": listener.protocol,
            "queue": listener.queue,
            "max_queue": listener.max_queue,
        })
    });
    json!({
        "version": env!("CARGO_PKG_VERSION"),
        "pid": host.pid,
        "phase": picture.phase.name(),
        "ready": picture.is_ready(),
        "why_not_ready": if picture.is_ready() { Value::Null } else { picture.why_not_ready().into() },
        "drained": picture.drained,
        "generation": picture.serving,
        "requests": picture.requests,
        "reloads": picture.reloads[0],
        "failed_reloads": picture.reloads[1],
        "upgrades": picture.upgrades,
        "generations": generations.collect::<Value>(),
        "workers": workers.collect::<Value>(),
        "listeners": listeners.collect::<Value>(),
    })
}

fn of_process(id: u32, process: &ProcessPicture, picture: &Picture) -> Value {
    let cores = process.cores();
    json!({
        "id": id,
        "pid": process.pid,
        "generation": process.generation,
        "state": process.state.name(),
        "requests": process.requests(),
        "cores": cores.all,
        "running": cores.running,
        "suspended": cores.suspended,
        "connections": process.seat.as_ref().map_or(0, |seat| seat.state.connections),
        "parked": process.seat.as_ref().map_or(0, |seat| seat.state.parked),
        "loop_lag_us": process.lag_us(picture.now_ms),
        "rss": process.rss,
        "age_s": picture.now_ms.saturating_sub(process.since_ms) / 1000,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::snapshot::tests::tree;

    #[test]
    fn every_process_has_its_line() {
        let (mut tree, totals) = tree();
        tree.processes = 3;
        let report = report(&Picture::take(&tree, &totals, false), &Host::default());
        let lines: Vec<_> = report["workers"]
            .as_array()
            .unwrap()
            .iter()
            .map(|w| (w["id"].clone(), w["state"].clone()))
            .collect();
        assert_eq!(
            lines,
            [
                (json!(1), json!("accepting")),
                (json!(1), json!("draining")),
                (json!(2), json!("accepting")),
                (json!(3), json!("down")),
            ]
        );
        assert_eq!(report["generations"][1]["serving"], true);
        assert_eq!(report["ready"], true);
    }
}
