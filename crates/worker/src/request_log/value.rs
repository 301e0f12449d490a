//! What the names in templates and JSON objects stand for. Both forms ask here, so that a name means the same in both.

use greenloom_config::LogVariable;
use greenloom_sys::clock;

use super::{Line, Record};
use crate::{Cancel, Request, Source};

/// A fact, before it is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Value<'a> {
    /// Any bytes; none stand for a fact that the request does not have.
    Text(&'a [u8]),
    /// A number.
    Number(u64),
    /// A number of microseconds, in seconds.
    Seconds(u64),
    /// There is no such number.
    MinusOne,
}

/// What `variable` is in this line. `scratch` is for texts that are made for the occasion.
pub(super) fn of<'a>(variable: LogVariable, line: &'a Line<'_>, scratch: &'a mut Vec<u8>) -> Value<'a> {
    let Line { record, addr, scene } = line;
    let request = record.request;
    let memory = scene.memory.unwrap_or_default();
    match variable {
        LogVariable::Uri => Value::Text(request.uri()),
        LogVariable::Method => Value::Text(request.method()),
        LogVariable::User => Value::Text(request.var(b"REMOTE_USER").unwrap_or_default()),
        LogVariable::Addr => Value::Text(addr),
        LogVariable::Host => of_request(b"HTTP_HOST", line, scratch),
        LogVariable::Proto => Value::Text(request.protocol()),
        LogVariable::Uagent => of_request(b"HTTP_USER_AGENT", line, scratch),
        LogVariable::Referer => of_request(b"HTTP_REFERER", line, scratch),
        LogVariable::RequestId => of_request(b"HTTP_X_REQUEST_ID", line, scratch),
        LogVariable::Status => Value::Number(u64::from(record.status)),
        LogVariable::Rsize => Value::Number(record.body_bytes),
        LogVariable::Hsize => Value::Number(record.header_bytes),
        LogVariable::Size => Value::Number(record.body_bytes.saturating_add(record.header_bytes)),
        LogVariable::Cl => Value::Number(request.content_length.unwrap_or(0)),
        LogVariable::Micros => Value::Number(record.elapsed_us),
        LogVariable::Msecs => Value::Number(record.elapsed_us / 1000),
        LogVariable::Secs => Value::Seconds(record.elapsed_us),
        LogVariable::Tmicros => Value::Number(record.began_unix_us),
        LogVariable::Tmsecs => Value::Number(record.began_unix_us / 1000),
        LogVariable::Time => Value::Number(record.began_unix_us / 1_000_000),
        LogVariable::Epoch => Value::Number(clock::unix_seconds()),
        LogVariable::Ctime => Value::Text(scene.dates.ctime()),
        LogVariable::Ltime => Value::Text(scene.dates.apache()),
        LogVariable::Ftime => Value::Text(scene.dates.own()),
        LogVariable::Pid => Value::Number(u64::from(scene.pid)),
        LogVariable::Wid => Value::Number(u64::from(scene.worker)),
        LogVariable::Core => {
            record.account.core.map_or(Value::MinusOne, |core| Value::Number(u64::from(core)))
        }
        LogVariable::Switches => Value::Number(record.account.switches),
        LogVariable::Vars => Value::Number(u64::from(request.variables().0) * 2),
        LogVariable::Pktsize => Value::Number(request.variables().1),
        // Packets of others are refused, whatever they ask for.
        LogVariable::Modifier1 | LogVariable::Modifier2 => Value::Number(0),
        LogVariable::Headers => Value::Number(u64::from(record.header_count)),
        LogVariable::Rss => Value::Number(memory.resident),
        LogVariable::Vsz => Value::Number(memory.address_space),
        LogVariable::RssM => Value::Number(memory.resident >> 20),
        LogVariable::VszM => Value::Number(memory.address_space >> 20),
        LogVariable::Werr => Value::Number(u64::from(record.account.write_failed)),
        LogVariable::Rerr => Value::Number(u64::from(record.account.read_failed)),
        LogVariable::Ioerr => {
            Value::Number(u64::from(record.account.write_failed) + u64::from(record.account.read_failed))
        }
        LogVariable::App => {
            record.account.app.map_or(Value::MinusOne, |(app, _)| Value::Number(u64::from(app)))
        }
        LogVariable::AppRequests => {
            record.account.app.map_or(Value::MinusOne, |(_, requests)| Value::Number(requests))
        }
        LogVariable::Requests => Value::Number(record.total_requests),
        LogVariable::WaitMicros => Value::Number(record.wait_us),
        LogVariable::RunMicros => Value::Number(record.elapsed_us.saturating_sub(record.wait_us)),
        LogVariable::Ended => Value::Text(ended(record).as_bytes()),
    }
}

/// The variable `name` of the request.
pub(super) fn of_request<'a>(name: &[u8], line: &'a Line<'_>, scratch: &'a mut Vec<u8>) -> Value<'a> {
    let Line { record: Record { request, .. }, scene, .. } = line;
    scratch.clear();
    if request.source == Source::Http {
        // What a front end would have sent.
        match name {
            b"SERVER_NAME" => return Value::Text(&scene.host_name),
            b"SERVER_PORT" => return Value::Text(port(request, &scene.ports)),
            _ => {}
        }
    }
    request.append_variable(name, scratch);
    Value::Text(scratch)
}

fn port<'a>(request: &Request, ports: &'a [Vec<u8>]) -> &'a [u8] {
    match ports.get(request.listener) {
        Some(port) if !port.is_empty() => port,
        _ => b"80",
    }
}

/// A variable that the application has set.
pub(super) fn of_application<'a>(name: &[u8], record: &'a Record<'_>) -> Option<Value<'a>> {
    record.account.logvars.iter().find(|(key, _)| key == name).map(|(_, value)| Value::Text(value))
}

/// How the request ended.
pub(super) fn ended(record: &Record<'_>) -> &'static str {
    match (record.account.cancelled, record.account.abandoned) {
        (Some(Cancel::ClientGone), false) => "client-gone",
        (Some(Cancel::ClientGone), true) => "client-gone-abandoned",
        (Some(Cancel::Deadline), false) => "deadline",
        (Some(Cancel::Deadline), true) => "deadline-abandoned",
        (Some(Cancel::Stop), false) => "stop",
        (Some(Cancel::Stop), true) => "stop-abandoned",
        (None, _) if record.account.failed => "failed",
        (None, _) => "complete",
    }
}

#[cfg(test)]
mod tests {
    use super::super::samples::Sample;
    use super::*;

    fn value(sample: &Sample, variable: LogVariable) -> String {
        sample
            .line(|out, line| match of(variable, line, &mut Vec::new()) {
                Value::Text(text) => out.extend_from_slice(text),
                other => out.extend_from_slice(format!("{other:?}").as_bytes()),
            })
            .trim_end()
            .to_owned()
    }

    #[test]
    fn endings_have_one_word() {
        let of_sample = |cancelled, abandoned, failed| {
            value(&Sample { cancelled, abandoned, failed, ..Sample::default() }, LogVariable::Ended)
        };
        assert_eq!(of_sample(None, false, false), "complete");
        assert_eq!(of_sample(None, false, true), "failed");
        assert_eq!(of_sample(Some(Cancel::ClientGone), false, true), "client-gone");
        assert_eq!(of_sample(Some(Cancel::Deadline), true, true), "deadline-abandoned");
        assert_eq!(of_sample(Some(Cancel::Stop), false, false), "stop");
    }

    #[test]
    fn waiting_and_running_add_up() {
        let sample = Sample::default();
        assert_eq!(value(&sample, LogVariable::Micros), "Number(12345)");
        assert_eq!(value(&sample, LogVariable::WaitMicros), "Number(345)");
        assert_eq!(value(&sample, LogVariable::RunMicros), "Number(12000)");
        assert_eq!(value(&sample, LogVariable::Secs), "Seconds(12345)");
    }

    #[test]
    fn texts_come_from_the_request() {
        let sample = Sample::default();
        assert_eq!(value(&sample, LogVariable::Host), "example.org");
        assert_eq!(value(&sample, LogVariable::Uagent), "curl/8 (x)");
        assert_eq!(value(&sample, LogVariable::RequestId), "r-1");
        assert_eq!(value(&sample, LogVariable::Referer), "");
        assert_eq!(value(&Sample { app: None, ..sample }, LogVariable::AppRequests), "MinusOne");
    }
}
