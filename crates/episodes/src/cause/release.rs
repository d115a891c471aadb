//! Releases that are well, or well enough.

use super::next;
use crate::sim::template::{Death, Life};
use crate::sim::{World, stamp};

/// Until it is rolled out, and for a while.
fn finish(world: &mut World) {
    world.run(2);
    world.run_until(4_000, World::complete);
    let more = world.random.between(90, 200);
    world.run(more);
}

pub(super) fn good(world: &mut World) {
    let mut good = next(world);
    if world.random.chance(25) {
        let now = world.deployment.template.clone();
        good.containers = now.containers;
        good.restarted_at = Some(stamp(world.now));
    }
    world.pull = world.random.one_of(&[(1, 6), (10, 40)]);
    world.release(good);
    finish(world);
}

pub(super) fn slow_start(world: &mut World) {
    let mut good = next(world);
    let ready = world
        .random
        .one_of(&[(70, 110), (120, 200), (200, 280), (260, 280)]);
    good.app().life.ready = Some(ready);
    world.release(good);
    finish(world);
}

pub(super) fn flapping(world: &mut World) {
    let mut good = next(world);
    let lasts = world.random.one_of(&[(3, 15), (15, 35), (30, 40)]);
    good.app().life.flaps = Some(((60, 150), lasts));
    world.release(good);
    finish(world);
    world.run(120);
}

pub(super) fn crash_once(world: &mut World) {
    let mut good = next(world);
    let first = world.random.one_of(&[(0, 3), (2, 10), (10, 25)]);
    let life = Life::good((4, 20));
    good.app().life = Life {
        death: Some(Death {
            first,
            later: first,
            times: Some(1),
            code: 1,
            reason: "Error",
            message: None,
        }),
        share: world.random.one_of(&[50, 100]),
        ..life
    };
    world.release(good);
    finish(world);
}

pub(super) fn hpa_during(world: &mut World) {
    let mut good = next(world);
    good.app().life.ready = Some((15, 45));
    world.release(good);
    for _ in 0..world.random.between(1, 3) {
        let pause = world.random.between(8, 40);
        world.run(pause);
        let more = world.random.one_of(&[1, 2, 3, -1]);
        world.scale((world.deployment.replicas + more).max(1));
    }
    finish(world);
}

/// It crashes, and its people replace it before anybody else could.
pub(super) fn fixed_forward(world: &mut World) {
    let mut bad = next(world);
    bad.app().life = Life::crash((1, 4), 1);
    let mut good = next(world);
    good.app().life = Life::good((4, 20));
    world.release(bad);
    world.run(2);
    world.run_until(60, |it| it.new_pods().any(|pod| pod.restarts() > 0));
    let pause = world.random.between(3, 18);
    world.run(pause);
    world.release(good);
    finish(world);
}
