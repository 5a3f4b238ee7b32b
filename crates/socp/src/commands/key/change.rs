//! Other keys, withdrawn keys, and the end of an account (PROTOCOL II.13).

use crate::cli::Common;
use crate::{face, out, password};
use color_eyre::eyre::{Result, WrapErr as _, bail, eyre};
use serde_json::json;
use socp_client::{Client, ClientError, Event, EventStream, NewKeys, Options, Profile, Replaced, ServerUrl};
use socp_crypto::{Password, UserKeys, sign_delete};
use socp_proto::payload::AccountDelete;
use socp_proto::{Base64Url, ServerId};
use std::io::{self, BufRead as _, IsTerminal as _, Read as _};
use std::time::{SystemTime, UNIX_EPOCH};
use tokio::task::spawn_blocking;

/// More than anybody types to say yes.
const ANSWER_BYTES_MAX: u64 = 1024;

/// A profile whose keys are open, and what opened them.
struct Opened {
    profile: Profile,
    password: Option<Password>,
    keys: UserKeys,
    url: ServerUrl,
}

async fn open(common: &Common) -> Result<Opened> {
    let profile = Profile::open(&common.profile_dir()?)?;
    let url = face::server_url(common, &profile)?;
    let password = password::for_unlocking(common, &profile)?;
    let (locked, opener) = (profile.clone(), password.clone());
    let keys = spawn_blocking(move || locked.unlock(opener.as_ref())).await??;
    Ok(Opened {
        profile,
        password,
        keys,
        url,
    })
}

/// Connects, to a server that knows changes of accounts; and which server that is.
async fn connect(opened: &Opened) -> Result<(Client, EventStream, ServerId)> {
    let options = Options::once(opened.url.clone());
    let (client, mut events) = Client::connect(opened.profile.clone(), opened.keys.clone(), options).await?;
    let server = loop {
        match events.next().await {
            Some(Event::Online { server, .. }) => break server.id,
            Some(_) => {}
            None => return Err(ClientError::Ended.into()),
        }
    };
    if !client.can_change_account().await? {
        client.close().await;
        bail!(
            "{} does not know changes of accounts (history/1), so nothing was changed; ask its operator",
            opened.url.as_str()
        );
    }
    Ok((client, events, server))
}

/// `socp key rotate`.
pub(super) async fn rotate(replaced: Replaced, common: &Common) -> Result<()> {
    let opened = open(common).await?;
    // Seconds, before the server waits for anything.
    let (profile, keys) = (opened.profile.clone(), opened.keys.clone());
    let new = spawn_blocking(move || NewKeys::generate(&profile, &keys, replaced)).await??;
    let version = apply(&opened, new).await?;
    let profile = Profile::open(opened.profile.dir())?;
    let identity = profile.identity();
    if common.json {
        return Ok(out::json(&json!({
            "user_id": identity.user_id.as_str(),
            "version": version,
            "fingerprint": identity.pubkey.fingerprint().to_string(),
            "enc_fingerprint": identity.enc_pubkey.fingerprint().to_string(),
        }))?);
    }
    out::line(&format!(
        "version {version} of your keys is in use; programs of others follow by themselves, since the old keys signed it"
    ))?;
    out::note(
        "socp: a password that you set at your server opened the old keys and is gone; set it again with `socp key password`",
    );
    Ok(())
}

/// `socp key revoke`.
pub(super) async fn revoke(is_sure: bool, common: &Common) -> Result<()> {
    let question =
        "Nobody can use this identity any more, you neither, and this cannot be taken back. Withdraw your keys?";
    ask(is_sure, question)?;
    let opened = open(common).await?;
    let new = NewKeys::withdrawn(&opened.profile, &opened.keys)?;
    let version = apply(&opened, new).await?;
    let user = &opened.profile.identity().user_id;
    if common.json {
        return Ok(out::json(
            &json!({ "user_id": user.as_str(), "version": version, "revoked": true }),
        )?);
    }
    out::line("your keys are withdrawn; `socp register` in another profile makes a new identity")?;
    Ok(())
}

/// Stores new keys, then tells the server of them; their version.
async fn apply(opened: &Opened, new: NewKeys) -> Result<u64> {
    let statement = new.statement().ok_or_else(|| eyre!("there is nothing to change"))?;
    let version = statement.version;
    let (client, mut events, _) = connect(opened).await?;
    // What the server says beside is of no use here, but must be read.
    let reading = tokio::spawn(async move { while events.next().await.is_some() {} });
    let (profile, password) = (opened.profile.clone(), opened.password.clone());
    spawn_blocking(move || new.store(&profile, password.as_ref())).await??;
    let told = client.update_keys(statement).await;
    client.close().await;
    reading.await?;
    told.wrap_err("the new keys are in this profile, and the server is told of them at the next connection")?;
    Ok(version)
}

/// `socp key delete`.
pub(super) async fn delete(is_sure: bool, and_profile: bool, common: &Common) -> Result<()> {
    ask(
        is_sure,
        "The server forgets you and everything it keeps of you. Delete your account?",
    )?;
    let opened = open(common).await?;
    let user_id = opened.profile.identity().user_id.clone();
    let (client, mut events, server_id) = connect(&opened).await?;
    let reading = tokio::spawn(async move { while events.next().await.is_some() {} });
    let unix = SystemTime::now().duration_since(UNIX_EPOCH)?;
    let wish = AccountDelete {
        user_id: user_id.clone(),
        server_id,
        ts: u64::try_from(unix.as_millis())?,
        sig: Base64Url::encode(&[]),
    };
    let wish = sign_delete(wish, &opened.keys.sign)?;
    let deleted = client.delete_account(wish).await;
    client.close().await;
    reading.await?;
    deleted?;
    let dir = opened.profile.dir().to_owned();
    if and_profile {
        opened.profile.remove()?;
    }
    if common.json {
        let object = json!({ "user_id": user_id.as_str(), "deleted": true, "profile_removed": and_profile });
        return Ok(out::json(&object)?);
    }
    out::line(&format!("the account {user_id} is deleted"))?;
    if and_profile {
        out::note(&format!("socp: the identity is removed from {}", dir.display()));
    } else {
        out::note(&format!(
            "socp: the identity is still in {}; --and-profile removes it, too",
            dir.display()
        ));
    }
    Ok(())
}

/// Goes on only if the person wants to.
fn ask(is_sure: bool, question: &str) -> Result<()> {
    if is_sure {
        return Ok(());
    }
    if !io::stdin().is_terminal() {
        bail!("this cannot be taken back; say --yes if you are sure");
    }
    out::raw(&format!("{question} [y/N] "))?;
    let mut answer = String::new();
    let mut line = io::stdin().lock().take(ANSWER_BYTES_MAX);
    line.read_line(&mut answer).wrap_err("cannot read the answer")?;
    if matches!(answer.trim().to_lowercase().as_str(), "y" | "yes") {
        Ok(())
    } else {
        bail!("nothing was changed")
    }
}
