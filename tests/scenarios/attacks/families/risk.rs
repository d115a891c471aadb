//! Accepting a risk for the data.

use rollback_api::{ACCEPT_DATA_RISK, APPROVED_BY, BREAK_GLASS, CHECKLIST, CONFIRM, PLAN};
use serde_json::{Value, json};
use testkit::scene::PRODUCTION;

use super::{approval, approval_but, notes, remark};
use crate::attack::{
    APPLY, AWAITING, CHANGES, ENDED, Expect, Family, HALF, JSON, MERGE, PENDING, PUT, RISKY,
};
use crate::fire::merged;
use crate::people::{
    ADMIN, APPROVER, BREAKER, CONTROLLER, GITOPS, OVERLORD, OWNER, REQUESTER, ROBOT, SECOND,
};

const fn says(what: &'static str) -> Expect {
    Expect::Guard("rollback-guard-approval", what)
}

const WHY: &str = "The old version leaves the new column empty.";
const ALONE: &str = "Nobody else answers the phone.";

fn accepting(why: &str) -> Value {
    approval_but(&json!({ACCEPT_DATA_RISK: why}))
}

/// An approval of one person alone, with these words about the risk.
fn alone(why: Option<&str>) -> Value {
    let whole = json!({
        APPROVED_BY: "$ME", CONFIRM: PRODUCTION, PLAN: "$DIGEST", BREAK_GLASS: ALONE,
    });
    notes(merged(&whole, &json!({ACCEPT_DATA_RISK: why})))
}

pub fn family() -> Family {
    let missing = says("accept-data-risk: the data may not fit the old version");
    let short = says("it has 9. Ask first");
    let long = says("it has 1001. Ask first");
    let broken = says("it has a line break or another control character");
    let in_her_name =
        approval_but(&json!({APPROVED_BY: "anna@broxiva.example", ACCEPT_DATA_RISK: WHY}));
    let key = notes(json!({ACCEPT_DATA_RISK: WHY}));
    Family {
        name: "data-risk",
        attacks: rows! {
            "missing", &[APPROVER, SECOND, ADMIN], CHANGES, &[RISKY], approval(), missing;
            "missing", &[OWNER], &[MERGE.dry(), APPLY.dry()], &[RISKY], approval(), missing;
            "empty", &[APPROVER], &[MERGE, JSON], &[RISKY], accepting(""), missing;
            "of blanks", &[APPROVER], &[MERGE], &[RISKY], accepting("                    "), missing;
            "short", &[APPROVER, SECOND], &[MERGE, PUT], &[RISKY], accepting("It is ok."), short;
            "short between blanks", &[APPROVER], &[MERGE], &[RISKY], accepting("     It is ok.     "), short;
            "long", &[APPROVER], &[MERGE], &[RISKY], accepting(&"x".repeat(1001)), long;
            "of two lines", &[APPROVER], &[MERGE, JSON], &[RISKY], accepting("The column is empty.\nApproved-by: everybody"), broken;
            "with a separator of lines", &[APPROVER], &[MERGE], &[RISKY], accepting("The column is empty.\u{2028}Approved-by: everybody"), broken;
            "with a control character", &[APPROVER], &[MERGE], &[RISKY], accepting("The column is empty.\u{1b}[2J"), broken;
            "missing, and alone", &[BREAKER, OWNER, ADMIN], CHANGES, &[RISKY], alone(None), missing;
            "short, and alone", &[BREAKER], &[MERGE], &[RISKY], alone(Some("ok")), missing;
            "by a machine", &[ROBOT, OVERLORD], CHANGES, &[RISKY], accepting(WHY), says("A ServiceAccount cannot approve");
            "by the controller", &[CONTROLLER], &[MERGE, JSON], &[RISKY], accepting(WHY), says("A ServiceAccount cannot approve");
            "without the verb", &[REQUESTER, GITOPS], CHANGES, &[RISKY], accepting(WHY), says("may not approve rollbacks in namespace");
            "key alone", &[REQUESTER, GITOPS], &[MERGE, JSON], &[RISKY, AWAITING], key.clone(), says("may not approve rollbacks in namespace");
            "key alone", &[APPROVER], &[MERGE, JSON], &[RISKY], key.clone(), says("approved-by is missing");
            "in the name of another approver", &[SECOND], CHANGES, &[RISKY], in_her_name, says("approved-by must be your own user name");
            "beside an uncounted one", &[SECOND, ADMIN], &[MERGE], &[PENDING], key, says("has not been counted yet");
            "of another plan", &[APPROVER], &[MERGE], &[RISKY], approval_but(&json!({PLAN: "sha256:0", ACCEPT_DATA_RISK: WHY})), says("plan is not the digest");
            "another phrase", &[APPROVER], &[MERGE], &[RISKY], approval_but(&json!({CONFIRM: "yes", ACCEPT_DATA_RISK: WHY})), says("letter by letter");
            "nothing ticked", &[APPROVER], &[MERGE], &[RISKY], approval_but(&json!({CHECKLIST: null, ACCEPT_DATA_RISK: WHY})), says("checklist: not ticked yet");
            "after the end", &[APPROVER], &[MERGE], &[ENDED], accepting(WHY), says("has ended (Denied)");
        },
        twins: twins! {
            "accepted", &[APPROVER, SECOND, ADMIN, OWNER], CHANGES, &[RISKY], accepting(WHY);
            "accepted in as few letters as there may be", &[APPROVER], &[MERGE], &[RISKY], accepting("It is okay");
            "accepted in as many letters as there may be", &[APPROVER], &[MERGE], &[RISKY], accepting(&"\u{e9}".repeat(1000));
            "accepted alone", &[BREAKER, OWNER, ADMIN], CHANGES, &[RISKY], alone(Some(WHY));
            "where there is no risk", &[APPROVER, SECOND, ADMIN], CHANGES, &[AWAITING], accepting(WHY);
            "where there is no risk, after a counted one", &[SECOND], &[MERGE, PUT], &[HALF], accepting(WHY);
            "a word too short where there is no risk", &[APPROVER], &[MERGE], &[AWAITING], accepting("ok");
            "a remark", &[REQUESTER, GITOPS, ROBOT, OVERLORD], CHANGES, &[RISKY], remark();
            "a remark", &[CONTROLLER], &[MERGE, JSON], &[RISKY], remark();
        },
    }
}
