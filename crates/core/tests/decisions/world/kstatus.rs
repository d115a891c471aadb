//! What kstatus (cli-utils), and with it Flux and Argo CD, make of a custom resource.

use rollback_api::RollbackRequest;

/// kstatus' answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kstatus {
    /// Being deleted.
    Terminating,
    /// Not there yet.
    InProgress,
    /// Needs a person.
    Failed,
    /// Done.
    Current,
}

/// The generic rules, in their order: deletion, generation, Reconciling and Stalled, Ready.
pub fn compute(request: &RollbackRequest) -> Kstatus {
    if request.metadata.deletion_timestamp.is_some() {
        return Kstatus::Terminating;
    }
    let Some(status) = &request.status else {
        return Kstatus::Current;
    };
    if request
        .metadata
        .generation
        .is_some_and(|generation| generation != status.observed_generation)
    {
        return Kstatus::InProgress;
    }
    for condition in &status.conditions {
        match (condition.type_.as_str(), condition.status.as_str()) {
            ("Reconciling", "True") => return Kstatus::InProgress,
            ("Stalled", "True") => return Kstatus::Failed,
            _ => {}
        }
    }
    let ready = status
        .conditions
        .iter()
        .find(|condition| condition.type_ == "Ready");
    match ready.map(|condition| condition.status.as_str()) {
        None | Some("True") => Kstatus::Current,
        Some(_) => Kstatus::InProgress,
    }
}
