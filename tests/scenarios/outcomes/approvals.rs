//! Whose word counts, how often, and for which plan.

use anyhow::{Context as _, Result, ensure};
use rollback_api::{APPROVED_BY, CHECKLIST, CONFIRM, PLAN, Reason, RequestState};
use serde_json::{Value, json};
use testkit::scene::{CONTROLLER, PATIENCE, PRODUCTION, TICKED, ready};
use testkit::{Scene, User, eventually};

use crate::expect::{End, scene};
use crate::people::{grant, wait_until_may};

const APPROVE: &str = "approve rollbackrequests/approval.rollback.broxiva.com";

/// Tries to approve and gives back why the API server does not let it happen.
pub async fn refusal(
    scene: &Scene,
    name: &str,
    user: User,
    annotations: Value,
) -> Result<kube::core::Status> {
    match scene.annotate(name, user, annotations.clone()).await {
        Ok(()) => anyhow::bail!("{user:?} wrote {annotations}"),
        Err(error) => match error.downcast::<kube::Error>()? {
            kube::Error::Api(status) => Ok(*status),
            error => Err(error.into()),
        },
    }
}

/// An approval as it is typed.
fn approval(by: &str, phrase: &str, digest: &str) -> Value {
    json!({APPROVED_BY: by, CONFIRM: phrase, PLAN: digest, CHECKLIST: TICKED})
}

/// Waits until so many approvals are counted.
async fn wait_counted(scene: &Scene, name: &str, wanted: usize) -> Result<()> {
    let what = format!("{wanted} approvals of {name} are counted");
    eventually(&what, PATIENCE, async || {
        let counted = scene.status(name).await?.approvals.len();
        ensure!(counted == wanted, "{counted} are");
        Ok(())
    })
    .await
}

/// How often the controller has written this Deployment.
pub fn reverts(scene: &Scene, name: &str) -> Result<Option<usize>> {
    let Some(audit) = scene.cluster.audit() else {
        return Ok(None);
    };
    let patches = audit.deployment_patches(scene.ns(), name)?;
    let ours = patches.iter().filter(|patch| patch.user == CONTROLLER);
    Ok(Some(ours.count()))
}

#[tokio::test]
async fn production_asks_somebody_else() -> Result<()> {
    let scene = scene("four-eyes").await?;
    scene.two_versions("api").await?;
    grant(&scene, "rollback-approver", &[User::Requester]).await?;
    wait_until_may(&scene, User::Requester.as_str(), APPROVE, true).await?;
    scene.ask("api-5xx", "api", json!({"previous": {}})).await?;
    let plan = scene.plan("api-5xx").await?;
    ensure!(plan.rules.four_eyes() && plan.rules.confirm_phrase() == PRODUCTION);

    let own = approval(User::Requester.as_str(), PRODUCTION, &plan.digest);
    let status = refusal(&scene, "api-5xx", User::Requester, own).await?;
    ensure!(status.code == 403 && status.message.contains("Four eyes"));
    let short = approval(User::Approver.as_str(), "ROLLBACK", &plan.digest);
    let status = refusal(&scene, "api-5xx", User::Approver, short).await?;
    ensure!(status.code == 403 && status.message.contains("letter by letter"));

    scene.approve("api-5xx", User::Approver).await?;
    End::well(Reason::Unverified)
        .check(&scene, "api-5xx")
        .await?;
    Ok(())
}

#[tokio::test]
async fn staging_and_development_let_the_requester_approve() -> Result<()> {
    for environment in ["staging", "development"] {
        let scene = scene(environment).await?;
        scene.policy(json!({"environment": environment})).await?;
        scene.two_versions("api").await?;
        grant(&scene, "rollback-approver", &[User::Requester]).await?;
        wait_until_may(&scene, User::Requester.as_str(), APPROVE, true).await?;
        scene.ask("api-5xx", "api", json!({"previous": {}})).await?;
        let plan = scene.plan("api-5xx").await?;
        let long = approval(User::Requester.as_str(), PRODUCTION, &plan.digest);
        let status = refusal(&scene, "api-5xx", User::Requester, long).await?;
        ensure!(status.code == 403 && status.message.contains("phrase ROLLBACK,"));
        scene
            .approve_plan("api-5xx", User::Requester, "ROLLBACK", &plan.digest)
            .await?;
        End::well(Reason::Unverified)
            .check(&scene, "api-5xx")
            .await?;
    }
    Ok(())
}

#[tokio::test]
async fn two_approvals_are_two_people() -> Result<()> {
    let scene = scene("two-people").await?;
    scene.policy(json!({"approvals": {"required": 2}})).await?;
    scene.two_versions("api").await?;
    scene.ask("api-5xx", "api", json!({"previous": {}})).await?;
    let plan = scene.plan("api-5xx").await?;
    scene.approve("api-5xx", User::Approver).await?;
    wait_counted(&scene, "api-5xx", 1).await?;

    // The same person once more: stripped and typed again. It is one person still.
    let nothing = json!({APPROVED_BY: null, CONFIRM: null, PLAN: null, CHECKLIST: null});
    scene.annotate("api-5xx", User::Approver, nothing).await?;
    scene
        .approve_plan("api-5xx", User::Approver, PRODUCTION, &plan.digest)
        .await?;
    eventually("the second try was looked at", PATIENCE, async || {
        let request = scene.request("api-5xx").await?;
        let (state, message) = ready(&request);
        ensure!(state == "AwaitingApproval", "{state}");
        ensure!(message.contains("1 of 2 approvals"), "{message}");
        Ok(())
    })
    .await?;
    wait_counted(&scene, "api-5xx", 1).await?;
    ensure!(scene.image("api").await?.ends_with(":v2"));

    scene.approve("api-5xx", User::SecondApprover).await?;
    End::well(Reason::Unverified)
        .check(&scene, "api-5xx")
        .await?;
    let status = scene.status("api-5xx").await?;
    let who: Vec<&str> = status
        .approvals
        .iter()
        .map(|approval| approval.by.username.as_str())
        .collect();
    let both = [User::Approver.as_str(), User::SecondApprover.as_str()];
    ensure!(who == both, "{who:?}");
    for approval in &status.approvals {
        ensure!(approval.by.groups.iter().any(|g| g == "broxiva:leads"));
    }
    let columns = crate::expect::columns(&scene, "api-5xx").await?;
    ensure!(columns["APPROVED BY"] == both.join(","), "{columns:?}");
    Ok(())
}

#[tokio::test]
async fn approving_twice_does_nothing_more() -> Result<()> {
    let scene = scene("twice").await?;
    scene.two_versions("api").await?;
    scene.ask("api-5xx", "api", json!({"previous": {}})).await?;
    let plan = scene.plan("api-5xx").await?;
    let mut written = 0;
    for _ in 0..5 {
        // The later ones may come after the end, where they are refused, or be no change at all.
        let again = scene.approve_plan("api-5xx", User::Approver, PRODUCTION, &plan.digest);
        written += usize::from(again.await.is_ok());
    }
    ensure!(written > 0, "not even one approval was written");
    End::well(Reason::Unverified)
        .check(&scene, "api-5xx")
        .await?;
    ensure!(scene.status("api-5xx").await?.approvals.len() == 1);
    let reverts = reverts(&scene, "api")?;
    ensure!(reverts.is_none_or(|count| count == 1), "{reverts:?}");
    Ok(())
}

/// An approval is for the rules under which it was given.
#[tokio::test]
async fn a_changed_policy_voids_approvals() -> Result<()> {
    let scene = scene("new-rules").await?;
    scene.policy(json!({"approvals": {"required": 2}})).await?;
    scene.two_versions("api").await?;
    scene.ask("api-5xx", "api", json!({"previous": {}})).await?;
    let old = scene.plan("api-5xx").await?;
    scene.approve("api-5xx", User::Approver).await?;
    wait_counted(&scene, "api-5xx", 1).await?;

    let phrase = "ROLLBACK THE SHOP";
    let rules = json!({"approvals": {"required": 2, "confirmPhrase": phrase}});
    scene.policy(rules).await?;
    let new = eventually("the plan is renewed", PATIENCE, async || {
        let status = scene.status("api-5xx").await?;
        let plan = status.plan.context("no plan")?;
        ensure!(plan.digest != old.digest, "the digest is the old one");
        ensure!(status.approvals.is_empty(), "{:?}", status.approvals);
        Ok(plan)
    })
    .await?;
    ensure!(new.targets == old.targets, "it was resolved again");
    let stale = approval(User::SecondApprover.as_str(), PRODUCTION, &old.digest);
    let status = refusal(&scene, "api-5xx", User::SecondApprover, stale).await?;
    ensure!(status.code == 403 && status.message.contains(&new.digest));

    for user in [User::SecondApprover, User::Approver] {
        ensure!(scene.image("api").await?.ends_with(":v2"));
        scene
            .approve_plan("api-5xx", user, phrase, &new.digest)
            .await?;
        // The mailbox holds one approval at a time.
        eventually("it is counted", PATIENCE, async || {
            let counted = scene.status("api-5xx").await?.approvals;
            let found = counted.iter().any(|a| a.by.username == user.as_str());
            ensure!(found, "{counted:?}");
            Ok(())
        })
        .await?;
    }
    End::well(Reason::Unverified)
        .check(&scene, "api-5xx")
        .await?;
    Ok(())
}

/// A handful of forgeries, each refused by the API server itself and not by us later.
#[tokio::test]
async fn forged_approvals_are_refused_by_the_api_server() -> Result<()> {
    let scene = scene("forged").await?;
    scene.two_versions("api").await?;
    scene.ask("api-5xx", "api", json!({"previous": {}})).await?;
    let digest = scene.plan("api-5xx").await?.digest;
    // They may write the object, but their word is not worth anything.
    grant(
        &scene,
        "rollback-requester",
        &[User::Outsider, User::Approver],
    )
    .await?;
    let patch = "patch rollbackrequests.rollback.broxiva.com";
    wait_until_may(&scene, User::Outsider.as_str(), patch, true).await?;
    let (anna, olga) = (User::Approver.as_str(), User::Outsider.as_str());
    let nothing = format!("sha256:{}", "0".repeat(64));
    let robot = format!("system:serviceaccount:{}:default", scene.ns());
    let cases = [
        (
            User::Outsider,
            approval(olga, PRODUCTION, &digest),
            "may not approve",
        ),
        (
            User::Outsider,
            approval(anna, PRODUCTION, &digest),
            "may not approve",
        ),
        (
            User::Requester,
            approval(anna, PRODUCTION, &digest),
            "may not approve",
        ),
        (
            User::SecondApprover,
            approval(anna, PRODUCTION, &digest),
            "your own user name",
        ),
        (
            User::Approver,
            approval(&robot, PRODUCTION, &digest),
            "your own user name",
        ),
        (
            User::Approver,
            approval(anna, "rollback production", &digest),
            "letter by letter",
        ),
        (
            User::Approver,
            approval(anna, PRODUCTION, &nothing),
            "not the digest of the present plan",
        ),
        (
            User::Approver,
            json!({APPROVED_BY: anna, CONFIRM: PRODUCTION, CHECKLIST: TICKED}),
            "plan is missing",
        ),
        (
            User::Approver,
            json!({APPROVED_BY: anna, CONFIRM: PRODUCTION, PLAN: digest}),
            "incident-documented",
        ),
        (
            User::Approver,
            json!({CONFIRM: PRODUCTION, PLAN: digest}),
            "approved-by is missing",
        ),
    ];
    for (user, annotations, says) in cases {
        let status = refusal(&scene, "api-5xx", user, annotations.clone()).await?;
        ensure!(
            status.code == 403 && status.reason == "Forbidden",
            "{annotations}: {status:?}"
        );
        ensure!(
            status.message.contains(says),
            "{annotations}: {}",
            status.message
        );
    }
    let robot = robot_refusal(&scene, &robot, &digest).await?;
    ensure!(robot.contains("A ServiceAccount cannot approve"), "{robot}");
    let request = scene.wait_for("api-5xx", "AwaitingApproval").await?;
    ensure!(request.status.unwrap_or_default().approvals.is_empty());
    ensure!(scene.image("api").await?.ends_with(":v2"));
    let no = json!({rollback_api::DENIED_BY: anna, rollback_api::DENIED_REASON: "a drill"});
    scene.annotate("api-5xx", User::Approver, no).await?;
    End::badly(RequestState::Denied, Reason::DeniedByApprover)
        .check(&scene, "api-5xx")
        .await?;
    Ok(())
}

/// What a `ServiceAccount` with every role hears when it approves.
async fn robot_refusal(scene: &Scene, robot: &str, digest: &str) -> Result<String> {
    let account = format!("{}:default", scene.ns());
    for role in ["rollback-approver", "edit"] {
        let bind = [
            "create",
            "rolebinding",
            &format!("robot-{role}"),
            &format!("--clusterrole={role}"),
            &format!("--serviceaccount={account}"),
            "-n",
            scene.ns(),
        ];
        scene.cluster.kubectl_ok(User::Admin, &bind, "").await?;
    }
    wait_until_may(scene, robot, APPROVE, true).await?;
    let annotate = [
        "annotate",
        "rbr",
        "api-5xx",
        "-n",
        scene.ns(),
        &format!("--as={robot}"),
        "--as-group=system:serviceaccounts",
        &format!("{APPROVED_BY}={robot}"),
        &format!("{CONFIRM}={PRODUCTION}"),
        &format!("{PLAN}={digest}"),
        &format!("{CHECKLIST}={TICKED}"),
    ];
    let answer = scene.cluster.kubectl(User::Admin, &annotate).await?;
    ensure!(!answer.status.success(), "a ServiceAccount approved");
    Ok(String::from_utf8_lossy(&answer.stderr).into_owned())
}
