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
            // Hangul fillers and the braille blank: nothing where a letter seems to be.
            | '\u{115f}' | '\u{1160}' | '\u{3164}' | '\u{ffa0}' | '\u{2800}' | '\u{34f}' | '\u{17b4}' | '\u{17b5}'
            // Mongolian variation selectors; those of emoji stay, and those that no font of today draws go.
            | '\u{180b}'..='\u{180d}' | '\u{180f}' | '\u{fe00}'..='\u{fe0d}'
            // Musical controls, shorthand controls.
            | '\u{1d173}'..='\u{1d17a}' | '\u{1bca0}'..='\u{1bca3}'
            // Tags: invisible copies of ASCII; variation selectors beyond the first sixteen.
            | '\u{e0000}'..='\u{e0fff}')
}

/// Whether a character joins others without being seen: emoji and several scripts need it, a handle does not.
pub(crate) fn is_joiner(character: char) -> bool {
    matches!(character, '\u{200c}' | '\u{200d}' | '\u{fe0e}' | '\u{fe0f}')
}
