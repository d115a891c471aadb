//! One request: observe, decide, commit, act.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::FutureExt;
use jiff::Timestamp;
use kube::api::PostParams;
use kube::runtime::controller::Action;
use kube::{Api, ResourceExt};
use rollback_api::status::Approval;
use rollback_api::{FIELD_MANAGER, RollbackRequest, RollbackRequestStatus};
use rollback_core::decide::{automatic, decide, finalizer};
use rollback_core::execution::intent;
use rollback_core::execution::step::{self, Decision, Step};
use rollback_core::message::text::plain;
use rollback_core::observed::{Guard, TargetView, View};
use rollback_core::report::review;
use rollback_core::time;
use rollback_observe::newer::{Newer, Served};
use rollback_observe::{self as observe, Reader};

use crate::context::Context;
use crate::{act, events, newer, notify, selftest};

/// How long one pass may take, whatever hangs.
const PASS_LIMIT: Duration = Duration::from_mins(1);
/// How many passes one request makes in a row before others get their turn.
const PASSES_IN_A_ROW: u32 = 16;
/// How many failed passes in a row are not worth an Event.
const FAILURES_UNTOLD: u32 = 2;
/// Longest time between two tries of a pass that fails.
const LONGEST_BACKOFF: Duration = Duration::from_mins(1);
/// How often is looked at what is not watched, in seconds.
const UNWATCHED_SECONDS: i64 = 30;
/// Longest time that a timer runs; then it is set again.
const LONGEST_TIMER: Duration = Duration::from_hours(24);

/// Why a pass failed. All of it is tried again.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Something could not be read.
    #[error("observing failed")]
    Observe(#[from] observe::Error),
    /// The status could not be written.
    #[error("committing the status failed")]
    Commit(#[source] kube::Error),
    /// The step could not be taken.
    #[error("acting failed")]
    Act(#[from] act::Error),
    /// The pass took too long.
    #[error("the pass did not end within {} seconds", PASS_LIMIT.as_secs())]
    TimedOut,
}

impl Error {
    /// Category for the metric.
    fn stage(&self) -> &'static str {
        match self {
            Self::Observe(_) => "observe",
            Self::Commit(_) => "commit",
            Self::Act(_) => "act",
            Self::TimedOut => "timeout",
        }
    }

    /// Whether somebody else wrote first. Nothing is wrong then: look again.
    fn is_conflict(&self) -> bool {
        let error = match self {
            Self::Commit(error)
            | Self::Act(
                act::Error::Begin(error) | act::Error::Ledger(error) | act::Error::Mailbox(error),
            ) => error,
            Self::Observe(_) | Self::Act(_) | Self::TimedOut => return false,
        };
        matches!(error, kube::Error::Api(status) if status.is_conflict() || status.is_already_exists())
    }

    /// Whether the API server says that this controller may not do that.
    fn is_forbidden(&self) -> bool {
        let mut causes =
            std::iter::successors(std::error::Error::source(self), |error| error.source());
        causes.any(|cause| {
            let error = cause.downcast_ref::<kube::Error>();
            matches!(error, Some(kube::Error::Api(status)) if status.code == 403)
        })
    }
}

/// What follows a pass.
enum Next {
    /// Another pass, from this state.
    Pass(Box<RollbackRequest>),
    /// Nothing before then.
    At(Timestamp),
    /// Nothing before something changes.
    Change,
}

/// Brings one request as far as it goes now.
pub async fn reconcile(
    cached: Arc<RollbackRequest>,
    context: Arc<Context>,
) -> Result<Action, Error> {
    if selftest::is_its_own(&cached) {
        return Ok(Action::await_change());
    }
    let uid = cached.uid().unwrap_or_default();
    if is_over(&cached) {
        notify::after_end(&cached, &context).await?;
        let next = remind(&cached, &context).await;
        context.forget(&uid);
        return Ok(next);
    }
    // A standby keeps its caches warm and comes no further than this.
    if !context.leader.elected().await {
        return Ok(Action::await_change());
    }
    // Whether the guard holds is tried first, once.
    context.guard.tested().await;
    // One namespace does not have all that is worked on at the same time.
    let namespace = cached.namespace().unwrap_or_default();
    let _share = match context.passes.try_take(&namespace) {
        Ok(share) => share,
        Err(wait) => return Ok(Action::requeue(wait)),
    };
    // The cache may be behind our own last write: begin with what is there now.
    let mut request = match observe::request(&context.client, &cached).await? {
        Some(Served::Known(live)) if is_over(&live) => {
            notify::finish(live.clone(), &context).await?;
            let next = remind(&live, &context).await;
            context.forget(&uid);
            return Ok(next);
        }
        Some(Served::Known(live)) => *live,
        Some(Served::Newer(live)) => return leave_alone(&context, &live).await,
        None => {
            context.forget(&uid);
            context.outbox.gone(&uid);
            return Ok(Action::await_change());
        }
    };
    for _ in 0..PASSES_IN_A_ROW {
        let started = Instant::now();
        let passed = tokio::time::timeout(PASS_LIMIT, Box::pin(pass(&request, &context)))
            .await
            .unwrap_or(Err(Error::TimedOut));
        let next = match passed {
            Ok(next) => next,
            Err(error) => {
                if is_out_of_reach(&context, &request, &error) {
                    return let_go(&context, &request, &error).await;
                }
                say_if_stuck(&context, &request, &error).await;
                return Err(error);
            }
        };
        context.metrics.reconciled(started.elapsed());
        context.remember(&uid, |memory| memory.failures = 0);
        match next {
            Next::Pass(newer) => request = *newer,
            Next::At(at) => {
                let wait = at.duration_since(Timestamp::now()).unsigned_abs();
                let wait = if at <= Timestamp::now() {
                    Duration::ZERO
                } else {
                    wait
                };
                return Ok(Action::requeue(wait));
            }
            Next::Change => return Ok(Action::await_change()),
        }
    }
    Ok(Action::requeue(Duration::ZERO))
}

/// Whether a request that is deleted cannot be wound up, because the controller may not work in its namespace any more:
/// the namespace goes, and its `RoleBindings` first, or somebody has ended the opting in. A permission that is gone for
/// a moment only is asked for again.
fn is_out_of_reach(context: &Context, request: &RollbackRequest, error: &Error) -> bool {
    let is_going = request.metadata.deletion_timestamp.is_some() && request.holds_finalizer();
    let failures = context.remember(&uid(request), |memory| memory.failures);
    is_going && error.is_forbidden() && failures >= FAILURES_UNTOLD
}

/// Of what a newer controller has written nothing is read, so a failure shows only that it cannot be let go as it should.
async fn leave_alone(context: &Arc<Context>, live: &Newer) -> Result<Action, Error> {
    match newer::leave_alone(context, live).await {
        Err(error) if is_out_of_reach(context, &live.request, &error) => {
            let_go(context, &live.request, &error).await
        }
        next => next,
    }
}

/// Nothing that is still owed can be done, so it must not keep the request, and with it the namespace, for ever.
async fn let_go(
    context: &Arc<Context>,
    request: &RollbackRequest,
    error: &Error,
) -> Result<Action, Error> {
    tracing::warn!(
        namespace = request.namespace(),
        request = request.name_any(),
        why = chain(error),
        "a deleted request is let go: this controller may not work in its namespace any more, so no report is written and no claim given back"
    );
    act::act_all(
        context,
        request,
        &observe::Read::default(),
        &[Step::DropFinalizer],
    )
    .await?;
    context.forget(&uid(request));
    Ok(Action::await_change())
}

/// What is left of a request that is over: a timer until its incident has to be reviewed, and one Event then. Nothing
/// is read for it, however many there are.
async fn remind(request: &RollbackRequest, context: &Context) -> Action {
    let now = Timestamp::now();
    let Some(due) = review::due(request) else {
        return Action::await_change();
    };
    if due > now {
        return Action::requeue(due.duration_since(now).unsigned_abs().min(LONGEST_TIMER));
    }
    if !context.leader.elected().await || events::reminder(context, request, now).await {
        return Action::await_change();
    }
    Action::requeue(LONGEST_BACKOFF)
}

/// One failure is nobody's business: the next pass is soon. Several in a row are.
async fn say_if_stuck(context: &Context, request: &RollbackRequest, error: &Error) {
    let uid = request.uid().unwrap_or_default();
    let failures = context.remember(&uid, |memory| memory.failures);
    if failures >= FAILURES_UNTOLD && !error.is_conflict() {
        events::stuck(context, request, failures.saturating_add(1), &chain(error)).await;
    }
}

/// A Deployment that cannot be read keeps no other from going on, but somebody has to hear of it.
async fn say_if_partial(
    context: &Context,
    request: &RollbackRequest,
    failed: Option<observe::Error>,
) {
    let uid = request.uid().unwrap_or_default();
    let Some(error) = failed else {
        context.remember(&uid, |memory| memory.partial_failures = 0);
        return;
    };
    let error = Error::Observe(error);
    context.metrics.failed(error.stage());
    let failures = context.remember(&uid, |memory| {
        memory.partial_failures = memory.partial_failures.saturating_add(1);
        memory.partial_failures
    });
    let why = chain(&error);
    if failures.is_power_of_two() {
        tracing::warn!(
            namespace = request.namespace(),
            request = request.name_any(),
            why,
            failures,
            "a Deployment is left for later"
        );
    }
    if failures > FAILURES_UNTOLD {
        events::stuck(context, request, failures, &why).await;
    }
}

/// Backs off for one request without delaying others.
#[expect(
    clippy::needless_pass_by_value,
    reason = "the signature that the controller asks for"
)]
pub fn error_policy(request: Arc<RollbackRequest>, error: &Error, context: Arc<Context>) -> Action {
    if error.is_conflict() {
        return Action::requeue(Duration::from_millis(50));
    }
    context.metrics.failed(error.stage());
    let uid = request.uid().unwrap_or_default();
    let failures = context.remember(&uid, |memory| {
        memory.failures = memory.failures.saturating_add(1);
        memory.failures
    });
    let cause = std::error::Error::source(error).map(chain);
    let wait = backoff(failures);
    tracing::warn!(
        namespace = request.namespace(), request = request.name_any(),
        %error, cause, attempt = failures, requeue_after = ?wait, "reconcile failed, requeued"
    );
    Action::requeue(wait)
}

/// How long the next attempt is waited for after so many failures in a row.
pub fn backoff(failures: u32) -> Duration {
    Duration::from_millis(250)
        .saturating_mul(1 << failures.saturating_sub(1).min(10))
        .min(LONGEST_BACKOFF)
}

/// An error and its causes, in one line.
pub fn chain(error: &dyn std::error::Error) -> String {
    match error.source() {
        None => error.to_string(),
        Some(source) => format!("{error}: {}", chain(source)),
    }
}

/// Whether nothing is owed to a request any more.
fn is_over(request: &RollbackRequest) -> bool {
    request.outcome().is_some() && !request.holds_finalizer()
}

/// Whether there was more to read than a pass of its size may.
fn is_too_much(observed: &Result<(View, observe::Read), observe::Error>) -> bool {
    let error = match observed {
        Ok((_, read)) => read.failed.as_ref(),
        Err(error) => Some(error),
    };
    matches!(error, Some(observe::Error::TooMuch { .. }))
}

fn uid(request: &RollbackRequest) -> String {
    request.uid().unwrap_or_default()
}

async fn pass(request: &RollbackRequest, context: &Context) -> Result<Next, Error> {
    let now = Timestamp::now();
    if finalizer::is_leaving(request) {
        return Ok(Next::Change);
    }
    if finalizer::is_due(request) {
        // Nothing is read for that, and nothing else is written before.
        let held = act::add_finalizer(context, request).await?;
        return Ok(held.map_or(Next::Change, |held| Next::Pass(Box::new(held))));
    }
    let status = request.status.as_ref();
    let is_asked = status.is_some_and(|status| automatic::is_asked(request, status));
    let _one_at_a_time = if is_asked {
        let namespace = request.namespace().unwrap_or_default();
        Some(context.deciding(&namespace).lock_owned().await)
    } else {
        None
    };
    let size = context.remember(&uid(request), |memory| memory.size);
    let namespace = request.namespace().unwrap_or_default();
    let Some(_permit) = context.read_permits.take(size, &namespace, Instant::now()) else {
        return Ok(Next::At(time::after(now, 1)));
    };
    let knowledge = context.knowledge(request);
    let guard = guard(context, request).boxed();
    let reader = Reader {
        client: &context.client,
        probe: &context.probe,
    };
    let observed = observe::observe(reader, &knowledge, guard, request, size, now).await;
    drop(knowledge);
    if let Some(larger) = size.larger().filter(|_| is_too_much(&observed)) {
        // From the beginning, when there is room for more.
        context.remember(&uid(request), |memory| memory.size = larger);
        return Ok(Next::Pass(Box::new(request.clone())));
    }
    let (view, read) = observed?;
    remember_logs(context, request, &view);
    let Decision {
        mut status,
        steps,
        next,
    } = decide(request, &view, now);
    status.notifications = context.outbox.advance(request, &status, now);
    let committed = commit(context, request, &status).await?;
    context.outbox.committed(&committed, now);
    let mut next = next;
    if matches!(next, step::Next::Wait { .. }) && !context.watches.keep(request, &status) {
        let until = Some(time::after(now, UNWATCHED_SECONDS));
        next = next.or(step::Next::Wait { until });
    }
    // Nobody looks at a request again that has been let go, so it is told about before: a second time what failed, for
    // there is no next pass. Events are never in the way, so that is all.
    let last = steps.contains(&Step::DropFinalizer);
    if last && !events::send(context, request, &status, now).await {
        events::send(context, request, &status, now).await;
    }
    let result = act::act_all(context, &committed, &read, &steps).await;
    if !last {
        events::send(context, request, &status, now).await;
        if let Some(guard) = guard_of(&view) {
            events::unguarded(context, request, &status, guard, now).await;
        }
    }
    result?;
    say_if_partial(context, request, read.failed).await;
    match next {
        step::Next::Again => Ok(Next::Pass(Box::new(committed))),
        // What was written has to be looked at.
        step::Next::Wait { .. } if !steps.is_empty() => Ok(Next::Pass(Box::new(committed))),
        step::Next::Wait { until: Some(until) } => Ok(Next::At(until)),
        step::Next::Wait { until: None } => Ok(Next::Change),
        step::Next::Done => {
            context.forget(&request.uid().unwrap_or_default());
            // The last change of the request comes back as an event, but it may be one that was seen already.
            let timer = time::after(now, LONGEST_TIMER.as_secs().cast_signed());
            let due = review::due(&committed).map(|due| due.min(timer));
            Ok(due.map_or(Next::Change, Next::At))
        }
    }
}

/// The guard as the watches see it; as it is now when an approval is about to be counted.
async fn guard(context: &Context, request: &RollbackRequest) -> Result<Guard, observe::Error> {
    if observe::counts_approvals(request) {
        return context.guard.confirmed(&context.client).await;
    }
    Ok(context.guard.seen())
}

/// The guard that was decided by, where it matters.
fn guard_of(view: &View) -> Option<&Guard> {
    match view {
        View::Planning(view) => Some(&view.guard),
        View::Working(view) => view.terms.as_ref().map(|terms| &terms.guard),
        View::TurnedAway(_) | View::Ended(_) => None,
    }
}

/// Each log is read once.
fn remember_logs(context: &Context, request: &RollbackRequest, view: &View) {
    let View::Working(view) = view else {
        return;
    };
    for seen in &view.targets {
        let TargetView::RollingOut(seen) = seen else {
            continue;
        };
        if let Some(log) = &seen.signs.last_log {
            let name = seen.brought.live.name.clone();
            context.note(&uid(request), |memory| {
                memory.logs.insert(name, log.clone());
            });
        }
    }
}

/// Writes the status if it differs. The `resourceVersion` that was read is the fence: whoever decided
/// on an older state loses here, before acting.
async fn commit(
    context: &Context,
    request: &RollbackRequest,
    status: &RollbackRequestStatus,
) -> Result<RollbackRequest, Error> {
    let mut next = request.clone();
    if request.status.as_ref() == Some(status) {
        return Ok(next);
    }
    next.status = Some(status.clone());
    let committed = store(context, &mut next).await?;
    remember_intents(context, request, status);
    report_break_glass(context, request, status);
    report_automatic(context, request, status);
    report_end(context, request, status);
    Ok(committed)
}

/// Writes the status of a request, for exactly the version that was read.
pub async fn store(
    context: &Context,
    next: &mut RollbackRequest,
) -> Result<RollbackRequest, Error> {
    next.metadata.managed_fields = None;
    let namespace = next.namespace().unwrap_or_default();
    let api: Api<RollbackRequest> = Api::namespaced(context.client.clone(), &namespace);
    let parameters = PostParams {
        field_manager: Some(FIELD_MANAGER.to_owned()),
        ..PostParams::default()
    };
    let name = next.name_any();
    let stored = api.replace_status(&name, &parameters, next).await;
    stored.map_err(Error::Commit)
}

/// Which writes no other process can have made before.
fn remember_intents(context: &Context, request: &RollbackRequest, status: &RollbackRequestStatus) {
    let stored = intent::stored(request.status.as_ref(), status);
    let stored = stored.map(|(name, generation)| (name.to_owned(), generation));
    context.note(&uid(request), |memory| memory.intended.extend(stored));
}

/// Counts and logs that somebody approved alone, once: with the commit that counts the approval.
fn report_break_glass(
    context: &Context,
    request: &RollbackRequest,
    status: &RollbackRequestStatus,
) {
    let old = request.status.iter().flat_map(|status| &status.approvals);
    let known: Vec<&Approval> = old.collect();
    let alone = status
        .approvals
        .iter()
        .filter(|approval| approval.break_glass.is_some() && !known.contains(approval));
    for approval in alone {
        context.metrics.approved_alone();
        tracing::warn!(
            namespace = request.namespace(),
            request = request.name_any(),
            by = plain(&approval.by.username, 200),
            "break-glass approval counted: one person approved alone"
        );
    }
}

/// Counts and logs what the policy said, once: with the commit that stores it.
fn report_automatic(context: &Context, request: &RollbackRequest, status: &RollbackRequestStatus) {
    let known = request.status.as_ref();
    let known = known.and_then(|status| status.auto_approval.as_ref());
    let Some(said) = status
        .auto_approval
        .as_ref()
        .filter(|said| Some(*said) != known)
    else {
        return;
    };
    let blocked_by = said
        .blocked_by
        .map(|word| word.known().unwrap_or("Unknown"));
    let decision = blocked_by.unwrap_or("Approved");
    context.metrics.decided(decision);
    tracing::info!(
        namespace = request.namespace(),
        request = request.name_any(),
        decision,
        "the policy has decided about a request that came by itself"
    );
}

/// Counts and logs an end, once: with the commit that brings it.
fn report_end(context: &Context, request: &RollbackRequest, status: &RollbackRequestStatus) {
    let is_first = request.outcome().is_none();
    let Some(outcome) = status.outcome.as_ref().filter(|_| is_first) else {
        return;
    };
    let reverted = status
        .targets
        .iter()
        .any(|target| target.reverted_at.is_some());
    let seconds = status
        .plan
        .as_ref()
        .filter(|_| reverted && rollback_core::report::conditions::is_settled(outcome))
        .map(|plan| outcome.at.duration_since(plan.planned_at).as_secs_f64());
    context.metrics.ended(outcome, seconds);
    tracing::info!(
        namespace = request.namespace(),
        request = request.name_any(),
        state = outcome.result.as_str(),
        reason = outcome.reason.as_str(),
        "a request ended"
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn backoff_grows_and_stops_growing() {
        assert_eq!(backoff(1), Duration::from_millis(250));
        assert_eq!(backoff(3), Duration::from_secs(1));
        assert_eq!(backoff(9), LONGEST_BACKOFF);
        assert_eq!(backoff(u32::MAX), LONGEST_BACKOFF);
    }
}
