//! What every command that speaks to a server does first: open the profile, unlock it, connect.

use crate::cli::Common;
use crate::{out, password, show};
use color_eyre::eyre::{Result, eyre};
use socp_client::{Client, Downloads, Event, EventStream, Options, Profile, ServerPin, ServerUrl, TellFault};
use socp_crypto::UserKeys;
use socp_proto::{Fingerprint, UserId};
use std::collections::BTreeSet;
use tokio::task::spawn_blocking;

/// Connects as the profile's user until the user leaves, takes files, and remembers the server.
pub(crate) async fn connect(common: &Common, downloads: Downloads) -> Result<(Client, EventStream)> {
    unlock(common).await?.stay(downloads).await
}

/// A profile that is ready to connect.
pub(crate) struct Unlocked {
    profile: Profile,
    keys: UserKeys,
    server: ServerUrl,
}

/// Opens the profile; a password on standard input is its first line, and is read here.
pub(crate) async fn unlock(common: &Common) -> Result<Unlocked> {
    let profile = Profile::open(&common.profile_dir()?)?;
    let server = server_url(common, &profile)?;
    let password = password::for_unlocking(common, &profile)?;
    let locked = profile.clone();
    let keys = spawn_blocking(move || locked.unlock(password.as_ref())).await??;
    Ok(Unlocked { profile, keys, server })
}

impl Unlocked {
    /// A profile whose keys are open.
    pub(crate) fn of(profile: Profile, keys: UserKeys, server: ServerUrl) -> Self {
        Self { profile, keys, server }
    }

    /// The profile, for what needs no connection.
    pub(crate) fn profile(&self) -> Profile {
        self.profile.clone()
    }

    /// Connects until the user leaves, and takes files.
    pub(crate) async fn stay(self, downloads: Downloads) -> Result<(Client, EventStream)> {
        let options = Options::lasting(self.server.clone()).keeping_files(downloads);
        self.connect(options).await
    }

    async fn connect(self, options: Options) -> Result<(Client, EventStream)> {
        if self.server.is_exposed() {
            out::note(&format!(
                "socp: {} is not encrypted on the way: others there can see who talks to whom; use wss:// if the server has it",
                self.server
            ));
        }
        let connected = Client::connect(self.profile.clone(), self.keys, options).await?;
        self.profile.remember_server(&self.server)?;
        Ok(connected)
    }

    /// Connects for one request, and notes whom that brings us to know.
    pub(crate) async fn connect_once(self, json: bool) -> Result<(Client, Acquaintances)> {
        let (client, acquaintances, _) = self.connect_to_ask(json, false).await?;
        Ok((client, acquaintances))
    }

    /// The same, with what arrives; `reads`: also for the user.
    pub(crate) async fn connect_to_ask(self, json: bool, reads: bool) -> Result<(Client, Acquaintances, EventStream)> {
        let profile = self.profile.clone();
        let pins = profile.pins()?;
        let alarmed = profile.alarms()?.into_iter().map(|alarm| alarm.user).collect();
        // The list shows us, too.
        let ourselves = profile.identity().user_id.clone();
        let known = pins.into_iter().map(|pin| pin.user).chain([ourselves]).collect();
        let mut options = Options::once(self.server.clone());
        options.reads = reads;
        let (client, mut events) = self.connect(options).await?;
        let mut acquaintances = Acquaintances {
            profile,
            known,
            alarmed,
            new_server: None,
            json,
        };
        while let Some(event) = events.next().await {
            if let Event::Online { server, first_contact } = event {
                acquaintances.new_server = first_contact.then_some(server);
                break;
            }
            // What comes before is about how we are in.
            if let (Event::Notice { text, .. }, false) = (event, json) {
                out::note(&format!("socp: {text}"));
            }
        }
        Ok((client, acquaintances, events))
    }
}

/// First contacts that are named one by one.
const NAMED_COUNT_MAX: usize = 3;

/// Tells a person at the terminal whose keys are trusted from now on: nobody else can notice a wrong one.
pub(crate) struct Acquaintances {
    profile: Profile,
    known: BTreeSet<UserId>,
    /// Whose other key was known of before.
    alarmed: BTreeSet<UserId>,
    new_server: Option<ServerPin>,
    json: bool,
}

impl Acquaintances {
    /// Says who was met in this run; a recipient always by name. For a command that succeeded: a failure is one line.
    pub(crate) fn tell(&self, recipient: Option<&UserId>) -> Result<()> {
        // Another server may have answered after the command was done; that is never left unsaid.
        let alarms = self.profile.alarms()?;
        for alarm in alarms.iter().filter(|alarm| !self.alarmed.contains(&alarm.user)) {
            out::note(&format!("socp: {}", TellFault::from(alarm)));
        }
        if self.json {
            return Ok(());
        }
        if let Some(server) = &self.new_server {
            note(
                server.name.as_deref().unwrap_or(server.id.as_str()),
                server.key.fingerprint(),
            );
        }
        let mut new = self.profile.pins()?;
        new.retain(|pin| !self.known.contains(&pin.user));
        let (named, others): (Vec<_>, Vec<_>) = if new.len() <= NAMED_COUNT_MAX {
            (new, Vec::new())
        } else {
            new.into_iter().partition(|pin| Some(&pin.user) == recipient)
        };
        for pin in &named {
            let who = format!("{} ({})", show::name(&pin.person()), pin.user);
            note(&who, pin.pubkey.fingerprint());
        }
        if !others.is_empty() {
            out::note(&format!(
                "socp: first contact with {} {}users; see their keys with `socp key fingerprint USER`",
                others.len(),
                if named.is_empty() { "" } else { "more " },
            ));
        }
        Ok(())
    }
}

fn note(who: &str, key: Fingerprint) {
    out::note(&format!("socp: first contact with {who}, key {key}"));
}

/// Flag or environment, else `socp.toml`, else the server used last.
pub(crate) fn server_url(common: &Common, profile: &Profile) -> Result<ServerUrl> {
    server_if_any(common, profile)?.ok_or_else(no_server)
}

/// The same, where there may be none.
pub(crate) fn server_if_any(common: &Common, profile: &Profile) -> Result<Option<ServerUrl>> {
    let chosen = match chosen_server(common)? {
        Some(url) => Some(url),
        None => profile.last_server()?,
    };
    Ok(chosen.as_deref().map(ServerUrl::parse).transpose()?)
}

/// The same where there is no profile yet.
pub(crate) fn server_without_profile(common: &Common) -> Result<ServerUrl> {
    let url = chosen_server(common)?.ok_or_else(no_server)?;
    Ok(ServerUrl::parse(&url)?)
}

/// Whether a server is named, where there is no profile yet.
pub(crate) fn is_server_chosen(common: &Common) -> Result<bool> {
    Ok(chosen_server(common)?.is_some())
}

fn chosen_server(common: &Common) -> Result<Option<String>> {
    match common.server.clone() {
        Some(url) => Ok(Some(url)),
        None => Ok(common.file_settings()?.server),
    }
}

fn no_server() -> color_eyre::Report {
    eyre!("no server is known yet; give one with --server ws://host:port")
}

/// Completes when the user or the system asks the program to end.
pub(crate) async fn asked_to_stop() {
    let interrupted = tokio::signal::ctrl_c();
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};
        if let Ok(mut terminated) = signal(SignalKind::terminate()) {
            tokio::select! {
                _ = interrupted => {}
                _ = terminated.recv() => {}
            }
            return;
        }
    }
    // Without the handler the signal ends the program anyway.
    if interrupted.await.is_err() {
        std::future::pending::<()>().await;
    }
}
