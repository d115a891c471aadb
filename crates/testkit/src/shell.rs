//! Commands that are printed for people, given to a real shell whose programs do nothing but write down what they got.
//!
//! Nothing but the standard library, so that the tests of the engine can have it as a file.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};

/// Programs that printed commands begin with, and one that hostile values call and nobody else.
const PROGRAMS: [&str; 4] = ["kubectl", "argocd", "flux", "pwned"];
/// Writes its name and its arguments, each with a NUL behind it, and then a record separator.
const SCRIPT: &str =
    "#!/bin/sh\n{ printf '%s\\0' \"${0##*/}\" \"$@\"; printf '\\036\\0'; } >>\"$CALLS\"\n";
/// What ends a call.
const END: &str = "\u{1e}";

/// Values that do something in a shell when they are not quoted: they call `pwned`, write a file, are options, or end a
/// quote.
pub const HOSTILE: [&str; 18] = [
    "$(pwned)",
    "ROLLBACK$(pwned) PRODUCTION",
    "`pwned`",
    "a; pwned",
    "a && pwned",
    "a | pwned",
    "a & pwned &",
    "a\npwned",
    "'; pwned; '",
    "\"; pwned; \"",
    "\"$(pwned)\"",
    "'$(pwned)'",
    "'\\''; pwned; '",
    "d'Arcy \"Zoë\" O\\Neil <zoë+ops@broxiva.example>, 100 %",
    "> pwned.txt",
    "-rf --all",
    "\\",
    "~ $HOME ${IFS}pwned * {a,b} !! # x",
];

/// A place in which commands are run.
#[derive(Debug)]
pub struct Shell {
    folder: PathBuf,
}

impl Shell {
    /// In this folder, which is made anew.
    pub fn new(folder: PathBuf) -> io::Result<Self> {
        if folder.exists() {
            fs::remove_dir_all(&folder)?;
        }
        for part in ["bin", "work"] {
            fs::create_dir_all(folder.join(part))?;
        }
        for program in PROGRAMS {
            let path = folder.join("bin").join(program);
            fs::write(&path, SCRIPT)?;
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755))?;
        }
        Ok(Self { folder })
    }

    /// Runs a command, and gives what was called: name and arguments of each program, and `wrote` with the names of files
    /// that came into being.
    pub fn run(&self, command: &str) -> io::Result<Vec<Vec<String>>> {
        let (calls, work) = (self.folder.join("calls"), self.folder.join("work"));
        fs::write(&calls, "")?;
        let ended = Command::new("/bin/sh")
            .args(["-c", command])
            .env_clear()
            .env("PATH", self.folder.join("bin"))
            .env("CALLS", &calls)
            .current_dir(&work)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .output()?;
        let written = fs::read(&calls)?;
        let written = String::from_utf8_lossy(&written);
        let mut found: Vec<Vec<String>> = vec![Vec::new()];
        for word in written.split_terminator('\0') {
            if word == END {
                found.push(Vec::new());
            } else if let Some(call) = found.last_mut() {
                call.push(word.to_owned());
            }
        }
        found.retain(|call| !call.is_empty());
        for entry in fs::read_dir(&work)? {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            found.push(vec!["wrote".to_owned(), name]);
            fs::remove_file(entry.path())?;
        }
        if !ended.status.success() {
            let said = String::from_utf8_lossy(&ended.stderr).into_owned();
            found.push(vec!["failed".to_owned(), said]);
        }
        Ok(found)
    }
}

/// The first so many words of a text, as a shell tells them apart: a command in the middle of a sentence.
pub fn cut(text: &str, words: usize) -> &str {
    let mut found = 0;
    let mut rest = text.char_indices().peekable();
    while found < words {
        while rest.next_if(|(_, c)| c.is_whitespace()).is_some() {}
        if rest.peek().is_none() {
            return text;
        }
        let mut quote = None;
        while let Some((_, c)) = rest.next_if(|(_, c)| quote.is_some() || !c.is_whitespace()) {
            match (quote, c) {
                (None, '\'' | '"') => quote = Some(c),
                (None | Some('"'), '\\') => drop(rest.next()),
                (Some(open), close) if open == close => quote = None,
                (None | Some(_), _) => {}
            }
        }
        found += 1;
    }
    let end = rest.peek().map_or(text.len(), |(at, _)| *at);
    text.get(..end).unwrap_or(text)
}

/// Every `key=value` of this project in a text, as it is written there, without what ends the sentence.
pub fn settings(text: &str) -> Vec<&str> {
    const PREFIX: &str = "rollback.broxiva.com/";
    let mut found = Vec::new();
    let mut at = 0;
    while let Some(begin) = text.get(at..).and_then(|rest| rest.find(PREFIX)) {
        let begin = at + begin;
        let key = begin + PREFIX.len();
        let rest = text.get(key..).unwrap_or_default();
        let length = rest
            .find(|c: char| !c.is_ascii_lowercase() && c != '-')
            .unwrap_or(rest.len());
        at = key + length;
        if !rest.get(length..).is_some_and(|rest| rest.starts_with('=')) {
            continue;
        }
        let value = at + 1;
        let end = value + value_length(text.get(value..).unwrap_or_default());
        if let Some(setting) = text.get(begin..end).filter(|_| end > value) {
            found.push(setting);
        }
        at = end;
    }
    found
}

fn value_length(text: &str) -> usize {
    if !text.starts_with('\'') {
        let word = text.split_whitespace().next().unwrap_or_default();
        let is_bare = text.starts_with(|c: char| !c.is_whitespace());
        let word = word.trim_end_matches(['.', ',', ';', ')']);
        return if is_bare { word.len() } else { 0 };
    }
    let mut end = 1;
    loop {
        let Some(quote) = text.get(end..).and_then(|rest| rest.find('\'')) else {
            return text.len();
        };
        end += quote + 1;
        match text.get(end..) {
            Some(rest) if rest.starts_with("\\''") => end += 3,
            Some(_) | None => return end,
        }
    }
}
