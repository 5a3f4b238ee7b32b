//! What is acknowledged is kept until it has arrived (PROTOCOL II.6).

use super::super::*;
use super::table::server_deliver;
use super::world::*;
use socp_proto::limits::{
    MAILBOX_AUTHOR_COUNT_MAX, MAILBOX_KEPT_MS, MAILBOX_PAGE_COUNT_MAX, NOT_STORED_WAIT_MS, PING_INTERVAL_MS,
    UNACKNOWLEDGED_COUNT_MAX,
};
use socp_proto::payload::{Ack, DirectMessage, MailboxRequest, Status, UserHello, msg_ref};
use socp_proto::{ACK, Capabilities, DeviceId};

fn device(number: u8) -> DeviceId {
    DeviceId::from_bytes([number; 16])
}

/// A user's program with `ack/1`; one that reads says which device it is, and how far it has got.
pub(super) fn comes(world: &mut World, id: &'static str, node: &'static str, reads: Option<(u8, u64)>) -> User {
    let wire = world.connect(node);
    world.wait(1);
    let mailbox = reads.map(|(number, after)| MailboxRequest {
        device: device(number),
        after,
    });
    let ts = world.now.unix;
    let hello = UserHello {
        caps: Some(Capabilities::of(&[ACK]).unwrap()),
        server_id: Some(server_id(node)),
        ts: Some(ts),
        mailbox,
        ..plain_hello(id)
    };
    world.send(wire, &signed(draft(id, "*", ts, &Payload::UserHello(hello)), id));
    User { id, wire }
}

/// What has been delivered: the numbers and what was sealed.
fn got(frames: &[Frame]) -> Vec<(Option<u64>, Vec<u8>)> {
    let deliver = |frame: &Frame| match &frame.payload {
        Payload::UserDeliver(deliver) => Some((deliver.seq, deliver.ciphertext.decode())),
        _ => None,
    };
    frames.iter().filter_map(deliver).collect()
}

fn texts(frames: &[Frame]) -> Vec<String> {
    let texts = got(frames).into_iter();
    texts.map(|(_, text)| String::from_utf8(text).unwrap()).collect()
}

/// What was said of messages: how they fare, at which server.
fn answers(frames: &[Frame]) -> Vec<(Status, String, Vec<String>)> {
    let acks = frames.iter().filter_map(|frame| match &frame.payload {
        Payload::Ack(ack) => Some((ack.status?, ack)),
        _ => None,
    });
    let whole = |(status, ack): (Status, &Ack)| {
        let refs = std::iter::once(&ack.msg_ref).chain(&ack.also).cloned();
        (status, ack.server_id.as_ref().unwrap().to_string(), refs.collect())
    };
    acks.map(whole).collect()
}

fn refusals(frames: &[Frame]) -> Vec<(ErrorCode, Option<String>)> {
    let errors = frames.iter().filter_map(|frame| match &frame.payload {
        Payload::Error(notice) => Some((notice.code.clone(), notice.msg_ref.clone())),
        _ => None,
    });
    errors.collect()
}

pub(super) fn acknowledge(world: &mut World, user: User, up_to: u64) {
    let ack = Ack {
        msg_ref: Ack::MAILBOX.to_owned(),
        up_to: Some(up_to),
        ..Ack::default()
    };
    let now = world.now.unix;
    world.send(user.wire, &unsigned(draft(user.id, "a", now, &Payload::Ack(ack))));
}

fn reference(message: &DirectMessage) -> String {
    msg_ref(&message.content_sig)
}

fn stored(at: &str, messages: &[&DirectMessage]) -> (Status, String, Vec<String>) {
    (
        Status::Stored,
        at.to_owned(),
        messages.iter().map(|message| reference(message)).collect(),
    )
}

/// A message with a hint where its recipient is.
pub(super) fn tell_home(world: &mut World, from: User, to: &str, text: &[u8], home: &str) -> DirectMessage {
    let message = DirectMessage {
        home: Some(server_id(home)),
        ..direct(from.id, to, world.now.unix, text)
    };
    let envelope = draft(from.id, to, world.now.unix, &Payload::MsgDirect(message.clone()));
    world.send(from.wire, &unsigned(envelope));
    message
}

#[test]
fn a_message_for_somebody_who_is_away_waits_and_is_acknowledged() {
    let mut world = World::one("a");
    let reader = comes(&mut world, "v", "a", Some((1, 0)));
    world.cut(reader.wire);
    let author = comes(&mut world, "u", "a", None);
    world.take(author.wire);
    let first = world.tell(author, "v", b"one");
    let second = world.tell(author, "v", b"two");
    world.wait(1);
    let said = answers(&world.take(author.wire));
    assert_eq!(said, [stored("a", &[&first]), stored("a", &[&second])]);
    let reader = comes(&mut world, "v", "a", Some((1, 0)));
    let frames = world.take(reader.wire);
    assert_eq!(texts(&frames), ["one", "two"]);
    let numbers: Vec<u64> = got(&frames).into_iter().filter_map(|(seq, _)| seq).collect();
    // What is not acknowledged comes again, and what is does not.
    world.cut(reader.wire);
    let reader = comes(&mut world, "v", "a", Some((1, 0)));
    assert_eq!(texts(&world.take(reader.wire)), ["one", "two"]);
    acknowledge(&mut world, reader, numbers[0]);
    world.cut(reader.wire);
    let reader = comes(&mut world, "v", "a", Some((1, numbers[0])));
    assert_eq!(texts(&world.take(reader.wire)), ["two"]);
    acknowledge(&mut world, reader, numbers[1]);
    assert!(
        world.node("a").shelves.mailboxes[&user_id("v")].is_empty(),
        "nobody needs it any more"
    );
}

#[test]
fn nothing_is_acknowledged_before_it_is_on_the_disk() {
    let mut world = World::one("a");
    let reader = comes(&mut world, "v", "a", Some((1, 0)));
    let author = comes(&mut world, "u", "a", None);
    world.take(author.wire);
    world.node_mut("a").is_slow = true;
    let message = world.tell(author, "v", b"one");
    world.wait(1_000);
    assert_eq!(
        texts(&world.take(reader.wire)),
        ["one"],
        "it need not wait for the disk"
    );
    assert!(answers(&world.take(author.wire)).is_empty());
    // The same again waits for the same disk.
    let again = draft("u", "v", world.now.unix - 1_000, &Payload::MsgDirect(message.clone()));
    world.send(author.wire, &unsigned(again));
    world.node_mut("a").is_slow = false;
    world.settle();
    let twice = stored("a", &[&message, &message]);
    assert_eq!(answers(&world.take(author.wire)), [twice]);
    assert!(world.take(reader.wire).is_empty(), "it came once");
}

#[test]
fn what_could_not_be_written_is_refused_and_may_come_again() {
    let mut world = World::one("a");
    comes(&mut world, "v", "a", Some((1, 0)));
    let author = comes(&mut world, "u", "a", None);
    world.take(author.wire);
    world.node_mut("a").is_slow = true;
    let message = direct("u", "v", world.now.unix, b"one");
    let envelope = unsigned(draft("u", "v", world.now.unix, &Payload::MsgDirect(message.clone())));
    world.send(author.wire, &envelope);
    world.fail_slow("a");
    world.node_mut("a").is_slow = false;
    let said = refusals(&world.take(author.wire));
    assert_eq!(said, [(ErrorCode::NotStored, Some(reference(&message)))]);
    world.send(author.wire, &envelope);
    world.wait(1);
    assert_eq!(answers(&world.take(author.wire)), [stored("a", &[&message])]);
}

#[test]
fn each_device_gets_everything() {
    let mut world = World::one("a");
    let author = comes(&mut world, "u", "a", None);
    let first = comes(&mut world, "v", "a", Some((1, 0)));
    let second = comes(&mut world, "v", "a", Some((2, 0)));
    world.cut(second.wire);
    world.take(first.wire);
    world.tell(author, "v", b"one");
    let frames = world.take(first.wire);
    assert_eq!(texts(&frames), ["one"]);
    acknowledge(&mut world, first, got(&frames)[0].0.unwrap());
    let second = comes(&mut world, "v", "a", Some((2, 0)));
    assert_eq!(texts(&world.take(second.wire)), ["one"]);
}

#[test]
fn a_new_device_gets_what_comes_though_the_others_have_read_everything() {
    let mut world = World::one("a");
    let author = comes(&mut world, "u", "a", None);
    let first = comes(&mut world, "v", "a", Some((1, 0)));
    world.take(first.wire);
    world.tell(author, "v", b"one");
    let number = got(&world.take(first.wire))[0].0.unwrap();
    acknowledge(&mut world, first, number);
    let second = comes(&mut world, "v", "a", Some((2, 0)));
    assert!(texts(&world.take(second.wire)).is_empty());
    world.tell(author, "v", b"two");
    assert_eq!(texts(&world.take(second.wire)), ["two"]);
}

#[test]
fn who_only_writes_gets_no_messages_and_who_reads_to_the_letter_gets_them_once() {
    let mut world = World::one("a");
    let author = world.user("u", "a");
    let writer = comes(&mut world, "v", "a", None);
    world.take(author.wire);
    world.take(writer.wire);
    let message = world.tell(author, "v", b"nobody reads");
    let said = refusals(&world.take(author.wire));
    assert_eq!(said, [(ErrorCode::UserNotFound, Some(reference(&message)))]);
    let reader = comes(&mut world, "v", "a", Some((1, 0)));
    let letter = world.connect("a");
    world.wait(1);
    world.proven_hello(letter, "v");
    world.take(reader.wire);
    world.take(letter);
    world.tell(author, "v", b"for both");
    assert_eq!(texts(&world.take(reader.wire)), ["for both"]);
    assert_eq!(got(&world.take(letter)), [(None, b"for both".to_vec())]);
    assert!(got(&world.take(writer.wire)).is_empty());
}

#[test]
fn an_author_hears_what_became_of_a_message_to_a_program_that_acknowledges_nothing() {
    let mut world = World::one("a");
    let author = comes(&mut world, "u", "a", None);
    let reader = world.user("v", "a");
    world.take(author.wire);
    let message = world.tell(author, "v", b"one");
    world.wait(1);
    let sent = (Status::Sent, "a".to_owned(), vec![reference(&message)]);
    assert_eq!(answers(&world.take(author.wire)), std::slice::from_ref(&sent));
    let again = draft("u", "v", BEGIN + 1, &Payload::MsgDirect(message));
    world.send(author.wire, &unsigned(again));
    world.wait(1);
    assert_eq!(answers(&world.take(author.wire)), [sent], "said again, delivered once");
    assert_eq!(texts(&world.take(reader.wire)), ["one"]);
}

#[test]
fn acknowledgements_of_what_was_never_sent_are_refused() {
    let mut world = World::one("a");
    let author = comes(&mut world, "u", "a", None);
    let reader = comes(&mut world, "v", "a", Some((1, 0)));
    world.take(reader.wire);
    world.tell(author, "v", b"one");
    let number = got(&world.take(reader.wire))[0].0.unwrap();
    acknowledge(&mut world, reader, number + 1);
    assert_eq!(refusals(&world.take(reader.wire)), [(ErrorCode::BadFrame, None)]);
    assert_eq!(world.node("a").shelves.mailboxes[&user_id("v")].len(), 1);
    acknowledge(&mut world, author, number);
    let said = refusals(&world.take(author.wire));
    assert_eq!(said.last(), Some(&(ErrorCode::UnknownType, None)), "it reads nothing");
    for up_to in [number, number, 0] {
        acknowledge(&mut world, reader, up_to);
    }
    assert!(
        refusals(&world.take(reader.wire)).is_empty(),
        "twice and late change nothing"
    );
    assert!(world.node("a").shelves.mailboxes[&user_id("v")].is_empty());
}

#[test]
fn who_acknowledges_nothing_is_sent_a_bounded_number_and_told_once() {
    let mut world = World::one("a");
    let author = comes(&mut world, "u", "a", None);
    let reader = comes(&mut world, "v", "a", Some((1, 0)));
    world.answer_pings(reader.wire, true);
    world.answer_pings(author.wire, true);
    world.take(reader.wire);
    let count = UNACKNOWLEDGED_COUNT_MAX + 10;
    for number in 0..count {
        world.tell(author, "v", number.to_string().as_bytes());
    }
    let frames = world.take(reader.wire);
    assert_eq!(texts(&frames).len(), UNACKNOWLEDGED_COUNT_MAX);
    world.wait(4 * PING_INTERVAL_MS);
    assert_eq!(refusals(&world.take(reader.wire)), [(ErrorCode::Timeout, None)]);
    let last = got(&frames).last().unwrap().0.unwrap();
    acknowledge(&mut world, reader, last);
    let rest: Vec<String> = (UNACKNOWLEDGED_COUNT_MAX..count)
        .map(|number| number.to_string())
        .collect();
    assert_eq!(texts(&world.take(reader.wire)), rest);
}

#[test]
fn a_long_backlog_comes_in_order_as_it_is_acknowledged() {
    let mut world = World::one("a");
    let reader = comes(&mut world, "v", "a", Some((1, 0)));
    world.cut(reader.wire);
    let author = comes(&mut world, "u", "a", None);
    let sent: Vec<String> = (0..1_000).map(|number: u32| number.to_string()).collect();
    for text in &sent {
        world.tell(author, "v", text.as_bytes());
    }
    let reader = comes(&mut world, "v", "a", Some((1, 0)));
    let mut came = Vec::new();
    loop {
        let frames = world.take(reader.wire);
        let Some((seq, _)) = got(&frames).last().cloned() else {
            break;
        };
        came.extend(texts(&frames));
        assert!(came.len() <= 2 * sent.len());
        // What comes meanwhile stands behind.
        if came.len() < 300 {
            world.tell(author, "v", b"late");
        }
        acknowledge(&mut world, reader, seq.unwrap());
    }
    let late = came.split_off(sent.len());
    assert_eq!(came, sent);
    assert!(!late.is_empty() && late.iter().all(|text| text == "late"));
}

#[test]
fn one_author_cannot_fill_a_mailbox() {
    let mut world = World::one("a");
    let reader = comes(&mut world, "v", "a", Some((1, 0)));
    world.cut(reader.wire);
    let (author, other) = (comes(&mut world, "u", "a", None), comes(&mut world, "w", "a", None));
    for number in 0..MAILBOX_AUTHOR_COUNT_MAX {
        world.tell(author, "v", number.to_string().as_bytes());
    }
    world.wait(1);
    assert!(refusals(&world.take(author.wire)).is_empty());
    let message = world.tell(author, "v", b"one too many");
    let said = refusals(&world.take(author.wire));
    assert_eq!(said, [(ErrorCode::MailboxFull, Some(reference(&message)))]);
    world.take(other.wire);
    let message = world.tell(other, "v", b"of another");
    world.wait(1);
    assert_eq!(answers(&world.take(other.wire)), [stored("a", &[&message])]);
}

#[test]
fn what_waits_survives_a_restart_and_no_number_comes_twice() {
    let mut world = World::one("a");
    let reader = comes(&mut world, "v", "a", Some((1, 0)));
    let author = comes(&mut world, "u", "a", None);
    world.take(reader.wire);
    world.tell(author, "v", b"one");
    let before = got(&world.take(reader.wire))[0].0.unwrap();
    // The disk of this one was lost with the server.
    world.node_mut("a").is_slow = true;
    world.tell(author, "v", b"lost");
    let lost = got(&world.take(reader.wire))[0].0.unwrap();
    world.node_mut("a").is_slow = false;
    let node = world.node_mut("a");
    node.shelves.unwrite(lost);
    world.crash("a");
    world.start(&["a"]);
    let author = comes(&mut world, "u", "a", None);
    world.tell(author, "v", b"two");
    let reader = comes(&mut world, "v", "a", Some((1, lost)));
    let frames = world.take(reader.wire);
    assert_eq!(texts(&frames).last().map(String::as_str), Some("two"));
    assert!(got(&frames).last().unwrap().0.unwrap() > lost && lost > before);
}

#[test]
fn what_waits_for_a_lost_server_goes_when_it_is_back_and_its_author_hears_it() {
    let mut world = World::mesh(&["a", "b"]);
    let reader = comes(&mut world, "v", "b", Some((1, 0)));
    let author = comes(&mut world, "u", "a", Some((1, 0)));
    let straight = world.tell(author, "v", b"straight");
    world.wait(10);
    assert_eq!(texts(&world.take(reader.wire)), ["straight"]);
    let said = answers(&world.take(author.wire));
    assert_eq!(said, [stored("a", &[&straight]), stored("b", &[&straight])]);
    assert!(world.node("a").shelves.outbound.is_empty());
    world.part("a", "b");
    let texts_sent: Vec<String> = (0..300).map(|number: u32| number.to_string()).collect();
    for text in &texts_sent {
        world.tell(author, "v", text.as_bytes());
    }
    world.wait(1);
    assert_eq!(answers(&world.take(author.wire)).len(), texts_sent.len());
    assert_eq!(world.node("a").shelves.outbound.len(), texts_sent.len());
    world.wait(5_000);
    let frames = world.take(reader.wire);
    let mut came = texts(&frames);
    acknowledge(&mut world, reader, got(&frames).last().unwrap().0.unwrap());
    came.extend(texts(&world.take(reader.wire)));
    assert_eq!(came, texts_sent);
    assert!(world.node("a").shelves.outbound.is_empty());
    let there = answers(&world.take(author.wire))
        .into_iter()
        .filter(|(_, at, _)| at == "b");
    assert_eq!(there.map(|(.., refs)| refs.len()).sum::<usize>(), texts_sent.len());
}

#[test]
fn what_is_for_a_server_with_two_links_is_kept_while_neither_is_settled() {
    let mut world = World::mesh(&["a", "b"]);
    let _reader = comes(&mut world, "v", "b", Some((1, 0)));
    let author = comes(&mut world, "u", "a", None);
    world.take(author.wire);
    // Both have dialled: the link that counts is not answered yet, and what is known of the reader came over the other.
    let unanswered = LinkId(u64::MAX);
    world.node_mut("a").server.peers.insert(server_id("b"), unanswered);
    let message = world.tell(author, "v", b"one");
    world.wait(1);
    assert_eq!(answers(&world.take(author.wire)), [stored("a", &[&message])]);
    assert_eq!(world.node("a").shelves.outbound.len(), 1);
}

#[test]
fn what_waits_for_a_server_survives_a_restart_of_both() {
    let mut world = World::mesh(&["a", "b"]);
    let reader = comes(&mut world, "v", "b", Some((1, 0)));
    world.cut(reader.wire);
    world.wait(5_000);
    world.stop("b");
    let author = comes(&mut world, "u", "a", None);
    world.take(author.wire);
    let written = world.now.unix;
    let message = tell_home(&mut world, author, "v", b"one", "b");
    world.wait(1);
    assert_eq!(answers(&world.take(author.wire)), [stored("a", &[&message])]);
    world.stop("a");
    world.start(&["a", "b"]);
    world.wait(5_000);
    let reader = comes(&mut world, "v", "b", Some((1, 0)));
    assert_eq!(texts(&world.take(reader.wire)), ["one"]);
    assert!(world.node("a").shelves.outbound.is_empty());
    // The very same, because the author's program has not heard: acknowledged, and not delivered again.
    let author = comes(&mut world, "u", "a", None);
    world.take(author.wire);
    let envelope = draft("u", "v", written, &Payload::MsgDirect(message.clone()));
    world.send(author.wire, &unsigned(envelope));
    world.wait(10);
    let said = answers(&world.take(author.wire));
    assert!(said.contains(&stored("a", &[&message])), "{said:?}");
    assert!(texts(&world.take(reader.wire)).is_empty());
}

#[test]
fn an_author_who_is_away_finds_out_later_that_a_message_went_nowhere() {
    let mut world = World::mesh(&["a", "b"]);
    world.stop("b");
    let author = comes(&mut world, "u", "a", Some((1, 0)));
    world.take(author.wire);
    let message = tell_home(&mut world, author, "nobody", b"one", "b");
    world.wait(1);
    assert_eq!(answers(&world.take(author.wire)), [stored("a", &[&message])]);
    world.cut(author.wire);
    world.start(&["b"]);
    world.wait(70_000);
    let author = comes(&mut world, "u", "a", Some((1, 0)));
    let frames = world.take(author.wire);
    assert_eq!(
        refusals(&frames),
        [(ErrorCode::UserNotFound, Some(reference(&message)))]
    );
    let Some(Payload::Error(notice)) = frames
        .iter()
        .map(|frame| &frame.payload)
        .find(|payload| matches!(payload, Payload::Error(_)))
    else {
        panic!("{frames:?}");
    };
    assert!(notice.seq.is_some() && notice.detail == "nobody");
    acknowledge(&mut world, author, notice.seq.unwrap());
    assert!(world.node("a").shelves.mailboxes[&user_id("u")].is_empty());
}

#[test]
fn a_server_whose_disk_is_full_is_sent_everything_again_later() {
    let mut world = World::mesh(&["a", "b"]);
    let reader = comes(&mut world, "v", "b", Some((1, 0)));
    let author = comes(&mut world, "u", "a", None);
    world.take(reader.wire);
    world.take(author.wire);
    world.node_mut("b").is_slow = true;
    let (first, second) = (world.tell(author, "v", b"one"), world.tell(author, "v", b"two"));
    let seqs: Vec<u64> = got(&world.take(reader.wire))
        .into_iter()
        .filter_map(|(seq, _)| seq)
        .collect();
    for seq in seqs {
        world.node_mut("b").shelves.unwrite(seq);
        world.fail_slow("b");
    }
    world.node_mut("b").is_slow = false;
    world.wait(1);
    let said = answers(&world.take(author.wire));
    assert_eq!(said, [stored("a", &[&first]), stored("a", &[&second])]);
    assert_eq!(world.node("a").shelves.outbound.len(), 2);
    world.wait(NOT_STORED_WAIT_MS + 10);
    let said = answers(&world.take(author.wire));
    assert_eq!(said, [stored("b", &[&first]), stored("b", &[&second])]);
    assert_eq!(
        texts(&world.take(reader.wire)),
        ["one", "two"],
        "the reader knows them by content"
    );
    assert!(world.node("a").shelves.outbound.is_empty());
}

#[test]
fn a_server_of_before_is_sent_messages_once_and_the_author_hears_that() {
    let mut world = World::mesh(&["a"]);
    let mut before = config("b");
    before.keeps = false;
    before.bootstrap = vec![entry("a", Some(key("a")))];
    world.add(before, "b");
    world.settle();
    let author = comes(&mut world, "u", "a", None);
    let reader = world.user("v", "b");
    world.take(author.wire);
    let message = world.tell(author, "v", b"one");
    world.wait(1);
    assert_eq!(texts(&world.take(reader.wire)), ["one"]);
    let sent = (Status::Sent, "a".to_owned(), vec![reference(&message)]);
    assert_eq!(answers(&world.take(author.wire)), [sent]);
}

#[test]
fn a_server_that_claims_somebody_who_is_away_gets_a_copy_and_the_mailbox_keeps_the_message() {
    let mut world = World::one("a");
    let reader = comes(&mut world, "v", "a", Some((1, 0)));
    world.cut(reader.wire);
    let claims = world.peer("x", "a");
    world.peer_says(claims, "x", "*", &advert("v", "x"));
    let author = comes(&mut world, "u", "a", None);
    world.take(claims);
    world.take(author.wire);
    let message = world.tell(author, "v", b"one");
    world.wait(1);
    assert!(world.take_kinds(claims).contains(&FrameKind::ServerDeliver));
    assert_eq!(answers(&world.take(author.wire)), [stored("a", &[&message])]);
    let reader = comes(&mut world, "v", "a", Some((1, 0)));
    assert_eq!(texts(&world.take(reader.wire)), ["one"]);
}

#[test]
fn a_device_that_is_gone_for_good_does_not_fill_the_mailbox_of_the_others() {
    let mut world = World::one("a");
    let gone = comes(&mut world, "v", "a", Some((1, 0)));
    world.cut(gone.wire);
    let author = comes(&mut world, "u", "a", None);
    let reader = comes(&mut world, "v", "a", Some((2, 0)));
    world.take(reader.wire);
    for number in 0..=MAILBOX_AUTHOR_COUNT_MAX {
        world.tell(author, "v", number.to_string().as_bytes());
        let came = got(&world.take(reader.wire));
        acknowledge(&mut world, reader, came[0].0.unwrap());
    }
    assert!(refusals(&world.take(author.wire)).is_empty());
    assert!(world.node("a").shelves.mailboxes[&user_id("v")].len() <= MAILBOX_AUTHOR_COUNT_MAX);
}

#[test]
fn what_was_only_passed_on_is_not_called_stored_later() {
    let mut world = World::mesh(&["a"]);
    let mut before = config("b");
    before.keeps = false;
    before.bootstrap = vec![entry("a", Some(key("a")))];
    world.add(before, "b");
    world.settle();
    let author = comes(&mut world, "u", "a", None);
    world.user("v", "b");
    world.take(author.wire);
    let written = world.now.unix;
    let message = world.tell(author, "v", b"one");
    world.wait(1);
    let sent = (Status::Sent, "a".to_owned(), vec![reference(&message)]);
    assert_eq!(answers(&world.take(author.wire)), [sent]);
    // The other server gets a newer program; the author's has not heard the answer, and sends the same again.
    world.crash("b");
    world.node_mut("b").config.keeps = true;
    world.start(&["b"]);
    world.wait(5_000);
    let reader = comes(&mut world, "v", "b", Some((1, 0)));
    world.wait(5_000);
    world.take(author.wire);
    let again = draft("u", "v", written, &Payload::MsgDirect(message.clone()));
    world.send(author.wire, &unsigned(again));
    assert_eq!(
        world.node("b").shelves.mailboxes.get(&user_id("v")).map(BTreeMap::len),
        None,
        "it came before"
    );
    world.wait(10);
    let said = answers(&world.take(author.wire));
    assert!(said.contains(&stored("a", &[&message])), "{said:?}");
    assert!(
        world.node("a").shelves.outbound.is_empty(),
        "the other server has answered for it"
    );
    assert!(texts(&world.take(reader.wire)).is_empty(), "it was delivered before");
}

#[test]
fn what_nobody_fetches_goes_after_thirty_days() {
    let mut world = World::one("a");
    let reader = comes(&mut world, "v", "a", Some((1, 0)));
    world.cut(reader.wire);
    let author = comes(&mut world, "u", "a", None);
    world.tell(author, "v", b"one");
    world.stop("a");
    world.wait(MAILBOX_KEPT_MS + 1_000);
    world.start(&["a"]);
    // Nothing goes for its age before somebody's clock has said the same.
    world.wait(3_600_001);
    assert_eq!(world.node("a").shelves.mailboxes[&user_id("v")].len(), 1);
    comes(&mut world, "u", "a", None);
    world.wait(3_600_001);
    let shelves = &world.node("a").shelves;
    assert!(shelves.mailboxes[&user_id("v")].is_empty() && shelves.devices.is_empty());
    let author = comes(&mut world, "u", "a", None);
    world.take(author.wire);
    world.tell(author, "v", b"two");
    assert_eq!(refusals(&world.take(author.wire))[0].0, ErrorCode::UserNotFound);
}

#[test]
fn who_has_not_proved_the_key_does_not_read_the_mailbox() {
    let mut world = World::one("a");
    let reader = comes(&mut world, "v", "a", Some((1, 0)));
    world.cut(reader.wire);
    let author = comes(&mut world, "u", "a", None);
    world.tell(author, "v", b"one");
    let wire = world.connect("a");
    let hello = UserHello {
        caps: Some(Capabilities::of(&[ACK]).unwrap()),
        mailbox: Some(MailboxRequest {
            device: device(1),
            after: 0,
        }),
        ..plain_hello("v")
    };
    world.hello(wire, "v", hello);
    assert_eq!(
        world.take_kinds(wire).first(),
        Some(&FrameKind::Ack),
        "an open server takes it"
    );
    world.tell(author, "v", b"two");
    assert_eq!(texts(&world.take(wire)), ["two"], "only what comes while it is there");
}

#[test]
fn refusals_fill_no_mailbox_beyond_a_quarter() {
    let mut world = World::one("a");
    let peer = world.connect("a");
    let caps = Some(Capabilities::of(&[ACK]).unwrap());
    world.announce(peer, "x", socp_proto::payload::ServerIdentity { caps, ..identity("x") });
    let author = comes(&mut world, "u", "a", Some((1, 0)));
    world.cut(author.wire);
    let author = comes(&mut world, "u", "a", None);
    for number in 0..=MAILBOX_AUTHOR_COUNT_MAX {
        let message = tell_home(&mut world, author, "nobody", number.to_string().as_bytes(), "x");
        let refusal = socp_proto::payload::ErrorNotice {
            code: ErrorCode::UserNotFound,
            detail: "nobody".to_owned(),
            msg_ref: Some(reference(&message)),
            seq: None,
        };
        world.peer_says(peer, "x", "a", &Payload::Error(refusal));
    }
    let waiting = world.node("a").shelves.mailboxes[&user_id("u")].len();
    assert_eq!(waiting, MAILBOX_AUTHOR_COUNT_MAX);
    // What its author cannot be told of stays, until that was read.
    assert_eq!(world.node("a").shelves.outbound.len(), 1);
}

#[test]
fn damaged_messages_hide_none_behind_them() {
    let mut world = World::one("a");
    let reader = comes(&mut world, "v", "a", Some((1, 0)));
    world.cut(reader.wire);
    let author = comes(&mut world, "u", "a", None);
    // The store's first page holds nothing but what is damaged.
    for number in 0..=MAILBOX_PAGE_COUNT_MAX {
        world.tell(author, "v", number.to_string().as_bytes());
    }
    let shelves = &mut world.node_mut("a").shelves;
    let seqs = shelves.mailboxes[&user_id("v")].keys();
    shelves.damaged = seqs.copied().take(MAILBOX_PAGE_COUNT_MAX).collect();
    let reader = comes(&mut world, "v", "a", Some((1, 0)));
    assert_eq!(texts(&world.take(reader.wire)), [MAILBOX_PAGE_COUNT_MAX.to_string()]);
}

#[test]
fn a_device_that_is_there_for_longer_than_thirty_days_keeps_its_mailbox() {
    let mut world = World::one("a");
    let reader = comes(&mut world, "v", "a", Some((1, 0)));
    world.answer_pings(reader.wire, true);
    world.wait(MAILBOX_KEPT_MS + 7_200_000);
    let author = comes(&mut world, "u", "a", None);
    world.take(author.wire);
    world.tell(author, "v", b"one");
    world.wait(1);
    assert!(refusals(&world.take(author.wire)).is_empty());
    assert_eq!(texts(&world.take(reader.wire)), ["one"]);
}

#[test]
fn a_clock_that_is_a_year_ahead_costs_nobody_a_message() {
    let mut world = World::one("a");
    let reader = comes(&mut world, "v", "a", Some((1, 0)));
    world.cut(reader.wire);
    let author = comes(&mut world, "u", "a", None);
    world.tell(author, "v", b"one");
    world.wait(2 * 3_600_000);
    let right = world.now.unix;
    world.set_wall_clocks(right + 12 * MAILBOX_KEPT_MS);
    world.wait(86_400_000);
    world.stop("a");
    world.start(&["a"]);
    world.wait(86_400_000);
    world.set_wall_clocks(right + 2 * 86_400_000);
    world.wait(4 * 3_600_000);
    let reader = comes(&mut world, "v", "a", Some((1, 0)));
    assert_eq!(texts(&world.take(reader.wire)), ["one"]);
}

#[test]
fn what_comes_over_a_server_counts_as_its() {
    let mut world = World::one("a");
    let reader = comes(&mut world, "v", "a", Some((1, 0)));
    world.cut(reader.wire);
    let author = comes(&mut world, "u", "a", None);
    world.tell(author, "v", b"one");
    for (peer, text) in [("x", b"two"), ("x", b"six"), ("y", b"ten")] {
        let wire = world.connect("a");
        world.announce(wire, peer, identity(peer));
        let ts = world.now.unix;
        let deliver = server_deliver("w", "v", ts, text);
        world.peer_says(wire, peer, "a", &Payload::ServerDeliver(deliver));
    }
    let rows = world.node("a").shelves.mailboxes[&user_id("v")].values();
    let via: Vec<u64> = rows.map(|mail| mail.row.via).collect();
    let [here, x, again, y] = via.try_into().unwrap();
    assert!(here == 0 && x != 0 && y != 0 && x == again && x != y);
}

#[test]
fn a_damaged_message_for_a_server_is_given_back() {
    let mut world = World::mesh(&["a", "b"]);
    let reader = comes(&mut world, "v", "b", Some((1, 0)));
    world.stop("b");
    let author = comes(&mut world, "u", "a", Some((1, 0)));
    world.take(author.wire);
    let written = world.now.unix;
    let message = tell_home(&mut world, author, "v", b"one", "b");
    world.wait(1);
    world.take(author.wire);
    let shelves = &mut world.node_mut("a").shelves;
    shelves.damaged = shelves.outbound.keys().copied().collect();
    world.start(&["b"]);
    world.wait(70_000);
    let told = [(ErrorCode::NotStored, Some(reference(&message)))];
    let frames = world.take(author.wire);
    assert_eq!(refusals(&frames), told);
    // It is no duplicate when it is written again.
    world.node_mut("a").shelves.damaged.clear();
    let author = comes(&mut world, "u", "a", Some((1, 0)));
    let envelope = draft("u", "v", written, &Payload::MsgDirect(message));
    world.send(author.wire, &unsigned(envelope));
    world.wait(10);
    let reader = comes(&mut world, reader.id, "b", Some((1, 0)));
    assert_eq!(texts(&world.take(reader.wire)), ["one"]);
}
