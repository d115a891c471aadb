//! The blocks of commands in the pages that people read, and what each says of itself: which test runs it as it is
//! written, or why none does.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context as _, Result, bail, ensure};
use tokio::process::Command;

use crate::workspace;

/// A block of commands in a page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Block {
    /// The page, from the root of the workspace.
    pub page: String,
    /// The line of its first command, from 1.
    pub line: usize,
    /// What is typed.
    pub commands: String,
    /// What the comment before it says.
    pub fate: Fate,
}

/// Whether a block is run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fate {
    /// The test of this name gets it by [`run_by`] and runs it.
    RunBy(String),
    /// No test does, for this reason.
    NotRun(String),
    /// It does not say.
    Unsaid,
}

/// Every block of commands in every page.
pub fn all() -> Result<Vec<Block>> {
    let mut blocks = Vec::new();
    for page in pages()? {
        let text = std::fs::read_to_string(workspace().join(&page)).context(page.clone())?;
        blocks.extend(blocks_of(&page, &text)?);
    }
    Ok(blocks)
}

/// The blocks that say that the test of this name runs them, in the order of their pages.
pub fn run_by(test: &str) -> Result<Vec<Block>> {
    let is_for = |block: &Block| matches!(&block.fate, Fate::RunBy(name) if name == test);
    let blocks: Vec<Block> = all()?.into_iter().filter(is_for).collect();
    ensure!(!blocks.is_empty(), "no block says that {test} runs it");
    Ok(blocks)
}

impl Block {
    /// Types the commands as they are written: in `folder`, as whoever `kubeconfig` is, with the programs that `home` has besides
    /// those of the system.
    pub async fn type_in(&self, folder: &Path, home: &Path, kubeconfig: &Path) -> Result<()> {
        let system = ["/usr/local/bin", "/usr/bin", "/bin"].map(Path::new);
        let path = std::env::join_paths([&[home], &system[..]].concat())?;
        let output = Command::new("bash")
            .args(["-euo", "pipefail", "-c", &self.commands])
            .env("PATH", path)
            .env("HOME", home)
            .env("KUBECONFIG", kubeconfig)
            .current_dir(folder)
            .kill_on_drop(true)
            .stdin(Stdio::null())
            .output()
            .await?;
        ensure!(
            output.status.success(),
            "{}:{}: {}\n{}{}",
            self.page,
            self.line,
            output.status,
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
        Ok(())
    }
}

/// The pages, from the root of the workspace.
pub fn pages() -> Result<Vec<String>> {
    let mut pages = [
        "README.md",
        "CONTRIBUTING.md",
        "deploy/README.md",
        "charts/rollback-operator/README.md",
    ]
    .map(str::to_owned)
    .to_vec();
    let mut found = Vec::new();
    below(&workspace().join("docs"), &mut found)?;
    for path in found {
        let page = path.strip_prefix(workspace())?;
        pages.push(page.to_string_lossy().into_owned());
    }
    Ok(pages)
}

/// Every page below a folder, in the order of their names.
fn below(folder: &Path, found: &mut Vec<PathBuf>) -> Result<()> {
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        paths.push(entry?.path());
    }
    paths.sort();
    for path in paths {
        if path.is_dir() {
            below(&path, found)?;
        } else if path.extension().is_some_and(|it| it == "md") {
            found.push(path);
        }
    }
    Ok(())
}

/// The blocks of commands of one page. A block without a language could hold commands that nobody sees, so it is an error.
pub fn blocks_of(page: &str, text: &str) -> Result<Vec<Block>> {
    let lines: Vec<&str> = text.lines().collect();
    let mut blocks = Vec::new();
    let mut open: Option<usize> = None;
    for (index, line) in lines.iter().enumerate() {
        let Some(language) = line.trim_start().strip_prefix("```") else {
            continue;
        };
        let Some(start) = open else {
            ensure!(
                !language.is_empty(),
                "{page}:{}: this block says no language; write sh for commands, text for anything else",
                index + 1
            );
            open = Some(index);
            continue;
        };
        open = None;
        if is_commands(lines[start]) {
            blocks.push(Block {
                page: page.to_owned(),
                line: start + 2,
                commands: unindented(&lines[start + 1..index]),
                fate: fate(start.checked_sub(1).map_or("", |before| lines[before]))
                    .with_context(|| format!("{page}:{start}"))?,
            });
        }
    }
    ensure!(open.is_none(), "{page}: a block has no end");
    Ok(blocks)
}

fn is_commands(fence: &str) -> bool {
    ["sh", "console", "bash", "shell"].contains(&fence.trim().trim_start_matches('`'))
}

/// Without the blanks that a list puts before each line.
fn unindented(lines: &[&str]) -> String {
    let blanks = |line: &&str| line.len() - line.trim_start().len();
    let indent = lines
        .iter()
        .filter(|line| !line.trim().is_empty())
        .map(blanks)
        .min();
    let indent = indent.unwrap_or_default();
    let mut text = String::new();
    for line in lines {
        text.push_str(line.get(indent..).unwrap_or_default());
        text.push('\n');
    }
    text
}

fn fate(comment: &str) -> Result<Fate> {
    let said = comment.trim();
    let said = said
        .strip_prefix("<!-- ")
        .and_then(|rest| rest.strip_suffix(" -->"));
    match said.and_then(|said| said.split_once(": ")) {
        Some(("run by", test)) => Ok(Fate::RunBy(test.to_owned())),
        Some(("not run", reason)) => Ok(Fate::NotRun(reason.to_owned())),
        Some((other, _)) if other.contains("run") => {
            bail!("{other}: a block says `run by: TEST` or `not run: REASON`")
        }
        Some(_) | None => Ok(Fate::Unsaid),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: &str = "\
# A page

<!-- run by: cli types -->
```sh
kubectl get rbr
```

1. In a list:

   <!-- not run: needs a cluster of yours -->
   ```sh
   kubectl apply -f - <<'END'
     a: b
   END
   ```

```yaml
a: b
```

```sh
date
```
";

    #[test]
    fn each_block_says_what_becomes_of_it() -> Result<()> {
        let blocks = blocks_of("a.md", PAGE)?;
        let said: Vec<(usize, &str, &Fate)> = blocks
            .iter()
            .map(|block| (block.line, block.commands.as_str(), &block.fate))
            .collect();
        let run = Fate::RunBy("cli types".to_owned());
        let not_run = Fate::NotRun("needs a cluster of yours".to_owned());
        assert_eq!(
            said,
            [
                (5, "kubectl get rbr\n", &run),
                (12, "kubectl apply -f - <<'END'\n  a: b\nEND\n", &not_run),
                (22, "date\n", &Fate::Unsaid),
            ]
        );
        Ok(())
    }

    #[test]
    fn what_could_hide_commands_is_an_error() {
        assert!(blocks_of("a.md", "```\ndate\n```\n").is_err());
        assert!(blocks_of("a.md", "```sh\ndate\n").is_err());
        assert!(blocks_of("a.md", "<!-- ran by: x -->\n```sh\ndate\n```\n").is_ok());
        assert!(blocks_of("a.md", "<!-- run: x -->\n```sh\ndate\n```\n").is_err());
    }
}
