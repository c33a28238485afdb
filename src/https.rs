//! A small HTTP client for token endpoints and collectors: one request, one connection, one deadline.
//!
//! Owns no retries and no redirects.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::{
    Request, StatusCode, Uri,
    client::conn::http1,
    header::{HOST, HeaderValue},
};
use hyper_util::rt::TokioIo;
use rustls::{ClientConfig, pki_types::ServerName};
use tokio::{task::JoinSet, time::timeout};
use tokio_rustls::TlsConnector;

use crate::{config::shown, tcp, tls};

/// Why there is no response.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The request's URI, without user and query, is no absolute `http` or `https` URI.
    #[error("{0} is not an http:// or https:// address")]
    Uri(String),
    /// Nobody listens, or the name does not resolve.
    #[error("cannot connect to {host}:{port}")]
    Connect {
        /// Host of the URI.
        host: String,
        /// Port of the URI.
        port: u16,
        /// What the system said.
        source: std::io::Error,
    },
    /// The TLS handshake failed.
    #[error("no TLS with {host}:{port}: {why}")]
    Tls {
        /// Host of the URI.
        host: String,
        /// Port of the URI.
        port: u16,
        /// What was wrong, in a clause.
        why: String,
    },
    /// The other side does not speak HTTP, or ended in the middle.
    #[error("no valid HTTP response")]
    Http(#[source] hyper::Error),
    /// The response's body is longer than the limit.
    #[error("the response is longer than {0} bytes")]
    TooLong(usize),
    /// No whole response in time.
    #[error("no response within {0:?}")]
    Timeout(Duration),
}

/// Sends requests. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Client {
    tls: Arc<ClientConfig>,
    authorities: &'static str,
}

impl Client {
    /// A client that trusts as `tls` says; `authorities` is the variable for further authorities, for errors.
    pub fn new(tls: Arc<ClientConfig>, authorities: &'static str) -> Self {
        Self { tls, authorities }
    }

    /// Sends a request with an absolute URI; returns the response's status and its body of at most `limit` bytes.
    ///
    /// # Errors
    ///
    /// When no whole response came within `deadline`. A status such as 500 is none.
    pub async fn send(
        &self,
        request: Request<Full<Bytes>>,
        limit: usize,
        deadline: Duration,
    ) -> Result<(StatusCode, Bytes), Error> {
        timeout(deadline, self.exchange(request, limit, deadline)).await.map_err(|_| Error::Timeout(deadline))?
    }

    async fn exchange(
        &self,
        mut request: Request<Full<Bytes>>,
        limit: usize,
        deadline: Duration,
    ) -> Result<(StatusCode, Bytes), Error> {
        let wrong = |uri: &Uri| Error::Uri(shown(&uri.to_string()));
        let (secure, host, port) = target(request.uri()).ok_or_else(|| wrong(request.uri()))?;
        let connect = |source| Error::Connect { host: host.clone(), port, source };
        let bracketed = if host.contains(':') { format!("[{host}]") } else { host.clone() };
        let tcp = tcp::connect(&format!("{bracketed}:{port}"), deadline).await.map_err(connect)?;
        if let Some(authority) = request.uri().authority() {
            let value = authority.as_str().rsplit('@').next().unwrap_or_default();
            let value = HeaderValue::from_str(value).map_err(|_| wrong(request.uri()))?;
            request.headers_mut().entry(HOST).or_insert(value);
        }
        if let Some(path) = request.uri().path_and_query().cloned() {
            *request.uri_mut() = Uri::from(path);
        }
        if !secure {
            return converse(TokioIo::new(tcp), request, limit).await;
        }
        let failed = |why| Error::Tls { host: host.clone(), port, why };
        let name = ServerName::try_from(host.clone()).map_err(|error| failed(error.to_string()))?;
        let stream = TlsConnector::from(Arc::clone(&self.tls)).connect(name, tcp).await;
        let stream = stream.map_err(|error| failed(tls::explain(&error, self.authorities)))?;
        converse(TokioIo::new(stream), request, limit).await
    }
}

/// Whether it is TLS, the host without brackets, and the port.
fn target(uri: &Uri) -> Option<(bool, String, u16)> {
    let secure = match uri.scheme_str()? {
        "https" => true,
        "http" => false,
        _ => return None,
    };
    let host = uri.host().filter(|host| !host.is_empty())?.trim_matches(['[', ']']).to_owned();
    Some((secure, host, uri.port_u16().unwrap_or(if secure { 443 } else { 80 })))
}

async fn converse<S>(
    stream: TokioIo<S>,
    request: Request<Full<Bytes>>,
    limit: usize,
) -> Result<(StatusCode, Bytes), Error>
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
{
    let (mut sender, connection) = http1::handshake(stream).await.map_err(Error::Http)?;
    // dropped at the end, and the connection with it
    let mut driver = JoinSet::new();
    driver.spawn(connection);
    let response = sender.send_request(request).await.map_err(Error::Http)?;
    let status = response.status();
    let body = Limited::new(response.into_body(), limit).collect().await;
    let body = body.map_err(|error| match error.downcast::<hyper::Error>() {
        Ok(error) => Error::Http(*error),
        Err(other) => {
            debug_assert!(other.is::<LengthLimitError>(), "{other}");
            Error::TooLong(limit)
        }
    })?;
    Ok((status, body.to_bytes()))
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpListener,
    };

    use super::*;

    fn client() -> Client {
        Client::new(tls::Settings::default().client_config().expect("no files"), "X_CA_FILE")
    }

    /// Answers one request with `answer`, and returns what was asked.
    async fn answer(answer: &'static str) -> (u16, tokio::task::JoinHandle<String>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = listener.local_addr().expect("bound").port();
        let asked = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.expect("a connection");
            let mut asked = Vec::new();
            while !asked.ends_with(b"q=1") {
                assert_ne!(stream.read_buf(&mut asked).await.expect("a request"), 0);
            }
            stream.write_all(answer.as_bytes()).await.expect("written");
            String::from_utf8(asked).expect("text")
        });
        (port, asked)
    }

    fn post(uri: String) -> Request<Full<Bytes>> {
        Request::post(uri).body(Full::from("q=1")).expect("a valid request")
    }

    #[tokio::test]
    async fn posts_and_returns_status_and_body() {
        let (port, asked) = answer("HTTP/1.1 401 Unauthorized\r\ncontent-length: 5\r\n\r\nnever").await;
        let request = post(format!("http://localhost:{port}/token?a=b"));
        let (status, body) = client().send(request, 10, Duration::from_secs(5)).await.expect("a response");
        assert_eq!((status, &body[..]), (StatusCode::UNAUTHORIZED, &b"never"[..]));
        let asked = asked.await.expect("served");
        assert!(asked.starts_with("POST /token?a=b HTTP/1.1\r\n"), "{asked}");
        assert!(asked.contains(&format!("host: localhost:{port}\r\n")), "{asked}");
    }

    #[tokio::test]
    async fn a_long_answer_a_silent_server_and_a_wrong_address_are_errors() {
        let (port, _) = answer("HTTP/1.1 200 OK\r\ncontent-length: 11\r\n\r\n01234567890").await;
        let long = client().send(post(format!("http://127.0.0.1:{port}/")), 10, Duration::from_secs(5)).await;
        assert!(matches!(long, Err(Error::TooLong(10))), "{long:?}");
        let silent = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = silent.local_addr().expect("bound").port();
        let request = post(format!("http://127.0.0.1:{port}/"));
        let none = client().send(request, 10, Duration::from_millis(50)).await;
        assert!(matches!(none, Err(Error::Timeout(_))), "{none:?}");
        let wrong = client().send(post("ftp://localhost/".to_owned()), 10, Duration::from_secs(5)).await;
        assert!(matches!(wrong, Err(Error::Uri(_))), "{wrong:?}");
        let plain = answer("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await;
        let tls = client().send(post(format!("https://127.0.0.1:{}/", plain.0)), 10, Duration::from_millis(500)).await;
        assert!(matches!(tls, Err(Error::Tls { .. } | Error::Timeout(_))), "{tls:?}");
    }
}
