//! RSA-4096 signatures and encryption, key files, secrets.
