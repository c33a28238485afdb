//! The brokers: each bootstrap address, what they speak, and the addresses that they give to clients.

use std::{
    io,
    net::SocketAddr,
    time::{Duration, Instant},
};

use futures::future::join_all;
use tokio::{net::lookup_host, time::timeout};

use super::{LIMIT, Row, count, group, topics};
use crate::{
    chain::chain,
    config,
    kafka::{
        client::Connector,
        required,
        topics::{Admin, Broker, Cluster, Wanted},
        wire::{self, Connection},
    },
};

/// Time for a name to resolve.
pub(super) const LOOKUP: Duration = Duration::from_secs(4);
/// Time for the answer to one request.
const REQUEST: Duration = Duration::from_secs(4);
/// Time for all that is asked of one broker: its connection, and what is agreed on it.
const BROKER: Duration = Duration::from_secs(8);
/// Brokers of a large cluster that are tried, beside the bootstrap brokers.
const MOST_BROKERS: usize = 30;

pub(super) async fn check(connector: &Connector, settings: &config::Kafka) -> Vec<Row> {
    let start = Instant::now();
    let (mut rows, mut open) = (Vec::new(), Vec::new());
    for (row, connection) in join_all(connector.brokers().iter().map(|address| bootstrap(connector, address))).await {
        rows.push(row);
        open.extend(connection);
    }
    // what follows is not to wait for brokers that are known to be away
    let reachable = connector.with_brokers(open.iter().map(|connection| connection.address().to_owned()).collect());
    let rest = match open.into_iter().next() {
        Some(connection) => {
            let left = LIMIT.saturating_sub(start.elapsed());
            timeout(left, inside(&reachable, connector.brokers(), connection, settings)).await.unwrap_or_else(|_| {
                let text = format!("no end of the answers within {LIMIT:?}");
                vec![Row::fail("cluster", text, "the brokers are slow or only half reachable: try again")]
            })
        }
        None => vec![
            Row::skip("topics", "not tried: no broker can be used"),
            Row::skip(format!("group {}", settings.group_id), "not tried: no broker can be used"),
        ],
    };
    rows.extend(rest);
    rows
}

/// What a broker that can be reached says of the rest.
async fn inside(connector: &Connector, tried: &[String], connection: Connection, settings: &config::Kafka) -> Vec<Row> {
    let wanted = Wanted::all(settings);
    let names: Vec<&str> = wanted.iter().map(|wanted| &*wanted.name).collect();
    let mut admin = Admin::over(connector, connection);
    let cluster = match admin.cluster(&names).await {
        Ok(cluster) => cluster,
        Err(error) => return vec![Row::fail("cluster", chain(&error), "look into the brokers' logs")],
    };
    let (brokers, topics, group) = tokio::join!(
        advertised(connector, tried, &cluster),
        topics::check(&mut admin, &cluster, &wanted, settings.topics.create),
        group::check(connector, &cluster, settings),
    );
    [brokers, topics, group].concat()
}

/// One address of `KAFKA_BROKERS`.
async fn bootstrap(connector: &Connector, address: &str) -> (Row, Option<Connection>) {
    let check = format!("broker {address}");
    let start = Instant::now();
    match timeout(BROKER, reach(connector, address)).await {
        Ok(Ok(connection)) => match required::check(&connection) {
            Ok(()) => {
                let row = Row::ok(check, format!("answers after {} ms", start.elapsed().as_millis()));
                (row, Some(connection))
            }
            Err(error) => (Row::fail(check, error.to_string(), "postlane needs Kafka 2.1 or later"), None),
        },
        Ok(Err((text, advice))) => (Row::fail(check, text, advice), None),
        Err(_) => (Row::fail(check, format!("no answer within {BROKER:?}"), NOT_REACHED), None),
    }
}

const NOT_REACHED: &str = "is the broker up, the address right, and does a firewall let it through?";

async fn reach(connector: &Connector, address: &str) -> Result<Connection, (String, &'static str)> {
    if let Err(error) = resolve(address).await {
        return Err((error, "correct KAFKA_BROKERS, or the name server"));
    }
    Connection::open(connector, address, REQUEST).await.map_err(|error| {
        let advice = match error {
            wire::Error::Connect { .. } | wire::Error::Timeout { .. } => NOT_REACHED,
            wire::Error::Frame { .. } | wire::Error::Io { .. } => {
                "is it a Kafka listener, and of the kind that is set (TLS, SASL)?"
            }
            _ => "look into the broker's log",
        };
        (chain(&error), advice)
    })
}

/// The addresses of `host:port`, or one sentence.
pub(super) async fn resolve(address: &str) -> Result<Vec<SocketAddr>, String> {
    let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
    let failed = |error: io::Error| format!("the name {host} does not resolve: {error}");
    match timeout(LOOKUP, lookup_host(address)).await {
        Ok(Ok(found)) => Ok(found.collect()),
        Ok(Err(error)) => Err(failed(error)),
        Err(_) => Err(format!("the name {host} does not resolve within {LOOKUP:?}")),
    }
}

/// The addresses that the brokers give to clients: these are used, whatever `KAFKA_BROKERS` says.
async fn advertised(connector: &Connector, tried: &[String], cluster: &Cluster) -> Vec<Row> {
    let others: Vec<&Broker> = cluster.brokers.iter().filter(|broker| !tried.contains(&broker.address)).collect();
    let failures = join_all(others.iter().take(MOST_BROKERS).map(|broker| async {
        let outcome = timeout(BROKER, reach(connector, &broker.address)).await;
        let text = match outcome {
            Ok(Ok(_)) => return None,
            Ok(Err((text, _))) => text,
            Err(_) => format!("no answer within {BROKER:?}"),
        };
        let check = format!("broker {} ({})", broker.id, broker.address);
        let advice =
            "this is the address that the broker gives to clients (advertised.listeners): postlane must reach it";
        Some(Row::fail(check, text, advice))
    }));
    let failures: Vec<Row> = failures.await.into_iter().flatten().collect();
    let mut rows = vec![Row::ok("cluster", count(cluster.brokers.len(), "broker"))];
    rows.extend(failures);
    rows
}
