//! Every input that the fuzzer found interesting, through what it was found for: `fuzz/corpus/<target>/`.

#[path = "../../../fuzz/check.rs"]
mod check;

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use rollback_receiver::intake::Format;

/// Every file of the corpus of a target, of which there is at least one.
fn replay(target: &str, check: impl Fn(&[u8])) -> Result<()> {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../fuzz/corpus")
        .join(target);
    let mut count = 0;
    for file in fs::read_dir(&corpus).with_context(|| format!("{} is missing", corpus.display()))? {
        check(&fs::read(file?.path())?);
        count += 1;
    }
    ensure!(count > 0, "no input for {target}");
    Ok(())
}

#[test]
fn no_delivery_of_any_corpus_breaks_its_parser() -> Result<()> {
    for format in Format::ALL {
        replay(format.name(), |body| check::reading(format, body))?;
    }
    Ok(())
}

/// A delivery may be sent to the address of another source.
#[test]
fn no_delivery_of_any_corpus_breaks_another_parser() -> Result<()> {
    for corpus in Format::ALL {
        for format in Format::ALL {
            replay(corpus.name(), |body| check::reading(format, body))?;
        }
    }
    Ok(())
}

#[test]
fn no_header_and_no_message_of_the_corpus_breaks_the_signatures() -> Result<()> {
    replay("signatures", check::signatures)
}
