//! What is kept, over a restart and over damage.

use super::*;
use crate::store::{Database, migrations, tables};
use rusqlite::Connection;
use socp_core::server::{Record, SaveId, UserRecord};
use socp_proto::{Base64Url, ErrorCode, KeyText, Meta};

fn user(name: &str) -> UserId {
    UserId::try_from(name).unwrap()
}

fn key() -> KeyText {
    KeyText::from_der(&[7; 550])
}

fn database() -> (tempfile::TempDir, Connection) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("server.db");
    let mut connection = Connection::open(&path).unwrap();
    migrations::run(&mut connection, &path).unwrap();
    tables::write_identity(&connection, &"s".try_into().unwrap(), &key()).unwrap();
    (dir, connection)
}

fn save(connection: &Connection, records: impl IntoIterator<Item = Record>) {
    let group: Vec<(SaveId, Record)> = records.into_iter().map(|record| (SaveId(1), record)).collect();
    tables::commit(connection, &group).unwrap();
}

fn record(name: &str) -> Record {
    Record::User(UserRecord {
        user_id: user(name),
        pubkey: key(),
        enc_pubkey: key(),
        meta: Meta::default(),
        version: 1,
        directory_sig: Base64Url::encode(&[1; 512]),
        history: None,
    })
}

fn device(name: &str, up_to: u64) -> DeviceRecord {
    DeviceRecord {
        user: user(name),
        device: DeviceId::from_bytes([3; 16]),
        up_to,
        at: 5,
    }
}

fn mail(name: &str, seq: u64, text: &[u8]) -> Record {
    let item = MailItem::Message(Box::new(UserDeliver {
        ciphertext: Base64Url::encode(text),
        sender: user("author"),
        sender_pub: key(),
        content_sig: Base64Url::encode(&[2; 512]),
        ts: Some(9),
        seq: Some(seq),
    }));
    mail_of(name, seq, item)
}

fn mail_of(name: &str, seq: u64, item: MailItem) -> Record {
    let row = MailRow {
        seq,
        bytes: item.bytes(),
        author: u64::MAX - 7,
        via: u64::MAX / 2 + seq,
        at: 5,
    };
    let content = matches!(item, MailItem::Message(_)).then_some([u8::try_from(seq % 256).unwrap(); 16]);
    Record::Mail(Box::new(Mail {
        user: user(name),
        row,
        content,
        item,
    }))
}

fn outbound(seq: u64, server: &str, text: &[u8]) -> Outbound {
    let deliver = ServerDeliver {
        user_id: user("v"),
        ciphertext: Base64Url::encode(text),
        sender: user("author"),
        sender_pub: key(),
        content_sig: Base64Url::encode(&[2; 512]),
        ts: Some(9),
    };
    Outbound {
        server: server.try_into().unwrap(),
        row: OutboundRow {
            seq,
            bytes: 10,
            msg_ref: format!("r{seq}"),
            author: user("author"),
            recipient: user("v"),
            at: 5,
        },
        deliver: Box::new(deliver),
    }
}

fn page(connection: &Connection, shelf: &Shelf, after: u64) -> (Vec<u64>, Vec<u64>) {
    let page = read_page(connection, shelf, after).unwrap();
    (page.kept.iter().map(|(seq, _)| *seq).collect(), page.damaged)
}

#[test]
fn what_is_kept_is_there_after_a_restart_in_order() {
    let (_dir, connection) = database();
    let notice = ErrorNotice {
        code: ErrorCode::UserNotFound,
        detail: "nobody".to_owned(),
        msg_ref: Some("r".to_owned()),
        seq: Some(30),
    };
    save(
        &connection,
        [
            record("v"),
            Record::Device(device("v", 4)),
            mail("v", 10, b"one"),
            mail("w", 11, b"another's"),
            mail("v", 20, b"two"),
            mail_of("v", 30, MailItem::Notice(Box::new(notice.clone()))),
            Record::Outbound(Box::new(outbound(1, "b", b"three"))),
            Record::Outbound(Box::new(outbound(2, "c", b"four"))),
        ],
    );
    let mailboxes = read_mailboxes(&connection).unwrap();
    let of_v = mailboxes.iter().find(|mailbox| mailbox.user == user("v")).unwrap();
    assert_eq!(of_v.devices, [device("v", 4)]);
    assert_eq!(of_v.rows.iter().map(|row| row.seq).collect::<Vec<_>>(), [10, 20, 30]);
    let waits = read_outbound(&connection).unwrap();
    assert_eq!(waits.len(), 2);
    assert_eq!(waits[0].1, [outbound(1, "b", b"three").row]);
    let shelf = Shelf::Mailbox(user("v"));
    assert_eq!(page(&connection, &shelf, 0), (vec![10, 20, 30], vec![]));
    assert_eq!(page(&connection, &shelf, 10), (vec![20, 30], vec![]));
    save(&connection, [mail("v", 25, b"dropped"), mail("v", 26, b"dropped")]);
    save(&connection, [Record::MailDropped(user("v"), vec![25, 26])]);
    assert_eq!(page(&connection, &shelf, 10), (vec![20, 30], vec![]));
    let read = read_page(&connection, &shelf, 20).unwrap();
    let [(30, Kept::Mail(MailItem::Notice(found)))] = read.kept.as_slice() else {
        panic!("{read:?}");
    };
    assert_eq!(**found, notice);
    save(
        &connection,
        [Record::MailGone(user("v"), 20), Record::OutboundGone(vec![1])],
    );
    assert_eq!(page(&connection, &shelf, 0), (vec![30], vec![]));
    assert_eq!(
        page(&connection, &Shelf::Outbound("b".try_into().unwrap()), 0),
        (vec![], vec![])
    );
    assert_eq!(
        page(&connection, &Shelf::Outbound("c".try_into().unwrap()), 0),
        (vec![2], vec![])
    );
    let delivered: i64 = connection
        .query_row("SELECT count(*) FROM delivered", [], |row| row.get(0))
        .unwrap();
    assert_eq!(delivered, 5, "messages, and not the notice, are not taken again");
}

#[test]
fn a_page_ends_where_it_is_long_enough() {
    let (_dir, connection) = database();
    let long = vec![7; MAILBOX_PAGE_BYTES_MAX / 2];
    save(&connection, (1..=4).map(|seq| mail("v", seq, &long)));
    save(&connection, (5..=300).map(|seq| mail("v", seq, b"short")));
    let shelf = Shelf::Mailbox(user("v"));
    let (first, _) = page(&connection, &shelf, 0);
    assert_eq!(first, [1, 2]);
    let (short, _) = page(&connection, &shelf, 4);
    assert_eq!(short.len(), MAILBOX_PAGE_COUNT_MAX);
}

#[test]
fn what_is_damaged_is_put_aside_alone() {
    let (_dir, connection) = database();
    save(&connection, (1..=5).map(|seq| mail("v", seq, b"text")));
    save(&connection, [Record::Outbound(Box::new(outbound(1, "b", b"three")))]);
    for sql in [
        "UPDATE mailbox SET item = replace(item, 'author', 'authos') WHERE seq = 2",
        "UPDATE mailbox SET seq = 44 WHERE seq = 4",
        "UPDATE mailbox SET at = 6 WHERE seq = 5",
        "UPDATE outbound SET deliver = '{}'",
    ] {
        assert_eq!(connection.execute(sql, []).unwrap(), 1, "{sql}");
    }
    let shelf = Shelf::Mailbox(user("v"));
    assert_eq!(page(&connection, &shelf, 0), (vec![1, 3], vec![2, 5, 44]));
    assert_eq!(page(&connection, &shelf, 0), (vec![1, 3], vec![]), "it is found once");
    assert_eq!(
        page(&connection, &Shelf::Outbound("b".try_into().unwrap()), 0),
        (vec![], vec![1])
    );
    let mut aside = connection
        .prepare("SELECT shelf, whose, seq, why FROM quarantine ORDER BY rowid")
        .unwrap();
    let aside = aside.query_map([], |row| {
        Ok((
            row.get::<_, String>(0)?,
            row.get::<_, String>(1)?,
            row.get::<_, i64>(2)?,
            row.get::<_, String>(3)?,
        ))
    });
    let aside: Vec<_> = aside.unwrap().map(Result::unwrap).collect();
    let expected = [
        ("mailbox", "v", 2),
        ("mailbox", "v", 5),
        ("mailbox", "v", 44),
        ("outbound", "b", 1),
    ];
    for ((shelf, whose, seq, why), expected) in aside.iter().zip(expected) {
        assert_eq!((shelf.as_str(), whose.as_str(), *seq), expected);
        assert_eq!(why, "its checksum does not fit");
    }
    assert_eq!(aside.len(), expected.len());
}

#[test]
fn who_is_forgotten_leaves_nothing_behind() {
    let (_dir, connection) = database();
    save(
        &connection,
        [record("v"), Record::Device(device("v", 1)), mail("v", 1, b"text")],
    );
    save(
        &connection,
        [Record::Deleted(user("v")), Record::Device(device("v", 2))],
    );
    assert_eq!(read_mailboxes(&connection).unwrap(), []);
    save(
        &connection,
        [record("v"), Record::Device(device("v", 1)), mail("v", 2, b"text")],
    );
    save(&connection, [Record::Ousted(user("v"))]);
    assert_eq!(read_mailboxes(&connection).unwrap(), []);
}

#[test]
fn each_run_has_a_larger_number_also_after_a_clock_was_set_back() {
    let (_dir, connection) = database();
    let runs = [1_000, 1_000, 5, 2_000].map(|unix_s| tables::begin_run(&connection, unix_s).unwrap());
    assert_eq!(runs, [1_000, 1_001, 1_002, 2_000]);
}

#[test]
fn a_server_that_kept_something_keeps_it_over_an_open() {
    let (dir, connection) = database();
    save(
        &connection,
        [record("v"), Record::Device(device("v", 1)), mail("v", 9, b"text")],
    );
    drop(connection);
    let path = dir.path().join("server.db");
    let memory = Database::open(&path).unwrap().read(&path).unwrap().memory;
    assert_eq!(memory.mailboxes.len(), 1);
    assert_eq!(memory.delivered.len(), 1);
}

#[test]
fn a_device_whose_row_is_damaged_is_given_everything_again() {
    let (_dir, connection) = database();
    save(&connection, [record("v"), Record::Device(device("v", 20))]);
    assert_eq!(read_mailboxes(&connection).unwrap()[0].devices, [device("v", 20)]);
    connection.execute("UPDATE devices SET up_to = 1000", []).unwrap();
    let [damaged] = &read_mailboxes(&connection).unwrap()[0].devices[..] else {
        panic!("one device");
    };
    assert!(damaged.up_to == 0 && damaged.at > 1_000_000, "{damaged:?}");
    // One of before there were checksums.
    connection.execute("UPDATE devices SET sum = NULL", []).unwrap();
    assert_eq!(read_mailboxes(&connection).unwrap()[0].devices, [device("v", 1_000)]);
}
