//! Deliveries that are not taken.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::StatusCode;
use serde_json::{Value, json};

use super::stage::{Answered, PROGRAM, Stage, code, group, password, post};

fn bearer(stage: &Stage, account: &str) -> Value {
    let username = format!("system:serviceaccount:{}:{account}", stage.scene.ns());
    let auth = json!({"bearer": {"usernames": [username]}});
    stage.source("tokens", "alertmanager", auth)
}

/// Whoever is not known learns nothing, not even which sources there are.
#[tokio::test]
async fn who_is_not_known_learns_nothing() -> Result<()> {
    let mut stage = Stage::new("unknown").await?;
    let sources = [
        stage.basic("password", "alertmanager"),
        stage.signed("signed", "generic"),
        bearer(&stage, "alertmanager"),
    ];
    stage.start(&sources).await?;
    let receiver = stage.receiver()?;
    let body = group(&[stage.alert("HighErrorRate")]).to_string();
    let wrong = "Basic c2VuZGVyOndyb25n";
    let ours = password();
    let foreign = format!("sha256={}", code(&[b"another body"])?);
    let attempts: [(&str, &[(&str, &str)]); 9] = [
        ("nobody", &[("authorization", &ours)]),
        ("password", &[]),
        ("password", &[("authorization", wrong)]),
        ("password", &[("authorization", "Basic")]),
        ("password", &[("authorization", "Bearer a.b.c")]),
        ("signed", &[("authorization", &ours)]),
        ("signed", &[("x-signature", &foreign), ("x-timestamp", "1")]),
        ("tokens", &[("authorization", "Bearer a.b.c")]),
        ("tokens", &[("authorization", &ours)]),
    ];
    let mut first: Option<Answered> = None;
    for (source, headers) in attempts {
        let answer = post(&receiver.url(source), headers, body.clone()).await?;
        ensure!(
            answer.status == 401,
            "{source} with {headers:?}: {answer:?}"
        );
        let before = first.get_or_insert_with(|| Answered {
            status: answer.status,
            headers: answer.headers.clone(),
            body: answer.body.clone(),
        });
        let alike = |one: &Answered| {
            let mut headers = one.headers.clone();
            headers.remove("date");
            (headers, one.body.clone())
        };
        ensure!(alike(before) == alike(&answer), "{before:?} or {answer:?}");
    }
    ensure!(stage.requests().await?.is_empty(), "somebody was asked");
    Ok(())
}

/// A token that leads to the API server, or to somebody else, is of no use here; nor is one of somebody else.
#[tokio::test]
async fn a_token_has_to_be_for_us_and_of_the_sender() -> Result<()> {
    let mut stage = Stage::new("tokens").await?;
    let source = bearer(&stage, "alertmanager");
    stage.start(&[source]).await?;
    let url = stage.receiver()?.url("tokens");
    let body = group(&[stage.alert("HighErrorRate")]).to_string();
    let send = async |token: String| {
        let header = format!("Bearer {token}");
        post(&url, &[("authorization", &header)], body.clone()).await
    };
    let api_server = "https://kubernetes.default.svc.cluster.local";
    for (account, audience) in [
        ("alertmanager", "another-program"),
        ("alertmanager", api_server),
        ("somebody", "rollback-receiver"),
    ] {
        let token = stage.token(account, audience).await?;
        let answer = send(token).await?;
        ensure!(answer.status == 401, "{account} for {audience}: {answer:?}");
    }
    let token = stage.token("alertmanager", "rollback-receiver").await?;
    let (head, signature) = token.rsplit_once('.').unwrap_or_default();
    let reversed: String = signature.chars().rev().collect();
    ensure!(
        send(format!("{head}.{reversed}")).await?.status == 401,
        "a forged token counts"
    );
    send(token.clone()).await?.is("asked")?;
    send(token).await?.is("already-asked")
}

/// How often the receiver of this stage asked the API server about tokens: those of other stages have another token.
fn reviews(stage: &Stage) -> Result<usize> {
    let config = std::fs::read_to_string(&stage.kubeconfig)?;
    let own = config
        .split(|c: char| c.is_whitespace() || c == '"')
        .find(|state| state.starts_with("eyJ"))
        .context("no token in the kubeconfig")?;
    let claims = own.split('.').nth(1).context("no claims")?;
    let claims: Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(claims)?)?;
    let credential = format!("JTI={}", claims["jti"].as_str().unwrap_or_default());
    let audit = stage.scene.cluster.audit().context("no audit log")?;
    let events = audit.events_of_user("system:serviceaccount:rollback-system:rollback-receiver")?;
    let reviewed = events
        .iter()
        .filter(|event| event.resource == "tokenreviews" && event.credential == credential);
    Ok(reviewed.count())
}

/// Anybody can make up tokens that look right. The API server is not asked about them, and one that it has just made gets
/// through meanwhile, though nobody knows it yet.
#[tokio::test]
async fn made_up_tokens_do_not_keep_the_api_server_busy() -> Result<()> {
    let mut stage = Stage::new("strangers").await?;
    let source = bearer(&stage, "alertmanager");
    stage.start(&[source]).await?;
    let url = stage.receiver()?.url("tokens");
    let body = group(&[super::stage::over(stage.alert("Over"))]).to_string();
    let send = async |token: String| {
        let header = format!("Bearer {token}");
        post(&url, &[("authorization", &header)], body.clone()).await
    };
    let token = stage.token("alertmanager", "rollback-receiver").await?;
    send(token.clone()).await?.is("resolved")?;
    let (head, signature) = token.rsplit_once('.').unwrap_or_default();
    for number in 0..200 {
        let made_up = send(format!("{head}.{number:086}")).await?;
        ensure!(made_up.status == 401, "{number}: {made_up:?}");
    }
    // By a key that the cluster does not have: the keys are asked for again, and not each time.
    for number in 0..50 {
        let made_up = send(with_header(
            &token,
            &json!({"kid": format!("key-{number}")}),
        )?)
        .await?;
        let is_refused = made_up.status == 401 || made_up.status == 503;
        ensure!(is_refused, "{number}: {made_up:?}");
    }
    for header in [
        json!({"alg": "none"}),
        json!({"alg": "HS256"}),
        json!({"crit": ["exp"]}),
    ] {
        let made_up = send(with_header(&token, &header)?).await?;
        ensure!(made_up.status == 401, "{header}: {made_up:?}");
    }
    let (header, _) = head.split_once('.').unwrap_or_default();
    let claims = json!({
        "iss": "https://kubernetes.default.svc", "aud": ["rollback-receiver"], "exp": 4_102_444_800_i64,
        "sub": format!("system:serviceaccount:{}:alertmanager", stage.scene.ns()),
    });
    let claims = URL_SAFE_NO_PAD.encode(claims.to_string());
    let made_up = send(format!("{header}.{claims}.{signature}")).await?;
    ensure!(made_up.status == 401, "{made_up:?}");
    send(token).await?.is("resolved")?;
    let asked = reviews(&stage)?;
    ensure!(asked <= 1, "the API server was asked {asked} times");
    // As the kubelet does it: a new one, which nobody has seen.
    let rotated = stage.token("alertmanager", "rollback-receiver").await?;
    send(rotated).await?.is("resolved")?;
    testkit::eventually(
        "it is asked about that one",
        testkit::scene::PATIENCE,
        async || {
            let asked = reviews(&stage)?;
            ensure!(asked == 2, "the API server was asked {asked} times");
            Ok(())
        },
    )
    .await
}

/// The same token, with other words in its header.
fn with_header(token: &str, difference: &Value) -> Result<String> {
    let (header, rest) = token.split_once('.').context("no header")?;
    let mut header: Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(header)?)?;
    for (key, value) in difference.as_object().into_iter().flatten() {
        header[key] = value.clone();
    }
    Ok(format!(
        "{}.{rest}",
        URL_SAFE_NO_PAD.encode(header.to_string())
    ))
}

#[tokio::test]
async fn what_is_not_a_delivery_is_refused_with_a_reason() -> Result<()> {
    let mut stage = Stage::new("unreadable").await?;
    let source = stage.basic("prometheus", "alertmanager");
    stage.start(&[source]).await?;
    let url = stage.receiver()?.url("prometheus");
    let authorization = password();
    let known = ("authorization", authorization.as_str());
    let whole = group(&[stage.alert("HighErrorRate")]).to_string();
    let send = async |kind: &str, body: &str| {
        post(&url, &[known, ("content-type", kind)], body.to_owned()).await
    };
    let json = "application/json; charset=utf-8";
    for (kind, body, status) in [
        ("text/plain", &*whole, 415),
        ("application/x-www-form-urlencoded", &whole, 415),
        (json, &whole[..whole.len() - 1], 400),
        (json, "", 400),
        (json, "[]", 400),
        (json, r#"{"version":"3","alerts":[]}"#, 400),
        (json, "\u{feff}{}", 400),
    ] {
        let answer = send(kind, body).await?;
        let message = answer.body["message"].as_str().unwrap_or_default();
        ensure!(
            answer.status == status && message.len() > 10,
            "{kind}, {body}: {answer:?}"
        );
    }
    let client = reqwest::Client::builder().no_proxy().build()?;
    ensure!(
        client.get(&url).send().await?.status() == 405,
        "GET is answered"
    );
    ensure!(stage.requests().await?.is_empty(), "somebody was asked");
    send(json, &whole).await?.is("asked")
}

/// A sender that sends more than its share waits, and is told for how long; others do not.
#[tokio::test]
async fn a_sender_that_sends_too_much_has_to_wait() -> Result<()> {
    let mut stage = Stage::new("rate").await?;
    let mut sources = [
        stage.basic("prometheus", "alertmanager"),
        stage.basic("checks", "generic"),
        stage.basic("other", "alertmanager"),
    ];
    for source in &mut sources {
        source["perMinute"] = json!(3);
    }
    stage.start(&sources).await?;
    let over = group(&[super::stage::over(stage.alert("Over"))]);
    for _ in 0..3 {
        stage.deliver("prometheus", &over).await?.is("resolved")?;
    }
    // Alertmanager does not come again after a 429.
    let answer = stage.deliver("prometheus", &over).await?;
    ensure!(
        answer.status == StatusCode::SERVICE_UNAVAILABLE,
        "{answer:?}"
    );
    let wait = answer
        .headers
        .get("retry-after")
        .and_then(|it| it.to_str().ok());
    let wait: u64 = wait.unwrap_or_default().parse()?;
    ensure!((1..=20).contains(&wait), "{answer:?}");
    stage.deliver("other", &over).await?.is("resolved")?;
    let generic = json!({
        "id": "1", "source": "synthetic", "status": "resolved", "namespace": stage.scene.ns(),
        "deployment": "api", "reason": "it is well again", "startsAt": "2026-01-02T03:04:05Z",
    });
    for _ in 0..3 {
        stage.deliver("checks", &generic).await?.is("resolved")?;
    }
    let answer = stage.deliver("checks", &generic).await?;
    ensure!(answer.status == StatusCode::TOO_MANY_REQUESTS, "{answer:?}");
    Ok(())
}

/// A secret can be changed while the receiver runs; without a gap, because two may count at the same time.
#[tokio::test]
async fn a_secret_that_is_changed_counts_at_once() -> Result<()> {
    let mut stage = Stage::new("rotation").await?;
    let source = stage.basic("prometheus", "alertmanager");
    stage.start(&[source]).await?;
    let over = group(&[super::stage::over(stage.alert("Over"))]);
    stage.deliver("prometheus", &over).await?.is("resolved")?;
    std::fs::write(stage.file("secret"), "another")?;
    ensure!(
        stage.deliver("prometheus", &over).await?.status == 401,
        "the old one counts"
    );
    // Without a secret nobody can tell; that is not the fault of the sender, who should come again.
    std::fs::write(stage.file("secret"), "\n")?;
    ensure!(
        stage.deliver("prometheus", &over).await?.status == 503,
        "an empty one counts"
    );
    std::fs::write(stage.file("secret"), super::stage::SECRET)?;
    stage.deliver("prometheus", &over).await?.is("resolved")
}

/// A configuration that cannot be is refused at the start, by the name of the field and without what stands in it.
#[tokio::test]
async fn a_wrong_configuration_is_refused_by_the_name_of_the_field() -> Result<()> {
    let stage = Stage::ungranted("configuration").await?;
    let good = stage.basic("prometheus", "alertmanager");
    let with = |pointer: &str, value: Value| {
        let mut source = good.clone();
        if let Some(field) = source.pointer_mut(pointer) {
            *field = value;
        } else if let Some((_, field)) = pointer.rsplit_once('/') {
            source[field] = value;
        }
        source
    };
    let signed = json!({"hmac": {"secretFiles": [stage.file("secret")]}});
    for (source, field) in [
        (with("/name", json!("Prometheus")), "sources[0].name"),
        (with("/name", json!("controller")), "sources[0].name"),
        (with("/namespaces", json!([])), "sources[0].namespaces"),
        (
            with("/namespaces", json!(["a", "*"])),
            "sources[0].namespaces[1]",
        ),
        (with("/auth", signed), "sources[0].auth.hmac"),
        (
            with("/auth/basic/passwordFile", json!("/nowhere")),
            "sources[0].auth.basic.passwordFile",
        ),
        (
            with("/auth/basic/password", json!("hunter2-in-the-file")),
            "password",
        ),
        (with("/secret", json!("hunter2-in-the-file")), "secret"),
        (with("/perMinute", json!(0)), "sources[0].perMinute"),
        (with("/to", json!("revision")), "revision"),
    ] {
        let configuration = json!({"sources": [source]}).to_string();
        let program = std::path::Path::new(PROGRAM);
        let receiver =
            testkit::ReceiverProcess::spawn(program, &stage.kubeconfig, &configuration, &[])?;
        ensure!(
            !receiver.ended().await?.success(),
            "it starts with {configuration}"
        );
        let log = receiver.log();
        ensure!(log.contains(field), "{field}: {log}");
        ensure!(
            !log.contains("hunter2"),
            "what stands there is in the log: {log}"
        );
    }
    Ok(())
}

/// An API server that does not answer costs the sender nothing but a little time: it comes again.
#[tokio::test]
async fn without_an_api_server_the_sender_comes_again() -> Result<()> {
    let mut stage = Stage::new("absent").await?;
    let nowhere = stage
        .scene
        .cluster
        .service_account_kubeconfig(
            "rollback-system",
            "rollback-receiver",
            Some("http://127.0.0.1:9"),
        )
        .await?;
    let real = std::mem::replace(&mut stage.kubeconfig, nowhere);
    let source = stage.basic("prometheus", "alertmanager");
    stage.start(std::slice::from_ref(&source)).await?;
    let body = group(&[stage.alert("HighErrorRate")]);
    let before = Instant::now();
    let answer = stage.deliver("prometheus", &body).await?;
    ensure!(answer.status == 503, "{answer:?}");
    ensure!(answer.headers.contains_key("retry-after"), "{answer:?}");
    ensure!(
        before.elapsed() < Duration::from_secs(12),
        "it took {:?}",
        before.elapsed()
    );
    stage.kubeconfig = real;
    stage.start(&[source]).await?;
    stage.deliver("prometheus", &body).await?.is("asked")
}

/// While as many deliveries are worked on as may be, others are told at once to come again.
#[tokio::test]
async fn above_what_can_be_worked_on_senders_come_again() -> Result<()> {
    let mut stage = Stage::ungranted("busy").await?;
    // An API server that takes connections, and never says a word.
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let server = format!("http://{}", silent.local_addr()?);
    stage.kubeconfig = stage
        .scene
        .cluster
        .service_account_kubeconfig("rollback-system", "rollback-receiver", Some(&server))
        .await?;
    let source = stage.basic("prometheus", "alertmanager");
    let receiver = stage.spawn(&[source], &["--concurrency", "1"]).await?;
    stage.receiver = Some(receiver);
    let body = group(&[stage.alert("HighErrorRate")]);
    let before = Instant::now();
    let first = async {
        let answer = stage.deliver("prometheus", &body).await?;
        anyhow::Ok((answer, before.elapsed()))
    };
    let second = async {
        tokio::time::sleep(Duration::from_millis(500)).await;
        let answer = stage.deliver("prometheus", &body).await?;
        anyhow::Ok((answer, before.elapsed()))
    };
    let ((first, slow), (second, quick)) = futures::try_join!(first, second)?;
    ensure!(
        first.status == 503 && second.status == 503,
        "{first:?} and {second:?}"
    );
    ensure!(
        slow > Duration::from_secs(2) && slow < Duration::from_secs(16),
        "{slow:?}"
    );
    ensure!(quick < Duration::from_secs(2), "{quick:?}");
    let message = second.body["message"].as_str().unwrap_or_default();
    ensure!(message.contains("too much to do"), "{second:?}");
    Ok(())
}
