//! What a request finds, and what each Deployment is to go back to: the first half of a plan. What is read for the
//! second half depends on it.

use jiff::Timestamp;
use rollback_api::request::Target;
use rollback_api::{RevisionLedgerSpec, RollbackRequest};

use super::choose::{Chosen, choose};
use super::selection::{asked, found};
use super::{
    Prospect, bad_is_live, blocked, checks_of_its_own, may_write, not_done_before, not_found,
    not_too_urgent, supported, triggered, unasked,
};
use crate::execution::outcome::Ending;
use crate::observed::view::RulesRead;
use crate::observed::{Deployment, Rehearsal, ReplicaSet, Surroundings};
use crate::plan::references::{Presence, Reference};

/// A Deployment that a request finds, or one that it names.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Candidate {
    /// Name of the Deployment.
    pub name: String,
    /// Which entry of `spec.targets` finds it.
    pub asked: usize,
    /// The Deployment, if there is one of that name.
    pub deployment: Option<Deployment>,
    /// The `ReplicaSets` that it controls.
    pub replica_sets: Vec<ReplicaSet>,
    /// Whether it has more of them than are known, because there are too many to read.
    pub history_cut: bool,
    /// Its ledger, if it has one.
    pub ledger: Option<RevisionLedgerSpec>,
    /// Digest of a template whose quarantine somebody lifted.
    pub lifted: Option<String>,
    /// The Deployment in the backup that is asked for, if that is there.
    pub backup: Option<Deployment>,
}

/// What is to be done, as far as it is chosen.
#[derive(Clone, Debug, PartialEq)]
pub struct Proposal {
    /// Each Deployment once, in the order in which they are rolled back.
    pub targets: Vec<Proposed<Checked>>,
    /// Why the Prometheus of the policy is not asked.
    pub unlisted: Option<String>,
}

/// One Deployment, with what is proposed for it, or why it is not rolled back.
#[derive(Clone, Debug, PartialEq)]
pub struct Proposed<T> {
    /// Its name.
    pub name: String,
    /// Which entry of `spec.targets` finds it.
    pub asked: usize,
    /// What is proposed.
    pub choice: Result<T, Ending>,
}

/// What a Deployment is to go back to.
#[derive(Clone, Debug, PartialEq)]
pub struct Choice {
    /// The Deployment.
    pub deployment: Deployment,
    /// The version that was chosen.
    pub chosen: Chosen,
}

/// The same, with what was found out about it.
#[derive(Clone, Debug, PartialEq)]
pub struct Checked {
    /// What it is to go back to.
    pub choice: Choice,
    /// What the template refers to, and whether it is there.
    pub references: Vec<(Reference, Presence)>,
    /// What the API server would make of the write.
    pub rehearsal: Rehearsal,
    /// What else works on the Deployment or limits it.
    pub surroundings: Surroundings,
}

impl Choice {
    /// What has to be known of the write before the plan is made.
    pub fn prospect(&self, request: &RollbackRequest) -> Prospect {
        Prospect::of(request, &self.deployment, &self.chosen)
    }
}

impl<T> Proposed<T> {
    /// The same Deployment with something else proposed.
    pub fn with<U>(self, choice: impl FnOnce(T) -> U) -> Proposed<U> {
        Proposed {
            name: self.name,
            asked: self.asked,
            choice: self.choice.map(choice),
        }
    }
}

/// Chooses for each Deployment. `opted_in`: whether the namespace lets the controller patch Deployments; `None` when
/// somebody else makes the plan.
///
/// # Errors
/// The end of the request: it must not be done, or it finds nothing.
pub fn propose(
    request: &RollbackRequest,
    rules: &RulesRead,
    opted_in: Option<bool>,
    candidates: Vec<Candidate>,
    now: Timestamp,
) -> Result<Vec<Proposed<Choice>>, Ending> {
    let policy = rules.policy.as_ref();
    supported(request, policy, now)?;
    triggered::only_goes_back(request, now)?;
    triggered::source_allowed(request, policy, now)?;
    not_too_urgent(request, rules, now)?;
    checks_of_its_own(request, policy, now)?;
    may_write(opted_in, now)?;
    let proposed = |candidate: Candidate| {
        let choice = match asked(request, candidate.asked) {
            Some(target) => choice(request, rules, target, &candidate, now),
            None => Err(unasked(now)),
        };
        Proposed {
            name: candidate.name,
            asked: candidate.asked,
            choice,
        }
    };
    let found = found(request, candidates, now)?;
    Ok(found.into_iter().map(proposed).collect())
}

fn choice(
    request: &RollbackRequest,
    rules: &RulesRead,
    target: &Target,
    candidate: &Candidate,
    now: Timestamp,
) -> Result<Choice, Ending> {
    let policy = rules.policy.as_ref();
    let Some(deployment) = &candidate.deployment else {
        return Err(not_found(candidate, now));
    };
    if let Some(outcome) = blocked(deployment, now) {
        return Err(outcome);
    }
    not_done_before(request, candidate, deployment, now)?;
    bad_is_live(target, candidate.asked, &deployment.template(), now)?;
    triggered::is_about(request, policy, deployment, candidate, now)?;
    let by_itself = request.spec.trigger.is_some();
    Ok(Choice {
        chosen: choose(target, deployment, candidate, policy, by_itself, now)?,
        deployment: deployment.clone(),
    })
}
