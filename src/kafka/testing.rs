//! A broker for unit tests: plays a script over TCP on a free port. What a real broker does is tested against one.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use bytes::{Buf, Bytes, BytesMut};
use kafka_protocol::{
    messages::{ApiKey, RequestHeader, RequestKind, ResponseHeader, ResponseKind},
    protocol::{Encodable, decode_request_header_from_buffer},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::Notify,
    task::JoinHandle,
};

/// What the broker does with a request.
pub(crate) enum Action {
    /// Answers in the request's version.
    Answer(ResponseKind),
    /// Answers in another version, as an old broker does when it does not know that of `ApiVersions`.
    AnswerAs(i16, ResponseKind),
    /// Answers with another request's number.
    Misnumber(ResponseKind),
    /// Sends these bytes.
    Raw(Bytes),
    /// Sends these bytes and closes the connection.
    Cut(Bytes),
    /// Never answers.
    Silence,
    /// Answers when it is told to.
    Later(Arc<Notify>, ResponseKind),
}

/// A request as the broker saw it.
pub(crate) struct Seen {
    pub(crate) api: ApiKey,
    pub(crate) version: i16,
    /// Where its connection comes from: differs from one connection to the next.
    pub(crate) peer: SocketAddr,
    pub(crate) request: RequestKind,
}

/// A scripted broker; stops when dropped.
pub(crate) struct Broker {
    pub(crate) address: String,
    seen: Arc<Mutex<Vec<Seen>>>,
    close: Arc<Notify>,
    open: Arc<()>,
    task: JoinHandle<()>,
}

impl Broker {
    /// Listens on a free port; `script` gets each request with its version and the broker's own address.
    pub(crate) async fn start(mut script: impl FnMut(&Seen, &SocketAddr) -> Action + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let own = listener.local_addr().expect("a bound socket has an address");
        let seen = Arc::new(Mutex::new(Vec::new()));
        let script = Arc::new(Mutex::new(move |seen: &Seen| script(seen, &own)));
        let (close, open) = (Arc::new(Notify::new()), Arc::new(()));
        let task = tokio::spawn({
            let (seen, close, open) = (seen.clone(), Arc::clone(&close), Arc::clone(&open));
            async move {
                let mut connections = tokio::task::JoinSet::new();
                while let Ok((stream, peer)) = listener.accept().await {
                    let (seen, script) = (seen.clone(), script.clone());
                    let (close, open) = (Arc::clone(&close), Arc::clone(&open));
                    let closed = async move { close.notified().await };
                    let serve = async move {
                        let mut stream = stream;
                        while let Some((header, request)) = receive(&mut stream).await {
                            let api = ApiKey::try_from(header.request_api_key).expect("a known API");
                            let request = Seen { api, version: header.request_api_version, peer, request };
                            let action = (script.lock().expect("no script panics"))(&request);
                            seen.lock().expect("no test panics here").push(request);
                            let cut = matches!(action, Action::Cut(_));
                            if let Action::Later(when, _) = &action {
                                when.notified().await;
                            }
                            if stream.write_all(&frame(&header, action)).await.is_err() || cut {
                                return;
                            }
                        }
                    };
                    connections.spawn(async move {
                        tokio::select! {
                            () = serve => {}
                            () = closed => {}
                        }
                        drop(open);
                    });
                }
            }
        });
        Self { address: own.to_string(), seen, close, open, task }
    }

    /// Closes all connections, and takes new ones.
    pub(crate) async fn hang_up(&self) {
        self.close.notify_waiters();
        // one for the broker and one for its listener
        while Arc::strong_count(&self.open) > 2 {
            tokio::task::yield_now().await;
        }
    }

    /// The requests since this was last asked, less those for versions.
    pub(crate) fn seen(&self) -> Vec<Seen> {
        let mut seen = self.seen.lock().expect("no test panics here");
        seen.drain(..).filter(|it| it.api != ApiKey::ApiVersions).collect()
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn receive(stream: &mut TcpStream) -> Option<(RequestHeader, RequestKind)> {
    let length = stream.read_i32().await.ok()?;
    let mut frame = vec![0; usize::try_from(length).expect("a length")];
    stream.read_exact(&mut frame).await.ok()?;
    let mut frame = Bytes::from(frame);
    let header = decode_request_header_from_buffer(&mut frame).expect("a request header");
    let api = ApiKey::try_from(header.request_api_key).expect("a known API");
    let request = RequestKind::decode(api, &mut frame, header.request_api_version).expect("a request");
    assert!(!frame.has_remaining(), "nothing follows a request");
    Some((header, request))
}

/// The bytes of an answer.
fn frame(header: &RequestHeader, action: Action) -> Bytes {
    let (id, version, response) = match action {
        Action::Answer(response) | Action::Later(_, response) => {
            (header.correlation_id, header.request_api_version, response)
        }
        Action::AnswerAs(version, response) => (header.correlation_id, version, response),
        Action::Misnumber(response) => (header.correlation_id - 1, header.request_api_version, response),
        Action::Raw(bytes) | Action::Cut(bytes) => return bytes,
        Action::Silence => return Bytes::new(),
    };
    let api = ApiKey::try_from(header.request_api_key).expect("a known API");
    let mut body = BytesMut::new();
    ResponseHeader::default()
        .with_correlation_id(id)
        .encode(&mut body, api.response_header_version(version))
        .and_then(|()| response.encode(&mut body, version))
        .expect("a response");
    let length = i32::try_from(body.len()).expect("a short answer").to_be_bytes();
    [&length[..], &body].concat().into()
}
