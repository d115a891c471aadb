//! Signatures over the body. Which one follows from the format.

use bytes::Bytes;
use http::HeaderMap;
use jiff::Timestamp;
use rollback_receiver::intake::Format;
use rollback_receiver::signature::{self, Rejected};

use super::{Refused, header, secret};
use crate::config::Hmac;

const MISSING: Refused = Refused::Missing("there is no signature");
/// Grafana's own name for it.
const GRAFANA_SIGNATURE: &str = "X-Grafana-Alerting-Signature";
/// Grafana has no name for it; this is the one to set there.
const GRAFANA_TIMESTAMP: &str = "X-Grafana-Alerting-Timestamp";

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
    let one = |name: &str| header(headers, name).ok_or(MISSING);
    match format {
        Format::Grafana => {
            let name = hmac.signature_header.as_deref();
            let code = one(name.unwrap_or(GRAFANA_SIGNATURE))?;
            let name = hmac.timestamp_header.as_deref();
            // Without the time, whoever has seen a delivery could send it again for ever.
            let time = one(name.unwrap_or(GRAFANA_TIMESTAMP))?;
            any(&secrets, |it| {
                signature::grafana(it, code, Some(time), body, now)
            })
        }
        Format::PagerDuty => {
            let codes = one("X-PagerDuty-Signature")?;
            Ok(signature::pager_duty(&secrets, codes, body)?)
        }
        Format::Sentry => {
            let code = one("Sentry-Hook-Signature")?;
            any(&secrets, |it| signature::sentry(it, code, body))
        }
        Format::Flux => {
            let code = one("X-Signature")?;
            any(&secrets, |it| signature::flux(it, code, body))
        }
        Format::Generic => {
            let (code, time) = (one("X-Signature")?, one("X-Timestamp")?);
            any(&secrets, |it| signature::generic(it, code, time, body, now))
        }
        Format::Alertmanager | Format::Datadog | Format::Sns => Err(MISSING),
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
