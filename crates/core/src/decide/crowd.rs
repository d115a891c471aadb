//! How many requests of one namespace may be open. Those that came first keep their place, so that nobody pushes out what
//! was there, and those that came by themselves have only a part of the places, so that alerts never keep a person out.

use jiff::Timestamp;
use rollback_api::status::Outcome;
use rollback_api::{Reason, RollbackRequest};

use crate::outcome::refused;

/// The open requests of a namespace that came before one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Crowd {
    /// How many may be open.
    pub most: usize,
    /// How many people asked for.
    pub by_people: usize,
    /// How many came by themselves.
    pub by_themselves: usize,
}

impl Crowd {
    /// Counts those that are open and came before `request`.
    pub fn before<'a>(
        request: &RollbackRequest,
        all: impl Iterator<Item = &'a RollbackRequest>,
        most: usize,
    ) -> Self {
        let mut crowd = Self {
            most,
            by_people: 0,
            by_themselves: 0,
        };
        let own = arrival(request);
        for other in all.filter(|other| {
            other.metadata.namespace == request.metadata.namespace
                && is_open(other)
                && arrival(other) < own
        }) {
            if other.spec.trigger.is_some() {
                crowd.by_themselves += 1;
            } else {
                crowd.by_people += 1;
            }
        }
        crowd
    }

    /// How many of the places those may have that came by themselves.
    fn share(self) -> usize {
        self.most.div_ceil(2)
    }

    /// Whether there is no place left.
    fn is_full(self, by_itself: bool) -> bool {
        let theirs = self.by_themselves.min(self.share());
        self.by_people + theirs >= self.most || (by_itself && self.by_themselves >= self.share())
    }
}

/// The end of a request for which there is no place.
pub fn no_place(request: &RollbackRequest, crowd: Crowd, now: Timestamp) -> Option<Outcome> {
    let by_itself = request.spec.trigger.is_some();
    if !crowd.is_full(by_itself) {
        return None;
    }
    let limit = if by_itself {
        format!(
            "at most {} may be open at the same time, and {} of those that came by themselves",
            crowd.most,
            crowd.share()
        )
    } else {
        format!("at most {} may be open at the same time", crowd.most)
    };
    let open = crowd.by_people + crowd.by_themselves;
    Some(refused(
        Reason::TooManyOpenRequests,
        format!(
            "{open} requests of this namespace are open already ({} of them came by themselves), and {limit}. \
             Cancel or deny those that nobody needs (kubectl get rbr), then create a new request. \
             An administrator can raise the limit with --max-open-requests of the controller.",
            crowd.by_themselves
        ),
        now,
    ))
}

fn is_open(request: &RollbackRequest) -> bool {
    let status = request.status.as_ref();
    status.is_none_or(|status| status.outcome.is_none())
}

/// Who came first. The API server stamps seconds, so of two of the same second the name tells.
fn arrival(request: &RollbackRequest) -> (Option<Timestamp>, Option<&str>) {
    let created = request.metadata.creation_timestamp.as_ref();
    (
        created.map(|created| created.0),
        request.metadata.name.as_deref(),
    )
}
