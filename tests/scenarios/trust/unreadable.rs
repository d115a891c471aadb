//! A request that cannot be read into what the controller understands stops nobody else's.

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::ByteString;
use kube::api::{DynamicObject, PostParams};
use rollback_api::{Reason, RequestState};
use serde_json::{Value, json};
use testkit::scene::request;
use testkit::{Scene, User, shop};

use crate::stage::{ends, ensure_writes, refusal, scene, two_versions};

const KEY: &str = "/registry/rollback.broxiva.com/rollbackrequests";

fn odd(name: &str, pointer: &str, value: Value) -> Value {
    let target = json!([{"name": "api", "to": {"revision": 1}}]);
    let mut request = request(name, target);
    if let Some(place) = request.pointer_mut(pointer) {
        *place = value;
    } else {
        request["spec"]["notAfter"] = value;
    }
    request
}

async fn create_raw(scene: &Scene, object: Value) -> Result<()> {
    let client = scene.client(User::Requester).await?;
    let version = "rollback.broxiva.com/v1alpha1";
    let api = shop::api(&client, scene.ns(), version, "RollbackRequest");
    let object: DynamicObject = serde_json::from_value(object)?;
    api.create(&PostParams::default(), &object).await?;
    Ok(())
}

/// From the plan to the end, and with a controller that has just been started too.
async fn others_go_on(scene: &mut Scene, name: &str) -> Result<()> {
    scene.ask(name, "api", json!({"previous": {}})).await?;
    scene.plan(name).await?;
    if let Some(controller) = scene.controller.take() {
        controller.kill();
    }
    scene.start_controller().await?;
    scene.approve(name, User::Approver).await?;
    ends(scene, name, RequestState::Succeeded, Reason::Unverified).await?;
    Ok(())
}

/// Values that the schema could let pass and no number or time of ours can hold.
#[tokio::test]
async fn what_cannot_be_read_is_not_taken() -> Result<()> {
    let mut scene = scene("unreadable").await?;
    two_versions(&scene, "api").await?;
    let revision = "/spec/targets/0/to/revision";
    let late = "/spec/notAfter";
    let cases = [
        ("late", late, json!("9999-12-31T23:59:59Z")),
        ("later", late, json!("9999-12-31T23:59:59.999999999-23:59")),
        ("never", late, json!("10000-01-01T00:00:00Z")),
        ("day", late, json!("2026-02-31T00:00:00Z")),
        ("large", revision, json!(1e19)),
        ("beyond", revision, json!(9_223_372_036_854_775_808_u64)),
        ("half", revision, json!(1.5)),
    ];
    for (name, pointer, value) in cases {
        let taken = create_raw(&scene, odd(name, pointer, value)).await;
        let status = refusal(taken).with_context(|| name.to_owned())?;
        ensure!([400, 422].contains(&status.code), "{name}: {status:?}");
    }
    others_go_on(&mut scene, "good").await?;
    ensure_writes(&scene, 1)
}

/// One that is there nevertheless, as an older schema may have left it: straight in the store.
#[tokio::test]
async fn what_cannot_be_read_stops_nobody() -> Result<()> {
    const TIME: &str = "2099-12-31T23:59:59Z";
    let mut scene = scene("unreadable-stored").await?;
    two_versions(&scene, "api").await?;
    let first = odd("first", "/spec/notAfter", json!(TIME));
    create_raw(&scene, first).await?;
    scene.plan("first").await?;
    let key = format!("{KEY}/{}/first", scene.ns());
    let stored = etcd(&scene, "range", json!({"key": bytes(&key)})).await?;
    let stored = serde_json::from_value::<ByteString>(stored["kvs"][0]["value"].clone())?;
    let stored = String::from_utf8(stored.0)?;
    ensure!(stored.contains(TIME), "it is not there: {stored}");
    let late = stored.replace(TIME, "9999-12-31T23:59:59Z");
    let put = json!({"key": bytes(&key), "value": bytes(&late)});
    etcd(&scene, "put", put).await?;

    others_go_on(&mut scene, "good").await?;
    ensure_writes(&scene, 1)?;
    // It holds nobody up, and nobody can say what it wants.
    etcd(&scene, "deleterange", json!({"key": bytes(&key)})).await?;
    Ok(())
}

fn bytes(text: &str) -> ByteString {
    ByteString(text.as_bytes().to_vec())
}

async fn etcd(scene: &Scene, verb: &str, body: Value) -> Result<Value> {
    let url = format!("{}/v3/kv/{verb}", scene.cluster.etcd()?);
    let client = reqwest::Client::builder().no_proxy().build()?;
    let answer = client.post(url).body(body.to_string()).send().await?;
    ensure!(answer.status().is_success(), "etcd says {answer:?}");
    Ok(serde_json::from_str(&answer.text().await?)?)
}
