//! Asking, approving, taking back, denying, cancelling, deleting.

use rollback_api::{
    APPROVED_BY, BREAK_GLASS, CANCELLED_BY, CHECKLIST, CONFIRM, DENIED_BY, DENIED_REASON, PLAN,
    RequestState, WITHDRAWN_BY,
};
use serde_json::{Value, json};
use testkit::scene::PRODUCTION;

use super::engine::{Flow, Step, approves, asked, asked_for, of};
use crate::attack::{APPLY, DELETE, How, JSON, MERGE, PUT, Thing};
use crate::people::{
    ADMIN, APPROVER, BOTH, BREAKER, GITOPS, LIMITED, ODD, OWNER, REQUESTER, ROBOT, SECOND,
};
use crate::stage::whole_approval;

fn notes(annotations: Value) -> Value {
    let mut patch = json!({"metadata": {}});
    patch["metadata"]["annotations"] = annotations;
    patch
}

fn stripped() -> Value {
    notes(json!({APPROVED_BY: null, CONFIRM: null, PLAN: null, CHECKLIST: null, BREAK_GLASS: null}))
}

fn taken_back() -> Value {
    notes(
        json!({APPROVED_BY: null, CONFIRM: null, PLAN: null, CHECKLIST: null, WITHDRAWN_BY: "$ME"}),
    )
}

fn no() -> Value {
    notes(json!({DENIED_BY: "$ME", DENIED_REASON: "Fix it forward."}))
}

fn never_mind() -> Value {
    notes(json!({CANCELLED_BY: "$ME"}))
}

fn counted_and(then: Vec<Step>) -> Vec<Step> {
    let mut steps = approves(APPROVER, MERGE, whole_approval());
    steps.extend(then);
    steps
}

/// With two approvals.
pub fn flows() -> Vec<Flow> {
    [approving(), together(), ending()].concat()
}

fn approving() -> Vec<Flow> {
    let by = |name, who, how: How| asked(name, approves(who, how, whole_approval()));
    vec![
        by("merge-patch", APPROVER, MERGE),
        by("json-patch", APPROVER, JSON),
        by("replaced", APPROVER, PUT),
        by("applied", APPROVER, APPLY),
        by("odd-name", ODD, MERGE),
        by("odd-name-applied", ODD, APPLY),
        by("owner-approves", OWNER, MERGE),
        by("admin-approves", ADMIN, JSON),
        by("limited", LIMITED, MERGE),
        asked_for(
            "of-the-approver",
            BOTH,
            json!({}),
            approves(APPROVER, MERGE, whole_approval()),
        ),
    ]
}

fn together() -> Vec<Flow> {
    let rolled_back = |step| vec![step, Step::Ends(RequestState::Succeeded)];
    let again = notes(json!({
        APPROVED_BY: "$ME", CONFIRM: PRODUCTION, PLAN: "$DIGEST", CHECKLIST: testkit::scene::TICKED, WITHDRAWN_BY: null,
    }));
    vec![
        asked_for(
            "in-turn",
            REQUESTER,
            of("in-turn"),
            counted_and(rolled_back(Step::Does(SECOND, MERGE, whole_approval()))),
        ),
        asked_for(
            "stripped",
            REQUESTER,
            of("stripped"),
            counted_and(vec![
                Step::Does(GITOPS, PUT, stripped()),
                Step::Counted(1),
                Step::Does(SECOND, APPLY, whole_approval()),
                Step::Ends(RequestState::Succeeded),
            ]),
        ),
        asked(
            "twice-is-once",
            counted_and(vec![
                Step::Does(APPROVER, MERGE, stripped()),
                Step::Does(APPROVER, JSON, whole_approval()),
                Step::Counted(1),
            ]),
        ),
        asked(
            "taken-back",
            counted_and(vec![
                Step::Does(APPROVER, MERGE, taken_back()),
                Step::Counted(0),
            ]),
        ),
        asked(
            "taken-back-after-another",
            vec![
                Step::Planned,
                Step::Does(SECOND, MERGE, whole_approval()),
                Step::Counted(1),
                Step::Does(GITOPS, JSON, stripped()),
                Step::Does(SECOND, PUT, notes(json!({WITHDRAWN_BY: "$ME"}))),
                Step::Counted(0),
            ],
        ),
        asked(
            "given-again",
            counted_and(vec![
                Step::Does(APPROVER, JSON, taken_back()),
                Step::Counted(0),
                Step::Does(APPROVER, MERGE, again),
                Step::Counted(1),
            ]),
        ),
        asked(
            "tidied-up",
            counted_and(vec![
                Step::Does(APPROVER, MERGE, taken_back()),
                Step::Counted(0),
                Step::Does(REQUESTER, MERGE, notes(json!({WITHDRAWN_BY: null}))),
                Step::Does(SECOND, MERGE, whole_approval()),
                Step::Counted(1),
            ]),
        ),
        asked_for(
            "taken-over",
            REQUESTER,
            of("taken-over"),
            counted_and(vec![
                Step::Does(APPROVER, MERGE, taken_back()),
                Step::Counted(0),
                Step::Does(SECOND, MERGE, whole_approval()),
                Step::Counted(1),
                Step::Does(BOTH, MERGE, whole_approval()),
                Step::Ends(RequestState::Succeeded),
            ]),
        ),
    ]
}

fn ending() -> Vec<Flow> {
    let gone = |name, who| {
        asked(
            name,
            vec![
                Step::Planned,
                Step::Does(who, DELETE, json!({})),
                Step::Gone(Thing::Called(name)),
            ],
        )
    };
    let ended = |name, who, how, what, state| {
        asked(
            name,
            vec![Step::Planned, Step::Does(who, how, what), Step::Ends(state)],
        )
    };
    vec![
        ended("denied", APPROVER, MERGE, no(), RequestState::Denied),
        ended("denied-applied", SECOND, APPLY, no(), RequestState::Denied),
        asked(
            "denied-in-between",
            counted_and(vec![
                Step::Does(SECOND, JSON, no()),
                Step::Ends(RequestState::Denied),
            ]),
        ),
        asked(
            "stripped-at-the-end",
            vec![
                Step::Planned,
                Step::Does(APPROVER, MERGE, no()),
                Step::Ends(RequestState::Denied),
                Step::Does(
                    GITOPS,
                    MERGE,
                    notes(json!({DENIED_BY: null, DENIED_REASON: null})),
                ),
            ],
        ),
        ended(
            "cancelled",
            REQUESTER,
            MERGE,
            never_mind(),
            RequestState::Cancelled,
        ),
        ended(
            "cancelled-by-approver",
            APPROVER,
            PUT,
            never_mind(),
            RequestState::Cancelled,
        ),
        asked(
            "cancelled-in-between",
            counted_and(vec![
                Step::Does(REQUESTER, JSON, never_mind()),
                Step::Ends(RequestState::Cancelled),
            ]),
        ),
        asked_for(
            "cancelled-by-robot",
            ROBOT,
            json!({}),
            vec![
                Step::Planned,
                Step::Does(ROBOT, MERGE, never_mind()),
                Step::Ends(RequestState::Cancelled),
            ],
        ),
        gone("deleted", REQUESTER),
        gone("deleted-by-git", GITOPS),
        asked(
            "deleted-at-the-end",
            vec![
                Step::Planned,
                Step::Does(REQUESTER, MERGE, never_mind()),
                Step::Ends(RequestState::Cancelled),
                Step::Does(REQUESTER, DELETE, json!({})),
                Step::Gone(Thing::Called("deleted-at-the-end")),
            ],
        ),
    ]
}

/// With the rules of staging.
pub fn staging() -> Vec<Flow> {
    let short = notes(json!({APPROVED_BY: "$ME", CONFIRM: "ROLLBACK", PLAN: "$DIGEST"}));
    let approved = |who, how| {
        vec![
            Step::Planned,
            Step::Does(who, how, short.clone()),
            Step::Ends(RequestState::Succeeded),
        ]
    };
    vec![
        asked_for("own", BOTH, of("own"), approved(BOTH, MERGE)),
        asked_for(
            "no-list",
            REQUESTER,
            of("no-list"),
            approved(APPROVER, APPLY),
        ),
    ]
}

/// Where one person may approve alone.
pub fn glass() -> Vec<Flow> {
    let alone = notes(json!({
        APPROVED_BY: "$ME", CONFIRM: PRODUCTION, PLAN: "$DIGEST", BREAK_GLASS: "Nobody else answers the phone.",
    }));
    vec![
        asked_for(
            "alone",
            BREAKER,
            of("alone"),
            vec![
                Step::Planned,
                Step::Does(BREAKER, MERGE, alone),
                Step::Ends(RequestState::Succeeded),
            ],
        ),
        asked_for(
            "in-the-usual-way",
            REQUESTER,
            json!({}),
            approves(APPROVER, MERGE, whole_approval()),
        ),
        asked_for("after-one", REQUESTER, of("after-one"), {
            let over = notes(json!({
                APPROVED_BY: "$ME", CONFIRM: PRODUCTION, PLAN: "$DIGEST", CHECKLIST: null,
                BREAK_GLASS: "The second approver is on a plane.",
            }));
            counted_and(vec![
                Step::Does(OWNER, MERGE, over),
                Step::Ends(RequestState::Succeeded),
            ])
        }),
    ]
}
