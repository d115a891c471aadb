//! A name and a password.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::HeaderMap;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use super::{Refused, Sender, credentials, secret};
use crate::config::Basic;

/// Whether name and password are right. Compared by their hashes, so that not even their lengths can be measured.
pub async fn check(basic: &Basic, headers: &HeaderMap) -> Result<Sender, Refused> {
    let missing = Refused::Missing("there is no name and password");
    let Some(given) = credentials(headers, "basic").and_then(|it| STANDARD.decode(it).ok()) else {
        return Err(missing);
    };
    let mut right = basic.username.clone().into_bytes();
    right.push(b':');
    right.extend(secret(&basic.password_file).await?);
    let fits = Sha256::digest(&given).ct_eq(&Sha256::digest(&right));
    if bool::from(fits) {
        Ok(basic.username.clone())
    } else {
        Err(Refused::Wrong("name or password is wrong".to_owned()))
    }
}
