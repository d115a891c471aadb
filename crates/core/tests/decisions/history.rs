//! Which revision a request means. Numbers in names are those of the cases in `rollback-semantics.md`.

use crate::world::{DEPLOYMENT, digest, replica_set, replica_set_of, restarted, sets, template};
use rollback_api::Reason;
use rollback_api::request::{Previous, To};
use rollback_core::history::template::Template;
use rollback_core::history::{Choice, History, Wish};
use rollback_core::observed::ReplicaSet;
use serde_json::{Value, json};

fn previous() -> To {
    To {
        previous: Some(Previous {}),
        ..To::default()
    }
}

fn revision(number: i64) -> To {
    To {
        revision: Some(number),
        ..To::default()
    }
}

/// A wish of a Deployment that keeps ten old revisions, none of which is known to be good.
fn wish<'a>(to: &'a To, current: &'a Template, bad: &'a [String]) -> Wish<'a> {
    Wish {
        to,
        current,
        bad,
        good: &[],
        limit: 10,
    }
}

/// The choice in a few words.
fn choose(to: &To, current: &Value, owned: &[ReplicaSet], bad: &[&str]) -> String {
    let bad: Vec<String> = bad.iter().map(|version| digest(version)).collect();
    let current = Template::of(current);
    match History::of(DEPLOYMENT, owned, &[]).choose(wish(to, &current, &bad)) {
        Choice::Revision { revision, notes } => {
            let notes: String = notes.iter().map(|note| format!(", {note}")).collect();
            format!("{}{notes}", revision.replica_set)
        }
        Choice::Current(which) => format!("current {which}"),
        Choice::Equivalent(which) => format!("equivalent {which}"),
        Choice::None(reason, _) => reason.as_str().to_owned(),
    }
}

fn message(to: &To, current: &Value, owned: &[ReplicaSet]) -> String {
    let current = Template::of(current);
    match History::of(DEPLOYMENT, owned, &[]).choose(wish(to, &current, &[])) {
        Choice::None(_, message) => message,
        other => panic!("{other:?}"),
    }
}

fn with(mut set: Value, pointer: &str, key: &str, value: Value) -> Value {
    let parent = set.pointer_mut(pointer).unwrap();
    parent
        .as_object_mut()
        .unwrap()
        .insert(key.to_owned(), value);
    set
}

fn renumbered(version: &str, revision: &str, history: &str) -> Value {
    with(
        replica_set(version, revision),
        "/metadata/annotations",
        "deployment.kubernetes.io/revision-history",
        json!(history),
    )
}

fn without_number(version: &str) -> Value {
    let mut set = replica_set(version, "1");
    set["metadata"]["annotations"] = json!({});
    set
}

#[test]
fn case_01_previous_of_two_is_the_older() {
    let owned = sets([replica_set("v1", "1"), replica_set("v2", "2")]);
    assert_eq!(choose(&previous(), &template("v2"), &owned, &[]), "api-v1");
}

#[test]
fn case_02_the_revision_that_runs_is_current() {
    let owned = sets([replica_set("v1", "1"), replica_set("v2", "2")]);
    assert_eq!(
        choose(&revision(2), &template("v2"), &owned, &[]),
        "current revision 2"
    );
    assert_eq!(choose(&revision(1), &template("v2"), &owned, &[]), "api-v1");
}

#[test]
fn case_03_an_unknown_number_is_refused_and_the_known_ones_are_named() {
    let owned = sets([replica_set("v1", "1"), replica_set("v2", "2")]);
    for number in [99, 0, -1, i64::MAX, i64::MIN] {
        assert_eq!(
            choose(&revision(number), &template("v2"), &owned, &[]),
            "RevisionNotFound"
        );
    }
    let message = message(&revision(99), &template("v2"), &owned);
    assert!(message.contains("known revisions: 2, 1"), "{message}");
    assert!(message.starts_with("to.revision: "), "{message}");
}

#[test]
fn case_04_a_single_revision_is_no_history() {
    let owned = sets([replica_set("v2", "1")]);
    assert_eq!(
        choose(&previous(), &template("v2"), &owned, &[]),
        "NoHistory"
    );
    assert_eq!(choose(&previous(), &template("v2"), &[], &[]), "NoHistory");
    assert_eq!(
        choose(&revision(1), &template("v2"), &[], &[]),
        "RevisionNotFound"
    );
}

#[test]
fn case_05_previous_skips_what_is_known_to_be_bad_and_says_so() {
    // v1 was rolled back to and is revision 3 now: the second-highest number is the bad v2.
    let owned = sets([
        renumbered("v1", "3", "1"),
        replica_set("v2", "2"),
        replica_set("v0", "1"),
    ]);
    assert_eq!(
        choose(&previous(), &template("v1"), &owned, &["v2"]),
        "api-v0, revision 2 is known to be bad and was skipped"
    );
    assert_eq!(
        choose(&previous(), &template("v1"), &owned, &["v2", "v0"]),
        "NoHistory"
    );
    let bad: Vec<String> = ["v2", "v0"].iter().map(|version| digest(version)).collect();
    let current = Template::of(&template("v1"));
    match History::of(DEPLOYMENT, &owned, &[]).choose(wish(&previous(), &current, &bad)) {
        Choice::None(_, said) => {
            assert!(
                said.contains("Revision 2 is known to be bad and was skipped."),
                "{said}"
            );
            assert!(
                said.contains("name it (to.revision), or lift its quarantine"),
                "{said}"
            );
        }
        other => panic!("{other:?}"),
    }
    // Named, a bad revision is honoured.
    assert_eq!(
        choose(&revision(2), &template("v1"), &owned, &["v2"]),
        "api-v2"
    );
}

#[test]
fn case_07_a_renumbered_revision_is_found_by_its_former_number() {
    let owned = sets([renumbered("v1", "3", "1"), replica_set("v2", "2")]);
    assert_eq!(
        choose(&revision(1), &template("v2"), &owned, &[]),
        "api-v1, revision 1 was renumbered and is revision 3 now"
    );
    let twice = sets([renumbered("v1", "5", "1, 3"), replica_set("v2", "4")]);
    for former in [1, 3] {
        assert!(
            choose(&revision(former), &template("v2"), &twice, &[]).starts_with("api-v1, "),
            "{former}"
        );
    }
    // What has the number now is meant before what had it once.
    let both = sets([
        renumbered("v1", "3", "1"),
        replica_set("v0", "1"),
        replica_set("v2", "2"),
    ]);
    assert_eq!(choose(&revision(1), &template("v2"), &both, &[]), "api-v0");
}

#[test]
fn case_08_previous_skips_restarts_of_what_runs() {
    let owned = sets([
        replica_set("v1", "1"),
        replica_set("v2", "2"),
        replica_set_of("v2b", "3", &restarted("v2", "2026-11-23T13:00:00Z")),
        replica_set_of("v2c", "4", &restarted("v2", "2026-11-23T13:30:00Z")),
    ]);
    for current in [
        template("v2"),
        restarted("v2", "2026-11-23T13:30:00Z"),
        restarted("v2", "2026-11-23T13:59:00Z"),
    ] {
        assert_eq!(choose(&previous(), &current, &owned, &[]), "api-v1");
    }
}

#[test]
fn case_09_a_revision_that_differs_by_a_restart_is_equivalent() {
    let owned = sets([
        replica_set("v2", "2"),
        replica_set_of("v2b", "3", &restarted("v2", "2026-11-23T13:00:00Z")),
    ]);
    assert_eq!(
        choose(
            &revision(2),
            &restarted("v2", "2026-11-23T13:00:00Z"),
            &owned,
            &[]
        ),
        "equivalent revision 2"
    );
}

#[test]
fn case_10_11_12_previous_is_relative_to_the_template_that_is_wanted() {
    // v3 is wanted but has no ReplicaSet yet: the newest number is the previous version.
    let owned = sets([replica_set("v1", "1"), replica_set("v2", "2")]);
    assert_eq!(choose(&previous(), &template("v3"), &owned, &[]), "api-v2");
}

#[test]
fn case_13_previous_never_takes_a_replica_set_without_a_number() {
    let owned = sets([
        without_number("v0"),
        replica_set("v1", "1"),
        replica_set("v2", "2"),
    ]);
    assert_eq!(choose(&previous(), &template("v2"), &owned, &[]), "api-v1");
    let only = sets([without_number("v0"), replica_set("v2", "2")]);
    assert_eq!(
        choose(&previous(), &template("v2"), &only, &[]),
        "NoHistory"
    );
    for unusable in ["0", "-3"] {
        let zero = sets([replica_set("v0", unusable), replica_set("v2", "2")]);
        assert_eq!(
            choose(&previous(), &template("v2"), &zero, &[]),
            "NoHistory"
        );
    }
}

#[test]
fn case_14_an_unreadable_number_is_left_out_and_named() {
    for number in ["abc", "", " 1", "1.0", "9223372036854775808", "0x1"] {
        let owned = sets([replica_set("v1", number), replica_set("v2", "2")]);
        let history = History::of(DEPLOYMENT, &owned, &[]);
        assert_eq!(history.unreadable, ["api-v1"], "{number:?}");
        assert_eq!(history.revisions.len(), 1);
        for to in [previous(), revision(1)] {
            let message = message(&to, &template("v2"), &owned);
            assert!(message.contains("api-v1"), "{message}");
        }
    }
}

#[test]
fn case_14_what_was_left_out_is_said_with_the_choice() {
    let owned = sets([
        replica_set("v0", "abc"),
        replica_set("v1", "1"),
        replica_set("v2", "2"),
    ]);
    assert_eq!(
        choose(&previous(), &template("v2"), &owned, &[]),
        "api-v1, the revision number of api-v0 cannot be read, so it was left out"
    );
}

#[test]
fn case_15_a_number_that_two_have_is_ambiguous() {
    let owned = sets([
        replica_set("v0", "1"),
        replica_set("v1", "1"),
        replica_set("v2", "2"),
    ]);
    assert_eq!(
        choose(&revision(1), &template("v2"), &owned, &[]),
        "Ambiguous"
    );
    let message = message(&revision(1), &template("v2"), &owned);
    assert!(
        message.contains("api-v0") && message.contains("api-v1"),
        "{message}"
    );
    let former = sets([
        renumbered("v0", "3", "1"),
        renumbered("v1", "4", "1"),
        replica_set("v2", "2"),
    ]);
    assert_eq!(
        choose(&revision(1), &template("v2"), &former, &[]),
        "Ambiguous"
    );
}

#[test]
fn case_15_previous_does_not_guess_between_two_of_the_highest_number() {
    let owned = sets([
        replica_set("v0", "1"),
        replica_set("v1", "1"),
        replica_set("v2", "2"),
    ]);
    assert_eq!(
        choose(&previous(), &template("v2"), &owned, &[]),
        "Ambiguous"
    );
    // One of them is bad: no guess is needed.
    assert!(choose(&previous(), &template("v2"), &owned, &["v0"]).starts_with("api-v1"));
    assert!(choose(&previous(), &template("v2"), &owned, &["v1"]).starts_with("api-v0"));
    // Twice the same template is no question either.
    let same = sets([
        replica_set("v1", "1"),
        replica_set_of("twin", "1", &template("v1")),
        replica_set("v2", "2"),
    ]);
    assert_ne!(
        choose(&previous(), &template("v2"), &same, &[]),
        "Ambiguous"
    );
}

#[test]
fn case_16_labels_are_no_ownership() {
    let mut foreign = replica_set("v1", "1");
    foreign["metadata"]["ownerReferences"][0]["uid"] = json!("d-2");
    let mut owned_but_not_controlled = replica_set("v1", "1");
    owned_but_not_controlled["metadata"]["ownerReferences"][0]["controller"] = json!(false);
    let mut silent = replica_set("v1", "1");
    silent["metadata"]["ownerReferences"][0]
        .as_object_mut()
        .unwrap()
        .remove("controller");
    let mut orphan = replica_set("v1", "1");
    orphan["metadata"]
        .as_object_mut()
        .unwrap()
        .remove("ownerReferences");
    for stranger in [foreign, owned_but_not_controlled, silent, orphan] {
        let owned = sets([stranger, replica_set("v2", "2")]);
        assert_eq!(
            choose(&previous(), &template("v2"), &owned, &[]),
            "NoHistory"
        );
        assert_eq!(
            choose(&revision(1), &template("v2"), &owned, &[]),
            "RevisionNotFound"
        );
    }
}

#[test]
fn case_16_the_controller_is_found_among_several_owners() {
    let mut set = replica_set("v1", "1");
    set["metadata"]["ownerReferences"]
        .as_array_mut()
        .unwrap()
        .insert(0, json!({"kind": "Backup", "name": "b", "uid": "b-1"}));
    let owned = sets([set, replica_set("v2", "2")]);
    assert_eq!(choose(&previous(), &template("v2"), &owned, &[]), "api-v1");
}

#[test]
fn case_18_an_adopted_orphan_is_history() {
    let mut adopted = replica_set("v1", "1");
    adopted["metadata"]["ownerReferences"] = json!([
        {"kind": "Deployment", "name": "api", "uid": DEPLOYMENT, "controller": true}
    ]);
    let owned = sets([adopted, replica_set("v2", "2")]);
    assert_eq!(choose(&previous(), &template("v2"), &owned, &[]), "api-v1");
}

#[test]
fn case_19_a_replica_set_that_is_being_deleted_is_no_history() {
    let dying = with(
        replica_set("v1", "2"),
        "/metadata",
        "deletionTimestamp",
        json!("2026-11-23T13:59:00Z"),
    );
    let owned = sets([dying, replica_set("v0", "1"), replica_set("v2", "3")]);
    assert_eq!(choose(&previous(), &template("v2"), &owned, &[]), "api-v0");
    assert_eq!(
        choose(&revision(2), &template("v2"), &owned, &[]),
        "RevisionNotFound"
    );
}

#[test]
fn newest_is_by_number_and_not_by_name_or_order() {
    let owned = sets([
        replica_set("v9", "9"),
        replica_set("v10", "10"),
        replica_set("v8", "8"),
        replica_set("v11", "11"),
    ]);
    assert_eq!(
        choose(&previous(), &template("v11"), &owned, &[]),
        "api-v10"
    );
    let numbers: Vec<_> = History::of(DEPLOYMENT, &owned, &[])
        .revisions
        .iter()
        .map(|revision| revision.number)
        .collect();
    assert_eq!(numbers, [Some(11), Some(10), Some(9), Some(8)]);
}

#[test]
fn what_runs_is_found_by_its_template() {
    let owned = sets([
        without_number("v2"),
        replica_set("v1", "1"),
        replica_set("v2", "2"),
    ]);
    let history = History::of(DEPLOYMENT, &owned, &[]);
    let running = history.holding(&Template::of(&template("v2"))).unwrap();
    assert_eq!(running.number, Some(2));
    assert_eq!(history.holding(&Template::of(&template("v3"))), None);
    assert_eq!(history.holding(&Template::of(&restarted("v2", "x"))), None);
}

#[test]
fn two_ways_to_say_where_to_are_none() {
    let owned = sets([replica_set("v1", "1"), replica_set("v2", "2")]);
    let ways = [
        ("previous", json!({})),
        ("revision", json!(1)),
        ("version", json!("v1")),
        ("image", json!({"image": IMAGE_V1})),
        ("lastKnownGood", json!({})),
        ("backup", json!("rollback-backup-1")),
    ];
    // A backup is no revision: it is chosen where the backups are.
    let mut choices = vec![json!({}), json!({"backup": "rollback-backup-1"})];
    for (index, (one, this)) in ways.iter().enumerate() {
        for (other, that) in &ways[..index] {
            choices.push(json!({*one: this, *other: that}));
        }
    }
    for to in choices {
        let parsed: To = serde_json::from_value(to.clone()).unwrap();
        let chosen = choose(&parsed, &template("v2"), &owned, &[]);
        assert_eq!(chosen, Reason::Unsupported.as_str(), "{to}");
    }
}

const IMAGE_V1: &str = "registry.broxiva.com/shop/api:v1";

fn to(value: Value) -> To {
    serde_json::from_value(value).unwrap()
}

fn image(image: &str) -> To {
    to(json!({"image": {"image": image}}))
}

fn version(version: &str) -> To {
    to(json!({"version": version}))
}

/// A template whose containers have these images.
fn containers(images: &[(&str, &str)]) -> Value {
    let mut template = template("v");
    template["spec"]["containers"] = images
        .iter()
        .map(|(name, image)| json!({"name": name, "image": image}))
        .collect();
    template
}

fn labelled(version: &str, label: &str) -> Value {
    let mut template = template(version);
    template["metadata"]["labels"]["app.kubernetes.io/version"] = json!(label);
    template
}

#[test]
fn case_22_an_image_is_the_newest_revision_that_has_it_and_is_not_bad() {
    let mut other_env = template("v1");
    other_env["spec"]["containers"][0]["env"] = json!([]);
    let owned = sets([
        replica_set("v1", "1"),
        replica_set_of("newer", "2", &other_env),
        replica_set("v2", "3"),
    ]);
    assert_eq!(
        choose(&image(IMAGE_V1), &template("v2"), &owned, &[]),
        "api-newer"
    );
    let bad = [Template::of(&other_env).digest()];
    let v2 = Template::of(&template("v2"));
    let history = History::of(DEPLOYMENT, &owned, &[]);
    let Choice::Revision { revision, notes } = history.choose(wish(&image(IMAGE_V1), &v2, &bad))
    else {
        panic!("it is there");
    };
    assert_eq!((revision.replica_set.as_str(), notes.len()), ("api-v1", 0));
    // All of them bad: it was named, so it is honoured and said.
    let bad = [Template::of(&other_env).digest(), digest("v1")];
    let Choice::Revision { revision, notes } = history.choose(wish(&image(IMAGE_V1), &v2, &bad))
    else {
        panic!("it is there");
    };
    assert_eq!(
        (revision.replica_set.as_str(), notes.len()),
        ("api-newer", 1)
    );
    for gone in [
        "registry.broxiva.com/shop/api:v9",
        "shop/api:v1",
        "other:v1",
        "",
    ] {
        let chosen = choose(&image(gone), &template("v2"), &owned, &[]);
        assert_eq!(chosen, "ImageNotInHistory", "{gone}");
    }
    let why = message(
        &image("registry.broxiva.com/shop/api:v9"),
        &template("v2"),
        &owned,
    );
    assert!(why.contains(IMAGE_V1), "{why}");
    assert!(choose(&image(IMAGE_V1), &template("v1"), &owned, &[]).starts_with("current image"));
}

#[test]
fn case_23_an_image_of_several_containers_needs_the_container() {
    let old = containers(&[
        ("api", "shop:1"),
        ("worker", "shop:1"),
        ("proxy", "envoy:1"),
    ]);
    let new = containers(&[
        ("api", "shop:2"),
        ("worker", "shop:2"),
        ("proxy", "envoy:2"),
    ]);
    let owned = sets([
        replica_set_of("old", "1", &old),
        replica_set_of("new", "2", &new),
    ]);
    assert_eq!(choose(&image("shop:1"), &new, &owned, &[]), "Ambiguous");
    assert_eq!(choose(&image("envoy:1"), &new, &owned, &[]), "api-old");
    let named = |name: &str| to(json!({"image": {"image": "shop:1", "container": name}}));
    assert_eq!(choose(&named("worker"), &new, &owned, &[]), "api-old");
    for other in ["proxy", "nobody"] {
        assert_eq!(
            choose(&named(other), &new, &owned, &[]),
            "ImageNotInHistory"
        );
    }
    // The container that is meant must have it, not any.
    let mixed = containers(&[
        ("api", "shop:3"),
        ("worker", "shop:1"),
        ("proxy", "envoy:1"),
    ]);
    let owned = sets([
        replica_set_of("mixed", "3", &mixed),
        replica_set_of("new", "2", &new),
    ]);
    assert_eq!(
        choose(&named("api"), &new, &owned, &[]),
        "ImageNotInHistory"
    );
    assert_eq!(choose(&named("worker"), &new, &owned, &[]), "api-mixed");
}

#[test]
fn case_25_images_are_compared_by_what_they_mean() {
    let old = containers(&[("api", "nginx")]);
    let new = containers(&[("api", "nginx:2")]);
    let owned = sets([
        replica_set_of("old", "1", &old),
        replica_set_of("new", "2", &new),
    ]);
    for same in [
        "nginx",
        "nginx:latest",
        "docker.io/library/nginx:latest",
        "library/nginx",
    ] {
        assert_eq!(choose(&image(same), &new, &owned, &[]), "api-old", "{same}");
    }
    for other in [
        "nginx@sha256:abc",
        "quay.io/nginx",
        "localhost/nginx",
        "nginx:1",
    ] {
        let chosen = choose(&image(other), &new, &owned, &[]);
        assert_eq!(chosen, "ImageNotInHistory", "{other}");
    }
    // Nonsense is no image of anybody.
    for odd in [
        "/", "/x", ":", "@", "a@", "a:", "/:", ":/", "ü/ü:ü", "a:b:c", "host:/x",
    ] {
        let chosen = choose(&image(odd), &new, &owned, &[]);
        assert_eq!(chosen, "ImageNotInHistory", "{odd}");
    }
}

#[test]
fn case_26_a_version_is_that_of_the_pod_template() {
    let owned = sets([
        replica_set_of("old", "1", &labelled("x", "2.1.5")),
        replica_set_of("new", "2", &labelled("y", "2.2.0")),
    ]);
    for asked in ["2.1.5", "v2.1.5"] {
        let chosen = choose(&version(asked), &labelled("y", "2.2.0"), &owned, &[]);
        assert_eq!(chosen, "api-old", "{asked}");
    }
    // The label wins over the tag, and no prefix is enough.
    for asked in ["x", "2.1", "2.1.50", "v2.1.5-rc.1", ""] {
        let chosen = choose(&version(asked), &labelled("y", "2.2.0"), &owned, &[]);
        assert_eq!(chosen, "VersionNotInHistory", "{asked}");
    }
    let why = message(&version("9"), &labelled("y", "2.2.0"), &owned);
    assert!(why.contains("2.2.0, 2.1.5"), "{why}");
    let current = choose(&version("2.2.0"), &labelled("y", "2.2.0"), &owned, &[]);
    assert_eq!(current, "current version 2.2.0");
    // Without a label it is the tag of the one container.
    let tags = sets([replica_set("v1", "1"), replica_set("v2", "2")]);
    assert_eq!(
        choose(&version("v1"), &template("v2"), &tags, &[]),
        "api-v1"
    );
    assert_eq!(
        choose(&version("v2"), &template("v2"), &tags, &[]),
        "current version v2"
    );
    let two = containers(&[("api", "shop:1"), ("proxy", "envoy:7")]);
    let several = sets([replica_set_of("two", "1", &two), replica_set("v2", "2")]);
    assert_eq!(
        choose(&version("1"), &template("v2"), &several, &[]),
        "Ambiguous"
    );
}

/// A `ReplicaSet` of which only the metadata were read.
fn unread(version: &str, number: &str) -> Value {
    let mut set = replica_set(version, number);
    set.as_object_mut().unwrap().remove("spec");
    set
}

#[test]
fn what_was_not_read_matters_when_it_may_be_what_is_meant() {
    let current = template("v9");
    let newest_read = sets([
        replica_set("v9", "9"),
        replica_set("v8", "8"),
        unread("v7", "7"),
        unread("v6", "6"),
    ]);
    let name = |version: &str| {
        replica_set(version, "1")["metadata"]["name"]
            .as_str()
            .unwrap()
            .to_owned()
    };
    // Everything that is newer was read.
    assert_eq!(choose(&previous(), &current, &newest_read, &[]), name("v8"));
    assert_eq!(
        choose(&revision(8), &current, &newest_read, &[]),
        name("v8")
    );
    // The one before is in quarantine, and what is older is not known.
    assert_eq!(
        choose(&previous(), &current, &newest_read, &["v8"]),
        "TooLarge"
    );
    assert_eq!(
        choose(&revision(7), &current, &newest_read, &[]),
        "TooLarge"
    );
    // What is not there at all is not there.
    assert_eq!(
        choose(&revision(5), &current, &newest_read, &[]),
        "RevisionNotFound"
    );
    let version = |version: &str| To {
        version: Some(version.to_owned()),
        ..To::default()
    };
    assert_eq!(
        choose(&version("v8"), &current, &newest_read, &[]),
        name("v8")
    );
    assert_eq!(
        choose(&version("v6"), &current, &newest_read, &[]),
        "TooLarge"
    );
    // A newer one that was too large to be read may be the one before.
    let hole = sets([
        replica_set("v9", "9"),
        unread("v8", "8"),
        replica_set("v7", "7"),
    ]);
    assert_eq!(choose(&previous(), &current, &hole, &[]), "TooLarge");
    assert_eq!(choose(&revision(7), &current, &hole, &[]), name("v7"));
    let said = message(&previous(), &current, &hole);
    for part in ["1 ReplicaSets", &name("v8"), "by its number"] {
        assert!(said.contains(part), "{part}: {said}");
    }
}

#[test]
fn a_good_version_that_was_not_read_is_not_passed_over() {
    let owned = sets([
        replica_set("v9", "9"),
        unread("v8", "8"),
        replica_set("v7", "7"),
    ]);
    let good = [digest("v8"), digest("v7")];
    let to = To::last_known_good();
    let current = Template::of(&template("v9"));
    let wish = Wish {
        good: &good,
        ..wish(&to, &current, &[])
    };
    let history = History::of(DEPLOYMENT, &owned, &[]);
    let Choice::None(reason, _) = history.choose(wish) else {
        panic!("an older one was chosen");
    };
    assert_eq!(reason, Reason::TooLarge);
}

/// A version that was undone and came again has gone back to nothing, and stays undone.
#[test]
fn g1_what_was_undone_and_came_again_undoes_nothing() {
    let undone = |owned: &[Value]| -> Vec<String> {
        let history = History::of(DEPLOYMENT, &sets(owned.to_vec()), &[]);
        let undone = history.undone(&[]);
        ["v0", "v1", "v2", "v3"]
            .into_iter()
            .filter(|version| undone.contains(&digest(version)))
            .map(str::to_owned)
            .collect()
    };
    let v0 = replica_set("v0", "1");
    // Undone by a person.
    let back = [
        v0.clone(),
        renumbered("v1", "4", "2"),
        replica_set("v2", "3"),
    ];
    assert_eq!(undone(&back), ["v2"]);
    // And applied again.
    let again = [
        v0.clone(),
        renumbered("v1", "4", "2"),
        renumbered("v2", "5", "3"),
    ];
    assert_eq!(undone(&again), ["v2"]);
    // And undone again, more than once.
    let twice = [
        v0.clone(),
        renumbered("v1", "6", "2,4"),
        renumbered("v2", "5", "3"),
    ];
    assert_eq!(undone(&twice), ["v2"]);
    let thrice = [
        v0.clone(),
        renumbered("v1", "8", "2,4,6"),
        renumbered("v2", "7", "3,5"),
    ];
    assert_eq!(undone(&thrice), ["v2"]);
    // Who went back to what came again and stayed means it.
    let stayed = [
        renumbered("v1", "3", "1"),
        renumbered("v2", "6", "2,4"),
        replica_set("v3", "5"),
    ];
    assert_eq!(undone(&stayed), ["v3"]);
}
