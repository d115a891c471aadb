//! Who was built with newer definitions than the API server serves does not lead: the newest fields of what it writes would
//! be gone, and it would take that for never having written them.

use std::time::{Duration, Instant};

use kube::Client;
use rollback_observe::definitions;
use tokio::sync::watch;

use crate::reconcile::chain;

/// Time between two looks that find something missing: at first, and at most.
const BACKOFF: [Duration; 2] = [Duration::from_secs(5), Duration::from_mins(1)];
/// How soon is asked again when the API server does not answer.
const RETRY: Duration = Duration::from_secs(1);
/// How long one look may take.
const LIMIT: Duration = Duration::from_secs(5);
/// How many of the missing fields are named.
const NAMED: usize = 5;

/// Whether the served definitions have all that this controller writes.
pub struct Definitions {
    client: Client,
    /// Why they do not, as far as known; for the page.
    why_not: watch::Sender<Option<String>>,
    last: Option<InVain>,
}

/// The last look, when something was missing.
struct InVain {
    /// Nothing is read again before.
    until: Instant,
    /// How long the next look is good for, when it is in vain too.
    backoff: Duration,
}

impl Definitions {
    /// Nothing is known yet.
    pub fn new(client: Client) -> Self {
        let unknown = "the definitions that the API server serves are being read";
        Self {
            client,
            why_not: watch::Sender::new(Some(unknown.to_owned())),
            last: None,
        }
    }

    /// Why this controller cannot lead; `None` when it can.
    pub fn why_not(&self) -> watch::Receiver<Option<String>> {
        self.why_not.subscribe()
    }

    /// Waits until they fit.
    pub async fn wait(&mut self) {
        while !self.fit().await {
            let until = self.last.as_ref().map(|look| look.until);
            let until = until.unwrap_or_else(|| Instant::now() + RETRY);
            tokio::time::sleep_until(until.into()).await;
        }
    }

    /// Whether they fit. Looks, unless it has looked in vain a moment ago.
    pub async fn fit(&mut self) -> bool {
        let is_recent = |look: &InVain| Instant::now() < look.until;
        if self.last.as_ref().is_some_and(is_recent) {
            return false;
        }
        let last = self.last.take();
        match tokio::time::timeout(LIMIT, definitions::missing(&self.client)).await {
            Ok(Ok(missing)) if missing.is_empty() => {
                self.say(None);
                true
            }
            Ok(Ok(missing)) => self.in_vain(&missing, last),
            // What is not known does not fit.
            Ok(Err(error)) => self.not_read(&chain(&error)),
            Err(_) => self.not_read("the API server is slow with the definitions that it serves"),
        }
    }

    fn in_vain(&mut self, missing: &[String], last: Option<InVain>) -> bool {
        let [first, longest] = BACKOFF;
        let backoff = last.map_or(first, |look| look.backoff);
        self.last = Some(InVain {
            until: Instant::now() + backoff,
            backoff: longest.min(backoff * 2),
        });
        self.say(Some(too_old(missing)));
        false
    }

    fn not_read(&self, why: &str) -> bool {
        self.say(Some(why.to_owned()));
        false
    }

    /// Once for each change.
    fn say(&self, why_not: Option<String>) {
        self.why_not.send_if_modified(|said| {
            if *said == why_not {
                return false;
            }
            if let Some(why) = &why_not {
                tracing::warn!(why, "this controller does not lead and writes nothing");
            } else {
                tracing::info!("the API server serves the definitions of this controller");
            }
            *said = why_not;
            true
        });
    }
}

fn too_old(missing: &[String]) -> String {
    let (named, others) = missing.split_at(missing.len().min(NAMED));
    let others = match others.len() {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    format!(
        "the definitions in this cluster are older than this controller, they lack {}{others}; until they are updated \
         (kubectl apply -f crds/ of its version) it writes nothing",
        named.join(", ")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_few_are_named() {
        let missing = |number: usize| -> Vec<String> {
            (1..=number).map(|it| format!("Kind.field{it}")).collect()
        };
        let one = too_old(&missing(1));
        assert!(one.contains("they lack Kind.field1; until"), "{one}");
        let many = too_old(&missing(8));
        assert!(
            many.contains("Kind.field4, Kind.field5 and 3 more;"),
            "{many}"
        );
    }
}
