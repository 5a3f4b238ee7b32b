//! The hard stop, what others say of a key, and the marks beside a name (PROTOCOL II.11).

use super::super::testkit::*;
use super::*;
use crate::client::alarm::{Alarm, Teller, TrustNews, TrustRecord};
use crate::client::trust::Trust;
use socp_proto::{Card, CardFingerprint, KeyHistory, PublicPair};

const BOB: &str = "bob-id";

fn print_of(number: u8) -> CardFingerprint {
    CardFingerprint::of(&key(number), &key(number))
}

fn card(user_id: &str, number: u8) -> String {
    Card::new(user(user_id), "srv", 1, None, print_of(number))
        .unwrap()
        .to_string()
}

fn opened(kit: &mut Kit, ticket: Ticket, text: &str) -> Vec<Output> {
    let result = Ok(text.to_owned());
    kit.input(Input::Opened { ticket, result })
}

fn alarms(outputs: &[Output]) -> Vec<&Alarm> {
    let alarm = |output| match output {
        &Output::SaveTrust(TrustNews::Alarm(ref alarm)) => Some(alarm),
        _ => None,
    };
    outputs.iter().filter_map(alarm).collect()
}

fn trust_in(kit: &mut Kit, id: &str) -> Trust {
    let told = events(kit.input(Input::Command(Command::Resolve {
        ticket: 900,
        text: id.to_owned(),
    })));
    match &told[..] {
        [Event::Resolved { result: Ok(person), .. }] => person.standing.trust,
        other => panic!("{other:?}"),
    }
}

fn with(record: TrustRecord, pins: &[(&str, u8)]) -> Kit {
    let pin = |(id, number): &(&str, u8)| UserPin {
        user: user(id),
        pubkey: key(*number),
        enc_pubkey: key(*number),
        name: Some(id.trim_end_matches("-id").to_owned()),
        server_id: None,
        server_name: None,
        version: 1,
        revoked: false,
        acks: false,
        former: Vec::new(),
        numbered_at: 0,
    };
    Kit::knowing(record, pins.iter().map(pin).collect())
}

#[test]
fn a_changed_key_stops_what_is_under_way_and_no_later_frame_ends_that() {
    let mut kit = Kit::with_alice();
    assert_eq!(trust_in(&mut kit, ALICE), Trust::Pinned);
    // One message is being opened, one of ours sealed, one sent already.
    kit.server_says(deliver(ALICE, 1, 1));
    kit.tell(1, ALICE, "sealing");
    kit.tell(2, ALICE, "sent");
    kit.sealed(2);
    let outputs = kit.server_says(advertise(ALICE, 3));
    assert_eq!(alarms(&outputs).len(), 1);
    let told = events(outputs);
    assert!(matches!(&told[0], Event::KeyChanged { alarm, known }
        if alarm.seen == print_of(3) && alarm.teller == Teller::Server && *known == Some(print_of(2))));
    assert!(told.iter().any(|it| matches!(
        it,
        Event::Failed {
            ticket: 1,
            why: TellFault::KeyChanged { .. }
        }
    )));
    assert!(!told.iter().any(|it| matches!(it, Event::Failed { ticket: 2, .. })));
    assert!(events(opened(&mut kit, 0, "hi")).is_empty());
    // What was taken before is told as such; the true key again ends nothing.
    assert!(matches!(
        &events(kit.server_says(pubkey(ALICE, Some(2))))[..],
        [Event::Sent { ticket: 2, .. }]
    ));
    kit.server_says(advertise(ALICE, 2));
    assert!(matches!(
        failure_of(kit.tell(3, ALICE, "x")),
        Some(TellFault::KeyChanged { .. })
    ));
    let said = kit.server_says(deliver(ALICE, 1, 2));
    assert!(matches!(&said[..], [Output::Event(Event::Notice { .. })]), "{said:?}");
    assert_eq!(trust_in(&mut kit, ALICE), Trust::Changed);
    // It is told once.
    assert!(
        kit.server_says(advertise(ALICE, 3))
            .iter()
            .all(|it| !matches!(it, Output::Event(Event::KeyChanged { .. })))
    );
}

#[test]
fn an_alarm_of_before_still_stops_and_a_refused_key_does_not_any_more() {
    let alarm = Alarm {
        user: user(ALICE),
        seen: print_of(3),
        keys: Some((key(3), key(3))),
        teller: Teller::Server,
    };
    let record = TrustRecord {
        alarms: vec![alarm],
        verified: [user(ALICE)].into(),
        ..TrustRecord::default()
    };
    let mut kit = with(record, &[(ALICE, 2)]);
    assert_eq!(trust_in(&mut kit, ALICE), Trust::Changed);
    assert!(matches!(
        failure_of(kit.tell(1, ALICE, "x")),
        Some(TellFault::KeyChanged { .. })
    ));

    let record = TrustRecord {
        refused: vec![(user(ALICE), print_of(3), Teller::Server)],
        verified: [user(ALICE)].into(),
        ..TrustRecord::default()
    };
    let mut kit = with(record, &[(ALICE, 2)]);
    assert!(alarms(&kit.server_says(advertise(ALICE, 3))).is_empty());
    assert_eq!(trust_in(&mut kit, ALICE), Trust::Verified);
    // It goes to the known key, whatever the server shows.
    assert!(matches!(&kit.tell(1, ALICE, "x")[..], [Output::Seal { key: used, .. }] if *used == key(2)));
    assert_eq!(alarms(&kit.server_says(advertise(ALICE, 4))).len(), 1);
}

#[test]
fn the_first_key_must_fit_the_card_and_is_then_verified() {
    let record = || TrustRecord {
        expected: [(user(ALICE), print_of(2))].into(),
        ..TrustRecord::default()
    };
    let mut kit = with(record(), &[]);
    assert_eq!(trust_in_unknown(&mut kit), Trust::New);
    let outputs = kit.server_says(advertise(ALICE, 2));
    assert!(
        outputs
            .iter()
            .any(|it| matches!(it, Output::SaveTrust(TrustNews::Verified(pin)) if pin.user == user(ALICE)))
    );
    assert_eq!(trust_in(&mut kit, ALICE), Trust::Verified);

    let mut kit = with(record(), &[]);
    kit.tell(1, ALICE, "waits for the key");
    let outputs = kit.server_says(pubkey(ALICE, Some(3)));
    assert_eq!(alarms(&outputs).len(), 1);
    assert!(
        !outputs
            .iter()
            .any(|it| matches!(it, Output::SaveUser(_) | Output::Seal { .. }))
    );
    assert!(matches!(failure_of(outputs), Some(TellFault::KeyChanged { .. })));
    // Not even the right one is taken before the user has decided.
    kit.server_says(advertise(ALICE, 2));
    assert!(matches!(
        failure_of(kit.tell(2, ALICE, "x")),
        Some(TellFault::KeyChanged { .. })
    ));
}

#[test]
fn a_card_for_keys_that_were_replaced_finds_the_newer_ones_and_verifies_nothing() {
    let record = TrustRecord {
        expected: [(user(ALICE), print_of(2))].into(),
        ..TrustRecord::default()
    };
    let mut kit = with(record, &[]);
    let pair = |number| PublicPair {
        pubkey: key(number),
        enc_pubkey: key(number),
    };
    let next = KeyHistory::next(&user(ALICE), &pair(2), None, pair(66), 7);
    let Payload::UserAdvertise(advert) = advertise(ALICE, 66) else {
        panic!("no advertisement");
    };
    let history = Some(KeyHistory::begin(pair(2), next).unwrap());
    let outputs = kit.server_says(Payload::UserAdvertise(UserAdvertise { history, ..advert }));
    assert!(alarms(&outputs).is_empty());
    assert_eq!(trust_in(&mut kit, ALICE), Trust::Pinned);
}

fn trust_in_unknown(kit: &mut Kit) -> Trust {
    let mut shown = Event::Presence(Person {
        user_id: user(ALICE),
        name: None,
        server_id: None,
        server_name: None,
        online: true,
        standing: Standing::default(),
    });
    crate::client::trust::mark(&mut shown, &user(ME), &kit.client.pins, &kit.client.likenesses);
    match shown {
        Event::Presence(person) => person.standing.trust,
        other => panic!("{other:?}"),
    }
}

#[test]
fn another_server_confirms_or_raises_the_alarm() {
    let mut kit = Kit::with_alice();
    let vouched = |number: u8, by: &str| Input::Vouched {
        user: user(ALICE),
        keys: (key(number), key(number)),
        history: None,
        by: by.to_owned(),
    };
    for (by, count) in [("ws://b", 1), ("ws://b", 1), ("ws://c", 2)] {
        kit.input(vouched(2, by));
        let told = events(kit.input(Input::Command(Command::List { ticket: 9 })));
        let [Event::Listed { result: Ok(people), .. }] = &told[..] else {
            panic!("{told:?}")
        };
        assert_eq!(people[0].standing.confirmed_count, count);
    }
    let outputs = kit.input(vouched(3, "ws://d"));
    assert_eq!(alarms(&outputs)[0].teller, Teller::OtherServer("ws://d".to_owned()));
    assert_eq!(trust_in(&mut kit, ALICE), Trust::Changed);
    // About somebody unknown nothing is learned.
    let about_nobody = Input::Vouched {
        user: user(BOB),
        keys: (key(1), key(1)),
        history: None,
        by: String::new(),
    };
    assert!(kit.input(about_nobody).is_empty());
}

#[test]
fn other_servers_are_asked_at_first_contact_only() {
    let mut kit = Kit::online();
    kit.tell(1, ALICE, "hi");
    let is_ask = |it: &Output| matches!(it, Output::AskElsewhere(who) if *who == user(ALICE));
    assert!(kit.server_says(pubkey(ALICE, Some(2))).iter().any(is_ask));
    kit.tell(2, ALICE, "hi");
    assert!(!kit.server_says(pubkey(ALICE, Some(2))).iter().any(is_ask));
}

#[test]
fn a_card_from_a_contact_is_compared_with_what_is_pinned() {
    let verified = TrustRecord {
        verified: [user(ALICE)].into(),
        ..TrustRecord::default()
    };
    let mut kit = with(verified.clone(), &[(ALICE, 2), (BOB, 3)]);
    kit.server_says(deliver(ALICE, 1, 1));
    let outputs = opened(&mut kit, 0, &format!("Bob: {}", card(BOB, 3)));
    let is_confirmed = |it: &Output| matches!(it, Output::SaveTrust(TrustNews::Confirmed { teller: Teller::Contact(who), .. }) if *who == user(ALICE));
    assert!(outputs.iter().any(is_confirmed), "{outputs:?}");
    kit.server_says(deliver(ALICE, 1, 2));
    let outputs = opened(&mut kit, 1, &card(BOB, 4));
    assert_eq!(alarms(&outputs)[0].teller, Teller::Contact(user(ALICE)));
    assert_eq!(trust_in(&mut kit, BOB), Trust::Changed);
    // Of oneself, of the author and of strangers nothing is learned.
    for (ticket, id) in [(2, ME), (3, ALICE), (4, "carol-id")] {
        kit.server_says(deliver(ALICE, 1, 10 + u8::try_from(ticket).unwrap()));
        assert!(alarms(&opened(&mut kit, ticket, &card(id, 9))).is_empty());
    }

    // A stranger's card parts nobody.
    let mut kit = with(TrustRecord::default(), &[(ALICE, 2), (BOB, 3)]);
    kit.server_says(deliver(ALICE, 1, 1));
    let outputs = opened(&mut kit, 0, &card(BOB, 4));
    assert!(alarms(&outputs).is_empty());
    assert!(
        matches!(&events(outputs)[..], [Event::Message(_), Event::Notice { from: Some(who), .. }] if *who == user(ALICE))
    );
    assert_eq!(trust_in(&mut kit, BOB), Trust::Pinned);

    // Whoever was wrong about somebody once is not listened to about them any more.
    let record = TrustRecord {
        refused: vec![(user(BOB), print_of(4), Teller::Contact(user(ALICE)))],
        ..verified
    };
    let mut kit = with(record, &[(ALICE, 2), (BOB, 3)]);
    kit.server_says(deliver(ALICE, 1, 1));
    assert!(alarms(&opened(&mut kit, 0, &card(BOB, 5))).is_empty());
}

#[test]
fn who_looks_like_somebody_known_is_marked_unless_the_other_is_the_doubtful_one() {
    let record = TrustRecord {
        verified: [user(BOB)].into(),
        ..TrustRecord::default()
    };
    let mut kit = with(record, &[(BOB, 3), ("b\u{30}b-id", 4)]);
    let looks = |kit: &mut Kit, id: &str| {
        let text = id.to_owned();
        let told = events(kit.input(Input::Command(Command::Resolve { ticket: 1, text })));
        match &told[..] {
            [Event::Resolved { result: Ok(person), .. }] => person.standing.looks_like.clone(),
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(looks(&mut kit, "b0b-id"), Some(user(BOB)));
    assert_eq!(looks(&mut kit, BOB), None);
    // Before any key of theirs is known, too.
    let Payload::UserAdvertise(mut advert) = advertise("eve-id", 5) else {
        panic!("it is one");
    };
    advert.pubkey = None;
    advert.meta = socp_proto::Meta::named(Some("b\u{43e}b"), None).unwrap();
    let told = events(kit.server_says(Payload::UserAdvertise(advert)));
    assert!(
        matches!(&told[..], [Event::Presence(person)] if person.standing.looks_like.is_some()),
        "{told:?}"
    );
}

#[test]
fn a_server_with_another_key_is_remembered_and_stopped_at() {
    let mut kit = Kit::new(Some(server_pin()));
    kit.input(Input::Connected { tls: None });
    let outputs = kit.input(Input::Unverified(frame_to(SERVER, ME, Payload::Ack(ack(SERVER, 201)))));
    assert!(
        outputs
            .iter()
            .any(|it| matches!(it, Output::SaveTrust(TrustNews::ServerChanged(pin)) if pin.key == key(201)))
    );
    assert!(matches!(stop_of(outputs), Some(Stop::ServerKeyChanged { .. })));
}

#[test]
fn a_decision_in_another_program_counts_at_once() {
    let mut kit = Kit::with_alice();
    kit.server_says(advertise(ALICE, 3));
    assert_eq!(kit.client.alarmed().cloned().collect::<Vec<_>>(), [user(ALICE)]);
    let pin = UserPin {
        user: user(ALICE),
        pubkey: key(3),
        enc_pubkey: key(3),
        name: None,
        server_id: None,
        server_name: None,
        version: 1,
        revoked: false,
        acks: false,
        former: Vec::new(),
        numbered_at: 0,
    };
    kit.input(Input::Decided {
        trust: TrustRecord::default(),
        pins: vec![pin],
    });
    assert_eq!(trust_in(&mut kit, ALICE), Trust::Pinned);
    assert!(matches!(&kit.tell(1, ALICE, "x")[..], [Output::Seal { key: used, .. }] if *used == key(3)));
    // Where only a card is left, the key is asked for again.
    kit.server_says(advertise(ALICE, 4));
    kit.input(Input::Decided {
        trust: TrustRecord {
            expected: [(user(ALICE), print_of(5))].into(),
            ..TrustRecord::default()
        },
        pins: Vec::new(),
    });
    assert_eq!(sent(&kit.tell(2, ALICE, "x")), [FrameKind::PubkeyRequest]);
}
