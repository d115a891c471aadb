//! What people are told to type, given to a real shell: the program gets what was meant, and nothing else runs.

use anyhow::{Context as _, Result, ensure};
use rollback_api::{
    APPROVED_BY, CANCELLED_BY, CHECKLIST, CONFIRM, DENIED_BY, DENIED_REASON, LIFT, LIFTED_BY, PLAN,
    WITHDRAWN_BY,
};
use serde_json::{Value, json};
use testkit::scene::{PRODUCTION, TICKED};
use testkit::shell::{HOSTILE, Shell, cut, settings};
use testkit::{Cluster, User, shop};

use crate::attack::{
    AWAITING, Expect, GLASS, HALF, MERGE, Moment, OWN, RISKY, SEVERAL, Thing, Verb,
};
use crate::families;
use crate::people::{APPROVER, CONTROLLER, Person, Way};
use crate::stage::Stage;

const GROUP: &str = "broxiva:strange";
const SOMEBODY: &str = "somebody@broxiva.example";

/// Approves, under this name.
fn called(name: &'static str) -> Person {
    Person {
        slug: "strange",
        way: Way::Played(name, &[GROUP]),
        roles: &[],
    }
}

/// Names that a header can carry.
fn names() -> impl Iterator<Item = &'static str> {
    HOSTILE.into_iter().filter(|name| !name.contains('\n'))
}

fn notes(annotations: Value) -> Value {
    let mut patch = json!({"metadata": {}});
    patch["metadata"]["annotations"] = annotations;
    patch
}

/// What each of them tries, which is refused in words that say what to type instead, and the annotation that these name.
fn mistakes() -> Vec<(Thing, Value, &'static str)> {
    let approval = |by: Value| {
        notes(json!({APPROVED_BY: by, CONFIRM: PRODUCTION, PLAN: "$DIGEST", CHECKLIST: TICKED}))
    };
    vec![
        (AWAITING, approval(Value::Null), APPROVED_BY),
        (HALF, approval(json!(SOMEBODY)), APPROVED_BY),
        (AWAITING, notes(json!({WITHDRAWN_BY: ""})), WITHDRAWN_BY),
        (AWAITING, notes(json!({WITHDRAWN_BY: SOMEBODY})), DENIED_BY),
        (AWAITING, notes(json!({WITHDRAWN_BY: "$ME"})), DENIED_BY),
        (AWAITING, notes(json!({DENIED_REASON: "no"})), DENIED_BY),
        (
            AWAITING,
            notes(json!({DENIED_BY: SOMEBODY, DENIED_REASON: "no"})),
            DENIED_BY,
        ),
        (
            AWAITING,
            notes(json!({DENIED_BY: "$ME"})),
            "rollback.broxiva.com/denied-reason",
        ),
        (AWAITING, notes(json!({CANCELLED_BY: ""})), CANCELLED_BY),
        (
            AWAITING,
            notes(json!({CANCELLED_BY: SOMEBODY})),
            CANCELLED_BY,
        ),
        (
            SEVERAL,
            json!({"spec": {"reason": {"summary": "another"}}}),
            CANCELLED_BY,
        ),
        (Thing::Ledger, notes(json!({LIFT: "$BAD"})), LIFTED_BY),
        (
            Thing::Ledger,
            notes(json!({LIFT: "$BAD", LIFTED_BY: SOMEBODY})),
            LIFTED_BY,
        ),
    ]
}

/// Runs each `key=value` of a text as an argument of `kubectl annotate`, and gives what came out.
fn typed(shell: &Shell, text: &str) -> Result<Vec<String>> {
    let mut found = Vec::new();
    for setting in settings(text) {
        let called = shell.run(&format!("kubectl annotate rbr awaiting {setting}"))?;
        let [call] = called.as_slice() else {
            anyhow::bail!("{setting} calls {called:?}: {text}");
        };
        let ["kubectl", "annotate", "rbr", "awaiting", argument] =
            call.iter().map(String::as_str).collect::<Vec<_>>()[..]
        else {
            anyhow::bail!("{setting} is {call:?}: {text}");
        };
        found.push(argument.to_owned());
    }
    Ok(found)
}

/// Whoever may approve here, by their group.
async fn strange_people(stage: &Stage) -> Result<()> {
    let client = stage.scene.client(User::Admin).await?;
    let scribe = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": {"name": "strange"},
        "rules": [{"apiGroups": ["rollback.broxiva.com"], "resources": ["revisionledgers", "rollbackrequests"], "verbs": ["get", "patch"]}],
    });
    shop::apply(&client, stage.ns(), &scribe).await?;
    for (kind, role) in [
        ("ClusterRole", "rollback-approver"),
        ("ClusterRole", "edit"),
        ("Role", "strange"),
    ] {
        let binding = json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding",
            "metadata": {"name": format!("strange-{role}")},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": role},
            "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "Group", "name": GROUP}],
        });
        shop::apply(&client, stage.ns(), &binding).await?;
    }
    Ok(())
}

#[tokio::test]
async fn every_printed_command_does_what_it_says_and_nothing_else() -> Result<()> {
    let stage = Stage::full(Cluster::shared().await?, "printed").await?;
    strange_people(&stage).await?;
    let folder = testkit::workspace().join("target/printed-commands");
    let shell = Shell::new(folder)?;
    for name in names() {
        refusals(&stage, &shell, name)
            .await
            .with_context(|| format!("for {name:?}"))?;
    }
    phrases(&stage, &shell).await?;
    conditions(&stage, &shell).await?;
    everything(&stage, &shell).await
}

/// Every refusal of somebody with this name, and that what it says works.
async fn refusals(stage: &Stage, shell: &Shell, name: &'static str) -> Result<()> {
    let who = called(name);
    for (on, what, key) in mistakes() {
        let answer = stage.fire(who, MERGE, on, &what).await?;
        ensure!(
            answer.code == 403,
            "{what}: HTTP {} {}",
            answer.code,
            answer.message
        );
        let typed = typed(shell, &answer.message)?;
        let value = typed
            .iter()
            .find_map(|argument| argument.strip_prefix(key)?.strip_prefix('='));
        let value = value.with_context(|| format!("no {key} in {}", answer.message))?;
        let by = if key.ends_with("-by") {
            name
        } else {
            "why not"
        };
        ensure!(value == by, "{value:?} in {}", answer.message);
    }
    // What was printed counts: the name survives the shell.
    let missing = notes(json!({CONFIRM: PRODUCTION, PLAN: "$DIGEST", CHECKLIST: TICKED}));
    let answer = stage.fire(who, MERGE, AWAITING, &missing).await?;
    let printed = typed(shell, &answer.message)?;
    let by = printed
        .iter()
        .find_map(|argument| argument.strip_prefix(APPROVED_BY)?.strip_prefix('='));
    let by = by.with_context(|| answer.message.clone())?;
    let whole =
        notes(json!({APPROVED_BY: by, CONFIRM: PRODUCTION, PLAN: "$DIGEST", CHECKLIST: TICKED}));
    let answer = stage.fire(who, MERGE.dry(), AWAITING, &whole).await?;
    ensure!(answer.passed(), "HTTP {} {}", answer.code, answer.message);
    Ok(())
}

/// Phrases that are not harmless cannot be stored, not even by the controller; what is printed of those that can is.
async fn phrases(stage: &Stage, shell: &Shell) -> Result<()> {
    let mut refused = 0;
    for phrase in names() {
        let stored =
            json!({"status": {"plan": {"rules": {"approvals": {"confirmPhrase": phrase}}}}});
        let on = Thing::Request(Moment::Own);
        let answer = stage
            .fire(CONTROLLER, MERGE.on("status"), on, &stored)
            .await?;
        if answer.code == 422 {
            ensure!(
                answer.message.contains("approvals.confirmPhrase"),
                "{}",
                answer.message
            );
            refused += 1;
            continue;
        }
        ensure!(answer.passed(), "HTTP {} {}", answer.code, answer.message);
        let wrong =
            notes(json!({APPROVED_BY: "$ME", CONFIRM: "?", PLAN: "$DIGEST", CHECKLIST: TICKED}));
        let answer = stage.fire(APPROVER, MERGE, OWN, &wrong).await?;
        ensure!(
            answer.code == 403,
            "HTTP {} {}",
            answer.code,
            answer.message
        );
        let confirm = format!("{CONFIRM}={phrase}");
        let typed = typed(shell, &answer.message)?;
        ensure!(typed == [confirm], "{typed:?} in {}", answer.message);
    }
    ensure!(refused > 3, "{refused}");
    Ok(())
}

/// What the conditions of the requests tell people to type.
async fn conditions(stage: &Stage, shell: &Shell) -> Result<()> {
    for on in [AWAITING, SEVERAL, GLASS, RISKY] {
        let request = stage.look(on, &json!({})).await?;
        let conditions = request.pointer("/status/conditions");
        let conditions = conditions
            .and_then(Value::as_array)
            .context("no conditions")?;
        let text = conditions
            .iter()
            .filter_map(|condition| condition["message"].as_str())
            .find_map(|text| text.find("kubectl annotate").map(|at| &text[at..]))
            .with_context(|| format!("no command in {conditions:?}"))?;
        let called = shell.run(cut(text, 8))?;
        let digest = request["status"]["plan"]["digest"]
            .as_str()
            .unwrap_or_default();
        let expected = [
            "kubectl".to_owned(),
            "annotate".to_owned(),
            "rbr".to_owned(),
            on.slug(),
            format!("{APPROVED_BY}=YOUR-USER-NAME"),
            format!("{CONFIRM}={PRODUCTION}"),
            format!("{PLAN}={digest}"),
            format!("{CHECKLIST}={TICKED}"),
        ];
        ensure!(called == [expected], "{called:?} of {text}");
    }
    Ok(())
}

/// What the whole table of attacks is told: whatever looks like something to type can be typed.
async fn everything(stage: &Stage, shell: &Shell) -> Result<()> {
    let mut seen = 0;
    for family in families::all() {
        let guarded = |expect: Expect| matches!(expect, Expect::Guard(..));
        for attempt in family.attempts() {
            let is_merge = attempt.how.verb == Verb::Merge;
            if !is_merge || !guarded(attempt.expect) || prints_nothing(family.name) {
                continue;
            }
            let answer = stage.attempt(&attempt).await?;
            seen += typed(shell, &answer.message)
                .with_context(|| attempt.id.clone())?
                .len();
        }
    }
    ensure!(seen > 40, "only {seen} were printed");
    Ok(())
}

/// Families whose refusals name no annotation to type.
fn prints_nothing(family: &str) -> bool {
    ![
        "approval", "denied", "denial", "cancel", "withdraw", "lift", "glass", "risk", "spec",
    ]
    .iter()
    .any(|part| family.contains(part))
}
