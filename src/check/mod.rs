//! `postlane check`: tries everything that the service needs, and says what is wrong and what to do.
//!
//! Owns the order of the checks, their deadlines and their sentences. Reaches brokers and the relay by the very parts
//! that the service uses, reads no record, writes none, and sends no mail. How the result is shown is the program's.

mod group;
mod kafka;
mod relay;
mod report;
#[cfg(test)]
mod tests;
mod topics;

use std::time::Duration;

pub use report::{Outcome, Report, Row};

use crate::{
    chain::chain,
    config::{self, Config, ConfigError},
    kafka::client,
    smtp,
    template::Templates,
    tls,
};

/// Time for all that is tried on one side, brokers or relay; both are tried at once.
const LIMIT: Duration = Duration::from_secs(25);

/// What may be tried beyond what harms nobody.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Options {
    /// Ask the relay whether it takes our sender (`MAIL FROM`, taken back by RSET).
    pub mail_from: bool,
}

/// What is wrong with variables, one row for each; nothing else is tried.
pub fn misconfigured(error: &ConfigError) -> Report {
    let rows = error.0.iter().map(|problem| {
        let held = problem.held.as_ref().map_or_else(|| "not set".to_owned(), |held| format!("holds {held:?}"));
        Row::fail(problem.variable.as_str(), held, format!("expected {}", problem.expected))
    });
    let mut rows: Vec<Row> = rows.collect();
    rows.push(Row::skip("everything else", "not tried before the variables are right"));
    Report::misconfigured(rows)
}

/// Tries everything, within half a minute.
pub async fn run(config: &Config, options: Options) -> Report {
    let mut rows = vec![Row::ok("configuration", "every variable can be read")];
    let warnings = config.kafka.security.warnings();
    rows.extend(warnings.into_iter().map(|text| Row::warn("security", text, "docs/connect.md has what is safe")));
    rows.extend(config.mail.warning().map(|text| Row::warn("recipients", text, "unset it where mails are to arrive")));
    let templates = templates(config);
    let relay = smtp::Connector::new(&relay::impatient(&config.smtp));
    let brokers = client::Connector::new(&config.kafka);
    let misconfigured = relay.is_err() || brokers.is_err() || templates.iter().any(|row| row.outcome == Outcome::Fail);
    rows.extend(templates);
    let (kafka, relay) = tokio::join!(kafka(brokers, &config.kafka), async {
        match relay {
            Ok(connector) => relay::check(&connector, config, options).await,
            Err(error) => vec![Row::fail("relay", chain(&error), "correct the variable, or the file that it names")],
        }
    });
    rows.extend(kafka);
    rows.extend(relay);
    if misconfigured { Report::misconfigured(rows) } else { Report::new(rows) }
}

async fn kafka(connector: Result<client::Connector, tls::Error>, settings: &config::Kafka) -> Vec<Row> {
    match connector {
        Ok(connector) => kafka::check(&connector, settings).await,
        Err(error) => vec![Row::fail("brokers", chain(&error), "correct the variable, or the file that it names")],
    }
}

fn templates(config: &Config) -> Vec<Row> {
    match Templates::load(config.mail.templates_dir.as_deref()) {
        Ok(templates) => vec![Row::ok("templates", templates.names().collect::<Vec<_>>().join(", "))],
        Err(error) => {
            let row = |problem: &crate::template::Problem| {
                Row::fail("templates", problem.to_string(), "correct the file: serve does not start with it")
            };
            error.problems().iter().map(row).collect()
        }
    }
}

/// `1 partition`, `6 partitions`.
fn count(number: usize, one: &str) -> String {
    if number == 1 { format!("1 {one}") } else { format!("{number} {one}s") }
}
