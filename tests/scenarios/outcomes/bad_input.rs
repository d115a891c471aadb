//! Malformed requests, and what a tired person is told about each.
//!
//! The messages are kept in `messages.txt`, to be read as the help that they are. After a change on
//! purpose: `UPDATE_MESSAGES=1 cargo test -p rollback-controller --test outcomes messages`.

use std::fmt::Write as _;

use anyhow::{Context as _, Result, bail, ensure};
use kube::api::PostParams;
use kube::core::Request;
use kube::{Client, Resource as _};
use rollback_api::{APPROVED_BY, CONFIRM, PLAN, RollbackRequest};
use serde_json::{Value, json};
use testkit::scene::request;
use testkit::{Scene, User};

use crate::expect::scene;

const GOLDEN: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../../tests/scenarios/outcomes/messages.txt"
);

/// A good request, spoilt in one place.
struct Case {
    /// What is wrong with it.
    title: &'static str,
    /// A JSON pointer to the place.
    place: &'static str,
    /// What stands there; null takes it away.
    value: Value,
    /// The field that the message has to name.
    field: &'static str,
}

fn case(title: &'static str, place: &'static str, value: Value, field: &'static str) -> Case {
    Case {
        title,
        place,
        value,
        field,
    }
}

/// Those that the API server refuses.
fn refused_at_admission() -> Vec<Case> {
    [bad_targets(), bad_ways(), bad_rest()]
        .into_iter()
        .flatten()
        .collect()
}

fn bad_targets() -> Vec<Case> {
    let previous = || json!({"previous": {}});
    let target = "/spec/targets/0";
    let name = "/spec/targets/0/name";
    vec![
        case("no targets", "/spec/targets", json!([]), "spec.targets"),
        case(
            "targets missing",
            "/spec/targets",
            Value::Null,
            "spec.targets",
        ),
        case(
            "a target without a name",
            target,
            json!({"to": previous()}),
            "name",
        ),
        case(
            "two ways to name a target",
            target,
            json!({"name": "api", "namePrefix": "ap", "to": previous()}),
            "name",
        ),
        case("to missing", target, json!({"name": "api"}), "to"),
        case(
            "kind StatefulSet",
            target,
            json!({"kind": "StatefulSet", "name": "db", "to": previous()}),
            "kind",
        ),
        case("a name in capitals", name, json!("Broxiva-API"), "name"),
        case("a name with a slash", name, json!("deployment/api"), "name"),
        case(
            "a name that is too long",
            name,
            json!("a".repeat(300)),
            "name",
        ),
        case(
            "matchLabels empty",
            target,
            json!({"selector": {"matchLabels": {}}, "to": previous()}),
            "matchLabels",
        ),
    ]
}

/// From where, to where.
fn bad_ways() -> Vec<Case> {
    let to = "/spec/targets/0/to";
    let from = "/spec/targets/0/from";
    vec![
        case("to empty", to, json!({}), "to"),
        case(
            "two ways in to",
            to,
            json!({"previous": {}, "revision": 3}),
            "to",
        ),
        case("previous: null", to, json!({"previous": null}), "to"),
        case("revision 0", to, json!({"revision": 0}), "to.revision"),
        case("revision -1", to, json!({"revision": -1}), "to.revision"),
        case(
            "a huge revision",
            to,
            json!({"revision": i64::MAX}),
            "to.revision",
        ),
        case(
            "revision in quotes",
            to,
            json!({"revision": "3"}),
            "to.revision",
        ),
        case("an unknown way in to", to, json!({"newest": {}}), "to"),
        case("from empty", from, json!({}), "from"),
        case(
            "from by two ways",
            from,
            json!({"image": "api:v2", "templateDigest": format!("sha256:{}", "a".repeat(64))}),
            "from",
        ),
        case(
            "a templateDigest that is not one",
            from,
            json!({"templateDigest": "sha256:nothex"}),
            "templateDigest",
        ),
    ]
}

fn bad_rest() -> Vec<Case> {
    let reason = "/spec/reason";
    vec![
        case("reason missing", reason, Value::Null, "spec.reason"),
        case(
            "an unknown category",
            "/spec/reason/category",
            json!("Sadness"),
            "category",
        ),
        case(
            "summary empty",
            "/spec/reason/summary",
            json!(""),
            "summary",
        ),
        case(
            "summary too long",
            "/spec/reason/summary",
            json!("x".repeat(501)),
            "summary",
        ),
        case(
            "incidentUrl that is a script",
            "/spec/reason/incidentUrl",
            json!("javascript:alert(1)"),
            "incidentUrl",
        ),
        case(
            "notAfter that is no time",
            "/spec/notAfter",
            json!("tomorrow"),
            "notAfter",
        ),
        case(
            "an unknown urgency",
            "/spec/urgency",
            json!("ASAP"),
            "urgency",
        ),
        case(
            "an unknown field",
            "/spec/target",
            json!("api"),
            "spec.target",
        ),
        case(
            "born approved",
            "/metadata/annotations",
            json!({APPROVED_BY: User::Approver.as_str(), CONFIRM: "ROLLBACK PRODUCTION", PLAN: "x"}),
            "metadata.annotations",
        ),
        case(
            "a Deployment that one may not patch",
            "/asked-by",
            json!("outsider"),
            "api",
        ),
    ]
}

/// Those that only the controller can judge.
fn refused_by_the_controller() -> Vec<Case> {
    let to = "/spec/targets/0/to";
    vec![
        case(
            "a revision that never was",
            to,
            json!({"revision": i32::MAX}),
            "to.revision",
        ),
        case(
            "a version that never ran",
            to,
            json!({"version": "v9"}),
            "to.version",
        ),
        case(
            "an image that never ran",
            to,
            json!({"image": {"image": "api:v9"}}),
            "to.image",
        ),
        case("lastKnownGood", to, json!({"lastKnownGood": {}}), "to"),
        case(
            "two targets",
            "/spec/targets",
            json!([{"name": "api", "to": {"previous": {}}}, {"name": "web", "to": {"previous": {}}}]),
            "spec.targets",
        ),
        case(
            "a selector",
            "/spec/targets/0",
            json!({"selector": {"matchLabels": {"app": "api"}}, "to": {"previous": {}}}),
            "spec.targets[0]",
        ),
        case(
            "a Deployment that is not there",
            "/spec/targets/0/name",
            json!("apu"),
            "spec.targets[0].name",
        ),
        case(
            "notAfter in the past",
            "/spec/notAfter",
            json!("2020-01-01T00:00:00Z"),
            "spec.notAfter",
        ),
        case(
            "category Feature",
            "/spec/reason/category",
            json!("Feature"),
            "category",
        ),
    ]
}

impl Case {
    fn request(&self, name: &str) -> Result<Value> {
        let targets = json!([{"name": "api", "to": {"previous": {}}}]);
        let mut request = request(name, targets);
        let (parent, key) = self.place.rsplit_once('/').context("no parent")?;
        let parent = request.pointer_mut(parent).context("no such place")?;
        if let Some(list) = parent.as_array_mut() {
            list[0] = self.value.clone();
        } else if let Some(map) = parent.as_object_mut() {
            if self.value.is_null() {
                map.remove(key);
            } else if !key.contains('-') {
                map.insert(key.to_owned(), self.value.clone());
            }
        }
        Ok(request)
    }

    fn user(&self) -> User {
        if self.place == "/asked-by" {
            User::Outsider
        } else {
            User::Requester
        }
    }
}

/// Creates a request as kubectl does, which wants to hear of unknown fields.
pub async fn create(client: &Client, namespace: &str, request: &Value) -> Result<(u16, String)> {
    let url = RollbackRequest::url_path(&(), Some(namespace));
    let body = serde_json::to_vec(request)?;
    let mut http = Request::new(url).create(&PostParams::default(), body)?;
    let strict = format!("{}&fieldValidation=Strict", http.uri());
    *http.uri_mut() = strict.parse()?;
    match client.request::<Value>(http).await {
        Ok(_) => Ok((201, String::new())),
        Err(kube::Error::Api(status)) => Ok((status.code, status.message.clone())),
        Err(error) => Err(error.into()),
    }
}

/// The names that differ from run to run, and lines that fit a screen.
fn normal(scene: &Scene, message: &str) -> String {
    let mut text = String::new();
    let mut width = 0;
    for state in message.replace(scene.ns(), "shop").split(' ') {
        let state = match state.len() {
            200.. => "<the whole value>",
            _ => state,
        };
        if width > 0 && width + state.len() > 110 {
            text.push_str("\n   ");
            width = 0;
        }
        text.push(' ');
        text.push_str(state);
        width += state.len() + 1;
    }
    format!("   {text}")
}

#[tokio::test]
async fn the_messages_help() -> Result<()> {
    let scene = scene("bad-input").await?;
    scene.two_versions("api").await?;
    let before = scene.deployment("api").await?;
    crate::people::grant(&scene, "rollback-requester", &[User::Outsider]).await?;
    let may_create = "create rollbackrequests.rollback.broxiva.com";
    crate::people::wait_until_may(&scene, User::Outsider.as_str(), may_create, true).await?;

    let mut page = String::from(
        "What is said about a malformed request. The first part comes from the API server, before anything is stored;\n\
         the second from the controller, in the Ready condition.\n",
    );
    for case in refused_at_admission() {
        let client = scene.client(case.user()).await?;
        let (code, message) = create(&client, scene.ns(), &case.request("bad")?).await?;
        ensure!(
            [400, 403, 422].contains(&code),
            "{}: HTTP {code} {message}",
            case.title
        );
        ensure!(
            message.contains(case.field),
            "{}: {} is not in {message}",
            case.title,
            case.field
        );
        write!(
            page,
            "\n{} (HTTP {code})\n{}\n",
            case.title,
            normal(&scene, &message)
        )?;
    }
    let late = refused_by_the_controller();
    let client = scene.client(User::Requester).await?;
    for (number, case) in late.iter().enumerate() {
        let request = case.request(&format!("bad-{number}"))?;
        let (code, message) = create(&client, scene.ns(), &request).await?;
        ensure!(code == 201, "{}: HTTP {code} {message}", case.title);
    }
    for (number, case) in late.iter().enumerate() {
        let (_, outcome) = scene.wait_for_end(&format!("bad-{number}")).await?;
        let message = &outcome.message;
        ensure!(
            message.contains(case.field),
            "{}: {} is not in {message}",
            case.title,
            case.field
        );
        write!(
            page,
            "\n{} ({}, {})\n{}\n",
            case.title,
            outcome.result.as_str(),
            outcome.reason.as_str(),
            normal(&scene, message)
        )?;
    }
    ensure!(scene.deployment("api").await? == before, "it was touched");
    compare(&page)
}

fn compare(page: &str) -> Result<()> {
    if std::env::var_os("UPDATE_MESSAGES").is_some() {
        std::fs::write(GOLDEN, page)?;
        return Ok(());
    }
    let known = std::fs::read_to_string(GOLDEN).context("no messages.txt")?;
    for (number, (now, then)) in page.lines().zip(known.lines()).enumerate() {
        if now != then {
            bail!(
                "messages.txt, line {}:\n  was {then}\n  is  {now}",
                number + 1
            );
        }
    }
    ensure!(page == known, "messages.txt is longer or shorter");
    Ok(())
}
