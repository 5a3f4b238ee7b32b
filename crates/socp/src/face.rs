//! What every command that speaks to a server does first: open the profile, unlock it, connect.

use crate::cli::Common;
use crate::password;
use color_eyre::eyre::{Result, eyre};
use socp_client::{Client, EventStream, Options, Profile, ServerUrl};
use tokio::task::spawn_blocking;

/// How long a connection should last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lasting {
    /// For one request.
    Once,
    /// Until the user leaves.
    Reconnecting,
}

/// Connects as the profile's user, and remembers the server.
pub(crate) async fn connect(common: &Common, lasting: Lasting) -> Result<(Client, EventStream)> {
    let profile = Profile::open(&common.profile_dir()?)?;
    let server = server_url(common, &profile)?;
    let password = password::for_unlocking(common, &profile)?;
    let locked = profile.clone();
    let key = spawn_blocking(move || locked.unlock(password.as_ref())).await??;
    let options = match lasting {
        Lasting::Once => Options::once(server.clone()),
        Lasting::Reconnecting => Options::lasting(server.clone()),
    };
    let connected = Client::connect(profile.clone(), key, options).await?;
    profile.set_last_server(server.as_str())?;
    Ok(connected)
}

/// Flag or environment, else `socp.toml`, else the server used last.
fn server_url(common: &Common, profile: &Profile) -> Result<ServerUrl> {
    let chosen = match common.server.clone() {
        Some(url) => Some(url),
        None => common.file_settings()?.server,
    };
    let chosen = match chosen {
        Some(url) => Some(url),
        None => profile.last_server()?,
    };
    let url = chosen
        .ok_or_else(|| eyre!("no server is known yet; give one with --server ws://host:port"))?;
    Ok(ServerUrl::parse(&url)?)
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
