//! The tools that are known to write Deployments: one row each. What is recognized is what they leave on the object; rows
//! of tools that leave nothing there say so, because somebody will look for them.

use std::fmt::Write as _;

use serde_json::Value;

use super::{HELM_RELEASE, annotation, label};
use crate::message::text::plain;

/// A tool that is recognized, and of which nothing more is read than its marks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Writer {
    /// Rancher Fleet.
    Fleet,
    /// Config Sync.
    ConfigSync,
    /// kapp, by hand or by kapp-controller.
    Kapp,
    /// kluctl, by hand or by its controller.
    Kluctl,
    /// Keel.
    Keel,
}

/// Whether a tool brings a version back by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Returns {
    /// It does.
    Yes,
    /// It does not: somebody has to do something.
    No,
    /// It depends on what cannot be read, or on what is read: the row says on what.
    Depends,
}

/// What shows that a row is so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shown {
    /// The scenario tests, on a real API server, with objects as the tool leaves them; the real controller was run by hand.
    ByHand,
    /// The scenario tests, with objects as the documentation gives them.
    AsDocumented,
    /// Tests of the decision alone, with objects as the documentation gives them.
    InCore,
    /// Nothing: it leaves nothing on a Deployment.
    Nothing,
}

/// A row of the table.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    /// The tool.
    pub name: &'static str,
    /// What it is recognized by.
    pub marks: &'static str,
    /// Whether it brings a version back by itself.
    pub returns: Returns,
    /// When it does.
    pub when: &'static str,
    /// How it is held.
    pub held: &'static str,
    /// What the plan says.
    pub plan: &'static str,
    /// What shows that.
    pub shown: Shown,
}

/// All of them.
pub const ROWS: &[Row] = &[
    Row {
        name: "Argo CD Application",
        marks: "annotation `argocd.argoproj.io/tracking-id` that names this Deployment, in any namespace; or label `app.kubernetes.io/instance` and a field manager of Argo CD",
        returns: Returns::Depends,
        when: "with `selfHeal`, within seconds; without it, with the next commit",
        held: "`spec.syncPolicy.automated.enabled: false` at the Application, by the ClusterRole `rollback-hold-argocd`",
        plan: "that everything else of the Application waits as well, and what that is",
        shown: Shown::ByHand,
    },
    Row {
        name: "Argo CD ApplicationSet, app of apps",
        marks: "owner reference, or tracking id, of the Application",
        returns: Returns::Depends,
        when: "as the Application; and it takes a hold away from that",
        held: "not held: refused, unless it leaves `spec.syncPolicy` of its Applications alone, or does not sync by itself",
        plan: "which object to change, or that a deny sync window does it",
        shown: Shown::InCore,
    },
    Row {
        name: "Argo CD Image Updater",
        marks: "nothing on the Deployment; annotations or an ImageUpdater name the Application",
        returns: Returns::Yes,
        when: "with its next look at the registry, through the Application or Git",
        held: "with the Application, which does not sync then",
        plan: "nothing of its own",
        shown: Shown::Nothing,
    },
    Row {
        name: "Kargo",
        marks: "nothing on the Deployment; annotation `kargo.akuity.io/authorized-stage` of the Application",
        returns: Returns::Depends,
        when: "with the next promotion, which syncs the Application by itself",
        held: "not held: a promotion syncs also while automation is off",
        plan: "that a promotion brings it back, when the Application was read",
        shown: Shown::InCore,
    },
    Row {
        name: "Flux Kustomization",
        marks: "labels `kustomize.toolkit.fluxcd.io/name` and `namespace`; its inventory",
        returns: Returns::Yes,
        when: "at its next interval",
        held: "`kustomize.toolkit.fluxcd.io/reconcile: disabled` on the Deployment, by the ClusterRole `rollback-hold-flux-kustomization`",
        plan: "that everything else of the Kustomization goes on",
        shown: Shown::ByHand,
    },
    Row {
        name: "Flux HelmRelease",
        marks: "labels `helm.toolkit.fluxcd.io/name` and `namespace`; its inventory",
        returns: Returns::Depends,
        when: "with `driftDetection.mode: enabled`, at its next interval; else with its next upgrade",
        held: "`spec.suspend: true` at the HelmRelease, by the ClusterRole `rollback-hold-flux-helmrelease`",
        plan: "that everything else of the release waits as well, and what that is",
        shown: Shown::ByHand,
    },
    Row {
        name: "Flux image automation",
        marks: "nothing on the Deployment: it commits to Git",
        returns: Returns::Yes,
        when: "with the next tag, through the Kustomization or HelmRelease",
        held: "with those",
        plan: "nothing of its own",
        shown: Shown::Nothing,
    },
    Row {
        name: "Rancher Fleet",
        marks: "annotations `objectset.rio.cattle.io/id` (not empty) and `meta.helm.sh/release-name`",
        returns: Returns::Depends,
        when: "with `correctDrift`, which stands in another cluster; else with the next commit",
        held: "not by the operator: `spec.paused` of the GitRepo or Bundle",
        plan: "refused, with what to pause",
        shown: Shown::InCore,
    },
    Row {
        name: "Config Sync",
        marks: "annotations `configmanagement.gke.io/managed: enabled` and `configsync.gke.io/resource-id` of this Deployment",
        returns: Returns::Yes,
        when: "at once: it always heals itself",
        held: "cannot be held at the object: what is written there is overwritten",
        plan: "refused; that `configmanagement.gke.io/managed: disabled` belongs into Git",
        shown: Shown::InCore,
    },
    Row {
        name: "kapp, kapp-controller",
        marks: "labels `kapp.k14s.io/app` and `kapp.k14s.io/association`",
        returns: Returns::Depends,
        when: "an App of kapp-controller with its next sync; `kapp deploy` when somebody runs it",
        held: "not by the operator: `spec.paused` of the App",
        plan: "refused, with what to pause",
        shown: Shown::InCore,
    },
    Row {
        name: "kluctl",
        marks: "label `kluctl.io/discriminator`",
        returns: Returns::Depends,
        when: "a KluctlDeployment at its interval; `kluctl deploy` when somebody runs it",
        held: "not by the operator: `spec.suspend` of the KluctlDeployment",
        plan: "refused, with what to suspend",
        shown: Shown::InCore,
    },
    Row {
        name: "Keel",
        marks: "label or annotation `keel.sh/policy`, other than `never`",
        returns: Returns::Yes,
        when: "with its next poll or webhook",
        held: "not by the operator: `keel.sh/policy: never` on the Deployment",
        plan: "refused, with the command",
        shown: Shown::InCore,
    },
    Row {
        name: "Argo Rollouts (`workloadRef`)",
        marks: "no replicas, set by the field manager `rollouts-controller`",
        returns: Returns::No,
        when: "the Deployment is only a template",
        held: "refused",
        plan: "that the Rollout whose `workloadRef` names it serves",
        shown: Shown::InCore,
    },
    Row {
        name: "Flagger",
        marks: "no replicas, set by the field manager `flagger`",
        returns: Returns::No,
        when: "the Deployment is only a template",
        held: "refused",
        plan: "that the Deployment `NAME-primary` serves",
        shown: Shown::InCore,
    },
    Row {
        name: "Operator Lifecycle Manager",
        marks: "labels `olm.owner` and `olm.owner.kind`, or a ClusterServiceVersion that owns it",
        returns: Returns::Yes,
        when: "as soon as it differs",
        held: "cannot be held",
        plan: "refused; to change the Subscription",
        shown: Shown::InCore,
    },
    Row {
        name: "Another operator",
        marks: "an owner reference with `controller: true`",
        returns: Returns::Depends,
        when: "nobody can tell",
        held: "cannot be held",
        plan: "refused; to change the object that it reads",
        shown: Shown::AsDocumented,
    },
    Row {
        name: "Helm",
        marks: "annotation `meta.helm.sh/release-name` without marks of Flux or Fleet",
        returns: Returns::No,
        when: "with the next `helm upgrade`",
        held: "needs none",
        plan: "that, and whether it meets a conflict",
        shown: Shown::AsDocumented,
    },
    Row {
        name: "kubectl apply",
        marks: "annotation `kubectl.kubernetes.io/last-applied-configuration`, or the field manager `kubectl`",
        returns: Returns::No,
        when: "with the next apply",
        held: "needs none",
        plan: "that, and whether it meets a conflict",
        shown: Shown::AsDocumented,
    },
];

/// The tools of which the marks are all that is known, each with its name for what it applies.
pub(super) fn known(object: &Value, namespace: &str, deployment: &str) -> Vec<(Writer, String)> {
    let mut found = Vec::new();
    let set = annotation(object, "objectset.rio.cattle.io/id");
    if !set.is_empty() && !annotation(object, HELM_RELEASE).is_empty() {
        found.push((Writer::Fleet, annotation(object, HELM_RELEASE).to_owned()));
    }
    // A copy has the marks of what it was copied from.
    let own = format!("apps_deployment_{namespace}_{deployment}");
    if annotation(object, "configmanagement.gke.io/managed") == "enabled"
        && annotation(object, "configsync.gke.io/resource-id") == own
    {
        let manager = annotation(object, "configsync.gke.io/manager");
        found.push((Writer::ConfigSync, manager.to_owned()));
    }
    for (writer, key) in [
        (Writer::Kapp, "kapp.k14s.io/app"),
        (Writer::Kluctl, "kluctl.io/discriminator"),
    ] {
        if !label(object, key).is_empty() {
            found.push((writer, label(object, key).to_owned()));
        }
    }
    let keel = ["keel.sh/policy", "keel.observer/policy"]
        .iter()
        .flat_map(|key| [annotation(object, key), label(object, key)])
        .find(|policy| !policy.is_empty());
    if let Some(policy) = keel.filter(|policy| *policy != "never") {
        found.push((Writer::Keel, policy.to_owned()));
    }
    found
}

impl Writer {
    /// The tool as a reader knows it; `name` is what it calls what it applies.
    pub(super) fn told(self, name: &str) -> String {
        let name = plain(name, 253);
        match self {
            Self::Fleet => format!("Rancher Fleet (release {name})"),
            Self::ConfigSync => format!("Config Sync ({name})"),
            Self::Kapp => format!("kapp (app {name})"),
            Self::Kluctl => format!("kluctl (discriminator {name})"),
            Self::Keel => format!("Keel (policy {name})"),
        }
    }

    /// Whether it brings a version back, and when.
    pub(super) fn returns(self) -> (Returns, &'static str) {
        match self {
            Self::Fleet => (
                Returns::Depends,
                "with drift correction it brings the bad version back within a minute, and whether that is on stands in the cluster of Fleet",
            ),
            Self::ConfigSync => (
                Returns::Yes,
                "it always heals itself and brings the bad version back at once",
            ),
            Self::Kapp => (
                Returns::Depends,
                "an App of kapp-controller brings the bad version back at its next sync, and kapp deploy only when somebody runs it; the marks of both are the same",
            ),
            Self::Kluctl => (
                Returns::Depends,
                "a KluctlDeployment brings the bad version back at its interval, and kluctl deploy only when somebody runs it; the marks of both are the same",
            ),
            Self::Keel => (
                Returns::Yes,
                "it brings the newest image back with its next look at the registry",
            ),
        }
    }

    /// How somebody keeps it from that.
    pub(super) fn advice(self) -> &'static str {
        match self {
            Self::Fleet => "Set spec.paused of its GitRepo or Bundle there.",
            Self::ConfigSync => {
                "Nothing on the object keeps it away: set the annotation configmanagement.gke.io/managed: disabled in Git."
            }
            Self::Kapp => "If kapp-controller has an App for it, set spec.paused of that.",
            Self::Kluctl => "If there is a KluctlDeployment for it, set spec.suspend of that.",
            Self::Keel => "Have it leave the Deployment alone.",
        }
    }
}

/// The table as Markdown.
pub fn table() -> String {
    let mut text = String::from(
        "| Tool | Recognized by | Brings a version back by itself | How it is held | The plan says | Shown by |\n|---|---|---|---|---|---|\n",
    );
    for row in ROWS {
        let returns = match row.returns {
            Returns::Yes => "yes",
            Returns::No => "no",
            Returns::Depends => "it depends",
        };
        let shown = match row.shown {
            Shown::ByHand => {
                "scenarios with its objects as documented; the real controller was run by hand, not by these tests"
            }
            Shown::AsDocumented => "scenarios with its objects as documented",
            Shown::InCore => "tests of the decision, with its marks as documented",
            Shown::Nothing => "nothing",
        };
        let cells = [
            row.name,
            row.marks,
            &format!("{returns}: {}", row.when),
            row.held,
            row.plan,
            shown,
        ];
        // Writing to a String cannot fail.
        let _ = writeln!(text, "| {} |", cells.join(" | "));
    }
    text
}
