//! One row of the history.

use super::{History, begin, from_sql, to_sql};
use crate::error::ClientError;
use crate::profile::unix_ms;
use rusqlite::{Row, Transaction, params};
use serde::{Deserialize, Serialize};
use socp_core::client::{Gap, Number, PostId, PostState};
use socp_proto::{UserId, Voice};

/// Which way something was said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// To us.
    In,
    /// By us.
    Out,
    /// Nobody's words: something to know about a conversation.
    Notice,
}

impl Direction {
    pub(super) fn number(self) -> u8 {
        match self {
            Self::In => 0,
            Self::Out => 1,
            Self::Notice => 2,
        }
    }

    fn of(number: i64) -> Self {
        match number {
            0 => Self::In,
            1 => Self::Out,
            _ => Self::Notice,
        }
    }
}

/// Something that was said, as it is shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HistoryEntry {
    /// Its number.
    pub id: PostId,
    /// With whom.
    pub peer: Option<UserId>,
    /// Which way.
    pub direction: Direction,
    /// What.
    pub text: String,
    /// When, by its author's clock.
    pub ts: u64,
    /// When it was written down here.
    pub at: u64,
    /// How far an own message has come.
    pub state: PostState,
    /// Why an own message goes nowhere.
    pub why: Option<String>,
    /// Its reference, once it has one.
    pub msg_ref: Option<String>,
    /// What its author said later came before.
    pub is_late: bool,
    /// What was missing before it when it came.
    pub gap: Option<Gap>,
}

/// What is sealed in a row.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Body {
    pub(super) peer: Option<String>,
    pub(super) text: String,
    pub(super) ts: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) msg_ref: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) by: Option<[u8; 8]>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) n: Option<u64>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) late: bool,
    /// The texts of its author's device that were missing before it: which device, the first, the last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) missing: Option<([u8; 8], u64, u64)>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) why: Option<String>,
}

impl Body {
    pub(super) fn peer(&self) -> Option<UserId> {
        UserId::try_from(self.peer.clone()?).ok()
    }

    pub(super) fn number(&self) -> Option<Number> {
        let by = Voice::from_bytes(self.by?);
        Some(Number { by, n: self.n? })
    }

    pub(super) fn gap(&self) -> Option<Gap> {
        let (by, from_n, to_n) = self.missing?;
        let by = Voice::from_bytes(by);
        Some(Gap { by, from_n, to_n })
    }
}

/// Where a row belongs: what its seal is bound to.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place {
    pub(super) id: PostId,
    pub(super) conversation: [u8; 16],
    pub(super) direction: Direction,
}

impl Place {
    pub(super) fn bytes(self) -> Vec<u8> {
        let direction = [self.direction.number()];
        [b"message", &self.id.to_be_bytes()[..], &self.conversation, &direction].concat()
    }
}

/// The columns that [`Stored::read`] wants.
pub(super) const COLUMNS: &str = "id, conversation, direction, at, state, shown, sealed";

/// A row as it is stored.
#[derive(Debug)]
pub(super) struct Stored {
    pub(super) place: Place,
    pub(super) at: u64,
    pub(super) state: PostState,
    pub(super) is_shown: bool,
    pub(super) sealed: Vec<u8>,
}

impl Stored {
    pub(super) fn read(row: &Row<'_>) -> rusqlite::Result<Self> {
        let state: i64 = row.get("state")?;
        let state = usize::try_from(state).ok();
        // Of what is damaged so much that it does not even have its form, the seal says so.
        let conversation: Vec<u8> = row.get("conversation")?;
        Ok(Self {
            place: Place {
                id: from_sql(row.get("id")?),
                conversation: conversation.try_into().unwrap_or_default(),
                direction: Direction::of(row.get("direction")?),
            },
            at: from_sql(row.get("at")?),
            state: state
                .and_then(|index| PostState::ALL.get(index).copied())
                .unwrap_or(PostState::Queued),
            is_shown: row.get("shown")?,
            sealed: row.get("sealed")?,
        })
    }
}

/// The number that stands for a state in the database.
pub(super) fn state_number(state: PostState) -> i64 {
    let index = PostState::ALL.iter().position(|it| *it == state);
    i64::try_from(index.unwrap_or_default()).unwrap_or_default()
}

/// A row that is about to be written.
pub(super) struct NewRow<'a> {
    pub(super) direction: Direction,
    pub(super) peer: Option<&'a UserId>,
    pub(super) body: Body,
    pub(super) state: PostState,
    pub(super) is_shown: bool,
    pub(super) owed: i64,
    /// It goes before this row, with this number among those that do.
    pub(super) before: Option<(PostId, u64)>,
}

impl History {
    /// Writes a row, and says which number it has.
    pub(super) fn insert(&self, transaction: &Transaction<'_>, row: NewRow<'_>) -> Result<PostId, ClientError> {
        let id: i64 = transaction
            .prepare_cached("SELECT coalesce(max(id), 0) + 1 FROM messages")?
            .query_row([], |found| found.get(0))?;
        let conversation = match row.peer {
            Some(peer) => self.conversation(peer),
            None => self.keys.name("nobody", &[]),
        };
        let place = Place {
            id: from_sql(id),
            conversation,
            direction: row.direction,
        };
        let body = Body {
            peer: row.peer.map(|peer| peer.as_str().to_owned()),
            ..row.body
        };
        let (before, rank) = row.before.map_or((id, i64::MAX), |(id, n)| (to_sql(id), to_sql(n)));
        let number = row.peer.zip(body.number());
        let number = number.map(|(peer, it)| self.name_of_number(row.direction, peer, it.by, it.n));
        let msg_ref = body.msg_ref.as_deref().map(|text| self.name_of_ref(text));
        transaction
            .prepare_cached(
                "INSERT INTO messages(id, conversation, direction, place, rank, at, state, shown, owed, ref, number, sealed)
                    VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)",
            )?
            .execute(params![
                id,
                conversation,
                row.direction.number(),
                before,
                rank,
                unix_ms(),
                state_number(row.state),
                row.is_shown,
                row.owed,
                msg_ref,
                number,
                self.seal(place, &body)?,
            ])?;
        Ok(place.id)
    }

    /// Seals what a row holds anew.
    pub(super) fn rewrite(&self, transaction: &Transaction<'_>, place: Place, body: &Body) -> Result<(), ClientError> {
        let number = body.peer().zip(body.number());
        let number = number.map(|(peer, it)| self.name_of_number(place.direction, &peer, it.by, it.n));
        let msg_ref = body.msg_ref.as_deref().map(|text| self.name_of_ref(text));
        transaction
            .prepare_cached("UPDATE messages SET ref = ?2, number = ?3, sealed = ?4 WHERE id = ?1")?
            .execute(params![to_sql(place.id), msg_ref, number, self.seal(place, body)?])?;
        Ok(())
    }

    /// One row by its number, with what it holds; nothing if it is not there or damaged.
    pub(super) fn row(&self, transaction: &Transaction<'_>, id: PostId) -> Result<Option<(Stored, Body)>, ClientError> {
        self.row_where(transaction, "id = ?1", params![to_sql(id)])
    }

    /// The first row for which this holds, with what it holds; nothing if it is not there or damaged.
    pub(super) fn row_where(
        &self,
        transaction: &Transaction<'_>,
        condition: &str,
        values: &[&dyn rusqlite::ToSql],
    ) -> Result<Option<(Stored, Body)>, ClientError> {
        let found = self.found_where(transaction, condition, values)?;
        Ok(found.and_then(|(stored, body)| Some((stored, body?))))
    }

    /// The first row for which this holds, with what it holds, if it is not damaged.
    pub(super) fn found_where(
        &self,
        transaction: &Transaction<'_>,
        condition: &str,
        values: &[&dyn rusqlite::ToSql],
    ) -> Result<Option<(Stored, Option<Body>)>, ClientError> {
        let text = format!("SELECT {COLUMNS} FROM messages WHERE {condition} LIMIT 1");
        let mut query = transaction.prepare_cached(&text)?;
        let mut rows = query.query(values)?;
        let Some(row) = rows.next()? else { return Ok(None) };
        let stored = Stored::read(row)?;
        let body = self.open(stored.place, &stored.sealed);
        Ok(Some((stored, body)))
    }

    /// Something to know that is nobody's words.
    pub(super) fn insert_notice(
        &self,
        transaction: &Transaction<'_>,
        about: Option<&UserId>,
        text: &str,
    ) -> Result<PostId, ClientError> {
        let row = NewRow {
            direction: Direction::Notice,
            peer: about,
            body: Body {
                text: text.to_owned(),
                ts: from_sql(unix_ms()),
                ..Body::default()
            },
            state: PostState::Delivered,
            is_shown: true,
            owed: 0,
            before: None,
        };
        self.insert(transaction, row)
    }

    pub(super) fn entry(&self, stored: Stored) -> Option<HistoryEntry> {
        let body = self.open(stored.place, &stored.sealed)?;
        Some(HistoryEntry {
            gap: body.gap(),
            id: stored.place.id,
            peer: body.peer(),
            direction: stored.place.direction,
            text: body.text,
            ts: body.ts,
            at: stored.at,
            state: stored.state,
            why: body.why,
            msg_ref: body.msg_ref,
            is_late: body.late,
        })
    }

    /// Does something in one transaction that writes.
    pub(super) fn within<T>(
        &self,
        act: impl FnOnce(&Transaction<'_>) -> Result<T, ClientError>,
    ) -> Result<T, ClientError> {
        let mut database = self.lock();
        let transaction = begin(&mut database)?;
        let done = act(&transaction)?;
        transaction.commit()?;
        Ok(done)
    }
}
