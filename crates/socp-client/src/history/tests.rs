//! What the history keeps, over restarts, damage and several programs at once.

use super::*;
use crate::profile::Profile;
use crate::rotation::{NewKeys, Replaced};
use leaving::{ToMake, ToSend};
use socp_core::client::{Arrived, Deposit, Gap, Number, Outcome, PostState};
use socp_proto::{KeyText, ReceiptState};
use std::path::Path;

fn user(id: &str) -> UserId {
    UserId::try_from(id).unwrap()
}

fn server() -> ServerId {
    ServerId::try_from("srv").unwrap()
}

fn open(dir: &Path) -> History {
    let profile = Profile::open_or_create(dir, None, None, None).unwrap();
    profile.unlock(None).unwrap();
    profile.history().unwrap()
}

fn text(said: &str, number: Option<u64>) -> Deposit {
    Deposit::Text(Arrived {
        msg_ref: format!("ref of {said}"),
        from: user("alice"),
        text: said.to_owned(),
        ts: 5,
        number: number.map(|n| Number {
            by: Voice::from_bytes([7; 8]),
            n,
        }),
    })
}

fn store(history: &History, deposits: &[Deposit], up_to: u64) -> Vec<Outcome> {
    history.store(deposits, (Some(&server()), Some(up_to)), 0).unwrap()
}

fn texts(history: &History) -> Vec<String> {
    let last = history.last(Some(&user("alice")), 100).unwrap();
    last.into_iter().map(|entry| entry.text).collect()
}

fn present_key(history: &History) -> KeyText {
    let database = history.lock();
    let key: String = database
        .query_row("SELECT pubkey FROM identity", [], |row| row.get(0))
        .unwrap();
    KeyText::try_from(key).unwrap()
}

/// Makes the frame of a queued message, as the driver does.
fn make(history: &History, id: u64, is_numbered: bool) -> Option<u64> {
    let ToMake::Text { number, .. } = history.to_make(id, is_numbered).unwrap() else {
        panic!("there is a text");
    };
    let msg_ref = format!("ref {id}");
    let (frame, signer) = (format!("frame {id}"), present_key(history));
    let kept = history.keep_frame(id, (&frame, &signer), (&msg_ref, 9)).unwrap();
    assert_eq!(kept, Some((msg_ref, 9)));
    number.map(|number| number.n)
}

fn answer(refs: &[&str], state: PostState) -> Deposit {
    Deposit::Answer {
        refs: refs.iter().map(|it| (*it).to_owned()).collect(),
        state,
        why: (state == PostState::Failed).then(|| "no such user".to_owned()),
    }
}

#[test]
fn what_was_written_is_there_once_after_a_restart_and_the_cursor_with_it() {
    let dir = tempfile::tempdir().unwrap();
    let history = open(dir.path());
    assert_eq!(history.mailbox(&server()).unwrap(), None);
    let written = store(&history, &[text("one", Some(1)), text("two", Some(2))], 17);
    assert!(
        matches!(&written[..], [Outcome::New { .. }, Outcome::New { .. }]),
        "{written:?}"
    );
    // The program is killed before its acknowledgement is out, so it is all sent again.
    drop(history);
    let history = open(dir.path());
    assert_eq!(history.mailbox(&server()).unwrap(), Some(17));
    let born = history.last_id().unwrap();
    let again = history
        .store(
            &[text("one", Some(1)), text("two", Some(2))],
            (Some(&server()), Some(3)),
            born,
        )
        .unwrap();
    let is_unshown = |it: &Outcome| matches!(it, Outcome::Known { is_unshown: true, .. });
    assert!(again.iter().all(is_unshown), "nobody has shown them: {again:?}");
    assert_eq!(texts(&history), ["one", "two"]);
    assert_eq!(history.mailbox(&server()).unwrap(), Some(17), "it never goes back");
    history.mark_shown(&[("ref of one".to_owned(), false)]).unwrap();
    let (unshown, next) = history.unshown((0, born), 10).unwrap();
    assert_eq!((unshown.len(), next), (1, None));
    assert_eq!(unshown[0].text, "two");
    let again = history.store(&[text("one", Some(1))], (None, None), born).unwrap();
    assert_eq!(
        again,
        [Outcome::Known {
            id: 1,
            is_unshown: false,
            is_late: false,
            gap: None,
        }]
    );
}

#[test]
fn the_same_number_in_another_envelope_is_the_same_text_and_another_text_is_not_lost() {
    let dir = tempfile::tempdir().unwrap();
    let history = open(dir.path());
    let in_envelope = |msg_ref: &str, said: &str| {
        let Deposit::Text(it) = text(said, Some(1)) else {
            panic!("it is one")
        };
        Deposit::Text(Arrived {
            msg_ref: msg_ref.to_owned(),
            ..it
        })
    };
    store(&history, &[in_envelope("a", "hello")], 1);
    let again = store(&history, &[in_envelope("b", "hello")], 2);
    assert!(matches!(&again[..], [Outcome::Known { id: 1, .. }]), "{again:?}");
    let other = store(&history, &[in_envelope("c", "another")], 3);
    assert!(matches!(&other[..], [Outcome::New { is_late: true, .. }]), "{other:?}");
    assert_eq!(texts(&history), ["hello", "another"]);
}

#[test]
fn gaps_are_told_and_what_comes_late_stands_where_it_belongs() {
    let dir = tempfile::tempdir().unwrap();
    let history = open(dir.path());
    let seen = store(&history, &[text("3", Some(3)), text("6", Some(6)), text("x", None)], 1);
    let by = Voice::from_bytes([7; 8]);
    let gap = Gap { by, from_n: 4, to_n: 5 };
    assert!(
        matches!(seen[1], Outcome::New { gap: Some(it), .. } if it == gap),
        "{seen:?}"
    );
    drop(history);
    let history = open(dir.path());
    let late = store(
        &history,
        &[text("5", Some(5)), text("4", Some(4)), text("7", Some(7))],
        2,
    );
    let is_late = |it: &Outcome| {
        matches!(
            it,
            Outcome::New {
                is_late: true,
                gap: None,
                ..
            }
        )
    };
    assert_eq!(late.iter().map(is_late).collect::<Vec<_>>(), [true, true, false]);
    assert_eq!(texts(&history), ["3", "4", "5", "6", "x", "7"]);
    // Whenever it is told once more, the marks are told with it.
    let last = history.last(None, 100).unwrap();
    let marks: Vec<_> = last.iter().map(|it| (it.is_late, it.gap.is_some())).collect();
    let (plain, late, behind) = ((false, false), (true, false), (false, true));
    assert_eq!(marks, [plain, late, late, behind, plain, plain]);
    let (unshown, _) = history.unshown((0, 100), 100).unwrap();
    assert_eq!(unshown.iter().filter_map(|it| it.gap).collect::<Vec<_>>(), [gap]);
    let again = store(&history, &[text("6", Some(6)), text("4", Some(4))], 3);
    assert!(
        matches!(again[0], Outcome::Known { is_unshown: true, is_late: false, gap: Some(it), .. } if it == gap),
        "{again:?}"
    );
    assert!(
        matches!(
            again[1],
            Outcome::Known {
                is_unshown: true,
                is_late: true,
                gap: None,
                ..
            }
        ),
        "{again:?}"
    );
}

#[test]
fn a_message_of_ours_is_sent_until_it_is_answered_and_never_goes_back() {
    let dir = tempfile::tempdir().unwrap();
    let history = open(dir.path());
    let bob = user("bob");
    let ids = ["a", "b", "c"].map(|said| history.queue(&bob, said).unwrap());
    assert_eq!(make(&history, ids[0], true), Some(1));
    drop(history);
    let history = open(dir.path());
    let waiting = history.unanswered().unwrap();
    let signed: Vec<_> = waiting.iter().map(|it| (it.id, it.signed.is_some())).collect();
    assert_eq!(signed, [(ids[0], true), (ids[1], false), (ids[2], false)]);
    assert!(matches!(history.to_make(ids[0], true).unwrap(), ToMake::Made(it, 9) if it == "ref 1"));
    assert_eq!(
        history.frame(ids[0]).unwrap(),
        ToSend::Frame("frame 1".to_owned()),
        "byte for byte"
    );
    assert_eq!(
        (make(&history, ids[1], true), make(&history, ids[2], false)),
        (Some(2), None)
    );
    let outcome = |deposit| history.store(&[deposit], (None, None), 0).unwrap().remove(0);
    let states = |outcome| match outcome {
        Outcome::Changed(changes) => changes.into_iter().map(|it| it.state).collect::<Vec<_>>(),
        other @ (Outcome::New { .. }
        | Outcome::Known { .. }
        | Outcome::Held { .. }
        | Outcome::NoRoom
        | Outcome::Done) => panic!("{other:?}"),
    };
    assert_eq!(
        states(outcome(answer(&["ref 1", "nobody's", "ref 2"], PostState::OnServer))),
        [PostState::OnServer; 2]
    );
    assert_eq!(history.unanswered().unwrap().len(), 1);
    assert_eq!(
        states(outcome(answer(&["ref 1"], PostState::Sent))),
        [],
        "it never goes back"
    );
    let receipt = |from: &str, state| Deposit::Receipt {
        from: user(from),
        state,
        refs: vec!["ref 1".to_owned()],
    };
    assert_eq!(
        states(outcome(receipt("eve", ReceiptState::Read))),
        [],
        "it was not for her"
    );
    assert_eq!(states(outcome(receipt("bob", ReceiptState::Read))), [PostState::Read]);
    assert_eq!(states(outcome(receipt("bob", ReceiptState::Delivered))), []);
    assert_eq!(
        states(outcome(answer(&["ref 3"], PostState::Failed))),
        [PostState::Failed]
    );
    let last = history.last(Some(&bob), 1).unwrap();
    assert_eq!(last[0].why.as_deref(), Some("no such user"));
    assert!(history.unanswered().unwrap().is_empty());
    assert_eq!(
        history.frame(ids[2]).unwrap(),
        ToSend::Gone(PostState::Failed, "ref 3".to_owned())
    );
}

#[test]
fn what_a_replaced_key_has_signed_is_made_anew_in_its_place_and_under_its_number() {
    let dir = tempfile::tempdir().unwrap();
    let profile = Profile::open_or_create(dir.path(), None, None, None).unwrap();
    let keys = profile.unlock(None).unwrap();
    let history = profile.history().unwrap();
    let bob = user("bob");
    let ids = ["a", "b", "c"].map(|said| history.queue(&bob, said).unwrap());
    assert_eq!(
        [make(&history, ids[0], true), make(&history, ids[1], true)],
        [Some(1), Some(2)]
    );
    let before = present_key(&history);
    let signed = |history: &History| -> Vec<(u64, bool)> {
        let waiting = history.unanswered().unwrap();
        waiting.iter().map(|it| (it.id, it.signed.is_some())).collect()
    };
    // Another key to decrypt with alone takes nothing from what is signed.
    let new = NewKeys::generate(&profile, &keys, Replaced::Encrypt).unwrap();
    let profile = new.store(&profile, None).unwrap();
    assert_eq!(signed(&history), [(ids[0], true), (ids[1], true), (ids[2], false)]);
    let keys = profile.unlock(None).unwrap();
    let new = NewKeys::generate(&profile, &keys, Replaced::Sign).unwrap();
    new.store(&profile, None).unwrap();
    assert_eq!(signed(&history), ids.map(|id| (id, false)));
    // A program that still has the old key keeps nothing that it signs.
    let late = history.keep_frame(ids[0], ("late", &before), ("late", 10));
    assert!(matches!(late, Err(ClientError::KeysChangedMeanwhile)), "{late:?}");
    let numbers = ids.map(|id| make(&history, id, true));
    assert_eq!(numbers, [Some(1), Some(2), Some(3)]);
    assert_eq!(history.frame(ids[0]).unwrap(), ToSend::Frame("frame 1".to_owned()));
}

#[test]
fn a_damaged_frame_is_made_anew_and_a_damaged_message_waits_no_more() {
    let dir = tempfile::tempdir().unwrap();
    let history = open(dir.path());
    let ids = ["a", "b", "c"].map(|said| history.queue(&user("bob"), said).unwrap());
    assert_eq!(ids.map(|id| make(&history, id, true)), [Some(1), Some(2), Some(3)]);
    let damage = |statement: &str, id: u64| history.lock().execute(statement, [to_sql(id)]).unwrap();
    let (frame, row) = (
        "UPDATE unanswered SET frame = zeroblob(40) WHERE id = ?1",
        "UPDATE messages SET sealed = zeroblob(40) WHERE id = ?1",
    );
    damage(frame, ids[0]);
    assert_eq!(history.frame(ids[0]).unwrap(), ToSend::Unmade);
    let again = history.unanswered().unwrap();
    assert_eq!((again[0].id, &again[0].signed), (ids[0], &None));
    assert_eq!(make(&history, ids[0], true), Some(1), "under its number");
    for (id, statements) in [(ids[1], &[row, frame][..]), (ids[2], &[row])] {
        for statement in statements {
            damage(statement, id);
        }
        assert!(matches!(history.to_make(id, true).unwrap(), ToMake::Gone));
        let gone = ToSend::Gone(PostState::Failed, String::new());
        assert_eq!(history.frame(id).unwrap(), gone);
    }
    assert_eq!(history.unanswered().unwrap().len(), 1);
}

#[test]
fn only_what_was_for_somebody_is_sent_to_them_again() {
    let dir = tempfile::tempdir().unwrap();
    let history = open(dir.path());
    let (bob, eve) = (user("bob"), user("eve"));
    for said in ["a", "b", "c"] {
        let id = history.queue(&bob, said).unwrap();
        make(&history, id, true);
    }
    store(&history, &[answer(&["ref 1", "ref 2"], PostState::OnServer)], 1);
    store(&history, &[answer(&["ref 3"], PostState::Failed)], 1);
    let (_, by) = history.device().unwrap();
    let gap = Gap { by, from_n: 2, to_n: 9 };
    history.recall(&eve, gap).unwrap();
    let other = Voice::from_bytes([1; 8]);
    history.recall(&bob, Gap { by: other, ..gap }).unwrap();
    assert!(history.unanswered().unwrap().is_empty());
    history.recall(&bob, gap).unwrap();
    let again = history.unanswered().unwrap();
    assert_eq!(
        again.iter().map(|it| it.id).collect::<Vec<_>>(),
        [2],
        "what failed is not for anybody"
    );
    assert_eq!(make(&history, 2, true), Some(2), "under its old number");
}

#[test]
fn rows_that_were_damaged_or_exchanged_are_counted_and_never_shown() {
    let dir = tempfile::tempdir().unwrap();
    let history = open(dir.path());
    let said: Vec<Deposit> = (1..=4).map(|n| text(&format!("tangerine {n}"), Some(n))).collect();
    store(&history, &said, 1);
    let swap = "UPDATE messages SET sealed = (SELECT sealed FROM messages WHERE id = 3 - ?1) WHERE id = ?1";
    let sealed = |id: i64| -> Vec<u8> {
        let database = history.lock();
        database
            .query_row("SELECT sealed FROM messages WHERE id = ?1", [id], |row| row.get(0))
            .unwrap()
    };
    let all: Vec<u8> = std::fs::read(dir.path().join("profile.db-wal")).unwrap();
    let is_in = |what: &[u8]| all.windows(what.len()).any(|window| window == what);
    assert!(
        !is_in(b"tangerine") && !is_in(b"alice") && is_in(&sealed(1)),
        "nothing is in the clear"
    );
    history.lock().execute(swap, [1]).unwrap();
    history
        .lock()
        .execute("UPDATE messages SET direction = 1 WHERE id = 2", [])
        .unwrap();
    history
        .lock()
        .execute("UPDATE messages SET sealed = zeroblob(40) WHERE id = 3", [])
        .unwrap();
    assert_eq!(texts(&history), ["tangerine 4"]);
    assert_eq!(history.damaged_count(), 3);
    assert!(history.search("tangerine", 10).unwrap().len() == 1);
}

#[test]
fn what_was_damaged_and_comes_again_is_kept_anew_and_holds_nothing_up() {
    let damages = [
        "UPDATE messages SET sealed = zeroblob(40) WHERE id = 2",
        "UPDATE messages SET conversation = x'01' WHERE id = 2",
        "UPDATE messages SET sealed = (SELECT sealed FROM messages WHERE id = 1) WHERE id = 2",
        // The third has the reference of the second.
        "CREATE TEMP TABLE was AS SELECT ref FROM messages WHERE id = 2;
         UPDATE messages SET ref = NULL WHERE id = 2;
         UPDATE messages SET ref = (SELECT ref FROM was) WHERE id = 3;",
    ];
    for damage in damages {
        let dir = tempfile::tempdir().unwrap();
        let history = open(dir.path());
        let said: Vec<Deposit> = (1..=3).map(|n| text(&format!("said {n}"), Some(n))).collect();
        store(&history, &said, 3);
        history.lock().execute_batch(damage).unwrap();
        let again = store(&history, &[text("said 2", Some(2)), text("said 4", Some(4))], 5);
        assert!(
            matches!(
                again[1],
                Outcome::New {
                    is_late: false,
                    gap: None,
                    ..
                }
            ),
            "{damage}: {again:?}"
        );
        assert_eq!(texts(&history), ["said 1", "said 2", "said 3", "said 4"], "{damage}");
        assert_eq!(history.mailbox(&server()).unwrap(), Some(5));
        let once = store(&history, &[text("said 2", Some(2))], 6);
        assert!(matches!(once[..], [Outcome::Known { .. }]), "{damage}: {once:?}");
    }
}

#[test]
fn two_programs_write_at_once_and_no_message_gets_two_frames() {
    let dir = tempfile::tempdir().unwrap();
    let bob = user("bob");
    let (first, second) = (open(dir.path()), open(dir.path()));
    assert_eq!(first.device().unwrap(), second.device().unwrap());
    std::thread::scope(|scope| {
        for history in [&first, &second] {
            scope.spawn(|| (0..40).all(|n| history.queue(&bob, &n.to_string()).unwrap() > 0));
        }
    });
    let waiting = first.unanswered().unwrap();
    assert_eq!(waiting.len(), 80);
    let numbers: Vec<u64> = waiting.iter().filter_map(|it| make(&first, it.id, true)).collect();
    assert_eq!(numbers, (1..=80).collect::<Vec<_>>());
    let lost = second
        .keep_frame(waiting[0].id, ("another frame", &present_key(&first)), ("another", 10))
        .unwrap();
    assert_eq!(lost, Some(("ref 1".to_owned(), 9)));
    // What the other one has written since this one began is to be shown here as well.
    let born = second.last_id().unwrap();
    first.store(&[text("hi", Some(1))], (None, None), 0).unwrap();
    first.mark_shown(&[("ref of hi".to_owned(), false)]).unwrap();
    let seen = second.store(&[text("hi", Some(1))], (None, None), born).unwrap();
    assert!(
        matches!(seen[..], [Outcome::Known { is_unshown: true, .. }]),
        "{seen:?}"
    );
}

#[test]
fn receipts_are_owed_until_the_server_has_them_and_only_where_they_are_wanted() {
    let dir = tempfile::tempdir().unwrap();
    let history = open(dir.path());
    store(&history, &[text("plain", None), text("one", Some(1))], 1);
    let owed = |history: &History| {
        let (owed, _) = history.owed(0).unwrap();
        owed.into_iter().map(|it| (it.msg_ref, it.state)).collect::<Vec<_>>()
    };
    assert_eq!(owed(&history), [("ref of one".to_owned(), ReceiptState::Delivered)]);
    let read = history
        .mark_shown(&[("ref of one".to_owned(), true), ("ref of plain".to_owned(), true)])
        .unwrap();
    assert_eq!(read.len(), 1);
    drop(history);
    let history = open(dir.path());
    assert_eq!(owed(&history), [("ref of one".to_owned(), ReceiptState::Read)]);
    // The answer to the one before says nothing of it.
    let one = ["ref of one".to_owned()];
    history.receipted(ReceiptState::Delivered, &one).unwrap();
    assert_eq!(owed(&history), [("ref of one".to_owned(), ReceiptState::Read)]);
    history.receipted(ReceiptState::Read, &one).unwrap();
    assert!(owed(&history).is_empty());
    let table = [
        (None, false, 0),
        (Some("alice"), true, 1),
        (Some("alice"), false, 0),
        (None, true, 0),
    ];
    for (n, (whose, wanted, count)) in (2..).zip(table) {
        history.set_receipts(whose.map(user).as_ref(), wanted).unwrap();
        store(&history, &[text(&format!("no {n}"), Some(n))], 1);
        let before = owed(&history);
        assert_eq!(before.len(), count, "{whose:?} {wanted}");
        history
            .receipted(
                ReceiptState::Delivered,
                &before.into_iter().map(|(it, _)| it).collect::<Vec<_>>(),
            )
            .unwrap();
    }
}

#[test]
fn all_that_is_owed_has_its_turn_and_nothing_is_owed_for_ever() {
    let dir = tempfile::tempdir().unwrap();
    let history = open(dir.path());
    let count = view::OWED_COUNT * 2 + 1;
    let said: Vec<Deposit> = (1..).take(count).map(|n| text(&n.to_string(), Some(n))).collect();
    store(&history, &said, 1);
    history
        .lock()
        .execute("UPDATE messages SET sealed = zeroblob(40) WHERE id <= 128", [])
        .unwrap();
    let (mut found, mut after) = (Vec::new(), Some(0));
    while let Some(from) = after {
        let (owed, next) = history.owed(from).unwrap();
        found.push(owed.len());
        after = next;
    }
    assert_eq!(
        found,
        [0, view::OWED_COUNT, 1],
        "what cannot be given stands in nobody's way"
    );
    let age = to_sql(view::OWED_AGE_MAX_MS + 1_000);
    history
        .lock()
        .execute(
            "UPDATE messages SET at = at - ?1 WHERE id < ?2",
            [age, i64::try_from(count).unwrap()],
        )
        .unwrap();
    history.forget_old_receipts().unwrap();
    let (owed, next) = history.owed(0).unwrap();
    assert_eq!((owed.len(), next), (1, None));
}

#[test]
fn words_are_found_in_pages_and_behind_them() {
    let dir = tempfile::tempdir().unwrap();
    let history = open(dir.path());
    let count = search::PAGE_COUNT * 2 + 50;
    let said: Vec<Deposit> = (1..=count)
        .map(|n| text(&format!("Message number{n}x of many"), None))
        .collect();
    store(&history, &said, 1);
    let find = |words: &str| -> Vec<String> {
        let found = history.search(words, 5).unwrap();
        found.into_iter().map(|entry| entry.text).collect()
    };
    for n in [1, search::PAGE_COUNT, search::PAGE_COUNT + 1, count] {
        assert_eq!(
            find(&format!("NUMBER{n}x mess")).last(),
            Some(&format!("Message number{n}x of many")),
            "{n}"
        );
    }
    assert_eq!(find("many").len(), 5, "the last ones");
    assert_eq!(find("many").last(), Some(&format!("Message number{count}x of many")));
    for nothing in ["numbers", "umber1x", "", "?!", "many nothing"] {
        assert!(find(nothing).is_empty(), "{nothing:?}");
    }
}

/// Run by hand: `cargo test -p socp-client --release search_of_100000 -- --ignored --nocapture`.
#[test]
#[ignore = "a measurement"]
fn search_of_100000_messages_is_fast() {
    const VOICES: [&str; 12] = [
        "see", "you", "tomorrow", "at", "the", "station", "with", "tickets", "and", "coffee", "please", "bring",
    ];
    let dir = tempfile::tempdir().unwrap();
    let history = open(dir.path());
    for part in 0..100 {
        let said = |n: usize| {
            let word = |step: usize| VOICES[(n * step) % VOICES.len()];
            text(
                &format!("{} {} {} {} word{n}", word(1), word(5), word(7), word(11)),
                None,
            )
        };
        let said: Vec<Deposit> = (part * 1_000..part * 1_000 + 1_000).map(said).collect();
        store(&history, &said, 1);
    }
    history.search("first", 1).unwrap();
    for words in [
        "word777",
        "tick",
        "station coffee",
        "the word9",
        "t",
        "nothing",
        "stat nothing",
    ] {
        let start = std::time::Instant::now();
        let found = history.search(words, 50).unwrap().len();
        let ms = start.elapsed().as_micros() / 1_000;
        assert!(ms < 2_000, "{words} took {ms} ms and found {found}");
        tracing::warn!("{words}: {found} in {ms} ms");
        #[allow(clippy::print_stderr, reason = "a measurement tells")]
        {
            eprintln!("{words:?}: {found} found in {ms} ms");
        }
    }
}
