//! The channels of each namespace, as the watch of the policies sees them.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use kube::ResourceExt;
use kube::core::DeserializeGuard;
use kube::runtime::watcher::Event;
use rollback_api::policy::Notifications;
use rollback_api::{POLICY_NAME, RollbackPolicy, TEST_CHANNEL};
use rollback_core::message::text::plain;

/// The channels of each namespace that has some.
#[derive(Default)]
pub struct Policies(Mutex<Known>);

#[derive(Default)]
struct Known {
    by_namespace: HashMap<String, Arc<Notifications>>,
    /// The UID of the policy, of those.
    uids: HashMap<String, String>,
    /// Those that were listed, while a list goes on.
    listed: HashSet<String>,
    /// The channel that was to be tried last, by namespace.
    tried: HashMap<String, String>,
}

/// A channel that somebody wants to be tried.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trial {
    /// Where.
    pub namespace: String,
    /// UID of the policy.
    pub policy_uid: String,
    /// Name of the channel.
    pub channel: String,
    /// The whole annotation, which is different for each trial.
    pub asked: String,
}

impl Policies {
    /// The channels of this namespace; none when it has none.
    pub fn of(&self, namespace: &str) -> Option<Arc<Notifications>> {
        self.locked().by_namespace.get(namespace).cloned()
    }

    /// The UID of the policy of this namespace; empty when it has no channels.
    pub fn uid(&self, namespace: &str) -> String {
        let known = self.locked();
        known.uids.get(namespace).cloned().unwrap_or_default()
    }

    /// Takes what a watch tells, and gives the channel that is to be tried. A policy that cannot be read has no channels.
    pub fn take(&self, event: &Event<DeserializeGuard<RollbackPolicy>>) -> Option<Trial> {
        let mut known = self.locked();
        let mut trial = None;
        match event {
            Event::Init => known.listed.clear(),
            Event::InitApply(policy) => {
                known.listed.insert(policy.namespace().unwrap_or_default());
                known.set(policy);
                // What was asked for before is known, or too old.
                known.trial(policy);
            }
            Event::InitDone => {
                let listed = std::mem::take(&mut known.listed);
                known
                    .by_namespace
                    .retain(|namespace, _| listed.contains(namespace));
            }
            Event::Apply(policy) => {
                known.set(policy);
                trial = known.trial(policy);
            }
            Event::Delete(policy) if policy.name_any() == POLICY_NAME => {
                known
                    .by_namespace
                    .remove(&policy.namespace().unwrap_or_default());
            }
            Event::Delete(_) => {}
        }
        trial
    }

    fn locked(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Known {
    /// What is to be tried, when it was not.
    fn trial(&mut self, policy: &DeserializeGuard<RollbackPolicy>) -> Option<Trial> {
        let asked = policy.annotations().get(TEST_CHANNEL)?.clone();
        let namespace = policy.namespace().unwrap_or_default();
        let before = self.tried.insert(namespace.clone(), asked.clone());
        let is_new = before.as_ref() != Some(&asked) && policy.name_any() == POLICY_NAME;
        let channel = asked
            .split_once('/')
            .map_or(asked.as_str(), |(name, _)| name);
        let channel = plain(channel, 40);
        is_new.then(|| Trial {
            channel,
            policy_uid: policy.uid().unwrap_or_default(),
            namespace,
            asked,
        })
    }

    fn set(&mut self, policy: &DeserializeGuard<RollbackPolicy>) {
        if policy.name_any() != POLICY_NAME {
            return;
        }
        let namespace = policy.namespace().unwrap_or_default();
        let channels = policy.0.as_ref().ok();
        let channels = channels.and_then(|policy| policy.spec.notifications.as_ref());
        match channels.filter(|it| !it.channels.is_empty()) {
            Some(channels) => {
                let uid = policy.uid().unwrap_or_default();
                self.uids.insert(namespace.clone(), uid);
                self.by_namespace
                    .insert(namespace, Arc::new(channels.clone()));
            }
            None => {
                self.by_namespace.remove(&namespace);
            }
        }
    }
}
