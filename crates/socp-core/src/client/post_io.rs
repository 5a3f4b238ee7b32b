//! What messages ask of the driver's history, and what it answers (PROTOCOL II.6).
//!
//! The history is the one place that knows which text has which number, what was heard before and how far the mailbox was
//! read; several programs may write to it at once. So what depends on that is decided there, in one transaction, and told.

use super::fault::TellFault;
use super::io::{Person, Ticket};
use crate::clock::Unix;
use socp_proto::{Base64Url, KeyText, ReceiptState, ServerId, UserId, Voice};

/// Names one message in the history.
pub type PostId = u64;

/// How far one of our own messages has come, the later the further.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum PostState {
    /// Written down here.
    Queued,
    /// It went to a program that acknowledges nothing, or on its way to one.
    Sent,
    /// On the disk of our server.
    OnServer,
    /// On the disk of the recipient's server.
    OnTheirServer,
    /// It goes nowhere.
    Failed,
    /// On the disk of one of the recipient's devices.
    Delivered,
    /// Shown to the recipient.
    Read,
}

impl PostState {
    /// All of them, from the first to the last.
    pub const ALL: [Self; 7] = [
        Self::Queued,
        Self::Sent,
        Self::OnServer,
        Self::OnTheirServer,
        Self::Failed,
        Self::Delivered,
        Self::Read,
    ];

    /// As scripts are told.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Sent => "sent",
            Self::OnServer => "on_server",
            Self::OnTheirServer => "on_their_server",
            Self::Failed => "failed",
            Self::Delivered => "delivered",
            Self::Read => "read",
        }
    }

    /// As people are told.
    #[must_use]
    pub fn words(self) -> &'static str {
        match self {
            Self::Queued => "queued here",
            Self::Sent => "sent",
            Self::OnServer => "on your server",
            Self::OnTheirServer => "on their server",
            Self::Failed => "failed",
            Self::Delivered => "delivered",
            Self::Read => "read",
        }
    }
}

impl From<ReceiptState> for PostState {
    fn from(state: ReceiptState) -> Self {
        match state {
            ReceiptState::Delivered => Self::Delivered,
            ReceiptState::Read => Self::Read,
        }
    }
}

/// One of our own messages of which no server has said anything yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unanswered {
    /// Its place in the history; the higher, the later it was written.
    pub id: PostId,
    /// Whom it is for.
    pub to: UserId,
    /// Its reference and when it was signed, if it is.
    pub signed: Option<(String, Unix)>,
}

/// A message that is to be encrypted and signed, once and for all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Making {
    /// Its place in the history.
    pub id: PostId,
    /// The recipient.
    pub to: UserId,
    /// The recipient's pinned encryption key.
    pub key: KeyText,
    /// When it is said.
    pub ts: Unix,
    /// Where the recipient was seen last.
    pub home: Option<ServerId>,
    /// The recipient's program knows numbers (PROTOCOL II.6).
    pub is_numbered: bool,
    /// The key that we sign with.
    pub sender_pub: KeyText,
}

/// Which text it is of which of its author's devices.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Number {
    /// The device.
    pub by: Voice,
    /// From 1.
    pub n: u64,
}

/// A verified text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Arrived {
    /// Its [`msg_ref`](socp_proto::payload::msg_ref).
    pub msg_ref: String,
    /// Its author.
    pub from: UserId,
    /// What was said.
    pub text: String,
    /// When, by the author's clock.
    pub ts: Unix,
    /// Which of the author's texts it is, where their program counts.
    pub number: Option<Number>,
}

/// A message that cannot be opened yet, as it came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    /// Who is said to have written it.
    pub from: UserId,
    /// Which key the author says it is signed with.
    pub sender_pub: KeyText,
    /// OAEP blocks.
    pub ciphertext: Base64Url,
    /// The author's signature.
    pub content_sig: Base64Url,
    /// When it was said, by the author's clock.
    pub ts: Unix,
    /// When it came, by ours.
    pub at: Unix,
}

/// What is written down together with how far the mailbox was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Deposit {
    /// Somebody's words.
    Text(Arrived),
    /// Something to know that is nobody's words.
    Notice {
        /// Whom it is about.
        about: Option<UserId>,
        /// For people.
        text: String,
    },
    /// What somebody's program says of texts of ours.
    Receipt {
        /// Whose program; only texts to this user are meant.
        from: UserId,
        /// How far they came.
        state: ReceiptState,
        /// Which.
        refs: Vec<String>,
    },
    /// What a server says of messages of ours.
    Answer {
        /// Which.
        refs: Vec<String>,
        /// How far they came.
        state: PostState,
        /// Why it goes nowhere, where it does not.
        why: Option<String>,
    },
    /// A message that cannot be opened for a reason that may pass. Where there is no room for it, or one of its author
    /// waits already, it is the history that knows.
    Hold {
        /// The message.
        held: Held,
        /// The author's key is pinned. Others get a part of the room only.
        is_known: bool,
        /// What is to be known of it if it is the first of its author that waits.
        told: String,
        /// The same where there is no room.
        refused: String,
    },
    /// What has become of a message that was held, and is no more.
    Released {
        /// Which.
        id: PostId,
        /// What it is; a notice only if it was still there.
        deposit: Box<Deposit>,
    },
    /// Nothing but a number of the mailbox.
    Nothing,
}

/// Texts of one device that never came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gap {
    /// The device.
    pub by: Voice,
    /// The first.
    pub from_n: u64,
    /// The last.
    pub to_n: u64,
}

impl Gap {
    /// So many.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.to_n.saturating_sub(self.from_n).saturating_add(1)
    }
}

/// What came of a [`Deposit`], in the same order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// Written, and to be shown.
    New {
        /// Its place in the history.
        id: PostId,
        /// Others of the same author that were said later are there already.
        is_late: bool,
        /// What is missing before it.
        gap: Option<Gap>,
        /// A receipt is wanted.
        wants_receipt: bool,
    },
    /// It was there before.
    Known {
        /// Its place in the history.
        id: PostId,
        /// No program with this profile has shown it, or one that runs now beside this one wrote it.
        is_unshown: bool,
        /// As when it was written: others that were said later were there already.
        is_late: bool,
        /// As when it was written: what was missing before it.
        gap: Option<Gap>,
    },
    /// Of these of our own messages the state is another one now.
    Changed(Vec<Change>),
    /// It is held.
    Held {
        /// No other message of its author was.
        is_first: bool,
    },
    /// There is no room to hold it.
    NoRoom,
    /// Nothing that anybody need be told.
    Done,
}

/// One of our own messages is further than before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// Its place in the history.
    pub id: PostId,
    /// Its reference.
    pub msg_ref: String,
    /// Whom it was for.
    pub to: UserId,
    /// How far it is.
    pub state: PostState,
    /// Why it goes nowhere, where it does not.
    pub why: Option<String>,
}

/// What the driver does with the history, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PostWork {
    /// Write a message of ours down, durably; answer with [`PostDone::Queued`].
    Queue {
        /// The ticket of the command.
        ticket: Ticket,
        /// The recipient.
        to: UserId,
        /// The text.
        text: String,
    },
    /// Read everything without answer; answer with [`PostDone::Unanswered`].
    Reload,
    /// Encrypt, sign, and write the signed frame down, durably, unless there is one by now; answer with
    /// [`PostDone::Made`].
    Make(Making),
    /// Send the signed frame as it is; answer with [`PostDone::Gone`] where nothing is to be sent any more, with
    /// [`PostDone::Unmade`] where there is no frame that can be read.
    Dispatch(PostId),
    /// What was signed is too old to be sent: forget the frame.
    Unmake(PostId),
    /// This one goes nowhere; answer with [`PostDone::Failed`].
    Fail {
        /// Which.
        id: PostId,
        /// Why.
        why: String,
    },
    /// Write all of this down in one transaction, and then how far the mailbox was read; answer with
    /// [`PostDone::Stored`].
    Store {
        /// In the order in which it is told.
        deposits: Vec<Deposit>,
        /// The last number of the mailbox before which nothing is missing.
        up_to: Option<u64>,
    },
    /// Somebody asks for texts that never came: put those that were for them among the unanswered; answer with
    /// [`PostDone::Unanswered`].
    Recall {
        /// Who asks.
        to: UserId,
        /// What for.
        gap: Gap,
    },
    /// The server has receipts for these, or wants none: those up to this state are owed no more.
    Receipted {
        /// What the receipts say.
        state: ReceiptState,
        /// Of which texts.
        refs: Vec<String>,
    },
    /// Read receipts that are owed from before; answer with [`PostDone::Owed`].
    Owed {
        /// Behind this place in the history.
        after: PostId,
    },
    /// Read what is held; answer with [`PostDone::Waiting`].
    Recheck {
        /// Whose messages. Without: everybody's, and what has been held for too long and was tried before is forgotten.
        of: Option<UserId>,
    },
}

/// What the driver has done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PostDone {
    /// The answer to [`PostWork::Queue`].
    Queued {
        /// The ticket of the command.
        ticket: Ticket,
        /// Its place in the history, or why it was not written down.
        result: Result<PostId, String>,
    },
    /// The answer to [`PostWork::Reload`] and [`PostWork::Recall`].
    Unanswered(Vec<Unanswered>),
    /// The answer to [`PostWork::Make`].
    Made {
        /// Which.
        id: PostId,
        /// Its reference and time, or why it cannot be made.
        result: Result<(String, Unix), TellFault>,
    },
    /// There is nothing to send: another program has had the answer, which was this.
    Gone {
        /// Which.
        id: PostId,
        /// Its reference.
        msg_ref: String,
        /// How far it is.
        state: PostState,
    },
    /// There is no signed frame: it is made anew.
    Unmade(PostId),
    /// The history could not be read or written, so that nothing came of what was asked for with this message: later.
    Stuck {
        /// Which.
        id: PostId,
        /// Why.
        why: String,
    },
    /// The answer to [`PostWork::Fail`]: what is new, if anything; or why it is still called waiting.
    Failed {
        /// Which.
        id: PostId,
        /// What came of it.
        result: Result<Option<Change>, String>,
    },
    /// The answer to [`PostWork::Store`]: what came of each, or why nothing was written.
    Stored(Result<Vec<Outcome>, String>),
    /// A message that was written down before is shown by now, and so is what was missing before it; nobody may have been
    /// asked for that.
    Missed {
        /// Whose texts.
        from: UserId,
        /// Which.
        gap: Gap,
    },
    /// The answer to [`PostWork::Owed`] and, with what is owed first, to [`PostWork::Reload`]; or receipts that are owed
    /// by now.
    Owed {
        /// Which.
        owed: Vec<Owed>,
        /// Behind which place there may be more.
        next: Option<PostId>,
    },
    /// The answer to [`PostWork::Recheck`].
    Waiting {
        /// As asked.
        of: Option<UserId>,
        /// What is held, in the order in which it came; or why it cannot be read.
        held: Result<Vec<(PostId, Held)>, String>,
        /// What is to be known of messages that were held for too long, and whom it is about.
        expired: Vec<(UserId, String)>,
    },
}

/// A text of somebody's for which their program wants a receipt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Owed {
    /// Its author.
    pub to: UserId,
    /// Its reference.
    pub msg_ref: String,
    /// How far it is.
    pub state: ReceiptState,
}

/// What the user is told of the state of an own message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PostNews {
    /// Its reference.
    pub msg_ref: String,
    /// Whom it was for.
    pub to: Person,
    /// How far it is.
    pub state: PostState,
    /// Why it goes nowhere, where it does not.
    pub why: Option<String>,
}
