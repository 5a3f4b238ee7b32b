//! The rules of the client as a whole, hostile servers included.

mod acknowledged;
mod batches;
mod challenge;
mod channel;
mod files;
mod held;
mod keys;
mod password;
mod receiving;
mod sending;
mod trust;

use super::testkit::*;
use super::*;
use socp_proto::limits::{DIRECT_TEXT_BYTES_MAX, HELLO_WAIT_MAX_MS};
use socp_proto::payload::{Ack, Deletion, ListResponse};
use socp_proto::{Base64Url, FrameKind};

fn hello_names(outputs: &[Output]) -> Option<Option<String>> {
    outputs.iter().find_map(|output| match output {
        Output::Send(draft) if draft.kind == FrameKind::UserHello => Some(
            draft
                .payload
                .get("server_id")
                .and_then(|id| id.as_str())
                .map(str::to_owned),
        ),
        _ => None,
    })
}

#[test]
fn first_contact_pins_the_server_and_asks_for_the_list() {
    let mut kit = Kit::new(None);
    assert_eq!(hello_names(&kit.input(Input::Connected { tls: None })), Some(None));
    let outputs = kit.frame(SERVER, Payload::Ack(ack(SERVER, 200)), 200);
    assert!(matches!(&outputs[0], Output::SaveServer(pin) if *pin == server_pin()));
    assert!(matches!(
        &outputs[1],
        Output::Event(Event::Online {
            first_contact: true,
            ..
        })
    ));
    assert_eq!(sent(&outputs), [FrameKind::ListRequest]);
}

#[test]
fn a_server_that_wants_its_id_signed_gets_it_once() {
    let mut kit = Kit::new(None);
    kit.input(Input::Connected { tls: None });
    let refusal = || frame_to(SERVER, ME, error(ErrorCode::InvalidSig, "server_id", None));
    let again = kit.input(Input::Unverified(refusal()));
    assert_eq!(hello_names(&again), Some(Some(SERVER.to_owned())));
    assert!(matches!(
        stop_of(kit.input(Input::Unverified(refusal()))),
        Some(Stop::InvalidSig { .. })
    ));
}

#[test]
fn a_server_that_changes_its_id_between_refusal_and_answer_is_left() {
    let mut kit = Kit::new(None);
    kit.input(Input::Connected { tls: None });
    kit.input(Input::Unverified(frame_to(
        "other",
        ME,
        error(ErrorCode::InvalidSig, "", None),
    )));
    let outputs = kit.frame(SERVER, Payload::Ack(ack(SERVER, 200)), 200);
    assert!(matches!(stop_of(outputs), Some(Stop::ServerIdChanged { .. })));
}

#[test]
fn a_pinned_server_must_show_its_key_and_id() {
    let unsigned = |payload| Input::Unverified(frame_to(SERVER, ME, payload));
    let by = |payload, n| Input::Frame(Verified::checked(frame_to(SERVER, ME, payload), key(n).fingerprint()));
    let keyless = Ack {
        server_pub: None,
        ..ack(SERVER, 200)
    };
    type Check = fn(&Stop) -> bool;
    let table: [(Input, Check); 8] = [
        (unsigned(Payload::Ack(ack(SERVER, 201))), |s| {
            matches!(s, Stop::ServerKeyChanged { .. })
        }),
        (by(Payload::Ack(ack(SERVER, 201)), 201), |s| {
            matches!(s, Stop::ServerKeyChanged { .. })
        }),
        (unsigned(Payload::Ack(ack(SERVER, 200))), |s| {
            matches!(s, Stop::Unsigned { .. })
        }),
        (by(Payload::Ack(ack(SERVER, 200)), 201), |s| {
            matches!(s, Stop::Unsigned { .. })
        }),
        (by(Payload::Ack(ack("other", 200)), 200), |s| {
            matches!(s, Stop::ServerIdChanged { .. })
        }),
        (by(Payload::Ack(keyless), 200), |s| *s == Stop::Keyless),
        (unsigned(error(ErrorCode::InvalidSig, "", None)), |s| {
            matches!(s, Stop::Unsigned { .. })
        }),
        (by(error(ErrorCode::NameInUse, "", None), 200), |s| {
            matches!(s, Stop::NameInUse { .. })
        }),
    ];
    for (answer, is_right) in table {
        let said = format!("{answer:?}");
        let mut kit = Kit::new(Some(server_pin()));
        kit.input(Input::Connected { tls: None });
        let stop = stop_of(kit.input(answer)).unwrap();
        assert!(is_right(&stop), "{said} gives {stop}");
        assert!(!kit.client.session.is_online());
    }
}

#[test]
fn a_silent_server_is_left() {
    let mut kit = Kit::new(None);
    kit.input(Input::Connected { tls: None });
    assert_eq!(kit.client.poll_timeout(), Some(kit.now.mono + HELLO_WAIT_MAX_MS));
    assert_eq!(stop_of(kit.wait(HELLO_WAIT_MAX_MS)), Some(Stop::NoAnswer));
}

#[test]
fn the_list_is_read_to_its_end() {
    let mut kit = Kit::new(Some(server_pin()));
    kit.input(Input::Connected { tls: None });
    kit.server_says(Payload::Ack(ack(SERVER, 200)));
    assert!(events(kit.input(Input::Command(Command::List { ticket: 1 }))).is_empty());
    let page = |ids: &[&str], more| {
        let users = ids.iter().map(|id| user(id)).collect();
        Payload::ListResponse(ListResponse {
            users,
            online: ids.iter().map(|id| online_user(id)).collect(),
            more,
        })
    };
    assert_eq!(
        sent(&kit.server_says(page(&["a", "b"], true))),
        [FrameKind::ListRequest]
    );
    let listed = events(kit.server_says(page(&["c"], false)));
    let [
        Event::Listed {
            ticket: 1,
            result: Ok(people),
        },
    ] = &listed[..]
    else {
        panic!("{listed:?}")
    };
    assert_eq!(
        people.iter().map(|p| p.user_id.as_str()).collect::<Vec<_>>(),
        ["a", "b", "c"]
    );
}

#[test]
fn a_list_that_repeats_itself_ends() {
    let mut kit = Kit::new(Some(server_pin()));
    kit.input(Input::Connected { tls: None });
    kit.server_says(Payload::Ack(ack(SERVER, 200)));
    let page = || {
        Payload::ListResponse(ListResponse {
            users: vec![user("a")],
            online: Vec::new(),
            more: true,
        })
    };
    kit.server_says(page());
    assert!(sent(&kit.server_says(page())).is_empty());
    let answers = events(kit.input(Input::Command(Command::List { ticket: 1 })));
    assert!(matches!(&answers[..], [Event::Listed { result: Err(_), .. }]));
}

#[test]
fn who_is_known_can_be_meant_though_the_server_never_says_who_is_there() {
    let mut kit = Kit::with_alice();
    kit.input(Input::Disconnected {
        reason: "gone".to_owned(),
    });
    kit.input(Input::Connected { tls: None });
    kit.frame(SERVER, Payload::Ack(ack(SERVER, 200)), 200);
    let mut resolve = |ticket, text: &str| {
        let text = text.to_owned();
        events(kit.input(Input::Command(Command::Resolve { ticket, text })))
    };
    let stranger = "00000000-0000-4000-8000-000000000009";
    for (ticket, text) in [(1, ALICE), (2, "nobody"), (3, stranger)] {
        assert!(resolve(ticket, text).is_empty(), "the list may come yet");
    }
    let told = events(kit.wait(60_000));
    let result = |ticket| {
        told.iter().find_map(|event| match event {
            Event::Resolved { ticket: of, result } if *of == ticket => Some(result.clone()),
            _ => None,
        })
    };
    assert!(
        matches!(result(1), Some(Ok(person)) if person.user_id.as_str() == ALICE),
        "{told:?}"
    );
    for ticket in [2, 3] {
        assert!(matches!(result(ticket), Some(Err(ResolveError::NoList(_)))), "{told:?}");
    }
}

#[test]
fn a_message_is_sent_when_its_fence_is_answered() {
    let mut kit = Kit::with_alice();
    assert!(matches!(
        &kit.tell(1, ALICE, "hi")[..],
        [Output::Seal { ticket: 1, .. }]
    ));
    assert_eq!(sent(&kit.sealed(1)), [FrameKind::MsgDirect, FrameKind::PubkeyRequest]);
    let msg_ref = socp_proto::payload::msg_ref(&Base64Url::encode(&1_u64.to_be_bytes()));
    let answered = events(kit.server_says(pubkey(ALICE, Some(2))));
    let (state, server) = (PostState::Sent, None);
    let sent = Event::Sent {
        ticket: 1,
        msg_ref,
        state,
        server,
    };
    assert_eq!(answered, [sent]);
}

#[test]
fn who_was_told_of_with_a_key_only_has_a_name_all_the_same() {
    let mut kit = Kit::online();
    kit.tell(1, ALICE, "one");
    let Payload::PubkeyResponse(mut answer) = pubkey(ALICE, Some(2)) else {
        panic!("an answer is one");
    };
    answer.meta = socp_proto::Meta::named(Some("alice"), None).ok();
    answer.server_id = Some(server("home"));
    answer.server_name = Some("srv-home".to_owned());
    let outputs = kit.server_says(Payload::PubkeyResponse(answer));
    let Some(Output::SaveUser(pin)) = outputs.first() else {
        panic!("{outputs:?}");
    };
    let names = (pin.name.as_deref(), pin.server_name.as_deref());
    assert_eq!(
        (names, &pin.server_id),
        ((Some("alice"), Some("srv-home")), &Some(server("home")))
    );
}

#[test]
fn an_unknown_key_is_asked_for_first() {
    let mut kit = Kit::online();
    assert_eq!(sent(&kit.tell(1, ALICE, "one")), [FrameKind::PubkeyRequest]);
    assert!(kit.tell(2, ALICE, "two").is_empty());
    let outputs = kit.server_says(pubkey(ALICE, Some(2)));
    assert!(matches!(outputs[0], Output::SaveUser(_)));
    let tickets: Vec<_> = outputs
        .iter()
        .filter_map(|o| match o {
            Output::Seal { ticket, .. } => Some(*ticket),
            _ => None,
        })
        .collect();
    assert_eq!(tickets, [1, 2]);
    kit.tell(3, "nobody", "hi");
    assert!(matches!(
        failure_of(kit.server_says(pubkey("nobody", None))),
        Some(TellFault::UnknownUser(_))
    ));
}

#[test]
fn every_refusal_and_every_doubt_is_a_failure() {
    let msg_ref = || Some(socp_proto::payload::msg_ref(&Base64Url::encode(&1_u64.to_be_bytes())));
    type Check = fn(&TellFault) -> bool;
    let table: [(Payload, Check); 5] = [
        (error(ErrorCode::UserNotFound, ALICE, msg_ref()), |f| {
            matches!(f, TellFault::NotOnline(_))
        }),
        (error(ErrorCode::UserNotFound, ALICE, None), |f| {
            matches!(f, TellFault::NotOnline(_))
        }),
        (error(ErrorCode::InvalidSig, "content_sig", msg_ref()), |f| {
            matches!(f, TellFault::Refused { .. })
        }),
        (error(ErrorCode::RateLimited, "", None), |f| {
            matches!(f, TellFault::Refused { .. })
        }),
        (pubkey(ALICE, Some(3)), |f| matches!(f, TellFault::KeyChanged { .. })),
    ];
    for (answer, is_right) in table {
        let mut kit = Kit::with_alice();
        kit.tell(1, ALICE, "hi");
        kit.sealed(1);
        let fault = failure_of(kit.server_says(answer)).unwrap();
        assert!(is_right(&fault), "{fault}");
        let late = events(kit.server_says(pubkey(ALICE, Some(2))));
        assert!(
            !late.iter().any(|event| matches!(event, Event::Sent { .. })),
            "a failed message is sent later"
        );
    }
}

#[test]
fn after_a_doubt_an_old_fence_does_not_vouch_for_a_new_message() {
    let mut kit = Kit::with_alice();
    kit.tell(1, ALICE, "one");
    kit.sealed(1);
    kit.server_says(error(ErrorCode::RateLimited, "", None));
    kit.tell(2, ALICE, "two");
    kit.sealed(2);
    assert!(events(kit.server_says(pubkey(ALICE, Some(2)))).is_empty());
    assert!(matches!(
        &events(kit.server_says(pubkey(ALICE, Some(2))))[..],
        [Event::Sent { ticket: 2, .. }]
    ));
}

#[test]
fn silence_and_a_broken_link_are_failures() {
    let mut kit = Kit::with_alice();
    kit.tell(1, ALICE, "hi");
    kit.sealed(1);
    assert_eq!(failure_of(kit.wait(ANSWER_WAIT_MAX_MS)), Some(TellFault::NoAnswer));
    kit.tell(2, ALICE, "hi");
    kit.sealed(2);
    let broken = Input::Disconnected {
        reason: "reset".to_owned(),
    };
    assert_eq!(failure_of(kit.input(broken)), Some(TellFault::Lost));
    assert_eq!(failure_of(kit.tell(3, ALICE, "hi")), Some(TellFault::Offline));
}

#[test]
fn empty_and_oversized_texts_are_refused_at_once() {
    let mut kit = Kit::with_alice();
    assert_eq!(failure_of(kit.tell(1, ALICE, "")), Some(TellFault::Empty));
    let long = "x".repeat(DIRECT_TEXT_BYTES_MAX + 1);
    assert!(matches!(
        failure_of(kit.tell(2, ALICE, &long)),
        Some(TellFault::TooLong { .. })
    ));
    assert!(failure_of(kit.tell(3, ALICE, &"x".repeat(DIRECT_TEXT_BYTES_MAX))).is_none());
}

#[test]
fn a_changed_key_is_told_and_nothing_is_sent_to_it() {
    let mut kit = Kit::with_alice();
    let told = events(kit.server_says(advertise(ALICE, 3)));
    assert!(matches!(&told[..], [Event::KeyChanged { .. }]));
    assert!(matches!(
        failure_of(kit.tell(1, ALICE, "hi")),
        Some(TellFault::KeyChanged { .. })
    ));
}

#[test]
fn a_message_is_verified_with_the_pinned_key_whatever_it_carries() {
    let mut kit = Kit::with_alice();
    let outputs = kit.server_says(deliver(ALICE, 1, 1));
    assert!(matches!(&outputs[..], [Output::Open { key: k, ts: 77, .. }] if *k == key(2)));
    let shown = events(kit.input(Input::Opened {
        ticket: 0,
        result: Ok("hi".to_owned()),
    }));
    assert!(matches!(&shown[..], [Event::Message(m)] if m.text == "hi" && m.from.label() == "alice" && m.ts == 77));
}

#[test]
fn a_replay_is_shown_once_and_a_forgery_does_not_hide_the_real_message() {
    let mut kit = Kit::with_alice();
    let results = [Err(OpenFault::Signature), Ok("hi".to_owned()), Ok("hi".to_owned())];
    let mut shown = Vec::new();
    for (ticket, result) in (0..).zip(results) {
        kit.server_says(deliver(ALICE, 1, 1));
        shown.extend(events(kit.input(Input::Opened { ticket, result })));
    }
    assert!(
        matches!(&shown[..], [Event::Notice { .. }, Event::Message(_)]),
        "{shown:?}"
    );
}

#[test]
fn a_message_from_a_stranger_waits_for_the_key() {
    let mut kit = Kit::online();
    assert_eq!(sent(&kit.server_says(deliver(ALICE, 1, 1))), [FrameKind::PubkeyRequest]);
    let outputs = kit.server_says(pubkey(ALICE, Some(2)));
    assert!(outputs.iter().any(|output| matches!(output, Output::Open { .. })));
}

#[test]
fn what_cannot_be_verified_becomes_a_notice_without_text() {
    let too_long = DIRECT_TEXT_BYTES_MAX / 446 + 2;
    let mut kit = Kit::with_alice();
    let misaddressed = frame_to(SERVER, "somebody", deliver(ALICE, 1, 1));
    let misaddressed = Input::Frame(Verified::checked(misaddressed, key(200).fingerprint()));
    let unsigned = Input::Unverified(frame_to(SERVER, ME, deliver(ALICE, 1, 2)));
    let by_another = Input::Frame(Verified::checked(
        frame_to(SERVER, ME, deliver(ALICE, 1, 3)),
        key(9).fingerprint(),
    ));
    let long = Input::Frame(Verified::checked(
        frame_to(SERVER, ME, deliver(ALICE, too_long, 4)),
        key(200).fingerprint(),
    ));
    for input in [misaddressed, unsigned, by_another, long] {
        let outputs = kit.input(input);
        assert!(
            matches!(&outputs[..], [Output::Event(Event::Notice { .. })]),
            "{outputs:?}"
        );
    }
}

#[test]
fn strangers_cannot_fill_memory() {
    let mut kit = Kit::online();
    for n in 0..HELD_COUNT_MAX {
        kit.server_says(deliver(&format!("stranger-{n}"), 1, 1));
    }
    let outputs = kit.server_says(deliver("one-more", 1, 1));
    assert!(matches!(&outputs[..], [Output::Event(Event::Notice { .. })]));
    let refused = events(kit.wait(ANSWER_WAIT_MAX_MS));
    assert_eq!(refused.len(), HELD_COUNT_MAX);
}

#[test]
fn unsigned_and_misplaced_presence_changes_nothing() {
    let mut kit = Kit::with_alice();
    let remove = |home: &str| {
        Payload::UserRemove(UserRemove {
            user_id: user(ALICE),
            server_id: server(home),
            deletion: None,
        })
    };
    kit.input(Input::Unverified(frame_to(SERVER, ME, remove(SERVER))));
    assert!(kit.server_says(remove("elsewhere")).is_empty());
    assert!(kit.client.people.get(&user(ALICE)).is_some());
    let gone = events(kit.server_says(remove(SERVER)));
    assert!(matches!(&gone[..], [Event::Presence(person)] if !person.online));
}

#[test]
fn an_error_is_told_and_never_answered() {
    let mut kit = Kit::with_alice();
    let outputs = kit.server_says(error(ErrorCode::Other("ODD".to_owned()), "x", None));
    assert!(sent(&outputs).is_empty());
    assert_eq!(events(outputs).len(), 1);
}

#[test]
fn a_refusal_that_comes_back_late_names_whom_the_message_did_not_reach() {
    let mut kit = Kit::with_alice();
    kit.tell(1, ALICE, "hi");
    kit.sealed(1);
    kit.server_says(pubkey(ALICE, Some(2)));
    let msg_ref = socp_proto::payload::msg_ref(&Base64Url::encode(&1_u64.to_be_bytes()));
    let late = || error(ErrorCode::UserNotFound, ALICE, Some(msg_ref.clone()));
    let told = events(kit.server_says(late()));
    let [Event::Error { about: Some(about), .. }] = &told[..] else {
        panic!("{told:?}")
    };
    assert_eq!(
        (about.msg_ref.as_str(), about.to.label().as_ref()),
        (msg_ref.as_str(), "alice")
    );
    let again = events(kit.server_says(late()));
    assert!(matches!(&again[..], [Event::Error { about: None, .. }]), "{again:?}");
}

#[test]
fn a_refused_key_of_somebody_we_know_is_a_warning_and_casts_no_doubt() {
    let mut kit = Kit::with_alice();
    kit.tell(1, ALICE, "hi");
    kit.sealed(1);
    let warned = events(kit.server_says(error(ErrorCode::BadKey, ALICE, None)));
    assert!(
        matches!(&warned[..], [Event::Notice { from: Some(about), .. }] if about.as_str() == ALICE),
        "{warned:?}"
    );
    let sent = events(kit.server_says(pubkey(ALICE, Some(2))));
    assert!(matches!(&sent[..], [Event::Sent { ticket: 1, .. }]), "{sent:?}");
    let unknown = events(kit.server_says(error(ErrorCode::BadKey, "somebody", None)));
    assert!(matches!(&unknown[..], [Event::Error { .. }]), "{unknown:?}");
}

#[test]
fn the_end_of_an_account_is_told_where_the_pinned_key_says_so() {
    let told = |key_number: Option<u8>, age_ms: u64| {
        let mut kit = Kit::with_alice();
        kit.server_says(pubkey(ALICE, Some(2)));
        let deletion = key_number.map(|number| Deletion {
            pubkey: key(number),
            sig: Base64Url::encode(&[1]),
            ts: kit.now.unix.saturating_sub(age_ms),
        });
        let outputs = kit.server_says(Payload::UserRemove(UserRemove {
            user_id: user(ALICE),
            server_id: server(SERVER),
            deletion,
        }));
        let told = events(outputs);
        let offline = |event: &Event| matches!(event, Event::Presence(person) if !person.online);
        assert!(told.iter().any(offline), "{told:?}");
        let notice =
            |event: &Event| matches!(event, Event::Notice { text, .. } if text.contains("deleted their account"));
        told.iter().any(notice)
    };
    assert!(told(Some(2), 0));
    assert!(!told(None, 0), "nobody said so");
    assert!(!told(Some(3), 0), "another key said so");
    assert!(!told(Some(2), 60 * 60_000), "it was said before");
}
