//! What the hub tells the operator: a scrape of the metrics, and the admin socket.

use super::Hub;
use crate::admin::{LinkRow, PinRow, Refusal, UserRow};
use crate::link::LinkHandle;
use crate::store::CopyJob;
use socp_core::server::{Input, LinkStatus, LinkWho, SaveId, Status};
use socp_proto::ServerId;
use socp_proto::limits::{OUTBOUND_BYTES_MAX, OUTBOUND_FRAMES_COUNT_MAX};
use std::collections::BTreeSet;
use std::sync::atomic::Ordering;
use tokio::sync::oneshot;

/// Where queues are full.
pub(crate) const BOUNDS: [(&str, usize); 4] = [
    ("hub_queue", crate::HUB_QUEUE_COUNT_MAX),
    ("store_queue", crate::store::QUEUE_COUNT_MAX),
    ("outbox_frames", OUTBOUND_FRAMES_COUNT_MAX),
    ("outbox_bytes", OUTBOUND_BYTES_MAX),
];

/// What may be asked of the hub. Nobody waits for an answer any more when its sender is closed.
#[derive(Debug)]
pub(crate) enum Question {
    /// The server in numbers.
    Status(oneshot::Sender<HubStatus>),
    /// Every link.
    Links(oneshot::Sender<Vec<LinkRow>>),
    /// Every user who is somewhere.
    Users(oneshot::Sender<Vec<UserRow>>),
    /// Every pinned server.
    Pins(oneshot::Sender<Vec<PinRow>>),
    /// Forget a pin; answered once that is on disk.
    Unpin(ServerId, oneshot::Sender<Result<PinRow, Refusal>>),
    /// Copy the database.
    Copy(CopyJob),
}

/// The server in numbers.
#[derive(Debug, Clone)]
pub(crate) struct HubStatus {
    pub(crate) core: Status,
    pub(crate) links: LinkCounts,
    pub(crate) hub_queue: usize,
    pub(crate) outbox_frames_max: usize,
    pub(crate) outbox_bytes_max: usize,
}

/// Links by whose they are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct LinkCounts {
    pub(crate) new: usize,
    pub(crate) peers: usize,
    pub(crate) users: usize,
}

/// A pin that is being forgotten.
#[derive(Debug)]
pub(super) struct Unpinning {
    save: SaveId,
    pin: PinRow,
    answer: oneshot::Sender<Result<PinRow, Refusal>>,
}

impl Hub {
    pub(super) fn on_question(&mut self, question: Question) {
        // Whoever asked may have gone meanwhile, which harms nobody.
        let _asker_gone = match question {
            Question::Status(answer) => answer.send(self.status()).is_err(),
            Question::Links(answer) => answer.send(self.link_rows()).is_err(),
            Question::Users(answer) => {
                let rows = self.core.users().into_iter().map(UserRow::from).collect();
                answer.send(rows).is_err()
            }
            Question::Pins(answer) => answer.send(self.pin_rows()).is_err(),
            Question::Unpin(server, answer) => return self.unpin(server, answer),
            Question::Copy(job) => return self.store.copy(job),
        };
    }

    fn status(&self) -> HubStatus {
        let mut links = LinkCounts::default();
        for link in self.core.links() {
            let count = match link.who {
                LinkWho::New => &mut links.new,
                LinkWho::Peer(_) => &mut links.peers,
                LinkWho::User(_) => &mut links.users,
            };
            *count = count.saturating_add(1);
        }
        let outboxes = || self.links.values().map(|handle| handle.outbox.depth());
        HubStatus {
            core: self.core.status(),
            links,
            hub_queue: self.messages.len(),
            outbox_frames_max: outboxes().map(|(frames, _)| frames).max().unwrap_or(0),
            outbox_bytes_max: outboxes().map(|(_, bytes)| bytes).max().unwrap_or(0),
        }
    }

    fn link_rows(&self) -> Vec<LinkRow> {
        let links = self.core.links().into_iter();
        links
            .filter_map(|status| {
                let handle = self.links.get(&status.link)?;
                Some(self.link_row(&status, handle))
            })
            .collect()
    }

    fn link_row(&self, status: &LinkStatus, handle: &LinkHandle) -> LinkRow {
        let (role, who) = match &status.who {
            LinkWho::New => ("new", None),
            LinkWho::Peer(server) => ("peer", Some(server.as_str().to_owned())),
            LinkWho::User(user) => ("user", Some(user.as_str().to_owned())),
        };
        let (queued_frames, queued_bytes) = handle.outbox.depth();
        let now = super::now(self.epoch).mono;
        LinkRow {
            link: status.link.0,
            role: role.to_owned(),
            who,
            dialled: status.is_dialled,
            age_ms: super::millis(handle.state.opened.elapsed()),
            silent_ms: status.last_heard.map(|heard| now.saturating_sub(heard)),
            frames_in: handle.state.frames_in.load(Ordering::Relaxed),
            frames_out: handle.state.frames_out.load(Ordering::Relaxed),
            queued_frames,
            queued_bytes,
        }
    }

    fn pin_rows(&self) -> Vec<PinRow> {
        let links = self.core.links().into_iter();
        let peers: BTreeSet<ServerId> = links
            .filter_map(|link| match link.who {
                LinkWho::Peer(server) => Some(server),
                LinkWho::New | LinkWho::User(_) => None,
            })
            .collect();
        let pins = self.core.pins();
        pins.iter()
            .map(|pin| PinRow::new(pin, Some(peers.contains(&pin.server_id))))
            .collect()
    }

    fn unpin(&mut self, server: ServerId, answer: oneshot::Sender<Result<PinRow, Refusal>>) {
        let Some(pin) = self.pin_rows().into_iter().find(|pin| pin.server_id == server.as_str()) else {
            let _asker_gone = answer.send(Err(Refusal::unknown_pin(&server))).is_err();
            return;
        };
        self.wanted_unpin = Some((pin, answer));
        self.core.handle(super::now(self.epoch), Input::Unpin { server });
        self.perform();
        // The core always saves it; if it did not, nobody must wait for that.
        if let Some((_, answer)) = self.wanted_unpin.take() {
            let refusal = Refusal::failed("the pin was not removed".to_owned());
            let _asker_gone = answer.send(Err(refusal)).is_err();
        }
    }

    /// The core saves that a pin is forgotten: whoever asked for it waits for that.
    pub(super) fn await_unpinned(&mut self, save: SaveId) {
        if let Some((pin, answer)) = self.wanted_unpin.take() {
            self.unpinning.push(Unpinning { save, pin, answer });
        }
    }

    /// The store has answered: so do we, where that was asked for.
    pub(super) fn answer_unpinned(&mut self, saved: SaveId, outcome: &Result<(), String>) {
        let Some(at) = self.unpinning.iter().position(|waiting| waiting.save == saved) else {
            return;
        };
        let Unpinning { pin, answer, .. } = self.unpinning.swap_remove(at);
        let answered = match outcome {
            Ok(()) => Ok(pin),
            Err(reason) => Err(Refusal::failed(format!(
                "the pin is removed until the next start only, since the store refused: {reason}; try again"
            ))),
        };
        let _asker_gone = answer.send(answered).is_err();
    }
}
