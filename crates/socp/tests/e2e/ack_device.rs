//! A device of a user who writes and reads all the time, whatever becomes of its server, its link and itself.
//!
//! It keeps on its own disk (memory here, which outlives links and the device's own falls) what it has written and has no
//! answer to, what it has shown, and up to which number. Everything is entered into the book, against which the whole run is
//! held in the end.

use crate::ack_client::{AckLink, Arrival, Fault, Letter, Who, refs_of};
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// A reader and the id of the server where they are.
pub(crate) type Reader = (Arc<str>, String);

/// What is known of a whole run.
#[derive(Default)]
pub(crate) struct Book {
    /// Whether authors write.
    pub(crate) is_writing: AtomicBool,
    /// Whether the run is over, and the devices end.
    pub(crate) is_over: AtomicBool,
    /// Hellos that were answered.
    pub(crate) hellos: AtomicUsize,
    /// Links that a device cut off itself.
    pub(crate) cuts: AtomicUsize,
    /// What came again after it was shown, and was not shown again.
    pub(crate) came_again: AtomicUsize,
    /// Times that a message was sent again by its author.
    pub(crate) sent_again: AtomicUsize,
    pub(crate) messages: Mutex<Messages>,
}

/// What became of the messages: author, reader, number.
#[derive(Default)]
pub(crate) struct Messages {
    pub(crate) written: BTreeSet<Message>,
    /// Acknowledged as stored by their author's own server.
    pub(crate) stored: BTreeSet<Message>,
    /// Refused for good.
    pub(crate) refused: BTreeMap<Message, String>,
    /// What each device has shown, by its name.
    pub(crate) shown: BTreeMap<String, BTreeSet<Message>>,
}

pub(crate) type Message = (Arc<str>, Arc<str>, u64);

impl Messages {
    /// What a device of this reader has to show and has not.
    pub(crate) fn missing(&self, device: &str, reader: &str) -> Vec<&Message> {
        let shown = self.shown.get(device);
        let is_shown = |message: &Message| shown.is_some_and(|shown| shown.contains(message));
        let wanted = self.stored.iter().filter(|(_, to, _)| &**to == reader);
        wanted
            .filter(|message| !is_shown(message) && !self.refused.contains_key(*message))
            .collect()
    }

    /// What has no answer yet.
    pub(crate) fn unanswered(&self) -> usize {
        let is_answered = |message: &&Message| self.stored.contains(*message) || self.refused.contains_key(*message);
        self.written.iter().filter(|message| !is_answered(message)).count()
    }
}

/// What a device does.
pub(crate) struct Plan {
    pub(crate) who: Who,
    /// `host:port` of its server.
    pub(crate) address: String,
    pub(crate) seed: u64,
    /// To whom it writes, if it does.
    pub(crate) writes_to: Vec<Reader>,
    /// Between two messages.
    pub(crate) interval: Duration,
}

pub(crate) struct Device {
    plan: Plan,
    /// How the book calls it.
    name: String,
    user: Arc<str>,
    rng: StdRng,
    book: Arc<Book>,
    // On its disk.
    outbox: VecDeque<Letter>,
    last_written: BTreeMap<Arc<str>, u64>,
    after: u64,
    shown: BTreeSet<Message>,
    last_shown: BTreeMap<Arc<str>, u64>,
    // What the test knows beside: no number means two things, not even one that was lost.
    by_number: BTreeMap<u64, (String, u64)>,
    // In its memory: came, and is not on the disk.
    came: Vec<Arrival>,
    next_due: Instant,
}

impl Device {
    pub(crate) fn new(plan: Plan, book: &Arc<Book>) -> Self {
        Self {
            name: format!("{} {}", plan.who.user, plan.who.device),
            user: plan.who.user.as_str().into(),
            rng: StdRng::seed_from_u64(plan.seed),
            book: Arc::clone(book),
            plan,
            outbox: VecDeque::new(),
            last_written: BTreeMap::new(),
            after: 0,
            shown: BTreeSet::new(),
            last_shown: BTreeMap::new(),
            by_number: BTreeMap::new(),
            came: Vec::new(),
            next_due: Instant::now(),
        }
    }

    /// Lives until the run is over.
    pub(crate) fn live(mut self) {
        while !self.book.is_over.load(Ordering::Relaxed) {
            // What came over the last link and was not written down is gone.
            self.came.clear();
            match AckLink::enter(&self.plan.address, &self.plan.who, self.after) {
                Ok(mut link) => {
                    self.book.hellos.fetch_add(1, Ordering::Relaxed);
                    let Fault::Lost(_) = self.serve(&mut link) else {
                        panic!("a hello is refused after it was taken");
                    };
                }
                // The server is being started; that takes a while.
                Err(Fault::Lost(_)) => std::thread::sleep(Duration::from_millis(5)),
                Err(Fault::Refused(why)) => panic!("{}: the hello is refused: {why}", self.name),
            }
        }
    }

    /// Writes and reads on one link, to its end.
    fn serve(&mut self, link: &mut AckLink) -> Fault {
        loop {
            // All that is unanswered, oldest first, before anything new.
            let ended = self.send_again(link).and_then(|()| {
                while !self.book.is_over.load(Ordering::Relaxed) {
                    if self.step(link)?.is_break() {
                        return Ok(());
                    }
                }
                Err(Fault::Lost("the run is over".to_owned()))
            });
            if let Err(fault) = ended {
                return fault;
            }
        }
    }

    fn send_again(&mut self, link: &mut AckLink) -> Result<(), Fault> {
        self.book.sent_again.fetch_add(self.outbox.len(), Ordering::Relaxed);
        self.outbox.iter().try_for_each(|letter| link.send(&letter.frame))
    }

    /// Writes what is due, reads what is there; a break where everything unanswered is to be sent again.
    fn step(&mut self, link: &mut AckLink) -> Result<ControlFlow<()>, Fault> {
        if self.book.is_writing.load(Ordering::Relaxed) && !self.plan.writes_to.is_empty() {
            if self.next_due <= Instant::now() {
                self.next_due = Instant::now() + self.plan.interval;
                self.write(link)?;
            }
        } else {
            self.next_due = Instant::now() + Duration::from_millis(20);
        }
        let Some(frame) = link.receive(self.next_due)? else {
            self.commit(link)?;
            return Ok(ControlFlow::Continue(()));
        };
        match frame["type"].as_str().unwrap() {
            "USER_DELIVER" => {
                self.on_arrival(Arrival::read(&frame));
                // Mostly several at once.
                if self.rng.random_ratio(1, 4) {
                    self.commit(link)?;
                }
            }
            "ACK" => self.on_ack(&frame, &link.server_id),
            "ERROR" => return Ok(self.on_error(&frame)),
            _ => {}
        }
        Ok(ControlFlow::Continue(()))
    }

    fn write(&mut self, link: &mut AckLink) -> Result<(), Fault> {
        let at = self.rng.random_range(0..self.plan.writes_to.len());
        let (to, home) = &self.plan.writes_to[at];
        let number = self.last_written.entry(Arc::clone(to)).or_default();
        *number += 1;
        let letter = Letter::write(&self.user, (to, home), *number);
        let message = (Arc::clone(&self.user), Arc::clone(to), *number);
        self.book.messages.lock().unwrap().written.insert(message);
        let frame = Arc::clone(&letter.frame);
        self.outbox.push_back(letter);
        link.send(&frame)
    }

    fn on_ack(&mut self, frame: &Value, server: &str) {
        let payload = &frame["payload"];
        // Of another server it is a hint; only the own one promises.
        if payload["server_id"] != server {
            return;
        }
        assert_eq!(payload["status"], "stored", "{}: {frame}", self.name);
        for msg_ref in refs_of(payload) {
            if let Some(letter) = self.take_letter(msg_ref) {
                let message = (Arc::clone(&self.user), letter.to, letter.number);
                self.book.messages.lock().unwrap().stored.insert(message);
            }
        }
    }

    fn on_error(&mut self, frame: &Value) -> ControlFlow<()> {
        let payload = &frame["payload"];
        if let Some(seq) = payload["seq"].as_u64() {
            self.after = self.after.max(seq);
        }
        let Some(msg_ref) = payload["msg_ref"].as_str() else {
            panic!("{}: {frame}", self.name);
        };
        if payload["code"] == "NOT_STORED" {
            return ControlFlow::Break(());
        }
        // A refusal that comes later is about what was stored: nobody waits for it here.
        let letter = self.take_letter(msg_ref);
        let (to, number) = letter.map_or_else(|| panic!("{}: {frame}", self.name), |letter| (letter.to, letter.number));
        let message = (Arc::clone(&self.user), to, number);
        let mut messages = self.book.messages.lock().unwrap();
        messages.refused.insert(message, payload.to_string());
        ControlFlow::Continue(())
    }

    fn take_letter(&mut self, msg_ref: &str) -> Option<Letter> {
        let at = self.outbox.iter().position(|letter| letter.msg_ref == msg_ref)?;
        self.outbox.remove(at)
    }

    fn on_arrival(&mut self, arrival: Arrival) {
        let Arrival { seq, from, number, .. } = &arrival;
        let before = self.came.last().map_or(self.after, |last| last.seq);
        assert!(
            *seq > before,
            "{}: number {seq} comes after {before}; on its disk is {}",
            self.name,
            self.after
        );
        let message = (from.clone(), *number);
        let known = self.by_number.entry(*seq).or_insert_with(|| message.clone());
        assert_eq!(*known, message, "{}: number {seq} is used twice", self.name);
        self.came.push(arrival);
    }

    /// Writes down what came, shows it, and says so; or falls down before, between or after.
    fn commit(&mut self, link: &mut AckLink) -> Result<(), Fault> {
        let Some(up_to) = self.came.last().map(|last| last.seq) else {
            return Ok(());
        };
        let fall = self.rng.random_range(0..90);
        let falls_at = |place| {
            if fall == place {
                self.book.cuts.fetch_add(1, Ordering::Relaxed);
                return Err(Fault::Lost("cut off by itself".to_owned()));
            }
            Ok(())
        };
        falls_at(0)?;
        let came = std::mem::take(&mut self.came);
        let falls_later = [falls_at(1), falls_at(2)];
        for arrival in came {
            self.show(&arrival);
        }
        self.after = up_to;
        let [before_ack, after_ack] = falls_later;
        before_ack?;
        link.acknowledge(&self.plan.who, up_to)?;
        after_ack
    }

    fn show(&mut self, arrival: &Arrival) {
        let from: Arc<str> = arrival.from.as_str().into();
        let message = (Arc::clone(&from), Arc::clone(&self.user), arrival.number);
        if !self.shown.insert(message.clone()) {
            self.book.came_again.fetch_add(1, Ordering::Relaxed);
            return;
        }
        let last = self.last_shown.entry(from).or_default();
        assert!(
            arrival.number > *last,
            "{}: OUT OF ORDER: {message:?} after {last}",
            self.name
        );
        *last = arrival.number;
        let mut messages = self.book.messages.lock().unwrap();
        messages.shown.entry(self.name.clone()).or_default().insert(message);
    }
}
