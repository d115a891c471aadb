//! What a version is made of, and how its containers live.

use crate::random::Random;

/// The moment from which the seconds of a world count: 2026-11-01T00:00:00Z.
pub const BEGINNING: i64 = 1_793_491_200;

/// From the least to the most seconds.
pub type Span = (i64, i64);

/// A pod template.
#[derive(Clone, Debug, PartialEq)]
pub struct Template {
    /// The `pod-template-hash` of its `ReplicaSet`.
    pub hash: String,
    /// Init containers, sidecars and the others.
    pub containers: Vec<Container>,
    /// More CPU than any node has.
    pub huge: bool,
    /// `kubectl.kubernetes.io/restartedAt`.
    pub restarted_at: Option<String>,
}

/// What a container is to its pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Has to finish before the others start.
    Init,
    /// An init container with `restartPolicy: Always`.
    Sidecar,
    /// An ordinary container.
    Main,
}

/// One container.
#[derive(Clone, Debug, PartialEq)]
pub struct Container {
    /// Its name.
    pub name: String,
    /// Its image.
    pub image: String,
    /// What it is to its pod.
    pub role: Role,
    /// What a registry that is well says of the image.
    pub pulls: Pulls,
    /// The Secret that it needs.
    pub needs: Option<String>,
    /// What is wrong with its configuration in any case.
    pub misconfigured: Option<String>,
    /// How it lives.
    pub life: Life,
}

/// What comes of pulling an image.
#[derive(Clone, Debug, PartialEq)]
pub enum Pulls {
    /// It is there.
    Found,
    /// It is not, in these words.
    Missing(String),
    /// Its name is none, in these words.
    Invalid(String),
}

/// How a container lives.
#[derive(Clone, Debug, PartialEq)]
pub struct Life {
    /// After how long it is ready; never.
    pub ready: Option<Span>,
    /// It ends.
    pub death: Option<Death>,
    /// How long after it was ready it stops being so for good.
    pub sours: Option<Span>,
    /// It is unready for so long, every so often.
    pub flaps: Option<(Span, Span)>,
    /// So many of 100 pods live like this, the others are well.
    pub share: i64,
}

/// How a container ends.
#[derive(Clone, Debug, PartialEq)]
pub struct Death {
    /// How long its first run lasts.
    pub first: Span,
    /// How long the others last.
    pub later: Span,
    /// How many times it ends until it is well.
    pub times: Option<i64>,
    /// The exit code.
    pub code: i64,
    /// The reason that the kubelet gives.
    pub reason: &'static str,
    /// What else the kubelet says.
    pub message: Option<String>,
}

impl Life {
    /// It is ready after a while and stays so.
    pub fn good(ready: Span) -> Self {
        Self {
            ready: Some(ready),
            death: None,
            sours: None,
            flaps: None,
            share: 100,
        }
    }

    /// It never gets ready and ends before it could, over and over.
    pub fn crash(lasts: Span, code: i64) -> Self {
        Self {
            ready: None,
            death: Some(Death {
                first: lasts,
                later: lasts,
                times: None,
                code,
                reason: "Error",
                message: None,
            }),
            ..Self::good((1, 1))
        }
    }

    /// An init container that does its work.
    pub fn finishes(after: Span) -> Self {
        let mut life = Self::crash(after, 0);
        if let Some(death) = &mut life.death {
            death.reason = "Completed";
        }
        life
    }
}

impl Container {
    /// One that is well.
    pub fn new(name: &str, image: &str, role: Role, life: Life) -> Self {
        Self {
            name: name.to_owned(),
            image: image.to_owned(),
            role,
            pulls: Pulls::Found,
            needs: None,
            misconfigured: None,
            life,
        }
    }
}

impl Template {
    /// The first version of something.
    pub fn first(name: &str, random: &mut Random) -> Self {
        let ready = random.one_of(&[(2, 6), (5, 12), (10, 25)]);
        let image = format!("r.example/{name}:1");
        let mut containers = Vec::new();
        if random.chance(12) {
            let life = Life::finishes((2, 8));
            containers.push(Container::new("migrate", &image, Role::Init, life));
        }
        if random.chance(10) {
            let life = Life::good((1, 3));
            containers.push(Container::new(
                "mesh",
                "r.example/mesh:9",
                Role::Sidecar,
                life,
            ));
        }
        let mut app = Container::new("app", &image, Role::Main, Life::good(ready));
        app.needs = Some("db".to_owned());
        containers.push(app);
        if random.chance(12) {
            let life = Life::good((1, 4));
            containers.push(Container::new("log", "r.example/log:4", Role::Main, life));
        }
        Self {
            hash: random.word(6),
            containers,
            huge: false,
            restarted_at: None,
        }
    }

    /// The container that the version is about.
    pub fn app(&mut self) -> &mut Container {
        self.container("app")
    }

    /// A container by name; the last one if there is none of that name.
    pub fn container(&mut self, name: &str) -> &mut Container {
        let last = self.containers.len() - 1;
        let found = self.containers.iter().position(|it| it.name == name);
        &mut self.containers[found.unwrap_or(last)]
    }

    /// Whether there is a container of this name.
    pub fn has(&self, name: &str) -> bool {
        self.containers.iter().any(|it| it.name == name)
    }
}
