//! The channels of each namespace, as the watch of the policies sees them.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use kube::ResourceExt;
use kube::core::DeserializeGuard;
use kube::runtime::watcher::Event;
use rollback_api::policy::Notifications;
use rollback_api::{POLICY_NAME, RollbackPolicy};

use super::says_something;

/// The channels of each namespace that has some.
#[derive(Default)]
pub struct Policies(Mutex<Known>);

#[derive(Default)]
struct Known {
    by_namespace: HashMap<String, Arc<Notifications>>,
    /// Those that were listed, while a list goes on.
    listed: HashSet<String>,
}

impl Policies {
    /// The channels of this namespace; none when it has none.
    pub fn of(&self, namespace: &str) -> Option<Arc<Notifications>> {
        self.locked().by_namespace.get(namespace).cloned()
    }

    /// Takes what a watch tells. A policy that cannot be read has no channels.
    pub fn take(&self, event: &Event<DeserializeGuard<RollbackPolicy>>) {
        let mut known = self.locked();
        match event {
            Event::Init => known.listed.clear(),
            Event::InitApply(policy) => {
                known.listed.insert(policy.namespace().unwrap_or_default());
                known.set(policy);
            }
            Event::InitDone => {
                let listed = std::mem::take(&mut known.listed);
                known
                    .by_namespace
                    .retain(|namespace, _| listed.contains(namespace));
            }
            Event::Apply(policy) => known.set(policy),
            Event::Delete(policy) if policy.name_any() == POLICY_NAME => {
                known
                    .by_namespace
                    .remove(&policy.namespace().unwrap_or_default());
            }
            Event::Delete(_) => {}
        }
    }

    fn locked(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Known {
    fn set(&mut self, policy: &DeserializeGuard<RollbackPolicy>) {
        if policy.name_any() != POLICY_NAME {
            return;
        }
        let namespace = policy.namespace().unwrap_or_default();
        let channels = policy.0.as_ref().ok();
        let channels = channels.and_then(|policy| policy.spec.notifications.as_ref());
        match channels.filter(|it| says_something(it)) {
            Some(channels) => {
                self.by_namespace
                    .insert(namespace, Arc::new(channels.clone()));
            }
            None => {
                self.by_namespace.remove(&namespace);
            }
        }
    }
}
