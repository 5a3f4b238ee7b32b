//! What arrives, written down together with how far the mailbox was read.

use super::record::{Body, Direction, NewRow};
use super::{History, to_sql};
use crate::error::ClientError;
use rusqlite::{OptionalExtension as _, Transaction, params};
use serde::{Deserialize, Serialize};
use socp_core::client::{Arrived, Deposit, Fit, Gap, Number, Numbers, Outcome, PostId, PostState};
use socp_proto::{ServerId, UserId, Voice};

/// What was heard of one device, as it is sealed.
#[derive(Serialize, Deserialize)]
struct Heard {
    next: u64,
    missing: Vec<(u64, u64)>,
}

impl History {
    /// Writes everything or nothing. `born`: the last row before this program began; what is behind it and was there
    /// already, another program has written meanwhile.
    pub(crate) fn store(
        &self,
        deposits: &[Deposit],
        (server, up_to): (Option<&ServerId>, Option<u64>),
        born: PostId,
    ) -> Result<Vec<Outcome>, ClientError> {
        self.within(|transaction| {
            let mut outcomes = Vec::with_capacity(deposits.len());
            for deposit in deposits {
                outcomes.push(self.store_one(transaction, deposit, born)?);
            }
            if let (Some(server), Some(up_to)) = (server, up_to) {
                transaction.execute(
                    "INSERT INTO mailboxes(server_id, after) VALUES (?1, ?2)
                        ON CONFLICT(server_id) DO UPDATE SET after = max(after, ?2)",
                    params![server.as_str(), to_sql(up_to)],
                )?;
            }
            Ok(outcomes)
        })
    }

    pub(super) fn store_one(
        &self,
        transaction: &Transaction<'_>,
        deposit: &Deposit,
        born: PostId,
    ) -> Result<Outcome, ClientError> {
        match deposit {
            Deposit::Text(text) => self.store_text(transaction, text, born),
            Deposit::Notice { about, text } => {
                self.insert_notice(transaction, about.as_ref(), text)?;
                Ok(Outcome::Done)
            }
            Deposit::Receipt { from, state, refs } => {
                let changes = self.advance(transaction, refs, ((*state).into(), None), Some(from))?;
                Ok(Outcome::Changed(changes))
            }
            Deposit::Answer { refs, state, why } => {
                let changes = self.advance(transaction, refs, (*state, why.as_deref()), None)?;
                Ok(Outcome::Changed(changes))
            }
            Deposit::Hold {
                held,
                is_known,
                told,
                refused,
            } => self.hold(transaction, held, *is_known, (told, refused)),
            Deposit::Released { id, deposit } => self.release(transaction, (*id, deposit), born),
            Deposit::Nothing => Ok(Outcome::Done),
        }
    }

    fn store_text(&self, transaction: &Transaction<'_>, text: &Arrived, born: PostId) -> Result<Outcome, ClientError> {
        if let Some(known) = self.find_again(transaction, text, born)? {
            return Ok(known);
        }
        let fit = match text.number {
            Some(number) => self.hear(transaction, &text.from, number)?,
            None => Fit::Next,
        };
        let is_late = matches!(fit, Fit::Late | Fit::Before);
        let before = match text.number.filter(|_| is_late) {
            Some(number) => self.place_before(transaction, &text.from, number)?,
            None => None,
        };
        let gap = match (fit, text.number) {
            (Fit::Behind(from_n, to_n), Some(Number { by, .. })) => Some(Gap { by, from_n, to_n }),
            (Fit::Behind(..) | Fit::Next | Fit::Late | Fit::Before, _) => None,
        };
        let wants_receipt = text.number.is_some() && self.wants_receipts(transaction, &text.from)?;
        // The number of a text whose number another one has is not its own: both are kept.
        let number = match text.number {
            Some(number) if self.has_number(transaction, &text.from, number)? => None,
            number => number,
        };
        let row = NewRow {
            direction: Direction::In,
            peer: Some(&text.from),
            body: Body {
                text: text.text.clone(),
                ts: text.ts,
                msg_ref: Some(text.msg_ref.clone()),
                by: number.map(|number| *number.by.as_bytes()),
                n: number.map(|number| number.n),
                late: is_late,
                missing: gap.map(|gap| (*gap.by.as_bytes(), gap.from_n, gap.to_n)),
                ..Body::default()
            },
            state: PostState::Delivered,
            is_shown: false,
            owed: i64::from(wants_receipt),
            before: before.zip(text.number.map(|number| number.n)),
        };
        let id = self.insert(transaction, row)?;
        Ok(Outcome::New {
            id,
            is_late,
            gap,
            wants_receipt,
        })
    }

    /// The same content, or the same text under the same number in another envelope. A row that cannot be read, or is
    /// another text with this reference, keeps neither from the one that has come: it would hold up all that arrives.
    fn find_again(
        &self,
        transaction: &Transaction<'_>,
        text: &Arrived,
        born: PostId,
    ) -> Result<Option<Outcome>, ClientError> {
        let is_it = |body: &Body| body.text == text.text && body.peer().as_ref() == Some(&text.from);
        let values = params![self.name_of_ref(&text.msg_ref), Direction::In.number()];
        let by_ref = self.found_where(transaction, "ref = ?1 AND direction = ?2", values)?;
        let by_number = match text.number {
            Some(Number { by, n }) => {
                let name = self.name_of_number(Direction::In, &text.from, by, n);
                self.found_where(transaction, "number = ?1", params![name])?
            }
            None => None,
        };
        for (stored, body) in by_ref.iter().chain(&by_number) {
            if let Some(body) = body.as_ref().filter(|body| is_it(body)) {
                return Ok(Some(Outcome::Known {
                    id: stored.place.id,
                    is_unshown: !stored.is_shown || stored.place.id > born,
                    is_late: body.late,
                    gap: body.gap(),
                }));
            }
        }
        if let Some((stored, _)) = by_ref {
            let statement = "UPDATE messages SET ref = NULL WHERE id = ?1";
            transaction.execute(statement, [to_sql(stored.place.id)])?;
        }
        if let Some((stored, None)) = by_number {
            let statement = "UPDATE messages SET ref = NULL, number = NULL WHERE id = ?1";
            transaction.execute(statement, [to_sql(stored.place.id)])?;
        }
        Ok(None)
    }

    fn has_number(
        &self,
        transaction: &Transaction<'_>,
        from: &UserId,
        Number { by, n }: Number,
    ) -> Result<bool, ClientError> {
        let name = self.name_of_number(Direction::In, from, by, n);
        let mut query = transaction.prepare_cached("SELECT 1 FROM messages WHERE number = ?1")?;
        Ok(query.exists(params![name])?)
    }

    /// Before which row a text belongs that comes late: the next one of the same device that is there.
    fn place_before(
        &self,
        transaction: &Transaction<'_>,
        from: &UserId,
        Number { by, n }: Number,
    ) -> Result<Option<PostId>, ClientError> {
        let mut query = transaction.prepare_cached("SELECT place FROM messages WHERE number = ?1")?;
        for later in (n.saturating_add(1)..).take(LATER_COUNT_MAX) {
            let name = self.name_of_number(Direction::In, from, by, later);
            let found: Option<i64> = query.query_row(params![name], |row| row.get(0)).optional()?;
            if let Some(place) = found {
                return Ok(Some(super::from_sql(place)));
            }
        }
        Ok(None)
    }

    fn hear(&self, transaction: &Transaction<'_>, from: &UserId, number: Number) -> Result<Fit, ClientError> {
        let name = self.name_of_voice(from, number.by);
        let place = [b"heard", &name[..]].concat();
        let mut query = transaction.prepare_cached("SELECT sealed FROM heard WHERE voice = ?1")?;
        let sealed: Option<Vec<u8>> = query.query_row(params![name], |row| row.get(0)).optional()?;
        let heard = sealed
            .and_then(|sealed| self.keys.open(&place, &sealed))
            .and_then(|plain| serde_json::from_slice::<Heard>(plain.expose()).ok());
        let (numbers, fit) = match heard {
            None => (Numbers::begin(number.n), Fit::Next),
            Some(Heard { next, missing }) => {
                let mut numbers = Numbers { next, missing };
                let fit = numbers.take(number.n);
                (numbers, fit)
            }
        };
        let Numbers { next, missing } = numbers;
        let plain = serde_json::to_vec(&Heard { next, missing });
        let plain = plain.map_err(|error| ClientError::Unwritable(error.to_string()))?;
        transaction
            .prepare_cached(
                "INSERT INTO heard(voice, sealed) VALUES (?1, ?2) ON CONFLICT(voice) DO UPDATE SET sealed = ?2",
            )?
            .execute(params![name, self.keys.seal(&place, &plain)?])?;
        Ok(fit)
    }

    fn name_of_voice(&self, from: &UserId, by: Voice) -> [u8; 16] {
        self.keys.name("voice", &[from.as_str().as_bytes(), by.as_bytes()])
    }
}

/// How many numbers behind a late text are looked for; beyond that it is shown where it came.
const LATER_COUNT_MAX: usize = 1_024;
