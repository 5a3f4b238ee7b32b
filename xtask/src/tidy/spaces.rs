//! No tabs and no blanks at the end of a line in Rust files. The formatter mends both in code but leaves comments and
//! strings alone; a tab inside a string is written `\t`.

use super::Finding;
use super::tree::File;

pub(super) fn check(file: &File) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (number, line) in (1..).zip(file.text.split('\n')) {
        if line.contains('\t') {
            findings.push(Finding::new(file, number, "tab"));
        }
        if line.ends_with(char::is_whitespace) {
            findings.push(Finding::new(file, number, "white space at the end of the line"));
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(text: &str) -> Vec<usize> {
        check(&File::new("a.rs", text)).iter().map(|found| found.line).collect()
    }

    #[test]
    fn clean_text_passes() {
        assert_eq!(lines("fn main() {\n    work();\n}\n"), []);
    }

    #[test]
    fn tabs_and_trailing_blanks_are_found_where_they_stand() {
        assert_eq!(lines("fn main() {\n\twork();\n} \n"), [2, 3]);
        assert_eq!(lines("// a comment \n"), [1]);
        assert_eq!(lines("carriage return\r\n"), [1]);
    }
}
