//! Every attack is refused, and every twin passes.

use std::collections::BTreeSet;

use anyhow::{Result, ensure};
use futures::{StreamExt as _, TryStreamExt as _};
use serde_json::{Value, json};
use testkit::Cluster;

use crate::attack::{Attempt, Expect, Family, Thing, Verb};
use crate::families::{self, limits};
use crate::fire::{Answer, filled};
use crate::messages::Page;
use crate::stage::{Stage, unchanged};

/// What the API server says before the words of a policy.
const DENIED: &str = "ValidatingAdmissionPolicy '";

/// How many attempts there have to be, and how many of them refused by a policy, past the authorizer.
const AT_LEAST: (usize, usize) = (250, 150);

/// Families in which the one thing that is wrong is who does it: there the twin is somebody else's.
const WHO_IS_WRONG: [&str; 6] = [
    "asking",
    "status",
    "ledger",
    "lift",
    "artifact-deleted",
    "deployment",
];

/// How many attempts are under way at the same time: they change nothing, so none sees the other.
const AT_ONCE: usize = 6;

/// One attempt, and how it went.
struct Try {
    attempt: Attempt,
    answer: Answer,
    changed: bool,
}

/// The whole table against one namespace.
#[tokio::test]
async fn every_attack_is_refused() -> Result<()> {
    let stage = Stage::full(Cluster::shared().await?, "attacks").await?;
    let attempts: Vec<Attempt> = families::all().iter().flat_map(Family::attempts).collect();
    let ids: BTreeSet<String> = attempts.iter().map(|attempt| attempt.id.clone()).collect();
    ensure!(ids.len() == attempts.len(), "some are there twice");
    let tries: Vec<Try> = futures::stream::iter(attempts)
        .map(|attempt| try_it(&stage, attempt))
        .buffered(AT_ONCE)
        .try_collect()
        .await?;
    let mut page = Page::new(stage.ns());
    let mut wrong = Vec::new();
    for one in &tries {
        wrong.extend(one.objection());
        page.add(&one.attempt, &one.answer)?;
    }
    let admitted = tries
        .iter()
        .filter(|one| one.answer.message.contains(DENIED))
        .count();
    println!(
        "{} attempts, {admitted} of them refused by a policy",
        tries.len()
    );
    ensure!(
        wrong.is_empty(),
        "{} of {}:\n{}",
        wrong.len(),
        tries.len(),
        wrong.join("\n")
    );
    ensure!(tries.len() >= AT_LEAST.0 && admitted >= AT_LEAST.1);
    page.compare()
}

/// Each family has twins, which pass: the same with the one thing put right, and only to see what would happen.
#[tokio::test]
async fn every_twin_passes() -> Result<()> {
    let stage = Stage::full(Cluster::shared().await?, "twins").await?;
    let mut wrong = Vec::new();
    let mut twins = Vec::new();
    for family in families::all() {
        let allowed = family.allowed();
        ensure!(!allowed.is_empty(), "{} has no twin", family.name);
        wrong.extend(alone(&family.attempts(), &allowed));
        twins.extend(allowed);
    }
    twins.extend(limits::family().allowed());
    let tries: Vec<Try> = futures::stream::iter(twins.into_iter().map(without_effect))
        .map(|twin| try_it(&stage, twin))
        .buffered(AT_ONCE)
        .try_collect()
        .await?;
    wrong.extend(tries.iter().filter_map(Try::objection));
    println!("{} twins", tries.len());
    ensure!(wrong.is_empty(), "{}:\n{}", wrong.len(), wrong.join("\n"));
    Ok(())
}

/// What is the API server's to write is as it should be, whatever a client says. Where it only compares, it says no.
#[tokio::test]
async fn what_is_forged_is_put_right() -> Result<()> {
    let stage = Stage::full(Cluster::shared().await?, "put-right").await?;
    let mut wrong = Vec::new();
    for case in limits::put_right() {
        let family = Family {
            name: "put-right",
            attacks: vec![case.row],
            twins: Vec::new(),
        };
        for attempt in family.attempts().into_iter().map(without_effect) {
            let answer = stage.attempt(&attempt).await?;
            let name = attempt.who.name(stage.ns());
            let wanted = filled(&case.holds, &[("$ME", name)]);
            let found = answer.body.pointer(case.field).cloned().unwrap_or_default();
            let is_right = if testkit::typed::is_on() {
                is_compared(&answer)
            } else {
                answer.passed() && found == wanted
            };
            if !is_right {
                wrong.push(format!(
                    "{}: {found}, HTTP {} {}",
                    attempt.id, answer.code, answer.message
                ));
            }
        }
    }
    ensure!(wrong.is_empty(), "{}:\n{}", wrong.len(), wrong.join("\n"));
    Ok(())
}

/// Whether one of the policies that compare who somebody is refused it.
fn is_compared(answer: &Answer) -> bool {
    let policies = ["create", "spec", "approval", "stamps"];
    policies.iter().any(|policy| {
        let policy = format!("{DENIED}rollback-guard-{policy}'");
        answer.code == 403 && answer.message.contains(&policy)
    })
}

/// Only to see what would happen.
fn without_effect(mut twin: Attempt) -> Attempt {
    if twin.how.verb != Verb::Get {
        twin.how = twin.how.dry();
    }
    twin
}

async fn try_it(stage: &Stage, attempt: Attempt) -> Result<Try> {
    let before = seen(stage, &attempt).await?;
    let answer = stage.attempt(&attempt).await?;
    let after = seen(stage, &attempt).await?;
    Ok(Try {
        changed: !unchanged(&before, &after),
        attempt,
        answer,
    })
}

async fn seen(stage: &Stage, attempt: &Attempt) -> Result<Value> {
    match attempt.on {
        Thing::Path(_) => Ok(json!({})),
        on => stage.look(on, &attempt.what).await,
    }
}

/// Attackers of a rule who do nothing of the kind that passes.
fn alone(attempts: &[Attempt], twins: &[Attempt]) -> BTreeSet<String> {
    let guarded = attempts
        .iter()
        .filter(|attempt| matches!(attempt.expect, Expect::Guard(..)));
    let lonely = guarded.filter(|attempt| {
        let anybody = WHO_IS_WRONG.contains(&attempt.family);
        let same = |twin: &Attempt| {
            twin.how.verb == attempt.how.verb
                && twin.how.sub == attempt.how.sub
                && (anybody || twin.who.slug == attempt.who.slug)
        };
        !twins.iter().any(same)
    });
    lonely
        .map(|attempt| {
            let Attempt {
                family, who, how, ..
            } = attempt;
            format!("{family}/{who:?}/{how}: no twin does it in this way")
        })
        .collect()
}

/// Whether the authorizer refused it, and not what comes after it.
fn is_authorizer(answer: &Answer) -> bool {
    answer.code == 403 && !answer.message.contains(DENIED)
}

impl Try {
    fn objection(&self) -> Option<String> {
        let Self {
            attempt, answer, ..
        } = self;
        let message = &answer.message;
        let right = match attempt.expect {
            Expect::Guard(policy, says) => {
                answer.code == 403
                    && message.contains(&format!("{DENIED}{policy}' with binding '{policy}'"))
                    && message.contains(says)
            }
            Expect::Rbac => is_authorizer(answer) && message.contains("cannot "),
            Expect::Schema(says) => answer.code == 422 && message.contains(says),
            Expect::Unsupported => answer.code == 415,
            Expect::Passes => answer.passed(),
        };
        let wrong = match attempt.expect {
            _ if self.changed => "it was changed",
            _ if right => return None,
            Expect::Passes => "it is refused",
            _ if answer.passed() => "A HOLE",
            _ => "another refusal than expected",
        };
        Some(format!(
            "{}: {wrong}: HTTP {} {message}",
            attempt.id, answer.code
        ))
    }
}
