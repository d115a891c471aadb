//! How something ends: the result, the reason, whether anything was changed, and what to say about it.

use jiff::Timestamp;
use rollback_api::status::{Effect, Outcome, TargetStatus};
use rollback_api::{Reason, RequestState, RollbackRequestStatus};

use crate::approval::consent;

/// An end that is not stored yet. What it changed is a fact of its own, known where it is stored.
#[derive(Clone, Debug, PartialEq)]
pub struct Ending {
    /// The end state.
    pub result: RequestState,
    /// Why, in one word.
    pub reason: Reason,
    what: String,
    next: String,
    by: Option<String>,
    at: Timestamp,
}

/// An end, decided at `at`: what happened, and what it means.
pub fn end(result: RequestState, reason: Reason, what: impl Into<String>, at: Timestamp) -> Ending {
    Ending {
        result,
        reason,
        what: what.into(),
        next: String::new(),
        by: None,
        at,
    }
}

/// A refusal, decided at `at`: it cannot or must not be done.
pub fn refused(reason: Reason, what: impl Into<String>, at: Timestamp) -> Ending {
    end(RequestState::Refused, reason, what, at)
}

impl Ending {
    /// What to do next: said after what was changed.
    #[must_use]
    pub fn next(self, next: impl Into<String>) -> Self {
        Self {
            next: next.into(),
            ..self
        }
    }

    /// A person ended it.
    #[must_use]
    pub fn by(self, who: String) -> Self {
        Self {
            by: Some(who),
            ..self
        }
    }

    /// What happened and what to do next, without a word about what was changed.
    pub fn text(&self) -> String {
        sentences(&[&self.what, &self.next])
    }

    /// The outcome, which says what was changed.
    pub fn with(self, effect: Effect) -> Outcome {
        let message = sentences(&[&self.what, said(effect), &self.next]);
        self.outcome(effect, message)
    }

    /// The outcome, where others say what was changed: the reason why something else is not begun.
    pub fn silently(self, effect: Effect) -> Outcome {
        let message = self.text();
        self.outcome(effect, message)
    }

    fn outcome(self, effect: Effect, message: String) -> Outcome {
        Outcome {
            result: self.result,
            reason: self.reason,
            effect,
            message,
            by: self.by,
            at: self.at,
        }
    }
}

fn sentences(parts: &[&str]) -> String {
    let parts: Vec<&str> = parts
        .iter()
        .copied()
        .filter(|part| !part.is_empty())
        .collect();
    parts.join(" ")
}

/// What was changed, in a sentence. What was written is told by what happened.
fn said(effect: Effect) -> &'static str {
    match effect {
        Effect::None => "Nothing was changed.",
        Effect::Possible | Effect::Newer(_) => {
            "The old template may have been written just before that."
        }
        Effect::Written => "",
    }
}

/// What a request did to one of its Deployments. `was_refused`: its last write is known not to have been made.
pub fn effect_of(progress: &TargetStatus, was_refused: bool) -> Effect {
    // There is a fallback only once the first write was seen, whatever stands in the place of its facts.
    if progress.reverted_at.is_some() || progress.fallback.is_some() {
        Effect::Written
    } else if consent::is_begun(progress) && !was_refused {
        Effect::Possible
    } else {
        Effect::None
    }
}

/// What a request did to all of its Deployments.
pub fn effect(status: &RollbackRequestStatus) -> Effect {
    let of = |progress: &TargetStatus| match &progress.outcome {
        Some(outcome) => outcome.effect,
        None => effect_of(progress, false),
    };
    status.targets.iter().map(of).max().unwrap_or_default()
}
