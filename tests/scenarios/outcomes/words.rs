//! The words of the product: what `docs/glossary.md` says is gone does not come back.

use anyhow::{Result, ensure};
use testkit::glossary::{check, names_of_definition, names_of_help, names_of_metrics};

use crate::expect::{PROGRAM, scene};
use crate::running::{controller, get};

#[tokio::test]
async fn no_old_word_is_back() -> Result<()> {
    let root = testkit::workspace();
    for definition in std::fs::read_dir(root.join("crds"))? {
        let yaml = std::fs::read_to_string(definition?.path())?;
        ensure!(check(names_of_definition(&yaml).into_iter())? > 100);
    }
    let help = std::process::Command::new(PROGRAM).arg("--help").output()?;
    check(names_of_help(&String::from_utf8(help.stdout)?).into_iter())?;
    let scene = scene("words").await?;
    let (_, page) = get(controller(&scene)?, "/metrics").await?;
    ensure!(check(names_of_metrics(&page).into_iter())? >= 4, "{page}");
    Ok(())
}
