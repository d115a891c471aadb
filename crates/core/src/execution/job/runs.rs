//! What a Job runs, and as whom: told in the plan, and done as it was told.

use std::collections::BTreeSet;

use rollback_api::policy::{ImageOf, Side};
use rollback_api::status::{ImageChange, JobContainer, JobImage, JobRule, Plan, PlannedTarget};
use serde_json::Value;

use super::LISTS;
use crate::history::template::Template;
use crate::message::text::plain;

/// What a pod runs as that does not say it.
const DEFAULT_ACCOUNT: &str = "default";
/// Most containers of one Job.
const MAX_CONTAINERS: usize = 20;
/// Longest name that a plan takes, in bytes.
const LONGEST_NAME: usize = 500;
/// Most images of several Deployments that a sentence names.
const NAMED: usize = 3;
/// Longest text about all Jobs, in characters: what to type to approve has to fit behind it.
const TOLD_LIMIT: usize = 1800;

/// What the pod of a Job says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pod {
    /// The `ServiceAccount` that it runs as.
    pub service_account: String,
    /// Its containers, those that come first at the beginning.
    pub containers: Vec<JobContainer>,
}

/// What the pod of a Job says of itself; none when that cannot be told, or is too much to be told.
pub fn pod_of(spec: &Value) -> Option<Pod> {
    let fields = spec.as_object()?;
    let account = |field| text(fields.get(field));
    // The second is the old name of the first, and counts only where the first says nothing.
    let service_account = match (account("serviceAccountName")?, account("serviceAccount")?) {
        ("", "") => DEFAULT_ACCOUNT,
        ("", old) => old,
        (name, _) => name,
    };
    let mut containers = Vec::new();
    for list in LISTS {
        let Some(list) = fields.get(list).filter(|list| !list.is_null()) else {
            continue;
        };
        for container in list.as_array()? {
            let name = text(container.get("name"))?.to_owned();
            let image = text(container.get("image"))?;
            let image = (!image.is_empty()).then(|| image.to_owned());
            containers.push(JobContainer { name, image });
        }
    }
    let is_short = |text: &str| text.len() <= LONGEST_NAME;
    let fits = containers.len() <= MAX_CONTAINERS
        && is_short(service_account)
        && containers.iter().all(|container| {
            is_short(&container.name) && container.image.as_deref().is_none_or(is_short)
        });
    fits.then(|| Pod {
        service_account: service_account.to_owned(),
        containers,
    })
}

/// A field that is a text, or is not there.
fn text(value: Option<&Value>) -> Option<&str> {
    match value {
        None | Some(Value::Null) => Some(""),
        Some(value) => value.as_str(),
    }
}

/// The images that Jobs get by `imageOf` and that do not stand among those that change.
pub fn other_images(
    jobs: &[JobRule],
    newer: &Template,
    older: &Template,
    changes: &[ImageChange],
) -> Vec<JobImage> {
    let mut images: Vec<JobImage> = Vec::new();
    for wanted in jobs.iter().filter_map(|rule| rule.image_of.as_ref()) {
        let container = &wanted.container;
        let is_known = changes.iter().any(|change| change.container == *container)
            || images
                .iter()
                .any(|known| known.version == wanted.version && known.container == *container);
        if is_known {
            continue;
        }
        let of = match wanted.version {
            Side::Newer => newer.images(),
            Side::Older => older.images(),
        };
        images.push(JobImage {
            version: wanted.version,
            container: container.clone(),
            image: of.get(container).cloned(),
        });
    }
    images
}

/// The image that the plan has for the containers of a Job that the policy gives none; none when the Job takes none of a
/// version.
///
/// # Errors
/// Why the Job must not be started.
pub fn image(target: &PlannedTarget, rule: &JobRule) -> Result<Option<String>, String> {
    if rule.service_account.is_none() {
        let why = "it was not started, because the plan cannot say as which ServiceAccount and with which images it runs: in its podSpec serviceAccountName, and name and image of at most 20 containers, have to be texts";
        return Err(why.to_owned());
    }
    let Some(wanted) = &rule.image_of else {
        return Ok(None);
    };
    let (container, version) = (plain(&wanted.container, 63), word(wanted.version));
    match planned(target, wanted) {
        Some(image) => image.map(Some).ok_or_else(|| {
            format!(
                "it was not started, because imageOf names container {container} and the {version} version has none of that name"
            )
        }),
        None => Err(format!(
            "it was not started, because imageOf names container {container} only since the plan was made, and the plan does not say its image; create a new request"
        )),
    }
}

fn word(version: Side) -> &'static str {
    match version {
        Side::Newer => "newer",
        Side::Older => "older",
    }
}

/// What the plan says of that container: nothing, that the version has none, or its image.
#[expect(
    clippy::option_option,
    reason = "that a version has no such container is something else than that nobody looked"
)]
fn planned(target: &PlannedTarget, wanted: &ImageOf) -> Option<Option<String>> {
    let by_change = |changes: &[ImageChange]| {
        let change = changes
            .iter()
            .find(|change| change.container == wanted.container)?;
        Some(match wanted.version {
            Side::Newer => change.from.clone(),
            Side::Older => change.to.clone(),
        })
    };
    // While a fallback is tried, what it changes comes on top.
    let fallback = target
        .fallbacks
        .iter()
        .find(|fallback| wanted.version == Side::Older && fallback.to.digest == target.to.digest);
    let stored = || {
        let stored = target.job_images.iter().find(|stored| {
            stored.version == wanted.version && stored.container == wanted.container
        })?;
        Some(stored.image.clone())
    };
    fallback
        .and_then(|fallback| by_change(&fallback.images))
        .or_else(|| by_change(&target.images))
        .or_else(stored)
}

/// What runs as whom, for who approves: a sentence for each Job, and a space behind each. Empty without Jobs.
pub fn told(plan: &Plan) -> String {
    let mut told = String::new();
    for (index, rule) in plan.rules.jobs.iter().enumerate() {
        let sentence = sentence(plan, rule);
        if told.chars().count() + sentence.chars().count() > TOLD_LIMIT {
            let left = plan.rules.jobs.len() - index;
            let more = format!("{left} more Jobs run: see status.plan.rules.jobs. ");
            told.push_str(&more);
            break;
        }
        told.push_str(&sentence);
        told.push(' ');
    }
    told
}

/// `PreRollback Job drain runs as ServiceAccount migrator with registry/api:v2 (container api of the newer version).`
pub fn sentence(plan: &Plan, rule: &JobRule) -> String {
    let title = format!("{} Job {}", rule.stage.as_str(), plain(&rule.name, 40));
    let Some(account) = &rule.service_account else {
        return format!(
            "{title} does not run: its podSpec does not say readably as which ServiceAccount and with which images."
        );
    };
    let own = rule
        .containers
        .iter()
        .filter_map(|one| one.image.as_deref());
    let mut images: Vec<String> = own.map(|image| plain(image, 200)).collect();
    if let Some(wanted) = &rule.image_of {
        images.push(of_version(plan, rule, wanted));
    }
    let images = if images.is_empty() {
        "no image".to_owned()
    } else {
        plain(&images.join(", "), 900)
    };
    format!(
        "{title} runs as ServiceAccount {} with {images}.",
        plain(account, 253)
    )
}

/// The images of one version, each once, and of which container they are.
fn of_version(plan: &Plan, rule: &JobRule, wanted: &ImageOf) -> String {
    let images = plan.targets.iter().map(|target| {
        let image = image(target, rule).ok().flatten();
        image.map_or_else(|| "no image".to_owned(), |image| plain(&image, 200))
    });
    let images: BTreeSet<String> = images.collect();
    let more = images.len().saturating_sub(NAMED);
    let mut named: Vec<String> = images.into_iter().take(NAMED).collect();
    if more > 0 {
        named.push(format!("{more} more, see status.plan.targets"));
    }
    let has_fallback = plan.targets.iter().any(|one| !one.fallbacks.is_empty());
    let fallback = if has_fallback && wanted.version == Side::Older {
        ", or of the fallback"
    } else {
        ""
    };
    format!(
        "{} (container {} of the {} version{fallback})",
        named.join(", "),
        plain(&wanted.container, 63),
        word(wanted.version)
    )
}
