//! The `ReplicaSet` controller.

use super::kubelet::Pod;
use super::template::Template;
use super::{World, count};

/// A `ReplicaSet`.
#[derive(Clone, Debug, PartialEq)]
pub struct Set {
    /// Its UID.
    pub uid: String,
    /// What its pods are made of.
    pub template: Template,
    /// When it was made.
    pub created: i64,
    /// How many pods it should have.
    pub replicas: i64,
    /// The revision of the Deployment.
    pub revision: i64,
    /// Revisions that it was before.
    pub history: Vec<i64>,
    /// What the Deployment asked for when it was last scaled.
    pub desired: i64,
    /// How many pods the Deployment might have had then.
    pub most: i64,
    /// Changes of its spec.
    pub generation: i64,
    /// Pods that are there, ready, available.
    pub status: [i64; 3],
    /// How many pods it has made so far.
    pub made: i64,
}

impl World {
    pub(super) fn replica_sets(&mut self) {
        for index in 0..self.sets.len() {
            let active = count(self.living().filter(|pod| pod.set == index && !pod.failed));
            let wanted = self.sets[index].replicas;
            for _ in active..wanted {
                self.create_pod(index);
            }
            for _ in wanted..active {
                self.delete_one(index);
            }
            self.count_pods(index);
        }
    }

    fn create_pod(&mut self, index: usize) {
        let uid = self.uid('p');
        let suffix = self.random.word(4);
        let set = &mut self.sets[index];
        let name = format!("{}-{}-{suffix}", self.name, set.template.hash);
        let ordinal = set.made;
        set.made += 1;
        let offset = self.random.between(0, 1);
        let pod = Pod::new(name, uid, index, ordinal, &set.template, self.now, offset);
        self.pods.push(pod);
    }

    /// Those go first that are worth least.
    fn delete_one(&mut self, index: usize) {
        let worth = |pod: &Pod| {
            let restarts: i64 = pod.containers.iter().map(|it| it.restarts).sum();
            (
                pod.node.is_some(),
                pod.started(),
                pod.ready.0,
                -restarts,
                -pod.created,
            )
        };
        let of_set = |pod: &&mut Pod| pod.set == index && pod.deleted.is_none() && !pod.failed;
        let least = self.pods.iter_mut().filter(of_set);
        if let Some(pod) = least.min_by_key(|pod| worth(pod)) {
            let uid = pod.uid.clone();
            self.delete_pod(&uid);
        }
    }

    /// Somebody deletes a pod; its kubelet ends it.
    pub fn delete_pod(&mut self, uid: &str) {
        let now = self.now;
        let takes = self.random.between(1, 9);
        if let Some(pod) = self.pods.iter_mut().find(|pod| pod.uid == uid) {
            if pod.node.is_none() {
                pod.ends_at = Some(now);
            } else {
                pod.ends_at = Some(now + takes);
            }
            pod.deleted = Some(now + 30);
        }
    }

    fn count_pods(&mut self, index: usize) {
        let min_ready = self.deployment.min_ready;
        let now = self.now;
        let pods: Vec<&Pod> = self
            .living()
            .filter(|pod| pod.set == index && !pod.failed)
            .collect();
        let ready = count(pods.iter().filter(|pod| pod.ready.0));
        let available = pods
            .iter()
            .filter(|pod| pod.ready.0 && now - pod.ready.1 >= min_ready);
        let status = [count(pods.iter()), ready, count(available)];
        self.sets[index].status = status;
    }
}
