//! QR codes on a terminal.

use color_eyre::eyre::{Result, WrapErr as _};
use qrcode::render::unicode::Dense1x2;
use qrcode::{EcLevel, QrCode};
use std::io::IsTerminal as _;

/// Black on white, whatever the terminal's own colours are: cameras want it so.
const BLACK_ON_WHITE: &str = "\u{1b}[38;5;16;48;5;231m";
const RESET: &str = "\u{1b}[0m";

/// The lines of a code for this text, two rows of dots in each. Where colours are not wanted it is drawn for a dark
/// background.
pub(crate) fn lines(text: &str) -> Result<Vec<String>> {
    let has_colours = std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|it| it.is_empty());
    draw(text, has_colours)
}

fn draw(text: &str, has_colours: bool) -> Result<Vec<String>> {
    // The least correction: a screen does not tear, and a smaller code fits more terminals.
    let code = QrCode::with_error_correction_level(text, EcLevel::L).wrap_err("cannot draw a QR code")?;
    let mut image = code.render::<Dense1x2>();
    if !has_colours {
        image.dark_color(Dense1x2::Light).light_color(Dense1x2::Dark);
    }
    let image = image.build();
    let lines = image.lines();
    Ok(lines
        .map(|line| {
            if has_colours {
                format!("{BLACK_ON_WHITE}{line}{RESET}")
            } else {
                line.to_owned()
            }
        })
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_is_square_and_has_a_quiet_zone() {
        let plain = draw("socp-safety:v1:YQ:00:Yg:11", false).unwrap();
        let width = plain[0].chars().count();
        assert!(plain.iter().all(|line| line.chars().count() == width));
        assert_eq!(plain.len(), width.div_ceil(2));
        // Four rows of light, which is full on a dark background.
        assert!(plain[..2].iter().all(|line| line.chars().all(|letter| letter == '█')));
        let coloured = draw("socp-safety:v1:YQ:00:Yg:11", true).unwrap();
        assert!(
            coloured
                .iter()
                .all(|line| line.starts_with(BLACK_ON_WHITE) && line.ends_with(RESET))
        );
        assert!(coloured[0].contains("    "));
    }

    #[test]
    fn what_does_not_fit_is_said() {
        assert!(draw(&"x".repeat(5_000), false).is_err());
    }
}
