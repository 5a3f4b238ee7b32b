//! `socp-sim`: runs networks from seeds and says whether every rule held.

use clap::Parser;
use socp_sim::{FaultSet, Flaw, Options, Topology};
use std::collections::BTreeMap;
use std::io::Write as _;
use std::ops::Range;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Runs whole SOCP networks on a virtual clock, from seeds, and checks what users get to see.
///
/// Ends with 0 if every rule held, with 1 if one broke, and with 2 if not everything could be run or printed. The last
/// lines replay the runs that broke a rule, one each; with --json the field `replay` of every object does.
#[derive(Debug, Parser)]
#[command(name = "socp-sim", version, after_help = EXAMPLES)]
struct Cli {
    /// What all chance comes from
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(..u64::MAX))]
    seed: u64,
    /// Runs every seed from A up to, but without, B
    #[arg(long, value_name = "A..B", conflicts_with = "seed", value_parser = parse_seeds)]
    seeds: Option<Range<u64>>,
    /// Honest servers
    #[arg(long, default_value_t = 10, value_parser = parse_servers)]
    servers: usize,
    /// Users
    #[arg(long, default_value_t = 100)]
    users: usize,
    /// For how long things go wrong, in minutes of virtual time; the network then gets its time to recover
    #[arg(long, default_value_t = 10)]
    minutes: u64,
    /// all, none, or some of loss,dup,delay,reorder,partition,oneway,slow,clock,crash,hostile,disk
    #[arg(long, default_value = "all")]
    faults: FaultSet,
    /// Who can reach whom once all have met: mesh, ring or star
    #[arg(long, default_value = "mesh")]
    topology: Topology,
    /// What all servers do wrong, to see the oracle notice: no-seen-cache, forward-to-origin, no-pin-check,
    /// remove-without-mapping, gossip-beats-local, altered-content, silent-hello, silent-list, secret-version,
    /// no-gap-check, ack-before-disk, forget-outbound or one-device-is-enough
    #[arg(long)]
    mutation: Option<Flaw>,
    /// Each hostile server does nothing but advertise so many users who do not exist
    #[arg(long, value_name = "COUNT")]
    flood: Option<u64>,
    /// So many times a server loses power, one about every second, with users who come and go all the time
    #[arg(long, value_name = "COUNT")]
    power: Option<u64>,
    /// Every presence change must cross each link at most once; for worlds without passing faults
    #[arg(long)]
    count_crossings: bool,
    /// Batches of presence get lost between servers now and then, and nothing else does
    #[arg(long)]
    lose_batches: bool,
    /// Seeds run at once
    #[arg(long, default_value_t = 2)]
    threads: u64,
    /// One JSON object per run
    #[arg(long)]
    json: bool,
    /// The notes of all servers, on standard error
    #[arg(long)]
    verbose: bool,
}

const EXAMPLES: &str = "Examples:
  socp-sim --seed 7 --servers 50 --users 1000 --minutes 10 --faults all
  socp-sim --seeds 1..1001 --servers 10 --users 100 --faults all
  socp-sim --seed 3 --servers 20 --topology ring --faults none";

fn parse_servers(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(count @ 1..=1000) => Ok(count),
        Ok(_) | Err(_) => Err(format!("{text:?} is not a number of servers from 1 to 1000")),
    }
}

fn parse_seeds(text: &str) -> Result<Range<u64>, String> {
    let range = text.split_once("..").and_then(|(from, to)| {
        let (from, to) = (from.parse().ok()?, to.parse().ok()?);
        (from < to).then_some(from..to)
    });
    range.ok_or_else(|| format!("{text:?} is no range of seeds; say it like 1..101"))
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let seeds = cli.seeds.clone().unwrap_or(cli.seed..cli.seed.saturating_add(1));
    let next = AtomicU64::new(seeds.start);
    let is_cut_short = AtomicBool::new(false);
    let broken = Mutex::new(BTreeMap::new());
    let out = Mutex::new(());
    std::thread::scope(|scope| {
        for _ in 0..cli.threads.clamp(1, 64) {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= seeds.end || is_cut_short.load(Ordering::Relaxed) {
                        return;
                    }
                    let report = socp_sim::run(options(&cli, seed));
                    if !report.is_green() {
                        let mut broken = broken.lock().unwrap_or_else(PoisonError::into_inner);
                        broken.insert(seed, report.replay());
                    }
                    let text = match cli.json {
                        true => format!("{}\n", report.to_json()),
                        false => report.to_string(),
                    };
                    if !print(&text, &out) {
                        is_cut_short.store(true, Ordering::Relaxed); // Nobody reads on.
                    }
                }
            });
        }
    });
    let broken = broken.into_inner().unwrap_or_else(PoisonError::into_inner);
    if !cli.json && cli.seeds.is_some() {
        let lines: String = broken.values().map(|replay| format!("replay: {replay}\n")).collect();
        if !print(&lines, &out) {
            is_cut_short.store(true, Ordering::Relaxed);
        }
    }
    match (broken.is_empty(), is_cut_short.into_inner()) {
        (false, _) => ExitCode::FAILURE,
        (true, true) => ExitCode::from(2),
        (true, false) => ExitCode::SUCCESS,
    }
}

fn options(cli: &Cli, seed: u64) -> Options {
    Options {
        seed,
        servers: cli.servers,
        users: cli.users,
        minutes: cli.minutes,
        faults: cli.faults.clone(),
        topology: cli.topology,
        flaw: cli.mutation,
        flood: cli.flood,
        power: cli.power,
        counts_crossings: cli.count_crossings,
        loses_batches: cli.lose_batches,
        is_verbose: cli.verbose,
    }
}

/// Whether it could be printed.
fn print(text: &str, out: &Mutex<()>) -> bool {
    let _one_at_a_time = out.lock();
    let mut stdout = std::io::stdout().lock();
    stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()).is_ok()
}
