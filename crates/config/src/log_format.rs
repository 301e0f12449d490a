//! The template of request lines (`--log-format`): uWSGI's `%(name)` items between literal text.
//!
//! Owns what a template means and which ones are refused. A percent sign that begins no item is text, and so is the
//! character behind it. Every name that is no variable of the server is one that the application may set with
//! `uwsgi.set_logvar`. Writing a line is the worker's.

use std::fmt;

/// Most items of a template. With each value cut as far as it can be, a line of so many still has room for text.
const MOST_ITEMS: usize = 100;
/// Most bytes of text between the items.
const MOST_TEXT: usize = 1024;

/// A template, taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogFormat {
    /// Its parts in order; two texts never follow each other.
    pub items: Vec<LogItem>,
}

/// A part of a template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LogItem {
    /// Text, printed as it is.
    Text(String),
    /// A fact about the request.
    Variable(LogVariable),
    /// `var.NAME`: a variable of the request (`QUERY_STRING`, `HTTP_ACCEPT`).
    Request(String),
    /// What the application has set under this name; before that, the fact of the same name that only greenloom has.
    Application(String, Option<LogVariable>),
    /// Nothing that exists: `metric.NAME`.
    Nothing,
}

macro_rules! variables {
    ($($(#[$doc:meta])* $variant:ident = $name:literal),+ $(,)?) => {
        /// A fact about a request that a line can show.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum LogVariable { $($(#[$doc])* $variant),+ }

        impl LogVariable {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$variant),+];

            /// Its name in a template.
            pub fn name(self) -> &'static str {
                match self { $(Self::$variant => $name),+ }
            }
        }
    };
}

variables! {
    /// The target as sent.
    Uri = "uri",
    /// The method.
    Method = "method",
    /// `REMOTE_USER`.
    User = "user",
    /// The client's address.
    Addr = "addr",
    /// The Host field.
    Host = "host",
    /// `HTTP/1.1`.
    Proto = "proto",
    /// The User-Agent field.
    Uagent = "uagent",
    /// The Referer field.
    Referer = "referer",
    /// Status of the response.
    Status = "status",
    /// Bytes of the response's body.
    Rsize = "rsize",
    /// Bytes of the response's head.
    Hsize = "hsize",
    /// Both.
    Size = "size",
    /// Content-Length of the request.
    Cl = "cl",
    /// Duration in microseconds.
    Micros = "micros",
    /// Duration in milliseconds.
    Msecs = "msecs",
    /// Duration in seconds, with six decimals.
    Secs = "secs",
    /// Start in microseconds since the epoch.
    Tmicros = "tmicros",
    /// Start in milliseconds since the epoch.
    Tmsecs = "tmsecs",
    /// Start in seconds since the epoch.
    Time = "time",
    /// Now, in seconds since the epoch.
    Epoch = "epoch",
    /// Start as `ctime` writes it.
    Ctime = "ctime",
    /// Start as Apache writes it.
    Ltime = "ltime",
    /// Start in the form of `--log-date`.
    Ftime = "ftime",
    /// Process id of the worker.
    Pid = "pid",
    /// Number of the worker.
    Wid = "wid",
    /// Number of the core.
    Core = "core",
    /// Switches of the request.
    Switches = "switches",
    /// Variables of the request, keys and values counted.
    Vars = "vars",
    /// Their bytes.
    Pktsize = "pktsize",
    /// First modifier of the packet.
    Modifier1 = "modifier1",
    /// Second modifier of the packet.
    Modifier2 = "modifier2",
    /// Fields of the response's head.
    Headers = "headers",
    /// Resident memory in bytes.
    Rss = "rss",
    /// Address space in bytes.
    Vsz = "vsz",
    /// Resident memory in megabytes.
    RssM = "rssM",
    /// Address space in megabytes.
    VszM = "vszM",
    /// Failed writes to the client.
    Werr = "werr",
    /// Failed reads from the client.
    Rerr = "rerr",
    /// Both.
    Ioerr = "ioerr",
    /// Number of the app.
    App = "app",
    /// Requests that the app has had in this worker.
    AppRequests = "app_requests",
    /// Number of the request in the instance.
    Requests = "requests",
    /// What a front end calls the request: its X-Request-Id field.
    RequestId = "request_id",
    /// Microseconds before the request had a core.
    WaitMicros = "wait_micros",
    /// Microseconds for which it had one.
    RunMicros = "run_micros",
    /// How it ended.
    Ended = "ended",
}

impl LogVariable {
    /// Whether uWSGI does not have it: then a variable of the application goes before it.
    pub fn is_our_own(self) -> bool {
        matches!(
            self,
            Self::App
                | Self::AppRequests
                | Self::Requests
                | Self::RequestId
                | Self::WaitMicros
                | Self::RunMicros
                | Self::Ended
        )
    }
}

/// Why a template is refused: parts of a sentence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogFormatError {
    /// What is wrong, and where.
    pub reason: String,
    /// What to write instead.
    pub remedy: String,
}

impl fmt::Display for LogFormatError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}; {}", self.reason, self.remedy)
    }
}

impl std::error::Error for LogFormatError {}

impl LogFormat {
    /// Takes a template apart.
    ///
    /// # Errors
    /// What is not a template, or could make a line longer than a line may be.
    pub fn parse(template: &str) -> Result<Self, LogFormatError> {
        let refuse = |reason: String, remedy: &str| Err(LogFormatError { reason, remedy: remedy.to_owned() });
        let mut items = Vec::new();
        let mut text = String::new();
        let (mut rest, mut texts) = (template, 0);
        while let Some(at) = rest.find('%') {
            let (before, from) = rest.split_at(at);
            text.push_str(before);
            let Some(name) = from.strip_prefix("%(") else {
                // The percent sign and what follows it, which cannot begin an item any more.
                let end = from.char_indices().nth(2).map_or(from.len(), |(end, _)| end);
                text.push_str(&from[..end]);
                rest = &from[end..];
                continue;
            };
            let position = template.len() - from.len();
            let Some((name, behind)) = name.split_once(')') else {
                return refuse(
                    format!("the item at byte {position} has no end: {}", shortened(from)),
                    "close it with ): %(uri)",
                );
            };
            if name.is_empty() || name == "var." {
                return refuse(
                    format!("the item at byte {position} names nothing: %({name})"),
                    "write a variable's name, such as %(uri) or %(var.HTTP_ACCEPT)",
                );
            }
            if !text.is_empty() {
                texts += text.len();
                items.push(LogItem::Text(std::mem::take(&mut text)));
            }
            items.push(item(name));
            rest = behind;
        }
        text.push_str(rest);
        if !text.is_empty() {
            texts += text.len();
            items.push(LogItem::Text(text));
        }
        if items.is_empty() {
            return refuse("the template is empty".to_owned(), "write at least one item, such as %(uri)");
        }
        let variables = items.iter().filter(|item| !matches!(item, LogItem::Text(_))).count();
        if variables > MOST_ITEMS || texts > MOST_TEXT {
            return refuse(
                format!("the template has {variables} items and {texts} bytes of text between them"),
                &format!(
                    "use at most {MOST_ITEMS} items and {MOST_TEXT} bytes of text: a line has at most 4096 bytes"
                ),
            );
        }
        Ok(Self { items })
    }
}

fn item(name: &str) -> LogItem {
    if let Some(name) = name.strip_prefix("var.") {
        return LogItem::Request(name.to_owned());
    }
    if name.starts_with("metric.") {
        return LogItem::Nothing;
    }
    match LogVariable::ALL.iter().copied().find(|variable| variable.name() == name) {
        Some(variable) if !variable.is_our_own() => LogItem::Variable(variable),
        own => LogItem::Application(name.to_owned(), own),
    }
}

fn shortened(text: &str) -> String {
    const SHOWN: usize = 20;
    match text.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn text(text: &str) -> LogItem {
        LogItem::Text(text.to_owned())
    }

    fn parsed(template: &str) -> Vec<LogItem> {
        LogFormat::parse(template).unwrap_or_else(|error| panic!("{template}: {error}")).items
    }

    #[test]
    fn items_and_the_text_between_them() {
        let items = parsed("%(addr) \"%(method)%(var.QUERY_STRING)\" %(user_id)");
        assert_eq!(
            items,
            [
                LogItem::Variable(LogVariable::Addr),
                text(" \""),
                LogItem::Variable(LogVariable::Method),
                LogItem::Request("QUERY_STRING".to_owned()),
                text("\" "),
                LogItem::Application("user_id".to_owned(), None),
            ]
        );
    }

    #[test]
    fn a_percent_sign_that_begins_no_item_is_text() {
        assert_eq!(parsed("50% of %(uri)"), [text("50% of "), LogItem::Variable(LogVariable::Uri)]);
        assert_eq!(parsed("%%x"), [text("%%x")]);
        assert_eq!(parsed("%%(uri)"), [text("%%(uri)")]);
        assert_eq!(parsed("%d%"), [text("%d%")]);
        assert_eq!(parsed("%é%(uri)"), [text("%é"), LogItem::Variable(LogVariable::Uri)]);
    }

    #[test]
    fn every_name_is_found() {
        for &variable in LogVariable::ALL {
            let expected = if variable.is_our_own() {
                LogItem::Application(variable.name().to_owned(), Some(variable))
            } else {
                LogItem::Variable(variable)
            };
            assert_eq!(parsed(&format!("%({})", variable.name())), [expected]);
        }
        assert_eq!(parsed("%(metric.hits)"), [LogItem::Nothing]);
        assert_eq!(parsed("%(URI)"), [LogItem::Application("URI".to_owned(), None)]);
    }

    #[test]
    fn what_is_no_template_is_refused_with_its_place_and_a_remedy() {
        for (template, part) in [
            ("%(addr) %(uri", "byte 8 has no end: %(uri;"),
            ("a %()", "byte 2 names nothing: %()"),
            ("%(var.)", "names nothing: %(var.)"),
            ("", "empty"),
        ] {
            let message = LogFormat::parse(template).expect_err(template).to_string();
            assert!(message.contains(part), "{message}");
        }
        assert!(LogFormat::parse(&"%(uri)".repeat(MOST_ITEMS)).is_ok());
        assert!(LogFormat::parse(&"%(uri)".repeat(MOST_ITEMS + 1)).is_err());
        assert!(LogFormat::parse(&"x".repeat(MOST_TEXT + 1)).is_err());
    }

    proptest! {
        #[test]
        fn nothing_of_a_template_is_lost(template in "([%()a-z.é ]|%\\(uri\\)|%\\(var\\.A\\)|%\\(x\\)){1,40}") {
            if let Ok(LogFormat { items }) = LogFormat::parse(&template) {
                let printed: String = items.iter().map(|item| match item {
                    LogItem::Text(text) => text.clone(),
                    LogItem::Variable(variable) => format!("%({})", variable.name()),
                    LogItem::Request(name) => format!("%(var.{name})"),
                    LogItem::Application(name, _) => format!("%({name})"),
                    LogItem::Nothing => "%(metric.)".to_owned(),
                }).collect();
                prop_assert_eq!(printed, template);
            }
        }
    }
}
