//! Asking, and the tools that people ask and approve with.

use rollback_api::{APPROVED_BY, CHECKLIST, CONFIRM, PLAN, RequestState};
use serde_json::{Value, json};
use testkit::User;
use testkit::scene::PRODUCTION;

use super::engine::{Flow, Step, approves, asked, asked_for, flow, of, of_and};
use crate::attack::{APPLY, MERGE, Thing};
use crate::people::{
    ADMIN, APPROVER, EXPEDITER, GITOPS, NARROW, OWNER, Person, RECEIVER, REQUESTER, ROBOT,
};
use crate::stage::whole_approval;

/// With two approvals.
pub fn flows() -> Vec<Flow> {
    [with_kubectl(), asking(), from_git()].concat()
}

const ANNOTATE: &[&str] = &[
    "annotate",
    "rbr",
    "$NAME",
    "-n",
    "$NS",
    "--overwrite",
    "rollback.broxiva.com/approved-by=$ME",
    "rollback.broxiva.com/confirm=ROLLBACK PRODUCTION",
    "rollback.broxiva.com/plan=$DIGEST",
    "rollback.broxiva.com/checklist=incident-documented,stakeholders-notified",
];

fn with_kubectl() -> Vec<Flow> {
    let input = json!({
        "apiVersion": "rollback.broxiva.com/v1alpha1", "kind": "RollbackRequest",
        "metadata": {"name": "$NAME", "annotations": {
            APPROVED_BY: "$ME", CONFIRM: PRODUCTION, PLAN: "$DIGEST", CHECKLIST: testkit::scene::TICKED,
        }},
    });
    let file = json!({
        "apiVersion": "rollback.broxiva.com/v1alpha1", "kind": "RollbackRequest",
        "metadata": {"name": "$NAME"},
        "spec": {
            "targets": [{"name": "api", "to": {"previous": {}}}],
            "reason": {"category": "ErrorRate", "summary": "5xx above 1 % since 14:02"},
        },
    });
    let apply = &["apply", "-n", "$NS", "-f", "-"];
    let server_side = &["apply", "--server-side", "-n", "$NS", "-f", "-"];
    let kubectl = |who, arguments, input| Step::Kubectl(who, arguments, input);
    let counted = |step| vec![Step::Planned, step, Step::Counted(1)];
    let again = |name, arguments: &'static [&'static str]| {
        flow(
            name,
            vec![
                kubectl(User::Requester, arguments, file.clone()),
                Step::Planned,
                Step::Does(APPROVER, MERGE, whole_approval()),
                Step::Counted(1),
                kubectl(User::Requester, arguments, file.clone()),
                Step::Counted(1),
                Step::Holds(
                    Thing::Called(name),
                    "/spec/requestedBy/username",
                    json!("rita@broxiva.example"),
                ),
                Step::Holds(
                    Thing::Called(name),
                    "/status/approvals/0/by/username",
                    json!("anna@broxiva.example"),
                ),
            ],
        )
    };
    vec![
        asked(
            "kubectl-annotate",
            counted(kubectl(User::Approver, ANNOTATE, Value::Null)),
        ),
        asked(
            "kubectl-server-side",
            counted(kubectl(User::Approver, server_side, input)),
        ),
        asked(
            "kubectl-edit",
            counted(Step::Edits(
                User::Approver,
                "s|^metadata:|metadata:\\n  annotations:\\n    rollback.broxiva.com/approved-by: $ME\\n    rollback.broxiva.com/confirm: ROLLBACK PRODUCTION\\n    rollback.broxiva.com/plan: $DIGEST\\n    rollback.broxiva.com/checklist: incident-documented,stakeholders-notified\\n    rollback.broxiva.com/approver-groups: broxiva:leads|",
            )),
        ),
        again("kubectl-apply-twice", apply),
        again("kubectl-apply-twice-server-side", server_side),
    ]
}

fn asking() -> Vec<Flow> {
    let planned = |name, who, spec| asked_for(name, who, spec, vec![Step::Planned]);
    let from = json!({"targets": [{"name": "api", "to": {"previous": {}}, "from": {"image": "registry.broxiva.example/api:v2"}}]});
    let selected = json!({"targets": [{
        "selector": {"matchLabels": {"app.kubernetes.io/name": "web"}},
        "to": {"previous": {}}, "from": {"image": "registry.broxiva.example/web:v2"},
    }]});
    let of_api = |more: Value| of_and("api", &more);
    vec![
        planned("by-robot", ROBOT, json!({})),
        planned("by-owner", OWNER, json!({})),
        planned("by-admin", ADMIN, json!({})),
        planned("only-web", NARROW, of("web")),
        planned("an-alert", RECEIVER, from),
        planned("an-alert-by-selector", RECEIVER, selected),
        planned(
            "at-once",
            EXPEDITER,
            of_api(json!({"urgency": "Immediate"})),
        ),
        planned(
            "as-urgent-as-usual",
            REQUESTER,
            of_api(json!({"urgency": "High"})),
        ),
        planned("whenever", REQUESTER, of_api(json!({"urgency": "Low"}))),
        asked_for(
            "only-looking",
            REQUESTER,
            of_api(json!({"dryRun": true})),
            vec![Step::Ends(RequestState::Succeeded)],
        ),
        asked(
            "with-a-remark",
            vec![
                Step::Planned,
                Step::Does(
                    REQUESTER,
                    MERGE,
                    json!({"metadata": {"labels": {"team": "shop"}, "annotations": {"example.com/remark": "Hm."}}}),
                ),
                Step::Does(
                    GITOPS,
                    APPLY,
                    json!({"metadata": {"labels": {"git": "yes"}}}),
                ),
                Step::Does(APPROVER, MERGE, whole_approval()),
                Step::Counted(1),
            ],
        ),
    ]
}

fn from_git() -> Vec<Flow> {
    let again = |name, then: Person, by: &str| {
        let requested_by =
            Step::Holds(Thing::Called(name), "/spec/requestedBy/username", json!(by));
        let mut steps = vec![Step::Asks(GITOPS, APPLY, of("api"))];
        steps.extend(approves(APPROVER, MERGE, whole_approval()));
        steps.extend([
            Step::Asks(then, APPLY, of("api")),
            Step::Counted(1),
            requested_by,
        ]);
        flow(name, steps)
    };
    vec![
        again("git-again", GITOPS, "gitops-sync"),
        again("git-and-a-person", REQUESTER, "gitops-sync"),
        again("git-and-an-admin", ADMIN, "gitops-sync"),
    ]
}
