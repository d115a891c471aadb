//! Behind a machine there may be the very person who approves: where four eyes are asked for, what a machine asks for takes
//! two different people, unless the policy says that one is enough for that machine.

use anyhow::{Context as _, Result, ensure};
use jiff::Timestamp;
use kube::Api;
use rollback_api::{
    APPROVED_BY, BREAK_GLASS, CONFIRM, PLAN, Reason, RequestState, RollbackPolicy, RollbackRequest,
};
use serde_json::{Value, json};
use testkit::scene::{PATIENCE, PRODUCTION, ready, request};
use testkit::{Scene, User, eventually};

use crate::stage::{
    at_rest, bind, counted, create, ends, ensure_writes, forbidden, requests_of, scene, settle,
    two_versions, wait_until_may,
};

const ANNA: User = User::Approver;
const OMAR: User = User::SecondApprover;
/// Another namespace, in which the approver may have every right.
const FLUX: &str = "system:serviceaccount:flux-system:kustomize-controller";
const RECEIVER: &str = "system:serviceaccount:rollback-system:rollback-receiver";

/// The requests of the namespace as this machine sees them, which may ask and patch.
async fn machine(scene: &Scene, name: &str) -> Result<Api<RollbackRequest>> {
    bind(scene, "rollback-requester", &[name]).await?;
    bind(scene, "edit", &[name]).await?;
    let create = "create rollbackrequests.rollback.broxiva.com";
    wait_until_may(scene, name, create, true).await?;
    wait_until_may(scene, name, crate::stage::PATCH, true).await?;
    played(scene, name, &["system:serviceaccounts"]).await
}

/// The requests of the namespace as somebody in these groups sees them.
async fn played(scene: &Scene, name: &str, groups: &[&str]) -> Result<Api<RollbackRequest>> {
    let mut config = scene.cluster.config(User::Admin).await?;
    config.auth_info.impersonate = Some(name.to_owned());
    let groups = groups.iter().map(|group| (*group).to_owned()).collect();
    config.auth_info.impersonate_groups = Some(groups);
    Ok(Api::namespaced(testkit::typed::client(config)?, scene.ns()))
}

fn of_api(name: &str) -> Value {
    request(name, json!([{"name": "api", "to": {"previous": {}}}]))
}

/// What a request says that waits for people.
pub async fn says(scene: &Scene, name: &str) -> Result<String> {
    eventually("it says how to approve", PATIENCE, async || {
        let (state, message) = ready(&scene.request(name).await?);
        ensure!(message.contains("To approve:"), "{state}: {message}");
        Ok(message)
    })
    .await
}

/// One person is counted and is not enough; the second one is.
async fn takes_two(scene: &Scene, name: &str, who: &[&str], written: usize) -> Result<()> {
    let message = says(scene, name).await?;
    for part in who
        .iter()
        .chain(&["Two different people approve", "0 of 2"])
    {
        ensure!(message.contains(part), "{part:?} is not in {message}");
    }
    let plan = scene.plan(name).await?;
    ensure!(plan.rules.approvals.required == 2, "{:?}", plan.rules);
    scene.approve(name, ANNA).await?;
    counted(scene, name, &[ANNA.as_str()]).await?;
    settle(scene, &format!("after-{name}")).await?;
    ensure_writes(scene, written)?;
    scene.approve(name, OMAR).await?;
    ends(scene, name, RequestState::Succeeded, Reason::Unverified).await?;
    ensure_writes(scene, written + 1)
}

#[tokio::test]
async fn a_service_account_of_another_namespace_and_one_person_are_not_two_people() -> Result<()> {
    let scene = scene("machine-account").await?;
    two_versions(&scene, "api").await?;
    create(&machine(&scene, FLUX).await?, &of_api("from-git")).await?;
    takes_two(&scene, "from-git", &[FLUX], 0).await
}

#[tokio::test]
async fn a_node_and_a_group_of_machines_are_machines() -> Result<()> {
    let scene = scene("machine-node").await?;
    two_versions(&scene, "api").await?;
    let node = "system:node:worker-1";
    create(&machine(&scene, node).await?, &of_api("node")).await?;
    ensure!(says(&scene, "node").await?.contains(node));
    // One that is known by its name alone: the API server puts nodes and ServiceAccounts into groups, whoever plays
    // them.
    let scheduler = "system:kube-scheduler";
    machine(&scene, scheduler).await?;
    let alone = played(&scene, scheduler, &[]).await?;
    create(&alone, &of_api("named")).await?;
    ensure!(says(&scene, "named").await?.contains(scheduler));
    // A person whom somebody has put into the group of all ServiceAccounts.
    create(&machine(&scene, "robot").await?, &of_api("grouped")).await?;
    takes_two(&scene, "grouped", &["robot"], 0).await
}

#[tokio::test]
async fn a_person_still_needs_one_other() -> Result<()> {
    let scene = scene("machine-person").await?;
    two_versions(&scene, "api").await?;
    scene.ask("by-rita", "api", json!({"previous": {}})).await?;
    let message = says(&scene, "by-rita").await?;
    ensure!(
        message.contains("0 of 1") && !message.contains("Two different"),
        "{message}"
    );
    scene.approve("by-rita", ANNA).await?;
    ends(
        &scene,
        "by-rita",
        RequestState::Succeeded,
        Reason::Unverified,
    )
    .await?;
    ensure_writes(&scene, 1)
}

#[tokio::test]
async fn for_a_machine_that_the_policy_names_one_person_is_enough() -> Result<()> {
    let scene = scene("machine-named").await?;
    two_versions(&scene, "api").await?;
    let flux = machine(&scene, FLUX).await?;
    create(&flux, &of_api("before")).await?;
    ensure!(scene.plan("before").await?.rules.approvals.required == 2);
    scene.approve("before", ANNA).await?;
    counted(&scene, "before", &[ANNA.as_str()]).await?;

    // Naming it asks for fewer approvals, so it is not for every policy admin.
    let paul = "paul-policy";
    bind(&scene, "rollback-policy-admin", &[paul]).await?;
    let create_policies = "create rollbackpolicies.rollback.broxiva.com";
    wait_until_may(&scene, paul, create_policies, true).await?;
    let policies: Api<RollbackPolicy> =
        Api::namespaced(crate::stage::client_of(&scene, paul).await?, scene.ns());
    let rules: RollbackPolicy = serde_json::from_value(json!({
        "apiVersion": "rollback.broxiva.com/v1alpha1", "kind": "RollbackPolicy",
        "metadata": {"name": "default"}, "spec": {"approvals": {"trustedMachines": [FLUX]}},
    }))?;
    let answer = policies
        .create(&kube::api::PostParams::default(), &rules)
        .await;
    forbidden(answer.map_err(Into::into), "approvals.trustedMachines")?;
    bind(&scene, "rollback-relax-approvals", &[paul]).await?;
    let relax = "relax rollbackpolicies/approvals.rollback.broxiva.com";
    wait_until_may(&scene, paul, relax, true).await?;
    policies
        .create(&kube::api::PostParams::default(), &rules)
        .await?;

    // The rules are others: what was approved before does not count, and one approval is enough now.
    eventually("the plan is renewed", PATIENCE, async || {
        // A policy wakes nobody; a look is taken when the request changes.
        scene
            .annotate(
                "before",
                User::Requester,
                json!({"example.com/look": Timestamp::now()}),
            )
            .await?;
        let required = scene.plan("before").await?.rules.approvals.required;
        ensure!(required == 1, "{required} are required");
        Ok(())
    })
    .await?;
    ensure_writes(&scene, 0)?;
    scene.approve("before", OMAR).await?;
    ends(
        &scene,
        "before",
        RequestState::Succeeded,
        Reason::Unverified,
    )
    .await?;
    // Another machine is not named.
    scene.deploy(at_rest("api", "v3")).await?;
    let other = "system:serviceaccount:flux-system:helm-controller";
    create(&machine(&scene, other).await?, &of_api("other")).await?;
    takes_two(&scene, "other", &[other], 1).await
}

#[tokio::test]
async fn an_alert_raised_by_hand_and_one_person_are_not_two_people() -> Result<()> {
    let scene = scene("machine-alert").await?;
    scene
        .policy(json!({"triggers": {"sources": ["alertmanager"]}}))
        .await?;
    two_versions(&scene, "api").await?;
    scene
        .grant_to("rollback-receiver", "rollback-trigger")
        .await?;
    let trigger = "trigger rollbackrequests/trigger.rollback.broxiva.com";
    wait_until_may(&scene, RECEIVER, trigger, true).await?;
    let alert = async |name: &str| -> Result<Value> {
        let mut request = request(
            name,
            json!([{
                "name": "api", "from": {"image": scene.image("api").await?}, "to": {"previous": {}},
            }]),
        );
        request["spec"]["trigger"] = json!({
            "source": "alertmanager", "alert": "Down", "id": name, "startedAt": Timestamp::now(),
        });
        Ok(request)
    };
    let receiver = played(&scene, RECEIVER, &["system:serviceaccounts"]).await?;
    create(&receiver, &alert("alert").await?).await?;
    takes_two(&scene, "alert", &[RECEIVER, "alertmanager"], 0).await?;
    // Somebody who may trigger and says that an alert did.
    scene.deploy(at_rest("api", "v3")).await?;
    let tim = "tim-triggers";
    bind(&scene, "rollback-trigger", &[tim]).await?;
    wait_until_may(&scene, tim, trigger, true).await?;
    let by_hand = requests_of(&scene, tim).await?;
    create(&by_hand, &alert("by-hand").await?).await?;
    takes_two(&scene, "by-hand", &[tim, "alertmanager"], 1).await
}

#[tokio::test]
async fn who_breaks_the_glass_needs_nobody_else() -> Result<()> {
    let scene = scene("machine-glass").await?;
    scene
        .policy(json!({"approvals": {"breakGlass": true}}))
        .await?;
    two_versions(&scene, "api").await?;
    bind(&scene, "rollback-break-glass", &[ANNA.as_str()]).await?;
    let glass = "break-glass rollbackrequests/break-glass.rollback.broxiva.com";
    wait_until_may(&scene, ANNA.as_str(), glass, true).await?;
    create(&machine(&scene, FLUX).await?, &of_api("from-git")).await?;
    let digest = scene.plan("from-git").await?.digest;
    let alone = json!({
        APPROVED_BY: ANNA.as_str(), CONFIRM: PRODUCTION, PLAN: digest,
        BREAK_GLASS: "shop is down, nobody else on call answers since 03:10",
    });
    scene.annotate("from-git", ANNA, alone).await?;
    ends(
        &scene,
        "from-git",
        RequestState::Succeeded,
        Reason::Unverified,
    )
    .await?;
    let approvals = scene.status("from-git").await?.approvals;
    let alone = approvals.first().context("no approval")?;
    ensure!(approvals.len() == 1 && alone.break_glass.is_some());
    ensure_writes(&scene, 1)
}
