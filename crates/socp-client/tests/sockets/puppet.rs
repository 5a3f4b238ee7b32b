//! A server whose every word is the test's, and what goes with it.

use futures_util::{SinkExt as _, StreamExt as _};
use socp_client::{Event, Options, Profile, ServerUrl};
use socp_crypto::{ContentParts, PrivateKey, UserKeys, sign_content};
use socp_proto::payload::{Ack, ListResponse, MailboxRequest, PubkeyResponse, UserDeliver};
use socp_proto::{
    ACK, Address, Base64Url, Capabilities, Challenge, Draft, Frame, FrameKind, Id, KeyText, PROOF, Payload, ServerId,
    UserId, hello_digest,
};
use std::path::Path;
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;

pub(crate) const SERVER: &str = "server-id";
pub(crate) const ALICE: &str = "alice-id";

/// A server's end of one link, whose every word is the test's.
pub(crate) struct Puppet {
    pub(crate) socket: WebSocketStream<TcpStream>,
    pub(crate) key: PrivateKey,
}

impl Puppet {
    pub(crate) async fn accept(listener: &TcpListener, key: &PrivateKey) -> Self {
        let (stream, _) = listener.accept().await.unwrap();
        let socket = tokio_tungstenite::accept_async(stream).await.unwrap();
        Self {
            socket,
            key: key.clone(),
        }
    }

    pub(crate) async fn expect(&mut self, kind: FrameKind) -> Frame {
        let frame = self.next().await;
        assert_eq!(frame.envelope.kind, kind);
        frame
    }

    pub(crate) async fn next(&mut self) -> Frame {
        let frame = self.next_unsigned().await;
        assert!(!frame.envelope.sig.is_empty(), "{frame:?} is unsigned");
        frame
    }

    /// What somebody says who does not say who they are.
    pub(crate) async fn next_unsigned(&mut self) -> Frame {
        loop {
            match self.socket.next().await.unwrap().unwrap() {
                Message::Text(text) => return Frame::parse(text.as_str()).unwrap(),
                other => assert!(other.is_ping(), "{other:?}"),
            }
        }
    }

    pub(crate) async fn say(&mut self, to: &UserId, payload: &Payload) {
        self.say_for(ServerId::try_from(SERVER).unwrap(), to, 5, payload).await;
    }

    /// As somebody else's words, which the server signs anew.
    pub(crate) async fn say_for(&mut self, from: impl Into<Id>, to: &UserId, ts: u64, payload: &Payload) {
        let draft = Draft::new(from, Address::from(to), ts, payload);
        let sig = self.key.sign(draft.signed_text().as_bytes()).unwrap();
        self.raw(Message::text(draft.sign(&sig).to_text())).await;
    }

    pub(crate) async fn raw(&mut self, message: Message) {
        self.socket.send(message).await.unwrap();
    }

    /// Answers the hello with a question.
    pub(crate) async fn challenge(&mut self, user: &UserId) -> Challenge {
        let hello = self.expect(FrameKind::UserHello).await;
        let challenge = Challenge {
            history: None,
            tls: None,
            nonce: [9; 32].into(),
            server_id: ServerId::try_from(SERVER).unwrap(),
            server_pub: KeyText::from_der(self.key.public_key().spki_der()),
            hello: hello_digest(&hello.envelope.payload),
            caps: Some(Capabilities::of(&[PROOF]).unwrap()),
            delegation: None,
        };
        self.say(user, &Payload::Challenge(challenge.clone())).await;
        challenge
    }

    /// The same as a server that acknowledges what it has; what the client says of its mailbox.
    pub(crate) async fn welcome_acking(&mut self, user: &UserId) -> Option<MailboxRequest> {
        let hello = self.expect(FrameKind::UserHello).await;
        let Payload::Ack(ack) = ack(&self.key) else {
            panic!("it is one");
        };
        let caps = Some(Capabilities::of(&[ACK]).unwrap());
        self.say(user, &Payload::Ack(Ack { caps, ..ack })).await;
        self.expect(FrameKind::ListRequest).await;
        self.say(user, &Payload::ListResponse(ListResponse::default())).await;
        let Payload::UserHello(hello) = hello.payload else {
            panic!("it is one");
        };
        hello.mailbox
    }

    /// Lets the client in, who then has an empty list.
    pub(crate) async fn welcome(&mut self, user: &UserId) {
        self.expect(FrameKind::UserHello).await;
        let ack = ack(&self.key);
        self.say(user, &ack).await;
        self.expect(FrameKind::ListRequest).await;
        self.say(user, &Payload::ListResponse(ListResponse::default())).await;
    }
}

pub(crate) fn ack(key: &PrivateKey) -> Payload {
    Payload::Ack(Ack {
        msg_ref: "USER_HELLO".to_owned(),
        server_id: Some(ServerId::try_from(SERVER).unwrap()),
        server_pub: Some(KeyText::from_der(key.public_key().spki_der())),
        server_name: Some("srv".to_owned()),
        caps: None,
        name_in_use: None,
        also: Vec::new(),
        status: None,
        up_to: None,
    })
}

pub(crate) fn key_of(user: &str, key: Option<&PrivateKey>) -> Payload {
    Payload::PubkeyResponse(PubkeyResponse {
        user_id: UserId::try_from(user).unwrap(),
        pubkey: key.map(|key| KeyText::from_der(key.public_key().spki_der())),
        enc_pubkey: None,
        version: None,
        server_id: None,
        revoked: false,
        directory_sig: None,
        meta: None,
        server_name: None,
        history: None,
        caps: None,
    })
}

/// A message from Alice, signed by `signer`.
pub(crate) fn deliver(reader: &Profile, signer: &PrivateKey, text: &[u8], ts: u64) -> Payload {
    let identity = reader.identity();
    let recipient = socp_crypto::PublicKey::from_spki_der(&identity.enc_pubkey.der()).unwrap();
    let ciphertext = Base64Url::encode(&recipient.seal(text).unwrap());
    let to = identity.user_id.as_str();
    let parts = ContentParts {
        ciphertext: ciphertext.as_str(),
        from: ALICE,
        to,
        ts,
    };
    let content_sig = Base64Url::encode(&sign_content(signer, parts).unwrap());
    Payload::UserDeliver(UserDeliver {
        ciphertext,
        sender: UserId::try_from(ALICE).unwrap(),
        sender_pub: KeyText::from_der(signer.public_key().spki_der()),
        content_sig,
        ts: Some(ts),
        seq: None,
    })
}

pub(crate) async fn listen() -> (TcpListener, Options) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("ws://{}", listener.local_addr().unwrap());
    (listener, Options::once(ServerUrl::parse(&url).unwrap()))
}

pub(crate) fn profile(dir: &Path) -> (Profile, UserKeys) {
    let profile = Profile::open_or_create(dir, Some("me"), None, None).unwrap();
    let keys = profile.unlock(None).unwrap();
    (profile, keys)
}

pub(crate) async fn next(events: &mut socp_client::EventStream) -> Event {
    let wait = std::time::Duration::from_secs(20);
    tokio::time::timeout(wait, events.next()).await.unwrap().unwrap()
}

pub(crate) async fn generate() -> PrivateKey {
    tokio::task::spawn_blocking(|| PrivateKey::generate().unwrap())
        .await
        .unwrap()
}
