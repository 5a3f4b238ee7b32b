//! `socp bench`: how much a server carries, and what that costs.
//!
//! Servers are processes of their own, and so is the generator of load, so that what each uses can be told apart; on a
//! machine that others use too, processor time says more than time. The generator speaks the bare wire, sends what was
//! made before, and verifies a sample only.
//!
//! | module | what |
//! |---|---|
//! | `server`, `proc` | the servers' processes and what they use |
//! | `machine` | how fast this machine signs now |
//! | `content` | users, and messages made ahead |
//! | `wire`, `link`, `flight` | one link; what runs on it; messages under way |
//! | `stage`, `messages`, `away`, `crowd`, `login` | what scenarios share, and the scenarios |
//! | `figures` | what came of it |

mod away;
mod content;
mod crowd;
mod figures;
mod flight;
mod link;
mod login;
mod machine;
mod messages;
mod proc;
mod server;
mod stage;
mod wire;

use super::serve::stop_signal;
use crate::cli::Common;
use crate::out;
use clap::{Args, ValueEnum};
use color_eyre::eyre::{Result, WrapErr as _, bail};
use content::{Cache, Run};
use figures::Figures;
use rustix::process::{Resource, getrlimit, setrlimit};
use server::{Server, ServerManner};
use socp_client::ServerUrl;
use socp_proto::Capabilities;
use socp_proto::limits::DIRECT_TEXT_BYTES_MAX;
use stage::Stage;
use std::path::PathBuf;
use std::time::Duration;
use wire::Manner;

/// What the generator offers beyond SOCP v1.3, where the server has it: cheap transport signatures (PROTOCOL II.3), and
/// presence in batches (PROTOCOL II.8).
const NATIVE_CAPS: [&str; 2] = ["delegate/1", "presence/1"];

/// Measure how much a server carries: starts its own servers, loads them, prints figures, stops.
///
/// Server and generator run as processes of their own; processor time is reported for each. `dm`: pairs of an author and
/// a reader at one server. `mesh`: the same across two or three servers. `channel`: one author, whose messages go to all
/// clients. `away`: the readers' server is gone while messages are written, and comes back. `idle`: connections that say nothing. `storm`: users who all come back at once. `login`: logins with a password.
#[derive(Debug, Clone, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct BenchArgs {
    /// What to measure
    scenario: Scenario,
    /// How long to send, or to hold idle connections, in seconds
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=3600))]
    seconds: u64,
    /// Whether clients offer capabilities, or speak v1.3 to the letter
    #[arg(long, default_value = "native")]
    mode: Mode,
    /// Whether the servers check content signatures; those are then made ahead, five milliseconds each, and kept
    #[arg(long, default_value = "on")]
    verify_content: Switch,
    /// dm, mesh: whether messages are acknowledged once they are on the disk, and count when that is told (ack/1)
    #[arg(long, default_value = "off")]
    sync: Switch,
    /// dm, mesh: pairs [default: 4]; away: pairs [default: 40]; login: accounts [default: 16]; else clients [default: 100]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    clients: Option<u32>,
    /// Speak TLS, with certificates that the servers make themselves
    #[arg(long)]
    tls: bool,
    /// mesh: how many servers, 2 or 3 [default: 2]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(1..=3))]
    servers: Option<u8>,
    /// Bytes of each message's text
    #[arg(long, value_name = "BYTES", default_value_t = 100, value_parser = read_size)]
    size: usize,
    /// Messages per second that are sent whether or not earlier ones have arrived, for latencies [default: as many as arrive]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    rate: Option<u32>,
    /// Most messages to sign ahead where the servers verify; when they are used up the measurement ends
    /// [default: 400 for each second, at most 5,000]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    messages: Option<u32>,
    /// With --server: its process, to report what it uses
    #[arg(long)]
    pid: Option<u32>,
    /// Where key and signed messages are kept for the next run [default: the platform's cache directory]
    #[arg(long, value_name = "DIR")]
    cache: Option<PathBuf>,
}

const EXAMPLES: &str = "Example:
  socp bench dm --seconds 5
  socp bench dm --verify-content off --rate 500
  socp bench dm --sync on
  socp bench away --messages 100000
  socp bench channel --clients 1000 --json
  socp bench idle --clients 1000
  socp bench login --seconds 60
  socp bench dm --server ws://127.0.0.1:8765 --pid 4711";

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Scenario {
    Dm,
    Mesh,
    Channel,
    Away,
    Idle,
    Storm,
    Login,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Mode {
    Native,
    Literal,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Switch {
    On,
    Off,
}

fn read_size(text: &str) -> Result<usize, String> {
    let size: usize = text.parse().map_err(|_| "not a number of bytes".to_owned())?;
    if (1..=DIRECT_TEXT_BYTES_MAX).contains(&size) {
        Ok(size)
    } else {
        Err(format!("a message has 1 to {DIRECT_TEXT_BYTES_MAX} bytes"))
    }
}

impl BenchArgs {
    /// Pairs, or clients.
    fn clients(&self) -> usize {
        let default = match self.scenario {
            Scenario::Dm | Scenario::Mesh => 4,
            Scenario::Away => 40,
            Scenario::Channel | Scenario::Idle | Scenario::Storm => 100,
            Scenario::Login => 16,
        };
        usize::try_from(self.clients.unwrap_or(default)).unwrap_or(usize::MAX)
    }

    /// Whether messages count when they are acknowledged.
    fn syncs(&self) -> bool {
        self.sync == Switch::On || self.scenario == Scenario::Away
    }

    fn length(&self) -> Duration {
        Duration::from_secs(self.seconds)
    }

    /// Messages to sign ahead.
    fn messages(&self) -> usize {
        let wanted = match (self.messages, self.rate) {
            (Some(messages), _) => u64::from(messages),
            (None, Some(rate)) => u64::from(rate).saturating_mul(self.seconds),
            (None, None) => self.seconds.saturating_mul(400).min(5_000),
        };
        usize::try_from(wanted).unwrap_or(usize::MAX)
    }

    /// Between two messages of one of so many authors.
    fn interval(&self, authors: usize) -> Option<Duration> {
        let rate = f64::from(self.rate?);
        let authors = f64::from(u32::try_from(authors).unwrap_or(u32::MAX));
        Some(Duration::from_secs_f64(authors / rate))
    }

    /// What clap cannot see.
    fn check(&self, server: Option<&ServerUrl>) -> Result<()> {
        match (self.scenario, self.servers) {
            (Scenario::Mesh, None | Some(2 | 3)) if server.is_none() => {}
            (Scenario::Mesh, _) if server.is_some() => bail!("mesh starts its own servers; leave --server out"),
            (Scenario::Mesh, _) => bail!("a mesh has 2 or 3 servers"),
            (_, None | Some(1)) => {}
            (_, Some(_)) => bail!("only mesh has several servers; leave --servers out"),
        }
        let is_direct = matches!(self.scenario, Scenario::Dm | Scenario::Mesh | Scenario::Away);
        if self.scenario == Scenario::Away && server.is_some() {
            bail!("away starts its own servers; leave --server out");
        }
        if self.syncs() && (!is_direct || self.mode == Mode::Literal) {
            bail!("only dm, mesh and away in native mode are acknowledged; leave --sync on, or --mode literal, out");
        }
        if self.tls && self.scenario == Scenario::Login {
            bail!("login measures without TLS; leave --tls out");
        }
        if self.tls && server.is_some() {
            bail!("--tls is for servers that are started here; with --server say wss://…#PIN");
        }
        if self.pid.is_some() && server.is_none() {
            bail!("--pid names the process of the server that --server gives");
        }
        Ok(())
    }
}

/// Runs the command.
pub(crate) async fn run(args: BenchArgs, common: &Common) -> Result<()> {
    // A chat server that the environment names must not be loaded by accident.
    let server = common.server.as_ref().filter(|_| is_on_the_command_line("--server"));
    let server = server.map(|url| ServerUrl::parse(url)).transpose()?;
    args.check(server.as_ref())?;
    let stop = stop_signal()?;
    allow_many_links();
    let figures = tokio::select! {
        figures = perform(&args, server) => figures?,
        () = stop => bail!("stopped before the end; nothing was measured"),
    };
    if common.json {
        out::json(&serde_json::to_value(&figures)?)?;
    } else {
        out::raw(&figures.table())?;
    }
    if figures.lost > 0 {
        bail!("{} messages were lost", figures.lost);
    }
    Ok(())
}

async fn perform(args: &BenchArgs, server: Option<ServerUrl>) -> Result<Figures> {
    let cache = Cache::open(args.cache.as_deref())?;
    let (key, cache) = tokio::task::spawn_blocking(move || cache.key().map(|key| (key, cache))).await??;
    let mut caps = NATIVE_CAPS.map(str::to_owned).to_vec();
    if args.syncs() {
        caps.push(socp_proto::ACK.to_owned());
    }
    let caps = (args.mode == Mode::Native)
        .then(|| Capabilities::try_from(caps))
        .transpose()?;
    let reads = false;
    let manner = Manner { key, caps, reads };
    let run = if server.is_some() {
        Run::on_a_running_server()?
    } else {
        Run::on_fresh_servers()
    };
    let dir = tempfile::tempdir().wrap_err("no temporary directory can be made")?;
    let verifies = args.verify_content == Switch::On;
    let servers = match server {
        Some(url) => vec![Server::running(url, args.pid)],
        None => {
            let (count, dir) = (server_count(args), dir.path().to_owned());
            let manner = ServerManner {
                verify_content: verifies,
                has_tls: args.tls,
                accept: match args.scenario {
                    Scenario::Login => "proof",
                    Scenario::Dm
                    | Scenario::Mesh
                    | Scenario::Channel
                    | Scenario::Away
                    | Scenario::Idle
                    | Scenario::Storm => "signed",
                },
            };
            tokio::task::spawn_blocking(move || start(&dir, count, manner)).await??
        }
    };
    let mut stage = Stage::new(servers, manner, run, cache, verifies);
    let alarm = std::sync::Arc::clone(&stage.alarm);
    let measured = tokio::select! {
        figures = measure(&mut stage, args) => figures,
        what = alarm.raised() => Err(color_eyre::eyre::eyre!(what)),
    };
    let mut figures = match measured {
        Ok(figures) => figures,
        // A server that is gone takes its links along; that it is gone is the news.
        Err(error) => return Err(stage.obituary().await.unwrap_or(error)),
    };
    figures.scenario = name_of(args.scenario);
    figures.mode = name_of(args.mode);
    figures.verify_content = name_of(args.verify_content);
    figures.sync = matches!(args.scenario, Scenario::Dm | Scenario::Mesh).then(|| name_of(args.sync));
    stage.empty().await;
    for server in &mut stage.servers {
        server.stop()?;
    }
    Ok(figures)
}

async fn measure(stage: &mut Stage, args: &BenchArgs) -> Result<Figures> {
    match args.scenario {
        Scenario::Dm | Scenario::Mesh => messages::direct(stage, args).await,
        Scenario::Channel => messages::channel(stage, args).await,
        Scenario::Away => away::away(stage, args).await,
        Scenario::Idle => crowd::idle(stage, args).await,
        Scenario::Storm => crowd::storm(stage, args).await,
        Scenario::Login => login::login(stage, args).await,
    }
}

fn server_count(args: &BenchArgs) -> u8 {
    match args.scenario {
        Scenario::Mesh => args.servers.unwrap_or(2),
        Scenario::Away => 2,
        Scenario::Dm | Scenario::Channel | Scenario::Idle | Scenario::Storm | Scenario::Login => 1,
    }
}

/// Servers of our own; all but the first join through it.
fn start(dir: &std::path::Path, count: u8, manner: ServerManner) -> Result<Vec<Server>> {
    let mut servers: Vec<Server> = Vec::new();
    for number in 0..count {
        let name = format!("bench-{number}");
        let server = Server::start(dir, &name, manner, servers.first())?;
        servers.push(server);
    }
    Ok(servers)
}

/// The name of a value on the command line.
fn name_of(value: impl ValueEnum) -> String {
    let value = value.to_possible_value();
    value.map(|value| value.get_name().to_owned()).unwrap_or_default()
}

/// Whether a flag was given, rather than its environment variable.
fn is_on_the_command_line(flag: &str) -> bool {
    std::env::args_os().any(|arg| {
        let text = arg.to_string_lossy();
        text.strip_prefix(flag)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('='))
    })
}

/// Every client is an open file here and another one in a server, which inherits the limit.
fn allow_many_links() {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    if let Err(error) = setrlimit(Resource::Nofile, limit) {
        tracing::debug!(%error, "the limit of open files stays as it is");
    }
}
