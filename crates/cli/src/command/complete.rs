//! Completion with names from the cluster, as kubectl asks its plugins for it: candidates, one a line, and in the end
//! what the shell is to do. Who may not list hears nothing: a completion is no place for errors.

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
    let mut typed = Vec::new();
    let mut rest = words.iter().map(String::as_str);
    while let Some(word) = rest.next() {
        let (flag, value) = word.split_once('=').unzip();
        let target = match flag.unwrap_or(word) {
            "-n" | "--namespace" => &mut place.namespace,
            "--context" => &mut place.context,
            "--as" => &mut place.impersonate,
            flag if flag.starts_with('-') => continue,
            _ => {
                typed.push(word);
                continue;
            }
        };
        *target = value.or_else(|| rest.next()).map(str::to_owned);
    }
    typed
}

async fn candidates(place: &Place, typed: &[&str]) -> Vec<String> {
    match typed {
        [] => commands(&Cli::command()),
        ["ack" | "approve" | "deny" | "cancel" | "withdraw" | "status"] => {
            requests(place, true).await
        }
        ["report" | "restore"] => requests(place, false).await,
        ["history" | "diff"]
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
