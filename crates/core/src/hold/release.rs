//! What becomes of the holds of a ledger: which are to be released, which are over, and what is written for that.
//!
//! That a hold is to be released is stored before anything of it is taken away, so a crash at any point is another look.

use jiff::Timestamp;
use rollback_api::RevisionLedgerSpec;
use rollback_api::hold::{Hold, HoldRelease};
use serde_json::Value;

use super::{HoldState, lift, mark_of, owed, state, told};
use crate::message::text::plain;
use crate::observed::Fetched;

/// Longest name that is kept.
const MAX_NAME: usize = 300;

/// What somebody wrote on a ledger to release its holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReleaseAnnotations<'a> {
    /// The request that they are for.
    pub request: &'a str,
    /// Who wrote that.
    pub by: &'a str,
}

/// The next write, one at a time.
#[derive(Clone, Debug, PartialEq)]
pub enum NextWrite {
    /// What the ledger has to say.
    Ledger {
        /// The ledger.
        next: Box<RevisionLedgerSpec>,
        /// The hold that is over by that, and how it ended.
        over: Option<(Box<Hold>, Over)>,
    },
    /// What ends a hold of ours.
    Lift {
        /// Place of the hold in the ledger.
        index: usize,
        /// The JSON Patch.
        patch: Value,
    },
    /// Nothing now.
    Nothing,
}

/// How a hold ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Over {
    /// What was there before is there again.
    Released,
    /// Another Deployment is held by it still.
    Shared,
    /// Somebody else had changed it or placed another, and nothing was touched.
    Changed,
    /// Its object is gone.
    Gone,
}

/// Whether a hold is to be released.
pub fn is_due(hold: &Hold) -> bool {
    hold.release.is_some()
}

/// What to do for a ledger. `objects` are those of its holds, in its order; `shared` says which of them another ledger
/// holds as well.
pub fn next_write(
    namespace: &str,
    ledger: &RevisionLedgerSpec,
    annotations: Option<ReleaseAnnotations>,
    objects: &[Fetched<Value>],
    shared: &[bool],
    now: Timestamp,
) -> NextWrite {
    if let Some(next) = annotations.and_then(|asked| released(ledger, asked, now)) {
        return NextWrite::Ledger {
            next: Box::new(next),
            over: None,
        };
    }
    for (index, hold) in ledger.holds.iter().enumerate() {
        let object = objects.get(index).unwrap_or(&Fetched::Unknown);
        let is_shared = shared.get(index).copied().unwrap_or(false);
        if let Some(write) = one(namespace, ledger, index, hold, object, is_shared) {
            return write;
        }
    }
    NextWrite::Nothing
}

/// The ledger with what a person asked for.
fn released(
    ledger: &RevisionLedgerSpec,
    asked: ReleaseAnnotations,
    now: Timestamp,
) -> Option<RevisionLedgerSpec> {
    let mut next = ledger.clone();
    let meant = next
        .holds
        .iter_mut()
        .filter(|hold| hold.request == asked.request && hold.release.is_none());
    let mut any = false;
    for hold in meant {
        any = true;
        hold.release = Some(HoldRelease {
            by: plain(asked.by, MAX_NAME),
            why: "a person released it".to_owned(),
            at: now,
        });
    }
    any.then_some(next)
}

fn one(
    namespace: &str,
    ledger: &RevisionLedgerSpec,
    index: usize,
    hold: &Hold,
    object: &Fetched<Value>,
    is_shared: bool,
) -> Option<NextWrite> {
    let mark = mark_of(namespace, hold);
    let state = state(hold.means, &hold.object.uid, object, &mark);
    let over = match (state, &hold.release) {
        (HoldState::Gone, _) => Over::Gone,
        (HoldState::Unread, _)
        | (HoldState::Ours | HoldState::Free(_) | HoldState::Foreign, None) => return None,
        (HoldState::Ours, Some(_)) if is_shared => Over::Shared,
        (HoldState::Ours, Some(_)) => {
            let patch = lift(hold, object, &mark)?;
            return Some(NextWrite::Lift { index, patch });
        }
        // Ours was taken away: by us, or by somebody who did it by hand.
        (HoldState::Free(there), Some(_)) if there == hold.before => Over::Released,
        (HoldState::Free(_) | HoldState::Foreign, Some(_)) => Over::Changed,
    };
    let mut next = ledger.clone();
    next.holds.remove(index);
    Some(NextWrite::Ledger {
        next: Box::new(next),
        over: Some((Box::new(hold.clone()), over)),
    })
}

/// What people are told of a hold that is over.
pub fn told_over(hold: &Hold, over: Over) -> String {
    let owner = plain(&hold.owner, 300);
    let by = hold.release.as_ref();
    let by = by.map_or_else(String::new, |release| {
        format!(
            " ({}: {})",
            plain(&release.by, 100),
            plain(&release.why, 200)
        )
    });
    let what = match over {
        Over::Released => {
            format!("{owner} is released{by}: what was there before the hold is there again")
        }
        Over::Shared => format!(
            "{owner} is released for this Deployment{by}, and stays on hold for another one"
        ),
        Over::Changed => format!(
            "The hold on {owner} is given up{by}: somebody else has changed it meanwhile, so nothing was touched"
        ),
        Over::Gone => {
            format!("{owner} was held, and is gone or was made again: nothing holds it now")
        }
    };
    let owed = owed(hold).map_or_else(String::new, |owed| format!(". Owed to Git: {owed}"));
    format!("{what}{owed}")
}

/// What people are told of a hold that cannot be ended.
pub fn told_stuck(hold: &Hold, why: &str) -> String {
    format!(
        "{} and cannot be released: {}. By hand: {}",
        told(hold),
        plain(why, 300).trim_end_matches('.'),
        super::manual_command(hold.means, &hold.object, hold.before.as_deref())
    )
}
