//! What a request that came by itself must not be.

use jiff::Timestamp;
use rollback_api::policy::Triggers;
use rollback_api::request::Trigger;
use rollback_api::status::Outcome;
use rollback_api::{Reason, RollbackPolicySpec, RollbackRequest, WATCH_SOURCE};

use crate::observed::{Deployment, SeenTarget};
use crate::outcome::refused;
use crate::text::plain;
use crate::trigger::live_since;
use crate::{ledger, time};

/// Whether the policy lets this source ask.
pub(super) fn source_allowed(
    request: &RollbackRequest,
    policy: Option<&RollbackPolicySpec>,
    now: Timestamp,
) -> Result<(), Outcome> {
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
            "spec.trigger.source: the RollbackPolicy of this namespace lets no request come from {source}. Who writes the policy allows it with {how}. Nothing was changed."
        ),
        now,
    ))
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
    seen: &SeenTarget,
    now: Timestamp,
) -> Result<(), Outcome> {
    let Some(trigger) = &request.spec.trigger else {
        return Ok(());
    };
    let ledger = seen.ledger.found();
    let since = live_since(deployment, &seen.replica_sets, ledger);
    not_older(trigger, deployment, since, now)?;
    let Some(rollback) =
        ledger::brought_by(ledger, deployment.uid(), &deployment.template().digest())
    else {
        return Ok(());
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
             A person has to look now. Nothing was changed by this request.",
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

/// The sender's clock and ours are read to the second.
fn not_older(
    trigger: &Trigger,
    deployment: &Deployment,
    since: Option<Timestamp>,
    now: Timestamp,
) -> Result<(), Outcome> {
    let Some(since) = since else {
        // It has only just been written: whatever was reported was reported before.
        return Err(older(trigger, deployment, "a moment ago", now));
    };
    if trigger.started_at.as_second() >= since.as_second() {
        return Ok(());
    }
    Err(older(trigger, deployment, &time::stamp(since), now))
}

fn older(trigger: &Trigger, deployment: &Deployment, since: &str, now: Timestamp) -> Outcome {
    refused(
        Reason::AlertOlderThanVersion,
        format!(
            "spec.trigger.startedAt: {} began at {}, and what Deployment {} runs is live only since {since}, so it is not about this version. Nothing was changed.",
            plain(&trigger.alert, 200),
            time::stamp(trigger.started_at),
            plain(deployment.name(), 253),
        ),
        now,
    )
}
