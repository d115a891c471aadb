//! Texts, names, times and addresses from outside, made harmless as they are read.

use std::fmt;
use std::marker::PhantomData;

use jiff::Timestamp;
use jiff::civil::date;
use jiff::tz::TimeZone;
use serde::Deserialize;
use serde::de::{self, Deserializer, IgnoredAny, SeqAccess, Visitor};
use sha2::{Digest, Sha256};
use url::Url;

use crate::alert::Alert;

/// Longest identity that is kept as it is, in characters; of a longer one, its digest.
const LONGEST_KEY: usize = 200;
/// Longest part of an error message that comes from the body, in characters.
const LONGEST_REASON: usize = 200;

/// A text without what cannot be seen: one line, at most [`Alert::LONGEST`] characters.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Text(pub String);

/// A text as it came, as long as the body is at most: only ever an intermediate.
#[derive(Clone, Debug, Default)]
pub(super) struct Raw(pub String);

/// A number or a text, as a [`Text`]: for fields that senders write either way.
#[derive(Clone, Debug, Default)]
pub(super) struct NumberOrText(pub String);

/// What a sender knows something by: not empty, and not a template that was left as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Key(pub String);

/// A moment by RFC 3339, in a year that a clock can have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct When(pub Timestamp);

/// The first `MOST` members of a list, and how many there were.
#[derive(Clone, Debug)]
pub(super) struct Few<T, const MOST: usize> {
    pub items: Vec<T>,
    pub count: usize,
}

/// One line of what can be seen of it, at most [`Alert::LONGEST`] characters.
pub(super) fn clean(raw: &str) -> String {
    cut(raw, Alert::LONGEST)
}

/// The same, for a part of an error message.
pub(super) fn short(raw: &str) -> String {
    cut(raw, LONGEST_REASON)
}

fn cut(raw: &str, longest: usize) -> String {
    let line: String = raw
        .chars()
        .filter_map(seen)
        .skip_while(|char| char.is_whitespace())
        .take(longest)
        .collect();
    line.trim_end().to_owned()
}

/// The character as it is kept: line breaks become spaces, what is invisible or turns the direction of writing goes.
fn seen(char: char) -> Option<char> {
    match char {
        '\t'..='\r' | '\u{85}' | '\u{2028}' | '\u{2029}' => Some(' '),
        '\u{ad}'
        | '\u{61c}'
        | '\u{180e}'
        | '\u{200b}'..='\u{200f}'
        | '\u{202a}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}'
        | '\u{fe00}'..='\u{fe0f}'
        | '\u{feff}'
        | '\u{fff9}'..='\u{fffb}'
        | '\u{e0000}'..='\u{e0fff}' => None,
        char if char.is_control() => None,
        char => Some(char),
    }
}

/// Whether a template was left as it is, of Go (`{{ .x }}`) or of Datadog (`$X`).
fn unrendered(text: &str) -> bool {
    let variable = text.strip_prefix('$').is_some_and(|name| {
        !name.is_empty()
            && name
                .chars()
                .all(|char| char.is_ascii_uppercase() || char == '_')
    });
    variable || text.contains("{{") || text.contains("}}")
}

/// The identity that these parts make together. Different parts never make the same one, and it stays short: it is their
/// digest if it would be long, if a part holds the separator, or if a part holds what cannot be seen.
pub(super) fn identity(parts: &[&str]) -> String {
    let joined = parts.join(" ");
    let plain = |part: &&str| !part.contains(' ') && clean(part) == *part;
    if !parts.iter().all(plain) || joined.chars().count() > LONGEST_KEY {
        let mut digest = Sha256::new();
        for part in parts {
            digest.update(part.len().to_be_bytes());
            digest.update(part);
        }
        format!("sha256:{}", hex::encode(digest.finalize()))
    } else {
        joined
    }
}

/// Seconds of a duration as rules have it: `90s`, `10m`, `1h30m`, `5m0s`, `0`.
pub(super) fn seconds(text: &str) -> Option<u32> {
    let text = text.trim();
    if text == "0" {
        return Some(0);
    }
    let mut rest = text;
    let mut sum: u32 = 0;
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let (number, tail) = rest.split_at_checked(digits)?;
        let units = tail.bytes().take_while(u8::is_ascii_alphabetic).count();
        let (unit, tail) = tail.split_at_checked(units)?;
        let one = match unit {
            "s" => 1,
            "m" => 60,
            "h" => 3600,
            "d" => 86_400,
            _other => return None,
        };
        let number: u32 = number.parse().ok()?;
        sum = sum.checked_add(number.checked_mul(one)?)?;
        rest = tail;
    }
    (!text.is_empty()).then_some(sum)
}

/// The pages among these: absolute `https` and `http` addresses without credentials, in the spelling of the URL
/// standard, at most [`super::MOST_LINKS`].
pub(super) fn links(addresses: impl IntoIterator<Item = Raw>) -> Vec<String> {
    let mut links = Vec::new();
    for address in addresses {
        if let Some(link) = link(&address.0)
            && !links.contains(&link)
            && links.len() < super::MOST_LINKS
        {
            links.push(link);
        }
    }
    links
}

fn link(address: &str) -> Option<String> {
    if address.len() > Alert::LONGEST || unrendered(address) {
        return None;
    }
    let url = Url::parse(address).ok()?;
    let web = matches!(url.scheme(), "https" | "http");
    let open = url.username().is_empty() && url.password().is_none();
    (web && open && url.as_str().len() <= Alert::LONGEST).then(|| url.into())
}

/// The moment, if it is in a year that a clock can have.
fn plausible<E: de::Error>(moment: Timestamp) -> Result<When, E> {
    let year = moment.to_zoned(TimeZone::UTC).date();
    if (date(2000, 1, 1)..date(2200, 1, 1)).contains(&year) {
        Ok(When(moment))
    } else {
        Err(E::custom("not a time between the years 2000 and 2200"))
    }
}

impl When {
    /// The moment that RFC 3339 names, or that Go prints: `2026-01-02 03:04:05.678 +0000 UTC`, as templates do.
    pub fn parse<E: de::Error>(text: &str) -> Result<Self, E> {
        let text = Some(text).filter(|text| text.len() <= 64);
        let printed = |text: &str| {
            let text = text.strip_suffix(" UTC")?;
            Timestamp::strptime("%Y-%m-%d %H:%M:%S%.f %z", text).ok()
        };
        let moment = text.and_then(|text| text.parse().ok().or_else(|| printed(text)));
        plausible(moment.ok_or_else(|| E::custom("not a time such as 2026-01-02T03:04:05Z"))?)
    }

    /// The moment so many milliseconds after 1970.
    pub fn milliseconds<E: de::Error>(text: &str) -> Result<Self, E> {
        let count = text.parse().ok();
        let moment = count.and_then(|count| Timestamp::from_millisecond(count).ok());
        plausible(moment.ok_or_else(|| E::custom("not a time in milliseconds since 1970"))?)
    }
}

impl Key {
    /// This text, if it can tell one thing from another.
    pub fn new<E: de::Error>(raw: &str) -> Result<Self, E> {
        let whole = cut(raw, usize::MAX);
        if whole.is_empty() {
            Err(E::custom(
                "empty, and nothing else tells this alert from others",
            ))
        } else if unrendered(&whole) {
            Err(E::custom("a template that was not filled in"))
        } else if whole.chars().count() > LONGEST_KEY {
            Ok(Self(identity(&[raw])))
        } else {
            Ok(Self(whole))
        }
    }
}

/// Takes a text, by a function; anything else is an error that names the type that came.
struct Taken<T, E>(fn(&str) -> Result<T, E>);

impl<T, E: de::Error> Visitor<'_> for Taken<T, E> {
    type Value = Result<T, E>;

    fn expecting(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.write_str("a text")
    }

    fn visit_str<F: de::Error>(self, text: &str) -> Result<Self::Value, F> {
        Ok((self.0)(text))
    }
}

fn take<'de, D: Deserializer<'de>, T>(
    from: D,
    by: fn(&str) -> Result<T, D::Error>,
) -> Result<T, D::Error> {
    from.deserialize_str(Taken(by))?
}

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        take(from, |text| Ok(Self(clean(text))))
    }
}

impl<'de> Deserialize<'de> for Raw {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        take(from, |text| Ok(Self(text.to_owned())))
    }
}

impl<'de> Deserialize<'de> for Key {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        take(from, Self::new)
    }
}

impl<'de> Deserialize<'de> for When {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        take(from, Self::parse)
    }
}

/// Takes a whole number or a text.
struct Either;

impl Visitor<'_> for Either {
    type Value = NumberOrText;

    fn expecting(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.write_str("a text or a whole number")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<NumberOrText, E> {
        Ok(NumberOrText(clean(text)))
    }

    fn visit_u64<E: de::Error>(self, number: u64) -> Result<NumberOrText, E> {
        Ok(NumberOrText(number.to_string()))
    }

    fn visit_i64<E: de::Error>(self, number: i64) -> Result<NumberOrText, E> {
        Ok(NumberOrText(number.to_string()))
    }
}

impl<'de> Deserialize<'de> for NumberOrText {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(Either)
    }
}

struct Members<T, const MOST: usize>(PhantomData<T>);

impl<'de, T: Deserialize<'de>, const MOST: usize> Visitor<'de> for Members<T, MOST> {
    type Value = Few<T, MOST>;

    fn expecting(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.write_str("a list")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
        let mut items = Vec::new();
        while items.len() < MOST {
            let Some(item) = list.next_element()? else {
                let count = items.len();
                return Ok(Few { items, count });
            };
            items.push(item);
        }
        let mut count = items.len();
        while list.next_element::<IgnoredAny>()?.is_some() {
            count += 1;
        }
        Ok(Few { items, count })
    }
}

impl<'de, T: Deserialize<'de>, const MOST: usize> Deserialize<'de> for Few<T, MOST> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_seq(Members(PhantomData))
    }
}

impl<T, const MOST: usize> Default for Few<T, MOST> {
    fn default() -> Self {
        Self {
            items: Vec::new(),
            count: 0,
        }
    }
}
