//! Whatever is written into a policy, a zone or a redirect: no connection to an address that is not allowed.
//!
//! Runs itself again in a network of its own, in which every address leads to a sinkhole. For each row it shows
//! that nobody arrives there, and by the kernel's count that nobody even tried, and that a plain client does arrive.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "what is wrong in a test ends it"
)]

mod dns;
mod net;
mod rows;
#[path = "../support/mod.rs"]
mod support;
mod tls;

use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use dns::Asked;
use net::{Sinkhole, begun};
use rollback_probe::allow::AllowList;
use rollback_probe::networks::{Externals, Networks};
use rollback_probe::prometheus::Unknown;
use rollback_probe::{Client, Failure, Refusal};
use rows::{GOOD, HONEST};

const NAME: &str = "no_trick_reaches_an_address_that_is_not_allowed";
const INSIDE: &str = "ROLLBACK_TEST_INSIDE";
const LIMIT: Duration = Duration::from_secs(10);

#[test]
fn no_trick_reaches_an_address_that_is_not_allowed() {
    if let Some(folder) = std::env::var_os(INSIDE) {
        return inside(Path::new(&folder));
    }
    if let Err(why) = can_unshare() {
        return support::skipped(NAME, &why);
    }
    let folder = tempfile::tempdir().unwrap();
    let authority = tls::make(folder.path());
    let output = Command::new("unshare")
        .args(["--net", "--mount", "--"])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", NAME, "--nocapture"])
        .env(INSIDE, folder.path())
        .env("SSL_CERT_FILE", authority)
        .env_remove("SSL_CERT_DIR")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    let failed = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}\n{failed}");
    let rows = said.lines().find_map(|line| line.strip_prefix("rows: "));
    let rows: usize = rows.unwrap().parse().unwrap();
    assert!(rows >= 100, "{rows}");
    println!("{rows} rows");
}

/// Whether namespaces can be made here.
fn can_unshare() -> Result<(), String> {
    if std::fs::metadata("/proc/self").map_or(1, |process| process.uid()) != 0 {
        return Err("namespaces need root".to_owned());
    }
    let tried = Command::new("unshare")
        .args(["--net", "--mount", "--", "ip", "link", "set", "lo", "up"])
        .output();
    match tried {
        Ok(output) if output.status.success() => Ok(()),
        Ok(output) => Err(String::from_utf8_lossy(&output.stderr).into_owned()),
        Err(error) => Err(format!("unshare: {error}")),
    }
}

struct Scene {
    client: Client,
    sinkhole: Sinkhole,
    asked: Asked,
    rows: usize,
}

fn inside(folder: &Path) {
    net::set_up(folder);
    let names = rows::names().into_iter().chain(rows::rebinding());
    let names = names.map(|(name, _)| name).chain(rows::public());
    let everything = vec!["0.0.0.0/0".parse().unwrap(), "::/0".parse().unwrap()];
    let _ = rustls::crypto::ring::default_provider().install_default();
    let mut scene = Scene {
        asked: dns::serve(names.collect()),
        client: Client::new(Networks(everything.clone()), Externals(everything)).unwrap(),
        sinkhole: Sinkhole::open(),
        rows: 0,
    };
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        scene.what_is_allowed_is_reached().await;
        scene.names_are_verified(folder).await;
        scene.a_silent_resolver_takes_no_longer_than_it_may().await;
        scene.addresses().await;
        scene.urls().await;
        scene.names().await;
        scene.rebinding().await;
        scene.redirects().await;
    });
    println!("\nrows: {}", scene.rows);
    // A lookup that was given up may still wait for its server.
    runtime.shutdown_background();
}

impl Scene {
    async fn get(&self, url: &str, entries: &[&str]) -> Result<u16, Failure> {
        let list = AllowList::parse(entries.iter().copied()).unwrap();
        let answer = self.client.external(url, &list, None, LIMIT).await;
        answer.map(|answer| answer.status)
    }

    /// The same client, to which the administrator has named this Prometheus, if that can be done.
    fn listing(&self, base: &str) -> Client {
        let allowed = AllowList::parse([base]).unwrap_or_default();
        self.client.clone().with_prometheus(allowed)
    }

    /// Nothing was tried since `begun` and nobody arrived, but a plain client does.
    fn refused(&mut self, row: &str, tried: u64, arrived: usize, means: SocketAddr) {
        assert_eq!(begun(), tried, "{row:?}: a connection was tried");
        let control = self.sinkhole.control(means);
        assert_eq!(self.sinkhole.since(arrived), [control], "{row:?}");
        assert_eq!(begun(), tried + 1, "{row:?}: the control is not counted");
        self.rows += 1;
    }

    /// A client without protection takes the trick: something new arrives.
    async fn unprotected(&self, url: &str) {
        let arrived = self.sinkhole.count();
        // The sinkhole speaks no TLS, so an answer is not waited for.
        let asking = tokio::spawn(reqwest::get(url.to_owned()));
        support::eventually(url, || self.sinkhole.count() > arrived);
        asking.abort();
        let _ = asking.await;
    }

    async fn what_is_allowed_is_reached(&self) {
        for url in [
            "http://www.example.com/health",
            "http://www.example.com/health/a?b",
        ] {
            let (tried, arrived) = (begun(), self.sinkhole.count());
            assert_eq!(self.get(url, &HONEST).await, Ok(200));
            assert_eq!(begun(), tried + 1);
            let arrivals = self.sinkhole.since(arrived);
            let [arrival] = arrivals[..] else {
                panic!("{arrivals:?}")
            };
            assert_eq!(arrival.to, SocketAddr::new(GOOD.parse().unwrap(), 80));
        }
        // The list is what keeps others out, not the name.
        let evil = ["http://evil.test/health"];
        assert_eq!(self.get(evil[0], &evil).await, Ok(200));
        let pod = self
            .client
            .pod("10.0.0.1".parse().unwrap(), 8080, "/", None, LIMIT);
        assert_eq!(pod.await.unwrap().status, 200);
    }

    /// The pinned address is asked for the name: in the TLS handshake, in the check of the certificate, and in the header.
    async fn names_are_verified(&self, folder: &Path) {
        let seen = tls::serve(folder, SocketAddr::new(GOOD.parse().unwrap(), 8443));
        let right = "https://status.example.com:8443/health";
        assert_eq!(self.get(right, &[right]).await, Ok(200));
        let seen = seen.recv_timeout(LIMIT).unwrap();
        assert_eq!(seen.name.as_deref(), Some("status.example.com"));
        assert!(
            seen.request.contains("host: status.example.com:8443\r\n"),
            "{seen:?}"
        );
        let wrong = "https://other.example.com:8443/health";
        let host = "other.example.com".to_owned();
        assert_eq!(
            self.get(wrong, &[wrong]).await,
            Err(Failure::Untrusted { host })
        );
    }

    async fn a_silent_resolver_takes_no_longer_than_it_may(&self) {
        let (url, host) = (
            "http://silent.example.com/health",
            "silent.example.com".to_owned(),
        );
        let list = AllowList::parse([url]).unwrap();
        let begin = Instant::now();
        let limit = Duration::from_millis(200);
        let answer = self.client.external(url, &list, None, limit).await;
        assert_eq!(answer, Err(Failure::TimedOut { host }));
        assert!(begin.elapsed() >= limit && begin.elapsed() < LIMIT / 2);
        let url = "http://nobody.example.com/health";
        let host = "nobody.example.com".to_owned();
        assert_eq!(
            self.get(url, &[url]).await,
            Err(Failure::Unresolvable { host })
        );
    }

    async fn addresses(&mut self) {
        for text in rows::OWN.into_iter().chain(rows::PRIVATE) {
            let means = SocketAddr::new(text.parse().unwrap(), 80);
            let (tried, arrived) = (begun(), self.sinkhole.count());
            self.address(means.ip(), rows::OWN.contains(&text)).await;
            self.refused(text, tried, arrived, means);
        }
        for text in rows::NOBODY {
            let tried = begun();
            self.address(text.parse().unwrap(), true).await;
            assert_eq!(begun(), tried, "{text}");
        }
    }

    /// As a URL that the policy lists, and for addresses of the machine as a pod and as Prometheus, although every network is allowed.
    async fn address(&self, address: IpAddr, own: bool) {
        let url = format!(
            "http://{}/health",
            SocketAddr::new(address.to_canonical(), 80)
        );
        let answer = self.get(&url, &[&url]).await;
        assert!(
            matches!(
                answer,
                Err(Failure::NotAllowed(Refusal::ExternalNetworks { .. }))
            ),
            "{url}: {answer:?}"
        );
        if own {
            let pod = self.client.pod(address, 80, "/", None, LIMIT).await;
            assert!(
                matches!(pod, Err(Failure::NotAllowed(Refusal::ProbeNetworks { .. }))),
                "{address}: {pod:?}"
            );
            let base = format!("http://{}", SocketAddr::new(address.to_canonical(), 80));
            let number = self.listing(&base).query(&base, "up", LIMIT).await;
            assert!(
                matches!(
                    number,
                    Err(Unknown::NotAllowed(Refusal::ProbeNetworks { .. }))
                ),
                "{base}: {number:?}"
            );
        }
    }

    async fn urls(&mut self) {
        let tricks = rows::URLS.iter().map(|row| (row, true));
        let lookalikes = rows::LOOKALIKES.iter().map(|row| (row, false));
        for (&(url, means), listed) in tricks.chain(lookalikes) {
            let (tried, arrived) = (begun(), self.sinkhole.count());
            let parsed = url::Url::parse(url).ok();
            let parsed = parsed.filter(|parsed| matches!(parsed.scheme(), "http" | "https"));
            let mut lists = vec![HONEST.map(str::to_owned).to_vec()];
            // A list that names what the URL turns out to mean, so that only the address can refuse it.
            if let Some(parsed) = parsed.as_ref().filter(|_| listed) {
                lists.push(vec![parsed[..url::Position::BeforePath].replace('@', "")]);
                let host = parsed.host_str().unwrap();
                let port = parsed.port_or_known_default().unwrap();
                lists.push(vec![format!("{}://{host}:{port}/", parsed.scheme())]);
            }
            for list in lists {
                let Ok(list) = AllowList::parse(list.iter().map(String::as_str)) else {
                    continue;
                };
                let answer = self.client.external(url, &list, None, LIMIT).await;
                assert!(
                    matches!(answer, Err(Failure::NotAllowed(_))),
                    "{url:?}: {answer:?}"
                );
            }
            // Private addresses may be those of Prometheus.
            if listed && !means.starts_with("10.") {
                let number = self.listing(url).query(url, "up", LIMIT).await;
                assert!(
                    matches!(number, Err(Unknown::NotAllowed(_))),
                    "{url:?}: {number:?}"
                );
            }
            self.refused(url, tried, arrived, means.parse().unwrap());
            // Without an interface, nobody reaches a link-local address.
            if parsed.is_some() && !url.contains("fe80") {
                self.unprotected(url).await;
            }
        }
    }

    async fn names(&mut self) {
        for (name, bad) in rows::names() {
            let url = format!("http://{}/health", name.name);
            let (tried, arrived) = (begun(), self.sinkhole.count());
            let answer = self.get(&url, &[&url]).await;
            assert!(
                matches!(&answer, Err(Failure::NotAllowed(Refusal::ExternalNetworks { host, .. })) if host == name.name),
                "{url}: {answer:?}"
            );
            let bad = lookup(name.name, bad);
            self.refused(&url, tried, arrived, bad);
        }
        self.names_of_prometheus().await;
    }

    async fn names_of_prometheus(&mut self) {
        for (name, bad) in rows::names() {
            let own = rows::OWN.contains(&bad);
            let base = format!("http://{}:9090", name.name);
            let (tried, arrived) = (begun(), self.sinkhole.count());
            if own {
                let number = self.listing(&base).query(&base, "up", LIMIT).await;
                assert!(
                    matches!(
                        number,
                        Err(Unknown::NotAllowed(Refusal::ProbeNetworks { .. }))
                    ),
                    "{base}: {number:?}"
                );
                let mut bad = lookup(name.name, bad);
                bad.set_port(9090);
                self.refused(&base, tried, arrived, bad);
            }
        }
    }

    async fn rebinding(&mut self) {
        for (name, bad) in rows::rebinding() {
            let url = format!("http://{}/health", name.name);
            let (tried, arrived) = (begun(), self.sinkhole.count());
            assert_eq!(self.get(&url, &[&url]).await, Ok(200), "{url}");
            assert_eq!(self.asked.a(name.name), 1, "{url}: resolved once");
            assert_eq!(begun(), tried + 1, "{url}");
            let arrivals = self.sinkhole.since(arrived);
            let [arrival] = arrivals[..] else {
                panic!("{url}: {arrivals:?}")
            };
            assert!(
                name.answers[0].contains(&arrival.to.ip()),
                "{url}: {arrival:?}"
            );
            // Whoever resolves again is led astray.
            let bad = lookup(name.name, bad);
            let (tried, arrived) = (begun(), self.sinkhole.count());
            let again = self.get(&url, &[&url]).await;
            assert!(
                matches!(again, Err(Failure::NotAllowed(_))),
                "{url}: {again:?}"
            );
            self.refused(&url, tried, arrived, bad);
        }
    }

    async fn redirects(&mut self) {
        for (number, (location, means)) in rows::REDIRECTS.iter().enumerate() {
            let url = format!("http://www.example.com/health/redirect/{number}");
            let (tried, arrived) = (begun(), self.sinkhole.count());
            assert_eq!(self.get(&url, &HONEST).await, Ok(302), "{location}");
            assert_eq!(self.sinkhole.since(arrived).len(), 1, "{location}");
            assert_eq!(begun(), tried + 1, "{location}");
            let means: SocketAddr = means.parse().unwrap();
            self.refused(location, tried + 1, arrived + 1, means);
            let arrived = self.sinkhole.count();
            let asking = tokio::spawn(reqwest::get(url));
            support::eventually(location, || {
                let arrivals = self.sinkhole.since(arrived);
                arrivals.iter().any(|arrival| arrival.to == means)
            });
            asking.abort();
            let _ = asking.await;
        }
    }
}

/// The bad address among those that the system's resolver gives for a name.
fn lookup(name: &str, bad: &str) -> SocketAddr {
    let bad: IpAddr = bad.parse().unwrap();
    let mut all = (name, 80).to_socket_addrs().unwrap();
    all.find(|address| address.ip() == bad)
        .unwrap_or_else(|| panic!("{name} does not lead to {bad}"))
}
