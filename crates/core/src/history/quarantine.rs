//! Which versions admission recognizes when somebody brings them back, and how.
//!
//! The entries are made with the claim, before the Deployment is written: from the moment of the revert on nobody brings
//! the bad version back unseen. What becomes of them follows from what the ledger knows later.

use std::collections::{BTreeMap, BTreeSet};

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
    let evidence = |digest| ledger.and_then(|ledger| evidence_of(ledger, digest));
    let (bad, good) = (evidence(&target.from.digest), evidence(&target.to.digest));
    let images: Vec<QuarantinedImage> = target
        .images
        .iter()
        .filter_map(|change| {
            let (container, image) = (change.container.clone(), change.from.as_deref()?);
            let mut bad = names(image, image_id(bad, &container));
            if let Some(image) = change.to.as_deref() {
                // The same bytes under another tag: what the good version has too, condemns nobody.
                let good = names(image, image_id(good, &container));
                bad.retain(|name| !good.contains(name));
            }
            (!bad.is_empty()).then_some(QuarantinedImage {
                container,
                names: bad,
            })
        })
        .collect();
    let pod_spec = pod_spec(running).filter(|_| images.is_empty());
    let by = request.spec.requested_by.as_ref();
    Quarantined {
        digest: target.from.digest.clone(),
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
/// is about to roll back, or has just now, stays until that has ended; `is_claimed`: the request that holds the claim is
/// still there.
pub fn settle(ledger: &mut RevisionLedgerSpec, is_claimed: bool, now: Timestamp) {
    let claim = ledger.claim.as_ref().map(|claim| claim.request.clone());
    let templates = &ledger.templates;
    ledger.quarantine.retain_mut(|entry| {
        let is_of_claim = claim.as_ref() == Some(&entry.request);
        if is_of_claim && is_claimed {
            return true;
        }
        let known = templates.iter().find(|known| known.digest == entry.digest);
        let bad = match known.map(|known| known.verdict) {
            Some(Verdict::Bad | Verdict::Newer(_)) => true,
            Some(Verdict::Good | Verdict::Unknown) => false,
            // A request that went away before it rolled anything back has shown nothing.
            None => !is_of_claim,
        };
        if let Some(until) = known.and_then(|known| known.bad_until) {
            entry.until = until;
        }
        bad && now < entry.until
    });
}

/// Forgets what a request has put there, because it rolled back nothing, or brought it back itself. What an earlier
/// rollback has found to be bad stays, also that of a request with the same name.
pub fn forget(ledger: &mut RevisionLedgerSpec, request: &str) {
    let templates = &ledger.templates;
    ledger.quarantine.retain(|entry| {
        let known = templates.iter().find(|known| known.digest == entry.digest);
        entry.request != request || known.is_some_and(|known| known.verdict == Verdict::Bad)
    });
}

/// Forgets entries of other versions by which the template would be recognized that runs now: of one without images, since
/// it differs in nothing that an entry can say; of one with images, when it is known to be well, or the last rollback went
/// back to it.
pub fn spare(ledger: &mut RevisionLedgerSpec, live: &Template) {
    let digest = live.digest();
    let is_good = evidence_of(ledger, &digest).is_some_and(|known| known.verdict == Verdict::Good);
    let last = ledger.rollbacks.last();
    let is_well = is_good || last.is_some_and(|rollback| rollback.to_digest == digest);
    ledger.quarantine.retain(|entry| {
        let is_spared = entry.images.is_empty() || is_well;
        entry.digest == digest || !is_spared || !recognizes(entry, live)
    });
}

/// Whether admission recognizes a template as this entry; the twin of `deploy/25-quarantine.yaml`.
pub fn recognizes(entry: &Quarantined, template: &Template) -> bool {
    if entry.images.is_empty() {
        return entry.pod_spec.is_some()
            && entry.pod_spec.as_ref() == template.as_json().get("spec");
    }
    has_images(entry, &template.images())
}

/// Whether the images, by container, are those by which an entry is recognized. One without any is by none.
pub fn has_images(entry: &Quarantined, images: &BTreeMap<String, String>) -> bool {
    !entry.images.is_empty()
        && entry.images.iter().all(|known| {
            let is_named = images.contains_key(&known.container);
            images
                .iter()
                .filter(|(container, _)| !is_named || **container == known.container)
                .any(|(_, image)| known.names.iter().any(|name| is_named_by(image, name)))
        })
}

fn is_named_by(image: &str, name: &str) -> bool {
    image == name || (name.starts_with('@') && image.ends_with(name))
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
    if let Some(tag) = reference.tag.as_deref() {
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
            settle(&mut ledger, true, at(second));
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

    fn of_images(images: &[(&str, &[&str])]) -> Quarantined {
        let images = images.iter().map(|(container, names)| QuarantinedImage {
            container: (*container).to_owned(),
            names: names.iter().map(|name| (*name).to_owned()).collect(),
        });
        Quarantined {
            images: images.collect(),
            pod_spec: None,
            ..quarantined("v2", "r1")
        }
    }

    fn template(images: &[(&str, &str)]) -> Template {
        let containers: Vec<Value> = images
            .iter()
            .map(|(name, image)| json!({"name": name, "image": image}))
            .collect();
        Template::of(&json!({"spec": {"containers": containers}}))
    }

    #[test]
    fn an_image_is_looked_for_in_the_container_that_had_it() {
        let entry = of_images(&[("api", &["shop/api:v2", "@sha256:b"])]);
        let cases: [(&[(&str, &str)], bool); 6] = [
            (&[("api", "shop/api:v2")], true),
            (&[("api", "mirror/api@sha256:b")], true),
            (&[("renamed", "shop/api:v2")], true),
            (&[("api", "shop/api:v1"), ("migrate", "shop/api:v2")], false),
            (&[("api", "shop/api:v20")], false),
            (&[], false),
        ];
        for (images, expected) in cases {
            assert_eq!(
                recognizes(&entry, &template(images)),
                expected,
                "{images:?}"
            );
        }
    }

    #[test]
    fn what_an_earlier_rollback_found_to_be_bad_is_not_forgotten() {
        let mut ledger = RevisionLedgerSpec {
            templates: vec![known("v2", Verdict::Bad, Some(at(100)))],
            quarantine: vec![
                quarantined("v2", "same-name"),
                quarantined("v3", "same-name"),
            ],
            ..RevisionLedgerSpec::default()
        };
        forget(&mut ledger, "same-name");
        let left: Vec<&str> = ledger
            .quarantine
            .iter()
            .map(|it| it.digest.as_str())
            .collect();
        assert_eq!(left, ["v2"]);
    }

    #[test]
    fn a_request_that_is_gone_has_shown_nothing() {
        let mut ledger = RevisionLedgerSpec {
            claim: Some(claim("r1")),
            quarantine: vec![quarantined("v2", "r1"), quarantined("v3", "r0")],
            ..RevisionLedgerSpec::default()
        };
        settle(&mut ledger, true, at(1));
        assert_eq!(ledger.quarantine.len(), 2, "it is at work");
        settle(&mut ledger, false, at(1));
        let left: Vec<&str> = ledger
            .quarantine
            .iter()
            .map(|it| it.digest.as_str())
            .collect();
        assert_eq!(left, ["v3"]);
    }

    #[test]
    fn what_is_known_to_be_well_is_spared_also_with_the_bad_image() {
        let live = template(&[("api", "shop/api:v2")]);
        let mut ledger = RevisionLedgerSpec {
            quarantine: vec![of_images(&[("api", &["shop/api:v2"])])],
            ..RevisionLedgerSpec::default()
        };
        spare(&mut ledger, &live);
        assert_eq!(ledger.quarantine.len(), 1, "nobody knows it to be well");
        ledger.templates = vec![known(&live.digest(), Verdict::Good, None)];
        spare(&mut ledger, &live);
        assert_eq!(ledger.quarantine.len(), 0);
    }
}
