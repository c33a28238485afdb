#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;

/// Answers as it is told.
struct Fake(bool);

impl Endpoints for Fake {
    fn live(&self) -> (bool, String) {
        (true, "{\"live\":true}".to_owned())
    }

    fn ready(&self) -> (bool, String) {
        (self.0, format!("{{\"ready\":{}}}", self.0))
    }

    fn metrics(&self, open_metrics: bool) -> String {
        format!("open {open_metrics}\n")
    }
}

async fn serve(ready: bool) -> SocketAddr {
    let server = Server::bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let address = server.address();
    tokio::spawn(server.run(Arc::new(Fake(ready))));
    address
}

/// Head and body of the answer.
async fn ask(address: SocketAddr, request: &str) -> (String, String) {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    (head.to_owned(), body.to_owned())
}

async fn request(address: SocketAddr, method: &str, path: &str, more: &str) -> (String, String) {
    ask(address, &format!("{method} {path} HTTP/1.1\r\nhost: x\r\n{more}\r\n")).await
}

#[tokio::test]
async fn states_are_statuses() {
    for (ready, status) in [(true, "HTTP/1.1 200 OK"), (false, "HTTP/1.1 503 Service Unavailable")] {
        let address = serve(ready).await;
        let (head, body) = request(address, "GET", "/readyz?verbose", "").await;
        assert!(head.starts_with(status) && head.contains("content-type: application/json"), "{head}");
        assert_eq!(body, format!("{{\"ready\":{ready}}}"));
        let (head, body) = request(address, "GET", "/livez", "").await;
        assert!(head.starts_with("HTTP/1.1 200 OK"), "{head}");
        assert_eq!(body, "{\"live\":true}");
    }
}

#[tokio::test]
async fn metrics_come_in_the_format_that_is_asked_for() {
    let address = serve(true).await;
    let (head, body) = request(address, "GET", "/metrics", "").await;
    assert!(head.contains("content-type: text/plain; version=0.0.4; charset=utf-8"), "{head}");
    assert_eq!(body, "open false\n");
    let accept = "Accept: application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.2\r\n";
    let (head, body) = request(address, "GET", "/metrics", accept).await;
    assert!(head.contains("content-type: application/openmetrics-text; version=1.0.0; charset=utf-8"), "{head}");
    assert_eq!(body, "open true\n");
}

#[tokio::test]
async fn only_three_paths_are_there_to_be_read() {
    let address = serve(true).await;
    for (method, path, status) in [
        ("GET", "/", "404"),
        ("GET", "/livez/", "404"),
        ("POST", "/nothing", "404"),
        ("POST", "/livez", "405"),
        ("DELETE", "/metrics", "405"),
        ("HEAD", "/readyz", "200"),
    ] {
        let (head, body) = request(address, method, path, "").await;
        assert!(head.starts_with(&format!("HTTP/1.1 {status}")), "{method} {path}: {head}");
        assert_eq!(head.contains("allow: GET, HEAD"), status == "405", "{head}");
        assert_eq!(body.is_empty(), method == "HEAD", "{body}");
    }
}

#[tokio::test]
async fn rubbish_is_refused_and_a_long_head_has_an_end() {
    let address = serve(true).await;
    let (head, _) = ask(address, "\x16\x03\x01 not http\r\n\r\n").await;
    assert!(head.starts_with("HTTP/1.1 400"), "{head}");
    let (head, _) = request(address, "GET", "/livez", &format!("x: {}\r\n", "y".repeat(BUFFER))).await;
    assert!(head.starts_with("HTTP/1.1 431"), "{head}");
    let (head, _) = request(address, "GET", "/livez", "").await;
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
}

#[tokio::test(start_paused = true)]
async fn a_client_that_sends_nothing_more_is_closed() {
    let address = serve(true).await;
    for begun in ["", "GET /livez HT", "GET /livez HTTP/1.1\r\nhost: x\r\n"] {
        let since = tokio::time::Instant::now();
        let (head, _) = ask(address, begun).await;
        assert!(!head.contains("200"), "{head}");
        assert!(since.elapsed() <= CONNECTION_TIMEOUT, "{:?}", since.elapsed());
    }
}

#[tokio::test]
async fn clients_that_hold_on_keep_nobody_out() {
    let address = serve(true).await;
    let mut holding = Vec::new();
    for _ in 0..2 * CONNECTIONS {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(b"GET /livez HTTP/1.1\r\n").await.unwrap();
        holding.push(stream);
    }
    let since = std::time::Instant::now();
    let (head, _) = request(address, "GET", "/livez", "").await;
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    // the first ones are closed, long before their time is up, and the last ones are not
    assert_eq!(holding[0].read(&mut [0; 16]).await.unwrap_or(0), 0);
    assert!(since.elapsed() < HEADER_TIMEOUT / 2, "they had to be waited for");
    assert!(holding[2 * CONNECTIONS - 1].try_read(&mut [0; 16]).is_err());
}

#[tokio::test]
async fn an_address_in_use_is_named() {
    let taken = serve(true).await;
    let error = crate::chain::chain(&Server::bind(taken).await.unwrap_err());
    assert!(error.starts_with(&format!("HTTP_ADDR={taken}: cannot listen there: Address already in use")), "{error}");
}

/// Has a lot to say.
struct Talker;

impl Endpoints for Talker {
    fn live(&self) -> (bool, String) {
        (true, String::new())
    }

    fn ready(&self) -> (bool, String) {
        (true, String::new())
    }

    fn metrics(&self, _open_metrics: bool) -> String {
        "m".repeat(16 << 20)
    }
}

#[tokio::test]
async fn an_answer_that_has_begun_is_not_cut_for_clients_that_hold_on() {
    let server = Server::bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let address = server.address();
    tokio::spawn(server.run(Arc::new(Talker)));
    let mut reader = TcpStream::connect(address).await.unwrap();
    reader.write_all(b"GET /metrics HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    reader.readable().await.unwrap();
    let mut holding = Vec::new();
    for _ in 0..2 * CONNECTIONS {
        holding.push(TcpStream::connect(address).await.unwrap());
    }
    assert_eq!(holding[0].read(&mut [0; 16]).await.unwrap_or(0), 0, "it had to go");
    let mut answer = Vec::new();
    reader.read_to_end(&mut answer).await.unwrap();
    assert!(answer.len() > 16 << 20, "{} bytes", answer.len());
}

#[tokio::test]
async fn two_hundred_probes_at_once_are_all_answered() {
    let address = serve(true).await;
    let asking = (0..200).map(|_| request(address, "GET", "/livez", ""));
    for (head, _) in futures::future::join_all(asking).await {
        assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    }
}
