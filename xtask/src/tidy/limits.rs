//! Every limit says where it comes from.
//!
//! `socp-proto`'s `limits.rs` is the one list of the protocol's numbers. The doc comment of each public constant there
//! cites a section of the specification (`SOCP §11`), of an RFC (`RFC 8017`) or of `docs/PROTOCOL.md` (`PROTOCOL I.2`), or
//! says that the number is `our choice`.

use super::Finding;
use super::tree::{File, Tree};

const PATH: &str = "crates/socp-proto/src/limits.rs";

pub(super) fn check(tree: &Tree) -> Vec<Finding> {
    match tree.sources.iter().find(|file| file.path == PATH) {
        Some(file) => check_file(file),
        None => vec![Finding {
            path: PATH.to_owned(),
            line: 1,
            message: "missing; the protocol's limits belong here".to_owned(),
        }],
    }
}

fn check_file(file: &File) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut doc = String::new();
    for (number, line) in (1..).zip(file.text.lines()) {
        let line = line.trim_start();
        if let Some(text) = line.strip_prefix("///") {
            doc.push_str(text);
        } else if let Some(name) = constant_name(line) {
            if !cites_a_source(&doc) {
                let message = format!("{name} cites no source: `SOCP §…`, `RFC …`, `PROTOCOL …` or `our choice`");
                findings.push(Finding::new(file, number, message));
            }
            doc.clear();
        } else if !line.starts_with("#[") {
            doc.clear();
        }
    }
    findings
}

fn constant_name(line: &str) -> Option<&str> {
    let (name, _) = line.strip_prefix("pub const ")?.split_once(':')?;
    Some(name.trim())
}

fn cites_a_source(doc: &str) -> bool {
    let cites = |mark: &str, then: fn(char) -> bool| {
        doc.match_indices(mark)
            .any(|(at, _)| doc.get(at + mark.len()..).is_some_and(|rest| rest.starts_with(then)))
    };
    cites("SOCP §", |next| next.is_ascii_digit())
        || cites("RFC ", |next| next.is_ascii_digit())
        || cites("PROTOCOL ", char::is_alphanumeric)
        || doc.to_lowercase().contains("our choice")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(text: &str) -> Vec<String> {
        let findings = check_file(&File::new(PATH, text));
        findings
            .iter()
            .map(|found| format!("{} {}", found.line, found.message.split(' ').next().unwrap()))
            .collect()
    }

    #[test]
    fn each_kind_of_source_counts() {
        for source in [
            "SOCP §11",
            "RFC 8017 §7.1.2",
            "PROTOCOL I.11",
            "our choice",
            "Our choice: it fits",
        ] {
            let text = format!("/// Longest wait ({source}).\npub const WAIT_MAX_MS: u64 = 1;\n");
            assert_eq!(names(&text), [""; 0], "{source}");
        }
    }

    #[test]
    fn a_source_may_stand_on_any_line_and_above_attributes() {
        assert_eq!(
            names("/// Longest\n/// wait (SOCP §11).\n/// Really.\n#[rustfmt::skip]\npub const A_MS: u64 = 1;\n"),
            [""; 0]
        );
    }

    #[test]
    fn limits_without_a_source_are_found() {
        assert_eq!(names("pub const A_MAX: u8 = 1;\n"), ["1 A_MAX"]);
        assert_eq!(names("/// Longest wait.\npub const A_MS: u64 = 1;\n"), ["2 A_MS"]);
        for vague in ["SOCP", "SOCP §", "RFC", "RFC editor", "the PROTOCOL"] {
            assert_eq!(
                names(&format!("/// See {vague}.\npub const A_COUNT: u8 = 1;\n")),
                ["2 A_COUNT"],
                "{vague}"
            );
        }
    }

    #[test]
    fn a_source_belongs_to_the_next_limit_only() {
        assert_eq!(
            names("/// SOCP §11.\npub const A_MIN: u8 = 1;\npub const B_MIN: u8 = 1;\n"),
            ["3 B_MIN"]
        );
        assert_eq!(names("/// SOCP §11.\n\npub const A_BYTES: u8 = 1;\n"), ["3 A_BYTES"]);
        assert_eq!(
            names("/// SOCP §11.\nconst _: () = ();\npub const A_MAX: u8 = 1;\n"),
            ["3 A_MAX"]
        );
    }

    #[test]
    fn a_missing_list_is_found() {
        let tree = Tree {
            root_manifest: File::new("Cargo.toml", ""),
            manifests: Vec::new(),
            sources: Vec::new(),
        };
        assert_eq!(check(&tree).len(), 1);
    }
}
