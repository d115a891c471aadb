//! Webhooks of a Sentry integration.
//!
//! Which kind a delivery is, a header says that is not signed. So it is decided by the body, which is: one that holds
//! `data.metric_alert` is a metric alert, one that holds `data.event` and `data.triggered_rule` an issue alert, and one
//! that holds both is refused. One that holds `data.issue` and `data.triggered_rule` is an activity alert, about an issue
//! and no event: it began when the issue was first seen. Everything else (issues, comments, installations) is nothing about an alert.
//!
//! A metric alert fires as `critical`; `warning` is not answered. It is known by its own id. An issue alert is known by its
//! issue and the rule; it began with the event that set it off, and its tags are the labels. The slug of the project is the
//! label `sentry_project` where Sentry sends it: in metric alerts on one project, in activity alerts, and in the address of
//! an event; its number is the label `sentry_project_id`. The release of an event is the label `sentry_release` too.

use serde::Deserialize;
use serde::de::IgnoredAny;

use super::labels::Labels;
use super::text::{self, Few, Key, NumberOrText, Raw, Text, When};
use super::{
    After, Description, Format, Hmac, Proof, Signed, Unreadable, alerts, first, ignored, json,
};
use crate::alert::{Alert, Delivery, State};
use crate::signature;

/// Most tags of an event that are read.
const TAGS: usize = 200;

pub(super) const FORMAT: Description = Description {
    remedy: "send the issue alerts and metric alerts of a Sentry integration to this address",
    read,
    proof: Proof::Hmac(Hmac {
        header: "Sentry-Hook-Signature",
        can_be_renamed: false,
        signed: Signed::Body(signature::sentry),
    }),
    content_types: &[],
    comes_again: After::ServiceUnavailable,
};

fn read(body: &[u8]) -> Result<Delivery, Unreadable> {
    let Head { data } = json(Format::Sentry, body)?;
    let data = data.unwrap_or_default();
    let issue = data.event.is_some() && data.triggered_rule.is_some();
    if !issue
        && data.metric_alert.is_none()
        && data.issue.is_some()
        && data.triggered_rule.is_some()
    {
        let alert: ActivityBody = json(Format::Sentry, body)?;
        return Ok(alerts(vec![alert.read()]));
    }
    match (data.metric_alert.is_some(), issue) {
        (true, true) => Err(Unreadable::Field {
            field: "data".to_owned(),
            reason: "both an issue alert and a metric alert".to_owned(),
            remedy: Format::Sentry.description().remedy,
        }),
        (true, false) => {
            let alert: MetricBody = json(Format::Sentry, body)?;
            Ok(alerts(vec![alert.read()]))
        }
        (false, true) => {
            let alert: IssueBody = json(Format::Sentry, body)?;
            Ok(alerts(vec![alert.read()]))
        }
        (false, false) => Ok(Delivery::Nothing(
            "neither an issue alert nor a metric alert".to_owned(),
        )),
    }
}

#[derive(Deserialize)]
#[serde(expecting = "an object")]
struct Head {
    data: Option<Kind>,
}

#[derive(Default, Deserialize)]
#[serde(expecting = "an object")]
struct Kind {
    metric_alert: Option<IgnoredAny>,
    event: Option<IgnoredAny>,
    issue: Option<IgnoredAny>,
    triggered_rule: Option<IgnoredAny>,
}

#[derive(Deserialize)]
#[serde(expecting = "an object")]
struct MetricBody {
    action: Text,
    data: MetricData,
}

#[derive(Deserialize)]
#[serde(expecting = "an object")]
struct MetricData {
    metric_alert: Metric,
    description_title: Option<Text>,
    description_text: Option<Text>,
    web_url: Option<Raw>,
}

#[derive(Deserialize)]
#[serde(expecting = "an object")]
struct Metric {
    id: NumberOrText,
    date_started: Option<When>,
    date_detected: Option<When>,
    alert_rule: Option<Rule>,
    projects: Option<Few<Text, 2>>,
}

#[derive(Deserialize)]
#[serde(expecting = "an object")]
struct Rule {
    name: Option<Text>,
    environment: Option<Text>,
}

impl MetricBody {
    fn read(self) -> Alert {
        let metric = self.data.metric_alert;
        let (rule, environment) = metric
            .alert_rule
            .map_or((None, None), |rule| (rule.name, rule.environment));
        let mut labels = Labels::default();
        let projects = metric.projects.unwrap_or_default();
        if let ([Text(project)], 1) = (projects.items.as_slice(), projects.count) {
            labels.add("sentry_project", project);
        }
        labels.add("environment", &environment.unwrap_or_default().0);
        let name = first([rule, self.data.description_title.clone()])
            .unwrap_or_else(|| "unnamed metric alert".to_owned());
        Alert {
            state: match self.action.0.as_str() {
                "critical" => State::Firing,
                "resolved" => State::Resolved,
                "warning" => ignored("the alert is a warning only"),
                _other => ignored("its action is neither critical nor resolved"),
            },
            id: text::identity(&["metric", &metric.id.0]),
            summary: first([self.data.description_title, self.data.description_text])
                .unwrap_or_else(|| name.clone()),
            name,
            severity: Some(self.action.0),
            started_at: metric.date_started.or(metric.date_detected).map(|at| at.0),
            pending_seconds: None,
            is_repeat: false,
            labels: labels.done(),
            links: text::links(self.data.web_url),
        }
    }
}

#[derive(Deserialize)]
#[serde(expecting = "an object")]
struct IssueBody {
    action: Text,
    data: IssueData,
}

#[derive(Deserialize)]
#[serde(expecting = "an object")]
struct IssueData {
    event: Event,
    triggered_rule: Key,
}

#[derive(Deserialize)]
#[serde(expecting = "an object")]
struct Event {
    issue_id: Key,
    title: Option<Text>,
    message: Option<Text>,
    level: Option<Text>,
    datetime: When,
    release: Option<Text>,
    environment: Option<Text>,
    project: Option<NumberOrText>,
    url: Option<Raw>,
    web_url: Option<Raw>,
    tags: Option<Few<(Text, Option<Text>), TAGS>>,
}

impl IssueBody {
    fn read(self) -> Alert {
        let IssueData {
            event,
            triggered_rule: Key(rule),
        } = self.data;
        let mut labels = Labels::default();
        for (name, value) in event.tags.unwrap_or_default().items {
            labels.add(&name.0, &value.unwrap_or_default().0);
        }
        let release = event.release.unwrap_or_default().0;
        labels.add("release", &release);
        // Of the event alone: a tag of that name proves nothing.
        labels.set("sentry_release", &release);
        labels.set("sentry_project_id", &event.project.unwrap_or_default().0);
        labels.set(
            "sentry_project",
            event.url.as_ref().and_then(project).unwrap_or_default(),
        );
        labels.add("environment", &event.environment.unwrap_or_default().0);
        Alert {
            state: match self.action.0.as_str() {
                "triggered" => State::Firing,
                _other => ignored("its action is not triggered"),
            },
            id: text::identity(&["issue", &event.issue_id.0, &rule]),
            summary: first([event.title, event.message]).unwrap_or_else(|| rule.clone()),
            name: rule,
            severity: first([event.level]),
            // Of the event that came last: the issue may have begun before what is live.
            started_at: Some(event.datetime.0),
            pending_seconds: None,
            is_repeat: false,
            labels: labels.done(),
            links: text::links(event.web_url),
        }
    }
}

/// The slug of the project, in the address of an event: `…/api/0/projects/ORGANIZATION/PROJECT/events/…`.
fn project(url: &Raw) -> Option<&str> {
    let (_, rest) = url.0.split_once("/api/0/projects/")?;
    let mut parts = rest.split('/');
    let (_organization, project) = (parts.next()?, parts.next()?);
    (parts.next() == Some("events")).then_some(project)
}

#[derive(Deserialize)]
#[serde(expecting = "an object")]
struct ActivityBody {
    action: Text,
    data: ActivityData,
}

#[derive(Deserialize)]
#[serde(expecting = "an object")]
struct ActivityData {
    issue: Issue,
    triggered_rule: Key,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", expecting = "an object")]
struct Issue {
    id: Key,
    title: Option<Text>,
    culprit: Option<Text>,
    level: Option<Text>,
    first_seen: Option<When>,
    project: Option<Project>,
    #[serde(rename = "web_url")]
    web_url: Option<Raw>,
    permalink: Option<Raw>,
}

#[derive(Default, Deserialize)]
#[serde(expecting = "an object")]
struct Project {
    id: Option<NumberOrText>,
    slug: Option<Text>,
}

impl ActivityBody {
    fn read(self) -> Alert {
        let ActivityData {
            issue,
            triggered_rule: Key(rule),
        } = self.data;
        let mut labels = Labels::default();
        let project = issue.project.unwrap_or_default();
        labels.add("sentry_project", &project.slug.unwrap_or_default().0);
        labels.add("sentry_project_id", &project.id.unwrap_or_default().0);
        Alert {
            state: match self.action.0.as_str() {
                "triggered" => State::Firing,
                _other => ignored("its action is not triggered"),
            },
            id: text::identity(&["issue", &issue.id.0, &rule]),
            summary: first([issue.title, issue.culprit]).unwrap_or_else(|| rule.clone()),
            name: rule,
            severity: first([issue.level]),
            // An issue that comes back is older than what is live.
            started_at: issue.first_seen.map(|at| at.0),
            pending_seconds: Some(0),
            is_repeat: false,
            labels: labels.done(),
            links: text::links(issue.web_url.into_iter().chain(issue.permalink)),
        }
    }
}
