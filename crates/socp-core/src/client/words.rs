//! What our program says to another one inside the encryption: receipts, and what never came (PROTOCOL II.6).
//!
//! Receipts are put together for up to a second. They are owed, in the history, until the server has them, and read from
//! there in portions, so that those that cannot be given stand in nobody's way; what is asked for again is asked once.

use super::io::{Output, Place, Sealed, Ticket};
use super::mailbox::Turns;
use super::outbox::Outbox;
use super::pins::Pins;
use super::post_io::{Gap, Owed, PostId, PostWork};
use crate::clock::{Mono, Now};
use socp_proto::limits::{SPEECH_AGAIN_COUNT_MAX, SPEECH_REFS_COUNT_MAX};
use socp_proto::payload::{DirectMessage, msg_ref};
use socp_proto::{Address, ErrorCode, KeyText, Payload, ReceiptState, Said, Speech, UserId, Voice};
use std::collections::BTreeMap;

/// How long receipts wait for others (our choice).
const RECEIPTS_WAIT_MS: u64 = 1_000;
/// Receipts that wait; the rest are read again later (our choice).
const OWED_COUNT_MAX: usize = 4_096;
/// Words whose answer is waited for; the oldest is forgotten, and owed until the next link (our choice).
const SENT_COUNT_MAX: usize = 256;
/// Of them, when no more receipts from before are read (our choice).
const SENT_COUNT_BUSY: usize = 128;
/// How long receipts lie that could not be given for now (our choice).
const RETRY_WAIT_MS: u64 = 900_000;
/// How often one user is sent texts again: so often in so many milliseconds, so many users at once (our choice).
const AGAIN_TURNS: (u32, u64, usize) = (4, 60_000, 1_024);

/// A word on its way out.
#[derive(Debug)]
struct Word {
    to: UserId,
    ts: u64,
    receipts: Receipts,
}

/// What a word says of which texts; nothing of one that is no receipt.
type Receipts = Option<(ReceiptState, Vec<String>)>;

/// Words under way.
#[derive(Debug)]
pub(super) struct Words {
    pubkey: KeyText,
    voice: Voice,
    owed: BTreeMap<UserId, BTreeMap<String, ReceiptState>>,
    due: Option<Mono>,
    /// Behind this place in the history more may be owed.
    more: Option<PostId>,
    /// When everything that is owed is read again.
    retry_at: Option<Mono>,
    sealing: BTreeMap<Ticket, Word>,
    sent: BTreeMap<String, Receipts>,
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
            more: None,
            retry_at: None,
            sealing: BTreeMap::new(),
            sent: BTreeMap::new(),
            next_ticket: 0,
            again: Turns::default(),
        }
    }

    pub(super) fn deadline(&self) -> Option<Mono> {
        [self.due, self.retry_at].into_iter().flatten().min()
    }

    /// Whether something is about to be said.
    pub(super) fn is_busy(&self) -> bool {
        !self.sealing.is_empty()
    }

    pub(super) fn owe(&mut self, now: Now, owed: Owed) {
        let count: usize = self.owed.values().map(BTreeMap::len).sum();
        if count >= OWED_COUNT_MAX {
            return self.retry_later(now);
        }
        let of_user = self.owed.entry(owed.to).or_default();
        let state = of_user.entry(owed.msg_ref).or_insert(owed.state);
        *state = (*state).max(owed.state);
        let is_full = of_user.len() >= SPEECH_REFS_COUNT_MAX;
        let wait = if is_full { 0 } else { RECEIPTS_WAIT_MS };
        let at = now.mono.saturating_add(wait);
        self.due = Some(self.due.map_or(at, |due| due.min(at)));
    }

    /// More may be owed behind this place in the history.
    pub(super) fn on_more(&mut self, next: Option<PostId>) {
        self.more = next.or(self.more);
    }

    fn retry_later(&mut self, now: Now) {
        let at = now.mono.saturating_add(RETRY_WAIT_MS);
        self.retry_at.get_or_insert(at);
    }

    /// Says what is due; with `at_once`, whatever there is. Then reads on in what is owed from before.
    pub(super) fn pump(&mut self, now: Now, at_once: bool, pins: &Pins, out: &mut Outbox) {
        if at_once || self.due.is_some_and(|due| due <= now.mono) {
            self.give(now, pins, out);
        }
        if self.retry_at.take_if(|at| *at <= now.mono).is_some() {
            self.more = Some(0);
        }
        let is_free = self.owed.is_empty() && self.sealing.is_empty() && self.sent.len() < SENT_COUNT_BUSY;
        if let Some(after) = self.more.take_if(|_| is_free && !at_once) {
            out.push(Output::Post(PostWork::Owed { after }));
        }
    }

    fn give(&mut self, now: Now, pins: &Pins, out: &mut Outbox) {
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
                    self.say(now, &to, Said::Receipt { state, refs }, pins, out);
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
        self.say(now, of, said, pins, out);
    }

    /// Somebody asks for texts of ours.
    pub(super) fn on_again(&mut self, now: Now, from: &UserId, gap: Gap, out: &mut Outbox) {
        let is_ours = gap.by == self.voice;
        if is_ours && self.again.take(now.mono, from.clone(), AGAIN_TURNS) {
            out.push(Output::Post(PostWork::Recall { to: from.clone(), gap }));
        }
    }

    fn say(&mut self, now: Now, to: &UserId, said: Said, pins: &Pins, out: &mut Outbox) {
        let Some(pin) = pins.newest(to) else { return };
        let receipts = match &said {
            Said::Receipt { state, refs } => Some((*state, refs.clone())),
            Said::Text { .. } | Said::Again { .. } => None,
        };
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
        self.sealing.insert(ticket, Word { to, ts, receipts });
    }

    pub(super) fn on_sealed(&mut self, ticket: Ticket, result: Result<Sealed, String>, pins: &Pins, out: &mut Outbox) {
        let (Some(Word { to, ts, receipts }), Ok(sealed)) = (self.sealing.remove(&ticket), result) else {
            return;
        };
        if self.sent.len() >= SENT_COUNT_MAX {
            self.sent.pop_first();
        }
        self.sent.insert(msg_ref(&sealed.content_sig), receipts);
        let message = DirectMessage {
            ciphertext: sealed.ciphertext,
            sender_pub: self.pubkey.clone(),
            content_sig: sealed.content_sig,
            home: pins.get(&to).and_then(|pin| pin.server_id.clone()),
        };
        out.send_to(Address::from(&to), ts, &Payload::MsgDirect(message));
    }

    /// The server has something; true if that was a word of ours.
    pub(super) fn on_answer(&mut self, msg_ref: &str, out: &mut Outbox) -> bool {
        let Some(receipts) = self.sent.remove(msg_ref) else {
            return false;
        };
        if let Some((state, refs)) = receipts {
            out.push(Output::Post(PostWork::Receipted { state, refs }));
        }
        true
    }

    /// The server refuses something; true if that was a word of ours. Receipts that another try may bring through stay owed.
    pub(super) fn on_refused(&mut self, now: Now, msg_ref: &str, code: &ErrorCode, out: &mut Outbox) -> bool {
        if !is_passing(code) {
            return self.on_answer(msg_ref, out);
        }
        let Some(receipts) = self.sent.remove(msg_ref) else {
            return false;
        };
        if receipts.is_some() {
            self.retry_later(now);
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
        self.more = None;
        self.retry_at = None;
    }
}

/// Whether a word that was refused for this may go through later. Who is nowhere now may be back.
fn is_passing(code: &ErrorCode) -> bool {
    match code {
        ErrorCode::NotStored
        | ErrorCode::MailboxFull
        | ErrorCode::RateLimited
        | ErrorCode::Timeout
        | ErrorCode::UserNotFound => true,
        ErrorCode::InvalidSig
        | ErrorCode::BadKey
        | ErrorCode::UnknownType
        | ErrorCode::NameInUse
        | ErrorCode::TooLarge
        | ErrorCode::BadFrame
        | ErrorCode::NotAuthenticated
        | ErrorCode::Other(_) => false,
    }
}
