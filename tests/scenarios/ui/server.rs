//! Who is let in, and that looking at pages changes nothing.

use anyhow::{Context as _, Result, ensure};
use kube::ResourceExt;
use serde_json::json;
use testkit::Scene;
use testkit::User::{Admin, Approver, Outsider, Requester};
use tokio::io::AsyncBufReadExt;
use tokio::net::TcpStream;

use super::stage::{Headers, Ui, plugin, scene};

/// A request with a plan that is waited for.
pub async fn asked(name: &str) -> Result<Scene> {
    let scene = scene(name).await?;
    scene.two_versions_and_a_plan("api-5xx", "api").await?;
    Ok(scene)
}

#[tokio::test]
async fn only_our_own_pages_in_the_browser_that_opened_the_link_are_let_in() -> Result<()> {
    let scene = asked("ui-guard").await?;
    let ui = Ui::start(&scene, Approver).await?;
    let (host, base) = (ui.host(), ui.base.clone());
    let home = format!("{base}/");
    ensure!(ui.ask("GET", &home, &[("Host", &host)], "").await?.status == 403);
    let wrong = format!("{base}/?token={}", "0".repeat(64));
    ensure!(ui.ask("GET", &wrong, &[("Host", &host)], "").await?.status == 403);
    // A name that somebody points at this machine does not even use the token up.
    let right = format!("{base}/?token={}", ui.token());
    let evil = format!("evil.example:{}", ui.port);
    ensure!(ui.ask("GET", &right, &[("Host", &evil)], "").await?.status == 421);
    let foreign = [("Host", host.as_str()), ("Sec-Fetch-Site", "cross-site")];
    ensure!(ui.ask("GET", &right, &foreign, "").await?.status == 403);
    let cookie = ui.log_in().await?;
    let again = ui.ask("GET", &right, &[("Host", &host)], "").await?;
    ensure!(
        again.status == 403 && again.body.contains("was used already"),
        "{again:?}"
    );
    // Who has the cookie and opens the link once more is just sent on.
    let mine = [("Host", host.as_str()), ("Cookie", cookie.as_str())];
    ensure!(ui.ask("GET", &right, &mine, "").await?.status == 303);
    reads(&ui, &cookie).await?;
    streams(&ui, &cookie).await?;
    headers(&ui, &cookie).await?;
    writes(&ui, &cookie).await?;
    ensure!(TcpStream::connect(("127.0.0.2", ui.port)).await.is_err());
    let (token, secret) = (
        ui.token().to_owned(),
        cookie.split_once('=').map(|it| it.1.to_owned()),
    );
    let said = ui.end().await?;
    ensure!(
        !said.contains(&token) && !said.contains(&secret.unwrap_or_default()),
        "{said}"
    );
    Ok(())
}

/// A path, headers, and the status that comes of them.
type Row<'a> = (&'a str, Headers<'a>, u16);

/// What names this server and has the cookie is let in, unless it says that it comes from elsewhere.
async fn reads(ui: &Ui, cookie: &str) -> Result<()> {
    let (host, named) = (ui.host(), format!("localhost:{}", ui.port));
    let (host, named) = (("Host", host.as_str()), ("Host", named.as_str()));
    let mine = ("Cookie", cookie);
    let evil = ("Host", "evil.example");
    let rows: [Row; 13] = [
        ("/", &[host, mine], 200),
        ("/", &[named, mine], 200),
        ("/", &[host, mine, ("Sec-Fetch-Site", "none")], 200),
        ("/", &[host, ("Cookie", "rollback-ui=0")], 403),
        ("/", &[evil, mine], 421),
        ("/", &[("Host", "127.0.0.1"), mine], 421),
        ("/", &[host, evil, mine], 421),
        ("/", &[host, mine, ("Origin", "https://evil.example")], 403),
        ("/", &[host, mine, ("Origin", "null")], 403),
        ("/", &[host, mine, ("Sec-Fetch-Site", "same-site")], 403),
        ("/live.js", &[host], 403),
        ("/requests/..%2F..%2Fsecrets%2Fx", &[host, mine], 404),
        ("/requests/../workloads", &[host, mine], 404),
    ];
    answers(ui, &rows).await
}

/// The stream of events has to show that one of our pages asks.
async fn streams(ui: &Ui, cookie: &str) -> Result<()> {
    let (host, other) = (ui.host(), format!("http://127.0.0.1:{}", ui.port ^ 1));
    let own = format!("http://{host}");
    let (host, mine) = (("Host", host.as_str()), ("Cookie", cookie));
    let rows: [Row; 5] = [
        ("/events", &[host, mine], 403),
        ("/events", &[host, mine, ("Sec-Fetch-Site", "none")], 403),
        ("/events", &[host, mine, ("Origin", &other)], 403),
        (
            "/events",
            &[host, mine, ("Sec-Fetch-Site", "same-origin")],
            200,
        ),
        ("/events", &[host, mine, ("Origin", &own)], 200),
    ];
    answers(ui, &rows).await
}

async fn answers(ui: &Ui, rows: &[Row<'_>]) -> Result<()> {
    for (path, headers, status) in rows {
        let path = format!("{}{path}", ui.base);
        let answer = ui.ask("GET", &path, headers, "").await?;
        ensure!(answer.status == *status, "{path} {headers:?}: {answer:?}");
        let policy = answer.header("content-security-policy");
        let is_kept = policy.is_some_and(|it| it.contains("default-src 'none'"));
        let is_open = answer.head.to_lowercase().contains("access-control");
        ensure!(is_kept && !is_open, "{answer:?}");
    }
    Ok(())
}

/// What every answer says of itself.
async fn headers(ui: &Ui, cookie: &str) -> Result<()> {
    let answer = ui.page(cookie, "/").await?;
    for (name, value) in [
        ("x-content-type-options", "nosniff"),
        ("referrer-policy", "same-origin"),
        ("cache-control", "no-store"),
        ("x-frame-options", "DENY"),
    ] {
        ensure!(answer.header(name) == Some(value), "{answer:?}");
    }
    let policy = answer.header("content-security-policy").unwrap_or_default();
    for part in [
        "frame-ancestors 'none'",
        "base-uri 'none'",
        "form-action 'self'",
        "script-src 'self'",
    ] {
        ensure!(
            policy.contains(part) && !policy.contains("unsafe"),
            "{policy}"
        );
    }
    // Outside of the folder of this session there is nothing.
    let host = ui.host();
    let answer = ui
        .ask("GET", "/", &[("Host", &host), ("Cookie", cookie)], "")
        .await?;
    ensure!(answer.status == 404, "{answer:?}");
    Ok(())
}

async fn writes(ui: &Ui, cookie: &str) -> Result<()> {
    let host = ui.host();
    let own = format!("http://{host}");
    let page = ui.page(cookie, "/requests/api-5xx").await?;
    let csrf = page.csrf()?.to_owned();
    let body = format!("csrf={csrf}&reason=x");
    let path = format!("{}/requests/api-5xx/deny", ui.base);
    let rows: [(Headers, &str, u16); 8] = [
        (&[("Host", &host), ("Cookie", cookie)], &body, 403),
        (
            &[
                ("Host", &host),
                ("Cookie", cookie),
                ("Origin", "https://evil.example"),
            ],
            &body,
            403,
        ),
        (
            &[("Host", &host), ("Cookie", cookie), ("Origin", "null")],
            &body,
            403,
        ),
        (
            &[
                ("Host", &host),
                ("Cookie", cookie),
                ("Origin", &own),
                ("Sec-Fetch-Site", "cross-site"),
            ],
            &body,
            403,
        ),
        (&[("Host", &host), ("Origin", &own)], &body, 403),
        (
            &[("Host", &host), ("Cookie", cookie), ("Origin", &own)],
            "reason=x",
            403,
        ),
        (
            &[("Host", &host), ("Cookie", cookie), ("Origin", &own)],
            "csrf=0&reason=x",
            403,
        ),
        (
            &[
                ("Host", "evil.example"),
                ("Cookie", cookie),
                ("Origin", "http://evil.example"),
            ],
            &body,
            421,
        ),
    ];
    for (headers, body, status) in rows {
        let answer = ui.ask("POST", &path, headers, body).await?;
        ensure!(answer.status == status, "{headers:?} {body}: {answer:?}");
    }
    let long = format!("{body}{}", "x".repeat(70_000));
    ensure!(
        ui.send(cookie, "/requests/api-5xx/deny", &long)
            .await?
            .status
            == 413
    );
    // What is read is never a way to write.
    for path in ["deny", "approve", "cancel"] {
        let path = format!("/requests/api-5xx/{path}?{body}&unwanted=yes");
        ensure!(ui.page(cookie, &path).await?.status == 405);
    }
    // A form that is not ours cancels nothing either.
    let answer = ui
        .send(cookie, "/requests/api-5xx/cancel", "unwanted=yes")
        .await?;
    ensure!(answer.status == 403, "{answer:?}");
    Ok(())
}

#[tokio::test]
async fn pages_write_nothing_and_forms_what_the_commands_do() -> Result<()> {
    let scene = asked("ui-forms").await?;
    let version = scene.request("api-5xx").await?.resource_version();
    let ui = Ui::start(&scene, Approver).await?;
    let cookie = ui.log_in().await?;
    for path in [
        "/",
        "/?q=api",
        "/?part=live",
        "/requests/api-5xx",
        "/requests/api-5xx?part=live",
        "/workloads",
        "/workloads/api",
        "/workloads/api/diff?from=current&to=1",
        "/reviews",
    ] {
        let answer = ui.page(&cookie, path).await?;
        ensure!(answer.status == 200, "{path}: {answer:?}");
    }
    for path in [
        "/requests/nothing",
        "/workloads/nothing",
        "/workloads/nothing/diff?from=current&to=1",
        "/workloads/api/diff?from=current&to=7",
        "/workloads/api/diff",
        "/requests/api-5xx/report",
    ] {
        let answer = ui.page(&cookie, path).await?;
        ensure!(
            answer.status == 409 && answer.body.contains("role=\"alert\""),
            "{path}: {answer:?}"
        );
    }
    ensure!(scene.request("api-5xx").await?.resource_version() == version);
    refusals(&scene, &ui, &cookie).await?;
    ensure!(scene.request("api-5xx").await?.resource_version() == version);

    let page = ui.page(&cookie, "/requests/api-5xx").await?;
    let body = approval(
        page.csrf()?,
        &scene.plan("api-5xx").await?.digest,
        "ROLLBACK+PRODUCTION",
    );
    let answer = ui.send(&cookie, "/requests/api-5xx/approve", &body).await?;
    ensure!(answer.status == 303, "{answer:?}");
    let (ended, outcome) = scene.wait_for_end("api-5xx").await?;
    ensure!(
        outcome.result == rollback_api::RequestState::Succeeded,
        "{outcome:?}"
    );
    let approvals = ended.status.unwrap_or_default().approvals;
    ensure!(
        approvals.len() == 1 && approvals[0].checklist.len() == 2,
        "{approvals:?}"
    );
    let answer = ui.page(&cookie, "/requests/api-5xx/report").await?;
    ensure!(
        answer.status == 200 && answer.body.contains("Rollback of api: Succeeded"),
        "{answer:?}"
    );
    let answer = ui
        .send(
            &cookie,
            "/requests/api-5xx/reviewed",
            &format!("csrf={}", page.csrf()?),
        )
        .await?;
    ensure!(answer.status == 303, "{answer:?}");
    Ok(())
}

#[tokio::test]
async fn who_may_only_look_looks_and_is_told_so() -> Result<()> {
    let scene = asked("ui-outsider").await?;
    let ui = Ui::start(&scene, Outsider).await?;
    let cookie = ui.log_in().await?;
    let board = ui.page(&cookie, "/").await?;
    ensure!(
        board.status == 200 && board.body.contains("Waiting for you: 0. For others: 1."),
        "{board:?}"
    );
    let page = ui.page(&cookie, "/requests/api-5xx").await?;
    let is_told =
        page.body.contains("You may not do that") && !page.body.contains("name=\"confirm\"");
    ensure!(page.status == 200 && is_told, "{page:?}");
    let body = format!("csrf={}&reason=x", page.csrf()?);
    let answer = ui.send(&cookie, "/requests/api-5xx/deny", &body).await?;
    ensure!(
        answer.status == 403 && answer.body.contains("You may not do that"),
        "{answer:?}"
    );
    ensure!(scene.request("api-5xx").await?.outcome().is_none());
    // The address as data, for whoever opens the browser.
    let mut data = plugin(&scene, Outsider)
        .args(["ui", "--no-open", "-o", "json"])
        .spawn()?;
    let mut printed = String::new();
    let mut lines = tokio::io::BufReader::new(data.stdout.take().context("no output")?);
    while !printed.ends_with("}\n") {
        ensure!(lines.read_line(&mut printed).await? > 0, "{printed}");
    }
    let printed: serde_json::Value = serde_json::from_str(&printed)?;
    let address = printed["url"].as_str().unwrap_or_default();
    ensure!(address.starts_with("http://127.0.0.1:"), "{printed}");
    data.kill().await?;
    // Who may not even look hears it at once, and not in a browser.
    let stranger = plugin(&scene, Admin)
        .args(["ui", "--no-open", "--as", "stranger@broxiva.example"])
        .output()
        .await?;
    let said = String::from_utf8_lossy(&stranger.stderr);
    ensure!(
        stranger.status.code() == Some(6) && said.contains("You may not do that"),
        "{stranger:?}"
    );
    Ok(())
}

#[tokio::test]
async fn a_request_is_cancelled_by_who_may_and_means_it() -> Result<()> {
    let scene = asked("ui-cancel").await?;
    let version = scene.request("api-5xx").await?.resource_version();
    let path = "/requests/api-5xx/cancel";
    for (user, said, status, text) in [
        (Outsider, "&unwanted=yes", 403, "You may not do that"),
        (Requester, "", 422, "Nothing was cancelled"),
        (Requester, "&unwanted=no", 422, "Nothing was cancelled"),
    ] {
        let ui = Ui::start(&scene, user).await?;
        let cookie = ui.log_in().await?;
        let page = ui.page(&cookie, "/requests/api-5xx").await?;
        let body = format!("csrf={}{said}", page.csrf()?);
        let answer = ui.send(&cookie, path, &body).await?;
        ensure!(
            answer.status == status && answer.body.contains(text),
            "{said}: {answer:?}"
        );
        ensure!(scene.request("api-5xx").await?.resource_version() == version);
    }
    let ui = Ui::start(&scene, Requester).await?;
    let cookie = ui.log_in().await?;
    let page = ui.page(&cookie, "/requests/api-5xx").await?;
    let body = format!("csrf={}&unwanted=yes", page.csrf()?);
    ensure!(ui.send(&cookie, path, &body).await?.status == 303);
    let (_, outcome) = scene.wait_for_end("api-5xx").await?;
    ensure!(
        outcome.result == rollback_api::RequestState::Cancelled,
        "{outcome:?}"
    );
    let page = ui.page(&cookie, "/requests/api-5xx").await?;
    ensure!(!page.body.contains("Cancel this request"), "{page:?}");
    let answer = ui.send(&cookie, path, &body).await?;
    ensure!(
        answer.status == 409 && answer.body.contains("has ended"),
        "{answer:?}"
    );
    Ok(())
}

#[tokio::test]
async fn what_differs_between_two_versions_is_shown() -> Result<()> {
    let scene = asked("ui-diff").await?;
    let ui = Ui::start(&scene, Outsider).await?;
    let cookie = ui.log_in().await?;
    let page = ui.page(&cookie, "/workloads/api").await?;
    // What runs, and the newest other one, are chosen already.
    ensure!(
        page.body.contains("<option value=\"1\" selected>"),
        "{page:?}"
    );
    let path = "/workloads/api/diff?from=current&to=1";
    let page = ui.page(&cookie, path).await?;
    ensure!(
        page.body.contains("api: what runs to revision 1")
            && page
                .body
                .contains("api:v2 -&gt; registry.broxiva.example/api:v1"),
        "{page:?}"
    );
    let same = ui
        .page(&cookie, "/workloads/api/diff?from=2&to=current")
        .await?;
    ensure!(same.body.contains("They do not differ."), "{same:?}");
    Ok(())
}

#[tokio::test]
async fn a_risk_for_the_data_is_accepted_with_a_reason() -> Result<()> {
    let scene = scene("ui-risk").await?;
    scene.two_schemas("api").await?;
    scene.ask("api-5xx", "api", json!({"previous": {}})).await?;
    scene.wait_for("api-5xx", "Blocked").await?;
    let ui = Ui::start(&scene, Approver).await?;
    let cookie = ui.log_in().await?;
    let page = ui.page(&cookie, "/requests/api-5xx").await?;
    ensure!(page.body.contains("Risk for the data: "), "{page:?}");
    let plan = scene.status("api-5xx").await?.plan.context("no plan")?;
    let items: String = plan
        .rules
        .checklist()
        .iter()
        .fold(String::new(), |all, item| {
            format!("{all}&item={}", item.name)
        });
    let body = format!(
        "csrf={}&plan={}&confirm=ROLLBACK+PRODUCTION{items}",
        page.csrf()?,
        plan.digest
    );
    let answer = ui.send(&cookie, "/requests/api-5xx/approve", &body).await?;
    ensure!(
        answer.status == 422 && answer.body.contains("says why that is acceptable"),
        "{answer:?}"
    );
    let answer = ui
        .send(
            &cookie,
            "/requests/api-5xx/approve",
            &format!("{body}&accepts=the+column+is+still+there"),
        )
        .await?;
    ensure!(answer.status == 303, "{answer:?}");
    let (ended, _) = scene.wait_for_end("api-5xx").await?;
    let approvals = ended.status.unwrap_or_default().approvals;
    ensure!(
        approvals[0].accepts_data_risk.as_deref() == Some("the column is still there"),
        "{approvals:?}"
    );
    Ok(())
}

fn approval(csrf: &str, digest: &str, phrase: &str) -> String {
    format!(
        "csrf={csrf}&plan={digest}&item=incident-documented&item=stakeholders-notified&confirm={phrase}"
    )
}

/// A wrong phrase, another plan, a checklist that is not done, and people who may not.
async fn refusals(scene: &Scene, ui: &Ui, cookie: &str) -> Result<()> {
    let digest = scene.plan("api-5xx").await?.digest;
    let page = ui.page(cookie, "/requests/api-5xx").await?;
    let csrf = page.csrf()?;
    let rows = [
        (
            approval(csrf, &digest, "rollback+production"),
            422,
            "That is not the phrase, so nothing was approved.",
        ),
        (
            approval(csrf, "sha256:0", "ROLLBACK+PRODUCTION"),
            409,
            "The plan is not the one that was read",
        ),
        (
            format!("csrf={csrf}&plan={digest}&confirm=ROLLBACK+PRODUCTION"),
            422,
            "incident-documented is not done",
        ),
    ];
    for (body, status, text) in rows {
        let answer = ui.send(cookie, "/requests/api-5xx/approve", &body).await?;
        ensure!(
            answer.status == status && answer.body.contains(text),
            "{body}: {answer:?}"
        );
    }
    let theirs = Ui::start(scene, Requester).await?;
    let cookie = theirs.log_in().await?;
    let page = theirs.page(&cookie, "/requests/api-5xx").await?;
    ensure!(
        page.body.contains("may not approve rollbacks") && !page.body.contains("name=\"confirm\""),
        "{page:?}"
    );
    let body = approval(page.csrf()?, &digest, "ROLLBACK+PRODUCTION");
    let answer = theirs
        .send(&cookie, "/requests/api-5xx/approve", &body)
        .await?;
    ensure!(
        answer.status == 403 && answer.body.contains("may not approve rollbacks"),
        "{answer:?}"
    );
    Ok(())
}
