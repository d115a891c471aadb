//! Where people write themselves who asks and who approves: nobody is anybody else, or in more groups, or no machine.

use rollback_api::{APPROVER_GROUPS, APPROVER_UID};
use serde_json::{Value, json};
use testkit::typed::UNSAID;

use super::{approval, approval_but, notes};
use crate::attack::{
    APPLY, AWAITING, CHANGES, Expect, FULL, Family, HALF, JSON, MERGE, PENDING, POST, PUT, Thing,
};
use crate::people::{
    ADMIN, APPROVER, BOTH, CONTROLLER, GITOPS, MARKED, ODD, OVERLORD, REQUESTER, ROBOT, SECOND,
    VENTRILOQUIST,
};

const NEW: &[Thing] = &[Thing::NewRequest];
const MACHINES: &str = "system:serviceaccounts";

fn by(identity: Value) -> Value {
    let mut patch = json!({"spec": {}});
    patch["spec"]["requestedBy"] = identity;
    patch
}

/// Who asks.
pub fn asking() -> Family {
    let says = |what| Expect::Guard("rollback-guard-create", what);
    let name = says("spec.requestedBy must say who you are");
    let (groups, uid) = (
        says("names what you are not in"),
        says("requestedBy.uid must be your own"),
    );
    let machine = says("must say that a machine asks");
    let crowd = ["broxiva:oncall"; 5];
    let fixed = Expect::Guard(
        "rollback-guard-spec",
        "The spec of a RollbackRequest cannot change",
    );
    Family {
        name: "identity-asking",
        attacks: rows! {
            "missing", &[REQUESTER, GITOPS, ADMIN, ROBOT], &[POST, APPLY], NEW, by(json!(UNSAID)), name;
            "of nobody", &[REQUESTER], &[POST, APPLY], NEW, by(json!({"username": ""})), name;
            "foreign name", &[REQUESTER, GITOPS, ADMIN], &[POST, APPLY, POST.dry()], NEW, by(json!({"username": "anna@broxiva.example"})), name;
            "foreign name in other letters", &[REQUESTER], &[POST], NEW, by(json!({"username": "RITA@broxiva.example"})), name;
            "own name and a blank", &[REQUESTER], &[POST], NEW, by(json!({"username": "rita@broxiva.example "})), name;
            "robot of another namespace", &[ROBOT], &[POST], NEW, by(json!({"username": "system:serviceaccount:elsewhere:robot", "groups": [MACHINES]})), name;
            "robot as a person", &[ROBOT], &[POST], NEW, by(json!({"username": "rita@broxiva.example", "groups": [MACHINES]})), name;
            "a voice as its owner", &[VENTRILOQUIST], &[POST], NEW, by(json!({"username": "anna@broxiva.example", "groups": [MACHINES]})), name;
            "foreign uid", &[REQUESTER, ROBOT], &[POST, APPLY], NEW, by(json!({"username": "$ME", "uid": "uid-approver", "groups": [MACHINES]})), uid;
            "foreign group", &[REQUESTER], &[POST, APPLY], NEW, by(json!({"username": "$ME", "groups": ["broxiva:oncall", "broxiva:leads"]})), groups;
            "system:masters", &[REQUESTER, GITOPS, BOTH], &[POST], NEW, by(json!({"username": "$ME", "groups": ["system:masters"]})), groups;
            "empty group", &[REQUESTER], &[POST], NEW, by(json!({"username": "$ME", "groups": [""]})), groups;
            "group in other letters", &[REQUESTER], &[POST], NEW, by(json!({"username": "$ME", "groups": ["Broxiva:oncall"]})), groups;
            "two groups in one", &[REQUESTER], &[POST], NEW, by(json!({"username": "$ME", "groups": ["broxiva:oncall\nsystem:authenticated"]})), groups;
            "more groups than one has", &[REQUESTER], &[POST], NEW, by(json!({"username": "$ME", "groups": crowd})), says("name each of yours once at most");
            "machine without its mark", &[ROBOT, VENTRILOQUIST], &[POST, APPLY], NEW, by(json!({"username": "$ME"})), machine;
            "machine with its other groups", &[ROBOT], &[POST], NEW, by(json!({"username": "$ME", "groups": ["system:authenticated"]})), machine;
            "changed later", &[REQUESTER, APPROVER, ADMIN, CONTROLLER], &[MERGE, JSON], &[AWAITING], by(json!({"username": "olga@broxiva.example"})), fixed;
            "groups changed later", &[REQUESTER], &[MERGE, JSON, PUT, APPLY], &[AWAITING], by(json!({"groups": []})), fixed;
            "taken away later", &[REQUESTER, ADMIN], &[MERGE, JSON, PUT], &[AWAITING], by(json!(null)), fixed;
        },
        twins: twins! {
            "all that one is", &[REQUESTER, GITOPS, ADMIN, ROBOT, VENTRILOQUIST, BOTH], &[POST, APPLY], NEW, json!({});
            "name alone", &[REQUESTER, GITOPS, BOTH], &[POST, APPLY], NEW, by(json!({"username": "$ME"}));
            "rehearsed", &[REQUESTER, GITOPS, ADMIN], &[POST.dry()], NEW, by(json!({"username": "$ME"}));
            "fewer groups", &[REQUESTER], &[POST], NEW, by(json!({"username": "$ME", "groups": ["system:authenticated"]}));
            "own uid", &[REQUESTER], &[POST], NEW, by(json!({"username": "$ME", "uid": "uid-requester"}));
            "no uid", &[REQUESTER], &[POST], NEW, by(json!({"username": "$ME", "uid": ""}));
            "a machine's mark", &[ROBOT], &[POST], NEW, by(json!({"username": "$ME", "groups": [MACHINES]}));
            "what the field does not have is dropped", &[REQUESTER], &[POST], NEW, by(json!({"username": "$ME", "extra": {"scopes": ["all"]}}));
            "a remark", &[REQUESTER, APPROVER, ADMIN], CHANGES, &[AWAITING], super::remark();
            "a remark by the controller", &[CONTROLLER], &[MERGE, JSON], &[AWAITING], super::remark();
        },
    }
}

/// Who approves.
pub fn approving() -> Family {
    let says = |what| Expect::Guard("rollback-guard-approval", what);
    let missing = says("approver-groups is missing");
    let (groups, uid) = (
        says("approver-groups names what you are not in"),
        says("approver-uid must be your own uid"),
    );
    let left = Expect::Guard(
        "rollback-guard-stamps",
        "say who gave the approval that stands beside them",
    );
    let robots = Expect::Guard("rollback-guard-approval", "A ServiceAccount cannot approve");
    let named = |names: &str| approval_but(&json!({APPROVER_GROUPS: names}));
    let crowd = ["broxiva:leads"; 5].join("\n");
    let stamps =
        |uid: &str, groups: &str| notes(json!({APPROVER_UID: uid, APPROVER_GROUPS: groups}));
    Family {
        name: "identity-approving",
        attacks: rows! {
            "missing", &[APPROVER, SECOND, ADMIN, ODD], CHANGES, &[AWAITING], named(UNSAID), missing;
            "empty", &[APPROVER, ADMIN, ODD], CHANGES, &[AWAITING], named(""), missing;
            "a line without a name", &[APPROVER], &[MERGE], &[AWAITING], named("\n"), missing;
            "foreign group", &[APPROVER, BOTH], CHANGES, &[AWAITING], named("broxiva:oncall"), groups;
            "one's own and a foreign one", &[APPROVER], CHANGES, &[AWAITING], named("broxiva:leads\nbroxiva:oncall"), groups;
            "system:masters", &[APPROVER, SECOND], &[MERGE, JSON], &[AWAITING], named("system:masters"), groups;
            "separated otherwise", &[APPROVER], &[MERGE], &[AWAITING], named("broxiva:leads,system:authenticated"), groups;
            "with a carriage return", &[APPROVER], &[MERGE], &[AWAITING], named("broxiva:leads\r\nsystem:authenticated"), groups;
            "with a blank", &[APPROVER], &[MERGE], &[AWAITING], named(" broxiva:leads"), groups;
            "longer than all groups", &[APPROVER], &[MERGE], &[AWAITING], approval_but(&json!({APPROVER_GROUPS: crowd})), says("longer than all of your groups together");
            "foreign uid", &[APPROVER, ADMIN], CHANGES, &[AWAITING], approval_but(&json!({APPROVER_UID: "uid-second-approver"})), uid;
            "a robot without its mark", &[OVERLORD], &[MERGE], &[AWAITING], named("system:authenticated"), robots;
            "a marked person without the mark", &[MARKED], &[MERGE], &[AWAITING], named("broxiva:leads"), robots;
            "of another's approval", &[REQUESTER, SECOND, CONTROLLER, ADMIN], &[MERGE, JSON], &[PENDING, FULL], stamps("uid-admin", "system:masters"), left;
            "of another's approval, in part", &[REQUESTER, SECOND], &[MERGE, JSON], &[PENDING], notes(json!({APPROVER_GROUPS: "system:authenticated"})), left;
            "of another's approval, taken away", &[REQUESTER, SECOND], &[MERGE, JSON], &[PENDING, FULL], notes(json!({APPROVER_GROUPS: null})), left;
            "of another's approval, left out", &[REQUESTER, SECOND], &[PUT], &[PENDING, FULL], notes(json!({APPROVER_GROUPS: UNSAID})), left;
            "of one's own, afterwards", &[APPROVER], &[MERGE, JSON], &[PENDING], notes(json!({APPROVER_GROUPS: "system:masters"})), left;
            "without an approval", &[REQUESTER, APPROVER, CONTROLLER], &[MERGE, JSON], &[AWAITING, HALF], stamps("uid-approver", "broxiva:leads"), left;
        },
        twins: twins! {
            "all groups", &[APPROVER, SECOND, BOTH, ODD, ADMIN], CHANGES, &[AWAITING], approval();
            "one group", &[APPROVER], CHANGES, &[AWAITING], named("broxiva:leads");
            "in another order", &[APPROVER], &[MERGE], &[AWAITING], named("system:authenticated\nbroxiva:leads\n");
            "own uid", &[APPROVER], CHANGES, &[AWAITING], approval_but(&json!({APPROVER_UID: "uid-approver"}));
            "no uid", &[APPROVER], &[MERGE], &[AWAITING], approval_but(&json!({APPROVER_UID: ""}));
            "own approval taken away, and who gave it left", &[APPROVER], &[MERGE, JSON], &[PENDING], notes(json!({"rollback.broxiva.com/approved-by": null, "rollback.broxiva.com/confirm": null, "rollback.broxiva.com/plan": null, "rollback.broxiva.com/checklist": null}));
            "a remark beside another's approval", &[REQUESTER, SECOND, OVERLORD, MARKED, ADMIN], CHANGES, &[PENDING, FULL], super::remark();
            "a remark by the controller", &[CONTROLLER], &[MERGE, JSON], &[PENDING, FULL, HALF], super::remark();
        },
    }
}
