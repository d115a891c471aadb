//! Secrets that are known by their own looks.

use std::ops::Range;

/// Beginnings that issuers give to their tokens.
const PREFIXES: [&str; 32] = [
    "AKIA",
    "ASIA",
    "AIza",
    "ghp_",
    "gho_",
    "ghu_",
    "ghs_",
    "ghr_",
    "github_pat_",
    "glpat-",
    "glptt-",
    "gldt-",
    "xoxa-",
    "xoxb-",
    "xoxp-",
    "xoxr-",
    "xoxe-",
    "xoxs-",
    "xapp-",
    "sk_live_",
    "rk_live_",
    "sk_test_",
    "rk_test_",
    "whsec_",
    "npm_",
    "dckr_pat_",
    "shpat_",
    "sk-proj-",
    "sk-ant-",
    "hvs-",
    "pypi-",
    "dop_v1_",
];
/// Shortest run that may be a token without saying so.
const SHORTEST: usize = 20;
/// Longest run that is looked at; what is longer is judged by its beginning.
const LONGEST: usize = 4096;

/// The token that begins with this word, with everything that belongs to it.
pub(super) fn at(text: &str, word: &Range<usize>) -> Option<Range<usize>> {
    let name = &text[word.clone()];
    if has_prefix(name) || is_jwt(name, text, word) {
        return Some(word.start..run(text, word.start, |byte| is_base64(byte) || byte == b'.'));
    }
    // A digest says what an image is, and opens nothing.
    if is_digest(text, word) || is_file(text, word) {
        return None;
    }
    if has_uuid(name) && !is_uid_of_pod(text, word) {
        return Some(word.clone());
    }
    longer_run(text, word)
        .or_else(|| is_one_case_random(name).then_some(word.end))
        .map(|end| word.start..padding(text, end))
}

/// Letters of base64 in both alphabets.
pub(super) fn is_base64(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/' | b'_' | b'-')
}

fn run(text: &str, at: usize, is_part: impl Fn(u8) -> bool) -> usize {
    let rest = text.as_bytes().get(at..).unwrap_or_default();
    at + rest.iter().take_while(|byte| is_part(**byte)).count()
}

fn has_prefix(word: &str) -> bool {
    PREFIXES
        .iter()
        .any(|prefix| word.starts_with(prefix) && is_long_enough(prefix, &word[prefix.len()..]))
}

/// Four letters are also the beginning of a word; what ends with a mark of its own is not.
fn is_long_enough(prefix: &str, rest: &str) -> bool {
    let least = if prefix.ends_with(['_', '-']) { 6 } else { 12 };
    rest.len() >= least
        && (least == 12
            || rest
                .bytes()
                .any(|byte| byte.is_ascii_digit() || byte.is_ascii_uppercase()))
}

fn is_jwt(word: &str, text: &str, at: &Range<usize>) -> bool {
    let follows = text.as_bytes().get(at.end).copied();
    word.starts_with("eyJ") && (word.len() >= 16 || word.len() >= 8 && follows == Some(b'.'))
}

fn is_digest(text: &str, word: &Range<usize>) -> bool {
    let is_hex = word.len() == 64
        && text[word.clone()]
            .bytes()
            .all(|byte| byte.is_ascii_hexdigit());
    is_hex && text[..word.start].ends_with("sha256:")
}

/// A part of a path that ends like the name of a file.
fn is_file(text: &str, word: &Range<usize>) -> bool {
    let before = text[..word.start].bytes().next_back();
    let Some(extension) = text[word.end..].strip_prefix('.') else {
        return false;
    };
    let letters = extension
        .bytes()
        .take(6)
        .take_while(u8::is_ascii_lowercase)
        .count();
    let after = extension.as_bytes().get(letters).copied();
    matches!(before, Some(b'/' | b'\\' | b'.'))
        && (1..=5).contains(&letters)
        && !after.is_some_and(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

fn has_uuid(word: &str) -> bool {
    const LENGTHS: [usize; 5] = [8, 4, 4, 4, 12];
    let parts: Vec<&str> = word.split(['-', '_']).collect();
    parts.windows(LENGTHS.len()).any(|window| {
        window.iter().zip(LENGTHS).all(|(part, length)| {
            part.len() == length && part.bytes().all(|byte| byte.is_ascii_hexdigit())
        })
    })
}

/// As the kubelet names a pod: `api-7d9f8b6c5d-x2x9k_shop(UID)`.
fn is_uid_of_pod(text: &str, word: &Range<usize>) -> bool {
    let Some(before) = text[..word.start].strip_suffix('(') else {
        return false;
    };
    let is_part = |byte: &u8| {
        byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'-' | b'.' | b'_')
    };
    let length = before.bytes().rev().take(320).take_while(is_part).count();
    word.len() == 36
        && before[before.len() - length..].matches('_').count() == 1
        && text[word.end..].starts_with(')')
}

/// Where a random run ends that begins with this word and has letters of base64 that no word has.
fn longer_run(text: &str, word: &Range<usize>) -> Option<usize> {
    let before = text[..word.start].bytes().next_back();
    let whole = !before.is_some_and(is_base64);
    let piece = !before.is_some_and(|byte| is_base64(byte) && byte != b'/');
    let is_random =
        |end: &usize| is_mixed_random(text.as_bytes().get(word.start..*end).unwrap_or_default());
    // Each run is looked at from its beginning alone, so that a long one is not looked at again and again.
    let whole = || whole.then(|| run(text, word.start, is_base64));
    let piece = || piece.then(|| run(text, word.start, |byte| is_base64(byte) && byte != b'/'));
    whole()
        .filter(is_random)
        .or_else(|| piece().filter(is_random))
        .or_else(|| Some(word.end).filter(is_random))
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Class {
    Small,
    Large,
    Digit,
}

fn class(byte: u8) -> Option<Class> {
    match byte {
        b'a'..=b'z' => Some(Class::Small),
        b'A'..=b'Z' => Some(Class::Large),
        b'0'..=b'9' => Some(Class::Digit),
        _ => None,
    }
}

/// How often the class changes from one letter to the next, and how many such pairs there are.
fn changes(run: &[u8]) -> (usize, usize) {
    let pairs = run
        .windows(2)
        .filter_map(|pair| Some((class(*pair.first()?)?, class(*pair.last()?)?)));
    pairs.fold((0, 0), |(changed, all), (one, next)| {
        (changed + usize::from(one != next), all + 1)
    })
}

/// Small letters, capitals and digits, in no order that a name would have: in words joined by capitals about a third
/// of the pairs change, in chance two thirds.
fn is_mixed_random(run: &[u8]) -> bool {
    if run.len() < SHORTEST {
        return false;
    }
    let run = run.get(..LONGEST).unwrap_or(run);
    let has = |wanted: Class| run.iter().any(|byte| class(*byte) == Some(wanted));
    if !has(Class::Small) || !has(Class::Large) {
        return false;
    }
    let percent = match (run.len(), has(Class::Digit)) {
        // As long as a secret key of AWS.
        (40, true) => 30,
        (_, true) => 35,
        (_, false) => 42,
    };
    let (changed, all) = changes(run);
    changed * 100 >= all * percent
}

/// One of the parts is hexadecimal, or letters of one case and digits, in no order.
fn is_one_case_random(word: &str) -> bool {
    word.split(['-', '_']).any(|part| {
        let part = part.as_bytes();
        let digits = part.iter().filter(|byte| byte.is_ascii_digit()).count();
        let (changed, all) = changes(part);
        part.len() >= SHORTEST && digits >= 2 && digits < part.len() && changed * 100 >= all * 15
    })
}

fn padding(text: &str, end: usize) -> usize {
    end + text[end..]
        .bytes()
        .take(2)
        .take_while(|byte| *byte == b'=')
        .count()
}
