//! Lines, and the walk through JSON of any shape that makes them.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::message::text::plain;

/// Longest line, in characters.
const LONGEST: usize = 200;
/// Most lines. A template may have any number of fields that nobody knows.
const MOST: usize = 500;
/// Longest name or value inside a line, in characters.
const LONGEST_WORD: usize = 80;

/// One side of a comparison; nothing where the field is absent.
pub(super) type Side<'a> = Option<&'a Value>;

/// The items of two lists by their key: those of the one, and those of the other.
pub(super) type Groups<'a> = BTreeMap<String, (Vec<&'a Value>, Vec<&'a Value>)>;

/// Lines, bounded in length and in number.
#[derive(Default)]
pub(super) struct Lines {
    kept: Vec<String>,
    unsaid: usize,
}

impl Lines {
    pub fn say(&mut self, line: &str) {
        if self.kept.len() < MOST {
            self.kept.push(plain(line, LONGEST));
        } else {
            self.unsaid += 1;
        }
    }

    fn count(&self) -> usize {
        self.kept.len() + self.unsaid
    }

    pub fn into_lines(mut self) -> Vec<String> {
        if self.unsaid > 0 {
            self.kept.push(format!("{} more differences", self.unsaid));
        }
        self.kept
    }
}

/// Lets `tell` find words for a difference, if there is one. Where it finds none, the difference is
/// told by its place: no difference goes unsaid.
pub(super) fn differ(
    what: &str,
    from: Side<'_>,
    to: Side<'_>,
    out: &mut Lines,
    tell: impl FnOnce(&mut Lines),
) {
    if from == to {
        return;
    }
    let before = out.count();
    tell(out);
    if out.count() == before {
        out.say(&format!("{what} {}", said(from, to)));
    }
}

/// What became of something that differs, in one word.
pub(super) fn said(from: Side<'_>, to: Side<'_>) -> &'static str {
    match (from, to) {
        (None, Some(_)) => "added",
        (Some(_), None) => "removed",
        (Some(_), Some(_)) | (None, None) => "changed",
    }
}

/// A name, fit for a line.
pub(super) fn shown(name: &str) -> String {
    plain(name, LONGEST_WORD)
}

/// A field of an object.
pub(super) fn field<'a>(side: Side<'a>, name: &str) -> Side<'a> {
    side?.get(name)
}

/// A field that is text.
pub(super) fn text<'a>(value: &'a Value, name: &str) -> &'a str {
    value.get(name).and_then(Value::as_str).unwrap_or_default()
}

/// The key of most lists of Kubernetes.
pub(super) fn name_of(item: &Value) -> String {
    text(item, "name").to_owned()
}

/// The names of the fields of both sides, unless one of the sides is no object.
pub(super) fn keys<'a>(from: Side<'a>, to: Side<'a>) -> Option<BTreeSet<&'a String>> {
    let mut names = BTreeSet::new();
    for side in [from, to].into_iter().flatten() {
        names.extend(side.as_object()?.keys());
    }
    Some(names)
}

/// The items of both sides by their key, unless one of the sides is no list. A key may come more than
/// once: the API server takes two variables of the same name.
pub(super) fn keyed<'a>(
    from: Side<'a>,
    to: Side<'a>,
    key: fn(&Value) -> String,
) -> Option<Groups<'a>> {
    let mut groups = Groups::new();
    if let Some(old) = from {
        for item in old.as_array()? {
            groups.entry(key(item)).or_default().0.push(item);
        }
    }
    if let Some(new) = to {
        for item in new.as_array()? {
            groups.entry(key(item)).or_default().1.push(item);
        }
    }
    Some(groups)
}

/// Lets `each` tell what became of each item of two lists.
pub(super) fn list(
    what: &str,
    from: Side<'_>,
    to: Side<'_>,
    key: fn(&Value) -> String,
    out: &mut Lines,
    each: &mut dyn FnMut(&str, Side<'_>, Side<'_>, &mut Lines),
) {
    let Some(groups) = keyed(from, to, key) else {
        return;
    };
    let mut same = true;
    for (name, (old, new)) in groups {
        if old == new {
            continue;
        }
        same = false;
        let name = shown(&name);
        match (old.as_slice(), new.as_slice()) {
            ([], [only]) => each(&name, None, Some(only), out),
            ([only], []) => each(&name, Some(only), None, out),
            ([old], [new]) => differ(
                &format!("{what} {name}"),
                Some(old),
                Some(new),
                out,
                |out| each(&name, Some(old), Some(new), out),
            ),
            _ => out.say(&format!("{what} {name} changed")),
        }
    }
    // The order counts: a variable may refer to the one before it.
    if same && from.is_some() && to.is_some() {
        out.say(&format!("{what}: the order changed"));
    }
}

/// A value that may be shown: a number or a yes or no, and text only where the caller knows it.
fn value(value: &Value, texts: bool) -> Option<String> {
    match value {
        Value::Bool(_) | Value::Number(_) => Some(shown(&value.to_string())),
        Value::String(text) if texts && text.is_empty() => Some("\"\"".to_owned()),
        Value::String(text) if texts => Some(shown(text)),
        Value::String(_) | Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

/// Says that one value became another, with the values if they may be shown.
pub(super) fn leaf(what: &str, from: Side<'_>, to: Side<'_>, texts: bool, out: &mut Lines) {
    if from == to {
        return;
    }
    let may_show = |side: Side<'_>| match side {
        None => Some("(none)".to_owned()),
        Some(inner) => value(inner, texts),
    };
    match (may_show(from), may_show(to)) {
        (Some(old), Some(new)) => arrow(what, &old, &new, out),
        (None, _) | (_, None) => out.say(&format!("{what} {}", said(from, to))),
    }
}

/// `what old -> new`, or that it changed where the two would read alike.
pub(super) fn arrow(what: &str, old: &str, new: &str, out: &mut Lines) {
    if old == new {
        out.say(&format!("{what} changed"));
    } else {
        out.say(&format!("{what} {old} -> {new}"));
    }
}

/// Two maps of text that may be shown.
pub(super) fn texts(what: &str, from: Side<'_>, to: Side<'_>, out: &mut Lines) {
    for name in keys(from, to).into_iter().flatten() {
        let what = format!("{what}{}", shown(name));
        leaf(&what, field(from, name), field(to, name), true, out);
    }
}

/// Says which fields of an object differ, without what is in them.
pub(super) fn differing_names(what: &str, from: Side<'_>, to: Side<'_>, out: &mut Lines) {
    let names: Vec<String> = keys(from, to)
        .into_iter()
        .flatten()
        .filter(|name| field(from, name) != field(to, name))
        .map(|name| shown(name))
        .collect();
    if !names.is_empty() {
        out.say(&format!("{what} {}: {}", said(from, to), names.join(", ")));
    }
}

/// Whatever nobody has a word for: the path of what differs, down to where the two part.
pub(super) fn rest(prefix: &str, name: &str, from: Side<'_>, to: Side<'_>, out: &mut Lines) {
    if from == to {
        return;
    }
    // Deeper than a line is long nobody can tell one path from another.
    let path = plain(&format!("{prefix}{}", shown(name)), LONGEST - 20);
    match (from, to, keys(from, to)) {
        (Some(_), Some(_), Some(names)) => {
            for inner in names {
                let (old, new) = (field(from, inner), field(to, inner));
                rest(&format!("{path}."), inner, old, new, out);
            }
        }
        (_, _, _) => leaf(&path, from, to, false, out),
    }
}
