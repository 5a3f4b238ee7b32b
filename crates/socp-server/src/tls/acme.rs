//! A certificate that an authority signs for whoever answers at its names (ACME, RFC 8555; decision 0026).
//!
//! The authority connects to port 443 of each name and wants to see a certificate there that only the account it knows can
//! have made (TLS-ALPN-01, RFC 8737). That port is, or leads to, the server's own, so nothing else is needed: `order` asks
//! for the certificate, `http` carries the questions, `files` keeps account and certificate in the data directory.
//!
//! One task waits until a third of the certificate's time is left and asks for the next one. Whatever fails is said in the
//! log and tried again, later each time; the server goes on with what it has, at first a certificate that nobody vouches
//! for.

mod fault;
mod files;
mod http;
mod order;

use super::{ENDS_SOON_S, hangups, own_certificate, read, unix_s};
use crate::error::ServerError;
use crate::settings::AcmeSettings;
use fault::Fault;
use files::{Files, Held};
use rcgen::KeyPair;
use socp_tls::{Acceptor, Authorities, Identity};
use std::path::Path;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;

/// How often the clock is looked at: it may be set, and a machine that slept does not count its sleep.
const LOOK_INTERVAL: Duration = Duration::from_secs(60);

/// A new certificate is asked for when this part of its time is left.
const PART_LEFT: u64 = 3;

/// After a certificate came, the next one is not asked for sooner, unless it ends before: its dates may be odd.
const REST_S: u64 = 3600;

/// The port that an authority connects to (RFC 8737 §3).
const CHALLENGE_PORT: u16 = 443;

/// What is needed to get certificates, and what is there.
#[derive(Debug)]
pub(super) struct Acme {
    settings: AcmeSettings,
    files: Files,
    authorities: Authorities,
    held: Option<Held>,
    /// A certificate is asked for from then on, s since the Unix epoch.
    due_s: u64,
    /// How often in a row it did not work.
    failures: u32,
}

impl Acme {
    /// Finds what is kept in the data directory, and the certificate to begin with.
    pub(super) fn open(data: &Path, settings: AcmeSettings, port: u16) -> Result<(Self, Identity), ServerError> {
        let authorities = authorities(&settings)?;
        let files = Files::new(data);
        // Whether it can be read is known before the authority is asked for anything.
        files.account()?;
        let held = files.certificate()?;
        let due_s = held.as_ref().map_or(0, |held| held.due_s(&settings));
        let identity = match &held {
            Some(held) => held.identity.clone(),
            None => stand_in(&settings)?,
        };
        let acme = Self {
            settings,
            files,
            authorities,
            held,
            due_s,
            failures: 0,
        };
        acme.say_what_is_there(port);
        Ok((acme, identity))
    }

    fn say_what_is_there(&self, port: u16) {
        let (domains, directory) = (self.settings.domains.join(" "), &self.settings.directory);
        match &self.held {
            Some(held) if self.due_s > 0 => {
                let days = held.days_left(unix_s());
                tracing::info!(domains, days_left = days, "the certificate of an authority is there");
            }
            Some(_) => tracing::warn!(
                domains,
                directory,
                "the certificate that is there is for other names or of another authority; it is shown until there is a new one"
            ),
            None => tracing::warn!(
                domains,
                directory,
                "no certificate yet: until the authority has signed one, clients are shown one that nobody vouches for"
            ),
        }
        if port != CHALLENGE_PORT {
            tracing::info!(
                domains,
                port,
                "the authority connects to port 443 of each name; it must lead to this port, without anything that ends TLS"
            );
        }
    }

    /// Gets certificates until told to stop.
    pub(super) async fn keep(mut self, acceptor: Acceptor, mut stop: watch::Receiver<bool>) {
        let mut hangup = hangups();
        let mut try_at = Instant::now();
        loop {
            let now = Instant::now();
            if unix_s() >= self.due_s && now >= try_at {
                let tried = tokio::select! {
                    tried = self.renew(&acceptor) => tried,
                    () = stopped(&mut stop) => return,
                };
                try_at = Instant::now() + self.take_outcome(tried);
            }
            let until_due = Duration::from_secs(self.due_s.saturating_sub(unix_s()));
            let wait = until_due.max(try_at.saturating_duration_since(Instant::now()));
            tokio::select! {
                () = tokio::time::sleep(wait.min(LOOK_INTERVAL)) => {}
                Some(()) = async { hangup.as_mut()?.recv().await } => {
                    try_at = Instant::now();
                    let due_s = self.due_s.saturating_sub(unix_s());
                    tracing::info!(due_s, "SIGHUP: a certificate is asked for when it is due");
                }
                () = stopped(&mut stop) => return,
            }
        }
    }

    /// Says how it went; how long nothing is asked for then.
    fn take_outcome(&mut self, tried: Result<(), Fault>) -> Duration {
        let now_s = unix_s();
        let left = self.held.as_ref().map_or(0, |held| held.days_left(now_s));
        let Err(fault) = tried else {
            self.failures = 0;
            let domains = self.settings.domains.join(" ");
            tracing::info!(
                domains,
                days_left = left,
                "an authority has signed a new certificate; new connections get it"
            );
            return Duration::ZERO;
        };
        let wait = fault.wait(self.failures);
        self.failures = self.failures.saturating_add(1);
        let (reason, advice, retry_s) = (fault.to_string(), fault.advice(), wait.as_secs());
        let is_good = self.held.as_ref().is_some_and(|held| held.is_good(now_s));
        if is_good
            && !self
                .held
                .as_ref()
                .is_some_and(|held| held.ends_by(now_s.saturating_add(ENDS_SOON_S)))
        {
            tracing::warn!(
                reason,
                advice,
                retry_s,
                days_left = left,
                "no new certificate yet; the present one is good"
            );
        } else {
            tracing::error!(
                reason,
                advice,
                retry_s,
                days_left = left,
                "no new certificate; SIGHUP tries again at once"
            );
        }
        wait
    }

    /// Asks for a certificate, shows it, and keeps it.
    async fn renew(&mut self, acceptor: &Acceptor) -> Result<(), Fault> {
        let key = self.key()?;
        let chain = match self.ask(&key, acceptor).await {
            Err(fault) if fault.is_about_no_account() => {
                // It has forgotten us, as those for tests do; the next try makes another account.
                let files = self.files.clone();
                on_disk(move || files.forget_account()).await?;
                return Err(fault);
            }
            answer => answer?,
        };
        let held = Held::new(&self.settings, chain, key.serialize_pem()).map_err(Fault::Useless)?;
        let now_s = unix_s();
        held.identity.check_dates(now_s).map_err(Fault::Clock)?;
        if let Some(domain) = self
            .settings
            .domains
            .iter()
            .find(|domain| !held.identity.is_for(domain))
        {
            return Err(Fault::Useless(format!("the certificate is not for {domain}")));
        }
        acceptor.replace(held.identity.clone());
        let (begin_s, end_s) = held.dates;
        let rest_s = REST_S.min(end_s.saturating_sub(now_s) / 2);
        self.due_s = due_s(begin_s, end_s).max(now_s.saturating_add(rest_s));
        self.held = Some(held.clone());
        let files = self.files.clone();
        if let Err(error) = on_disk(move || files.keep_certificate(&held)).await {
            // It counts all the same; who starts again has to ask again.
            tracing::error!(%error, "the new certificate is in use, but cannot be kept");
        }
        Ok(())
    }

    async fn ask(&self, key: &KeyPair, acceptor: &Acceptor) -> Result<String, Fault> {
        let account = order::account(&self.settings, &self.files, &self.authorities).await?;
        order::obtain(&account, &self.settings.domains, key, acceptor).await
    }

    /// The key of the certificate that is there, so that pins stay good; else a new one.
    fn key(&self) -> Result<KeyPair, Fault> {
        match &self.held {
            Some(held) => KeyPair::from_pem(&held.key).map_err(Fault::here),
            None => KeyPair::generate().map_err(Fault::here),
        }
    }
}

/// Disks take their time, and links must not wait for them.
async fn on_disk<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, ServerError> + Send + 'static,
) -> Result<T, Fault> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(Fault::here)?.map_err(Fault::here)
}

/// When the next certificate is asked for.
fn due_s(begin_s: u64, end_s: u64) -> u64 {
    end_s.saturating_sub(end_s.saturating_sub(begin_s) / PART_LEFT)
}

fn authorities(settings: &AcmeSettings) -> Result<Authorities, ServerError> {
    let machine = Authorities::of_machine();
    let Some(path) = &settings.authority else {
        return Ok(machine);
    };
    machine
        .and(&read(path, "--acme-ca")?)
        .map_err(|error| ServerError::Certificate {
            what: format!("{} (--acme-ca)", path.display()),
            reason: error.to_string(),
        })
}

/// A certificate for the time before there is one: made for this start, so that nobody pins it.
fn stand_in(settings: &AcmeSettings) -> Result<Identity, ServerError> {
    let failed = |reason: String| ServerError::Certificate {
        what: "a certificate for the time before there is one".to_owned(),
        reason,
    };
    let key = KeyPair::generate().map_err(|error| failed(error.to_string()))?;
    own_certificate(&key, &settings.domains, unix_s()).map_err(failed)
}

/// Ready when the server stops; a sender that is gone means that, too.
async fn stopped(stop: &mut watch::Receiver<bool>) {
    let _stop = stop.wait_for(|stop| *stop).await.map(drop);
}

#[cfg(test)]
mod tests;
