//! What `create` asks at a terminal when it was not typed; elsewhere it says what to type.

use clap::ValueEnum;
use jiff::Timestamp;
use rollback_api::RollbackRequest;
use rollback_api::request::{Category, RequestReason, To};
use rollback_core::history::{Choice, Wish as Choosing, diff};

use super::history;
use crate::arguments::Wish;
use crate::cluster::Cluster;
use crate::error::Error;
use crate::output::{clean, remark, remark_all};
use crate::prompt;
use crate::to::{self, Wanted};
use crate::versions::{self, Versions};

/// Which Deployments.
pub async fn workloads(cluster: &Cluster) -> Result<Vec<String>, Error> {
    if !prompt::is_person() {
        return Err(Error::Arguments(
            "Say what is to be rolled back: kubectl rollback create deployment/NAME --to previous --category ErrorRate --reason 'WHAT IS WRONG'; or -l app=api, --prefix shop-, --all.".to_owned(),
        ));
    }
    let names = versions::deployments(cluster).await?;
    if names.is_empty() {
        return Err(Error::Refused(format!(
            "Namespace {} has no Deployments. Name another one with -n.",
            clean(&cluster.namespace)
        )));
    }
    remark(&format!(
        "Deployments of namespace {}:",
        clean(&cluster.namespace)
    ));
    for (index, name) in names.iter().enumerate() {
        remark(&format!("  {:>3}  {}", index + 1, clean(name)));
    }
    let answer = prompt::line("Which? Numbers or names, separated by commas:")?;
    let chosen = answer
        .split(',')
        .map(str::trim)
        .filter(|word| !word.is_empty());
    let listed = |word: &str| {
        let number = word
            .parse::<usize>()
            .ok()
            .and_then(|number| number.checked_sub(1));
        let found = number.and_then(|index| names.get(index));
        found.cloned().unwrap_or_else(|| word.to_owned())
    };
    let chosen: Vec<String> = chosen.map(listed).collect();
    let is_there = |word: &String| to::deployment(word).is_ok_and(|name| names.contains(&name));
    if let Some(stray) = chosen.iter().find(|word| !is_there(word)) {
        return Err(Error::Arguments(format!(
            "\"{}\" is not in the list. Type its numbers, 1 to {}, or names.",
            clean(stray),
            names.len()
        )));
    }
    if chosen.is_empty() {
        return Err(Error::Unanswered(
            "Nothing was chosen, so nothing was done.".to_owned(),
        ));
    }
    Ok(chosen)
}

/// What to go back to. Of a single Deployment the history is shown, and what would change.
pub async fn to(cluster: &Cluster, workloads: &[String]) -> Result<Wanted, Error> {
    if !prompt::is_person() {
        return Err(Error::Arguments(
            "Say what to go back to: add --to previous, or revision-3, v2.1.5, last-known-good, backup-of=REQUEST.".to_owned(),
        ));
    }
    let [only] = workloads else {
        return to::wanted(&prompt::line_or("Back to what?", "previous")?);
    };
    let versions = Versions::read(cluster, &to::deployment(only)?).await?;
    remark_all(&history::text(&versions, Timestamp::now(), false));
    let wanted = to::wanted(&prompt::line_or("Back to what?", "previous")?)?;
    if let Wanted::Version(to) = &wanted {
        preview(&versions, to);
    }
    Ok(wanted)
}

/// What the controller will most likely choose, and what would change. The plan says it for certain.
fn preview(versions: &Versions, to: &To) {
    let current = versions.deployment.template();
    let bad = versions.in_quarantine(Timestamp::now());
    let choice = versions.history.choose(Choosing {
        to,
        current: &current,
        bad: &bad,
        good: &versions.good(),
        limit: versions.deployment.history_limit(),
    });
    match choice {
        Choice::Revision { revision, notes } => {
            remark("This would change:");
            let changes = diff::changes(&current, &revision.template);
            changes
                .iter()
                .chain(&notes)
                .for_each(|line| remark(&format!("  {}", clean(line))));
        }
        Choice::Current(said) | Choice::Equivalent(said) | Choice::None(_, said) => {
            remark(&clean(&said));
        }
    }
}

/// Why.
pub fn reason(wish: &Wish) -> Result<RequestReason, Error> {
    let is_person = prompt::is_person();
    if !is_person && (wish.category.is_none() || wish.reason.is_none()) {
        return Err(Error::Arguments(format!(
            "Say why: add --category {} --reason 'WHAT IS WRONG'. The approver decides by it.",
            categories()
        )));
    }
    let category = match wish.category {
        Some(category) => category,
        None => category(&prompt::line_or(
            &format!("What kind of trouble ({})?", categories()),
            "ErrorRate",
        )?)?,
    };
    let summary = match &wish.reason {
        Some(reason) => reason.clone(),
        None => prompt::line("What is wrong, in one line?")?,
    };
    Ok(RequestReason {
        category,
        summary,
        root_cause: String::new(),
        impact: String::new(),
        incident_url: None,
    })
}

fn category(word: &str) -> Result<Category, Error> {
    Category::from_str(word, true).map_err(|_| {
        Error::Arguments(format!(
            "\"{}\" is no category. Type one of {}.",
            clean(word),
            categories()
        ))
    })
}

fn categories() -> String {
    let variants = Category::value_variants().iter();
    let names = variants.filter_map(ValueEnum::to_possible_value);
    let names: Vec<String> = names.map(|name| name.get_name().to_owned()).collect();
    names.join("|")
}

/// A last look before the request is made.
pub fn confirm(request: &RollbackRequest) -> Result<(), Error> {
    let names: Vec<String> = request
        .spec
        .targets
        .iter()
        .map(|target| {
            let named = target.name.as_deref().map(clean);
            named
                .or_else(|| {
                    Some(format!(
                        "those that begin with {}",
                        clean(target.name_prefix.as_deref()?)
                    ))
                })
                .unwrap_or_else(|| "those with these labels".to_owned())
        })
        .collect();
    let question = format!(
        "Ask for the rollback of {} in namespace {}? Nothing is changed before it is approved.",
        names.join(", "),
        clean(request.metadata.namespace.as_deref().unwrap_or_default())
    );
    if prompt::agrees(&question)? {
        return Ok(());
    }
    Err(Error::Unanswered("Nothing was asked for.".to_owned()))
}
