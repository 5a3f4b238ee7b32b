//! `away`: the readers' server is gone while messages are written, and comes back.

use super::BenchArgs;
use super::content::{Contents, Kind, Saying};
use super::figures::Figures;
use super::flight::{Flight, Told};
use super::link::{Mailbox, Pace, kind_of, send, text_of};
use super::machine::Machine;
use super::messages::{PATIENCE, TOLD_WAIT, window_of};
use super::server::Server;
use super::stage::Stage;
use super::wire::{Manner, Sink, connect};
use color_eyre::eyre::{Result, WrapErr as _, bail, ensure};
use futures_util::StreamExt as _;
use futures_util::future::try_join_all;
use socp_proto::limits::MAILBOX_AUTHOR_COUNT_MAX;
use socp_proto::{ServerId, UserId};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio_tungstenite::tungstenite::Message;

/// Longest wait for the next message once the server is back.
const NEXT_WAIT: Duration = Duration::from_secs(60);

/// One author, and whom they write to.
struct Pair {
    flight: Arc<Flight>,
    sink: Sink,
    reader: UserId,
}

/// Authors at the first server write until everything is on its disk, while the second is gone. Then the second starts,
/// its users read at once, and each must be shown everything in order.
pub(super) async fn away(stage: &mut Stage, args: &BenchArgs) -> Result<Figures> {
    let mut pairs = gather(stage, args).await?;
    let [near, far] = stage.servers.as_mut_slice() else {
        bail!("there are not two servers");
    };
    tokio::task::block_in_place(|| far.stop())?;
    let begin = Instant::now();
    write_all(&mut pairs).await?;
    let (writing, waiting_kib) = (begin.elapsed(), near.usage().map(|usage| usage.rss_kib));
    let stored: u64 = pairs.iter().map(|pair| pair.flight.arrived()).sum();
    let expected: u64 = pairs.iter().map(|pair| pair.flight.expected()).sum();
    ensure!(
        stored == expected,
        "{} messages were not acknowledged",
        expected.abs_diff(stored)
    );
    let machine = Machine::beside(args.length());
    let (machine, before) = stage.open_window(machine).await?;
    let begin = Instant::now();
    let [near, far] = stage.servers.as_mut_slice() else {
        bail!("there are not two servers");
    };
    tokio::task::block_in_place(|| far.start_again(Some(near)))?;
    let far = &*far;
    let reading = pairs.iter().map(|pair| read(far, &stage.manner, pair));
    let shown: u64 = try_join_all(reading).await?.into_iter().sum();
    let mut figures = Figures {
        delivered: Some(shown),
        lost: expected.saturating_sub(shown),
        wall_s: Some(begin.elapsed().as_secs_f64()),
        writing_s: Some(writing.as_secs_f64()),
        waiting_rss_mib: waiting_kib.map(|kib| super::proc::float(kib) / 1024.0),
        ..Figures::default()
    };
    stage.close_window(machine, before, &mut figures).await?;
    Ok(figures)
}

/// Authors who know where their readers are; the readers have gone again.
async fn gather(stage: &Stage, args: &BenchArgs) -> Result<Vec<Pair>> {
    let count = args.messages().div_ceil(args.clients().max(1));
    if count > MAILBOX_AUTHOR_COUNT_MAX {
        bail!("a mailbox takes {MAILBOX_AUTHOR_COUNT_MAX} messages of one author; give more --clients");
    }
    let (near, far) = (stage.server(0)?, stage.server(1)?);
    let Some(identity) = &far.identity else {
        bail!("the second server is not ours");
    };
    let home = ServerId::try_from(identity.server_id.as_str())?;
    let mut pairs = Vec::with_capacity(args.clients());
    for number in 0..args.clients() {
        let reader = stage.run.reader(number)?;
        let reads = reading(&stage.manner);
        let device = connect(far, &reader, &reads).await?;
        let author = stage.run.author(number)?;
        let saying = Saying {
            run: stage.run,
            kind: Kind::Direct,
            from: author.clone(),
            to: reader.clone().into(),
            text_bytes: args.size,
            home: Some(home.clone()),
        };
        let contents = contents(stage, saying, number, count).await?;
        let window = window_of(&contents);
        let flight = Arc::new(Flight::stored(contents, window));
        let told = Arc::<Told>::default();
        let sink = stage.seat_author(near, &author, &flight, Arc::clone(&told)).await?;
        if tokio::time::timeout(TOLD_WAIT, told.wait_for(reader.as_str()))
            .await
            .is_err()
        {
            bail!("the author's server does not hear of the reader");
        }
        drop(device);
        pairs.push(Pair { flight, sink, reader });
    }
    Ok(pairs)
}

fn reading(manner: &Manner) -> Manner {
    Manner {
        reads: true,
        ..manner.clone()
    }
}

/// As many messages as are wanted, and no more.
async fn contents(stage: &Stage, saying: Saying, number: usize, count: usize) -> Result<Contents> {
    let key = stage.manner.key.clone();
    if !stage.verifies_content {
        return Ok(Contents::counted(&saying, number, &key)?.up_to(count));
    }
    let cache = stage.cache.clone();
    tokio::task::spawn_blocking(move || Contents::signed(&saying, count, &key, &cache)).await?
}

async fn write_all(pairs: &mut [Pair]) -> Result<()> {
    let begin = Instant::now();
    let pace = Pace {
        begin,
        until: begin + Duration::from_secs(3_600),
        interval: None,
    };
    let sending = pairs.iter_mut().map(|pair| send(&pair.flight, &mut pair.sink, pace));
    try_join_all(sending).await?;
    for pair in pairs {
        pair.flight.drain(PATIENCE).await;
    }
    Ok(())
}

/// Reads a mailbox until everything is there; each message must be the next.
async fn read(server: &Server, manner: &Manner, pair: &Pair) -> Result<u64> {
    let client = connect(server, &pair.reader, &reading(manner)).await?;
    let (sink, mut stream) = client.socket.split();
    let mut mailbox = Mailbox::new(pair.reader.clone(), sink);
    let mut next = 0;
    while next < pair.flight.expected() {
        let heard = tokio::time::timeout(NEXT_WAIT, mailbox.next(&mut stream)).await;
        let Ok(heard) = heard else {
            return Ok(next);
        };
        let text = match heard? {
            Some(Ok(Message::Text(text))) => text,
            Some(Ok(Message::Close(_))) | None => bail!("the server ends a link"),
            Some(Ok(_)) => continue,
            Some(Err(error)) => return Err(error).wrap_err("a link is lost"),
        };
        if kind_of(&text) != "USER_DELIVER" {
            continue;
        }
        let index = text_of(&text, "\"content_sig\":\"").and_then(|sig| pair.flight.contents.index_of(sig));
        ensure!(index == Some(next), "message {next} of {} is not the next", pair.reader);
        mailbox.note(&text)?;
        next = next.saturating_add(1);
    }
    mailbox.acknowledge().await?;
    Ok(next)
}
