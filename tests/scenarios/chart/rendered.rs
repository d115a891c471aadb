//! What the chart renders.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use testkit::{Cluster, User};

use crate::helm::{HOME, Helm, OLDEST, VERSION, chart};

/// Kind and name.
type Key = (String, String);

fn key(object: &Value) -> Result<Key> {
    let text = |pointer| {
        object
            .pointer(pointer)
            .and_then(Value::as_str)
            .map(str::to_owned)
    };
    let kind = text("/kind").context("an object without a kind")?;
    Ok((
        kind,
        text("/metadata/name").context("an object without a name")?,
    ))
}

/// The objects of `deploy/` and `crds/`, without what only one of the two ways of installing has.
fn deployed() -> Result<BTreeMap<Key, Value>> {
    let mut objects = BTreeMap::new();
    for folder in ["deploy", "crds"] {
        for file in std::fs::read_dir(testkit::workspace().join(folder))? {
            let path = file?.path();
            if path.extension().is_some_and(|it| it == "yaml") {
                let text = std::fs::read_to_string(&path)?;
                for object in serde_saphyr::from_multiple::<Value>(&text)? {
                    objects.insert(key(&object)?, object);
                }
            }
        }
    }
    // Helm makes the namespace.
    objects.remove(&("Namespace".to_owned(), HOME.to_owned()));
    Ok(objects)
}

/// Without what the chart adds to every object, and what stands in for a registry.
fn plain(mut object: Value) -> Value {
    for pointer in ["/metadata", "/spec/template/metadata"] {
        let Some(metadata) = object.pointer_mut(pointer).and_then(Value::as_object_mut) else {
            continue;
        };
        for field in ["labels", "annotations"] {
            let added = |name: &String| {
                name.starts_with("helm.sh/")
                    || name == "rollback.broxiva.com/config-digest"
                    || ["part-of", "version", "managed-by"]
                        .iter()
                        .any(|label| *name == format!("app.kubernetes.io/{label}"))
            };
            let Some(map) = metadata.get_mut(field).and_then(Value::as_object_mut) else {
                continue;
            };
            map.retain(|name, _| !added(name));
            if map.is_empty() {
                metadata.remove(field);
            }
        }
    }
    let containers = object.pointer_mut("/spec/template/spec/containers");
    for container in containers
        .and_then(Value::as_array_mut)
        .into_iter()
        .flatten()
    {
        if let Some(image) = container["image"].as_str() {
            container["image"] = json!(image.trim_start_matches("ghcr.io/broxiva/"));
        }
        if let Some(container) = container.as_object_mut() {
            container.remove("imagePullPolicy");
        }
    }
    object
}

/// With each whole number written as one: YAML has `1.0` and `1`, and Helm makes the one of the other.
fn whole(value: Value) -> Value {
    match value {
        Value::Number(number) => match number.as_f64() {
            Some(float) if float.fract() == 0.0 => json!(format!("{float}")),
            Some(_) | None => Value::Number(number),
        },
        Value::Array(items) => items.into_iter().map(whole).collect(),
        Value::Object(fields) => fields
            .into_iter()
            .map(|(name, field)| (name, whole(field)))
            .collect(),
        Value::Null | Value::Bool(_) | Value::String(_) => value,
    }
}

#[tokio::test]
async fn it_renders_what_deploy_holds() -> Result<()> {
    let Some(helm) = Helm::new().await? else {
        return Ok(());
    };
    // The receiver's configuration is the administrator's; deploy/ has an example.
    let expected = deployed()?;
    let example = &expected[&("ConfigMap".to_owned(), "rollback-receiver".to_owned())];
    let example = example["data"]["receiver.yaml"]
        .as_str()
        .context("no example")?;
    let example: Value = serde_saphyr::from_str(example)?;
    let config = format!("receiver.config={example}");
    let objects = helm.rendered(&["receiver.enabled=true", &config]).await?;
    let mut rendered = BTreeMap::new();
    for object in objects {
        rendered.insert(key(&object)?, object);
    }
    for (key, wanted) in expected {
        let found = rendered
            .remove(&key)
            .with_context(|| format!("{key:?} is not rendered"))?;
        let (mut found, mut wanted) = (plain(whole(found)), plain(whole(wanted)));
        for object in [&mut found, &mut wanted] {
            if let Some(text) = object
                .pointer("/data/receiver.yaml")
                .and_then(Value::as_str)
            {
                object["data"]["receiver.yaml"] = serde_saphyr::from_str(text)?;
            }
        }
        ensure!(
            found == wanted,
            "{key:?} is rendered as {found:#}, but in deploy/ it is {wanted:#}"
        );
    }
    let more: Vec<String> = rendered
        .into_keys()
        .map(|(kind, name)| format!("{kind}/{name}"))
        .collect();
    let known = [
        "ClusterRole/rollback-test",
        "ClusterRoleBinding/rollback-test",
        "FlowSchema/rollback-controller",
        "Pod/rollback-test",
        "PodDisruptionBudget/rollback-controller",
        "PodDisruptionBudget/rollback-receiver",
        "Secret/rollback-receiver-tls",
        "ServiceAccount/rollback-test",
    ];
    ensure!(more == known, "{more:?}");
    Ok(())
}

/// Where the API server cannot write who asks and who approves, the rest is the same.
#[tokio::test]
async fn an_older_server_gets_all_that_it_can_have() -> Result<()> {
    let Some(helm) = Helm::new().await? else {
        return Ok(());
    };
    let keys = |objects: Vec<Value>| objects.iter().map(key).collect::<Result<BTreeSet<Key>>>();
    let newer = keys(helm.rendered(&[]).await?)?;
    let older = keys(helm.rendered_for(OLDEST, &[]).await?)?;
    let missing: Vec<&str> = newer.difference(&older).map(|(kind, _)| &**kind).collect();
    ensure!(
        missing == ["MutatingAdmissionPolicy", "MutatingAdmissionPolicyBinding"],
        "{missing:?}"
    );
    ensure!(older.is_subset(&newer));
    Ok(())
}

#[tokio::test]
async fn what_cannot_work_is_refused_with_the_reason() -> Result<()> {
    let Some(helm) = Helm::new().await? else {
        return Ok(());
    };
    let rows: [(&str, &str, &[&str], &str); 6] = [
        (
            "default",
            VERSION,
            &[],
            "written for the namespace rollback-system, not for default",
        ),
        (HOME, "1.34.9", &[], "requires kubeVersion: >=1.35.0-0"),
        (
            HOME,
            VERSION,
            &["controler.replicaCount=3"],
            "additional properties 'controler' not allowed",
        ),
        (
            HOME,
            VERSION,
            &["controller.image.digest=\"latest\""],
            "/controller/image/digest",
        ),
        (HOME, VERSION, &["namespaces=[\"Shop_1\"]"], "/namespaces/0"),
        (
            HOME,
            VERSION,
            &[
                "receiver.enabled=true",
                "receiver.tls.certManager.enabled=true",
            ],
            "receiver.tls.certManager.issuerRef says who issues the certificate",
        ),
    ];
    for (namespace, version, settings, why) in rows {
        let output = helm.template(namespace, version, settings).await?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(
            !output.status.success() && said.contains(why),
            "{settings:?}: {said}"
        );
    }
    let folder = chart().display().to_string();
    helm.ok(&["lint", "--strict", &folder, "-n", HOME]).await?;
    Ok(())
}

#[tokio::test]
async fn the_api_server_takes_every_object_as_it_is_written() -> Result<()> {
    let Some(helm) = Helm::new().await? else {
        return Ok(());
    };
    let cluster = Cluster::shared().await?;
    let namespace = cluster.namespace("chart").await?;
    let namespaces = format!(
        r#"namespaces=[{{"name": "{}", "runJobs": true, "readLogs": true, "forceDelete": true, "scaleDown": true,
        "preflightSecrets": true, "watch": true, "alerts": true}}]"#,
        namespace.name()
    );
    let objects = helm
        .rendered(&[
            &namespaces,
            "receiver.enabled=true",
            "networkPolicy.enabled=true",
            r#"networkPolicy.metricsFrom=[{"namespaceSelector": {}}]"#,
            "dashboard.enabled=true",
            r#"imagePullSecrets=[{"name": "registry"}]"#,
            r#"commonLabels={"team": "platform"}"#,
            r#"controller.tolerations=[{"key": "dedicated", "operator": "Exists"}]"#,
            r#"controller.nodeSelector={"kubernetes.io/os": "linux"}"#,
            r#"controller.extraArgs=["--concurrency=4"]"#,
            r#"controller.extraEnv=[{"name": "RUST_LOG", "value": "debug"}]"#,
            r#"controller.podAnnotations={"example.com/a": "b"}"#,
            r#"controller.priorityClassName="system-cluster-critical""#,
            r#"receiver.service.annotations={"example.com/c": "d"}"#,
        ])
        .await?;
    // Helm makes the account of the test before its pod; a dry run makes nothing.
    let objects: Vec<Value> = objects
        .into_iter()
        .filter(|object| object["kind"] != "Pod")
        .collect();
    for object in &objects {
        let labels = &object["metadata"]["labels"];
        ensure!(
            labels["team"] == "platform",
            "{:?} has {labels}",
            key(object)?
        );
    }
    let list = json!({"apiVersion": "v1", "kind": "List", "items": objects}).to_string();
    let check = [
        "apply",
        "--dry-run=server",
        "--validate=strict",
        "--server-side",
        "--force-conflicts",
        "-f",
        "-",
    ];
    cluster.kubectl_ok(User::Admin, &check, &list).await?;
    Ok(())
}
