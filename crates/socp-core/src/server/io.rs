//! What enters a [`Server`](super::Server) and what leaves it.

use super::accounts::{KeptPassword, PasswordSet};
use super::custody::Custody;
use super::directory::Greeting;
use super::fault::{CloseCode, Fault};
use super::kept::{DeviceRecord, Mail, MailboxMemory, Outbound, OutboundRow, Page, Shelf};
use super::opaque::{OpaqueDone, OpaqueWork};
use crate::verified::Verified;
use socp_proto::limits::{CLOCK_AHEAD_MAX_MS, CLOCK_BEHIND_MAX_MS};
use socp_proto::payload::{Deletion, ErrorCode, PasswordRecord};
use socp_proto::{
    Base64Url, Bytes32, Delegation, DeviceId, Draft, Envelope, Fingerprint, Frame, FrameKind, KeyHistory, KeyText,
    Meta, Object, ServerId, TlsPin, UserId,
};
use std::net::IpAddr;
use std::sync::Arc;

/// One WebSocket connection, whoever is at the far end. The driver numbers them and never uses a number twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LinkId(pub u64);

/// One server that the core wants dialled, over all attempts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DialId(pub u64);

/// One record on its way to the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SaveId(pub u64);

/// Who may say hello (PROTOCOL I.6).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Accept {
    /// Whoever proves, when asked, to hold the key of the id (PROTOCOL II.2).
    Proof,
    /// Whoever signs a fresh hello for this server with the key of the id.
    Signed,
    /// Whoever names a key: the letter of SOCP §9.1.
    Open,
}

/// Whom users are shown (PROTOCOL II.12).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Directory {
    /// Everyone online.
    Open,
    /// Whom they have shown to know.
    Contacts,
}

/// A server to ask for admission (SOCP §8.1).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BootstrapEntry {
    /// Host name or address.
    pub host: String,
    /// Port.
    pub port: u16,
    /// Its key, if the operator knows it; else the first one seen is trusted, with a warning.
    pub key: Option<KeyText>,
    /// Whether TLS is spoken there, and with which certificate.
    pub tls: Option<TlsWanted>,
}

/// TLS is spoken there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TlsWanted {
    /// The key that the certificate must have; else an authority of the machine vouches for it, or the server proves a key
    /// that is known here (PROTOCOL II.2).
    pub pin: Option<TlsPin>,
}

/// The TLS session of a link, where it ends here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TlsSession {
    /// What it exports (RFC 9266).
    pub binding: Bytes32,
    /// Whether the far end has shown a good certificate: an authority vouches for it, or it is the pinned one. Who
    /// connects to us shows none.
    pub is_certified: bool,
}

/// What a server is told at its start and never changes, except for the id that a join may assign.
#[derive(Debug, Clone)]
pub struct Config {
    /// Who we are.
    pub server_id: ServerId,
    /// Our name for people.
    pub name: Option<String>,
    /// Our public key.
    pub key: KeyText,
    /// The keys that we had before, if any.
    pub history: Option<KeyHistory>,
    /// The host under which others dial us.
    pub host: String,
    /// The port there.
    pub port: u16,
    /// Whether TLS is spoken there.
    pub has_tls: bool,
    /// Whom to ask for admission, in order.
    pub bootstrap: Vec<BootstrapEntry>,
    /// Who may say hello.
    pub accept: Accept,
    /// Whether users are taken at all; a server that only introduces takes none.
    pub takes_users: bool,
    /// Whom our users are shown.
    pub directory: Directory,
    /// Whether the content signature of a direct message must verify before it is routed.
    pub verify_content: bool,
    /// Whether a newcomer may join without signing.
    pub allow_unsigned_join: bool,
    /// How far behind our clock a state-changing frame may lie, ms.
    pub clock_behind_ms: u64,
    /// How far ahead of our clock a state-changing frame may lie, ms.
    pub clock_ahead_ms: u64,
    /// The first key to sign frames with in our name, if there is to be one (PROTOCOL II.3).
    pub delegation: Option<Delegation>,
    /// Whether we prove to peers who we are and ask them to (PROTOCOL II.2); a server that does not is one of before.
    pub proves: bool,
    /// Whether presence goes to peers and comes from them many at once (PROTOCOL II.8); a server that does without is one
    /// of before.
    pub batches: bool,
    /// Whether users may set passwords and log in with them (PROTOCOL II.9); the driver must know OPAQUE for that.
    pub passwords: bool,
    /// Whether messages are kept until they have arrived (PROTOCOL II.6); a server that does not is one of before.
    pub keeps: bool,
    /// Larger at each start of the server, so that no number in a mailbox is used twice (PROTOCOL II.6).
    pub run: u64,
    /// Where all randomness comes from.
    pub seed: [u8; 32],
}

impl Config {
    /// The clock tolerance of PROTOCOL I.2, behind and ahead in ms.
    pub const CLOCK_TOLERANCE_MS: (u64, u64) = (CLOCK_BEHIND_MAX_MS, CLOCK_AHEAD_MAX_MS);
}

/// A server's key, bound to its id for life, and where it was last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerPin {
    /// Its id.
    pub server_id: ServerId,
    /// Its key.
    pub key: KeyText,
    /// The host under which it can be dialled.
    pub host: String,
    /// The port there.
    pub port: u16,
    /// Whether TLS is spoken there.
    pub has_tls: bool,
    /// Its name for people.
    pub name: Option<String>,
    /// It has proved once that it holds the key, and must on every link since (PROTOCOL II.2).
    pub has_proved: bool,
    /// It keeps what it acknowledges, as it said last (PROTOCOL II.6).
    pub keeps: bool,
}

/// What was durable when the server began, read back from the store.
#[derive(Debug, Clone, Default)]
pub struct Memory {
    /// Every server ever met.
    pub pins: Vec<ServerPin>,
    /// Every user whose home is here, in the order in which they came.
    pub users: Vec<UserRecord>,
    /// What their passwords are checked with, of those who have one (PROTOCOL II.9).
    pub passwords: Vec<(UserId, PasswordRecord)>,
    /// The version of the group `public` (SOCP §15); 0 before anybody joined.
    pub channel_version: u64,
    /// Which users of ours are its members.
    pub members: Vec<UserId>,
    /// Content delivered to our users within 30 days (PROTOCOL I.7).
    pub delivered: Vec<Delivered>,
    /// The mailboxes of our users (PROTOCOL II.6).
    pub mailboxes: Vec<MailboxMemory>,
    /// What waits for servers, of each in the order of its numbers (PROTOCOL II.6).
    pub outbound: Vec<(ServerId, Vec<OutboundRow>)>,
}

/// That some content reached a user of ours, so that it is not taken again (PROTOCOL I.7).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Delivered {
    /// The first half of SHA-256 of its author and its `content_sig`.
    pub content: [u8; 16],
    /// When it was delivered, ms since the Unix epoch.
    pub at: u64,
}

/// A user whose home is here (SOCP §13).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UserRecord {
    /// The user.
    pub user_id: UserId,
    /// The key that the user signs with, until its history goes on.
    pub pubkey: KeyText,
    /// The key that others encrypt to.
    pub enc_pubkey: KeyText,
    /// The profile.
    pub meta: Meta,
    /// Counts the changes of the keys.
    pub version: u64,
    /// Our signature over the [`directory_statement`](socp_proto::payload::directory_statement).
    pub directory_sig: Base64Url,
    /// How the keys came about, if they ever changed (PROTOCOL II.13).
    pub history: Option<KeyHistory>,
}

/// The first frame of a link, a further try at it, or the proof after it; it may be unsigned, so it never passes for a verified one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FirstFrame {
    /// What was said. Where it tells a history of keys, every signature in that was checked.
    pub frame: Frame,
    /// The key that the frame offers (`payload.pubkey`, else the one the link was dialled with), if it is acceptable; of
    /// a `PROOF` the key that the introduction before it on this link offered.
    pub key: Option<KeyText>,
    /// The key that verified `sig`; none if the frame is unsigned. A wrong `sig` is a [`Fault`] instead.
    pub signer: Option<Fingerprint>,
}

/// What happened.
#[derive(Debug)]
pub enum Input {
    /// Somebody connected.
    Accepted {
        /// The new link.
        link: LinkId,
        /// What its TLS session exports, where that ends here.
        tls: Option<Bytes32>,
        /// From where.
        from: IpAddr,
    },
    /// An `Output::Dial` succeeded.
    Dialled {
        /// Which.
        dial: DialId,
        /// The new link.
        link: LinkId,
        /// Its TLS session, where TLS was wanted.
        tls: Option<TlsSession>,
    },
    /// An `Output::Dial` failed.
    DialFailed {
        /// Which.
        dial: DialId,
        /// Why, for the log.
        reason: String,
    },
    /// A frame came on a link that has no role yet. Read no further frame from it before `Output::Proceed`.
    First {
        /// The link.
        link: LinkId,
        /// The frame.
        first: FirstFrame,
    },
    /// A frame came from a peer, with a signature that verifies with some pinned key. The key histories in it, and in
    /// those below, prove themselves: the driver has checked every signature.
    Peer {
        /// The link.
        link: LinkId,
        /// The frame.
        frame: Verified<Frame>,
    },
    /// A frame came from a user; its `sig` is absent or verifies with the user's key.
    User {
        /// The link.
        link: LinkId,
        /// The frame.
        frame: Frame,
        /// The key that verified `content_sig` of a message, channel, key share or file frame; none where there is
        /// none, or the check is off. Of a `KEY_UPDATE` or `ACCOUNT_DELETE` the key that verified what is in it.
        content: Option<Fingerprint>,
    },
    /// Something came that is not a frame, or does not verify.
    Refused {
        /// The link.
        link: LinkId,
        /// What is wrong.
        fault: Fault,
    },
    /// An `Output::Fence` was reached.
    Flushed {
        /// The link.
        link: LinkId,
    },
    /// A ping was answered.
    Alive {
        /// The link.
        link: LinkId,
    },
    /// The link is gone.
    Closed {
        /// The link.
        link: LinkId,
    },
    /// An `Output::Endorse` is signed.
    Endorsed {
        /// Whose record.
        user: UserId,
        /// Our signature; empty if it could not be made.
        sig: Base64Url,
    },
    /// An `Output::Opaque` is done.
    Opaque {
        /// For which link.
        link: LinkId,
        /// What came of it.
        done: OpaqueDone,
    },
    /// An `Output::Fetch` is done.
    Fetched {
        /// For which link.
        link: LinkId,
        /// What the account keeps; none if it could not be read.
        kept: Option<KeptPassword>,
    },
    /// An `Output::ReadPage` is done.
    PageRead {
        /// For which link.
        link: LinkId,
        /// What is there; none if it could not be read.
        page: Option<Page>,
    },
    /// An `Output::Save` is on disk.
    Saved {
        /// Which.
        save: SaveId,
    },
    /// An `Output::Save` could not be written.
    SaveFailed {
        /// Which.
        save: SaveId,
        /// Why, for the log.
        reason: String,
    },
    /// The driver has made a key to sign frames with in our name; the one before is not used any more.
    Delegated {
        /// What our own key says of it.
        delegation: Delegation,
    },
    /// The operator has checked that a server has a new key, or is gone for good: its pin is forgotten.
    Unpin {
        /// Which.
        server: ServerId,
    },
    /// The operator wants the server to stop.
    Stop,
}

/// Whose link it is, and which key to verify with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Role {
    /// A peer's: frames verify with the trusted key of their `from`.
    Peer(ServerId),
    /// A user's: `sig`, where present, and `content_sig` verify with this key.
    User(UserId, KeyText),
}

/// What the driver must do, in this order.
#[derive(Debug)]
pub enum Output {
    /// Sign the draft once and send it on each link.
    Send {
        /// The links.
        to: Vec<LinkId>,
        /// What to sign.
        draft: Draft,
        /// With which key.
        by: Seal,
    },
    /// Send an envelope as it is on each link.
    Forward {
        /// The links.
        to: Vec<LinkId>,
        /// What to send.
        envelope: Arc<Envelope>,
    },
    /// Close a link once everything sent before is out; its `Input::Closed` must follow.
    Close {
        /// The link.
        link: LinkId,
        /// The WebSocket close code.
        code: CloseCode,
        /// For people.
        reason: &'static str,
    },
    /// Answer with `Input::Flushed` when everything sent on this link before is on its way.
    Fence {
        /// The link.
        link: LinkId,
    },
    /// Ping a link.
    Ping {
        /// The link.
        link: LinkId,
    },
    /// Open a connection; answer with `Input::Dialled` or `Input::DialFailed`.
    Dial {
        /// What to answer for.
        dial: DialId,
        /// Host name or address.
        host: String,
        /// Port.
        port: u16,
        /// The key that the far end should have, for verifying a first frame that names none. Where it is known, TLS is
        /// taken with any certificate: the far end proves the key on this very session.
        key: Option<KeyText>,
        /// Speak TLS.
        tls: Option<TlsWanted>,
    },
    /// From its next frame on, this link has a role.
    Identified {
        /// The link.
        link: LinkId,
        /// The role.
        role: Role,
    },
    /// The first frame of this link has had its answer: read on.
    Proceed {
        /// The link.
        link: LinkId,
    },
    /// From now on frames of this server verify with this key.
    Trust {
        /// The server.
        server: ServerId,
        /// Its key.
        key: KeyText,
    },
    /// Frames of this server verify no more.
    Distrust {
        /// The server.
        server: ServerId,
    },
    /// Sign a directory statement; answer with `Input::Endorsed`.
    Endorse {
        /// Whose record.
        user: UserId,
        /// What to sign, in canonical form.
        statement: Object,
    },
    /// Compute something of OPAQUE; answer with `Input::Opaque`.
    Opaque {
        /// What to answer for.
        link: LinkId,
        /// What to compute.
        work: OpaqueWork,
    },
    /// Read what a user's password opens; answer with `Input::Fetched`.
    Fetch {
        /// What to answer for.
        link: LinkId,
        /// Whose it is.
        user: UserId,
    },
    /// Read what is on a shelf behind a number, after everything that is still to be saved; answer with `Input::PageRead`.
    ReadPage {
        /// What to answer for.
        link: LinkId,
        /// Where to read.
        shelf: Shelf,
        /// Behind which number.
        after: u64,
    },
    /// Make a record durable; answer with `Input::Saved` or `Input::SaveFailed`.
    Save {
        /// What to answer for.
        save: SaveId,
        /// What to write.
        record: Record,
    },
    /// Something to log or count.
    Note(Note),
    /// The last output: flush the links, then end.
    Stopped,
}

/// What the store keeps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Record {
    /// Our own id, assigned by an introducer.
    Identity(ServerId),
    /// A server's key and address.
    Pin(ServerPin),
    /// The same of a server whose key was changed: the new one takes the place of what was pinned.
    PinReplaced(ServerPin),
    /// A server's pin is forgotten.
    Unpinned(ServerId),
    /// A user of ours.
    User(UserRecord),
    /// A user of ours has a password from now on, or another (PROTOCOL II.9).
    Password(Box<PasswordSet>),
    /// A user of ours had an id that is another key's, and is forgotten (PROTOCOL I.6).
    Ousted(UserId),
    /// A user of ours is forgotten at its own wish (PROTOCOL II.13).
    Deleted(UserId),
    /// A user of ours joined the group `public`, which has this version now (SOCP §15).
    Member {
        /// Who.
        user: UserId,
        /// The group's version.
        version: u64,
        /// When, ms since the Unix epoch.
        at: u64,
    },
    /// The group `public` has this version now (SOCP §15).
    ChannelVersion(u64),
    /// Content was delivered to a user of ours; what is older than 30 days may be dropped.
    Delivered(Delivered),
    /// A device of a user of ours has read so far; nobody waits for that.
    Device(DeviceRecord),
    /// A device counts no more.
    DeviceGone(UserId, DeviceId),
    /// Something for a mailbox.
    Mail(Box<Mail>),
    /// A user's mailbox begins behind this number; nobody waits for that.
    MailGone(UserId, u64),
    /// These numbers are not in a user's mailbox any more; nobody waits for that.
    MailDropped(UserId, Vec<u64>),
    /// Something for a server.
    Outbound(Box<Outbound>),
    /// What waited for a server under these numbers is settled; nobody waits for that.
    OutboundGone(Vec<u64>),
}

/// What an acknowledged save lets happen.
#[derive(Debug)]
pub(super) enum AfterSave {
    Nothing,
    Greet(Greeting),
    /// A user of ours goes on with newer keys.
    Follow(UserId),
    /// A user of ours is forgotten, as was asked for on this link.
    Forget {
        link: LinkId,
        user: UserId,
        /// What others are shown of that.
        deletion: Box<Deletion>,
    },
    Answer {
        link: LinkId,
        reply: Reply,
        /// The server whose pin it is.
        server: ServerId,
        /// What was pinned before, if anything.
        before: Option<Box<ServerPin>>,
    },
    /// Something is kept that somebody waits for.
    Kept(Box<Custody>),
    Registered {
        link: LinkId,
        user: UserId,
        /// The signing key, and which pair of keys, of the record that it belongs to.
        keys: (KeyText, u64),
        record: PasswordRecord,
    },
}

/// How a server that made itself known is answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Reply {
    /// It joined through us.
    Welcome { assigned_id: ServerId, to: ServerId },
    /// It announced itself.
    Announce,
    /// It answered us.
    Nothing,
}

/// An observable fact, for logs, metrics and the simulator's oracle.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "the fields say what they are")]
pub enum Note {
    /// A peer is linked.
    PeerUp {
        server: ServerId,
        name: Option<String>,
        fingerprint: Fingerprint,
        link: LinkId,
    },
    /// A peer's link is lost.
    PeerDown { server: ServerId },
    /// A peer had two links; this one is given up.
    DuplicateLink { server: ServerId, link: LinkId },
    /// A server's key is pinned for the first time.
    Pinned { server: ServerId, fingerprint: Fingerprint },
    /// A server has another key than the pinned one, which signed that it has; that one is pinned now.
    PinFollowed {
        server: ServerId,
        replaced: Fingerprint,
        fingerprint: Fingerprint,
    },
    /// A server came with another key than the pinned one.
    PinConflict {
        server: ServerId,
        pinned: Fingerprint,
        offered: Fingerprint,
    },
    /// A bootstrap entry without key was trusted on first use.
    TrustedOnFirstUse { server: ServerId, fingerprint: Fingerprint },
    /// A dialled server has another key than the one we were told.
    WrongKey {
        address: String,
        expected: Fingerprint,
        offered: Fingerprint,
    },
    /// A server that has proved its key before introduced itself without.
    ProofWithheld { server: ServerId },
    /// A server that we dialled has proved its key, but not on the TLS session that ends here.
    StandsBetween { address: String },
    /// A server that we dialled has no good certificate and cannot prove a known key instead.
    Uncertified { address: String },
    /// An introducer gave us another id.
    IdAssigned { wished: ServerId, assigned: ServerId },
    /// An introducer wanted to give us another id while we are already linked under ours.
    IdKept { kept: ServerId, assigned: ServerId },
    /// A server could not be dialled.
    DialFailed {
        address: String,
        reason: String,
        retry_ms: u64,
    },
    /// A server that we dialled refused us.
    Rejected {
        address: String,
        code: ErrorCode,
        detail: String,
    },
    /// A user is here.
    UserUp { user: UserId, link: LinkId },
    /// A user's last link is gone.
    UserDown { user: UserId },
    /// A user was let in without proof (`--accept open`).
    UnprovenHello { user: UserId, link: LinkId },
    /// Gossip came with another key than the one known.
    KeyConflict { user: UserId, server: ServerId },
    /// Somebody had an id here that is made from another key, whose holder has come; what was bound to it is undone.
    Ousted { user: UserId },
    /// A user of ours has other keys.
    KeysChanged { user: UserId, version: u64 },
    /// A user of ours is forgotten at its own wish.
    Deleted { user: UserId },
    /// A peer's presence changes or users exceed their budget.
    PeerOverBudget { server: ServerId },
    /// A duplicate was dropped.
    Duplicate { link: LinkId, kind: FrameKind },
    /// A frame of a kind that this version leaves alone.
    Ignored { link: LinkId, kind: FrameKind },
    /// Something was refused; `class` is one of few words, for counting.
    Refused {
        link: LinkId,
        class: &'static str,
        reason: String,
    },
    /// A peer sent an `ERROR`.
    PeerComplained {
        server: ServerId,
        code: ErrorCode,
        detail: String,
    },
    /// A user sent an `ERROR`.
    UserComplained { link: LinkId, code: ErrorCode },
    /// A message found no way.
    Undeliverable { link: LinkId },
    /// A message went out to its user or the next server, or is kept for one of them.
    Routed { link: LinkId, is_local: bool },
    /// A link was silent for too long.
    Silent { link: LinkId },
    /// The store refused.
    SaveFailed { reason: String },
    /// Something on a shelf is damaged, was put aside, and is never delivered.
    Damaged { shelf: Shelf, seq: u64 },
    /// A shelf could not be read; it is tried again.
    Unreadable { shelf: Shelf },
    /// A mailbox, or what waits for a server, takes no more.
    Full { shelf: Shelf },
    /// A program has been sent all that it may be, and acknowledges nothing.
    Unacknowledged { link: LinkId },
    /// An operator had a pin removed.
    Unpinned { server: ServerId },
    /// The group `public` has a new version.
    ChannelVersion { version: u64 },
    /// A peer says that a user is not where we thought.
    PresenceCorrected { user: UserId, server: ServerId },
}

impl FirstFrame {
    /// Whether the frame is signed by the key that it offers.
    #[must_use]
    pub(super) fn is_signed_by_own_key(&self) -> bool {
        self.key
            .as_ref()
            .is_some_and(|key| self.signer == Some(key.fingerprint()))
    }
}

/// Which of our keys signs a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Seal {
    /// The server's own, over the payload (SOCP §12).
    Server,
    /// The delegated one, over the whole envelope (PROTOCOL II.3).
    Delegate,
}
