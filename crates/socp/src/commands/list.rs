//! `socp list`: who is there.

use crate::cli::Common;
use crate::face;
use crate::{out, show};
use clap::Args;
use color_eyre::eyre::Result;

/// List the users online, sorted by id
#[derive(Debug, Args)]
#[command(after_help = "Example:
  socp list --json | jq -r .name")]
pub(crate) struct ListArgs {
    /// All known users, online or not
    #[arg(long)]
    all: bool,
}

pub(crate) async fn run(args: ListArgs, common: &Common) -> Result<()> {
    let unlocked = face::unlock(common).await?;
    let (client, acquaintances) = unlocked.connect_once(common.json).await?;
    let people = client.list().await;
    client.close().await;
    let people = people?;
    acquaintances.tell(None)?;
    for person in people.iter().filter(|person| person.online || args.all) {
        if common.json {
            out::json(&show::person_json(person))?;
            continue;
        }
        let away = if args.all && !person.online { "  (offline)" } else { "" };
        out::line(&format!("{}  {}{away}", person.user_id, show::address(person)))?;
    }
    Ok(())
}
