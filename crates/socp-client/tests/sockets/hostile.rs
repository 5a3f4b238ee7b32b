//! Servers that do what they must not.

use crate::puppet::*;
use futures_util::StreamExt as _;
use socp_client::{Client, ClientError, Event, Stop, TellFault};
use socp_proto::payload::{ErrorNotice, UserAdvertise};
use socp_proto::{ErrorCode, FrameKind, Id, KeyText, Meta, Payload, ServerId, UserId};
use tokio_tungstenite::tungstenite::Message;

#[tokio::test]
async fn only_what_the_pinned_key_signed_is_shown_as_a_message() {
    let dir = tempfile::tempdir().unwrap();
    let (profile, key) = profile(dir.path());
    let (listener, options) = listen().await;
    let (server, alice, mallory) = tokio::join!(generate(), generate(), generate());
    let (reader, me) = (profile.clone(), profile.identity().user_id.clone());
    let (is_shown, shown_real) = tokio::sync::oneshot::channel();
    let puppet = tokio::spawn(async move {
        let mut puppet = Puppet::accept(&listener, &server).await;
        puppet.welcome(&me).await;
        puppet.say(&me, &deliver(&reader, &mallory, b"forged", 1)).await;
        puppet.expect(FrameKind::PubkeyRequest).await;
        puppet.say(&me, &key_of(ALICE, Some(&alice))).await;
        puppet.say(&me, &deliver(&reader, &mallory, b"forged again", 2)).await;
        puppet.say(&me, &deliver(&reader, &alice, b"\xff\xfe", 3)).await;
        let real = deliver(&reader, &alice, "true: ü".as_bytes(), 4);
        puppet.say(&me, &real).await;
        puppet.say(&me, &real).await;
        // From here on nothing is shown as hers, however it is signed.
        shown_real.await.unwrap();
        puppet.say(&me, &key_of(ALICE, Some(&mallory))).await;
        puppet.say(&me, &deliver(&reader, &alice, b"too late", 5)).await;
        puppet.raw(Message::text("{\"type\":")).await;
        puppet.raw(Message::Binary(vec![1].into())).await;
        puppet
    });
    let (_client, mut events) = Client::connect(profile, key, options).await.unwrap();
    let mut shown = Vec::new();
    let mut is_shown = Some(is_shown);
    loop {
        match next(&mut events).await {
            Event::Message(message) => {
                shown.push(message.text);
                is_shown.take().unwrap().send(()).unwrap();
            }
            Event::Notice { text, .. } => shown.push(text.split(':').next().unwrap().to_owned()),
            Event::KeyChanged { .. } => shown.push("key changed".to_owned()),
            Event::Offline { reason } => {
                shown.push(reason);
                break;
            }
            _ => {}
        }
    }
    drop(puppet.await.unwrap());
    shown.sort();
    let refused = "a message that claims to be from alice-id was not accepted";
    let expected = [
        refused,
        refused,
        refused,
        refused,
        "ignored what the server sent",
        "key changed",
        "the server sent a binary message",
        "true: ü",
    ];
    assert_eq!(shown, expected);
}

#[tokio::test]
async fn a_server_that_changes_its_key_is_left_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let (profile, key) = profile(dir.path());
    let (listener, options) = listen().await;
    let me = profile.identity().user_id.clone();
    let (first, second) = tokio::join!(generate(), generate());
    let puppet = tokio::spawn(async move {
        let mut link = Puppet::accept(&listener, &first).await;
        link.welcome(&me).await;
        let mut other = Puppet::accept(&listener, &second).await;
        other.expect(FrameKind::UserHello).await;
        let ack = ack(&second);
        other.say(&me, &ack).await;
        // It leaves without another word.
        loop {
            match other.socket.next().await {
                Some(Ok(Message::Close(_)) | Err(_)) | None => break,
                Some(Ok(message)) => assert!(message.is_ping(), "{message:?}"),
            }
        }
    });
    let first = Client::connect(profile.clone(), key.clone(), options.clone())
        .await
        .unwrap();
    let refused = Client::connect(profile, key, options).await.map(drop).unwrap_err();
    assert!(
        matches!(refused, ClientError::Stopped(Stop::ServerKeyChanged { .. })),
        "{refused}"
    );
    puppet.await.unwrap();
    drop(first);
}

/// A server that has asked for a proof once is repeated by somebody who cannot, or runs an older program.
#[tokio::test]
async fn a_server_that_does_not_ask_for_a_proof_any_more_is_left() {
    let dir = tempfile::tempdir().unwrap();
    let (profile, key) = profile(dir.path());
    let (listener, options) = listen().await;
    let me = profile.identity().user_id.clone();
    let server = generate().await;
    let puppet = tokio::spawn(async move {
        let mut link = Puppet::accept(&listener, &server).await;
        let asked = link.challenge(&me).await;
        let frame = link.expect(FrameKind::Proof).await;
        let Payload::Proof(proof) = &frame.payload else {
            panic!("{frame:?}");
        };
        assert_eq!((proof.nonce, proof.hello), (asked.nonce, asked.hello));
        assert_eq!((&proof.server_id, &proof.by), (&asked.server_id, &Id::from(&me)));
        assert_eq!(proof.key, asked.server_pub.fingerprint().into());
        let ack = ack(&server);
        link.say(&me, &ack).await;
        link.expect(FrameKind::ListRequest).await;
        // The same words, which cover no hello and no time.
        let mut other = Puppet::accept(&listener, &server).await;
        other.expect(FrameKind::UserHello).await;
        other.say(&me, &ack).await;
        assert!(!matches!(other.socket.next().await, Some(Ok(Message::Text(_)))));
        // Nor does a question that was asked before get an answer.
        let mut third = Puppet::accept(&listener, &server).await;
        third.expect(FrameKind::UserHello).await;
        third.say(&me, &Payload::Challenge(asked)).await;
        assert!(!matches!(third.socket.next().await, Some(Ok(Message::Text(_)))));
    });
    let first = Client::connect(profile.clone(), key.clone(), options.clone())
        .await
        .unwrap();
    let connect = || Client::connect(profile.clone(), key.clone(), options.clone());
    let refused = connect().await.map(drop).unwrap_err();
    assert!(matches!(refused, ClientError::Stopped(Stop::NoChallenge)), "{refused}");
    let refused = connect().await.map(drop).unwrap_err();
    assert!(matches!(refused, ClientError::Stopped(Stop::Challenge(_))), "{refused}");
    puppet.await.unwrap();
    drop(first);
}

#[tokio::test]
async fn a_message_counts_as_sent_only_when_the_server_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let (profile, key) = profile(dir.path());
    let (listener, options) = listen().await;
    let me = profile.identity().user_id.clone();
    let (server, alice) = tokio::join!(generate(), generate());
    let puppet = tokio::spawn(async move {
        let mut puppet = Puppet::accept(&listener, &server).await;
        puppet.welcome(&me).await;
        puppet.expect(FrameKind::PubkeyRequest).await;
        puppet.say(&me, &key_of(ALICE, Some(&alice))).await;
        // The first is taken, the second refused, the third lost with the link.
        puppet.expect(FrameKind::MsgDirect).await;
        puppet.expect(FrameKind::PubkeyRequest).await;
        puppet.say(&me, &key_of(ALICE, Some(&alice))).await;
        puppet.expect(FrameKind::MsgDirect).await;
        puppet.expect(FrameKind::PubkeyRequest).await;
        let gone = ErrorNotice {
            code: ErrorCode::UserNotFound,
            detail: ALICE.to_owned(),
            msg_ref: None,
            seq: None,
        };
        puppet.say(&me, &Payload::Error(gone)).await;
        puppet.say(&me, &key_of(ALICE, None)).await;
        puppet.expect(FrameKind::MsgDirect).await;
    });
    let (client, _events) = Client::connect(profile, key, options).await.unwrap();
    let alice = || UserId::try_from(ALICE).unwrap();
    client.tell(alice(), "one".to_owned()).await.unwrap();
    let refused = client.tell(alice(), "two".to_owned()).await.unwrap_err();
    assert!(
        matches!(refused, ClientError::Tell(TellFault::NotOnline(_))),
        "{refused}"
    );
    let lost = client.tell(alice(), "three".to_owned()).await.unwrap_err();
    assert!(matches!(lost, ClientError::Tell(TellFault::Lost)), "{lost}");
    puppet.await.unwrap();
}

/// Everyone who is online, in one burst at the first contact.
#[tokio::test]
async fn many_new_users_share_few_transactions() {
    const USERS: usize = 300;
    let dir = tempfile::tempdir().unwrap();
    let (profile, key) = profile(dir.path());
    let (listener, options) = listen().await;
    let server = generate().await;
    let me = profile.identity().user_id.clone();
    let puppet = tokio::spawn(async move {
        let mut puppet = Puppet::accept(&listener, &server).await;
        puppet.welcome(&me).await;
        for user in 0..USERS {
            puppet.say(&me, &advert(user)).await;
        }
        puppet
    });
    let (client, mut events) = Client::connect(profile.clone(), key, options).await.unwrap();
    let mut present = 0;
    while present < USERS {
        if matches!(next(&mut events).await, Event::Presence(_)) {
            present += 1;
        }
    }
    // Whatever rests on the pins comes after they are stored.
    assert_eq!(client.list().await.unwrap().len(), USERS);
    assert_eq!(profile.pins().unwrap().len(), USERS);
    drop(puppet.await.unwrap());
    let database = rusqlite::Connection::open(dir.path().join("profile.db")).unwrap();
    // Pins of one transaction bear the same time.
    let transactions: i64 = database
        .query_row("SELECT count(DISTINCT first_seen) FROM pins", [], |row| row.get(0))
        .unwrap();
    assert!(transactions <= 30, "{transactions}");
}

fn advert(user: usize) -> Payload {
    Payload::UserAdvertise(UserAdvertise {
        user_id: UserId::try_from(format!("user-{user}")).unwrap(),
        server_id: ServerId::try_from(SERVER).unwrap(),
        meta: Meta::default(),
        pubkey: Some(KeyText::from_der(&user.to_be_bytes())),
        enc_pubkey: None,
        caps: None,
        version: None,
        directory_sig: None,
        server_name: None,
        history: None,
    })
}
