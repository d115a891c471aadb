//! What became of a message.

use std::time::Duration;

use rollback_probe::Failure;

/// What became of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The service has taken it.
    Delivered {
        /// What the service calls the message of this request now, when it has a name for it.
        message: Option<String>,
    },
    /// Not now.
    Later {
        /// How long the service wants to be left alone.
        after: Option<Duration>,
        /// Why.
        why: String,
    },
    /// Never: trying again gives the same.
    Refused {
        /// Why.
        why: String,
    },
}

impl Answer {
    pub(crate) fn delivered() -> Self {
        Self::Delivered { message: None }
    }

    pub(crate) fn later(why: impl Into<String>) -> Self {
        Self::Later {
            after: None,
            why: why.into(),
        }
    }

    pub(crate) fn refused(why: impl Into<String>) -> Self {
        Self::Refused { why: why.into() }
    }
}

/// There was no answer: another time there may be one.
impl From<Failure> for Answer {
    fn from(failure: Failure) -> Self {
        Self::later(failure.to_string())
    }
}
