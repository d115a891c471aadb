//! The versions of a Deployment: its revisions, and what its ledger knows of them.

use jiff::Timestamp;
use k8s_openapi::api::apps::v1;
use kube::Resource;
use kube::api::ListParams;
use rollback_api::ledger::{Evidence, Rollback, Verdict};
use rollback_api::status::Source;
use rollback_api::{
    CHANGE_CAUSE, RevisionLedger, RevisionLedgerSpec, RollbackRequest, WorkloadKind,
};
use rollback_core::approval;
use rollback_core::history::template::Template;
use rollback_core::history::{History, Revision, ledger};
use rollback_core::observed::{Deployment, ReplicaSet};
use rollback_reads::budget::Budget;
use rollback_reads::history::Wish;
use rollback_reads::{get, history};
use serde::Serialize;
use std::collections::BTreeMap;

use crate::cluster::Cluster;
use crate::error::Error;
use crate::output::clean;

/// How much memory a Deployment and its history may take.
const MEMORY: usize = 64 << 20;
/// Which revisions are read whole.
const WISH: Wish = Wish {
    templates: 200,
    memory: 32 << 20,
    revision: None,
    all_or_nothing: false,
};

/// A Deployment, its history and its ledger.
pub struct Versions {
    /// The Deployment.
    pub deployment: Deployment,
    /// Its revisions.
    pub history: History,
    /// Whether there are revisions that are not known, because there are too many.
    pub is_cut: bool,
    sets: Vec<ReplicaSet>,
    ledger: Option<RevisionLedgerSpec>,
    people: BTreeMap<String, People>,
}

/// Who is behind a request.
#[derive(Clone, Debug)]
struct People {
    asked_by: Option<String>,
    approved_by: Vec<String>,
}

/// A rollback that was carried out.
#[derive(Serialize, Clone, Debug)]
#[serde(rename_all = "camelCase")]
pub struct CarriedOut {
    /// Name of the request.
    pub request: String,
    /// When.
    pub at: Timestamp,
    /// Who asked for it; unknown once the request is gone.
    pub asked_by: Option<String>,
    /// Who approved it.
    pub approved_by: Vec<String>,
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
    /// The rollbacks away from it.
    pub rolled_back_by: Vec<CarriedOut>,
    /// The rollbacks back to it.
    pub brought_back_by: Vec<CarriedOut>,
    /// Where its template is kept.
    pub source: Source,
    /// Digest of its template.
    pub digest: String,
}

impl Versions {
    /// Reads them.
    pub async fn read(cluster: &Cluster, name: &str) -> Result<Self, Error> {
        let (client, namespace) = (&cluster.client, &cluster.namespace);
        let budget = Budget::of(MEMORY);
        let deployment = deployment_within(cluster, name, &budget).await?;
        let found = history::history(client, namespace, &deployment, WISH, &budget).await?;
        let ledgers = cluster.api::<RevisionLedger>();
        let ledger = ledgers
            .get_opt(&ledger::name(WorkloadKind::Deployment, name))
            .await?;
        let ledger = ledger.map(|ledger| ledger.spec);
        let known = ledger::evidence(ledger.as_ref(), deployment.uid()).to_vec();
        let history = History::of(deployment.uid(), &found.sets, &known);
        Ok(Self {
            deployment,
            history,
            is_cut: found.cut,
            sets: found.sets,
            ledger,
            people: BTreeMap::new(),
        })
    }

    /// The same with the people behind the rollbacks, as far as their requests are still there and I may look at them.
    pub async fn with_people(mut self, cluster: &Cluster) -> Self {
        if self.carried_out().is_empty() {
            return self;
        }
        let api = cluster.api::<RollbackRequest>();
        let requests = cluster.list(&api, ListParams::default()).await;
        for request in requests.unwrap_or_default() {
            let uid = request.metadata.uid.clone().unwrap_or_default();
            if self.carried_out().iter().any(|it| it.request_uid == uid) {
                self.people.insert(uid, people(&request));
            }
        }
        self
    }

    /// How many revisions are known by their number only.
    pub fn unread(&self) -> usize {
        self.history.unread.len()
    }

    fn carried_out(&self) -> &[Rollback] {
        let ledger = ledger::current(self.ledger.as_ref(), self.deployment.uid());
        ledger.map_or(&[][..], |ledger| &ledger.rollbacks)
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
            rolled_back_by: self.rollbacks(|rollback| rollback.from_digest == digest),
            brought_back_by: self.rollbacks(|rollback| rollback.to_digest == digest),
            source: revision.source,
            digest,
        }
    }

    fn rollbacks(&self, is_meant: impl Fn(&Rollback) -> bool) -> Vec<CarriedOut> {
        let meant = self.carried_out().iter().filter(|it| is_meant(it));
        let told = meant.map(|rollback| {
            let people = self.people.get(&rollback.request_uid);
            CarriedOut {
                request: clean(&rollback.request),
                at: rollback.at,
                asked_by: people.and_then(|it| it.asked_by.clone()),
                approved_by: people.map(|it| it.approved_by.clone()).unwrap_or_default(),
            }
        });
        told.collect()
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

/// The Deployment of this name, as it is served.
pub async fn deployment(cluster: &Cluster, name: &str) -> Result<Deployment, Error> {
    deployment_within(cluster, name, &Budget::of(MEMORY)).await
}

async fn deployment_within(
    cluster: &Cluster,
    name: &str,
    budget: &Budget,
) -> Result<Deployment, Error> {
    let url = v1::Deployment::url_path(&(), Some(&cluster.namespace));
    let found = get::whole(&cluster.client, &url, name, budget).await?;
    Ok(Deployment(found))
}

fn people(request: &RollbackRequest) -> People {
    let asked = request.spec.requested_by.as_ref();
    let status = request.status.as_ref();
    let approvals = status.map_or(&[][..], |status| &status.approvals);
    People {
        asked_by: asked.map(|by| clean(&by.username)),
        approved_by: approvals
            .iter()
            .map(|it| clean(approval::approver(it)))
            .collect(),
    }
}
