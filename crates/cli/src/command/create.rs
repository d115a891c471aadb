//! `create`: asks for a rollback, from flags or, on a terminal, from answers.

use jiff::Timestamp;
use kube::ResourceExt;
use kube::api::PostParams;
use rollback_api::request::{LabelSelector, MAX_TARGETS, RequestReason, Target, To};
use rollback_api::{RollbackRequest, RollbackRequestSpec};
use rollback_core::message::shell;

use super::guided;
use super::status::Follower;
use crate::arguments::{Create, DryRun, Place, Wish};
use crate::cluster::{Cluster, FIELD_MANAGER};
use crate::error::Error;
use crate::here::flags_to_here;
use crate::output::{self, clean, remark};
use crate::to::{self, Wanted};
use crate::{Ending, prompt, versions};

/// Longest name of a request: it is part of the names of other objects.
const LONGEST_STEM: usize = 40;

/// Asks.
pub async fn run(cluster: &Cluster, place: &Place, create: Create) -> Result<Ending, Error> {
    let (create, targets) = wanted(cluster, create).await?;
    let reason = guided::reason(&create.wish)?;
    let mut request = build(cluster, &create, targets, reason);
    // Where the API server does not write it, it compares it.
    request.spec.requested_by = Some(cluster.identity().await?);
    if create.wish.dry_run == DryRun::Client {
        return output::written(place.output, &request, "created (dry run)").map(|_| Ending::Done);
    }
    if prompt::is_person() && !create.wish.yes && create.wish.dry_run == DryRun::None {
        guided::confirm(&request)?;
    }
    send(cluster, place, &create.wish, &request).await
}

/// What is to be rolled back and to what, from the words, or from answers where they say too little.
pub async fn wanted(cluster: &Cluster, mut create: Create) -> Result<(Create, Vec<Target>), Error> {
    no_word_of_dry_run(&create)?;
    if is_empty(&create) {
        create.workloads = guided::workloads(cluster).await?;
    }
    let wanted = match &create.to {
        Some(word) => to::wanted(word)?,
        None => guided::to(cluster, &create.workloads).await?,
    };
    let targets = targets(cluster, &create, &wanted).await?;
    Ok((create, targets))
}

/// `--dry-run server` would be a dry run here and a Deployment named server: the word belongs to the flag, or it is another
/// Deployment.
fn no_word_of_dry_run(create: &Create) -> Result<(), Error> {
    let stray = |word: &&String| ["server", "client", "none"].contains(&word.as_str());
    match create.workloads.iter().find(stray) {
        Some(word) if create.wish.dry_run == DryRun::Client => Err(Error::Arguments(format!(
            "Type --dry-run={word} as one word; or deployment/{word}, when there is a Deployment of that name."
        ))),
        Some(_) | None => Ok(()),
    }
}

/// Whether nothing says what is to be rolled back. A backup says it.
pub fn is_empty(create: &Create) -> bool {
    let is_backup = create
        .to
        .as_deref()
        .is_some_and(|to| to.starts_with("backup-of="));
    create.workloads.is_empty()
        && create.selector.is_none()
        && create.prefix.is_none()
        && !create.all
        && !is_backup
}

async fn targets(
    cluster: &Cluster,
    create: &Create,
    wanted: &Wanted,
) -> Result<Vec<Target>, Error> {
    let to = match wanted {
        Wanted::BackupOf(request) => return from_backups(cluster, create, request).await,
        Wanted::Version(to) => to.as_ref(),
    };
    if let Some(selector) = &create.selector {
        let target = Target {
            selector: Some(labels(selector)?),
            ..target(to)
        };
        return Ok(vec![target]);
    }
    if let Some(prefix) = &create.prefix {
        let target = Target {
            name_prefix: Some(prefix.clone()),
            ..target(to)
        };
        return Ok(vec![target]);
    }
    let chosen = if create.all {
        all(cluster).await?
    } else {
        names(&create.workloads)?
    };
    let chosen = chosen.into_iter();
    Ok(chosen
        .map(|name| Target {
            name: Some(name),
            ..target(to)
        })
        .collect())
}

fn target(to: &To) -> Target {
    Target {
        kind: "Deployment".to_owned(),
        to: to.clone(),
        ..Target::default()
    }
}

fn names(workloads: &[String]) -> Result<Vec<String>, Error> {
    workloads.iter().map(|word| to::deployment(word)).collect()
}

async fn all(cluster: &Cluster) -> Result<Vec<String>, Error> {
    let names = versions::deployments(cluster).await?;
    if names.is_empty() || names.len() > MAX_TARGETS {
        return Err(Error::Refused(format!(
            "Namespace {} has {} Deployments; one request rolls back 1 to {MAX_TARGETS}. Name them, or choose by -l or --prefix.",
            clean(&cluster.namespace),
            names.len()
        )));
    }
    Ok(names)
}

/// `app=api,tier=web`, as kubectl takes it; more than equality a request cannot say.
fn labels(selector: &str) -> Result<LabelSelector, Error> {
    let wrong = || {
        Error::Arguments(format!(
            "-l \"{}\" cannot be asked for: give labels and their values, for example -l app=api,tier=web.",
            clean(selector)
        ))
    };
    let pair = |part: &str| {
        let (key, value) = part.split_once('=').ok_or_else(wrong)?;
        let value = value.strip_prefix('=').unwrap_or(value);
        let is_equal = !key.is_empty() && !key.ends_with('!') && !value.contains('=');
        is_equal
            .then(|| (key.trim().to_owned(), value.trim().to_owned()))
            .ok_or_else(wrong)
    };
    let match_labels = selector
        .split(',')
        .map(pair)
        .collect::<Result<_, Error>>()?;
    Ok(LabelSelector { match_labels })
}

/// What each Deployment had before a request rolled it back: all of them, or those that are named.
async fn from_backups(
    cluster: &Cluster,
    create: &Create,
    request: &str,
) -> Result<Vec<Target>, Error> {
    if create.selector.is_some() || create.prefix.is_some() || create.all {
        return Err(Error::Arguments(
            "backup-of=REQUEST goes with the names of Deployments, or without any: then all of that request are meant. Leave -l, --prefix and --all out.".to_owned(),
        ));
    }
    let wanted = names(&create.workloads)?;
    let status = cluster.request(request).await?.status.unwrap_or_default();
    let targets: Vec<Target> = status
        .targets
        .iter()
        .filter(|it| wanted.is_empty() || wanted.contains(&it.name))
        .filter_map(|it| Some((it.name.clone(), it.backup.as_ref()?.config_map.clone())))
        .map(|(name, backup)| Target {
            name: Some(name),
            ..target(&To {
                backup: Some(backup),
                ..To::default()
            })
        })
        .collect();
    if targets.is_empty() || targets.len() < wanted.len() {
        return Err(Error::Refused(format!(
            "The request {} has no backup of what you name: it wrote nothing of it. kubectl rollback status {}{} shows what it did.",
            clean(request),
            shell::name(request, "REQUEST"),
            flags_to_here()
        )));
    }
    Ok(targets)
}

/// The request that these words make.
pub fn build(
    cluster: &Cluster,
    create: &Create,
    targets: Vec<Target>,
    reason: RequestReason,
) -> RollbackRequest {
    let wish = &create.wish;
    let name = wish
        .name
        .clone()
        .unwrap_or_else(|| generated(&targets, Timestamp::now()));
    let spec = RollbackRequestSpec {
        targets,
        reason,
        urgency: wish.urgency,
        not_after: None,
        rollout: None,
        verification: None,
        trigger: None,
        dry_run: wish.plan_only,
        requested_by: None,
    };
    let mut request = RollbackRequest::new(&name, spec);
    request.metadata.namespace = Some(cluster.namespace.clone());
    request
}

/// A name that says what and when: `api-20261130-140213`.
fn generated(targets: &[Target], now: Timestamp) -> String {
    let first = targets.first();
    let stem = match (
        targets.len(),
        first.and_then(|target| target.name.as_deref()),
    ) {
        (1, Some(name)) => name,
        (_, Some(_) | None) => first
            .and_then(|target| target.name_prefix.as_deref())
            .unwrap_or("rollback"),
    };
    let stem: String = stem.chars().take(LONGEST_STEM).collect();
    let stem = stem.trim_end_matches(['-', '.']);
    format!("{stem}-{}", now.strftime("%Y%m%d-%H%M%S"))
}

async fn send(
    cluster: &Cluster,
    place: &Place,
    wish: &Wish,
    request: &RollbackRequest,
) -> Result<Ending, Error> {
    let rehearsed = wish.dry_run == DryRun::Server;
    let parameters = PostParams {
        dry_run: rehearsed,
        field_manager: Some(FIELD_MANAGER.to_owned()),
    };
    let api = cluster.api::<RollbackRequest>();
    let made = api.create(&parameters, request).await?;
    let name = made.name_any();
    if rehearsed {
        return output::written(place.output, &made, "created (server dry run)")
            .map(|_| Ending::Done);
    }
    if wish.wait {
        remark(&format!(
            "{} created; waiting for its end",
            output::name_of(&made)
        ));
        let follower = Follower {
            format: place.output,
            every: false,
            logs: false,
        };
        return Box::pin(follower.follow(cluster, &name, wish.timeout)).await;
    }
    output::written(place.output, &made, "created")?;
    // Who approves sits elsewhere, so the namespace is always said.
    let namespace = match place.namespace {
        Some(_) => String::new(),
        None => format!(" -n {}", shell::name(&cluster.namespace, "NAMESPACE")),
    };
    let here = format!("{namespace}{}", flags_to_here());
    remark(&format!(
        "Somebody approves it with kubectl rollback approve {name}{here}; follow it with kubectl rollback status {name} -w{here}."
    ));
    Ok(Ending::Done)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_read_as_kubectl_writes_them() {
        let read = labels("app=api, tier==web").unwrap();
        assert_eq!(
            format!("{:?}", read.match_labels),
            r#"{"app": "api", "tier": "web"}"#
        );
        for wrong in ["app", "app!=api", "app in (a,b)", "=x", ""] {
            assert_eq!(labels(wrong).unwrap_err().code(), 2, "{wrong}");
        }
    }

    #[test]
    fn a_name_is_made_of_the_workload_and_the_time() {
        let named = |name: &str| Target {
            name: Some(name.to_owned()),
            ..Target::default()
        };
        let at = Timestamp::UNIX_EPOCH;
        assert_eq!(generated(&[named("api")], at), "api-19700101-000000");
        assert_eq!(
            generated(&[named("api"), named("web")], at),
            "rollback-19700101-000000"
        );
        let long = generated(&[named(&"a-".repeat(100))], at);
        assert!(long.len() <= 63 && !long.contains("--"), "{long}");
    }
}
