//! A denial is the word of somebody who may approve, and says why.

use rollback_api::{DENIED_BY, DENIED_REASON};
use serde_json::{Value, json};

use super::{notes, remark};
use crate::attack::{
    APPLY, APPROVED, AWAITING, BEGUN, CHANGES, DELETING, DENIED, ENDED, Expect, Family, HALF, JSON,
    MERGE, PLANLESS, PUT,
};
use crate::people::{
    ADMIN, APPROVER, BREAKER, CONTROLLER, GITOPS, MARKED, OVERLORD, POWERLESS, REQUESTER, ROBOT,
    SECOND,
};

const fn says(what: &'static str) -> Expect {
    Expect::Guard("rollback-guard-denial", what)
}

fn denial(by: &str, why: &str) -> Value {
    notes(json!({DENIED_BY: by, DENIED_REASON: why}))
}

fn no() -> Value {
    denial("$ME", "Fix it forward.")
}

pub fn family() -> Family {
    let robot = says("A ServiceAccount cannot deny");
    let may_not = says("may not deny rollbacks in namespace");
    let own = says("denied-by must be your own user name");
    let foreign = says("has denied this request, and only");
    let empty = says("denied-reason is empty");
    let nothing = notes(json!({DENIED_BY: null, DENIED_REASON: null}));
    Family {
        name: "denial",
        attacks: rows! {
            "by a machine", &[ROBOT, OVERLORD], CHANGES, &[AWAITING], no(), robot;
            "by a machine", &[CONTROLLER], &[MERGE, JSON], &[AWAITING, HALF], no(), robot;
            "by a marked person", &[MARKED], &[MERGE], &[AWAITING], no(), robot;
            "without the verb", &[REQUESTER, GITOPS], CHANGES, &[AWAITING], no(), may_not;
            "without the verb", &[BREAKER], &[MERGE.dry()], &[AWAITING], no(), may_not;
            "without the verb later", &[REQUESTER], &[MERGE], &[PLANLESS, HALF, APPROVED, BEGUN, ENDED, DELETING], no(), may_not;
            "in the name of the approver", &[REQUESTER], &[MERGE, JSON], &[AWAITING], denial("anna@broxiva.example", "No."), may_not;
            "name alone", &[REQUESTER], &[MERGE], &[AWAITING], notes(json!({DENIED_BY: "anna@broxiva.example"})), may_not;
            "reason alone", &[REQUESTER], &[MERGE], &[AWAITING], notes(json!({DENIED_REASON: "No."})), may_not;
            "in the name of another", &[SECOND, ADMIN], CHANGES, &[AWAITING], denial("anna@broxiva.example", "No."), own;
            "without a name", &[APPROVER], &[MERGE, JSON], &[AWAITING], notes(json!({DENIED_REASON: "No."})), says("denied-by is missing");
            "without a reason", &[APPROVER], CHANGES, &[AWAITING], notes(json!({DENIED_BY: "$ME"})), empty;
            "a reason of blanks", &[APPROVER], &[MERGE], &[AWAITING], denial("$ME", " \n\t "), empty;
            "a long reason", &[APPROVER], &[MERGE], &[AWAITING], denial("$ME", &"no".repeat(501)), says("at most 1000 are kept");
            "too late", &[APPROVER, SECOND], CHANGES, &[BEGUN], no(), says("It is too late: Deployment api has its old template");
            "after the end", &[SECOND, ADMIN], &[MERGE, JSON, PUT], &[ENDED], no(), says("has ended (Denied)");
            "over that of another", &[APPROVER, ADMIN], CHANGES, &[DENIED], no(), foreign;
            "taken back by another", &[APPROVER, REQUESTER, ADMIN], &[MERGE, JSON, PUT], &[DENIED], nothing.clone(), foreign;
            "taken back by another", &[CONTROLLER, ROBOT], &[MERGE], &[DENIED], nothing.clone(), foreign;
            "another reason", &[REQUESTER, GITOPS], &[MERGE, APPLY], &[DENIED], notes(json!({DENIED_REASON: "Yes!"})), foreign;
        },
        twins: twins! {
            "by who may", &[APPROVER, SECOND, ADMIN, POWERLESS], CHANGES, &[AWAITING], no();
            "own one taken back", &[SECOND], &[MERGE, JSON, PUT], &[DENIED], nothing;
            "a remark", &[ROBOT, OVERLORD, REQUESTER, GITOPS], CHANGES, &[AWAITING, DENIED], remark();
            "a remark", &[CONTROLLER], &[MERGE, JSON], &[AWAITING, HALF], remark();
            "a remark", &[MARKED, BREAKER], &[MERGE], &[AWAITING], remark();
        },
    }
}
