//! What is told of a password that may or may not be set (PROTOCOL II.9).

use super::super::testkit::*;
use super::super::*;
use socp_proto::payload::{Ack, KeptIdentity, OPAQUE, PasswordRecord, RegisterFinish, RegistrationRequest};
use socp_proto::{Base64Url, Capabilities};

fn kit() -> Kit {
    let mut kit = Kit::new(Some(server_pin()));
    kit.input(Input::Connected { tls: None });
    let ack = Ack {
        caps: Some(Capabilities::of(&[OPAQUE]).unwrap()),
        ..ack(SERVER, 200)
    };
    kit.server_says(Payload::Ack(ack));
    kit
}

fn lost(kit: &mut Kit) -> Vec<Event> {
    let reason = "gone".to_owned();
    events(kit.input(Input::Disconnected { reason }))
}

#[test]
fn a_link_that_breaks_says_whether_the_password_may_be_set() {
    let mut begun = kit();
    let request = RegistrationRequest::try_from([1; 32].as_slice()).unwrap();
    begun.input(Input::Command(Command::BeginPassword { ticket: 1, request }));
    let told = lost(&mut begun);
    let is_not_set = |event: &Event| {
        matches!(
            event,
            Event::PasswordBegun {
                ticket: 1,
                result: Err(PasswordFault::NotOnline)
            }
        )
    };
    assert!(told.iter().any(is_not_set), "{told:?}");

    let mut finished = kit();
    let finish = Box::new(RegisterFinish {
        record: PasswordRecord::try_from([1; 192].as_slice()).unwrap(),
        sealed: KeptIdentity {
            ciphertext: Base64Url::encode(&[1; 40]),
            iv: Base64Url::encode(&[1; 12]),
            v: 1,
        },
    });
    finished.input(Input::Command(Command::FinishPassword { ticket: 2, finish }));
    let told = lost(&mut finished);
    let may_be_set = |event: &Event| {
        matches!(
            event,
            Event::PasswordSet {
                ticket: 2,
                result: Err(PasswordFault::NoAnswer)
            }
        )
    };
    assert!(told.iter().any(may_be_set), "{told:?}");
}
