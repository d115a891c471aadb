//! How something ends: the word, the reason, and what to say about it.

use jiff::Timestamp;
use rollback_api::status::Outcome;
use rollback_api::{Reason, Word};

/// An end of the request, decided at `at`.
pub fn end(word: Word, reason: Reason, message: impl Into<String>, at: Timestamp) -> Outcome {
    Outcome {
        word,
        reason,
        message: message.into(),
        by: None,
        at,
    }
}

/// A refusal, decided at `at`: it cannot or must not be done.
pub fn refused(reason: Reason, message: impl Into<String>, at: Timestamp) -> Outcome {
    end(Word::Refused, reason, message, at)
}
