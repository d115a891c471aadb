//! What a namespace has had of rollbacks without a person, and whether there are to be more.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::Api;
use kube::api::ListParams;
use rollback_api::status::Plan;
use rollback_api::{RollbackRequest, RollbackRequestStatus};
use rollback_core::approval;
use rollback_core::decide::automatic;
use rollback_core::observed::{Pace, Seen};
use rollback_core::time;

use super::{Error, Scope, reading};

/// Name of the ConfigMap that switches everything automatic off, in the controller's own namespace.
const SWITCH: &str = "rollback-automatic";
/// Its key; `true` switches off.
const PAUSED: &str = "paused";
/// For how long a rollback counts, in seconds.
const HOUR: i64 = 3600;

/// Whether the policy has to decide about this request in this pass.
pub fn is_asked(request: &RollbackRequest, status: &RollbackRequestStatus) -> bool {
    let open = |plan: &Plan| {
        !automatic::is_said(plan, status) && !approval::suffices(plan, &status.approvals)
    };
    let undecided = status.outcome.is_none() && status.plan.as_ref().is_some_and(open);
    request.spec.trigger.is_some() && undecided
}

impl Scope<'_> {
    /// Read when the policy has to decide, and live: the cache may not have the last decision yet.
    pub(super) async fn pace(&self) -> Result<Seen<Pace>, Error> {
        if !is_asked(self.request, self.status) {
            return Ok(Seen::Unknown);
        }
        let (recent, paused) = futures::try_join!(self.recent(), self.paused())?;
        Ok(Seen::Found(Pace { recent, paused }))
    }

    async fn recent(&self) -> Result<usize, Error> {
        let api: Api<RollbackRequest> = Api::namespaced(self.client(), self.namespace);
        let listed = reading(
            "the RollbackRequests of the namespace",
            api.list(&ListParams::default()).await,
        )?;
        let approved = |request: &RollbackRequest| {
            let said = request.status.as_ref()?.automatic.as_ref()?;
            (said.brake.is_none()).then_some(said.at)
        };
        let is_recent = |at: &Timestamp| time::after(*at, HOUR) > self.now;
        Ok(listed.iter().filter_map(approved).filter(is_recent).count())
    }

    /// `None` when it may not be read: then nothing automatic happens.
    async fn paused(&self) -> Result<Option<bool>, Error> {
        let api: Api<ConfigMap> = Api::namespaced(self.client(), &self.context.home);
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
