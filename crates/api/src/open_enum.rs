//! The enums of a status. A newer controller may have more values, so none of them is closed: what is not in one is
//! kept as it is, letter by letter, and nothing is ever concluded from it.
//!
//! The words of the specs of requests and policies are closed: admission takes no other one. Some of them are repeated in
//! a status (the rules of a plan). Their types stay closed too, so a status with a new one of these is read by nobody;
//! [`crate::unknown`], which looks before anything is read, tells of both kinds alike.

use std::borrow::Cow;
use std::fmt;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    JSONSchemaProps, JSONSchemaPropsOrArray, JSONSchemaPropsOrBool,
};
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::de::{Error, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Most bytes of a word.
const LONGEST: usize = 63;
/// How a word looks: letters and digits. Environments begin with a small letter.
const PATTERN: &str = "^[A-Za-z][A-Za-z0-9]*$";

/// A value that none of our enums has.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NewerValue {
    bytes: [u8; LONGEST],
    length: u8,
}

impl NewerValue {
    /// The word, when it is one.
    pub fn new(text: &str) -> Option<Self> {
        let begins = text.starts_with(|first: char| first.is_ascii_alphabetic());
        let goes_on = text.bytes().all(|byte| byte.is_ascii_alphanumeric());
        if !begins || !goes_on {
            return None;
        }
        let mut bytes = [0; LONGEST];
        bytes
            .get_mut(..text.len())?
            .copy_from_slice(text.as_bytes());
        let length = u8::try_from(text.len()).ok()?;
        Some(Self { bytes, length })
    }

    /// The word itself.
    pub fn as_str(&self) -> &str {
        let bytes = self.bytes.get(..usize::from(self.length));
        // It was made of ASCII letters and digits.
        bytes.map_or("", |bytes| std::str::from_utf8(bytes).unwrap_or_default())
    }
}

impl fmt::Debug for NewerValue {
    fn fmt(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        write!(formatter, "{:?}", self.as_str())
    }
}

impl Serialize for NewerValue {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for NewerValue {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;
        impl Visitor<'_> for Text {
            type Value = NewerValue;

            fn expecting(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
                write!(
                    formatter,
                    "a word of at most {LONGEST} letters and digits, a letter first"
                )
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<NewerValue, E> {
                NewerValue::new(text)
                    .ok_or_else(|| E::invalid_value(serde::de::Unexpected::Str(text), &self))
            }
        }
        deserializer.deserialize_str(Text)
    }
}

/// A word of a closed list, where a newer version may have written one that is not in ours.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum OrNewer<T> {
    /// One of the list.
    Known(T),
    /// Another one. Nothing follows from it.
    Newer(NewerValue),
}

impl<T: fmt::Debug> fmt::Debug for OrNewer<T> {
    fn fmt(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Self::Known(word) => word.fmt(formatter),
            Self::Newer(word) => word.fmt(formatter),
        }
    }
}

impl<T: JsonSchema> JsonSchema for OrNewer<T> {
    fn inline_schema() -> bool {
        T::inline_schema()
    }

    fn schema_name() -> Cow<'static, str> {
        T::schema_name()
    }

    /// The words that are known; see [`open`].
    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        T::json_schema(generator)
    }
}

/// Defines a list of words that is not closed: the enum, its names, and how it is read and written.
macro_rules! open_enum {
    (
        $(#[$about:meta])*
        pub enum $name:ident {
            $($(#[$of:meta])* $word:ident,)+
        }
    ) => {
        $(#[$about])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum $name {
            $($(#[$of])* $word,)+
            /// A word that a newer version has and this one does not know. Nothing follows from it.
            Newer($crate::open_enum::NewerValue),
        }

        impl $name {
            /// The words that this version knows.
            pub const ALL: &[Self] = &[$(Self::$word),+];

            /// The word itself.
            pub fn as_str(&self) -> &str {
                match self {
                    Self::Newer(word) => word.as_str(),
                    known => known.known().unwrap_or_default(),
                }
            }

            /// The word itself, when it is one that this version knows.
            pub fn known(self) -> Option<&'static str> {
                match self {
                    $(Self::$word => Some(stringify!($word)),)+
                    Self::Newer(_) => None,
                }
            }
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(self.as_str())
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let word = $crate::open_enum::NewerValue::deserialize(deserializer)?;
                Ok(match word.as_str() {
                    $(stringify!($word) => Self::$word,)+
                    _ => Self::Newer(word),
                })
            }
        }

        impl schemars::JsonSchema for $name {
            fn inline_schema() -> bool {
                true
            }

            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($name).into()
            }

            /// The words that are known; [`crate::open_enum::open`] takes the list away where others are taken too.
            fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
                schemars::json_schema!({"type": "string", "enum": [$(stringify!($word)),+]})
            }
        }
    };
}
pub(crate) use open_enum;

/// Takes every list of words out of a schema: what looks like a word is taken in their places.
pub(crate) fn open(schema: &mut JSONSchemaProps) {
    everywhere(schema, &mut |schema| {
        if schema.enum_.take().is_some() {
            schema.pattern = Some(PATTERN.to_owned());
            schema.max_length = i64::try_from(LONGEST).ok();
        }
    });
}

/// Changes a schema and all that is below it.
pub(crate) fn everywhere(
    schema: &mut JSONSchemaProps,
    change: &mut impl FnMut(&mut JSONSchemaProps),
) {
    change(schema);
    for field in schema
        .properties
        .iter_mut()
        .flat_map(|fields| fields.values_mut())
    {
        everywhere(field, change);
    }
    match &mut schema.items {
        Some(JSONSchemaPropsOrArray::Schema(item)) => everywhere(item, change),
        Some(JSONSchemaPropsOrArray::Schemas(items)) => {
            for item in items {
                everywhere(item, change);
            }
        }
        None => {}
    }
    match &mut schema.additional_properties {
        Some(JSONSchemaPropsOrBool::Schema(entry)) => everywhere(entry, change),
        Some(JSONSchemaPropsOrBool::Bool(_)) | None => {}
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{Reason, RequestState};

    #[test]
    fn a_word_that_is_not_known_survives() {
        let longest = format!("A{}", "b".repeat(62));
        for word in ["FromTheFuture", "X", longest.as_str()] {
            let text = format!("{word:?}");
            let read: RequestState = serde_json::from_str(&text).unwrap();
            assert_eq!(read, RequestState::Newer(NewerValue::new(word).unwrap()));
            assert_eq!(read.as_str(), word);
            assert_eq!(serde_json::to_string(&read).unwrap(), text);
        }
    }

    #[test]
    fn a_word_that_is_known_is_itself() {
        for state in RequestState::ALL {
            let text = serde_json::to_string(state).unwrap();
            let read: RequestState = serde_json::from_str(&text).unwrap();
            assert_eq!((&read, text), (state, format!("{:?}", state.as_str())));
        }
    }

    #[test]
    fn what_is_no_word_is_refused() {
        let long = "A".repeat(64);
        for text in [
            "",
            "1st",
            "Two Words",
            "Snake_Case",
            "\u{c4}pfel",
            long.as_str(),
        ] {
            let error = serde_json::from_str::<Reason>(&json!(text).to_string()).unwrap_err();
            let said = error.to_string();
            assert!(
                said.contains("a word of at most 63 letters and digits"),
                "{said}"
            );
        }
    }
}
