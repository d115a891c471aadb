//! What one pass has read: for each phase just what it needs. What is not here, is not read in that phase; what is
//! here, was read. Only a [`Fetched`] may be unread, and says so.

use std::collections::BTreeMap;

use jiff::Timestamp;
use rollback_api::{RevisionLedgerSpec, RollbackPolicySpec};
use serde_json::Value;

use super::{
    Access, Deployment, Fetched, Guard, LastLog, ObservedJob, Pace, Reading, Rejection, ReplicaSet,
    Rival,
};
use crate::execution::outcome::Ending;
use crate::history::template::Template;
use crate::plan::Proposal;
use crate::plan::references::{Presence, Reference};

/// What one pass has read of a request. [`Stage`](crate::execution::phase::Stage) says which one it has to be.
#[derive(Clone, Debug, PartialEq)]
pub enum View {
    /// It has no place among the open requests of its namespace, so nothing is read.
    TurnedAway(Ending),
    /// There is no plan.
    Planning(Box<PlanningView>),
    /// There is a plan, and it has not ended.
    Working(Box<WorkingView>),
    /// It has ended.
    Ended(EndedView),
}

/// The rules that a namespace has for a request.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RulesRead {
    /// The policy of the namespace, if it has one.
    pub policy: Option<RollbackPolicySpec>,
    /// Whether the requester may ask for more urgency than the category has; false when that makes no difference.
    pub expedited: bool,
}

/// What a plan is made of.
#[derive(Clone, Debug, PartialEq)]
pub struct PlanningView {
    /// The rules.
    pub rules: RulesRead,
    /// The admission policies that make approvals true.
    pub guard: Guard,
    /// What is to be done, as it was chosen in this pass, or how the request ends instead.
    pub proposal: Result<Proposal, Ending>,
    /// What the checks say of the bad version, by the name of the Deployment. It explains and decides nothing.
    pub before: BTreeMap<String, Vec<Reading>>,
}

/// What is read while a request is worked on.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct WorkingView {
    /// What those go by that are not written; none once all are, because no rule can change anything then.
    pub terms: Option<Terms>,
    /// The Deployments that may be scaled down.
    pub capacity: Capacity,
    /// The Deployments of the plan, in its order.
    pub targets: Vec<TargetView>,
}

/// What has to hold until a Deployment is written.
#[derive(Clone, Debug, PartialEq)]
pub struct Terms {
    /// The rules.
    pub rules: RulesRead,
    /// The admission policies that make approvals true.
    pub guard: Guard,
    /// What the namespace has had of rollbacks without a person; read when the policy has to decide on one.
    pub pace: Option<Pace>,
}

/// Deployments that may be scaled down to free capacity, when it is wanted, or replicas are owed.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Capacity {
    /// They, by name; absent is one that is not there.
    pub deployments: BTreeMap<String, Fetched<Deployment>>,
    /// Why the API server does not let one of them be scaled down, by name.
    pub refused: BTreeMap<String, String>,
}

/// One Deployment of the plan, by how far it is. [`Need`](crate::execution::phase::Need) says which one it has to be.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum TargetView {
    /// It is not its turn, or it has ended.
    #[default]
    NotDue,
    /// Something of it could not be read, so nothing is known.
    Failed,
    /// It waits for people.
    Awaiting(AwaitingView),
    /// Our write is done, as an intent that stands says; nothing else matters.
    Written(Live),
    /// The claim comes first.
    Claiming(Box<ClaimingView>),
    /// It is about to be written, or was just now.
    Writing(Box<WritingView>),
    /// The old template is in place, and comes up.
    RollingOut(Box<RollingOutView>),
    /// It is up, and checked or watched.
    Verifying(VerifyingView),
    /// It did not do, and the fallback is about to be written.
    Retrying(RetryingView),
    /// What was there before is about to be written back.
    Restoring(RestoringView),
}

/// A Deployment of the plan, as it is now.
#[derive(Clone, Debug, PartialEq)]
pub struct Live {
    /// Its name.
    pub name: String,
    /// The Deployment, if there is one of that name.
    pub deployment: Option<Deployment>,
}

/// What this process knows of its own writes to one Deployment. All of it is gone when the process is.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Own {
    /// The API server's last word on the write, if it refused it.
    pub rejection: Option<Rejection>,
    /// Generation of the Deployment that the API server answered to the last template that this process wrote to it:
    /// the only proof that a template that nobody knows is ours.
    pub accepted: Option<i64>,
    /// Generation of the Deployment in the last intent to write it that this process has stored itself.
    pub intended: Option<i64>,
}

/// Of a Deployment that waits for people.
#[derive(Clone, Debug, PartialEq)]
pub struct AwaitingView {
    /// The Deployment.
    pub live: Live,
    /// Its ledger: who changed it, when it does not run any more what is bad; and what the policy decides by.
    pub ledger: Fetched<RevisionLedgerSpec>,
}

/// Of a Deployment that nobody has claimed for this request.
#[derive(Clone, Debug, PartialEq)]
pub struct ClaimingView {
    /// The Deployment.
    pub live: Live,
    /// Its ledger, if it has one.
    pub ledger: Option<RevisionLedgerSpec>,
    /// The request that holds the claim, when it is another one.
    pub rival: Fetched<Rival>,
    /// Whether requester and approvers may do by themselves what they ask for.
    pub access: Access,
    /// What this process knows of its own writes.
    pub own: Own,
}

/// Of a Deployment on the way from the claim to the write.
#[derive(Clone, Debug, PartialEq)]
pub struct WritingView {
    /// The same as before the claim: somebody may have taken it over.
    pub claiming: ClaimingView,
    /// The `ReplicaSet` that the plan names, if it is there.
    pub planned_set: Option<ReplicaSet>,
    /// The template to go back to, where it is kept now.
    pub template: Option<Template>,
    /// What that refers to, and whether it is there; until the intent is stored.
    pub references: Vec<(Reference, Presence)>,
    /// When the backup was seen, if it is there.
    pub backup: Option<Timestamp>,
    /// The Job that was begun and whose end is not known; unknown when there is none, absent when it is not there.
    pub job: Fetched<ObservedJob>,
    /// The holds of the plan, in its order, until the intent is stored.
    pub holds: Vec<HoldSeen>,
}

/// The object of a hold of the plan.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct HoldSeen {
    /// The object.
    pub object: Fetched<Value>,
    /// The API server's last word on the write to it, if it refused it.
    pub rejection: Option<Rejection>,
    /// How often this process has placed the hold.
    pub placed: u32,
}

/// A Deployment that was written.
#[derive(Clone, Debug, PartialEq)]
pub struct Brought {
    /// The Deployment.
    pub live: Live,
    /// The `ReplicaSet` of the old version, once there is one.
    pub running: Option<ReplicaSet>,
}

/// Of a Deployment that comes up.
#[derive(Clone, Debug, PartialEq)]
pub struct RollingOutView {
    /// The Deployment and its version.
    pub brought: Brought,
    /// Why its pods do not come up.
    pub signs: Signs,
    /// Its ledger, which knows what ran before; once the rollout is complete.
    pub ledger: Option<RevisionLedgerSpec>,
    /// Pods on their way out, when the rules let them be deleted by force.
    pub leaving: Option<Leaving>,
}

/// What says why pods do not come up.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Signs {
    /// The pods of the version that is coming up.
    pub pods: Vec<Value>,
    /// The Events about those that wait for their volumes or probes.
    pub events: Vec<Value>,
    /// The log of the container that crashes, when the rules ask for it.
    pub last_log: Option<LastLog>,
}

/// Pods of a Deployment that are on their way out, of whichever version.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Leaving {
    /// The pods.
    pub pods: Vec<Value>,
    /// The `ReplicaSets` that they may belong to.
    pub owners: Vec<ReplicaSet>,
    /// Whether the API server refused to let a pod be deleted by force.
    pub may_not_delete: bool,
}

/// Of a Deployment that is checked or watched.
#[derive(Clone, Debug, PartialEq)]
pub struct VerifyingView {
    /// The Deployment and its version.
    pub brought: Brought,
    /// What the checks found in this pass.
    pub readings: Vec<Reading>,
    /// The Job that was begun and whose end is not known; unknown when there is none, absent when it is not there.
    pub job: Fetched<ObservedJob>,
}

/// Of a Deployment to which the fallback is about to be written.
#[derive(Clone, Debug, PartialEq)]
pub struct RetryingView {
    /// The Deployment.
    pub live: Live,
    /// Whether requester and approvers may do by themselves what they ask for.
    pub access: Access,
    /// The template of the fallback, where it is kept now.
    pub template: Option<Template>,
    /// What this process knows of its own writes.
    pub own: Own,
}

/// Of a Deployment that gets back what it had.
#[derive(Clone, Debug, PartialEq)]
pub struct RestoringView {
    /// The Deployment.
    pub live: Live,
    /// The Deployment in the backup, if that is there; not read when it has already got back what it had.
    pub backup: Option<Deployment>,
    /// What this process knows of its own writes.
    pub own: Own,
}

/// What is read after the end, in this order; nothing that comes later is read before.
#[derive(Clone, Debug, PartialEq)]
pub enum EndedView {
    /// Replicas are owed to these Deployments.
    GivingBack(Capacity),
    /// The report is not there; or there was no plan, so nothing is owed to any Deployment.
    Reporting,
    /// The rest.
    WindingUp {
        /// When the report was seen, if one was looked for.
        incident: Option<Timestamp>,
        /// The Deployments of the plan, in its order.
        targets: Vec<EndedTarget>,
    },
}

/// Of a Deployment of a request that has ended.
#[derive(Clone, Debug, PartialEq)]
pub struct EndedTarget {
    /// Its ledger, if it has one.
    pub ledger: Option<RevisionLedgerSpec>,
    /// The Deployment, if it is there and its fields are to be given up.
    pub deployment: Option<Deployment>,
    /// The API server's last word on a write to it.
    pub rejection: Option<Rejection>,
}

impl Own {
    /// Of a Deployment that this process has not written.
    const NOTHING: &'static Self = &Self {
        rejection: None,
        accepted: None,
        intended: None,
    };
}

impl Capacity {
    /// What was read of a Deployment that may be scaled down.
    pub fn of(&self, name: &str) -> &Fetched<Deployment> {
        self.deployments.get(name).unwrap_or(&Fetched::Unknown)
    }
}

impl WorkingView {
    /// What was read of the target with this place in the plan.
    pub fn target(&self, index: usize) -> &TargetView {
        self.targets.get(index).unwrap_or(&TargetView::NotDue)
    }
}

impl TargetView {
    /// Whether nothing is known of it in this pass.
    pub fn is_unread(&self) -> bool {
        match self {
            Self::NotDue | Self::Failed => true,
            Self::Awaiting(_)
            | Self::Written(_)
            | Self::Claiming(_)
            | Self::Writing(_)
            | Self::RollingOut(_)
            | Self::Verifying(_)
            | Self::Retrying(_)
            | Self::Restoring(_) => false,
        }
    }

    /// The Deployment of a target that is not written, if it was read.
    pub fn live(&self) -> Option<&Live> {
        match self {
            Self::Awaiting(view) => Some(&view.live),
            Self::Written(live) => Some(live),
            Self::Claiming(view) => Some(&view.live),
            Self::Writing(view) => Some(&view.claiming.live),
            Self::NotDue
            | Self::Failed
            | Self::RollingOut(_)
            | Self::Verifying(_)
            | Self::Retrying(_)
            | Self::Restoring(_) => None,
        }
    }

    /// The same, if it is there.
    pub fn deployment(&self) -> Option<&Deployment> {
        self.live()?.deployment.as_ref()
    }

    /// The ledger of a target that is not written, if it was read and there is one.
    pub fn ledger(&self) -> Option<&RevisionLedgerSpec> {
        match self {
            Self::Awaiting(view) => view.ledger.found(),
            Self::Claiming(view) => view.ledger.as_ref(),
            Self::Writing(view) => view.claiming.ledger.as_ref(),
            Self::NotDue
            | Self::Failed
            | Self::Written(_)
            | Self::RollingOut(_)
            | Self::Verifying(_)
            | Self::Retrying(_)
            | Self::Restoring(_) => None,
        }
    }

    /// Whether Deployment and ledger were read, so that what is not there is not there.
    pub fn has_ledger(&self) -> bool {
        match self {
            Self::Awaiting(view) => view.ledger != Fetched::Unknown,
            Self::Claiming(_) | Self::Writing(_) => true,
            Self::NotDue
            | Self::Failed
            | Self::Written(_)
            | Self::RollingOut(_)
            | Self::Verifying(_)
            | Self::Retrying(_)
            | Self::Restoring(_) => false,
        }
    }

    /// What this process knows of its own writes, where that matters.
    pub fn own(&self) -> &Own {
        match self {
            Self::Claiming(view) => &view.own,
            Self::Writing(view) => &view.claiming.own,
            Self::Retrying(view) => &view.own,
            Self::Restoring(view) => &view.own,
            Self::NotDue
            | Self::Failed
            | Self::Awaiting(_)
            | Self::Written(_)
            | Self::RollingOut(_)
            | Self::Verifying(_) => Own::NOTHING,
        }
    }
}
