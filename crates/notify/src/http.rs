//! One POST: allowed by name and by address, without proxies and redirects, and short.

use std::error::Error;
use std::future::ready;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue, RETRY_AFTER};
use reqwest::{redirect, retry};
use rustls::client::Resumption;
use rustls::{ClientConfig, RootCertStore};
use url::{Host, Url};

use crate::address::Secret;
use crate::answer::Answer;
use crate::{Client, LIMIT};

/// How much of an answer is read.
const READ: usize = 16 * 1024;
/// Who asks.
const USER_AGENT: &str = "rollback-controller";
/// How long a service is left alone that says that it has enough, and not for how long.
const ENOUGH: Duration = Duration::from_secs(30);
/// Longest time that a service may ask to be left alone for.
const LONGEST: Duration = Duration::from_hours(1);

/// What is posted.
pub(crate) struct Post {
    pub url: Url,
    pub body: String,
    pub content_type: &'static str,
    pub bearer: Option<Secret>,
    pub signature: Option<String>,
}

impl Post {
    pub fn json(url: Url, body: &serde_json::Value) -> Self {
        Self {
            url,
            body: body.to_string(),
            content_type: "application/json",
            bearer: None,
            signature: None,
        }
    }
}

/// What came back.
pub(crate) struct Reply {
    pub status: u16,
    pub retry_after: Option<Duration>,
    pub body: Vec<u8>,
}

/// What this system trusts.
pub(crate) fn trust() -> Result<ClientConfig, rustls::Error> {
    let mut roots = RootCertStore::empty();
    // An image may have no certificates, or a broken one among them: then less is trusted.
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut tls = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    tls.resumption = Resumption::disabled();
    Ok(tls)
}

/// The URL in a Secret.
pub(crate) fn parse(text: &str) -> Result<Url, Answer> {
    let no_url = || Answer::refused("what stands in its Secret or the policy is no URL");
    let url = Url::parse(text).map_err(|_| no_url())?;
    let is_odd = !url.username().is_empty() || url.password().is_some();
    if is_odd { Err(no_url()) } else { Ok(url) }
}

impl Client {
    /// Posts, and gives the answer whatever it is.
    pub(crate) async fn exchange(&self, post: Post) -> Result<Reply, Answer> {
        let host = post.url.host_str().unwrap_or_default().to_owned();
        if !self.destinations.allow(&post.url) {
            return Err(Answer::refused(format!(
                "the controller's --notify-allow does not name {host} with this scheme and port; an administrator of the cluster adds it there"
            )));
        }
        let exchange = tokio::time::timeout(LIMIT, self.send(post, &host));
        exchange
            .await
            .unwrap_or_else(|_| Err(Answer::later(format!("{host}: no answer in time"))))
    }

    async fn send(&self, wanted: Post, host: &str) -> Result<Reply, Answer> {
        let port = wanted.url.port_or_known_default().unwrap_or_default();
        let addresses = match wanted.url.host() {
            Some(Host::Ipv4(address)) => vec![SocketAddr::new(address.into(), port)],
            Some(Host::Ipv6(address)) => vec![SocketAddr::new(address.into(), port)],
            Some(Host::Domain(name)) => resolve(name, port).await?,
            None => return Err(Answer::refused("the URL has no host")),
        };
        self.judge(host, &addresses)?;
        let failed = |error: reqwest::Error| Answer::later(explain(host, &error));
        let client = self.pinned(addresses).map_err(failed)?;
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(wanted.content_type));
        if let Some(bearer) = &wanted.bearer {
            let value = HeaderValue::from_str(&format!("Bearer {}", bearer.expose()));
            let mut value = value
                .map_err(|_| Answer::refused("the token in its Secret is not one line of ASCII"))?;
            value.set_sensitive(true);
            headers.insert(AUTHORIZATION, value);
        }
        if let Some(signature) = wanted
            .signature
            .and_then(|it| HeaderValue::from_str(&it).ok())
        {
            headers.insert("x-rollback-signature", signature);
        }
        let request = client.post(wanted.url).headers(headers).body(wanted.body);
        let mut response = request.send().await.map_err(failed)?;
        let retry_after = retry_after(response.headers());
        let mut body = Vec::new();
        while body.len() < READ
            && let Some(chunk) = response.chunk().await.map_err(failed)?
        {
            body.extend_from_slice(&chunk);
        }
        body.truncate(READ);
        Ok(Reply {
            status: response.status().as_u16(),
            retry_after,
            body,
        })
    }

    /// Whether these addresses may be asked at all.
    pub(crate) fn judge(&self, host: &str, addresses: &[SocketAddr]) -> Result<(), Answer> {
        let is_allowed = |ip: IpAddr| self.externals.allow(ip) || self.networks.allow(ip);
        match addresses.iter().find(|it| !is_allowed(it.ip())) {
            None => Ok(()),
            Some(address) => Err(Answer::refused(format!(
                "{host} leads to {}, which is neither public nor in a network that --external-networks or --probe-networks allows",
                address.ip()
            ))),
        }
    }

    /// A client that knows these addresses and no others, whatever a URL says.
    fn pinned(&self, addresses: Vec<SocketAddr>) -> reqwest::Result<reqwest::Client> {
        reqwest::Client::builder()
            .tls_backend_preconfigured(self.tls.clone())
            .dns_resolver(Pinned(addresses))
            .redirect(redirect::Policy::none())
            .retry(retry::never())
            .no_proxy()
            .referer(false)
            .http1_only()
            .pool_max_idle_per_host(0)
            .user_agent(USER_AGENT)
            .build()
    }
}

/// What an answer means by its status alone.
pub(crate) fn classified(host: &str, reply: &Reply) -> Answer {
    let status = reply.status;
    let why = format!("{host} answered {status}");
    match status {
        200..=299 => Answer::delivered(),
        429 => Answer::Later {
            after: Some(reply.retry_after.unwrap_or(ENOUGH)),
            why,
        },
        408 | 425 | 500..=599 => Answer::Later {
            after: reply.retry_after,
            why,
        },
        _ => Answer::Refused { why },
    }
}

fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let seconds = headers
        .get(RETRY_AFTER)?
        .to_str()
        .ok()?
        .trim()
        .parse()
        .ok()?;
    Some(Duration::from_secs(seconds).min(LONGEST))
}

/// The addresses of a name.
pub(crate) async fn resolve(name: &str, port: u16) -> Result<Vec<SocketAddr>, Answer> {
    let found = tokio::net::lookup_host((name, port)).await;
    let found: Vec<SocketAddr> = found.into_iter().flatten().collect();
    if found.is_empty() {
        return Err(Answer::later(format!("the name {name} cannot be resolved")));
    }
    Ok(found)
}

/// Nothing of the URL but its host, and nothing of what came back.
fn explain(host: &str, error: &reqwest::Error) -> String {
    let causes = std::iter::successors(error.source(), |error| (*error).source());
    let is_tls = causes
        .into_iter()
        .any(|it| it.to_string().contains("certificate"));
    if is_tls {
        format!("{host} has no certificate for this name that this system trusts")
    } else if error.is_connect() {
        format!("{host}: connection refused or unreachable")
    } else {
        format!("{host}: the answer is not HTTP, or broke off")
    }
}

struct Pinned(Vec<SocketAddr>);

impl Resolve for Pinned {
    fn resolve(&self, _: Name) -> Resolving {
        let addresses: Addrs = Box::new(self.0.clone().into_iter());
        Box::pin(ready(Ok(addresses)))
    }
}
