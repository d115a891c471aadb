//! The table as a page.

use std::fmt::Write as _;
use std::path::Path;

use anyhow::{Result, bail};

use super::{CASES, Case, Record, read};

const HEAD: &str = "\
# Conformance: kubectl and this operator, case by case

Generated from what the tests saw (`cargo xtask generate --conformance`). Do not edit.

Each row is a situation that a test (`case_NN_...` in `tests/scenarios/cases`) brings about on a real API server with the real
Deployment controller. In most of them a second Deployment gets the same history, and the real kubectl 1.37.2 rolls that one back.
Both columns say what was observed in the tests of that case.

The mark is what reading kubectl's source had led to expect: ✗ kubectl does the wrong thing, ○ kubectl has nothing to say about
it, ✓ kubectl is right and so must we be. Where kubectl turned out to be better or worse than its mark, the row says so.
";

/// The page, made of the records in this folder. Fails when a case has no record.
pub fn page(folder: &Path) -> Result<String> {
    let mut page = HEAD.to_owned();
    let mut missing = Vec::new();
    for (group, cases) in CASES {
        write!(
            page,
            "\n## {group}\n\n| | | Case | kubectl | RollbackRequest |\n|-|-|-|-|-|\n"
        )?;
        for case in cases {
            match read(folder, case.number)? {
                Some(record) => page.push_str(&row(case, &record)),
                None => missing.push(case.number),
            }
        }
    }
    if missing.is_empty() {
        return Ok(page);
    }
    bail!(
        "no record in {} of the cases {missing:?}: the test of each (case_NN_...) has to call conformance::record, and to have run",
        folder.display()
    )
}

/// How the committed table differs from what the tests have seen, if at all.
pub fn compare(committed: &str, seen: &str) -> Result<()> {
    if committed == seen {
        return Ok(());
    }
    let mut differences = String::new();
    let lines = |text: &str| text.lines().map(str::to_owned).collect::<Vec<_>>();
    let (committed, seen) = (lines(committed), lines(seen));
    for line in committed.iter().filter(|line| !seen.contains(line)) {
        writeln!(differences, "- {line}")?;
    }
    for line in seen.iter().filter(|line| !committed.contains(line)) {
        writeln!(differences, "+ {line}")?;
    }
    bail!(
        "{} is not what the tests have seen:\n{differences}If that is what should be, run `cargo xtask generate --conformance` and commit it.",
        super::PAGE
    )
}

/// A row up to its texts: what does not depend on a test.
fn start_of_row(case: &Case) -> String {
    let marks: Vec<String> = case.marks.iter().map(ToString::to_string).collect();
    format!(
        "| {} | {} | **{}**: {} |",
        case.number,
        marks.join(" "),
        case.title,
        case.what
    )
}

fn row(case: &Case, record: &Record) -> String {
    format!(
        "{} {} | {} |\n",
        start_of_row(case),
        record.kubectl,
        record.ours
    )
}

#[cfg(test)]
mod tests {
    use super::super::{FOLDER, PAGE, all, write};
    use super::*;

    /// Whether a page has a row for each case, in order, and no other.
    fn has_all_rows(page: &str) -> Result<()> {
        let rows: Vec<&str> = page
            .lines()
            .filter(|line| line.starts_with("| ") && !line.starts_with("| | |"))
            .collect();
        for (row, case) in rows.iter().zip(all()) {
            let expected = start_of_row(case);
            if !row.starts_with(&expected) {
                bail!("expected {expected:?}, found {row:?}");
            }
        }
        if rows.len() != all().count() {
            bail!("{} rows for {} cases", rows.len(), all().count());
        }
        Ok(())
    }

    #[test]
    fn the_cases_are_numbered_from_1_to_69() {
        let numbers: Vec<u8> = all().map(|case| case.number).collect();
        assert_eq!(numbers, (1..=69).collect::<Vec<u8>>());
        assert!(all().all(|case| !case.marks.is_empty()));
    }

    #[test]
    fn the_committed_page_has_a_row_for_each_case() -> Result<()> {
        let page = std::fs::read_to_string(crate::workspace().join(PAGE))?;
        has_all_rows(&page)
    }

    #[test]
    fn a_page_needs_every_record() -> Result<()> {
        let folder = tempfile::tempdir()?;
        let seen = Record {
            kubectl: "does this".into(),
            ours: "does that".into(),
        };
        for case in all() {
            write(folder.path(), case.number, &seen)?;
        }
        let whole = page(folder.path())?;
        has_all_rows(&whole)?;
        assert!(whole.contains("| does this | does that |"));
        compare(&whole, &whole)?;
        let drifted = compare(&whole, &whole.replacen("does that", "does it", 1));
        let message = drifted.err().map(|error| error.to_string());
        assert!(message.is_some_and(|text| text.contains("generate --conformance")));

        std::fs::remove_file(folder.path().join("case-07.json"))?;
        let missing = page(folder.path()).err().map(|error| error.to_string());
        assert!(missing.is_some_and(|text| text.contains("the cases [7]")));
        Ok(())
    }

    #[test]
    fn the_variable_is_documented() -> Result<()> {
        let testing = std::fs::read_to_string(crate::workspace().join("docs/testing.md"))?;
        assert!(testing.contains(FOLDER));
        Ok(())
    }
}
