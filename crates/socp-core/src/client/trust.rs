//! How far a person can rely on what is shown as somebody's, and the marks beside a name (PROTOCOL II.11).

use super::io::{Event, Person};
use super::names::Likenesses;
use super::pins::Pins;
use super::{ChannelReport, FileReport, ResolveError};
use socp_proto::UserId;
use std::fmt;

/// How far one can rely on a user's key.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Trust {
    /// No key has been seen yet.
    #[default]
    New,
    /// The first key seen, and no other since.
    Pinned,
    /// The two people have compared what their programs show, or a contact card came another way.
    Verified,
    /// Another key was shown, or told of: nothing goes on with this person until the user has decided.
    Changed,
}

impl fmt::Display for Trust {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::New => "new",
            Self::Pinned => "pinned",
            Self::Verified => "verified",
            Self::Changed => "changed",
        })
    }
}

/// What is known of a user beside what the network says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Standing {
    /// How far their key can be relied on.
    pub trust: Trust,
    /// How many others, servers and contacts, have said the same key.
    pub confirmed_count: usize,
    /// Somebody else whose key is pinned and whose name looks the same.
    pub looks_like: Option<UserId>,
}

/// Writes the standing of everybody whom an event names, so that it is right at the moment when it is told.
pub(super) fn mark(event: &mut Event, ourselves: &UserId, pins: &Pins, names: &Likenesses) {
    let mark = |person: &mut Person| {
        person.standing = standing(person, ourselves, pins, names);
    };
    match event {
        Event::Message(message) | Event::Channel(message) => mark(&mut message.from),
        Event::Presence(person) | Event::Resolved { result: Ok(person), .. } => mark(person),
        Event::ChannelSent {
            result: Ok(ChannelReport { sent, gone, failed, .. }),
            ..
        } => {
            let failed = failed.iter_mut().map(|(person, _)| person);
            sent.iter_mut().chain(gone).chain(failed).for_each(mark);
        }
        Event::File(news) => mark(&mut news.from),
        Event::Post(news) => mark(&mut news.to),
        Event::Gap { from, .. } => mark(from),
        Event::FileProgress { progress, .. } => mark(&mut progress.to),
        Event::FileSent {
            result:
                Ok(FileReport {
                    received,
                    unconfirmed,
                    gone,
                    failed,
                    ..
                }),
            ..
        } => {
            let failed = failed.iter_mut().map(|(person, _)| person);
            let others = received.iter_mut().chain(unconfirmed).chain(gone);
            others.chain(failed).for_each(mark);
        }
        Event::Error { about: Some(sent), .. } => mark(&mut sent.to),
        Event::Listed { result: Ok(people), .. }
        | Event::Resolved {
            result: Err(ResolveError::Ambiguous { candidates: people, .. }),
            ..
        } => people.iter_mut().for_each(mark),
        Event::Online { .. }
        | Event::Offline { .. }
        | Event::Stopped(_)
        | Event::Notice { .. }
        | Event::KeyChanged { .. }
        | Event::PasswordBegun { .. }
        | Event::PasswordSet { .. }
        | Event::AccountChanged { .. }
        | Event::Sent { .. }
        | Event::Failed { .. }
        | Event::ChannelSent { result: Err(_), .. }
        | Event::FileSent { result: Err(_), .. }
        | Event::Error { about: None, .. }
        | Event::Listed { result: Err(_), .. }
        | Event::Resolved {
            result: Err(ResolveError::Unknown(_) | ResolveError::NoList(_)),
            ..
        } => {}
    }
}

fn standing(person: &Person, ourselves: &UserId, pins: &Pins, names: &Likenesses) -> Standing {
    let user = &person.user_id;
    if user == ourselves {
        return Standing {
            trust: Trust::Verified,
            ..Standing::default()
        };
    }
    let trust = pins.trust_in(user);
    let other = person.name.as_deref().and_then(|name| names.other(user, name));
    // Who was verified is not put in doubt by somebody who was not.
    let is_above = |other: &&UserId| trust == Trust::Verified && pins.trust_in(other) != Trust::Verified;
    Standing {
        trust,
        confirmed_count: pins.alarms.confirmations(user),
        looks_like: other.filter(|other| *other != ourselves && !is_above(other)).cloned(),
    }
}
