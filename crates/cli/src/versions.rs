//! The versions of a Deployment: its revisions, and what its ledger knows of them.

use jiff::Timestamp;
use k8s_openapi::api::apps::v1;
use kube::Api;
use kube::api::{ApiResource, DynamicObject, ListParams};
use rollback_api::ledger::{Evidence, Rollback, Verdict};
use rollback_api::status::Source;
use rollback_api::{CHANGE_CAUSE, RevisionLedger, RevisionLedgerSpec, WorkloadKind};
use rollback_core::history::template::Template;
use rollback_core::history::{History, Revision, ledger};
use rollback_core::observed::{Deployment, ReplicaSet};
use rollback_reads::history;
use serde::Serialize;
use std::collections::BTreeMap;

use crate::cluster::Cluster;
use crate::error::Error;
use crate::output::clean;

/// A Deployment, its history and its ledger.
pub struct Versions {
    /// The Deployment.
    pub deployment: Deployment,
    /// Its revisions.
    pub history: History,
    sets: Vec<ReplicaSet>,
    ledger: Option<RevisionLedgerSpec>,
}

/// One version, for a reader.
#[derive(Serialize, Debug)]
#[serde(rename_all = "camelCase")]
pub struct Version {
    /// Its number; absent when it has none yet.
    pub revision: Option<i64>,
    /// Whether it is what the Deployment asks for.
    pub runs: bool,
    /// Images by container.
    pub images: BTreeMap<String, String>,
    /// When its `ReplicaSet` was made.
    pub created_at: Option<Timestamp>,
    /// Why it was deployed, as whoever did it says.
    pub change_cause: Option<String>,
    /// What it is held for: Good, Bad or Unknown.
    pub verdict: String,
    /// Whether it is chosen only when it is named.
    pub in_quarantine: bool,
    /// Until when.
    pub quarantined_until: Option<Timestamp>,
    /// Who or which request said so.
    pub judged_by: Option<String>,
    /// The requests that rolled it back.
    pub rolled_back_by: Vec<String>,
    /// The requests that went back to it.
    pub restored_by: Vec<String>,
    /// Where its template is kept.
    pub source: Source,
    /// Digest of its template.
    pub digest: String,
}

impl Versions {
    /// Reads them.
    pub async fn read(cluster: &Cluster, name: &str) -> Result<Self, Error> {
        let deployments: Api<DynamicObject> = api::<v1::Deployment>(cluster);
        let deployment = Deployment(value(&deployments.get(name).await?)?);
        let sets = replica_sets(cluster, &deployment).await?;
        let ledgers = cluster.api::<RevisionLedger>();
        let ledger = ledgers
            .get_opt(&ledger::name(WorkloadKind::Deployment, name))
            .await?;
        let ledger = ledger.map(|ledger| ledger.spec);
        let known = ledger::evidence(ledger.as_ref(), deployment.uid()).to_vec();
        let history = History::of(deployment.uid(), &sets, &known);
        Ok(Self {
            deployment,
            history,
            sets,
            ledger,
        })
    }

    /// What the ledger knows.
    pub fn evidence(&self) -> &[Evidence] {
        ledger::evidence(self.ledger.as_ref(), self.deployment.uid())
    }

    /// Digests that are chosen only when they are named.
    pub fn in_quarantine(&self, now: Timestamp) -> Vec<String> {
        ledger::bad_templates(self.ledger.as_ref(), self.deployment.uid(), None, now)
    }

    /// Digests of the versions that are known to have been good, the one that ran last first.
    pub fn good(&self) -> Vec<String> {
        let good = self.evidence().iter().rev();
        let good = good.filter(|entry| entry.verdict == Verdict::Good);
        good.map(|entry| entry.digest.clone()).collect()
    }

    /// The versions, newest first.
    pub fn list(&self, now: Timestamp) -> Vec<Version> {
        let revisions = self.history.revisions.iter();
        revisions
            .map(|revision| self.version(revision, now))
            .collect()
    }

    fn version(&self, revision: &Revision, now: Timestamp) -> Version {
        let digest = revision.template.digest();
        let known = self.evidence().iter().find(|entry| entry.digest == digest);
        let set = self.sets.iter().find(|set| set.uid() == revision.uid);
        let verdict = known.map_or(Verdict::Unknown, |entry| entry.verdict);
        let in_quarantine = known.is_some_and(|entry| ledger::is_quarantined(entry, None, now));
        Version {
            revision: revision.number,
            runs: revision.template == self.deployment.template(),
            images: revision.template.main_images(),
            created_at: set.and_then(ReplicaSet::created_at),
            change_cause: set.and_then(|set| set.annotation(CHANGE_CAUSE)).map(clean),
            verdict: verdict.as_str().to_owned(),
            in_quarantine,
            quarantined_until: known
                .filter(|_| in_quarantine)
                .and_then(|entry| entry.bad_until),
            judged_by: known
                .and_then(|entry| entry.judged_by.as_deref())
                .map(clean),
            rolled_back_by: self.requests(|rollback| rollback.from_digest == digest),
            restored_by: self.requests(|rollback| rollback.to_digest == digest),
            source: revision.source,
            digest,
        }
    }

    fn requests(&self, is_meant: impl Fn(&Rollback) -> bool) -> Vec<String> {
        let ledger = ledger::current(self.ledger.as_ref(), self.deployment.uid());
        let rollbacks = ledger.map_or(&[][..], |ledger| &ledger.rollbacks);
        let meant = rollbacks.iter().filter(|rollback| is_meant(rollback));
        meant.map(|rollback| clean(&rollback.request)).collect()
    }

    /// The template of a revision that is typed as `3`, `revision-3` or `current`.
    pub fn named(&self, word: &str) -> Result<Template, Error> {
        if word == "current" {
            return Ok(self.deployment.template());
        }
        let number = word.strip_prefix("revision-").unwrap_or(word);
        let number = number.parse::<i64>().map_err(|_| self.unknown(word))?;
        let revisions = &self.history.revisions;
        let now = revisions.iter().find(|it| it.number == Some(number));
        let found = now.or_else(|| revisions.iter().find(|it| it.former.contains(&number)));
        found
            .map(|it| it.template.clone())
            .ok_or_else(|| self.unknown(word))
    }

    fn unknown(&self, word: &str) -> Error {
        let numbers = self.history.revisions.iter().filter_map(|it| it.number);
        let numbers: Vec<String> = numbers.map(|number| number.to_string()).collect();
        Error::Refused(format!(
            "Deployment {} has no revision \"{}\". It has {}; current is what runs.",
            clean(self.deployment.name()),
            clean(word),
            numbers.join(", ")
        ))
    }
}

/// The names of the Deployments of the namespace.
pub async fn deployments(cluster: &Cluster) -> Result<Vec<String>, Error> {
    cluster.names::<v1::Deployment>().await
}

async fn replica_sets(
    cluster: &Cluster,
    deployment: &Deployment,
) -> Result<Vec<ReplicaSet>, Error> {
    // Without a selector everything would be listed.
    let Some(selector) = history::selector(deployment) else {
        return Ok(Vec::new());
    };
    let wanted = ListParams::default().labels_from(&selector);
    let found = cluster
        .list(&api::<v1::ReplicaSet>(cluster), wanted)
        .await?;
    found
        .iter()
        .map(|set| Ok(ReplicaSet(value(set)?)))
        .collect()
}

fn api<K: kube::Resource<DynamicType = ()>>(cluster: &Cluster) -> Api<DynamicObject> {
    let resource = ApiResource::erase::<K>(&());
    Api::namespaced_with(cluster.client.clone(), &cluster.namespace, &resource)
}

fn value(object: &DynamicObject) -> Result<serde_json::Value, Error> {
    serde_json::to_value(object).map_err(|error| Error::Format(error.to_string()))
}
