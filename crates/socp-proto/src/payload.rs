//! Every payload of SOCP v1.3, and of ours beyond it, as a type.
//!
//! The table at the head of this file is the one place where wire names stand. A payload type is a plain struct; what
//! the wire leaves out is an `Option`, what it must carry is not. Unknown fields are ignored here and survive in the
//! [`Envelope`](crate::Envelope), which keeps the object it came from.
//!
//! The transport signature does not cover `type` (SOCP §7), so one signed payload can be sent again under another
//! type. [`Shape::FOREIGN_FIELDS`] names the fields that tell a payload from its neighbours; a payload that carries
//! one of them is refused (PROTOCOL I.2).

mod account;
mod channel;
mod control;
mod direct;
mod file;
mod keys;
mod presence;
mod server;
mod user;

pub use account::{
    CredentialFinalization, CredentialRequest, CredentialResponse, KeptIdentity, LOGIN_REFUSED, LoginChallenge,
    LoginFinish, LoginResult, LoginStart, Message, OPAQUE, PasswordRecord, RegisterChallenge, RegisterFinish,
    RegisterStart, RegistrationRequest, RegistrationResponse,
};
pub use channel::{ChannelAdd, ChannelKeyShare, ChannelMessage, ChannelShare, ChannelUpdated};
pub use control::{Ack, CtrlClose, ErrorCode, ErrorNotice, Heartbeat, Status};
pub use direct::{DirectMessage, ServerDeliver, UserDeliver, msg_ref};
pub use file::{FileChunk, FileEnd, FileMode, FileStart, FileStatus};
pub use keys::{AccountDelete, Deletion, KeyNews, KeyUpdate};
pub use presence::{
    Batch, OfUser, PRESENCE, Presence, PresenceRequest, ServerPresence, UserAdvertise, UserGone, UserHere, UserRemove,
};
pub use server::{ServerIdentity, ServerWelcome, WelcomeClient, WelcomeServer};
pub use user::{
    ListRequest, ListResponse, MailboxRequest, OnlineUser, PubkeyRequest, PubkeyResponse, UserHello,
    directory_statement,
};

use crate::json::Object;
use crate::proof::{Challenge, Proof};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// What a payload type knows of its wire shape.
pub trait Shape: Serialize + DeserializeOwned {
    /// Fields that belong to another type's payload and must not stand in this one.
    const FOREIGN_FIELDS: &'static [&'static str] = &[];
}

/// Why an object is not the payload of its frame's type.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidPayload {
    /// A required field is missing, or a field has the wrong type or value.
    #[error("{0}")]
    Field(String),
    /// It carries what marks another type.
    #[error("`{0}` does not belong in a payload of this type")]
    Foreign(&'static str),
}

/// Its own signing text tells it from every other payload (PROTOCOL II.2).
impl Shape for Proof {}

impl Shape for Challenge {
    const FOREIGN_FIELDS: &'static [&'static str] = &["msg_ref", "by", "code", "user_id"];
}

fn read<T: Shape>(object: &Object) -> Result<T, InvalidPayload> {
    if let Some(field) = T::FOREIGN_FIELDS.iter().find(|field| object.contains_key(**field)) {
        return Err(InvalidPayload::Foreign(field));
    }
    T::deserialize(object).map_err(|error| InvalidPayload::Field(error.to_string()))
}

fn write<T: Shape>(payload: &T) -> Object {
    match serde_json::to_value(payload) {
        Ok(serde_json::Value::Object(object)) => object,
        // Payload types are structs with string keys, so neither arm below can be reached.
        Ok(_) | Err(_) => Object::new(),
    }
}

macro_rules! frames {
    ($($(#[$doc:meta])* $kind:ident($payload:ty) = $name:literal,)+) => {
        /// The `type` of an envelope.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum FrameKind {
            $($(#[$doc])* $kind,)+
        }

        impl FrameKind {
            /// Every kind, in the order of the table.
            pub const ALL: &'static [Self] = &[$(Self::$kind,)+];

            /// The name on the wire.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self { $(Self::$kind => $name,)+ }
            }

            /// The kind with this wire name.
            #[must_use]
            pub fn from_name(name: &str) -> Option<Self> {
                match name { $($name => Some(Self::$kind),)+ _ => None }
            }
        }

        /// The typed content of an envelope.
        #[derive(Debug, Clone, PartialEq, Eq)]
        pub enum Payload {
            $($(#[$doc])* $kind($payload),)+
        }

        impl Payload {
            /// Reads the payload of a frame of `kind`.
            ///
            /// # Errors
            /// [`InvalidPayload`], naming the field.
            pub fn parse(kind: FrameKind, object: &Object) -> Result<Self, InvalidPayload> {
                match kind { $(FrameKind::$kind => read(object).map(Self::$kind),)+ }
            }

            /// The object that goes over the wire.
            #[must_use]
            pub fn to_object(&self) -> Object {
                match self { $(Self::$kind(payload) => write(payload),)+ }
            }

            /// The kind of frame that carries it.
            #[must_use]
            pub fn kind(&self) -> FrameKind {
                match self { $(Self::$kind(_) => FrameKind::$kind,)+ }
            }
        }
    };
}

frames! {
    /// A newcomer asks an introducer in (SOCP §8.1).
    ServerHelloJoin(ServerIdentity) = "SERVER_HELLO_JOIN",
    /// The announcement under its other name (SOCP §17.1).
    ServerHelloLink(ServerIdentity) = "SERVER_HELLO_LINK",
    /// The introducer's answer (SOCP §8.1).
    ServerWelcome(ServerWelcome) = "SERVER_WELCOME",
    /// A server tells another who and where it is (SOCP §8.1).
    ServerAnnounce(ServerIdentity) = "SERVER_ANNOUNCE",
    /// A server wants to know who says hello (PROTOCOL II.2).
    Challenge(Challenge) = "CHALLENGE",
    /// A server or a user shows that it holds the key it introduced itself with (PROTOCOL II.2).
    Proof(Proof) = "PROOF",
    /// A user is here (SOCP §8.2).
    UserAdvertise(UserAdvertise) = "USER_ADVERTISE",
    /// A user has left (SOCP §8.2).
    UserRemove(UserRemove) = "USER_REMOVE",
    /// Who has come and who has left, many at once (PROTOCOL II.8).
    Presence(Presence) = "PRESENCE",
    /// Who of a server's users has come and who has left, many at once, for its peers (PROTOCOL II.8).
    ServerPresence(ServerPresence) = "SERVER_PRESENCE",
    /// Changes were missed (PROTOCOL II.8).
    PresenceRequest(PresenceRequest) = "PRESENCE_REQUEST",
    /// A direct message on its way between servers (SOCP §8.3).
    ServerDeliver(ServerDeliver) = "SERVER_DELIVER",
    /// A sign of life between servers (SOCP §8.4).
    Heartbeat(Heartbeat) = "HEARTBEAT",
    /// A user's first frame (SOCP §9.1).
    UserHello(UserHello) = "USER_HELLO",
    /// Who is there? (SOCP §14)
    ListRequest(ListRequest) = "LIST_REQUEST",
    /// They are (SOCP §14).
    ListResponse(ListResponse) = "LIST_RESPONSE",
    /// Which key has this user? (SOCP §13)
    PubkeyRequest(PubkeyRequest) = "PUBKEY_REQUEST",
    /// This one (SOCP §13).
    PubkeyResponse(PubkeyResponse) = "PUBKEY_RESPONSE",
    /// A user has other keys (PROTOCOL II.13).
    KeyUpdate(KeyUpdate) = "KEY_UPDATE",
    /// Somebody has other keys (PROTOCOL II.13).
    KeyNews(KeyNews) = "KEY_NEWS",
    /// A user wants to be forgotten (PROTOCOL II.13).
    AccountDelete(AccountDelete) = "ACCOUNT_DELETE",
    /// The far end wants to close (SOCP §11).
    CtrlClose(CtrlClose) = "CTRL_CLOSE",
    /// A direct message leaves its author (SOCP §9.2).
    MsgDirect(DirectMessage) = "MSG_DIRECT",
    /// A direct message reaches its user (SOCP §9.2).
    UserDeliver(UserDeliver) = "USER_DELIVER",
    /// A message to the public channel (SOCP §9.3).
    MsgPublicChannel(ChannelMessage) = "MSG_PUBLIC_CHANNEL",
    /// Users joined the public channel (SOCP §15).
    PublicChannelAdd(ChannelAdd) = "PUBLIC_CHANNEL_ADD",
    /// The public channel has a new version (SOCP §15).
    PublicChannelUpdated(ChannelUpdated) = "PUBLIC_CHANNEL_UPDATED",
    /// Keys of the public channel for its members (SOCP §9.3).
    PublicChannelKeyShare(ChannelKeyShare) = "PUBLIC_CHANNEL_KEY_SHARE",
    /// A file's manifest (SOCP §9.4).
    FileStart(FileStart) = "FILE_START",
    /// A piece of a file (SOCP §9.4).
    FileChunk(FileChunk) = "FILE_CHUNK",
    /// A file is complete (SOCP §9.4).
    FileEnd(FileEnd) = "FILE_END",
    /// A user wants a password (PROTOCOL II.9).
    RegisterStart(RegisterStart) = "REGISTER_START",
    /// The server's part of it (PROTOCOL II.9).
    RegisterChallenge(RegisterChallenge) = "REGISTER_CHALLENGE",
    /// What the server keeps of it (PROTOCOL II.9).
    RegisterFinish(RegisterFinish) = "REGISTER_FINISH",
    /// Somebody has a name and a password (PROTOCOL II.9).
    LoginStart(LoginStart) = "LOGIN_START",
    /// The server's part of it (PROTOCOL II.9).
    LoginChallenge(LoginChallenge) = "LOGIN_CHALLENGE",
    /// It is the right password (PROTOCOL II.9).
    LoginFinish(LoginFinish) = "LOGIN_FINISH",
    /// What the password opens (PROTOCOL II.9).
    LoginResult(LoginResult) = "LOGIN_RESULT",
    /// Something was refused (SOCP §9.5).
    Error(ErrorNotice) = "ERROR",
    /// Something was taken (SOCP §9.5).
    Ack(Ack) = "ACK",
}

impl FrameKind {
    /// Whether such a frame keeps its author's `from`, `to` and `ts` on its way, each server signing it anew
    /// (PROTOCOL I.2).
    #[must_use]
    pub fn keeps_author(self) -> bool {
        matches!(
            self,
            Self::MsgPublicChannel | Self::PublicChannelKeyShare | Self::FileStart | Self::FileChunk | Self::FileEnd
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json::parse_object;

    #[test]
    fn names_and_kinds_map_one_to_one() {
        for kind in FrameKind::ALL {
            assert_eq!(FrameKind::from_name(kind.name()), Some(*kind));
        }
        assert_eq!(FrameKind::from_name("HEARTBEAT "), None);
    }

    #[test]
    fn an_advertisement_and_a_removal_cannot_pass_for_each_other() {
        let advertised = parse_object(r#"{"user_id":"u","server_id":"s","meta":{}}"#).unwrap();
        let removed = parse_object(r#"{"user_id":"u","server_id":"s"}"#).unwrap();
        assert!(Payload::parse(FrameKind::UserAdvertise, &advertised).is_ok());
        assert!(Payload::parse(FrameKind::UserRemove, &removed).is_ok());
        assert_eq!(
            Payload::parse(FrameKind::UserRemove, &advertised),
            Err(InvalidPayload::Foreign("meta"))
        );
        assert!(Payload::parse(FrameKind::UserAdvertise, &removed).is_err());
    }
}
