//! What a plan is made of: what the request finds, what that is to go back to, and what is known of the write.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use kube::ResourceExt;
use rollback_api::RollbackRequest;
use rollback_api::policy::SelfHealing;
use rollback_core::execution::outcome::Ending;
use rollback_core::observed::view::RulesRead;
use rollback_core::observed::{Fetched, Reading, Surroundings};
use rollback_core::plan::{self, Draft, Proposal};
use rollback_reads::budget::Budget;

use super::{Error, Reader, RequestScope, Size, access, before, definitions, find, preflight};

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

/// What somebody who may only read has found out about a plan.
#[derive(Clone, Debug, PartialEq)]
pub struct Drafted {
    /// The plan, or how the request would end instead.
    pub plan: Result<Draft, Ending>,
    /// Whether the API server serves our kinds. Where it does not there is no policy and no ledger.
    pub is_installed: bool,
    /// What could not be looked at, so that nothing is said of it: names of kinds.
    pub unseen: Vec<&'static str>,
}

/// What the controller would plan for this request now, as far as anybody can tell who may read its namespace; or how it
/// would end the request instead. The request need not be there, but has to have a namespace; one that says not who asks is
/// asked for by whoever reads, as the API server would stamp it. It has no digest, so nobody
/// can approve it; and what only the controller may ask is not in it: the guard, the crowd of open requests, whether the
/// namespace has opted in, and what the API server would make of the write. Our kinds need not be there either: the rules
/// are those of a namespace without a policy then.
///
/// # Errors
/// Something could not be read, so nothing is known.
pub async fn plan(
    reader: Reader<'_>,
    request: &RollbackRequest,
    now: Timestamp,
) -> Result<Drafted, Error> {
    let is_installed = definitions::are_served(reader.client).await?;
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
        is_installed,
        now,
    };
    let Planning {
        rules, proposal, ..
    } = Box::pin(scope.proposal(Planner::Client)).await?;
    Ok(Drafted {
        unseen: proposal.as_ref().map(unseen).unwrap_or_default(),
        plan: proposal.and_then(|proposal| plan::draft(request, &rules, &proposal, now)),
        is_installed,
    })
}

/// What the rules say of an owner that would undo the rollback.
fn on_self_healing(rules: &RulesRead) -> SelfHealing {
    let policy = rules.policy.as_ref();
    policy.map_or_else(SelfHealing::default, |it| it.git_ops.on_self_healing)
}

/// The kinds around the Deployments that could not be looked at.
fn unseen(proposal: &Proposal) -> Vec<&'static str> {
    let chosen = proposal.targets.iter();
    let checked: Vec<_> = chosen.filter_map(|it| it.choice.as_ref().ok()).collect();
    let lists = |surroundings: &Surroundings| {
        [
            (
                "HorizontalPodAutoscalers",
                is_unknown(&surroundings.autoscalers),
            ),
            ("PodDisruptionBudgets", is_unknown(&surroundings.budgets)),
            ("ResourceQuotas", is_unknown(&surroundings.quotas)),
        ]
    };
    let all = checked.iter().flat_map(|it| lists(&it.surroundings));
    let unknown: BTreeSet<&str> = all
        .filter(|(_, unknown)| *unknown)
        .map(|(kind, _)| kind)
        .collect();
    unknown.into_iter().collect()
}

fn is_unknown<T>(read: &Fetched<T>) -> bool {
    match read {
        Fetched::Unknown => true,
        Fetched::Absent | Fetched::Found(_) => false,
    }
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
            preflight::checked(self, planner, on_self_healing(&rules), proposed),
            before::readings(self, asked),
        );
        let proposal = Proposal {
            targets: targets?,
            unlisted: match planner {
                Planner::Controller => self.unlisted(&rules),
                // Which addresses it may ask is an argument of the controller.
                Planner::Client => None,
            },
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
