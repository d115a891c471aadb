//! One GET against a server that behaves well, badly, or not at all.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "what is wrong in a test ends it"
)]

mod support;

use std::fmt::{Debug, Display};
use std::io::Write;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rollback_probe::allow::AllowList;
use rollback_probe::http::{Answer, How, MAX_BODY};
use rollback_probe::networks::{Externals, Networks};
use rollback_probe::{Client, Failure, Refusal};
use support::{Server, eventually, ok};

const LONG: Duration = Duration::from_secs(20);
const SHORT: Duration = Duration::from_millis(300);
const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
/// Stands in every query, header and body here, and must not come back.
const SECRET: &str = "s3cr3t";

fn client() -> Client {
    let networks = || vec!["127.0.0.0/8".parse().unwrap()];
    Client::new(Networks(networks()), Externals(networks())).unwrap()
}

async fn ask(server: &Server, text: Option<&str>, limit: Duration) -> Result<Answer, Failure> {
    let port = server.address.port();
    let path = format!("/health?token={SECRET}");
    let of_pod = client().pod(LOOPBACK, port, &path, text, limit).await;
    let url = format!("http://{}{path}", server.address);
    let list = format!("http://{}/health", server.address);
    let list = AllowList::parse([list.as_str()]).unwrap();
    let of_url = client().external(&url, &list, text, limit).await;
    assert_eq!(of_pod, of_url);
    quiet(&of_pod);
    of_pod
}

fn quiet(result: &Result<Answer, impl Debug + Display>) {
    let mut all = format!("{result:?}");
    if let Err(failure) = result {
        all += &failure.to_string();
    }
    assert!(!all.contains(SECRET), "{all}");
    assert!(!all.contains("health"), "{all}");
}

fn loopback() -> String {
    "127.0.0.1".to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_status_is_a_status() {
    for code in [200, 204, 301, 404, 418, 500, 503, 599] {
        let answer =
            format!("HTTP/1.1 {code} {SECRET}\r\nx-token: {SECRET}\r\ncontent-length: 0\r\n\r\n");
        let server = Server::fixed(answer);
        let expected = Answer {
            status: code,
            body_matches: None,
        };
        assert_eq!(ask(&server, None, LONG).await, Ok(expected));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_sent_is_one_plain_request() {
    let server = Server::fixed(ok(""));
    ask(&server, None, LONG).await.unwrap();
    let port = server.address.port();
    for request in server
        .requests()
        .iter()
        .filter(|request| *request != "closed")
    {
        let mut lines: Vec<_> = request.trim_end().split("\r\n").collect();
        lines.sort_unstable();
        assert_eq!(
            lines,
            [
                format!("GET /health?token={SECRET} HTTP/1.1").as_str(),
                "accept: */*",
                &format!("host: 127.0.0.1:{port}"),
                "user-agent: rollback-controller",
            ]
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redirect_is_not_followed_and_sets_no_cookie() {
    let target = Server::fixed(ok(""));
    for code in [301, 302, 303, 307, 308] {
        let to = format!("http://{}/", target.address);
        let server = Server::fixed(format!(
            "HTTP/1.1 {code} R\r\nlocation: {to}\r\nset-cookie: a={SECRET}\r\ncontent-length: 0\r\n\r\n"
        ));
        assert_eq!(ask(&server, None, LONG).await.unwrap().status, code);
        assert!(
            server
                .requests()
                .iter()
                .all(|request| !request.contains("cookie"))
        );
    }
    assert_eq!(target.requests(), Vec::<String>::new());
    reqwest_follows(&target).await;
}

/// That nothing arrives at the target above means something only if it would arrive otherwise.
async fn reqwest_follows(target: &Server) {
    let to = format!("http://{}/", target.address);
    let server = Server::fixed(format!(
        "HTTP/1.1 302 R\r\nlocation: {to}\r\ncontent-length: 0\r\n\r\n"
    ));
    let url = format!("http://{}/", server.address);
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::get(url).await.unwrap();
    assert_eq!(target.requests()[..1].len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_is_searched_up_to_its_border() {
    let filled = |length: usize, end: &str| {
        let mut body = "x".repeat(length - end.len());
        body += end;
        body
    };
    let matches = |found| {
        Ok(Answer {
            status: 200,
            body_matches: Some(found),
        })
    };
    let large = Err(Failure::TooLarge {
        host: loopback(),
        limit: MAX_BODY,
    });
    for (body, expected) in [
        (String::new(), matches(false)),
        (format!("{SECRET} is fine"), matches(true)),
        ("is bad".to_owned(), matches(false)),
        (filled(MAX_BODY, "fine"), matches(true)),
        (filled(MAX_BODY, "xxxx"), matches(false)),
        (filled(MAX_BODY + 1, "finex"), matches(true)),
        (filled(MAX_BODY + 1, "fine"), large.clone()),
        (filled(MAX_BODY + 1, "xxxx"), large.clone()),
        (filled(10 * MAX_BODY, "fine"), large.clone()),
    ] {
        let server = Server::fixed(ok(&body));
        let length = body.len();
        assert_eq!(ask(&server, Some("fine"), LONG).await, expected, "{length}");
        let unread = ask(&server, None, LONG).await.unwrap();
        assert_eq!(unread.body_matches, None, "{length}");
    }
    let odd = Server::fixed(ok(b"\xff\xfefine\xff"));
    assert_eq!(ask(&odd, Some("fine"), LONG).await, matches(true));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_endless_body_ends() {
    let server = Server::new(|stream, _| {
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n");
        while stream.write_all(&[b'x'; 4096]).is_ok() {}
    });
    let large = ask(&server, Some("fine"), LONG).await;
    assert!(matches!(large, Err(Failure::TooLarge { .. })), "{large:?}");
    assert_eq!(ask(&server, None, LONG).await.unwrap().status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_takes_no_longer_than_it_may() {
    let trickle = |head: &'static [u8]| {
        Server::new(move |stream, _| {
            let _ = stream.write_all(head);
            while stream.write_all(b"x").is_ok() {
                std::thread::sleep(Duration::from_millis(20));
            }
        })
    };
    let silent = Server::new(|_, _| {});
    let headers = trickle(b"HTTP/1.1 200 OK\r\nx: ");
    let body = trickle(b"HTTP/1.1 200 OK\r\ncontent-length: 60000\r\n\r\n");
    for server in [silent, headers, body] {
        let begin = Instant::now();
        let late = ask(&server, Some("fine"), SHORT).await;
        assert_eq!(late, Err(Failure::TimedOut { host: loopback() }));
        assert!(begin.elapsed() >= 2 * SHORT);
        assert!(begin.elapsed() < LONG / 2);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_http_is_no_answer() {
    let many = |count: usize| {
        let headers = "x: y\r\n".repeat(count);
        format!("HTTP/1.1 200 OK\r\n{headers}content-length: 0\r\n\r\n")
    };
    let long = "x".repeat(600_000);
    for garbage in [
        String::new(),
        format!("{SECRET}\r\n\r\n"),
        "SSH-2.0-OpenSSH\r\n".to_owned(),
        "HTTP/0.9 200 OK\r\n\r\n".to_owned(),
        "HTTP/1.1 0 OK\r\n\r\n".to_owned(),
        "HTTP/1.1 200 OK\r\nx".to_owned(),
        format!("HTTP/1.1 200 OK\r\n{SECRET}\r\n\r\n"),
        "HTTP/1.1 200 OK\r\ncontent-length: x\r\n\r\n".to_owned(),
        format!("HTTP/1.1 200 OK\r\nx: {long}\r\n\r\n"),
        many(100),
        format!("HTTP/1.1 200 OK\r\ncontent-length: 50\r\n\r\n{SECRET}"),
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n".to_owned(),
    ] {
        let server = Server::fixed(garbage.clone());
        let shown = &garbage[..garbage.len().min(60)];
        assert_eq!(
            ask(&server, Some("fine"), LONG).await,
            Err(Failure::NotHttp { host: loopback() }),
            "{shown:?}"
        );
    }
    assert_eq!(
        ask(&Server::fixed(many(90)), None, LONG)
            .await
            .unwrap()
            .status,
        200
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_there_is_no_answer() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    drop(listener);
    let path = format!("/health?{SECRET}");
    let nobody = client().pod(LOOPBACK, port, &path, None, LONG).await;
    assert_eq!(nobody, Err(Failure::Unreachable { host: loopback() }));
    quiet(&nobody);
}

#[tokio::test(flavor = "multi_thread")]
async fn plain_http_is_not_https() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    // It answers at once, as servers do to what is no request of theirs.
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let _ = stream
                .unwrap()
                .write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n");
        }
    });
    let url = format!("https://{address}/health?{SECRET}");
    let list = AllowList::parse([format!("https://{address}").as_str()]).unwrap();
    let plain = client().external(&url, &list, None, LONG).await;
    assert_eq!(plain, Err(Failure::Untrusted { host: loopback() }));
    quiet(&plain);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_question_has_its_own_connection() {
    let server = Server::new(|stream, _| {
        let _ = stream.write_all(&ok("fine"));
    });
    for _ in 0..2 {
        ask(&server, Some("fine"), LONG).await.unwrap();
    }
    eventually("four connections, each closed after its request", || {
        let requests = server.requests();
        let closed = requests
            .iter()
            .filter(|request| *request == "closed")
            .count();
        closed == 4 && requests.len() == 8
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_allowed_is_not_asked() {
    let server = Server::fixed(ok(""));
    let none = Client::new(Networks::default(), Externals::default()).unwrap();
    let pod = none
        .pod(LOOPBACK, server.address.port(), "/", None, LONG)
        .await;
    let (host, address) = (loopback(), LOOPBACK);
    assert_eq!(pod, Err(Refusal::ProbeNetworks { host, address }.into()));
    let url = format!("http://{}/health?{SECRET}", server.address);
    let list = AllowList::parse([url.split('?').next().unwrap()]).unwrap();
    let (host, address) = (loopback(), LOOPBACK);
    let private = none.external(&url, &list, None, LONG).await;
    assert_eq!(
        private,
        Err(Refusal::ExternalNetworks { host, address }.into())
    );
    quiet(&private);
    let unlisted = client()
        .external(&url, &AllowList::default(), None, LONG)
        .await;
    assert_eq!(
        unlisted,
        Err(Refusal::NotListed { host: loopback() }.into())
    );
    quiet(&unlisted);
    let odd = client()
        .external(&format!("{url}#{SECRET}"), &list, None, LONG)
        .await;
    assert!(matches!(odd, Err(Failure::NotAllowed(Refusal::Url(_)))));
    quiet(&odd);
    let badly: SocketAddr = server.address;
    let odd = client()
        .pod(badly.ip(), badly.port(), "@evil/", None, LONG)
        .await;
    assert!(matches!(odd, Err(Failure::NotAllowed(Refusal::Url(_)))));
    assert_eq!(server.requests(), Vec::<String>::new());
}

const PROXIED: &str = "ROLLBACK_TEST_ASKS";

/// Runs itself again with proxies in its environment, which cannot be changed safely in a process with threads.
#[tokio::test(flavor = "multi_thread")]
async fn proxies_of_the_environment_are_not_used() {
    if let Ok(server) = std::env::var(PROXIED) {
        let server: SocketAddr = server.parse().unwrap();
        let asked = client()
            .pod(server.ip(), server.port(), "/probe", None, LONG)
            .await;
        assert_eq!(asked.unwrap().status, 200);
        let url = format!("http://{server}/probe");
        let list = AllowList::parse([url.as_str()]).unwrap();
        let asked = client().external(&url, &list, None, LONG).await;
        assert_eq!(asked.unwrap().status, 200);
        // The same environment does lead others to the proxy.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let proxied = reqwest::get(format!("http://{server}/control")).await;
        assert_eq!(proxied.unwrap().status(), 418);
        return;
    }
    let server = Server::fixed(ok(""));
    let proxy = Server::fixed("HTTP/1.1 418 Proxy\r\ncontent-length: 0\r\n\r\n");
    let mut again = Command::new(std::env::current_exe().unwrap());
    again.args(["--exact", "proxies_of_the_environment_are_not_used"]);
    again.env(PROXIED, server.address.to_string());
    for name in [
        "http_proxy",
        "HTTP_PROXY",
        "https_proxy",
        "ALL_PROXY",
        "all_proxy",
    ] {
        again.env(name, format!("http://{}", proxy.address));
    }
    again.env_remove("NO_PROXY").env_remove("no_proxy");
    let output = again.output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let asked = |server: &Server, what| {
        let requests = server.requests();
        requests
            .iter()
            .filter(|request| request.contains(what))
            .count()
    };
    assert_eq!(asked(&server, "/probe"), 2);
    assert_eq!(asked(&proxy, "/probe"), 0);
    assert_eq!(asked(&proxy, "/control"), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_is_asked_by_its_host_with_headers() {
    let server = Server::fixed(ok("shop"));
    let how = How {
        tls: false,
        host: Some("shop.broxiva.example".to_owned()),
        headers: vec![
            ("X-Probe".to_owned(), "rollback".to_owned()),
            ("not a name".to_owned(), "x".to_owned()),
        ],
    };
    let port = server.address.port();
    let client = client();
    let answer = client.pod_by(LOOPBACK, port, "/health/", &how, Some("shop"), LONG);
    let expected = Answer {
        status: 200,
        body_matches: Some(true),
    };
    assert_eq!(answer.await, Ok(expected));
    let request = server.requests().concat().to_ascii_lowercase();
    for line in [
        "get /health/ http/1.1",
        "host: shop.broxiva.example\r\n",
        "x-probe: rollback",
    ] {
        assert!(request.contains(line), "{line} is not in {request}");
    }
    assert_eq!(request.matches("host:").count(), 1, "{request}");
    assert!(!request.contains("not a name"), "{request}");
}

/// A server with a certificate of its own, which says by which name it was asked.
fn over_tls() -> SocketAddr {
    let named = rcgen::generate_simple_self_signed(vec!["pod.broxiva.example".to_owned()]).unwrap();
    let key =
        rustls::pki_types::PrivateKeyDer::try_from(named.signing_key.serialize_der()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![named.cert.der().clone()], key)
        .unwrap();
    let config = Arc::new(config);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let Ok(tls) = rustls::ServerConnection::new(config.clone()) else {
                continue;
            };
            let mut stream = rustls::StreamOwned::new(tls, stream);
            if support::read_request(&mut stream).is_some() {
                let name = stream.conn.server_name().unwrap_or("nobody").to_owned();
                let _ = stream.write_all(&ok(name));
                stream.conn.send_close_notify();
                let _ = stream.flush();
            }
        }
    });
    address
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_may_have_any_certificate_and_an_address_outside_may_not() {
    let address = over_tls();
    let how = How {
        tls: true,
        host: Some("shop.broxiva.example".to_owned()),
        headers: Vec::new(),
    };
    let (client, name) = (client(), Some("shop.broxiva.example"));
    let answer = client.pod_by(LOOPBACK, address.port(), "/", &how, name, LONG);
    assert_eq!(
        answer.await.unwrap().body_matches,
        Some(true),
        "by that name"
    );
    let nameless = How {
        tls: true,
        ..How::default()
    };
    let answer = client.pod_by(LOOPBACK, address.port(), "/", &nameless, None, LONG);
    assert_eq!(answer.await.unwrap().status, 200);
    let url = format!("https://{address}/");
    let list = AllowList::parse([url.as_str()]).unwrap();
    let refused = client.external(&url, &list, None, LONG).await;
    assert!(
        matches!(refused, Err(Failure::Untrusted { .. })),
        "{refused:?}"
    );
}
