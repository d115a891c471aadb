//! Checks of every kind against a real API server: whom they ask, and what nobody could tell.

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::core::v1::Service;
use kube::Api;
use kube::api::PostParams;
use rollback_api::status::{CheckKind, Finding, RiskKind, TargetStatus};
use rollback_api::{Reason, RequestState};
use serde_json::{Value, json};
use testkit::health::{Answer, HEALTH_PORT, HealthServer};
use testkit::prometheus::Prometheus;
use testkit::scene::request;
use testkit::{Scene, User};

use crate::stage::{PROGRAM, ends, policy, roll_back, scene, target, version};

/// What one check of the target says.
fn said(target: &TargetStatus, kind: CheckKind) -> Result<(Finding, String)> {
    let checks = &target.verification.as_ref().context("no checks")?.checks;
    let check = checks
        .iter()
        .find(|check| check.kind == kind)
        .context("no such check")?;
    Ok((check.finding, check.last_result.clone()))
}

/// Two versions whose pods answer for themselves: the old one, which is well, and the bad one.
async fn two(scene: &Scene) -> Result<(HealthServer, HealthServer)> {
    let (old, new) = (HealthServer::start().await?, HealthServer::start().await?);
    new.answer(Answer::status(503));
    scene.deploy(version("v1", &old)).await?;
    scene.deploy(version("v2", &new)).await?;
    Ok((old, new))
}

async fn service(scene: &Scene, name: &str, selects: &str) -> Result<()> {
    let service: Service = serde_json::from_value(json!({
        "metadata": {"name": name},
        "spec": {
            "selector": {"app.kubernetes.io/name": selects},
            "ports": [
                {"name": "metrics", "port": 9000, "targetPort": 9},
                {"name": "http", "port": 80, "targetPort": HEALTH_PORT},
            ],
        },
    }))?;
    let api: Api<Service> = Api::namespaced(scene.client(User::Admin).await?, scene.ns());
    api.create(&PostParams::default(), &service).await?;
    Ok(())
}

/// That a Service leads to the new pods is shown on the real node: the API server takes no loopback address for an
/// endpoint, and fake pods have no other.
#[tokio::test]
async fn a_service_that_leads_elsewhere_tells_nothing() -> Result<()> {
    let scene = scene("check-elsewhere").await?;
    two(&scene).await?;
    service(&scene, "front", "another").await?;
    let check = json!({"name": "ready", "service": "front", "port": 80, "preset": "Ready", "periodSeconds": 1});
    let gone = json!({"name": "gone", "service": "nobody", "port": 80, "preset": "Live", "periodSeconds": 1});
    let checks = json!({"timeoutSeconds": 3, "onFailure": "Restore", "http": [check, gone]});
    policy(&scene, checks).await?;
    roll_back(&scene, "api-5xx").await?;
    let message = ends(
        &scene,
        "api-5xx",
        RequestState::Failed,
        Reason::HealthUnknown,
    )
    .await?;
    ensure!(
        message.contains("Service front leads to none of the new pods")
            && message.contains("there is no Service nobody"),
        "{message}"
    );
    // What nobody could tell is no reason to bring the bad version back.
    ensure!(scene.image("api").await?.ends_with(":v1"));
    Ok(())
}

/// What a kubelet takes for well is well: also a redirect.
#[tokio::test]
async fn d3_pods_are_asked_as_their_kubelets_do() -> Result<()> {
    const PROBE: &str = "/spec/template/spec/containers/0/readinessProbe";
    let scene = scene("d3-probe").await?;
    let (old, new) = (HealthServer::start().await?, HealthServer::start().await?);
    old.answer(Answer::redirect("/login/"));
    new.answer(Answer::status(503));
    let probe = json!({"httpGet": {"path": "/ready", "port": HEALTH_PORT,
        "httpHeaders": [{"name": "Host", "value": "shop.broxiva.example"}]}});
    scene
        .deploy(version("v1", &old).set(PROBE, probe.clone()))
        .await?;
    scene.deploy(version("v2", &new).set(PROBE, probe)).await?;
    let check = json!({"name": "probe", "preset": "ReadinessProbe", "periodSeconds": 1});
    policy(&scene, json!({"timeoutSeconds": 20, "http": [check]})).await?;
    roll_back(&scene, "api-5xx").await?;
    let (succeeded, why) = (RequestState::Succeeded, Reason::RolledBack);
    ends(&scene, "api-5xx", succeeded, why).await?;
    let (finding, said) = said(&target(&scene, "api-5xx").await?, CheckKind::Http)?;
    ensure!(
        finding == Finding::Pass && said.contains("answered 200 to 399"),
        "{finding:?} {said}"
    );
    Ok(())
}

/// A policy cannot have secrets sent that everybody sees who may read a plan.
#[tokio::test]
async fn d3_what_is_asked_is_checked_when_it_is_written() -> Result<()> {
    let scene = scene("d3-written").await?;
    let check = |fields: Value| {
        let mut check = json!({"name": "ready", "port": 8080, "path": "/health/"});
        if let (Some(check), Some(fields)) = (check.as_object_mut(), fields.as_object()) {
            check.extend(fields.clone());
        }
        check
    };
    let header = |name: &str, value: &str| json!({"headers": [{"name": name, "value": value}]});
    let probe = |fields: Value| {
        let mut check = json!({"name": "ready", "preset": "ReadinessProbe"});
        if let (Some(check), Some(fields)) = (check.as_object_mut(), fields.as_object()) {
            check.extend(fields.clone());
        }
        check
    };
    for (check, part) in [
        (check(header("Authorization", "Bearer x")), "cannot be set"),
        (check(header("host", "a.example")), "cannot be set"),
        (check(header("X-A", "a\r\nX-B: b")), "headers"),
        (check(json!({"scheme": "https"})), "Unsupported value"),
        (check(json!({"host": "a b"})), "host"),
        (
            probe(json!({"port": 8080})),
            "leave port, service, scheme, host and headers out",
        ),
        (
            json!({"name": "out", "url": "https://status.example.com/", "host": "a.example"}),
            "leave scheme and host out",
        ),
    ] {
        let written = policy(&scene, json!({"http": [check]})).await;
        let said = format!("{:#}", written.err().context(format!("{check} was taken"))?);
        ensure!(said.contains(part), "{part} is not in: {said}");
    }
    let all = check(json!({"scheme": "HTTPS", "host": "shop.broxiva.example",
        "headers": [{"name": "X-Probe", "value": "rollback"}]}));
    policy(&scene, json!({"http": [all]})).await
}

#[tokio::test]
async fn a_body_has_to_say_what_the_check_asks_for() -> Result<()> {
    let scene = scene("check-body").await?;
    let (old, _new) = two(&scene).await?;
    old.answer(
        Answer::healthy().with_body("{\"database\": \"down\", \"key\": \"hunter2-in-a-body\"}"),
    );
    let check = json!({"name": "api", "port": HEALTH_PORT, "preset": "ApiHealth", "periodSeconds": 1,
        "bodyContains": "\"database\": \"up\""});
    policy(&scene, json!({"timeoutSeconds": 3, "http": [check]})).await?;
    roll_back(&scene, "api-5xx").await?;
    let message = ends(
        &scene,
        "api-5xx",
        RequestState::Failed,
        Reason::ChecksFailed,
    )
    .await?;
    ensure!(
        message.contains("without the text that bodyContains asks for"),
        "{message}"
    );
    let request = serde_json::to_string(&scene.request("api-5xx").await?)?;
    ensure!(!request.contains("hunter2"), "the body is in the status");
    old.answer(Answer::healthy().with_body("{\"database\": \"up\"}"));
    ensure!(old.paths().iter().all(|path| path == "/api/health"));
    Ok(())
}

#[tokio::test]
async fn the_pods_themselves_are_looked_at() -> Result<()> {
    let scene = scene("check-pods").await?;
    two(&scene).await?;
    policy(
        &scene,
        json!({"timeoutSeconds": 30, "pods": {"periodSeconds": 1}}),
    )
    .await?;
    roll_back(&scene, "api-5xx").await?;
    ends(
        &scene,
        "api-5xx",
        RequestState::Succeeded,
        Reason::RolledBack,
    )
    .await?;
    let (finding, words) = said(&target(&scene, "api-5xx").await?, CheckKind::Pods)?;
    ensure!(
        finding == Finding::Pass && words == "2 of 2 pods are ready, 0 restarts",
        "{words}"
    );
    Ok(())
}

#[tokio::test]
async fn a_request_asks_for_more_and_for_no_address_outside() -> Result<()> {
    let scene = scene("check-request").await?;
    let (old, _new) = two(&scene).await?;
    old.answer_at("/cart", Answer::status(500));
    let live = json!({"name": "live", "port": HEALTH_PORT, "preset": "Live", "periodSeconds": 1});
    policy(&scene, json!({"timeoutSeconds": 3, "http": [live]})).await?;
    let mut asked = request("api-5xx", json!([{"name": "api", "to": {"previous": {}}}]));
    asked["spec"]["verification"] = json!({"http": [{"name": "out", "url": "http://127.0.0.1/"}]});
    let refusal = scene
        .ask_for(asked.clone())
        .await
        .err()
        .context("it was not refused")?;
    ensure!(
        format!("{refusal:#}").contains("only the policy can"),
        "{refusal:#}"
    );
    let cart = json!({"name": "cart", "port": HEALTH_PORT, "path": "/cart", "periodSeconds": 1});
    asked["spec"]["verification"] = json!({"http": [cart]});
    scene.ask_for(asked).await?;
    scene.approve("api-5xx", User::Approver).await?;
    let message = ends(
        &scene,
        "api-5xx",
        RequestState::Failed,
        Reason::ChecksFailed,
    )
    .await?;
    ensure!(message.contains("check cart (/cart)"), "{message}");
    Ok(())
}

#[tokio::test]
async fn an_address_outside_needs_the_policy_and_a_network() -> Result<()> {
    let mut scene = Scene::without_controller(PROGRAM, "check-outside").await?;
    let flags = ["--probe-networks", "127.0.0.0/8"];
    let controller = scene.spawn(&flags)?;
    controller.ready().await?;
    scene.controller = Some(controller);
    two(&scene).await?;
    let status_page = HealthServer::start().await?;
    let page = format!("http://{}:{HEALTH_PORT}", status_page.ip());
    let check = |url: String| json!({"name": "page", "url": url, "periodSeconds": 1});
    let checks = |url: String, allowed: Value| json!({"timeoutSeconds": 2, "http": [check(url)], "externalUrls": allowed});
    let url = format!("{page}/status?token=hunter2-in-a-query");
    policy(
        &scene,
        checks(url.clone(), json!([format!("{page}/status")])),
    )
    .await?;
    roll_back(&scene, "private").await?;
    let message = ends(
        &scene,
        "private",
        RequestState::Failed,
        Reason::HealthUnknown,
    )
    .await?;
    ensure!(message.contains("--external-networks"), "{message}");
    ensure!(!message.contains("hunter2"), "{message}");
    ensure!(status_page.count() == 0, "it was asked");

    scene.controller = None;
    let controller = scene.spawn(&[flags[0], flags[1], "--external-networks", "127.0.0.0/8"])?;
    controller.ready().await?;
    scene.controller = Some(controller);
    scene
        .deploy(testkit::shop::deployment("api").version("v3"))
        .await?;
    policy(
        &scene,
        checks(url.clone(), json!(["https://elsewhere.example.com/"])),
    )
    .await?;
    roll_back(&scene, "unlisted").await?;
    let message = ends(
        &scene,
        "unlisted",
        RequestState::Failed,
        Reason::HealthUnknown,
    )
    .await?;
    ensure!(message.contains("list of URLs"), "{message}");
    ensure!(status_page.count() == 0, "it was asked");

    scene
        .deploy(testkit::shop::deployment("api").version("v4"))
        .await?;
    policy(&scene, checks(url, json!([format!("{page}/status")]))).await?;
    roll_back(&scene, "allowed").await?;
    ends(
        &scene,
        "allowed",
        RequestState::Succeeded,
        Reason::RolledBack,
    )
    .await?;
    ensure!(status_page.count() >= 2, "it was not asked");
    Ok(())
}

/// The check `number` of this Prometheus, asked without waiting for a window.
fn number(prometheus: &Prometheus, query: &str, bound: &str, value: f64) -> Value {
    let mut check =
        json!({"name": "number", "periodSeconds": 1, "windowSeconds": 5, "query": query});
    check[bound] = json!(value);
    json!({"timeoutSeconds": 3, "onFailure": "Restore",
        "prometheus": {"url": prometheus.url(), "checks": [check]}})
}

/// The whole way: from the policy over a real Prometheus to the end of the request.
#[tokio::test]
async fn a_number_of_prometheus_decides_and_its_absence_does_not() -> Result<()> {
    let Some(prometheus) = Prometheus::start().await? else {
        return Ok(());
    };
    let mut scene = Scene::without_controller(PROGRAM, "check-number").await?;
    let controller = scene.spawn(&["--prometheus-allow", &prometheus.url()])?;
    controller.ready().await?;
    scene.controller = Some(controller);
    two(&scene).await?;
    // `$replica_set` in a query says that it is about the new pods alone.
    let of_new_pods = |expression: &str| {
        format!("{expression} or absent($replica_set) > 5")
            .replace("$replica_set", "up{pod=\"$replica_set\"}")
    };
    policy(
        &scene,
        number(&prometheus, &of_new_pods("vector(0.004)"), "atMost", 0.01),
    )
    .await?;
    roll_back(&scene, "well").await?;
    ends(&scene, "well", RequestState::Succeeded, Reason::RolledBack).await?;
    let (finding, words) = said(&target(&scene, "well").await?, CheckKind::Prometheus)?;
    ensure!(
        finding == Finding::Pass && words == "0.004 (at most 0.01)",
        "{words}"
    );

    scene
        .deploy(testkit::shop::deployment("api").version("v3"))
        .await?;
    let empty = of_new_pods("vector(1) > 2");
    policy(&scene, number(&prometheus, &empty, "atMost", 0.01)).await?;
    roll_back(&scene, "empty").await?;
    let message = ends(&scene, "empty", RequestState::Failed, Reason::HealthUnknown).await?;
    ensure!(message.contains("finds nothing"), "{message}");

    scene
        .deploy(testkit::shop::deployment("api").version("v4"))
        .await?;
    policy(
        &scene,
        number(&prometheus, &of_new_pods("vector(0.2)"), "atMost", 0.01),
    )
    .await?;
    roll_back(&scene, "unwell").await?;
    let message = ends(
        &scene,
        "unwell",
        RequestState::Restored,
        Reason::RestoredFromBackup,
    )
    .await?;
    ensure!(message.contains("0.2 (at most 0.01)"), "{message}");
    ensure!(
        scene.image("api").await?.ends_with(":v4"),
        "it has what it had"
    );

    scene
        .deploy(testkit::shop::deployment("api").version("v5"))
        .await?;
    prometheus.kill();
    policy(
        &scene,
        number(&prometheus, &of_new_pods("vector(0)"), "atMost", 0.01),
    )
    .await?;
    roll_back(&scene, "down").await?;
    let message = ends(&scene, "down", RequestState::Failed, Reason::HealthUnknown).await?;
    ensure!(message.contains("cannot be reached"), "{message}");
    Ok(())
}

/// Anything may stand behind the address in a policy, so an administrator names the ones that are asked.
#[tokio::test]
async fn a_prometheus_that_no_administrator_named_is_not_asked() -> Result<()> {
    let mut scene = Scene::without_controller(PROGRAM, "check-unlisted").await?;
    let (private, other) = (HealthServer::start().await?, HealthServer::start().await?);
    let address = |server: &HealthServer| format!("http://{}:{HEALTH_PORT}", server.ip());
    let allowed = format!("{},{}/tenant", address(&other), address(&private));
    let rules = json!({"timeoutSeconds": 2, "prometheus": {
        "url": address(&private),
        "checks": [{"name": "number", "periodSeconds": 1, "windowSeconds": 5, "query": "up{pod=\"$replica_set\"}", "atMost": 1}],
    }});
    two(&scene).await?;
    policy(&scene, rules).await?;
    for (request, flags) in [
        ("none", &[][..]),
        ("others", &["--prometheus-allow", &allowed]),
    ] {
        let controller = scene.spawn(flags)?;
        controller.ready().await?;
        scene.controller = Some(controller);
        scene.ask(request, "api", json!({"previous": {}})).await?;
        let plan = scene.plan(request).await?;
        let risk = plan.targets[0].risks.first().context("no risk")?;
        ensure!(
            risk.kind == RiskKind::Checks && risk.message.contains("--prometheus-allow"),
            "{risk:?}"
        );
        scene.approve(request, User::Approver).await?;
        let message = ends(&scene, request, RequestState::Failed, Reason::HealthUnknown).await?;
        ensure!(message.contains("--prometheus-allow"), "{message}");
        scene.controller = None;
        scene
            .deploy(testkit::shop::deployment("api").version(request))
            .await?;
    }
    ensure!(private.count() == 0 && other.count() == 0, "it was asked");
    Ok(())
}
