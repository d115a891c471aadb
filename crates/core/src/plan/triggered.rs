//! What a request that came by itself must not be.

use jiff::Timestamp;
use rollback_api::policy::Triggers;
use rollback_api::request::{Target, To, Trigger};
use rollback_api::{
    Reason, RollbackPolicySpec, RollbackRequest, RollbackRequestSpec, WATCH_SOURCE,
};

use super::Candidate;
use crate::evidence::trigger::{self, gone_back_since, live_since};
use crate::execution::outcome::{Ending, refused};
use crate::history::{History, ledger};
use crate::message::text::plain;
use crate::observed::Deployment;
use crate::time;

/// How many fields a message lists.
const LISTED: usize = 10;

/// What only a person may ask for, of a request that came by itself: the fields. Empty for those of people, who may do
/// by hand what they ask for.
///
/// Each field of the spec is decided here; `rollback-guard-create` refuses the same at creation:
/// - `targets[].to`: only `previous` and `lastKnownGood`; everything else is a choice of what runs.
/// - `targets[].from`: has to be there, so that an alert that comes late rolls nothing back.
/// - `targets[].name`, `selector`, `namePrefix`, `wave`: several are for a person (`BlockedBy::MultipleTargets`).
/// - `rollout`, `verification`: say when a rollback has failed and what is brought back then, so they choose what runs.
/// - `dryRun`: would stand under a name of ours and do nothing.
/// - `reason`: a claim, as of everybody; what it leads to is the policy's decision matrix.
/// - `urgency`: takes `expedite` above what the category stands for, of everybody.
/// - `notAfter`: only shortens the time of the policy.
/// - `trigger`, `requestedBy`: who asks, by the verb and the stamp.
pub fn beyond(request: &RollbackRequest) -> Vec<String> {
    let RollbackRequestSpec {
        targets,
        reason: _,
        urgency: _,
        not_after: _,
        rollout,
        verification,
        trigger,
        dry_run,
        requested_by: _,
    } = &request.spec;
    if trigger.is_none() {
        return Vec::new();
    }
    let of_targets = targets.iter().enumerate().flat_map(|(index, target)| {
        let Target {
            kind: _,
            name: _,
            selector: _,
            name_prefix: _,
            from,
            to,
            wave: _,
        } = target;
        let to = (!goes_back(to)).then(|| format!("spec.targets[{index}].to"));
        let from = from
            .is_none()
            .then(|| format!("spec.targets[{index}].from"));
        to.into_iter().chain(from)
    });
    let others = [
        (rollout.is_some(), "spec.rollout"),
        (verification.is_some(), "spec.verification"),
        (*dry_run, "spec.dryRun"),
    ];
    let others = others.into_iter().filter(|(is_there, _)| *is_there);
    of_targets
        .chain(others.map(|(_, field)| field.to_owned()))
        .collect()
}

/// Whether it says nothing but back: to the version before, or to the last good one.
fn goes_back(to: &To) -> bool {
    let To {
        previous,
        revision,
        version,
        image,
        last_known_good,
        backup,
    } = to;
    let chooses = revision.is_some() || version.is_some() || image.is_some() || backup.is_some();
    !chooses && (previous.is_some() || last_known_good.is_some())
}

/// The API server refuses it too; but the guard may have been away when it was created.
pub(super) fn only_goes_back(request: &RollbackRequest, now: Timestamp) -> Result<(), Ending> {
    let mut fields = beyond(request);
    if fields.is_empty() {
        return Ok(());
    }
    let more = fields.len().saturating_sub(LISTED);
    fields.truncate(LISTED);
    let mut fields = fields.join(", ");
    if more > 0 {
        fields = format!("{fields} and {more} more");
    }
    Err(refused(
        Reason::Forbidden,
        format!(
            "{fields}: what comes by itself goes back to the previous version or to the last one that is known to be good, says in each target (from) what is bad, and asks for nothing else, because no person has looked at it."
        ),
        now,
    )
    .next("Who may patch the Deployment can ask for more in a request without spec.trigger."))
}

/// Whether the policy lets this source ask.
pub(super) fn source_allowed(
    request: &RollbackRequest,
    policy: Option<&RollbackPolicySpec>,
    now: Timestamp,
) -> Result<(), Ending> {
    let Some(trigger) = &request.spec.trigger else {
        return Ok(());
    };
    let allowed = policy.is_some_and(|policy| names(&policy.triggers, &trigger.source));
    if allowed {
        return Ok(());
    }
    let source = plain(&trigger.source, 63);
    let how = if trigger.source == WATCH_SOURCE {
        "triggers.watch".to_owned()
    } else {
        format!("{source} in triggers.sources")
    };
    Err(refused(
        Reason::SourceNotAllowed,
        format!(
            "spec.trigger.source: the RollbackPolicy of this namespace lets no request come from {source}."
        ),
        now,
    )
    .next(format!("Who writes the policy allows it with {how}.")))
}

fn names(triggers: &Triggers, source: &str) -> bool {
    if source == WATCH_SOURCE {
        triggers.watch
    } else {
        triggers.sources.iter().any(|named| named == source)
    }
}

/// Whether the alert can be about what runs: not when it is older, and not when it came again after a rollback.
pub(super) fn is_about(
    request: &RollbackRequest,
    policy: Option<&RollbackPolicySpec>,
    deployment: &Deployment,
    seen: &Candidate,
    now: Timestamp,
) -> Result<(), Ending> {
    let Some(trigger) = &request.spec.trigger else {
        return Ok(());
    };
    let ledger = seen.ledger.as_ref();
    let since = live_since(deployment, &seen.replica_sets, ledger);
    not_older(trigger, deployment, since, now)?;
    let Some(rollback) =
        ledger::brought_by(ledger, deployment.uid(), &deployment.template().digest())
    else {
        return not_undone_by_hand(trigger, policy, deployment, seen, now);
    };
    let window = policy.map_or_else(Triggers::default, |policy| policy.triggers.clone());
    let end = time::after(rollback.at, i64::from(window.escalate_seconds));
    if now >= end {
        return Ok(());
    }
    Err(refused(
        Reason::DidNotHelp,
        format!(
            "Deployment {} was rolled back by {} on {}, and {} reports {} again since {}: going back did not help, and going further back may make it worse. \
             A person has to look now. ",
            plain(deployment.name(), 253),
            plain(&rollback.request, 253),
            time::stamp(rollback.at),
            plain(&trigger.source, 63),
            plain(&trigger.alert, 200),
            time::stamp(trigger.started_at),
        ),
        now,
    ))
}

/// What a person did by hand counts like what a request did.
fn not_undone_by_hand(
    trigger: &Trigger,
    policy: Option<&RollbackPolicySpec>,
    deployment: &Deployment,
    seen: &Candidate,
    now: Timestamp,
) -> Result<(), Ending> {
    // What was rolled back and came again was brought back, and nobody went back to it.
    let digest = deployment.template().digest();
    let ledger = ledger::current(seen.ledger.as_ref(), deployment.uid());
    let mut rollbacks = ledger.into_iter().flat_map(|ledger| &ledger.rollbacks);
    let came_again = rollbacks.any(|rollback| rollback.from_digest == digest);
    if came_again || was_undone(deployment, seen, &digest, now) {
        return Ok(());
    }
    let back = gone_back_since(deployment, &seen.replica_sets, seen.ledger.as_ref());
    let window = policy.map_or_else(Triggers::default, |policy| policy.triggers.clone());
    let window = i64::from(window.escalate_seconds);
    let Some(since) = back.filter(|since| now < time::after(*since, window)) else {
        return Ok(());
    };
    Err(refused(
        Reason::DidNotHelp,
        format!(
            "Deployment {} was rolled back by hand, and runs what ran before since {}; {} reports {} since {}: going further back may make it worse, and going forward brings back what was undone. \
             A person has to look now. ",
            plain(deployment.name(), 253),
            time::stamp(since),
            plain(&trigger.source, 63),
            plain(&trigger.alert, 200),
            time::stamp(began_at(trigger)),
        ),
        now,
    ))
}

/// Whether what runs was undone by somebody, and came again: nobody went back to it.
fn was_undone(deployment: &Deployment, seen: &Candidate, digest: &str, now: Timestamp) -> bool {
    let (ledger, lifted) = (seen.ledger.as_ref(), seen.lifted.as_deref());
    let known = ledger::evidence(ledger, deployment.uid());
    let bad = ledger::bad_templates(ledger, deployment.uid(), lifted, now);
    let history = History::of(deployment.uid(), &seen.replica_sets, known);
    history.undone(&bad).iter().any(|undone| undone == digest)
}

/// When the trouble began at the latest, as the sender says.
fn began_at(trigger: &Trigger) -> Timestamp {
    trigger::began_at(trigger.started_at, trigger.pending_seconds)
}

/// The sender's clock and ours are read to the second.
fn not_older(
    trigger: &Trigger,
    deployment: &Deployment,
    since: Option<Timestamp>,
    now: Timestamp,
) -> Result<(), Ending> {
    let began_at = began_at(trigger);
    let Some(since) = since else {
        // It has only just been written: whatever was reported was reported before.
        return Err(older(trigger, deployment, "a moment ago", now));
    };
    if began_at.as_second() >= since.as_second() {
        return Ok(());
    }
    Err(older(trigger, deployment, &time::stamp(since), now))
}

fn older(trigger: &Trigger, deployment: &Deployment, since: &str, now: Timestamp) -> Ending {
    refused(
        Reason::AlertOlderThanVersion,
        format!(
            "spec.trigger.startedAt: {} began at {}, and what Deployment {} runs is live only since {since}, so it is not about this version.",
            plain(&trigger.alert, 200),
            time::stamp(began_at(trigger)),
            plain(deployment.name(), 253),
        ),
        now,
    )
}
