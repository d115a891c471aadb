//! A control plane and its nodes, one second at a time.

mod deployment;
mod kubelet;
mod node;
mod render;
mod set;
pub mod template;
pub mod words;

use crate::film::Film;
use crate::random::Random;

pub use deployment::{Deployment, Strategy};
pub use kubelet::{Pod, stamp};
pub use node::Node;
pub use set::Set;
pub use template::Template;

/// What is wrong with the world around the pods.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Faults {
    /// What the registry of the images says in place of an image; `{image}` and `{repository}` are filled in.
    pub registry: Option<String>,
    /// Secrets and `ConfigMaps` that are there no more.
    pub gone: Vec<String>,
    /// The database that everybody asks before he says that he is ready does not answer.
    pub dependency: bool,
    /// How many pods have room on the nodes.
    pub room: Option<i64>,
    /// Every start pulls (`imagePullPolicy: Always`).
    pub pull_always: bool,
}

/// Everything there is, at one moment.
pub struct World {
    /// Seconds since the beginning of time, which is [`template::BEGINNING`].
    pub now: i64,
    /// Chance.
    pub random: Random,
    /// Name of the Deployment.
    pub name: String,
    /// The Deployment.
    pub deployment: Deployment,
    /// Its `ReplicaSets`, oldest first.
    pub sets: Vec<Set>,
    /// Their pods, oldest first.
    pub pods: Vec<Pod>,
    /// The nodes.
    pub nodes: Vec<Node>,
    /// What is wrong.
    pub faults: Faults,
    /// How long a pull takes that succeeds.
    pub pull: (i64, i64),
    /// The number of the newest version.
    pub version: i64,
    serial: i64,
    film: Option<Film>,
    filmed: Option<(Deployment, Vec<Set>, Vec<Pod>)>,
    meaning: Vec<(String, String)>,
}

/// How many there are.
pub fn count<T>(things: impl Iterator<Item = T>) -> i64 {
    things.fold(0, |sum, _| sum + 1)
}

impl World {
    /// A world with an empty Deployment, an hour of time before anything is shown.
    pub fn new(random: Random, name: &str, deployment: Deployment, nodes: i64) -> Self {
        Self {
            now: 0,
            random,
            name: name.to_owned(),
            deployment,
            sets: Vec::new(),
            pods: Vec::new(),
            nodes: (1..=nodes).map(Node::new).collect(),
            faults: Faults::default(),
            pull: (1, 6),
            version: 1,
            serial: 0,
            film: None,
            filmed: None,
            meaning: Vec::new(),
        }
    }

    /// One second.
    fn tick(&mut self) {
        self.now += 1;
        self.heartbeats();
        self.kubelets();
        self.replica_sets();
        self.deployment();
        self.schedule();
        self.show(false);
    }

    /// So many seconds.
    pub fn run(&mut self, seconds: i64) {
        for _ in 0..seconds {
            self.tick();
        }
    }

    /// Until something holds, at most so many seconds.
    pub fn run_until(&mut self, most: i64, holds: impl Fn(&Self) -> bool) {
        for _ in 0..most {
            if holds(self) {
                return;
            }
            self.tick();
        }
    }

    /// Time passes and nothing happens: only for a world that is at rest.
    pub fn rest(&mut self, seconds: i64) {
        self.show(true);
        self.now += seconds;
    }

    /// From now on, everything is shown.
    pub fn film(&mut self, film: Film) {
        self.film = Some(film);
        self.show(true);
    }

    /// The end.
    pub fn cut(&mut self) -> Option<Film> {
        self.show(true);
        self.film.take()
    }

    fn show(&mut self, last: bool) {
        if let Some(mut film) = self.film.take() {
            let meaning = self.meaning();
            let same = |it: &(Deployment, Vec<Set>, Vec<Pod>)| {
                it.0 == self.deployment && it.1 == self.sets && it.2 == self.pods
            };
            let same = self.filmed.as_ref().is_some_and(same);
            if last || (!same && film.wants(self.now, self.meaning != meaning)) {
                self.meaning = meaning;
                self.filmed = Some((
                    self.deployment.clone(),
                    self.sets.clone(),
                    self.pods.clone(),
                ));
                film.take(self.now, self.objects(), last);
            }
            self.film = Some(film);
        }
    }

    /// What a person would call news: what the user did, and how the pods are.
    fn meaning(&self) -> Vec<(String, String)> {
        let own = (String::new(), self.deployment.generation.to_string());
        let pods = self
            .living()
            .filter_map(|pod| Some((pod.uid.clone(), pod.news()?)));
        std::iter::once(own).chain(pods).collect()
    }

    fn uid(&mut self, letter: char) -> String {
        self.serial += 1;
        format!("{letter}{}", self.serial)
    }

    /// The pods of the newest version that are not on their way out.
    pub fn new_pods(&self) -> impl Iterator<Item = &Pod> {
        let hash = self.deployment.template.hash.clone();
        self.living()
            .filter(move |pod| self.sets[pod.set].template.hash == hash)
    }

    /// The pods of other versions that are not on their way out.
    pub fn old_pods(&self) -> impl Iterator<Item = &Pod> {
        let hash = self.deployment.template.hash.clone();
        self.living()
            .filter(move |pod| self.sets[pod.set].template.hash != hash)
    }

    fn living(&self) -> impl Iterator<Item = &Pod> {
        self.pods.iter().filter(|pod| pod.deleted.is_none())
    }

    /// Whether the newest version is rolled out.
    pub fn complete(&self) -> bool {
        self.deployment.complete()
    }

    /// The user applies another template.
    pub fn release(&mut self, template: Template) {
        self.deployment.template = template;
        self.deployment.generation += 1;
    }

    /// Somebody or an HPA asks for another number of pods.
    pub fn scale(&mut self, replicas: i64) {
        self.deployment.replicas = replicas;
        self.deployment.generation += 1;
    }

    /// `kubectl rollout pause` and `resume`.
    pub fn pause(&mut self, paused: bool) {
        self.deployment.paused = paused;
        self.deployment.generation += 1;
    }

    /// `kubectl rollout undo`: back to the template of the `ReplicaSet` before the newest.
    pub fn undo(&mut self) {
        let hash = &self.deployment.template.hash;
        let others = self.sets.iter().filter(|set| &set.template.hash != hash);
        if let Some(set) = others.max_by_key(|set| set.revision) {
            let template = set.template.clone();
            self.release(template);
        }
    }
}
