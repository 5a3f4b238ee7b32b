//! Settings of file transfer that several commands share.

use crate::cli::Common;
use clap::Args;
use color_eyre::eyre::{Result, WrapErr as _, eyre};
use socp_client::Downloads;
use std::path::PathBuf;

/// Largest file in letter mode, since each MiB costs its receiver some ten seconds of RSA.
const SIZE_MAX_DEFAULT_BYTES: u64 = 8 * 1024 * 1024;
/// Where files are kept in the profile.
const FOLDER: &str = "downloads";

/// How large a file may be.
#[derive(Debug, Clone, Args)]
pub(crate) struct SizeLimit {
    /// Largest file, like 512K, 8M or a number of bytes [default: 8M]
    #[arg(long, env = "SOCP_MAX_SIZE", value_name = "SIZE", value_parser = parse_size)]
    max_size: Option<u64>,
}

/// What becomes of files that arrive.
#[derive(Debug, Clone, Args)]
pub(crate) struct Receiving {
    /// The folder for files that arrive [default: `downloads` in the profile directory]
    #[arg(long, env = "SOCP_DOWNLOADS", value_name = "DIR")]
    downloads: Option<PathBuf>,
    #[command(flatten)]
    limit: SizeLimit,
}

impl SizeLimit {
    /// Flag or environment, else `socp.toml`, else the default.
    pub(crate) fn bytes(&self, common: &Common) -> Result<u64> {
        if let Some(bytes) = self.max_size {
            return Ok(bytes);
        }
        match common.file_settings()?.max_size {
            Some(text) => parse_size(&text).map_err(|why| eyre!("max_size in socp.toml: {why}")),
            None => Ok(SIZE_MAX_DEFAULT_BYTES),
        }
    }
}

impl Receiving {
    /// Flag or environment, else `socp.toml`, else the profile's own folder.
    pub(crate) fn downloads(&self, common: &Common) -> Result<Downloads> {
        let dir = match self.downloads.clone() {
            Some(dir) => Some(dir),
            None => common.file_settings()?.downloads,
        };
        let dir = match dir {
            Some(dir) => dir,
            None => common.profile_dir()?.join(FOLDER),
        };
        let size_max = self.limit.bytes(common)?;
        // Scripts are told where a file is, and may be somewhere else.
        let dir = std::path::absolute(&dir).wrap_err_with(|| format!("cannot use the folder {}", dir.display()))?;
        Ok(Downloads { dir, size_max })
    }

    /// The limit also holds for what is sent.
    pub(crate) fn size_max(&self, common: &Common) -> Result<u64> {
        self.limit.bytes(common)
    }
}

/// `8388608`, `8192K`, `8M`; `KiB` and `MiB` are the same.
fn parse_size(text: &str) -> Result<u64, String> {
    let digits = text.trim_end_matches(|it: char| !it.is_ascii_digit());
    let factor = match text.get(digits.len()..).unwrap_or_default() {
        "" | "B" => 1,
        "K" | "k" | "KiB" => 1024,
        "M" | "MiB" => 1024 * 1024,
        "G" | "GiB" => 1024 * 1024 * 1024,
        _ => 0,
    };
    let bytes = digits.parse::<u64>().ok().and_then(|number| number.checked_mul(factor));
    bytes
        .filter(|bytes| *bytes > 0)
        .ok_or_else(|| format!("{text:?} is no size; give bytes, or a number like 512K or 8M"))
}

#[cfg(test)]
mod tests {
    use super::parse_size;

    #[test]
    fn sizes_are_read_and_nonsense_is_refused() {
        let table = [
            ("1", 1),
            ("512K", 524_288),
            ("8M", 8_388_608),
            ("8MiB", 8_388_608),
            ("1GiB", 1 << 30),
        ];
        for (text, bytes) in table {
            assert_eq!(parse_size(text), Ok(bytes), "{text}");
        }
        for text in [
            "",
            "0",
            "M",
            "-1",
            "8 M",
            "8T",
            "1.5M",
            "99999999999999999999",
            "18446744073709551615K",
        ] {
            assert!(parse_size(text).is_err(), "{text}");
        }
    }
}
