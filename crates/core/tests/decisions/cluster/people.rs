//! What people do to requests and policies.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use rollback_api::{
    APPROVED_BY, APPROVER_GROUPS, APPROVER_UID, BREAK_GLASS, CANCELLED_BY, CHECKLIST, CONFIRM,
    DENIED_BY, PLAN, RollbackRequest, WITHDRAWN_BY,
};

use rollback_core::execution::phase::{has_begun, waits};

use super::{Cluster, Forgery};
use crate::world::{REQUESTER, annotate, guard_policy};

pub(super) fn deny(request: &mut RollbackRequest) {
    annotate(request, DENIED_BY, "dan@broxiva.com");
}

pub(super) fn cancel(request: &mut RollbackRequest) {
    annotate(request, CANCELLED_BY, REQUESTER);
}

/// Who takes an approval back that is still counted: the guard leaves the withdrawal to them until it is done.
fn taking_back(request: &RollbackRequest) -> Option<&str> {
    let by = request.metadata.annotations.as_ref()?.get(WITHDRAWN_BY)?;
    let mut counted = request.status.iter().flat_map(|status| &status.approvals);
    counted
        .any(|approval| approval.by.username == *by)
        .then_some(by.as_str())
}

impl Cluster {
    /// Somebody takes all annotations off, which the guard refuses while an approval is being taken back.
    pub(super) fn strip(&mut self, case: usize) {
        self.say(case, |request| {
            if taking_back(request).is_none() {
                request.metadata.annotations = None;
            }
        });
    }

    /// Changes a request, if it is still there.
    pub(super) fn say(&mut self, case: usize, change: impl FnOnce(&mut RollbackRequest)) {
        let version = self.next_version();
        if let Some(request) = &mut self.cases[case].request {
            change(request);
            request.metadata.resource_version = Some(version.to_string());
        }
    }

    pub(super) fn approve(&mut self, case: usize, who: &str, forgery: Option<Forgery>) {
        let Some(plan) = self.status(case).plan else {
            return;
        };
        let who = match forgery {
            Some(Forgery::Own) => REQUESTER,
            Some(Forgery::Robot) => "system:serviceaccount:shop:robot",
            Some(
                Forgery::Phrase
                | Forgery::Digest
                | Forgery::Stamp
                | Forgery::Unticked
                | Forgery::Alone,
            )
            | None => who,
        };
        let digest = match forgery {
            Some(Forgery::Digest) => format!("{}0", plan.digest),
            _ => plan.digest.clone(),
        };
        let phrase = match forgery {
            Some(Forgery::Phrase) => "ROLL BACK",
            _ => plan.rules.confirm_phrase.as_str(),
        };
        let groups = match forgery {
            Some(Forgery::Stamp) => "",
            _ => "sre\nsystem:authenticated",
        };
        let items = plan.rules.checklist.iter();
        let names: Vec<&str> = items.map(|item| item.name.as_str()).collect();
        let checklist = match forgery {
            Some(Forgery::Unticked) => String::new(),
            _ => names.join(","),
        };
        // Where nothing has to be ticked, nothing is left open.
        let forgery = forgery.filter(|_| {
            !(matches!(forgery, Some(Forgery::Unticked)) && plan.rules.checklist.is_empty())
        });
        // The requester's own approval is one where four eyes are not asked for.
        if matches!(forgery, None | Some(Forgery::Own)) {
            let counts = (who.to_owned(), digest.clone());
            self.cases[case].approvals.insert(counts);
        }
        self.say(case, |request| {
            annotate(request, APPROVED_BY, who);
            annotate(request, CONFIRM, phrase);
            annotate(request, PLAN, &digest);
            annotate(request, APPROVER_UID, "u-1");
            annotate(request, APPROVER_GROUPS, groups);
            annotate(request, CHECKLIST, &checklist);
            let theirs = taking_back(request).is_some_and(|by| by != who);
            let annotations = request.metadata.annotations.get_or_insert_default();
            if !theirs {
                annotations.remove(WITHDRAWN_BY);
            }
            annotations.remove(BREAK_GLASS);
            if matches!(forgery, Some(Forgery::Alone)) {
                annotate(request, BREAK_GLASS, "nobody else answers the phone");
            }
        });
    }

    /// As the guard lets it pass: by somebody who was counted, and before everything was begun.
    pub(super) fn withdraw(&mut self, case: usize, who: &str) {
        let status = self.status(case);
        let is_counted = status
            .approvals
            .iter()
            .any(|approval| approval.by.username == who);
        let too_late = has_begun(&status) && !waits(&status);
        if !is_counted || too_late || status.outcome.is_some() {
            return;
        }
        self.cases[case].approvals.retain(|(name, _)| name != who);
        self.say(case, |request| {
            let annotations = request.metadata.annotations.get_or_insert_default();
            if annotations.get(APPROVED_BY).is_some_and(|by| by == who) {
                for key in [APPROVED_BY, CONFIRM, PLAN, CHECKLIST] {
                    annotations.remove(key);
                }
            }
            annotate(request, WITHDRAWN_BY, who);
        });
    }

    pub(super) fn delete(&mut self, case: usize) {
        let when = Time(self.now());
        self.say(case, |request| {
            request.metadata.deletion_timestamp.get_or_insert(when);
        });
        self.collect(case);
    }

    /// The API server removes a deleted request that nothing holds any more.
    pub(super) fn collect(&mut self, case: usize) {
        let gone = self.cases[case].request.as_ref().is_some_and(|request| {
            request.metadata.deletion_timestamp.is_some()
                && request
                    .metadata
                    .finalizers
                    .as_ref()
                    .is_none_or(Vec::is_empty)
        });
        if gone {
            self.cases[case].request = None;
        }
    }

    pub(super) fn touch_guard(&mut self, which: u8) {
        match which % 4 {
            0 => self.guard.present[0].generation += 1,
            1 => {
                self.guard.holes = vec!["spec".to_owned()];
                self.guard.present.truncate(1);
            }
            2 => self.guard.holes = vec!["a policy that is new".to_owned()],
            _ => {
                self.guard.holes.clear();
                self.guard.present.truncate(1);
                let mut again = guard_policy("spec", 1);
                again.uid = format!("made at {}", self.now);
                self.guard.present.push(again);
            }
        }
    }
}
