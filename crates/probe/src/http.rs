//! One GET, of a pod or of a URL that a policy allows.
//!
//! Redirects are not followed: a 3xx is a status like any other. Proxies of the environment are not used.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use url::Url;

use crate::allow::{self, AllowList, Oddity};
use crate::wire::{Client, Failure, Question, Reach, Refusal, host};

/// How much of a body is searched, in bytes.
pub const MAX_BODY: usize = 64 * 1024;

/// What an answer says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer {
    /// HTTP status.
    pub status: u16,
    /// Whether the body holds the text that was asked for; nothing if none was.
    pub body_matches: Option<bool>,
}

/// How a pod is asked, where a plain GET does not do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct How {
    /// Over TLS. As for a kubelet, any certificate will do: it is the pod's own, and its address is known.
    pub tls: bool,
    /// What the `Host` header says, and over TLS the name that is asked for; without it, the address.
    pub host: Option<String>,
    /// More headers. One that is none is left out.
    pub headers: Vec<(String, String)>,
}

impl Client {
    /// Asks one pod by a plain GET; see [`Client::pod_by`].
    pub async fn pod(
        &self,
        address: IpAddr,
        port: u16,
        path: &str,
        text: Option<&str>,
        limit: Duration,
    ) -> Result<Answer, Failure> {
        self.pod_by(address, port, path, &How::default(), text, limit)
            .await
    }

    /// Asks one pod. The path begins with `/` and may have a query. With `text`, the first [`MAX_BODY`] bytes of the
    /// body are searched for it: a body that goes on without it is [`Failure::TooLarge`], as nobody knows what follows.
    pub async fn pod_by(
        &self,
        address: IpAddr,
        port: u16,
        path: &str,
        how: &How,
        text: Option<&str>,
        limit: Duration,
    ) -> Result<Answer, Failure> {
        self.judge(Reach::Cluster, &address.to_string(), address)?;
        let socket = SocketAddr::new(address.to_canonical(), port);
        let url = pod_url(socket, path, how).ok_or(Refusal::Url(Oddity::Path))?;
        let question = Question {
            to: Some(socket),
            how: Some(how),
            ..Question::get(&url, Reach::Cluster, text.map(|_| MAX_BODY))
        };
        self.answer(question, text, limit).await
    }

    /// Asks a URL outside the cluster that an entry of the list allows. Every address that its name has must be
    /// allowed; `text` as for a pod.
    pub async fn external(
        &self,
        url: &str,
        allowed: &AllowList,
        text: Option<&str>,
        limit: Duration,
    ) -> Result<Answer, Failure> {
        let url = allow::plain(url).map_err(Refusal::Url)?;
        if !allowed.holds(&url) {
            return Err(Refusal::NotListed { host: host(&url) }.into());
        }
        let question = Question::get(&url, Reach::External, text.map(|_| MAX_BODY));
        self.answer(question, text, limit).await
    }

    async fn answer(
        &self,
        question: Question<'_>,
        text: Option<&str>,
        limit: Duration,
    ) -> Result<Answer, Failure> {
        let url = question.url;
        let reply = self.ask(question, limit).await?;
        let found = text.map(|text| String::from_utf8_lossy(&reply.body).contains(text));
        if reply.cut && found == Some(false) {
            return Err(Failure::TooLarge {
                host: host(url),
                limit: MAX_BODY,
            });
        }
        Ok(Answer {
            status: reply.status,
            body_matches: found,
        })
    }
}

/// A path must not be able to become a part of the host.
fn pod_url(socket: SocketAddr, path: &str, how: &How) -> Option<Url> {
    if !path.starts_with('/') || !path.bytes().all(|byte| byte.is_ascii_graphic()) {
        return None;
    }
    let scheme = if how.tls { "https" } else { "http" };
    let mut url = Url::parse(&format!("{scheme}://{socket}{path}")).ok()?;
    // Over TLS the name that is asked for is that of the URL; who is asked is the socket all the same.
    if let Some(host) = how.host.as_deref().filter(|_| how.tls) {
        url.set_host(Some(host)).ok()?;
    }
    Some(url)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_stays_a_path() {
        let socket: SocketAddr = "10.0.0.1:80".parse().unwrap();
        for path in ["", "@evil/", ":81/", ".evil/", "/a b", "/\n", "/é"] {
            assert_eq!(pod_url(socket, path, &How::default()), None, "{path:?}");
        }
        for path in [
            "//evil/",
            "/@evil",
            "/\\evil",
            "/../..//evil:81/",
            "/?@evil",
            "/#@evil",
        ] {
            let url = pod_url(socket, path, &How::default()).unwrap();
            assert_eq!(url.host_str(), Some("10.0.0.1"), "{path}");
            assert_eq!(url.port_or_known_default(), Some(80), "{path}");
        }
        let six = pod_url("[fd00::1]:8080".parse().unwrap(), "/x", &How::default()).unwrap();
        assert_eq!(six.as_str(), "http://[fd00::1]:8080/x");
    }
}
