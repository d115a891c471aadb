//! An approval is the word of a person who may give it, in the own name, for the plan as it is.

use rollback_api::{APPROVED_BY, APPROVER_GROUPS, APPROVER_UID, CHECKLIST, CONFIRM, PLAN};
use serde_json::json;
use testkit::scene::{PRODUCTION, TICKED};

use super::{approval, approval_but, notes, remark};
use crate::attack::{
    APPLY, APPROVED, AWAITING, BEGUN, CHANGES, DELETING, ENDED, Expect, FULL, Family, GLASS, HALF,
    JSON, MERGE, OWN, PENDING, PLANLESS, PUT, SEVERAL, STAGING, WITHDRAWN,
};
use crate::people::{
    ADMIN, APPROVER, ASKER, BOTH, BREAKER, CONTROLLER, EXPEDITER, GITOPS, MARKED, NARROW, ODD,
    OVERLORD, OWNER, POWERLESS, REQUESTER, ROBOT, SECOND,
};

const fn says(what: &'static str) -> Expect {
    Expect::Guard("rollback-guard-approval", what)
}

const ANNA: &str = "anna@broxiva.example";

/// No robots.
pub fn robots() -> Family {
    let robot = says("A ServiceAccount cannot approve");
    Family {
        name: "approval-robot",
        attacks: rows! {
            "own name", &[ROBOT, OVERLORD], CHANGES, &[AWAITING], approval(), robot;
            "own name", &[CONTROLLER], &[MERGE, JSON, MERGE.dry()], &[AWAITING, HALF], approval(), robot;
            "own name", &[OVERLORD, MARKED], &[MERGE], &[HALF, STAGING, GLASS], approval(), robot;
            "in the name of the approver", &[OVERLORD, CONTROLLER], &[MERGE], &[AWAITING], approval_but(&json!({APPROVED_BY: ANNA})), robot;
            "only the name", &[CONTROLLER], &[MERGE], &[AWAITING], notes(json!({APPROVED_BY: "$ME"})), robot;
        },
        twins: twins! {
            "a remark", &[ROBOT, OVERLORD], CHANGES, &[AWAITING], remark();
            "a remark", &[CONTROLLER], &[MERGE, JSON], &[AWAITING, HALF], remark();
            "a remark", &[MARKED], &[MERGE], &[HALF, STAGING, GLASS], remark();
        },
    }
}

/// Not without the verb.
pub fn permission() -> Family {
    let may_not = says("may not approve rollbacks in namespace");
    let one = |key: &str, value: &str| notes(json!({key: value}));
    let in_her_name = approval_but(&json!({APPROVED_BY: ANNA}));
    Family {
        name: "approval-permission",
        attacks: rows! {
            "own name", &[REQUESTER, GITOPS], CHANGES, &[AWAITING], approval(), may_not;
            "in the name of the approver", &[REQUESTER, GITOPS], CHANGES, &[AWAITING], in_her_name, may_not;
            "own name", &[EXPEDITER, BREAKER, NARROW, ASKER], &[MERGE, MERGE.dry()], &[AWAITING], approval(), may_not;
            "in the name of another approver", &[REQUESTER], &[MERGE], &[PLANLESS, HALF, APPROVED, BEGUN, ENDED, STAGING, GLASS, DELETING], approval_but(&json!({APPROVED_BY: "omar@broxiva.example"})), may_not;
            "approved-by alone", &[REQUESTER], &[MERGE, JSON], &[AWAITING], one(APPROVED_BY, ANNA), may_not;
            "confirm alone", &[REQUESTER], &[MERGE, JSON], &[AWAITING], one(CONFIRM, PRODUCTION), may_not;
            "plan alone", &[REQUESTER], &[MERGE, JSON], &[AWAITING], one(PLAN, "$DIGEST"), may_not;
            "checklist alone", &[REQUESTER], &[MERGE, JSON], &[AWAITING], one(CHECKLIST, "incident-documented"), may_not;
            "with stamps", &[REQUESTER], &[MERGE], &[AWAITING], approval_but(&json!({APPROVED_BY: ANNA, APPROVER_UID: "uid-approver", APPROVER_GROUPS: "broxiva:leads"})), may_not;
            "half of a counted one taken away", &[REQUESTER], &[MERGE, JSON, PUT], &[FULL], notes(json!({PLAN: null})), may_not;
            "confirm of a counted one", &[GITOPS], &[MERGE, APPLY], &[HALF, FULL], one(CONFIRM, "ROLLBACK"), may_not;
        },
        twins: twins! {
            "with the verb", &[APPROVER, SECOND, BOTH, ODD, OWNER, ADMIN], CHANGES, &[AWAITING], approval();
            "a remark", &[REQUESTER, GITOPS, EXPEDITER, BREAKER, NARROW, ASKER], CHANGES, &[AWAITING], remark();
            "all of a counted one taken away", &[REQUESTER, GITOPS], &[MERGE, JSON, PUT], &[FULL], notes(json!({APPROVED_BY: null, CONFIRM: null, PLAN: null, CHECKLIST: null}));
        },
    }
}

/// Only in the own name, and only over what has done its work.
pub fn name() -> Family {
    let own = says("approved-by must be your own user name");
    let missing = says("approved-by is missing");
    let foreign = says("has not been counted yet, and only");
    let occupied = says("is counted and is being put away");
    let by = |name: &str| approval_but(&json!({APPROVED_BY: name}));
    let nothing = notes(json!({APPROVED_BY: null, CONFIRM: null, PLAN: null, CHECKLIST: null}));
    Family {
        name: "approval-name",
        attacks: rows! {
            "of another approver", &[SECOND, ADMIN, ODD], CHANGES, &[AWAITING], by(ANNA), own;
            "of another approver", &[SECOND, OWNER], &[MERGE.dry()], &[STAGING, GLASS], by(ANNA), own;
            "of nobody", &[APPROVER], &[MERGE], &[AWAITING], by("zoe@broxiva.example"), own;
            "of a machine", &[APPROVER], &[MERGE], &[AWAITING], by("system:serviceaccount:$NS:default"), own;
            "in capitals", &[APPROVER], &[MERGE], &[AWAITING], by("ANNA@broxiva.example"), own;
            "with a blank", &[APPROVER], &[MERGE, JSON], &[AWAITING], by("anna@broxiva.example "), own;
            "with a line break", &[APPROVER], &[MERGE], &[AWAITING], by("anna@broxiva.example\n"), own;
            "of two people", &[APPROVER], &[MERGE], &[AWAITING], by("anna@broxiva.example,omar@broxiva.example"), own;
            "with a letter of another alphabet", &[APPROVER], &[MERGE], &[AWAITING], by("\u{430}nna@broxiva.example"), own;
            "with a letter that is not seen", &[APPROVER], &[MERGE], &[AWAITING], by("anna@broxiva.example\u{200b}"), own;
            "without an accent", &[ODD], &[MERGE], &[AWAITING], by("d'Arcy \"Zoe\" O\\Neil <zoe+ops@broxiva.example>, 100 %"), own;
            "in the name of the one whose request is deleted", &[SECOND], &[MERGE, JSON], &[DELETING], by(ANNA), own;
            "empty", &[APPROVER], &[MERGE, JSON], &[AWAITING], by(""), missing;
            "missing", &[APPROVER], CHANGES, &[AWAITING], approval_but(&json!({APPROVED_BY: null})), missing;
            "only the phrase", &[APPROVER], &[MERGE], &[AWAITING], notes(json!({CONFIRM: PRODUCTION})), missing;
            "over an uncounted one", &[SECOND, ADMIN, BOTH], CHANGES, &[PENDING], approval(), foreign;
            "uncounted taken away", &[REQUESTER, SECOND, ADMIN, ROBOT], &[MERGE, JSON, PUT], &[PENDING], nothing.clone(), foreign;
            "uncounted taken away", &[CONTROLLER], &[MERGE, JSON], &[PENDING], nothing.clone(), foreign;
            "uncounted spoilt", &[SECOND, REQUESTER, GITOPS], &[MERGE], &[PENDING], notes(json!({CONFIRM: "no"})), foreign;
            "items of a counted one", &[SECOND], &[MERGE], &[FULL], notes(json!({CHECKLIST: "incident-documented"})), own;
            "the rest of a counted one taken over", &[SECOND, BOTH], &[MERGE, JSON, APPLY], &[FULL], notes(json!({APPROVED_BY: "$ME"})), occupied;
            "over a counted one that is still there", &[SECOND, ADMIN, BOTH], CHANGES, &[FULL], approval(), occupied;
        },
        twins: twins! {
            "in the own name", &[SECOND, ADMIN, ODD, APPROVER], CHANGES, &[AWAITING], approval();
            "after a counted one", &[SECOND, ADMIN, BOTH], CHANGES, &[HALF], approval();
            "the own one taken away", &[APPROVER], &[MERGE, JSON, PUT], &[PENDING], nothing;
            "a remark beside an uncounted one", &[REQUESTER, SECOND, ADMIN, ROBOT, GITOPS], CHANGES, &[PENDING], remark();
            "a remark beside an uncounted one", &[CONTROLLER], &[MERGE, JSON], &[PENDING], remark();
            "in the own name where the rules are others", &[OWNER], &[MERGE], &[GLASS], approval();
        },
    }
}

/// Not too early, not too late, and not yes and no at once.
pub fn moment() -> Family {
    Family {
        name: "approval-moment",
        attacks: rows! {
            "before there is a plan", &[APPROVER, SECOND], CHANGES, &[PLANLESS], approval(), says("There is no plan yet");
            "without a digest", &[APPROVER], &[MERGE], &[PLANLESS], approval_but(&json!({PLAN: ""})), says("There is no plan yet");
            "after the end", &[APPROVER, SECOND, ADMIN], CHANGES, &[ENDED], approval(), says("has ended (Denied)");
            "taken back", &[APPROVER], CHANGES, &[WITHDRAWN], approval(), says("withdrawn-by says that you take your approval back");
        },
        twins: twins! {
            "in time", &[APPROVER, SECOND, ADMIN], CHANGES, &[AWAITING], approval();
            "given again", &[APPROVER], &[MERGE, JSON, PUT], &[WITHDRAWN], notes(json!({APPROVED_BY: "$ME", CONFIRM: PRODUCTION, PLAN: "$DIGEST", CHECKLIST: TICKED, rollback_api::WITHDRAWN_BY: null}));
            "beside one that is taken back", &[SECOND], &[MERGE, APPLY], &[WITHDRAWN], approval();
        },
    }
}

/// Four eyes.
pub fn four_eyes() -> Family {
    Family {
        name: "approval-four-eyes",
        attacks: rows! {
            "the own request", &[BOTH], CHANGES, &[OWN], approval(), says("Four eyes: you asked for this rollback yourself");
            "the own request", &[BOTH], &[MERGE.dry(), APPLY.dry()], &[OWN], approval(), says("Four eyes");
        },
        twins: twins! {
            "the request of somebody else", &[BOTH], CHANGES, &[AWAITING], approval();
            "the own request by somebody else", &[APPROVER], CHANGES, &[OWN], approval();
        },
    }
}

/// One approves what one has read.
pub fn plan() -> Family {
    let stale = says("plan is not the digest of the present plan");
    let plan = |digest: &str| approval_but(&json!({PLAN: digest}));
    let zero = "sha256:0000000000000000000000000000000000000000000000000000000000000000";
    Family {
        name: "approval-plan",
        attacks: rows! {
            "another digest", &[APPROVER, SECOND, ADMIN], CHANGES, &[AWAITING], plan(zero), stale;
            "another digest", &[BOTH, ODD], &[MERGE], &[HALF, STAGING, SEVERAL], plan(zero), stale;
            "with a line break", &[APPROVER], &[MERGE], &[AWAITING], plan("$DIGEST\n"), stale;
            "with a blank", &[APPROVER], &[MERGE], &[AWAITING], plan(" $DIGEST"), stale;
            "the beginning", &[APPROVER], &[MERGE], &[AWAITING], plan("sha256:"), stale;
            "any", &[APPROVER], &[MERGE], &[AWAITING], plan("*"), stale;
            "empty", &[APPROVER], &[MERGE], &[AWAITING], plan(""), says("plan is missing");
            "missing", &[APPROVER], CHANGES, &[AWAITING], approval_but(&json!({PLAN: null})), says("plan is missing");
        },
        twins: twins! {
            "the digest", &[APPROVER, SECOND, ADMIN], CHANGES, &[AWAITING], approval();
            "the digest", &[BOTH, ODD], &[MERGE], &[HALF, SEVERAL], approval();
        },
    }
}

/// Letter by letter.
pub fn phrase() -> Family {
    let wrong = says("letter by letter");
    let phrase = |phrase: &str| approval_but(&json!({CONFIRM: phrase}));
    Family {
        name: "approval-phrase",
        attacks: rows! {
            "small letters", &[APPROVER, SECOND, ADMIN], CHANGES, &[AWAITING], phrase("rollback production"), wrong;
            "of staging", &[APPROVER], &[MERGE, JSON], &[AWAITING, HALF, SEVERAL], phrase("ROLLBACK"), wrong;
            "of production", &[APPROVER], &[MERGE, PUT], &[STAGING], approval_but(&json!({CHECKLIST: null})), wrong;
            "with a blank", &[APPROVER], &[MERGE], &[AWAITING], phrase("ROLLBACK PRODUCTION "), wrong;
            "with two blanks", &[APPROVER], &[MERGE], &[AWAITING], phrase("ROLLBACK  PRODUCTION"), wrong;
            "in quotes", &[APPROVER], &[MERGE], &[AWAITING], phrase("\"ROLLBACK PRODUCTION\""), wrong;
            "with a blank that does not break", &[APPROVER], &[MERGE], &[AWAITING], phrase("ROLLBACK\u{a0}PRODUCTION"), wrong;
            "with a line break", &[APPROVER], &[MERGE], &[AWAITING], phrase("ROLLBACK PRODUCTION\n"), wrong;
            "in wide letters", &[APPROVER], &[MERGE], &[AWAITING], phrase("ＲＯＬＬＢＡＣＫ ＰＲＯＤＵＣＴＩＯＮ"), wrong;
            "just yes", &[APPROVER], &[MERGE], &[AWAITING], phrase("yes"), wrong;
            "empty", &[APPROVER], &[MERGE], &[AWAITING], phrase(""), wrong;
            "missing", &[APPROVER], CHANGES, &[AWAITING], approval_but(&json!({CONFIRM: null})), wrong;
        },
        twins: twins! {
            "the phrase", &[APPROVER, SECOND, ADMIN], CHANGES, &[AWAITING], approval();
            "that of staging", &[APPROVER, REQUESTER_WHO_APPROVES], CHANGES, &[STAGING], approval_but(&json!({CONFIRM: "ROLLBACK", CHECKLIST: null}));
        },
    }
}

/// In staging the requester may approve who holds the verb; the request there is asked for by the requester.
const REQUESTER_WHO_APPROVES: crate::people::Person = BOTH;

/// Each item is ticked.
pub fn checklist() -> Family {
    let open = says("checklist: not ticked yet");
    let unknown = says("checklist: no such item in the plan");
    // A message that cannot be told in one line is told without its particulars.
    let unknown_somehow =
        says("checklist names an item that is not in status.plan.rules.approvals.checklist");
    let ticks = |items: &str| approval_but(&json!({CHECKLIST: items}));
    let many = format!("{TICKED}{}", ",one-more".repeat(200));
    Family {
        name: "approval-checklist",
        attacks: rows! {
            "missing", &[APPROVER, SECOND, ADMIN], CHANGES, &[AWAITING], approval_but(&json!({CHECKLIST: null})), open;
            "missing", &[BOTH], &[MERGE], &[SEVERAL], approval_but(&json!({CHECKLIST: null})), open;
            "missing after a counted one", &[BOTH], &[MERGE, JSON, PUT], &[HALF], approval_but(&json!({CHECKLIST: null})), open;
            "empty", &[APPROVER], &[MERGE], &[AWAITING], ticks(""), open;
            "one of two", &[APPROVER], &[MERGE, JSON], &[AWAITING], ticks("incident-documented"), open;
            "the other of two", &[APPROVER], &[MERGE], &[AWAITING], ticks("stakeholders-notified"), open;
            "one of two twice", &[APPROVER], &[MERGE], &[AWAITING], ticks("incident-documented,incident-documented"), open;
            "with a blank", &[APPROVER], &[MERGE], &[AWAITING], ticks("incident-documented, stakeholders-notified"), unknown;
            "with a comma too much", &[APPROVER], &[MERGE], &[AWAITING], ticks("incident-documented,stakeholders-notified,"), unknown;
            "in capitals", &[APPROVER], &[MERGE], &[AWAITING], ticks("Incident-Documented,Stakeholders-Notified"), unknown;
            "all", &[APPROVER], &[MERGE], &[AWAITING], ticks("all"), unknown;
            "more than anybody reads", &[APPROVER], &[MERGE], &[AWAITING], ticks(&many), unknown;
            "with line breaks", &[APPROVER], &[MERGE], &[AWAITING], ticks("incident-documented\nstakeholders-notified"), unknown_somehow;
            "with semicolons", &[APPROVER], &[MERGE], &[AWAITING], ticks("incident-documented;stakeholders-notified"), unknown;
            "one that is not asked for", &[APPROVER], &[MERGE], &[STAGING], approval_but(&json!({CONFIRM: "ROLLBACK"})), unknown;
        },
        twins: twins! {
            "all of them", &[APPROVER, SECOND, ADMIN, BOTH], CHANGES, &[AWAITING], approval();
            "in another order", &[APPROVER], &[MERGE], &[AWAITING], ticks("stakeholders-notified,incident-documented");
            "none where none is asked for", &[APPROVER], &[MERGE], &[STAGING], approval_but(&json!({CONFIRM: "ROLLBACK", CHECKLIST: null}));
        },
    }
}

/// The controller is not the approver's longer arm either.
pub fn deputy() -> Family {
    let one = says("may not patch the Deployment api in namespace");
    let many = says("may not patch Deployments in namespace");
    Family {
        name: "approval-deputy",
        attacks: rows! {
            "without patch", &[POWERLESS], CHANGES, &[AWAITING], approval(), one;
            "without patch", &[POWERLESS], &[MERGE.dry()], &[HALF], approval(), one;
            "several without patch", &[POWERLESS], &[MERGE, JSON], &[SEVERAL], approval(), many;
        },
        twins: twins! {
            "with patch", &[APPROVER], CHANGES, &[AWAITING, SEVERAL], approval();
            "a remark", &[POWERLESS], CHANGES, &[AWAITING, SEVERAL], remark();
        },
    }
}
