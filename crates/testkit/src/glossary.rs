//! The words that docs/glossary.md says are gone, and whether a text has one of them again.

use anyhow::{Context as _, Result, ensure};

use crate::workspace;

/// The glossary, from the root of the workspace.
pub const PAGE: &str = "docs/glossary.md";
const HEADING: &str = "## Words that are gone";

/// A word that is gone, and what is said now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gone {
    /// The old word.
    pub word: String,
    /// The new one.
    pub now: String,
}

/// Every word that is gone.
pub fn gone() -> Result<Vec<Gone>> {
    let page = std::fs::read_to_string(workspace().join(PAGE)).context(PAGE)?;
    let (_, table) = page.split_once(HEADING).context("no such heading")?;
    let cell = |text: &str| text.split('`').nth(1).map(str::to_owned);
    let rows: Vec<Gone> = table
        .lines()
        .filter_map(|line| {
            let mut cells = line.strip_prefix("| ")?.split(" | ");
            let (word, now) = (cell(cells.next()?)?, cell(cells.next()?)?);
            Some(Gone { word, now })
        })
        .collect();
    ensure!(rows.len() >= 10, "only {} words are gone", rows.len());
    Ok(rows)
}

/// Fails when one of these names (fields, values, metrics, flags) is, or begins or ends with, a word that is gone.
pub fn check<'a>(names: impl Iterator<Item = &'a str>) -> Result<usize> {
    let gone = gone()?;
    let mut count = 0;
    for name in names {
        count += 1;
        for Gone { word, now } in &gone {
            let is_back = name == word
                || name.ends_with(&format!("_{word}"))
                || name.contains(&format!("_{word}_"));
            ensure!(!is_back, "{name}: {PAGE} says {now} and not {word}");
        }
    }
    ensure!(count > 0, "there are no names");
    Ok(count)
}

/// The keys and the enumerated values of a generated definition.
pub fn names_of_definition(yaml: &str) -> Vec<&str> {
    let key = |line: &'_ str| {
        let line = line.trim_start().trim_start_matches("- ");
        line.split_once(':').map_or(line, |(key, _)| key).len()
    };
    yaml.lines()
        .map(|line| {
            let start = line.trim_start().trim_start_matches("- ");
            &start[..key(line).min(start.len())]
        })
        .filter(|name| !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric()))
        .collect()
}

/// The metrics of a page.
pub fn names_of_metrics(page: &str) -> Vec<&str> {
    page.lines()
        .filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next())
        .collect()
}

/// The flags and variables in what `--help` prints; its sentences may say what they like.
pub fn names_of_help(help: &str) -> Vec<&str> {
    let is_variable = |word: &str| word.contains('_') && !word.contains(|c: char| c.is_lowercase());
    help.split(|letter: char| !(letter.is_ascii_alphanumeric() || "-_".contains(letter)))
        .filter(|word| word.starts_with("--") || is_variable(word))
        .map(|word| word.trim_start_matches('-'))
        .filter(|word| !word.is_empty())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_old_word_is_found_wherever_it_comes_back() {
        for name in [
            "brake",
            "rollback_broken_glasses",
            "rollback_pass_duration_seconds",
        ] {
            assert!(check([name].into_iter()).is_err(), "{name}");
        }
        for name in ["blockedBy", "passwords", "seconds", "periodSeconds"] {
            assert!(check([name].into_iter()).is_ok(), "{name}");
        }
        let yaml = "properties:\n  brake:\n    enum:\n    - Once\n";
        assert_eq!(
            names_of_definition(yaml),
            ["properties", "brake", "enum", "Once"]
        );
        assert_eq!(
            names_of_metrics("# TYPE rollback_leader gauge\nrollback_leader 1\n"),
            ["rollback_leader"]
        );
        let help = "--max-analyses <N>  Each second [env: ROLLBACK_X=]";
        assert_eq!(names_of_help(help), ["max-analyses", "ROLLBACK_X"]);
    }
}
