//! One WebSocket, accepted or dialled: what comes and what goes.

use crate::corked::Corked;
use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt as _, StreamExt as _};
use socp_core::server::Fault;
use socp_proto::limits::FRAME_BYTES_MAX;
use tokio::net::TcpStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::error::ProtocolError;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Error as WsError, Message};

pub(crate) use tokio_tungstenite::tungstenite::Utf8Bytes;

/// How much a connection buffers for reading: small, since most links are idle.
const READ_BUFFER_BYTES: usize = 4096;
/// A message up to this size is read whole and refused politely; beyond it the socket itself gives up.
const READ_BYTES_MAX: usize = 2 * FRAME_BYTES_MAX;

/// What came.
#[derive(Debug)]
pub(crate) enum Received {
    /// A text message within the limit.
    Text(Utf8Bytes),
    /// An answered ping.
    Pong,
    /// Nothing for us.
    Nothing,
    /// The far end closed, or the connection broke.
    Closed,
    /// Something that no SOCP program sends; the link cannot go on.
    Fault(Fault),
}

/// What goes.
#[derive(Debug)]
pub(crate) enum Sent {
    /// A text message.
    Text(Utf8Bytes),
    /// A ping.
    Ping,
    /// A close frame.
    Close(u16, &'static str),
}

/// A connection over which nothing more can be sent; its receiving half says why.
#[derive(Debug)]
pub(crate) struct Broken;

/// What carries a link's frames.
pub(crate) type Socket = WebSocketStream<Corked<TcpStream>>;

/// The sending half.
pub(crate) struct SocketSink(SplitSink<Socket, Message>);

/// The receiving half.
pub(crate) struct SocketStream(SplitStream<Socket>);

/// The WebSocket settings of both ends. Frames are gathered below, in a buffer that an idle connection does not keep.
pub(crate) fn config() -> WebSocketConfig {
    WebSocketConfig::default()
        .read_buffer_size(READ_BUFFER_BYTES)
        .write_buffer_size(0)
        .max_write_buffer_size(READ_BYTES_MAX)
        .max_message_size(Some(READ_BYTES_MAX))
        .max_frame_size(Some(READ_BYTES_MAX))
}

/// The two halves.
pub(crate) fn split(socket: Socket) -> (SocketSink, SocketStream) {
    let (sink, stream) = socket.split();
    (SocketSink(sink), SocketStream(stream))
}

impl SocketSink {
    /// Puts a message in line for the next flush.
    pub(crate) async fn feed(&mut self, sent: Sent) -> Result<(), Broken> {
        let message = match sent {
            Sent::Text(text) => Message::Text(text),
            Sent::Ping => Message::Ping(Vec::new().into()),
            Sent::Close(code, reason) => Message::Close(Some(CloseFrame {
                code: code.into(),
                reason: Utf8Bytes::from_static(reason),
            })),
        };
        self.0.feed(message).await.map_err(|_| Broken)
    }

    /// Hands everything in line to the system.
    pub(crate) async fn flush(&mut self) -> Result<(), Broken> {
        self.0.flush().await.map_err(|_| Broken)
    }

    /// Sends a message, and what was in line before it.
    pub(crate) async fn send(&mut self, sent: Sent) -> Result<(), Broken> {
        self.feed(sent).await?;
        self.flush().await
    }
}

impl SocketStream {
    /// What comes next; nothing after the end.
    pub(crate) async fn next(&mut self) -> Option<Received> {
        self.0.next().await.map(received)
    }
}

fn received(message: Result<Message, WsError>) -> Received {
    match message {
        Ok(Message::Text(text)) if text.len() > FRAME_BYTES_MAX => Received::Fault(Fault::TooLong),
        Ok(Message::Text(text)) => Received::Text(text),
        Ok(Message::Binary(_)) => Received::Fault(Fault::Binary),
        Ok(Message::Pong(_)) => Received::Pong,
        Ok(Message::Ping(_) | Message::Frame(_)) => Received::Nothing,
        Ok(Message::Close(_)) => Received::Closed,
        Err(error) => from_error(&error),
    }
}

fn from_error(error: &WsError) -> Received {
    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "whatever else went wrong, the connection is gone"
    )]
    match error {
        WsError::Capacity(_) => Received::Fault(Fault::TooLong),
        WsError::Utf8(_) => Received::Fault(Fault::Utf8),
        WsError::Protocol(error) if !is_gone(error) => Received::Fault(Fault::Framing(error.to_string())),
        _ => Received::Closed,
    }
}

/// A connection that broke off is nobody's fault.
fn is_gone(error: &ProtocolError) -> bool {
    matches!(
        error,
        ProtocolError::ResetWithoutClosingHandshake
            | ProtocolError::SendAfterClosing
            | ProtocolError::ReceivedAfterClosing
    )
}
