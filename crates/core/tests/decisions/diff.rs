//! What differs between two templates: told, bounded, and never with a secret in it.

use proptest::prelude::*;
use rollback_core::history::diff::changes;
use rollback_core::history::template::Template;
use serde_json::{Value, json};

fn told(from: &Value, to: &Value) -> Vec<String> {
    changes(&Template::of(from), &Template::of(to))
}

/// A template of one container with these fields besides name and image.
fn container(fields: &Value) -> Value {
    let mut container = json!({"name": "api", "image": "a:v1"});
    for (name, value) in fields.as_object().unwrap() {
        container[name] = value.clone();
    }
    json!({"spec": {"containers": [container]}})
}

fn pod(fields: &Value) -> Value {
    json!({"spec": fields})
}

#[test]
fn fields_of_a_container() {
    let cases = [
        (
            json!({"image": "a:v2"}),
            json!({}),
            vec!["container api: image a:v2 -> a:v1"],
        ),
        (
            json!({"env": [{"name": "A", "value": "1"}, {"name": "B", "value": "2"}]}),
            json!({"env": [{"name": "A", "value": "3"}, {"name": "C", "value": "2"}]}),
            vec![
                "container api: env A changed",
                "container api: env B removed",
                "container api: env C added",
            ],
        ),
        (
            json!({"env": [{"name": "DB_URL", "value": "postgres://u:p@h"}]}),
            json!({"env": [{"name": "DB_URL", "valueFrom": {"secretKeyRef": {"name": "db", "key": "url"}}}]}),
            vec!["container api: env DB_URL changed: a value -> Secret db key url"],
        ),
        (
            json!({}),
            json!({"env": [{"name": "HOST", "valueFrom": {"configMapKeyRef": {"name": "cfg", "key": "host"}}}]}),
            vec!["container api: env HOST added (ConfigMap cfg key host)"],
        ),
        (
            json!({"env": [{"name": "IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}}]}),
            json!({"env": [{"name": "IP", "valueFrom": {"fieldRef": {"fieldPath": "status.hostIP"}}}]}),
            vec!["container api: env IP changed"],
        ),
        (
            json!({"env": [{"name": "A", "value": "1"}, {"name": "B", "value": "$(A)"}]}),
            json!({"env": [{"name": "B", "value": "$(A)"}, {"name": "A", "value": "1"}]}),
            vec!["container api: env: the order changed"],
        ),
        (
            json!({"env": [{"name": "A", "value": "1"}, {"name": "A", "value": "2"}]}),
            json!({"env": [{"name": "A", "value": "2"}]}),
            vec!["container api: env A changed"],
        ),
        (
            json!({"envFrom": [{"configMapRef": {"name": "one"}}]}),
            json!({"envFrom": [{"secretRef": {"name": "two"}}]}),
            vec![
                "container api: envFrom ConfigMap one removed",
                "container api: envFrom Secret two added",
            ],
        ),
        (
            json!({"envFrom": [{"prefix": "A_", "secretRef": {"name": "two"}}]}),
            json!({"envFrom": [{"prefix": "B_", "secretRef": {"name": "two"}}]}),
            vec!["container api: envFrom Secret two changed"],
        ),
        (
            json!({"resources": {"limits": {"memory": "512Mi", "cpu": "1"}}}),
            json!({"resources": {"limits": {"memory": "256Mi", "cpu": 1}, "requests": {"cpu": "100m"}}}),
            vec![
                // Quoted or not: another text, though the same amount.
                "container api: limits.cpu changed",
                "container api: limits.memory 512Mi -> 256Mi",
                "container api: requests.cpu (none) -> 100m",
            ],
        ),
        (
            json!({"readinessProbe": {"httpGet": {"port": 8080, "path": "/ready"}, "periodSeconds": 5}}),
            json!({"readinessProbe": {"httpGet": {"port": "http", "path": "/health?token=s3cret"}, "periodSeconds": 10}}),
            vec![
                "container api: readinessProbe.httpGet.path /ready -> /health",
                "container api: readinessProbe.httpGet.port 8080 -> http",
                "container api: readinessProbe.periodSeconds 5 -> 10",
            ],
        ),
        (
            json!({"livenessProbe": {"httpGet": {"port": 1, "path": "/x?a=s3cret"}}}),
            json!({"livenessProbe": {"httpGet": {"port": 1, "path": "/x?a=t0ken"}}}),
            vec!["container api: livenessProbe.httpGet.path changed"],
        ),
        (
            json!({"livenessProbe": {"httpGet": {"port": 1, "httpHeaders": [{"name": "X-Token", "value": "s3cret"}]}}}),
            json!({"livenessProbe": {"httpGet": {"port": 1, "httpHeaders": [{"name": "X-Token", "value": "t0ken"}, {"name": "X-B", "value": "s3cret"}]}}}),
            vec![
                "container api: livenessProbe.httpGet.httpHeaders X-B added",
                "container api: livenessProbe.httpGet.httpHeaders X-Token changed",
            ],
        ),
        (
            json!({"startupProbe": {"exec": {"command": ["a"]}}}),
            json!({"startupProbe": {"exec": {"command": ["b"]}}, "readinessProbe": {"tcpSocket": {"port": 80}}, "livenessProbe": {"exec": {"command": ["s3cret"]}}}),
            vec![
                "container api: livenessProbe added (a command)",
                "container api: readinessProbe added (tcpSocket port 80)",
                "container api: startupProbe.exec.command changed",
            ],
        ),
        (
            json!({"lifecycle": {"preStop": {"exec": {"command": ["s3cret"]}}}}),
            json!({"lifecycle": {"preStop": {"sleep": {"seconds": 5}}}}),
            vec![
                "container api: lifecycle.preStop.exec removed",
                "container api: lifecycle.preStop.sleep added",
            ],
        ),
        (
            json!({"ports": [{"name": "http", "containerPort": 80}, {"containerPort": 90, "protocol": "UDP"}]}),
            json!({"ports": [{"name": "http", "containerPort": 81}, {"containerPort": 91}]}),
            vec![
                "container api: port 90/UDP removed (90/UDP)",
                "container api: port 91/TCP added (91/TCP)",
                "container api: port http 80/TCP -> 81/TCP",
            ],
        ),
        (
            json!({"command": ["a"], "args": ["--password=s3cret"]}),
            json!({"command": ["b"]}),
            vec![
                "container api: command changed",
                "container api: args changed",
            ],
        ),
        (
            json!({"volumeMounts": [{"name": "data", "mountPath": "/data"}, {"name": "tmp", "mountPath": "/tmp"}]}),
            json!({"volumeMounts": [{"name": "cache", "mountPath": "/data", "readOnly": true}]}),
            vec![
                "container api: volume mount /data data -> cache",
                "container api: volume mount /data readOnly (none) -> true",
                "container api: volume mount /tmp removed (tmp)",
            ],
        ),
        (
            json!({"securityContext": {"runAsUser": 0, "privileged": true}}),
            json!({"securityContext": {"runAsUser": 1000, "privileged": true, "capabilities": {}}}),
            vec!["container api: security context changed: capabilities, runAsUser"],
        ),
        (
            json!({"imagePullPolicy": "Always", "stdin": false, "workingDir": "/s3cret", "future": {"a": {"b": "s3cret", "c": 1}}}),
            json!({"imagePullPolicy": "Never", "stdin": true, "workingDir": "/x", "future": {"a": {"b": "t0ken", "c": 2}}}),
            vec![
                "container api: future.a.b changed",
                "container api: future.a.c 1 -> 2",
                "container api: imagePullPolicy Always -> Never",
                "container api: stdin false -> true",
                "container api: workingDir changed",
            ],
        ),
    ];
    for (from, to, expected) in cases {
        let lines = told(&container(&from), &container(&to));
        assert_eq!(lines, expected);
        for line in lines {
            assert!(
                !line.contains("s3cret") && !line.contains("t0ken"),
                "{line}"
            );
        }
    }
}

#[test]
fn containers_of_all_kinds() {
    let from = pod(&json!({
        "containers": [{"name": "api", "image": "a:v2"}, {"name": "proxy", "image": "p:1"}],
        "initContainers": [{"name": "migrate", "image": "m:2", "args": ["up"]}],
    }));
    let to = pod(&json!({
        "containers": [{"name": "api", "image": "a:v1"}, {"name": "log", "image": "l:1"}],
        "initContainers": [{"name": "migrate", "image": "m:1", "args": ["down"]}],
    }));
    assert_eq!(
        told(&from, &to),
        [
            "container api: image a:v2 -> a:v1",
            "container log added (image l:1)",
            "container proxy removed (image p:1)",
            "init container migrate: image m:2 -> m:1",
            "init container migrate: args changed",
        ]
    );
    let (one, other) = (json!({"name": "a"}), json!({"name": "b"}));
    assert_eq!(
        told(
            &pod(&json!({"containers": [one, other]})),
            &pod(&json!({"containers": [other, one]}))
        ),
        ["containers: the order changed"]
    );
}

#[test]
fn fields_of_a_pod() {
    let cases = [
        (
            json!({"volumes": [{"name": "a", "secret": {"secretName": "db"}}, {"name": "b", "emptyDir": {}}, {"name": "c", "configMap": {"name": "x", "defaultMode": 420}}]}),
            json!({"volumes": [{"name": "a", "secret": {"secretName": "db-2"}}, {"name": "b", "persistentVolumeClaim": {"claimName": "data"}}, {"name": "c", "configMap": {"name": "x", "defaultMode": 256}}, {"name": "d", "projected": {"sources": [{"secret": {"name": "s"}}, {"configMap": {"name": "m"}}]}}]}),
            vec![
                "volume a Secret db -> Secret db-2",
                "volume b emptyDir -> PersistentVolumeClaim data",
                "volume c configMap.defaultMode 420 -> 256",
                "volume d added (projected Secret s, ConfigMap m)",
            ],
        ),
        (
            json!({"volumes": [{"name": "a", "csi": {"driver": "d", "volumeAttributes": {"password": "s3cret"}}}]}),
            json!({"volumes": [{"name": "a", "csi": {"driver": "d", "volumeAttributes": {"password": "t0ken"}}}]}),
            vec!["volume a csi.volumeAttributes.password changed"],
        ),
        (
            json!({"serviceAccountName": "api", "serviceAccount": "api"}),
            json!({"serviceAccountName": "api-v1", "serviceAccount": "api-v1"}),
            vec!["service account api -> api-v1"],
        ),
        (
            json!({"serviceAccount": "api"}),
            json!({"serviceAccount": "api-v1"}),
            vec!["spec.serviceAccount api -> api-v1"],
        ),
        (
            json!({"nodeSelector": {"disk": "ssd"}, "tolerations": [], "affinity": {"a": 1}}),
            json!({"nodeSelector": {"disk": "hdd"}, "tolerations": [{}]}),
            vec![
                "node selector disk ssd -> hdd",
                "affinity removed",
                "tolerations changed",
            ],
        ),
        (
            json!({"securityContext": {"fsGroup": 1}, "imagePullSecrets": [{"name": "a"}]}),
            json!({"imagePullSecrets": [{"name": "b"}]}),
            vec![
                "image pull secret a removed",
                "image pull secret b added",
                "security context removed: fsGroup",
            ],
        ),
        (
            json!({"terminationGracePeriodSeconds": 30, "hostNetwork": true, "dnsPolicy": "Default", "hostname": "a", "future": [1]}),
            json!({"terminationGracePeriodSeconds": 60, "dnsPolicy": "None", "hostname": "b", "future": [2]}),
            vec![
                "spec.dnsPolicy Default -> None",
                "spec.future changed",
                "spec.hostNetwork true -> (none)",
                "spec.hostname changed",
                "spec.terminationGracePeriodSeconds 30 -> 60",
            ],
        ),
    ];
    for (from, to, expected) in cases {
        assert_eq!(told(&pod(&from), &pod(&to)), expected);
    }
}

#[test]
fn labels_have_values_and_annotations_have_none() {
    let from = json!({"metadata": {"labels": {"app": "api", "version": "v2"}, "annotations": {
        "config": "s3cret", "gone": "s3cret", "kubectl.kubernetes.io/restartedAt": "2026-11-23T14:00:00Z"}}});
    let to = json!({"metadata": {"name": "x", "labels": {"app": "api", "version": "v1", "tier": ""}, "annotations": {
        "config": "t0ken", "new": "s3cret"}}, "other": {"deep": true}});
    assert_eq!(
        told(&from, &to),
        [
            "annotation config changed",
            "annotation gone removed",
            "restarted at differs",
            "annotation new added",
            "label tier (none) -> \"\"",
            "label version v2 -> v1",
            "metadata.name added",
            "other added",
        ]
    );
}

#[test]
fn long_images_show_their_end() {
    let long = |tag: &str| format!("registry.example.com/{}/api:{tag}", "very-long/".repeat(20));
    let lines = told(
        &container(&json!({"image": long("v2")})),
        &container(&json!({"image": long("v1")})),
    );
    let [line] = lines.as_slice() else {
        panic!("{lines:?}")
    };
    assert!(
        line.contains("/api:v2 -> …") && line.ends_with("/api:v1"),
        "{line}"
    );
    assert!(line.chars().count() <= 200, "{line}");
}

#[test]
fn many_differences_are_counted() {
    let env: Vec<Value> = (0..2000)
        .map(|n| json!({"name": format!("E{n}"), "value": "x"}))
        .collect();
    let lines = told(&container(&json!({})), &container(&json!({"env": env})));
    assert_eq!(lines.len(), 501);
    assert_eq!(lines.last().unwrap(), "1500 more differences");
}

#[test]
fn shapes_that_no_server_serves() {
    let cases = [
        (json!(null), json!({"spec": {}}), "spec added"),
        (json!({"spec": 1}), json!({"spec": {}}), "spec changed"),
        (
            json!({"spec": {}}),
            json!({"spec": {"containers": "s3cret"}}),
            "containers added",
        ),
        (json!("s3cret"), json!([]), "template changed"),
        (
            json!({"spec": {"containers": ["s3cret"]}}),
            json!({"spec": {"containers": ["t0ken"]}}),
            "container  changed",
        ),
    ];
    for (from, to, expected) in cases {
        assert_eq!(told(&from, &to), [expected], "{from} {to}");
    }
}

const CANARY: &str = "cAnArY";

fn canary() -> impl Strategy<Value = Value> {
    (0..9_u8).prop_map(|n| json!(format!("{CANARY}{n}")))
}

/// An optional field of an object, so that many templates are equal in many places.
fn maybe(value: impl Strategy<Value = Value> + 'static) -> BoxedStrategy<Value> {
    prop_oneof![2 => Just(Value::Null), 3 => value].boxed()
}

fn named() -> impl Strategy<Value = &'static str> {
    prop_oneof![Just("a"), Just("b"), Just("c")]
}

fn env() -> impl Strategy<Value = Value> {
    let from = prop_oneof![
        canary().prop_map(|value| json!({"value": value})),
        (named(), named())
            .prop_map(|(n, k)| json!({"valueFrom": {"secretKeyRef": {"name": n, "key": k}}})),
        (named(), named())
            .prop_map(|(n, k)| json!({"valueFrom": {"configMapKeyRef": {"name": n, "key": k}}})),
        canary().prop_map(|path| json!({"valueFrom": {"fieldRef": {"fieldPath": path}}})),
        canary().prop_map(|path| json!({"valueFrom": {"fileKeyRef": {"path": path, "key": path}}})),
        canary().prop_map(|any| json!({"value": {"not": [any, "text"]}})),
    ];
    let variable = (named(), from).prop_map(|(name, mut from)| {
        from["name"] = json!(name);
        from
    });
    proptest::collection::vec(variable, 0..4).prop_map(|list| json!(list))
}

fn probe() -> impl Strategy<Value = Value> {
    let header = (named(), canary()).prop_map(|(n, v)| json!({"name": n, "value": v}));
    let http = (proptest::collection::vec(header, 0..3), 1..3, canary()).prop_map(
        |(headers, port, query)| {
            json!({"httpGet": {"port": port, "httpHeaders": headers,
                "path": format!("/x?{}", query.as_str().unwrap()), "future": query}})
        },
    );
    let action = prop_oneof![
        http,
        canary().prop_map(|arg| json!({"exec": {"command": ["sh", arg]}})),
    ];
    (action, maybe((1..3).prop_map(|n| json!(n)))).prop_map(|(mut probe, seconds)| {
        probe["periodSeconds"] = seconds;
        probe
    })
}

fn one_container() -> impl Strategy<Value = Value> {
    let args = || proptest::collection::vec(canary(), 0..3).prop_map(|list| json!(list));
    let mounts = (named(), named(), canary())
        .prop_map(|(n, p, s)| json!([{"name": n, "mountPath": p, "subPathExpr": s}]));
    let source =
        (named(), canary()).prop_map(|(n, c)| json!([{"secretRef": {"name": n}, "prefix": c}]));
    (
        (named(), named(), maybe(env()), maybe(args()), maybe(args())),
        (maybe(probe()), maybe(probe()), maybe(mounts), maybe(source)),
        (
            maybe(canary()),
            maybe(canary().prop_map(|c| json!({"deep": {"er": c}, "list": [c]}))),
            maybe(canary().prop_map(|c| json!({"seccompProfile": {"localhostProfile": c}}))),
        ),
    )
        .prop_map(|((name, image, env, args, command), (live, ready, mounts, source), (dir, future, security))| {
            json!({"name": name, "image": image, "env": env, "args": args, "command": command,
                "livenessProbe": live, "lifecycle": {"preStop": ready}, "volumeMounts": mounts,
                "envFrom": source, "workingDir": dir, "future": future, "securityContext": security})
        })
}

fn template() -> impl Strategy<Value = Value> {
    let containers =
        || proptest::collection::vec(one_container(), 0..3).prop_map(|list| json!(list));
    let annotations = proptest::collection::btree_map(
        prop_oneof![
            Just("a"),
            Just("b"),
            Just("kubectl.kubernetes.io/restartedAt")
        ],
        canary(),
        0..3,
    )
    .prop_map(|map| json!(map));
    let volume = (named(), canary()).prop_map(
        |(n, c)| json!([{"name": n, "csi": {"driver": "d", "volumeAttributes": {"password": c}}}]),
    );
    let hosts = canary().prop_map(|c| json!([{"ip": "::1", "hostnames": [c]}]));
    (
        maybe(annotations),
        maybe(containers()),
        maybe(containers()),
        maybe(volume),
        maybe(hosts),
        maybe(canary()),
    )
        .prop_map(|(annotations, containers, init, volumes, hosts, unknown)| {
            json!({"metadata": {"annotations": annotations, "future": unknown},
                "spec": {"containers": containers, "initContainers": init, "volumes": volumes,
                    "hostAliases": hosts, "hostname": unknown, "future": {"deep": unknown}},
                "future": unknown})
        })
}

/// The law of this module, for two templates.
fn is_lawful(from: &Value, to: &Value) -> Result<(), TestCaseError> {
    let (from, to) = (Template::of(from), Template::of(to));
    let lines = changes(&from, &to);
    prop_assert_eq!(lines.is_empty(), from == to, "{:?}", lines);
    for line in &lines {
        prop_assert!(!line.contains(CANARY), "{}", line);
        prop_assert!(line.chars().count() <= 200, "{}", line);
        prop_assert!(!line.chars().any(char::is_control), "{:?}", line);
    }
    prop_assert_eq!(changes(&from, &from), Vec::<String>::new());
    Ok(())
}

proptest! {
    #![proptest_config(crate::hostile::config(512, "tests/diff.regressions"))]

    #[test]
    fn no_secret_is_told_and_no_difference_is_not(from in template(), to in template()) {
        is_lawful(&from, &to)?;
    }

    #[test]
    fn a_single_change_is_told(
        (from, to) in template().prop_flat_map(|good| (Just(good.clone()), crate::hostile::spoiled(good)))
    ) {
        let (from, to) = (Template::of(&from), Template::of(&to));
        let lines = changes(&from, &to);
        prop_assert_eq!(lines.is_empty(), from == to, "{:?}", lines);
        let back = changes(&to, &from);
        prop_assert_eq!(back.is_empty(), from == to, "{:?}", back);
        for line in lines.iter().chain(&back) {
            prop_assert!(line.chars().count() <= 200, "{}", line);
            prop_assert!(!line.contains(CANARY), "{}", line);
        }
    }

    #[test]
    fn anything_is_compared(from in crate::hostile::anything(), to in crate::hostile::anything()) {
        is_lawful(&from, &to)?;
    }
}
