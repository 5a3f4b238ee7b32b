//! What the tests of both directions of a file share.

use super::super::testkit::key;
use super::super::*;
use socp_proto::Base64Url;
use socp_proto::payload::{FileEnd, FileStatus};

pub(super) fn source(size: u64) -> Source {
    Source {
        name: "photo.png".to_owned(),
        size,
        sha256: "0".repeat(64),
    }
}

pub(super) fn status_of(file_id: &str, status: FileStatus, detail: Option<&str>) -> Payload {
    Payload::FileEnd(FileEnd {
        file_id: file_id.to_owned(),
        status: Some(status),
        detail: detail.map(str::to_owned),
        sender_pub: Some(key(2)),
        content_sig: Some(Base64Url::encode(&[5; 8])),
    })
}
