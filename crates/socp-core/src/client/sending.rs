//! Files on their way out (SOCP §9.4, PROTOCOL I.9).
//!
//! One transfer at a time: to the members of the channel one after the other. After `FILE_START` a fence shows that the
//! server takes files for this user; then chunks go as fast as three things allow: the driver seals only a few at once,
//! so that other words of ours are never far behind; a fence every [`FENCE_CHUNKS`] bounds what the server has not
//! taken; and no more than [`FILE_WINDOW_CHUNKS`] go beyond what the receiver reports as written. A receiver whose
//! program does not report is sent [`UNREPORTED_CHUNKS_PER_S`], which any machine keeps up with. After `FILE_END` the
//! receiver's verdict is waited for; of several programs of one user, one that received is enough.

use super::around::Around;
use super::asks::Why;
use super::fault::TellFault;
use super::file_io::{FileProgress, FileReport, FileWork, SealChunk, SendFault, Source, Target};
use super::io::{Event, Output, Person, Sealed, Ticket};
use super::outbox::Outbox;
use super::people::Members;
use super::receiving::{FILE_IDLE_MAX_MS, FILE_WINDOW_CHUNKS, chunk_count};
use crate::clock::{Mono, Now};
use socp_proto::limits::FILE_CHUNK_BYTES;
use socp_proto::payload::{ErrorNotice, FileChunk, FileEnd, FileMode, FileStart, FileStatus, msg_ref};
use socp_proto::{Address, KeyText, Payload, UserId};
use std::collections::VecDeque;

/// Files that wait to be sent (our choice).
pub const FILES_COUNT_MAX: usize = 64;
/// Chunks that the driver may be sealing (our choice).
const SEALING_COUNT_MAX: u64 = 4;
/// Chunks between one fence and the next (our choice).
const FENCE_CHUNKS: u64 = 16;
/// Chunks sent that the server has not surely taken (our choice).
const UNFENCED_CHUNKS_MAX: u64 = 2 * FENCE_CHUNKS;
/// A program that has not reported by then does not report (our choice).
const REPORT_WAIT_MAX_MS: u64 = 5_000;
/// Chunks in a second for a receiver that does not report: a quarter of what one core opens (our choice).
pub const UNREPORTED_CHUNKS_PER_S: u64 = 40;
/// How long the verdict is waited for at least, and then for each chunk, and at most (our choice).
const VERDICT_WAIT_MIN_MS: u64 = 15_000;
const VERDICT_WAIT_PER_CHUNK_MS: u64 = 20;
const VERDICT_WAIT_MAX_MS: u64 = 120_000;
/// After one program of the receiver gave up, another may still show that it goes on (our choice).
const SECOND_OPINION_WAIT_MS: u64 = 2_000;
/// References of frames that are remembered, so that a refusal finds its transfer (our choice).
const REFS_COUNT_MAX: usize = 256;

/// One file to send, to one user or to many.
#[derive(Debug)]
struct Job {
    ticket: Ticket,
    source: Source,
    seed: [u8; 32],
    mode: FileMode,
    /// None until the list of users is complete.
    waiting: Option<VecDeque<UserId>>,
    members: usize,
    begun: usize,
    results: Vec<(UserId, Result<Verdict, SendFault>)>,
}

/// How a transfer ended well.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Received,
    Unconfirmed,
}

/// What bounds how far ahead of the receiver we may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Pace {
    /// Nothing is known of its program yet; since when we wait for it, if we do.
    Unknown { blocked: Option<Mono> },
    /// It has written so many.
    Reported { chunks: u64, at: Mono },
    /// It does not report.
    Timed { base: u64, since: Mono },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    WaitKey,
    /// The manifest is being signed, or is sent and not yet behind an answered fence.
    Starting,
    Sending,
    /// All is sent; the receiver's verdict is due by then.
    Ended {
        deadline: Mono,
    },
}

/// One transfer to one user.
#[derive(Debug)]
struct Transfer {
    ticket: Ticket,
    job: Ticket,
    to: UserId,
    file_id: String,
    member: usize,
    size: u64,
    total: u64,
    stage: Stage,
    pace: Pace,
    /// Chunks asked of the driver, sent, and taken by the server.
    asked: u64,
    sent: u64,
    fenced: u64,
    last_fence: u64,
    /// What a refusal of its manifest would name.
    start_ref: Option<String>,
    /// What a program of the receiver gave it up for, and until when another may say otherwise.
    given_up: Option<(String, Mono)>,
}

impl Transfer {
    fn is_active(&self) -> bool {
        !matches!(self.stage, Stage::Ended { .. })
    }

    /// How many chunks may have been sent by now.
    fn limit(&self, now: Mono) -> u64 {
        let paced = match self.pace {
            Pace::Unknown { .. } => FILE_WINDOW_CHUNKS,
            Pace::Reported { chunks, .. } => chunks.saturating_add(FILE_WINDOW_CHUNKS),
            Pace::Timed { base, since } => {
                let waited = now.saturating_sub(since);
                base.saturating_add(waited.saturating_mul(UNREPORTED_CHUNKS_PER_S) / 1_000)
            }
        };
        paced
            .min(self.fenced.saturating_add(UNFENCED_CHUNKS_MAX))
            .min(self.total)
    }

    /// Why it ends where nobody is there to take what was refused, or we do not know what.
    fn absence(&self, refused: Option<&str>) -> SendFault {
        // The receiver was there for the manifest if only what came behind it was refused.
        let was_there = match refused {
            Some(refused) => self.start_ref.as_deref().is_some_and(|start| start != refused),
            None => self.fenced > 0 || matches!(self.pace, Pace::Reported { .. }),
        };
        if was_there {
            SendFault::Left
        } else {
            TellFault::NotOnline(self.to.clone()).into()
        }
    }

    /// When something has to be done although nothing arrives.
    fn deadline(&self) -> Option<Mono> {
        if let Some((_, deadline)) = &self.given_up {
            return Some(*deadline);
        }
        match (self.stage, self.pace) {
            (Stage::Ended { deadline }, _) => Some(deadline),
            (Stage::Sending, Pace::Unknown { blocked }) => {
                blocked.map(|since| since.saturating_add(REPORT_WAIT_MAX_MS))
            }
            (Stage::Sending, Pace::Reported { at, .. }) => Some(at.saturating_add(FILE_IDLE_MAX_MS)),
            (Stage::Sending, Pace::Timed { base, since }) => {
                let chunks = self.asked.saturating_add(1).saturating_sub(base);
                let wait = chunks.saturating_mul(1_000).div_ceil(UNREPORTED_CHUNKS_PER_S);
                // Else it is the server or the driver that we wait for.
                let is_free = self.asked < self.total.min(self.fenced.saturating_add(UNFENCED_CHUNKS_MAX))
                    && self.asked.saturating_sub(self.sent) < SEALING_COUNT_MAX;
                is_free.then(|| since.saturating_add(wait))
            }
            (Stage::WaitKey | Stage::Starting, _) => None,
        }
    }

    fn bytes_sent(&self) -> u64 {
        let chunk = u64::try_from(FILE_CHUNK_BYTES).unwrap_or(u64::MAX);
        self.sent.saturating_mul(chunk).min(self.size)
    }
}

/// A fence behind frames of a transfer.
#[derive(Debug)]
struct Fence {
    number: Ticket,
    transfer: Ticket,
    chunks: u64,
}

/// A request to send a file.
#[derive(Debug)]
pub(super) struct SendFile {
    pub(super) ticket: Ticket,
    pub(super) target: Target,
    pub(super) source: Source,
    pub(super) seed: [u8; 32],
}

/// Our own files under way.
#[derive(Debug)]
pub(super) struct Sending {
    pubkey: KeyText,
    jobs: VecDeque<Job>,
    transfers: Vec<Transfer>,
    fences: VecDeque<Fence>,
    refs: VecDeque<(String, Option<Ticket>)>,
    starts: Vec<(Ticket, Payload, UserId)>,
    next_ticket: Ticket,
    next_fence: Ticket,
}

impl Sending {
    pub(super) fn new(pubkey: KeyText) -> Self {
        Self {
            pubkey,
            jobs: VecDeque::new(),
            transfers: Vec::new(),
            fences: VecDeque::new(),
            refs: VecDeque::new(),
            starts: Vec::new(),
            next_ticket: 0,
            next_fence: 0,
        }
    }

    /// Begins when it is its turn; [`Sending::pump`] does the rest.
    pub(super) fn send_file(&mut self, file: SendFile, online: bool, out: &mut Outbox) {
        let refusal = if !online {
            Some(TellFault::Offline)
        } else if self.jobs.len() >= FILES_COUNT_MAX {
            Some(TellFault::Busy)
        } else {
            None
        };
        if let Some(why) = refusal {
            return end_job(file.ticket, Err(why.into()), out);
        }
        let (mode, waiting) = match file.target {
            Target::User(user) => (FileMode::Dm, Some(VecDeque::from([user]))),
            Target::Everyone => (FileMode::Public, None),
        };
        self.jobs.push_back(Job {
            ticket: file.ticket,
            source: file.source,
            seed: file.seed,
            mode,
            members: waiting.as_ref().map_or(0, VecDeque::len),
            waiting,
            begun: 0,
            results: Vec::new(),
        });
    }

    /// Manifests that are to be signed.
    pub(super) fn take_starts(&mut self) -> Vec<(Ticket, Payload, UserId)> {
        std::mem::take(&mut self.starts)
    }

    pub(super) fn deadline(&self) -> Option<Mono> {
        self.transfers.iter().filter_map(Transfer::deadline).min()
    }

    pub(super) fn on_timeout(&mut self, now: Now) {
        let due: Vec<Ticket> = self
            .transfers
            .iter()
            .filter(|transfer| transfer.deadline().is_some_and(|deadline| deadline <= now.mono))
            .map(|transfer| transfer.ticket)
            .collect();
        for ticket in due {
            let Some(transfer) = self.get_mut(ticket) else {
                continue;
            };
            if let Some((why, _)) = transfer.given_up.take() {
                self.end(ticket, Err(SendFault::GivenUp(why)));
                continue;
            }
            match (transfer.stage, transfer.pace) {
                (Stage::Ended { .. }, _) => self.end(ticket, Ok(Verdict::Unconfirmed)),
                (_, Pace::Unknown { .. }) => {
                    transfer.pace = Pace::Timed {
                        base: transfer.asked,
                        since: now.mono,
                    };
                }
                (_, Pace::Reported { .. }) => self.end(ticket, Err(SendFault::Silent)),
                // More chunks may go; the pump sees to it.
                (_, Pace::Timed { .. }) => {}
            }
        }
    }

    /// Begins what is next, sends as many chunks as may go, and ends what is through.
    pub(super) fn pump(&mut self, around: &mut Around<'_>) {
        self.find_members(around);
        while let Some((job, to)) = self.next_transfer() {
            self.begin(job, to, around);
        }
        self.ask_chunks(around);
        self.end_finished(around);
    }

    fn find_members(&mut self, around: &mut Around<'_>) {
        let mut refused = Vec::new();
        for job in self.jobs.iter_mut().filter(|job| job.waiting.is_none()) {
            match around.people.members(around.out.user()) {
                Members::NotYet => break,
                Members::Unknown(why) => refused.push((job.ticket, TellFault::NoList(why))),
                Members::Are(members) if members.is_empty() => refused.push((job.ticket, TellFault::Alone)),
                Members::Are(members) => {
                    job.members = members.len();
                    job.waiting = Some(members.into());
                }
            }
        }
        for (ticket, why) in refused {
            self.jobs.retain(|job| job.ticket != ticket);
            end_job(ticket, Err(why.into()), around.out);
        }
    }

    fn next_transfer(&mut self) -> Option<(Ticket, UserId)> {
        if self.transfers.iter().any(Transfer::is_active) {
            return None;
        }
        let is_unfinished = |job: &&mut Job| job.waiting.as_ref().is_some_and(|waiting| !waiting.is_empty());
        let job = self.jobs.iter_mut().find(is_unfinished)?;
        let to = job.waiting.as_mut()?.pop_front()?;
        Some((job.ticket, to))
    }

    fn begin(&mut self, job: Ticket, to: UserId, around: &mut Around<'_>) {
        let Some(job) = self.jobs.iter_mut().find(|it| it.ticket == job) else {
            return;
        };
        let member = job.begun;
        job.begun = job.begun.saturating_add(1);
        let is_gone = job.mode == FileMode::Public && around.people.get(&to).is_none();
        let gone = is_gone.then(|| TellFault::NotOnline(to.clone()));
        if let Some(fault) = around.pins.refusal(&to).or(gone) {
            return job.results.push((to, Err(fault.into())));
        }
        let ticket = self.next_ticket;
        self.next_ticket = ticket.wrapping_add(1);
        self.transfers.push(Transfer {
            ticket,
            job: job.ticket,
            file_id: file_id(&job.seed, member),
            member,
            size: job.source.size,
            total: chunk_count(job.source.size),
            to,
            stage: Stage::WaitKey,
            pace: Pace::Unknown { blocked: None },
            asked: 0,
            sent: 0,
            fenced: 0,
            last_fence: 0,
            start_ref: None,
            given_up: None,
        });
        self.start(ticket, around);
    }

    /// Has the manifest signed, or the key asked for.
    fn start(&mut self, ticket: Ticket, around: &mut Around<'_>) {
        let Some(transfer) = self.transfers.iter_mut().find(|it| it.ticket == ticket) else {
            return;
        };
        if around.pins.newest(&transfer.to).is_none() {
            return around.asks.ask_key(around.now, &transfer.to, around.out);
        }
        let Some(job) = self.jobs.iter().find(|job| job.ticket == transfer.job) else {
            return;
        };
        transfer.stage = Stage::Starting;
        let start = FileStart {
            file_id: transfer.file_id.clone(),
            name: job.source.name.clone(),
            size: job.source.size,
            sha256: job.source.sha256.clone(),
            mode: job.mode,
            sender_pub: Some(self.pubkey.clone()),
            content_sig: None,
        };
        self.starts
            .push((ticket, Payload::FileStart(start), transfer.to.clone()));
    }

    pub(super) fn on_key(&mut self, user: &UserId, around: &mut Around<'_>) {
        for ticket in self.tickets(|it| it.to == *user && it.stage == Stage::WaitKey) {
            self.start(ticket, around);
        }
    }

    pub(super) fn on_no_key(&mut self, user: &UserId, fault: &TellFault) {
        for ticket in self.tickets(|it| it.to == *user && it.stage == Stage::WaitKey) {
            self.end(ticket, Err(fault.clone().into()));
        }
    }

    /// Nothing more is sent to this user.
    pub(super) fn on_stop(&mut self, user: &UserId, fault: &TellFault) {
        for ticket in self.tickets(|it| it.to == *user) {
            self.end(ticket, Err(fault.clone().into()));
        }
    }

    /// The manifest was sent; the server's word on it is waited for.
    pub(super) fn on_started(&mut self, ticket: Ticket, msg_ref: String, around: &mut Around<'_>) {
        if let Some(transfer) = self.get_mut(ticket) {
            transfer.start_ref = Some(msg_ref.clone());
        }
        self.remember(msg_ref, Some(ticket));
        self.fence(ticket, around);
    }

    /// The manifest could not be signed.
    pub(super) fn on_not_started(&mut self, ticket: Ticket, why: String) {
        self.end(ticket, Err(SendFault::Source(why)));
    }

    fn ask_chunks(&mut self, around: &mut Around<'_>) {
        let now = around.now.mono;
        let may_go = |it: &&mut Transfer| it.stage == Stage::Sending && it.given_up.is_none();
        let Some(transfer) = self.transfers.iter_mut().find(may_go) else {
            return;
        };
        let Some(pin) = around.pins.get(&transfer.to) else {
            return;
        };
        let limit = transfer.limit(now);
        while transfer.asked < limit && transfer.asked.saturating_sub(transfer.sent) < SEALING_COUNT_MAX {
            around.out.push(Output::File(FileWork::Seal(SealChunk {
                ticket: transfer.ticket,
                source: transfer.job,
                key: pin.enc_pubkey.clone(),
                file_id: transfer.file_id.clone(),
                index: transfer.asked,
                total: transfer.total,
                to: transfer.to.clone(),
                ts: around.now.unix,
            })));
            transfer.asked = transfer.asked.saturating_add(1);
        }
        let is_waiting = transfer.asked >= FILE_WINDOW_CHUNKS && transfer.asked < transfer.total;
        if transfer.pace == (Pace::Unknown { blocked: None }) && is_waiting {
            transfer.pace = Pace::Unknown { blocked: Some(now) };
        }
    }

    pub(super) fn on_sealed(
        &mut self,
        ticket: Ticket,
        index: u64,
        ts: u64,
        result: Result<Sealed, SendFault>,
        around: &mut Around<'_>,
    ) {
        let pubkey = self.pubkey.clone();
        let Some(transfer) = self
            .get_mut(ticket)
            .filter(|it| it.stage == Stage::Sending && it.sent == index)
        else {
            return;
        };
        let sealed = match result {
            Ok(sealed) => sealed,
            Err(fault) => return self.abandon(ticket, fault, around),
        };
        let reference = msg_ref(&sealed.content_sig);
        let chunk = FileChunk {
            file_id: transfer.file_id.clone(),
            index,
            ciphertext: sealed.ciphertext,
            total: Some(transfer.total),
            sender_pub: Some(pubkey),
            content_sig: Some(sealed.content_sig),
        };
        around
            .out
            .send_to(Address::from(&transfer.to), ts, &Payload::FileChunk(chunk));
        transfer.sent = transfer.sent.saturating_add(1);
        let is_last = transfer.sent == transfer.total;
        let is_due = transfer.sent.saturating_sub(transfer.last_fence) >= FENCE_CHUNKS;
        self.remember(reference, Some(ticket));
        if is_last {
            self.finish(ticket, around);
        } else if is_due {
            self.fence(ticket, around);
        }
    }

    fn finish(&mut self, ticket: Ticket, around: &mut Around<'_>) {
        let Some(transfer) = self.get_mut(ticket) else {
            return;
        };
        say_end(transfer, around);
        let wait = VERDICT_WAIT_PER_CHUNK_MS.saturating_mul(transfer.total);
        let wait = VERDICT_WAIT_MIN_MS.saturating_add(wait).min(VERDICT_WAIT_MAX_MS);
        let deadline = around.now.mono.saturating_add(wait);
        transfer.stage = Stage::Ended { deadline };
        self.fence(ticket, around);
    }

    fn fence(&mut self, ticket: Ticket, around: &mut Around<'_>) {
        let Some(transfer) = self.get_mut(ticket) else {
            return;
        };
        transfer.last_fence = transfer.sent;
        let chunks = transfer.sent;
        let number = self.next_fence;
        self.next_fence = number.wrapping_add(1);
        self.fences.push_back(Fence {
            number,
            transfer: ticket,
            chunks,
        });
        let ourselves = around.out.user().clone();
        around.asks.ask(around.now, &ourselves, Why::File(number), around.out);
    }

    pub(super) fn on_fence(&mut self, number: Ticket, around: &mut Around<'_>) {
        let Some(fence) = self.take_fence(number) else {
            return;
        };
        let Some(transfer) = self.get_mut(fence.transfer) else {
            return;
        };
        transfer.fenced = transfer.fenced.max(fence.chunks);
        if transfer.stage == Stage::Starting {
            transfer.stage = Stage::Sending;
        }
        let is_empty = transfer.total == 0 && transfer.stage == Stage::Sending;
        self.tell_progress(fence.transfer, around);
        if is_empty {
            self.finish(fence.transfer, around);
        }
    }

    pub(super) fn on_no_fence(&mut self, number: Ticket) {
        if let Some(fence) = self.take_fence(number) {
            self.end(fence.transfer, Err(TellFault::NoAnswer.into()));
        }
    }

    fn take_fence(&mut self, number: Ticket) -> Option<Fence> {
        let index = self.fences.iter().position(|fence| fence.number == number)?;
        self.fences.remove(index)
    }

    fn tell_progress(&mut self, ticket: Ticket, around: &mut Around<'_>) {
        let Some(transfer) = self.transfers.iter().find(|it| it.ticket == ticket) else {
            return;
        };
        let members = self
            .jobs
            .iter()
            .find(|job| job.ticket == transfer.job)
            .map_or(1, |job| job.members);
        around.out.event(Event::FileProgress {
            ticket: transfer.job,
            progress: FileProgress {
                to: around.people.describe(&transfer.to, around.pins),
                member: transfer.member,
                members,
                sent: transfer.bytes_sent(),
                size: transfer.size,
            },
        });
    }

    /// Whether this names a transfer of ours to this user, whose status would matter.
    pub(super) fn is_waiting_for(&self, from: &UserId, file_id: &str) -> bool {
        self.transfers.iter().any(|it| it.to == *from && it.file_id == file_id)
    }

    /// What the receiver says; that it is the receiver was checked.
    pub(super) fn on_status(&mut self, now: Now, from: &UserId, end: &FileEnd) {
        let found = self
            .transfers
            .iter_mut()
            .find(|it| it.to == *from && it.file_id == end.file_id);
        let (Some(transfer), Some(status)) = (found, end.status) else {
            return;
        };
        let ticket = transfer.ticket;
        match status {
            FileStatus::Receiving => {
                let written = end.detail.as_deref().and_then(|detail| detail.parse().ok());
                let Some(written) = written.filter(|written: &u64| *written <= transfer.sent) else {
                    return;
                };
                let is_news = match transfer.pace {
                    Pace::Reported { chunks, .. } => written > chunks,
                    // The first word, even that nothing is written yet, shows that it reports.
                    Pace::Unknown { .. } | Pace::Timed { .. } => written > 0 || transfer.given_up.is_none(),
                };
                // A program that repeats itself is no sign that it, or another, goes on.
                if is_news {
                    transfer.pace = Pace::Reported {
                        chunks: written,
                        at: now.mono,
                    };
                    transfer.given_up = None;
                }
            }
            FileStatus::Received if !transfer.is_active() => {
                let job = transfer.job;
                let result = self.verdict_on(job, end.detail.as_deref());
                self.end(ticket, result);
            }
            // Before the end nobody can have received it.
            FileStatus::Received => {}
            FileStatus::Failed => {
                let why = end.detail.clone().unwrap_or_else(|| "it does not say why".to_owned());
                let deadline = now.mono.saturating_add(SECOND_OPINION_WAIT_MS);
                transfer.given_up.get_or_insert((why, deadline));
            }
        }
    }

    /// A server between us may have put a file of its own, unsigned, in place of ours: the receiver says which it keeps.
    fn verdict_on(&self, job: Ticket, kept: Option<&str>) -> Result<Verdict, SendFault> {
        let ours = self
            .jobs
            .iter()
            .find(|it| it.ticket == job)
            .map(|job| &job.source.sha256);
        match (kept, ours) {
            (Some(kept), Some(ours)) if !kept.eq_ignore_ascii_case(ours) => Err(SendFault::Exchanged),
            (Some(_) | None, _) => Ok(Verdict::Received),
        }
    }

    /// The server refused the frame with this reference; false if there is none such of ours.
    pub(super) fn on_refused(&mut self, refused: &str, error: &ErrorNotice) -> bool {
        let Some((_, ticket)) = self.refs.iter().find(|(reference, _)| reference == refused) else {
            return false;
        };
        if let Some(ticket) = *ticket
            && let Some(transfer) = self.transfers.iter().find(|it| it.ticket == ticket)
        {
            let why = TellFault::of(error, &transfer.to);
            let why = if matches!(why, TellFault::NotOnline(_)) {
                transfer.absence(Some(refused))
            } else {
                why.into()
            };
            self.end(ticket, Err(why));
        }
        true
    }

    /// The server cannot reach this user; false if nothing of ours is on its way there.
    pub(super) fn on_not_found(&mut self, user: &UserId) -> bool {
        let tickets = self.tickets(|it| it.to == *user);
        let is_known = !tickets.is_empty();
        for ticket in tickets {
            let why = self.get_mut(ticket).map(|transfer| transfer.absence(None));
            if let Some(why) = why {
                self.end(ticket, Err(why));
            }
        }
        is_known
    }

    /// The server refused something that it does not name: any frame that no answered fence is behind.
    pub(super) fn on_doubt(&mut self, error: &ErrorNotice) {
        let fences = std::mem::take(&mut self.fences);
        let is_unfenced = |it: &Transfer| fences.iter().any(|fence| fence.transfer == it.ticket);
        let is_doubtful = |it: &Transfer| it.stage != Stage::WaitKey && (it.is_active() || is_unfenced(it));
        for ticket in self.tickets(is_doubtful) {
            let (code, detail) = (error.code.clone(), error.detail.clone());
            self.end(ticket, Err(TellFault::Refused { code, detail }.into()));
        }
    }

    /// We leave: whoever has a part learns that no more will come.
    pub(super) fn on_close(&mut self, around: &mut Around<'_>) {
        for ticket in self.tickets(Transfer::is_active) {
            self.abandon(ticket, SendFault::Cancelled, around);
        }
    }

    pub(super) fn on_disconnected(&mut self) {
        self.fences.clear();
        self.starts.clear();
        for ticket in self.tickets(|_| true) {
            self.end(ticket, Err(TellFault::Lost.into()));
        }
        for job in &mut self.jobs {
            let left = job.waiting.iter_mut().flat_map(std::mem::take);
            job.results.extend(left.map(|to| (to, Err(TellFault::Offline.into()))));
        }
    }

    /// An end before its time: the receiver sees that parts are missing (PROTOCOL I.9).
    fn abandon(&mut self, ticket: Ticket, fault: SendFault, around: &mut Around<'_>) {
        let Some(transfer) = self.get_mut(ticket) else {
            return;
        };
        let job = transfer.job;
        if transfer.stage != Stage::WaitKey {
            say_end(transfer, around);
        }
        self.end(ticket, Err(fault.clone()));
        // A file that cannot be read for one cannot be read for the others.
        if let Some(job) = self.jobs.iter_mut().find(|it| it.ticket == job) {
            let left = job.waiting.iter_mut().flat_map(std::mem::take);
            job.results.extend(left.map(|to| (to, Err(fault.clone()))));
        }
    }

    fn end(&mut self, ticket: Ticket, result: Result<Verdict, SendFault>) {
        let Some(index) = self.transfers.iter().position(|it| it.ticket == ticket) else {
            return;
        };
        let transfer = self.transfers.remove(index);
        // Who has said why before they left is not just gone.
        let result = match (result, transfer.given_up) {
            (Err(SendFault::Left | SendFault::Tell(TellFault::NotOnline(_))), Some((why, _))) => {
                Err(SendFault::GivenUp(why))
            }
            (result, _) => result,
        };
        if let Some(job) = self.jobs.iter_mut().find(|job| job.ticket == transfer.job) {
            job.results.push((transfer.to, result));
        }
    }

    fn end_finished(&mut self, around: &mut Around<'_>) {
        let mut going_on = VecDeque::new();
        for job in std::mem::take(&mut self.jobs) {
            let has_waiting = job.waiting.as_ref().is_none_or(|waiting| !waiting.is_empty());
            if has_waiting || self.transfers.iter().any(|it| it.job == job.ticket) {
                going_on.push_back(job);
            } else {
                let report = report(job.results, around);
                end_job(job.ticket, Ok(report), around.out);
            }
        }
        self.jobs = going_on;
    }

    /// Remembers a frame of ours; without a transfer, so that its refusal is nobody's news.
    pub(super) fn remember(&mut self, msg_ref: String, transfer: Option<Ticket>) {
        if self.refs.len() >= REFS_COUNT_MAX {
            self.refs.pop_front();
        }
        self.refs.push_back((msg_ref, transfer));
    }

    fn get_mut(&mut self, ticket: Ticket) -> Option<&mut Transfer> {
        self.transfers.iter_mut().find(|transfer| transfer.ticket == ticket)
    }

    fn tickets(&self, is_meant: impl Fn(&Transfer) -> bool) -> Vec<Ticket> {
        let meant = self.transfers.iter().filter(|transfer| is_meant(transfer));
        meant.map(|transfer| transfer.ticket).collect()
    }
}

fn say_end(transfer: &Transfer, around: &mut Around<'_>) {
    let end = FileEnd {
        file_id: transfer.file_id.clone(),
        status: None,
        detail: None,
        sender_pub: None,
        content_sig: None,
    };
    let to = Address::from(&transfer.to);
    around.out.send_to(to, around.now.unix, &Payload::FileEnd(end));
}

fn end_job(ticket: Ticket, result: Result<FileReport, SendFault>, out: &mut Outbox) {
    out.push(Output::File(FileWork::Close { source: ticket }));
    out.event(Event::FileSent { ticket, result });
}

fn report(results: Vec<(UserId, Result<Verdict, SendFault>)>, around: &Around<'_>) -> FileReport {
    let mut report = FileReport::default();
    for (user, result) in results {
        let person: Person = around.people.describe(&user, around.pins);
        match result {
            Ok(Verdict::Received) => report.received.push(person),
            Ok(Verdict::Unconfirmed) => report.unconfirmed.push(person),
            Err(SendFault::Left) => report.gone.push(person),
            Err(SendFault::Tell(TellFault::NotOnline(_))) if around.people.get(&user).is_none() => {
                report.gone.push(person);
            }
            Err(why) => report.failed.push((person, why)),
        }
    }
    report
}

/// A UUID of its own for each member, from the command's seed.
fn file_id(seed: &[u8; 32], member: usize) -> String {
    let digest = socp_proto::sha256(&[&seed[..], &member.to_be_bytes()].concat());
    let (head, _) = digest.split_at(16);
    let mut bytes = [0; 16];
    bytes.copy_from_slice(head);
    uuid::Builder::from_random_bytes(bytes).into_uuid().to_string()
}
