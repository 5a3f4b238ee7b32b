//! What a plain HTTP request gets.

use crate::process::Served;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;

pub(crate) fn get(address: &str, path: &str, headers: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n{headers}\r\n"
    )
    .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn health_and_the_page_answer_and_foreign_pages_may_not_connect() {
    let dir = tempfile::tempdir().unwrap();
    let server = Served::start(dir.path(), "srv-x", &["--allow-origin", "https://chat.example"]);
    let address = server.address();
    assert!(get(address, "/healthz", "").starts_with("HTTP/1.1 200"));
    assert!(get(address, "/readyz", "").starts_with("HTTP/1.1 200"));
    assert!(get(address, "/nothing", "").starts_with("HTTP/1.1 404"));
    let page = get(address, "/", "");
    assert!(page.contains("srv-x") && page.contains(&server.server_id), "{page}");

    let upgrade = |origin: &str| {
        let key = "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n";
        let mut stream = TcpStream::connect(address).unwrap();
        let request = format!(
            "GET /any/path HTTP/1.1\r\nHost: {address}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n{key}{origin}\r\n"
        );
        stream.write_all(request.as_bytes()).unwrap();
        let mut status = [0; 12];
        stream.read_exact(&mut status).unwrap();
        String::from_utf8_lossy(&status).into_owned()
    };
    assert_eq!(upgrade(""), "HTTP/1.1 101");
    assert_eq!(upgrade(&format!("Origin: http://{address}\r\n")), "HTTP/1.1 101");
    assert_eq!(upgrade("Origin: https://chat.example\r\n"), "HTTP/1.1 101");
    assert_eq!(upgrade("Origin: https://evil.example\r\n"), "HTTP/1.1 403");
}
