//! Whether a page of Markdown obeys the text that it shows. Written from the specification (`CommonMark` and the tables
//! and autolinks of GitHub), and not from what the report does to escape.

use anyhow::{Result, bail, ensure};

/// The headings that a report has. Any other one is somebody else's.
const HEADINGS: [&str; 14] = [
    "# Rollback of ",
    "## Reason",
    "## Root cause",
    "## Impact",
    "## Who",
    "## Plan",
    "## Each Deployment",
    "## Is it well again",
    "## Scaled down to free capacity",
    "## How long it took",
    "## What people were told",
    "## To be checked by hand",
    "## Timeline",
    "## Follow-up actions",
];
/// What a report itself writes in bold.
const OWN_BOLD: &str = "**The glass was broken**";

/// Fails at the first character that a terminal or a browser would obey: controls, escapes, and what turns the order
/// of letters round. With `lines`, line feeds are what they are for.
pub fn is_inert(text: &str, lines: bool) -> Result<()> {
    for (place, c) in text.char_indices() {
        let turns = matches!(c, '\u{200e}' | '\u{200f}' | '\u{61c}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
        let breaks = matches!(c, '\u{2028}' | '\u{2029}');
        let line = lines && c == '\n';
        if !line && (c.is_control() || turns || breaks) {
            let around: String = text[..place].chars().rev().take(60).collect();
            let before: String = around.chars().rev().collect();
            bail!("{c:?} after {before:?}");
        }
    }
    Ok(())
}

/// Fails when a page does anything but show text, besides what every report has.
pub fn is_tame(page: &str) -> Result<()> {
    is_inert(page, true)?;
    let mut columns = None;
    for line in page.lines() {
        let check = if line.starts_with('|') {
            let cells = bars(line);
            let first = *columns.get_or_insert(cells);
            if cells == first {
                inline(line.trim_matches('|'))
            } else {
                Err(anyhow::anyhow!("{cells} bars in a table with {first}"))
            }
        } else {
            columns = None;
            block(line)
        };
        if let Err(error) = check {
            return Err(error.context(format!("the line {line:?}")));
        }
    }
    Ok(())
}

/// Bars that divide cells: GitHub looks for them before it looks for code.
fn bars(line: &str) -> usize {
    let mut escaped = false;
    let mut count = 0;
    for c in line.chars() {
        count += usize::from(c == '|' && !escaped);
        escaped = c == '\\' && !escaped;
    }
    count
}

/// A line outside of a table.
fn block(line: &str) -> Result<()> {
    ensure!(bars(line) == 0, "a bar outside of a table");
    if line.starts_with('#') {
        let known = HEADINGS.iter().any(|heading| {
            line == *heading || (heading.ends_with(' ') && line.starts_with(heading))
        });
        ensure!(known, "a heading");
        return inline(line.trim_start_matches('#'));
    }
    if let Some(quoted) = line.strip_prefix('>') {
        starts_nothing(quoted)?;
        return inline(quoted);
    }
    // The report's own items, one or two deep.
    let item = line.trim_start_matches(' ').strip_prefix("- ");
    let text = item.map_or(line, |item| item.strip_prefix("[ ] ").unwrap_or(item));
    starts_nothing(text)?;
    inline(text)
}

/// Nothing at the beginning of a paragraph makes it anything else.
fn starts_nothing(text: &str) -> Result<()> {
    let text = text.trim_start();
    for start in ["#", ">", "```", "~~~", "- ", "+ ", "* ", "<"] {
        ensure!(!text.starts_with(start), "it starts with {start:?}");
    }
    let digits = text.trim_start_matches(|c: char| c.is_ascii_digit());
    let numbered =
        digits.len() < text.len() && (digits.starts_with(". ") || digits.starts_with(") "));
    ensure!(!numbered, "a numbered item");
    for rule in ['=', '-', '*', '_'] {
        let only = !text.is_empty() && text.chars().all(|c| c == rule || c == ' ');
        ensure!(!only, "a rule, or the underline of a heading");
    }
    Ok(())
}

/// What stands in a line, code spans and escapes aside, holds nothing that is obeyed.
fn inline(text: &str) -> Result<()> {
    let text = text.replacen(OWN_BOLD, "", 1);
    let bare = without_code(&text)?;
    let bare = without_escapes(&bare);
    for (what, sign) in [
        ("a link or an image", "["),
        ("the end of a link", "]("),
        ("emphasis", "*"),
        ("emphasis", "_"),
        ("struck out", "~"),
        ("a tag", "<"),
        ("an address", "://"),
        ("a mention", " @"),
    ] {
        ensure!(!bare.contains(sign), "{what}: {sign:?} in {bare:?}");
    }
    let lower = bare.to_lowercase();
    ensure!(!lower.contains("www."), "an address without a scheme");
    for entity in bare.split('&').skip(1) {
        let name = entity.split(';').next().unwrap_or_default();
        // Shown and not obeyed: what an entity stands for is text. A tag is none.
        ensure!(name.len() < 10, "a lone ampersand in {bare:?}");
    }
    Ok(())
}

/// Without code spans: as many backticks as at the beginning end it, and escapes mean nothing in it.
fn without_code(text: &str) -> Result<String> {
    let mut rest = text;
    let mut kept = String::new();
    while let Some(start) = next_backtick(rest) {
        kept.push_str(&rest[..start]);
        let after = rest[start..].trim_start_matches('`');
        let ticks = rest.len() - start - after.len();
        let Some(length) = closing(after, ticks) else {
            bail!("a code span without an end");
        };
        rest = &after[length + ticks..];
        kept.push('c');
    }
    kept.push_str(rest);
    Ok(kept)
}

/// The first backtick that is not escaped.
fn next_backtick(text: &str) -> Option<usize> {
    let mut escaped = false;
    for (place, c) in text.char_indices() {
        if c == '`' && !escaped {
            return Some(place);
        }
        escaped = c == '\\' && !escaped;
    }
    None
}

/// Where exactly so many backticks stand.
fn closing(text: &str, ticks: usize) -> Option<usize> {
    let mut place = 0;
    while let Some(found) = text[place..].find('`') {
        let start = place + found;
        let length = text[start..].len() - text[start..].trim_start_matches('`').len();
        if length == ticks {
            return Some(start);
        }
        place = start + length;
    }
    None
}

/// Without what a backslash makes a letter.
fn without_escapes(text: &str) -> String {
    let mut kept = String::new();
    let mut characters = text.chars().peekable();
    while let Some(c) = characters.next() {
        if c == '\\' && characters.next_if(char::is_ascii_punctuation).is_some() {
            kept.push('e');
        } else {
            kept.push(c);
        }
    }
    kept
}

#[test]
fn what_is_obeyed_is_found() {
    for page in [
        "an [a](b)",
        "an ![a](b)",
        "see https://evil.example",
        "see www.evil.example",
        "<b>bold</b>",
        "<https://evil.example>",
        "# Owned",
        "## Who else",
        "> # Owned",
        "> ---",
        "> 1. one",
        "> - one",
        "> ```sh",
        "~~~",
        "*emphasis*",
        "__strong__",
        "~~struck~~",
        "a `b",
        "`a``",
        "a | b",
        "| a | b |\n|---|---|\n| a | b | c |",
        "| a | b |\n|---|---|\n| a | `b | c` |",
        "red \u{1b}[31m",
        "turned \u{202e}",
        "a\rb",
        "\\\\[a\\\\](b)",
        "hello @everyone",
        "Asked for by <script>alert(1)</script>",
    ] {
        assert!(is_tame(page).is_err(), "{page:?}");
    }
}

#[test]
fn what_is_shown_is_let_be() {
    for page in [
        "# Rollback of api: Succeeded\n\nRolled back.\n",
        "> \\[a\\](https&#58;//evil.example) &lt;b&gt; \\*x\\* \\_y\\_",
        "> \\# no heading\n> \\- no item\n> 1\\. nothing",
        "| a | b |\n|---|---|\n| `x[y](z)<b>` | a \\| b |",
        "- Asked for by anna@broxiva.example\n  - **The glass was broken**: nobody else had to agree.",
        "- [ ] Hold the review",
        "`a\\` and `` b`c `` and nothing",
    ] {
        is_tame(page).unwrap();
    }
}
