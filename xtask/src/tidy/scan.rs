//! Just enough of Rust's grammar to find functions and test code: a scanner that matches braces.
//!
//! [`code_only`] blanks out comments, strings and character literals, so that every brace left is a real one; what follows
//! works on that text, character by character, with lines kept in place. One shape is out of reach: a braced constant that
//! is not the first argument of its type (`-> Grid<A, { N + 1 }>`) ends a signature early.

/// Lines from first to last, both included, counted from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Span {
    pub(super) first: usize,
    pub(super) last: usize,
}

impl Span {
    pub(super) fn lines(&self) -> usize {
        (self.last + 1).saturating_sub(self.first)
    }

    pub(super) fn contains(&self, other: &Self) -> bool {
        self.first <= other.first && other.last <= self.last
    }
}

/// A function with a body.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Function {
    pub(super) name: String,
    pub(super) span: Span,
}

/// The text with everything blanked that is not code: same length in characters, same lines.
pub(super) fn code_only(text: &str) -> Vec<char> {
    let mut masker = Masker {
        source: text.chars().collect(),
        at: 0,
        code: Vec::new(),
    };
    while masker.step() {}
    masker.code
}

/// Every function that has a body, in the order of their first lines.
pub(super) fn functions(code: &[char]) -> Vec<Function> {
    let mut found = Vec::new();
    for (at, word) in words(code) {
        if word != "fn" {
            continue;
        }
        // `fn(u8) -> u8` is a type, and `fn $name` belongs to a macro.
        let Some((name_at, name)) = word_from(code, skip_blanks(code, at + 2)) else {
            continue;
        };
        let Some((_, end)) = braced(code, name_at + name.chars().count()) else {
            continue;
        };
        found.push(Function {
            name,
            span: span(code, at, end),
        });
    }
    found
}

/// Items that are compiled for tests only, with their attribute; none at all (`None`) to say that the whole file is.
pub(super) fn test_items(code: &[char]) -> Option<Vec<Span>> {
    let mut found: Vec<Span> = Vec::new();
    let mut at = 0;
    while at < code.len() {
        let Some(attribute) = attribute_from(code, at) else {
            at += 1;
            continue;
        };
        if is_for_tests(&attribute.text) {
            if attribute.inner {
                return None;
            }
            let end = braced(code, after_attributes(code, attribute.end)).map_or(attribute.end, |(_, end)| end);
            found.push(span(code, at, end));
            at = end;
        } else {
            at = attribute.end;
        }
    }
    Some(found)
}

struct Attribute {
    /// What stands between the square brackets, without blanks.
    text: String,
    inner: bool,
    end: usize,
}

fn attribute_from(code: &[char], at: usize) -> Option<Attribute> {
    if code.get(at) != Some(&'#') {
        return None;
    }
    let inner = code.get(at + 1) == Some(&'!');
    let open = if inner { at + 2 } else { at + 1 };
    if code.get(open) != Some(&'[') {
        return None;
    }
    let end = matching(code, open, '[', ']')?;
    let text = code
        .get(open + 1..end)?
        .iter()
        .filter(|letter| !letter.is_whitespace())
        .collect();
    Some(Attribute { text, inner, end })
}

/// `cfg(test)` and conditions that need `test`, such as `cfg(all(test, unix))`; `cfg(any(test, …))` and `cfg(not(test))`
/// are shipped code.
fn is_for_tests(attribute: &str) -> bool {
    attribute == "cfg(test)" || attribute.starts_with("cfg(all(test,")
}

fn after_attributes(code: &[char], from: usize) -> usize {
    let mut at = skip_blanks(code, from + 1);
    while let Some(attribute) = attribute_from(code, at) {
        at = skip_blanks(code, attribute.end + 1);
    }
    at
}

/// Where the first block of braces from `from` on opens and closes, unless the item ends before it.
fn braced(code: &[char], from: usize) -> Option<(usize, usize)> {
    let mut depth: usize = 0;
    let mut before = ' ';
    let mut at = from;
    while let Some(letter) = code.get(at) {
        match letter {
            '(' | '[' => depth += 1,
            ')' | ']' => depth = depth.saturating_sub(1),
            ';' | '}' if depth == 0 => return None,
            '{' if depth == 0 && before != '<' => return Some((at, matching(code, at, '{', '}')?)),
            '{' => at = matching(code, at, '{', '}')?,
            _ => {}
        }
        if !letter.is_whitespace() {
            before = *letter;
        }
        at += 1;
    }
    None
}

/// Where the bracket that opens at `from` closes.
fn matching(code: &[char], from: usize, open: char, close: char) -> Option<usize> {
    let mut depth: usize = 0;
    for (at, letter) in code.iter().enumerate().skip(from) {
        if *letter == open {
            depth += 1;
        } else if *letter == close {
            depth = depth.checked_sub(1)?;
            if depth == 0 {
                return Some(at);
            }
        }
    }
    None
}

fn words(code: &[char]) -> impl Iterator<Item = (usize, String)> + '_ {
    let mut at = 0;
    std::iter::from_fn(move || {
        while at < code.len() {
            let Some((start, word)) = word_from(code, at) else {
                at += 1;
                continue;
            };
            at = start + word.chars().count();
            return Some((start, word));
        }
        None
    })
}

/// The identifier or number that starts exactly at `at`.
fn word_from(code: &[char], at: usize) -> Option<(usize, String)> {
    let word: String = code.iter().skip(at).take_while(|letter| is_word(**letter)).collect();
    (!word.is_empty()).then_some((at, word))
}

fn is_word(letter: char) -> bool {
    letter.is_alphanumeric() || letter == '_'
}

fn skip_blanks(code: &[char], from: usize) -> usize {
    from + code
        .iter()
        .skip(from)
        .take_while(|letter| letter.is_whitespace())
        .count()
}

fn span(code: &[char], from: usize, to: usize) -> Span {
    Span {
        first: line_of(code, from),
        last: line_of(code, to),
    }
}

fn line_of(code: &[char], at: usize) -> usize {
    1 + code.iter().take(at).filter(|letter| **letter == '\n').count()
}

struct Masker {
    source: Vec<char>,
    at: usize,
    code: Vec<char>,
}

impl Masker {
    /// Takes the next token; false at the end.
    fn step(&mut self) -> bool {
        let Some(letter) = self.peek(0) else {
            return false;
        };
        match (letter, self.peek(1)) {
            ('/', Some('/')) => self.blank_while(|masker| masker.peek(0) != Some('\n')),
            ('/', Some('*')) => self.block_comment(),
            ('"', _) => self.string(),
            ('\'', _) => self.quote(),
            _ if is_word(letter) => self.word(),
            _ => self.keep(),
        }
        self.at < self.source.len()
    }

    fn peek(&self, ahead: usize) -> Option<char> {
        self.source.get(self.at + ahead).copied()
    }

    fn keep(&mut self) {
        self.code.extend(self.peek(0));
        self.at += 1;
    }

    fn blank(&mut self) {
        let Some(letter) = self.peek(0) else { return };
        self.code.push(if letter == '\n' { '\n' } else { ' ' });
        self.at += 1;
    }

    fn blank_count(&mut self, count: usize) {
        for _ in 0..count {
            self.blank();
        }
    }

    fn blank_while(&mut self, more: impl Fn(&Self) -> bool) {
        while self.at < self.source.len() && more(self) {
            self.blank();
        }
    }

    /// Block comments nest.
    fn block_comment(&mut self) {
        let mut depth: usize = 0;
        while self.at < self.source.len() {
            match (self.peek(0), self.peek(1)) {
                (Some('/'), Some('*')) => {
                    depth += 1;
                    self.blank_count(2);
                }
                (Some('*'), Some('/')) => {
                    depth = depth.saturating_sub(1);
                    self.blank_count(2);
                    if depth == 0 {
                        return;
                    }
                }
                _ => self.blank(),
            }
        }
    }

    fn string(&mut self) {
        self.blank();
        while let Some(letter) = self.peek(0) {
            self.blank_count(if letter == '\\' { 2 } else { 1 });
            if letter == '"' {
                return;
            }
        }
    }

    /// A character literal ends after one character or one escape; anything else is a lifetime or a loop's label.
    fn quote(&mut self) {
        if self.peek(1) == Some('\\') {
            self.blank_count(3);
            self.blank_while(|masker| masker.peek(0) != Some('\''));
            self.blank();
        } else if self.peek(2) == Some('\'') {
            self.blank_count(3);
        } else {
            self.keep();
        }
    }

    /// An identifier, number or keyword; or the prefix of a raw string (`r"…"`, `br#"…"#`, `cr"…"`), which goes with it.
    fn word(&mut self) {
        let word: String = self
            .source
            .iter()
            .skip(self.at)
            .take_while(|letter| is_word(**letter))
            .collect();
        let length = word.chars().count();
        let hashes = self
            .source
            .iter()
            .skip(self.at + length)
            .take_while(|letter| **letter == '#')
            .count();
        let raw = matches!(word.as_str(), "r" | "br" | "cr") && self.peek(length + hashes) == Some('"');
        if raw {
            self.blank_count(length + hashes + 1);
            self.blank_while(|masker| !masker.closes_raw(hashes));
            self.blank_count(1 + hashes);
        } else {
            for _ in 0..length {
                self.keep();
            }
        }
    }

    fn closes_raw(&self, hashes: usize) -> bool {
        self.peek(0) == Some('"') && (1..=hashes).all(|ahead| self.peek(ahead) == Some('#'))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn masked(text: &str) -> String {
        code_only(text).into_iter().collect()
    }

    fn found(text: &str) -> Vec<(String, usize, usize)> {
        let functions = functions(&code_only(text));
        functions
            .into_iter()
            .map(|found| (found.name, found.span.first, found.span.last))
            .collect()
    }

    fn one(name: &str, first: usize, last: usize) -> Vec<(String, usize, usize)> {
        vec![(name.to_owned(), first, last)]
    }

    #[test]
    fn comments_are_blanked_and_lines_kept() {
        assert_eq!(masked("a // { \"\nb"), "a       \nb");
        assert_eq!(masked("a /* { /* } */ \n } */ b"), "a              \n      b");
        assert_eq!(masked("a /* never closed {"), "a                  ");
    }

    #[test]
    fn strings_are_blanked() {
        assert_eq!(masked(r#"f("}");"#), "f(   );");
        assert_eq!(masked(r#"f("\"}", b"{\\");"#), "f(     , b     );");
        assert_eq!(masked("f(\"a\n}\");"), "f(  \n  );");
        assert_eq!(masked("f(\"never closed }"), "f(               ");
    }

    #[test]
    fn raw_strings_are_blanked_up_to_their_own_hashes() {
        assert_eq!(masked("f(r\"\\\");"), "f(    );");
        assert_eq!(masked("f(r#\"} \" {\"#);"), "f(          );");
        assert_eq!(masked("f(br##\"\"# }\"##, cr\"}\");"), "f(            ,      );");
        assert_eq!(masked("r#fn(for_r#\"}\")"), "r#fn(for_r#   )");
    }

    #[test]
    fn characters_are_blanked_and_lifetimes_are_not() {
        assert_eq!(
            masked("f('{', '\\'', '\\u{7d}', b'}', '\u{e9}')"),
            "f(   ,     ,         , b   ,    )"
        );
        assert_eq!(
            masked("fn a<'a>(x: &'a str) { 'b: loop {} }"),
            "fn a<'a>(x: &'a str) { 'b: loop {} }"
        );
    }

    #[test]
    fn functions_end_at_their_own_brace() {
        assert_eq!(found("fn a() {}"), one("a", 1, 1));
        assert_eq!(
            found("\npub async fn a<T>(\n  x: T,\n) -> T\nwhere\n  T: B,\n{\n  if x { y } else { z }\n}\n"),
            one("a", 2, 9)
        );
        assert_eq!(found("fn a() {\n  f(\"}\", '}'); // }\n}\n"), one("a", 1, 3));
        assert_eq!(found("fn a() -> [u8; 2] {\n}\n"), one("a", 1, 2));
        assert_eq!(found("fn a() -> B<{ 1 + 1 }> {\n}\n"), one("a", 1, 2));
        assert_eq!(found("fn r#loop() {\n}\n").len(), 1);
    }

    #[test]
    fn nested_functions_count_on_their_own_too() {
        let nested = found("fn a() {\n  fn b() {\n  }\n}\n");
        assert_eq!(nested, [("a".to_owned(), 1, 4), ("b".to_owned(), 2, 3)]);
    }

    #[test]
    fn what_has_no_body_is_no_function() {
        for text in [
            "trait A { fn b(&self); }",
            "type A = fn(u8) -> u8;",
            "let fn_x = y.fn_z();",
            "// fn a() {}",
            "fn a() {",
        ] {
            assert_eq!(found(text), [], "{text}");
        }
    }

    #[test]
    fn items_for_tests_are_found_with_their_attributes() {
        let items = |text: &str| test_items(&code_only(text));
        let lines = |first, last| Some(vec![Span { first, last }]);
        assert_eq!(
            items("fn a() {}\n#[cfg(test)]\n#[allow(x)]\nmod tests {\n  fn b() {}\n}\nfn c() {}\n"),
            lines(2, 6)
        );
        assert_eq!(items("#[cfg(all(test, unix))]\nfn a() {\n}\n"), lines(1, 3));
        assert_eq!(items("#[cfg(test)]\nmod tests;\nfn a() {\n}\n"), lines(1, 1));
        assert_eq!(items("#[cfg(test)]\nuse a::b;\nfn a() {\n}\n"), lines(1, 1));
        assert_eq!(
            items("struct A {\n  #[cfg(test)]\n  b: u8,\n}\nfn a() {\n}\n"),
            lines(2, 2)
        );
        assert_eq!(items("#![cfg(test)]\nfn a() {}\n"), None);
    }

    #[test]
    fn shipped_code_is_not_taken_for_tests() {
        let items = |text: &str| test_items(&code_only(text));
        for text in [
            "#[cfg(not(test))]\nmod a {}\n",
            "#[cfg(any(test, fuzzing))]\nmod a {}\n",
            "#[cfg(feature = \"test\")]\nmod a {}\n",
            "// #[cfg(test)]\nmod a {}\n",
            "const A: &str = \"#[cfg(test)] mod a {}\";\n",
        ] {
            assert_eq!(items(text), Some(vec![]), "{text}");
        }
    }
}
