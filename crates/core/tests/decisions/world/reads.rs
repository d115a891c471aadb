//! What there is to read, and the views that are made of it: for each phase just what is read in it, as the controller
//! does. What a phase reads and cannot read makes that whole read fail, which is a view that fits nothing.

use std::collections::BTreeMap;

use jiff::Timestamp;
use rollback_api::hold::PlannedHold;
use rollback_api::status::{Plan, PlannedTarget, TargetStatus};
use rollback_api::{
    RevisionLedgerSpec, RollbackPolicySpec, RollbackRequest, RollbackRequestStatus,
};
use rollback_core::approval::consent::Plans;
use rollback_core::decide::crowd::{Crowd, no_place};
use rollback_core::decide::kept::{Places, kept_template};
use rollback_core::decide::restore::needs_backup;
use rollback_core::decide::write::{claim_comes_first, has_changed, is_ours};
use rollback_core::decide::{automatic, capacity, fallback};
use rollback_core::execution::job;
use rollback_core::execution::outcome::Ending;
use rollback_core::execution::phase::{Need, Stage, any_unwritten, needs};
use rollback_core::health::rollout;
use rollback_core::hold;
use rollback_core::observed::view::{
    AwaitingView, Brought, Capacity, ClaimingView, EndedTarget, EndedView, HoldSeen, Leaving, Live,
    Own, PlanningView, RestoringView, RetryingView, RollingOutView, RulesRead, Signs, Terms,
    VerifyingView, WorkingView, WritingView,
};
use rollback_core::observed::{
    Access, Deployment, Fetched, Guard, LastLog, ObservedJob, Pace, Reading, Rehearsal, Rejection,
    ReplicaSet, Rival, Surroundings, TargetView, View,
};
use rollback_core::plan::references::{Presence, Reference};
use rollback_core::plan::rules::makes_a_difference;
use rollback_core::plan::{self, Candidate, Checked, Choice, Draft, Proposal, Proposed};
use rollback_core::report;
use serde_json::Value;

/// Everything that there is to read. What is unknown cannot be read.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Observed {
    /// The policy of the namespace.
    pub policy: Fetched<RollbackPolicySpec>,
    /// The admission policies that make approvals true.
    pub guard: Guard,
    /// Whether the namespace lets this controller patch Deployments.
    pub opted_in: Fetched<bool>,
    /// Whether the requester may ask for more urgency than the category has.
    pub expedite: Fetched<bool>,
    /// The open requests that came before this one.
    pub crowd: Option<Crowd>,
    /// Why the Prometheus of the policy is not asked.
    pub unlisted: Option<String>,
    /// What the namespace has had of rollbacks without a person.
    pub pace: Fetched<Pace>,
    /// The Deployments that the request finds.
    pub targets: Vec<ObservedTarget>,
    /// Deployments that may be scaled down to free capacity, by name.
    pub capacity: BTreeMap<String, Fetched<Deployment>>,
    /// Why the API server does not let one of them be scaled down, by name.
    pub capacity_refused: BTreeMap<String, String>,
    /// When the incident report was seen.
    pub incident: Fetched<Timestamp>,
}

/// Everything that there is to read about one Deployment.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ObservedTarget {
    /// Name of the Deployment.
    pub name: String,
    /// Which entry of `spec.targets` finds it.
    pub asked: usize,
    /// The Deployment.
    pub deployment: Fetched<Deployment>,
    /// The `ReplicaSets` that the Deployment controls.
    pub replica_sets: Vec<ReplicaSet>,
    /// Whether it has more of them than are known.
    pub history_cut: bool,
    /// The ledger of the Deployment.
    pub ledger: Fetched<RevisionLedgerSpec>,
    /// Digest of a template whose quarantine somebody lifted.
    pub lifted: Option<String>,
    /// The request that holds the claim, when it is another one.
    pub rival: Fetched<Rival>,
    /// Whether requester and approvers may do by themselves what they ask for.
    pub access: Fetched<Access>,
    /// When the backup was seen.
    pub backup: Fetched<Timestamp>,
    /// The Deployment in the backup that is to be restored, or gone back to.
    pub kept: Fetched<Deployment>,
    /// The API server's last word on the write, if it refused it.
    pub rejection: Option<Rejection>,
    /// Generation that the API server answered to the last template that this process wrote.
    pub accepted: Option<i64>,
    /// Generation in the last intent that this process has stored itself.
    pub intended: Option<i64>,
    /// What the checks find.
    pub readings: Vec<Reading>,
    /// The Job that was begun and whose end is not known.
    pub job: Fetched<ObservedJob>,
    /// The pods of the version that is coming up.
    pub pods: Vec<Value>,
    /// Events about these pods.
    pub events: Vec<Value>,
    /// Pods of the Deployment that are on their way out.
    pub leaving: Vec<Value>,
    /// The `ReplicaSets` that these may belong to.
    pub leaving_from: Vec<ReplicaSet>,
    /// Whether the API server refused to let a pod be deleted by force.
    pub may_not_delete: bool,
    /// The log of the container that crashes.
    pub last_log: Option<LastLog>,
    /// What the template to go back to refers to, and whether it is there.
    pub references: Vec<(Reference, Presence)>,
    /// What the API server would make of the write.
    pub rehearsal: Fetched<Rehearsal>,
    /// What else works on the Deployment or limits it.
    pub surroundings: Surroundings,
    /// The API server's last word on placing a hold.
    pub hold_rejection: Option<Rejection>,
    /// How often a hold was placed.
    pub holds_placed: u32,
}

/// What was there, if anything was.
struct There<T>(Option<T>);

/// Unread is nothing at all.
fn read<T: Clone>(fetched: &Fetched<T>) -> Option<There<T>> {
    match fetched {
        Fetched::Unknown => None,
        Fetched::Absent => Some(There(None)),
        Fetched::Found(value) => Some(There(Some(value.clone()))),
    }
}

/// A pass whose reads failed decides nothing; if it did all the same, it would be by what fits nothing.
fn unread(status: &RollbackRequestStatus) -> View {
    match Stage::of(status) {
        Stage::Planning | Stage::Ended(_) => View::Working(Box::default()),
        Stage::Working(_) => View::Ended(EndedView::Reporting),
    }
}

/// The plan that is made of what there is to read.
pub fn made(
    request: &RollbackRequest,
    observed: &Observed,
    now: Timestamp,
) -> Result<Plan, Ending> {
    plan::make(request, &observed.planning(request, now), now)
}

impl Observed {
    /// What the phase of the request reads of it.
    pub fn view(&self, request: &RollbackRequest, now: Timestamp) -> View {
        let status = request.status.clone().unwrap_or_default();
        let view = match Stage::of(&status) {
            Stage::Planning => self.before_the_plan(request, now),
            Stage::Working(plan) => self
                .working(request, &status, plan)
                .map(|view| View::Working(Box::new(view))),
            Stage::Ended(None) => Some(View::Ended(EndedView::Reporting)),
            Stage::Ended(Some(plan)) => self.ended(request, &status, plan).map(View::Ended),
        };
        view.unwrap_or_else(|| unread(&status))
    }

    fn before_the_plan(&self, request: &RollbackRequest, now: Timestamp) -> Option<View> {
        if let Some(ending) = self.crowd.and_then(|crowd| no_place(request, crowd, now)) {
            return Some(View::TurnedAway(ending));
        }
        for seen in &self.targets {
            let is_there = read(&seen.deployment)?.0.is_some();
            if is_there {
                read(&seen.ledger)?;
            }
        }
        self.rules(request)?;
        read(&self.opted_in)?;
        Some(View::Planning(Box::new(self.planning(request, now))))
    }

    /// The rules, if everything was read that they depend on.
    pub fn rules(&self, request: &RollbackRequest) -> Option<RulesRead> {
        let policy = read(&self.policy)?.0;
        let expedited = match &self.expedite {
            Fetched::Found(may) => *may,
            Fetched::Unknown if makes_a_difference(request, policy.as_ref()) => return None,
            Fetched::Unknown | Fetched::Absent => false,
        };
        Some(RulesRead { policy, expedited })
    }

    /// What is to hold before a write.
    pub fn terms(&self, request: &RollbackRequest) -> Option<Terms> {
        Some(Terms {
            rules: self.rules(request)?,
            guard: self.guard.clone(),
            pace: self.pace.found().cloned(),
        })
    }

    /// What somebody would plan who may only read.
    pub fn draft(&self, request: &RollbackRequest, now: Timestamp) -> Result<Draft, Ending> {
        let mut readable = self.clone();
        readable.opted_in = Fetched::Unknown;
        for seen in &mut readable.targets {
            seen.rehearsal = Fetched::Found(Rehearsal::LeftOut);
        }
        let view = readable.planning(request, now);
        plan::draft(request, &view.rules, &view.proposal?, now)
    }

    /// What the request is to go back to, as it is chosen now.
    pub fn proposed(
        &self,
        request: &RollbackRequest,
        now: Timestamp,
    ) -> Result<Vec<Proposed<Choice>>, Ending> {
        let candidates = self.targets.iter().map(ObservedTarget::candidate).collect();
        let rules = self.rules_as_far_as_known();
        let opted_in = self.opted_in.found().copied();
        plan::propose(request, &rules, opted_in, candidates, now)
    }

    fn rules_as_far_as_known(&self) -> RulesRead {
        RulesRead {
            policy: self.policy.found().cloned(),
            expedited: self.expedite == Fetched::Found(true),
        }
    }

    fn planning(&self, request: &RollbackRequest, now: Timestamp) -> PlanningView {
        let proposal = self.proposed(request, now).map(|proposed| Proposal {
            targets: proposed.into_iter().map(|it| self.checked(it)).collect(),
            unlisted: self.unlisted.clone(),
        });
        let before = self.targets.iter();
        PlanningView {
            rules: self.rules_as_far_as_known(),
            guard: self.guard.clone(),
            proposal,
            before: before
                .map(|seen| (seen.name.clone(), seen.readings.clone()))
                .collect(),
        }
    }

    fn checked(&self, proposed: Proposed<Choice>) -> Proposed<Checked> {
        let (name, asked) = (proposed.name.clone(), proposed.asked);
        let mut targets = self.targets.iter();
        let seen = targets.find(|seen| seen.name == name && seen.asked == asked);
        let seen = seen.expect("it is one of them");
        let unasked = Rehearsal::Unsaid("it was not asked".to_owned());
        proposed.with(|choice| Checked {
            choice,
            references: seen.references.clone(),
            rehearsal: seen.rehearsal.found().cloned().unwrap_or(unasked),
            surroundings: seen.surroundings.clone(),
        })
    }

    fn working(
        &self,
        request: &RollbackRequest,
        status: &RollbackRequestStatus,
        plan: &Plan,
    ) -> Option<WorkingView> {
        let terms = any_unwritten(status).then(|| self.terms(request));
        let needs = needs(plan, status, request.rollout().parallelism);
        let targets = needs.into_iter().enumerate();
        let targets = targets.map(|(index, need)| {
            let (target, progress) = (&plan.targets[index], &status.targets[index]);
            let mut found = self.targets.iter();
            let Some(seen) = found.find(|seen| seen.name == target.workload.name) else {
                return TargetView::Failed;
            };
            let upon = Plans::of(plan, status);
            let look = Look {
                request,
                status,
                plan: upon.plan_for(progress),
                target: &fallback::target(target, progress),
                progress,
                seen,
            };
            look.view(need).unwrap_or(TargetView::Failed)
        });
        Some(WorkingView {
            targets: targets.collect(),
            terms: match terms {
                Some(terms) => Some(terms?),
                None => None,
            },
            capacity: self.owed(status, plan),
        })
    }

    fn owed(&self, status: &RollbackRequestStatus, plan: &Plan) -> Capacity {
        if !capacity::is_wanted(plan, status) {
            return Capacity::default();
        }
        let open = status.scaled_down.iter();
        let open = open.filter(|scaled| scaled.restored_at.is_none());
        let mut names: Vec<&str> = open.map(|scaled| scaled.workload.name.as_str()).collect();
        if status.outcome.is_none() {
            names.extend(capacity::candidates(plan, status));
        }
        let found = |name: &&str| {
            let found = self.capacity.get(*name).cloned().unwrap_or_default();
            ((*name).to_owned(), found)
        };
        Capacity {
            deployments: names.iter().map(found).collect(),
            refused: self.capacity_refused.clone(),
        }
    }

    fn ended(
        &self,
        request: &RollbackRequest,
        status: &RollbackRequestStatus,
        plan: &Plan,
    ) -> Option<EndedView> {
        let owed = self.owed(status, plan);
        if !owed.deployments.is_empty() {
            return Some(EndedView::GivingBack(owed));
        }
        let mut incident = None;
        if report::is_due(request, status) {
            incident = self.incident.found().copied();
            if incident.is_none() {
                return Some(EndedView::Reporting);
            }
        }
        let targets = plan.targets.iter().map(|target| {
            let mut found = self.targets.iter();
            let seen = found.find(|seen| seen.name == target.workload.name)?;
            Some(EndedTarget {
                ledger: read(&seen.ledger)?.0,
                deployment: seen.deployment.found().cloned(),
                rejection: seen.rejection.clone(),
            })
        });
        let targets = targets.collect::<Option<Vec<_>>>()?;
        Some(EndedView::WindingUp { incident, targets })
    }
}

impl ObservedTarget {
    fn candidate(&self) -> Candidate {
        Candidate {
            name: self.name.clone(),
            asked: self.asked,
            deployment: self.deployment.found().cloned(),
            replica_sets: self.replica_sets.clone(),
            history_cut: self.history_cut,
            ledger: self.ledger.found().cloned(),
            lifted: self.lifted.clone(),
            backup: self.kept.found().cloned(),
        }
    }
}

/// One look at one target.
struct Look<'a> {
    request: &'a RollbackRequest,
    status: &'a RollbackRequestStatus,
    plan: &'a Plan,
    target: &'a PlannedTarget,
    progress: &'a TargetStatus,
    seen: &'a ObservedTarget,
}

impl Look<'_> {
    /// `None` when something could not be read.
    fn view(&self, need: Need) -> Option<TargetView> {
        Some(match need {
            Need::Nothing => TargetView::NotDue,
            Need::Listed => TargetView::Awaiting(AwaitingView {
                live: self.live()?,
                ledger: Fetched::Unknown,
            }),
            Need::Awaiting => self.awaiting()?,
            Need::Writing => self.writing()?,
            Need::RollingOut => self.rolling_out()?,
            Need::Verifying => TargetView::Verifying(VerifyingView {
                brought: self.brought()?,
                readings: self.seen.readings.clone(),
                job: self.job(),
            }),
            Need::Retrying => TargetView::Retrying(RetryingView {
                live: self.live()?,
                access: read(&self.seen.access)?.0?,
                template: self.template(),
                own: self.own(),
            }),
            Need::Restoring => self.restoring()?,
        })
    }

    fn live(&self) -> Option<Live> {
        Some(Live {
            name: self.target.workload.name.clone(),
            deployment: read(&self.seen.deployment)?.0,
        })
    }

    fn own(&self) -> Own {
        Own {
            rejection: self.seen.rejection.clone(),
            accepted: self.seen.accepted,
            intended: self.seen.intended,
        }
    }

    fn template(&self) -> Option<rollback_core::history::template::Template> {
        let seen = self.seen;
        let places = Places {
            deployment: seen.deployment.found(),
            ledger: seen.ledger.found(),
            replica_sets: &seen.replica_sets,
            backup: seen.kept.found(),
        };
        kept_template(self.target, places)
    }

    /// Only of a Job that was begun is anything known.
    fn job(&self) -> Fetched<ObservedJob> {
        match job::open(self.request, self.plan, self.target, self.progress) {
            Some(_) => self.seen.job.clone(),
            None => Fetched::Unknown,
        }
    }

    fn awaiting(&self) -> Option<TargetView> {
        let live = self.live()?;
        let is_asked = automatic::is_asked(self.request, self.status);
        let ledger = if is_asked || has_changed(self.target, &live) {
            self.seen.ledger.clone()
        } else {
            Fetched::Unknown
        };
        Some(TargetView::Awaiting(AwaitingView { live, ledger }))
    }

    fn writing(&self) -> Option<TargetView> {
        let Self {
            request,
            target,
            progress,
            seen,
            ..
        } = *self;
        let live = self.live()?;
        if is_ours(target, progress, &live, &self.own()) {
            return Some(TargetView::Written(live));
        }
        let claiming = ClaimingView {
            live,
            ledger: read(&seen.ledger)?.0,
            rival: seen.rival.clone(),
            access: read(&seen.access)?.0?,
            own: self.own(),
        };
        if claim_comes_first(request, target, progress, claiming.ledger.as_ref()) {
            return Some(TargetView::Claiming(Box::new(claiming)));
        }
        let mut sets = seen.replica_sets.iter();
        let planned = sets.find(|set| Some(set.uid()) == target.source_uid());
        let intended = progress.revert.is_some();
        let template = self.template();
        Some(TargetView::Writing(Box::new(WritingView {
            claiming,
            planned_set: planned.cloned(),
            references: if intended || template.is_none() {
                Vec::new()
            } else {
                seen.references.clone()
            },
            template,
            backup: read(&seen.backup)?.0,
            job: if intended {
                Fetched::Unknown
            } else {
                self.job()
            },
            holds: if intended { Vec::new() } else { self.holds() },
        })))
    }

    fn holds(&self) -> Vec<HoldSeen> {
        let of = |planned: &PlannedHold| {
            if hold::is_on_the_workload(planned.means) {
                let deployment = self.seen.deployment.found();
                return deployment.map_or(Fetched::Absent, |it| Fetched::Found(it.0.clone()));
            }
            let owners = self.seen.surroundings.owners.iter();
            let mut objects = owners.filter_map(|(_, object)| object.found());
            let is_it = |object: &&Value| object["metadata"]["name"] == planned.object.name;
            let object = objects.find(is_it);
            object.map_or(Fetched::Absent, |object| Fetched::Found(object.clone()))
        };
        let holds = self.target.holds.iter();
        holds
            .map(|planned| HoldSeen {
                object: of(planned),
                rejection: self.seen.hold_rejection.clone(),
                placed: self.seen.holds_placed,
            })
            .collect()
    }

    fn brought(&self) -> Option<Brought> {
        let live = self.live()?;
        let running = rollout::running(self.target, &live, &self.seen.replica_sets).cloned();
        Some(Brought { live, running })
    }

    fn rolling_out(&self) -> Option<TargetView> {
        let (seen, brought) = (self.seen, self.brought()?);
        let deployment = brought.live.deployment.as_ref();
        let is_there = brought.running.is_some();
        let is_complete = deployment.is_some_and(Deployment::is_complete);
        let rules = &self.plan.rules;
        let may_force = rules.remedies.force_delete_after_seconds.is_some();
        let signs = Signs {
            pods: seen.pods.clone(),
            events: seen.events.clone(),
            last_log: seen.last_log.clone(),
        };
        Some(TargetView::RollingOut(Box::new(RollingOutView {
            signs: if is_there { signs } else { Signs::default() },
            ledger: if is_there && is_complete {
                read(&seen.ledger)?.0
            } else {
                None
            },
            leaving: (is_there && may_force).then(|| Leaving {
                pods: seen.leaving.clone(),
                owners: seen.leaving_from.clone(),
                may_not_delete: seen.may_not_delete,
            }),
            brought,
        })))
    }

    fn restoring(&self) -> Option<TargetView> {
        let live = self.live()?;
        let backup = if needs_backup(self.target, &live) {
            read(&self.seen.kept)?.0
        } else {
            None
        };
        Some(TargetView::Restoring(RestoringView {
            live,
            backup,
            own: self.own(),
        }))
    }
}
