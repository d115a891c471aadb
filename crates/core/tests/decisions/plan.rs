//! Making the plan: every way to be refused, what is bad, the expiry, the digest and the rules.

use crate::world::{
    DEPLOYMENT, Scene, at, deployment, digest, evidence, guard_policy, ledger_of, observed, policy,
    quiet, replica_set, request, seen, sets, template, world_of,
};
use crate::world::{Observed, ObservedTarget, made};
use rollback_api::ledger::{Rollback, Verdict};
use rollback_api::policy::Environment;
use rollback_api::status::{Effect, Outcome, Plan, Source};
use rollback_api::{Reason, RequestState, RevisionLedgerSpec};
use rollback_core::execution::phase::Phase;
use rollback_core::history::ledger;
use rollback_core::observed::{Deployment, Fetched, Guard};
use rollback_core::plan;
use serde_json::{Value, json};

fn make(fields: &Value, observed: &Observed) -> Result<Plan, Outcome> {
    made(&request(fields), observed, at(5)).map_err(|ending| ending.with(Effect::None))
}

/// What becomes of a request with these fields.
fn outcome(fields: &Value, observed: &Observed) -> String {
    match make(fields, observed) {
        Ok(plan) => format!("plan to {}", plan.targets[0].to.revision.unwrap()),
        Err(outcome) => {
            assert!(!outcome.message.is_empty());
            assert_eq!((outcome.at, &outcome.by), (at(5), &None));
            format!("{}/{}", outcome.result.as_str(), outcome.reason.as_str())
        }
    }
}

/// The quiet world with another Deployment in it.
fn with_deployment(edit: impl FnOnce(&mut Value)) -> Observed {
    let mut object = deployment("v2");
    edit(&mut object);
    one(|seen| seen.deployment = Fetched::Found(Deployment(object)))
}

/// The quiet world with something else about its Deployment.
fn one(edit: impl FnOnce(&mut ObservedTarget)) -> Observed {
    let mut seen = quiet("api");
    edit(&mut seen);
    world_of([seen])
}

fn rolled_back(name: &str, fields: &Value, state: RequestState) -> Rollback {
    Rollback {
        automatic: false,
        request: name.to_owned(),
        request_uid: "an earlier one".to_owned(),
        spec_digest: ledger::spec_digest(&request(fields)),
        from_digest: digest("v2"),
        to_digest: digest("v1"),
        at: at(-500),
        outcome: state,
        verified: false,
    }
}

fn with_rollbacks(rollbacks: Vec<Rollback>) -> Observed {
    one(|seen| {
        seen.ledger = Fetched::Found(RevisionLedgerSpec {
            rollbacks,
            ..ledger_of([])
        });
    })
}

/// The quiet world whose ledger holds these versions for bad.
fn with_bad<'a>(versions: impl IntoIterator<Item = &'a str>) -> Observed {
    let bad = versions
        .into_iter()
        .map(|version| evidence(&template(version), Verdict::Bad));
    one(|seen| seen.ledger = Fetched::Found(ledger_of(bad)))
}

#[test]
fn the_plan_names_identities() {
    let plan = make(&json!({}), &observed()).unwrap();
    let target = &plan.targets[0];
    assert_eq!(plan.targets.len(), 1);
    assert_eq!(
        (target.workload.name.as_str(), target.workload.uid.as_str()),
        ("api", DEPLOYMENT)
    );
    assert_eq!(target.from.digest, digest("v2"));
    assert_eq!(target.to.digest, digest("v1"));
    assert_eq!(
        (target.from.revision, target.to.revision),
        (Some(2), Some(1))
    );
    assert_eq!(target.source, Source::ReplicaSet);
    assert_eq!(target.source_name(), Some("api-v1"));
    assert_eq!(target.source_uid(), Some("rs-v1"));
    assert_eq!((target.wave, &target.stored_digest), (0, &None));
    assert_eq!(target.images.len(), 1);
    assert_eq!(plan.planned_at, at(5));
    assert_eq!(plan.guard, observed().guard.digest());
    assert!(plan.digest.starts_with("sha256:") && plan.digest.len() == 71);
}

#[test]
fn what_is_not_supported_is_refused() {
    let to = json!({"previous": {}});
    let cases = [
        json!({"targets": [{"kind": "StatefulSet", "name": "api", "to": to}]}),
        json!({"targets": [{"kind": "Rollout", "name": "api", "to": to}]}),
        json!({"targets": [{"kind": "StatefulSet", "namePrefix": "ap", "to": to}]}),
        json!({"targets": [{"name": "api", "to": {}}]}),
        json!({"targets": [{"name": "api", "to": {"previous": {}, "revision": 1}}]}),
        json!({"targets": [{"name": "api", "from": {}, "to": to}]}),
    ];
    for fields in cases {
        assert_eq!(
            outcome(&fields, &observed()),
            "Refused/Unsupported",
            "{fields}"
        );
    }
    // A kind that cannot be rolled back is seen without any Deployment: a reader need not look for one.
    let fields = json!({"targets": [{"kind": "StatefulSet", "name": "api", "to": to}]});
    for nothing in [world_of([]), one(|seen| seen.deployment = Fetched::Absent)] {
        assert_eq!(outcome(&fields, &nothing), "Refused/Unsupported");
        let mut scene = Scene::new(&fields);
        scene.observed = nothing;
        scene.ends(RequestState::Refused, Reason::Unsupported);
    }
}

#[test]
fn a_broken_feature_is_fixed_forward() {
    let fields = json!({"reason": {"category": "Feature", "summary": "no confetti"}});
    assert_eq!(outcome(&fields, &observed()), "Refused/HotfixForward");
    for category in [
        "HealthCheck",
        "ErrorRate",
        "Latency",
        "BusinessLogic",
        "Security",
    ] {
        let fields = json!({"reason": {"category": category, "summary": "s"}});
        assert_eq!(outcome(&fields, &observed()), "plan to 1", "{category}");
    }
}

#[test]
fn a_namespace_that_has_not_opted_in_is_refused() {
    let world = Observed {
        opted_in: Fetched::Found(false),
        ..observed()
    };
    assert_eq!(outcome(&json!({}), &world), "Refused/NamespaceNotOptedIn");
}

#[test]
fn a_deployment_that_is_not_there_is_refused() {
    let world = one(|seen| seen.deployment = Fetched::Absent);
    assert_eq!(outcome(&json!({}), &world), "Refused/DeploymentNotFound");
}

#[test]
fn case_36_38_64_a_deployment_that_must_not_be_touched_is_refused() {
    let deleting = with_deployment(|d| {
        d["metadata"]["deletionTimestamp"] = json!("2026-11-23T13:59:00Z");
    });
    assert_eq!(outcome(&json!({}), &deleting), "Refused/DeploymentDeleting");
    let paused = with_deployment(|d| d["spec"]["paused"] = json!(true));
    assert_eq!(outcome(&json!({}), &paused), "Refused/Paused");
    assert_eq!(outcome(&json!({"dryRun": true}), &paused), "Refused/Paused");
    let resumed = with_deployment(|d| d["spec"]["paused"] = json!(false));
    assert_eq!(outcome(&json!({}), &resumed), "plan to 1");
    let legacy = with_deployment(|d| {
        d["metadata"]["annotations"]["deprecated.deployment.rollback.to"] = json!("0");
    });
    assert_eq!(outcome(&json!({}), &legacy), "Refused/LegacyRollback");
}

#[test]
fn what_the_history_cannot_give_is_refused() {
    let only = one(|seen| seen.replica_sets = sets([replica_set("v2", "1")]));
    assert_eq!(outcome(&json!({}), &only), "Refused/NoHistory");
    let revision = |number: i64| json!({"targets": [{"name": "api", "to": {"revision": number}}]});
    assert_eq!(
        outcome(&revision(99), &observed()),
        "Refused/RevisionNotFound"
    );
    let twice = one(|seen| {
        seen.replica_sets = sets([
            replica_set("v0", "1"),
            replica_set("v1", "1"),
            replica_set("v2", "2"),
        ]);
    });
    assert_eq!(outcome(&revision(1), &twice), "Refused/Ambiguous");
    assert_eq!(outcome(&revision(2), &observed()), "Succeeded/NoOp");
    assert_eq!(outcome(&revision(1), &observed()), "plan to 1");
    let restarted = one(|target| {
        target.deployment = seen(crate::world::deployment_of(&crate::world::restarted(
            "v2", "now",
        )));
    });
    assert_eq!(outcome(&revision(2), &restarted), "Succeeded/Equivalent");
}

#[test]
fn case_17_the_history_of_another_deployment_with_this_name_is_none() {
    let again = with_deployment(|d| d["metadata"]["uid"] = json!("d-2"));
    assert_eq!(outcome(&json!({}), &again), "Refused/NoHistory");
}

#[test]
fn what_is_called_bad_must_run() {
    let from =
        |from: Value| json!({"targets": [{"name": "api", "from": from, "to": {"previous": {}}}]});
    let cases = [
        (json!({"templateDigest": digest("v2")}), "plan to 1"),
        (
            json!({"templateDigest": digest("v1")}),
            "Superseded/NotLive",
        ),
        (
            json!({"image": "registry.broxiva.com/shop/api:v2"}),
            "plan to 1",
        ),
        (
            json!({"image": "registry.broxiva.com/shop/api:v3"}),
            "Superseded/NotLive",
        ),
        (json!({"image": "shop/api:v2"}), "Superseded/NotLive"),
    ];
    for (bad, expected) in cases {
        assert_eq!(outcome(&from(bad.clone()), &observed()), expected, "{bad}");
    }
}

#[test]
fn what_is_bad_is_asked_before_the_history() {
    // An old manifest in Git whose bad version is long gone is settled even where nothing is left to go back to.
    let fields =
        json!({"targets": [{"name": "api", "from": {"image": "gone:1"}, "to": {"revision": 99}}]});
    assert_eq!(outcome(&fields, &observed()), "Superseded/NotLive");
}

#[test]
fn a_request_that_ran_is_not_run_again() {
    let fields = json!({});
    for state in [
        RequestState::Succeeded,
        RequestState::Failed,
        RequestState::Superseded,
    ] {
        let world = with_rollbacks(vec![rolled_back("api-5xx", &fields, state)]);
        assert_eq!(outcome(&fields, &world), "Succeeded/AlreadyRolledBack");
    }
    // The server stamps who re-created it; that is no other request.
    let mut again = request(&fields);
    again.spec.requested_by = Some(crate::world::person("gitops"));
    let world = with_rollbacks(vec![rolled_back(
        "api-5xx",
        &fields,
        RequestState::Succeeded,
    )]);
    let end = made(&again, &world, at(5)).unwrap_err();
    assert_eq!(end.reason, Reason::AlreadyRolledBack);
}

#[test]
fn another_name_another_content_or_another_deployment_is_another_request() {
    let fields = json!({});
    let renamed = with_rollbacks(vec![rolled_back("api-6xx", &fields, RequestState::Failed)]);
    let other = json!({"urgency": "Critical"});
    let changed = with_rollbacks(vec![rolled_back("api-5xx", &other, RequestState::Failed)]);
    let mut elsewhere = with_rollbacks(vec![rolled_back("api-5xx", &fields, RequestState::Failed)]);
    let Fetched::Found(spec) = &mut elsewhere.targets[0].ledger else {
        unreachable!()
    };
    spec.target_ref.uid = "d-0".to_owned();
    for world in [renamed, changed, elsewhere] {
        assert_eq!(outcome(&fields, &world), "plan to 1");
    }
}

#[test]
fn case_05_what_the_ledger_knows_to_be_bad_is_skipped() {
    let mut world = with_bad(["v1"]);
    world.targets[0].replica_sets = sets([
        replica_set("v0", "1"),
        replica_set("v1", "2"),
        replica_set("v2", "3"),
    ]);
    let plan = make(&json!({}), &world).unwrap();
    assert_eq!(plan.targets[0].to.revision, Some(1));
    assert_eq!(plan.targets[0].notes.len(), 1);
}

#[test]
fn a_deployment_that_is_missing_is_named() {
    let world = one(|seen| seen.deployment = Fetched::Absent);
    let end = make(&json!({}), &world).unwrap_err();
    assert!(
        end.message
            .starts_with("spec.targets[0].name: there is no Deployment api "),
        "{}",
        end.message
    );
}

/// A world in which `previous` skips so many revisions, and the good one changes so many images.
fn long(bad: usize, images: usize) -> Observed {
    let crowd = |version: &str| {
        let mut template = template("v2");
        template["spec"]["containers"] = (0..images)
            .map(|n| json!({"name": format!("c{n:02}"), "image": format!("i:{version}")}))
            .collect();
        template
    };
    let mut known = Vec::new();
    let mut history = vec![
        crate::world::replica_set_of("good", "1", &crowd("v1")),
        crate::world::replica_set_of("v2", "99", &crowd("v2")),
    ];
    for number in 2..bad + 2 {
        let version = format!("b{number}");
        history.push(replica_set(&version, &number.to_string()));
        known.push(evidence(&template(&version), Verdict::Bad));
    }
    one(|target| {
        target.deployment = seen(crate::world::deployment_of(&crowd("v2")));
        target.replica_sets = sets(history);
        target.ledger = Fetched::Found(ledger_of(known));
    })
}

#[test]
fn what_does_not_fit_into_a_plan_is_counted() {
    let target = |bad, images| {
        let plan = make(&json!({}), &long(bad, images)).unwrap();
        plan.targets[0].clone()
    };
    for (bad, notes, last) in [
        (0, 0, None),
        (1, 1, Some("revision 2 is known to be bad and was skipped")),
        (
            14,
            14,
            Some("revision 2 is known to be bad and was skipped"),
        ),
        (15, 15, Some("1 more revisions were skipped")),
        (40, 15, Some("26 more revisions were skipped")),
    ] {
        let target = target(bad, 1);
        assert_eq!(target.notes.len(), notes, "{bad}");
        assert_eq!(target.notes.last().map(String::as_str), last);
    }
    for (images, shown, last) in [
        (49, 49, None),
        (50, 50, None),
        (51, 50, Some("1 more containers change their image")),
        (75, 50, Some("25 more containers change their image")),
    ] {
        let target = target(0, images);
        assert_eq!(target.images.len(), shown, "{images}");
        assert_eq!(target.notes.last().map(String::as_str), last);
    }
    assert_eq!(target(40, 60).notes.len(), 16);
}

#[test]
fn a_plan_fits_its_schema_however_long_the_history() {
    // status.plan.targets[].notes has at most 16 entries, images at most 50: the API server refuses more.
    let mut bad = Vec::new();
    let mut history = vec![replica_set("good", "1"), replica_set("v2", "99")];
    for number in 2..40 {
        let version = format!("b{number}");
        history.push(replica_set(&version, &number.to_string()));
        bad.push(version);
    }
    let mut world = with_bad(bad.iter().map(String::as_str));
    world.targets[0].replica_sets = sets(history);
    let plan = make(&json!({}), &world).unwrap();
    assert_eq!(plan.targets[0].source_name(), Some("api-good"));
    assert!(
        plan.targets[0].notes.len() <= 16,
        "{}",
        plan.targets[0].notes.len()
    );

    let crowd = |version: &str| {
        let mut template = template("v2");
        template["spec"]["containers"] = (0..60)
            .map(|n| json!({"name": format!("c{n}"), "image": format!("i{n}:{version}")}))
            .collect();
        template
    };
    let world = one(|target| {
        target.deployment = seen(crate::world::deployment_of(&crowd("v2")));
        target.replica_sets = sets([
            crate::world::replica_set_of("v1", "1", &crowd("v1")),
            crate::world::replica_set_of("v2", "2", &crowd("v2")),
        ]);
    });
    let plan = make(&json!({}), &world).unwrap();
    assert!(
        plan.targets[0].images.len() <= 50,
        "{}",
        plan.targets[0].images.len()
    );
}

#[test]
fn the_expiry_is_the_earlier_of_the_request_and_the_policy() {
    let with = |own: Option<&str>, seconds: Option<i32>| {
        let mut fields = json!({});
        if let Some(own) = own {
            fields["notAfter"] = json!(own);
        }
        let rules = seconds.map(|seconds| json!({"approvals": {"expireAfterSeconds": seconds}}));
        let world = Observed {
            policy: rules.map_or(Fetched::Absent, |rules| Fetched::Found(policy(rules))),
            ..observed()
        };
        make(&fields, &world).map(|plan| plan.not_after)
    };
    // From the creation, not from the plan: a request does not live longer because nobody looked.
    assert_eq!(with(None, None).unwrap(), at(3600));
    assert_eq!(with(None, Some(60)).unwrap(), at(60));
    assert_eq!(with(Some("2026-11-23T14:10:00Z"), None).unwrap(), at(600));
    assert_eq!(
        with(Some("2026-11-23T14:10:00Z"), Some(60)).unwrap(),
        at(60)
    );
    assert_eq!(
        with(Some("2026-12-23T14:10:00Z"), Some(60)).unwrap(),
        at(60)
    );
    for (own, seconds) in [
        (Some("2026-11-23T14:00:05Z"), None),
        (None, Some(5)),
        (None, Some(1)),
    ] {
        let end = with(own, seconds).unwrap_err();
        assert_eq!(
            (end.result, end.reason),
            (RequestState::Expired, Reason::NotApprovedInTime)
        );
    }
    assert_eq!(with(None, Some(6)).unwrap(), at(6));
}

#[test]
fn without_a_policy_the_rules_of_production_hold() {
    let rules = plan::rules::rules(&request(&json!({})), None, false);
    assert_eq!(rules.environment, Environment::Production);
    assert_eq!(rules.confirm_phrase(), "ROLLBACK PRODUCTION");
    assert_eq!(rules.approvals.required, 1);
    assert!(rules.four_eyes());
    assert_eq!(rules.rollout.timeout_seconds, 300);
    assert_eq!(rules.verification.timeout_seconds, 120);
    assert!(rules.verification.http.is_empty());
    assert_eq!(
        plan::rules::rules(&request(&json!({})), Some(&policy(json!({}))), false),
        rules
    );
}

#[test]
fn the_policy_makes_the_rules() {
    for (name, eyes, phrase) in [
        ("production", true, "ROLLBACK PRODUCTION"),
        ("staging", false, "ROLLBACK"),
        ("development", false, "ROLLBACK"),
    ] {
        let rules = plan::rules::rules(
            &request(&json!({})),
            Some(&policy(json!({"environment": name}))),
            false,
        );
        assert_eq!((rules.four_eyes(), rules.confirm_phrase()), (eyes, phrase));
    }
    let rules = plan::rules::rules(
        &request(&json!({})),
        Some(&policy(json!({
            "environment": "staging",
            "approvals": {"required": 3, "confirmPhrase": "JA"},
            "rollout": {"timeoutSeconds": 7},
            "verification": {"timeoutSeconds": 8, "http": [{"name": "live", "port": 1, "path": "/"}]},
        }))),
        false,
    );
    assert_eq!(rules.approvals.required, 3);
    assert_eq!(rules.confirm_phrase(), "JA");
    assert_eq!(rules.rollout.timeout_seconds, 7);
    assert_eq!(rules.verification.timeout_seconds, 8);
    assert_eq!(rules.verification.http.len(), 1);
    assert!(!rules.four_eyes());
}

#[test]
fn what_changes_the_digest() {
    let base = make(&json!({}), &observed()).unwrap().digest;
    let digest_in = |world: &Observed| make(&json!({}), world).unwrap().digest;
    let rules = |value: Value| {
        digest_in(&Observed {
            policy: Fetched::Found(policy(value)),
            ..observed()
        })
    };
    let mut different = vec![
        ("environment", rules(json!({"environment": "staging"}))),
        ("approvals", rules(json!({"approvals": {"required": 2}}))),
        (
            "phrase",
            rules(json!({"approvals": {"confirmPhrase": "JA"}})),
        ),
        (
            "rollout",
            rules(json!({"rollout": {"timeoutSeconds": 301}})),
        ),
        (
            "verification",
            rules(json!({"verification": {"timeoutSeconds": 121}})),
        ),
        (
            "check",
            rules(json!({"verification": {"http": [{"name": "a", "port": 1, "path": "/"}]}})),
        ),
        (
            "four eyes",
            rules(json!({"approvals": {"fourEyes": false}})),
        ),
        ("checklist", rules(json!({"approvals": {"checklist": []}}))),
        (
            "age of approvals",
            rules(json!({"approvals": {"validForSeconds": 60}})),
        ),
        (
            "breaking the glass",
            rules(json!({"approvals": {"breakGlass": true}})),
        ),
        (
            "expiry",
            rules(json!({"approvals": {"expireAfterSeconds": 60}})),
        ),
        (
            "urgency",
            rules(json!({"decisionMatrix": [{"category": "ErrorRate", "urgency": "Low"}]})),
        ),
        (
            "freeze",
            rules(
                json!({"freezeWindows": [{"name": "night", "schedule": "0 22 * * *", "durationMinutes": 60}]}),
            ),
        ),
        (
            "check port",
            rules(json!({"verification": {"http": [{"name": "a", "port": 2, "path": "/"}]}})),
        ),
    ];
    let guard = |present: Vec<_>| {
        let mut world = observed();
        world.guard.present = present;
        digest_in(&world)
    };
    let mut other_uid = observed().guard.present;
    other_uid[0].uid = "made again".to_owned();
    different.extend([
        (
            "guard generation",
            guard(vec![guard_policy("approvals", 2), guard_policy("spec", 1)]),
        ),
        ("guard member", guard(vec![guard_policy("approvals", 1)])),
        ("guard uid", guard(other_uid)),
        ("guard away", guard(Vec::new())),
    ]);
    let uid = |world: &Observed| {
        let mut other = request(&json!({}));
        other.metadata.uid = Some("another request".to_owned());
        made(&other, world, at(5)).unwrap().digest
    };
    different.push(("request uid", uid(&observed())));
    different.push((
        "bad template",
        digest_in(&one(|target| {
            target.deployment = seen(deployment("v3"));
            target.replica_sets = sets([replica_set("v1", "1")]);
        })),
    ));
    different.push((
        "old template",
        digest_in(&one(|seen| {
            seen.replica_sets = sets([crate::world::replica_set_of("v1", "1", &template("v0"))]);
        })),
    ));
    let mut other_set = replica_set("v1", "1");
    other_set["metadata"]["uid"] = json!("rs-other");
    different.push((
        "ReplicaSet uid",
        digest_in(&one(|seen| seen.replica_sets = sets([other_set]))),
    ));
    let mut other_deployment = with_deployment(|d| d["metadata"]["uid"] = json!("d-2"));
    let mut set = replica_set("v1", "1");
    set["metadata"]["ownerReferences"][0]["uid"] = json!("d-2");
    other_deployment.targets[0].replica_sets = sets([set]);
    different.push(("Deployment uid", digest_in(&other_deployment)));
    for (index, (what, digest)) in different.iter().enumerate() {
        assert_ne!(*digest, base, "{what}");
        for (other, same) in &different[..index] {
            assert_ne!(digest, same, "{what} and {other}");
        }
    }
}

#[test]
fn what_does_not_change_the_digest() {
    let base = make(&json!({}), &observed()).unwrap().digest;
    let worlds = [
        (
            "generation",
            with_deployment(|d| d["metadata"]["generation"] = json!(50)),
        ),
        (
            "resourceVersion",
            with_deployment(|d| d["metadata"]["resourceVersion"] = json!("9")),
        ),
        (
            "replicas",
            with_deployment(|d| d["spec"]["replicas"] = json!(30)),
        ),
        (
            "strategy",
            with_deployment(|d| d["spec"]["strategy"] = json!({"type": "Recreate"})),
        ),
        (
            "annotation",
            with_deployment(|d| d["metadata"]["annotations"]["x"] = json!("y")),
        ),
        (
            "status",
            with_deployment(|d| crate::world::set_counts(d, 5, 1, 0)),
        ),
        ("no status", with_deployment(|d| d["status"] = json!({}))),
        (
            "a null field of the template",
            with_deployment(|d| {
                d["spec"]["template"]["metadata"]["creationTimestamp"] = Value::Null;
            }),
        ),
        (
            "the policy that says what holds without one",
            Observed {
                policy: Fetched::Found(policy(json!({"environment": "production"}))),
                ..observed()
            },
        ),
        (
            "the renumbering of a revision",
            one(|seen| seen.replica_sets = sets([replica_set("v1", "7"), replica_set("v2", "6")])),
        ),
        (
            "the order of a list",
            one(|seen| seen.replica_sets = sets([replica_set("v2", "2"), replica_set("v1", "1")])),
        ),
        (
            "how long good templates are kept",
            Observed {
                policy: Fetched::Found(policy(json!({"ledger": {"keepTemplates": 1}}))),
                ..observed()
            },
        ),
    ];
    for (what, world) in worlds {
        assert_eq!(make(&json!({}), &world).unwrap().digest, base, "{what}");
    }
    // Nor what the request says: its UID stands for it, and its spec cannot change.
    let why = json!({"reason": {"category": "ErrorRate", "summary": "something else"}});
    assert_eq!(make(&why, &observed()).unwrap().digest, base);
}

#[test]
fn a_plan_is_renewed_only_when_its_digest_changes() {
    let request = request(&json!({}));
    let plan = made(&request, &observed(), at(5)).unwrap();
    let mut world = observed();
    world.targets[0].deployment = seen(deployment("v9"));
    world.targets[0].replica_sets = Vec::new();
    assert_eq!(
        plan::renewed(&plan, &request, &world.terms(&request).unwrap(), at(60)),
        None
    );
    world.policy = Fetched::Found(policy(
        json!({"approvals": {"required": 2, "expireAfterSeconds": 600}}),
    ));
    let renewed = plan::renewed(&plan, &request, &world.terms(&request).unwrap(), at(60)).unwrap();
    assert_eq!(
        renewed.targets, plan.targets,
        "what to do is never resolved again"
    );
    assert_ne!(renewed.digest, plan.digest);
    assert_eq!(renewed.rules.approvals.required, 2);
    assert_eq!((renewed.planned_at, renewed.not_after), (at(60), at(600)));
    assert_eq!(
        plan::renewed(&renewed, &request, &world.terms(&request).unwrap(), at(70)),
        None
    );
    world.guard.present.pop();
    let renewed =
        plan::renewed(&renewed, &request, &world.terms(&request).unwrap(), at(80)).unwrap();
    assert_eq!(renewed.guard, world.guard.digest());
}

/// What differs is not in its type: the request, the guard, and so the digest that people approve.
#[test]
fn a_draft_is_the_same_plan_for_whoever_may_only_read() {
    for fields in [
        json!({}),
        json!({"targets": [{"name": "api", "to": {"revision": 1}}]}),
        json!({"targets": [{"name": "api", "to": {"image": {
            "image": "registry.broxiva.com/shop/api:v9", "allowNew": true,
        }}}]}),
    ] {
        let mut scene = Scene::new(&fields);
        scene.until(Phase::AwaitingApproval);
        let plan = scene.status().plan.unwrap();
        let mut unborn = request(&fields);
        unborn.metadata.uid = None;
        let world = Observed {
            guard: Guard::default(),
            ..observed()
        };
        let draft = world.draft(&unborn, at(5)).unwrap();
        assert_eq!(draft.targets, plan.targets);
        assert_eq!((draft.rules, draft.skipped), (plan.rules, plan.skipped));
        assert_eq!(
            (draft.data_risk, draft.not_after),
            (plan.data_risk, plan.not_after)
        );
    }
    // Nor is there one where there would be no plan.
    let gone = one(|seen| seen.deployment = Fetched::Absent);
    let refused = gone.draft(&request(&json!({})), at(5)).unwrap_err();
    assert_eq!(refused.reason, Reason::DeploymentNotFound);
}

/// A Deployment at 0 behind a Canary of Flagger or the workloadRef of an Argo Rollout: rolling it back changes nothing that
/// serves.
#[test]
fn f6_a_deployment_that_something_else_serves_for_is_refused() {
    let scaled = |manager: &str, replicas: i64, fields: Value| {
        let observed = with_deployment(|d| {
            d["spec"]["replicas"] = json!(replicas);
            d["metadata"]["managedFields"] =
                json!([{"manager": manager, "operation": "Update", "fieldsV1": fields}]);
        });
        let fields = json!({});
        match make(&fields, &observed) {
            Ok(_) => "a plan".to_owned(),
            Err(outcome) => format!(
                "{}/{}: {}",
                outcome.result.as_str(),
                outcome.reason.as_str(),
                outcome.message
            ),
        }
    };
    let replicas = json!({"f:spec": {"f:replicas": {}}});
    let flagger = scaled("flagger", 0, replicas.clone());
    assert!(
        flagger.starts_with("Refused/Unsupported") && flagger.contains("Deployment api-primary"),
        "{flagger}"
    );
    let rollouts = scaled("rollouts-controller", 0, replicas.clone());
    assert!(
        rollouts.starts_with("Refused/Unsupported") && rollouts.contains("workloadRef"),
        "{rollouts}"
    );
    // While it serves itself, or when somebody else has scaled it down, or they wrote something else.
    assert_eq!(scaled("flagger", 3, replicas.clone()), "a plan");
    assert_eq!(scaled("kubectl", 0, replicas), "a plan");
    assert_eq!(
        scaled("flagger", 0, json!({"f:metadata": {"f:annotations": {}}})),
        "a plan"
    );
}
