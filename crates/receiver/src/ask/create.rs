//! Making the request, or finding the one that is there already. That something has its name does not make it that one.

use kube::api::PostParams;
use kube::{Api, Client, ResourceExt};
use rollback_api::{Identity, RollbackRequest};
use rollback_core::evidence::trigger::{RECEIVER, WATCH, account, difference};
use rollback_core::message::text::plain;
use rollback_reads::identity;
use tokio::sync::OnceCell;

use super::Outcome;
use crate::limits::RecentRequest;
use crate::resolve::short;

/// What came of asking.
#[derive(Clone, Debug)]
pub struct Made {
    /// In a word.
    pub outcome: Outcome,
    /// The request that was made, or was there already.
    pub request: Option<RecentRequest>,
    /// Why, or what to do.
    pub message: String,
    /// Names that something else has, and why that is not what would be asked for.
    pub taken: Vec<(String, String)>,
}

impl Made {
    fn new(outcome: Outcome, message: String) -> Self {
        Self {
            outcome,
            request: None,
            message,
            taken: Vec::new(),
        }
    }
}

/// Makes requests in one identity.
pub struct Creator {
    client: Client,
    /// Whom the API server knows this program as.
    own: OnceCell<Identity>,
}

/// What stands under a name that was taken.
enum There {
    /// What would be asked for.
    Same(Box<RollbackRequest>),
    /// Something else, and why it is.
    Other(String),
    /// Nobody can tell.
    Unknown(Made),
}

impl Creator {
    /// By this client.
    pub fn new(client: Client) -> Self {
        Self {
            client,
            own: OnceCell::new(),
        }
    }

    /// Makes the request under the first of these names that nothing else has, unless it is there already.
    pub async fn create(
        &self,
        namespace: &str,
        names: &[String],
        mut request: RollbackRequest,
    ) -> Made {
        let api: Api<RollbackRequest> = Api::namespaced(self.client.clone(), namespace);
        // Where the API server does not write who asks, it compares it.
        match self.own().await {
            Ok(own) => request.spec.requested_by = Some(own.clone()),
            Err(error) => return Made::new(Outcome::Unavailable, short(&error)),
        }
        let mut taken = Vec::new();
        let mut made = None;
        for name in names {
            request.metadata.name = Some(name.clone());
            let next = match api.create(&PostParams::default(), &request).await {
                Ok(new) => Some(found(Outcome::Asked, String::new(), &new)),
                Err(kube::Error::Api(status)) if status.is_already_exists() => {
                    match self.look(&api, name, &request).await {
                        There::Same(there) => {
                            let message = "this version has a request already".to_owned();
                            Some(found(Outcome::AlreadyAsked, message, &there))
                        }
                        There::Other(why) => {
                            taken.push((name.clone(), why));
                            None
                        }
                        There::Unknown(made) => Some(made),
                    }
                }
                Err(error) => Some(refused(namespace, error)),
            };
            if next.is_some() {
                made = next;
                break;
            }
        }
        let mut made = made.unwrap_or_else(|| {
            let message = "nobody was asked: every name that the request could have is taken";
            Made::new(Outcome::NotAllowed, message.to_owned())
        });
        for (name, why) in &taken {
            let told = format!(
                "{name} is taken by another request ({why}): look at it, and delete it if nobody wants it"
            );
            made.message = if made.message.is_empty() {
                told
            } else {
                format!("{}; {told}", made.message)
            };
        }
        made.taken = taken;
        made
    }

    /// A request that is remembered, if it is still there and may be seen.
    pub async fn remembered(&self, known: &RecentRequest) -> Option<RollbackRequest> {
        let api: Api<RollbackRequest> = Api::namespaced(self.client.clone(), &known.namespace);
        let there = api.get_opt(&known.name).await.ok().flatten();
        there.filter(|there| there.uid().as_ref() == Some(&known.uid))
    }

    async fn look(
        &self,
        api: &Api<RollbackRequest>,
        name: &str,
        wanted: &RollbackRequest,
    ) -> There {
        let namespace = wanted.namespace().unwrap_or_default();
        let there = match api.get_opt(name).await {
            Ok(Some(there)) => there,
            Ok(None) => {
                let message = format!("the request {name} is gone since a moment; send it again");
                return There::Unknown(Made::new(Outcome::Unavailable, message));
            }
            // Ours can be read.
            Err(kube::Error::SerdeError(_)) => {
                return There::Other("it cannot be read".to_owned());
            }
            Err(kube::Error::Api(status)) if status.is_forbidden() => {
                let message = format!(
                    "there is a request {name}, and whether it is about this alert cannot be seen: bind the ClusterRole \
                     rollback-receiver-reader to ServiceAccount rollback-system/rollback-receiver in namespace {namespace}"
                );
                return There::Unknown(Made::new(Outcome::NotAllowed, message));
            }
            Err(error) => {
                return There::Unknown(Made::new(Outcome::Unavailable, short(&error)));
            }
        };
        let own = match self.own().await {
            Ok(own) => own.username.as_str(),
            Err(error) => {
                return There::Unknown(Made::new(Outcome::Unavailable, short(&error)));
            }
        };
        match difference(&there, wanted, &[own, RECEIVER, WATCH]) {
            None => There::Same(Box::new(there)),
            Some(why) => There::Other(why),
        }
    }

    async fn own(&self) -> kube::Result<&Identity> {
        self.own.get_or_try_init(|| self.who_am_i()).await
    }

    /// Asked once. Where nobody may ask, it is what it is as it is shipped.
    async fn who_am_i(&self) -> kube::Result<Identity> {
        match identity::who_am_i(&self.client).await {
            Ok(me) if me.username.is_empty() => Ok(account(RECEIVER)),
            // The account may be another one by the time that it asks.
            Ok(me) => Ok(Identity { uid: None, ..me }),
            Err(kube::Error::Api(status)) if is_final(status.code) => Ok(account(RECEIVER)),
            Err(error) => Err(error),
        }
    }
}

fn found(outcome: Outcome, message: String, request: &RollbackRequest) -> Made {
    Made {
        request: Some(RecentRequest {
            namespace: request.namespace().unwrap_or_default(),
            name: request.name_any(),
            uid: request.uid().unwrap_or_default(),
        }),
        ..Made::new(outcome, message)
    }
}

fn refused(namespace: &str, error: kube::Error) -> Made {
    match error {
        kube::Error::Api(status) if status.is_forbidden() => Made::new(
            Outcome::NotAllowed,
            format!(
                "{}; to let the receiver ask in namespace {namespace}, bind the ClusterRole rollback-trigger to \
                 ServiceAccount rollback-system/rollback-receiver there",
                plain(&status.message, 400)
            ),
        ),
        kube::Error::Api(status) if is_final(status.code) => {
            Made::new(Outcome::NotAllowed, plain(&status.message, 400))
        }
        error => Made::new(Outcome::Unavailable, short(&error)),
    }
}

/// Whether asking the same again would be answered the same.
fn is_final(code: u16) -> bool {
    (400..500).contains(&code) && code != 401 && code != 408 && code != 429
}
