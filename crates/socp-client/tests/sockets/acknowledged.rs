//! A server with `ack/1`: nothing that was said is lost, and nothing is acknowledged before it is on the disk (PROTOCOL II.6).

use crate::puppet::{ALICE, Puppet, SERVER, deliver, generate, key_of, listen, next, profile};
use socp_client::{Client, Event, EventStream, Options, PostState, Profile};
use socp_crypto::{PrivateKey, UserKeys};
use socp_proto::payload::{Ack, DirectMessage, ErrorNotice, Status, msg_ref};
use socp_proto::{
    ACK, Base64Url, Capabilities, ErrorCode, Frame, FrameKind, Payload, ReceiptState, Said, ServerId, Speech, UserId,
    Voice,
};
use std::path::Path;
use tokio::net::TcpListener;

struct Stage {
    profile: Profile,
    keys: UserKeys,
    user: UserId,
    listener: TcpListener,
    options: Options,
    server: PrivateKey,
    alice: PrivateKey,
}

impl Stage {
    async fn set(dir: &Path) -> Self {
        let (profile, keys) = profile(dir);
        let user = profile.identity().user_id.clone();
        let (listener, options) = listen().await;
        let (server, alice) = tokio::join!(generate(), generate());
        Self {
            profile,
            keys,
            user,
            listener,
            options: options.reading(),
            server,
            alice,
        }
    }

    async fn enter(&self, options: Options) -> (Client, EventStream, Puppet, Option<u64>) {
        let entering = Client::connect(self.profile.clone(), self.keys.clone(), options);
        let welcoming = self.welcome();
        let (entered, (puppet, after)) = tokio::join!(entering, welcoming);
        let (client, mut events) = entered.unwrap();
        while !matches!(next(&mut events).await, Event::Online { .. }) {}
        (client, events, puppet, after)
    }

    async fn welcome(&self) -> (Puppet, Option<u64>) {
        let mut puppet = Puppet::accept(&self.listener, &self.server).await;
        let mailbox = puppet.welcome_acking(&self.user).await;
        (puppet, mailbox.map(|mailbox| mailbox.after))
    }

    fn delivery(&self, text: &str, ts: u64, seq: u64) -> Payload {
        let Payload::UserDeliver(mut delivery) = deliver(&self.profile, &self.alice, text.as_bytes(), ts) else {
            panic!("it is one");
        };
        delivery.seq = Some(seq);
        Payload::UserDeliver(delivery)
    }

    /// A text of Alice's program, the nth of her device.
    fn numbered(&self, text: &str, n: u64, seq: u64) -> Payload {
        let text = text.to_owned();
        self.speech(Said::Text { n, text }, seq)
    }

    fn speech(&self, said: Said, seq: u64) -> Payload {
        let speech = Speech {
            by: Voice::from_bytes([7; 8]),
            from: UserId::try_from(ALICE).unwrap(),
            to: self.user.clone(),
            said,
        };
        self.delivery(&speech.to_plaintext(), seq, seq)
    }

    /// Answers the question for her key.
    async fn show_alice(&self, puppet: &mut Puppet) {
        puppet.expect(FrameKind::PubkeyRequest).await;
        let Payload::PubkeyResponse(mut answer) = key_of(ALICE, Some(&self.alice)) else {
            panic!("it is one");
        };
        answer.caps = Some(Capabilities::of(&[ACK]).unwrap());
        puppet.say(&self.user, &Payload::PubkeyResponse(answer)).await;
    }

    /// What our program says to Alice inside the encryption.
    fn opened(&self, frame: &Frame) -> Speech {
        let Payload::MsgDirect(DirectMessage { ciphertext, .. }) = &frame.payload else {
            panic!("it is one");
        };
        let opened = self.alice.open(&ciphertext.decode(), 1 << 16).unwrap();
        Speech::read(str::from_utf8(opened.expose()).unwrap()).unwrap().unwrap()
    }
}

fn reference(frame: &Frame) -> String {
    let Payload::MsgDirect(DirectMessage { content_sig, .. }) = &frame.payload else {
        panic!("it is no message: {frame:?}");
    };
    msg_ref(content_sig)
}

fn stored(frames: &[&Frame], server: &str) -> Payload {
    let mut refs = frames.iter().map(|frame| reference(frame));
    Payload::Ack(Ack {
        msg_ref: refs.next().unwrap(),
        also: refs.collect(),
        status: Some(Status::Stored),
        server_id: Some(ServerId::try_from(server).unwrap()),
        ..Ack::default()
    })
}

async fn up_to(puppet: &mut Puppet) -> u64 {
    let Payload::Ack(ack) = puppet.expect(FrameKind::Ack).await.payload else {
        panic!("it is one");
    };
    assert_eq!(ack.msg_ref, Ack::MAILBOX);
    ack.up_to.unwrap()
}

async fn text(events: &mut EventStream) -> String {
    loop {
        match next(events).await {
            Event::Message(message) => return message.text,
            Event::Presence(_) | Event::Online { .. } => {}
            other => panic!("{other:?}"),
        }
    }
}

async fn state(events: &mut EventStream) -> PostState {
    loop {
        if let Event::Post(news) = next(events).await {
            return news.state;
        }
    }
}

fn alice() -> UserId {
    UserId::try_from(ALICE).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_is_sent_byte_for_byte_until_it_is_answered() {
    let dir = tempfile::tempdir().unwrap();
    let stage = Stage::set(dir.path()).await;
    let lasting = Options::lasting(stage.options.server.clone());
    let (client, mut events, mut puppet, _) = stage.enter(lasting).await;
    let first = client.begin_tell(alice(), "one".to_owned()).await.unwrap();
    let second = client.begin_tell(alice(), "two".to_owned()).await.unwrap();
    stage.show_alice(&mut puppet).await;
    let (one, two) = (puppet.next().await, puppet.next().await);
    let said = |frame: &Frame| match stage.opened(frame).said {
        Said::Text { n, text } => (n, text),
        other => panic!("{other:?}"),
    };
    assert_eq!((said(&one), said(&two)), ((1, "one".to_owned()), (2, "two".to_owned())));
    puppet.say(&stage.user, &stored(&[&one], SERVER)).await;
    assert_eq!(first.await.unwrap().state, PostState::OnServer);
    // The link breaks before the second is answered.
    drop(puppet);
    assert_eq!(second.await.unwrap().state, PostState::Queued);
    let third = client
        .begin_tell(alice(), "three".to_owned())
        .await
        .unwrap()
        .await
        .unwrap();
    assert_eq!((third.state, third.msg_ref.as_str()), (PostState::Queued, ""));
    let (mut puppet, _) = stage.welcome().await;
    let again = puppet.next().await;
    let third = match again.envelope.kind {
        // Whom it is for is asked for once more, since the third is not made yet.
        FrameKind::PubkeyRequest => panic!("the oldest goes first"),
        _ => {
            stage.show_alice(&mut puppet).await;
            puppet.next().await
        }
    };
    assert_eq!(again.envelope, two.envelope);
    assert_eq!(said(&third), (3, "three".to_owned()));
    puppet.say(&stage.user, &stored(&[&again, &third], SERVER)).await;
    assert_eq!(
        (state(&mut events).await, state(&mut events).await),
        (PostState::OnServer, PostState::OnServer)
    );
    puppet.say(&stage.user, &stored(&[&again], "elsewhere")).await;
    assert_eq!(state(&mut events).await, PostState::OnTheirServer);
    let read = Said::Receipt {
        state: ReceiptState::Read,
        refs: vec![reference(&third), reference(&one), "nobody's".to_owned()],
    };
    puppet.say(&stage.user, &stage.speech(read, 1)).await;
    assert_eq!(
        (state(&mut events).await, state(&mut events).await),
        (PostState::Read, PostState::Read)
    );
    let kept = stage.profile.history().unwrap().last(Some(&alice()), 9).unwrap();
    let states: Vec<PostState> = kept.iter().map(|entry| entry.state).collect();
    assert_eq!(states, [PostState::Read, PostState::OnTheirServer, PostState::Read]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_arrives_is_on_the_disk_before_it_is_acknowledged_and_shown_once() {
    let dir = tempfile::tempdir().unwrap();
    let stage = Stage::set(dir.path()).await;
    let (client, mut events, mut puppet, after) = stage.enter(stage.options.clone()).await;
    assert_eq!(after, Some(0));
    puppet.say(&stage.user, &stage.numbered("one", 1, 4)).await;
    puppet.say(&stage.user, &stage.numbered("two", 2, 9)).await;
    stage.show_alice(&mut puppet).await;
    assert_eq!(
        (text(&mut events).await.as_str(), text(&mut events).await.as_str()),
        ("one", "two")
    );
    while up_to(&mut puppet).await != 9 {}
    client
        .shown(
            &stage.profile.history().unwrap().last(None, 1).unwrap()[0]
                .msg_ref
                .clone()
                .unwrap(),
            true,
        )
        .await
        .unwrap();
    // Its receipts tell what is here, and what was read.
    let mut told = Vec::new();
    while told.len() < 2 {
        if let Said::Receipt { state, refs } = stage.opened(&puppet.expect(FrameKind::MsgDirect).await).said {
            told.extend(refs.into_iter().map(|_| state));
        }
    }
    assert_eq!(told, [ReceiptState::Delivered, ReceiptState::Read]);
    // The program is killed; the server has not heard its acknowledgement.
    drop((client, events, puppet));
    let (_client, mut events, mut puppet, after) = stage.enter(stage.options.clone()).await;
    assert_eq!(after, Some(9));
    // The first was never marked as shown.
    assert_eq!(text(&mut events).await, "one");
    for (said, n, seq) in [("one", 1, 4), ("two", 2, 9), ("three", 3, 10)] {
        puppet.say(&stage.user, &stage.numbered(said, n, seq)).await;
    }
    assert_eq!(text(&mut events).await, "three");
    assert_eq!(stage.profile.history().unwrap().last(None, 9).unwrap().len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn gaps_are_shown_asked_for_once_and_closed() {
    let dir = tempfile::tempdir().unwrap();
    let stage = Stage::set(dir.path()).await;
    let (_client, mut events, mut puppet, _) = stage.enter(stage.options.clone()).await;
    puppet.say(&stage.user, &stage.numbered("1", 1, 1)).await;
    stage.show_alice(&mut puppet).await;
    assert_eq!(text(&mut events).await, "1");
    puppet.say(&stage.user, &stage.numbered("4", 4, 2)).await;
    assert!(matches!(next(&mut events).await, Event::Gap { count: 2, .. }));
    assert_eq!(text(&mut events).await, "4");
    let again = loop {
        let frame = puppet.next().await;
        if frame.envelope.kind == FrameKind::MsgDirect
            && let again @ Said::Again { .. } = stage.opened(&frame).said
        {
            break again;
        }
    };
    let by = Voice::from_bytes([7; 8]);
    let (from_n, to_n) = (2, 3);
    assert_eq!(again, Said::Again { by, from_n, to_n });
    puppet.say(&stage.user, &stage.numbered("3", 3, 3)).await;
    puppet.say(&stage.user, &stage.numbered("2", 2, 4)).await;
    for said in ["3", "2"] {
        let Event::Message(message) = next(&mut events).await else {
            panic!("it is shown");
        };
        assert_eq!((message.text.as_str(), message.is_late), (said, true));
    }
    let kept = stage.profile.history().unwrap().last(Some(&alice()), 9).unwrap();
    assert_eq!(
        kept.iter().map(|entry| entry.text.as_str()).collect::<Vec<_>>(),
        ["1", "2", "3", "4"]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gap_is_told_and_asked_for_by_the_next_program_where_the_first_was_killed() {
    let dir = tempfile::tempdir().unwrap();
    let stage = Stage::set(dir.path()).await;
    let (client, mut events, mut puppet, _) = stage.enter(stage.options.clone()).await;
    for (n, seq) in [(1, 1), (4, 2), (3, 3)] {
        puppet.say(&stage.user, &stage.numbered(&n.to_string(), n, seq)).await;
    }
    stage.show_alice(&mut puppet).await;
    assert_eq!(text(&mut events).await, "1");
    while up_to(&mut puppet).await != 3 {}
    // Nothing was marked as shown, and what it has asked for is lost with the link.
    drop((client, events, puppet));
    let (_client, mut events, mut puppet, _) = stage.enter(stage.options.clone()).await;
    assert_eq!(text(&mut events).await, "1");
    assert!(matches!(next(&mut events).await, Event::Gap { count: 2, .. }));
    for (said, is_late) in [("4", false), ("3", true)] {
        let Event::Message(message) = next(&mut events).await else {
            panic!("it is shown");
        };
        assert_eq!((message.text.as_str(), message.is_late), (said, is_late));
    }
    loop {
        let frame = puppet.next().await;
        if frame.envelope.kind == FrameKind::MsgDirect
            && let Said::Again { from_n, to_n, .. } = stage.opened(&frame).said
        {
            assert_eq!((from_n, to_n), (2, 3));
            break;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn refusals_are_told_in_words_and_a_full_disk_elsewhere_is_none() {
    let dir = tempfile::tempdir().unwrap();
    let stage = Stage::set(dir.path()).await;
    let (client, mut events, mut puppet, _) = stage.enter(stage.options.clone()).await;
    let telling = client.begin_tell(alice(), "hello".to_owned()).await.unwrap();
    stage.show_alice(&mut puppet).await;
    let frame = puppet.next().await;
    let error = |code, seq| {
        Payload::Error(ErrorNotice {
            code,
            detail: ALICE.to_owned(),
            msg_ref: Some(reference(&frame)),
            seq,
        })
    };
    puppet.say(&stage.user, &error(ErrorCode::NotStored, None)).await;
    let again = puppet.next().await;
    assert_eq!(again.envelope, frame.envelope, "it is sent again after a while");
    puppet.say(&stage.user, &stored(&[&frame], SERVER)).await;
    assert_eq!(telling.await.unwrap().state, PostState::OnServer);
    // The recipient's server says no, much later.
    puppet.say(&stage.user, &error(ErrorCode::UserNotFound, Some(7))).await;
    assert_eq!(state(&mut events).await, PostState::Failed);
    assert_eq!(up_to(&mut puppet).await, 7);
    let telling = client.begin_tell(alice(), "more".to_owned()).await.unwrap();
    let frame = puppet.next().await;
    let full = ErrorNotice {
        code: ErrorCode::MailboxFull,
        detail: String::new(),
        msg_ref: Some(reference(&frame)),
        seq: None,
    };
    puppet.say(&stage.user, &Payload::Error(full)).await;
    let why = telling.await.unwrap_err().to_string();
    assert!(why.contains("has no room"), "{why}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_profile_that_cannot_be_written_for_a_while_holds_a_message_up_and_no_longer() {
    let dir = tempfile::tempdir().unwrap();
    let stage = Stage::set(dir.path()).await;
    let (client, mut events, mut puppet, _) = stage.enter(stage.options.clone()).await;
    let database = rusqlite::Connection::open(dir.path().join("profile.db")).unwrap();
    let full = "CREATE TRIGGER full BEFORE INSERT ON said BEGIN SELECT RAISE(ABORT, 'disk full'); END";
    database.execute_batch(full).unwrap();
    let telling = client.begin_tell(alice(), "hello".to_owned()).await.unwrap();
    stage.show_alice(&mut puppet).await;
    // Once this is shown, it was tried in vain.
    puppet.say(&stage.user, &stage.delivery("hi", 1, 1)).await;
    assert_eq!(text(&mut events).await, "hi");
    database.execute_batch("DROP TRIGGER full").unwrap();
    assert_eq!(up_to(&mut puppet).await, 1);
    let frame = puppet.expect(FrameKind::MsgDirect).await;
    assert!(matches!(stage.opened(&frame).said, Said::Text { n: 1, .. }));
    puppet.say(&stage.user, &stored(&[&frame], SERVER)).await;
    assert_eq!(telling.await.unwrap().state, PostState::OnServer);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_fits_nothing_is_ignored_or_told_and_never_stops_the_mailbox() {
    let dir = tempfile::tempdir().unwrap();
    let stage = Stage::set(dir.path()).await;
    let (_client, mut events, mut puppet, _) = stage.enter(stage.options.clone()).await;
    puppet.say(&stage.user, &stage.numbered("hello", 1, 5)).await;
    stage.show_alice(&mut puppet).await;
    assert_eq!(text(&mut events).await, "hello");
    let strange = Ack {
        msg_ref: "r".repeat(22),
        also: vec!["x".to_owned(); 256],
        status: Some(Status::Stored),
        ..Ack::default()
    };
    puppet.say(&stage.user, &Payload::Ack(strange)).await;
    let by = Voice::from_bytes([9; 8]);
    let (from_n, to_n) = (1, 64);
    for seq in 6..40 {
        puppet
            .say(&stage.user, &stage.speech(Said::Again { by, from_n, to_n }, seq))
            .await;
    }
    // Said to somebody else, and forwarded here under Alice's name.
    let speech = Speech {
        by,
        from: alice(),
        to: UserId::try_from("eve").unwrap(),
        said: Said::Text {
            n: 1,
            text: "for eve".to_owned(),
        },
    };
    puppet
        .say(&stage.user, &stage.delivery(&speech.to_plaintext(), 50, 40))
        .await;
    puppet.say(&stage.user, &stage.delivery("\u{1}no json", 51, 41)).await;
    // Somebody whose key is not to be had.
    let Payload::UserDeliver(mut nobody) = stage.delivery("from nobody", 52, 42) else {
        panic!("it is one");
    };
    nobody.sender = UserId::try_from("nobody-id").unwrap();
    puppet.say(&stage.user, &Payload::UserDeliver(nobody)).await;
    // A number again, one that goes back, and one beyond all measure.
    puppet.say(&stage.user, &stage.numbered("hello", 1, 5)).await;
    puppet.say(&stage.user, &stage.numbered("back", 2, 3)).await;
    let huge = (1 << 53) - 1;
    puppet.say(&stage.user, &stage.numbered("far", huge, 43)).await;
    let mut seen = Vec::new();
    loop {
        match next(&mut events).await {
            Event::Message(message) if message.text == "far" => break,
            Event::Message(message) => seen.push(message.text),
            Event::Notice { text, .. } => seen.push(text),
            Event::Gap { count, .. } => assert_eq!(count, huge - 3),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(seen.len(), 3, "{seen:?}");
    assert!(seen[0].contains("somebody else") && seen[1].contains("not in the form") && seen[2] == "back");
    // The key of nobody is asked for; until it is clear that there is none, nothing behind it is acknowledged.
    loop {
        let frame = puppet.next().await;
        match frame.payload {
            Payload::PubkeyRequest(request) if request.user_id.as_str() == "nobody-id" => {
                puppet.say(&stage.user, &key_of("nobody-id", None)).await;
            }
            Payload::Ack(Ack { up_to: Some(43), .. }) => break,
            Payload::Ack(Ack { up_to: Some(up_to), .. }) => assert!(up_to < 42, "{up_to}"),
            Payload::MsgDirect(_) => {}
            other => panic!("{other:?}"),
        }
    }
    let Event::Notice { text, .. } = next(&mut events).await else {
        panic!("it is told");
    };
    assert!(text.contains("their key is not to be had"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_verified_is_kept_as_a_notice_and_acknowledged() {
    // Content that verifies but is sealed for another key is told once, kept as a notice, and acknowledged.
    let dir = tempfile::tempdir().unwrap();
    let stage = Stage::set(dir.path()).await;
    let (_client, mut events, mut puppet, _) = stage.enter(stage.options.clone()).await;
    let Payload::UserDeliver(mut forged) = stage.delivery("hello", 5, 1) else {
        panic!("it is one");
    };
    forged.content_sig = Base64Url::encode(&[1; 512]);
    puppet.say(&stage.user, &Payload::UserDeliver(forged)).await;
    stage.show_alice(&mut puppet).await;
    assert!(matches!(next(&mut events).await, Event::Notice { .. }));
    assert_eq!(up_to(&mut puppet).await, 1);
    let kept = stage.profile.history().unwrap().last(None, 9).unwrap();
    assert_eq!(kept.len(), 1);
    assert!(kept[0].text.contains("was not accepted"));
}
