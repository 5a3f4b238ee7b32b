//! A message given as words on the command line, or on standard input.

use color_eyre::eyre::{Result, WrapErr as _, bail, eyre};
use socp_proto::limits::{DIRECT_TEXT_BYTES_MAX, FRAME_BYTES_MAX};
use std::io::Read as _;

/// The message, if it can be one.
pub(crate) fn text(words: &[String]) -> Result<String> {
    let text = if words == ["-"] { from_stdin()? } else { words.join(" ") };
    if text.is_empty() {
        bail!("not sent: the message is empty");
    }
    Ok(text)
}

fn from_stdin() -> Result<String> {
    let mut bytes = Vec::new();
    // Reading more than any frame may hold would only fill memory before it is refused.
    std::io::stdin()
        .lock()
        .take(u64::try_from(FRAME_BYTES_MAX)?)
        .read_to_end(&mut bytes)
        .wrap_err("cannot read the message")?;
    let given = bytes.len();
    // Two for the line's end.
    if given > DIRECT_TEXT_BYTES_MAX + 2 {
        let or_more = if given < FRAME_BYTES_MAX { "" } else { " or more" };
        bail!(
            "not sent: the message has {given} bytes{or_more}, at most {DIRECT_TEXT_BYTES_MAX} are allowed; send it in parts"
        );
    }
    let text =
        String::from_utf8(bytes).map_err(|_| eyre!("not sent: what came on standard input is not UTF-8 text"))?;
    let text = text.strip_suffix('\n').unwrap_or(&text);
    Ok(text.strip_suffix('\r').unwrap_or(text).to_owned())
}
