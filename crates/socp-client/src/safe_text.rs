//! Characters that a terminal obeys or that make text read as something else.

/// Whether a character is a control, or invisible and able to change how the text around it reads.
#[must_use]
pub fn is_hostile(character: char) -> bool {
    character.is_control()
        || matches!(character,
            '\u{ad}' | '\u{61c}' | '\u{180e}'
            // Zero width, left-to-right and right-to-left marks; joiners stay, emoji and several scripts need them.
            | '\u{200b}' | '\u{200e}' | '\u{200f}'
            // Line separators, embeddings, overrides, invisible operators, isolates.
            | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
            | '\u{feff}' | '\u{fff9}'..='\u{fffb}'
            // Tags: invisible copies of ASCII.
            | '\u{e0000}'..='\u{e007f}')
}
