//! A file of ours that is sent: measured before, read piece by piece, and compared at the end.

use crate::error::ClientError;
use socp_core::client::{SendFault, Source};
use socp_crypto::digest::Hasher;
use socp_proto::limits::{FILE_CHUNK_BYTES, FILE_NAME_BYTES_MAX};
use std::fs::{self, File};
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::path::Path;

/// Bytes read at once while a file is measured.
const MEASURE_BYTES: usize = 64 * 1024;

/// A file that is ready to be sent.
#[derive(Debug)]
pub struct OutgoingFile {
    file: File,
    source: Source,
    /// Of what was read since the beginning, to notice a file that changes meanwhile.
    hasher: Hasher,
}

impl OutgoingFile {
    /// Opens and measures a file of at most `size_max` bytes. Reads all of it, so it belongs on a thread for such things.
    ///
    /// # Errors
    /// [`ClientError::NotSendable`], saying what is wrong with it.
    pub fn open(path: &Path, size_max: u64) -> Result<Self, ClientError> {
        let wrong = |why: String| ClientError::NotSendable {
            path: path.to_owned(),
            why,
        };
        let failed = |error: io::Error| wrong(error.to_string());
        // Looked at first: opening a pipe would wait for whoever writes into it.
        check_kind(&fs::metadata(path).map_err(failed)?).map_err(wrong)?;
        let mut file = File::open(path).map_err(failed)?;
        let metadata = file.metadata().map_err(failed)?;
        check_kind(&metadata).map_err(wrong)?;
        let size = metadata.len();
        if size > size_max {
            return Err(wrong(format!(
                "it has {size} bytes, at most {size_max} are sent; --max-size allows more"
            )));
        }
        let (read, sha256) = measure(&mut file, size).map_err(failed)?;
        if read != size {
            return Err(wrong("it changes while it is read".to_owned()));
        }
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let end = name.floor_char_boundary(FILE_NAME_BYTES_MAX);
        let name = name.get(..end).unwrap_or_default().to_owned();
        Ok(Self {
            file,
            source: Source { name, size, sha256 },
            hasher: Hasher::new(),
        })
    }

    /// Its name, size and hash.
    #[must_use]
    pub fn source(&self) -> &Source {
        &self.source
    }

    /// Reads a chunk; they are asked for in order, and from the first again for the next member.
    pub(super) fn read(&mut self, index: u64, total: u64) -> Result<Vec<u8>, SendFault> {
        let changed = || SendFault::Source("the file has changed since it was measured; send it again".to_owned());
        let failed = |error: io::Error| SendFault::Source(format!("the file cannot be read any more: {error}"));
        if index == 0 {
            self.file.seek(SeekFrom::Start(0)).map_err(failed)?;
            self.hasher = Hasher::new();
        }
        let mut chunk = Vec::with_capacity(FILE_CHUNK_BYTES);
        let limit = u64::try_from(FILE_CHUNK_BYTES).unwrap_or(u64::MAX);
        (&mut self.file).take(limit).read_to_end(&mut chunk).map_err(failed)?;
        self.hasher.update(&chunk);
        let is_last = index.saturating_add(1) == total;
        if !is_last {
            return if chunk.len() == FILE_CHUNK_BYTES {
                Ok(chunk)
            } else {
                Err(changed())
            };
        }
        let mut more = [0; 1];
        let is_longer = self.file.read(&mut more).map_err(failed)? > 0;
        if is_longer || self.hasher.clone().finish_hex() != self.source.sha256 {
            return Err(changed());
        }
        Ok(chunk)
    }
}

fn check_kind(metadata: &fs::Metadata) -> Result<(), String> {
    if metadata.is_dir() {
        return Err("it is a directory; pack it into one file first".to_owned());
    }
    if !metadata.is_file() {
        return Err("it is no regular file".to_owned());
    }
    Ok(())
}

/// Bytes and SHA-256, of at most one byte more than it should have.
fn measure(file: &mut File, size: u64) -> io::Result<(u64, String)> {
    let mut hasher = Hasher::new();
    let mut buffer = vec![0; MEASURE_BYTES];
    let mut read: u64 = 0;
    let mut reader = file.take(size.saturating_add(1));
    loop {
        let count = match reader.read(&mut buffer) {
            Ok(0) => return Ok((read, hasher.finish_hex())),
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        hasher.update(buffer.get(..count).unwrap_or_default());
        read = read.saturating_add(u64::try_from(count).unwrap_or(u64::MAX));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;

    fn file_of(bytes: &[u8]) -> (tempfile::TempDir, std::path::PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.bin");
        fs::write(&path, bytes).unwrap();
        (dir, path)
    }

    #[test]
    fn a_file_is_read_in_chunks_again_and_again() {
        let bytes: Vec<u8> = (0..1_000_u32).map(|n| n.to_le_bytes()[0]).collect();
        let (_dir, path) = file_of(&bytes);
        let mut file = OutgoingFile::open(&path, 1_000).unwrap();
        assert_eq!((file.source().name.as_str(), file.source().size), ("a.bin", 1_000));
        for _ in 0..2 {
            let read: Vec<u8> = (0..3).flat_map(|index| file.read(index, 3).unwrap()).collect();
            assert_eq!(read, bytes);
        }
    }

    #[test]
    fn what_cannot_be_sent_is_refused_with_the_reason() {
        let (dir, path) = file_of(&[0; 11]);
        let table = [
            (path.clone(), "it has 11 bytes, at most 10 are sent"),
            (dir.path().to_owned(), "it is a directory"),
            (dir.path().join("none"), "No such file"),
        ];
        for (path, said) in table {
            let error = OutgoingFile::open(&path, 10).unwrap_err().to_string();
            assert!(error.contains(said), "{error}");
        }
        #[cfg(unix)]
        {
            let error = OutgoingFile::open(Path::new("/dev/null"), 10).unwrap_err().to_string();
            assert!(error.contains("no regular file"), "{error}");
        }
    }

    #[test]
    fn a_file_that_changes_meanwhile_is_not_sent_to_its_end() {
        type Change = fn(&Path);
        let changes: [Change; 4] = [
            |path| fs::write(path, [1; 1_000]).unwrap(),
            |path| fs::write(path, [0; 999]).unwrap(),
            |path| fs::write(path, [0; 10]).unwrap(),
            |path| {
                fs::OpenOptions::new()
                    .append(true)
                    .open(path)
                    .unwrap()
                    .write_all(b"x")
                    .unwrap()
            },
        ];
        for change in changes {
            let (_dir, path) = file_of(&[0; 1_000]);
            let mut file = OutgoingFile::open(&path, 1_000).unwrap();
            change(&path);
            let read: Result<Vec<_>, _> = (0..3).map(|index| file.read(index, 3)).collect();
            assert!(matches!(read, Err(SendFault::Source(_))), "{read:?}");
        }
    }
}
