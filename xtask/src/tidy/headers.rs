//! Every module says what it is for, and every crate takes the workspace's lints.
//!
//! A Rust file below a `src` folder starts with a `//!` line, ahead of attributes and imports: the reader meets the idea
//! before the code. Tests and build scripts are left to their author.

use super::Finding;
use super::manifest::Manifest;
use super::tree::File;

pub(super) fn check_source(file: &File) -> Vec<Finding> {
    if !file.path.split('/').any(|part| part == "src") {
        return Vec::new();
    }
    let first = (1..).zip(file.text.lines()).find(|(_, line)| !line.trim().is_empty());
    match first {
        Some((_, line)) if is_module_doc(line) => Vec::new(),
        Some((number, _)) => vec![Finding::new(file, number, "starts without a `//!` module doc")],
        None => vec![Finding::new(file, 1, "empty file")],
    }
}

fn is_module_doc(line: &str) -> bool {
    line.strip_prefix("//!").is_some_and(|text| !text.trim().is_empty())
}

pub(super) fn check_manifest(file: &File) -> Vec<Finding> {
    match Manifest::parse(file) {
        Ok(manifest) if manifest.takes_workspace_lints => Vec::new(),
        Ok(_) => vec![Finding::new(file, 1, "lacks `[lints] workspace = true`")],
        Err(_) => Vec::new(), // Reported by the arrows, which read every manifest too.
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(path: &str, text: &str) -> Vec<String> {
        check_source(&File::new(path, text))
            .iter()
            .map(Finding::to_string)
            .collect()
    }

    fn manifest(text: &str) -> Vec<String> {
        check_manifest(&File::new("crates/a/Cargo.toml", text))
            .iter()
            .map(Finding::to_string)
            .collect()
    }

    #[test]
    fn a_module_doc_comes_first() {
        assert_eq!(source("crates/a/src/lib.rs", "//! Does it.\n\nuse b;\n"), [""; 0]);
        assert_eq!(source("crates/a/src/lib.rs", "\n//! Does it.\n"), [""; 0]);
    }

    #[test]
    fn code_attributes_and_item_docs_ahead_of_it_are_found() {
        let message = "starts without a `//!` module doc";
        for text in [
            "use b;\n",
            "#![forbid(unsafe_code)]\n//! Late.\n",
            "/// An item.\nfn a() {}\n",
            "//!\nfn a() {}\n",
        ] {
            assert_eq!(
                source("crates/a/src/b.rs", text),
                [format!("crates/a/src/b.rs:1: {message}")]
            );
        }
        assert_eq!(source("crates/a/src/b.rs", "\n"), ["crates/a/src/b.rs:1: empty file"]);
    }

    #[test]
    fn integration_tests_and_build_scripts_need_none() {
        assert_eq!(source("crates/a/tests/api.rs", "use b;\n"), [""; 0]);
        assert_eq!(source("crates/a/build.rs", "fn main() {}\n"), [""; 0]);
    }

    #[test]
    fn a_crate_takes_the_workspace_lints() {
        assert_eq!(
            manifest("[package]\nname = \"a\"\n[lints]\nworkspace = true\n"),
            [""; 0]
        );
        assert_eq!(
            manifest("[package]\nname = \"a\"\nlints.workspace = true\n"),
            ["crates/a/Cargo.toml:1: lacks `[lints] workspace = true`"]
        );
        for text in [
            "[package]\nname = \"a\"\n",
            "[package]\nname = \"a\"\n[lints]\nworkspace = false\n",
        ] {
            assert_eq!(
                manifest(text),
                ["crates/a/Cargo.toml:1: lacks `[lints] workspace = true`"]
            );
        }
    }
}
