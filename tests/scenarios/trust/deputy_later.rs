//! A right that is lost between the approval and the write is lost: the controller asks again, for everybody.

use anyhow::{Context as _, Result, ensure};
use rollback_api::{Reason, RequestState};
use serde_json::{Value, json};
use testkit::scene::request;
use testkit::{Scene, User};

use crate::stage::{
    APPROVE, PATCH, allow, annotate, approval, at_rest, bind, counted, create, ensure_writes,
    patch_only, requests_of, scene, unbind, wait_until_may,
};

/// Who loses what.
#[derive(Clone, Copy, Debug)]
enum Loss {
    RequesterPatch,
    ApproverPatch,
    ApproverApprove,
}

const LOSSES: [Loss; 3] = [
    Loss::RequesterPatch,
    Loss::ApproverPatch,
    Loss::ApproverApprove,
];

/// One request with people of its own, for Deployments of its own.
struct Case<'a> {
    scene: &'a Scene,
    loss: Loss,
    name: String,
    targets: Value,
    requester: String,
    approver: String,
}

impl<'a> Case<'a> {
    fn new(scene: &'a Scene, loss: Loss, shape: &str) -> Self {
        let name = format!("{shape}-{}", format!("{loss:?}").to_lowercase());
        let (a, b) = (format!("{name}-a"), format!("{name}-b"));
        let to = json!({"previous": {}});
        let targets = match shape {
            "named" => json!([{"name": a, "to": to}]),
            "several" => json!([{"name": a, "to": to}, {"name": b, "to": to}]),
            "prefix" => json!([{"namePrefix": name, "to": to}]),
            _ => json!([{"selector": {"matchLabels": {"case": name}}, "to": to}]),
        };
        Self {
            scene,
            loss,
            targets,
            requester: format!("rita-{name}"),
            approver: format!("anna-{name}"),
            name,
        }
    }

    async fn deploy(&self) -> Result<()> {
        for letter in ["a", "b"] {
            for version in ["v1", "v2"] {
                let deployment = at_rest(&format!("{}-{letter}", self.name), version);
                self.scene
                    .deploy(deployment.label("case", &self.name))
                    .await?;
            }
        }
        Ok(())
    }

    /// Gives the binding that will be taken away.
    async fn give(&self) -> Result<String> {
        let (scene, requester, approver) = (self.scene, &*self.requester, &*self.approver);
        bind(scene, "rollback-requester", &[requester]).await?;
        let asking = bind(scene, "edit", &[requester]).await?;
        let approving = bind(scene, "rollback-approver", &[approver]).await?;
        let editing = bind(scene, "edit", &[approver]).await?;
        wait_until_may(scene, requester, PATCH, true).await?;
        wait_until_may(scene, approver, APPROVE, true).await?;
        wait_until_may(scene, approver, PATCH, true).await?;
        Ok(match self.loss {
            Loss::RequesterPatch => asking,
            Loss::ApproverPatch => editing,
            Loss::ApproverApprove => approving,
        })
    }

    async fn take(&self, binding: &str) -> Result<()> {
        unbind(self.scene, binding).await?;
        let (who, what) = match self.loss {
            Loss::RequesterPatch => (&self.requester, PATCH),
            Loss::ApproverPatch => (&self.approver, PATCH),
            Loss::ApproverApprove => (&self.approver, APPROVE),
        };
        wait_until_may(self.scene, who, what, false).await
    }

    /// Asked for, approved once, the right taken away, approved by the second.
    async fn run(self) -> Result<()> {
        self.deploy().await?;
        let binding = self.give().await?;
        let api = requests_of(self.scene, &self.requester).await?;
        create(&api, &request(&self.name, self.targets.clone())).await?;
        let digest = self.scene.plan(&self.name).await?.digest;
        let approver = requests_of(self.scene, &self.approver).await?;
        annotate(&approver, &self.name, &approval(&self.approver, &digest)).await?;
        counted(self.scene, &self.name, &[&self.approver]).await?;
        self.take(&binding).await?;
        self.scene.approve(&self.name, User::SecondApprover).await?;

        let (request, outcome) = self.scene.wait_for_end(&self.name).await?;
        let story = format!("{}: {outcome:?}", self.name);
        // Of several, the outcome is that none came through; each says why.
        let (state, reason) = if self.name.starts_with("named") {
            (RequestState::Refused, Reason::Forbidden)
        } else {
            (RequestState::Failed, Reason::TargetsFailed)
        };
        ensure!(
            (outcome.result, outcome.reason) == (state, reason),
            "{story}"
        );
        let status = request.status.unwrap_or_default();
        for target in &status.targets {
            let ended = target.outcome.as_ref().map(|outcome| outcome.reason);
            let why = ended.unwrap_or(outcome.reason);
            let refused = why == Reason::Forbidden || why == Reason::NotBegun;
            ensure!(refused, "{}: {ended:?}; {story}", target.name);
            ensure!(target.revert.is_none(), "an intent was stored; {story}");
        }
        let named = format!("{outcome:?} {:?}", status.targets);
        let (who, what) = match self.loss {
            Loss::RequesterPatch => (&self.requester, "may not patch deployments.apps"),
            Loss::ApproverPatch => (&self.approver, "may not patch deployments.apps"),
            Loss::ApproverApprove => (&self.approver, "may not approve rollbackrequests/approval"),
        };
        ensure!(named.contains(&format!("{who} {what}")), "{story} {named}");
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_right_that_is_lost_after_the_approval_is_lost() -> Result<()> {
    let scene = scene("deputy-later").await?;
    scene.policy(json!({"approvals": {"required": 2}})).await?;
    let shapes = ["named", "several", "selector", "prefix"];
    let cases = LOSSES.into_iter().flat_map(|loss| {
        let scene = &scene;
        shapes
            .into_iter()
            .map(move |shape| Box::pin(Case::new(scene, loss, shape).run()))
    });
    futures::future::try_join_all(cases).await?;
    ensure_writes(&scene, 0)
}

/// Of two Deployments the requester may change one still: the other is left alone.
#[tokio::test]
async fn a_right_that_is_left_for_one_of_two_is_used_for_that_one_at_most() -> Result<()> {
    let scene = scene("deputy-half").await?;
    scene.policy(json!({"approvals": {"required": 2}})).await?;
    let case = Case::new(&scene, Loss::RequesterPatch, "several");
    case.deploy().await?;
    let binding = case.give().await?;
    let api = requests_of(&scene, &case.requester).await?;
    create(&api, &request(&case.name, case.targets.clone())).await?;
    scene.approve(&case.name, User::Approver).await?;
    counted(&scene, &case.name, &[User::Approver.as_str()]).await?;
    let left = format!("{}-a", case.name);
    allow(&scene, &patch_only(&[&left]), &[&case.requester]).await?;
    case.take(&binding).await?;
    let patch = format!("patch deployments.apps/{left}");
    wait_until_may(&scene, &case.requester, &patch, true).await?;
    scene.approve(&case.name, User::SecondApprover).await?;

    let (request, outcome) = scene.wait_for_end(&case.name).await?;
    ensure!(outcome.result != RequestState::Succeeded, "{outcome:?}");
    let lost = format!("{}-b", case.name);
    let status = request.status.unwrap_or_default();
    let other = status.targets.iter().find(|target| target.name == lost);
    let other = other.and_then(|target| target.outcome.as_ref());
    let other = other.context("the other one has no outcome")?;
    ensure!(other.reason == Reason::Forbidden, "{other:?}");
    for write in crate::stage::writes(&scene)? {
        ensure!(write.name == left, "{} was written", write.name);
    }
    Ok(())
}
