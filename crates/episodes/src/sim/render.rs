//! The objects as the API server holds them, without what no trigger may look at.

use serde_json::{Map, Value, json};

use super::World;
use super::deployment::{Condition, Deployment, Strategy};
use super::kubelet::{Ended, Pod, Running, State, stamp};
use super::set::Set;
use super::template::{Container, Role, Template};

const REVISION: &str = "deployment.kubernetes.io/revision";
const HISTORY: &str = "deployment.kubernetes.io/revision-history";
const RESTARTED: &str = "kubectl.kubernetes.io/restartedAt";

impl World {
    /// Everything that can be seen.
    pub(super) fn objects(&self) -> Vec<Value> {
        let mut objects = vec![self.show_deployment()];
        objects.extend(self.sets.iter().map(|set| self.show_set(set)));
        objects.extend(self.pods.iter().map(|pod| self.show_pod(pod)));
        objects
    }

    fn show_deployment(&self) -> Value {
        let it = &self.deployment;
        let mut spec = json!({
            "replicas": it.replicas,
            "progressDeadlineSeconds": it.deadline,
            "selector": {"matchLabels": {"app": self.name}},
            "strategy": strategy(it.strategy),
            "template": show_template(&self.name, &it.template, false),
        });
        if it.paused {
            spec["paused"] = json!(true);
        }
        if it.min_ready > 0 {
            spec["minReadySeconds"] = json!(it.min_ready);
        }
        json!({
            "apiVersion": "apps/v1", "kind": "Deployment",
            "metadata": {
                "name": self.name, "uid": "d", "generation": it.generation,
                "creationTimestamp": stamp(0),
                "annotations": {REVISION: it.revision.to_string()},
            },
            "spec": spec,
            "status": deployment_status(it),
        })
    }

    fn show_set(&self, set: &Set) -> Value {
        let mut annotations = json!({
            REVISION: set.revision.to_string(),
        });
        if !set.history.is_empty() {
            let history: Vec<String> = set.history.iter().map(ToString::to_string).collect();
            annotations[HISTORY] = json!(history.join(","));
        }
        let owner = json!([{"apiVersion": "apps/v1", "kind": "Deployment", "name": self.name, "uid": "d",
            "controller": true}]);
        let [replicas, ready, available] = set.status;
        let mut status = counts([
            ("replicas", replicas),
            ("readyReplicas", ready),
            ("availableReplicas", available),
        ]);
        status.insert("replicas".to_owned(), json!(replicas));
        json!({
            "apiVersion": "apps/v1", "kind": "ReplicaSet",
            "metadata": {
                "name": format!("{}-{}", self.name, set.template.hash), "uid": set.uid,
                "creationTimestamp": stamp(set.created),
                "labels": {"app": self.name, "pod-template-hash": set.template.hash},
                "annotations": annotations, "ownerReferences": owner,
            },
            "spec": {
                "replicas": set.replicas,
                "template": show_template(&self.name, &set.template, true),
            },
            "status": status,
        })
    }

    fn show_pod(&self, pod: &Pod) -> Value {
        let set = &self.sets[pod.set];
        let hash = &set.template.hash;
        let owner = json!([{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": format!("{}-{hash}", self.name),
            "uid": set.uid, "controller": true}]);
        let mut metadata = json!({
            "name": pod.name, "uid": pod.uid, "creationTimestamp": stamp(pod.created),
            "labels": {"app": self.name, "pod-template-hash": hash}, "ownerReferences": owner,
        });
        if let Some(at) = pod.deleted {
            metadata["deletionTimestamp"] = json!(stamp(at));
        }
        let names = |main: bool| -> Vec<Value> {
            let role = |it: &&Running| (it.spec.role == Role::Main) == main;
            let all = pod.containers.iter().filter(role);
            all.map(|it| only_name(&it.spec)).collect()
        };
        let mut spec = json!({"containers": names(true)});
        if !names(false).is_empty() {
            spec["initContainers"] = json!(names(false));
        }
        if let Some(node) = pod.node {
            spec["nodeName"] = json!(self.nodes[node].name);
        }
        json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": metadata, "spec": spec, "status": pod_status(pod),
        })
    }
}

fn only_name(container: &Container) -> Value {
    let mut shown = json!({"name": container.name});
    if container.role == Role::Sidecar {
        shown["restartPolicy"] = json!("Always");
    }
    shown
}

fn counts<const N: usize>(all: [(&str, i64); N]) -> Map<String, Value> {
    let some = all.into_iter().filter(|(_, number)| *number > 0);
    some.map(|(name, number)| (name.to_owned(), json!(number)))
        .collect()
}

fn deployment_status(it: &Deployment) -> Value {
    let [replicas, updated, ready, available, missing] = it.status;
    let mut status = counts([
        ("replicas", replicas),
        ("updatedReplicas", updated),
        ("readyReplicas", ready),
        ("availableReplicas", available),
        ("unavailableReplicas", missing),
        ("observedGeneration", it.observed),
    ]);
    let conditions = [
        ("Available", it.available.as_ref()),
        ("Progressing", it.progressing.as_ref()),
    ];
    let conditions: Vec<Value> = conditions
        .into_iter()
        .filter_map(|(kind, condition)| condition.map(|it| show_condition(kind, it)))
        .collect();
    status.insert("conditions".to_owned(), json!(conditions));
    Value::Object(status)
}

fn show_condition(kind: &str, it: &Condition) -> Value {
    let mut shown = json!({
        "type": kind, "status": it.status, "reason": it.reason,
        "lastTransitionTime": stamp(it.changed),
    });
    // The other condition is only updated when it turns.
    if kind == "Progressing" {
        shown["lastUpdateTime"] = json!(stamp(it.updated));
    }
    shown
}

fn strategy(it: Strategy) -> Value {
    let show = |it: i64| {
        if it < 0 {
            json!(-it)
        } else {
            json!(format!("{it}%"))
        }
    };
    match it {
        Strategy::Recreate => json!({"type": "Recreate"}),
        Strategy::Rolling { surge, unavailable } => json!({
            "type": "RollingUpdate",
            "rollingUpdate": {"maxSurge": show(surge), "maxUnavailable": show(unavailable)},
        }),
    }
}

fn show_template(name: &str, template: &Template, hashed: bool) -> Value {
    let mut metadata = json!({"labels": {"app": name}});
    if hashed {
        metadata["labels"]["pod-template-hash"] = json!(template.hash);
    }
    if let Some(at) = &template.restarted_at {
        metadata["annotations"] = json!({RESTARTED: at});
    }
    let list = |main: bool| -> Vec<Value> {
        let role = |it: &&Container| (it.role == Role::Main) == main;
        let all = template.containers.iter().filter(role);
        all.map(|it| show_container(it, template.huge)).collect()
    };
    let mut spec = json!({"containers": list(true)});
    if !list(false).is_empty() {
        spec["initContainers"] = json!(list(false));
    }
    json!({"metadata": metadata, "spec": spec})
}

fn show_container(container: &Container, huge: bool) -> Value {
    let mut shown = only_name(container);
    shown["image"] = json!(container.image);
    if huge && container.name == "app" {
        shown["resources"] = json!({"requests": {"cpu": "96"}});
    }
    shown
}

fn pod_status(pod: &Pod) -> Value {
    if pod.failed {
        return json!({
            "phase": "Failed", "reason": "Evicted",
            "message": "The node was low on resource: ephemeral-storage. ",
            "startTime": stamp(pod.taken.unwrap_or(pod.created)),
            "conditions": [
                {"type": "DisruptionTarget", "status": "True", "reason": "TerminationByKubelet",
                 "lastTransitionTime": stamp(pod.ready.1)},
                condition("Ready", pod.ready, Some(("PodFailed", String::new()))),
            ],
        });
    }
    let mut status = json!({
        "phase": if pod.started() { "Running" } else { "Pending" },
        "conditions": pod_conditions(pod),
    });
    if let Some(at) = pod.taken {
        status["startTime"] = json!(stamp(at));
        let list = |main: bool| -> Vec<Value> {
            let role = |it: &&Running| (it.spec.role == Role::Main) == main;
            let all = pod.containers.iter().filter(role);
            all.map(|it| container_status(it, pod)).collect()
        };
        status["containerStatuses"] = json!(list(true));
        if !list(false).is_empty() {
            status["initContainerStatuses"] = json!(list(false));
        }
    }
    status
}

fn condition(kind: &str, (value, since): (bool, i64), why: Option<(&str, String)>) -> Value {
    let status = if value { "True" } else { "False" };
    let mut shown = json!({"type": kind, "status": status, "lastTransitionTime": stamp(since)});
    if let Some((reason, message)) = why.filter(|_| !value) {
        shown["reason"] = json!(reason);
        if !message.is_empty() {
            shown["message"] = json!(message);
        }
    }
    shown
}

fn pod_conditions(pod: &Pod) -> Vec<Value> {
    if let Some((message, since)) = &pod.refused {
        let why = ("Unschedulable", message.clone());
        return vec![condition("PodScheduled", (false, *since), Some(why))];
    }
    if pod.node.is_none() {
        return Vec::new();
    }
    let Some(taken) = pod.taken else {
        return vec![condition("PodScheduled", (true, pod.bound), None)];
    };
    let since = |(value, since): (bool, i64)| (value, since.max(taken));
    let why = Some(("ContainersNotReady", String::new()));
    let mut conditions = Vec::new();
    if pod.containers.iter().any(|it| it.spec.role != Role::Main) && !pod.initialized.0 {
        let why = ("ContainersNotInitialized", String::new());
        conditions.push(condition("Initialized", since(pod.initialized), Some(why)));
    }
    // A node that is lost says nothing of its containers; the node lifecycle controller only turns `Ready`.
    if pod.containers_ready.0 == pod.ready.0 {
        conditions.push(condition("Ready", since(pod.ready), why));
    } else {
        conditions.push(condition(
            "ContainersReady",
            since(pod.containers_ready),
            why,
        ));
        conditions.push(condition("Ready", since(pod.ready), None));
    }
    conditions
}

fn container_status(it: &Running, pod: &Pod) -> Value {
    let state = match &it.state {
        State::Waiting("ContainerCreating", None)
            if pod.containers[0].spec.role != Role::Main && !pod.initialized.0 =>
        {
            json!({"waiting": {"reason": "PodInitializing"}})
        }
        State::Waiting(reason, None) => json!({"waiting": {"reason": reason}}),
        State::Waiting(reason, Some(message)) => {
            json!({"waiting": {"reason": reason, "message": message}})
        }
        State::Runs(since) => json!({"running": {"startedAt": stamp(*since)}}),
        State::Ended(ended) => json!({"terminated": show_end(ended)}),
    };
    let mut shown = json!({
        "name": it.spec.name, "ready": it.ready, "restartCount": it.restarts, "state": state,
    });
    if let Some(last) = &it.last {
        shown["lastState"] = json!({"terminated": show_end(last)});
    }
    shown
}

fn show_end(ended: &Ended) -> Value {
    let mut shown = json!({
        "exitCode": ended.code, "reason": ended.reason,
        "startedAt": stamp(ended.ran.0), "finishedAt": stamp(ended.ran.1),
    });
    if let Some(message) = &ended.message {
        shown["message"] = json!(message);
    }
    shown
}
