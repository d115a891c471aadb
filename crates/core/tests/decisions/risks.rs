//! What else may go wrong: autoscalers, budgets, quotas, schemas, tags that move.

use proptest::prelude::*;
use rollback_api::policy::UnknownSchema;
use rollback_api::status::{Risk, RiskKind};
use rollback_core::history::template::Template;
use rollback_core::observed::{Deployment, Fetched};
use rollback_core::plan::data_risk;
use rollback_core::plan::risks::{autoscaler, budgets, mutable_tag, quantity, quotas};
use serde_json::{Value, json};

fn deployment() -> Value {
    json!({
        "metadata": {"name": "api", "namespace": "shop"},
        "spec": {
            "replicas": 4,
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": "25%"}},
            "template": template(),
        },
        "status": {"replicas": 4},
    })
}

/// Asks for half a processor, 64Mi and 128Mi at most.
fn template() -> Value {
    json!({
        "metadata": {"labels": {"app": "api", "tier": "web"}},
        "spec": {"containers": [{"name": "api", "image": "a:v1", "resources": {
            "requests": {"cpu": "500m", "memory": "64Mi"}, "limits": {"memory": "128Mi"}}}]},
    })
}

fn message(risk: Option<Risk>, kind: RiskKind) -> String {
    risk.map_or_else(String::new, |risk| {
        assert_eq!(risk.kind, kind);
        risk.message
    })
}

fn scaler(target: Value) -> Value {
    let mut scaler = json!({"metadata": {"name": "hpa", "namespace": "shop"}, "spec": {"minReplicas": 2, "maxReplicas": 10}});
    scaler["spec"]["scaleTargetRef"] = target;
    scaler
}

#[test]
fn autoscalers_of_this_deployment() {
    let ours = json!({"apiVersion": "apps/v1", "kind": "Deployment", "name": "api"});
    let mut elsewhere = scaler(ours.clone());
    elsewhere["metadata"]["namespace"] = json!("test");
    let mut unbounded = scaler(ours.clone());
    unbounded["spec"]
        .as_object_mut()
        .unwrap()
        .remove("minReplicas");
    let cases = [
        (scaler(ours), "hpa (2 to 10 replicas)"),
        (unbounded, "hpa (1 to 10 replicas)"),
        (scaler(json!({"kind": "Deployment", "name": "api"})), "hpa"),
        (
            scaler(
                json!({"apiVersion": "extensions/v1beta1", "kind": "Deployment", "name": "api"}),
            ),
            "hpa",
        ),
        (
            scaler(json!({"apiVersion": "apps/v1", "kind": "StatefulSet", "name": "api"})),
            "",
        ),
        (
            scaler(json!({"apiVersion": "argoproj.io/v1", "kind": "Deployment", "name": "api"})),
            "",
        ),
        (
            scaler(json!({"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"})),
            "",
        ),
        (elsewhere, ""),
        (json!(null), ""),
    ];
    for (object, says) in cases {
        let seen = Fetched::Found(vec![object]);
        let message = message(
            autoscaler(&Deployment(deployment()), &seen),
            RiskKind::Autoscaler,
        );
        assert_eq!(message.is_empty(), says.is_empty(), "{seen:?}");
        assert!(message.contains(says), "{message}");
    }
    for seen in [
        Fetched::Unknown,
        Fetched::Absent,
        Fetched::Found(Vec::new()),
    ] {
        assert_eq!(autoscaler(&Deployment(deployment()), &seen), None);
    }
}

#[test]
fn budgets_by_their_selectors() {
    let expression = |key: &str, operator: &str, values: Value| json!({"matchExpressions": [{"key": key, "operator": operator, "values": values}]});
    let cases = [
        (json!({"matchLabels": {"app": "api"}}), 0, true),
        (json!({"matchLabels": {"app": "api"}}), 1, false),
        (
            json!({"matchLabels": {"app": "api", "tier": "web"}}),
            0,
            true,
        ),
        (
            json!({"matchLabels": {"app": "api", "tier": "db"}}),
            0,
            false,
        ),
        (json!({"matchLabels": {"other": "api"}}), 0, false),
        (json!({}), 0, true),
        (json!(null), 0, false),
        (expression("app", "In", json!(["web", "api"])), 0, true),
        (expression("app", "In", json!(["web"])), 0, false),
        (expression("nope", "In", json!(["web"])), 0, false),
        (expression("app", "NotIn", json!(["web"])), 0, true),
        (expression("app", "NotIn", json!(["api"])), 0, false),
        (expression("nope", "NotIn", json!(["api"])), 0, true),
        (expression("app", "Exists", json!(null)), 0, true),
        (expression("nope", "Exists", json!([])), 0, false),
        (expression("nope", "DoesNotExist", json!([])), 0, true),
        (expression("app", "DoesNotExist", json!([])), 0, false),
        (expression("app", "Resembles", json!(["api"])), 0, false),
        (
            json!({"matchLabels": {"app": "api"}, "matchExpressions": [{"key": "tier", "operator": "In", "values": ["db"]}]}),
            0,
            false,
        ),
        (json!({"matchLabels": ["app"]}), 0, false),
    ];
    for (selector, allowed, matches) in cases {
        let budget = json!({"metadata": {"name": "pdb"}, "spec": {"selector": selector}, "status": {"disruptionsAllowed": allowed}});
        let risk = budgets(&Deployment(deployment()), &Fetched::Found(vec![budget]));
        let message = message(risk, RiskKind::DisruptionBudget);
        assert_eq!(!message.is_empty(), matches, "{selector}");
        assert!(
            !matches || message.starts_with("PodDisruptionBudget pdb allows no"),
            "{message}"
        );
    }
    let unknown = json!({"metadata": {"name": "pdb"}, "spec": {"selector": {}}});
    assert_eq!(
        budgets(&Deployment(deployment()), &Fetched::Found(vec![unknown])),
        None
    );
    assert_eq!(budgets(&Deployment(deployment()), &Fetched::Unknown), None);
}

#[test]
fn quantities_are_exact() {
    let nano = 1_000_000_000_i128;
    let cases = [
        ("0", Some(0)),
        ("1", Some(nano)),
        ("-1", Some(-nano)),
        ("+2", Some(2 * nano)),
        ("500m", Some(nano / 2)),
        ("0.5", Some(nano / 2)),
        (".5", Some(nano / 2)),
        ("5.", Some(5 * nano)),
        ("100n", Some(100)),
        ("1u", Some(1000)),
        ("0.1n", Some(1)),
        ("-0.1n", Some(-1)),
        ("1k", Some(1000 * nano)),
        ("1Ki", Some(1024 * nano)),
        ("1.5Gi", Some(1536 * 1024 * 1024 * nano)),
        ("1e3", Some(1000 * nano)),
        ("1E3", Some(1000 * nano)),
        ("1E", Some(1_000_000_000_000_000_000 * nano)),
        ("1e-3", Some(nano / 1000)),
        ("5Ei", Some(5 * 1024_i128.pow(6) * nano)),
        ("", None),
        (".", None),
        ("m", None),
        ("1.2.3", None),
        ("1K", None),
        ("1mi", None),
        ("1 Gi", None),
        ("--1", None),
        ("1e", None),
        ("1e999", None),
        ("1e2147483648", None),
        ("1e-2147483648", None),
        ("99999999999999999999999999999999999999999999", None),
        ("99999999999999999999Ei", None),
        ("1ä", None),
    ];
    for (text, expected) in cases {
        assert_eq!(quantity::parse(text), expected, "{text}");
    }
    assert_eq!(quantity::of(&json!(2)), Some(2 * nano));
    assert_eq!(quantity::of(&json!(0.5)), Some(nano / 2));
    assert_eq!(quantity::of(&json!([])), None);
    for (text, bytes, shown) in [
        ("1500m", false, "1500m"),
        ("2", false, "2"),
        ("1Gi", true, "1Gi"),
        ("1536Mi", true, "1536Mi"),
        ("1000", true, "1000"),
        ("0", true, "0"),
        ("7n", false, "7n"),
    ] {
        assert_eq!(
            quantity::human(quantity::parse(text).unwrap(), bytes),
            shown
        );
    }
}

fn quota(resource: &str, hard: &str, used: &str) -> Value {
    json!({"metadata": {"name": "team", "namespace": "shop"}, "spec": {}, "status": {"hard": {resource: hard}, "used": {resource: used}}})
}

fn room(deployment: &Value, to: &Value, quota: Value) -> String {
    let risk = quotas(
        &Deployment(deployment.clone()),
        &Template::of(to),
        &Fetched::Found(vec![quota]),
    );
    message(risk, RiskKind::Quota)
}

#[test]
fn quotas_with_too_little_room_for_one_more_pod() {
    let cases = [
        (quota("pods", "5", "4"), ""),
        (
            quota("pods", "4", "4"),
            "team: pods 4 of 4 are used and 1 more are needed",
        ),
        (quota("count/pods", "4", "4"), "count/pods"),
        (quota("requests.cpu", "2500m", "2"), ""),
        (
            quota("requests.cpu", "2.4", "2"),
            "requests.cpu 2 of 2400m are used and 500m more are needed",
        ),
        (quota("cpu", "2", "2"), "cpu 2 of 2"),
        (quota("requests.memory", "320Mi", "256Mi"), ""),
        (
            quota("memory", "319Mi", "256Mi"),
            "memory 256Mi of 319Mi are used and 64Mi more are needed",
        ),
        (quota("limits.memory", "600Mi", "512Mi"), "128Mi more"),
        (quota("limits.cpu", "0", "0"), ""),
        (quota("requests.storage", "0", "0"), ""),
        (quota("count/secrets", "0", "0"), ""),
        (quota("pods", "a lot", "4"), ""),
        (json!({"status": {"hard": {"pods": "4"}}}), ""),
        (json!(7), ""),
    ];
    for (quota, says) in cases {
        let told = room(&deployment(), &template(), quota.clone());
        assert_eq!(told.is_empty(), says.is_empty(), "{quota} {told}");
        assert!(told.contains(says), "{told}");
    }
}

#[test]
fn how_many_more_pods_a_rolling_update_has() {
    let with = |replicas: i64, running: i64, surge: Value, kind: &str| {
        let mut deployment = deployment();
        deployment["spec"]["replicas"] = json!(replicas);
        deployment["spec"]["strategy"] =
            json!({"type": kind, "rollingUpdate": {"maxSurge": surge}});
        deployment["status"]["replicas"] = json!(running);
        deployment
    };
    let rolling = "RollingUpdate";
    let cases = [
        (with(4, 4, json!("25%"), rolling), 1),
        (with(5, 5, json!("25%"), rolling), 2),
        (with(4, 4, json!(3), rolling), 3),
        (with(4, 4, json!(0), rolling), 0),
        (with(4, 4, json!("0%"), rolling), 0),
        (with(4, 4, json!(null), rolling), 1),
        (with(4, 4, json!("100%"), ""), 4),
        (with(4, 4, json!("many"), rolling), 0),
        // Stuck with its surge: it trades pods one for one.
        (with(4, 5, json!("25%"), rolling), 0),
        (with(4, 2, json!("25%"), rolling), 3),
        (with(0, 0, json!("100%"), rolling), 0),
        (with(4, 4, json!("100%"), "Recreate"), 0),
    ];
    for (deployment, more) in cases {
        let told = room(&deployment, &template(), quota("pods", "4", "4"));
        assert_eq!(!told.is_empty(), more > 0, "{deployment}");
        assert!(
            more == 0 || told.contains(&format!(" {more} more pods")),
            "{told}"
        );
    }
    let endless = with(i64::MAX, i64::MIN, json!(i64::MAX), rolling);
    assert!(!room(&endless, &template(), quota("pods", "4", "4")).is_empty());
}

#[test]
fn what_one_pod_counts() {
    let cases = [
        // Init containers run before the others, so the larger of the two counts.
        (
            json!({"initContainers": [{"resources": {"requests": {"cpu": "3"}}}], "containers": [{"resources": {"requests": {"cpu": "1"}}}]}),
            "3",
        ),
        // A sidecar runs beside them.
        (
            json!({"initContainers": [{"restartPolicy": "Always", "resources": {"requests": {"cpu": "3"}}}], "containers": [{"resources": {"requests": {"cpu": "1"}}}]}),
            "4",
        ),
        (
            json!({"initContainers": [
            {"restartPolicy": "Always", "resources": {"requests": {"cpu": "1"}}},
            {"resources": {"requests": {"cpu": "5"}}}], "containers": []}),
            "6",
        ),
        (
            json!({"containers": [{"resources": {"limits": {"cpu": "2"}}}], "overhead": {"cpu": "500m"}}),
            "2500m",
        ),
        (
            json!({"containers": [{"resources": {"requests": {"cpu": "2"}}}], "resources": {"requests": {"cpu": "1"}}}),
            "1",
        ),
    ];
    for (spec, needed) in cases {
        let told = room(
            &deployment(),
            &json!({"spec": spec}),
            quota("cpu", "0", "0"),
        );
        assert!(
            told.contains(&format!("and {needed} more are needed")),
            "{told}"
        );
    }
    for spec in [
        json!({"containers": [{"resources": {"requests": {"cpu": "lots"}}}]}),
        json!({"containers": [{"name": "x"}]}),
        json!(null),
    ] {
        assert_eq!(
            room(
                &deployment(),
                &json!({"spec": spec}),
                quota("cpu", "0", "0")
            ),
            ""
        );
    }
}

#[test]
fn scopes_of_quotas() {
    let scoped = |scopes: Value, selector: Value| {
        let mut quota = quota("pods", "4", "4");
        quota["spec"] = json!({"scopes": scopes, "scopeSelector": selector});
        quota
    };
    let cases = [
        (scoped(json!([]), json!(null)), true),
        (scoped(json!(["NotTerminating"]), json!(null)), true),
        (scoped(json!(["Terminating"]), json!(null)), false),
        (scoped(json!(["NotBestEffort"]), json!(null)), true),
        (scoped(json!(["BestEffort"]), json!(null)), false),
        (
            scoped(json!(["CrossNamespacePodAffinity"]), json!(null)),
            false,
        ),
        (
            scoped(
                json!(null),
                json!({"matchExpressions": [{"scopeName": "PriorityClass"}]}),
            ),
            false,
        ),
        (scoped(json!("x"), json!(null)), true),
    ];
    for (quota, counts) in cases {
        let told = room(&deployment(), &template(), quota.clone());
        assert_eq!(!told.is_empty(), counts, "{quota}");
    }
}

fn with_schema(version: &str, tolerates: &str, irreversible: &str) -> Template {
    let mut annotations = serde_json::Map::new();
    for (key, value) in [
        ("schema-version", version),
        ("compatible-schema-versions", tolerates),
        ("irreversible-migration", irreversible),
    ] {
        if !value.is_empty() {
            annotations.insert(format!("rollback.broxiva.com/{key}"), json!(value));
        }
    }
    Template::of(&json!({"metadata": {"annotations": annotations}}))
}

#[test]
fn schemas_of_the_data() {
    let cases = [
        (("", "", ""), ("", "", ""), ""),
        (("7", "", ""), ("7", "", ""), ""),
        (("7", "", ""), ("6", "6, 7", ""), ""),
        (("7", "", ""), ("6", "6 7", ""), ""),
        (
            ("7", "", ""),
            ("6", "5,6", ""),
            "schema 6 and copes with 5, 6. It may not work",
        ),
        (
            ("7", "", ""),
            ("6", "", ""),
            "brings schema 7; the old version brings schema 6. It may not",
        ),
        (("7", "", ""), ("", "", ""), "is not known"),
        (("", "", ""), ("6", "", ""), "is not known"),
        (("", "", ""), ("", "6", ""), "is not known"),
        (("", "6", ""), ("", "", ""), ""),
        (("7", "", "true"), ("6", "", ""), "marked irreversible"),
        (("7", "", "yes"), ("6", "", ""), "marked irreversible"),
        (("7", "", "false"), ("6", "", ""), "It may not work"),
        (("7", "", "true"), ("6", "7", ""), ""),
        (("7", "", "true"), ("7", "", ""), ""),
        (("", "", "true"), ("", "", ""), "marked irreversible"),
        (("7", "", ""), ("6", "70", "true"), "It may not work"),
        ((" 7 ", "", ""), ("7", "", ""), ""),
    ];
    for (from, to, says) in cases {
        let told = message(
            data_risk::assess(
                &with_schema(from.0, from.1, from.2),
                &with_schema(to.0, to.1, to.2),
                UnknownSchema::Allow,
            ),
            RiskKind::DataSchema,
        );
        assert_eq!(told.is_empty(), says.is_empty(), "{from:?} {to:?} {told}");
        assert!(told.contains(says), "{told}");
    }
}

#[test]
fn case_24_an_image_that_may_have_moved() {
    let of = |image: &str, proxy: &str, value: &str| {
        Template::of(&json!({
            "metadata": {"annotations": {"kubectl.kubernetes.io/restartedAt": image}},
            "spec": {"containers": [
                {"name": "api", "image": image, "env": [{"name": "A", "value": value}]},
                {"name": "proxy", "image": proxy},
            ]},
        }))
    };
    let pinned = "p@sha256:ab";
    let cases = [
        // Nothing but the environment changes: the image, if it is bad, stays.
        (
            of("a:v1", pinned, "1"),
            of("a:v1", pinned, "2"),
            "container api a:v1.",
        ),
        (
            of("a:v1", "p:1", "1"),
            of("a:v1", "p:1", "2"),
            "container api a:v1, container proxy p:1.",
        ),
        // A sidecar that stays is no news.
        (of("a:v2", "p:1", "1"), of("a:v1", "p:1", "1"), ""),
        (
            of("a:v2", "p", "1"),
            of("a:v1", "p:latest", "1"),
            "container proxy p.",
        ),
        (
            of("a:latest", "p:2", "1"),
            of("docker.io/library/a", "p:1", "1"),
            "container api a:latest.",
        ),
        (
            of("a@sha256:cd", pinned, "1"),
            of("a@sha256:cd", pinned, "2"),
            "",
        ),
        (of("a:v1", "p:1", "1"), of("a:v1", "p:1", "1"), ""),
    ];
    for (from, to, says) in cases {
        let told = message(mutable_tag(&from, &to), RiskKind::MutableTag);
        assert_eq!(told.is_empty(), says.is_empty(), "{told}");
        assert!(told.contains(says), "{told}");
    }
    let image = |at: &str| {
        Template::of(&json!({
            "metadata": {"annotations": {"kubectl.kubernetes.io/restartedAt": at}},
            "spec": {"containers": [{"name": "api", "image": "a"}]},
        }))
    };
    assert_eq!(
        mutable_tag(&image("1"), &image("2")),
        None,
        "a restart is no other version"
    );
}

proptest! {
    #![proptest_config(crate::hostile::config(256, "tests/risks.regressions"))]

    #[test]
    fn anything_is_judged(
        deployment in crate::hostile::spoiled(deployment()),
        from in crate::hostile::spoiled(template()),
        to in crate::hostile::spoiled(template()),
        scaler in crate::hostile::spoiled(scaler(json!({"kind": "Deployment", "name": "api"}))),
        budget in crate::hostile::spoiled(json!({"metadata": {"name": "x"}, "status": {"disruptionsAllowed": 0}, "spec": {"selector": {
            "matchLabels": {"app": "api"}, "matchExpressions": [{"key": "app", "operator": "In", "values": ["api"]}]}}})),
        quota in crate::hostile::spoiled(quota("requests.cpu", "1", "1")),
    ) {
        let deployment = Deployment(deployment);
        let (from, to) = (Template::of(&from), Template::of(&to));
        let found = [
            autoscaler(&deployment, &Fetched::Found(vec![scaler])),
            budgets(&deployment, &Fetched::Found(vec![budget])),
            quotas(&deployment, &to, &Fetched::Found(vec![quota])),
            data_risk::assess(&from, &to, UnknownSchema::Block),
            mutable_tag(&from, &to),
        ];
        for risk in found.iter().flatten() {
            prop_assert!(risk.message.chars().count() <= 1000);
            prop_assert!(!risk.message.chars().any(char::is_control));
        }
    }

    #[test]
    fn any_text_is_a_quantity_or_none(text in "[-+0-9.eEinumkMGTPi]{0,45}") {
        let _ = quantity::parse(&text);
    }
}

/// What cannot fit into the time is told before anybody approves.
#[test]
fn e1_what_cannot_fit_into_the_time_is_a_risk() {
    use rollback_core::plan::risks::deadline;
    let told = |min_ready: i64, delay: i64, timeout: i32| {
        let mut live = crate::world::deployment("v2");
        live["spec"]["minReadySeconds"] = json!(min_ready);
        let mut template = crate::world::template("v1");
        template["spec"]["containers"][0]["readinessProbe"] = json!({"initialDelaySeconds": delay});
        deadline(&Deployment(live), &Template::of(&template), timeout).map(|risk| risk.message)
    };
    assert_eq!(told(0, 0, 20), None);
    assert_eq!(told(10, 9, 20), None);
    let message = told(30, 5, 20).unwrap();
    assert!(
        message.contains("at least 35 seconds") && message.contains("none has come up for 20"),
        "{message}"
    );
    assert!(told(0, 20, 20).is_some());
}
