//! Words of containers, made fit to be kept: what looks like a secret is taken out.
//!
//! Nobody can know every secret by its looks, so where it is not clear, words are taken out rather than kept. What
//! must never be shown and is known letter by letter is given to [`redact_known`]. Give whole texts and not single
//! lines: a key in PEM has many.

use std::ops::Range;

mod command;
mod key;
mod token;
mod value;

/// What stands in the place of a secret.
pub const HIDDEN: &str = "[hidden]";
/// How often what is left is looked through again: taking one thing out can bring another to light.
const ROUNDS: usize = 4;
/// Known values shorter than this, in bytes, are words of every text and no secrets.
const SHORTEST_KNOWN: usize = 4;

/// `text` without what looks like a secret. At most three times as long, in time that grows with its length alone;
/// what it gives comes back unchanged when it is given again.
pub fn redact(text: &str) -> String {
    let mut kept = text.to_owned();
    for _ in 0..ROUNDS {
        let next = without_secrets(&without_keys_in_pem(&kept));
        if next == kept {
            return kept;
        }
        kept = next;
    }
    // It does not come to rest, so nobody wrote it to be read.
    HIDDEN.to_owned()
}

/// The same, without these values first, wherever they stand.
pub fn redact_known(text: &str, known: &[&str]) -> String {
    let mut known: Vec<&str> = known
        .iter()
        .map(|value| value.trim())
        .filter(|value| value.len() >= SHORTEST_KNOWN && !HIDDEN.contains(value))
        .collect();
    // What is part of a longer one would leave the rest of it.
    known.sort_by_key(|value| std::cmp::Reverse(value.len()));
    let kept = known
        .iter()
        .fold(text.to_owned(), |text, value| text.replace(value, HIDDEN));
    redact(&kept)
}

fn without_secrets(text: &str) -> String {
    let mut kept = String::with_capacity(text.len());
    let mut at = 0;
    while let Some(first) = text[at..].chars().next() {
        let end = key::end_of_word(text, at);
        if end == at {
            kept.push(first);
            at += first.len_utf8();
            continue;
        }
        if let Some(Range { start, end }) = secret(text, at..end) {
            kept.push_str(&text[at..start]);
            kept.push_str(HIDDEN);
            at = end;
        } else {
            kept.push_str(&text[at..end]);
            at = end;
        }
    }
    kept
}

/// The secret that begins with this word, or that this word announces.
fn secret(text: &str, word: Range<usize>) -> Option<Range<usize>> {
    value::in_address(text, &word)
        .or_else(|| value::announced(text, &word))
        .or_else(|| command::after_option(text, &word))
        .or_else(|| command::after_words(text, &word))
        .or_else(|| command::said(text, &word))
        .or_else(|| token::at(text, &word))
        .filter(|found| found.start >= word.start && found.end > found.start)
}

/// Blocks of PEM are taken out whole; of one that is cut off, everything to the cut.
fn without_keys_in_pem(text: &str) -> String {
    const BEGIN: &str = "-----BEGIN";
    const END: &str = "-----END";
    let mut kept = String::with_capacity(text.len());
    let mut rest = text;
    // Where this text was cut off in front, only its end is seen.
    let begin = rest.find(BEGIN).unwrap_or(rest.len());
    if let Some(end) = rest[..begin].rfind(END) {
        kept.push_str(without_body(&rest[..end]));
        kept.push_str(HIDDEN);
        rest = after_dashes(&rest[end + END.len()..]);
    }
    while let Some(begin) = rest.find(BEGIN) {
        kept.push_str(&rest[..begin]);
        kept.push_str(HIDDEN);
        let body = &rest[begin + BEGIN.len()..];
        rest = body
            .find(END)
            .map_or("", |end| after_dashes(&body[end + END.len()..]));
    }
    kept.push_str(rest);
    kept
}

/// What follows the five dashes that close a line of PEM.
fn after_dashes(text: &str) -> &str {
    let line = text.find('\n').unwrap_or(text.len());
    text[..line]
        .find("-----")
        .map_or(&text[line..], |dashes| &text[dashes + "-----".len()..])
}

/// Without the lines at the end that are nothing but base64.
fn without_body(text: &str) -> &str {
    let mut kept = text.trim_end_matches(['\n', '\r']);
    loop {
        let begin = kept.rfind('\n').map_or(0, |newline| newline + 1);
        let line = kept[begin..].trim();
        let is_body = !line.is_empty()
            && line.len() <= 80
            && line
                .bytes()
                .all(|byte| token::is_base64(byte) || byte == b'=');
        if !is_body {
            return &text[..kept.len()];
        }
        if begin == 0 {
            return "";
        }
        kept = &kept[..begin - 1];
        if kept.ends_with('\n') || kept.is_empty() {
            return &text[..kept.len()];
        }
    }
}
