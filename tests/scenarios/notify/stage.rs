//! A namespace with channels, and the services that they lead to.

use anyhow::{Result, ensure};
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::api::rbac::v1::{Role, RoleBinding};
use kube::Api;
use kube::api::PostParams;
use rollback_api::status::NotificationStatus;
use serde_json::{Value, json};
use testkit::scene::PATIENCE;
use testkit::{ControllerProcess, Scene, User, eventually, shop};

use crate::services::{Received, Services};
use crate::smtp::Smtp;

/// The controller.
pub const PROGRAM: &str = env!("CARGO_BIN_EXE_rollback-controller");
/// What signs the webhook.
pub const SIGNING_KEY: &str = "signing-key-of-the-test";

/// The stage.
pub struct Stage {
    /// The namespace.
    pub scene: Scene,
    /// Slack, Teams and so on.
    pub services: Services,
    /// The mail server.
    pub smtp: Smtp,
}

impl Stage {
    /// A namespace with the Secrets, which the controller may read by their names, and without a controller.
    pub async fn new(name: &str) -> Result<Self> {
        let scene = Scene::without_controller(PROGRAM, name).await?;
        let services = Services::start().await?;
        let smtp = Smtp::start().await?;
        let stage = Self {
            scene,
            services,
            smtp,
        };
        stage.put_secrets().await?;
        stage.grant(&["channels"]).await?;
        Ok(stage)
    }

    async fn put_secrets(&self) -> Result<()> {
        let url = |path: &str| self.services.url(path);
        let secret: Secret = serde_json::from_value(json!({
            "metadata": {"name": "channels"},
            "stringData": {
                "slack-url": url("/services/T0/B0/secret-of-the-hook"), "slack-token": "xoxb-of-the-test\n",
                "teams": url("/teams"), "pagerduty": "R0123456789", "hook": url("/hook"), "signing": SIGNING_KEY,
                "elsewhere": "https://evil.example/hook", "metadata": "http://169.254.169.254/latest",
            },
        }))?;
        let api: Api<Secret> =
            Api::namespaced(self.scene.client(User::Admin).await?, self.scene.ns());
        api.create(&PostParams::default(), &secret).await?;
        Ok(())
    }

    /// As docs/notifications.md says: `get` on these names, and nothing else.
    pub async fn grant(&self, names: &[&str]) -> Result<()> {
        let client = self.scene.client(User::Admin).await?;
        let role: Role = serde_json::from_value(json!({
            "metadata": {"name": "rollback-notify"},
            "rules": [{"apiGroups": [""], "resources": ["secrets"], "resourceNames": names, "verbs": ["get"]}],
        }))?;
        let binding: RoleBinding = serde_json::from_value(json!({
            "metadata": {"name": "rollback-notify"},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "rollback-notify"},
            "subjects": [{"kind": "ServiceAccount", "namespace": "rollback-system", "name": "rollback-controller"}],
        }))?;
        let roles: Api<Role> = Api::namespaced(client.clone(), self.scene.ns());
        roles.create(&PostParams::default(), &role).await?;
        let bindings: Api<RoleBinding> = Api::namespaced(client, self.scene.ns());
        bindings.create(&PostParams::default(), &binding).await?;
        Ok(())
    }

    /// Starts a controller that may reach the services.
    pub async fn start(&self, more: &[&str]) -> Result<ControllerProcess> {
        let allowed = format!(
            "{},smtp://127.0.0.1:{}",
            self.services.url(""),
            self.smtp.port
        );
        let (slack, pager) = (self.services.url("/api"), self.services.url(""));
        let mut arguments = vec![
            "--notify-allow",
            &allowed,
            "--slack-url",
            &slack,
            "--pagerduty-url",
            &pager,
        ];
        arguments.extend(more);
        let controller = self.scene.spawn(&arguments)?;
        if let Err(error) = controller.ready().await {
            return Err(error.context(controller.log()));
        }
        Ok(controller)
    }

    /// Sets the policy.
    pub async fn policy(&self, notifications: Value) -> Result<()> {
        self.scene
            .policy(json!({"notifications": notifications, "ledger": {"record": false}}))
            .await
    }

    /// Two versions of `api`.
    pub async fn two_versions(&self) -> Result<()> {
        for version in ["v1", "v2"] {
            self.scene
                .deploy(shop::deployment("api").version(version).replicas(1))
                .await?;
        }
        Ok(())
    }

    /// Rita asks.
    pub async fn ask(&self, name: &str) -> Result<()> {
        self.scene.ask(name, "api", json!({"previous": {}})).await?;
        Ok(())
    }

    /// What the status says of who was told.
    pub async fn kept(&self, request: &str) -> Result<NotificationStatus> {
        Ok(self
            .scene
            .status(request)
            .await?
            .notifications
            .unwrap_or_default())
    }

    /// Waits until everything has been told of a request that has ended.
    pub async fn settled(&self, request: &str) -> Result<NotificationStatus> {
        eventually("everything is told", PATIENCE, async || {
            let kept = self.kept(request).await?;
            ensure!(kept.settled, "{kept:?}");
            Ok(kept)
        })
        .await
    }

    /// Waits until so many messages were taken at a path.
    pub async fn taken(&self, path: &str, count: usize) -> Result<Vec<Received>> {
        eventually(
            &format!("{count} messages at {path}"),
            PATIENCE,
            async || {
                let taken = self.services.taken(path);
                let all: Vec<(String, u16)> = self
                    .services
                    .all()
                    .into_iter()
                    .map(|it| (it.path, it.status))
                    .collect();
                ensure!(
                    taken.len() >= count,
                    "{} of {count}; all: {all:?}",
                    taken.len()
                );
                Ok(taken)
            },
        )
        .await
    }
}

/// A key of the Secret with all of them.
pub fn key(key: &str) -> Value {
    json!({"name": "channels", "key": key})
}

/// A channel of Slack with a bot.
pub fn bot() -> Value {
    json!({"name": "slack", "slack": {"botToken": key("slack-token"), "channel": "C0123ABCD"}})
}

/// A webhook that is signed.
pub fn hook(name: &str) -> Value {
    json!({"name": name, "webhook": {"url": key("hook"), "signingKey": key("signing")}})
}

/// The words of the keys of events that a webhook got.
pub fn events(received: &[Received]) -> Vec<String> {
    let ids = received
        .iter()
        .map(|it| it.json()["id"].as_str().unwrap_or_default().to_owned());
    ids.map(|id| id.split('.').nth(1).unwrap_or_default().to_owned())
        .collect()
}

/// The same, without what tells one from another of its kind.
pub fn kinds(received: &[Received]) -> Vec<String> {
    let kinds = events(received).into_iter();
    kinds
        .map(|key| key.split('-').next().unwrap_or_default().to_owned())
        .collect()
}
