//! What stands in the place of Prometheus and is not well. Nothing here needs the package.

use std::io::Write;
use std::net::TcpListener;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rollback_probe::prometheus::Unknown;
use rollback_probe::{Failure, Refusal};

use crate::support::{Server, ok};
use crate::world::{LONG, client};

const SHORT: Duration = Duration::from_millis(300);

async fn ask(server: &Server, limit: Duration) -> Result<f64, Unknown> {
    let url = format!("http://{}", server.address);
    client(&url).query(&url, "vector(2)", limit).await
}

/// An answer as a Prometheus of today gives it, with `more` beside the result.
fn answer(more: &str) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    format!(
        "{{\"status\":\"success\",\"data\":{{\"resultType\":\"vector\",\"result\":[{{\"metric\":{{}},\"value\":[{}.781,\"2\"]}}]}}{more}}}",
        now.as_secs()
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn warnings_spoil_an_answer_and_infos_do_not() {
    let info = "PromQL info: metric might not be a counter, name does not end in _total/_sum/_count/_bucket: \\\"m\\\" (1:6)";
    for (more, expected) in [
        (String::new(), Ok(2.0)),
        (format!(",\"infos\":[\"{info}\"]"), Ok(2.0)),
        (
            ",\"warnings\":[\"No StoreAPIs matched for this query\"]".to_owned(),
            Err(Unknown::Partial),
        ),
        (
            format!(",\"warnings\":[\"w\"],\"infos\":[\"{info}\"]"),
            Err(Unknown::Partial),
        ),
    ] {
        let server = Server::fixed(ok(answer(&more)));
        assert_eq!(ask(&server, LONG).await, expected, "{more}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn half_an_answer_is_no_answer() {
    let whole = ok(answer(""));
    for length in [0, 10, whole.len() / 2, whole.len() - 1] {
        let server = Server::fixed(&whole[..length]);
        assert_eq!(ask(&server, LONG).await, Err(Unknown::Garbled), "{length}");
    }
    let body = answer("");
    // As long as it says, and cut off all the same.
    let server = Server::fixed(ok(&body[..body.len() - 1]));
    assert_eq!(ask(&server, LONG).await, Err(Unknown::Garbled));
    // Whole, but what follows is not read: nobody knows what else it says.
    for (length, expected) in [
        (1024 * 1024, Ok(2.0)),
        (1024 * 1024 + 1, Err(Unknown::Garbled)),
    ] {
        let mut padded = body.clone().into_bytes();
        padded.resize(length, b' ');
        let server = Server::fixed(ok(padded));
        assert_eq!(ask(&server, LONG).await, expected, "{length}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_and_somebody_who_never_answers() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let closed = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let host = "127.0.0.1".to_owned();
    let nobody = client(&closed).query(&closed, "vector(2)", LONG).await;
    let refused = Failure::Unreachable { host };
    assert_eq!(nobody, Err(Unknown::Unreachable(refused)));

    let silent = Server::new(|_, _| {});
    // Half an answer, and then nothing more.
    let partial = Server::new(|stream, _| {
        let whole = ok(answer(""));
        let _ = stream.write_all(&whole[..whole.len() - 1]);
    });
    for server in [silent, partial] {
        let begin = Instant::now();
        assert_eq!(ask(&server, SHORT).await, Err(Unknown::TimedOut));
        assert!((SHORT..LONG / 2).contains(&begin.elapsed()));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_prometheus_that_nobody_named_is_not_asked() {
    let server = Server::fixed(ok(answer("")));
    let (origin, port) = (format!("http://{}", server.address), server.address.port());
    let asked = [
        // The list, the URL, and whether that one is asked.
        (origin.clone(), origin.clone(), true),
        (origin.clone(), format!("{origin}/tenant"), true),
        (format!("{origin}/tenant"), format!("{origin}/tenant"), true),
        (
            format!("{origin}/tenant"),
            format!("{origin}/tenant/a"),
            true,
        ),
        (format!("{origin}/tenant"), origin.clone(), false),
        (
            format!("{origin}/tenant"),
            format!("{origin}/tenants"),
            false,
        ),
        (format!("https://127.0.0.1:{port}"), origin.clone(), false),
        (format!("http://localhost:{port}"), origin.clone(), false),
        ("http://127.0.0.1:9".to_owned(), origin.clone(), false),
    ];
    let mut expected = 0;
    for (listed, url, is_asked) in asked {
        let number = client(&listed).query(&url, "vector(2)", LONG).await;
        if is_asked {
            expected += 1;
            assert_eq!(number, Ok(2.0), "{listed} {url}");
            assert_eq!(client(&listed).unlisted(&url), None);
        } else {
            let refusal = Refusal::PrometheusNotListed {
                host: "127.0.0.1".to_owned(),
            };
            assert!(refusal.to_string().contains("--prometheus-allow"));
            assert_eq!(client(&listed).unlisted(&url), Some(refusal.clone()));
            assert_eq!(number, Err(Unknown::NotAllowed(refusal)), "{listed} {url}");
        }
    }
    let requests = server.requests();
    let posts = requests
        .iter()
        .filter(|one| one.starts_with("POST "))
        .count();
    assert_eq!(posts, expected, "{requests:?}");
}
