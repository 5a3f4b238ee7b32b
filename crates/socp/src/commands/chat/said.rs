//! What was said before, and how far own messages are.

use super::Chat;
use crate::commands::history::{LAST_COUNT, People};
use color_eyre::eyre::Result;
use socp_client::{HistoryEntry, PostNews, PostState};

/// So many characters of an own message stand for it.
const TEXT_CHARS: usize = 40;

impl Chat {
    /// An own message is further than before. That it is on a server is said only of what had to wait here.
    pub(super) fn on_state(&mut self, news: &PostNews) -> Result<()> {
        let own = self.profile.history()?.own(&news.msg_ref)?;
        let text = own.map(|entry| shortened(&entry.text));
        if news.state == PostState::OnTheirServer && !self.screen.is_json() {
            return Ok(());
        }
        self.screen.state(news, text.as_deref())
    }

    pub(super) fn history(&mut self, user: Option<&str>) -> Result<()> {
        self.show_entries(|chat, people| people.last(&chat.profile.history()?, user, LAST_COUNT))
    }

    pub(super) fn search(&mut self, words: &str) -> Result<()> {
        self.show_entries(|chat, people| people.found(&chat.profile.history()?, words, None, LAST_COUNT))
    }

    fn show_entries(&mut self, find: impl FnOnce(&Self, &People) -> Result<Vec<HistoryEntry>>) -> Result<()> {
        let people = People::of(&self.profile)?;
        match find(self, &people) {
            Ok(entries) if entries.is_empty() => self.screen.hint("nothing"),
            Ok(entries) => {
                let lines: Vec<String> = entries.iter().map(|entry| people.line(entry)).collect();
                self.screen.lines(&lines)
            }
            Err(error) => self.screen.remark("HISTORY", &error.to_string()),
        }
    }

    /// Whether people's programs are told what arrived and was read here.
    pub(super) async fn receipts(&mut self, wanted: bool, user: Option<&str>) -> Result<()> {
        let whose = match user {
            None => None,
            Some(user) => match self.client.resolve(user).await {
                Ok(person) => Some(person),
                Err(error) => return self.screen.remark("RECEIPTS", &error.to_string()),
            },
        };
        let user = whose.as_ref().map(|person| &person.user_id);
        self.profile.history()?.set_receipts(user, wanted)?;
        let who = whose
            .as_ref()
            .map_or_else(|| "everyone else".to_owned(), crate::show::name);
        let told = if wanted { "is told" } else { "is not told" };
        self.screen.hint(&format!("{who} {told} what has arrived and was read"))
    }
}

fn shortened(text: &str) -> String {
    let mut short: String = text.chars().take(TEXT_CHARS).collect();
    if short.len() < text.len() {
        short.push('…');
    }
    short
}
