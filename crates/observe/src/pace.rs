//! What a namespace has had of rollbacks without a person, and whether there are to be more.

use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::ListParams;
use kube::core::Request;
use kube::{Api, Resource};
use rollback_api::{RevisionLedger, RollbackRequest};
use rollback_core::decide::automatic;
use rollback_core::evidence::pace::Tally;
use rollback_core::observed::Pace;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::{Error, Pass, reading};

/// Name of the ConfigMap that switches everything automatic off, in the controller's own namespace.
const SWITCH: &str = "rollback-automatic";
/// Its key; `true` switches off.
const PAUSED: &str = "paused";
/// How many objects are read at a time: ledgers keep whole templates, and are dropped page by page.
const PAGE: u32 = 20;

/// One page of a list, of whose items only that is kept which is counted.
#[derive(Deserialize)]
struct Page<T> {
    #[serde(default)]
    metadata: More,
    items: Vec<T>,
}

#[derive(Default, Deserialize)]
struct More {
    #[serde(default, rename = "continue")]
    token: Option<String>,
}

#[derive(Default, Deserialize)]
struct Named {
    #[serde(default)]
    name: String,
    #[serde(default)]
    uid: String,
}

/// What is counted of a ledger.
#[derive(Deserialize)]
struct OfLedger {
    metadata: Named,
    #[serde(default)]
    spec: Remembered,
}

#[derive(Default, Deserialize)]
struct Remembered {
    #[serde(default)]
    rollbacks: Option<Value>,
}

/// What is counted of a request.
#[derive(Deserialize)]
struct OfRequest {
    metadata: Named,
    #[serde(default)]
    status: Said,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Said {
    #[serde(default)]
    auto_approval: Option<Value>,
}

impl Pass<'_> {
    /// Read when the policy has to decide, and live: the cache may not have the last decision yet.
    pub(super) async fn pace(&self) -> Result<Option<Pace>, Error> {
        if !automatic::is_asked(self.scope.request, self.status) {
            return Ok(None);
        }
        let (tally, paused) = futures::try_join!(self.recent(), self.paused())?;
        Ok(Some(tally.pace(paused)))
    }

    /// Requests first: of those that are gone by then, the ledgers know already.
    async fn recent(&self) -> Result<Tally, Error> {
        let mut tally = Tally::at(self.scope.now);
        let url = RollbackRequest::url_path(&(), Some(self.scope.namespace));
        self.each("the RollbackRequests", &url, |it: &OfRequest| {
            let Named { name, uid } = &it.metadata;
            tally.request(name, uid, it.status.auto_approval.as_ref());
        })
        .await?;
        let url = RevisionLedger::url_path(&(), Some(self.scope.namespace));
        self.each("the RevisionLedgers", &url, |it: &OfLedger| {
            tally.ledger(&it.metadata.name, it.spec.rollbacks.as_ref());
        })
        .await?;
        Ok(tally)
    }

    /// Looks at all objects of a collection, a page at a time.
    async fn each<T: DeserializeOwned>(
        &self,
        what: &'static str,
        url: &str,
        mut look: impl FnMut(&T),
    ) -> Result<(), Error> {
        let mut token: Option<String> = None;
        loop {
            let mut parameters = ListParams::default().limit(PAGE);
            parameters.continue_token = token.take();
            let request = Request::new(url)
                .list(&parameters)
                .map_err(kube::Error::BuildRequest);
            let page: Page<T> = match request {
                Ok(request) => reading(what, self.scope.client().request(request).await)?,
                Err(error) => return reading(what, Err(error)),
            };
            page.items.iter().for_each(&mut look);
            token = page.metadata.token.filter(|token| !token.is_empty());
            if token.is_none() {
                return Ok(());
            }
        }
    }

    /// `None` when it may not be read: then nothing automatic happens.
    async fn paused(&self) -> Result<Option<bool>, Error> {
        let api: Api<ConfigMap> = Api::namespaced(self.scope.client(), &self.knowledge.home);
        match api.get_opt(SWITCH).await {
            Ok(switch) => {
                let value = switch.and_then(|switch| switch.data?.remove(PAUSED));
                // Whatever else stands there was meant to say something.
                Ok(Some(value.is_some_and(|value| value.trim() != "false")))
            }
            Err(kube::Error::Api(status)) if status.is_forbidden() => Ok(None),
            Err(error) => reading("the switch of everything automatic", Err(error)),
        }
    }
}
