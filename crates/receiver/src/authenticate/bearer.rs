//! Tokens of `ServiceAccounts`, as the API server judges them: those that the cluster has made, by its keys.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use http::HeaderMap;
use k8s_openapi::api::authentication::v1::{TokenReview, TokenReviewSpec};
use kube::api::PostParams;
use kube::{Api, Client};
use rollback_receiver::signature::jwt::{self, Token};
use sha2::{Digest, Sha256};

use super::issuer::{Issuer, Standing};
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
/// How many new tokens of one account are asked about in a minute: whoever has one can have more made, and the API server
/// has other things to do.
const NEW_PER_MINUTE: u32 = 30;
/// The same for all tokens that may be made up, where nobody can tell: all accounts together.
const STRANGERS_PER_MINUTE: u32 = 120;
/// The bucket of those.
const STRANGERS: &str = "";

fn among(bearer: &Bearer, username: &str) -> Result<(), Refused> {
    if bearer.usernames.iter().any(|it| it == username) {
        return Ok(());
    }
    let who = rollback_core::message::text::plain(username, 200);
    Err(Refused::Wrong(format!(
        "the token is one of {who}, which is not among auth.bearer.usernames of the source"
    )))
}

/// What the API server said of tokens that were right. Kept by their hashes, never themselves.
pub struct Reviews {
    client: Client,
    issuer: Issuer,
    known: Mutex<HashMap<[u8; 32], KnownToken>>,
    asked: Rates,
}

#[derive(Clone)]
struct KnownToken {
    username: String,
    at: Instant,
}

impl Reviews {
    /// Asks by this client.
    pub fn new(client: Client) -> Self {
        Self {
            issuer: Issuer::new(client.clone()),
            client,
            known: Mutex::default(),
            asked: Rates::default(),
        }
    }

    /// Whose token it is, if that is one of those who may send.
    pub async fn check(&self, bearer: &Bearer, headers: &HeaderMap) -> Result<Sender, Refused> {
        let said = credentials(headers, "bearer").ok_or(Refused::Missing("there is no token"))?;
        let token = jwt::read(said).filter(|token| token.is_for(AUDIENCE));
        let token = token.ok_or(Refused::Missing("the token is none of ours"))?;
        among(bearer, token.subject())?;
        let username = self.username(said, &token).await?;
        among(bearer, &username)?;
        Ok(username)
    }

    /// Takes one of the questions to the API server that the account of this token has, which the cluster has made: whoever
    /// makes some up has none of them.
    async fn take(&self, token: &Token<'_>, now: Instant) -> Result<(), Refused> {
        let (bucket, most) = match self.issuer.check(token).await? {
            Standing::Made => (token.subject(), NEW_PER_MINUTE),
            Standing::Uncheckable => (STRANGERS, STRANGERS_PER_MINUTE),
        };
        let question = self.asked.take(bucket, most, now);
        question.map_err(|_| Refused::Unknowable("too many new tokens are tried".to_owned()))
    }

    async fn username(&self, said: &str, token: &Token<'_>) -> Result<String, Refused> {
        let hash: [u8; 32] = Sha256::digest(said).into();
        let now = Instant::now();
        let known = self.known(now).get(&hash).cloned();
        if let Some(known) = &known
            && now.duration_since(known.at) < COUNTS_FOR
        {
            return Ok(known.username.clone());
        }
        if known.is_none() {
            self.take(token, now).await?;
        }
        let answer = self.review(said).await;
        let mut known = self.known(now);
        match answer {
            Ok(username) => {
                if known.len() >= MOST && !known.contains_key(&hash) {
                    known.clear();
                }
                let username_known = username.clone();
                known.insert(
                    hash,
                    KnownToken {
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

    fn known(&self, now: Instant) -> MutexGuard<'_, HashMap<[u8; 32], KnownToken>> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.retain(|_, known| now.duration_since(known.at) < KNOWN_FOR);
        known
    }
}
