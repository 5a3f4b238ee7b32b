//! What our program says to another one inside the encryption: receipts, and what never came (PROTOCOL II.6).
//!
//! Receipts are put together for up to a second. They are owed, in the history, until the server has them; what is asked for
//! again is asked once.

use super::io::{Output, Place, Sealed, Ticket};
use super::mailbox::Turns;
use super::outbox::Outbox;
use super::pins::Pins;
use super::post_io::{Gap, Owed, PostWork};
use crate::clock::{Mono, Now};
use socp_proto::limits::{SPEECH_AGAIN_COUNT_MAX, SPEECH_REFS_COUNT_MAX};
use socp_proto::payload::{DirectMessage, msg_ref};
use socp_proto::{Address, KeyText, Payload, ReceiptState, Said, Speech, UserId, Voice};
use std::collections::BTreeMap;

/// How long receipts wait for others (our choice).
const RECEIPTS_WAIT_MS: u64 = 1_000;
/// Receipts that wait; the rest are owed until the next link (our choice).
const OWED_COUNT_MAX: usize = 4_096;
/// Words whose answer is waited for; the oldest is forgotten, and owed until the next link (our choice).
const SENT_COUNT_MAX: usize = 256;
/// How often one user is sent texts again: so often in so many milliseconds, so many users at once (our choice).
const AGAIN_TURNS: (u32, u64, usize) = (4, 60_000, 1_024);

/// A word on its way out.
#[derive(Debug)]
struct Word {
    to: UserId,
    ts: u64,
    refs: Vec<String>,
}

/// Words under way.
#[derive(Debug)]
pub(super) struct Words {
    pubkey: KeyText,
    voice: Voice,
    owed: BTreeMap<UserId, BTreeMap<String, ReceiptState>>,
    due: Option<Mono>,
    sealing: BTreeMap<Ticket, Word>,
    sent: BTreeMap<String, Vec<String>>,
    next_ticket: Ticket,
    again: Turns<UserId>,
}

impl Words {
    pub(super) fn new(pubkey: KeyText, voice: Voice) -> Self {
        Self {
            pubkey,
            voice,
            owed: BTreeMap::new(),
            due: None,
            sealing: BTreeMap::new(),
            sent: BTreeMap::new(),
            next_ticket: 0,
            again: Turns::default(),
        }
    }

    pub(super) fn deadline(&self) -> Option<Mono> {
        self.due
    }

    /// Whether something is about to be said.
    pub(super) fn is_busy(&self) -> bool {
        !self.sealing.is_empty()
    }

    pub(super) fn owe(&mut self, now: Now, owed: Owed) {
        let count: usize = self.owed.values().map(BTreeMap::len).sum();
        if count >= OWED_COUNT_MAX {
            return;
        }
        let of_user = self.owed.entry(owed.to).or_default();
        let state = of_user.entry(owed.msg_ref).or_insert(owed.state);
        *state = (*state).max(owed.state);
        let is_full = of_user.len() >= SPEECH_REFS_COUNT_MAX;
        let wait = if is_full { 0 } else { RECEIPTS_WAIT_MS };
        let at = now.mono.saturating_add(wait);
        self.due = Some(self.due.map_or(at, |due| due.min(at)));
    }

    /// Says what is due; with `at_once`, whatever there is.
    pub(super) fn pump(&mut self, now: Now, at_once: bool, pins: &Pins, out: &mut Outbox) {
        if !(at_once || self.due.is_some_and(|due| due <= now.mono)) {
            return;
        }
        self.due = None;
        for (to, receipts) in std::mem::take(&mut self.owed) {
            // Whose key is in doubt learns nothing of us.
            if pins.refusal(&to).is_some() || pins.newest(&to).is_none() {
                continue;
            }
            for state in [ReceiptState::Delivered, ReceiptState::Read] {
                let of_state = receipts.iter().filter(|(_, it)| **it == state);
                let refs: Vec<String> = of_state.map(|(msg_ref, _)| msg_ref.clone()).collect();
                for refs in refs.chunks(SPEECH_REFS_COUNT_MAX) {
                    let refs = refs.to_vec();
                    let said = Said::Receipt {
                        state,
                        refs: refs.clone(),
                    };
                    self.say(now, &to, said, refs, pins, out);
                }
            }
        }
    }

    /// Asks for texts that never came, as many as may be asked for at once: the last ones.
    pub(super) fn ask_again(&mut self, now: Now, of: &UserId, gap: Gap, pins: &Pins, out: &mut Outbox) {
        let oldest = gap.to_n.saturating_sub(SPEECH_AGAIN_COUNT_MAX).saturating_add(1);
        let said = Said::Again {
            by: gap.by,
            from_n: gap.from_n.max(oldest),
            to_n: gap.to_n,
        };
        self.say(now, of, said, Vec::new(), pins, out);
    }

    /// Somebody asks for texts of ours.
    pub(super) fn on_again(&mut self, now: Now, from: &UserId, gap: Gap, out: &mut Outbox) {
        let is_ours = gap.by == self.voice;
        if is_ours && self.again.take(now.mono, from.clone(), AGAIN_TURNS) {
            out.push(Output::Post(PostWork::Recall { to: from.clone(), gap }));
        }
    }

    fn say(&mut self, now: Now, to: &UserId, said: Said, refs: Vec<String>, pins: &Pins, out: &mut Outbox) {
        let Some(pin) = pins.newest(to) else { return };
        let speech = Speech {
            by: self.voice,
            from: out.user().clone(),
            to: to.clone(),
            said,
        };
        let ticket = self.next_ticket;
        self.next_ticket = ticket.wrapping_add(1);
        out.push(Output::Seal {
            place: Place::Word,
            ticket,
            key: pin.enc_pubkey.clone(),
            text: speech.to_plaintext(),
            from: speech.from,
            to: to.clone(),
            ts: now.unix,
        });
        let (to, ts) = (to.clone(), now.unix);
        self.sealing.insert(ticket, Word { to, ts, refs });
    }

    pub(super) fn on_sealed(&mut self, ticket: Ticket, result: Result<Sealed, String>, pins: &Pins, out: &mut Outbox) {
        let (Some(Word { to, ts, refs }), Ok(sealed)) = (self.sealing.remove(&ticket), result) else {
            return;
        };
        if self.sent.len() >= SENT_COUNT_MAX {
            self.sent.pop_first();
        }
        self.sent.insert(msg_ref(&sealed.content_sig), refs);
        let message = DirectMessage {
            ciphertext: sealed.ciphertext,
            sender_pub: self.pubkey.clone(),
            content_sig: sealed.content_sig,
            home: pins.get(&to).and_then(|pin| pin.server_id.clone()),
        };
        out.send_to(Address::from(&to), ts, &Payload::MsgDirect(message));
    }

    /// The server has answered something; true if that was a word of ours. One that goes nowhere is not said again.
    pub(super) fn on_answer(&mut self, msg_ref: &str, out: &mut Outbox) -> bool {
        let Some(refs) = self.sent.remove(msg_ref) else {
            return false;
        };
        if !refs.is_empty() {
            out.push(Output::Post(PostWork::Receipted(refs)));
        }
        true
    }

    /// Nothing more is said to this user.
    pub(super) fn on_stop(&mut self, user: &UserId) {
        self.owed.remove(user);
        self.sealing.retain(|_, word| word.to != *user);
    }

    /// The history knows what is owed.
    pub(super) fn on_disconnected(&mut self) {
        self.owed.clear();
        self.sealing.clear();
        self.sent.clear();
        self.due = None;
    }
}
