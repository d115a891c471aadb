//! What is typed for a workload and for what to go back to.

use rollback_api::GROUP;
use rollback_api::request::{To, ToImage};
use rollback_core::message::shell;
use rollback_core::plan::references::is_subdomain;

use crate::error::Error;
use crate::output::clean;

/// Longest name of a namespace.
const LONGEST_LABEL: usize = 63;

/// Where to go back to, as it is typed.
#[derive(Clone, Debug, PartialEq)]
pub enum Wanted {
    /// The same for each workload.
    Version(Box<To>),
    /// What each had before this request rolled it back.
    BackupOf(String),
}

/// Reads `previous`, `revision-3`, `v2.1.5`, `last-known-good`, `backup-of=REQUEST`; also `version=` and `image=` for
/// what looks like none of these.
pub fn wanted(word: &str) -> Result<Wanted, Error> {
    let to = match word.split_once('=') {
        Some(("backup-of", word)) if !word.is_empty() => {
            return Ok(Wanted::BackupOf(request(word).map_err(Error::Arguments)?));
        }
        Some(("version", version)) if !version.is_empty() => of_version(version),
        Some(("image", image)) if !image.is_empty() => To {
            image: Some(ToImage {
                image: image.to_owned(),
                ..ToImage::default()
            }),
            ..To::default()
        },
        Some(_) => return Err(unknown(word)),
        None => plain_word(word)?,
    };
    Ok(Wanted::Version(Box::new(to)))
}

fn plain_word(word: &str) -> Result<To, Error> {
    let number = word.strip_prefix("revision-").unwrap_or(word);
    if let Ok(revision) = number.parse::<i64>() {
        return match revision {
            1.. => Ok(To {
                revision: Some(revision),
                ..To::default()
            }),
            ..=0 => Err(unknown(word)),
        };
    }
    match word {
        "previous" => Ok(To::previous()),
        "last-known-good" => Ok(To::last_known_good()),
        version if looks_like_version(version) => Ok(of_version(version)),
        other => Err(unknown(other)),
    }
}

fn of_version(version: &str) -> To {
    To {
        version: Some(version.to_owned()),
        ..To::default()
    }
}

/// `v2`, `v2.1.5`, `2.1.5-rc.1`: a number, perhaps with a v before it and more behind it.
fn looks_like_version(word: &str) -> bool {
    let number = word.strip_prefix('v').unwrap_or(word);
    let is_harmless = |c: char| c.is_ascii_alphanumeric() || ".-_+".contains(c);
    number.starts_with(|c: char| c.is_ascii_digit()) && number.chars().all(is_harmless)
}

fn unknown(word: &str) -> Error {
    Error::Arguments(format!(
        "\"{}\" is nothing to go back to. Type previous, revision-3, v2.1.5, last-known-good or backup-of=REQUEST; version=TEXT for a version that looks otherwise, image=IMAGE for an image. kubectl rollback history deployment/NAME shows what there is.",
        clean(word)
    ))
}

/// The name of a Deployment that is typed as `api`, `deployment/api` or as another name that kubectl has for it.
pub fn deployment(word: &str) -> Result<String, Error> {
    let (kind, name) = word.split_once('/').unwrap_or(("deployment", word));
    let is_deployment = matches!(
        kind.to_ascii_lowercase().as_str(),
        "deployment" | "deployments" | "deploy" | "deployment.apps" | "deployments.apps"
    );
    if !is_deployment {
        return Err(Error::Arguments(format!(
            "\"{}\" is no Deployment, and nothing else can be rolled back yet. {}",
            clean(word),
            instead(kind, name)
        )));
    }
    if name.is_empty() || name.contains('/') {
        return Err(Error::Arguments(format!(
            "\"{}\" names no Deployment. Type deployment/NAME; kubectl get deployments lists the names.",
            clean(word)
        )));
    }
    Ok(name.to_owned())
}

/// What to type for what is no Deployment: some kinds have revisions too, without any of this.
fn instead(kind: &str, name: &str) -> String {
    let has_revisions = matches!(
        kind.to_ascii_lowercase().as_str(),
        "statefulset"
            | "statefulsets"
            | "sts"
            | "statefulset.apps"
            | "statefulsets.apps"
            | "daemonset"
            | "daemonsets"
            | "ds"
            | "daemonset.apps"
            | "daemonsets.apps"
    );
    if has_revisions {
        let what = clean(&format!("{kind}/{name}"));
        return format!("Type kubectl rollout undo {}.", shell::word(&what));
    }
    "Type deployment/NAME; kubectl get deployments lists the names.".to_owned()
}

/// The name of a request, also as `-o name` and kubectl print it.
pub fn request(word: &str) -> Result<String, String> {
    let (kind, name) = word.split_once('/').unwrap_or(("rbr", word));
    let kind = kind.to_ascii_lowercase();
    let kind = kind.strip_suffix(&format!(".{GROUP}")).unwrap_or(&kind);
    let is_request = matches!(kind, "rbr" | "rollbackrequest" | "rollbackrequests");
    if is_request && is_subdomain(name) {
        return Ok(name.to_owned());
    }
    Err(format!(
        "\"{}\" is no name of a request. kubectl rollback status lists those that are open",
        clean(word)
    ))
}

/// The name of a namespace. Anything else would become another path of the API server.
pub fn namespace(word: &str) -> Result<String, String> {
    if is_subdomain(word) && !word.contains('.') && word.len() <= LONGEST_LABEL {
        return Ok(word.to_owned());
    }
    Err(format!(
        "\"{}\" is no name of a namespace. kubectl get namespaces lists them",
        clean(word)
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn to(word: &str) -> serde_json::Value {
        match wanted(word).unwrap() {
            Wanted::Version(to) => serde_json::to_value(to).unwrap(),
            Wanted::BackupOf(request) => serde_json::json!({"backupOf": request}),
        }
    }

    #[test]
    fn the_words_of_the_script_and_of_kubectl_are_read() {
        let rows = [
            ("previous", r#"{"previous":{}}"#),
            ("last-known-good", r#"{"lastKnownGood":{}}"#),
            ("revision-3", r#"{"revision":3}"#),
            ("3", r#"{"revision":3}"#),
            ("v2.1.5", r#"{"version":"v2.1.5"}"#),
            ("2.1.5-rc.1", r#"{"version":"2.1.5-rc.1"}"#),
            ("version=blue", r#"{"version":"blue"}"#),
            ("image=shop/api:v1", r#"{"image":{"image":"shop/api:v1"}}"#),
            ("backup-of=api-5xx", r#"{"backupOf":"api-5xx"}"#),
        ];
        for (word, expected) in rows {
            assert_eq!(to(word).to_string(), expected, "{word}");
        }
    }

    #[test]
    fn what_is_nothing_to_go_back_to_is_said() {
        for word in [
            "prevoius",
            "revision-0",
            "revision-x",
            "",
            "-1",
            "image=",
            "backup-of=",
            "to=x",
            "v\u{1b}[31m",
        ] {
            let error = wanted(word).unwrap_err();
            assert_eq!(error.code(), 2);
            assert!(
                error.to_string().contains("Type previous"),
                "{word}: {error}"
            );
            assert!(!error.to_string().contains('\u{1b}'));
        }
    }

    #[test]
    fn a_deployment_has_the_names_that_kubectl_gives_it() {
        for word in [
            "api",
            "deployment/api",
            "deploy/api",
            "deployments/api",
            "Deployment/api",
            "deployment.apps/api",
        ] {
            assert_eq!(deployment(word).unwrap(), "api");
        }
        let rows = [
            ("statefulset/db", "kubectl rollout undo statefulset/db"),
            ("ds/logs", "kubectl rollout undo ds/logs"),
            // kubectl could not do that either.
            ("pod/api", "Type deployment/NAME"),
            ("deployment/", "names no Deployment"),
            ("deployment/a/b", "names no Deployment"),
            ("", "names no Deployment"),
        ];
        for (word, said) in rows {
            let error = deployment(word).unwrap_err();
            assert_eq!(error.code(), 2, "{word}");
            assert!(error.to_string().contains(said), "{word}: {error}");
        }
    }

    #[test]
    fn a_request_has_the_names_that_kubectl_gives_it() {
        for word in [
            "api-5xx",
            "rbr/api-5xx",
            "rollbackrequest/api-5xx",
            "rollbackrequest.rollback.broxiva.com/api-5xx",
            "rollbackrequests.rollback.broxiva.com/api-5xx",
        ] {
            assert_eq!(request(word).unwrap(), "api-5xx");
        }
        for word in [
            "",
            "a b",
            "../api-5xx",
            "rbr/",
            "rbr/a/b",
            "deployment/api",
            "API",
        ] {
            assert!(request(word).is_err(), "{word}");
        }
    }

    #[test]
    fn a_namespace_is_a_label() {
        assert_eq!(namespace("shop-1").unwrap(), "shop-1");
        for word in ["", "a.b", "Shop", "a/b", "..", "../../x", &"a".repeat(64)] {
            assert!(namespace(word).is_err(), "{word}");
        }
    }
}
