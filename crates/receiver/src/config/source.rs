//! One source of alerts, as the configuration describes it.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;

use rollback_api::request::{Category, Urgency};
use rollback_receiver::intake::Format;
use serde::Deserialize;

/// Where alerts come from, whose word is taken for what, and what it asks for.
#[derive(Deserialize, Clone, Debug)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Source {
    /// Its name: in the path, in policies (`spec.triggers.sources`) and in requests (`spec.trigger.source`).
    pub name: String,
    /// How its deliveries are read.
    pub format: Format,
    /// How it proves who it is.
    pub auth: Auth,
    /// The namespaces that it may ask in; `"*"` alone means any.
    pub namespaces: Vec<String>,
    /// What to go back to.
    #[serde(default)]
    pub to: Where,
    /// What category its requests have.
    #[serde(default)]
    pub category: Categories,
    /// Urgency of its requests; without it that of the category. More than that takes the verb `expedite`.
    #[serde(default)]
    pub urgency: Option<Urgency>,
    /// Alerts whose labels do not name a Deployment, and the Deployments that they are about. The first that fits counts.
    #[serde(default)]
    pub mapping: Vec<Mapping>,
    /// How long its rules wait before they fire, in seconds, where an alert does not say so by the label or the annotation
    /// `for`. Without it a person decides about what fires soon after a version went live.
    #[serde(default)]
    pub for_seconds: Option<u32>,
    /// Deliveries a minute that one sender gets.
    #[serde(default = "sixty")]
    pub per_minute: u32,
}

fn sixty() -> u32 {
    60
}

/// What to go back to.
#[derive(Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub enum Where {
    /// The newest revision that is known to have been healthy.
    #[default]
    LastKnownGood,
    /// The newest revision that differs from what runs.
    Previous,
}

/// What category a request has.
#[derive(Deserialize, Clone, Debug)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Categories {
    /// What alerts are that no rule and no usual word tells.
    #[serde(default = "error_rate")]
    pub default: Category,
    /// The first that fits counts.
    #[serde(default)]
    pub rules: Vec<CategoryRule>,
}

impl Default for Categories {
    fn default() -> Self {
        Self {
            default: error_rate(),
            rules: Vec::new(),
        }
    }
}

fn error_rate() -> Category {
    Category::ErrorRate
}

/// Which alerts are of which category.
#[derive(Deserialize, Clone, Debug)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct CategoryRule {
    /// Name that the alert has.
    #[serde(default)]
    pub alert: Option<String>,
    /// Labels that it has, all of them.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// Its category.
    pub category: Category,
}

/// Which alerts are about which Deployment.
#[derive(Deserialize, Clone, Debug)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Mapping {
    /// Labels that the alert has, all of them.
    pub labels: BTreeMap<String, String>,
    /// Namespace of the Deployment.
    pub namespace: String,
    /// Its name.
    pub deployment: String,
}

/// How a source proves who it is. Secrets stand in files, which are read anew for each delivery.
#[derive(Deserialize, Clone, Debug)]
#[serde(rename_all = "camelCase")]
pub enum Auth {
    /// By a token of a `ServiceAccount`, for the audience `rollback-receiver`.
    Bearer(Bearer),
    /// By a name and a password.
    Basic(Basic),
    /// By a client certificate.
    Mtls(Mtls),
    /// By a signature over the body, as the format has it.
    Hmac(Hmac),
    /// By Amazon's signature.
    Sns(Sns),
}

/// Tokens of `ServiceAccounts`.
#[derive(Deserialize, Clone, Debug)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Bearer {
    /// Who may send, for example `system:serviceaccount:monitoring:alertmanager`.
    pub usernames: Vec<String>,
}

/// A name and a password.
#[derive(Deserialize, Clone, Debug)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Basic {
    /// The name.
    pub username: String,
    /// File with the password.
    pub password_file: PathBuf,
}

/// Client certificates.
#[derive(Deserialize, Clone, Debug)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Mtls {
    /// File with the certificates of who issues those of senders, PEM.
    pub ca_file: PathBuf,
    /// Who may send: common names, or alternative names (DNS or URI).
    pub subjects: Vec<String>,
}

/// Signatures over the body.
#[derive(Deserialize, Clone, Debug)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Hmac {
    /// Files with secrets. Any of them may be the right one, so that it can be changed without a gap.
    pub secret_files: Vec<PathBuf>,
    /// Header with the signature, where the sender lets one choose (Grafana).
    #[serde(default)]
    pub signature_header: Option<String>,
    /// Header with the time, where the sender lets one choose (Grafana).
    #[serde(default)]
    pub timestamp_header: Option<String>,
}

/// Amazon's signatures.
#[derive(Deserialize, Clone, Debug)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Sns {
    /// Topics that are listened to, by their ARNs. Only their subscriptions are confirmed.
    pub topics: Vec<String>,
    /// File with the certificates that those lead to by which Amazon signs, PEM. Without it those of the system. SNS may
    /// publish the certificate alone: then the authority that issued it has to be among them.
    #[serde(default)]
    pub roots_file: Option<PathBuf>,
    /// File with the certificates that the hosts of SNS lead to, PEM. Without it `rootsFile`.
    #[serde(default)]
    pub tls_roots_file: Option<PathBuf>,
    /// Address of a gateway through which the hosts of SNS are reached, instead of by their names. Their certificates are
    /// checked nevertheless.
    #[serde(default)]
    pub via: Option<SocketAddr>,
}
