//! `socp chat`: a conversation, line by line.

mod account;
mod ask;
mod edit;
mod input;
mod said;
mod screen;

use crate::cli::Common;
use crate::commands::file::{self, Quarters};
use crate::commands::serve::stop_signal;
use crate::face::unlock;
use crate::show;
use crate::transfer::Receiving;
use ask::Asker;
use clap::Args;
use color_eyre::eyre::{Result, bail};
use edit::Terminal;
use input::{Line, Typed, parse};
use screen::Screen;
use socp_client::{
    ChannelReport, Client, ClientError, Event, EventStream, FileProgress, FileReport, OutgoingFile, Person, Profile,
    Receipt, Source,
};
use std::io;
use std::path::PathBuf;
use tokio::sync::mpsc;
use tokio::task::{JoinSet, spawn_blocking};

/// Talk: type lines, read what arrives
#[derive(Debug, Args)]
#[command(after_help = "Example:
  socp chat
  printf '/tell bob hello\\n' | socp chat --plain --json
  printf '/file bob photo.png\\n' | socp chat --plain")]
pub(crate) struct ChatArgs {
    /// Plain lines, also on a terminal
    #[arg(long)]
    plain: bool,
    #[command(flatten)]
    receiving: Receiving,
}

/// News of files on their way out that may wait to be shown.
const NEWS_COUNT_MAX: usize = 16;

const HELP: &str = "/list  /tell <user> <text> (or /msg)  /all <text>  /file <user|all> <path>  /history [user]  /search <words>  /receipts on|off [user]  /register  /login <name>  /help  /quit; a line without a slash goes to whom you told last. What you said is queued here, on your server, on theirs, delivered to their device, read by them, or failed: a line says so when it changes";

pub(crate) async fn run(args: ChatArgs, common: &Common) -> Result<()> {
    // Lines are all there is for now, with or without `--plain`.
    tracing::debug!(plain = args.plain, "chat");
    let size_max = args.receiving.size_max(common)?;
    let downloads = args.receiving.downloads(common)?;
    let unlocked = unlock(common).await?;
    let profile = unlocked.profile();
    let (client, mut events) = unlocked.stay(downloads).await?;
    // Before the editor begins, which puts back what it has found when a line is done.
    let stopping = stop_signal()?;
    let (lines, terminal) = typed_lines(common.json);
    let (news, transfers) = mpsc::channel(NEWS_COUNT_MAX);
    let mut chat = Chat {
        client: client.clone(),
        profile,
        size_max,
        news,
        screen: Screen::new(common.json, terminal),
        sending: JoinSet::new(),
        partner: None,
    };
    let talked = chat.talk(&mut events, lines, transfers, stopping).await;
    // Whatever ended it: what arrived in part is removed, and its author is told.
    client.close().await;
    talked?;
    chat.screen.finish()
}

/// Where typed lines come from.
enum Lines {
    Read(mpsc::Receiver<io::Result<Typed>>),
    Edited(mpsc::UnboundedReceiver<io::Result<Typed>>),
}

impl Lines {
    async fn next(&mut self) -> Option<io::Result<Typed>> {
        match self {
            Self::Read(lines) => lines.recv().await,
            Self::Edited(lines) => lines.recv().await,
        }
    }
}

/// Lines are edited where a person types them, if the terminal is up to it.
fn typed_lines(json: bool) -> (Lines, Option<Terminal>) {
    if !json && screen::is_terminal() {
        match edit::start() {
            Ok((lines, terminal)) => return (Lines::Edited(lines), Some(terminal)),
            Err(error) => tracing::debug!(%error, "lines cannot be edited here"),
        }
    }
    (Lines::Read(input::lines()), None)
}

/// How a message ended.
enum Sending {
    Direct {
        to: Person,
        text: String,
        result: Result<Receipt, ClientError>,
    },
    Channel {
        text: String,
        result: Result<ChannelReport, ClientError>,
    },
    File(Result<(Source, FileReport)>),
    /// A password was set, or not.
    Password(Result<String>),
}

/// Something about a file on its way out.
enum News {
    Hint(String),
    Progress(Source, FileProgress),
}

struct Chat {
    client: Client,
    profile: Profile,
    screen: Screen,
    /// Largest file to send in bytes.
    size_max: u64,
    news: mpsc::Sender<News>,
    sending: JoinSet<Sending>,
    /// Whom a line without a slash is for: whoever was told last, before that whoever wrote first.
    partner: Option<Person>,
}

impl Chat {
    /// Until the last line is said, or somebody wants to leave.
    async fn talk(
        &mut self,
        events: &mut EventStream,
        mut lines: Lines,
        mut transfers: mpsc::Receiver<News>,
        stopping: impl Future<Output = ()>,
    ) -> Result<()> {
        self.screen.prompt()?;
        let mut is_ending = false;
        tokio::pin!(stopping);
        while !is_ending || !self.sending.is_empty() {
            tokio::select! {
                event = events.next() => match event {
                    Some(event) => self.on_event(&event).await?,
                    None => bail!("{}", self.screen.last_words()),
                },
                line = lines.next(), if !is_ending => match line {
                    Some(Ok(Typed::Interrupt)) => break,
                    Some(line) => is_ending = self.on_typed(line?).await?,
                    None => is_ending = true,
                },
                Some(sent) = self.sending.join_next() => self.on_sent(sent?)?,
                Some(news) = transfers.recv() => self.on_news(news)?,
                () = &mut stopping => break,
            }
        }
        Ok(())
    }

    async fn on_event(&mut self, event: &Event) -> Result<()> {
        if let Event::Post(news) = event {
            return self.on_state(news);
        }
        self.screen.event(event)?;
        if let Event::Message(message) = event {
            self.client.shown(&message.id, self.screen.is_read()).await?;
        }
        if let (Event::Message(message), None) = (event, &self.partner) {
            self.turn_to(message.from.clone())?;
        }
        Ok(())
    }

    /// True when it was the last line.
    async fn on_typed(&mut self, typed: Typed) -> Result<bool> {
        match typed {
            Typed::Line(line) => self.on_line(&line).await,
            Typed::Unusable(why) => {
                self.screen.remark("NOT_SENT", why)?;
                Ok(false)
            }
            Typed::Register(asker) => {
                self.register(asker);
                Ok(false)
            }
            Typed::Interrupt => Ok(true),
        }
    }

    async fn on_line(&mut self, line: &str) -> Result<bool> {
        let mut is_last = false;
        match parse(line) {
            Line::Nothing => {}
            Line::Quit => {
                if !self.sending.is_empty() {
                    self.screen
                        .hint("leaving when everything is sent; Ctrl-C leaves at once")?;
                }
                is_last = true;
            }
            Line::Help => self.screen.hint(HELP)?,
            Line::List => self.list().await?,
            Line::Tell { user, text } => self.tell(user, text).await?,
            Line::All(text) => self.tell_all(text).await?,
            Line::File { user, path } => self.send_file(user, path),
            Line::History(user) => self.history(user)?,
            Line::Search(words) => self.search(words)?,
            Line::Receipts { wanted, user } => self.receipts(wanted, user).await?,
            Line::Register => self.screen.remark("NO_TERMINAL", account::ONLY_WHERE_NOBODY_SEES_IT)?,
            Line::RegisterWith => self.screen.remark("USAGE", account::ALONE)?,
            Line::Login(name) => {
                let why = account::no_login(name, &self.profile)?;
                self.screen.remark("LOGGED_IN", &why)?;
            }
            Line::Text(text) => match self.partner.clone() {
                Some(partner) => self.send(partner, text).await?,
                None => self.screen.remark("USAGE", "to whom? say /tell <user> <text> first")?,
            },
            Line::Incomplete(usage) => self.screen.remark("USAGE", usage)?,
            Line::NotYet(command) => {
                self.screen
                    .remark("UNSUPPORTED", &format!("/{command} is not in this version"))?;
            }
            Line::Unknown(command) => {
                self.screen
                    .remark("USAGE", &format!("there is no /{command}; see /help"))?;
            }
        }
        if !is_last {
            self.screen.prompt()?;
        }
        Ok(is_last)
    }

    async fn list(&mut self) -> Result<()> {
        match self.client.list().await {
            Ok(people) => self.screen.people(people.iter().filter(|person| person.online)),
            Err(error) => self.screen.remark("LIST", &error.to_string()),
        }
    }

    async fn tell(&mut self, user: &str, text: &str) -> Result<()> {
        match self.client.resolve(user).await {
            Ok(person) => {
                self.turn_to(person.clone())?;
                self.send(person, text).await
            }
            Err(error) => self.screen.remark("NOT_SENT", &error.to_string()),
        }
    }

    fn turn_to(&mut self, person: Person) -> Result<()> {
        let is_new = self
            .partner
            .as_ref()
            .is_none_or(|partner| partner.user_id != person.user_id);
        if is_new {
            let address = show::address(&person);
            self.screen.hint(&format!("what you type now goes to {address}"))?;
        }
        self.partner = Some(person);
        Ok(())
    }

    async fn send(&mut self, to: Person, text: &str) -> Result<()> {
        let text = text.to_owned();
        let answer = self.client.begin_tell(to.user_id.clone(), text.clone()).await?;
        let client = self.client.clone();
        self.sending.spawn(async move {
            let result = answer.await;
            // Who was new has a key by now; who is gone keeps the mark they had.
            let to = client.resolve(to.user_id.as_str()).await.unwrap_or(to);
            Sending::Direct { to, text, result }
        });
        Ok(())
    }

    async fn tell_all(&mut self, text: &str) -> Result<()> {
        let text = text.to_owned();
        let answer = self.client.begin_tell_all(text.clone()).await?;
        self.sending.spawn(async move {
            let result = answer.await;
            Sending::Channel { text, result }
        });
        Ok(())
    }

    /// Reading the file and looking the user up may take a moment, so both are done beside the conversation.
    fn send_file(&mut self, user: &str, path: &str) {
        let (client, user, path) = (self.client.clone(), user.to_owned(), expand(path));
        let (size_max, news) = (self.size_max, self.news.clone());
        self.sending.spawn(async move {
            let sent = send_file(&client, &user, path, size_max, &news).await;
            Sending::File(sent)
        });
    }

    /// Whoever is asked takes their time, while the conversation goes on.
    fn register(&mut self, asker: Asker) {
        let (client, profile) = (self.client.clone(), self.profile.clone());
        self.sending
            .spawn(async move { Sending::Password(account::register(client, profile, asker).await) });
    }

    fn on_news(&self, news: News) -> Result<()> {
        match news {
            News::Hint(text) => self.screen.hint(&text),
            News::Progress(source, progress) => self.screen.file_progress(&source, &progress),
        }
    }

    fn on_sent(&mut self, sent: Sending) -> Result<()> {
        match sent {
            Sending::Direct { to, text, result } => match result {
                Ok(receipt) => self.screen.sent(&to, &text, &receipt),
                Err(error) => {
                    let said = format!("not sent to {}: {error}", show::address(&to));
                    self.screen.remark("NOT_SENT", &said)
                }
            },
            Sending::File(Ok((source, report))) => self.screen.file_sent(&source, &report),
            Sending::File(Err(error)) => self.screen.remark("NOT_SENT", &format!("file not sent: {error:#}")),
            Sending::Password(Ok(said)) => self.screen.hint(&said),
            Sending::Password(Err(error)) => self.screen.remark("PASSWORD", &format!("{error:#}")),
            Sending::Channel { text, result } => match result {
                Ok(report) => self.screen.sent_to_all(&text, &report),
                Err(error) => self
                    .screen
                    .remark("NOT_SENT", &format!("not sent to the channel: {error}")),
            },
        }
    }
}

async fn send_file(
    client: &Client,
    user: &str,
    path: PathBuf,
    size_max: u64,
    news: &mpsc::Sender<News>,
) -> Result<(Source, FileReport)> {
    let file = spawn_blocking(move || OutgoingFile::open(&path, size_max)).await??;
    let source = file.source().clone();
    let target = file::target(client, user).await?;
    // Nobody reads news when the chat ends; then the transfer ends as well.
    if let Some(cost) = show::files::cost(&source) {
        drop(news.send(News::Hint(cost)).await);
    }
    let mut sending = client.begin_file(target, file).await?;
    let mut quarters = Quarters::default();
    while let Some(progress) = sending.progress().await {
        if quarters.next(&progress).is_some() {
            drop(news.send(News::Progress(source.clone(), progress)).await);
        }
    }
    let report = sending.finish().await?;
    Ok((source, report))
}

/// The home directory is known by its short name, as in a shell.
fn expand(path: &str) -> PathBuf {
    match (path.strip_prefix("~/"), std::env::home_dir()) {
        (Some(rest), Some(home)) => home.join(rest),
        (Some(_) | None, _) => PathBuf::from(path),
    }
}
