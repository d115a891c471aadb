//! What a plan is made of: what the request finds, what that is to go back to, and what is known of the write.

use std::collections::BTreeMap;

use jiff::Timestamp;
use kube::ResourceExt;
use rollback_api::RollbackRequest;
use rollback_core::execution::outcome::Ending;
use rollback_core::observed::Reading;
use rollback_core::observed::view::RulesRead;
use rollback_core::plan::{self, Draft, Proposal};
use rollback_reads::budget::Budget;

use super::{Error, Reader, RequestScope, Size, access, before, find, preflight};

/// Who makes a plan. It is the same plan: the same versions, changes, images and risks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Planner {
    /// The controller, for a request that is there.
    Controller,
    /// Somebody else, who may only read, for a request that may not even be there. Whether the namespace has opted in
    /// and what the API server would make of the write only the controller can ask; and what the checks say of the bad
    /// version is no part of the plan.
    Client,
}

/// What a plan is made of, as it was read.
pub(super) struct Planning {
    /// The rules.
    pub(super) rules: RulesRead,
    /// What is to be done.
    pub(super) proposal: Result<Proposal, Ending>,
    /// What the checks say of the bad version, by the name of the Deployment.
    pub(super) before: BTreeMap<String, Vec<Reading>>,
}

/// What the controller would plan for this request now, as far as anybody can tell who may read its namespace; or how it
/// would end the request instead. The request need not be there, but has to have a namespace; one that says not who asks is
/// asked for by whoever reads, as the API server would stamp it. It has no digest, so nobody
/// can approve it; and what only the controller may ask is not in it: the guard, the crowd of open requests, whether the
/// namespace has opted in, and what the API server would make of the write.
///
/// # Errors
/// Something could not be read, so nothing is known.
pub async fn plan(
    reader: Reader<'_>,
    request: &RollbackRequest,
    now: Timestamp,
) -> Result<Result<Draft, Ending>, Error> {
    let mut request = request.clone();
    if request.spec.requested_by.is_none() {
        request.spec.requested_by = Some(access::who_am_i(reader.client).await?);
    }
    let request = &request;
    let namespace = request.namespace().unwrap_or_default();
    let size = Size::Large;
    let budget = Budget::of(size.memory());
    let scope = RequestScope {
        reader,
        request,
        namespace: &namespace,
        budget: &budget,
        size,
        now,
    };
    let Planning {
        rules, proposal, ..
    } = Box::pin(scope.proposal(Planner::Client)).await?;
    Ok(proposal.and_then(|proposal| plan::draft(request, &rules, &proposal, now)))
}

impl RequestScope<'_> {
    /// Reads what is to be chosen from, has it chosen, and reads what has to be known of what was chosen.
    pub(super) async fn proposal(&self, planner: Planner) -> Result<Planning, Error> {
        let (opted_in, rules, candidates) = futures::try_join!(
            self.opted_in(planner),
            self.rules(planner),
            find::candidates(self),
        )?;
        let asked = match planner {
            Planner::Controller => Some(before::asked(self.request, &rules, &candidates)),
            Planner::Client => None,
        };
        let (request, now) = (self.request, self.now);
        let proposed = match plan::propose(request, &rules, opted_in, candidates, now) {
            Ok(proposed) => proposed,
            Err(ending) => {
                return Ok(Planning {
                    rules,
                    proposal: Err(ending),
                    before: BTreeMap::new(),
                });
            }
        };
        let (targets, before) = futures::join!(
            preflight::checked(self, planner, proposed),
            before::readings(self, asked),
        );
        let proposal = Proposal {
            targets: targets?,
            unlisted: self.unlisted(&rules),
        };
        Ok(Planning {
            rules,
            proposal: Ok(proposal),
            before,
        })
    }

    /// Whether the namespace lets the controller patch Deployments, which only it can ask.
    async fn opted_in(&self, planner: Planner) -> Result<Option<bool>, Error> {
        match planner {
            Planner::Controller => access::opted_in(self.reader.client, self.namespace)
                .await
                .map(Some),
            Planner::Client => Ok(None),
        }
    }

    /// Why the Prometheus of the policy is not asked.
    fn unlisted(&self, rules: &RulesRead) -> Option<String> {
        let verification = &rules.policy.as_ref()?.verification;
        let server = verification.prometheus.as_ref()?;
        let refusal = self.reader.probe.unlisted(&server.url)?;
        Some(refusal.to_string())
    }
}
