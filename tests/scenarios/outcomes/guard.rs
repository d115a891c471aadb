//! An approval is worth something only while the admission policies that guard it are there, as they were meant.

use anyhow::{Context as _, Result, ensure};
use rollback_api::status::Plan;
use rollback_api::{Reason, RollbackRequest};
use serde_json::{Value, json};
use testkit::scene::{CONTROLLER, PATIENCE, PRODUCTION, condition};
use testkit::{Cluster, Scene, User, eventually, shop};

use crate::expect::{End, PROGRAM, events};
use crate::running::get;

/// One way to do without the guard.
struct Break {
    /// What the request and its Deployment are called.
    name: &'static str,
    kind: &'static str,
    policy: &'static str,
    how: How,
    /// What is said of it.
    says: &'static str,
}

enum How {
    Deleted,
    /// By this JSON patch.
    Altered(Value),
}

fn altered(op: &str, path: &str, value: impl Into<Value>) -> How {
    How::Altered(json!([{"op": op, "path": path, "value": value.into()}]))
}

fn breaks(namespace: &str) -> Vec<Break> {
    let elsewhere = json!({"namespaceSelector": {"matchExpressions": [
        {"key": "kubernetes.io/metadata.name", "operator": "NotIn", "values": [namespace]},
    ]}});
    let validating = "ValidatingAdmissionPolicy";
    let binding = "ValidatingAdmissionPolicyBinding";
    let row = |name, kind, policy, how, says| Break {
        name,
        kind,
        policy,
        how,
        says,
    };
    vec![
        row(
            "no-policy",
            validating,
            "rollback-guard-approval",
            How::Deleted,
            "is missing",
        ),
        row(
            "no-binding",
            binding,
            "rollback-guard-stamps",
            How::Deleted,
            "is missing",
        ),
        row(
            "weak-rule",
            validating,
            "rollback-guard-approval",
            altered("replace", "/spec/validations/0/expression", "true"),
            "(spec.validations[0].expression)",
        ),
        row(
            "only-audit",
            binding,
            "rollback-guard-approval",
            altered("replace", "/spec/validationActions", json!(["Audit"])),
            "(spec.validationActions[0])",
        ),
        row(
            "ignored",
            validating,
            "rollback-guard-stamps",
            altered("replace", "/spec/failurePolicy", "Ignore"),
            "(spec.failurePolicy)",
        ),
        row(
            "elsewhere",
            binding,
            "rollback-guard-approval",
            altered("add", "/spec/matchResources", elsewhere),
            "(spec.matchResources)",
        ),
        row(
            "never",
            validating,
            "rollback-guard-create",
            altered(
                "add",
                "/spec/matchConditions",
                json!([{"name": "never", "expression": "false"}]),
            ),
            "(spec.matchConditions)",
        ),
        row(
            "unstamped",
            "MutatingAdmissionPolicy",
            "rollback-guard-stamp",
            altered("replace", "/spec/matchConstraints/objectSelector", {
                json!({"matchLabels": {"stamped": "please"}})
            }),
            "(spec.matchConstraints.objectSelector)",
        ),
    ]
}

/// In a cluster of its own: the policies are there for everybody.
#[tokio::test]
async fn without_a_guard_no_approval_counts() -> Result<()> {
    let cluster = Cluster::start().await?;
    cluster.install().await?;
    let cluster: &'static Cluster = Box::leak(Box::new(cluster));
    let mut scene = Scene::on(cluster, PROGRAM, "guard").await?;
    scene.start_controller().await?;
    for row in breaks(scene.ns()) {
        holds(&scene, &row).await.with_context(|| {
            let log = scene
                .controller
                .as_ref()
                .map(testkit::ControllerProcess::log);
            format!("{}\n{}", row.name, log.unwrap_or_default())
        })?;
    }
    Ok(())
}

async fn holds(scene: &Scene, row: &Break) -> Result<()> {
    let name = row.name;
    for version in ["v1", "v2"] {
        let version = shop::deployment(name).version(version).replicas(1);
        scene.deploy(version).await?;
    }
    scene.ask(name, name, json!({"previous": {}})).await?;
    let first = scene.plan(name).await?;
    do_away(scene, row).await?;
    let second = eventually("the hole is seen", PATIENCE, async || {
        unguarded(&scene.request(name).await?, row)
    })
    .await?;
    ensure!(second.digest != first.digest, "the digest is the old one");
    said(scene, row).await?;

    // The approval is the best there could be. The API server may still be about to hear of the change.
    eventually("the approval is written", PATIENCE, async || {
        scene
            .approve_plan(name, User::Approver, PRODUCTION, &second.digest)
            .await
    })
    .await?;
    // Long enough for the controller, which looks at once.
    tokio::time::sleep(std::time::Duration::from_secs(1)).await;
    unguarded(&scene.request(name).await?, row)?;
    ensure!(patches(scene, name)? == 0, "the Deployment was written");

    put_back(scene).await?;
    // Nobody touches the request: the policies announce themselves. What was typed meanwhile is for another plan.
    let third = eventually("the plan is renewed", PATIENCE, async || {
        let request = scene.request(name).await?;
        let (_, reason, message) = condition(&request, "Approved").context("no condition")?;
        ensure!(reason == "ApprovalInvalid", "{reason}: {message}");
        ensure!(message.contains("is for another plan"), "{message}");
        let status = request.status.unwrap_or_default();
        ensure!(status.approvals.is_empty(), "{:?}", status.approvals);
        status.plan.context("no plan")
    })
    .await?;
    ensure!(third.digest != first.digest && third.digest != second.digest);
    ensure!(scene.image(name).await?.ends_with(":v2"));
    ensure!(metric(scene, row).await?.ends_with(" 0"));

    scene
        .approve_plan(name, User::Approver, PRODUCTION, &third.digest)
        .await?;
    End::well(Reason::Unverified).check(scene, name).await?;
    ensure!(scene.cluster.audit().is_none() || patches(scene, name)? == 1);
    Ok(())
}

async fn do_away(scene: &Scene, row: &Break) -> Result<()> {
    let kind = row.kind.to_lowercase();
    let patch;
    let command = match &row.how {
        How::Deleted => vec!["delete", &kind, row.policy],
        How::Altered(change) => {
            patch = change.to_string();
            vec!["patch", &kind, row.policy, "--type=json", "-p", &patch]
        }
    };
    scene.cluster.kubectl_ok(User::Admin, &command, "").await?;
    Ok(())
}

/// As an administrator would. What was added by hand only goes when it is replaced.
async fn put_back(scene: &Scene) -> Result<()> {
    let file = testkit::workspace().join("deploy/20-guard.yaml");
    let file = file.to_str().context("no UTF-8")?;
    let apply = ["apply", "--server-side", "--force-conflicts", "-f", file];
    for command in [&apply[..], &["replace", "-f", file]] {
        scene.cluster.kubectl_ok(User::Admin, command, "").await?;
    }
    Ok(())
}

/// The plan, while its condition says that no approval counts, and why.
fn unguarded(request: &RollbackRequest, row: &Break) -> Result<Plan> {
    let (status, reason, said) = condition(request, "Approved").context("no condition")?;
    ensure!(
        status == "False" && reason == "GuardMissing",
        "{status} {reason}: {said}"
    );
    for part in [
        "No approval counts",
        row.kind,
        row.policy,
        row.says,
        "kubectl apply -f deploy/",
    ] {
        ensure!(said.contains(part), "{part:?} is not in {said}");
    }
    let status = request.status.clone().unwrap_or_default();
    ensure!(status.approvals.is_empty(), "{:?}", status.approvals);
    status.plan.context("no plan")
}

/// An Event and a metric say the same.
async fn said(scene: &Scene, row: &Break) -> Result<()> {
    let line = metric(scene, row).await?;
    ensure!(line.ends_with(" 1"), "{line}");
    let request = scene.request(row.name).await?;
    eventually("an Event says so", PATIENCE, async || {
        let events = events(scene, &request).await?;
        let found = events.iter().find(|event| {
            let note = event.note.as_deref().unwrap_or_default();
            event.reason.as_deref() == Some("GuardMissing")
                && event.type_.as_deref() == Some("Warning")
                && note.contains(row.policy)
                && note.contains(row.says)
        });
        found.map(|_| ()).with_context(|| format!("{events:?}"))
    })
    .await
}

async fn metric(scene: &Scene, row: &Break) -> Result<String> {
    let controller = scene.controller.as_ref().context("no controller")?;
    let (_, metrics) = get(controller, "/metrics").await?;
    let series = format!(
        "rollback_guard_hole{{kind=\"{}\",name=\"{}\"}}",
        row.kind, row.policy
    );
    let line = metrics.lines().find(|line| line.starts_with(&series));
    Ok(line.context(series)?.to_owned())
}

/// How often the controller wrote the Deployment, as far as the audit log knows.
fn patches(scene: &Scene, name: &str) -> Result<usize> {
    let Some(audit) = scene.cluster.audit() else {
        return Ok(0);
    };
    let patches = audit.deployment_patches(scene.ns(), name)?;
    Ok(patches
        .iter()
        .filter(|event| event.user == CONTROLLER)
        .count())
}
