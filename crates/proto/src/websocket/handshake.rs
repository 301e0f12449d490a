//! The opening handshake (RFC 6455 §4.2): whether a request asks for a websocket, and what the answer contains.
//!
//! Values are those of fields whose lines were joined with `, `. Who may connect (`Origin`), and which of the offered
//! subprotocols is spoken, the application decides; extensions are in [`deflate`](super::deflate).

use core::fmt;

use base64ct::{Base64, Encoding};
use sha1::{Digest, Sha1};

use crate::http1::chars::{TOKEN, all, trim};
use crate::http1::head::Version;

/// What RFC 6455 §1.3 adds to the key, so that only who means it can answer.
const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// The version spoken here, for `Sec-WebSocket-Version` in an answer with status 426 (RFC 6455 §4.4).
pub const VERSION: &[u8] = b"13";

/// The value of `Sec-WebSocket-Accept` for a request with this `Sec-WebSocket-Key` (RFC 6455 §4.2.2).
pub fn accept_key(key: &[u8]) -> [u8; 28] {
    let digest = Sha1::new().chain_update(key).chain_update(GUID).finalize();
    let mut out = [b'='; 28];
    // 20 bytes are 28 characters: there is no way to fail.
    let written = Base64::encode(&digest, &mut out);
    debug_assert!(written.is_ok());
    out
}

/// What of a request decides whether it asks for a websocket.
#[derive(Clone, Copy, Debug, Default)]
pub struct Fields<'a> {
    /// The method.
    pub method: &'a [u8],
    /// The version of HTTP.
    pub http: Version,
    /// `Upgrade`.
    pub upgrade: Option<&'a [u8]>,
    /// `Connection`.
    pub connection: Option<&'a [u8]>,
    /// `Sec-WebSocket-Version`.
    pub version: Option<&'a [u8]>,
    /// `Sec-WebSocket-Key`.
    pub key: Option<&'a [u8]>,
}

/// Checks a request against RFC 6455 §4.2.1; the first thing that is wrong is the error.
pub fn check(request: Fields<'_>) -> Result<(), HandshakeError> {
    if request.method != b"GET" {
        return Err(HandshakeError::NotGet);
    }
    if request.http == Version::Http10 {
        return Err(HandshakeError::NotHttp11);
    }
    if !contains(request.upgrade, b"websocket") {
        return Err(HandshakeError::NoUpgrade);
    }
    if !contains(request.connection, b"upgrade") {
        return Err(HandshakeError::NoConnectionUpgrade);
    }
    if request.version.map(trim) != Some(VERSION) {
        return Err(HandshakeError::OtherVersion);
    }
    if !request.key.is_some_and(is_key) {
        return Err(HandshakeError::BadKey);
    }
    Ok(())
}

/// Whether the comma-separated `list` has `wanted`, in any case of letters.
fn contains(list: Option<&[u8]>, wanted: &[u8]) -> bool {
    let mut members = list.unwrap_or_default().split(|&byte| byte == b',');
    members.any(|member| trim(member).eq_ignore_ascii_case(wanted))
}

/// Whether `key` is base64 of 16 bytes: 22 characters, and two that fill up. Bits that belong to no byte may have any
/// value, as RFC 4648 §3.5 lets decoders choose.
fn is_key(key: &[u8]) -> bool {
    let is_base64 = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/');
    trim(key).split_last_chunk::<2>().is_some_and(|(digits, padding)| {
        padding == b"==" && digits.len() == 22 && digits.iter().all(is_base64)
    })
}

/// The subprotocols that a client offers in `Sec-WebSocket-Protocol`, the one it likes best first (RFC 6455 §4.2.1).
/// Members that are no tokens are left out. At most one of them, spelt the same, may stand in the answer.
pub fn subprotocols(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|&byte| byte == b',').map(trim).filter(|name| all(name, TOKEN))
}

/// Why a request gets no websocket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum HandshakeError {
    /// The method is not GET.
    NotGet,
    /// The version of HTTP knows no upgrade.
    NotHttp11,
    /// `Upgrade` does not name websockets.
    NoUpgrade,
    /// `Connection` does not name the upgrade.
    NoConnectionUpgrade,
    /// The version is not 13, or there is none: the answer has status 426 and `Sec-WebSocket-Version: 13`
    /// ([`VERSION`]).
    OtherVersion,
    /// The key is not base64 of 16 bytes.
    BadKey,
}

impl HandshakeError {
    /// The status to answer with.
    pub const fn status(self) -> u16 {
        match self {
            Self::NotGet => 405,
            Self::OtherVersion => 426,
            _ => 400,
        }
    }
}

impl fmt::Display for HandshakeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotGet => "a websocket begins with GET",
            Self::NotHttp11 => "a websocket begins with HTTP/1.1",
            Self::NoUpgrade => "the field Upgrade does not name websocket",
            Self::NoConnectionUpgrade => "the field Connection does not name Upgrade",
            Self::OtherVersion => "the version of websockets spoken here is 13",
            Self::BadKey => "Sec-WebSocket-Key is not base64 of 16 bytes",
        })
    }
}

impl core::error::Error for HandshakeError {}

#[cfg(test)]
mod tests {
    use alloc::vec::Vec;

    use super::*;

    /// The request of RFC 6455 §1.2.
    const EXAMPLE: Fields<'static> = Fields {
        method: b"GET",
        http: Version::Http11,
        upgrade: Some(b"websocket"),
        connection: Some(b"Upgrade"),
        version: Some(b"13"),
        key: Some(b"dGhlIHNhbXBsZSBub25jZQ=="),
    };

    #[test]
    fn rfc6455_1_3_accept() {
        assert_eq!(&accept_key(b"dGhlIHNhbXBsZSBub25jZQ=="), b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }

    #[test]
    fn rfc6455_4_2_1_good_requests() {
        assert_eq!(check(EXAMPLE), Ok(()));
        assert_eq!(check(Fields { upgrade: Some(b"h2c, WebSocket"), ..EXAMPLE }), Ok(()));
        assert_eq!(
            check(Fields { connection: Some(b"keep-alive,\tuPGRADE"), ..EXAMPLE }),
            Ok(()),
            "as Firefox"
        );
        assert_eq!(check(Fields { key: Some(b" AAAAAAAAAAAAAAAAAAAAAB== "), ..EXAMPLE }), Ok(()));
    }

    #[test]
    fn rfc6455_4_2_1_what_is_no_handshake() {
        use HandshakeError::{BadKey, NoConnectionUpgrade, NoUpgrade, NotGet, NotHttp11, OtherVersion};
        for (bad, error, status) in [
            (Fields { method: b"POST", ..EXAMPLE }, NotGet, 405),
            (Fields { method: b"get", ..EXAMPLE }, NotGet, 405),
            (Fields { http: Version::Http10, ..EXAMPLE }, NotHttp11, 400),
            (Fields { upgrade: None, ..EXAMPLE }, NoUpgrade, 400),
            (Fields { upgrade: Some(b"websockets"), ..EXAMPLE }, NoUpgrade, 400),
            (Fields { connection: None, ..EXAMPLE }, NoConnectionUpgrade, 400),
            (Fields { connection: Some(b"keep-alive"), ..EXAMPLE }, NoConnectionUpgrade, 400),
            (Fields { version: None, ..EXAMPLE }, OtherVersion, 426),
            (Fields { version: Some(b"8"), ..EXAMPLE }, OtherVersion, 426),
            (Fields { version: Some(b"13, 8"), ..EXAMPLE }, OtherVersion, 426),
            (Fields { version: Some(b"013"), ..EXAMPLE }, OtherVersion, 426),
            (Fields { key: None, ..EXAMPLE }, BadKey, 400),
        ] {
            assert_eq!(check(bad), Err(error), "{bad:?}");
            assert_eq!(error.status(), status);
        }
    }

    #[test]
    fn rfc6455_4_2_1_keys_are_16_bytes() {
        for bad in [
            &b""[..],
            b"==",
            b"dGhlIHNhbXBsZSBub25jZQ",
            b"dGhlIHNhbXBsZSBub25jZQ=",
            b"dGhlIHNhbXBsZSBub25jZQQ=",
            b"dGhlIHNhbXBsZSBub25jZQQQ",
            b"dGhlIHNhbXBsZSBub25j==",
            b"dGhlIHNhbXBsZSBub25jZ-==",
            b"dGhlIHNhbXBsZSBub25jZQ==, dGhlIHNhbXBsZSBub25jZQ==",
        ] {
            assert_eq!(check(Fields { key: Some(bad), ..EXAMPLE }), Err(HandshakeError::BadKey), "{bad:?}");
        }
    }

    #[test]
    fn rfc6455_4_2_1_subprotocols() {
        let of = |value: &'static str| subprotocols(value.as_bytes()).collect::<Vec<_>>();
        assert_eq!(of("chat, superchat"), [&b"chat"[..], b"superchat"]);
        assert_eq!(of("v10.stomp,\tv11.stomp,,"), [&b"v10.stomp"[..], b"v11.stomp"]);
        assert_eq!(
            of("a b, \"c\", d/e, f\r\nX: y"),
            Vec::<&[u8]>::new(),
            "nothing that could split an answer"
        );
        assert_eq!(of(""), Vec::<&[u8]>::new());
    }
}
