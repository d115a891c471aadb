//! What the pages tell people to type, typed as it is written, by who would type it. In a cluster of its own: the pages
//! name the namespace `shop`, and the controller looks after all of them.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use serde_json::json;
use tempfile::TempDir;
use testkit::User::{Admin, Approver, Requester};
use testkit::blocks::{self, Block};
use testkit::scene::PATIENCE;
use testkit::{Cluster, ControllerProcess, User, eventually, shop};

use super::stage::PLUGIN;

/// Who types the next block of which page.
type Step = (User, &'static str);

/// A namespace opts in, somebody asks, somebody else approves, and both look at what came of it.
const WITH_THE_PLUGIN: [Step; 19] = [
    (Admin, "docs/roles.md"),
    (Admin, "docs/roles.md"),
    (Admin, "docs/roles.md"),
    (Requester, "docs/tasks/roll-back.md"),
    (Requester, "docs/plugin.md"),
    (Requester, "docs/runbook.md"),
    (Approver, "docs/tasks/approve.md"),
    (Requester, "docs/tasks/verify.md"),
    (Requester, "docs/tasks/report.md"),
    (Requester, "docs/tasks/report.md"),
    (Requester, "docs/tasks/report.md"),
    (Admin, "docs/troubleshooting.md"),
    (Requester, "docs/troubleshooting.md"),
    (Approver, "docs/tasks/quarantine.md"),
    (Requester, "docs/tasks/freeze.md"),
    (Admin, "docs/tasks/automatic.md"),
    (Admin, "docs/tasks/pause.md"),
    (Admin, "docs/automatic.md"),
    (Admin, "docs/operating.md"),
];

/// The same by kubectl alone.
const WITH_KUBECTL: [Step; 3] = [
    (Requester, "docs/tasks/roll-back.md"),
    (Approver, "docs/tasks/approve.md"),
    (Requester, "docs/tasks/roll-back.md"),
];

/// A pipeline whose tests have failed. It waits, so somebody approves meanwhile.
const PIPELINE: Step = (Requester, "docs/plugin.md");

/// And back again.
const UNDONE: [Step; 1] = [(Requester, "docs/tasks/roll-back.md")];

#[tokio::test]
async fn what_the_pages_say_can_be_typed() -> Result<()> {
    story().await
}

/// The whole of it.
pub async fn story() -> Result<()> {
    let cluster: &'static Cluster = Box::leak(Box::new(Cluster::start().await?));
    cluster.install().await?;
    let kubeconfig = cluster
        .service_account_kubeconfig("rollback-system", "rollback-controller", None)
        .await?;
    let program = testkit::target_folder().join("debug/rollback-controller");
    let controller = ControllerProcess::spawn(&program, &kubeconfig, "", &["--leader-elect=true"])?;
    controller.ready().await?;

    let mut desk = Desk::new(cluster).await?;
    desk.opens().await?;
    // A policy, for what pauses it.
    desk.applies(&json!({
        "apiVersion": "rollback.broxiva.com/v1alpha1", "kind": "RollbackPolicy", "metadata": {"name": "default"},
        "spec": {"triggers": {"watch": true}},
    }))
    .await?;
    desk.types(&WITH_THE_PLUGIN).await?;
    desk.closes().await?;
    desk.opens().await?;
    desk.opts_in().await?;
    desk.types(&WITH_KUBECTL).await?;
    desk.types(&UNDONE).await?;
    desk.closes().await?;
    desk.opens().await?;
    desk.opts_in().await?;
    desk.pipeline().await?;
    desk.has_typed_everything()
}

/// Where people sit: a shell with kubectl and the plugin, and each page at the block that is next.
struct Desk {
    cluster: &'static Cluster,
    home: TempDir,
    next: BTreeMap<String, Vec<Block>>,
}

impl Desk {
    async fn new(cluster: &'static Cluster) -> Result<Self> {
        let home = TempDir::new()?;
        let kubectl = cluster.binaries().kubectl();
        for (name, program) in [
            ("kubectl", kubectl.as_path()),
            ("kubectl-rollback", Path::new(PLUGIN)),
        ] {
            std::os::unix::fs::symlink(program, home.path().join(name))?;
        }
        for user in [Admin, Approver, Requester] {
            let view = ["config", "view", "--raw", "--minify", "--flatten"];
            let config = cluster.kubectl_ok(user, &view, "").await?;
            std::fs::write(home.path().join(user.context()), config)?;
        }
        let mut next: BTreeMap<String, Vec<Block>> = BTreeMap::new();
        for block in blocks::run_by("pages")? {
            next.entry(block.page.clone()).or_default().push(block);
        }
        Ok(Self {
            cluster,
            home,
            next,
        })
    }

    /// The namespace, its people, and a Deployment with two versions.
    async fn opens(&self) -> Result<()> {
        let admin = self.cluster.client(Admin).await?;
        let namespace = ["create", "namespace", "shop"];
        self.cluster.kubectl_ok(Admin, &namespace, "").await?;
        for (role, user) in [
            ("rollback-requester", "rita@broxiva.example"),
            ("rollback-approver", "anna@broxiva.example"),
            ("edit", "rita@broxiva.example"),
            ("edit", "anna@broxiva.example"),
        ] {
            let name = format!("{role}-{}", user.split('@').next().unwrap_or_default());
            self.applies(&json!({
                "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding", "metadata": {"name": name},
                "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role},
                "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": user}],
            }))
            .await?;
        }
        for version in ["v1", "v2"] {
            let api = shop::deployment("api").version(version).build();
            shop::apply(&admin, "shop", &api).await?;
            shop::wait_available(&admin, "shop", "api").await?;
        }
        Ok(())
    }

    /// What roles.md has typed before, for a namespace that is made again.
    async fn opts_in(&self) -> Result<()> {
        self.applies(&json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding", "metadata": {"name": "rollback-executor"},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "rollback-executor"},
            "subjects": [{"kind": "ServiceAccount", "name": "rollback-controller", "namespace": "rollback-system"}],
        }))
        .await
    }

    async fn applies(&self, object: &serde_json::Value) -> Result<()> {
        let apply = ["apply", "-n", "shop", "-f", "-"];
        let object = object.to_string();
        self.cluster.kubectl_ok(Admin, &apply, &object).await?;
        Ok(())
    }

    async fn closes(&self) -> Result<()> {
        for words in [
            &["delete", "rbr", "--all", "-n", "shop"][..],
            &["delete", "namespace", "shop"],
        ] {
            self.cluster.kubectl_ok(Admin, words, "").await?;
        }
        Ok(())
    }

    /// Each block is typed again until it works: roles, plans and ledgers come in their own time, and somebody who types
    /// too soon types again.
    async fn types(&mut self, steps: &[Step]) -> Result<()> {
        for (user, page) in steps {
            let blocks = self.next.get_mut(*page).context("no such page")?;
            ensure!(!blocks.is_empty(), "{page} has no further block");
            let block = blocks.remove(0);
            let what = format!("{}:{} as {}", block.page, block.line, user.context());
            eventually(&what, PATIENCE, async || self.run(*user, &block).await).await?;
        }
        Ok(())
    }

    /// The step of a pipeline, once, beside somebody who sees its request and approves it.
    async fn pipeline(&mut self) -> Result<()> {
        let (user, page) = PIPELINE;
        let blocks = self.next.get_mut(page).context("no such page")?;
        ensure!(blocks.len() == 1, "{page} has another block: {blocks:?}");
        let block = blocks.remove(0);
        let approve = Block {
            commands: "kubectl rollback approve -n shop \
                $(kubectl rollback status -n shop -o name | sed 's,.*/,,') \
                --checklist incident-documented,stakeholders-notified --confirm 'ROLLBACK PRODUCTION'"
                .to_owned(),
            ..block.clone()
        };
        let approved = eventually("the pipeline's request is approved", PATIENCE, async || {
            self.run(Approver, &approve).await
        });
        tokio::try_join!(self.run(user, &block), approved)?;
        let image = [
            "get",
            "deployment",
            "api",
            "-n",
            "shop",
            "-o",
            "jsonpath={..image}",
        ];
        let image = self.cluster.kubectl_ok(Admin, &image, "").await?;
        ensure!(image.contains(":v1"), "{image}");
        Ok(())
    }

    async fn run(&self, user: User, block: &Block) -> Result<()> {
        let home = self.home.path();
        block.type_in(home, home, &home.join(user.context())).await
    }

    fn has_typed_everything(&self) -> Result<()> {
        let left: Vec<String> = self
            .next
            .values()
            .flatten()
            .map(|block| format!("{}:{}", block.page, block.line))
            .collect();
        ensure!(left.is_empty(), "nobody has typed {left:?}");
        Ok(())
    }
}
