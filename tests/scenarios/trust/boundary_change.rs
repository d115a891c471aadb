//! What changes between an approval and the write, and how it is done.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context as _, Result, ensure};
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use kube::{Api, Client, ResourceExt};
use rollback_api::ledger::Claim;
use rollback_api::open_enum::OrNewer;
use rollback_api::status::Plan;
use rollback_api::{RevisionLedger, RevisionLedgerSpec, RollbackPolicy, WorkloadKind, WorkloadRef};
use rollback_core::history::ledger;
use serde_json::{Value, json};
use testkit::proxy::Call;
use testkit::scene::PATIENCE;
use testkit::{Scene, User, eventually, shop};

use crate::stage::{PATCH, at_rest, bind, two_versions, unbind, until_may, wait_until_may};

/// One thing that changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// Somebody deploys another version.
    OtherTemplate,
    /// Somebody edits the template to go back to, where it is kept.
    HistoryEdited,
    /// Somebody deletes it.
    HistoryDeleted,
    /// The Deployment is deleted and made again, with the version that was called bad.
    MadeAgain,
    /// The policy asks for two approvals.
    PolicyAsksMore,
    /// The approver may not patch Deployments any more.
    ApproverRevoked,
    /// Another request holds the claim.
    Claimed,
}

impl Change {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::OtherTemplate,
        Self::HistoryEdited,
        Self::HistoryDeleted,
        Self::MadeAgain,
        Self::PolicyAsksMore,
        Self::ApproverRevoked,
        Self::Claimed,
    ];

    /// Part of the namespace's name.
    pub fn name(self) -> &'static str {
        match self {
            Self::OtherTemplate => "other-template",
            Self::HistoryEdited => "history-edited",
            Self::HistoryDeleted => "history-deleted",
            Self::MadeAgain => "made-again",
            Self::PolicyAsksMore => "policy-asks-more",
            Self::ApproverRevoked => "approver-revoked",
            Self::Claimed => "claimed",
        }
    }

    /// Whether the write itself has to notice: it is about the very object that is written.
    pub fn is_fenced(self) -> bool {
        matches!(self, Self::OtherTemplate | Self::MadeAgain)
    }

    /// Whether this call looks at what changed.
    pub fn is_seen_by(self, call: &Call) -> bool {
        let path = &call.path;
        match self {
            Self::OtherTemplate | Self::MadeAgain => {
                call.method == "GET" && path.contains("/deployments/")
            }
            Self::HistoryEdited | Self::HistoryDeleted => {
                call.method == "GET" && path.contains("/replicasets/")
            }
            Self::PolicyAsksMore => call.method == "GET" && path.contains("/rollbackpolicies/"),
            Self::ApproverRevoked => path.ends_with("/subjectaccessreviews"),
            Self::Claimed => call.method == "GET" && path.contains("/revisionledgers/"),
        }
    }

    /// After how many such calls it must have been noticed: of three questions to the authorizer one is the one.
    pub fn looks(self) -> usize {
        if self == Self::ApproverRevoked { 3 } else { 1 }
    }

    /// The policy while nothing changes. Evidence would be written in its own time, between the calls that count.
    pub fn usual_policy() -> Value {
        json!({"ledger": {"record": false}, "approvals": {"required": 1}})
    }

    /// What has to be there before a run.
    pub async fn prepare(self, scene: &Scene, hands: &Hands) -> Result<()> {
        if self == Self::ApproverRevoked {
            let anna = User::Approver.as_str();
            let binding = bind(scene, "edit", &[anna]).await?;
            wait_until_may(scene, anna, PATCH, true).await?;
            hands.remember_binding(&binding);
        }
        Ok(())
    }

    /// Puts back what other runs need.
    pub async fn undo(self, scene: &Scene) -> Result<()> {
        if self == Self::PolicyAsksMore {
            scene.policy(Self::usual_policy()).await?;
        }
        Ok(())
    }

    /// Makes it happen.
    pub async fn happen(self, hands: &Hands, plan: &Plan) -> Result<()> {
        match self {
            Self::OtherTemplate => hands.apply("v3").await,
            Self::HistoryEdited => hands.edit_history(plan).await,
            Self::HistoryDeleted => hands.delete_history(plan).await,
            Self::MadeAgain => hands.make_again().await,
            Self::PolicyAsksMore => hands.ask_for_two().await,
            Self::ApproverRevoked => hands.revoke().await,
            Self::Claimed => hands.claim().await,
        }
    }
}

/// A Deployment as it was after a write.
#[derive(Clone, Debug)]
pub struct State {
    /// Its UID.
    pub uid: String,
    /// Its generation.
    pub generation: i64,
    /// Its template, as served.
    pub template: Value,
}

/// What it takes to change something in the middle of a call.
#[derive(Clone)]
pub struct Hands {
    admin: Client,
    controller: Client,
    namespace: String,
    deployment: String,
    rival: Option<Claim>,
    states: Arc<Mutex<Vec<State>>>,
    binding: Arc<Mutex<String>>,
}

impl Hands {
    /// For a namespace; `kubeconfig` is that of the controller, past the proxy.
    pub async fn new(scene: &Scene, change: Change, kubeconfig: &Path) -> Result<Self> {
        let config = scene.cluster.config_from(kubeconfig).await?;
        if change == Change::ApproverRevoked {
            let others = [User::Requester.as_str(), User::SecondApprover.as_str()];
            bind(scene, "edit", &others).await?;
            unbind(scene, "test-edit").await?;
            wait_until_may(scene, others[0], PATCH, true).await?;
            wait_until_may(scene, User::Approver.as_str(), PATCH, false).await?;
        }
        Ok(Self {
            admin: scene.client(User::Admin).await?,
            controller: Client::try_from(config)?,
            namespace: scene.ns().to_owned(),
            deployment: String::new(),
            rival: None,
            states: Arc::default(),
            binding: Arc::default(),
        })
    }

    /// Another request, which stands in the way of others.
    pub async fn with_rival(mut self, scene: &Scene) -> Result<Self> {
        two_versions(scene, "other").await?;
        scene.ask("rival", "other", json!({"previous": {}})).await?;
        let plan = scene.plan("rival").await?;
        let rival = scene.request("rival").await?;
        self.rival = Some(Claim {
            request: "rival".to_owned(),
            request_uid: rival.uid().context("no UID")?,
            urgency: OrNewer::Known(plan.rules.urgency),
        });
        Ok(self)
    }

    /// The same for the Deployment of one run.
    pub fn at(&self, deployment: &str) -> Self {
        Self {
            deployment: deployment.to_owned(),
            states: Arc::default(),
            ..self.clone()
        }
    }

    /// Notes the Deployment as it is now.
    pub fn note(&self, deployment: &Value) -> Result<()> {
        let uid = deployment["metadata"]["uid"].as_str().context("no UID")?;
        let generation = deployment["metadata"]["generation"].as_i64();
        let state = State {
            uid: uid.to_owned(),
            generation: generation.context("no generation")?,
            template: deployment["spec"]["template"].clone(),
        };
        let mut states = self.states.lock().unwrap_or_else(PoisonError::into_inner);
        states.push(state);
        Ok(())
    }

    /// What was noted.
    pub fn states(&self) -> Vec<State> {
        let states = self.states.lock().unwrap_or_else(PoisonError::into_inner);
        states.clone()
    }

    fn remember_binding(&self, name: &str) {
        let mut binding = self.binding.lock().unwrap_or_else(PoisonError::into_inner);
        name.clone_into(&mut binding);
    }

    async fn apply(&self, version: &str) -> Result<()> {
        let object = at_rest(&self.deployment, version).build();
        let applied = shop::apply(&self.admin, &self.namespace, &object).await?;
        self.note(&serde_json::to_value(applied)?)
    }

    async fn make_again(&self) -> Result<()> {
        let api = shop::api(&self.admin, &self.namespace, "apps/v1", "Deployment");
        api.delete(&self.deployment, &DeleteParams::default())
            .await?;
        eventually("the Deployment is gone", PATIENCE, async || {
            let left = api.get_opt(&self.deployment).await?;
            ensure!(left.is_none(), "it is still there");
            Ok(())
        })
        .await?;
        self.apply("v2").await
    }

    async fn edit_history(&self, plan: &Plan) -> Result<()> {
        let api = shop::api(&self.admin, &self.namespace, "apps/v1", "ReplicaSet");
        let image = json!({"spec": {"template": {"spec": {"containers": [
            {"name": "app", "image": "registry.broxiva.example/evil:v1"},
        ]}}}});
        let patch = Patch::Strategic(&image);
        api.patch(source(plan)?, &PatchParams::default(), &patch)
            .await?;
        Ok(())
    }

    async fn delete_history(&self, plan: &Plan) -> Result<()> {
        let api = shop::api(&self.admin, &self.namespace, "apps/v1", "ReplicaSet");
        let name = source(plan)?;
        let Some(old) = api.get_opt(name).await? else {
            return Ok(());
        };
        api.delete(name, &DeleteParams::default()).await?;
        eventually("the ReplicaSet is gone", PATIENCE, async || {
            // Once the old template is written, the Deployment makes another one of the same name.
            let left = api.get_opt(name).await?;
            let same = left.is_some_and(|left| left.uid() == old.uid());
            ensure!(!same, "it is still there");
            Ok(())
        })
        .await
    }

    async fn ask_for_two(&self) -> Result<()> {
        let api: Api<RollbackPolicy> = Api::namespaced(self.admin.clone(), &self.namespace);
        let two = json!({"spec": {"approvals": {"required": 2}}});
        let patch = Patch::Merge(&two);
        api.patch("default", &PatchParams::default(), &patch)
            .await?;
        Ok(())
    }

    async fn revoke(&self) -> Result<()> {
        let name = {
            let binding = self.binding.lock().unwrap_or_else(PoisonError::into_inner);
            binding.clone()
        };
        let api: Api<k8s_openapi::api::rbac::v1::RoleBinding> =
            Api::namespaced(self.admin.clone(), &self.namespace);
        api.delete(&name, &DeleteParams::default()).await?;
        let anna = User::Approver.as_str();
        until_may(&self.admin, &self.namespace, anna, PATCH, false).await
    }

    /// Writes as the controller does, for a request that has not written anything.
    pub async fn claim(&self) -> Result<()> {
        let api: Api<RevisionLedger> = Api::namespaced(self.controller.clone(), &self.namespace);
        let name = ledger::name(WorkloadKind::Deployment, &self.deployment);
        let parameters = PostParams::default();
        let uid = self.states().last().context("no Deployment")?.uid.clone();
        eventually("the Deployment is claimed", PATIENCE, async || {
            let claim = self.rival.clone();
            if let Some(mut ledger) = api.get_opt(&name).await? {
                ledger.spec.claim = claim;
                api.replace(&name, &parameters, &ledger).await?;
            } else {
                let spec = RevisionLedgerSpec {
                    target_ref: WorkloadRef::deployment(&self.deployment, &uid),
                    claim,
                    ..RevisionLedgerSpec::default()
                };
                let ledger = RevisionLedger::new(&name, spec);
                api.create(&parameters, &ledger).await?;
            }
            Ok(())
        })
        .await
    }
}

/// Name of the `ReplicaSet` to go back to.
fn source(plan: &Plan) -> Result<&str> {
    let target = plan.targets.first().context("no target")?;
    target.source_name().context("no source")
}
