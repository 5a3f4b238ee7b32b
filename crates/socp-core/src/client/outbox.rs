//! What waits for the driver.

use super::io::{Event, Output, ServerPin};
use crate::clock::Now;
use socp_proto::{Address, Draft, Payload, ServerId, UserId};
use std::collections::VecDeque;

/// The queue of outputs, and who speaks to whom.
#[derive(Debug)]
pub(super) struct Outbox {
    queue: VecDeque<Output>,
    user: UserId,
    server: Option<ServerId>,
}

impl Outbox {
    pub(super) fn new(user: UserId, server: Option<&ServerPin>) -> Self {
        Self {
            queue: VecDeque::new(),
            user,
            server: server.map(|pin| pin.id.clone()),
        }
    }

    pub(super) fn user(&self) -> &UserId {
        &self.user
    }

    pub(super) fn set_server(&mut self, server: ServerId) {
        self.server = Some(server);
    }

    pub(super) fn push(&mut self, output: Output) {
        self.queue.push_back(output);
    }

    pub(super) fn pop(&mut self) -> Option<Output> {
        self.queue.pop_front()
    }

    pub(super) fn event(&mut self, event: Event) {
        self.push(Output::Event(event));
    }

    pub(super) fn notice(&mut self, from: Option<UserId>, text: String) {
        self.event(Event::Notice { from, text });
    }

    /// Sends to the server, or to everyone while its id is not known (PROTOCOL I.6).
    pub(super) fn send(&mut self, now: Now, payload: &Payload) {
        let to = self.server.as_ref().map_or_else(Address::everyone, Address::from);
        self.send_to(to, now.unix, payload);
    }

    pub(super) fn send_to(&mut self, to: Address, ts: u64, payload: &Payload) {
        let draft = Draft::new(&self.user, to, ts, payload);
        self.push(Output::Send(draft));
    }
}
