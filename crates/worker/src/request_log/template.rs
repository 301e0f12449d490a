//! Lines after the user's own template.
//!
//! A text in a line ends at the byte that follows its item in the template, so that byte is escaped in it, as everything
//! is that is escaped in uWSGI's line. So a template from which a reader could find the parts of a harmless line finds them
//! in every line.

use greenloom_config::{LogFormat, LogItem};
use greenloom_proto::text::push_decimal;
use greenloom_sys::clock::LocalTime;

use super::escape::push_text;
use super::value::{self, Value};
use super::{Line, append_bounded};

/// Printed for what a request does not have.
const NOTHING: &[u8] = b"-";

/// A template and what its texts are now.
#[derive(Debug)]
pub(super) struct Template {
    items: Vec<LogItem>,
    /// For each item what it prints, if it is text.
    texts: Vec<Vec<u8>>,
    /// The texts go through strftime.
    strftime: bool,
    scratch: Vec<u8>,
}

impl Template {
    pub(super) fn new(format: LogFormat, strftime: bool) -> Self {
        let texts = format.items.iter().map(|item| match item {
            LogItem::Text(text) => text.as_bytes().to_vec(),
            _ => Vec::new(),
        });
        Self { texts: texts.collect(), items: format.items, strftime, scratch: Vec::new() }
    }

    /// Appends the line, its line end included. `local`: the second in which the request began, if that is another one
    /// than the last line's.
    pub(super) fn append(&mut self, out: &mut Vec<u8>, line: &Line<'_>, local: Option<LocalTime>) {
        if self.strftime
            && let Some(local) = local
        {
            for (item, text) in self.items.iter().zip(&mut self.texts) {
                if let LogItem::Text(format) = item {
                    *text = local.strftime(format);
                }
            }
        }
        let (items, texts, scratch) = (&self.items, &self.texts, &mut self.scratch);
        append_bounded(out, |out, most| {
            for (index, item) in items.iter().enumerate() {
                let value = match item {
                    LogItem::Text(_) => {
                        out.extend_from_slice(&texts[index]);
                        continue;
                    }
                    LogItem::Variable(variable) => value::of(*variable, line, scratch),
                    LogItem::Request(name) => value::of_request(name.as_bytes(), line, scratch),
                    LogItem::Application(name, own) => {
                        match (value::of_application(name.as_bytes(), line.record), own) {
                            (Some(value), _) => value,
                            (None, Some(variable)) => value::of(*variable, line, scratch),
                            (None, None) => Value::Text(b""),
                        }
                    }
                    LogItem::Nothing => Value::Text(b""),
                };
                // At the end of the line, and between items without a text, there is nothing else to look for.
                let end = texts.get(index + 1).and_then(|text| text.first()).copied().unwrap_or(b'\n');
                push_value(out, value, most, end);
            }
        });
    }
}

fn push_value(out: &mut Vec<u8>, value: Value<'_>, most: usize, end: u8) {
    match value {
        Value::Text(b"") => out.extend_from_slice(NOTHING),
        Value::Text(text) => push_text(out, text, most, end),
        Value::Number(number) => push_decimal(out, number),
        Value::MinusOne => out.extend_from_slice(b"-1"),
        Value::Seconds(micros) => {
            push_decimal(out, micros / 1_000_000);
            out.push(b'.');
            let start = out.len();
            // Six digits: a one in front keeps the zeros.
            push_decimal(out, 1_000_000 + micros % 1_000_000);
            out.remove(start);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::samples::{BEGAN_US, Sample, hostile_texts, unescape};
    use super::super::{LINE_BYTES, TEXT_BYTES};
    use super::*;
    use greenloom_config::LogVariable;
    use greenloom_sys::clock;

    const COMBINED: &str = "%(addr) - %(user) [%(ltime)] \"%(method) %(uri) %(proto)\" %(status) %(size) \
                            \"%(referer)\" \"%(uagent)\"";

    fn render(template: &str, strftime: bool, sample: &Sample) -> String {
        let format = LogFormat::parse(template).unwrap_or_else(|error| panic!("{template}: {error}"));
        let mut template = Template::new(format, strftime);
        sample.line(|out, line| template.append(out, line, Some(LocalTime::at(BEGAN_US / 1_000_000))))
    }

    fn line(template: &str, sample: &Sample) -> String {
        render(template, false, sample)
    }

    #[test]
    fn the_combined_line() {
        let expected = format!(
            "127.0.0.1 - ann [{}] \"GET /plain?a=1 HTTP/1.1\" 200 50 \"-\" \"curl/8 (x)\"\n",
            LocalTime::at(BEGAN_US / 1_000_000).apache()
        );
        assert_eq!(line(COMBINED, &Sample::default()), expected);
    }

    #[test]
    fn numbers_and_times() {
        let sample = Sample::default();
        assert_eq!(line("%(micros) %(msecs) %(secs)", &sample), "12345 12 0.012345\n");
        let secs = |elapsed_us| line("%(secs)", &Sample { elapsed_us, ..Sample::default() });
        assert_eq!((secs(0), secs(61_000_001)), ("0.000000\n".to_owned(), "61.000001\n".to_owned()));
        assert_eq!(
            line("%(tmicros) %(tmsecs) %(time)", &sample),
            "1795289258000123 1795289258000 1795289258\n"
        );
        assert_eq!(line("%(ctime)", &sample), format!("{}\n", clock::ctime(1_795_289_258)));
        assert_eq!(line("%(pid)/%(wid)/%(core)/%(switches)", &sample), "10862/2/0/1\n");
        assert_eq!(line("%(vars) %(pktsize) %(modifier1) %(modifier2)", &sample), "20 227 0 0\n");
        assert_eq!(line("%(rsize) %(hsize) %(size) %(headers) %(cl)", &sample), "5 45 50 1 0\n");
        assert_eq!(line("%(werr)%(rerr)%(ioerr) %(rss) %(vszM)", &sample), "000 0 0\n");
        assert_eq!(line("%(app) %(app_requests) %(requests) %(ended)", &sample), "0 1 7 complete\n");
        let epoch: u64 = line("%(epoch)", &sample).trim_end().parse().expect("a number");
        assert!(clock::unix_seconds().abs_diff(epoch) < 600);
    }

    #[test]
    fn the_date_of_the_servers_log() {
        let mut sample = Sample::default();
        assert_eq!(line("%(ftime)", &sample), line("%(ltime)", &sample));
        sample.date = Some("%s".to_owned());
        assert_eq!(line("%(ftime)", &sample), "1795289258\n");
    }

    #[test]
    fn variables_of_the_request_and_of_the_application() {
        let mut sample = Sample::default();
        assert_eq!(line("%(var.QUERY_STRING) %(var.NONE) %(metric.x)", &sample), "a=1 - -\n");
        assert_eq!(line("%(user_id) %(requests)", &sample), "- 7\n");
        sample.logvars = vec![(b"user_id".to_vec(), b"42".to_vec()), (b"requests".to_vec(), b"own".to_vec())];
        // What uWSGI has keeps its meaning; what only greenloom has gives way.
        sample.logvars.push((b"status".to_vec(), b"999".to_vec()));
        assert_eq!(line("%(user_id) %(requests) %(status)", &sample), "42 own 200\n");
    }

    #[test]
    fn text_is_printed_as_it_is_or_through_strftime() {
        let sample = Sample::default();
        let year = String::from_utf8(LocalTime::at(BEGAN_US / 1_000_000).strftime("%Y")).expect("digits");
        assert_eq!(line("%%Y %Y 100%\t%(status)", &sample), "%%Y %Y 100%\t200\n");
        assert_eq!(render("%Y %%Y %(status)%%", true, &sample), format!("{year} %Y 200%\n"));
        // What ends a text is the byte that is printed.
        let mut sample = Sample::default();
        sample.set("REQUEST_URI", b"/2%");
        let first = &year[..1];
        assert!(render("%(uri)%Y", true, &sample).starts_with("/\\x32%2"), "{first}");
    }

    #[test]
    fn texts_of_strftime_follow_the_seconds() {
        let format = LogFormat::parse("%S %(uri)").expect("a template");
        let mut template = Template::new(format, true);
        let mut at = |second| Sample::default().line(|out, line| template.append(out, line, second));
        assert_eq!(at(Some(LocalTime::at(1_795_290_458))), "38 /plain?a=1\n");
        assert_eq!(at(None), "38 /plain?a=1\n");
        assert_eq!(at(Some(LocalTime::at(1_795_290_459))), "39 /plain?a=1\n");
    }

    #[test]
    fn the_longest_texts_are_cut_first() {
        let mut sample = Sample::default();
        sample.set("REQUEST_URI", &[b'u'; 4000]);
        sample.set("HTTP_USER_AGENT", &[b'a'; 1000]);
        let text = line("%(method) %(uri) %(uagent)", &sample);
        let [method, uri, agent] = text.trim_end().split(' ').collect::<Vec<_>>()[..] else {
            panic!("{text}")
        };
        assert_eq!((method, agent), ("GET", &*"a".repeat(1000)));
        assert_eq!(uri, format!("{}\\...", "u".repeat(TEXT_BYTES[0])));
    }

    #[test]
    fn every_line_is_below_the_bound() {
        let mut sample = Sample::longest();
        for text in [&[0xff; 10_000], &[b'a'; 10_000]] {
            for (_, value) in &mut sample.vars {
                *value = text.to_vec();
            }
            sample.logvars = vec![(b"x".to_vec(), text.to_vec())];
            let everything: String = LogVariable::ALL.iter().flat_map(|v| ["%(", v.name(), ") "]).collect();
            let texts = "%(uri) %(x) %(var.REMOTE_USER) ".repeat(30);
            for template in [COMBINED, "%(uri)", &everything, &texts, &format!("{texts}{}", "t".repeat(900))]
            {
                let text = line(template, &sample);
                assert!(text.len() < LINE_BYTES && text.ends_with('\n'), "{}: {text}", text.len());
            }
            // strftime makes twenty-four bytes of two.
            let text = render(&"%c".repeat(500), true, &sample);
            assert!(text.len() < LINE_BYTES && text.ends_with('\n'), "{}", text.len());
        }
    }

    #[test]
    fn whatever_is_sent_can_be_read_back_from_one_line() {
        let mut texts = hostile_texts();
        let names = ["REMOTE_ADDR", "REMOTE_USER", "REQUEST_METHOD", "REQUEST_URI", "SERVER_PROTOCOL"];
        let quoted = ["HTTP_REFERER", "HTTP_USER_AGENT"];
        for _ in 0..20_000 {
            let mut sample = Sample::default();
            let mut expected = Vec::new();
            for name in names.iter().chain(&quoted) {
                let text = texts.next().expect("endless");
                sample.set(name, &text);
                expected.push(if text.is_empty() { b"-".to_vec() } else { text });
            }
            let text = line(COMBINED, &sample);
            assert_eq!(text.matches('\n').count(), 1, "{text:?}");
            assert!(text.bytes().all(|byte| byte == b'\n' || (0x20..0x7f).contains(&byte)), "{text:?}");
            assert_eq!(read_back(&text), Some(expected), "{text:?}");
        }
    }

    /// What a reader of combined lines does.
    fn read_back(line: &str) -> Option<Vec<Vec<u8>>> {
        let rest = line.strip_suffix('\n')?;
        let (addr, rest) = rest.split_once(' ')?;
        let (user, rest) = rest.strip_prefix("- ")?.split_once(' ')?;
        let (_, rest) = rest.strip_prefix('[')?.split_once("] \"")?;
        let (method, rest) = rest.split_once(' ')?;
        let (uri, rest) = rest.split_once(' ')?;
        let (proto, rest) = rest.split_once('"')?;
        let (referer, rest) = rest.strip_prefix(" 200 50 \"")?.split_once('"')?;
        let (agent, rest) = rest.strip_prefix(" \"")?.split_once('"')?;
        let found = [addr, user, method, uri, proto, referer, agent].map(unescape);
        rest.is_empty().then(|| found.to_vec())
    }
}
