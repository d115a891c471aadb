//! Who sent a delivery. Nothing of it is read before that is known, and nobody is told which of the things that they said
//! was wrong.

mod bearer;
mod certificate;
mod issuer;
mod password;
mod signed;
mod sns;

use std::path::Path;

use bytes::Bytes;
use http::HeaderMap;
use rollback_receiver::signature::Rejected;
use tokio::io::AsyncReadExt;

pub use certificate::{Peer, authorities};
pub use sns::Fault;

use crate::config::{Auth, Source};

/// Largest file with a secret, or with certificates, in bytes.
const LARGEST_FILE: u64 = 256 * 1024;

/// Who sent a delivery: a name for logs and limits.
pub type Sender = String;

/// Why a delivery is not taken. For logs only: to the sender all of it is the same.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    /// It does not say who it is from, or not as this source does.
    #[error("{0}")]
    Missing(&'static str),
    /// What it says is wrong.
    #[error("{0}")]
    Wrong(String),
    /// Its signature is wrong.
    #[error(transparent)]
    Signature(#[from] Rejected),
    /// It cannot be told now; that is not the fault of the sender.
    #[error("{0}")]
    Unknowable(String),
}

/// What tells who sent a delivery.
pub struct Authenticator {
    reviews: bearer::Reviews,
    certificates: sns::Certificates,
}

impl Authenticator {
    /// Asks the API server about tokens by this client.
    pub fn new(client: kube::Client) -> Self {
        Self {
            reviews: bearer::Reviews::new(client),
            certificates: sns::Certificates::default(),
        }
    }

    /// Who sent it, where the body does not matter for that: then nobody else's is read at all. `None` when only the body
    /// tells.
    pub async fn by_head(
        &self,
        source: &Source,
        headers: &HeaderMap,
        peer: Option<&Peer>,
    ) -> Result<Option<Sender>, Refused> {
        match &source.auth {
            Auth::Bearer(bearer) => self.reviews.check(bearer, headers).await.map(Some),
            Auth::Basic(basic) => password::check(basic, headers).await.map(Some),
            Auth::Mtls(mtls) => certificate::check(mtls, peer).await.map(Some),
            Auth::Hmac(_) | Auth::Sns(_) => Ok(None),
        }
    }

    /// Who sent it, where the body tells.
    pub async fn by_body(
        &self,
        source: &Source,
        headers: &HeaderMap,
        body: &Bytes,
    ) -> Result<Sender, Refused> {
        match &source.auth {
            Auth::Hmac(hmac) => signed::check(source.format, hmac, headers, body).await?,
            Auth::Sns(sns) => self.certificates.check(sns, body).await?,
            Auth::Bearer(_) | Auth::Basic(_) | Auth::Mtls(_) => {
                return Err(Refused::Missing("the head should have told who sent it"));
            }
        }
        Ok(source.name.clone())
    }

    /// Confirms a subscription of SNS.
    pub async fn confirm(&self, source: &Source, topic: &str, url: &str) -> Result<(), Fault> {
        match &source.auth {
            Auth::Sns(sns) if sns.topics.iter().any(|it| it == topic) => {
                sns::fetch(sns, url).await.map(|_| ())
            }
            Auth::Sns(_) | Auth::Bearer(_) | Auth::Basic(_) | Auth::Mtls(_) | Auth::Hmac(_) => {
                Err(Fault::Topic)
            }
        }
    }
}

/// What a file with a secret holds, without the end of the line that editors leave there. Read each time: then it is
/// always the one that counts.
async fn secret(path: &Path) -> Result<Vec<u8>, Refused> {
    let mut secret = file(path).await?;
    while secret
        .last()
        .is_some_and(|byte| *byte == b'\n' || *byte == b'\r')
    {
        secret.pop();
    }
    if secret.is_empty() {
        return Err(Refused::Unknowable(format!("{} is empty", path.display())));
    }
    Ok(secret)
}

async fn file(path: &Path) -> Result<Vec<u8>, Refused> {
    let failed =
        |error: std::io::Error| Refused::Unknowable(format!("{}: {error}", path.display()));
    let mut content = Vec::new();
    let file = tokio::fs::File::open(path).await.map_err(failed)?;
    file.take(LARGEST_FILE)
        .read_to_end(&mut content)
        .await
        .map_err(failed)?;
    Ok(content)
}

/// A header that comes once, as text.
fn header<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    let mut all = headers.get_all(name).iter();
    let first = all.next()?;
    if all.next().is_some() {
        return None;
    }
    first.to_str().ok()
}

/// What follows the scheme in the header `Authorization`.
fn credentials<'a>(headers: &'a HeaderMap, scheme: &str) -> Option<&'a str> {
    let (said, credentials) = header(headers, "authorization")?.split_once(' ')?;
    said.eq_ignore_ascii_case(scheme)
        .then_some(credentials.trim())
}
