//! Replays the seeds and finds of the fuzz targets, so that an ordinary `cargo test` sees them.

use std::fs;
use std::path::Path;

use greenloom_proto::fuzz_entry::{
    fuzz_accept_encoding, fuzz_cgi, fuzz_chunked, fuzz_conditional, fuzz_date, fuzz_handover, fuzz_head,
    fuzz_query_words, fuzz_ranges, fuzz_response, fuzz_uwsgi, fuzz_websocket, fuzz_websocket_offers,
};

use super::oracle;

/// Runs `entry` on every file of a target's corpus, at least `least` of them.
fn replay(target: &str, least: usize, entry: impl Fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus").join(target);
    let files = fs::read_dir(&folder).expect("the corpus is part of the repository");
    let mut count = 0;
    for file in files {
        let path = file.expect("the folder can be read").path();
        if path.is_file() {
            entry(&fs::read(&path).expect("the file can be read"));
            count += 1;
        }
    }
    assert!(count >= least, "{count} files in {}", folder.display());
}

#[test]
fn head() {
    replay("head", 20, |data| {
        fuzz_head(data);
        oracle::head(data);
    });
}

#[test]
fn chunked() {
    replay("chunked", 10, fuzz_chunked);
}

#[test]
fn response() {
    replay("response", 10, fuzz_response);
}

#[test]
fn uwsgi() {
    replay("uwsgi", 8, fuzz_uwsgi);
}

#[test]
fn handover() {
    replay("handover", 6, fuzz_handover);
}

#[test]
fn date() {
    replay("date", 10, fuzz_date);
}

#[test]
fn conditional() {
    replay("conditional", 10, fuzz_conditional);
}

#[test]
fn ranges() {
    replay("ranges", 12, fuzz_ranges);
}

#[test]
fn accept_encoding() {
    replay("accept_encoding", 8, fuzz_accept_encoding);
}

#[test]
fn cgi() {
    replay("cgi", 15, fuzz_cgi);
}

#[test]
fn query_words() {
    replay("query_words", 6, fuzz_query_words);
}

#[test]
fn websocket() {
    replay("websocket", 15, fuzz_websocket);
}

#[test]
fn websocket_offers() {
    replay("websocket_offers", 8, fuzz_websocket_offers);
}
