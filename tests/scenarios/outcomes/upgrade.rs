//! A cluster is upgraded while requests wait: from an API server that has no policies that write (before 1.36) to one that
//! could have them, to one that has, and back. Nobody is locked out, and what was approved counts.

use anyhow::{Context as _, Result, ensure};
use rollback_api::status::Plan;
use rollback_api::{
    APPROVED_BY, APPROVER_GROUPS, CHECKLIST, CONFIRM, PLAN, Reason, RollbackRequest,
};
use serde_json::{Value, json};
use testkit::cluster::Serves;
use testkit::scene::{PATIENCE, PRODUCTION, TICKED, request};
use testkit::{Cluster, Scene, User, eventually, shop};

use crate::expect::{End, PROGRAM};
use crate::running::{controller, get};

/// What is told of a server that could write who people are.
const APPLY: &str = "kubectl apply -f deploy/21-guard-stamp.yaml";

/// In a cluster of its own, whose API server ends and comes back. It waits for most of its 80 seconds, so it belongs to the
/// full run.
#[tokio::test]
async fn an_upgrade_of_the_cluster_locks_nobody_out() -> Result<()> {
    if !testkit::is_full() {
        eprintln!("SKIPPED: cargo xtask test --full");
        return Ok(());
    }
    let cluster = Cluster::start_serving(Serves::NoMutatingPolicies).await?;
    cluster.install_typed().await?;
    let cluster: &'static Cluster = Box::leak(Box::new(cluster));
    let mut scene = Scene::on(cluster, PROGRAM, "upgraded").await?;
    scene.policy(json!({"approvals": {"required": 2}})).await?;
    scene.start_controller().await?;
    let plans = before(&scene).await?;
    cluster.restart_serving(Serves::Everything).await?;
    could_be_better(&scene, &plans).await?;
    stamped(&scene, &plans).await?;
    if testkit::variant().kubernetes.is_none() {
        cluster.restart_serving(Serves::NoMutatingPolicies).await?;
        and_back(&scene, &plans).await?;
    }
    Ok(())
}

const NAMES: [&str; 4] = ["first", "second", "third", "fourth"];

/// Requests and one approval of each, all typed.
async fn before(scene: &Scene) -> Result<Vec<Plan>> {
    for version in ["v1", "v2"] {
        for name in NAMES {
            scene
                .apply_deployment(shop::deployment(name).version(version).replicas(1))
                .await?;
        }
        let client = scene.client(User::Admin).await?;
        for name in NAMES {
            shop::wait_available(&client, scene.ns(), name).await?;
        }
    }
    let mut plans = Vec::new();
    for name in NAMES {
        let unsaid = request(name, json!([{"name": name, "to": {"previous": {}}}]));
        let mut said = unsaid.clone();
        said["spec"]["requestedBy"] = json!({"username": User::Requester.as_str()});
        if !testkit::typed::is_on() {
            let refused = scene.ask_for(unsaid).await;
            let refused = format!("{:#}", refused.err().context("nobody said who asks")?);
            let typed = "requestedBy: {\"username\": \"rita@broxiva.example\", \"groups\": [\"broxiva:oncall\", \"system:authenticated\"]}";
            ensure!(refused.contains(typed), "{refused}");
        }
        said["spec"]["requestedBy"]["groups"] = json!(["broxiva:oncall", "system:authenticated"]);
        scene.ask_for(said).await?;
        let plan = scene.plan(name).await?;
        told(scene, name, true).await?;
        approve(scene, name, User::Approver, &plan, true).await?;
        counted(scene, name, &plan).await?;
        plans.push(plan);
    }
    stamp_missing(scene, false).await?;
    ensure!(log(scene)?.contains("it has no MutatingAdmissionPolicy v1"));
    ensure!(!log(scene)?.contains(APPLY));
    Ok(plans)
}

/// The server could write who people are, and nobody has told it: that is said, and everything goes on as before.
async fn could_be_better(scene: &Scene, plans: &[Plan]) -> Result<()> {
    if testkit::variant().kubernetes.is_none() {
        stamp_missing(scene, true).await?;
        ensure!(log(scene)?.contains(APPLY));
    }
    for (name, plan) in NAMES.iter().zip(plans) {
        counted(scene, name, plan).await?;
        told(scene, name, true).await?;
    }
    approve(scene, NAMES[0], User::SecondApprover, &plans[0], true).await?;
    ended(scene, NAMES[0]).await
}

/// Now it writes them. The approval that was typed before counts, and the next one says nothing.
async fn stamped(scene: &Scene, plans: &[Plan]) -> Result<()> {
    if testkit::variant().kubernetes.is_some() {
        approve(scene, NAMES[1], User::SecondApprover, &plans[1], true).await?;
        return ended(scene, NAMES[1]).await;
    }
    let file = testkit::workspace().join("deploy/21-guard-stamp.yaml");
    let file = file.to_str().context("no UTF-8")?;
    let apply = ["apply", "--server-side", "-f", file];
    scene.cluster.kubectl_ok(User::Admin, &apply, "").await?;
    stamp_missing(scene, false).await?;
    for (name, plan) in NAMES.iter().zip(plans).skip(1) {
        counted(scene, name, plan).await?;
        told(scene, name, false).await?;
    }
    eventually("who approves is written", PATIENCE, async || {
        approve(scene, NAMES[1], User::SecondApprover, &plans[1], false).await
    })
    .await?;
    ended(scene, NAMES[1]).await
}

/// The cluster goes back: who approves writes it again.
async fn and_back(scene: &Scene, plans: &[Plan]) -> Result<()> {
    for (name, plan) in NAMES.iter().zip(plans).skip(2) {
        counted(scene, name, plan).await?;
        told(scene, name, true).await?;
    }
    if !testkit::typed::is_on() {
        let silent = approve(scene, NAMES[2], User::SecondApprover, &plans[2], false).await;
        let refused = format!("{:#}", silent.err().context("nobody said who approves")?);
        ensure!(
            refused.contains("approver-groups is missing")
                && refused.contains("'broxiva:leads' 'system:authenticated'"),
            "{refused}"
        );
    }
    approve(scene, NAMES[2], User::SecondApprover, &plans[2], true).await?;
    ended(scene, NAMES[2]).await
}

async fn ended(scene: &Scene, name: &str) -> Result<()> {
    End::well(Reason::Unverified)
        .check(scene, name)
        .await
        .map(drop)
}

async fn approve(scene: &Scene, name: &str, user: User, plan: &Plan, typed: bool) -> Result<()> {
    let mut approval = json!({
        APPROVED_BY: user.as_str(), CONFIRM: PRODUCTION, PLAN: plan.digest, CHECKLIST: TICKED,
    });
    if typed {
        approval[APPROVER_GROUPS] = json!("broxiva:leads");
    }
    scene.annotate(name, user, approval).await
}

/// Waits until the message says what to type, with the groups or without.
async fn told(scene: &Scene, name: &str, typed: bool) -> Result<()> {
    eventually("the message says what to type", PATIENCE, async || {
        let request = scene.request(name).await?;
        let (state, message) = ready(&request);
        ensure!(state == "AwaitingApproval", "{state}: {message}");
        let command = "rollback.broxiva.com/approver-groups=\"$(kubectl auth whoami";
        ensure!(message.contains(command) == typed, "{message}");
        Ok(())
    })
    .await
}

fn ready(request: &RollbackRequest) -> (String, String) {
    testkit::scene::condition(request, "Ready")
        .map(|(_, reason, message)| (reason, message))
        .unwrap_or_default()
}

/// One approval is counted, of the plan as it was, and waits for the other.
async fn counted(scene: &Scene, name: &str, plan: &Plan) -> Result<()> {
    eventually("one approval is counted", PATIENCE, async || {
        let request = scene.request(name).await?;
        let annotations = request.metadata.annotations.clone().unwrap_or_default();
        let status: Value = serde_json::to_value(request.status.unwrap_or_default())?;
        ensure!(status["plan"]["digest"] == plan.digest, "another plan");
        let approvals = status["approvals"].as_array().map_or(0, Vec::len);
        ensure!(approvals == 1, "{}", status["approvals"]);
        ensure!(status["approvals"][0]["by"]["groups"][0] == "broxiva:leads");
        ensure!(!annotations.contains_key(APPROVED_BY), "{annotations:?}");
        ensure!(
            !annotations.contains_key(APPROVER_GROUPS),
            "{annotations:?}"
        );
        Ok(())
    })
    .await
}

/// Waits until the metric says whether the server could do better, and that nothing is a hole.
async fn stamp_missing(scene: &Scene, missing: bool) -> Result<()> {
    // The watches come back from an API server that was away one after the other, each after its own pause, and then the
    // guard is tried, again every ten seconds until it is obeyed.
    eventually("the metric says it", PATIENCE * 3, async || {
        let (_, metrics) = get(controller(scene)?, "/metrics").await?;
        let line = format!("rollback_guard_stamp_missing {}", i32::from(missing));
        ensure!(metrics.lines().any(|it| it == line), "no {line}");
        let hole = |line: &&str| line.starts_with("rollback_guard_hole{") && !line.ends_with(" 0");
        ensure!(metrics.lines().find(hole).is_none(), "a hole");
        Ok(())
    })
    .await
}

fn log(scene: &Scene) -> Result<String> {
    Ok(controller(scene)?.log())
}
