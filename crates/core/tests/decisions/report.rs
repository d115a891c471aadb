//! The incident report: complete, bounded, and deaf to what people write into a request.

use crate::world::{Move, Scene, annotate, approve, at, reading};
use rollback_api::RollbackRequest;
use rollback_api::policy::ChecklistItem;
use rollback_api::status::{
    Cause, CauseKind, DataRisk, FallbackStatus, FallbackWhen, Finding, Measured, Outcome, Plan,
};
use rollback_api::{Reason, RequestState, RollbackRequestStatus, WorkloadKind};
use rollback_core::execution::artifact::{Artifact, ArtifactKind, backup_name, incident_name};
use rollback_core::execution::phase::Phase;
use rollback_core::execution::step::Step;
use rollback_core::message::text::{code, markdown, plain, quote};
use rollback_core::report::incident;
use serde_json::{Value, json};

/// What a ConfigMap may hold, keys and values together.
const CONFIG_MAP_LIMIT: usize = 1024 * 1024;

fn rich() -> Scene {
    let mut scene = Scene::new(&json!({
        "targets": [{"name": "api", "from": {"image": "registry.broxiva.com/shop/api:v2"}, "to": {"previous": {}}}],
        "reason": {
            "category": "ErrorRate",
            "summary": "5xx above 1 % since 14:02",
            "rootCause": "The new pool size exhausts the database connections.\nSeen in the connection graph.",
            "impact": "One in twenty orders fails.",
            "incidentUrl": "https://broxiva.example/incidents/17",
        },
        "urgency": "Critical",
    }))
    .with_policy(json!({
        "approvals": {"required": 2},
        "verification": {"http": [
            {"name": "live", "port": 8080, "path": "/health/live", "consecutiveSuccesses": 1},
            {"name": "ready", "port": 8080, "path": "/health/ready", "consecutiveSuccesses": 1},
        ]},
    }));
    scene.until(Phase::AwaitingApproval);
    scene.now = at(60);
    approve(&mut scene.request, "bob@broxiva.com");
    scene.settle();
    scene.now = at(90);
    approve(&mut scene.request, "cat@broxiva.com");
    scene.until(Phase::BackingUp);
    scene.now = at(95);
    scene.until(Phase::RollingOut);
    scene.now = at(120);
    scene.roll_out();
    scene.until(Phase::Verifying);
    scene.now = at(125);
    scene.observed.targets[0].readings = ["live", "ready"]
        .map(|check| {
            reading(
                check,
                at(125),
                vec![
                    crate::world::answer("api-1", 200),
                    crate::world::answer("api-2", 200),
                ],
            )
        })
        .to_vec();
    scene.commit();
    assert_eq!(scene.state(), "Succeeded/RolledBack");
    scene
}

fn report(scene: &Scene) -> Artifact {
    incident(&scene.request, &scene.status()).unwrap()
}

fn page(artifact: &Artifact) -> &str {
    let (_, page) = artifact
        .data
        .iter()
        .find(|(key, _)| key.rsplit('.').next() == Some("md"))
        .unwrap();
    page
}

fn data(artifact: &Artifact) -> Value {
    let (_, json) = artifact
        .data
        .iter()
        .find(|(key, _)| key.rsplit('.').next() == Some("json"))
        .unwrap();
    serde_json::from_str(json).unwrap()
}

fn size(artifact: &Artifact) -> usize {
    artifact
        .data
        .iter()
        .map(|(key, value)| key.len() + value.len())
        .sum()
}

#[test]
fn a_rich_incident_as_a_page() {
    insta::assert_snapshot!(page(&report(&rich())));
}

#[test]
fn a_rich_incident_as_data() {
    let data = serde_json::to_string_pretty(&data(&report(&rich()))).unwrap();
    insta::assert_snapshot!(data);
}

#[test]
fn a_failed_incident_as_a_page() {
    let mut scene = rich();
    let mut status = scene.status();
    status.outcome = None;
    let target = &mut status.targets[0];
    target.rollout.as_mut().unwrap().completed_at = None;
    target.verification = None;
    target.outcome = None;
    scene.request.status = Some(status);
    scene.edit(|d| crate::world::set_counts(d, 4, 2, 1));
    scene.now = at(95 + 300);
    scene.commit();
    assert_eq!(scene.state(), "Failed/RolloutTimedOut");
    insta::assert_snapshot!(page(&report(&scene)));
}

#[test]
fn names_follow_from_the_end_and_the_request() {
    let scene = rich();
    let report = report(&scene);
    assert_eq!(report.kind, ArtifactKind::Incident);
    assert_eq!(&report.name[..24], "rollback-20261123-140205");
    assert_eq!(report.name.len(), 33);
    assert!(
        report.name[25..]
            .chars()
            .all(|c| c.is_ascii_hexdigit() && !c.is_ascii_uppercase())
    );
    let keys: Vec<_> = report.data.keys().cloned().collect();
    assert_eq!(
        keys,
        [
            "rollback-20261123-140205.json",
            "rollback-20261123-140205.md"
        ]
    );
    let mut other = scene.request.clone();
    other.metadata.uid = Some("another".to_owned());
    assert_ne!(incident_name(&other, scene.outcome().at), report.name);
    // The page of the same end is the same page.
    let mut later = scene.clone();
    later.now = at(9999);
    assert_eq!(incident(&later.request, &later.status()).unwrap(), report);
}

#[test]
fn the_config_map_is_immutable_labelled_and_of_nobody() {
    let scene = rich();
    let map = report(&scene).config_map(&scene.request);
    assert_eq!(map["immutable"], json!(true));
    assert_eq!(map["metadata"]["namespace"], json!("shop"));
    assert_eq!(map["metadata"].get("ownerReferences"), None);
    assert_eq!(
        map["metadata"]["labels"],
        json!({
            "app.kubernetes.io/managed-by": "rollback-controller",
            "rollback.broxiva.com/artifact": "incident",
            "rollback.broxiva.com/request-uid": crate::world::REQUEST,
        })
    );
    assert_eq!(
        map["metadata"]["annotations"],
        json!({"rollback.broxiva.com/request": "api-5xx"})
    );
    assert_eq!(map["data"].as_object().unwrap().len(), 2);
}

#[test]
fn the_backup_is_restorable() {
    let mut scene = Scene::default().approved();
    let backup = loop {
        match scene.commit() {
            Move::Write(Step::BackUp(backup)) => break backup,
            other => scene.take(&other),
        }
    };
    assert_eq!(backup.kind, ArtifactKind::Backup);
    assert_eq!(
        backup.name,
        backup_name(&scene.request, WorkloadKind::Deployment, "api")
    );
    let saved: Value = serde_json::from_str(&backup.data["deployment.json"]).unwrap();
    assert_eq!(saved, crate::world::deployment("v2"));
    let restored: Value = serde_json::from_str(&backup.data["template.json"]).unwrap();
    assert_eq!(restored, crate::world::template("v1"));
    assert_ne!(
        backup.name,
        backup_name(&scene.request, WorkloadKind::Deployment, "web")
    );
    let mut other = scene.request.clone();
    other.metadata.uid = Some("another".to_owned());
    assert_ne!(
        backup.name,
        backup_name(&other, WorkloadKind::Deployment, "api")
    );
    assert_eq!(
        backup.config_map(&scene.request)["metadata"]["labels"]["rollback.broxiva.com/artifact"],
        json!("backup")
    );
}

#[test]
fn no_report_for_a_dry_run_without_a_plan_or_before_the_end() {
    let mut dry = Scene::new(&json!({"dryRun": true}));
    dry.settle();
    assert_eq!(incident(&dry.request, &dry.status()), None);
    let mut planless = Scene::default();
    planless.observed.targets[0].replica_sets.clear();
    planless.settle();
    assert_eq!(incident(&planless.request, &planless.status()), None);
    let mut early = Scene::default();
    early.until(Phase::AwaitingApproval);
    assert_eq!(incident(&early.request, &early.status()), None);
}

#[test]
fn the_timeline_is_in_order_and_complete() {
    let data = data(&report(&rich()));
    let moments: Vec<(&str, &str)> = data["timeline"]
        .as_array()
        .unwrap()
        .iter()
        .map(|moment| {
            (
                moment["at"].as_str().unwrap(),
                moment["what"].as_str().unwrap(),
            )
        })
        .collect();
    assert!(moments.windows(2).all(|pair| pair[0].0 <= pair[1].0));
    let all: String = moments
        .iter()
        .map(|(_, what)| format!("{what}\n"))
        .collect();
    for part in [
        "ann@broxiva.com asked",
        "plan published",
        "approved by bob@broxiva.com",
        "approved by cat",
        "api saved in ConfigMap rollback-backup-",
        "api has the old template",
        "every replica of api is available",
        "every check of api passed",
        "ended: Succeeded (RolledBack)",
    ] {
        assert!(all.contains(part), "{part} in {all}");
    }
    assert_eq!(data["secondsFromRequestToEnd"], json!(125));
    assert_eq!(data["reviewDue"], json!("2026-11-25T14:02:05Z"));
}

/// Strings that people have tried in other places.
fn hostile() -> Vec<String> {
    [
        "# heading",
        "</td></tr></table><script>alert(1)</script>",
        "[click](javascript:alert(1)) ![x](https://evil.example/x.png) <img src=x onerror=alert(1)>",
        "| new | cell |\n|---|---|\n| a | b |",
        "`code` ``` fence ```\n```\n# not quoted\n```",
        "line\r\n\r\n# heading after carriage return",
        "https://evil.example/a www.evil.example mailto:a@evil.example @everyone",
        "above\n===\nabove\n---\n- [x] approved by nobody\n1. one",
        "\u{1b}[2J\u{7}\u{0}\u{8}bell",
        "\u{202e}gnp.exe \u{2066}x\u{2069} \u{200f} \u{61c}",
        "&lt;b&gt; &#60;b&#62; &amp;",
        "<!-- comment",
        "\\",
        "*bold* _it_ ~~gone~~",
        "{{ template }} ${env} $(cmd) %s",
        "\u{2028}# next\u{2029}# next",
    ]
    .map(str::to_owned)
    .to_vec()
}

/// Every place of a request and a status that others write into.
fn poisoned(text: &str) -> (RollbackRequest, RollbackRequestStatus) {
    let mut scene = rich();
    let request = &mut scene.request;
    let reason = &mut request.spec.reason;
    reason.summary = text.to_owned();
    reason.root_cause = text.to_owned();
    reason.impact = text.to_owned();
    reason.incident_url = Some(format!("https://x/{text}"));
    request.spec.requested_by.as_mut().unwrap().username = text.to_owned();
    let mut status = request.status.clone().unwrap();
    for approval in &mut status.approvals {
        approval.by.username = text.to_owned();
    }
    let target = &mut status.plan.as_mut().unwrap().targets[0];
    target.images[0].container = text.to_owned();
    target.images[0].from = Some(text.to_owned());
    target.images[0].to = Some(text.to_owned());
    target.notes.push(text.to_owned());
    for check in &mut status.targets[0].verification.as_mut().unwrap().checks {
        check.last_result = text.to_owned();
        check.name = text.to_owned();
    }
    poison_beside(&mut status, text);
    let outcome = status.outcome.as_mut().unwrap();
    outcome.message = text.to_owned();
    outcome.by = Some(text.to_owned());
    (request.clone(), status)
}

/// The same for what verification, Jobs, remedies and the fallback add.
fn poison_beside(status: &mut RollbackRequestStatus, text: &str) {
    let owned = || text.to_owned();
    status.approvals[0].accepts_data_risk = Some(owned());
    let plan = status.plan.as_mut().unwrap();
    plan.data_risk = Some(DataRisk { message: owned() });
    plan.rules.verification.manual = Some(vec![ChecklistItem {
        name: owned(),
        text: owned(),
    }]);
    plan.targets[0].fallbacks = vec![
        serde_json::from_value(json!({
            "when": "ImagePull", "to": text, "source": "NewImage",
            "images": [{"container": text, "to": text}],
        }))
        .unwrap(),
    ];
    status.scaled_down = vec![
        serde_json::from_value(json!({
            "name": text, "uid": text, "from": 3, "intendedAt": at(70), "takenAt": at(71),
        }))
        .unwrap(),
    ];
    let target = &mut status.targets[0];
    target.warnings = vec![owned()];
    target.before = vec![Measured {
        kind: rollback_api::status::CheckKind::Http,
        check: owned(),
        finding: Finding::Fail,
        result: owned(),
    }];
    let rollout = target.rollout.as_mut().unwrap();
    rollout.cause = Some(Cause {
        kind: CauseKind::CrashLoop,
        message: owned(),
        pod: Some(owned()),
        last_words: Some(owned()),
        since: at(110),
    });
    target.fallback = Some(FallbackStatus {
        when: FallbackWhen::Unwell,
        reason: Reason::RolloutTimedOut,
        why: owned(),
        at: at(112),
        intent: target.revert.clone(),
        reverted_at: None,
        rollout: Some(rollout.clone()),
        verification: target.verification.clone(),
    });
    target.jobs = vec![serde_json::from_value(json!({
        "stage": "Smoke", "name": text, "job": text, "intendedAt": at(100),
        "end": {"at": at(101), "succeeded": false, "exitCode": 1, "message": text, "log": vec![text; 50]},
    })).unwrap()];
}

/// The line without what is escaped in it.
fn unescaped(line: &str) -> String {
    let mut characters = line.chars();
    let mut kept = String::new();
    while let Some(c) = characters.next() {
        if c == '\\' {
            characters.next();
        } else {
            kept.push(c);
        }
    }
    kept
}

#[test]
fn what_others_write_is_shown_and_not_obeyed() {
    let honest = poisoned("an honest text");
    let honest = incident(&honest.0, &honest.1).unwrap();
    let shape = |page: &str| -> Vec<String> {
        page.lines()
            .filter(|line| line.starts_with('#') || line.starts_with("|-"))
            .map(str::to_owned)
            .collect()
    };
    for text in hostile() {
        let (request, status) = poisoned(&text);
        let artifact = incident(&request, &status).unwrap();
        let page = page(&artifact);
        assert_eq!(shape(page), shape(self::page(&honest)), "{text:?}");
        for (number, line) in page.lines().enumerate() {
            let at = format!("{text:?} line {number}: {line}");
            assert!(
                !line
                    .chars()
                    .any(|c| c.is_control() || c == '\u{202e}' || c == '\u{61c}'),
                "{at}"
            );
            // Outside of code spans nothing of HTML, links, images or addresses is left.
            let outside = unescaped(&line.replace("\\`", "'"))
                .split('`')
                .step_by(2)
                .collect::<String>();
            for part in ["<", "[", "://", "www.", " @"] {
                let own = line.starts_with("- [ ] ") && part == "[";
                assert!(own || !outside.contains(part), "{part} in {at}");
            }
            // A row of a table keeps its cells.
            if line.starts_with("| ") {
                let cells = line.replace("\\|", "").matches('|').count();
                assert!((3..=5).contains(&cells), "{at}");
            }
            // No underline that makes a heading of the line before, and no list in a quote.
            let quoted = line.trim_start_matches("> ").trim();
            let underline = !quoted.is_empty() && quoted.chars().all(|c| c == '=')
                || quoted.len() > 2 && quoted.chars().all(|c| c == '-');
            assert!(!underline, "{at}");
            if line.starts_with("> ") {
                assert!(
                    !quoted.starts_with("- ") && !quoted.starts_with("1. "),
                    "{at}"
                );
            }
        }
        // The data is data: every string comes back, at most cut and cleaned.
        let data = data(&artifact);
        assert!(data["summary"].is_string());
    }
}

#[test]
fn each_tool_for_strings_keeps_its_place() {
    for text in hostile() {
        for limit in [1, 2, 10, 100, 5000] {
            assert!(plain(&text, limit).chars().count() <= limit);
            assert!(!markdown(&text, limit).contains('\n'));
            let quoted = quote(&text, limit);
            assert!(quoted.is_empty() || quoted.lines().all(|line| line.starts_with("> ")));
            let span = code(&text, limit);
            assert_eq!(span.matches('`').count(), 2, "{span}");
            assert!(span.starts_with('`') && span.ends_with('`'));
        }
    }
    assert!(
        !code("", 10).contains("``"),
        "two backticks open a span that the next two close"
    );
}

#[test]
fn the_report_is_bounded_whatever_it_is_about() {
    for text in [
        "x".repeat(100_000),
        "\u{0}".repeat(30_000),
        "\n".repeat(30_000),
        "💥<".repeat(30_000),
    ] {
        let (mut request, mut status) = poisoned(&text);
        request.metadata.name = Some("n".repeat(253));
        let groups: Vec<String> = (0..1000)
            .map(|n| format!("{n}{}", "g".repeat(990)))
            .collect();
        let requester = request.spec.requested_by.as_mut().unwrap();
        requester.groups = groups.clone();
        requester.uid = Some(text.clone());
        status.approvals[0].by.groups = groups;
        status.approvals[0].by.uid = Some(text.clone());
        let plan = status.plan.as_mut().unwrap();
        plan.rules.approvals.confirm_phrase = Some(text.clone());
        let images = plan.targets[0].images[0].clone();
        plan.targets[0].images = vec![images; 50];
        plan.targets[0].notes = vec![text.clone(); 16];
        let artifact = incident(&request, &status).unwrap();
        assert!(
            size(&artifact) < CONFIG_MAP_LIMIT / 2,
            "{}",
            size(&artifact)
        );
    }
}

#[test]
fn every_end_has_something_to_do_next() {
    let scene = rich();
    for (state, part) in [
        (RequestState::Succeeded, "Revert the change in Git"),
        (RequestState::Failed, "Escalate now"),
        (RequestState::Superseded, "Find out who changed api"),
        (RequestState::Denied, "Check whether api still needs help"),
        (
            RequestState::Cancelled,
            "Check whether api still needs help",
        ),
        (RequestState::Expired, "Check whether api still needs help"),
        (RequestState::Refused, "Check whether api still needs help"),
    ] {
        let mut status = scene.status();
        status.outcome = Some(Outcome {
            effect: rollback_api::status::Effect::None,
            result: state,
            reason: Reason::NoOp,
            message: "m".to_owned(),
            by: None,
            at: at(60),
        });
        let artifact = incident(&scene.request, &status).unwrap();
        let page = page(&artifact);
        assert!(page.contains(part), "{page}");
        assert!(page.contains("Hold the post-incident review"));
        assert!(page.contains(&format!("# Rollback of api: {}", state.as_str())));
    }
}

#[test]
fn the_report_says_who_and_what_of_a_denial() {
    let mut scene = Scene::default();
    scene.until(Phase::AwaitingApproval);
    annotate(&mut scene.request, rollback_api::DENIED_BY, "bob");
    scene.settle();
    let report = report(&scene);
    let page = page(&report);
    for part in [
        "- Asked for by ann@broxiva.com",
        "- Approved by nobody",
        "- Ended by bob",
        "`api` was not changed.",
        "Not known when the request was made",
    ] {
        assert!(page.contains(part), "{part} in {page}");
    }
    let plan: Plan = serde_json::from_value(data(&report)["plan"].clone()).unwrap();
    assert_eq!(plan, scene.status().plan.unwrap());
}
