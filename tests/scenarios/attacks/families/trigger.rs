//! What comes by itself goes back and chooses nothing; an image that never ran is for who may patch; names are not taken
//! beforehand.

use serde_json::{Value, json};

use crate::attack::{APPLY, Expect, Family, POST, Thing};
use crate::fire::merged;
use crate::people::{ADMIN, NARROW, OWNER, RECEIVER, REQUESTER, ROBOT};

const POLICY: &str = "rollback-guard-create";
const NEW: &[Thing] = &[Thing::NewRequest];
const BAD: &str = "registry.broxiva.example/api:v2";
const EVIL: &str = "evil.example/miner:1";

/// A request about `api`, which goes there.
fn to(to: &Value) -> Value {
    json!({"spec": {"targets": [{"name": "api", "from": {"image": BAD}, "to": to}]}})
}

/// The same, which came by itself.
fn by_itself(there: &Value) -> Value {
    let trigger = json!({"source": "alertmanager", "alert": "Down", "id": "1", "startedAt": "2026-11-28T10:00:00Z"});
    merged(&to(there), &json!({"spec": {"trigger": trigger}}))
}

/// A request that came by itself and goes back, with this besides.
fn and(spec: &Value) -> Value {
    merged(&by_itself(&json!({"previous": {}})), &json!({"spec": spec}))
}

fn without_from() -> Value {
    and(&json!({"targets": [{"name": "api", "to": {"previous": {}}}]}))
}

/// Two Deployments, the second of which goes there.
fn second(there: &Value) -> Value {
    and(&json!({"targets": [
        {"name": "api", "from": {"image": BAD}, "to": {"previous": {}}},
        {"name": "web", "from": {"image": BAD}, "to": there},
    ]}))
}

fn new_image() -> Value {
    json!({"image": {"image": EVIL, "allowNew": true}})
}

/// Whoever may trigger: with or without the right to patch Deployments.
pub fn going_back() -> Family {
    let beyond = Expect::Guard(
        POLICY,
        "and asks for nothing else, because no person has looked at it",
    );
    let to_where = Expect::Guard(POLICY, "Change or leave out: to of api.");
    let from = Expect::Guard(POLICY, "Change or leave out: from of api.");
    let one = Expect::Schema("exactly one of previous");
    let back = json!({"previous": {}});
    let good = json!({"lastKnownGood": {}});
    Family {
        name: "by-itself",
        attacks: rows! {
            "to a new image", &[RECEIVER, OWNER, ADMIN], &[POST, POST.dry()], NEW, by_itself(&new_image()), to_where;
            "to an image", &[RECEIVER, OWNER], &[POST], NEW, by_itself(&json!({"image": {"image": EVIL}})), to_where;
            "to a revision", &[RECEIVER, OWNER, ADMIN], &[POST, POST.dry()], NEW, by_itself(&json!({"revision": 1})), to_where;
            "to a version", &[RECEIVER, OWNER], &[POST], NEW, by_itself(&json!({"version": "v1"})), to_where;
            "to a backup", &[RECEIVER, OWNER], &[POST], NEW, by_itself(&json!({"backup": "rollback-backup-0123456789abcdef"})), to_where;
            "to nothing", &[RECEIVER, OWNER], &[POST], NEW, by_itself(&json!({})), one;
            "to two things", &[RECEIVER, OWNER], &[POST], NEW, by_itself(&merged(&back, &new_image())), one;
            "the second to a new image", &[RECEIVER, OWNER], &[POST], NEW, second(&new_image()), beyond;
            "with checks", &[RECEIVER, OWNER], &[POST], NEW, and(&json!({"verification": {"soakSeconds": 0}})), beyond;
            "with a rollout", &[RECEIVER, OWNER], &[POST], NEW, and(&json!({"rollout": {"onFailure": "Restore"}})), beyond;
            "a dry run", &[RECEIVER, OWNER], &[POST], NEW, and(&json!({"dryRun": true})), beyond;
            "without from, by who may patch", &[OWNER, ADMIN], &[POST, APPLY], NEW, without_from(), from;
        },
        twins: twins! {
            "to the previous", &[RECEIVER, OWNER, ADMIN], &[POST], NEW, by_itself(&back);
            "to the previous, applied", &[OWNER, ADMIN], &[APPLY], NEW, by_itself(&back);
            "to the last good", &[RECEIVER, OWNER, ADMIN], &[POST], NEW, by_itself(&good);
            "several back", &[RECEIVER, OWNER], &[POST], NEW, second(&good);
            "no dry run", &[RECEIVER], &[POST], NEW, and(&json!({"dryRun": false}));
            "to a revision by a person", &[REQUESTER], &[POST, APPLY], NEW, to(&json!({"revision": 1}));
            "with checks by a person", &[REQUESTER], &[POST], NEW, json!({"spec": {"verification": {"soakSeconds": 0}}});
        },
    }
}

/// An image that no revision has is another program.
pub fn new_images() -> Family {
    let unseen = Expect::Guard(POLICY, "An image that no revision has is another program");
    let found = |how: Value| {
        let target = json!({"from": {"image": BAD}, "to": new_image()});
        json!({"spec": {"targets": [merged(&target, &how)]}})
    };
    let web = found(json!({"name": "web"}));
    Family {
        name: "new-image",
        attacks: rows! {
            "by who only triggers", &[RECEIVER], &[POST, POST.dry()], NEW, to(&new_image()), unseen;
            "by selector", &[RECEIVER], &[POST], NEW, found(json!({"selector": {"matchLabels": {"app": "web"}}})), unseen;
            "by prefix", &[RECEIVER], &[POST], NEW, found(json!({"namePrefix": "we"})), unseen;
        },
        twins: twins! {
            "one that ran, by who only triggers", &[RECEIVER], &[POST], NEW, to(&json!({"image": {"image": EVIL}}));
            "not a new one, by who only triggers", &[RECEIVER], &[POST], NEW, to(&json!({"image": {"image": EVIL, "allowNew": false}}));
            "by who may patch", &[REQUESTER, OWNER], &[POST, APPLY], NEW, to(&new_image());
            "by who may patch that one", &[NARROW], &[POST, APPLY], NEW, web;
        },
    }
}

fn named(name: &str) -> Value {
    json!({"metadata": {"name": name}})
}

fn generated(beginning: &str) -> Value {
    json!({"metadata": {"name": null, "generateName": beginning}})
}

/// By its name the receiver and the watch know what they have asked for.
pub fn names() -> Family {
    let taken = Expect::Guard(
        POLICY,
        "are for requests that come by themselves: by such a name",
    );
    let machine = Expect::Guard(
        POLICY,
        "spec.trigger is for requests that come by themselves, and",
    );
    let name = "auto-api-0123456789ab";
    let long = format!("auto-{}-0123456789ab", "x".repeat(200));
    let dry = json!({"spec": {"dryRun": true}});
    let back = by_itself(&json!({"previous": {}}));
    let of_receiver = to(&json!({"previous": {}}));
    Family {
        name: "names",
        attacks: rows! {
            "taken beforehand", &[REQUESTER, ROBOT, OWNER, ADMIN], &[POST, APPLY, POST.dry()], NEW, named(name), taken;
            "a long one", &[REQUESTER], &[POST], NEW, named(&long), taken;
            "for a dry run", &[REQUESTER], &[POST], NEW, merged(&named(name), &dry), taken;
            "by the receiver, without the alert", &[RECEIVER], &[POST], NEW, merged(&of_receiver, &named(name)), taken;
            "as if it came by itself", &[REQUESTER, ROBOT], &[POST], NEW, merged(&back, &named(name)), machine;
            "generated", &[REQUESTER, ROBOT], &[POST], NEW, generated("auto-api-0123456"), taken;
            "generated from less", &[REQUESTER], &[POST], NEW, generated("auto-api-0"), taken;
        },
        twins: twins! {
            "by itself", &[RECEIVER, OWNER, ADMIN], &[POST], NEW, merged(&back, &named(name));
            "by itself, generated", &[RECEIVER], &[POST], NEW, merged(&back, &generated("auto-api-0123456"));
            "another name", &[REQUESTER, ROBOT, OWNER, ADMIN], &[POST, APPLY], NEW, named("auto-api-rollback");
            "without a Deployment in it", &[REQUESTER], &[POST], NEW, named("auto-0123456789ab");
            "another beginning", &[REQUESTER], &[POST], NEW, named("autoscaler-api-0123456789ab");
            "another length", &[REQUESTER], &[POST], NEW, named("auto-api-0123456789abc");
            "another name generated", &[REQUESTER, ROBOT], &[POST], NEW, generated("auto-api-rollback-");
        },
    }
}
