//! Printing: formats, tables, colours. Whatever comes from somebody else goes through [`clean`] before it is printed as
//! text.

use std::io::{IsTerminal, Write};

use jiff::{SignedDuration, Timestamp};
use kube::{Resource, ResourceExt};
use rollback_api::{GROUP, RequestState, RollbackRequest};
use rollback_core::message::text::{plain, steers};
use serde::Serialize;
use serde_json::json;

use crate::arguments::Format;
use crate::error::Error;
use crate::page::Tone;

/// Longest text of somebody else in a line.
const LINE_LIMIT: usize = 1000;
/// Columns and lines of a terminal that does not tell.
const SIZE: (usize, usize) = (100, 40);

/// A text of somebody else, fit for a terminal and a line.
pub fn clean(text: &str) -> String {
    plain(text, LINE_LIMIT)
}

/// Prints a line.
pub fn say(line: &str) -> Result<(), Error> {
    Ok(writeln!(std::io::stdout().lock(), "{line}")?)
}

/// Prints lines.
pub fn say_all(lines: &[String]) -> Result<(), Error> {
    lines.iter().try_for_each(|line| say(line))
}

/// Prints beside the answer of the command. Who closed standard error does not want to know.
pub fn remark(line: &str) {
    drop(writeln!(std::io::stderr().lock(), "{line}"));
}

/// Prints lines beside the answer of the command.
pub fn remark_all(lines: &[String]) {
    for line in lines {
        remark(line);
    }
}

/// Says what went wrong.
pub fn complain(message: &str) {
    remark(&format!("error: {message}"));
}

/// A duration as kubectl prints ages: `45s`, `3m12s`, `5h2m`, `3d4h`.
pub fn elapsed(from: Timestamp, to: Timestamp) -> String {
    span(to.duration_since(from))
}

/// The same of a duration.
pub fn span(duration: SignedDuration) -> String {
    let total = duration.as_secs().max(0);
    let (days, hours) = (total / 86_400, total % 86_400 / 3600);
    let (minutes, seconds) = (total % 3600 / 60, total % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds}s"),
        (0, 0, _) => format!("{minutes}m{seconds}s"),
        (0, _, _) => format!("{hours}h{minutes}m"),
        (_, _, _) => format!("{days}d{hours}h"),
    }
}

/// Which colours, if any: only on a terminal, and never with `NO_COLOR`.
#[derive(Clone, Copy, Debug)]
pub struct Paint {
    on: bool,
}

impl Paint {
    /// For what is printed to standard output.
    pub fn new() -> Self {
        let refused = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        Self {
            on: is_terminal() && !refused && !dumb,
        }
    }

    /// None.
    pub fn off() -> Self {
        Self { on: false }
    }

    fn with(self, code: &str, text: &str) -> String {
        if self.on {
            format!("\u{1b}[{code}m{text}\u{1b}[0m")
        } else {
            text.to_owned()
        }
    }

    /// What is well.
    pub fn good(self, text: &str) -> String {
        self.with("32", text)
    }

    /// What is not.
    pub fn bad(self, text: &str) -> String {
        self.with("31", text)
    }

    /// What waits for somebody.
    pub fn waiting(self, text: &str) -> String {
        self.with("33", text)
    }

    /// What is looked for first.
    pub fn strong(self, text: &str) -> String {
        self.with("1", text)
    }

    /// The word for where a request stands.
    pub fn state(self, word: &str, state: Option<RequestState>) -> String {
        match Tone::of(state) {
            Tone::Good => self.good(word),
            Tone::Bad | Tone::Over => self.bad(word),
            Tone::Waiting | Tone::Busy => self.waiting(word),
        }
    }
}

/// Whether standard output is a terminal.
pub fn is_terminal() -> bool {
    std::io::stdout().is_terminal()
}

/// How many characters a line of the terminal has, and how many lines there are.
pub fn size() -> (usize, usize) {
    terminal_size::terminal_size().map_or(SIZE, |(width, height)| {
        (usize::from(width.0).max(1), usize::from(height.0).max(1))
    })
}

/// A table with columns as wide as they have to be. The last one is not padded.
pub fn table(head: &[&str], rows: &[Vec<String>]) -> Vec<String> {
    let head: Vec<String> = head.iter().map(ToString::to_string).collect();
    let lines = || std::iter::once(&head).chain(rows);
    let widths: Vec<usize> = (0..head.len())
        .map(|column| lines().filter_map(move |row| row.get(column)))
        .map(|cells| cells.map(|cell| cell.chars().count()).max().unwrap_or(0))
        .collect();
    lines()
        .map(|row| {
            let cells = row.iter().zip(&widths);
            let cells: Vec<String> = cells
                .map(|(cell, width)| format!("{cell:<width$}"))
                .collect();
            cells.join("   ").trim_end().to_owned()
        })
        .collect()
}

/// Prints data as JSON or YAML; false when another format is asked for.
pub fn data<T: Serialize>(format: Option<Format>, value: &T) -> Result<bool, Error> {
    let text = match format {
        Some(Format::Json) => json_text(value)?,
        Some(Format::Yaml) => yaml_text(value)?,
        Some(Format::Name | Format::Wide) | None => return Ok(false),
        Some(Format::Md) => return Err(only_report("md")),
        Some(Format::Html) => return Err(only_report("html")),
    };
    say(&text)?;
    Ok(true)
}

fn only_report(format: &str) -> Error {
    Error::Arguments(format!(
        "-o {format} is for kubectl rollback report only; use json, yaml, name or wide here."
    ))
}

fn json_text<T: Serialize>(value: &T) -> Result<String, Error> {
    let text = serde_json::to_string_pretty(value);
    text.map(|text| harmless(&text))
        .map_err(|error| Error::Format(error.to_string()))
}

/// YAML, in which control characters are escaped, but not those that turn a text around. With one of them it is JSON,
/// which is YAML too.
fn yaml_text<T: Serialize>(value: &T) -> Result<String, Error> {
    let text = serde_saphyr::to_string(value).map_err(|error| Error::Format(error.to_string()))?;
    if text.chars().any(|c| c != '\n' && steers(c)) {
        return json_text(value);
    }
    Ok(text.trim_end().to_owned())
}

/// JSON that a terminal does not obey: serde leaves what is above ASCII as it is, and some of that steers a terminal.
/// Such a character stands in a string only, and means the same there when it is escaped.
pub fn harmless(json: &str) -> String {
    let escaped = |c: char| {
        if c != '\n' && steers(c) {
            format!("\\u{:04x}", u32::from(c))
        } else {
            c.to_string()
        }
    };
    json.chars().map(escaped).collect()
}

/// Prints a request as data or by name; false when text is asked for.
pub fn request(format: Option<Format>, request: &RollbackRequest) -> Result<bool, Error> {
    if format == Some(Format::Name) {
        say(&name_of(request))?;
        return Ok(true);
    }
    data(format, &typed(request))
}

/// Prints a request that was written, as data, by name or as a line; whether it was a line.
pub fn written(format: Option<Format>, made: &RollbackRequest, what: &str) -> Result<bool, Error> {
    if request(format, made)? {
        return Ok(false);
    }
    say(&format!("{} {what}", name_of(made)))?;
    Ok(true)
}

/// A request as `kubectl get -o name` prints it.
pub fn name_of(request: &RollbackRequest) -> String {
    format!("rollbackrequest.{GROUP}/{}", clean(&request.name_any()))
}

/// A request with its kind, and without what only the API server wants to know.
pub fn typed(request: &RollbackRequest) -> serde_json::Value {
    let mut request = request.clone();
    request.metadata.managed_fields = None;
    let mut value = json!(request);
    value["apiVersion"] = json!(RollbackRequest::api_version(&()));
    value["kind"] = json!(RollbackRequest::kind(&()));
    value
}

/// A list as `kubectl get -o json` prints it.
pub fn listed(items: &[serde_json::Value]) -> serde_json::Value {
    json!({"apiVersion": "v1", "kind": "List", "items": items})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_is_aligned_and_has_no_blanks_at_the_end() {
        let rows = vec![vec!["a".to_owned(), "Zoë".to_owned()]];
        assert_eq!(table(&["NAME", "BY"], &rows), ["NAME   BY", "a      Zoë"]);
    }

    #[test]
    fn ages_read_as_those_of_kubectl() {
        let rows = [
            (5, "5s"),
            (192, "3m12s"),
            (18_120, "5h2m"),
            (273_600, "3d4h"),
            (-3, "0s"),
        ];
        for (seconds, expected) in rows {
            assert_eq!(span(SignedDuration::from_secs(seconds)), expected);
        }
    }

    #[test]
    fn nothing_of_others_reaches_the_terminal_raw() {
        assert_eq!(clean("a\u{1b}]0;x\u{7}\r\nb"), "a ]0;x   b");
        assert_eq!(Paint::off().bad("x"), "x");
        assert_eq!(
            harmless("{\n\"a\u{9b}\u{202e}ö\"}"),
            "{\n\"a\\u009b\\u202eö\"}"
        );
    }
}
