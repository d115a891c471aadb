//! What people are told: from the facts, once, to whom the policy says, and up the levels until somebody answers.

use jiff::{SignedDuration, Timestamp};
use rollback_api::policy::Notifications;
use rollback_api::status::{DeliveryResult, NotificationStatus, Told};
use rollback_api::{ACKNOWLEDGED_BY, RollbackRequest, RollbackRequestStatus};
use rollback_core::notify::cursor::{self, Receipt, advance, due};
use rollback_core::notify::{About, Message, Standing, messages};
use serde_json::{Value, json};

use crate::world::{Move, Scene, annotate, approve};

fn policy(value: Value) -> Notifications {
    serde_json::from_value(value).unwrap()
}

fn hook(name: &str) -> Value {
    json!({"name": name, "teams": {"webhook": {"name": name, "key": "url"}}})
}

fn one() -> Notifications {
    policy(json!({"channels": [hook("team")]}))
}

fn two_levels() -> Notifications {
    policy(json!({
        "channels": [hook("team"), hook("first"), hook("second")],
        "escalation": {"levels": [
            {"afterSeconds": 60, "channels": ["first"]},
            {"afterSeconds": 120, "channels": ["second", "team"]},
        ]},
    }))
}

/// A request with this status.
fn with(request: &RollbackRequest, status: RollbackRequestStatus) -> RollbackRequest {
    RollbackRequest {
        status: Some(status),
        ..request.clone()
    }
}

fn of(scene: &Scene) -> RollbackRequest {
    with(&scene.request, scene.status())
}

fn all(scene: &Scene) -> Vec<Message> {
    messages(&scene.request, &scene.status(), &[], scene.now)
}

fn words(messages: &[Message]) -> Vec<&'static str> {
    messages.iter().map(|it| it.about.as_str()).collect()
}

/// Delivers everything that is due to everybody, and stores that.
fn deliver(
    policy: &Notifications,
    request: &mut RollbackRequest,
    now: Timestamp,
) -> Vec<(String, String)> {
    let told = due(policy, request, &[], now);
    let told: Vec<(String, String)> = told
        .into_iter()
        .map(|it| (it.channel.name.clone(), it.message.key))
        .collect();
    let receipts: Vec<Receipt> = told
        .iter()
        .map(|(channel, key)| receipt(channel, key, now))
        .collect();
    store(policy, request, &receipts, now);
    told
}

fn receipt(channel: &str, key: &str, at: Timestamp) -> Receipt {
    Receipt {
        channel: channel.to_owned(),
        told: vec![Told {
            key: key.to_owned(),
            result: DeliveryResult::Delivered,
            at,
        }],
        ..Receipt::default()
    }
}

fn store(
    policy: &Notifications,
    request: &mut RollbackRequest,
    receipts: &[Receipt],
    now: Timestamp,
) {
    let mut status = request.status.clone().unwrap();
    status.notifications = advance(Some(policy), request, &status, receipts, now);
    request.status = Some(status);
}

fn after(at: Timestamp, seconds: i64) -> Timestamp {
    at + SignedDuration::from_secs(seconds)
}

/// A plan that waits for approval.
fn waiting() -> Scene {
    let mut scene = Scene::default();
    scene.settle();
    scene
}

#[test]
fn the_story_of_a_rollback_reaches_a_channel_in_order_and_once() {
    let policy = one();
    let mut scene = Scene::default();
    let mut told = Vec::new();
    for round in 0..40 {
        if round == 5 {
            approve(&mut scene.request, "bob@broxiva.com");
        }
        if round == 15 {
            scene.roll_out();
        }
        let step = scene.pass();
        let mut request = of(&scene);
        told.extend(
            deliver(&policy, &mut request, scene.now)
                .into_iter()
                .map(|(_, key)| key),
        );
        scene.request.status = request.status;
        scene.now += SignedDuration::from_millis(1500);
        if step == Move::Done {
            break;
        }
    }
    let kinds: Vec<&str> = told
        .iter()
        .map(|key| key.split('-').next().unwrap())
        .collect();
    assert_eq!(kinds, ["AwaitingApproval", "Begun", "End"]);
    let kept = scene.status().notifications.unwrap();
    assert!(kept.settled);
    assert_eq!(kept.channels[0].told.len(), 3);
}

#[test]
fn a_message_says_what_to_do_and_the_command_for_it() {
    let scene = waiting();
    let told = all(&scene);
    let [message] = told.as_slice() else {
        panic!("{told:?}")
    };
    assert_eq!(message.standing, Standing::Open);
    let todo = message.todo.as_ref().unwrap();
    assert_eq!(todo.command, "kubectl rollback approve api-5xx -n shop");
    assert!(todo.what.contains("not the requester"), "{}", todo.what);
    let facts: Vec<&str> = message.facts.iter().map(|(name, _)| *name).collect();
    assert!(
        facts.starts_with(&["Request", "Why", "Category, urgency", "Asked for by"]),
        "{facts:?}"
    );
    let (_, change) = message
        .facts
        .iter()
        .find(|(name, _)| *name == "From, to")
        .unwrap();
    assert!(change.contains("revision"), "{change}");
}

#[test]
fn without_channels_the_status_does_not_grow() {
    let scene = waiting();
    let status = scene.status();
    assert_eq!(advance(None, &scene.request, &status, &[], scene.now), None);
    let nothing = policy(json!({"channels": [{
        "name": "quiet", "on": {"events": ["ReviewOverdue"]}, "teams": {"webhook": {"name": "a", "key": "b"}},
    }]}));
    assert_eq!(
        advance(Some(&nothing), &scene.request, &status, &[], scene.now),
        None
    );
    assert_eq!(due(&nothing, &of(&scene), &[], scene.now), []);
}

#[test]
fn what_was_delivered_and_is_not_stored_yet_is_not_delivered_again_and_after_a_crash_it_is_under_the_same_key()
 {
    let (policy, scene) = (one(), waiting());
    let request = of(&scene);
    let first = due(&policy, &request, &[], scene.now);
    let receipts = [receipt("team", &first[0].message.key, scene.now)];
    assert_eq!(due(&policy, &request, &receipts, scene.now), []);
    // A crash: the receipt is gone.
    let again = due(&policy, &request, &[], after(scene.now, 5));
    assert_eq!(again[0].message.identity(), first[0].message.identity());
    let mut stored = request.clone();
    store(&policy, &mut stored, &receipts, scene.now);
    assert_eq!(due(&policy, &stored, &[], scene.now), []);
    // Told twice, stored once.
    store(&policy, &mut stored, &receipts, scene.now);
    assert_eq!(
        stored.status.unwrap().notifications.unwrap().channels[0]
            .told
            .len(),
        1
    );
}

#[test]
fn a_channel_gets_what_it_asks_for() {
    let scene = waiting();
    let table = [
        (json!({}), true),
        (json!({"events": ["AwaitingApproval"]}), true),
        (json!({"events": ["Begun"]}), false),
        (json!({"urgencies": ["Low"]}), false),
        (json!({"categories": ["ErrorRate"]}), true),
        (json!({"categories": ["Latency"]}), false),
        (json!({"results": ["Failed"]}), true),
    ];
    for (on, told) in table {
        let mut channel = hook("team");
        channel["on"] = on.clone();
        let policy = policy(json!({"channels": [channel]}));
        assert_eq!(
            !due(&policy, &of(&scene), &[], scene.now).is_empty(),
            told,
            "{on}"
        );
    }
}

#[test]
fn a_dry_run_tells_nobody() {
    let mut scene = Scene::new(&json!({"dryRun": true}));
    scene.settle();
    assert_eq!(all(&scene), []);
}

#[test]
fn an_expiry_is_told_before_it_happens() {
    let mut scene = waiting();
    let not_after = scene.status().plan.unwrap().not_after;
    scene.now = after(not_after, -16 * 60);
    assert_eq!(words(&all(&scene)), ["AwaitingApproval"]);
    let next =
        rollback_core::notify::due_by_time(&scene.request, &scene.status(), scene.now).unwrap();
    assert!(next > scene.now && next < not_after);
    scene.now = next;
    assert_eq!(words(&all(&scene)), ["AwaitingApproval", "Expiring"]);
}

#[test]
fn levels_are_asked_one_after_the_other_each_once_and_over_restarts_and_jumps_of_the_clock() {
    let (policy, scene) = (two_levels(), waiting());
    let start = scene.now;
    let mut request = of(&scene);
    let mut told = Vec::new();
    // A restart loses nothing but what is in memory, and here nothing is. Late, early again, and very late.
    for seconds in [0, 30, 61, 40, 61, 100, 180, 182, 100_000, 200_000] {
        let now = after(start, seconds);
        store(&policy, &mut request, &[], now);
        for (channel, key) in deliver(&policy, &mut request, now) {
            if key.starts_with("Level") {
                told.push((seconds, channel, key));
            }
        }
    }
    let told: Vec<(i64, &str, &str)> = told
        .iter()
        .map(|(at, channel, key)| (*at, channel.as_str(), key.as_str()))
        .collect();
    assert_eq!(
        told,
        [
            (61, "first", "Level1-Waiting"),
            (182, "team", "Level2-Waiting"),
            (182, "second", "Level2-Waiting"),
        ]
    );
}

fn kept_of(request: &RollbackRequest) -> NotificationStatus {
    let status = request.status.as_ref().unwrap();
    status.notifications.clone().unwrap()
}

#[test]
fn an_acknowledgement_stops_it_and_so_does_the_approval() {
    let (policy, scene) = (two_levels(), waiting());
    let mut request = of(&scene);
    store(&policy, &mut request, &[], scene.now);
    annotate(&mut request, ACKNOWLEDGED_BY, "bob@broxiva.com");
    store(&policy, &mut request, &[], after(scene.now, 1));
    let kept = kept_of(&request);
    assert_eq!(kept.acknowledged.unwrap().by, "bob@broxiva.com");
    assert_eq!(kept.escalation.unwrap().next_at, None);
    store(&policy, &mut request, &[], after(scene.now, 1000));
    let kept = kept_of(&request);
    assert_eq!((kept.escalation.unwrap().level, kept.settled), (0, false));

    let mut scene = waiting();
    let mut request = of(&scene);
    store(&policy, &mut request, &[], scene.now);
    scene.request.status = request.status;
    approve(&mut scene.request, "bob@broxiva.com");
    scene.until(rollback_core::execution::phase::Phase::BackingUp);
    let mut request = of(&scene);
    store(&policy, &mut request, &[], after(scene.now, 1000));
    assert_eq!(
        request
            .status
            .unwrap()
            .notifications
            .unwrap()
            .escalation
            .unwrap()
            .level,
        0
    );
}

/// What the status says, but for what people were told.
fn becomes(request: &mut RollbackRequest, status: RollbackRequestStatus) {
    let notifications = request.status.take().and_then(|it| it.notifications);
    request.status = Some(RollbackRequestStatus {
        notifications,
        ..status
    });
}

#[test]
fn approvals_that_suffice_only_for_a_while_put_the_levels_off_and_do_not_end_them() {
    let (policy, mut scene) = (two_levels(), waiting());
    let (start, waits) = (scene.now, scene.status());
    let mut request = of(&scene);
    store(&policy, &mut request, &[], start);
    store(&policy, &mut request, &[], after(start, 61));
    assert_eq!(kept_of(&request).escalation.unwrap().level, 1);
    approve(&mut scene.request, "bob@broxiva.com");
    scene.until(rollback_core::execution::phase::Phase::BackingUp);
    becomes(&mut request, scene.status());
    store(&policy, &mut request, &[], after(start, 70));
    assert_eq!(kept_of(&request).escalation.unwrap().next_at, None);
    // They are withdrawn, or too old.
    becomes(&mut request, waits);
    store(&policy, &mut request, &[], after(start, 80));
    let escalation = kept_of(&request).escalation.unwrap();
    assert_eq!(
        (escalation.level, escalation.next_at),
        (1, Some(after(start, 200)))
    );
    store(&policy, &mut request, &[], after(start, 1080));
    assert_eq!(kept_of(&request).escalation.unwrap().level, 2);
    let told = due(&policy, &request, &[], after(start, 1080));
    assert!(
        told.iter().any(|it| it.message.key == "Level2-Waiting"),
        "{told:?}"
    );
}

#[test]
fn a_level_that_its_channel_was_not_told_of_is_told_late() {
    let (policy, scene) = (two_levels(), waiting());
    let mut request = of(&scene);
    // Nothing gets through until the second level is asked.
    for seconds in [0, 61, 182] {
        store(&policy, &mut request, &[], after(scene.now, seconds));
    }
    assert_eq!(kept_of(&request).escalation.unwrap().level, 2);
    let told = deliver(&policy, &mut request, after(scene.now, 183));
    let mut told: Vec<(&str, &str)> = told
        .iter()
        .map(|(channel, key)| (channel.as_str(), key.as_str()))
        .filter(|(_, key)| key.starts_with("Level"))
        .collect();
    told.sort_unstable();
    assert_eq!(
        told,
        [
            ("first", "Level1-Waiting"),
            ("second", "Level2-Waiting"),
            ("team", "Level2-Waiting"),
        ]
    );
    assert_eq!(due(&policy, &request, &[], after(scene.now, 184)), []);
}

#[test]
fn a_failure_goes_up_the_levels_too() {
    let policy = two_levels();
    let mut scene = Scene::default().reverted();
    scene.now = after(scene.now, 10_000);
    scene.settle();
    assert_eq!(scene.state(), "Failed/RolloutTimedOut");
    let mut request = of(&scene);
    store(&policy, &mut request, &[], scene.now);
    deliver(&policy, &mut request, scene.now);
    let now = after(scene.now, 61);
    store(&policy, &mut request, &[], now);
    let told = due(&policy, &request, &[], now);
    let [level] = told.as_slice() else {
        panic!("{told:?}")
    };
    assert_eq!(level.message.about, About::Level(1));
    assert!(
        level
            .message
            .text
            .last()
            .unwrap()
            .contains("kubectl rollback ack api-5xx -n shop")
    );
    assert!(
        !request
            .status
            .as_ref()
            .unwrap()
            .notifications
            .as_ref()
            .unwrap()
            .settled
    );
    annotate(&mut request, ACKNOWLEDGED_BY, "bob@broxiva.com");
    store(&policy, &mut request, &[], now);
    assert!(request.status.unwrap().notifications.unwrap().settled);
}

#[test]
fn a_channel_that_does_not_get_through_is_told_of_in_the_others() {
    let policy = policy(json!({"channels": [hook("broken"), hook("team")]}));
    let scene = waiting();
    let mut request = of(&scene);
    let failing = Receipt {
        channel: "broken".to_owned(),
        failing: Some(cursor::failing(
            scene.now,
            "hooks.slack.com answered 503 password=hunter2",
        )),
        ..Receipt::default()
    };
    store(&policy, &mut request, &[failing], scene.now);
    let kept = kept_of(&request);
    let broken = kept.channels[0].failing.as_ref().unwrap();
    assert!(!broken.message.contains("hunter2"), "{}", broken.message);
    let later = after(scene.now, 301);
    let told = due(&policy, &request, &[], later);
    let of_channel: Vec<(&str, bool)> = told
        .iter()
        .map(|it| {
            (
                it.channel.name.as_str(),
                it.message.key.starts_with("ChannelFails"),
            )
        })
        .collect();
    assert!(
        of_channel.contains(&("team", true)) && !of_channel.contains(&("broken", true)),
        "{of_channel:?}"
    );
}

#[test]
fn nothing_is_told_of_a_request_that_ended_long_before_anybody_could_be() {
    let policy = one();
    let mut scene = Scene::default();
    annotate(
        &mut scene.request,
        rollback_api::CANCELLED_BY,
        "ann@broxiva.com",
    );
    scene.settle();
    let request = of(&scene);
    assert_eq!(due(&policy, &request, &[], scene.now).len(), 1);
    assert_eq!(due(&policy, &request, &[], after(scene.now, 3700)), []);
}

#[test]
fn what_was_told_of_plans_that_are_gone_is_forgotten_before_what_counts() {
    let (policy, scene) = (one(), waiting());
    let mut request = of(&scene);
    let now = scene.now;
    let mut receipts: Vec<Receipt> = (0..40)
        .map(|it| receipt("team", &format!("AwaitingApproval-{it}"), now))
        .collect();
    let current = due(&policy, &request, &[], now)[0].message.key.clone();
    receipts.insert(0, receipt("team", &current, now));
    store(&policy, &mut request, &receipts, now);
    let told = &request
        .status
        .as_ref()
        .unwrap()
        .notifications
        .as_ref()
        .unwrap()
        .channels[0]
        .told;
    assert_eq!(told.len(), rollback_api::status::MOST_TOLD);
    assert_eq!(due(&policy, &request, &[], now), []);
}

#[test]
fn what_waits_for_people_is_never_too_old_and_what_was_not_tried_does_not_fail() {
    let (policy, scene) = (one(), waiting());
    let mut request = of(&scene);
    let message = all(&scene).remove(0);
    let late = after(scene.now, 3 * 24 * 3600);
    assert!(!cursor::is_stale(&message, late));
    let begun = Message {
        standing: Standing::Unchanged,
        ..message.clone()
    };
    assert!(cursor::is_stale(&begun, late));
    let failed = Message {
        request: rollback_core::notify::Subject {
            result: Some(rollback_api::policy::EndResult::Failed),
            ..message.request.clone()
        },
        ..message
    };
    assert!(cursor::is_stale(&failed, late));
    let mut abandoned = receipt("team", "Begun", late);
    abandoned.told[0].result = DeliveryResult::Abandoned;
    store(&policy, &mut request, &[abandoned.clone()], late);
    assert_eq!(kept_of(&request).channels[0].failing, None);
    // And what is known of a channel stays known.
    let failing = Receipt {
        channel: "team".to_owned(),
        failing: Some(cursor::failing(late, "503")),
        ..Receipt::default()
    };
    store(&policy, &mut request, &[failing, abandoned], late);
    assert!(kept_of(&request).channels[0].failing.is_some());
}

#[test]
fn who_approved_alone_is_told_also_when_it_has_ended_meanwhile() {
    let mut scene = Scene::default().rolled_out();
    scene.settle();
    let mut status = scene.status();
    assert!(status.outcome.is_some());
    status.approvals[0].break_glass = Some("nobody else is awake".to_owned());
    let told = messages(&scene.request, &status, &[], scene.now);
    let alone = told.iter().find(|it| it.key.starts_with("BreakGlass-"));
    let alone = alone.unwrap_or_else(|| panic!("{told:?}"));
    // Nobody has to do anything any more, so no incident is opened.
    assert_eq!(alone.standing, Standing::Unchanged);
}

#[test]
fn a_guard_that_is_missing_again_is_told_again() {
    let scene = waiting();
    let mut keys = Vec::new();
    for seconds in [0, 60] {
        let mut status = scene.status();
        let condition = json!({
            "type": "Approved", "status": "False", "reason": "GuardMissing", "message": "a policy is missing",
            "lastTransitionTime": after(scene.now, seconds).to_string(),
        });
        status.conditions = vec![serde_json::from_value(condition).unwrap()];
        let told = messages(&scene.request, &status, &[], after(scene.now, 90));
        let of_guard = told.into_iter().map(|it| it.key);
        keys.extend(of_guard.filter(|it| it.starts_with("GuardMissing")));
    }
    assert!(keys.len() == 2 && keys[0] != keys[1], "{keys:?}");
}

#[test]
fn an_alertmanager_is_told_again_of_what_stands_and_of_nothing_after_the_end() {
    let policy = policy(json!({"channels": [
        hook("team"), {"name": "alerts", "alertmanager": {"urls": ["http://alertmanager:9093"]}},
    ]}));
    let scene = waiting();
    let mut request = of(&scene);
    let standing = |request: &RollbackRequest| {
        let due = due(&policy, request, &[], scene.now);
        let standing = cursor::standing(&policy, request, &due, scene.now).into_iter();
        let standing = standing.map(|it| (it.channel.name.clone(), it.message.about.as_str()));
        standing.collect::<Vec<(String, &str)>>()
    };
    // Before it was told at all there is nothing to tell again.
    assert_eq!(standing(&request), []);
    deliver(&policy, &mut request, scene.now);
    assert_eq!(
        standing(&request),
        [("alerts".to_owned(), "AwaitingApproval")]
    );
    let mut ended = Scene::default();
    annotate(
        &mut ended.request,
        rollback_api::CANCELLED_BY,
        "ann@broxiva.com",
    );
    ended.settle();
    assert_eq!(standing(&of(&ended)), []);
}

#[test]
fn what_keeps_something_open_is_told_of_the_end_of_that_whatever_it_is_told_otherwise() {
    let quiet = json!({"events": ["ReviewOverdue"]});
    let pager = json!({"name": "pager", "on": quiet, "pagerDuty": {"routingKey": {"name": "a", "key": "b"}}});
    let mut team = hook("team");
    team["on"] = quiet.clone();
    let policy = policy(json!({"channels": [pager, team]}));
    let told = |scene: &Scene| {
        let due = due(&policy, &of(scene), &[], scene.now).into_iter();
        let due = due.map(|it| (it.channel.name.clone(), it.message.about));
        due.collect::<Vec<(String, About)>>()
    };
    assert_eq!(told(&waiting()), []);
    let mut ended = Scene::default().rolled_out();
    ended.settle();
    assert_eq!(told(&ended), [("pager".to_owned(), About::Over)]);
    // Somebody has to look, so the incident is theirs.
    let mut failed = Scene::default().reverted();
    failed.now = after(failed.now, 10_000);
    failed.settle();
    assert_eq!(failed.state(), "Failed/RolloutTimedOut");
    assert_eq!(told(&failed), []);
}
