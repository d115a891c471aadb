//! How many requests of one namespace may be open. Those that came first keep their place, so that nobody pushes out what
//! was there. Nobody has all places: those that came by themselves have at most half of them, those of one requester too,
//! and people all together three quarters, so that neither alerts keep people out, nor people alerts, nor one all others.

use jiff::Timestamp;
use rollback_api::{Reason, RollbackRequest};

use crate::execution::outcome::{Ending, refused};

/// The open requests of a namespace that came before one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Crowd {
    /// How many may be open.
    pub most: usize,
    /// How many people asked for.
    pub by_people: usize,
    /// How many came by themselves.
    pub by_themselves: usize,
    /// How many of those that people asked for are of the same requester.
    pub by_the_same: usize,
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
            by_the_same: 0,
        };
        let requester = |request: &RollbackRequest| {
            let by = request.spec.requested_by.as_ref();
            by.map(|by| by.username.clone())
        };
        let own_requester = requester(request);
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
                crowd.by_the_same += usize::from(requester(other) == own_requester);
            }
        }
        crowd
    }

    /// How many of the places those may have that came by themselves, and those of one requester.
    fn half(self) -> usize {
        self.most.div_ceil(2)
    }

    /// How many of the places people may have, all together.
    fn of_people(self) -> usize {
        self.most - self.most / 4
    }

    /// The limit that leaves no place, in words.
    fn limit(self, by_itself: bool) -> Option<String> {
        let Self { most, .. } = self;
        let (half, of_people) = (self.half(), self.of_people());
        if by_itself && self.by_themselves >= half {
            Some(format!("{half} of those that came by themselves"))
        } else if !by_itself && self.by_the_same >= half {
            Some(format!("{half} of one requester"))
        } else if !by_itself && self.by_people >= of_people {
            Some(format!("{of_people} of those that people asked for"))
        } else if self.by_people + self.by_themselves.min(half) >= most {
            Some(format!("{most}"))
        } else {
            None
        }
    }
}

/// The end of a request for which there is no place.
pub fn no_place(request: &RollbackRequest, crowd: Crowd, now: Timestamp) -> Option<Ending> {
    let limit = crowd.limit(request.spec.trigger.is_some())?;
    let open = crowd.by_people + crowd.by_themselves;
    Some(refused(
        Reason::TooManyOpenRequests,
        format!(
            "{open} requests of this namespace are open already ({} came by themselves, {} are of the same requester), and at most {limit} may be \
             open at the same time. Cancel or deny those that nobody needs (kubectl get rbr), then create a new request. \
             An administrator can raise the limit with --max-open-requests of the controller.",
            crowd.by_themselves, crowd.by_the_same
        ),
        now,
    ))
}

fn is_open(request: &RollbackRequest) -> bool {
    request.outcome().is_none()
}

/// Who came first. The API server stamps seconds, so of two of the same second the name tells.
fn arrival(request: &RollbackRequest) -> (Option<Timestamp>, Option<&str>) {
    let created = request.metadata.creation_timestamp.as_ref();
    (
        created.map(|created| created.0),
        request.metadata.name.as_deref(),
    )
}
