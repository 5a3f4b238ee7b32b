//! `socp register`: a new identity.

use crate::cli::Common;
use crate::{out, password};
use clap::Args;
use color_eyre::eyre::Result;
use serde_json::json;
use socp_client::{Profile, ServerUrl};
use tokio::task::spawn_blocking;

/// Make a new identity, and print its user id
#[derive(Debug, Args)]
#[command(after_help = "Example:
  socp register --name alice --display 'Alice L.' --server ws://127.0.0.1:8765")]
pub(crate) struct RegisterArgs {
    /// A short name by which others find you, without spaces
    #[arg(long)]
    name: Option<String>,
    /// The name to show
    #[arg(long)]
    display: Option<String>,
    /// Do not ask for a password; whoever can read the profile directory then has the key
    #[arg(long, conflicts_with = "password_stdin")]
    no_password: bool,
}

pub(crate) async fn run(args: RegisterArgs, common: &Common) -> Result<()> {
    let dir = common.profile_dir()?;
    let server = common.server.as_deref().map(ServerUrl::parse).transpose()?;
    super::key::transfer::refuse_second(&dir)?;
    let password = if args.no_password {
        None
    } else {
        password::for_new_key(common)?
    };
    let profile = spawn_blocking(move || {
        let (name, display) = (args.name.as_deref(), args.display.as_deref());
        Profile::create(&dir, name, display, password.as_ref())
    })
    .await??;
    if let Some(server) = server {
        profile.remember_server(&server)?;
    }
    let identity = profile.identity();
    if common.json {
        out::json(&json!({
            "user_id": identity.user_id.as_str(),
            "name": identity.name,
            "display_name": identity.display_name,
            "fingerprint": identity.pubkey.fingerprint().to_string(),
        }))?;
    } else {
        out::line(identity.user_id.as_str())?;
    }
    Ok(())
}
