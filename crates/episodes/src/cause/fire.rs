//! The release is to blame.

use super::next;
use crate::sim::template::{Container, Death, Life, Pulls, Role};
use crate::sim::{Pod, Template, World, words};

/// How long the product waits by default, in seconds.
const CRASH: i64 = 30;
const PULL: i64 = 60;
const UNREADY: i64 = 60;
const ROLLOUT: i64 = 300;

/// It stays bad for so long that nobody can say that he had no time to see it.
fn bad_for(world: &mut World, grace: i64) {
    let more = world.random.between(10, 60);
    world.run(grace + 120 + more);
}

/// Releases it and goes on for the grace from when a new pod shows the trouble.
fn release(world: &mut World, template: Template, grace: i64, shows: impl Fn(&Pod) -> bool) {
    world.release(template);
    world.run(2);
    world.run_until(1_800, |it| it.new_pods().any(&shows));
    bad_for(world, grace);
}

fn crash_loops(pod: &Pod) -> bool {
    pod.waits_for("CrashLoopBackOff")
}

fn death(first: (i64, i64), later: (i64, i64), code: i64, reason: &'static str) -> Death {
    Death {
        first,
        later,
        times: None,
        code,
        reason,
        message: None,
    }
}

pub(super) fn crash_at_start(world: &mut World) {
    let mut bad = next(world);
    let code = world.random.one_of(&[1, 1, 2, 134, 139, 255]);
    let lasts = world.random.one_of(&[(0, 1), (1, 4), (3, 12)]);
    bad.app().life = Life::crash(lasts, code);
    release(world, bad, CRASH, crash_loops);
}

pub(super) fn bad_command(world: &mut World) {
    let mut bad = next(world);
    let mut life = Life::crash((0, 0), 128);
    if let Some(death) = &mut life.death {
        death.reason = "StartError";
        death.message = Some(
            "failed to create containerd task: failed to create shim task: OCI runtime create failed: runc create failed: unable to start container process: error during container init: exec: \"/bin/srv\": stat /bin/srv: no such file or directory: unknown".to_owned(),
        );
    }
    bad.app().life = life;
    release(world, bad, CRASH, crash_loops);
}

pub(super) fn crash_after_ready(world: &mut World) {
    let mut bad = next(world);
    let first = world.random.between(30, 180);
    let first = (first, first + 20);
    let later = world.random.one_of(&[(1, 6), (20, 60), first]);
    bad.app().life.ready = Some((3, 12));
    bad.app().life.death = Some(death(first, later, 1, "Error"));
    release(world, bad, CRASH, |pod| pod.restarts() >= 3);
}

pub(super) fn init_crash(world: &mut World) {
    let mut bad = next(world);
    if !bad.has("migrate") {
        let image = bad.app().image.clone();
        let new = Container::new("migrate", &image, Role::Init, Life::good((1, 1)));
        bad.containers.insert(0, new);
    }
    let code = world.random.one_of(&[1, 1, 7, 137]);
    let lasts = world.random.one_of(&[(0, 2), (2, 10)]);
    bad.container("migrate").life = Life::crash(lasts, code);
    release(world, bad, CRASH, crash_loops);
}

pub(super) fn sidecar_crash(world: &mut World) {
    let mut bad = next(world);
    if !bad.has("mesh") {
        let new = Container::new(
            "mesh",
            "r.example/mesh:9",
            Role::Sidecar,
            Life::good((1, 1)),
        );
        bad.containers.insert(0, new);
    }
    "r.example/mesh:10".clone_into(&mut bad.container("mesh").image);
    bad.container("mesh").life = Life::crash((1, 5), 1);
    release(world, bad, CRASH, crash_loops);
}

pub(super) fn image_missing(world: &mut World) {
    let mut bad = next(world);
    let which = if bad.has("migrate") && world.random.chance(30) {
        "migrate"
    } else {
        "app"
    };
    let container = bad.container(which);
    let typo = world.random.one_of(&["-rc", "1", "-amd64"]);
    container.image.push_str(typo);
    container.pulls = Pulls::Missing(words::missing(&container.image, &mut world.random));
    release(world, bad, PULL, |pod| pod.waits_for("ErrImagePull"));
}

pub(super) fn image_invalid(world: &mut World) {
    let mut bad = next(world);
    let wrong = [
        "r.example/API:2",
        "r.example/api:v2:latest",
        "r.example/api: 2",
        "https://r.example/api:2",
    ];
    let container = bad.app();
    world.random.one_of(&wrong).clone_into(&mut container.image);
    container.pulls = Pulls::Invalid(words::invalid(&container.image));
    release(world, bad, PULL, |pod| pod.waits_for("InvalidImageName"));
}

pub(super) fn config_error(world: &mut World) {
    let mut bad = next(world);
    bad.app().misconfigured = Some(words::misconfigured(&mut world.random));
    release(world, bad, PULL, |pod| {
        pod.waits_for("CreateContainerConfigError")
    });
}

pub(super) fn never_ready(world: &mut World) {
    let mut bad = next(world);
    bad.app().life.ready = None;
    release(world, bad, ROLLOUT, Pod::started);
}

pub(super) fn ready_then_unready(world: &mut World) {
    let mut bad = next(world);
    let after = world.random.between(15, 150);
    bad.app().life.sours = Some((after, after + 15));
    release(world, bad, UNREADY, |pod| {
        !pod.ready.0 && pod.ready.1 != pod.created
    });
}

pub(super) fn liveness_kills(world: &mut World) {
    let mut bad = next(world);
    let lasts = world.random.between(30, 70);
    let lasts = (lasts, lasts + 10);
    if world.random.chance(50) {
        bad.app().life.ready = None;
    }
    let code = world.random.one_of(&[137, 137, 143]);
    bad.app().life.death = Some(death(lasts, lasts, code, "Error"));
    release(world, bad, CRASH, |pod| pod.restarts() >= 3);
}

pub(super) fn oom_killed(world: &mut World) {
    let mut bad = next(world);
    let lasts = world.random.one_of(&[(1, 5), (10, 30), (30, 80)]);
    bad.app().life.death = Some(death(lasts, lasts, 137, "OOMKilled"));
    release(world, bad, CRASH, |pod| pod.restarts() >= 3);
}

pub(super) fn crash_majority(world: &mut World) {
    let mut bad = next(world);
    let ready = bad.app().life.ready;
    bad.app().life = Life::crash((1, 8), 1);
    bad.app().life.ready = ready;
    bad.app().life.share = world.random.between(60, 85);
    release(world, bad, CRASH, crash_loops);
}

pub(super) fn too_large(world: &mut World) {
    let mut bad = next(world);
    bad.huge = true;
    release(world, bad, ROLLOUT, |pod| pod.refused.is_some());
}

pub(super) fn one_of_two(world: &mut World) {
    let mut bad = next(world);
    if !bad.has("log") {
        let new = Container::new("log", "r.example/log:4", Role::Main, Life::good((1, 4)));
        bad.containers.push(new);
    }
    let which = world.random.one_of(&["log", "app"]);
    bad.container(which).life = Life::crash((1, 6), 1);
    release(world, bad, CRASH, crash_loops);
}

/// Something else is wrong at the same time, and that is no excuse.
pub(super) fn crash_and_node_outage(world: &mut World) {
    let mut bad = next(world);
    bad.app().life = Life::crash((1, 5), 1);
    world.release(bad);
    world.run(4);
    let new = |world: &World, node: usize| world.new_pods().any(|pod| pod.node == Some(node));
    let free = (0..world.nodes.len()).find(|node| !new(world, *node));
    if let Some(node) = free {
        world.lose_node(node);
    }
    world.run_until(120, |it| it.new_pods().any(crash_loops));
    bad_for(world, CRASH);
}
