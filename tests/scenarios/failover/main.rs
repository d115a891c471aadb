//! Two controllers, one Lease. The leader is killed, asked to end, frozen, or cut off, each in the
//! middle of a rollback; the other one finishes it, and what the API server has recorded is one
//! change of the template.
//!
//! Each controller has a proxy and a token of its own, so that both the proxy and the audit log know
//! who did what. These need an embedded cluster. They have more than one thread, so that the proxies
//! go on while somebody waits for a process to end.

mod definitions;
mod matrix;
mod pair;

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use kube::api::{DeleteParams, Patch, PatchParams};
use serde_json::json;
use testkit::proxy::Silence;
use testkit::scene::PATIENCE;
use testkit::{ControllerProcess, eventually};

use pair::{FIRST, Pair, SECOND, metric, page};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_happens_to_the_leader_the_standby_finishes_and_nothing_is_done_twice()
-> Result<()> {
    matrix::check().await
}

/// A Deployment of two replicas has to become ready, and who looks has to see who leads.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_standby_is_ready_and_says_that_it_does_not_lead() -> Result<()> {
    let pair = Pair::new("standby").await?;
    for (controller, leads) in [(&pair.first, 1), (&pair.second, 0)] {
        for path in ["/healthz", "/readyz"] {
            let (status, body) = page(controller, path).await?;
            ensure!((status, &*body) == (200, "ok"), "{path}: {status} {body}");
        }
        ensure!(metric(controller, "rollback_leader").await? == leads);
    }
    // It asks for nothing that would change anything, however much there is to do.
    pair.ask().await?;
    pair.scene.plan(pair::REQUEST).await?;
    let writes = pair.proxies[1].mutations();
    ensure!(writes.is_empty(), "the standby sent {writes:?}");
    // It has nothing to finish either.
    ensure!(pair.second.terminate()?.success());
    ensure!(pair.lease().await?.holder == FIRST);
    ensure!(pair.first.terminate()?.success());
    let holder = pair.lease().await?.holder;
    ensure!(holder.is_empty(), "{holder}: {}", pair.first.log());
    Ok(())
}

/// A container that is started again in its pod has the name of the pod again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn started_again_under_its_name_it_goes_on_at_once() -> Result<()> {
    let pair = Pair::alone("again").await?;
    let before = pair.lease().await?;
    pair.first.kill();
    let again = pair.start(0, FIRST)?;
    leads(&again).await?;
    let after = pair.lease().await?;
    ensure!((before.transitions, after.transitions) == (0, 0));
    ensure!(after.holder == FIRST);
    ensure!(!again.log().contains("standing by"), "{}", again.log());
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_finds_somebody_else_in_its_lease_ends() -> Result<()> {
    let pair = Pair::new("stolen").await?;
    let leases = pair.leases().await?;
    let intruder = json!({"spec": {"holderIdentity": "intruder"}});
    let parameters = PatchParams::default();
    leases
        .patch(&pair.lease_name(), &parameters, &Patch::Merge(&intruder))
        .await?;
    ends_badly(&pair.first, "intruder holds the lease now").await?;
    // The intruder is waited for like anybody else, and never heard of again.
    leads(&pair.second).await?;
    let lease = pair.lease().await?;
    ensure!((&*lease.holder, lease.transitions) == (SECOND, 1));
    Ok(())
}

/// Deleted or emptied by hand it is nobody's, and the leader may be the first to want it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lease_that_is_deleted_comes_back_with_one_leader() -> Result<()> {
    let pair = Pair::new("deleted").await?;
    let leases = pair.leases().await?;
    leases
        .delete(&pair.lease_name(), &DeleteParams::default())
        .await?;
    let holder = eventually("somebody has it again", PATIENCE, async || {
        Ok(pair.lease().await?.holder)
    })
    .await?;
    if holder == FIRST {
        ensure!(metric(&pair.first, "rollback_leader").await? == 1);
        ensure!(metric(&pair.second, "rollback_leader").await? == 0);
    } else {
        ends_badly(&pair.first, "holds the lease now").await?;
        leads(&pair.second).await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_cannot_reach_the_api_server_ends_and_is_replaced() -> Result<()> {
    let pair = Pair::new("cut-off").await?;
    pair.proxies[0].switch().set(Silence::Everything);
    ends_badly(&pair.first, "the lease could not be renewed in time").await?;
    leads(&pair.second).await?;
    ensure!(pair.lease().await?.transitions == 1);
    // A standby is patient: it has nothing to lose.
    let third = pair.start(0, "third")?;
    eventually("it says that it waits", PATIENCE, async || {
        let log = third.log();
        ensure!(
            log.contains("the API server is slow with the definitions"),
            "{log}"
        );
        Ok(())
    })
    .await?;
    ensure!(third.exited()?.is_none(), "{}", third.log());
    Ok(())
}

async fn leads(controller: &ControllerProcess) -> Result<()> {
    eventually("it leads", PATIENCE, async || {
        ensure!(metric(controller, "rollback_leader").await? == 1, "not yet");
        Ok(())
    })
    .await
    .with_context(|| controller.log())
}

/// Ends with a status that makes the kubelet start it again, and says why.
async fn ends_badly(controller: &ControllerProcess, why: &str) -> Result<()> {
    let status = eventually("it ends", Duration::from_secs(30), async || {
        controller.exited()?.context("it still runs")
    })
    .await
    .with_context(|| controller.log())?;
    ensure!(status.code() == Some(1), "{status}: {}", controller.log());
    let log = controller.log();
    let last = log.lines().last().unwrap_or_default();
    ensure!(last.contains("leader election lost"), "{log}");
    ensure!(last.contains(why), "{log}");
    Ok(())
}
