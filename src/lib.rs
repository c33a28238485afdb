//! E-mail by way of Kafka: an application publishes a mail as an event, and postlane delivers it by SMTP.
//!
//! This crate is both sides. The program `postlane` is the service: it takes events from three topics, one for each
//! priority, renders their templates and hands the mails to a relay. An application that only publishes takes the
//! [`Producer`] and nothing of the service:
//!
//! ```toml
//! [dependencies]
//! postlane = { version = "0.1", default-features = false }
//! ```
//!
//! # Publish a mail
//!
//! ```no_run
//! use std::time::Duration;
//!
//! use postlane::{Email, Priority, Producer};
//! use serde_json::json;
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! // once for the whole application; it takes KAFKA_BROKERS and the like from the environment, and connects when needed
//! let producer = Producer::from_env()?;
//!
//! let email = Email::to("Ann Smith <ann@example.com>")
//!     .from("Shop <noreply@example.com>")
//!     .template("password-reset")
//!     .data(json!({ "Link": "https://example.com/reset?token=abc123" }))
//!     .priority(Priority::High)
//!     .expires_in(Duration::from_secs(15 * 60));
//!
//! // returns when all in-sync replicas have it: from then on it is not lost
//! let receipt = producer.send(email).await?;
//! println!("{} is safe: {}", receipt.id(), receipt.way());
//!
//! producer.close().await;
//! # Ok(())
//! # }
//! ```
//!
//! - What the service would refuse is refused before it leaves: an [`InvalidEmail`] names every field that is wrong. An
//!   application's own tests call [`Email::check`], and with its templates `Email::check_with`, which finds a variable
//!   that is missing.
//! - A [`SendError`] says whether the mail may still go out. Sent again under the same [id](Email::id), a mail has the
//!   same `Message-ID`.
//! - With the feature `smtp` and `FALLBACK=smtp`, a Kafka that does not answer within `PUBLISH_TIMEOUT` (2 s) costs no
//!   mail: it goes straight to the relay, rendered and sent by the code of the service. `KAFKA_ENABLED=false` does
//!   without Kafka altogether, as on a developer's machine.
//! - `postlane::testing` (feature `testing`) has a producer that keeps what was sent: a test of the application asks
//!   whether a reset mail with this link went to this address, and needs no broker and no mail server.
//!
//! The events are plain JSON in a [format](event) that programs in any language can write: `docs/wire-format.md`,
//! `docs/event.schema.json` and `docs/asyncapi.yaml` in the repository describe it.
//!
//! # Features
//!
//! | feature | what it adds |
//! |---|---|
//! | none | [`Producer`], [`Email`], its settings ([`config`]), the events ([`event`]) and their checks |
//! | `templates` | loading, checking and rendering templates; `Email::check_with`, `PUBLISH_CHECK_TEMPLATES` |
//! | `smtp` | `templates`, and sessions to a relay: `FALLBACK=smtp`, `KAFKA_ENABLED=false`, `Mailer` |
//! | `testing` | `templates`, and the producer for an application's own tests |
//! | `opentelemetry` | the caller's span goes with each event (W3C Trace Context), in applications that use `opentelemetry` 0.33, with or without `tracing-opentelemetry`; elsewhere [`Email::trace_parent`] says it |
//! | `service` | `smtp` and `opentelemetry`, and what delivers: the consumer group, the pipeline, endpoints, metrics |
//! | `cli` (default) | `service` and the program itself |
//!
//! # The service from within
//!
//! Its modules are named after the stages that a mail passes: [`kafka`] fetches, [`event`] decodes, `schedule` orders,
//! `template` renders, [`compose`] builds the message, `smtp` sends, `retry` decides what follows, and `pipeline` joins
//! them. `serve` builds it all and brings it to its end. What an operator sees of it comes from `health` and `metrics`,
//! by way of `http`.

#![cfg_attr(docsrs, feature(doc_cfg))]

mod chain;
#[cfg(feature = "service")]
pub mod check;
pub mod compose;
pub mod config;
#[cfg(feature = "service")]
pub mod dead_letters;
pub mod delay;
pub mod email;
pub mod event;
pub mod failure;
mod file;
mod foreign;
#[cfg(feature = "service")]
pub mod health;
#[cfg(feature = "service")]
pub mod http;
pub mod https;
pub mod kafka;
#[cfg(feature = "smtp")]
pub mod mailer;
pub mod mask;
#[cfg(feature = "service")]
pub mod metrics;
#[cfg(feature = "service")]
pub mod pipeline;
pub mod producer;
#[cfg(feature = "service")]
pub mod retry;
#[cfg(feature = "service")]
pub mod schedule;
#[cfg(feature = "service")]
pub mod serve;
#[cfg(feature = "service")]
pub mod shutdown;
#[cfg(feature = "smtp")]
pub mod smtp;
mod tcp;
#[cfg(feature = "service")]
pub mod telemetry;
#[cfg(feature = "templates")]
pub mod template;
#[cfg(feature = "testing")]
pub mod testing;
pub mod tls;
mod trace_parent;

pub use email::{Email, InvalidEmail};
pub use event::Priority;
pub use producer::{Producer, Receipt, SendError};

/// The programs in the documents compile.
#[cfg(all(doctest, feature = "smtp"))]
#[doc = include_str!("../docs/migrating.md")]
struct Migrating;
