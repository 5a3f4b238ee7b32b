//! The servers under measurement: processes of their own, or one that runs already.

use super::proc::{Usage, usage};
use color_eyre::eyre::{Result, WrapErr as _, bail, eyre};
use serde::Deserialize;
use socp_client::ServerUrl;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Longest wait until a server is ready; it makes a key first.
const READY_WAIT: Duration = Duration::from_secs(60);
/// Longest wait for a server to stop; it promises five seconds.
const STOP_WAIT: Duration = Duration::from_secs(10);
/// How often a process is looked at.
const LOOK_INTERVAL: Duration = Duration::from_millis(20);
/// A server that has used so little in this long has nothing to do.
const CALM_INTERVAL: Duration = Duration::from_millis(250);
const CALM_CPU_S: f64 = 0.015;
/// Longest wait for that.
const CALM_WAIT: Duration = Duration::from_secs(120);

/// One server.
#[derive(Debug)]
pub(super) struct Server {
    pub(super) url: ServerUrl,
    /// Its id and key, where it is ours.
    pub(super) identity: Option<Identity>,
    pid: Option<u32>,
    child: Option<Mutex<Child>>,
    /// How it was started, if it was here: its data, its name.
    origin: Option<(PathBuf, String, ServerManner)>,
}

/// What a server's ready line says of it.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Identity {
    listen: String,
    tls_pin: Option<String>,
    pub(super) server_id: String,
    pubkey: String,
}

/// How servers are started.
#[derive(Debug, Clone, Copy)]
pub(super) struct ServerManner {
    pub(super) verify_content: bool,
    pub(super) has_tls: bool,
    /// Hellos are signed ahead elsewhere, so that making them is not measured; passwords need users who prove their keys.
    pub(super) accept: &'static str,
}

impl Identity {
    /// Where clients connect.
    fn url(&self) -> String {
        match &self.tls_pin {
            Some(pin) => format!("{}#{pin}", self.listen),
            None => self.listen.clone(),
        }
    }
}

impl Server {
    /// One that runs already; what it uses is known only if its process is.
    pub(super) fn running(url: ServerUrl, pid: Option<u32>) -> Self {
        Self {
            url,
            identity: None,
            pid,
            child: None,
            origin: None,
        }
    }

    /// Starts one on a free port of this machine, with its data below `dir`; it joins through `introducer`.
    pub(super) fn start(dir: &Path, name: &str, manner: ServerManner, introducer: Option<&Self>) -> Result<Self> {
        let program = std::env::current_exe().wrap_err("cannot tell where this program is")?;
        let mut command = Command::new(program);
        command
            .args([
                "--log",
                "error",
                "serve",
                "--listen",
                "127.0.0.1:0",
                "--rate-limit",
                "off",
            ])
            .args(["--verify-content", if manner.verify_content { "on" } else { "off" }])
            .args(["--accept", manner.accept])
            .args(["--name", name, "--data"])
            .arg(dir.join(name));
        if manner.has_tls {
            command.arg("--tls-self-signed");
        }
        if let Some(identity) = introducer.and_then(|server| server.identity.as_ref()) {
            let entry = format!("{}#{}", identity.listen, identity.pubkey);
            command.args(["--bootstrap", &entry]);
        } else {
            command.arg("--introducer");
        }
        // Settings of a server that is meant to last are not for this one.
        for (variable, _) in std::env::vars_os() {
            if variable.to_string_lossy().starts_with("SOCP_") {
                command.env_remove(variable);
            }
        }
        command.stdin(Stdio::null()).stdout(Stdio::piped());
        let child = command.spawn().wrap_err("a server cannot be started")?;
        let pid = child.id();
        let mut starting = Starting(Some(child));
        let identity = starting.ready()?;
        Ok(Self {
            url: ServerUrl::parse(&identity.url())?,
            identity: Some(identity),
            pid: Some(pid),
            child: starting.0.take().map(Mutex::new),
            origin: Some((dir.to_owned(), name.to_owned(), manner)),
        })
    }

    /// Starts one that was stopped, with the data that it has.
    pub(super) fn start_again(&mut self, introducer: Option<&Self>) -> Result<()> {
        let (dir, name, manner) = self.origin.clone().ok_or_else(|| eyre!("the server is not ours"))?;
        *self = Self::start(&dir, &name, manner, introducer)?;
        Ok(())
    }

    /// What it has used so far, if it can be known.
    pub(super) fn usage(&self) -> Option<Usage> {
        self.pid.and_then(usage)
    }

    /// Why it is gone, if it is a process of ours that is.
    pub(super) fn obituary(&self) -> Option<String> {
        let mut child = self.child.as_ref()?.lock().unwrap_or_else(PoisonError::into_inner);
        let status = child.try_wait().ok().flatten()?;
        Some(format!("the server ended while it was measured ({status})"))
    }

    /// Waits until it has nothing to do; a server whose process is unknown is taken at its word.
    pub(super) async fn calm(&self) -> Result<()> {
        let begun = Instant::now();
        let Some(mut before) = self.usage() else {
            return Ok(());
        };
        loop {
            tokio::time::sleep(CALM_INTERVAL).await;
            let now = self.usage().ok_or_else(|| eyre!("the server is gone"))?;
            if now.cpu_s - before.cpu_s <= CALM_CPU_S {
                return Ok(());
            }
            if begun.elapsed() > CALM_WAIT {
                bail!("the server does not come to rest within {} s", CALM_WAIT.as_secs());
            }
            before = now;
        }
    }

    /// Stops it, if it is ours, and says whether it ended well.
    pub(super) fn stop(&mut self) -> Result<()> {
        let Some(child) = self.child.take() else {
            return Ok(());
        };
        let mut child = child.into_inner().unwrap_or_else(PoisonError::into_inner);
        if let Some(status) = child.try_wait()? {
            bail!("the server had ended before it was stopped ({status})");
        }
        let asked = terminate(&child);
        let begun = Instant::now();
        while asked.is_ok() && begun.elapsed() < STOP_WAIT {
            if let Some(status) = child.try_wait()? {
                return if status.success() {
                    Ok(())
                } else {
                    Err(eyre!("the server stopped badly ({status})"))
                };
            }
            std::thread::sleep(LOOK_INTERVAL);
        }
        child.kill()?;
        child.wait()?;
        asked?;
        bail!(
            "the server did not stop within {} s and was killed",
            STOP_WAIT.as_secs()
        )
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Err(error) = self.stop() {
            tracing::debug!(%error, "a server");
        }
    }
}

fn terminate(child: &Child) -> Result<()> {
    use rustix::process::{Pid, Signal, kill_process};
    let pid = Pid::from_raw(i32::try_from(child.id())?).ok_or_else(|| eyre!("the server has no process id"))?;
    // It has not been waited for, so that the id is still its own.
    kill_process(pid, Signal::TERM).wrap_err("the server cannot be stopped")
}

/// A child that has not said yet that it is ready; killed if it never does.
struct Starting(Option<Child>);

impl Starting {
    fn ready(&mut self) -> Result<Identity> {
        let child = self.0.as_mut().ok_or_else(|| eyre!("no server was started"))?;
        let stdout = child.stdout.take().ok_or_else(|| eyre!("the server has no output"))?;
        let (sender, line) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            let mut line = String::new();
            let read = BufReader::new(stdout).read_line(&mut line);
            // Nobody waits any more if it took too long.
            let _gone = sender.send(read.map(|_| line));
        });
        let line = line
            .recv_timeout(READY_WAIT)
            .map_err(|_| eyre!("the server was not ready within {} s", READY_WAIT.as_secs()))??;
        let json = line
            .strip_prefix("ready ")
            .ok_or_else(|| eyre!("the server ended before it was ready; it says why above"))?;
        serde_json::from_str(json).wrap_err("the server's ready line cannot be read")
    }
}

impl Drop for Starting {
    fn drop(&mut self) {
        if let Some(mut child) = self.0.take() {
            // It may have ended by itself.
            let _ended = child.kill();
            let _reaped = child.wait();
        }
    }
}
