//! `socp register`: a new identity, and a password for it at the server.

use super::key::password::set_at_server;
use super::key::transfer::refuse_second;
use crate::cli::Common;
use crate::{face, out, password};
use clap::Args;
use color_eyre::eyre::Result;
use serde_json::json;
use socp_client::{Profile, Protection, ServerUrl};
use socp_crypto::Password;
use tokio::task::spawn_blocking;

/// Make a new identity, and print its user id
#[derive(Debug, Args)]
#[command(after_help = "Example:
  socp register --name alice --display 'Alice L.' --server ws://127.0.0.1:8765
  socp register --name alice --keyring

With a password and a server, the server keeps your identity, sealed so that only the password opens it: \
`socp login alice` fetches it onto another machine. The server never sees the password.")]
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
    /// Protect the profile by the platform's keyring; a password is then the server's alone
    #[arg(long, conflicts_with = "no_password")]
    keyring: bool,
}

pub(crate) async fn run(args: RegisterArgs, common: &Common) -> Result<()> {
    let dir = common.profile_dir()?;
    // An address that is none is found before anything is made.
    let server = common.server.as_deref().map(ServerUrl::parse).transpose()?;
    refuse_second(&dir)?;
    // With a keyring a password is for a server only.
    let has_use = !args.keyring || common.password_stdin || face::is_server_chosen(common)?;
    let password = if args.no_password || !has_use {
        None
    } else {
        password::for_new_key(common)?
    };
    let password = password.filter(|password| !password.is_empty());
    let own = password.clone();
    let profile = spawn_blocking(move || {
        let (name, display) = (args.name.as_deref(), args.display.as_deref());
        Profile::create(&dir, name, display, protection(args.keyring, own.as_ref()))
    })
    .await??;
    if let Some(server) = server {
        profile.remember_server(&server)?;
    }
    let registered = match password {
        Some(password) => register(&profile, password, common).await?,
        None => None,
    };
    tell(&profile, registered.as_ref(), common.json)
}

/// What is to protect a new profile.
pub(super) fn protection(in_keyring: bool, password: Option<&Password>) -> Protection<'_> {
    match in_keyring {
        true => Protection::Keyring,
        false => password.into(),
    }
}

/// Sets the password at the server, if one is known; at which, or why not. The identity is there whatever comes of it.
async fn register(profile: &Profile, password: Password, common: &Common) -> Result<Option<Result<ServerUrl>>> {
    let Some(server) = face::server_if_any(common, profile)? else {
        return Ok(None);
    };
    let (locked, own) = (profile.clone(), password.clone());
    let identity = spawn_blocking(move || locked.full_identity(Some(&own))).await??;
    let set = set_at_server(profile, &identity, password, &server, common).await;
    Ok(Some(set.map(|()| server)))
}

fn tell(profile: &Profile, registered: Option<&Result<ServerUrl>>, json: bool) -> Result<()> {
    let identity = profile.identity();
    let failed = registered.and_then(|registered| registered.as_ref().err());
    if let Some(error) = failed {
        out::note(&format!(
            "socp: the identity is made, but no server keeps it: {error:#}. Until `socp key password` has worked, it is \
             on this machine alone"
        ));
    }
    if !json {
        return Ok(out::line(identity.user_id.as_str())?);
    }
    let at = registered.and_then(|registered| registered.as_ref().ok());
    Ok(out::json(&json!({
        "user_id": identity.user_id.as_str(),
        "name": identity.name,
        "display_name": identity.display_name,
        "fingerprint": identity.pubkey.fingerprint().to_string(),
        "password_at": at.map(ServerUrl::as_str),
    }))?)
}
