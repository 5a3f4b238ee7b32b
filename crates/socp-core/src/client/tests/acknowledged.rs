//! Messages with a server that acknowledges what it has (PROTOCOL II.6).

use super::super::testkit::*;
use super::super::*;
use socp_proto::payload::{Ack, ListResponse, Status, UserDeliver};
use socp_proto::{Capabilities, FrameKind, ReceiptState, Voice};

fn works(outputs: &[Output]) -> Vec<PostWork> {
    let work = |output: &Output| match output {
        Output::Post(work) => Some(work.clone()),
        _ => None,
    };
    outputs.iter().filter_map(work).collect()
}

/// In, at a server with `ack/1`, with Alice's key 2 pinned; the test answers for the history.
fn kit() -> Kit {
    let mut kit = Kit::new(Some(server_pin())).without_history();
    enter(&mut kit);
    kit.frame(SERVER, advertise(ALICE, 2), 200);
    kit.input(Input::Disconnected {
        reason: "gone".to_owned(),
    });
    enter(&mut kit);
    kit
}

fn enter(kit: &mut Kit) -> Vec<Output> {
    kit.input(Input::Connected { tls: None });
    let caps = Some(Capabilities::of(&[ACK]).unwrap());
    let entered = kit.frame(
        SERVER,
        Payload::Ack(Ack {
            caps,
            ..ack(SERVER, 200)
        }),
        200,
    );
    kit.server_says(Payload::ListResponse(ListResponse::default()));
    entered
}

fn post(kit: &mut Kit, done: PostDone) -> Vec<Output> {
    kit.input(Input::Post(done))
}

/// Tells Alice something, up to its frame's being kept; what is asked for then.
fn queue(kit: &mut Kit, ticket: Ticket, id: PostId) -> Vec<Output> {
    let queued = works(&kit.tell(ticket, ALICE, "hello"));
    assert!(matches!(&queued[..], [PostWork::Queue { .. }]), "{queued:?}");
    post(kit, PostDone::Queued { ticket, result: Ok(id) })
}

fn made(kit: &mut Kit, id: PostId) -> Vec<PostWork> {
    let ts = kit.now.unix;
    let result = Ok((format!("ref{id}"), ts));
    works(&post(kit, PostDone::Made { id, result }))
}

fn stored_by(server_id: &str, refs: &[&str]) -> Payload {
    let mut refs = refs.iter().map(|it| (*it).to_owned());
    Payload::Ack(Ack {
        msg_ref: refs.next().unwrap(),
        also: refs.collect(),
        status: Some(Status::Stored),
        server_id: Some(server(server_id)),
        ..Ack::default()
    })
}

fn answer(outputs: &[Output]) -> Option<(Vec<String>, PostState)> {
    works(outputs).into_iter().find_map(|work| match work {
        PostWork::Store { deposits, .. } => deposits.into_iter().find_map(|deposit| match deposit {
            Deposit::Answer { refs, state, .. } => Some((refs, state)),
            _ => None,
        }),
        _ => None,
    })
}

fn changed(id: PostId, state: PostState) -> PostDone {
    let change = Change {
        id,
        msg_ref: format!("ref{id}"),
        to: user(ALICE),
        state,
        why: None,
    };
    PostDone::Stored(Ok(vec![Outcome::Changed(vec![change])]))
}

#[test]
fn a_message_is_written_down_made_kept_and_sent_in_this_order() {
    let mut kit = kit();
    let asked = queue(&mut kit, 1, 11);
    assert_eq!(
        sent(&asked),
        [FrameKind::PubkeyRequest],
        "her program may have learned to count"
    );
    let Payload::PubkeyResponse(answer_) = pubkey(ALICE, Some(2)) else {
        panic!("it is one");
    };
    let answer_ = PubkeyResponse {
        caps: Some(Capabilities::of(&[ACK]).unwrap()),
        server_id: Some(server("elsewhere")),
        ..answer_
    };
    let known = kit.server_says(Payload::PubkeyResponse(answer_));
    let [PostWork::Make(making)] = &works(&known)[..] else {
        panic!("{known:?}");
    };
    assert_eq!((making.id, making.is_numbered), (11, true));
    assert_eq!(making.home, Some(server("elsewhere")));
    assert_eq!(made(&mut kit, 11), [PostWork::Dispatch(11)]);
    let (refs, state) = answer(&kit.server_says(stored_by(SERVER, &["ref11"]))).unwrap();
    assert_eq!((refs, state), (vec!["ref11".to_owned()], PostState::OnServer));
    let told = events(post(&mut kit, changed(11, PostState::OnServer)));
    assert!(
        matches!(&told[..], [Event::Sent { ticket: 1, state: PostState::OnServer, server: Some(id), .. }] if *id == server(SERVER)),
        "{told:?}"
    );
    // A hint of her server's, and what she says herself, come later.
    kit.server_says(stored_by("elsewhere", &["ref11"]));
    let told = events(post(&mut kit, changed(11, PostState::OnTheirServer)));
    assert!(matches!(&told[..], [Event::Post(news)] if news.state == PostState::OnTheirServer));
}

#[test]
fn on_a_new_link_what_waits_is_sent_again_in_order_and_a_window_at_a_time() {
    let mut kit = kit();
    kit.input(Input::Disconnected {
        reason: "gone".to_owned(),
    });
    assert_eq!(works(&enter(&mut kit)), [PostWork::Reload]);
    let old = kit.now.unix - socp_proto::limits::CONTENT_AGE_MAX_MS;
    let now = kit.now.unix;
    let waiting = (1..=100).map(|id| Unanswered {
        id,
        to: user(ALICE),
        signed: Some((format!("ref{id}"), if id == 3 { old } else { now })),
    });
    let done = works(&post(&mut kit, PostDone::Unanswered(waiting.collect())));
    // The third is too old: it is made anew, and what is behind it waits for it.
    assert_eq!(
        done,
        [PostWork::Unmake(3), PostWork::Dispatch(1), PostWork::Dispatch(2)]
    );
    let known = works(&kit.server_says(pubkey(ALICE, None)));
    assert!(
        matches!(&known[..], [PostWork::Make(making)] if making.id == 3),
        "who is away is still pinned"
    );
    let done = made(&mut kit, 3);
    let dispatched: Vec<PostWork> = (3..=64).map(PostWork::Dispatch).collect();
    assert_eq!(done, dispatched, "in order, and no more than the window");
    kit.server_says(stored_by(SERVER, &["ref1", "ref2"]));
    let done = works(&post(
        &mut kit,
        PostDone::Stored(Ok(vec![Outcome::Changed(Vec::new())])),
    ));
    assert_eq!(done, [PostWork::Dispatch(65), PostWork::Dispatch(66)]);
}

#[test]
fn without_a_link_a_message_waits_and_nothing_is_lost_where_one_breaks() {
    let mut kit = kit();
    queue(&mut kit, 1, 11);
    let told = events(kit.input(Input::Disconnected {
        reason: "gone".to_owned(),
    }));
    let is_queued = |event: &Event| {
        matches!(
            event,
            Event::Sent {
                ticket: 1,
                state: PostState::Queued,
                ..
            }
        )
    };
    assert!(told.iter().any(is_queued), "{told:?}");
    let told = events(queue(&mut kit, 2, 12));
    assert!(
        matches!(
            &told[..],
            [Event::Sent {
                ticket: 2,
                state: PostState::Queued,
                ..
            }]
        ),
        "{told:?}"
    );
    // To a server that acknowledges nothing it does not wait.
    let mut kit = Kit::with_alice();
    kit.input(Input::Disconnected {
        reason: "gone".to_owned(),
    });
    assert_eq!(failure_of(kit.tell(3, ALICE, "hello")), Some(TellFault::Offline));
}

#[test]
fn each_refusal_does_what_it_should() {
    let table = [
        (ErrorCode::NotStored, "waits"),
        (ErrorCode::Timeout, "made anew"),
        (ErrorCode::UserNotFound, "is not online, and no server keeps"),
        (ErrorCode::MailboxFull, "has no room"),
        (ErrorCode::InvalidSig, "INVALID_SIG"),
    ];
    for (code, outcome) in table {
        let mut kit = kit();
        queue(&mut kit, 1, 11);
        kit.server_says(pubkey(ALICE, Some(2)));
        made(&mut kit, 11);
        let refused = kit.server_says(error(code.clone(), ALICE, Some("ref11".to_owned())));
        if outcome == "waits" {
            assert!(works(&refused).is_empty(), "{refused:?}");
            assert!(works(&kit.wait(4_999)).is_empty());
            assert_eq!(works(&kit.wait(1)), [PostWork::Dispatch(11)]);
            continue;
        }
        if outcome == "made anew" {
            let done = works(&refused);
            assert!(
                matches!(&done[..], [PostWork::Unmake(11), PostWork::Make(_)]),
                "{done:?}"
            );
            continue;
        }
        assert_eq!(answer(&refused).unwrap().1, PostState::Failed, "{code}");
        let failed = failure_of(post(&mut kit, changed(11, PostState::Failed)));
        let why = failed.unwrap().to_string();
        assert!(why.contains(outcome), "{why}");
    }
}

#[test]
fn a_refusal_that_another_program_has_written_down_is_one_all_the_same() {
    let mut kit = kit();
    queue(&mut kit, 1, 11);
    kit.server_says(pubkey(ALICE, Some(2)));
    made(&mut kit, 11);
    kit.server_says(error(ErrorCode::UserNotFound, ALICE, Some("ref11".to_owned())));
    // The history has nothing to change.
    let told = post(&mut kit, PostDone::Stored(Ok(vec![Outcome::Done])));
    let why = failure_of(told).expect("it is not called sent").to_string();
    assert!(why.contains("is not online"), "{why}");
}

/// The server says this of the message under way, with a number in our mailbox.
fn refused_in_mailbox(kit: &mut Kit, code: ErrorCode, seq: u64) -> Vec<Output> {
    kit.server_says(Payload::Error(ErrorNotice {
        code,
        detail: ALICE.to_owned(),
        msg_ref: Some("ref11".to_owned()),
        seq: Some(seq),
    }))
}

#[test]
fn a_refusal_with_a_number_holds_nothing_up_behind_it() {
    for (code, state) in [
        (ErrorCode::NotStored, None),
        (ErrorCode::Timeout, Some(PostState::Failed)),
        (ErrorCode::UserNotFound, Some(PostState::Failed)),
    ] {
        let mut kit = kit();
        queue(&mut kit, 1, 11);
        kit.server_says(pubkey(ALICE, Some(2)));
        made(&mut kit, 11);
        let refused = refused_in_mailbox(&mut kit, code.clone(), 5);
        assert_eq!(answer(&refused).map(|it| it.1), state, "{code}");
        assert!(
            matches!(&works(&refused)[..], [PostWork::Store { up_to: Some(5), .. }]),
            "{code}: {refused:?}"
        );
        let outcome = match state {
            Some(state) => changed(11, state),
            None => PostDone::Stored(Ok(vec![Outcome::Done])),
        };
        assert_eq!(up_to(&post(&mut kit, outcome)), Some(5), "{code}");
        arrive(&mut kit, 6, 0, "behind it");
        let written = post(&mut kit, PostDone::Stored(Ok(vec![new(1)])));
        assert_eq!(up_to(&written), Some(6), "{code}");
    }
}

#[test]
fn a_profile_that_cannot_be_used_is_tried_again_and_whoever_waits_is_told() {
    let stuck = |kit: &mut Kit| {
        let why = "disk full".to_owned();
        post(kit, PostDone::Stuck { id: 11, why })
    };
    for is_made in [false, true] {
        let mut kit = kit();
        queue(&mut kit, 1, 11);
        let mut work = works(&kit.server_says(pubkey(ALICE, Some(2))));
        if is_made {
            work = made(&mut kit, 11);
        }
        let is_it = |work: &[PostWork]| match work {
            [PostWork::Make(_)] => !is_made,
            [PostWork::Dispatch(11)] => is_made,
            _ => false,
        };
        for wait in [5_000, 10_000] {
            assert!(is_it(&work), "{work:?}");
            let silent = stuck(&mut kit);
            assert!(silent.is_empty(), "{silent:?}");
            assert!(works(&kit.wait(wait - 1)).is_empty());
            work = works(&kit.wait(1));
        }
        let why = failure_of(stuck(&mut kit)).unwrap().to_string();
        assert!(why.contains("kept but not sent") && why.contains("disk full"), "{why}");
        // It is not given up.
        work = works(&kit.wait(20_000));
        assert!(is_it(&work), "{work:?}");
        assert!(events(stuck(&mut kit)).is_empty(), "told once");
    }
}

#[test]
fn a_frame_that_cannot_be_read_is_made_anew_and_a_failure_that_cannot_be_written_is_told() {
    let mut kit = kit();
    queue(&mut kit, 1, 11);
    kit.server_says(pubkey(ALICE, Some(2)));
    assert_eq!(made(&mut kit, 11), [PostWork::Dispatch(11)]);
    let anew = works(&post(&mut kit, PostDone::Unmade(11)));
    assert!(
        matches!(&anew[..], [PostWork::Make(making)] if making.id == 11),
        "{anew:?}"
    );
    let why = "no key".to_owned();
    let fault = TellFault::Key { user: user(ALICE), why };
    let result = Err(fault.clone());
    let failing = works(&post(&mut kit, PostDone::Made { id: 11, result }));
    assert!(matches!(&failing[..], [PostWork::Fail { id: 11, .. }]), "{failing:?}");
    let result = Err("disk full".to_owned());
    let told = failure_of(post(&mut kit, PostDone::Failed { id: 11, result }));
    assert_eq!(told, Some(fault));
    // What is damaged in this profile goes nowhere, and is not called sent.
    queue(&mut kit, 2, 12);
    let (msg_ref, state) = (String::new(), PostState::Failed);
    let told = failure_of(post(&mut kit, PostDone::Gone { id: 12, msg_ref, state }));
    assert!(matches!(told, Some(TellFault::GoesNowhere(_))), "{told:?}");
}

/// Alice says something with this number in our mailbox, which opens as this text.
fn arrive(kit: &mut Kit, seq: u64, ticket: Ticket, text: &str) -> Vec<Output> {
    let Payload::UserDeliver(delivery) = deliver(ALICE, 1, u8::try_from(ticket).unwrap()) else {
        panic!("it is one");
    };
    let seq = Some(seq);
    let sender_pub = key(2);
    kit.server_says(Payload::UserDeliver(UserDeliver {
        seq,
        sender_pub,
        ..delivery
    }));
    let result = Ok(text.to_owned());
    kit.input(Input::Opened { ticket, result })
}

fn up_to(outputs: &[Output]) -> Option<u64> {
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
        wants_receipt: true,
    }
}

#[test]
fn nothing_is_shown_or_acknowledged_before_it_is_written_and_a_disk_that_refuses_is_waited_for() {
    let mut kit = kit();
    let first = arrive(&mut kit, 5, 0, "one");
    assert!(
        matches!(&works(&first)[..], [PostWork::Store { up_to: Some(5), .. }]),
        "{first:?}"
    );
    // What comes meanwhile waits.
    for (seq, ticket) in [(6, 1), (9, 2)] {
        assert!(works(&arrive(&mut kit, seq, ticket, "more")).is_empty());
    }
    let refused = events(post(&mut kit, PostDone::Stored(Err("disk full".to_owned()))));
    assert!(
        matches!(&refused[..], [Event::Notice { text, .. }] if text.contains("disk full")),
        "{refused:?}"
    );
    assert!(works(&kit.wait(4_000)).is_empty());
    let again = kit.wait(1_000);
    let [
        PostWork::Store {
            deposits,
            up_to: Some(9),
        },
    ] = &works(&again)[..]
    else {
        panic!("{again:?}");
    };
    assert_eq!(deposits.len(), 3, "all at once");
    let silent = post(&mut kit, PostDone::Stored(Err("disk full".to_owned())));
    assert!(events(silent).is_empty(), "told once");
    kit.wait(5_000);
    let written = post(&mut kit, PostDone::Stored(Ok((1..=3).map(new).collect())));
    assert_eq!(up_to(&written), Some(9), "one for all");
    let shown = events(written);
    assert_eq!(shown.iter().filter(|it| matches!(it, Event::Message(_))).count(), 3);
    assert!(matches!(&shown[3], Event::Notice { text, .. } if text.contains("can be written again")));
}

#[test]
fn what_was_known_and_not_shown_is_shown_with_its_marks() {
    let mut kit = kit();
    let by = Voice::from_bytes([7; 8]);
    let gap = Gap { by, from_n: 2, to_n: 3 };
    let known = |id, is_late, gap| Outcome::Known {
        id,
        is_unshown: true,
        is_late,
        gap,
    };
    for (id, is_late, gap) in [(1, true, None), (2, false, Some(gap))] {
        arrive(&mut kit, id, id - 1, "hello");
        let stored = PostDone::Stored(Ok(vec![known(id, is_late, gap)]));
        let mut told = events(post(&mut kit, stored));
        let message = told.pop();
        assert!(
            matches!(&message, Some(Event::Message(message)) if message.is_late == is_late),
            "{message:?}"
        );
        let is_gap = matches!(&told[..], [Event::Gap { count: 2, .. }]);
        assert!(is_gap == gap.is_some() && told.len() < 2, "{told:?}");
    }
    // Another program wrote it, and this one asks for nothing; one that was killed may not have asked.
    let asked = post(&mut kit, PostDone::Missed { from: user(ALICE), gap });
    let (said, ..) = seal_word(&mut kit, &asked);
    let (from_n, to_n) = (2, 3);
    assert_eq!(said, socp_proto::Said::Again { by, from_n, to_n });
}

/// What the server says of Alice's program, and whether what is written to her then is numbered.
fn says_of_her(kit: &mut Kit, caps: Option<&[&str]>, ticket: Ticket) -> (Vec<Event>, bool) {
    let Payload::PubkeyResponse(answer) = pubkey(ALICE, Some(2)) else {
        panic!("it is one");
    };
    let caps = caps.map(|caps| Capabilities::of(caps).unwrap());
    let told = events(kit.server_says(Payload::PubkeyResponse(PubkeyResponse { caps, ..answer })));
    let id = 100 + ticket;
    let making = works(&queue(kit, ticket, id)).into_iter().find_map(|work| match work {
        PostWork::Make(making) => Some(making.is_numbered),
        _ => None,
    });
    (told, making.unwrap())
}

#[test]
fn a_server_cannot_say_that_a_program_does_not_number_which_has() {
    let mut kit = kit();
    // Her key is asked for once; that is answered here.
    queue(&mut kit, 1, 11);
    assert_eq!(says_of_her(&mut kit, Some(&[]), 2), (Vec::new(), false));
    let text = |n| {
        let speech = socp_proto::Speech {
            by: Voice::from_bytes([7; 8]),
            from: user(ALICE),
            to: user(ME),
            said: socp_proto::Said::Text {
                n,
                text: "hello".to_owned(),
            },
        };
        speech.to_plaintext()
    };
    let arrived = |kit: &mut Kit, seq: u64, said: &str| {
        let arrived = arrive(kit, seq, seq - 1, said);
        post(kit, PostDone::Stored(Ok(vec![new(seq)])));
        arrived.into_iter().find_map(|output| match output {
            Output::SaveProgram(program) => Some((program.acks, program.numbered_at)),
            _ => None,
        })
    };
    assert_eq!(arrived(&mut kit, 1, "plain"), None);
    // 77 is when she said it.
    assert_eq!(arrived(&mut kit, 2, &text(1)), Some((true, 77)));
    let (told, is_numbered) = says_of_her(&mut kit, Some(&[]), 3);
    assert!(
        matches!(&told[..], [Event::Notice { from: Some(of), text }] if of.as_str() == ALICE && text.contains("ack/1")),
        "{told:?}"
    );
    assert!(is_numbered);
    assert_eq!(says_of_her(&mut kit, Some(&[]), 4), (Vec::new(), true), "told once");
    // Said at the same time, it is not newer.
    assert_eq!(arrived(&mut kit, 3, "an old one"), None);
    assert_eq!(says_of_her(&mut kit, None, 5), (Vec::new(), true));
}

/// Seals what is to be said inside the encryption: what it is, its reference, and what goes out.
fn seal_word(kit: &mut Kit, outputs: &[Output]) -> (socp_proto::Said, String, Vec<Output>) {
    let [
        Output::Seal {
            place: Place::Word,
            ticket,
            text,
            ..
        },
    ] = outputs
    else {
        panic!("{outputs:?}");
    };
    let speech = socp_proto::Speech::read(text).unwrap().unwrap();
    let content_sig = socp_proto::Base64Url::encode(&[&[8; 8], &ticket.to_be_bytes()[..]].concat());
    let msg_ref = socp_proto::payload::msg_ref(&content_sig);
    let sealed = Sealed {
        ciphertext: socp_proto::Base64Url::encode(&[9; 512]),
        content_sig,
    };
    let word = kit.input(Input::Sealed {
        place: Place::Word,
        ticket: *ticket,
        result: Ok(sealed),
    });
    (speech.said, msg_ref, word)
}

fn owed(n: u64) -> Owed {
    Owed {
        to: user(ALICE),
        msg_ref: format!("her {n}"),
        state: ReceiptState::Read,
    }
}

#[test]
fn receipts_are_put_together_and_owed_until_they_are_answered() {
    let mut kit = kit();
    for ticket in 0..3 {
        arrive(&mut kit, ticket + 1, ticket, "hello");
        let stored = post(&mut kit, PostDone::Stored(Ok(vec![new(ticket)])));
        assert!(
            !stored.iter().any(|it| matches!(it, Output::Seal { .. })),
            "not one for each"
        );
    }
    let said = kit.wait(1_000);
    let (said, msg_ref, word) = seal_word(&mut kit, &said);
    let socp_proto::Said::Receipt { state, refs } = said else {
        panic!("{said:?}");
    };
    assert_eq!((state, refs.len()), (ReceiptState::Delivered, 3));
    assert_eq!(sent(&word), [FrameKind::MsgDirect]);
    let done = works(&kit.server_says(stored_by(SERVER, &[msg_ref.as_str()])));
    assert_eq!(done, [PostWork::Receipted { state, refs }]);
}

#[test]
fn a_receipt_that_is_refused_for_now_stays_owed_and_one_that_is_refused_for_good_does_not() {
    let table = [
        (ErrorCode::NotStored, true),
        (ErrorCode::MailboxFull, true),
        (ErrorCode::RateLimited, true),
        (ErrorCode::Timeout, true),
        (ErrorCode::UserNotFound, true),
        (ErrorCode::BadKey, false),
        (ErrorCode::TooLarge, false),
    ];
    for (code, stays) in table {
        let mut kit = kit();
        let (one, next) = (vec![owed(1)], None);
        post(&mut kit, PostDone::Owed { owed: one, next });
        let said = kit.wait(1_000);
        let (_, msg_ref, _) = seal_word(&mut kit, &said);
        let refused = works(&kit.server_says(error(code.clone(), ALICE, Some(msg_ref))));
        let receipted = PostWork::Receipted {
            state: ReceiptState::Read,
            refs: vec!["her 1".to_owned()],
        };
        assert_eq!(refused, if stays { Vec::new() } else { vec![receipted] }, "{code}");
        let later = works(&kit.wait(900_000));
        let again = PostWork::Owed { after: 0 };
        assert_eq!(later, if stays { vec![again] } else { Vec::new() }, "{code}");
    }
}

#[test]
fn what_is_owed_is_read_on_when_its_beginning_is_given_or_cannot_be() {
    let mut kit = kit();
    let (first, next) = ((1..=3).map(owed).collect(), Some(70));
    let waits = post(&mut kit, PostDone::Owed { owed: first, next });
    assert!(works(&waits).is_empty(), "{waits:?}");
    let said = kit.wait(1_000);
    let (_, _, word) = seal_word(&mut kit, &said);
    assert_eq!(works(&word), [PostWork::Owed { after: 70 }]);
    // To whom nothing can be said, nothing is waited for.
    let strangers = (1..=3).map(|n| Owed {
        to: user("eve-id"),
        ..owed(n)
    });
    let (strangers, next) = (strangers.collect(), Some(90));
    post(&mut kit, PostDone::Owed { owed: strangers, next });
    assert_eq!(kit.wait(1_000), [Output::Post(PostWork::Owed { after: 90 })]);
    let (none, next) = (Vec::new(), None);
    let done = post(&mut kit, PostDone::Owed { owed: none, next });
    assert!(works(&done).is_empty());
}

#[test]
fn who_asks_again_and_again_is_answered_a_few_times() {
    let mut kit = kit();
    let again = |by, from_n, to_n| {
        let speech = socp_proto::Speech {
            by: Voice::from_bytes([7; 8]),
            from: user(ALICE),
            to: user(ME),
            said: socp_proto::Said::Again { by, from_n, to_n },
        };
        speech.to_plaintext()
    };
    let ours = Voice::from_bytes([3; 8]);
    let mut recalled = 0;
    for ticket in 0..20 {
        let by = if ticket == 0 { Voice::from_bytes([4; 8]) } else { ours };
        let done = works(&arrive(&mut kit, ticket + 1, ticket, &again(by, 1, 64)));
        recalled += done
            .iter()
            .filter(|work| matches!(work, PostWork::Recall { .. }))
            .count();
        post(&mut kit, PostDone::Stored(Ok(vec![Outcome::Done])));
    }
    assert_eq!(recalled, 4);
    kit.wait(60_000);
    let later = works(&arrive(&mut kit, 30, 20, &again(ours, 1, 2)));
    assert!(later.iter().any(|work| matches!(work, PostWork::Recall { .. })));
}

/// A message with this number, whose author says that this is the key.
fn from_somebody(id: &UserId, key_number: u8, seq: u64) -> Payload {
    let Payload::UserDeliver(deliver) = deliver(id.as_str(), 1, u8::try_from(seq).unwrap()) else {
        panic!("no message");
    };
    Payload::UserDeliver(UserDeliver {
        sender_pub: key(key_number),
        seq: Some(seq),
        ..deliver
    })
}

/// Whether something is opened with this key.
fn opens_with(outputs: &[Output], number: u8) -> bool {
    let is_it = |output: &Output| matches!(output, Output::Open { key: with, .. } if *with == key(number));
    outputs.iter().any(is_it)
}

fn pinned(id: &UserId, number: u8) -> UserPin {
    UserPin {
        user: id.clone(),
        pubkey: key(number),
        enc_pubkey: key(number),
        name: None,
        server_id: None,
        server_name: None,
        version: 1,
        revoked: false,
        acks: true,
        former: Vec::new(),
        numbered_at: 0,
    }
}

#[test]
fn the_first_key_of_an_id_opens_nothing_where_more_is_known_of_its_owner() {
    let author = UserId::made_from(key(7).fingerprint());
    let denied = TrustRecord {
        denied: vec![(author.clone(), key(7).fingerprint())],
        ..TrustRecord::default()
    };
    let promised = TrustRecord {
        expected: [(author.clone(), pinned(&author, 8).fingerprint())].into(),
        ..TrustRecord::default()
    };
    let table = [
        (TrustRecord::default(), vec![pinned(&author, 8)]),
        (denied, Vec::new()),
        (promised, Vec::new()),
    ];
    for (record, pins) in table {
        let mut kit = Kit::knowing(record, pins).without_history();
        enter(&mut kit);
        kit.server_says(from_somebody(&author, 7, 1));
        let answered = kit.server_says(pubkey(author.as_str(), None));
        assert!(!opens_with(&answered, 7), "{answered:?}");
        let stored = works(&kit.wait(1_000));
        assert!(!opens_with(&kit.wait(60_000), 7), "{stored:?}");
    }
}

#[test]
fn a_decision_of_which_a_program_heard_nothing_else_takes_the_key_away() {
    let author = user(ALICE);
    let before = UserPin {
        version: 2,
        ..pinned(&author, 2)
    };
    let mut kit = Kit::knowing(TrustRecord::default(), vec![before]).without_history();
    enter(&mut kit);
    assert!(opens_with(&kit.server_says(from_somebody(&author, 2, 1)), 2));
    // Another program raised the alarm and decided it.
    let trust = TrustRecord {
        denied: vec![(author.clone(), key(2).fingerprint())],
        ..TrustRecord::default()
    };
    let pins = vec![pinned(&author, 3)];
    kit.input(Input::Decided { trust, pins });
    assert!(!opens_with(&kit.server_says(from_somebody(&author, 2, 2)), 2));
    assert!(opens_with(&kit.server_says(from_somebody(&author, 3, 3)), 3));
}

#[test]
fn whose_id_is_made_from_the_key_is_read_where_no_server_remembers_them() {
    let mut kit = kit();
    let author = UserId::made_from(key(7).fingerprint());
    let asked = kit.server_says(from_somebody(&author, 7, 1));
    assert_eq!(sent(&asked), [FrameKind::PubkeyRequest]);
    let opened = kit.server_says(pubkey(author.as_str(), None));
    let keys: Vec<_> = opened
        .iter()
        .filter_map(|output| match output {
            Output::Open { key, .. } => Some(key.clone()),
            _ => None,
        })
        .collect();
    assert_eq!(keys, [key(7)]);
    // Another key than the one that the id is made from says nothing, unless somebody shows one day how it came after it.
    kit.server_says(from_somebody(&author, 8, 2));
    let held = kit.server_says(pubkey(author.as_str(), None));
    assert!(
        !held.iter().any(|output| matches!(output, Output::Open { .. })),
        "{held:?}"
    );
    let stored = works(&kit.wait(50));
    assert!(
        matches!(&stored[..], [PostWork::Store { deposits, .. }] if matches!(deposits[..], [Deposit::Hold { .. }])),
        "{stored:?}"
    );
    let told = post(&mut kit, PostDone::Stored(Ok(vec![Outcome::Held { is_first: true }])));
    let notices = events(told)
        .into_iter()
        .filter(|event| matches!(event, Event::Notice { .. }));
    assert_eq!(notices.count(), 1);
}
