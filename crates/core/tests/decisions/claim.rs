//! The claim on a Deployment, its backup, and what its ledger remembers of a rollback.

use crate::world::{
    DEPLOYMENT, Move, REQUEST, REQUESTER, Scene, annotate, at, claimed_by, deployment, digest,
    seen, template,
};
use rollback_api::ledger::{Evidence, Verdict};
use rollback_api::open_enum::{NewerValue, OrNewer};
use rollback_api::unknown::Unknown;
use rollback_api::{
    CANCELLED_BY, Reason, RequestState, RevisionLedgerSpec, WorkloadKind, WorkloadRef,
};
use rollback_core::execution::artifact::backup_name;
use rollback_core::execution::phase::Phase;
use rollback_core::execution::step::Step;
use rollback_core::history::ledger::is_quarantined;
use rollback_core::observed::{Fetched, Rival};
use serde_json::json;

#[test]
fn case_44_a_claim_of_another_request_is_respected() {
    let theirs = Fetched::Found(claimed_by("other", "r-2"));
    let rival = |active| {
        Fetched::Found(Rival {
            name: "other".to_owned(),
            active,
            committed: false,
            unknown: None,
        })
    };
    for scene in [Scene::default().approved(), Scene::default().intended()] {
        let phase = scene.phase();
        let mut scene = scene;
        scene.observed.targets[0].ledger = theirs.clone();
        for busy in [rival(true), Fetched::Unknown] {
            scene.observed.targets[0].rival = busy;
            scene.waits(60);
            scene.commit();
            let status = scene.status();
            let ready = &status.conditions[0];
            assert!(
                ready.message.contains("Waiting for RollbackRequest other"),
                "{phase:?} {}",
                ready.message
            );
        }
        for gone in [rival(false), Fetched::Absent] {
            scene.observed.targets[0].rival = gone;
            let Move::Write(Step::Claim(ledger)) = scene.decide() else {
                panic!("{phase:?}");
            };
            assert_eq!(
                and_quarantined(&scene, ledger),
                claimed_by("api-5xx", REQUEST)
            );
        }
    }
    // Waiting does not keep it from expiring or being cancelled.
    let mut scene = Scene::default().approved();
    scene.observed.targets[0].ledger = theirs;
    scene.observed.targets[0].rival = rival(true);
    let mut late = scene.clone();
    late.now = at(3600);
    late.ends(RequestState::Expired, Reason::NotApprovedInTime);
    annotate(&mut scene.request, CANCELLED_BY, REQUESTER);
    scene.ends(RequestState::Cancelled, Reason::CancelledByUser);
    assert_eq!(
        scene.observed.targets[0].ledger,
        Fetched::Found(claimed_by("other", "r-2")),
        "theirs is not released"
    );
}

#[test]
fn a_claim_that_was_lost_is_taken_again_and_the_memory_kept() {
    let mut done = Scene::default().rolled_out();
    done.settle();
    let ledger = done.target("api").ledger.found().unwrap();
    let (rollbacks, templates) = (ledger.rollbacks.clone(), ledger.templates.clone());
    let mut scene = Scene::default().intended();
    for lost in [
        Fetched::Absent,
        Fetched::Found(RevisionLedgerSpec {
            claim: None,
            rollbacks: rollbacks.clone(),
            templates: templates.clone(),
            ..claimed_by("", "")
        }),
    ] {
        let kept = lost.found().map_or_else(Default::default, |ledger| {
            (ledger.rollbacks.clone(), ledger.templates.clone())
        });
        scene.observed.targets[0].ledger = lost;
        let Move::Write(Step::Claim(ledger)) = scene.decide() else {
            panic!("it claims again");
        };
        assert_eq!(
            and_quarantined(&scene, ledger),
            RevisionLedgerSpec {
                rollbacks: kept.0,
                templates: kept.1,
                ..claimed_by("api-5xx", REQUEST)
            }
        );
    }
    // A ledger of a Deployment that had this name before is no memory of this one.
    scene.observed.targets[0].ledger = Fetched::Found(RevisionLedgerSpec {
        target_ref: WorkloadRef::deployment("api", "d-0"),
        rollbacks,
        templates,
        ..claimed_by("other", "r-2")
    });
    let Move::Write(Step::Claim(ledger)) = scene.decide() else {
        panic!("it claims");
    };
    assert_eq!(
        and_quarantined(&scene, ledger),
        claimed_by("api-5xx", REQUEST)
    );
}

/// The rest of a ledger with a claim, which has to hold what is rolled back in quarantine, and nothing else.
fn and_quarantined(scene: &Scene, mut ledger: RevisionLedgerSpec) -> RevisionLedgerSpec {
    let entries = std::mem::take(&mut ledger.quarantine);
    let bad: Vec<&str> = entries.iter().map(|it| it.digest.as_str()).collect();
    let plan = scene
        .request
        .status
        .as_ref()
        .unwrap()
        .plan
        .as_ref()
        .unwrap();
    assert_eq!(bad, [plan.targets[0].from.digest.as_str()]);
    assert_eq!(entries[0].request, "api-5xx");
    ledger
}

#[test]
fn the_backup_comes_before_the_intent() {
    let mut scene = Scene::default().approved();
    assert_eq!(scene.status().targets[0].name, "api");
    // One message for all of it, so that no commit is spent on the steps between.
    let counted = scene.status();
    assert_eq!(
        counted.conditions[0].message,
        "Approved; claiming and saving Deployment api."
    );
    assert_eq!(scene.pass().name(), "Claim");
    assert_eq!(scene.status(), counted);
    scene.now = at(7);
    let Move::Write(Step::BackUp(backup)) = scene.commit() else {
        panic!("it saves");
    };
    assert_eq!(
        scene.status().targets[0].backup,
        None,
        "it is not there before it is seen"
    );
    assert_eq!(scene.status(), counted);
    // A write that is lost is made again, and is the same write.
    assert_eq!(scene.commit(), Move::Write(Step::BackUp(backup.clone())));
    scene.observed.targets[0].backup = Fetched::Found(at(8));
    assert_eq!(scene.commit().name(), "Revert");
    let saved = scene.status().targets[0].backup.clone().unwrap();
    assert_eq!(
        (saved.config_map.as_str(), saved.at),
        (backup.name.as_str(), at(8))
    );
    assert_eq!(
        backup.name,
        backup_name(&scene.request, WorkloadKind::Deployment, "api")
    );
}

#[test]
fn a_claim_that_cannot_be_read_is_not_forgotten() {
    let mut scene = Scene::default().rolled_out();
    scene.commit();
    let step = scene.commit();
    scene.take(&step);
    scene.observed.targets[0].ledger = Fetched::Unknown;
    let step = scene.commit();
    assert!(matches!(step, Move::Wait { until: Some(_) }), "{step:?}");
}

#[test]
fn only_a_write_is_remembered() {
    let mut scene = Scene::default().approved();
    scene.pass();
    assert!(
        scene.observed.targets[0]
            .ledger
            .found()
            .unwrap()
            .claim
            .is_some()
    );
    annotate(&mut scene.request, CANCELLED_BY, REQUESTER);
    scene.ends(RequestState::Cancelled, Reason::CancelledByUser);
    let ledger = scene.observed.targets[0].ledger.found().unwrap();
    assert_eq!((&ledger.claim, ledger.rollbacks.len()), (&None, 0));
}

#[test]
fn a_ledger_remembers_fifty() {
    let mut done = Scene::default().rolled_out();
    done.settle();
    let mut ledger = done.observed.targets[0].ledger.found().unwrap().clone();
    let one = ledger.rollbacks[0].clone();
    ledger.rollbacks = (0..50)
        .map(|number| {
            let mut rollback = one.clone();
            rollback.request_uid = format!("uid of r{number}");
            rollback.request = format!("r{number}");
            rollback.from_digest = format!("sha256:{number}");
            rollback
        })
        .collect();
    let mut scene = Scene::default();
    scene.observed.targets[0].ledger = Fetched::Found(ledger);
    let mut scene = scene.rolled_out();
    scene.settle();
    let rollbacks = &scene.observed.targets[0].ledger.found().unwrap().rollbacks;
    assert_eq!(rollbacks.len(), 50);
    assert_eq!(
        (
            rollbacks[0].request.as_str(),
            rollbacks[49].request.as_str()
        ),
        ("r1", "api-5xx")
    );
}

#[test]
fn a_version_that_was_restored_well_is_not_bad_any_more() {
    // v2 -> v1, then v1 -> v2 on purpose: v1 is the bad one now.
    let mut scene = Scene::default().rolled_out();
    scene.settle();
    let back = |state| {
        let mut back = Scene::new(&json!({"targets": [{"name": "api", "to": {"revision": 2}}]}));
        back.request.metadata.name = Some("back".to_owned());
        back.request.metadata.uid = Some("another".to_owned());
        back.seen().ledger = scene.target("api").ledger.clone();
        back.seen().deployment = seen(deployment("v1"));
        let mut back = back.reverted();
        if state == RequestState::Succeeded {
            back.roll_out();
        } else {
            back.now = at(400);
        }
        back.settle();
        assert_eq!(back.outcome().result, state);
        back.target("api").ledger.found().unwrap().clone()
    };
    let bad = |ledger: &RevisionLedgerSpec, uid| {
        rollback_core::history::ledger::bad_templates(Some(ledger), uid, None, at(500))
    };
    let ledger = back(RequestState::Succeeded);
    assert_eq!(bad(&ledger, DEPLOYMENT), [digest("v1")]);
    // Had it failed, both would be.
    let failed = back(RequestState::Failed);
    assert_eq!(bad(&failed, DEPLOYMENT), [digest("v2"), digest("v1")]);
    assert!(bad(&failed, "d-2").is_empty());
}

#[test]
fn a_verdict_of_a_newer_version_keeps_a_template_from_being_chosen() {
    let entry = Evidence {
        digest: "sha256:doubtful".to_owned(),
        verdict: Verdict::Newer(NewerValue::new("Doubtful").unwrap()),
        bad_until: Some(at(0)),
        ..Evidence::default()
    };
    assert!(is_quarantined(&entry, None, at(3600)));
    assert!(!is_quarantined(&entry, Some("sha256:doubtful"), at(3600)));
}

/// Whether it has ended, has written, or could be overtaken: only a newer controller knows.
#[test]
fn a_holder_that_a_newer_controller_has_written_is_waited_for_and_named() {
    for (active, committed) in [(false, false), (true, false), (true, true)] {
        let mut scene = contending("Immediate", active, committed);
        let Fetched::Found(rival) = &mut scene.seen().rival else {
            panic!("there is one");
        };
        rival.unknown = Some(Unknown {
            path: "status.outcome.result".to_owned(),
            word: Some("Rehearsed".to_owned()),
        });
        scene.waits(60);
        scene.commit();
        let said = scene.status().conditions[0].message.clone();
        for word in [
            "RollbackRequest other",
            "newer version",
            "status.outcome.result: Rehearsed",
        ] {
            assert!(said.contains(word), "no {word} in {said}");
        }
    }
    // A claim of an urgency that is not known is not taken over either.
    let mut scene = contending("Immediate", true, false);
    let Fetched::Found(ledger) = &mut scene.seen().ledger else {
        panic!("there is one");
    };
    let claim = ledger.claim.as_mut().unwrap();
    claim.urgency = OrNewer::Newer(NewerValue::new("Never").unwrap());
    scene.waits(60);
}

/// A request of this urgency, approved, while another one of urgency High holds the claim.
fn contending(urgency: &str, active: bool, committed: bool) -> Scene {
    let mut scene = Scene::new(&json!({"urgency": urgency})).approved();
    scene.seen().ledger = Fetched::Found(claimed_by("other", "r-2"));
    scene.seen().rival = Fetched::Found(Rival {
        name: "other".to_owned(),
        active,
        committed,
        unknown: None,
    });
    scene
}

#[test]
fn a_more_urgent_request_takes_over_until_the_intent_is_stored() {
    for (urgency, committed, takes) in [
        ("Low", false, false),
        ("High", false, false),
        ("Critical", false, true),
        ("Immediate", false, true),
        ("Immediate", true, false),
    ] {
        let mut scene = contending(urgency, true, committed);
        if takes {
            let Move::Write(Step::Claim(ledger)) = scene.decide() else {
                panic!("{urgency}");
            };
            let claim = ledger.claim.unwrap();
            assert_eq!(
                (claim.request.as_str(), claim.request_uid.as_str()),
                ("api-5xx", REQUEST)
            );
            assert_eq!(format!("{:?}", claim.urgency), urgency);
            scene.until(Phase::RollingOut);
        } else {
            scene.waits(60);
        }
        // Who has ended, or does not exist, holds nobody up, whatever they had stored.
        assert_eq!(contending("Low", false, committed).decide().name(), "Claim");
    }
    // The urgency is that of the claim, not what the other one says of itself now; its own follows from the category.
    let health = json!({"category": "HealthCheck", "summary": "s"});
    let mut scene = Scene::new(&json!({"reason": health})).approved();
    scene.seen().ledger = Fetched::Found(claimed_by("other", "r-2"));
    scene.seen().rival = contending("Low", true, false).target("api").rival.clone();
    assert_eq!(scene.decide().name(), "Claim");
}

#[test]
fn who_lost_the_claim_waits_and_ends_with_the_name_of_the_winner() {
    // It had the claim and the backup; a more urgent one takes it over before the intent.
    let mut loser = Scene::default().approved();
    loser.pass();
    loser.pass();
    loser.seen().ledger = Fetched::Found(claimed_by("winner", "r-2"));
    loser.seen().rival = Fetched::Found(Rival {
        name: "winner".to_owned(),
        active: true,
        committed: true,
        unknown: None,
    });
    loser.settle();
    assert_eq!(loser.status().targets[0].revert, None);
    loser.waits(60);
    let ready = loser.status().conditions[0].message.clone();
    assert!(
        ready.contains("Waiting for RollbackRequest winner"),
        "{ready}"
    );
    // The winner writes another version than the one that this plan is about.
    let mut superseded = loser.clone();
    superseded.deploy(&template("v0"));
    let held = superseded.clone();
    let outcome = superseded.ends(RequestState::Superseded, Reason::RolledBackByAnother);
    assert!(
        outcome
            .message
            .starts_with("RollbackRequest winner rolled Deployment api back first"),
        "{}",
        outcome.message
    );
    assert_eq!(
        superseded.target("api").ledger,
        Fetched::Found(claimed_by("winner", "r-2")),
        "theirs is not released"
    );
    // It may have ended by then: the memory of the Deployment has its name. A change-cause can be written by anybody.
    let mut released = held.clone();
    released.seen().ledger = Fetched::Found(RevisionLedgerSpec {
        claim: None,
        rollbacks: vec![rolled_back("winner", "v0")],
        ..claimed_by("", "")
    });
    let outcome = released.ends(RequestState::Superseded, Reason::RolledBackByAnother);
    assert!(outcome.message.contains("RollbackRequest winner rolled"));
    let mut signed = held;
    signed.seen().ledger = Fetched::Absent;
    signed.edit(|d| {
        d["metadata"]["annotations"]["kubernetes.io/change-cause"] =
            json!("rollback to revision 1 by RollbackRequest winner (r-2)");
    });
    let outcome = signed.ends(RequestState::Superseded, Reason::NotLive);
    assert!(!outcome.message.contains("winner"), "{}", outcome.message);
    // Or the same version: then there is nothing left to do.
    let mut same = loser.clone();
    same.deploy(&template("v1"));
    let outcome = same.ends(RequestState::Superseded, Reason::RolledBackByAnother);
    assert!(
        outcome
            .message
            .contains("RollbackRequest winner was faster"),
        "{}",
        outcome.message
    );
    // Or nothing, because it was withdrawn: this one goes on.
    loser.seen().rival = Fetched::Absent;
    assert_eq!(loser.decide().name(), "Claim");
    loser.until(Phase::RollingOut);
}

fn rolled_back(request: &str, version: &str) -> rollback_api::ledger::Rollback {
    rollback_api::ledger::Rollback {
        automatic: false,
        request: request.to_owned(),
        request_uid: "r-2".to_owned(),
        spec_digest: "sha256:0".to_owned(),
        from_digest: digest("v2"),
        to_digest: digest(version),
        at: at(1),
        outcome: RequestState::Succeeded,
        verified: false,
    }
}

#[test]
fn a_claim_that_was_taken_over_at_the_last_moment_does_not_make_it_forget() {
    // Read before the loser stored its intent, written after: the loser has written, the winner holds the claim.
    let mut loser = Scene::default().reverted();
    let theirs = claimed_by("winner", "r-2");
    loser.seen().ledger = Fetched::Found(theirs.clone());
    loser.roll_out();
    loser.ends(RequestState::Succeeded, Reason::Unverified);
    let ledger = loser.target("api").ledger.found().unwrap();
    assert_eq!(ledger.claim, theirs.claim, "theirs is kept");
    assert_eq!(ledger.rollbacks.len(), 1);
    assert_eq!(
        rollback_core::history::ledger::bad_templates(Some(ledger), DEPLOYMENT, None, at(10)),
        [digest("v2")]
    );
    // And once: a release that was written and is read again owes nothing.
    assert_eq!(loser.request.metadata.finalizers, None);
    // The winner finds what it calls bad gone, and names the one that was faster.
    let mut winner = Scene::new(&json!({"urgency": "Immediate"})).approved();
    winner.request.metadata.uid = Some("r-2".to_owned());
    winner.seen().ledger = loser.target("api").ledger.clone();
    winner.seen().deployment = loser.target("api").deployment.clone();
    winner.commit();
    assert_eq!(winner.words(), ["api Superseded/RolledBackByAnother"]);
}

#[test]
fn a_ledger_that_is_gone_owes_nothing() {
    let mut scene = Scene::default().rolled_out();
    scene.commit();
    let taken = scene.commit();
    scene.take(&taken);
    scene.seen().ledger = Fetched::Absent;
    assert_eq!(scene.decide().name(), "DropFinalizer");
    // Nor does that of another Deployment with this name.
    scene.seen().ledger = Fetched::Found(RevisionLedgerSpec {
        target_ref: WorkloadRef::deployment("api", "d-2"),
        ..claimed_by("api-5xx", REQUEST)
    });
    assert_eq!(scene.decide().name(), "DropFinalizer");
}
