//! The ledger of a workload as values: what it is called, who holds it, what is known of its templates, what to write.

use jiff::Timestamp;
use rollback_api::hold::{Hold, HoldRelease};
use rollback_api::ledger::{
    Claim, Evidence, MAX_ROLLBACKS, MAX_TEMPLATES, Quarantined, Rollback, Verdict,
};
use rollback_api::open_enum::OrNewer;
use rollback_api::request::Urgency;
use rollback_api::status::PlannedTarget;
use rollback_api::{
    FIELD_MANAGER, RequestState, RevisionLedgerSpec, RollbackRequest, WorkloadKind, WorkloadRef,
};
use serde_json::json;

use crate::history::quarantine;
use crate::history::template::{self, Template};
use crate::time;

/// The most good templates that a policy may ask to keep whole.
const MOST_KEPT: usize = 5;
/// Longest name of an object, in bytes.
const LONGEST_NAME: usize = 253;
/// How many hex digits at least close a name that is cut.
const DIGITS: usize = 32;

/// Name of the ledger of a workload, for example `deployment-api`. No kind has a dash in it, so no two workloads share one.
/// One that would be too long is cut, and closed by a hash; only such a name has the full length.
pub fn name(kind: WorkloadKind, workload: &str) -> String {
    let whole = format!("{}-{workload}", kind.as_str().to_ascii_lowercase());
    if whole.len() < LONGEST_NAME {
        return whole;
    }
    let stem: String = whole.chars().take(LONGEST_NAME - DIGITS - 1).collect();
    // A dash may follow anything but a dot.
    let stem = stem.trim_end_matches('.');
    let digest = template::digest(&json!([kind, workload]));
    let digits = digest.trim_start_matches("sha256:").chars();
    let digits: String = digits.take(LONGEST_NAME - 1 - stem.len()).collect();
    format!("{stem}-{digits}")
}

/// The same, by the identity of the workload.
pub fn name_of(workload: &WorkloadRef) -> String {
    name(workload.kind, &workload.name)
}

/// Who holds the claim on a Deployment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Holder<'a> {
    /// Nobody.
    Nobody,
    /// The request itself.
    Us,
    /// Another request.
    Other(&'a Claim),
}

/// Who holds the claim, seen from the request with this UID. A ledger of a Deployment that has been
/// deleted since says nothing about the one that has its name now.
pub fn holder<'a>(
    ledger: Option<&'a RevisionLedgerSpec>,
    deployment_uid: &str,
    request_uid: &str,
) -> Holder<'a> {
    match current(ledger, deployment_uid).and_then(|ledger| ledger.claim.as_ref()) {
        None => Holder::Nobody,
        Some(claim) if claim.request_uid == request_uid => Holder::Us,
        Some(claim) => Holder::Other(claim),
    }
}

/// Whether a request of this urgency takes over from the holder, who has not written yet. Equally
/// urgent ones wait: who came first goes on. How urgent a newer version's word is nobody knows.
pub fn takes_over(urgency: Urgency, holder: &Claim) -> bool {
    match holder.urgency {
        OrNewer::Known(theirs) => urgency > theirs,
        OrNewer::Newer(_) => false,
    }
}

/// The ledger, if it is about this very Deployment.
pub fn current<'a>(
    ledger: Option<&'a RevisionLedgerSpec>,
    deployment_uid: &str,
) -> Option<&'a RevisionLedgerSpec> {
    ledger.filter(|ledger| ledger.target_ref.uid == deployment_uid)
}

/// Digests of the templates that are in quarantine: rolled back, and neither expired, nor lifted, nor
/// restored since.
pub fn bad_templates(
    ledger: Option<&RevisionLedgerSpec>,
    deployment_uid: &str,
    lifted: Option<&str>,
    now: Timestamp,
) -> Vec<String> {
    evidence(ledger, deployment_uid)
        .iter()
        .filter(|entry| is_quarantined(entry, lifted, now))
        .map(|entry| entry.digest.clone())
        .collect()
}

/// Whether a template is not to be chosen unless it is named.
pub fn is_quarantined(entry: &Evidence, lifted: Option<&str>, now: Timestamp) -> bool {
    let is_bad = match entry.verdict {
        Verdict::Bad => entry.bad_until.is_none_or(|until| now < until),
        // A newer version may have meant just that.
        Verdict::Newer(_) => true,
        Verdict::Good | Verdict::Unknown => false,
    };
    is_bad && lifted != Some(entry.digest.as_str())
}

/// What is known of the templates of this Deployment, the one that ran last at the end.
pub fn evidence<'a>(
    ledger: Option<&'a RevisionLedgerSpec>,
    deployment_uid: &str,
) -> &'a [Evidence] {
    current(ledger, deployment_uid).map_or(&[][..], |ledger| &ledger.templates)
}

/// The template that a ledger keeps whole, if it is still what its digest says.
pub fn kept_template(entry: &Evidence) -> Option<Template> {
    let value = serde_json::from_str(entry.template.as_deref()?).ok()?;
    Some(Template::of(&value)).filter(|template| template.digest() == entry.digest)
}

/// The rollback that this very request, by name and content, has already carried out.
pub fn already_done<'a>(
    ledger: Option<&'a RevisionLedgerSpec>,
    deployment_uid: &str,
    request: &RollbackRequest,
) -> Option<&'a Rollback> {
    let name = request.metadata.name.as_deref().unwrap_or_default();
    let digest = spec_digest(request);
    current(ledger, deployment_uid)?
        .rollbacks
        .iter()
        .find(|rollback| rollback.request == name && rollback.spec_digest == digest)
}

/// The rollback of another request that brought this template, if it was the last one.
pub fn brought_by<'a>(
    ledger: Option<&'a RevisionLedgerSpec>,
    deployment_uid: &str,
    digest: &str,
) -> Option<&'a Rollback> {
    current(ledger, deployment_uid)?
        .rollbacks
        .last()
        .filter(|rollback| rollback.to_digest == digest)
}

/// Digest of what a request asks for, whoever asks.
pub fn spec_digest(request: &RollbackRequest) -> String {
    let mut spec = request.spec.clone();
    spec.requested_by = None;
    template::digest(&serde_json::to_value(spec).unwrap_or_default())
}

/// The ledger with the claim of this request in it, and the version that it rolls back in quarantine.
pub fn claimed(
    ledger: Option<&RevisionLedgerSpec>,
    request: &RollbackRequest,
    urgency: Urgency,
    target: &PlannedTarget,
    quarantined: Option<Quarantined>,
) -> RevisionLedgerSpec {
    let mut next = based_on(ledger, &target.workload);
    next.claim = Some(Claim {
        request: request.metadata.name.clone().unwrap_or_default(),
        request_uid: request.metadata.uid.clone().unwrap_or_default(),
        urgency: OrNewer::Known(urgency),
    });
    if let Some(entry) = quarantined {
        quarantine::enter(&mut next, entry);
    }
    next
}

/// The ledger with a hold in it that is about to be placed, in the place of what it said of that before.
pub fn holding(
    ledger: Option<&RevisionLedgerSpec>,
    target: &PlannedTarget,
    hold: Hold,
) -> RevisionLedgerSpec {
    let mut next = based_on(ledger, &target.workload);
    next.holds.retain(|known| !is_same_hold(known, &hold));
    next.holds.push(hold);
    next
}

/// Whether two holds are of one request on one object.
fn is_same_hold(one: &Hold, other: &Hold) -> bool {
    one.means == other.means
        && one.object.uid == other.object.uid
        && one.request_uid == other.request_uid
}

/// Whether a hold of this request stands in the ledger that nobody has released yet.
pub fn holds_for(ledger: Option<&RevisionLedgerSpec>, request_uid: &str) -> bool {
    let mut holds = ledger.iter().flat_map(|ledger| &ledger.holds);
    holds.any(|hold| hold.request_uid == request_uid && hold.release.is_none())
}

/// The ledger without the claim of this request, and with its rollback if one was carried out. `unwell`: digests of the
/// templates of which a check said that they are not well.
pub fn released(
    ledger: Option<&RevisionLedgerSpec>,
    target: &PlannedTarget,
    (request, request_uid): (&str, &str),
    rollback: Option<Rollback>,
    unwell: &[String],
    quarantine_seconds: i32,
    now: Timestamp,
) -> RevisionLedgerSpec {
    let mut next = based_on(ledger, &target.workload);
    next.claim = next.claim.filter(|claim| claim.request_uid != request_uid);
    let stays = rollback
        .as_ref()
        .is_some_and(|rollback| rollback.outcome != RequestState::Restored);
    if !stays {
        quarantine::forget(&mut next, request);
    }
    if !stays && (rollback.is_some() || !remembers(&next, request_uid)) {
        let ours = next.holds.iter_mut();
        for hold in ours.filter(|hold| hold.request_uid == request_uid) {
            hold.release.get_or_insert_with(|| unneeded(now));
        }
    }
    if let Some(rollback) = rollback {
        judge(&mut next, target, &rollback, quarantine_seconds);
        for digest in unwell {
            let entry = entry_of(&mut next, digest, rollback.at);
            let until = time::after(rollback.at, i64::from(quarantine_seconds));
            pronounce(entry, Verdict::Bad, &rollback, Some(until));
        }
        // Until when is known now, so that nobody has to write it a second time.
        quarantine::settle(&mut next, true, rollback.at);
        next.rollbacks.push(rollback);
    }
    let surplus = next.rollbacks.len().saturating_sub(MAX_ROLLBACKS);
    next.rollbacks.drain(..surplus);
    next
}

/// Whether a ledger has the rollback of this request.
fn remembers(ledger: &RevisionLedgerSpec, request_uid: &str) -> bool {
    let mut rollbacks = ledger.rollbacks.iter();
    rollbacks.any(|rollback| rollback.request_uid == request_uid)
}

/// A hold whose request did not roll back, or put back what was there.
fn unneeded(now: Timestamp) -> HoldRelease {
    HoldRelease {
        by: FIELD_MANAGER.to_owned(),
        why: "the request ended, and the bad version is not rolled back".to_owned(),
        at: now,
    }
}

/// What a rollback says about the two templates: what was rolled back is bad, unless it was brought back; what
/// was rolled back to is not bad any more if that went well, and good if its checks said so.
fn judge(
    ledger: &mut RevisionLedgerSpec,
    target: &PlannedTarget,
    rollback: &Rollback,
    quarantine_seconds: i32,
) {
    if rollback.outcome != RequestState::Restored {
        let entry = entry_of(ledger, &rollback.from_digest, rollback.at);
        entry.revision = entry.revision.or(target.from.revision);
        let until = time::after(rollback.at, i64::from(quarantine_seconds));
        pronounce(entry, Verdict::Bad, rollback, Some(until));
    }
    if rollback.outcome == RequestState::Succeeded {
        let entry = entry_of(ledger, &rollback.to_digest, rollback.at);
        entry.revision = entry.revision.or(target.to.revision);
        if rollback.verified {
            pronounce(entry, Verdict::Good, rollback, None);
        } else if entry.verdict == Verdict::Bad {
            pronounce(entry, Verdict::Unknown, rollback, None);
        }
    }
}

fn pronounce(
    entry: &mut Evidence,
    verdict: Verdict,
    rollback: &Rollback,
    until: Option<Timestamp>,
) {
    entry.verdict = verdict;
    entry.judged_by = Some(rollback.request.clone());
    entry.judged_at = Some(rollback.at);
    entry.bad_until = until;
}

/// The entry of a template, made if there is none. When there are too many, one of them goes.
pub fn entry_of<'a>(
    ledger: &'a mut RevisionLedgerSpec,
    digest: &str,
    now: Timestamp,
) -> &'a mut Evidence {
    let known = ledger
        .templates
        .iter()
        .position(|entry| entry.digest == digest);
    let place = known.unwrap_or_else(|| {
        while ledger.templates.len() >= MAX_TEMPLATES {
            ledger.templates.remove(dispensable(&ledger.templates));
        }
        ledger.templates.push(Evidence {
            digest: digest.to_owned(),
            last_live: now,
            ..Evidence::default()
        });
        ledger.templates.len() - 1
    });
    &mut ledger.templates[place]
}

/// The entry that is missed least, longest ago: one that says nothing; a good one, unless there are so few that a policy
/// may ask to keep them all; one in quarantine. Never the last one: that is what runs.
fn dispensable(templates: &[Evidence]) -> usize {
    let others = templates.split_last().map_or(&[][..], |(_, others)| others);
    let good = |entry: &&Evidence| entry.verdict == Verdict::Good;
    let many = others.iter().filter(good).count() > MOST_KEPT;
    let first = |wanted: &dyn Fn(&Evidence) -> bool| others.iter().position(wanted);
    first(&|entry| entry.verdict == Verdict::Unknown && entry.available_since.is_none())
        .or_else(|| first(&|entry| many && entry.verdict == Verdict::Good))
        .or_else(|| first(&|entry| entry.verdict == Verdict::Bad))
        .unwrap_or(0)
}

/// Whether what somebody wrote to lift a quarantine still stands after this write: not when it was taken up, and not
/// when the template was rolled back again since, which nobody has lifted.
pub fn lift_stands(before: &RevisionLedgerSpec, after: &RevisionLedgerSpec, digest: &str) -> bool {
    let judged = |ledger: &RevisionLedgerSpec| {
        let quarantined =
            |entry: &&Evidence| entry.digest == digest && entry.verdict == Verdict::Bad;
        let known = ledger.templates.iter().find(quarantined);
        // Of a Deployment that was made again, only admission knows.
        let met = ledger
            .quarantine
            .iter()
            .find(|entry| entry.digest == digest);
        known
            .map(|entry| entry.judged_at)
            .or_else(|| met.map(|entry| Some(entry.until)))
    };
    judged(after).is_some_and(|at| judged(before) == Some(at))
}

/// The ledger to write on: the one that is there, or a new one for this workload.
pub fn based_on(ledger: Option<&RevisionLedgerSpec>, workload: &WorkloadRef) -> RevisionLedgerSpec {
    current(ledger, &workload.uid)
        .cloned()
        .unwrap_or_else(|| RevisionLedgerSpec {
            target_ref: workload.clone(),
            // What was rolled back is no better for having been deleted and made again.
            quarantine: ledger.map_or_else(Vec::new, |ledger| ledger.quarantine.clone()),
            // What stands on owners stands there still.
            holds: ledger.map_or_else(Vec::new, |ledger| ledger.holds.clone()),
            ..RevisionLedgerSpec::default()
        })
}
