//! The keys by which the API server signs tokens, asked of itself and kept for a while.

use std::sync::Arc;
use std::time::{Duration, Instant};

use http::Request;
use jiff::Timestamp;
use kube::Client;
use rollback_receiver::signature::jwt::{Keys, Token, TokenCheck};
use tokio::sync::Mutex;

use super::Refused;
use crate::resolve::short;

/// Where the API server says who it is, and by which keys it signs.
const DISCOVERY: &str = "/.well-known/openid-configuration";
const KEYS: &str = "/openid/v1/jwks";
/// How long the keys count without being asked for again.
const COUNT_FOR: Duration = Duration::from_mins(5);
/// How often they are asked for at most: anybody can name keys that there are not.
const AGAIN_AFTER: Duration = Duration::from_secs(10);

/// How far a token is known to be real.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// The cluster has made it.
    Made,
    /// That cannot be checked here.
    Uncheckable,
}

/// The keys of the cluster.
pub struct Issuer {
    client: Client,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    known: KeyLookup,
    asked: Option<Instant>,
}

/// What is known of the keys.
#[derive(Clone, Default)]
enum KeyLookup {
    /// Nothing yet.
    #[default]
    Nothing,
    /// These are they.
    Keys(Arc<Keys>),
    /// The API server does not tell them.
    Hidden,
}

impl Issuer {
    /// Asks by this client.
    pub fn new(client: Client) -> Self {
        Self {
            client,
            state: Mutex::default(),
        }
    }

    /// Whether the cluster has made this token, as far as that can be told.
    pub async fn check(&self, token: &Token<'_>) -> Result<Standing, Refused> {
        let mut state = self.state.lock().await;
        let mut fresh = state.ask(&self.client, COUNT_FOR).await;
        if let Some(standing) = state.judge(token)? {
            return Ok(standing);
        }
        // The cluster may have another key by now.
        if !fresh {
            fresh = state.ask(&self.client, AGAIN_AFTER).await;
            if let Some(standing) = state.judge(token)? {
                return Ok(standing);
            }
        }
        Err(if fresh {
            Refused::Wrong("the token names a key that the cluster does not have".to_owned())
        } else {
            let why =
                "the token names a key that nobody knows, and the keys were asked for a moment ago";
            Refused::Unknowable(why.to_owned())
        })
    }
}

impl State {
    /// Asks for the keys unless that was done so short a time ago; whether they are new now.
    async fn ask(&mut self, client: &Client, after: Duration) -> bool {
        if self.asked.is_some_and(|at| at.elapsed() < after) {
            return false;
        }
        self.asked = Some(Instant::now());
        match ask(client).await {
            Ok(known) => {
                self.known = known;
                true
            }
            Err(error) => {
                let why = short(&error);
                tracing::warn!(
                    why,
                    "the keys by which the API server signs tokens cannot be read"
                );
                false
            }
        }
    }

    /// What is known of a token; nothing when it names a key that is not known.
    fn judge(&self, token: &Token) -> Result<Option<Standing>, Refused> {
        match &self.known {
            KeyLookup::Nothing => Err(Refused::Unknowable(
                "the keys by which the API server signs tokens are not known".to_owned(),
            )),
            KeyLookup::Hidden => Ok(Some(Standing::Uncheckable)),
            KeyLookup::Keys(keys) => match keys.judge(token, Timestamp::now()) {
                TokenCheck::Made => Ok(Some(Standing::Made)),
                TokenCheck::Uncheckable => Ok(Some(Standing::Uncheckable)),
                TokenCheck::UnknownKey => Ok(None),
                TokenCheck::Wrong(why) => Err(Refused::Wrong(why.to_owned())),
            },
        }
    }
}

async fn ask(client: &Client) -> kube::Result<KeyLookup> {
    let get = async |path: &str| {
        let request = Request::get(path).body(Vec::new());
        let request = request.map_err(kube::Error::HttpError)?;
        client.request_text(request).await
    };
    let answers = futures::try_join!(get(DISCOVERY), get(KEYS));
    match answers {
        Ok((discovery, keys)) => {
            let keys = Keys::read(&discovery, &keys).map_err(kube::Error::SerdeError)?;
            Ok(KeyLookup::Keys(Arc::new(keys)))
        }
        Err(kube::Error::Api(status)) if matches!(status.code, 403 | 404) => {
            tracing::warn!(
                code = status.code,
                "the API server does not tell the keys by which it signs tokens, so made-up tokens use up the budget of \
                 reviews: bind ClusterRole system:service-account-issuer-discovery to ServiceAccount rollback-receiver"
            );
            Ok(KeyLookup::Hidden)
        }
        Err(error) => Err(error),
    }
}
