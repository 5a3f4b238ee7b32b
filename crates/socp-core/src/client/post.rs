//! How the parts go together that are about acknowledged messages (PROTOCOL II.6).

use super::alarm::CARDS_PER_MESSAGE_COUNT_MAX;
use super::fault::TellFault;
use super::inbox::{Finished, Whence};
use super::io::{Event, Message, Person};
use super::mailbox::Item;
use super::post_io::{Arrived, Change, Deposit, Gap, Number, Outcome, Owed, PostDone, PostId, PostNews, PostState};
use super::{Client, Output, trust};
use crate::clock::Now;
use socp_proto::payload::{Ack, ErrorNotice, Status};
use socp_proto::{Card, ErrorCode, ReceiptState, ServerId, Speech, UserId};

impl Client {
    /// Whether the server that has let us in acknowledges what it has (PROTOCOL II.6).
    #[must_use]
    pub fn acknowledges(&self) -> bool {
        self.posts.is_on()
    }

    /// The user as last shown.
    #[must_use]
    pub fn describe(&self, user: &UserId) -> Person {
        self.people.describe(user, &self.pins)
    }

    /// A message that was written down before, with what was missing before it, is to be shown now, unless it was.
    pub fn show_kept(&mut self, id: PostId, message: Message, gap: Option<Gap>) -> Vec<Event> {
        if !self.mailbox.show(id) {
            return Vec::new();
        }
        let mut events = shown(message, gap);
        for event in &mut events {
            trust::mark(event, self.out.user(), &self.pins, &self.likenesses);
        }
        events
    }

    /// Goes on with what is under way; with `at_once`, without waiting for more.
    pub(super) fn pump_post(&mut self, now: Now, at_once: bool) {
        for finished in self.inbox.take_finished() {
            self.on_finished(now, finished);
        }
        let is_opening = self.inbox.is_opening();
        self.mailbox.pump(now, is_opening, &mut self.out);
        if self.posts.is_on() {
            self.words.pump(now, at_once, &self.pins, &mut self.out);
        }
        let known = (&self.pins, &self.people);
        self.posts.pump(now, known, &mut self.asks, &mut self.out);
    }

    /// Something direct was opened, or cannot be.
    fn on_finished(&mut self, now: Now, (whence, finished): (Whence, Finished)) {
        if let Finished::Text { message, number } = &finished {
            self.note_numbered(now, message, *number);
        }
        let seq = whence.seq;
        let mut item = match finished {
            Finished::Text { message, number } => Item {
                deposit: Deposit::Text(Arrived {
                    msg_ref: message.id.clone(),
                    from: message.from.user_id.clone(),
                    text: message.text.clone(),
                    ts: message.ts,
                    number,
                }),
                message: Some(message),
                ..Item::of(seq, Deposit::Nothing)
            },
            Finished::Receipt { from, state, refs } => Item::of(seq, Deposit::Receipt { from, state, refs }),
            Finished::Again { from, gap } => {
                self.words.on_again(now, &from, gap, &mut self.out);
                Item::of(seq, Deposit::Nothing)
            }
            Finished::Refused { about, text } => {
                let about = Some(about);
                Item::of(seq, Deposit::Notice { about, text })
            }
            Finished::Hold(deposit) => Item {
                known: self.known_to_hold(&deposit),
                ..Item::of(seq, deposit)
            },
        };
        if let Some(id) = whence.held {
            let deposit = Box::new(item.deposit);
            item.deposit = Deposit::Released { id, deposit };
        }
        let is_nothing = item.seq.is_none() && matches!(item.deposit, Deposit::Nothing | Deposit::Notice { .. });
        let is_dropped = !is_nothing && !self.mailbox.put(item);
        if let Some(id) = whence.held.filter(|_| is_dropped) {
            self.on_released_dropped(id);
        }
    }

    pub(super) fn on_post(&mut self, now: Now, done: PostDone) {
        match done {
            PostDone::Queued { ticket, result } => self.posts.on_queued(ticket, result, &mut self.out),
            PostDone::Unanswered(waiting) => self.posts.on_unanswered(now, waiting, &mut self.out),
            PostDone::Made { id, result } => self.posts.on_made(id, result, &mut self.out),
            PostDone::Gone { id, msg_ref, state } => self.posts.on_gone(id, (msg_ref, state), &mut self.out),
            PostDone::Unmade(id) => self.posts.on_unmade(id),
            PostDone::Stuck { id, why } => self.posts.on_stuck(now, id, why, &mut self.out),
            PostDone::Failed {
                result: Ok(Some(change)),
                ..
            } => self.on_changes(vec![change], None),
            PostDone::Failed { id, .. } => self.posts.on_not_failed(id, &mut self.out),
            PostDone::Stored(Ok(outcomes)) => self.on_stored(now, outcomes),
            PostDone::Stored(Err(why)) => {
                if let Some(batch) = self.mailbox.take_stored() {
                    self.mailbox.on_not_stored(now, batch, &why, &mut self.out);
                }
            }
            PostDone::Missed { from, gap } => self.ask_again(now, &from, gap),
            PostDone::Owed { owed, next } => {
                for it in owed {
                    self.words.owe(now, it);
                }
                self.words.on_more(next);
            }
            PostDone::Waiting { of, held, expired } => self.on_waiting(now, of, held, expired),
        }
    }

    fn on_stored(&mut self, now: Now, outcomes: Vec<Outcome>) {
        let Some((items, up_to)) = self.mailbox.take_stored() else {
            return;
        };
        for (item, outcome) in items.into_iter().zip(outcomes) {
            self.tell_of(now, item, outcome);
        }
        let is_online = self.session.is_online() && self.posts.is_on();
        self.mailbox.on_stored(now, up_to, is_online, &mut self.out);
        self.recheck_dropped();
    }

    fn tell_of(&mut self, now: Now, item: Item, outcome: Outcome) {
        self.note_held(&item, &outcome);
        match (outcome, item.message) {
            (
                Outcome::New {
                    id,
                    is_late,
                    gap,
                    wants_receipt,
                },
                Some(mut message),
            ) => {
                let author = message.from.user_id.clone();
                if let Some(gap) = gap {
                    self.ask_again(now, &author, gap);
                }
                if wants_receipt {
                    let owed = Owed {
                        to: author.clone(),
                        msg_ref: message.id.clone(),
                        state: ReceiptState::Delivered,
                    };
                    self.words.owe(now, owed);
                }
                message.is_late = is_late;
                let cards = Card::find_in(&message.text, CARDS_PER_MESSAGE_COUNT_MAX);
                let cards: Vec<Card> = cards.collect();
                self.show(id, message, gap);
                for card in cards {
                    self.on_card(now, &author, card);
                }
            }
            (
                Outcome::Known {
                    id,
                    is_unshown: true,
                    is_late,
                    gap,
                },
                Some(mut message),
            ) => {
                message.is_late = is_late;
                self.show(id, message, gap);
            }
            (Outcome::Changed(changes), _) => self.on_changes(changes, item.server.as_ref()),
            (
                Outcome::New { .. } | Outcome::Known { .. } | Outcome::Held { .. } | Outcome::NoRoom | Outcome::Done,
                _,
            ) => {}
        }
        if let Deposit::Answer { refs, state, .. } = &item.deposit {
            let state = (*state, item.server.as_ref());
            self.posts.on_answered(refs, state, &mut self.out);
        }
    }

    fn show(&mut self, id: PostId, message: Message, gap: Option<Gap>) {
        if self.mailbox.show(id) {
            for event in shown(message, gap) {
                self.out.event(event);
            }
        }
    }

    fn ask_again(&mut self, now: Now, of: &UserId, gap: Gap) {
        if self.posts.is_on() {
            self.words.ask_again(now, of, gap, &self.pins, &mut self.out);
        }
    }

    fn on_changes(&mut self, changes: Vec<Change>, server: Option<&ServerId>) {
        for change in changes {
            if self.posts.on_change(&change, server, &mut self.out) {
                continue;
            }
            let news = PostNews {
                to: self.people.describe(&change.to, &self.pins),
                msg_ref: change.msg_ref,
                state: change.state,
                why: change.why,
            };
            self.out.event(Event::Post(news));
        }
    }

    /// What a server has of our messages.
    pub(super) fn on_message_ack(&mut self, ack: Ack) {
        let Some(status) = ack.status.filter(|_| self.posts.is_on()) else {
            return;
        };
        let is_ours = ack.server_id.is_none() || ack.server_id.as_ref() == self.session.server_id();
        let state = match status {
            Status::Sent => PostState::Sent,
            Status::Stored if is_ours => PostState::OnServer,
            Status::Stored => PostState::OnTheirServer,
        };
        let mut refs: Vec<String> = std::iter::once(ack.msg_ref).chain(ack.also).collect();
        refs.retain(|msg_ref| !self.words.on_answer(msg_ref, &mut self.out));
        if refs.is_empty() {
            return;
        }
        let deposit = Deposit::Answer { refs, state, why: None };
        let server = ack.server_id.or_else(|| self.session.server_id().cloned());
        self.mailbox.put(Item {
            server,
            ..Item::of(None, deposit)
        });
    }

    /// A refusal of a message by a server that acknowledges; false if it is about something else.
    pub(super) fn on_message_refused(&mut self, now: Now, error: &ErrorNotice) -> bool {
        let Some(msg_ref) = error.msg_ref.as_deref().filter(|_| self.posts.is_on()) else {
            return false;
        };
        let seq = error.seq;
        self.mailbox.begin(seq);
        if self.words.on_refused(now, msg_ref, &error.code, &mut self.out) {
            if seq.is_some() {
                self.mailbox.put(Item::of(seq, Deposit::Nothing));
            }
            return true;
        }
        let to = self.posts.recipient(msg_ref).cloned();
        if to.is_none() && seq.is_none() {
            return false;
        }
        if to.is_some() && error.code == ErrorCode::NotStored {
            self.posts.on_not_stored(now, msg_ref);
            if seq.is_some() {
                self.mailbox.put(Item::of(seq, Deposit::Nothing));
            }
            return true;
        }
        // One that comes through the mailbox is about a message that some server kept for as long as it may.
        if to.is_some() && seq.is_none() && error.code == ErrorCode::Timeout {
            self.posts.on_too_old(msg_ref, &mut self.out);
            return true;
        }
        self.refuse_message(seq, msg_ref, (error, to.as_ref()));
        true
    }

    /// Writes down that a message goes nowhere.
    pub(super) fn refuse_message(
        &mut self,
        seq: Option<u64>,
        msg_ref: &str,
        (error, to): (&ErrorNotice, Option<&UserId>),
    ) {
        let fault = TellFault::of_kept(error, to);
        let why = Some(fault.to_string());
        self.posts.on_refused(msg_ref, fault);
        let deposit = Deposit::Answer {
            refs: vec![msg_ref.to_owned()],
            state: PostState::Failed,
            why,
        };
        self.mailbox.put(Item::of(seq, deposit));
    }

    /// The server has let us in: what waits goes out, if it acknowledges.
    pub(super) fn on_online_post(&mut self, acks: bool) {
        self.posts.on_online(acks, &mut self.out);
    }

    /// What a user's program can do, and where they are, as the network says.
    pub(super) fn note_program(&mut self, user: &UserId, acks: Option<bool>, home: Option<ServerId>) {
        if self.pins.is_denied(user, acks) {
            let person = self.people.describe(user, &self.pins);
            let text = format!(
                "the server says that {}'s program does not number messages (ack/1), but it has; what you write to them stays \
                 numbered, so that nothing can be missing unseen. If they do use another program now, it cannot show that \
                 well until they have written to you with it",
                person.label()
            );
            self.out.notice(Some(user.clone()), text);
        }
        if let Some(program) = self.pins.note_program(user, acks, home) {
            self.out.push(Output::SaveProgram(program));
        }
    }

    /// What an opened text says of its author's program. One that is too long to be numbered says nothing (PROTOCOL II.6).
    fn note_numbered(&mut self, now: Now, message: &Message, number: Option<Number>) {
        let from = &message.from.user_id;
        let Some(pin) = self.pins.get(from) else { return };
        // A clock that is ahead must not make it proof for ever.
        let (ts, is_numbered) = match number {
            Some(_) => (message.ts.min(now.unix), true),
            None if pin.numbered_at > 0 && Speech::fits(from, &message.to, &message.text) => (message.ts, false),
            None => return,
        };
        if let Some(program) = self.pins.note_numbered(from, ts, is_numbered) {
            self.out.push(Output::SaveProgram(program));
        }
    }
}

/// A message as it is told, behind what is missing before it.
fn shown(message: Message, gap: Option<Gap>) -> Vec<Event> {
    let gap = gap.map(|gap| Event::Gap {
        from: message.from.clone(),
        count: gap.count(),
    });
    gap.into_iter().chain([Event::Message(message)]).collect()
}
