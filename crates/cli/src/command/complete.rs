//! Completion with names from the cluster, as kubectl asks its plugins for it: candidates, one a line, and in the end
//! what the shell is to do. Who may not list hears nothing: a completion is no place for errors.

use std::path::PathBuf;

use clap::CommandFactory;
use kube::ResourceExt;
use kube::api::ListParams;
use rollback_api::RollbackRequest;

use crate::Ending;
use crate::arguments::{Cli, Place};
use crate::cluster::Cluster;
use crate::error::Error;
use crate::output::{clean, say};
use crate::versions;

/// What cobra calls `ShellCompDirectiveNoFileComp`.
const NO_FILES: &str = ":4";

/// Prints the candidates for the last word.
pub async fn run(mut place: Place, words: &[String]) -> Result<Ending, Error> {
    let (begun, before) = words
        .split_last()
        .map_or(("", &[][..]), |(last, rest)| (last.as_str(), rest));
    let typed = positionals(&mut place, before);
    for candidate in candidates(&place, &typed).await {
        if candidate.starts_with(begun) {
            say(&clean(&candidate))?;
        }
    }
    say(NO_FILES)?;
    Ok(Ending::Done)
}

/// The words that are no flags; where and as whom is taken out of the flags.
fn positionals<'a>(place: &mut Place, words: &'a [String]) -> Vec<&'a str> {
    let cli = Cli::command();
    let mut typed = Vec::new();
    let mut rest = words.iter().map(String::as_str);
    while let Some(word) = rest.next() {
        let (flag, value) = word.split_once('=').unzip();
        let target = match flag.unwrap_or(word) {
            "-n" | "--namespace" => &mut place.namespace,
            "--context" => &mut place.context,
            "--as" => &mut place.impersonate,
            "--kubeconfig" => {
                place.kubeconfig = value.or_else(|| rest.next()).map(PathBuf::from);
                continue;
            }
            flag if flag.starts_with('-') => {
                if value.is_none() && takes_a_word(&cli, flag) {
                    rest.next();
                }
                continue;
            }
            _ => {
                typed.push(word);
                continue;
            }
        };
        *target = value.or_else(|| rest.next()).map(str::to_owned);
    }
    typed
}

/// Whether the word behind a flag belongs to it, in any command.
fn takes_a_word(command: &clap::Command, flag: &str) -> bool {
    let long = flag.strip_prefix("--");
    let short = flag.strip_prefix('-').filter(|rest| rest.len() == 1);
    let is_it = |arg: &&clap::Arg| {
        let by_long = long.is_some_and(|long| {
            arg.get_long_and_visible_aliases()
                .is_some_and(|names| names.contains(&long))
        });
        let by_short = short.is_some_and(|short| {
            arg.get_short()
                .is_some_and(|letter| short.starts_with(letter))
        });
        by_long || by_short
    };
    let mut here = command.get_arguments().filter(is_it);
    here.any(|arg| arg.get_action().takes_values() && !arg.is_require_equals_set())
        || command.get_subcommands().any(|sub| takes_a_word(sub, flag))
}

async fn candidates(place: &Place, typed: &[&str]) -> Vec<String> {
    match typed {
        [] => commands(&Cli::command()),
        ["ack" | "approve" | "deny" | "cancel" | "withdraw" | "status"] => {
            requests(place, true).await
        }
        ["report" | "restore"] => requests(place, false).await,
        ["history" | "diff" | "release"]
        | ["quarantine", "lift"]
        | ["policy", "check"]
        | ["create" | "plan", ..]
        | ["restore", _, ..] => deployments(place).await,
        [one] => {
            let cli = Cli::command();
            cli.find_subcommand(one).map(commands).unwrap_or_default()
        }
        [_, _, ..] => Vec::new(),
    }
}

fn commands(command: &clap::Command) -> Vec<String> {
    let shown = command.get_subcommands().filter(|it| !it.is_hide_set());
    shown.map(|it| it.get_name().to_owned()).collect()
}

async fn requests(place: &Place, open: bool) -> Vec<String> {
    let Ok(cluster) = Cluster::connect(place).await else {
        return Vec::new();
    };
    let api = cluster.api::<RollbackRequest>();
    let found = cluster
        .list(&api, ListParams::default())
        .await
        .unwrap_or_default();
    let wanted = found.iter().filter(|it| !open || it.outcome().is_none());
    wanted.map(ResourceExt::name_any).collect()
}

async fn deployments(place: &Place) -> Vec<String> {
    match Cluster::connect(place).await {
        Ok(cluster) => versions::deployments(&cluster).await.unwrap_or_default(),
        Err(_) => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_belongs_to_a_flag_is_no_word_of_its_own() {
        let rows: [(&[&str], &[&str]); 6] = [
            (&["status", "-o", "json"], &["status"]),
            (&["status", "-w", "--timeout", "10m"], &["status"]),
            (&["status", "-w", "api-5xx"], &["status", "api-5xx"]),
            (&["--kubeconfig", "x", "history"], &["history"]),
            (&["create", "--dry-run", "api"], &["create", "api"]),
            (&["create", "--to=previous", "-y"], &["create"]),
        ];
        for (words, expected) in rows {
            let words: Vec<String> = words.iter().map(ToString::to_string).collect();
            let mut place = Place::default();
            assert_eq!(positionals(&mut place, &words), expected, "{words:?}");
        }
        let words = ["-n", "shop", "--context=eu", "--kubeconfig", "file"].map(str::to_owned);
        let mut place = Place::default();
        assert!(positionals(&mut place, &words).is_empty());
        assert_eq!(place.namespace.as_deref(), Some("shop"));
        assert_eq!(place.context.as_deref(), Some("eu"));
        assert_eq!(place.kubeconfig, Some(PathBuf::from("file")));
    }
}
