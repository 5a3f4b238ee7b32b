//! Messages that cannot be opened yet are kept until they can, and no longer (PROTOCOL II.6).

use super::super::testkit::*;
use super::super::*;
use crate::client::alarm::{Alarm, Teller, TrustRecord};
use socp_proto::payload::{Ack, KeyNews, ListResponse, UserDeliver};
use socp_proto::{Capabilities, CardFingerprint, HISTORY, KeyHistory, KeyText, PublicPair};

/// When a message is said.
const SAID: u64 = 1_699_999_999_000;
/// When a key changes after that.
const CHANGED: u64 = SAID + 500;

fn works(outputs: &[Output]) -> Vec<PostWork> {
    let work = |output: &Output| match output {
        Output::Post(work) => Some(work.clone()),
        _ => None,
    };
    outputs.iter().filter_map(work).collect()
}

/// Alice, whose id is made from key 2.
fn alice() -> UserId {
    UserId::made_from(key(2).fingerprint())
}

fn alice_with(number: u8) -> UserPin {
    UserPin {
        user: alice(),
        pubkey: key(number),
        enc_pubkey: key(number),
        name: Some("alice".to_owned()),
        server_id: None,
        server_name: None,
        version: 1,
        revoked: false,
        acks: false,
        former: Vec::new(),
        numbered_at: 0,
    }
}

fn pair(number: u8) -> PublicPair {
    PublicPair {
        pubkey: key(number),
        enc_pubkey: key(number),
    }
}

/// Alice's keys from the first to the second, changed at this time.
fn history(numbers: [u8; 2], ts: u64) -> KeyHistory {
    let [first, second] = numbers.map(pair);
    let next = KeyHistory::next(&alice(), &first, None, second, ts);
    KeyHistory::begin(first, next).unwrap()
}

fn news(numbers: [u8; 2], ts: u64) -> Payload {
    let (user_id, history) = (alice(), history(numbers, ts));
    Payload::KeyNews(KeyNews { user_id, history })
}

/// Enters, and finds this waiting.
fn enter(kit: &mut Kit, waiting: Vec<(PostId, Held)>) -> Vec<Output> {
    kit.input(Input::Connected { tls: None });
    let caps = Some(Capabilities::of(&[ACK, HISTORY]).unwrap());
    let entered = kit.server_says(Payload::Ack(Ack {
        caps,
        ..ack(SERVER, 200)
    }));
    let asked = works(&entered);
    assert_eq!(asked, [PostWork::Reload, PostWork::Recheck { of: None }]);
    kit.server_says(Payload::ListResponse(ListResponse::default()));
    found(kit, None, waiting)
}

fn found(kit: &mut Kit, of: Option<UserId>, waiting: Vec<(PostId, Held)>) -> Vec<Output> {
    kit.input(Input::Post(PostDone::Waiting {
        of,
        held: Ok(waiting),
        expired: Vec::new(),
    }))
}

/// In, with Alice's key 2 pinned.
fn kit() -> Kit {
    let mut kit = Kit::reading(TrustRecord::default(), vec![alice_with(2)]);
    enter(&mut kit, Vec::new());
    kit
}

/// A message of Alice's with this number, signed with the key that it names.
fn message(number: u8, seq: u64, ts: u64) -> Payload {
    let Payload::UserDeliver(delivery) = deliver(alice().as_str(), 1, u8::try_from(seq).unwrap()) else {
        panic!("it is one");
    };
    Payload::UserDeliver(UserDeliver {
        sender_pub: key(number),
        seq: Some(seq),
        ts: Some(ts),
        ..delivery
    })
}

fn answer(number: Option<u8>) -> Payload {
    pubkey(alice().as_str(), number)
}

/// What is to be opened: with which key, under which ticket.
fn opening(outputs: &[Output]) -> Vec<(KeyText, Ticket)> {
    let open = |output: &Output| match output {
        Output::Open { key, ticket, .. } => Some((key.clone(), *ticket)),
        _ => None,
    };
    outputs.iter().filter_map(open).collect()
}

fn opened(kit: &mut Kit, ticket: Ticket, result: Result<&str, OpenFault>) -> Vec<Output> {
    let result = result.map(str::to_owned);
    kit.input(Input::Opened { ticket, result })
}

/// What is to be written down; it is, with this outcome, and what that leads to.
fn store(kit: &mut Kit, outputs: &[Output], outcome: Outcome) -> (Deposit, Vec<Output>) {
    let done = works(outputs);
    let [PostWork::Store { deposits, .. }] = &done[..] else {
        panic!("{outputs:?}");
    };
    let [deposit] = &deposits[..] else {
        panic!("{deposits:?}");
    };
    let stored = kit.input(Input::Post(PostDone::Stored(Ok(vec![outcome]))));
    (deposit.clone(), stored)
}

/// The same for what is held.
fn hold(kit: &mut Kit, outputs: &[Output]) -> (Held, Vec<Output>) {
    match store(kit, outputs, Outcome::Held { is_first: true }) {
        (Deposit::Hold { held, .. }, stored) => (held, stored),
        (other, _) => panic!("{other:?}"),
    }
}

fn notices(outputs: Vec<Output>) -> Vec<String> {
    let text = |event| match event {
        Event::Notice { text, .. } => Some(text),
        _ => None,
    };
    events(outputs).into_iter().filter_map(text).collect()
}

fn acknowledged(outputs: &[Output]) -> Option<u64> {
    outputs.iter().find_map(|output| match output {
        Output::Send(draft) if draft.kind == FrameKind::Ack => draft.payload.get("up_to")?.as_u64(),
        _ => None,
    })
}

fn new(id: PostId) -> Outcome {
    Outcome::New {
        id,
        is_late: false,
        gap: None,
        wants_receipt: false,
    }
}

/// What was held opens: it is written down in its place, and shown.
fn released(kit: &mut Kit, outputs: &[Output], id: PostId, with: u8) {
    let opening = opening(outputs);
    let [(used, ticket)] = &opening[..] else {
        panic!("{outputs:?}");
    };
    assert_eq!(*used, key(with));
    let opened = opened(kit, *ticket, Ok("at last"));
    let (deposit, stored) = store(kit, &opened, new(9));
    assert!(
        matches!(&deposit, Deposit::Released { id: it, deposit } if *it == id && matches!(**deposit, Deposit::Text(_))),
        "{deposit:?}"
    );
    assert_eq!(acknowledged(&stored), None, "it was long ago");
    let shown = events(stored);
    assert!(
        matches!(&shown[..], [Event::Message(message)] if message.text == "at last"),
        "{shown:?}"
    );
}

#[test]
fn what_a_replaced_key_signed_before_it_was_replaced_is_its_owners() {
    let mut kit = kit();
    kit.server_says(news([2, 66], CHANGED));
    let outputs = kit.server_says(message(2, 1, SAID));
    assert_eq!((sent(&outputs), opening(&outputs)), (vec![], vec![(key(2), 0)]));
    // What was said later is not, and what nobody keeps for us is looked at with the newest key.
    for (seq, late) in [(Some(2), CHANGED + FORMER_KEY_SLACK_MS + 1), (None, SAID)] {
        let Payload::UserDeliver(delivery) = message(2, 2, late) else {
            panic!("it is one");
        };
        let asked = kit.server_says(Payload::UserDeliver(UserDeliver { seq, ..delivery }));
        assert_eq!(
            (sent(&asked), opening(&asked)),
            (vec![FrameKind::PubkeyRequest], vec![])
        );
        let outputs = kit.server_says(answer(Some(66)));
        let [(used, ticket)] = &opening(&outputs)[..] else {
            panic!("{outputs:?}");
        };
        assert_eq!(*used, key(66));
        let refused = opened(&mut kit, *ticket, Err(OpenFault::Signature));
        assert!(notices(refused)[0].contains("was not accepted"));
    }
}

#[test]
fn what_is_signed_with_a_key_that_nobody_has_shown_yet_waits_for_it() {
    let mut kit = kit();
    kit.server_says(message(66, 1, SAID));
    let outputs = kit.server_says(answer(Some(2)));
    assert_eq!(opening(&outputs), [(key(2), 0)]);
    let outputs = opened(&mut kit, 0, Err(OpenFault::Signature));
    let (held, stored) = hold(&mut kit, &outputs);
    assert_eq!((&held.from, &held.sender_pub, held.ts), (&alice(), &key(66), SAID));
    assert_eq!(acknowledged(&stored), Some(1));
    assert!(notices(stored)[0].contains("waits here and is not accepted yet"));
    // The next one is told of by nobody, since the history knows that there is one.
    kit.server_says(message(66, 2, SAID + 1));
    let outputs = kit.server_says(answer(Some(2)));
    assert_eq!(works(&outputs), [PostWork::Recheck { of: Some(alice()) }]);
    let outputs = found(&mut kit, Some(alice()), vec![(7, held.clone())]);
    let tickets: Vec<Ticket> = opening(&outputs).into_iter().map(|(_, ticket)| ticket).collect();
    assert_eq!(tickets.len(), 2, "what waited longer is first, then the new one");
    let outputs = opened(&mut kit, tickets[0], Err(OpenFault::Signature));
    assert!(works(&outputs).is_empty() && events(outputs).is_empty(), "it waits on");
    let outputs = opened(&mut kit, tickets[1], Err(OpenFault::Signature));
    let (_, stored) = store(&mut kit, &outputs, Outcome::Held { is_first: false });
    assert!(events(stored).is_empty());
    // While nothing is new of her keys, nothing is looked at again.
    kit.server_says(message(66, 3, SAID + 2));
    let outputs = kit.server_says(answer(Some(2)));
    let [(_, ticket)] = &opening(&outputs)[..] else {
        panic!("{outputs:?}");
    };
    let outputs = opened(&mut kit, *ticket, Err(OpenFault::Decrypt));
    store(&mut kit, &outputs, Outcome::Done);
    let outputs = kit.server_says(news([2, 66], CHANGED));
    assert_eq!(works(&outputs), [PostWork::Recheck { of: Some(alice()) }]);
    let outputs = found(&mut kit, Some(alice()), vec![(7, held.clone())]);
    // Nor is it opened twice, whoever asks.
    let again = found(&mut kit, Some(alice()), vec![(7, held)]);
    assert!(opening(&again).is_empty(), "{again:?}");
    released(&mut kit, &outputs, 7, 66);
}

#[test]
fn a_key_that_comes_while_the_one_before_is_tried_is_tried_next() {
    let mut kit = kit();
    kit.server_says(message(66, 1, SAID));
    kit.server_says(answer(Some(2)));
    kit.server_says(news([2, 66], CHANGED));
    let outputs = opened(&mut kit, 0, Err(OpenFault::Signature));
    assert_eq!(opening(&outputs), [(key(66), 1)]);
    let outputs = opened(&mut kit, 1, Err(OpenFault::Signature));
    assert!(notices(outputs)[0].contains("was not accepted"), "now it is a forgery");
}

fn alarm() -> TrustRecord {
    let alarm = Alarm {
        user: alice(),
        seen: CardFingerprint::of(&key(3), &key(3)),
        keys: Some((key(3), key(3))),
        teller: Teller::Server,
    };
    TrustRecord {
        alarms: vec![alarm],
        ..TrustRecord::default()
    }
}

#[test]
fn what_comes_while_its_author_is_in_doubt_waits_for_the_decision() {
    let mut kit = Kit::reading(alarm(), vec![alice_with(2)]);
    enter(&mut kit, Vec::new());
    let outputs = kit.server_says(message(2, 1, SAID));
    let (held, stored) = hold(&mut kit, &outputs);
    assert_eq!(acknowledged(&stored), Some(1));
    let told = notices(stored);
    for words in ["is not accepted yet", "socp key accept", "socp key keep"] {
        assert!(told[0].contains(words), "{told:?}");
    }
    // A new start ends no alarm, and looks at nothing.
    let mut kit = Kit::reading(alarm(), vec![alice_with(2)]);
    let outputs = enter(&mut kit, vec![(7, held.clone()), (8, held.clone())]);
    assert!(outputs.is_empty(), "{outputs:?}");
    let outputs = kit.input(Input::Decided {
        trust: TrustRecord::default(),
        pins: vec![alice_with(2)],
    });
    assert_eq!(works(&outputs), [PostWork::Recheck { of: Some(alice()) }]);
    let outputs = found(&mut kit, Some(alice()), vec![(7, held)]);
    released(&mut kit, &outputs, 7, 2);
}

#[test]
fn whoever_takes_the_other_key_has_decided_against_what_the_old_one_signed() {
    let mut kit = Kit::reading(alarm(), vec![alice_with(2)]);
    enter(&mut kit, Vec::new());
    let outputs = kit.server_says(message(2, 1, SAID));
    let (old, _) = hold(&mut kit, &outputs);
    let outputs = kit.server_says(message(3, 2, SAID + 1));
    let (new, _) = hold(&mut kit, &outputs);
    kit.input(Input::Decided {
        trust: TrustRecord {
            denied: vec![(alice(), key(2).fingerprint())],
            ..TrustRecord::default()
        },
        pins: vec![alice_with(3)],
    });
    let outputs = found(&mut kit, Some(alice()), vec![(7, old), (8, new)]);
    let tickets = opening(&outputs);
    assert_eq!(
        tickets.iter().map(|(used, _)| used).collect::<Vec<_>>(),
        [&key(3), &key(3)]
    );
    let outputs = opened(&mut kit, tickets[0].1, Err(OpenFault::Signature));
    let is_notice = |work: &PostWork| {
        matches!(work, PostWork::Store { deposits, .. }
            if matches!(&deposits[..], [Deposit::Released { id: 7, deposit }] if matches!(**deposit, Deposit::Notice { .. })))
    };
    let mut outputs = outputs;
    outputs.extend(kit.wait(50));
    assert!(works(&outputs).iter().any(is_notice), "{outputs:?}");
    assert!(notices(outputs)[0].contains("was not accepted"));
}

#[test]
fn whoever_goes_by_a_card_has_the_key_asked_for_that_it_promises() {
    let mut kit = Kit::reading(alarm(), vec![alice_with(2)]);
    enter(&mut kit, Vec::new());
    let outputs = kit.server_says(message(3, 1, SAID));
    let (held, _) = hold(&mut kit, &outputs);
    let promised = CardFingerprint::of(&key(3), &key(3));
    kit.input(Input::Decided {
        trust: TrustRecord {
            denied: vec![(alice(), key(2).fingerprint())],
            expected: [(alice(), promised)].into(),
            ..TrustRecord::default()
        },
        pins: Vec::new(),
    });
    let outputs = found(&mut kit, Some(alice()), vec![(7, held.clone())]);
    assert_eq!(
        (sent(&outputs), opening(&outputs)),
        (vec![FrameKind::PubkeyRequest], vec![])
    );
    let outputs = kit.server_says(answer(Some(3)));
    assert_eq!(works(&outputs), [PostWork::Recheck { of: Some(alice()) }]);
    let outputs = found(&mut kit, Some(alice()), vec![(7, held)]);
    released(&mut kit, &outputs, 7, 3);
}

#[test]
fn a_key_that_was_decided_against_is_not_a_former_one_whatever_history_names_it() {
    let denied = TrustRecord {
        denied: vec![(alice(), key(2).fingerprint())],
        ..TrustRecord::default()
    };
    let mut kit = Kit::reading(denied, vec![alice_with(66)]);
    enter(&mut kit, Vec::new());
    kit.server_says(news([2, 66], CHANGED));
    kit.server_says(message(2, 1, SAID));
    let outputs = kit.server_says(answer(Some(66)));
    assert_eq!(opening(&outputs), [(key(66), 0)]);
    let refused = opened(&mut kit, 0, Err(OpenFault::Signature));
    assert!(notices(refused)[0].contains("was not accepted"));
}

#[test]
fn a_key_that_is_not_to_be_had_is_waited_for_and_asked_for_at_the_next_start() {
    let mut kit = Kit::reading(TrustRecord::default(), Vec::new());
    enter(&mut kit, Vec::new());
    kit.server_says(message(66, 1, SAID));
    assert!(
        works(&kit.wait(ANSWER_WAIT_MAX_MS)).is_empty(),
        "one lost answer is none"
    );
    let outputs = kit.wait(ANSWER_WAIT_MAX_MS);
    let (held, stored) = hold(&mut kit, &outputs);
    assert!(notices(stored)[0].contains("their key is not to be had"));
    // Somebody else's, who is told of by the list, may have come back.
    let mut kit = Kit::reading(TrustRecord::default(), Vec::new());
    let outputs = enter(&mut kit, vec![(7, held.clone())]);
    assert_eq!(sent(&outputs), [FrameKind::PubkeyRequest]);
    let Payload::PubkeyResponse(shown) = answer(Some(66)) else {
        panic!("it is one");
    };
    let history = Some(history([2, 66], CHANGED));
    let outputs = kit.server_says(Payload::PubkeyResponse(PubkeyResponse { history, ..shown }));
    assert_eq!(works(&outputs), [PostWork::Recheck { of: Some(alice()) }]);
    let outputs = found(&mut kit, Some(alice()), vec![(7, held)]);
    released(&mut kit, &outputs, 7, 66);
}

#[test]
fn whose_id_is_made_from_the_key_is_read_in_the_end_where_no_server_remembers_them() {
    let held = Held {
        from: alice(),
        sender_pub: key(2),
        ciphertext: socp_proto::Base64Url::encode(&[7; 512]),
        content_sig: socp_proto::Base64Url::encode(&[1; 8]),
        ts: SAID,
        at: CHANGED,
    };
    let mut kit = Kit::reading(TrustRecord::default(), Vec::new());
    enter(&mut kit, vec![(7, held.clone())]);
    // One that has come meanwhile is behind it.
    kit.server_says(message(2, 1, SAID + 1));
    let outputs = kit.server_says(answer(None));
    assert_eq!(works(&outputs), [PostWork::Recheck { of: Some(alice()) }]);
    let outputs = found(&mut kit, Some(alice()), vec![(7, held)]);
    assert_eq!(opening(&outputs), [(key(2), 0), (key(2), 1)]);
}

#[test]
fn withdrawn_keys_end_the_waiting() {
    let mut kit = kit();
    kit.server_says(message(66, 1, SAID));
    kit.server_says(answer(Some(2)));
    let outputs = opened(&mut kit, 0, Err(OpenFault::Signature));
    let (held, _) = hold(&mut kit, &outputs);
    let outputs = kit.server_says(news([2, 2], CHANGED));
    assert_eq!(works(&outputs), [PostWork::Recheck { of: Some(alice()) }]);
    let outputs = found(&mut kit, Some(alice()), vec![(7, held)]);
    assert!(opening(&outputs).is_empty());
    assert!(notices(outputs)[0].contains("withdrawn"));
}

#[test]
fn what_can_never_be_opened_is_refused_at_once_and_so_is_what_there_is_no_room_for() {
    let table = [
        (2, OpenFault::Signature),
        (2, OpenFault::Decrypt),
        (2, OpenFault::NotText),
        (66, OpenFault::Decrypt),
    ];
    for (number, fault) in table {
        let mut kit = kit();
        kit.server_says(message(number, 1, SAID));
        kit.server_says(answer(Some(2)));
        let outputs = opened(&mut kit, 0, Err(fault.clone()));
        assert!(notices(outputs.clone())[0].contains(&fault.to_string()));
        let (deposit, stored) = store(&mut kit, &outputs, Outcome::Done);
        assert!(matches!(deposit, Deposit::Notice { .. }), "{deposit:?}");
        assert_eq!(acknowledged(&stored), Some(1));
    }
    let mut kit = Kit::reading(alarm(), vec![alice_with(2)]);
    enter(&mut kit, Vec::new());
    let outputs = kit.server_says(message(2, 1, SAID));
    let (_, stored) = store(&mut kit, &outputs, Outcome::NoRoom);
    assert_eq!(acknowledged(&stored), Some(1), "never a wedge");
    assert!(notices(stored)[0].contains("was not accepted: another key"));
}

/// A message of somebody's whom nobody knows; no two of them are the same.
fn strangers(number: u64) -> Held {
    Held {
        from: UserId::try_from(format!("stranger-{number:03}").as_str()).unwrap(),
        sender_pub: key(66),
        ciphertext: socp_proto::Base64Url::encode(&[7; 512]),
        content_sig: socp_proto::Base64Url::encode(&[1; 8]),
        ts: SAID,
        at: CHANGED,
    }
}

/// Whose keys are asked for.
fn asked(outputs: &[Output]) -> Vec<String> {
    let user = |output: &Output| match output {
        Output::Send(draft) if draft.kind == FrameKind::PubkeyRequest => {
            Some(draft.payload["user_id"].as_str().unwrap().to_owned())
        }
        _ => None,
    };
    outputs.iter().filter_map(user).collect()
}

#[test]
fn a_crowd_of_made_up_authors_keeps_nobodys_key_from_being_asked_for() {
    let crowd: Vec<(PostId, Held)> = (0..150).map(|number| (number, strangers(number))).collect();
    let mut kit = Kit::reading(TrustRecord::default(), Vec::new());
    let mut all = std::collections::BTreeMap::<String, usize>::new();
    for _ in 0..3 {
        let asked = asked(&enter(&mut kit, crowd.clone()));
        assert_eq!(asked.len(), 64, "so many on each link");
        for user in asked {
            *all.entry(user).or_default() += 1;
        }
        kit.input(Input::Disconnected {
            reason: "it broke".to_owned(),
        });
    }
    // On three links there is room for 192: everybody is asked for once, and some for a second time.
    assert_eq!((all.len(), all.values().max()), (150, Some(&2)));
    // Where another program begins is not always the same place.
    let first = |later: u64| {
        let mut kit = Kit::reading(TrustRecord::default(), Vec::new());
        kit.now.unix += later;
        asked(&enter(&mut kit, crowd.clone()))
    };
    assert_ne!(first(0), first(64));
}

#[test]
fn what_was_released_and_found_no_room_before_the_disk_is_looked_at_again() {
    let held = Held {
        sender_pub: key(2),
        from: alice(),
        ..strangers(0)
    };
    let crowd: Vec<(PostId, Held)> = (1..=1_100).map(|id| (id, held.clone())).collect();
    let mut kit = Kit::reading(TrustRecord::default(), vec![alice_with(2)]);
    let outputs = enter(&mut kit, crowd.clone());
    // The first is being written when the others are opened.
    let mut stored = Vec::new();
    for (_, ticket) in opening(&outputs) {
        stored.extend(works(&opened(&mut kit, ticket, Ok("at last"))));
        if stored.is_empty() {
            stored.extend(works(&kit.wait(50)));
        }
    }
    let written = |works: &[PostWork]| match works {
        [PostWork::Store { deposits, .. }] => deposits.len(),
        other => panic!("{other:?}"),
    };
    assert_eq!(written(&stored), 1);
    let mut done = |count: usize| {
        let outcomes = (0..count).map(|_| Outcome::Done).collect();
        works(&kit.input(Input::Post(PostDone::Stored(Ok(outcomes)))))
    };
    let next = done(1);
    let (again, next): (Vec<_>, Vec<_>) = next
        .into_iter()
        .partition(|work| matches!(work, PostWork::Recheck { .. }));
    assert_eq!((again, written(&next)), (vec![PostWork::Recheck { of: None }], 1_024));
    assert_eq!(done(1_024), []);
    // 75 found no room, and 1,025 are gone by now.
    let outputs = found(&mut kit, None, crowd.into_iter().skip(1_025).collect());
    assert_eq!(opening(&outputs).len(), 75);
}

#[test]
fn a_decision_that_falls_while_a_message_is_written_down_is_not_missed() {
    for decides_first in [true, false] {
        let mut kit = Kit::reading(alarm(), vec![alice_with(2)]);
        enter(&mut kit, Vec::new());
        let mut outputs = kit.server_says(message(2, 1, SAID));
        let decided = Input::Decided {
            trust: TrustRecord::default(),
            pins: vec![alice_with(2)],
        };
        if decides_first {
            outputs.extend(kit.input(decided));
            let (held, stored) = hold(&mut kit, &outputs);
            assert_eq!(works(&stored), [PostWork::Recheck { of: Some(alice()) }]);
            let outputs = found(&mut kit, Some(alice()), vec![(7, held)]);
            released(&mut kit, &outputs, 7, 2);
        } else {
            let (_, stored) = hold(&mut kit, &outputs);
            assert_eq!(works(&stored), []);
            assert_eq!(works(&kit.input(decided)), [PostWork::Recheck { of: Some(alice()) }]);
        }
    }
}

#[test]
fn a_key_that_comes_while_a_message_is_written_down_is_not_missed_even_where_others_wait() {
    let mut kit = kit();
    kit.server_says(message(66, 1, SAID));
    kit.server_says(answer(Some(2)));
    let outputs = opened(&mut kit, 0, Err(OpenFault::Signature));
    let (first, _) = hold(&mut kit, &outputs);
    kit.server_says(message(66, 2, SAID + 1));
    kit.server_says(answer(Some(2)));
    found(&mut kit, Some(alice()), vec![(7, first.clone())]);
    opened(&mut kit, 1, Err(OpenFault::Signature));
    let second = opened(&mut kit, 2, Err(OpenFault::Signature));
    assert!(matches!(&works(&second)[..], [PostWork::Store { .. }]), "{second:?}");
    // The new key is known, and all that waits is read, before the second is there.
    let outputs = kit.server_says(news([2, 66], CHANGED));
    assert_eq!(works(&outputs), [PostWork::Recheck { of: Some(alice()) }]);
    found(&mut kit, Some(alice()), vec![(7, first)]);
    let (_, stored) = store(&mut kit, &second, Outcome::Held { is_first: false });
    assert_eq!(works(&stored), [PostWork::Recheck { of: Some(alice()) }]);
}
