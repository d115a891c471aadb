//! What a Job runs, and as whom, is in the plan: told to whoever approves, in the digest, and nothing else runs.

use crate::world::{Scene, planned_target, policy, template};
use rollback_api::policy::{ImageOf, Side};
use rollback_api::status::{
    Fallback, FallbackWhen, ImageChange, JobRule, Plan, PlannedTarget, Source, TemplateRef,
};
use rollback_api::{Reason, RequestState};
use rollback_core::execution::job;
use rollback_core::execution::phase::Phase;
use rollback_core::plan::{self, rules};
use serde_json::{Value, json};

const NEWER: &str = "registry.broxiva.com/shop/api:v2";
const OLDER: &str = "registry.broxiva.com/shop/api:v1";

fn hook(pod: &Value, of: Option<(&str, &str)>) -> Value {
    let mut job = json!({"name": "dump", "podSpec": pod});
    if let Some((version, container)) = of {
        job["imageOf"] = json!({"version": version, "container": container});
    }
    json!({"environment": "staging", "hooks": {"preRollback": [job]}})
}

fn pod(account: &str) -> Value {
    json!({"serviceAccountName": account, "containers": [{"name": "main"}]})
}

/// The plan under a policy, and what who approves is told.
fn planned(policy: Value) -> (Plan, String) {
    let mut scene = Scene::default().with_policy(policy);
    scene.until(Phase::AwaitingApproval);
    scene.settle();
    let status = scene.status();
    let ready = status.conditions.iter().find(|one| one.type_ == "Ready");
    (status.plan.clone().unwrap(), ready.unwrap().message.clone())
}

#[test]
fn who_approves_reads_the_image_and_the_account() {
    let (plan, told) = planned(hook(&pod("migrator"), Some(("Newer", "api"))));
    let sentence = format!(
        "PreRollback Job dump runs as ServiceAccount migrator with {NEWER} (container api of the newer version)."
    );
    assert!(told.contains(&sentence), "{told}");
    assert!(told.contains("To approve: kubectl annotate"), "{told}");
    assert!(
        plan.targets[0].job_images.is_empty(),
        "it stands among the images that change"
    );

    let digest_of = |policy| planned(policy).0.digest;
    let base = digest_of(hook(&pod("migrator"), Some(("Newer", "api"))));
    for (what, other) in [
        (
            "another account",
            hook(&pod("root"), Some(("Newer", "api"))),
        ),
        (
            "another version",
            hook(&pod("migrator"), Some(("Older", "api"))),
        ),
        (
            "another container",
            hook(&pod("migrator"), Some(("Newer", "web"))),
        ),
        ("no version", hook(&pod("migrator"), None)),
    ] {
        assert_ne!(digest_of(other), base, "{what}");
    }
    // The account is in the digest by itself as well, and not only by the pod that names it.
    let mut rules = plan.rules.clone();
    rules.jobs[0].service_account = Some("root".to_owned());
    let digest_of = |rules| plan::digest("u", 0, rules, &plan.guard, None, &plan.targets);
    assert_ne!(digest_of(&rules), digest_of(&plan.rules));
}

/// What a version has that the images which change do not say is in the digest too.
#[test]
fn an_image_that_does_not_change_is_in_the_plan_and_its_digest() {
    let with = |sidecar: &str| {
        let beside = |version: &str| {
            let mut template = template(version);
            let containers = template["spec"]["containers"].as_array_mut().unwrap();
            containers.push(json!({"name": "sidecar", "image": sidecar}));
            template
        };
        let mut scene = Scene::default().with_policy(hook(&pod("a"), Some(("Newer", "sidecar"))));
        scene.seen().deployment = crate::world::seen(crate::world::deployment_of(&beside("v2")));
        scene.seen().replica_sets = crate::world::sets([
            crate::world::replica_set_of("v1", "1", &beside("v1")),
            crate::world::replica_set_of("v2", "2", &beside("v2")),
        ]);
        scene.until(Phase::AwaitingApproval);
        scene.status().plan.unwrap()
    };
    let (one, two) = (with("shop/proxy:1"), with("shop/proxy:2"));
    let [image] = one.targets[0].job_images.as_slice() else {
        panic!("{:?}", one.targets[0].job_images);
    };
    assert_eq!(
        (image.version, image.image.as_deref()),
        (Side::Newer, Some("shop/proxy:1"))
    );
    assert_eq!(
        job::image(&one.targets[0], &one.rules.jobs[0]),
        Ok(Some("shop/proxy:1".to_owned()))
    );
    let digest_of =
        |targets: &[PlannedTarget]| plan::digest("u", 0, &one.rules, &one.guard, None, targets);
    let mut swapped = one.targets.clone();
    swapped[0].job_images.clone_from(&two.targets[0].job_images);
    assert_ne!(digest_of(&one.targets), digest_of(&swapped));
}

#[test]
fn another_image_since_the_plan_starts_nothing() {
    let mut scene = Scene::default()
        .with_policy(hook(&pod("migrator"), Some(("Newer", "api"))))
        .approved();
    scene.deploy(&template("miner"));
    scene.ends(RequestState::Superseded, Reason::NotLive);
    assert!(scene.status().targets[0].jobs.is_empty());
}

/// What a pod says of itself, and what is made of it: nothing when it cannot be told, and then the Job does not run.
#[test]
fn an_account_that_cannot_be_told_is_no_account() {
    let main = json!([{"name": "main", "image": "tool:1"}]);
    let many: Vec<Value> = (0..21)
        .map(|number| json!({"name": format!("c{number}")}))
        .collect();
    let table = [
        (json!({"containers": main}), Some("default")),
        (
            json!({"containers": main, "serviceAccountName": ""}),
            Some("default"),
        ),
        (
            json!({"containers": main, "serviceAccountName": null}),
            Some("default"),
        ),
        (
            json!({"containers": main, "serviceAccountName": "a"}),
            Some("a"),
        ),
        (
            json!({"containers": main, "serviceAccount": "old"}),
            Some("old"),
        ),
        (
            json!({"containers": main, "serviceAccount": "old", "serviceAccountName": "a"}),
            Some("a"),
        ),
        (json!({"containers": main, "serviceAccountName": 7}), None),
        (json!({"containers": main, "serviceAccount": {}}), None),
        (json!({"containers": "main"}), None),
        (
            json!({"containers": [{"name": "main", "image": ["tool:1"]}]}),
            None,
        ),
        (
            json!({"containers": [{"name": "main", "image": "t".repeat(501)}]}),
            None,
        ),
        (json!({"containers": many}), None),
        (json!([]), None),
    ];
    for (spec, expected) in table {
        let policy = policy(hook(&spec, None));
        let [rule] = &rules::jobs(&policy)[..] else {
            panic!("one Job");
        };
        assert_eq!(rule.service_account.as_deref(), expected, "{spec}");
        let image = job::image(&planned_target(), rule);
        assert_eq!(image.is_ok(), expected.is_some(), "{spec}");
        let (_, told) = planned(hook(&spec, None));
        let says = expected.map_or("Job dump does not run".to_owned(), |account| {
            format!("Job dump runs as ServiceAccount {account} with tool:1.")
        });
        assert!(told.contains(&says), "{spec}: {told}");
        if expected.is_none() {
            let mut scene = Scene::default().with_policy(hook(&spec, None)).approved();
            let outcome = scene.ends(RequestState::Refused, Reason::HookVetoed);
            assert!(
                outcome.message.contains("which ServiceAccount"),
                "{outcome:?}"
            );
        }
    }
}

fn rule(version: Side, container: &str) -> JobRule {
    let policy = policy(hook(&pod("a"), None));
    let mut rule = rules::jobs(&policy).remove(0);
    rule.image_of = Some(ImageOf {
        version,
        container: container.to_owned(),
    });
    rule
}

/// Where the image comes from: what changes, what was looked up, or the fallback that is being tried.
#[test]
fn the_image_is_the_one_of_the_plan() {
    let change = |from: Option<&str>, to: Option<&str>| ImageChange {
        container: "api".to_owned(),
        from: from.map(str::to_owned),
        to: to.map(str::to_owned),
    };
    let mut target = PlannedTarget {
        images: vec![change(Some(NEWER), Some(OLDER))],
        fallbacks: vec![Fallback {
            when: FallbackWhen::ImagePull,
            to: TemplateRef {
                revision: None,
                digest: "sha256:known".to_owned(),
            },
            source: Source::NewImage,
            source_ref: None,
            images: vec![change(Some(OLDER), Some("shop/api:known"))],
        }],
        ..planned_target()
    };
    let image = |target: &PlannedTarget, version| job::image(target, &rule(version, "api"));
    assert_eq!(image(&target, Side::Newer), Ok(Some(NEWER.to_owned())));
    assert_eq!(image(&target, Side::Older), Ok(Some(OLDER.to_owned())));
    target.to.digest = "sha256:known".to_owned();
    assert_eq!(image(&target, Side::Newer), Ok(Some(NEWER.to_owned())));
    assert_eq!(
        image(&target, Side::Older),
        Ok(Some("shop/api:known".to_owned()))
    );
    target.images = vec![change(None, Some(OLDER))];
    let why = image(&target, Side::Newer).unwrap_err();
    assert!(
        why.contains("the newer version has none of that name"),
        "{why}"
    );
    // Named by the policy only after the plan was made.
    let why = job::image(&target, &rule(Side::Newer, "web")).unwrap_err();
    assert!(why.contains("create a new request"), "{why}");
}

/// However many Jobs and Deployments there are, what to type to approve stays readable, and a target keeps each image once.
#[test]
fn many_jobs_and_many_deployments_fit() {
    let jobs: Vec<Value> = (0..5)
        .map(|number| {
            json!({
                "name": format!("job-{number}"),
                "podSpec": {"containers": [{"name": "main", "image": format!("{}:{number}", "x".repeat(490))}]},
                "imageOf": {"version": "Newer", "container": "none-of-that-name"},
            })
        })
        .collect();
    let names: Vec<String> = (0..50).map(|number| format!("d-{number}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let rules = json!({
        "environment": "staging",
        "hooks": {"preRollback": jobs.clone(), "postRollback": jobs.clone()},
        "verification": {"jobs": jobs},
    });
    let mut scene = Scene::many(&names, &json!({})).with_policy(rules);
    scene.until(Phase::AwaitingApproval);
    scene.settle();
    let status = scene.status();
    let ready = status.conditions.iter().find(|one| one.type_ == "Ready");
    let told = ready.unwrap().message.clone();
    assert!(
        told.contains("more Jobs run: see status.plan.rules.jobs"),
        "{told}"
    );
    assert!(told.contains("rollback.broxiva.com/plan=sha256:"), "{told}");
    for target in status.plan.unwrap().targets {
        let bytes = serde_json::to_string(&target.job_images).unwrap().len();
        assert!(bytes < 100, "{:?}", target.job_images);
    }
}
