//! Only who approved takes it back, and only while something has not begun.

use rollback_api::{APPROVED_BY, CHECKLIST, CONFIRM, PLAN, WITHDRAWN_BY};
use serde_json::{Value, json};

use super::{notes, remark};
use crate::attack::{
    APPLY, APPROVED, AWAITING, BEGUN, CHANGES, DELETING, ENDED, Expect, FULL, Family, HALF,
    HALF_BEGUN, JSON, MERGE, PENDING, PLANLESS, PUT, WITHDRAWN,
};
use crate::people::{ADMIN, APPROVER, CONTROLLER, GITOPS, OVERLORD, REQUESTER, ROBOT, SECOND};

const fn says(what: &'static str) -> Expect {
    Expect::Guard("rollback-guard-withdrawal", what)
}

fn taken_back(by: &str) -> Value {
    notes(json!({WITHDRAWN_BY: by, APPROVED_BY: null, CONFIRM: null, PLAN: null, CHECKLIST: null}))
}

fn only(by: &str) -> Value {
    notes(json!({WITHDRAWN_BY: by}))
}

pub fn family() -> Family {
    let own = says("withdrawn-by must be your own user name");
    let none = says("so there is nothing to take back");
    let foreign = says("is taking an approval back, and only");
    Family {
        name: "withdrawal",
        attacks: rows! {
            "of another", &[SECOND, REQUESTER, GITOPS, ADMIN], CHANGES, &[HALF], only("anna@broxiva.example"), own;
            "of another", &[CONTROLLER], &[MERGE, JSON], &[HALF, APPROVED], only("anna@broxiva.example"), own;
            "of another", &[ROBOT, OVERLORD], &[MERGE, MERGE.dry()], &[HALF], only("anna@broxiva.example"), own;
            "of another later", &[SECOND, GITOPS], &[MERGE], &[BEGUN, HALF_BEGUN, ENDED, DELETING], only("anna@broxiva.example"), own;
            "of nobody", &[APPROVER], &[MERGE], &[HALF], taken_back(""), own;
            "what was not given", &[SECOND, REQUESTER, ADMIN], &[MERGE, APPLY], &[AWAITING, HALF], only("$ME"), none;
            "what was not given", &[CONTROLLER, GITOPS], &[MERGE], &[HALF], only("$ME"), none;
            "before there is a plan", &[APPROVER], &[MERGE], &[PLANLESS], only("$ME"), none;
            "before it is counted", &[APPROVER], CHANGES, &[PENDING], only("$ME"), says("is not counted yet (status.approvals), so take it out");
            "too late", &[APPROVER], CHANGES, &[BEGUN], only("$ME"), says("the rollback has begun with api");
            "after the end", &[APPROVER, SECOND], &[MERGE, JSON], &[ENDED], only("$ME"), says("there is no approval left to take back");
            "and given at once", &[APPROVER], CHANGES, &[FULL], only("$ME"), says("Take your approval out of the mailbox in the same command");
            "undone by another", &[SECOND, REQUESTER, ADMIN], &[MERGE, JSON, PUT], &[WITHDRAWN], notes(json!({WITHDRAWN_BY: null})), foreign;
            "over that of another", &[SECOND], &[MERGE, APPLY], &[WITHDRAWN], only("$ME"), foreign;
        },
        twins: twins! {
            "own one", &[APPROVER], &[MERGE, JSON, PUT], &[HALF, FULL, APPROVED, HALF_BEGUN], taken_back("$ME");
            "own one that is put away", &[APPROVER], CHANGES, &[HALF], only("$ME");
            "undone by oneself", &[APPROVER], &[MERGE, JSON, PUT], &[WITHDRAWN], notes(json!({WITHDRAWN_BY: null}));
            "left as it is", &[SECOND], &[APPLY], &[WITHDRAWN], remark();
            "a remark", &[SECOND, REQUESTER, GITOPS, ADMIN, ROBOT, OVERLORD], CHANGES, &[HALF], remark();
            "a remark", &[CONTROLLER], &[MERGE, JSON], &[HALF, APPROVED], remark();
        },
    }
}
