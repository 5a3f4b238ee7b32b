//! Presence in batches (PROTOCOL II.8), read as a client of ours reads it.

use super::super::*;
use super::challenge::enter_with;
use super::world::*;
use crate::client::{Batches, Step};
use socp_proto::limits::{PRESENCE_CHANGES_COUNT_MAX, PRESENCE_INTERVAL_MS, PRESENCE_LOG_COUNT_MAX};
use socp_proto::payload::{PRESENCE, Presence, PresenceRequest, UserHello};
use socp_proto::{Capabilities, PROOF};

/// Somebody who takes batches, and whom it thinks to be there.
struct Reader {
    user: User,
    batches: Batches,
    online: BTreeMap<UserId, ServerId>,
    frames: Vec<Presence>,
}

impl Reader {
    fn join(world: &mut World, id: &'static str, node: &'static str) -> Self {
        let wire = hello(world, id, node, None);
        Self {
            user: User { id, wire },
            batches: Batches::default(),
            online: BTreeMap::new(),
            frames: Vec::new(),
        }
    }

    /// On a new link, with what it knows from the last one.
    fn comes_back(&mut self, world: &mut World, node: &'static str) {
        self.user.wire = hello(world, self.user.id, node, self.batches.resume());
        self.batches.on_new_link();
        self.frames.clear();
    }

    /// Reads what has come; nothing else may have come than batches, and none may be missing.
    fn read(&mut self, world: &mut World) -> Vec<&str> {
        for frame in world.take(self.user.wire) {
            let Payload::Presence(batch) = frame.payload else {
                let is_other = !matches!(frame.payload, Payload::UserAdvertise(_) | Payload::UserRemove(_));
                assert!(is_other, "{frame:?}");
                continue;
            };
            assert!(batch.add.len() + batch.remove.len() <= PRESENCE_CHANGES_COUNT_MAX);
            self.take(batch);
        }
        self.online.keys().map(UserId::as_str).collect()
    }

    fn take(&mut self, batch: Presence) {
        assert_eq!(self.batches.take(&batch), Step::Use, "{batch:?}");
        for user in &batch.add {
            self.online.insert(user.user_id.clone(), user.server_id.clone());
        }
        for user in &batch.remove {
            self.online.remove(user);
        }
        if let Some(everyone) = self.batches.take_everyone() {
            self.online.retain(|user, _| everyone.contains(user));
        }
        self.frames.push(batch);
    }

    fn asks(&self, world: &mut World, epoch: u64, from_seq: u64) {
        let request = PresenceRequest {
            epoch,
            from_seq,
            to_the_letter: false,
        };
        world.say(self.user, "a", &Payload::PresenceRequest(request));
    }
}

fn hello(world: &mut World, id: &'static str, node: &'static str, presence: Option<PresenceRequest>) -> Wire {
    let wire = world.connect(node);
    let caps = Some(Capabilities::of(&[PRESENCE]).unwrap());
    let hello = UserHello {
        caps,
        presence,
        ..plain_hello(id)
    };
    world.hello(wire, id, hello);
    wire
}

/// So many users come to `x`.
fn crowd(world: &mut World, x: Wire, count: usize) -> Vec<String> {
    let names: Vec<String> = (0..count).map(|n| format!("crowd-{n:05}")).collect();
    for (n, name) in names.iter().enumerate() {
        if n % 400 == 399 {
            world.wait(1_000); // A peer may tell so many changes in a second.
        }
        world.peer_says(x, "x", "*", &advert(name, "x"));
    }
    names
}

#[test]
fn a_newcomer_is_told_everyone_and_then_each_change_once() {
    let mut world = World::mesh(&["a", "b"]);
    world.user("u", "b");
    let mut reader = Reader::join(&mut world, "r", "a");
    assert_eq!(reader.read(&mut world), ["r", "u"]);
    assert_eq!(reader.online[&user_id("u")], server_id("b"));
    let v = world.user("v", "b");
    world.user("w", "a");
    world.wait(PRESENCE_INTERVAL_MS);
    assert_eq!(reader.read(&mut world), ["r", "u", "v", "w"]);
    world.hang_up(v.wire);
    world.wait(PRESENCE_INTERVAL_MS);
    assert_eq!(reader.read(&mut world), ["r", "u", "w"]);
    let told = reader.frames.iter().flat_map(|batch| &batch.add);
    assert_eq!(told.filter(|user| user.user_id == user_id("w")).count(), 1);
}

#[test]
fn changes_within_an_interval_come_together_and_the_same_frame_goes_to_all() {
    let mut world = World::one("a");
    let mut readers = ["r", "s"].map(|id| Reader::join(&mut world, id, "a"));
    world.wait(PRESENCE_INTERVAL_MS);
    for reader in &mut readers {
        reader.read(&mut world);
        reader.frames.clear();
    }
    let x = world.peer("x", "a");
    let names = crowd(&mut world, x, 50);
    world.peer_says(x, "x", "*", &remove(&names[0], "x"));
    world.wait(PRESENCE_INTERVAL_MS);
    for reader in &mut readers {
        assert_eq!(reader.read(&mut world).len(), 49 + 2);
        assert!(reader.frames.len() <= 2, "{}", reader.frames.len());
    }
    assert_eq!(readers[0].frames, readers[1].frames);
}

#[test]
fn a_list_of_many_pages_and_what_happens_meanwhile() {
    let mut world = World::one("a");
    let x = world.peer("x", "a");
    let names = crowd(&mut world, x, 3 * PRESENCE_CHANGES_COUNT_MAX);
    let mut reader = Reader::join(&mut world, "r", "a");
    // Behind the page that is being read, and before it.
    world.peer_says(x, "x", "*", &remove(&names[3], "x"));
    world.peer_says(x, "x", "*", &advert("a-new-one", "x"));
    world.wait(20 * PRESENCE_INTERVAL_MS);
    let told = reader.read(&mut world);
    assert_eq!(told.len(), names.len() + 1, "all, less one, more one, and the reader");
    assert!(told.contains(&"a-new-one") && !told.contains(&names[3].as_str()));
    assert!(reader.frames.len() >= 4);
}

#[test]
fn who_missed_something_gets_just_that() {
    let mut world = World::one("a");
    let mut reader = Reader::join(&mut world, "r", "a");
    reader.read(&mut world);
    let epoch = reader.frames[0].epoch;
    for id in ["u", "v", "w"] {
        world.user(id, "a");
        world.wait(PRESENCE_INTERVAL_MS);
    }
    reader.read(&mut world);
    let (before, last) = (reader.frames.len(), reader.frames.last().unwrap().seq);
    reader.asks(&mut world, epoch, last);
    world.wait(PRESENCE_INTERVAL_MS);
    reader.read(&mut world);
    let [again] = &reader.frames[before..] else {
        panic!("{:?}", &reader.frames[before..]);
    };
    assert_eq!((again.from_seq, again.seq), (last, last));
    assert_eq!(again.add[0].user_id, user_id("w"));
    // And what comes next follows on that.
    world.user("z", "a");
    world.wait(PRESENCE_INTERVAL_MS);
    assert_eq!(reader.read(&mut world), ["r", "u", "v", "w", "z"]);
}

#[test]
fn whatever_else_is_asked_for_brings_everyone() {
    let mut world = World::one("a");
    let mut reader = Reader::join(&mut world, "r", "a");
    reader.read(&mut world);
    let epoch = reader.frames[0].epoch;
    for (epoch, from_seq) in [(epoch, 0), (epoch + 1, 1), (epoch, u64::MAX), (epoch, 1_000), (0, 0)] {
        let before = reader.frames.len();
        reader.asks(&mut world, epoch, from_seq);
        world.wait(PRESENCE_INTERVAL_MS);
        assert_eq!(reader.read(&mut world), ["r"]);
        assert_eq!(reader.frames.len(), before + 1);
        assert_eq!(reader.frames[before].from_seq, 0, "{epoch} {from_seq}");
    }
}

#[test]
fn many_requests_cost_one_answer_each_interval() {
    let mut world = World::one("a");
    let mut reader = Reader::join(&mut world, "r", "a");
    reader.read(&mut world);
    for _ in 0..50 {
        reader.asks(&mut world, 0, 0);
    }
    world.wait(PRESENCE_INTERVAL_MS);
    let before = reader.frames.len();
    reader.read(&mut world);
    assert!(reader.frames.len() - before <= 2, "{}", reader.frames.len() - before);
}

#[test]
fn changes_that_are_forgotten_bring_everyone_again() {
    let mut world = World::one("a");
    let mut reader = Reader::join(&mut world, "r", "a");
    reader.read(&mut world);
    let core = &mut world.node_mut("a").server;
    for n in 0..=PRESENCE_LOG_COUNT_MAX {
        let user = UserId::try_from(format!("passing-{n}")).unwrap();
        core.note_in_roster(Now { mono: 0, unix: BEGIN }, Audience::Users, &user, BEGIN);
    }
    world.user("u", "a");
    world.wait(60_000);
    assert_eq!(reader.read(&mut world), ["r", "u"]);
    let pages = reader.frames.iter().filter(|batch| batch.from_seq == 0).count();
    assert_eq!(pages, 2, "at first, and again");
}

#[test]
fn nothing_is_kept_until_somebody_takes_batches() {
    let mut world = World::one("a");
    let x = world.peer("x", "a");
    crowd(&mut world, x, 10);
    world.wait(PRESENCE_INTERVAL_MS);
    let mut reader = Reader::join(&mut world, "r", "a");
    assert_eq!(reader.read(&mut world).len(), 11);
    let known = reader.frames[0].clone();
    // So whoever asks for it is told everyone.
    reader.asks(&mut world, known.epoch, 5);
    world.wait(PRESENCE_INTERVAL_MS);
    assert_eq!(reader.read(&mut world).len(), 11);
    assert_eq!(reader.frames.last().unwrap().from_seq, 0);
}

#[test]
fn whoever_comes_back_is_told_what_has_changed_and_nothing_else() {
    let mut world = World::one("a");
    let x = world.peer("x", "a");
    let names = crowd(&mut world, x, 2 * PRESENCE_CHANGES_COUNT_MAX);
    let mut reader = Reader::join(&mut world, "r", "a");
    world.wait(20 * PRESENCE_INTERVAL_MS);
    assert_eq!(reader.read(&mut world).len(), names.len() + 1);
    // Nobody else is there who is told: what changes meanwhile is kept all the same.
    world.hang_up(reader.user.wire);
    world.peer_says(x, "x", "*", &remove(&names[3], "x"));
    world.peer_says(x, "x", "*", &advert("a-new-one", "x"));
    world.wait(PRESENCE_INTERVAL_MS);
    reader.comes_back(&mut world, "a");
    world.wait(PRESENCE_INTERVAL_MS);
    let told = reader.read(&mut world);
    assert_eq!(told.len(), names.len() + 1, "less one, more one, and the reader");
    assert!(told.contains(&"a-new-one") && !told.contains(&names[3].as_str()));
    let told: usize = reader
        .frames
        .iter()
        .map(|batch| batch.add.len() + batch.remove.len())
        .sum();
    assert!(told <= 4, "{:?}", reader.frames);
    // And what comes next follows on that.
    world.user("z", "a");
    world.wait(PRESENCE_INTERVAL_MS);
    assert!(reader.read(&mut world).contains(&"z"));
}

/// Beside a session that stays: so not even the user has come.
#[test]
fn whoever_comes_back_to_no_change_is_told_so() {
    let mut world = World::one("a");
    let hello = |presence| UserHello {
        caps: Some(Capabilities::of(&[PRESENCE, PROOF]).unwrap()),
        presence,
        ..plain_hello("r")
    };
    let batches_of = |world: &mut World, (wire, frames): (Wire, Vec<Frame>)| {
        world.wait(PRESENCE_INTERVAL_MS);
        let frames = frames.into_iter().chain(world.take(wire));
        let batches = frames.filter_map(|frame| match frame.payload {
            Payload::Presence(batch) => Some(batch),
            _ => None,
        });
        batches.collect::<Vec<_>>()
    };
    let came = enter_with(&mut world, "a", "r", "r", hello(None));
    let mut known = Batches::default();
    for batch in batches_of(&mut world, came) {
        assert_eq!(known.take(&batch), Step::Use);
    }
    let came = enter_with(&mut world, "a", "r", "r", hello(known.resume()));
    let told = batches_of(&mut world, came);
    assert!(
        matches!(&told[..], [only] if only.from_seq > 0 && !only.more && only.seq == only.from_seq),
        "{told:?}"
    );
}

#[test]
fn much_that_has_changed_comes_in_parts_of_which_the_last_says_so() {
    let mut world = World::one("a");
    let x = world.peer("x", "a");
    let mut reader = Reader::join(&mut world, "r", "a");
    world.wait(PRESENCE_INTERVAL_MS);
    reader.read(&mut world);
    world.hang_up(reader.user.wire);
    let names = crowd(&mut world, x, 2 * PRESENCE_CHANGES_COUNT_MAX + 1);
    reader.comes_back(&mut world, "a");
    world.wait(20 * PRESENCE_INTERVAL_MS);
    assert_eq!(reader.read(&mut world).len(), names.len() + 1);
    let more: Vec<bool> = reader.frames.iter().map(|batch| batch.more).collect();
    assert!(
        more.len() >= 3 && more.iter().rposition(|more| *more) < Some(more.len() - 1),
        "{more:?}"
    );
    assert!(reader.frames.iter().all(|batch| batch.from_seq > 0));
    assert_eq!(more.iter().filter(|more| **more).count(), more.len() - 1);
}

#[test]
fn whoever_comes_back_with_what_is_not_known_is_told_everyone() {
    for (epoch, from_seq) in [(0, 1), (u64::MAX, u64::MAX), (BEGIN, u64::MAX), (BEGIN, 0), (0, 0)] {
        let mut world = World::one("a");
        world.user("u", "a");
        let mut reader = Reader::join(&mut world, "r", "a");
        assert_eq!(reader.read(&mut world), ["r", "u"]);
        let to_the_letter = epoch == 0; // Which means nothing here.
        let known = PresenceRequest {
            epoch,
            from_seq,
            to_the_letter,
        };
        let wire = hello(&mut world, "s", "a", Some(known));
        world.wait(PRESENCE_INTERVAL_MS);
        let batches = world.take(wire).into_iter().filter_map(|frame| match frame.payload {
            Payload::Presence(batch) => Some((batch.from_seq, batch.add.len())),
            _ => None,
        });
        assert_eq!(batches.collect::<Vec<_>>()[0], (0, 3), "{epoch} {from_seq}");
    }
}

#[test]
fn another_start_of_the_server_has_another_numbering() {
    let mut world = World::one("a");
    let mut reader = Reader::join(&mut world, "r", "a");
    world.user("u", "a");
    world.wait(PRESENCE_INTERVAL_MS);
    assert_eq!(reader.read(&mut world), ["r", "u"]);
    world.hang_up(reader.user.wire);
    world.start(&["a"]);
    reader.comes_back(&mut world, "a");
    world.wait(PRESENCE_INTERVAL_MS);
    assert_eq!(reader.read(&mut world), ["r"]);
    assert_eq!(reader.frames[0].from_seq, 0);
}

#[test]
fn whoever_does_not_take_batches_may_not_ask_for_them() {
    let mut world = World::one("a");
    let user = world.user("u", "a");
    world.take(user.wire);
    let request = PresenceRequest {
        epoch: 0,
        from_seq: 0,
        to_the_letter: false,
    };
    world.say(user, "a", &Payload::PresenceRequest(request));
    assert_eq!(world.take_errors(user.wire), [ErrorCode::UnknownType]);
}

#[test]
fn letter_and_batch_are_told_the_same() {
    let mut world = World::mesh(&["a", "b"]);
    let plain = world.user("p", "a");
    let mut reader = Reader::join(&mut world, "r", "a");
    world.take(plain.wire);
    let v = world.user("v", "b");
    world.hang_up(v.wire);
    assert_eq!(
        world.take_kinds(plain.wire),
        [FrameKind::UserAdvertise, FrameKind::UserRemove]
    );
    world.wait(PRESENCE_INTERVAL_MS);
    assert_eq!(reader.read(&mut world), ["p", "r"]);
}

/// The pause between two batches grows with the links, and the first change after a rest waits for nothing.
#[test]
fn many_links_hear_of_changes_less_often() {
    let mut world = World::one("a");
    let names: Vec<&'static str> = (0..250)
        .map(|n| &*Box::leak(format!("r-{n}").into_boxed_str()))
        .collect();
    let mut readers: Vec<Reader> = names.iter().map(|name| Reader::join(&mut world, name, "a")).collect();
    world.wait(2_000);
    let reader = &mut readers[0];
    reader.read(&mut world);
    reader.frames.clear();
    let x = world.peer("x", "a");
    crowd(&mut world, x, 1);
    world.wait(0);
    reader.read(&mut world);
    assert_eq!(reader.frames.len(), 1, "at once");
    for n in 1..=10 {
        world.peer_says(x, "x", "*", &advert(&format!("late-{n}"), "x"));
        world.wait(100);
    }
    reader.read(&mut world);
    assert_eq!(reader.frames.len(), 1 + 4, "each 250 ms");
    // Whoever comes is told everyone without that pause.
    let mut late = Reader::join(&mut world, "late", "a");
    world.wait(PRESENCE_INTERVAL_MS);
    assert_eq!(late.read(&mut world).len(), 250 + 11 + 1);
}
