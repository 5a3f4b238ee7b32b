//! Rows under each other, for people.

use crate::safe_text::safe;

/// A table without lines; the last column is as long as it likes.
pub(super) fn table(head: &[&str], rows: Vec<Vec<String>>) -> String {
    let head = head.iter().map(|cell| (*cell).to_owned()).collect();
    // Names come from the network.
    let shown = |row: Vec<String>| row.iter().map(|cell| safe(cell)).collect::<Vec<_>>();
    let lines: Vec<Vec<String>> = std::iter::once(head).chain(rows).map(shown).collect();
    let mut widths: Vec<usize> = Vec::new();
    for line in &lines {
        for (column, cell) in line.iter().enumerate() {
            let width = cell.chars().count();
            match widths.get_mut(column) {
                Some(widest) => *widest = width.max(*widest),
                None => widths.push(width),
            }
        }
    }
    lines.iter().map(|line| padded(line, &widths)).collect()
}

fn padded(line: &[String], widths: &[usize]) -> String {
    let cells = line.iter().zip(widths);
    let text: String = cells.map(|(cell, width)| format!("{cell:<width$}  ")).collect();
    format!("{}\n", text.trim_end())
}

/// A time in the two units that matter.
pub(super) fn ago(ms: u64) -> String {
    let seconds = ms / 1000;
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds} s"),
        (0, 0, _) => format!("{minutes} min {} s", seconds % 60),
        (0, _, _) => format!("{hours} h {} min", minutes % 60),
        _ => format!("{days} d {} h", hours % 24),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell_and_nothing_is_obeyed() {
        let row = |cells: [&str; 2]| cells.map(str::to_owned).to_vec();
        let text = table(
            &["WHO", "WHERE"],
            vec![row(["alice", "here"]), row(["b\u{1b}[2J", "-"])],
        );
        let expected = "WHO         WHERE\nalice       here\nb\\u{1b}[2J  -\n";
        assert_eq!(text, expected);
    }

    #[test]
    fn times_have_two_units() {
        for (ms, text) in [
            (999, "0 s"),
            (59_000, "59 s"),
            (61_000, "1 min 1 s"),
            (3_660_000, "1 h 1 min"),
            (90_000_000, "1 d 1 h"),
        ] {
            assert_eq!(ago(ms), text);
        }
    }
}
