//! Who may ask, for what, and how urgently.

use serde_json::{Value, json};

use crate::attack::{APPLY, Expect, Family, POST, Row, Thing};
use crate::people::{
    ADMIN, ASKER, BOTH, EXPEDITER, GITOPS, NARROW, OVERLORD, OWNER, RECEIVER, REQUESTER, ROBOT,
};

const POLICY: &str = "rollback-guard-create";
const NEW: &[Thing] = &[Thing::NewRequest];

fn targets(targets: Value) -> Value {
    let mut patch = json!({"spec": {}});
    patch["spec"]["targets"] = targets;
    patch
}

fn many() -> Value {
    targets(
        json!([{"name": "api", "to": {"previous": {}}}, {"name": "web", "to": {"previous": {}}}]),
    )
}

/// As many as there may be, with names as long as they may be.
fn two_hundred() -> Value {
    let target = |number: usize| json!({"name": format!("{number}-{}", "x".repeat(240)), "to": {"previous": {}}});
    targets((0..200).map(target).collect())
}

fn selected() -> Value {
    targets(
        json!([{"selector": {"matchLabels": {"app.kubernetes.io/name": "web"}}, "to": {"previous": {}}}]),
    )
}

fn prefixed() -> Value {
    targets(json!([{"namePrefix": "we", "to": {"previous": {}}}]))
}

/// The controller is nobody's longer arm.
pub fn patching() -> Family {
    let one = Expect::Guard(POLICY, "may not patch the Deployment api in namespace");
    let many_of_them = Expect::Guard(POLICY, "may not patch Deployments in namespace");
    Family {
        name: "asking",
        attacks: rows! {
            "without patch", &[ASKER], &[POST, APPLY, POST.dry()], NEW, json!({}), one;
            "without patch but dryRun", &[ASKER], &[POST], NEW, json!({"spec": {"dryRun": true}}), one;
            "without patch several", &[ASKER, NARROW], &[POST], NEW, many(), many_of_them;
            "without patch by selector", &[ASKER, NARROW], &[POST, APPLY], NEW, selected(), many_of_them;
            "without patch by prefix", &[ASKER, NARROW], &[POST], NEW, prefixed(), many_of_them;
            "of another Deployment", &[NARROW], &[POST, APPLY], NEW, json!({}), one;
            "in the name of somebody who may", &[ASKER], &[POST], NEW, json!({"spec": {"requestedBy": {"username": "rita@broxiva.example", "groups": ["system:masters"]}}}), one;
        },
        twins: twins! {
            "with patch", &[REQUESTER], &[POST, APPLY], NEW, json!({});
            "several", &[REQUESTER], &[POST], NEW, many();
            "two hundred", &[REQUESTER], &[POST], NEW, two_hundred();
            "by selector", &[REQUESTER], &[POST, APPLY], NEW, selected();
            "by prefix", &[REQUESTER], &[POST], NEW, prefixed();
            "of the one that one may patch", &[NARROW], &[POST, APPLY], NEW, only_web();
        },
    }
}

fn only_web() -> Value {
    targets(json!([{"name": "web", "to": {"previous": {}}}]))
}

/// An alert says what is bad.
pub fn triggering() -> Family {
    let open = Expect::Guard(POLICY, "an alert that comes late rolls nothing back");
    // More names than a message may hold: it is told without them.
    let two_hundred_open = Expect::Guard(POLICY, "must say in each target what is bad");
    let from = json!({"image": "registry.broxiva.example/api:v2"});
    let by_itself = Expect::Guard(
        POLICY,
        "spec.trigger is for requests that come by themselves",
    );
    let watch = Expect::Guard(POLICY, "the controller's own watch and nobody else");
    Family {
        name: "trigger",
        attacks: rows! {
            "without from", &[RECEIVER], &[POST, POST.dry()], NEW, json!({}), open;
            "several without from", &[RECEIVER], &[POST], NEW, many(), open;
            "by selector without from", &[RECEIVER], &[POST], NEW, selected(), open;
            "by prefix without from", &[RECEIVER], &[POST], NEW, prefixed(), open;
            "one of two without from", &[RECEIVER], &[POST], NEW, targets(json!([{"name": "api", "to": {"previous": {}}, "from": from}, {"name": "web", "to": {"previous": {}}}])), open;
            "two hundred without from", &[RECEIVER], &[POST], NEW, two_hundred(), two_hundred_open;
            "from that says nothing", &[RECEIVER], &[POST], NEW, targets(json!([{"name": "api", "to": {"previous": {}}, "from": {}}])), Expect::Schema("exactly one of templateDigest and image");
            "by itself, as a person", &[REQUESTER], &[POST, POST.dry()], NEW, triggered("alertmanager"), by_itself;
            "by itself, as the controller's watch", &[RECEIVER], &[POST, POST.dry()], NEW, triggered("controller"), watch;
            "from that is null", &[RECEIVER], &[POST], NEW, targets(json!([{"name": "api", "to": {"previous": {}}, "from": null}])), open;
        },
        twins: twins! {
            "with from", &[RECEIVER, REQUESTER], &[POST], NEW, targets(json!([{"name": "api", "to": {"previous": {}}, "from": from}]));
            "by itself, as the receiver", &[RECEIVER], &[POST], NEW, triggered("alertmanager");
            "by hand without from", &[REQUESTER], &[POST], NEW, many();
        },
    }
}

fn triggered(source: &str) -> Value {
    let mut request = targets(
        json!([{"name": "api", "to": {"previous": {}}, "from": {"image": "registry.broxiva.example/api:v2"}}]),
    );
    request["spec"]["trigger"] =
        json!({"source": source, "alert": "Down", "id": "1", "startedAt": "2026-11-28T10:00:00Z"});
    request
}

fn urgent(category: &str, urgency: &str) -> Value {
    json!({"spec": {"reason": {"category": category}, "urgency": urgency}})
}

fn alert(urgency: &str) -> Value {
    json!({"spec": {
        "targets": [{"name": "api", "to": {"previous": {}}, "from": {"image": "registry.broxiva.example/api:v2"}}],
        "urgency": urgency,
    }})
}

/// An urgency is a claim.
pub fn urgency() -> Family {
    let above = Expect::Guard(POLICY, "may not expedite in namespace");
    let pairs = [
        ("ErrorRate critical", "ErrorRate", "Critical"),
        ("ErrorRate immediate", "ErrorRate", "Immediate"),
        ("Latency critical", "Latency", "Critical"),
        ("Latency immediate", "Latency", "Immediate"),
        ("BusinessLogic high", "BusinessLogic", "High"),
        ("BusinessLogic critical", "BusinessLogic", "Critical"),
        ("Security immediate", "Security", "Immediate"),
        ("Feature medium", "Feature", "Medium"),
        ("Feature immediate", "Feature", "Immediate"),
    ];
    let mut attacks: Vec<Row> = pairs
        .iter()
        .map(|(title, category, urgency)| {
            line!(
                title,
                &[REQUESTER],
                &[POST],
                NEW,
                urgent(category, urgency),
                above,
            )
        })
        .collect();
    attacks.extend(rows! {
        "expedited", &[GITOPS, ROBOT, BOTH], &[POST, APPLY], NEW, urgent("ErrorRate", "Critical"), above;
        "expedited alert", &[RECEIVER], &[POST], NEW, alert("Immediate"), above;
        "no such urgency", &[REQUESTER], &[POST], NEW, urgent("ErrorRate", "Yesterday"), Expect::Schema("urgency");
    });
    Family {
        name: "urgency",
        attacks,
        twins: twins! {
            "with the verb", &[EXPEDITER, OVERLORD, OWNER, ADMIN], &[POST, APPLY], NEW, urgent("ErrorRate", "Immediate");
            "as usual", &[REQUESTER, GITOPS, ROBOT, BOTH], &[POST, APPLY], NEW, urgent("ErrorRate", "High");
            "an alert as usual", &[RECEIVER], &[POST], NEW, alert("High");
            "less than usual", &[REQUESTER], &[POST], NEW, urgent("HealthCheck", "Low");
        },
    }
}
