//! What would be done, and what would be asked of whom, before anybody has asked for anything.

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use testkit::User::{Admin, Approver, Outsider, Requester};
use testkit::scene::PATIENCE;
use testkit::shop::deployment;
use testkit::{Scene, eventually};

use super::stage::{APPROVAL, WHY, run, scene};

/// Somebody who may look at Deployments and requests, and at nothing that is around them.
const NARROW: &str = "pat@broxiva.example";

/// The words of `create` for the newest other revision of api.
fn words(more: &[&'static str]) -> Vec<&'static str> {
    [
        &["plan", "deployment/api", "--to", "previous"],
        &WHY[..],
        more,
    ]
    .concat()
}

#[tokio::test]
async fn a_plan_is_the_one_that_the_controller_makes_and_nothing_is_written() -> Result<()> {
    let scene = scene("planned").await?;
    scene
        .policy(json!({"approvals": {"required": 2}, "verification": {"onFailure": "TryOlder"}}))
        .await?;
    for version in ["v1", "v2", "v3"] {
        scene.deploy(deployment("api").version(version)).await?;
    }
    let drafted = run(&scene, Requester, &words(&["-o", "json"])).await?;
    let drafted = drafted.ended(0)?.json()?;
    ensure!(
        drafted["installed"] == true && drafted["unseen"] == json!([]),
        "{drafted}"
    );
    let requests = scene.requests(Admin).await?;
    ensure!(
        requests
            .list(&kube::api::ListParams::default())
            .await?
            .items
            .is_empty()
    );

    scene.ask("api-5xx", "api", json!({"previous": {}})).await?;
    let plan = serde_json::to_value(scene.plan("api-5xx").await?)?;
    same(&drafted, &plan)?;
    // The same words make the request that was planned.
    let stored = run(&scene, Requester, &["plan", "api-5xx", "-o", "json"]).await?;
    let stored = stored.ended(0)?.json()?;
    ensure!(stored["request"] == "api-5xx", "{stored}");
    same(&stored, &plan)?;

    let said = run(&scene, Requester, &words(&[])).await?.ended(0)?;
    said.prints(&[
        "nothing was written",
        "2 different people approve, not who asked",
        "revision 3 -> revision 2 (v2)",
        "if it does not do",
        "Phrase           ROLLBACK PRODUCTION",
        "rita@broxiva.example: may ask, may not approve (you lack approve on rollbackrequests/approval)",
        "Only the controller can tell:",
        "nobody can approve a draft",
    ])?;
    run(&scene, Approver, &["plan", "api-5xx"])
        .await?
        .ended(0)?
        .prints(&[
            "may approve what others ask for",
            "kubectl rollback status api-5xx",
        ])?;
    narrow(&scene).await
}

/// That the draft is the plan, as far as a draft goes.
fn same(drafted: &Value, plan: &Value) -> Result<()> {
    for part in ["targets", "rules"] {
        let (draft, plan) = (&drafted["plan"][part], &plan[part]);
        ensure!(draft == plan, "{part}: {draft}\nand not\n{plan}");
    }
    ensure!(drafted["asked"]["approvals"] == 2, "{drafted}");
    Ok(())
}

/// Who may not look at what is around a Deployment is told what the plan says nothing of.
async fn narrow(scene: &Scene) -> Result<()> {
    let role = json!({"apiVersion": "v1", "kind": "List", "items": [
        {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role",
         "metadata": {"name": "narrow", "namespace": scene.ns()}, "rules": [
            {"apiGroups": ["apps"], "resources": ["deployments", "replicasets"], "verbs": ["get", "list"]},
            {"apiGroups": ["rollback.broxiva.com"], "resources": ["*"], "verbs": ["get", "list"]},
         ]},
        {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding",
         "metadata": {"name": "narrow", "namespace": scene.ns()},
         "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "narrow"},
         "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": NARROW}]},
    ]});
    let apply = ["apply", "-f", "-"];
    scene
        .cluster
        .kubectl_ok(Admin, &apply, &role.to_string())
        .await?;
    let words = words(&["--as", NARROW, "-o", "json"]);
    let drafted = eventually("the role is known", PATIENCE, async || {
        run(scene, Admin, &words).await?.ended(0)?.json()
    })
    .await?;
    let unseen = [
        "HorizontalPodAutoscalers",
        "PodDisruptionBudgets",
        "ResourceQuotas",
    ];
    ensure!(drafted["unseen"] == json!(unseen), "{drafted}");
    let text = words.split_last_chunk::<2>().context("too few words")?.0;
    run(scene, Admin, text).await?.ended(0)?.prints(&[
        "You may not look at HorizontalPodAutoscalers, PodDisruptionBudgets, ResourceQuotas",
    ])?;
    Ok(())
}

#[tokio::test]
async fn without_a_plan_it_says_how_the_request_would_end() -> Result<()> {
    let scene = scene("unplanned").await?;
    scene.deploy(deployment("api").version("v1")).await?;
    let ended = run(&scene, Outsider, &words(&["-o", "json"])).await?;
    let ended = ended.ended(3)?.json()?;
    ensure!(
        ended["ending"]["reason"] == "NoHistory" && ended["plan"].is_null(),
        "{ended}"
    );
    let message = ended["ending"]["message"]
        .as_str()
        .context("no message")?
        .to_owned();
    let said = run(&scene, Outsider, &words(&[])).await?.ended(3)?;
    said.prints(&["There would be no plan: Refused (NoHistory)", &message])?;
    // The controller says the same.
    scene.ask("api-5xx", "api", json!({"previous": {}})).await?;
    let (_, outcome) = scene.wait_for_end("api-5xx").await?;
    ensure!(outcome.reason.as_str() == "NoHistory", "{outcome:?}");
    ensure!(
        outcome
            .message
            .contains(message.split('.').next().unwrap_or_default()),
        "{outcome:?}"
    );
    let stranger = words(&["--as", "stranger@broxiva.example"]);
    run(&scene, Admin, &stranger)
        .await?
        .ended(6)?
        .complains(&["You may not do that"])?;
    run(&scene, Outsider, &["plan"])
        .await?
        .ended(2)?
        .complains(&["or the name of a request"])?;
    run(&scene, Outsider, &["plan", "nothing"])
        .await?
        .ended(1)?
        .complains(&[
            "There is no request nothing",
            "kubectl rollback plan nothing --to previous",
        ])?;
    run(
        &scene,
        Outsider,
        &["plan", "deployment/nothing", "--to", "previous"],
    )
    .await?
    .ended(3)?
    .prints(&["DeploymentNotFound"])?;
    Ok(())
}

#[tokio::test]
async fn what_would_be_asked_of_whom_is_said_before_anybody_asks() -> Result<()> {
    let scene = scene("checked").await?;
    scene.deploy(deployment("api").version("v1")).await?;
    run(&scene, Requester, &["policy", "check", "api"])
        .await?
        .ended(0)?
        .prints(&[
            "there is no RollbackPolicy, so the rules of production hold",
            "Approvals        1, not by who asked",
            "stakeholders-notified",
            "may not approve (you lack approve on rollbackrequests/approval)",
        ])?;
    let flux = json!({"metadata": {"labels": {
        "kustomize.toolkit.fluxcd.io/name": "shop", "kustomize.toolkit.fluxcd.io/namespace": "flux-system",
    }}});
    scene.patch_deployment("api", flux).await?;
    scene
        .policy(json!({
            "environment": "staging", "approvals": {"required": 1, "breakGlass": true},
            "freezeWindows": [{"name": "always", "schedule": "* * * * *", "durationMinutes": 60}],
            "dataGate": {"unknown": "Block", "contact": "the database team"}, "triggers": {"paused": true},
        }))
        .await?;
    let words = [
        "policy",
        "check",
        "deployment/api",
        "--category",
        "Security",
    ];
    run(&scene, Approver, &words).await?.ended(0)?.prints(&[
        "Staging",
        "because of Security",
        "Frozen           now, by the window always until",
        "Freeze window    always: * * * * * (UTC) for 60 minutes",
        "wait until an approver accepts the risk; ask the database team",
        "Flux Kustomization flux-system/shop: kept from undoing the rollback, or refused where that cannot be done",
        "Break-glass      allowed",
        "paused",
        "anna@broxiva.example: may not ask, may approve",
    ])?;
    let words = [&words[..], &["-o", "json"]].concat();
    let checked = run(&scene, Approver, &words).await?.ended(0)?.json()?;
    ensure!(checked["asked"]["you"]["mayApprove"] == true, "{checked}");
    ensure!(checked["asked"]["environment"] == "staging", "{checked}");
    ensure!(
        checked["owners"] == json!(["Flux Kustomization flux-system/shop"]),
        "{checked}"
    );
    let hurried = ["policy", "check", "--urgency", "Immediate", "-o", "json"];
    let hurried = run(&scene, Requester, &hurried).await?.ended(0)?.json()?;
    ensure!(
        hurried["urgencyRefused"] == true && hurried["workload"].is_null(),
        "{hurried}"
    );
    run(&scene, Outsider, &["policy", "check", "api"])
        .await?
        .ended(0)?
        .prints(&["may not ask, may not approve"])?;
    run(&scene, Requester, &["policy", "check", "nothing"])
        .await?
        .ended(1)?
        .complains(&["not found"])?;
    Ok(())
}

#[tokio::test]
async fn a_rollback_is_undone_by_its_name() -> Result<()> {
    let scene = scene("restore").await?;
    scene.two_versions("api").await?;
    scene
        .roll_back("api-5xx", "api", json!({"previous": {}}))
        .await?;
    ensure!(scene.image("api").await?.ends_with("v1"));

    // Nobody is there to be asked why.
    run(&scene, Requester, &["restore", "api-5xx"])
        .await?
        .ended(2)?
        .complains(&[
            "To be undone: api-5xx",
            "goes back to what there was before api-5xx",
            "Say why",
        ])?;
    let why = [
        "--reason",
        "v1 loses orders",
        "--name",
        "undo",
        "-o",
        "json",
    ];
    let dry = [&["restore", "api-5xx", "--dry-run"], &why[..]].concat();
    let dry = run(&scene, Requester, &dry).await?.ended(0)?.json()?;
    ensure!(dry["spec"]["reason"]["category"] == "ErrorRate", "{dry}");
    let words = [&["restore", "api-5xx", "deployment/api"], &why[..]].concat();
    let made = run(&scene, Requester, &words).await?.ended(0)?.json()?;
    let backup = made["spec"]["targets"][0]["to"]["backup"].as_str();
    ensure!(backup.is_some_and(|name| !name.is_empty()), "{made}");
    let words = [&["approve", "undo", "--wait"], &APPROVAL[..]].concat();
    run(&scene, Approver, &words).await?.ended(0)?;
    ensure!(scene.image("api").await?.ends_with("v2"));
    run(&scene, Requester, &["restore", "nothing", "--reason", "x"])
        .await?
        .ended(1)?
        .complains(&["not found"])?;
    let words = ["restore", "api-5xx", "web", "--reason", "x"];
    run(&scene, Requester, &words)
        .await?
        .ended(1)?
        .complains(&["has no backup of what you name"])?;
    // Who was behind it is in the history.
    let history = run(&scene, Requester, &["history", "api", "-o", "json"]).await?;
    let history = history.ended(0)?.json()?;
    let away: Vec<&Value> = history["revisions"]
        .as_array()
        .context("no list")?
        .iter()
        .flat_map(|it| it["rolledBackBy"].as_array().into_iter().flatten())
        .collect();
    let by = away
        .iter()
        .find(|it| it["request"] == "api-5xx")
        .context("nobody rolled back")?;
    ensure!(by["askedBy"] == "rita@broxiva.example", "{by}");
    ensure!(by["approvedBy"] == json!(["anna@broxiva.example"]), "{by}");
    run(&scene, Requester, &["history", "api"])
        .await?
        .ended(0)?
        .prints(&[
            "rolled back by api-5xx (rita@broxiva.example, approved by anna@broxiva.example)",
        ])?;
    Ok(())
}
