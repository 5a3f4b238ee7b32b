//! What keys lead to that somebody shows for a user: a pin, a pin that goes on, or the hard stop (PROTOCOL II.11, II.13).

use super::Client;
use super::alarm::{Alarm, Alarms, Heard, Teller, TrustNews, TrustRecord};
use super::fault::TellFault;
use super::io::{Event, Output, Person, UserPin};
use super::pins::{Seen, Shown};
use crate::clock::Now;
use socp_proto::{Card, CardFingerprint, KeyHistory, KeyText, UserId};
use std::collections::BTreeSet;

impl Client {
    /// Compares keys that the network shows with the pinned ones, which stay unless a history leads from them to the new
    /// ones. `shown` is what came with them.
    pub(super) fn observe(
        &mut self,
        now: Now,
        user: &UserId,
        shown_keys: Shown,
        shown: Option<&Person>,
    ) -> Option<TellFault> {
        let pair = shown_keys.pair();
        let keys = (pair.pubkey, pair.enc_pubkey);
        let expected = self.pins.alarms.expected(user);
        let is_new = self.pins.get(user).is_none();
        if is_new && expected.is_some_and(|expected| !shown_keys.has_been(user, expected)) {
            return Some(self.on_other_key(now, user, keys));
        }
        let person = self.people.get(user).or(shown);
        let before = if is_new { shown_keys.before(user) } else { Vec::new() };
        let former = self.pins.former_keys(now.unix, user, &shown_keys);
        let seen = self.pins.observe(user, shown_keys, person);
        match self.pins.keep_former(user, seen, former) {
            Seen::New(pin) => {
                self.note_replaced(user, before);
                let is_revoked = pin.revoked;
                self.likenesses.add(&pin);
                self.out.push(Output::SaveUser(pin.clone()));
                if expected == Some(pin.fingerprint()) && !is_revoked {
                    self.pins.alarms.verify(user);
                    self.out.push(Output::SaveTrust(TrustNews::Verified(pin)));
                } else if expected.is_some() {
                    self.pins.alarms.forget_card(user);
                    let text =
                        format!("{user} has newer keys than their card says, signed with those; compare safety words");
                    self.out.notice(Some(user.clone()), text);
                }
                if is_revoked {
                    return Some(TellFault::Withdrawn(user.clone()));
                }
                self.on_key(now, user);
                None
            }
            Seen::Followed { pin, before } => self.on_followed(now, pin, before),
            Seen::Same => None,
            Seen::Full => Some(TellFault::TooManyUsers),
            Seen::Changed => {
                let fault = self.on_other_key(now, user, keys);
                // Whoever has decided against that key goes on with the pinned one.
                self.pins.alarms.is_stopped(user).then_some(fault)
            }
        }
    }

    /// Who has not heard that these keys were replaced is not to be alarmed about, though we never saw them ourselves.
    fn note_replaced(&mut self, user: &UserId, before: Vec<CardFingerprint>) {
        for seen in before {
            self.pins.alarms.note_replaced(user, seen);
            let user = user.clone();
            self.out.push(Output::SaveTrust(TrustNews::Replaced { user, seen }));
        }
    }

    /// The server shows another key than the known one.
    fn on_other_key(&mut self, now: Now, user: &UserId, keys: (KeyText, KeyText)) -> TellFault {
        let alarm = Alarm {
            user: user.clone(),
            seen: CardFingerprint::of(&keys.0, &keys.1),
            keys: Some(keys),
            teller: Teller::Server,
        };
        let fault = TellFault::from(&alarm);
        let is_news = match self.pins.get(user) {
            Some(_) => self.pins.alarms.raise(&alarm),
            None => self.pins.alarms.insist(&alarm),
        };
        if is_news {
            self.stop_with(now, alarm);
        }
        fault
    }

    /// Another server has answered. Where its history goes on from the pinned keys it is no disagreement: it has heard of a
    /// change, or of an end, before our own server has.
    pub(super) fn on_vouched(
        &mut self,
        now: Now,
        user: &UserId,
        (keys, history): ((KeyText, KeyText), Option<KeyHistory>),
        by: String,
    ) {
        let (pubkey, enc_pubkey) = keys.clone();
        let shown = Shown {
            pubkey,
            enc_pubkey: Some(enc_pubkey),
            history,
        };
        if self.pins.is_followed_by(user, &shown) {
            self.observe(now, user, shown, None);
            return;
        }
        let heard = self.pins.hear_keys(user, keys, Teller::OtherServer(by));
        self.on_heard(now, heard, None);
    }

    /// The user has decided, in another program.
    pub(super) fn on_decided(&mut self, trust: TrustRecord, pins: Vec<UserPin>) {
        let before = std::mem::replace(&mut self.pins.alarms, Alarms::new(trust));
        let decided = before
            .users()
            .filter(|user| !self.pins.alarms.is_stopped(user))
            .cloned();
        // A decision of which we had not heard that there was one to make.
        let denied = self
            .pins
            .iter()
            .filter(|pin| self.pins.alarms.is_denied(&pin.user, &pin.pubkey));
        let decided: BTreeSet<UserId> = decided.chain(denied.map(|pin| pin.user.clone())).collect();
        for user in decided {
            self.pins
                .replace(&user, pins.iter().find(|pin| pin.user == user).cloned());
            self.recheck(&user, false);
        }
        // What is verified, or decided, is about the keys that are pinned there.
        for pin in pins {
            let is_newer = |ours: &UserPin| ours.version <= pin.version && *ours != pin;
            if self.pins.get(&pin.user).is_some_and(is_newer) {
                let user = pin.user.clone();
                self.pins.set_newer(pin);
                self.recheck(&user, false);
            }
        }
    }

    /// A contact has sent somebody's card.
    pub(super) fn on_card(&mut self, now: Now, author: &UserId, card: Card) {
        if card.user() != self.out.user() {
            let heard = self.pins.hear_card(card, author);
            self.on_heard(now, heard, Some(author));
        }
    }

    fn on_heard(&mut self, now: Now, heard: Heard, by: Option<&UserId>) {
        match (heard, by) {
            (Heard::Confirmed(news), _) => self.out.push(Output::SaveTrust(news)),
            (Heard::Alarm(alarm), _) => self.stop_with(now, alarm),
            (Heard::Doubt(card), Some(author)) => {
                let (user, seen) = (card.user(), card.fingerprint().short());
                let text = format!(
                    "the contact card that {author} sent shows another key for {user} ({seen}) than the one you know. You \
                     have never compared keys with {author}, so it stops nothing; compare safety words with {user}"
                );
                self.out.notice(Some(author.clone()), text);
            }
            (Heard::Nothing, _) | (Heard::Doubt(_), None) => {}
        }
    }

    /// From now on nothing goes on with this user.
    fn stop_with(&mut self, now: Now, alarm: Alarm) {
        let (user, fault) = (alarm.user.clone(), TellFault::from(&alarm));
        let pinned = self.pins.get(&user).map(UserPin::fingerprint);
        let known = pinned.or_else(|| self.pins.alarms.expected(&user));
        self.out.push(Output::SaveTrust(TrustNews::Alarm(alarm.clone())));
        self.out.event(Event::KeyChanged { alarm, known });
        self.stop_sending(now, &user, &fault);
    }

    /// Whatever is under way with this user ends.
    fn stop_sending(&mut self, now: Now, user: &UserId, fault: &TellFault) {
        self.direct.on_stop(user, fault, &mut self.out);
        self.posts.on_stop(user, fault, &mut self.out);
        self.words.on_stop(user);
        self.channel.on_stop(user, fault);
        self.in_files(now, |files, around| files.on_stop(user, fault, around));
        self.inbox.on_stop(user, &self.pins, &mut self.out);
    }

    /// The user has other keys, or none, signed by those that were pinned.
    fn on_followed(&mut self, now: Now, pin: UserPin, before: CardFingerprint) -> Option<TellFault> {
        let user = pin.user.clone();
        let name = self.people.describe(&user, &self.pins).label().into_owned();
        let (is_revoked, key) = (pin.revoked, pin.pubkey.fingerprint().short());
        self.likenesses.add(&pin);
        let seen = before;
        let replaced = TrustNews::Replaced {
            user: user.clone(),
            seen,
        };
        self.out.push(Output::SaveUser(pin));
        self.out.push(Output::SaveTrust(replaced));
        if is_revoked {
            let text = format!("{name} has withdrawn their keys; nothing is sent to them any more");
            self.out.notice(Some(user.clone()), text);
            self.stop_sending(now, &user, &TellFault::Withdrawn(user.clone()));
            self.recheck(&user, false);
            return Some(TellFault::Withdrawn(user));
        }
        let text = format!(
            "{name} has new keys ({key}), signed with the old ones. If you compared safety words, compare the new ones"
        );
        self.out.notice(Some(user.clone()), text);
        self.on_key(now, &user);
        None
    }
}
