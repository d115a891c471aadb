//! What these scenarios share: an owner of each kind, and questions about its hold.

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::events::v1::Event;
use kube::api::{DeleteParams, ListParams};
use kube::{Api, ResourceExt};
use rollback_api::hold::Hold;
use rollback_api::status::{Outcome, PlannedTarget};
use rollback_api::{
    HELD_BECAUSE, HELD_BY, HOLDS_LABEL, RELEASE, RELEASED_BY, RevisionLedger, WorkloadKind,
};
use rollback_core::history::ledger;
use serde_json::{Value, json};
use testkit::scene::{CONTROLLER, PATIENCE};
use testkit::shop::DeploymentBuilder;
use testkit::{Scene, User, eventually, shop};

use crate::tools::{APPLICATION, HELM_RELEASE, KUSTOMIZATION, Owning};

/// The controller.
pub const PROGRAM: &str = env!("CARGO_BIN_EXE_rollback-controller");
/// The Deployment.
pub const APP: &str = "api";
/// The request.
pub const REQUEST: &str = "api-5xx";
/// The annotation that keeps a Kustomization from a Deployment.
pub const RECONCILE: &str = "kustomize.toolkit.fluxcd.io/reconcile";

/// The ways to hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Means {
    Kustomization,
    HelmRelease,
    Application,
}

impl Means {
    pub const ALL: [Self; 3] = [Self::Kustomization, Self::HelmRelease, Self::Application];

    pub fn role(self) -> &'static str {
        match self {
            Self::Kustomization => "rollback-hold-flux-kustomization",
            Self::HelmRelease => "rollback-hold-flux-helmrelease",
            Self::Application => "rollback-hold-argocd",
        }
    }

    pub fn word(self) -> &'static str {
        match self {
            Self::Kustomization => "kustomization",
            Self::HelmRelease => "helmrelease",
            Self::Application => "application",
        }
    }

    /// The value that holds, as it stands on its object.
    pub fn value(self, object: &Value) -> Value {
        match self {
            Self::Kustomization => object["metadata"]["annotations"][RECONCILE].clone(),
            Self::HelmRelease => object["spec"]["suspend"].clone(),
            Self::Application => object["spec"]["syncPolicy"]["automated"]["enabled"].clone(),
        }
    }

    pub fn holding(self) -> Value {
        match self {
            Self::Kustomization => json!("disabled"),
            Self::HelmRelease => json!(true),
            Self::Application => json!(false),
        }
    }

    /// Resource of the object that is written.
    pub fn resource(self) -> &'static str {
        match self {
            Self::Kustomization => "deployments",
            Self::HelmRelease => "helmreleases",
            Self::Application => "applications",
        }
    }

    /// A merge patch by which somebody else holds the owner.
    pub fn by_hand(self) -> Value {
        match self {
            Self::Kustomization => json!({"metadata": {"annotations": {RECONCILE: "disabled"}}}),
            Self::HelmRelease => json!({"spec": {"suspend": true}}),
            Self::Application => json!({"spec": {"syncPolicy": {"automated": {"enabled": false}}}}),
        }
    }

    /// The object of the owner, which has applied the Deployment and one more object.
    pub async fn owner(self, scene: &Scene) -> Result<Owning> {
        let ns = scene.ns();
        let entries = json!([
            {"id": format!("{ns}_{APP}_apps_Deployment"), "v": "v1"},
            {"id": format!("{ns}_other__Service"), "v": "v1"},
        ]);
        match self {
            Self::Kustomization => {
                let object = json!({
                    "spec": {
                        "interval": "10m", "path": "./shop", "prune": true,
                        "sourceRef": {"kind": "GitRepository", "name": "shop"},
                    },
                    "status": {
                        "lastAppliedRevision": "main@sha1:5c0ffee",
                        "inventory": {"entries": entries},
                    },
                });
                KUSTOMIZATION.create(scene, "shop", object).await
            }
            Self::HelmRelease => {
                let object = json!({
                    "spec": {
                        "interval": "5m", "driftDetection": {"mode": "enabled"},
                        "chart": {"spec": {
                            "chart": "api", "sourceRef": {"kind": "HelmRepository", "name": "charts"},
                        }},
                    },
                    "status": {
                        "history": [{"chartVersion": "1.2.3"}], "inventory": {"entries": entries},
                    },
                });
                HELM_RELEASE.create(scene, "shop", object).await
            }
            Self::Application => {
                let object = json!({
                    "spec": {
                        "project": "shop",
                        "source": {"repoURL": "https://git.broxiva.example/shop", "path": "api"},
                        "syncPolicy": {"automated": {"prune": true, "selfHeal": true}},
                    },
                    "status": {
                        "sync": {"revision": "5c0ffee"},
                        "resources": [
                            {"group": "apps", "kind": "Deployment", "namespace": ns, "name": APP},
                            {"kind": "Service", "namespace": ns, "name": "other"},
                        ],
                    },
                });
                APPLICATION.create(scene, "shop", object).await
            }
        }
    }

    /// A version of the Deployment with the marks of the owner.
    pub fn version(self, ns: &str, tag: &str) -> DeploymentBuilder {
        let version = shop::deployment(APP).version(tag);
        match self {
            Self::Kustomization => version
                .label("kustomize.toolkit.fluxcd.io/name", "shop")
                .label("kustomize.toolkit.fluxcd.io/namespace", ns),
            Self::HelmRelease => version
                .label("helm.toolkit.fluxcd.io/name", "shop")
                .label("helm.toolkit.fluxcd.io/namespace", ns)
                .annotation("meta.helm.sh/release-name", "shop")
                .annotation("meta.helm.sh/release-namespace", ns),
            Self::Application => version.annotation(
                "argocd.argoproj.io/tracking-id",
                &format!("{ns}_shop:apps/Deployment:{ns}/{APP}"),
            ),
        }
    }
}

/// That the object has no mark of ours.
pub fn has_no_mark(object: &Value) -> Result<()> {
    let annotations = &object["metadata"]["annotations"];
    ensure!(
        annotations[HELD_BY].is_null() && annotations[HELD_BECAUSE].is_null(),
        "{annotations}"
    );
    Ok(())
}

/// A namespace in which the Deployment has such an owner.
pub struct Held {
    pub scene: Scene,
    pub means: Means,
    pub owner: Owning,
}

impl Held {
    /// With the right to hold, two versions and a plan that waits for approval.
    pub async fn new(name: &str, means: Means) -> Result<Self> {
        let held = Self::without_the_right(name, means).await?;
        held.scene.grant(means.role()).await?;
        held.scene
            .ask(REQUEST, APP, json!({"previous": {}}))
            .await?;
        held.planned().await?;
        Ok(held)
    }

    /// Without the right, and without a request.
    pub async fn without_the_right(name: &str, means: Means) -> Result<Self> {
        let name = format!("{name}-{}", means.word());
        let scene = Scene::new(PROGRAM, &name).await?;
        let owner = means.owner(&scene).await?;
        for tag in ["v1", "v2"] {
            scene.deploy(means.version(scene.ns(), tag)).await?;
        }
        Ok(Self {
            scene,
            means,
            owner,
        })
    }

    /// The target of the plan, which has one hold.
    pub async fn planned(&self) -> Result<PlannedTarget> {
        let plan = self.scene.plan(REQUEST).await?;
        let target = plan.targets.into_iter().next().context("no target")?;
        ensure!(target.holds.len() == 1, "{target:?}");
        Ok(target)
    }

    /// Approved, it ends.
    pub async fn approved(&self) -> Result<Outcome> {
        self.scene.approve(REQUEST, User::Approver).await?;
        Ok(self.scene.wait_for_end(REQUEST).await?.1)
    }

    /// The object that the hold stands on.
    pub async fn object(&self) -> Result<Value> {
        match self.means {
            Means::Kustomization => self.scene.deployment(APP).await,
            Means::HelmRelease | Means::Application => {
                Ok(serde_json::to_value(self.owner.api.get("shop").await?)?)
            }
        }
    }

    /// Changes that object as its administrator.
    pub async fn change(&self, patch: Value) -> Result<()> {
        match self.means {
            Means::Kustomization => self.scene.patch_deployment(APP, patch).await,
            Means::HelmRelease | Means::Application => self.owner.patch(patch).await,
        }
    }

    /// That the owner is held, and says for whom and how it ends.
    pub async fn is_held(&self) -> Result<()> {
        let object = self.object().await?;
        ensure!(
            self.means.value(&object) == self.means.holding(),
            "{object}"
        );
        let annotations = &object["metadata"]["annotations"];
        let by = annotations[HELD_BY].as_str().context("no mark")?;
        ensure!(
            by.starts_with(&format!("{}/{REQUEST} (", self.scene.ns())),
            "{by}"
        );
        let because = annotations[HELD_BECAUSE].as_str().context("no reason")?;
        for says in [
            format!("kubectl rollback release {APP} -n {}", self.scene.ns()),
            "Without the operator: kubectl ".to_owned(),
        ] {
            ensure!(because.contains(&says), "{says}: {because}");
        }
        Ok(())
    }

    /// That nothing of a hold is on the object, and the value is what it was.
    pub async fn is_as_before(&self) -> Result<()> {
        let object = self.object().await?;
        ensure!(self.means.value(&object).is_null(), "{object}");
        has_no_mark(&object)
    }

    /// The ledger, if there is one.
    pub async fn ledger(&self) -> Result<Option<RevisionLedger>> {
        let api: Api<RevisionLedger> =
            Api::namespaced(self.scene.client(User::Admin).await?, self.scene.ns());
        Ok(api
            .get_opt(&ledger::name(WorkloadKind::Deployment, APP))
            .await?)
    }

    /// The holds that the ledger has.
    pub async fn holds(&self) -> Result<Vec<Hold>> {
        let ledger = self.ledger().await?;
        let holds = ledger
            .as_ref()
            .map_or_else(Vec::new, |ledger| ledger.spec.holds.clone());
        let labelled = ledger.is_some_and(|ledger| ledger.labels().contains_key(HOLDS_LABEL));
        ensure!(
            labelled != holds.is_empty(),
            "the label does not fit {holds:?}"
        );
        Ok(holds)
    }

    /// Waits until the ledger has no hold any more.
    pub async fn no_hold_is_left(&self) -> Result<()> {
        eventually("no hold is left", PATIENCE, async || {
            let holds = self.holds().await?;
            ensure!(holds.is_empty(), "{holds:?}");
            Ok(())
        })
        .await
    }

    /// Somebody who may approve releases the holds of the request, as kubectl alone does it.
    pub async fn release(&self, user: User, by: &str) -> Result<String> {
        let name = ledger::name(WorkloadKind::Deployment, APP);
        let (release, by) = (
            format!("{RELEASE}={REQUEST}"),
            format!("{RELEASED_BY}={by}"),
        );
        let arguments = [
            "-n",
            self.scene.ns(),
            "annotate",
            "rbl",
            &name,
            &release,
            &by,
        ];
        self.scene.cluster.kubectl_ok(user, &arguments, "").await
    }

    /// Reasons of the Events that are about holds.
    pub async fn told(&self) -> Result<Vec<String>> {
        let api: Api<Event> =
            Api::namespaced(self.scene.client(User::Admin).await?, self.scene.ns());
        let events = api.list(&ListParams::default()).await?;
        let reasons = events.into_iter().filter_map(|event| event.reason);
        let mut reasons: Vec<String> = reasons
            .filter(|reason| reason.starts_with("Hold"))
            .collect();
        reasons.sort();
        Ok(reasons)
    }

    /// Waits until exactly this is told.
    pub async fn is_told(&self, expected: &[&str]) -> Result<()> {
        eventually("it is told", PATIENCE, async || {
            let told = self.told().await?;
            ensure!(told == expected, "{told:?}");
            Ok(())
        })
        .await
    }

    /// Takes the right to hold away again.
    pub async fn revoke(&self) -> Result<()> {
        let api: Api<k8s_openapi::api::rbac::v1::RoleBinding> =
            Api::namespaced(self.scene.client(User::Admin).await?, self.scene.ns());
        for binding in api.list(&ListParams::default()).await? {
            if binding.role_ref.name == self.means.role() {
                api.delete(&binding.name_any(), &DeleteParams::default())
                    .await?;
            }
        }
        // The authorizer hears of it in its own time.
        let group = match self.means {
            Means::Kustomization => ("hold", "kustomizations.kustomize.toolkit.fluxcd.io"),
            Means::HelmRelease => ("patch", "helmreleases.helm.toolkit.fluxcd.io"),
            Means::Application => ("patch", "applications.argoproj.io"),
        };
        eventually("the right is gone", PATIENCE, async || {
            let asked = [
                "auth",
                "can-i",
                group.0,
                group.1,
                "-n",
                self.scene.ns(),
                "--as",
                CONTROLLER,
            ];
            let answer = self.scene.cluster.kubectl(User::Admin, &asked).await?;
            ensure!(!answer.status.success(), "it is still there");
            Ok(())
        })
        .await
    }

    /// How many writes the controller has made to the object of the hold and to the Deployment, by whether each came
    /// through; dry runs aside.
    pub fn writes(&self) -> Result<Vec<(String, bool)>> {
        let audit = self.scene.cluster.audit().context("no audit log")?;
        let events = audit.events(self.scene.ns())?.into_iter();
        Ok(events
            .filter(|event| event.user == CONTROLLER && !event.is_dry_run())
            .filter(|event| event.verb == "patch" || event.verb == "update")
            .filter(|event| {
                event.resource == self.means.resource() || event.resource == "deployments"
            })
            .map(|event| (event.resource.clone(), event.succeeded()))
            .collect())
    }
}
