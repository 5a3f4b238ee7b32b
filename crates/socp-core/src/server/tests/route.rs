//! Direct messages on their way (SOCP §8.3, §9.2, §10).

use super::super::*;
use super::table::server_deliver;
use super::world::*;
use socp_proto::KeyText;
use socp_proto::payload::{DirectMessage, UserDeliver, msg_ref};

fn delivered(frames: &[Frame]) -> Vec<(u64, UserDeliver)> {
    let deliver = |frame: &Frame| match &frame.payload {
        Payload::UserDeliver(deliver) => Some((frame.envelope.ts, deliver.clone())),
        _ => None,
    };
    frames.iter().filter_map(deliver).collect()
}

fn as_delivered(sender: &str, ts: u64, message: DirectMessage) -> (u64, UserDeliver) {
    let DirectMessage {
        ciphertext,
        sender_pub,
        content_sig,
        ..
    } = message;
    let deliver = UserDeliver {
        ciphertext,
        sender: user_id(sender),
        sender_pub,
        content_sig,
        ts: Some(ts),
        seq: None,
    };
    (ts, deliver)
}

#[test]
fn a_message_to_a_user_here_is_delivered() {
    let mut world = World::one("a");
    let (u, v) = (world.user("u", "a"), world.user("v", "a"));
    world.take(u.wire);
    let message = world.tell(u, "v", b"sealed");
    let frames = world.take(v.wire);
    assert_eq!(delivered(&frames), [as_delivered("u", BEGIN, message)]);
    assert_eq!(frames[0].envelope.from, server_id("a"));
    assert_eq!(frames[0].envelope.to.as_str(), "v");
    assert!(world.take(u.wire).is_empty());
}

#[test]
fn a_message_across_two_servers_keeps_ts_and_content() {
    let mut world = World::mesh(&["a", "b"]);
    let (u, v) = (world.user("u", "a"), world.user("v", "b"));
    world.wait(1_234);
    let ts = BEGIN + 17; // The author's clock, not ours.
    let message = direct("u", "v", ts, b"sealed");
    let envelope = draft("u", "v", ts, &Payload::MsgDirect(message.clone()));
    world.take(v.wire);
    world.send(u.wire, &unsigned(envelope));
    let frames = world.take(v.wire);
    assert_eq!(delivered(&frames), [as_delivered("u", ts, message)]);
    assert_eq!(frames[0].envelope.from, server_id("b"));
}

#[test]
fn every_session_of_the_recipient_gets_the_message() {
    let mut world = World::one("a");
    let u = world.user("u", "a");
    let (first, second) = (world.connect("a"), world.connect("a"));
    world.proven_hello(first, "v");
    world.wait(1);
    world.proven_hello(second, "v");
    world.take(first);
    world.take(second);
    world.tell(u, "v", b"sealed");
    assert_eq!(world.take_kinds(first), [FrameKind::UserDeliver]);
    assert_eq!(world.take_kinds(second), [FrameKind::UserDeliver]);
}

#[test]
fn a_message_over_a_middle_server_is_forwarded_unchanged() {
    // x – a – z, where x and z have no link.
    let mut world = World::one("a");
    let x = world.peer("x", "a");
    let z = world.peer("z", "a");
    world.peer_says(z, "z", "*", &advert("v", "z"));
    world.take(x);
    world.take(z);
    let deliver = Payload::ServerDeliver(server_deliver("u", "v", BEGIN, b"sealed"));
    let mut envelope = signed(draft("x", "z", BEGIN, &deliver), "x");
    let relay = socp_proto::json::parse_object(r#"{"relay":[1]}"#).unwrap();
    envelope.extra = relay;
    world.send(x, &envelope);
    let frames = world.take(z);
    assert_eq!(frames.len(), 1);
    assert_eq!(frames[0].envelope, envelope);
    assert!(world.take(x).is_empty());
}

#[test]
fn a_message_from_behind_the_middle_server_reaches_its_user() {
    // a – m – z: a has z's key and no link to it.
    let mut world = World::one("a");
    let far = world.peer("z", "a");
    world.hang_up(far);
    let middle = world.peer("m", "a");
    let v = world.user("v", "a");
    let deliver = Payload::ServerDeliver(server_deliver("u", "v", BEGIN, b"sealed"));
    world.take(v.wire);
    world.peer_says(middle, "z", "a", &deliver);
    assert_eq!(world.take_kinds(v.wire), [FrameKind::UserDeliver]);
    // And the other way: the next hop is the link on which the gossip came.
    world.take(middle);
    world.peer_says(middle, "z", "*", &advert("u", "z"));
    world.tell(v, "u", b"answer");
    let frames = world.take(middle);
    assert_eq!(frames.len(), 1);
    assert_eq!(frames[0].envelope.kind, FrameKind::ServerDeliver);
    assert_eq!(frames[0].envelope.to.as_str(), "z");
}

#[test]
fn an_unknown_recipient_is_reported_with_the_reference() {
    let mut world = World::one("a");
    let u = world.user("u", "a");
    for to in ["nobody", "*", "not.an.id:80"] {
        let message = world.tell(u, to, to.as_bytes());
        let Payload::Error(notice) = &world.take(u.wire)[0].payload else {
            panic!("no error");
        };
        assert_eq!(notice.code, ErrorCode::UserNotFound);
        assert_eq!(notice.detail, to);
        assert_eq!(notice.msg_ref, Some(msg_ref(&message.content_sig)));
    }
}

#[test]
fn the_same_content_in_another_envelope_is_dropped() {
    let mut world = World::mesh(&["a", "b"]);
    let x = world.peer("x", "b");
    let v = world.user("v", "b");
    let deliver = server_deliver("u", "v", BEGIN, b"sealed");
    world.take(x);
    world.take(v.wire);
    for later in [0, 1, 2_000] {
        let payload = Payload::ServerDeliver(deliver.clone());
        let envelope = draft("x", "b", BEGIN + later, &payload);
        world.send(x, &signed(envelope, "x"));
    }
    assert_eq!(world.take_kinds(v.wire), [FrameKind::UserDeliver]);
    let u = world.user("u", "a");
    world.take(v.wire);
    world.tell(u, "v", b"twice");
    world.tell(u, "v", b"twice");
    assert_eq!(world.take_kinds(v.wire), [FrameKind::UserDeliver]);
}

#[test]
fn a_sender_key_that_is_not_the_bound_one_is_refused_and_nothing_is_routed() {
    let mut world = World::one("a");
    let (u, v) = (world.user("u", "a"), world.user("v", "a"));
    world.take(u.wire);
    let mut message = direct("u", "v", BEGIN, b"sealed");
    message.sender_pub = KeyText::from_der(b"another key");
    let reference = msg_ref(&message.content_sig);
    world.say(u, "v", &Payload::MsgDirect(message));
    let Payload::Error(notice) = &world.take(u.wire)[0].payload else {
        panic!("no error");
    };
    assert_eq!(notice.code, ErrorCode::InvalidSig);
    assert_eq!(notice.msg_ref, Some(reference));
    assert!(world.take(v.wire).is_empty());
}

#[test]
fn a_wrong_content_signature_is_refused_and_the_true_message_still_goes_through() {
    let mut world = World::one("a");
    let (u, v) = (world.user("u", "a"), world.user("v", "a"));
    world.take(u.wire);
    let message = direct("u", "somebody else", BEGIN, b"sealed");
    world.say(u, "v", &Payload::MsgDirect(message));
    assert_eq!(world.take_errors(u.wire), [ErrorCode::InvalidSig]);
    assert!(world.take(v.wire).is_empty());
    world.tell(u, "v", b"sealed");
    assert_eq!(world.take_kinds(v.wire), [FrameKind::UserDeliver]);
}

#[test]
fn without_the_check_any_content_signature_goes_through() {
    let mut world = World::empty();
    let mut config = config("a");
    config.verify_content = false;
    world.add(config, "a");
    let (u, v) = (world.user("u", "a"), world.user("v", "a"));
    let message = direct("u", "somebody else", BEGIN, b"sealed");
    world.say(u, "v", &Payload::MsgDirect(message));
    assert_eq!(world.take_kinds(v.wire), [FrameKind::UserDeliver]);
}

#[test]
fn a_message_in_anothers_name_is_refused() {
    let mut world = World::one("a");
    let (u, v) = (world.user("u", "a"), world.user("v", "a"));
    world.take(u.wire);
    let message = Payload::MsgDirect(direct("v", "v", BEGIN, b"sealed"));
    let forged = unsigned(draft("v", "v", BEGIN, &message));
    world.send(u.wire, &forged);
    // The driver finds the content signature wrong before the core looks at `from`.
    assert_eq!(world.take_errors(u.wire), [ErrorCode::InvalidSig]);
    assert!(world.take(v.wire).is_empty());
}

#[test]
fn a_delivery_whose_sender_key_is_not_the_known_one_is_refused() {
    let mut world = World::one("a");
    let v = world.user("v", "a");
    let x = world.peer("x", "a");
    world.peer_says(x, "x", "*", &advert("u", "x"));
    world.take(v.wire);
    world.take(x);
    let mut deliver = server_deliver("u", "v", BEGIN, b"sealed");
    deliver.sender_pub = key("thief");
    let reference = msg_ref(&deliver.content_sig);
    world.peer_says(x, "x", "a", &Payload::ServerDeliver(deliver));
    let Payload::Error(notice) = &world.take(x)[0].payload else {
        panic!("no error");
    };
    assert_eq!(notice.code, ErrorCode::InvalidSig);
    assert_eq!(notice.msg_ref, Some(reference));
    assert!(world.take(v.wire).is_empty());
}

#[test]
fn a_refused_delivery_does_not_block_the_true_one() {
    let mut world = World::one("a");
    let v = world.user("v", "a");
    let x = world.peer("x", "a");
    let y = world.peer("y", "a");
    world.peer_says(x, "x", "*", &advert("u", "x"));
    world.take(v.wire);
    let honest = server_deliver("u", "v", BEGIN, b"sealed");
    let mut forged = honest.clone();
    forged.sender_pub = key("thief");
    world.peer_says(y, "y", "a", &Payload::ServerDeliver(forged));
    world.peer_says(x, "x", "a", &Payload::ServerDeliver(honest));
    assert_eq!(world.take_kinds(v.wire), [FrameKind::UserDeliver]);
}

#[test]
fn a_delivery_never_goes_back_to_where_it_came_from() {
    let mut world = World::one("a");
    let x = world.peer("x", "a");
    world.peer_says(x, "x", "*", &advert("v", "x"));
    world.take(x);
    let deliver = Payload::ServerDeliver(server_deliver("u", "v", BEGIN, b"sealed"));
    world.peer_says(x, "x", "a", &deliver);
    assert_eq!(world.take_errors(x), [ErrorCode::UserNotFound]);
}

#[test]
fn a_delivery_never_goes_to_its_origin() {
    let mut world = World::one("a");
    let x = world.peer("x", "a");
    let middle = world.peer("m", "a");
    world.peer_says(x, "x", "*", &advert("v", "x"));
    world.take(x);
    world.take(middle);
    let deliver = Payload::ServerDeliver(server_deliver("u", "v", BEGIN, b"sealed"));
    world.peer_says(middle, "x", "a", &deliver);
    assert!(world.take(x).is_empty());
    assert_eq!(world.take_errors(middle), [ErrorCode::UserNotFound]);
}

#[test]
fn old_content_is_delivered_since_its_ts_is_the_authors() {
    let mut world = World::one("a");
    let v = world.user("v", "a");
    let x = world.peer("x", "a");
    world.take(v.wire);
    let ts = BEGIN - 86_400_000;
    let deliver = Payload::ServerDeliver(server_deliver("u", "v", ts, b"sealed"));
    let envelope = signed(draft("x", "a", ts, &deliver), "x");
    world.send(x, &envelope);
    assert_eq!(delivered(&world.take(v.wire))[0].0, ts);
}

#[test]
fn a_message_that_found_nobody_may_be_sent_again() {
    let mut world = World::mesh(&["a", "b"]);
    let u = world.user("u", "a");
    let message = Payload::MsgDirect(direct("u", "v", BEGIN, b"sealed"));
    let envelope = unsigned(draft("u", "v", BEGIN, &message));
    for _ in 0..2 {
        world.send(u.wire, &envelope);
        assert_eq!(world.take_errors(u.wire), [ErrorCode::UserNotFound]);
    }
    let v = world.user("v", "b");
    world.send(u.wire, &envelope);
    world.send(u.wire, &envelope);
    assert_eq!(world.take_kinds(v.wire), [FrameKind::UserDeliver]);
}

#[test]
fn a_delivery_that_found_nobody_may_be_sent_again() {
    let mut world = World::one("a");
    let x = world.peer("x", "a");
    let deliver = Payload::ServerDeliver(server_deliver("u", "v", BEGIN, b"sealed"));
    let envelope = signed(draft("x", "a", BEGIN, &deliver), "x");
    world.send(x, &envelope);
    assert_eq!(world.take_errors(x), [ErrorCode::UserNotFound]);
    let v = world.user("v", "a");
    world.send(x, &envelope);
    world.send(x, &envelope);
    assert_eq!(world.take_kinds(v.wire), [FrameKind::UserDeliver]);
}

#[test]
fn the_key_of_who_sent_a_last_message_and_left_is_to_be_had() {
    let mut world = World::mesh(&["a", "b"]);
    let author = world.user("u", "b");
    world.tell(author, "v", b"hello");
    world.hang_up(author.wire);
    let reader = world.user("v", "a");
    world.take(reader.wire);
    let request = socp_proto::payload::PubkeyRequest { user_id: user_id("u") };
    world.say(reader, "a", &Payload::PubkeyRequest(request));
    let Payload::PubkeyResponse(response) = &world.take(reader.wire)[0].payload else {
        panic!("no response");
    };
    assert_eq!(response.pubkey, Some(key("u")));
    assert_eq!(response.server_id, Some(server_id("b")));
    // It is no way to be thought online, or to get a message.
    world.tell(reader, "u", b"are you there?");
    assert_eq!(world.take_errors(reader.wire), [ErrorCode::UserNotFound]);
    assert_eq!(world.list("a"), ["v"]);
}
