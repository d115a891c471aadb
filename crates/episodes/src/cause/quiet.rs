//! The release may be bad, and yet nothing is to be done.

use super::next;
use crate::sim::template::{Life, Pulls};
use crate::sim::{World, words};

/// There is nothing to go back to.
pub(super) fn first_revision(world: &mut World) {
    let chosen = world.random.between(0, 3);
    let app = world.deployment.template.app();
    match chosen {
        0 => app.life = Life::crash((1, 6), 1),
        1 => {
            let said = words::missing(&app.image, &mut world.random);
            app.pulls = Pulls::Missing(said);
        }
        2 => app.life.ready = None,
        _ => app.misconfigured = Some(words::misconfigured(&mut world.random)),
    }
    let seconds = world.random.between(430, 560);
    world.run(seconds);
}

/// The rollout ended long ago.
pub(super) fn next_day(world: &mut World) {
    let good = next(world);
    world.release(good);
    world.run(2);
    world.run_until(1_500, World::complete);
    world.run(120);
    let hours = world.random.between(25, 60);
    world.rest(hours * 3_600);
    let all = world.random.chance(60);
    let code = world.random.one_of(&[1, 137]);
    let unready = world.random.chance(30);
    let now = world.now;
    let pods = world.pods.iter_mut().enumerate();
    for (_, pod) in pods.filter(|(index, _)| all || *index == 0) {
        let app = pod.containers.iter_mut().find(|it| it.spec.name == "app");
        if let Some(app) = app {
            if unready {
                app.sour(now + 3);
            } else {
                app.doom(now + 3, Life::crash((1, 8), code));
            }
        }
    }
    world.run(330);
}
