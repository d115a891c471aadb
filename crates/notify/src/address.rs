//! A channel with everything that it takes to reach it.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use rollback_api::policy::{Channel, Email, SecretKey};

/// Something that nobody may read.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// The secret itself, without the line break that many a file ends with.
    pub fn new(text: &str) -> Self {
        Self(text.trim().to_owned())
    }

    pub(crate) fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        formatter.write_str("[hidden]")
    }
}

/// Where a message goes.
#[derive(Clone, Debug)]
pub enum Address {
    /// An incoming webhook of Slack.
    SlackWebhook {
        /// Its URL.
        url: Secret,
    },
    /// A bot of Slack.
    SlackBot {
        /// Its token.
        token: Secret,
        /// ID of the channel.
        channel: String,
    },
    /// A workflow of Teams.
    Teams {
        /// Its URL.
        url: Secret,
    },
    /// A service of `PagerDuty`.
    PagerDuty {
        /// Its integration key.
        routing_key: Secret,
    },
    /// Alertmanagers of one cluster.
    Alertmanager {
        /// Their addresses.
        urls: Vec<String>,
        /// What is sent as `Authorization: Bearer`.
        bearer: Option<Secret>,
    },
    /// Mailboxes.
    Email(Box<Mailbox>),
    /// A program.
    Webhook {
        /// Its URL.
        url: Secret,
        /// What the body is signed with.
        signing_key: Secret,
    },
}

/// How e-mail is sent.
#[derive(Clone, Debug)]
pub struct Mailbox {
    /// Server, sender and who it is for.
    pub rules: Email,
    /// User name and password.
    pub credentials: Option<(Secret, Secret)>,
}

/// What kind of channel it is, for metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Slack.
    Slack,
    /// Microsoft Teams.
    Teams,
    /// `PagerDuty`.
    PagerDuty,
    /// Alertmanager.
    Alertmanager,
    /// E-mail.
    Email,
    /// A program.
    Webhook,
}

impl Kind {
    /// Of this channel: none when it leads nowhere.
    pub fn of(channel: &Channel) -> Option<Self> {
        let leads = [
            (channel.slack.is_some(), Self::Slack),
            (channel.teams.is_some(), Self::Teams),
            (channel.pager_duty.is_some(), Self::PagerDuty),
            (channel.alertmanager.is_some(), Self::Alertmanager),
            (channel.email.is_some(), Self::Email),
            (channel.webhook.is_some(), Self::Webhook),
        ];
        leads
            .into_iter()
            .find(|(leads, _)| *leads)
            .map(|(_, kind)| kind)
    }

    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Slack => "slack",
            Self::Teams => "teams",
            Self::PagerDuty => "pagerDuty",
            Self::Alertmanager => "alertmanager",
            Self::Email => "email",
            Self::Webhook => "webhook",
        }
    }

    /// Whether people read it, one message after the other: then many at once are one. Programs get each.
    pub fn is_for_people(self) -> bool {
        match self {
            Self::Slack | Self::Teams | Self::PagerDuty | Self::Email => true,
            Self::Alertmanager | Self::Webhook => false,
        }
    }

    /// How long two messages to the same channel lie apart, as the service wants it.
    pub fn pace(self) -> Duration {
        match self {
            Self::Slack => Duration::from_secs(1),
            Self::PagerDuty => Duration::from_millis(500),
            Self::Teams | Self::Email => Duration::from_millis(250),
            Self::Alertmanager | Self::Webhook => Duration::from_millis(50),
        }
    }
}

/// A key of a Secret that a channel needs and that is not there.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the Secret {name} has no key {key}, or nothing is in it")]
pub struct Missing {
    /// Name of the Secret.
    pub name: String,
    /// The key.
    pub key: String,
}

impl Address {
    /// The address of a channel, with what was read of its Secrets, by name and key.
    pub fn of(
        channel: &Channel,
        secrets: &BTreeMap<(String, String), Secret>,
    ) -> Result<Option<Self>, Missing> {
        let find = |of: &SecretKey| {
            let found = secrets.get(&(of.name.clone(), of.key.clone()));
            found
                .filter(|it| !it.0.is_empty())
                .cloned()
                .ok_or_else(|| Missing {
                    name: of.name.clone(),
                    key: of.key.clone(),
                })
        };
        let address = if let Some(slack) = &channel.slack {
            match (&slack.webhook, &slack.bot_token, &slack.channel) {
                (Some(url), _, _) => Self::SlackWebhook { url: find(url)? },
                (None, Some(token), Some(channel)) => Self::SlackBot {
                    token: find(token)?,
                    channel: channel.clone(),
                },
                (None, _, _) => return Ok(None),
            }
        } else if let Some(teams) = &channel.teams {
            Self::Teams {
                url: find(&teams.webhook)?,
            }
        } else if let Some(pager) = &channel.pager_duty {
            Self::PagerDuty {
                routing_key: find(&pager.routing_key)?,
            }
        } else if let Some(alertmanager) = &channel.alertmanager {
            Self::Alertmanager {
                urls: alertmanager.urls.clone(),
                bearer: alertmanager.bearer_token.as_ref().map(find).transpose()?,
            }
        } else if let Some(email) = &channel.email {
            let credentials = match (&email.username, &email.password) {
                (Some(user), Some(password)) => Some((find(user)?, find(password)?)),
                (_, _) => None,
            };
            Self::Email(Box::new(Mailbox {
                rules: email.clone(),
                credentials,
            }))
        } else if let Some(hook) = &channel.webhook {
            Self::Webhook {
                url: find(&hook.url)?,
                signing_key: find(&hook.signing_key)?,
            }
        } else {
            return Ok(None);
        };
        Ok(Some(address))
    }
}
