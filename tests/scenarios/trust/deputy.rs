//! The controller is nobody's longer arm: who may not patch a Deployment neither asks for nor approves its rollback.

use anyhow::{Context as _, Result, ensure};
use kube::Api;
use rollback_api::{Reason, RequestState, RollbackRequest};
use serde_json::{Value, json};
use testkit::scene::request;
use testkit::{Scene, User};

use crate::stage::{
    APPROVE, PATCH, allow, annotate, approval, bind, counted, create, ends, ensure_writes,
    forbidden, patch_only, requests_of, scene, settle, two_versions, wait_until_may,
};

/// The shapes that a request for Deployment `api` can have.
pub fn shapes() -> [(&'static str, Value); 4] {
    let to = json!({"previous": {}});
    [
        ("named", json!([{"name": "api", "to": to}])),
        (
            "several",
            json!([{"name": "api", "to": to}, {"name": "web", "to": to}]),
        ),
        (
            "selector",
            json!([{"selector": {"matchLabels": {"tier": "front"}}, "to": to}]),
        ),
        ("prefix", json!([{"namePrefix": "ap", "to": to}])),
    ]
}

/// Two Deployments with the label that the selector of [`shapes`] looks for.
pub async fn shop(scene: &Scene) -> Result<()> {
    for name in ["api", "web"] {
        for version in ["v1", "v2"] {
            let front = crate::stage::at_rest(name, version).label("tier", "front");
            scene.deploy(front).await?;
        }
    }
    Ok(())
}

async fn ask(api: &Api<RollbackRequest>, name: &str, targets: Value) -> Result<RollbackRequest> {
    create(api, &request(name, targets)).await
}

#[tokio::test]
async fn a_requester_who_may_not_do_it_by_hand_is_not_heard() -> Result<()> {
    let scene = scene("deputy-ask").await?;
    shop(&scene).await?;
    let people = ["nora-nothing", "wim-web", "ana-api", "ed-edit"];
    let [nora, wim, ana, ed] = people;
    bind(&scene, "rollback-requester", &people).await?;
    allow(&scene, &patch_only(&["web"]), &[wim]).await?;
    allow(&scene, &patch_only(&["api"]), &[ana]).await?;
    bind(&scene, "edit", &[ed]).await?;
    let create_requests = "create rollbackrequests.rollback.broxiva.com";
    for person in people {
        wait_until_may(&scene, person, create_requests, true).await?;
    }
    wait_until_may(&scene, wim, "patch deployments.apps/web", true).await?;
    wait_until_may(&scene, ana, "patch deployments.apps/api", true).await?;
    wait_until_may(&scene, ed, PATCH, true).await?;

    for (person, may) in [(nora, ""), (wim, ""), (ana, "named"), (ed, "*")] {
        let api = requests_of(&scene, person).await?;
        for (shape, targets) in shapes() {
            let name = format!("{person}-{shape}");
            let answer = ask(&api, &name, targets).await;
            if may == "*" || may == shape {
                answer.with_context(|| name.clone())?;
            } else {
                forbidden(answer, "could do by hand").with_context(|| name.clone())?;
            }
        }
    }
    // Who is nobody in particular may not even create requests.
    let olga = scene.requests(User::Outsider).await?;
    let [(_, named), ..] = shapes();
    forbidden(ask(&olga, "olga", named).await, "cannot create resource")?;
    settle(&scene, "later").await?;
    ensure_writes(&scene, 0)
}

#[tokio::test]
async fn an_approver_who_may_not_do_it_by_hand_is_not_heard() -> Result<()> {
    let scene = scene("deputy-approve").await?;
    shop(&scene).await?;
    let people = ["nora-nothing", "wim-web", "ana-api"];
    let [nora, wim, ana] = people;
    bind(&scene, "rollback-approver", &people).await?;
    allow(&scene, &patch_only(&["web"]), &[wim]).await?;
    allow(&scene, &patch_only(&["api"]), &[ana]).await?;
    for person in people {
        wait_until_may(&scene, person, APPROVE, true).await?;
    }
    wait_until_may(&scene, wim, "patch deployments.apps/web", true).await?;
    wait_until_may(&scene, ana, "patch deployments.apps/api", true).await?;
    // Ed may do everything by hand, and is no approver.
    let ed = "ed-edit";
    bind(&scene, "edit", &[ed]).await?;
    bind(&scene, "rollback-requester", &[ed]).await?;
    wait_until_may(&scene, ed, PATCH, true).await?;

    for (shape, targets) in shapes() {
        scene.ask_for(request(shape, targets)).await?;
        let digest = scene.plan(shape).await?.digest;
        for person in [nora, wim, ana, ed] {
            if (person, shape) == (ana, "named") {
                continue;
            }
            let api = requests_of(&scene, person).await?;
            let answer = annotate(&api, shape, &approval(person, &digest)).await;
            let says = if person == ed {
                "may not approve"
            } else {
                "could do by hand"
            };
            forbidden(answer.map_err(Into::into), says)
                .with_context(|| format!("{person} approves {shape}"))?;
        }
        counted(&scene, shape, &[]).await?;
    }
    ensure_writes(&scene, 0)?;
    // By name is enough for one by name.
    let digest = scene.plan("named").await?.digest;
    let api = requests_of(&scene, ana).await?;
    annotate(&api, "named", &approval(ana, &digest)).await?;
    ends(&scene, "named", RequestState::Succeeded, Reason::Unverified).await?;
    ensure_writes(&scene, 1)
}

/// The receiver of alerts may ask for what it could not do, when it says what is bad; a person decides.
#[tokio::test]
async fn whoever_may_trigger_asks_and_a_person_decides() -> Result<()> {
    let scene = scene("deputy-trigger").await?;
    two_versions(&scene, "api").await?;
    let namespace = scene.ns();
    let account = ["create", "serviceaccount", "alerts", "-n", namespace];
    scene.cluster.kubectl_ok(User::Admin, &account, "").await?;
    let robot = format!("system:serviceaccount:{namespace}:alerts");
    let rules = json!([
        {"apiGroups": ["rollback.broxiva.com"], "resources": ["rollbackrequests"], "verbs": ["create", "get", "patch"]},
        {"apiGroups": ["rollback.broxiva.com"], "resources": ["rollbackrequests/trigger"], "verbs": ["trigger"]},
    ]);
    let binding = allow(&scene, &rules, &[&robot]).await?;
    let trigger = "trigger rollbackrequests/trigger.rollback.broxiva.com";
    wait_until_may(&scene, &robot, trigger, true).await?;
    let kubeconfig = scene
        .cluster
        .service_account_kubeconfig(namespace, "alerts", None)
        .await?;
    let config = scene.cluster.config_from(&kubeconfig).await?;
    let api: Api<RollbackRequest> = Api::namespaced(testkit::typed::client(config)?, namespace);
    let bad = scene.image("api").await?;
    let target = json!([{"name": "api", "from": {"image": bad}, "to": {"previous": {}}}]);

    ask(&api, "alert", target.clone()).await?;
    let digest = scene.plan("alert").await?.digest;
    let own = annotate(&api, "alert", &approval(&robot, &digest)).await;
    forbidden(own.map_err(Into::into), "A ServiceAccount cannot approve")?;
    settle(&scene, "later").await?;
    ensure_writes(&scene, 0)?;
    // Whoever approves may act as an account of the namespace, so one person is not enough.
    scene.approve("alert", User::Approver).await?;
    counted(&scene, "alert", &[User::Approver.as_str()]).await?;
    ensure_writes(&scene, 0)?;
    scene.approve("alert", User::SecondApprover).await?;
    ends(&scene, "alert", RequestState::Succeeded, Reason::Unverified).await?;
    ensure_writes(&scene, 1)?;

    // The same alert once more: what is bad does not run any more.
    ask(&api, "again", target.clone()).await?;
    ends(&scene, "again", RequestState::Superseded, Reason::NotLive).await?;

    // What it may no longer do, it may not have had done either.
    scene.deploy(crate::stage::at_rest("api", "v2")).await?;
    scene.policy(json!({"approvals": {"required": 2}})).await?;
    ask(&api, "revoked", target).await?;
    scene.approve("revoked", User::Approver).await?;
    counted(&scene, "revoked", &[User::Approver.as_str()]).await?;
    crate::stage::unbind(&scene, &binding).await?;
    wait_until_may(&scene, &robot, trigger, false).await?;
    scene.approve("revoked", User::SecondApprover).await?;
    let outcome = ends(&scene, "revoked", RequestState::Refused, Reason::Forbidden).await?;
    ensure!(outcome.message.contains(&robot), "{}", outcome.message);
    ensure_writes(&scene, 1)
}
