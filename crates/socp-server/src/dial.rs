//! Connecting to another server.

use crate::hub::HubMessage;
use crate::link::{self, Origin, Wiring};
use crate::socket::{self, Role};
use socp_core::server::{DialId, Input, TlsSession, TlsWanted};
use socp_proto::KeyText;
use socp_proto::limits::DIAL_WAIT_MAX_MS;
use socp_tls::{Stream, Wanted};
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

/// Whom to dial.
#[derive(Debug)]
pub(crate) struct Target {
    pub(crate) host: String,
    pub(crate) port: u16,
    /// The key that it must have.
    pub(crate) key: Option<KeyText>,
    pub(crate) tls: Option<TlsWanted>,
}

/// Dials and, if that works, runs the link.
pub(crate) async fn dial(wiring: Arc<Wiring>, dial: DialId, target: Target) {
    let wait = Duration::from_millis(DIAL_WAIT_MAX_MS);
    let turn = wiring.dialling.acquire().await;
    let connected = tokio::time::timeout(wait, connect(&target)).await;
    drop(turn);
    wiring.metrics.dialled(matches!(connected, Ok(Ok(_))));
    let reason = match connected {
        Ok(Ok((stream, tls))) => {
            let (sink, stream) = socket::split(stream, Role::Client, Vec::new());
            return link::run(wiring, Origin::Dialled(dial, target.key, tls), sink, stream).await;
        }
        Ok(Err(reason)) => reason,
        Err(_) => format!("no answer within {} s", wait.as_secs()),
    };
    let _stopping = wiring
        .hub
        .send(HubMessage::core(Input::DialFailed { dial, reason }))
        .await;
}

async fn connect(target: &Target) -> Result<(Stream, Option<TlsSession>), String> {
    let Target { host, port, key, tls } = target;
    let bare_host = host.trim_start_matches('[').trim_end_matches(']');
    let stream = TcpStream::connect((bare_host, *port))
        .await
        .map_err(|error| error.to_string())?;
    stream.set_nodelay(true).map_err(|error| error.to_string())?;
    let (stream, session) = match tls {
        None => (Stream::Plain(stream), None),
        Some(TlsWanted { pin }) => {
            // Whoever must have a key proves it on this very session (PROTOCOL II.2): the certificate says nothing more.
            let takes_anyone = key.is_some();
            let wanted = Wanted {
                pin: *pin,
                takes_anyone,
            };
            let (stream, session) = socp_tls::connect(stream, host, wanted)
                .await
                .map_err(|fault| fault.to_string())?;
            if let Some(fault) = &session.uncertified {
                tracing::debug!(host, port, %fault, "the certificate is not good; the server must prove its key instead");
            }
            let session = TlsSession {
                binding: session.binding,
                is_certified: session.is_certified(),
            };
            (stream, Some(session))
        }
    };
    let scheme = if tls.is_some() { "wss" } else { "ws" };
    let url = format!("{scheme}://{host}:{port}/");
    let stream = HeadOnly { stream, matched: 0 };
    let connected = tokio_tungstenite::client_async(url, stream).await;
    let (socket, _) = connected.map_err(|error| error.to_string())?;
    Ok((socket.into_inner().stream, session))
}

/// What ends the head of an answer (RFC 9112 §2.1).
const HEAD_END: &[u8] = b"\r\n\r\n";

/// A stream of which no more is read than the head of the answer: what comes behind it is the link's.
#[derive(Debug)]
struct HeadOnly {
    stream: Stream,
    /// How much of the end of the head was read last.
    matched: usize,
}

/// How many of these bytes belong to the head, and how much of its end stands last in it then.
fn in_head(bytes: &[u8], mut matched: usize) -> (usize, usize) {
    let mut count = 0_usize;
    for byte in bytes {
        if matched == HEAD_END.len() {
            break;
        }
        let is_next = HEAD_END.get(matched) == Some(byte);
        matched = if is_next {
            matched.saturating_add(1)
        } else {
            usize::from(*byte == b'\r')
        };
        count = count.saturating_add(1);
    }
    (count, matched)
}

impl AsyncRead for HeadOnly {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let mut space = [0; 512];
        let count = match &this.stream {
            Stream::Plain(stream) => {
                let mut ahead = ReadBuf::new(&mut space);
                ready!(stream.poll_peek(cx, &mut ahead))?;
                in_head(ahead.filled(), this.matched).0
            }
            // It cannot be looked into: no more is read than the end of a head must still have.
            Stream::Tls(_) => HEAD_END.len().saturating_sub(this.matched),
        };
        let space = space.get_mut(..count.min(buffer.remaining())).unwrap_or_default();
        let mut head = ReadBuf::new(space);
        ready!(Pin::new(&mut this.stream).poll_read(cx, &mut head))?;
        (_, this.matched) = in_head(head.filled(), this.matched);
        buffer.put_slice(head.filled());
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for HeadOnly {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write(cx, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outbox::outbox;
    use crate::socket::Received;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;
    use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

    /// Answers one request with this behind the head, all of it at once or in pieces.
    async fn answer(listener: &TcpListener, behind: &[u8], at_once: usize) -> TcpStream {
        let (mut stream, _) = listener.accept().await.unwrap();
        stream.set_nodelay(true).unwrap();
        let mut request = Vec::new();
        while !request.ends_with(HEAD_END) {
            request.push(stream.read_u8().await.unwrap());
        }
        let request = String::from_utf8(request).unwrap();
        let key = request
            .lines()
            .find_map(|line| line.strip_prefix("Sec-WebSocket-Key: "));
        let accept = derive_accept_key(key.unwrap().as_bytes());
        let head = format!(
            "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             X-Long: {}\r\nSec-WebSocket-Accept: {accept}\r\n\r\n",
            "x".repeat(600)
        );
        for piece in [head.as_bytes(), behind].concat().chunks(at_once) {
            stream.write_all(piece).await.unwrap();
        }
        stream
    }

    #[tokio::test]
    async fn what_comes_with_the_answer_is_the_links() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        for at_once in [150, usize::MAX] {
            let target = Target {
                host: "127.0.0.1".to_owned(),
                port,
                key: None,
                tls: None,
            };
            let dialling = connect(&target);
            let (near, _far) = tokio::join!(dialling, answer(&listener, b"\x81\x02hi\x81\x00", at_once));
            let (_sink, mut stream) = socket::split(near.unwrap().0, Role::Client, Vec::new());
            let (outbox, _queue) = outbox();
            for text in ["hi", ""] {
                assert_eq!(stream.next(&outbox).await, Received::Text(text.to_owned()));
            }
        }
    }

    #[test]
    fn the_end_of_a_head_is_found_wherever_it_is_cut() {
        assert_eq!(in_head(b"a\r\n\r\nb", 0), (5, 4));
        assert_eq!(in_head(b"a\r\nb\r\r\n", 0), (7, 2));
        assert_eq!(in_head(b"\r\nb", 2), (2, 4));
        assert_eq!(in_head(b"\n\r\n", 2), (3, 2));
        assert_eq!(in_head(b"b", 4), (0, 4));
        assert_eq!(in_head(b"", 3), (0, 3));
    }
}
