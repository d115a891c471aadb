//! What is wrong with an installation, planted on purpose, each by itself; and a cluster without any. In a cluster of its
//! own: most of it is there for everybody.

use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use testkit::User::{Admin, Outsider, Requester};
use testkit::scene::PATIENCE;
use testkit::{Cluster, ControllerProcess, User, eventually, shop};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::stage::{Said, WHY, plugin_in, said};

/// The field that is taken out of a definition.
const FIELD: &str = "RollbackRequest.status.plan.guard";
const REQUESTS: &str = "rollbackrequests.rollback.broxiva.com";

/// A cluster of its own, and a namespace in it.
struct Place {
    cluster: &'static Cluster,
    namespace: testkit::Namespace,
}

impl Place {
    async fn run(&self, user: User, words: &[&str]) -> Result<Said> {
        let mut plugin = plugin_in(
            self.cluster.kubeconfig(),
            user.context(),
            self.namespace.name(),
        );
        said(plugin.args(words).spawn()?).await
    }

    async fn kubectl(&self, words: &[&str], input: &str) -> Result<String> {
        self.cluster.kubectl_ok(Admin, words, input).await
    }

    /// That doctor, run by the administrator, comes to find this fault. Authorizer and admission learn late.
    async fn finds(&self, check: &str, seen: &str) -> Result<()> {
        eventually(&format!("doctor finds {seen}"), PATIENCE, async || {
            let findings = self
                .run(Admin, &["doctor", "-o", "json"])
                .await?
                .ended(8)?
                .json()?;
            let all = findings.as_array().context("no list")?;
            let is_it = |it: &&Value| {
                it["check"] == check
                    && it["verdict"] == "Fault"
                    && it["seen"].as_str().is_some_and(|text| text.contains(seen))
            };
            let found = all
                .iter()
                .find(is_it)
                .with_context(|| format!("only {findings}"))?;
            let says = |field: &str| found[field].as_str().is_some_and(|text| !text.is_empty());
            ensure!(says("why") && says("next"), "{found}");
            Ok(())
        })
        .await
    }

    /// That nothing is wrong with these any more.
    async fn is_well(&self, checks: &[&str]) -> Result<()> {
        eventually("doctor finds nothing there", PATIENCE, async || {
            let findings = self.run(Admin, &["doctor", "-o", "json"]).await?.json()?;
            for check in checks {
                let all = findings.as_array().into_iter().flatten();
                let of: Vec<_> = all.filter(|it| it["check"] == *check).collect();
                let is_well = of.iter().all(|it| it["verdict"] == "Ok");
                ensure!(is_well && !of.is_empty(), "{check}: {findings}");
            }
            Ok(())
        })
        .await
    }

    /// A Lease of a controller for this namespace.
    async fn lease(&self, renewed: Timestamp, version: &str) -> Result<()> {
        let lease = json!({
            "apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
            "metadata": {
                "name": format!("rollback-controller-{}", self.namespace.name()), "namespace": "rollback-system",
                "annotations": {"rollback.broxiva.com/controller-version": version},
            },
            "spec": {"holderIdentity": "planted", "leaseDurationSeconds": 15, "renewTime": format!("{renewed:.6}")},
        });
        self.kubectl(&["apply", "-f", "-"], &lease.to_string())
            .await?;
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn doctor_names_each_fault_that_is_planted() -> Result<()> {
    let cluster: &'static Cluster = Box::leak(Box::new(Cluster::start().await?));
    let namespace = cluster.namespace("faults").await?;
    let place = Place { cluster, namespace };
    let drafted = without_the_operator(&place).await?;
    // 1: nothing is installed.
    place.finds("definitions", "not there").await?;
    place
        .finds(
            "guard",
            "ValidatingAdmissionPolicy rollback-guard-approval is missing",
        )
        .await?;

    cluster.install().await?;
    place
        .is_well(&[
            "definitions",
            "guard",
            "guard in force",
            "opt-in",
            "rights of the controller",
        ])
        .await?;
    planned_as_drafted(&place, &drafted).await?;
    definitions(&place).await?;
    guard(&place).await?;
    controller(&place).await?;
    operator_only(&place).await?;
    opt_in(&place).await?;
    clock().await
}

/// A plan where there is no operator at all: who may only look sees what it would do, and under which rules.
async fn without_the_operator(place: &Place) -> Result<Value> {
    let client = place.cluster.client(Admin).await?;
    for version in ["v1", "v2"] {
        let object = shop::deployment("api").version(version).replicas(1).build();
        shop::apply(&client, place.namespace.name(), &object).await?;
        shop::wait_available(&client, place.namespace.name(), "api").await?;
    }
    let words = [&["plan", "api", "--to", "previous"][..], &WHY].concat();
    for user in [Admin, Requester, Outsider] {
        place.run(user, &words).await?.ended(0)?.prints(&[
            "The operator is not installed in this cluster",
            "revision 2 -> revision 1 (v1)",
            "Production, High urgency: one approval, not by who asked",
            "ROLLBACK PRODUCTION",
        ])?;
    }
    let every = ["plan", "--prefix", "a", "--to", "previous", "-o", "json"];
    let drafted = place.run(Outsider, &every).await?.ended(0)?.json()?;
    ensure!(drafted["installed"] == false, "{drafted}");
    ensure!(
        drafted["plan"]["targets"][0]["to"]
            .as_str()
            .is_some_and(|to| to.starts_with("revision-1@")),
        "{drafted}"
    );
    place
        .run(Admin, &["status"])
        .await?
        .ended(1)?
        .complains(&["The definitions of rollback.broxiva.com are not installed"])?;
    let words = [&words[..], &["-o", "json"]].concat();
    let drafted = place.run(Outsider, &words).await?.ended(0)?;
    drafted.json()
}

/// Installed, the controller plans what was drafted when there was none.
async fn planned_as_drafted(place: &Place, drafted: &Value) -> Result<()> {
    let cluster = place.cluster;
    let account =
        cluster.service_account_kubeconfig("rollback-system", "rollback-controller", None);
    let program = testkit::target_folder().join("debug/rollback-controller");
    let namespace = place.namespace.name();
    let controller = ControllerProcess::spawn(&program, &account.await?, namespace, &[])?;
    controller.ready().await?;
    let words = [
        &["create", "api", "--to", "previous", "--name", "api-5xx"],
        &WHY[..],
    ]
    .concat();
    place.run(Requester, &words).await?.ended(0)?;
    eventually("there is a plan", PATIENCE, async || {
        let request = place
            .run(Requester, &["status", "api-5xx", "-o", "json"])
            .await?
            .ended(0)?
            .json()?;
        let plan = &request["status"]["plan"];
        ensure!(plan["digest"].is_string(), "not yet: {request}");
        Ok(())
    })
    .await?;
    let request = place
        .run(Requester, &["status", "api-5xx", "-o", "json"])
        .await?
        .ended(0)?
        .json()?;
    for part in ["targets", "rules"] {
        let (plan, draft) = (&request["status"]["plan"][part], &drafted["plan"][part]);
        ensure!(plan == draft, "{part}: {plan}\nand not\n{draft}");
    }
    place
        .run(Requester, &["cancel", "api-5xx"])
        .await?
        .ended(0)?;
    Ok(())
}

/// 2: the definitions lack a field.
async fn definitions(place: &Place) -> Result<()> {
    let get = ["get", "crd", REQUESTS, "-o", "json"];
    let mut definition: Value = serde_json::from_str(&place.kubectl(&get, "").await?)?;
    let plan = "/spec/versions/0/schema/openAPIV3Schema/properties/status/properties/plan";
    let plan = definition.pointer_mut(plan).context("no plan")?;
    plan["properties"]
        .as_object_mut()
        .context("no fields")?
        .remove("guard");
    if let Some(required) = plan["required"].as_array_mut() {
        required.retain(|name| name != "guard");
    }
    place
        .kubectl(&["replace", "-f", "-"], &definition.to_string())
        .await?;
    place.finds("definitions", FIELD).await?;
    place.cluster.install().await?;
    place.is_well(&["definitions"]).await
}

/// 3 to 6: the guard has a policy less, one that was altered, a binding that does nothing; and none is in force.
async fn guard(place: &Place) -> Result<()> {
    let policy = ["validatingadmissionpolicy", "rollback-guard-approval"];
    place
        .kubectl(&[&["delete"], &policy[..]].concat(), "")
        .await?;
    place
        .finds(
            "guard",
            "ValidatingAdmissionPolicy rollback-guard-approval is missing",
        )
        .await?;
    place.cluster.install().await?;

    let altered = r#"{"spec": {"failurePolicy": "Ignore"}}"#;
    place
        .kubectl(
            &[&["patch"], &policy[..], &["--type=merge", "-p", altered]].concat(),
            "",
        )
        .await?;
    place.finds("guard", "rollback-guard-approval differs from what this plugin was built with (spec.failurePolicy)").await?;
    place.cluster.install().await?;

    let binding = [
        "validatingadmissionpolicybinding",
        "rollback-guard-approval",
    ];
    let audited = r#"{"spec": {"validationActions": ["Audit"]}}"#;
    place
        .kubectl(
            &[&["patch"], &binding[..], &["--type=merge", "-p", audited]].concat(),
            "",
        )
        .await?;
    place
        .finds(
            "guard",
            "ValidatingAdmissionPolicyBinding rollback-guard-approval differs",
        )
        .await?;
    // What somebody else put into the list would stay there.
    place
        .kubectl(&[&["delete"], &binding[..]].concat(), "")
        .await?;
    place
        .finds(
            "guard",
            "ValidatingAdmissionPolicyBinding rollback-guard-approval is missing",
        )
        .await?;
    place.cluster.install().await?;
    place.is_well(&["guard", "guard in force"]).await?;

    let bindings = "validatingadmissionpolicybinding,mutatingadmissionpolicybinding";
    place
        .kubectl(
            &["delete", bindings, "-l", "rollback.broxiva.com/guard"],
            "",
        )
        .await?;
    place
        .finds(
            "guard in force",
            "in the name of somebody else would be stored",
        )
        .await?;
    place.cluster.install().await?;
    place.is_well(&["guard", "guard in force"]).await
}

/// 7 to 10: no controller, one that is gone, one of another version, and one that may not do what it has to.
async fn controller(place: &Place) -> Result<()> {
    place
        .finds("controller", "no Lease of one is there")
        .await?;
    let now = Timestamp::now();
    place
        .lease(
            now - SignedDuration::from_mins(10),
            env!("CARGO_PKG_VERSION"),
        )
        .await?;
    place
        .finds("controller", "planted renewed its Lease 10m")
        .await?;
    place.lease(Timestamp::now(), "0.0.1").await?;
    place
        .finds("versions", "the controller is 0.0.1, this plugin is")
        .await?;
    place
        .lease(Timestamp::now(), env!("CARGO_PKG_VERSION"))
        .await?;
    place.is_well(&["controller", "versions"]).await?;

    let get = ["get", "clusterrole", "rollback-controller", "-o", "json"];
    let mut role: Value = serde_json::from_str(&place.kubectl(&get, "").await?)?;
    let rules = role["rules"].as_array_mut().context("no rules")?;
    rules.retain(|rule| rule["resources"] != json!(["pods"]));
    place
        .kubectl(&["replace", "-f", "-"], &role.to_string())
        .await?;
    place
        .finds(
            "rights of the controller",
            "rollback-system/rollback-controller lacks get on pods",
        )
        .await?;
    place.cluster.install().await?;
    place.is_well(&["rights of the controller"]).await
}

/// What `helm test` runs: the operator and nothing else, and what nobody can tell is not well.
async fn operator_only(place: &Place) -> Result<()> {
    place
        .lease(Timestamp::now(), env!("CARGO_PKG_VERSION"))
        .await?;
    let arguments = ["doctor", "--operator", "-o", "json"];
    let findings = place.run(Admin, &arguments).await?.ended(0)?.json()?;
    let all = findings.as_array().context("no findings")?;
    let has = |check: &str| all.iter().any(|it| it["check"] == check);
    ensure!(has("guard in force") && has("controller"), "{findings}");
    ensure!(!has("opt-in") && !has("by itself"), "{findings}");
    place.run(Requester, &arguments).await?.ended(8)?;
    Ok(())
}

/// 11 and 12: the namespace has not opted in, or for somebody else.
async fn opt_in(place: &Place) -> Result<()> {
    let namespace = place.namespace.name();
    let delete = [
        "delete",
        "rolebinding",
        "test-rollback-executor",
        "-n",
        namespace,
    ];
    place.kubectl(&delete, "").await?;
    place.finds("opt-in", "binds rollback-executor").await?;
    let other = "--serviceaccount=default:somebody";
    let create = [
        "create",
        "rolebinding",
        "other",
        "-n",
        namespace,
        "--clusterrole=rollback-executor",
        other,
    ];
    place.kubectl(&create, "").await?;
    place
        .finds(
            "opt-in",
            "but not to ServiceAccount rollback-system/rollback-controller",
        )
        .await
}

/// 13: the clocks differ. A server that knows its version, an hour ago, and nothing else.
async fn clock() -> Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let server = tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut asked = [0; 8192];
                while stream.read(&mut asked).await.is_ok_and(|read| read > 0) {
                    if stream.write_all(answer(&asked).as_bytes()).await.is_err() {
                        break;
                    }
                }
            });
        }
    });
    let folder = tempfile::tempdir()?;
    let kubeconfig = folder.path().join("config");
    let config = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "slow",
        "clusters": [{"name": "slow", "cluster": {"server": format!("http://{address}")}}],
        "users": [{"name": "slow", "user": {"token": "slow"}}],
        "contexts": [{"name": "slow", "context": {"cluster": "slow", "user": "slow"}}],
    });
    std::fs::write(&kubeconfig, config.to_string())?;
    let findings = said(doctor(&kubeconfig).spawn()?).await?;
    server.abort();
    findings
        .ended(8)?
        .prints(&["no  clock: differs from the server's by 1h0m"])?;
    Ok(())
}

fn doctor(kubeconfig: &Path) -> tokio::process::Command {
    let mut plugin = plugin_in(kubeconfig, "slow", "default");
    plugin.arg("doctor");
    plugin
}

fn answer(asked: &[u8]) -> String {
    let date = (Timestamp::now() - SignedDuration::from_hours(1)).to_zoned(jiff::tz::TimeZone::UTC);
    let date = date.strftime("%a, %d %b %Y %H:%M:%S GMT");
    let asked = String::from_utf8_lossy(asked);
    let (group, kind) = if asked.starts_with("POST /apis/authentication") {
        ("authentication", "SelfSubjectReview")
    } else if asked.starts_with("POST /apis/authorization.k8s.io/v1/subjectaccess") {
        ("authorization", "SubjectAccessReview")
    } else {
        ("authorization", "SelfSubjectAccessReview")
    };
    let review = json!({"apiVersion": format!("{group}.k8s.io/v1"), "kind": kind, "metadata": {}, "spec": {},
        "status": {"allowed": true, "userInfo": {"username": "slow"}}});
    let version = json!({"major": "1", "minor": "36", "gitVersion": "v1.36.0", "gitCommit": "", "gitTreeState": "",
        "buildDate": "", "goVersion": "", "compiler": "", "platform": ""});
    let missing = json!({"kind": "Status", "status": "Failure", "code": 404, "reason": "NotFound", "message": "page not found"});
    let (status, body) = if asked.starts_with("GET /version") {
        ("200 OK", version)
    } else if asked.starts_with("POST /apis/auth") {
        ("201 Created", review)
    } else {
        ("404 Not Found", missing)
    };
    let body = body.to_string();
    format!(
        "HTTP/1.1 {status}\r\nDate: {date}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
}
