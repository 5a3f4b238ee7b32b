//! What bad input gets (SOCP §9.5, PROTOCOL I.10): an answer, and a close where the link cannot go on.

use super::Server;
use super::io::{LinkId, Note};
use super::link::Link;
use crate::clock::{Mono, Now};
use socp_proto::limits::{BAD_FRAMES_COUNT_MAX, BAD_FRAMES_WINDOW_MS, FRAME_BYTES_MAX};
use socp_proto::{ErrorCode, FrameError, FrameKind};
use std::collections::VecDeque;

/// Why a link is closed (RFC 6455 §7.4.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CloseCode {
    /// 1000
    Normal,
    /// 1001
    GoingAway,
    /// 1002
    ProtocolError,
    /// 1003
    Unsupported,
    /// 1007
    InvalidPayload,
    /// 1008
    PolicyViolation,
    /// 1009
    TooBig,
    /// 1011
    InternalError,
    /// 1013
    TryAgainLater,
}

impl CloseCode {
    /// The number on the wire.
    #[must_use]
    pub fn number(self) -> u16 {
        match self {
            Self::Normal => 1000,
            Self::GoingAway => 1001,
            Self::ProtocolError => 1002,
            Self::Unsupported => 1003,
            Self::InvalidPayload => 1007,
            Self::PolicyViolation => 1008,
            Self::TooBig => 1009,
            Self::InternalError => 1011,
            Self::TryAgainLater => 1013,
        }
    }
}

/// Something that a link did wrong.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// A binary message.
    #[error("binary message")]
    Binary,
    /// A text message that is not UTF-8.
    #[error("text that is not UTF-8")]
    Utf8,
    /// A message that is too long.
    #[error("message over {FRAME_BYTES_MAX} bytes")]
    TooLong,
    /// WebSocket framing that no program should send.
    #[error("broken WebSocket framing: {0}")]
    Framing(String),
    /// The far end does not read what we send.
    #[error("too much unread output")]
    SlowReader,
    /// A text that is not a frame.
    #[error("{0}")]
    Frame(#[from] FrameError),
    /// A key that the protocol does not allow.
    #[error("{0}")]
    Key(String),
    /// A transport signature that is missing or wrong.
    #[error("{}: signature missing or wrong", kind.name())]
    Signature {
        /// The frame's type.
        kind: FrameKind,
    },
    /// Gossip of a server whose key is not pinned here; nobody's fault, since its announcement may be on its way.
    #[error("{}: its origin is not known here", kind.name())]
    UnknownOrigin {
        /// The frame's type.
        kind: FrameKind,
    },
    /// A delegation that another key signed, for another server, or for another time.
    #[error("{}: {reason}", kind.name())]
    Delegation {
        /// The frame's type.
        kind: FrameKind,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// A proof that is missing, or is not the one that was asked for (PROTOCOL II.2).
    #[error("PROOF: {reason}")]
    Proof {
        /// What is wrong with it.
        reason: &'static str,
    },
    /// A capability that is taken back in the middle of a link, or a frame that does without it.
    #[error("{}: this link began with more capabilities and must go on with them", kind.name())]
    Downgrade {
        /// The frame's type.
        kind: FrameKind,
    },
    /// A batch of presence that no server of ours would send (PROTOCOL II.8).
    #[error("SERVER_PRESENCE: {reason}")]
    Batch {
        /// What is wrong with it.
        reason: &'static str,
    },
    /// A message of a registration or a login that OPAQUE does not know (PROTOCOL II.9).
    #[error("{}: {reason}", kind.name())]
    Opaque {
        /// The frame's type.
        kind: FrameKind,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// Something that a user may not change about its account like that (PROTOCOL II.13).
    #[error("{}: {reason}", kind.name())]
    Account {
        /// The frame's type.
        kind: FrameKind,
        /// What it gets.
        code: ErrorCode,
        /// What is wrong with it.
        reason: String,
    },
    /// An acknowledgement of what was never sent (PROTOCOL II.6).
    #[error("{}: nothing with that number was sent to you", kind.name())]
    Early {
        /// The frame's type.
        kind: FrameKind,
    },
    /// Something that was asked for again and again.
    #[error("{}: too often", kind.name())]
    TooOften {
        /// The frame's type.
        kind: FrameKind,
    },
    /// A content signature that is wrong.
    #[error("content signature wrong")]
    Content {
        /// Which message.
        msg_ref: String,
    },
    /// A `from` that the link may not use.
    #[error("{}: `from` is not whose link this is", kind.name())]
    NotYours {
        /// The frame's type.
        kind: FrameKind,
    },
    /// A type that has no business on this link.
    #[error("{} has no place here", kind.name())]
    OutOfPlace {
        /// The frame's type.
        kind: FrameKind,
    },
    /// Content that is older than what is remembered, or dated ahead; its author's fault, not that of a peer who passed
    /// it on.
    #[error("{}: older than 30 days, or a day ahead", kind.name())]
    Stale {
        /// The frame's type.
        kind: FrameKind,
        /// Which message, if it has a signature to name it by.
        msg_ref: Option<String>,
    },
    /// A payload that would be too long with our signature.
    #[error("{}: too long to be passed on", kind.name())]
    TooLongToRelay {
        /// The frame's type.
        kind: FrameKind,
        /// Which message, if it has a signature to name it by.
        msg_ref: Option<String>,
    },
    /// A `ts` too far from our clock.
    #[error("{}: `ts` is too far from this server's clock", kind.name())]
    Clock {
        /// The frame's type.
        kind: FrameKind,
    },
}

impl Fault {
    /// One word for it, for counting.
    #[must_use]
    pub fn class(&self) -> &'static str {
        match self {
            Self::Binary => "binary",
            Self::Utf8 => "utf8",
            Self::TooLong => "too_long",
            Self::Framing(_) => "framing",
            Self::SlowReader => "slow_reader",
            Self::Frame(_) => "frame",
            Self::Key(_) => "key",
            Self::Signature { .. } => "signature",
            Self::UnknownOrigin { .. } => "unknown_origin",
            Self::Content { .. } => "content",
            Self::NotYours { .. } => "not_yours",
            Self::OutOfPlace { .. } => "out_of_place",
            Self::Delegation { .. } => "delegation",
            Self::Proof { .. } => "proof",
            Self::Batch { .. } => "batch",
            Self::Opaque { .. } => "opaque",
            Self::Account { .. } => "account",
            Self::Early { .. } => "early",
            Self::TooOften { .. } => "too_often",
            Self::Downgrade { .. } => "downgrade",
            Self::Clock { .. } => "clock",
            Self::Stale { .. } => "stale",
            Self::TooLongToRelay { .. } => "too_long_to_relay",
        }
    }

    /// The close code, where the link cannot go on.
    fn close_code(&self) -> Option<CloseCode> {
        match self {
            Self::Binary => Some(CloseCode::Unsupported),
            Self::Utf8 => Some(CloseCode::InvalidPayload),
            Self::TooLong => Some(CloseCode::TooBig),
            Self::Framing(_) => Some(CloseCode::ProtocolError),
            Self::SlowReader => Some(CloseCode::TryAgainLater),
            Self::Frame(_)
            | Self::Key(_)
            | Self::Signature { .. }
            | Self::UnknownOrigin { .. }
            | Self::Content { .. }
            | Self::NotYours { .. }
            | Self::OutOfPlace { .. }
            | Self::Delegation { .. }
            | Self::Proof { .. }
            | Self::Batch { .. }
            | Self::Opaque { .. }
            | Self::Account { .. }
            | Self::Early { .. }
            | Self::TooOften { .. }
            | Self::Downgrade { .. }
            | Self::Stale { .. }
            | Self::TooLongToRelay { .. }
            | Self::Clock { .. } => None,
        }
    }

    /// The code of the answer, where the link goes on.
    fn error_code(&self) -> ErrorCode {
        match self {
            Self::Frame(error) => error.code(),
            Self::Key(_) => ErrorCode::BadKey,
            Self::Signature { .. }
            | Self::UnknownOrigin { .. }
            | Self::Delegation { .. }
            | Self::Proof { .. }
            | Self::Downgrade { .. }
            | Self::Content { .. }
            | Self::NotYours { .. } => ErrorCode::InvalidSig,
            Self::OutOfPlace { .. } => ErrorCode::UnknownType,
            Self::Clock { .. } | Self::Stale { .. } => ErrorCode::Timeout,
            Self::TooLongToRelay { .. } => ErrorCode::TooLarge,
            Self::Account { code, .. } => code.clone(),
            Self::TooOften { .. } => ErrorCode::RateLimited,
            Self::Binary
            | Self::Utf8
            | Self::TooLong
            | Self::Framing(_)
            | Self::SlowReader
            | Self::Batch { .. }
            | Self::Early { .. }
            | Self::Opaque { .. } => ErrorCode::BadFrame,
        }
    }

    /// The type of the frame at fault, where it is known.
    #[must_use]
    pub fn frame_kind(&self) -> Option<FrameKind> {
        match self {
            Self::Frame(FrameError::Payload { kind, .. })
            | Self::Signature { kind }
            | Self::UnknownOrigin { kind }
            | Self::NotYours { kind }
            | Self::OutOfPlace { kind }
            | Self::Delegation { kind, .. }
            | Self::Downgrade { kind }
            | Self::Stale { kind, .. }
            | Self::TooLongToRelay { kind, .. }
            | Self::TooOften { kind }
            | Self::Early { kind }
            | Self::Opaque { kind, .. }
            | Self::Account { kind, .. }
            | Self::Clock { kind } => Some(*kind),
            Self::Content { .. } => Some(FrameKind::MsgDirect),
            Self::Proof { .. } => Some(FrameKind::Proof),
            Self::Batch { .. } => Some(FrameKind::ServerPresence),
            Self::Frame(_)
            | Self::Key(_)
            | Self::Binary
            | Self::Utf8
            | Self::TooLong
            | Self::Framing(_)
            | Self::SlowReader => None,
        }
    }

    fn msg_ref(&self) -> Option<String> {
        match self {
            Self::Content { msg_ref } => Some(msg_ref.clone()),
            Self::Stale { msg_ref, .. } | Self::TooLongToRelay { msg_ref, .. } => msg_ref.clone(),
            // What an answer to it would name.
            Self::Account { kind, .. } => Some(kind.name().to_owned()),
            Self::Binary
            | Self::Utf8
            | Self::TooLong
            | Self::Framing(_)
            | Self::SlowReader
            | Self::Frame(_)
            | Self::Key(_)
            | Self::Signature { .. }
            | Self::UnknownOrigin { .. }
            | Self::NotYours { .. }
            | Self::OutOfPlace { .. }
            | Self::Delegation { .. }
            | Self::Proof { .. }
            | Self::Batch { .. }
            | Self::Opaque { .. }
            | Self::TooOften { .. }
            | Self::Early { .. }
            | Self::Downgrade { .. }
            | Self::Clock { .. } => None,
        }
    }
}

/// When a link did something wrong lately.
#[derive(Debug, Default)]
pub(super) struct FaultCount(VecDeque<Mono>);

impl FaultCount {
    /// Counts one more; whether that is one too many.
    fn is_one_too_many(&mut self, now: Mono) -> bool {
        while self
            .0
            .front()
            .is_some_and(|then| now.saturating_sub(*then) >= BAD_FRAMES_WINDOW_MS)
        {
            self.0.pop_front();
        }
        self.0.push_back(now);
        self.0.len() >= BAD_FRAMES_COUNT_MAX
    }
}

impl Server {
    /// Answers a fault; the link goes on where it can.
    pub(super) fn on_fault(&mut self, now: Now, link: LinkId, fault: &Fault) {
        if let Fault::UnknownOrigin { kind } = fault {
            return self.note(Note::Ignored { link, kind: *kind });
        }
        let Some(state) = self.links.get_mut(&link) else {
            return;
        };
        let is_over = match state {
            // Its author's fault, not that of the peer who passed it on.
            Link::Peer(_)
                if matches!(
                    fault,
                    Fault::Content { .. } | Fault::Stale { .. } | Fault::TooLongToRelay { .. }
                ) =>
            {
                false
            }
            Link::New { .. } => true,
            Link::Peer(peer) => peer.faults.is_one_too_many(now.mono),
            Link::User(user) => user.faults.is_one_too_many(now.mono),
        };
        let is_first = matches!(state, Link::New { .. });
        self.note(Note::Refused {
            link,
            class: fault.class(),
            reason: fault.to_string(),
        });
        if is_first {
            self.proceed(link);
        }
        if let Some(code) = fault.close_code() {
            return self.give_up(now, link, code, close_reason(fault));
        }
        // An `ERROR` is never answered by an `ERROR` (PROTOCOL I.10).
        if fault.frame_kind() != Some(FrameKind::Error) {
            self.send_error(now, link, fault.error_code(), fault.to_string(), fault.msg_ref());
        }
        match (is_over, is_first) {
            (true, true) => self.give_up(now, link, CloseCode::ProtocolError, "the first frame was refused"),
            (true, false) => self.give_up(now, link, CloseCode::PolicyViolation, "too many frames were refused"),
            (false, _) => {}
        }
    }

    /// Closes a link for good: whoever it belonged to is gone from now on, and whatever still comes on it is ignored.
    pub(super) fn give_up(&mut self, now: Now, link: LinkId, code: CloseCode, reason: &'static str) {
        if self.links.contains_key(&link) && self.given_up.insert(link) {
            self.close(link, code, reason);
            self.lose_link(now, link);
        }
    }
}

fn close_reason(fault: &Fault) -> &'static str {
    match fault {
        Fault::Binary => "binary messages are not part of SOCP",
        Fault::Utf8 => "text must be UTF-8",
        Fault::TooLong => "the message is too long",
        Fault::SlowReader => "you do not read what is sent to you",
        Fault::Framing(_)
        | Fault::Frame(_)
        | Fault::Key(_)
        | Fault::Signature { .. }
        | Fault::UnknownOrigin { .. }
        | Fault::Content { .. }
        | Fault::NotYours { .. }
        | Fault::OutOfPlace { .. }
        | Fault::Delegation { .. }
        | Fault::Proof { .. }
        | Fault::Batch { .. }
        | Fault::Opaque { .. }
        | Fault::Account { .. }
        | Fault::TooOften { .. }
        | Fault::Early { .. }
        | Fault::Downgrade { .. }
        | Fault::Stale { .. }
        | Fault::TooLongToRelay { .. }
        | Fault::Clock { .. } => "protocol error",
    }
}
