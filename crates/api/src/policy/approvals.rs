//! Who has to say yes, and what each kind of trouble calls for.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{an_hour, one};
use crate::category::{Category, Urgency};

/// Who has to say yes, and how.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Approvals {
    /// How many different people must approve.
    #[serde(default = "one")]
    #[schemars(range(min = 1, max = 5))]
    pub required: i32,

    /// How many must approve at this urgency. An urgency is a claim, so a smaller number than `required` counts
    /// only for requesters who hold the verb `expedite` on `rollbackrequests/expedite`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 5), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["urgency"]))]
    pub by_urgency: Vec<ByUrgency>,

    /// Whether the approver must not be the requester. Defaults to true in production and to false elsewhere.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub four_eyes: Option<bool>,

    /// User names of machines for whose requests one approval is enough although four eyes are asked for. Without it,
    /// what a machine asks for (a `ServiceAccount`, another `system:` user, an alert) takes two different people, because
    /// one person may stand behind the machine.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 20), extend("items" = {"type": "string", "maxLength": 253}))]
    #[x_kube(validation = Rule::new("self.all(name, name.startsWith('system:'))")
        .message("name machines by their user names, for example system:serviceaccount:argocd:argocd-application-controller"))]
    pub trusted_machines: Vec<String>,

    /// The phrase that an approver types: letters, digits, blanks and `. , : / _ -`. Defaults to `ROLLBACK PRODUCTION` in
    /// production and to `ROLLBACK` elsewhere.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 100))]
    #[x_kube(validation = Rule::new("self.matches('^[A-Za-z0-9]([A-Za-z0-9 .,:/_-]*[A-Za-z0-9])?$')")
        .message("give a phrase in one line of letters, digits, blanks and . , : / _ - that begins and ends with a letter or digit, for example ROLLBACK PRODUCTION, because approvers paste it into a shell; or leave it out"))]
    pub confirm_phrase: Option<String>,

    /// What an approver has to tick. Defaults to `incident-documented` and `stakeholders-notified` in production
    /// and to nothing elsewhere; `[]` means nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 10), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub checklist: Option<Vec<ChecklistItem>>,

    /// Seconds for which an approval counts, from the moment the controller has seen it until the Deployment is written.
    #[serde(default = "an_hour")]
    #[schemars(range(min = 1, max = 604_800))]
    pub valid_for_seconds: i32,

    /// Whether somebody with the verb `break-glass` on `rollbackrequests/break-glass` may approve alone: without a
    /// second pair of eyes, without the checklist, in a freeze. It is always reported.
    #[serde(default)]
    pub break_glass: bool,

    /// Seconds after which a request that nobody approved expires.
    #[serde(default = "an_hour")]
    #[schemars(range(min = 1, max = 604_800))]
    pub expire_after_seconds: i32,
}

impl Default for Approvals {
    fn default() -> Self {
        Self {
            required: one(),
            by_urgency: Vec::new(),
            four_eyes: None,
            trusted_machines: Vec::new(),
            confirm_phrase: None,
            checklist: None,
            valid_for_seconds: an_hour(),
            break_glass: false,
            expire_after_seconds: an_hour(),
        }
    }
}

/// How many people must approve at one urgency.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct ByUrgency {
    /// The urgency of the request.
    pub urgency: Urgency,

    /// How many different people must approve.
    #[schemars(range(min = 1, max = 5))]
    pub required: i32,
}

/// Something that must have been done before a rollback is approved.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct ChecklistItem {
    /// What the approver types to tick it.
    #[schemars(length(max = 40))]
    #[x_kube(validation = Rule::new("self.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?$')")
        .message("use small letters, digits and '-', for example incident-documented: approvers type it"))]
    pub name: String,

    /// What it asks, for example `The incident is documented`.
    #[schemars(length(max = 200))]
    #[x_kube(validation = Rule::new("self.trim() != ''")
        .message("say what has to be done before it is ticked"))]
    pub text: String,
}

/// What one kind of trouble calls for.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Decision {
    /// The kind of trouble.
    pub category: Category,

    /// The urgency of requests of this category that name none; more needs the verb `expedite`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub urgency: Option<Urgency>,

    /// Who decides. Defaults to `Automatic` for `HealthCheck`, to `Refused` for `Feature` and to `Manual` for every other
    /// category.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub approval: Option<ApprovalMode>,
}

/// Who decides on a rollback.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
pub enum ApprovalMode {
    /// The policy, for a request of a source that it names or of the controller's own watch, when `triggers.approve` is
    /// set and nothing holds it back. For every other request: people.
    Automatic,
    /// People.
    Manual,
    /// Nobody: it is fixed forward.
    Refused,
}
