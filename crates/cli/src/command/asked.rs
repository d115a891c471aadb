//! `policy check`, and the same beside a plan: what would be asked of whom, here and now.

use jiff::Timestamp;
use rollback_api::policy::{ChecklistItem, Environment, SelfHealing, Triggers, UnknownSchema};
use rollback_api::request::{Category, RequestReason, Target, To, Urgency};
use rollback_api::status::Rules;
use rollback_api::{GROUP, POLICY_NAME, RollbackPolicy, RollbackRequest, RollbackRequestSpec};
use rollback_core::approval::freeze;
use rollback_core::observed::Deployment;
use rollback_core::plan::{owner, rules};
use rollback_core::time::stamp;
use serde::Serialize;
use serde_json::json;

use super::doctor::rights::{self, Right};
use super::policy;
use crate::Ending;
use crate::arguments::Format;
use crate::cluster::Cluster;
use crate::error::Error;
use crate::output::{self, clean, say, say_all};
use crate::to;
use crate::versions;

/// What asking takes, besides the right to patch the Deployment.
const ASK: Right = ("create", GROUP, "rollbackrequests", "");
/// What approving takes: the guard asks for the second, the API server for the first.
const APPROVE: [Right; 2] = [
    ("patch", GROUP, "rollbackrequests", ""),
    ("approve", GROUP, "rollbackrequests", "approval"),
];
/// What claiming more urgency takes.
const EXPEDITE: Right = ("expedite", GROUP, "rollbackrequests", "expedite");
/// What approving alone takes.
const BREAK_GLASS: Right = ("break-glass", GROUP, "rollbackrequests", "break-glass");
/// What the controller asks of everybody involved.
const PATCH: Right = ("patch", "apps", "deployments", "");

/// What would be asked of whom.
#[derive(Serialize, Debug)]
#[serde(rename_all = "camelCase")]
pub struct Asked {
    environment: Environment,
    category: Category,
    urgency: Urgency,
    /// How many people have to approve.
    approvals: i32,
    /// Whether who asked may not be one of them.
    four_eyes: bool,
    /// The machine that asks, when that is why two have to approve.
    #[serde(skip_serializing_if = "Option::is_none")]
    because_of_machine: Option<String>,
    /// What an approver types.
    phrase: String,
    /// What an approver ticks.
    checklist: Vec<ChecklistItem>,
    /// Whether one person may approve alone, with a reason.
    break_glass: bool,
    /// What freezes the namespace now, and until when.
    #[serde(skip_serializing_if = "Option::is_none")]
    frozen: Option<String>,
    /// Whoever asks this.
    you: You,
}

/// What I may do of it.
#[derive(Serialize, Debug)]
#[serde(rename_all = "camelCase")]
struct You {
    name: String,
    may_ask: bool,
    may_approve: bool,
    may_break_glass: bool,
    /// What I lack to approve.
    lack: Vec<String>,
}

impl Asked {
    /// Of a request under these rules.
    pub async fn of(
        cluster: &Cluster,
        request: &RollbackRequest,
        rules: &Rules,
        deployment: Option<&str>,
        now: Timestamp,
    ) -> Result<Self, Error> {
        let approvals = &rules.approvals;
        Ok(Self {
            environment: rules.environment,
            category: request.spec.reason.category,
            urgency: rules.urgency,
            approvals: approvals.required.max(1),
            four_eyes: rules.four_eyes(),
            because_of_machine: rules.asked_by_machine.clone(),
            phrase: rules.confirm_phrase().to_owned(),
            checklist: rules.checklist().to_vec(),
            break_glass: approvals.break_glass,
            frozen: frozen(rules, now),
            you: you(cluster, deployment).await?,
        })
    }

    /// Whether it is this user who reads it.
    pub fn is_for(&self, user: &str) -> bool {
        self.you.name == user
    }

    /// For a reader.
    pub fn lines(&self) -> Vec<String> {
        let four_eyes = if self.four_eyes {
            ", not by who asked"
        } else {
            ""
        };
        let machine = self.because_of_machine.as_deref();
        let machine = machine.map_or_else(String::new, |who| {
            format!("; two, because {} asks and is no person", clean(who))
        });
        let mut lines = vec![
            format!("Approvals        {}{four_eyes}{machine}", self.approvals),
            format!("Phrase           {}", clean(&self.phrase)),
        ];
        lines.extend(self.checklist.iter().map(|item| {
            format!(
                "Checklist        {}: {}",
                clean(&item.name),
                clean(&item.text)
            )
        }));
        if self.break_glass {
            lines.push("Break-glass      allowed, for who has the role".to_owned());
        }
        lines.extend(
            self.frozen
                .iter()
                .map(|it| format!("Frozen           {it}")),
        );
        lines.push(format!(
            "You              {}",
            self.you.text(self.four_eyes)
        ));
        lines
    }
}

impl You {
    fn text(&self, four_eyes: bool) -> String {
        let ask = if self.may_ask { "may" } else { "may not" };
        let approve = match (self.may_approve, four_eyes) {
            (true, true) => "may approve what others ask for".to_owned(),
            (true, false) => "may approve".to_owned(),
            (false, _) => format!("may not approve (you lack {})", self.lack.join(", ")),
        };
        format!("{}: {ask} ask, {approve}", clean(&self.name))
    }
}

fn frozen(rules: &Rules, now: Timestamp) -> Option<String> {
    let open = freeze::frozen(&rules.freeze_windows, now)?;
    let until = match open.until {
        Ok(until) => format!("until {}", stamp(until)),
        Err(why) => format!("and nobody can tell until when ({})", clean(&why)),
    };
    Some(format!(
        "now, by the window {} {until}",
        clean(&open.window)
    ))
}

async fn you(cluster: &Cluster, deployment: Option<&str>) -> Result<You, Error> {
    let name = cluster.who().await?;
    let patches = rights::may(cluster, PATCH, deployment).await?;
    let mut lack = rights::lacking(cluster, &APPROVE).await?;
    if !patches {
        lack.push(rights::text(PATCH));
    }
    Ok(You {
        name,
        may_ask: patches && rights::may(cluster, ASK, None).await?,
        may_approve: lack.is_empty(),
        may_break_glass: rights::may(cluster, BREAK_GLASS, None).await?,
        lack,
    })
}

/// Says it of a workload, or of any of the namespace.
pub async fn check(
    cluster: &Cluster,
    format: Option<Format>,
    workload: Option<&str>,
    category: Option<Category>,
    urgency: Option<Urgency>,
) -> Result<Ending, Error> {
    let name = workload.map(to::deployment).transpose()?;
    let deployment = match &name {
        Some(name) => Some(versions::deployment(cluster, name).await?),
        None => None,
    };
    let category = category.unwrap_or(Category::ErrorRate);
    let found = cluster.api::<RollbackPolicy>().get_opt(POLICY_NAME).await?;
    let policy = found.map(|policy| policy.spec);
    let request = imagined(cluster, name.as_deref(), category, urgency).await?;
    let expedited = rules::makes_a_difference(&request, policy.as_ref())
        && rights::may(cluster, EXPEDITE, None).await?;
    let rules = rules::rules(&request, policy.as_ref(), expedited);
    let now = Timestamp::now();
    let asked = Asked::of(cluster, &request, &rules, name.as_deref(), now).await?;
    let owners: Vec<String> = deployment.as_ref().map(owners).unwrap_or_default();
    let triggers = policy.as_ref().map(|policy| &policy.triggers);
    let refused = !expedited && rules::is_hurried(&request, policy.as_ref());
    let windows: Vec<_> = rules.freeze_windows.iter().collect();
    let all = json!({
        "namespace": cluster.namespace, "workload": name, "hasPolicy": policy.is_some(), "asked": asked,
        "urgencyRefused": refused, "freezeWindows": windows, "dataGate": rules.data_gate, "owners": owners,
        "onSelfHealing": rules.git_ops.on_self_healing, "triggers": triggers,
    });
    if output::data(format, &all)? {
        return Ok(Ending::Done);
    }
    say(&head(cluster, name.as_deref(), &asked, policy.is_some()))?;
    if refused {
        say(&format!(
            "Urgency          refused: {category:?} stands for less, and you may not ask for more (role rollback-expediter)"
        ))?;
    }
    say_all(&asked.lines())?;
    say_all(&rest(&rules, &owners, name.is_some(), triggers))?;
    Ok(Ending::Done)
}

fn head(cluster: &Cluster, name: Option<&str>, asked: &Asked, has_policy: bool) -> String {
    let what = name.map_or_else(
        || "any Deployment".to_owned(),
        |name| format!("Deployment {}", clean(name)),
    );
    let whose = if has_policy {
        ""
    } else {
        " (there is no RollbackPolicy, so the rules of production hold)"
    };
    format!(
        "To roll back {what} in namespace {}, {:?}{whose}, because of {:?} ({:?} urgency):",
        clean(&cluster.namespace),
        asked.environment,
        asked.category,
        asked.urgency
    )
}

fn owners(deployment: &Deployment) -> Vec<String> {
    let all = owner::owners(deployment).into_iter();
    all.map(|owner| owner.told()).collect()
}

/// What holds whoever approves.
fn rest(
    rules: &Rules,
    owners: &[String],
    is_named: bool,
    triggers: Option<&Triggers>,
) -> Vec<String> {
    let mut lines: Vec<String> = rules.freeze_windows.iter().map(policy::window).collect();
    let untold = match rules.data_gate.unknown {
        UnknownSchema::Allow => "versions that say nothing of their schema pass",
        UnknownSchema::Block => {
            "versions that say nothing of their schema wait until an approver accepts the risk"
        }
    };
    let contact = rules.data_gate.contact.as_deref();
    let contact = contact.map_or_else(String::new, |who| format!("; ask {}", clean(who)));
    lines.push(format!(
        "Data             a version that does not fit waits until an approver accepts the risk; {untold}{contact}"
    ));
    let healing = match rules.git_ops.on_self_healing {
        SelfHealing::Refuse => "refused while it would undo the rollback",
        SelfHealing::Hold => "kept from undoing the rollback, or refused where that cannot be done",
        SelfHealing::Warn => "warned of, not refused",
    };
    match owners {
        [] if is_named => lines
            .push("Owner            nothing else writes it, as far as its marks tell".to_owned()),
        [] => lines.push(format!(
            "Owner            who writes it besides is {healing}"
        )),
        owners => lines.push(format!("Owner            {}: {healing}", owners.join(", "))),
    }
    let asks = triggers.map_or_else(|| "nothing asks but people".to_owned(), policy::triggers);
    lines.push(format!("By itself        {asks}"));
    lines
}

/// A request that nobody makes, for the rules that would hold for it if it were me who asks.
async fn imagined(
    cluster: &Cluster,
    name: Option<&str>,
    category: Category,
    urgency: Option<Urgency>,
) -> Result<RollbackRequest, Error> {
    let target = Target {
        kind: "Deployment".to_owned(),
        name: Some(name.unwrap_or("any").to_owned()),
        to: To::previous(),
        ..Target::default()
    };
    let spec = RollbackRequestSpec {
        targets: vec![target],
        reason: RequestReason {
            category,
            summary: String::new(),
            root_cause: String::new(),
            impact: String::new(),
            incident_url: None,
        },
        urgency,
        not_after: None,
        rollout: None,
        verification: None,
        trigger: None,
        dry_run: false,
        requested_by: Some(cluster.identity().await?),
    };
    let mut request = RollbackRequest::new("imagined", spec);
    request.metadata.namespace = Some(cluster.namespace.clone());
    Ok(request)
}
