//! How something ends: the word, the reason, and what to say about it.

use jiff::Timestamp;
use rollback_api::status::Outcome;
use rollback_api::{Reason, RequestState};

/// An end of the request, decided at `at`.
pub fn end(
    state: RequestState,
    reason: Reason,
    message: impl Into<String>,
    at: Timestamp,
) -> Outcome {
    Outcome {
        result: state,
        reason,
        message: message.into(),
        by: None,
        at,
    }
}

/// A refusal, decided at `at`: it cannot or must not be done.
pub fn refused(reason: Reason, message: impl Into<String>, at: Timestamp) -> Outcome {
    end(RequestState::Refused, reason, message, at)
}
