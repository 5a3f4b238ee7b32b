//! `socp key password`: another password, for the profile and for the account at the server.

use crate::cli::Common;
use crate::{face, out, password};
use color_eyre::eyre::{Result, WrapErr as _, bail};
use serde_json::json;
use socp_client::{AtRest, ClientError, Profile, ServerUrl};
use socp_crypto::{FullIdentity, Password};
use tokio::task::spawn_blocking;

/// Changes it, at the server first: whoever can still open the profile can try again.
pub(super) async fn change(is_here_only: bool, common: &Common) -> Result<()> {
    let profile = Profile::open(&common.profile_dir()?)?;
    let server = match is_here_only {
        true => None,
        false => face::server_if_any(common, &profile)?,
    };
    if stays_in_keyring(&profile) && !is_here_only && server.is_none() {
        bail!(
            "the keyring of this machine protects this profile, and no server is known that could have a password; with \
             --here a password takes the keyring's place"
        );
    }
    let present = password::present(common, &profile)?;
    let (opened, locked) = (present.clone(), profile.clone());
    let identity = spawn_blocking(move || locked.full_identity(opened.as_ref())).await??;
    let new = password::new(common)?;
    if let Some(server) = &server {
        let told = set_at_server(&profile, &identity, new.clone(), server, common).await;
        told.wrap_err_with(|| {
            format!("the password here is as it was, and no other is known to be set at {server}; to change it here alone add --here")
        })?;
    }
    if stays_in_keyring(&profile) && !is_here_only {
        return tell(server.as_ref(), false, common.json);
    }
    keep_here(&profile, present, new).await?;
    tell(server.as_ref(), true, common.json)
}

/// Whoever chose the keyring does not want to type a password here.
pub(crate) fn stays_in_keyring(profile: &Profile) -> bool {
    profile.at_rest() == AtRest::Keyring
}

/// The profile's password; the server has it already.
pub(crate) async fn keep_here(profile: &Profile, present: Option<Password>, new: Password) -> Result<()> {
    let profile = profile.clone();
    let changed = spawn_blocking(move || profile.change_password(present.as_ref(), &new)).await?;
    changed.wrap_err("the profile keeps its old password, whatever a server has")?;
    Ok(())
}

fn tell(server: Option<&ServerUrl>, is_here: bool, json: bool) -> Result<()> {
    let server = server.map(ServerUrl::as_str);
    if json {
        return Ok(out::json(
            &json!({ "changed": true, "here": is_here, "server": server }),
        )?);
    }
    Ok(out::line(&match server {
        Some(url) if !is_here => format!("changed at {url}; here the keyring opens the profile, as before"),
        Some(url) => format!("changed, here and at {url}"),
        None => "changed here; no server has it".to_owned(),
    })?)
}

/// Sets the account's password at a server, on a connection that is made for it.
pub(crate) async fn set_at_server(
    profile: &Profile,
    identity: &FullIdentity,
    password: Password,
    server: &ServerUrl,
    common: &Common,
) -> Result<()> {
    let text = identity.to_text().map_err(ClientError::from)?;
    let unlocked = face::Unlocked::of(profile.clone(), identity.keys.clone(), server.clone());
    let (client, acquaintances) = unlocked.connect_once(common.json).await?;
    let set = client.set_password(password, text).await;
    client.close().await;
    set?;
    // It is set, whatever else there was to say.
    if let Err(error) = acquaintances.tell(None) {
        out::note(&format!("socp: {error:#}"));
    }
    Ok(())
}
