//! Delivers what people are told: to Slack, Teams, `PagerDuty`, Alertmanager, by e-mail, and to programs of yours.
//!
//! What is said and how it looks is decided in `rollback_core::notify`; here it is sent, and what comes back is understood.
//! Nothing is asked that the administrator has not allowed, by its name and by its address. No error names anything of an
//! address but its host, and nothing of what came back but a code.

mod address;
mod answer;
pub mod destinations;
mod http;
mod mail;
mod services;

use std::time::Duration;

use jiff::Timestamp;
use rollback_core::notify::Message;
use rollback_probe::networks::{Externals, Networks};
use rollback_probe::pinned;
use url::Url;

pub use address::{Address, Kind, Missing, Secret};
pub use answer::Answer;
pub use destinations::Destinations;

/// How long one exchange may take.
const LIMIT: Duration = Duration::from_secs(10);

/// Why nothing can be delivered at all.
#[derive(Debug, thiserror::Error)]
pub enum Setup {
    /// TLS cannot be used.
    #[error("preparing TLS for notifications")]
    Tls(#[from] rustls::Error),
}

/// Delivers.
#[derive(Clone)]
pub struct Client {
    tls: rustls::ClientConfig,
    networks: Networks,
    externals: Externals,
    destinations: Destinations,
    slack: Url,
    pagerduty: Url,
    letters: mail::Parts,
}

/// Where the services are that everybody reaches under one address.
#[derive(Clone, Debug)]
pub struct Services {
    /// Slack's web API.
    pub slack: Url,
    /// `PagerDuty`'s events API.
    pub pagerduty: Url,
}

impl Client {
    /// A client that trusts what this system trusts. It reads the certificates from the disk, so make it once.
    pub fn new(
        destinations: Destinations,
        services: Services,
        networks: Networks,
        externals: Externals,
    ) -> Result<Self, Setup> {
        Ok(Self {
            tls: pinned::trust()?,
            networks,
            externals,
            destinations,
            slack: services.slack,
            pagerduty: services.pagerduty,
            letters: mail::Parts::default(),
        })
    }

    /// Delivers one message. `known` is what the service called the message of this request when it was first told.
    pub async fn deliver(
        &self,
        address: &Address,
        message: &Message,
        known: Option<&str>,
        now: Timestamp,
    ) -> Answer {
        match address {
            Address::SlackWebhook { url } => self.slack_webhook(url, message).await,
            Address::SlackBot { token, channel } => {
                self.slack_bot(token, channel, message, known).await
            }
            Address::Teams { url } => self.teams(url, message).await,
            Address::PagerDuty { routing_key } => self.page(routing_key, message).await,
            Address::Alertmanager { urls, bearer } => {
                self.alertmanager(urls, bearer.as_ref(), message, now).await
            }
            Address::Webhook { url, signing_key } => {
                self.webhook(url, signing_key, message, now).await
            }
            Address::Email(mailbox) => self.mail(mailbox, message).await,
        }
    }
}
