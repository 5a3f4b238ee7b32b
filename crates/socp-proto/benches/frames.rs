//! What it costs to read a direct message off the wire and to write one: `cargo bench -p socp-proto`.

#![allow(clippy::unwrap_used, reason = "a benchmark that cannot go on must fail")]

use divan::{Bencher, black_box};
use socp_proto::payload::DirectMessage;
use socp_proto::{Address, Base64Url, Draft, Frame, Id, KeyText, Payload};

fn main() {
    divan::main();
}

/// A message of so many OAEP blocks.
fn direct(blocks: usize) -> Draft {
    let payload = Payload::MsgDirect(DirectMessage {
        ciphertext: Base64Url::encode(&vec![0x5a; 512 * blocks]),
        sender_pub: KeyText::from_der(&[0x30; 550]),
        content_sig: Base64Url::encode(&[0xa5; 512]),
        home: None,
    });
    let [from, to] = [
        "0f000000-0000-4000-8000-000000000001",
        "0f000000-0000-4000-8000-000000000002",
    ];
    let (from, to) = (Id::try_from(from).unwrap(), Address::try_from(to).unwrap());
    Draft::new(from, to, 1_700_000_000_000, &payload)
}

#[divan::bench(args = [1, 147])]
fn parse(bencher: Bencher<'_, '_>, blocks: usize) {
    let text = direct(blocks).sign(&[0x11; 512]).to_text();
    bencher.bench(|| Frame::parse(black_box(&text)).unwrap());
}

#[divan::bench(args = [1, 147])]
fn canonicalise(bencher: Bencher<'_, '_>, blocks: usize) {
    let draft = direct(blocks);
    bencher.bench(|| black_box(&draft).signed_text());
}

#[divan::bench(args = [1, 147])]
fn write_signed(bencher: Bencher<'_, '_>, blocks: usize) {
    let envelope = direct(blocks).sign(&[0x11; 512]);
    bencher.bench(|| black_box(&envelope).to_text());
}
