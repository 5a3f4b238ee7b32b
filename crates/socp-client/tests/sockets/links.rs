//! Links that break, and leaving while there is more to do than time.

use crate::puppet::*;
use socp_client::{Client, Event};
use socp_proto::{FrameKind, UserId};
use std::time::Duration;

/// Enough that some are still being sealed and signed when the link is gone.
const TOLD: usize = 40;
/// A long message takes a good part of a second to decrypt; all of them take far longer than leaving may.
const LONG_MESSAGES: u64 = 100;
/// Longer than leaving takes, and far shorter than those messages.
const LEAVE_WAIT_MAX: Duration = Duration::from_secs(20);

fn alice() -> UserId {
    UserId::try_from(ALICE).unwrap()
}

#[tokio::test]
async fn what_was_meant_for_a_link_that_broke_does_not_go_over_the_next() {
    let dir = tempfile::tempdir().unwrap();
    let (profile, key) = profile(dir.path());
    let (listener, mut options) = listen().await;
    options.reconnect = true;
    let me = profile.identity().user_id.clone();
    let (server, alice_key) = tokio::join!(generate(), generate());
    let puppet = tokio::spawn(async move {
        let mut puppet = Puppet::accept(&listener, &server).await;
        puppet.welcome(&me).await;
        puppet.expect(FrameKind::PubkeyRequest).await;
        puppet.say(&me, &key_of(ALICE, Some(&alice_key))).await;
        puppet.expect(FrameKind::MsgDirect).await;
        drop(puppet);
        let mut puppet = Puppet::accept(&listener, &server).await;
        // The hello and the request for the list, and nothing before or between.
        puppet.welcome(&me).await;
        // Nor behind them: what is asked for now comes next.
        puppet.expect(FrameKind::PubkeyRequest).await;
    });
    let (client, mut events) = Client::connect(profile, key, options).await.unwrap();
    let mut telling = Vec::new();
    for number in 0..TOLD {
        telling.push(client.begin_tell(alice(), format!("message {number}")).await.unwrap());
    }
    for told in telling {
        told.await.unwrap_err();
    }
    while !matches!(next(&mut events).await, Event::Offline { .. }) {}
    while !matches!(next(&mut events).await, Event::Online { .. }) {}
    let stranger = UserId::try_from("stranger-id").unwrap();
    let lost = tokio::spawn(async move { client.tell(stranger, "hello".to_owned()).await });
    puppet.await.unwrap();
    lost.abort();
}

#[tokio::test]
async fn who_leaves_does_not_wait_for_all_that_is_being_decrypted() {
    let dir = tempfile::tempdir().unwrap();
    let (profile, key) = profile(dir.path());
    let (listener, options) = listen().await;
    let (reader, me) = (profile.clone(), profile.identity().user_id.clone());
    let (server, alice_key) = tokio::join!(generate(), generate());
    let puppet = tokio::spawn(async move {
        let mut puppet = Puppet::accept(&listener, &server).await;
        puppet.welcome(&me).await;
        puppet.say(&me, &key_of(ALICE, Some(&alice_key))).await;
        let long = vec![b'x'; 64 * 1024];
        for ts in 0..LONG_MESSAGES {
            let message = deliver(&reader, &alice_key, &long, ts);
            puppet.say(&me, &message).await;
        }
        // It stays, and never answers the close.
        puppet
    });
    let (client, mut events) = Client::connect(profile, key, options).await.unwrap();
    let mut read = 0;
    while read == 0 {
        read += u64::from(matches!(next(&mut events).await, Event::Message(_)));
    }
    let puppet = puppet.await.unwrap();
    tokio::time::timeout(LEAVE_WAIT_MAX, client.close()).await.unwrap();
    while let Some(event) = events.next().await {
        read += u64::from(matches!(event, Event::Message(_)));
    }
    assert!(read < LONG_MESSAGES, "all was read, so that nothing was left undone");
    drop(puppet);
}
