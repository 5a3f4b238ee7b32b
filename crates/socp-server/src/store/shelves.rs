//! What is kept until it has arrived: mailboxes, and what waits for servers (PROTOCOL II.6).
//!
//! Each message has a checksum over everything in its row. One that does not fit is put aside and never delivered; those
//! around it are not touched.

use super::tables::{clamp, execute, invalid, text};
use rusqlite::{Connection, OptionalExtension as _, Result, Row, params};
use serde::{Deserialize, Serialize};
use socp_core::server::{
    DeviceRecord, Kept, Mail, MailItem, MailRow, MailboxMemory, Outbound, OutboundRow, Page, Shelf,
};
use socp_proto::limits::{MAILBOX_PAGE_BYTES_MAX, MAILBOX_PAGE_COUNT_MAX};
use socp_proto::payload::{ErrorNotice, ServerDeliver, UserDeliver};
use socp_proto::{Base64Url, DeviceId, ServerId, UserId, sha256};
use std::collections::BTreeMap;
use std::time::{SystemTime, UNIX_EPOCH};

#[cfg(test)]
mod tests;

/// A message as it stands in a row.
#[derive(Serialize, Deserialize)]
enum Item {
    #[serde(rename = "message")]
    Message(Box<UserDeliver>),
    #[serde(rename = "notice")]
    Notice(Box<ErrorNotice>),
}

/// The checksum of a row: half of the SHA-256 of all its parts.
fn sum_of(whose: &str, seq: u64, at: u64, content: &str) -> [u8; 16] {
    let head = format!("{whose}\n{seq}\n{at}\n");
    let hash = sha256(&[head.as_bytes(), content.as_bytes()].concat());
    std::array::from_fn(|index| hash.get(index).copied().unwrap_or_default())
}

fn number(row: &Row<'_>, column: usize) -> Result<u64> {
    u64::try_from(row.get::<_, i64>(column)?).map_err(|error| invalid(column, error))
}

fn size(row: &Row<'_>, column: usize) -> Result<usize> {
    usize::try_from(row.get::<_, i64>(column)?).map_err(|error| invalid(column, error))
}

fn to_text(value: &impl Serialize) -> Result<String> {
    serde_json::to_string(value).map_err(|error| rusqlite::Error::ToSqlConversionFailure(Box::new(error)))
}

/// Messages are found by their index; where it does not list what the table has, some would never be, and nobody would know.
fn check_index(connection: &Connection, shelf: &str, by_table: &str, by_index: &str) -> Result<()> {
    // The rows come in different orders.
    let sum_over = |sql: &str| -> Result<u64> {
        let mut statement = connection.prepare(sql)?;
        let mut rows = statement.query([])?;
        let mut sum = 0_u64;
        while let Some(row) = rows.next()? {
            let whose = row.get_ref(1)?.as_bytes().map_err(|error| invalid(1, error))?;
            let head = format!("{}\n{}\n", row.get::<_, i64>(0)?, row.get::<_, i64>(2)?);
            let hash = sha256(&[head.as_bytes(), whose].concat());
            let first = hash.first_chunk::<8>().copied().unwrap_or_default();
            sum = sum.wrapping_add(u64::from_be_bytes(first));
        }
        Ok(sum)
    };
    if sum_over(by_table)? == sum_over(by_index)? {
        return Ok(());
    }
    let why = format!("the index of the table {shelf} does not fit to its rows, so messages would be missing");
    Err(invalid(0, std::io::Error::other(why)))
}

pub(super) fn read_mailboxes(connection: &Connection) -> Result<Vec<MailboxMemory>> {
    check_index(
        connection,
        "mailbox",
        "SELECT rowid, user_id, seq FROM mailbox NOT INDEXED",
        "SELECT rowid, user_id, seq FROM mailbox INDEXED BY mailbox_in_order ORDER BY user_id, seq",
    )?;
    let mut mailboxes: BTreeMap<UserId, MailboxMemory> = BTreeMap::new();
    let empty = |user: &UserId| MailboxMemory {
        user: user.clone(),
        devices: Vec::new(),
        rows: Vec::new(),
    };
    let mut devices = connection.prepare("SELECT user_id, device, up_to, at, sum FROM devices")?;
    let devices = devices.query_map([], read_device)?;
    for device in devices {
        let device = device?;
        let mailbox = mailboxes.entry(device.user.clone());
        mailbox.or_insert_with_key(empty).devices.push(device);
    }
    let mut rows = connection.prepare("SELECT user_id, seq, author, bytes, at, via FROM mailbox")?;
    let rows = rows.query_map([], |row| {
        let mail = MailRow {
            seq: number(row, 1)?,
            author: row.get::<_, i64>(2)?.cast_unsigned(),
            bytes: size(row, 3)?,
            at: number(row, 4)?,
            via: row.get::<_, i64>(5)?.cast_unsigned(),
        };
        Ok((text::<UserId>(row, 0)?, mail))
    })?;
    for row in rows {
        let (user, row) = row?;
        mailboxes.entry(user).or_insert_with_key(empty).rows.push(row);
    }
    let mut mailboxes: Vec<MailboxMemory> = mailboxes.into_values().collect();
    for mailbox in &mut mailboxes {
        mailbox.rows.sort_by_key(|row| row.seq);
    }
    Ok(mailboxes)
}

/// A row that is damaged may say that a device has what it has not, and what it has not would go: it has nothing then, and is
/// given again whatever waits.
fn read_device(row: &Row<'_>) -> Result<DeviceRecord> {
    let record = DeviceRecord {
        user: text(row, 0)?,
        device: DeviceId::from_bytes(row.get(1)?),
        up_to: number(row, 2)?,
        at: number(row, 3)?,
    };
    let sum: Option<[u8; 16]> = row.get(4)?;
    if sum.is_none_or(|sum| sum == sum_of_device(&record)) {
        return Ok(record);
    }
    tracing::error!(
        user = %record.user,
        "what this disk says of a device of this user is damaged; the device is given everything again that waits"
    );
    // Nor was it silent for as long as the row may say.
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let at = u64::try_from(now.as_millis()).unwrap_or(u64::MAX);
    Ok(DeviceRecord { up_to: 0, at, ..record })
}

/// The checksum of a device's row.
fn sum_of_device(record: &DeviceRecord) -> [u8; 16] {
    let device = Base64Url::encode(record.device.as_bytes());
    sum_of(record.user.as_str(), record.up_to, record.at, device.as_str())
}

pub(super) fn read_outbound(connection: &Connection) -> Result<Vec<(ServerId, Vec<OutboundRow>)>> {
    check_index(
        connection,
        "outbound",
        "SELECT seq, server_id, seq FROM outbound NOT INDEXED",
        "SELECT seq, server_id, seq FROM outbound INDEXED BY outbound_in_order ORDER BY server_id, seq",
    )?;
    let mut servers: BTreeMap<ServerId, Vec<OutboundRow>> = BTreeMap::new();
    let sql = "SELECT server_id, seq, author, recipient, msg_ref, bytes, at FROM outbound ORDER BY seq";
    let mut rows = connection.prepare(sql)?;
    let rows = rows.query_map([], |row| {
        let outbound = OutboundRow {
            seq: number(row, 1)?,
            author: text(row, 2)?,
            recipient: text(row, 3)?,
            msg_ref: row.get(4)?,
            bytes: size(row, 5)?,
            at: number(row, 6)?,
        };
        Ok((text::<ServerId>(row, 0)?, outbound))
    })?;
    for row in rows {
        let (server, row) = row?;
        servers.entry(server).or_default().push(row);
    }
    Ok(servers.into_iter().collect())
}

pub(super) fn write_device(connection: &Connection, device: &DeviceRecord) -> Result<()> {
    // Only for users who are known: one that is forgotten is not to leave a device behind.
    let sql = "INSERT INTO devices (user_id, device, up_to, at, sum)
               SELECT ?1, ?2, ?3, ?4, ?5 WHERE EXISTS (SELECT 1 FROM users WHERE user_id = ?1)
               ON CONFLICT (user_id, device) DO UPDATE SET up_to = ?3, at = ?4, sum = ?5";
    let (user, id) = (device.user.as_str(), device.device);
    execute(
        connection,
        sql,
        params![
            user,
            id.as_bytes(),
            clamp(device.up_to),
            clamp(device.at),
            sum_of_device(device)
        ],
    )
}

pub(super) fn remove_device(connection: &Connection, user: &UserId, device: DeviceId) -> Result<()> {
    let sql = "DELETE FROM devices WHERE user_id = ?1 AND device = ?2";
    execute(connection, sql, params![user.as_str(), device.as_bytes()])
}

pub(super) fn write_mail(connection: &Connection, mail: &Mail) -> Result<()> {
    let item = match mail.item.clone() {
        MailItem::Message(message) => Item::Message(message),
        MailItem::Notice(notice) => Item::Notice(notice),
    };
    let item = to_text(&item)?;
    let MailRow {
        seq,
        bytes,
        author,
        via,
        at,
    } = mail.row;
    // Marks are bits, not amounts.
    let (author, via) = (author.cast_signed(), via.cast_signed());
    let user = mail.user.as_str();
    let sum = sum_of(user, seq, at, &item);
    let sql = "INSERT INTO mailbox (user_id, seq, author, bytes, at, sum, item, via)
               VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)";
    let row = params![user, clamp(seq), author, size_of(bytes), clamp(at), sum, item, via];
    execute(connection, sql, row)
}

fn size_of(bytes: usize) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

pub(super) fn remove_mail(connection: &Connection, user: &UserId, up_to: u64) -> Result<()> {
    let sql = "DELETE FROM mailbox WHERE user_id = ?1 AND seq <= ?2";
    execute(connection, sql, params![user.as_str(), clamp(up_to)])
}

pub(super) fn drop_mail(connection: &Connection, user: &UserId, seqs: &[u64]) -> Result<()> {
    let sql = "DELETE FROM mailbox WHERE user_id = ?1 AND seq = ?2";
    for seq in seqs {
        execute(connection, sql, params![user.as_str(), clamp(*seq)])?;
    }
    Ok(())
}

pub(super) fn write_outbound(connection: &Connection, outbound: &Outbound) -> Result<()> {
    let Outbound { server, row, deliver } = outbound;
    let deliver = to_text(deliver)?;
    let sum = sum_of(server.as_str(), row.seq, row.at, &deliver);
    let sql = "INSERT INTO outbound (seq, server_id, author, recipient, msg_ref, bytes, at, sum, deliver)
               VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)";
    let (author, recipient) = (row.author.as_str(), row.recipient.as_str());
    let (seq, at, bytes) = (clamp(row.seq), clamp(row.at), size_of(row.bytes));
    let server = server.as_str();
    let row = params![seq, server, author, recipient, row.msg_ref, bytes, at, sum, deliver];
    execute(connection, sql, row)
}

pub(super) fn remove_outbound(connection: &Connection, seqs: &[u64]) -> Result<()> {
    for seq in seqs {
        execute(connection, "DELETE FROM outbound WHERE seq = ?1", [clamp(*seq)])?;
    }
    Ok(())
}

/// The statements of one shelf.
struct Sql {
    /// The rows behind a number, and their sizes.
    list: &'static str,
    /// One of them.
    read: &'static str,
    /// Puts one aside: a copy of it, and why.
    quarantine: &'static str,
    remove: &'static str,
}

const MAILBOX: Sql = Sql {
    list: "SELECT rowid, seq, bytes FROM mailbox INDEXED BY mailbox_in_order
           WHERE user_id = ?1 AND seq > ?2 ORDER BY seq LIMIT ?3",
    read: "SELECT at, sum, item FROM mailbox WHERE rowid = ?1",
    quarantine: "INSERT INTO quarantine (shelf, whose, seq, found, why, content)
           SELECT 'mailbox', user_id, seq, unixepoch(), ?2, CAST(item AS BLOB) FROM mailbox WHERE rowid = ?1",
    remove: "DELETE FROM mailbox WHERE rowid = ?1",
};

const OUTBOUND: Sql = Sql {
    list: "SELECT seq, seq, bytes FROM outbound INDEXED BY outbound_in_order
           WHERE server_id = ?1 AND seq > ?2 ORDER BY seq LIMIT ?3",
    read: "SELECT at, sum, deliver FROM outbound WHERE seq = ?1",
    quarantine: "INSERT INTO quarantine (shelf, whose, seq, found, why, content)
           SELECT 'outbound', server_id, seq, unixepoch(), ?2, CAST(deliver AS BLOB) FROM outbound WHERE seq = ?1",
    remove: "DELETE FROM outbound WHERE seq = ?1",
};

/// The next messages on a shelf behind a number. What is damaged is put aside.
pub(super) fn read_page(connection: &Connection, shelf: &Shelf, after: u64) -> Result<Page> {
    let (sql, whose) = match shelf {
        Shelf::Mailbox(user) => (MAILBOX, user.as_str()),
        Shelf::Outbound(server) => (OUTBOUND, server.as_str()),
    };
    let mut list = connection.prepare_cached(sql.list)?;
    let limit = size_of(MAILBOX_PAGE_COUNT_MAX);
    let rows = list.query_map(params![whose, clamp(after), limit], |row| {
        Ok((row.get::<_, i64>(0)?, number(row, 1)?, size(row, 2)?))
    })?;
    let (mut page, mut bytes) = (Page::default(), 0_usize);
    for row in rows {
        let (rowid, seq, size) = row?;
        match read_one(connection, &sql, shelf, (rowid, seq)) {
            Ok(kept) => page.kept.push((seq, kept)),
            Err(why) => {
                put_aside(connection, &sql, rowid, &why);
                page.damaged.push(seq);
            }
        }
        bytes = bytes.saturating_add(size);
        if bytes > MAILBOX_PAGE_BYTES_MAX {
            break;
        }
    }
    Ok(page)
}

fn read_one(connection: &Connection, sql: &Sql, shelf: &Shelf, (rowid, seq): (i64, u64)) -> Result<Kept, String> {
    let read = |row: &Row<'_>| Ok((number(row, 0)?, row.get::<_, [u8; 16]>(1)?, row.get::<_, String>(2)?));
    let row = connection
        .prepare_cached(sql.read)
        .and_then(|mut statement| statement.query_row([rowid], read).optional());
    let row = row.map_err(|error| error.to_string())?;
    let (at, sum, content) = row.ok_or("it is listed and not there")?;
    let whose = match shelf {
        Shelf::Mailbox(user) => user.as_str(),
        Shelf::Outbound(server) => server.as_str(),
    };
    if sum != sum_of(whose, seq, at, &content) {
        return Err("its checksum does not fit".to_owned());
    }
    let parsed = match shelf {
        Shelf::Mailbox(_) => serde_json::from_str(&content).map(|item| {
            Kept::Mail(match item {
                Item::Message(message) => MailItem::Message(message),
                Item::Notice(notice) => MailItem::Notice(notice),
            })
        }),
        Shelf::Outbound(_) => {
            serde_json::from_str::<ServerDeliver>(&content).map(|deliver| Kept::Outbound(Box::new(deliver)))
        }
    };
    parsed.map_err(|error| error.to_string())
}

/// Moves a row to the quarantine. Where even that fails it stays, and is found again at the next start.
fn put_aside(connection: &Connection, sql: &Sql, rowid: i64, why: &str) {
    let moved = connection.unchecked_transaction().and_then(|transaction| {
        execute(&transaction, sql.quarantine, params![rowid, why])?;
        execute(&transaction, sql.remove, [rowid])?;
        transaction.commit()
    });
    if let Err(error) = moved {
        tracing::error!(%error, "a damaged message could not be put aside; it stays where it is and is not delivered");
    }
}
