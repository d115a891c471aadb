//! Somebody who may patch a Deployment writes the planned template by hand, and puts our name on it. An annotation is
//! no proof: nothing is ours that was not begun upon approvals that sufficed.

use anyhow::{Context as _, Result, ensure};
use kube::api::{Patch, PatchParams};
use kube::{Api, ResourceExt};
use rollback_api::{
    CANCELLED_BY, DENIED_BY, DENIED_REASON, Reason, RequestState, RevisionLedger, WorkloadKind,
};
use rollback_core::history::ledger;
use serde_json::{Value, json};
use testkit::health::{Answer, HEALTH_PORT, HealthServer};
use testkit::scene::{CONTROLLER, PATIENCE, condition, request};
use testkit::shop::{BEHAVIOUR, Behaviour, fake_node_toleration};
use testkit::{Scene, User, eventually, shop};

use crate::freeze::frozen;
use crate::stage::{
    PATCH, allow, at_rest, client_of, counted, ends, ensure_writes, patch_only, scene, settle,
    two_versions, wait_until_may,
};
use crate::withdrawal::taken_back;

pub const NAME: &str = "api-5xx";
const MALLORY: &str = "mallory-patches";

/// Somebody who may patch these Deployments, and nothing else.
pub async fn mallory(scene: &Scene, deployments: &[&str]) -> Result<()> {
    allow(scene, &patch_only(deployments), &[MALLORY]).await?;
    for deployment in deployments {
        wait_until_may(scene, MALLORY, &format!("{PATCH}/{deployment}"), true).await?;
    }
    Ok(())
}

/// The template that a Deployment had with this image.
async fn old_template(scene: &Scene, deployment: &str, tag: &str) -> Result<Value> {
    let sets = scene.replica_sets(deployment).await?;
    let has = |set: &&Value| {
        let image = set.pointer("/spec/template/spec/containers/0/image");
        let image = image.and_then(Value::as_str).unwrap_or_default();
        image.ends_with(&format!(":{tag}"))
    };
    let set = sets.iter().find(has).context("no such version")?;
    let mut template = set["spec"]["template"].clone();
    let labels = template["metadata"]["labels"].as_object_mut();
    labels
        .context("no labels")?
        .remove("pod-template-hash")
        .context("no hash")?;
    Ok(template)
}

/// She writes an old template, and whatever stands for who did it.
pub async fn hand(scene: &Scene, deployment: &str, tag: &str, cause: &str) -> Result<()> {
    let template = old_template(scene, deployment, tag).await?;
    let api = shop::api(
        &client_of(scene, MALLORY).await?,
        scene.ns(),
        "apps/v1",
        "Deployment",
    );
    let mut patch = json!({
        "metadata": {"annotations": {"kubernetes.io/change-cause": cause}},
        // What the newer version has and the older has not would stay in a merge.
        "spec": {"template": {"$patch": "replace"}},
    });
    for (key, value) in template.as_object().context("no template")? {
        patch["spec"]["template"][key] = value.clone();
    }
    let parameters = PatchParams {
        field_manager: Some("kubectl-edit".to_owned()),
        ..PatchParams::default()
    };
    api.patch(deployment, &parameters, &Patch::Strategic(&patch))
        .await?;
    Ok(())
}

/// What the annotation of the request's own write says, more or less.
pub async fn our_name(scene: &Scene, request: &str) -> Result<String> {
    let uid = scene.request(request).await?.uid().context("no UID")?;
    Ok(format!("anything {uid}"))
}

/// Of all that the controller wrote in this namespace, nothing is anything but a record of its own.
fn ensure_only_records(scene: &Scene) -> Result<()> {
    let audit = scene.cluster.audit().context("no audit log")?;
    let records = [
        "rollbackrequests",
        "revisionledgers",
        "configmaps",
        "events",
        "leases",
    ];
    for event in audit.events(scene.ns())? {
        let writes = ["create", "update", "patch", "delete", "deletecollection"];
        let wrote = event.user == CONTROLLER
            && writes.contains(&event.verb.as_str())
            && event.succeeded()
            && !event.is_dry_run();
        let question = event.resource.ends_with("reviews");
        ensure!(
            !wrote || question || records.contains(&event.resource.as_str()),
            "it wrote: {event:?}"
        );
    }
    Ok(())
}

/// How many rollbacks the ledger of a Deployment knows.
async fn remembered(scene: &Scene, deployment: &str) -> Result<usize> {
    let api: Api<RevisionLedger> = Api::namespaced(scene.client(User::Admin).await?, scene.ns());
    let ledger = api
        .get_opt(&ledger::name(WorkloadKind::Deployment, deployment))
        .await?;
    Ok(ledger.map_or(0, |ledger| ledger.spec.rollbacks.len()))
}

/// It ended as superseded, says who was faster and not that it was us, and nothing was done.
async fn is_hers(scene: &Scene, name: &str, deployment: &str) -> Result<()> {
    let outcome = ends(scene, name, RequestState::Superseded, Reason::NotLive).await?;
    for part in [
        "field manager kubectl-edit",
        "did not write it",
        "Nothing was changed",
    ] {
        ensure!(outcome.message.contains(part), "{}", outcome.message);
    }
    let status = scene.status(name).await?;
    let target = status.targets.first().context("no target")?;
    ensure!(
        target.begun.is_none() && target.reverted_at.is_none() && target.rollout.is_none(),
        "{target:?}"
    );
    ensure!(
        remembered(scene, deployment).await? == 0,
        "it is remembered"
    );
    ensure_only_records(scene)
}

/// With real approvals it is rolled back, by us.
async fn twin(scene: &Scene, name: &str, deployment: &str, approvers: &[User]) -> Result<()> {
    two_versions(scene, deployment).await?;
    scene.ask(name, deployment, json!({"previous": {}})).await?;
    let names: Vec<&str> = approvers.iter().map(|user| user.as_str()).collect();
    for (place, approver) in approvers.iter().enumerate() {
        scene.approve(name, *approver).await?;
        // Before that nobody else may touch what is in the mailbox.
        counted(scene, name, &names[..=place]).await?;
    }
    ends(scene, name, RequestState::Succeeded, Reason::Unverified).await?;
    let status = scene.status(name).await?;
    let begun = status.targets[0].begun.clone().context("not begun")?;
    ensure!(begun.approved_by == names, "{begun:?}");
    ensure_writes(scene, 1)
}

#[tokio::test]
async fn nobody_has_approved() -> Result<()> {
    let scene = scene("own-nobody").await?;
    let names = ["api", "web", "worker"];
    mallory(&scene, &names).await?;
    for name in names {
        two_versions(&scene, name).await?;
        scene.ask(name, name, json!({"previous": {}})).await?;
        scene.plan(name).await?;
        let uid = scene.request(name).await?.uid().context("no UID")?;
        let cause = match name {
            "api" => format!("anything {uid}"),
            // Letter by letter what we would have written.
            "web" => format!("rollback to revision 1 by RollbackRequest {name} ({uid})"),
            _ => format!("restore of backup rollback-backup-0 by RollbackRequest {name} ({uid})"),
        };
        hand(&scene, name, "v1", &cause).await?;
    }
    for name in names {
        is_hers(&scene, name, name).await?;
        let approvals = scene.status(name).await?.approvals;
        ensure!(approvals.is_empty(), "{approvals:?}");
    }
    twin(&scene, "well", "cron", &[User::Approver]).await
}

#[tokio::test]
async fn an_approval_was_taken_back() -> Result<()> {
    let scene = scene("own-withdrawn").await?;
    scene.policy(json!({"approvals": {"required": 2}})).await?;
    mallory(&scene, &["api"]).await?;
    two_versions(&scene, "api").await?;
    scene.ask(NAME, "api", json!({"previous": {}})).await?;
    let anna = User::Approver;
    scene.approve(NAME, anna).await?;
    counted(&scene, NAME, &[anna.as_str()]).await?;
    scene.annotate(NAME, anna, taken_back(anna)).await?;
    counted(&scene, NAME, &[]).await?;
    let cause = our_name(&scene, NAME).await?;
    hand(&scene, "api", "v1", &cause).await?;
    is_hers(&scene, NAME, "api").await?;
    twin(&scene, "well", "web", &[anna, User::SecondApprover]).await
}

#[tokio::test]
async fn an_approval_is_too_old() -> Result<()> {
    let scene = scene("own-expired").await?;
    let rules = json!({"approvals": {"required": 2, "validForSeconds": 2}});
    scene.policy(rules).await?;
    mallory(&scene, &["api"]).await?;
    two_versions(&scene, "api").await?;
    scene.ask(NAME, "api", json!({"previous": {}})).await?;
    let first = scene.plan(NAME).await?.digest;
    scene.approve(NAME, User::Approver).await?;
    eventually("the approval is void", PATIENCE, async || {
        let status = scene.status(NAME).await?;
        let now = status.plan.context("no plan")?.digest;
        ensure!(now != first && status.approvals.is_empty());
        Ok(())
    })
    .await?;
    let cause = our_name(&scene, NAME).await?;
    hand(&scene, "api", "v1", &cause).await?;
    is_hers(&scene, NAME, "api").await
}

/// Two of them at rest, of which nothing has begun.
async fn two_at_rest(scene: &Scene) -> Result<()> {
    mallory(scene, &["api", "web"]).await?;
    for name in ["api", "web"] {
        two_versions(scene, name).await?;
    }
    let target = |name: &str| json!({"name": name, "to": {"previous": {}}});
    scene
        .ask_for(request(NAME, json!([target("api"), target("web")])))
        .await?;
    scene.plan(NAME).await?;
    Ok(())
}

/// What she writes to the first one lets nobody write the second one: not in a freeze, not after a denial or a
/// cancellation.
async fn first_is_hers(scene: &Scene) -> Result<()> {
    let cause = our_name(scene, NAME).await?;
    hand(scene, "api", "v1", &cause).await?;
    eventually("the first is superseded", PATIENCE, async || {
        let status = scene.status(NAME).await?;
        let outcome = status.targets[0].outcome.clone().context("it goes on")?;
        ensure!(
            (outcome.result, outcome.reason) == (RequestState::Superseded, Reason::NotLive),
            "{outcome:?}"
        );
        Ok(())
    })
    .await
}

#[tokio::test]
async fn in_a_freeze() -> Result<()> {
    let scene = scene("own-frozen").await?;
    scene.policy(frozen()).await?;
    two_at_rest(&scene).await?;
    scene.approve(NAME, User::Approver).await?;
    scene.wait_for(NAME, "Frozen").await?;
    first_is_hers(&scene).await?;
    settle(&scene, "later").await?;
    scene.wait_for(NAME, "Frozen").await?;
    ensure!(scene.image("web").await?.ends_with(":v2"));
    ensure_only_records(&scene)
}

#[tokio::test]
async fn after_a_denial_and_after_a_cancellation() -> Result<()> {
    let why = json!("it comes from the payment provider");
    let (anna, rita) = (User::Approver, User::Requester);
    for (name, user, key, reason, state) in [
        ("own-denied", anna, DENIED_BY, why, RequestState::Denied),
        (
            "own-cancelled",
            rita,
            CANCELLED_BY,
            json!(null),
            RequestState::Cancelled,
        ),
    ] {
        let scene = scene(name).await?;
        two_at_rest(&scene).await?;
        first_is_hers(&scene).await?;
        let no = json!({key: user.as_str(), DENIED_REASON: reason});
        scene.annotate(NAME, user, no).await?;
        let (_, outcome) = scene.wait_for_end(NAME).await?;
        ensure!(outcome.result == state, "{outcome:?}");
        let cause = our_name(&scene, NAME).await?;
        hand(&scene, "web", "v1", &cause).await?;
        settle(&scene, "later").await?;
        let after = scene.status(NAME).await?.outcome;
        ensure!(after.as_ref() == Some(&outcome), "{after:?}");
        ensure_only_records(&scene)?;
    }
    Ok(())
}

/// `api` hangs while it comes up, and `web` waits for it.
async fn second_waits(scene: &Scene, policy: Value) -> Result<()> {
    scene.policy(policy).await?;
    mallory(scene, &["api", "web"]).await?;
    let patient = |version: &str| {
        shop::deployment("api")
            .version(version)
            .replicas(1)
            .progress_deadline(600)
    };
    let hangs = patient("v1").behaviour(Behaviour::NeverReady);
    scene.apply_deployment(hangs).await?;
    let is_seen = |d: &Value| d["status"]["observedGeneration"] == d["metadata"]["generation"];
    scene
        .wait_for_deployment("api", |d| {
            is_seen(d) && d["status"]["updatedReplicas"] == json!(1)
        })
        .await?;
    scene.deploy(patient("v2")).await?;
    two_versions(scene, "web").await?;
    let target =
        |name: &str, wave: i32| json!({"name": name, "to": {"previous": {}}, "wave": wave});
    let both = json!([target("api", 0), target("web", 1)]);
    scene.ask_for(request(NAME, both)).await?;
    scene.approve(NAME, User::Approver).await?;
    scene.wait_for(NAME, "RollingOut").await?;
    Ok(())
}

/// The pods of `api` get well, until it has ended.
async fn first_ends(scene: &Scene) -> Result<()> {
    let client = scene.client(User::Admin).await?;
    let well = [(BEHAVIOUR, Behaviour::Ready.as_str())];
    eventually("the first has ended", PATIENCE, async || {
        shop::annotate_pods(&client, scene.ns(), "api", &well).await?;
        let status = scene.status(NAME).await?;
        let outcome = status.targets[0].outcome.clone();
        let outcome = outcome.context("it is still under way")?;
        ensure!(outcome.result == RequestState::Succeeded, "{outcome:?}");
        Ok(())
    })
    .await
}

/// The first one is written upon an approval that is taken back then.
async fn taken_back_in_the_middle(name: &str) -> Result<Scene> {
    let scene = scene(name).await?;
    second_waits(&scene, json!({"ledger": {"record": false}})).await?;
    let anna = User::Approver;
    scene.annotate(NAME, anna, taken_back(anna)).await?;
    scene.wait_for(NAME, "AwaitingApproval").await?;
    let status = scene.status(NAME).await?;
    ensure!(status.approvals.is_empty(), "{:?}", status.approvals);
    let begun = status.targets[0].begun.clone().context("not begun")?;
    ensure!(begun.approved_by == [anna.as_str()], "{begun:?}");
    Ok(scene)
}

#[tokio::test]
async fn the_second_of_two_needs_approvals_of_its_own() -> Result<()> {
    let scene = taken_back_in_the_middle("own-second").await?;
    first_ends(&scene).await?;
    settle(&scene, "later").await?;
    ensure_writes(&scene, 1)?;
    ensure!(scene.image("web").await?.ends_with(":v2"));
    // Approved anew it goes on, and both approvals are told.
    scene.approve(NAME, User::SecondApprover).await?;
    ends(&scene, NAME, RequestState::Succeeded, Reason::Unverified).await?;
    ensure_writes(&scene, 2)?;
    let status = scene.status(NAME).await?;
    let by = status.approved_by;
    let (anna, omar) = (User::Approver.as_str(), User::SecondApprover.as_str());
    ensure!(by.as_deref() == Some(&format!("{anna},{omar}")), "{by:?}");
    let incidents = scene.artifacts("incident", NAME).await?;
    let page: String = incidents
        .into_iter()
        .filter_map(|incident| incident.data)
        .flat_map(std::collections::BTreeMap::into_values)
        .collect();
    for user in [anna, omar] {
        ensure!(page.contains(&format!("Approved by {user}")), "{page}");
    }
    Ok(())
}

#[tokio::test]
async fn the_second_of_two_is_hers() -> Result<()> {
    let scene = taken_back_in_the_middle("own-second-hers").await?;
    let cause = our_name(&scene, NAME).await?;
    hand(&scene, "web", "v1", &cause).await?;
    first_ends(&scene).await?;
    ends(&scene, NAME, RequestState::Succeeded, Reason::Unverified).await?;
    let status = scene.status(NAME).await?;
    let second = status.targets[1].outcome.clone().context("no end")?;
    ensure!(
        (second.result, second.reason) == (RequestState::Superseded, Reason::NotLive),
        "{second:?}"
    );
    ensure!(second.message.contains("did not write it"), "{second:?}");
    ensure!(remembered(&scene, "api").await? == 1 && remembered(&scene, "web").await? == 0);
    ensure_writes(&scene, 1)
}

/// The first one is under way when the approval becomes too old.
#[tokio::test]
async fn the_second_of_two_is_not_begun_upon_an_approval_that_is_too_old() -> Result<()> {
    let scene = scene("own-second-old").await?;
    let rules = json!({"approvals": {"validForSeconds": 8}, "ledger": {"record": false}});
    second_waits(&scene, rules).await?;
    scene.wait_for(NAME, "AwaitingApproval").await?;
    first_ends(&scene).await?;
    settle(&scene, "later").await?;
    ensure_writes(&scene, 1)?;
    let user = User::Approver;
    let no = json!({DENIED_BY: user.as_str(), DENIED_REASON: "once is enough"});
    scene.annotate(NAME, user, no).await?;
    let (_, outcome) = scene.wait_for_end(NAME).await?;
    ensure!(outcome.result == RequestState::Denied, "{outcome:?}");
    ensure_writes(&scene, 1)
}

/// The version to go back to is not well, and the plan has a fallback for that.
#[tokio::test]
async fn a_fallback_is_not_written_after_a_forged_write() -> Result<()> {
    let scene = scene("own-fallback").await?;
    mallory(&scene, &["api"]).await?;
    let servers = [
        HealthServer::start().await?,
        HealthServer::start().await?,
        HealthServer::start().await?,
    ];
    servers[1].answer(Answer::status(500));
    for (version, server) in ["v1", "v2", "v3"].iter().zip(&servers) {
        let version = shop::deployment("api")
            .version(version)
            .replicas(1)
            .pod_ip(&server.ip());
        scene.deploy(version).await?;
    }
    scene
        .policy(json!({"verification": {
            "timeoutSeconds": 3, "onFailure": "TryOlder",
            "http": [{"name": "live", "port": HEALTH_PORT, "preset": "Live", "periodSeconds": 1}],
        }}))
        .await?;
    scene.ask(NAME, "api", json!({"previous": {}})).await?;
    let plan = scene.plan(NAME).await?;
    ensure!(plan.targets[0].fallbacks.len() == 1, "{plan:?}");
    let cause = our_name(&scene, NAME).await?;
    hand(&scene, "api", "v2", &cause).await?;
    is_hers(&scene, NAME, "api").await?;
    ensure!(scene.image("api").await?.ends_with(":v2"));
    Ok(())
}

/// The Job of the policy would run the image that she deployed, under a `ServiceAccount` of the namespace.
#[tokio::test]
async fn a_job_is_not_run_after_a_forged_write() -> Result<()> {
    let scene = scene("own-job").await?;
    mallory(&scene, &["api"]).await?;
    scene.grant("rollback-run-jobs").await?;
    wait_until_may(&scene, CONTROLLER, "create jobs.batch", true).await?;
    let job = json!({
        "name": "tell", "timeoutSeconds": 60,
        "imageOf": {"version": "Newer", "container": "app"},
        "podSpec": {
            "containers": [{"name": "main"}],
            "nodeSelector": {"testkit.broxiva.com/node": "fake"},
            "tolerations": [fake_node_toleration()],
        },
    });
    let policy = json!({"hooks": {"postRollback": [job]}});
    scene.policy(policy).await?;
    for name in ["api", "web"] {
        for version in ["v1", "v2"] {
            let version = shop::deployment(name).version(version).replicas(1);
            scene.deploy(version).await?;
        }
    }
    scene.ask(NAME, "api", json!({"previous": {}})).await?;
    scene.plan(NAME).await?;
    let cause = our_name(&scene, NAME).await?;
    hand(&scene, "api", "v1", &cause).await?;
    is_hers(&scene, NAME, "api").await?;
    // The twin runs its Job.
    scene.ask("well", "web", json!({"previous": {}})).await?;
    scene.approve("well", User::Approver).await?;
    ends(&scene, "well", RequestState::Succeeded, Reason::Unverified).await?;
    let jobs = scene.status("well").await?.targets[0].jobs.clone();
    let end = jobs.first().and_then(|job| job.end.clone());
    ensure!(end.is_some_and(|end| end.succeeded), "{jobs:?}");
    ensure_writes(&scene, 1)
}

/// Begun by us and written by somebody else a moment later is a rollback all the same; but not a second time, and not
/// by a request that had not begun.
#[tokio::test]
async fn the_planned_template_without_our_name_is_hers_too() -> Result<()> {
    let scene = scene("own-unsigned").await?;
    mallory(&scene, &["api"]).await?;
    scene.deploy(at_rest("api", "v1")).await?;
    scene.deploy(at_rest("api", "v2")).await?;
    scene.ask(NAME, "api", json!({"previous": {}})).await?;
    scene.plan(NAME).await?;
    hand(&scene, "api", "v1", "deploy v1").await?;
    let outcome = ends(&scene, NAME, RequestState::Superseded, Reason::NotLive).await?;
    ensure!(
        outcome.message.contains("field manager kubectl-edit")
            && !outcome.message.contains("did not write it"),
        "{}",
        outcome.message
    );
    let complete = condition(&scene.request(NAME).await?, "Complete");
    ensure!(complete.is_some_and(|complete| complete.0 == "True"));
    ensure_only_records(&scene)
}
