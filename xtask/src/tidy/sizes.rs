//! No file above 800 lines, no function above 70.
//!
//! Test code is exempt from both: folders named `tests`, files named `tests.rs`, and items under `#[cfg(test)]`. A
//! function counts from the line of its `fn` to the line of its closing brace; comments and blank lines count, for the
//! reader has to pass them too.

use super::Finding;
use super::scan::{self, Span};
use super::tree::File;

const FILE_LINES_MAX: usize = 800;
const FUNCTION_LINES_MAX: usize = 70;

pub(super) fn check(file: &File) -> Vec<Finding> {
    if is_test_file(&file.path) {
        return Vec::new();
    }
    let code = scan::code_only(&file.text);
    let Some(tests) = scan::test_items(&code) else {
        return Vec::new();
    };
    let mut findings = Vec::new();
    let lines = file
        .text
        .lines()
        .count()
        .saturating_sub(tests.iter().map(Span::lines).sum());
    if lines > FILE_LINES_MAX {
        let message = format!("{lines} lines outside tests, at most {FILE_LINES_MAX}");
        findings.push(Finding::new(file, 1, message));
    }
    for function in scan::functions(&code) {
        let lines = function.span.lines();
        let exempt = tests.iter().any(|test| test.contains(&function.span));
        if !exempt && lines > FUNCTION_LINES_MAX {
            let message = format!(
                "function `{}` has {lines} lines, at most {FUNCTION_LINES_MAX}",
                function.name
            );
            findings.push(Finding::new(file, function.span.first, message));
        }
    }
    findings
}

fn is_test_file(path: &str) -> bool {
    path.split('/').any(|part| part == "tests" || part == "tests.rs")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(text: &str) -> Vec<String> {
        check(&File::new("crates/a/src/b.rs", text))
            .iter()
            .map(Finding::to_string)
            .collect()
    }

    /// A function of `lines` lines in all.
    fn function(name: &str, lines: usize) -> String {
        format!("fn {name}() {{\n{}}}\n", "    work();\n".repeat(lines - 2))
    }

    #[test]
    fn functions_up_to_the_limit_pass_and_longer_ones_are_named() {
        assert_eq!(found(&function("fits", 70)), [""; 0]);
        let text = format!("//! Doc.\n\n{}{}", function("fits", 70), function("bursts", 71));
        assert_eq!(
            found(&text),
            ["crates/a/src/b.rs:73: function `bursts` has 71 lines, at most 70"]
        );
    }

    #[test]
    fn methods_in_nested_blocks_are_measured() {
        let text = format!("mod a {{\nimpl B {{\n{}}}\n}}\n", function("deep", 80));
        assert_eq!(
            found(&text),
            ["crates/a/src/b.rs:3: function `deep` has 80 lines, at most 70"]
        );
    }

    #[test]
    fn files_up_to_the_limit_pass_and_longer_ones_are_found() {
        assert_eq!(found(&"// line\n".repeat(800)), [""; 0]);
        assert_eq!(
            found(&"// line\n".repeat(801)),
            ["crates/a/src/b.rs:1: 801 lines outside tests, at most 800"]
        );
    }

    #[test]
    fn test_code_counts_for_neither() {
        let tests = format!("#[cfg(test)]\nmod tests {{\n{}}}\n", function("long", 300));
        assert_eq!(found(&format!("{}{tests}", "// line\n".repeat(800))), [""; 0]);
        assert_eq!(found(&format!("#![cfg(test)]\n{}", function("long", 900))), [""; 0]);
        for path in [
            "crates/a/tests/api.rs",
            "crates/a/src/b/tests.rs",
            "crates/a/tests/common/mod.rs",
        ] {
            assert_eq!(check(&File::new(path, &function("long", 900))), []);
        }
    }

    #[test]
    fn code_after_a_test_module_still_counts() {
        let text = format!("#[cfg(test)]\nmod tests {{\n}}\n{}", function("long", 71));
        assert_eq!(
            found(&text),
            ["crates/a/src/b.rs:4: function `long` has 71 lines, at most 70"]
        );
    }
}
