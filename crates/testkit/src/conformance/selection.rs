//! Which version a rollback goes to.

use super::Mark::{Open, Parity, Wrong};
use super::{Case, case};

/// Cases 1 to 26.
pub const CASES: &[Case] = &[
    case(
        1,
        &[Parity],
        "the version before",
        "Revisions 1 and 2 ran; the previous one is asked for.",
    ),
    case(
        2,
        &[Parity],
        "the revision that runs",
        "The revision that is named is the one that runs already.",
    ),
    case(
        3,
        &[Parity],
        "a revision that never was",
        "Revision 99 is named.",
    ),
    case(
        4,
        &[Parity],
        "the first version",
        "There is one version only; the previous one is asked for.",
    ),
    case(
        5,
        &[Wrong],
        "previous, asked twice",
        "v3 was bad and rolled back to v2, which is bad too; the previous one is asked for again.",
    ),
    case(
        6,
        &[Wrong],
        "repeated after a lost answer",
        "The write got through, its answer did not; the same is asked for again.",
    ),
    case(
        7,
        &[Wrong],
        "an old number",
        "Revision 1 ran again in the meantime and is revision 3 now; revision 1 is asked for.",
    ),
    case(
        8,
        &[Wrong],
        "restarts in the history",
        "The newest revisions differ from what runs by `rollout restart` only.",
    ),
    case(
        9,
        &[Wrong],
        "only restarted since",
        "The revision that is named differs from what runs by `rollout restart` only.",
    ),
    case(
        10,
        &[Wrong],
        "the bad version has not started",
        "Strategy Recreate: v3 waits for pods of v2 to end and has no ReplicaSet yet.",
    ),
    case(
        11,
        &[Wrong],
        "the bad version cannot start",
        "The ReplicaSet of v3 is refused by a quota.",
    ),
    case(
        12,
        &[Wrong],
        "the controller has not seen it",
        "`observedGeneration` is behind `generation`: the newest version is in nobody's history.",
    ),
    case(
        13,
        &[Open],
        "a ReplicaSet without a number",
        "The revision annotation of one ReplicaSet is missing.",
    ),
    case(
        14,
        &[Open],
        "an unreadable number",
        "The revision annotation of one ReplicaSet is `abc`.",
    ),
    case(
        15,
        &[Open],
        "a number that two have",
        "Two ReplicaSets carry the revision that is asked for.",
    ),
    case(
        16,
        &[Parity],
        "somebody else's ReplicaSet",
        "A ReplicaSet has the labels of the Deployment, and another owner.",
    ),
    case(
        17,
        &[Wrong],
        "another Deployment of the same name",
        "Between the decision and the write the Deployment is deleted and made again.",
    ),
    case(
        18,
        &[Parity],
        "adopted ReplicaSets",
        "The Deployment was deleted without its ReplicaSets and made again.",
    ),
    case(
        19,
        &[Wrong],
        "a ReplicaSet that is being deleted",
        "The ReplicaSet of the previous version has a deletion timestamp.",
    ),
    case(
        20,
        &[Wrong],
        "the last known good",
        "The version before the bad one never became available either.",
    ),
    case(
        21,
        &[Parity, Open],
        "no history is kept",
        "`revisionHistoryLimit: 0`, during a rollout that fails and after one that succeeded.",
    ),
    case(
        22,
        &[Open],
        "by image",
        "The version is named by its image, which several revisions had, or none.",
    ),
    case(
        23,
        &[Open],
        "by image, several containers",
        "The image is named without saying which container is meant.",
    ),
    case(
        24,
        &[Open],
        "a tag that moved",
        "Both revisions name the same tag, which meant different images.",
    ),
    case(
        25,
        &[Open],
        "several names of one image",
        "Tag, digest, and the registry that goes without saying.",
    ),
    case(
        26,
        &[Open],
        "a version label in the wrong place",
        "The version is a label of the Deployment only, which no rollback brings back.",
    ),
];
