//! What holds for every request that has ended, however it ended.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::core::v1::ConfigMap;
use k8s_openapi::api::events::v1::Event;
use kube::api::ListParams;
use kube::{Api, ResourceExt};
use rollback_api::status::Outcome;
use rollback_api::{
    ARTIFACT_LABEL, REQUEST_UID_LABEL, Reason, RequestState, RevisionLedger, RollbackRequest,
    WorkloadKind,
};
use rollback_core::history::ledger;
use testkit::scene::{PATIENCE, condition};
use testkit::{Scene, User, eventually};

/// The controller's program.
pub const PROGRAM: &str = env!("CARGO_BIN_EXE_rollback-controller");

/// A namespace with a controller of its own.
pub async fn scene(name: &str) -> Result<Scene> {
    Scene::new(PROGRAM, name).await
}

/// How a request is expected to end.
#[derive(Clone, Copy, Debug)]
pub struct End<'a> {
    state: RequestState,
    reason: Reason,
    settled: bool,
    incident: bool,
    says: &'a [&'a str],
}

impl<'a> End<'a> {
    /// Well: nobody has to look.
    pub fn well(reason: Reason) -> Self {
        Self {
            settled: true,
            ..Self::badly(RequestState::Succeeded, reason)
        }
    }

    /// Without what was asked for: somebody has to look.
    pub fn badly(state: RequestState, reason: Reason) -> Self {
        Self {
            state,
            reason,
            settled: false,
            incident: true,
            says: &[],
        }
    }

    /// Not as asked for, but nobody has to look.
    pub fn settled(self) -> Self {
        Self {
            settled: true,
            ..self
        }
    }

    /// It never got as far as a plan, or was a dry run: there is nothing to report.
    pub fn without_incident(self) -> Self {
        Self {
            incident: false,
            ..self
        }
    }

    /// All of this is in the message.
    pub fn saying(self, says: &'a [&'a str]) -> Self {
        Self { says, ..self }
    }

    /// Waits for the end of this request and looks at everything that it leaves behind.
    pub async fn check(self, scene: &Scene, name: &str) -> Result<Outcome> {
        let (request, outcome) = scene.wait_for_end(name).await?;
        let story = format!("{name}: {outcome:?}");
        ensure!(
            (outcome.result, outcome.reason) == (self.state, self.reason),
            "expected {:?}/{:?}, {story}",
            self.state,
            self.reason
        );
        ensure!(
            outcome.message.ends_with('.') && outcome.message.split(' ').count() > 4,
            "that is no sentence, {story}"
        );
        for part in self.says {
            ensure!(
                outcome.message.contains(part),
                "the message lacks {part:?}, {story}"
            );
        }
        self.conditions(&request, &outcome)
            .with_context(|| story.clone())?;
        self.wait_command(scene, name).await?;
        self.columns(scene, &request).await?;
        self.report(scene, &request)
            .await
            .with_context(|| story.clone())?;
        self.events(scene, &request).await.context(story)?;
        ensure_free(scene, &request).await?;
        Ok(outcome)
    }

    fn conditions(self, request: &RollbackRequest, outcome: &Outcome) -> Result<()> {
        let status = request.status.clone().unwrap_or_default();
        ensure!(status.observed_generation == 1);
        for shown in &status.conditions {
            ensure!(shown.observed_generation.is_none(), "{shown:?}");
        }
        let text = |value: &str| value.to_owned();
        let ready = if self.settled { "True" } else { "False" };
        let (state, reason) = (self.state.as_str(), self.reason.as_str());
        let said = outcome.message.clone();
        // All of it stands in Ready; the others have its first sentence.
        let first = said.find(". ").map_or(said.as_str(), |end| &said[..=end]);
        let limit = 300;
        let brief = if first.chars().count() <= limit {
            first.to_owned()
        } else {
            let start: String = first.chars().take(limit - 1).collect();
            format!("{start}… See the condition Ready.")
        };
        let ended = (text("True"), text(reason), brief);
        let expect = |kind: &str, wanted: Option<(String, String, String)>| {
            let found = condition(request, kind);
            ensure!(
                found == wanted,
                "condition {kind} is {found:?}, not {wanted:?}"
            );
            Ok(())
        };
        expect("Ready", Some((text(ready), text(state), said)))?;
        expect("Reconciling", None)?;
        expect("Complete", self.settled.then(|| ended.clone()))?;
        expect("Failed", (!self.settled).then(|| ended.clone()))?;
        expect("Stalled", (!self.settled).then(|| ended.clone()))?;
        expect(
            "Denied",
            (self.state == RequestState::Denied).then_some(ended),
        )?;
        let reported = condition(request, "Reported").map(|(status, ..)| status);
        ensure!(
            reported == self.incident.then(|| text("True")),
            "condition Reported is {reported:?}"
        );
        let approved = condition(request, "Approved").map(|(status, ..)| status);
        let approvals = !status.approvals.is_empty();
        ensure!(
            approved.is_none_or(|status| status == "True" && approvals),
            "condition Approved does not fit {:?}",
            status.approvals
        );
        Ok(())
    }

    /// `kubectl wait` comes back at once for the condition that holds.
    async fn wait_command(self, scene: &Scene, name: &str) -> Result<()> {
        let condition = if self.settled { "Complete" } else { "Failed" };
        let wait = [
            "wait",
            "-n",
            scene.ns(),
            &format!("--for=condition={condition}"),
            "--timeout=10s",
            &format!("rbr/{name}"),
        ];
        let said = scene.cluster.kubectl_ok(User::Requester, &wait, "").await?;
        ensure!(said.contains("condition met"), "kubectl wait says {said}");
        Ok(())
    }

    async fn columns(self, scene: &Scene, request: &RollbackRequest) -> Result<()> {
        let columns = columns(scene, &request.name_any()).await?;
        let column = |name: &str| columns.get(name).map_or("", String::as_str);
        let target = match request.spec.targets.as_slice() {
            [only] => match &only.name {
                Some(name) => format!("deployment/{name}"),
                None => "deployment".to_owned(),
            },
            several => format!(
                "deployment/{} and {} more",
                several[0].name.as_deref().unwrap_or_default(),
                several.len() - 1
            ),
        };
        let (what, to) = column("ROLLBACK").split_once(" to ").unwrap_or_default();
        ensure!(what.starts_with(&target) && !to.is_empty(), "{columns:?}");
        let ready = if self.settled { "True" } else { "False" };
        ensure!(column("READY") == ready, "{columns:?}");
        ensure!(column("REASON") == self.state.as_str(), "{columns:?}");
        ensure!(column("AGE").ends_with(['s', 'm']), "{columns:?}");
        let status = request.status.clone().unwrap_or_default();
        for approval in &status.approvals {
            let by = &approval.by.username;
            ensure!(column("APPROVED BY").contains(by), "{columns:?}");
        }
        Ok(())
    }

    async fn report(self, scene: &Scene, request: &RollbackRequest) -> Result<()> {
        let incidents = artifacts(scene, "incident", request).await?;
        if !self.incident {
            ensure!(incidents.is_empty(), "there is an incident");
            return Ok(());
        }
        let [incident] = incidents.as_slice() else {
            anyhow::bail!("{} incidents", incidents.len());
        };
        ensure!(incident.immutable == Some(true), "the incident may change");
        ensure!(
            incident.owner_references().is_empty(),
            "the incident goes when something else goes"
        );
        ensure!(
            incident.name_any().starts_with("rollback-20"),
            "{}",
            incident.name_any()
        );
        let data = incident.data.clone().unwrap_or_default();
        let kind = |name: &str| {
            name.rsplit_once('.')
                .map_or("", |(_, kind)| kind)
                .to_owned()
        };
        let page = data.iter().find(|(name, _)| kind(name) == "md");
        let (_, page) = page.context("no page")?;
        ensure!(
            page.contains(self.state.as_str()) && page.contains(&request.name_any()),
            "the page does not say what happened to what: {page}"
        );
        ensure!(
            data.keys().any(|name| kind(name) == "json"),
            "nothing for machines"
        );
        Ok(())
    }

    async fn events(self, scene: &Scene, request: &RollbackRequest) -> Result<()> {
        let mut wanted = vec![(
            self.state.as_str(),
            if self.settled { "Normal" } else { "Warning" },
        )];
        if self.incident {
            wanted.extend([("Planned", "Normal"), ("Reported", "Normal")]);
        }
        // The last ones are sent after the finalizer has gone.
        eventually("the Events are there", PATIENCE, async || {
            let events = events(scene, request).await?;
            for (reason, kind) in &wanted {
                let found = events.iter().any(|event| {
                    event.reason.as_deref() == Some(reason) && event.type_.as_deref() == Some(kind)
                });
                ensure!(found, "no {kind} Event {reason} among {events:?}");
            }
            Ok(())
        })
        .await
    }
}

/// The Events about a request.
pub async fn events(scene: &Scene, request: &RollbackRequest) -> Result<Vec<Event>> {
    let api: Api<Event> = Api::namespaced(scene.client(User::Admin).await?, scene.ns());
    let found = api.list(&ListParams::default()).await?.items;
    Ok(found
        .into_iter()
        .filter(|event| {
            event
                .regarding
                .as_ref()
                .is_some_and(|about| about.uid == request.uid())
        })
        .collect())
}

/// Backups or incidents of exactly this request, not of one of the same name.
pub async fn artifacts(
    scene: &Scene,
    kind: &str,
    request: &RollbackRequest,
) -> Result<Vec<ConfigMap>> {
    let api: Api<ConfigMap> = Api::namespaced(scene.client(User::Admin).await?, scene.ns());
    let labels = format!(
        "{ARTIFACT_LABEL}={kind},{REQUEST_UID_LABEL}={}",
        request.uid().unwrap_or_default()
    );
    Ok(api
        .list(&ListParams::default().labels(&labels))
        .await?
        .items)
}

/// Nobody holds the Deployment of a request that has ended.
pub async fn ensure_free(scene: &Scene, request: &RollbackRequest) -> Result<()> {
    let Some(target) = request.spec.targets.first().and_then(|t| t.name.as_ref()) else {
        return Ok(());
    };
    let api: Api<RevisionLedger> = Api::namespaced(scene.client(User::Admin).await?, scene.ns());
    let name = ledger::name(WorkloadKind::Deployment, target);
    let claim = api.get_opt(&name).await?.and_then(|l| l.spec.claim);
    let held = claim.is_some_and(|claim| Some(claim.request_uid) == request.uid());
    ensure!(!held, "{} still holds {target}", request.name_any());
    Ok(())
}

/// The row of `kubectl get rbr NAME`, by the names of its columns.
pub async fn columns(scene: &Scene, name: &str) -> Result<BTreeMap<String, String>> {
    const NAMES: [&str; 6] = ["NAME", "ROLLBACK", "READY", "REASON", "APPROVED BY", "AGE"];
    let get = ["get", "rbr", name, "-n", scene.ns()];
    let table = scene.cluster.kubectl_ok(User::Outsider, &get, "").await?;
    let mut lines = table.lines();
    let (head, row) = lines.next().zip(lines.next()).context("no row")?;
    let starts: Vec<usize> = NAMES
        .iter()
        .map(|name| {
            let padded = head.find(&format!(" {name} ")).map(|at| at + 1);
            let first_or_last = || head.find(name).filter(|at| *at == 0 || *name == "AGE");
            padded
                .or_else(first_or_last)
                .with_context(|| format!("no column {name} in {head}"))
        })
        .collect::<Result<_>>()?;
    ensure!(
        head.split("  ").filter(|name| !name.is_empty()).count() == NAMES.len(),
        "{head}"
    );
    let ends = starts.iter().skip(1).copied().chain([usize::MAX]);
    Ok(NAMES
        .iter()
        .zip(starts.iter().zip(ends))
        .map(|(name, (start, end))| {
            let end = end.min(row.len());
            let value = row.get(*start..end).unwrap_or_default().trim();
            ((*name).to_owned(), value.to_owned())
        })
        .collect())
}
