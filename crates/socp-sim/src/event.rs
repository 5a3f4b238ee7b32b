//! What can happen in a world.

use crate::net::{Host, Party, UserNo};
use crate::queue::Time;
use crate::toys::Parcel;
use socp_core::server::{DialId, LinkId, SaveId, Shelf};
use socp_proto::{Base64Url, Draft, KeyText, UserId};
use std::rc::Rc;

/// One thing that happens.
#[derive(Debug)]
pub(crate) enum Event {
    /// A server starts with what its disk holds.
    Start { host: Host },
    /// A server wanted to be called now.
    Timer { host: Host, life: u32, at: Time },
    /// Something reaches an end.
    Arrive { from: LinkId, to: LinkId, item: Item },
    /// Something from a host reaches these ends of users.
    ToUsers { links: Vec<LinkId>, item: UserItem },
    /// A connection is found broken.
    Gone { party: Party, link: LinkId },
    /// A link that was closed has had its time to answer.
    CloseOverdue { host: Host, link: LinkId },
    /// A connection attempt reaches its address.
    Dial {
        host: Host,
        life: u32,
        dial: DialId,
        address: String,
        key: Option<KeyText>,
    },
    /// A connection attempt has failed.
    DialFailed {
        host: Host,
        life: u32,
        dial: DialId,
        reason: &'static str,
    },
    /// Everything before a fence is on its way.
    Flushed { host: Host, link: LinkId },
    /// A link has what it may read now.
    ReadOn { host: Host, link: LinkId },
    /// More waits for a link than an outbox holds.
    Overflow { host: Host, link: LinkId },
    /// A record is on disk.
    Written { host: Host, life: u32, save: SaveId },
    /// A disk has come to a page that is to be read.
    Read {
        host: Host,
        life: u32,
        link: LinkId,
        shelf: Shelf,
        after: u64,
    },
    /// A record is signed.
    Endorsed {
        host: Host,
        life: u32,
        user: UserId,
        sig: Base64Url,
    },
    /// A user's pong reaches its server.
    Pong { host: Host, link: LinkId },
    /// A user does something.
    Wake { user: UserNo },
    /// A user's program writes what has come to its disk.
    ProgramWrites { user: UserNo, link: LinkId },
    /// A user's program acknowledges what it has written.
    ProgramAcks { user: UserNo, link: LinkId },
    /// A user's program says again what its server could not store.
    ProgramResends { user: UserNo, link: LinkId },
    /// Everybody comes back, for what waits for them.
    Return { round: usize },
    /// A fault begins.
    FaultBegins { index: usize },
    /// A fault ends.
    FaultEnds { index: usize },
    /// A hostile server does something.
    Scheme { host: Host },
    /// A hostile server gives a connection up.
    HostileHangsUp { host: Host, link: LinkId },
    /// The time that a message may take is over.
    Judge { said: usize },
    /// The servers that are not neighbours are cut off from each other.
    Restrict,
    /// The servers have met: from now on presence changes on links are counted.
    CountCrossings,
    /// Observers join, to ask for lists at the end.
    Observe,
    /// Nobody comes or goes any more.
    Rest,
    /// Every list must agree with the truth now.
    Audit,
}

/// What goes over a connection.
#[derive(Debug, Clone)]
pub(crate) enum Item {
    /// A frame.
    Frame(Rc<Parcel>),
    /// A text that is not a frame.
    Noise(Rc<str>),
    /// A close frame.
    Close { wants_answer: bool },
    /// The connection's end without a word.
    Hangup,
}

impl Item {
    pub(crate) fn is_frame(&self) -> bool {
        matches!(self, Self::Frame(_) | Self::Noise(_))
    }
}

/// What a host sends to its users; they do not check its signature, so it has none.
#[derive(Debug, Clone)]
pub(crate) enum UserItem {
    Frame(Rc<Draft>),
    Close,
}
