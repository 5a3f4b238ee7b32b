//! What the database keeps: over a migration, over a restart, and for how long.

use super::{Database, GROUP_COUNT_MAX, Order, QUEUE_COUNT_MAX, Store, StoreHealth, Writer, migrations, tables};
use crate::hub::HubMessage;
use crate::metrics::Metrics;
use rusqlite::{Connection, StatementStatus};
use socp_core::server::{Delivered, KeptPassword, Memory, PasswordSet, Record, SaveId, ServerPin, UserRecord};
use socp_proto::limits::CONTENT_REMEMBERED_MS;
use socp_proto::payload::{KeptIdentity, PasswordRecord};
use socp_proto::{Base64Url, KeyHistory, KeyText, Meta, PublicPair, UserId};
use std::path::Path;
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, OnceLock};
use std::time::{SystemTime, UNIX_EPOCH};
use tokio::sync::mpsc;

const NOW: u64 = 1_800_000_000_000;

fn key(number: u8) -> KeyText {
    KeyText::from_der(&[number; 550])
}

fn pin(id: &str, number: u8) -> ServerPin {
    ServerPin {
        has_tls: false,
        server_id: id.try_into().unwrap(),
        key: key(number),
        host: "127.0.0.1".to_owned(),
        port: 1,
        name: Some(id.to_owned()),
        has_proved: false,
        keeps: false,
    }
}

fn delivered(number: u8, at: u64) -> Delivered {
    Delivered {
        content: [number; 16],
        at,
    }
}

fn commit(database: &mut Database, path: &Path, records: impl IntoIterator<Item = Record>) {
    let records: Vec<_> = (1..).map(SaveId).zip(records).collect();
    database.write(path, &records).unwrap();
}

fn reopened(path: &Path) -> Memory {
    Database::open(path).unwrap().read(path).unwrap().memory
}

#[test]
fn a_database_of_version_1_keeps_its_rows_and_gets_the_public_channel() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("server.db");
    let connection = Connection::open(&path).unwrap();
    connection.execute_batch(migrations::STEPS[0]).unwrap();
    connection.pragma_update(None, "user_version", 1).unwrap();
    let server = pin("srv-b", 2);
    tables::write_identity(&connection, &"srv-a".try_into().unwrap(), &key(1)).unwrap();
    connection
        .execute(
            "INSERT INTO server_pins VALUES ('srv-b', ?1, '127.0.0.1', 1, 'srv-b')",
            [key(2).as_str()],
        )
        .unwrap();
    connection
        .execute(
            "INSERT INTO users (user_id, pubkey, meta, version, enc_pubkey, directory_sig)
             VALUES ('alice', ?1, '{\"display_name\":\"Alice\"}', 1, ?1, 'AAAA')",
            [key(3).as_str()],
        )
        .unwrap();
    drop(connection);

    let database = Database::open(&path).unwrap();
    let remembered = database.read(&path).unwrap();
    assert_eq!(remembered.identity, Some(("srv-a".try_into().unwrap(), key(1))));
    assert_eq!(remembered.memory.pins, [server]);
    let users = &remembered.memory.users;
    assert_eq!((users.len(), users[0].user_id.as_str()), (1, "alice"));
    assert_eq!((users[0].pubkey.clone(), users[0].version), (key(3), 1));
    assert_eq!(remembered.memory.channel_version, 0);
    let version: i64 = database
        .connection
        .query_row("PRAGMA user_version", [], |row| row.get(0))
        .unwrap();
    assert_eq!(version, i64::try_from(migrations::STEPS.len()).unwrap());
    let channel: (String, i64) = database
        .connection
        .query_row(
            "SELECT creator_id, created_at FROM groups WHERE group_id = 'public'",
            [],
            |row| Ok((row.get(0)?, row.get(1)?)),
        )
        .unwrap();
    assert_eq!(channel, ("system".to_owned(), 0));
}

#[test]
fn a_database_of_version_2_knows_of_no_proof_and_a_proof_is_never_forgotten() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("server.db");
    let connection = Connection::open(&path).unwrap();
    for step in &migrations::STEPS[..2] {
        connection.execute_batch(step).unwrap();
    }
    connection.pragma_update(None, "user_version", 2).unwrap();
    connection
        .execute(
            "INSERT INTO server_pins VALUES ('srv-b', ?1, '127.0.0.1', 1, 'srv-b')",
            [key(2).as_str()],
        )
        .unwrap();
    drop(connection);
    assert_eq!(reopened(&path).pins, [pin("srv-b", 2)]);

    let proved = |host: &str, has_proved| ServerPin {
        host: host.to_owned(),
        has_proved,
        ..pin("srv-b", 2)
    };
    let mut database = Database::open(&path).unwrap();
    commit(&mut database, &path, [Record::Pin(proved("here", true))]);
    assert_eq!(reopened(&path).pins, [proved("here", true)]);
    // Whoever writes the address alone does not take it back.
    commit(&mut database, &path, [Record::Pin(proved("there", false))]);
    assert_eq!(reopened(&path).pins, [proved("there", true)]);
    // Whether TLS is spoken goes with the address.
    for has_tls in [true, false] {
        let pin = ServerPin {
            has_tls,
            ..proved("there", true)
        };
        commit(&mut database, &path, [Record::Pin(pin.clone())]);
        assert_eq!(reopened(&path).pins, [pin]);
    }
    let again = [
        Record::Unpinned("srv-b".try_into().unwrap()),
        Record::Pin(pin("srv-b", 9)),
    ];
    commit(&mut database, &path, again);
    assert_eq!(reopened(&path).pins, [pin("srv-b", 9)]);
}

#[test]
fn a_database_of_version_2_keeps_what_was_delivered() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("server.db");
    let connection = Connection::open(&path).unwrap();
    for step in &migrations::STEPS[..2] {
        connection.execute_batch(step).unwrap();
    }
    connection.pragma_update(None, "user_version", 2).unwrap();
    let rows = [delivered(3, NOW + 1), delivered(2, NOW + 2), delivered(1, NOW)];
    for row in rows {
        let at = i64::try_from(row.at).unwrap();
        let sql = "INSERT INTO delivered (content, at) VALUES (?1, ?2)";
        connection.execute(sql, rusqlite::params![row.content, at]).unwrap();
    }
    drop(connection);

    let mut database = Database::open(&path).unwrap();
    commit(&mut database, &path, [Record::Delivered(delivered(4, NOW + 3))]);
    let [third, second, first] = rows;
    assert_eq!(
        database.read(&path).unwrap().memory.delivered,
        [delivered(4, NOW + 3), second, third, first]
    );
    // The oldest goes first, as before.
    assert_eq!(tables::prune(&database.connection, NOW, 3, 100).unwrap(), 1);
    assert!(!database.read(&path).unwrap().memory.delivered.contains(&first));
}

#[test]
fn members_version_delivered_and_unpinned_survive_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("server.db");
    let mut database = Database::open(&path).unwrap();
    let member = |user: &str, version| Record::Member {
        user: user.try_into().unwrap(),
        version,
        at: NOW,
    };
    let records = [
        Record::Pin(pin("srv-b", 2)),
        Record::Pin(pin("srv-c", 3)),
        member("alice", 1),
        member("bob", 2),
        // The same again is no second membership, and an older version takes nothing back.
        member("alice", 1),
        Record::ChannelVersion(7),
        Record::ChannelVersion(5),
        Record::Delivered(delivered(1, NOW)),
        Record::Delivered(delivered(2, NOW + 2)),
        Record::Unpinned("srv-b".try_into().unwrap()),
    ];
    commit(&mut database, &path, records);
    drop(database);

    let memory = reopened(&path);
    assert_eq!(memory.pins, [pin("srv-c", 3)]);
    assert_eq!(memory.channel_version, 7);
    let members: Vec<&str> = memory.members.iter().map(UserId::as_str).collect();
    assert_eq!(members, ["alice", "bob"]);
    assert_eq!(memory.delivered, [delivered(2, NOW + 2), delivered(1, NOW)]);

    // A server that was unpinned may be pinned with another key; a pinned one keeps its key.
    let mut database = Database::open(&path).unwrap();
    commit(
        &mut database,
        &path,
        [Record::Pin(pin("srv-b", 9)), Record::Pin(pin("srv-c", 9))],
    );
    drop(database);
    let keys: Vec<KeyText> = reopened(&path).pins.into_iter().map(|pin| pin.key).collect();
    assert!(keys.contains(&key(9)) && keys.contains(&key(3)), "{keys:?}");
}

#[test]
fn what_was_delivered_long_ago_or_is_too_much_goes_oldest_first() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("server.db");
    let mut database = Database::open(&path).unwrap();
    let old = NOW - CONTENT_REMEMBERED_MS;
    let rows = [old - 2, old - 1, old, NOW - 3, NOW - 2, NOW - 1];
    let records: Vec<_> = (0..)
        .zip(rows)
        .map(|(number, at)| Record::Delivered(delivered(number, at)))
        .collect();
    commit(&mut database, &path, records);
    let left = |database: &Database| {
        let memory = database.read(&path).unwrap().memory;
        let mut times: Vec<u64> = memory.delivered.iter().map(|row| row.at).collect();
        times.sort_unstable();
        times
    };
    // One at a time at first: the limit holds for both reasons together.
    assert_eq!(tables::prune(&database.connection, NOW, 100, 1).unwrap(), 1);
    assert_eq!(left(&database), rows[1..]);
    // Thirty days and a millisecond are too long, thirty days are not.
    assert_eq!(tables::prune(&database.connection, NOW, 100, 100).unwrap(), 1);
    assert_eq!(left(&database), rows[2..]);
    assert_eq!(tables::prune(&database.connection, NOW, 2, 1).unwrap(), 1);
    assert_eq!(tables::prune(&database.connection, NOW, 2, 100).unwrap(), 1);
    assert_eq!(left(&database), rows[4..]);
    assert_eq!(tables::prune(&database.connection, NOW, 2, 100).unwrap(), 0);
}

#[test]
fn removing_reads_what_goes_and_not_the_rest() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("server.db");
    let mut database = Database::open(&path).unwrap();
    let rows = |count: usize| std::iter::repeat_n(Record::Delivered(delivered(1, NOW)), count);
    let steps_since = |database: &Database| {
        let steps = [tables::NEWEST, tables::OLDEST, tables::REMOVE].map(|sql| {
            let statement = database.connection.prepare_cached(sql).unwrap();
            statement.reset_status(StatementStatus::VmStep)
        });
        steps.iter().sum::<i32>()
    };
    commit(&mut database, &path, rows(20_000));
    for (kept_max, removed) in [(20_000, 0), (19_990, 10), (10_000, 100)] {
        steps_since(&database);
        assert_eq!(
            tables::prune(&database.connection, NOW, kept_max, 100).unwrap(),
            removed
        );
        let steps = steps_since(&database);
        let steps_max = 100 + 30 * i32::try_from(removed).unwrap();
        assert!(steps <= steps_max, "{steps} steps to remove {removed}");
    }
}

#[test]
fn a_table_that_is_full_does_not_grow() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("server.db");
    let database = Database::open(&path).unwrap();
    let mut writer = Writer::new(database.connection, StoreHealth::default(), Arc::default());
    writer.kept_max = 2_000;
    let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis();
    let now = u64::try_from(unix).unwrap();
    for group in 0..40_u64 {
        let saves = group * 250..(group + 1) * 250;
        let records = saves.map(|save| (SaveId(save), Record::Delivered(delivered(1, now))));
        writer.take(Order::Save(records.collect()), &nothing_more());
    }
    let kept: i64 = writer
        .connection
        .query_row("SELECT count(*) FROM delivered", [], |row| row.get(0))
        .unwrap();
    assert!((2_000..3_000).contains(&kept), "{kept}");
}

#[test]
fn one_commit_has_one_answer_and_a_failing_store_says_so_until_it_works_again() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("server.db");
    let database = Database::open(&path).unwrap();
    let health = StoreHealth::default();
    let mut writer = Writer::new(database.connection, health.clone(), Arc::default());
    let metrics = Arc::new(Metrics::new());
    let (hub, mut messages) = mpsc::channel(1);
    writer.take(Order::AnswerTo(hub), &nothing_more());
    writer.take(Order::CountWith(Arc::clone(&metrics)), &nothing_more());
    let mut save = |saves: std::ops::Range<u64>| {
        let both = |save| {
            [
                Record::ChannelVersion(save),
                Record::Delivered(delivered(1, NOW + save)),
            ]
        };
        // Nobody waits for what was delivered.
        let records = saves.flat_map(|save| [SaveId(save), SaveId(1_000 + save)].into_iter().zip(both(save)));
        writer.take(Order::Save(records.collect()), &nothing_more());
        match messages.try_recv() {
            Ok(HubMessage::Saved(saves, outcome)) => (saves, outcome.is_ok()),
            other => panic!("{other:?} is no answer"),
        }
    };
    let ids = |saves: std::ops::Range<u64>| saves.map(SaveId).collect::<Vec<_>>();
    assert_eq!(save(1..100), (ids(1..100), true));
    assert_eq!((health.failure(), metrics.store_failing()), (None, false));

    let other = Connection::open(&path).unwrap();
    other
        .execute_batch("ALTER TABLE delivered RENAME TO elsewhere")
        .unwrap();
    assert_eq!(save(100..102), (ids(100..102), false));
    let failure = health.failure().unwrap();
    assert!(failure.contains("delivered"), "{failure}");
    assert!(metrics.store_failing());

    other
        .execute_batch("ALTER TABLE elsewhere RENAME TO delivered")
        .unwrap();
    assert_eq!(save(102..103), (ids(102..103), true));
    assert_eq!((health.failure(), metrics.store_failing()), (None, false));
}

/// A store without a thread: what its writer would get can be looked at.
fn store_without_writer() -> (Store, Receiver<Order>, Writer, tempfile::TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let database = Database::open(&dir.path().join("server.db")).unwrap();
    let (orders, queue) = channel();
    let waiting = Arc::<crate::store::Queued>::default();
    let writer = Writer::new(database.connection, StoreHealth::default(), Arc::clone(&waiting));
    let store = Store {
        orders,
        writer: std::thread::spawn(|| ()),
        health: StoreHealth::default(),
        waiting,
        held: Vec::new(),
        held_since: None,
        metrics: OnceLock::new(),
    };
    (store, queue, writer, dir)
}

fn user(id: &str, number: u8) -> Record {
    Record::User(UserRecord {
        user_id: id.try_into().unwrap(),
        pubkey: key(number),
        enc_pubkey: key(number),
        meta: Meta::default(),
        version: 1,
        directory_sig: Base64Url::encode(&[]),
        history: None,
    })
}

fn password(id: &str, number: u8, secret: u8) -> PasswordSet {
    PasswordSet {
        user_id: id.try_into().unwrap(),
        pubkey: key(number),
        version: 1,
        record: PasswordRecord::try_from([secret; 192].as_slice()).unwrap(),
        sealed: KeptIdentity {
            ciphertext: Base64Url::encode(&[secret; 40]),
            iv: Base64Url::encode(&[secret; 12]),
            v: 1,
        },
    }
}

fn kept_of(set: &PasswordSet) -> KeptPassword {
    let (record, sealed) = (set.record.clone(), set.sealed.clone());
    KeptPassword { record, sealed }
}

#[test]
fn a_password_is_kept_through_hellos_until_another_is_set_or_the_id_is_anothers() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("server.db");
    let mut database = Database::open(&path).unwrap();
    let (first, second) = (password("alice", 1, 7), password("alice", 1, 8));
    let set = |set: &PasswordSet| Record::Password(Box::new(set.clone()));
    let kept = |id: &str| {
        let connection = Connection::open(&path).unwrap();
        tables::fetch(&connection, &id.try_into().unwrap()).unwrap()
    };
    commit(
        &mut database,
        &path,
        [user("bob", 2), user("alice", 1), set(&first), user("alice", 1)],
    );
    let memory = reopened(&path);
    assert_eq!(memory.passwords, [(first.user_id.clone(), first.record.clone())]);
    let came: Vec<&str> = memory.users.iter().map(|user| user.user_id.as_str()).collect();
    assert_eq!(came, ["bob", "alice"], "in the order in which they came");
    assert_eq!((kept("alice"), kept("bob")), (Some(kept_of(&first)), None));
    commit(&mut database, &path, [set(&second)]);
    assert_eq!(kept("alice"), Some(kept_of(&second)));
    // What was on its way for somebody whose id is another's now changes nothing.
    commit(
        &mut database,
        &path,
        [
            Record::Ousted("alice".try_into().unwrap()),
            user("alice", 3),
            set(&second),
        ],
    );
    assert_eq!((kept("alice"), reopened(&path).passwords.len()), (None, 0));
}

#[test]
fn what_a_password_opens_is_read_behind_what_is_queued() {
    let (mut store, queue, mut writer, _dir) = store_without_writer();
    let set = password("alice", 1, 7);
    let kept = kept_of(&set);
    assert!(store.save(SaveId(1), user("alice", 1)));
    assert!(store.save(SaveId(2), Record::Password(Box::new(set))));
    let fetched = store.fetch("alice".try_into().unwrap());
    let first = queue.recv().unwrap();
    writer.take(first, &queue);
    assert_eq!(fetched.blocking_recv().unwrap(), Some(kept));
}

fn nothing_more() -> Receiver<Order> {
    channel().1
}

/// The numbers of the records in each order that the writer has been given.
fn given(queue: &Receiver<Order>) -> Vec<Vec<u64>> {
    let records = |order| match order {
        Order::Save(records) => records.into_iter().map(|(SaveId(save), _)| save).collect(),
        Order::AnswerTo(_) | Order::CountWith(_) | Order::Fetch(..) | Order::ReadPage(..) | Order::Copy(_) => {
            panic!("no record")
        }
    };
    queue.try_iter().map(records).collect()
}

#[test]
fn what_waits_for_a_slow_disk_is_bounded_and_there_is_room_again_behind_a_commit() {
    let (mut store, queue, mut writer, _dir) = store_without_writer();
    let mut save = |number: usize| {
        let number = u64::try_from(number).unwrap();
        store.save(SaveId(number), Record::ChannelVersion(number))
    };
    assert!((0..QUEUE_COUNT_MAX).all(&mut save));
    assert!(!save(0) && !save(1));
    writer.take(queue.recv().unwrap(), &nothing_more());
    writer.take(queue.recv().unwrap(), &nothing_more());
    assert!(save(0) && save(1));
    assert!(!save(2));
}

#[test]
fn records_that_nobody_waits_for_are_held_together_and_go_with_the_first_that_somebody_waits_for() {
    let (mut store, queue, _writer, _dir) = store_without_writer();
    let row = |number| Record::Delivered(delivered(number, NOW));
    assert!(store.save(SaveId(1), row(1)) && store.save(SaveId(2), row(2)));
    assert_eq!(given(&queue), Vec::<Vec<u64>>::new());
    assert!(store.flush_due().is_some());

    assert!(store.save(SaveId(3), Record::ChannelVersion(1)));
    assert_eq!((given(&queue), store.flush_due()), (vec![vec![1, 2, 3]], None));

    assert!(store.save(SaveId(4), row(3)));
    store.flush();
    assert_eq!((given(&queue), store.flush_due()), (vec![vec![4]], None));

    let group_max = u64::try_from(GROUP_COUNT_MAX).unwrap();
    assert!((0..group_max).all(|save| store.save(SaveId(save), row(4))));
    assert_eq!(given(&queue), vec![(0..group_max).collect::<Vec<_>>()]);

    assert!(store.save(SaveId(5), row(5)));
    store.close();
    assert_eq!(given(&queue), vec![vec![5]]);
}

#[test]
fn a_commit_takes_what_is_there_and_no_more_than_bounded() {
    let (mut store, queue, mut writer, _dir) = store_without_writer();
    let all = u64::try_from(GROUP_COUNT_MAX + 10).unwrap();
    assert!((0..all).all(|save| store.save(SaveId(save), Record::ChannelVersion(save))));
    writer.take(queue.recv().unwrap(), &queue);
    assert_eq!(given(&queue).len(), 10);
}

fn pair(number: u8) -> PublicPair {
    PublicPair {
        pubkey: key(number),
        enc_pubkey: key(number + 100),
    }
}

/// A user who has had these keys.
fn user_of_keys(numbers: &[u8]) -> UserRecord {
    let user_id: UserId = "alice".try_into().unwrap();
    let first = pair(numbers[0]);
    let mut history = None;
    for number in &numbers[1..] {
        let next = KeyHistory::next(&user_id, &first, history.as_ref(), pair(*number), 7);
        history = Some(match &history {
            None => KeyHistory::begin(first.clone(), next).unwrap(),
            Some(history) => KeyHistory::and(history, next).unwrap(),
        });
    }
    let PublicPair { pubkey, enc_pubkey } = history.as_ref().map_or(first, KeyHistory::newest);
    UserRecord {
        user_id,
        pubkey,
        enc_pubkey,
        meta: Meta::default(),
        version: history.as_ref().map_or(1, KeyHistory::version),
        directory_sig: Base64Url::encode(&[numbers.len().try_into().unwrap()]),
        history,
    }
}

#[test]
fn keys_go_on_and_never_back_and_nothing_is_left_of_who_is_deleted() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("server.db");
    let mut database = Database::open(&path).unwrap();
    tables::write_identity(&database.connection, &"srv-a".try_into().unwrap(), &key(1)).unwrap();
    let member = Record::Member {
        user: "alice".try_into().unwrap(),
        version: 1,
        at: NOW,
    };
    let set = Record::Password(Box::new(password("alice", 2, 7)));
    commit(&mut database, &path, [Record::User(user_of_keys(&[2])), member, set]);
    let memory = reopened(&path);
    assert_eq!((memory.users, memory.passwords.len()), (vec![user_of_keys(&[2])], 1));
    for numbers in [&[2, 3][..], &[2, 3, 4]] {
        commit(&mut database, &path, [Record::User(user_of_keys(numbers))]);
        let memory = reopened(&path);
        // A password opened the keys before.
        assert_eq!((memory.users, memory.passwords.len()), (vec![user_of_keys(numbers)], 0));
    }
    // Nor does one that was set with those, and comes after.
    commit(
        &mut database,
        &path,
        [Record::Password(Box::new(password("alice", 4, 7)))],
    );
    assert_eq!(reopened(&path).passwords.len(), 0);
    // What was signed before and is written after changes the profile alone.
    commit(&mut database, &path, [Record::User(user_of_keys(&[2, 3]))]);
    assert_eq!(reopened(&path).users, [user_of_keys(&[2, 3, 4])]);
    commit(&mut database, &path, [Record::Deleted("alice".try_into().unwrap())]);
    let memory = reopened(&path);
    assert!(memory.users.is_empty() && memory.members.is_empty());
    let rows: i64 = database
        .connection
        .query_row("SELECT count(*) FROM user_keys", [], |row| row.get(0))
        .unwrap();
    assert_eq!(rows, 0);
}
