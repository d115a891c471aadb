use rollback_api::request::Category;
use rollback_receiver::intake::Format;

use super::*;

const GOOD: &str = "
sources:
- name: alertmanager
  format: alertmanager
  auth: {bearer: {usernames: ['system:serviceaccount:monitoring:alertmanager']}}
  namespaces: [shop]
";

fn fault(text: &str) -> String {
    File::parse(text, true).unwrap_err().to_string()
}

/// The file of the example in `deploy/` is one, and what it leaves out has the meaning that docs/alerts.md says.
#[test]
fn what_is_left_out_has_a_meaning() {
    let manifest = include_str!("../../../../deploy/40-receiver.yaml");
    let documents: Vec<serde_json::Value> = serde_saphyr::from_multiple(manifest).unwrap();
    let example = documents[0]["data"]["receiver.yaml"].as_str().unwrap();
    for text in [GOOD, example] {
        let file = File::parse(text, true).unwrap();
        let [source] = file.sources.as_slice() else {
            panic!("not one source in {text}");
        };
        assert_eq!(source.format, Format::Alertmanager);
        assert_eq!(source.to, Where::LastKnownGood);
        assert_eq!(source.category.default, Category::ErrorRate);
        assert_eq!((source.per_minute, source.urgency), (60, None));
        assert!(source.mapping.is_empty() && source.category.rules.is_empty());
    }
}

#[test]
fn a_fault_is_told_by_the_name_of_the_field() {
    let with = |from: &str, to: &str| fault(&GOOD.replace(from, to));
    let extra = |line: &str| fault(&format!("{GOOD}  {line}\n"));
    for (fault, part) in [
        (fault("sources: []"), "sources: name at least one"),
        (fault("source: []"), "source"),
        (
            with("name: alertmanager\n", "name: Alert_Manager\n"),
            "sources[0].name",
        ),
        (
            with("name: alertmanager\n", "name: controller\n"),
            "controller's own watch",
        ),
        (
            with("format: alertmanager", "format: nagios"),
            "sources[0].format: ",
        ),
        (with("[shop]", "[Shop]"), "sources[0].namespaces[0]"),
        (with("[shop]", "['*', shop]"), "sources[0].namespaces[0]"),
        (
            with(
                "bearer: {usernames: ['system:serviceaccount:monitoring:alertmanager']}",
                "bearer: {usernames: []}",
            ),
            "sources[0].auth.bearer.usernames",
        ),
        (
            with("bearer: {usernames", "sns: {topics"),
            "sources[0].auth.sns",
        ),
        (
            with(
                "bearer: {usernames: ['system:serviceaccount:monitoring:alertmanager']}",
                "hmac: {secretFiles: [/x]}",
            ),
            "signs nothing",
        ),
        (extra("perMinute: 0"), "sources[0].perMinute"),
        (extra("perminute: 1"), "perminute"),
        (
            extra("mapping: [{labels: {}, namespace: shop, deployment: api}]"),
            "sources[0].mapping[0].labels",
        ),
        (
            extra("mapping: [{labels: {a: b}, namespace: 'a.b', deployment: api}]"),
            "sources[0].mapping[0].namespace",
        ),
        (
            extra("mapping: [{labels: {a: b}, namespace: shop, deployment: API}]"),
            "sources[0].mapping[0].deployment",
        ),
        (
            extra("category: {rules: [{category: Latency}]}"),
            "sources[0].category.rules[0]",
        ),
        (extra("to: {revision: 3}"), "sources[0].to: "),
    ] {
        assert!(fault.contains(part), "{fault:?} does not say {part:?}");
    }
    let twice = GOOD.replace("sources:\n", "");
    assert!(fault(&format!("{GOOD}{twice}")).contains("sources[1].name"));
}

/// Somebody who writes a secret into the file by mistake does not find it in the log as well.
#[test]
fn a_fault_does_not_repeat_what_stands_there() {
    for line in [
        "password: hunter2",
        "auth: {basic: {username: a, password: hunter2}}",
        "secret: 'hunter2",
    ] {
        let fault = fault(&format!("{GOOD}  {line}\n"));
        assert!(!fault.contains("hunter2"), "{fault}");
    }
}

#[test]
fn client_certificates_need_tls() {
    let text = GOOD.replace(
        "bearer: {usernames: ['system:serviceaccount:monitoring:alertmanager']}",
        "mtls: {caFile: /dev/null, subjects: [a]}",
    );
    let fault = File::parse(&text, false).unwrap_err().to_string();
    assert!(
        fault.contains("sources[0].auth.mtls") && fault.contains("--tls-cert"),
        "{fault}"
    );
}

#[test]
fn an_unknown_format_is_answered_by_those_that_there_are() {
    let fault = fault(&GOOD.replace("format: alertmanager", "format: nagios"));
    let names = Format::ALL.map(Format::name);
    let expected = format!(
        "unknown variant `nagios`, expected one of {}",
        names.join(", ")
    );
    assert!(
        fault.contains(&expected),
        "{fault:?} does not say {expected:?}"
    );
}

/// Who signs nothing is not asked for a signature, and whose signature is Amazon's for nothing else.
#[test]
fn a_format_is_authenticated_as_its_sender_can() {
    let bearer = "bearer: {usernames: [a]}";
    let hmac = format!(
        "hmac: {{secretFiles: [{}/Cargo.toml]}}",
        env!("CARGO_MANIFEST_DIR")
    );
    let chosen = hmac.replace("]}", "], signatureHeader: X-A, timestampHeader: X-B}");
    let sns = "sns: {topics: [a]}";
    for format in Format::ALL {
        let fits = |auth: &str| {
            let text = GOOD
                .replace("format: alertmanager", &format!("format: {format}"))
                .replace(
                    "bearer: {usernames: ['system:serviceaccount:monitoring:alertmanager']}",
                    auth,
                );
            File::parse(&text, true).is_ok()
        };
        let fits = [bearer, &hmac, &chosen, sns].map(fits);
        let expected = match format {
            Format::Alertmanager | Format::Datadog => [true, false, false, false],
            Format::PagerDuty | Format::Sentry | Format::Flux | Format::Generic => {
                [true, true, false, false]
            }
            Format::Grafana => [true, true, true, false],
            Format::Sns => [false, false, false, true],
        };
        assert_eq!(fits, expected, "{format}");
    }
}
