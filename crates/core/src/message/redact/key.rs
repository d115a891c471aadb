//! Words that announce a secret.

/// How what follows such a word is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Key {
    /// A header: its value goes to the end of the line.
    Header,
    /// A password: it may be a phrase.
    Password,
    /// Anything else that is one word, and that is also talked about in sentences.
    Other,
}

/// Parts of names of secrets, small letters without `-` and `_`.
const PARTS: [&str; 25] = [
    "secret",
    "token",
    "apikey",
    "accesskey",
    "privatekey",
    "accountkey",
    "encryptionkey",
    "signingkey",
    "masterkey",
    "authkey",
    "sharedkey",
    "hmackey",
    "deploykey",
    "credential",
    "authorization",
    "cookie",
    "sessionid",
    "sessid",
    "bearer",
    "connectionstring",
    "connstr",
    "dsn",
    "signature",
    "csrf",
    "xsrf",
];
/// Names that are no part of others.
const WHOLE: [&str; 11] = [
    "session",
    "jwt",
    "sid",
    "sig",
    "otp",
    "auth",
    "xauth",
    "creds",
    "nonce",
    "webhookurl",
    "pat",
];
/// Parts of names of passwords.
const PASSWORDS: [&str; 5] = ["password", "passwd", "passphrase", "pwd", "passcode"];
/// Ends of names that speak about a secret without holding it.
const ABOUT: [&str; 14] = [
    "error",
    "exception",
    "type",
    "count",
    "name",
    "file",
    "path",
    "ttl",
    "length",
    "policy",
    "ref",
    "expired",
    "attempts",
    "ambiguous",
];
/// Longest name of a secret: what is longer is something else.
const LONGEST: usize = 100;

/// Where the word ends that begins here; here, when none does.
pub(super) fn end_of_word(text: &str, at: usize) -> usize {
    let is_part = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
    let rest = text.as_bytes().get(at..).unwrap_or_default();
    at + rest.iter().take_while(|byte| is_part(byte)).count()
}

/// What the word announces, when it announces a secret.
pub(super) fn key(word: &str, is_query: bool) -> Option<Key> {
    if word.len() > LONGEST {
        return None;
    }
    let plain: String = word
        .chars()
        .filter(char::is_ascii_alphanumeric)
        .map(|c| c.to_ascii_lowercase())
        .collect();
    if ABOUT.iter().any(|end| plain.ends_with(end)) {
        return None;
    }
    if PASSWORDS.iter().any(|part| plain.contains(part)) || is_pass(&plain) {
        return Some(Key::Password);
    }
    let header = ["authorization", "proxyauthorization", "cookie", "setcookie"];
    if header.contains(&plain.as_str()) {
        return Some(Key::Header);
    }
    let is_other = PARTS.iter().any(|part| plain.contains(part))
        || WHOLE.contains(&plain.as_str())
        || plain.ends_with("session")
        || plain.ends_with("psk")
        || is_query && matches!(plain.as_str(), "key" | "code" | "k" | "pass");
    is_other.then_some(Key::Other)
}

/// `DB_PASS`, and not how many tests pass.
fn is_pass(plain: &str) -> bool {
    plain.ends_with("pass") && !matches!(plain, "pass" | "bypass" | "compass")
}

/// Names of the ways to authorize: a credential follows.
pub(super) fn is_scheme(word: &str) -> bool {
    ["bearer", "basic", "digest", "negotiate", "apikey"]
        .iter()
        .any(|scheme| word.eq_ignore_ascii_case(scheme))
}
