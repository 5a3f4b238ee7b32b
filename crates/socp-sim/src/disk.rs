//! What survives a crash of a server.

use socp_core::server::{
    Delivered, DeviceRecord, Kept, Mail, MailboxMemory, Memory, Outbound, OutboundRow, Page, Record, ServerPin, Shelf,
    UserRecord,
};
use socp_proto::limits::MAILBOX_PAGE_COUNT_MAX;
use socp_proto::{DeviceId, ServerId, UserId};
use std::collections::{BTreeMap, BTreeSet};

/// The tables of one server's store.
#[derive(Debug, Clone, Default)]
pub(crate) struct Disk {
    pub(crate) pins: BTreeMap<ServerId, ServerPin>,
    pub(crate) users: BTreeMap<UserId, UserRecord>,
    channel_version: u64,
    members: Vec<UserId>,
    delivered: Vec<Delivered>,
    devices: BTreeMap<(UserId, DeviceId), DeviceRecord>,
    mailboxes: BTreeMap<UserId, BTreeMap<u64, Mail>>,
    outbound: BTreeMap<u64, Outbound>,
}

impl Disk {
    /// Whether this message waits for a server.
    pub(crate) fn has_outbound(&self, server: &ServerId, reference: &str) -> bool {
        let mut rows = self.outbound.values();
        rows.any(|row| row.server == *server && row.row.msg_ref == reference)
    }

    pub(crate) fn memory(&self) -> Memory {
        Memory {
            pins: self.pins.values().cloned().collect(),
            users: self.users.values().cloned().collect(),
            channel_version: self.channel_version,
            members: self.members.clone(),
            delivered: self.delivered.clone(),
            passwords: Vec::new(),
            mailboxes: self.mailbox_memory(),
            outbound: self.outbound_memory(),
        }
    }

    fn mailbox_memory(&self) -> Vec<MailboxMemory> {
        let with_devices = self.devices.keys().map(|(user, _)| user);
        let users: BTreeSet<&UserId> = with_devices.chain(self.mailboxes.keys()).collect();
        let memory = users.into_iter().map(|user| MailboxMemory {
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
        memory.collect()
    }

    fn outbound_memory(&self) -> Vec<(ServerId, Vec<OutboundRow>)> {
        let mut rows: BTreeMap<ServerId, Vec<OutboundRow>> = BTreeMap::new();
        for outbound in self.outbound.values() {
            rows.entry(outbound.server.clone())
                .or_default()
                .push(outbound.row.clone());
        }
        rows.into_iter().collect()
    }

    pub(crate) fn write(&mut self, record: Record) {
        match record {
            // A node keeps its own id beside its disk; its servers take no passwords.
            Record::Identity(_) | Record::Password(_) => {}
            Record::Pin(pin) | Record::PinReplaced(pin) => {
                self.pins.insert(pin.server_id.clone(), pin);
            }
            Record::User(user) => {
                self.users.insert(user.user_id.clone(), user);
            }
            Record::Ousted(user) | Record::Deleted(user) => {
                self.users.remove(&user);
                self.mailboxes.remove(&user);
                self.devices.retain(|(whose, _), _| *whose != user);
            }
            Record::Unpinned(server) => {
                self.pins.remove(&server);
            }
            Record::Member { user, version, .. } => {
                self.channel_version = self.channel_version.max(version);
                if !self.members.contains(&user) {
                    self.members.push(user);
                }
            }
            Record::ChannelVersion(version) => self.channel_version = version,
            Record::Delivered(delivered) => self.delivered.push(delivered),
            Record::Device(device) => {
                self.devices.insert((device.user.clone(), device.device), device);
            }
            Record::DeviceGone(user, device) => {
                self.devices.remove(&(user, device));
            }
            Record::Mail(mail) => {
                self.delivered.extend(mail.content.map(|content| Delivered {
                    content,
                    at: mail.row.at,
                }));
                let mailbox = self.mailboxes.entry(mail.user.clone()).or_default();
                mailbox.insert(mail.row.seq, *mail);
            }
            Record::MailGone(user, up_to) => {
                if let Some(mailbox) = self.mailboxes.get_mut(&user) {
                    *mailbox = mailbox.split_off(&(up_to + 1));
                }
            }
            Record::MailDropped(user, gone) => {
                if let Some(mailbox) = self.mailboxes.get_mut(&user) {
                    mailbox.retain(|seq, _| !gone.contains(seq));
                }
            }
            Record::Outbound(outbound) => {
                self.outbound.insert(outbound.row.seq, *outbound);
            }
            Record::OutboundGone(seqs) => {
                for seq in seqs {
                    self.outbound.remove(&seq);
                }
            }
        }
    }

    pub(crate) fn read_page(&self, shelf: &Shelf, after: u64) -> Page {
        let kept = match shelf {
            Shelf::Mailbox(user) => {
                let rows = self
                    .mailboxes
                    .get(user)
                    .into_iter()
                    .flat_map(|rows| rows.range(after + 1..));
                let rows = rows.map(|(seq, mail)| (*seq, Kept::Mail(mail.item.clone())));
                rows.take(MAILBOX_PAGE_COUNT_MAX).collect()
            }
            Shelf::Outbound(server) => {
                let rows = self
                    .outbound
                    .range(after + 1..)
                    .filter(|(_, row)| row.server == *server);
                let rows = rows.map(|(seq, row)| (*seq, Kept::Outbound(row.deliver.clone())));
                rows.take(MAILBOX_PAGE_COUNT_MAX).collect()
            }
        };
        Page {
            kept,
            damaged: Vec::new(),
        }
    }
}
