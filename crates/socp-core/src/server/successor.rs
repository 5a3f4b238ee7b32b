//! Servers whose key was changed (PROTOCOL II.13): whoever knows the key before follows the history to the one after.
//!
//! A history is taken only together with a proof that the far end holds its newest key (PROTOCOL II.2). Whoever gets hold
//! of a history alone, which everybody may see, gains nothing by it.

use super::Server;
use super::fault::CloseCode;
use super::io::{Note, ServerPin};
use crate::clock::Now;
use socp_proto::{KeyHistory, KeyText, ServerId, UserId};

/// Whether a history leads from one key of a server to another that came later and counts.
pub(super) fn leads(history: Option<&KeyHistory>, server: &ServerId, from: &KeyText, to: &KeyText) -> bool {
    let Some(history) = history else { return false };
    let whose = UserId::from(socp_proto::Id::from(server));
    history.leads(&whose, from, to)
}

impl Server {
    /// The pinned key of a server, where the key that it shows does not follow on it.
    pub(super) fn conflicting_pin(
        &self,
        server: &ServerId,
        key: &KeyText,
        history: Option<&KeyHistory>,
        proves: bool,
    ) -> Option<&ServerPin> {
        let pin = self.pins.get(server).filter(|pin| pin.key != *key)?;
        let follows = proves && leads(history, server, &pin.key, key);
        (!follows).then_some(pin)
    }

    /// The id of a server that joins with a key which follows on the one that is pinned for what it wishes to be called.
    pub(super) fn is_successor(&self, server: &ServerId, key: &KeyText, history: Option<&KeyHistory>) -> bool {
        let pin = self.pins.get(server);
        pin.is_some_and(|pin| leads(history, server, &pin.key, key))
    }

    /// A link that only the key before has proved does not stand beside one of the new key.
    pub(super) fn end_link_of_replaced_key(&mut self, now: Now, pin: &ServerPin) {
        let is_replaced = self
            .pins
            .get(&pin.server_id)
            .is_some_and(|before| before.key != pin.key);
        if let Some(old) = self.peers.get(&pin.server_id).copied().filter(|_| is_replaced) {
            let why = "the key of this server has been replaced";
            self.give_up(now, old, CloseCode::PolicyViolation, why);
        }
    }

    /// Says that a server is known by another key from now on, where that is so; whether it is.
    pub(super) fn note_successor(&mut self, pin: &ServerPin) -> bool {
        let before = self.pins.get(&pin.server_id).filter(|before| before.key != pin.key);
        let Some(replaced) = before.map(|before| before.key.fingerprint()) else {
            return false;
        };
        self.note(Note::PinFollowed {
            server: pin.server_id.clone(),
            replaced,
            fingerprint: pin.key.fingerprint(),
        });
        true
    }
}
