//! Who is online, from the server's list and from what it pushes (SOCP §14, §8.2), and who is meant by a text.

use super::fault::ResolveError;
use super::io::{Event, Person, Ticket, UserPin};
use super::outbox::Outbox;
use super::pins::Pins;
use super::trust::Standing;
use super::{ANSWER_WAIT_MAX_MS, USERS_COUNT_MAX};
use crate::batches::{Batches, Step};
use crate::clock::{Mono, Now};
use crate::names::normal_form;
use socp_proto::payload::{
    ListRequest, ListResponse, OnlineUser, Presence, PresenceRequest, PubkeyResponse, UserAdvertise, UserRemove,
};
use socp_proto::{Meta, Payload, UserId};
use std::collections::BTreeMap;

/// Shortest prefix of an id that may stand for it.
const PREFIX_BYTES_MIN: usize = 4;
/// Length of an id of ours, a UUID (PROTOCOL I.1).
const UUID_BYTES: usize = 36;

/// How much of the server's list is here.
#[derive(Debug, Default, PartialEq, Eq)]
enum Listing {
    #[default]
    NotAsked,
    Asked {
        after: Option<UserId>,
        deadline: Mono,
    },
    /// The server tells everyone by itself.
    Told {
        deadline: Mono,
    },
    Complete,
    Failed(String),
}

/// What waits for the list.
#[derive(Debug)]
enum Question {
    List(Ticket),
    Resolve(Ticket, String),
}

/// Who is online beside ourselves.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Members {
    /// The list is not complete yet.
    NotYet,
    /// It cannot be had, and why.
    Unknown(String),
    /// These, sorted by id.
    Are(Vec<UserId>),
}

/// The directory as far as this link shows it.
#[derive(Debug, Default)]
pub(super) struct People {
    online: BTreeMap<UserId, Person>,
    listing: Listing,
    questions: Vec<Question>,
    batches: Batches,
    /// Whether the link is there that showed all this.
    is_linked: bool,
}

impl People {
    pub(super) fn get(&self, user: &UserId) -> Option<&Person> {
        self.online.get(user).filter(|_| self.is_linked)
    }

    pub(super) fn deadline(&self) -> Option<Mono> {
        match &self.listing {
            Listing::Asked { deadline, .. } | Listing::Told { deadline } => Some(*deadline),
            Listing::NotAsked | Listing::Complete | Listing::Failed(_) => None,
        }
    }

    pub(super) fn start_listing(&mut self, now: Now, out: &mut Outbox) {
        self.is_linked = true;
        self.online.clear();
        self.batches = Batches::default();
        self.ask_page(now, None, out);
    }

    /// What is known from the last link, for the hello on the next.
    pub(super) fn known_presence(&self) -> Option<PresenceRequest> {
        self.batches.resume()
    }

    /// The server is about to tell everyone in batches, or what has changed since the last link (PROTOCOL II.8).
    pub(super) fn await_everyone(&mut self, now: Now) {
        self.is_linked = true;
        self.batches.on_new_link();
        let deadline = now.mono.saturating_add(ANSWER_WAIT_MAX_MS);
        self.listing = Listing::Told { deadline };
    }

    /// `PRESENCE`: everyone, page by page, or what has changed since.
    pub(super) fn on_presence(&mut self, now: Now, presence: Presence, pins: &Pins, out: &mut Outbox) {
        let is_end_of_changes = presence.from_seq > 0 && !presence.more;
        match self.batches.take(&presence) {
            Step::Ask(request) => out.send(now, &Payload::PresenceRequest(request)),
            // A list without an end is given up when the wait for it is over.
            Step::Wait | Step::TooMany => {}
            Step::Use => {
                for user in presence.add {
                    self.show(person_of(user), out);
                }
                for user in &presence.remove {
                    self.show_gone(user, out);
                }
                if let Listing::Told { deadline } = &mut self.listing {
                    *deadline = now.mono.saturating_add(ANSWER_WAIT_MAX_MS);
                }
            }
        }
        if let Some(everyone) = self.batches.take_everyone() {
            let gone: Vec<UserId> = self
                .online
                .keys()
                .filter(|user| !everyone.contains(user))
                .cloned()
                .collect();
            for user in gone {
                self.show_gone(&user, out);
            }
            self.settle(Listing::Complete, pins, out);
        } else if is_end_of_changes && self.batches.is_told() && matches!(self.listing, Listing::Told { .. }) {
            // What the last link showed, and all that has changed since.
            self.settle(Listing::Complete, pins, out);
        }
    }

    /// Shows somebody who is there, unless that is what is shown.
    fn show(&mut self, person: Person, out: &mut Outbox) {
        if self.online.get(&person.user_id) != Some(&person) && self.upsert(person.clone()) {
            out.event(Event::Presence(person));
        }
    }

    fn show_gone(&mut self, user: &UserId, out: &mut Outbox) {
        if let Some(person) = self.online.remove(user) {
            out.event(Event::Presence(Person {
                online: false,
                ..person
            }));
        }
    }

    fn ask_page(&mut self, now: Now, after: Option<UserId>, out: &mut Outbox) {
        out.send(
            now,
            &Payload::ListRequest(ListRequest {
                after: after.clone(),
                limit: None,
            }),
        );
        let deadline = now.mono.saturating_add(ANSWER_WAIT_MAX_MS);
        self.listing = Listing::Asked { after, deadline };
    }

    pub(super) fn on_page(&mut self, now: Now, page: ListResponse, pins: &Pins, out: &mut Outbox) {
        let Listing::Asked { after, .. } = &self.listing else {
            return;
        };
        let last = page.users.last().cloned();
        let has_progressed = last > *after;
        for user in page.online {
            self.upsert(person_of(user));
        }
        match last {
            Some(last) if page.more && has_progressed => self.ask_page(now, Some(last), out),
            Some(_) | None if page.more => {
                self.settle(
                    Listing::Failed("the server's list does not go on".to_owned()),
                    pins,
                    out,
                );
            }
            Some(_) | None => self.settle(Listing::Complete, pins, out),
        }
    }

    pub(super) fn on_advertise(&mut self, advert: UserAdvertise, out: &mut Outbox) {
        let known_server = |person: &Person| person.server_id.as_ref() == Some(&advert.server_id);
        let old_name = self
            .online
            .get(&advert.user_id)
            .filter(|p| known_server(p))
            .and_then(|p| p.server_name.clone());
        let person = Person {
            name: advert.meta.name().map(str::to_owned),
            user_id: advert.user_id,
            server_id: Some(advert.server_id),
            server_name: advert.server_name.or(old_name),
            online: true,
            standing: Standing::default(),
        };
        self.show(person, out);
    }

    /// Only the server where the user is can take them away (PROTOCOL I.5).
    pub(super) fn on_remove(&mut self, remove: &UserRemove, out: &mut Outbox) {
        let Some(person) = self.online.get(&remove.user_id) else {
            return;
        };
        if person.server_id.as_ref() != Some(&remove.server_id) {
            return;
        }
        self.show_gone(&remove.user_id, out);
    }

    pub(super) fn on_timeout(&mut self, now: Now, pins: &Pins, out: &mut Outbox) {
        if self.deadline().is_some_and(|deadline| deadline <= now.mono) {
            self.settle(
                Listing::Failed("the server did not tell who is online".to_owned()),
                pins,
                out,
            );
        }
    }

    pub(super) fn on_disconnected(&mut self, pins: &Pins, out: &mut Outbox) {
        self.is_linked = false;
        self.settle(Listing::Failed("not connected to the server".to_owned()), pins, out);
    }

    pub(super) fn list(&mut self, ticket: Ticket, pins: &Pins, out: &mut Outbox) {
        self.questions.push(Question::List(ticket));
        self.answer(pins, out);
    }

    pub(super) fn resolve_later(&mut self, ticket: Ticket, text: String, pins: &Pins, out: &mut Outbox) {
        self.questions.push(Question::Resolve(ticket, text));
        self.answer(pins, out);
    }

    /// Finds a user among those that are known, without the server.
    pub(super) fn resolve_known(&self, ticket: Ticket, text: &str, pins: &Pins, out: &mut Outbox) {
        let result = resolve(text, &self.everyone(pins));
        out.event(Event::Resolved { ticket, result });
    }

    /// False where there is no room.
    fn upsert(&mut self, person: Person) -> bool {
        if self.online.len() >= USERS_COUNT_MAX && !self.online.contains_key(&person.user_id) {
            return false;
        }
        self.online.insert(person.user_id.clone(), person);
        true
    }

    fn settle(&mut self, listing: Listing, pins: &Pins, out: &mut Outbox) {
        self.listing = listing;
        self.answer(pins, out);
    }

    fn answer(&mut self, pins: &Pins, out: &mut Outbox) {
        let failure = match &self.listing {
            Listing::NotAsked | Listing::Asked { .. } | Listing::Told { .. } => return,
            Listing::Complete => None,
            Listing::Failed(why) => Some(why.clone()),
        };
        for question in std::mem::take(&mut self.questions) {
            let event = match (question, &failure) {
                (Question::List(ticket), Some(why)) => Event::Listed {
                    ticket,
                    result: Err(why.clone()),
                },
                (Question::List(ticket), None) => Event::Listed {
                    ticket,
                    result: Ok(self.everyone(pins)),
                },
                (Question::Resolve(ticket, text), None) => Event::Resolved {
                    ticket,
                    result: resolve(&text, &self.everyone(pins)),
                },
                (Question::Resolve(ticket, text), Some(why)) => Event::Resolved {
                    ticket,
                    result: self.resolve_without_list(&text, why, pins),
                },
            };
            out.event(event);
        }
    }

    /// Whoever is known can be written to all the same: what is said to them is kept until the server is itself again.
    fn resolve_without_list(&self, text: &str, why: &str, pins: &Pins) -> Result<Person, ResolveError> {
        let everyone = self.everyone(pins);
        let no_list = || ResolveError::NoList(why.to_owned());
        match resolve(text, &everyone) {
            Ok(found) if everyone.iter().any(|person| person.user_id == found.user_id) => Ok(found),
            Ok(_) | Err(ResolveError::Unknown(_) | ResolveError::NoList(_)) => Err(no_list()),
            Err(ambiguous @ ResolveError::Ambiguous { .. }) => Err(ambiguous),
        }
    }

    pub(super) fn members(&self, ourselves: &UserId) -> Members {
        match &self.listing {
            Listing::NotAsked | Listing::Asked { .. } | Listing::Told { .. } => Members::NotYet,
            Listing::Failed(why) => Members::Unknown(why.clone()),
            Listing::Complete => Members::Are(self.online.keys().filter(|id| *id != ourselves).cloned().collect()),
        }
    }

    /// Everyone online or pinned, sorted by id.
    fn everyone(&self, pins: &Pins) -> Vec<Person> {
        let mut all: BTreeMap<UserId, Person> = pins.iter().map(|pin| (pin.user.clone(), pin.person())).collect();
        for (user, person) in &self.online {
            all.insert(user.clone(), person.clone());
        }
        all.into_values().collect()
    }

    /// The user as last shown, online or not.
    pub(super) fn describe(&self, user: &UserId, pins: &Pins) -> Person {
        let pinned = || pins.get(user).map(UserPin::person);
        self.get(user)
            .cloned()
            .or_else(pinned)
            .unwrap_or_else(|| stranger(user.clone()))
    }
}

fn person_of(user: OnlineUser) -> Person {
    Person {
        name: user.meta.name().map(str::to_owned),
        user_id: user.user_id,
        server_id: Some(user.server_id),
        server_name: user.server_name,
        online: true,
        standing: Standing::default(),
    }
}

/// Whoever the server told of only with a key, having come and gone between two of its batches.
pub(super) fn shown_with_key(answer: &PubkeyResponse) -> Person {
    Person {
        name: answer.meta.as_ref().and_then(Meta::name).map(str::to_owned),
        server_id: answer.server_id.clone(),
        server_name: answer.server_name.clone(),
        ..stranger(answer.user_id.clone())
    }
}

/// Somebody of whom nothing is known but the id.
pub(super) fn stranger(user_id: UserId) -> Person {
    Person {
        user_id,
        name: None,
        server_id: None,
        server_name: None,
        online: false,
        standing: Standing::default(),
    }
}

/// The one user meant by an id, a prefix of one, `name` or `name@server`.
///
/// Whoever is known counts, online or not, and no kind of match beats another: else somebody could take a name and
/// get the messages of a user who is away. A name is meant only as it was typed, never one that looks alike; and one that
/// has the form of an id or of `name@server` is nobody's.
///
/// # Errors
/// [`ResolveError::Unknown`] or [`ResolveError::Ambiguous`].
pub fn resolve(text: &str, everyone: &[Person]) -> Result<Person, ResolveError> {
    if let Some(exact) = everyone.iter().find(|person| person.user_id.as_str() == text) {
        return Ok(exact.clone());
    }
    let typed = normal_form(text);
    let is_id = unseen_id(text).is_some();
    let is_meant = |person: &&Person| {
        let prefix = text.len() >= PREFIX_BYTES_MIN && person.user_id.as_str().starts_with(text);
        let name = !is_id && !typed.contains('@') && is_called(person, &typed);
        prefix || name || is_at_server(&typed, person)
    };
    let mut candidates: Vec<Person> = everyone.iter().filter(is_meant).cloned().collect();
    match (candidates.pop(), candidates.is_empty()) {
        (Some(only), true) => Ok(only),
        (Some(last), false) => {
            candidates.push(last);
            Err(ResolveError::Ambiguous {
                text: text.to_owned(),
                candidates,
            })
        }
        (None, _) => unseen_id(text)
            .map(stranger)
            .ok_or_else(|| ResolveError::Unknown(text.to_owned())),
    }
}

fn is_called(person: &Person, name: &str) -> bool {
    person.name.as_deref().is_some_and(|it| normal_form(it) == name)
}

fn is_at_server(text: &str, person: &Person) -> bool {
    let Some((name, server)) = text.rsplit_once('@') else {
        return false;
    };
    let is_server = person
        .server_name
        .as_deref()
        .is_some_and(|it| normal_form(it) == server)
        || person.server_id.as_ref().is_some_and(|id| id.as_str() == server);
    is_called(person, name) && is_server
}

/// A full id that we have not met: the server may know it.
fn unseen_id(text: &str) -> Option<UserId> {
    let has_form = text.len() == UUID_BYTES && text.bytes().all(|b| b.is_ascii_hexdigit() || b == b'-');
    UserId::try_from(text).ok().filter(|_| has_form)
}

#[cfg(test)]
mod tests {
    use super::*;
    use socp_proto::ServerId;

    fn person(id: &str, name: &str, server: &str) -> Person {
        Person {
            user_id: UserId::try_from(id).unwrap(),
            name: Some(name.to_owned()),
            server_id: Some(ServerId::try_from(format!("{server}-id")).unwrap()),
            server_name: Some(server.to_owned()),
            online: true,
            standing: Standing::default(),
        }
    }

    #[test]
    fn a_text_names_one_user_or_says_why_not() {
        let everyone = [
            person("aaaa1111", "alice", "srv-a"),
            person("aaaa2222", "alice", "srv-b"),
            person("bbbb1111", "bob", "srv-b"),
            person("cccc1111", "bbbb", "srv-b"),
        ];
        let table = [
            ("aaaa1111", "aaaa1111"),
            ("alice@srv-b", "aaaa2222"),
            ("alice@srv-a-id", "aaaa1111"),
            ("bob", "bbbb1111"),
            ("bbbb1", "bbbb1111"),
            ("alice", "ambiguous"),
            ("aaaa", "ambiguous"),
            ("bbbb", "ambiguous"),
            ("aaa", "unknown"),
            ("Bob", "unknown"),
            ("bob@srv-a", "unknown"),
            ("", "unknown"),
            (
                "3f2c9a1e-8b7d-4c6a-9e5f-1a2b3c4d5e6f",
                "3f2c9a1e-8b7d-4c6a-9e5f-1a2b3c4d5e6f",
            ),
        ];
        for (text, meant) in table {
            let found = match resolve(text, &everyone) {
                Ok(person) => person.user_id.as_str().to_owned(),
                Err(ResolveError::Ambiguous { .. }) => "ambiguous".to_owned(),
                Err(ResolveError::Unknown(_) | ResolveError::NoList(_)) => "unknown".to_owned(),
            };
            assert_eq!(found, meant, "{text:?}");
        }
    }

    #[test]
    fn nobody_is_taken_for_another_by_a_name_that_they_chose() {
        let id = "3f2c9a1e-8b7d-4c6a-9e5f-1a2b3c4d5e6f";
        let everyone = [
            person("eve-1111", "b\u{3bf}b", "srv-a"),
            person("eve-2222", "bob\u{200b}", "srv-a"),
            person("eve-3333", "bob@srv-b", "srv-a"),
            person("eve-4444", id, "srv-a"),
            person("zoe-1111", "zoe\u{301}", "srv-a"),
        ];
        for text in ["bob", "bob@srv-a", "bob@srv-b"] {
            assert!(
                matches!(resolve(text, &everyone), Err(ResolveError::Unknown(_))),
                "{text}"
            );
        }
        assert_eq!(resolve(id, &everyone).unwrap().user_id.as_str(), id);
        // However the same letter is composed.
        for text in ["zo\u{e9}", "zoe\u{301}", "zo\u{e9}@srv-a"] {
            assert_eq!(resolve(text, &everyone).unwrap().user_id.as_str(), "zoe-1111");
        }
    }
}
