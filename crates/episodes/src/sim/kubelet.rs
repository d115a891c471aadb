//! Pods, and the kubelets that look after them.

use jiff::Timestamp;

use super::template::{BEGINNING, Container, Pulls, Role, Template};
use super::{Faults, World, words};
use crate::random::Random;

/// A moment as Kubernetes writes it.
pub fn stamp(at: i64) -> String {
    Timestamp::from_second(BEGINNING + at).map_or_else(|_| String::new(), |it| it.to_string())
}

/// A pod.
#[derive(Clone, Debug, PartialEq)]
pub struct Pod {
    /// Its name.
    pub name: String,
    /// Its UID.
    pub uid: String,
    /// Index of its `ReplicaSet`.
    pub set: usize,
    /// When it was made.
    pub created: i64,
    /// When it is to be gone at the latest.
    pub deleted: Option<i64>,
    /// When its kubelet is done with it.
    pub ends_at: Option<i64>,
    /// Index of its node.
    pub node: Option<usize>,
    /// When it came to its node.
    pub bound: i64,
    /// When its kubelet took it up.
    pub taken: Option<i64>,
    /// What the scheduler says, and since when.
    pub refused: Option<(String, i64)>,
    /// Whether it is ready, and since when.
    pub ready: (bool, i64),
    /// The same of its containers.
    pub containers_ready: (bool, i64),
    /// The same of its init containers.
    pub initialized: (bool, i64),
    /// It was evicted by its node.
    pub failed: bool,
    /// Its containers.
    pub containers: Vec<Running>,
}

/// How a run has ended.
#[derive(Clone, Debug, PartialEq)]
pub struct Ended {
    /// Exit code.
    pub code: i64,
    /// The kubelet's reason.
    pub reason: &'static str,
    /// What else it says.
    pub message: Option<String>,
    /// From when to when it ran.
    pub ran: (i64, i64),
}

/// What a container's status shows.
#[derive(Clone, Debug, PartialEq)]
pub enum State {
    /// It waits.
    Waiting(&'static str, Option<String>),
    /// It runs since then.
    Runs(i64),
    /// It has ended.
    Ended(Ended),
}

/// What the kubelet is about to do.
#[derive(Clone, Debug, PartialEq)]
enum Doing {
    Nothing,
    Pulling(i64),
    Refused(i64),
    PullBackOff(i64),
    Misconfigured,
    Running,
    Crashed(i64),
    CrashBackOff(i64),
    Done,
}

/// A container of a pod.
#[derive(Clone, Debug, PartialEq)]
pub struct Running {
    /// What it is made of.
    pub spec: Container,
    /// What it shows.
    pub state: State,
    /// Restarts so far.
    pub restarts: i64,
    /// How the last run ended.
    pub last: Option<Ended>,
    /// Whether it is ready.
    pub ready: bool,
    doing: Doing,
    pull_delay: i64,
    crash_delay: i64,
    ready_at: Option<i64>,
    dies_at: Option<i64>,
    sours_at: Option<i64>,
    flap: Option<(i64, i64)>,
    lag: i64,
}

impl Pod {
    pub(super) fn new(
        name: String,
        uid: String,
        set: usize,
        ordinal: i64,
        template: &Template,
        now: i64,
        lag: i64,
    ) -> Self {
        let containers = template.containers.iter();
        Self {
            name,
            uid,
            set,
            created: now,
            deleted: None,
            ends_at: None,
            node: None,
            bound: now,
            taken: None,
            refused: None,
            ready: (false, now),
            containers_ready: (false, now),
            initialized: (false, now),
            failed: false,
            containers: containers
                .map(|container| Running::new(container, ordinal, lag))
                .collect(),
        }
    }

    pub(super) fn bind(&mut self, node: usize, now: i64) {
        self.node = Some(node);
        self.bound = now;
        self.refused = None;
    }

    pub(super) fn unschedulable(&mut self, message: String, now: i64) {
        if self.refused.is_none() {
            self.refused = Some((message, now));
        }
    }

    /// Whether all containers have started once.
    pub fn started(&self) -> bool {
        let waits = |it: &Running| matches!(it.state, State::Waiting(..)) && it.last.is_none();
        self.taken.is_some() && self.initialized.0 && !self.containers.iter().any(waits)
    }

    /// A container with this reason to wait.
    pub fn waits_for(&self, wanted: &str) -> bool {
        let waits = |it: &Running| matches!(it.state, State::Waiting(why, _) if why == wanted);
        self.containers.iter().any(waits)
    }

    /// Restarts of all its containers.
    pub fn restarts(&self) -> i64 {
        self.containers.iter().map(|it| it.restarts).sum()
    }

    /// How it is, in short; nothing while it starts.
    pub(super) fn news(&self) -> Option<String> {
        let trouble = |it: &Running| match it.state {
            State::Waiting("ErrImagePull" | "ImagePullBackOff", _) => "pull",
            State::Waiting("ContainerCreating", _) | State::Runs(_) | State::Ended(_) => "",
            State::Waiting(why, _) => why,
        };
        let trouble = self.containers.iter().map(trouble).max().unwrap_or("");
        let restarts = self.restarts().min(2);
        let loops = restarts > 1;
        let trouble = if loops { "loop" } else { trouble };
        let started = self.started() || !trouble.is_empty() || self.refused.is_some();
        let ready = self.ready.0 && !loops;
        started.then(|| format!("{ready} {trouble} {restarts} {}", self.failed))
    }

    /// The node runs out of something and throws the pod away.
    pub fn evict(&mut self, now: i64) {
        self.failed = true;
        self.ready = (false, now);
        self.containers_ready = (false, now);
        for container in &mut self.containers {
            container.end(now, 137, "Error", None);
            container.doing = Doing::Done;
        }
    }

    pub(super) fn lose_power(&mut self, now: i64) {
        for container in &mut self.containers {
            if matches!(container.doing, Doing::Running) {
                container.end(now, 255, "Unknown", None);
            }
        }
    }

    /// Lets the kubelet look at everything once.
    fn sync(&mut self, now: i64, kubelet: &mut Kubelet<'_>) {
        if self.taken.is_none() {
            if now <= self.bound {
                return;
            }
            self.taken = Some(now);
        }
        for index in 0..self.containers.len() {
            let first = &self.containers[..index];
            let main = self.containers[index].spec.role == Role::Main;
            let blocked = first
                .iter()
                .any(|it| it.spec.role != Role::Main && !it.over());
            if !blocked {
                let name = (self.name.as_str(), self.uid.as_str());
                self.containers[index].step(now, name, kubelet);
            }
            if !main && !self.containers[index].over() {
                break;
            }
        }
        let before = |it: &&Running| it.spec.role != Role::Main;
        let initialized =
            self.initialized.0 || self.containers.iter().filter(before).all(Running::over);
        let lasting = |it: &&Running| it.spec.role != Role::Init;
        let ready = initialized && self.containers.iter().filter(lasting).all(|it| it.ready);
        turn(&mut self.initialized, initialized, now);
        turn(&mut self.containers_ready, ready, now);
        turn(&mut self.ready, ready, now);
    }
}

fn turn(condition: &mut (bool, i64), value: bool, now: i64) {
    if condition.0 != value {
        *condition = (value, now);
    }
}

/// What a kubelet knows of the world.
struct Kubelet<'a> {
    faults: &'a Faults,
    random: &'a mut Random,
    images: &'a mut Vec<String>,
    pull: (i64, i64),
}

impl World {
    pub(super) fn kubelets(&mut self) {
        let now = self.now;
        for pod in &mut self.pods {
            let Some(index) = pod.node else { continue };
            let node = &mut self.nodes[index];
            if node.silent.is_some() || pod.deleted.is_some() || pod.failed {
                continue;
            }
            let mut kubelet = Kubelet {
                faults: &self.faults,
                random: &mut self.random,
                images: &mut node.images,
                pull: self.pull,
            };
            pod.sync(now, &mut kubelet);
        }
        let nodes = &self.nodes;
        self.pods.retain(|pod| {
            let alive = pod.node.is_none_or(|node| nodes[node].silent.is_none());
            !(alive && pod.ends_at.is_some_and(|at| at <= now))
        });
    }
}

impl Running {
    fn new(spec: &Container, ordinal: i64, lag: i64) -> Self {
        let mut spec = spec.clone();
        let share = |ordinal: i64| (ordinal * spec.life.share + 99) / 100;
        if share(ordinal + 1) == share(ordinal) {
            spec.life = super::template::Life::good((3, 9));
        }
        Self {
            spec,
            state: State::Waiting("ContainerCreating", None),
            restarts: 0,
            last: None,
            ready: false,
            doing: Doing::Nothing,
            pull_delay: 0,
            crash_delay: 0,
            ready_at: None,
            dies_at: None,
            sours_at: None,
            flap: None,
            lag,
        }
    }

    /// From now on it lives like this, and the run ends then.
    pub fn doom(&mut self, at: i64, life: super::template::Life) {
        self.spec.life = life;
        self.dies_at = Some(at);
    }

    /// It stops being ready then, for good.
    pub fn sour(&mut self, at: i64) {
        self.sours_at = Some(at);
    }

    /// An init container has done its work, a sidecar has started.
    fn over(&self) -> bool {
        match self.spec.role {
            Role::Init => self.doing == Doing::Done,
            Role::Sidecar => self.restarts > 0 || self.doing == Doing::Running,
            Role::Main => false,
        }
    }

    fn step(&mut self, now: i64, pod: (&str, &str), kubelet: &mut Kubelet<'_>) {
        match self.doing {
            Doing::Nothing => self.begin(now, kubelet),
            Doing::Pulling(until) if until <= now => self.pulled(now, kubelet),
            Doing::Refused(until) if until <= now => self.back_off(now),
            Doing::PullBackOff(until) if until <= now => self.pull(now, kubelet),
            Doing::Misconfigured => self.create(now, kubelet),
            Doing::Running => self.live(now, kubelet),
            Doing::Crashed(until) if until <= now => self.after_crash(now, pod, kubelet),
            Doing::CrashBackOff(until) if until <= now => {
                self.crash_delay = (self.crash_delay * 2).min(300);
                self.restarts += 1;
                self.begin(now, kubelet);
            }
            Doing::Pulling(_)
            | Doing::Refused(_)
            | Doing::PullBackOff(_)
            | Doing::Crashed(_)
            | Doing::CrashBackOff(_)
            | Doing::Done => {}
        }
    }

    fn begin(&mut self, now: i64, kubelet: &mut Kubelet<'_>) {
        if let Pulls::Invalid(message) = &self.spec.pulls {
            self.state = State::Waiting("InvalidImageName", Some(message.clone()));
            return;
        }
        let there = kubelet.images.contains(&self.spec.image) && !kubelet.faults.pull_always;
        if there {
            self.create(now, kubelet);
        } else {
            self.pull(now, kubelet);
        }
    }

    fn pull(&mut self, now: i64, kubelet: &mut Kubelet<'_>) {
        let takes = match (&self.spec.pulls, &kubelet.faults.registry) {
            (_, Some(said)) if said.contains("timeout") => kubelet.random.between(15, 30),
            (_, Some(_)) | (Pulls::Missing(_) | Pulls::Invalid(_), None) => {
                kubelet.random.between(1, 3)
            }
            (Pulls::Found, None) => kubelet.random.within(kubelet.pull),
        };
        self.doing = Doing::Pulling(now + takes);
    }

    fn pulled(&mut self, now: i64, kubelet: &mut Kubelet<'_>) {
        let image = &self.spec.image;
        let refused = match (&kubelet.faults.registry, &self.spec.pulls) {
            (Some(said), _) => Some(words::about(said, image)),
            (None, Pulls::Missing(said) | Pulls::Invalid(said)) => Some(said.clone()),
            (None, Pulls::Found) => None,
        };
        if let Some(said) = refused {
            self.state = State::Waiting("ErrImagePull", Some(said));
            self.doing = Doing::Refused(now + kubelet.random.between(2, 12));
        } else {
            kubelet.images.push(image.clone());
            self.create(now, kubelet);
        }
    }

    fn back_off(&mut self, now: i64) {
        self.pull_delay = (self.pull_delay * 2).clamp(10, 300);
        let image = &self.spec.image;
        let before = match &self.state {
            State::Waiting(_, Some(said)) => format!(": ErrImagePull: {said}"),
            State::Waiting(_, None) | State::Runs(_) | State::Ended(_) => String::new(),
        };
        let said = format!("Back-off pulling image \"{image}\"{before}");
        self.state = State::Waiting("ImagePullBackOff", Some(said));
        self.doing = Doing::PullBackOff(now + self.pull_delay);
    }

    fn create(&mut self, now: i64, kubelet: &mut Kubelet<'_>) {
        let needs = self.spec.needs.as_ref();
        let gone = needs.filter(|it| kubelet.faults.gone.contains(it));
        let wrong = gone
            .map(|name| format!("secret \"{name}\" not found"))
            .or_else(|| self.spec.misconfigured.clone());
        if let Some(said) = wrong {
            self.state = State::Waiting("CreateContainerConfigError", Some(said));
            self.doing = Doing::Misconfigured;
            return;
        }
        self.state = State::Runs(now);
        self.doing = Doing::Running;
        self.plan(now, kubelet.random);
        // What ends at once has never been seen running.
        if self.dies_at == Some(now) {
            self.live(now, kubelet);
        }
    }

    /// What will come of this run.
    fn plan(&mut self, now: i64, random: &mut Random) {
        let life = &self.spec.life;
        self.ready_at = life.ready.map(|span| now + random.within(span));
        let death = life.death.as_ref();
        let death = death.filter(|it| it.times.is_none_or(|times| self.restarts < times));
        self.dies_at = death.map(|it| {
            let span = if self.restarts == 0 {
                it.first
            } else {
                it.later
            };
            now + random.within(span)
        });
        let ready_at = self.ready_at.unwrap_or(now);
        self.sours_at = life.sours.map(|span| ready_at + random.within(span));
        let flaps = life.flaps;
        self.flap = flaps.map(|(every, _)| (ready_at + random.within(every), 0));
    }

    fn live(&mut self, now: i64, kubelet: &mut Kubelet<'_>) {
        if self.dies_at.is_some_and(|at| at <= now) {
            if let Some(death) = self.spec.life.death.clone() {
                self.end(now, death.code, death.reason, death.message);
            }
            return;
        }
        let began = self.ready_at.is_some_and(|at| at <= now);
        let soured = self.sours_at.is_some_and(|at| at <= now);
        let down = kubelet.faults.dependency && self.spec.name == "app";
        let down = down && (!self.ready || kubelet.random.chance(12));
        self.ready = began && !soured && !down && !self.flapping(now, kubelet.random);
    }

    fn flapping(&mut self, now: i64, random: &mut Random) -> bool {
        let (Some((from, until)), Some((every, lasts))) = (self.flap, self.spec.life.flaps) else {
            return false;
        };
        if now < from {
            return false;
        }
        if until == 0 {
            self.flap = Some((from, now + random.within(lasts)));
            return true;
        }
        if now >= until {
            self.flap = Some((now + random.within(every), 0));
            return false;
        }
        true
    }

    fn end(&mut self, now: i64, code: i64, reason: &'static str, message: Option<String>) {
        let began = match self.state {
            State::Runs(since) => since,
            State::Waiting(..) | State::Ended(_) => now,
        };
        if now - began > 600 {
            self.crash_delay = 0;
        }
        self.state = State::Ended(Ended {
            code,
            reason,
            message,
            ran: (began, now),
        });
        let finished = self.spec.role == Role::Init && code == 0;
        self.ready = finished;
        self.doing = if finished {
            Doing::Done
        } else {
            Doing::Crashed(now + 1 + self.lag)
        };
    }

    fn after_crash(&mut self, now: i64, (name, uid): (&str, &str), kubelet: &mut Kubelet<'_>) {
        let State::Ended(ended) = self.state.clone() else {
            return;
        };
        let finished = ended.ran.1;
        self.last = Some(ended);
        if self.crash_delay == 0 {
            // The first restart comes at once.
            self.crash_delay = 10;
            self.restarts += 1;
            self.begin(now, kubelet);
            return;
        }
        let delay = match self.crash_delay {
            delay @ ..60 => format!("{delay}s"),
            delay => format!("{}m{}s", delay / 60, delay % 60),
        };
        let container = &self.spec.name;
        let said = format!(
            "back-off {delay} restarting failed container={container} pod={name}_shop({uid})"
        );
        self.state = State::Waiting("CrashLoopBackOff", Some(said));
        self.doing = Doing::CrashBackOff(finished + self.crash_delay);
    }
}
