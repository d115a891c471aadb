//! What was written, compared with what was approved.

use anyhow::{Context as _, Result, ensure};
use rollback_core::history::template::Template;
use serde_json::Value;
use testkit::audit::Event;

use crate::boundary::Run;
use crate::boundary_change::Change;

/// Fails when a run wrote what it must not have written; gives the number of its reverts.
pub fn judge(change: Change, run: &Run, written: &[Event]) -> Result<usize> {
    let mine = written.iter().filter(|event| event.name == run.deployment);
    let mine: Vec<&Event> = mine.collect();
    ensure!(mine.len() <= 1, "{} writes", mine.len());
    for event in &mine {
        ensure!(event.verb == "patch" && event.subresource.is_empty());
        is_approved(run, event)?;
    }
    let Some(hooked) = run.tape.hooked else {
        return Ok(mine.len());
    };
    let in_time = run.write().is_none_or(|write| hooked <= write);
    if in_time && change.is_fenced() {
        ensure!(mine.is_empty(), "the write did not notice");
    }
    let looks = looks(change, run, hooked);
    ensure!(
        looks < change.looks() || mine.is_empty(),
        "{looks} calls after the change looked at what changed, and it was written nevertheless: {:#?}",
        run.tape.calls
    );
    Ok(mine.len())
}

/// How many calls between the change and the write looked at what changed, and were made for the write. The recorder of
/// evidence reads the policy as well, each time after it has asked about itself, which no pass does after the plan.
fn looks(change: Change, run: &Run, hooked: usize) -> usize {
    let (Some(done), Some(write)) = (run.tape.done, run.write()) else {
        return 0;
    };
    let calls = || run.tape.calls.iter().enumerate().take(write);
    let recorded = match change {
        Change::PolicyAsksMore => calls()
            .filter(|(place, call)| {
                // It may have asked just before the change and read just after it.
                *place + 3 >= hooked && call.path.ends_with("/selfsubjectaccessreviews")
            })
            .count(),
        Change::OtherTemplate
        | Change::HistoryEdited
        | Change::HistoryDeleted
        | Change::MadeAgain
        | Change::ApproverRevoked
        | Change::Claimed => 0,
    };
    let looked = calls()
        .filter(|(place, call)| {
            // The call that waited for the change looks after it; but not each question is about what changed.
            let after = *place >= done || (*place == hooked && change.looks() == 1);
            after && change.is_seen_by(call)
        })
        .count();
    looked.saturating_sub(recorded)
}

/// The write says itself what it replaces: UID and generation, which the API server compared. We know what was there
/// at that generation.
fn is_approved(run: &Run, event: &Event) -> Result<()> {
    let body = event.request_object.as_ref().context("no body")?;
    let operations = body.as_array().context("no JSON Patch")?;
    let value = |kind: &str, path: &str| -> Option<&Value> {
        let wanted = |entry: &&Value| entry["op"] == kind && entry["path"] == path;
        operations.iter().find(wanted)?.get("value")
    };
    let uid = value("test", "/metadata/uid").and_then(Value::as_str);
    let generation = value("test", "/metadata/generation").and_then(Value::as_i64);
    let replaced = run
        .states
        .iter()
        .find(|state| Some(&*state.uid) == uid && Some(state.generation) == generation)
        .with_context(|| format!("{uid:?} at {generation:?} is not known: {:?}", run.states))?;
    let written = value("replace", "/spec/template").context("no template")?;
    let target = run.plan.targets.first().context("no target")?;
    ensure!(
        replaced.uid == target.workload.uid && digest(&replaced.template) == target.from.digest,
        "it replaced what was not approved to go: {replaced:?}"
    );
    ensure!(
        *written == run.old && digest(written) == target.to.digest,
        "it wrote what was not approved to come: {written}"
    );
    for entry in operations {
        let path = entry["path"].as_str().unwrap_or_default();
        let known = entry["op"] == "test"
            || path == "/spec/template"
            || path == "/metadata/annotations"
            || path == "/metadata/annotations/kubernetes.io~1change-cause";
        ensure!(known, "it changed more: {entry}");
    }
    Ok(())
}

fn digest(template: &Value) -> String {
    Template::of(template).digest()
}
