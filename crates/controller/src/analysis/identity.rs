//! The identity in which the controller's own watch asks: a `ServiceAccount` beside the controller's, which may create
//! requests and nothing else. So nobody who approves, carries out or records a rollback has asked for it.

use jiff::Timestamp;
use k8s_openapi::api::authentication::v1::{TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::ServiceAccount;
use kube::api::PostParams;
use kube::client::ClientBuilder;
use kube::config::AuthInfo;
use kube::{Api, Client, Config};
use rollback_core::time;
use tokio::sync::Mutex;

use crate::lease::leader::LeaderOnly;

/// Name of the `ServiceAccount`, in the controller's own namespace.
const ACCOUNT: &str = "rollback-watch";
/// For how long a token is asked for, in seconds.
const LIFETIME: i64 = 3600;
/// How long before its end a token is not used any more, in seconds.
const MARGIN: i64 = 300;

/// Why there is no client in this identity.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The API server gives no token.
    #[error("asking for a token of the ServiceAccount {ACCOUNT}")]
    Token(#[source] kube::Error),
    /// No client can be made of it.
    #[error("preparing the client of the ServiceAccount {ACCOUNT}")]
    Client(#[source] kube::Error),
    /// The answer has no token in it.
    #[error("the API server answered without a token for the ServiceAccount {ACCOUNT}")]
    Empty,
}

/// Makes clients in the identity of the watch.
pub struct Identity {
    config: Config,
    leader: LeaderOnly,
    home: String,
    current: Mutex<Option<(Client, Timestamp)>>,
}

impl Identity {
    /// `config` says where the API server is; `home` is the controller's own namespace.
    pub fn new(config: Config, leader: LeaderOnly, home: String) -> Self {
        Self {
            config,
            leader,
            home,
            current: Mutex::default(),
        }
    }

    /// A client in this identity, made with `own`, which may ask for its token.
    pub async fn client(&self, own: &Client) -> Result<Client, Error> {
        let mut current = self.current.lock().await;
        let now = Timestamp::now();
        if let Some((client, until)) = current.as_ref()
            && now < *until
        {
            return Ok(client.clone());
        }
        let accounts: Api<ServiceAccount> = Api::namespaced(own.clone(), &self.home);
        let wanted = TokenRequest {
            spec: Some(TokenRequestSpec {
                expiration_seconds: Some(LIFETIME),
                ..TokenRequestSpec::default()
            }),
            ..TokenRequest::default()
        };
        let given = accounts
            .create_token_request(ACCOUNT, &PostParams::default(), &wanted)
            .await
            .map_err(Error::Token)?;
        let status = given.status.ok_or(Error::Empty)?;
        let token = status.token.ok_or(Error::Empty)?;
        let ends = status
            .expiration_timestamp
            .map_or(time::after(now, LIFETIME), |ends| ends.0);
        let mut config = self.config.clone();
        config.auth_info = AuthInfo {
            token: Some(token.into()),
            ..AuthInfo::default()
        };
        let builder = ClientBuilder::try_from(config).map_err(Error::Client)?;
        let client = builder.with_layer(&self.leader.layer()).build();
        *current = Some((client.clone(), time::after(ends, -MARGIN)));
        Ok(client)
    }

    /// The token is not taken any more.
    pub async fn forget(&self) {
        *self.current.lock().await = None;
    }
}
