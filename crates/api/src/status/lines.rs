//! What stands in one line each, though it has parts: a status is read by people, and `kubectl describe` gives each field a
//! line of its own.

use std::borrow::Cow;
use std::convert::Infallible;
use std::fmt;
use std::str::FromStr;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// A pod template by its digest, with its revision where one carries it. It is written as an image with its digest is:
/// `revision-2@sha256:…`, or the digest alone.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TemplateRef {
    /// The revision number.
    pub revision: Option<i64>,
    /// `sha256:` and 64 hex digits.
    pub digest: String,
}

/// The object that keeps a template: `NAME@UID`, or the name alone of one whose name says enough.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SourceRef {
    /// Name of the object.
    pub name: String,
    /// UID of the object, when it is a `ReplicaSet`.
    pub uid: Option<String>,
}

/// What is rolled back, and to what: `deployment/api to revision 2 (v2.1.5)`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// What is rolled back. It has no ` to ` in it.
    pub target: String,
    /// To what.
    pub to: String,
}

const REVISION: &str = "revision-";

impl fmt::Display for TemplateRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(revision) = self.revision {
            write!(f, "{REVISION}{revision}@")?;
        }
        f.write_str(&self.digest)
    }
}

impl FromStr for TemplateRef {
    type Err = Infallible;

    /// What has no revision before its `@` is taken for a digest as it stands, which no template has.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let numbered = text.strip_prefix(REVISION).and_then(|rest| {
            let (number, digest) = rest.split_once('@')?;
            Some((number.parse().ok()?, digest))
        });
        Ok(match numbered {
            Some((number, digest)) => Self {
                revision: Some(number),
                digest: digest.to_owned(),
            },
            None => Self {
                revision: None,
                digest: text.to_owned(),
            },
        })
    }
}

impl fmt::Display for SourceRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)?;
        match &self.uid {
            Some(uid) => write!(f, "@{uid}"),
            None => Ok(()),
        }
    }
}

impl FromStr for SourceRef {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        // No object's name has an '@'.
        let (name, uid) = match text.split_once('@') {
            Some((name, uid)) => (name, Some(uid.to_owned())),
            None => (text, None),
        };
        Ok(Self {
            name: name.to_owned(),
            uid,
        })
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} to {}", self.target, self.to)
    }
}

impl FromStr for Summary {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (target, to) = text.split_once(" to ").unwrap_or((text, ""));
        Ok(Self {
            target: target.to_owned(),
            to: to.to_owned(),
        })
    }
}

/// Written and read as one string.
macro_rules! one_string {
    ($name:ident, $described:literal, $most:literal) => {
        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = String::deserialize(deserializer)?;
                text.parse().map_err(de::Error::custom)
            }
        }

        impl JsonSchema for $name {
            fn schema_name() -> Cow<'static, str> {
                stringify!($name).into()
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!({"type": "string", "description": $described, "maxLength": $most})
            }
        }
    };
}

one_string!(
    TemplateRef,
    "A pod template: `revision-2@sha256:…`, or its digest alone.",
    128
);
one_string!(
    SourceRef,
    "The object that keeps a template: `NAME@UID`, or its name alone.",
    320
);

one_string!(
    Summary,
    "What is rolled back, and to what: `deployment/api to revision 2 (v2.1.5)`.",
    1024
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_form_is_read_as_it_was_written() {
        for text in ["revision-2@sha256:00ff", "sha256:00ff"] {
            let read: TemplateRef = text.parse().unwrap();
            assert_eq!(read.to_string(), text);
        }
        for text in ["api-7d9f@3f2e-11", "deployment-api"] {
            let read: SourceRef = text.parse().unwrap();
            assert_eq!(read.to_string(), text);
        }
        let text = "3 Deployments (1 done) to previous";
        let read: Summary = text.parse().unwrap();
        assert_eq!(
            (read.to_string().as_str(), read.to.as_str()),
            (text, "previous")
        );
    }

    #[test]
    fn what_has_no_revision_is_kept_as_it_stands() {
        for text in [
            "2@sha256:00ff",
            "revision-@sha256:00ff",
            "revision-two@sha256:00ff",
        ] {
            let read: TemplateRef = text.parse().unwrap();
            assert_eq!((read.revision, read.to_string().as_str()), (None, text));
        }
    }
}
