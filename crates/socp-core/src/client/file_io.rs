//! What the transfer of files asks of the driver, and what it tells (SOCP §9.4, PROTOCOL I.9).
//!
//! The driver reads and writes the disk and does the key operations, in the order in which they are asked for; a chunk
//! of the file never passes through the state machine.

use super::fault::TellFault;
use super::io::{Person, Sealed, Ticket};
use crate::clock::Unix;
use socp_proto::payload::FileMode;
use socp_proto::{Base64Url, Frame, KeyText, Payload, UserId};

/// Whom a file is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// One user.
    User(UserId),
    /// Everyone online, one after the other.
    Everyone,
}

/// A file to send, as the driver measured it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// Its name, without a path.
    pub name: String,
    /// Its size in bytes.
    pub size: u64,
    /// Its SHA-256 in hexadecimal.
    pub sha256: String,
}

/// What the driver must do for files, in order. Whatever is asked about a ticket that is not known any more is left out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FileWork {
    /// Sign the content of our own payload; answer with [`FileDone::Signed`].
    Sign {
        /// Names this request.
        ticket: Ticket,
        /// What to sign, without its signature.
        payload: Box<Payload>,
        /// Whom it is for.
        to: UserId,
        /// When it is said.
        ts: Unix,
    },
    /// Verify the content signature with this key; answer with [`FileDone::Checked`].
    Check {
        /// Names this request.
        ticket: Ticket,
        /// The author's pinned key.
        key: KeyText,
        /// The frame as it came.
        frame: Box<Frame>,
    },
    /// Read one chunk of a file of ours, encrypt and sign it; answer with [`FileDone::Sealed`].
    Seal(SealChunk),
    /// Forget a file of ours.
    Close {
        /// The ticket of the command.
        source: Ticket,
    },
    /// Verify the manifest's signature, if it has one, and make a temporary file; answer with [`FileDone::Begun`].
    Begin {
        /// Names the transfer.
        ticket: Ticket,
        /// The author's pinned key.
        key: KeyText,
        /// The `FILE_START` as it came.
        frame: Box<Frame>,
        /// The manifest.
        source: Source,
    },
    /// Verify the chunk's signature, if it has one, decrypt it and append it; answer with [`FileDone::Written`].
    Write {
        /// Names the transfer.
        ticket: Ticket,
        /// The author's pinned key.
        key: KeyText,
        /// The `FILE_CHUNK` as it came.
        frame: Box<Frame>,
    },
    /// Compare size and hash, and move the file to its place; answer with [`FileDone::Kept`].
    Keep {
        /// Names the transfer.
        ticket: Ticket,
    },
    /// Remove what was written, if anything; answer with [`FileDone::Discarded`].
    Discard {
        /// Names the transfer.
        ticket: Ticket,
    },
}

/// One chunk to make.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SealChunk {
    /// Names the transfer.
    pub ticket: Ticket,
    /// The ticket of the command, whose file it is.
    pub source: Ticket,
    /// The recipient's pinned encryption key.
    pub key: KeyText,
    /// Names the transfer on the wire.
    pub file_id: String,
    /// Which chunk.
    pub index: u64,
    /// How many chunks there are.
    pub total: u64,
    /// The recipient.
    pub to: UserId,
    /// When it is sent.
    pub ts: Unix,
}

/// What came of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FileDone {
    /// The answer to [`FileWork::Sign`].
    Signed {
        /// The ticket of the request.
        ticket: Ticket,
        /// The signature, or why there is none.
        result: Result<Base64Url, String>,
    },
    /// The answer to [`FileWork::Check`].
    Checked {
        /// The ticket of the request.
        ticket: Ticket,
        /// Whether there is a signature and it fits.
        is_good: bool,
    },
    /// The answer to [`FileWork::Seal`].
    Sealed {
        /// The ticket of the transfer.
        ticket: Ticket,
        /// Which chunk.
        index: u64,
        /// When it is sent, as asked.
        ts: Unix,
        /// The chunk, or why the file cannot be sent.
        result: Result<Sealed, SendFault>,
    },
    /// The answer to [`FileWork::Begin`].
    Begun {
        /// The ticket of the transfer.
        ticket: Ticket,
        /// Why not.
        result: Result<(), FileFault>,
    },
    /// The answer to [`FileWork::Write`].
    Written {
        /// The ticket of the transfer.
        ticket: Ticket,
        /// How many bytes it was, or why not.
        result: Result<u64, FileFault>,
    },
    /// The answer to [`FileWork::Keep`].
    Kept {
        /// The ticket of the transfer.
        ticket: Ticket,
        /// Where the file is, or why not.
        result: Result<String, FileFault>,
    },
    /// The answer to [`FileWork::Discard`].
    Discarded {
        /// The ticket of the transfer.
        ticket: Ticket,
    },
}

/// How a file that arrives is getting on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileNews {
    /// The transfer's `file_id`.
    pub id: String,
    /// The author, as last shown by the directory.
    pub from: Person,
    /// The recipient, ourselves.
    pub to: UserId,
    /// Whether it was sent to us alone or to the channel.
    pub mode: FileMode,
    /// Its name, as its author says.
    pub name: String,
    /// Its size in bytes, as its author says.
    pub size: u64,
    /// Whether the author's signature was verified; programs of others may not sign.
    pub verified: bool,
    /// Whether it was accepted at all: its beginning was found to be good, and there was a place for it.
    pub is_begun: bool,
    /// How far it is.
    pub stage: FileStage,
}

/// How far a file that arrives is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FileStage {
    /// It has begun.
    Started,
    /// So many bytes are here.
    Receiving(u64),
    /// It is complete, checked, and kept under this path.
    Received(String),
    /// Nothing of it is kept.
    Failed(FileFault),
}

/// How a file that we sent is getting on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileProgress {
    /// Who is being sent to.
    pub to: Person,
    /// Which member that is, from 0.
    pub member: usize,
    /// How many members there are.
    pub members: usize,
    /// Bytes sent to them.
    pub sent: u64,
    /// Bytes in all.
    pub size: u64,
}

/// How a file that we sent ended, for each who was to get it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FileReport {
    /// Whose program confirmed size and hash.
    pub received: Vec<Person>,
    /// To whom it went, without a word from their program.
    pub unconfirmed: Vec<Person>,
    /// Who left meanwhile.
    pub gone: Vec<Person>,
    /// Who did not get it, and why.
    pub failed: Vec<(Person, SendFault)>,
}

/// Why a file was not, or not surely, sent.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SendFault {
    /// As with messages.
    #[error(transparent)]
    Tell(#[from] TellFault),
    /// The receiver left while it was under way.
    #[error("the receiver left meanwhile")]
    Left,
    /// The receiver's program gave it up.
    #[error("the receiver's program gave it up: {0}")]
    GivenUp(String),
    /// The receiver's program kept a file with another SHA-256.
    #[error("another file arrived in its place: a server on the way exchanged it")]
    Exchanged,
    /// The receiver's program took parts of it and then no more.
    #[error("the receiver's program has gone silent")]
    Silent,
    /// The file cannot be read any more, or is not what it was.
    #[error("{0}")]
    Source(String),
    /// We leave.
    #[error("it was cancelled")]
    Cancelled,
}

/// Why a file that arrives was given up. What is told to its author as well names no place on our disk.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FileFault {
    /// Larger than we take.
    #[error("it has {size} bytes, at most {max} are taken")]
    TooBig {
        /// Its size as announced.
        size: u64,
        /// The limit.
        max: u64,
    },
    /// There are enough transfers already.
    #[error("too many files arrive at the same time")]
    TooMany,
    /// Its author has begun enough files for now.
    #[error("its author has begun {max} files within {seconds} s, which is the most; try again later")]
    TooOften {
        /// How many are taken.
        max: usize,
        /// Within how many seconds.
        seconds: u64,
    },
    /// This run of the program has kept enough.
    #[error("the files of this session would be more than {max} bytes, which is the most until the program restarts")]
    Enough {
        /// How many bytes are kept at most.
        max: u64,
    },
    /// The author's key is not known.
    #[error("the author's key is not to be had ({0})")]
    NoKey(String),
    /// Another key than the author's pinned one was shown.
    #[error("another key is shown for its author than the one you know; see `socp key show`")]
    KeyChanged,
    /// Signed by another key than the pinned one, or altered.
    #[error("a signature does not fit the author's pinned key")]
    Signature,
    /// A chunk without signature behind a signed manifest.
    #[error("part {0} is not signed, but the beginning is")]
    Unsigned(u64),
    /// Begun twice under one id.
    #[error("it began a second time before it ended")]
    Repeated,
    /// A chunk is missing, repeated or out of order.
    #[error("part {got} came where part {expected} was due")]
    Order {
        /// The chunk that was due.
        expected: u64,
        /// The chunk that came.
        got: u64,
    },
    /// The number of chunks does not fit the size, or changes.
    #[error("its number of parts, {total}, does not fit its size")]
    Total {
        /// As the chunk says.
        total: u64,
    },
    /// It ended too early.
    #[error("it ended after {got} of {total} parts")]
    Missing {
        /// Chunks that came.
        got: u64,
        /// Chunks that there should be.
        total: u64,
    },
    /// Not for our key, or damaged.
    #[error("a part does not decrypt")]
    Decrypt,
    /// More or fewer bytes than announced.
    #[error("it has {got} bytes, {size} were announced")]
    Size {
        /// Bytes that came.
        got: u64,
        /// Bytes announced.
        size: u64,
    },
    /// Not the content that was announced.
    #[error("its SHA-256 is not the announced one")]
    Hash,
    /// Nothing more came.
    #[error("nothing came for {0} s")]
    Idle(u64),
    /// The link broke.
    #[error("the connection broke")]
    Lost,
    /// We leave.
    #[error("the receiver left before it was complete")]
    Left,
    /// The disk is full, or the like.
    #[error("it cannot be written: {0}")]
    Disk(String),
}
