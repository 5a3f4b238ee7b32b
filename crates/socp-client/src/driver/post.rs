//! What the core asks of the history, and what the history tells the core (PROTOCOL II.6).

use super::{Driver, blocking};
use crate::error::ClientError;
use crate::history::{History, ToMake, ToSend};
use crate::profile::Profile;
use crate::worker::{Job, Made, Saying};
use socp_core::client::{Event, Making, Message, Place, PostDone, PostId, PostWork, ServerPin, TellFault};
use socp_proto::{DeviceId, Said, ServerId, Speech, UserId, Voice};
use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Events that wait for a face before more is read of what was not shown before.
const CATCH_UP_COUNT: usize = 64;
/// Messages that are marked as shown in one transaction.
const SHOWN_COUNT_MAX: usize = 64;
/// How long such a mark may wait for others.
const SHOWN_WAIT_MAX: Duration = Duration::from_millis(10);

/// The history, and what waits for it.
pub(super) struct Desk {
    pub(super) history: History,
    voice: Voice,
    /// The server, once it is known.
    pub(super) server: Option<ServerId>,
    /// The last row before this program began.
    born: PostId,
    /// Behind which row there are messages that no program has shown.
    catching_up: Option<PostId>,
    /// What the core is told when it has nothing more to ask.
    answers: VecDeque<PostDone>,
    /// Sent to a server without acknowledgements: to whom, what, its reference.
    sent: Vec<(UserId, String, String)>,
    /// What a face has shown, and whether somebody has read it.
    shown: Vec<(String, bool)>,
    pub(super) shown_due: Option<Instant>,
    /// Rows that could not be read and were told of.
    damaged_told: u64,
}

impl Desk {
    pub(super) fn new(history: History, voice: Voice, server: Option<ServerId>, born: PostId) -> Self {
        Self {
            history,
            voice,
            server,
            born,
            catching_up: None,
            answers: VecDeque::new(),
            sent: Vec::new(),
            shown: Vec::new(),
            shown_due: None,
            damaged_told: 0,
        }
    }

    pub(super) fn next_answer(&mut self) -> Option<PostDone> {
        self.answers.pop_front()
    }

    /// While there is something left to show, nothing new is read.
    pub(super) fn is_catching_up(&self) -> bool {
        self.catching_up.is_some()
    }

    pub(super) fn begin_to_catch_up(&mut self) {
        // Once: what comes later is shown when it comes.
        if self.born > 0 {
            self.catching_up = Some(0);
        }
    }

    pub(super) fn on_shown(&mut self, msg_ref: String, is_read: bool) {
        self.shown.push((msg_ref, is_read));
        self.shown_due.get_or_insert_with(|| Instant::now() + SHOWN_WAIT_MAX);
    }

    pub(super) fn on_sent(&mut self, to: UserId, text: String, msg_ref: String) {
        self.sent.push((to, text, msg_ref));
    }

    fn is_shown_due(&self) -> bool {
        self.shown.len() >= SHOWN_COUNT_MAX || self.shown_due.is_some_and(|due| due <= Instant::now())
    }
}

impl Driver {
    pub(super) async fn on_post_work(&mut self, work: PostWork) -> Result<(), ClientError> {
        let done = match work {
            PostWork::Queue { ticket, to, text } => {
                let queued = self.in_history(move |history| history.queue(&to, &text)).await;
                let result = queued.map_err(|error| error.to_string());
                PostDone::Queued { ticket, result }
            }
            PostWork::Reload => return self.reload().await,
            PostWork::Make(making) => {
                self.make(making).await;
                return Ok(());
            }
            PostWork::Dispatch(id) => {
                self.dispatch(id).await;
                return Ok(());
            }
            PostWork::Unmake(id) => match self.in_history(move |history| history.unmake(id)).await {
                Ok(()) => return Ok(()),
                Err(error) => stuck(id, &error),
            },
            PostWork::Fail { id, why } => {
                let failed = self.in_history(move |history| history.fail(id, &why)).await;
                let result = failed.map_err(|error| {
                    tracing::warn!(%error, "a message that goes nowhere is still called waiting");
                    error.to_string()
                });
                PostDone::Failed { id, result }
            }
            PostWork::Store { deposits, up_to } => {
                let (server, born) = (self.desk.server.clone(), self.desk.born);
                let stored = self.in_history(move |history| history.store(&deposits, (server.as_ref(), up_to), born));
                PostDone::Stored(stored.await.map_err(|error| error.to_string()))
            }
            PostWork::Recall { to, gap } => {
                let recalled = self.in_history(move |history| {
                    history.recall(&to, gap)?;
                    history.unanswered()
                });
                match recalled.await {
                    Ok(waiting) => PostDone::Unanswered(waiting),
                    Err(error) => {
                        self.note("what somebody asked for again is not sent", Err(error));
                        return Ok(());
                    }
                }
            }
            PostWork::Receipted { state, refs } => {
                let done = self.in_history(move |history| history.receipted(state, &refs)).await;
                self.note("receipts may be given twice", done);
                return Ok(());
            }
            PostWork::Owed { after } => match self.in_history(move |history| history.owed(after)).await {
                Ok((owed, next)) => PostDone::Owed { owed, next },
                Err(error) => {
                    self.note("receipts wait for the next link", Err(error));
                    return Ok(());
                }
            },
            PostWork::Recheck { of } => self.recheck(of).await,
        };
        self.desk.answers.push_back(done);
        Ok(())
    }

    pub(super) async fn in_history<T: Send + 'static>(
        &self,
        work: impl FnOnce(&History) -> Result<T, ClientError> + Send + 'static,
    ) -> Result<T, ClientError> {
        let history = self.desk.history.clone();
        blocking(move || work(&history)).await
    }

    /// What is no loss if the disk refuses.
    #[allow(clippy::unused_self, reason = "reads as what the driver does")]
    fn note(&self, what: &'static str, done: Result<(), ClientError>) {
        if let Err(error) = done {
            tracing::warn!(%error, "{what}");
        }
    }

    async fn reload(&mut self) -> Result<(), ClientError> {
        let server = self.desk.server.clone();
        let read = self.in_history(move |history| {
            if let Some(server) = &server {
                history.note_mailbox(server, true)?;
            }
            history.forget_old_receipts()?;
            Ok((history.unanswered()?, history.owed(0)?))
        });
        let (waiting, (owed, next)) = read.await?;
        self.desk.answers.push_back(PostDone::Unanswered(waiting));
        self.desk.answers.push_back(PostDone::Owed { owed, next });
        Ok(())
    }

    async fn make(&mut self, making: Making) {
        let (id, is_numbered) = (making.id, making.is_numbered);
        let found = self.in_history(move |history| history.to_make(id, is_numbered)).await;
        let (text, number) = match found {
            Ok(ToMake::Text { text, number }) => (text, number),
            Ok(ToMake::Made(msg_ref, ts)) => {
                let result = Ok((msg_ref, ts));
                return self.desk.answers.push_back(PostDone::Made { id, result });
            }
            Ok(ToMake::Gone) => return self.gone(id).await,
            Err(error) => return self.desk.answers.push_back(stuck(id, &error)),
        };
        let from = self.profile.identity().user_id.clone();
        let text = match number {
            Some(number) => {
                let speech = Speech {
                    by: self.desk.voice,
                    from: from.clone(),
                    to: making.to.clone(),
                    said: Said::Text { n: number.n, text },
                };
                speech.to_plaintext()
            }
            None => text,
        };
        let saying = Saying {
            place: Place::Direct,
            from,
            to: making.to.clone(),
            ts: making.ts,
        };
        self.worker.ask(Job::Make {
            making: Box::new(making),
            text,
            saying,
        });
    }

    /// A message is encrypted and signed: kept before anything else.
    pub(super) async fn on_made(&mut self, made: Made) {
        let Made { id, result } = made;
        let result = match result {
            Err((user, why)) => Err(TellFault::Key { user, why }),
            Ok((frame, msg_ref, ts)) => {
                let signer = self.profile.identity().pubkey.clone();
                let kept = self.in_history(move |history| history.keep_frame(id, (&frame, &signer), (&msg_ref, ts)));
                match kept.await {
                    Ok(Some(kept)) => Ok(kept),
                    Ok(None) => return self.gone(id).await,
                    Err(error) => return self.desk.answers.push_back(stuck(id, &error)),
                }
            }
        };
        self.desk.answers.push_back(PostDone::Made { id, result });
    }

    /// There is nothing to make, or there was not a moment ago.
    async fn gone(&mut self, id: PostId) {
        let found = self.in_history(move |history| history.frame(id)).await;
        self.desk.answers.push_back(match found {
            Ok(ToSend::Gone(state, msg_ref)) => PostDone::Gone { id, msg_ref, state },
            // Put among the unanswered again meanwhile.
            Ok(ToSend::Frame(_) | ToSend::Unmade) => PostDone::Unmade(id),
            Err(error) => stuck(id, &error),
        });
    }

    async fn dispatch(&mut self, id: PostId) {
        let found = self.in_history(move |history| history.frame(id)).await;
        self.desk.answers.push_back(match found {
            // In its place among what is being signed.
            Ok(ToSend::Frame(frame)) if self.is_linked => return self.worker.ask(Job::Pass(frame)),
            Ok(ToSend::Frame(_)) => return,
            Ok(ToSend::Unmade) => PostDone::Unmade(id),
            Ok(ToSend::Gone(state, msg_ref)) => PostDone::Gone { id, msg_ref, state },
            Err(error) => stuck(id, &error),
        });
    }

    /// Does for the history what may wait until everything else is done.
    pub(super) async fn settle_history(&mut self, at_once: bool) -> Result<(), ClientError> {
        let sent = std::mem::take(&mut self.desk.sent);
        if !sent.is_empty() {
            let record = self.in_history(move |history| {
                let mut sent = sent.iter();
                sent.try_for_each(|(to, text, msg_ref)| history.record_sent(to, text, msg_ref))
            });
            let recorded = record.await;
            self.note("a message that was sent is missing in the history", recorded);
        }
        if self.desk.is_shown_due() || (at_once && !self.desk.shown.is_empty()) {
            let shown = std::mem::take(&mut self.desk.shown);
            self.desk.shown_due = None;
            match self.in_history(move |history| history.mark_shown(&shown)).await {
                Ok(owed) if owed.is_empty() => {}
                Ok(owed) => self.desk.answers.push_back(PostDone::Owed { owed, next: None }),
                Err(error) => self.note("messages may be shown twice", Err(error)),
            }
        }
        self.catch_up().await?;
        self.tell_of_damage();
        Ok(())
    }

    /// What arrived and was never shown, since the program that took it ended too soon.
    async fn catch_up(&mut self) -> Result<(), ClientError> {
        while let Some(after) = self.desk.catching_up.filter(|_| self.pending.len() < CATCH_UP_COUNT) {
            let range = (after, self.desk.born);
            let read = self
                .in_history(move |history| history.unshown(range, CATCH_UP_COUNT))
                .await;
            let (entries, next) = match read {
                Ok(read) => read,
                Err(error) => {
                    self.note("what was not shown before is not shown now", Err(error));
                    (Vec::new(), None)
                }
            };
            self.desk.catching_up = next;
            for entry in entries {
                let (Some(from), Some(id)) = (entry.peer, entry.msg_ref) else {
                    continue;
                };
                let message = Message {
                    id,
                    from: self.core.describe(&from),
                    to: self.profile.identity().user_id.clone(),
                    text: entry.text,
                    ts: entry.ts,
                    is_late: entry.is_late,
                };
                let shown = self.core.show_kept(entry.id, message, entry.gap);
                if let Some(gap) = entry.gap.filter(|_| !shown.is_empty()) {
                    self.desk.answers.push_back(PostDone::Missed { from, gap });
                }
                self.pending.extend(shown);
            }
        }
        Ok(())
    }

    fn tell_of_damage(&mut self) {
        let count = self.desk.history.damaged_count();
        if count > 0 && self.desk.damaged_told == 0 {
            self.desk.damaged_told = count;
            let text = "some of what this profile keeps is damaged, and is not shown; see `socp history`".to_owned();
            self.pending.push_back(Event::Notice { from: None, text });
        }
    }
}

/// The history did not do its part for this message.
fn stuck(id: PostId, error: &ClientError) -> PostDone {
    tracing::warn!(%error, "a message is not sent yet");
    let why = error.to_string();
    PostDone::Stuck { id, why }
}

/// What the history knows before there is a link.
pub(super) struct Kept {
    pub(super) history: History,
    pub(super) device: DeviceId,
    pub(super) voice: Voice,
    /// How far the server's mailbox was read, if it has one.
    pub(super) after: Option<u64>,
    pub(super) born: PostId,
}

impl Kept {
    pub(super) fn read(profile: &Profile, server: Option<&ServerPin>) -> Result<Self, ClientError> {
        let history = profile.history()?;
        let (device, voice) = history.device()?;
        let after = server.map(|server| history.mailbox(&server.id)).transpose()?.flatten();
        let born = history.last_id()?;
        Ok(Self {
            history,
            device,
            voice,
            after,
            born,
        })
    }
}
