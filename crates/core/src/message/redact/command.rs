//! Secrets in commands and in sentences: the word before them says little by itself.

use std::ops::Range;

use super::HIDDEN;
use super::key::{self, Key};
use super::value::{Separated, bare, value};

/// How far the command is looked at that an option belongs to, in bytes.
const COMMAND: usize = 200;
/// Options by which programs take a password: how the name of the program begins, the option, and whether the password may
/// be a word of its own.
const OPTIONS: [(&str, &str, bool); 19] = [
    ("mysql", "-p", false),
    ("mariadb", "-p", false),
    ("7z", "-p", false),
    ("sshpass", "-p", true),
    (MONGO, "-p", true),
    (LOGIN, "-p", true),
    ("rabbitmqadmin", "-p", true),
    ("cqlsh", "-p", true),
    ("ipmitool", "-P", true),
    ("redis-cli", "-a", true),
    ("valkey-cli", "-a", true),
    ("keydb-cli", "-a", true),
    ("ldap", "-w", true),
    ("sqlcmd", "-P", true),
    ("bcp", "-P", true),
    ("isql", "-P", true),
    ("mosquitto_", "-P", true),
    ("unzip", "-P", true),
    ("zip", "-P", true),
];
const MONGO: &str = "mongo";
/// `docker login -p`: the other commands of these programs name a port so.
const LOGIN: &str = "login";
/// Settings that are followed by their value and nothing between.
const SETTINGS: [&str; 2] = ["requirepass", "masterauth"];
/// What is said of passwords without saying them.
const TALK: [&str; 88] = [
    "a",
    "about",
    "accepted",
    "again",
    "all",
    "also",
    "always",
    "an",
    "as",
    "asked",
    "at",
    "bad",
    "being",
    "blank",
    "by",
    "case-sensitive",
    "changed",
    "checked",
    "compromised",
    "correct",
    "deprecated",
    "different",
    "disabled",
    "empty",
    "enabled",
    "encrypted",
    "expired",
    "expiring",
    "for",
    "from",
    "given",
    "going",
    "hashed",
    "hidden",
    "ignored",
    "in",
    "incorrect",
    "invalid",
    "known",
    "less",
    "long",
    "longer",
    "malformed",
    "mandatory",
    "masked",
    "missing",
    "more",
    "needed",
    "never",
    "no",
    "not",
    "now",
    "ok",
    "on",
    "only",
    "optional",
    "out",
    "provided",
    "read",
    "redacted",
    "rejected",
    "required",
    "reset",
    "rotated",
    "same",
    "sent",
    "set",
    "short",
    "shorter",
    "still",
    "stored",
    "taken",
    "the",
    "to",
    "too",
    "unchanged",
    "unknown",
    "unset",
    "unsupported",
    "updated",
    "used",
    "valid",
    "verified",
    "weak",
    "what",
    "with",
    "written",
    "wrong",
];

/// The value of an option by which a program takes a password, or that is a whole name such as `-storepass`.
pub(super) fn after_option(text: &str, word: &Range<usize>) -> Option<Range<usize>> {
    let name = &text[word.clone()];
    let option = name.get(..2).filter(|option| option.starts_with('-'))?;
    if !OPTIONS.iter().any(|(_, known, _)| *known == option) {
        return None;
    }
    let command = command(text, word.start);
    let (program, _, apart) = OPTIONS
        .iter()
        .find(|(program, known, _)| *known == option && runs(command, program))?;
    let rest = &text[word.end..];
    let attached =
        name.len() > option.len() || rest.starts_with(['\'', '"', '$']) && !is_next(rest);
    let start = if attached {
        word.start + option.len()
    } else if *apart {
        next(text, word.end)?
    } else {
        return None;
    };
    let is_port = |value: &str| {
        [MONGO, LOGIN].contains(program)
            && value.len() <= 5
            && value.bytes().all(|byte| byte.is_ascii_digit())
    };
    own(text, start).filter(|found| !is_port(&text[found.clone()]))
}

/// `pass=...`, and not how many tests pass.
pub(super) fn of_pass(name: &str, separated: Option<&Separated>, text: &str) -> Option<Key> {
    let plain = name.trim_start_matches('-');
    if !plain.eq_ignore_ascii_case("pass") {
        return None;
    }
    let is_count = |at: usize| {
        let value = &text[bare(text, at)];
        value.len() <= 4 && value.bytes().all(|byte| byte.is_ascii_digit())
    };
    let is_talk = separated.is_some_and(|separated| {
        separated.is_sentence && (plain == "PASS" || is_count(separated.start))
    });
    (!is_talk).then_some(Key::Other)
}

/// `the password is ...`, unless that is what is said of it.
pub(super) fn said(text: &str, word: &Range<usize>) -> Option<Range<usize>> {
    let key = key::key(&text[word.clone()], false)?;
    let rest = text[word.end..].strip_prefix(' ')?;
    let verb = ["is ", "was ", "is: ", "was: "]
        .into_iter()
        .find(|verb| rest.starts_with(verb))?;
    let start = word.end + 1 + verb.len();
    if text[start..].starts_with(['"', '\'', '`']) {
        return own(text, start);
    }
    let found = bare(text, start);
    let value = &text[found.clone()];
    if value.is_empty() || TALK.contains(&value.to_ascii_lowercase().as_str()) {
        return None;
    }
    let is_odd = value.bytes().any(|byte| byte.is_ascii_digit())
        || value.bytes().skip(1).any(|byte| byte.is_ascii_uppercase())
        || value.contains(['!', '#', '$', '%', '*', '+', '=', '?', '@', '^', '_', '~']);
    let is_said = match key {
        Key::Password => true,
        Key::Other | Key::Header => is_odd && value.len() >= 6,
    };
    is_said.then(|| own(text, start)).flatten()
}

/// `IDENTIFIED BY '...'`, `requirepass ...`, and `login shop password ...` as in `.netrc`.
pub(super) fn after_words(text: &str, word: &Range<usize>) -> Option<Range<usize>> {
    let name = &text[word.clone()];
    let rest = text[word.end..].strip_prefix([' ', '\t'])?;
    let start = text.len() - rest.trim_start_matches([' ', '\t']).len();
    let before = || command(text, word.start).to_ascii_lowercase();
    let announces = if SETTINGS.contains(&name) {
        true
    } else if name.eq_ignore_ascii_case("by") {
        text[start..].starts_with(['\'', '"']) && before().contains("identified ")
    } else if name == "password" {
        before().split_whitespace().rev().nth(1) == Some("login")
    } else {
        false
    };
    announces.then(|| own(text, start)).flatten()
}

/// A value, unless it is hidden already.
fn own(text: &str, start: usize) -> Option<Range<usize>> {
    let rest = text.get(start..)?;
    if rest.trim_start_matches(['\'', '"']).starts_with(HIDDEN) || rest.starts_with('-') {
        return None;
    }
    value(text, &Separated::by_itself(start), Key::Other)
}

/// What stands before an option on its line, from the last command on.
fn command(text: &str, end: usize) -> &str {
    let mut begin = end.saturating_sub(COMMAND);
    while !text.is_char_boundary(begin) {
        begin += 1;
    }
    let before = &text[begin..end];
    let cut = before.rfind(['\n', ';', '|', '&']);
    cut.map_or(before, |cut| &before[cut + 1..])
}

/// Whether a program with this beginning of its name is called.
fn runs(command: &str, program: &str) -> bool {
    let is_between = |c: char| c.is_whitespace() || "\"'`,[](){}$=".contains(c);
    command.split(is_between).any(|word| {
        let name = match word.rsplit_once('/') {
            None => word,
            Some((folder, name)) if folder.ends_with("bin") => name,
            Some(_) => return false,
        };
        if program == LOGIN || program == "zip" {
            name == program
        } else {
            name.starts_with(program)
        }
    })
}

/// Whether a list of words goes on with the next one.
fn is_next(rest: &str) -> bool {
    rest.get(1..)
        .is_some_and(|rest| rest.trim_start().starts_with(','))
}

/// Where the next word of a command begins, or of a list of words in quotes.
fn next(text: &str, end: usize) -> Option<usize> {
    let rest = &text[end..];
    let unquoted = rest.strip_prefix(['"', '\'']).unwrap_or(rest);
    let apart = unquoted
        .strip_prefix(',')
        .or_else(|| unquoted.strip_prefix([' ', '\t', '=']))?;
    let word = apart.trim_start_matches([' ', '\t']);
    Some(text.len() - word.len())
}
