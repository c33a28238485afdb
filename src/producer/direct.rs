//! The way past Kafka: a mail straight to the relay, with the code and the id that the service would send it with.

use std::{sync::Arc, time::Duration};

use tokio::time::Instant;
use tracing::warn;

use super::{BuildError, Receipt, SendError, Way};
use crate::{config, event::Message, mailer::Mailer, mask, template::Templates};

/// Sends straight by SMTP.
pub(super) struct Direct {
    mailer: Mailer,
    timeout: Duration,
}

/// What came before: Kafka did not take the mail.
pub(super) struct Untaken {
    /// What kept it from that.
    pub(super) why: String,
    /// It may have it all the same.
    pub(super) unknown: bool,
}

impl Direct {
    /// Connects to nothing.
    pub(super) fn new(settings: &config::Producer, smtp: &config::Smtp) -> Result<Self, BuildError> {
        if let Some(warning) = settings.mail.warning() {
            warn!("{warning}");
        }
        if let Some(warning) = smtp.warning() {
            warn!("{warning}");
        }
        let templates = Arc::new(Templates::load(settings.mail.templates_dir.as_deref())?);
        let mailer = Mailer::new(smtp, &settings.mail, templates)?;
        Ok(Self { mailer, timeout: settings.publish.smtp_timeout })
    }

    /// Sends a mail, within `PUBLISH_SMTP_TIMEOUT`.
    pub(super) async fn send(
        &self,
        id: String,
        message: &Message,
        before: Option<Untaken>,
    ) -> Result<Receipt, SendError> {
        let twice_possible = before.as_ref().is_some_and(|before| before.unknown);
        match self.mailer.send(message, Instant::now() + self.timeout).await {
            Ok(delivered) => {
                let way = Way::Smtp { reply: mask::text(&delivered.reply.to_string()) };
                Ok(Receipt { id, message_id: Some(delivered.message_id), way, twice_possible })
            }
            Err(error) => Err(match before {
                None => SendError::Smtp { id, error: Box::new(error) },
                Some(Untaken { why, unknown }) => {
                    SendError::BothWays { id, kafka: why, unknown, smtp: Box::new(error) }
                }
            }),
        }
    }

    /// Ends all sessions.
    pub(super) async fn close(&self) {
        self.mailer.close().await;
    }
}
