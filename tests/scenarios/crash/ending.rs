//! What a request has left behind when it is over.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Result;
use k8s_openapi::api::events::v1::Event;
use kube::api::ListParams;
use kube::{Api, ResourceExt};
use rollback_api::{Reason, RequestState, RevisionLedger, RevisionLedgerSpec, WorkloadKind};
use rollback_core::history::ledger;
use testkit::{Scene, User};

use crate::run::{DEPLOYMENT, REQUEST};

/// Everything that must not depend on what happened on the way.
#[derive(Clone, Debug, PartialEq)]
pub struct Ending {
    outcome: Option<(RequestState, Reason, String)>,
    /// Type, status, reason.
    conditions: BTreeSet<(String, String, String)>,
    approvals: usize,
    /// Upon whose approvals the Deployment was begun.
    begun: Vec<String>,
    finalizers: usize,
    /// The tag of the image that the Deployment asks for.
    version: String,
    /// Each change of the spec counts: one for each version, one for the rollback.
    generation: Option<i64>,
    backups: usize,
    incidents: usize,
    claimed: bool,
    rollbacks: usize,
    /// Reason and note of each Event, and how often it was sent.
    events: BTreeMap<String, usize>,
}

impl Ending {
    /// How a rollback ends that nobody disturbs.
    pub fn undisturbed() -> Self {
        let conditions = [
            ("Approved", "Approved"),
            ("Complete", "RolledBack"),
            ("Ready", "Succeeded"),
            ("Reported", "Published"),
        ];
        let passed = "Rolled back, every replica is available, and 1 of 1 checks passed.";
        let anna = User::Approver.as_str();
        let events = [
            "Planned: Plan *: api: revision 2 -> 1 (app: registry.broxiva.example/api:v2 -> registry.broxiva.example/api:v1)".to_owned(),
            format!("Approved: {anna} approved plan *"),
            "BackedUp: Deployment api is saved in ConfigMap *".to_owned(),
            "Reverted: Deployment api has the old template".to_owned(),
            "RolledOut: Every replica of Deployment api runs the old template and is available".to_owned(),
            format!("Succeeded: RolledBack: {passed}"),
            "Reported: The incident report is in ConfigMap *".to_owned(),
        ];
        Self {
            outcome: Some((
                RequestState::Succeeded,
                Reason::RolledBack,
                passed.to_owned(),
            )),
            conditions: conditions
                .map(|(kind, reason)| (kind.to_owned(), "True".to_owned(), reason.to_owned()))
                .into(),
            approvals: 1,
            begun: vec![anna.to_owned()],
            finalizers: 0,
            version: "v1".to_owned(),
            generation: Some(3),
            backups: 1,
            incidents: 1,
            claimed: false,
            rollbacks: 1,
            events: events.map(|event| (event, 1)).into(),
        }
    }

    /// What is there now.
    pub async fn of(scene: &Scene) -> Result<Self> {
        let request = scene.request(REQUEST).await?;
        let uid = request.uid();
        let finalizers = request.finalizers().len();
        let status = request.status.unwrap_or_default();
        let target = status.targets.first();
        let begun = target.and_then(|target| target.begun.clone());
        let deployment = scene.deployment(DEPLOYMENT).await?;
        let image = scene.image(DEPLOYMENT).await?;
        let ledger = ledger(scene, DEPLOYMENT).await?;
        let events: Api<Event> = Api::namespaced(scene.client(User::Admin).await?, scene.ns());
        let mut told = BTreeMap::new();
        for event in events.list(&ListParams::default()).await? {
            let reason = event.reason.unwrap_or_default();
            // That something is tried again is news of the trouble, not of the rollback.
            let retrying = reason == "ReconcileFailed";
            if event.regarding.and_then(|object| object.uid) == uid && !retrying {
                let note = without_names(&event.note.unwrap_or_default());
                *told.entry(format!("{reason}: {note}")).or_default() += 1;
            }
        }
        Ok(Self {
            outcome: status
                .outcome
                .map(|outcome| (outcome.result, outcome.reason, outcome.message)),
            conditions: status
                .conditions
                .into_iter()
                .map(|condition| (condition.type_, condition.status, condition.reason))
                .collect(),
            approvals: status.approvals.len(),
            begun: begun.map_or_else(Vec::new, |begun| begun.approved_by),
            finalizers,
            version: image
                .rsplit_once(':')
                .map(|(_, tag)| tag.to_owned())
                .unwrap_or_default(),
            generation: deployment
                .pointer("/metadata/generation")
                .and_then(serde_json::Value::as_i64),
            backups: scene.artifacts("backup", REQUEST).await?.len(),
            incidents: scene.artifacts("incident", REQUEST).await?.len(),
            claimed: ledger.claim.is_some(),
            rollbacks: ledger.rollbacks.len(),
            events: told,
        })
    }
}

/// Digests and generated names differ from run to run.
fn without_names(note: &str) -> String {
    let words = note.split(' ').map(|state| {
        if state.starts_with("sha256:") || state.starts_with("rollback-") {
            if state.ends_with(':') { "*:" } else { "*" }
        } else {
            state
        }
    });
    words.collect::<Vec<_>>().join(" ")
}

/// The ledger of a Deployment; an empty one when there is none.
pub async fn ledger(scene: &Scene, deployment: &str) -> Result<RevisionLedgerSpec> {
    let api: Api<RevisionLedger> = Api::namespaced(scene.client(User::Admin).await?, scene.ns());
    let ledger = api
        .get_opt(&ledger::name(WorkloadKind::Deployment, deployment))
        .await?;
    Ok(ledger.map(|ledger| ledger.spec).unwrap_or_default())
}
