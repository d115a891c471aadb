//! Bodies without end, and connections that say nothing.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use futures::future::join_all;
use futures::stream;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::stage::{Stage, group, password};

/// How much memory may be needed for all of it, in KiB.
const GROWTH: u64 = 16 * 1024;

/// The head of a delivery that is in order, with these lines.
fn head(source: &str, lines: &str) -> String {
    format!(
        "POST /v1/alerts/{source} HTTP/1.1\r\nhost: localhost\r\nauthorization: {}\r\n\
         content-type: application/json\r\n{lines}\r\n\r\n",
        password()
    )
}

/// The status that is answered, if the connection did not just end.
async fn status(stream: &mut TcpStream) -> Result<String> {
    let mut answer = [0; 12];
    tokio::time::timeout(Duration::from_secs(40), stream.read_exact(&mut answer)).await??;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

/// From whom it comes makes no difference: a body that is said to be too large is not read, and one that turns out to be is
/// not read on.
#[tokio::test]
async fn a_body_that_is_too_large_costs_no_memory() -> Result<()> {
    let mut stage = Stage::ungranted("large").await?;
    let sources = [
        stage.basic("prometheus", "alertmanager"),
        stage.signed("signed", "generic"),
    ];
    stage.start(&sources).await?;
    let receiver = stage.receiver()?;
    let before = receiver.peak_memory()?;
    let client = reqwest::Client::builder().no_proxy().build()?;
    for source in ["prometheus", "signed"] {
        for size in [10 << 20, 1 << 30] {
            let mut stream = TcpStream::connect(("127.0.0.1", receiver.port())).await?;
            let head = head(source, &format!("content-length: {size}"));
            stream.write_all(head.as_bytes()).await?;
            let answer = status(&mut stream).await?;
            ensure!(
                answer == "HTTP/1.1 413",
                "{size} bytes for {source}: {answer}"
            );
        }
        // Sent in pieces, without saying how many there will be: a gigabyte, if somebody takes it.
        let piece = vec![b' '; 1 << 16];
        let pieces = stream::iter((0..1 << 14).map(move |_| anyhow::Ok(piece.clone())));
        let sent = client
            .post(receiver.url(source))
            .header("authorization", password())
            .header("content-type", "application/json")
            .body(reqwest::Body::wrap_stream(pieces))
            .send()
            .await;
        // The sender may find the connection ended before it has read the answer.
        if let Ok(answer) = sent {
            ensure!(answer.status() == 413, "{source}: {}", answer.status());
        }
    }
    let growth = receiver.peak_memory()? - before;
    ensure!(growth < GROWTH, "it took {growth} KiB more");
    Ok(())
}

/// Many bodies that are each just small enough do not add up without end.
#[tokio::test]
async fn many_bodies_that_never_end_have_a_limit_together() -> Result<()> {
    let mut stage = Stage::ungranted("bodies").await?;
    let source = stage.signed("signed", "generic");
    let over = stage.basic("prometheus", "alertmanager");
    stage.start(&[source, over]).await?;
    let receiver = stage.receiver()?;
    let piece = vec![b' '; (1 << 20) - 1024];
    let mut streams = Vec::new();
    for _ in 0..100 {
        let mut stream = TcpStream::connect(("127.0.0.1", receiver.port())).await?;
        let head = head("signed", "content-length: 1048576");
        stream.write_all(head.as_bytes()).await?;
        // Whoever had to go is not written to any more.
        let _ = tokio::time::timeout(Duration::from_secs(1), stream.write_all(&piece)).await;
        streams.push(stream);
    }
    let body = group(&[super::stage::over(stage.alert("Over"))]);
    for _ in 0..5 {
        stage.deliver("prometheus", &body).await?.is("resolved")?;
    }
    let peak = receiver.peak_memory()?;
    ensure!(peak < 100 * 1024, "it took {peak} KiB");
    Ok(())
}

/// Hundreds of connections that send a byte now and then: a delivery in one piece comes through at once.
#[tokio::test]
async fn slow_connections_keep_nobody_away() -> Result<()> {
    let mut stage = Stage::ungranted("slow").await?;
    let source = stage.basic("prometheus", "alertmanager");
    let receiver = stage.spawn(&[source], &["--connections", "64"]).await?;
    stage.receiver = Some(receiver);
    let port = stage.receiver()?.port();
    let began = Instant::now();
    let slow = (0..500).map(|number| async move {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).await?;
        let head = head("prometheus", "content-length: 1000");
        // Some stop within the head, others within the body.
        let end = if number % 2 == 0 { 20 } else { head.len() };
        stream.write_all(&head.as_bytes()[..end]).await?;
        anyhow::Ok(stream)
    });
    let mut streams: Vec<TcpStream> = join_all(slow).await.into_iter().flatten().collect();
    ensure!(streams.len() > 400, "only {} connections", streams.len());
    let body = group(&[super::stage::over(stage.alert("Over"))]);
    for _ in 0..5 {
        let before = Instant::now();
        stage.deliver("prometheus", &body).await?.is("resolved")?;
        let took = before.elapsed();
        ensure!(took < Duration::from_secs(2), "it took {took:?}");
        for stream in &mut streams {
            // Those that had to go cannot be written to.
            let _ = stream.try_write(b"x");
        }
    }
    // Whoever stays is told to go after ten seconds, however often a byte comes.
    let last = streams.last_mut().context("no connection")?;
    let mut rest = Vec::new();
    let wait = Duration::from_secs(20).saturating_sub(began.elapsed());
    let ended = tokio::time::timeout(wait, last.read_to_end(&mut rest)).await;
    ensure!(
        ended.is_ok(),
        "it is still open after {:?}",
        began.elapsed()
    );
    Ok(())
}

/// A sender that is slow and in order is answered, when it takes less than ten seconds.
#[tokio::test]
async fn a_slow_sender_is_answered() -> Result<()> {
    let mut stage = Stage::ungranted("gently").await?;
    let source = stage.basic("prometheus", "alertmanager");
    stage.start(&[source]).await?;
    let body = group(&[super::stage::over(stage.alert("Over"))]).to_string();
    let mut stream = TcpStream::connect(("127.0.0.1", stage.receiver()?.port())).await?;
    let head = head("prometheus", &format!("content-length: {}", body.len()));
    for part in [&head[..10], &head[10..], &body[..10], &body[10..]] {
        stream.write_all(part.as_bytes()).await?;
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    ensure!(
        status(&mut stream).await? == "HTTP/1.1 202",
        "it is not answered"
    );
    Ok(())
}

/// Whatever an alert says of itself stays within what a request may hold, and is no secret's way out.
#[tokio::test]
async fn what_an_alert_says_is_made_fit_to_be_shown() -> Result<()> {
    let mut stage = Stage::new("words").await?;
    let source = stage.basic("prometheus", "alertmanager");
    stage.start(&[source]).await?;
    let mut alert = stage.alert(&"N".repeat(5000));
    alert["annotations"]["summary"] = json!(format!(
        "password=hunter2-of-the-shop \u{202e}\u{7}{}",
        "long ".repeat(1000)
    ));
    alert["labels"]["authorization"] =
        json!("Bearer eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2lnbmF0dXJl");
    alert["generatorURL"] = json!("javascript:alert(1)");
    stage
        .deliver("prometheus", &group(&[alert]))
        .await?
        .is("asked")?;
    let request = stage.only_request().await?;
    let text = serde_json::to_string(&request.spec)?;
    for secret in ["hunter2", "eyJhbGci", "javascript", "\u{202e}"] {
        ensure!(!text.contains(secret), "{secret} is in {text}");
    }
    Ok(())
}

/// A signal to stop ends what is under way well, and what says nothing soon.
#[tokio::test]
async fn it_stops_when_it_is_asked_to() -> Result<()> {
    let mut stage = Stage::ungranted("stop").await?;
    let source = stage.basic("prometheus", "alertmanager");
    stage.start(&[source]).await?;
    let receiver = stage.receiver.take().context("no receiver")?;
    let _silent = TcpStream::connect(("127.0.0.1", receiver.port())).await?;
    let ended = tokio::task::spawn_blocking(move || receiver.terminate()).await??;
    ensure!(ended.success(), "{ended}");
    Ok(())
}
