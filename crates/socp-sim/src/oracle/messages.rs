//! What was said must arrive, once, as it was said, and with its reader; or its author must be told.

use super::{Oracle, Reading, host_name, user_name};
use crate::net::{Host, UserNo};
use crate::queue::Time;
use crate::report::Rule;
use crate::toys;
use socp_proto::payload::{ChannelMessage, DirectMessage, ErrorNotice, msg_ref};
use socp_proto::{Base64Url, ErrorCode, KeyText, UserId};
use std::collections::HashMap;

/// How long a message may take in a calm network, and its author's answer.
const GRACE_MS: u64 = 10_000;

/// Everything said so far.
#[derive(Debug, Default)]
pub(super) struct Messages {
    pub(super) said: Vec<Said>,
    // Never iterated: its order cannot leak.
    pub(super) by_ref: HashMap<String, usize>,
}

/// One message, and what became of it.
#[derive(Debug)]
pub(super) struct Said {
    pub(super) author: UserNo,
    pub(super) recipient: UserNo,
    /// When.
    pub(super) at: Time,
    ts: u64,
    ciphertext: Base64Url,
    is_for_all: bool,
    due: Due,
    calm_number: u64,
    sessions: (u64, u64),
    deliveries: Vec<Handed>,
    told_not_found: u32,
}

impl Said {
    /// Whether a delivery has this content as its author made it.
    fn is_told_by(&self, delivery: &Delivery) -> bool {
        self.ts == delivery.ts && self.ciphertext == delivery.ciphertext && self.is_for_all == delivery.is_for_all
    }
}

/// One delivery: by which server, in which of its lives, when.
#[derive(Debug, Clone, Copy)]
struct Handed {
    host: Host,
    life: u32,
    at: Time,
}

/// What must come of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Due {
    /// It arrives.
    Delivery,
    /// Its author is told that nobody is there.
    NotFound,
    /// Either, or nothing.
    Nothing,
}

/// A message as a server hands it to a user.
#[derive(Debug)]
pub(crate) struct Delivery {
    pub(crate) sender: UserId,
    pub(crate) sender_pub: KeyText,
    pub(crate) ciphertext: Base64Url,
    pub(crate) content_sig: Base64Url,
    pub(crate) ts: u64,
    pub(crate) is_for_all: bool,
    /// It has a number, so that it comes until it is acknowledged.
    pub(crate) is_numbered: bool,
}

impl Oracle {
    /// The number that the next message gets.
    pub(crate) fn next_message(&self) -> usize {
        self.messages.said.len()
    }

    /// A user says something to another; when to judge what became of it, if that is worth it.
    pub(crate) fn on_said(
        &mut self,
        now: Time,
        author: UserNo,
        recipient: UserNo,
        ts: u64,
        message: &DirectMessage,
    ) -> Option<Time> {
        let due = match (self.due(author, recipient), self.users[recipient].reading) {
            (Due::Delivery, Reading::Nothing) => Due::NotFound,
            (Due::NotFound, Reading::Mailbox) => Due::Nothing,
            (due, Reading::ToTheLetter | Reading::Mailbox | Reading::Nothing) => due,
        };
        let reference = msg_ref(&message.content_sig);
        self.write_down(now, (author, recipient), ts, (&message.ciphertext, reference), due)
    }

    /// A user says something to everyone; this is the copy for one.
    pub(crate) fn on_said_to_all(
        &mut self,
        now: Time,
        author: UserNo,
        recipient: UserNo,
        ts: u64,
        message: &ChannelMessage,
    ) -> Option<Time> {
        let is_local = self.users[author].attached == self.users[recipient].attached;
        let due = match self.due(author, recipient) {
            // What is said to all is taken only from where its author is thought to be (PROTOCOL I.2).
            Due::Delivery if is_local || !self.is_contested(author) => Due::Delivery,
            Due::Delivery | Due::NotFound | Due::Nothing => Due::Nothing,
        };
        let reference = msg_ref(&message.content_sig);
        let judged = self.write_down(now, (author, recipient), ts, (&message.ciphertext, reference), due);
        if let Some(said) = self.messages.said.last_mut() {
            said.is_for_all = true;
        }
        judged
    }

    fn write_down(
        &mut self,
        now: Time,
        (author, recipient): (UserNo, UserNo),
        ts: u64,
        (ciphertext, reference): (&Base64Url, String),
        due: Due,
    ) -> Option<Time> {
        self.stats.said += 1;
        self.messages.by_ref.insert(reference, self.messages.said.len());
        self.messages.said.push(Said {
            author,
            recipient,
            at: now,
            ts,
            ciphertext: ciphertext.clone(),
            is_for_all: false,
            due,
            calm_number: self.calm_number,
            sessions: (self.users[author].session, self.users[recipient].session),
            deliveries: Vec::new(),
            told_not_found: 0,
        });
        (due != Due::Nothing).then_some(now + GRACE_MS)
    }

    /// What is due for a message said now.
    fn due(&self, author: UserNo, recipient: UserNo) -> Due {
        let is_certain =
            self.is_calm() && self.is_settled(author) && self.is_settled(recipient) && !self.squatted.contains(&author);
        if !is_certain {
            return Due::Nothing;
        }
        let (from, to) = (self.users[author].attached, self.users[recipient].attached);
        match (from, to) {
            // A local user always wins, whatever is claimed elsewhere.
            (Some(from), Some(to)) if from == to => Due::Delivery,
            (Some(_), Some(_)) if !self.is_contested(recipient) => Due::Delivery,
            (Some(_), None) if !self.is_contested(recipient) => Due::NotFound,
            (Some(_) | None, Some(_) | None) => Due::Nothing,
        }
    }

    /// A server hands a message to a user; which one, if it is genuine. `to`: whom the envelope says it is for.
    pub(crate) fn on_delivered(
        &mut self,
        at: Time,
        (reader, to): (UserNo, &str),
        (host, life): (Host, u32),
        delivery: &Delivery,
    ) -> Option<usize> {
        let who = [user_name(reader), host_name(host)];
        let reader_id = self.users[reader].id.clone();
        if to != reader_id.as_str() {
            let what = format!("u{reader} is handed by h{host} what is for {to}");
            self.violate(Rule::WrongReader, what, &who);
            return None;
        }
        let Some(sender) = self.user_of(&delivery.sender) else {
            self.stats.from_strangers += 1;
            return None;
        };
        let key = self.users[sender].key.clone();
        let number = self.messages.by_ref.get(&msg_ref(&delivery.content_sig)).copied();
        let said = number.and_then(|number| self.messages.said.get(number));
        if let Some(said) = said
            && (said.author != sender || key != delivery.sender_pub || !said.is_told_by(delivery))
        {
            // No liar of ours keeps the signature of what it changes, so that honest servers did.
            let what = format!("what u{} said reaches u{reader} from h{host} altered", said.author);
            self.violate(Rule::Altered, what, &who);
            return None;
        }
        if delivery.sender_pub != key {
            self.stats.refused_by_readers += 1;
            let is_known = self.users[sender].attached.is_some() && self.is_settled(sender) && self.is_calm();
            // What waited in a mailbox may have come when nobody knew its author; readers look for themselves.
            if is_known && !delivery.is_numbered && !self.is_contested(sender) {
                let what = format!("h{host} hands u{reader} a message of u{sender} with another key");
                self.violate(Rule::Forged, what, &who);
            }
            return None;
        }
        let to = (!delivery.is_for_all).then_some(reader_id.as_str());
        let text = toys::content_text(&delivery.ciphertext, delivery.sender.as_str(), to, delivery.ts);
        if delivery.content_sig.decode() != toys::sign(&key, &text) {
            // Only its reader can tell, and does not show it (PROTOCOL I.7).
            self.stats.refused_by_readers += 1;
            return None;
        }
        let handed = Handed { host, life, at };
        self.on_genuine(reader, sender, (handed, delivery.is_numbered), number);
        number
    }

    /// A message that its author did sign.
    fn on_genuine(
        &mut self,
        reader: UserNo,
        sender: UserNo,
        (handed, is_numbered): (Handed, bool),
        number: Option<usize>,
    ) {
        let host = handed.host;
        let said = number.and_then(|number| self.messages.said.get_mut(number));
        let (Some(number), Some(said)) = (number, said) else {
            let what = format!("u{reader} is handed by h{host} what u{sender} never said");
            return self.violate(Rule::Forged, what, &[user_name(reader), user_name(sender)]);
        };
        let who = [user_name(reader), user_name(sender), host_name(host)];
        if said.recipient != reader {
            let what = format!("message {number} for u{} reaches u{reader}", said.recipient);
            return self.violate(Rule::WrongReader, what, &who);
        }
        // Another server cannot know what this one delivered; the reader's client drops a second copy.
        let before = said.deliveries.iter().rev().find(|before| before.host == host).copied();
        let is_first_anywhere = said.deliveries.is_empty();
        said.deliveries.push(handed);
        self.stats.delivered += u64::from(is_first_anywhere);
        let Some(before) = before.filter(|_| !is_numbered) else {
            return;
        };
        let is_excused = before.life != handed.life && self.may_have_forgotten(host, before.at);
        let is_first_life = before.life == handed.life;
        if is_first_life || (self.links.remembers_deliveries && !is_excused) {
            let what = format!(
                "message {number} of u{sender} reaches u{reader} from h{host} at {} and again at {}",
                before.at, handed.at
            );
            self.violate(Rule::Twice, what, &who);
        }
    }

    /// An author is told that nobody was there.
    pub(crate) fn on_not_found(&mut self, author: UserNo, notice: &ErrorNotice) {
        let number = notice
            .msg_ref
            .as_ref()
            .and_then(|reference| self.messages.by_ref.get(reference));
        let Some(said) = number.and_then(|number| self.messages.said.get_mut(*number)) else {
            return;
        };
        if said.author == author {
            said.told_not_found += 1;
            self.stats.told_not_found += 1;
            return;
        }
        let what = format!("u{author} is told what became of a message of u{}", said.author);
        self.violate(Rule::WrongReader, what, &[user_name(author)]);
    }

    /// The time that a message may take is over.
    pub(crate) fn on_judge(&mut self, number: usize) {
        let Some(said) = self.messages.said.get(number) else {
            return;
        };
        let (author, recipient) = (said.author, said.recipient);
        let is_same = |user: UserNo, session: u64| self.users[user].session == session;
        let is_certain = said.calm_number == self.calm_number
            && is_same(author, said.sessions.0)
            && is_same(recipient, said.sessions.1)
            && !self.squatted.contains(&author);
        let (from, to) = (self.users[author].attached, self.users[recipient].attached);
        let is_local = from == to;
        let is_contested = self.is_contested(recipient) || (said.is_for_all && self.is_contested(author));
        if !is_certain || (is_contested && !is_local) {
            return;
        }
        let who = [user_name(author), user_name(recipient)];
        let places = format!("u{author} at {from:?}, u{recipient} at {to:?}");
        match (said.due, said.deliveries.is_empty(), said.told_not_found) {
            (Due::Delivery, true, _) => {
                let what = format!("message {number} never arrives: {places}");
                self.violate(Rule::Lost, what, &who);
            }
            (Due::Delivery, false, 1..) => {
                let what = format!("message {number} arrives and is said not to: {places}");
                self.violate(Rule::FalseAnswer, what, &who);
            }
            (Due::NotFound, _, 0) => {
                let what = format!("message {number} finds nobody and its author is not told: {places}");
                self.violate(Rule::NoAnswer, what, &who);
            }
            (Due::Delivery, false, 0) => self.stats.must_delivered += 1,
            (Due::NotFound, _, 1..) => self.stats.must_told += 1,
            (Due::Nothing, _, _) => {}
        }
    }

    /// A server that is well refuses a user who did nothing wrong.
    pub(crate) fn on_hello_refused(&mut self, _at: Time, user: UserNo, host: Host, why: &str) {
        self.stats.hellos_refused += 1;
        if self.is_calm() && !self.squatted.contains(&user) {
            let what = format!("h{host} refuses the hello of u{user}: {why}");
            self.violate(Rule::Refused, what, &[user_name(user), host_name(host)]);
        }
    }

    /// A server that could have answered a user did not.
    pub(crate) fn on_silence(&mut self, user: UserNo, host: Host, question: &str, asked_at: Time) {
        let what = format!("h{host} does not answer the {question} of u{user} at {asked_at}");
        self.violate(Rule::Unanswered, what, &[user_name(user), host_name(host)]);
    }

    /// A server complains about a user who did nothing wrong.
    pub(crate) fn on_user_error(&mut self, _at: Time, user: UserNo, host: Host, notice: &ErrorNotice) {
        // A changed key is told to who knows the user (PROTOCOL I.5).
        let about = UserId::try_from(notice.detail.as_str()).ok();
        let about = about.and_then(|about| self.user_of(&about));
        let is_warning = notice.code == ErrorCode::BadKey && about.is_some_and(|about| self.squatted.contains(&about));
        if self.is_calm() && !is_warning && !self.squatted.contains(&user) {
            let what = format!("h{host} tells u{user} {} {}", notice.code, notice.detail);
            self.violate(Rule::Refused, what, &[user_name(user), host_name(host)]);
        }
    }
}
