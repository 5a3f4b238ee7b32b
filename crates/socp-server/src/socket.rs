//! One face for both WebSocket ends: accepted ones (axum) and dialled ones (tungstenite).

use axum::extract::ws::{CloseFrame, Message as AxumMessage, WebSocket};
use futures_util::stream::BoxStream;
use futures_util::{Sink, SinkExt as _, Stream, StreamExt as _};
use socp_core::server::Fault;
use socp_proto::limits::FRAME_BYTES_MAX;
use std::pin::Pin;
use tokio::net::TcpStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::{Error as WsError, Message, protocol::WebSocketConfig};

/// How much a connection buffers for reading: small, since most links are idle.
const READ_BUFFER_BYTES: usize = 4096;
/// A message up to this size is read whole and refused politely; beyond it the socket itself gives up.
const READ_BYTES_MAX: usize = 2 * FRAME_BYTES_MAX;

/// What came.
#[derive(Debug)]
pub(crate) enum Received {
    /// A text message within the limit.
    Text(String),
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
    Text(String),
    /// A ping.
    Ping,
    /// A close frame.
    Close(u16, &'static str),
}

/// The sending half.
pub(crate) type SocketSink = Pin<Box<dyn Sink<Sent, Error = String> + Send>>;
/// The receiving half.
pub(crate) type SocketStream = BoxStream<'static, Received>;

/// The WebSocket settings of both ends.
pub(crate) fn config() -> WebSocketConfig {
    WebSocketConfig::default()
        .read_buffer_size(READ_BUFFER_BYTES)
        .write_buffer_size(0)
        .max_write_buffer_size(READ_BYTES_MAX)
        .max_message_size(Some(READ_BYTES_MAX))
        .max_frame_size(Some(READ_BYTES_MAX))
}

/// The same settings for an accepted socket.
pub(crate) fn configure(upgrade: axum::extract::ws::WebSocketUpgrade) -> axum::extract::ws::WebSocketUpgrade {
    upgrade
        .read_buffer_size(READ_BUFFER_BYTES)
        .write_buffer_size(0)
        .max_write_buffer_size(READ_BYTES_MAX)
        .max_message_size(READ_BYTES_MAX)
        .max_frame_size(READ_BYTES_MAX)
}

/// Splits an accepted socket.
pub(crate) fn accepted(socket: WebSocket) -> (SocketSink, SocketStream) {
    let (sink, stream) = socket.split();
    let to_wire = |sent| async move {
        Ok::<_, axum::Error>(match sent {
            Sent::Text(text) => AxumMessage::text(text),
            Sent::Ping => AxumMessage::Ping(Vec::new().into()),
            Sent::Close(code, reason) => AxumMessage::Close(Some(CloseFrame {
                code,
                reason: reason.into(),
            })),
        })
    };
    let sink = sink.with(to_wire).sink_map_err(|error| error.to_string());
    (
        Box::pin(sink),
        received(stream, |message| match message {
            Ok(AxumMessage::Text(text)) => text_or_fault(text.as_str()),
            Ok(AxumMessage::Binary(_)) => Received::Fault(Fault::Binary),
            Ok(AxumMessage::Pong(_)) => Received::Pong,
            Ok(AxumMessage::Ping(_)) => Received::Nothing,
            Ok(AxumMessage::Close(_)) => Received::Closed,
            Err(error) => match error.into_inner().downcast::<WsError>() {
                Ok(error) => from_error(&error),
                Err(_) => Received::Closed,
            },
        }),
    )
}

/// Splits a dialled socket.
pub(crate) fn dialled(socket: WebSocketStream<TcpStream>) -> (SocketSink, SocketStream) {
    let (sink, stream) = socket.split();
    let to_wire = |sent| async move {
        Ok::<_, WsError>(match sent {
            Sent::Text(text) => Message::text(text),
            Sent::Ping => Message::Ping(Vec::new().into()),
            Sent::Close(code, reason) => {
                let frame = tokio_tungstenite::tungstenite::protocol::CloseFrame {
                    code: code.into(),
                    reason: reason.into(),
                };
                Message::Close(Some(frame))
            }
        })
    };
    let sink = sink.with(to_wire).sink_map_err(|error| error.to_string());
    (
        Box::pin(sink),
        received(stream, |message| match message {
            Ok(Message::Text(text)) => text_or_fault(text.as_str()),
            Ok(Message::Binary(_)) => Received::Fault(Fault::Binary),
            Ok(Message::Pong(_)) => Received::Pong,
            Ok(Message::Ping(_) | Message::Frame(_)) => Received::Nothing,
            Ok(Message::Close(_)) => Received::Closed,
            Err(error) => from_error(&error),
        }),
    )
}

fn received<T: 'static>(
    stream: impl Stream<Item = T> + Send + 'static,
    read: impl Fn(T) -> Received + Send + 'static,
) -> SocketStream {
    stream.map(read).boxed()
}

fn text_or_fault(text: &str) -> Received {
    if text.len() > FRAME_BYTES_MAX {
        return Received::Fault(Fault::TooLong);
    }
    Received::Text(text.to_owned())
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
fn is_gone(error: &tokio_tungstenite::tungstenite::error::ProtocolError) -> bool {
    use tokio_tungstenite::tungstenite::error::ProtocolError;
    matches!(
        error,
        ProtocolError::ResetWithoutClosingHandshake
            | ProtocolError::SendAfterClosing
            | ProtocolError::ReceivedAfterClosing
    )
}
