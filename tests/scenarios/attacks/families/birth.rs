//! Nothing is born approved, denied, cancelled or taken back.

use rollback_api::{
    ACCEPT_DATA_RISK, APPROVED_BY, APPROVER_GROUPS, APPROVER_UID, BREAK_GLASS, CANCELLED_BY,
    CHECKLIST, CONFIRM, DENIED_BY, DENIED_REASON, PLAN, WITHDRAWN_BY,
};
use serde_json::{Value, json};
use testkit::scene::{PRODUCTION, TICKED};

use super::{notes, remark};
use crate::attack::{APPLY, Expect, Family, POST, Row, Thing};
use crate::people::{ADMIN, BOTH, GITOPS, OVERLORD, OWNER, REQUESTER, ROBOT};

const NEW: &[Thing] = &[Thing::NewRequest];
const BORN: Expect = Expect::Guard(
    "rollback-guard-create",
    "A new request carries no approval, denial or cancellation",
);

/// Each key of the mailbox, and what could stand there.
const KEYS: [(&str, &str, &str); 12] = [
    ("approved-by alone", APPROVED_BY, "anna@broxiva.example"),
    ("confirm alone", CONFIRM, PRODUCTION),
    ("plan alone", PLAN, "sha256:0"),
    ("checklist alone", CHECKLIST, TICKED),
    ("break-glass alone", BREAK_GLASS, "There is nobody else."),
    (
        "accept-data-risk alone",
        ACCEPT_DATA_RISK,
        "The old version copes.",
    ),
    ("approver-uid alone", APPROVER_UID, "uid-approver"),
    ("approver-groups alone", APPROVER_GROUPS, "broxiva:leads"),
    ("withdrawn-by alone", WITHDRAWN_BY, "omar@broxiva.example"),
    ("denied-by alone", DENIED_BY, "anna@broxiva.example"),
    ("denied-reason alone", DENIED_REASON, "No."),
    ("cancelled-by alone", CANCELLED_BY, "rita@broxiva.example"),
];

pub fn family() -> Family {
    let mut attacks: Vec<Row> = KEYS
        .iter()
        .map(|(title, key, value)| {
            line!(
                title,
                &[REQUESTER],
                &[POST, APPLY],
                NEW,
                notes(json!({*key: value})),
                BORN
            )
        })
        .collect();
    attacks.extend(rows! {
        "whole approval", &[REQUESTER, GITOPS, ROBOT, ADMIN], &[POST, APPLY], NEW, notes(forged()), BORN;
        "whole approval", &[OVERLORD, BOTH, OWNER, REQUESTER], &[POST.dry()], NEW, notes(forged()), BORN;
        "empty approved-by", &[REQUESTER], &[POST], NEW, notes(json!({APPROVED_BY: ""})), BORN;
        "whole denial", &[GITOPS], &[POST], NEW, notes(json!({DENIED_BY: "anna@broxiva.example", DENIED_REASON: "No."})), BORN;
        "own cancellation", &[REQUESTER, ROBOT], &[POST], NEW, notes(json!({CANCELLED_BY: "$ME"})), BORN;
    });
    Family {
        name: "birth",
        attacks,
        twins: twins! {
            "with a remark", &[REQUESTER, GITOPS, ROBOT, ADMIN, OVERLORD, BOTH, OWNER], &[POST, APPLY], NEW, remark();
        },
    }
}

fn forged() -> Value {
    json!({
        APPROVED_BY: "anna@broxiva.example", CONFIRM: PRODUCTION, PLAN: "sha256:0", CHECKLIST: TICKED,
        APPROVER_UID: "uid-approver", APPROVER_GROUPS: "broxiva:leads",
    })
}
