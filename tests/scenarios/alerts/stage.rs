//! A namespace that alerts may ask in, and a receiver.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use hmac::{Hmac, KeyInit as _, Mac as _};
use http::{HeaderMap, StatusCode};
use jiff::Timestamp;
use k8s_openapi::api::authentication::v1::{TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::ServiceAccount;
use kube::api::{ListParams, PostParams};
use kube::{Api, ResourceExt};
use rollback_api::RollbackRequest;
use serde_json::{Value, json};
use sha2::Sha256;
use testkit::{ReceiverProcess, Scene, User};

/// The receiver's program.
pub const PROGRAM: &str = env!("CARGO_BIN_EXE_rollback-receiver");
/// What signs and opens everything here.
pub const SECRET: &str = "the secret of all tests, which is in no log";

/// A namespace with two versions of `api`, and a receiver that may ask there.
pub struct Stage {
    pub scene: Scene,
    pub folder: tempfile::TempDir,
    pub receiver: Option<ReceiverProcess>,
    pub kubeconfig: PathBuf,
}

/// What the receiver answered.
#[derive(Debug)]
pub struct Answered {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Value,
}

impl Answered {
    /// Outcome of the only alert.
    pub fn outcome(&self) -> &str {
        self.body["alerts"][0]["outcome"]
            .as_str()
            .unwrap_or_default()
    }

    /// Fails unless it was accepted and this is the outcome of the only alert.
    pub fn is(&self, outcome: &str) -> Result<()> {
        ensure!(
            self.status == StatusCode::ACCEPTED && self.outcome() == outcome,
            "not {outcome}: {self:?}"
        );
        Ok(())
    }

    /// The request of the only alert, without its namespace.
    pub fn request(&self) -> Result<String> {
        let full = self.body["alerts"][0]["request"].as_str();
        let (_, name) = full
            .and_then(|full| full.split_once('/'))
            .context("no request")?;
        Ok(name.to_owned())
    }
}

impl Stage {
    /// The namespace, where the receiver may look and ask, with two versions of `api`.
    pub async fn new(name: &str) -> Result<Self> {
        let stage = Self::ungranted(name).await?;
        stage.grant("rollback-receiver-reader").await?;
        stage.grant("rollback-trigger").await?;
        stage.scene.two_versions("api").await?;
        Ok(stage)
    }

    /// The namespace, empty, where the receiver may nothing.
    pub async fn ungranted(name: &str) -> Result<Self> {
        let scene = Scene::without_controller(PROGRAM, name).await?;
        let kubeconfig = scene
            .cluster
            .service_account_kubeconfig("rollback-system", "rollback-receiver", None)
            .await?;
        let folder = tempfile::tempdir()?;
        std::fs::write(folder.path().join("secret"), format!("{SECRET}\n"))?;
        Ok(Self {
            scene,
            folder,
            receiver: None,
            kubeconfig,
        })
    }

    /// Binds a `ClusterRole` to the receiver in the namespace.
    pub async fn grant(&self, role: &str) -> Result<()> {
        self.scene.grant_to("rollback-receiver", role).await
    }

    /// A file of the test.
    pub fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Starts a receiver with these sources (YAML, a list).
    pub async fn start(&mut self, sources: &[Value]) -> Result<()> {
        let receiver = self.spawn(sources, &[]).await?;
        self.receiver = Some(receiver);
        Ok(())
    }

    /// One more receiver.
    pub async fn spawn(&self, sources: &[Value], arguments: &[&str]) -> Result<ReceiverProcess> {
        let configuration = json!({"sources": sources}).to_string();
        let program = Path::new(PROGRAM);
        let receiver =
            ReceiverProcess::spawn(program, &self.kubeconfig, &configuration, arguments)?;
        receiver.ready().await?;
        Ok(receiver)
    }

    /// The receiver.
    pub fn receiver(&self) -> Result<&ReceiverProcess> {
        self.receiver.as_ref().context("no receiver runs")
    }

    /// A source with a password, of any format.
    pub fn basic(&self, name: &str, format: &str) -> Value {
        self.source(
            name,
            format,
            json!({"basic": {"username": "sender", "passwordFile": self.file("secret")}}),
        )
    }

    /// A source whose signatures are checked.
    pub fn signed(&self, name: &str, format: &str) -> Value {
        self.source(
            name,
            format,
            json!({"hmac": {"secretFiles": [self.file("secret")]}}),
        )
    }

    /// A source for this namespace.
    pub fn source(&self, name: &str, format: &str, auth: Value) -> Value {
        let mut source = json!({
            "name": name, "format": format, "namespaces": [self.scene.ns()], "to": "previous",
            // Alerts of the tests fire at once.
            "forSeconds": 0,
        });
        source["auth"] = auth;
        source
    }

    /// An alert of Prometheus about `api`, which began now.
    pub fn alert(&self, name: &str) -> Value {
        alert(name, self.scene.ns(), "api")
    }

    /// Delivers to a source with the password.
    pub async fn deliver(&self, source: &str, body: &Value) -> Result<Answered> {
        let url = self.receiver()?.url(source);
        post(&url, &[("authorization", &password())], body.to_string()).await
    }

    /// Fails unless the receiver says in its log that this became of some alert.
    pub fn has_told(&self, outcome: &str) -> Result<()> {
        let log = self.receiver()?.log();
        let wanted = json!(outcome);
        let told = log
            .lines()
            .filter_map(|line| serde_json::from_str::<Value>(line).ok())
            .any(|line| line.pointer("/fields/outcome") == Some(&wanted));
        ensure!(told, "no {outcome} in {log}");
        Ok(())
    }

    /// The requests of the namespace.
    pub async fn requests(&self) -> Result<Vec<RollbackRequest>> {
        let api = self.scene.requests(User::Admin).await?;
        Ok(api.list(&ListParams::default()).await?.items)
    }

    /// Fails unless there is exactly one request, and gives it.
    pub async fn only_request(&self) -> Result<RollbackRequest> {
        let mut all = self.requests().await?;
        let names: Vec<String> = all.iter().map(ResourceExt::name_any).collect();
        ensure!(all.len() == 1, "not one request: {names:?}");
        all.pop().context("no request")
    }

    /// A token of a `ServiceAccount` of the namespace, made if need be, for this audience.
    pub async fn token(&self, account: &str, audience: &str) -> Result<String> {
        let client = self.scene.client(User::Admin).await?;
        let api: Api<ServiceAccount> = Api::namespaced(client, self.scene.ns());
        let object = serde_json::from_value(json!({"metadata": {"name": account}}))?;
        match api.create(&PostParams::default(), &object).await {
            Ok(_) => {}
            Err(kube::Error::Api(status)) if status.is_already_exists() => {}
            Err(error) => return Err(error.into()),
        }
        let request = TokenRequest {
            spec: Some(TokenRequestSpec {
                audiences: Some(vec![audience.to_owned()]),
                ..TokenRequestSpec::default()
            }),
            ..TokenRequest::default()
        };
        let made = api
            .create_token_request(account, &PostParams::default(), &request)
            .await?;
        made.status
            .map(|it| it.token.unwrap_or_default())
            .context("no token")
    }
}

/// What opens the sources with a password.
pub fn password() -> String {
    use base64::Engine as _;
    let both = format!("sender:{SECRET}");
    let encoded = base64::engine::general_purpose::STANDARD.encode(both);
    format!("Basic {encoded}")
}

/// HMAC-SHA256 with the secret, in hex.
pub fn code(parts: &[&[u8]]) -> Result<String> {
    let mut mac = Hmac::<Sha256>::new_from_slice(SECRET.as_bytes())?;
    for part in parts {
        mac.update(part);
    }
    Ok(hex::encode(mac.finalize().into_bytes()))
}

/// An alert of Prometheus about a Deployment, which began now.
pub fn alert(name: &str, namespace: &str, deployment: &str) -> Value {
    json!({
        "status": "firing",
        "labels": {
            "alertname": name, "namespace": namespace, "deployment": deployment, "severity": "critical",
        },
        "annotations": {"summary": "5xx above 1 % since two minutes"},
        "startsAt": Timestamp::now().to_string(),
        "endsAt": "0001-01-01T00:00:00Z",
        "generatorURL": "http://prometheus.example/graph",
        "fingerprint": "0123456789abcdef",
    })
}

/// The body that Alertmanager sends.
pub fn group(alerts: &[Value]) -> Value {
    json!({
        "version": "4", "groupKey": "{}:{}", "truncatedAlerts": 0, "receiver": "rollback",
        "status": "firing", "groupLabels": {}, "commonLabels": {}, "commonAnnotations": {},
        "externalURL": "http://alertmanager.example", "alerts": alerts,
    })
}

/// The same alert, which is over.
pub fn over(mut alert: Value) -> Value {
    alert["status"] = json!("resolved");
    alert["endsAt"] = json!(Timestamp::now().to_string());
    alert
}

/// Posts JSON.
pub async fn post(url: &str, headers: &[(&str, &str)], body: String) -> Result<Answered> {
    let client = reqwest::Client::builder().no_proxy().build()?;
    let mut request = client.post(url).body(body);
    if !headers.iter().any(|(name, _)| *name == "content-type") {
        request = request.header("content-type", "application/json");
    }
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    answered(request.send().await?).await
}

/// Reads an answer.
pub async fn answered(answer: reqwest::Response) -> Result<Answered> {
    let (status, headers) = (answer.status(), answer.headers().clone());
    let body = answer.text().await?;
    Ok(Answered {
        status,
        headers,
        body: serde_json::from_str(&body).unwrap_or(Value::String(body)),
    })
}
