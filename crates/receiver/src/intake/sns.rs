//! Amazon SNS, which carries the alarms of `CloudWatch`.
//!
//! The envelope holds the alarm as a JSON text: as `CloudWatch` publishes it, as it hands it to functions (`alarmData`), or
//! as `EventBridge` does (`detail`). It may also hold what Alertmanager has written for a topic as JSON, as Amazon's managed
//! Prometheus does. An alarm that counts data that is missing as bad says nothing about what is watched. `ALARM` fires, `OK` is resolved, `INSUFFICIENT_DATA` is not answered. The
//! dimensions of the metric are the labels, of a metric expression those of all its metrics on which they agree; the name
//! of the alarm is the label `cloudwatch_alarm`. An alarm is known by its ARN and when it changed.

use serde::Deserialize;
use serde::de::IgnoredAny;
use url::{Host, Url};

use super::alertmanager::{Group, Member};
use super::labels::Labels;
use super::text::{self, Few, Key, Raw, Text, When};
use super::{
    After, Description, Format, Proof, Unreadable, alerts, first, ignored, json, truncated,
};
use crate::alert::{Alert, Delivery, State};

/// Most dimensions of a metric that are read; `CloudWatch` has 30.
const DIMENSIONS: usize = 100;

pub(super) const FORMAT: Description = Description {
    remedy: "subscribe this address to the topic by https, without raw message delivery",
    read,
    proof: Proof::Amazon,
    // SNS says that it sends plain text.
    content_types: &["text/plain"],
    comes_again: After::TooManyRequests,
};

fn read(body: &[u8]) -> Result<Delivery, Unreadable> {
    let envelope: Envelope = json(Format::Sns, body)?;
    match envelope.kind.0.as_str() {
        "Notification" => notification(&envelope),
        "SubscriptionConfirmation" => confirmation(envelope),
        "UnsubscribeConfirmation" => Ok(nothing("the subscription has ended")),
        _other => Err(field(
            "Type",
            "neither Notification, SubscriptionConfirmation nor UnsubscribeConfirmation",
        )),
    }
}

fn nothing(why: &str) -> Delivery {
    Delivery::Nothing(why.to_owned())
}

fn field(field: &str, reason: &str) -> Unreadable {
    Unreadable::Field {
        field: field.to_owned(),
        reason: reason.to_owned(),
        remedy: Format::Sns.description().remedy,
    }
}

#[derive(Deserialize)]
#[serde(expecting = "an object")]
struct Envelope {
    #[serde(rename = "Type")]
    kind: Text,
    #[serde(rename = "MessageId")]
    id: Key,
    #[serde(rename = "TopicArn")]
    topic: Key,
    #[serde(rename = "Message")]
    message: Raw,
    #[serde(rename = "SubscribeURL")]
    subscribe: Option<Raw>,
}

/// The region if this is the host of SNS in one: `sns.<region>.amazonaws.com`, or `.com.cn`, by https at its usual port
/// and without credentials. Anything else is an address to which somebody wants this program to speak.
pub(crate) fn region(url: &Url) -> Option<&str> {
    let plain = url.scheme() == "https"
        && url.port().is_none()
        && url.username().is_empty()
        && url.password().is_none();
    let Some(Host::Domain(host)) = url.host().filter(|_| plain) else {
        return None;
    };
    let rest = host.strip_prefix("sns.")?;
    let region = rest
        .strip_suffix(".amazonaws.com")
        .or_else(|| rest.strip_suffix(".amazonaws.com.cn"))?;
    let usual = |char: char| char.is_ascii_alphanumeric() || char == '-';
    (region.len() >= 3 && region.chars().all(usual)).then_some(region)
}

/// A confirmation may only ever confirm this topic: nothing else is asked of the host, although it is Amazon's.
fn confirmation(envelope: Envelope) -> Result<Delivery, Unreadable> {
    let wrong = |reason| field("SubscribeURL", reason);
    let Some(Raw(address)) = envelope.subscribe else {
        return Err(wrong("missing"));
    };
    let url = Url::parse(&address).map_err(|_| wrong("not an address"))?;
    if region(&url).is_none() {
        return Err(wrong("not an https address of sns.<region>.amazonaws.com"));
    }
    let all = |name: &str, value: &str| {
        let mut values = url.query_pairs().filter(|(key, _)| key == name);
        values.next().is_some_and(|(_, first)| first == value) && values.next().is_none()
    };
    if !all("Action", "ConfirmSubscription") || !all("TopicArn", &envelope.topic.0) {
        return Err(wrong("not the confirmation of a subscription to TopicArn"));
    }
    if url.as_str().len() > Alert::LONGEST {
        return Err(wrong("longer than the confirmations of SNS are"));
    }
    Ok(Delivery::Confirm {
        topic: envelope.topic.0,
        url: url.into(),
    })
}

fn notification(envelope: &Envelope) -> Result<Delivery, Unreadable> {
    let message = envelope.message.0.as_bytes();
    // Other things are published to topics as well: what is no alarm at all is no error, and leaves a trace.
    let head = json::<Head>(Format::Sns, message).unwrap_or_default();
    if head.name.is_some() && head.state.is_some() {
        let alarm: Alarm = json(Format::Sns, message).map_err(within_message)?;
        return Ok(alerts(vec![alarm.read(&envelope.id)]));
    }
    if head.alarm.is_some() || (head.detail.is_some() && head.is_change()) {
        let event: Event = json(Format::Sns, message).map_err(within_message)?;
        return Ok(event.read());
    }
    if head.alerts.is_some() {
        let group: Group = json(Format::Sns, message).map_err(within_message)?;
        let alerts = group.alerts.items.into_iter().map(Member::read);
        return Ok(truncated(alerts.collect(), group.left_out));
    }
    Ok(nothing(
        "the message is neither an alarm of CloudWatch nor alerts of Alertmanager as JSON",
    ))
}

/// Says that the field is one of the alarm, not of the envelope.
fn within_message(error: Unreadable) -> Unreadable {
    match error {
        Unreadable::Field {
            field,
            reason,
            remedy,
        } => Unreadable::Field {
            field: format!("Message.{field}"),
            reason,
            remedy,
        },
        Unreadable::TooLarge { .. } | Unreadable::NotJson { .. } | Unreadable::Version { .. } => {
            error
        }
    }
}

#[derive(Default, Deserialize)]
#[serde(expecting = "an object")]
struct Head {
    #[serde(rename = "AlarmName")]
    name: Option<IgnoredAny>,
    #[serde(rename = "NewStateValue")]
    state: Option<IgnoredAny>,
    #[serde(rename = "alarmData")]
    alarm: Option<IgnoredAny>,
    detail: Option<IgnoredAny>,
    #[serde(rename = "detail-type")]
    kind: Option<Text>,
    alerts: Option<IgnoredAny>,
}

impl Head {
    fn is_change(&self) -> bool {
        let kind = self.kind.as_ref();
        kind.is_some_and(|kind| kind.0 == "CloudWatch Alarm State Change")
    }
}

/// An alarm as an event.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", expecting = "an object")]
struct Event {
    alarm_data: Option<Detail>,
    detail: Option<Detail>,
    alarm_arn: Option<Key>,
    resources: Option<Few<Key, 1>>,
    time: Option<When>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", expecting = "an object")]
struct Detail {
    alarm_name: Key,
    state: Change,
    configuration: Option<Configuration>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", expecting = "an object")]
struct Change {
    value: Text,
    reason: Option<Text>,
    timestamp: Option<When>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", expecting = "an object")]
struct Configuration {
    description: Option<Text>,
    metrics: Option<Few<EventPart, DIMENSIONS>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", expecting = "an object")]
struct EventPart {
    metric_stat: Option<EventStat>,
}

#[derive(Deserialize)]
#[serde(expecting = "an object")]
struct EventStat {
    metric: Option<EventMetric>,
}

#[derive(Deserialize)]
#[serde(expecting = "an object")]
struct EventMetric {
    dimensions: Option<Labels>,
}

impl Event {
    fn read(self) -> Delivery {
        let Some(alarm) = self.alarm_data.or(self.detail) else {
            return nothing("the event holds no alarm");
        };
        let name = alarm.alarm_name.0;
        let configuration = alarm.configuration.unwrap_or_default();
        let mut labels = Labels::default();
        let parts = configuration.metrics.unwrap_or_default().items.into_iter();
        for metric in parts.filter_map(|part| part.metric_stat?.metric?.dimensions) {
            for (key, value) in metric.done() {
                labels.add(&key, &value);
            }
        }
        labels.set("cloudwatch_alarm", &name);
        let started_at = alarm.state.timestamp.or(self.time);
        let of_resources = || self.resources.and_then(|few| few.items.into_iter().next());
        let arn = self.alarm_arn.or_else(of_resources);
        let arn = arn.map_or_else(|| name.clone(), |arn| arn.0);
        let at = started_at.map_or_else(String::new, |at| at.0.to_string());
        alerts(vec![Alert {
            state: state(&alarm.state.value.0, alarm.state.reason.as_ref()),
            id: text::identity(&[&arn, &at]),
            summary: first([configuration.description, alarm.state.reason])
                .unwrap_or_else(|| name.clone()),
            name,
            severity: None,
            started_at: started_at.map(|at| at.0),
            pending_seconds: None,
            is_repeat: false,
            labels: labels.done(),
            links: Vec::new(),
        }])
    }
}

/// What `CloudWatch` says of alarms that count what is missing as bad.
const MISSING: &str = "treated as [Breaching]";

fn state(value: &str, reason: Option<&Text>) -> State {
    match value {
        "ALARM" if reason.is_some_and(|reason| reason.0.contains(MISSING)) => {
            ignored("the alarm counts data that is missing as bad")
        }
        "ALARM" => State::Firing,
        "OK" => State::Resolved,
        "INSUFFICIENT_DATA" => ignored("the alarm has too little data"),
        _other => ignored("its state is neither ALARM nor OK"),
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase", expecting = "an object")]
struct Alarm {
    #[serde(rename = "AlarmName")]
    name: Key,
    #[serde(rename = "AlarmDescription")]
    description: Option<Text>,
    #[serde(rename = "AlarmArn")]
    arn: Option<Key>,
    new_state_value: Text,
    new_state_reason: Option<Text>,
    state_change_time: When,
    trigger: Option<Trigger>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", expecting = "an object")]
struct Trigger {
    dimensions: Option<Few<Dimension, DIMENSIONS>>,
    metrics: Option<Few<Part, DIMENSIONS>>,
    period: Option<u32>,
    evaluation_periods: Option<u32>,
    datapoints_to_alarm: Option<u32>,
}

/// A metric, or an expression about others.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase", expecting = "an object")]
struct Part {
    metric_stat: Option<Stat>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase", expecting = "an object")]
struct Stat {
    metric: Option<Metric>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase", expecting = "an object")]
struct Metric {
    dimensions: Option<Few<Dimension, DIMENSIONS>>,
}

#[derive(Deserialize)]
#[serde(expecting = "an object")]
struct Dimension {
    name: Text,
    value: Text,
}

impl Alarm {
    fn read(self, message: &Key) -> Alert {
        let arn = self.arn.as_ref().unwrap_or(message);
        let name = self.name.0;
        let trigger = self.trigger.unwrap_or_default();
        let pending_seconds = trigger.lasted();
        let mut labels = trigger.labels();
        labels.set("cloudwatch_alarm", &name);
        Alert {
            state: state(&self.new_state_value.0, self.new_state_reason.as_ref()),
            id: text::identity(&[&arn.0, &self.state_change_time.0.to_string()]),
            summary: first([self.description, self.new_state_reason])
                .unwrap_or_else(|| name.clone()),
            name,
            severity: None,
            started_at: Some(self.state_change_time.0),
            pending_seconds,
            is_repeat: false,
            labels: labels.done(),
            links: Vec::new(),
        }
    }
}

impl Trigger {
    /// How long it was bad at least before the alarm went off: so many periods.
    fn lasted(&self) -> Option<u32> {
        let periods = self.datapoints_to_alarm.or(self.evaluation_periods)?;
        self.period?.checked_mul(periods)
    }

    fn labels(self) -> Labels {
        let of_parts = self.metrics.unwrap_or_default().items.into_iter();
        let of_parts = of_parts.filter_map(|part| part.metric_stat?.metric?.dimensions);
        let mut labels = Labels::default();
        for dimensions in self.dimensions.into_iter().chain(of_parts) {
            for Dimension { name, value } in dimensions.items {
                labels.add(&name.0, &value.0);
            }
        }
        labels
    }
}
