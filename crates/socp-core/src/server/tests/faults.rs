//! What bad input gets (SOCP §9.5, PROTOCOL I.10).

use super::super::*;
use super::world::*;
use socp_proto::payload::{ErrorNotice, Heartbeat, ListRequest};

fn text_of(kind: &str, from: &str, payload: &str) -> String {
    format!(r#"{{"type":"{kind}","from":"{from}","to":"a","ts":{BEGIN},"payload":{payload}}}"#)
}

fn frame_fault(text: &str) -> Fault {
    Fault::Frame(Frame::parse(text).unwrap_err())
}

#[test]
fn each_fault_on_a_link_has_its_answer() {
    let kind = FrameKind::MsgDirect;
    let key = || Fault::Key("too short".to_owned());
    let content = || Fault::Content {
        msg_ref: "r".to_owned(),
    };
    let bad_frame = ErrorCode::BadFrame;
    let table: Vec<(Fault, Option<ErrorCode>, Option<u16>)> = vec![
        (Fault::Binary, None, Some(1003)),
        (Fault::Utf8, None, Some(1007)),
        (Fault::TooLong, None, Some(1009)),
        (Fault::Framing(String::new()), None, Some(1002)),
        (Fault::SlowReader, None, Some(1013)),
        (frame_fault("{"), Some(bad_frame.clone()), None),
        (frame_fault("[]"), Some(bad_frame.clone()), None),
        (frame_fault(r#"{"a":1,"a":1}"#), Some(bad_frame.clone()), None),
        (frame_fault("{}"), Some(bad_frame.clone()), None),
        (frame_fault(&text_of("MSG_DIRECT", "u", "{}")), Some(bad_frame), None),
        (
            frame_fault(&text_of("WHAT", "u", "{}")),
            Some(ErrorCode::UnknownType),
            None,
        ),
        (key(), Some(ErrorCode::BadKey), None),
        (Fault::Signature { kind }, Some(ErrorCode::InvalidSig), None),
        (Fault::UnknownOrigin { kind }, None, None),
        (content(), Some(ErrorCode::InvalidSig), None),
        (Fault::NotYours { kind }, Some(ErrorCode::InvalidSig), None),
        (Fault::OutOfPlace { kind }, Some(ErrorCode::UnknownType), None),
        (Fault::Clock { kind }, Some(ErrorCode::Timeout), None),
    ];
    let mut world = World::one("a");
    for (fault, code, closed) in table {
        for is_native in [true, false] {
            let user = match is_native {
                true => world.native_user("u", "a"),
                false => world.user("u", "a"),
            };
            world.refuse(user.wire, fault.clone());
            let code = code.clone().map(|code| match is_native {
                true => code,
                false => code.for_stranger(),
            });
            let answers = world.take_errors(user.wire);
            assert_eq!(answers, Vec::from_iter(code), "{fault}");
            assert_eq!(world.closed(user.wire), closed, "{fault}");
            world.hang_up(user.wire);
        }
    }
}

#[test]
fn a_fault_in_the_first_frame_ends_the_link() {
    let kind = FrameKind::UserHello;
    let table = [
        (frame_fault("{"), Some(ErrorCode::UnknownType), 1002),
        (Fault::Key(String::new()), Some(ErrorCode::BadKey), 1002),
        (Fault::Signature { kind }, Some(ErrorCode::InvalidSig), 1002),
        (Fault::Binary, None, 1003),
        (Fault::TooLong, None, 1009),
    ];
    let mut world = World::one("a");
    for (fault, code, closed) in table {
        let wire = world.connect("a");
        world.refuse(wire, fault.clone());
        assert_eq!(world.take_errors(wire), Vec::from_iter(code), "{fault}");
        assert_eq!(world.closed(wire), Some(closed), "{fault}");
    }
}

#[test]
fn a_first_frame_that_is_no_hello_ends_the_link() {
    let mut world = World::one("a");
    let frames = [
        Payload::ListRequest(ListRequest::default()),
        Payload::Heartbeat(Heartbeat::default()),
        advert("u", "x"),
        Payload::MsgDirect(direct("u", "v", BEGIN, b"sealed")),
    ];
    for payload in frames {
        let wire = world.connect("a");
        world.send(wire, &signed(draft("x", "a", BEGIN, &payload), "x"));
        assert_eq!(world.take_errors(wire), [ErrorCode::UnknownType], "{payload:?}");
        assert_eq!(world.closed(wire), Some(1002), "{payload:?}");
    }
}

#[test]
fn frames_behind_a_refused_first_frame_are_ignored() {
    let mut world = World::one("a");
    let wire = world.connect("a");
    world.refuse(wire, frame_fault("{"));
    world.hello(wire, "u", plain_hello("u"));
    assert_eq!(world.take_errors(wire), [ErrorCode::UnknownType]);
    assert!(world.node("a").users.is_empty());
}

#[test]
fn ten_faults_in_a_minute_close_the_link() {
    let mut world = World::one("a");
    let user = world.user("u", "a");
    for count in 1..=10 {
        assert_eq!(world.closed(user.wire), None, "before fault {count}");
        world.send_text(user.wire, "{".to_owned());
    }
    assert_eq!(world.closed(user.wire), Some(1008));
    assert_eq!(world.take(user.wire).len(), 10);
}

#[test]
fn ten_faults_in_two_minutes_do_not() {
    let mut world = World::one("a");
    let user = world.user("u", "a");
    world.answer_pings(user.wire, true);
    world.wait(1_000);
    assert_eq!(world.take_kinds(user.wire), [FrameKind::PublicChannelUpdated]);
    for _ in 0..20 {
        world.send_text(user.wire, "{".to_owned());
        world.wait(12_000);
    }
    assert_eq!(world.closed(user.wire), None);
    assert_eq!(world.take(user.wire).len(), 20);
}

#[test]
fn ten_faults_of_a_peer_close_its_link_too() {
    let mut world = World::one("a");
    let peer = world.peer("x", "a");
    for _ in 0..10 {
        world.send_text(peer, "{".to_owned());
    }
    assert_eq!(world.closed(peer), Some(1008));
}

#[test]
fn the_other_links_are_not_disturbed() {
    let mut world = World::one("a");
    let (bad, u, v) = (world.user("b", "a"), world.user("u", "a"), world.user("v", "a"));
    for _ in 0..10 {
        world.send_text(bad.wire, "{".to_owned());
    }
    world.take(v.wire);
    world.tell(u, "v", b"sealed");
    assert_eq!(world.take_kinds(v.wire), [FrameKind::UserDeliver]);
}

#[test]
fn an_error_is_never_answered_by_an_error() {
    let mut world = World::one("a");
    let (user, peer) = (world.user("u", "a"), world.peer("x", "a"));
    world.take(peer);
    let notice = Payload::Error(ErrorNotice {
        code: ErrorCode::BadFrame,
        detail: String::new(),
        msg_ref: None,
        seq: None,
    });
    let stranger = world.connect("a");
    world.send(stranger, &unsigned(draft("x", "a", BEGIN, &notice)));
    assert!(world.take(stranger).is_empty());
    assert_eq!(world.closed(stranger), Some(1002));
    for wire in [user.wire, peer] {
        for from in ["u", "x", "y"] {
            let text = text_of("ERROR", from, "{}");
            world.send_text(wire, text);
            world.send(wire, &unsigned(draft(from, "a", BEGIN, &notice)));
            world.send(wire, &signed(draft(from, "a", BEGIN, &notice), from));
        }
        assert!(world.take(wire).is_empty());
    }
}

#[test]
fn a_wrong_or_missing_signature_of_a_peer_is_refused() {
    let mut world = World::one("a");
    let peer = world.peer("x", "a");
    let gossip = || draft("x", "*", BEGIN, &advert("u", "x"));
    for envelope in [unsigned(gossip()), signed(gossip(), "thief")] {
        world.send(peer, &envelope);
        assert_eq!(world.take_errors(peer), [ErrorCode::InvalidSig]);
    }
    assert!(world.list("a").is_empty());
}

#[test]
fn another_servers_word_is_not_taken_on_a_peers_link() {
    let mut world = World::one("a");
    let x = world.peer("x", "a");
    world.peer("y", "a");
    let foreign = signed(draft("y", "a", BEGIN, &Payload::Heartbeat(Heartbeat::default())), "y");
    world.send(x, &foreign);
    assert_eq!(world.take_errors(x), [ErrorCode::InvalidSig]);
}

#[test]
fn gossip_of_an_unknown_server_is_ignored_without_blame() {
    let mut world = World::one("a");
    let x = world.peer("x", "a");
    for _ in 0..20 {
        let gossip = signed(draft("stranger", "*", BEGIN, &advert("u", "stranger")), "stranger");
        world.send(x, &gossip);
    }
    assert!(world.take(x).is_empty());
    assert_eq!(world.closed(x), None);
    assert!(world.list("a").is_empty());
}

#[test]
fn server_frames_have_no_place_on_a_users_link_nor_user_frames_on_a_servers() {
    let mut world = World::one("a");
    let (user, peer) = (world.user("u", "a"), world.peer("x", "a"));
    world.take(user.wire);
    world.say(user, "a", &advert("u", "a"));
    assert_eq!(world.take_errors(user.wire), [ErrorCode::UnknownType]);
    world.peer_says(peer, "x", "a", &Payload::ListRequest(ListRequest::default()));
    assert_eq!(world.take_errors(peer), [ErrorCode::UnknownType]);
}
