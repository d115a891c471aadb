//! What a Job of the policy runs, and as whom, stands in the plan before anybody approves, and that runs and nothing else.

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::ServiceAccount;
use kube::api::{ListParams, PostParams};
use kube::{Api, ResourceExt};
use rollback_api::policy::Side;
use rollback_api::{Reason, RequestState};
use serde_json::{Value, json};
use testkit::scene::CONTROLLER;
use testkit::shop::fake_node_toleration;
use testkit::{Scene, User};

use crate::machines::says;
use crate::stage::{at_rest, ends, ensure_writes, scene, two_versions, wait_until_may};

const BAD: &str = "registry.broxiva.example/api:v2";
const OLD: &str = "registry.broxiva.example/api:v1";
const TOOL: &str = "job-ok:1";

/// A Job whose only container has these fields, as this `ServiceAccount` if one is given.
fn job(name: &str, container: &Value, account: Option<&str>, image_of: Option<&str>) -> Value {
    let mut pod = json!({
        "containers": [container],
        "nodeSelector": {"testkit.broxiva.com/node": "fake"},
        "tolerations": [fake_node_toleration()],
    });
    if let Some(account) = account {
        pod["serviceAccountName"] = json!(account);
    }
    let mut job = json!({"name": name, "timeoutSeconds": 60, "podSpec": pod});
    if let Some(version) = image_of {
        job["imageOf"] = json!({"version": version, "container": "app"});
    }
    job
}

async fn opened(scene: &Scene, policy: Value) -> Result<()> {
    scene.grant("rollback-run-jobs").await?;
    wait_until_may(scene, CONTROLLER, "create jobs.batch", true).await?;
    let account = ServiceAccount {
        metadata: serde_json::from_value(json!({"name": "migrator"}))?,
        ..ServiceAccount::default()
    };
    let accounts: Api<ServiceAccount> =
        Api::namespaced(scene.client(User::Admin).await?, scene.ns());
    accounts.create(&PostParams::default(), &account).await?;
    scene.policy(policy).await?;
    two_versions(scene, "api").await
}

/// The `ServiceAccount` and the images of the Jobs, by their names in the policy.
async fn run(scene: &Scene) -> Result<Vec<(String, String, Vec<String>)>> {
    let api: Api<Job> = Api::namespaced(scene.client(User::Admin).await?, scene.ns());
    let mut found = Vec::new();
    for job in api.list(&ListParams::default()).await?.items {
        let name = job.name_any();
        let name = name.trim_start_matches("rollback-");
        let name = name.rsplit_once('-').context("a name")?.0.to_owned();
        let pod = job
            .spec
            .and_then(|spec| spec.template.spec)
            .context("no pod")?;
        let images = pod.containers.into_iter().filter_map(|one| one.image);
        found.push((
            name,
            pod.service_account_name.unwrap_or_default(),
            images.collect(),
        ));
    }
    found.sort();
    Ok(found)
}

#[tokio::test]
async fn who_approves_reads_what_runs_and_as_whom_and_that_runs() -> Result<()> {
    let scene = scene("job-identity").await?;
    let empty = json!({"name": "main"});
    let tool = json!({"name": "main", "image": TOOL});
    let policy = json!({"hooks": {
        "preRollback": [
            job("dump", &empty, Some("migrator"), Some("Newer")),
            job("check", &empty, None, Some("Older")),
            job("drain", &tool, None, None),
        ],
    }});
    opened(&scene, policy).await?;
    scene.ask("api-5xx", "api", json!({"previous": {}})).await?;
    let plan = scene.plan("api-5xx").await?;
    let accounts: Vec<_> = plan
        .rules
        .jobs
        .iter()
        .map(|rule| rule.service_account.as_deref().unwrap_or_default())
        .collect();
    ensure!(
        accounts == ["migrator", "default", "default"],
        "{accounts:?}"
    );
    let message = says(&scene, "api-5xx").await?;
    for sentence in [
        format!(
            "PreRollback Job dump runs as ServiceAccount migrator with {BAD} (container app of the newer version)."
        ),
        format!(
            "PreRollback Job check runs as ServiceAccount default with {OLD} (container app of the older version)."
        ),
        format!("PreRollback Job drain runs as ServiceAccount default with {TOOL}."),
    ] {
        ensure!(
            message.contains(&sentence),
            "{sentence:?} is not in {message}"
        );
    }
    scene.approve("api-5xx", User::Approver).await?;
    ends(
        &scene,
        "api-5xx",
        RequestState::Succeeded,
        Reason::Unverified,
    )
    .await?;
    let ran = |name: &str, account: &str, image: &str| {
        (name.to_owned(), account.to_owned(), vec![image.to_owned()])
    };
    let expected = [
        ran("check", "default", OLD),
        ran("drain", "default", TOOL),
        ran("dump", "migrator", BAD),
    ];
    let found = run(&scene).await?;
    ensure!(found == expected, "{found:?}");
    let reports = scene.artifacts("incident", "api-5xx").await?;
    let report = format!("{:?}", reports.first().context("no report")?.data);
    ensure!(
        report.contains("runs as ServiceAccount migrator with"),
        "{report}"
    );
    Ok(())
}

/// The container that the Job takes its image from is the same in both versions, so the plan says it beside what changes.
#[tokio::test]
async fn an_image_that_does_not_change_is_in_the_plan_too() -> Result<()> {
    let scene = scene("job-sidecar").await?;
    let mut of_sidecar = job(
        "dump",
        &json!({"name": "main"}),
        Some("migrator"),
        Some("Newer"),
    );
    of_sidecar["imageOf"]["container"] = json!("sidecar");
    opened(&scene, json!({"hooks": {"preRollback": [of_sidecar]}})).await?;
    let sidecar = json!([{"name": "sidecar", "image": TOOL}]);
    for version in ["v3", "v4"] {
        let version = at_rest("api", version);
        scene
            .deploy(version.set("/spec/template/spec/initContainers", sidecar.clone()))
            .await?;
    }
    scene.ask("api-5xx", "api", json!({"previous": {}})).await?;
    let plan = scene.plan("api-5xx").await?;
    let images = &plan.targets[0].job_images;
    ensure!(
        images.len() == 1
            && images[0].version == Side::Newer
            && images[0].image.as_deref() == Some(TOOL),
        "{images:?}"
    );
    let message = says(&scene, "api-5xx").await?;
    ensure!(
        message.contains(&format!(
            "with {TOOL} (container sidecar of the newer version)"
        )),
        "{message}"
    );
    scene.approve("api-5xx", User::Approver).await?;
    ends(
        &scene,
        "api-5xx",
        RequestState::Succeeded,
        Reason::Unverified,
    )
    .await?;
    ensure!(run(&scene).await?[0].2 == [TOOL]);
    Ok(())
}

/// Whoever deploys another image after the plan gets it neither rolled back nor run.
#[tokio::test]
async fn an_image_that_came_after_the_plan_runs_in_no_job() -> Result<()> {
    let scene = scene("job-later").await?;
    let dump = job(
        "dump",
        &json!({"name": "main"}),
        Some("migrator"),
        Some("Newer"),
    );
    opened(&scene, json!({"hooks": {"preRollback": [dump]}})).await?;
    scene.ask("api-5xx", "api", json!({"previous": {}})).await?;
    let digest = scene.plan("api-5xx").await?.digest;
    scene.deploy(at_rest("api", "miner")).await?;
    // It may have ended by then, and then nobody can approve it any more.
    let approval = crate::stage::approval(User::Approver.as_str(), &digest);
    let _ = scene.annotate("api-5xx", User::Approver, approval).await;
    let (_, outcome) = scene.wait_for_end("api-5xx").await?;
    ensure!(outcome.result == RequestState::Superseded, "{outcome:?}");
    ensure!(run(&scene).await?.is_empty());
    ensure_writes(&scene, 0)
}

/// With which images it runs is too much to be told: it is said before anybody approves, and it does not run, although
/// the API server would take it.
#[tokio::test]
async fn a_job_whose_account_cannot_be_told_does_not_run() -> Result<()> {
    let scene = scene("job-untold").await?;
    let mut odd = job("dump", &json!({}), None, None);
    let container = |number: usize| json!({"name": format!("main-{number}"), "image": TOOL});
    odd["podSpec"]["containers"] = (0..21).map(container).collect();
    opened(&scene, json!({"hooks": {"preRollback": [odd]}})).await?;
    scene.ask("api-5xx", "api", json!({"previous": {}})).await?;
    scene.plan("api-5xx").await?;
    let message = says(&scene, "api-5xx").await?;
    ensure!(
        message.contains("PreRollback Job dump does not run"),
        "{message}"
    );
    scene.approve("api-5xx", User::Approver).await?;
    let outcome = ends(&scene, "api-5xx", RequestState::Refused, Reason::HookVetoed).await?;
    ensure!(
        outcome.message.contains("it was not started"),
        "{outcome:?}"
    );
    ensure!(run(&scene).await?.is_empty());
    ensure_writes(&scene, 0)
}
