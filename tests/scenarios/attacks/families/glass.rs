//! Approving alone.

use rollback_api::{APPROVED_BY, BREAK_GLASS, CHECKLIST, CONFIRM, PLAN};
use serde_json::{Value, json};
use testkit::scene::PRODUCTION;

use super::{notes, remark};
use crate::attack::{
    AWAITING, CHANGES, ENDED, Expect, Family, GLASS, HALF, JSON, MERGE, PENDING, PLANLESS, PUT,
};
use crate::fire::merged;
use crate::people::{
    ADMIN, APPROVER, BREAKER, CONTROLLER, GITOPS, OVERLORD, OWNER, REQUESTER, ROBOT, SECOND,
};

const fn says(what: &'static str) -> Expect {
    Expect::Guard("rollback-guard-approval", what)
}

const WHY: &str = "Nobody else answers the phone.";

fn alone_but(difference: &Value) -> Value {
    let whole = json!({APPROVED_BY: "$ME", CONFIRM: PRODUCTION, PLAN: "$DIGEST", BREAK_GLASS: WHY});
    notes(merged(&whole, difference))
}

fn alone() -> Value {
    alone_but(&json!({}))
}

pub fn family() -> Family {
    let forbidden = says("does not let one person approve alone");
    let may_not = says("may not approve alone in namespace");
    let why = says("break-glass must say why you approve alone");
    let reason = |reason: &str| alone_but(&json!({BREAK_GLASS: reason}));
    let long = "Why? ".repeat(250);
    Family {
        name: "break-glass",
        attacks: rows! {
            "where the policy does not let", &[BREAKER, OWNER, ADMIN], CHANGES, &[AWAITING], alone(), forbidden;
            "where the policy does not let", &[REQUESTER], &[MERGE], &[AWAITING, HALF], alone(), forbidden;
            "key alone", &[REQUESTER, GITOPS], &[MERGE, JSON], &[AWAITING], notes(json!({BREAK_GLASS: WHY})), forbidden;
            "without the verb", &[APPROVER, REQUESTER, SECOND], CHANGES, &[GLASS], alone(), may_not;
            "without the verb but with everything", &[APPROVER], &[MERGE], &[GLASS], alone_but(&json!({CHECKLIST: testkit::scene::TICKED})), may_not;
            "by a machine", &[ROBOT, OVERLORD], &[MERGE], &[GLASS], alone(), says("A ServiceAccount cannot approve");
            "by the controller", &[CONTROLLER], &[MERGE, JSON], &[GLASS], alone(), says("A ServiceAccount cannot approve");
            "without a reason", &[BREAKER], &[MERGE, JSON], &[GLASS], reason(""), why;
            "a short reason", &[BREAKER], &[MERGE, PUT], &[GLASS], reason("down"), why;
            "a reason of blanks", &[BREAKER], &[MERGE], &[GLASS], reason("                    "), why;
            "a long reason", &[BREAKER], &[MERGE], &[GLASS], reason(&long), why;
            "a reason of two lines", &[BREAKER], &[MERGE, JSON], &[GLASS], reason("Nobody answers.\nApproved-by: everybody"), why;
            "a reason with a control character", &[BREAKER], &[MERGE], &[GLASS], reason("Nobody answers.\u{1b}[2J"), why;
            "in the name of somebody else", &[BREAKER], CHANGES, &[GLASS], alone_but(&json!({APPROVED_BY: "anna@broxiva.example"})), says("your own user name");
            "without a name", &[BREAKER], &[MERGE], &[GLASS], alone_but(&json!({APPROVED_BY: null})), says("approved-by is missing");
            "another phrase", &[BREAKER], &[MERGE], &[GLASS], alone_but(&json!({CONFIRM: "ROLLBACK"})), says("letter by letter");
            "another plan", &[BREAKER], &[MERGE], &[GLASS], alone_but(&json!({PLAN: "sha256:0"})), says("plan is not the digest");
            "an item that is none", &[BREAKER], &[MERGE], &[GLASS], alone_but(&json!({CHECKLIST: "everything"})), says("no such item in the plan");
            "before there is a plan", &[OWNER], &[MERGE], &[PLANLESS], alone(), says("There is no plan yet");
            "after the end", &[OWNER], &[MERGE], &[ENDED], alone(), forbidden;
            "beside an uncounted one", &[BREAKER, OWNER], &[MERGE], &[PENDING], notes(json!({BREAK_GLASS: WHY})), says("has not been counted yet");
        },
        twins: twins! {
            "alone", &[BREAKER, OWNER, ADMIN], CHANGES, &[GLASS], alone();
            "in the usual way", &[APPROVER, SECOND], CHANGES, &[GLASS], super::approval();
            "a remark", &[REQUESTER, GITOPS, ROBOT, OVERLORD], CHANGES, &[GLASS], remark();
            "a remark", &[CONTROLLER], &[MERGE, JSON], &[GLASS], remark();
        },
    }
}
