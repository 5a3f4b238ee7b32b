//! Other keys, withdrawn keys, and the end of an account (PROTOCOL II.13).

use super::super::*;
use super::challenge::{enter, enter_with, proof_only};
use super::world::*;
use socp_proto::limits::{DELETION_AGE_MAX_MS, HELLO_AGE_MAX_MS, KEY_STATEMENTS_COUNT_MAX};
use socp_proto::payload::{
    AccountDelete, Deletion, KeyUpdate, PubkeyRequest, PubkeyResponse, UserAdvertise, UserHello, UserRemove,
};
use socp_proto::{Base64Url, Capabilities, HISTORY, KeyHistory, KeyStatement, KeyText, PROOF, PublicPair};

fn id() -> String {
    UserId::made_from(key("first").fingerprint()).to_string()
}

fn pair(name: &str) -> PublicPair {
    PublicPair {
        pubkey: key(name),
        enc_pubkey: key(name),
    }
}

/// The statement that would follow, signed by the key before, or by whoever.
fn statement(history: Option<&KeyHistory>, new: &str, by: Option<&str>) -> KeyStatement {
    let first = pair("first");
    let before = history.map_or(first.clone(), KeyHistory::newest);
    let mut next = KeyHistory::next(&user_id(&id()), &first, history, pair(new), BEGIN);
    let text = String::from_utf8(next.signed_text()).unwrap();
    next.sig = Base64Url::encode(&toy_sig(&by.map_or(before.pubkey, key), &text));
    next
}

/// The keys that a user had, one after the other; the last twice is a withdrawal.
fn history(names: &[&str]) -> KeyHistory {
    assert_eq!(names[0], "first");
    let mut history: Option<KeyHistory> = None;
    for name in &names[1..] {
        let next = statement(history.as_ref(), name, None);
        history = Some(match &history {
            None => KeyHistory::begin(pair("first"), next).unwrap(),
            Some(history) => history.and(next).unwrap(),
        });
    }
    history.unwrap()
}

fn hello(key_name: &str, history: Option<KeyHistory>) -> UserHello {
    UserHello {
        caps: Some(Capabilities::of(&[PROOF, HISTORY]).unwrap()),
        history,
        ..plain_hello(key_name)
    }
}

fn come(world: &mut World, node: &'static str, key_name: &str, history: Option<KeyHistory>) -> (Wire, Vec<Frame>) {
    enter_with(world, node, &id(), key_name, hello(key_name, history))
}

fn is_in(frames: &[Frame]) -> bool {
    frames
        .first()
        .is_some_and(|frame| frame.envelope.kind == FrameKind::Ack)
}

fn errors(frames: &[Frame]) -> Vec<(ErrorCode, String)> {
    let error = |frame: &Frame| match &frame.payload {
        Payload::Error(notice) => Some((notice.code.clone(), notice.detail.clone())),
        _ => None,
    };
    frames.iter().filter_map(error).collect()
}

/// That a hello is refused, with these words.
fn assert_refused((_, frames): (Wire, Vec<Frame>), words: &str) {
    let errors = errors(&frames);
    assert!(
        matches!(errors.as_slice(), [(ErrorCode::BadKey, detail)] if detail.contains(words)),
        "{errors:?} instead of {words:?}"
    );
}

fn update(world: &mut World, wire: Wire, statement: KeyStatement) -> Vec<Frame> {
    let payload = Payload::KeyUpdate(KeyUpdate { statement });
    let envelope = unsigned(draft(&id(), wire.node, world.now.unix, &payload));
    world.send(wire, &envelope);
    world.take(wire)
}

fn acks(frames: &[Frame]) -> Vec<String> {
    let ack = |frame: &Frame| match &frame.payload {
        Payload::Ack(ack) => Some(ack.msg_ref.clone()),
        _ => None,
    };
    frames.iter().filter_map(ack).collect()
}

fn adverts(frames: Vec<Frame>) -> Vec<UserAdvertise> {
    let advert = |frame: Frame| match frame.payload {
        Payload::UserAdvertise(advert) => Some(advert),
        _ => None,
    };
    frames.into_iter().filter_map(advert).collect()
}

/// What a user of this server is told of somebody's keys.
fn asked(world: &mut World, node: &'static str) -> PubkeyResponse {
    let (wire, frames) = enter(world, node, "asker", "asker");
    assert!(is_in(&frames), "{frames:?}");
    let user_id = user_id(&id());
    let payload = Payload::PubkeyRequest(PubkeyRequest { user_id });
    let envelope = unsigned(draft("asker", node, world.now.unix, &payload));
    world.send(wire, &envelope);
    let frames = world.take(wire);
    world.hang_up(wire);
    let answer = frames.into_iter().find_map(|frame| match frame.payload {
        Payload::PubkeyResponse(answer) => Some(answer),
        _ => None,
    });
    answer.unwrap()
}

fn record(world: &World, node: &str) -> (KeyText, u64) {
    let record = &world.node(node).users[&user_id(&id())];
    (record.pubkey.clone(), record.version)
}

#[test]
fn newer_keys_count_once_they_are_on_disk_and_the_old_ones_prove_nothing() {
    let mut world = proof_only();
    let peer = world.peer("x", "a");
    let (wire, frames) = come(&mut world, "a", "first", None);
    assert!(is_in(&frames));
    let (other, _) = come(&mut world, "a", "first", None);
    world.take(peer);
    // Nothing before the disk.
    world.node_mut("a").is_slow = true;
    assert_eq!(update(&mut world, wire, statement(None, "second", None)), []);
    assert_eq!((record(&world, "a"), world.closed(other)), ((key("first"), 1), None));
    world.answer_slow("a", 1);
    assert_eq!(world.take(wire), [], "signed, and not stored");
    world.node_mut("a").is_slow = false;
    world.settle();
    let frames = world.take(wire);
    assert_eq!(acks(&frames), ["KEY_UPDATE"]);
    assert_eq!(record(&world, "a"), (key("second"), 2));
    // The sessions of the old key end, and are told why.
    let told = errors(&world.take(other));
    assert!(
        matches!(told.as_slice(), [(ErrorCode::BadKey, detail)] if detail.contains("another program")),
        "{told:?}"
    );
    assert_eq!((world.closed(wire), world.closed(other)), (Some(1008), Some(1008)));
    // Peers hear of it before the user leaves.
    let frames = world.take(peer);
    assert!(frames.iter().any(|frame| frame.envelope.kind == FrameKind::UserRemove));
    let told: Vec<_> = adverts(frames)
        .into_iter()
        .map(|advert| (advert.pubkey, advert.history))
        .collect();
    assert_eq!(told, [(Some(key("second")), Some(history(&["first", "second"])))]);
    for _ in 0..2 {
        assert_refused(come(&mut world, "a", "first", None), "replaced by newer ones");
        assert!(is_in(&come(&mut world, "a", "second", None).1));
        let whole = Some(history(&["first", "second"]));
        assert!(is_in(&come(&mut world, "a", "second", whole.clone()).1));
        let answer = asked(&mut world, "a");
        assert_eq!((answer.pubkey, answer.version), (Some(key("second")), Some(2)));
        assert_eq!((answer.history, answer.revoked), (whole, false));
        world.crash("a");
        world.start(&["a"]);
    }
}

#[test]
fn what_does_not_follow_on_the_present_keys_is_refused() {
    let mut world = proof_only();
    let (wire, _) = come(&mut world, "a", "first", None);
    let two = history(&["first", "second"]);
    let third = || statement(Some(&two), "third", None);
    let of_another = KeyStatement {
        user_id: user_id("somebody"),
        ..statement(None, "second", None)
    };
    let skipped = KeyStatement {
        version: 3,
        ..statement(None, "second", None)
    };
    let table = [
        (
            statement(None, "second", Some("mallory")),
            ErrorCode::InvalidSig,
            "not signed by",
        ),
        (
            statement(None, "second", Some("second")),
            ErrorCode::InvalidSig,
            "not signed by",
        ),
        (of_another, ErrorCode::InvalidSig, "another user"),
        (skipped, ErrorCode::InvalidSig, "not signed by"),
        (third(), ErrorCode::InvalidSig, "not signed by"),
    ];
    for (statement, code, words) in table {
        let refused = errors(&update(&mut world, wire, statement));
        assert!(
            matches!(refused.as_slice(), [(got, detail)] if *got == code && detail.contains(words)),
            "{refused:?} instead of {words:?}"
        );
        world.wait(10_000);
    }
    assert_eq!(record(&world, "a"), (key("first"), 1));
}

#[test]
fn what_is_signed_by_the_right_key_may_be_wrong_all_the_same() {
    let mut world = proof_only();
    let (wire, _) = come(&mut world, "a", "first", None);
    let resigned = |change: &dyn Fn(&mut KeyStatement)| {
        let mut wrong = statement(None, "second", None);
        change(&mut wrong);
        let text = String::from_utf8(wrong.signed_text()).unwrap();
        wrong.sig = Base64Url::encode(&toy_sig(&key("first"), &text));
        wrong
    };
    let table: [(KeyStatement, &str); 5] = [
        (resigned(&|wrong| wrong.version = 3), "gap"),
        (resigned(&|wrong| wrong.version = 1), "gap"),
        (resigned(&|wrong| wrong.previous = [0; 32].into()), "do not follow"),
        (resigned(&|wrong| wrong.revoked = true), "other keys"),
        (
            resigned(&|wrong| {
                wrong.pubkey = key("first");
                wrong.enc_pubkey = key("first");
            }),
            "no key",
        ),
    ];
    for (statement, words) in table {
        world.wait(60_000);
        let refused = errors(&update(&mut world, wire, statement));
        assert!(
            matches!(refused.as_slice(), [(ErrorCode::BadKey, detail)] if detail.contains(words)),
            "{refused:?} instead of {words:?}"
        );
    }
    assert_eq!(record(&world, "a"), (key("first"), 1));
    // And the right one after all; once.
    assert_eq!(
        acks(&update(&mut world, wire, statement(None, "second", None))),
        ["KEY_UPDATE"]
    );
    let (wire, _) = come(&mut world, "a", "second", None);
    let fork = errors(&update(&mut world, wire, statement(None, "fork", Some("second"))));
    assert!(
        matches!(fork.as_slice(), [(ErrorCode::BadKey, detail)] if detail.contains("gap")),
        "{fork:?}"
    );
    assert_eq!(record(&world, "a"), (key("second"), 2));
}

#[test]
fn only_a_session_that_proved_its_key_changes_the_account() {
    let mut world = World::one("a");
    let wire = world.connect("a");
    world.hello(wire, &id(), plain_hello("first"));
    world.take(wire);
    let refused = errors(&update(&mut world, wire, statement(None, "second", None)));
    assert!(
        matches!(refused.as_slice(), [(_, detail)] if detail.contains("has not proved")),
        "{refused:?}"
    );
    assert_eq!(record(&world, "a"), (key("first"), 1));
}

#[test]
fn a_history_has_an_end() {
    let mut world = proof_only();
    let mut names = vec!["first".to_owned()];
    names.extend((0..KEY_STATEMENTS_COUNT_MAX).map(|number| format!("key-{number}")));
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let full = history(&names);
    let last = names[names.len() - 1];
    let (wire, frames) = come(&mut world, "a", last, Some(full.clone()));
    assert!(is_in(&frames));
    let refused = errors(&update(&mut world, wire, statement(Some(&full), "one more", None)));
    assert!(
        matches!(refused.as_slice(), [(ErrorCode::BadKey, detail)] if detail.contains("more than")),
        "{refused:?}"
    );
}

#[test]
fn a_disk_that_fails_changes_nothing() {
    let mut world = proof_only();
    let (wire, _) = come(&mut world, "a", "first", None);
    world.node_mut("a").is_slow = true;
    update(&mut world, wire, statement(None, "second", None));
    // Another one meanwhile is not lost in the first.
    let refused = errors(&update(&mut world, wire, statement(None, "other", None)));
    assert!(
        matches!(refused.as_slice(), [(ErrorCode::RateLimited, _)]),
        "{refused:?}"
    );
    world.answer_slow("a", 1);
    world.fail_slow("a");
    world.node_mut("a").is_slow = false;
    assert_eq!(errors(&world.take(wire)).len(), 1);
    assert_eq!((known(&world), world.closed(wire)), (Some(key("first")), None));
    assert_eq!(
        acks(&update(&mut world, wire, statement(None, "second", None))),
        ["KEY_UPDATE"]
    );
}

#[test]
fn withdrawn_keys_let_nobody_in_and_are_shown_as_such() {
    let mut world = proof_only();
    let (wire, _) = come(&mut world, "a", "first", None);
    let withdrawal = statement(None, "first", None);
    assert!(withdrawal.revoked);
    assert_eq!(acks(&update(&mut world, wire, withdrawal)), ["KEY_UPDATE"]);
    assert_eq!(world.closed(wire), Some(1008));
    for _ in 0..2 {
        let whole = history(&["first", "first"]);
        assert_refused(come(&mut world, "a", "first", None), "withdrawn");
        assert_refused(come(&mut world, "a", "first", Some(whole.clone())), "withdrawn");
        let more = Some(history(&["first", "second"]));
        assert_refused(come(&mut world, "a", "second", more), "withdrawn");
        let answer = asked(&mut world, "a");
        assert_eq!((answer.revoked, answer.history), (true, Some(whole)));
        world.crash("a");
        world.start(&["a"]);
    }
}

#[test]
fn a_hello_brings_newer_keys_where_the_home_has_not_heard_of_them() {
    let mut world = proof_only();
    let (session, _) = come(&mut world, "a", "first", None);
    // A history of somebody else, of other keys, or forged ends nowhere.
    let two = history(&["first", "second"]);
    assert_refused(come(&mut world, "a", "mallory", Some(two.clone())), "does not end with");
    assert_refused(
        enter_with(
            &mut world,
            "a",
            "somebody",
            "second",
            hello("second", Some(two.clone())),
        ),
        "does not end with",
    );
    assert_eq!(world.closed(session), None);
    let (newer, frames) = come(&mut world, "a", "second", Some(two));
    assert!(is_in(&frames), "{frames:?}");
    assert_eq!(record(&world, "a"), (key("second"), 2));
    assert_eq!((world.closed(session), world.closed(newer)), (Some(1008), None));
    assert_refused(come(&mut world, "a", "first", None), "replaced by newer ones");
    let fork = Some(history(&["first", "fork", "third"]));
    assert_refused(come(&mut world, "a", "third", fork), "bound to another key");
    // At a home that never saw the first keys the newest are bound at once.
    let mut world = proof_only();
    let (_, frames) = come(&mut world, "a", "third", Some(history(&["first", "second", "third"])));
    assert!(is_in(&frames));
    assert_eq!(record(&world, "a"), (key("third"), 3));
    for older in ["first", "second"] {
        assert_refused(come(&mut world, "a", older, None), "replaced by newer ones");
    }
}

#[test]
fn the_owners_claim_is_the_newest_keys_of_the_history_that_begins_with_it() {
    let mut world = proof_only();
    let (squatter, frames) = come(&mut world, "a", "mallory", None);
    assert!(is_in(&frames), "nobody can tell yet");
    let two = Some(history(&["first", "second"]));
    assert!(is_in(&come(&mut world, "a", "second", two).1));
    assert_eq!(world.closed(squatter), Some(1008));
    assert_refused(come(&mut world, "a", "mallory", None), "bound to another key");
    // The key that the id is made from was replaced.
    assert_refused(come(&mut world, "a", "first", None), "replaced by newer ones");
    assert_eq!(record(&world, "a"), (key("second"), 2));
}

/// Gossip of a peer about the user.
fn gossip(world: &mut World, peer: Wire, name: &str, key_name: &str, history: Option<KeyHistory>) {
    world.wait(1);
    let advert = UserAdvertise {
        user_id: user_id(&id()),
        pubkey: Some(key(key_name)),
        version: history.as_ref().map(KeyHistory::version),
        history,
        ..match advert("u", name) {
            Payload::UserAdvertise(advert) => advert,
            other => panic!("{other:?}"),
        }
    };
    world.peer_says(peer, name, "*", &Payload::UserAdvertise(advert));
}

fn known(world: &World) -> Option<KeyText> {
    world.node("a").server.key_of(&user_id(&id())).cloned()
}

#[test]
fn gossip_goes_on_with_a_history_and_back_never() {
    let mut world = proof_only();
    let x = world.peer("x", "a");
    let steps: [(&str, Option<&[&str]>, &str); 9] = [
        ("first", None, "first"),
        ("second", None, "first"),
        ("second", Some(&["first", "other"]), "first"),
        ("second", Some(&["first", "second"]), "second"),
        ("first", None, "second"),
        ("fork", Some(&["first", "fork"]), "second"),
        ("second", None, "second"),
        ("third", Some(&["first", "second", "third"]), "third"),
        ("second", Some(&["first", "second"]), "third"),
    ];
    for (shown, names, stays) in steps {
        gossip(&mut world, x, "x", shown, names.map(history));
        assert_eq!(known(&world), Some(key(stays)), "{shown} {names:?}");
    }
    let answer = asked(&mut world, "a");
    assert_eq!(answer.history, Some(history(&["first", "second", "third"])));
    // Who has left is remembered with what came last.
    world.wait(1);
    let gone = UserRemove {
        user_id: user_id(&id()),
        server_id: server_id("x"),
        deletion: None,
    };
    world.peer_says(x, "x", "*", &Payload::UserRemove(gone));
    assert_eq!(asked(&mut world, "a").history, answer.history);
    gossip(&mut world, x, "x", "first", None);
    assert_eq!(known(&world), None, "a step back, said by whoever");
}

#[test]
fn a_second_home_follows_what_the_first_one_tells() {
    let mut world = proof_only();
    let x = world.peer("x", "a");
    let (session, _) = come(&mut world, "a", "first", None);
    gossip(&mut world, x, "x", "second", Some(history(&["first", "second"])));
    assert_eq!(record(&world, "a"), (key("second"), 2));
    assert_eq!(world.closed(session), Some(1008));
    assert_refused(come(&mut world, "a", "first", None), "replaced by newer ones");
    assert!(is_in(&come(&mut world, "a", "second", None).1));
}

#[test]
fn friends_are_told_of_newer_keys_without_asking() {
    for in_batches in [false, true] {
        let mut world = World::mesh_of(&["a", "b"], |_| in_batches);
        let friend = enter_with(&mut world, "a", "friend", "friend", hello("friend", None)).0;
        let stranger = world.native_user("stranger", "a");
        let (wire, _) = come(&mut world, "b", "first", None);
        world.wait(5_000);
        world.take(friend);
        world.take(stranger.wire);
        assert_eq!(
            acks(&update(&mut world, wire, statement(None, "second", None))),
            ["KEY_UPDATE"]
        );
        world.wait(5_000);
        let news: Vec<KeyHistory> = world
            .take(friend)
            .into_iter()
            .filter_map(|frame| match frame.payload {
                Payload::KeyNews(news) => Some(news.history),
                _ => None,
            })
            .collect();
        assert_eq!(news, [history(&["first", "second"])], "{in_batches}");
        assert!(!world.take_kinds(stranger.wire).contains(&FrameKind::KeyNews));
        // They are away now, and known with the newest keys.
        let answer = asked(&mut world, "a");
        assert_eq!(
            (answer.pubkey, answer.version),
            (Some(key("second")), Some(2)),
            "{in_batches}"
        );
    }
}

fn delete(world: &World, server: &str, ts: u64, by: &str) -> AccountDelete {
    assert!(world.now.unix > 0);
    delete_by(server, ts, by)
}

fn delete_by(server: &str, ts: u64, by: &str) -> AccountDelete {
    let mut delete = AccountDelete {
        user_id: user_id(&id()),
        server_id: server_id(server),
        ts,
        sig: Base64Url::encode(&[]),
    };
    let text = String::from_utf8(delete.signed_text()).unwrap();
    delete.sig = Base64Url::encode(&toy_sig(&key(by), &text));
    delete
}

fn wish(world: &mut World, wire: Wire, delete: AccountDelete) -> Vec<Frame> {
    let payload = Payload::AccountDelete(delete);
    let envelope = unsigned(draft(&id(), wire.node, world.now.unix, &payload));
    world.send(wire, &envelope);
    world.take(wire)
}

#[test]
fn a_user_is_forgotten_at_its_own_wish_and_at_nobody_elses() {
    let mut world = proof_only();
    let (wire, _) = come(&mut world, "a", "first", None);
    let now = world.now.unix;
    let of_another = AccountDelete {
        user_id: user_id("somebody"),
        ..delete(&world, "a", now, "first")
    };
    let table = [
        (of_another, "another user"),
        (delete(&world, "b", now, "first"), "another server"),
        (delete(&world, "a", now, "mallory"), "not signed"),
        (delete(&world, "a", now - HELLO_AGE_MAX_MS - 1, "first"), "two minutes"),
        (delete(&world, "a", now + HELLO_AGE_MAX_MS + 1, "first"), "two minutes"),
    ];
    for (wrong, words) in table {
        let refused = errors(&wish(&mut world, wire, wrong));
        assert!(
            matches!(refused.as_slice(), [(ErrorCode::InvalidSig, detail)] if detail.contains(words)),
            "{refused:?} instead of {words:?}"
        );
    }
    assert_eq!(record(&world, "a").1, 1);
    let good = delete(&world, "a", now, "first");
    assert_eq!(acks(&wish(&mut world, wire, good.clone())), ["ACCOUNT_DELETE"]);
    assert_eq!(world.closed(wire), Some(1000));
    assert!(!world.node("a").users.contains_key(&user_id(&id())));
    assert_eq!(asked(&mut world, "a").pubkey, None);
    // Whoever comes back begins anew, and what was said before is used up.
    let (wire, frames) = come(&mut world, "a", "first", None);
    assert!(is_in(&frames));
    let refused = errors(&wish(&mut world, wire, good));
    assert!(
        matches!(refused.as_slice(), [(_, detail)] if detail.contains("used before")),
        "{refused:?}"
    );
}

#[test]
fn peers_and_friends_are_told_that_somebody_is_gone_for_good() {
    for in_batches in [false, true] {
        let mut world = World::mesh_of(&["a", "b"], |_| in_batches);
        let friend = enter_with(&mut world, "a", "friend", "friend", hello("friend", None)).0;
        let (wire, _) = come(&mut world, "b", "first", None);
        world.wait(5_000);
        world.take(friend);
        let good = delete(&world, "b", world.now.unix, "first");
        assert_eq!(acks(&wish(&mut world, wire, good)), ["ACCOUNT_DELETE"]);
        world.wait(5_000);
        let is_end = |frame: &Frame| matches!(&frame.payload, Payload::UserRemove(remove) if remove.deletion.is_some());
        assert!(world.take(friend).iter().any(is_end), "{in_batches}");
        assert_eq!(asked(&mut world, "a").pubkey, None, "{in_batches}");
    }
}

#[test]
fn of_two_changes_at_once_only_one_is_made_and_the_other_is_told() {
    let mut world = World::one("a");
    let (session, _) = come(&mut world, "a", "first", None);
    world.node_mut("a").is_slow = true;
    // A hello with one branch of the history waits for the disk, when the other branch comes.
    let (hello, _) = come(&mut world, "a", "second", Some(history(&["first", "second"])));
    let told = update(&mut world, session, statement(None, "other", None));
    assert!(
        errors(&told).iter().any(|(code, _)| *code == ErrorCode::RateLimited) || !is_in(&told),
        "{told:?}"
    );
    world.node_mut("a").is_slow = false;
    for _ in 0..4 {
        world.answer_slow("a", 1);
    }
    world.take(hello);
    let (key, version) = record(&world, "a");
    let on_disk = &world.node("a").users[&user_id(&id())];
    assert_eq!((&on_disk.pubkey, on_disk.version), (&key, version));
    assert!(
        on_disk
            .history
            .as_ref()
            .is_none_or(|history| history.newest().pubkey == on_disk.pubkey)
    );
}

#[test]
fn a_hello_that_waits_for_the_disk_does_not_bring_a_deleted_account_back() {
    let mut world = proof_only();
    let (session, _) = come(&mut world, "a", "first", None);
    world.node_mut("a").is_slow = true;
    let good = delete(&world, "a", world.now.unix, "first");
    wish(&mut world, session, good);
    // Another program of the same user, with another profile.
    let renamed = UserHello {
        meta: Some(socp_proto::Meta::named(Some("renamed"), None).unwrap()),
        ..hello("first", None)
    };
    enter_with(&mut world, "a", &id(), "first", renamed);
    world.node_mut("a").is_slow = false;
    world.answer_slow("a", 10);
    assert!(!world.node("a").users.contains_key(&user_id(&id())));
    assert!(!world.node("a").server.records.contains_key(&user_id(&id())));
}

#[test]
fn nobody_but_the_user_can_end_an_account_elsewhere() {
    let good = || delete_by("x", BEGIN, "second").into_deletion(key("second"));
    let old = BEGIN - DELETION_AGE_MAX_MS - 60_000;
    let (two, withdrawn) = (["first", "second"], ["first", "second", "second"]);
    // What is said, what was known before, and whether it is forgotten.
    let table: [(&str, Option<Deletion>, &[&str], bool); 6] = [
        ("nothing said", None, &two, false),
        ("by the user", Some(good()), &two, true),
        (
            "by a key that was replaced",
            Some(delete_by("x", BEGIN, "first").into_deletion(key("first"))),
            &two,
            false,
        ),
        (
            "by another",
            Some(delete_by("x", BEGIN, "mallory").into_deletion(key("mallory"))),
            &two,
            false,
        ),
        (
            "long ago",
            Some(delete_by("x", old, "second").into_deletion(key("second"))),
            &two,
            false,
        ),
        ("with a key that was withdrawn", Some(good()), &withdrawn, false),
    ];
    for (what, deletion, names, is_forgotten) in table {
        let mut world = proof_only();
        let x = world.peer("x", "a");
        let friend = enter_with(&mut world, "a", "friend", "friend", hello("friend", None)).0;
        gossip(&mut world, x, "x", "second", Some(history(names)));
        assert_eq!(known(&world), Some(key("second")), "{what}");
        world.take(friend);
        let gone = UserRemove {
            user_id: user_id(&id()),
            server_id: server_id("x"),
            deletion,
        };
        world.peer_says(x, "x", "*", &Payload::UserRemove(gone));
        assert_eq!(known(&world), None, "{what}: the user has left all the same");
        let is_told =
            |frame: &Frame| matches!(&frame.payload, Payload::UserRemove(remove) if remove.deletion.is_some());
        assert_eq!(world.take(friend).iter().any(is_told), is_forgotten, "{what}");
        assert_eq!(asked(&mut world, "a").history.is_none(), is_forgotten, "{what}");
    }
}
