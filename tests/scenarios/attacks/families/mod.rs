//! The table of attacks, one file for what belongs together.

/// One line of the table.
macro_rules! line {
    ($title:expr, $who:expr, $how:expr, $on:expr, $what:expr, $expect:expr $(,)?) => {
        crate::attack::Row {
            title: $title,
            who: const { $who },
            how: const { $how },
            on: const { $on },
            what: $what,
            expect: $expect,
        }
    };
}

/// Lines of the table: title, who, how, to what, with what; what is answered. In braces, so that a line stays a line.
macro_rules! rows {
    ($($title:expr, $who:expr, $how:expr, $on:expr, $what:expr, $expect:expr;)*) => {
        vec![$(line!($title, $who, $how, $on, $what, $expect)),*]
    };
}

/// The same for lines that have to pass.
macro_rules! twins {
    ($($title:expr, $who:expr, $how:expr, $on:expr, $what:expr;)*) => {
        rows! { $($title, $who, $how, $on, $what, crate::attack::Expect::Passes;)* }
    };
}

mod acknowledge;
mod approval;
mod artifact;
mod asking;
mod birth;
mod cancel;
mod changes;
mod denial;
mod deployment;
mod glass;
mod identity;
mod ledger;
pub mod limits;
mod phrases;
mod policy;
mod policy_powers;
mod powers;
mod risk;
mod size;
mod spec;
mod trigger;
mod withdrawal;

use rollback_api::{APPROVED_BY, CHECKLIST, CONFIRM, PLAN};
use serde_json::{Value, json};
use testkit::scene::{PRODUCTION, TICKED};

use crate::attack::Family;
use crate::fire::merged;

/// What there is only where people write who they are, because elsewhere it is put right without a word.
pub fn typed() -> Vec<Family> {
    vec![identity::asking(), identity::approving()]
}

/// All families.
pub fn all() -> Vec<Family> {
    if testkit::typed::is_on() {
        [everywhere(), typed()].concat()
    } else {
        everywhere()
    }
}

fn everywhere() -> Vec<Family> {
    vec![
        birth::family(),
        asking::patching(),
        asking::triggering(),
        asking::urgency(),
        trigger::going_back(),
        trigger::new_images(),
        trigger::names(),
        spec::family(),
        spec::owners(),
        size::family(),
        approval::robots(),
        approval::permission(),
        approval::name(),
        approval::moment(),
        approval::four_eyes(),
        approval::plan(),
        approval::phrase(),
        approval::checklist(),
        approval::deputy(),
        glass::family(),
        risk::family(),
        denial::family(),
        cancel::family(),
        withdrawal::family(),
        acknowledge::family(),
        changes::finalizer(),
        changes::status(),
        changes::strategic(),
        ledger::writing(),
        ledger::lifting(),
        artifact::making(),
        artifact::changing(),
        artifact::deleting(),
        deployment::fields(),
        deployment::capacity(),
        policy::family(),
        policy::schema(),
        phrases::family(),
        policy_powers::by_hand(),
        policy_powers::logs(),
        policy_powers::secrets(),
        policy_powers::relaxing(),
        powers::controller(),
        powers::receiver(),
        powers::people(),
    ]
}

/// These annotations.
fn notes(annotations: Value) -> Value {
    let mut patch = json!({"metadata": {}});
    patch["metadata"]["annotations"] = annotations;
    patch
}

/// An approval that is as it should be, except for this.
fn approval_but(difference: &Value) -> Value {
    let whole =
        json!({APPROVED_BY: "$ME", CONFIRM: PRODUCTION, PLAN: "$DIGEST", CHECKLIST: TICKED});
    // Nulls stay nulls where something is taken away; here it is only left out.
    notes(merged(&whole, difference))
}

/// An approval that is as it should be.
fn approval() -> Value {
    approval_but(&json!({}))
}

/// A remark that nobody minds.
fn remark() -> Value {
    notes(json!({"example.com/remark": "Seen."}))
}
