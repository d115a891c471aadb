//! Who hears of a rollback, and how.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::half_an_hour;
use crate::category::{Category, Urgency};

/// Who hears of the requests of this namespace. Without it nobody is told but by Events.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("!has(self.escalation) || self.escalation.levels.all(l, l.channels.all(c, has(self.channels) && self.channels.exists(d, d.name == c)))")
        .message("each level of spec.notifications.escalation names channels that are in spec.notifications.channels; add the channel there, or correct its name")
)]
pub struct Notifications {
    /// Where it is told.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 10), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub channels: Vec<Channel>,

    /// Who is asked next when nobody answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub escalation: Option<Escalation>,

    /// What every message points to besides the incident: dashboards, for example.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 5), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["title"]))]
    pub links: Vec<Link>,
}

/// One place where people are told.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("[has(self.slack), has(self.teams), has(self.pagerDuty), has(self.alertmanager), has(self.email), has(self.webhook)].exists_one(s, s)")
        .message("say where this channel leads with exactly one of slack, teams, pagerDuty, alertmanager, email and webhook")
)]
pub struct Channel {
    /// Its name, for the levels of the escalation, the status and `kubectl rollback notify`.
    #[schemars(
        length(min = 1, max = 40),
        regex(pattern = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$")
    )]
    pub name: String,

    /// What is told here. Left out, it is what people have to know: a request waits, is held back or is about to expire, a
    /// rollback has begun, has ended, has failed or needs a person, and a review is overdue.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on: Option<On>,

    /// A channel of Slack.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slack: Option<Slack>,

    /// A channel or chat of Microsoft Teams.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub teams: Option<Teams>,

    /// A service of `PagerDuty` (Events API v2).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pager_duty: Option<PagerDuty>,

    /// An Alertmanager (`/api/v2/alerts`), and through it every other pager.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub alertmanager: Option<Alertmanager>,

    /// E-mail (SMTP).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub email: Option<Email>,

    /// A program of yours: a signed POST with a `CloudEvent`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub webhook: Option<Webhook>,
}

impl Channel {
    /// The keys of Secrets that it takes to reach it.
    pub fn secret_keys(&self) -> Vec<&SecretKey> {
        let slack = self.slack.iter();
        let slack = slack.flat_map(|it| it.webhook.iter().chain(&it.bot_token));
        let mail = self.email.iter();
        let mail = mail.flat_map(|it| it.username.iter().chain(&it.password));
        let alerts = self.alertmanager.iter();
        let hook = self.webhook.iter();
        slack
            .chain(self.teams.iter().map(|it| &it.webhook))
            .chain(self.pager_duty.iter().map(|it| &it.routing_key))
            .chain(alerts.filter_map(|it| it.bearer_token.as_ref()))
            .chain(mail)
            .chain(hook.flat_map(|it| [&it.url, &it.signing_key]))
            .collect()
    }
}

/// What is told in a channel. Each list that is left out takes everything, but `events`, which takes what people have to know.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct On {
    /// Of what kind.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 10), extend("x-kubernetes-list-type" = "set"))]
    pub events: Vec<NotificationEvent>,

    /// Of requests of these categories.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 6), extend("x-kubernetes-list-type" = "set"))]
    pub categories: Vec<Category>,

    /// Of requests of these urgencies.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 5), extend("x-kubernetes-list-type" = "set"))]
    pub urgencies: Vec<Urgency>,

    /// Of ends with these results; what is not an end is told whatever stands here.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8), extend("x-kubernetes-list-type" = "set"))]
    pub results: Vec<EndResult>,
}

/// What there is to tell.
#[derive(
    JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord,
)]
pub enum NotificationEvent {
    /// A plan waits for approvals.
    AwaitingApproval,
    /// The policy was asked to approve what came by itself, and leaves it to a person.
    HeldBack,
    /// A request that waits is about to expire.
    Expiring,
    /// Somebody approved. Not told unless it is asked for.
    Approved,
    /// The first Deployment is about to be written.
    Begun,
    /// A Deployment has its old template, or has come up. Not told unless it is asked for.
    Progress,
    /// Something on the way needs a person: no approval counts, one approved alone, the old version does not come up.
    NeedsPerson,
    /// It ended, and nobody has to do anything.
    Ended,
    /// It ended, and a person has to look.
    Failed,
    /// The review of an incident is overdue.
    ReviewOverdue,
}

impl NotificationEvent {
    /// What is told where nothing else is asked for.
    pub const QUIET: [Self; 8] = [
        Self::AwaitingApproval,
        Self::HeldBack,
        Self::Expiring,
        Self::Begun,
        Self::NeedsPerson,
        Self::Ended,
        Self::Failed,
        Self::ReviewOverdue,
    ];

    /// The word itself.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::AwaitingApproval => "AwaitingApproval",
            Self::HeldBack => "HeldBack",
            Self::Expiring => "Expiring",
            Self::Approved => "Approved",
            Self::Begun => "Begun",
            Self::Progress => "Progress",
            Self::NeedsPerson => "NeedsPerson",
            Self::Ended => "Ended",
            Self::Failed => "Failed",
            Self::ReviewOverdue => "ReviewOverdue",
        }
    }
}

/// How a request can end.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
pub enum EndResult {
    /// Rolled back.
    Succeeded,
    /// Denied by an approver.
    Denied,
    /// Cancelled.
    Cancelled,
    /// Nobody approved in time.
    Expired,
    /// It cannot or must not be done.
    Refused,
    /// Somebody else changed the Deployment.
    Superseded,
    /// It was tried and did not work.
    Failed,
    /// It did not work, and everything is again as it was before.
    Restored,
}

/// One key of a Secret in the namespace of the policy. Who names it in a policy must be allowed to `get` it, and so must the
/// controller: the platform team grants that for this one name (docs/notifications.md).
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct SecretKey {
    /// Name of the Secret.
    #[schemars(length(max = 253))]
    #[x_kube(validation = Rule::new("self.matches('^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$')")
        .message("give the name of a Secret in this namespace, as kubectl get secrets prints it; the secret itself does not belong into a policy"))]
    pub name: String,

    /// Its key.
    #[schemars(length(max = 253))]
    #[x_kube(validation = Rule::new("self.matches('^[-._a-zA-Z0-9]+$')")
        .message("give a key of the Secret, for example url; the secret itself does not belong into a policy"))]
    pub key: String,
}

/// A channel of Slack: by an incoming webhook, or, to have one message for each request that is kept up to date and has its
/// story in a thread, by a bot.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("has(self.webhook) ? !has(self.botToken) && !has(self.channel) : has(self.botToken) && has(self.channel)")
        .message("give either webhook, or botToken together with channel")
)]
pub struct Slack {
    /// The URL of an incoming webhook.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub webhook: Option<SecretKey>,

    /// The token of a bot with the scope `chat:write`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bot_token: Option<SecretKey>,

    /// The ID of the channel that the bot writes to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    #[x_kube(validation = Rule::new("self.matches('^[CGD][A-Z0-9]+$')")
        .message("give the ID of the channel, for example C0123ABCD, and not its name: it stands at the end of the channel's details"))]
    pub channel: Option<String>,
}

/// A channel or chat of Microsoft Teams.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Teams {
    /// The URL of a workflow that begins "when a Teams webhook request is received".
    pub webhook: SecretKey,
}

/// A service of `PagerDuty`.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct PagerDuty {
    /// The integration key of the service.
    pub routing_key: SecretKey,
}

/// Alertmanagers of one cluster: each is told.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Alertmanager {
    /// Their addresses, to which `/api/v2/alerts` is added. The administrator has to allow each host.
    #[schemars(length(min = 1, max = 5), extend("items" = {"type": "string", "maxLength": 500}))]
    #[x_kube(validation = Rule::new("self.all(u, u.matches('^https?://[-a-zA-Z0-9.:\\\\[\\\\]]+(/[-a-zA-Z0-9._~/]*)?$'))")
        .message("give scheme, host, port and path alone, for example http://alertmanager.monitoring.svc:9093; a password belongs into a Secret"))]
    pub urls: Vec<String>,

    /// What is sent as `Authorization: Bearer`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bearer_token: Option<SecretKey>,
}

/// E-mail.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("has(self.username) == has(self.password)")
        .message("give username and password together, or neither"),
    validation = Rule::new("self.tls != 'Off' || !has(self.password)")
        .message("a password is not sent without TLS: set tls to StartTls or Always, or leave username and password out")
)]
pub struct Email {
    /// Host of the SMTP server. The administrator has to allow it.
    #[schemars(
        length(min = 1, max = 253),
        regex(pattern = r"^[a-zA-Z0-9]([-a-zA-Z0-9.]*[a-zA-Z0-9])?$")
    )]
    pub server: String,

    /// Its port.
    #[serde(default = "submission")]
    #[schemars(range(min = 1, max = 65_535))]
    pub port: i32,

    /// When TLS begins.
    #[serde(default)]
    pub tls: EmailTls,

    /// Who it is from.
    pub from: EmailAddress,

    /// Who it is for.
    #[schemars(length(min = 1, max = 20))]
    pub to: Vec<EmailAddress>,

    /// The user name, where the server asks for one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub username: Option<SecretKey>,

    /// The password.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password: Option<SecretKey>,
}

/// An address of e-mail, without a name beside it.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(transparent)]
pub struct EmailAddress(pub String);

impl JsonSchema for EmailAddress {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> std::borrow::Cow<'static, str> {
        "EmailAddress".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "type": "string",
            "maxLength": 254,
            "pattern": r"^[A-Za-z0-9.!#$%&'*+/=?^_`{|}~-]+@[A-Za-z0-9]([-A-Za-z0-9.]*[A-Za-z0-9])?$",
        })
    }
}

/// When TLS begins.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum EmailTls {
    /// The server is asked for it, and without it nothing is sent.
    #[default]
    StartTls,
    /// With the connection.
    Always,
    /// Never. For a relay in the cluster that asks for no password.
    Off,
}

/// A program of yours.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Webhook {
    /// Its URL. The administrator has to allow the host.
    pub url: SecretKey,

    /// What the body is signed with: `X-Rollback-Signature: t=SECONDS,v1=` and the HMAC-SHA256 of `SECONDS.BODY` in hex.
    pub signing_key: SecretKey,
}

/// Who is asked next when nobody answers: a request that waits, was held back or has failed goes up one level after the
/// other, until somebody acknowledges it (`kubectl rollback ack`), or it needs nobody any more.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Escalation {
    /// The levels, from the first on.
    #[schemars(length(min = 1, max = 4))]
    pub levels: Vec<Level>,

    /// Requests of these urgencies go up; without any, all do.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 5), extend("x-kubernetes-list-type" = "set"))]
    pub urgencies: Vec<Urgency>,
}

/// One level.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Level {
    /// Seconds after the level before (for the first: after the request began to wait, or failed) until this one is told.
    #[serde(default = "half_an_hour")]
    #[schemars(range(min = 0, max = 604_800))]
    pub after_seconds: i32,

    /// Names of the channels that are told, whatever they are told otherwise.
    #[schemars(length(min = 1, max = 5), extend("items" = {"type": "string", "maxLength": 40}))]
    pub channels: Vec<String>,
}

/// A link of every message.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Link {
    /// What it is called.
    #[schemars(length(min = 1, max = 60))]
    pub title: String,

    /// Where it leads. `{namespace}`, `{workload}`, `{request}`, `{from}` and `{to}` (milliseconds since 1970, from half an hour
    /// before the request until now) are filled in.
    #[schemars(length(max = 1000))]
    #[x_kube(validation = Rule::new("self.matches('^https?://[^ <>\"|]+$')")
        .message("give a URL without blanks, for example https://grafana.example.com/d/abc?var-namespace={namespace}&from={from}&to={to}"))]
    pub url: String,
}

fn submission() -> i32 {
    587
}
