//! `/register` and `/login`: one's password, and whose identity this is, from inside a conversation.

use super::ask::Asker;
use crate::commands::key::password;
use color_eyre::eyre::{Result, WrapErr as _};
use socp_client::{Client, ClientError, Identity, Profile};
use tokio::task::spawn_blocking;

pub(super) const ONLY_WHERE_NOBODY_SEES_IT: &str = "/register asks for a password without showing it, which needs a terminal \
    on which lines are edited; `socp key password` does the same, also beside this chat (scripts: with --password-stdin)";

pub(super) const ALONE: &str = "say /register alone: the password is asked for, and not shown. If what you typed behind \
    it was one, choose another; it stands on this screen";

pub(super) const NOT_PASTED: &str = "what was pasted behind /register is dropped: it may have been a password";

const NONE: &str = "no password was set";

/// Sets the password of this identity at the server, and of the profile unless that is in a keyring; what to say then.
pub(super) async fn register(client: Client, profile: Profile, asker: Asker) -> Result<String> {
    // Its password or its keys may be others by now.
    let dir = profile.dir().to_owned();
    let profile = spawn_blocking(move || Profile::open(&dir)).await?.wrap_err(NONE)?;
    let present = match profile.needs_password() {
        true => Some(asker.ask("Present password: ").await.wrap_err(NONE)?),
        false => None,
    };
    let (locked, opener) = (profile.clone(), present.clone());
    let identity = spawn_blocking(move || locked.full_identity(opener.as_ref())).await?;
    let identity = identity.wrap_err("nothing was changed").wrap_err(NONE)?;
    let new = asker.ask_twice().await.wrap_err(NONE)?;
    // From here on lines are read again.
    drop(asker);
    let text = identity.to_text().map_err(ClientError::from)?;
    client.set_password(new.clone(), text).await?;
    if !password::stays_in_keyring(&profile) {
        let kept = password::keep_here(&profile, present, new).await;
        kept.wrap_err("the server has the new password, but it could not be used here")?;
    }
    let name = name_of(profile.identity());
    let server = profile.last_server()?.unwrap_or_default();
    Ok(format!(
        "the password is set: `socp login {name} --server {server}` fetches this identity onto another machine"
    ))
}

/// Why nobody can log in here, and what to do instead.
pub(super) fn no_login(name: &str, profile: &Profile) -> Result<String> {
    let own = profile.identity();
    let server = profile.last_server()?.unwrap_or_default();
    let is_own = own.name.as_deref() == Some(name) || own.user_id.as_str() == name;
    let own = name_of(own);
    if is_own {
        return Ok(format!(
            "you are {own} here already; on another machine `socp login {own} --server {server}` fetches this identity, \
             once it has a password (/register)"
        ));
    }
    let name = if is_plain(name) { name } else { "NAME" };
    let dir = profile.dir().display();
    Ok(format!(
        "you are {own} here, and a profile holds one identity; {dir} stays as it is. Log in into another profile, in a new \
         directory: `socp login {name} --server {server} --profile DIR`, and then `socp chat --profile DIR`"
    ))
}

fn name_of(identity: &Identity) -> &str {
    identity.name.as_deref().unwrap_or(identity.user_id.as_str())
}

/// Whether a name can be copied into a shell as it is.
fn is_plain(name: &str) -> bool {
    name.chars()
        .all(|letter| letter.is_alphanumeric() || matches!(letter, '-' | '_' | '.'))
}
