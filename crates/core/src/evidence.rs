//! What one look at a Deployment adds to what its ledger knows of its versions.
//!
//! Time counts for a version only when it is known that each of its replicas was available all the while. Watching
//! tells; when nobody watched, the Deployment itself has to tell, and what it cannot tell is not counted.

pub mod pace;
pub mod trigger;

use std::collections::BTreeMap;

use jiff::Timestamp;
use rollback_api::ledger::{
    Evidence, MAX_TEMPLATE_BYTES, MAX_TEMPLATES_BYTES, Quarantined, RunningImage, Verdict,
};
use rollback_api::policy::{Enforce, Ledger};
use rollback_api::{FIELD_MANAGER, RevisionLedgerSpec};
use serde_json::Value;

use crate::health::rollout::image_ids;
use crate::history::ledger::{self, based_on, entry_of, kept_template};
use crate::history::quarantine;
use crate::history::template::Template;
use crate::observed::Deployment;
use crate::time;

/// Most that the images of all entries may take, in bytes. There is room for hundreds.
const MAX_IMAGES_BYTES: usize = 64 * 1024;
/// How many images of one template are remembered.
const MAX_IMAGES: usize = 50;
/// Longest image or image id that is remembered.
const MAX_IMAGE_BYTES: usize = 500;
/// Longest name that is remembered of whoever lifts a quarantine.
const MAX_NAME: usize = 1000;

/// By which rules the ledgers of a namespace are kept.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LedgerRules {
    /// What is remembered.
    pub keep: Ledger,
    /// What becomes of a write that brings back a version in quarantine.
    pub enforce: Enforce,
}

/// One look at a Deployment.
#[derive(Clone, Copy, Debug)]
pub struct Look<'a> {
    /// The Deployment.
    pub deployment: &'a Deployment,
    /// Pods of the template that it asks for, if they were read; see [`Look::wants_pods`].
    pub pods: &'a [Value],
    /// Its ledger.
    pub ledger: Option<&'a RevisionLedgerSpec>,
    /// The quarantine that somebody lifts.
    pub lift: Option<Lift<'a>>,
    /// The rules of the namespace.
    pub rules: &'a LedgerRules,
    /// What led to the look.
    pub notice: Notice,
    /// When its reads began: what they found was so then, or later.
    pub asked: Timestamp,
    /// When its reads had ended: what they found was so then, or before.
    pub now: Timestamp,
}

/// Somebody lifts the quarantine of a template.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lift<'a> {
    /// Digest of the template.
    pub digest: &'a str,
    /// Who.
    pub by: &'a str,
}

/// What is known of the time between two looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Notice {
    /// When something was seen to change for the first time since the look before. Until then all was as that look
    /// left it.
    pub at: Timestamp,
    /// Whether the Deployment was seen not to be complete meanwhile.
    pub dipped: bool,
    /// Whether there may be changes that nobody saw.
    pub gap: bool,
}

impl Notice {
    /// What both say.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self {
            at: self.at.min(other.at),
            dipped: self.dipped || other.dipped,
            gap: self.gap || other.gap,
        }
    }
}

/// What comes of a look.
#[derive(Clone, Debug, PartialEq)]
pub struct Record {
    /// The ledger to write; `None` when there is nothing new.
    pub ledger: Option<RevisionLedgerSpec>,
    /// When to look again though nothing changes: when what runs will have been available for long enough.
    pub again: Option<Timestamp>,
    /// That somebody has brought back a version in quarantine since the look before.
    pub returned: Option<Returned>,
}

/// That somebody has brought back a version in quarantine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Returned {
    /// Digest of its template.
    pub digest: String,
    /// Its revision number, once it has one.
    pub revision: Option<i64>,
    /// The request that rolled it back.
    pub request: Option<String>,
    /// Until when it is in quarantine; nobody lifted it.
    pub until: Option<Timestamp>,
    /// Field manager of the last write of somebody else than the operator.
    pub by: Option<String>,
}

impl Look<'_> {
    /// Whether the pods would tell something that the ledger does not know yet.
    pub fn wants_pods(&self) -> bool {
        let digest = self.deployment.template().digest();
        self.rules.keep.record
            && self.deployment.is_complete()
            && !ledger::evidence(self.ledger, self.deployment.uid())
                .iter()
                .any(|entry| entry.digest == digest && !entry.images.is_empty())
    }

    /// What to write, and when to look again.
    pub fn record(&self) -> Record {
        let before = based_on(self.ledger, &self.deployment.workload());
        let mut next = before.clone();
        if let Some(lift) = self.lift {
            take_up(&mut next, lift, self.now);
        }
        let template = self.deployment.template();
        let (mut again, mut returned) = (None, None);
        if self.rules.keep.record {
            returned = self.returned(&before, &template);
            let digest = template.digest();
            expire(&mut next, self.now);
            self.close(&mut next, &digest);
            again = self.note(&mut next, &template, &digest);
            self.begin(&before, &mut next);
            keep_whole(&mut next, &template, &self.rules.keep);
            bound_images(&mut next);
        }
        quarantine::spare(&mut next, &template);
        let again = earliest(again, settle(&mut next, self.rules.enforce, self.now));
        if next == before {
            return Record {
                ledger: None,
                again,
                returned,
            };
        }
        if let Some(live) = next.templates.last_mut().filter(|_| self.rules.keep.record) {
            live.last_live = self.now;
        }
        Record {
            ledger: Some(next),
            again,
            returned,
        }
    }

    /// Whether what runs is in quarantine, and did not run at the look before.
    fn returned(&self, before: &RevisionLedgerSpec, live: &Template) -> Option<Returned> {
        let lifted = self.lift.map(|lift| lift.digest);
        let (last, others) = before.templates.split_last()?;
        let digest = live.digest();
        if last.digest == digest {
            return None;
        }
        let (request, until) = match others.iter().find(|entry| entry.digest == digest) {
            Some(entry) if ledger::is_quarantined(entry, lifted, self.now) => {
                (entry.judged_by.clone(), entry.bad_until)
            }
            Some(entry) if entry.verdict == Verdict::Good => return None,
            Some(_) | None => {
                let entry = self.recognized(before, last, live)?;
                (Some(entry.request.clone()), Some(entry.until))
            }
        };
        Some(Returned {
            digest,
            revision: self.deployment.revision(),
            request,
            until,
            by: self.deployment.last_manager(FIELD_MANAGER),
        })
    }

    /// The quarantine by whose images what runs is recognized, as admission does, and what ran at the look before was not.
    fn recognized<'a>(
        &self,
        before: &'a RevisionLedgerSpec,
        last: &Evidence,
        live: &Template,
    ) -> Option<&'a Quarantined> {
        let lifted = self.lift.map(|lift| lift.digest);
        let (was, is) = (images_of(last), live.images());
        before.quarantine.iter().find(|entry| {
            self.now < entry.until
                && lifted != Some(entry.digest.as_str())
                && last.digest != entry.digest
                && quarantine::has_images(entry, &is)
                && !quarantine::has_images(entry, &was)
        })
    }

    /// Ends the times that are over, and counts them as far as they are known.
    fn close(&self, ledger: &mut RevisionLedgerSpec, live: &str) {
        // Whoever ran until something changed ran until then.
        if let Some(last) = ledger.templates.last_mut()
            && last.digest != live
            && !self.notice.gap
        {
            last.last_live = last.last_live.max(self.notice.at);
        }
        for entry in &mut ledger.templates {
            let Some(since) = entry.available_since else {
                continue;
            };
            if entry.digest == live && self.goes_on(entry, since) {
                continue;
            }
            entry.available_since = None;
            if !self.notice.gap {
                entry.soaked_seconds += seconds(since, self.notice.at);
            }
            self.judge(entry);
        }
    }

    /// Whether what runs has been available ever since then.
    fn goes_on(&self, entry: &Evidence, since: Timestamp) -> bool {
        let watched = !self.notice.gap || self.is_proven(entry, since);
        // A clock that was set back makes a beginning that has not been yet.
        self.deployment.is_complete() && !self.notice.dipped && watched && since <= self.now
    }

    /// Whether the Deployment itself shows that nothing happened while nobody watched: it has not been unavailable
    /// since, and no other template came and went, which would have given this one another number. The condition is
    /// rounded down to the second, so the same second proves nothing.
    fn is_proven(&self, entry: &Evidence, since: Timestamp) -> bool {
        let steady = self.deployment.available_since();
        let number = self.deployment.revision();
        steady.is_some_and(|steady| steady.as_second() < since.as_second())
            && number.is_some()
            && number == entry.revision
    }

    /// Notes since when what runs has been live, if it was seen to begin. The end of the look is never too early.
    fn begin(&self, before: &RevisionLedgerSpec, ledger: &mut RevisionLedgerSpec) {
        let Some((live, others)) = ledger.templates.split_last_mut() else {
            return;
        };
        for entry in others {
            entry.live_since = None;
        }
        let Some(last) = before.templates.last() else {
            return;
        };
        let renumbered = last.revision.is_some() && live.revision != last.revision;
        if last.digest != live.digest || renumbered {
            live.live_since = Some(self.now);
        }
    }

    /// Brings the entry of what runs up to date.
    fn note(
        &self,
        ledger: &mut RevisionLedgerSpec,
        template: &Template,
        digest: &str,
    ) -> Option<Timestamp> {
        let numbered = self.deployment.observed_generation() >= self.deployment.generation();
        let number = self.deployment.revision().filter(|_| numbered);
        if number.is_some() {
            // A number belongs to one: whoever had it before has lost its history.
            for entry in &mut ledger.templates {
                entry.revision = entry.revision.filter(|known| Some(*known) != number);
            }
        }
        let entry = at_the_end(ledger, digest, self.now);
        entry.revision = number.or(entry.revision);
        if !self.deployment.is_complete() {
            return None;
        }
        if entry.template.is_none() {
            let text = template.as_json().to_string();
            entry.template = Some(text).filter(|text| stored(text) <= MAX_TEMPLATE_BYTES);
        }
        if entry.images.is_empty() {
            entry.images = images(template, self.pods);
        }
        entry.first_available.get_or_insert(self.now);
        entry.available_since.get_or_insert(self.now);
        self.judge(entry)
    }

    /// Good is what was available for long enough. Says when that will be, if it goes on like this.
    fn judge(&self, entry: &mut Evidence) -> Option<Timestamp> {
        let enough = i64::from(self.rules.keep.soak_seconds);
        match entry.verdict {
            // What a newer version said stands.
            Verdict::Good | Verdict::Bad | Verdict::Newer(_) => return None,
            Verdict::Unknown => {}
        }
        let open = entry
            .available_since
            .map_or(0, |since| seconds(since, self.asked));
        if entry.first_available.is_none() || entry.soaked_seconds + open < enough {
            let left = enough - entry.soaked_seconds;
            return entry.available_since.map(|since| time::after(since, left));
        }
        // What has been counted needs no proof later.
        entry.soaked_seconds += open;
        entry.available_since = entry.available_since.map(|since| time::after(since, open));
        entry.verdict = Verdict::Good;
        entry.judged_by = None;
        entry.judged_at = Some(self.now);
        entry.bad_until = None;
        None
    }
}

/// What to write of a ledger whose Deployment is gone, and which is kept because admission looks at it; when to look again.
pub fn orphaned(
    ledger: &RevisionLedgerSpec,
    lift: Option<Lift>,
    enforce: Enforce,
    now: Timestamp,
) -> Record {
    let mut next = ledger.clone();
    if let Some(lift) = lift {
        take_up(&mut next, lift, now);
    }
    let again = settle(&mut next, enforce, now);
    Record {
        ledger: Some(next).filter(|next| next != ledger),
        again,
        returned: None,
    }
}

/// Brings what admission looks at up to date, and says when the next of it is over.
fn settle(ledger: &mut RevisionLedgerSpec, enforce: Enforce, now: Timestamp) -> Option<Timestamp> {
    quarantine::enforce(ledger, enforce);
    // Who looks here has seen that no request is at work.
    quarantine::settle(ledger, false, now);
    quarantine::next_end(ledger)
}

fn images_of(known: &Evidence) -> BTreeMap<String, String> {
    let images = known.images.iter();
    images
        .map(|it| (it.container.clone(), it.image.clone()))
        .collect()
}

fn earliest(one: Option<Timestamp>, other: Option<Timestamp>) -> Option<Timestamp> {
    one.into_iter().chain(other).min()
}

/// Whole seconds between two moments, none when they come in the wrong order.
fn seconds(since: Timestamp, until: Timestamp) -> i64 {
    until.duration_since(since).as_secs().max(0)
}

/// A lifted quarantine makes nothing good: it only ends. Versions that admission tells apart in nothing are lifted together:
/// who lifts one of them would be refused in the same words because of the other.
fn take_up(ledger: &mut RevisionLedgerSpec, lift: Lift, now: Timestamp) {
    let quarantined = ledger.quarantine.iter();
    let asked = quarantined
        .clone()
        .find(|entry| entry.digest == lift.digest);
    let images = asked.map_or(&[][..], |entry| entry.images.as_slice());
    let alike = quarantined.filter(|entry| !images.is_empty() && entry.images == images);
    let mut lifted: Vec<String> = alike.map(|entry| entry.digest.clone()).collect();
    lifted.push(lift.digest.to_owned());
    let bad = ledger
        .templates
        .iter_mut()
        .filter(|entry| lifted.contains(&entry.digest) && entry.verdict == Verdict::Bad);
    for entry in bad {
        entry.verdict = Verdict::Unknown;
        entry.judged_by = Some(lift.by.chars().take(MAX_NAME).collect());
        entry.judged_at = Some(now);
        entry.bad_until = None;
    }
    ledger
        .quarantine
        .retain(|entry| !lifted.contains(&entry.digest));
}

/// Nobody says anything any more about a template whose quarantine is over.
fn expire(ledger: &mut RevisionLedgerSpec, now: Timestamp) {
    let over = |entry: &&mut Evidence| {
        entry.verdict == Verdict::Bad && entry.bad_until.is_some_and(|until| until <= now)
    };
    for entry in ledger.templates.iter_mut().filter(over) {
        entry.verdict = Verdict::Unknown;
        entry.judged_by = None;
        entry.judged_at = None;
        entry.bad_until = None;
    }
}

/// The entry of what runs, at the end, made if there is none.
fn at_the_end<'a>(
    ledger: &'a mut RevisionLedgerSpec,
    digest: &str,
    now: Timestamp,
) -> &'a mut Evidence {
    let place = ledger
        .templates
        .iter()
        .position(|entry| entry.digest == digest);
    if let Some(place) = place {
        ledger.templates[place..].rotate_left(1);
    }
    entry_of(ledger, digest, now)
}

/// Keeps the template that runs and the newest good ones besides it. One that differs from a newer one by a restart
/// only is no other version and takes no place; but until the restarted one is known to be good itself, it is what
/// stands for that version.
fn keep_whole(ledger: &mut RevisionLedgerSpec, live: &Template, rules: &Ledger) {
    let live = live.clone().with_marks(&rules.restart_marks);
    let mut places = usize::try_from(rules.keep_templates).unwrap_or_default();
    if places == 0 {
        for entry in &mut ledger.templates {
            entry.template = None;
        }
        return;
    }
    let mut entries = ledger.templates.iter_mut().rev();
    let mut room = MAX_TEMPLATES_BYTES;
    let mut proven = false;
    if let Some(running) = entries.next() {
        room -= size(running).min(room);
        proven = running.verdict == Verdict::Good && running.template.is_some();
    }
    let mut kept: Vec<Template> = Vec::new();
    for entry in entries {
        let whole = kept_template(entry)
            .map(|template| template.with_marks(&rules.restart_marks))
            .filter(|_| entry.verdict == Verdict::Good && size(entry) <= room)
            .filter(|template| !kept.iter().any(|newer| newer.is_equivalent(template)));
        let is_live = whole
            .as_ref()
            .is_some_and(|template| template.is_equivalent(&live));
        match whole {
            Some(template) if (is_live && !proven) || (!is_live && places > 0) => {
                places -= usize::from(!is_live);
                room -= size(entry);
                kept.push(template);
            }
            Some(_) | None => entry.template = None,
        }
    }
}

fn size(entry: &Evidence) -> usize {
    entry.template.as_deref().map_or(0, stored)
}

/// Bytes that a JSON text takes as a JSON string: its quotes are escaped.
fn stored(text: &str) -> usize {
    let escaped = text.bytes().filter(|byte| matches!(byte, b'"' | b'\\'));
    text.len() + escaped.count() + 2
}

/// The images of a template, and what the kubelets made of them.
fn images(template: &Template, pods: &[Value]) -> Vec<RunningImage> {
    let ids: Vec<(&str, &str)> = pods
        .iter()
        .flat_map(image_ids)
        .filter(|(_, id)| id.len() <= MAX_IMAGE_BYTES)
        .collect();
    template
        .images()
        .into_iter()
        .filter(|(_, image)| image.len() <= MAX_IMAGE_BYTES)
        .take(MAX_IMAGES)
        .map(|(container, image)| {
            let id = ids.iter().find(|(name, _)| *name == container);
            RunningImage {
                image_id: id.map(|(_, id)| (*id).to_owned()),
                container,
                image,
            }
        })
        .collect()
}

/// Forgets the images of those that ran longest ago when there are too many.
fn bound_images(ledger: &mut RevisionLedgerSpec) {
    let mut room = MAX_IMAGES_BYTES;
    for entry in ledger.templates.iter_mut().rev() {
        let bytes: usize = entry.images.iter().map(image_size).sum();
        match room.checked_sub(bytes) {
            Some(left) => room = left,
            None => entry.images.clear(),
        }
    }
}

fn image_size(image: &RunningImage) -> usize {
    /// Names of the fields and what is between them.
    const FRAME: usize = 48;
    let id = image.image_id.as_deref().map_or(0, stored);
    FRAME + stored(&image.container) + stored(&image.image) + id
}
