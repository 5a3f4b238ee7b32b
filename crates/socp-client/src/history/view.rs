//! What the history shows, and what was shown of it.

use super::record::{COLUMNS, Direction, HistoryEntry, Stored};
use super::{History, to_sql};
use crate::error::ClientError;
use crate::profile::unix_ms;
use rusqlite::{OptionalExtension as _, Transaction, params};
use socp_core::client::{Owed, PostId};
use socp_proto::limits::CONTENT_AGE_MAX_MS;
use socp_proto::{ReceiptState, UserId};

/// Receipts that are owed from before and read at once.
pub(super) const OWED_COUNT: usize = 128;
/// How long a receipt is owed: as long as its text would have waited.
pub(super) const OWED_AGE_MAX_MS: u64 = CONTENT_AGE_MAX_MS;

impl History {
    /// The last so many, of everyone or of one conversation, oldest first.
    ///
    /// # Errors
    /// [`ClientError::Database`].
    pub fn last(&self, with: Option<&UserId>, count: usize) -> Result<Vec<HistoryEntry>, ClientError> {
        let database = self.lock();
        let (condition, name) = match with {
            Some(user) => ("conversation = ?1", self.conversation(user)),
            None => ("?1 IS NOT NULL", [0; 16]),
        };
        let text = format!("SELECT {COLUMNS} FROM messages WHERE {condition} ORDER BY place DESC, rank DESC LIMIT ?2");
        let mut query = database.prepare(&text)?;
        let count = i64::try_from(count).unwrap_or(i64::MAX);
        let rows = query.query_map(params![name, count], Stored::read)?;
        let mut entries = Vec::new();
        for row in rows {
            entries.extend(self.entry(row?));
        }
        entries.reverse();
        Ok(entries)
    }

    /// The message of ours with this reference.
    ///
    /// # Errors
    /// [`ClientError::Database`].
    pub fn own(&self, msg_ref: &str) -> Result<Option<HistoryEntry>, ClientError> {
        let database = self.lock();
        let text = format!("SELECT {COLUMNS} FROM messages WHERE ref = ?1 AND direction = ?2");
        let mut query = database.prepare_cached(&text)?;
        let values = params![self.name_of_ref(msg_ref), Direction::Out.number()];
        let found = query.query_row(values, Stored::read).optional()?;
        Ok(found.and_then(|stored| self.entry(stored)))
    }

    /// These rows, in the order of the history; what is damaged is left out.
    pub(super) fn entries(&self, ids: &[PostId]) -> Result<Vec<HistoryEntry>, ClientError> {
        let database = self.lock();
        let text = format!("SELECT {COLUMNS}, place, rank FROM messages WHERE id = ?1");
        let mut query = database.prepare(&text)?;
        let mut found = Vec::with_capacity(ids.len());
        for id in ids {
            let row = query.query_row([to_sql(*id)], |row| {
                let order: (i64, i64) = (row.get("place")?, row.get("rank")?);
                Ok((order, Stored::read(row)?))
            });
            if let Some((order, stored)) = row.optional()? {
                found.extend(self.entry(stored).map(|entry| (order, entry)));
            }
        }
        found.sort_by_key(|(order, _)| *order);
        Ok(found.into_iter().map(|(_, entry)| entry).collect())
    }

    /// The number of the last row.
    pub(crate) fn last_id(&self) -> Result<PostId, ClientError> {
        let database = self.lock();
        let last: i64 = database.query_row("SELECT coalesce(max(id), 0) FROM messages", [], |row| row.get(0))?;
        Ok(super::from_sql(last))
    }

    /// Messages to us that no program has shown, behind `after` and up to `until`; also where to go on, if there are more.
    pub(crate) fn unshown(
        &self,
        (after, until): (PostId, PostId),
        count: usize,
    ) -> Result<(Vec<HistoryEntry>, Option<PostId>), ClientError> {
        let database = self.lock();
        let text = format!(
            "SELECT {COLUMNS} FROM messages WHERE shown = 0 AND direction = ?4 AND id > ?1 AND id <= ?2 ORDER BY id LIMIT ?3"
        );
        let mut query = database.prepare(&text)?;
        let limit = i64::try_from(count).unwrap_or(i64::MAX);
        let values = params![to_sql(after), to_sql(until), limit, Direction::In.number()];
        let rows: Vec<Stored> = query.query_map(values, Stored::read)?.collect::<Result<_, _>>()?;
        let next = (rows.len() >= count)
            .then(|| rows.last().map(|row| row.place.id))
            .flatten();
        Ok((rows.into_iter().filter_map(|row| self.entry(row)).collect(), next))
    }

    /// Messages to us were shown.
    pub(crate) fn mark_shown(&self, refs: &[(String, bool)]) -> Result<Vec<Owed>, ClientError> {
        self.within(|transaction| {
            let mut owed = Vec::new();
            for (msg_ref, is_read) in refs {
                let values = params![self.name_of_ref(msg_ref), Direction::In.number()];
                let Some((stored, body)) = self.row_where(transaction, "ref = ?1 AND direction = ?2", values)? else {
                    continue;
                };
                transaction
                    .prepare_cached("UPDATE messages SET shown = 1 WHERE id = ?1")?
                    .execute([to_sql(stored.place.id)])?;
                let Some(to) = body.peer().filter(|_| *is_read && body.number().is_some()) else {
                    continue;
                };
                if self.wants_receipts(transaction, &to)? {
                    transaction
                        .prepare_cached("UPDATE messages SET owed = ?2 WHERE id = ?1")?
                        .execute([to_sql(stored.place.id), owed_number(ReceiptState::Read)])?;
                    owed.push(Owed {
                        to,
                        msg_ref: msg_ref.clone(),
                        state: ReceiptState::Read,
                    });
                }
            }
            Ok(owed)
        })
    }

    /// Receipts that people's programs wait for, for texts behind this row; also where to go on, if there may be more.
    pub(crate) fn owed(&self, after: PostId) -> Result<(Vec<Owed>, Option<PostId>), ClientError> {
        let database = self.lock();
        let text = format!("SELECT {COLUMNS}, owed FROM messages WHERE owed > 0 AND id > ?1 ORDER BY id LIMIT ?2");
        let mut query = database.prepare(&text)?;
        let limit = i64::try_from(OWED_COUNT).unwrap_or(i64::MAX);
        let rows = query.query_map([to_sql(after), limit], |row| {
            Ok((row.get::<_, i64>("owed")?, Stored::read(row)?))
        })?;
        let rows: Vec<(i64, Stored)> = rows.collect::<Result<_, _>>()?;
        let next = rows.last().filter(|_| rows.len() >= OWED_COUNT);
        let next = next.map(|(_, stored)| stored.place.id);
        let owed = rows.into_iter().filter_map(|(state, stored)| {
            let body = self.open(stored.place, &stored.sealed)?;
            let is_read = state >= owed_number(ReceiptState::Read);
            Some(Owed {
                to: body.peer()?,
                msg_ref: body.msg_ref?,
                state: if is_read {
                    ReceiptState::Read
                } else {
                    ReceiptState::Delivered
                },
            })
        });
        Ok((owed.collect(), next))
    }

    /// Receipts that could not be given for so long that nobody waits for them.
    pub(crate) fn forget_old_receipts(&self) -> Result<(), ClientError> {
        let now = super::from_sql(unix_ms());
        let statement = "UPDATE messages SET owed = 0 WHERE owed > 0 AND at < ?1";
        let oldest = to_sql(now.saturating_sub(OWED_AGE_MAX_MS));
        self.lock().execute(statement, [oldest])?;
        Ok(())
    }

    /// The server has receipts with this state for these. What is more by now is owed all the same.
    pub(crate) fn receipted(&self, state: ReceiptState, refs: &[String]) -> Result<(), ClientError> {
        self.within(|transaction| {
            let mut update = transaction
                .prepare_cached("UPDATE messages SET owed = 0 WHERE ref = ?1 AND direction = ?2 AND owed <= ?3")?;
            for msg_ref in refs {
                let values = params![self.name_of_ref(msg_ref), Direction::In.number(), owed_number(state)];
                update.execute(values)?;
            }
            Ok(())
        })
    }

    /// Whether receipts are given, to one user, or to everyone of whom nothing else is said.
    ///
    /// # Errors
    /// [`ClientError::Database`].
    pub fn set_receipts(&self, user: Option<&UserId>, wanted: bool) -> Result<(), ClientError> {
        self.lock().execute(
            "INSERT INTO receipts(conversation, wanted) VALUES (?1, ?2) ON CONFLICT(conversation) DO UPDATE SET wanted = ?2",
            params![self.name_of_choice(user), wanted],
        )?;
        Ok(())
    }

    pub(super) fn wants_receipts(&self, transaction: &Transaction<'_>, user: &UserId) -> Result<bool, ClientError> {
        let mut query = transaction.prepare_cached("SELECT wanted FROM receipts WHERE conversation = ?1")?;
        for name in [self.name_of_choice(Some(user)), self.name_of_choice(None)] {
            let found = query.query_row(params![name], |row| row.get(0)).optional()?;
            if let Some(wanted) = found {
                return Ok(wanted);
            }
        }
        Ok(true)
    }

    fn name_of_choice(&self, user: Option<&UserId>) -> [u8; 16] {
        user.map_or_else(|| self.keys.name("everyone", &[]), |user| self.conversation(user))
    }
}

/// The number that stands in the database for a receipt that is owed.
pub(super) fn owed_number(state: ReceiptState) -> i64 {
    match state {
        ReceiptState::Delivered => 1,
        ReceiptState::Read => 2,
    }
}
