//! Owners that would undo a rollback: what is planned for them, what is written and in which order, and what ends it.

use rollback_api::hold::HoldMeans;
use rollback_api::policy::SelfHealing;
use rollback_api::{CANCELLED_BY, HELD_BY, Reason, RequestState, RevisionLedgerSpec};
use rollback_core::execution::step::Step;
use rollback_core::hold::plan::HoldRead;
use rollback_core::hold::release::{NextWrite, Over, ReleaseAnnotations, next_write};
use rollback_core::hold::{mark, mark_of, release_command, told};
use rollback_core::observed::{Deployment, Fetched, Rejection};
use rollback_core::plan::owner::writers::{ROWS, Shown, table};
use rollback_core::plan::owner::{Owner, assess, owners};
use rollback_core::report::notice::notices;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use crate::world::{Move, Scene, annotate, at};

const BOB: &str = "bob@broxiva.com";
const NAMESPACE: &str = "shop";

fn kustomization() -> (Owner, Value) {
    let owner = Owner::FluxKustomization {
        namespace: "flux-system".to_owned(),
        name: "apps".to_owned(),
    };
    let object = json!({
        "metadata": {"name": "apps", "namespace": "flux-system", "uid": "k-1"},
        "spec": {"interval": "10m", "path": "./apps", "sourceRef": {"kind": "GitRepository", "name": "shop"}},
        "status": {
            "lastAppliedRevision": "main@sha1:abc",
            "inventory": {"entries": [{"id": format!("{NAMESPACE}_api_apps_Deployment"), "v": "v1"}]},
        },
    });
    (owner, object)
}

fn application() -> (Owner, Value) {
    let owner = Owner::ArgoCd {
        application: "shop".to_owned(),
        namespace: None,
    };
    let object = json!({
        "metadata": {"name": "shop", "namespace": "argocd", "uid": "a-1"},
        "spec": {
            "project": "team", "source": {"repoURL": "https://git.example/shop", "path": "api"},
            "syncPolicy": {"automated": {"prune": true, "selfHeal": true}},
        },
        "status": {
            "sync": {"revision": "abc"},
            "resources": [
                {"group": "apps", "kind": "Deployment", "namespace": NAMESPACE, "name": "api"},
                {"kind": "Service", "namespace": NAMESPACE, "name": "api"},
            ],
        },
    });
    (owner, object)
}

/// A request whose Deployment has this owner, which the controller may hold or not.
fn owned((owner, object): (Owner, Value), granted: bool) -> Scene {
    let mut scene = Scene::default();
    let surroundings = &mut scene.seen().surroundings;
    surroundings.owners = vec![(owner.clone(), Fetched::Found(object))];
    let read = HoldRead {
        granted: Some(granted),
        above: Fetched::Unknown,
    };
    surroundings.holds = BTreeMap::from([(owner, read)]);
    scene
}

/// A request whose Deployment is applied by a Kustomization that is held.
pub fn kustomized() -> Scene {
    owned(kustomization(), true)
}

fn ledger(scene: &Scene) -> RevisionLedgerSpec {
    scene.target("api").ledger.found().unwrap().clone()
}

/// The names of the steps until nothing more is asked for.
fn steps(scene: &mut Scene) -> Vec<&'static str> {
    let mut names = Vec::new();
    for _ in 0..40 {
        let taken = scene.pass();
        match taken {
            Move::Write(_) => names.push(taken.name()),
            Move::Again => {}
            Move::Wait { .. } | Move::Done => break,
        }
    }
    names
}

#[test]
fn the_intent_comes_before_the_hold_and_the_hold_before_the_revert() {
    for owner in [kustomization(), application()] {
        let mut scene = owned(owner, true).approved();
        let plan = scene.status().plan.unwrap();
        assert_eq!(plan.targets[0].holds.len(), 1);
        let names = steps(&mut scene);
        assert_eq!(names, ["Claim", "BackUp", "Claim", "PlaceHold", "Revert"]);
        let status = scene.status();
        assert!(status.targets[0].held_at.is_some());
        assert!(status.targets[0].reverted_at.is_some());
        let held = &ledger(&scene).holds;
        assert_eq!(held.len(), 1);
        assert_eq!(held[0].before, None);
        assert!(held[0].release.is_none());
        assert!(
            told(&held[0]).contains("RollbackRequest"),
            "{}",
            told(&held[0])
        );
        let told: Vec<String> = notices(&status)
            .into_iter()
            .filter(|notice| notice.reason == "HoldPlaced")
            .map(|notice| notice.note)
            .collect();
        assert_eq!(told.len(), 1);
        assert!(told[0].contains("Owed to Git: repository"), "{told:?}");
        assert!(
            told[0].contains("api: registry.broxiva.com/shop/api:"),
            "{told:?}"
        );
    }
}

#[test]
fn the_plan_says_what_is_held_and_what_waits() {
    let mut scene = owned(application(), true);
    scene.until(rollback_core::execution::phase::Phase::AwaitingApproval);
    let plan = scene.status().plan.unwrap();
    let target = &plan.targets[0];
    assert_eq!(target.holds[0].means, HoldMeans::ArgoAutomationOff);
    assert_eq!(target.holds[0].others, [format!("Service {NAMESPACE}/api")]);
    let risk = &target.risks[0].message;
    for says in [
        "heals itself",
        "put on hold",
        "So does everything else",
        "Service",
        "https://git.example/shop",
    ] {
        assert!(risk.contains(says), "{says}: {risk}");
    }
    // What is approved has the hold in it.
    let mut other = owned(kustomization(), true);
    other.until(rollback_core::execution::phase::Phase::AwaitingApproval);
    assert_ne!(other.status().plan.unwrap().digest, plan.digest);
    let mut without = Scene::default();
    without.until(rollback_core::execution::phase::Phase::AwaitingApproval);
    let text = serde_json::to_string(&without.status().plan).unwrap();
    assert!(!text.contains("holds"), "{text}");
}

#[test]
fn without_the_right_it_is_refused_and_the_role_is_named() {
    for (owner, role, place) in [
        (
            kustomization(),
            "rollback-hold-flux-kustomization",
            NAMESPACE,
        ),
        (application(), "rollback-hold-argocd", "argocd"),
    ] {
        let mut scene = owned(owner, false);
        scene.settle();
        let outcome = scene.outcome();
        assert_eq!(outcome.reason, Reason::SelfHealingOwner);
        for says in [role, place] {
            assert!(outcome.message.contains(says), "{}", outcome.message);
        }
    }
}

#[test]
fn what_is_placed_is_released_at_once_when_the_request_ends_before_the_revert() {
    let mut scene = owned(kustomization(), true).approved();
    for _ in 0..20 {
        if scene.pass().name() == "PlaceHold" {
            break;
        }
    }
    annotate(&mut scene.request, CANCELLED_BY, BOB);
    let names = steps(&mut scene);
    assert!(!names.contains(&"Revert"), "{names:?}");
    assert!(names.contains(&"Release"), "{names:?}");
    let ledger = ledger(&scene);
    assert!(ledger.claim.is_none());
    assert!(ledger.holds[0].release.is_some());
    // The Deployment says whose it is, and what was there before comes back.
    let object = scene.deployment().clone();
    let state = Fetched::Found(object.clone());
    let NextWrite::Lift { patch, .. } =
        next_write(NAMESPACE, &ledger, None, &[state], &[false], at(9))
    else {
        panic!("it is not lifted");
    };
    let mut object = object;
    crate::world::patch::apply(&mut object, &patch).unwrap();
    let annotations = &object["metadata"]["annotations"];
    for key in [
        HELD_BY,
        "kustomize.toolkit.fluxcd.io/reconcile",
        "rollback.broxiva.com/held-because",
    ] {
        assert!(annotations.get(key).is_none(), "{key}: {annotations}");
    }
    let after = [Fetched::Found(object)];
    let NextWrite::Ledger { next, over } =
        next_write(NAMESPACE, &ledger, None, &after, &[false], at(9))
    else {
        panic!("it is not forgotten");
    };
    assert!(next.holds.is_empty());
    assert_eq!(over.unwrap().1, Over::Released);
}

#[test]
fn a_hold_that_is_refused_or_taken_away_each_time_ends_it_with_nothing_changed() {
    let mut scene = owned(application(), true).approved();
    let place = loop {
        if let Move::Write(Step::PlaceHold(place)) = scene.commit() {
            break place;
        }
        scene.pass();
    };
    let mut refused = scene.clone();
    refused.seen().hold_rejection = Some(Rejection {
        patch: place.patch,
        code: 403,
        message: "applications.argoproj.io is forbidden".to_owned(),
    });
    refused.settle();
    let outcome = refused.outcome();
    assert_eq!(outcome.result, RequestState::Refused);
    assert_eq!(outcome.reason, Reason::HoldNotPlaced);
    assert!(outcome.message.contains("forbidden"), "{}", outcome.message);
    assert!(
        outcome.message.contains("Nothing was changed"),
        "{}",
        outcome.message
    );
    assert!(ledger(&refused).holds[0].release.is_some());

    scene.seen().holds_placed = 3;
    scene.settle();
    assert_eq!(scene.outcome().reason, Reason::HoldNotPlaced);
}

#[test]
fn an_owner_that_is_gone_ends_it_and_the_hold_of_another_is_left_to_them() {
    let mut gone = owned(application(), true).approved();
    gone.seen().surroundings.owners.clear();
    gone.settle();
    assert_eq!(gone.outcome().reason, Reason::HoldNotPlaced);

    let mut foreign = owned(application(), true).approved();
    let (_, object) = &mut foreign.seen().surroundings.owners[0];
    let mut held = object.found().unwrap().clone();
    held["spec"]["syncPolicy"]["automated"]["enabled"] = json!(false);
    *object = Fetched::Found(held);
    let names = steps(&mut foreign);
    assert_eq!(names, ["Claim", "BackUp", "Revert"]);
    assert!(ledger(&foreign).holds.is_empty());
}

#[test]
fn an_owner_at_work_is_waited_for_after_it_is_held() {
    let mut scene = owned(application(), true).approved();
    let (_, object) = &mut scene.seen().surroundings.owners[0];
    let mut syncing = object.found().unwrap().clone();
    syncing["status"]["operationState"] = json!({"phase": "Running"});
    *object = Fetched::Found(syncing);
    let names = steps(&mut scene);
    assert_eq!(names, ["Claim", "BackUp", "Claim", "PlaceHold"]);
    assert!(scene.message("Ready").contains("ended what it began"));
    let (_, object) = &mut scene.seen().surroundings.owners[0];
    let mut done = object.found().unwrap().clone();
    done["status"]["operationState"] = json!({"phase": "Succeeded"});
    *object = Fetched::Found(done);
    assert_eq!(steps(&mut scene)[0], "Revert");
}

/// A ledger with a hold that stands, and its object.
fn standing(owner: (Owner, Value)) -> (RevisionLedgerSpec, Value) {
    let mut scene = owned(owner, true).approved();
    steps(&mut scene);
    let ledger = ledger(&scene);
    let hold = &ledger.holds[0];
    assert_eq!(mark(&scene.request), mark_of(NAMESPACE, hold));
    let object = if hold.object.kind == "Deployment" {
        scene.deployment().clone()
    } else {
        let (_, object) = &scene.target("api").surroundings.owners[0];
        object.found().unwrap().clone()
    };
    (ledger, object)
}

#[test]
fn a_person_releases_it_and_nothing_of_others_is_touched() {
    let (held, object) = standing(application());
    assert_eq!(
        object["spec"]["syncPolicy"]["automated"]["enabled"],
        json!(false)
    );
    let because = object["metadata"]["annotations"]["rollback.broxiva.com/held-because"].clone();
    let because = because.as_str().unwrap();
    assert!(
        because.contains(&release_command(NAMESPACE, "api")),
        "{because}"
    );
    assert!(
        because.contains("kubectl patch applications.argoproj.io shop -n argocd"),
        "{because}"
    );
    let seen = |object: &Value| [Fetched::Found(object.clone())];
    // Nobody asked for it.
    assert_eq!(
        next_write(NAMESPACE, &held, None, &seen(&object), &[false], at(9)),
        NextWrite::Nothing
    );
    let request = held.holds[0].request.clone();
    let word = |request| {
        Some(ReleaseAnnotations {
            request,
            by: "anna",
        })
    };
    assert_eq!(
        next_write(
            NAMESPACE,
            &held,
            word("another"),
            &seen(&object),
            &[false],
            at(9)
        ),
        NextWrite::Nothing
    );
    let NextWrite::Ledger { next, over: None } = next_write(
        NAMESPACE,
        &held,
        word(&request),
        &seen(&object),
        &[false],
        at(9),
    ) else {
        panic!("it is not stored");
    };
    assert_eq!(next.holds[0].release.as_ref().unwrap().by, "anna");

    let end = |object: &Value, shared: bool| match next_write(
        NAMESPACE,
        &next,
        None,
        &seen(object),
        &[shared],
        at(9),
    ) {
        NextWrite::Ledger { over, .. } => over.map(|(_, over)| over),
        NextWrite::Lift { .. } | NextWrite::Nothing => None,
    };
    assert!(matches!(
        next_write(NAMESPACE, &next, None, &seen(&object), &[false], at(9)),
        NextWrite::Lift { .. }
    ));
    assert_eq!(end(&object, true), Some(Over::Shared));
    let mut theirs = object.clone();
    theirs["metadata"]["annotations"][HELD_BY] = json!("another/request (uid)");
    assert_eq!(end(&theirs, false), Some(Over::Changed));
    let mut on = object.clone();
    on["spec"]["syncPolicy"]["automated"]["enabled"] = json!(true);
    assert_eq!(end(&on, false), Some(Over::Changed));
    let mut again = object.clone();
    again["metadata"]["uid"] = json!("a-2");
    assert_eq!(end(&again, false), Some(Over::Gone));
    // Of one that nobody releases it is told when it is gone, and nothing is concluded from what was not read.
    let over =
        |objects: &[Fetched<Value>]| next_write(NAMESPACE, &held, None, objects, &[false], at(9));
    assert!(matches!(over(&seen(&again)), NextWrite::Ledger { .. }));
    assert_eq!(over(&[Fetched::Unknown]), NextWrite::Nothing);
}

#[test]
fn what_was_there_before_comes_back_letter_by_letter() {
    let (owner, mut object) = application();
    object["spec"]["syncPolicy"]["automated"]["enabled"] = json!(true);
    let before = object.clone();
    let (mut ledger, object) = standing((owner, object));
    assert_eq!(ledger.holds[0].before.as_deref(), Some("true"));
    ledger.holds[0].release = Some(rollback_api::hold::HoldRelease {
        by: "anna".to_owned(),
        why: String::new(),
        at: at(9),
    });
    let NextWrite::Lift { patch, .. } = next_write(
        NAMESPACE,
        &ledger,
        None,
        &[Fetched::Found(object.clone())],
        &[false],
        at(9),
    ) else {
        panic!("it is not lifted");
    };
    let mut after = object;
    crate::world::patch::apply(&mut after, &patch).unwrap();
    assert_eq!(after["spec"], before["spec"]);
}

#[test]
fn what_would_write_a_hold_away_is_found_first() {
    let deployment = Deployment(json!({"metadata": {"name": "api", "namespace": NAMESPACE}}));
    let assessed = |object: &Value, above: Fetched<Value>| {
        let (owner, _) = application();
        let read = HoldRead {
            granted: Some(true),
            above,
        };
        let seen = [(owner.clone(), Fetched::Found(object.clone()))];
        assess(
            &deployment,
            &seen,
            &BTreeMap::from([(owner, read)]),
            SelfHealing::Hold,
        )
    };
    let refusal = |object: &Value, above| {
        assessed(object, above)
            .refusal
            .map(|(what, _)| what)
            .unwrap_or_default()
    };
    let (_, mut of_set) = application();
    of_set["metadata"]["ownerReferences"] = json!([{"kind": "ApplicationSet", "name": "all"}]);
    let says = refusal(&of_set, Fetched::Unknown);
    assert!(
        says.contains("ApplicationSet all") && says.contains("AppProject team"),
        "{says}"
    );
    let leaves =
        json!({"spec": {"ignoreApplicationDifferences": [{"jsonPointers": ["/spec/syncPolicy"]}]}});
    assert_eq!(assessed(&of_set, Fetched::Found(leaves)).holds.len(), 1);
    let other =
        json!({"spec": {"ignoreApplicationDifferences": [{"jsonPointers": ["/spec/source"]}]}});
    assert!(!refusal(&of_set, Fetched::Found(other)).is_empty());

    let (_, mut child) = application();
    child["metadata"]["annotations"] =
        json!({"argocd.argoproj.io/tracking-id": "root:argoproj.io/Application:argocd/shop"});
    let automated = json!({"spec": {"syncPolicy": {"automated": {}}}});
    assert!(refusal(&child, Fetched::Found(automated)).contains("Application root"));
    assert_eq!(
        assessed(&child, Fetched::Found(json!({"spec": {}})))
            .holds
            .len(),
        1
    );
    // The tracking id of a copy is of another Application.
    child["metadata"]["annotations"] =
        json!({"argocd.argoproj.io/tracking-id": "root:argoproj.io/Application:argocd/other"});
    assert_eq!(assessed(&child, Fetched::Unknown).holds.len(), 1);
    // One that does not list the Deployment is not held on the word of a label.
    let (_, mut stranger) = application();
    stranger["status"]["resources"] = json!([]);
    assert!(assessed(&stranger, Fetched::Unknown).holds.is_empty());
}

fn marked(labels: Value, annotations: Value) -> Deployment {
    Deployment(json!({
        "metadata": {"name": "api", "namespace": NAMESPACE, "labels": labels, "annotations": annotations},
        "spec": {"template": {}},
    }))
}

#[test]
fn known_writers_are_recognized_by_what_they_leave() {
    let fleet = marked(
        json!({"objectset.rio.cattle.io/hash": "e852"}),
        json!({
            "objectset.rio.cattle.io/id": "default-shop", "meta.helm.sh/release-name": "shop",
            "meta.helm.sh/release-namespace": NAMESPACE,
        }),
    );
    let sync = marked(
        json!({"app.kubernetes.io/managed-by": "configmanagement.gke.io"}),
        json!({
            "configmanagement.gke.io/managed": "enabled", "configsync.gke.io/manager": ":root",
            "configsync.gke.io/resource-id": format!("apps_deployment_{NAMESPACE}_api"),
        }),
    );
    let kapp = marked(
        json!({"kapp.k14s.io/app": "1614279362730868000"}),
        json!({}),
    );
    let kluctl = marked(json!({"kluctl.io/discriminator": "shop-prod"}), json!({}));
    let keel = marked(json!({}), json!({"keel.sh/policy": "minor"}));
    for (deployment, who, what) in [
        (fleet, "Rancher Fleet (release shop)", "spec.paused"),
        (sync, "Config Sync (:root)", "in Git"),
        (kapp, "kapp (app 1614279362730868000)", "kapp-controller"),
        (
            kluctl,
            "kluctl (discriminator shop-prod)",
            "KluctlDeployment",
        ),
        (
            keel,
            "Keel (policy minor)",
            "kubectl annotate deployment api -n shop keel.sh/policy=never --overwrite",
        ),
    ] {
        let found = owners(&deployment);
        assert_eq!(found.len(), 1, "{who}: {found:?}");
        assert_eq!(found[0].told(), who);
        let seen: Vec<_> = found
            .into_iter()
            .map(|owner| (owner, Fetched::Unknown))
            .collect();
        let assessed = assess(&deployment, &seen, &BTreeMap::new(), SelfHealing::Hold);
        let (why, next) = assessed.refusal.unwrap();
        assert!(format!("{why} {next}").contains(what), "{why} {next}");
        assert!(
            assess(&deployment, &seen, &BTreeMap::new(), SelfHealing::Warn)
                .refusal
                .is_none()
        );
    }
    let none = [
        marked(json!({}), json!({"keel.sh/policy": "never"})),
        marked(
            json!({}),
            json!({
                "configmanagement.gke.io/managed": "enabled",
                "configsync.gke.io/resource-id": "apps_deployment_elsewhere_api",
            }),
        ),
        // What k3s applies from its own folder.
        marked(json!({}), json!({"objectset.rio.cattle.io/id": ""})),
    ];
    for deployment in none {
        assert!(owners(&deployment).is_empty(), "{:?}", owners(&deployment));
    }
}

#[test]
fn every_row_of_the_table_is_whole() {
    for row in ROWS {
        for text in [row.name, row.marks, row.when, row.held, row.plan] {
            assert!(!text.is_empty() && !text.contains('|'), "{row:?}");
        }
        let is_seen = row.shown != Shown::Nothing;
        assert_eq!(
            is_seen,
            !row.marks.starts_with("nothing") || row.name == "Kargo",
            "{row:?}"
        );
    }
}

/// The page that people read; `UPDATE_EXAMPLE=1` writes it anew.
#[test]
fn the_page_has_the_table() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/gitops.md");
    let page = fs::read_to_string(&path).unwrap();
    let (before, rest) = page.split_once("| Tool |").unwrap();
    let after = rest.split_once("\n\n").unwrap().1;
    let expected = format!("{before}{}\n{after}", table());
    if std::env::var_os("UPDATE_EXAMPLE").is_some() {
        fs::write(&path, &expected).unwrap();
    }
    assert_eq!(page, expected, "UPDATE_EXAMPLE=1 writes it anew");
}
