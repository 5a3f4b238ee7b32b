//! Key requests not yet answered, in the order in which the server will answer them (SOCP §13).

use super::ANSWER_WAIT_MAX_MS;
use super::io::Ticket;
use super::outbox::Outbox;
use crate::clock::{Mono, Now};
use socp_proto::payload::PubkeyRequest;
use socp_proto::{Payload, UserId};
use std::collections::VecDeque;

/// What an answer is wanted for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Why {
    /// The key itself.
    Key,
    /// To know that the server has handled the message before it.
    Fence(Ticket),
    /// To know that the server has handled the channel's copies before it.
    Copies(Ticket),
    /// To know that the server has handled the parts of a file before it.
    File(Ticket),
    /// Nothing any more; the answer must still not be taken for another.
    Void,
}

#[derive(Debug)]
struct Ask {
    user: UserId,
    why: Why,
    deadline: Mono,
}

/// The requests of this link. As many as there are messages under way, which are bounded elsewhere.
#[derive(Debug, Default)]
pub(super) struct Asks {
    queue: VecDeque<Ask>,
}

impl Asks {
    pub(super) fn ask(&mut self, now: Now, user: &UserId, why: Why, out: &mut Outbox) {
        out.send(now, &Payload::PubkeyRequest(PubkeyRequest { user_id: user.clone() }));
        let deadline = now.mono.saturating_add(ANSWER_WAIT_MAX_MS);
        self.queue.push_back(Ask {
            user: user.clone(),
            why,
            deadline,
        });
    }

    /// Asks for a key unless that is already under way.
    pub(super) fn ask_key(&mut self, now: Now, user: &UserId, out: &mut Outbox) {
        if !self.queue.iter().any(|ask| ask.why == Why::Key && ask.user == *user) {
            self.ask(now, user, Why::Key, out);
        }
    }

    /// Forgets that this user's key was asked for: the server has said that there is none.
    pub(super) fn drop_key(&mut self, user: &UserId) {
        self.queue.retain(|ask| ask.why != Why::Key || ask.user != *user);
    }

    /// What the oldest request about this user was for.
    pub(super) fn on_answer(&mut self, user: &UserId) -> Option<Why> {
        let index = self.queue.iter().position(|ask| ask.user == *user)?;
        self.queue.remove(index).map(|ask| ask.why)
    }

    /// After a refusal that names nothing, one of these may never be answered. Answers that still come are then
    /// counted against them, so that a later message is at worst called unanswered, never taken when it was not.
    pub(super) fn void(&mut self) {
        for ask in &mut self.queue {
            if matches!(ask.why, Why::Fence(_) | Why::Copies(_) | Why::File(_)) {
                ask.why = Why::Void;
            }
        }
    }

    pub(super) fn clear(&mut self) {
        self.queue.clear();
    }

    pub(super) fn deadline(&self) -> Option<Mono> {
        self.queue.front().map(|ask| ask.deadline)
    }

    pub(super) fn take_expired(&mut self, now: Now) -> Vec<(UserId, Why)> {
        let mut expired = Vec::new();
        while self.queue.front().is_some_and(|ask| ask.deadline <= now.mono) {
            expired.extend(self.queue.pop_front().map(|ask| (ask.user, ask.why)));
        }
        expired
    }
}
