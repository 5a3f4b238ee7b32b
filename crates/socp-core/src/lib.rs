//! The server's and the client's state machines of SOCP v1.3: no clock, no I/O, no RSA.
//!
//! Both have five verbs: `new`, `handle(now, input)`, `handle_timeout(now)`, `poll_output()`, `poll_timeout()`. A driver
//! feeds inputs together with a clock reading, drains the outputs before the next input, and calls `handle_timeout`
//! when the time that `poll_timeout` names has come. Time and randomness are arguments, so one seed replays everything.
//!
//! Key operations cost milliseconds and belong to the driver. They reach a core as types: [`Verified`] says that a
//! signature was checked, and with which key; a [`Draft`](socp_proto::Draft) is an envelope that wants signing.

pub mod client;
pub mod names;
pub mod server;

mod batches;
mod clock;
mod seen;
mod verified;

pub use clock::{Mono, Now, Unix};
pub use verified::Verified;
