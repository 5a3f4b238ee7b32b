//! `cargo xtask tidy`: the house rules that neither compiler nor linter knows.
//!
//! Each rule is a module of its own that looks at one file's text and returns [`Finding`]s: [`arrows`] the directions in
//! which crates may use each other, [`sizes`] the longest file and function, [`limits`] where each limit comes from,
//! [`headers`] module docs and shared lints, [`spaces`] tabs and trailing blanks. [`tree`] is the only part that touches
//! the disk, so every rule is tested on texts.

mod arrows;
mod headers;
mod limits;
mod manifest;
mod scan;
mod sizes;
mod spaces;
mod tree;

use std::fmt;
use std::io::{self, Write};
use std::path::Path;
use tree::{File, Tree};

/// One place that breaks a rule.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Finding {
    path: String,
    line: usize,
    message: String,
}

impl Finding {
    fn new(file: &File, line: usize, message: impl Into<String>) -> Self {
        Self {
            path: file.path.clone(),
            line,
            message: message.into(),
        }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}:{}: {}", self.path, self.line, self.message)
    }
}

/// Checks the whole tree under `root` and prints what it finds; true when there is nothing to mend.
pub(crate) fn run(root: &Path, out: &mut impl Write) -> io::Result<bool> {
    let tree = Tree::read(root)?;
    let findings = check(&tree);
    for finding in &findings {
        writeln!(out, "{finding}")?;
    }
    let files = tree.manifests.len() + tree.sources.len();
    match findings.len() {
        0 => writeln!(out, "tidy: {files} files, nothing to mend")?,
        count => writeln!(out, "tidy: {files} files, {count} to mend")?,
    }
    Ok(findings.is_empty())
}

fn check(tree: &Tree) -> Vec<Finding> {
    let mut findings = arrows::check(tree);
    findings.extend(limits::check(tree));
    for file in &tree.manifests {
        findings.extend(headers::check_manifest(file));
    }
    for file in &tree.sources {
        findings.extend(headers::check_source(file));
        findings.extend(sizes::check(file));
        findings.extend(spaces::check(file));
    }
    findings.sort();
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn findings_are_printed_as_path_line_message() {
        let file = File::new("crates/socp/src/main.rs", "");
        assert_eq!(
            Finding::new(&file, 7, "too long").to_string(),
            "crates/socp/src/main.rs:7: too long"
        );
    }

    #[test]
    fn findings_of_all_rules_come_sorted_by_place() {
        let tree = Tree {
            root_manifest: File::new("Cargo.toml", ""),
            manifests: vec![File::new(
                "crates/socp-proto/Cargo.toml",
                "[package]\nname = \"socp-proto\"\n",
            )],
            sources: vec![
                File::new(
                    "crates/socp-proto/src/limits.rs",
                    "//! Limits.\n\npub const A_MAX: u8 = 1; \n",
                ),
                File::new("crates/socp-proto/src/id.rs", "fn main() {}\n"),
            ],
        };
        let places: Vec<String> = check(&tree)
            .iter()
            .map(|found| format!("{}:{}", found.path, found.line))
            .collect();
        assert_eq!(
            places,
            [
                "crates/socp-proto/Cargo.toml:1",
                "crates/socp-proto/src/id.rs:1",
                "crates/socp-proto/src/limits.rs:3",
                "crates/socp-proto/src/limits.rs:3",
            ]
        );
    }

    #[test]
    fn this_crate_keeps_its_own_rules() {
        let mut tree = Tree::read(&crate::root().unwrap()).unwrap();
        tree.sources.retain(|file| file.path.starts_with("xtask/"));
        assert!(tree.sources.len() > 5);
        let findings: Vec<Finding> = check(&tree)
            .into_iter()
            .filter(|found| found.path.starts_with("xtask/"))
            .collect();
        assert_eq!(findings, []);
    }
}
