//! Who does not lead does not write: every request that is not a GET is refused before it is sent.
//!
//! This keeps a controller that has lost its lease from trying; it cannot call back what is on its way
//! already. What stops that are the preconditions of each write: the `resourceVersion` of the status,
//! the `generation` of the Deployment.

use std::time::Instant;

use http::{Method, Request};
use tokio::sync::watch;
use tower::BoxError;
use tower::filter::{FilterLayer, Predicate};

/// Until when this process may write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hold {
    /// Not now.
    Not,
    /// Until then.
    Until(Instant),
    /// As long as it runs: there is no election.
    Always,
}

impl Hold {
    fn allows(self, now: Instant) -> bool {
        match self {
            Self::Not => false,
            Self::Until(until) => now < until,
            Self::Always => true,
        }
    }
}

/// A write that was not sent.
#[derive(Debug, thiserror::Error)]
#[error("this controller is not the leader, so it does not write: {method} {path}")]
pub struct NotLeader {
    method: Method,
    path: String,
}

/// Lets writes pass while this process leads.
#[derive(Clone, Debug)]
pub struct LeaderOnly(watch::Receiver<Hold>);

impl LeaderOnly {
    /// Writes pass while `hold` says so.
    pub fn new(hold: watch::Receiver<Hold>) -> Self {
        Self(hold)
    }

    /// Waits until this process leads. False when it will not any more.
    pub async fn elected(&self) -> bool {
        let mut hold = self.0.clone();
        hold.wait_for(|hold| *hold != Hold::Not).await.is_ok()
    }

    /// The layer of a client that writes only while this process leads.
    pub fn layer(&self) -> FilterLayer<Self> {
        FilterLayer::new(self.clone())
    }
}

impl<B> Predicate<Request<B>> for LeaderOnly {
    type Request = Request<B>;

    fn check(&mut self, request: Request<B>) -> Result<Self::Request, BoxError> {
        let hold = *self.0.borrow();
        if request.method() == Method::GET || hold.allows(Instant::now()) {
            return Ok(request);
        }
        Err(Box::new(NotLeader {
            method: request.method().clone(),
            path: request.uri().path().to_owned(),
        }))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use k8s_openapi::api::core::v1::ConfigMap;
    use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
    use kube::client::{Body, ClientBuilder};
    use kube::{Api, Client};
    use serde_json::json;
    use tokio::sync::mpsc;

    use super::*;

    /// A client behind a gate, and what comes through it.
    fn client(hold: watch::Receiver<Hold>) -> (Client, mpsc::UnboundedReceiver<Method>) {
        let (seen, passed) = mpsc::unbounded_channel();
        let server = tower::service_fn(move |request: Request<Body>| {
            let _ = seen.send(request.method().clone());
            let answer =
                json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "x"}});
            let body = Body::from(answer.to_string().into_bytes());
            std::future::ready(Ok::<_, BoxError>(http::Response::new(body)))
        });
        let leader = LeaderOnly::new(hold);
        let client = ClientBuilder::new(server, "default").with_layer(&leader.layer());
        (client.build(), passed)
    }

    #[tokio::test]
    async fn writes_pass_only_while_the_lease_is_held() {
        let (hold, leader) = watch::channel(Hold::Not);
        let (client, mut passed) = client(leader);
        let api: Api<ConfigMap> = Api::default_namespaced(client);
        let soon = Instant::now() + Duration::from_mins(1);
        // The clock of the process is what counts, so "now" is as good as any time in the past.
        let closed = [Hold::Not, Hold::Until(Instant::now())];
        let open = [Hold::Until(soon), Hold::Always];
        for state in closed.into_iter().chain(open) {
            hold.send_replace(state);
            let get = api.get("x").await;
            assert!(get.is_ok(), "{state:?}: {get:?}");
            assert_eq!(passed.recv().await, Some(Method::GET));
            let patch = Patch::Merge(json!({}));
            let answers = [
                api.create(&PostParams::default(), &ConfigMap::default())
                    .await
                    .map(|_| ()),
                api.patch("x", &PatchParams::default(), &patch)
                    .await
                    .map(|_| ()),
                api.delete("x", &DeleteParams::default()).await.map(|_| ()),
            ];
            for answer in answers {
                if open.contains(&state) {
                    assert!(answer.is_ok(), "{state:?}: {answer:?}");
                    assert_ne!(passed.recv().await, Some(Method::GET));
                } else {
                    let error = answer.unwrap_err();
                    let kube::Error::Service(source) = &error else {
                        panic!("{error:?}");
                    };
                    assert!(source.is::<NotLeader>(), "{error:?}");
                    let text = source.to_string();
                    assert!(
                        text.contains("/api/v1/namespaces/default/configmaps"),
                        "{text}"
                    );
                }
            }
            assert!(passed.try_recv().is_err(), "{state:?}: more came through");
        }
    }

    #[tokio::test]
    async fn who_waits_hears_of_it() {
        let (hold, leader) = watch::channel(Hold::Not);
        let leader = LeaderOnly::new(leader);
        let waiting = tokio::spawn({
            let leader = leader.clone();
            async move { leader.elected().await }
        });
        hold.send_replace(Hold::Until(Instant::now()));
        assert!(waiting.await.unwrap());
        hold.send_replace(Hold::Not);
        drop(hold);
        assert!(!leader.elected().await);
    }
}
