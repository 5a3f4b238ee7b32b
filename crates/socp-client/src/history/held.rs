//! Messages that cannot be opened yet, as they came (PROTOCOL II.6).
//!
//! They have our acknowledgement, so nobody else keeps them any more. Each is sealed like what was said; in the clear are
//! its size, its time, and keyed hashes of its author and of the whole of it, by which one that comes again is known.

use super::{History, begin, from_sql, to_sql};
use crate::error::ClientError;
use crate::profile::unix_ms;
use rusqlite::{OptionalExtension as _, Transaction, params};
use serde::{Deserialize, Serialize};
use socp_core::client::{Deposit, Held, Outcome, PostId};
use socp_proto::limits::MAILBOX_KEPT_MS;
use socp_proto::{Base64Url, KeyText, UserId};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::PoisonError;

/// Messages that are held in one profile (our choice).
pub(crate) const HELD_COUNT_MAX: i64 = 2_048;
/// Their bytes (our choice).
pub(crate) const HELD_BYTES_MAX: i64 = 16 * 1024 * 1024;
/// Of them, of one author; so that one whom nobody knows keeps out few others, and one who is known no other (our choice).
pub(crate) const HELD_AUTHOR_COUNT_MAX: i64 = HELD_COUNT_MAX / 4;
/// See [`HELD_AUTHOR_COUNT_MAX`].
pub(crate) const HELD_AUTHOR_BYTES_MAX: i64 = HELD_BYTES_MAX / 4;
/// Of them, of authors whose key is not pinned: whoever makes up authors must not take the room of those one knows (our
/// choice).
pub(crate) const HELD_STRANGERS_COUNT_MAX: i64 = HELD_COUNT_MAX / 2;
/// See [`HELD_STRANGERS_COUNT_MAX`].
pub(crate) const HELD_STRANGERS_BYTES_MAX: i64 = HELD_BYTES_MAX / 2;
/// How long a message is held: as long as a server would have kept it.
pub(crate) const HELD_MS: u64 = MAILBOX_KEPT_MS;

/// How long what was held for too long is still there once it was read to be tried: a key may be on its way, and whoever comes
/// back after a month has a decision to make (our choice).
const LAST_TRY_MS: u64 = 600_000;

/// The table, as a migration of the profile. No number is used twice: who has read a row may release it later.
pub(crate) const SCHEMA: &str = "
    CREATE TABLE held(
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        name BLOB NOT NULL UNIQUE,
        author BLOB NOT NULL,
        known INTEGER NOT NULL CHECK (known IN (0, 1)),
        at INTEGER NOT NULL,
        bytes INTEGER NOT NULL,
        sealed BLOB NOT NULL
    ) STRICT;
    CREATE INDEX held_author ON held(author, id);
    CREATE INDEX held_at ON held(at);
";

/// What undoes it, for tests of older profiles.
#[cfg(test)]
pub(crate) const UNDONE: &str = "DROP TABLE held;";

/// What is sealed in a row.
#[derive(Serialize, Deserialize)]
struct Body {
    from: UserId,
    sender_pub: KeyText,
    ciphertext: Base64Url,
    content_sig: Base64Url,
    ts: u64,
}

/// What there is for one more message.
struct Room {
    is_enough: bool,
    /// Nothing of its author is held.
    is_first: bool,
}

/// What is held, and what is to be known of what was held for too long.
pub(crate) type Waiting = (Vec<(PostId, Held)>, Vec<(UserId, String)>);

impl History {
    /// Keeps a message until it can be opened, unless there is no room; with the notice that goes with it.
    pub(super) fn hold(
        &self,
        transaction: &Transaction<'_>,
        held: &Held,
        is_known: bool,
        (told, refused): (&str, &str),
    ) -> Result<Outcome, ClientError> {
        let (name, author) = (self.name_of_held(held), self.conversation(&held.from));
        let mut query = transaction.prepare_cached("SELECT id, sealed FROM held WHERE name = ?1")?;
        let kept = query.query_row(params![name], |row| {
            Ok((row.get::<_, i64>(0)?, row.get::<_, Vec<u8>>(1)?))
        });
        if let Some((id, sealed)) = kept.optional()? {
            if self.open_held(&name, &sealed).is_some() {
                return Ok(Outcome::Held { is_first: false });
            }
            // Nothing of it is left there, and whoever sends it forgets it with our answer.
            transaction.execute("DELETE FROM held WHERE id = ?1", [id])?;
        }
        let body = Body {
            from: held.from.clone(),
            sender_pub: held.sender_pub.clone(),
            ciphertext: held.ciphertext.clone(),
            content_sig: held.content_sig.clone(),
            ts: held.ts,
        };
        let plain = serde_json::to_vec(&body).map_err(|error| ClientError::Unwritable(error.to_string()))?;
        let sealed = self.keys.seal(&place(&name), &plain)?;
        let bytes = i64::try_from(sealed.len()).unwrap_or(i64::MAX);
        let mut found = room(transaction, (&author, is_known), bytes)?;
        if !found.is_enough {
            // A program that ends soon gives nothing up by itself.
            let until = unix_ms().saturating_sub(to_sql(HELD_MS));
            let gone = self.read_held(transaction, "at < ?1", params![until])?;
            self.forget_held(transaction, &gone)?;
            found = room(transaction, (&author, is_known), bytes)?;
        }
        if !found.is_enough {
            self.insert_notice(transaction, Some(&held.from), refused)?;
            return Ok(Outcome::NoRoom);
        }
        transaction
            .prepare_cached("INSERT INTO held(name, author, known, at, bytes, sealed) VALUES (?1, ?2, ?3, ?4, ?5, ?6)")?
            .execute(params![name, author, is_known, to_sql(held.at), bytes, sealed])?;
        let is_first = found.is_first;
        if is_first {
            self.insert_notice(transaction, Some(&held.from), told)?;
        }
        Ok(Outcome::Held { is_first })
    }

    /// What has become of a message that was held. Another program may have been faster, and written it down.
    pub(super) fn release(
        &self,
        transaction: &Transaction<'_>,
        (id, deposit): (PostId, &Deposit),
        born: PostId,
    ) -> Result<Outcome, ClientError> {
        let mut delete = transaction.prepare_cached("DELETE FROM held WHERE id = ?1")?;
        let was_there = delete.execute([to_sql(id)])? > 0;
        if !was_there && matches!(deposit, Deposit::Notice { .. }) {
            return Ok(Outcome::Done);
        }
        self.store_one(transaction, deposit, born)
    }

    /// What is held, of one author or of all, in the order in which it came. Of all, what was held for too long is forgotten, if
    /// it was read some time ago and waits all the same.
    pub(crate) fn held(&self, of: Option<&UserId>) -> Result<Waiting, ClientError> {
        let mut database = self.lock();
        let transaction = begin(&mut database)?;
        let condition = if of.is_some() { "author = ?1" } else { "?1 IS NOT NULL" };
        let author = of.map_or([0; 16], |user| self.conversation(user));
        let mut found = self.read_held(&transaction, condition, params![author])?;
        let mut expired = Vec::new();
        if of.is_none() {
            let tried = self.tried_in_vain(&found);
            let gone: Vec<_> = found.extract_if(.., |(id, _)| tried.contains(id)).collect();
            expired = self.forget_held(&transaction, &gone)?;
        }
        transaction.commit()?;
        Ok((found, expired))
    }

    /// Of what is held, that which is here for too long and was read before to be tried. What is read now is tried now.
    fn tried_in_vain(&self, found: &[(PostId, Held)]) -> BTreeSet<PostId> {
        let now = from_sql(unix_ms());
        let until = now.saturating_sub(HELD_MS);
        let late = found.iter().filter(|(_, held)| held.at < until);
        let late: BTreeSet<PostId> = late.map(|(id, _)| *id).collect();
        // A panic elsewhere leaves a time behind, or none.
        let mut last_tries = self.last_tries.lock().unwrap_or_else(PoisonError::into_inner);
        last_tries.retain(|id, _| late.contains(id));
        let is_in_vain = |id: &PostId| {
            let since = last_tries.entry(*id).or_insert(now);
            now.saturating_sub(*since) >= LAST_TRY_MS
        };
        late.into_iter().filter(is_in_vain).collect()
    }

    /// Forgets these, with one notice for each author.
    fn forget_held(
        &self,
        transaction: &Transaction<'_>,
        gone: &[(PostId, Held)],
    ) -> Result<Vec<(UserId, String)>, ClientError> {
        let mut counts: BTreeMap<&UserId, u64> = BTreeMap::new();
        let mut delete = transaction.prepare_cached("DELETE FROM held WHERE id = ?1")?;
        for (id, held) in gone {
            delete.execute([to_sql(*id)])?;
            let count = counts.entry(&held.from).or_default();
            *count = count.saturating_add(1);
        }
        let days = HELD_MS / 86_400_000;
        let mut expired = Vec::new();
        for (user, count) in counts {
            let what = if count == 1 {
                "a message that claims to be from".to_owned()
            } else {
                format!("{count} messages that claim to be from")
            };
            let text =
                format!("{what} {user} could not be opened for {days} days, and can be no more: it was given up");
            let text = if count == 1 {
                text
            } else {
                text.replace("it was", "they were")
            };
            self.insert_notice(transaction, Some(user), &text)?;
            expired.push((user.clone(), text));
        }
        Ok(expired)
    }

    /// What can be read of these rows. Those that are damaged go when their time is over, or is damaged as well.
    fn read_held(
        &self,
        transaction: &Transaction<'_>,
        condition: &str,
        values: &[&dyn rusqlite::ToSql],
    ) -> Result<Vec<(PostId, Held)>, ClientError> {
        let text = format!("SELECT id, name, at, sealed FROM held WHERE {condition} ORDER BY id");
        let mut query = transaction.prepare(&text)?;
        let rows = query.query_map(values, |row| {
            let [name, sealed]: [Vec<u8>; 2] = [row.get(1)?, row.get(3)?];
            Ok((row.get::<_, i64>(0)?, name, row.get::<_, i64>(2)?, sealed))
        })?;
        let now = from_sql(unix_ms());
        let in_time = now.saturating_sub(HELD_MS)..=now;
        let (mut found, mut gone) = (Vec::new(), Vec::new());
        for row in rows {
            let (id, name, at, sealed) = row?;
            match self.open_held(&name, &sealed) {
                Some(body) => found.push((from_sql(id), body.into_held(from_sql(at)))),
                None if in_time.contains(&from_sql(at)) => {}
                None => gone.push(id),
            }
        }
        for id in gone {
            transaction.execute("DELETE FROM held WHERE id = ?1", [id])?;
        }
        Ok(found)
    }

    /// What a row holds; nothing if it is damaged, which is counted. A name of another length is damage as well.
    fn open_held(&self, name: &[u8], sealed: &[u8]) -> Option<Body> {
        let plain = self.keys.open(&place(name), sealed);
        let body = plain.and_then(|plain| serde_json::from_slice(plain.expose()).ok());
        if body.is_none() {
            self.note_damage();
        }
        body
    }

    /// All of it counts: a forgery that shares the signature of a true message must not keep that out.
    fn name_of_held(&self, held: &Held) -> [u8; 16] {
        let parts = [
            held.from.as_str().as_bytes(),
            held.sender_pub.as_str().as_bytes(),
            held.ciphertext.as_str().as_bytes(),
            held.content_sig.as_str().as_bytes(),
            &held.ts.to_be_bytes(),
        ];
        self.keys.name("held", &parts)
    }
}

impl Body {
    fn into_held(self, at: u64) -> Held {
        Held {
            from: self.from,
            sender_pub: self.sender_pub,
            ciphertext: self.ciphertext,
            content_sig: self.content_sig,
            ts: self.ts,
            at,
        }
    }
}

/// Whether there is room for one more of so many bytes of this author, whose key is pinned or not.
fn room(transaction: &Transaction<'_>, (author, is_known): (&[u8; 16], bool), bytes: i64) -> Result<Room, ClientError> {
    let mut query = transaction.prepare_cached(
        "SELECT count(*), coalesce(sum(bytes), 0), count(*) FILTER (WHERE author = ?1),
            coalesce(sum(bytes) FILTER (WHERE author = ?1), 0), count(*) FILTER (WHERE known = 0),
            coalesce(sum(bytes) FILTER (WHERE known = 0), 0) FROM held",
    )?;
    let taken: [i64; 6] = query.query_row(params![author], |row| {
        Ok([
            row.get(0)?,
            row.get(1)?,
            row.get(2)?,
            row.get(3)?,
            row.get(4)?,
            row.get(5)?,
        ])
    })?;
    let [count, sum, of_author, of_author_bytes, of_strangers, of_strangers_bytes] = taken;
    let is_full = count >= HELD_COUNT_MAX || sum.saturating_add(bytes) > HELD_BYTES_MAX;
    let is_theirs_full =
        of_author >= HELD_AUTHOR_COUNT_MAX || of_author_bytes.saturating_add(bytes) > HELD_AUTHOR_BYTES_MAX;
    let is_strangers_full =
        of_strangers >= HELD_STRANGERS_COUNT_MAX || of_strangers_bytes.saturating_add(bytes) > HELD_STRANGERS_BYTES_MAX;
    Ok(Room {
        is_enough: !is_full && !is_theirs_full && (is_known || !is_strangers_full),
        is_first: of_author == 0,
    })
}

fn place(name: &[u8]) -> Vec<u8> {
    [b"held", name].concat()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::profile::Profile;
    use rusqlite::Connection;
    use socp_core::client::Arrived;
    use std::path::Path;

    fn open(dir: &Path) -> History {
        let profile = Profile::open_or_create(dir, None, None, None).unwrap();
        profile.unlock(None).unwrap();
        profile.history().unwrap()
    }

    fn user(id: &str) -> UserId {
        UserId::try_from(id).unwrap()
    }

    /// A message of somebody's, told apart by its time.
    fn held(from: &str, ts: u64) -> Held {
        Held {
            from: user(from),
            sender_pub: KeyText::from_der(&[7]),
            ciphertext: Base64Url::encode(b"ciphertext of a secret"),
            content_sig: Base64Url::encode(b"signature"),
            ts,
            at: from_sql(unix_ms()),
        }
    }

    fn hold(held: &Held, is_known: bool) -> Deposit {
        Deposit::Hold {
            held: held.clone(),
            is_known,
            told: "it waits".to_owned(),
            refused: "no room".to_owned(),
        }
    }

    fn store(history: &History, deposit: Deposit) -> Outcome {
        let mut stored = history.store(&[deposit], (None, None), 0).unwrap();
        assert_eq!(stored.len(), 1);
        stored.remove(0)
    }

    fn released(id: PostId, deposit: Deposit) -> Deposit {
        let deposit = Box::new(deposit);
        Deposit::Released { id, deposit }
    }

    /// As if what is held for too long had been read long enough ago.
    fn let_the_last_try_pass(history: &History) {
        for since in history.last_tries.lock().unwrap().values_mut() {
            *since -= LAST_TRY_MS;
        }
    }

    fn notices(history: &History, from: &str) -> Vec<String> {
        let last = history.last(Some(&user(from)), 100).unwrap();
        last.into_iter().map(|entry| entry.text).collect()
    }

    #[test]
    fn what_waits_is_there_once_in_order_after_a_restart_and_is_told_once() {
        let dir = tempfile::tempdir().unwrap();
        let history = open(dir.path());
        let [first, second] = [5, 6].map(|ts| held("alice", ts));
        assert_eq!(store(&history, hold(&first, true)), Outcome::Held { is_first: true });
        for again in [&second, &first, &second] {
            assert_eq!(store(&history, hold(again, true)), Outcome::Held { is_first: false });
        }
        let bobs = held("bob", 5);
        assert_eq!(store(&history, hold(&bobs, true)), Outcome::Held { is_first: true });
        drop(history);
        let history = open(dir.path());
        let (all, expired) = history.held(None).unwrap();
        let all: Vec<Held> = all.into_iter().map(|(_, held)| held).collect();
        assert_eq!((all, expired), (vec![first, second, bobs], vec![]));
        assert_eq!(history.held(Some(&user("alice"))).unwrap().0.len(), 2);
        assert_eq!(history.held(Some(&user("carol"))).unwrap().0.len(), 0);
        assert_eq!(notices(&history, "alice"), ["it waits"]);
        let file = std::fs::read(dir.path().join("profile.db")).unwrap();
        let wal = std::fs::read(dir.path().join("profile.db-wal")).unwrap_or_default();
        for secret in [&b"alice"[..], Base64Url::encode(b"signature").as_str().as_bytes()] {
            let is_there = |bytes: &[u8]| bytes.windows(secret.len()).any(|it| it == secret);
            assert!(!is_there(&file) && !is_there(&wal), "nothing stands in the clear");
        }
    }

    #[test]
    fn what_is_released_is_written_down_once_and_its_number_is_nobody_elses() {
        let dir = tempfile::tempdir().unwrap();
        let history = open(dir.path());
        store(&history, hold(&held("alice", 5), true));
        let [(id, _)] = history.held(None).unwrap().0[..] else {
            panic!("one is held");
        };
        let text = || {
            Deposit::Text(Arrived {
                msg_ref: "ref".to_owned(),
                from: user("alice"),
                text: "at last".to_owned(),
                ts: 5,
                number: None,
            })
        };
        assert!(matches!(store(&history, released(id, text())), Outcome::New { .. }));
        assert!(history.held(None).unwrap().0.is_empty());
        // Another program had read it before, and finds it done; what it has to complain of was said as well.
        assert!(matches!(store(&history, released(id, text())), Outcome::Known { .. }));
        let notice = Deposit::Notice {
            about: Some(user("alice")),
            text: "forged".to_owned(),
        };
        assert_eq!(store(&history, released(id, notice.clone())), Outcome::Done);
        assert_eq!(notices(&history, "alice"), ["it waits", "at last"]);
        store(&history, hold(&held("alice", 6), true));
        let [(next, _)] = history.held(None).unwrap().0[..] else {
            panic!("one is held");
        };
        assert!(next > id);
        assert_eq!(store(&history, released(next, notice)), Outcome::Done);
        assert_eq!(notices(&history, "alice").last().map(String::as_str), Some("forged"));
    }

    /// As if so many messages of this author, of so many bytes each, were held.
    fn fill(dir: &Path, history: &History, from: &str, is_known: bool, (count, bytes): (i64, i64)) {
        let database = Connection::open(dir.join("profile.db")).unwrap();
        database
            .execute(
                "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?1)
                    INSERT INTO held(name, author, known, at, bytes, sealed)
                    SELECT randomblob(16), ?2, ?3, ?4, ?5, x'00' FROM n",
                params![count, history.conversation(&user(from)), is_known, unix_ms(), bytes],
            )
            .unwrap();
    }

    #[test]
    fn there_is_room_for_so_many_of_each_and_strangers_leave_room_for_friends() {
        // Whose messages are there, whether they are pinned, how many of how many bytes; and whether Alice is.
        let table = [
            ("alice", true, (HELD_AUTHOR_COUNT_MAX, 1), true, "no room"),
            ("alice", true, (1, HELD_AUTHOR_BYTES_MAX), true, "no room"),
            ("bob", true, (HELD_AUTHOR_COUNT_MAX, 1), true, "it waits"),
            ("bob", true, (HELD_COUNT_MAX, 1), true, "no room"),
            ("bob", true, (1, HELD_BYTES_MAX), true, "no room"),
            ("bob", false, (HELD_STRANGERS_COUNT_MAX, 1), false, "no room"),
            ("bob", false, (1, HELD_STRANGERS_BYTES_MAX), true, "it waits"),
        ];
        for (from, is_pinned, there, is_known, told) in table {
            let dir = tempfile::tempdir().unwrap();
            let history = open(dir.path());
            fill(dir.path(), &history, from, is_pinned, there);
            let outcome = store(&history, hold(&held("alice", 5), is_known));
            let expected = if told == "no room" {
                Outcome::NoRoom
            } else {
                Outcome::Held { is_first: true }
            };
            assert_eq!(
                (outcome, &notices(&history, "alice")[..]),
                (expected, &[told.to_owned()][..]),
                "{there:?}"
            );
        }
    }

    #[test]
    fn what_was_held_for_too_long_is_given_up_with_one_word_for_each_author() {
        let dir = tempfile::tempdir().unwrap();
        let history = open(dir.path());
        for (ts, age) in [(1, HELD_MS + 60_000), (2, HELD_MS + 60_000), (3, HELD_MS - 3_600_000)] {
            let held = held("alice", ts);
            let at = held.at.saturating_sub(age);
            store(&history, hold(&Held { at, ..held }, true));
        }
        assert_eq!(
            history.held(Some(&user("alice"))).unwrap().0.len(),
            3,
            "looked at as long as it is there"
        );
        for _ in 0..2 {
            let (tried, expired) = history.held(None).unwrap();
            assert_eq!((tried.len(), expired), (3, vec![]), "nothing goes before it was tried");
        }
        let_the_last_try_pass(&history);
        let (kept, expired) = history.held(None).unwrap();
        assert_eq!((kept.len(), kept[0].1.ts, expired.len()), (1, 3, 1));
        let text = &expired[0].1;
        assert!(
            text.starts_with("2 messages that claim to be from alice") && text.contains("30 days"),
            "{text}"
        );
        assert_eq!(notices(&history, "alice").last(), Some(text));
        assert_eq!(history.held(None).unwrap().1, []);
    }

    #[test]
    fn a_row_that_was_damaged_or_exchanged_is_counted_and_goes_with_the_time() {
        let dir = tempfile::tempdir().unwrap();
        let history = open(dir.path());
        store(&history, hold(&held("alice", 5), true));
        store(&history, hold(&held("bob", 6), true));
        let database = Connection::open(dir.path().join("profile.db")).unwrap();
        let copy = "UPDATE held SET sealed = (SELECT sealed FROM held ORDER BY id LIMIT 1) WHERE id = 2";
        database.execute(copy, []).unwrap();
        let (left, _) = history.held(None).unwrap();
        assert_eq!((left.len(), left[0].1.ts, history.damaged_count()), (1, 5, 1));
        database.execute("UPDATE held SET at = 0", []).unwrap();
        let left = || -> i64 {
            history.held(None).unwrap();
            let count = "SELECT count(*) FROM held";
            database.query_row(count, [], |row| row.get(0)).unwrap()
        };
        assert_eq!(left(), 1, "what can be read is tried once more");
        let_the_last_try_pass(&history);
        assert_eq!(left(), 0);
    }

    #[test]
    fn what_was_held_for_too_long_makes_room_where_there_is_none() {
        let dir = tempfile::tempdir().unwrap();
        let history = open(dir.path());
        for (ts, age) in [(1, HELD_MS + 60_000), (2, 60_000)] {
            let held = held("bob", ts);
            let at = held.at.saturating_sub(age);
            store(&history, hold(&Held { at, ..held }, true));
        }
        fill(dir.path(), &history, "carol", true, (HELD_COUNT_MAX - 2, 1));
        assert!(matches!(
            store(&history, hold(&held("alice", 3), true)),
            Outcome::Held { .. }
        ));
        assert_eq!(store(&history, hold(&held("alice", 4), true)), Outcome::NoRoom);
        let told = notices(&history, "bob");
        assert!(told.last().is_some_and(|text| text.contains("given up")), "{told:?}");
        assert_eq!(history.held(Some(&user("bob"))).unwrap().0.len(), 1);
    }

    #[test]
    fn what_comes_again_over_a_damaged_row_is_kept_anew() {
        for damage in [
            "UPDATE held SET sealed = x'00'",
            "UPDATE held SET sealed = zeroblob(length(sealed))",
        ] {
            let dir = tempfile::tempdir().unwrap();
            let history = open(dir.path());
            let message = held("alice", 5);
            store(&history, hold(&message, true));
            let database = Connection::open(dir.path().join("profile.db")).unwrap();
            database.execute(damage, []).unwrap();
            assert!(matches!(store(&history, hold(&message, true)), Outcome::Held { .. }));
            assert_eq!(history.damaged_count(), 1, "{damage}");
            let (left, _) = history.held(None).unwrap();
            let [(_, kept)] = &left[..] else {
                panic!("{damage}: {left:?}");
            };
            assert_eq!((kept, history.damaged_count()), (&message, 1));
        }
    }

    #[test]
    fn a_row_whose_name_is_damaged_keeps_no_other_from_being_read_and_takes_no_room_for_ever() {
        let dir = tempfile::tempdir().unwrap();
        let history = open(dir.path());
        for (from, ts) in [("alice", 5), ("alice", 6), ("bob", 7)] {
            store(&history, hold(&held(from, ts), true));
        }
        let database = Connection::open(dir.path().join("profile.db")).unwrap();
        database
            .execute("UPDATE held SET name = x'0102' WHERE id = 1", [])
            .unwrap();
        let times = |of: Option<&UserId>| {
            let (left, _) = history.held(of).unwrap();
            left.iter().map(|(_, held)| held.ts).collect::<Vec<_>>()
        };
        assert_eq!((times(None), history.damaged_count()), (vec![6, 7], 1));
        assert_eq!((times(Some(&user("alice"))), history.damaged_count()), (vec![6], 2));
        // What it says of its age may be damaged as well.
        for at in [from_sql(unix_ms()).saturating_sub(HELD_MS + 1), u64::MAX] {
            let set = "UPDATE held SET name = x'0102', at = ?1 WHERE id = (SELECT min(id) FROM held)";
            database.execute(set, [to_sql(at)]).unwrap();
            history.held(None).unwrap();
        }
        let left: i64 = database
            .query_row("SELECT count(*) FROM held", [], |row| row.get(0))
            .unwrap();
        assert_eq!(left, 1);
    }
}
