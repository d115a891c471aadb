//! What an attack is.

use std::fmt;

use serde_json::Value;

use crate::people::Person;

/// What is done to an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    /// POST.
    Create,
    /// PUT.
    Put,
    /// A JSON merge patch.
    Merge,
    /// A JSON patch.
    Json,
    /// Server-side apply, by a manager of its own and with force.
    Apply,
    /// A strategic merge patch.
    Strategic,
    /// DELETE.
    Delete,
    /// DELETE of all that have the label `rollback.broxiva.com/artifact`, or of all where there is no such label.
    DeleteAll,
    /// GET.
    Get,
}

/// A verb, on which subresource, and whether only to see what would happen.
#[derive(Clone, Copy, Debug)]
pub struct How {
    /// The verb.
    pub verb: Verb,
    /// The subresource; empty for the object itself.
    pub sub: &'static str,
    /// With `dryRun=All`.
    pub dry: bool,
    /// Deleting leaves behind what belongs to it.
    pub orphans: bool,
}

impl How {
    const fn new(verb: Verb) -> Self {
        Self {
            verb,
            sub: "",
            dry: false,
            orphans: false,
        }
    }

    /// On this subresource.
    pub const fn on(self, sub: &'static str) -> Self {
        Self { sub, ..self }
    }

    /// With `dryRun=All`.
    pub const fn dry(self) -> Self {
        Self { dry: true, ..self }
    }

    /// Leaving behind what belongs to it.
    pub const fn orphaning(self) -> Self {
        Self {
            orphans: true,
            ..self
        }
    }
}

impl fmt::Display for How {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verb = match self.verb {
            Verb::Create => "create",
            Verb::Put => "put",
            Verb::Merge => "merge",
            Verb::Json => "json",
            Verb::Apply => "apply",
            Verb::Strategic => "strategic",
            Verb::Delete => "delete",
            Verb::DeleteAll => "deletecollection",
            Verb::Get => "get",
        };
        let dry = if self.dry { "-dry" } else { "" };
        if self.sub.is_empty() {
            write!(formatter, "{verb}{dry}")
        } else {
            write!(formatter, "{verb}{dry}:{}", self.sub)
        }
    }
}

/// POST.
pub const POST: How = How::new(Verb::Create);
/// PUT.
pub const PUT: How = How::new(Verb::Put);
/// A JSON merge patch.
pub const MERGE: How = How::new(Verb::Merge);
/// A JSON patch.
pub const JSON: How = How::new(Verb::Json);
/// Server-side apply.
pub const APPLY: How = How::new(Verb::Apply);
/// A strategic merge patch.
pub const STRATEGIC: How = How::new(Verb::Strategic);
/// DELETE.
pub const DELETE: How = How::new(Verb::Delete);
/// DELETE of a collection.
pub const DELETE_ALL: How = How::new(Verb::DeleteAll);
/// GET.
pub const GET: How = How::new(Verb::Get);
/// Every way to change what is there.
pub const CHANGES: &[How] = &[MERGE, JSON, PUT, APPLY];

/// A moment in the life of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Moment {
    /// Before there is a plan.
    Planless,
    /// With a plan, of which nobody has said anything.
    Awaiting,
    /// The same, asked for by [`BOTH`](crate::people::BOTH).
    Own,
    /// The same, of two Deployments.
    Several,
    /// The same, with the rules of staging.
    Staging,
    /// The same, where one person may approve alone.
    Glass,
    /// The same as the last, with a risk for the data.
    Risky,
    /// The approver has approved, and it is not counted yet.
    Pending,
    /// The approval of the approver is counted, and not put away yet; one more is needed.
    Full,
    /// The approval of the approver is counted and put away; one more is needed.
    Half,
    /// Both are counted; nothing is written yet.
    Approved,
    /// The Deployment is about to be written.
    Begun,
    /// The same, and another one has not begun.
    HalfBegun,
    /// The approver has taken the approval back, and that is not seen yet.
    Withdrawn,
    /// The second approver has denied, and that is not seen yet.
    Denied,
    /// The requester has cancelled, and that is not seen yet.
    Cancelled,
    /// It has ended.
    Ended,
    /// It is deleted, and held by its finalizer.
    Deleting,
}

/// Every moment.
pub const MOMENTS: [Moment; 18] = [
    Moment::Planless,
    Moment::Awaiting,
    Moment::Own,
    Moment::Several,
    Moment::Staging,
    Moment::Glass,
    Moment::Risky,
    Moment::Pending,
    Moment::Full,
    Moment::Half,
    Moment::Approved,
    Moment::Begun,
    Moment::HalfBegun,
    Moment::Withdrawn,
    Moment::Denied,
    Moment::Cancelled,
    Moment::Ended,
    Moment::Deleting,
];

impl Moment {
    /// Its name, which is that of the request in this moment, too.
    pub fn slug(self) -> String {
        format!("{self:?}").to_lowercase()
    }
}

/// What is attacked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Thing {
    /// The request in this moment.
    Request(Moment),
    /// The request of this name.
    Called(&'static str),
    /// A request that is not there yet.
    NewRequest,
    /// The ledger of the Deployment `api`.
    Ledger,
    /// A ledger that is not there yet.
    NewLedger,
    /// The policy of the namespace.
    Policy,
    /// A backup.
    Backup,
    /// An incident report.
    Incident,
    /// A `ConfigMap` of somebody's own.
    Notes,
    /// A `ConfigMap` that is not there yet.
    NewMap,
    /// The Deployment that is to be rolled back.
    App,
    /// A Deployment that may be scaled down.
    Worker,
    /// Whatever is at this path.
    Path(&'static str),
}

/// Before there is a plan.
pub const PLANLESS: Thing = Thing::Request(Moment::Planless);
/// With a plan.
pub const AWAITING: Thing = Thing::Request(Moment::Awaiting);
/// Asked for by somebody who approves, too.
pub const OWN: Thing = Thing::Request(Moment::Own);
/// Of two Deployments.
pub const SEVERAL: Thing = Thing::Request(Moment::Several);
/// With the rules of staging.
pub const STAGING: Thing = Thing::Request(Moment::Staging);
/// Where one person may approve alone.
pub const GLASS: Thing = Thing::Request(Moment::Glass);
/// Where the data are at risk, and one person may approve alone.
pub const RISKY: Thing = Thing::Request(Moment::Risky);
/// With an approval that is not counted.
pub const PENDING: Thing = Thing::Request(Moment::Pending);
/// With one of two approvals, which is still there.
pub const FULL: Thing = Thing::Request(Moment::Full);
/// With one of two approvals.
pub const HALF: Thing = Thing::Request(Moment::Half);
/// With all approvals.
pub const APPROVED: Thing = Thing::Request(Moment::Approved);
/// About to be written.
pub const BEGUN: Thing = Thing::Request(Moment::Begun);
/// About to be written, while another Deployment waits.
pub const HALF_BEGUN: Thing = Thing::Request(Moment::HalfBegun);
/// With an approval that is taken back.
pub const WITHDRAWN: Thing = Thing::Request(Moment::Withdrawn);
/// Denied by the second approver.
pub const DENIED: Thing = Thing::Request(Moment::Denied);
/// Cancelled by the requester.
pub const CANCELLED: Thing = Thing::Request(Moment::Cancelled);
/// Ended.
pub const ENDED: Thing = Thing::Request(Moment::Ended);
/// Deleted, and still there.
pub const DELETING: Thing = Thing::Request(Moment::Deleting);

impl Thing {
    /// What the table calls it.
    pub fn slug(self) -> String {
        match self {
            Self::Request(moment) => moment.slug(),
            Self::Path(name) | Self::Called(name) => name.to_owned(),
            thing => format!("{thing:?}").to_lowercase(),
        }
    }
}

/// What has to be answered.
#[derive(Clone, Copy, Debug)]
pub enum Expect {
    /// 403 by this policy of the guard, saying this.
    Guard(&'static str, &'static str),
    /// 403 by the authorizer.
    Rbac,
    /// 422 by the schema or by Kubernetes' own checks, saying this.
    Schema(&'static str),
    /// 415: a custom resource knows no strategic merge patch.
    Unsupported,
    /// It is allowed.
    Passes,
}

/// One line of the table: everybody of `who` does `what` to each of `on` in each way of `how`.
#[derive(Clone, Debug)]
pub struct Row {
    /// In a few words.
    pub title: &'static str,
    /// Who.
    pub who: &'static [Person],
    /// How.
    pub how: &'static [How],
    /// To what.
    pub on: &'static [Thing],
    /// What, as a merge patch of what is there or of a good new object. In its strings `$ME` is the name of the attacker,
    /// `$NS` the namespace, `$DIGEST` the digest of the plan and `$BAD` that of a template in quarantine.
    pub what: Value,
    /// What has to be answered.
    pub expect: Expect,
}

/// Attacks on one rule, or on a few that belong together.
#[derive(Clone, Debug)]
pub struct Family {
    /// Its name.
    pub name: &'static str,
    /// The attacks.
    pub attacks: Vec<Row>,
    /// The same with the one thing put right.
    pub twins: Vec<Row>,
}

/// One attempt.
#[derive(Clone, Debug)]
pub struct Attempt {
    /// What it is known by.
    pub id: String,
    /// The family.
    pub family: &'static str,
    /// Who.
    pub who: Person,
    /// How.
    pub how: How,
    /// To what.
    pub on: Thing,
    /// What.
    pub what: Value,
    /// What has to be answered.
    pub expect: Expect,
}

impl Family {
    /// Every attack by itself.
    pub fn attempts(&self) -> Vec<Attempt> {
        self.expand(&self.attacks)
    }

    /// Every twin by itself.
    pub fn allowed(&self) -> Vec<Attempt> {
        self.expand(&self.twins)
    }

    fn expand(&self, rows: &[Row]) -> Vec<Attempt> {
        let mut attempts = Vec::new();
        for row in rows {
            for who in row.who {
                for on in row.on {
                    for how in row.how {
                        attempts.push(self.attempt(row, *who, *on, *how));
                    }
                }
            }
        }
        attempts
    }

    fn attempt(&self, row: &Row, who: Person, on: Thing, how: How) -> Attempt {
        let title = row.title.replace(' ', "-");
        Attempt {
            id: format!("{}/{title}/{}/{how}/{}", self.name, who.slug, on.slug()),
            family: self.name,
            who,
            how,
            on,
            what: row.what.clone(),
            expect: row.expect,
        }
    }
}
