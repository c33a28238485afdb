//! `postlane healthcheck`: asks a running service whether it is ready, or whether it lives.
//!
//! For a container without a shell. Needs no setting but `HTTP_ADDR`, no runtime, and answers within three seconds.

use std::{
    io::{self, Read, Write},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream},
    time::{Duration, Instant},
};

use clap::Args;
use serde_json::Value;

use super::{exit::Exit, variables};

const EXAMPLES: &str = "\
Examples:
  postlane healthcheck            # does it work? for alarms and traffic
  postlane healthcheck --live     # does it make progress? if not, restart it";

/// Time for the whole question.
const TIMEOUT: Duration = Duration::from_secs(3);
/// Bytes of an answer that are read.
const LARGEST: u64 = 1024 * 1024;

#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Arguments {
    /// Ask whether it makes progress (`/livez`), where a failure means a restart
    #[arg(long)]
    live: bool,
}

/// What is asked.
#[derive(Debug, Clone, Copy)]
struct Question {
    path: &'static str,
    yes: &'static str,
    no: &'static str,
}

const READY: Question = Question { path: "/readyz", yes: "ready", no: "not ready" };
const LIVE: Question = Question { path: "/livez", yes: "live", no: "not live" };

pub(super) fn run(arguments: &Arguments) -> Exit {
    let question = if arguments.live { LIVE } else { READY };
    let address = match postlane::config::http_addr(variables()) {
        Ok(Some(address)) => reachable(address),
        Ok(None) => {
            return fail(
                "HTTP_ADDR is off: there is nobody to ask; take the health check out, or give HTTP_ADDR an address",
            );
        }
        Err(error) => return fail(&error.to_string()),
    };
    match ask(address, question.path) {
        Err(error) => fail(&format!("no answer from {address}: {error}")),
        Ok(answer) => match judge(&answer) {
            Ok(()) => {
                // who reads it may be gone; the exit status says it all
                let _ = writeln!(io::stdout(), "{}", question.yes);
                Exit::Done
            }
            Err(reasons) => fail(&format!("{}: {reasons}", question.no)),
        },
    }
}

fn fail(why: &str) -> Exit {
    // docker keeps what is said on either stream; a line is a line
    let _ = writeln!(io::stdout(), "{}", why.replace(['\r', '\n'], " "));
    Exit::Failed
}

/// Where a service that listens on this address is reached from the same host.
fn reachable(mut address: SocketAddr) -> SocketAddr {
    match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => address.set_ip(Ipv4Addr::LOCALHOST.into()),
        IpAddr::V6(ip) if ip.is_unspecified() => address.set_ip(Ipv6Addr::LOCALHOST.into()),
        IpAddr::V4(_) | IpAddr::V6(_) => {}
    }
    address
}

/// The whole answer to `GET` of a path.
fn ask(address: SocketAddr, path: &str) -> io::Result<Vec<u8>> {
    let deadline = Instant::now() + TIMEOUT;
    let left = || {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() { Err(too_late()) } else { Ok(left) }
    };
    let mut stream = TcpStream::connect_timeout(&address, left()?)?;
    stream.set_write_timeout(Some(left()?))?;
    stream.write_all(format!("GET {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n").as_bytes())?;
    let (mut answer, mut buffer) = (Vec::new(), [0; 4096]);
    while (answer.len() as u64) < LARGEST {
        stream.set_read_timeout(Some(left()?))?;
        match stream.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => answer.extend_from_slice(&buffer[..count]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {
                return Err(too_late());
            }
            Err(error) => return Err(error),
        }
    }
    Ok(answer)
}

fn too_late() -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, format!("not within {TIMEOUT:?}"))
}

/// What an answer says: yes, or the reasons why not.
fn judge(answer: &[u8]) -> Result<(), String> {
    let text = String::from_utf8_lossy(answer);
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
    let status = head.strip_prefix("HTTP/1.").and_then(|rest| rest.split(' ').nth(1)).unwrap_or_default();
    if status == "200" {
        return Ok(());
    }
    let body: Value = serde_json::from_str(body).unwrap_or_default();
    let reasons: Vec<&str> = body["reasons"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    if reasons.is_empty() {
        let line = head.lines().next().unwrap_or_default();
        return Err(format!("the answer was {line:?}"));
    }
    Err(reasons.join("; "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_that_listens_everywhere_is_asked_on_loopback() {
        for (listens, asked) in [
            ("0.0.0.0:8081", "127.0.0.1:8081"),
            ("[::]:8081", "[::1]:8081"),
            ("10.1.2.3:80", "10.1.2.3:80"),
            ("[::1]:80", "[::1]:80"),
        ] {
            let address = reachable(listens.parse().expect("an address"));
            assert_eq!(address.to_string(), asked);
        }
    }

    #[test]
    fn an_answer_is_ready_or_says_why_not() {
        assert_eq!(judge(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}"), Ok(()));
        let body = br#"{"ready":false,"reasons":["broker: gone","relay: down"]}"#;
        let answer = [b"HTTP/1.1 503 Service Unavailable\r\n\r\n".as_slice(), body].concat();
        assert_eq!(judge(&answer), Err("broker: gone; relay: down".to_owned()));
        for answer in
            ["", "HTTP/1.1 404 Not Found\r\n\r\nhere are", "SSH-2.0-x\r\n", "200", "HTTP/1.1 503 x\r\n\r\n[1]"]
        {
            assert!(judge(answer.as_bytes()).is_err(), "{answer}");
        }
    }
}
