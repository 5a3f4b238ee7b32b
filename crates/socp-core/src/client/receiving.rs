//! Files on their way in (SOCP §9.4, PROTOCOL I.9).
//!
//! Chunks come in strict order, each vouched for by the author's signature, or, from programs that do not sign, by the
//! manifest's hash at the end. At the first fault the transfer is given up, what was written is removed, and both people
//! are told. An author of ours sends no more than [`FILE_WINDOW_CHUNKS`] beyond what we say is written, so that a slow
//! reader's server never has to hold more for it than it may.

use super::around::Around;
use super::channel::CHANNEL_ID;
use super::file_io::{FileFault, FileNews, FileStage, FileWork, Source};
use super::io::{Event, Output, Person, Ticket};
use super::outbox::Outbox;
use super::pins::Pins;
use crate::clock::{Mono, Now};
use socp_proto::limits::FILE_CHUNK_BYTES;
use socp_proto::payload::{FileChunk, FileMode, FileStart, FileStatus};
use socp_proto::{Address, Frame, FrameKind, Payload, UserId};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// Files that may arrive at the same time (our choice).
pub const INCOMING_COUNT_MAX: usize = 8;
/// Files that one author may send at the same time (our choice).
pub const INCOMING_PER_AUTHOR_COUNT_MAX: usize = 4;
/// Files that one author may begin within [`BEGUN_PERIOD_MS`], so that nobody fills the folder with small ones (our
/// choice).
pub const BEGUN_PER_AUTHOR_COUNT_MAX: usize = 20;
/// See [`BEGUN_PER_AUTHOR_COUNT_MAX`].
pub const BEGUN_PERIOD_MS: u64 = 60_000;
/// Bytes that one run of the program keeps of all authors together, so that nobody fills the disk; whoever allows a
/// larger file than that may have as much (our choice).
pub const KEPT_BYTES_MAX: u64 = 512 * 1024 * 1024;
/// A transfer of which nothing is heard for this long is given up (our choice).
pub const FILE_IDLE_MAX_MS: u64 = 60_000;
/// Chunks that an author of ours sends beyond what is reported as written; eight such transfers stay below what a server
/// holds for one link, 1 MiB (our choice).
pub const FILE_WINDOW_CHUNKS: u64 = 32;
/// After so many chunks the receiver reports (our choice).
pub const FILE_REPORT_CHUNKS: u64 = 16;
/// Frames of a transfer that wait for the author's key (our choice).
const HELD_FRAMES_COUNT_MAX: usize = 64;
/// Transfers that are remembered when they are over, so that none happens twice (our choice).
const ENDED_COUNT_MAX: usize = 1_024;
/// Least time between two events about how far a file is (our choice).
const PROGRESS_INTERVAL_MS: u64 = 1_000;

/// Which transfer: ids are their authors' choice.
type Name = (UserId, String);

/// A word to the author.
#[derive(Debug)]
pub(super) struct Word {
    pub(super) to: UserId,
    pub(super) file_id: String,
    pub(super) status: FileStatus,
    pub(super) detail: Option<String>,
}

#[derive(Debug, PartialEq, Eq)]
enum Stage {
    /// The author's key was asked for; the frames wait.
    WaitKey(VecDeque<Frame>),
    Running,
    /// All is written, as far as it came; the driver checks it.
    Keeping,
    /// Given up; both people are told when nothing of it is left.
    Discarding(FileFault),
}

#[derive(Debug)]
struct Incoming {
    name: Name,
    from: Person,
    to: UserId,
    start: FileStart,
    stage: Stage,
    /// As far as it is known.
    total: Option<u64>,
    next_index: u64,
    written_chunks: u64,
    written_bytes: u64,
    /// The driver has found the beginning to be good: its signature, if it has one, and the place for it.
    is_begun: bool,
    last_heard: Mono,
    last_told: Mono,
}

impl Incoming {
    fn is_signed(&self) -> bool {
        self.start.content_sig.is_some()
    }

    /// Whether its author may be waiting for reports: only who signs is a program of ours.
    fn wants_reports(&self) -> bool {
        self.is_signed() && self.total.is_some_and(|total| total > FILE_WINDOW_CHUNKS)
    }

    fn deadline(&self) -> Option<Mono> {
        match self.stage {
            Stage::WaitKey(_) | Stage::Running => Some(self.last_heard.saturating_add(FILE_IDLE_MAX_MS)),
            Stage::Keeping | Stage::Discarding(_) => None,
        }
    }

    /// Nothing but the driver's answer ends it any more.
    fn is_with_driver(&self) -> bool {
        matches!(self.stage, Stage::Keeping | Stage::Discarding(_))
    }

    fn is_given_up(&self) -> bool {
        matches!(self.stage, Stage::Discarding(_))
    }

    fn news(&self, stage: FileStage) -> Event {
        Event::File(FileNews {
            id: self.start.file_id.clone(),
            from: self.from.clone(),
            to: self.to.clone(),
            mode: self.start.mode,
            name: self.start.name.clone(),
            size: self.start.size,
            verified: self.is_begun && self.is_signed(),
            is_begun: self.is_begun,
            stage,
        })
    }

    /// What is wrong with the place of this chunk.
    fn fault_of(&self, chunk: &FileChunk) -> Option<FileFault> {
        if chunk.index != self.next_index {
            let (expected, got) = (self.next_index, chunk.index);
            return Some(FileFault::Order { expected, got });
        }
        if self.is_signed() && chunk.content_sig.is_none() {
            return Some(FileFault::Unsigned(chunk.index));
        }
        let size = self.start.size;
        if let Some(total) = chunk.total {
            let fits = (chunk_count(size)..=size).contains(&total);
            if !fits || self.total.is_some_and(|known| known != total) {
                return Some(FileFault::Total { total });
            }
        }
        // Every chunk holds a byte at least.
        let count_max = chunk.total.or(self.total).unwrap_or(size);
        (chunk.index >= count_max).then_some(FileFault::Order {
            expected: count_max,
            got: chunk.index,
        })
    }
}

/// How many chunks of ours a file of this size has.
pub(super) fn chunk_count(size: u64) -> u64 {
    let chunk = u64::try_from(FILE_CHUNK_BYTES).unwrap_or(u64::MAX);
    size.div_ceil(chunk)
}

/// Files to us under way.
#[derive(Debug)]
pub(super) struct Receiving {
    user: UserId,
    /// Largest file in bytes; none are taken without.
    size_max: Option<u64>,
    incoming: BTreeMap<Ticket, Incoming>,
    next_ticket: Ticket,
    /// When files were begun, of each author, oldest first; no older ones than count.
    begun: BTreeMap<UserId, VecDeque<Mono>>,
    kept_bytes: u64,
    ended: BTreeSet<Name>,
    ended_by_age: VecDeque<Name>,
    /// Authors whose files for everyone at once were mentioned.
    unreadable: BTreeSet<UserId>,
    words: Vec<Word>,
}

impl Receiving {
    pub(super) fn new(user: UserId, size_max: Option<u64>) -> Self {
        Self {
            user,
            size_max,
            incoming: BTreeMap::new(),
            next_ticket: 0,
            begun: BTreeMap::new(),
            kept_bytes: 0,
            ended: BTreeSet::new(),
            ended_by_age: VecDeque::new(),
            unreadable: BTreeSet::new(),
            words: Vec::new(),
        }
    }

    /// What authors are to be told.
    pub(super) fn take_words(&mut self) -> Vec<Word> {
        std::mem::take(&mut self.words)
    }

    pub(super) fn deadline(&self) -> Option<Mono> {
        self.incoming.values().filter_map(Incoming::deadline).min()
    }

    pub(super) fn on_timeout(&mut self, now: Now, out: &mut Outbox) {
        let is_due = |incoming: &Incoming| incoming.deadline().is_some_and(|deadline| deadline <= now.mono);
        let seconds = FILE_IDLE_MAX_MS / 1_000;
        for ticket in self.tickets(is_due) {
            self.fail(ticket, FileFault::Idle(seconds), out);
        }
    }

    /// A `FILE_START`, `FILE_CHUNK` or `FILE_END` of somebody's file.
    pub(super) fn on_frame(&mut self, frame: Frame, around: &mut Around<'_>) {
        if let Payload::FileStart(start) = &frame.payload {
            let start = start.clone();
            self.on_start(frame, start, around);
        } else if let Payload::FileChunk(chunk) = &frame.payload {
            let name = (UserId::from(frame.envelope.from.clone()), chunk.file_id.clone());
            self.on_chunk(&name, frame, around);
        } else if let Payload::FileEnd(end) = &frame.payload {
            let name = (UserId::from(frame.envelope.from.clone()), end.file_id.clone());
            self.on_end(&name, frame, around);
        }
    }

    fn on_start(&mut self, frame: Frame, start: FileStart, around: &mut Around<'_>) {
        let Around {
            now, pins, people, out, ..
        } = around;
        let author = UserId::from(frame.envelope.from.clone());
        let name = (author.clone(), start.file_id.clone());
        let Some(size_max) = self
            .size_max
            .filter(|_| author != self.user && !self.ended.contains(&name))
        else {
            return;
        };
        let from = people.describe(&author, pins);
        if frame.envelope.to != Address::from(&self.user) {
            return self.on_misaddressed(&frame.envelope.to, from, out);
        }
        if let Some((ticket, known)) = self.find_mut(&name) {
            // Behind the end nothing counts.
            if !known.is_with_driver() {
                self.fail(ticket, FileFault::Repeated, out);
            }
            return;
        }
        let total = start.content_sig.as_ref().map(|_| chunk_count(start.size));
        let sender_pub = start.sender_pub.clone();
        let incoming = Incoming {
            name,
            from,
            to: self.user.clone(),
            start,
            stage: Stage::Running,
            total,
            next_index: 0,
            written_chunks: 0,
            written_bytes: 0,
            is_begun: false,
            last_heard: now.mono,
            last_told: now.mono,
        };
        self.forget_old_beginnings(now.mono);
        let is_revoked = pins.get(&author).is_some_and(|pin| pin.revoked);
        let is_stopped = is_revoked || pins.alarms.is_stopped(&author);
        let fault = is_stopped.then_some(FileFault::KeyChanged);
        let fault = fault.or_else(|| self.refusal(&incoming, size_max));
        let ticket = self.next_ticket;
        self.next_ticket = ticket.wrapping_add(1);
        self.incoming.insert(ticket, incoming);
        if let Some(fault) = fault {
            return self.fail(ticket, fault, out);
        }
        if pins.signer(&author, sender_pub.as_ref()).is_some() {
            return self.begin(ticket, frame, pins, out);
        }
        if let Some(incoming) = self.incoming.get_mut(&ticket) {
            incoming.stage = Stage::WaitKey(VecDeque::from([frame]));
        }
        around.asks.ask_key(around.now, &author, around.out);
    }

    fn refusal(&self, incoming: &Incoming, size_max: u64) -> Option<FileFault> {
        let size = incoming.start.size;
        if size > size_max {
            return Some(FileFault::TooBig { size, max: size_max });
        }
        let by_author = |other: &Incoming| other.name.0 == incoming.name.0;
        let is_full =
            self.incoming.len() >= INCOMING_COUNT_MAX || self.tickets(by_author).len() >= INCOMING_PER_AUTHOR_COUNT_MAX;
        if is_full {
            return Some(FileFault::TooMany);
        }
        // A forged beginning counts only until it is found out, so that it keeps nobody out.
        let unproven = self.tickets(|other| by_author(other) && !other.is_begun).len();
        let begun = self.begun.get(&incoming.name.0).map_or(0, VecDeque::len);
        if begun.saturating_add(unproven) >= BEGUN_PER_AUTHOR_COUNT_MAX {
            return Some(FileFault::TooOften {
                max: BEGUN_PER_AUTHOR_COUNT_MAX,
                seconds: BEGUN_PERIOD_MS / 1_000,
            });
        }
        let max = KEPT_BYTES_MAX.max(size_max);
        let under_way = self.incoming.values().filter(|other| !other.is_given_up());
        let taken = under_way.fold(self.kept_bytes, |sum, other| sum.saturating_add(other.start.size));
        (taken.saturating_add(size) > max).then_some(FileFault::Enough { max })
    }

    fn forget_old_beginnings(&mut self, now: Mono) {
        self.begun.retain(|_, times| {
            times.retain(|at| now.saturating_sub(*at) < BEGUN_PERIOD_MS);
            !times.is_empty()
        });
    }

    /// Some programs send a file for everyone once, which nobody's key opens (PROTOCOL I.9). Told once per author.
    fn on_misaddressed(&mut self, to: &Address, from: Person, out: &mut Outbox) {
        let is_for_all = [CHANNEL_ID, "*"].contains(&to.as_str());
        if self.unreadable.len() >= ENDED_COUNT_MAX || !self.unreadable.insert(from.user_id.clone()) {
            return;
        }
        let why = if is_for_all {
            "it is not encrypted for you"
        } else {
            "it is addressed to somebody else"
        };
        let text = format!("a file that claims to be from {} was not accepted: {why}", from.user_id);
        out.notice(Some(from.user_id), text);
    }

    fn begin(&mut self, ticket: Ticket, frame: Frame, pins: &Pins, out: &mut Outbox) {
        let Some(incoming) = self.incoming.get_mut(&ticket) else {
            return;
        };
        let Some(pin) = pins.get(&incoming.name.0) else {
            return;
        };
        incoming.stage = Stage::Running;
        let start = &incoming.start;
        out.push(Output::File(FileWork::Begin {
            ticket,
            key: pin.pubkey.clone(),
            frame: Box::new(frame),
            source: Source {
                name: start.name.clone(),
                size: start.size,
                sha256: start.sha256.to_ascii_lowercase(),
            },
        }));
    }

    /// Chunks of transfers that we know nothing of are another session's, or come too late.
    fn on_chunk(&mut self, name: &Name, frame: Frame, around: &mut Around<'_>) {
        let Some((ticket, incoming)) = self.find_mut(name) else {
            return;
        };
        incoming.last_heard = around.now.mono;
        match &mut incoming.stage {
            Stage::WaitKey(held) if held.len() < HELD_FRAMES_COUNT_MAX => held.push_back(frame),
            Stage::WaitKey(_) => {
                let why = "too much came before it".to_owned();
                self.fail(ticket, FileFault::NoKey(why), around.out);
            }
            Stage::Running => self.write(ticket, frame, around.pins, around.out),
            // Behind the end nothing counts.
            Stage::Keeping | Stage::Discarding(_) => {}
        }
    }

    fn write(&mut self, ticket: Ticket, frame: Frame, pins: &Pins, out: &mut Outbox) {
        let (Some(incoming), Payload::FileChunk(chunk)) = (self.going_on(ticket), &frame.payload) else {
            return;
        };
        if let Some(fault) = incoming.fault_of(chunk) {
            return self.fail(ticket, fault, out);
        }
        let Some(pin) = pins.get(&incoming.name.0) else {
            return;
        };
        incoming.total = incoming.total.or(chunk.total);
        incoming.next_index = incoming.next_index.saturating_add(1);
        out.push(Output::File(FileWork::Write {
            ticket,
            key: pin.pubkey.clone(),
            frame: Box::new(frame),
        }));
    }

    fn on_end(&mut self, name: &Name, frame: Frame, around: &mut Around<'_>) {
        let Some((ticket, incoming)) = self.find_mut(name) else {
            return;
        };
        incoming.last_heard = around.now.mono;
        match &mut incoming.stage {
            // The last of them is the end, so there is always room for it.
            Stage::WaitKey(held) if held.len() <= HELD_FRAMES_COUNT_MAX => held.push_back(frame),
            Stage::Running => self.finish(ticket, around.out),
            Stage::WaitKey(_) | Stage::Keeping | Stage::Discarding(_) => {}
        }
    }

    fn finish(&mut self, ticket: Ticket, out: &mut Outbox) {
        let Some(incoming) = self.going_on(ticket) else {
            return;
        };
        let got = incoming.next_index;
        if let Some(total) = incoming.total.filter(|total| *total != got) {
            return self.fail(ticket, FileFault::Missing { got, total }, out);
        }
        incoming.stage = Stage::Keeping;
        out.push(Output::File(FileWork::Keep { ticket }));
    }

    pub(super) fn on_key(&mut self, user: &UserId, pins: &Pins, out: &mut Outbox) {
        for ticket in self.waiting_for(user) {
            let Some(incoming) = self.incoming.get_mut(&ticket) else {
                continue;
            };
            let Stage::WaitKey(held) = std::mem::replace(&mut incoming.stage, Stage::Running) else {
                continue;
            };
            for frame in held {
                let kind = frame.envelope.kind;
                if kind == FrameKind::FileStart {
                    self.begin(ticket, frame, pins, out);
                } else if kind == FrameKind::FileChunk {
                    self.write(ticket, frame, pins, out);
                } else {
                    self.finish(ticket, out);
                }
            }
        }
    }

    pub(super) fn on_no_key(&mut self, user: &UserId, why: &str, out: &mut Outbox) {
        for ticket in self.waiting_for(user) {
            self.fail(ticket, FileFault::NoKey(why.to_owned()), out);
        }
    }

    /// Nothing more of this author is kept.
    pub(super) fn on_stop(&mut self, author: &UserId, out: &mut Outbox) {
        for ticket in self.tickets(|incoming| incoming.name.0 == *author) {
            self.fail(ticket, FileFault::KeyChanged, out);
        }
    }

    pub(super) fn on_begun(&mut self, now: Now, ticket: Ticket, result: Result<(), FileFault>, out: &mut Outbox) {
        let Some(incoming) = self.going_on(ticket) else {
            return;
        };
        if let Err(fault) = result {
            return self.fail(ticket, fault, out);
        }
        incoming.is_begun = true;
        out.event(incoming.news(FileStage::Started));
        let author = incoming.name.0.clone();
        self.begun.entry(author).or_default().push_back(now.mono);
        self.report(ticket);
    }

    pub(super) fn on_written(&mut self, now: Now, ticket: Ticket, result: Result<u64, FileFault>, out: &mut Outbox) {
        let Some(incoming) = self.going_on(ticket) else {
            return;
        };
        let bytes = match result {
            Ok(bytes) => bytes,
            Err(fault) => return self.fail(ticket, fault, out),
        };
        incoming.written_bytes = incoming.written_bytes.saturating_add(bytes);
        incoming.written_chunks = incoming.written_chunks.saturating_add(1);
        let is_due = now.mono.saturating_sub(incoming.last_told) >= PROGRESS_INTERVAL_MS;
        if is_due {
            incoming.last_told = now.mono;
            out.event(incoming.news(FileStage::Receiving(incoming.written_bytes)));
        }
        if incoming.written_chunks.is_multiple_of(FILE_REPORT_CHUNKS) {
            self.report(ticket);
        }
    }

    fn report(&mut self, ticket: Ticket) {
        let Some(incoming) = self.incoming.get(&ticket).filter(|it| it.wants_reports()) else {
            return;
        };
        let (to, file_id) = incoming.name.clone();
        self.words.push(Word {
            to,
            file_id,
            status: FileStatus::Receiving,
            detail: Some(incoming.written_chunks.to_string()),
        });
    }

    pub(super) fn on_kept(&mut self, ticket: Ticket, result: Result<String, FileFault>, out: &mut Outbox) {
        let path = match result {
            Ok(path) => path,
            Err(fault) => return self.fail(ticket, fault, out),
        };
        // Whatever was wrong meanwhile, the file is there.
        // So that the author learns which file it was: an unsigned one may be anybody's.
        let digest = self
            .incoming
            .get(&ticket)
            .map(|incoming| incoming.start.sha256.to_ascii_lowercase());
        if let Some(incoming) = self.end(ticket, FileStatus::Received, digest) {
            self.kept_bytes = self.kept_bytes.saturating_add(incoming.start.size);
            out.event(incoming.news(FileStage::Received(path)));
        }
    }

    /// We leave: what is here in part is given up, and its author told. Nothing new is begun.
    pub(super) fn on_close(&mut self, out: &mut Outbox) {
        self.size_max = None;
        for ticket in self.tickets(|incoming| incoming.stage != Stage::Keeping) {
            self.fail(ticket, FileFault::Left, out);
        }
    }

    /// Whether some transfer is not over.
    pub(super) fn is_busy(&self) -> bool {
        !self.incoming.is_empty()
    }

    /// Who sends to us has lost sight of us as well; the person here is told at once. What the driver has yet to say of
    /// the others is for both, whenever it comes.
    pub(super) fn on_disconnected(&mut self, out: &mut Outbox) {
        let unsaid = self.words.len();
        for ticket in self.tickets(|incoming| !incoming.is_with_driver()) {
            self.fail(ticket, FileFault::Lost, out);
            self.on_discarded(ticket, out);
        }
        self.words.truncate(unsaid);
    }

    fn fail(&mut self, ticket: Ticket, fault: FileFault, out: &mut Outbox) {
        if let Some(incoming) = self.going_on(ticket) {
            incoming.stage = Stage::Discarding(fault);
            out.push(Output::File(FileWork::Discard { ticket }));
        }
    }

    pub(super) fn on_discarded(&mut self, ticket: Ticket, out: &mut Outbox) {
        let Some(Stage::Discarding(fault)) = self.incoming.get(&ticket).map(|incoming| &incoming.stage) else {
            return;
        };
        let fault = fault.clone();
        if let Some(incoming) = self.end(ticket, FileStatus::Failed, Some(fault.to_string())) {
            out.event(incoming.news(FileStage::Failed(fault)));
        }
    }

    fn going_on(&mut self, ticket: Ticket) -> Option<&mut Incoming> {
        self.incoming
            .get_mut(&ticket)
            .filter(|incoming| !incoming.is_given_up())
    }

    fn end(&mut self, ticket: Ticket, status: FileStatus, detail: Option<String>) -> Option<Incoming> {
        let incoming = self.incoming.remove(&ticket)?;
        // A forged beginning must not keep the true one out.
        if incoming.is_begun && self.ended.insert(incoming.name.clone()) {
            self.ended_by_age.push_back(incoming.name.clone());
        }
        if self.ended_by_age.len() > ENDED_COUNT_MAX {
            let oldest = self.ended_by_age.pop_front();
            oldest.map(|oldest| self.ended.remove(&oldest));
        }
        let (to, file_id) = incoming.name.clone();
        self.words.push(Word {
            to,
            file_id,
            status,
            detail,
        });
        Some(incoming)
    }

    fn waiting_for(&self, user: &UserId) -> Vec<Ticket> {
        self.tickets(|incoming| incoming.name.0 == *user && matches!(incoming.stage, Stage::WaitKey(_)))
    }

    fn find_mut(&mut self, name: &Name) -> Option<(Ticket, &mut Incoming)> {
        let found = self.incoming.iter_mut().find(|(_, incoming)| incoming.name == *name);
        found.map(|(ticket, incoming)| (*ticket, incoming))
    }

    fn tickets(&self, is_meant: impl Fn(&Incoming) -> bool) -> Vec<Ticket> {
        let meant = self.incoming.iter().filter(|(_, incoming)| is_meant(incoming));
        meant.map(|(ticket, _)| *ticket).collect()
    }
}

impl FileNews {
    /// What the conversation is called in which it was sent.
    #[must_use]
    pub fn is_for_channel(&self) -> bool {
        self.mode == FileMode::Public
    }
}
