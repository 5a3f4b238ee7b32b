//! What was acknowledged as stored is on a disk at that moment, and reaches every device of its reader once, or its author
//! hears that it does not (PROTOCOL II.6).
//!
//! For disks the oracle has books of its own: what has ever been written on which. What a device's program shows it writes
//! at the same time, so that it counts as shown only then.

use super::{Oracle, host_name, user_name};
use crate::disk::Disk;
use crate::net::{Host, UserNo};
use crate::queue::Time;
use crate::report::Rule;
use socp_core::server::{MailItem, Record};
use socp_proto::payload::{Ack, Status, msg_ref};
use socp_proto::{DeviceId, Draft, Payload};
use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

/// What a server wrote just before it died may be lost, ms: a disk takes a moment.
const UNSAVED_MS: Time = 1_000;

/// How a user takes messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reading {
    /// As they come, while the user is there.
    ToTheLetter,
    /// Out of a mailbox.
    Mailbox,
    /// Not at all: the program only writes.
    Nothing,
}

/// The books about what is kept.
#[derive(Debug, Default)]
pub(super) struct KeptBook {
    /// Since when a device is on the disk of its user's server.
    devices: BTreeMap<(UserNo, DeviceId), Time>,
    /// What has ever been on a server's disk. The sets are never iterated.
    written: BTreeMap<Host, HashSet<String>>,
    /// What has been in a mailbox of a server. The sets are never iterated.
    mailed: BTreeMap<Host, HashSet<String>>,
    /// Messages that their author's server has said to be stored, and which that was.
    promised: BTreeMap<usize, Host>,
    /// Messages whose author knows that they go nowhere.
    refused: BTreeSet<usize>,
    /// On which device a message was written.
    // Never iterated.
    written_on: HashMap<usize, DeviceId>,
    /// What each device has shown, in this order.
    shown: BTreeMap<(UserNo, DeviceId), Vec<usize>>,
    crashes: BTreeMap<Host, Vec<Time>>,
    /// When a disk began and ceased to refuse to write.
    refusals: BTreeMap<Host, Vec<(Time, Time)>>,
}

impl Oracle {
    fn number_of(&self, reference: &str) -> Option<usize> {
        self.messages.by_ref.get(reference).copied()
    }

    /// A user is at a server now, and takes messages in this way there.
    pub(crate) fn on_reading(&mut self, user: UserNo, reading: Reading) {
        self.users[user].reading = reading;
    }

    /// A program has a message of its own on its disk.
    pub(crate) fn on_written(&mut self, reference: &str, device: DeviceId) {
        if let Some(number) = self.number_of(reference) {
            self.kept.written_on.insert(number, device);
        }
    }

    pub(crate) fn on_crash(&mut self, host: Host) {
        self.kept.crashes.entry(host).or_default().push(self.now);
    }

    pub(crate) fn on_disk_refuses(&mut self, host: Host, refuses: bool) {
        let refusals = self.kept.refusals.entry(host).or_default();
        match refusals.last_mut().filter(|(_, until)| *until == Time::MAX) {
            Some(last) if !refuses => last.1 = self.now,
            None if refuses => refusals.push((self.now, Time::MAX)),
            Some(_) | None => {}
        }
    }

    /// Whether a server may not know any more that it delivered something then: it died too soon, or its disk refused.
    pub(super) fn may_have_forgotten(&self, host: Host, at: Time) -> bool {
        let is_soon = |crash: &Time| *crash + UNSAVED_MS >= at && *crash <= at + UNSAVED_MS;
        let crashes = self.kept.crashes.get(&host);
        let is_refused =
            |(from, until): &(Time, Time)| *from <= at + UNSAVED_MS && at <= until.saturating_add(UNSAVED_MS);
        let refusals = self.kept.refusals.get(&host);
        crashes.is_some_and(|crashes| crashes.iter().any(is_soon))
            || refusals.is_some_and(|refusals| refusals.iter().any(is_refused))
    }

    /// A record reaches a disk, on which this was before.
    pub(crate) fn on_record(&mut self, host: Host, disk: &Disk, record: &Record) {
        #[expect(clippy::wildcard_enum_match_arm, reason = "the others keep no messages")]
        let reference = match record {
            Record::Device(device) => {
                let now = self.now;
                if let Some(user) = self.user_of(&device.user) {
                    self.kept.devices.entry((user, device.device)).or_insert(now);
                }
                return;
            }
            Record::Mail(mail) => {
                let MailItem::Message(message) = &mail.item else {
                    return;
                };
                let reference = msg_ref(&message.content_sig);
                if !self.kept.mailed.entry(host).or_default().insert(reference.clone()) {
                    let what = format!("h{host} has {reference} in the mailbox of {} twice", mail.user);
                    self.violate(Rule::Twice, what, &[host_name(host)]);
                }
                reference
            }
            Record::Outbound(outbound) => {
                let reference = outbound.row.msg_ref.clone();
                if disk.has_outbound(&outbound.server, &reference) {
                    let what = format!("{reference} waits twice at h{host} for {}", outbound.server);
                    self.violate(Rule::Twice, what, &[host_name(host)]);
                }
                reference
            }
            _ => return,
        };
        self.kept.written.entry(host).or_default().insert(reference);
    }

    /// A server says what became of messages.
    pub(crate) fn on_ack(&mut self, host: Host, draft: &Draft) {
        let Ok(Payload::Ack(Ack {
            msg_ref,
            status: Some(status),
            server_id: Some(at),
            also,
            ..
        })) = Payload::parse(draft.kind, &draft.payload)
        else {
            return self.broken(format!("h{host} acknowledges without saying what"));
        };
        let keeper = usize::try_from(self.server_number(&at)).unwrap_or(usize::MAX);
        if status != Status::Stored || keeper >= self.honest {
            return;
        }
        for reference in std::iter::once(msg_ref).chain(also) {
            let written = self.kept.written.get(&keeper);
            if !written.is_some_and(|written| written.contains(&reference)) {
                let number = self.number_of(&reference);
                let what = format!("h{host} says that message {number:?} is on the disk of h{keeper}, which it is not");
                self.violate(Rule::Unstored, what, &[host_name(host), host_name(keeper)]);
            }
        }
    }

    /// A program hears from its own server that a message is stored.
    pub(crate) fn on_promise(&mut self, author: UserNo, host: Host, reference: &str) {
        let Some(number) = self.number_of(reference) else {
            return self.broken(format!("u{author} hears that something is stored that nobody said"));
        };
        if let Entry::Vacant(entry) = self.kept.promised.entry(number) {
            entry.insert(host);
            self.stats.stored += 1;
        }
    }

    /// A program has written down that a message goes nowhere.
    pub(crate) fn on_refusal(&mut self, author: UserNo, reference: &str) {
        let number = self.number_of(reference);
        let number = number.filter(|number| self.messages.said[*number].author == author);
        self.kept.refused.extend(number);
    }

    /// A program shows a message, and has written that down.
    pub(crate) fn on_shown(&mut self, reader: UserNo, device: DeviceId, number: usize) {
        let shown = self.kept.shown.entry((reader, device)).or_default();
        let is_again = shown.contains(&number);
        shown.push(number);
        if is_again {
            let what = format!("u{reader} is shown message {number} twice on one device");
            self.violate(Rule::Twice, what, &[user_name(reader)]);
        }
    }

    /// Everybody has been back: what was promised must have come.
    pub(crate) fn on_promises_due(&mut self, keeps_order: bool) {
        for number in self.kept.promised.keys().copied().collect::<Vec<_>>() {
            let said = &self.messages.said[number];
            let (author, reader, at) = (said.author, said.recipient, said.at);
            let devices = self.kept.devices.range((reader, DeviceId::from_bytes([0; 16]))..);
            let devices = devices.take_while(|((user, _), _)| *user == reader);
            let due = devices.filter(|(_, since)| **since <= at);
            let due: Vec<DeviceId> = due.map(|((_, device), _)| *device).collect();
            // Where a liar says that its user is, a message may go to the liar.
            if self.is_contested(author) || self.is_contested(reader) {
                continue;
            }
            for device in due {
                self.judge_promise(number, (author, reader), device);
            }
        }
        if keeps_order {
            self.judge_order();
        }
    }

    fn judge_promise(&mut self, number: usize, (author, reader): (UserNo, UserNo), device: DeviceId) {
        self.stats.stored_judged += 1;
        if self.kept.refused.contains(&number) {
            self.stats.given_up += 1;
            return;
        }
        let shown = self.kept.shown.get(&(reader, device));
        if !shown.is_some_and(|shown| shown.contains(&number)) {
            let what = format!("message {number} of u{author} was stored and never reaches a device of u{reader}");
            self.violate(Rule::Forgotten, what, &[user_name(author), user_name(reader)]);
        }
    }

    /// What one program said and was told to be stored has come to each device in that order. Not what waited at two servers,
    /// because its author went from one to the other: they know nothing of each other, and only the numbers inside the
    /// encryption show the order.
    fn judge_order(&mut self) {
        let mut wrong = Vec::new();
        for ((reader, _), shown) in &self.kept.shown {
            let mut last: BTreeMap<(DeviceId, Host), usize> = BTreeMap::new();
            for number in shown {
                let written_on = self.kept.written_on.get(number);
                let Some((device, host)) = written_on.zip(self.kept.promised.get(number)) else {
                    continue;
                };
                if let Some(before) = last.insert((*device, *host), *number).filter(|before| before > number) {
                    wrong.push((*reader, before, *number));
                }
            }
        }
        for (reader, before, number) in wrong {
            let author = self.messages.said[number].author;
            let what = format!("u{reader} is shown message {before} of u{author} before message {number}");
            self.violate(Rule::OutOfOrder, what, &[user_name(reader), user_name(author)]);
        }
    }
}
