//! What a rollback writes.

use super::Mark::{Open, Parity, Wrong};
use super::{Case, case};

/// Cases 27 to 45.
pub const CASES: &[Case] = &[
    case(
        27,
        &[Parity],
        "nothing but the template",
        "The bad version also changed replicas, strategy, labels and annotations of the Deployment.",
    ),
    case(
        28,
        &[Parity],
        "no pod-template-hash",
        "The template of a ReplicaSet has a label that a Deployment must not have.",
    ),
    case(
        29,
        &[Wrong],
        "an annotation added since",
        "The Deployment got an owner's annotation after the old version ran.",
    ),
    case(
        30,
        &[Wrong],
        "an annotation deleted since",
        "The Deployment lost an annotation after the old version ran.",
    ),
    case(
        31,
        &[Parity],
        "the change-cause",
        "Both versions have a `kubernetes.io/change-cause`.",
    ),
    case(
        32,
        &[Wrong],
        "an edit in between",
        "Somebody edits the pod template between our read and our write.",
    ),
    case(
        33,
        &[Open],
        "an autoscaler in between",
        "Somebody scales the Deployment between our read and our write.",
    ),
    case(
        34,
        &[Wrong],
        "a field that is newer than the client",
        "The old template has a field that the client's types may not know.",
    ),
    case(
        35,
        &[Open],
        "what the bad version added",
        "The bad version brought env, containers, labels and annotations by server-side apply.",
    ),
    case(
        36,
        &[Parity, Open],
        "a paused Deployment",
        "The Deployment is paused, before the request or in the middle of it.",
    ),
    case(
        37,
        &[Parity, Wrong],
        "a paused Deployment, dry run",
        "The same, when only asked what would happen.",
    ),
    case(
        38,
        &[Open],
        "a Deployment that is being deleted",
        "The Deployment has a deletion timestamp and a finalizer that holds it.",
    ),
    case(
        39,
        &[Open],
        "a write that is altered",
        "Admission changes the template on its way in.",
    ),
    case(
        40,
        &[Open],
        "a write that is denied",
        "Admission denies the old template.",
    ),
    case(
        41,
        &[Open],
        "the field manager",
        "Under which name the write is kept in `managedFields`.",
    ),
    case(
        42,
        &[Wrong, Open],
        "applied by somebody else",
        "The Deployment is managed by client-side apply, or belongs to Helm or a GitOps tool.",
    ),
    case(
        43,
        &[Open],
        "the owner's next release",
        "After the rollback the owner applies its next version server-side, unforced.",
    ),
    case(
        44,
        &[Open],
        "two at once",
        "Two people roll back the same Deployment to different revisions.",
    ),
    case(
        45,
        &[Open],
        "what the old version needs is gone",
        "A ConfigMap, Secret, volume claim or ServiceAccount of the old template is missing.",
    ),
];
