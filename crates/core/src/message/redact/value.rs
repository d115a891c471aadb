//! Secrets that are known by the word before them, or by their place in an address.

use std::ops::Range;

use super::command;
use super::key::{self, Key, end_of_word, is_scheme};

/// How far an address is looked at, in bytes.
const ADDRESS: usize = 1024;
/// How far a name is looked for after the end of a value, in bytes.
const NAME: usize = 40;
/// Values that say that there is none.
const NONE: [&str; 11] = [
    "null",
    "nil",
    "<nil>",
    "none",
    "None",
    "undefined",
    "true",
    "false",
    "YES",
    "NO",
    "yes",
];

/// The user and the password in `scheme://user:password@host`, and in `user:password@host`.
pub(super) fn in_address(text: &str, word: &Range<usize>) -> Option<Range<usize>> {
    let after = &text[word.end..];
    if after.starts_with("://") {
        return in_url(text, word.end + 3);
    }
    let password = after.strip_prefix(':')?;
    let before = text[..word.start].bytes().next_back();
    let run = limited(password, 256);
    let length = run.find(is_end_of_address).unwrap_or(run.len());
    let at = run[..length].rfind('@')?;
    let host = &password[at + 1..];
    let is_host = host
        .starts_with(|c: char| c.is_ascii_alphabetic() || c == '[' || c.is_ascii_digit())
        && !host.starts_with("sha256:")
        && !is_version(host);
    let is_image = before == Some(b'/') || text[word.clone()].eq_ignore_ascii_case("mailto");
    let start = word.end + 1;
    (at > 0 && is_host && !is_image).then_some(start..start + at)
}

/// `18.2.0`, as packages are named, and no address of four numbers.
fn is_version(host: &str) -> bool {
    let length = host
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(host.len());
    length > 0 && host[..length].matches('.').count() != 3
}

fn is_end_of_address(c: char) -> bool {
    c.is_whitespace() || matches!(c, '"' | '\'' | '`' | '<' | '>')
}

fn in_url(text: &str, start: usize) -> Option<Range<usize>> {
    let run = limited(&text[start..], ADDRESS);
    let run = &run[..run.find(is_end_of_address).unwrap_or(run.len())];
    let authority = &run[..run.find(['/', '?', '#']).unwrap_or(run.len())];
    let end = match authority.rfind('@') {
        Some(at) => at,
        // A password with a slash in it, not escaped: what follows the colon is no port then.
        None if has_odd_port(authority) && authority.len() < run.len() => run.rfind('@')?,
        None => return None,
    };
    let user = &run[..end];
    (!user.is_empty() && user != "git").then_some(start..start + end)
}

fn has_odd_port(authority: &str) -> bool {
    let is_port = |port: &str| port.bytes().all(|byte| byte.is_ascii_digit());
    !authority.starts_with('[')
        && authority
            .split_once(':')
            .is_some_and(|(_, port)| !is_port(port))
}

/// The value that this word announces.
pub(super) fn announced(text: &str, word: &Range<usize>) -> Option<Range<usize>> {
    let name = &text[word.clone()];
    let before = text[..word.start].bytes().next_back();
    if let Some(found) = after_scheme(text, word).or_else(|| of_user(text, word)) {
        return Some(found);
    }
    let separated = separator(text, word.end);
    let key = key::key(name, matches!(before, Some(b'?' | b'&')))
        .or_else(|| command::of_pass(name, separated.as_ref(), text))?;
    let rest = &text[word.end..];
    if before == Some(b'<') && rest.starts_with('>') {
        let start = word.end + 1;
        let end = text[start..]
            .find('<')
            .map_or(text.len(), |end| start + end);
        return (end > start).then_some(start..end);
    }
    if let Some(separated) = separated {
        let is_number_of = name.ends_with("okens");
        return value(
            text,
            &Separated {
                is_number_of,
                ..separated
            },
            key,
        );
    }
    if let Some(start) = value_beside(text, word.end) {
        return value(text, &Separated::by_itself(start), key);
    }
    let argument = rest.strip_prefix([' ', '\t'])?;
    let is_flag = name.starts_with('-') && !argument.starts_with('-') && !is_usage(argument);
    let is_quoted = key == Key::Password && argument.starts_with(['"', '\'']);
    (is_flag || is_quoted).then(|| value(text, &Separated::by_itself(word.end + 1), Key::Other))?
}

/// How programs explain their options: `-password string`.
fn is_usage(argument: &str) -> bool {
    let kind = argument.split_whitespace().next().unwrap_or_default();
    matches!(kind, "string" | "value" | "stringArray") || kind.starts_with('<')
}

/// `Bearer ...` and `Basic ...`, unless a word of a sentence follows.
fn after_scheme(text: &str, word: &Range<usize>) -> Option<Range<usize>> {
    if !is_scheme(&text[word.clone()]) || !text[word.end..].starts_with([' ', '\t']) {
        return None;
    }
    let start = word.end + 1;
    let found = bare(text, start);
    let credential = &text[found.clone()];
    let is_word = credential.len() < 20
        && credential
            .bytes()
            .skip(1)
            .all(|byte| byte.is_ascii_lowercase());
    (credential.len() >= 6 && !is_word).then_some(found)
}

/// `curl -u user:password`.
fn of_user(text: &str, word: &Range<usize>) -> Option<Range<usize>> {
    let is_flag = matches!(&text[word.clone()], "-u" | "--user" | "--proxy-user");
    let start = word.end + 1;
    if !is_flag || !text[word.end..].starts_with([' ', '=']) {
        return None;
    }
    let found = bare(text, start);
    text[found.clone()].contains(':').then_some(found)
}

/// Where a value begins, and whether it may be the rest of a sentence.
pub(super) struct Separated {
    pub(super) start: usize,
    pub(super) is_sentence: bool,
    is_number_of: bool,
}

impl Separated {
    pub(super) fn by_itself(start: usize) -> Self {
        Self {
            start,
            is_sentence: false,
            is_number_of: false,
        }
    }
}

/// How many tokens, and no token.
fn is_number(word: &str) -> bool {
    word.len() <= 12 && word.bytes().all(|byte| byte.is_ascii_digit())
}

/// What stands between a name and its value: `=`, `:`, `=>`, `:=`, and the same in an address.
fn separator(text: &str, end: usize) -> Option<Separated> {
    let rest = &text[end..];
    let unquoted = rest.strip_prefix('\\').unwrap_or(rest);
    let unquoted = unquoted.strip_prefix(['"', '\'', '`']).unwrap_or(unquoted);
    let is_quoted = unquoted.len() < rest.len();
    let unquoted = unquoted.strip_prefix(']').unwrap_or(unquoted);
    let spaced = without_blanks(unquoted);
    let after = ["=>", ":=", "==", "=", ":", "%3D", "%3d", "%3A", "%3a"]
        .iter()
        .find_map(|separator| spaced.strip_prefix(separator))?;
    let value = without_blanks(after);
    Some(Separated {
        start: text.len() - value.len(),
        is_sentence: !is_quoted && spaced.starts_with(':') && value.len() < after.len(),
        is_number_of: false,
    })
}

fn without_blanks(text: &str) -> &str {
    let blanks = text
        .bytes()
        .take(16)
        .take_while(|byte| matches!(byte, b' ' | b'\t'))
        .count();
    &text[blanks..]
}

/// Where the value begins in a pair such as `{"name": "DB_PASSWORD", "value": "..."}`.
fn value_beside(text: &str, end: usize) -> Option<usize> {
    let rest = limited(&text[end..], NAME);
    let is_between = |c: char| c.is_whitespace() || matches!(c, '"' | '\'' | '\\' | ',' | ';');
    let word = rest.trim_start_matches(is_between);
    let begin = end + rest.len() - word.len();
    let name = &text[begin..end_of_word(text, begin)];
    if begin == end || !name.eq_ignore_ascii_case("value") {
        return None;
    }
    separator(text, begin + name.len()).map(|separated| separated.start)
}

/// How far the value goes that begins here.
pub(super) fn value(text: &str, separated: &Separated, key: Key) -> Option<Range<usize>> {
    let start = separated.start;
    let rest = &text[start..];
    let quotes = ["\"\"\"", "\\\"", "\\'", "\"", "'", "`"];
    if let Some(quote) = quotes.iter().find(|quote| rest.starts_with(**quote)) {
        return quoted(text, start + quote.len(), quote);
    }
    let found = match rest.chars().next()? {
        '\n' | '\r' => return None,
        '{' | '[' | '(' => bracketed(text, start),
        '|' | '>' => return block(text, start),
        _ => bare(text, start),
    };
    let word = &text[found.clone()];
    if word.is_empty() || NONE.contains(&word) || separated.is_number_of && is_number(word) {
        return None;
    }
    if separated.is_sentence && key != Key::Password && is_prose(&text[start..]) {
        return None;
    }
    let end = match key {
        Key::Header => end_of_line(text, start),
        Key::Password if separated.is_sentence => end_of_phrase(text, found.end),
        Key::Password | Key::Other if is_scheme(&text[found.clone()]) => end_of_line(text, start),
        Key::Password | Key::Other => found.end,
    };
    Some(start..end.max(found.end))
}

/// Two words of a sentence, as in `authorization: server message: denied`.
fn is_prose(text: &str) -> bool {
    let line = limited(text, 80).lines().next().unwrap_or_default();
    let mut words = line.split(' ');
    let is_word = |word: &str| {
        let word = word.trim_end_matches([':', ',', '.']);
        (1..=12).contains(&word.len()) && word.bytes().all(|byte| byte.is_ascii_lowercase())
    };
    let first = words.next().unwrap_or_default();
    is_word(first) && !is_scheme(first) && words.next().is_some_and(is_word)
}

fn end_of_line(text: &str, start: usize) -> usize {
    let line = text[start..]
        .find(['\n', '\r'])
        .map_or(text.len(), |end| start + end);
    start + text[start..line].trim_end().len()
}

/// An unquoted phrase goes on to a comma, a semicolon, a bracket or the end of the line.
fn end_of_phrase(text: &str, start: usize) -> usize {
    let rest = &text[start..];
    let phrase = rest
        .find([',', ';', ')', '}', '"', '\'', '\n', '\r'])
        .map_or(rest, |cut| &rest[..cut]);
    start + phrase.trim_end().len()
}

/// To the quote that closes; without one, to the end of the line.
fn quoted(text: &str, start: usize, quote: &str) -> Option<Range<usize>> {
    let bytes = text.as_bytes();
    let is_quote = |at: usize| {
        bytes
            .get(at..)
            .is_some_and(|rest| rest.starts_with(quote.as_bytes()))
    };
    let mut at = start;
    while let Some(byte) = bytes.get(at) {
        if is_quote(at) {
            let next = at + quote.len();
            // A quote twice is a quote in the value.
            if at == start || !is_quote(next) {
                return (at > start).then_some(start..at);
            }
            at = next + quote.len();
        } else if matches!(byte, b'\n' | b'\r') && quote.len() < 3 {
            break;
        } else if *byte == b'\\' && quote.len() == 1 {
            at += 2;
        } else {
            at += 1;
        }
    }
    let end = at.min(text.len());
    let end = start + text.get(start..end)?.trim_end().len();
    (end > start).then_some(start..end)
}

/// A list or a map as a value, to the bracket that closes it, and what sticks to it.
fn bracketed(text: &str, start: usize) -> Range<usize> {
    let mut depth = 0_usize;
    for (offset, byte) in text[start..].bytes().enumerate() {
        match byte {
            b'{' | b'[' | b'(' => depth += 1,
            b'}' | b']' | b')' => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth == 0 {
            let end = start + offset + 1;
            return start..bare(text, end).end;
        }
    }
    start..text.len()
}

/// A block of YAML: the lines that are indented more than nothing.
fn block(text: &str, start: usize) -> Option<Range<usize>> {
    let first = end_of_line(text, start);
    let mark = &text[start..first];
    if mark.len() > 2 || !mark.bytes().skip(1).all(|byte| matches!(byte, b'-' | b'+')) {
        let found = bare(text, start);
        return (!found.is_empty()).then_some(found);
    }
    let mut end = first;
    for line in text[first..].split_inclusive('\n').skip(1) {
        if !line.starts_with([' ', '\t']) {
            break;
        }
        end = line.len() + end.max(first + 1);
    }
    let begin = first + text[first..].len() - text[first..].trim_start().len();
    (end > begin).then(|| begin..begin + text[begin..end.min(text.len())].trim_end().len())
}

/// A value without quotes: to a blank, or to what begins the next name.
pub(super) fn bare(text: &str, start: usize) -> Range<usize> {
    let rest = &text[start..];
    let end = rest
        .char_indices()
        .find(|(at, c)| is_end(rest, *at, *c))
        .map_or(rest.len(), |(at, _)| at);
    let kept =
        rest[..end].trim_end_matches([',', ';', ':', '.', ')', ']', '}', '>', '"', '\'', '\\']);
    start..start + kept.len()
}

fn is_end(rest: &str, at: usize, c: char) -> bool {
    let after = &rest[at + c.len_utf8()..];
    match c {
        '"' | '\'' | '`' => after
            .chars()
            .next()
            .is_none_or(|next| next.is_whitespace() || ",;:)}]>/?".contains(next)),
        '<' => after.starts_with('/'),
        '&' | ';' | ',' => begins_name(after),
        other => other.is_whitespace(),
    }
}

fn begins_name(after: &str) -> bool {
    let after = limited(after, NAME).trim_start();
    let length = after
        .find(|c: char| {
            !c.is_ascii_alphanumeric() && !matches!(c, '_' | '-' | '.' | ' ' | '"' | '\'')
        })
        .unwrap_or(after.len());
    length > 0 && after[length..].starts_with(['=', ':'])
}

fn limited(text: &str, limit: usize) -> &str {
    &text[..text.floor_char_boundary(limit)]
}
