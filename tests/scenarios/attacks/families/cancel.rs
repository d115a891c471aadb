//! Who asked may cancel, and who may approve; each in the own name.

use rollback_api::CANCELLED_BY;
use serde_json::{Value, json};

use super::{notes, remark};
use crate::attack::{
    APPLY, AWAITING, BEGUN, CANCELLED, CHANGES, DELETING, ENDED, Expect, Family, HALF, JSON, MERGE,
    PENDING, PUT,
};
use crate::people::{
    ADMIN, APPROVER, ASKER, BREAKER, CONTROLLER, EXPEDITER, GITOPS, OVERLORD, REQUESTER, ROBOT,
    SECOND,
};

const fn says(what: &'static str) -> Expect {
    Expect::Guard("rollback-guard-cancel", what)
}

fn by(name: &str) -> Value {
    notes(json!({CANCELLED_BY: name}))
}

pub fn family() -> Family {
    let only = says("Only who asked for this rollback (rita@broxiva.example)");
    let own = says("cancelled-by must be your own user name");
    let foreign = says("has cancelled this request, and only");
    Family {
        name: "cancel",
        attacks: rows! {
            "by another", &[GITOPS, ROBOT], CHANGES, &[AWAITING], by("$ME"), only;
            "by another", &[ASKER, BREAKER, EXPEDITER], &[MERGE, MERGE.dry()], &[AWAITING], by("$ME"), only;
            "by another", &[CONTROLLER], &[MERGE, JSON], &[AWAITING, BEGUN], by("$ME"), only;
            "by another later", &[GITOPS], &[MERGE], &[PENDING, HALF, BEGUN, ENDED, DELETING], by("$ME"), only;
            "in the name of the requester", &[GITOPS, ROBOT, CONTROLLER], &[MERGE], &[AWAITING], by("rita@broxiva.example"), only;
            "in the name of another", &[APPROVER, SECOND, ADMIN, OVERLORD], &[MERGE, JSON, PUT], &[AWAITING], by("rita@broxiva.example"), own;
            "in the name of another", &[REQUESTER], CHANGES, &[AWAITING], by("anna@broxiva.example"), own;
            "without a name", &[REQUESTER, APPROVER], &[MERGE], &[AWAITING], by(""), says("cancelled-by is empty");
            "too late", &[REQUESTER, APPROVER], CHANGES, &[BEGUN], by("$ME"), says("It is too late: Deployment api has its old template");
            "after the end", &[REQUESTER, APPROVER, ADMIN], CHANGES, &[ENDED], by("$ME"), says("has ended (Denied); there is nothing left to cancel");
            "taken back by another", &[APPROVER, GITOPS, ADMIN], &[MERGE, JSON, PUT], &[CANCELLED], notes(json!({CANCELLED_BY: null})), foreign;
            "over that of another", &[APPROVER, SECOND], &[MERGE, APPLY], &[CANCELLED], by("$ME"), foreign;
        },
        twins: twins! {
            "by who asked", &[REQUESTER], CHANGES, &[AWAITING, PENDING, HALF], by("$ME");
            "by who may approve", &[APPROVER, SECOND, ADMIN, OVERLORD], CHANGES, &[AWAITING], by("$ME");
            "own one taken back", &[REQUESTER], &[MERGE, JSON, PUT], &[CANCELLED], notes(json!({CANCELLED_BY: null}));
            "a remark", &[GITOPS, ROBOT, ASKER, BREAKER, EXPEDITER], CHANGES, &[AWAITING], remark();
            "a remark", &[CONTROLLER], &[MERGE, JSON], &[AWAITING, BEGUN], remark();
        },
    }
}
