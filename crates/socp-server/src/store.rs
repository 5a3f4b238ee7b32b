//! Durable records: one SQLite database, one writer thread, group commit.
//!
//! Records are acknowledged only after a commit with `synchronous=FULL`. Whatever has piled up while the disk was busy
//! goes into the next commit together, so the disk is synced once for many.

mod migrations;
mod tables;

use crate::error::ServerError;
use crate::hub::HubMessage;
use rusqlite::Connection;
use socp_core::server::{Memory, Record, SaveId};
use socp_proto::{KeyText, ServerId};
use std::fs::File;
use std::path::Path;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::sync::mpsc;

/// Most records in one commit, so that the first does not wait for an endless stream.
const GROUP_COUNT_MAX: usize = 256;

/// The store's face: hands records to the writer thread.
#[derive(Debug)]
pub(crate) struct Store {
    orders: Sender<Order>,
    writer: JoinHandle<()>,
    health: StoreHealth,
}

enum Order {
    AnswerTo(mpsc::Sender<HubMessage>),
    Save(SaveId, Record),
}

/// Whether the last write worked.
#[derive(Debug, Clone, Default)]
pub(crate) struct StoreHealth(Arc<Mutex<Option<String>>>);

impl StoreHealth {
    /// Why the last write failed, if it did.
    pub(crate) fn failure(&self) -> Option<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set(&self, failure: Option<String>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = failure;
    }
}

/// What the database remembers.
#[derive(Debug)]
pub(crate) struct Remembered {
    pub(crate) identity: Option<(ServerId, KeyText)>,
    pub(crate) memory: Memory,
}

/// A database that is open and up to date, before its writer thread starts.
pub(crate) struct Database {
    connection: Connection,
}

impl Database {
    /// Opens or creates the database and brings it up to date.
    pub(crate) fn open(path: &Path) -> Result<Self, ServerError> {
        let failed = |error: rusqlite::Error| ServerError::Database {
            path: path.to_owned(),
            reason: format!("{error}; restore it from a backup if it is damaged"),
        };
        let mut connection = Connection::open(path).map_err(failed)?;
        connection.busy_timeout(Duration::from_secs(5)).map_err(failed)?;
        migrations::run(&mut connection, path)?;
        Ok(Self { connection })
    }

    /// Reads everything.
    pub(crate) fn read(&self, path: &Path) -> Result<Remembered, ServerError> {
        tables::read(&self.connection).map_err(|error| ServerError::Database {
            path: path.to_owned(),
            reason: error.to_string(),
        })
    }

    /// Writes our identity.
    pub(crate) fn write_identity(&self, path: &Path, id: &ServerId, key: &KeyText) -> Result<(), ServerError> {
        tables::write_identity(&self.connection, id, key).map_err(|error| ServerError::Database {
            path: path.to_owned(),
            reason: error.to_string(),
        })
    }

    /// Starts the writer thread, which keeps the directory locked until its last write.
    pub(crate) fn start(self, lock: File) -> Result<Store, ServerError> {
        let (orders, queue) = channel();
        let health = StoreHealth::default();
        let of_writer = health.clone();
        let writer = std::thread::Builder::new()
            .name("store".to_owned())
            .spawn(move || write(self.connection, &queue, &of_writer, lock))
            .map_err(|error| ServerError::Part {
                part: "store",
                reason: error.to_string(),
            })?;
        Ok(Store { orders, writer, health })
    }
}

impl Store {
    pub(crate) fn health(&self) -> StoreHealth {
        self.health.clone()
    }

    /// Whom to tell what is written.
    pub(crate) fn answer_to(&self, hub: mpsc::Sender<HubMessage>) {
        // The thread ends only when this sender is gone.
        let _never = self.orders.send(Order::AnswerTo(hub));
    }

    /// Queues a record. A link has at most one record in flight, so links bound this queue.
    pub(crate) fn save(&self, save: SaveId, record: Record) {
        let _never = self.orders.send(Order::Save(save, record));
    }

    /// Writes what is queued and ends.
    pub(crate) fn close(self) {
        drop(self.orders);
        if self.writer.join().is_err() {
            tracing::error!("the store's thread failed");
        }
    }
}

fn write(mut connection: Connection, queue: &Receiver<Order>, health: &StoreHealth, lock: File) {
    let mut hub: Option<mpsc::Sender<HubMessage>> = None;
    while let Ok(first) = queue.recv() {
        let mut group = Vec::new();
        for order in std::iter::once(first).chain(queue.try_iter().take(GROUP_COUNT_MAX)) {
            match order {
                Order::AnswerTo(sender) => hub = Some(sender),
                Order::Save(save, record) => group.push((save, record)),
            }
        }
        if group.is_empty() {
            continue;
        }
        let outcome = tables::commit(&mut connection, &group).map_err(|error| error.to_string());
        health.set(outcome.clone().err());
        for (save, _) in group {
            if let Some(hub) = &hub {
                // Fails only once the hub has ended, when nobody waits for it.
                let _stopped = hub.blocking_send(HubMessage::Saved(save, outcome.clone()));
            }
        }
    }
    // The database closes before the lock is given back.
    drop(connection);
    drop(lock);
}
