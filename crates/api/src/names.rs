//! Names that are part of the interface: annotations, labels, finalizer, field manager.

/// API group of all kinds.
pub const GROUP: &str = "rollback.broxiva.com";
/// API version of all kinds.
pub const VERSION: &str = "v1alpha1";
/// The policy with this name rules its namespace.
pub const POLICY_NAME: &str = "default";
/// Field manager of every write of the controller.
pub const FIELD_MANAGER: &str = "rollback-controller";

/// Mailbox: who approves. The API server accepts only one's own name.
pub const APPROVED_BY: &str = "rollback.broxiva.com/approved-by";
/// Mailbox: the typed confirmation, for example `ROLLBACK PRODUCTION`.
pub const CONFIRM: &str = "rollback.broxiva.com/confirm";
/// Mailbox: the digest of the plan that the approver saw.
pub const PLAN: &str = "rollback.broxiva.com/plan";
/// Mailbox: the items of the checklist that the approver has ticked, separated by commas.
pub const CHECKLIST: &str = "rollback.broxiva.com/checklist";
/// Mailbox: why one person approves alone, for holders of the verb `break-glass`.
pub const BREAK_GLASS: &str = "rollback.broxiva.com/break-glass";
/// Mailbox: why the risk for the data is accepted. Without it no approval of a plan with such a risk counts.
pub const ACCEPT_DATA_RISK: &str = "rollback.broxiva.com/accept-data-risk";
/// On a request that has ended: who has reviewed its incident.
pub const REVIEWED_BY: &str = "rollback.broxiva.com/reviewed-by";
/// Mailbox: who takes the own approval back after it was counted. The API server accepts only one's own name.
pub const WITHDRAWN_BY: &str = "rollback.broxiva.com/withdrawn-by";
/// Mailbox: who denies.
pub const DENIED_BY: &str = "rollback.broxiva.com/denied-by";
/// Mailbox: why it is denied.
pub const DENIED_REASON: &str = "rollback.broxiva.com/denied-reason";
/// Mailbox: who cancels.
pub const CANCELLED_BY: &str = "rollback.broxiva.com/cancelled-by";
/// Who has seen what a request needs and sees to it: then nobody else is asked. The API server accepts only one's own name.
pub const ACKNOWLEDGED_BY: &str = "rollback.broxiva.com/acknowledge";
/// On a policy: a channel that is to be tried, as `CHANNEL/ANYTHING-NEW`. The controller sends a message there, and says in an
/// Event of the policy what became of it.
pub const TEST_CHANNEL: &str = "rollback.broxiva.com/test-channel";
/// On a ledger: digest of a template whose quarantine is lifted. Written by a person who may approve.
pub const LIFT: &str = "rollback.broxiva.com/lift";
/// On a ledger: who lifts the quarantine. The API server accepts only one's own name.
pub const LIFTED_BY: &str = "rollback.broxiva.com/lifted-by";
/// On a ledger: name of the request whose holds are released. Written by a person who may approve.
pub const RELEASE: &str = "rollback.broxiva.com/release";
/// On a ledger: who releases the holds. The API server accepts only one's own name.
pub const RELEASED_BY: &str = "rollback.broxiva.com/released-by";
/// On the object that a hold stands on: the request that it was placed for. It tells a hold of ours from another one's; that
/// we placed it stands in the ledger.
pub const HELD_BY: &str = "rollback.broxiva.com/held-by";
/// On the object that a hold stands on, for people: why, and the command that ends it.
pub const HELD_BECAUSE: &str = "rollback.broxiva.com/held-because";
/// Label of a ledger with a hold.
pub const HOLDS_LABEL: &str = "rollback.broxiva.com/holds";
/// Beside [`APPROVED_BY`], written or compared by the API server: the approver's uid.
pub const APPROVER_UID: &str = "rollback.broxiva.com/approver-uid";
/// Beside [`APPROVED_BY`], written or compared by the API server: the approver's groups, one a line.
pub const APPROVER_GROUPS: &str = "rollback.broxiva.com/approver-groups";

/// Held by a request from its creation (stamped by the API server) until its incident is written.
pub const FINALIZER: &str = "rollback.broxiva.com/incident";

/// Annotation of the Lease: the version of the controller that holds it.
pub const CONTROLLER_VERSION: &str = "rollback.broxiva.com/controller-version";

/// Label of a ledger with a version that admission warns of or refuses. The bindings of `deploy/25-quarantine.yaml` select it.
pub const QUARANTINE_LABEL: &str = "rollback.broxiva.com/quarantine";

/// Label of the admission policies and bindings that make approvals true.
pub const GUARD_LABEL: &str = "rollback.broxiva.com/guard";
/// Label of backups and incidents: what the ConfigMap is, `backup` or `incident`.
pub const ARTIFACT_LABEL: &str = "rollback.broxiva.com/artifact";
/// Label of backups and incidents: UID of the request that they belong to.
pub const REQUEST_UID_LABEL: &str = "rollback.broxiva.com/request-uid";
/// Label of backups and Jobs: kind of the workload that they are for.
pub const WORKLOAD_KIND_LABEL: &str = "rollback.broxiva.com/workload-kind";
/// Label of backups and incidents: `true` when one person approved alone.
pub const BREAK_GLASS_LABEL: &str = "rollback.broxiva.com/break-glass";
/// Annotation of backups and incidents: name of the request that they belong to.
pub const REQUEST_NAME_ANNOTATION: &str = "rollback.broxiva.com/request";
/// Annotation of backups and Jobs: name of the workload that they are for, which may be longer than a label.
pub const WORKLOAD_NAME_ANNOTATION: &str = "rollback.broxiva.com/workload-name";

/// On a Deployment: `enabled` when it may be watched and rolled back without a person, as far as the policy goes.
pub const AUTOMATIC: &str = "rollback.broxiva.com/automatic";
/// Name that the controller's own watch has as a source.
pub const WATCH_SOURCE: &str = "controller";

/// Kubernetes' own annotation for the reason of a revision; copied to the `ReplicaSet`.
pub const CHANGE_CAUSE: &str = "kubernetes.io/change-cause";
/// Kubernetes' own annotation with the revision number.
pub const REVISION: &str = "deployment.kubernetes.io/revision";
/// Kubernetes' own annotation with the numbers that a `ReplicaSet` had before.
pub const REVISION_HISTORY: &str = "deployment.kubernetes.io/revision-history";
/// Set by `kubectl rollout restart`; says nothing about the version that runs.
pub const RESTARTED_AT: &str = "kubectl.kubernetes.io/restartedAt";
/// Added to the template of each `ReplicaSet` by the Deployment controller.
pub const POD_TEMPLATE_HASH: &str = "pod-template-hash";
