//! Where nothing is recorded, and what it costs when nothing happens.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use jiff::Timestamp;
use k8s_openapi::api::authorization::v1::SubjectAccessReview;
use k8s_openapi::api::rbac::v1::RoleBinding;
use kube::api::{DeleteParams, ListParams, PostParams};
use kube::{Api, ResourceExt};
use rollback_api::ledger::Verdict;
use serde_json::json;
use testkit::audit::Event;
use testkit::scene::{CONTROLLER, PATIENCE};
use testkit::{Scene, User, eventually, shop};

use crate::stage::{
    PROGRAM, ensure_no_ledger, ledgers, scene, stays, version, wait_for_entry, writes,
};

/// Much longer than a change waits to be looked at.
const A_WHILE: Duration = Duration::from_secs(4);
const MANY: usize = 20;

#[tokio::test]
async fn where_the_policy_says_so_nothing_is_recorded() -> Result<()> {
    let mut scene = Scene::without_controller(PROGRAM, "silent").await?;
    let policy = |record: bool| json!({"ledger": {"record": record, "soakSeconds": 0}});
    scene.policy(policy(false)).await?;
    scene.start_controller().await?;
    scene.deploy(version("v1")).await?;
    let v2 = scene.deploy(version("v2")).await?;
    stays(A_WHILE, async || ensure_no_ledger(&scene).await).await?;
    ensure!(
        writes(&scene, "revisionledgers")?.is_none_or(|writes| writes.is_empty()),
        "it wrote"
    );
    // Nothing changes but the policy.
    scene.policy(policy(true)).await?;
    let good = |entry: &rollback_api::ledger::Evidence| entry.verdict == Verdict::Good;
    wait_for_entry(&scene, &v2, "it is good", good).await?;
    Ok(())
}

/// The permission that a namespace gives, or not.
async fn wait_until_may(scene: &Scene, expected: bool) -> Result<()> {
    let review: SubjectAccessReview = serde_json::from_value(json!({"spec": {
        "user": CONTROLLER,
        "resourceAttributes": {
            "namespace": scene.ns(), "verb": "create",
            "group": "rollback.broxiva.com", "resource": "revisionledgers",
        },
    }}))?;
    let api: Api<SubjectAccessReview> = Api::all(scene.client(User::Admin).await?);
    eventually("the authorizer knows", PATIENCE, async || {
        let answer = api.create(&PostParams::default(), &review).await?;
        let allowed = answer.status.is_some_and(|status| status.allowed);
        ensure!(allowed == expected, "it says {allowed}");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_namespace_that_has_not_opted_in_is_left_alone_until_it_does() -> Result<()> {
    let mut scene = Scene::without_controller(PROGRAM, "outside").await?;
    let bindings: Api<RoleBinding> = Api::namespaced(scene.client(User::Admin).await?, scene.ns());
    let mut binding = bindings.get("test-rollback-executor").await?;
    bindings
        .delete(&binding.name_any(), &DeleteParams::default())
        .await?;
    wait_until_may(&scene, false).await?;
    scene.start_controller().await?;
    scene.deploy(version("v1")).await?;
    let v2 = scene.deploy(version("v2")).await?;
    stays(A_WHILE, async || ensure_no_ledger(&scene).await).await?;
    let controller = scene.controller.as_ref().context("no controller")?;
    let log = controller.log();
    ensure!(!log.contains("was not recorded"), "{log}");
    if let Some(audit) = scene.cluster.audit() {
        let written = audit.events(scene.ns())?.into_iter().filter(|event| {
            event.user == CONTROLLER && !["get", "list", "watch"].contains(&event.verb.as_str())
        });
        let written: Vec<Event> = written.collect();
        ensure!(written.is_empty(), "{written:?}");
    }
    // Nothing changes but the permission.
    binding.metadata.resource_version = None;
    binding.metadata.uid = None;
    bindings.create(&PostParams::default(), &binding).await?;
    wait_for_entry(&scene, &v2, "it runs", |e| e.available_since.is_some()).await?;
    // And it opts out again.
    bindings
        .delete(&binding.name_any(), &DeleteParams::default())
        .await?;
    wait_until_may(&scene, false).await?;
    let before = writes(&scene, "revisionledgers")?.map_or(0, |writes| writes.len());
    scene.deploy(version("v3")).await?;
    stays(A_WHILE, async || {
        let now = writes(&scene, "revisionledgers")?.map_or(0, |writes| writes.len());
        // It may have tried once before it heard.
        ensure!(now <= before + 1, "it tries again and again");
        Ok(())
    })
    .await
}

/// Requests of this controller since then: those that are not the end of a watch.
fn requests(scene: &Scene, since: Timestamp) -> Result<Option<Vec<Event>>> {
    let Some(audit) = scene.cluster.audit() else {
        return Ok(None);
    };
    // Other tests have controllers of the same name, but not with the same token.
    let ours: BTreeSet<String> = audit
        .events(scene.ns())?
        .into_iter()
        .filter(|event| event.user == CONTROLLER)
        .map(|event| event.credential)
        .collect();
    ensure!(ours.len() == 1, "{} tokens", ours.len());
    let events = audit.events_of_user(CONTROLLER)?;
    let kept = events.into_iter().filter(|event| {
        ours.contains(&event.credential)
            && event.received > since
            && event.verb != "watch"
            && event.resource != "leases"
    });
    Ok(Some(kept.collect()))
}

#[tokio::test]
async fn what_does_not_change_costs_nothing() -> Result<()> {
    let mut scene = scene("idle", 1).await?;
    let names: Vec<String> = (0..MANY).map(|number| format!("idle-{number}")).collect();
    for name in &names {
        scene
            .apply_deployment(shop::deployment(name).version("v1").replicas(1))
            .await?;
    }
    all_good(&scene).await?;
    ensure_idle(&scene).await?;

    // A new controller looks at each once, and has nothing to add.
    let controller = scene.controller.take().context("no controller")?;
    ensure!(controller.terminate()?.success());
    let restarted = Timestamp::now();
    let writes = async || -> Result<usize> {
        let written = writes(&scene, "revisionledgers")?.unwrap_or_default();
        Ok(written.len())
    };
    let before = writes().await?;
    let second = scene.spawn(&[])?;
    second.ready().await?;
    if let Some(audit) = scene.cluster.audit() {
        eventually("each was looked at", PATIENCE, async || {
            let events = audit.events(scene.ns())?;
            let looked: BTreeSet<String> = events
                .into_iter()
                .filter(|event| {
                    event.user == CONTROLLER
                        && event.verb == "get"
                        && event.resource == "revisionledgers"
                        && event.received > restarted
                })
                .map(|event| event.name)
                .collect();
            ensure!(looked.len() == MANY, "{} of them", looked.len());
            Ok(())
        })
        .await?;
    }
    ensure_idle(&scene).await?;
    ensure!(writes().await? == before, "it wrote what was there");
    Ok(())
}

async fn all_good(scene: &Scene) -> Result<()> {
    let api = ledgers(scene).await?;
    eventually("all are good", PATIENCE, async || {
        let all = api.list(&ListParams::default()).await?;
        let good = all.iter().filter(|ledger| {
            let last = ledger.spec.templates.last();
            last.is_some_and(|entry| entry.verdict == Verdict::Good)
        });
        let good = good.count();
        ensure!(good == MANY, "{good} are");
        Ok(())
    })
    .await
}

/// It settles, and then there is nothing at all for a while.
async fn ensure_idle(scene: &Scene) -> Result<()> {
    if scene.cluster.audit().is_none() {
        return Ok(());
    }
    eventually("it is idle", PATIENCE, async || {
        let since = Timestamp::now();
        stays(A_WHILE, async || {
            let made = requests(scene, since)?.unwrap_or_default();
            ensure!(made.is_empty(), "{made:?}");
            Ok(())
        })
        .await
    })
    .await
}
