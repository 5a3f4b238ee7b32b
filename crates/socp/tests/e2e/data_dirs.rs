//! A server whose private key the test has too, so that it can be made to lie.

use crate::letter_client::{decode, key_case};
use socp_crypto::{PrivateKey, SealedKey, SecretBytes, UnlockSecret};
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::Path;

/// Makes a data directory whose server will have this key out of the vectors.
pub(crate) fn with_key(dir: &Path, key: &str) {
    let pkcs8 = decode(key_case(key)["pkcs8_b64u"].as_str().unwrap());
    let key = PrivateKey::from_pkcs8_der(&pkcs8).unwrap();
    let secret = SecretBytes::random().unwrap();
    let sealed = SealedKey::seal(&key, UnlockSecret::Secret(&secret)).unwrap();
    std::fs::DirBuilder::new().mode(0o700).create(dir).unwrap();
    for (name, bytes) in [
        ("server.key", sealed.to_json().unwrap().as_bytes()),
        ("server.unlock", secret.expose()),
    ] {
        let mut options = std::fs::OpenOptions::new();
        let mut file = options
            .create_new(true)
            .write(true)
            .mode(0o600)
            .open(dir.join(name))
            .unwrap();
        file.write_all(bytes).unwrap();
    }
}
