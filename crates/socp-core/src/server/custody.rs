//! Messages that are taken into custody: written down for their recipient, or for the recipient's server, and
//! acknowledged once they are on the disk (PROTOCOL II.6).

use super::Server;
use super::delivered::{ContentHash, content_hash};
use super::io::{AfterSave, Delivered, LinkId, Note, Record};
use super::kept::{KEPT_OVERHEAD_BYTES, Mail, MailItem, Outbound, OutboundRow, Shelf, outbound_bytes};
use super::link::{Link, Reads};
use super::mailbox::{Full, Whence};
use super::mutation::Mutation;
use super::passed::SeenAs;
use super::people::Person;
use super::route::Hop;
use super::timers::Timer;
use crate::clock::Now;
use socp_proto::limits::{ACK_REFS_COUNT_MAX, ERROR_DETAIL_CHARS_MAX};
use socp_proto::payload::{Ack, ErrorNotice, ServerDeliver, Status, UserDeliver, msg_ref};
use socp_proto::{Envelope, ErrorCode, FrameKind, Payload, ServerId, UserId};
use std::collections::BTreeMap;

/// More than any notice has.
const NOTICE_BYTES_MAX: usize = 4 * ERROR_DETAIL_CHARS_MAX + KEPT_OVERHEAD_BYTES;

/// Where a message goes, and who answers for it.
#[derive(Debug)]
pub(super) enum Way {
    /// Into the recipient's mailbox, here.
    Mailbox,
    /// To these links of the recipient, whose programs acknowledge nothing.
    ToTheLetter(Vec<LinkId>),
    /// To the recipient's server, which acknowledges it, as soon as it is linked.
    Outbound(ServerId),
    /// To this server or over it, by this link; nobody answers for it.
    Onward(ServerId, LinkId),
}

/// Something that is on its way to the disk.
#[derive(Debug)]
pub(super) struct Custody {
    content: Option<ContentHash>,
    /// As what it is remembered as seen.
    seen_as: SeenAs,
    shelf: Shelf,
    seq: u64,
}

/// Who waits to hear that something is kept.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    /// For the disk: on which links, under which reference.
    for_disk: BTreeMap<ContentHash, Vec<(LinkId, String)>>,
    /// What those links are told next.
    told: BTreeMap<LinkId, BTreeMap<(Status, ServerId), Vec<String>>>,
}

/// From where a message comes.
#[derive(Debug)]
pub(super) enum Origin<'a> {
    /// From its author.
    User {
        link: LinkId,
        /// Where the author's program saw the recipient last.
        home: Option<&'a ServerId>,
    },
    /// From a server.
    Server(LinkId, &'a Envelope),
}

/// How a message came.
#[derive(Debug)]
pub(super) struct Came {
    pub(super) link: LinkId,
    /// As what it is remembered as seen.
    pub(super) seen_as: SeenAs,
}

impl Server {
    /// Where a message goes next.
    pub(super) fn way_to(&self, recipient: &UserId, origin: &Origin<'_>) -> Option<Way> {
        let (came, is_from_user) = match origin {
            Origin::User { .. } => (None, true),
            Origin::Server(link, envelope) => (Some((*link, Some(*envelope))), false),
        };
        match self.next_hop(recipient, came) {
            // Whoever claims somebody who is away would else get what is for the mailbox here.
            Some(Hop::Home(_) | Hop::Server(..)) if self.mailboxes.has(recipient) => Some(Way::Mailbox),
            Some(Hop::Home(mut links)) => {
                links.retain(|link| self.reads_to_the_letter(*link));
                (!links.is_empty()).then_some(Way::ToTheLetter(links))
            }
            Some(Hop::Server(server, link)) => {
                // Also one of two to the same server, of which the other replaces it and is not answered yet: what goes over a
                // link that ends may be lost, and what is kept is not.
                let end = self.links.get(&link);
                let keeps = matches!(end, Some(Link::Peer(peer)) if peer.server == server && peer.feed.is_some());
                Some(if is_from_user && keeps {
                    Way::Outbound(server)
                } else {
                    Way::Onward(server, link)
                })
            }
            None if self.mailboxes.has(recipient) => Some(Way::Mailbox),
            None => self.home_of_the_absent(recipient, origin).map(Way::Outbound),
        }
    }

    /// The server at which a recipient was last, if it answers for what it gets, and the author waits for answers.
    fn home_of_the_absent(&self, recipient: &UserId, origin: &Origin<'_>) -> Option<ServerId> {
        let Origin::User { link, home } = origin else {
            return None;
        };
        let known = self.people.get(recipient).and_then(Person::home_server);
        let home = known.or(*home).filter(|_| self.is_answered_for(*link))?;
        let keeps = self.pins.get(home).is_some_and(|pin| pin.keeps);
        keeps.then(|| home.clone())
    }

    fn reads_to_the_letter(&self, link: LinkId) -> bool {
        matches!(self.links.get(&link), Some(Link::User(user)) if matches!(user.reads, Reads::ToTheLetter))
    }

    /// Whether the far end of a link gets an answer to each message.
    fn is_answered_for(&self, link: LinkId) -> bool {
        match self.links.get(&link) {
            Some(Link::User(user)) => user.reads.acknowledges(),
            Some(Link::Peer(peer)) => peer.feed.is_some(),
            Some(Link::New { .. }) | None => false,
        }
    }

    /// Says what became of a message, with whatever else is to be said on that link.
    pub(super) fn acknowledge(&mut self, now: Now, link: LinkId, (status, at): (Status, ServerId), msg_ref: String) {
        if !self.is_answered_for(link) {
            return;
        }
        let told = self.waiting.told.entry(link).or_default();
        told.entry((status, at)).or_default().push(msg_ref);
        self.timers.set(now.mono, Timer::Acks);
    }

    /// The same content came again: whoever sent it waits for an answer.
    pub(super) fn acknowledge_again(&mut self, now: Now, link: LinkId, deliver: &ServerDeliver, status: Status) {
        let kind = FrameKind::ServerDeliver;
        self.note(Note::Duplicate { link, kind });
        let content = content_hash(&deliver.sender, &deliver.content_sig.decode());
        let msg_ref = msg_ref(&deliver.content_sig);
        if let Some(waiting) = self.waiting.for_disk.get_mut(&content) {
            waiting.push((link, msg_ref));
        } else {
            let at = self.config.server_id.clone();
            self.acknowledge(now, link, (status, at), msg_ref);
        }
    }

    pub(super) fn on_acks_due(&mut self, now: Now) {
        for (link, told) in std::mem::take(&mut self.waiting.told) {
            let Some(address) = self.links.get(&link).map(Link::address) else {
                continue;
            };
            for ((status, at), refs) in told {
                for refs in refs.chunks(ACK_REFS_COUNT_MAX.saturating_add(1)) {
                    let Some((first, also)) = refs.split_first() else {
                        continue;
                    };
                    let ack = Ack {
                        msg_ref: first.clone(),
                        also: also.to_vec(),
                        status: Some(status),
                        server_id: Some(at.clone()),
                        ..Ack::default()
                    };
                    self.send(&[link], now, address.clone(), &Payload::Ack(ack));
                }
            }
        }
    }

    /// Puts a message into a mailbox: at once to those who read it, and to the disk.
    pub(super) fn keep_mail(&mut self, now: Now, came: Came, ts: u64, message: ServerDeliver) {
        let content = content_hash(&message.sender, &message.content_sig.decode());
        let is_known = self.delivered.contains(content) || self.waiting.for_disk.contains_key(&content);
        if is_known && !self.is_mutated(Mutation::NoSeenCache) {
            return self.acknowledge_again(now, came.link, &message, Status::Stored);
        }
        let msg_ref = msg_ref(&message.content_sig);
        let via = match self.links.get(&came.link) {
            Some(Link::Peer(peer)) => Some(&peer.server),
            Some(Link::User(_) | Link::New { .. }) | None => None,
        };
        let (user, whence) = (message.user_id, Whence::of(&message.sender, via));
        let deliver = UserDeliver {
            ciphertext: message.ciphertext,
            sender: message.sender,
            sender_pub: message.sender_pub,
            content_sig: message.content_sig,
            ts: Some(ts),
            seq: None,
        };
        let item = MailItem::Message(Box::new(deliver));
        if let Err(full) = self.find_room(&user, whence, item.bytes()) {
            let shelf = Shelf::Mailbox(user);
            return self.refuse_for_room(now, &came, shelf, msg_ref, words_of(full));
        }
        let at = now.unix;
        self.delivered.insert(Delivered { content, at });
        self.waiting
            .for_disk
            .entry(content)
            .or_default()
            .push((came.link, msg_ref));
        let link = came.link;
        self.add_mail(now, user, (whence, Some(content), came.seen_as), item);
        self.note(Note::Routed { link, is_local: true });
    }

    fn find_room(&mut self, user: &UserId, whence: Whence, bytes: usize) -> Result<(), Full> {
        loop {
            let full = match self.mailboxes.room_for(user, whence, bytes) {
                Ok(()) => return Ok(()),
                Err(full) => full,
            };
            let gone = self.mailboxes.make_room(user, full, whence);
            if gone.is_empty() {
                return Err(full);
            }
            self.save(Record::MailDropped(user.clone(), gone), AfterSave::Nothing);
        }
    }

    /// Whether there is room to tell an author something when they are back; there is after this, if there can be.
    fn find_room_for_notice(&mut self, author: &UserId, bytes: usize) -> bool {
        let whence = Whence::of(author, None);
        while !self.mailboxes.has_room_for_notice(author, whence, bytes) {
            let gone = self.mailboxes.make_room(author, Full::Author, whence);
            if gone.is_empty() {
                return false;
            }
            self.save(Record::MailDropped(author.clone(), gone), AfterSave::Nothing);
        }
        true
    }

    /// Whether the author of something can be told what becomes of it. Until then it stays where it is.
    pub(super) fn can_tell(&mut self, author: &UserId) -> bool {
        !self.mailboxes.has(author) || self.find_room_for_notice(author, NOTICE_BYTES_MAX)
    }

    fn refuse_for_room(&mut self, now: Now, came: &Came, shelf: Shelf, msg_ref: String, why: &str) {
        // Its author may send it again when there is room.
        for key in came.seen_as.iter().flatten() {
            self.seen.forget(key);
        }
        self.note(Note::Full { shelf });
        self.send_error(now, came.link, ErrorCode::MailboxFull, why.to_owned(), Some(msg_ref));
    }

    /// Numbers something for a mailbox, sends it, and has it written.
    fn add_mail(
        &mut self,
        now: Now,
        user: UserId,
        (whence, content, seen_as): (Whence, Option<ContentHash>, SeenAs),
        mut item: MailItem,
    ) {
        // Not the last number that was given: whoever has never had that, and need not, has all that waits.
        let before = self.mailboxes.newest(&user);
        let row = self.mailboxes.add(&user, whence, item.bytes(), now.unix);
        let seq = row.seq;
        match &mut item {
            MailItem::Message(message) => message.seq = Some(seq),
            MailItem::Notice(notice) => notice.seq = Some(seq),
        }
        self.feed_mail(now, &user, (before, seq), &item);
        let custody = Custody {
            content,
            seen_as,
            shelf: Shelf::Mailbox(user.clone()),
            seq,
        };
        let mail = Mail {
            user,
            row,
            content,
            item,
        };
        if self.is_mutated(Mutation::AckBeforeDisk) {
            self.on_kept(now, &custody);
        }
        self.save(Record::Mail(Box::new(mail)), AfterSave::Kept(Box::new(custody)));
    }

    /// Keeps a message for another server: at once to it, if it is linked and has room, and to the disk.
    pub(super) fn keep_outbound(&mut self, now: Now, came: Came, server: ServerId, deliver: ServerDeliver) {
        let msg_ref = msg_ref(&deliver.content_sig);
        if self.outbounds.number_of(&server, &msg_ref).is_some() && !self.is_mutated(Mutation::NoSeenCache) {
            return self.acknowledge_again(now, came.link, &deliver, Status::Stored);
        }
        let content = content_hash(&deliver.sender, &deliver.content_sig.decode());
        let bytes = outbound_bytes(&deliver);
        if !self.outbounds.has_room(&server, &deliver.sender, bytes) {
            let why = "too much waits for the recipient's server; try again when it is back";
            return self.refuse_for_room(now, &came, Shelf::Outbound(server), msg_ref, why);
        }
        let row = OutboundRow {
            seq: self.outbounds.next(),
            bytes,
            msg_ref: msg_ref.clone(),
            author: deliver.sender.clone(),
            recipient: deliver.user_id.clone(),
            at: now.unix,
        };
        let (link, before) = (came.link, self.outbounds.last(&server));
        let [_, content_key] = came.seen_as;
        self.outbounds.insert(&server, row.clone(), content_key);
        self.waiting.for_disk.entry(content).or_default().push((link, msg_ref));
        self.feed_outbound(now, &server, (before, &row), &deliver);
        let custody = Custody {
            content: Some(content),
            seen_as: came.seen_as,
            shelf: Shelf::Outbound(server.clone()),
            seq: row.seq,
        };
        let outbound = Outbound {
            server,
            row,
            deliver: Box::new(deliver),
        };
        if self.is_mutated(Mutation::AckBeforeDisk) {
            self.on_kept(now, &custody);
        }
        let record = Record::Outbound(Box::new(outbound));
        self.save(record, AfterSave::Kept(Box::new(custody)));
        self.note(Note::Routed { link, is_local: false });
    }

    /// Something is on the disk: whoever waits for that may hear it.
    pub(super) fn on_kept(&mut self, now: Now, custody: &Custody) {
        let at = self.config.server_id.clone();
        for (link, msg_ref) in self.take_waiting(custody) {
            self.acknowledge(now, link, (Status::Stored, at.clone()), msg_ref);
        }
    }

    /// What is not on the disk is not kept. It may have reached somebody all the same, who knows it when it comes again.
    pub(super) fn on_not_kept(&mut self, now: Now, custody: &Custody) {
        for key in custody.seen_as.iter().flatten() {
            self.seen.forget(key);
        }
        match &custody.shelf {
            Shelf::Mailbox(user) => {
                self.mailboxes.remove(user, custody.seq);
                if let Some(content) = custody.content {
                    self.delivered.forget(content);
                }
            }
            Shelf::Outbound(server) => {
                self.outbounds.remove(server, custody.seq);
                self.settle_in_feed(server, custody.seq);
            }
        }
        for (link, msg_ref) in self.take_waiting(custody) {
            let why = "this server cannot write to its disk now; send it again later".to_owned();
            self.send_error(now, link, ErrorCode::NotStored, why, Some(msg_ref));
        }
    }

    fn take_waiting(&mut self, custody: &Custody) -> Vec<(LinkId, String)> {
        let waiting = custody
            .content
            .and_then(|content| self.waiting.for_disk.remove(&content));
        waiting.unwrap_or_default()
    }

    /// A message of this author went nowhere: the author hears it, now or when a device of theirs is back.
    pub(super) fn tell_author(&mut self, now: Now, author: &UserId, notice: ErrorNotice) {
        let mut links = self.people.links_of(author);
        if self.mailboxes.has(author) {
            links.retain(|link| !self.reads_mailbox(*link));
        }
        let ErrorNotice {
            code, detail, msg_ref, ..
        } = notice.clone();
        for link in links {
            self.send_error(now, link, code.clone(), detail.clone(), msg_ref.clone());
        }
        if self.mailboxes.has(author) {
            let item = MailItem::Notice(Box::new(notice));
            let whence = Whence::of(author, None);
            if !self.find_room_for_notice(author, item.bytes()) {
                let shelf = Shelf::Mailbox(author.clone());
                return self.note(Note::Full { shelf });
            }
            self.add_mail(now, author.clone(), (whence, None, [None; 2]), item);
        }
    }

    fn reads_mailbox(&self, link: LinkId) -> bool {
        matches!(self.links.get(&link), Some(Link::User(user)) if matches!(user.reads, Reads::Mailbox(..)))
    }
}

fn words_of(full: Full) -> &'static str {
    match full {
        Full::Mailbox => "the recipient's mailbox is full; try again when they have read it",
        Full::Author => "the recipient has not read what you sent before, and there is no room for more of yours",
        Full::Peer => "too much from the authors of your server waits here; try again when it has been read",
        Full::Server => "the recipient's server has no room for messages to people who are away",
    }
}
