//! A client under test with a server that says what the test wants.

use super::*;
use crate::verified::Verified;
use socp_proto::payload::{Ack, ListResponse, OnlineUser, UserDeliver};
use socp_proto::{Address, Base64Url, Draft, FrameKind, Id, KeyText, Meta, PublicPair, ServerId};
use std::collections::BTreeMap;

pub(super) const ME: &str = "me-id";
pub(super) const ALICE: &str = "alice-id";
pub(super) const SERVER: &str = "srv-id";
pub(super) const FILES_MAX: u64 = 1_000_000;

pub(super) fn key(n: u8) -> KeyText {
    KeyText::from_der(&[n; 4])
}

pub(super) fn user(id: &str) -> UserId {
    UserId::try_from(id).unwrap()
}

pub(super) fn server(id: &str) -> ServerId {
    ServerId::try_from(id).unwrap()
}

pub(super) fn server_pin() -> ServerPin {
    ServerPin {
        id: server(SERVER),
        key: key(200),
        name: Some("srv-a".to_owned()),
        asks_for_proof: false,
    }
}

pub(super) struct Kit {
    pub(super) client: Client,
    pub(super) now: Now,
    /// What the history of the test has; none: the test answers for it.
    history: Option<BTreeMap<String, PostId>>,
}

impl Kit {
    pub(super) fn new(server: Option<ServerPin>) -> Self {
        Self::with_files(server, Some(FILES_MAX))
    }

    /// In, with these pins and what is remembered about them.
    pub(super) fn knowing(trust: TrustRecord, pins: Vec<UserPin>) -> Self {
        Self::with_config(Config {
            trust,
            pins,
            ..Self::config(Some(server_pin()), Some(FILES_MAX))
        })
        .enter()
    }

    /// Not in yet, in a program that reads its mailbox, with these pins and what is remembered about them; the test answers
    /// for the history.
    pub(super) fn reading(trust: TrustRecord, pins: Vec<UserPin>) -> Self {
        let mailbox = socp_proto::payload::MailboxRequest {
            device: socp_proto::DeviceId::from_bytes([5; 16]),
            after: 0,
        };
        Self::with_config(Config {
            trust,
            pins,
            mailbox: Some(mailbox),
            is_acknowledged: true,
            ..Self::config(Some(server_pin()), None)
        })
        .without_history()
    }

    fn with_files(server: Option<ServerPin>, files_max: Option<u64>) -> Self {
        Self::with_config(Self::config(server, files_max))
    }

    fn config(server: Option<ServerPin>, files_max: Option<u64>) -> Config {
        Config {
            user: user(ME),
            keys: PublicPair {
                pubkey: key(1),
                enc_pubkey: key(1),
            },
            history: None,
            meta: Meta::named(Some("me"), None).unwrap(),
            program: "socp/test".to_owned(),
            server,
            pins: Vec::new(),
            trust: TrustRecord::default(),
            files_max,
            mailbox: None,
            voice: socp_proto::Voice::from_bytes([3; 8]),
            is_acknowledged: false,
        }
    }

    fn with_config(config: Config) -> Self {
        Self {
            client: Client::new(config),
            now: Now {
                mono: 1_000,
                unix: 1_700_000_000_000,
            },
            history: Some(BTreeMap::new()),
        }
    }

    /// In, and with an empty list.
    pub(super) fn online() -> Self {
        Self::new(Some(server_pin())).enter()
    }

    /// The same, with Alice's key 2 pinned, and no place for files.
    pub(super) fn taking_no_files() -> Self {
        let mut kit = Self::with_files(Some(server_pin()), None).enter();
        kit.frame(SERVER, advertise(ALICE, 2), 200);
        kit
    }

    fn enter(self) -> Self {
        let mut kit = self;
        kit.input(Input::Connected { tls: None });
        kit.frame(SERVER, Payload::Ack(ack(SERVER, 200)), 200);
        kit.frame(SERVER, Payload::ListResponse(ListResponse::default()), 200);
        kit
    }

    /// Online, with Alice's key 2 pinned.
    pub(super) fn with_alice() -> Self {
        let mut kit = Self::online();
        kit.frame(SERVER, advertise(ALICE, 2), 200);
        kit
    }

    pub(super) fn input(&mut self, input: Input) -> Vec<Output> {
        self.client.handle(self.now, input);
        self.drain()
    }

    /// What the client asks for; what it asks of the history is done at once.
    fn drain(&mut self) -> Vec<Output> {
        let mut all = Vec::new();
        while let Some(output) = self.client.poll_output() {
            let Some(history) = &mut self.history else {
                all.push(output);
                continue;
            };
            let Output::Post(PostWork::Store { deposits, .. }) = output else {
                all.push(output);
                continue;
            };
            let outcomes = deposits.iter().map(|deposit| outcome(history, deposit)).collect();
            let stored = Input::Post(PostDone::Stored(Ok(outcomes)));
            self.client.handle(self.now, stored);
        }
        all
    }

    /// From now on the test answers for the history.
    pub(super) fn without_history(mut self) -> Self {
        self.history = None;
        self
    }

    pub(super) fn frame(&mut self, from: &str, payload: Payload, signer: u8) -> Vec<Output> {
        self.input(Input::Frame(Verified::checked(
            frame_to(from, ME, payload),
            key(signer).fingerprint(),
        )))
    }

    pub(super) fn server_says(&mut self, payload: Payload) -> Vec<Output> {
        self.frame(SERVER, payload, 200)
    }

    pub(super) fn wait(&mut self, ms: u64) -> Vec<Output> {
        self.now.mono += ms;
        self.client.handle_timeout(self.now);
        self.drain()
    }

    pub(super) fn tell(&mut self, ticket: Ticket, to: &str, text: &str) -> Vec<Output> {
        self.input(Input::Command(Command::Tell {
            ticket,
            to: user(to),
            text: text.to_owned(),
        }))
    }

    pub(super) fn sealed(&mut self, ticket: Ticket) -> Vec<Output> {
        let content_sig = Base64Url::encode(&ticket.to_be_bytes());
        let sealed = Sealed {
            ciphertext: Base64Url::encode(&[9; 512]),
            content_sig,
        };
        self.input(Input::Sealed {
            place: Place::Direct,
            ticket,
            result: Ok(sealed),
        })
    }

    pub(super) fn tell_all(&mut self, ticket: Ticket, text: &str) -> Vec<Output> {
        let text = text.to_owned();
        self.input(Input::Command(Command::TellAll { ticket, text }))
    }

    pub(super) fn copy_sealed(&mut self, ticket: Ticket) -> Vec<Output> {
        let sealed = Sealed {
            ciphertext: Base64Url::encode(&[9; 512]),
            content_sig: Base64Url::encode(&[&[1], &ticket.to_be_bytes()[..]].concat()),
        };
        self.input(Input::Sealed {
            place: Place::Channel,
            ticket,
            result: Ok(sealed),
        })
    }
}

/// What a history says that keeps everything.
fn outcome(history: &mut BTreeMap<String, PostId>, deposit: &Deposit) -> Outcome {
    let Deposit::Text(text) = deposit else {
        return Outcome::Done;
    };
    let next = PostId::try_from(history.len()).unwrap() + 1;
    match history.insert(text.msg_ref.clone(), next) {
        None => Outcome::New {
            id: next,
            is_late: false,
            gap: None,
            wants_receipt: false,
        },
        Some(id) => {
            history.insert(text.msg_ref.clone(), id);
            Outcome::Known {
                id,
                is_unshown: false,
                is_late: false,
                gap: None,
            }
        }
    }
}

/// A reference that a sealed copy gets from [`Kit::copy_sealed`].
pub(super) fn copy_ref(ticket: Ticket) -> String {
    socp_proto::payload::msg_ref(&Base64Url::encode(&[&[1], &ticket.to_be_bytes()[..]].concat()))
}

pub(super) fn frame_to(from: &str, to: &str, payload: Payload) -> Frame {
    let from = Id::try_from(from).unwrap();
    let draft = Draft::new(from, Address::try_from(to).unwrap(), 5, &payload);
    Frame {
        envelope: draft.sign(b"sig"),
        payload,
    }
}

pub(super) fn ack(id: &str, key_number: u8) -> Ack {
    Ack {
        msg_ref: FrameKind::UserHello.name().to_owned(),
        server_id: Some(server(id)),
        server_pub: Some(key(key_number)),
        server_name: Some("srv-a".to_owned()),
        caps: None,
        name_in_use: None,
        also: Vec::new(),
        status: None,
        up_to: None,
    }
}

pub(super) fn advertise(id: &str, key_number: u8) -> Payload {
    Payload::UserAdvertise(UserAdvertise {
        user_id: user(id),
        server_id: server(SERVER),
        meta: Meta::named(Some("alice"), None).unwrap(),
        pubkey: Some(key(key_number)),
        enc_pubkey: None,
        caps: None,
        version: None,
        directory_sig: None,
        server_name: Some("srv-a".to_owned()),
        history: None,
    })
}

pub(super) fn pubkey(id: &str, key_number: Option<u8>) -> Payload {
    Payload::PubkeyResponse(PubkeyResponse {
        user_id: user(id),
        pubkey: key_number.map(key),
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

pub(super) fn error(code: ErrorCode, detail: &str, msg_ref: Option<String>) -> Payload {
    Payload::Error(ErrorNotice {
        code,
        detail: detail.to_owned(),
        msg_ref,
        seq: None,
    })
}

pub(super) fn deliver(sender: &str, blocks: usize, sig: u8) -> Payload {
    Payload::UserDeliver(UserDeliver {
        ciphertext: Base64Url::encode(&vec![7; blocks * 512]),
        sender: user(sender),
        sender_pub: key(66),
        content_sig: Base64Url::encode(&[sig; 8]),
        ts: Some(77),
        seq: None,
    })
}

pub(super) fn online_user(id: &str) -> OnlineUser {
    OnlineUser {
        user_id: user(id),
        server_id: server(SERVER),
        meta: Meta::default(),
        server_name: None,
        version: None,
    }
}

/// The kinds of frames sent, in order.
pub(super) fn sent(outputs: &[Output]) -> Vec<FrameKind> {
    let kind = |output: &Output| match output {
        Output::Send(draft) => Some(draft.kind),
        _ => None,
    };
    outputs.iter().filter_map(kind).collect()
}

pub(super) fn events(outputs: Vec<Output>) -> Vec<Event> {
    let event = |output| match output {
        Output::Event(event) => Some(event),
        _ => None,
    };
    outputs.into_iter().filter_map(event).collect()
}

pub(super) fn stop_of(outputs: Vec<Output>) -> Option<Stop> {
    assert_eq!(outputs.last(), Some(&Output::Disconnect));
    events(outputs).into_iter().find_map(|event| match event {
        Event::Stopped(stop) => Some(stop),
        _ => None,
    })
}

pub(super) fn failure_of(outputs: Vec<Output>) -> Option<TellFault> {
    events(outputs).into_iter().find_map(|event| match event {
        Event::Failed { why, .. } => Some(why),
        _ => None,
    })
}
