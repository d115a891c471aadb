//! Somebody lifts a quarantine.

use std::fmt::Write as _;

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::rbac::v1::{Role, RoleBinding};
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, Client, ResourceExt};
use rollback_api::ledger::Verdict;
use rollback_api::{LIFT, LIFTED_BY, RevisionLedger};
use serde_json::{Value, json};
use testkit::scene::PATIENCE;
use testkit::{Scene, User, eventually};

use crate::stage::{
    APP, back_to, digest, entry_of, good, ledger_name, scene, version, wait_for_entry,
};

/// What the API server says before each message of the guard.
const DENIED: &str = "revisionledgers.rollback.broxiva.com \"deployment-api\" is forbidden: ValidatingAdmissionPolicy 'rollback-guard-ledger' with binding 'rollback-guard-ledger' denied request: ";

/// There were versions 0, 1 and 2; 2 was rolled back, and 1 runs. Gives the digest of 1, and 2.
async fn with_quarantine(name: &str) -> Result<(Scene, String, Value)> {
    let scene = scene(name, 0).await?;
    good(&scene, version("v0")).await?;
    let v1 = good(&scene, version("v1")).await?;
    let v2 = good(&scene, version("v2")).await?;
    back_to(&scene, "api-5xx", json!({"previous": {}})).await?;
    // What the recorder has to say about it is said.
    wait_for_entry(&scene, &v1, "it runs", |e| e.available_since.is_some()).await?;
    let entry = entry_of(&scene, &v2).await?;
    ensure!(entry.verdict == Verdict::Bad, "{entry:?}");
    Ok((scene, digest(&v1), v2))
}

/// Annotates the ledger, as `kubectl annotate` does.
async fn annotate(client: Client, scene: &Scene, patch: Value) -> Result<(), kube::Error> {
    let api: Api<RevisionLedger> = Api::namespaced(client, scene.ns());
    api.patch(
        &ledger_name(),
        &PatchParams::default(),
        &Patch::Merge(&patch),
    )
    .await
    .map(drop)
}

fn lift(digest: &str, by: &str) -> Value {
    json!({"metadata": {"annotations": {LIFT: digest, LIFTED_BY: by}}})
}

/// To which tag `previous` would go.
async fn previous(scene: &Scene, request: &str) -> Result<String> {
    let target = json!([{"name": APP, "to": {"previous": {}}}]);
    let mut wish = testkit::scene::request(request, target);
    wish["spec"]["dryRun"] = json!(true);
    scene.ask_for(wish).await?;
    let (request, _) = scene.wait_for_end(request).await?;
    let plan = request.status.and_then(|status| status.plan);
    let target = plan
        .context("no plan")?
        .targets
        .pop()
        .context("no target")?;
    let image = target
        .images
        .into_iter()
        .next()
        .and_then(|change| change.to);
    let image = image.context("no image changes")?;
    Ok(image.rsplit_once(':').context("no tag")?.1.to_owned())
}

#[tokio::test]
async fn an_approver_lifts_a_quarantine() -> Result<()> {
    let (scene, _, v2) = with_quarantine("lift").await?;
    assert_eq!(previous(&scene, "before").await?, "v0");
    let anna = User::Approver;
    annotate(
        scene.client(anna).await?,
        &scene,
        lift(&digest(&v2), anna.as_str()),
    )
    .await?;
    let entry = wait_for_entry(&scene, &v2, "it is lifted", |entry| {
        entry.verdict == Verdict::Unknown
    })
    .await?;
    assert_eq!(entry.judged_by.as_deref(), Some(anna.as_str()));
    assert_eq!(entry.bad_until, None);
    assert_eq!(previous(&scene, "after").await?, "v2");
    // The letterbox is empty again, and what is rolled back once more is in quarantine once more.
    let ledger = crate::stage::ledger(&scene).await?;
    ensure!(
        !ledger.annotations().contains_key(LIFT),
        "{:?}",
        ledger.annotations()
    );
    good(&scene, version("v2")).await?;
    back_to(&scene, "once-more", json!({"revision": 4})).await?;
    let entry = wait_for_entry(&scene, &v2, "it is bad", |entry| {
        entry.verdict == Verdict::Bad && entry.available_since.is_none()
    })
    .await?;
    assert_eq!(entry.judged_by.as_deref(), Some("once-more"));
    assert_eq!(previous(&scene, "at-last").await?, "v0");
    Ok(())
}

/// Written while nobody is there, a lift is taken up by whoever starts next; also where nothing is recorded any more.
#[tokio::test]
async fn a_lift_waits_for_the_controller() -> Result<()> {
    let (mut scene, _, v2) = with_quarantine("lift-waits").await?;
    let controller = scene.controller.take().context("no controller")?;
    ensure!(controller.terminate()?.success());
    scene.policy(json!({"ledger": {"record": false}})).await?;
    let anna = User::Approver;
    annotate(
        scene.client(anna).await?,
        &scene,
        lift(&digest(&v2), anna.as_str()),
    )
    .await?;
    scene.start_controller().await?;
    wait_for_entry(&scene, &v2, "it is lifted", |entry| {
        entry.verdict == Verdict::Unknown
    })
    .await?;
    Ok(())
}

/// Nobody else, nothing else, in nobody else's name. What they are told is in `messages.txt`.
#[tokio::test]
async fn others_are_told_why_not() -> Result<()> {
    let (scene, good, v2) = with_quarantine("lift-refused").await?;
    let bad = digest(&v2);
    let anna = User::Approver.as_str();
    let robot = robot(&scene).await?;
    allow_patch(&scene).await?;
    let user = async |user| scene.client(user).await;
    let approver = user(User::Approver).await?;
    let mut more = lift(&bad, anna);
    more["metadata"]["annotations"]["note"] = json!("x");
    more["metadata"]["labels"] = json!({"note": "x"});
    more["metadata"]["ownerReferences"] = json!(null);
    more["spec"] = json!({"targetRef": {"uid": "x"}});
    let half = |key: &str, value: &str| json!({"metadata": {"annotations": {key: value}}});
    let cases = [
        (
            "who looks at ledgers and may not write them",
            user(User::Requester).await?,
            lift(&bad, User::Requester.as_str()),
        ),
        (
            "who may write ledgers and may not approve",
            user(User::Outsider).await?,
            lift(&bad, User::Outsider.as_str()),
        ),
        (
            "a ServiceAccount with the role of an approver",
            robot,
            lift(&bad, "system:serviceaccount:robots:robot"),
        ),
        (
            "in the name of somebody else",
            approver.clone(),
            lift(&bad, User::SecondApprover.as_str()),
        ),
        (
            "in the name of somebody else, as an administrator",
            user(User::Admin).await?,
            lift(&bad, anna),
        ),
        ("without a name", approver.clone(), half(LIFT, &bad)),
        ("without a digest", approver.clone(), half(LIFTED_BY, anna)),
        (
            "a template that is good",
            approver.clone(),
            lift(&good, anna),
        ),
        (
            "a template that nobody knows",
            approver.clone(),
            lift("sha256:0", anna),
        ),
        ("and more than that", approver.clone(), more),
        ("something else only", approver.clone(), half("note", "x")),
        (
            "the claim",
            approver.clone(),
            json!({"spec": {"claim": null, "rollbacks": []}}),
        ),
    ];
    let mut said = String::new();
    let before = crate::stage::ledger(&scene).await?;
    for (what, client, patch) in cases {
        let answer = annotate(client, &scene, patch).await;
        let refusal = match answer.err().with_context(|| format!("{what}: accepted"))? {
            kube::Error::Api(status) => status,
            error => return Err(error.into()),
        };
        ensure!(refusal.code == 403, "{what}: {refusal:?}");
        let message = refusal
            .message
            .replace(scene.ns(), "NAMESPACE")
            .replace(DENIED, "guard: ")
            .replace(&bad, "sha256:BAD");
        writeln!(said, "{what}\n    {message}\n")?;
    }
    let after = crate::stage::ledger(&scene).await?;
    assert_eq!(before.resource_version(), after.resource_version());
    let expected = include_str!("messages.txt");
    ensure!(
        said.trim() == expected.trim(),
        "what is said now:\n\n{said}"
    );
    Ok(())
}

/// Olga may patch ledgers, by a role that somebody wrote for her.
async fn allow_patch(scene: &Scene) -> Result<()> {
    let admin = scene.client(User::Admin).await?;
    let roles: Api<Role> = Api::namespaced(admin.clone(), scene.ns());
    let role = serde_json::from_value(json!({
        "metadata": {"name": "scribbler"},
        "rules": [{
            "apiGroups": ["rollback.broxiva.com"], "resources": ["revisionledgers"], "verbs": ["get", "patch"],
        }],
    }))?;
    roles.create(&PostParams::default(), &role).await?;
    let subject = json!({
        "kind": "User", "apiGroup": "rbac.authorization.k8s.io", "name": User::Outsider.as_str(),
    });
    bind(scene, "Role", "scribbler", subject).await?;
    wait_until_asked(scene, scene.client(User::Outsider).await?).await
}

/// A ServiceAccount of the namespace that somebody made an approver.
async fn robot(scene: &Scene) -> Result<Client> {
    let subject = json!({"kind": "ServiceAccount", "namespace": scene.ns(), "name": "default"});
    bind(scene, "ClusterRole", "rollback-approver", subject).await?;
    let kubeconfig = scene
        .cluster
        .service_account_kubeconfig(scene.ns(), "default", None)
        .await?;
    let client = testkit::typed::client(scene.cluster.config_from(&kubeconfig).await?)?;
    wait_until_asked(scene, client.clone()).await?;
    Ok(client)
}

async fn bind(scene: &Scene, kind: &str, role: &str, subject: Value) -> Result<()> {
    let api: Api<RoleBinding> = Api::namespaced(scene.client(User::Admin).await?, scene.ns());
    let binding = serde_json::from_value(json!({
        "metadata": {"generateName": "lift-"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": role},
        "subjects": [subject],
    }))?;
    api.create(&PostParams::default(), &binding).await?;
    Ok(())
}

/// Waits until the guard is what refuses, and not the authorizer any more.
async fn wait_until_asked(scene: &Scene, client: Client) -> Result<()> {
    eventually("the authorizer knows", PATIENCE, async || {
        let note = json!({"metadata": {"annotations": {"note": "x"}}});
        let refusal = annotate(client.clone(), scene, note).await;
        let said = format!("{:?}", refusal.err().context("accepted")?);
        ensure!(said.contains("rollback-guard-ledger"), "{said}");
        Ok(())
    })
    .await
}
