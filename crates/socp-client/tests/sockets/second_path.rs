//! A server that swaps keys, and what finds it out: another server, a contact, a card (PROTOCOL II.11).

use crate::puppet::*;
use socp_client::{CardOutcome, Client, ClientError, Event, Options, Profile, TellFault, Teller, Trust, UserPin};
use socp_crypto::{PrivateKey, UserKeys};
use socp_proto::payload::PubkeyResponse;
use socp_proto::{Card, CardFingerprint, FrameKind, KeyHistory, KeyText, Payload, PublicPair, UserId};
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio_tungstenite::tungstenite::Message;

/// Uses a server once, so that the profile knows it.
async fn use_once(profile: &Profile, key: &UserKeys, listener: &TcpListener, options: &Options, server: &PrivateKey) {
    let me = profile.identity().user_id.clone();
    let puppet = async {
        let mut puppet = Puppet::accept(listener, server).await;
        puppet.expect(FrameKind::UserHello).await;
        let Payload::Ack(mut ack) = ack(server) else {
            panic!("it is one");
        };
        ack.server_id = Some("other-server".try_into().unwrap());
        puppet
            .say_for(
                socp_proto::Id::try_from("other-server").unwrap(),
                &me,
                5,
                &Payload::Ack(ack),
            )
            .await;
        puppet
    };
    let (_puppet, connected) = tokio::join!(puppet, Client::connect(profile.clone(), key.clone(), options.clone()));
    connected.unwrap().0.close().await;
}

fn bob() -> UserId {
    UserId::try_from(ALICE).unwrap()
}

fn fingerprint(key: &PrivateKey) -> CardFingerprint {
    let key = KeyText::from_der(key.public_key().spki_der());
    CardFingerprint::of(&key, &key)
}

/// The other server's end of one question, which it answers when it is its turn.
async fn answer(
    listener: TcpListener,
    server: PrivateKey,
    user_key: Option<PrivateKey>,
    turn: Option<oneshot::Receiver<()>>,
) {
    let mut puppet = Puppet::accept(&listener, &server).await;
    let asked = puppet.next_unsigned().await;
    if let Some(turn) = turn {
        turn.await.unwrap();
    }
    let Payload::PubkeyRequest(request) = &asked.payload else {
        panic!("{asked:?}");
    };
    assert_eq!(
        (request.user_id.as_str(), asked.envelope.from.as_str()),
        (ALICE, "stranger")
    );
    let stranger = UserId::try_from("stranger").unwrap();
    puppet.say(&stranger, &key_of(ALICE, user_key.as_ref())).await;
}

#[tokio::test]
async fn a_key_that_was_swapped_before_the_first_contact_is_found_out_by_another_server() {
    let dir = tempfile::tempdir().unwrap();
    let (profile, key) = profile(dir.path());
    let me = profile.identity().user_id.clone();
    let ((home, options), (elsewhere, others)) = (listen().await, listen().await);
    let (server, other, alice, mallory) = tokio::join!(generate(), generate(), generate(), generate());
    use_once(&profile, &key, &elsewhere, &others, &other).await;
    let (is_sent, turn) = oneshot::channel();
    let second = tokio::spawn(answer(elsewhere, other, Some(alice), Some(turn)));
    let false_key = mallory.clone();
    let first = tokio::spawn(async move {
        let mut puppet = Puppet::accept(&home, &server).await;
        puppet.welcome(&me).await;
        puppet.expect(FrameKind::PubkeyRequest).await;
        puppet.say(&me, &key_of(ALICE, Some(&false_key))).await;
        puppet.expect(FrameKind::MsgDirect).await;
        puppet.expect(FrameKind::PubkeyRequest).await;
        puppet.say(&me, &key_of(ALICE, Some(&false_key))).await;
        puppet
    });
    let (client, mut events) = Client::connect(profile.clone(), key, options).await.unwrap();
    client.tell(bob(), "to whom?".to_owned()).await.unwrap();
    is_sent.send(()).unwrap();
    second.await.unwrap();
    let alarm = loop {
        if let Event::KeyChanged { alarm, known } = next(&mut events).await {
            assert_eq!(known, Some(fingerprint(&mallory)));
            break alarm;
        }
    };
    assert!(
        matches!(&alarm.teller, Teller::OtherServer(url) if url == others.server.as_str()),
        "{alarm:?}"
    );
    let refused = client.tell(bob(), "again".to_owned()).await.unwrap_err();
    assert!(
        matches!(refused, ClientError::Tell(TellFault::KeyChanged { .. })),
        "{refused}"
    );
    assert_eq!(client.resolve(ALICE).await.unwrap().standing.trust, Trust::Changed);
    assert_eq!(profile.alarms().unwrap(), std::slice::from_ref(&alarm));

    // Decided in another program, while this one runs.
    Profile::open(dir.path()).unwrap().accept_key(&alarm).unwrap();
    assert_eq!(client.resolve(ALICE).await.unwrap().standing.trust, Trust::Pinned);
    drop(first.await.unwrap());
}

/// Also where the program has nothing more to do than to send one message: it waits for the answer.
#[tokio::test]
async fn who_says_the_same_key_is_remembered_even_by_a_program_that_leaves_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let (profile, key) = profile(dir.path());
    let me = profile.identity().user_id.clone();
    let ((home, options), (elsewhere, others)) = (listen().await, listen().await);
    let (server, other, alice) = tokio::join!(generate(), generate(), generate());
    use_once(&profile, &key, &elsewhere, &others, &other).await;
    let second = tokio::spawn(answer(elsewhere, other, Some(alice.clone()), None));
    let first = tokio::spawn(async move {
        let mut puppet = Puppet::accept(&home, &server).await;
        puppet.welcome(&me).await;
        for kind in [FrameKind::PubkeyRequest, FrameKind::MsgDirect, FrameKind::PubkeyRequest] {
            puppet.expect(kind).await;
            if kind == FrameKind::PubkeyRequest {
                puppet.say(&me, &key_of(ALICE, Some(&alice))).await;
            }
        }
        puppet
    });
    let (client, _events) = Client::connect(profile.clone(), key, options).await.unwrap();
    client.tell(bob(), "hello".to_owned()).await.unwrap();
    client.close().await;
    second.await.unwrap();
    let said = profile.confirmations().unwrap();
    assert_eq!(said, [(bob(), Teller::OtherServer(others.server.as_str().to_owned()))]);
    assert!(profile.alarms().unwrap().is_empty());
    drop(first.await.unwrap());
}

/// The question is answered by a server with another key, for each of two first contacts; it is told of once.
#[tokio::test]
async fn a_server_whose_key_has_changed_is_named_once_as_no_witness() {
    let dir = tempfile::tempdir().unwrap();
    let (profile, key) = profile(dir.path());
    let me = profile.identity().user_id.clone();
    let ((home, options), (elsewhere, others)) = (listen().await, listen().await);
    let (server, other, changed, alice) = tokio::join!(generate(), generate(), generate(), generate());
    use_once(&profile, &key, &elsewhere, &others, &other).await;
    let (alices, users) = (alice.clone(), [ALICE, "carol-id"]);
    let second = tokio::spawn(async move {
        for user in users {
            let mut puppet = Puppet::accept(&elsewhere, &changed).await;
            puppet.next_unsigned().await;
            let stranger = UserId::try_from("stranger").unwrap();
            puppet.say(&stranger, &key_of(user, Some(&alices))).await;
        }
    });
    let first = tokio::spawn(async move {
        let mut puppet = Puppet::accept(&home, &server).await;
        puppet.welcome(&me).await;
        for user in users {
            for kind in [FrameKind::PubkeyRequest, FrameKind::MsgDirect, FrameKind::PubkeyRequest] {
                puppet.expect(kind).await;
                if kind == FrameKind::PubkeyRequest {
                    puppet.say(&me, &key_of(user, Some(&alice))).await;
                }
            }
        }
        puppet
    });
    let (client, mut events) = Client::connect(profile.clone(), key, options).await.unwrap();
    for user in users {
        let to = UserId::try_from(user).unwrap();
        client.tell(to, "hello".to_owned()).await.unwrap();
    }
    second.await.unwrap();
    client.close().await;
    let mut told = Vec::new();
    while let Some(event) = events.next().await {
        if let Event::Notice { text, .. } = event {
            told.push(text);
        }
    }
    told.retain(|text| text.contains("does not sign with the key"));
    assert!(
        matches!(&told[..], [text] if text.contains(others.server.as_str()) && text.contains("socp list --server")),
        "{told:?}"
    );
    assert!(profile.alarms().unwrap().is_empty() && profile.confirmations().unwrap().is_empty());
    drop(first.await.unwrap());
}

/// Also what a newer key looks like to whoever asks by hand.
#[tokio::test]
async fn a_history_that_another_server_shows_is_followed_if_it_is_signed() {
    let dir = tempfile::tempdir().unwrap();
    let (profile, key) = profile(dir.path());
    let (elsewhere, others) = listen().await;
    let (other, old, new) = tokio::join!(generate(), generate(), generate());
    use_once(&profile, &key, &elsewhere, &others, &other).await;
    let server_pin = profile.server(others.server.as_str()).unwrap();
    let pair = |key: &PrivateKey| {
        let pubkey = KeyText::from_der(key.public_key().spki_der());
        PublicPair {
            enc_pubkey: pubkey.clone(),
            pubkey,
        }
    };
    let pin = UserPin {
        user: bob(),
        pubkey: pair(&old).pubkey,
        enc_pubkey: pair(&old).enc_pubkey,
        name: None,
        server_id: None,
        server_name: None,
        version: 1,
        revoked: false,
        acks: false,
        former: Vec::new(),
        numbered_at: 0,
    };
    let statement = KeyHistory::next(&bob(), &pair(&old), None, pair(&new), 7);
    for (signer, is_good) in [(&old, true), (&new, false)] {
        let statement = socp_crypto::sign_statement(statement.clone(), signer).unwrap();
        let Payload::PubkeyResponse(mut shown) = key_of(ALICE, Some(&new)) else {
            panic!("it is one");
        };
        shown.history = Some(KeyHistory::begin(pair(&old), statement).unwrap());
        let puppet = async {
            let mut puppet = Puppet::accept(&elsewhere, &other).await;
            puppet.next_unsigned().await;
            let stranger = UserId::try_from("stranger").unwrap();
            puppet.say(&stranger, &Payload::PubkeyResponse(shown)).await;
            puppet
        };
        let user = bob();
        let asked = socp_client::ask_server(&others.server, server_pin.as_ref(), &user);
        let (_puppet, word) = tokio::join!(puppet, asked);
        let word = word.unwrap();
        assert_eq!((word.follows(&pin), word.history.is_some()), (is_good, is_good));
        assert_eq!(word.keys, Some((pair(&new).pubkey, pair(&new).enc_pubkey)));
    }
}

/// Somebody in between can keep the other server silent, and no more.
#[tokio::test]
async fn a_word_that_the_other_server_did_not_sign_counts_for_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let (profile, key) = profile(dir.path());
    let (elsewhere, others) = listen().await;
    let (other, liar, mallory) = tokio::join!(generate(), generate(), generate());
    use_once(&profile, &key, &elsewhere, &others, &other).await;
    let pin = profile.server(others.server.as_str()).unwrap();
    let second = tokio::spawn(answer(elsewhere, liar, Some(mallory), None));
    let refused = socp_client::ask_server(&others.server, pin.as_ref(), &bob())
        .await
        .unwrap_err();
    assert!(
        matches!(&refused, ClientError::NoWitness { url } if url == others.server.as_str()),
        "{refused}"
    );
    second.await.unwrap();
}

#[tokio::test]
async fn a_key_that_does_not_fit_the_card_is_never_pinned() {
    let dir = tempfile::tempdir().unwrap();
    let (profile, key) = profile(dir.path());
    let me = profile.identity().user_id.clone();
    let (home, options) = listen().await;
    let (server, alice, mallory) = tokio::join!(generate(), generate(), generate());
    let card = Card::new(bob(), "srv.example", 1, Some("bob"), fingerprint(&alice)).unwrap();
    assert_eq!(profile.add_card(&card).unwrap(), CardOutcome::Expected);
    let true_key = alice.clone();
    let puppet = tokio::spawn(async move {
        for shown in [&mallory, &true_key] {
            let mut puppet = Puppet::accept(&home, &server).await;
            puppet.welcome(&me).await;
            puppet.expect(FrameKind::PubkeyRequest).await;
            puppet.say(&me, &key_of(ALICE, Some(shown))).await;
            loop {
                match futures_util::StreamExt::next(&mut puppet.socket).await {
                    Some(Ok(Message::Close(_)) | Err(_)) | None => break,
                    // Its farewell wants no answer, and finds nobody.
                    Some(Ok(Message::Text(text))) if text.as_str().contains("PUBKEY_REQUEST") => {
                        puppet.say(&me, &key_of(ALICE, Some(shown))).await;
                    }
                    Some(Ok(_)) => {}
                }
            }
        }
    });
    let (client, _events) = Client::connect(profile.clone(), key.clone(), options.clone())
        .await
        .unwrap();
    let refused = client.tell(bob(), "x".to_owned()).await.unwrap_err();
    assert!(
        matches!(refused, ClientError::Tell(TellFault::KeyChanged { .. })),
        "{refused}"
    );
    client.close().await;
    assert!(profile.pins().unwrap().is_empty());
    let alarms = profile.alarms().unwrap();
    profile.keep_key(&alarms[0]).unwrap();

    let (client, _events) = Client::connect(profile.clone(), key, options).await.unwrap();
    client.tell(bob(), "x".to_owned()).await.unwrap();
    assert_eq!(client.resolve(ALICE).await.unwrap().standing.trust, Trust::Verified);
    client.close().await;
    assert_eq!(profile.pins().unwrap()[0].fingerprint(), fingerprint(&alice));
    puppet.await.unwrap();
}

/// Of two friends only one is shown a false key; the other's card, in a message, tells them.
#[tokio::test]
async fn a_key_that_was_swapped_for_one_of_two_friends_is_found_out_by_the_others_card() {
    const CAROL: &str = "carol-id";
    let dir = tempfile::tempdir().unwrap();
    let (profile, key) = profile(dir.path());
    let (reader, me) = (profile.clone(), profile.identity().user_id.clone());
    let (home, options) = listen().await;
    let (server, alice, carol, mallory) = tokio::join!(generate(), generate(), generate(), generate());
    let card = Card::new(UserId::try_from(CAROL).unwrap(), "srv", 1, None, fingerprint(&carol)).unwrap();
    // Alice was compared with.
    let contact = Card::new(bob(), "srv", 1, None, fingerprint(&alice)).unwrap();
    profile.add_card(&contact).unwrap();
    let puppet = tokio::spawn(async move {
        let mut puppet = Puppet::accept(&home, &server).await;
        puppet.welcome(&me).await;
        let false_answer = key_of(CAROL, Some(&mallory));
        assert!(matches!(&false_answer, Payload::PubkeyResponse(PubkeyResponse { .. })));
        puppet.say(&me, &key_of(ALICE, Some(&alice))).await;
        puppet.say(&me, &false_answer).await;
        let said = format!("this is Carol: {card}");
        puppet.say(&me, &deliver(&reader, &alice, said.as_bytes(), 1)).await;
        puppet
    });
    let (client, mut events) = Client::connect(profile.clone(), key, options).await.unwrap();
    let alarm = loop {
        if let Event::KeyChanged { alarm, .. } = next(&mut events).await {
            break alarm;
        }
    };
    assert_eq!((alarm.user.as_str(), &alarm.teller), (CAROL, &Teller::Contact(bob())));
    let refused = client.tell(alarm.user.clone(), "x".to_owned()).await.unwrap_err();
    assert!(refused.to_string().contains("your contact alice-id"), "{refused}");
    drop(puppet.await.unwrap());
}
