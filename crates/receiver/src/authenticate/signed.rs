//! Signatures over the body. Which one follows from the format.

use bytes::Bytes;
use http::HeaderMap;
use jiff::Timestamp;
use rollback_receiver::intake::{Format, Proof, Signed};
use rollback_receiver::signature::Rejected;

use super::{Refused, header, secret};
use crate::config::Hmac;

const MISSING: Refused = Refused::Missing("there is no signature");

/// Whether one of the secrets signed this body.
pub async fn check(
    format: Format,
    hmac: &Hmac,
    headers: &HeaderMap,
    body: &Bytes,
) -> Result<(), Refused> {
    let mut secrets = Vec::new();
    for path in &hmac.secret_files {
        secrets.push(secret(path).await?);
    }
    let now = Timestamp::now();
    let one = |chosen: Option<&str>, usual| header(headers, chosen.unwrap_or(usual)).ok_or(MISSING);
    let usual = match &format.description().proof {
        Proof::Hmac(usual) => usual,
        Proof::Credentials | Proof::Amazon => return Err(MISSING),
    };
    let code = one(hmac.signature_header.as_deref(), usual.header)?;
    match &usual.signed {
        Signed::Body(fits) => any(&secrets, |it| fits(it, code, body)),
        Signed::TimeAndBody { header, fits } => {
            let time = one(hmac.timestamp_header.as_deref(), header)?;
            any(&secrets, |it| fits(it, code, time, body, now))
        }
    }
}

/// All secrets are tried, whichever fits: how long it takes says nothing.
fn any(secrets: &[Vec<u8>], fits: impl Fn(&[u8]) -> Result<(), Rejected>) -> Result<(), Refused> {
    let mut result = Err(MISSING);
    for secret in secrets {
        let this = fits(secret);
        if result.is_err() {
            result = this.map_err(Refused::from);
        }
    }
    result
}
