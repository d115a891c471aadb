//! Who asks or approves may say that they see to it, in their own name. It keeps others from being asked, so nobody else may.

use rollback_api::ACKNOWLEDGED_BY;
use serde_json::{Value, json};

use super::{notes, remark};
use crate::attack::{
    AWAITING, CHANGES, ENDED, Expect, Family, HALF, JSON, MERGE, POST, PUT, Thing,
};
use crate::people::{ADMIN, APPROVER, CONTROLLER, EDITOR, GITOPS, RECEIVER, REQUESTER, SECOND};

const fn says(what: &'static str) -> Expect {
    Expect::Guard("rollback-guard-acknowledge", what)
}

fn by(name: &str) -> Value {
    notes(json!({ACKNOWLEDGED_BY: name}))
}

pub fn family() -> Family {
    let own = says("acknowledge must be your own user name");
    Family {
        name: "acknowledge",
        attacks: rows! {
            "by the controller", &[CONTROLLER], &[MERGE, JSON], &[AWAITING, ENDED], by("$ME"), says("may not do that in namespace");
            "in the name of another", &[APPROVER, SECOND, REQUESTER, ADMIN], &[MERGE, JSON, PUT], &[AWAITING], by("nora@broxiva.example"), own;
            "in the name of another, after the end", &[APPROVER], &[MERGE], &[ENDED], by("nora@broxiva.example"), own;
            "without a name", &[REQUESTER, APPROVER], &[MERGE], &[AWAITING], by(""), says("acknowledge is empty");
            "born acknowledged", &[REQUESTER], &[POST], &[Thing::NewRequest], by("$ME"), says("A new request is acknowledged by nobody");
            "by who may not write requests", &[EDITOR, RECEIVER], &[MERGE], &[AWAITING], by("$ME"), Expect::Rbac;
        },
        twins: twins! {
            "by who asked or may approve", &[REQUESTER, APPROVER, SECOND, GITOPS, ADMIN], CHANGES, &[AWAITING, HALF], by("$ME");
            "after the end", &[REQUESTER, APPROVER], &[MERGE, JSON, PUT], &[ENDED], by("$ME");
            "a remark", &[CONTROLLER], &[MERGE, JSON], &[AWAITING], remark();
            "born without", &[REQUESTER], &[POST], &[Thing::NewRequest], json!({});
        },
    }
}
