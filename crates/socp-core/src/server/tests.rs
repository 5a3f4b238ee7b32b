//! The rules of the server as a whole, in a network made in memory.

#![expect(clippy::wildcard_enum_match_arm, reason = "a test looks for one kind among many")]

mod account;
mod bootstrap;
mod bound;
mod challenge;
mod channel;
mod claims;
mod contacts;
mod delegate;
mod faults;
mod forward;
mod handles;
mod health;
mod heard;
mod hello;
mod join;
mod kept;
mod login;
mod owner;
mod passed;
mod presence;
mod proof;
mod quota;
mod roster;
mod route;
mod shelves;
mod successor;
mod table;
mod table_channel;
mod table_direct;
mod table_errors;
mod table_fields;
mod table_files;
mod table_frames;
mod table_health;
mod table_hello;
mod table_join;
mod table_presence;
mod table_server_presence;
mod toy_opaque;
mod waiting;
mod world;

/// Somebody at another server.
pub(super) fn person_at(server: &str) -> super::people::Person {
    super::people::Person {
        home: super::people::Home::Remote {
            server: world::server_id(server),
            via: super::LinkId(1),
            stale_since: None,
        },
        meta: socp_proto::Meta::default(),
        pubkey: Some(world::key("somebody")),
        enc_pubkey: None,
        version: None,
        directory_sig: None,
        caps: None,
        history: None,
        word: None,
    }
}

/// A history of about that many bytes in one statement.
pub(super) fn long_history(user: &str, bytes: usize) -> socp_proto::KeyHistory {
    let pair = |number: u8| {
        let key = socp_proto::KeyText::from_der(&vec![number; bytes / 6]);
        socp_proto::PublicPair {
            pubkey: key.clone(),
            enc_pubkey: key,
        }
    };
    let user = world::user_id(user);
    let statement = socp_proto::KeyHistory::next(&user, &pair(1), None, pair(2), 7);
    socp_proto::KeyHistory::begin(pair(1), statement).unwrap()
}
