//! End to end: the real binary, real sockets, real files (docs/TESTING.md).

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::wildcard_enum_match_arm,
    reason = "a test that cannot go on must fail"
)]

mod accounts;
mod ack_backup;
mod ack_client;
mod ack_device;
mod acknowledged;
mod acme;
#[cfg(feature = "acme")]
mod acme_authority;
mod admin;
mod backups;
mod bad_input;
mod bench;
mod channel;
mod client_faults;
mod conversation;
mod damaged_files;
mod data_dirs;
mod delegated;
mod demo;
mod files;
mod flips;
mod held;
mod hostile_peer;
mod hostile_stage;
mod keyring;
mod keys;
mod kills;
mod leaving;
mod letter;
mod letter_client;
mod letter_server;
mod network;
#[cfg(target_os = "linux")]
mod no_room;
mod pages;
mod passphrase;
mod pictures;
mod presence;
mod process;
mod rejoin;
mod rotation;
mod safety;
mod secrets;
mod settings;
mod sites;
mod terminal;
mod tls;
mod trust;
mod vanished;
mod whose;
mod wires;
