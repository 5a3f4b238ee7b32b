//! `idle` and `storm`: what many clients cost who say nothing, and what they cost when all come back at once.

use super::BenchArgs;
use super::figures::{Figures, millis, percentile};
use super::link::Listener;
use super::machine::Machine;
use super::stage::Stage;
use super::wire::{Client, hello};
use super::{server::Server, wire};
use color_eyre::eyre::{Result, bail};
use futures_util::SinkExt as _;
use futures_util::future::try_join_all;
use socp_proto::ServerId;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio_tungstenite::tungstenite::Message;

/// A client that was turned away in a storm comes again after this long, a little longer each time.
const AGAIN_WAIT: Duration = Duration::from_millis(50);
const AGAIN_WAIT_MAX: Duration = Duration::from_millis(500);
/// A storm is over after this long, whoever is still outside.
const STORM_WAIT: Duration = Duration::from_secs(120);

/// So many connections that say nothing, for a while.
pub(super) async fn idle(stage: &Stage, args: &BenchArgs) -> Result<Figures> {
    let empty_kib = stage.largest_rss_kib();
    let links = stage.seat_readers(args.clients(), None).await?;
    stage.calm().await?;
    let (machine, before) = stage.open_window(Machine::beside(args.length())).await?;
    let begin = Instant::now();
    tokio::time::sleep(args.length()).await;
    let mut figures = Figures {
        wall_s: Some(begin.elapsed().as_secs_f64()),
        ..Figures::default()
    };
    let full_kib = stage.largest_rss_kib();
    let clients = super::proc::float(u64::try_from(links.len())?);
    figures.kib_per_client = full_kib.zip(empty_kib).map(|(full, empty)| (full - empty) / clients);
    stage.close_window(machine, before, &mut figures).await?;
    drop(links);
    Ok(figures)
}

/// So many users who were there come back at the same moment.
pub(super) async fn storm(stage: &Stage, args: &BenchArgs) -> Result<Figures> {
    let server = stage.server(0)?;
    let links = stage.seat_readers(args.clients(), None).await?;
    stage.calm().await?;
    stage.empty().await;
    drop(links);
    stage.calm().await?;
    let hellos = hellos(stage, server, args.clients()).await?;
    let (machine, before) = stage.open_window(Machine::beside(args.length())).await?;
    let begin = Instant::now();
    let coming = try_join_all(hellos.into_iter().map(|text| come_back(stage, server, text, begin)));
    let Ok(came) = tokio::time::timeout(STORM_WAIT, coming).await else {
        bail!("not everyone was let in within {} s", STORM_WAIT.as_secs());
    };
    let mut took = came?;
    let wall = begin.elapsed();
    // What everyone is told of everyone belongs to it.
    stage.calm().await?;
    let mut figures = Figures {
        delivered: Some(u64::try_from(took.len())?),
        wall_s: Some(wall.as_secs_f64()),
        p50_ms: percentile(&mut took, 50).map(millis),
        p99_ms: percentile(&mut took, 99).map(millis),
        ..Figures::default()
    };
    stage.close_window(machine, before, &mut figures).await?;
    Ok(figures)
}

/// Hellos, signed ahead; they are good for two minutes.
async fn hellos(stage: &Stage, server: &Server, count: usize) -> Result<Vec<String>> {
    let known = match &server.identity {
        Some(identity) => ServerId::try_from(identity.server_id.as_str())?,
        None => {
            wire::connect(server, &stage.run.reader(0)?, &stage.manner)
                .await?
                .server_id
        }
    };
    let signing = (0..count).map(|number| async move { stage.run.reader(number) });
    let users = try_join_all(signing).await?;
    try_join_all(
        users
            .into_iter()
            .map(|user| hello(Some(known.clone()), user, stage.manner.clone())),
    )
    .await
}

/// One client, as often as it takes; how long, in microseconds.
async fn come_back(stage: &Stage, server: &Server, text: String, begin: Instant) -> Result<u32> {
    let mut wait = AGAIN_WAIT;
    let client = loop {
        match try_to_enter(server, &text).await? {
            Some(client) => break client,
            None => tokio::time::sleep(wait).await,
        }
        wait = (wait * 2).min(AGAIN_WAIT_MAX);
    };
    let took = u32::try_from(begin.elapsed().as_micros())?;
    let (listener, mut sink, stream) = Listener::new(client, Arc::clone(&stage.alarm));
    stage.spawn(async move {
        listener.listen(stream).await;
        // The link is open as long as both halves are.
        let _closed = sink.close().await;
    });
    Ok(took)
}

/// Says hello once; nothing if the server has no room now.
async fn try_to_enter(server: &Server, text: &str) -> Result<Option<Client>> {
    let Ok(mut socket) = wire::dial(&server.url).await else {
        return Ok(None);
    };
    if socket.send(Message::text(text)).await.is_err() {
        return Ok(None);
    }
    wire::answer(socket).await
}
