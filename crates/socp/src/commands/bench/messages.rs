//! `dm`, `mesh` and `channel`: how many messages arrive.

use super::BenchArgs;
use super::content::{Contents, Kind, Saying};
use super::figures::{Figures, millis, percentile};
use super::flight::{Flight, Told};
use super::link::{Pace, send};
use super::machine::Machine;
use super::stage::Stage;
use super::wire::Sink;
use color_eyre::eyre::{Result, bail};
use futures_util::future::try_join_all;
use socp_proto::Address;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Messages of one author that may be under way.
const WINDOW_COUNT: usize = 32;
/// Bytes of one author's messages that may be under way: less than a server's outbox for one link holds.
const WINDOW_BYTES: usize = 256 * 1024;
/// What has not arrived after so long without any arrival is lost.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);
/// Longest wait until an author's server knows the reader.
pub(super) const TOLD_WAIT: Duration = Duration::from_secs(60);

/// One author, ready to send.
struct Author {
    flight: Arc<Flight>,
    sink: Sink,
}

/// Pairs of an author and a reader; at different servers, where there are several.
pub(super) async fn direct(stage: &Stage, args: &BenchArgs) -> Result<Figures> {
    let count = args.clients();
    let mut authors = Vec::with_capacity(count);
    let mut readers = Vec::with_capacity(count);
    for number in 0..count {
        let reader = stage.run.reader(number)?;
        let saying = Saying {
            run: stage.run,
            kind: Kind::Direct,
            from: stage.run.author(number)?,
            to: reader.clone().into(),
            text_bytes: args.size,
            home: None,
        };
        let flight = flight(stage, args, saying, number, 1).await?;
        let far = stage.server(number.saturating_add(1))?;
        if flight.is_acknowledged() {
            stage.seat_device(far, &reader, Arc::clone(&flight)).await?;
        } else {
            readers.push(stage.seat(far, &reader, Some(Arc::clone(&flight)), None).await?);
        }
        let (near, told) = (stage.server(number)?, Arc::<Told>::default());
        let author = stage.run.author(number)?;
        let sink = stage.seat_author(near, &author, &flight, Arc::clone(&told)).await?;
        let is_told = tokio::time::timeout(TOLD_WAIT, told.wait_for(reader.as_str()));
        if is_told.await.is_err() {
            bail!("the author's server does not hear of the reader");
        }
        authors.push(Author { flight, sink });
    }
    let figures = measure(stage, args, authors).await;
    drop(readers);
    figures
}

/// One author, whose every message goes to all members.
pub(super) async fn channel(stage: &Stage, args: &BenchArgs) -> Result<Figures> {
    let saying = Saying {
        run: stage.run,
        kind: Kind::Channel,
        from: stage.run.author(0)?,
        to: Address::try_from("public")?,
        text_bytes: args.size,
        home: None,
    };
    let flight = flight(stage, args, saying, 0, args.clients()).await?;
    let readers = stage.seat_readers(args.clients(), Some(&flight)).await?;
    let author = stage.run.author(0)?;
    let sink = stage.seat(stage.server(0)?, &author, None, None).await?;
    let figures = measure(stage, args, vec![Author { flight, sink }]).await;
    drop(readers);
    figures
}

/// One author's messages, made now.
async fn flight(stage: &Stage, args: &BenchArgs, saying: Saying, number: usize, readers: usize) -> Result<Arc<Flight>> {
    let key = stage.manner.key.clone();
    let contents = if stage.verifies_content {
        let authors = if saying.kind == Kind::Channel {
            1
        } else {
            args.clients()
        };
        let count = args.messages().div_ceil(authors.max(1));
        let cache = stage.cache.clone();
        tokio::task::spawn_blocking(move || Contents::signed(&saying, count, &key, &cache)).await??
    } else {
        Contents::counted(&saying, number, &key)?
    };
    let window = window_of(&contents);
    Ok(Arc::new(match args.syncs() {
        true => Flight::acknowledged(contents, window),
        false => Flight::new(contents, readers, window),
    }))
}

/// How many of these may be under way.
pub(super) fn window_of(contents: &Contents) -> usize {
    let frame_bytes = contents.frame(0).map_or(1, |frame| frame.len().max(1));
    (WINDOW_BYTES / frame_bytes).clamp(1, WINDOW_COUNT)
}

async fn measure(stage: &Stage, args: &BenchArgs, mut authors: Vec<Author>) -> Result<Figures> {
    stage.calm().await?;
    let (machine, before) = stage.open_window(Machine::beside(args.length())).await?;
    let begin = Instant::now();
    let interval = args.interval(authors.len());
    let until = begin + args.length();
    let sending = authors.iter_mut().zip(0_u32..).map(|(author, number)| {
        // Authors with a pace take turns.
        let begin = begin + interval.unwrap_or_default() / 8 * (number % 8);
        let pace = Pace { begin, until, interval };
        send(&author.flight, &mut author.sink, pace)
    });
    let in_time = try_join_all(sending).await?;
    for author in &authors {
        author.flight.drain(PATIENCE).await;
    }
    if !in_time.into_iter().all(|is_in_time| is_in_time) {
        crate::out::note("socp: the messages made ahead were used up before the time was; see --messages");
    }
    let flights: Vec<&Flight> = authors.iter().map(|author| &*author.flight).collect();
    let mut figures = figures_of(&flights, begin);
    stage.close_window(machine, before, &mut figures).await?;
    Ok(figures)
}

fn figures_of(flights: &[&Flight], begin: Instant) -> Figures {
    let arrived: u64 = flights.iter().map(|flight| flight.arrived()).sum();
    let expected: u64 = flights.iter().map(|flight| flight.expected()).sum();
    let last = flights.iter().map(|flight| flight.last_arrival()).max();
    let mut latencies: Vec<u32> = flights.iter().flat_map(|flight| flight.take_latencies()).collect();
    Figures {
        delivered: Some(arrived),
        lost: expected.saturating_sub(arrived),
        wall_s: last.map(|last| last.saturating_duration_since(begin).as_secs_f64()),
        p50_ms: percentile(&mut latencies, 50).map(millis),
        p99_ms: percentile(&mut latencies, 99).map(millis),
        ..Figures::default()
    }
}
