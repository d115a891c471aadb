//! Commands that people are told to type, with whatever somebody could have put into them, through a real shell: each
//! program gets what was meant, and nothing else runs.

// Each file of tests uses a part of it.
#[allow(dead_code)]
#[path = "../../../testkit/src/shell.rs"]
mod shell;

use std::path::Path;

use crate::world::{Scene, at, deployment};
use rollback_api::policy::ChecklistItem;
use rollback_api::status::{DataRisk, Plan};
use rollback_api::{
    ACCEPT_DATA_RISK, APPROVED_BY, APPROVER_GROUPS, CHECKLIST, CONFIRM, PLAN, REVIEWED_BY,
    RollbackRequest,
};
use rollback_core::approval::{Mailbox, how_to_approve, read};
use rollback_core::execution::phase::Phase;
use rollback_core::observed::Deployment;
use rollback_core::plan::owner::{Owner, pause_command};
use serde_json::{Value, json};
use shell::{HOSTILE, Shell, cut, settings};

fn shell(name: &str) -> Shell {
    Shell::new(Path::new(env!("CARGO_TARGET_TMPDIR")).join(name)).unwrap()
}

/// The command in this text that begins with this word calls this program with these arguments, and nothing else.
#[track_caller]
fn calls(shell: &Shell, text: &str, expected: &[&str]) {
    let begin = text.find(&format!("{} {}", expected[0], expected[1]));
    let begin = begin.unwrap_or_else(|| panic!("no such command in {text:?}"));
    let command = cut(&text[begin..], expected.len());
    let called = shell.run(command).unwrap();
    assert_eq!(called, [expected], "{command:?} in {text:?}");
}

/// A plan that was stored before phrases had to be harmless.
fn planned() -> (Scene, Plan) {
    let mut scene = Scene::default();
    scene.until(Phase::AwaitingApproval);
    let mut plan = scene.status().plan.unwrap();
    plan.data_risk = Some(DataRisk {
        message: "x".to_owned(),
    });
    (scene, plan)
}

fn item(name: &str) -> ChecklistItem {
    ChecklistItem {
        name: name.to_owned(),
        text: name.to_owned(),
    }
}

#[test]
fn how_to_approve_is_one_command_whatever_the_plan_says() {
    let shell = shell("how-to-approve");
    let (scene, mut plan) = planned();
    for value in HOSTILE {
        plan.rules.approvals.confirm_phrase = Some(value.to_owned());
        plan.rules.approvals.checklist = Some(vec![item(value), item("told")]);
        plan.digest = value.to_owned();
        let set = |key: &str, value: &str| format!("{key}={value}");
        let expected = [
            "kubectl".to_owned(),
            "annotate".to_owned(),
            "rbr".to_owned(),
            "api-5xx".to_owned(),
            set(APPROVED_BY, "YOUR-USER-NAME"),
            set(CONFIRM, value),
            set(PLAN, value),
            set(CHECKLIST, &format!("{value},told")),
            set(ACCEPT_DATA_RISK, "WHY-IT-IS-ACCEPTABLE"),
            "--overwrite".to_owned(),
        ];
        let told = how_to_approve(&scene.request, &plan, false);
        let expected: Vec<&str> = expected.iter().map(String::as_str).collect();
        calls(&shell, &told, &expected);
        assert_eq!(cut(&told, expected.len()), told, "nothing stands behind it");
        // Where the API server does not write the groups, the command asks for them, and is the same besides.
        let typed = how_to_approve(&scene.request, &plan, true);
        let (before, rest) = typed
            .split_once(" rollback.broxiva.com/approver-groups=\"$(")
            .unwrap();
        let (ask, after) = rest.split_once(")\"").unwrap();
        assert_eq!(format!("{before}{after}"), told);
        assert!(ask.starts_with("kubectl auth whoami "), "{ask}");
    }
}

#[test]
fn a_name_that_cannot_be_one_is_not_printed() {
    let shell = shell("names");
    let (mut scene, plan) = planned();
    for value in HOSTILE {
        scene.request.metadata.name = Some(value.to_owned());
        let told = how_to_approve(&scene.request, &plan, false);
        calls(&shell, &told, &["kubectl", "annotate", "rbr", "REQUEST"]);
    }
}

/// What is said of an approval that does not count, for each thing that can be missing.
#[test]
fn what_is_missing_is_said_in_words_for_a_shell() {
    let shell = shell("missing");
    let (scene, mut plan) = planned();
    plan.data_risk = None;
    for value in HOSTILE {
        plan.rules.approvals.confirm_phrase = Some(value.to_owned());
        plan.rules.approvals.checklist = Some(vec![item(value)]);
        let all = [
            (APPROVED_BY, "anna@broxiva.example"),
            (APPROVER_GROUPS, "broxiva:leads"),
            (PLAN, plan.digest.as_str()),
            (CONFIRM, value),
            (CHECKLIST, value),
        ];
        for (key, meant) in [
            (PLAN, plan.digest.as_str()),
            (CONFIRM, value),
            (CHECKLIST, value),
        ] {
            let mut request: RollbackRequest = scene.request.clone();
            let annotations = request.metadata.annotations.get_or_insert_default();
            for (other, value) in all.iter().filter(|(other, _)| *other != key) {
                annotations.insert((*other).to_owned(), (*value).to_owned());
            }
            let Mailbox::Invalid(objection) = read(&request, &plan, &[], at(10)) else {
                panic!("{key} is missing");
            };
            let shown = settings(&objection);
            let shown = shown.last().unwrap_or_else(|| panic!("{objection}"));
            let called = shell
                .run(&format!("kubectl annotate rbr api-5xx {shown}"))
                .unwrap();
            let expected = [
                "kubectl",
                "annotate",
                "rbr",
                "api-5xx",
                &format!("{key}={meant}"),
            ];
            assert_eq!(called, [expected], "{objection}");
        }
    }
}

/// A policy that was stored before phrases had to be harmless: the phrase that is built in holds.
#[test]
fn a_phrase_that_no_policy_may_have_is_that_of_the_environment() {
    let shell = shell("phrases");
    let approvals =
        |phrase: &str| json!({"approvals": {"confirmPhrase": phrase, "fourEyes": false}});
    let told = |phrase: &str| {
        let mut scene = Scene::default().with_policy(approvals(phrase));
        scene.settle();
        let plan = scene.status().plan.unwrap();
        let conditions = scene.status().conditions;
        let text = conditions
            .iter()
            .map(|condition| condition.message.clone())
            .find(|message| message.contains("kubectl annotate"))
            .expect("it is said how to approve");
        (plan.rules.confirm_phrase().to_owned(), text)
    };
    for value in HOSTILE.into_iter().chain(["", " ", "a ", " a", "JÁ", "x!"]) {
        let (phrase, text) = told(value);
        assert_eq!(phrase, "ROLLBACK PRODUCTION", "{value:?}");
        let by = format!("{APPROVED_BY}=YOUR-USER-NAME");
        let confirm = format!("{CONFIRM}=ROLLBACK PRODUCTION");
        calls(
            &shell,
            &text,
            &["kubectl", "annotate", "rbr", "api-5xx", &by, &confirm],
        );
    }
    for harmless in [
        "JA",
        "ROLLBACK THE SHOP",
        "roll back: shop/api v1.2_3-4",
        "x",
    ] {
        let (phrase, text) = told(harmless);
        assert_eq!(phrase, harmless);
        let by = format!("{APPROVED_BY}=YOUR-USER-NAME");
        let confirm = format!("{CONFIRM}={harmless}");
        calls(
            &shell,
            &text,
            &["kubectl", "annotate", "rbr", "api-5xx", &by, &confirm],
        );
    }
}

#[test]
fn an_owner_is_put_on_hold_and_nothing_else_happens() {
    let shell = shell("owners");
    let mut object = deployment("v1");
    for value in HOSTILE {
        object["metadata"]["name"] = json!(value);
        object["metadata"]["namespace"] = json!(value);
        let deployment = Deployment(object.clone());
        let told = |owner: Owner| pause_command(&owner, &deployment).unwrap();
        let argo = |namespace: Option<&str>| {
            told(Owner::ArgoCd {
                application: value.to_owned(),
                namespace: namespace.map(str::to_owned),
            })
        };
        let none = [
            "argocd",
            "app",
            "set",
            "APPLICATION",
            "--sync-policy",
            "none",
        ];
        calls(&shell, &argo(None), &none);
        let place = [
            "argocd",
            "app",
            "set",
            "NAMESPACE/APPLICATION",
            "--sync-policy",
            "none",
        ];
        calls(&shell, &argo(Some(value)), &place);
        let patch = [
            "kubectl",
            "patch",
            "applications.argoproj.io",
            "APPLICATION",
            "-n",
            "argocd",
            "--type",
            "merge",
            "-p",
        ];
        calls(&shell, &argo(None), &patch);
        let (namespace, name) = (value.to_owned(), value.to_owned());
        let release = told(Owner::FluxHelmRelease { namespace, name });
        let suspend = [
            "flux",
            "suspend",
            "helmrelease",
            "HELMRELEASE",
            "-n",
            "NAMESPACE",
        ];
        calls(&shell, &release, &suspend);
        let (namespace, name) = (value.to_owned(), value.to_owned());
        let kustomization = told(Owner::FluxKustomization { namespace, name });
        let disable = [
            "kubectl",
            "annotate",
            "deployment",
            "DEPLOYMENT",
            "-n",
            "NAMESPACE",
            "kustomize.toolkit.fluxcd.io/reconcile=disabled",
        ];
        calls(&shell, &kustomization, &disable);
    }
}

/// A person's name goes where the placeholder stands, inside the quotes that are there; a quote in it is written as the guard
/// writes it.
#[test]
fn a_name_may_hold_blanks() {
    let shell = shell("blanks");
    let (scene, plan) = planned();
    let told = how_to_approve(&scene.request, &plan, false);
    let name = "Anna Lead (oncall) $HOME <anna@broxiva.example>";
    let typed = told.replace("YOUR-USER-NAME", name);
    let by = format!("{APPROVED_BY}={name}");
    calls(
        &shell,
        &typed,
        &["kubectl", "annotate", "rbr", "api-5xx", &by],
    );
}

#[test]
fn the_reminder_names_the_request_and_nothing_else() {
    let shell = shell("reminder");
    let mut scene = Scene::default().rolled_out();
    scene.settle();
    let request = &mut scene.request;
    let told = |request: &RollbackRequest| {
        rollback_core::report::review::reminder(request, at(100_000_000)).map(|notice| notice.note)
    };
    let by = format!("{REVIEWED_BY}=YOUR-USER-NAME");
    let note = told(request).expect("there is an incident to review");
    calls(
        &shell,
        &note,
        &["kubectl", "annotate", "rbr", "api-5xx", "-n", "shop", &by],
    );
    for value in HOSTILE {
        request.metadata.name = Some(value.to_owned());
        request.metadata.namespace = Some(value.to_owned());
        let note = told(request).unwrap();
        let expected = [
            "kubectl",
            "annotate",
            "rbr",
            "REQUEST",
            "-n",
            "NAMESPACE",
            &by,
        ];
        calls(&shell, &note, &expected);
    }
}

/// Every text that ends a rollback, of a Deployment and a request whose names are no names.
#[test]
fn ends_and_refusals_name_only_names() {
    let shell = shell("ends");
    for value in HOSTILE {
        let mut object: Value = deployment("v1");
        object["metadata"]["name"] = json!(value);
        object["spec"]["paused"] = json!(true);
        let ending = rollback_core::plan::blocked(&Deployment(object), at(0)).unwrap();
        calls(
            &shell,
            &ending.text().replace("DEPLOYMENT,", "DEPLOYMENT"),
            &["kubectl", "rollout", "resume", "deployment/DEPLOYMENT"],
        );
    }
}
