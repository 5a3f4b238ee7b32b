//! A good frame of every kind, to be said by somebody who must not, or at the wrong place.

use super::table::*;
use super::toy_opaque::{finalization, login_request, record, registration_request};
use super::world::*;
use socp_proto::payload::*;
use socp_proto::{Base64Url, Meta};
use std::collections::BTreeMap;

/// A piece of a file from `from` to `to`, with the author's signature.
pub(super) fn file_chunk(from: &str, to: &str) -> Payload {
    let chunk = FileChunk {
        file_id: "f".to_owned(),
        index: 0,
        ciphertext: Base64Url::encode(b"piece"),
        total: Some(1),
        sender_pub: Some(key(from)),
        content_sig: None,
    };
    authored(from, to, NOW, Payload::FileChunk(chunk))
}

/// A manifest, with the author's signature.
pub(super) fn file_start(from: &str, to: &str) -> Payload {
    let start = FileStart {
        file_id: "f".to_owned(),
        name: "a.png".to_owned(),
        size: 5,
        sha256: "0".repeat(64),
        mode: FileMode::Dm,
        sender_pub: Some(key(from)),
        content_sig: None,
    };
    authored(from, to, NOW, Payload::FileStart(start))
}

/// How the transfer ended, as its receiver says.
pub(super) fn file_status(from: &str, to: &str) -> Payload {
    let end = FileEnd {
        file_id: "f".to_owned(),
        status: Some(FileStatus::Received),
        detail: Some("kept".to_owned()),
        sender_pub: Some(key(from)),
        content_sig: None,
    };
    authored(from, to, NOW, Payload::FileEnd(end))
}

/// The author's own end of a transfer, which nobody signs.
pub(super) fn file_end() -> Payload {
    Payload::FileEnd(FileEnd {
        file_id: "f".to_owned(),
        status: None,
        detail: None,
        sender_pub: None,
        content_sig: None,
    })
}

/// Keys of the channel for these members, with the creator's signature.
pub(super) fn key_share(from: &str, members: &[&str]) -> Payload {
    let share = |member: &&str| ChannelShare {
        member: user_id(member),
        wrapped_public_channel_key: Base64Url::encode(b"wrapped"),
    };
    let share = ChannelKeyShare {
        shares: members.iter().map(share).collect(),
        creator_pub: key(from),
        content_sig: Base64Url::encode(&[]),
    };
    authored(from, "public", NOW, Payload::PublicChannelKeyShare(share))
}

pub(super) fn updated(version: u64) -> Payload {
    Payload::PublicChannelUpdated(ChannelUpdated {
        version,
        wraps: Vec::new(),
    })
}

pub(super) fn channel_add(user: &str) -> Payload {
    Payload::PublicChannelAdd(ChannelAdd {
        add: vec![user_id(user)],
        if_version: Some(1),
    })
}

pub(super) fn error(code: ErrorCode, msg_ref: Option<String>) -> Payload {
    Payload::Error(ErrorNotice {
        code,
        detail: "a detail".to_owned(),
        msg_ref,
        seq: None,
    })
}

/// One good frame of each kind, in the name of `who` and unsigned; `who` is their author too, and `alice` their reader.
pub(super) fn every_kind(who: &str) -> BTreeMap<FrameKind, Said> {
    let identity = identity(who);
    let to_alice = direct(who, "alice", NOW, b"sealed");
    let deliver = server_deliver(who, "alice", NOW, b"sealed");
    let welcome = ServerWelcome {
        tls: false,
        history: None,
        assigned_id: server_id("fresh"),
        clients: Vec::new(),
        servers: Vec::new(),
        server_id: None,
        pubkey: Some(key(who)),
        host: None,
        port: None,
        name: None,
        caps: None,
        nonce: None,
    };
    let response = PubkeyResponse {
        user_id: user_id("alice"),
        pubkey: Some(key("thief")),
        enc_pubkey: None,
        version: None,
        server_id: None,
        revoked: false,
        directory_sig: None,
        meta: None,
        server_name: None,
        history: None,
        caps: None,
    };
    let online = OnlineUser {
        user_id: user_id("eve"),
        server_id: server_id("a"),
        meta: Meta::default(),
        server_name: None,
        version: None,
    };
    let presence = Presence {
        server_id: server_id("a"),
        epoch: 1,
        from_seq: 1,
        seq: 1,
        page: 0,
        more: false,
        add: vec![online.clone()],
        remove: vec![user_id("alice")],
    };
    let server_presence = ServerPresence {
        server_id: server_id("a"),
        epoch: 1,
        from_seq: 1,
        seq: 1,
        page: 0,
        more: false,
        add: Vec::new(),
        remove: vec![UserGone {
            user_id: user_id("alice"),
            ts: NOW,
            deletion: None,
        }],
    };
    let list = ListResponse {
        users: vec![user_id("eve")],
        online: vec![online],
        more: false,
    };
    let ack = Ack {
        msg_ref: "USER_HELLO".to_owned(),
        server_id: None,
        server_pub: None,
        server_name: None,
        caps: None,
        name_in_use: None,
        also: Vec::new(),
        status: None,
        up_to: None,
    };
    let user_deliver = UserDeliver {
        ciphertext: deliver.ciphertext.clone(),
        sender: deliver.sender.clone(),
        sender_pub: deliver.sender_pub.clone(),
        content_sig: deliver.content_sig.clone(),
        ts: deliver.ts,
        seq: None,
    };
    let proof = socp_proto::Proof {
        tls: None,
        nonce: [7; 32].into(),
        server_id: server_id("a"),
        key: key("a").fingerprint().into(),
        by: server_id(who).into(),
        hello: [7; 32].into(),
        ts: NOW,
    };
    let challenge = socp_proto::Challenge {
        tls: None,
        history: None,
        nonce: [7; 32].into(),
        server_id: server_id("a"),
        server_pub: key("a"),
        hello: [7; 32].into(),
        caps: None,
        delegation: None,
    };
    let pair = |name: &str| socp_proto::PublicPair {
        pubkey: key(name),
        enc_pubkey: key(name),
    };
    let statement = socp_proto::KeyHistory::next(&user_id(who), &pair(who), None, pair("thief"), NOW);
    let history = socp_proto::KeyHistory::begin(pair(who), statement).unwrap();
    let delete = AccountDelete {
        user_id: user_id(who),
        server_id: server_id("a"),
        ts: NOW,
        sig: Base64Url::encode(&[]),
    };
    let user_id = user_id("alice");
    let payloads = [
        Payload::ServerHelloJoin(identity.clone()),
        Payload::ServerHelloLink(identity.clone()),
        Payload::ServerWelcome(welcome),
        Payload::ServerAnnounce(identity),
        Payload::Challenge(challenge),
        Payload::Proof(proof),
        advert("eve", who),
        remove("alice", "a"),
        Payload::Presence(presence),
        Payload::ServerPresence(server_presence),
        Payload::PresenceRequest(PresenceRequest {
            epoch: 1,
            from_seq: 0,
            to_the_letter: false,
        }),
        Payload::ServerDeliver(deliver),
        Payload::Heartbeat(Heartbeat::default()),
        Payload::UserHello(plain_hello(who)),
        Payload::ListRequest(ListRequest::default()),
        Payload::ListResponse(list),
        Payload::PubkeyRequest(PubkeyRequest { user_id }),
        Payload::PubkeyResponse(response),
        Payload::KeyUpdate(KeyUpdate {
            statement: history.statements()[0].clone(),
        }),
        Payload::KeyNews(KeyNews {
            user_id: history.statements()[0].user_id.clone(),
            history,
        }),
        Payload::AccountDelete(delete),
        Payload::CtrlClose(CtrlClose {}),
        Payload::MsgDirect(to_alice),
        Payload::UserDeliver(user_deliver),
        channel_copy(who, "alice", NOW, b"to all"),
        channel_add("eve"),
        updated(1_000),
        key_share(who, &["alice"]),
        file_start(who, "alice"),
        file_chunk(who, "alice"),
        file_end(),
        error(ErrorCode::UserNotFound, None),
        Payload::Ack(ack),
    ];
    let payloads = payloads.into_iter().chain(of_passwords(who)).collect::<Vec<_>>();
    let to = |kind: FrameKind| match kind.keeps_author() || kind == FrameKind::MsgDirect {
        true => "alice",
        false => "a",
    };
    let frames: BTreeMap<FrameKind, Said> = payloads
        .iter()
        .map(|payload| (payload.kind(), Said::new(who, to(payload.kind()), payload)))
        .collect();
    assert_eq!(frames.len(), FrameKind::ALL.len(), "a kind is missing");
    frames
}

/// What registrations and logins say (PROTOCOL II.9).
fn of_passwords(who: &str) -> [Payload; 7] {
    let sealed = KeptIdentity {
        ciphertext: Base64Url::encode(b"sealed"),
        iv: Base64Url::encode(&[0; 12]),
        v: 1,
    };
    [
        Payload::RegisterStart(RegisterStart {
            request: registration_request("p"),
        }),
        Payload::RegisterChallenge(RegisterChallenge {
            response: Message::try_from([1; 64].as_slice()).unwrap(),
        }),
        Payload::RegisterFinish(RegisterFinish {
            record: record("p"),
            sealed: sealed.clone(),
        }),
        Payload::LoginStart(LoginStart {
            name: who.to_owned(),
            request: login_request(1),
            caps: None,
        }),
        Payload::LoginChallenge(LoginChallenge {
            response: Message::try_from([1; 320].as_slice()).unwrap(),
            server_id: server_id("a"),
            server_pub: key("a"),
            delegation: None,
        }),
        Payload::LoginFinish(LoginFinish {
            finalization: finalization("p", 1),
        }),
        Payload::LoginResult(LoginResult {
            user_id: user_id(who),
            sealed,
        }),
    ]
}
