//! `login`: what logins with a password cost a server, and what a clock tells whoever has none.
//!
//! The generator stretches each account's password once and not at each login: that is the client's share, of which one
//! machine could not do ten thousand a minute. All that a server does, and all that goes over the wire, is as ever. Tries
//! are counted for each address, so each comes from another one; only the loopback network has so many.

use super::BenchArgs;
use super::content::now_ms;
use super::figures::{Figures, millis, percentile};
use super::machine::Machine;
use super::stage::Stage;
use super::wire::{Socket, dial_from, next_frame};
use color_eyre::eyre::{Result, bail, ensure, eyre};
use futures_util::SinkExt as _;
use futures_util::future::try_join_all;
use socp_client::{Client, ClientError, Options, Profile, Protection, ServerUrl};
use socp_crypto::opaque::{Login, Stretched};
use socp_crypto::{FullIdentity, Password, UserKeys};
use socp_proto::payload::{CredentialFinalization, LoginFinish, LoginStart};
use socp_proto::{Address, Capabilities, DELEGATE, Draft, ErrorCode, Id, Payload, UserId};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};
use tokio::task::spawn_blocking;
use tokio_tungstenite::tungstenite::Message;

const PASSWORD: &str = "a password of the benchmark";
/// Logins that are under way at the same time.
const WINDOW_COUNT: usize = 8;
/// 127.1.0.1, and those behind it.
const SOURCE_FIRST: u32 = 0x7f01_0001;
/// Fewer than a server remembers, so that the clock of none is another's.
const SOURCES_COUNT: u32 = 60_000;

/// First what a clock tells, one login at a time; then as many as the server takes.
pub(super) async fn login(stage: &Stage, args: &BenchArgs) -> Result<Figures> {
    let dir = tempfile::tempdir()?;
    let door = Door::of(&stage.server(0)?.url)?;
    let mut accounts = Vec::new();
    for number in 0..args.clients() {
        let mut account = Account::register(stage, number, dir.path()).await?;
        // Stretches the password.
        account.log_in(&door).await?;
        accounts.push(account);
    }
    stage.calm().await?;
    let mut figures = Figures::default();
    time(stage, &door, &mut accounts, args.length(), &mut figures).await?;
    stage.calm().await?;
    let (machine, before) = stage.open_window(Machine::beside(args.length())).await?;
    let begin = Instant::now();
    let mut took = rush(&door, accounts, begin + args.length()).await?;
    figures.wall_s = Some(begin.elapsed().as_secs_f64());
    figures.delivered = Some(u64::try_from(took.len())?);
    figures.p50_ms = percentile(&mut took, 50).map(millis);
    figures.p99_ms = percentile(&mut took, 99).map(millis);
    stage.close_window(machine, before, &mut figures).await?;
    Ok(figures)
}

/// Wrong passwords of accounts and names of nobody, in turn, each from an address that has never tried.
async fn time(
    stage: &Stage,
    door: &Door,
    accounts: &mut [Account],
    length: Duration,
    figures: &mut Figures,
) -> Result<()> {
    let (mut of_accounts, mut of_nobody) = (Times::default(), Times::default());
    let until = Instant::now() + length;
    let mut round = 0_usize;
    while Instant::now() < until {
        let accounts_count = accounts.len();
        let Some(account) = round.checked_rem(accounts_count).and_then(|at| accounts.get_mut(at)) else {
            bail!("there is no account");
        };
        let nobody = stage.run.author(round)?;
        // Whoever is second finds warmer caches.
        if round.is_multiple_of(2) {
            of_accounts.add(door.fail(&account.user).await?);
            of_nobody.add(door.fail(&nobody).await?);
        } else {
            of_nobody.add(door.fail(&nobody).await?);
            of_accounts.add(door.fail(&account.user).await?);
        }
        // A few in a row, and the account would have to wait.
        account.log_in(door).await?;
        round = round.saturating_add(1);
    }
    [figures.challenge_account_ms, figures.refusal_account_ms] = of_accounts.medians_ms();
    [figures.challenge_nobody_ms, figures.refusal_nobody_ms] = of_nobody.medians_ms();
    Ok(())
}

/// How long answers took, in microseconds.
#[derive(Default)]
struct Times {
    challenges: Vec<u32>,
    refusals: Vec<u32>,
}

impl Times {
    fn add(&mut self, (challenge, refusal): (u32, u32)) {
        self.challenges.push(challenge);
        self.refusals.push(refusal);
    }

    fn medians_ms(&mut self) -> [Option<f64>; 2] {
        [&mut self.challenges, &mut self.refusals].map(|times| percentile(times, 50).map(millis))
    }
}

/// Logs in again and again; how long each took, with its connection.
async fn rush(door: &Door, accounts: Vec<Account>, until: Instant) -> Result<Vec<u32>> {
    let mut hands: Vec<Vec<Account>> = (0..WINDOW_COUNT).map(|_| Vec::new()).collect();
    let mut next = 0..;
    for account in accounts {
        let number: usize = next.next().unwrap_or_default();
        if let Some(hand) = number.checked_rem(WINDOW_COUNT).and_then(|at| hands.get_mut(at)) {
            hand.push(account);
        }
    }
    let working = hands.into_iter().map(|mut hand| async move {
        let mut took = Vec::new();
        while !hand.is_empty() && Instant::now() < until {
            for account in &mut hand {
                let begin = Instant::now();
                account.log_in(door).await?;
                took.push(micros(begin));
            }
        }
        Ok::<_, color_eyre::Report>(took)
    });
    Ok(try_join_all(working).await?.concat())
}

/// Somebody who has a password at the server.
struct Account {
    user: UserId,
    stretched: Stretched,
}

impl Account {
    async fn register(stage: &Stage, number: usize, dir: &Path) -> Result<Self> {
        let user = stage.run.reader(number)?;
        let keys = UserKeys {
            sign: stage.manner.key.clone(),
            enc: stage.manner.key.clone(),
            old_enc: Vec::new(),
        };
        let identity = FullIdentity {
            user_id: user.clone(),
            name: None,
            display_name: None,
            keys: keys.clone(),
            history: None,
        };
        let text = identity.to_text().map_err(ClientError::from)?;
        let place = dir.join(number.to_string());
        let profile = spawn_blocking(move || {
            let profile = Profile::import(&place, identity, Protection::File)?;
            // Whoever connects keeps what is said.
            profile.unlock(None)?;
            Ok::<_, ClientError>(profile)
        });
        let profile = profile.await??;
        let options = Options::once(stage.server(0)?.url.clone());
        let (client, events) = Client::connect(profile, keys, options).await?;
        // Nobody listens.
        drop(events);
        client.set_password(Password::new(PASSWORD.to_owned()), text).await?;
        client.close().await;
        let stretched = Stretched::default();
        Ok(Self { user, stretched })
    }

    /// A whole login, with the right password.
    async fn log_in(&mut self, door: &Door) -> Result<()> {
        let (login, request) = Login::begin(Password::new(PASSWORD.to_owned()))?;
        let mut socket = door.open().await?;
        say(&mut socket, &start(&self.user, request)?).await?;
        let answer = next_frame(&mut socket).await?.payload;
        let Payload::LoginChallenge(challenge) = answer else {
            bail!("the server answers a login with {}", answer.kind().name());
        };
        let (server, response) = (&challenge.server_id, &challenge.response);
        let (finalization, export) = login.finish_again(server, response, &mut self.stretched)?;
        say(&mut socket, &Payload::LoginFinish(LoginFinish { finalization })).await?;
        let answer = next_frame(&mut socket).await?.payload;
        let Payload::LoginResult(result) = answer else {
            bail!("the server ends a login with {}", answer.kind().name());
        };
        ensure!(result.user_id == self.user, "the server logs somebody else in");
        export.open(&result.sealed)?;
        // What had to be said is said.
        let _gone = socket.close(None).await;
        Ok(())
    }
}

/// The server, from many addresses.
struct Door {
    url: ServerUrl,
    server: SocketAddr,
    sources: AtomicU32,
}

impl Door {
    fn of(url: &ServerUrl) -> Result<Self> {
        let (host, port) = url.host_and_port();
        let ip = host.parse::<Ipv4Addr>().ok().filter(Ipv4Addr::is_loopback);
        let ip = ip.ok_or_else(|| {
            eyre!(
                "login measures a server at 127.0.0.1 only: {host} lets one address try 30 times, and no other network of \
                 this machine has many"
            )
        })?;
        Ok(Self {
            url: url.clone(),
            server: (ip, port).into(),
            sources: AtomicU32::new(0),
        })
    }

    async fn open(&self) -> Result<Socket> {
        let number = self.sources.fetch_add(1, Ordering::Relaxed) % SOURCES_COUNT;
        dial_from(Ipv4Addr::from(SOURCE_FIRST + number), &self.url, self.server).await
    }

    /// A login without the password; how long challenge and refusal took, in microseconds.
    async fn fail(&self, name: &UserId) -> Result<(u32, u32)> {
        let (_, request) = Login::begin(Password::new("no idea".to_owned()))?;
        let (start, guess) = (
            start(name, request)?,
            CredentialFinalization::try_from([7; 64].as_slice())?,
        );
        let mut socket = self.open().await?;
        let begin = Instant::now();
        say(&mut socket, &start).await?;
        let answer = next_frame(&mut socket).await?.payload;
        let challenge = micros(begin);
        ensure!(
            matches!(answer, Payload::LoginChallenge(_)),
            "the server answers a login with {}",
            answer.kind().name()
        );
        let finish = Payload::LoginFinish(LoginFinish { finalization: guess });
        let begin = Instant::now();
        say(&mut socket, &finish).await?;
        let answer = next_frame(&mut socket).await?.payload;
        let refusal = micros(begin);
        let is_no = matches!(&answer, Payload::Error(error) if error.code == ErrorCode::NotAuthenticated);
        ensure!(is_no, "the server ends a false login with {}", answer.kind().name());
        Ok((challenge, refusal))
    }
}

fn start(name: &UserId, request: socp_proto::payload::CredentialRequest) -> Result<Payload> {
    Ok(Payload::LoginStart(LoginStart {
        name: name.to_string(),
        request,
        caps: Some(Capabilities::of(&[DELEGATE])?),
    }))
}

async fn say(socket: &mut Socket, payload: &Payload) -> Result<()> {
    let draft = Draft::new(Id::try_from("*")?, Address::everyone(), now_ms()?, payload);
    Ok(socket.send(Message::text(draft.sign(&[]).to_text())).await?)
}

fn micros(since: Instant) -> u32 {
    u32::try_from(since.elapsed().as_micros()).unwrap_or(u32::MAX)
}
