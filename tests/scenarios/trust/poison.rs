//! Fifty and more hostile objects among a thousand good ones: nobody falls over, nobody waits for them, and nothing
//! that they say is obeyed by a report, an Event, a log or a terminal.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use futures::{StreamExt, TryStreamExt};
use http::{HeaderName, HeaderValue};
use k8s_openapi::api::events::v1::Event;
use kube::api::{DynamicObject, ListParams, PostParams};
use kube::{Api, ResourceExt};
use rollback_api::{CANCELLED_BY, DENIED_BY, DENIED_REASON, Reason, RequestState, RollbackRequest};
use serde_json::{Value, json};
use testkit::scene::{CONTROLLER, PATIENCE, request};
use testkit::{Scene, User, eventually, shop};

use crate::poison_check::{is_inert, is_tame};
use crate::poison_input::{
    deep_deployment, deployment, dry, labelled, odd, payloads, request as hostile, user,
};
use crate::stage::{PROGRAM, annotate, approval, bind_group, two_versions, until_group_may};

/// How many good requests there are before the hostile ones, and in all.
fn before() -> usize {
    testkit::size(200, 60)
}

fn good() -> usize {
    testkit::size(1_000, 200)
}

/// How many Deployments they are about.
const SHOP: usize = 5;
/// How many are created at the same time.
const AT_ONCE: usize = 16;
/// The group of those who come in disguise.
const GROUP: &str = "broxiva:strangers";

/// Somebody with a name that no registry of people would take.
async fn stranger(scene: &Scene, name: &str) -> Result<Api<RollbackRequest>> {
    let mut config = scene.cluster.config(User::Admin).await?;
    for (header, value) in [("impersonate-user", name), ("impersonate-group", GROUP)] {
        let value = HeaderValue::from_bytes(value.as_bytes())?;
        config
            .headers
            .push((HeaderName::from_static(header), value));
    }
    Ok(Api::namespaced(testkit::typed::client(config)?, scene.ns()))
}

/// Creates an object as it is, without reading it into anything first.
async fn create_raw(scene: &Scene, object: Value) -> Result<()> {
    let client = scene.client(User::Requester).await?;
    let api = shop::api(
        &client,
        scene.ns(),
        "rollback.broxiva.com/v1alpha1",
        "RollbackRequest",
    );
    let object: DynamicObject = serde_json::from_value(object)?;
    api.create(&PostParams::default(), &object).await?;
    Ok(())
}

/// Good dry runs with these numbers.
async fn create_good(scene: &Scene, numbers: std::ops::Range<usize>) -> Result<()> {
    let api = scene.requests(User::Requester).await?;
    let creations = numbers.map(|number| {
        let api = api.clone();
        let target = json!([{"name": format!("good-{}", number % SHOP), "to": {"previous": {}}}]);
        let mut request = request(&format!("good-{number}"), target);
        request["spec"]["dryRun"] = json!(true);
        async move {
            let request = serde_json::from_value(request)?;
            api.create(&PostParams::default(), &request).await?;
            anyhow::Ok(())
        }
    });
    let creations: Vec<_> = creations.map(Box::pin).collect();
    futures::stream::iter(creations)
        .buffer_unordered(AT_ONCE)
        .try_collect()
        .await
}

/// Waits until all good ones so far have ended, as dry runs do.
async fn good_have_ended(scene: &Scene, count: usize) -> Result<()> {
    let api = scene.requests(User::Admin).await?;
    let patience = Duration::from_mins(4);
    eventually("the good ones have ended", patience, async || {
        let all = api.list(&ListParams::default()).await?.items;
        let good: Vec<_> = all
            .iter()
            .filter(|request| request.name_any().starts_with("good-"))
            .collect();
        let well = |request: &&&RollbackRequest| {
            let outcome = request.status.as_ref().and_then(|s| s.outcome.as_ref());
            outcome
                .is_some_and(|o| (o.result, o.reason) == (RequestState::Succeeded, Reason::DryRun))
                && request.finalizers().is_empty()
        };
        let ended = good.iter().filter(well).count();
        ensure!(ended == count, "{ended} of {count} have");
        Ok(())
    })
    .await
}

/// How a real one ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Denied,
    Cancelled,
    RolledBack,
}

const FATES: [Fate; 3] = [Fate::Denied, Fate::Cancelled, Fate::RolledBack];

/// Hostile in every text, asked for by somebody with a hostile name, and meant.
struct Villain {
    name: String,
    text: String,
    who: String,
    fate: Fate,
}

impl Villain {
    fn all() -> Vec<Self> {
        let numbered = payloads().into_iter().enumerate();
        numbered
            .map(|(number, (name, text))| Self {
                name: format!("evil-{name}"),
                who: user(&text),
                text,
                fate: FATES[number % FATES.len()],
            })
            .collect()
    }

    /// As JSON: a server-side apply is read as YAML, which knows fewer characters.
    async fn deploy(&self, scene: &Scene) -> Result<()> {
        let client = scene.client(User::Admin).await?;
        let api = shop::api(&client, scene.ns(), "apps/v1", "Deployment");
        let version = |version| deployment(&self.name, version, &self.text).build();
        let first: DynamicObject = serde_json::from_value(version("v1"))?;
        let created = api.create(&PostParams::default(), &first).await;
        created.with_context(|| format!("deploying {}", self.name))?;
        shop::wait_available(&client, scene.ns(), &self.name).await?;
        let second: DynamicObject = serde_json::from_value(version("v2"))?;
        // Without a resourceVersion the last word counts.
        let replaced = api
            .replace(&self.name, &PostParams::default(), &second)
            .await;
        replaced.with_context(|| format!("deploying {} again", self.name))?;
        shop::wait_available(&client, scene.ns(), &self.name).await?;
        Ok(())
    }

    /// One that is meant, and one that only asks what would happen.
    async fn ask(&self, scene: &Scene) -> Result<()> {
        let api = stranger(scene, &self.who).await?;
        let meant = hostile(&self.name, &self.name, &self.text);
        let asks = dry(hostile(
            &format!("dry-{}", self.name),
            &self.name,
            &self.text,
        ));
        for request in [meant, asks] {
            let request = serde_json::from_value(request)?;
            let created = api.create(&PostParams::default(), &request).await;
            created.with_context(|| format!("asking for {}", self.name))?;
        }
        Ok(())
    }

    /// What somebody of the same kind says to it.
    async fn answer(&self, scene: &Scene) -> Result<()> {
        let digest = scene.plan(&self.name).await?.digest;
        let other = format!("second {}", self.who);
        let notes = match self.fate {
            Fate::Denied => json!({DENIED_BY: other, DENIED_REASON: self.text}),
            Fate::Cancelled => json!({CANCELLED_BY: self.who}),
            Fate::RolledBack => approval(&other, &digest),
        };
        let who = if self.fate == Fate::Cancelled {
            &self.who
        } else {
            &other
        };
        let api = stranger(scene, who).await?;
        let said = annotate(&api, &self.name, &notes).await;
        said.with_context(|| format!("{:?} {}", self.fate, self.name))
    }

    /// It ended as it was told to, and nothing of what it says is obeyed.
    async fn check(&self, scene: &Scene, events: &[Event]) -> Result<()> {
        let (request, outcome) = scene.wait_for_end(&self.name).await?;
        let wanted = match self.fate {
            Fate::Denied => RequestState::Denied,
            Fate::Cancelled => RequestState::Cancelled,
            Fate::RolledBack => RequestState::Succeeded,
        };
        ensure!(outcome.result == wanted, "{outcome:?}");
        let incidents = scene.artifacts("incident", &self.name).await?;
        let incident = incidents.first().context("no report")?;
        for text in incident.data.clone().unwrap_or_default().into_values() {
            if text.starts_with('#') {
                is_tame(&text).context("the page")?;
                // Nothing evaluates it: it is there as it was typed.
                let formula = self.text.contains("7*7");
                ensure!(!formula || text.contains("{{ 7\\*7 }}"), "{text}");
            } else {
                serde_json::from_str::<Value>(&text).context("the JSON")?;
            }
        }
        let labels = json!([incident.metadata.labels, incident.metadata.annotations]);
        is_inert(&decoded(&labels), false).context("its labels")?;
        let status = request.status.clone().unwrap_or_default();
        for condition in &status.conditions {
            is_inert(&condition.message, false).context("a condition")?;
        }
        is_inert(&outcome.message, false).context("the outcome")?;
        let summary = serde_json::to_value(&status.summary)?;
        is_inert(&decoded(&summary), false).context("the columns")?;
        let about = |event: &&Event| {
            let regarding = event.regarding.as_ref();
            regarding.is_some_and(|object| object.uid == request.uid())
        };
        let mine: Vec<&Event> = events.iter().filter(about).collect();
        ensure!(!mine.is_empty(), "no Events");
        for event in mine {
            let note = event.note.clone().unwrap_or_default();
            is_inert(&note, false).context("an Event")?;
        }
        Ok(())
    }
}

/// All strings of a value, one after the other.
fn decoded(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Array(items) => items.iter().map(decoded).collect(),
        Value::Object(map) => {
            let keys: String = map.keys().map(String::as_str).collect();
            keys + &map.values().map(decoded).collect::<String>()
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => String::new(),
    }
}

/// The odd ones that the API server takes; some it refuses, and that is an answer too.
async fn create_odd(scene: &Scene) -> Result<Vec<String>> {
    let mut taken = Vec::new();
    for (what, mut object) in odd("good-0") {
        if object["metadata"]["name"] == "odd" {
            object["metadata"]["name"] = json!(format!("odd-{}", what.replace(' ', "-")));
        }
        let name = object["metadata"]["name"]
            .as_str()
            .unwrap_or_default()
            .to_owned();
        match create_raw(scene, object).await {
            Ok(()) => taken.push(name),
            Err(error) => println!("not taken: {what}: {:.200}", format!("{error:#}")),
        }
    }
    // As large as it takes them.
    for bytes in (200_000..1_600_000).rev().step_by(50_000) {
        if create_raw(scene, labelled("good-0", bytes)).await.is_ok() {
            println!("taken: {bytes} bytes of labels");
            taken.push("huge".to_owned());
            break;
        }
    }
    Ok(taken)
}

/// How many requests to the API server each of the good ones took.
fn calls(scene: &Scene) -> Result<BTreeMap<usize, usize>> {
    let audit = scene.cluster.audit().context("no audit log")?;
    let mut calls = BTreeMap::new();
    for event in audit.events(scene.ns())? {
        let number = event
            .name
            .strip_prefix("good-")
            .and_then(|n| n.parse().ok());
        let Some(number) = number else { continue };
        if event.user == CONTROLLER && event.resource == "rollbackrequests" && event.succeeded() {
            *calls.entry(number).or_default() += 1;
        }
    }
    Ok(calls)
}

async fn healthy(scene: &Scene, pid: u32) -> Result<()> {
    let controller = scene.controller.as_ref().context("no controller")?;
    ensure!(
        controller.exited()?.is_none(),
        "it ended: {}",
        controller.log()
    );
    ensure!(controller.pid() == pid, "it is another process");
    let client = reqwest::Client::builder().no_proxy().build()?;
    for path in ["healthz", "readyz"] {
        let url = format!("{}/{path}", controller.metrics_url());
        let status = client.get(url).send().await?.status();
        ensure!(status.is_success(), "/{path} answers {status}");
    }
    Ok(())
}

/// Every line is JSON, so none of them was made up by somebody else, and nothing in it is raw.
fn log_is_inert(scene: &Scene) -> Result<()> {
    let controller = scene.controller.as_ref().context("no controller")?;
    for line in controller.log().lines() {
        is_inert(line, false).with_context(|| line.to_owned())?;
        let parsed = serde_json::from_str::<Value>(line);
        let parsed = parsed.with_context(|| line.to_owned())?;
        ensure!(parsed["message"] != "owned", "{line}");
        let panicked = line.contains("panicked");
        ensure!(!panicked, "{line}");
    }
    Ok(())
}

async fn set_the_stage(scene: &Scene, villains: &[Villain]) -> Result<()> {
    for role in ["rollback-requester", "rollback-approver", "edit"] {
        bind_group(scene, role, GROUP).await?;
    }
    until_group_may(scene, GROUP, crate::stage::PATCH).await?;
    until_group_may(scene, GROUP, crate::stage::APPROVE).await?;
    for number in 0..SHOP {
        two_versions(scene, &format!("good-{number}")).await?;
    }
    for version in ["v1", "v2"] {
        scene.deploy(deep_deployment("deep", version)).await?;
    }
    let deployments = villains
        .iter()
        .map(|villain| Box::pin(villain.deploy(scene)));
    futures::stream::iter(deployments.collect::<Vec<_>>())
        .buffer_unordered(AT_ONCE)
        .try_collect()
        .await
}

async fn for_each_villain(
    villains: &[Villain],
    act: impl AsyncFn(&Villain) -> Result<()>,
) -> Result<()> {
    let act = &act;
    let acts = villains.iter().map(|villain| {
        Box::pin(async move { act(villain).await.with_context(|| villain.name.clone()) })
    });
    futures::future::try_join_all(acts).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn poison_hurts_nobody_but_itself() -> Result<()> {
    let mut scene = Scene::without_controller(PROGRAM, "poison").await?;
    // More of them are open at the same time than one namespace may have.
    let (first, all) = (before(), good());
    let controller = scene.spawn(&["--max-open-requests", "10000"])?;
    controller.ready().await?;
    scene.controller = Some(controller);
    let pid = scene.controller.as_ref().context("no controller")?.pid();
    let villains = Villain::all();
    set_the_stage(&scene, &villains).await?;

    create_good(&scene, 0..first).await?;
    good_have_ended(&scene, first).await?;
    for_each_villain(&villains, async |villain| villain.ask(&scene).await).await?;
    create_raw(&scene, dry(hostile("dry-deep", "deep", "deep"))).await?;
    let odd = create_odd(&scene).await?;
    let poison = 2 * villains.len() + 1 + odd.len();
    ensure!(poison >= 50, "only {poison} hostile objects");
    create_good(&scene, first..all).await?;
    good_have_ended(&scene, all).await?;

    // All of them have overtaken those that wait, and the one that can never end.
    healthy(&scene, pid).await?;
    let mut open = 0;
    for request in scene
        .requests(User::Admin)
        .await?
        .list(&ListParams::default())
        .await?
    {
        let ended = request
            .status
            .is_some_and(|status| status.outcome.is_some());
        open += usize::from(!ended);
    }
    ensure!(open >= villains.len(), "only {open} still wait");
    let calls = calls(&scene)?;
    ensure!(calls.len() == all, "calls for {} good ones", calls.len());
    let most = |numbers: std::ops::Range<usize>| calls.range(numbers).map(|(_, n)| *n).max();
    let (before, after) = (most(0..first), most(first..all));
    ensure!(
        after <= before,
        "{after:?} calls with poison, {before:?} without"
    );

    for_each_villain(&villains, async |villain| villain.answer(&scene).await).await?;
    for villain in &villains {
        scene.wait_for_end(&villain.name).await?;
    }
    let events: Api<Event> = Api::namespaced(scene.client(User::Admin).await?, scene.ns());
    let events = eventually("the Events are there", PATIENCE, async || {
        let events = events.list(&ListParams::default()).await?.items;
        let reported = events
            .iter()
            .filter(|e| e.reason.as_deref() == Some("Reported"));
        let reported = reported.count();
        ensure!(reported == villains.len(), "{reported} are reported");
        Ok(events)
    })
    .await?;
    for_each_villain(&villains, async |villain| {
        villain.check(&scene, &events).await
    })
    .await?;
    log_is_inert(&scene)?;
    healthy(&scene, pid).await?;
    println!(
        "{all} good ones at most {before:?} calls each before and {after:?} after {poison} hostile ones, {} with a report; {open} of all were open when the good ones had ended",
        villains.len()
    );
    Ok(())
}
