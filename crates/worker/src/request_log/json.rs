//! Lines that are JSON objects (RFC 8259), one for each request, in ASCII. Keys are the names that templates have.

use greenloom_config::LogVariable;
use greenloom_proto::text::push_decimal;

use super::escape::push_json;
use super::value::{self, Value};
use super::{LINE_BYTES, Line, TEXT_BYTES, append_bounded};

/// The keys, in this order; documented in docs/logging.md.
const KEYS: [LogVariable; 35] = [
    LogVariable::Ltime,
    LogVariable::Tmicros,
    LogVariable::Pid,
    LogVariable::Wid,
    LogVariable::Core,
    LogVariable::App,
    LogVariable::AppRequests,
    LogVariable::Requests,
    LogVariable::RequestId,
    LogVariable::Addr,
    LogVariable::User,
    LogVariable::Host,
    LogVariable::Method,
    LogVariable::Uri,
    LogVariable::Proto,
    LogVariable::Referer,
    LogVariable::Uagent,
    LogVariable::Cl,
    LogVariable::Vars,
    LogVariable::Pktsize,
    LogVariable::Modifier1,
    LogVariable::Modifier2,
    LogVariable::Status,
    LogVariable::Rsize,
    LogVariable::Hsize,
    LogVariable::Size,
    LogVariable::Headers,
    LogVariable::Micros,
    LogVariable::WaitMicros,
    LogVariable::RunMicros,
    LogVariable::Switches,
    LogVariable::Rerr,
    LogVariable::Werr,
    LogVariable::Ioerr,
    LogVariable::Ended,
];
/// Further keys with `--memory-report`.
const MEMORY_KEYS: [LogVariable; 2] = [LogVariable::Rss, LogVariable::Vsz];
/// Most bytes of the name of an application's variable.
const NAME_BYTES: usize = 64;
/// What may stand behind an application's variable, and between its name and its value.
const AROUND: usize = 64;

/// Appends the object, its line end included.
pub(super) fn append(out: &mut Vec<u8>, line: &Line<'_>) {
    let mut scratch = Vec::new();
    append_bounded(out, |out, most| {
        let start = out.len();
        out.push(b'{');
        let memory_keys: &[LogVariable] = if line.scene.memory.is_some() { &MEMORY_KEYS } else { &[] };
        for variable in KEYS.iter().chain(memory_keys) {
            push_key(out, variable.name());
            match value::of(*variable, line, &mut scratch) {
                Value::Text(text) => push_json(out, text, most),
                Value::Number(number) | Value::Seconds(number) => push_decimal(out, number),
                Value::MinusOne => out.extend_from_slice(b"-1"),
            }
            out.push(b',');
        }
        push_key(out, "logvars");
        out.push(b'{');
        let logvars = &line.record.account.logvars;
        let mut left_out = 0;
        for (name, value) in logvars {
            let before = out.len();
            push_json(out, name, NAME_BYTES);
            out.push(b':');
            push_json(out, value, most);
            out.push(b',');
            // There can be any number of them: in the last attempt those are left out for which no room is left.
            if most == TEXT_BYTES[TEXT_BYTES.len() - 1] && out.len() - start > LINE_BYTES - AROUND {
                out.truncate(before);
                left_out += 1;
            }
        }
        if out.last() == Some(&b',') {
            out.pop();
        }
        out.push(b'}');
        if left_out > 0 {
            out.push(b',');
            push_key(out, "logvars_left_out");
            push_decimal(out, left_out);
        }
        out.push(b'}');
    });
}

fn push_key(out: &mut Vec<u8>, name: &str) {
    out.push(b'"');
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b"\":");
}

#[cfg(test)]
mod tests {
    use super::super::samples::{BEGAN_US, Sample, hostile_texts, unescape};
    use super::*;
    use crate::Cancel;
    use greenloom_sys::clock::LocalTime;
    use serde_json::{Map, Value as Json, json};

    fn object(sample: &Sample) -> Map<String, Json> {
        let text = sample.line(append);
        let text = text.strip_suffix('\n').expect("a line");
        assert!(text.bytes().all(|byte| (0x20..0x7f).contains(&byte)), "{text:?}");
        assert!(text.len() < LINE_BYTES - 1, "{}", text.len());
        let object: Map<String, Json> = serde_json::from_str(text).unwrap_or_else(|e| panic!("{e}: {text}"));
        // No key stands there twice.
        assert_eq!(text.matches("\"uri\":").count(), 1, "{text}");
        object
    }

    #[test]
    fn every_key() {
        let logvars = vec![(b"user_id".to_vec(), b"42".to_vec())];
        let sample = Sample { logvars, ..Sample::default() };
        let expected = json!({
            "ltime": LocalTime::at(BEGAN_US / 1_000_000).apache(), "tmicros": BEGAN_US,
            "pid": 10862, "wid": 2, "core": 0, "app": 0, "app_requests": 1, "requests": 7, "request_id": "r-1",
            "addr": "127.0.0.1", "user": "ann", "host": "example.org", "method": "GET", "uri": "/plain?a=1",
            "proto": "HTTP/1.1", "referer": "", "uagent": "curl/8 (x)", "cl": 0, "vars": 20, "pktsize": 227,
            "modifier1": 0, "modifier2": 0, "status": 200, "rsize": 5, "hsize": 45, "size": 50, "headers": 1,
            "micros": 12345, "wait_micros": 345, "run_micros": 12000, "switches": 1, "rerr": 0, "werr": 0,
            "ioerr": 0, "ended": "complete", "logvars": {"user_id": "42"},
        });
        assert_eq!(Json::Object(object(&sample)), expected);
    }

    #[test]
    fn what_is_there_only_sometimes() {
        let memory = Some(super::super::Memory { resident: 1, address_space: 2 });
        let sample = Sample { memory, app: None, cancelled: Some(Cancel::Deadline), ..Sample::default() };
        let object = object(&sample);
        assert_eq!((&object["rss"], &object["vsz"]), (&json!(1), &json!(2)));
        assert_eq!((&object["app"], &object["app_requests"]), (&json!(-1), &json!(-1)));
        assert_eq!((&object["ended"], &object["logvars"]), (&json!("deadline"), &json!({})));
    }

    #[test]
    fn long_texts_are_cut_and_the_object_stays_whole() {
        let mut sample = Sample::default();
        sample.set("REQUEST_URI", &[b'u'; 10_000]);
        let shown = object(&sample)["uri"].as_str().expect("a text").to_owned();
        assert_eq!(shown, format!("{}\\...", "u".repeat(2900)));
        let mut sample = Sample::longest();
        for (_, value) in &mut sample.vars {
            *value = vec![0xff; 10_000];
        }
        sample.logvars = (0..1000_u32)
            .map(|n| (format!("name{n}").into_bytes(), vec![b'"'; 1000]))
            .chain([(vec![b'\\'; 1000], b"x".to_vec())])
            .collect();
        let object = object(&sample);
        let kept = object["logvars"].as_object().expect("an object").len();
        assert!(kept > 10, "{kept}");
        assert_eq!(object["logvars_left_out"], json!(1001 - kept));
        assert_eq!(object["uri"], json!("\\..."));
    }

    #[test]
    fn whatever_is_sent_can_be_read_back_from_one_object() {
        let mut texts = hostile_texts();
        let names = [
            ("REMOTE_ADDR", "addr"),
            ("REMOTE_USER", "user"),
            ("REQUEST_METHOD", "method"),
            ("REQUEST_URI", "uri"),
            ("SERVER_PROTOCOL", "proto"),
            ("HTTP_HOST", "host"),
            ("HTTP_REFERER", "referer"),
            ("HTTP_USER_AGENT", "uagent"),
            ("HTTP_X_REQUEST_ID", "request_id"),
        ];
        for _ in 0..10_000 {
            let mut sample = Sample::default();
            let mut expected = Vec::new();
            for (name, key) in names {
                let text = texts.next().expect("endless");
                sample.set(name, &text);
                expected.push((key, text));
            }
            let (name, value) = (texts.next().expect("endless"), texts.next().expect("endless"));
            sample.logvars = vec![(name.clone(), value.clone())];
            let object = object(&sample);
            for (key, text) in expected {
                assert_eq!(unescape(object[key].as_str().expect("a text")), text, "{key}");
            }
            let (key, text) = object["logvars"].as_object().expect("an object").iter().next().expect("one");
            assert_eq!(unescape(text.as_str().expect("a text")), value);
            assert!(unescape(key) == name || key.ends_with("\\..."), "{key}");
        }
    }
}
