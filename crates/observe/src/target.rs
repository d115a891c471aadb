//! One Deployment of the plan, as far as its phase needs it.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::core::PartialObjectMeta;
use kube::{Api, ResourceExt};
use rollback_api::status::{Plan, PlannedTarget, Source, TargetStatus};
use rollback_api::{ARTIFACT_LABEL, REQUEST_UID_LABEL, RevisionLedger, RollbackRequest};
use rollback_core::approval::consent;
use rollback_core::decide::fallback;
use rollback_core::execution::artifact::{self, backed_up};
use rollback_core::execution::phase::TargetPhase;
use rollback_core::health;
use rollback_core::health::diagnose;
use rollback_core::history::ledger::{self, Holder, evidence, holder};
use rollback_core::history::template::Template;
use rollback_core::observed::{
    Access, Deployment, Fetched, LastLog, ObservedTarget, Rejection, ReplicaSet, Rival,
};
use rollback_core::plan::references::is_subdomain;
use rollback_reads::history;

use super::access::{self, Everywhere};
use super::newer::Served;
use super::{
    Error, Pass, RequestScope, checks, lifted, of_uid, pace, pods, preflight, raw, reading, spec_of,
};

/// How many templates of one history are read when there are too many.
pub(super) const MOST_TEMPLATES: usize = 100;

/// A target and the ledger to write on.
type Looked = (ObservedTarget, Option<RevisionLedger>);

impl Pass<'_> {
    /// What the phase of one target needs.
    pub(super) async fn target(
        &self,
        plan: &Plan,
        index: usize,
        awaiting: bool,
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
        let (mut seen, ledger) = match TargetPhase::of(self.status, progress) {
            TargetPhase::Waiting if awaiting => self.waiting_one(target).await?,
            TargetPhase::Waiting | TargetPhase::Reverting => {
                self.writing(plan, target, progress, everywhere).await?
            }
            TargetPhase::RollingOut => self.rolling_out(plan, target, progress).await?,
            TargetPhase::Verifying => (self.verifying(plan, target, progress).await?, None),
            TargetPhase::Retrying => (self.retrying(target, progress, everywhere).await?, None),
            TargetPhase::Restoring => (self.restoring(target, progress).await?, None),
            TargetPhase::Ended => Looked::default(),
        };
        seen.name.clone_from(&target.name);
        Ok((seen, ledger))
    }

    /// Whether it still runs what is bad; if not, who changed it.
    async fn waiting_one(&self, target: &PlannedTarget) -> Result<Looked, Error> {
        let (deployment, replica_sets) = futures::try_join!(
            self.scope.deployment(&target.name),
            self.scope.planned_replica_set(target)
        )?;
        let still = runs(&deployment, |digest| digest == target.from_digest);
        // The policy decides by what was rolled back before; otherwise it only says who changed it.
        let ledger = if still && !pace::is_asked(self.scope.request, self.status) {
            Fetched::Unknown
        } else {
            spec_of(self.scope.ledger(&target.name).await?.as_ref())
        };
        let seen = ObservedTarget {
            deployment,
            replica_sets,
            ledger,
            ..ObservedTarget::default()
        };
        Ok((seen, None))
    }

    async fn writing(
        &self,
        plan: &Plan,
        target: &PlannedTarget,
        progress: &TargetStatus,
        everywhere: &Everywhere,
    ) -> Result<Looked, Error> {
        let uid = self.scope.request.uid().unwrap_or_default();
        let deployment = self.scope.deployment(&target.name).await?;
        let done = runs(&deployment, |digest| target.is_restored_by(digest));
        let signed = |it: &Deployment| it.was_reverted_by(&uid);
        if done && consent::is_begun(progress) && deployment.found().is_some_and(signed) {
            // The write is done; nothing else matters any more.
            let seen = ObservedTarget {
                deployment,
                ..ObservedTarget::default()
            };
            return Ok((seen, None));
        }
        let ledger = self.scope.ledger(&target.name).await?;
        let held = holder(spec_of(ledger.as_ref()).found(), &target.uid, &uid) == Holder::Us;
        if !held && progress.revert.is_none() {
            // The claim comes first, and nothing else is needed for it.
            let mut seen = ObservedTarget {
                ledger: spec_of(ledger.as_ref()),
                deployment,
                access: Fetched::Found(self.access(target, progress, everywhere).await?),
                ..ObservedTarget::default()
            };
            seen.rival = self.rival(target, &seen).await?;
            return Ok((seen, ledger));
        }
        let (replica_sets, access, backup, kept) = futures::try_join!(
            self.scope.planned_replica_set(target),
            self.access(target, progress, everywhere),
            self.scope
                .artifact(artifact::backup_name(self.scope.request, &target.name)),
            self.scope.source_backup(target),
        )?;
        let mut seen = ObservedTarget {
            ledger: spec_of(ledger.as_ref()),
            lifted: lifted(ledger.as_ref()),
            deployment,
            replica_sets,
            access: Fetched::Found(access),
            backup,
            kept,
            rejection: self.rejection(&target.name),
            accepted: self.accepted(&target.name),
            intended: self.intended(&target.name),
            ..ObservedTarget::default()
        };
        seen.references = self.references(target, progress, &seen).await?;
        if progress.revert.is_none() {
            seen.job = self.job(plan, target, progress).await?;
        }
        seen.rival = self.rival(target, &seen).await?;
        Ok((seen, ledger))
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
                let name = Some(target.name.as_str());
                let approvals = consent::approvals_of(self.status, progress);
                let (client, request) = (self.scope.reader.client, self.scope.request);
                access::access(client, request, &approvals, self.scope.namespace, name).await
            }
        }
    }

    /// The references of the template to go back to, once more, before anything is done: a good part of an hour may
    /// have passed since the plan.
    async fn references(
        &self,
        target: &PlannedTarget,
        progress: &TargetStatus,
        seen: &ObservedTarget,
    ) -> Result<Vec<preflight::Checked>, Error> {
        match kept_template(target, seen) {
            Some(template) if progress.revert.is_none() => {
                preflight::references(&self.scope, &template).await
            }
            Some(_) | None => Ok(Vec::new()),
        }
    }

    /// The API server's last word on a write to this Deployment.
    pub(super) fn rejection(&self, name: &str) -> Option<Rejection> {
        self.knowledge.memory.rejections.get(name).cloned()
    }

    /// What the API server answered to our last write to this Deployment.
    fn accepted(&self, name: &str) -> Option<i64> {
        self.knowledge.memory.accepted.get(name).copied()
    }

    /// The generation in the last intent for this Deployment that this process has stored.
    fn intended(&self, name: &str) -> Option<i64> {
        self.knowledge.memory.intended.get(name).copied()
    }

    /// The `ReplicaSet` of the plan is nearly always the one that runs; the whole history is read only
    /// when it is not.
    async fn rolling(&self, target: &PlannedTarget) -> Result<ObservedTarget, Error> {
        let (deployment, mut replica_sets) = futures::try_join!(
            self.scope.deployment(&target.name),
            self.scope.planned_replica_set(target)
        )?;
        let holds = |deployment: &&Deployment| {
            let template = deployment.template();
            replica_sets
                .iter()
                .any(|set| !set.is_deleting() && set.template() == template)
        };
        if let Some(deployment) = deployment.found().filter(|found| !holds(found)) {
            replica_sets = self.scope.history(deployment).await?;
        }
        Ok(ObservedTarget {
            deployment,
            replica_sets,
            ..ObservedTarget::default()
        })
    }

    /// The pods say why it takes long, and what they really run; the ledger what they ran before.
    async fn rolling_out(
        &self,
        plan: &Plan,
        target: &PlannedTarget,
        progress: &TargetStatus,
    ) -> Result<Looked, Error> {
        let mut seen = self.rolling(target).await?;
        let Some(set) = running(target, &seen).cloned() else {
            return Ok((seen, None));
        };
        let client = self.scope.reader.client;
        seen.pods = pods::raw_pods(client, self.scope.namespace, &set, self.scope.budget).await?;
        seen.events =
            pods::events(client, self.scope.namespace, &seen.pods, self.scope.budget).await;
        seen.last_log = self.last_log(plan, progress, &set, &seen).await;
        if plan.rules.remedies.force_delete_after_seconds.is_some() {
            self.leaving(&mut seen).await?;
        }
        if seen.deployment.found().is_some_and(Deployment::is_complete) {
            seen.ledger = spec_of(self.scope.ledger(&target.name).await?.as_ref());
        }
        Ok((seen, None))
    }

    /// Pods that may have to be deleted by force: whose they are is read as well.
    async fn leaving(&self, seen: &mut ObservedTarget) -> Result<(), Error> {
        let Some(deployment) = seen.deployment.found() else {
            return Ok(());
        };
        let client = self.scope.client();
        let (sets, pods) = futures::try_join!(
            async {
                let sets = raw::owners(&client, self.scope.namespace, deployment).await;
                reading("the ReplicaSets", sets)
            },
            async {
                let pods =
                    raw::leaving_pods(&client, self.scope.namespace, deployment, self.scope.budget)
                        .await;
                reading("the pods", pods)
            }
        )?;
        seen.may_not_delete = self.knowledge.memory.may_not_delete;
        (seen.leaving_from, seen.leaving) = (sets, pods);
        Ok(())
    }

    /// The log of the container that crashes, read once for each of its ends, when the policy asks for it.
    async fn last_log(
        &self,
        plan: &Plan,
        progress: &TargetStatus,
        set: &ReplicaSet,
        seen: &ObservedTarget,
    ) -> Option<LastLog> {
        let lines = plan.rules.rollout.log_tail_lines;
        let rollout = match &progress.fallback {
            Some(fallback) => fallback.rollout.as_ref(),
            None => progress.rollout.as_ref(),
        };
        let before = rollout.and_then(|rollout| rollout.cause.as_ref());
        let end = diagnose::end_to_explain(Some(set), &seen.pods, &seen.events, before)
            .filter(|_| lines > 0)?;
        let name = seen.deployment.found().map(Deployment::name)?;
        let known = self.knowledge.memory.logs.get(name);
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
    ) -> Result<ObservedTarget, Error> {
        let mut seen = self.rolling(target).await?;
        let verification = match &progress.fallback {
            Some(fallback) => fallback.verification.as_ref(),
            None => progress.verification.as_ref(),
        };
        let open = verification.filter(|verification| verification.completed_at.is_none());
        if let Some((verification, replica_set)) = open.zip(running(target, &seen)) {
            let due: Vec<_> = health::due(&plan.rules, verification, self.scope.now).collect();
            let subject = checks::Subject::restored(&plan.rules, target, replica_set);
            seen.readings = checks::ask(&self.scope, subject, &due).await?;
        }
        seen.job = self.job(plan, target, progress).await?;
        Ok(seen)
    }

    /// What the write of a fallback needs.
    async fn retrying(
        &self,
        target: &PlannedTarget,
        progress: &TargetStatus,
        everywhere: &Everywhere,
    ) -> Result<ObservedTarget, Error> {
        let (deployment, ledger, access) = futures::try_join!(
            self.scope.deployment(&target.name),
            self.scope.ledger(&target.name),
            self.access(target, progress, everywhere),
        )?;
        let replica_sets = match deployment.found() {
            Some(deployment) => {
                let found = self.scope.history_with(deployment, target.to_revision);
                found.await?.sets
            }
            None => Vec::new(),
        };
        Ok(ObservedTarget {
            ledger: spec_of(ledger.as_ref()),
            deployment,
            replica_sets,
            access: Fetched::Found(access),
            rejection: self.rejection(&target.name),
            accepted: self.accepted(&target.name),
            intended: self.intended(&target.name),
            ..ObservedTarget::default()
        })
    }

    async fn restoring(
        &self,
        target: &PlannedTarget,
        progress: &TargetStatus,
    ) -> Result<ObservedTarget, Error> {
        let deployment = self.scope.deployment(&target.name).await?;
        let backup = progress
            .backup
            .as_ref()
            .filter(|_| !runs(&deployment, |digest| digest == target.from_digest))
            .map_or("", |backup| &backup.config_map);
        let kept = self.scope.backup(backup).await?;
        Ok(ObservedTarget {
            deployment,
            kept,
            rejection: self.rejection(&target.name),
            accepted: self.accepted(&target.name),
            intended: self.intended(&target.name),
            ..ObservedTarget::default()
        })
    }

    /// Another request that holds the claim.
    async fn rival(
        &self,
        target: &PlannedTarget,
        seen: &ObservedTarget,
    ) -> Result<Fetched<Rival>, Error> {
        let uid = self.scope.request.uid().unwrap_or_default();
        let Holder::Other(claim) = holder(seen.ledger.found(), &target.uid, &uid) else {
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
    async fn source_backup(&self, target: &PlannedTarget) -> Result<Fetched<Deployment>, Error> {
        match (target.source, &target.source_name) {
            (Source::Backup, Some(name)) => self.backup(name).await,
            (
                Source::Backup
                | Source::ReplicaSet
                | Source::Ledger
                | Source::NewImage
                | Source::Newer(_),
                _,
            ) => Ok(Fetched::Unknown),
        }
    }

    /// The Deployment in a backup; absent when there is none of this name, or it is none.
    pub(super) async fn backup(&self, name: &str) -> Result<Fetched<Deployment>, Error> {
        // A name that no object can have may be a path to another object: nobody asks for that.
        if !is_subdomain(name) {
            return Ok(Fetched::Absent);
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
        Ok(backed_up(&data).map_or(Fetched::Absent, Fetched::Found))
    }

    /// The `ReplicaSets` that the Deployment controls.
    pub(super) async fn history(&self, deployment: &Deployment) -> Result<Vec<ReplicaSet>, Error> {
        Ok(self.history_with(deployment, None).await?.sets)
    }

    /// The same, with the template of this revision whatever its age, and whether there are more than are known.
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
    async fn planned_replica_set(&self, target: &PlannedTarget) -> Result<Vec<ReplicaSet>, Error> {
        let (Source::ReplicaSet, Some(name)) = (target.source, &target.source_name) else {
            return Ok(Vec::new());
        };
        let set = raw::replica_set(&self.client(), self.namespace, name, self.budget).await;
        Ok(reading("the ReplicaSet of the plan", set)?
            .into_iter()
            .collect())
    }

    /// Whether a ConfigMap of ours is there.
    pub(super) async fn artifact(&self, name: String) -> Result<Fetched<Timestamp>, Error> {
        let api: Api<ConfigMap> = Api::namespaced(self.client(), self.namespace);
        let found: Option<PartialObjectMeta<ConfigMap>> =
            reading("a ConfigMap", api.get_metadata_opt(&name).await)?;
        match found {
            None => Ok(Fetched::Absent),
            // Only the controller creates ConfigMaps with the first label.
            Some(found)
                if found.labels().contains_key(ARTIFACT_LABEL)
                    && found.labels().get(REQUEST_UID_LABEL) == self.request.uid().as_ref() =>
            {
                Ok(Fetched::Found(self.now))
            }
            Some(_) => Err(Error::Squatted(name)),
        }
    }
}

fn known_rival(rival: &RollbackRequest, target: &PlannedTarget) -> Rival {
    let status = rival.status.clone().unwrap_or_default();
    let mut theirs = status.targets.iter();
    let theirs = theirs.find(|progress| progress.name == target.name);
    Rival {
        name: rival.name_any(),
        active: status.outcome.is_none(),
        committed: theirs.is_some_and(|progress| progress.revert.is_some()),
        unknown: None,
    }
}

/// The template to go back to, where it is kept.
fn kept_template(target: &PlannedTarget, seen: &ObservedTarget) -> Option<Template> {
    let in_ledger = || {
        evidence(seen.ledger.found(), &target.uid)
            .iter()
            .filter(|entry| entry.digest == target.to_digest)
            .find_map(ledger::kept_template)
    };
    match target.source {
        Source::ReplicaSet | Source::Ledger => {
            let set = seen.replica_sets.first().map(ReplicaSet::template);
            set.or_else(in_ledger)
        }
        Source::Backup => seen.kept.found().map(Deployment::template),
        // Another image needs what the one that runs needs.
        Source::NewImage => seen.deployment.found().map(Deployment::template),
        Source::Newer(_) => None,
    }
}

fn runs(deployment: &Fetched<Deployment>, is_meant: impl Fn(&str) -> bool) -> bool {
    deployment
        .found()
        .is_some_and(|deployment| is_meant(&deployment.template().digest()))
}

/// The `ReplicaSet` of the old version, as the Deployment has it now.
fn running<'a>(target: &PlannedTarget, seen: &'a ObservedTarget) -> Option<&'a ReplicaSet> {
    let template = seen.deployment.found()?.template();
    let is_old = target.is_restored_by(&template.digest());
    seen.replica_sets.iter().find(|set| {
        is_old && set.controller_uid() == Some(&target.uid) && set.template() == template
    })
}
