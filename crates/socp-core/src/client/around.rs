//! What the parts of a client that send something need of the others.

use super::asks::Asks;
use super::outbox::Outbox;
use super::people::People;
use super::pins::Pins;
use crate::clock::Now;

/// The parts around one part, while it acts.
pub(super) struct Around<'a> {
    pub(super) now: Now,
    pub(super) pins: &'a Pins,
    pub(super) people: &'a People,
    pub(super) asks: &'a mut Asks,
    pub(super) out: &'a mut Outbox,
}
