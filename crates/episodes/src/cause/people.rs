//! Somebody is at work, and it is no release.

use super::next;
use crate::sim::template::{Life, Template};
use crate::sim::{World, count, words};

fn lasts(world: &mut World, least: i64, most: i64) {
    let seconds = world.random.between(least, most);
    world.run(seconds);
}

/// Half of the time there was a good release shortly before.
fn maybe_released(world: &mut World) {
    if world.random.chance(50) {
        let good = next(world);
        world.release(good);
        world.run(2);
        world.run_until(1_500, World::complete);
        lasts(world, 30, 400);
    }
}

/// From now on, pods of the newest version are made like this.
fn from_now_on(world: &mut World, change: impl Fn(&mut Template)) {
    let hash = world.deployment.template.hash.clone();
    for set in &mut world.sets {
        if set.template.hash == hash {
            change(&mut set.template);
        }
    }
}

/// More pods do not come up soon, and that has many causes.
fn hinder(world: &mut World) {
    match world.random.between(0, 4) {
        0 => {
            let there = count(world.pods.iter());
            let some = world.random.between(0, 1);
            world.faults.room = Some(there + some);
        }
        1 => from_now_on(world, |it| it.app().life.ready = Some((120, 280))),
        2 => {
            world.faults.pull_always = true;
            world.pull = (70, 200);
        }
        3 => {
            world.faults.pull_always = true;
            world.faults.registry = Some(words::registry_outage(&mut world.random));
        }
        _ => from_now_on(world, |it| it.app().life.ready = None),
    }
}

pub(super) fn scale_up(world: &mut World) {
    maybe_released(world);
    hinder(world);
    let more = world.random.between(1, 4);
    world.scale(world.deployment.replicas + more);
    lasts(world, 320, 520);
    if world.random.chance(40) {
        world.scale(world.deployment.replicas - more);
        world.run(60);
    }
}

pub(super) fn hpa(world: &mut World) {
    maybe_released(world);
    hinder(world);
    for _ in 0..world.random.between(2, 4) {
        let more = world.random.between(1, 2);
        world.scale(world.deployment.replicas + more);
        lasts(world, 30, 90);
    }
    lasts(world, 250, 350);
    let fewer = world.random.between(0, 2);
    world.scale((world.deployment.replicas - fewer).max(1));
    world.run(60);
}

pub(super) fn paused(world: &mut World) {
    let mut bad = next(world);
    match world.random.between(0, 3) {
        // Nothing is rolled out at all.
        0 => {
            bad.app().life = Life::crash((1, 4), 1);
            world.pause(true);
            world.run(5);
            world.release(bad);
        }
        // Somebody watches the first pods and stops.
        1 => {
            bad.app().life = Life::crash((1, 4), 1);
            world.release(bad);
            lasts(world, 4, 15);
            world.pause(true);
        }
        2 => {
            bad.app().life.ready = None;
            world.release(bad);
            lasts(world, 20, 100);
            world.pause(true);
        }
        // A canary that is well.
        _ => {
            world.release(bad);
            lasts(world, 3, 20);
            world.pause(true);
        }
    }
    lasts(world, 420, 560);
}

pub(super) fn undo(world: &mut World) {
    let newer = next(world);
    world.release(newer);
    world.run(2);
    world.run_until(1_500, World::complete);
    lasts(world, 60, 900);
    world.undo();
    match world.random.between(0, 3) {
        0 => from_now_on(world, |it| it.app().life.ready = Some((150, 280))),
        1 => from_now_on(world, |it| it.app().life.ready = None),
        2 => from_now_on(world, |it| it.app().life = Life::crash((1, 8), 1)),
        _ => {}
    }
    lasts(world, 330, 480);
}

pub(super) fn scale_to_zero(world: &mut World) {
    let replicas = world.deployment.replicas;
    maybe_released(world);
    if world.random.chance(30) {
        // In the middle of a release.
        let good = next(world);
        world.release(good);
        lasts(world, 5, 25);
    }
    world.scale(0);
    lasts(world, 200, 400);
    if world.random.chance(40) {
        world.scale(replicas);
        lasts(world, 90, 200);
    }
}

pub(super) fn pod_deleted(world: &mut World) {
    let mut good = next(world);
    good.app().life.ready = Some((10, 50));
    world.release(good);
    world.run(2);
    if world.random.chance(70) {
        world.run_until(2_000, World::complete);
    }
    for _ in 0..world.random.between(1, 3) {
        lasts(world, 5, 60);
        let uids: Vec<String> = world.pods.iter().map(|pod| pod.uid.clone()).collect();
        let uid = world.random.one_of(&uids);
        world.delete_pod(&uid);
    }
    lasts(world, 200, 300);
}
