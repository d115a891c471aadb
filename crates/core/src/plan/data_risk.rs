//! The risk for the data: whether the old version can live with what the newer one has made of them.
//!
//! A pod template says which schema it brings and with which it copes. What is known not to fit, or marked irreversible,
//! blocks until an approver accepts the risk; what is not known blocks where the policy says so.

use std::collections::BTreeSet;

use rollback_api::policy::{ChecklistItem, UnknownSchema};
use rollback_api::status::{DataRisk, PlannedTarget, Risk, RiskKind, Rules};

use crate::history::template::Template;
use crate::message::text::plain;

const SCHEMA_VERSION: &str = "rollback.broxiva.com/schema-version";
const COMPATIBLE_SCHEMAS: &str = "rollback.broxiva.com/compatible-schema-versions";
const IRREVERSIBLE: &str = "rollback.broxiva.com/irreversible-migration";

/// Longest message of one Deployment, in characters.
const LONGEST: usize = 1000;
/// How many schema versions a message names.
const NAMED_VERSIONS: usize = 5;
/// How many Deployments a message names.
const NAMED: usize = 5;

/// What the two templates say about their data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SchemaFit {
    /// The old version copes with the schema that is there.
    Fits,
    /// Neither says anything.
    Untold,
    /// One of them says too little.
    Unknown(String),
    /// The old version does not name the schema that is there among those that it copes with.
    Misfit(String),
    /// The newer version has migrated the data in a way that cannot be undone.
    Irreversible(String),
}

/// What a template says about the schema of its data.
struct Schema<'a> {
    version: Option<&'a str>,
    tolerates: BTreeSet<&'a str>,
    irreversible: bool,
}

impl<'a> Schema<'a> {
    fn of(template: &'a Template) -> Self {
        let annotations = template.as_json().pointer("/metadata/annotations");
        let annotation = |key: &str| {
            annotations
                .and_then(|annotations| annotations.get(key)?.as_str())
                .map(str::trim)
                .filter(|value| !value.is_empty())
        };
        Self {
            version: annotation(SCHEMA_VERSION),
            tolerates: annotation(COMPATIBLE_SCHEMAS)
                .into_iter()
                .flat_map(|list| list.split([',', ' ', '\n']))
                .filter(|version| !version.is_empty())
                .collect(),
            // Whoever writes anything but no means that there is something irreversible.
            irreversible: annotation(IRREVERSIBLE)
                .is_some_and(|value| !value.eq_ignore_ascii_case("false")),
        }
    }

    fn said(&self) -> String {
        match self.version {
            Some(version) => format!("schema {}", plain(version, 63)),
            None => "a schema that it does not name".to_owned(),
        }
    }

    fn tolerated(&self) -> String {
        if self.tolerates.is_empty() {
            return String::new();
        }
        let mut versions: Vec<String> = self
            .tolerates
            .iter()
            .take(NAMED_VERSIONS)
            .map(|version| plain(version, 63))
            .collect();
        let more = self.tolerates.len().saturating_sub(NAMED_VERSIONS);
        if more > 0 {
            versions.push(format!("{more} more"));
        }
        format!(" and copes with {}", versions.join(", "))
    }
}

/// Whether the old version may not cope with the data as the newer one has left them.
pub fn verdict(from: &Template, to: &Template) -> SchemaFit {
    let (now, then) = (Schema::of(from), Schema::of(to));
    let copes = now
        .version
        .is_some_and(|version| then.version == Some(version) || then.tolerates.contains(version));
    if copes {
        return SchemaFit::Fits;
    }
    let (brings, needs) = (now.said(), format!("{}{}", then.said(), then.tolerated()));
    match (now.irreversible, now.version, then.version) {
        (true, _, _) => SchemaFit::Irreversible(format!(
            "The running version brings {brings} by a migration that is marked irreversible; the old version brings {needs}. \
             It may not work on these data, or damage them. Ask whoever knows the data first."
        )),
        (false, Some(_), Some(_)) => SchemaFit::Misfit(format!(
            "The running version brings {brings}; the old version brings {needs}. \
             It may not work on these data. Ask whoever knows the data first."
        )),
        (false, None, None) if then.tolerates.is_empty() => SchemaFit::Untold,
        (false, Some(_), None) | (false, None, Some(_) | None) => SchemaFit::Unknown(format!(
            "The running version brings {brings}; the old version brings {needs}. \
             Whether the old version copes with the data is not known."
        )),
    }
}

/// The risk for the data of one Deployment, if there is one. Versions that say nothing about it on either side do not use
/// this, unless the policy wants to know.
pub fn assess(from: &Template, to: &Template, unknown: UnknownSchema) -> Option<Risk> {
    let strict = unknown == UnknownSchema::Block;
    let (message, blocks) = match verdict(from, to) {
        SchemaFit::Fits => return None,
        SchemaFit::Untold if !strict => return None,
        SchemaFit::Untold => (
            "Neither version says which schema it brings, and the policy wants to know (dataGate.unknown). \
             Whether the old version copes with the data is not known."
                .to_owned(),
            true,
        ),
        SchemaFit::Unknown(message) => (message, strict),
        SchemaFit::Misfit(message) | SchemaFit::Irreversible(message) => (message, true),
    };
    Some(Risk {
        kind: RiskKind::DataSchema,
        message: plain(&message, LONGEST),
        blocks,
    })
}

/// The risk for the data of all Deployments of a plan together, if there is one that blocks.
pub fn data_risk(targets: &[PlannedTarget], rules: &Rules) -> Option<DataRisk> {
    let blocking: Vec<String> = targets
        .iter()
        .filter_map(|target| {
            let risk = target.risks.iter().find(|risk| risk.blocks)?;
            Some(match targets.len() {
                1 => risk.message.clone(),
                _ => format!(
                    "{}: {}",
                    plain(&target.workload.name, 253),
                    plain(&risk.message, 300)
                ),
            })
        })
        .collect();
    if blocking.is_empty() {
        return None;
    }
    let more = blocking.len().saturating_sub(NAMED);
    let more = match more {
        0 => String::new(),
        1 => " One more Deployment is at risk.".to_owned(),
        _ => format!(" {more} more Deployments are at risk."),
    };
    let told = blocking.iter().take(NAMED).cloned().collect::<Vec<_>>();
    Some(risk(rules, &format!("{}{more}", told.join(" "))))
}

/// A risk in words, and whom to ask about it.
fn risk(rules: &Rules, message: &str) -> DataRisk {
    let contact = rules.data_gate.contact.as_deref().map_or_else(
        || "The policy names nobody who knows the data (dataGate.contact).".to_owned(),
        |contact| format!("Ask {}, who knows the data.", plain(contact, 200)),
    );
    DataRisk {
        message: format!("{} {contact}", plain(message, 4 * LONGEST)),
    }
}

/// What an approver ticks besides, when the data are at risk: the questions of the runbook.
pub fn questions() -> Vec<ChecklistItem> {
    let item = |name: &str, text: &str| ChecklistItem {
        name: name.to_owned(),
        text: text.to_owned(),
    };
    vec![
        item(
            "previous-version-fits-data",
            "Does the previous version work on the data as they are now?",
        ),
        item(
            "required-columns-present",
            "Are all columns there that the previous version needs, and can it leave the new ones empty?",
        ),
        item(
            "enums-known",
            "Does the previous version know every value that the data have by now, in enumerations too?",
        ),
    ]
}

/// The rules with the questions in the checklist, when the data are at risk.
#[must_use]
pub fn asking(mut rules: Rules, data_risk: Option<&DataRisk>) -> Rules {
    if data_risk.is_some() {
        let known = |name: &str| rules.checklist().iter().any(|item| item.name == name);
        let more: Vec<ChecklistItem> = questions()
            .into_iter()
            .filter(|item| !known(&item.name))
            .collect();
        let checklist = rules.approvals.checklist.get_or_insert_default();
        checklist.extend(more);
    }
    rules
}
