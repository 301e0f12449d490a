//! The answer to `status`, for people: a line about the instance, a table of workers, the listeners.

use std::fmt::Write as _;

use serde_json::Value;

/// Column heads of the table; all but the texts stand at the right.
const HEADS: [&str; 11] = [
    "worker",
    "pid",
    "generation",
    "state",
    "requests",
    "cores",
    "connections",
    "parked",
    "lag",
    "memory",
    "age",
];
const LEFT: [usize; 1] = [3];

/// The whole text.
pub(super) fn print(status: &Value) -> String {
    let number = |key: &str| status[key].as_u64().unwrap_or(0);
    let mut text = format!(
        "greenloom {} (pid {}): {}, {}\n",
        word(&status["version"]),
        number("pid"),
        word(&status["phase"]),
        match status["why_not_ready"].as_str() {
            None => "ready".to_owned(),
            Some(why) => format!("not ready ({why})"),
        },
    );
    // Writing into memory cannot fail.
    let _ = writeln!(
        text,
        "{} requests, {} reloads ({} failed), {} upgrades",
        number("requests"),
        number("reloads"),
        number("failed_reloads"),
        number("upgrades")
    );
    for generation in status["generations"].as_array().into_iter().flatten() {
        let does = match (generation["serving"] == true, word(&generation["stage"])) {
            (true, _) => "serves",
            (false, "serving") => "drains",
            (false, stage) => stage,
        };
        let (number, workers) = (&generation["number"], &generation["workers"]);
        let _ = writeln!(text, "generation {number} ({does}): {workers} workers");
    }
    let mut rows = vec![HEADS.map(str::to_owned)];
    rows.extend(status["workers"].as_array().into_iter().flatten().map(row));
    text.push('\n');
    for row in &rows {
        let cells = row.iter().enumerate().map(|(column, cell)| {
            let width = rows.iter().map(|row| row[column].len()).max().unwrap_or(0);
            if LEFT.contains(&column) { format!("{cell:<width$}") } else { format!("{cell:>width$}") }
        });
        let _ = writeln!(text, "{}", cells.collect::<Vec<_>>().join("  "));
    }
    text.push('\n');
    for listener in status["listeners"].as_array().into_iter().flatten() {
        let _ = writeln!(
            text,
            "{} {}: {} of {} wait in the queue",
            word(&listener["protocol"]),
            word(&listener["name"]),
            listener["queue"],
            listener["max_queue"]
        );
    }
    text
}

fn row(worker: &Value) -> [String; 11] {
    let number = |key: &str| worker[key].as_u64();
    let shown = |key: &str| number(key).map_or_else(|| "-".to_owned(), |value| value.to_string());
    let busy = number("running").zip(number("suspended"));
    [
        shown("id"),
        shown("pid"),
        shown("generation"),
        word(&worker["state"]).to_owned(),
        shown("requests"),
        busy.map_or_else(
            || "-".to_owned(),
            |(running, suspended)| format!("{running} run, {suspended} wait of {}", shown("cores")),
        ),
        shown("connections"),
        shown("parked"),
        number("loop_lag_us").map_or_else(|| "-".to_owned(), lag),
        number("rss").map_or_else(|| "-".to_owned(), |bytes| format!("{} MiB", bytes >> 20)),
        number("age_s").map_or_else(|| "-".to_owned(), age),
    ]
}

fn word(value: &Value) -> &str {
    value.as_str().unwrap_or("-")
}

fn lag(us: u64) -> String {
    match us {
        0..10_000 => format!("{}.{} ms", us / 1000, us % 1000 / 100),
        10_000..10_000_000 => format!("{} ms", us / 1000),
        _ => format!("{} s", us / 1_000_000),
    }
}

fn age(seconds: u64) -> String {
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7200 => format!("{} min", seconds / 60),
        7200..172_800 => format!("{} h", seconds / 3600),
        _ => format!("{} days", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_table_for_people() {
        let status = json!({
            "version": "1.2.3", "pid": 7, "phase": "serving", "why_not_ready": null,
            "requests": 12, "reloads": 1, "failed_reloads": 0, "upgrades": 0,
            "generations": [
                { "number": 1, "stage": "serving", "serving": false, "workers": 1 },
                { "number": 2, "stage": "serving", "serving": true, "workers": 1 },
            ],
            "workers": [
                { "id": 1, "pid": 4711, "generation": 2, "state": "accepting", "requests": 12, "cores": 100, "running": 1,
                  "suspended": 41, "connections": 50, "parked": 0, "loop_lag_us": 1234, "rss": 52_428_800, "age_s": 90 },
                { "id": 2, "pid": 0, "state": "down" },
            ],
            "listeners": [{ "name": "127.0.0.1:8080", "protocol": "http", "queue": 0, "max_queue": 100 }],
        });
        assert_eq!(
            print(&status),
            "\
greenloom 1.2.3 (pid 7): serving, ready
12 requests, 1 reloads (0 failed), 0 upgrades
generation 1 (drains): 1 workers
generation 2 (serves): 1 workers

worker   pid  generation  state      requests                  cores  connections  parked     lag  memory   age
     1  4711           2  accepting        12  1 run, 41 wait of 100           50       0  1.2 ms  50 MiB  90 s
     2     0           -  down              -                      -            -       -       -       -     -

http 127.0.0.1:8080: 0 of 100 wait in the queue
"
        );
    }

    #[test]
    fn a_server_that_says_less_is_shown_as_well() {
        assert!(print(&Value::Null).starts_with("greenloom - (pid 0): -, ready\n"));
    }

    #[test]
    fn times_for_people() {
        assert_eq!([lag(0), lag(9_999), lag(70_000), lag(12_000_000)], ["0.0 ms", "9.9 ms", "70 ms", "12 s"]);
        assert_eq!([age(3), age(600), age(7200), age(172_800)], ["3 s", "10 min", "2 h", "2 days"]);
    }
}
