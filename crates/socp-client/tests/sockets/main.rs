//! The whole client on real sockets, against servers whose every word is the test's.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::wildcard_enum_match_arm,
    reason = "a test fails by panicking, its helpers too"
)]

mod acknowledged;
mod channel;
mod files;
mod hostile;
mod links;
mod puppet;
mod second_path;
