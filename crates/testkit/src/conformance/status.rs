//! Whether a rollback worked.

use super::Mark::{Open, Parity, Wrong};
use super::{Case, case};

/// Cases 46 to 69.
pub const CASES: &[Case] = &[
    case(
        46,
        &[Wrong],
        "a failure from before",
        "The bad version's `ProgressDeadlineExceeded` still stands when the old one starts.",
    ),
    case(
        47,
        &[Wrong],
        "a failure that is never said",
        "A quota refuses the pods of the old version after a version that succeeded.",
    ),
    case(
        48,
        &[Parity],
        "every replica",
        "The pods of the old version become available one by one.",
    ),
    case(
        49,
        &[Wrong],
        "pods that are still ending",
        "The pods of the bad version take their time to end, or the server does not count them.",
    ),
    case(
        50,
        &[Wrong],
        "no replicas",
        "The Deployment is scaled to zero.",
    ),
    case(
        51,
        &[Parity],
        "minReadySeconds",
        "Pods count only after they have been ready for a while.",
    ),
    case(
        52,
        &[Parity, Open],
        "another version meanwhile",
        "Somebody deploys v3, or only scales, while the old version rolls out.",
    ),
    case(
        53,
        &[Parity],
        "deleted meanwhile",
        "The Deployment is deleted, or made again, while the old version rolls out.",
    ),
    case(
        54,
        &[Open],
        "a crash loop of an init container",
        "The old version does not get past an init container.",
    ),
    case(
        55,
        &[Open],
        "crashes of the bad version",
        "Pods of the bad version crash while the old version comes up well.",
    ),
    case(
        56,
        &[Open],
        "an image that cannot be pulled",
        "The pods' reason alternates between `ErrImagePull` and `ImagePullBackOff`.",
    ),
    case(
        57,
        &[Open],
        "a volume that cannot be mounted",
        "The Secret of a volume is missing; only an event says so.",
    ),
    case(
        58,
        &[Open],
        "no node for a while",
        "The pods are unschedulable, and then they are not.",
    ),
    case(
        59,
        &[Wrong],
        "a restart of who watches",
        "Whoever waits for the rollout is interrupted and starts again.",
    ),
    case(
        60,
        &[Open],
        "reverted afterwards",
        "The bad version is applied again soon after the rollback was well.",
    ),
    case(
        61,
        &[Open],
        "whom health checks ask",
        "Pods of both versions run while the old one is checked.",
    ),
    case(
        62,
        &[Open],
        "several Deployments, one fails",
        "One request for several Deployments, one of which does not come up.",
    ),
    case(
        63,
        &[Parity],
        "other kinds",
        "The target is a StatefulSet, a DaemonSet or a Rollout.",
    ),
    case(
        64,
        &[Open],
        "a rollback of the old kind",
        "The annotation `deprecated.deployment.rollback.to` waits for the Deployment controller.",
    ),
    case(
        65,
        &[Open],
        "a forged history",
        "The template of the old ReplicaSet is edited after it was looked at.",
    ),
    case(
        66,
        &[Open],
        "a deadline that never comes",
        "`progressDeadlineSeconds: 2147483647`, and the old version does not come up.",
    ),
    case(
        67,
        &[Wrong],
        "an old number on the Deployment",
        "The Deployment's revision annotation lags while `observedGeneration` is current.",
    ),
    case(
        68,
        &[Open],
        "no room for a ReplicaSet",
        "The quota of ReplicaSets is full.",
    ),
    case(
        69,
        &[Open],
        "a name that is taken",
        "The name that a ReplicaSet would get belongs to another one.",
    ),
];
