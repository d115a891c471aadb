//! One exchange: a name is resolved once, every address it has is judged, and only those are connected to.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use reqwest::header::{CONTENT_TYPE, HOST, HeaderName, HeaderValue};
use rustls::ClientConfig;
use url::Url;

use crate::allow::{AllowList, Oddity};
use crate::http::How;
use crate::networks::{Externals, Networks};
use crate::pinned;

/// Why there is nothing to ask with.
#[derive(Debug, thiserror::Error)]
pub enum Setup {
    /// TLS cannot be used.
    #[error("preparing TLS for checks")]
    Tls(#[from] rustls::Error),
}

/// Why something was not asked at all.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The URL is not one that is asked.
    #[error("the URL is not asked: {0}")]
    Url(Oddity),
    /// No entry of the allow-list holds for the URL.
    #[error("no entry of the policy's list of URLs allows this URL of {host}")]
    NotListed {
        /// Host of the URL.
        host: String,
    },
    /// The administrator has not named this Prometheus.
    #[error(
        "the controller's --prometheus-allow does not name the Prometheus at {host}; an administrator of the cluster adds its address there"
    )]
    PrometheusNotListed {
        /// Host of the URL.
        host: String,
    },
    /// The address is in no network that pods and Prometheus may have.
    #[error(
        "{host} leads to {address}, which is outside the networks that --probe-networks allows"
    )]
    ProbeNetworks {
        /// Host that was to be asked.
        host: String,
        /// Address that is not allowed.
        address: IpAddr,
    },
    /// The address is not one of the public network.
    #[error(
        "{host} leads to {address}, which is neither public nor in a network that --external-networks allows"
    )]
    ExternalNetworks {
        /// Host that was to be asked.
        host: String,
        /// Address that is not allowed.
        address: IpAddr,
    },
}

/// Why there is no answer. Names the host and nothing else of the URL or of what came back.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// It was not asked.
    #[error(transparent)]
    NotAllowed(#[from] Refusal),
    /// The name has no address, or the resolver does not answer.
    #[error("the name {host} cannot be resolved")]
    Unresolvable {
        /// Host that was asked.
        host: String,
    },
    /// Nobody accepts the connection.
    #[error("{host}: connection refused or unreachable")]
    Unreachable {
        /// Host that was asked.
        host: String,
    },
    /// TLS did not come about.
    #[error(
        "{host} does not speak TLS, or has no certificate for this name that this system trusts"
    )]
    Untrusted {
        /// Host that was asked.
        host: String,
    },
    /// Resolving, connecting and answering took longer than they may.
    #[error("{host}: no answer in time")]
    TimedOut {
        /// Host that was asked.
        host: String,
    },
    /// What came back is not an HTTP answer, or not all of one.
    #[error("{host}: the answer is not HTTP, or broke off")]
    NotHttp {
        /// Host that was asked.
        host: String,
    },
    /// The answer is longer than is read, and what was read does not settle the matter.
    #[error("{host}: the answer is longer than {limit} bytes, and no more is read")]
    TooLarge {
        /// Host that was asked.
        host: String,
        /// How much is read, in bytes.
        limit: usize,
    },
}

/// Asks. Holds no connection: every question has its own.
#[derive(Clone)]
pub struct Client {
    tls: ClientConfig,
    /// For pods, whose certificates nobody knows.
    tls_of_pods: ClientConfig,
    pub(crate) pods: Networks,
    externals: Externals,
    pub(crate) prometheus: AllowList,
}

/// Whose addresses a question may lead to.
#[derive(Clone, Copy)]
pub(crate) enum Reach {
    /// Pods and Prometheus.
    Cluster,
    /// URLs outside.
    External,
}

/// One question.
pub(crate) struct Question<'a> {
    pub url: &'a Url,
    pub reach: Reach,
    /// Who is asked, whatever the URL says; without it, who the URL says.
    pub to: Option<SocketAddr>,
    /// How, where a plain request does not do.
    pub how: Option<&'a How>,
    /// A form to post; without it, it is a GET.
    pub form: Option<String>,
    /// How many bytes of the body are read; without it, none.
    pub read: Option<usize>,
}

impl<'a> Question<'a> {
    /// A plain GET.
    pub fn get(url: &'a Url, reach: Reach, read: Option<usize>) -> Self {
        Self {
            url,
            reach,
            to: None,
            how: None,
            form: None,
            read,
        }
    }
}

/// What came back.
pub(crate) struct Reply {
    pub status: u16,
    /// What was read of the body.
    pub body: Vec<u8>,
    /// Whether there is more of it.
    pub cut: bool,
}

impl Client {
    /// A client that trusts what this system trusts. It reads the certificates from the disk, so make it once.
    pub fn new(pods: Networks, externals: Externals) -> Result<Self, Setup> {
        Ok(Self {
            tls: pinned::trust()?,
            tls_of_pods: pinned::any_certificate()?,
            pods,
            externals,
            prometheus: AllowList::default(),
        })
    }

    /// The same client, which may ask these Prometheus servers. Without a list it asks none.
    #[must_use]
    pub fn with_prometheus(self, allowed: AllowList) -> Self {
        Self {
            prometheus: allowed,
            ..self
        }
    }

    /// Asks, and takes no longer than `limit` for everything together.
    pub(crate) async fn ask(
        &self,
        question: Question<'_>,
        limit: Duration,
    ) -> Result<Reply, Failure> {
        let host = host(question.url);
        tokio::time::timeout(limit, self.exchange(question, &host))
            .await
            .unwrap_or(Err(Failure::TimedOut { host }))
    }

    async fn exchange(&self, question: Question<'_>, host: &str) -> Result<Reply, Failure> {
        let addresses = match question.to {
            Some(socket) => vec![socket],
            None => pinned::resolve(question.url, host).await?,
        };
        for address in &addresses {
            self.judge(question.reach, host, address.ip())?;
        }
        let explain = |error: reqwest::Error| pinned::explain(host, &error);
        let tls = if question.how.is_some_and(|how| how.tls) {
            &self.tls_of_pods
        } else {
            &self.tls
        };
        let client = pinned::client(tls, addresses).map_err(explain)?;
        let mut request = match question.form {
            None => client.get(question.url.clone()),
            Some(form) => client
                .post(question.url.clone())
                .header(
                    CONTENT_TYPE,
                    HeaderValue::from_static("application/x-www-form-urlencoded"),
                )
                .body(form),
        };
        for (name, value) in question.how.into_iter().flat_map(headers) {
            request = request.header(name, value);
        }
        let mut response = request.send().await.map_err(explain)?;
        let status = response.status().as_u16();
        let (body, cut) = match question.read {
            Some(most) => pinned::read(&mut response, most).await.map_err(explain)?,
            None => (Vec::new(), false),
        };
        Ok(Reply { status, body, cut })
    }

    pub(crate) fn judge(&self, reach: Reach, host: &str, address: IpAddr) -> Result<(), Refusal> {
        let host = host.to_owned();
        match reach {
            Reach::Cluster if !self.pods.allow(address) => {
                Err(Refusal::ProbeNetworks { host, address })
            }
            Reach::External if !self.externals.allow(address) => {
                Err(Refusal::ExternalNetworks { host, address })
            }
            Reach::Cluster | Reach::External => Ok(()),
        }
    }
}

/// The headers of a question that are ones.
fn headers(how: &How) -> impl Iterator<Item = (HeaderName, HeaderValue)> {
    let host = how.host.iter().map(|host| (HOST.as_str(), host.as_str()));
    let more = how.headers.iter();
    let more = more.map(|(name, value)| (name.as_str(), value.as_str()));
    host.chain(more)
        .filter_map(|(name, value)| Some((name.parse().ok()?, value.parse().ok()?)))
}

/// The host for messages: as the URL has it, without its port.
pub(crate) fn host(url: &Url) -> String {
    url.host_str().unwrap_or_default().to_owned()
}
