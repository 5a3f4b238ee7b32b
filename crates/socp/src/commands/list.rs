//! `socp list`: who is there.

use crate::cli::Common;
use crate::face;
use crate::{out, show};
use clap::Args;
use color_eyre::eyre::Result;

/// List the users online, sorted by id
#[derive(Debug, Args)]
#[command(after_help = "Example:
  socp list --json | jq -r .name

Marks beside a name, here and wherever a name is shown:
  (new)                 no key of theirs was seen yet
  (no mark)             the first key that was seen, and no other since
  (verified)            you have compared keys, or had their contact card another way
  (KEY CHANGED)         another key was shown: nothing is sent or shown until you decide; see `socp key show`
  (confirmed by N)      so many other servers and contacts say the same key
  (looks like another)  somebody else whom you know has a name that looks the same; go by the id")]
pub(crate) struct ListArgs {
    /// All known users, online or not
    #[arg(long)]
    all: bool,
}

pub(crate) async fn run(args: ListArgs, common: &Common) -> Result<()> {
    let unlocked = face::unlock(common).await?;
    let ourselves = unlocked.profile().identity().user_id.clone();
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
        let who = match person.user_id == ourselves {
            true => format!("{}  (you)", show::name(person)),
            false => show::address(person),
        };
        out::line(&format!("{}  {who}{away}", person.user_id))?;
    }
    Ok(())
}
