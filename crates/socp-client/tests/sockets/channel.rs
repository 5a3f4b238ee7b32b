//! The public channel with real keys.

use crate::puppet::*;
use socp_client::{CHANNEL_ID, Client, Event};
use socp_crypto::content::channel_preimage;
use socp_crypto::{ContentCheck, PrivateKey, PublicKey, check_content};
use socp_proto::payload::{ChannelMessage, ListResponse, OnlineUser};
use socp_proto::{Base64Url, FrameKind, KeyText, Meta, Payload, ServerId, UserId};

/// A copy of Alice's for this reader, signed by `signer`.
fn copy(reader: &PublicKey, signer: &PrivateKey, text: &[u8], ts: u64) -> Payload {
    let ciphertext = Base64Url::encode(&reader.seal(text).unwrap());
    let sig = signer.sign(&channel_preimage(ciphertext.as_str(), ALICE, ts)).unwrap();
    Payload::MsgPublicChannel(ChannelMessage {
        ciphertext,
        sender_pub: KeyText::from_der(signer.public_key().spki_der()),
        content_sig: Base64Url::encode(&sig),
        group_id: Some(CHANNEL_ID.to_owned()),
    })
}

#[tokio::test]
async fn only_copies_that_the_author_signed_are_shown() {
    let dir = tempfile::tempdir().unwrap();
    let (profile, key) = profile(dir.path());
    let (listener, options) = listen().await;
    let (server, alice, mallory) = tokio::join!(generate(), generate(), generate());
    let (reader, me) = (key.enc.public_key().clone(), profile.identity().user_id.clone());
    let puppet = tokio::spawn(async move {
        let mut puppet = Puppet::accept(&listener, &server).await;
        puppet.welcome(&me).await;
        let author = UserId::try_from(ALICE).unwrap();
        puppet
            .say_for(author.clone(), &me, 1, &copy(&reader, &alice, "hello: ü".as_bytes(), 1))
            .await;
        puppet.expect(FrameKind::PubkeyRequest).await;
        puppet.say(&me, &key_of(ALICE, Some(&alice))).await;
        let others = server.public_key();
        for (payload, ts) in [
            (copy(&reader, &mallory, b"forged", 2), 2),
            (copy(&reader, &alice, b"moved in time", 3), 4),
            (copy(others, &alice, b"for somebody else", 5), 5),
            (copy(&reader, &alice, b"again", 6), 6),
        ] {
            puppet.say_for(author.clone(), &me, ts, &payload).await;
        }
        puppet
    });
    let (_client, mut events) = Client::connect(profile, key, options).await.unwrap();
    let (mut shown, mut refused) = (Vec::new(), 0);
    while shown.len() < 2 {
        match next(&mut events).await {
            Event::Channel(message) => shown.push(message.text),
            Event::Notice { text, .. } => {
                assert!(
                    text.starts_with("a message to the channel that claims to be from alice-id"),
                    "{text}"
                );
                refused += 1;
            }
            _ => {}
        }
    }
    assert_eq!((shown, refused), (vec!["hello: ü".to_owned(), "again".to_owned()], 3));
    drop(puppet.await.unwrap());
}

#[tokio::test]
async fn a_copy_opens_with_its_members_key_and_bears_our_signature() {
    let dir = tempfile::tempdir().unwrap();
    let (profile, key) = profile(dir.path());
    let (listener, options) = listen().await;
    let (server, alice) = tokio::join!(generate(), generate());
    let (us, me) = (key.sign.public_key().clone(), profile.identity().user_id.clone());
    let text = "long enough for two blocks ".repeat(20);
    let expected = text.clone();
    let puppet = tokio::spawn(async move {
        let mut puppet = Puppet::accept(&listener, &server).await;
        puppet.expect(FrameKind::UserHello).await;
        let ack = ack(&server);
        puppet.say(&me, &ack).await;
        puppet.expect(FrameKind::ListRequest).await;
        let user = |id: &str| UserId::try_from(id).unwrap();
        let online = OnlineUser {
            user_id: user(ALICE),
            server_id: ServerId::try_from(SERVER).unwrap(),
            meta: Meta::default(),
            server_name: None,
            version: None,
        };
        let page = ListResponse {
            users: vec![user(ALICE)],
            online: vec![online],
            more: false,
        };
        puppet.say(&me, &Payload::ListResponse(page)).await;
        puppet.expect(FrameKind::PubkeyRequest).await;
        puppet.say(&me, &key_of(ALICE, Some(&alice))).await;
        let frame = puppet.expect(FrameKind::MsgPublicChannel).await;
        puppet.expect(FrameKind::PubkeyRequest).await;
        puppet.say(&me, &key_of(me.as_str(), None)).await;
        assert_eq!(check_content(&frame, &us), Ok(ContentCheck::Good));
        assert_eq!(
            (frame.envelope.from.as_str(), frame.envelope.to.as_str()),
            (me.as_str(), ALICE)
        );
        let Payload::MsgPublicChannel(message) = &frame.payload else {
            panic!("{frame:?}")
        };
        assert_eq!(message.group_id.as_deref(), Some(CHANNEL_ID));
        let opened = alice.open(&message.ciphertext.decode(), 10_000).unwrap();
        assert_eq!(opened.expose(), expected.as_bytes());
        puppet
    });
    let (client, _events) = Client::connect(profile, key, options).await.unwrap();
    let report = client.tell_all(text).await.unwrap();
    assert_eq!((report.sent.len(), report.failed.len()), (1, 0));
    drop(puppet.await.unwrap());
}
