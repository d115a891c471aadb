//! `plan`: what a rollback would do, made here with the rights of whoever asks. Nothing is written, and no controller has
//! to be there, not even its definitions.

use jiff::Timestamp;
use kube::ResourceExt;
use rollback_api::RollbackRequest;
use rollback_api::request::{Category, RequestReason};
use rollback_api::status::Plan;
use rollback_core::message::shell;
use rollback_core::plan::Draft;
use rollback_observe::{Drafted, Reader};
use rollback_probe::networks::{Externals, Networks};
use serde_json::{Value, json};

use super::asked::Asked;
use super::create;
use crate::arguments::{Create, Format};
use crate::cluster::Cluster;
use crate::error::Error;
use crate::here::flags_to_here;
use crate::output::{self, Paint, clean, say_all};
use crate::{Ending, prompt, show};

/// What no draft has in it, because only the controller can tell.
const ONLY_THE_CONTROLLER: [&str; 6] = [
    "the digest that an approval is bound to: nobody can approve a draft",
    "whether the guard is in force, without which no approval counts (kubectl rollback doctor)",
    "whether the namespace has opted in (kubectl rollback doctor)",
    "whether too many requests are open already, or another one works on the same Deployment",
    "what the admission webhooks and plugins of the API server would make of the write",
    "what the checks say of the version that runs, and which addresses they may ask",
];

/// The same, where somebody else has asked for more urgency than the category has.
const WHO_ASKED: &str =
    "whether who asked may claim that urgency: the rules above are those for you";

/// What is said of trouble that nobody has described yet.
const UNSAID: &str = "(a draft; nobody has asked yet)";

/// What a plan is made for.
struct Meant {
    request: RollbackRequest,
    /// Whether it is stored, so that it has a name that others know.
    is_stored: bool,
}

/// Makes the plan and shows it.
pub async fn run(
    cluster: &Cluster,
    format: Option<Format>,
    words: Create,
) -> Result<Ending, Error> {
    let meant = meant(cluster, words).await?;
    let now = Timestamp::now();
    let probe = rollback_probe::Client::new(Networks(Vec::new()), Externals(Vec::new()));
    let probe = probe.map_err(|error| Error::Unreachable(clean(&error.to_string())))?;
    let reader = Reader {
        client: &cluster.client,
        probe: &probe,
    };
    let drafted = rollback_observe::plan(reader, &meant.request, now).await?;
    let asked = match &drafted.plan {
        Ok(draft) => Some(Asked::of(cluster, &meant.request, &draft.rules, None, now).await?),
        Err(_) => None,
    };
    if !output::data(format, &data(cluster, &meant, &drafted, asked.as_ref()))? {
        say_all(&text(cluster, &meant, &drafted, asked.as_ref(), now))?;
    }
    Ok(match drafted.plan {
        Ok(_) => Ending::Done,
        Err(_) => Ending::NotDone,
    })
}

/// The request that is named, or the one that `create` would make of these words.
async fn meant(cluster: &Cluster, words: Create) -> Result<Meant, Error> {
    let is_named = words.to.is_none() && words.selector.is_none();
    let is_named = is_named && words.prefix.is_none() && !words.all;
    if let ([name], true) = (
        words.workloads.as_slice(),
        is_named && !asks_for_one(&words),
    ) {
        return stored(cluster, name).await;
    }
    if create::is_empty(&words) && !prompt::is_person() {
        return Err(Error::Arguments(
            "Say what is to be planned: kubectl rollback plan deployment/NAME --to previous, or -l app=api, --prefix shop-, --all; or the name of a request.".to_owned(),
        ));
    }
    let reason = RequestReason {
        category: words.wish.category.unwrap_or(Category::ErrorRate),
        summary: words
            .wish
            .reason
            .clone()
            .unwrap_or_else(|| UNSAID.to_owned()),
        root_cause: String::new(),
        impact: String::new(),
        incident_url: None,
    };
    let (words, targets) = create::wanted(cluster, words).await?;
    Ok(Meant {
        request: create::build(cluster, &words, targets, reason),
        is_stored: false,
    })
}

/// Whether a single word is a Deployment, because it is written as one.
fn asks_for_one(words: &Create) -> bool {
    words.workloads.iter().any(|word| word.contains('/'))
}

async fn stored(cluster: &Cluster, name: &str) -> Result<Meant, Error> {
    let found = cluster.api::<RollbackRequest>().get_opt(name).await?;
    let request = found.ok_or_else(|| {
        Error::Refused(format!(
            "There is no request {} in this namespace. For the plan of a Deployment say what to go back to: kubectl rollback plan {} --to previous{}.",
            clean(name),
            shell::name(name, "DEPLOYMENT"),
            flags_to_here()
        ))
    })?;
    Ok(Meant {
        request,
        is_stored: true,
    })
}

fn data(cluster: &Cluster, meant: &Meant, drafted: &Drafted, asked: Option<&Asked>) -> Value {
    let ending = drafted.plan.as_ref().err().map(|ending| {
        json!({"result": ending.result.as_str(), "reason": ending.reason.as_str(), "message": ending.text()})
    });
    let plan = drafted.plan.as_ref().ok().map(|draft| {
        json!({
            "notAfter": draft.not_after, "rules": draft.rules, "dataRisk": draft.data_risk,
            "targets": draft.targets, "skipped": draft.skipped,
        })
    });
    json!({
        "kind": "Draft",
        "namespace": cluster.namespace,
        "request": meant.is_stored.then(|| meant.request.name_any()),
        "installed": drafted.is_installed,
        "plan": plan,
        "asked": asked,
        "ending": ending,
        "unseen": drafted.unseen,
        "onlyTheController": only_the_controller(meant, asked),
    })
}

fn text(
    cluster: &Cluster,
    meant: &Meant,
    drafted: &Drafted,
    asked: Option<&Asked>,
    now: Timestamp,
) -> Vec<String> {
    let paint = Paint::new();
    let mut lines = vec![head(cluster, meant)];
    if !drafted.is_installed {
        lines.push(
            "The operator is not installed in this cluster: no policy, so the rules of production; no ledger, so nothing is known of any version. deploy/README.md says how to install it."
                .to_owned(),
        );
    }
    match &drafted.plan {
        Ok(draft) => {
            let plan = unsealed(draft, now);
            lines.push(show::rules_line(&plan));
            lines.extend(show::changes(&plan, paint));
            lines.extend(asked.iter().flat_map(|asked| asked.lines()));
            lines.extend(left_out(drafted, &only_the_controller(meant, asked)));
        }
        Err(ending) => {
            let word = format!("{} ({})", ending.result.as_str(), ending.reason.as_str());
            lines.push(format!("There would be no plan: {}", paint.bad(&word)));
            lines.push(clean(&ending.text()));
        }
    }
    lines
}

fn head(cluster: &Cluster, meant: &Meant) -> String {
    let namespace = clean(&cluster.namespace);
    if !meant.is_stored {
        return format!(
            "A draft for namespace {namespace}: nothing was written, and nothing is asked for."
        );
    }
    let name = clean(&meant.request.name_any());
    if meant.request.outcome().is_some() {
        return format!(
            "What {name} in namespace {namespace} would do now; it has ended, so it does nothing any more."
        );
    }
    format!(
        "What {name} in namespace {namespace} would do now; nothing was written. Its own plan, which is what is approved: kubectl rollback status {name}{}.",
        flags_to_here()
    )
}

fn left_out(drafted: &Drafted, hidden: &[&str]) -> Vec<String> {
    let mut lines = Vec::new();
    if !drafted.unseen.is_empty() {
        lines.push(format!(
            "You may not look at {}, so the risks that they stand for are not above.",
            drafted.unseen.join(", ")
        ));
    }
    lines.push("Only the controller can tell:".to_owned());
    lines.extend(hidden.iter().map(|it| format!("  - {it}")));
    lines
}

/// What this draft says nothing of.
fn only_the_controller(meant: &Meant, asked: Option<&Asked>) -> Vec<&'static str> {
    let by = meant.request.spec.requested_by.as_ref();
    let is_mine = by.is_none_or(|by| asked.is_some_and(|asked| asked.is_for(&by.username)));
    let is_hurried = meant.request.spec.urgency.is_some() && !is_mine;
    let hidden = ONLY_THE_CONTROLLER.into_iter();
    hidden.chain(is_hurried.then_some(WHO_ASKED)).collect()
}

/// The draft as a plan, to be shown as one. It has no digest.
fn unsealed(draft: &Draft, now: Timestamp) -> Plan {
    Plan {
        digest: String::new(),
        round: 0,
        data_risk: draft.data_risk.clone(),
        planned_at: now,
        not_after: draft.not_after,
        rules: draft.rules.clone(),
        guard: String::new(),
        targets: draft.targets.clone(),
        skipped: draft.skipped.clone(),
    }
}
