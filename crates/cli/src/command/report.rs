//! `report`: the incident report of a request, and the reviews that are still to be held.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::ResourceExt;
use kube::api::ListParams;
use rollback_api::{ARTIFACT_LABEL, REQUEST_NAME_ANNOTATION, REVIEWED_BY, RollbackRequest};
use rollback_core::execution::artifact::ArtifactKind;
use rollback_core::message::shell;
use rollback_core::report::review;
use rollback_core::time::stamp;
use serde_json::{Value, json};

use crate::Ending;
use crate::arguments::Format;
use crate::cluster::Cluster;
use crate::error::Error;
use crate::here::flags_to_here;
use crate::output::{self, clean, remark, say, say_all, table};
use crate::page::report as page;

/// Prints the report of a request.
pub async fn print(cluster: &Cluster, format: Option<Format>, name: &str) -> Result<Ending, Error> {
    let map = find(cluster, name).await?;
    match format {
        Some(Format::Name) => say(&format!("configmap/{}", clean(&map.name_any())))?,
        Some(Format::Json | Format::Yaml) => {
            output::data(format, &json_part(&map, name)?)?;
        }
        Some(Format::Html) => {
            let html = page::page(part(&map, ".md", name)?, &json_part(&map, name)?);
            say(&html.into_string())?;
        }
        Some(Format::Md | Format::Wide) | None => {
            let page = part(&map, ".md", name)?;
            page.lines().try_for_each(|line| say(&clean(line)))?;
        }
    }
    Ok(Ending::Done)
}

/// The report of a request: as Markdown, and as data.
pub async fn read(cluster: &Cluster, name: &str) -> Result<(String, Value), Error> {
    let map = find(cluster, name).await?;
    Ok((part(&map, ".md", name)?.to_owned(), json_part(&map, name)?))
}

fn json_part(map: &ConfigMap, name: &str) -> Result<Value, Error> {
    serde_json::from_str(part(map, ".json", name)?)
        .map_err(|error| Error::Format(error.to_string()))
}

fn part<'a>(map: &'a ConfigMap, ending: &str, name: &str) -> Result<&'a str, Error> {
    let mut parts = map.data.iter().flatten();
    let found = parts.find(|(key, _)| key.ends_with(ending));
    found
        .map(|(_, text)| text.as_str())
        .ok_or_else(|| missing(name))
}

/// The newest report of a request of this name. The request itself may be gone.
async fn find(cluster: &Cluster, name: &str) -> Result<ConfigMap, Error> {
    let api = cluster.api::<ConfigMap>();
    let request = cluster.api::<RollbackRequest>().get_opt(name).await?;
    let status = request.and_then(|request| request.status);
    if let Some(incident) = status.and_then(|status| status.incident) {
        return Ok(api.get(&incident.config_map).await?);
    }
    let label = format!("{ARTIFACT_LABEL}={}", ArtifactKind::Incident.as_str());
    let found = cluster
        .list(&api, ListParams::default().labels(&label))
        .await?;
    let is_meant = |map: &ConfigMap| {
        map.annotations()
            .get(REQUEST_NAME_ANNOTATION)
            .is_some_and(|of| of == name)
    };
    let newest = found
        .into_iter()
        .filter(is_meant)
        .max_by_key(ResourceExt::name_any);
    newest.ok_or_else(|| missing(name))
}

fn missing(name: &str) -> Error {
    Error::Refused(format!(
        "There is no report of {}. It is written when a request with a plan has ended, and not for a dry run: kubectl rollback status {}{}.",
        clean(name),
        shell::name(name, "REQUEST"),
        flags_to_here()
    ))
}

/// One review that is still to be held.
pub struct Open {
    /// Of what.
    pub request: RollbackRequest,
    /// By when.
    pub due: Timestamp,
}

/// The reviews that are still to be held, the most urgent first.
pub async fn reviews(cluster: &Cluster) -> Result<Vec<Open>, Error> {
    let api = cluster.api::<RollbackRequest>();
    let requests = cluster.list(&api, ListParams::default()).await?;
    let mut open: Vec<Open> = requests
        .into_iter()
        .filter_map(|request| review::due(&request).map(|due| Open { request, due }))
        .collect();
    open.sort_by_key(|it| it.due);
    Ok(open)
}

/// Lists the reviews that are still to be held, the most urgent first.
pub async fn open(cluster: &Cluster, format: Option<Format>) -> Result<Ending, Error> {
    let open = reviews(cluster).await?;
    if format == Some(Format::Name) {
        open.iter()
            .try_for_each(|it| say(&output::name_of(&it.request)))?;
        return Ok(Ending::Done);
    }
    let now = Timestamp::now();
    if output::data(
        format,
        &open.iter().map(|it| data(it, now)).collect::<Vec<_>>(),
    )? {
        return Ok(Ending::Done);
    }
    if open.is_empty() {
        remark(&format!(
            "No review is to be held in namespace {}.",
            clean(&cluster.namespace)
        ));
        return Ok(Ending::Done);
    }
    let rows: Vec<Vec<String>> = open.iter().map(|it| row(it, now)).collect();
    say_all(&table(
        &["REQUEST", "OUTCOME", "REVIEW DUE", "OVERDUE"],
        &rows,
    ))?;
    Ok(Ending::Done)
}

fn data(open: &Open, now: Timestamp) -> Value {
    json!({
        "request": open.request.name_any(), "reviewDue": open.due, "overdue": open.due <= now,
        "outcome": open.request.outcome(),
    })
}

/// How a request ended, in two words.
pub fn ended(request: &RollbackRequest) -> String {
    request.outcome().map_or_else(String::new, |it| {
        format!("{}/{}", it.result.as_str(), it.reason.as_str())
    })
}

fn row(open: &Open, now: Timestamp) -> Vec<String> {
    let outcome = ended(&open.request);
    let overdue = if open.due <= now { "yes" } else { "no" };
    vec![
        clean(&open.request.name_any()),
        outcome,
        stamp(open.due),
        overdue.to_owned(),
    ]
}

/// Says that I have held the review.
pub async fn reviewed(
    cluster: &Cluster,
    format: Option<Format>,
    name: &str,
) -> Result<Ending, Error> {
    let written = review_held(cluster, &cluster.who().await?, name).await?;
    output::written(format, &written, "reviewed")?;
    Ok(Ending::Done)
}

/// Writes that I have held the review.
pub async fn review_held(
    cluster: &Cluster,
    me: &str,
    name: &str,
) -> Result<RollbackRequest, Error> {
    let word = |request: &RollbackRequest| {
        let status = request.status.as_ref();
        let is_reported = status.is_some_and(|status| status.incident.is_some());
        is_reported
            .then(|| json!({REVIEWED_BY: me}))
            .ok_or_else(|| missing(name))
    };
    cluster.annotate(name, word).await
}
