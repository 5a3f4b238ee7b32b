//! What a content signature costs: `cargo bench -p socp-crypto`.

#![allow(clippy::unwrap_used, reason = "a benchmark that cannot go on must fail")]

use data_encoding::BASE64URL_NOPAD;
use divan::{Bencher, black_box};
use socp_crypto::{ContentParts, PrivateKey, sign_content, verify_content};

fn main() {
    divan::main();
}

fn parts(ciphertext: &str) -> ContentParts<'_> {
    ContentParts {
        ciphertext,
        from: "0f000000-0000-4000-8000-000000000001",
        to: "0f000000-0000-4000-8000-000000000002",
        ts: 1_700_000_000_000,
    }
}

#[divan::bench]
fn sign(bencher: Bencher<'_, '_>) {
    let key = PrivateKey::generate().unwrap();
    let ciphertext = BASE64URL_NOPAD.encode(&[0x5a; 512]);
    bencher.bench(|| sign_content(&key, black_box(parts(&ciphertext))).unwrap());
}

#[divan::bench]
fn verify(bencher: Bencher<'_, '_>) {
    let key = PrivateKey::generate().unwrap();
    let ciphertext = BASE64URL_NOPAD.encode(&[0x5a; 512]);
    let signature = sign_content(&key, parts(&ciphertext)).unwrap();
    bencher.bench(|| verify_content(key.public_key(), black_box(parts(&ciphertext)), &signature).unwrap());
}

/// A signature that fits none of the forms that programs sign.
#[divan::bench]
fn refuse(bencher: Bencher<'_, '_>) {
    let key = PrivateKey::generate().unwrap();
    let ciphertext = BASE64URL_NOPAD.encode(&[0x5a; 512]);
    let signature = [0x11; 512];
    bencher.bench(|| verify_content(key.public_key(), black_box(parts(&ciphertext)), &signature).is_err());
}
