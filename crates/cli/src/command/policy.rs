//! `policy show`, `pause`, `resume`: the rules of the namespace.

use kube::api::Patch;
use rollback_api::policy::{Approvals, FreezeWindow, Triggers};
use rollback_api::{POLICY_NAME, RollbackPolicy, RollbackPolicySpec};
use serde_json::json;

use crate::Ending;
use crate::arguments::Format;
use crate::cluster::{Cluster, writes};
use crate::error::Error;
use crate::output::{self, clean, say, say_all};

/// Switches off or on what is rolled back without a person.
pub async fn pause(
    cluster: &Cluster,
    format: Option<Format>,
    paused: bool,
) -> Result<Ending, Error> {
    let api = cluster.api::<RollbackPolicy>();
    if api.get_opt(POLICY_NAME).await?.is_none() {
        return Err(Error::Refused(format!(
            "Namespace {} has no RollbackPolicy, so nothing is rolled back there without a person. Make one first (docs/policies.md), then type the command again.",
            clean(&cluster.namespace)
        )));
    }
    let patch = json!({"spec": {"triggers": {"paused": paused}}});
    let written = api
        .patch(POLICY_NAME, &writes(), &Patch::Merge(&patch))
        .await?;
    if !print(format, &written)? {
        let what = if paused {
            "paused: requests still come, and wait for a person"
        } else {
            "resumed"
        };
        say(&format!("rollbackpolicy/{POLICY_NAME} {what}"))?;
    }
    Ok(Ending::Done)
}

/// Shows the rules in force.
pub async fn show(cluster: &Cluster, format: Option<Format>) -> Result<Ending, Error> {
    let found = cluster.api::<RollbackPolicy>().get_opt(POLICY_NAME).await?;
    let policy = found.clone().unwrap_or_else(|| {
        let mut policy = RollbackPolicy::new(POLICY_NAME, RollbackPolicySpec::default());
        policy.metadata.namespace = Some(cluster.namespace.clone());
        policy
    });
    if print(format, &policy)? {
        return Ok(Ending::Done);
    }
    if found.is_none() {
        say(&format!(
            "Namespace {} has no RollbackPolicy: the rules of production hold.",
            clean(&cluster.namespace)
        ))?;
    }
    say_all(&text(&policy.spec))?;
    Ok(Ending::Done)
}

fn print(format: Option<Format>, policy: &RollbackPolicy) -> Result<bool, Error> {
    if format == Some(Format::Name) {
        say(&format!("rollbackpolicy/{POLICY_NAME}"))?;
        return Ok(true);
    }
    let mut policy = policy.clone();
    policy.metadata.managed_fields = None;
    output::data(format, &policy)
}

fn text(policy: &RollbackPolicySpec) -> Vec<String> {
    let mut lines = vec![format!("Environment      {:?}", policy.environment)];
    lines.extend(approvals(policy, &policy.approvals));
    for window in &policy.freeze_windows {
        lines.push(self::window(window));
    }
    lines.push(format!("By itself        {}", triggers(&policy.triggers)));
    let checks = &policy.verification;
    let names: Vec<String> = checks.http.iter().map(|it| clean(&it.name)).collect();
    let http = if names.is_empty() {
        "none".to_owned()
    } else {
        names.join(", ")
    };
    lines.push(format!(
        "HTTP checks      {http}; soak {} s",
        checks.soak_seconds
    ));
    lines.push(format!(
        "Rollout          {} s",
        policy.rollout.timeout_seconds
    ));
    lines
}

/// A time in which nothing is rolled back.
pub fn window(window: &FreezeWindow) -> String {
    format!(
        "Freeze window    {}: {} ({}) for {} minutes",
        clean(&window.name),
        clean(&window.schedule),
        clean(&window.time_zone),
        window.duration_minutes
    )
}

fn approvals(policy: &RollbackPolicySpec, approvals: &Approvals) -> Vec<String> {
    let environment = policy.environment;
    let phrase = approvals.confirm_phrase.as_deref();
    let four_eyes = approvals.four_eyes.unwrap_or(environment.four_eyes());
    let items = approvals
        .checklist
        .clone()
        .unwrap_or_else(|| environment.checklist());
    let mut lines = vec![
        format!(
            "Approvals        {}{}",
            approvals.required,
            if four_eyes { ", not by who asked" } else { "" }
        ),
        format!(
            "Phrase           {}",
            clean(phrase.unwrap_or(environment.confirm_phrase()))
        ),
    ];
    for item in items {
        lines.push(format!(
            "Checklist        {}: {}",
            clean(&item.name),
            clean(&item.text)
        ));
    }
    let alone = if approvals.break_glass {
        "allowed"
    } else {
        "not allowed"
    };
    lines.push(format!("Break-glass      {alone}"));
    lines
}

/// What asks besides people.
pub fn triggers(triggers: &Triggers) -> String {
    if triggers.paused {
        return "paused: requests still come, and wait for a person (kubectl rollback resume)"
            .to_owned();
    }
    let sources: Vec<String> = triggers.sources.iter().map(|it| clean(it)).collect();
    let watch = if triggers.watch {
        "the controller's own watch"
    } else {
        ""
    };
    let asks: Vec<&str> = sources
        .iter()
        .map(String::as_str)
        .chain([watch])
        .filter(|it| !it.is_empty())
        .collect();
    if asks.is_empty() {
        return "nothing asks but people".to_owned();
    }
    let who = if triggers.approve {
        "the policy may approve"
    } else {
        "people approve"
    };
    format!("{} may ask; {who}", asks.join(", "))
}
