//! What is kept goes out: to the devices of our users, and to servers (PROTOCOL II.6).
//!
//! Whoever has everything so far gets the next message as it comes. Whoever is behind is sent pages from the disk, as
//! fast as they are acknowledged.

use super::Server;
use super::fault::Fault;
use super::feed::Feed;
use super::io::{AfterSave, LinkId, Note, Output, Record};
use super::kept::{DeviceRecord, Kept, MailItem, OutboundRow, Page, Shelf, outbound_bytes};
use super::link::{Link, Reads, UserLink};
use super::mutation::Mutation;
use super::timers::Timer;
use crate::clock::Now;
use socp_proto::limits::{NOT_STORED_WAIT_MS, UNACKNOWLEDGED_WAIT_MAX_MS};
use socp_proto::payload::{Ack, ErrorNotice, MailboxRequest, ServerDeliver, UserDeliver};
use socp_proto::{DeviceId, ErrorCode, FrameKind, Payload, ServerId, UserId};

/// How often is looked for what was kept for too long (our choice).
const EXPIRE_INTERVAL_MS: u64 = 3_600_000;

/// How far the wall clock may have run differently since it was last right, and still be believed (our choice).
const CLOCK_STEP_MAX_MS: u64 = 3_600_000;

impl Server {
    /// A device says hello, and how far it has read.
    pub(super) fn open_mailbox(&mut self, now: Now, link: LinkId, user: &UserId, request: MailboxRequest) {
        let MailboxRequest { device, after } = request;
        let can_read = matches!(self.links.get(&link), Some(Link::User(state)) if state.reads.acknowledges());
        if !can_read {
            return;
        }
        let there = self.devices_there(user);
        let (record, gone) = self.mailboxes.meet(user, (device, after), &there, now.unix);
        let was_given = self.mailboxes.was_given(user, after);
        let feed = Feed::after(if was_given { after } else { record.up_to });
        self.save(Record::Device(record), AfterSave::Nothing);
        if let Some(device) = gone {
            self.save(Record::DeviceGone(user.clone(), device), AfterSave::Nothing);
        }
        self.drop_read(user);
        if let Some(Link::User(state)) = self.links.get_mut(&link) {
            state.reads = Reads::Mailbox(device, feed);
        }
        self.pump(link);
    }

    fn devices_there(&self, user: &UserId) -> Vec<DeviceId> {
        let devices = self.people.links_of(user).into_iter().filter_map(|link| {
            let Some(Link::User(state)) = self.links.get(&link) else {
                return None;
            };
            match state.reads {
                Reads::Mailbox(device, _) => Some(device),
                Reads::ToTheLetter | Reads::Nothing => None,
            }
        });
        devices.collect()
    }

    fn drop_read(&mut self, user: &UserId) {
        if let Some(up_to) = self.mailboxes.drop_read(user) {
            self.save(Record::MailGone(user.clone(), up_to), AfterSave::Nothing);
        }
    }

    /// A new message for those who are there: of those who read the mailbox, for whoever has all before it.
    pub(super) fn feed_mail(&mut self, now: Now, user: &UserId, (before, seq): (u64, u64), item: &MailItem) {
        let (mut by_letter, mut by_number) = (Vec::new(), Vec::new());
        for link in self.people.links_of(user) {
            let Some(Link::User(state)) = self.links.get_mut(&link) else {
                continue;
            };
            match &mut state.reads {
                Reads::ToTheLetter => by_letter.push(link),
                Reads::Mailbox(_, feed) if feed.takes(before, item.bytes()) => {
                    feed.send(now.mono, seq, item.bytes());
                    by_number.push(link);
                }
                Reads::Mailbox(..) | Reads::Nothing => {}
            }
        }
        self.send_mail(now, user, &by_number, item.clone());
        if let MailItem::Message(message) = item {
            let message = UserDeliver {
                seq: None,
                ..(**message).clone()
            };
            self.send_mail(now, user, &by_letter, MailItem::Message(Box::new(message)));
        }
    }

    fn send_mail(&mut self, now: Now, user: &UserId, links: &[LinkId], item: MailItem) {
        if links.is_empty() {
            return;
        }
        match item {
            MailItem::Message(message) => {
                for link in links {
                    self.acquaint(now, *link, &message.sender);
                }
                let ts = message.ts.unwrap_or(now.unix);
                self.send_at(links, ts, user, &Payload::UserDeliver(*message));
            }
            MailItem::Notice(notice) => self.send(links, now, user, &Payload::Error(*notice)),
        }
    }

    /// A new message for a server, if it has all before it.
    pub(super) fn feed_outbound(
        &mut self,
        now: Now,
        server: &ServerId,
        (before, row): (u64, &OutboundRow),
        deliver: &ServerDeliver,
    ) {
        let Some(link) = self.peers.get(server).copied() else {
            return;
        };
        let Some(Link::Peer(peer)) = self.links.get_mut(&link) else {
            return;
        };
        let is_answered = peer.is_answered;
        if let Some(feed) = peer.feed.as_mut().filter(|_| is_answered)
            && feed.takes(before, row.bytes)
        {
            feed.send(now.mono, row.seq, row.bytes);
            self.send_outbound(now, server, link, deliver.clone());
        }
    }

    fn send_outbound(&mut self, now: Now, server: &ServerId, link: LinkId, deliver: ServerDeliver) {
        let ts = deliver.ts.unwrap_or(now.unix);
        self.introduce(now, &deliver.sender, &[link]);
        self.send_at(&[link], ts, server, &Payload::ServerDeliver(deliver));
    }

    /// Has the next page read for a link that is behind and has room.
    pub(super) fn pump(&mut self, link: LinkId) {
        let (shelf, last, feed) = match self.links.get_mut(&link) {
            Some(Link::User(state)) => {
                let Reads::Mailbox(_, feed) = &mut state.reads else {
                    return;
                };
                if !self.mailboxes.has_behind(&state.user, feed.sent) {
                    return;
                }
                let last = self.mailboxes.last(&state.user);
                (Shelf::Mailbox(state.user.clone()), last, feed)
            }
            Some(Link::Peer(peer)) if peer.is_answered && self.peers.get(&peer.server) == Some(&link) => {
                let last = self.outbounds.last(&peer.server);
                let Some(feed) = peer.feed.as_mut().filter(|feed| last > feed.sent) else {
                    return;
                };
                (Shelf::Outbound(peer.server.clone()), last, feed)
            }
            Some(Link::Peer(_) | Link::New { .. }) | None => return,
        };
        if feed.wants_page() {
            feed.reading = Some(last);
            let after = feed.sent;
            self.outputs.push_back(Output::ReadPage { link, shelf, after });
        }
    }

    /// Where a link reads, and how far it is.
    fn feed_of(&mut self, link: LinkId) -> Option<(Shelf, &mut Feed)> {
        match self.links.get_mut(&link)? {
            Link::User(state) => match &mut state.reads {
                Reads::Mailbox(_, feed) => Some((Shelf::Mailbox(state.user.clone()), feed)),
                Reads::ToTheLetter | Reads::Nothing => None,
            },
            Link::Peer(peer) => {
                let shelf = Shelf::Outbound(peer.server.clone());
                peer.feed.as_mut().map(|feed| (shelf, feed))
            }
            Link::New { .. } => None,
        }
    }

    /// The store has read a page.
    pub(super) fn on_page_read(&mut self, now: Now, link: LinkId, page: Option<Page>) {
        let Some((shelf, feed)) = self.feed_of(link) else {
            return;
        };
        let Some(asked) = feed.reading.take() else {
            return;
        };
        let Some(page) = page else {
            feed.is_resting = true;
            let at = now.mono.saturating_add(NOT_STORED_WAIT_MS);
            self.timers.set(at, Timer::Feed(link));
            return self.note(Note::Unreadable { shelf });
        };
        let ends = [page.kept.last().map(|(seq, _)| *seq), page.damaged.last().copied()];
        let last = ends.into_iter().flatten().max().unwrap_or(asked);
        self.put_damaged_aside(now, &shelf, page.damaged);
        for (seq, kept) in page.kept {
            self.send_kept(now, link, &shelf, seq, kept);
        }
        if let Some((_, feed)) = self.feed_of(link) {
            feed.sent = feed.sent.max(last);
        }
        self.pump(link);
    }

    fn put_damaged_aside(&mut self, now: Now, shelf: &Shelf, damaged: Vec<u64>) {
        for seq in damaged {
            let note = Note::Damaged {
                shelf: shelf.clone(),
                seq,
            };
            self.note(note);
            match shelf {
                Shelf::Mailbox(user) => self.mailboxes.remove(user, seq),
                Shelf::Outbound(server) => {
                    if let Some(row) = self.take_outbound(server, seq) {
                        let why = "this server kept it, and found it damaged on its disk; write it again".to_owned();
                        self.give_back(now, row, ErrorCode::NotStored, why);
                    }
                }
            }
        }
    }

    /// Something waits for a server no more, and its author may send it again.
    fn take_outbound(&mut self, server: &ServerId, seq: u64) -> Option<OutboundRow> {
        self.settle_in_feed(server, seq);
        if let Some(key) = self.outbounds.seen_as(server, seq) {
            self.seen.forget(&key);
        }
        self.outbounds.remove(server, seq)
    }

    fn send_kept(&mut self, now: Now, link: LinkId, shelf: &Shelf, seq: u64, kept: Kept) {
        let bytes = match (&kept, shelf) {
            (Kept::Mail(item), Shelf::Mailbox(_)) => item.bytes(),
            // Answered while the page was read.
            (Kept::Outbound(_), Shelf::Outbound(server)) if self.outbounds.bytes_of(server, seq).is_none() => return,
            (Kept::Outbound(deliver), Shelf::Outbound(_)) => outbound_bytes(deliver),
            (Kept::Mail(_), Shelf::Outbound(_)) | (Kept::Outbound(_), Shelf::Mailbox(_)) => return,
        };
        let Some((_, feed)) = self.feed_of(link).filter(|(_, feed)| seq > feed.sent) else {
            return;
        };
        feed.send(now.mono, seq, bytes);
        match (kept, shelf) {
            (Kept::Mail(item), Shelf::Mailbox(user)) => self.send_mail(now, user, &[link], item),
            (Kept::Outbound(deliver), Shelf::Outbound(server)) => self.send_outbound(now, server, link, *deliver),
            (Kept::Mail(_), Shelf::Outbound(_)) | (Kept::Outbound(_), Shelf::Mailbox(_)) => {}
        }
    }

    /// The link may be fed again.
    pub(super) fn on_feed_due(&mut self, link: LinkId) {
        if let Some((_, feed)) = self.feed_of(link) {
            feed.is_resting = false;
            self.pump(link);
        }
    }

    /// `ACK` from a user: a device has everything up to a number.
    pub(super) fn on_user_ack(&mut self, now: Now, link: LinkId, ack: &Ack) {
        if ack.msg_ref != Ack::MAILBOX {
            return;
        }
        let kind = FrameKind::Ack;
        let Some(Link::User(state)) = self.links.get_mut(&link) else {
            return;
        };
        let user = state.user.clone();
        let Reads::Mailbox(device, feed) = &mut state.reads else {
            return self.on_fault(now, link, &Fault::OutOfPlace { kind });
        };
        let device = *device;
        let Some(up_to) = ack.up_to.filter(|up_to| *up_to <= feed.sent) else {
            return self.on_fault(now, link, &Fault::Early { kind });
        };
        feed.settle_up_to(up_to);
        if let Some(record) = self.mailboxes.advance(&user, device, up_to, now.unix) {
            self.save(Record::Device(record), AfterSave::Nothing);
            self.drop_read(&user);
            if self.is_mutated(Mutation::OneDeviceIsEnough) {
                self.save(Record::MailGone(user, up_to), AfterSave::Nothing);
            }
        }
        self.pump(link);
    }

    /// `ACK` from a server: it answers for what it names.
    pub(super) fn on_peer_ack(&mut self, now: Now, link: LinkId, server: &ServerId, ack: Ack) {
        let Some(status) = ack.status else {
            return;
        };
        let mut settled = Vec::new();
        for msg_ref in std::iter::once(ack.msg_ref).chain(ack.also) {
            let Some(seq) = self.outbounds.number_of(server, &msg_ref) else {
                continue;
            };
            self.settle_in_feed(server, seq);
            let Some(row) = self.outbounds.remove(server, seq) else {
                continue;
            };
            settled.push(seq);
            for author in self.people.links_of(&row.author) {
                self.acknowledge(now, author, (status, server.clone()), msg_ref.clone());
            }
        }
        if !settled.is_empty() {
            self.save(Record::OutboundGone(settled), AfterSave::Nothing);
            self.pump(link);
        }
    }

    /// What is answered for leaves room for more on the link to its server.
    pub(super) fn settle_in_feed(&mut self, server: &ServerId, seq: u64) {
        let link = self.peers.get(server).copied();
        if let Some((_, feed)) = link.and_then(|link| self.feed_of(link)) {
            feed.settle(seq);
        }
    }

    /// `ERROR` from a server about something that waits for it; whether it is about that.
    pub(super) fn on_refused_outbound(
        &mut self,
        now: Now,
        link: LinkId,
        server: &ServerId,
        notice: &ErrorNotice,
    ) -> bool {
        let number = |msg_ref: &String| self.outbounds.number_of(server, msg_ref);
        let Some(seq) = notice.msg_ref.as_ref().and_then(number) else {
            return false;
        };
        if notice.code == ErrorCode::NotStored {
            if let Some((_, feed)) = self.feed_of(link) {
                feed.rewind(seq);
                feed.is_resting = true;
                let at = now.mono.saturating_add(NOT_STORED_WAIT_MS);
                self.timers.set(at, Timer::Feed(link));
            }
            return true;
        }
        let author = self.outbounds.author_of(server, seq).cloned();
        if author.is_some_and(|author| !self.can_tell(&author)) {
            // It is refused again on the next link, if its author has read by then what is in the way.
            self.settle_in_feed(server, seq);
            self.pump(link);
            return true;
        }
        if let Some(row) = self.take_outbound(server, seq) {
            let detail = if notice.code == ErrorCode::UserNotFound {
                row.recipient.to_string()
            } else {
                format!("refused on the way to {}: {}", row.recipient, notice.detail)
            };
            self.note(Note::Undeliverable { link });
            // In this order, so that a crash between the two loses neither.
            self.give_back(now, row, notice.code.clone(), detail);
            self.save(Record::OutboundGone(vec![seq]), AfterSave::Nothing);
        }
        self.pump(link);
        true
    }

    /// Tells an author that what waited for a server goes nowhere.
    fn give_back(&mut self, now: Now, row: OutboundRow, code: ErrorCode, detail: String) {
        let notice = ErrorNotice {
            code,
            detail,
            msg_ref: Some(row.msg_ref),
            seq: None,
        };
        self.tell_author(now, &row.author, notice);
    }

    /// A server is not known any more: what waits for it goes nowhere.
    pub(super) fn give_up_outbound(&mut self, now: Now, server: &ServerId) {
        let rows = self.outbounds.take_all(server);
        let seqs: Vec<u64> = rows.iter().map(|row| row.seq).collect();
        for row in rows {
            let recipient = row.recipient.to_string();
            self.give_back(now, row, ErrorCode::UserNotFound, recipient);
        }
        if !seqs.is_empty() {
            self.save(Record::OutboundGone(seqs), AfterSave::Nothing);
        }
    }

    /// What was kept for too long goes.
    pub(super) fn on_expire_due(&mut self, now: Now) {
        let at = now.mono.saturating_add(EXPIRE_INTERVAL_MS);
        self.timers.set(at, Timer::Expire);
        self.note_devices_there(now);
        // A clock that is wrong since the start, or has jumped, is to cost nobody a message.
        let has_run_evenly = |fitted: Now| {
            let (unix, mono) = (now.unix.abs_diff(fitted.unix), now.mono.abs_diff(fitted.mono));
            unix.abs_diff(mono) <= CLOCK_STEP_MAX_MS
        };
        if !self.clock_fitted.is_some_and(has_run_evenly) {
            return;
        }
        for (user, devices, up_to) in self.mailboxes.expire(now.unix) {
            for device in devices {
                self.save(Record::DeviceGone(user.clone(), device), AfterSave::Nothing);
            }
            if let Some(up_to) = up_to {
                self.save(Record::MailGone(user, up_to), AfterSave::Nothing);
            }
        }
        let mut gone = Vec::new();
        for (server, seq, author) in self.outbounds.too_old(now.unix) {
            if !self.can_tell(&author) {
                continue;
            }
            if let Some(row) = self.outbounds.remove(&server, seq) {
                let why = format!("the server {server} was not there for 30 days");
                self.give_back(now, row, ErrorCode::Timeout, why);
                gone.push(seq);
            }
        }
        if !gone.is_empty() {
            self.save(Record::OutboundGone(gone), AfterSave::Nothing);
        }
    }

    /// A device that is there is not silent, though it may have nothing to acknowledge for a month.
    fn note_devices_there(&mut self, now: Now) {
        let there = self.links.values().filter_map(|link| match link {
            Link::User(UserLink {
                user,
                reads: Reads::Mailbox(device, _),
                ..
            }) => Some((user, *device)),
            Link::User(_) | Link::Peer(_) | Link::New { .. } => None,
        });
        let mailboxes = &mut self.mailboxes;
        let heard: Vec<DeviceRecord> = there
            .filter_map(|(user, device)| mailboxes.hear_of(user, device, now.unix))
            .collect();
        for record in heard {
            self.save(Record::Device(record), AfterSave::Nothing);
        }
    }

    /// Tells a program, once, that it gets nothing more before it has acknowledged something.
    pub(super) fn look_for_unacknowledged(&mut self, now: Now, link: LinkId) {
        let Some((_, feed)) = self.feed_of(link) else {
            return;
        };
        let is_full = |since| now.mono.saturating_sub(since) >= UNACKNOWLEDGED_WAIT_MAX_MS;
        if feed.is_told || !feed.full_since.is_some_and(is_full) {
            return;
        }
        feed.is_told = true;
        self.note(Note::Unacknowledged { link });
        let why = "you acknowledge nothing (ACK {msg_ref: \"MAILBOX\", up_to}), so you are sent nothing more";
        self.send_error(now, link, ErrorCode::Timeout, why.to_owned(), None);
    }
}
