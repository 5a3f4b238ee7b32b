//! Whose newer keys are followed, and changing our own account (PROTOCOL II.13).

use super::super::testkit::*;
use super::super::*;
use socp_proto::payload::{Ack, ListResponse};
use socp_proto::{Capabilities, HISTORY, KeyHistory, KeyText, PublicPair};

fn pair(number: u8) -> PublicPair {
    PublicPair {
        pubkey: key(number),
        enc_pubkey: key(number),
    }
}

fn history(id: &str, numbers: [u8; 2]) -> KeyHistory {
    let [first, second] = numbers.map(pair);
    let next = KeyHistory::next(&user(id), &first, None, second, 7);
    KeyHistory::begin(first, next).unwrap()
}

/// With Alice's key 2 pinned, at a server that takes histories, and what it lists.
fn kit(online: Vec<OnlineUser>) -> (Kit, Vec<Output>) {
    let mut kit = Kit::new(Some(server_pin()));
    kit.input(Input::Connected { tls: None });
    let ack = Ack {
        caps: Some(Capabilities::of(&[HISTORY]).unwrap()),
        ..ack(SERVER, 200)
    };
    kit.server_says(Payload::Ack(ack));
    kit.server_says(advertise(ALICE, 2));
    let users = online.iter().map(|online| online.user_id.clone()).collect();
    let more = false;
    let listed = kit.server_says(Payload::ListResponse(ListResponse { users, online, more }));
    (kit, listed)
}

fn answer(number: u8, history: Option<KeyHistory>) -> Payload {
    match pubkey(ALICE, Some(number)) {
        Payload::PubkeyResponse(answer) => Payload::PubkeyResponse(PubkeyResponse { history, ..answer }),
        other => panic!("{other:?}"),
    }
}

fn saved(outputs: &[Output]) -> Vec<(KeyText, u64)> {
    let pin = |output: &Output| match output {
        Output::SaveUser(pin) => Some((pin.pubkey.clone(), pin.version)),
        _ => None,
    };
    outputs.iter().filter_map(pin).collect()
}

fn used(outputs: &[Output]) -> Vec<KeyText> {
    let key = |output: &Output| match output {
        Output::Open { key, .. } | Output::Seal { key, .. } => Some(key.clone()),
        _ => None,
    };
    outputs.iter().filter_map(key).collect()
}

fn notices(outputs: Vec<Output>) -> Vec<String> {
    let text = |event| match event {
        Event::Notice { text, .. } => Some(text),
        _ => None,
    };
    events(outputs).into_iter().filter_map(text).collect()
}

#[test]
fn what_names_another_signer_waits_for_the_newer_key_and_is_verified_with_it() {
    let (mut kit, _) = kit(Vec::new());
    let outputs = kit.server_says(deliver(ALICE, 1, 1));
    assert_eq!(
        (sent(&outputs), used(&outputs)),
        (vec![FrameKind::PubkeyRequest], vec![])
    );
    let outputs = kit.server_says(answer(66, Some(history(ALICE, [2, 66]))));
    assert_eq!((saved(&outputs), used(&outputs)), (vec![(key(66), 2)], vec![key(66)]));
    assert!(notices(outputs)[0].contains("new keys"));
    // Known from now on.
    let outputs = kit.server_says(deliver(ALICE, 1, 2));
    assert_eq!((sent(&outputs), used(&outputs)), (vec![], vec![key(66)]));
}

#[test]
fn without_a_history_that_leads_there_the_pin_stays_and_nothing_is_shown() {
    for shown in [None, Some(history(ALICE, [3, 66])), Some(history("eve-id", [2, 66]))] {
        let (mut kit, _) = kit(Vec::new());
        kit.server_says(deliver(ALICE, 1, 1));
        let outputs = kit.server_says(answer(66, shown.clone()));
        assert_eq!((saved(&outputs), used(&outputs)), (vec![], vec![]), "{shown:?}");
        assert!(notices(outputs).iter().any(|text| text.contains("not accepted")));
        // Nothing goes on with them until the user has decided, and nobody is asked again.
        let outputs = kit.server_says(deliver(ALICE, 1, 2));
        assert_eq!((sent(&outputs), used(&outputs)), (vec![], vec![]));
    }
}

#[test]
fn nothing_is_encrypted_to_keys_that_the_list_calls_old() {
    let newer = OnlineUser {
        version: Some(2),
        ..online_user(ALICE)
    };
    let (mut kit, listed) = kit(vec![newer]);
    assert_eq!(sent(&listed), [FrameKind::PubkeyRequest], "asked for at once");
    let outputs = kit.tell(1, ALICE, "hello");
    assert_eq!(used(&outputs), []);
    let outputs = kit.server_says(answer(66, Some(history(ALICE, [2, 66]))));
    assert_eq!(used(&outputs), [key(66)]);
}

#[test]
fn news_of_keys_count_for_who_is_pinned_and_are_no_answers() {
    let (mut kit, _) = kit(Vec::new());
    kit.tell(1, ALICE, "hello");
    assert_eq!(sent(&kit.sealed(1)), [FrameKind::MsgDirect, FrameKind::PubkeyRequest]);
    let news = |id: &str, numbers| {
        let (user_id, history) = (user(id), history(id, numbers));
        Payload::KeyNews(KeyNews { user_id, history })
    };
    let outputs = kit.server_says(news(ALICE, [2, 66]));
    assert_eq!(saved(&outputs), [(key(66), 2)]);
    let is_sent = |event: &Event| matches!(event, Event::Sent { .. });
    assert!(!events(outputs).iter().any(is_sent), "the fence is not answered");
    assert_eq!(saved(&kit.server_says(news("eve-id", [3, 4]))), []);
    assert!(events(kit.server_says(answer(66, None))).iter().any(is_sent));
}

#[test]
fn withdrawn_keys_are_told_once_and_nothing_is_sent_to_them() {
    let (mut kit, _) = kit(Vec::new());
    let (user_id, history) = (user(ALICE), history(ALICE, [2, 2]));
    let outputs = kit.server_says(Payload::KeyNews(KeyNews { user_id, history }));
    assert_eq!(saved(&outputs), [(key(2), 2)]);
    assert!(notices(outputs)[0].contains("withdrawn"));
    let refused = failure_of(kit.tell(1, ALICE, "hello"));
    assert_eq!(refused, Some(TellFault::Withdrawn(user(ALICE))));
    // Whoever has the key can sign with it.
    let outputs = kit.server_says(deliver(ALICE, 2, 1));
    assert_eq!(used(&outputs), []);
    assert!(notices(outputs)[0].contains("withdrawn"));
}

#[test]
fn who_followed_is_not_alarmed_by_whoever_has_not_heard_of_it() {
    let (mut kit, _) = kit(Vec::new());
    let (user_id, history) = (user(ALICE), history(ALICE, [2, 66]));
    let outputs = kit.server_says(Payload::KeyNews(KeyNews { user_id, history }));
    let is_noted = |output: &Output| matches!(output, Output::SaveTrust(TrustNews::Replaced { .. }));
    assert!(outputs.iter().any(is_noted));
    let vouched = kit.input(Input::Vouched {
        user: user(ALICE),
        keys: (key(2), key(2)),
        history: None,
        by: "wss://other/".to_owned(),
    });
    let mut outputs = vouched;
    outputs.extend(kit.server_says(advertise(ALICE, 2)));
    assert!(
        !outputs
            .iter()
            .any(|output| matches!(output, Output::Event(Event::KeyChanged { .. }))),
        "{outputs:?}"
    );
    assert_eq!(failure_of(kit.tell(1, ALICE, "hello")), None);
}

fn change(kit: &mut Kit, ticket: Ticket) -> Vec<Output> {
    let first = pair(1);
    let next = KeyHistory::next(&user(ME), &first, None, pair(5), 7);
    kit.input(Input::Command(Command::ChangeAccount {
        ticket,
        change: AccountChange::Keys(Box::new(next)),
    }))
}

fn outcome(outputs: Vec<Output>) -> Option<(Ticket, Result<(), AccountFault>)> {
    events(outputs).into_iter().find_map(|event| match event {
        Event::AccountChanged { ticket, result } => Some((ticket, result)),
        _ => None,
    })
}

fn acked(name: &str) -> Payload {
    Payload::Ack(Ack {
        msg_ref: name.to_owned(),
        ..ack(SERVER, 200)
    })
}

#[test]
fn a_change_of_our_account_ends_with_the_servers_word() {
    let (mut kit, _) = kit(Vec::new());
    assert_eq!(sent(&change(&mut kit, 1)), [FrameKind::KeyUpdate]);
    assert_eq!(outcome(change(&mut kit, 2)), Some((2, Err(AccountFault::Busy))));
    assert_eq!(outcome(kit.server_says(acked("ACCOUNT_DELETE"))), None);
    assert_eq!(outcome(kit.server_says(acked("KEY_UPDATE"))), Some((1, Ok(()))));
    change(&mut kit, 3);
    let refusal = error(ErrorCode::BadKey, "a fork", Some("KEY_UPDATE".to_owned()));
    let (code, detail) = (ErrorCode::BadKey, "a fork".to_owned());
    let refused = Err(AccountFault::Refused { code, detail });
    assert_eq!(outcome(kit.server_says(refusal)), Some((3, refused)));
    change(&mut kit, 4);
    assert_eq!(
        outcome(kit.wait(ANSWER_WAIT_MAX_MS)),
        Some((4, Err(AccountFault::NoAnswer)))
    );
    change(&mut kit, 5);
    let reason = "gone".to_owned();
    let lost = outcome(kit.input(Input::Disconnected { reason }));
    assert_eq!(lost, Some((5, Err(AccountFault::NoAnswer))));
    // A server that does not know such changes is not asked.
    let mut old = Kit::online();
    let outputs = change(&mut old, 1);
    assert_eq!(sent(&outputs), []);
    assert_eq!(outcome(outputs), Some((1, Err(AccountFault::Unable))));
}

fn vouched(number: u8, history: Option<KeyHistory>) -> Input {
    Input::Vouched {
        user: user(ALICE),
        keys: (key(number), key(number)),
        history,
        by: "wss://other/".to_owned(),
    }
}

fn is_alarm(output: &Output) -> bool {
    matches!(output, Output::Event(Event::KeyChanged { .. }))
}

#[test]
fn newer_keys_and_an_end_that_another_server_proves_are_followed_and_a_fork_is_not() {
    let (mut kit, _) = kit(Vec::new());
    let outputs = kit.input(vouched(66, Some(history(ALICE, [2, 66]))));
    assert_eq!(saved(&outputs), [(key(66), 2)]);
    assert!(!outputs.iter().any(is_alarm));
    assert!(notices(outputs)[0].contains("new keys"));

    let (mut kit, _) = super::keys::kit(Vec::new());
    let outputs = kit.input(vouched(2, Some(history(ALICE, [2, 2]))));
    assert!(notices(outputs)[0].contains("withdrawn"));
    assert!(matches!(
        failure_of(kit.tell(1, ALICE, "hello")),
        Some(TellFault::Withdrawn(_))
    ));

    for wrong in [history(ALICE, [5, 66]), history("bob-id", [2, 66])] {
        let (mut kit, _) = super::keys::kit(Vec::new());
        let outputs = kit.input(vouched(66, Some(wrong)));
        assert!(
            saved(&outputs).is_empty() && outputs.iter().any(is_alarm),
            "{outputs:?}"
        );
    }
}

#[test]
fn keys_that_were_replaced_before_the_first_sight_alarm_nobody() {
    let mut kit = Kit::online();
    kit.tell(1, ALICE, "hi");
    let outputs = kit.server_says(answer(66, Some(history(ALICE, [2, 66]))));
    assert_eq!(saved(&outputs), [(key(66), 2)]);
    let is_noted = |output: &Output| matches!(output, Output::SaveTrust(TrustNews::Replaced { .. }));
    assert!(outputs.iter().any(is_noted), "also at the next start");
    assert!(!kit.input(vouched(2, None)).iter().any(is_alarm));
    assert!(kit.input(vouched(7, None)).iter().any(is_alarm));
}
