//! What is kept for users who are away, and for servers: its shapes on the way to the store and back (PROTOCOL II.6).

use socp_proto::payload::{ErrorNotice, ServerDeliver, UserDeliver};
use socp_proto::{Base64Url, DeviceId, KeyText, ServerId, UserId};

/// A user's mailbox, without what the messages say (PROTOCOL II.6).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MailboxMemory {
    /// Whose it is.
    pub user: UserId,
    /// Who reads it.
    pub devices: Vec<DeviceRecord>,
    /// What waits in it, in the order of its numbers.
    pub rows: Vec<MailRow>,
}

/// How far a device has read its user's mailbox (PROTOCOL II.6).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceRecord {
    /// Whose it is.
    pub user: UserId,
    /// Which.
    pub device: DeviceId,
    /// It has everything up to this number.
    pub up_to: u64,
    /// When it was heard of last, ms since the Unix epoch.
    pub at: u64,
}

/// That something waits in a mailbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MailRow {
    /// Its number.
    pub seq: u64,
    /// Its size in bytes, as [`Mail::bytes`] has it.
    pub bytes: usize,
    /// Who wrote it: a part of the SHA-256 of the author's id.
    pub author: u64,
    /// Over which server it came: a part of the SHA-256 of that server's id; 0 for what was written here.
    pub via: u64,
    /// Since when, ms since the Unix epoch.
    pub at: u64,
}

/// Something in a mailbox (PROTOCOL II.6).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mail {
    /// Whose mailbox.
    pub user: UserId,
    /// How it is remembered and counted.
    pub row: MailRow,
    /// The first half of SHA-256 of its author and its `content_sig`, to be remembered as delivered; none of a notice.
    pub content: Option<[u8; 16]>,
    /// What it says.
    pub item: MailItem,
}

/// What something in a mailbox says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MailItem {
    /// A message.
    Message(Box<UserDeliver>),
    /// A message of the user's own that went nowhere.
    Notice(Box<ErrorNotice>),
}

impl MailItem {
    /// Its size in bytes: what varies in it, and a share of the rest.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let varies = match self {
            Self::Message(message) => message_bytes(&message.ciphertext, &message.sender_pub, &message.content_sig),
            Self::Notice(notice) => notice.detail.len(),
        };
        varies.saturating_add(KEPT_OVERHEAD_BYTES)
    }
}

/// Ids, times, names of fields, and what an index costs (our choice).
pub(super) const KEPT_OVERHEAD_BYTES: usize = 256;

fn message_bytes(ciphertext: &Base64Url, key: &KeyText, sig: &Base64Url) -> usize {
    let parts = [ciphertext.as_str(), key.as_str(), sig.as_str()];
    parts.iter().map(|part| part.len()).sum()
}

/// Something that waits for a server (PROTOCOL II.6).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outbound {
    /// For which.
    pub server: ServerId,
    /// How it is remembered and counted.
    pub row: OutboundRow,
    /// What it says.
    pub deliver: Box<ServerDeliver>,
}

/// That something waits for a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutboundRow {
    /// Its number.
    pub seq: u64,
    /// Its size in bytes, as [`outbound_bytes`] has it.
    pub bytes: usize,
    /// How answers name it.
    pub msg_ref: String,
    /// Who wrote it.
    pub author: UserId,
    /// Whom it is for.
    pub recipient: UserId,
    /// Since when, ms since the Unix epoch.
    pub at: u64,
}

/// The size of something that waits for a server: what varies in it, and a share of the rest.
#[must_use]
pub fn outbound_bytes(deliver: &ServerDeliver) -> usize {
    message_bytes(&deliver.ciphertext, &deliver.sender_pub, &deliver.content_sig).saturating_add(KEPT_OVERHEAD_BYTES)
}

/// Where messages are kept in the order of their numbers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Shelf {
    /// The mailbox of a user of ours.
    Mailbox(UserId),
    /// What waits for a server.
    Outbound(ServerId),
}

/// What is on a shelf behind a number, in order.
#[derive(Debug, Default)]
pub struct Page {
    /// The messages, at most [`MAILBOX_PAGE_COUNT_MAX`](socp_proto::limits::MAILBOX_PAGE_COUNT_MAX).
    pub kept: Vec<(u64, Kept)>,
    /// Numbers between them of what is damaged and was put aside.
    pub damaged: Vec<u64>,
}

/// One message on a shelf.
#[derive(Debug)]
pub enum Kept {
    /// Of a mailbox.
    Mail(MailItem),
    /// Of what waits for a server.
    Outbound(Box<ServerDeliver>),
}
