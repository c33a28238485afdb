//! Who is answered, and how the preview starts and ends.

use std::{
    io::{Read as _, Write as _},
    net::TcpStream,
    process::Command,
};

use crate::{Preview, Templates};

/// The answer to a request, as it comes; the last field of the head is `connection: close`.
fn ask(address: &str, request: &str) -> String {
    let mut stream = TcpStream::connect(address.trim_start_matches("http://")).expect("it listens");
    stream.write_all(request.as_bytes()).expect("it reads");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("it answers in UTF-8");
    answer
}

fn get(address: &str, path: &str, fields: &str) -> String {
    ask(address, &format!("GET {path} HTTP/1.1\r\n{fields}connection: close\r\n\r\n"))
}

fn status(answer: &str) -> &str {
    answer.split(' ').nth(1).unwrap_or_default()
}

#[tokio::test]
async fn only_the_previews_own_pages_are_answered() {
    let templates = Templates::new(&[]);
    let preview = Preview::start(&templates).await;
    let at = preview.address.as_str();
    let page = get(at, "/", "host: localhost\r\n");
    assert_eq!(status(&page), "200");
    for field in [
        "content-security-policy: default-src 'none'; script-src 'self'",
        "x-content-type-options: nosniff",
        "cross-origin-resource-policy: same-origin",
        "cache-control: no-store",
    ] {
        assert!(page.contains(field), "{field}: {page}");
    }
    // a name that somebody has led to this machine
    for fields in ["host: evil.example\r\n", "host: 10.0.0.1\r\n", ""] {
        assert_ne!(status(&get(at, "/api/templates", fields)), "200", "{fields}");
    }
    let refused = get(at, "/api/templates", "host: evil.example\r\n");
    assert!(status(&refused) == "421" && !refused.contains("welcome"), "{refused}");
    // a page from elsewhere that asks by the right name
    let foreign =
        "host: localhost\r\nsec-fetch-site: cross-site\r\nsec-fetch-mode: no-cors\r\nsec-fetch-dest: script\r\n";
    assert_eq!(status(&get(at, "/api/templates", foreign)), "403");
    let link =
        "host: localhost\r\nsec-fetch-site: cross-site\r\nsec-fetch-mode: navigate\r\nsec-fetch-dest: document\r\n";
    assert_eq!(status(&get(at, "/", link)), "200");

    let wish = r#"{"template":"welcome"}"#;
    let post = |kind: &str| {
        let length = wish.len();
        let head =
            format!("POST /api/render HTTP/1.1\r\nhost: localhost\r\ncontent-type: {kind}\r\ncontent-length: {length}");
        ask(at, &format!("{head}\r\nconnection: close\r\n\r\n{wish}"))
    };
    assert_eq!(status(&post("text/plain")), "415");
    let shown = post("application/json");
    assert!(status(&shown) == "200" && shown.contains("\"subject\":\"Welcome, Zoë\""), "{shown}");
    let mail = get(at, "/rendered/1/mail.html", "host: localhost\r\n");
    assert!(
        status(&mail) == "200" && mail.contains("sandbox allow-same-origin") && !mail.contains("script-src"),
        "{mail}"
    );
    for path in ["/rendered/2/mail.html", "/rendered/1/../../etc/passwd", "/rendered/x/mail.eml", "/nope"] {
        assert_eq!(status(&get(at, path, "host: localhost\r\n")), "404", "{path}");
    }
    assert_eq!(status(&get(at, "/api/render", "host: localhost\r\n")), "405");
    assert_eq!(preview.interrupt().await, Some(0));
}

#[test]
fn an_address_that_others_reach_has_to_be_meant() {
    let output = Command::new(env!("CARGO_BIN_EXE_postlane"))
        .env_clear()
        .args(["templates", "preview", "--listen", "0.0.0.0:0"])
        .output()
        .expect("the program");
    assert_eq!(output.status.code(), Some(2));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("--allow-remote"), "{said}");
}
