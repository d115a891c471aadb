//! Checks that the holder of a secret wrote exactly this body.
//!
//! Every function takes the raw bytes of the body: a document that was parsed and written again is another one. Codes are
//! compared in constant time. An error says what the operator can do, and nothing about the secret, the expected code or
//! the one that came.

pub mod jwt;
pub mod sns;

use hmac::digest::block_api::EagerHash;
use hmac::{Hmac, KeyInit, Mac};
use jiff::{SignedDuration, Timestamp};
use sha2::{Sha256, Sha512};
use subtle::{Choice, ConstantTimeEq};
use thiserror::Error;

/// How far the clocks of a sender and of this program may be apart, and how long a delivery may take.
pub const TOLERANCE: SignedDuration = SignedDuration::from_mins(5);

/// Most codes of one header that are compared; `PagerDuty` sends one for each of its secrets, which are two at most.
const MOST_CODES: usize = 16;

/// Why a delivery is not believed.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Rejected {
    /// There is no secret to check with, or an empty one, by which anybody could sign.
    #[error(
        "the secret of this source is empty: put the one that its sender signs with into the Secret"
    )]
    NoSecret,
    /// The header is not as this source writes it.
    #[error(
        "the signature is not {expected}: let the sender sign its deliveries, and the header pass every proxy unchanged"
    )]
    Malformed {
        /// How the source writes it.
        expected: &'static str,
    },
    /// The code does not fit.
    #[error(
        "the signature does not fit the body: compare the secret with the sender's, and let no proxy change the body"
    )]
    Mismatch,
    /// The source signs a moment, and none came.
    #[error("the timestamp is missing: let the sender send the header that holds it")]
    NoTimestamp,
    /// What came is no moment.
    #[error("the timestamp is not {expected}: let the sender send it as it is signed")]
    BadTimestamp {
        /// How it is written.
        expected: &'static str,
    },
    /// It was signed too long ago, or in the future.
    #[error(
        "the timestamp is more than {minutes} minutes away from this clock: a delivery that was sent again, or a clock that is wrong"
    )]
    Stale {
        /// How far it may be away.
        minutes: i64,
    },
    /// A message of SNS lacks a field or has one that cannot be used.
    #[error("{field} of the SNS message {reason}")]
    Message {
        /// The field.
        field: &'static str,
        /// What is wrong, and what to do.
        reason: &'static str,
    },
    /// The certificate by which SNS signed is not believed.
    #[error("the certificate of the SNS message {reason}")]
    Certificate {
        /// What is wrong, and what to do.
        reason: &'static str,
    },
}

/// Grafana: the code in hex. If the contact point has a timestamp header, `"<seconds>:"` is signed before the body.
pub fn grafana(
    secret: &[u8],
    signature: &str,
    timestamp: Option<&str>,
    body: &[u8],
    now: Timestamp,
) -> Result<(), Rejected> {
    let code: [u8; 32] = decode(signature, "an HMAC-SHA256 in hex")?;
    match timestamp {
        None => check(&expected::<Sha256>(secret, &[body])?, &code),
        Some(timestamp) => {
            check(
                &expected::<Sha256>(secret, &[timestamp.as_bytes(), b":", body])?,
                &code,
            )?;
            fresh(timestamp, now)
        }
    }
}

/// `PagerDuty`: `v1=<hex>`, several of them with commas between while a secret is replaced. One that fits one of the
/// secrets is enough; codes of other versions are passed over.
pub fn pager_duty(secrets: &[impl AsRef<[u8]>], header: &str, body: &[u8]) -> Result<(), Rejected> {
    const EXPECTED: &str = "v1=<HMAC-SHA256 in hex>, several with commas between";
    let parts = header.split(',').take(MOST_CODES).map(str::trim);
    let codes: Vec<[u8; 32]> = parts
        .filter_map(|part| part.strip_prefix("v1="))
        .filter_map(|hex| decode(hex, EXPECTED).ok())
        .collect();
    if codes.is_empty() {
        return Err(Rejected::Malformed { expected: EXPECTED });
    }
    if secrets.is_empty() {
        return Err(Rejected::NoSecret);
    }
    let mut fits = Choice::from(0);
    for secret in secrets {
        let expected = expected::<Sha256>(secret.as_ref(), &[body])?;
        for code in &codes {
            fits |= expected.as_slice().ct_eq(code);
        }
    }
    decided(fits)
}

/// Sentry: the code in hex. Sentry does not sign its timestamp, so that a delivery that is sent again is believed.
pub fn sentry(secret: &[u8], signature: &str, body: &[u8]) -> Result<(), Rejected> {
    let code: [u8; 32] = decode(signature, "an HMAC-SHA256 in hex")?;
    check(&expected::<Sha256>(secret, &[body])?, &code)
}

/// Flux: `sha256=<hex>` or `sha512=<hex>`. Flux signs no timestamp, so that a delivery that is sent again is believed.
pub fn flux(secret: &[u8], header: &str, body: &[u8]) -> Result<(), Rejected> {
    const EXPECTED: &str = "sha256=<HMAC in hex> or sha512=<HMAC in hex>";
    if let Some(hex) = header.strip_prefix("sha256=") {
        let code: [u8; 32] = decode(hex, EXPECTED)?;
        check(&expected::<Sha256>(secret, &[body])?, &code)
    } else if let Some(hex) = header.strip_prefix("sha512=") {
        let code: [u8; 64] = decode(hex, EXPECTED)?;
        check(&expected::<Sha512>(secret, &[body])?, &code)
    } else {
        Err(Rejected::Malformed { expected: EXPECTED })
    }
}

/// The generic format: `sha256=<hex>` over `"<seconds>."` and the body.
pub fn generic(
    secret: &[u8],
    header: &str,
    timestamp: &str,
    body: &[u8],
    now: Timestamp,
) -> Result<(), Rejected> {
    const EXPECTED: &str = "sha256=<HMAC-SHA256 in hex>";
    let hex = header.strip_prefix("sha256=");
    let hex = hex.ok_or(Rejected::Malformed { expected: EXPECTED })?;
    let code: [u8; 32] = decode(hex, EXPECTED)?;
    check(
        &expected::<Sha256>(secret, &[timestamp.as_bytes(), b".", body])?,
        &code,
    )?;
    fresh(timestamp, now)
}

/// The bytes of a code: exactly as many as it has, in hex of either case.
fn decode<const N: usize>(hex: &str, expected: &'static str) -> Result<[u8; N], Rejected> {
    let mut code = [0; N];
    match hex::decode_to_slice(hex, &mut code) {
        Ok(()) => Ok(code),
        Err(_) => Err(Rejected::Malformed { expected }),
    }
}

/// The code that these parts have, one after the other.
fn expected<D: EagerHash>(secret: &[u8], parts: &[&[u8]]) -> Result<Vec<u8>, Rejected> {
    let Some(mut mac) = Some(secret)
        .filter(|secret| !secret.is_empty())
        .and_then(|secret| Hmac::<D>::new_from_slice(secret).ok())
    else {
        return Err(Rejected::NoSecret);
    };
    for part in parts {
        mac.update(part);
    }
    Ok(mac.finalize().into_bytes().to_vec())
}

fn check(expected: &[u8], code: &[u8]) -> Result<(), Rejected> {
    decided(expected.ct_eq(code))
}

fn decided(fits: Choice) -> Result<(), Rejected> {
    if bool::from(fits) {
        Ok(())
    } else {
        Err(Rejected::Mismatch)
    }
}

/// Whether the moment, in seconds since 1970, is near.
fn fresh(timestamp: &str, now: Timestamp) -> Result<(), Rejected> {
    if timestamp.is_empty() {
        return Err(Rejected::NoTimestamp);
    }
    let digits = timestamp.bytes().all(|byte| byte.is_ascii_digit());
    let seconds = digits.then(|| timestamp.parse().ok()).flatten();
    let moment = seconds.and_then(|seconds| Timestamp::from_second(seconds).ok());
    let moment = moment.ok_or(Rejected::BadTimestamp {
        expected: "in seconds since 1970",
    })?;
    near(moment, now, TOLERANCE)
}

fn near(moment: Timestamp, now: Timestamp, tolerance: SignedDuration) -> Result<(), Rejected> {
    if now.duration_since(moment).abs() <= tolerance {
        Ok(())
    } else {
        Err(Rejected::Stale {
            minutes: tolerance.as_mins(),
        })
    }
}
