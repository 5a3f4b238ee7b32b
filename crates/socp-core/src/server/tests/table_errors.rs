//! What is no frame at all, and errors nobody asked for (SOCP §9.5, PROTOCOL I.1, I.10).

use super::super::*;
use super::table::*;
use super::table_fields::*;
use super::table_frames::*;
use super::world::*;
use socp_proto::limits::FRAME_BYTES_MAX;
use socp_proto::payload::{Heartbeat, msg_ref};

/// Texts that are no frame.
fn no_frames() -> Vec<String> {
    let envelope = |rest: &str| format!(r#"{{"type":"HEARTBEAT","from":"x","to":"a","ts":1,{rest}}}"#);
    let nested = |depth: usize| {
        envelope(&format!(
            "\"payload\":{}{}",
            "{\"a\":".repeat(depth),
            "1".to_owned() + &"}".repeat(depth)
        ))
    };
    let mut texts: Vec<String> = [
        "", " ", "{", "}", "[]", "[{}]", "null", "true", "7", "\"x\"", "{}", "{}{}", "{} x", "NaN",
    ]
    .map(str::to_owned)
    .into();
    texts.extend([
        envelope("\"from\":\"x\""),
        envelope("\"payload\":{\"a\":1,\"a\":1}"),
        envelope("\"payload\":{\"a\":1,\"\\u0061\":1}"),
        envelope("\"novel\":{\"a\":[{\"b\":1,\"b\":2}]}"),
        envelope("\"novel\":1.0"),
        envelope("\"novel\":1e9"),
        envelope("\"novel\":-0.0"),
        envelope("\"novel\":18446744073709551616"),
        envelope("\"novel\":NaN"),
        envelope("\"novel\":\"\\ud800\""),
        envelope("\"novel\":\"\t\""),
        envelope("\"novel\":01"),
        envelope("\"novel\":1,"),
        nested(40),
        nested(100_000),
        "[".repeat(100_000),
    ]);
    texts
}

#[test]
fn texts_that_are_no_frames() {
    let mut rows = vec![
        Row::good(By::Peer, "gossip", &by_x(&advert("eve", "x"))),
        Row::good(
            By::User,
            "a message",
            &by_mallory("alice", &Payload::MsgDirect(direct("mallory", "alice", NOW, b"sealed"))),
        ),
    ];
    for by in [By::User, By::Peer, By::Newcomer, By::Dialled] {
        for text in no_frames() {
            let name = format!("{by:?} says {}", text.chars().take(80).collect::<String>());
            rows.push(refused_as_no_frame(Row::texts(by, name, vec![text]), by));
        }
    }
    check(&rows);
}

#[test]
fn types_that_nobody_defined() {
    let mut rows = vec![Row::good(By::Peer, "gossip", &by_x(&advert("eve", "x")))];
    let heartbeat = Payload::Heartbeat(Heartbeat::default());
    let long_name = "X".repeat(100_000);
    for name in [
        "",
        "WHAT",
        "heartbeat",
        "HEARTBEAT ",
        " HEARTBEAT",
        "MSG_GROUP",
        "GROUP_KEY_SHARE",
        "CHALLENGE_2",
        &long_name,
    ] {
        for (by, said) in [
            (By::User, by_mallory("a", &heartbeat)),
            (By::Peer, by_x(&heartbeat)),
            (By::Newcomer, by_n(&heartbeat)),
            (By::Dialled, by_n(&heartbeat)),
        ] {
            let shown: String = name.chars().take(20).collect();
            let said = said.with("type", &quoted(name));
            let row = Row::bad(by, format!("{by:?} says {shown:?}"), &said).gets(ErrorCode::UnknownType);
            rows.push(match by {
                By::User | By::Peer => row,
                By::Newcomer | By::Dialled => row.closed(1002),
            });
        }
    }
    check(&rows);
}

const ERROR: Fields = &[("code", Text, Must), ("detail", Text, May), ("msg_ref", Text, May)];
const ACK: Fields = &[
    ("msg_ref", Text, Must),
    ("server_id", Id, May),
    ("server_pub", Key, May),
    ("server_name", Text, May),
    ("caps", Caps, May),
];

/// An `ERROR` is never answered by an `ERROR`, whatever is wrong with it.
#[test]
fn bad_errors_are_not_answered() {
    let mut rows = vec![Row::good(By::Peer, "gossip", &by_x(&advert("eve", "x")))];
    let codes = [
        "USER_NOT_FOUND",
        "INVALID_SIG",
        "BAD_KEY",
        "TIMEOUT",
        "NAME_IN_USE",
        "",
        "WHAT",
        &"X".repeat(9_000),
    ];
    for (by, who, good) in [
        (By::User, "mallory", by_mallory("a", &error(ErrorCode::BadFrame, None))),
        (By::Peer, "x", by_x(&error(ErrorCode::BadFrame, None))),
    ] {
        let silent = |row: Row| row.without_answers();
        rows.extend(wrong_fields(by, &good, ERROR, &[]).into_iter().map(silent));
        for from in ["a", "b", "w", "z", "alice", "stranger"] {
            rows.push(Row::bad(
                by,
                format!("an error of {who} in the name of {from}"),
                &good.clone().from(from),
            ));
            let said = good.clone().from(from).signed_by("b");
            rows.push(Row::bad(
                by,
                format!("an error of b of {who} in the name of {from}"),
                &said,
            ));
        }
        rows.push(Row::bad(
            by,
            format!("an unsigned error of {who}"),
            &good.clone().unsigned(),
        ));
        rows.push(Row::bad(
            by,
            format!("an error of {who} signed by another"),
            &good.clone().signed_by("thief"),
        ));
        for code in codes {
            for msg_ref in ["\"AAAA\"", "\"\"", "\"USER_HELLO\"", &long(9_000)] {
                let said = good.clone().saying("code", &quoted(code)).saying("msg_ref", msg_ref);
                let shown: String = code.chars().take(9).collect();
                rows.push(Row::bad(
                    by,
                    format!("{shown} of {who} about {}", &msg_ref[..6.min(msg_ref.len())]),
                    &said,
                ));
            }
        }
        let ack = every_kind(who).remove(&FrameKind::Ack).unwrap().signed_by(who);
        rows.extend(wrong_fields(by, &ack, ACK, &[]));
        rows.push(Row::bad(by, format!("an ack of {who}"), &ack));
    }
    check(&rows);
}

/// A message of alice's to `to`, and an error of x about it.
fn about_alices_message(to: &str, code: ErrorCode) -> (Said, Said) {
    let message = direct("alice", to, NOW, b"sealed");
    let reference = msg_ref(&message.content_sig);
    let said = Said::new("alice", to, &Payload::MsgDirect(message));
    (said, by_x(&error(code, Some(reference))))
}

/// Only who had a message can say that it did not arrive, and only once.
#[test]
fn errors_about_messages_that_went_elsewhere() {
    let mut rows = Vec::new();
    let (to_xena, gone) = about_alices_message("xena", ErrorCode::UserNotFound);
    rows.push(Row::good(By::Peer, "xena is gone", &gone).after_alice(&to_xena));
    rows.push(
        Row::bad(By::Peer, "xena is gone, twice", &gone)
            .after_alice(&to_xena)
            .given(&gone),
    );
    for code in [ErrorCode::UserNotFound, ErrorCode::InvalidSig, ErrorCode::Timeout] {
        for to in ["bob", "wendy", "zed", "mallory", "alice"] {
            let (message, error) = about_alices_message(to, code.clone());
            let row = Row::bad(By::Peer, format!("{code} about a message to {to}"), &error);
            rows.push(row.after_alice(&message));
        }
        // Nobody sent it yet; and it still arrives.
        let (message, error) = about_alices_message("bob", code.clone());
        let row = Row::bad(By::Peer, format!("{code} about a message to come"), &error);
        rows.push(row.then(Then::Alice, &message));
        // A user is no server.
        let (message, error) = about_alices_message("xena", code.clone());
        let by_user = error.from("mallory").signed_by("mallory");
        let row = Row::bad(By::User, format!("{code} of a user about a message to xena"), &by_user);
        rows.push(row.after_alice(&message));
    }
    check(&rows);
}

#[test]
fn a_flood_of_errors() {
    let (message, gone) = about_alices_message("bob", ErrorCode::UserNotFound);
    let texts = vec![gone.text(); 1_000];
    let rows = [
        Row::good(By::Peer, "gossip", &by_x(&advert("eve", "x"))),
        Row::texts(By::Peer, "a thousand errors", texts).after_alice(&message),
        Row::texts(
            By::User,
            "a thousand errors",
            vec![by_mallory("a", &error(ErrorCode::Timeout, None)).text(); 1_000],
        ),
        Row::texts(By::Peer, "a thousand errors of b's", vec![gone.from("b").text(); 1_000]),
    ];
    check(&rows);
}

/// An error that finds its way back to its author must not be too long for the author's link.
#[test]
fn an_error_on_its_way_back_stays_short() {
    let half = FRAME_BYTES_MAX / 2;
    let other = |code: &str| ErrorCode::Other(code.to_owned());
    for (code, detail, told) in [
        ("X".repeat(half), String::new(), other(&"X".repeat(64))),
        ("é".repeat(half / 2), String::new(), other(&"é".repeat(64))),
        (String::new(), String::new(), other("")),
        ("SOMETHING_ELSE".to_owned(), String::new(), other("SOMETHING_ELSE")),
        ("TIMEOUT".to_owned(), "y".repeat(half), ErrorCode::Timeout),
        ("TIMEOUT".to_owned(), "\\u0000".repeat(9_000), ErrorCode::Timeout),
    ] {
        let mut world = World::one("a");
        let x = world.peer("x", "a");
        world.peer_says(x, "x", "*", &advert("xena", "x"));
        let alice = world.native_user("alice", "a");
        world.take(alice.wire);
        let message = world.tell(alice, "xena", b"sealed");
        let said = by_x(&error(ErrorCode::Timeout, Some(msg_ref(&message.content_sig))));
        let said = said.saying("code", &quoted(&code)).saying("detail", &quoted(&detail));
        world.send_text(x, said.text());
        let frames = world.take(alice.wire);
        let Some(Payload::Error(notice)) = frames.first().map(|frame| &frame.payload) else {
            panic!("alice is not told");
        };
        assert!(
            frames[0].envelope.to_text().len() < 4_096,
            "{} bytes",
            frames[0].envelope.to_text().len()
        );
        assert_eq!(notice.code, told);
        assert_eq!(notice.msg_ref, Some(msg_ref(&message.content_sig)));
    }
}

#[test]
fn the_tenth_refused_frame() {
    let mut rows = vec![Row::good(By::Peer, "gossip", &by_x(&advert("eve", "x")))];
    type Refused = (&'static str, By, Said, ErrorCode);
    let refused: [Refused; 8] = [
        (
            "no JSON",
            By::User,
            by_mallory("a", &error(ErrorCode::Timeout, None)).with("ts", "x"),
            ErrorCode::BadFrame,
        ),
        (
            "no JSON",
            By::Peer,
            by_x(&advert("eve", "x")).with("ts", "x"),
            ErrorCode::BadFrame,
        ),
        (
            "no type",
            By::User,
            by_mallory("a", &file_end()).with("type", "\"WHAT\""),
            ErrorCode::UnknownType,
        ),
        (
            "no type",
            By::Peer,
            by_x(&file_end()).with("type", "\"WHAT\""),
            ErrorCode::UnknownType,
        ),
        (
            "gossip",
            By::User,
            by_mallory("*", &advert("eve", "a")),
            ErrorCode::UnknownType,
        ),
        (
            "gossip for b",
            By::Peer,
            by_x(&advert("eve", "b")),
            ErrorCode::InvalidSig,
        ),
        (
            "unsigned gossip",
            By::Peer,
            by_x(&advert("eve", "x")).unsigned(),
            ErrorCode::InvalidSig,
        ),
        (
            "alice's words",
            By::User,
            by_mallory("bob", &file_end()).from("alice"),
            ErrorCode::InvalidSig,
        ),
    ];
    for (what, by, said, code) in refused {
        for count in [9, 10, 30] {
            let row = Row::texts(by, format!("{what} of {by:?}, {count} times"), vec![said.text(); count]);
            let row = (0..count.min(10)).fold(row, |row, _| row.gets(code.clone()));
            rows.push(if count < 10 { row } else { row.closed(1008) });
        }
    }
    // What nobody is to blame for costs no link.
    for said in [
        by_x(&advert("eve", "stranger")).from("stranger"),
        by_x(&remove("bob", "b")).from("b"),
    ] {
        rows.push(Row::texts(By::Peer, "hearsay, a hundred times", vec![said.text(); 100]));
    }
    // Bad errors count like anything else that is refused, and are not answered even so.
    for (by, said) in [
        (
            By::User,
            by_mallory("a", &error(ErrorCode::Timeout, None)).omitting("code"),
        ),
        (By::Peer, by_x(&error(ErrorCode::Timeout, None)).unsigned()),
    ] {
        rows.push(Row::texts(by, "bad errors", vec![said.text(); 10]).closed(1008));
    }
    check(&rows);
}
