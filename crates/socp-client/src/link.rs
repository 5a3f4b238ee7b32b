//! The address of a server, and the WebSocket to it (PROTOCOL I.1).

use crate::error::ClientError;
use socp_core::Mono;
use socp_proto::limits::{DIAL_WAIT_MAX_MS, FRAME_BYTES_MAX, REDIAL_WAIT_MAX_MS, REDIAL_WAIT_MIN_MS};
use std::fmt;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::http::Uri;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::{WebSocketStream, client_async_with_config};

/// A WebSocket to a server.
pub(crate) type Socket = WebSocketStream<TcpStream>;

/// Read buffer of one link; the library's default of 128 KiB is for servers of large files.
const READ_BUFFER_BYTES: usize = 16 * 1024;

/// A server's address, in one form whatever was typed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerUrl {
    url: String,
    host: String,
    port: u16,
}

impl ServerUrl {
    /// Reads an address like `ws://127.0.0.1:8765`.
    ///
    /// # Errors
    /// [`ClientError::ServerUrl`] saying what is wrong; [`ClientError::TlsUnsupported`] for `wss://`.
    pub fn parse(text: &str) -> Result<Self, ClientError> {
        let wrong = |why: &str| ClientError::ServerUrl {
            url: text.to_owned(),
            why: why.to_owned(),
        };
        if text.contains('#') {
            return Err(wrong("it holds a '#'"));
        }
        let uri: Uri = text.parse().map_err(|error| wrong(&format!("{error}")))?;
        match uri.scheme_str() {
            Some("ws") => {}
            Some("wss") => {
                return Err(ClientError::TlsUnsupported { url: text.to_owned() });
            }
            Some(_) | None => return Err(wrong("it does not begin with ws://")),
        }
        let authority = uri.authority().ok_or_else(|| wrong("it names no host"))?;
        let host = uri
            .host()
            .filter(|host| !host.is_empty())
            .ok_or_else(|| wrong("it names no host"))?;
        if authority.as_str().contains('@') {
            return Err(wrong("it holds a user name"));
        }
        let host = host.to_ascii_lowercase();
        let port = uri.port_u16().unwrap_or(80);
        let path = uri.path_and_query().map_or("/", |path| path.as_str());
        Ok(Self {
            url: format!("ws://{host}:{port}{path}"),
            host,
            port,
        })
    }

    /// The address in full, with its port.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.url
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

/// Opens the link, or gives up after [`DIAL_WAIT_MAX_MS`].
pub(crate) async fn dial(server: &ServerUrl) -> Result<Socket, ClientError> {
    let wait = Duration::from_millis(DIAL_WAIT_MAX_MS);
    match tokio::time::timeout(wait, dial_patiently(server)).await {
        Ok(dialled) => dialled,
        Err(_elapsed) => Err(server.unreachable(format!("no answer within {} s", wait.as_secs()))),
    }
}

async fn dial_patiently(server: &ServerUrl) -> Result<Socket, ClientError> {
    let host = server.host.trim_start_matches('[').trim_end_matches(']');
    let stream = TcpStream::connect((host, server.port))
        .await
        .map_err(|error| server.unreachable(error))?;
    // Frames are small and wait for each other; Nagle's algorithm would hold them back.
    stream.set_nodelay(true).map_err(|error| server.unreachable(error))?;
    let config = WebSocketConfig::default()
        .max_message_size(Some(FRAME_BYTES_MAX))
        .max_frame_size(Some(FRAME_BYTES_MAX))
        .read_buffer_size(READ_BUFFER_BYTES);
    let (socket, _response) = client_async_with_config(server.as_str(), stream, Some(config))
        .await
        .map_err(|error| server.unreachable(error))?;
    Ok(socket)
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
        for text in ["ws://LOCALHOST:80", "ws://localhost", "ws://localhost/"] {
            assert_eq!(ServerUrl::parse(text).unwrap().as_str(), "ws://localhost:80/", "{text}");
        }
        assert_eq!(
            ServerUrl::parse("ws://[::1]:9/x?y").unwrap().as_str(),
            "ws://[::1]:9/x?y"
        );
    }

    #[test]
    fn what_is_no_address_is_refused_with_the_reason() {
        let table = [
            ("127.0.0.1:8765", "is not a server address"),
            ("http://a", "does not begin with ws://"),
            ("ws://", "is not a server address"),
            ("", "is not a server address"),
            ("ws://u:p@a", "user name"),
            ("ws://a#key", "'#'"),
            ("wss://a", "not supported by this version"),
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
