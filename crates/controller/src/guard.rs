//! The admission policies that make approvals true: which of them are there, which versions, and whether they are what
//! this controller was built with.
//!
//! They are watched, because they hardly ever change and a list of them costs a tenth of a second. When
//! an approval is about to be counted, those that make it true are read live: an approval that was
//! written while they were away must not count because a watch is late. What forged attempts came to
//! (`selftest`) is kept here as well.
//!
//! Servers before 1.36 do not have the kinds that write who asks and who approves. The guard is complete without them,
//! because what is checked in the end is the same; so a server that could have them and does not is a warning.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use futures::future::{BoxFuture, FutureExt};
use futures::{Stream, StreamExt};
use kube::core::DynamicObject;
use kube::runtime::reflector::store::Writer;
use kube::runtime::watcher::Event;
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client, ResourceExt};
use rollback_api::GUARD_LABEL;
use rollback_core::observed::{Guard, GuardPolicy};
use rollback_observe::guard::Expected;
use rollback_observe::{Error, reading};
use serde_json::Value;
use tokio::sync::watch;

pub use rollback_observe::guard::{GuardKind, Place, Unreadable};

use crate::metrics::Metrics;
use crate::watch::WATCH_SECONDS;

/// Those without which an approval could have been written by anybody, or for another plan than the one that it is
/// counted for.
const APPROVAL: [&str; 6] = [
    "rollback-guard-approval",
    "rollback-guard-create",
    "rollback-guard-spec",
    "rollback-guard-stamps",
    "rollback-guard-status",
    "rollback-guard-withdrawal",
];

/// What is wrong with which object, in sentences without an end.
pub type Holes = BTreeMap<Place, String>;

/// How often it is looked whether the API server has a kind by now that it did not have.
const NOT_SERVED: Duration = Duration::from_secs(15);

/// Who writes who asks and who approves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stamp {
    /// The API server.
    InForce,
    /// They themselves: this API server has no such policies.
    NotServed,
    /// They themselves, although it could; and what is wrong.
    Missing(String),
    /// They themselves: the policies that stamp are all there, and the API server did not obey them when that was tried. It
    /// takes up a policy some time after it has accepted it.
    Disobeyed,
}

impl Stamp {
    /// What is wrong with it, when something is.
    fn lack(&self) -> &str {
        match self {
            Self::InForce | Self::NotServed => "",
            Self::Missing(what) => what,
            Self::Disobeyed => "MutatingAdmissionPolicy rollback-guard-stamp is not obeyed",
        }
    }
}

/// What forged attempts came to.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Tried {
    /// What did not hold.
    pub holes: Holes,
    /// Whether the API server put a forged name right. `None` while nobody knows.
    pub stamps: Option<bool>,
}

/// The guard as the watches see it, and as it was tried.
pub struct GuardWatch {
    expected: Arc<Expected>,
    seen: watch::Sender<SeenObject>,
    tried: watch::Sender<Option<Tried>>,
}

/// What the watches see.
#[derive(Clone, Debug, Default, PartialEq)]
struct SeenObject {
    /// The kinds of which everything was seen once.
    listed: BTreeSet<GuardKind>,
    /// The kinds that the API server does not have.
    not_served: BTreeSet<GuardKind>,
    found: BTreeMap<Place, Finding>,
}

/// One object that is there.
#[derive(Clone, Debug, PartialEq)]
struct Finding {
    policy: GuardPolicy,
    /// Where it begins to differ from what was expected.
    difference: Option<String>,
}

impl GuardWatch {
    /// The watches, and the future that keeps them up to date and says what they see.
    pub fn new(
        client: &Client,
        metrics: Arc<Metrics>,
    ) -> Result<(Arc<Self>, BoxFuture<'static, ()>), Unreadable> {
        let guard = Arc::new(Self {
            expected: Arc::new(Expected::shipped()?),
            seen: watch::Sender::default(),
            tried: watch::Sender::default(),
        });
        let watches = GuardKind::ALL.map(|kind| guard.follow(client, kind));
        let report = guard.clone().report(metrics);
        let all = futures::future::join(futures::future::join_all(watches), report);
        Ok((guard, all.map(|_| ()).boxed()))
    }

    /// Waits until every watch has seen everything once.
    pub async fn ready(&self) {
        let all = |seen: &SeenObject| seen.listed.len() == GuardKind::ALL.len();
        // The sender is ours, so there is always somebody who could still say so.
        let _ = self.seen.subscribe().wait_for(all).await;
    }

    /// Waits until forged attempts were made once, or could not be.
    pub async fn tested(&self) {
        let _ = self.tried.subscribe().wait_for(Option::is_some).await;
    }

    /// Hears of changes of the objects.
    pub fn objects(&self) -> ObjectChanges {
        ObjectChanges(self.seen.subscribe())
    }

    /// Something for each change of what [`GuardWatch::seen`] says.
    pub fn changes(&self) -> impl Stream<Item = ()> + Send + use<> {
        let both = (self.seen.subscribe(), self.tried.subscribe());
        futures::stream::unfold(both, |(mut seen, mut tried)| async move {
            let changed = tokio::select! {
                changed = seen.changed() => changed,
                changed = tried.changed() => changed,
            };
            changed.ok().map(|()| ((), (seen, tried)))
        })
    }

    /// Whether there has to be a policy of this name.
    pub fn expects(&self, place: &Place) -> bool {
        self.expected.places().any(|expected| expected == place)
    }

    /// What forged attempts came to.
    pub fn judge(&self, now: Tried) {
        self.tried.send_if_modified(|tried| {
            let now = Some(now);
            let changed = *tried != now;
            *tried = now;
            changed
        });
    }

    /// The guard as last seen.
    pub fn seen(&self) -> Guard {
        self.guard(&self.seen.borrow())
    }

    /// The guard as last seen, with what makes an approval true as it is now.
    pub async fn confirmed(&self, client: &Client) -> Result<Guard, Error> {
        let places: Vec<&Place> = self
            .expected
            .places()
            .filter(|place| APPROVAL.contains(&place.name.as_str()))
            .collect();
        let reads = places.iter().map(|place| live(client, place));
        let live = reading(
            "the admission policies",
            futures::future::try_join_all(reads).await,
        )?;
        let mut seen = self.seen.borrow().clone();
        for (place, object) in places.into_iter().zip(live) {
            let labelled = object.filter(|object| object.labels().contains_key(GUARD_LABEL));
            match labelled.and_then(|object| finding(place, &object, &self.expected)) {
                Some(finding) => seen.found.insert(place.clone(), finding),
                None => seen.found.remove(place),
            };
        }
        Ok(self.guard(&seen))
    }

    /// What makes approvals true is what checks them in the end: whether they were typed or stamped, the plan is the same, and
    /// what was approved before the stamp came counts after it.
    fn guard(&self, seen: &SeenObject) -> Guard {
        let checking = seen.found.iter().filter(|(place, _)| !place.kind.stamps());
        let mut present: Vec<GuardPolicy> = checking
            .map(|(_, finding)| finding.policy.clone())
            .collect();
        present.sort();
        Guard {
            present,
            holes: self.holes(seen).into_values().collect(),
            typed: self.stamp(seen) != Stamp::InForce,
        }
    }

    fn stamp(&self, seen: &SeenObject) -> Stamp {
        if seen.not_served.iter().any(|kind| kind.stamps()) {
            return Stamp::NotServed;
        }
        let mut stamping = self.expected.places().filter(|place| place.kind.stamps());
        if let Some(Place { kind, name }) = stamping.find(|place| !seen.found.contains_key(place)) {
            return Stamp::Missing(format!("{} {name} is missing", kind.as_str()));
        }
        match self.tried.borrow().as_ref().and_then(|tried| tried.stamps) {
            Some(false) => Stamp::Disobeyed,
            Some(true) | None => Stamp::InForce,
        }
    }

    /// Whether policies that stamp are there and are not obeyed.
    pub fn is_stamp_disobeyed(&self) -> bool {
        self.stamp(&self.seen.borrow()) == Stamp::Disobeyed
    }

    fn holes(&self, seen: &SeenObject) -> Holes {
        let tried = self.tried.borrow();
        let hole = |place: &Place| {
            let Place { kind, name } = place;
            let kind = kind.as_str();
            match seen.found.get(place).map(|finding| &finding.difference) {
                None if place.kind.stamps() => None,
                None => Some(format!("{kind} {name} is missing")),
                Some(Some(path)) => Some(format!(
                    "{kind} {name} differs from what this controller was built with ({path})"
                )),
                Some(None) => tried.as_ref()?.holes.get(place).cloned(),
            }
        };
        let places = self.expected.places();
        places
            .filter_map(|place| Some((place.clone(), hole(place)?)))
            .collect()
    }

    fn follow(&self, client: &Client, kind: GuardKind) -> BoxFuture<'static, ()> {
        let client = client.clone();
        let (expected, seen) = (self.expected.clone(), self.seen.clone());
        async move {
            loop {
                watched(&client, kind, &expected, &seen).await;
                // The API server may have it once it has been upgraded.
                tokio::time::sleep(NOT_SERVED).await;
            }
        }
        .boxed()
    }

    /// Says whether approvals count, with each change of that.
    async fn report(self: Arc<Self>, metrics: Arc<Metrics>) {
        let mut changes = std::pin::pin!(self.changes());
        self.ready().await;
        let (mut told, mut told_stamp) = (None, None);
        loop {
            let seen = self.seen.borrow().clone();
            let (holes, stamp) = (self.holes(&seen), self.stamp(&seen));
            let places = self.expected.places();
            metrics.guard(
                places.map(|place| (place.kind.as_str(), &*place.name, holes.contains_key(place))),
            );
            metrics.guard_stamp(&stamp);
            if told.as_ref() != Some(&holes) {
                log(&holes);
                told = Some(holes);
            }
            if told_stamp.as_ref() != Some(&stamp) {
                log_stamp(&stamp);
                told_stamp = Some(stamp);
            }
            if changes.next().await.is_none() {
                return;
            }
        }
    }
}

/// Hears of changes of the objects, but not of what forged attempts came to.
pub struct ObjectChanges(watch::Receiver<SeenObject>);

impl ObjectChanges {
    /// Waits for the next one.
    pub async fn next(&mut self) {
        if self.0.changed().await.is_err() {
            // The process is ending.
            std::future::pending::<()>().await;
        }
    }

    /// What was until now is known.
    pub fn known(&mut self) {
        self.0.mark_unchanged();
    }
}

fn log(holes: &Holes) {
    if holes.is_empty() {
        tracing::info!("the guard is in force");
        return;
    }
    let said: Vec<&str> = holes.values().map(String::as_str).collect();
    let holes = said.join("; ");
    tracing::warn!(%holes, "no approval counts: the guard has holes; kubectl apply -f deploy/ installs it");
}

fn log_stamp(stamp: &Stamp) {
    match stamp {
        Stamp::InForce => tracing::info!("the API server writes who asks and who approves"),
        Stamp::NotServed => tracing::info!(
            "who asks and who approves write their own names, and the API server compares them: it has no \
             MutatingAdmissionPolicy v1"
        ),
        Stamp::Missing(_) | Stamp::Disobeyed => tracing::warn!(
            why = stamp.lack(),
            "who asks and who approves write their own names, and the API server compares them; this one could write them \
             itself: kubectl apply -f deploy/21-guard-stamp.yaml"
        ),
    }
}

/// Follows the objects of a kind until the API server says that it does not have it.
async fn watched(
    client: &Client,
    kind: GuardKind,
    expected: &Expected,
    seen: &watch::Sender<SeenObject>,
) {
    let resource = kind.resource();
    let api: Api<DynamicObject> = Api::all_with(client.clone(), &resource);
    let labelled = watcher::Config::default()
        .labels(GUARD_LABEL)
        .timeout(WATCH_SECONDS);
    let writer = Writer::new(resource);
    let store = writer.as_reader();
    let events = watcher(api, labelled)
        .default_backoff()
        .modify(|object| object.metadata.managed_fields = None)
        .reflect(writer);
    let mut events = std::pin::pin!(events);
    while let Some(event) = events.next().await {
        match event {
            Ok(Event::Init | Event::InitApply(_)) => {}
            Ok(Event::InitDone | Event::Apply(_) | Event::Delete(_)) => {
                see(seen, expected, kind, Some(&store.state()));
            }
            Err(error) if is_not_served(&error) => return see(seen, expected, kind, None),
            Err(error) => {
                tracing::warn!(%error, kind = kind.as_str(), "a watch failed and is made anew; no plan is made before the guard is seen");
            }
        }
    }
}

/// Whether the API server does not have the kind at all.
fn is_not_served(error: &watcher::Error) -> bool {
    match error {
        watcher::Error::InitialListFailed(kube::Error::Api(status))
        | watcher::Error::WatchStartFailed(kube::Error::Api(status)) => status.code == 404,
        watcher::Error::InitialListFailed(_)
        | watcher::Error::WatchStartFailed(_)
        | watcher::Error::WatchError(_)
        | watcher::Error::WatchFailed(_)
        | watcher::Error::NoResourceVersion => false,
    }
}

/// Takes up what is there of a kind; `None` when the API server does not have it.
fn see(
    seen: &watch::Sender<SeenObject>,
    expected: &Expected,
    kind: GuardKind,
    objects: Option<&[Arc<DynamicObject>]>,
) {
    let found = objects.into_iter().flatten().filter_map(|object| {
        let name = object.name_any();
        let place = Place { kind, name };
        let finding = finding(&place, object, expected)?;
        Some((place, finding))
    });
    seen.send_if_modified(|seen| {
        let mut now = seen.clone();
        now.listed.insert(kind);
        if objects.is_some() {
            now.not_served.remove(&kind);
        } else {
            now.not_served.insert(kind);
        }
        now.found.retain(|place, _| place.kind != kind);
        now.found.extend(found);
        let changed = *seen != now;
        *seen = now;
        changed
    });
}

/// What is there; nothing when it is on its way out, because then it no longer guards.
fn finding(place: &Place, object: &DynamicObject, expected: &Expected) -> Option<Finding> {
    if object.metadata.deletion_timestamp.is_some() {
        return None;
    }
    let policy = GuardPolicy {
        kind: place.kind.as_str().to_owned(),
        name: place.name.clone(),
        uid: object.metadata.uid.clone().unwrap_or_default(),
        generation: object.metadata.generation.unwrap_or_default(),
    };
    let spec = object.data.get("spec").unwrap_or(&Value::Null);
    Some(Finding {
        policy,
        difference: expected.difference(place, spec),
    })
}

async fn live(client: &Client, place: &Place) -> kube::Result<Option<DynamicObject>> {
    let api: Api<DynamicObject> = Api::all_with(client.clone(), &place.kind.resource());
    api.get_opt(&place.name).await
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A guard of which everything is there, as it was meant.
    fn intact() -> Result<GuardWatch, Unreadable> {
        let expected = Expected::shipped()?;
        let finding = |place: &Place| Finding {
            policy: GuardPolicy {
                kind: place.kind.as_str().to_owned(),
                name: place.name.clone(),
                uid: String::new(),
                generation: 1,
            },
            difference: None,
        };
        let found = expected.places();
        let found = found.map(|place| (place.clone(), finding(place))).collect();
        let seen = SeenObject {
            listed: GuardKind::ALL.into(),
            not_served: BTreeSet::new(),
            found,
        };
        Ok(GuardWatch {
            expected: Arc::new(expected),
            seen: watch::Sender::new(seen),
            tried: watch::Sender::default(),
        })
    }

    fn holes(holes: impl Into<Holes>) -> Tried {
        Tried {
            holes: holes.into(),
            stamps: None,
        }
    }

    /// What the stamp does not change: which approvals count, and for which plan.
    #[test]
    fn the_guard_is_complete_without_the_stamp() -> Result<(), Unreadable> {
        let guard = intact()?;
        let with = guard.seen();
        assert!(with.holes.is_empty() && !with.typed);
        let of = |stamp: Stamp| (guard.stamp(&guard.seen.borrow()), stamp);
        let (is, wanted) = of(Stamp::InForce);
        assert_eq!(is, wanted);

        // It is there, and the API server does not obey it.
        guard.judge(Tried {
            holes: Holes::new(),
            stamps: Some(false),
        });
        assert!(guard.seen().typed && guard.seen().holes.is_empty());
        assert!(guard.is_stamp_disobeyed());
        guard.judge(Tried {
            holes: Holes::new(),
            stamps: Some(true),
        });
        assert_eq!(guard.seen(), with);
        assert!(!guard.is_stamp_disobeyed());

        // Half of it is gone: nothing is stamped, and nothing is a hole.
        let gone = |kind: GuardKind| {
            guard
                .seen
                .send_modify(|seen| seen.found.retain(|place, _| place.kind != kind));
        };
        gone(GuardKind::MutatingBinding);
        let missing = "MutatingAdmissionPolicyBinding rollback-guard-stamp is missing".to_owned();
        let (is, wanted) = of(Stamp::Missing(missing));
        assert_eq!(is, wanted);
        gone(GuardKind::Mutating);
        let without = guard.seen();
        assert!(without.typed && without.holes.is_empty());
        assert_eq!(without.digest(), with.digest());

        // A server that has no such kinds.
        see(&guard.seen, &guard.expected, GuardKind::Mutating, None);
        assert_eq!(guard.stamp(&guard.seen.borrow()), Stamp::NotServed);
        assert_eq!(guard.seen(), without);

        // One that is there must be the one that was meant.
        let place = Place {
            kind: GuardKind::Mutating,
            name: "rollback-guard-stamp".to_owned(),
        };
        let altered = intact()?;
        altered.seen.send_modify(|seen| {
            let finding = seen.found.get_mut(&place).unwrap();
            finding.difference = Some("spec.mutations".to_owned());
        });
        assert_eq!(altered.seen().holes.len(), 1);
        Ok(())
    }

    #[tokio::test]
    async fn what_was_accepted_is_a_hole_until_it_is_refused() -> Result<(), Unreadable> {
        let guard = intact()?;
        assert!(guard.seen().holes.is_empty());
        let mut changes = std::pin::pin!(guard.changes());
        let place = Place {
            kind: GuardKind::Validating,
            name: "rollback-guard-approval".to_owned(),
        };
        assert!(guard.expects(&place));
        let accepted = Holes::from([(place.clone(), "it lets pass".to_owned())]);
        guard.judge(holes(accepted.clone()));
        assert_eq!(guard.seen().holes, ["it lets pass"]);
        assert!(changes.next().await.is_some());

        // What is missing lets everything pass: that is said once, and first.
        guard.seen.send_modify(|seen| {
            seen.found.remove(&place);
        });
        let missing = "ValidatingAdmissionPolicy rollback-guard-approval is missing";
        assert_eq!(guard.seen().holes, [missing]);
        guard.judge(holes(Holes::new()));
        assert_eq!(guard.seen().holes, [missing]);
        Ok(())
    }
}
