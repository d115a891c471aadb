//! Ways to bring a version back, and what must not be taken for one.

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::events::v1::Event;
use kube::Api;
use kube::api::ListParams;
use rollback_api::RESTARTED_AT;
use rollback_core::report::notice::RETURNED;
use serde_json::{Value, json};
use testkit::scene::PATIENCE;
use testkit::shop::{self, DeploymentBuilder};
use testkit::{Scene, User, eventually};

use crate::attempts::{Answer, Attempt, wait_for};
use crate::stage::{APP, BAD_DIGEST, REQUEST, bad, enforcing, rolled_back, version};

const BAD: &str = "registry.broxiva.example/api:v2";
const SIDECAR: &str = "registry.broxiva.example/proxy:v1";

fn containers(list: &Value) -> Value {
    json!({"containers": list})
}

/// The same Deployment under another name, or with more.
fn with_sidecar(first: bool, build: DeploymentBuilder) -> Value {
    let mut object = build.build();
    let sidecar = json!({"name": "proxy", "image": SIDECAR});
    if let Some(list) = object["spec"]["template"]["spec"]["containers"].as_array_mut() {
        list.insert(if first { 0 } else { list.len() }, sidecar);
    }
    object
}

fn apply(extra: &[&'static str]) -> Vec<&'static str> {
    [&["apply", "--server-side", "--force-conflicts"], extra].concat()
}

/// Twenty ways to bring the version back.
async fn ways_back(scene: &Scene) -> Result<Vec<Attempt>> {
    let object = bad().build();
    let live = scene.deployment(APP).await?;
    let mut replaced = live.clone();
    replaced["spec"]["template"]["spec"]["containers"][0]["image"] = json!(BAD);
    let by_digest = format!("registry.broxiva.example/api@{BAD_DIGEST}");
    let by_both = format!("{BAD}@{BAD_DIGEST}");
    let mirrored = format!("mirror.broxiva.example/api@{BAD_DIGEST}");
    let of_json_patch = json!([
        {"op": "replace", "path": "/spec/template/spec/containers/0/image", "value": BAD},
    ])
    .to_string();
    let undone = json!([
        {"op": "replace", "path": "/spec/template", "value": object["spec"]["template"]},
    ])
    .to_string();
    let set = |what, image: &str| {
        Attempt::kubectl(
            what,
            &["set", "image", "deployment/api", &format!("app={image}")],
        )
    };
    let renamed =
        containers(&json!([{"name": "main", "image": BAD}, {"name": "app", "$patch": "delete"}]));
    let one = |image: &str| containers(&json!([{"name": "app", "image": image}]));
    let init = json!({"initContainers": [{"name": "first", "image": SIDECAR}],
                      "containers": [{"name": "app", "image": BAD}]});
    Ok(vec![
        Attempt::object("apply", &["apply"], &object),
        Attempt::object("server-side apply", &apply(&[]), &object),
        Attempt::object(
            "Flux",
            &apply(&["--field-manager=kustomize-controller"]),
            &object,
        ),
        Attempt::object(
            "Argo CD",
            &apply(&["--field-manager=argocd-controller"]),
            &object,
        ),
        Attempt::object("Helm", &apply(&["--field-manager=helm"]), &object),
        Attempt::object("replace", &["replace"], &replaced),
        set("set image", BAD),
        set("set image by digest", &by_digest),
        set("set image by tag and digest", &by_both),
        set("the same digest from a mirror", &mirrored),
        Attempt::patch("patch", &one(BAD)),
        Attempt::kubectl(
            "merge patch",
            &[
                "patch",
                "deployment",
                APP,
                "--type=merge",
                "-p",
                &json!({"spec": {"template": {"spec": one(BAD)}}}).to_string(),
            ],
        ),
        Attempt::kubectl(
            "JSON patch",
            &[
                "patch",
                "deployment",
                APP,
                "--type=json",
                "-p",
                &of_json_patch,
            ],
        ),
        Attempt::kubectl(
            "what rollout undo writes",
            &["patch", "deployment", APP, "--type=json", "-p", &undone],
        ),
        Attempt::kubectl("rollout undo", &["rollout", "undo", "deployment/api"]),
        Attempt::object(
            "another container before it",
            &apply(&[]),
            &with_sidecar(true, bad()),
        ),
        Attempt::object(
            "another container behind it",
            &apply(&[]),
            &with_sidecar(false, bad()),
        ),
        Attempt::patch("under another name of the container", &renamed),
        Attempt::patch("with an init container", &init),
        Attempt::object(
            "with other environment and labels",
            &apply(&[]),
            &bad()
                .env("A", "b")
                .template_label("tier", "web")
                .replicas(3)
                .build(),
        ),
    ])
}

/// Writes that bring back nothing.
fn others() -> Vec<Attempt> {
    let patch = |what, patch: &Value| {
        Attempt::kubectl(
            what,
            &["patch", "deployment", APP, "-p", &patch.to_string()],
        )
    };
    let set = |what, image: &str| {
        Attempt::kubectl(
            what,
            &["set", "image", "deployment/api", &format!("app={image}")],
        )
    };
    let mut clone = shop::deployment("web").image(BAD).build();
    clone["spec"]["selector"]["matchLabels"] = json!({"app.kubernetes.io/name": "web"});
    let meta = |field: &str| json!({"metadata": {field: {"note": "x"}}});
    vec![
        Attempt::kubectl("scale", &["scale", "deployment/api", "--replicas=5"]),
        patch(
            "what an autoscaler of old writes",
            &json!({"spec": {"replicas": 4}}),
        ),
        patch(
            "what rollout restart writes",
            &json!({"spec": {"template": {"metadata": {"annotations": {RESTARTED_AT: "now"}}}}}),
        ),
        patch("a label", &meta("labels")),
        patch("an annotation", &meta("annotations")),
        patch(
            "a label of the pods",
            &json!({"spec": {"template": {"metadata": {"labels": {"note": "x"}}}}}),
        ),
        Attempt::object("the version that runs", &apply(&[]), &version("v1").build()),
        Attempt::object("a newer version", &apply(&[]), &version("v3").build()),
        Attempt::object("a fix by its tag", &apply(&[]), &version("v2.0.1").build()),
        set("a longer tag", "registry.broxiva.example/api:v20"),
        set("another repository", "registry.broxiva.example/api2:v2"),
        set("another registry", "other.broxiva.example/api:v2"),
        set(
            "another digest",
            "registry.broxiva.example/api@sha256:0000000000000000000000000000000000000000000000000000000000000000",
        ),
        Attempt::object("another workload with that image", &apply(&[]), &clone),
        Attempt::patch(
            "a variable",
            &containers(&json!([{"name": "app", "env": [{"name": "A", "value": "b"}]}])),
        ),
        Attempt::kubectl(
            "resources",
            &["set", "resources", "deployment/api", "--limits=memory=64Mi"],
        ),
        Attempt::patch(
            "a grace period",
            &json!({"terminationGracePeriodSeconds": 3}),
        ),
        Attempt::patch(
            "the bad image in another container of the good version",
            &json!({"initContainers": [{"name": "migrate", "image": BAD}]}),
        ),
        patch("the strategy", &json!({"spec": {"minReadySeconds": 2}})),
        Attempt::kubectl(
            "rollout pause",
            &[
                "patch",
                "deployment",
                APP,
                "-p",
                "{\"spec\":{\"paused\":true}}",
            ],
        ),
        Attempt::kubectl("deletion", &["delete", "deployment", APP]),
    ]
}

async fn tried(scene: &Scene, expected: Answer) -> Result<()> {
    let ways = ways_back(scene).await?;
    ensure!(ways.len() == 20, "{} ways", ways.len());
    // The API server learns of the ledger a moment later.
    wait_for(scene, &ways[0], expected).await?;
    for way in &ways {
        let (answer, said) = way.try_out(scene).await?;
        ensure!(answer == expected, "{}: {answer:?} {said}", way.what);
    }
    let others = others();
    ensure!(others.len() == 21, "{} others", others.len());
    for other in others {
        let (answer, said) = other.try_out(scene).await?;
        ensure!(
            answer == Answer::Accepted,
            "{}: {answer:?} {said}",
            other.what
        );
    }
    Ok(())
}

/// With the operator gone, too: nothing of it is asked.
#[tokio::test]
async fn each_is_refused_and_nothing_else() -> Result<()> {
    let mut scene = rolled_back("deny", enforcing("Deny"), version("v1"), bad()).await?;
    drop(scene.controller.take());
    tried(&scene, Answer::Refused).await?;
    let said = wait_for(&scene, &ways_back(&scene).await?[0], Answer::Refused).await?;
    for part in [
        "(Forbidden)",
        REQUEST,
        "asked for by rita@broxiva.example",
        "5xx above 1 %",
        "quarantine until 20",
        "kubectl rollback quarantine lift api",
        BAD,
    ] {
        ensure!(said.contains(part), "{part} is not in: {said}");
    }
    // A namespace without ledgers.
    let other = Scene::without_controller(crate::stage::PROGRAM, "deny-other").await?;
    let (answer, said) = Attempt::object("there", &apply(&[]), &bad().build())
        .carry_out(&other)
        .await?;
    ensure!(answer == Answer::Accepted, "{said}");
    // A bot that does not give up.
    for _ in 0..3 {
        let bot = Attempt::kubectl(
            "a bot",
            &["set", "image", "deployment/api", &format!("app={BAD}")],
        );
        let (answer, said) = bot.carry_out(&scene).await?;
        ensure!(answer == Answer::Refused, "{answer:?} {said}");
    }
    let restart = Attempt::kubectl("restart", &["rollout", "restart", "deployment/api"]);
    let (answer, said) = restart.carry_out(&scene).await?;
    ensure!(answer == Answer::Accepted, "{answer:?} {said}");
    // The operator may put it back: it does so when a rollback fails and the request says Restore.
    let own = [
        "apply",
        "--as",
        testkit::scene::CONTROLLER,
        "--dry-run=server",
        "-f",
        "-",
    ];
    let own = [&["-n", scene.ns()], &own[..]].concat();
    let output = scene
        .cluster
        .kubectl_with_input(User::Admin, &own, &bad().build().to_string())
        .await?;
    let said = String::from_utf8(output.stderr)?;
    ensure!(!said.contains("rollback-quarantine"), "{said}");
    Ok(())
}

#[tokio::test]
async fn each_is_warned_of_and_nothing_else() -> Result<()> {
    // The default of every policy.
    let policy = json!({"ledger": {"soakSeconds": 1}});
    let scene = rolled_back("warn", policy, version("v1"), bad()).await?;
    tried(&scene, Answer::Warned).await?;
    // Whoever is only warned may do it, and that is told.
    bring_back_for_real(&scene).await?;
    // What is there already is not brought back by whoever mends it in place.
    let mend = Attempt::patch(
        "a variable of the bad version",
        &containers(&json!([{"name": "app", "env": [{"name": "FLAG", "value": "off"}]}])),
    );
    let (answer, said) = mend.carry_out(&scene).await?;
    ensure!(answer == Answer::Accepted, "{answer:?} {said}");
    Ok(())
}

async fn bring_back_for_real(scene: &Scene) -> Result<()> {
    let manager = "--field-manager=image-bot";
    let back = Attempt::object("apply", &apply(&[manager]), &bad().build());
    let (answer, said) = back.carry_out(scene).await?;
    ensure!(answer == Answer::Warned, "{answer:?} {said}");
    let events: Api<Event> = Api::namespaced(scene.client(User::Admin).await?, scene.ns());
    let reason = ListParams::default().fields(&format!("reason={RETURNED}"));
    let event = eventually("an Event tells it", PATIENCE, async || {
        let found = events.list(&reason).await?.items;
        found.into_iter().next().context("there is none")
    })
    .await?;
    let note = event.note.unwrap_or_default();
    for part in ["image-bot", "revision 4", REQUEST, "kubectl rollback"] {
        ensure!(note.contains(part), "{part} is not in: {note}");
    }
    let about = event.regarding.unwrap_or_default();
    ensure!(
        (about.kind.as_deref(), about.name.as_deref()) == (Some("Deployment"), Some(APP)),
        "{about:?}"
    );
    Ok(())
}
