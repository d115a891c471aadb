//! The stage of a scenario: a namespace, a controller, and the people in it.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::proxy::Proxy;
use crate::shop::{self, DeploymentBuilder};
use crate::{Cluster, ControllerProcess, Namespace, User, eventually};
use anyhow::{Context as _, Result, bail, ensure};
use k8s_openapi::api::core::v1::ConfigMap;
use k8s_openapi::api::rbac::v1::RoleBinding;
use kube::api::{ListParams, Patch, PatchParams, PostParams};
use kube::{Api, Client, ResourceExt};
use rollback_api::status::{Outcome, Plan};
use rollback_api::{
    APPROVED_BY, ARTIFACT_LABEL, CHECKLIST, CONFIRM, PLAN, REQUEST_NAME_ANNOTATION, RollbackPolicy,
    RollbackRequest, RollbackRequestStatus,
};
use serde_json::{Value, json};

/// How long anything may take that the cluster gets to in its own time.
pub const PATIENCE: Duration = Duration::from_mins(1);
/// What a production approver types.
pub const PRODUCTION: &str = "ROLLBACK PRODUCTION";
/// What a production approver ticks.
pub const TICKED: &str = "incident-documented,stakeholders-notified";
/// Name of the controller's user.
pub const CONTROLLER: &str = "system:serviceaccount:rollback-system:rollback-controller";

/// A namespace with a controller that looks after it.
pub struct Scene {
    /// The cluster.
    pub cluster: &'static Cluster,
    /// The namespace.
    pub namespace: Namespace,
    /// The running controller.
    pub controller: Option<ControllerProcess>,
    /// Credentials of the controller.
    pub kubeconfig: PathBuf,
    /// The controller's program.
    pub program: PathBuf,
}

impl Scene {
    /// A namespace and a running controller.
    pub async fn new(program: impl AsRef<Path>, name: &str) -> Result<Self> {
        let mut scene = Self::without_controller(program, name).await?;
        scene.start_controller().await?;
        Ok(scene)
    }

    /// A namespace whose controller is not running yet.
    pub async fn without_controller(program: impl AsRef<Path>, name: &str) -> Result<Self> {
        Self::on(Cluster::shared().await?, program, name).await
    }

    /// The same with a proxy between the controller and the API server.
    pub async fn behind_proxy(program: impl AsRef<Path>, name: &str) -> Result<(Self, Proxy)> {
        let mut scene = Self::without_controller(program, name).await?;
        let cluster = scene.cluster;
        let proxy = Proxy::start(&cluster.server()?, &cluster.ca()?).await?;
        scene.kubeconfig = cluster
            .service_account_kubeconfig(
                "rollback-system",
                "rollback-controller",
                Some(&proxy.url()),
            )
            .await?;
        Ok((scene, proxy))
    }

    /// The same on this cluster.
    pub async fn on(
        cluster: &'static Cluster,
        program: impl AsRef<Path>,
        name: &str,
    ) -> Result<Self> {
        let namespace = cluster.namespace(name).await?;
        let kubeconfig = cluster
            .service_account_kubeconfig("rollback-system", "rollback-controller", None)
            .await?;
        Ok(Self {
            cluster,
            namespace,
            controller: None,
            kubeconfig,
            program: program.as_ref().to_path_buf(),
        })
    }

    /// Starts the controller, again if need be.
    pub async fn start_controller(&mut self) -> Result<()> {
        let controller = self.spawn(&[])?;
        if let Err(error) = controller.ready().await {
            return Err(error.context(controller.log()));
        }
        self.controller = Some(controller);
        Ok(())
    }

    /// Starts a controller process with more arguments; it may not be ready yet.
    pub fn spawn(&self, arguments: &[&str]) -> Result<ControllerProcess> {
        ControllerProcess::spawn(&self.program, &self.kubeconfig, self.ns(), arguments)
    }

    /// Name of the namespace.
    pub fn ns(&self) -> &str {
        self.namespace.name()
    }

    /// A client of one of the people.
    pub async fn client(&self, user: User) -> Result<Client> {
        self.cluster.client(user).await
    }

    /// The requests of the namespace, as one of the people sees them.
    pub async fn requests(&self, user: User) -> Result<Api<RollbackRequest>> {
        Ok(Api::namespaced(self.client(user).await?, self.ns()))
    }

    /// Deploys one version and waits until it is rolled out.
    pub async fn deploy(&self, version: DeploymentBuilder) -> Result<Value> {
        let name = self.apply_deployment(version).await?;
        shop::wait_available(&self.client(User::Admin).await?, self.ns(), &name).await?;
        self.deployment(&name).await
    }

    /// Deploys one version and does not wait.
    pub async fn apply_deployment(&self, version: DeploymentBuilder) -> Result<String> {
        let object = version.build();
        let applied = shop::apply(&self.client(User::Admin).await?, self.ns(), &object).await?;
        Ok(applied.name_any())
    }

    /// Deploys `v1`, then `v2`, each rolled out.
    pub async fn two_versions(&self, name: &str) -> Result<()> {
        self.deploy(shop::deployment(name).version("v1")).await?;
        self.deploy(shop::deployment(name).version("v2")).await?;
        Ok(())
    }

    /// The same, with data that may not fit the older one.
    pub async fn two_schemas(&self, name: &str) -> Result<()> {
        for (version, schema) in [("v1", "1"), ("v2", "2")] {
            let version = shop::deployment(name).version(version);
            self.deploy(version.template_annotation("rollback.broxiva.com/schema-version", schema))
                .await?;
        }
        Ok(())
    }

    /// Two versions of a Deployment, and a request to go back that has its plan.
    pub async fn two_versions_and_a_plan(&self, request: &str, name: &str) -> Result<()> {
        self.two_versions(name).await?;
        self.ask(request, name, json!({"previous": {}})).await?;
        self.plan(request).await.map(|_| ())
    }

    /// The Deployment as it is served.
    pub async fn deployment(&self, name: &str) -> Result<Value> {
        let api = shop::api(
            &self.client(User::Admin).await?,
            self.ns(),
            "apps/v1",
            "Deployment",
        );
        Ok(serde_json::to_value(api.get(name).await?)?)
    }

    /// The `ReplicaSets` of a Deployment, as they are served.
    pub async fn replica_sets(&self, name: &str) -> Result<Vec<Value>> {
        let api = shop::api(
            &self.client(User::Admin).await?,
            self.ns(),
            "apps/v1",
            "ReplicaSet",
        );
        let labelled = ListParams::default().labels(&format!("app.kubernetes.io/name={name}"));
        let sets = api.list(&labelled).await?.items;
        sets.into_iter()
            .map(|set| Ok(serde_json::to_value(set)?))
            .collect()
    }

    /// The image that a Deployment asks for.
    pub async fn image(&self, name: &str) -> Result<String> {
        let deployment = self.deployment(name).await?;
        let image = deployment.pointer("/spec/template/spec/containers/0/image");
        Ok(image.and_then(Value::as_str).unwrap_or_default().to_owned())
    }

    /// Patches a Deployment as the administrator (merge patch).
    pub async fn patch_deployment(&self, name: &str, patch: Value) -> Result<()> {
        let api = shop::api(
            &self.client(User::Admin).await?,
            self.ns(),
            "apps/v1",
            "Deployment",
        );
        api.patch(name, &PatchParams::default(), &Patch::Merge(&patch))
            .await?;
        Ok(())
    }

    /// Sets the policy of the namespace.
    pub async fn policy(&self, spec: Value) -> Result<()> {
        let api: Api<RollbackPolicy> = Api::namespaced(self.client(User::Admin).await?, self.ns());
        let policy = json!({
            "apiVersion": "rollback.broxiva.com/v1alpha1", "kind": "RollbackPolicy",
            "metadata": {"name": "default"}, "spec": spec,
        });
        let parameters = PatchParams::apply("scenario").force();
        api.patch("default", &parameters, &Patch::Apply(&policy))
            .await?;
        Ok(())
    }

    /// Binds a `ClusterRole` to the controller in the namespace: one of the powers that a namespace may add.
    pub async fn grant(&self, role: &str) -> Result<()> {
        self.grant_to("rollback-controller", role).await
    }

    /// Binds a `ClusterRole` to a `ServiceAccount` of `rollback-system` in the namespace.
    pub async fn grant_to(&self, account: &str, role: &str) -> Result<()> {
        bind(&self.client(User::Admin).await?, self.ns(), account, role).await
    }

    /// Asks for a rollback as the requester.
    pub async fn ask(&self, name: &str, deployment: &str, to: Value) -> Result<RollbackRequest> {
        self.ask_for(request(name, json!([{"name": deployment, "to": to}])))
            .await
    }

    /// Creates this request as the requester.
    pub async fn ask_for(&self, request: Value) -> Result<RollbackRequest> {
        let request = serde_json::from_value(request)?;
        let api = self.requests(User::Requester).await?;
        api.create(&PostParams::default(), &request)
            .await
            .context("creating the request")
    }

    /// The request as it is.
    pub async fn request(&self, name: &str) -> Result<RollbackRequest> {
        Ok(self.requests(User::Admin).await?.get(name).await?)
    }

    /// Its status.
    pub async fn status(&self, name: &str) -> Result<RollbackRequestStatus> {
        Ok(self.request(name).await?.status.unwrap_or_default())
    }

    /// Waits until the reason of `Ready` is this word.
    pub async fn wait_for(&self, name: &str, state: &str) -> Result<RollbackRequest> {
        let api = self.requests(User::Admin).await?;
        eventually(
            &format!("request {name} is {state}"),
            PATIENCE,
            async || {
                let request = api.get(name).await?;
                let (reason, message) = ready(&request);
                ensure!(reason == state, "it is {reason}: {message}");
                Ok(request)
            },
        )
        .await
    }

    /// Waits until the request has ended and nothing is owed to it any more.
    pub async fn wait_for_end(&self, name: &str) -> Result<(RollbackRequest, Outcome)> {
        let api = self.requests(User::Admin).await?;
        eventually(&format!("request {name} has ended"), PATIENCE, async || {
            let request = api.get(name).await?;
            let (reason, message) = ready(&request);
            let outcome = request
                .status
                .as_ref()
                .and_then(|status| status.outcome.clone());
            let Some(outcome) = outcome else {
                bail!("it is {reason}: {message}");
            };
            ensure!(
                request.finalizers().is_empty(),
                "the finalizer is still there"
            );
            Ok((request, outcome))
        })
        .await
    }

    /// Waits for the plan.
    pub async fn plan(&self, name: &str) -> Result<Plan> {
        let request = self.wait_for(name, "AwaitingApproval").await?;
        request
            .status
            .and_then(|status| status.plan)
            .context("no plan")
    }

    /// Approves the plan that is published, with the phrase of production.
    pub async fn approve(&self, name: &str, user: User) -> Result<()> {
        let plan = self.plan(name).await?;
        self.approve_plan(name, user, PRODUCTION, &plan.digest)
            .await
    }

    /// Approves as two different people, which is what a machine asks for needs.
    pub async fn approve_by_two(&self, name: &str) -> Result<()> {
        self.approve(name, User::Approver).await?;
        // Before that nobody else may touch what is in the mailbox.
        eventually("the first approval is counted", PATIENCE, async || {
            let counted = self.status(name).await?.approvals.len();
            ensure!(counted > 0, "it is not");
            Ok(())
        })
        .await?;
        self.approve(name, User::SecondApprover).await
    }

    /// Writes an approval into the mailbox.
    pub async fn approve_plan(
        &self,
        name: &str,
        user: User,
        phrase: &str,
        digest: &str,
    ) -> Result<()> {
        let mut approval = json!({APPROVED_BY: user.as_str(), CONFIRM: phrase, PLAN: digest});
        // Staging and development have nothing to tick.
        if phrase != "ROLLBACK" {
            approval[CHECKLIST] = json!(TICKED);
        }
        // The controller puts the approval of somebody else away before the next one is taken.
        eventually("the mailbox is free", PATIENCE, async || {
            let written = self.annotate(name, user, approval.clone()).await;
            match written {
                Err(error) if error.to_string().contains("being put away") => Err(error),
                written => Ok(written),
            }
        })
        .await?
    }

    /// Annotates a request, as `kubectl annotate` does.
    pub async fn annotate(&self, name: &str, user: User, annotations: Value) -> Result<()> {
        let api = self.requests(user).await?;
        let patch = json!({"metadata": {"annotations": annotations}});
        api.patch(name, &PatchParams::default(), &Patch::Merge(&patch))
            .await?;
        Ok(())
    }

    /// Asks, approves and waits for the end.
    pub async fn roll_back(
        &self,
        name: &str,
        deployment: &str,
        to: Value,
    ) -> Result<(RollbackRequest, Outcome)> {
        self.ask(name, deployment, to).await?;
        self.approve(name, User::Approver).await?;
        self.wait_for_end(name).await
    }

    /// Creates a `ConfigMap` under the name of a backup that is nobody's. The guard keeps everybody else from these
    /// names, so it is done as the controller: what is there from the time before the guard looks the same.
    pub async fn squat(&self, name: &str) -> Result<()> {
        let squatter = json!({
            "apiVersion": "v1", "kind": "ConfigMap", "immutable": true,
            "metadata": {"name": name, "namespace": self.ns()},
        });
        let create = ["create", "--as", CONTROLLER, "-f", "-"];
        self.cluster
            .kubectl_ok(User::Admin, &create, &squatter.to_string())
            .await?;
        Ok(())
    }

    /// Backups or incidents of a request, by the name of the request.
    pub async fn artifacts(&self, kind: &str, request: &str) -> Result<Vec<ConfigMap>> {
        let api: Api<ConfigMap> = Api::namespaced(self.client(User::Admin).await?, self.ns());
        let labelled = ListParams::default().labels(&format!("{ARTIFACT_LABEL}={kind}"));
        let found = api.list(&labelled).await?.items;
        Ok(found
            .into_iter()
            .filter(|map| {
                map.annotations()
                    .get(REQUEST_NAME_ANNOTATION)
                    .is_some_and(|name| name == request)
            })
            .collect())
    }

    /// Waits until a Deployment is as `looks_right` says.
    pub async fn wait_for_deployment(
        &self,
        name: &str,
        looks_right: impl Fn(&Value) -> bool,
    ) -> Result<Value> {
        eventually(
            &format!("Deployment {name} is as expected"),
            PATIENCE,
            async || {
                let deployment = self.deployment(name).await?;
                ensure!(looks_right(&deployment), "it is {deployment}");
                Ok(deployment)
            },
        )
        .await
    }
}

/// Binds a `ClusterRole` to a `ServiceAccount` of `rollback-system` in a namespace.
pub async fn bind(client: &Client, namespace: &str, account: &str, role: &str) -> Result<()> {
    let binding: RoleBinding = serde_json::from_value(json!({
        "metadata": {"name": format!("{account}-{role}")},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role},
        "subjects": [{"kind": "ServiceAccount", "namespace": "rollback-system", "name": account}],
    }))?;
    let api: Api<RoleBinding> = Api::namespaced(client.clone(), namespace);
    api.create(&PostParams::default(), &binding).await?;
    Ok(())
}

/// A request as a person writes it.
pub fn request(name: &str, targets: Value) -> Value {
    let mut request = json!({
        "apiVersion": "rollback.broxiva.com/v1alpha1",
        "kind": "RollbackRequest",
        "metadata": {"name": name},
        "spec": {"reason": {"category": "ErrorRate", "summary": "5xx above 1 % since 14:02"}},
    });
    request["spec"]["targets"] = targets;
    request
}

/// Reason and message of the `Ready` condition.
pub fn ready(request: &RollbackRequest) -> (String, String) {
    condition(request, "Ready")
        .map_or_else(Default::default, |(_, reason, message)| (reason, message))
}

/// Status, reason and message of a condition.
pub fn condition(request: &RollbackRequest, kind: &str) -> Option<(String, String, String)> {
    let conditions = &request.status.as_ref()?.conditions;
    let found = conditions
        .iter()
        .find(|condition| condition.type_ == kind)?;
    Some((
        found.status.clone(),
        found.reason.clone(),
        found.message.clone(),
    ))
}

/// The revision number on a Deployment or `ReplicaSet`.
pub fn revision(object: &Value) -> Option<i64> {
    object
        .pointer("/metadata/annotations")?
        .get(rollback_api::REVISION)?
        .as_str()?
        .parse()
        .ok()
}
