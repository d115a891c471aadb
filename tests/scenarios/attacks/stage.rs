//! A namespace with requests in every moment of their life. A controller makes their plans and counts their approvals;
//! then it is ended, and the moments that pass too quickly are written as it would have written them, with its own
//! token. From then on nothing changes by itself.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, ensure};
use rollback_api::{
    APPROVED_BY, ARTIFACT_LABEL, CANCELLED_BY, CHECKLIST, CONFIRM, DENIED_BY, DENIED_REASON, PLAN,
    REQUEST_UID_LABEL, WITHDRAWN_BY,
};
use serde_json::{Value, json};
use testkit::scene::{PATIENCE, PRODUCTION, TICKED, request};
use testkit::{Cluster, Scene, eventually, shop};

use crate::attack::{Attempt, DELETE, GET, How, MERGE, Moment, POST, Thing, Verb};
use crate::fire::{Answer, Clients, Place, filled};
use crate::people::{ADMIN, APPROVER, BOTH, CONTROLLER, Person, REQUESTER, SECOND, grants};

/// The controller's program.
pub const PROGRAM: &str = env!("CARGO_BIN_EXE_rollback-controller");

/// The Deployments that are attacked.
pub const SHOP: [&str; 3] = ["api", "web", "worker"];

const ROLLBACK: &str = "rollback.broxiva.com/v1alpha1";
/// What stands in a backup's place.
const BACKUP: &str = "rollback-backup-0123456789abcdef";
/// What stands in an incident's place.
const INCIDENT: &str = "rollback-20260601-140500-0123abcd";

/// The namespace and everybody in it.
pub struct Stage {
    /// The namespace, and for a while its controller.
    pub scene: Scene,
    /// Everybody.
    pub clients: Clients,
    /// Whom the request of a moment is called, where that is not the moment's own name.
    pub named: BTreeMap<Moment, String>,
    digests: BTreeMap<Moment, String>,
}

impl Stage {
    /// A namespace with everybody in it, two versions of two Deployments, and no request.
    pub async fn empty(cluster: &'static Cluster, name: &str) -> Result<Self> {
        let scene = Scene::on(cluster, PROGRAM, name).await?;
        let client = scene.client(testkit::User::Admin).await?;
        for object in grants(scene.ns()) {
            shop::apply(&client, scene.ns(), &object).await?;
        }
        let clients = Clients::new(cluster, scene.ns()).await?;
        Ok(Self {
            scene,
            clients,
            named: BTreeMap::new(),
            digests: BTreeMap::new(),
        })
    }

    /// Everything that the table attacks.
    pub async fn full(cluster: &'static Cluster, name: &str) -> Result<Self> {
        let mut stage = Self::empty(cluster, name).await?;
        stage.deploy(&SHOP).await?;
        stage.plan_everything().await?;
        stage.moments_by_people().await?;
        stage.moments_by_the_controller().await?;
        stage.artifacts().await?;
        stage.quarantine().await?;
        Ok(stage)
    }

    /// Name of the namespace.
    pub fn ns(&self) -> &str {
        self.scene.ns()
    }

    /// These Deployments, in two versions each.
    pub async fn deploy(&self, names: &[&str]) -> Result<()> {
        for version in ["v1", "v2"] {
            for name in names {
                let app = shop::deployment(name).replicas(1).version(version);
                self.scene.apply_deployment(app).await?;
            }
            let client = self.scene.client(testkit::User::Admin).await?;
            for name in names {
                shop::wait_available(&client, self.ns(), name).await?;
            }
        }
        Ok(())
    }

    /// Does this, which has to work.
    pub async fn must(&self, who: Person, how: How, on: Thing, what: Value) -> Result<Answer> {
        let answer = self.fire(who, how, on, &what).await?;
        ensure!(
            answer.passed(),
            "{who:?} {how} {}: {what}: HTTP {} {}",
            on.slug(),
            answer.code,
            answer.message
        );
        Ok(answer)
    }

    /// Tries this.
    pub async fn attempt(&self, attempt: &Attempt) -> Result<Answer> {
        self.fire(attempt.who, attempt.how, attempt.on, &attempt.what)
            .await
    }

    /// Tries this.
    pub async fn fire(&self, who: Person, how: How, on: Thing, what: &Value) -> Result<Answer> {
        let names = self.names(who, on).await?;
        let what = filled(what, &names);
        let place = self.place(on, how, &what);
        let current = match how.verb {
            Verb::Create => base(on),
            Verb::Put | Verb::Json | Verb::Apply => match self.get(&place, how.sub).await? {
                Value::Null => base(on),
                there => there,
            },
            Verb::Merge | Verb::Strategic | Verb::Delete | Verb::DeleteAll | Verb::Get => {
                Value::Null
            }
        };
        let request = crate::fire::request(how, &place, &current, &what)?;
        self.clients.send(who, self.ns(), request).await
    }

    /// What is there, as the administrator sees it; null when nothing is.
    pub async fn look(&self, on: Thing, what: &Value) -> Result<Value> {
        self.get(&self.place(on, GET, what), "").await
    }

    async fn get(&self, place: &Place, sub: &str) -> Result<Value> {
        let how = if sub == "scale" { GET.on("scale") } else { GET };
        let request = crate::fire::request(how, place, &Value::Null, &Value::Null)?;
        let answer = self.clients.send(ADMIN, self.ns(), request).await?;
        Ok(answer.body)
    }

    /// The digest of the plan of this moment's request, as it is now.
    pub async fn learn(&mut self, moment: Moment) -> Result<()> {
        let request = self.look(Thing::Request(moment), &json!({})).await?;
        self.digests.insert(moment, digest(&request));
        Ok(())
    }

    /// What stands in the places that are kept for names.
    pub async fn names(&self, who: Person, on: Thing) -> Result<[(&'static str, String); 4]> {
        let digest = match on {
            Thing::Request(moment) => self.digests.get(&moment).cloned().unwrap_or_default(),
            Thing::Called(_) => digest(&self.look(on, &json!({})).await?),
            _ => String::new(),
        };
        Ok([
            ("$ME", who.name(self.ns())),
            ("$NS", self.ns().to_owned()),
            ("$DIGEST", digest),
            ("$BAD", bad()),
        ])
    }

    fn place(&self, on: Thing, how: How, what: &Value) -> Place {
        let ns = self.ns();
        let ours = |plural: &str| format!("/apis/{ROLLBACK}/namespaces/{ns}/{plural}");
        let maps = format!("/api/v1/namespaces/{ns}/configmaps");
        let apps = format!("/apis/apps/v1/namespaces/{ns}/deployments");
        let said = what.pointer("/metadata/name").and_then(Value::as_str);
        let place = |collection: String, name: &str, kind| Place {
            collection,
            name: said.unwrap_or(name).to_owned(),
            kind,
        };
        match on {
            Thing::Request(moment) => {
                let name = self.named.get(&moment).cloned();
                let name = name.unwrap_or_else(|| moment.slug());
                place(
                    ours("rollbackrequests"),
                    &name,
                    (ROLLBACK, "RollbackRequest"),
                )
            }
            Thing::Called(name) => place(
                ours("rollbackrequests"),
                name,
                (ROLLBACK, "RollbackRequest"),
            ),
            Thing::NewRequest => place(
                ours("rollbackrequests"),
                "new",
                (ROLLBACK, "RollbackRequest"),
            ),
            Thing::Ledger => place(
                ours("revisionledgers"),
                "deployment-api",
                (ROLLBACK, "RevisionLedger"),
            ),
            Thing::NewLedger => place(ours("revisionledgers"), "new", (ROLLBACK, "RevisionLedger")),
            Thing::Policy => place(
                ours("rollbackpolicies"),
                "default",
                (ROLLBACK, "RollbackPolicy"),
            ),
            Thing::Backup => place(maps, BACKUP, ("v1", "ConfigMap")),
            Thing::Incident => place(maps, INCIDENT, ("v1", "ConfigMap")),
            Thing::Notes => place(maps, "notes", ("v1", "ConfigMap")),
            Thing::NewMap => place(maps, "new", ("v1", "ConfigMap")),
            Thing::App | Thing::Worker => {
                let kind = match how.sub {
                    "scale" => ("autoscaling/v1", "Scale"),
                    _ => ("apps/v1", "Deployment"),
                };
                place(apps, if on == Thing::App { "api" } else { "worker" }, kind)
            }
            Thing::Path(path) => Place {
                collection: path.replace("$NS", ns),
                name: String::new(),
                kind: ("", ""),
            },
        }
    }

    async fn plan_everything(&mut self) -> Result<()> {
        self.scene
            .policy(json!({
                "approvals": {
                    "required": 2, "validForSeconds": 7200,
                    "trustedMachines": ["system:serviceaccount:shop:known"],
                },
                "capacity": {"scaleDown": [{"name": "worker"}]},
                "remedies": {
                    "forceDeleteAfterSeconds": 600,
                    "fallbackImages": [{"targetRef": {"name": "web"}, "container": "app", "image": "shop/web:good"}],
                },
                "rollout": {"logTailLines": 5},
                "decisionMatrix": [{"category": "Latency", "approval": "Automatic"}],
                "triggers": {"approve": true, "sources": ["alertmanager"]},
                "notifications": {"channels": [
                    {"name": "known", "on": {"events": ["ReviewOverdue"]}, "teams": {"webhook": {"name": "known", "key": "url"}}},
                ]},
                // The ledger that is attacked is made here.
                "ledger": {"record": false},
            }))
            .await?;
        for moment in crate::attack::MOMENTS {
            if moment != Moment::Planless {
                self.ask(moment).await?;
            }
        }
        self.scene.start_controller().await?;
        for moment in crate::attack::MOMENTS {
            if moment != Moment::Planless {
                self.scene.plan(&moment.slug()).await?;
                self.learn(moment).await?;
            }
        }
        for moment in [
            Moment::Half,
            Moment::Approved,
            Moment::Begun,
            Moment::HalfBegun,
            Moment::Withdrawn,
        ] {
            self.must(APPROVER, MERGE, Thing::Request(moment), whole_approval())
                .await?;
            self.counted(moment, 1).await?;
        }
        let no = json!({"metadata": {"annotations": {DENIED_BY: "$ME", DENIED_REASON: "It is a drill."}}});
        self.must(APPROVER, MERGE, Thing::Request(Moment::Ended), no)
            .await?;
        self.scene.wait_for_end(&Moment::Ended.slug()).await?;
        let controller = self.scene.controller.take().context("no controller")?;
        ensure!(controller.terminate()?.success());
        self.ask(Moment::Planless).await
    }

    /// Asks for the request of this moment.
    pub async fn ask(&self, moment: Moment) -> Result<()> {
        let who = if moment == Moment::Own {
            BOTH
        } else {
            REQUESTER
        };
        let on = Thing::Request(moment);
        self.must(who, POST, Thing::NewRequest, json!({"metadata": {"name": self.place(on, POST, &json!({})).name}, "spec": spec_of(moment)}))
            .await?;
        Ok(())
    }

    /// Waits until so many approvals are counted.
    pub async fn counted(&self, moment: Moment, wanted: usize) -> Result<()> {
        let what = format!("{wanted} approvals of {moment:?} are counted");
        eventually(&what, PATIENCE, async || {
            let request = self.look(Thing::Request(moment), &json!({})).await?;
            let counted = request
                .pointer("/status/approvals")
                .and_then(Value::as_array);
            let counted = counted.map_or(0, Vec::len);
            ensure!(counted == wanted, "{counted} are");
            let mailbox =
                request.pointer("/metadata/annotations/rollback.broxiva.com~1approved-by");
            ensure!(mailbox.is_none(), "it is not put away yet");
            Ok(())
        })
        .await
    }

    async fn moments_by_people(&self) -> Result<()> {
        let on = Thing::Request;
        for moment in [Moment::Pending, Moment::Full] {
            self.must(APPROVER, MERGE, on(moment), whole_approval())
                .await?;
        }
        let taken_back = json!({"metadata": {"annotations": {
            APPROVED_BY: null, CONFIRM: null, PLAN: null, CHECKLIST: null, WITHDRAWN_BY: "$ME",
        }}});
        self.must(APPROVER, MERGE, on(Moment::Withdrawn), taken_back)
            .await?;
        let no = json!({"metadata": {"annotations": {DENIED_BY: "$ME", DENIED_REASON: "Fix it forward."}}});
        self.must(SECOND, MERGE, on(Moment::Denied), no).await?;
        let never_mind = json!({"metadata": {"annotations": {CANCELLED_BY: "$ME"}}});
        self.must(REQUESTER, MERGE, on(Moment::Cancelled), never_mind)
            .await?;
        self.must(REQUESTER, DELETE, on(Moment::Deleting), json!({}))
            .await?;
        Ok(())
    }

    /// What the controller would have written next, and the rules of other policies.
    async fn moments_by_the_controller(&self) -> Result<()> {
        let status = MERGE.on("status");
        let half = self.look(Thing::Request(Moment::Half), &json!({})).await?;
        let mut counted = half["status"]["approvals"].clone();
        counted[0]["planDigest"] = json!("$DIGEST");
        let counted = json!({"status": {"approvals": counted}});
        self.must(CONTROLLER, status, Thing::Request(Moment::Full), counted)
            .await?;
        for moment in [Moment::Approved, Moment::Begun, Moment::HalfBegun] {
            let request = self.look(Thing::Request(moment), &json!({})).await?;
            let mut approvals = request["status"]["approvals"].clone();
            let mut another = approvals[0].clone();
            another["by"]["username"] = json!(SECOND.name(self.ns()));
            if let Some(list) = approvals.as_array_mut() {
                list.push(another);
            }
            let mut change = json!({"status": {"approvals": approvals}});
            if moment != Moment::Approved {
                // Nothing is known of them yet, so the status has none.
                let name = &request["status"]["plan"]["targets"][0]["name"];
                let mut targets = json!([{"kind": "Deployment", "name": name}]);
                targets[0]["revert"] =
                    json!({"intendedAt": "2026-06-01T14:05:00Z", "generation": 2});
                targets[0]["revertedAt"] = json!("2026-06-01T14:05:01Z");
                let others = targets.as_array_mut();
                if let (Moment::HalfBegun, Some(others)) = (moment, others) {
                    others.push(json!({"name": "web"}));
                }
                change["status"]["targets"] = targets;
            }
            self.must(CONTROLLER, status, Thing::Request(moment), change)
                .await?;
        }
        let staging = json!({"status": {"plan": {"rules": {
            "environment": "staging",
            "approvals": {"fourEyes": false, "confirmPhrase": "ROLLBACK", "checklist": null},
        }}}});
        self.must(CONTROLLER, status, Thing::Request(Moment::Staging), staging)
            .await?;
        let glass = json!({"status": {"plan": {"rules": {"approvals": {"breakGlass": true}}}}});
        self.must(CONTROLLER, status, Thing::Request(Moment::Glass), glass)
            .await?;
        let risky = json!({"status": {"plan": {
            "rules": {"approvals": {"breakGlass": true}},
            "dataRisk": {"message": "The migration is marked irreversible. Ask #dba, who knows the data."},
        }}});
        self.must(CONTROLLER, status, Thing::Request(Moment::Risky), risky)
            .await?;
        Ok(())
    }

    /// A backup, a report, and a `ConfigMap` that is neither.
    pub async fn artifacts(&self) -> Result<()> {
        for (name, kind) in [(BACKUP, "backup"), (INCIDENT, "incident")] {
            let map = json!({"metadata": {"name": name, "labels": {ARTIFACT_LABEL: kind, REQUEST_UID_LABEL: "1"}}, "immutable": true});
            self.must(CONTROLLER, POST, Thing::NewMap, map).await?;
        }
        let map = json!({"metadata": {"name": "notes"}});
        self.must(ADMIN, POST, Thing::NewMap, map).await?;
        Ok(())
    }

    /// A ledger in which one version is in quarantine.
    pub async fn quarantine(&self) -> Result<()> {
        let app = self.look(Thing::App, &json!({})).await?;
        let uid = app["metadata"]["uid"].clone();
        let owner = json!({"apiVersion": "apps/v1", "kind": "Deployment", "name": "api", "uid": uid, "controller": true});
        let entry = json!({"digest": "$BAD", "lastLive": "2026-06-01T14:05:00Z", "verdict": "Bad", "soakedSeconds": 0});
        let ledger = json!({
            "metadata": {"name": "deployment-api", "ownerReferences": [owner]},
            "spec": {"targetRef": {"name": "api", "uid": uid}, "templates": [entry]},
        });
        self.must(CONTROLLER, POST, Thing::NewLedger, ledger)
            .await?;
        Ok(())
    }
}

fn digest(request: &Value) -> String {
    let digest = request.pointer("/status/plan/digest");
    digest
        .and_then(Value::as_str)
        .unwrap_or_default()
        .to_owned()
}

/// A digest that no template has.
pub fn bad() -> String {
    format!("sha256:{}", "bad0".repeat(16))
}

/// A complete approval.
pub fn whole_approval() -> Value {
    json!({"metadata": {"annotations": {
        APPROVED_BY: "$ME", CONFIRM: PRODUCTION, PLAN: "$DIGEST", CHECKLIST: TICKED,
    }}})
}

fn spec_of(moment: Moment) -> Value {
    match moment {
        Moment::Several => {
            json!({"targets": [{"name": "api", "to": {"previous": {}}}, {"name": "web", "to": {"previous": {}}}]})
        }
        _ => json!({}),
    }
}

/// A good new object.
fn base(on: Thing) -> Value {
    match on {
        Thing::Request(_) | Thing::Called(_) | Thing::NewRequest => {
            request("new", json!([{"name": "api", "to": {"previous": {}}}]))
        }
        Thing::Ledger | Thing::NewLedger => json!({
            "apiVersion": ROLLBACK, "kind": "RevisionLedger",
            "metadata": {"name": "new"}, "spec": {"targetRef": {"name": "new", "uid": "1"}},
        }),
        Thing::Policy => json!({
            "apiVersion": ROLLBACK, "kind": "RollbackPolicy",
            "metadata": {"name": "default"}, "spec": {},
        }),
        Thing::Backup | Thing::Incident | Thing::Notes | Thing::NewMap => json!({
            "apiVersion": "v1", "kind": "ConfigMap",
            "metadata": {"name": "new"}, "data": {"text": "as it was"},
        }),
        Thing::App | Thing::Worker | Thing::Path(_) => json!({}),
    }
}

/// Whether two looks at an object saw the same version of it.
pub fn unchanged(before: &Value, after: &Value) -> bool {
    before.pointer("/metadata/resourceVersion") == after.pointer("/metadata/resourceVersion")
        && before.pointer("/metadata/uid") == after.pointer("/metadata/uid")
}
