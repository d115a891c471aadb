//! Tokens of `ServiceAccounts`, as the API server judges them.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::HeaderMap;
use k8s_openapi::api::authentication::v1::{TokenReview, TokenReviewSpec};
use kube::api::PostParams;
use kube::{Api, Client};
use serde::Deserialize;
use sha2::{Digest, Sha256};

use super::{Refused, Sender, credentials};
use crate::config::Bearer;
use crate::limits::Rates;
use crate::resolve::short;

/// What a token must be for: one that was made to talk to the API server, or to somebody else, is of no use here.
pub const AUDIENCE: &str = "rollback-receiver";
/// How long an answer of the API server counts.
const COUNTS_FOR: Duration = Duration::from_mins(1);
/// How long a token is known as one that was right: it is asked about again before those of strangers.
const KNOWN_FOR: Duration = Duration::from_mins(30);
/// How many tokens are known.
const MOST: usize = 1000;
/// How many tokens of strangers are asked about in a minute: anybody can make some up, and the API server has other things
/// to do.
const STRANGERS_PER_MINUTE: u32 = 120;
/// Longest token, in bytes.
const LONGEST: usize = 8 * 1024;

/// What a token says of itself. Anybody can write that; so it is only asked about if it says what has to be true of it.
#[derive(Deserialize)]
struct Claims {
    sub: String,
    aud: Audiences,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Audiences {
    One(String),
    Many(Vec<String>),
}

/// What a token of a `ServiceAccount` for our audience says of itself.
fn claims(token: &str) -> Option<Claims> {
    let mut parts = token.split('.');
    let (_, claims, _) = (parts.next()?, parts.next()?, parts.next()?);
    if token.len() > LONGEST || parts.next().is_some() {
        return None;
    }
    let claims: Claims = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(claims).ok()?).ok()?;
    let is_ours = match &claims.aud {
        Audiences::One(audience) => audience == AUDIENCE,
        Audiences::Many(audiences) => audiences.iter().any(|audience| audience == AUDIENCE),
    };
    is_ours.then_some(claims)
}

fn among(bearer: &Bearer, username: &str) -> Result<(), Refused> {
    if bearer.usernames.iter().any(|it| it == username) {
        return Ok(());
    }
    let who = rollback_core::text::plain(username, 200);
    Err(Refused::Wrong(format!(
        "the token is one of {who}, which is not among auth.bearer.usernames of the source"
    )))
}

/// What the API server said of tokens that were right. Kept by their hashes, never themselves.
pub struct Reviews {
    client: Client,
    known: Mutex<HashMap<[u8; 32], Known>>,
    strangers: Rates,
}

#[derive(Clone)]
struct Known {
    username: String,
    at: Instant,
}

impl Reviews {
    /// Asks by this client.
    pub fn new(client: Client) -> Self {
        Self {
            client,
            known: Mutex::default(),
            strangers: Rates::default(),
        }
    }

    /// Whose token it is, if that is one of those who may send.
    pub async fn check(&self, bearer: &Bearer, headers: &HeaderMap) -> Result<Sender, Refused> {
        let token = credentials(headers, "bearer").ok_or(Refused::Missing("there is no token"))?;
        let claims = claims(token).ok_or(Refused::Missing("the token is none of ours"))?;
        among(bearer, &claims.sub)?;
        let username = self.username(token).await?;
        among(bearer, &username)?;
        Ok(username)
    }

    async fn username(&self, token: &str) -> Result<String, Refused> {
        let hash: [u8; 32] = Sha256::digest(token).into();
        let now = Instant::now();
        let known = self.known(now).get(&hash).cloned();
        if let Some(known) = &known
            && now.duration_since(known.at) < COUNTS_FOR
        {
            return Ok(known.username.clone());
        }
        let stranger = known.is_none();
        if stranger && self.strangers.take("", STRANGERS_PER_MINUTE, now).is_err() {
            return Err(Refused::Unknowable(
                "too many tokens that nobody knows are tried".to_owned(),
            ));
        }
        let answer = self.review(token).await;
        let mut known = self.known(now);
        match answer {
            Ok(username) => {
                if known.len() >= MOST && !known.contains_key(&hash) {
                    known.clear();
                }
                let username_known = username.clone();
                known.insert(
                    hash,
                    Known {
                        username: username_known,
                        at: now,
                    },
                );
                Ok(username)
            }
            Err(refused) => {
                if !matches!(refused, Refused::Unknowable(_)) {
                    known.remove(&hash);
                }
                Err(refused)
            }
        }
    }

    async fn review(&self, token: &str) -> Result<String, Refused> {
        let review = TokenReview {
            spec: TokenReviewSpec {
                token: token.to_owned(),
                audiences: Some(vec![AUDIENCE.to_owned()]),
            },
            ..TokenReview::default()
        };
        let api: Api<TokenReview> = Api::all(self.client.clone());
        let answer = api.create(&PostParams::default(), &review).await;
        let status = answer
            .map_err(|error| Refused::Unknowable(format!("reviewing a token: {}", short(&error))))?
            .status
            .unwrap_or_default();
        // An API server that knows no audiences leaves them out, and then has not looked for ours.
        let audiences = status.audiences.unwrap_or_default();
        let is_ours = audiences.iter().any(|audience| audience == AUDIENCE);
        let username = status.user.and_then(|user| user.username);
        match username {
            Some(username) if status.authenticated == Some(true) && is_ours => Ok(username),
            Some(_) | None => Err(Refused::Wrong(format!(
                "the API server does not accept the token for the audience {AUDIENCE}"
            ))),
        }
    }

    fn known(&self, now: Instant) -> MutexGuard<'_, HashMap<[u8; 32], Known>> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.retain(|_, known| now.duration_since(known.at) < KNOWN_FOR);
        known
    }
}
