//! Which versions admission recognizes when somebody brings them back, and how.
//!
//! The entries are made with the claim, before the Deployment is written: from the moment of the revert on nobody brings
//! the bad version back unseen. What becomes of them follows from what the ledger knows later.

use std::collections::BTreeSet;

use jiff::Timestamp;
use rollback_api::ledger::{
    Evidence, MAX_POD_SPEC_BYTES, MAX_QUARANTINED, Quarantined, QuarantinedImage, Verdict,
};
use rollback_api::open_enum::OrNewer;
use rollback_api::policy::Enforce;
use rollback_api::status::{PlannedTarget, Rules};
use rollback_api::{RevisionLedgerSpec, RollbackRequest};
use serde_json::Value;

use super::image::Reference;
use super::template::Template;
use crate::message::text::plain;
use crate::time;

/// Longest text of others in an entry: it is shown to whoever is warned or refused.
const LONGEST_TEXT: usize = 200;
/// Longest name of an image.
const LONGEST_NAME: usize = 600;

/// The entry of the version that a request rolls back. `running`: its template, as the API server stores it.
pub fn entry(
    ledger: Option<&RevisionLedgerSpec>,
    request: &RollbackRequest,
    rules: &Rules,
    target: &PlannedTarget,
    running: &Template,
    now: Timestamp,
) -> Quarantined {
    let known = ledger.and_then(|ledger| evidence_of(ledger, &target.from_digest));
    let images: Vec<QuarantinedImage> = target
        .images
        .iter()
        .filter_map(|change| {
            let image = change.from.as_deref()?;
            Some(QuarantinedImage {
                container: change.container.clone(),
                names: names(image, image_id(known, &change.container)),
            })
        })
        .collect();
    let pod_spec = pod_spec(running).filter(|_| images.is_empty());
    let by = request.spec.requested_by.as_ref();
    Quarantined {
        digest: target.from_digest.clone(),
        request: request.metadata.name.clone().unwrap_or_default(),
        requested_by: by.map(|by| plain(&by.username, LONGEST_TEXT)),
        why: plain(&request.spec.reason.summary, LONGEST_TEXT),
        until: time::after(now, i64::from(rules.ledger.quarantine_seconds)),
        enforce: OrNewer::Known(rules.quarantine.enforce),
        images,
        pod_spec,
    }
}

/// Puts an entry into a ledger, in the place of an older one about the same version. The oldest one goes when there are
/// too many.
pub fn enter(ledger: &mut RevisionLedgerSpec, entry: Quarantined) {
    ledger
        .quarantine
        .retain(|other| other.digest != entry.digest);
    ledger.quarantine.push(entry);
    let surplus = ledger.quarantine.len().saturating_sub(MAX_QUARANTINED);
    ledger.quarantine.drain(..surplus);
}

/// Takes out what is in quarantine no more: what is over, what was lifted, what was found to be well since. What a request
/// is about to roll back, or has just now, stays until that has ended.
pub fn settle(ledger: &mut RevisionLedgerSpec, now: Timestamp) {
    let claim = ledger.claim.as_ref().map(|claim| claim.request.clone());
    let templates = &ledger.templates;
    ledger.quarantine.retain_mut(|entry| {
        if claim.as_ref() == Some(&entry.request) {
            return true;
        }
        let known = templates.iter().find(|known| known.digest == entry.digest);
        let bad = known.is_none_or(|known| match known.verdict {
            Verdict::Bad | Verdict::Newer(_) => true,
            Verdict::Good | Verdict::Unknown => false,
        });
        if let Some(until) = known.and_then(|known| known.bad_until) {
            entry.until = until;
        }
        bad && now < entry.until
    });
}

/// Forgets what a request has put there, because it rolled back nothing, or brought it back itself.
pub fn forget(ledger: &mut RevisionLedgerSpec, request: &str) {
    ledger.quarantine.retain(|entry| entry.request != request);
}

/// Forgets entries by which the template would be recognized that runs now: it differs from the bad one in nothing that
/// an entry can say.
pub fn spare(ledger: &mut RevisionLedgerSpec, live: &Template) {
    let (spec, digest) = (live.as_json().get("spec"), live.digest());
    ledger.quarantine.retain(|entry| {
        entry.digest == digest || entry.pod_spec.is_none() || entry.pod_spec.as_ref() != spec
    });
}

/// Has all entries enforced as the policy of the namespace says now.
pub fn enforce(ledger: &mut RevisionLedgerSpec, enforce: Enforce) {
    for entry in &mut ledger.quarantine {
        match entry.enforce {
            OrNewer::Known(_) => entry.enforce = OrNewer::Known(enforce),
            // What a newer version meant stands.
            OrNewer::Newer(_) => {}
        }
    }
}

/// When the first of the entries is over.
pub fn next_end(ledger: &RevisionLedgerSpec) -> Option<Timestamp> {
    ledger.quarantine.iter().map(|entry| entry.until).min()
}

/// What admission does with a write that brings back a version of a ledger.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Enforced {
    /// It warns.
    Warn,
    /// It refuses.
    Deny,
}

/// What admission has to do with this ledger, if anything. The policy of a namespace is the same for all its entries.
pub fn enforced(ledger: &RevisionLedgerSpec) -> Option<Enforced> {
    let of = |entry: &Quarantined| match entry.enforce {
        OrNewer::Known(Enforce::Warn) | OrNewer::Newer(_) => Some(Enforced::Warn),
        OrNewer::Known(Enforce::Deny) => Some(Enforced::Deny),
        OrNewer::Known(Enforce::Off) => None,
    };
    ledger.quarantine.iter().filter_map(of).max()
}

fn evidence_of<'a>(ledger: &'a RevisionLedgerSpec, digest: &str) -> Option<&'a Evidence> {
    ledger.templates.iter().find(|known| known.digest == digest)
}

/// What the kubelets made of the image of a container.
fn image_id<'a>(known: Option<&'a Evidence>, container: &str) -> Option<&'a str> {
    known?
        .images
        .iter()
        .find(|image| image.container == container)?
        .image_id
        .as_deref()
}

/// The ways to name an image: as it is written, with everything implicit spelled out, as Docker Hub's short forms, and by
/// the digest that its name or a kubelet says.
fn names(image: &str, id: Option<&str>) -> Vec<String> {
    let reference = Reference::parse(image);
    let mut names = BTreeSet::from([image.to_owned()]);
    let digest = reference.digest.clone();
    let of_kubelet = id
        .and_then(|id| id.rsplit_once('@'))
        .map(|(_, digest)| digest.to_owned());
    for digest in digest.into_iter().chain(of_kubelet) {
        if digest.starts_with("sha256:") {
            names.insert(format!("@{digest}"));
        }
    }
    if let Some(tag) = reference
        .tag
        .as_deref()
        .filter(|_| reference.digest.is_none())
    {
        let short = reference.repository.strip_prefix("docker.io/");
        let shortest = short.and_then(|short| short.strip_prefix("library/"));
        for repository in [Some(reference.repository.as_str()), short, shortest]
            .into_iter()
            .flatten()
        {
            names.insert(format!("{repository}:{tag}"));
            if tag == "latest" {
                names.insert(repository.to_owned());
            }
        }
    }
    names
        .into_iter()
        .filter(|name| name.len() <= LONGEST_NAME)
        .collect()
}

fn pod_spec(template: &Template) -> Option<Value> {
    let spec = template.as_json().get("spec")?;
    (spec.to_string().len() <= MAX_POD_SPEC_BYTES).then(|| spec.clone())
}

#[cfg(test)]
mod tests {
    use rollback_api::ledger::Claim;
    use rollback_api::open_enum::NewerValue;
    use rollback_api::request::Urgency;
    use serde_json::json;

    use super::*;

    #[test]
    fn an_image_is_known_by_all_its_names() {
        let digest = format!("sha256:{}", "a".repeat(64));
        let id = format!("registry.broxiva.example/api@{digest}");
        let cases: [(&str, Option<&str>, &[&str]); 4] = [
            (
                "registry.broxiva.example/api:v2",
                Some(&id),
                &[&format!("@{digest}"), "registry.broxiva.example/api:v2"],
            ),
            (
                "nginx",
                None,
                &[
                    "docker.io/library/nginx",
                    "docker.io/library/nginx:latest",
                    "library/nginx",
                    "library/nginx:latest",
                    "nginx",
                    "nginx:latest",
                ],
            ),
            (
                "broxiva/api:1.4",
                Some("docker-pullable://broken"),
                &["broxiva/api:1.4", "docker.io/broxiva/api:1.4"],
            ),
            (&id, None, &[&format!("@{digest}"), &id]),
        ];
        for (image, id, expected) in cases {
            assert_eq!(names(image, id), expected, "{image}");
        }
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_764_000_000 + second).unwrap_or_default()
    }

    fn quarantined(digest: &str, request: &str) -> Quarantined {
        Quarantined {
            digest: digest.to_owned(),
            request: request.to_owned(),
            requested_by: None,
            why: String::new(),
            until: at(100),
            enforce: OrNewer::Known(Enforce::Warn),
            images: Vec::new(),
            pod_spec: Some(json!({"containers": []})),
        }
    }

    fn known(digest: &str, verdict: Verdict, bad_until: Option<Timestamp>) -> Evidence {
        Evidence {
            digest: digest.to_owned(),
            verdict,
            bad_until,
            ..Evidence::default()
        }
    }

    fn claim(request: &str) -> Claim {
        Claim {
            request: request.to_owned(),
            request_uid: "uid".to_owned(),
            urgency: OrNewer::Known(Urgency::High),
        }
    }

    /// What is left of one entry, and until when.
    #[test]
    fn an_entry_goes_when_it_is_over_or_unfounded() {
        let bad_until = |second| known("v2", Verdict::Bad, Some(at(second)));
        let cases = [
            ("nothing else is known", None, None, 99, Some(100)),
            ("its time is over", None, None, 100, None),
            (
                "longer, by the ledger",
                Some(bad_until(200)),
                None,
                150,
                Some(200),
            ),
            (
                "shorter, by the ledger",
                Some(bad_until(50)),
                None,
                60,
                None,
            ),
            (
                "well since",
                Some(known("v2", Verdict::Good, None)),
                None,
                1,
                None,
            ),
            (
                "lifted",
                Some(known("v2", Verdict::Unknown, None)),
                None,
                1,
                None,
            ),
            (
                "under way",
                Some(known("v2", Verdict::Good, None)),
                Some("r1"),
                500,
                Some(100),
            ),
            (
                "another is under way",
                Some(known("v2", Verdict::Good, None)),
                Some("r2"),
                1,
                None,
            ),
        ];
        for (what, evidence, holder, second, expected) in cases {
            let mut ledger = RevisionLedgerSpec {
                claim: holder.map(claim),
                templates: evidence.into_iter().collect(),
                quarantine: vec![quarantined("v2", "r1")],
                ..RevisionLedgerSpec::default()
            };
            settle(&mut ledger, at(second));
            assert_eq!(next_end(&ledger), expected.map(at), "{what}");
        }
    }

    #[test]
    fn a_version_has_one_entry_and_there_are_not_too_many() {
        let mut ledger = RevisionLedgerSpec::default();
        for number in 0..=MAX_QUARANTINED {
            enter(&mut ledger, quarantined(&format!("v{number}"), "old"));
        }
        enter(&mut ledger, quarantined("v5", "new"));
        assert_eq!(ledger.quarantine.len(), MAX_QUARANTINED);
        let digests: Vec<&str> = ledger
            .quarantine
            .iter()
            .map(|it| it.digest.as_str())
            .collect();
        assert!(!digests.contains(&"v0"), "the oldest goes");
        assert_eq!(digests.iter().filter(|it| **it == "v5").count(), 1);
        forget(&mut ledger, "old");
        assert_eq!(ledger.quarantine.len(), 1);
    }

    #[test]
    fn what_is_enforced_is_what_the_policy_says_but_for_newer_words() {
        let newer = OrNewer::Newer(NewerValue::new("Page").unwrap());
        let mut ledger = RevisionLedgerSpec::default();
        assert_eq!(enforced(&ledger), None);
        enter(&mut ledger, quarantined("v2", "r1"));
        for (word, expected) in [
            (Enforce::Deny, Some(Enforced::Deny)),
            (Enforce::Off, None),
            (Enforce::Warn, Some(Enforced::Warn)),
        ] {
            enforce(&mut ledger, word);
            assert_eq!(enforced(&ledger), expected);
        }
        ledger.quarantine[0].enforce = newer;
        enforce(&mut ledger, Enforce::Off);
        assert_eq!(ledger.quarantine[0].enforce, newer);
    }

    #[test]
    fn what_runs_well_is_spared_and_the_bad_one_itself_is_not() {
        let live = |label: &str| {
            Template::of(&json!({"metadata": {"labels": {"v": label}}, "spec": {"containers": []}}))
        };
        let bad = live("bad");
        let mut ledger = RevisionLedgerSpec::default();
        enter(&mut ledger, quarantined(&bad.digest(), "r1"));
        spare(&mut ledger, &bad);
        assert_eq!(ledger.quarantine.len(), 1);
        spare(&mut ledger, &live("good"));
        assert_eq!(ledger.quarantine.len(), 0);
    }
}
