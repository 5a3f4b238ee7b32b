//! What bad input gets where direct messages go (SOCP §8.3, §9.2, §10, PROTOCOL I.7).

use super::super::*;
use super::table::*;
use super::table_fields::*;
use super::world::*;
use socp_proto::limits::CONTENT_AGE_MAX_MS;

const DIRECT: Fields = &[
    ("ciphertext", Ciphertext, Must),
    ("sender_pub", Key, Must),
    ("content_sig", Sig, Must),
];
const DELIVER: Fields = &[
    ("user_id", Id, Must),
    ("ciphertext", Ciphertext, Must),
    ("sender", Id, Must),
    ("sender_pub", Key, Must),
    ("content_sig", Sig, Must),
    ("ts", Number, May),
];

/// A message of `mallory`, whole.
fn message(to: &str) -> Said {
    message_at(to, NOW)
}

fn message_at(to: &str, ts: u64) -> Said {
    by_mallory(to, &Payload::MsgDirect(direct("mallory", to, ts, b"sealed"))).at(ts)
}

fn delivery(sender: &str, to: &str) -> Said {
    delivery_at(sender, to, NOW)
}

fn delivery_at(sender: &str, to: &str, ts: u64) -> Said {
    let deliver = server_deliver(sender, to, ts, b"sealed");
    by_x(&Payload::ServerDeliver(deliver)).to("a").at(ts)
}

#[test]
fn the_fields_of_a_message() {
    let good = message("alice");
    let mut rows = wrong_fields(By::User, &good, DIRECT, &["sender", "user_id", "file_id", "group_id"]);
    rows.extend(wrong_envelope(By::User, &good));
    rows.push(Row::good(By::User, "a good one", &good));
    let good = delivery("xena", "alice");
    rows.extend(wrong_fields(By::Peer, &good, DELIVER, &["file_id", "group_id", "meta"]));
    rows.push(Row::good(By::Peer, "a good delivery", &good));
    check(&rows);
}

#[test]
fn a_message_that_its_author_did_not_write_so() {
    let by = By::User;
    let good = || message("alice");
    let other = |to: &str, ts: u64, text: &[u8]| {
        let sig = direct("mallory", to, ts, text).content_sig;
        good().saying("content_sig", &quoted(sig.as_str()))
    };
    let by_alice = direct("alice", "bob", NOW, b"sealed");
    let mut rows = vec![Row::good(by, "a good one", &good())];
    for (what, said) in [
        ("signed for another reader", other("bob", NOW, b"sealed")),
        ("signed for another time", other("alice", NOW - 1, b"sealed")),
        ("signed for another text", other("alice", NOW, b"other")),
        ("with an empty content signature", good().saying("content_sig", "\"\"")),
        ("to another than was signed", good().to("bob")),
        ("at another time than was signed", good().at(NOW + 1)),
        (
            "with another text than was signed",
            good().saying("ciphertext", "\"AAAA\""),
        ),
        (
            "with another's key",
            good().saying("sender_pub", &quoted(key("alice").as_str())),
        ),
        (
            "with a new key",
            good().saying("sender_pub", &quoted(key("thief").as_str())),
        ),
        (
            "with alice's content",
            by_mallory("bob", &Payload::MsgDirect(by_alice.clone())),
        ),
        (
            "with alice's content in her name",
            by_mallory("bob", &Payload::MsgDirect(by_alice)).from("alice"),
        ),
        ("in the name of alice", good().from("alice").to("bob")),
        ("with another's transport signature", good().signed_by("alice")),
    ] {
        let row = Row::bad(by, format!("a message {what}"), &said).gets(ErrorCode::InvalidSig);
        // Nothing of it is remembered: the true one goes through.
        rows.push(row.then(Then::Attacker, &message_at("alice", NOW)));
    }
    check(&rows);
}

#[test]
fn a_message_to_nobody() {
    let mut rows = vec![Row::good(By::User, "a good one", &message("alice"))];
    for to in [
        "eve", "carol", "a", "b", "x", "z", "public", "*", "a:1", "ALICE", "alice:1",
    ] {
        let row = Row::bad(By::User, format!("a message to {to}"), &message(to));
        rows.push(row.gets(ErrorCode::UserNotFound));
        let row = Row::bad(By::Peer, format!("a delivery to {to}"), &delivery("xena", to));
        rows.push(row.gets(ErrorCode::UserNotFound));
    }
    // What came from a server goes neither back there nor to its origin.
    let row = Row::bad(By::Peer, "a delivery to x's own user", &delivery("alice", "xena"));
    rows.push(row.gets(ErrorCode::UserNotFound));
    for (origin, reader) in [("w", "wendy"), ("b", "bob")] {
        let said = delivery("xena", reader).from(origin).signed_by(origin);
        let row = Row::bad(By::Peer, format!("a delivery of {origin} to {reader}"), &said);
        rows.push(row.gets(ErrorCode::UserNotFound));
    }
    rows.push(Row::good(By::Peer, "a delivery to wendy", &delivery("xena", "wendy")));
    check(&rows);
}

#[test]
fn content_that_is_too_old() {
    let (oldest, older) = (NOW - CONTENT_AGE_MAX_MS, NOW - CONTENT_AGE_MAX_MS - 1);
    let rows = [
        Row::good(By::User, "the oldest message", &message_at("alice", oldest)),
        Row::bad(By::User, "an older message", &message_at("alice", older)).gets(ErrorCode::Timeout),
        Row::bad(By::User, "the first message", &message_at("alice", 0)).gets(ErrorCode::Timeout),
        Row::good(By::Peer, "the oldest delivery", &delivery_at("xena", "alice", oldest)),
        Row::bad(By::Peer, "an older delivery", &delivery_at("xena", "alice", older)).gets(ErrorCode::Timeout),
        Row::bad(
            By::Peer,
            "an older one in a new envelope",
            &delivery_at("xena", "alice", older).at(NOW),
        )
        .gets(ErrorCode::Timeout),
        Row::bad(
            By::Peer,
            "an older one without ts",
            &delivery_at("xena", "alice", older).omitting("ts"),
        )
        .gets(ErrorCode::Timeout),
    ];
    check(&rows);
}

#[test]
fn a_message_once_more() {
    let (sent, brought) = (message("alice"), delivery("xena", "alice"));
    let rows = [
        Row::good(By::User, "a good one", &sent),
        Row::bad(By::User, "the same twice", &sent).given(&sent),
        Row::bad(By::User, "the same, signed", &sent.clone().signed_by("mallory")).given(&sent),
        Row::bad(By::Peer, "a delivery twice", &brought).given(&brought),
        Row::bad(By::Peer, "a delivery in another envelope", &brought.clone().at(NOW - 1)).given(&brought),
        Row::bad(By::Peer, "a delivery to another", &brought.clone().to("*")).given(&brought),
        Row::bad(
            By::Peer,
            "a delivery with more in it",
            &brought.clone().saying("novel", "1"),
        )
        .given(&brought),
        Row::bad(
            By::Peer,
            "a delivery with another text",
            &brought.clone().saying("ciphertext", "\"AAAA\""),
        )
        .given(&brought),
        Row::bad(
            By::Peer,
            "the content for another reader",
            &brought.clone().saying("user_id", "\"wendy\""),
        )
        .given(&brought),
        Row::bad(
            By::Peer,
            "the content by way of z",
            &brought.clone().from("z").signed_by("z"),
        )
        .given(&brought),
        // The signature leaves the type out: the same payload under another.
        Row::bad(
            By::Peer,
            "a delivery as one to a user",
            &brought.clone().kind(FrameKind::UserDeliver),
        )
        .gets(ErrorCode::UnknownType),
        refused_as_no_frame(
            Row::bad(
                By::Peer,
                "a delivery as an advertisement",
                &brought.kind(FrameKind::UserAdvertise),
            ),
            By::Peer,
        ),
    ];
    check(&rows);
}

#[test]
fn who_brings_a_delivery() {
    let by = By::Peer;
    let good = || delivery("xena", "alice");
    let mut rows = vec![Row::good(by, "a good one", &good())];
    rows.push(Row::bad(by, "unsigned", &good().unsigned()).gets(ErrorCode::InvalidSig));
    rows.push(Row::bad(by, "signed by another", &good().signed_by("thief")).gets(ErrorCode::InvalidSig));
    for from in ["a", "b", "w", "z", "stranger", "alice"] {
        let row = Row::bad(by, format!("in the name of {from}"), &good().from(from));
        rows.push(row.then(Then::Attacker, &good()));
        rows.push(Row::bad(
            by,
            format!("in the name of {from}, unsigned"),
            &good().from(from).unsigned(),
        ));
    }
    for stranger in ["a", "stranger", "alice"] {
        let said = good().from(stranger).signed_by(stranger);
        rows.push(Row::bad(by, format!("of {stranger}, who is no known server"), &said));
    }
    // What z said comes this way, since z has no link of its own.
    rows.push(Row::good(by, "of z", &good().from("z").signed_by("z")));
    check(&rows);
}

/// Messages in the names of others, whose keys are known here.
#[test]
fn a_delivery_with_another_key_than_the_senders() {
    let by = By::Peer;
    let mut rows = vec![Row::good(by, "a good one", &delivery("xena", "alice"))];
    for sender in ["alice", "bob", "carol", "wendy", "zed", "mallory", "xena"] {
        let thief = quoted(key("thief").as_str());
        let forged = delivery(sender, "alice").saying("sender_pub", &thief);
        let row = Row::bad(by, format!("{sender} with another key"), &forged);
        rows.push(row.gets(ErrorCode::InvalidSig));
    }
    let true_one = server_deliver("wendy", "alice", NOW, b"sealed");
    let forged = by_x(&Payload::ServerDeliver(true_one.clone())).saying("sender_pub", &quoted(key("thief").as_str()));
    let true_one = Said::new("w", "a", &Payload::ServerDeliver(true_one)).signed_by("w");
    let row = Row::bad(by, "a forgery ahead of the true one", &forged);
    rows.push(row.gets(ErrorCode::InvalidSig).then(Then::Witness, &true_one));
    check(&rows);
}

#[test]
fn a_flood_of_forgeries() {
    // Content is its author's fault and not counted; a frame that x got wrong itself is.
    let forged = |n: u64| delivery_at("bob", "alice", NOW + n).saying("sender_pub", &quoted(key("thief").as_str()));
    let texts: Vec<String> = (0..50).map(|n| forged(n).text()).collect();
    let row = Row::texts(By::Peer, "fifty forgeries", texts);
    let row = (0..50).fold(row, |row, _| row.gets(ErrorCode::InvalidSig));
    let unsigned = vec![delivery("xena", "alice").unsigned().text(); 12];
    let closed = Row::texts(By::Peer, "twelve unsigned deliveries", unsigned).closed(1008);
    let closed = (0..10).fold(closed, |row, _| row.gets(ErrorCode::InvalidSig));
    let wrong = |n: u64| message_at("alice", NOW + n).saying("content_sig", "\"AAAA\"").text();
    let by_user = Row::texts(By::User, "twelve messages signed wrongly", (0..12).map(wrong).collect()).closed(1008);
    let by_user = (0..10).fold(by_user, |row, _| row.gets(ErrorCode::InvalidSig));
    check(&[
        Row::good(By::Peer, "a good one", &delivery("xena", "alice")),
        row,
        closed,
        by_user,
    ]);
}
