//! One record for each core: the request it runs, for those who look from outside while it does.
//!
//! Owns its 64 words. The process writes, others copy: a count that is odd while the texts change, and that differs after
//! they have, tells a copy that is half of one request and half of another (a sequence lock). Of the client's fields only the
//! host is there: others may be secrets.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::atomic::{AtomicU64, Ordering, fence};

use super::{add, load, store};

/// Words of a record.
pub(super) const WORDS: usize = 64;

/// How often a reader tries again: a request that begins at every try does not keep it, nor does a writer that died.
const TRIES: u32 = 16;

// What stands where.
const SEQUENCE: usize = 0;
const STATE: usize = 1;
const BEGAN_UNIX_US: usize = 2;
const BEGAN_MS: usize = 3;
const REQUESTS: usize = 4;
const WRITE_ERRORS: usize = 5;
const READ_ERRORS: usize = 6;
const SWITCHES: usize = 7;
/// Lengths of the texts, 16 bits each: method, address (of which the top four bits are its kind), host, URI.
const LENGTHS: usize = 8;
const METHOD: usize = 9;
const ADDRESS: usize = 11;
const HOST: usize = 17;
const URI: usize = 25;

/// Bytes that are kept of each text.
const METHOD_BYTES: usize = (ADDRESS - METHOD) * 8;
const ADDRESS_BYTES: usize = (HOST - ADDRESS) * 8;
const HOST_BYTES: usize = (URI - HOST) * 8;
const URI_BYTES: usize = (WORDS - URI) * 8;

/// Kinds of addresses.
const NONE: u64 = 0;
const V4: u64 = 1;
const V6: u64 = 2;
const TEXT: u64 = 3;

/// What a core is doing, as its record says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u64)]
pub enum CoreState {
    /// It has no request.
    #[default]
    Free = 0,
    /// Its code runs, or is about to. [`super::Seat::loop_state`] says which core really runs.
    Running = 1,
    /// It waits for its turn.
    Queued = 2,
    /// It waits for descriptors or until a time.
    Waiting = 3,
    /// It waits until its client has read what was written.
    Draining = 4,
    /// It waits for bytes of its request's body.
    Reading = 5,
}

impl CoreState {
    fn from_word(word: u64) -> Self {
        match word {
            1 => Self::Running,
            2 => Self::Queued,
            3 => Self::Waiting,
            4 => Self::Draining,
            5 => Self::Reading,
            _ => Self::Free,
        }
    }

    /// In one word, for people.
    pub fn name(self) -> &'static str {
        match self {
            Self::Free => "free",
            Self::Running => "running",
            Self::Queued => "queued",
            Self::Waiting => "waiting",
            Self::Draining => "draining",
            Self::Reading => "reading",
        }
    }
}

/// Where a request comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RemoteAddress<'a> {
    /// Nobody knows: a UNIX socket.
    None,
    /// The peer of the socket.
    Ip(IpAddr),
    /// What the web server in front says.
    Text(&'a [u8]),
}

/// A request that begins.
#[derive(Clone, Copy, Debug)]
pub struct Begun<'a> {
    /// When, microseconds since the epoch.
    pub unix_us: u64,
    /// When, milliseconds of the monotonic clock.
    pub now_ms: u64,
    /// Its method.
    pub method: &'a [u8],
    /// Its target, as sent.
    pub uri: &'a [u8],
    /// The host it is for.
    pub host: &'a [u8],
    /// Who asks.
    pub address: RemoteAddress<'a>,
}

/// The record of one core.
#[derive(Clone, Copy, Debug)]
pub struct Record<'a> {
    pub(super) words: &'a [AtomicU64; WORDS],
}

/// A copy of a record.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RecordView {
    /// What the core is doing.
    pub state: CoreState,
    /// Requests it has had; the one that runs is not among them.
    pub requests: u64,
    /// Responses it could not send to their end.
    pub write_errors: u64,
    /// Bodies it could not read to their end.
    pub read_errors: u64,
    /// The request that runs, if one does.
    pub request: Option<RequestView>,
}

/// A copy of what is known of a request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RequestView {
    /// When it got its core, microseconds since the epoch.
    pub unix_us: u64,
    /// When it got its core, milliseconds of the monotonic clock.
    pub began_ms: u64,
    /// Switches so far.
    pub switches: u64,
    /// Its method, perhaps cut, as all texts.
    pub method: Vec<u8>,
    /// Its target, as sent.
    pub uri: Vec<u8>,
    /// The host it is for.
    pub host: Vec<u8>,
    /// Who asks.
    pub address: Vec<u8>,
}

impl Record<'_> {
    /// A request begins.
    pub fn begin(self, begun: &Begun<'_>) {
        let words = self.words;
        self.change(|| {
            store(&words[BEGAN_UNIX_US], begun.unix_us);
            store(&words[BEGAN_MS], begun.now_ms);
            store(&words[SWITCHES], 0);
            let method =
                store_text(&words[METHOD..ADDRESS], &begun.method[..begun.method.len().min(METHOD_BYTES)]);
            let host = store_text(&words[HOST..URI], &begun.host[..begun.host.len().min(HOST_BYTES)]);
            let uri = store_text(&words[URI..], &begun.uri[..begun.uri.len().min(URI_BYTES)]);
            let address = store_address(&words[ADDRESS..HOST], begun.address);
            store(&words[LENGTHS], method | address << 16 | host << 32 | uri << 48);
            store(&words[STATE], CoreState::Running as u64);
        });
    }

    /// The request has ended, with so many failures to write and to read.
    pub fn ended(self, write_errors: u64, read_errors: u64) {
        store(&self.words[STATE], CoreState::Free as u64);
        add(&self.words[REQUESTS], 1);
        if write_errors | read_errors != 0 {
            add(&self.words[WRITE_ERRORS], write_errors);
            add(&self.words[READ_ERRORS], read_errors);
        }
    }

    /// What the core does now, after so many switches.
    pub fn set_state(self, state: CoreState, switches: u64) {
        store(&self.words[STATE], state as u64);
        store(&self.words[SWITCHES], switches);
    }

    /// As if it had never had a request.
    pub(super) fn clear(self) {
        self.change(|| self.words[1..].iter().for_each(|word| store(word, 0)));
    }

    /// What stands there. Without the request when its texts change all the time, or a dead process was changing them.
    pub fn view(self) -> RecordView {
        let words = self.words;
        let mut view = RecordView {
            state: CoreState::from_word(load(&words[STATE])),
            requests: load(&words[REQUESTS]),
            write_errors: load(&words[WRITE_ERRORS]),
            read_errors: load(&words[READ_ERRORS]),
            request: None,
        };
        for _ in 0..TRIES {
            let before = words[SEQUENCE].load(Ordering::Acquire);
            let request = self.request();
            fence(Ordering::Acquire);
            if before & 1 == 0 && words[SEQUENCE].load(Ordering::Relaxed) == before {
                view.request = request;
                if view.request.is_none() {
                    view.state = CoreState::Free;
                }
                break;
            }
        }
        view
    }

    fn request(self) -> Option<RequestView> {
        let words = self.words;
        if load(&words[STATE]) == CoreState::Free as u64 {
            return None;
        }
        let lengths = load(&words[LENGTHS]);
        let length = |shift: u32, most: usize| {
            usize::try_from(lengths >> shift & 0x0fff).unwrap_or(usize::MAX).min(most)
        };
        let address = &words[ADDRESS..HOST];
        Some(RequestView {
            unix_us: load(&words[BEGAN_UNIX_US]),
            began_ms: load(&words[BEGAN_MS]),
            switches: load(&words[SWITCHES]),
            method: load_text(&words[METHOD..ADDRESS], length(0, METHOD_BYTES)),
            address: load_address(address, lengths >> 28 & 0xf, length(16, ADDRESS_BYTES)),
            host: load_text(&words[HOST..URI], length(32, HOST_BYTES)),
            uri: load_text(&words[URI..], length(48, URI_BYTES)),
        })
    }

    /// Changes what readers must see whole.
    fn change(self, change: impl FnOnce()) {
        let sequence = &self.words[SEQUENCE];
        let before = load(sequence) & !1;
        store(sequence, before | 1);
        fence(Ordering::Release);
        change();
        sequence.store(before.wrapping_add(2), Ordering::Release);
    }
}

/// Copies a text that fits into words; its length.
pub(super) fn store_text(words: &[AtomicU64], text: &[u8]) -> u64 {
    let (whole, rest) = text.as_chunks::<8>();
    for (word, bytes) in words.iter().zip(whole) {
        store(word, u64::from_le_bytes(*bytes));
    }
    if !rest.is_empty()
        && let Some(word) = words.get(whole.len())
    {
        store(word, last_word(rest));
    }
    text.len() as u64
}

/// One to seven bytes, the first one lowest. From two pieces that may overlap: a copy of unknown length is a call, and a
/// loop takes as long.
fn last_word(rest: &[u8]) -> u64 {
    let shift = |bytes: usize| 8 * (rest.len() - bytes);
    match (rest.first_chunk::<4>(), rest.last_chunk::<4>(), rest.first_chunk::<2>(), rest.last()) {
        (Some(first), Some(last), ..) => {
            u64::from(u32::from_le_bytes(*first)) | u64::from(u32::from_le_bytes(*last)) << shift(4)
        }
        (_, _, Some(first), Some(&last)) => {
            u64::from(u16::from_le_bytes(*first)) | u64::from(last) << shift(1)
        }
        (.., last) => last.copied().map_or(0, u64::from),
    }
}

/// The reverse; `length` is at most what the words hold.
pub(super) fn load_text(words: &[AtomicU64], length: usize) -> Vec<u8> {
    let mut text: Vec<u8> =
        words.iter().take(length.div_ceil(8)).flat_map(|word| load(word).to_le_bytes()).collect();
    text.truncate(length);
    text
}

/// The kind in the top four of 16 bits, the length of a text in the others.
fn store_address(words: &[AtomicU64], address: RemoteAddress<'_>) -> u64 {
    match address {
        RemoteAddress::None => NONE << 12,
        RemoteAddress::Ip(IpAddr::V4(v4)) => {
            store(&words[0], u64::from(v4.to_bits()));
            V4 << 12
        }
        RemoteAddress::Ip(IpAddr::V6(v6)) => {
            store_text(words, &v6.octets());
            V6 << 12
        }
        RemoteAddress::Text(text) => TEXT << 12 | store_text(words, &text[..text.len().min(ADDRESS_BYTES)]),
    }
}

fn load_address(words: &[AtomicU64], kind: u64, length: usize) -> Vec<u8> {
    match kind {
        V4 => Ipv4Addr::from_bits(u32::try_from(load(&words[0])).unwrap_or(0)).to_string().into_bytes(),
        V6 => {
            let octets = load_text(words, 16);
            <[u8; 16]>::try_from(octets.as_slice())
                .map(|octets| Ipv6Addr::from(octets).to_string().into_bytes())
                .unwrap_or_default()
        }
        TEXT => load_text(words, length),
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scoreboard::Scoreboard;

    fn begun(address: RemoteAddress<'_>) -> Begun<'_> {
        Begun { unix_us: 1, now_ms: 2, method: b"GET", uri: b"/a?b", host: b"example.org:80", address }
    }

    #[test]
    fn a_request_is_seen_while_it_runs() {
        let board = Scoreboard::create(1, 1).unwrap();
        let record = board.seat(0).unwrap().core(0).unwrap();
        assert_eq!(record.view(), RecordView::default());
        for (address, text) in [
            (RemoteAddress::Ip("10.1.2.3".parse().unwrap()), "10.1.2.3"),
            (RemoteAddress::Ip("2001:db8::7".parse().unwrap()), "2001:db8::7"),
            (RemoteAddress::Text(b"203.0.113.9"), "203.0.113.9"),
            (RemoteAddress::None, ""),
        ] {
            record.begin(&begun(address));
            record.set_state(CoreState::Waiting, 3);
            let view = record.view();
            assert_eq!(view.state, CoreState::Waiting);
            let request = view.request.unwrap();
            assert_eq!((request.unix_us, request.began_ms, request.switches), (1, 2, 3));
            assert_eq!(request.method, b"GET");
            assert_eq!(request.uri, b"/a?b");
            assert_eq!(request.host, b"example.org:80");
            assert_eq!(String::from_utf8(request.address).unwrap(), text);
            record.ended(1, 0);
            assert_eq!(record.view().request, None);
        }
        assert_eq!((record.view().requests, record.view().write_errors), (4, 4));
    }

    #[test]
    fn long_texts_are_cut_and_stay_in_their_places() {
        let board = Scoreboard::create(1, 2).unwrap();
        let record = board.seat(0).unwrap().core(0).unwrap();
        let long = [b'x'; 5000];
        let address = RemoteAddress::Text(&long);
        record.begin(&Begun { method: &long, uri: &long, host: &long, ..begun(address) });
        let request = record.view().request.unwrap();
        assert_eq!(
            [request.method.len(), request.uri.len(), request.host.len(), request.address.len()],
            [METHOD_BYTES, URI_BYTES, HOST_BYTES, ADDRESS_BYTES]
        );
        assert_eq!(board.seat(0).unwrap().core(1).unwrap().view(), RecordView::default());
    }

    #[test]
    fn texts_of_every_length_come_back() {
        let board = Scoreboard::create(1, 1).unwrap();
        let record = board.seat(0).unwrap().core(0).unwrap();
        let text: Vec<u8> = (1..=40).collect();
        for length in 0..text.len() {
            record.begin(&Begun { uri: &text[..length], ..begun(RemoteAddress::None) });
            assert_eq!(record.view().request.unwrap().uri, text[..length], "{length}");
        }
    }

    #[test]
    fn a_writer_that_died_half_way_holds_nobody_up() {
        let board = Scoreboard::create(1, 1).unwrap();
        let record = board.seat(0).unwrap().core(0).unwrap();
        record.begin(&begun(RemoteAddress::None));
        store(&record.words[SEQUENCE], 3);
        assert_eq!(record.view().request, None);
        record.begin(&begun(RemoteAddress::None));
        assert!(record.view().request.is_some());
    }

    #[test]
    fn no_copy_mixes_two_requests() {
        let board = Scoreboard::create(1, 1).unwrap();
        let writer = {
            let board = board.clone();
            std::thread::spawn(move || {
                let record = board.seat(0).unwrap().core(0).unwrap();
                for round in 0..20_000_u32 {
                    let text = if round % 2 == 0 { [b'a'; 40] } else { [b'b'; 40] };
                    let address = RemoteAddress::None;
                    record.begin(&Begun { uri: &text, host: &text, ..begun(address) });
                }
            })
        };
        let record = board.seat(0).unwrap().core(0).unwrap();
        let mut seen = 0;
        while !writer.is_finished() {
            if let Some(request) = record.view().request {
                seen += 1;
                assert_eq!(request.uri, request.host);
            }
        }
        writer.join().unwrap();
        assert!(seen > 0 || record.view().request.is_some());
    }
}
