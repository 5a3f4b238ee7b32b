//! What goes into a client and what comes out.

use super::alarm::{Alarm, TrustNews, TrustRecord};
use super::channel::ChannelReport;
use super::fault::{AccountFault, OpenFault, PasswordFault, ResolveError, Stop, TellFault};
use super::file_io::{FileDone, FileNews, FileProgress, FileReport, FileWork, SendFault, Source, Target};
use super::post_io::{PostDone, PostNews, PostState, PostWork};
use super::trust::Standing;
use crate::clock::Unix;
use crate::names::shown;
use crate::verified::Verified;
use socp_proto::payload::{AccountDelete, MailboxRequest, RegisterFinish, RegistrationRequest, RegistrationResponse};
use socp_proto::{
    Base64Url, Bytes32, CardFingerprint, Draft, ErrorCode, Frame, KeyHistory, KeyStatement, KeyText, Meta, PublicPair,
    ServerId, UserId, Voice,
};
use std::borrow::Cow;

/// Names one thing under way. The driver chooses those of commands; [`Output::Open`] counts its own.
pub type Ticket = u64;

/// Everything a client knows before it is connected.
#[derive(Debug, Clone)]
pub struct Config {
    /// Who we are.
    pub user: UserId,
    /// The keys that we sign with and that others encrypt to.
    pub keys: PublicPair,
    /// How they came about, if they ever changed.
    pub history: Option<KeyHistory>,
    /// How we want to be shown.
    pub meta: Meta,
    /// The program's name and version.
    pub program: String,
    /// The server as pinned at first contact.
    pub server: Option<ServerPin>,
    /// The users pinned so far.
    pub pins: Vec<UserPin>,
    /// Whom to trust how far.
    pub trust: TrustRecord,
    /// Files are taken up to this many bytes; without, what arrives of files is ignored.
    pub files_max: Option<u64>,
    /// How far this profile has read its mailbox, if this program reads it (PROTOCOL II.6).
    pub mailbox: Option<MailboxRequest>,
    /// How this profile is known to the people it writes to.
    pub voice: Voice,
    /// The server acknowledged what it has when we last saw it.
    pub is_acknowledged: bool,
}

/// A server as it was at first contact.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerPin {
    /// Its id.
    pub id: ServerId,
    /// The key that signs its frames.
    pub key: KeyText,
    /// Its name for people.
    pub name: Option<String>,
    /// It has asked for a proof once, and must on every link since (PROTOCOL II.2).
    pub asks_for_proof: bool,
}

/// A user as first seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UserPin {
    /// The user.
    pub user: UserId,
    /// The key that the user signs with.
    pub pubkey: KeyText,
    /// The key to encrypt to.
    pub enc_pubkey: KeyText,
    /// The handle, if one was shown.
    pub name: Option<String>,
    /// The home server, if it was shown.
    pub server_id: Option<ServerId>,
    /// The home server's name, if it was shown.
    pub server_name: Option<String>,
    /// Which of the user's pairs of keys this is (PROTOCOL II.13).
    pub version: u64,
    /// The user has withdrawn the keys; nothing is sent to them.
    pub revoked: bool,
    /// The user's program has `ack/1`, as far as we were told last (PROTOCOL II.6).
    pub acks: bool,
    /// When the user's program last wrote with a number inside the encryption, which is proof of that; 0 for never.
    pub numbered_at: Unix,
    /// Signing keys that were proved to be the user's before this one.
    pub former: Vec<FormerKey>,
}

/// What a pinned user's program can do, and where they are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Program {
    /// The user.
    pub user: UserId,
    /// Whether it has `ack/1` (PROTOCOL II.6).
    pub acks: bool,
    /// When it last proved that; 0 for never.
    pub numbered_at: Unix,
    /// The server.
    pub home: Option<ServerId>,
}

/// A signing key that its owner has replaced.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FormerKey {
    /// The key.
    pub key: KeyText,
    /// When it was replaced.
    pub until: Unix,
}

impl UserPin {
    /// The short name of both keys.
    #[must_use]
    pub fn fingerprint(&self) -> CardFingerprint {
        CardFingerprint::of(&self.pubkey, &self.enc_pubkey)
    }

    /// Both keys.
    pub(super) fn pair(&self) -> PublicPair {
        PublicPair {
            pubkey: self.pubkey.clone(),
            enc_pubkey: self.enc_pubkey.clone(),
        }
    }

    /// The user as first seen, not known to be there now.
    #[must_use]
    pub fn person(&self) -> Person {
        Person {
            user_id: self.user.clone(),
            name: self.name.clone(),
            server_id: self.server_id.clone(),
            server_name: self.server_name.clone(),
            online: false,
            standing: Standing::default(),
        }
    }
}

/// What the driver tells the client.
#[derive(Debug)]
pub enum Input {
    /// The link to the server is open.
    Connected {
        /// What its TLS session exports (RFC 9266), where there is one.
        tls: Option<Bytes32>,
    },
    /// The link is gone.
    Disconnected {
        /// Why, for people.
        reason: String,
    },
    /// A frame whose transport signature fits the pinned server key, or, with none pinned, the key that it names itself. A
    /// key history in it proves itself: the driver has checked every signature, and taken out what does not verify.
    Frame(Verified<Frame>),
    /// A frame whose transport signature does not fit.
    Unverified(Frame),
    /// What another server says of a user's keys, as an answer to [`Output::AskElsewhere`] or because the user wanted to
    /// know.
    Vouched {
        /// The user.
        user: UserId,
        /// The keys for signatures and for encryption.
        keys: (KeyText, KeyText),
        /// How they came about, if they ever changed; the driver has checked every signature.
        history: Option<KeyHistory>,
        /// The server's address.
        by: String,
    },
    /// What the profile remembers by now, since another program has written to it: decisions about alarms, keys compared.
    Decided {
        /// Whom to trust how far.
        trust: TrustRecord,
        /// What is pinned now for each of [`Client::alarmed`](super::Client::alarmed); who is missing is not pinned.
        pins: Vec<UserPin>,
    },
    /// A message that is no frame.
    Bad {
        /// What is wrong with it.
        reason: String,
    },
    /// What the user wants.
    Command(Command),
    /// The answer to [`Output::Seal`].
    Sealed {
        /// Where it is said, as asked.
        place: Place,
        /// The ticket, as asked.
        ticket: Ticket,
        /// The sealed content, or why the key cannot be used.
        result: Result<Sealed, String>,
    },
    /// The answer to [`Output::Open`].
    Opened {
        /// The ticket of the request.
        ticket: Ticket,
        /// The text, or why there is none.
        result: Result<String, OpenFault>,
    },
    /// The answer to a [`FileWork`].
    File(FileDone),
    /// The answer to a [`PostWork`], or what the history tells by itself.
    Post(PostDone),
}

/// Where a text is said; the content signature differs (PROTOCOL I.7, I.8).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// Between two users.
    Direct,
    /// In the public channel.
    Channel,
    /// Between the programs of two users, as a direct message.
    Word,
}

/// Encrypted and signed content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sealed {
    /// OAEP blocks.
    pub ciphertext: Base64Url,
    /// The author's signature over them.
    pub content_sig: Base64Url,
}

/// What the user wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// Send a text; ends in [`Event::Sent`] or [`Event::Failed`].
    Tell {
        /// Names this command.
        ticket: Ticket,
        /// The recipient.
        to: UserId,
        /// The text.
        text: String,
    },
    /// Send a text to every member of the public channel; ends in [`Event::ChannelSent`].
    TellAll {
        /// Names this command.
        ticket: Ticket,
        /// The text.
        text: String,
    },
    /// Send a file; ends in [`Event::FileSent`].
    SendFile {
        /// Names this command, and the file to the driver.
        ticket: Ticket,
        /// Whom it is for.
        target: Target,
        /// The file as measured.
        source: Source,
        /// Random bytes, from which the transfers get their ids.
        seed: [u8; 32],
    },
    /// List everyone known, once the server's list is complete; ends in [`Event::Listed`].
    List {
        /// Names this command.
        ticket: Ticket,
    },
    /// Find the user meant by a text; ends in [`Event::Resolved`].
    Resolve {
        /// Names this command.
        ticket: Ticket,
        /// An id, a prefix of one, `name` or `name@server`.
        text: String,
    },
    /// Begin to set the account's password; ends in [`Event::PasswordBegun`].
    BeginPassword {
        /// Names this command.
        ticket: Ticket,
        /// The blinded password.
        request: RegistrationRequest,
    },
    /// Go on with the answer to that; ends in [`Event::PasswordSet`].
    FinishPassword {
        /// Names this command.
        ticket: Ticket,
        /// What the server is to keep.
        finish: Box<RegisterFinish>,
    },
    /// Change our own account; ends in [`Event::AccountChanged`].
    ChangeAccount {
        /// Names this command.
        ticket: Ticket,
        /// How.
        change: AccountChange,
    },
    /// Leave.
    Close,
}

/// What is changed about our own account (PROTOCOL II.13).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AccountChange {
    /// Other keys, or none: signed by the present signing key.
    Keys(Box<KeyStatement>),
    /// Its end, signed.
    Delete(AccountDelete),
}

/// What the driver must do, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// Sign with the user's key and send.
    Send(Draft),
    /// Encrypt and sign a text; answer with [`Input::Sealed`].
    Seal {
        /// Where it is said: what the signature covers.
        place: Place,
        /// Names this request, among those of the same place.
        ticket: Ticket,
        /// The recipient's pinned encryption key.
        key: KeyText,
        /// The text.
        text: String,
        /// The author.
        from: UserId,
        /// The recipient.
        to: UserId,
        /// When it is said.
        ts: Unix,
    },
    /// Verify with this key, a direct message in every form of signature (PROTOCOL I.7), then decrypt; answer with
    /// [`Input::Opened`].
    Open {
        /// Where it was said: what the signature covers.
        place: Place,
        /// Names this request.
        ticket: Ticket,
        /// The sender's pinned key.
        key: KeyText,
        /// OAEP blocks.
        ciphertext: Base64Url,
        /// The author's signature.
        content_sig: Base64Url,
        /// The author.
        from: UserId,
        /// The recipient.
        to: UserId,
        /// When it was said.
        ts: Unix,
    },
    /// Something about a file.
    File(FileWork),
    /// Something about the history.
    Post(PostWork),
    /// Remember with the pin what this user's program can do, and where the user was seen.
    SaveProgram(Program),
    /// Store durably before anything is done that comes later and is neither another of these nor [`Event::Presence`];
    /// so a whole list of users can be stored at once.
    SaveUser(UserPin),
    /// Store durably before the next output is done; verify with this key from now on. A pin that is there already may
    /// come again because it has [begun to ask for proofs](ServerPin::asks_for_proof).
    SaveServer(ServerPin),
    /// The server's key was changed, and the pinned one has announced that: the new one takes its place.
    FollowServer {
        /// The server, with its new key.
        server: ServerPin,
        /// The key that was pinned.
        before: KeyText,
    },
    /// Store durably before the next output is done.
    SaveTrust(TrustNews),
    /// Ask other servers for this user's keys, if there are any; answer with [`Input::Vouched`].
    AskElsewhere(UserId),
    /// Tell the user.
    Event(Event),
    /// Close the link.
    Disconnect,
}

/// A user as the directory shows them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Person {
    /// The user.
    pub user_id: UserId,
    /// The handle.
    pub name: Option<String>,
    /// The home server.
    pub server_id: Option<ServerId>,
    /// The home server's name for people.
    pub server_name: Option<String>,
    /// Whether the user is there now.
    pub online: bool,
    /// How far we can rely on what is shown as theirs; right where an [`Event`] names the person.
    pub standing: Standing,
}

impl Person {
    /// The name to show: the handle, else the id (SOCP §15.2). What cannot be seen in it is written out.
    #[must_use]
    pub fn label(&self) -> Cow<'_, str> {
        self.name.as_deref().map_or(self.user_id.as_str().into(), shown)
    }

    /// The server to show: its name, else its id.
    #[must_use]
    pub fn server_label(&self) -> Option<&str> {
        self.server_name
            .as_deref()
            .or(self.server_id.as_ref().map(ServerId::as_str))
    }
}

/// One of our own messages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SentRef {
    /// Its [`msg_ref`](socp_proto::payload::msg_ref).
    pub msg_ref: String,
    /// Whom it was for.
    pub to: Person,
}

/// A verified message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Its [`msg_ref`](socp_proto::payload::msg_ref).
    pub id: String,
    /// The author, as last shown by the directory.
    pub from: Person,
    /// The recipient.
    pub to: UserId,
    /// What was said.
    pub text: String,
    /// When, by the author's clock.
    pub ts: Unix,
    /// What its author said later came before.
    pub is_late: bool,
}

/// What the user is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// The server has let us in.
    Online {
        /// The server.
        server: ServerPin,
        /// Whether its key was pinned just now.
        first_contact: bool,
    },
    /// The link is gone.
    Offline {
        /// Why, for people.
        reason: String,
    },
    /// The server will not let us in, or must not be trusted; connecting again does not help.
    Stopped(Stop),
    /// A verified message.
    Message(Message),
    /// A verified message to the public channel.
    Channel(Message),
    /// Something to know that is nobody's words.
    Notice {
        /// Whom it is about, as the network says.
        from: Option<UserId>,
        /// For people.
        text: String,
    },
    /// A user came or left.
    Presence(Person),
    /// Another key than the pinned one, or than a card says: nothing goes on with that user until it is decided.
    KeyChanged {
        /// What was shown, and by whom.
        alarm: Alarm,
        /// The keys as pinned, or as the card says.
        known: Option<CardFingerprint>,
    },
    /// How a change of our own account went.
    AccountChanged {
        /// The ticket of the command.
        ticket: Ticket,
        /// Whether the server has it on its disk.
        result: Result<(), AccountFault>,
    },
    /// The server has taken a message, or it waits here for the next link.
    Sent {
        /// The ticket of the command.
        ticket: Ticket,
        /// The message's [`msg_ref`](socp_proto::payload::msg_ref); empty while it only waits.
        msg_ref: String,
        /// How far it is.
        state: PostState,
        /// The server that has it, where one has said so.
        server: Option<ServerId>,
    },
    /// One of our own messages is further than before.
    Post(PostNews),
    /// Texts of somebody's are missing; they were asked for once.
    Gap {
        /// The author.
        from: Person,
        /// How many.
        count: u64,
    },
    /// A message was not, or not surely, taken.
    Failed {
        /// The ticket of the command.
        ticket: Ticket,
        /// Why.
        why: TellFault,
    },
    /// How a message to the public channel went; fails when it went to nobody.
    ChannelSent {
        /// The ticket of the command.
        ticket: Ticket,
        /// Who got it and who did not.
        result: Result<ChannelReport, TellFault>,
    },
    /// How a file that arrives is getting on.
    File(FileNews),
    /// How a file that we send is getting on.
    FileProgress {
        /// The ticket of the command.
        ticket: Ticket,
        /// How far it is.
        progress: FileProgress,
    },
    /// How a file that we sent ended; fails when it was sent to nobody.
    FileSent {
        /// The ticket of the command.
        ticket: Ticket,
        /// Who got it and who did not.
        result: Result<FileReport, SendFault>,
    },
    /// The server refused something.
    Error {
        /// The kind of refusal.
        code: ErrorCode,
        /// What it is about.
        detail: String,
        /// Which message it is about, where that was called sent before.
        about: Option<SentRef>,
    },
    /// Everyone known, sorted by id; fails when the list cannot be had.
    Listed {
        /// The ticket of the command.
        ticket: Ticket,
        /// The people.
        result: Result<Vec<Person>, String>,
    },
    /// The server's part of a new password.
    PasswordBegun {
        /// The ticket of the command.
        ticket: Ticket,
        /// Which server, and what it answered.
        result: Result<(ServerId, RegistrationResponse), PasswordFault>,
    },
    /// Whether the account has the new password.
    PasswordSet {
        /// The ticket of the command.
        ticket: Ticket,
        /// Why it has not.
        result: Result<(), PasswordFault>,
    },
    /// Who was meant.
    Resolved {
        /// The ticket of the command.
        ticket: Ticket,
        /// The user.
        result: Result<Person, ResolveError>,
    },
}
