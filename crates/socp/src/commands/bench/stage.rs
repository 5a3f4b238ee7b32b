//! What every scenario stands on: servers, users, the machine, and how they are looked at.

use super::content::{Cache, Run};
use super::figures::Figures;
use super::flight::{Alarm, Flight, Told};
use super::link::{Listener, Mailbox};
use super::machine::{Machine, process_cpu};
use super::server::Server;
use super::wire::{Manner, Sink, connect};
use color_eyre::Report;
use color_eyre::eyre::{Result, eyre};
use futures_util::{StreamExt as _, stream};
use socp_proto::UserId;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::task::JoinSet;

/// Clients that connect at the same time.
const CONNECTING_COUNT_MAX: usize = 16;
/// How long a server that closed its links may take to be gone, and how often that is looked at.
const DEATH_WAIT: Duration = Duration::from_millis(500);
const DEATH_LOOK_INTERVAL: Duration = Duration::from_millis(10);

/// The servers, and who connects to them.
pub(super) struct Stage {
    pub(super) servers: Vec<Server>,
    pub(super) manner: Manner,
    pub(super) run: Run,
    pub(super) cache: Cache,
    pub(super) verifies_content: bool,
    pub(super) alarm: Arc<Alarm>,
    /// Ends with us.
    listeners: Mutex<JoinSet<()>>,
}

/// What had been used when the window was opened.
pub(super) struct Before {
    servers_cpu_s: Option<f64>,
    generator_cpu: Duration,
}

impl Stage {
    pub(super) fn new(servers: Vec<Server>, manner: Manner, run: Run, cache: Cache, verifies_content: bool) -> Self {
        Self {
            servers,
            manner,
            run,
            cache,
            verifies_content,
            alarm: Arc::default(),
            listeners: Mutex::default(),
        }
    }

    /// The server of this number, from 0, starting again at the end.
    pub(super) fn server(&self, number: usize) -> Result<&Server> {
        let at = number.checked_rem(self.servers.len());
        at.and_then(|at| self.servers.get(at))
            .ok_or_else(|| eyre!("there is no server"))
    }

    /// Connects a user who listens from then on.
    pub(super) async fn seat(
        &self,
        server: &Server,
        user: &UserId,
        flight: Option<Arc<Flight>>,
        told: Option<Arc<Told>>,
    ) -> Result<Sink> {
        let client = connect(server, user, &self.manner).await?;
        let (mut listener, sink, stream) = Listener::new(client, Arc::clone(&self.alarm));
        (listener.flight, listener.told) = (flight, told);
        self.spawn(listener.listen(stream));
        Ok(sink)
    }

    /// Connects a user who reads the mailbox, and acknowledges what comes.
    pub(super) async fn seat_device(&self, server: &Server, user: &UserId, flight: Arc<Flight>) -> Result<()> {
        let manner = Manner {
            reads: true,
            ..self.manner.clone()
        };
        let client = connect(server, user, &manner).await?;
        let (mut listener, sink, stream) = Listener::new(client, Arc::clone(&self.alarm));
        listener.flight = Some(flight);
        listener.mailbox = Some(Mailbox::new(user.clone(), sink));
        self.spawn(listener.listen(stream));
        Ok(())
    }

    /// Connects an author who hears what is on the disk.
    pub(super) async fn seat_author(
        &self,
        server: &Server,
        user: &UserId,
        flight: &Arc<Flight>,
        told: Arc<Told>,
    ) -> Result<Sink> {
        let client = connect(server, user, &self.manner).await?;
        let (mut listener, sink, stream) = Listener::new(client, Arc::clone(&self.alarm));
        listener.told = Some(told);
        listener.sent = flight.is_acknowledged().then(|| Arc::clone(flight));
        self.spawn(listener.listen(stream));
        Ok(sink)
    }

    /// Connects many users to the first server, some at a time.
    pub(super) async fn seat_readers(&self, count: usize, flight: Option<&Arc<Flight>>) -> Result<Vec<Sink>> {
        let server = self.server(0)?;
        let seating = (0..count).map(|number| async move {
            let user = self.run.reader(number)?;
            self.seat(server, &user, flight.cloned(), None).await
        });
        let mut seated = stream::iter(seating).buffer_unordered(CONNECTING_COUNT_MAX);
        let mut sinks = Vec::with_capacity(count);
        while let Some(sink) = seated.next().await {
            sinks.push(sink?);
        }
        Ok(sinks)
    }

    /// Runs something on a link for as long as the stage stands.
    pub(super) fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) {
        let mut listeners = self.listeners.lock().unwrap_or_else(PoisonError::into_inner);
        listeners.spawn(work);
    }

    /// Ends all links at once.
    pub(super) async fn empty(&self) {
        let mut listeners = std::mem::take(&mut *self.listeners.lock().unwrap_or_else(PoisonError::into_inner));
        listeners.shutdown().await;
    }

    /// Waits until the servers have nothing to do.
    pub(super) async fn calm(&self) -> Result<()> {
        for server in &self.servers {
            server.calm().await?;
        }
        Ok(())
    }

    /// Looks at the machine, and then at what has been used.
    pub(super) async fn open_window(&self, machine: Machine) -> Result<(Machine, Before)> {
        tracing::info!("everyone is connected and the servers are calm");
        let machine = self.look_at(machine).await?;
        let before = Before {
            servers_cpu_s: self.servers_cpu_s(),
            generator_cpu: process_cpu(),
        };
        Ok((machine, before))
    }

    /// What was used since then.
    pub(super) async fn close_window(&self, mut machine: Machine, before: Before, figures: &mut Figures) -> Result<()> {
        let generator = process_cpu().saturating_sub(before.generator_cpu);
        figures.generator_cpu_s = Some(generator.as_secs_f64());
        let now = self.servers_cpu_s();
        figures.server_cpu_s = now.zip(before.servers_cpu_s).map(|(now, before)| now - before);
        figures.rss_mib = self.largest_rss_kib().map(|kib| kib / 1024.0);
        machine = self.look_at(machine).await?;
        figures.complete(&machine);
        Ok(())
    }

    async fn look_at(&self, mut machine: Machine) -> Result<Machine> {
        let key = self.manner.key.clone();
        tokio::task::spawn_blocking(move || machine.measure(&key).map(|()| machine)).await?
    }

    /// That a server is gone, if one is. The system closes the links of a process a moment before it says so.
    pub(super) async fn obituary(&self) -> Option<Report> {
        let gone = async {
            loop {
                if let Some(gone) = self.servers.iter().find_map(Server::obituary) {
                    return Report::msg(gone);
                }
                tokio::time::sleep(DEATH_LOOK_INTERVAL).await;
            }
        };
        tokio::time::timeout(DEATH_WAIT, gone).await.ok()
    }

    fn servers_cpu_s(&self) -> Option<f64> {
        let used = self
            .servers
            .iter()
            .map(|server| server.usage().map(|usage| usage.cpu_s));
        used.sum()
    }

    /// Resident memory of the largest server.
    pub(super) fn largest_rss_kib(&self) -> Option<f64> {
        let each = self.servers.iter().map(|server| Some(server.usage()?.rss_kib));
        let all: Option<Vec<u64>> = each.collect();
        all?.into_iter().max().map(super::proc::float)
    }
}
