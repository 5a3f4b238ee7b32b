//! What a server's store keeps until it has arrived.

use super::super::*;
use socp_proto::DeviceId;
use socp_proto::limits::MAILBOX_PAGE_COUNT_MAX;
use std::ops::Bound;

#[derive(Debug, Clone, Default)]
pub(super) struct Shelves {
    pub(super) devices: BTreeMap<(UserId, DeviceId), DeviceRecord>,
    pub(super) mailboxes: BTreeMap<UserId, BTreeMap<u64, Mail>>,
    pub(super) outbound: BTreeMap<u64, Outbound>,
    /// What is found damaged when it is read.
    pub(super) damaged: BTreeSet<u64>,
}

impl Shelves {
    pub(super) fn write(&mut self, record: Record) {
        match record {
            Record::Device(device) => drop(self.devices.insert((device.user.clone(), device.device), device)),
            Record::DeviceGone(user, device) => drop(self.devices.remove(&(user, device))),
            Record::Mail(mail) => {
                let mailbox = self.mailboxes.entry(mail.user.clone()).or_default();
                mailbox.insert(mail.row.seq, *mail);
            }
            Record::MailGone(user, up_to) => {
                self.mailboxes.entry(user).or_default().retain(|seq, _| *seq > up_to);
            }
            Record::MailDropped(user, gone) => {
                self.mailboxes
                    .entry(user)
                    .or_default()
                    .retain(|seq, _| !gone.contains(seq));
            }
            Record::Outbound(outbound) => drop(self.outbound.insert(outbound.row.seq, *outbound)),
            Record::OutboundGone(seqs) => {
                for seq in seqs {
                    self.outbound.remove(&seq);
                }
            }
            _ => {}
        }
    }

    /// As if it had never been written.
    pub(super) fn unwrite(&mut self, seq: u64) {
        self.outbound.remove(&seq);
        for mailbox in self.mailboxes.values_mut() {
            mailbox.remove(&seq);
        }
    }

    pub(super) fn memory(&self) -> (Vec<MailboxMemory>, Vec<(ServerId, Vec<OutboundRow>)>) {
        let users: BTreeSet<&UserId> = self
            .devices
            .keys()
            .map(|(user, _)| user)
            .chain(self.mailboxes.keys())
            .collect();
        let mailboxes = users.into_iter().map(|user| MailboxMemory {
            user: user.clone(),
            devices: self
                .devices
                .values()
                .filter(|device| device.user == *user)
                .cloned()
                .collect(),
            rows: self
                .mailboxes
                .get(user)
                .into_iter()
                .flat_map(BTreeMap::values)
                .map(|mail| mail.row)
                .collect(),
        });
        let mut outbound: BTreeMap<ServerId, Vec<OutboundRow>> = BTreeMap::new();
        for kept in self.outbound.values() {
            outbound.entry(kept.server.clone()).or_default().push(kept.row.clone());
        }
        (mailboxes.collect(), outbound.into_iter().collect())
    }

    pub(super) fn read_page(&self, shelf: &Shelf, after: u64) -> Page {
        let behind = (Bound::Excluded(after), Bound::Unbounded);
        let kept: Vec<(u64, Kept)> = match shelf {
            Shelf::Mailbox(user) => {
                let mails = self.mailboxes.get(user).into_iter();
                let mails = mails.flat_map(|mails| mails.range(behind)).take(MAILBOX_PAGE_COUNT_MAX);
                mails.map(|(seq, mail)| (*seq, Kept::Mail(mail.item.clone()))).collect()
            }
            Shelf::Outbound(server) => {
                let mine = self.outbound.range(behind).filter(|(_, kept)| kept.server == *server);
                let mine = mine.take(MAILBOX_PAGE_COUNT_MAX);
                mine.map(|(seq, kept)| (*seq, Kept::Outbound(kept.deliver.clone())))
                    .collect()
            }
        };
        let (damaged, kept): (Vec<_>, Vec<_>) = kept.into_iter().partition(|(seq, _)| self.damaged.contains(seq));
        Page {
            kept,
            damaged: damaged.into_iter().map(|(seq, _)| seq).collect(),
        }
    }
}
