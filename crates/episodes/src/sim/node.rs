//! Nodes, the node lifecycle controller and the scheduler.

use super::{World, count, words};

/// How long a node may say nothing until its pods count as unready.
const SILENCE: i64 = 50;
/// How long pods tolerate that their node is unreachable.
const TOLERATION: i64 = 300;

/// A node.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    /// Its name.
    pub name: String,
    /// Since when it says nothing.
    pub silent: Option<i64>,
    /// It takes no more pods.
    pub cordoned: bool,
    /// Images that it has.
    pub images: Vec<String>,
}

impl Node {
    pub(super) fn new(number: i64) -> Self {
        Self {
            name: format!("n{number}"),
            silent: None,
            cordoned: false,
            images: Vec::new(),
        }
    }
}

impl World {
    /// A node says nothing any more.
    pub fn lose_node(&mut self, index: usize) {
        self.nodes[index].silent = Some(self.now);
    }

    /// The node is back. Where it lost its power, its containers have ended and start anew.
    pub fn find_node(&mut self, index: usize, rebooted: bool) {
        self.nodes[index].silent = None;
        let now = self.now;
        for pod in self.pods.iter_mut().filter(|it| it.node == Some(index)) {
            if rebooted && pod.deleted.is_none() {
                pod.lose_power(now);
            }
        }
    }

    /// The node that has most pods for which something holds.
    pub fn busiest_node(&self, counts: impl Fn(&super::Pod) -> bool) -> usize {
        let pods = |index: usize| {
            count(
                self.living()
                    .filter(|pod| pod.node == Some(index) && counts(pod)),
            )
        };
        let best = (0..self.nodes.len()).max_by_key(|index| (pods(*index), usize::MAX - index));
        best.unwrap_or(0)
    }

    /// `kubectl drain`: nothing new comes, what is there is evicted.
    pub fn drain(&mut self, index: usize) {
        self.nodes[index].cordoned = true;
        let there: Vec<String> = self
            .living()
            .filter(|pod| pod.node == Some(index))
            .map(|pod| pod.uid.clone())
            .collect();
        for uid in there {
            self.delete_pod(&uid);
        }
    }

    pub(super) fn heartbeats(&mut self) {
        for index in 0..self.nodes.len() {
            let Some(since) = self.nodes[index].silent else {
                continue;
            };
            let silence = self.now - since;
            for pod in self.pods.iter_mut().filter(|it| it.node == Some(index)) {
                if silence == SILENCE && pod.ready.0 {
                    pod.ready = (false, self.now);
                }
                if silence == SILENCE + TOLERATION && pod.deleted.is_none() {
                    pod.deleted = Some(self.now + 30);
                    pod.ends_at = Some(self.now + 1);
                }
            }
        }
    }

    /// Whether the scheduler believes that the node is there.
    fn takes_pods(&self, node: &Node) -> bool {
        let unreachable = node.silent.is_some_and(|since| self.now - since >= SILENCE);
        !node.cordoned && !unreachable
    }

    pub(super) fn schedule(&mut self) {
        for index in 0..self.pods.len() {
            let pod = &self.pods[index];
            if pod.node.is_some() || pod.created == self.now {
                continue;
            }
            let taken = count(self.pods.iter().filter(|pod| pod.node.is_some()));
            let full = self.faults.room.is_some_and(|room| taken >= room);
            let huge = self.sets[pod.set].template.huge;
            let nodes = self.nodes.len();
            let here = |node: usize| count(self.pods.iter().filter(|it| it.node == Some(node)));
            let open = (0..nodes).filter(|it| self.takes_pods(&self.nodes[*it]));
            let best = open.min_by_key(|node| (here(*node), *node));
            let pod_now = self.now;
            match best {
                Some(node) if !full && !huge => self.pods[index].bind(node, pod_now),
                Some(_) | None => {
                    let message = words::unschedulable(nodes);
                    self.pods[index].unschedulable(message, pod_now);
                }
            }
        }
    }
}
