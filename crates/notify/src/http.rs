//! One POST: allowed by name and by address, without proxies and redirects, and short.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue, RETRY_AFTER};
use rollback_probe::pinned;
use url::Url;

use crate::address::Secret;
use crate::answer::Answer;
use crate::{Client, LIMIT};

/// How much of an answer is read.
const READ: usize = 16 * 1024;
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

/// The URL in a Secret.
pub(crate) fn parse(text: &str) -> Result<Url, Answer> {
    let no_url = || Answer::later("what stands in its Secret or the policy is no URL");
    let url = Url::parse(text).map_err(|_| no_url())?;
    let is_odd = !url.username().is_empty() || url.password().is_some();
    if is_odd { Err(no_url()) } else { Ok(url) }
}

impl Client {
    /// Posts, and gives the answer whatever it is.
    pub(crate) async fn exchange(&self, post: Post) -> Result<Reply, Answer> {
        let host = post.url.host_str().unwrap_or_default().to_owned();
        if !self.destinations.allow(&post.url) {
            return Err(Answer::later(format!(
                "the controller's --notify-allow does not name {host} with this scheme and port; an administrator of the cluster adds it there"
            )));
        }
        let exchange = tokio::time::timeout(LIMIT, self.send(post, &host));
        exchange
            .await
            .unwrap_or_else(|_| Err(Answer::later(format!("{host}: no answer in time"))))
    }

    async fn send(&self, wanted: Post, host: &str) -> Result<Reply, Answer> {
        let addresses = pinned::resolve(&wanted.url, host)
            .await
            .map_err(Answer::from)?;
        self.judge(host, &addresses)?;
        let failed = |error: reqwest::Error| Answer::from(pinned::explain(host, &error));
        let client = pinned::client(&self.tls, addresses).map_err(failed)?;
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(wanted.content_type));
        if let Some(bearer) = &wanted.bearer {
            let value = HeaderValue::from_str(&format!("Bearer {}", bearer.expose()));
            let mut value = value
                .map_err(|_| Answer::later("the token in its Secret is not one line of ASCII"))?;
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
        let (body, _) = pinned::read(&mut response, READ).await.map_err(failed)?;
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
            // A name may lead elsewhere for a moment, and an administrator may allow it.
            Some(address) => Err(Answer::later(format!(
                "{host} leads to {}, which is neither public nor in a network that --external-networks or --probe-networks allows",
                address.ip()
            ))),
        }
    }
}

/// What an answer means by its status alone. Refused for good is only what condemns the message itself; an address that is
/// wrong, or a credential that is not valid any more, is mended by people, and the message waits for that.
pub(crate) fn classified(host: &str, reply: &Reply) -> Answer {
    let status = reply.status;
    let why = format!("{host} answered {status}");
    match status {
        200..=299 => Answer::delivered(),
        429 => Answer::Later {
            after: Some(reply.retry_after.unwrap_or(ENOUGH)),
            why,
        },
        400 | 413 | 422 => Answer::Refused { why },
        _ => Answer::Later {
            after: reply.retry_after,
            why,
        },
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_condemns_the_message_is_refused_for_good() {
        let answer = |status| {
            let reply = Reply {
                status,
                retry_after: None,
                body: Vec::new(),
            };
            classified("hooks.slack.com", &reply)
        };
        for status in [200, 202, 204] {
            assert_eq!(answer(status), Answer::delivered(), "{status}");
        }
        for status in [400, 413, 422] {
            let refused = matches!(answer(status), Answer::Refused { .. });
            assert!(refused, "{status}");
        }
        for status in [302, 401, 403, 404, 407, 408, 410, 425, 429, 500, 503] {
            let later = matches!(answer(status), Answer::Later { .. });
            assert!(later, "{status}");
        }
    }
}
