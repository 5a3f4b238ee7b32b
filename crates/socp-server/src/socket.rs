//! One WebSocket, accepted or dialled: what comes and what goes (RFC 6455).
//!
//! Most links are idle most of the time, so neither half keeps a buffer while nothing is on its way: what the system has
//! is read into one on the stack, and only what is left of a frame that is not complete stays; what goes out is gathered
//! from the first frame to the flush that empties it, so that a batch of frames costs one call of the system. That is why
//! the framing is here and not a library's, whose buffers live as long as their connection. Headers are read and written
//! by tungstenite, which also shakes hands.

use crate::outbox::Outbox;
use socp_core::server::Fault;
use socp_crypto::random_bytes;
use socp_proto::limits::{FIRST_FRAME_BYTES_MAX, FRAME_BYTES_MAX};
use socp_tls::{ReadHalf, Stream, WriteHalf};
use std::io::Cursor;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead as _, AsyncWriteExt as _, ReadBuf};
use tokio_tungstenite::tungstenite::Error as WsError;
use tokio_tungstenite::tungstenite::error::ProtocolError;
use tokio_tungstenite::tungstenite::protocol::frame::FrameHeader;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{CloseCode, Control, Data, OpCode};

pub(crate) use tokio_tungstenite::tungstenite::Utf8Bytes;
pub(crate) use tokio_tungstenite::tungstenite::protocol::Role;

/// As much as is read at once.
const READ_AT_ONCE_BYTES: usize = 16 * 1024;
/// A message up to this size is read whole and refused politely; beyond it the socket itself gives up.
const READ_BYTES_MAX: usize = 2 * FRAME_BYTES_MAX;
/// The same for whoever has not said who it is: anybody can open thousands of links and send the half of a message.
const STRANGER_BYTES_MAX: usize = 2 * FIRST_FRAME_BYTES_MAX;
/// As much as is gathered before it is written without being asked.
pub(crate) const GATHERED_BYTES_MAX: usize = 16 * 1024;
/// Most that a control frame carries (RFC 6455 §5.5).
const CONTROL_BYTES_MAX: usize = 125;

/// What came.
#[derive(Debug, PartialEq)]
pub(crate) enum Received {
    /// A text message within the limit.
    Text(String),
    /// An answered ping.
    Pong,
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
    /// The answer to a ping.
    Pong(Vec<u8>),
    /// A close frame.
    Close(u16, &'static str),
}

/// A connection over which nothing more can be sent; its receiving half says why.
#[derive(Debug)]
pub(crate) struct Broken;

/// The two halves of a connection that has shaken hands; `read` came behind the handshake.
pub(crate) fn split(stream: Stream, role: Role, read: Vec<u8>) -> (SocketSink, SocketStream) {
    let (reading, writing) = stream.into_split();
    let sink = SocketSink {
        writing,
        is_masked: role == Role::Client,
        gathered: Vec::new(),
        written: 0,
    };
    let stream = SocketStream {
        reading,
        frames: Frames {
            is_masked: role == Role::Server,
            buffer: read,
            taken: 0,
            fragments: None,
            bytes_max: READ_BYTES_MAX,
        },
    };
    (sink, stream)
}

/// The sending half.
#[derive(Debug)]
pub(crate) struct SocketSink {
    writing: WriteHalf,
    /// Clients mask what they send.
    is_masked: bool,
    /// Whole frames, from the first to the end of the flush.
    gathered: Vec<u8>,
    /// How much of them is written already.
    written: usize,
}

impl SocketSink {
    /// Puts a message in line for the next flush. Where this is given up half-way the frame is in line all the same.
    pub(crate) async fn feed(&mut self, sent: Sent) -> Result<(), Broken> {
        match sent {
            Sent::Text(text) => self.put(OpCode::Data(Data::Text), text.as_bytes())?,
            Sent::Ping => self.put(OpCode::Control(Control::Ping), &[])?,
            Sent::Pong(echo) => self.put(OpCode::Control(Control::Pong), &echo)?,
            Sent::Close(code, reason) => {
                let payload = [code.to_be_bytes().as_slice(), reason.as_bytes()].concat();
                self.put(OpCode::Control(Control::Close), &payload)?;
            }
        }
        if self.gathered.len() >= GATHERED_BYTES_MAX {
            self.flush().await?;
        }
        Ok(())
    }

    fn put(&mut self, opcode: OpCode, payload: &[u8]) -> Result<(), Broken> {
        let mask = match self.is_masked {
            true => Some(random_bytes::<4>().map_err(|_| Broken)?),
            false => None,
        };
        write_frame(&mut self.gathered, opcode, mask, payload)
    }

    /// Hands everything in line to the system.
    pub(crate) async fn flush(&mut self) -> Result<(), Broken> {
        while let Some(rest) = self.gathered.get(self.written..).filter(|rest| !rest.is_empty()) {
            // One call at a time: whoever gives up on it knows how much is written.
            match self.writing.write(rest).await {
                Ok(0) | Err(_) => return Err(Broken),
                Ok(count) => self.written = self.written.saturating_add(count),
            }
        }
        // A TLS session may have taken more than the system has.
        self.writing.flush().await.map_err(|_| Broken)?;
        self.gathered = Vec::new();
        self.written = 0;
        Ok(())
    }

    /// Says that nothing more comes.
    pub(crate) async fn end(&mut self) -> Result<(), Broken> {
        self.writing.shutdown().await.map_err(|_| Broken)
    }

    /// Sends a message, and what was in line before it.
    pub(crate) async fn send(&mut self, sent: Sent) -> Result<(), Broken> {
        self.feed(sent).await?;
        self.flush().await
    }
}

/// Adds a frame to others.
fn write_frame(to: &mut Vec<u8>, opcode: OpCode, mask: Option<[u8; 4]>, payload: &[u8]) -> Result<(), Broken> {
    let header = FrameHeader {
        opcode,
        mask,
        ..FrameHeader::default()
    };
    let length = u64::try_from(payload.len()).map_err(|_| Broken)?;
    to.reserve(header.len(length).saturating_add(payload.len()));
    header.format(length, to).map_err(|_| Broken)?;
    match mask {
        Some(mask) => to.extend(unmasked(payload, mask)),
        None => to.extend_from_slice(payload),
    }
    Ok(())
}

/// The receiving half.
#[derive(Debug)]
pub(crate) struct SocketStream {
    reading: ReadHalf,
    frames: Frames,
}

impl SocketStream {
    /// From now on, whether the far end is somebody who has not said who it is.
    pub(crate) fn set_stranger(&mut self, is_stranger: bool) {
        self.frames.bytes_max = if is_stranger {
            STRANGER_BYTES_MAX
        } else {
            READ_BYTES_MAX
        };
    }

    /// What comes next. Pings are answered through the outbox; after the end nothing else comes.
    pub(crate) async fn next(&mut self, outbox: &Outbox) -> Received {
        loop {
            match self.frames.next() {
                Ok(Some(Came::Text(text))) => return Received::Text(text),
                Ok(Some(Came::Pong)) => return Received::Pong,
                Ok(Some(Came::Ping(echo))) => outbox.pong(echo),
                Ok(Some(Came::Close(code))) => {
                    outbox.answer_close(code);
                    return Received::Closed;
                }
                Err(fault) => return Received::Fault(fault),
                Ok(None) => {
                    let count = std::future::poll_fn(|cx| self.poll_read(cx)).await;
                    if count == 0 {
                        return Received::Closed;
                    }
                }
            }
        }
    }

    /// Reads what the system has; nothing at the end and where the connection broke. Not into the heap, since this waits
    /// most of the time.
    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<usize> {
        let mut space = [const { MaybeUninit::uninit() }; READ_AT_ONCE_BYTES];
        let mut read = ReadBuf::uninit(&mut space);
        let outcome = ready!(Pin::new(&mut self.reading).poll_read(cx, &mut read));
        if outcome.is_err() {
            return Poll::Ready(0);
        }
        self.frames.add(read.filled());
        Poll::Ready(read.filled().len())
    }
}

/// What one frame, or the last of a message, brings.
#[derive(Debug, PartialEq)]
enum Came {
    Text(String),
    Ping(Vec<u8>),
    Pong,
    Close(Option<u16>),
}

/// Takes frames out of bytes.
#[derive(Debug)]
struct Frames {
    /// Clients must mask what they send, servers must not.
    is_masked: bool,
    /// What was read, from the first to the last frame of it.
    buffer: Vec<u8>,
    /// How much of it is taken already.
    taken: usize,
    /// The message of which the last frame is still to come.
    fragments: Option<Fragments>,
    /// The longest message that is read.
    bytes_max: usize,
}

#[derive(Debug)]
struct Fragments {
    is_text: bool,
    bytes: Vec<u8>,
}

impl Frames {
    fn add(&mut self, bytes: &[u8]) {
        self.buffer.drain(..self.taken);
        self.taken = 0;
        if self.buffer.capacity().saturating_sub(self.buffer.len()) < bytes.len() {
            // A quarter more than there is at most, and yet not a copy for each read.
            self.buffer.reserve_exact(bytes.len().max(self.buffer.len() / 4));
        }
        self.buffer.extend_from_slice(bytes);
    }

    /// The next thing that matters, or nothing if more must be read. No buffer stays where nothing is left in it.
    fn next(&mut self) -> Result<Option<Came>, Fault> {
        loop {
            let Some((header, payload)) = self.next_frame()? else {
                if self.taken >= self.buffer.len() {
                    self.buffer = Vec::new();
                    self.taken = 0;
                }
                return Ok(None);
            };
            if let Some(came) = self.on_frame(&header, payload)? {
                return Ok(Some(came));
            }
        }
    }

    /// The next whole frame, unmasked.
    fn next_frame(&mut self) -> Result<Option<(FrameHeader, Vec<u8>)>, Fault> {
        let rest = self.buffer.get(self.taken..).unwrap_or_default();
        let mut cursor = Cursor::new(rest);
        let Some((header, length)) = FrameHeader::parse(&mut cursor).map_err(|error| framing(&error))? else {
            return Ok(None);
        };
        self.check_header(&header, length)?;
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        let begin = usize::try_from(cursor.position()).unwrap_or(usize::MAX);
        let end = begin.saturating_add(length);
        let Some(payload) = rest.get(begin..end) else {
            return Ok(None);
        };
        let payload = match header.mask {
            Some(mask) => unmasked(payload, mask),
            None => payload.to_vec(),
        };
        self.taken = self.taken.saturating_add(end);
        Ok(Some((header, payload)))
    }

    /// What can be said before the frame is there (RFC 6455 §5.1, §5.2, §5.5).
    fn check_header(&self, header: &FrameHeader, length: u64) -> Result<(), Fault> {
        let before = self.fragments.as_ref().map_or(0, |fragments| fragments.bytes.len());
        let room = u64::try_from(self.bytes_max.saturating_sub(before)).unwrap_or(0);
        let is_control = matches!(header.opcode, OpCode::Control(_));
        let error = match header.mask {
            None if self.is_masked => ProtocolError::UnmaskedFrameFromClient,
            Some(_) if !self.is_masked => ProtocolError::MaskedFrameFromServer,
            _ if header.rsv1 || header.rsv2 || header.rsv3 => ProtocolError::NonZeroReservedBits,
            _ if is_control && !header.is_final => ProtocolError::FragmentedControlFrame,
            _ if is_control && usize::try_from(length).is_ok_and(|length| length > CONTROL_BYTES_MAX) => {
                ProtocolError::ControlFrameTooBig
            }
            _ if length > room => return Err(Fault::TooLong),
            _ => return Ok(()),
        };
        Err(framing(&error.into()))
    }

    fn on_frame(&mut self, header: &FrameHeader, payload: Vec<u8>) -> Result<Option<Came>, Fault> {
        let is_final = header.is_final;
        match header.opcode {
            OpCode::Control(Control::Ping) => Ok(Some(Came::Ping(payload))),
            OpCode::Control(Control::Pong) => Ok(Some(Came::Pong)),
            OpCode::Control(Control::Close) => close_code(&payload).map(|code| Some(Came::Close(code))),
            OpCode::Data(Data::Continue) => match self.fragments.take() {
                Some(mut message) => {
                    message.bytes.extend_from_slice(&payload);
                    self.on_part(message, is_final)
                }
                None => Err(framing(&ProtocolError::UnexpectedContinueFrame.into())),
            },
            OpCode::Data(data @ (Data::Text | Data::Binary)) => {
                if self.fragments.is_some() {
                    return Err(framing(&ProtocolError::ExpectedFragment(data).into()));
                }
                let is_text = data == Data::Text;
                self.on_part(
                    Fragments {
                        is_text,
                        bytes: payload,
                    },
                    is_final,
                )
            }
            OpCode::Data(Data::Reserved(code)) | OpCode::Control(Control::Reserved(code)) => {
                Err(framing(&ProtocolError::InvalidOpcode(code).into()))
            }
        }
    }

    fn on_part(&mut self, message: Fragments, is_last: bool) -> Result<Option<Came>, Fault> {
        if !is_last {
            self.fragments = Some(message);
            return Ok(None);
        }
        if !message.is_text {
            return Err(Fault::Binary);
        }
        let text = String::from_utf8(message.bytes).map_err(|_| Fault::Utf8)?;
        if text.len() > FRAME_BYTES_MAX {
            return Err(Fault::TooLong);
        }
        Ok(Some(Came::Text(text)))
    }
}

/// The code to answer a close frame with (RFC 6455 §5.5.1, §7.4).
fn close_code(payload: &[u8]) -> Result<Option<u16>, Fault> {
    let Some((code, reason)) = payload.split_first_chunk::<2>() else {
        return match payload {
            [] => Ok(None),
            _ => Err(framing(&ProtocolError::InvalidCloseSequence.into())),
        };
    };
    if std::str::from_utf8(reason).is_err() {
        return Err(Fault::Utf8);
    }
    let code = CloseCode::from(u16::from_be_bytes(*code));
    let answer = if code.is_allowed() { code } else { CloseCode::Protocol };
    Ok(Some(answer.into()))
}

/// Takes a mask off, or puts it on (RFC 6455 §5.3).
fn unmasked(payload: &[u8], mask: [u8; 4]) -> Vec<u8> {
    // Sixteen bytes at a time, which is what compilers make fast code of.
    let wide: [u8; 16] = std::array::from_fn(|index| mask.get(index % 4).copied().unwrap_or(0));
    let mut bytes = payload.to_vec();
    for chunk in bytes.chunks_mut(wide.len()) {
        for (byte, mask) in chunk.iter_mut().zip(wide) {
            *byte ^= mask;
        }
    }
    bytes
}

fn framing(error: &WsError) -> Fault {
    Fault::Framing(error.to_string())
}

#[cfg(test)]
mod tests;
