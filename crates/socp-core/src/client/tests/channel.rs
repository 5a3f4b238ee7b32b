//! The public channel: a copy for every member, and what is believed of copies that arrive.

use super::super::channel::CHANNEL_ID;
use super::super::testkit::*;
use super::super::*;
use socp_proto::payload::{ChannelAdd, ChannelMessage, ChannelUpdated, ListResponse};
use socp_proto::{Base64Url, FrameKind};

const BOB: &str = "bob-id";

/// Online with Alice and Bob, keys 2 and 3.
fn with_two() -> Kit {
    let mut kit = Kit::with_alice();
    kit.server_says(advertise(BOB, 3));
    kit
}

/// Whom the copies to seal are for.
fn to_seal(outputs: &[Output]) -> Vec<(Ticket, String)> {
    let copy = |output: &Output| match output {
        Output::Seal {
            ticket,
            to,
            place: Place::Channel,
            ..
        } => Some((*ticket, to.as_str().to_owned())),
        _ => None,
    };
    outputs.iter().filter_map(copy).collect()
}

fn report_of(outputs: Vec<Output>) -> Option<Result<ChannelReport, TellFault>> {
    events(outputs).into_iter().find_map(|event| match event {
        Event::ChannelSent { result, .. } => Some(result),
        _ => None,
    })
}

fn ids(people: &[Person]) -> Vec<&str> {
    people.iter().map(|person| person.user_id.as_str()).collect()
}

/// The answer to a fence.
fn fence() -> Payload {
    pubkey(ME, Some(1))
}

fn copy(from: &str, to: &str, sig: u8) -> Input {
    let payload = Payload::MsgPublicChannel(ChannelMessage {
        ciphertext: Base64Url::encode(&[7; 512]),
        sender_pub: key(66),
        content_sig: Base64Url::encode(&[sig; 8]),
        group_id: Some(CHANNEL_ID.to_owned()),
    });
    Input::Frame(Verified::checked(frame_to(from, to, payload), key(200).fingerprint()))
}

#[test]
fn every_other_member_gets_a_copy_of_the_same_moment() {
    let mut kit = with_two();
    kit.server_says(advertise(ME, 1));
    let copies = kit.tell_all(1, "hi");
    assert_eq!(to_seal(&copies), [(0, ALICE.to_owned()), (1, BOB.to_owned())]);
    kit.now.unix += 5_000;
    let mut sent_frames = kit.copy_sealed(0);
    assert_eq!(sent(&sent_frames), [FrameKind::MsgPublicChannel]);
    sent_frames.extend(kit.copy_sealed(1));
    assert_eq!(
        sent(&sent_frames),
        [
            FrameKind::MsgPublicChannel,
            FrameKind::MsgPublicChannel,
            FrameKind::PubkeyRequest
        ]
    );
    let heads: Vec<_> = sent_frames
        .iter()
        .filter_map(|output| match output {
            Output::Send(draft) if draft.kind == FrameKind::MsgPublicChannel => Some((
                draft.from.as_str(),
                draft.to.as_str(),
                draft.ts,
                draft.payload["group_id"].as_str(),
            )),
            _ => None,
        })
        .collect();
    let ts = kit.now.unix - 5_000;
    assert_eq!(
        heads,
        [(ME, ALICE, ts, Some(CHANNEL_ID)), (ME, BOB, ts, Some(CHANNEL_ID))]
    );
    let report = report_of(kit.server_says(fence())).unwrap().unwrap();
    assert_eq!((ids(&report.sent), report.ts), (vec![ALICE, BOB], ts));
    assert!(report.gone.is_empty() && report.failed.is_empty());
}

#[test]
fn it_waits_for_the_list_and_fails_without_one() {
    let mut kit = Kit::new(Some(server_pin()));
    kit.input(Input::Connected { tls: None });
    kit.server_says(Payload::Ack(ack(SERVER, 200)));
    assert!(kit.tell_all(1, "hi").is_empty());
    let everyone = ListResponse {
        users: vec![user(ALICE), user(ME)],
        online: vec![online_user(ALICE), online_user(ME)],
        more: false,
    };
    // Whose key is not known yet is asked for it.
    let outputs = kit.server_says(Payload::ListResponse(everyone));
    assert_eq!(sent(&outputs), [FrameKind::PubkeyRequest]);
    assert_eq!(
        to_seal(&kit.server_says(pubkey(ALICE, Some(2)))),
        [(0, ALICE.to_owned())]
    );

    let mut kit = Kit::new(Some(server_pin()));
    kit.input(Input::Connected { tls: None });
    kit.server_says(Payload::Ack(ack(SERVER, 200)));
    kit.tell_all(1, "hi");
    let ended = report_of(kit.wait(ANSWER_WAIT_MAX_MS));
    assert!(matches!(ended, Some(Err(TellFault::NoList(_)))), "{ended:?}");
}

#[test]
fn what_cannot_go_to_anybody_is_refused_at_once() {
    let long = "x".repeat(socp_proto::limits::DIRECT_TEXT_BYTES_MAX + 1);
    let table = [
        (Kit::with_alice(), "", TellFault::Empty),
        (Kit::online(), "hi", TellFault::Alone),
        (Kit::new(Some(server_pin())), "hi", TellFault::Offline),
    ];
    for (mut kit, text, why) in table {
        assert_eq!(report_of(kit.tell_all(1, text)), Some(Err(why)));
    }
    let refused = report_of(Kit::with_alice().tell_all(1, &long));
    assert!(matches!(refused, Some(Err(TellFault::TooLong { .. }))));
}

#[test]
fn a_refused_copy_concerns_its_member_alone() {
    let told = |answer: Payload, also_leaves: bool| {
        let mut kit = with_two();
        kit.tell_all(1, "hi");
        kit.copy_sealed(0);
        kit.copy_sealed(1);
        kit.server_says(answer);
        if also_leaves {
            let (user_id, server_id) = (user(ALICE), server(SERVER));
            kit.server_says(Payload::UserRemove(UserRemove {
                user_id,
                server_id,
                deletion: None,
            }));
        }
        report_of(kit.server_says(fence())).unwrap().unwrap()
    };
    let not_found = |msg_ref| error(ErrorCode::UserNotFound, ALICE, msg_ref);
    for answer in [not_found(Some(copy_ref(0))), not_found(None)] {
        let report = told(answer.clone(), false);
        assert_eq!(ids(&report.sent), [BOB]);
        assert!(matches!(&report.failed[..], [(who, TellFault::NotOnline(_))] if who.user_id.as_str() == ALICE));
        // Whoever left need not get it.
        let report = told(answer, true);
        assert_eq!((ids(&report.sent), ids(&report.gone)), (vec![BOB], vec![ALICE]));
        assert!(report.failed.is_empty());
    }
    let report = told(error(ErrorCode::InvalidSig, "", Some(copy_ref(0))), false);
    assert!(matches!(&report.failed[..], [(_, TellFault::Refused { .. })]));
}

#[test]
fn doubt_silence_and_a_broken_link_leave_nobody_called_reached() {
    let refusal = || Some(error(ErrorCode::RateLimited, "", None));
    for (answer, wait, is_broken) in [
        (refusal(), 0, false),
        (None, ANSWER_WAIT_MAX_MS, false),
        (None, 0, true),
    ] {
        let mut kit = with_two();
        kit.tell_all(1, "hi");
        kit.copy_sealed(0);
        let mut outputs = kit.copy_sealed(1);
        outputs.extend(answer.into_iter().flat_map(|answer| kit.server_says(answer)));
        outputs.extend(kit.wait(wait));
        if is_broken {
            let reason = "reset".to_owned();
            outputs.extend(kit.input(Input::Disconnected { reason }));
        }
        let report = report_of(outputs).unwrap().unwrap();
        assert_eq!((report.sent.len(), report.failed.len()), (0, 2), "{report:?}");
    }
}

#[test]
fn a_link_that_breaks_amid_the_copies_names_those_who_got_none() {
    let mut kit = Kit::online();
    for n in 0..20 {
        kit.server_says(advertise(&format!("member-{n:02}"), 9));
    }
    assert_eq!(to_seal(&kit.tell_all(1, "hi")).len(), 8);
    let reason = "reset".to_owned();
    let report = report_of(kit.input(Input::Disconnected { reason })).unwrap().unwrap();
    let never = |fault: &TellFault| *fault == TellFault::Offline;
    assert_eq!(report.failed.len(), 20);
    assert_eq!(report.failed.iter().filter(|(_, fault)| never(fault)).count(), 12);
}

#[test]
fn a_member_whose_key_changed_is_left_out_and_the_others_get_theirs() {
    let mut kit = with_two();
    kit.server_says(advertise(ALICE, 9));
    assert_eq!(to_seal(&kit.tell_all(1, "hi")), [(0, BOB.to_owned())]);
    kit.copy_sealed(0);
    let report = report_of(kit.server_says(fence())).unwrap().unwrap();
    assert_eq!(ids(&report.sent), [BOB]);
    assert!(matches!(&report.failed[..], [(_, TellFault::KeyChanged { .. })]));
}

#[test]
fn copies_go_in_portions_behind_fences() {
    const MEMBERS: usize = 150;
    let mut kit = Kit::online();
    for n in 0..MEMBERS {
        kit.server_says(advertise(&format!("member-{n:03}"), 9));
    }
    let mut to_do: std::collections::VecDeque<_> = to_seal(&kit.tell_all(1, "hi")).into();
    let (mut fences, mut unanswered, mut most) = (0, 0, 0);
    let mut report = None;
    while report.is_none() {
        let outputs = match to_do.pop_front() {
            Some((ticket, _)) => kit.copy_sealed(ticket),
            None => {
                unanswered = 0;
                kit.server_says(fence())
            }
        };
        most = most.max(to_do.len());
        to_do.extend(to_seal(&outputs));
        for kind in sent(&outputs) {
            match kind {
                FrameKind::PubkeyRequest => fences += 1,
                FrameKind::MsgPublicChannel => unanswered += 1,
                other => panic!("{other:?}"),
            }
        }
        assert!(unanswered <= 64, "{unanswered} copies without an answer");
        report = report_of(outputs);
    }
    assert_eq!(report.unwrap().unwrap().sent.len(), MEMBERS);
    assert!(
        most <= 8 && fences >= MEMBERS / 64,
        "{most} sealed at once, {fences} fences"
    );
}

#[test]
fn two_messages_are_each_reported() {
    let mut kit = Kit::with_alice();
    kit.tell_all(1, "one");
    assert_eq!(to_seal(&kit.tell_all(2, "two")), [(1, ALICE.to_owned())]);
    kit.copy_sealed(0);
    kit.copy_sealed(1);
    let tickets: Vec<_> = events(kit.server_says(fence()))
        .into_iter()
        .filter_map(|event| match event {
            Event::ChannelSent { ticket, result } => Some((ticket, result.unwrap().sent.len())),
            _ => None,
        })
        .collect();
    assert_eq!(tickets, [(1, 1), (2, 1)]);
}

#[test]
fn a_copy_is_verified_with_the_authors_pinned_key_and_shown_once() {
    let mut kit = Kit::with_alice();
    for (ticket, result) in (0..).zip([Err(OpenFault::Signature), Ok("hi".to_owned()), Ok("hi".to_owned())]) {
        let asked = kit.input(copy(ALICE, ME, 1));
        let [
            Output::Open {
                key: with,
                place: Place::Channel,
                ts: 5,
                ..
            },
        ] = &asked[..]
        else {
            panic!("{asked:?}")
        };
        assert_eq!(*with, key(2));
        let shown = events(kit.input(Input::Opened { ticket, result }));
        match ticket {
            0 => assert!(matches!(&shown[..], [Event::Notice { .. }])),
            1 => assert!(matches!(&shown[..], [Event::Channel(m)] if m.text == "hi" && m.from.label() == "alice")),
            _ => assert!(shown.is_empty()),
        }
    }
}

#[test]
fn a_copy_from_a_stranger_waits_for_the_key() {
    let mut kit = Kit::online();
    assert_eq!(sent(&kit.input(copy(ALICE, ME, 1))), [FrameKind::PubkeyRequest]);
    let outputs = kit.server_says(pubkey(ALICE, Some(2)));
    assert!(outputs.iter().any(|output| matches!(output, Output::Open { .. })));
}

#[test]
fn our_own_copies_and_news_of_the_channel_are_taken_in_silence() {
    let mut kit = Kit::with_alice();
    assert!(kit.input(copy(ME, ME, 1)).is_empty());
    let add = Payload::PublicChannelAdd(ChannelAdd {
        add: vec![user(ALICE)],
        if_version: Some(1),
    });
    let wraps = Vec::new();
    for payload in [add, Payload::PublicChannelUpdated(ChannelUpdated { version: 2, wraps })] {
        assert!(kit.server_says(payload).is_empty());
    }
}

#[test]
fn a_copy_for_everyone_that_cannot_be_read_is_mentioned_once_per_author() {
    let mut kit = with_two();
    let mut told = Vec::new();
    let copies = [(ALICE, CHANNEL_ID, 1), (ALICE, "*", 2), (BOB, "*", 3)];
    for (ticket, (from, to, sig)) in (0..).zip(copies) {
        kit.input(copy(from, to, sig));
        let result = Err(OpenFault::Decrypt);
        told.extend(events(kit.input(Input::Opened { ticket, result })));
    }
    let about: Vec<_> = told
        .iter()
        .map(|event| match event {
            Event::Notice { from: Some(from), .. } => from.as_str(),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(about, [ALICE, BOB]);
}

#[test]
fn a_copy_that_is_not_ours_or_not_vouched_for_becomes_a_notice_without_text() {
    let mut kit = Kit::with_alice();
    let unsigned = match copy(ALICE, ME, 2) {
        Input::Frame(frame) => Input::Unverified(frame.into_inner()),
        other => panic!("{other:?}"),
    };
    for input in [copy(ALICE, BOB, 1), unsigned] {
        let outputs = kit.input(input);
        assert!(
            matches!(&outputs[..], [Output::Event(Event::Notice { .. })]),
            "{outputs:?}"
        );
    }
}
