//! A policy gets a power when it is made, or later when it had nothing of the kind: both take what the table of attacks
//! shows for a policy that has some of each already.

use anyhow::{Result, ensure};
use serde_json::{Value, json};
use testkit::Cluster;

use crate::attack::{How, MERGE, POST, Thing};
use crate::people::{KEEPER, OWNER, POLICY_ADMIN, Person, RUNNER};
use crate::stage::Stage;

const PATCH: &str = "may not patch the Deployment api in namespace";
const FORCE: &str = "may not delete pods in namespace";
const LOGS: &str = "may not get pods/log in namespace";
const RELAX: &str = "may not relax approvals in namespace";

/// A Job whose log is read.
fn job() -> Value {
    let pod = json!({"containers": [{"name": "main", "image": "shop/drain:1"}]});
    json!({"name": "drain", "logTailLines": 1, "podSpec": pod})
}

/// What a policy may say, who may not say it, and what they are told.
fn powers() -> Vec<(Value, Person, &'static str)> {
    let image = json!({
        "targetRef": {"name": "api"}, "container": "app", "image": "evil.example/miner:1",
    });
    let log = |spec: Value| (spec, RUNNER, LOGS);
    let weaker = |spec: Value| (spec, KEEPER, RELAX);
    let approvals = |approvals: Value| weaker(json!({"approvals": approvals}));
    let matrix = |entry: Value| weaker(json!({"decisionMatrix": [entry]}));
    vec![
        (
            json!({"remedies": {"fallbackImages": [image]}}),
            POLICY_ADMIN,
            PATCH,
        ),
        (
            json!({"remedies": {"forceDeleteAfterSeconds": 3600}}),
            POLICY_ADMIN,
            FORCE,
        ),
        log(json!({"rollout": {"logTailLines": 1}})),
        log(json!({"hooks": {"preRollback": [job()]}})),
        log(json!({"hooks": {"postRollback": [job()]}})),
        log(json!({"verification": {"jobs": [job()]}})),
        log(json!({"dataGate": {"migrationStatus": job()}})),
        weaker(json!({"environment": "staging"})),
        approvals(json!({"fourEyes": false})),
        approvals(json!({"checklist": []})),
        approvals(json!({"breakGlass": true})),
        approvals(json!({"validForSeconds": 3601})),
        approvals(json!({"expireAfterSeconds": 3601})),
        approvals(json!({"trustedMachines": ["system:serviceaccount:shop:robot"]})),
        matrix(json!({"category": "ErrorRate", "approval": "Automatic"})),
        matrix(json!({"category": "Feature", "approval": "Manual"})),
        weaker(json!({"triggers": {"approve": true}})),
    ]
}

/// Who gives a policy a power in this way without the verb for it, or is told something else.
async fn wrong(stage: &Stage, how: How) -> Result<Vec<String>> {
    let mut wrong = Vec::new();
    for (spec, who, says) in powers() {
        let what = json!({"spec": spec});
        let answer = stage.fire(who, how.dry(), Thing::Policy, &what).await?;
        if answer.code != 403 || !answer.message.contains(says) {
            let (code, message) = (answer.code, answer.message);
            wrong.push(format!("{who:?} {how} {spec}: HTTP {code} {message}"));
        }
    }
    Ok(wrong)
}

#[tokio::test]
async fn a_policy_that_had_no_power_gets_none_without_the_verb() -> Result<()> {
    let stage = Stage::empty(Cluster::shared().await?, "powers").await?;
    let mut found = wrong(&stage, POST).await?;
    let nothing = json!({"spec": {}});
    stage
        .must(POLICY_ADMIN, POST, Thing::Policy, nothing)
        .await?;
    found.extend(wrong(&stage, MERGE).await?);
    ensure!(found.is_empty(), "{}:\n{}", found.len(), found.join("\n"));
    // The twins: who has the verbs.
    for (spec, ..) in powers() {
        let what = json!({"spec": spec});
        stage.must(OWNER, MERGE.dry(), Thing::Policy, what).await?;
    }
    Ok(())
}
