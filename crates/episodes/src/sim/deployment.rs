//! The Deployment controller.

use super::World;
use super::set::Set;
use super::template::Template;

/// How new pods replace old ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Strategy {
    /// All old ones go first.
    Recreate,
    /// Little by little. Percentages, or numbers if negative: `-1` is one pod.
    Rolling {
        /// How many pods there may be too many.
        surge: i64,
        /// How many there may be too few.
        unavailable: i64,
    },
}

/// A condition of the Deployment.
#[derive(Clone, Debug, PartialEq)]
pub struct Condition {
    /// True, False or Unknown.
    pub status: &'static str,
    /// The reason.
    pub reason: &'static str,
    /// In words.
    pub message: String,
    /// `lastUpdateTime`.
    pub updated: i64,
    /// `lastTransitionTime`.
    pub changed: i64,
}

/// The Deployment.
#[derive(Clone, Debug, PartialEq)]
pub struct Deployment {
    /// Changes of its spec.
    pub generation: i64,
    /// Those that its controller has seen.
    pub observed: i64,
    /// How many pods are wanted.
    pub replicas: i64,
    /// Nothing is rolled out.
    pub paused: bool,
    /// How it is rolled out.
    pub strategy: Strategy,
    /// `minReadySeconds`.
    pub min_ready: i64,
    /// `progressDeadlineSeconds`.
    pub deadline: i64,
    /// What its pods are made of.
    pub template: Template,
    /// The newest revision.
    pub revision: i64,
    /// Pods that are there, of the newest version, ready, available, missing.
    pub status: [i64; 5],
    /// Condition Available.
    pub available: Option<Condition>,
    /// Condition Progressing.
    pub progressing: Option<Condition>,
}

impl Deployment {
    /// One that its controller has not seen.
    pub fn new(template: Template, replicas: i64) -> Self {
        Self {
            generation: 1,
            observed: 0,
            replicas,
            paused: false,
            strategy: Strategy::Rolling {
                surge: 25,
                unavailable: 25,
            },
            min_ready: 0,
            deadline: 600,
            template,
            revision: 0,
            status: [0; 5],
            available: None,
            progressing: None,
        }
    }

    /// `maxSurge` and `maxUnavailable` in pods.
    fn bounds(&self) -> (i64, i64) {
        let Strategy::Rolling { surge, unavailable } = self.strategy else {
            return (0, 0);
        };
        let up = |it: i64| {
            if it < 0 {
                -it
            } else {
                (self.replicas * it + 99) / 100
            }
        };
        let down = |it: i64| {
            if it < 0 {
                -it
            } else {
                self.replicas * it / 100
            }
        };
        match (up(surge), down(unavailable)) {
            (0, 0) => (0, 1),
            (surge, unavailable) => (surge, unavailable.min(self.replicas)),
        }
    }

    /// Whether the newest version is all there is.
    pub fn complete(&self) -> bool {
        let [replicas, updated, _, available, _] = self.status;
        [replicas, updated, available] == [self.replicas; 3] && self.observed >= self.generation
    }
}

impl World {
    /// Index of the `ReplicaSet` of the newest version.
    fn new_set(&self) -> Option<usize> {
        let hash = &self.deployment.template.hash;
        self.sets.iter().position(|it| &it.template.hash == hash)
    }

    pub(super) fn deployment(&mut self) {
        self.deployment.observed = self.deployment.generation;
        if self.deployment.paused || self.was_scaled() {
            self.keep_revision();
            self.scale_sets();
        } else {
            match self.deployment.strategy {
                Strategy::Recreate => self.recreate(),
                Strategy::Rolling { .. } => self.roll(),
            }
        }
        self.status();
    }

    /// Whether the number of pods was changed since the `ReplicaSets` were last scaled.
    fn was_scaled(&self) -> bool {
        let replicas = self.deployment.replicas;
        let mut active = self.sets.iter().filter(|set| set.replicas > 0);
        active.any(|set| set.desired != replicas)
    }

    fn set_replicas(&mut self, index: usize, replicas: i64) {
        let desired = self.deployment.replicas;
        let most = desired + self.deployment.bounds().0;
        let set = &mut self.sets[index];
        (set.desired, set.most) = (desired, most);
        if set.replicas != replicas {
            set.replicas = replicas;
            set.generation += 1;
        }
    }

    fn scale_sets(&mut self) {
        let replicas = self.deployment.replicas;
        let active: Vec<usize> = (0..self.sets.len())
            .filter(|index| self.sets[*index].replicas > 0)
            .collect();
        match active[..] {
            [] => {
                if let Some(index) = self.new_set() {
                    self.set_replicas(index, replicas);
                }
            }
            [index] => self.set_replicas(index, replicas),
            _ => self.scale_in_proportion(active),
        }
    }

    fn scale_in_proportion(&mut self, mut active: Vec<usize>) {
        if !self.was_scaled() {
            return;
        }
        let replicas = self.deployment.replicas;
        let allowed = if replicas > 0 {
            replicas + self.deployment.bounds().0
        } else {
            0
        };
        let mut left = allowed - self.total();
        active.sort_by_key(|index| (-self.sets[*index].replicas, -self.sets[*index].created));
        let mut first = None;
        for index in active {
            let set = &self.sets[index];
            let most = set.most.max(1);
            let fair = (2 * set.replicas * allowed + most) / (2 * most);
            let share = fair - set.replicas;
            let share = if left > 0 {
                share.clamp(0, left)
            } else {
                share.clamp(left, 0)
            };
            left -= share;
            let wanted = self.sets[index].replicas + share;
            self.set_replicas(index, wanted);
            first = first.or(Some(index));
        }
        if let Some(index) = first {
            let wanted = (self.sets[index].replicas + left).max(0);
            self.set_replicas(index, wanted);
        }
    }

    fn total(&self) -> i64 {
        self.sets.iter().map(|set| set.replicas).sum()
    }

    /// The `ReplicaSet` of the newest version gets the newest revision, if there is one.
    fn keep_revision(&mut self) -> Option<usize> {
        let index = self.new_set()?;
        let others = self
            .sets
            .iter()
            .enumerate()
            .filter(|(other, _)| *other != index);
        let newest = others.map(|(_, set)| set.revision).max().unwrap_or(0);
        let set = &mut self.sets[index];
        if set.revision <= newest {
            set.history.push(set.revision);
            set.revision = newest + 1;
            let message = format!(
                "Found new replica set \"{}-{}\"",
                self.name, set.template.hash
            );
            self.progress("True", "FoundNewReplicaSet", message, true);
        }
        self.deployment.revision = self.sets[index].revision;
        Some(index)
    }

    fn ensure_new_set(&mut self) -> usize {
        if let Some(index) = self.keep_revision() {
            return index;
        }
        let uid = self.uid('r');
        let newest = self.sets.iter().map(|set| set.revision).max().unwrap_or(0);
        let template = self.deployment.template.clone();
        let name = format!("{}-{}", self.name, template.hash);
        self.sets.push(Set {
            uid,
            template,
            created: self.now,
            replicas: 0,
            revision: newest + 1,
            history: Vec::new(),
            desired: self.deployment.replicas,
            most: self.deployment.replicas + self.deployment.bounds().0,
            generation: 1,
            status: [0; 3],
            made: 0,
        });
        self.deployment.revision = newest + 1;
        let message = format!("Created new replica set \"{name}\"");
        self.progress("True", "NewReplicaSetCreated", message, true);
        self.sets.len() - 1
    }

    fn recreate(&mut self) {
        let hash = self.deployment.template.hash.clone();
        for index in 0..self.sets.len() {
            if self.sets[index].template.hash != hash && self.sets[index].replicas > 0 {
                self.set_replicas(index, 0);
            }
        }
        let sets = &self.sets;
        let mut pods = self.pods.iter().filter(|pod| !pod.failed);
        if pods.any(|pod| sets[pod.set].template.hash != hash) {
            return;
        }
        let index = self.ensure_new_set();
        self.set_replicas(index, self.deployment.replicas);
    }

    fn roll(&mut self) {
        let new = self.ensure_new_set();
        let (surge, unavailable) = self.deployment.bounds();
        let replicas = self.deployment.replicas;
        let has = self.sets[new].replicas;
        let room = replicas + surge - self.total();
        if has > replicas {
            self.set_replicas(new, replicas);
        } else if room > 0 && has < replicas {
            self.set_replicas(new, has + room.min(replicas - has));
        }
        self.scale_down_old(new, replicas - unavailable);
    }

    fn scale_down_old(&mut self, new: usize, least: i64) {
        let new_unavailable = self.sets[new].replicas - self.sets[new].status[2];
        let mut budget = self.total() - least - new_unavailable;
        let old: Vec<usize> = (0..self.sets.len())
            .filter(|index| *index != new && self.sets[*index].replicas > 0)
            .collect();
        if budget <= 0 {
            return;
        }
        for index in old.clone() {
            let unhealthy = self.sets[index].replicas - self.sets[index].status[2];
            let fewer = unhealthy.clamp(0, budget);
            budget -= fewer;
            self.set_replicas(index, self.sets[index].replicas - fewer);
        }
        let available: i64 = self.sets.iter().map(|set| set.status[2]).sum();
        let mut surplus = available - least;
        for index in old {
            let fewer = self.sets[index].replicas.min(surplus.max(0));
            surplus -= fewer;
            self.set_replicas(index, self.sets[index].replicas - fewer);
        }
    }

    fn status(&mut self) {
        let new = self.new_set();
        let sum = |column: usize| self.sets.iter().map(|set| set.status[column]).sum::<i64>();
        let updated = new.map_or(0, |index| self.sets[index].status[0]);
        let available = sum(2);
        let missing = (self.total() - available).max(0);
        let before = self.deployment.status;
        self.deployment.status = [sum(0), updated, sum(1), available, missing];
        let least = self.deployment.replicas - self.deployment.bounds().1;
        let (status, reason, message) = if available >= least {
            (
                "True",
                "MinimumReplicasAvailable",
                "Deployment has minimum availability.",
            )
        } else {
            (
                "False",
                "MinimumReplicasUnavailable",
                "Deployment does not have minimum availability.",
            )
        };
        let condition = (status, reason, message.to_owned());
        set_condition(&mut self.deployment.available, condition, self.now, false);
        if self.deployment.paused {
            let message = "Deployment is paused".to_owned();
            self.progress("Unknown", "DeploymentPaused", message, false);
        } else if self.reason() == Some("DeploymentPaused") {
            let message = "Deployment is resumed".to_owned();
            self.progress("Unknown", "DeploymentResumed", message, true);
        } else {
            self.judge_progress(before);
        }
    }

    fn reason(&self) -> Option<&'static str> {
        self.deployment.progressing.as_ref().map(|it| it.reason)
    }

    fn judge_progress(&mut self, before: [i64; 5]) {
        let after = self.deployment.status;
        let done = self.reason() == Some("NewReplicaSetAvailable");
        if done && after[0] == after[1] {
            return;
        }
        let name = format!(
            "ReplicaSet \"{}-{}\"",
            self.name, self.deployment.template.hash
        );
        let fewer_old = after[0] - after[1] < before[0] - before[1];
        let more = after[1] > before[1] || after[2] > before[2] || after[3] > before[3];
        if self.deployment.complete() {
            let message = format!("{name} has successfully progressed.");
            self.progress("True", "NewReplicaSetAvailable", message, true);
        } else if fewer_old || more {
            let message = format!("{name} is progressing.");
            self.progress("True", "ReplicaSetUpdated", message, true);
        } else if !done && self.late() {
            let message = format!("{name} has timed out progressing.");
            self.progress("False", "ProgressDeadlineExceeded", message, false);
        }
    }

    fn late(&self) -> bool {
        let since = self.deployment.progressing.as_ref().map(|it| it.updated);
        since.is_some_and(|since| self.now > since + self.deployment.deadline)
    }

    fn progress(
        &mut self,
        status: &'static str,
        reason: &'static str,
        message: String,
        again: bool,
    ) {
        let condition = (status, reason, message);
        set_condition(&mut self.deployment.progressing, condition, self.now, again);
    }
}

/// A condition is written anew if it says something new; or, for progress, each time there is some.
fn set_condition(
    place: &mut Option<Condition>,
    (status, reason, message): (&'static str, &'static str, String),
    now: i64,
    again: bool,
) {
    let same_status = place.as_ref().filter(|it| it.status == status);
    if same_status.is_some_and(|it| it.reason == reason) && !again {
        return;
    }
    let changed = same_status.map_or(now, |it| it.changed);
    *place = Some(Condition {
        status,
        reason,
        message,
        updated: now,
        changed,
    });
}
