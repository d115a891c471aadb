//! One Deployment of the plan, as far as its phase needs it.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::core::PartialObjectMeta;
use kube::{Api, ResourceExt};
use rollback_api::status::{Plan, PlannedTarget, Source, TargetStatus};
use rollback_api::{
    ARTIFACT_LABEL, REQUEST_UID_LABEL, RevisionLedger, RevisionLedgerSpec, RollbackRequest,
};
use rollback_core::approval::consent;
use rollback_core::decide::kept::{Places, kept_template};
use rollback_core::decide::restore::needs_backup;
use rollback_core::decide::write::{claim_comes_first, has_changed, is_ours};
use rollback_core::decide::{automatic, fallback};
use rollback_core::execution::artifact::{self, backed_up};
use rollback_core::execution::phase::Need;
use rollback_core::health;
use rollback_core::health::{diagnose, rollout};
use rollback_core::history::ledger::{Holder, holder};
use rollback_core::history::template::Template;
use rollback_core::observed::view::{
    AwaitingView, Brought, ClaimingView, Leaving, Own, RestoringView, RetryingView, RollingOutView,
    Signs, VerifyingView, WritingView,
};
use rollback_core::observed::{
    Access, Deployment, Fetched, LastLog, ObservedJob, ReplicaSet, Rival, TargetView,
};
use rollback_core::plan::references::{Presence, Reference, is_subdomain};
use rollback_reads::history;

use super::access::{self, Everywhere};
use super::newer::Served;
use super::{
    Error, Pass, Reader, RequestScope, checks, of_uid, pods, preflight, raw, reading, spec_of,
};

/// How many templates of one history are read when there are too many.
pub(super) const MOST_TEMPLATES: usize = 100;

/// A target, and the ledger to write on.
pub(super) type Looked = (TargetView, Option<RevisionLedger>);

impl Pass<'_> {
    /// What the phase of one target needs.
    pub(super) async fn target(
        &self,
        plan: &Plan,
        index: usize,
        need: Need,
        everywhere: &Everywhere,
    ) -> Result<Looked, Error> {
        let (Some(target), Some(progress)) =
            (plan.targets.get(index), self.status.targets.get(index))
        else {
            return Ok(Looked::default());
        };
        // What is tried now, if the version to go back to did not do.
        let target = &fallback::target(target, progress);
        let upon = consent::Plans::of(plan, self.status);
        let plan = upon.plan_for(progress);
        let view = match need {
            Need::Nothing | Need::Listed => TargetView::NotDue,
            Need::Awaiting => TargetView::Awaiting(self.awaiting(target).await?),
            Need::Writing => return self.writing(plan, target, progress, everywhere).await,
            Need::RollingOut => {
                let view = self.rolling_out(plan, target, progress).await?;
                TargetView::RollingOut(Box::new(view))
            }
            Need::Verifying => TargetView::Verifying(self.verifying(plan, target, progress).await?),
            Need::Retrying => {
                TargetView::Retrying(self.retrying(target, progress, everywhere).await?)
            }
            Need::Restoring => TargetView::Restoring(self.restoring(target, progress).await?),
        };
        Ok((view, None))
    }

    /// Whether it still runs what is bad; if not, who changed it.
    async fn awaiting(&self, target: &PlannedTarget) -> Result<AwaitingView, Error> {
        let live = self.scope.live(&target.workload.name).await?;
        // The policy decides by what was rolled back before; otherwise it only says who changed it.
        let is_asked = automatic::is_asked(self.scope.request, self.status);
        let ledger = if is_asked || has_changed(target, &live) {
            let ledger = self.scope.ledger(&target.workload.name).await?;
            spec_of(ledger.as_ref()).map_or(Fetched::Absent, Fetched::Found)
        } else {
            Fetched::Unknown
        };
        Ok(AwaitingView { live, ledger })
    }

    async fn writing(
        &self,
        plan: &Plan,
        target: &PlannedTarget,
        progress: &TargetStatus,
        everywhere: &Everywhere,
    ) -> Result<Looked, Error> {
        let request = self.scope.request;
        let live = self.scope.live(&target.workload.name).await?;
        let own = self.own(&target.workload.name);
        if is_ours(target, progress, &live, &own) {
            return Ok((TargetView::Written(live), None));
        }
        let ledger = self.scope.ledger(&target.workload.name).await?;
        let held = spec_of(ledger.as_ref());
        let (rival, access) = (
            self.rival(target, held.as_ref()),
            self.access(target, progress, everywhere),
        );
        let view = if claim_comes_first(request, target, progress, held.as_ref()) {
            let (rival, access) = futures::try_join!(rival, access)?;
            TargetView::Claiming(Box::new(ClaimingView {
                live,
                ledger: held,
                rival,
                access,
                own,
            }))
        } else {
            let name = artifact::backup_name(request, target.workload.kind, &target.workload.name);
            let (planned_set, source, backup, rival, access) = futures::try_join!(
                self.scope.planned_set(target),
                self.scope.source_backup(target),
                self.scope.artifact(name),
                rival,
                access,
            )?;
            let places = Places {
                deployment: live.deployment.as_ref(),
                ledger: held.as_ref(),
                replica_sets: planned_set.as_slice(),
                backup: source.as_ref(),
            };
            let template = kept_template(target, places);
            let (references, job) = self
                .beforehand(plan, target, progress, template.as_ref())
                .await?;
            let holds = self.holds(target, progress, &live).await?;
            let claiming = ClaimingView {
                live,
                ledger: held,
                rival,
                access,
                own,
            };
            TargetView::Writing(Box::new(WritingView {
                claiming,
                planned_set,
                template,
                references,
                backup,
                job,
                holds,
            }))
        };
        Ok((view, ledger))
    }

    /// What is looked at until the intent is stored: the references of the template once more, because a good part of an
    /// hour may have passed since the plan, and the Jobs.
    async fn beforehand(
        &self,
        plan: &Plan,
        target: &PlannedTarget,
        progress: &TargetStatus,
        template: Option<&Template>,
    ) -> Result<(Vec<(Reference, Presence)>, Fetched<ObservedJob>), Error> {
        if progress.revert.is_some() {
            return Ok((Vec::new(), Fetched::Unknown));
        }
        let references = match template {
            Some(template) => preflight::references(&self.scope, template).await?,
            None => Vec::new(),
        };
        Ok((references, self.job(plan, target, progress).await?))
    }

    async fn access(
        &self,
        target: &PlannedTarget,
        progress: &TargetStatus,
        everywhere: &Everywhere,
    ) -> Result<Access, Error> {
        match everywhere {
            Everywhere::Allowed => Ok(Access::Allowed),
            Everywhere::NotAsked | Everywhere::NotAll => {
                let name = Some(target.workload.name.as_str());
                let approvals = consent::approvals_of(self.status, progress);
                let RequestScope {
                    reader,
                    request,
                    namespace,
                    ..
                } = self.scope;
                access::access(reader.client, request, &approvals, namespace, name).await
            }
        }
    }

    /// What this process remembers of its writes to this Deployment.
    pub(super) fn own(&self, name: &str) -> Own {
        let memory = &self.knowledge.memory;
        Own {
            rejection: memory.rejections.get(name).cloned(),
            accepted: memory.accepted.get(name).copied(),
            intended: memory.intended.get(name).copied(),
        }
    }

    /// The `ReplicaSet` of the plan is nearly always the one that runs; the whole history is read only
    /// when it is not.
    async fn brought(&self, target: &PlannedTarget) -> Result<Brought, Error> {
        let (live, planned) = futures::try_join!(
            self.scope.live(&target.workload.name),
            self.scope.planned_set(target)
        )?;
        let found = rollout::running(target, &live, planned.as_slice()).cloned();
        let running = match &live.deployment {
            Some(deployment) if found.is_none() && rollout::is_in_place(target, &live) => {
                let all = self.scope.history_with(deployment, None).await?.sets;
                rollout::running(target, &live, &all).cloned()
            }
            Some(_) | None => found,
        };
        Ok(Brought { live, running })
    }

    /// The pods say why it takes long, and what they really run; the ledger what they ran before.
    async fn rolling_out(
        &self,
        plan: &Plan,
        target: &PlannedTarget,
        progress: &TargetStatus,
    ) -> Result<RollingOutView, Error> {
        let brought = self.brought(target).await?;
        let (Some(deployment), Some(set)) = (&brought.live.deployment, &brought.running) else {
            return Ok(RollingOutView {
                brought,
                signs: Signs::default(),
                ledger: None,
                leaving: None,
            });
        };
        let signs = self.signs(plan, target, progress, set).await?;
        let leaving = if plan.rules.remedies.force_delete_after_seconds.is_some() {
            Some(self.leaving(deployment).await?)
        } else {
            None
        };
        let ledger = if deployment.is_complete() {
            spec_of(self.scope.ledger(&target.workload.name).await?.as_ref())
        } else {
            None
        };
        Ok(RollingOutView {
            brought,
            signs,
            ledger,
            leaving,
        })
    }

    async fn signs(
        &self,
        plan: &Plan,
        target: &PlannedTarget,
        progress: &TargetStatus,
        set: &ReplicaSet,
    ) -> Result<Signs, Error> {
        let RequestScope {
            reader,
            namespace,
            budget,
            ..
        } = self.scope;
        let pods = pods::raw_pods(reader.client, namespace, set, budget).await?;
        let events = pods::events(reader.client, namespace, &pods, budget).await;
        let mut signs = Signs {
            pods,
            events,
            last_log: None,
        };
        signs.last_log = self.last_log(plan, target, progress, set, &signs).await;
        Ok(signs)
    }

    /// Pods that may have to be deleted by force: whose they are is read as well.
    async fn leaving(&self, deployment: &Deployment) -> Result<Leaving, Error> {
        let RequestScope {
            reader: Reader { client, .. },
            namespace,
            budget,
            ..
        } = self.scope;
        let (owners, pods) = futures::try_join!(
            async {
                let sets = raw::owners(client, namespace, deployment).await;
                reading("the ReplicaSets", sets)
            },
            async {
                let pods = raw::leaving_pods(client, namespace, deployment, budget).await;
                reading("the pods", pods)
            }
        )?;
        Ok(Leaving {
            pods,
            owners,
            may_not_delete: self.knowledge.memory.may_not_delete,
        })
    }

    /// The log of the container that crashes, read once for each of its ends, when the policy asks for it.
    async fn last_log(
        &self,
        plan: &Plan,
        target: &PlannedTarget,
        progress: &TargetStatus,
        set: &ReplicaSet,
        signs: &Signs,
    ) -> Option<LastLog> {
        let lines = plan.rules.rollout.log_tail_lines;
        let rollout = match &progress.fallback {
            Some(fallback) => fallback.rollout.as_ref(),
            None => progress.rollout.as_ref(),
        };
        let before = rollout.and_then(|rollout| rollout.cause.as_ref());
        let end = diagnose::end_to_explain(Some(set), &signs.pods, &signs.events, before)
            .filter(|_| lines > 0)?;
        let known = self.knowledge.memory.logs.get(&target.workload.name);
        if let Some(known) = known.filter(|known| known.end == end) {
            return Some(known.clone());
        }
        let client = self.scope.reader.client;
        Some(pods::last_log(client, self.scope.namespace, end, lines).await)
    }

    async fn verifying(
        &self,
        plan: &Plan,
        target: &PlannedTarget,
        progress: &TargetStatus,
    ) -> Result<VerifyingView, Error> {
        let brought = self.brought(target).await?;
        let verification = match &progress.fallback {
            Some(fallback) => fallback.verification.as_ref(),
            None => progress.verification.as_ref(),
        };
        let open = verification.filter(|verification| verification.completed_at.is_none());
        let readings = match open.zip(brought.running.as_ref()) {
            Some((verification, replica_set)) => {
                let due: Vec<_> = health::due(&plan.rules, verification, self.scope.now).collect();
                let subject = checks::Subject::restored(&plan.rules, target, replica_set);
                checks::ask(&self.scope, subject, &due).await?
            }
            None => Vec::new(),
        };
        Ok(VerifyingView {
            brought,
            readings,
            job: self.job(plan, target, progress).await?,
        })
    }

    /// What the write of a fallback needs.
    async fn retrying(
        &self,
        target: &PlannedTarget,
        progress: &TargetStatus,
        everywhere: &Everywhere,
    ) -> Result<RetryingView, Error> {
        let (live, ledger, access, planned, source) = futures::try_join!(
            self.scope.live(&target.workload.name),
            self.scope.ledger(&target.workload.name),
            self.access(target, progress, everywhere),
            self.scope.planned_set(target),
            self.scope.source_backup(target),
        )?;
        let ledger = spec_of(ledger.as_ref());
        let places = Places {
            deployment: live.deployment.as_ref(),
            ledger: ledger.as_ref(),
            replica_sets: planned.as_slice(),
            backup: source.as_ref(),
        };
        Ok(RetryingView {
            template: kept_template(target, places),
            live,
            access,
            own: self.own(&target.workload.name),
        })
    }

    async fn restoring(
        &self,
        target: &PlannedTarget,
        progress: &TargetStatus,
    ) -> Result<RestoringView, Error> {
        let live = self.scope.live(&target.workload.name).await?;
        let name = progress.backup.as_ref().map(|backup| &backup.config_map);
        let backup = match name.filter(|_| needs_backup(target, &live)) {
            Some(name) => self.scope.backup(name).await?,
            None => None,
        };
        Ok(RestoringView {
            live,
            backup,
            own: self.own(&target.workload.name),
        })
    }

    /// Another request that holds the claim.
    async fn rival(
        &self,
        target: &PlannedTarget,
        ledger: Option<&RevisionLedgerSpec>,
    ) -> Result<Fetched<Rival>, Error> {
        let uid = self.scope.request.uid().unwrap_or_default();
        let Holder::Other(claim) = holder(ledger, &target.workload.uid, &uid) else {
            return Ok(Fetched::Unknown);
        };
        let rival = of_uid(
            &self.scope.client(),
            self.scope.namespace,
            &claim.request,
            &claim.request_uid,
            "the RollbackRequest that holds the claim",
        )
        .await?;
        Ok(match rival {
            None => Fetched::Absent,
            Some(Served::Known(rival)) => Fetched::Found(known_rival(&rival, target)),
            // Whether it has ended or written only a newer controller can tell.
            Some(Served::Newer(rival)) => Fetched::Found(Rival {
                name: claim.request.clone(),
                active: true,
                committed: true,
                unknown: Some(rival.unknown),
            }),
        })
    }
}

impl RequestScope<'_> {
    async fn source_backup(&self, target: &PlannedTarget) -> Result<Option<Deployment>, Error> {
        match (target.source, target.source_name()) {
            (Source::Backup, Some(name)) => self.backup(name).await,
            (
                Source::Backup
                | Source::ReplicaSet
                | Source::Ledger
                | Source::NewImage
                | Source::Newer(_),
                _,
            ) => Ok(None),
        }
    }

    /// The Deployment in a backup; none when there is none of this name, or it is none.
    pub(super) async fn backup(&self, name: &str) -> Result<Option<Deployment>, Error> {
        // A name that no object can have may be a path to another object: nobody asks for that.
        if !is_subdomain(name) {
            return Ok(None);
        }
        let api: Api<ConfigMap> = Api::namespaced(self.client(), self.namespace);
        let found = reading("the backup", api.get_opt(name).await)?;
        let is_backup = |map: &ConfigMap| {
            let label = map.labels().get(ARTIFACT_LABEL).map(String::as_str);
            label == Some(artifact::ArtifactKind::Backup.as_str())
        };
        let data = found
            .filter(is_backup)
            .and_then(|map| map.data)
            .unwrap_or_default();
        Ok(backed_up(&data))
    }

    /// The `ReplicaSets` that the Deployment controls, with the template of this revision whatever its age, and whether there are more than are known.
    pub(super) async fn history_with(
        &self,
        deployment: &Deployment,
        revision: Option<i64>,
    ) -> Result<history::Found, Error> {
        let wish = history::Wish {
            templates: MOST_TEMPLATES,
            // A request names few Deployments, or their histories are listed together.
            memory: self.budget.left() / 3,
            revision,
            // Where a part is all that there is room for, it is read only after there is room for as much as may be.
            all_or_nothing: self.size.larger().is_some(),
        };
        let client = self.client();
        let found = history::history(&client, self.namespace, deployment, wish, self.budget);
        reading("the ReplicaSets", found.await)
    }

    /// The `ReplicaSet` of the plan, if it has one and it is still there.
    async fn planned_set(&self, target: &PlannedTarget) -> Result<Option<ReplicaSet>, Error> {
        let (Source::ReplicaSet, Some(name)) = (target.source, target.source_name()) else {
            return Ok(None);
        };
        let set = raw::replica_set(&self.client(), self.namespace, name, self.budget).await;
        reading("the ReplicaSet of the plan", set)
    }

    /// When a ConfigMap of ours was seen, if it is there.
    pub(super) async fn artifact(&self, name: String) -> Result<Option<Timestamp>, Error> {
        let api: Api<ConfigMap> = Api::namespaced(self.client(), self.namespace);
        let found: Option<PartialObjectMeta<ConfigMap>> =
            reading("a ConfigMap", api.get_metadata_opt(&name).await)?;
        match found {
            None => Ok(None),
            // Only the controller creates ConfigMaps with the first label.
            Some(found)
                if found.labels().contains_key(ARTIFACT_LABEL)
                    && found.labels().get(REQUEST_UID_LABEL) == self.request.uid().as_ref() =>
            {
                Ok(Some(self.now))
            }
            Some(_) => Err(Error::Squatted(name)),
        }
    }
}

fn known_rival(rival: &RollbackRequest, target: &PlannedTarget) -> Rival {
    let status = rival.status.clone().unwrap_or_default();
    let mut theirs = status.targets.iter();
    let theirs = theirs.find(|it| it.is_of(target.workload.kind, &target.workload.name));
    Rival {
        name: rival.name_any(),
        active: status.outcome.is_none(),
        committed: theirs.is_some_and(|progress| progress.revert.is_some()),
        unknown: None,
    }
}
