//! Stories: what is asked for, and what happens then.

use proptest::prelude::*;
use rollback_api::RollbackPolicySpec;
use serde_json::{Value, json};

use super::{Cluster, Crash, Event, Forgery, NAMES, View, policies};

/// What one request asks for.
#[derive(Clone, Debug)]
pub struct Ask {
    /// Which Deployments by their bits; none of them: those whose names start with `w`.
    pub mask: u8,
    /// Where to, for each of them.
    pub to: Vec<u8>,
    /// Waves of each of them.
    pub waves: Vec<i32>,
    /// Its urgency.
    pub urgency: Option<&'static str>,
    /// How many at the same time.
    pub parallelism: i32,
    /// What a failure means.
    pub on_failure: &'static str,
    /// Seconds for the rollout.
    pub timeout: Option<i32>,
    /// Whether it says what is bad.
    pub from: bool,
    /// Whether it is a dry run.
    pub dry_run: bool,
}

impl Ask {
    /// The spec of the request among so many Deployments.
    pub fn fields(&self, places: usize) -> Value {
        // A mask of places that there are not is one of all of them.
        let there = self.mask & ((1 << places) - 1);
        let mask = if there == 0 && self.mask != 0 {
            u8::MAX
        } else {
            there
        };
        let names: Vec<(usize, &str)> = NAMES
            .into_iter()
            .take(places)
            .enumerate()
            .filter(|(index, _)| mask & (1 << index) != 0)
            .collect();
        let image =
            |name: &str, version: &str| format!("registry.broxiva.com/shop/{name}:{version}");
        let mut targets: Vec<Value> = names
            .iter()
            .map(|(index, name)| {
                let to = match self.to[index % self.to.len()] {
                    0 => json!({"revision": 1}),
                    1 | 2 => json!({"lastKnownGood": {}}),
                    3 => json!({"image": {"image": image(name, "v1")}}),
                    4 => json!({"image": {"image": image(name, "v9"), "allowNew": true}}),
                    _ => json!({"previous": {}}),
                };
                let mut target =
                    json!({"name": name, "to": to, "wave": self.waves[index % self.waves.len()]});
                if self.from {
                    target["from"] = json!({"image": image(name, "v2")});
                }
                target
            })
            .collect();
        if targets.is_empty() {
            targets.push(json!({"namePrefix": "w", "to": {"previous": {}}}));
        }
        let mut fields = json!({
            "targets": targets,
            "dryRun": self.dry_run,
            "rollout": {"parallelism": self.parallelism, "onFailure": self.on_failure},
        });
        if let Some(seconds) = self.timeout {
            fields["rollout"]["timeoutSeconds"] = json!(seconds);
        }
        if let Some(urgency) = self.urgency {
            fields["urgency"] = json!(urgency);
        }
        fields
    }
}

/// Who asks for what, where.
#[derive(Clone, Debug)]
pub struct Setting {
    /// The past of each Deployment.
    pub histories: Vec<u8>,
    /// The requests.
    pub asks: Vec<Ask>,
    /// The policy.
    pub policy: u8,
}

impl Setting {
    /// The cluster before anything happens.
    pub fn cluster(&self) -> Cluster {
        let places = self.histories.len();
        let fields: Vec<Value> = self.asks.iter().map(|ask| ask.fields(places)).collect();
        Cluster::new(&self.histories, &fields, self.policy())
    }

    fn policy(&self) -> Option<RollbackPolicySpec> {
        policies()[usize::from(self.policy) % 7].clone()
    }
}

/// A request.
pub fn ask() -> impl Strategy<Value = Ask> {
    let several = || prop::collection::vec(0_u8..14, 4);
    (
        prop_oneof![1 => Just(0_u8), 12 => 1_u8..16],
        several(),
        prop::collection::vec(prop_oneof![3 => Just(0), 1 => Just(1), 1 => Just(2)], 4),
        proptest::option::of(prop_oneof![
            Just("Low"),
            Just("Medium"),
            Just("High"),
            Just("Critical"),
            Just("Immediate")
        ]),
        1_i32..4,
        prop_oneof![Just("Stop"), Just("Continue"), Just("Restore")],
        proptest::option::of(Just(60)),
        proptest::bool::weighted(0.2),
        proptest::bool::weighted(0.03),
    )
        .prop_map(
            |(mask, to, waves, urgency, parallelism, on_failure, timeout, from, dry_run)| Ask {
                mask,
                to,
                waves,
                urgency,
                parallelism,
                on_failure,
                timeout,
                from,
                dry_run,
            },
        )
}

fn history() -> impl Strategy<Value = u8> {
    prop_oneof![3 => Just(0_u8), 3 => Just(6), 8 => 0_u8..7]
}

/// Deployments and requests for them.
pub fn setting(requests: std::ops::RangeInclusive<usize>) -> impl Strategy<Value = Setting> {
    (
        prop::collection::vec(history(), 1..=4),
        prop::collection::vec(ask(), requests),
        0_u8..7,
    )
        .prop_map(|(histories, asks, policy)| Setting {
            histories,
            asks,
            policy,
        })
}

/// How a pass dies.
pub fn crash() -> impl Strategy<Value = Crash> {
    prop_oneof![
        12 => Just(Crash::No),
        1 => Just(Crash::BeforeCommit),
        1 => Just(Crash::BeforeAct),
        1 => Just(Crash::AfterAct),
        2 => any::<u8>().prop_map(Crash::Among),
        1 => Just(Crash::InFlight),
    ]
}

/// What is done to requests and policies.
fn people() -> impl Strategy<Value = Event> {
    let case = || 0_usize..3;
    prop_oneof![
        14 => (case(), prop_oneof![
            Just("bob@broxiva.com"), Just("cat@broxiva.com"), Just("dan@broxiva.com")
        ]).prop_map(|(case, who)| Event::Approve(case, who)),
        3 => (case(), prop_oneof![
            Just(Forgery::Own), Just(Forgery::Phrase), Just(Forgery::Digest),
            Just(Forgery::Stamp), Just(Forgery::Robot), Just(Forgery::Unticked), Just(Forgery::Alone)
        ]).prop_map(|(case, forgery)| Event::Forge(case, forgery)),
        2 => (case(), prop_oneof![Just("bob@broxiva.com"), Just("cat@broxiva.com")])
            .prop_map(|(case, who)| Event::Withdraw(case, who)),
        1 => case().prop_map(Event::Strip),
        1 => case().prop_map(Event::Deny),
        1 => case().prop_map(Event::Cancel),
        1 => case().prop_map(Event::Delete),
        1 => (0_u8..7).prop_map(Event::Policy),
        1 => (0_u8..4).prop_map(Event::Guard),
    ]
}

/// What is done to Deployments.
fn deployments() -> impl Strategy<Value = Event> {
    let place = || 0_usize..4;
    let version = || prop_oneof![Just("v0"), Just("v1"), Just("v2"), Just("v3")];
    prop_oneof![
        4 => (place(), version(), any::<bool>())
            .prop_map(|(place, version, named)| Event::Deploy(place, version, named)),
        1 => place().prop_map(Event::Restart),
        1 => place().prop_map(Event::Undo),
        2 => place().prop_map(Event::Annotate),
        3 => (place(), 0_i64..6).prop_map(|(place, size)| Event::Scale(place, size)),
        1 => (place(), any::<bool>()).prop_map(|(place, on)| Event::Pause(place, on)),
        1 => (place(), any::<bool>()).prop_map(|(place, on)| Event::Permissions(place, on)),
        1 => (place(), proptest::option::of(prop_oneof![Just("v1"), Just("v2")]))
            .prop_map(|(place, version)| Event::Recreate(place, version)),
        1 => place().prop_map(Event::Prune),
        1 => place().prop_map(Event::Poison),
        2 => place().prop_map(Event::Record),
        1 => place().prop_map(Event::Lift),
        1 => place().prop_map(Event::LoseLedger),
        3 => (place(), any::<bool>()).prop_map(|(place, on)| Event::Well(place, on)),
        2 => (place(), any::<bool>()).prop_map(|(place, on)| Event::Healthy(place, on)),
        2 => (place(), any::<bool>()).prop_map(|(place, on)| Event::Takes(place, on)),
        1 => (place(), any::<bool>()).prop_map(|(place, on)| Event::Webhook(place, on)),
        1 => (place(), any::<bool>()).prop_map(|(place, on)| Event::Blind(place, on)),
        6 => (place(), any::<u8>(), any::<u8>())
            .prop_map(|(place, template, cause)| Event::Hand(place, template, cause)),
        2 => (place(), any::<u8>(), any::<u8>())
            .prop_map(|(place, set, cause)| Event::Mark(place, set, cause)),
        8 => place().prop_map(Event::Sync),
    ]
}

/// What anybody but the controllers may do.
pub fn outside() -> impl Strategy<Value = Event> {
    prop_oneof![
        5 => people(),
        6 => deployments(),
        1 => prop_oneof![1_i64..10, 10_i64..400, 400_i64..4000].prop_map(Event::Tick),
    ]
}

/// A pass in which nothing goes wrong.
pub fn quiet(request: usize) -> Event {
    Event::Pass {
        request,
        controller: 0,
        crash: Crash::No,
        view: View::Live,
        twice: false,
        early: None,
        late: None,
    }
}

/// A pass in which anything may go wrong; with old views only where only safety is promised.
pub fn pass(old: bool) -> impl Strategy<Value = Event> {
    let between = || {
        let event = prop_oneof![
            4 => outside(),
            1 => (0_usize..3).prop_map(quiet),
        ];
        proptest::option::weighted(0.08, event.prop_map(Box::new))
    };
    let view = if old {
        prop_oneof![6 => Just(View::Live), 1 => Just(View::OldReads), 2 => Just(View::OldLeader)]
            .boxed()
    } else {
        Just(View::Live).boxed()
    };
    (
        0_usize..3,
        prop_oneof![3 => Just(0_usize), 1 => Just(1)],
        crash(),
        view,
        proptest::bool::weighted(0.1),
        between(),
        between(),
    )
        .prop_map(
            |(request, controller, crash, view, twice, early, late)| Event::Pass {
                request,
                controller,
                crash,
                view,
                twice,
                early,
                late,
            },
        )
}

/// Anything from the beginning.
pub fn any_story() -> impl Strategy<Value = Vec<Event>> {
    prop::collection::vec(prop_oneof![3 => pass(false), 2 => outside()], 0..50)
}

/// Every request is approved at once, so that the trouble comes at the writes and after.
pub fn approved(old: bool) -> impl Strategy<Value = Vec<Event>> {
    prop::collection::vec(prop_oneof![6 => pass(old), 2 => outside()], 0..50)
        .prop_map(|rest| approvals().into_iter().chain(rest).collect())
}

fn approvals() -> Vec<Event> {
    let mut all = Vec::new();
    for request in 0..3 {
        // It is held, then it has a plan.
        all.extend([quiet(request), quiet(request)]);
        for who in ["bob@broxiva.com", "cat@broxiva.com"] {
            all.push(Event::Approve(request, who));
            all.push(quiet(request));
        }
    }
    all
}
