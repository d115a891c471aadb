//! Reads a delivery of a source: bytes in, a [`Delivery`] out, and nothing else happens.
//!
//! Every parser is total: whatever the bytes are, the answer is a [`Delivery`] or an [`Unreadable`] that says which
//! field, why, and what to do. What is kept is bounded, whatever the body holds: see `intake/text.rs` and
//! [`LARGEST`]. Authentication comes before, in [`crate::signature`] and the server: a delivery that has been read is
//! still the word of its sender only.
//!
//! A format is a file of `intake/`, with its parser and its [`Description`], and a row of the table below.

mod alertmanager;
mod datadog;
mod description;
mod flux;
mod generic;
mod grafana;
mod labels;
mod pager_duty;
mod sentry;
pub(crate) mod sns;
mod text;

use std::fmt;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use thiserror::Error;

pub use description::{After, Description, Hmac, Proof, Signed};

use crate::alert::{Alert, Delivery, State};

/// Largest body that is read, in bytes.
pub const LARGEST: usize = 1 << 20;

/// Most alerts of a delivery: more than a body of [`LARGEST`] bytes can hold, so that each alert of one is read.
pub const MOST_ALERTS: usize = LARGEST / 32;

/// Most links of an alert; further ones are left out.
const MOST_LINKS: usize = 10;

/// Makes [`Format`] of the table below: what a format is, its name in the configuration, and its file.
macro_rules! formats {
    ($($(#[$doc:meta])* $format:ident $name:literal in $file:ident,)+) => {
        /// Who wrote a delivery, and so how it is read.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Deserialize)]
        pub enum Format {
            $($(#[$doc])* #[serde(rename = $name)] $format,)+
        }

        impl Format {
            /// All of them.
            pub const ALL: [Self; [$($name),+].len()] = [$(Self::$format),+];

            /// Its name in the configuration.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$format => $name,)+ }
            }

            /// What else there is to know of it.
            pub const fn description(self) -> &'static Description {
                match self { $(Self::$format => &$file::FORMAT,)+ }
            }
        }
    };
}

formats! {
    /// The webhook of Prometheus Alertmanager, version 4.
    Alertmanager "alertmanager" in alertmanager,
    /// A contact point "Webhook" of Grafana Alerting, version 1.
    Grafana "grafana" in grafana,
    /// A webhook subscription of `PagerDuty`, version 3.
    PagerDuty "pager-duty" in pager_duty,
    /// Amazon SNS, which carries `CloudWatch` alarms.
    Sns "sns" in sns,
    /// The webhook of a Sentry integration: issue alerts and metric alerts.
    Sentry "sentry" in sentry,
    /// A webhook of Datadog with the body that this project defines for it.
    Datadog "datadog" in datadog,
    /// The provider `generic` or `generic-hmac` of Flux.
    Flux "flux" in flux,
    /// The format of this project, for whatever has no other.
    Generic "generic" in generic,
}

impl fmt::Display for Format {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.write_str(self.name())
    }
}

/// Why a delivery could not be read. None of its text is longer than a few hundred characters, and none holds a control
/// character, whatever the body held.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Unreadable {
    /// The body is larger than [`LARGEST`].
    #[error(
        "the body has {bytes} bytes, and at most {LARGEST} are read: send fewer alerts at once"
    )]
    TooLarge {
        /// How large it is.
        bytes: usize,
    },
    /// The body is no JSON document.
    #[error("the body is not JSON ({reason}): {remedy}")]
    NotJson {
        /// What the parser says.
        reason: String,
        /// What to do.
        remedy: &'static str,
    },
    /// A field is missing, has another type, or a value that cannot be used.
    #[error("{field}: {reason}: {remedy}")]
    Field {
        /// Where it is, as a path from the top.
        field: String,
        /// What is wrong.
        reason: String,
        /// What to do.
        remedy: &'static str,
    },
    /// The body says another version of the format.
    #[error("version is {found}, not \"{expected}\": {remedy}")]
    Version {
        /// What it says.
        found: String,
        /// What is read.
        expected: &'static str,
        /// What to do.
        remedy: &'static str,
    },
}

/// These alerts, and how many more the sender says it has left out.
fn truncated(list: Vec<Alert>, left_out: u64) -> Delivery {
    if left_out == 0 {
        alerts(list)
    } else {
        Delivery::Truncated(list, left_out)
    }
}

/// Reads the body of a delivery.
pub fn read(format: Format, body: &[u8]) -> Result<Delivery, Unreadable> {
    if body.len() > LARGEST {
        return Err(Unreadable::TooLarge { bytes: body.len() });
    }
    (format.description().read)(body)
}

/// The body as a value. Fields that are not asked for are skipped, however deep; the same field twice is an error.
fn json<T: DeserializeOwned>(format: Format, body: &[u8]) -> Result<T, Unreadable> {
    // A list would be taken for the fields of an object in their order.
    if body.trim_ascii_start().starts_with(b"[") {
        return Err(Unreadable::Field {
            field: "the body".to_owned(),
            reason: "a list, not an object".to_owned(),
            remedy: format.description().remedy,
        });
    }
    let mut parser = serde_json::Deserializer::from_slice(body);
    let value = serde_path_to_error::deserialize(&mut parser)
        .map_err(|error| wrong(format, &error.path().to_string(), error.inner()))?;
    parser.end().map_err(|error| wrong(format, ".", &error))?;
    Ok(value)
}

/// The parser's error: about the document, or about a field of it.
fn wrong(format: Format, path: &str, error: &serde_json::Error) -> Unreadable {
    let remedy = format.description().remedy;
    let reason = text::short(&error.to_string());
    if error.is_data() {
        let field = match path {
            "." => "the body".to_owned(),
            path => text::short(path),
        };
        Unreadable::Field {
            field,
            reason,
            remedy,
        }
    } else {
        Unreadable::NotJson { reason, remedy }
    }
}

/// These alerts, or nothing if there are none.
fn alerts(alerts: Vec<Alert>) -> Delivery {
    if alerts.is_empty() {
        Delivery::Nothing("the delivery holds no alerts".to_owned())
    } else {
        Delivery::Alerts(alerts)
    }
}

/// An alert that is not answered, and why.
fn ignored(why: &str) -> State {
    State::Ignored(why.to_owned())
}

/// The first of these that says something.
fn first<const N: usize>(texts: [Option<text::Text>; N]) -> Option<String> {
    texts
        .into_iter()
        .flatten()
        .map(|text| text.0)
        .find(|text| !text.is_empty())
}
