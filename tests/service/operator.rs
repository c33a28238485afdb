//! What an operator asks a service: its endpoints, its metrics, `postlane healthcheck`.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    process::{Command, Stdio},
    time::Duration,
};

use devkit::service::Service;
use serde_json::Value;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::{Instant, sleep, timeout},
};

use crate::bed::SOON;

/// Within this time readiness shows a change.
pub(crate) const PROMISED: Duration = Duration::from_secs(10);

/// One service's endpoints.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Operator(pub(crate) SocketAddr);

impl Operator {
    pub(crate) async fn of(service: &mut Service) -> Self {
        Self(service.http_address(SOON).await.expect("it listens"))
    }

    /// Status and body of a GET.
    pub(crate) async fn get(self, path: &str) -> (u16, String) {
        let asking = async {
            let mut stream = TcpStream::connect(self.0).await.expect("a connection");
            stream.write_all(format!("GET {path} HTTP/1.1\r\nhost: x\r\n\r\n").as_bytes()).await.expect("written");
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await.expect("an answer");
            answer
        };
        let answer = timeout(Duration::from_secs(5), asking).await.expect("an answer in time");
        let (head, body) = answer.split_once("\r\n\r\n").expect("an HTTP answer");
        (head[9..12].parse().expect("a status"), body.to_owned())
    }

    /// The reasons why it is not ready, none if it is.
    pub(crate) async fn reasons(self) -> Vec<String> {
        let (status, body) = self.get("/readyz").await;
        let body: Value = serde_json::from_str(&body).expect("JSON");
        assert_eq!(body["ready"], status == 200, "{status} {body}");
        let reasons = body["reasons"].as_array().expect("reasons").iter();
        let reasons: Vec<String> = reasons.map(|reason| reason.as_str().expect("a text").to_owned()).collect();
        assert_eq!(reasons.is_empty(), status == 200);
        reasons
    }

    /// Waits until the reasons are as wanted, and tells for how long.
    pub(crate) async fn wait_for(self, what: &str, wanted: impl Fn(&[String]) -> bool) -> (Vec<String>, Duration) {
        let since = Instant::now();
        loop {
            let reasons = self.reasons().await;
            if wanted(&reasons) {
                return (reasons, since.elapsed());
            }
            assert!(since.elapsed() < SOON, "not {what} but {reasons:?}");
            sleep(Duration::from_millis(50)).await;
        }
    }

    pub(crate) async fn wait_until_ready(self) -> Duration {
        self.wait_for("ready", <[String]>::is_empty).await.1
    }

    /// Waits until some reason begins like this.
    pub(crate) async fn wait_for_reason(self, begin: &str) -> (String, Duration) {
        let is = |reason: &&String| reason.starts_with(begin);
        let (reasons, took) = self.wait_for(begin, |reasons| reasons.iter().any(|reason| is(&reason))).await;
        (reasons.iter().find(is).expect("just found").clone(), took)
    }

    pub(crate) async fn assert_live(self) {
        let (status, body) = self.get("/livez").await;
        assert_eq!(status, 200, "{body}");
    }

    pub(crate) async fn metrics(self) -> Metrics {
        let (status, text) = self.get("/metrics").await;
        assert_eq!(status, 200);
        Metrics::parse(&text)
    }

    /// Waits until the metrics are as wanted.
    pub(crate) async fn wait_for_metrics(self, what: &str, wanted: impl Fn(&Metrics) -> bool) -> Metrics {
        let deadline = Instant::now() + SOON;
        loop {
            let metrics = self.metrics().await;
            if wanted(&metrics) {
                return metrics;
            }
            assert!(Instant::now() < deadline, "not {what}: {metrics:#?}");
            sleep(Duration::from_millis(50)).await;
        }
    }

    /// Exit status and output of `postlane healthcheck`, with this address and nothing else in its environment.
    pub(crate) async fn healthcheck(self) -> (Option<i32>, String) {
        let address = self.0.to_string();
        tokio::task::spawn_blocking(move || healthcheck(&address)).await.expect("it runs")
    }
}

/// The same for any `HTTP_ADDR`.
pub(crate) fn healthcheck(address: &str) -> (Option<i32>, String) {
    healthcheck_with(&[], address)
}

/// The same with arguments.
pub(crate) fn healthcheck_with(arguments: &[&str], address: &str) -> (Option<i32>, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_postlane"));
    command.arg("healthcheck").args(arguments).env_clear().env("HTTP_ADDR", address).stdin(Stdio::null());
    let output = command.output().expect("it runs");
    (output.status.code(), String::from_utf8(output.stdout).expect("UTF-8"))
}

/// The samples of one scrape by name and labels, `name{label="value"}`.
#[derive(Debug)]
pub(crate) struct Metrics(BTreeMap<String, f64>);

impl Metrics {
    fn parse(text: &str) -> Self {
        let samples = text.lines().filter(|line| !line.starts_with('#')).map(|line| {
            let (series, value) = line.rsplit_once(' ').expect("a sample");
            (series.to_owned(), value.parse().expect("a number"))
        });
        Self(samples.collect())
    }

    /// The value of one series, with all its labels in their order.
    pub(crate) fn value(&self, series: &str) -> f64 {
        *self.0.get(series).unwrap_or_else(|| panic!("no {series} in {:#?}", self.0.keys()))
    }

    /// All series of this name added up.
    pub(crate) fn sum(&self, name: &str) -> f64 {
        let own = |series: &str| series.split('{').next() == Some(name);
        self.0.iter().filter(|(series, _)| own(series)).map(|(_, value)| value).sum()
    }

    /// The names of all series.
    pub(crate) fn series(&self) -> Vec<&String> {
        self.0.keys().collect()
    }
}
