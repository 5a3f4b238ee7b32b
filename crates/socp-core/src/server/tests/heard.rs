//! Presence in batches between servers (PROTOCOL II.8).

use super::super::*;
use super::world::*;
use socp_proto::limits::{
    CLOCK_AHEAD_MAX_MS, CLOCK_BEHIND_MAX_MS, LOCAL_USERS_COUNT_MAX, PEER_CHANGES_PER_S_MAX, PRESENCE_CHANGES_COUNT_MAX,
    PRESENCE_PEERS_INTERVAL_MS, PRESENCE_REQUESTS_BURST_MAX,
};
use socp_proto::payload::{Batch, PRESENCE, PresenceRequest, ServerPresence, UserGone, UserHere};
use socp_proto::{Capabilities, Meta};

fn here(user: &str, ts: u64) -> UserHere {
    let Payload::UserAdvertise(advertise) = advert(user, "x") else {
        panic!("not an advertisement");
    };
    advertise.into_here(ts)
}

fn gone(user: &str, ts: u64) -> UserGone {
    let user_id = user_id(user);
    UserGone {
        user_id,
        ts,
        deletion: None,
    }
}

fn changes(from_seq: u64, seq: u64, add: Vec<UserHere>, remove: Vec<UserGone>) -> ServerPresence {
    Batch {
        server_id: server_id("x"),
        epoch: 7,
        from_seq,
        seq,
        page: 0,
        more: false,
        add,
        remove,
    }
}

fn list(seq: u64, users: &[&str]) -> ServerPresence {
    let add = users.iter().map(|user| here(user, BEGIN)).collect();
    changes(0, seq, add, Vec::new())
}

fn able(name: &str) -> socp_proto::payload::ServerIdentity {
    socp_proto::payload::ServerIdentity {
        caps: Some(Capabilities::of(&[PRESENCE]).unwrap()),
        ..identity(name)
    }
}

/// The test is the server `x`, which has told nothing yet.
fn with_x() -> (World, Wire) {
    let mut world = World::mesh_of(&["a"], |_| true);
    let x = world.connect("a");
    world.announce(x, "x", able("x"));
    world.wait(10);
    world.take(x);
    (world, x)
}

fn says(world: &mut World, x: Wire, batch: ServerPresence) {
    world.peer_says(x, "x", "*", &Payload::ServerPresence(batch));
}

fn asks(world: &mut World, x: Wire, (epoch, from_seq, to_the_letter): (u64, u64, bool)) {
    let request = PresenceRequest {
        epoch,
        from_seq,
        to_the_letter,
    };
    world.peer_says(x, "x", "a", &Payload::PresenceRequest(request));
}

fn requests(world: &mut World, x: Wire) -> Vec<(u64, u64)> {
    let request = |frame: Frame| match frame.payload {
        Payload::PresenceRequest(request) => Some((request.epoch, request.from_seq)),
        _ => None,
    };
    world.take(x).into_iter().filter_map(request).collect()
}

/// What came out of a wire of presence: who came, who went.
fn told(world: &mut World, x: Wire) -> Vec<ServerPresence> {
    let batch = |frame: Frame| match frame.payload {
        Payload::ServerPresence(batch) => Some(batch),
        Payload::UserAdvertise(_) | Payload::UserRemove(_) => panic!("to the letter: {frame:?}"),
        _ => None,
    };
    world.take(x).into_iter().filter_map(batch).collect()
}

/// What `a` said to other servers.
fn kinds_overheard(world: &mut World) -> BTreeMap<FrameKind, usize> {
    let mut kinds = BTreeMap::new();
    let overheard = world.overheard.replace(Vec::new()).unwrap_or_default();
    for (_, _, frame) in overheard.into_iter().filter(|(from, ..)| *from == "a") {
        *kinds.entry(frame.envelope.kind).or_default() += 1;
    }
    kinds
}

fn names(prefix: &str, count: usize) -> Vec<&'static str> {
    let name = |n| &*Box::leak(format!("{prefix}-{n:04}").into_boxed_str());
    (0..count).map(name).collect()
}

#[test]
fn changes_go_to_peers_at_once_and_then_once_a_second() {
    let mut world = World::mesh_of(&["a", "b", "c"], |_| true);
    world.wait(5_000);
    world.overheard = Some(Vec::new());
    let first = world.user("u-0", "a");
    assert_eq!(world.list("b"), ["u-0"], "at once");
    for user in ["u-1", "u-2", "u-3"] {
        world.user(user, "a");
    }
    world.hang_up(first.wire);
    world.wait(PRESENCE_PEERS_INTERVAL_MS);
    let kinds = kinds_overheard(&mut world);
    assert_eq!(kinds.get(&FrameKind::ServerPresence), Some(&4), "two each: {kinds:?}");
    assert_eq!(kinds.get(&FrameKind::UserAdvertise), None);
    for name in ["a", "b", "c"] {
        assert_eq!(world.list(name), ["u-1", "u-2", "u-3"], "at {name}");
    }
}

#[test]
fn nothing_is_said_to_come_from_the_future_after_the_clock_was_set_back() {
    let (mut world, x) = with_x();
    let stays = world.user("stays", "a");
    let gone = world.user("gone", "a");
    world.hang_up(gone.wire);
    world.wait(PRESENCE_PEERS_INTERVAL_MS);
    told(&mut world, x);
    world.now.unix -= 10 * 60_000;
    let latest = world.now.unix + CLOCK_AHEAD_MAX_MS;
    let epoch = world.node("a").server.rosters.peers.epoch();
    asks(&mut world, x, (epoch, 1, false));
    world.wait(PRESENCE_PEERS_INTERVAL_MS);
    let batches = told(&mut world, x);
    let said = batches.iter().flat_map(|batch| {
        let here = batch.add.iter().map(|here| (here.user_id.to_string(), here.ts));
        here.chain(batch.remove.iter().map(|gone| (gone.user_id.to_string(), gone.ts)))
    });
    let said: BTreeMap<String, u64> = said.collect();
    assert_eq!(said.keys().collect::<Vec<_>>(), ["gone", stays.id]);
    assert!(said.values().all(|ts| *ts <= latest), "{said:?} after {latest}");
}

/// Who comes, says something and leaves before the next batch is not a stranger to those who got it.
#[test]
fn an_author_is_introduced_before_what_they_say() {
    let mut world = World::mesh_of(&["a", "b"], |_| true);
    world.wait(5_000);
    let v = world.user("v", "b");
    world.wait(5_000);
    world.user("first", "a");
    world.take(v.wire);
    for (author, is_direct) in [("direct", true), ("channel", false)] {
        let u = world.user(author, "a");
        if is_direct {
            world.tell(u, "v", b"sealed");
        } else {
            let end = socp_proto::payload::FileEnd {
                file_id: "f".to_owned(),
                status: None,
                detail: None,
                sender_pub: None,
                content_sig: None,
            };
            world.say(u, "v", &Payload::FileEnd(end));
        }
        world.hang_up(u.wire);
        let kinds = world.take_kinds(v.wire);
        let wanted = if is_direct {
            FrameKind::UserDeliver
        } else {
            FrameKind::FileEnd
        };
        assert!(kinds.contains(&wanted), "{author}: {kinds:?}");
        let request = socp_proto::payload::PubkeyRequest {
            user_id: user_id(author),
        };
        world.say(v, "b", &Payload::PubkeyRequest(request));
        let answer = world.take(v.wire).pop().map(|frame| frame.payload);
        assert!(
            matches!(&answer, Some(Payload::PubkeyResponse(answer)) if answer.pubkey == Some(key(author))),
            "{author}: {answer:?}"
        );
    }
    // On a link that is still being told everyone, the author alone.
    let x = world.connect("a");
    let u = world.user("u", "a");
    world.announce(x, "x", able("x"));
    says(&mut world, x, list(1, &["w"]));
    world.tell(u, "w", b"sealed");
    let kinds = world.take_kinds(x);
    let of = |kind: FrameKind| kinds.iter().position(|it| *it == kind);
    let (shown, delivered) = (
        of(FrameKind::UserAdvertise).or(of(FrameKind::ServerPresence)),
        of(FrameKind::ServerDeliver),
    );
    assert!(shown.is_some() && shown < delivered, "{kinds:?}");
}

#[test]
fn a_new_link_begins_with_everyone_page_by_page() {
    let mut world = World::mesh_of(&["a"], |_| true);
    let crowd = names("crowd", 80);
    for user in &crowd {
        let profile = format!("{{\"extras\":\"{}\"}}", "x".repeat(4_000));
        let meta = Meta::try_from(socp_proto::json::parse_object(&profile).unwrap()).unwrap();
        let wire = world.connect("a");
        let hello = socp_proto::payload::UserHello {
            meta: Some(meta),
            ..plain_hello(user)
        };
        world.hello(wire, user, hello);
    }
    let mut config_of_b = config("b");
    config_of_b.batches = true;
    config_of_b.bootstrap = vec![entry("a", Some(key("a")))];
    world.overheard = Some(Vec::new());
    world.add(config_of_b, "b");
    world.wait(1_000);
    let kinds = kinds_overheard(&mut world);
    assert!((3..=6).contains(&kinds[&FrameKind::ServerPresence]), "{kinds:?}");
    assert_eq!(world.list("b"), crowd);
}

#[test]
fn what_is_missing_is_asked_for_once_and_a_list_takes_away_who_is_not_in_it() {
    let (mut world, x) = with_x();
    says(&mut world, x, list(4, &["u", "v"]));
    assert_eq!(world.list("a"), ["u", "v"]);
    says(&mut world, x, changes(6, 6, vec![here("w", BEGIN)], Vec::new()));
    says(&mut world, x, changes(7, 7, vec![here("w", BEGIN)], Vec::new()));
    assert_eq!(requests(&mut world, x), [(7, 5)]);
    assert_eq!(world.list("a"), ["u", "v"]);
    let answer = changes(5, 7, vec![here("w", BEGIN)], vec![gone("u", BEGIN + 1)]);
    says(&mut world, x, answer);
    assert_eq!(world.list("a"), ["v", "w"]);
    says(&mut world, x, list(9, &["w", "z"]));
    assert_eq!(world.list("a"), ["w", "z"]);
    assert_eq!(requests(&mut world, x), []);
}

#[test]
fn whoever_asks_gets_what_it_missed_and_everyone_where_that_is_forgotten() {
    let (mut world, x) = with_x();
    world.user("u", "a");
    world.wait(PRESENCE_PEERS_INTERVAL_MS);
    let batches = told(&mut world, x);
    let [change] = &batches[..] else { panic!("{batches:?}") };
    assert!(change.add[0].pubkey.is_some() && change.add[0].directory_sig.is_some());
    asks(&mut world, x, (change.epoch, change.from_seq, false));
    world.wait(200);
    assert_eq!(told(&mut world, x), batches, "the same again");
    asks(&mut world, x, (change.epoch + 1, 1, false));
    world.wait(200);
    let everyone = told(&mut world, x);
    assert_eq!((everyone[0].from_seq, everyone[0].seq), (0, change.seq));
    assert_eq!(everyone[0].add, change.add);
}

/// What servers of ours never say: refused whole, nothing of it counts, and the link goes on.
#[test]
fn nonsense_is_refused_whole() {
    let good = || changes(5, 6, vec![here("w", BEGIN)], vec![gone("u", BEGIN)]);
    let many = |count: usize| (0..count).map(|n| here(&format!("m-{n}"), BEGIN)).collect::<Vec<_>>();
    let two = vec![here("w", BEGIN), here("w", BEGIN + 1)];
    let table: Vec<(&str, ServerPresence, ErrorCode)> = vec![
        (
            "another server's",
            Batch {
                server_id: server_id("b"),
                ..good()
            },
            ErrorCode::InvalidSig,
        ),
        (
            "ours",
            Batch {
                server_id: server_id("a"),
                ..good()
            },
            ErrorCode::InvalidSig,
        ),
        ("ends before it begins", Batch { seq: 4, ..good() }, ErrorCode::BadFrame),
        ("changes with a page", Batch { page: 1, ..good() }, ErrorCode::BadFrame),
        ("changes with more", Batch { more: true, ..good() }, ErrorCode::BadFrame),
        ("a user twice", Batch { add: two, ..good() }, ErrorCode::BadFrame),
        (
            "a user here and gone",
            Batch {
                remove: vec![gone("w", BEGIN)],
                ..good()
            },
            ErrorCode::BadFrame,
        ),
        (
            "gone twice",
            Batch {
                remove: vec![gone("u", BEGIN), gone("u", BEGIN)],
                ..good()
            },
            ErrorCode::BadFrame,
        ),
        (
            "too many",
            Batch {
                add: many(PRESENCE_CHANGES_COUNT_MAX + 1),
                ..good()
            },
            ErrorCode::BadFrame,
        ),
        (
            "a list of who has left",
            Batch { from_seq: 0, ..good() },
            ErrorCode::BadFrame,
        ),
        (
            "an empty page",
            Batch {
                more: true,
                ..list(5, &[])
            },
            ErrorCode::BadFrame,
        ),
    ];
    for (what, batch, code) in table {
        let (mut world, x) = with_x();
        says(&mut world, x, list(4, &["u", "v"]));
        world.take(x);
        says(&mut world, x, batch);
        let own = world.take(x).into_iter().map(|frame| frame.payload);
        let errors: Vec<Payload> = own.filter(|payload| payload.kind() == FrameKind::Error).collect();
        assert!(
            matches!(&errors[..], [Payload::Error(notice)] if notice.code == code),
            "{what}: {errors:?}"
        );
        assert_eq!(world.list("a"), ["u", "v"], "{what}");
        // What follows on what counted is taken.
        says(&mut world, x, good());
        assert_eq!(world.list("a"), ["v", "w"], "{what}");
        assert_eq!(world.closed(x), None, "{what}");
    }
}

#[test]
fn a_time_that_is_off_costs_the_link() {
    let ahead = BEGIN + 10 + CLOCK_AHEAD_MAX_MS + 1;
    for (what, envelope_ts, entry_ts) in [
        ("an old frame", BEGIN + 9 - CLOCK_BEHIND_MAX_MS, BEGIN),
        ("a frame ahead", ahead, BEGIN),
        ("somebody ahead", BEGIN, ahead),
        ("somebody far ahead", BEGIN, u64::MAX),
    ] {
        let (mut world, x) = with_x();
        says(&mut world, x, list(4, &["u"]));
        let batch = Payload::ServerPresence(changes(5, 5, vec![here("w", entry_ts)], Vec::new()));
        world.send(x, &signed(draft("x", "*", envelope_ts, &batch), "x"));
        assert_eq!(world.closed(x), Some(1008), "{what}");
        assert!(world.list("a").is_empty(), "{what}");
    }
    // Who came long ago is there all the same.
    let (mut world, x) = with_x();
    says(&mut world, x, changes(0, 0, vec![here("u", 1)], Vec::new()));
    assert_eq!(world.list("a"), ["u"]);
}

#[test]
fn whoever_cannot_take_batches_may_not_send_them() {
    for (is_ours, caps) in [(true, None), (true, Some(&[][..])), (false, Some(&[PRESENCE][..]))] {
        let mut world = World::mesh_of(&["a"], |_| is_ours);
        let x = world.connect("a");
        let caps = caps.map(|names| Capabilities::of(names).unwrap());
        world.announce(x, "x", socp_proto::payload::ServerIdentity { caps, ..identity("x") });
        world.user("u", "a");
        let kinds = world.take_kinds(x);
        assert!(kinds.contains(&FrameKind::UserAdvertise) && !kinds.contains(&FrameKind::ServerPresence));
        says(&mut world, x, list(4, &["v"]));
        asks(&mut world, x, (0, 0, false));
        asks(&mut world, x, (0, 0, true));
        assert_eq!(world.take_errors(x).len(), 3);
        assert_eq!(world.list("a"), ["u"]);
    }
}

#[test]
fn one_entry_with_another_key_is_refused_and_the_rest_counts() {
    let (mut world, x) = with_x();
    says(&mut world, x, list(4, &["u"]));
    let thief = UserHere {
        pubkey: Some(key("thief")),
        ..here("u", BEGIN + 1)
    };
    says(&mut world, x, changes(5, 6, vec![thief, here("w", BEGIN)], Vec::new()));
    assert_eq!(world.list("a"), ["u", "w"]);
    let is_conflict = |note: &Note| matches!(note, Note::KeyConflict { user, .. } if *user == user_id("u"));
    assert!(world.node("a").has_noted(is_conflict));
}

#[test]
fn a_list_that_is_longer_than_any_may_be_is_refused() {
    let (mut world, x) = with_x();
    let pages = LOCAL_USERS_COUNT_MAX / PRESENCE_CHANGES_COUNT_MAX;
    for page in 0..=pages {
        let add = (0..PRESENCE_CHANGES_COUNT_MAX).map(|n| UserHere {
            pubkey: None,
            ..here(&format!("u-{page}-{n}"), BEGIN)
        });
        let batch = Batch {
            page: u64::try_from(page).unwrap(),
            more: true,
            add: add.collect(),
            ..list(1, &[])
        };
        let batch = Payload::ServerPresence(batch);
        world.post(x, &signed(draft("x", "*", BEGIN, &batch), "x"));
    }
    world.settle();
    assert!(world.take_kinds(x).contains(&FrameKind::Error));
}

#[test]
fn what_is_asked_too_often_is_refused() {
    let (mut world, x) = with_x();
    for _ in 0..PRESENCE_REQUESTS_BURST_MAX {
        asks(&mut world, x, (0, 0, false));
    }
    world.wait(0);
    assert!(told(&mut world, x).len() <= 2, "one answer for all");
    asks(&mut world, x, (0, 0, false));
    assert_eq!(world.take_errors(x), [ErrorCode::RateLimited]);
    world.wait(2_000);
    told(&mut world, x);
    asks(&mut world, x, (0, 0, false));
    world.wait(200);
    assert_eq!(told(&mut world, x).len(), 1);
    for _ in 0..20 {
        asks(&mut world, x, (0, 0, false));
    }
    assert_eq!(world.closed(x), Some(1008));
}

/// The budget of a server counts users, not frames: beyond it what is told comes late, not never.
#[test]
fn a_budget_is_of_changes() {
    let (mut world, x) = with_x();
    says(&mut world, x, list(0, &[]));
    let burst = usize::try_from(PEER_CHANGES_PER_S_MAX).unwrap() * 10;
    let mut seq = 0;
    // The same users again and again, so that they are not too many.
    for round in 0..=burst / PRESENCE_CHANGES_COUNT_MAX {
        let add =
            (0..PRESENCE_CHANGES_COUNT_MAX).map(|n| here(&format!("u-{n}"), BEGIN + u64::try_from(round).unwrap()));
        let batch = Payload::ServerPresence(changes(seq + 1, seq + 500, add.collect(), Vec::new()));
        seq += 500;
        world.post(x, &signed(draft("x", "*", BEGIN, &batch), "x"));
    }
    world.settle();
    let is_over = |note: &Note| matches!(note, Note::PeerOverBudget { .. });
    assert!(world.node("a").has_noted(is_over));
    says(
        &mut world,
        x,
        changes(seq + 1, seq + 1, vec![here("late", BEGIN)], Vec::new()),
    );
    assert!(!world.list("a").contains(&"late".to_owned()));
    // Whom a list does not name any more does not come late either.
    says(
        &mut world,
        x,
        changes(seq + 2, seq + 2, vec![here("gone", BEGIN)], Vec::new()),
    );
    says(&mut world, x, list(seq + 3, &["late"]));
    world.wait(3_000);
    assert_eq!(world.list("a"), ["late"]);
}

#[test]
fn whoever_asks_hears_everything_to_the_letter_from_then_on_and_once() {
    let (mut world, x) = with_x();
    let u = world.user("u", "a");
    world.wait(PRESENCE_PEERS_INTERVAL_MS);
    let v = world.user("v", "a");
    world.hang_up(v.wire);
    world.wait(PRESENCE_PEERS_INTERVAL_MS);
    let said = told(&mut world, x);
    // What was not told yet comes in a batch before.
    world.user("w", "a");
    world.user("y", "a");
    asks(&mut world, x, (0, 0, true));
    world.wait(PRESENCE_PEERS_INTERVAL_MS);
    let mut frames = world.take(x);
    let is_of_channel = |frame: &Frame| frame.envelope.kind.name().starts_with("PUBLIC_CHANNEL");
    frames.retain(|frame| !is_of_channel(frame));
    let kinds: Vec<FrameKind> = frames.iter().map(|frame| frame.envelope.kind).collect();
    let batches = kinds
        .iter()
        .take_while(|kind| **kind == FrameKind::ServerPresence)
        .count();
    assert!((1..=2).contains(&batches), "{kinds:?}");
    let letters = [
        FrameKind::UserRemove,
        FrameKind::UserAdvertise,
        FrameKind::UserAdvertise,
        FrameKind::UserAdvertise,
    ];
    assert_eq!(kinds[batches..], letters, "v has left; u, w and y are there");
    assert_eq!(frames[batches + 1].envelope.ts, said[0].add[0].ts, "the same word");
    asks(&mut world, x, (0, 0, true));
    asks(&mut world, x, (0, 0, false));
    world.wait(5_000);
    assert_eq!(world.take_kinds(x), [], "once");
    world.hang_up(u.wire);
    assert_eq!(world.take_kinds(x), [FrameKind::UserRemove]);
}

#[test]
fn a_server_that_stops_says_so_in_one_batch() {
    let (mut world, x) = with_x();
    let crowd = names("u", 40);
    for user in &crowd {
        world.user(user, "a");
    }
    world.wait(3_000);
    told(&mut world, x);
    world.stop("a");
    let batches = told(&mut world, x);
    assert_eq!(batches.len(), 1);
    assert_eq!(batches[0].remove.len(), 40);
}

#[test]
fn the_capability_is_not_taken_back_in_the_middle_of_a_link() {
    let (mut world, x) = with_x();
    let caps = Some(Capabilities::default());
    world.announce(x, "x", socp_proto::payload::ServerIdentity { caps, ..identity("x") });
    assert_eq!(world.take_errors(x), [ErrorCode::InvalidSig]);
    world.announce(x, "x", able("x"));
    assert_eq!(world.take_errors(x), []);
}

const NAMES: [&str; 6] = ["a", "b", "c", "d", "e", "f"];
const USERS: [&str; 6] = ["u-a", "u-b", "u-c", "u-d", "u-e", "u-f"];

/// How often each presence change crossed each link to the letter, in either direction.
fn letters(world: &World) -> BTreeMap<(String, &'static str, &'static str), usize> {
    let mut counts = BTreeMap::new();
    for (from, to, frame) in world.overheard.iter().flatten() {
        let kind = frame.envelope.kind;
        if matches!(kind, FrameKind::UserAdvertise | FrameKind::UserRemove) {
            let change = format!("{} {} {}", kind.name(), frame.envelope.ts, frame.envelope.signed_text());
            *counts.entry((change, *from.min(to), *from.max(to))).or_default() += 1;
        }
    }
    counts
}

/// Servers that have met, and heard of users in batches; then only some reach each other. Everyone hears of everyone, of
/// who was there before and of each change since, and nothing crosses a link twice to the letter.
fn is_passed_on(in_batches: impl Fn(&str) -> bool, is_linked: impl Fn(usize, usize) -> bool, shuffle: u64) {
    let mut world = World::mesh_of(&NAMES, in_batches);
    for (name, user) in NAMES.iter().zip(USERS) {
        let user = world.user(user, name);
        world.answer_pings(user.wire, true);
    }
    world.wait(10_000);
    world.shuffle = shuffle;
    for (one, a) in NAMES.iter().enumerate() {
        for (other, b) in NAMES.iter().enumerate().skip(one + 1) {
            if !is_linked(one, other) {
                world.block(a, b);
            }
        }
    }
    world.wait(40_000);
    for name in NAMES {
        assert_eq!(world.list(name), USERS, "at {name}");
    }
    // The state is told once to whoever has to hear it by another way, from either side; from now on it is changes.
    world.overheard = Some(Vec::new());
    let mut more = Vec::new();
    for (name, user) in NAMES.iter().zip(["v-a", "v-b", "v-c", "v-d", "v-e", "v-f"]) {
        let wire = world.user(user, name).wire;
        world.answer_pings(wire, true);
        more.push(wire);
        world.wait(300);
    }
    for wire in &more[..3] {
        world.hang_up(*wire);
    }
    world.wait(10_000);
    let present = [&USERS[..], &["v-d", "v-e", "v-f"]].concat();
    for name in NAMES {
        assert_eq!(world.list(name), present, "at {name}");
    }
    let over: Vec<_> = letters(&world).into_iter().filter(|(_, count)| *count > 1).collect();
    assert!(over.is_empty(), "{over:#?}");
}

fn in_ring(one: usize, other: usize) -> bool {
    other - one == 1 || other - one == NAMES.len() - 1
}

#[test]
fn in_a_chain_the_middle_asks_for_what_it_can_pass_on() {
    is_passed_on(|_| true, |one, other| other - one == 1, 0);
}

#[test]
fn in_a_ring_and_a_star_everyone_hears_of_everyone() {
    for shuffle in [0, 5] {
        is_passed_on(|_| true, in_ring, shuffle);
        is_passed_on(|_| true, |one, _| one == 0, shuffle);
    }
}

#[test]
fn so_it_is_where_some_do_without_batches() {
    for shuffle in [0, 5] {
        is_passed_on(|name| name < "d", in_ring, shuffle);
        is_passed_on(|name| name != "a", |one, _| one == 0, shuffle);
        is_passed_on(
            |name| name == "b" || name == "c",
            |one, other| other - one == 1,
            shuffle,
        );
    }
}

#[test]
fn in_a_full_mesh_nothing_is_said_to_the_letter() {
    let mut world = World::mesh_of(&NAMES, |_| true);
    world.wait(5_000);
    world.overheard = Some(Vec::new());
    for (name, user) in NAMES.iter().zip(USERS) {
        let user = world.user(user, name);
        world.hang_up(user.wire);
    }
    world.wait(10_000);
    assert!(letters(&world).is_empty());
    assert!(world.list("a").is_empty());
}

/// Of two links one is given up; who has left meanwhile is gone all the same.
#[test]
fn a_second_link_begins_with_everyone() {
    let (mut world, x) = with_x();
    says(&mut world, x, list(4, &["u", "v"]));
    world.wait(10_000);
    let second = world.connect("a");
    world.announce(second, "x", able("x"));
    assert_eq!(world.closed(x), Some(1000));
    says(&mut world, second, list(6, &["v"]));
    assert_eq!(world.list("a"), ["v"]);
    says(&mut world, x, changes(5, 5, vec![here("w", BEGIN)], Vec::new()));
    assert_eq!(world.list("a"), ["v"], "a link that was left behind");
}

/// A profile that changes is told, and what is kept to be shown to others says the same as what our users see.
#[test]
fn a_word_that_can_be_passed_on_is_kept_only_while_it_is_true() {
    let mut world = World::mesh_of(&["a", "b"], |_| true);
    world.wait(4_000);
    let x = world.connect("b");
    world.announce(x, "x", able("x"));
    says(&mut world, x, list(1, &["u"]));
    let mut profile = here("u", BEGIN + 1);
    profile.meta = Meta::named(Some("you"), None).unwrap();
    let letter = Payload::UserAdvertise(profile.clone().into_advertise(server_id("x")));
    world.send(x, &signed(draft("x", "*", BEGIN + 1, &letter), "x"));
    let word = |world: &World| world.node("b").server.people.word_about(&user_id("u"), &server_id("x"));
    assert_eq!(word(&world).map(|envelope| envelope.ts), Some(BEGIN + 1));
    // The same in a batch: what can be shown is kept.
    says(&mut world, x, changes(2, 2, vec![profile], Vec::new()));
    assert_eq!(word(&world).map(|envelope| envelope.ts), Some(BEGIN + 1));
    says(&mut world, x, changes(3, 3, vec![here("u", BEGIN + 2)], Vec::new()));
    assert_eq!(word(&world), None);
}
