//! What public reports say that the plugins of others got wrong: the wrong cluster, the wrong namespace, credentials that
//! nobody understands, and a wait that never ends. Each names its report.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use tempfile::TempDir;
use testkit::User::{Admin, Approver, Requester};
use testkit::scene::CONTROLLER;
use testkit::{Scene, User};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::Command;

use super::stage::{APPROVAL, PLUGIN, Said, WHY, asked, run, said, scene};

/// A server where nobody is.
const NOWHERE: &str = "https://127.0.0.1:1";
/// What must never be printed.
const SECRET: &str = "hunter2-hunter2";

/// A kubeconfig of our own, made from that of the scene.
struct Desk {
    folder: TempDir,
    config: Value,
}

impl Desk {
    /// Two contexts: `dead`, which is the current one, and `live`, which has the namespace of the scene and this user.
    fn new(scene: &Scene, user: User) -> Result<Self> {
        let given: Value = serde_json::from_slice(&std::fs::read(scene.cluster.kubeconfig())?)?;
        let named = |list: &str, name: &str| -> Result<Value> {
            let all = given[list].as_array().context("no list")?;
            let found = all.iter().find(|it| it["name"] == name);
            found.cloned().with_context(|| format!("no {name}"))
        };
        let context = named("contexts", user.context())?["context"].clone();
        let cluster = named("clusters", context["cluster"].as_str().unwrap_or_default())?;
        let person = named("users", context["user"].as_str().unwrap_or_default())?;
        let config = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "dead",
            "clusters": [
                {"name": "live", "cluster": cluster["cluster"]},
                {"name": "dead", "cluster": {"server": NOWHERE}},
            ],
            "users": [{"name": "me", "user": person["user"]}],
            "contexts": [
                {"name": "live", "context": {"cluster": "live", "user": "me", "namespace": scene.ns()}},
                {"name": "dead", "context": {"cluster": "dead", "user": "me", "namespace": "elsewhere"}},
            ],
        });
        Ok(Self {
            folder: TempDir::new()?,
            config,
        })
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Writes the kubeconfig, and gives its path.
    fn written(&self) -> Result<PathBuf> {
        let file = self.file("config");
        std::fs::write(&file, self.config.to_string())?;
        Ok(file)
    }

    /// A program that the shell runs.
    fn program(&self, name: &str, script: &str) -> Result<PathBuf> {
        let file = self.file(name);
        std::fs::write(&file, format!("#!/bin/sh\n{script}\n"))?;
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o755))?;
        Ok(file)
    }
}

/// The plugin with this `KUBECONFIG` and these words, and no flag besides.
async fn bare(kubeconfig: &Path, words: &[&str]) -> Result<Said> {
    let mut command = Command::new(PLUGIN);
    command
        .env("KUBECONFIG", kubeconfig)
        .env("KUBECTL_ROLLBACK_CONFIG", "/nonexistent/config.yaml")
        .args(words)
        .kill_on_drop(true);
    heard(command).await
}

async fn heard(mut command: Command) -> Result<Said> {
    command
        .stdin(std::process::Stdio::null())
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped());
    said(command.spawn()?).await
}

/// cloudnative-pg/cloudnative-pg 6227 and 4332 (`--context` does not reach all of the plugin), fluxcd/flux2 3453 (the
/// namespace of the context is not respected).
#[tokio::test]
async fn what_is_said_to_type_goes_to_the_same_cluster() -> Result<()> {
    let scene = asked("contexts").await?;
    let desk = Desk::new(&scene, Requester)?;
    let kubeconfig = desk.written()?;
    bare(&kubeconfig, &["status"])
        .await?
        .ended(1)?
        .complains(&["could not be asked", "--context"])?;
    let live = ["--context", "live"];
    bare(&kubeconfig, &[&["status"], &live[..]].concat())
        .await?
        .ended(0)?
        .prints(&["api-5xx", "AwaitingApproval"])?;
    // Not the words of the controller, which knows no context.
    let stands = bare(&kubeconfig, &["--context=live", "status", "api-5xx"]).await?;
    let stands = stands
        .ended(0)?
        .prints(&["to approve: kubectl rollback approve api-5xx --context live\n"])?;
    ensure!(!stands.out.contains("kubectl annotate"), "{stands:?}");

    // An environment stands for a context; who pastes the next command does not stand in that context.
    let config = desk.file("environments.yaml");
    std::fs::write(
        &config,
        "environments: {prod: {context: live, workloads: [api]}}",
    )?;
    let words = [&["prod", "previous", "--name", "again"][..], &WHY].concat();
    let mut create = Command::new(PLUGIN);
    create
        .env("KUBECONFIG", &kubeconfig)
        .env("KUBECTL_ROLLBACK_CONFIG", &config)
        .args(&words);
    let created = heard(create).await?.ended(0)?;
    let (_, told) = created
        .err
        .split_once("follow it with kubectl rollback ")
        .context("nothing to type")?;
    let told: Vec<&str> = told.trim().trim_end_matches('.').split(' ').collect();
    ensure!(
        told == [
            "status",
            "again",
            "-w",
            "-n",
            scene.ns(),
            "--context",
            "live"
        ],
        "{told:?}"
    );
    let typed = [&told[..], &["--timeout", "1s"]].concat();
    let over = bare(&kubeconfig, &typed).await?.ended(5)?;
    over.prints(&["again"])?
        .complains(&["kubectl rollback status again -w --context live -n "])?;
    Ok(())
}

/// kubeshop/testkube 657, controlplaneio-fluxcd/flux-operator 492: `KUBECONFIG` may name several files, and kubectl leaves
/// out those that are not there.
#[tokio::test]
async fn a_list_of_kubeconfigs_is_read_as_kubectl_reads_it() -> Result<()> {
    let scene = asked("kubeconfigs").await?;
    let mut desk = Desk::new(&scene, Requester)?;
    desk.config["current-context"] = json!("live");
    let kubeconfig = desk.written()?;
    let listed = |files: &[&Path]| std::env::join_paths(files).map(PathBuf::from);
    let other = desk.file("other");
    std::fs::write(
        &other,
        json!({"apiVersion": "v1", "kind": "Config", "current-context": "dead"}).to_string(),
    )?;
    let gone = Path::new("/nonexistent/config");
    for files in [
        listed(&[gone, &kubeconfig])?,
        listed(&[&kubeconfig, gone, &other])?,
        listed(&[Path::new(""), &kubeconfig])?,
    ] {
        bare(&files, &["status"])
            .await?
            .ended(0)?
            .prints(&["api-5xx"])?;
    }
    // The first that has a current context wins.
    bare(&listed(&[&other, &kubeconfig])?, &["status"])
        .await?
        .ended(1)?
        .complains(&["could not be asked"])?;
    bare(gone, &["status"]).await?.ended(1)?.complains(&[
        "The kubeconfig cannot be used: there is none at /nonexistent/config.",
        "--kubeconfig",
    ])?;
    // One that is broken is said, and never shown.
    let broken = desk.file("broken");
    let text = format!("users:\n- name: me\n  user:\n    token: {SECRET}\n   password: {SECRET}\n");
    std::fs::write(&broken, text)?;
    let wrong = desk.file("wrong");
    let text = format!("users: {SECRET}\nclusters: [{SECRET}]\n");
    std::fs::write(&wrong, text)?;
    for file in [&broken, &wrong] {
        let text = file.to_string_lossy();
        for said in [
            bare(file, &["status"]).await?,
            bare(&kubeconfig, &["status", "--kubeconfig", &text]).await?,
        ] {
            let said = said.ended(1)?;
            ensure!(!said.err.contains(SECRET), "{said:?}");
            said.complains(&["it is not the YAML of a kubeconfig, at line"])?;
        }
    }
    Ok(())
}

/// pulumi/pulumi-kubernetes 4212, kubernetes/kubernetes 139150: why a credential plugin failed is what has to be seen, and
/// nothing else of it.
#[tokio::test]
async fn a_credential_plugin_that_fails_is_named_as_what_failed() -> Result<()> {
    let scene = asked("credentials").await?;
    let mut desk = Desk::new(&scene, Requester)?;
    let token = desk.config["users"][0]["user"]["token"].clone();
    let credential = json!({"apiVersion": "client.authentication.k8s.io/v1", "kind": "ExecCredential",
        "status": {"token": token}});
    let right = desk.program("right", &format!("echo '{credential}'"))?;
    let expired = format!("echo 'the session is over: run acme login' >&2; echo {SECRET}; exit 7");
    let expired = desk.program("expired", &expired)?;
    let odd = desk.program("odd", &format!("echo '[{SECRET}'"))?;
    let none = Path::new("/nonexistent/acme-login").to_path_buf();
    let rows = [
        (&expired, "the session is over: run acme login"),
        (&expired, "exit status: 7"),
        (&odd, "gave no ExecCredential"),
        (&none, "could not be started"),
    ];
    let with = |program: &Path| {
        json!({"exec": {
            "apiVersion": "client.authentication.k8s.io/v1", "command": program, "interactiveMode": "Never",
            "env": [{"name": "ACME_PASSWORD", "value": SECRET}],
        }})
    };
    for (program, text) in rows {
        desk.config["users"][0]["user"] = with(program);
        let file = desk.written()?;
        for words in [&["status"][..], &["plan", "api", "--to", "previous"]] {
            let words = [words, &["--context", "live"]].concat();
            let said = bare(&file, &words).await?.ended(1)?;
            ensure!(!said.err.contains(SECRET), "{said:?}");
            said.complains(&["You could not be logged in", text, "Log in again"])?;
        }
    }
    desk.config["users"][0]["user"] = with(&right);
    let file = desk.written()?;
    bare(&file, &["status", "--context", "live"])
        .await?
        .ended(0)?
        .prints(&["api-5xx"])?;
    Ok(())
}

/// A proxy of the kubeconfig (`proxy-url`) is used, and nothing else is asked.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_proxy_of_the_kubeconfig_is_gone_through() -> Result<()> {
    let scene = asked("proxied").await?;
    let mut desk = Desk::new(&scene, Requester)?;
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let upstream = scene.cluster.server()?;
    let upstream = upstream.trim_start_matches("https://").to_owned();
    let wanted = format!("CONNECT {upstream} HTTP/1.1");
    let proxy = tokio::spawn(async move {
        let mut passed = 0;
        while let Ok((near, _)) = listener.accept().await {
            let mut near = BufReader::new(near);
            let mut line = String::new();
            near.read_line(&mut line).await?;
            ensure!(line.trim() == wanted, "{line}");
            while !line.trim().is_empty() {
                line.clear();
                near.read_line(&mut line).await?;
            }
            near.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n")
                .await?;
            let mut far = TcpStream::connect(&upstream).await?;
            drop(copy_bidirectional(&mut near, &mut far).await);
            passed += 1;
            if passed == 1 {
                break;
            }
        }
        Ok(passed)
    });
    desk.config["clusters"][0]["cluster"]["proxy-url"] = json!(format!("http://{address}"));
    bare(&desk.written()?, &["status", "--context", "live"])
        .await?
        .ended(0)?
        .prints(&["api-5xx"])?;
    ensure!(proxy.await?? == 1);
    Ok(())
}

/// kubernetes/kubectl 1163 (`rollout status` goes on for minutes after it has said that all is done): how a request ended is
/// known before its report is written, and a pipeline is told so when the report does not come.
#[tokio::test]
async fn a_report_that_does_not_come_keeps_no_pipeline_waiting() -> Result<()> {
    let mut scene = scene("unreported").await?;
    scene.two_versions("api").await?;
    scene
        .roll_back("api-5xx", "api", json!({"previous": {}}))
        .await?;
    run(&scene, Requester, &["status", "api-5xx", "-w"])
        .await?
        .ended(0)?;
    // As if the controller had gone before it wrote the report.
    scene.controller = None;
    finalizers(&scene, &json!([rollback_api::FINALIZER])).await?;
    let began = Instant::now();
    run(
        &scene,
        Requester,
        &["status", "api-5xx", "-w", "--timeout", "5m"],
    )
    .await?
    .ended(0)?
    .prints(&["Succeeded"])?
    .complains(&["its report is not written yet"])?;
    ensure!(began.elapsed() < Duration::from_mins(1), "{began:?}");
    let words = [&["approve", "api-5xx", "--wait"], &APPROVAL[..]].concat();
    run(&scene, Approver, &words).await?.ended(3)?;
    finalizers(&scene, &Value::Null).await
}

/// Writes the finalizers of the request, as the controller.
async fn finalizers(scene: &Scene, finalizers: &Value) -> Result<()> {
    let patch = json!({"metadata": {"finalizers": finalizers}}).to_string();
    let words = [
        "patch",
        "rbr",
        "api-5xx",
        "-n",
        scene.ns(),
        "--as",
        CONTROLLER,
        "--type=merge",
        "-p",
        &patch,
    ];
    scene.cluster.kubectl_ok(Admin, &words, "").await?;
    Ok(())
}

/// rancher/rancher 28858 (`rollout status --timeout 3s` does not end): a server, or what stands before it, that takes a request
/// and never answers.
#[tokio::test]
async fn time_that_is_over_is_over_when_nobody_answers() -> Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let server = format!("http://{}", listener.local_addr()?);
    let folder = TempDir::new()?;
    let kubeconfig = folder.path().join("config");
    let config = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "deaf",
        "clusters": [{"name": "deaf", "cluster": {"server": server}}],
        "users": [{"name": "me", "user": {"token": "t"}}],
        "contexts": [{"name": "deaf", "context": {"cluster": "deaf", "user": "me"}}],
    });
    std::fs::write(&kubeconfig, config.to_string())?;
    let mut held = Vec::new();
    let deaf = async {
        loop {
            held.push(listener.accept().await);
        }
    };
    let create = [&["create", "api", "--to", "previous", "--wait"], &WHY[..]].concat();
    let commands = async {
        for words in [&["status", "api-5xx", "-w"][..], &create] {
            let began = Instant::now();
            let words = [words, &["--timeout", "1s"]].concat();
            bare(&kubeconfig, &words)
                .await?
                .ended(5)?
                .complains(&["The time was over"])?;
            ensure!(began.elapsed() < Duration::from_secs(20), "{words:?}");
        }
        anyhow::Ok(())
    };
    tokio::select! {
        done = commands => done,
        () = deaf => Ok(()),
    }
}

/// A name is taken as kubectl prints it; what is none never becomes another path of the API server.
#[tokio::test]
async fn names_are_those_that_kubectl_prints_and_nothing_else() -> Result<()> {
    let scene = asked("names").await?;
    let name = run(&scene, Requester, &["status", "-o", "name"]).await?;
    let name = name.ended(0)?.out;
    run(&scene, Requester, &["status", name.trim()])
        .await?
        .ended(0)?
        .prints(&["AwaitingApproval"])?;
    run(&scene, Requester, &["status", "rbr/api-5xx"])
        .await?
        .ended(0)?;
    for word in [
        "a b",
        "../../../../api/v1/namespaces/default",
        "pod/api",
        "",
    ] {
        for command in ["status", "cancel", "report"] {
            run(&scene, Requester, &[command, word])
                .await?
                .ended(2)?
                .complains(&["is no name of a request"])?;
        }
    }
    for namespace in ["../../x", "Bad NS", "a.b", ""] {
        run(&scene, Requester, &["status", "-n", namespace])
            .await?
            .ended(2)?
            .complains(&["is no name of a namespace"])?;
    }
    // What one command prints as names the next one takes.
    let numbers = run(&scene, Requester, &["history", "api", "-o", "name"]).await?;
    ensure!(numbers.ended(0)?.out == "2\n1\n");
    let words = ["create", "api", "--to", "previous", "--dry-run", "server"];
    run(&scene, Requester, &[&words[..], &WHY].concat())
        .await?
        .ended(2)?
        .complains(&["Type --dry-run=server as one word"])?;
    let words = [
        "--to",
        "previous",
        "--category",
        "errorrate",
        "--reason",
        "x",
    ];
    let words = [&["create", "api", "--dry-run", "-o", "json"], &words[..]].concat();
    let made = run(&scene, Requester, &words).await?.ended(0)?.json()?;
    ensure!(made["spec"]["reason"]["category"] == "ErrorRate", "{made}");
    Ok(())
}
