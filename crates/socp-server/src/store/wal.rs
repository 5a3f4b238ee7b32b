//! Whether the write-ahead log beside the database is whole, as far as one can tell.
//!
//! SQLite reads that log up to the first frame whose checksum does not fit, and takes the rest for what a crash left of a
//! write that was never finished. After a crash that is so: each commit is synced before the next is written, so at most the
//! last one is torn. But a bit that flips amid the log hides every commit behind it in the same way, and those were
//! acknowledged. They can be told apart: behind the bad frame then stand the end of one commit and the beginning of another.
//!
//! What cannot be told is damage in the very last commit, which looks like a torn one.
//!
//! The form is that of <https://www.sqlite.org/fileformat2.html#the_write_ahead_log>.

use std::fs::File;
use std::io::{BufReader, ErrorKind, Read};
use std::path::Path;

const HEADER_BYTES: usize = 32;
const FRAME_HEADER_BYTES: usize = 24;

/// Magic numbers: checksums over words in little and in big endian.
const MAGIC_LITTLE: u32 = 0x377f_0682;
const MAGIC_BIG: u32 = 0x377f_0683;

/// The log's own version.
const VERSION: u32 = 3_007_000;

/// What is wrong with the log beside this database, if that can be told.
pub(super) fn fault_of(database: &Path) -> std::io::Result<Option<&'static str>> {
    let mut path = database.as_os_str().to_owned();
    path.push("-wal");
    match File::open(path) {
        Ok(file) => fault_in(&mut BufReader::with_capacity(1 << 16, file)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn fault_in(log: &mut impl Read) -> std::io::Result<Option<&'static str>> {
    let mut header = [0; HEADER_BYTES];
    if !fill(log, &mut header)? {
        // It was being made.
        return Ok(None);
    }
    let Some((mut sum, salts, page_bytes)) = read_header(&header) else {
        return Ok(Some("the beginning of server.db-wal is damaged"));
    };
    let mut frame = vec![0; FRAME_HEADER_BYTES.saturating_add(page_bytes)];
    let mut is_whole = true;
    let mut commit_ended = false;
    while fill(log, &mut frame)? {
        let Some((head, page)) = frame.split_first_chunk::<FRAME_HEADER_BYTES>() else {
            return Ok(None);
        };
        // Those of an earlier log in the same file differ in many bits.
        let strange_bits = u64_at(head, 8).map_or(64, |found| (found ^ salts).count_ones());
        if is_whole {
            sum = sum.over(head.get(..8).unwrap_or_default()).over(page);
            is_whole = strange_bits == 0 && sum.is_at(head, 16);
        }
        if is_whole || strange_bits > 1 {
            continue;
        }
        if commit_ended {
            return Ok(Some("server.db-wal is damaged before its end"));
        }
        commit_ended = word(head, 4).is_some_and(|pages| pages != 0);
    }
    Ok(None)
}

/// Where the checksums begin, the salts that all frames repeat, and the size of a page; none if it is no header.
fn read_header(header: &[u8; HEADER_BYTES]) -> Option<(Sum, u64, usize)> {
    let is_big = match word(header, 0)? {
        MAGIC_LITTLE => false,
        MAGIC_BIG => true,
        _ => return None,
    };
    let sum = Sum {
        is_big,
        ..Sum::default()
    };
    let sum = sum.over(header.get(..24)?);
    let page_bytes = word(header, 8)?;
    let is_page = (512..=65_536).contains(&page_bytes) && page_bytes.is_power_of_two();
    let is_right = is_page && word(header, 4)? == VERSION && sum.is_at(header, 24);
    let salts = u64_at(header, 16)?;
    is_right.then_some((sum, salts, usize::try_from(page_bytes).ok()?))
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    let bytes = bytes.get(at..)?.first_chunk::<4>()?;
    Some(u32::from_be_bytes(*bytes))
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    let bytes = bytes.get(at..)?.first_chunk::<8>()?;
    Some(u64::from_be_bytes(*bytes))
}

/// A checksum that goes on from frame to frame.
#[derive(Debug, Clone, Copy, Default)]
struct Sum {
    is_big: bool,
    one: u32,
    two: u32,
}

impl Sum {
    fn over(mut self, bytes: &[u8]) -> Self {
        let (pairs, _) = bytes.as_chunks::<8>();
        for [a, b, c, d, e, f, g, h] in pairs.iter().copied() {
            let of = if self.is_big {
                u32::from_be_bytes
            } else {
                u32::from_le_bytes
            };
            self.one = self.one.wrapping_add(of([a, b, c, d])).wrapping_add(self.two);
            self.two = self.two.wrapping_add(of([e, f, g, h])).wrapping_add(self.one);
        }
        self
    }

    fn is_at(self, bytes: &[u8], at: usize) -> bool {
        word(bytes, at) == Some(self.one) && word(bytes, at.saturating_add(4)) == Some(self.two)
    }
}

/// Fills a buffer; false where less is left.
fn fill(log: &mut impl Read, buffer: &mut [u8]) -> std::io::Result<bool> {
    match log.read_exact(buffer) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == ErrorKind::UnexpectedEof => Ok(false),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rusqlite::Connection;

    const PAGE: usize = 4096;

    /// A log with a few commits of two pages or more each.
    fn log() -> Vec<u8> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("server.db");
        let connection = Connection::open(&path).unwrap();
        connection.pragma_update(None, "journal_mode", "WAL").unwrap();
        connection.execute_batch("CREATE TABLE t (x BLOB) STRICT").unwrap();
        for _ in 0..3 {
            let sql = "INSERT INTO t (x) VALUES (randomblob(9000))";
            connection.execute(sql, []).unwrap();
        }
        assert_eq!(fault_of(&path).unwrap(), None);
        std::fs::read(dir.path().join("server.db-wal")).unwrap()
    }

    fn fault(bytes: &[u8]) -> Option<&'static str> {
        fault_in(&mut &*bytes).unwrap()
    }

    /// Where the frames begin that end a commit, and all frames.
    fn frames(log: &[u8]) -> (Vec<usize>, Vec<usize>) {
        let all: Vec<usize> = (HEADER_BYTES..log.len()).step_by(FRAME_HEADER_BYTES + PAGE).collect();
        let ends = all.iter().copied().filter(|at| word(log, at + 4) != Some(0)).collect();
        (ends, all)
    }

    #[test]
    fn a_log_that_a_crash_cut_short_is_whole() {
        let log = log();
        for len in [
            0,
            5,
            HEADER_BYTES,
            HEADER_BYTES + 100,
            log.len() - PAGE,
            log.len() - 1,
            log.len(),
        ] {
            assert_eq!(fault(&log[..len]), None, "{len}");
        }
    }

    #[test]
    fn a_torn_last_commit_is_no_damage_and_what_hides_others_is() {
        let log = log();
        let (ends, all) = frames(&log);
        let before_last = ends[ends.len() - 2];
        for at in all {
            for byte in [0, 8, 16, FRAME_HEADER_BYTES + 77] {
                let mut flipped = log.clone();
                flipped[at + byte] ^= 4;
                let is_found = fault(&flipped).is_some();
                assert_eq!(is_found, at <= before_last, "byte {byte} of the frame at {at}");
            }
        }
    }

    #[test]
    fn every_bit_of_the_beginning_counts() {
        let log = log();
        for bit in 0..HEADER_BYTES * 8 {
            let mut flipped = log.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(fault(&flipped).is_some(), "bit {bit}");
        }
    }

    #[test]
    fn frames_of_an_earlier_log_in_the_same_file_are_none() {
        let log = log();
        let mut earlier = log.clone();
        let (_, all) = frames(&log);
        for at in all.into_iter().skip(3) {
            earlier[at + 8] ^= 3;
        }
        assert_eq!(fault(&earlier), None);
    }
}
