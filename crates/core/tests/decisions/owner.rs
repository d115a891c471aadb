//! Who else writes a Deployment, and whether it undoes a rollback.

use std::collections::BTreeMap;

use proptest::prelude::*;
use rollback_api::policy::SelfHealing;
use rollback_api::status::{Risk, RiskKind};
use rollback_core::observed::{Deployment, Fetched};
use rollback_core::plan::owner::{self, Healing, Owner, healing, lookup, owners, pause_command};
use serde_json::{Value, json};

fn deployment(labels: Value, annotations: Value) -> Deployment {
    let mut object =
        json!({"metadata": {"name": "api", "namespace": "shop"}, "spec": {"template": {}}});
    object["metadata"]["labels"] = labels;
    object["metadata"]["annotations"] = annotations;
    Deployment(object)
}

/// The risks, and the refusal as one text.
fn assess(
    deployment: &Deployment,
    seen: &[(Owner, Fetched<Value>)],
    refuse: bool,
) -> (Vec<Risk>, Option<String>) {
    let on = if refuse {
        SelfHealing::Refuse
    } else {
        SelfHealing::Warn
    };
    let assessed = owner::assess(deployment, seen, &BTreeMap::new(), on);
    let refusal = assessed.refusal;
    (
        assessed.risks,
        refusal.map(|(what, next)| format!("{what} {next}")),
    )
}

fn plain() -> Deployment {
    deployment(json!({}), json!({}))
}

fn managed(mut deployment: Deployment, manager: &str, operation: &str) -> Deployment {
    deployment.0["metadata"]["managedFields"] = json!([{"manager": "kube-controller-manager"}, {"manager": manager, "operation": operation}]);
    deployment
}

fn owned(mut deployment: Deployment, kind: &str, controller: bool) -> Deployment {
    deployment.0["metadata"]["ownerReferences"] =
        json!([{"kind": kind, "name": "x", "uid": "u", "controller": controller}]);
    deployment
}

fn argo(application: &str, namespace: Option<&str>) -> Owner {
    Owner::ArgoCd {
        application: application.into(),
        namespace: namespace.map(str::to_owned),
    }
}

fn kustomization() -> Owner {
    Owner::FluxKustomization {
        namespace: "flux-system".into(),
        name: "apps".into(),
    }
}

fn release() -> Owner {
    Owner::FluxHelmRelease {
        namespace: "shop".into(),
        name: "api".into(),
    }
}

fn helm() -> Owner {
    Owner::Helm {
        release: "api".into(),
        namespace: "shop".into(),
    }
}

const TRACKING: &str = "argocd.argoproj.io/tracking-id";
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

fn tracked(id: &str) -> Deployment {
    deployment(json!({}), json!({TRACKING: id}))
}

#[test]
fn owners_by_their_marks() {
    let flux = json!({"kustomize.toolkit.fluxcd.io/name": "apps", "kustomize.toolkit.fluxcd.io/namespace": "flux-system"});
    let flux_helm =
        json!({"helm.toolkit.fluxcd.io/name": "api", "helm.toolkit.fluxcd.io/namespace": "shop"});
    let helm_marks =
        json!({"meta.helm.sh/release-name": "api", "meta.helm.sh/release-namespace": "shop"});
    let instance = json!({"app.kubernetes.io/instance": "web"});
    let cases = [
        ("nobody", plain(), vec![]),
        (
            "tracked",
            tracked("web:apps/Deployment:shop/api"),
            vec![argo("web", None)],
        ),
        (
            "tracked from another namespace",
            tracked("teams_web:apps/Deployment:shop/api"),
            vec![argo("web", Some("teams"))],
        ),
        (
            "a copy of another name",
            tracked("web:apps/Deployment:shop/other"),
            vec![],
        ),
        (
            "a copy of another namespace",
            tracked("web:apps/Deployment:test/api"),
            vec![],
        ),
        (
            "another kind",
            tracked("web:apps/StatefulSet:shop/api"),
            vec![],
        ),
        ("no id", tracked("web"), vec![]),
        (
            "a label of Helm's",
            deployment(instance.clone(), json!({})),
            vec![],
        ),
        (
            "Argo CD wrote it",
            managed(
                deployment(instance.clone(), json!({})),
                "argocd-controller",
                "Apply",
            ),
            vec![argo("web", None)],
        ),
        (
            "Argo CD wrote it, client-side",
            managed(
                deployment(instance, json!({LAST_APPLIED: "{}"})),
                "argocd-application-controller",
                "Update",
            ),
            vec![argo("web", None)],
        ),
        (
            "Argo CD wrote it and does not say for whom",
            managed(plain(), "argocd-controller", "Apply"),
            vec![argo("", None)],
        ),
        (
            "Flux",
            deployment(flux.clone(), json!({})),
            vec![kustomization()],
        ),
        (
            "half a mark",
            deployment(
                json!({"kustomize.toolkit.fluxcd.io/name": "apps"}),
                json!({}),
            ),
            vec![],
        ),
        (
            "Flux Helm",
            deployment(flux_helm, helm_marks.clone()),
            vec![release()],
        ),
        ("Helm", deployment(json!({}), helm_marks), vec![helm()]),
        (
            "Helm without a namespace",
            deployment(json!({}), json!({"meta.helm.sh/release-name": "api"})),
            vec![helm()],
        ),
        (
            "kubectl",
            deployment(json!({}), json!({LAST_APPLIED: "{}"})),
            vec![Owner::Kubectl],
        ),
        (
            "kubectl, server-side",
            managed(plain(), "kubectl", "Apply"),
            vec![Owner::Kubectl],
        ),
        (
            "kubectl edit",
            managed(plain(), "kubectl-edit", "Update"),
            vec![],
        ),
        (
            "two",
            deployment(flux, json!({LAST_APPLIED: "{}"})),
            vec![kustomization(), Owner::Kubectl],
        ),
        (
            "OLM",
            deployment(
                json!({"olm.owner": "x.v1", "olm.owner.kind": "ClusterServiceVersion", "olm.owner.namespace": "ns"}),
                json!({}),
            ),
            vec![Owner::Olm {
                name: "x.v1".into(),
                namespace: Some("ns".into()),
            }],
        ),
        (
            "OLM by reference",
            owned(plain(), "ClusterServiceVersion", false),
            vec![Owner::Olm {
                name: "x".into(),
                namespace: None,
            }],
        ),
        (
            "an operator",
            owned(plain(), "Kafka", true),
            vec![Owner::Operator {
                kind: "Kafka".into(),
                name: "x".into(),
            }],
        ),
        (
            "an owner that does not control",
            owned(plain(), "Kafka", false),
            vec![],
        ),
    ];
    for (what, deployment, expected) in cases {
        assert_eq!(owners(&deployment), expected, "{what}");
    }
}

#[test]
fn what_to_read_to_learn_more() {
    let told = |owner: &Owner| {
        lookup(owner).map(|l| {
            format!(
                "{}/{} {} {}/{}",
                l.group,
                l.version,
                l.plural,
                l.namespace.unwrap(),
                l.name
            )
        })
    };
    let cases = [
        (
            argo("web", None),
            Some("argoproj.io/v1alpha1 applications argocd/web"),
        ),
        (
            argo("web", Some("teams")),
            Some("argoproj.io/v1alpha1 applications teams/web"),
        ),
        (argo("", None), None),
        (argo("../x", None), None),
        (argo("web", Some("a.b")), None),
        (
            kustomization(),
            Some("kustomize.toolkit.fluxcd.io/v1 kustomizations flux-system/apps"),
        ),
        (
            release(),
            Some("helm.toolkit.fluxcd.io/v2 helmreleases shop/api"),
        ),
        (helm(), None),
        (Owner::Kubectl, None),
    ];
    for (owner, expected) in cases {
        assert_eq!(told(&owner).as_deref(), expected, "{owner:?}");
    }
}

#[test]
fn commands_hold_names_and_nothing_else() {
    let cases = [
        (
            kustomization(),
            Some(
                "kubectl annotate deployment api -n shop kustomize.toolkit.fluxcd.io/reconcile=disabled",
            ),
        ),
        (release(), Some("flux suspend helmrelease api -n shop")),
        (
            argo("web", None),
            Some(
                "argocd app set web --sync-policy none (or: kubectl patch applications.argoproj.io web -n argocd --type merge -p '{\"spec\":{\"syncPolicy\":{\"automated\":null}}}')",
            ),
        ),
        (
            argo("web", Some("teams")),
            Some(
                "argocd app set teams/web --sync-policy none (or: kubectl patch applications.argoproj.io web -n teams --type merge -p '{\"spec\":{\"syncPolicy\":{\"automated\":null}}}')",
            ),
        ),
        (
            Owner::FluxHelmRelease {
                namespace: "a; rm -rf /".into(),
                name: "$(reboot)".into(),
            },
            Some("flux suspend helmrelease HELMRELEASE -n NAMESPACE"),
        ),
        (helm(), None),
        (Owner::Kubectl, None),
    ];
    for (owner, expected) in cases {
        assert_eq!(pause_command(&owner, &plain()).as_deref(), expected);
    }
    let hostile = pause_command(&argo("x; reboot", Some("`id`")), &plain()).unwrap();
    assert!(
        hostile.starts_with("argocd app set NAMESPACE/APPLICATION --sync-policy none"),
        "{hostile}"
    );
    let nameless = pause_command(&kustomization(), &Deployment(json!({}))).unwrap();
    assert!(
        nameless.contains("deployment DEPLOYMENT -n NAMESPACE "),
        "{nameless}"
    );
}

fn state(healing: &Healing) -> &'static str {
    match healing {
        Healing::No(_) => "no",
        Healing::Yes(_) => "yes",
        Healing::Unknown(_) => "unknown",
    }
}

#[test]
fn kustomizations() {
    let listed = |id: &str| json!({"spec": {"interval": "10m"}, "status": {"inventory": {"entries": [{"id": id, "v": "v1"}]}}});
    let on = |key: &str, value: &str| deployment(json!({key: value}), json!({}));
    let by = |key: &str, value: &str| deployment(json!({}), json!({key: value}));
    let (reconcile, ssa) = (
        "kustomize.toolkit.fluxcd.io/reconcile",
        "kustomize.toolkit.fluxcd.io/ssa",
    );
    let found = |value: Value| Fetched::Found(value);
    let cases = [
        (
            plain(),
            found(json!({"spec": {"interval": "10m"}})),
            "yes",
            "every 10m",
        ),
        (
            plain(),
            found(listed("shop_api_apps_Deployment")),
            "yes",
            "every 10m",
        ),
        (
            plain(),
            found(listed("shop_other_apps_Deployment")),
            "no",
            "does not list it",
        ),
        (
            plain(),
            found(json!({"spec": {"suspend": true}})),
            "no",
            "suspended",
        ),
        (
            plain(),
            found(json!({"spec": {"suspend": "true"}})),
            "yes",
            "",
        ),
        (plain(), found(json!(null)), "yes", "every interval"),
        (
            plain(),
            Fetched::Absent,
            "no",
            "not in this cluster any more",
        ),
        (plain(), Fetched::Unknown, "unknown", "could not be read"),
        (
            on(reconcile, "disabled"),
            Fetched::Unknown,
            "no",
            "reconcile: disabled",
        ),
        (
            by(reconcile, "Disabled"),
            found(json!({})),
            "no",
            "reconcile: disabled",
        ),
        (by(reconcile, "enabled"), found(json!({})), "yes", ""),
        (by(ssa, "Ignore"), found(json!({})), "no", "ssa: Ignore"),
        (by(ssa, "IfNotPresent"), found(json!({})), "yes", ""),
        (by(ssa, "Merge"), found(json!({})), "yes", ""),
    ];
    for (deployment, object, expected, says) in cases {
        let healing = healing(&kustomization(), &deployment, &object);
        assert_eq!(state(&healing), expected, "{healing:?} {object:?}");
        assert!(healing.sentence().contains(says), "{healing:?}");
    }
}

#[test]
fn helm_releases() {
    let mode = |mode: Value| Fetched::Found(json!({"spec": {"driftDetection": {"mode": mode}}}));
    let ignored = deployment(
        json!({}),
        json!({"helm.toolkit.fluxcd.io/driftDetection": "disabled"}),
    );
    let cases = [
        (
            plain(),
            Fetched::Found(json!({"spec": {}})),
            "no",
            "next upgrade",
        ),
        (plain(), mode(json!("disabled")), "no", "next upgrade"),
        (plain(), mode(json!("warn")), "no", "next upgrade"),
        (plain(), mode(json!("enabled")), "yes", "corrects drift"),
        (plain(), mode(json!("Enabled!")), "unknown", "not known"),
        (plain(), mode(json!(7)), "unknown", "not known"),
        (
            ignored.clone(),
            mode(json!("enabled")),
            "no",
            "next upgrade",
        ),
        (ignored, Fetched::Unknown, "unknown", "could not be read"),
        (
            plain(),
            Fetched::Found(
                json!({"spec": {"suspend": true, "driftDetection": {"mode": "enabled"}}}),
            ),
            "no",
            "suspended",
        ),
        (
            plain(),
            Fetched::Absent,
            "no",
            "not in this cluster any more",
        ),
        (plain(), Fetched::Unknown, "unknown", "could not be read"),
    ];
    for (deployment, object, expected, says) in cases {
        let healing = healing(&release(), &deployment, &object);
        assert_eq!(state(&healing), expected, "{healing:?} {object:?}");
        assert!(healing.sentence().contains(says), "{healing:?}");
    }
}

#[test]
fn applications() {
    let synced = |policy: Value| Fetched::Found(json!({"spec": {"syncPolicy": policy}}));
    let listing = |name: &str| {
        Fetched::Found(json!({
            "spec": {"syncPolicy": {"automated": {"selfHeal": true}}},
            "status": {"resources": [{"group": "apps", "kind": "Deployment", "namespace": "shop", "name": name}]},
        }))
    };
    let cases = [
        (
            synced(json!({"automated": {"selfHeal": true}})),
            "yes",
            "within seconds",
        ),
        (
            synced(json!({"automated": {"selfHeal": false}})),
            "no",
            "next commit",
        ),
        (synced(json!({"automated": {}})), "no", "next commit"),
        (
            synced(json!({"automated": {"enabled": true, "selfHeal": true}})),
            "yes",
            "",
        ),
        (
            synced(json!({"automated": {"enabled": false, "selfHeal": true}})),
            "no",
            "switched off",
        ),
        (
            synced(json!({"automated": {"selfHeal": "true"}})),
            "unknown",
            "",
        ),
        (
            synced(json!({"automated": null})),
            "no",
            "not synced automatically",
        ),
        (synced(json!({})), "no", "not synced automatically"),
        (Fetched::Found(json!({})), "no", "not synced automatically"),
        (listing("api"), "yes", ""),
        (listing("other"), "unknown", "does not list it"),
        (
            Fetched::Found(json!({
                "metadata": {"annotations": {"argocd.argoproj.io/skip-reconcile": "true"}},
                "spec": {"syncPolicy": {"automated": {"selfHeal": true}}},
            })),
            "no",
            "skip-reconcile",
        ),
        (Fetched::Absent, "unknown", "could not be read"),
        (Fetched::Unknown, "unknown", "could not be read"),
    ];
    for (object, expected, says) in cases {
        let healing = healing(&argo("web", None), &plain(), &object);
        assert_eq!(state(&healing), expected, "{healing:?} {object:?}");
        assert!(healing.sentence().contains(says), "{healing:?}");
    }
}

#[test]
fn owners_that_have_no_object() {
    let olm = Owner::Olm {
        name: "x.v1".into(),
        namespace: None,
    };
    let operator = Owner::Operator {
        kind: "Kafka".into(),
        name: "x".into(),
    };
    let applied = deployment(json!({}), json!({LAST_APPLIED: "{}"}));
    let cases = [
        (
            helm(),
            plain(),
            "no",
            "the next helm upgrade brings the bad version back",
        ),
        (
            helm(),
            managed(plain(), "helm", "Update"),
            "no",
            "the next helm upgrade brings",
        ),
        (
            helm(),
            managed(plain(), "helm", "Apply"),
            "no",
            "meets a conflict",
        ),
        (Owner::Kubectl, applied, "no", "the next one brings"),
        (
            Owner::Kubectl,
            managed(plain(), "kubectl", "Apply"),
            "no",
            "meets a conflict",
        ),
        (olm, plain(), "yes", "as soon as it differs"),
        (operator, plain(), "unknown", "Kafka x"),
    ];
    for (owner, deployment, expected, says) in cases {
        let healing = healing(&owner, &deployment, &Fetched::Unknown);
        assert_eq!(state(&healing), expected, "{healing:?}");
        assert!(healing.sentence().contains(says), "{healing:?}");
    }
}

#[test]
fn case_42_owners_are_told_and_those_that_undo_are_refused() {
    let seen = [
        (Owner::Kubectl, Fetched::Unknown),
        (
            kustomization(),
            Fetched::Found(json!({"spec": {"interval": "5m"}})),
        ),
    ];
    let (risks, refusal) = assess(&plain(), &seen, true);
    assert_eq!(risks.len(), 2);
    assert!(risks.iter().all(|risk| risk.kind == RiskKind::Owner));
    assert!(!risks[0].message.contains("hold"), "{}", risks[0].message);
    assert_eq!(
        risks[1].message,
        "Flux Kustomization flux-system/apps applies what is in Git every 5m and brings the bad version back. \
         Put it on hold with: kubectl annotate deployment api -n shop kustomize.toolkit.fluxcd.io/reconcile=disabled"
    );
    assert_eq!(
        refusal.unwrap(),
        "A rollback of Deployment api may not hold. \
         Flux Kustomization flux-system/apps applies what is in Git every 5m and brings the bad version back. \
         Put the owner on hold, then create a new request: \
         kubectl annotate deployment api -n shop kustomize.toolkit.fluxcd.io/reconcile=disabled"
    );
    let (_, warned) = assess(&plain(), &seen, false);
    assert_eq!(warned, None);
    let (_, holds) = assess(&plain(), &seen[..1], true);
    assert_eq!(holds, None);
    let (_, unread) = assess(&plain(), &[(argo("web", None), Fetched::Absent)], true);
    let unread = unread.unwrap();
    assert!(unread.contains("argocd app resources web"), "{unread}");
    assert!(!unread.contains("--sync-policy"), "{unread}");
    let (_, operator) = assess(
        &plain(),
        &[(
            Owner::Olm {
                name: "x".into(),
                namespace: None,
            },
            Fetched::Unknown,
        )],
        true,
    );
    assert!(operator.unwrap().ends_with("then create a new request."));
}

/// Whoever may write the Deployment may label it with the name of somebody else's owner.
#[test]
fn marks_alone_choose_nobody_whom_a_reader_switches_off() {
    let drift = json!({"spec": {"driftDetection": {"mode": "enabled"}}});
    let heals = json!({"spec": {"syncPolicy": {"automated": {"selfHeal": true}}}});
    let with = |object: &Value, status: Value| {
        let mut object = object.clone();
        object["status"] = status;
        Fetched::Found(object)
    };
    let firewall = Owner::FluxHelmRelease {
        namespace: "flux-system".into(),
        name: "cluster-firewall".into(),
    };
    let inventory = |id: &str| json!({"inventory": {"entries": [{"id": id, "v": "v1"}]}});
    let resources = |name: &str| json!({"resources": [{"group": "apps", "kind": "Deployment", "namespace": "shop", "name": name}]});
    let ours = "shop_api_apps_Deployment";
    let other = argo("platform", None);
    let stops = ["flux suspend", "--sync-policy"];
    for (owner, object, is_told) in [
        (&firewall, with(&drift, json!({})), false),
        (&firewall, with(&drift, inventory(ours)), true),
        (&firewall, Fetched::Unknown, false),
        (&release(), with(&drift, json!({})), true),
        (&other, with(&heals, json!({})), false),
        (&other, with(&heals, resources("web")), false),
        (&other, with(&heals, resources("api")), true),
        (&other, Fetched::Absent, false),
        (&argo("web", Some("shop")), with(&heals, json!({})), true),
    ] {
        let (risks, refusal) = assess(&plain(), &[(owner.clone(), object.clone())], true);
        let refusal = refusal.unwrap_or_default();
        for said in [&risks[0].message, &refusal] {
            let stopped = stops.iter().any(|stop| said.contains(stop));
            assert_eq!(stopped, is_told, "{owner:?} {object:?}: {said}");
        }
    }
}

fn everything() -> Value {
    json!({
        "metadata": {
            "name": "api", "namespace": "shop",
            "labels": {
                "kustomize.toolkit.fluxcd.io/name": "apps", "kustomize.toolkit.fluxcd.io/namespace": "flux-system",
                "helm.toolkit.fluxcd.io/name": "api", "helm.toolkit.fluxcd.io/namespace": "shop",
                "app.kubernetes.io/instance": "web", "olm.owner": "x", "olm.owner.kind": "ClusterServiceVersion",
            },
            "annotations": {TRACKING: "web:apps/Deployment:shop/api", LAST_APPLIED: "{}", "meta.helm.sh/release-name": "api"},
            "managedFields": [{"manager": "argocd-controller", "operation": "Apply"}],
            "ownerReferences": [{"kind": "Kafka", "name": "x", "controller": true}],
        },
        "spec": {
            "suspend": false, "interval": "5m", "driftDetection": {"mode": "enabled"},
            "syncPolicy": {"automated": {"selfHeal": true, "enabled": true}},
        },
        "status": {
            "inventory": {"entries": [{"id": "shop_api_apps_Deployment"}]},
            "resources": [{"group": "apps", "kind": "Deployment", "namespace": "shop", "name": "api"}],
        },
    })
}

proptest! {
    #![proptest_config(crate::hostile::config(256, "tests/owner.regressions"))]

    #[test]
    fn anything_is_judged(
        object in prop_oneof![crate::hostile::spoiled(everything()).boxed(), crate::hostile::anything().boxed()],
        other in prop_oneof![crate::hostile::spoiled(everything()).boxed(), crate::hostile::anything().boxed()],
    ) {
        let deployment = Deployment(object);
        let found = owners(&deployment);
        let seen: Vec<_> = found
            .iter()
            .map(|owner| (owner.clone(), Fetched::Found(other.clone())))
            .collect();
        let (risks, refusal) = assess(&deployment, &seen, true);
        prop_assert_eq!(risks.len(), found.len());
        for message in risks.iter().map(|risk| &risk.message).chain(&refusal) {
            prop_assert!(message.chars().count() <= 2000);
            prop_assert!(!message.chars().any(char::is_control));
        }
        for owner in &found {
            if let Some(command) = pause_command(owner, &deployment) {
                prop_assert!(command.is_ascii() && !command.contains([';', '`', '$', '\n']), "{}", command);
            }
        }
    }
}
