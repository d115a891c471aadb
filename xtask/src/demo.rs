//! `cargo xtask demo`: the main job as a story. Every command is the real kubectl, and every line of
//! output is what it printed.

use anyhow::{Context, Result};
use testkit::health::{Answer, HealthServer};
use testkit::shop::{self, Behaviour, DeploymentBuilder};
use testkit::{Cluster, ControllerProcess, User};

use crate::Place;
use crate::cargo;
use crate::session::{self, CtrlC};
use crate::story::Story;

const REQUEST: &str = "api-5xx";

const POLICY: &str = "\
apiVersion: rollback.broxiva.com/v1alpha1
kind: RollbackPolicy
metadata: {name: default}
spec:
  environment: production
  rollout: {timeoutSeconds: 60}
  verification:
    timeoutSeconds: 30
    http:
    - {name: live, port: 18080, path: /health/live, periodSeconds: 1}
    - {name: ready, port: 18080, path: /health/ready, periodSeconds: 1}
";

const MANIFEST: &str = "\
apiVersion: rollback.broxiva.com/v1alpha1
kind: RollbackRequest
metadata: {name: api-5xx}
spec:
  targets:
  - name: broxiva-api
    from: {image: 'registry.broxiva.example/broxiva-api:v2.2.0'}
    to: {previous: {}}
  reason:
    category: ErrorRate
    summary: 5xx above 1 % since 14:02
    impact: One checkout in five fails.
    incidentUrl: https://incidents.broxiva.example/4711
";

/// Runs the demo, and leaves nothing running unless asked to.
pub async fn run(place: Place, keep: bool, ctrl_c: CtrlC) -> Result<()> {
    ctrl_c.or(demo(&place, keep)).await
}

async fn demo(place: &Place, keep: bool) -> Result<()> {
    session::prepare(place).await?;
    eprintln!("building the controller (a few minutes the first time, seconds later)");
    let program = cargo::controller(false).await?;
    let cluster = session::cluster(place).await?;
    let namespace = cluster.namespace("broxiva").await?;
    let kubeconfig = cluster
        .service_account_kubeconfig("rollback-system", "rollback-controller", None)
        .await?;
    let controller = ControllerProcess::spawn(&program, &kubeconfig, namespace.name(), &[])?;
    controller.ready().await?;

    let shop = Shop::open().await?;
    let story = Story::new(&cluster, namespace.name());
    tell(&story, &cluster, namespace.name(), &shop).await?;
    if keep {
        println!("\nThe cluster stays up until you press Ctrl-C. In another terminal:");
        println!("  export KUBECONFIG={}", cluster.kubeconfig().display());
        println!(
            "  kubectl --namespace {} get rbr,deployments",
            namespace.name()
        );
        std::future::pending::<()>().await;
    }
    Ok(())
}

/// The servers behind the pods: one for the good versions of the API, one for the bad.
struct Shop {
    good: HealthServer,
    bad: HealthServer,
}

impl Shop {
    async fn open() -> Result<Self> {
        let shop = Self {
            good: HealthServer::start().await?,
            bad: HealthServer::start().await?,
        };
        shop.bad.answer(Answer::status(500));
        Ok(shop)
    }

    fn version(&self, name: &str, version: &str) -> DeploymentBuilder {
        let bad = (name, version) == ("broxiva-api", "v2.2.0");
        let address = if bad { self.bad.ip() } else { self.good.ip() };
        shop::deployment(name)
            .version(version)
            .pod_ip(&address)
            .behaviour(Behaviour::Ready)
            .annotation("kubernetes.io/change-cause", &format!("deploy {version}"))
    }
}

async fn tell(story: &Story<'_>, cluster: &Cluster, namespace: &str, shop: &Shop) -> Result<()> {
    open_shop(story, cluster, namespace, shop).await?;
    ask(story).await?;
    let approval = forge(story).await?;
    approve(story, &approval).await?;
    report(story).await
}

async fn open_shop(
    story: &Story<'_>,
    cluster: &Cluster,
    namespace: &str,
    shop: &Shop,
) -> Result<()> {
    story.chapter("The shop: three services, two good versions, and this morning's deploy");
    let client = cluster.client(User::Admin).await?;
    story
        .quietly(User::Admin, &["apply", "-f", "-"], POLICY)
        .await?;
    for version in ["v2.1.4", "v2.1.5", "v2.2.0"] {
        for name in ["broxiva-api", "broxiva-cart", "broxiva-web"] {
            shop::apply(&client, namespace, &shop.version(name, version).build()).await?;
        }
        for name in ["broxiva-api", "broxiva-cart", "broxiva-web"] {
            shop::wait_available(&client, namespace, name).await?;
        }
    }
    story
        .types(User::Requester, &["get", "deployments", "-o", "wide"])
        .await?;
    story.say("broxiva-api v2.2.0 answers 500. Kubernetes calls it available.");
    story
        .types(
            User::Requester,
            &["rollout", "history", "deployment/broxiva-api"],
        )
        .await?;
    Ok(())
}

async fn ask(story: &Story<'_>) -> Result<()> {
    story.chapter("Rita is on call and asks for the previous version");
    story
        .types_with(User::Requester, &["apply", "-f", "-"], MANIFEST)
        .await?;
    let waiting =
        "--for=jsonpath={.status.conditions[?(@.type==\"Ready\")].reason}=AwaitingApproval";
    story
        .quietly(
            User::Requester,
            &["wait", waiting, "rbr", REQUEST, "--timeout=30s"],
            "",
        )
        .await?;
    story.types(User::Requester, &["get", "rbr"]).await?;
    let plan = "jsonpath={.status.plan.targets[0]}{\"\\n\"}{.status.plan.digest}{\"\\n\"}";
    story
        .types(User::Requester, &["get", "rbr", REQUEST, "-o", plan])
        .await?;
    Ok(())
}

/// Tries what must not work, and gives the annotations of an approval that does.
async fn forge(story: &Story<'_>) -> Result<[String; 4]> {
    let digest = story
        .quietly(
            User::Approver,
            &[
                "get",
                "rbr",
                REQUEST,
                "-o",
                "jsonpath={.status.plan.digest}",
            ],
            "",
        )
        .await?;
    let plan = format!("rollback.broxiva.com/plan={digest}");
    let confirm = "rollback.broxiva.com/confirm=ROLLBACK PRODUCTION";
    let ticked = "rollback.broxiva.com/checklist=incident-documented,stakeholders-notified";
    let by = |user: User| format!("rollback.broxiva.com/approved-by={}", user.as_str());
    let is_refused = async |user: User, name: User, confirm: &str, ticked: &str| {
        let name = by(name);
        let words = ["annotate", "rbr", REQUEST, &name, confirm, &plan, ticked];
        story.is_refused(user, &words).await
    };

    story.chapter("Approvals cannot be forged");
    story.say("Rita approves her own request.");
    is_refused(User::Requester, User::Requester, confirm, ticked).await?;
    story.say("Omar signs with Anna's name.");
    is_refused(User::SecondApprover, User::Approver, confirm, ticked).await?;
    story.say("Anna approves without typing what production asks for.");
    let short = "rollback.broxiva.com/confirm=yes";
    is_refused(User::Approver, User::Approver, short, ticked).await?;
    story.say("Anna approves before anybody was told.");
    let half = "rollback.broxiva.com/checklist=incident-documented";
    is_refused(User::Approver, User::Approver, confirm, half).await?;

    Ok([
        by(User::Approver),
        confirm.to_owned(),
        plan,
        ticked.to_owned(),
    ])
}

async fn approve(story: &Story<'_>, [by, confirm, plan, ticked]: &[String; 4]) -> Result<()> {
    story.chapter("Anna has read the plan and approves it");
    story
        .types(
            User::Approver,
            &["annotate", "rbr", REQUEST, by, confirm, plan, ticked],
        )
        .await?;
    story
        .types(
            User::Approver,
            &[
                "wait",
                "--for=condition=Complete",
                "rbr",
                REQUEST,
                "--timeout=60s",
            ],
        )
        .await?;
    story
        .types(
            User::Approver,
            &[
                "wait",
                "--for=condition=Reported",
                "rbr",
                REQUEST,
                "--timeout=30s",
            ],
        )
        .await?;
    Ok(())
}

async fn report(story: &Story<'_>) -> Result<()> {
    story.chapter("Production is back");
    story.types(User::Requester, &["get", "rbr"]).await?;
    story
        .types(User::Requester, &["get", "deployments", "-o", "wide"])
        .await?;
    story
        .types(
            User::Requester,
            &["rollout", "history", "deployment/broxiva-api"],
        )
        .await?;
    let columns = "custom-columns=TYPE:.type,REASON:.reason,NOTE:.note";
    let events = [
        "get",
        "events.events.k8s.io",
        "--sort-by=.eventTime",
        "--field-selector=regarding.kind=RollbackRequest",
        "-o",
        columns,
    ];
    story.types(User::Requester, &events).await?;

    story.chapter("The incident report, read back from the API server");
    let name = story
        .quietly(
            User::Requester,
            &[
                "get",
                "rbr",
                REQUEST,
                "-o",
                "jsonpath={.status.incident.configMap}",
            ],
            "",
        )
        .await?;
    let page = name
        .rsplit_once('-')
        .map(|(stem, _)| format!("{stem}.md"))
        .context("no incident")?;
    let content = format!("jsonpath={{.data.{}}}", page.replace('.', "\\."));
    story
        .types(
            User::Requester,
            &["get", "configmap", &name, "-o", &content],
        )
        .await?;
    Ok(())
}
