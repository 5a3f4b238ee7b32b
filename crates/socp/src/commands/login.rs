//! `socp login`: one's identity, fetched from the server with a password.

use super::register::protection;
use crate::cli::Common;
use crate::{face, out, password};
use clap::Args;
use color_eyre::eyre::Result;
use serde_json::json;
use socp_client::{Profile, log_in};
use tokio::task::spawn_blocking;

/// Fetch your identity onto this machine, with your name and your password
#[derive(Debug, Args)]
#[command(after_help = "Example:
  socp login alice --server ws://127.0.0.1:8765
  echo 'the password' | socp login alice --server ws://127.0.0.1:8765 --password-stdin

The profile that this makes is protected by the same password, or by the platform's keyring with --keyring. Where one exists already, nothing is changed.")]
pub(crate) struct LoginArgs {
    /// Your name at that server, or your user id
    user: String,
    /// Protect the profile by the platform's keyring instead of the password
    #[arg(long)]
    keyring: bool,
}

pub(crate) async fn run(args: LoginArgs, common: &Common) -> Result<()> {
    let dir = common.profile_dir()?;
    super::key::transfer::refuse_second(&dir)?;
    let server = face::server_without_profile(common)?;
    let password = password::for_login(common)?;
    let identity = log_in(&server, &args.user, password.clone()).await?;
    let profile =
        spawn_blocking(move || Profile::import(&dir, identity, protection(args.keyring, Some(&password)))).await??;
    profile.remember_server(&server)?;
    let identity = profile.identity();
    if common.json {
        return Ok(out::json(&json!({
            "user_id": identity.user_id.as_str(),
            "name": identity.name,
            "display_name": identity.display_name,
            "fingerprint": identity.pubkey.fingerprint().to_string(),
            "server": server.as_str(),
        }))?);
    }
    Ok(out::line(identity.user_id.as_str())?)
}
