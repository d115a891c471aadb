//! An approval is worth something only while the admission policies that guard it are there, as they were meant.

use anyhow::{Context as _, Result, ensure};
use rollback_api::status::Plan;
use rollback_api::{Reason, RollbackRequest};
use serde_json::{Value, json};
use testkit::scene::{CONTROLLER, PATIENCE, PRODUCTION, condition, request};
use testkit::{Cluster, ControllerProcess, Scene, User, eventually, shop};

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
    /// The forged attempt that passes, when there is one that only this policy refuses.
    passes: Option<&'static str>,
}

enum How {
    Deleted,
    /// By this JSON patch.
    Altered(Value),
}

fn altered(op: &str, path: &str, value: impl Into<Value>) -> How {
    How::Altered(json!([{"op": op, "path": path, "value": value.into()}]))
}

fn breaks() -> Vec<Break> {
    // The operator's own namespace is the one in which forged attempts are made.
    let elsewhere = json!({"namespaceSelector": {"matchExpressions": [
        {"key": "kubernetes.io/metadata.name", "operator": "NotIn", "values": ["rollback-system"]},
    ]}});
    let validating = "ValidatingAdmissionPolicy";
    let binding = "ValidatingAdmissionPolicyBinding";
    let row = |name, kind, policy, how, says, passes| Break {
        name,
        kind,
        policy,
        how,
        says,
        passes,
    };
    vec![
        row(
            "no-policy",
            validating,
            "rollback-guard-approval",
            How::Deleted,
            "is missing",
            Some("ValidatingAdmissionPolicy rollback-guard-approval lets a forged approval pass"),
        ),
        row(
            "no-binding",
            binding,
            "rollback-guard-stamps",
            How::Deleted,
            "is missing",
            None,
        ),
        row(
            "weak-rule",
            validating,
            "rollback-guard-approval",
            altered("replace", "/spec/validations/0/expression", "true"),
            "(spec.validations[0].expression)",
            None,
        ),
        row(
            "only-audit",
            binding,
            "rollback-guard-approval",
            altered("replace", "/spec/validationActions", json!(["Audit"])),
            "(spec.validationActions[0])",
            Some("ValidatingAdmissionPolicy rollback-guard-approval lets a forged approval pass"),
        ),
        row(
            "ignored",
            validating,
            "rollback-guard-stamps",
            altered("replace", "/spec/failurePolicy", "Ignore"),
            "(spec.failurePolicy)",
            None,
        ),
        row(
            "elsewhere",
            binding,
            "rollback-guard-approval",
            altered("add", "/spec/matchResources", elsewhere),
            "(spec.matchResources)",
            Some("ValidatingAdmissionPolicy rollback-guard-approval lets a forged approval pass"),
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
            Some(
                "ValidatingAdmissionPolicy rollback-guard-create lets a request that is born approved pass",
            ),
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
    let controller = scene.controller.as_ref().context("no controller")?;
    eventually("the guard was tried", PATIENCE, async || {
        let (_, metrics) = get(controller, "/metrics").await?;
        let tested = "rollback_guard_tested_timestamp_seconds ";
        let line = metrics.lines().find(|line| line.starts_with(tested));
        let line = line.context(tested)?;
        ensure!(!line.ends_with(" 0"), "{line}");
        Ok(())
    })
    .await?;
    for row in breaks() {
        let log = || controller.log();
        holds(&scene, &row)
            .await
            .with_context(|| format!("{}\n{}", row.name, log()))?;
        // Of two policies that refuse the same, the API server tells one.
        let untried = log().contains("could not be tried");
        ensure!(!untried, "not everything was tried: {}", log());
    }
    Ok(())
}

async fn holds(scene: &Scene, row: &Break) -> Result<()> {
    let name = row.name;
    for version in ["v1", "v2"] {
        let version = shop::deployment(name).version(version).replicas(1);
        scene.deploy(version).await?;
    }
    let mut asked = request(name, json!([{"name": name, "to": {"previous": {}}}]));
    // What the controller would forge must not be taken for forged when somebody asks for it.
    asked["spec"]["reason"]["summary"] = json!("rollback-selftest");
    scene.ask_for(asked).await?;
    let first = scene.plan(name).await?;
    let before = passed(scene, row)?;
    do_away(scene, row).await?;
    let second = eventually("the hole is seen", PATIENCE, async || {
        unguarded(&scene.request(name).await?, row)
    })
    .await?;
    ensure!(second.digest != first.digest, "the digest is the old one");
    said(scene, row).await?;
    if row.passes.is_some() {
        eventually("a forged attempt passes", PATIENCE, async || {
            ensure!(passed(scene, row)?.0 > before.0);
            Ok(())
        })
        .await?;
    }

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
        // Approved is absent while an approval is merely waited for, which Ready says.
        let said = condition(&request, "Approved").or_else(|| condition(&request, "Ready"));
        let (_, reason, message) = said.context("no condition")?;
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
    // Between the two the policy was there, but it was not known yet whether it holds.
    ensure!(row.passes.is_none() || passed(scene, row)?.1 > before.1);

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

/// How often the controller has said that the attempt was accepted, and that it is why no approval counts.
fn passed(scene: &Scene, row: &Break) -> Result<(usize, usize)> {
    let log = scene.controller.as_ref().context("no controller")?.log();
    let passes = row.passes.unwrap_or("nothing");
    let said = |what: &str| {
        let lines = log.lines().filter(|line| line.contains(what));
        lines.filter(|line| line.contains(passes)).count()
    };
    Ok((
        said("admission guard self-test FAILED"),
        said("no approval counts"),
    ))
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
    hole(controller, row.kind, row.policy).await
}

async fn hole(controller: &ControllerProcess, kind: &str, policy: &str) -> Result<String> {
    let (_, metrics) = get(controller, "/metrics").await?;
    let series = format!("rollback_guard_hole{{kind=\"{kind}\",name=\"{policy}\"}}");
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

/// The policies mean the controller by its name, so they do not hold one that runs under another.
#[tokio::test]
async fn a_controller_that_the_guard_does_not_mean_notices() -> Result<()> {
    let mut scene = Scene::new(PROGRAM, "impostor").await?;
    scene.two_versions("api").await?;
    scene.ask("api-5xx", "api", json!({"previous": {}})).await?;
    scene.plan("api-5xx").await?;
    let (ns, admin) = (scene.ns().to_owned(), User::Admin);
    let account = ["create", "serviceaccount", "impostor", "-n", &ns];
    let subject = format!("--serviceaccount={ns}:impostor");
    let name = format!("{ns}-impostor");
    let role = "--clusterrole=cluster-admin";
    let bind = ["create", "clusterrolebinding", &name, role, &subject];
    for command in [&account[..], &bind[..]] {
        scene.cluster.kubectl_ok(admin, command, "").await?;
    }
    scene.kubeconfig = scene
        .cluster
        .service_account_kubeconfig(&ns, "impostor", None)
        .await?;
    scene.controller.take().context("no controller")?.kill();
    let impostor = scene.spawn(&[])?;
    let seen = eventually("it notices", PATIENCE, async || {
        let kind = "ValidatingAdmissionPolicy";
        let deployment = hole(&impostor, kind, "rollback-guard-deployment").await?;
        ensure!(deployment.ends_with(" 1"), "{deployment}");
        for holding in ["approval", "create", "spec", "denial", "cancel", "artifact"] {
            let line = hole(&impostor, kind, &format!("rollback-guard-{holding}")).await?;
            ensure!(line.ends_with(" 0"), "{line}");
        }
        let says =
            "rollback-guard-deployment lets a change of a Deployment that is no rollback pass";
        ensure!(impostor.log().contains(says));
        Ok(())
    })
    .await;
    let unbind = ["delete", "clusterrolebinding", &name];
    scene.cluster.kubectl_ok(admin, &unbind, "").await?;
    seen.with_context(|| impostor.log())
}
