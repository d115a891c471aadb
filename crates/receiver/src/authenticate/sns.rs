//! Amazon's signatures, and what has to be fetched for them: from the hosts of SNS only, and only for topics that the
//! configuration lists.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use reqwest::redirect::Policy;
use rollback_receiver::signature::{Rejected, sns};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

use super::{Refused, file};
use crate::config::Sns;
use crate::limits::Rates;

/// How long one fetch may take.
const LIMIT: Duration = Duration::from_secs(5);
/// Largest answer, in bytes.
const LARGEST: usize = 64 * 1024;
/// How long a certificate counts without being fetched again.
const COUNTS_FOR: Duration = Duration::from_hours(1);
/// How many certificates are kept.
const MOST: usize = 16;
/// How many certificates are fetched in a minute for messages of one topic: messages that nobody has signed name them.
const PER_MINUTE: u32 = 30;
/// The same for one certificate that was good before: those who make some up have no part in it.
const PER_MINUTE_OF_GOOD: u32 = 6;
/// How long a certificate that was no good is not fetched again.
const REST: Duration = Duration::from_mins(5);
/// How many certificates are remembered, good or not.
const MOST_REMEMBERED: usize = 1000;

/// Why something could not be fetched.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// The topic is not listed.
    #[error("the topic is not among auth.sns.topics of the source")]
    Topic,
    /// The roots cannot be read.
    #[error("reading the certificates that Amazon's lead to: {0}")]
    Roots(String),
    /// There is no answer.
    #[error("asking SNS")]
    Ask(#[from] reqwest::Error),
    /// The answer is not what was asked for.
    #[error("SNS answers {0}")]
    Answer(reqwest::StatusCode),
    /// The answer is too large.
    #[error("the answer of SNS is too large")]
    TooLarge,
}

impl Fault {
    /// Whether it will be the same when it is asked for again at once.
    fn is_final(&self) -> bool {
        match self {
            Self::Answer(status) => {
                (status.is_client_error() || status.is_redirection())
                    && *status != reqwest::StatusCode::TOO_MANY_REQUESTS
            }
            Self::TooLarge => true,
            Self::Topic | Self::Roots(_) | Self::Ask(_) => false,
        }
    }
}

/// Certificates that have signed messages, by the roots that they lead to and their addresses.
#[derive(Default)]
pub struct Certificates {
    kept: Mutex<HashMap<Place, Kept>>,
    remembered: Mutex<HashMap<Place, Remembered>>,
    fetches: Rates,
}

/// What came of a certificate when it was fetched last.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Remembered {
    Good,
    /// Since then.
    Bad(Instant),
}

/// File of the roots of signatures, and address.
type Place = (Option<PathBuf>, String);

#[derive(Clone)]
struct Kept {
    chain: Arc<[u8]>,
    roots: Arc<[CertificateDer<'static>]>,
    at: Instant,
}

impl Certificates {
    /// Whether Amazon signed this message, for one of the topics.
    pub async fn check(&self, config: &Sns, body: &[u8]) -> Result<(), Refused> {
        let message = sns::read(body)?;
        if !config.topics.iter().any(|topic| topic == message.topic()) {
            return Err(Refused::Wrong(Fault::Topic.to_string()));
        }
        if !message.is_of_its_region() {
            let reason = "the certificate is of another region than the topic";
            return Err(Refused::Wrong(reason.to_owned()));
        }
        message.is_recent(Timestamp::now())?;
        let url = message.certificate_url();
        let now = Instant::now();
        let place = (config.roots_file.clone(), url.to_owned());
        let known = self.kept(now).get(&place).cloned();
        let kept = if let Some(known) = known {
            known
        } else {
            self.take(&place, message.topic(), now)?;
            self.fetched(config, &place, now).await?
        };
        let verified = message.verify(&kept.chain, &kept.roots, Timestamp::now());
        match &verified {
            // Whoever forges a message of a good certificate does not have it fetched again.
            Ok(()) | Err(Rejected::Mismatch) => self.keep(place, kept, now),
            Err(_) => self.remember(&place, Remembered::Bad(now)),
        }
        Ok(verified?)
    }

    /// Takes one of the fetches that messages of this topic have, or that this certificate has if it was good before.
    fn take(&self, place: &Place, topic: &str, now: Instant) -> Result<(), Refused> {
        let known = self.remembered().get(place).copied();
        let (bucket, most) = match known {
            Some(Remembered::Bad(at)) if now.duration_since(at) < REST => {
                let reason = "the certificate of SNS was no good a moment ago";
                return Err(Refused::Unknowable(reason.to_owned()));
            }
            Some(Remembered::Good) => (format!("certificate {}", place.1), PER_MINUTE_OF_GOOD),
            Some(Remembered::Bad(_)) | None => (format!("topic {topic}"), PER_MINUTE),
        };
        self.fetches.take(&bucket, most, now).map_err(|_| {
            let reason = "too many certificates of SNS that nobody knows are asked for";
            Refused::Unknowable(reason.to_owned())
        })
    }

    fn keep(&self, place: Place, kept: Kept, now: Instant) {
        self.remember(&place, Remembered::Good);
        let mut all = self.kept(now);
        if all.len() >= MOST && !all.contains_key(&place) {
            all.clear();
        }
        all.insert(place, kept);
    }

    /// One that was good stays so. Those that were not are forgotten first: anybody can name as many as there is room for.
    fn remember(&self, place: &Place, what: Remembered) {
        let mut all = self.remembered();
        if all.get(place) == Some(&Remembered::Good) {
            return;
        }
        if all.len() >= MOST_REMEMBERED && !all.contains_key(place) {
            all.retain(|_, known| *known == Remembered::Good);
        }
        if all.len() >= MOST_REMEMBERED {
            all.clear();
        }
        all.insert(place.clone(), what);
    }

    fn remembered(&self) -> MutexGuard<'_, HashMap<Place, Remembered>> {
        self.remembered
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    async fn fetched(&self, config: &Sns, place: &Place, now: Instant) -> Result<Kept, Refused> {
        let fault = |fault: Fault| {
            if fault.is_final() {
                self.remember(place, Remembered::Bad(now));
            }
            Refused::Unknowable(reason(&fault))
        };
        let roots = roots(config.roots_file.as_ref()).await.map_err(fault)?;
        let chain = fetch(config, &place.1).await.map_err(fault)?;
        Ok(Kept {
            chain: chain.into(),
            roots: roots.into(),
            at: now,
        })
    }

    fn kept(&self, now: Instant) -> MutexGuard<'_, HashMap<Place, Kept>> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.retain(|_, kept| now.duration_since(kept.at) < COUNTS_FOR);
        kept
    }
}

/// A fault with what lies behind it.
pub fn reason(fault: &Fault) -> String {
    match std::error::Error::source(fault) {
        Some(source) => format!("{fault}: {source}"),
        None => fault.to_string(),
    }
}

/// What stands at an address, which has been found to be one of SNS.
pub async fn fetch(config: &Sns, url: &str) -> Result<Vec<u8>, Fault> {
    let roots = roots(
        config
            .tls_roots_file
            .as_ref()
            .or(config.roots_file.as_ref()),
    )
    .await?;
    let certificates = roots
        .iter()
        .filter_map(|root| reqwest::Certificate::from_der(root).ok());
    let mut builder = reqwest::Client::builder()
        .tls_certs_only(certificates)
        .https_only(true)
        .redirect(Policy::none())
        .no_proxy()
        .timeout(LIMIT);
    if let Some((host, via)) = through(config, url) {
        builder = builder.resolve(&host, via);
    }
    let mut answer = builder.build()?.get(url).send().await?;
    if answer.status() != reqwest::StatusCode::OK {
        return Err(Fault::Answer(answer.status()));
    }
    let mut body = Vec::new();
    while let Some(part) = answer.chunk().await? {
        if body.len() + part.len() > LARGEST {
            return Err(Fault::TooLarge);
        }
        body.extend_from_slice(&part);
    }
    Ok(body)
}

fn through(config: &Sns, url: &str) -> Option<(String, SocketAddr)> {
    let host = url::Url::parse(url).ok()?.host_str()?.to_owned();
    Some((host, config.via?))
}

async fn roots(path: Option<&PathBuf>) -> Result<Vec<CertificateDer<'static>>, Fault> {
    let Some(path) = path else {
        let found = tokio::task::spawn_blocking(rustls_native_certs::load_native_certs)
            .await
            .map_err(|error| Fault::Roots(error.to_string()))?;
        if found.certs.is_empty() {
            let reason = "this system has none; name a file with auth.sns.rootsFile";
            return Err(Fault::Roots(reason.to_owned()));
        }
        return Ok(found.certs);
    };
    let pem = file(path)
        .await
        .map_err(|error| Fault::Roots(error.to_string()))?;
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    match all {
        Ok(all) if !all.is_empty() => Ok(all),
        Ok(_) => Err(Fault::Roots(format!("{} has none", path.display()))),
        Err(error) => Err(Fault::Roots(format!("{}: {error}", path.display()))),
    }
}
