//! Fields that are not the client's to write.

use anyhow::{Result, ensure};
use serde_json::json;
use testkit::User;
use testkit::scene::request;

use crate::bad_input::create;
use crate::expect::scene;

/// What a client writes into a field of the API server's is replaced, without a word.
#[tokio::test]
async fn nobody_asks_in_the_name_of_somebody_else() -> Result<()> {
    let scene = scene("forged-requester").await?;
    scene.two_versions("api").await?;
    let mut forged = request("api-5xx", json!([{"name": "api", "to": {"previous": {}}}]));
    forged["spec"]["requestedBy"] = json!({
        "username": User::Approver.as_str(), "uid": "0", "groups": ["system:masters"],
    });
    forged["status"] = json!({"observedGeneration": 1, "plan": {"digest": "sha256:forged"}});
    let client = scene.client(User::Requester).await?;
    let (code, message) = create(&client, scene.ns(), &forged).await?;
    ensure!(code == 201, "HTTP {code} {message}");
    let request = scene.wait_for("api-5xx", "AwaitingApproval").await?;
    let by = request.spec.requested_by.unwrap_or_default();
    ensure!(by.username == User::Requester.as_str(), "{by:?}");
    ensure!(!by.groups.iter().any(|group| group == "system:masters"));
    let plan = request.status.and_then(|status| status.plan);
    ensure!(plan.is_some_and(|plan| plan.digest != "sha256:forged"));
    Ok(())
}

/// Nobody but the controller writes a status, not even the administrator.
#[tokio::test]
async fn nobody_writes_a_status() -> Result<()> {
    let scene = scene("forged-status").await?;
    scene.two_versions("api").await?;
    scene.ask("api-5xx", "api", json!({"previous": {}})).await?;
    scene.plan("api-5xx").await?;
    let forged = json!({"status": {"approvals": [{
        "by": {"username": User::Approver.as_str()}, "planDigest": "x", "at": "2026-01-01T00:00:00Z",
    }]}});
    for user in [User::Admin, User::Requester, User::Approver] {
        let patch = [
            "patch",
            "rbr",
            "api-5xx",
            "-n",
            scene.ns(),
            "--subresource=status",
            "--type=merge",
            "-p",
            &forged.to_string(),
        ];
        let answer = scene.cluster.kubectl(user, &patch).await?;
        let said = String::from_utf8_lossy(&answer.stderr).into_owned();
        ensure!(!answer.status.success(), "{user:?} wrote a status");
        ensure!(
            said.contains("orbidden") || said.contains("written only by"),
            "{said}"
        );
        if user == User::Admin {
            ensure!(
                said.contains("use the annotations rollback.broxiva.com/approved-by"),
                "{said}"
            );
        }
    }
    Ok(())
}
