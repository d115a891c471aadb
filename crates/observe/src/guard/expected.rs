//! The guard that this program was built with: `deploy/20-guard.yaml` and `deploy/21-guard-stamp.yaml` themselves, so that
//! there is no second list of its policies.

use std::collections::BTreeMap;

use k8s_openapi::api::admissionregistration::v1::{
    MutatingAdmissionPolicy, MutatingAdmissionPolicyBinding, ValidatingAdmissionPolicy,
    ValidatingAdmissionPolicyBinding,
};
use kube::core::ApiResource;
use serde_json::Value;

use super::difference;

/// What an administrator installs.
const SHIPPED: [(&str, &str); 2] = [
    (
        "20-guard.yaml",
        include_str!("../../../../deploy/20-guard.yaml"),
    ),
    (
        "21-guard-stamp.yaml",
        include_str!("../../../../deploy/21-guard-stamp.yaml"),
    ),
];

/// The guard that was built in makes no sense.
#[derive(Debug, thiserror::Error)]
pub enum Unreadable {
    /// It is no YAML.
    #[error("deploy/{0}, as it was built in, cannot be read")]
    Yaml(&'static str, #[source] Box<serde_saphyr::Error>),
    /// It holds something else.
    #[error(
        "object {1} of deploy/{0}, as it was built in, is no admission policy with a name and a spec"
    )]
    Object(&'static str, usize),
}

/// The kinds that the guard is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum GuardKind {
    /// A policy that mutates.
    Mutating,
    /// What puts it in force.
    MutatingBinding,
    /// A policy that validates.
    Validating,
    /// What puts it in force.
    ValidatingBinding,
}

impl GuardKind {
    /// All of them.
    pub const ALL: [Self; 4] = [
        Self::Mutating,
        Self::MutatingBinding,
        Self::Validating,
        Self::ValidatingBinding,
    ];

    /// As the API server calls it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Mutating => "MutatingAdmissionPolicy",
            Self::MutatingBinding => "MutatingAdmissionPolicyBinding",
            Self::Validating => "ValidatingAdmissionPolicy",
            Self::ValidatingBinding => "ValidatingAdmissionPolicyBinding",
        }
    }

    /// Whether it writes what others only check: who asks and who approves. Only servers 1.36 and newer have such kinds, and
    /// the guard is complete without.
    pub fn stamps(self) -> bool {
        match self {
            Self::Mutating | Self::MutatingBinding => true,
            Self::Validating | Self::ValidatingBinding => false,
        }
    }

    /// Where the API server has it.
    pub fn resource(self) -> ApiResource {
        match self {
            Self::Mutating => ApiResource::erase::<MutatingAdmissionPolicy>(&()),
            Self::MutatingBinding => ApiResource::erase::<MutatingAdmissionPolicyBinding>(&()),
            Self::Validating => ApiResource::erase::<ValidatingAdmissionPolicy>(&()),
            Self::ValidatingBinding => ApiResource::erase::<ValidatingAdmissionPolicyBinding>(&()),
        }
    }
}

/// One object of the guard.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// Its kind.
    pub kind: GuardKind,
    /// Its name.
    pub name: String,
}

/// What has to be there, with the specs that matter.
#[derive(Debug)]
pub struct Expected(BTreeMap<Place, Value>);

impl Expected {
    /// The guard that was built in.
    ///
    /// # Errors
    /// It makes no sense, which a test would have found.
    pub fn shipped() -> Result<Self, Unreadable> {
        let mut objects = BTreeMap::new();
        for (file, text) in SHIPPED {
            for (index, document) in documents(file, text)?.iter().enumerate() {
                let (place, spec) = entry(document).ok_or(Unreadable::Object(file, index))?;
                objects.insert(place, spec);
            }
        }
        Ok(Self(objects))
    }

    /// Everything that has to be there.
    pub fn places(&self) -> impl Iterator<Item = &Place> {
        self.0.keys()
    }

    /// Where a spec begins to differ from the one of this place. What nobody expects differs from nothing.
    pub fn difference(&self, place: &Place, spec: &Value) -> Option<String> {
        let expected = self.0.get(place)?;
        difference::first(expected, &difference::essence(spec), "spec")
    }
}

fn documents(file: &'static str, text: &str) -> Result<Vec<Value>, Unreadable> {
    serde_saphyr::from_multiple(text).map_err(|error| Unreadable::Yaml(file, Box::new(error)))
}

fn entry(document: &Value) -> Option<(Place, Value)> {
    let text = |pointer| document.pointer(pointer).and_then(Value::as_str);
    let kind = text("/kind")?;
    let kind = GuardKind::ALL
        .into_iter()
        .find(|known| known.as_str() == kind)?;
    let name = text("/metadata/name")?.to_owned();
    let spec = document.get("spec")?;
    Some((Place { kind, name }, difference::essence(spec)))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whatever policies there are: each has a binding of its name, and both carry the label by which they are found.
    #[test]
    fn every_policy_is_bound() -> Result<(), Unreadable> {
        let shipped = Expected::shipped()?;
        let named = |kind| -> Vec<&str> {
            let places = shipped.places().filter(|place| place.kind == kind);
            places.map(|place| place.name.as_str()).collect()
        };
        assert_eq!(
            named(GuardKind::Mutating),
            named(GuardKind::MutatingBinding)
        );
        assert_eq!(
            named(GuardKind::Validating),
            named(GuardKind::ValidatingBinding)
        );
        assert!(named(GuardKind::Validating).contains(&"rollback-guard-approval"));
        for (file, text) in SHIPPED {
            for document in documents(file, text)? {
                let label = document["metadata"]["labels"].get(rollback_api::GUARD_LABEL);
                assert!(label.is_some(), "{}", document["metadata"]);
            }
        }
        Ok(())
    }
}
