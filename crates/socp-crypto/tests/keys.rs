//! Signing, verifying, sealing and opening through the public API.

#![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

use socp_proto::{Delegation, ServerId};
use std::sync::OnceLock;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{RSA_PSS_SHA256, RsaKeyPair, RsaPssSaltLength, RsaSignatureEncoding};
use socp_crypto::content::sign_content_as;
use socp_crypto::{
    ContentParts, ContentScheme, CryptoError, DelegateKey, DelegatePublicKey, KeyFault, PrivateKey, PublicKey,
    sign_content, verify_content,
};

#[test]
fn generated_key_keeps_the_rules_and_round_trips() {
    let der = key().to_pkcs8_der().unwrap();
    let again = PrivateKey::from_pkcs8_der(der.expose()).unwrap();
    assert_eq!(again.public_key(), key().public_key());
    assert_eq!(again.to_pkcs8_der().unwrap(), der);
    assert_eq!(key().public_key().spki_der().len(), 550);
}

#[test]
fn debug_output_is_the_fingerprint() {
    let fingerprint = data_encoding::HEXLOWER.encode(&key().public_key().fingerprint());
    assert_eq!(format!("{:?}", key()), format!("PrivateKey({fingerprint})"));
    assert_eq!(format!("{:?}", key().public_key()), format!("PublicKey({fingerprint})"));
}

#[test]
fn a_delegate_speaks_for_the_server_that_signed_its_delegation_alone() {
    let server_id = ServerId::try_from("srv").unwrap();
    let delegate = DelegateKey::generate().unwrap();
    let delegation = delegate.delegation(key(), &server_id, 1_000, 2_000).unwrap();
    let public = DelegatePublicKey::of(&delegation, key().public_key()).unwrap();
    let sig = delegate.sign(b"frame").unwrap();
    assert_eq!(public.verify(b"frame", &sig), Ok(()));
    assert_eq!(public.verify(b"framf", &sig), Err(CryptoError::BadSignature));
    let other = DelegateKey::generate().unwrap();
    assert_eq!(
        public.verify(b"frame", &other.sign(b"frame").unwrap()),
        Err(CryptoError::BadSignature)
    );

    let stranger = PrivateKey::generate().unwrap();
    let refused = |delegation: &Delegation, server: &PrivateKey| {
        DelegatePublicKey::of(delegation, server.public_key()).err() == Some(CryptoError::BadSignature)
    };
    assert!(refused(&delegation, &stranger));
    let of_other = other.delegation(key(), &server_id, 1_000, 2_000).unwrap();
    let changes: [fn(&mut Delegation, &Delegation); 4] = [
        |delegation, of_other| delegation.key = of_other.key,
        |delegation, _| delegation.not_after += 1,
        |delegation, _| delegation.server_id = ServerId::try_from("srw").unwrap(),
        |delegation, _| {
            delegation.extra.insert("more".to_owned(), 1.into());
        },
    ];
    for change in changes {
        let mut changed = delegation.clone();
        change(&mut changed, &of_other);
        assert!(refused(&changed, key()), "{changed:?}");
    }
}

#[test]
fn signature_covers_message_and_key() {
    let public = key().public_key();
    let signature = key().sign(b"message").unwrap();
    assert_eq!(public.verify(b"message", &signature), Ok(()));
    assert_eq!(public.verify(b"messagf", &signature), Err(CryptoError::BadSignature));
    assert_eq!(
        public.verify(b"message", &signature[1..]),
        Err(CryptoError::BadSignature)
    );
    assert_eq!(public.verify(b"message", &[]), Err(CryptoError::BadSignature));
    for index in [0, 255, 511] {
        let mut tampered = signature;
        tampered[index] ^= 1;
        assert_eq!(public.verify(b"message", &tampered), Err(CryptoError::BadSignature));
    }
}

#[test]
fn every_salt_length_verifies_in_any_order() {
    let public = fresh(key().public_key());
    let pair = RsaKeyPair::from_pkcs8(key().to_pkcs8_der().unwrap().expose()).unwrap();
    for encoding in [
        &SALT_0, &SALT_20, &SALT_32, &SALT_MAX, &SALT_MAX, &SALT_0, &SALT_32, &SALT_20, &SALT_MAX,
    ] {
        let mut signature = [0; 512];
        pair.sign(encoding, &SystemRandom::new(), b"message", &mut signature)
            .unwrap();
        assert_eq!(public.verify(b"message", &signature), Ok(()), "{encoding:?}");
        assert_eq!(
            public.verify(b"other", &signature),
            Err(CryptoError::BadSignature),
            "{encoding:?}"
        );
    }
}

#[test]
fn sealing_cuts_at_446_bytes() {
    for (length, blocks) in [(0, 1), (1, 1), (446, 1), (447, 2), (892, 2), (893, 3)] {
        let plaintext: Vec<u8> = (0..=255).cycle().take(length).collect();
        let ciphertext = key().public_key().seal(&plaintext).unwrap();
        assert_eq!(ciphertext.len(), 512 * blocks);
        assert_eq!(key().open(&ciphertext, length).unwrap().expose(), plaintext);
    }
}

#[test]
fn opening_is_bounded_by_the_plaintext_wanted() {
    let two_blocks = key().public_key().seal(&[7; 447]).unwrap();
    assert_eq!(
        key().open(&two_blocks, 446),
        Err(CryptoError::TooLong { len: 1024, max: 512 })
    );
    // Within the same number of blocks the excess shows only after decryption.
    let one_block = key().public_key().seal(&[7; 10]).unwrap();
    assert_eq!(key().open(&one_block, 9), Err(CryptoError::TooLong { len: 10, max: 9 }));
    assert_eq!(key().open(&one_block, 10).unwrap().expose(), [7; 10]);
    assert_eq!(key().open(&one_block, usize::MAX).unwrap().expose(), [7; 10]);
}

#[test]
fn damaged_ciphertexts_do_not_open() {
    let ciphertext = key().public_key().seal(&[7; 447]).unwrap();
    for index in [0, 511, 512, 1023] {
        let mut tampered = ciphertext.clone();
        tampered[index] ^= 1;
        assert_eq!(key().open(&tampered, 1000), Err(CryptoError::Decrypt));
    }
    for cut in [
        &ciphertext[..0],
        &ciphertext[..1],
        &ciphertext[..511],
        &ciphertext[..513],
    ] {
        assert_eq!(key().open(cut, 1000), Err(CryptoError::Decrypt));
    }
}

#[test]
fn content_signature_covers_every_part() {
    let parts = ContentParts {
        ciphertext: "AAEC",
        from: "alice",
        to: "bob",
        ts: 7,
    };
    let signature = sign_content(key(), parts).unwrap();
    let public = key().public_key();
    assert_eq!(verify_content(public, parts, &signature), Ok(ContentScheme::OURS));
    for changed in [
        ContentParts {
            ciphertext: "AAED",
            ..parts
        },
        ContentParts {
            from: "mallory",
            ..parts
        },
        ContentParts { to: "carol", ..parts },
        ContentParts { ts: 8, ..parts },
    ] {
        assert_eq!(
            verify_content(public, changed, &signature),
            Err(CryptoError::BadSignature)
        );
    }
}

#[test]
fn each_scheme_is_recognised() {
    let parts = ContentParts {
        ciphertext: "AAEC",
        from: "alice",
        to: "bob",
        ts: 7,
    };
    for scheme in ContentScheme::ALL {
        let signature = sign_content_as(key(), parts, scheme).unwrap();
        assert_eq!(verify_content(key().public_key(), parts, &signature), Ok(scheme));
    }
}

#[test]
fn ciphertext_without_raw_form_is_verified_in_the_other_schemes() {
    let parts = ContentParts {
        ciphertext: "no base64url!",
        from: "alice",
        to: "bob",
        ts: 7,
    };
    for scheme in ContentScheme::ALL {
        let Ok(signature) = sign_content_as(key(), parts, scheme) else {
            continue;
        };
        assert_eq!(verify_content(key().public_key(), parts, &signature), Ok(scheme));
    }
    assert_eq!(
        verify_content(key().public_key(), parts, &[0; 512]),
        Err(CryptoError::BadSignature)
    );
}

#[test]
fn private_keys_are_held_to_the_same_rules() {
    let refused = |der: &[u8]| PrivateKey::from_pkcs8_der(der).map(drop).unwrap_err();
    let small = RsaKeyPair::generate(aws_lc_rs::rsa::KeySize::Rsa2048).unwrap();
    let small: aws_lc_rs::encoding::Pkcs8V1Der<'_> = aws_lc_rs::encoding::AsDer::as_der(&small).unwrap();
    assert_eq!(refused(small.as_ref()), KeyFault::ModulusBits(2048).into());
    let message = refused(small.as_ref()).to_string();
    assert_eq!(
        message,
        "unacceptable key: RSA modulus has 2048 bits; exactly 4096 are required"
    );

    let der = key().to_pkcs8_der().unwrap();
    let with_tail = [der.expose(), &[0]].concat();
    assert_eq!(refused(&with_tail), KeyFault::Encoding.into());
    assert_eq!(refused(&der.expose()[1..]), KeyFault::Encoding.into());
    assert_eq!(refused(b""), KeyFault::Encoding.into());
    assert_eq!(refused(key().public_key().spki_der()), KeyFault::Encoding.into());

    let ed25519 = aws_lc_rs::signature::Ed25519KeyPair::generate()
        .unwrap()
        .to_pkcs8v1()
        .unwrap();
    assert_eq!(refused(ed25519.as_ref()), KeyFault::Algorithm.into());
    // One bit of the last number of the document, the CRT coefficient.
    let mut inconsistent = der.expose().to_vec();
    *inconsistent.last_mut().unwrap() ^= 1;
    assert_eq!(refused(&inconsistent), KeyFault::Numbers.into());
}

/// The same key without what it has learnt about salts.
fn fresh(key: &PublicKey) -> PublicKey {
    PublicKey::from_spki_der(key.spki_der()).unwrap()
}

/// One key for the whole file: making one takes about a second.
fn key() -> &'static PrivateKey {
    static KEY: OnceLock<PrivateKey> = OnceLock::new();
    KEY.get_or_init(|| PrivateKey::generate().unwrap())
}

static SALT_0: RsaSignatureEncoding = RSA_PSS_SHA256.with_pss_salt_length(RsaPssSaltLength::Custom(0));
static SALT_20: RsaSignatureEncoding = RSA_PSS_SHA256.with_pss_salt_length(RsaPssSaltLength::Custom(20));
static SALT_32: RsaSignatureEncoding = RSA_PSS_SHA256;
static SALT_MAX: RsaSignatureEncoding = RSA_PSS_SHA256.with_pss_salt_length(RsaPssSaltLength::Max);
