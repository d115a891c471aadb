//! Which hosts may be told anything: the administrator's list.

use std::str::FromStr;

use url::{Host, Url};

/// The well-known services, which need no entry of their own.
pub const WELL_KNOWN: &str = "hooks.slack.com,slack.com,events.pagerduty.com,events.eu.pagerduty.com,\
*.logic.azure.com,*.environment.api.powerplatform.com";

/// Why an entry is none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "a destination is a host (example.com, for HTTPS), *.DOMAIN, or has a scheme before it: https://HOST:PORT, http://HOST:PORT or smtp://HOST:PORT"
)]
pub struct Malformed;

/// How a host is talked to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Scheme {
    Https,
    Http,
    Smtp,
}

/// One host, or all below a domain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Destination {
    scheme: Scheme,
    /// In small letters, without the `*.`.
    host: String,
    below: bool,
    /// Any for SMTP when it is not said.
    port: Option<u16>,
}

impl FromStr for Destination {
    type Err = Malformed;

    fn from_str(text: &str) -> Result<Self, Malformed> {
        let (scheme, rest) = match text.split_once("://") {
            None => (Scheme::Https, text),
            Some(("https", rest)) => (Scheme::Https, rest),
            Some(("http", rest)) => (Scheme::Http, rest),
            Some(("smtp", rest)) => (Scheme::Smtp, rest),
            Some(_) => return Err(Malformed),
        };
        let (below, rest) = match rest.strip_prefix("*.") {
            Some(rest) => (true, rest),
            None => (false, rest),
        };
        // As the URL parser reads it, so that both sides of a comparison were read in the same way.
        let url = Url::parse(&format!("http://{rest}")).map_err(|_| Malformed)?;
        let is_bare = url.path() == "/" && url.query().is_none() && url.fragment().is_none();
        let is_bare = is_bare && url.username().is_empty() && url.password().is_none();
        let host = url
            .host()
            .filter(|_| is_bare && !rest.ends_with('/'))
            .ok_or(Malformed)?;
        if rest.contains('*') {
            return Err(Malformed);
        }
        if below && (!matches!(host, Host::Domain(_)) || !rest.contains('.')) {
            return Err(Malformed);
        }
        let written = rest
            .rsplit_once(':')
            .and_then(|(_, port)| port.parse().ok());
        let port = match (scheme, written) {
            (_, Some(port)) => Some(port),
            (Scheme::Https, None) => Some(443),
            (Scheme::Http, None) => Some(80),
            (Scheme::Smtp, None) => None,
        };
        Ok(Self {
            scheme,
            host: host.to_string(),
            below,
            port,
        })
    }
}

impl Destination {
    fn allows(&self, scheme: Scheme, host: &str, port: u16) -> bool {
        let is_it = if self.below {
            let below = host.strip_suffix(&self.host);
            below.is_some_and(|below| below.len() > 1 && below.ends_with('.'))
        } else {
            host == self.host
        };
        is_it && self.scheme == scheme && self.port.is_none_or(|it| it == port)
    }
}

/// The list.
#[derive(Clone, Debug, Default)]
pub struct Destinations(pub Vec<Destination>);

impl Destinations {
    /// Whether this URL may be asked.
    pub fn allow(&self, url: &Url) -> bool {
        let scheme = match url.scheme() {
            "https" => Scheme::Https,
            "http" => Scheme::Http,
            _ => return false,
        };
        let (Some(host), Some(port)) = (url.host(), url.port_or_known_default()) else {
            return false;
        };
        self.allows(scheme, &host.to_string(), port)
    }

    /// Whether this mail server may be asked.
    pub fn allow_mail(&self, server: &str, port: u16) -> bool {
        self.allows(Scheme::Smtp, &server.to_ascii_lowercase(), port)
    }

    fn allows(&self, scheme: Scheme, host: &str, port: u16) -> bool {
        self.0.iter().any(|it| it.allows(scheme, host, port))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(text: &str) -> Destinations {
        Destinations(text.split(',').map(|it| it.parse().unwrap()).collect())
    }

    fn allows(entries: &str, url: &str) -> bool {
        list(entries).allow(&Url::parse(url).unwrap())
    }

    #[test]
    fn the_well_known_services_are_reached_and_nothing_that_looks_like_them() {
        for url in [
            "https://hooks.slack.com/services/T/B/x",
            "https://slack.com/api/chat.postMessage",
            "https://events.pagerduty.com/v2/enqueue",
            "https://prod-12.westeurope.logic.azure.com:443/workflows/x",
            "https://HOOKS.slack.com/x",
        ] {
            assert!(allows(WELL_KNOWN, url), "{url}");
        }
        for url in [
            "http://hooks.slack.com/services/T/B/x",
            "https://hooks.slack.com:8443/x",
            "https://evil.example/hooks.slack.com",
            "https://hooks.slack.com.evil.example/x",
            "https://hooks.slack.com@evil.example/x",
            "https://evilslack.com/x",
            "https://logic.azure.com/x",
            "https://evillogic.azure.com/x",
            "ftp://slack.com/x",
        ] {
            assert!(!allows(WELL_KNOWN, url), "{url}");
        }
    }

    #[test]
    fn an_entry_opens_its_scheme_and_port_alone() {
        assert!(allows(
            "http://alertmanager.monitoring.svc:9093",
            "http://alertmanager.monitoring.svc:9093/api"
        ));
        assert!(!allows(
            "http://alertmanager.monitoring.svc:9093",
            "http://alertmanager.monitoring.svc/api"
        ));
        assert!(!allows(
            "http://alertmanager.monitoring.svc:9093",
            "https://alertmanager.monitoring.svc:9093/api"
        ));
        assert!(allows("http://[::1]:80", "http://[::1]/x"));
        assert!(list("smtp://mail.example.com").allow_mail("MAIL.example.com", 587));
        assert!(!list("smtp://mail.example.com:465").allow_mail("mail.example.com", 587));
        assert!(!list("mail.example.com").allow_mail("mail.example.com", 443));
    }

    #[test]
    fn what_is_no_destination_is_refused() {
        for text in [
            "",
            "*",
            "*.com",
            "https://",
            "https://a/b",
            "https://u:p@a",
            "ftp://a",
            "a b",
            "http://a?x",
        ] {
            assert_eq!(text.parse::<Destination>(), Err(Malformed), "{text}");
        }
    }
}
