//! Our own messages, until a server has answered them.

use super::record::{Body, Direction, NewRow, Stored, state_number};
use super::{History, from_sql, to_sql};
use crate::error::ClientError;
use rusqlite::{OptionalExtension as _, Transaction, params};
use socp_core::client::{Change, Gap, Number, OUTGOING_COUNT_MAX, PostId, PostState, Unanswered};
use socp_proto::{KeyText, Speech, UserId};

/// A message as it is to be made.
#[derive(Debug)]
pub(crate) enum ToMake {
    /// This text, with this number where the recipient's program counts.
    Text { text: String, number: Option<Number> },
    /// Another program was faster: its reference, and when it was signed.
    Made(String, u64),
    /// It is not there any more, or damaged.
    Gone,
}

/// What there is to send of a message.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum ToSend {
    /// The signed frame.
    Frame(String),
    /// It is to be made first: it has no frame, or none that can be read.
    Unmade,
    /// Another program has had its answer: how far it is, and its reference.
    Gone(PostState, String),
}

/// A signed frame, and when it was signed, if it is.
type SignedFrame = (Option<String>, Option<u64>);

/// A message without an answer, as it is kept.
struct Waiting {
    stored: Stored,
    to: UserId,
    body: Body,
    frame: SignedFrame,
}

/// Takes a message's frame away.
const UNMAKE: &str = "UPDATE unanswered SET frame = NULL, signed_at = NULL WHERE id = ?1";

impl History {
    /// Writes a message down that is to be sent.
    ///
    /// # Errors
    /// [`ClientError::Database`]; [`ClientError::OutboxFull`].
    pub(crate) fn queue(&self, to: &UserId, text: &str) -> Result<PostId, ClientError> {
        self.within(|transaction| {
            let waiting: i64 = transaction.query_row("SELECT count(*) FROM unanswered", [], |row| row.get(0))?;
            if from_sql(waiting) >= u64::try_from(OUTGOING_COUNT_MAX).unwrap_or(u64::MAX) {
                return Err(ClientError::OutboxFull);
            }
            let row = NewRow {
                direction: Direction::Out,
                peer: Some(to),
                body: Body {
                    text: text.to_owned(),
                    ts: from_sql(crate::profile::unix_ms()),
                    ..Body::default()
                },
                state: PostState::Queued,
                is_shown: true,
                owed: 0,
                before: None,
            };
            let id = self.insert(transaction, row)?;
            transaction.execute("INSERT INTO unanswered(id) VALUES (?1)", [to_sql(id)])?;
            Ok(id)
        })
    }

    /// Writes down a message that a server without acknowledgements has taken (PROTOCOL I.7).
    pub(crate) fn record_sent(&self, to: &UserId, text: &str, msg_ref: &str) -> Result<(), ClientError> {
        self.within(|transaction| {
            let row = NewRow {
                direction: Direction::Out,
                peer: Some(to),
                body: Body {
                    text: text.to_owned(),
                    ts: from_sql(crate::profile::unix_ms()),
                    msg_ref: Some(msg_ref.to_owned()),
                    ..Body::default()
                },
                state: PostState::Sent,
                is_shown: true,
                owed: 0,
                before: None,
            };
            self.insert(transaction, row)?;
            Ok(())
        })
    }

    /// Everything without an answer, in the order in which it was written.
    pub(crate) fn unanswered(&self) -> Result<Vec<Unanswered>, ClientError> {
        self.within(|transaction| {
            let mut query =
                transaction.prepare("SELECT id, signed_at, frame IS NOT NULL FROM unanswered ORDER BY id")?;
            let rows = query.query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
            let rows: Vec<(i64, Option<i64>, bool)> = rows.collect::<Result<_, _>>()?;
            let mut waiting = Vec::with_capacity(rows.len());
            for (id, signed_at, has_frame) in rows {
                let found = self.row(transaction, from_sql(id))?;
                let Some((to, body)) = found.and_then(|(_, body)| Some((body.peer()?, body))) else {
                    // Damaged: it can never be sent, and would be looked at for ever.
                    self.give_up(transaction, from_sql(id))?;
                    continue;
                };
                let signed = body.msg_ref.zip(signed_at).filter(|_| has_frame);
                waiting.push(Unanswered {
                    id: from_sql(id),
                    to,
                    signed: signed.map(|(msg_ref, at)| (msg_ref, from_sql(at))),
                });
            }
            Ok(waiting)
        })
    }

    fn give_up(&self, transaction: &Transaction<'_>, id: PostId) -> Result<(), ClientError> {
        transaction.execute("DELETE FROM unanswered WHERE id = ?1", [to_sql(id)])?;
        let state = state_number(PostState::Failed);
        transaction.execute(
            "UPDATE messages SET state = ?2 WHERE id = ?1",
            params![to_sql(id), state],
        )?;
        Ok(())
    }

    /// A message that waits for an answer, with its frame; one that is damaged waits no more.
    fn waiting(&self, transaction: &Transaction<'_>, id: PostId) -> Result<Option<Waiting>, ClientError> {
        let Some(frame) = self.frame_of(transaction, id)? else {
            return Ok(None);
        };
        let found = self.row(transaction, id)?;
        let found = found.and_then(|(stored, body)| Some((stored, body.peer()?, body)));
        let Some((stored, to, body)) = found else {
            self.give_up(transaction, id)?;
            return Ok(None);
        };
        Ok(Some(Waiting {
            stored,
            to,
            body,
            frame,
        }))
    }

    /// The text that is to be encrypted, with its number, which is its own from now on.
    pub(crate) fn to_make(&self, id: PostId, is_numbered: bool) -> Result<ToMake, ClientError> {
        let (_, voice) = self.device()?;
        self.within(|transaction| {
            let Some(waiting) = self.waiting(transaction, id)? else {
                return Ok(ToMake::Gone);
            };
            let Waiting {
                stored,
                to,
                mut body,
                frame: (frame, signed_at),
            } = waiting;
            if let (Some(_), Some(at), Some(msg_ref)) = (frame, signed_at, &body.msg_ref) {
                return Ok(ToMake::Made(msg_ref.clone(), at));
            }
            // What would be too long with its number goes without.
            let is_numbered = is_numbered && Speech::fits(&self.me, &to, &body.text);
            if is_numbered && body.number().is_none() {
                let n = self.next_number(transaction, &to)?;
                body.by = Some(*voice.as_bytes());
                body.n = Some(n);
                self.rewrite(transaction, stored.place, &body)?;
            }
            let number = body.number().filter(|_| is_numbered);
            Ok(ToMake::Text {
                text: body.text,
                number,
            })
        })
    }

    fn next_number(&self, transaction: &Transaction<'_>, to: &UserId) -> Result<u64, ClientError> {
        let next: i64 = transaction.query_row(
            "INSERT INTO said(conversation, next) VALUES (?1, 1)
                ON CONFLICT(conversation) DO UPDATE SET next = next + 1 RETURNING next",
            params![self.conversation(to)],
            |row| row.get(0),
        )?;
        Ok(from_sql(next))
    }

    /// Keeps the frame that this key has signed, unless another program has made one meanwhile; says whose counts.
    ///
    /// # Errors
    /// [`ClientError::KeysChangedMeanwhile`]: nobody would accept that frame. [`ClientError::Database`].
    pub(crate) fn keep_frame(
        &self,
        id: PostId,
        (frame, signer): (&str, &KeyText),
        (msg_ref, ts): (&str, u64),
    ) -> Result<Option<(String, u64)>, ClientError> {
        self.within(|transaction| {
            let present: String = transaction.query_row("SELECT pubkey FROM identity", [], |row| row.get(0))?;
            if present != signer.as_str() {
                return Err(ClientError::KeysChangedMeanwhile);
            }
            let Some(waiting) = self.waiting(transaction, id)? else {
                return Ok(None);
            };
            let Waiting {
                stored,
                mut body,
                frame: (present, signed_at),
                ..
            } = waiting;
            if let (Some(_), Some(at), Some(msg_ref)) = (present, signed_at, &body.msg_ref) {
                return Ok(Some((msg_ref.clone(), at)));
            }
            let sealed = self.keys.seal(&frame_place(id), frame.as_bytes())?;
            transaction.execute(
                "UPDATE unanswered SET frame = ?2, signed_at = ?3 WHERE id = ?1",
                params![to_sql(id), sealed, to_sql(ts)],
            )?;
            body.msg_ref = Some(msg_ref.to_owned());
            body.ts = ts;
            self.rewrite(transaction, stored.place, &body)?;
            Ok(Some((msg_ref.to_owned(), ts)))
        })
    }

    /// The signed frame of a message, and when it was signed; nothing if it has its answer.
    fn frame_of(&self, transaction: &Transaction<'_>, id: PostId) -> Result<Option<SignedFrame>, ClientError> {
        let mut query = transaction.prepare_cached("SELECT frame, signed_at FROM unanswered WHERE id = ?1")?;
        let found = query.query_row([to_sql(id)], |row| {
            Ok((row.get::<_, Option<Vec<u8>>>(0)?, row.get::<_, Option<i64>>(1)?))
        });
        Ok(found.optional()?.map(|(sealed, at)| {
            let frame = sealed.and_then(|sealed| self.keys.open(&frame_place(id), &sealed));
            let frame = frame.and_then(|frame| String::from_utf8(frame.expose().to_vec()).ok());
            (frame, at.map(from_sql))
        }))
    }

    /// The frame to send, if there is one; one that is damaged is forgotten.
    pub(crate) fn frame(&self, id: PostId) -> Result<ToSend, ClientError> {
        self.within(|transaction| {
            match self.frame_of(transaction, id)? {
                Some((Some(frame), _)) => return Ok(ToSend::Frame(frame)),
                Some((None, _)) => {
                    transaction.execute(UNMAKE, [to_sql(id)])?;
                    return Ok(ToSend::Unmade);
                }
                None => {}
            }
            let found = self.row(transaction, id)?;
            let found = found.map(|(stored, body)| (stored.state, body.msg_ref.unwrap_or_default()));
            let (state, msg_ref) = found.unwrap_or((PostState::Failed, String::new()));
            Ok(ToSend::Gone(state, msg_ref))
        })
    }

    /// Forgets a frame that is too old to be sent.
    pub(crate) fn unmake(&self, id: PostId) -> Result<(), ClientError> {
        self.lock().execute(UNMAKE, [to_sql(id)])?;
        Ok(())
    }

    /// Nobody accepts any more what the replaced key has signed: everything without an answer is made anew, in its place and
    /// under its number. What was taken all the same is known again by that.
    pub(crate) fn unmake_all(transaction: &Transaction<'_>) -> Result<(), ClientError> {
        transaction.execute("UPDATE unanswered SET frame = NULL, signed_at = NULL", [])?;
        Ok(())
    }

    /// Puts texts that never came among the unanswered again: those of this device that were for this user, and went
    /// anywhere.
    pub(crate) fn recall(&self, to: &UserId, gap: Gap) -> Result<(), ClientError> {
        let (_, voice) = self.device()?;
        if gap.by != voice {
            return Ok(());
        }
        self.within(|transaction| {
            for n in gap.from_n..=gap.to_n {
                let name = self.name_of_number(Direction::Out, to, voice, n);
                let found = self.row_where(transaction, "number = ?1", params![name])?;
                let Some((stored, _)) = found.filter(|(stored, _)| stored.state != PostState::Failed) else {
                    continue;
                };
                transaction.execute(
                    "INSERT INTO unanswered(id) VALUES (?1) ON CONFLICT(id) DO NOTHING",
                    [to_sql(stored.place.id)],
                )?;
            }
            Ok(())
        })
    }

    /// Takes the state of messages of ours further. `whose`: only those to this user.
    pub(super) fn advance(
        &self,
        transaction: &Transaction<'_>,
        refs: &[String],
        (state, why): (PostState, Option<&str>),
        whose: Option<&UserId>,
    ) -> Result<Vec<Change>, ClientError> {
        let mut changes = Vec::new();
        for msg_ref in refs {
            let name = self.name_of_ref(msg_ref);
            let values = params![name, Direction::Out.number()];
            let found = self.row_where(transaction, "ref = ?1 AND direction = ?2", values)?;
            let Some((stored, body)) = found else { continue };
            let to = body.peer();
            let Some(to) = to.filter(|to| whose.is_none_or(|whose| whose == to)) else {
                continue;
            };
            changes.extend(self.advance_one(transaction, (stored, body), to, (state, why))?);
        }
        Ok(changes)
    }

    fn advance_one(
        &self,
        transaction: &Transaction<'_>,
        (stored, mut body): (Stored, Body),
        to: UserId,
        (state, why): (PostState, Option<&str>),
    ) -> Result<Option<Change>, ClientError> {
        let id = stored.place.id;
        // Whatever was said of it, it needs to be sent no more.
        transaction
            .prepare_cached("DELETE FROM unanswered WHERE id = ?1")?
            .execute([to_sql(id)])?;
        if state <= stored.state {
            return Ok(None);
        }
        transaction
            .prepare_cached("UPDATE messages SET state = ?2 WHERE id = ?1")?
            .execute(params![to_sql(id), state_number(state)])?;
        if let Some(why) = why {
            body.why = Some(why.to_owned());
            self.rewrite(transaction, stored.place, &body)?;
        }
        Ok(Some(Change {
            id,
            msg_ref: body.msg_ref.unwrap_or_default(),
            to,
            state,
            why: why.map(str::to_owned),
        }))
    }

    /// This one goes nowhere.
    pub(crate) fn fail(&self, id: PostId, why: &str) -> Result<Option<Change>, ClientError> {
        self.within(|transaction| {
            let found = self.row(transaction, id)?;
            let found = found.and_then(|(stored, body)| Some((stored, body.peer()?, body)));
            let Some((stored, to, body)) = found else {
                self.give_up(transaction, id)?;
                return Ok(None);
            };
            self.advance_one(transaction, (stored, body), to, (PostState::Failed, Some(why)))
        })
    }
}

fn frame_place(id: PostId) -> Vec<u8> {
    [b"frame", &id.to_be_bytes()[..]].concat()
}
