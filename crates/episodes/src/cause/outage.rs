//! Something else than the release is to blame.

use super::next;
use crate::sim::{Strategy, World, words};

/// It ends, or it does not.
fn maybe_ends(world: &mut World, end: impl Fn(&mut World)) {
    if world.random.chance(60) {
        end(world);
        world.run_until(1_500, World::complete);
        let more = world.random.between(30, 90);
        world.run(more);
    }
}

fn lasts(world: &mut World, least: i64, most: i64) {
    let seconds = world.random.between(least, most);
    world.run(seconds);
}

/// A good release whose pods take a little while.
fn release(world: &mut World, ready: (i64, i64)) {
    let mut good = next(world);
    good.app().life.ready = Some(ready);
    world.release(good);
}

fn complete(world: &mut World) {
    world.run(2);
    world.run_until(2_000, World::complete);
}

pub(super) fn node_in_rollout(world: &mut World) {
    release(world, (30, 60));
    let both = |world: &World, node: usize| {
        world
            .new_pods()
            .any(|pod| pod.node == Some(node) && pod.started())
            && world.old_pods().any(|pod| pod.node == Some(node))
    };
    let some = |world: &World| (0..world.nodes.len()).find(|node| both(world, *node));
    world.run_until(200, |it| some(it).is_some());
    let node = some(world).unwrap_or_else(|| world.busiest_node(|_| true));
    world.lose_node(node);
    lasts(world, 250, 600);
    let rebooted = world.random.chance(50);
    maybe_ends(world, |it| it.find_node(node, rebooted));
}

pub(super) fn node_after(world: &mut World) {
    release(world, (5, 20));
    complete(world);
    lasts(world, 20, 250);
    let node = world.busiest_node(|_| true);
    world.lose_node(node);
    lasts(world, 250, 600);
    let rebooted = world.random.chance(50);
    maybe_ends(world, |it| it.find_node(node, rebooted));
}

/// Old pods that fail are not tidied away by the rollout.
fn keep_old(world: &mut World) {
    let surge = world.random.one_of(&[-1, 25, 50]);
    world.deployment.strategy = Strategy::Rolling {
        surge,
        unavailable: 0,
    };
    world.deployment.generation += 1;
    world.run(3);
}

/// Some old pods have to start anew, shortly before the release or after it.
fn release_and_restart_old(world: &mut World) {
    let release_first = world.random.chance(50);
    if release_first {
        release(world, (5, 20));
        lasts(world, 1, 8);
    }
    let old: Vec<String> = world
        .pods
        .iter()
        .filter(|pod| pod.deleted.is_none() && pod.ready.0)
        .map(|pod| pod.uid.clone())
        .collect();
    let some = old.len().div_ceil(3);
    for uid in old.iter().take(some) {
        world.delete_pod(uid);
    }
    if !release_first {
        lasts(world, 1, 12);
        release(world, (5, 20));
    }
}

pub(super) fn registry_old_too(world: &mut World) {
    keep_old(world);
    world.faults.pull_always = true;
    world.faults.registry = Some(words::registry_outage(&mut world.random));
    release_and_restart_old(world);
    lasts(world, 200, 450);
    maybe_ends(world, |it| it.faults.registry = None);
}

pub(super) fn registry_new_only(world: &mut World) {
    world.faults.registry = Some(words::registry_outage(&mut world.random));
    release(world, (5, 20));
    lasts(world, 200, 450);
    maybe_ends(world, |it| it.faults.registry = None);
}

pub(super) fn secret_gone(world: &mut World) {
    keep_old(world);
    world.faults.gone.push("db".to_owned());
    release_and_restart_old(world);
    lasts(world, 200, 450);
    maybe_ends(world, |it| it.faults.gone.clear());
}

pub(super) fn dependency(world: &mut World) {
    keep_old(world);
    release(world, (10, 30));
    world.run_until(200, |it| it.new_pods().any(|pod| pod.ready.0));
    world.faults.dependency = true;
    lasts(world, 150, 420);
    maybe_ends(world, |it| it.faults.dependency = false);
}

pub(super) fn drained(world: &mut World) {
    release(world, (15, 40));
    if world.random.chance(60) {
        complete(world);
    }
    lasts(world, 10, 60);
    let node = world.busiest_node(|_| true);
    world.drain(node);
    lasts(world, 200, 300);
}

/// A node runs out of disk and throws a pod away.
pub(super) fn evicted(world: &mut World) {
    release(world, (5, 30));
    complete(world);
    lasts(world, 20, 200);
    let now = world.now;
    if let Some(pod) = world.pods.iter_mut().find(|pod| pod.deleted.is_none()) {
        pod.evict(now);
    }
    lasts(world, 200, 300);
}
