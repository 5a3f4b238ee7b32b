//! The address of a server, and the WebSocket to it (PROTOCOL I.1), with TLS where the address says so (II.2).

use crate::error::ClientError;
use socp_core::Mono;
use socp_proto::limits::{DIAL_WAIT_MAX_MS, FRAME_BYTES_MAX, REDIAL_WAIT_MAX_MS, REDIAL_WAIT_MIN_MS};
use socp_proto::{Bytes32, TlsPin};
use socp_tls::{Stream, Wanted};
use std::fmt;
use std::net::IpAddr;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Error as WsError;
use tokio_tungstenite::tungstenite::http::{StatusCode, Uri};
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::{WebSocketStream, client_async_with_config};

/// A WebSocket to a server.
pub(crate) type Socket = WebSocketStream<Stream>;

/// Read buffer of one link; the library's default of 128 KiB is for servers of large files.
const READ_BUFFER_BYTES: usize = 16 * 1024;

/// A server's address, in one form whatever was typed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerUrl {
    url: String,
    host: String,
    port: u16,
    has_tls: bool,
    pin: Option<TlsPin>,
}

impl ServerUrl {
    /// Reads an address like `ws://127.0.0.1:8765`, `wss://chat.example` or `wss://127.0.0.1:8765#PIN`, where the pin is
    /// that of the certificate.
    ///
    /// # Errors
    /// [`ClientError::ServerUrl`] saying what is wrong.
    pub fn parse(text: &str) -> Result<Self, ClientError> {
        let wrong = |why: &str| ClientError::ServerUrl {
            url: text.to_owned(),
            why: why.to_owned(),
        };
        let (address, pin) = match text.split_once('#') {
            Some((address, pin)) => (address, Some(pin)),
            None => (text, None),
        };
        let uri: Uri = address.parse().map_err(|error| wrong(&format!("{error}")))?;
        let has_tls = match uri.scheme_str() {
            Some("ws") => false,
            Some("wss") => true,
            Some(_) | None => return Err(wrong("it does not begin with ws:// or wss://")),
        };
        let pin = match pin {
            Some(_) if !has_tls => return Err(wrong("the pin of a certificate behind a # needs wss://")),
            Some(pin) => {
                let pin = TlsPin::try_from(pin);
                Some(pin.map_err(|error| wrong(&format!("what stands behind the # {error}")))?)
            }
            None => None,
        };
        let authority = uri.authority().ok_or_else(|| wrong("it names no host"))?;
        let host = uri
            .host()
            .filter(|host| !host.is_empty())
            .ok_or_else(|| wrong("it names no host"))?;
        if authority.as_str().contains('@') {
            return Err(wrong("it holds a user name"));
        }
        let host = host.to_ascii_lowercase();
        let (scheme, default_port) = if has_tls { ("wss", 443) } else { ("ws", 80) };
        let port = uri.port_u16().unwrap_or(default_port);
        let path = uri.path_and_query().map_or("/", |path| path.as_str());
        Ok(Self {
            url: format!("{scheme}://{host}:{port}{path}"),
            host,
            port,
            has_tls,
            pin,
        })
    }

    /// Host and port.
    #[must_use]
    pub fn host_and_port(&self) -> (&str, u16) {
        (&self.host, self.port)
    }

    /// The address in full, with its port and without a pin.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.url
    }

    /// The pin that the certificate must have, where one was given.
    #[must_use]
    pub fn pin(&self) -> Option<TlsPin> {
        self.pin
    }

    /// The same with a pin, unless it has one.
    pub(crate) fn or_pin(mut self, pin: Option<TlsPin>) -> Self {
        self.pin = self.pin.or(pin.filter(|_| self.has_tls));
        self
    }

    /// Whether what goes there goes over a network, and in the clear.
    #[must_use]
    pub fn is_exposed(&self) -> bool {
        let is_here = |ip: IpAddr| ip.is_loopback();
        !self.has_tls && self.host != "localhost" && !self.bare_host().parse().is_ok_and(is_here)
    }

    fn bare_host(&self) -> &str {
        self.host.trim_start_matches('[').trim_end_matches(']')
    }

    fn unreachable(&self, why: impl ToString) -> ClientError {
        ClientError::Unreachable {
            url: self.url.clone(),
            why: why.to_string(),
        }
    }
}

impl fmt::Display for ServerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.url)
    }
}

/// Opens the link, or gives up after [`DIAL_WAIT_MAX_MS`]; also what its TLS session exports.
pub(crate) async fn dial(server: &ServerUrl) -> Result<(Socket, Option<Bytes32>), ClientError> {
    let wait = Duration::from_millis(DIAL_WAIT_MAX_MS);
    match tokio::time::timeout(wait, dial_patiently(server)).await {
        Ok(dialled) => dialled,
        Err(_elapsed) => Err(server.unreachable(format!("no answer within {} s", wait.as_secs()))),
    }
}

async fn dial_patiently(server: &ServerUrl) -> Result<(Socket, Option<Bytes32>), ClientError> {
    let (stream, tls) = connect(server).await?;
    let config = WebSocketConfig::default()
        .max_message_size(Some(FRAME_BYTES_MAX))
        .max_frame_size(Some(FRAME_BYTES_MAX))
        .read_buffer_size(READ_BUFFER_BYTES);
    let (socket, _response) = client_async_with_config(server.as_str(), stream, Some(config))
        .await
        .map_err(|error| match speaks_tls(&error) {
            true => ClientError::SpeaksTls {
                url: server.url.clone(),
            },
            false => server.unreachable(error),
        })?;
    Ok((socket, tls))
}

/// Whether this is how a port for TLS answers whoever comes without.
fn speaks_tls(error: &WsError) -> bool {
    let WsError::Http(response) = error else { return false };
    let body = response.body().as_deref().map(String::from_utf8_lossy);
    let says_so = |body: std::borrow::Cow<'_, str>| body.contains("TLS") || body.contains("HTTPS");
    response.status() == StatusCode::BAD_REQUEST && body.is_some_and(says_so)
}

/// Opens a connection, and a TLS session over it where the address says so; also what that exports.
///
/// # Errors
/// [`ClientError::Unreachable`], [`ClientError::Tls`].
pub async fn connect(server: &ServerUrl) -> Result<(Stream, Option<Bytes32>), ClientError> {
    let stream = TcpStream::connect((server.bare_host(), server.port))
        .await
        .map_err(|error| server.unreachable(error))?;
    // Frames are small and wait for each other; Nagle's algorithm would hold them back.
    stream.set_nodelay(true).map_err(|error| server.unreachable(error))?;
    if !server.has_tls {
        return Ok((Stream::Plain(stream), None));
    }
    let wanted = Wanted {
        pin: server.pin,
        takes_anyone: false,
    };
    let secured = socp_tls::connect(stream, &server.host, wanted).await;
    let (stream, session) = secured.map_err(|fault| ClientError::Tls {
        url: server.url.clone(),
        fault,
    })?;
    Ok((stream, Some(session.binding)))
}

/// Waits that double from [`REDIAL_WAIT_MIN_MS`] to [`REDIAL_WAIT_MAX_MS`], shortened by up to half at random so that the
/// clients of a server that restarts do not come all at once (SOCP §11).
#[derive(Debug, Default)]
pub(crate) struct Backoff {
    attempts: u32,
}

impl Backoff {
    pub(crate) fn reset(&mut self) {
        self.attempts = 0;
    }

    /// `dice` is anything from 0 to 255.
    pub(crate) fn next_wait_ms(&mut self, dice: u8) -> Mono {
        let doubled = REDIAL_WAIT_MIN_MS.saturating_mul(1_u64.checked_shl(self.attempts).unwrap_or(u64::MAX));
        self.attempts = self.attempts.saturating_add(1).min(16);
        let full = doubled.min(REDIAL_WAIT_MAX_MS);
        full - full / 2 * u64::from(dice) / 255
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_one_form() {
        let table = [
            ("ws://LOCALHOST:80", "ws://localhost:80/"),
            ("ws://localhost", "ws://localhost:80/"),
            ("ws://localhost/", "ws://localhost:80/"),
            ("ws://[::1]:9/x?y", "ws://[::1]:9/x?y"),
            ("wss://Chat.example", "wss://chat.example:443/"),
        ];
        for (text, expected) in table {
            assert_eq!(ServerUrl::parse(text).unwrap().as_str(), expected, "{text}");
        }
    }

    #[test]
    fn a_pin_stands_behind_the_address_and_is_no_part_of_it() {
        let pin = TlsPin::from(Bytes32::from([7; 32]));
        let other = TlsPin::from(Bytes32::from([8; 32]));
        let url = ServerUrl::parse(&format!("wss://h:1#{pin}")).unwrap();
        assert_eq!((url.as_str(), url.pin()), ("wss://h:1/", Some(pin)));
        assert_eq!(url.or_pin(Some(other)).pin(), Some(pin), "what was typed counts");
        let bare = ServerUrl::parse("wss://h:1").unwrap();
        assert_eq!((bare.pin(), bare.or_pin(Some(other)).pin()), (None, Some(other)));
        assert_eq!(ServerUrl::parse("ws://h:1").unwrap().or_pin(Some(other)).pin(), None);
    }

    #[test]
    fn only_what_leaves_this_machine_in_the_clear_is_exposed() {
        for (text, is_exposed) in [
            ("ws://127.0.0.1:1", false),
            ("ws://[::1]:1", false),
            ("ws://localhost:1", false),
            ("ws://192.0.2.1:1", true),
            ("ws://chat.example", true),
            ("wss://chat.example", false),
        ] {
            assert_eq!(ServerUrl::parse(text).unwrap().is_exposed(), is_exposed, "{text}");
        }
    }

    #[test]
    fn what_is_no_address_is_refused_with_the_reason() {
        let table = [
            ("127.0.0.1:8765", "is not a server address"),
            ("http://a", "does not begin with ws://"),
            ("ws://", "is not a server address"),
            ("", "is not a server address"),
            ("ws://u:p@a", "user name"),
            ("ws://a#key", "needs wss://"),
            ("wss://a#key", "43 characters"),
            ("wss://a#", "43 characters"),
        ];
        for (text, said) in table {
            let error = ServerUrl::parse(text).unwrap_err().to_string();
            assert!(error.contains(said), "{text} gets {error}");
        }
    }

    #[test]
    fn waits_double_up_to_the_limit() {
        let mut backoff = Backoff::default();
        let waits: Vec<u64> = (0..8).map(|_| backoff.next_wait_ms(0)).collect();
        assert_eq!(waits, [1_000, 2_000, 4_000, 8_000, 16_000, 32_000, 60_000, 60_000]);
        assert_eq!(backoff.next_wait_ms(255), 30_000);
        backoff.reset();
        assert_eq!(backoff.next_wait_ms(0), 1_000);
    }
}
