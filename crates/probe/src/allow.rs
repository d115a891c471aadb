//! Which URLs outside the cluster a policy lets be asked.

use url::{Host, Url};

/// Longest URL, in bytes. A URL that is longer is no health check.
const MAX_URL: usize = 2048;

/// Why a URL, or an entry of a list, is not one that is asked. Nothing of the URL is quoted: it may hold a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Oddity {
    /// Not a URL at all, or too long.
    #[error("it is not a URL of at most 2048 characters")]
    NotAUrl,
    /// Neither http nor https.
    #[error("it begins neither with https:// nor with http://")]
    Scheme,
    /// A name or a password before the host.
    #[error("it holds a user name or a password")]
    UserInfo,
    /// A part after `#`, which is never sent.
    #[error("it holds a #")]
    Fragment,
    /// The host means another host than it says: numbers, escapes, letters outside ASCII, backslashes.
    #[error(
        "its host is not written in the usual way: letters, digits, dots and hyphens, or a plain address"
    )]
    Host,
    /// The path or the query means another one than it says.
    #[error(
        "its path or query is not in its plain form: no .. or ., no escaped dots, slashes or percent signs"
    )]
    Path,
    /// An entry of a list is a prefix, so a query makes no sense.
    #[error("it holds a ?, which an address to begin with cannot have")]
    Query,
}

/// What a policy lets be asked: each entry is a scheme, a host, a port if it is not the usual one, and the
/// path to begin with, for example `https://status.example.com/health`.
#[derive(Clone, Debug, Default)]
pub struct AllowList(Vec<Url>);

impl AllowList {
    /// Reads the entries. An entry that cannot be read is an error with its position, from 0.
    pub fn parse<'a>(entries: impl IntoIterator<Item = &'a str>) -> Result<Self, (usize, Oddity)> {
        entries
            .into_iter()
            .enumerate()
            .map(|(position, entry)| prefix(entry).map_err(|oddity| (position, oddity)))
            .collect::<Result<_, _>>()
            .map(Self)
    }

    /// Whether an entry holds for this URL: the same scheme, host and port, and a path that goes on from the
    /// entry's at a slash. `/health` holds for `/health` and `/health/live`, not for `/healthz`.
    pub(crate) fn holds(&self, url: &Url) -> bool {
        self.0.iter().any(|entry| {
            entry.scheme() == url.scheme()
                && entry.host() == url.host()
                && entry.port_or_known_default() == url.port_or_known_default()
                && begins(url.path(), entry.path())
        })
    }
}

fn begins(path: &str, prefix: &str) -> bool {
    path.strip_prefix(prefix)
        .is_some_and(|rest| rest.is_empty() || prefix.ends_with('/') || rest.starts_with('/'))
}

/// A URL that others are made of by adding to its path.
pub(crate) fn prefix(text: &str) -> Result<Url, Oddity> {
    let url = plain(text)?;
    if url.query().is_some() {
        return Err(Oddity::Query);
    }
    Ok(url)
}

/// Reads a URL that says what it means: what is left after parsing is what was written, but for the case of scheme
/// and host and for an empty path. So no reader in between can understand another URL.
pub(crate) fn plain(text: &str) -> Result<Url, Oddity> {
    if text.len() > MAX_URL {
        return Err(Oddity::NotAUrl);
    }
    let url = Url::parse(text).map_err(|_| Oddity::NotAUrl)?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(Oddity::Scheme);
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(Oddity::UserInfo);
    }
    if url.fragment().is_some() {
        return Err(Oddity::Fragment);
    }
    let rest = after_host(text, &url).ok_or(Oddity::Host)?;
    same_path(rest, &url).ok_or(Oddity::Path)?;
    Ok(url)
}

/// What follows the port in `text`, if everything before it is written as it was understood.
fn after_host<'a>(text: &'a str, url: &Url) -> Option<&'a str> {
    let host = url.host_str()?;
    if matches!(url.host()?, Host::Domain(name) if name.is_empty() || name.len() > 254) {
        return None;
    }
    let start = format!("{}://{host}", url.scheme());
    let (before, mut rest) = text.split_at_checked(start.len())?;
    if !before.eq_ignore_ascii_case(&start) {
        return None;
    }
    if let Some(port) = rest.strip_prefix(':') {
        let digits = port.bytes().take_while(u8::is_ascii_digit).count();
        let (number, after) = port.split_at_checked(digits)?;
        if number.parse().ok() != url.port_or_known_default() {
            return None;
        }
        rest = after;
    }
    (rest.is_empty() || rest.starts_with(['/', '?'])).then_some(rest)
}

fn same_path(rest: &str, url: &Url) -> Option<()> {
    let (path, query) = match rest.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (rest, None),
    };
    let written = if path.is_empty() { "/" } else { path };
    let honest = written == url.path()
        && query == url.query()
        && written.split('/').all(plain_segment)
        && escapes_are_plain(written);
    honest.then_some(())
}

/// Some servers cut a segment at `;` before they look for `..`.
fn plain_segment(segment: &str) -> bool {
    let name = segment.split(';').next().unwrap_or_default();
    !matches!(name, "." | "..")
}

/// Whether decoding the path, even twice, leaves its segments as they are.
fn escapes_are_plain(path: &str) -> bool {
    let mut parts = path.split('%');
    parts.next();
    parts.all(|part| {
        part.get(..2)
            .and_then(|hex| u8::from_str_radix(hex, 16).ok())
            .is_some_and(|byte| !byte.is_ascii_control() && !b"./\\%;?#".contains(&byte))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn holds(entry: &str, url: &str) -> bool {
        let list = AllowList::parse([entry]).unwrap();
        plain(url).is_ok_and(|url| list.holds(&url))
    }

    #[test]
    fn an_entry_is_scheme_host_port_and_the_start_of_the_path() {
        let entry = "https://status.example.com/health";
        assert!(holds(entry, "https://status.example.com/health"));
        assert!(holds(entry, "https://status.example.com/health/live"));
        assert!(holds(entry, "https://status.example.com/health?token=1"));
        assert!(holds(entry, "HTTPS://Status.Example.COM:443/health"));
        assert!(!holds(entry, "https://status.example.com/healthz"));
        assert!(!holds(entry, "https://status.example.com/Health"));
        assert!(!holds(entry, "https://status.example.com/"));
        assert!(!holds(entry, "http://status.example.com/health"));
        assert!(!holds(entry, "https://status.example.com:8443/health"));
        assert!(!holds(entry, "https://status.example.com./health"));
        assert!(!holds(entry, "https://a.status.example.com/health"));
        assert!(holds("http://10.0.0.1", "http://10.0.0.1/any/path"));
        assert!(holds("http://h/a/", "http://h/a/b"));
        assert!(!holds("http://h/a/", "http://h/a"));
    }

    #[test]
    fn a_url_has_to_say_what_it_means() {
        for (url, oddity) in [
            ("", Oddity::NotAUrl),
            ("status.example.com", Oddity::NotAUrl),
            ("http://", Oddity::NotAUrl),
            ("http://h:99999/", Oddity::NotAUrl),
            ("http://[fe80::1%25lo]/", Oddity::NotAUrl),
            ("file:///etc/passwd", Oddity::Scheme),
            ("gopher://h/", Oddity::Scheme),
            ("https://u@h/", Oddity::UserInfo),
            ("https://:p@h/", Oddity::UserInfo),
            ("https://@h/", Oddity::Host),
            ("https://h/#f", Oddity::Fragment),
            ("https:/h/", Oddity::Host),
            ("https:h/", Oddity::Host),
            ("https:\\\\h/", Oddity::Host),
            ("https://h\\@evil/", Oddity::Host),
            (" https://h/", Oddity::Host),
            ("ht\ttps://h/", Oddity::Host),
            ("http://2130706433/", Oddity::Host),
            ("http://0x7f.1/", Oddity::Host),
            ("http://127.1/", Oddity::Host),
            ("http://0177.0.0.1/", Oddity::Host),
            ("http://127.0.0.1./", Oddity::Host),
            ("http://%31.2.3.4/", Oddity::Host),
            ("http://１２７.0.0.1/", Oddity::Host),
            ("http://[::ffff:127.0.0.1]/", Oddity::Host),
            ("http://h/a/../b", Oddity::Path),
            ("http://h/a/%2e%2E/b", Oddity::Path),
            ("http://h/a/.%2e/b", Oddity::Path),
            ("http://h/a/..%2fb", Oddity::Path),
            ("http://h/a%5cb", Oddity::Path),
            ("http://h/a%252e", Oddity::Path),
            ("http://h/a/..;/b", Oddity::Path),
            ("http://h/a%00", Oddity::Path),
            ("http://h/a%0d%0aX", Oddity::Path),
            ("http://h/a\\b", Oddity::Path),
            ("http://h/a b", Oddity::Path),
            ("http://h/a%zz", Oddity::Path),
            ("http://h/a%", Oddity::Path),
            ("http://h/é", Oddity::Path),
            ("http://h/?a\nb", Oddity::Path),
        ] {
            assert_eq!(plain(url).unwrap_err(), oddity, "{url:?}");
        }
        assert!(plain(&format!("http://h/{}", "a".repeat(MAX_URL))).is_err());
        assert!(plain("http://h/%20%C3%A9/x;v=1/a..b?q=%2F..%00").is_ok());
        assert_eq!(
            AllowList::parse(["http://h/", "http://h/?x"]).unwrap_err(),
            (1, Oddity::Query)
        );
    }
}
