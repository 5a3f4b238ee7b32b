//! A PNG to send, and where it arrives.

use crate::process::{Process, User, json};
use serde_json::Value;
use std::path::{Path, PathBuf};

/// A square of noise, this many pixels wide: three bytes a pixel, which nothing can compress.
pub(crate) fn png(width: u32) -> Vec<u8> {
    let mut rows = Vec::new();
    for _ in 0..width {
        // The filter of the row: none.
        rows.push(0);
        rows.extend((0..3 * width).map(|_| rand::random::<u8>()));
    }
    let mut header = Vec::new();
    header.extend(width.to_be_bytes());
    header.extend(width.to_be_bytes());
    // Eight bits of red, green and blue each.
    header.extend([8, 2, 0, 0, 0]);
    let mut bytes = b"\x89PNG\r\n\x1a\n".to_vec();
    for (kind, data) in [(b"IHDR", header), (b"IDAT", stored(&rows)), (b"IEND", Vec::new())] {
        let named = [kind.as_slice(), &data].concat();
        bytes.extend(u32::try_from(data.len()).unwrap().to_be_bytes());
        bytes.extend(&named);
        bytes.extend(crc32(&named).to_be_bytes());
    }
    bytes
}

/// As a zlib stream without compression (RFC 1950, RFC 1951 §3.2.4).
fn stored(bytes: &[u8]) -> Vec<u8> {
    let mut stream = vec![0x78, 0x01];
    let count = bytes.chunks(0xffff).count();
    for (number, block) in bytes.chunks(0xffff).enumerate() {
        let length = u16::try_from(block.len()).unwrap();
        stream.push(u8::from(number + 1 == count));
        stream.extend(length.to_le_bytes());
        stream.extend((!length).to_le_bytes());
        stream.extend(block);
    }
    let (mut low, mut high) = (1_u32, 0_u32);
    for byte in bytes {
        low = (low + u32::from(*byte)) % 65_521;
        high = (high + low) % 65_521;
    }
    stream.extend((high << 16 | low).to_be_bytes());
    stream
}

/// RFC 1952 §8.
fn crc32(bytes: &[u8]) -> u32 {
    let mut crc = u32::MAX;
    for byte in bytes {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = if crc & 1 == 1 {
                0xedb8_8320 ^ (crc >> 1)
            } else {
                crc >> 1
            };
        }
    }
    !crc
}

/// Writes a picture; its path.
pub(crate) fn save(dir: &Path, name: &str, bytes: &[u8]) -> PathBuf {
    let path = dir.join(name);
    std::fs::write(&path, bytes).unwrap();
    path
}

/// The next event that ends a file which arrives.
pub(crate) fn arrival(watch: &Process) -> Value {
    loop {
        let event = json(&watch.line_with("\"event\":\"file\""));
        assert_eq!(event["direction"], "in", "{event}");
        if ["received", "failed"].contains(&event["status"].as_str().unwrap()) {
            return event;
        }
    }
}

/// The folder for what arrives.
pub(crate) fn downloads(user: &User) -> PathBuf {
    user.profile.join("downloads")
}

/// Everything in the folder for what arrives, hidden or not.
pub(crate) fn arrived(user: &User) -> Vec<PathBuf> {
    match std::fs::read_dir(downloads(user)) {
        Ok(entries) => entries.map(|entry| entry.unwrap().path()).collect(),
        Err(error) => {
            assert_eq!(error.kind(), std::io::ErrorKind::NotFound);
            Vec::new()
        }
    }
}
