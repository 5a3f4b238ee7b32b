//! Where the socket is. A socket's path is short by nature: on Linux it ends after 107 bytes.

use std::fs::File;
use std::io::{self, ErrorKind};
use std::os::fd::AsRawFd as _;
use std::path::{Path, PathBuf};

/// The socket's name in the data directory.
const NAME: &str = "admin.sock";

/// Bytes in the path of a socket: `sun_path` without its last zero, on Linux; others have a little less.
const PATH_BYTES_MAX: usize = if cfg!(target_os = "linux") { 107 } else { 103 };

/// The socket's path in a data directory.
pub(super) fn of(dir: &Path) -> PathBuf {
    dir.join(NAME)
}

/// Does something with a path that is short enough. Where the plain one is not, the directory is opened, and the way
/// leads through its descriptor.
pub(super) fn with_short<T>(dir: &Path, act: impl FnOnce(&Path) -> io::Result<T>) -> io::Result<T> {
    let path = of(dir);
    let length = path.as_os_str().len();
    if length <= PATH_BYTES_MAX {
        return act(&path);
    }
    let open = File::open(dir)?;
    let by_descriptor = PathBuf::from(format!("/proc/self/fd/{}", open.as_raw_fd()));
    if !by_descriptor.exists() {
        return Err(io::Error::new(
            ErrorKind::InvalidInput,
            format!("its path has {length} bytes, but a socket's has at most {PATH_BYTES_MAX}; use a shorter --data"),
        ));
    }
    act(&by_descriptor.join(NAME))
}
