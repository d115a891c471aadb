//! What a request did to its Deployments, as data.

use crate::world::at;
use rollback_api::status::{Begun, Effect, TargetStatus};
use rollback_api::{Reason, RequestState, RollbackRequestStatus};
use rollback_core::execution::outcome::{effect, effect_of, end};
use serde_json::json;

fn progress(begun: bool, reverted: bool) -> TargetStatus {
    let begun = begun.then(|| -> Begun {
        serde_json::from_value(json!({
            "at": "2026-11-23T14:00:00Z", "planDigest": "sha256:1", "generation": 7, "approvedBy": ["bob"],
        }))
        .unwrap()
    });
    TargetStatus {
        name: "api".to_owned(),
        begun,
        reverted_at: reverted.then(|| at(60)),
        ..TargetStatus::default()
    }
}

#[test]
fn of_one_deployment() {
    for (begun, reverted, refused, expected) in [
        (false, false, false, Effect::None),
        (true, false, false, Effect::Possible),
        (true, false, true, Effect::None),
        (true, true, false, Effect::Written),
        // A later write was refused; the first was made.
        (true, true, true, Effect::Written),
    ] {
        let progress = progress(begun, reverted);
        assert_eq!(
            effect_of(&progress, refused),
            expected,
            "{begun} {reverted} {refused}"
        );
    }
}

#[test]
fn of_several_the_most_counts() {
    let status = |targets: Vec<TargetStatus>| RollbackRequestStatus {
        targets,
        ..RollbackRequestStatus::default()
    };
    assert_eq!(effect(&status(Vec::new())), Effect::None);
    let (untouched, begun, written) = (
        progress(false, false),
        progress(true, false),
        progress(true, true),
    );
    assert_eq!(
        effect(&status(vec![untouched.clone(), begun.clone()])),
        Effect::Possible
    );
    assert_eq!(
        effect(&status(vec![written, untouched, begun.clone()])),
        Effect::Written
    );
    // What is known of one that has ended counts, and not what its intent leaves open.
    let mut refused = begun;
    refused.outcome = Some(
        end(
            RequestState::Failed,
            Reason::PatchRejected,
            "It is refused.",
            at(60),
        )
        .with(Effect::None),
    );
    assert_eq!(effect(&status(vec![refused])), Effect::None);
}

/// What happened, what it changed, what to do next: in that order, and in the sentence of the effect only.
#[test]
fn the_message_is_rendered_from_it() {
    let ending = end(
        RequestState::Superseded,
        Reason::NotLive,
        "It is gone.",
        at(0),
    )
    .next("Look.");
    for (effect, message) in [
        (Effect::None, "It is gone. Nothing was changed. Look."),
        (
            Effect::Possible,
            "It is gone. The old template may have been written just before that. Look.",
        ),
        (Effect::Written, "It is gone. Look."),
    ] {
        let outcome = ending.clone().with(effect);
        assert_eq!(
            (outcome.message.as_str(), outcome.effect),
            (message, effect)
        );
        assert_eq!(ending.clone().silently(effect).message, "It is gone. Look.");
    }
}
