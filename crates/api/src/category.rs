//! The decision matrix: kinds of trouble, and how urgent each is.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Kind of the trouble, from the decision matrix.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(
    feature = "clap",
    derive(clap::ValueEnum),
    value(rename_all = "PascalCase")
)]
pub enum Category {
    /// Health checks fail.
    HealthCheck,
    /// More errors than allowed, for example 5xx above 1 %.
    ErrorRate,
    /// Answers take more than half as long again.
    Latency,
    /// The software does the wrong thing.
    BusinessLogic,
    /// A security hole.
    Security,
    /// A feature that is not critical is broken. Fixed forward, unless the policy says otherwise.
    Feature,
}

/// How urgent a rollback is.
#[derive(
    JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord,
)]
#[cfg_attr(
    feature = "clap",
    derive(clap::ValueEnum),
    value(rename_all = "PascalCase")
)]
pub enum Urgency {
    /// When there is time.
    Low,
    /// Today.
    Medium,
    /// Now.
    High,
    /// Now, before everything else.
    Critical,
    /// At once.
    Immediate,
}

impl Category {
    /// The urgency that a request of this category has when it names none.
    pub fn default_urgency(self) -> Urgency {
        match self {
            Self::HealthCheck => Urgency::Immediate,
            Self::ErrorRate | Self::Latency => Urgency::High,
            Self::BusinessLogic => Urgency::Medium,
            Self::Security => Urgency::Critical,
            Self::Feature => Urgency::Low,
        }
    }
}
