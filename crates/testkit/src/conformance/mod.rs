//! The conformance table: what `kubectl rollout undo` does in each of 69 situations, and what a
//! `RollbackRequest` does in the same.
//!
//! - [`CASES`] says which situations there are.
//! - Each test of a case writes down what it has seen with [`record`], one small file for each case
//!   in [`folder`].
//! - [`page`] makes the table of those files. `docs/conformance.md` is that table; [`compare`] tells
//!   how the two differ.

mod page;
mod selection;
mod status;
mod write;

use std::{
    env, fmt, fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};

pub use page::{compare, page};

/// The environment variable that says where the records are, when not in [`folder`]'s usual place.
pub const FOLDER: &str = "ROLLBACK_CONFORMANCE";
/// The table, from the root of the workspace.
pub const PAGE: &str = "docs/conformance.md";

/// What was expected of kubectl when the cases were collected by reading its source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mark {
    /// kubectl does the wrong thing.
    Wrong,
    /// kubectl has nothing to say about it.
    Open,
    /// kubectl is right, and so must we be.
    Parity,
}

impl fmt::Display for Mark {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Wrong => "✗",
            Self::Open => "○",
            Self::Parity => "✓",
        })
    }
}

/// One situation.
#[derive(Clone, Copy, Debug)]
pub struct Case {
    /// From 1; the test is called `case_NN_...`.
    pub number: u8,
    /// What was expected of kubectl; two when the case has two sides.
    pub marks: &'static [Mark],
    /// A few words.
    pub title: &'static str,
    /// What the situation is.
    pub what: &'static str,
}

const fn case(number: u8, marks: &'static [Mark], title: &'static str, what: &'static str) -> Case {
    Case {
        number,
        marks,
        title,
        what,
    }
}

/// Every case, in groups that follow one another without a gap.
pub const CASES: [(&str, &[Case]); 3] = [
    ("Which version", selection::CASES),
    ("What is written", write::CASES),
    ("Whether it worked", status::CASES),
];

/// What the test of a case has seen.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// What kubectl did.
    pub kubectl: String,
    /// What we did.
    pub ours: String,
}

/// Where the records are: in the folder that [`FOLDER`] names, or in `target/conformance`.
pub fn folder() -> PathBuf {
    env::var_os(FOLDER).map_or_else(|| crate::target_folder().join("conformance"), PathBuf::from)
}

/// Writes down what the test of a case has seen, for the table. The texts are for a reader, and the
/// same in every run: no hashes, no times, no generated names.
pub fn record(case: u8, kubectl: &str, ours: &str) -> Result<()> {
    ensure!(
        all().any(|known| known.number == case),
        "there is no case {case}"
    );
    for text in [kubectl, ours] {
        ensure!(
            !text.is_empty() && text.trim() == text && !text.contains(['\n', '|']),
            "case {case}: {text:?} does not fit into a table"
        );
    }
    let record = Record {
        kubectl: kubectl.to_owned(),
        ours: ours.to_owned(),
    };
    write(&folder(), case, &record)
}

fn write(folder: &Path, case: u8, record: &Record) -> Result<()> {
    fs::create_dir_all(folder)?;
    let path = file(folder, case);
    // Whoever reads sees the whole record or none.
    let unfinished = path.with_extension(format!("{}.unfinished", std::process::id()));
    fs::write(&unfinished, serde_json::to_vec_pretty(record)?)?;
    fs::rename(unfinished, &path).with_context(|| format!("writing {}", path.display()))
}

/// What was recorded of a case, if anything.
fn read(folder: &Path, case: u8) -> Result<Option<Record>> {
    let path = file(folder, case);
    if !path.exists() {
        return Ok(None);
    }
    let record = serde_json::from_slice(&fs::read(&path)?)
        .with_context(|| format!("reading {}", path.display()))?;
    Ok(Some(record))
}

fn file(folder: &Path, case: u8) -> PathBuf {
    folder.join(format!("case-{case:02}.json"))
}

fn all() -> impl Iterator<Item = &'static Case> {
    CASES.iter().flat_map(|(_, cases)| cases.iter())
}
