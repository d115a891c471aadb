//! Jobs of the policy: before the write, as a check, and afterwards.

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::authorization::v1::SubjectAccessReview;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{ListParams, Patch, PatchParams, PostParams};
use kube::{Api, ResourceExt};
use rollback_api::status::{JobEnd, JobStage};
use rollback_api::{
    ACCEPT_DATA_RISK, APPROVED_BY, CHECKLIST, CONFIRM, PLAN, REQUEST_UID_LABEL, Reason,
    RequestState,
};
use rollback_core::execution::job;
use serde_json::{Value, json};
use testkit::scene::{CONTROLLER, PATIENCE, PRODUCTION};
use testkit::shop::fake_node_toleration;
use testkit::{Scene, User, eventually, shop};

use crate::stage::{ends, scene, target};

const FAILS: &str = "job-fail:3";
const HANGS: &str = "job-hang:1";
const SUCCEEDS: &str = "job-ok:1";
const OLD: &str = "registry.broxiva.example/api:v1";
const BAD: &str = "registry.broxiva.example/api:v2";

/// A Job of a policy, whose only container has this image, or that of a version when it is none.
fn named(name: &str, image: Option<&str>, more: Value) -> Value {
    let mut container = json!({"name": "main"});
    if let Some(image) = image {
        container["image"] = json!(image);
    }
    let mut job = json!({
        "name": name,
        "timeoutSeconds": 60,
        "podSpec": {
            "containers": [container],
            "nodeSelector": {"testkit.broxiva.com/node": "fake"},
            "tolerations": [fake_node_toleration()],
        },
    });
    if let Value::Object(more) = more {
        for (key, value) in more {
            job[key] = value;
        }
    }
    job
}

fn of(version: &str) -> Value {
    json!({"imageOf": {"version": version, "container": "app"}})
}

fn before(job: &Value) -> Value {
    json!({"hooks": {"preRollback": [job]}})
}

/// Whether the controller may run Jobs in the namespace of a scene.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Jobs {
    Granted,
    NotGranted,
}

/// Versions `v1` and `v2` of `api` under this policy.
async fn opened(scene: &Scene, policy: Value, jobs: Jobs) -> Result<()> {
    if jobs == Jobs::Granted {
        grant(scene).await?;
    }
    scene.policy(policy).await?;
    let version = |version: &str| shop::deployment("api").version(version).replicas(1);
    scene.deploy(version("v1")).await?;
    scene.deploy(version("v2")).await?;
    Ok(())
}

/// Binds `rollback-run-jobs` to the controller, and waits until the authorizer knows it.
pub async fn grant(scene: &Scene) -> Result<()> {
    let client = scene.client(User::Admin).await?;
    scene.grant("rollback-run-jobs").await?;
    let reviews: Api<SubjectAccessReview> = Api::all(client);
    let review: SubjectAccessReview = serde_json::from_value(json!({"spec": {
        "user": CONTROLLER,
        "resourceAttributes": {"namespace": scene.ns(), "verb": "create", "group": "batch", "resource": "jobs"},
    }}))?;
    eventually("the controller may run Jobs", PATIENCE, async || {
        let answer = reviews.create(&PostParams::default(), &review).await?;
        ensure!(
            answer.status.is_some_and(|status| status.allowed),
            "not yet"
        );
        Ok(())
    })
    .await
}

/// Asks for the version before, and approves.
async fn roll_back(scene: &Scene) -> Result<()> {
    scene.ask("api-5xx", "api", json!({"previous": {}})).await?;
    scene.approve("api-5xx", User::Approver).await
}

/// The Jobs of the namespace, by the name in the policy: image of the container and UID.
async fn jobs(scene: &Scene) -> Result<Vec<Job>> {
    let api: Api<Job> = Api::namespaced(scene.client(User::Admin).await?, scene.ns());
    Ok(api.list(&ListParams::default()).await?.items)
}

/// The image that a Job of this name runs with.
async fn image(scene: &Scene, name: &str) -> Result<String> {
    let jobs = jobs(scene).await?;
    let prefix = format!("rollback-{name}-");
    let of_name = jobs.iter().find(|job| job.name_any().starts_with(&prefix));
    let job = of_name.with_context(|| format!("no Job {name} among {jobs:?}"))?;
    let pod = job
        .spec
        .as_ref()
        .and_then(|spec| spec.template.spec.clone());
    let containers = pod.context("no pod")?.containers;
    let image = containers.into_iter().next().and_then(|one| one.image);
    image.context("no image")
}

/// How the Job of this name ended, by the status of the request.
async fn end(scene: &Scene, name: &str) -> Result<JobEnd> {
    let jobs = target(scene, "api-5xx").await?.jobs;
    let job = jobs.iter().find(|job| job.name == name);
    let end = job.and_then(|job| job.end.clone());
    end.with_context(|| format!("no end of {name} among {jobs:?}"))
}

/// Waits until the only Job of the namespace runs, seen by its pod.
async fn running_pod(scene: &Scene) -> Result<String> {
    let pods: Api<Pod> = Api::namespaced(scene.client(User::Admin).await?, scene.ns());
    eventually("the pod of the Job runs", PATIENCE, async || {
        let labelled = ListParams::default().labels("batch.kubernetes.io/job-name");
        let found = pods.list(&labelled).await?.items;
        let runs = |pod: &&Pod| {
            let phase = pod.status.as_ref().and_then(|status| status.phase.clone());
            phase.as_deref() == Some("Running")
        };
        let pod = found.iter().find(runs).context("none yet")?;
        Ok(pod.name_any())
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_says_no_changes_nothing() -> Result<()> {
    let scene = scene("job-veto").await?;
    let policy = before(&named("drain", Some(FAILS), json!({})));
    opened(&scene, policy, Jobs::Granted).await?;
    roll_back(&scene).await?;
    let message = ends(&scene, "api-5xx", RequestState::Refused, Reason::HookVetoed).await?;
    for part in [
        "PreRollback Job drain of Deployment api says no",
        "its container main failed (exit code 3)",
        "Nothing was changed.",
    ] {
        ensure!(message.contains(part), "{part:?} is not in {message}");
    }
    ensure!(scene.image("api").await? == BAD, "it was written");
    let end = end(&scene, "drain").await?;
    ensure!(!end.succeeded && end.exit_code == Some(3), "{end:?}");
    let jobs = jobs(&scene).await?;
    let [job] = jobs.as_slice() else {
        anyhow::bail!("{} Jobs", jobs.len());
    };
    let request = scene.request("api-5xx").await?;
    ensure!(job.labels().get(REQUEST_UID_LABEL) == request.uid().as_ref());
    let owner = job.owner_references().first().map(|owner| &owner.uid);
    ensure!(
        owner == request.uid().as_ref(),
        "the request does not own it"
    );
    ensure!(message.contains(&job.name_any()), "{message}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn jobs_run_with_the_image_of_the_version_that_is_meant_and_once() -> Result<()> {
    let scene = scene("job-images").await?;
    let policy = json!({
        "hooks": {
            "preRollback": [
                named("lenient", Some(FAILS), json!({"onFailure": "Warn"})),
                named("dump", None, of("Newer")),
                named("check", None, of("Older")),
            ],
            "postRollback": [named("resume", None, of("Older")), named("tidy", None, of("Newer"))],
        },
        "verification": {"jobs": [named("login", None, of("Newer"))]},
    });
    opened(&scene, policy, Jobs::Granted).await?;
    roll_back(&scene).await?;
    ends(
        &scene,
        "api-5xx",
        RequestState::Succeeded,
        Reason::RolledBack,
    )
    .await?;
    ensure!(scene.image("api").await? == OLD);
    for (name, expected) in [
        ("lenient", FAILS),
        ("dump", BAD),
        ("check", OLD),
        ("login", BAD),
        ("resume", OLD),
        ("tidy", BAD),
    ] {
        let image = image(&scene, name).await?;
        ensure!(image == expected, "{name} ran {image}");
    }
    ensure!(jobs(&scene).await?.len() == 6, "one of them ran twice");
    let target = target(&scene, "api-5xx").await?;
    let warned = target.warnings.iter().any(|warning| {
        warning.contains("PreRollback Job lenient of Deployment api failed")
            && warning.contains("exit code 3")
    });
    ensure!(warned, "{:?}", target.warnings);
    let stages: Vec<JobStage> = target.jobs.iter().map(|job| job.stage).collect();
    ensure!(stages.is_sorted(), "{stages:?}");
    // The one that may write came before the write, the others after it.
    let reverted = target.reverted_at.context("not reverted")?;
    for job in &target.jobs {
        let end = job.end.as_ref().context("no end")?;
        let early = job.stage <= JobStage::PreRollback;
        ensure!(
            (end.at <= reverted) == early,
            "{job:?}, reverted {reverted}"
        );
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_fails_afterwards_fails_the_rollback_and_leaves_it_in_place() -> Result<()> {
    let scene = scene("job-after").await?;
    let policy = json!({"hooks": {"postRollback": [named("resume", Some(FAILS), json!({}))]}});
    opened(&scene, policy, Jobs::Granted).await?;
    roll_back(&scene).await?;
    let message = ends(&scene, "api-5xx", RequestState::Failed, Reason::HookFailed).await?;
    ensure!(message.contains("(exit code 3)"), "{message}");
    ensure!(scene.image("api").await? == OLD);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_smoke_test_that_fails_means_that_the_old_version_is_not_well() -> Result<()> {
    let scene = scene("job-smoke").await?;
    let login = named("login", Some(FAILS), json!({}));
    let cart = named("cart", Some(SUCCEEDS), json!({}));
    let policy = json!({"verification": {"jobs": [login, cart]}});
    opened(&scene, policy, Jobs::Granted).await?;
    roll_back(&scene).await?;
    let message = ends(
        &scene,
        "api-5xx",
        RequestState::Failed,
        Reason::ChecksFailed,
    )
    .await?;
    ensure!(
        message.contains("login") && message.contains("exit code 3"),
        "{message}"
    );
    ensure!(
        jobs(&scene).await?.len() == 1,
        "the other was not needed any more"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_of_somebody_else_under_the_same_name_is_not_taken_for_ours() -> Result<()> {
    let scene = scene("job-foreign").await?;
    let policy = before(&named("drain", Some(SUCCEEDS), json!({})));
    opened(&scene, policy, Jobs::Granted).await?;
    scene.ask("api-5xx", "api", json!({"previous": {}})).await?;
    let plan = scene.plan("api-5xx").await?;
    let request = scene.request("api-5xx").await?;
    let name = job::name(&request, &plan.targets[0], &plan.rules.jobs[0]);
    let theirs: Job = serde_json::from_value(json!({
        "metadata": {"name": name},
        "spec": {"template": {"spec": named("x", Some(SUCCEEDS), json!({}))["podSpec"]
            .as_object()
            .cloned()
            .map(|mut pod| {
                pod.insert("restartPolicy".to_owned(), json!("Never"));
                pod
            })}},
    }))?;
    let api: Api<Job> = Api::namespaced(scene.client(User::Admin).await?, scene.ns());
    let uid = api.create(&PostParams::default(), &theirs).await?.uid();
    scene.approve("api-5xx", User::Approver).await?;
    let message = ends(&scene, "api-5xx", RequestState::Refused, Reason::HookVetoed).await?;
    ensure!(message.contains("is not of this request"), "{message}");
    ensure!(scene.image("api").await? == BAD);
    ensure!(api.get(&name).await?.uid() == uid, "it was touched");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_namespace_that_does_not_grant_jobs_is_told_what_to_bind() -> Result<()> {
    let scene = scene("job-role").await?;
    let policy = before(&named("drain", Some(SUCCEEDS), json!({})));
    opened(&scene, policy, Jobs::NotGranted).await?;
    roll_back(&scene).await?;
    let message = ends(&scene, "api-5xx", RequestState::Refused, Reason::HookVetoed).await?;
    let namespace = format!("namespace {}", scene.ns());
    for part in [
        "ClusterRole rollback-run-jobs",
        "an administrator",
        &namespace,
    ] {
        ensure!(message.contains(part), "{part:?} is not in {message}");
    }
    ensure!(scene.image("api").await? == BAD);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_that_the_api_server_does_not_take_is_a_failure_in_its_words() -> Result<()> {
    let scene = scene("job-invalid").await?;
    let mut job = named("drain", Some(SUCCEEDS), json!({}));
    job["podSpec"]["containers"][0]["env"] =
        json!([{"name": "PASSWORD", "value": "hunter2hunter2"}]);
    job["podSpec"]["dnsPolicy"] = json!("hunter2hunter2");
    opened(&scene, before(&job), Jobs::Granted).await?;
    roll_back(&scene).await?;
    let message = ends(&scene, "api-5xx", RequestState::Refused, Reason::HookVetoed).await?;
    ensure!(message.contains("does not take it (HTTP 422)"), "{message}");
    let request = serde_json::to_string(&scene.request("api-5xx").await?)?;
    ensure!(!request.contains("hunter2"), "{request}");
    ensure!(jobs(&scene).await?.is_empty());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_controller_that_comes_back_follows_the_job_and_starts_no_other() -> Result<()> {
    let mut scene = scene("job-restart").await?;
    let policy = before(&named("drain", Some(HANGS), json!({})));
    opened(&scene, policy, Jobs::Granted).await?;
    roll_back(&scene).await?;
    let pod = running_pod(&scene).await?;
    scene.controller.take().context("no controller")?.kill();
    scene.start_controller().await?;
    let pods: Api<Pod> = Api::namespaced(scene.client(User::Admin).await?, scene.ns());
    let fail = json!({"metadata": {"annotations": {shop::BEHAVIOUR: "fail"}}});
    pods.patch(&pod, &PatchParams::default(), &Patch::Merge(&fail))
        .await?;
    let message = ends(&scene, "api-5xx", RequestState::Refused, Reason::HookVetoed).await?;
    ensure!(message.contains("(exit code 1)"), "{message}");
    ensure!(jobs(&scene).await?.len() == 1, "it was started again");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_does_not_end_is_ended() -> Result<()> {
    let scene = scene("job-hang").await?;
    let policy = before(&named("drain", Some(HANGS), json!({"timeoutSeconds": 3})));
    opened(&scene, policy, Jobs::Granted).await?;
    roll_back(&scene).await?;
    let message = ends(&scene, "api-5xx", RequestState::Refused, Reason::HookVetoed).await?;
    ensure!(
        message.contains("it did not end within 3 seconds"),
        "{message}"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_policy_that_changes_meanwhile_asks_everybody_again_and_runs_what_it_says_now()
-> Result<()> {
    let scene = scene("job-policy").await?;
    let policy = |image| before(&named("drain", Some(image), json!({})));
    opened(&scene, policy(HANGS), Jobs::Granted).await?;
    roll_back(&scene).await?;
    running_pod(&scene).await?;
    let old = scene.status("api-5xx").await?.plan.context("no plan")?;
    scene.policy(policy(SUCCEEDS)).await?;
    // The Job that hangs is in nobody's way any more; a look is taken when something changes.
    scene
        .annotate(
            "api-5xx",
            User::Requester,
            json!({"example.com/look": "again"}),
        )
        .await?;
    scene.wait_for("api-5xx", "AwaitingApproval").await?;
    let new = scene.plan("api-5xx").await?;
    ensure!(new.digest != old.digest);
    scene.approve("api-5xx", User::Approver).await?;
    ends(
        &scene,
        "api-5xx",
        RequestState::Succeeded,
        Reason::Unverified,
    )
    .await?;
    ensure!(image(&scene, "drain").await.is_ok() && jobs(&scene).await?.len() == 2);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn migrations_that_cannot_be_lived_with_wait_for_somebody_who_accepts_the_risk() -> Result<()>
{
    let scene = scene("job-migration").await?;
    let policy = json!({"dataGate": {
        "contact": "#dba", "migrationStatus": named("migrate", Some(FAILS), json!({})),
    }});
    opened(&scene, policy, Jobs::Granted).await?;
    roll_back(&scene).await?;
    let plan = eventually("the plan has a risk for the data", PATIENCE, async || {
        let status = scene.status("api-5xx").await?;
        let plan = status.plan.context("no plan")?;
        ensure!(
            plan.data_risk.is_some() && status.approvals.is_empty(),
            "not yet"
        );
        Ok(plan)
    })
    .await?;
    let risk = plan.data_risk.context("no risk")?.message;
    ensure!(
        risk.contains("#dba") && risk.contains("exit code 3"),
        "{risk}"
    );
    ensure!(scene.image("api").await? == BAD);
    // The questions about the data are ticked as well.
    let items = plan.rules.checklist.iter();
    let items: Vec<&str> = items.map(|item| item.name.as_str()).collect();
    let approval = json!({
        APPROVED_BY: User::Approver.as_str(), CONFIRM: PRODUCTION, PLAN: plan.digest,
        CHECKLIST: items.join(","), ACCEPT_DATA_RISK: "v1 does not read the new column",
    });
    scene.annotate("api-5xx", User::Approver, approval).await?;
    ends(
        &scene,
        "api-5xx",
        RequestState::Succeeded,
        Reason::Unverified,
    )
    .await?;
    ensure!(jobs(&scene).await?.len() == 1, "it was run again");
    Ok(())
}
