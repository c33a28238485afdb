//! The settings of a producer, put together in the program.

use std::{collections::BTreeMap, env, fmt, time::Duration};

use super::{BuildError, Producer};
use crate::config::{self, Fallback, WhenFull};

/// Settings of a [`Producer`]: each of these is a variable of the environment, and what the program says goes before
/// what the variables say.
///
/// ```
/// use std::time::Duration;
///
/// use postlane::Producer;
///
/// let producer = Producer::builder()
///     .brokers(["kafka-1:9092", "kafka-2:9092"])
///     .mail_from("Shop <shop@example.com>")
///     .timeout(Duration::from_secs(1))
///     .build()?;
/// # Ok::<(), postlane::producer::BuildError>(())
/// ```
#[derive(Clone, Default)]
#[must_use = "a builder makes no producer until build is called"]
pub struct ProducerBuilder {
    variables: BTreeMap<String, String>,
    set: BTreeMap<String, String>,
}

impl ProducerBuilder {
    /// Takes these variables, names and values, instead of the environment; of a name that comes twice the last one.
    pub fn variables(mut self, variables: impl IntoIterator<Item = (String, String)>) -> Self {
        self.variables.extend(variables);
        self
    }

    /// Takes the variables of the process's environment; those that are not UTF-8 are none of ours.
    pub fn environment(self) -> Self {
        self.variables(
            env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?))),
        )
    }

    /// Bootstrap addresses, `host:port` (`KAFKA_BROKERS`).
    pub fn brokers(self, brokers: impl IntoIterator<Item = impl AsRef<str>>) -> Self {
        let brokers: Vec<String> = brokers.into_iter().map(|broker| broker.as_ref().to_owned()).collect();
        self.set("KAFKA_BROKERS", brokers.join(","))
    }

    /// The base from which the lanes' topics have their names: `{base}-high`, `{base}`, `{base}-low` (`KAFKA_TOPIC`).
    pub fn topic(self, base: impl Into<String>) -> Self {
        self.set("KAFKA_TOPIC", base)
    }

    /// The lanes' topics, high, normal and low (`KAFKA_TOPIC_HIGH`, `KAFKA_TOPIC_NORMAL`, `KAFKA_TOPIC_LOW`).
    pub fn topics(self, high: impl Into<String>, normal: impl Into<String>, low: impl Into<String>) -> Self {
        self.set("KAFKA_TOPIC_HIGH", high).set("KAFKA_TOPIC_NORMAL", normal).set("KAFKA_TOPIC_LOW", low)
    }

    /// Sender of mails that name none (`MAIL_FROM`).
    pub fn mail_from(self, mailbox: impl Into<String>) -> Self {
        self.set("MAIL_FROM", mailbox)
    }

    /// Whether mails go through Kafka at all; otherwise straight by SMTP (`KAFKA_ENABLED`).
    pub fn kafka_enabled(self, enabled: bool) -> Self {
        self.set("KAFKA_ENABLED", enabled.to_string())
    }

    /// What becomes of a mail that Kafka does not take in time (`FALLBACK`).
    pub fn fallback(self, fallback: Fallback) -> Self {
        let text = match fallback {
            Fallback::None => "none",
            Fallback::Smtp => "smtp",
        };
        self.set("FALLBACK", text)
    }

    /// Time that Kafka has for a mail, 10 ms to 10 minutes, in whole milliseconds (`PUBLISH_TIMEOUT`).
    pub fn timeout(self, timeout: Duration) -> Self {
        self.set("PUBLISH_TIMEOUT", config::duration_text(timeout))
    }

    /// Time for a mail that goes straight by SMTP, 10 ms to 10 minutes, in whole milliseconds (`PUBLISH_SMTP_TIMEOUT`).
    pub fn smtp_timeout(self, timeout: Duration) -> Self {
        self.set("PUBLISH_SMTP_TIMEOUT", config::duration_text(timeout))
    }

    /// Longest time for which many callers are waited for to send their mails in one request, at most a second, in whole
    /// milliseconds; zero is none (`PUBLISH_LINGER`).
    pub fn linger(self, linger: Duration) -> Self {
        self.set("PUBLISH_LINGER", config::duration_text(linger))
    }

    /// Mails that wait for the brokers' answer, 1 to 1,000,000, and their bytes, 1 KiB to 2 GiB
    /// (`PUBLISH_BUFFER_RECORDS`, `PUBLISH_BUFFER_BYTES`).
    pub fn buffer(self, records: usize, bytes: usize) -> Self {
        self.set("PUBLISH_BUFFER_RECORDS", records.to_string()).set("PUBLISH_BUFFER_BYTES", bytes.to_string())
    }

    /// What becomes of a mail that finds no room there (`PUBLISH_WHEN_FULL`).
    pub fn when_full(self, when_full: WhenFull) -> Self {
        let text = match when_full {
            WhenFull::Wait => "wait",
            WhenFull::Error => "error",
        };
        self.set("PUBLISH_WHEN_FULL", text)
    }

    /// Whether mails are rendered before they leave, so that a missing variable is the caller's error
    /// (`PUBLISH_CHECK_TEMPLATES`). Needs the feature `templates`.
    pub fn check_templates(self, check: bool) -> Self {
        self.set("PUBLISH_CHECK_TEMPLATES", check.to_string())
    }

    /// Any other variable: those of TLS, logins and SMTP.
    pub fn variable(self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.set(name, value)
    }

    /// Makes the producer; connects to nothing.
    ///
    /// # Errors
    ///
    /// [`BuildError`] names every wrong variable at once, or the first file that cannot be used.
    pub fn build(self) -> Result<Producer, BuildError> {
        let mut variables = self.variables;
        variables.extend(self.set);
        Producer::new(&config::producer_from_variables(variables)?)
    }

    fn set(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.set.insert(name.into(), value.into());
        self
    }
}

/// Shows the names alone: there are passwords among the values.
impl fmt::Debug for ProducerBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ProducerBuilder")
            .field("variables", &self.variables.keys())
            .field("set", &self.set.keys())
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_set_is_not_shown() {
        let builder = Producer::builder().variable("SMTP_PASSWORD", "hunter2").brokers(["user:hunter2@kafka:9092"]);
        let shown = format!("{builder:?}");
        assert!(shown.contains("SMTP_PASSWORD") && !shown.contains("hunter2"), "{shown}");
    }

    #[test]
    fn what_the_program_says_goes_before_the_variables() {
        let variable = |value: &str| [("PUBLISH_TIMEOUT".to_owned(), value.to_owned())];
        let builder = Producer::builder().timeout(Duration::from_secs(1)).variable("KAFKA_BROKERS", "kafka:9092");
        assert!(builder.variables(variable("soon")).build().is_ok());
        let error = Producer::builder().variables(variable("soon")).build().expect_err("two are wrong").to_string();
        assert!(error.contains("PUBLISH_TIMEOUT=") && error.contains("KAFKA_BROKERS is not set"), "{error}");
    }
}
