//! Deployments: what others do to them, and what the Deployment controller makes of that.

use rollback_api::RevisionLedgerSpec;
use rollback_api::ledger::Verdict;
use rollback_core::history::ledger;
use rollback_core::history::template::Template;
use rollback_core::observed::Deployment;
use serde_json::{Value, json};

use super::{Cluster, Event, Place};
use crate::world::{
    self, at, deployment_in, digest_in, evidence, kept, progressing, replica_set_in, set_counts,
    template_in,
};

impl Place {
    /// A Deployment that runs v2 and has one of several pasts.
    pub(super) fn new(name: &'static str, history: u8) -> Self {
        let set = |revision: i64, version: &str| {
            let template = template_in(name, version);
            replica_set_in(name, version, &revision.to_string(), &template)
        };
        let restarted = |revision: i64, version: &str| {
            let template = restarted_in(name, version, "2026-11-22T00:00:00Z");
            let own = format!("{version}r");
            replica_set_in(name, &own, &revision.to_string(), &template)
        };
        let mut running = template_in(name, "v2");
        let (v0, v1) = (template_in(name, "v0"), template_in(name, "v1"));
        let mut templates = Vec::new();
        let sets = match history % 7 {
            // Only the last one and the one before.
            0 => vec![set(1, "v1"), set(2, "v2")],
            // A good one among bad ones that are known to be bad.
            1 => {
                templates = vec![
                    kept(&v0, Verdict::Good),
                    evidence(&template_in(name, "b1"), Verdict::Bad),
                    evidence(&template_in(name, "b2"), Verdict::Bad),
                ];
                vec![set(1, "v0"), set(2, "b1"), set(3, "b2"), set(4, "v2")]
            }
            // The last two revisions are restarts of what runs.
            2 => {
                running = restarted_in(name, "v2", "2026-11-22T00:00:00Z");
                vec![set(1, "v1"), set(2, "v2"), restarted(3, "v2")]
            }
            // The history is pruned, and the ledger has kept two of it.
            3 => {
                templates = vec![kept(&v0, Verdict::Unknown), kept(&v1, Verdict::Good)];
                vec![set(7, "v2")]
            }
            // It was rolled back to before, and is renumbered.
            4 => {
                let mut first = set(3, "v1");
                first["metadata"]["annotations"]["deployment.kubernetes.io/revision-history"] =
                    json!("1");
                vec![set(2, "v0"), first, set(4, "v2")]
            }
            // Nothing at all to go back to.
            5 => vec![set(1, "v2")],
            _ => vec![set(1, "v0"), set(2, "v1"), set(3, "v2")],
        };
        let mut object = deployment_in(name, &running);
        let newest = sets.iter().map(revision).max().unwrap_or(0);
        object["metadata"]["annotations"]["deployment.kubernetes.io/revision"] =
            json!(newest.to_string());
        let ledger = (!templates.is_empty()).then(|| {
            let spec = RevisionLedgerSpec {
                target_ref: world::workload(name),
                templates,
                ..RevisionLedgerSpec::default()
            };
            (spec, 50)
        });
        Self {
            name,
            object: Some(object),
            sets,
            ledger,
            lifted: false,
            allowed: true,
            well: true,
            healthy: true,
            takes: true,
            webhook: false,
            blind: false,
            progressed: 0,
            meddled: false,
            forgetful: false,
        }
    }

    /// UID of the Deployment that is there now.
    pub fn uid(&self) -> Option<&str> {
        self.object.as_ref()?["metadata"]["uid"].as_str()
    }

    /// Digest of its template.
    pub fn digest(&self) -> Option<String> {
        let object = self.object.as_ref()?;
        Some(Template::of(&object["spec"]["template"]).digest())
    }

    pub(super) fn replica_sets(&self) -> &[Value] {
        &self.sets
    }

    fn owned(&self) -> impl Iterator<Item = &Value> {
        let uid = self.uid();
        self.sets
            .iter()
            .filter(move |set| set["metadata"]["ownerReferences"][0]["uid"].as_str() == uid)
    }

    /// What the API server stores of what somebody writes.
    pub(super) fn admit(&self, object: &mut Value) {
        if self.webhook {
            object["spec"]["template"]["metadata"]["annotations"]["mesh"] = json!("on");
        }
    }

    /// Whether the API server takes this template.
    pub(super) fn takes(&self, template: &Template) -> bool {
        let plain = template.without_restart().digest();
        self.takes || plain == digest_in(self.name, "v2")
    }

    fn edit(&mut self, version: i64, edit: impl FnOnce(&mut Value)) {
        let Some(before) = self.object.clone() else {
            return;
        };
        let mut object = before.clone();
        edit(&mut object);
        if before["spec"]["template"] != object["spec"]["template"] {
            self.meddled = true;
            self.admit(&mut object);
        }
        // As the API server does it for Deployments: annotations count as well.
        let counted = |it: &Value| (it["spec"].clone(), it["metadata"]["annotations"].clone());
        if counted(&before) != counted(&object) {
            let generation = object["metadata"]["generation"].as_i64().unwrap();
            object["metadata"]["generation"] = json!(generation + 1);
        }
        if before != object {
            object["metadata"]["resourceVersion"] = json!(version.to_string());
        }
        self.object = Some(object);
    }

    fn undo(&mut self, version: i64) {
        let mut numbered: Vec<(i64, Value)> = self
            .owned()
            .map(|set| (revision(set), set.clone()))
            .collect();
        numbered.sort_by_key(|(number, _)| *number);
        let Some((_, set)) = numbered.iter().rev().nth(1) else {
            return;
        };
        let cause = set["metadata"]["annotations"]["kubernetes.io/change-cause"].clone();
        let template = Template::of(&set["spec"]["template"]).as_json().clone();
        self.edit(version, |object| {
            object["spec"]["template"] = template;
            let annotations = object["metadata"]["annotations"].as_object_mut().unwrap();
            if cause.is_null() {
                annotations.remove("kubernetes.io/change-cause");
            } else {
                annotations.insert("kubernetes.io/change-cause".to_owned(), cause);
            }
        });
    }
}

impl Cluster {
    /// A change-cause that anybody may write: none, that of a request in whatever words, or another one.
    fn any_cause(&self, which: u8) -> Option<String> {
        let case = usize::from(which / 5) % self.cases.len();
        let (name, uid) = (format!("request-{case}"), &self.cases[case].uid);
        match which % 5 {
            0 => None,
            1 => Some(format!("anything {uid}")),
            2 => Some(format!(
                "rollback to revision 1 by RollbackRequest {name} ({uid})"
            )),
            3 => Some(format!(
                "restore of backup b by RollbackRequest {name} ({uid})"
            )),
            _ => Some("deploy v3".to_owned()),
        }
    }

    /// What others do to a Deployment.
    pub(super) fn happen_at(&mut self, index: usize, event: &Event) {
        let (version, now) = (self.next_version(), self.now);
        let forged = match event {
            Event::Hand(_, _, cause) | Event::Mark(_, _, cause) => self.any_cause(*cause),
            _ => None,
        };
        let place = &mut self.places[index];
        let name = place.name;
        match event {
            Event::Deploy(_, which, named) => place.edit(version, |object| {
                object["spec"]["template"] = template_in(name, which);
                if *named {
                    object["metadata"]["annotations"]["kubernetes.io/change-cause"] =
                        json!(format!("deploy {which}"));
                }
            }),
            Event::Restart(_) => place.edit(version, |object| {
                let when = at(now).to_string();
                object["spec"]["template"]["metadata"]["annotations"]
                    ["kubectl.kubernetes.io/restartedAt"] = json!(when);
            }),
            Event::Undo(_) => place.undo(version),
            Event::Annotate(_) => place.edit(version, |object| {
                object["metadata"]["annotations"]["example.com/touched"] =
                    json!(version.to_string());
            }),
            Event::Scale(_, replicas) => {
                place.edit(version, |object| object["spec"]["replicas"] = json!(replicas));
            }
            Event::Pause(_, paused) => {
                place.edit(version, |object| object["spec"]["paused"] = json!(paused));
            }
            Event::Permissions(_, allowed) => place.allowed = *allowed,
            Event::Recreate(_, which) => {
                place.meddled = true;
                place.sets.clear();
                // The ledger is owned by the Deployment.
                place.ledger = None;
                place.object = which.map(|which| {
                    let mut object = deployment_in(name, &template_in(name, which));
                    object["metadata"]["uid"] = json!(format!("d-{name}-{version}"));
                    object["metadata"]["annotations"] = json!({});
                    object["status"] = json!({});
                    object["metadata"]["generation"] = json!(1);
                    object
                });
            }
            Event::Prune(_) => {
                place.meddled = true;
                place
                    .sets
                    .retain(|set| set["metadata"]["name"] != format!("{name}-v1"));
            }
            Event::Poison(_) => {
                place.meddled = true;
                for set in &mut place.sets {
                    if set["metadata"]["name"] == format!("{name}-v1") {
                        set["spec"]["template"]["spec"]["containers"][0]["image"] = json!("evil");
                    }
                }
            }
            Event::Record(_) => self.record(index),
            Event::Lift(_) => place.lifted = true,
            Event::LoseLedger(_) => {
                place.forgetful = true;
                place.ledger = None;
            }
            Event::Well(_, well) => place.well = *well,
            Event::Healthy(_, healthy) => place.healthy = *healthy,
            Event::Takes(_, takes) => {
                place.meddled |= !takes;
                place.takes = *takes;
            }
            Event::Webhook(_, on) => {
                place.meddled = true;
                place.webhook = *on;
            }
            Event::Blind(_, blind) => place.blind = *blind,
            Event::Hand(_, which, _) => {
                let template = match which % 8 {
                    0 => None,
                    1 | 2 => Some(template_in(name, "v1")),
                    3 => Some(template_in(name, "v0")),
                    4 => Some(template_in(name, "v2")),
                    5 => Some(template_in(name, "v9")),
                    6 => Some(restarted_in(name, "v1", "2026-11-22T00:00:00Z")),
                    _ => Some(template_in(name, "v3")),
                };
                place.edit(version, |object| {
                    if let Some(template) = template {
                        object["spec"]["template"] = template;
                    }
                    mark(object, forged.as_deref());
                });
            }
            Event::Mark(_, which, _) => {
                let count = place.sets.len().max(1);
                if let Some(set) = place.sets.get_mut(usize::from(*which) % count) {
                    mark(set, forged.as_deref());
                }
            }
            _ => unreachable!("{event:?}"),
        }
    }

    /// The watch writes into the ledger what runs now, and wins or loses against everybody else who writes it.
    fn record(&mut self, index: usize) {
        let (version, now) = (self.next_version(), self.now());
        let place = &mut self.places[index];
        let Some(deployment) = place.object.clone().map(Deployment) else {
            return;
        };
        let held = place.ledger.as_ref().map(|(spec, _)| spec);
        let mut spec = ledger::based_on(held, &deployment.workload());
        let template = deployment.template();
        let entry = ledger::entry_of(&mut spec, &template.digest(), now);
        entry.revision = deployment.revision();
        entry.last_live = now;
        entry.template = Some(template.as_json().to_string());
        if deployment.is_complete() {
            entry.first_available.get_or_insert(now);
            entry.available_since.get_or_insert(now);
        } else {
            entry.available_since = None;
        }
        place.ledger = Some((spec, version));
    }

    /// One sync. A reused `ReplicaSet` is renumbered, and that sync does no more.
    pub(super) fn sync(&mut self, index: usize) {
        let (version, now) = (self.next_version(), self.now);
        let place = &mut self.places[index];
        let Some(mut object) = place.object.clone() else {
            return;
        };
        let generation = object["metadata"]["generation"].clone();
        let paused = object["spec"]["paused"] == json!(true);
        let wanted = Template::of(&object["spec"]["template"]);
        let uid = object["metadata"]["uid"].clone();
        let newest = place.owned().map(revision).max().unwrap_or(0);
        let found = place.sets.iter().position(|set| {
            set["metadata"]["ownerReferences"][0]["uid"] == uid
                && Template::of(&set["spec"]["template"]) == wanted
        });
        let annotations = object["metadata"]["annotations"].clone();
        if let (false, Some(found)) = (paused, found) {
            let set = &mut place.sets[found];
            let old = revision(set);
            copy_annotations(set, &annotations);
            if old < newest {
                let own = &mut set["metadata"]["annotations"];
                let history = own["deployment.kubernetes.io/revision-history"]
                    .as_str()
                    .map_or_else(|| old.to_string(), |before| format!("{before},{old}"));
                own["deployment.kubernetes.io/revision"] = json!((newest + 1).to_string());
                own["deployment.kubernetes.io/revision-history"] = json!(history);
                return;
            }
        }
        if let (false, None) = (paused, found) {
            let own = format!("n{version}");
            let number = (newest + 1).to_string();
            let mut set = replica_set_in(place.name, &own, &number, &object["spec"]["template"]);
            set["metadata"]["ownerReferences"][0]["uid"] = uid;
            copy_annotations(&mut set, &annotations);
            place.sets.push(set);
            place.progressed = now;
            object["status"]["conditions"] = json!([
                {},
                progressing("True", "NewReplicaSetCreated", &now.to_string())
            ]);
        }
        let desired = object["spec"]["replicas"].as_i64().unwrap();
        let bad = wanted.without_restart().digest() == digest_in(place.name, "v2");
        let well = place.well || bad;
        let before = object["status"]["updatedReplicas"].as_i64().unwrap_or(0);
        object["status"]["observedGeneration"] = generation;
        if !paused {
            // Progress is made in two syncs: pods first, then their availability.
            let (updated, available) = if before < desired && found.is_some() {
                place.progressed = now;
                (desired, 0)
            } else {
                (desired, if well { desired } else { 0 })
            };
            let updated = if found.is_some() { updated } else { 0 };
            let extra = i64::from(!well);
            set_counts(
                &mut object,
                updated.max(desired) + extra,
                updated,
                available,
            );
            let complete = well && updated == desired && available == desired;
            let deadline = object["spec"]["progressDeadlineSeconds"].as_i64().unwrap();
            let said = object["status"]["conditions"][1]["reason"].clone();
            let condition = &mut object["status"]["conditions"];
            if !condition.is_array() {
                *condition = json!([{}, {}]);
            }
            if complete && said != "NewReplicaSetAvailable" {
                condition[1] = progressing("True", "NewReplicaSetAvailable", &now.to_string());
            } else if !complete
                && now - place.progressed > deadline
                && said != "NewReplicaSetAvailable"
            {
                condition[1] = progressing("False", "ProgressDeadlineExceeded", &now.to_string());
            }
        }
        object["metadata"]["annotations"]["deployment.kubernetes.io/revision"] =
            json!(newest.to_string());
        place.object = Some(object);
    }
}

/// Writes a change-cause, or takes it away.
fn mark(object: &mut Value, cause: Option<&str>) {
    let annotations = object["metadata"]["annotations"].as_object_mut().unwrap();
    match cause {
        Some(cause) => annotations.insert("kubernetes.io/change-cause".to_owned(), json!(cause)),
        None => annotations.remove("kubernetes.io/change-cause"),
    };
}

fn restarted_in(name: &str, version: &str, when: &str) -> Value {
    let mut template = template_in(name, version);
    template["metadata"]["annotations"] = json!({"kubectl.kubernetes.io/restartedAt": when});
    template
}

fn revision(set: &Value) -> i64 {
    set["metadata"]["annotations"]["deployment.kubernetes.io/revision"]
        .as_str()
        .and_then(|number| number.parse().ok())
        .unwrap_or(0)
}

fn copy_annotations(set: &mut Value, annotations: &Value) {
    for (key, value) in annotations.as_object().into_iter().flatten() {
        if !key.starts_with("deployment.kubernetes.io/") {
            set["metadata"]["annotations"][key] = value.clone();
        }
    }
}
