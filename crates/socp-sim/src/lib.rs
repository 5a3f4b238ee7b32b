//! Whole networks in one process, on a virtual clock, from one seed.
//!
//! A [`World`](run) has honest servers, each the very state machine that `socp-server` drives, users who follow scripts,
//! a network with faults, and servers that lie. An oracle keeps its own books of what users did and judges what they
//! get to see. Nothing in it reads a clock, a disk or the machine's randomness, so the same [`Options`] always give the
//! same run, down to the last frame; a run that breaks a rule is replayed by one line ([`Report::replay`]).
//!
//! `world` holds everything together, `event` and `queue` say what happens when, `net` is the network, `node` an honest
//! server with its disk, `user`, `hostile` and `impostor` are the cast, `faults` what goes wrong, `oracle` what must come of it.
#![allow(
    clippy::indexing_slicing,
    clippy::expect_used,
    reason = "no peer reaches this code, and a simulator that is wrong about its own world must stop"
)]

mod disk;
mod event;
mod faults;
mod hostile;
mod impostor;
mod net;
mod node;
mod options;
mod oracle;
mod program;
mod queue;
mod random;
mod report;
mod toys;
mod user;
mod world;

pub use options::{FaultKind, FaultSet, Flaw, Options, Topology};
pub use report::{Report, Rule, Stats, Violation};
pub use socp_core::server::Mutation;

/// Runs a world to its end, or to the first rule that breaks.
#[must_use]
pub fn run(options: Options) -> Report {
    world::World::new(options).run()
}
