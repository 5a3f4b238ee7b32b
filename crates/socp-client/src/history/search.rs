//! Finding messages by words and beginnings of words, without a word of them in the clear.
//!
//! Every [`PAGE_COUNT`] rows make one page: their words, each with the rows that hold it, sorted and sealed as one value.
//! Rows never change their text, so a page is written once. A search opens the pages, which is a few megabytes for 100,000
//! messages, and reads the rows behind the last page themselves. Unlike hashes of words, pages do not show whoever has
//! the file which word is how frequent (decision 0027).

use super::record::{COLUMNS, HistoryEntry, Stored};
use super::{History, from_sql, to_sql};
use crate::error::ClientError;
use rusqlite::{Connection, params};
use socp_core::client::PostId;
use socp_core::names::{folded_case, normal_form};
use std::collections::BTreeMap;

/// Rows of one page.
pub(super) const PAGE_COUNT: u64 = 1_024;
/// Words of one search that count.
const WORDS_COUNT_MAX: usize = 16;
/// Letters of a word that count; what is longer is rarely typed.
const WORD_CHARS_MAX: usize = 64;

/// The rows of a page, one bit each.
type Rows = [u64; 16];

impl History {
    /// The last so many messages that hold all these words, or words that begin with them, oldest first.
    ///
    /// # Errors
    /// [`ClientError::Database`].
    pub fn search(&self, words: &str, count: usize) -> Result<Vec<HistoryEntry>, ClientError> {
        let mut wanted = words_of(words);
        wanted.sort();
        wanted.dedup();
        wanted.truncate(WORDS_COUNT_MAX);
        if wanted.is_empty() {
            return Ok(Vec::new());
        }
        self.complete_pages()?;
        let mut found = self.search_tail(&wanted)?;
        if found.len() < count {
            self.search_pages(&wanted, count, &mut found)?;
        }
        found.truncate(count);
        self.entries(&found)
    }

    /// Rows behind the last page, newest first.
    fn search_tail(&self, wanted: &[String]) -> Result<Vec<PostId>, ClientError> {
        let database = self.lock();
        let last = last_page(&database)?;
        let text = format!("SELECT {COLUMNS} FROM messages WHERE id > ?1 ORDER BY id DESC");
        let mut query = database.prepare(&text)?;
        let rows = query.query_map([to_sql(last)], Stored::read)?;
        let mut found = Vec::new();
        for row in rows {
            let Some(entry) = self.entry(row?) else { continue };
            let words = words_of(&entry.text);
            let holds = |word: &String| words.iter().any(|it| it.starts_with(word.as_str()));
            if wanted.iter().all(holds) {
                found.push(entry.id);
            }
        }
        Ok(found)
    }

    /// The pages, from the last to the first, until there is enough.
    fn search_pages(&self, wanted: &[String], count: usize, found: &mut Vec<PostId>) -> Result<(), ClientError> {
        let database = self.lock();
        let mut query = database.prepare("SELECT first, sealed FROM search_pages ORDER BY first DESC")?;
        let mut rows = query.query([])?;
        while let Some(row) = rows.next()? {
            let (first, sealed): (i64, Vec<u8>) = (row.get(0)?, row.get(1)?);
            let first = from_sql(first);
            let Some(plain) = self.keys.open(&page_place(first), &sealed) else {
                self.damaged.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                continue;
            };
            let Ok(page) = str::from_utf8(plain.expose()) else {
                continue;
            };
            let rows = rows_with_all(page, wanted);
            let offsets = (0..PAGE_COUNT).rev().filter(|offset| is_set(&rows, *offset));
            found.extend(offsets.map(|offset| first.saturating_add(offset)));
            if found.len() >= count {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Writes the pages whose rows are all there.
    fn complete_pages(&self) -> Result<(), ClientError> {
        let (last, newest) = {
            let database = self.lock();
            let newest: i64 = database.query_row("SELECT coalesce(max(id), 0) FROM messages", [], |row| row.get(0))?;
            (last_page(&database)?, from_sql(newest))
        };
        let count = newest.saturating_sub(last) / PAGE_COUNT;
        for page in 0..count {
            let first = last.saturating_add(page.saturating_mul(PAGE_COUNT)).saturating_add(1);
            self.complete_page(first)?;
        }
        Ok(())
    }

    fn complete_page(&self, first: PostId) -> Result<(), ClientError> {
        self.within(|transaction| {
            let last = first.saturating_add(PAGE_COUNT.saturating_sub(1));
            // Another program may have done it meanwhile.
            if last_page(transaction)? >= last {
                return Ok(());
            }
            let text = format!("SELECT {COLUMNS} FROM messages WHERE id BETWEEN ?1 AND ?2");
            let mut query = transaction.prepare_cached(&text)?;
            let rows = query.query_map(params![to_sql(first), to_sql(last)], Stored::read)?;
            let mut words: BTreeMap<String, Rows> = BTreeMap::new();
            for row in rows {
                let Some(entry) = self.entry(row?) else { continue };
                let offset = entry.id.saturating_sub(first);
                for word in words_of(&entry.text) {
                    set(words.entry(word).or_default(), offset);
                }
            }
            let sealed = self.keys.seal(&page_place(first), write_page(&words).as_bytes())?;
            transaction.execute(
                "INSERT INTO search_pages(first, last, sealed) VALUES (?1, ?2, ?3)",
                params![to_sql(first), to_sql(last), sealed],
            )?;
            Ok(())
        })
    }
}

/// The last row that is on a page.
fn last_page(database: &Connection) -> Result<PostId, ClientError> {
    let last: i64 = database.query_row("SELECT coalesce(max(last), 0) FROM search_pages", [], |row| row.get(0))?;
    Ok(from_sql(last))
}

fn page_place(first: PostId) -> Vec<u8> {
    [b"search", &first.to_be_bytes()[..]].concat()
}

/// The words of a text in the form in which they are compared.
fn words_of(text: &str) -> Vec<String> {
    let text = if text.is_ascii() {
        text.to_ascii_lowercase()
    } else {
        normal_form(&folded_case(&normal_form(text)))
    };
    text.split(|letter: char| !letter.is_alphanumeric())
        .filter(|word| !word.is_empty())
        .map(|word| word.chars().take(WORD_CHARS_MAX).collect())
        .collect()
}

fn set(rows: &mut Rows, offset: u64) {
    let (index, bit) = (usize::try_from(offset / 64).unwrap_or(usize::MAX), offset % 64);
    if let Some(part) = rows.get_mut(index) {
        *part |= 1 << bit;
    }
}

fn is_set(rows: &Rows, offset: u64) -> bool {
    let (index, bit) = (usize::try_from(offset / 64).unwrap_or(usize::MAX), offset % 64);
    rows.get(index).is_some_and(|part| part & (1 << bit) != 0)
}

/// One line for each word, sorted: the word, then the rows in hexadecimal.
fn write_page(words: &BTreeMap<String, Rows>) -> String {
    use std::fmt::Write as _;
    let mut page = String::new();
    for (word, rows) in words {
        page.push_str(word);
        for offset in (0..PAGE_COUNT).filter(|offset| is_set(rows, *offset)) {
            // Writing to a String cannot fail.
            let _infallible = write!(page, " {offset:x}");
        }
        page.push('\n');
    }
    page
}

/// The rows that hold, for each of these, a word that begins with it.
fn rows_with_all(page: &str, wanted: &[String]) -> Rows {
    let mut all = [u64::MAX; 16];
    for word in wanted {
        let mut any = Rows::default();
        for line in lines_from(page, word).take_while(|line| line.starts_with(word.as_str())) {
            for offset in line.split(' ').skip(1) {
                set(&mut any, u64::from_str_radix(offset, 16).unwrap_or(u64::MAX));
            }
        }
        all.iter_mut().zip(any).for_each(|(all, any)| *all &= any);
    }
    all
}

/// The lines of a sorted page from the first that is not before this word.
fn lines_from<'a>(page: &'a str, word: &str) -> std::str::Lines<'a> {
    let bytes = page.as_bytes();
    // The beginning of the line that holds this byte.
    let line_at = |at: usize| {
        let before = bytes.get(..at).unwrap_or_default();
        before
            .iter()
            .rposition(|byte| *byte == b'\n')
            .map_or(0, |end| end.saturating_add(1))
    };
    let (mut low, mut high) = (0, bytes.len());
    while low < high {
        let middle = line_at(low.midpoint(high));
        let line = page
            .get(middle..)
            .and_then(|rest| rest.lines().next())
            .unwrap_or_default();
        let found = line.split(' ').next().unwrap_or_default();
        if found < word {
            low = middle.saturating_add(line.len()).saturating_add(1);
        } else {
            high = middle;
        }
    }
    page.get(low..).unwrap_or_default().lines()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_compared_without_case_and_composition() {
        let words = words_of;
        assert_eq!(words("See you, at Eight-ish?"), ["see", "you", "at", "eight", "ish"]);
        assert_eq!(words("ZO\u{cb}  zoe\u{308}"), ["zo\u{eb}", "zo\u{eb}"]);
        assert_eq!(words("\u{4f60}\u{597d} 42"), ["\u{4f60}\u{597d}", "42"]);
        assert_eq!(words("... !"), Vec::<String>::new());
        assert_eq!(words(&"x".repeat(1_000)), ["x".repeat(WORD_CHARS_MAX)]);
    }

    #[test]
    fn a_page_finds_beginnings_and_all_of_several() {
        let texts = ["apple pie", "apply now", "banana", "an apple a day", "zebra"];
        let mut words: BTreeMap<String, Rows> = BTreeMap::new();
        for (offset, text) in (1_000..).zip(texts) {
            for word in words_of(text) {
                set(words.entry(word).or_default(), offset);
            }
        }
        let page = write_page(&words);
        let find = |wanted: &[&str]| {
            let wanted: Vec<String> = wanted.iter().map(|word| (*word).to_owned()).collect();
            let rows = rows_with_all(&page, &wanted);
            (0..PAGE_COUNT)
                .filter(|offset| is_set(&rows, *offset))
                .collect::<Vec<_>>()
        };
        assert_eq!(find(&["appl"]), [1_000, 1_001, 1_003]);
        assert_eq!(find(&["apple", "da"]), [1_003]);
        assert_eq!(find(&["a"]), [1_000, 1_001, 1_003]);
        assert_eq!(find(&["zebra"]), [1_004]);
        assert_eq!(find(&["zebras"]), Vec::<u64>::new());
        assert_eq!(find(&["0"]), Vec::<u64>::new());
        assert_eq!(find(&["banana", "apple"]), Vec::<u64>::new());
    }
}
