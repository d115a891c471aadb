//! What kind of trouble an alert is about.

use rollback_api::request::Category;
use rollback_receiver::alert::Alert;

use crate::config::{Categories, CategoryRule};

/// Words in names of alerts that everybody uses, and what they mean. The first that is found counts.
const WORDS: [(Category, &[&str]); 3] = [
    (
        Category::ErrorRate,
        &["5xx", "errorrate", "errorbudget", "errorratio"],
    ),
    (
        Category::Latency,
        &["latency", "slow", "responsetime", "p99", "p95"],
    ),
    (
        Category::HealthCheck,
        &[
            "crash",
            "health",
            "probe",
            "unavailable",
            "notready",
            "unready",
            "restart",
            "oomkill",
            "imagepull",
            "replicasmismatch",
            "rolloutstuck",
        ],
    ),
];

/// The category of an alert: by the rules of its source, else by its name, else what the source says of all others.
pub fn of(categories: &Categories, alert: &Alert) -> Category {
    let mut ruled = categories.rules.iter().filter(|rule| fits(rule, alert));
    if let Some(rule) = ruled.next() {
        return rule.category;
    }
    let name: String = alert
        .name
        .chars()
        .filter(|char| char.is_alphanumeric())
        .flat_map(char::to_lowercase)
        .collect();
    let mut known = WORDS
        .iter()
        .filter(|(_, words)| words.iter().any(|word| name.contains(word)));
    known
        .next()
        .map_or(categories.default, |(category, _)| *category)
}

fn fits(rule: &CategoryRule, alert: &Alert) -> bool {
    let has = |(key, value): (&String, &String)| alert.labels.get(key) == Some(value);
    rule.alert.as_ref().is_none_or(|name| *name == alert.name) && rule.labels.iter().all(has)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use rollback_receiver::alert::State;

    use super::*;

    fn alert(name: &str) -> Alert {
        Alert {
            state: State::Firing,
            id: "1".to_owned(),
            name: name.to_owned(),
            summary: String::new(),
            severity: None,
            started_at: None,
            pending_seconds: None,
            is_repeat: false,
            labels: BTreeMap::from([("team".to_owned(), "shop".to_owned())]),
            links: Vec::new(),
        }
    }

    #[test]
    fn usual_names_say_what_is_wrong() {
        let categories = Categories {
            default: Category::BusinessLogic,
            rules: Vec::new(),
        };
        for (name, category) in [
            ("HighErrorRate", Category::ErrorRate),
            ("Http5xxRatio", Category::ErrorRate),
            ("HighLatencyP99", Category::Latency),
            ("API is slow", Category::Latency),
            ("KubePodCrashLooping", Category::HealthCheck),
            ("Probe failed", Category::HealthCheck),
            ("ServiceUnavailable", Category::HealthCheck),
            ("NoOrders", Category::BusinessLogic),
        ] {
            assert_eq!(of(&categories, &alert(name)), category, "{name}");
        }
    }

    #[test]
    fn rules_go_before_words() {
        let rule = |alert: Option<&str>, labels: &[(&str, &str)], category| CategoryRule {
            alert: alert.map(str::to_owned),
            labels: labels
                .iter()
                .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
                .collect(),
            category,
        };
        let categories = Categories {
            default: Category::ErrorRate,
            rules: vec![
                rule(Some("Slow"), &[("team", "other")], Category::Security),
                rule(Some("Slow"), &[("team", "shop")], Category::Feature),
                rule(None, &[("team", "shop")], Category::BusinessLogic),
            ],
        };
        assert_eq!(of(&categories, &alert("Slow")), Category::Feature);
        assert_eq!(of(&categories, &alert("Slower")), Category::BusinessLogic);
    }
}
