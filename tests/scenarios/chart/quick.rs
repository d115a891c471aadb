//! The quick start, typed as it is written, from `helm install` on. The nodes of the cluster are fake, so the pods of the
//! controller are ready and do nothing; the program runs beside them, under their account.

use std::path::PathBuf;

use anyhow::{Result, ensure};
use tempfile::TempDir;
use testkit::blocks::{self, Block};
use testkit::scene::PATIENCE;
use testkit::{Cluster, ControllerProcess, User, eventually};

use crate::helm::{HOME, Helm};

#[tokio::test]
async fn the_quick_start_works_as_it_is_written() -> Result<()> {
    story().await
}

/// The whole of it.
pub async fn story() -> Result<()> {
    let Some(helm) = Helm::new().await? else {
        return Ok(());
    };
    let cluster: &'static Cluster = Box::leak(Box::new(Cluster::start().await?));
    // Its nodes welcome everybody's pods.
    let welcome = ["taint", "node", "--all", "kwok.x-k8s.io/node-"];
    cluster.kubectl_ok(User::Admin, &welcome, "").await?;
    let shell = Shell::new(cluster, &helm)?;
    let blocks = blocks::run_by("quick start")?;
    ensure!(blocks.len() == 5, "{} blocks", blocks.len());
    let mut blocks = blocks.iter();
    for install in blocks.by_ref().take(1) {
        shell.types(install).await?;
    }
    let account = "rollback-controller";
    let kubeconfig = cluster
        .service_account_kubeconfig(HOME, account, None)
        .await?;
    let program = testkit::target_folder().join("debug/rollback-controller");
    let controller = ControllerProcess::spawn(&program, &kubeconfig, "", &["--leader-elect=true"])?;
    controller.ready().await?;
    // The API server takes some seconds until it takes objects of a new definition; real pods take longer to start.
    let request = testkit::workspace().join("docs/examples/request.yaml");
    let request = std::fs::read_to_string(request)?;
    eventually("requests are taken", PATIENCE, async || {
        let create = ["create", "--dry-run=server", "-n", "shop", "-f", "-"];
        cluster.kubectl_ok(User::Admin, &create, &request).await
    })
    .await?;
    for block in blocks {
        shell.types(block).await?;
    }
    Ok(())
}

/// A shell of the administrator, with kubectl and Helm.
struct Shell {
    home: TempDir,
    kubeconfig: PathBuf,
}

impl Shell {
    fn new(cluster: &Cluster, helm: &Helm) -> Result<Self> {
        let home = TempDir::new()?;
        let kubectl = cluster.binaries().kubectl();
        for (name, program) in [("kubectl", kubectl.as_path()), ("helm", helm.program())] {
            std::os::unix::fs::symlink(program, home.path().join(name))?;
        }
        Ok(Self {
            home,
            kubeconfig: cluster.kubeconfig().to_owned(),
        })
    }

    async fn types(&self, block: &Block) -> Result<()> {
        let workspace = testkit::workspace();
        block
            .type_in(&workspace, self.home.path(), &self.kubeconfig)
            .await
    }
}
