//! What bad input gets where presence is told (SOCP §8.2, PROTOCOL I.5).

use super::super::*;
use super::table::*;
use super::table_fields::*;
use super::table_frames::*;
use super::world::*;
use socp_proto::limits::{CLOCK_AHEAD_MAX_MS, CLOCK_BEHIND_MAX_MS, PEER_USERS_COUNT_MAX};

const ADVERTISE: Fields = &[
    ("user_id", Id, Must),
    ("server_id", Id, Must),
    ("meta", Meta, Must),
    ("pubkey", Key, May),
    ("enc_pubkey", Key, May),
    ("caps", Caps, May),
    ("version", Number, May),
    ("directory_sig", Sig, May),
    ("server_name", Text, May),
];
const REMOVE: Fields = &[("user_id", Id, Must), ("server_id", Id, Must)];
const REMOVE_FOREIGN: &[&str] = &["meta", "pubkey", "enc_pubkey", "caps", "directory_sig", "ciphertext"];

fn advertise(user: &str) -> Said {
    by_x(&advert(user, "x"))
}

fn removal(user: &str) -> Said {
    by_x(&remove(user, "x"))
}

/// Gossip of another server that `x` passes on.
fn passed_on(payload: &Payload, origin: &'static str) -> Said {
    by_x(payload).from(origin).signed_by(origin)
}

fn with_key(said: Said, field: &str, name: &str) -> Said {
    said.saying(field, &quoted(key(name).as_str()))
}

#[test]
fn the_fields_of_gossip() {
    let (advertise, removal) = (advertise("eve"), removal("xena"));
    let by = By::Peer;
    let mut rows = wrong_fields(by, &advertise, ADVERTISE, &["ciphertext", "assigned_id"]);
    rows.extend(wrong_envelope(by, &advertise));
    rows.extend(wrong_fields(by, &removal, REMOVE, REMOVE_FOREIGN));
    rows.push(Row::good(by, "a good advertisement", &advertise));
    rows.push(Row::good(by, "a good removal", &removal));
    rows.push(Row::good(
        by,
        "a user without a key",
        &advertise.clone().omitting("pubkey"),
    ));
    check(&rows);
}

#[test]
fn who_signs_gossip_and_whose_it_is() {
    let by = By::Peer;
    let mut rows = vec![Row::good(by, "a good advertisement", &advertise("eve"))];
    for (name, said) in [("advertise", advertise("eve")), ("remove", removal("xena"))] {
        let row = |what: &str, said: &Said| Row::bad(by, format!("{name} {what}"), said);
        rows.push(row("unsigned", &said.clone().unsigned()).gets(ErrorCode::InvalidSig));
        rows.push(row("signed by another", &said.clone().signed_by("thief")).gets(ErrorCode::InvalidSig));
        // x speaks for itself and says that another server has the user, or never had it.
        for server in ["a", "b", "w", "z", "stranger"] {
            let said = said.clone().saying("server_id", &quoted(server));
            rows.push(row(&format!("for {server}"), &said).gets(ErrorCode::InvalidSig));
        }
        // x speaks in the name of another, with its own signature or none.
        for from in ["a", "b", "w", "z", "stranger", "alice"] {
            let said = said.clone().from(from);
            rows.push(row(&format!("in the name of {from}"), &said));
            rows.push(row(
                &format!("in the name of {from}, unsigned"),
                &said.clone().unsigned(),
            ));
            let said = said.saying("server_id", &quoted(from));
            rows.push(row(&format!("all of {from}"), &said));
        }
        // z's signature under x's statement.
        rows.push(row("of z for x", &said.clone().from("z").signed_by("z")).gets(ErrorCode::InvalidSig));
        for ts in [0, NOW - CLOCK_BEHIND_MAX_MS - 1, NOW + CLOCK_AHEAD_MAX_MS + 1, u64::MAX] {
            let row = row(&format!("at {ts}"), &said.clone().at(ts));
            rows.push(row.gets(ErrorCode::Timeout).closed(1008));
        }
    }
    check(&rows);
}

#[test]
fn what_others_really_said_and_x_repeats() {
    let by = By::Peer;
    let row = |what: &str, payload: &Payload, origin| Row::bad(by, what, &passed_on(payload, origin));
    let rows = [
        // Linked servers speak for themselves.
        row("b's removal of bob", &remove("bob", "b"), "b"),
        row("b's new user", &advert("eve", "b"), "b"),
        row("w's removal of wendy", &remove("wendy", "w"), "w"),
        row("w's new user", &advert("eve", "w"), "w"),
        // Our own words count for nothing when they come back.
        row("our removal of alice", &remove("alice", "a"), "a"),
        row("our removal of carol", &remove("carol", "a"), "a"),
        row("our new user", &advert("eve", "a"), "a"),
        // Nobody knows the stranger's key.
        row("a stranger's new user", &advert("eve", "stranger"), "stranger"),
        // z is beyond: what it says may come this way, but not what is old, or ahead of time.
        Row::good(by, "z's new user", &passed_on(&advert("eve", "z"), "z")),
        // Whoever saw a removal once can repeat it: it counts only by the way that the user's gossip took.
        Row::bad(by, "z's removal of zed", &passed_on(&remove("zed", "z"), "z")),
        Row::bad(by, "zed as before", &passed_on(&advert("zed", "z"), "z").at(BEGIN)),
        Row::bad(
            by,
            "zed's removal before zed came",
            &passed_on(&remove("zed", "z"), "z").at(BEGIN - 1),
        ),
        Row::bad(
            by,
            "zed ahead of time",
            &passed_on(&remove("zed", "z"), "z").at(NOW + CLOCK_AHEAD_MAX_MS + 1),
        ),
        Row::bad(
            by,
            "z's user signed by w",
            &passed_on(&advert("eve", "z"), "z").signed_by("w"),
        ),
        Row::bad(by, "z's user unsigned", &passed_on(&advert("eve", "z"), "z").unsigned()),
    ];
    check(&rows);
}

#[test]
fn gossip_about_users_of_others() {
    let by = By::Peer;
    let mut rows = vec![Row::good(by, "a user nobody knows", &advertise("eve"))];
    for user in ["alice", "bob", "carol", "wendy", "zed", "mallory"] {
        rows.push(Row::bad(by, format!("removes {user}"), &removal(user)));
        for field in ["pubkey", "enc_pubkey"] {
            let thief = with_key(advertise(user), field, "thief");
            rows.push(Row::bad(by, format!("{user} with another {field}"), &thief).alarms(user));
        }
    }
    for field in ["pubkey", "enc_pubkey"] {
        let changed = with_key(advertise("xena"), field, "thief");
        rows.push(Row::bad(by, format!("xena with another {field}"), &changed).alarms("xena"));
    }
    for server in ["a", "b", "w", "x", "z"] {
        let row = Row::bad(by, format!("a user whose id is {server}'s"), &advertise(server));
        rows.push(row.alarms(server));
        rows.push(Row::bad(by, format!("removes {server}"), &removal(server)));
    }
    rows.push(Row::bad(by, "removes a user nobody knows", &removal("eve")));
    check(&rows);
}

#[test]
fn gossip_once_more() {
    let by = By::Peer;
    let (come, gone) = (advertise("eve"), removal("eve").at(NOW + 1));
    let back = come.clone().at(NOW + 2);
    let rows = [
        Row::bad(by, "the same twice", &come).given(&come),
        Row::bad(by, "the removal twice", &gone).given(&come).given(&gone),
        Row::bad(by, "what was true before the removal", &come)
            .given(&come)
            .given(&gone),
        Row::bad(by, "the old removal of a user who is back", &gone)
            .given(&come)
            .given(&gone)
            .given(&back),
        Row::good(by, "back again", &back).given(&come).given(&gone),
        // The signature leaves the type out: the same payload under another.
        refused_as_no_frame(
            Row::bad(
                by,
                "an advertisement as a removal",
                &come.clone().kind(FrameKind::UserRemove),
            ),
            by,
        ),
        refused_as_no_frame(
            Row::bad(
                by,
                "a removal as an advertisement",
                &gone.clone().kind(FrameKind::UserAdvertise),
            ),
            by,
        ),
        refused_as_no_frame(
            Row::bad(
                by,
                "an advertisement as a heartbeat",
                &come.clone().kind(FrameKind::Heartbeat),
            ),
            by,
        ),
        refused_as_no_frame(
            Row::bad(by, "an advertisement as a farewell", &come.kind(FrameKind::CtrlClose)),
            by,
        ),
    ];
    check(&rows);
}

#[test]
fn gossip_of_a_user() {
    let by = By::User;
    let mut rows = vec![Row::good(
        by,
        "a message",
        &by_mallory("alice", &Payload::MsgDirect(direct("mallory", "alice", NOW, b"sealed"))),
    )];
    for payload in [
        advert("mallory", "a"),
        advert("eve", "a"),
        remove("alice", "a"),
        remove("mallory", "a"),
    ] {
        for said in [
            by_mallory("*", &payload),
            by_mallory("*", &payload).signed_by("mallory"),
        ] {
            rows.push(Row::bad(by, format!("{payload:?}"), &said).gets(ErrorCode::UnknownType));
        }
        let said = by_mallory("*", &payload).from("b").signed_by("b");
        rows.push(Row::bad(by, format!("{payload:?} of b"), &said).gets(ErrorCode::InvalidSig));
        let said = by_mallory("*", &payload).from("b");
        rows.push(Row::bad(by, format!("{payload:?} in the name of b"), &said).gets(ErrorCode::InvalidSig));
    }
    check(&rows);
}

/// A peer that says more than it may: what it says comes late, and whatever others say comes at once.
#[test]
fn a_peer_over_its_budget_delays_nobody_else() {
    let mut world = World::mesh(&["a", "b"]);
    let (x, w) = (world.peer("x", "a"), world.peer("w", "a"));
    let alice = world.user("alice", "a");
    for number in 0..=PEER_USERS_COUNT_MAX {
        let gossip = draft("x", "*", BEGIN, &advert(&format!("fake-{number}"), "x"));
        world.post(x, &signed(gossip, "x"));
    }
    world.post(x, &signed(draft("x", "*", BEGIN, &remove("fake-0", "x")), "x"));
    world.settle();
    assert_eq!(
        world.node("a").server.users().len(),
        PEER_USERS_COUNT_MAX + 1,
        "all that x may have, and alice"
    );
    let is_noted = |note: &Note| matches!(note, Note::PeerOverBudget { server } if *server == server_id("x"));
    assert!(world.node("a").has_noted(is_noted));
    world.take(alice.wire);
    world.peer_says(w, "w", "*", &advert("wendy", "w"));
    assert_eq!(world.take_kinds(alice.wire), [FrameKind::UserAdvertise]);
    let bob = world.user("bob", "b");
    world.take(bob.wire);
    world.tell(alice, "bob", b"sealed");
    assert_eq!(world.take_kinds(bob.wire), [FrameKind::UserDeliver]);
    world.peer_says(w, "w", "*", &remove("wendy", "w"));
    let has = |world: &World, id: &str| {
        world
            .node("a")
            .server
            .users()
            .iter()
            .any(|user| user.user == user_id(id))
    };
    assert!(has(&world, "fake-0") && !has(&world, "wendy"));
    world.wait(2_000);
    assert!(!has(&world, "fake-0"), "late, but not lost");
    assert_eq!(
        (world.closed(x), world.closed(w), world.closed(alice.wire)),
        (None, None, None)
    );
}

/// Of refused keys our users hear now and then, however often somebody offers them.
#[test]
fn a_flood_of_wrong_keys_is_told_a_few_times() {
    let mut world = World::one("a");
    let x = world.peer("x", "a");
    let alice = world.native_user("alice", "a");
    for number in 0..100 {
        let user = format!("user-{number}");
        world.peer_says(x, "x", "*", &advert(&user, "x"));
    }
    world.take(alice.wire);
    for round in 1..=3 {
        for number in 0..100 {
            let Payload::UserAdvertise(mut stolen) = advert(&format!("user-{number}"), "x") else {
                panic!("not an advertisement");
            };
            stolen.pubkey = Some(key("thief"));
            let gossip = draft("x", "*", BEGIN + round, &Payload::UserAdvertise(stolen));
            world.post(x, &signed(gossip, "x"));
        }
    }
    world.settle();
    let told = world.take_errors(alice.wire).len();
    assert!((1..=10).contains(&told), "{told} alarms");
    let is_conflict = |note: &&Note| matches!(note, Note::KeyConflict { .. });
    let noted = world.node("a").notes.iter().filter(is_conflict).count();
    assert_eq!(noted, 100, "the operator hears of each, and once");
    assert_eq!(world.list("a").len(), 101);
}

/// What stands in this list is refused wherever a user may not say it, so no kind is forgotten.
#[test]
fn every_kind_is_either_a_users_or_a_servers() {
    assert_eq!(every_kind("mallory").len(), FrameKind::ALL.len());
}
