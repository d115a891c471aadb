//! What the alerts of one delivery are looked up by: once for all that lead to the same Deployment where their names
//! tell that, and no more than can be looked up in time.

use crate::resolve::about::About;
use crate::resolve::names::replica_set_of;

/// How much of one delivery is looked up. A storm that has more would take too long, be sent again, and take too long
/// again.
pub const MOST: usize = 500;
/// By how many of the pods of one `ReplicaSet` it is looked for: the first may only have such a name.
const WAYS: usize = 3;

/// Alerts that are about the same.
#[derive(Debug)]
pub struct Group<T> {
    /// What leads to it: any of these.
    pub ways: Vec<Vec<About>>,
    /// The alerts.
    pub members: Vec<T>,
}

impl<T> Default for Group<T> {
    fn default() -> Self {
        Self {
            ways: Vec::new(),
            members: Vec::new(),
        }
    }
}

impl<T> Group<T> {
    /// Takes one more.
    pub fn add(&mut self, abouts: Vec<About>, member: T) {
        if self.ways.len() < WAYS && !self.ways.contains(&abouts) {
            self.ways.push(abouts);
        }
        self.members.push(member);
    }
}

/// What is the same for all pods of one `ReplicaSet`: that, written as no pod is called, in the place of the pod.
pub fn kin(abouts: &[About]) -> Vec<About> {
    let one = |about: &About| match about {
        About::Deployment { .. } => about.clone(),
        About::Pod { namespace, name } => About::Pod {
            namespace: namespace.clone(),
            name: replica_set_of(name).map_or_else(|| name.clone(), |set| format!("{set}-")),
        },
    };
    abouts.iter().map(one).collect()
}

/// As many as can be looked up, and the others. `turn`: where it begins, so that each has its turn when all are sent
/// again.
pub fn cut<T>(mut all: Vec<T>, turn: usize) -> (Vec<T>, Vec<T>) {
    if all.len() <= MOST {
        return (all, Vec::new());
    }
    let start = turn % all.len();
    all.rotate_left(start);
    let others = all.split_off(MOST);
    (all, others)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn pod(name: &str) -> Vec<About> {
        vec![About::Pod {
            namespace: "shop".to_owned(),
            name: name.to_owned(),
        }]
    }

    /// A thousand pods of one `ReplicaSet` crash: that is one Deployment.
    #[test]
    fn a11_pods_of_one_replica_set_are_looked_up_once() {
        let mut groups: BTreeMap<Vec<About>, Group<usize>> = BTreeMap::new();
        let letters: Vec<char> = "bcdfghjklmnp".chars().collect();
        for number in 0..1000 {
            let suffix: String = (0..5)
                .map(|place| letters[(number / 12_usize.pow(place)) % 12])
                .collect();
            let abouts = pod(&format!("api-7d9c8b6f5-{suffix}"));
            groups.entry(kin(&abouts)).or_default().add(abouts, number);
        }
        assert_eq!(groups.len(), 1);
        let group = groups.values().next().unwrap();
        assert_eq!((group.ways.len(), group.members.len()), (WAYS, 1000));
        // Of what else nobody can tell by the name.
        for (one, other) in [
            ("web-0", "web-1"),
            ("api-7d9c8b6f5-x2k4q", "api-7d9c8b6f4-x2k4q"),
            ("node-agent-x2k4q", "node-agent-x2k4p"),
            ("api-7d9c8b6f5-debug", "api-7d9c8b6f5-other"),
        ] {
            assert_ne!(kin(&pod(one)), kin(&pod(other)), "{one}");
        }
        assert_ne!(kin(&pod("api-7d9c8b6f5-x2k4q")), kin(&pod("api-7d9c8b6f5")));
    }

    /// What one delivery has too much of has its turn when it is sent again.
    #[test]
    fn a11_each_of_a_storm_has_its_turn() {
        let all: Vec<usize> = (0..1200).collect();
        let mut seen = vec![false; all.len()];
        for turn in 0..3 {
            let (now, later) = cut(all.clone(), turn * MOST);
            assert_eq!((now.len(), later.len()), (MOST, 700));
            for it in now {
                seen[it] = true;
            }
        }
        assert!(seen.into_iter().all(|seen| seen));
        assert_eq!(cut(vec![1; MOST], 7), (vec![1; MOST], vec![]));
    }
}
