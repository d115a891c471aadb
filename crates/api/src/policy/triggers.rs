//! Who may ask for rollbacks besides people, and what holds those requests back.
#![expect(
    clippy::struct_field_names,
    reason = "the unit stands in the name, as everywhere in the policy"
)]

use kube::KubeSchema;
use serde::{Deserialize, Serialize};

use super::{an_hour, five_minutes, half_a_minute, half_an_hour, one_minute, three};

/// Requests that come by themselves: from alerts, and from the controller's own watch. Without anything said here
/// there are none.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Triggers {
    /// Sources of alerts that may ask for rollbacks here, by their names in the configuration of the receiver.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 20), extend("items" = {"type": "string", "maxLength": 63}))]
    pub sources: Vec<String>,

    /// Whether the controller itself watches new versions come up, of the Deployments with the annotation
    /// `rollback.broxiva.com/automatic: enabled`.
    #[serde(default)]
    pub watch: bool,

    /// How long each trouble of a new version may last before the controller asks for its rollback.
    #[serde(default)]
    pub grace: Grace,

    /// Whether such requests are approved without a person where the decision matrix says `Automatic`, for Deployments
    /// with the annotation `rollback.broxiva.com/automatic: enabled`. Without it all of them wait for a person.
    #[serde(default)]
    pub approve: bool,

    /// Seconds after a rollback in which the same Deployment is not rolled back again without a person.
    #[serde(default = "half_an_hour")]
    #[schemars(range(min = 0, max = 604_800))]
    pub cool_down_seconds: i32,

    /// How many rollbacks an hour this namespace gets without a person.
    #[serde(default = "three")]
    #[schemars(range(min = 0, max = 100))]
    pub most_per_hour: i32,

    /// Seconds after the beginning of its rollout in which a version is rolled back without a person. What begins later is
    /// seldom the fault of the version.
    #[serde(default = "an_hour")]
    #[schemars(range(min = 1, max = 2_592_000))]
    pub blame_seconds: i32,

    /// Seconds after a rollback in which a new alert about the same Deployment is escalated to people instead of being
    /// answered with another rollback.
    #[serde(default = "half_an_hour")]
    #[schemars(range(min = 0, max = 604_800))]
    pub escalate_seconds: i32,

    /// True: nothing is rolled back without a person. Requests still come, and wait.
    #[serde(default)]
    pub paused: bool,
}

impl Default for Triggers {
    fn default() -> Self {
        Self {
            sources: Vec::new(),
            watch: false,
            grace: Grace::default(),
            approve: false,
            cool_down_seconds: half_an_hour(),
            most_per_hour: three(),
            blame_seconds: an_hour(),
            escalate_seconds: half_an_hour(),
            paused: false,
        }
    }
}

/// How long each trouble of a new version may last, in seconds.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Grace {
    /// From the change of the pod template, or from the last moment at which another new pod became ready, until the rollout
    /// must be over or one more must be ready.
    #[serde(default = "five_minutes")]
    #[schemars(range(min = 1, max = 86_400))]
    pub rollout_seconds: i32,

    /// From the moment on that a pod which had been ready is not ready any more.
    #[serde(default = "one_minute")]
    #[schemars(range(min = 0, max = 86_400))]
    pub unready_seconds: i32,

    /// From the moment on that a container is seen to crash over and over.
    #[serde(default = "half_a_minute")]
    #[schemars(range(min = 0, max = 86_400))]
    pub crash_seconds: i32,

    /// From the moment on that an image is seen not to exist, or not to be ours to pull.
    #[serde(default = "one_minute")]
    #[schemars(range(min = 0, max = 86_400))]
    pub image_pull_seconds: i32,
}

impl Default for Grace {
    fn default() -> Self {
        Self {
            rollout_seconds: five_minutes(),
            unready_seconds: one_minute(),
            crash_seconds: half_a_minute(),
            image_pull_seconds: one_minute(),
        }
    }
}
