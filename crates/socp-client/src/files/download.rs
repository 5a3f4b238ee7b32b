//! A file that arrives: a temporary file that only its owner can read, moved to its name when all of it is proven.

use super::safe_name::{numbered, safe_name};
use socp_core::client::{FileFault, Source};
use socp_crypto::digest::Hasher;
use socp_crypto::random_bytes;
use socp_proto::sha256;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, ErrorKind, Write as _};
use std::path::{Path, PathBuf};

/// How the temporary files of this program are called.
const PART_PREFIX: &str = ".socp-";
const PART_SUFFIX: &str = ".part";
/// Numbers tried behind a name that is taken.
const NUMBERS_MAX: u32 = 9_999;
/// Attempts at a temporary file; each has a random name.
const ATTEMPTS_MAX: u32 = 8;

/// What arrives of one file. Dropped before it is kept, it is gone.
#[derive(Debug)]
pub(super) struct Download {
    part: Part,
    source: Source,
    written: u64,
    hasher: Hasher,
}

/// A temporary file, locked as long as somebody works on it.
#[derive(Debug)]
struct Part {
    file: File,
    path: PathBuf,
}

impl Drop for Part {
    fn drop(&mut self) {
        match fs::remove_file(&self.path) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                tracing::warn!(%error, path = %self.path.display(), "a temporary file is left behind");
            }
            Ok(()) | Err(_) => {}
        }
    }
}

impl Download {
    pub(super) fn create(dir: &Path, source: Source) -> Result<Self, FileFault> {
        Ok(Self {
            part: make_dir(dir).and_then(|()| Part::create(dir)).map_err(disk)?,
            source,
            written: 0,
            hasher: Hasher::new(),
        })
    }

    pub(super) fn write(&mut self, bytes: &[u8]) -> Result<(), FileFault> {
        let count = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        let got = self.written.saturating_add(count);
        if got > self.source.size {
            return Err(self.wrong_size(got));
        }
        self.part.file.write_all(bytes).map_err(disk)?;
        self.hasher.update(bytes);
        self.written = got;
        Ok(())
    }

    /// Checks size and hash, and gives the file its name; it is on the disk when this returns.
    pub(super) fn keep(self, dir: &Path) -> Result<PathBuf, FileFault> {
        if self.written != self.source.size {
            return Err(self.wrong_size(self.written));
        }
        if self.hasher.clone().finish_hex() != self.source.sha256 {
            return Err(FileFault::Hash);
        }
        self.part.file.sync_all().map_err(disk)?;
        let path = place(&self.part.path, dir, &safe_name(&self.source.name)).map_err(disk)?;
        // So that the name is there after a power cut, too; not every file system can.
        if let Err(error) = File::open(dir).and_then(|dir| dir.sync_all()) {
            tracing::debug!(%error, "the directory cannot be synced");
        }
        Ok(path)
    }

    fn wrong_size(&self, got: u64) -> FileFault {
        let size = self.source.size;
        FileFault::Size { got, size }
    }
}

impl Part {
    fn create(dir: &Path) -> io::Result<Self> {
        let mut options = OpenOptions::new();
        options.write(true).create_new(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        for _ in 0..ATTEMPTS_MAX {
            let dice: [u8; 16] = random_bytes().map_err(io::Error::other)?;
            let path = dir.join(format!("{PART_PREFIX}{}{PART_SUFFIX}", hexadecimal(&dice)));
            let file = options.open(&path)?;
            // From here on the file goes with the part, whatever becomes of it.
            let part = Self { file, path };
            match part.file.try_lock() {
                // Another program that cleans up may have been quicker.
                Ok(()) if part.path.exists() => return Ok(part),
                Ok(()) | Err(fs::TryLockError::WouldBlock) => {}
                Err(fs::TryLockError::Error(error)) => return Err(error),
            }
        }
        Err(io::Error::other("no temporary file could be made"))
    }
}

fn hexadecimal(dice: &[u8; 16]) -> String {
    let digest = sha256(dice);
    digest
        .iter()
        .take(dice.len())
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

/// What happened to the disk; the path stays here, since the author is told as well.
fn disk(error: io::Error) -> FileFault {
    FileFault::Disk(error.to_string())
}

fn make_dir(dir: &Path) -> io::Result<()> {
    let mut builder = DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(dir)
}

/// Gives the temporary file its name, or the name with a number; never that of a file that is there.
fn place(part: &Path, dir: &Path, name: &str) -> io::Result<PathBuf> {
    let names = std::iter::once(name.to_owned()).chain((1..=NUMBERS_MAX).map(|number| numbered(name, number)));
    for name in names {
        let path = dir.join(name);
        match move_to(part, &path) {
            Ok(()) => return Ok(path),
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
    }
    Err(io::Error::new(
        ErrorKind::AlreadyExists,
        "too many files of this name are there already",
    ))
}

/// A second name, which fails if it is taken; the first goes with the [`Part`].
fn move_to(part: &Path, path: &Path) -> io::Result<()> {
    match fs::hard_link(part, path) {
        Err(error) if error.kind() == ErrorKind::AlreadyExists || error.kind() == ErrorKind::NotFound => Err(error),
        Err(_) => move_over_reservation(part, path),
        Ok(()) => Ok(()),
    }
}

/// Where the file system has no second names: an empty file holds the name until it is replaced.
fn move_over_reservation(part: &Path, path: &Path) -> io::Result<()> {
    drop(OpenOptions::new().write(true).create_new(true).open(path)?);
    fs::rename(part, path).inspect_err(|_| {
        if let Err(error) = fs::remove_file(path) {
            tracing::warn!(%error, path = %path.display(), "an empty file is left behind");
        }
    })
}

/// Removes what a program left that did not end well. What another one works on is locked, and stays.
pub(crate) fn clean_up(dir: &Path) {
    let Ok(entries) = fs::read_dir(dir) else {
        return;
    };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let is_part = name
            .to_str()
            .is_some_and(|name| name.starts_with(PART_PREFIX) && name.ends_with(PART_SUFFIX));
        let is_file = entry.file_type().is_ok_and(|kind| kind.is_file());
        if is_part && is_file {
            remove_if_left(&entry.path());
        }
    }
}

fn remove_if_left(path: &Path) {
    let removed = File::open(path).and_then(|file| match file.try_lock() {
        Ok(()) => fs::remove_file(path).map(|()| true),
        Err(fs::TryLockError::WouldBlock) => Ok(false),
        Err(fs::TryLockError::Error(error)) => Err(error),
    });
    match removed {
        Ok(true) => tracing::info!(path = %path.display(), "removed what an earlier run left of a file"),
        Ok(false) => {}
        // Another program was quicker.
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        Err(error) => tracing::warn!(%error, path = %path.display(), "a temporary file of an earlier run stays"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(name: &str, bytes: &[u8]) -> Source {
        Source {
            name: name.to_owned(),
            size: u64::try_from(bytes.len()).unwrap(),
            sha256: sha256(bytes).iter().map(|byte| format!("{byte:02x}")).collect(),
        }
    }

    fn received(dir: &Path, name: &str, bytes: &[u8]) -> Result<PathBuf, FileFault> {
        let mut download = Download::create(dir, source(name, bytes))?;
        bytes.chunks(446).try_for_each(|chunk| download.write(chunk))?;
        download.keep(dir)
    }

    fn names(dir: &Path) -> Vec<String> {
        let mut names: Vec<_> = fs::read_dir(dir)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn a_file_gets_its_name_and_none_is_overwritten() {
        let dir = tempfile::tempdir().unwrap();
        let downloads = dir.path().join("a/b");
        for bytes in [&b"one"[..], b"two", b""] {
            let path = received(&downloads, "../x.png", bytes).unwrap();
            assert_eq!(fs::read(path).unwrap(), bytes);
        }
        assert_eq!(names(&downloads), ["x (1).png", "x (2).png", "x.png"]);
        assert_eq!(fs::read(downloads.join("x.png")).unwrap(), b"one");
    }

    #[cfg(unix)]
    #[test]
    fn only_the_owner_reads_what_arrives() {
        use std::os::unix::fs::PermissionsExt as _;
        let dir = tempfile::tempdir().unwrap();
        let downloads = dir.path().join("downloads");
        let path = received(&downloads, "x", b"secret").unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&downloads), mode(&path)), (0o700, 0o600));
    }

    #[test]
    fn what_is_wrong_leaves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let announced = source("x", b"hello");
        let write = |pieces: &[&[u8]]| {
            let mut download = Download::create(dir.path(), announced.clone())?;
            assert_eq!(names(dir.path()).len(), 1);
            pieces.iter().try_for_each(|piece| download.write(piece))?;
            download.keep(dir.path())
        };
        let too_much = FileFault::Size { got: 6, size: 5 };
        let too_little = FileFault::Size { got: 4, size: 5 };
        for (pieces, fault) in [
            (&[&b"hel"[..], b"lo!"][..], too_much),
            (&[b"hell"], too_little),
            (&[b"hullo"], FileFault::Hash),
        ] {
            assert_eq!(write(pieces), Err(fault));
            assert!(names(dir.path()).is_empty());
        }
    }

    #[test]
    fn a_folder_that_cannot_be_made_is_a_fault_that_names_no_path() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        fs::write(&file, b"").unwrap();
        let fault = received(&file.join("downloads"), "x", b"y").unwrap_err();
        assert!(
            matches!(&fault, FileFault::Disk(why) if !why.contains("downloads")),
            "{fault}"
        );
    }

    #[test]
    fn what_a_crashed_run_left_is_removed_and_what_is_worked_on_stays() {
        let dir = tempfile::tempdir().unwrap();
        let left = dir.path().join(".socp-00.part");
        fs::write(&left, b"half").unwrap();
        fs::write(dir.path().join("kept.part"), b"").unwrap();
        let download = Download::create(dir.path(), source("x", b"y")).unwrap();
        clean_up(dir.path());
        assert!(!left.exists() && download.part.path.exists());
        drop(download);
        assert_eq!(names(dir.path()), ["kept.part"]);
        clean_up(&dir.path().join("not there"));
    }

    #[test]
    fn a_part_is_there_and_stays_however_often_others_clean_up() {
        let dir = tempfile::tempdir().unwrap();
        let is_done = std::sync::atomic::AtomicBool::new(false);
        let order = std::sync::atomic::Ordering::Relaxed;
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !is_done.load(order) {
                    clean_up(dir.path());
                }
            });
            let made = std::iter::repeat_with(|| Part::create(dir.path())).take(300);
            // Whoever cleans up between the making and the lock has the file; then another is made.
            let parts: Vec<_> = made.collect();
            is_done.store(true, order);
            let lost = parts
                .iter()
                .filter(|part| !part.as_ref().is_ok_and(|part| part.path.exists()));
            assert_eq!(lost.count(), 0);
        });
        assert!(names(dir.path()).is_empty(), "a part is left behind");
    }

    #[test]
    fn without_second_names_nothing_is_overwritten_either() {
        let dir = tempfile::tempdir().unwrap();
        let (part, path) = (dir.path().join("part"), dir.path().join("x"));
        fs::write(&part, b"new").unwrap();
        fs::write(&path, b"old").unwrap();
        let refused = move_over_reservation(&part, &path).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::AlreadyExists);
        fs::remove_file(&path).unwrap();
        move_over_reservation(&part, &path).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
        fs::remove_file(&path).unwrap();
        assert!(move_over_reservation(&part, &path).is_err());
        assert!(!path.exists(), "the reservation is left behind");
    }
}
