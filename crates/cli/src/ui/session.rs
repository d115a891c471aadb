//! The one session: who has opened the link is let in by a cookie, and nobody else.

use std::sync::atomic::{AtomicBool, Ordering};

use ring::rand::{SecureRandom, SystemRandom};
use subtle::ConstantTimeEq;

use crate::error::Error;

/// Name of the cookie.
const COOKIE: &str = "rollback-ui";
/// Bytes of each secret.
const SECRET: usize = 32;
/// Bytes of the folder in which all pages are.
const FOLDER: usize = 16;

/// Something random, which is never printed by accident.
struct Secret(String);

impl Secret {
    fn new(bytes: usize) -> Result<Self, Error> {
        let mut random = vec![0; bytes];
        SystemRandom::new()
            .fill(&mut random)
            .map_err(|_| Error::Refused("The system gives no random numbers.".to_owned()))?;
        Ok(Self(hex::encode(random)))
    }

    /// Whether it is this one; how long that takes tells nothing.
    fn is(&self, word: &str) -> bool {
        self.0.as_bytes().ct_eq(word.as_bytes()).into()
    }
}

/// The session.
pub struct Session {
    port: u16,
    /// The folder of the pages. A cookie is sent to every port of a machine, but only to this folder: so another server
    /// on this machine never gets it.
    base: String,
    link: Secret,
    used: AtomicBool,
    cookie: Secret,
    csrf: Secret,
}

impl Session {
    /// A new one.
    pub fn new(port: u16) -> Result<Self, Error> {
        Ok(Self {
            port,
            base: format!("/{}", Secret::new(FOLDER)?.0),
            link: Secret::new(SECRET)?,
            used: AtomicBool::new(false),
            cookie: Secret::new(SECRET)?,
            csrf: Secret::new(SECRET)?,
        })
    }

    /// The folder of the pages.
    pub fn base(&self) -> &str {
        &self.base
    }

    /// The address of a page.
    pub fn to(&self, path: &str) -> String {
        format!("{}{path}", self.base)
    }

    /// The address that lets in whoever opens it first.
    pub fn link(&self) -> String {
        format!(
            "http://127.0.0.1:{}{}/?token={}",
            self.port, self.base, self.link.0
        )
    }

    /// What the `Host` of a request may be. Anything else is a name that somebody points at this machine.
    pub fn is_host(&self, host: &str) -> bool {
        host == format!("127.0.0.1:{}", self.port) || host == format!("localhost:{}", self.port)
    }

    /// Takes the token of the link; it is good for one time.
    pub fn takes(&self, token: &str) -> bool {
        self.link.is(token) && !self.used.swap(true, Ordering::SeqCst)
    }

    /// The cookie, as it is set.
    pub fn set_cookie(&self) -> String {
        format!(
            "{COOKIE}={}; Path={}; HttpOnly; SameSite=Strict",
            self.cookie.0, self.base
        )
    }

    /// Whether one of these cookies is the right one.
    pub fn is_mine(&self, cookies: &str) -> bool {
        let mut pairs = cookies
            .split(';')
            .filter_map(|it| it.trim().split_once('='));
        pairs.any(|(name, value)| name == COOKIE && self.cookie.is(value))
    }

    /// What a form of ours has in it.
    pub fn csrf(&self) -> &str {
        &self.csrf.0
    }

    /// Whether a form is ours.
    pub fn is_form(&self, word: &str) -> bool {
        self.csrf.is(word)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_is_good_once_and_a_cookie_for_the_session() {
        let session = Session::new(4711).unwrap();
        let link = session.link();
        let token = link.split_once("?token=").unwrap().1.to_owned();
        assert_eq!(token.len(), 64);
        assert!(!session.takes("") && !session.takes(&token[1..]));
        assert!(session.takes(&token));
        assert!(!session.takes(&token));
        let cookie = session.set_cookie();
        let pair = cookie.split_once(';').unwrap().0;
        assert!(session.is_mine(&format!("a=b; {pair}")));
        assert!(
            !session.is_mine("") && !session.is_mine("rollback-ui=") && !session.is_mine(&token)
        );
        assert!(!session.is_form(""));
    }

    #[test]
    fn only_the_own_names_are_the_own_names() {
        let session = Session::new(4711).unwrap();
        assert!(session.is_host("127.0.0.1:4711") && session.is_host("localhost:4711"));
        for host in [
            "",
            "127.0.0.1",
            "127.0.0.1:4712",
            "evil.example:4711",
            "localhost:4711.evil.example",
            "[::1]:4711",
        ] {
            assert!(!session.is_host(host), "{host}");
        }
    }
}
