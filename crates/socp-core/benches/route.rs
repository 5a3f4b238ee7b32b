//! What one direct message between two users of a server costs its core, without signatures: `cargo bench -p socp-core`.

#![allow(
    clippy::unwrap_used,
    clippy::wildcard_enum_match_arm,
    reason = "a benchmark that cannot go on must fail"
)]

use divan::Bencher;
use socp_core::Now;
use socp_core::server::{Accept, Config, Directory, FirstFrame, Input, LinkId, Memory, Output, Server, UserRecord};
use socp_proto::payload::{DirectMessage, UserHello};
use socp_proto::{Address, Base64Url, Draft, Frame, KeyText, Meta, Payload, ServerId, UserId};

const NOW: Now = Now {
    mono: 1_000,
    unix: 1_700_000_000_000,
};
const AUTHOR: &str = "0f000000-0000-4000-8000-000000000001";
const READER: &str = "0f000000-0000-4000-8000-000000000002";

fn main() {
    divan::main();
}

fn user(id: &str) -> UserId {
    UserId::try_from(id).unwrap()
}

fn key() -> KeyText {
    KeyText::from_der(&[0x30; 550])
}

/// Takes what the server wants done, and says that it is.
fn drain(server: &mut Server) {
    while let Some(output) = server.poll_output() {
        if let Output::Save { save, .. } = output {
            server.handle(NOW, Input::Saved { save });
        }
    }
}

fn config() -> Config {
    Config {
        has_tls: false,
        history: None,
        server_id: ServerId::try_from("0f000000-0000-4000-8000-000000000000").unwrap(),
        name: None,
        key: KeyText::from_der(&[0x31; 550]),
        host: "127.0.0.1".to_owned(),
        port: 1,
        bootstrap: Vec::new(),
        accept: Accept::Open,
        takes_users: true,
        directory: Directory::Open,
        verify_content: false,
        allow_unsigned_join: false,
        proves: true,
        batches: true,
        passwords: false,
        delegation: None,
        clock_behind_ms: Config::CLOCK_TOLERANCE_MS.0,
        clock_ahead_ms: Config::CLOCK_TOLERANCE_MS.1,
        seed: [7; 32],
        keeps: true,
        run: 1,
    }
}

/// A server with two users, each at one link.
fn server() -> Server {
    let config = config();
    let record = |id| UserRecord {
        user_id: user(id),
        pubkey: key(),
        enc_pubkey: key(),
        meta: Meta::default(),
        version: 1,
        directory_sig: Base64Url::encode(&[0x22; 512]),
        history: None,
    };
    let memory = Memory {
        users: vec![record(AUTHOR), record(READER)],
        members: vec![user(AUTHOR), user(READER)],
        ..Memory::default()
    };
    let mut server = Server::new(NOW, config, memory);
    for (link, id) in [(LinkId(1), AUTHOR), (LinkId(2), READER)] {
        server.handle(
            NOW,
            Input::Accepted {
                link,
                from: std::net::Ipv4Addr::LOCALHOST.into(),
                tls: None,
            },
        );
        let hello = Payload::UserHello(UserHello {
            client: "bench".to_owned(),
            pubkey: key(),
            enc_pubkey: None,
            caps: None,
            meta: None,
            server_id: None,
            ts: None,
            history: None,
            presence: None,
            mailbox: None,
        });
        let hello = Draft::new(user(id), Address::everyone(), NOW.unix, &hello);
        let text = hello.sign(&[]).to_text();
        let first = FirstFrame {
            frame: Frame::parse(&text).unwrap(),
            key: Some(key()),
            signer: None,
        };
        server.handle(NOW, Input::First { link, first });
        drain(&mut server);
    }
    server
}

/// The message of this number.
fn message(number: u64) -> Input {
    let mut content_sig = [0xa5; 512];
    let (head, _) = content_sig.split_first_chunk_mut::<8>().unwrap();
    *head = number.to_be_bytes();
    let payload = Payload::MsgDirect(DirectMessage {
        ciphertext: Base64Url::encode(&[0x5a; 512]),
        sender_pub: key(),
        content_sig: Base64Url::encode(&content_sig),
        home: None,
    });
    let text = Draft::new(user(AUTHOR), user(READER), NOW.unix, &payload)
        .sign(&[])
        .to_text();
    Input::User {
        link: LinkId(1),
        frame: Frame::parse(&text).unwrap(),
        content: None,
    }
}

#[divan::bench]
fn direct_message(bencher: Bencher<'_, '_>) {
    let mut server = server();
    let mut number = 0;
    bencher
        .with_inputs(|| {
            number += 1;
            message(number)
        })
        .bench_local_values(|input| {
            server.handle(NOW, input);
            let mut sent = 0;
            while let Some(output) = server.poll_output() {
                match output {
                    Output::Save { save, .. } => server.handle(NOW, Input::Saved { save }),
                    Output::Send { .. } => sent += 1,
                    _ => {}
                }
            }
            assert_eq!(sent, 1, "every message is delivered");
        });
}
