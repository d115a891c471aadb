//! The table of causes: what is injected, and what has to follow from it.

mod fire;
mod outage;
mod people;
mod quiet;
mod release;

use serde_json::Value;

use crate::film::Film;
use crate::random::Random;
use crate::sim::{Deployment, Strategy, Template, World};

/// What a judge has to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expect {
    /// The release is to blame: roll it back.
    Fire,
    /// It is not, or it is nobody's business: do nothing.
    Quiet,
}

impl Expect {
    /// As the files have it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Fire => "fire",
            Self::Quiet => "quiet",
        }
    }
}

/// What a cause needs to show.
#[derive(Clone, Copy, Debug)]
pub struct Needs {
    /// The least and the most pods.
    pub replicas: (i64, i64),
    /// Old pods have to be there next to new ones.
    pub rolling: bool,
    /// Nothing was there before.
    pub first: bool,
}

/// Any world will do.
const ANY: Needs = Needs {
    replicas: (1, 3),
    rolling: false,
    first: false,
};
/// Old and new pods side by side.
const ROLLING: Needs = Needs {
    rolling: true,
    ..ANY
};

/// Something that is injected.
#[derive(Clone, Copy)]
pub struct Cause {
    /// Its name, which is that of its family.
    pub name: &'static str,
    /// What has to follow.
    pub expect: Expect,
    /// How many episodes there are.
    pub seeds: u64,
    /// What it needs.
    pub needs: Needs,
    /// Injects it into a world at rest and plays to the end.
    pub inject: fn(&mut World),
}

const fn fire(name: &'static str, needs: Needs, inject: fn(&mut World)) -> Cause {
    Cause {
        name,
        expect: Expect::Fire,
        seeds: SEEDS,
        needs,
        inject,
    }
}

const fn quiet(name: &'static str, needs: Needs, inject: fn(&mut World)) -> Cause {
    Cause {
        name,
        expect: Expect::Quiet,
        seeds: SEEDS,
        needs,
        inject,
    }
}

/// More or fewer episodes than of others: some are small, and some are relatives of another family.
const fn so_many(seeds: u64, cause: Cause) -> Cause {
    Cause { seeds, ..cause }
}

const fn from(least: i64, most: i64, needs: Needs) -> Needs {
    Needs {
        replicas: (least, most),
        ..needs
    }
}

const FIRST: Needs = Needs { first: true, ..ANY };

/// All of them.
pub const ALL: &[Cause] = &[
    fire("crash-at-start", ANY, fire::crash_at_start),
    so_many(5, fire("bad-command", ANY, fire::bad_command)),
    fire(
        "crash-after-ready",
        from(1, 2, ANY),
        fire::crash_after_ready,
    ),
    fire("init-crash", ANY, fire::init_crash),
    so_many(
        5,
        fire("sidecar-crash", from(1, 4, ANY), fire::sidecar_crash),
    ),
    so_many(12, fire("image-missing", ANY, fire::image_missing)),
    so_many(
        15,
        fire("image-name-invalid", from(1, 20, ANY), fire::image_invalid),
    ),
    so_many(
        15,
        fire("config-error-new", from(1, 20, ANY), fire::config_error),
    ),
    so_many(
        15,
        fire("never-ready", from(1, 20, ROLLING), fire::never_ready),
    ),
    fire("ready-then-unready", ANY, fire::ready_then_unready),
    fire("liveness-kills", from(1, 2, ANY), fire::liveness_kills),
    fire("oom-killed", from(1, 2, ANY), fire::oom_killed),
    fire("crash-majority", from(3, 4, ROLLING), fire::crash_majority),
    so_many(15, fire("too-large", from(1, 20, ROLLING), fire::too_large)),
    fire("one-of-two-containers", ANY, fire::one_of_two),
    so_many(
        5,
        fire(
            "crash-and-node-outage",
            from(3, 4, ROLLING),
            fire::crash_and_node_outage,
        ),
    ),
    quiet("good-release", from(1, 6, ANY), release::good),
    quiet("slow-start", from(1, 2, ANY), release::slow_start),
    quiet("flapping-readiness", from(1, 2, ANY), release::flapping),
    quiet("crash-once", from(1, 2, ANY), release::crash_once),
    quiet(
        "hpa-during-rollout",
        from(2, 2, ROLLING),
        release::hpa_during,
    ),
    so_many(
        5,
        quiet("fixed-forward", from(1, 2, ANY), release::fixed_forward),
    ),
    so_many(
        8,
        quiet(
            "node-outage-in-rollout",
            from(3, 4, ROLLING),
            outage::node_in_rollout,
        ),
    ),
    so_many(
        8,
        quiet("node-outage-after", from(1, 2, ANY), outage::node_after),
    ),
    so_many(
        8,
        quiet(
            "registry-outage-old-too",
            from(2, 3, ROLLING),
            outage::registry_old_too,
        ),
    ),
    so_many(
        8,
        quiet("registry-outage-new-only", ANY, outage::registry_new_only),
    ),
    quiet("secret-gone", from(2, 2, ROLLING), outage::secret_gone),
    quiet("dependency-outage", from(2, 3, ROLLING), outage::dependency),
    so_many(5, quiet("node-drained", from(2, 4, ANY), outage::drained)),
    so_many(5, quiet("pod-evicted", from(1, 2, ANY), outage::evicted)),
    so_many(
        8,
        quiet("scale-up-by-hand", from(1, 2, ANY), people::scale_up),
    ),
    so_many(8, quiet("scale-up-by-hpa", from(1, 2, ANY), people::hpa)),
    so_many(12, quiet("paused", from(1, 20, ANY), people::paused)),
    quiet("manual-undo", from(1, 2, ANY), people::undo),
    quiet("scale-to-zero", from(1, 6, ANY), people::scale_to_zero),
    quiet("pod-deleted", from(1, 2, ANY), people::pod_deleted),
    so_many(12, quiet("first-revision", FIRST, quiet::first_revision)),
    quiet("trouble-next-day", from(1, 2, ANY), quiet::next_day),
];

/// How many episodes of a family, unless said otherwise.
const SEEDS: u64 = 10;
/// How many pods, by seed.
const REPLICAS: [i64; 15] = [3, 1, 2, 1, 3, 20, 2, 1, 2, 10, 3, 1, 2, 1, 2];
const DAY: i64 = 86_400;

impl Cause {
    /// The frames of one episode.
    pub fn play(&self, seed: u64) -> Vec<Value> {
        let mut world = self.world(seed);
        if !self.needs.first {
            settle(&mut world);
        }
        let replicas = world.deployment.replicas;
        world.film(Film::new(match replicas {
            ..=4 => 150,
            5..=8 => 200,
            9.. => 250,
        }));
        let before = world.random.between(2, 20);
        if !self.needs.first {
            world.run(before);
        }
        (self.inject)(&mut world);
        world.cut().map(Film::frames).unwrap_or_default()
    }

    fn world(&self, seed: u64) -> World {
        let mut random = Random::new(self.name, seed);
        let name = random.one_of(&["api", "cart", "pay", "web"]);
        let template = Template::first(name, &mut random);
        let index = usize::try_from(seed).unwrap_or(0) % REPLICAS.len();
        let (least, most) = self.needs.replicas;
        let mut deployment = Deployment::new(template, REPLICAS[index].clamp(least, most));
        if !self.needs.rolling && random.chance(20) {
            deployment.strategy = Strategy::Recreate;
        } else if random.chance(30) {
            let (surge, unavailable) = random.one_of(&[(-1, 0), (50, 0), (0, -1), (100, 0)]);
            deployment.strategy = Strategy::Rolling { surge, unavailable };
        }
        deployment.min_ready = random.one_of(&[0, 0, 0, 5, 10, 30]);
        deployment.deadline = random.one_of(&[600, 600, 600, 120, 300]);
        let nodes = random.between(3, 6);
        World::new(random, name, deployment, nodes)
    }
}

/// A version or two, all is well, and it has been so for a while.
fn settle(world: &mut World) {
    world.run_until(600, World::complete);
    if world.random.chance(40) {
        let days = world.random.between(1, 9);
        world.rest(days * DAY);
        let next = next(world);
        world.release(next);
        world.run(1);
        world.run_until(1_800, World::complete);
    }
    world.run(60);
    let hours = world.random.between(26, 200);
    world.rest(hours * 3_600);
    world.now += world.random.between(0, 3_599);
}

/// The next version, which is well.
fn next(world: &mut World) -> Template {
    world.version += 1;
    let mut template = world.deployment.template.clone();
    template.hash = world.random.word(6);
    let image = format!("r.example/{}:{}", world.name, world.version);
    for container in &mut template.containers {
        if container
            .image
            .starts_with(&format!("r.example/{}:", world.name))
        {
            container.image.clone_from(&image);
        }
    }
    template
}
