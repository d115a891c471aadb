//! The guard with one object missing, each in turn: what the object was there to refuse passes, the controller names the
//! hole, and no Deployment is written, whatever anybody forges meanwhile.

use std::collections::BTreeSet;
use std::fs;

use anyhow::{Context as _, Result, ensure};
use kube::ResourceExt as _;
use kube::api::{DeleteParams, ListParams};
use rollback_api::{APPROVED_BY, Reason, RequestState};
use serde_json::{Value, json};
use testkit::scene::{CONTROLLER as CONTROLLER_NAME, PATIENCE, PRODUCTION, TICKED, condition};
use testkit::{Cluster, User, eventually};

use crate::attack::{AWAITING, Attempt, DELETE, Expect, Family, HALF, MERGE, Moment, POST, Thing};
use crate::families;
use crate::fire::{Answer, merged};
use crate::people::{ADMIN, APPROVER, CONTROLLER, REQUESTER};
use crate::stage::{SHOP, Stage, whole_approval};

/// Policies that refuse nothing while all others are there: a second lock behind the first.
const SECOND_LOCK: &str = "rollback-guard-stamps";
/// Policies about objects that this stage has not. What they refuse is tried in the program `holds`.
const ELSEWHERE: [&str; 2] = ["rollback-guard-hold", "rollback-guard-owner"];
/// The request that every forged approval is for.
const VICTIM: &str = "victim";
/// How many attempts are made at one hole.
const AT_MOST: usize = 16;

/// One object of the guard.
struct Guarding {
    kind: String,
    name: String,
    object: Value,
}

/// Every object that `deploy/20-guard.yaml` installs.
fn guard() -> Result<Vec<Guarding>> {
    let file = testkit::workspace().join("deploy/20-guard.yaml");
    let documents: Vec<Value> = serde_saphyr::from_multiple(&fs::read_to_string(file)?)?;
    let text = |object: &Value, place: &str| {
        let text = object.pointer(place).and_then(Value::as_str);
        text.map(str::to_owned).context("an object without a name")
    };
    documents
        .into_iter()
        .filter(|document| !document.is_null())
        .map(|object| {
            Ok(Guarding {
                kind: text(&object, "/kind")?,
                name: text(&object, "/metadata/name")?,
                object,
            })
        })
        .collect()
}

/// In a cluster of its own: the guard is there for everybody.
#[tokio::test]
async fn without_any_one_of_its_objects_nothing_is_written() -> Result<()> {
    let cluster = Cluster::start().await?;
    cluster.install().await?;
    let cluster: &'static Cluster = Box::leak(Box::new(cluster));
    let mut stage = Stage::empty(cluster, "holes").await?;
    stage.deploy(&SHOP).await?;
    let rules =
        json!({"capacity": {"scaleDown": [{"name": "worker"}]}, "ledger": {"record": false}});
    stage.scene.policy(rules).await?;
    stage.artifacts().await?;
    stage.quarantine().await?;
    stage.scene.start_controller().await?;
    open(&mut stage, Moment::Half, VICTIM).await?;

    let guard = guard()?;
    let policies: BTreeSet<&str> = guard.iter().map(|object| object.name.as_str()).collect();
    ensure!(
        guard.len() == 2 * policies.len(),
        "a policy without a binding"
    );
    for (number, object) in guard.iter().enumerate() {
        round(&mut stage, number, object)
            .await
            .with_context(|| format!("without {} {}", object.kind, object.name))?;
    }
    nothing_was_written(&stage).await?;
    and_then_one_is(&mut stage).await
}

/// Asks for a rollback in this name, and waits for its plan.
async fn open(stage: &mut Stage, moment: Moment, name: &str) -> Result<()> {
    stage.named.insert(moment, name.to_owned());
    stage.ask(moment).await?;
    stage.scene.plan(name).await?;
    stage.learn(moment).await
}

/// Takes one object away, does what that allows, and puts it back.
async fn round(stage: &mut Stage, number: usize, missing: &Guarding) -> Result<()> {
    open(stage, Moment::Awaiting, &format!("open-{number}")).await?;
    let kind = missing.kind.to_lowercase();
    let delete = ["delete", &kind, &missing.name];
    stage
        .scene
        .cluster
        .kubectl_ok(User::Admin, &delete, "")
        .await?;
    forgotten(stage, missing, true).await?;
    named(stage, missing).await?;
    for moment in [Moment::Awaiting, Moment::Half] {
        stage.learn(moment).await?;
    }
    if missing.name == "rollback-guard-status" {
        forge_status(stage, number).await?;
    }
    let passed = attack(stage, number, missing).await?;
    let harmless = missing.name == SECOND_LOCK || ELSEWHERE.contains(&missing.name.as_str());
    ensure!(
        passed > 0 || harmless,
        "nothing passes, so what is it there for?"
    );
    approve(stage, missing).await?;
    named(stage, missing).await?;

    let mut object = missing.object.clone();
    object["metadata"] =
        json!({"name": missing.name, "labels": missing.object["metadata"]["labels"]});
    let create = ["create", "-f", "-"];
    let cluster = stage.scene.cluster;
    cluster
        .kubectl_ok(User::Admin, &create, &object.to_string())
        .await?;
    forgotten(stage, missing, false).await?;
    clear(stage).await
}

/// Deletes what was attacked, so that the controller does not have more to look at in each round.
async fn clear(stage: &Stage) -> Result<()> {
    let requests = stage.scene.requests(User::Admin).await?;
    for request in requests.list(&ListParams::default()).await? {
        let name = request.name_any();
        if name.starts_with("open-") || name.starts_with("new-") {
            requests.delete(&name, &DeleteParams::default()).await?;
        }
    }
    Ok(())
}

/// Attempts that this policy is there to refuse, and that there is something for.
fn aimed_at(policy: &str) -> Vec<Attempt> {
    let attempts = families::all();
    let attempts = attempts.iter().flat_map(Family::attempts);
    let mut seen = BTreeSet::new();
    attempts
        .filter(|attempt| matches!(attempt.expect, Expect::Guard(name, _) if name == policy))
        .filter(|attempt| match attempt.on {
            Thing::Request(moment) => moment == Moment::Awaiting,
            _ => true,
        })
        // One of each thing that is tried.
        .filter(|attempt| seen.insert(format!("{}{:?}", attempt.what, attempt.on)))
        .collect()
}

/// Waits until the API server has taken up that the object is gone, or that it is back.
async fn forgotten(stage: &Stage, missing: &Guarding, gone: bool) -> Result<()> {
    // On the victim, which no attack has changed.
    let probe = aimed_at(&missing.name)
        .into_iter()
        .next()
        .map(|probe| Attempt {
            on: if probe.on == AWAITING { HALF } else { probe.on },
            ..probe
        });
    let what = format!("{} is forgotten: {gone}", missing.name);
    eventually(&what, PATIENCE, async || {
        let refused = if let Some(mut probe) = probe.clone() {
            probe.how = probe.how.dry();
            refuses(&stage.attempt(&probe).await?, &missing.name)
        } else {
            !gone
        };
        ensure!(refused != gone, "not yet");
        Ok(())
    })
    .await
}

fn refuses(answer: &Answer, policy: &str) -> bool {
    answer
        .message
        .contains(&format!("ValidatingAdmissionPolicy '{policy}'"))
}

/// Waits until the request and the metric say what is missing.
async fn named(stage: &Stage, missing: &Guarding) -> Result<()> {
    eventually("the hole is named", PATIENCE, async || {
        let request = stage.scene.request(VICTIM).await?;
        let (status, reason, said) = condition(&request, "Approved").context("no condition")?;
        let says = format!("{} {} is missing", missing.kind, missing.name);
        ensure!(
            status == "False" && reason == "GuardMissing" && said.contains(&says),
            "{status} {reason}: {said}"
        );
        let approvals = request.status.unwrap_or_default().approvals;
        ensure!(approvals.is_empty(), "{approvals:?}");
        let series = format!(
            "rollback_guard_hole{{kind=\"{}\",name=\"{}\"}} 1",
            missing.kind, missing.name
        );
        ensure!(
            metrics(stage).await?.contains(&series),
            "{series} is not there"
        );
        Ok(())
    })
    .await
}

async fn metrics(stage: &Stage) -> Result<String> {
    let controller = stage.scene.controller.as_ref().context("no controller")?;
    let client = reqwest::Client::builder().no_proxy().build()?;
    let url = format!("{}/metrics", controller.metrics_url());
    Ok(client.get(url).send().await?.text().await?)
}

/// Does what is possible now, for real where a request is concerned. Gives how many attempts came through.
async fn attack(stage: &Stage, number: usize, missing: &Guarding) -> Result<usize> {
    let mut passed = 0;
    for (count, mut attempt) in aimed_at(&missing.name)
        .into_iter()
        .take(AT_MOST)
        .enumerate()
    {
        let real = matches!(attempt.on, Thing::Request(_) | Thing::NewRequest);
        if !real || attempt.who.slug == CONTROLLER.slug {
            attempt.how = attempt.how.dry();
        }
        if attempt.on == Thing::NewRequest {
            let name = json!({"metadata": {"name": format!("new-{number}-{count}")}});
            attempt.what = merged(&attempt.what, &name);
        }
        passed += usize::from(stage.attempt(&attempt).await?.passed());
    }
    Ok(passed)
}

/// Writes into the status of a request that it was approved, and that its Deployment is about to be written.
async fn forge_status(stage: &mut Stage, number: usize) -> Result<()> {
    let moment = Moment::Approved;
    let on = Thing::Request(moment);
    let name = format!("forged-{number}");
    stage.named.insert(moment, name.clone());
    stage.ask(moment).await?;
    eventually("it has a plan", PATIENCE, async || {
        let plan = stage.scene.status(&name).await?.plan;
        plan.map(drop).context("no plan")
    })
    .await?;
    stage.learn(moment).await?;
    let app = stage.look(Thing::App, &json!({})).await?;
    let forged = json!({"status": {
        "approvals": [{
            "by": {"username": "anna@broxiva.example", "uid": "uid-approver", "groups": ["broxiva:leads"]},
            "planDigest": "$DIGEST", "at": jiff::Timestamp::now(), "checklist": TICKED.split(',').collect::<Vec<_>>(),
        }],
        "targets": [{"name": "api", "revert": {
            "intendedAt": jiff::Timestamp::now(), "generation": app["metadata"]["generation"],
        }}],
    }});
    stage.must(ADMIN, MERGE.on("status"), on, forged).await?;
    // The controller looks when something changes that is not its own.
    let remark = json!({"metadata": {"annotations": {"example.com/remark": "Look!"}}});
    stage.must(ADMIN, MERGE, on, remark).await?;
    eventually("the forged approval is gone", PATIENCE, async || {
        let status = stage.scene.status(&name).await?;
        ensure!(status.approvals.is_empty(), "{:?}", status.approvals);
        Ok(())
    })
    .await
}

/// Writes approvals that look as they should: first in the name of the approver, then by the approver.
async fn approve(stage: &Stage, missing: &Guarding) -> Result<()> {
    let forged = merged(
        &whole_approval(),
        &json!({"metadata": {"annotations": {APPROVED_BY: "anna@broxiva.example"}}}),
    );
    for on in [AWAITING, HALF] {
        let answer = stage.fire(REQUESTER, MERGE, on, &forged).await?;
        ensure!(
            answer.passed() == (missing.name == "rollback-guard-approval") || answer.code == 404,
            "HTTP {} {}",
            answer.code,
            answer.message
        );
    }
    // It does not count.
    stage.fire(APPROVER, MERGE, HALF, &whole_approval()).await?;
    Ok(())
}

/// No victim was rolled back, and the API server knows of no write.
async fn nothing_was_written(stage: &Stage) -> Result<()> {
    eventually(
        "the victim waits as if nothing had been said",
        PATIENCE,
        async || {
            let request = stage.scene.request(VICTIM).await?;
            let said = condition(&request, "Approved").or_else(|| condition(&request, "Ready"));
            let (status, reason, said) = said.context("no condition")?;
            let waits = ["AwaitingApproval", "ApprovalInvalid"].contains(&reason.as_str());
            ensure!(status == "False" && waits, "{status} {reason}: {said}");
            let status = request.status.unwrap_or_default();
            ensure!(status.approvals.is_empty(), "{:?}", status.approvals);
            ensure!(status.outcome.is_none(), "{:?}", status.outcome);
            Ok(())
        },
    )
    .await?;
    ensure!(
        metrics(stage)
            .await?
            .lines()
            .all(|line| { !line.starts_with("rollback_guard_hole{") || line.ends_with(" 0") })
    );
    for name in SHOP {
        ensure!(stage.scene.image(name).await?.ends_with(":v2"), "{name}");
        ensure!(
            writes(stage, name)?.is_none_or(|writes| writes == 0),
            "{name}"
        );
    }
    Ok(())
}

/// The same eyes see a write when there is one: with the whole guard, an approval counts.
async fn and_then_one_is(stage: &mut Stage) -> Result<()> {
    stage.must(REQUESTER, POST, Thing::NewRequest, json!({
        "metadata": {"name": "honest"}, "spec": {"targets": [{"name": "web", "to": {"previous": {}}}]},
    }))
    .await?;
    let plan = stage.scene.plan("honest").await?;
    stage
        .scene
        .approve_plan("honest", User::Approver, PRODUCTION, &plan.digest)
        .await?;
    let (_, outcome) = stage.scene.wait_for_end("honest").await?;
    ensure!(
        (outcome.result, outcome.reason) == (RequestState::Succeeded, Reason::Unverified),
        "{outcome:?}"
    );
    ensure!(writes(stage, "web")?.is_none_or(|writes| writes == 1));
    stage
        .must(
            ADMIN,
            DELETE,
            Thing::NewRequest,
            json!({"metadata": {"name": "honest"}}),
        )
        .await?;
    Ok(())
}

/// How often the controller wrote a Deployment, as far as the audit log knows.
fn writes(stage: &Stage, name: &str) -> Result<Option<usize>> {
    let Some(audit) = stage.scene.cluster.audit() else {
        return Ok(None);
    };
    let patches = audit.deployment_patches(stage.ns(), name)?;
    let ours = patches.iter().filter(|patch| patch.user == CONTROLLER_NAME);
    Ok(Some(ours.count()))
}
