//! The web server of the preview: routes, what a browser may do with the answers, and who may ask.
//!
//! It shows what people write before it is published, on a machine where other pages are open: a page from elsewhere must
//! neither read it (the Host field is checked against DNS rebinding, nothing is shared across origins) nor run anything by way
//! of it (no scripts in mails, none but ours in the page).

use std::{convert::Infallible, net::IpAddr, sync::Arc, time::Duration};

use bytes::Bytes;
use futures::stream;
use http_body_util::{BodyExt as _, Full, Limited, StreamBody, combinators::UnsyncBoxBody};
use hyper::{
    Method, Request, Response, StatusCode,
    body::{Frame, Incoming},
    header::{
        ALLOW, CACHE_CONTROL, CONTENT_DISPOSITION, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HOST, HeaderName,
        HeaderValue, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS,
    },
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{net::TcpListener, task::JoinSet, time::timeout};

use super::{
    Snapshot,
    answers::{Preview, Refusal, Wish},
};

/// Connections at the most; each page that is open holds one.
const CONNECTIONS: usize = 128;
/// Time in which a client has to send the head of its request.
const HEADER_TIMEOUT: Duration = Duration::from_secs(30);
/// Bytes of a wish; an event cannot hold more data.
const WISH: usize = 2 * 1024 * 1024;
/// Time after which a stream without news says that it is still there.
const STILL_HERE: Duration = Duration::from_secs(15);
/// Pause where the system has no connection to give.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);

/// What the page may do: show itself, ask us, hold frames of ours.
const PAGE_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; frame-src 'self'; \
    img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";
/// What a mail may do: less than in any mail client. No script runs, so the same origin lets the page measure it and no more.
const MAIL_POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; font-src data:; base-uri 'none'; form-action 'none'; \
    frame-ancestors 'self'; sandbox allow-same-origin allow-popups allow-popups-to-escape-sandbox; img-src data:";
/// Added where the reader wants to see images from elsewhere.
const OUTSIDE_IMAGES: &str = " http: https:";

const HTML: &str = "text/html; charset=utf-8";
const TEXT: &str = "text/plain; charset=utf-8";
const JSON: &str = "application/json";

const PAGE: &str = include_str!("assets/page.html");
const STYLE: &str = include_str!("assets/page.css");
const SCRIPT: &str = include_str!("assets/page.js");

type Answer = Response<UnsyncBoxBody<Bytes, Infallible>>;

/// Names under which the server may be asked for. Another one means that somebody else's name leads here (DNS rebinding).
#[derive(Debug, Clone)]
pub(super) struct Hosts {
    remote: bool,
    names: Vec<String>,
}

impl Hosts {
    /// Loopback addresses and `localhost`, with `remote` all addresses, and further names.
    pub(super) fn new(remote: bool, names: &[String]) -> Self {
        Self { remote, names: names.iter().map(|name| name.to_ascii_lowercase()).collect() }
    }

    /// Whether a Host field is one of ours; the port does not matter, since it may be another one outside of a container.
    fn contains(&self, host: &str) -> bool {
        let name = match host.rsplit_once(':') {
            Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) => name,
            _ => host,
        };
        let name = name.to_ascii_lowercase();
        let address = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(&name);
        match address.parse::<IpAddr>() {
            Ok(address) => self.remote || address.is_loopback(),
            Err(_) => name == "localhost" || name.ends_with(".localhost") || self.names.contains(&name),
        }
    }
}

/// Answers until the future is dropped, and closes all connections then.
pub(super) async fn run(listener: TcpListener, hosts: Hosts, preview: Arc<Preview>) {
    let mut connections = JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        if connections.len() >= CONNECTIONS {
            connections.join_next().await;
        }
        let Ok((stream, _)) = listener.accept().await else {
            tokio::time::sleep(ACCEPT_PAUSE).await;
            continue;
        };
        let (hosts, preview) = (hosts.clone(), Arc::clone(&preview));
        connections.spawn(async move {
            let service = service_fn(move |request| {
                let (hosts, preview) = (hosts.clone(), Arc::clone(&preview));
                async move { Ok::<_, Infallible>(guarded(request, &hosts, preview).await) }
            });
            let connection = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEADER_TIMEOUT)
                .serve_connection(TokioIo::new(stream), service);
            // a browser that goes away is nothing to tell
            let _ = connection.await;
        });
    }
}

/// Answers those who may ask, and adds what holds for every answer.
async fn guarded(request: Request<Incoming>, hosts: &Hosts, preview: Arc<Preview>) -> Answer {
    let field = |name: HeaderName| request.headers().get(name).and_then(|value| value.to_str().ok());
    let foreign =
        field(HeaderName::from_static("sec-fetch-site")).is_some_and(|site| matches!(site, "cross-site" | "same-site"));
    let is_page = field(HeaderName::from_static("sec-fetch-mode")) == Some("navigate")
        && field(HeaderName::from_static("sec-fetch-dest")) == Some("document");
    let mut answer = if !field(HOST).is_some_and(|host| hosts.contains(host)) {
        let text =
            "This preview is not known by that name. Ask for it by its address, or start it with --allow-host NAME.\n";
        respond(StatusCode::MISDIRECTED_REQUEST, TEXT, text)
    } else if foreign && !is_page {
        // a link from elsewhere may lead here, but no page of others gets anything of it
        respond(StatusCode::FORBIDDEN, TEXT, "Only the preview's own pages may ask for this.\n")
    } else {
        answer(request, preview).await
    };
    let headers = answer.headers_mut();
    headers
        .entry(CONTENT_SECURITY_POLICY)
        .or_insert(HeaderValue::from_static("default-src 'none'; frame-ancestors 'none'"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    headers.insert("cross-origin-resource-policy", HeaderValue::from_static("same-origin"));
    headers.insert("cross-origin-opener-policy", HeaderValue::from_static("same-origin"));
    answer
}

async fn answer(request: Request<Incoming>, preview: Arc<Preview>) -> Answer {
    let path = request.uri().path().to_owned();
    let allowed = if path == "/api/render" { Method::POST } else { Method::GET };
    if *request.method() != allowed {
        let mut refusal = respond(StatusCode::METHOD_NOT_ALLOWED, TEXT, format!("{allowed}\n"));
        refusal.headers_mut().insert(ALLOW, HeaderValue::from_str(allowed.as_str()).expect("a method is a token"));
        return refusal;
    }
    match path.as_str() {
        "/assets/page.css" => respond(StatusCode::OK, "text/css; charset=utf-8", STYLE),
        "/assets/page.js" => respond(StatusCode::OK, "text/javascript; charset=utf-8", SCRIPT),
        "/api/templates" => {
            let list = tokio::task::spawn_blocking(move || preview.list()).await;
            list.map_or_else(|_| panicked(), |list| respond(StatusCode::OK, JSON, list.to_string()))
        }
        "/api/render" => render(request, preview).await,
        "/events" => events(&preview),
        _ if path == "/" || path.starts_with("/templates/") => {
            with_policy(respond(StatusCode::OK, HTML, PAGE), PAGE_POLICY.to_owned())
        }
        _ => match path.strip_prefix("/rendered/").and_then(|rest| rest.split_once('/')) {
            Some((id, file)) => rendered(id, file, request.uri().query(), &preview),
            None => not_found(),
        },
    }
}

async fn render(request: Request<Incoming>, preview: Arc<Preview>) -> Answer {
    // a form of another site cannot say so without asking first, which is not answered
    if request.headers().get(CONTENT_TYPE).is_none_or(|kind| kind.as_bytes() != JSON.as_bytes()) {
        return respond(StatusCode::UNSUPPORTED_MEDIA_TYPE, TEXT, "application/json\n");
    }
    let Ok(body) = Limited::new(request.into_body(), WISH).collect().await else {
        return refuse(&Refusal { error: format!("at most {WISH} bytes"), line: None });
    };
    let wish: Wish = match serde_json::from_slice(&body.to_bytes()) {
        Ok(wish) => wish,
        Err(error) => return refuse(&Refusal { error: error.to_string(), line: None }),
    };
    match tokio::task::spawn_blocking(move || preview.render(&wish)).await {
        Ok(Ok(shown)) => respond(StatusCode::OK, JSON, serde_json::to_string(&shown).expect("texts and numbers alone")),
        Ok(Err(refusal)) => refuse(&refusal),
        Err(_) => panicked(),
    }
}

/// The HTML or the mail of a rendering.
fn rendered(id: &str, file: &str, query: Option<&str>, preview: &Preview) -> Answer {
    let Some(rendering) = id.parse().ok().and_then(|id| preview.rendering(id)) else { return not_found() };
    match (file, &rendering.html, &rendering.mail) {
        ("mail.html", Some(html), _) => {
            let images = if query == Some("images") { OUTSIDE_IMAGES } else { "" };
            with_policy(respond(StatusCode::OK, HTML, html.clone()), format!("{MAIL_POLICY}{images}"))
        }
        ("mail.eml", _, Some(mail)) => {
            let mut answer = respond(StatusCode::OK, "message/rfc822", mail.clone());
            let name = format!("attachment; filename=\"{}.eml\"", rendering.template);
            let name = HeaderValue::from_str(&name).expect("names of templates are letters, digits, '-', '_' and '.'");
            answer.headers_mut().insert(CONTENT_DISPOSITION, name);
            answer
        }
        _ => not_found(),
    }
}

/// A stream that says the version of what was read, at once and whenever it changes (server-sent events).
fn events(preview: &Arc<Preview>) -> Answer {
    let start = (preview.changes(), Arc::clone(preview), true);
    let stream = stream::unfold(start, |(mut changes, preview, first)| async move {
        let changed = if first { Ok(Ok(())) } else { timeout(STILL_HERE, changes.changed()).await };
        let text = match changed {
            Ok(Ok(())) => {
                let snapshot: Arc<Snapshot> = Arc::clone(&changes.borrow_and_update());
                format!("data: {}\n\n", preview.version(&snapshot))
            }
            Ok(Err(_)) => return None,
            Err(_) => ":\n\n".to_owned(),
        };
        Some((Ok::<_, Infallible>(Frame::data(Bytes::from(text))), (changes, preview, false)))
    });
    let mut answer = Response::new(StreamBody::new(stream).boxed_unsync());
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    answer
}

fn not_found() -> Answer {
    respond(StatusCode::NOT_FOUND, TEXT, "There is nothing here, or not any more.\n")
}

fn panicked() -> Answer {
    respond(StatusCode::INTERNAL_SERVER_ERROR, JSON, r#"{"error":"the rendering panicked: standard error says where"}"#)
}

fn refuse(refusal: &Refusal) -> Answer {
    respond(StatusCode::BAD_REQUEST, JSON, serde_json::to_string(refusal).expect("a text and a number"))
}

fn respond(status: StatusCode, content_type: &'static str, body: impl Into<Bytes>) -> Answer {
    let mut answer = Response::new(Full::new(body.into()).boxed_unsync());
    *answer.status_mut() = status;
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    answer
}

fn with_policy(mut answer: Answer, policy: String) -> Answer {
    let policy = HeaderValue::from_maybe_shared(policy).expect("a policy is printable");
    answer.headers_mut().insert(CONTENT_SECURITY_POLICY, policy);
    answer
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_this_machine_are_answered() {
        let local = Hosts::new(false, &[]);
        for host in
            ["127.0.0.1", "127.0.0.1:8025", "localhost:1", "LOCALHOST", "[::1]:8025", "[::1]", "mail.localhost:9"]
        {
            assert!(local.contains(host), "{host}");
        }
        for host in [
            "",
            "evil.example:8025",
            "10.0.0.1:8025",
            "localhost.evil.example",
            "127.0.0.1.evil.example",
            "[::2]:1",
            "localhost:x",
        ] {
            assert!(!local.contains(host), "{host}");
        }
        let remote = Hosts::new(true, &["DevBox".to_owned()]);
        for host in ["10.0.0.1:8025", "[2001:db8::1]:1", "devbox:8025", "localhost"] {
            assert!(remote.contains(host), "{host}");
        }
        assert!(!remote.contains("evil.example:8025"));
    }
}
