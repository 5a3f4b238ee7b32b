//! Frames as they come over the wire, in pieces and out of order; both halves against another implementation.

use super::*;
use crate::outbox::outbox;
use futures_util::{SinkExt as _, StreamExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;

const MASK: [u8; 4] = [1, 0x80, 0xff, 7];

fn frames() -> Frames {
    Frames {
        is_masked: true,
        buffer: Vec::new(),
        taken: 0,
        fragments: None,
        bytes_max: READ_BYTES_MAX,
    }
}

fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let length = u8::try_from(payload.len()).unwrap();
    assert!(length < 126);
    [&[first, 0x80 | length][..], &MASK, &unmasked(payload, MASK)].concat()
}

fn text(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    write_frame(&mut bytes, OpCode::Data(Data::Text), Some(MASK), text.as_bytes()).unwrap();
    bytes
}

/// What these bytes bring, read in pieces of `at_once`.
fn came(bytes: &[u8], at_once: usize) -> Result<Vec<Came>, Fault> {
    let (mut frames, mut all) = (frames(), Vec::new());
    for piece in bytes.chunks(at_once) {
        frames.add(piece);
        while let Some(came) = frames.next()? {
            all.push(came);
        }
    }
    assert_eq!(frames.buffer.capacity(), 0, "nothing is left, and nothing is kept");
    Ok(all)
}

#[test]
fn frames_are_found_however_they_are_cut() {
    let long = "é".repeat(40_000);
    let bytes = [
        text("one"),
        frame(0x89, b"echo"),
        text(""),
        text(&long),
        text(&long[..300]),
        frame(0x01, "é".as_bytes().split_at(1).0),
        frame(0x8a, b""),
        frame(0x00, "é".as_bytes().split_at(1).1),
        frame(0x80, b"!"),
        frame(0x88, b"\x03\xe9bye"),
    ]
    .concat();
    let expected = || {
        vec![
            Came::Text("one".to_owned()),
            Came::Ping(b"echo".to_vec()),
            Came::Text(String::new()),
            Came::Text(long.clone()),
            Came::Text(long[..300].to_owned()),
            Came::Pong,
            Came::Text("é!".to_owned()),
            Came::Close(Some(1001)),
        ]
    };
    for at_once in [1, 2, 7, 1000, READ_AT_ONCE_BYTES, usize::MAX] {
        assert_eq!(came(&bytes, at_once), Ok(expected()), "{at_once} at once");
    }
}

#[test]
fn what_breaks_a_rule_is_refused() {
    let framing = |error: ProtocolError| framing(&error.into());
    let long_control = [&[0x89, 0xfe, 0, 126][..], &MASK, &[0; 126]].concat();
    let table = [
        (vec![0x81, 1, b'x'], framing(ProtocolError::UnmaskedFrameFromClient)),
        (frame(0xc1, b"x"), framing(ProtocolError::NonZeroReservedBits)),
        (frame(0x83, b"x"), framing(ProtocolError::InvalidOpcode(3))),
        (frame(0x8b, b"x"), framing(ProtocolError::InvalidOpcode(11))),
        (frame(0x09, b"x"), framing(ProtocolError::FragmentedControlFrame)),
        (long_control, framing(ProtocolError::ControlFrameTooBig)),
        (frame(0x80, b"x"), framing(ProtocolError::UnexpectedContinueFrame)),
        (
            [frame(0x01, b"x"), frame(0x81, b"y")].concat(),
            framing(ProtocolError::ExpectedFragment(Data::Text)),
        ),
        (frame(0x88, b"x"), framing(ProtocolError::InvalidCloseSequence)),
        (frame(0x88, b"\x03\xe9\xff"), Fault::Utf8),
        (frame(0x81, b"\xff"), Fault::Utf8),
        (frame(0x82, b"x"), Fault::Binary),
    ];
    for (bytes, fault) in table {
        assert_eq!(came(&bytes, usize::MAX), Err(fault), "{bytes:?}");
    }
    let mut server = Frames {
        is_masked: false,
        ..frames()
    };
    server.add(&frame(0x81, b"x"));
    assert_eq!(server.next(), Err(framing(ProtocolError::MaskedFrameFromServer)));
    assert_eq!(close_code(b""), Ok(None));
    assert_eq!(close_code(&1000_u16.to_be_bytes()), Ok(Some(1000)));
    assert_eq!(close_code(&1005_u16.to_be_bytes()), Ok(Some(1002)), "not for the wire");
}

#[test]
fn a_message_is_bounded_before_it_is_read_in_one_frame_or_in_many() {
    assert_eq!(came(&text(&"x".repeat(FRAME_BYTES_MAX + 1)), 5000), Err(Fault::TooLong));
    let head = |first: u8, length: usize| {
        let length = u64::try_from(length).unwrap().to_be_bytes();
        [&[first, 0xff][..], &length, &MASK].concat()
    };
    let mut at_limit = frames();
    at_limit.add(&head(0x81, READ_BYTES_MAX));
    assert_eq!(at_limit.next(), Ok(None));
    for length in [READ_BYTES_MAX + 1, usize::MAX] {
        let mut above = frames();
        above.add(&head(0x81, length));
        assert_eq!(above.next(), Err(Fault::TooLong));
    }
    let mut stranger = frames();
    stranger.bytes_max = STRANGER_BYTES_MAX;
    stranger.add(&head(0x81, STRANGER_BYTES_MAX + 1));
    assert_eq!(stranger.next(), Err(Fault::TooLong));
    let mut many = frames();
    many.add(&[frame(0x01, b"x"), head(0x00, READ_BYTES_MAX)].concat());
    assert_eq!(many.next(), Err(Fault::TooLong));
}

async fn tcp_pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let dialling = TcpStream::connect(listener.local_addr().unwrap());
    let (near, far) = tokio::join!(dialling, listener.accept());
    (near.unwrap(), far.unwrap().0)
}

/// A connection of ours in this role, and the other end by tungstenite.
async fn pair(role: Role) -> (SocketSink, SocketStream, WebSocketStream<TcpStream>) {
    let (near, far) = tcp_pair().await;
    let other = match role {
        Role::Server => Role::Client,
        Role::Client => Role::Server,
    };
    let (sink, stream) = split(Stream::Plain(near), role, Vec::new());
    (sink, stream, WebSocketStream::from_raw_socket(far, other, None).await)
}

#[tokio::test]
async fn another_implementation_understands_us_and_we_it() {
    for role in [Role::Server, Role::Client] {
        let (mut sink, mut stream, mut far) = pair(role).await;
        let (outbox, mut queue) = outbox();
        let long = "ä".repeat(25_000);
        for text in ["hello", "", &long] {
            sink.feed(Sent::Text(Utf8Bytes::from(text.to_owned()))).await.unwrap();
        }
        sink.send(Sent::Ping).await.unwrap();
        assert_eq!((sink.gathered.capacity(), sink.written), (0, 0));
        for text in ["hello", "", &long] {
            assert_eq!(far.next().await.unwrap().unwrap(), Message::text(text));
        }
        assert!(matches!(far.next().await, Some(Ok(Message::Ping(_)))));

        far.send(Message::Ping(vec![1, 2].into())).await.unwrap();
        far.send(Message::text(&long)).await.unwrap();
        // The pong is what it answered our ping with.
        assert_eq!(stream.next(&outbox).await, Received::Pong);
        assert_eq!(stream.next(&outbox).await, Received::Text(long.clone()));
        let answer = queue.try_next();
        let Some(crate::outbox::Outgoing::Pong(echo)) = answer else {
            panic!("the ping is not answered");
        };
        sink.send(Sent::Pong(echo)).await.unwrap();
        assert_eq!(far.next().await.unwrap().unwrap(), Message::Pong(vec![1, 2].into()));

        let (code, reason) = (1001.into(), Utf8Bytes::from_static("bye"));
        far.send(Message::Close(Some(CloseFrame { code, reason })))
            .await
            .unwrap();
        assert_eq!(stream.next(&outbox).await, Received::Closed);
        assert_eq!(queue.far_close(), Some(Some(1001)));
        sink.send(Sent::Close(1001, "")).await.unwrap();
        assert!(matches!(far.next().await, Some(Ok(Message::Close(Some(_))))));
        drop((sink, stream));
        assert!(matches!(far.next().await, None | Some(Err(_))));
    }
}

#[tokio::test]
async fn a_connection_that_breaks_is_closed() {
    let (_sink, mut stream, far) = pair(Role::Server).await;
    let (outbox, _queue) = outbox();
    drop(far);
    assert_eq!(stream.next(&outbox).await, Received::Closed);
}

#[tokio::test]
async fn a_flush_that_is_given_up_loses_and_doubles_nothing() {
    use futures_util::FutureExt as _;
    let (mut sink, _stream, mut far) = pair(Role::Server).await;
    let texts: Vec<String> = (0..200).map(|number| number.to_string().repeat(30_000)).collect();
    let mut given_up = 0;
    for text in &texts {
        // What the far end does not read fills the system's buffers, and ours; each try is given up at once.
        let fed = sink.feed(Sent::Text(Utf8Bytes::from(text.clone()))).now_or_never();
        given_up += u32::from(fed.is_none());
    }
    assert!(given_up > 0, "the far end reads nothing");
    let reading = async {
        for text in &texts {
            assert_eq!(far.next().await.unwrap().unwrap(), Message::text(text));
        }
    };
    let (flushed, ()) = tokio::join!(sink.flush(), reading);
    flushed.unwrap();
}

#[tokio::test]
async fn what_came_behind_the_handshake_is_read_first() {
    let (near, mut far) = tcp_pair().await;
    let (first, second) = (text("first"), text("second"));
    let (_sink, mut stream) = split(
        Stream::Plain(near),
        Role::Server,
        [first.as_slice(), &second[..3]].concat(),
    );
    let (outbox, _queue) = outbox();
    far.write_all(&second[3..]).await.unwrap();
    for text in ["first", "second"] {
        assert_eq!(stream.next(&outbox).await, Received::Text(text.to_owned()));
    }
}
