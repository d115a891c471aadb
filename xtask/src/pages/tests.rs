//! What a plain test can say about pages: links lead somewhere, blocks say whether they are run, names exist.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use rollback_api::{Reason, RequestState, RollbackPolicy, RollbackRequest};
use serde_json::Value;
use testkit::blocks::{self, Fate};

use super::{commands, metrics};

fn read(path: &str) -> Result<String> {
    std::fs::read_to_string(testkit::workspace().join(path)).with_context(|| path.to_owned())
}

#[test]
fn every_block_of_commands_is_run_or_says_why_not() -> Result<()> {
    let blocks = blocks::all()?;
    ensure!(blocks.len() > 40, "only {} blocks were found", blocks.len());
    let scenarios = sources(&testkit::workspace().join("tests/scenarios"))?;
    for block in &blocks {
        match &block.fate {
            Fate::NotRun(reason) => ensure!(reason.len() > 10, "{}: {reason}", block.page),
            Fate::RunBy(test) => ensure!(
                scenarios.contains(&format!("run_by(\"{test}\")")),
                "{}:{}: no test in tests/scenarios calls blocks::run_by(\"{test}\")",
                block.page,
                block.line
            ),
            Fate::Unsaid => anyhow::bail!("{}", commands::unsaid(block)),
        }
    }
    Ok(())
}

/// All sources below a folder.
fn sources(folder: &Path) -> Result<String> {
    let mut text = String::new();
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            text.push_str(&sources(&path)?);
        } else if path.extension().is_some_and(|it| it == "rs") {
            text.push_str(&std::fs::read_to_string(&path)?);
        }
    }
    Ok(text)
}

/// What is in the parentheses of each link of a page, outside of blocks.
fn links(text: &str) -> Vec<&str> {
    let mut inside = false;
    let mut found = Vec::new();
    for line in text.lines() {
        if line.trim_start().starts_with("```") {
            inside = !inside;
        } else if !inside {
            found.extend(
                line.split("](")
                    .skip(1)
                    .filter_map(|rest| rest.split(')').next()),
            );
        }
    }
    found
}

/// The anchors of a page, as a forge and the book make them of its headings.
fn anchors(text: &str) -> BTreeSet<String> {
    let mut inside = false;
    let mut found = BTreeSet::new();
    for line in text.lines() {
        if line.trim_start().starts_with("```") {
            inside = !inside;
        }
        let title = line.trim_start_matches('#');
        if inside || title.len() == line.len() || !title.starts_with(' ') {
            continue;
        }
        let kept = title.trim().to_lowercase();
        let kept = kept
            .chars()
            .filter(|letter| letter.is_alphanumeric() || " -_".contains(*letter));
        found.insert(kept.collect::<String>().replace(' ', "-"));
    }
    found
}

fn is_elsewhere(link: &str) -> bool {
    link.starts_with("https://") || link.starts_with("http://") || link.starts_with("mailto:")
}

#[test]
fn every_link_leads_somewhere_on_a_forge_and_in_the_book() -> Result<()> {
    let root = testkit::workspace();
    let mut pages = blocks::pages()?;
    pages.extend(["SECURITY.md", "CHANGELOG.md"].map(str::to_owned));
    let mut count = 0;
    for page in pages {
        let text = read(&page)?;
        for link in links(&text).into_iter().filter(|link| !is_elsewhere(link)) {
            let (path, anchor) = link.split_once('#').unwrap_or((link, ""));
            let target = if path.is_empty() {
                PathBuf::from(&page)
            } else {
                plain(&Path::new(&page).with_file_name("").join(path))
            };
            let file = root.join(&target);
            ensure!(file.exists(), "{page}: {link} leads nowhere");
            // The book holds nothing but docs/, and makes its contents of the summary.
            let is_in_book =
                target.starts_with("docs") && file.is_file() && !target.ends_with("SUMMARY.md");
            ensure!(
                !page.starts_with("docs/") || is_in_book,
                "{page}: {link} leads to no file of docs/, so it leads nowhere in the book; name it without a link"
            );
            if !anchor.is_empty() {
                let text = std::fs::read_to_string(&file)?;
                ensure!(
                    anchors(&text).contains(anchor),
                    "{page}: {link}: no such heading"
                );
            }
            count += 1;
        }
    }
    ensure!(count > 150, "only {count} links were found");
    Ok(())
}

/// Without `.` and `..`.
fn plain(path: &Path) -> PathBuf {
    let mut out = PathBuf::new();
    for part in path.components() {
        match part {
            std::path::Component::ParentDir => {
                out.pop();
            }
            std::path::Component::CurDir => {}
            std::path::Component::Prefix(_)
            | std::path::Component::RootDir
            | std::path::Component::Normal(_) => out.push(part),
        }
    }
    out
}

#[test]
fn every_page_has_its_place_in_the_book() -> Result<()> {
    let summary = read("docs/SUMMARY.md")?;
    let listed: BTreeSet<&str> = links(&summary).into_iter().collect();
    for page in blocks::pages()? {
        let Some(page) = page.strip_prefix("docs/") else {
            continue;
        };
        ensure!(
            page == "SUMMARY.md" || listed.contains(page),
            "add {page} to docs/SUMMARY.md"
        );
    }
    Ok(())
}

#[test]
fn troubleshooting_knows_every_word() -> Result<()> {
    let page = read("docs/troubleshooting.md")?;
    let states = RequestState::ALL.iter().filter_map(|state| state.known());
    let reasons = Reason::ALL.iter().filter_map(|reason| reason.known());
    for word in states.chain(reasons) {
        // What has ended well, and what the headings say.
        let told = page.contains(&format!("`{word}`"))
            || ["Succeeded", "Refused", "Failed", "Restored"].contains(&word);
        ensure!(told, "docs/troubleshooting.md says nothing of {word}");
    }
    Ok(())
}

/// Words that look like metrics of ours.
fn named(text: &str) -> BTreeSet<&str> {
    text.split(|letter: char| !(letter.is_ascii_alphanumeric() || letter == '_'))
        .filter(|word| word.starts_with("rollback_"))
        .collect()
}

#[test]
fn the_dashboard_and_the_alerts_name_metrics_that_exist() -> Result<()> {
    let known: BTreeSet<String> = metrics::all()?.into_iter().map(|it| it.name).collect();
    ensure!(known.len() > 15, "only {} metrics were found", known.len());
    let dashboard = read("charts/rollback-operator/files/dashboard.json")?;
    let dashboard: Value = serde_json::from_str(&dashboard)?;
    let panels = dashboard["panels"].as_array().context("no panels")?;
    let mut queries = Vec::new();
    for panel in panels.iter().filter(|panel| panel["type"] != "row") {
        for field in ["title", "description"] {
            let text = panel[field].as_str().unwrap_or_default();
            ensure!(!text.is_empty(), "a panel has no {field}: {panel}");
        }
        ensure!(
            panel["datasource"]["uid"] == "${datasource}",
            "{} has a datasource of its own",
            panel["title"]
        );
        ensure!(
            panel["fieldConfig"]["defaults"]["unit"].is_string(),
            "{} has no unit",
            panel["title"]
        );
        for target in panel["targets"].as_array().context("no targets")? {
            queries.push(target["expr"].as_str().context("no query")?.to_owned());
        }
    }
    ensure!(queries.len() >= panels.len() / 2, "{queries:?}");
    queries.push(read("charts/rollback-operator/alerts.yaml")?);
    for query in &queries {
        ensure!(
            !query.contains("rate(")
                || query.contains("[$__rate_interval]")
                || query.contains("alert:"),
            "{query}: a rate of the dashboard takes $__rate_interval"
        );
        for name in named(query) {
            let series = ["_bucket", "_sum", "_count"]
                .iter()
                .find_map(|end| name.strip_suffix(end))
                .unwrap_or(name);
            ensure!(
                known.contains(name) || known.contains(series),
                "docs/reference/metrics.md has no {name}"
            );
        }
    }
    Ok(())
}

/// Fields of `written` that `understood` has not.
fn unknown(written: &Value, understood: &Value, path: &str) -> Vec<String> {
    match (written, understood) {
        (Value::Object(fields), _) => fields
            .iter()
            .flat_map(|(name, value)| match understood.get(name) {
                Some(found) => unknown(value, found, &format!("{path}.{name}")),
                None => vec![format!("{path}.{name}")],
            })
            .collect(),
        (Value::Array(items), Value::Array(found)) => items
            .iter()
            .zip(found)
            .flat_map(|(item, found)| unknown(item, found, path))
            .collect(),
        _ => Vec::new(),
    }
}

#[test]
fn the_examples_are_what_they_say() -> Result<()> {
    for entry in std::fs::read_dir(testkit::workspace().join("docs/examples"))? {
        let path = entry?.path();
        let text = std::fs::read_to_string(&path)?;
        let written: Value = serde_saphyr::from_str(&text)?;
        let understood = match written["kind"].as_str() {
            Some("RollbackPolicy") => {
                serde_json::to_value(serde_json::from_value::<RollbackPolicy>(written.clone())?)?
            }
            Some("RollbackRequest") => {
                serde_json::to_value(serde_json::from_value::<RollbackRequest>(written.clone())?)?
            }
            other => anyhow::bail!("{}: {other:?}", path.display()),
        };
        let unknown = unknown(&written, &understood, "");
        ensure!(unknown.is_empty(), "{}: {unknown:?}", path.display());
    }
    Ok(())
}
