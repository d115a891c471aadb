//! The configuration of environments: so that `kubectl rollback prod previous` knows what prod is.

use std::collections::BTreeMap;
use std::path::PathBuf;

use clap::CommandFactory;
use serde::Deserialize;

use crate::arguments::Cli;
use crate::error::Error;
use crate::output::clean;

/// The variable that names the file.
const VARIABLE: &str = "KUBECTL_ROLLBACK_CONFIG";

/// The file.
#[derive(Deserialize, Debug, Default, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct Environments {
    /// The environments by name.
    #[serde(default)]
    pub environments: BTreeMap<String, Environment>,
}

/// What one word stands for.
#[derive(Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct Environment {
    /// Context of the kubeconfig; else the current one.
    #[serde(default)]
    pub context: Option<String>,
    /// Namespace; else that of the context.
    #[serde(default)]
    pub namespace: Option<String>,
    /// The Deployments that are rolled back; without any the guided form asks.
    #[serde(default)]
    pub workloads: Vec<String>,
}

/// The environment of this name.
pub fn find(name: &str) -> Result<Environment, Error> {
    let Some(file) = file() else {
        return Err(unknown(name, None, &Environments::default()));
    };
    let text = match std::fs::read_to_string(&file) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return Err(unknown(name, Some(&file), &Environments::default()));
        }
        Err(error) => {
            return Err(Error::Environments(format!(
                "{} cannot be read: {error}. Set {VARIABLE} to a file that can.",
                file.display()
            )));
        }
    };
    let read =
        read(&text).map_err(|why| Error::Environments(format!("{}: {why}", file.display())))?;
    match read.environments.get(name) {
        Some(environment) => Ok(environment.clone()),
        None => Err(unknown(name, Some(&file), &read)),
    }
}

/// Reads the file. A name that is a command would never be reached, and would be the command on another machine.
fn read(text: &str) -> Result<Environments, String> {
    let options = serde_saphyr::options! { with_snippet: false };
    let read: Environments = serde_saphyr::from_str_with_options(text, options)
        .map_err(|error| clean(&error.to_string()))?;
    for name in read.environments.keys() {
        if is_command(name) {
            return Err(format!(
                "the environment {name} is named like the command kubectl rollback {name}, so it could not be told from it. Give it another name."
            ));
        }
        if name.is_empty() || name.starts_with('-') || name.chars().any(char::is_whitespace) {
            return Err(format!(
                "the environment \"{}\" could not be typed as a word. Give it another name.",
                clean(name)
            ));
        }
    }
    Ok(read)
}

fn is_command(name: &str) -> bool {
    let cli = Cli::command();
    name == "help"
        || cli
            .get_subcommands()
            .any(|command| command.get_name() == name)
}

fn file() -> Option<PathBuf> {
    let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
    set(VARIABLE).map(PathBuf::from).or_else(|| {
        let folder = set("XDG_CONFIG_HOME").map(PathBuf::from);
        // Not HOME: Windows has none.
        let folder = folder.or_else(|| Some(std::env::home_dir()?.join(".config")))?;
        Some(folder.join("kubectl-rollback").join("config.yaml"))
    })
}

fn unknown(name: &str, file: Option<&PathBuf>, known: &Environments) -> Error {
    let place = file.map_or_else(|| VARIABLE.to_owned(), |file| file.display().to_string());
    let names: Vec<&str> = known.environments.keys().map(String::as_str).collect();
    let said = if names.is_empty() {
        "none is there yet".to_owned()
    } else {
        format!("there are {}", names.join(", "))
    };
    Error::Environments(format!(
        "\"{}\" is neither a command nor an environment. Commands: kubectl rollback --help. Environments are in {place} ({said}); to roll back without one, type kubectl rollback create.",
        clean(name)
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_environment_has_a_context_a_namespace_and_workloads() {
        let text = "environments:\n  prod: {context: eu, namespace: shop, workloads: [api, deployment/web]}\n  dev: {}\n";
        let read = read(text).unwrap();
        let prod = &read.environments["prod"];
        assert_eq!(prod.context.as_deref(), Some("eu"));
        assert_eq!(prod.workloads, ["api", "deployment/web"]);
        assert_eq!(read.environments["dev"], Environment::default());
    }

    #[test]
    fn an_environment_that_is_named_like_a_command_is_refused() {
        for name in ["status", "create", "policy", "help", "in", "man"] {
            let error = read(&format!("environments: {{{name}: {{}}}}")).unwrap_err();
            assert!(error.contains("is named like the command"), "{error}");
        }
    }

    #[test]
    fn what_is_misspelt_or_cannot_be_typed_is_refused() {
        assert!(read("environments: {prod: {contxt: x}}").is_err());
        assert!(read("environment: {}").is_err());
        assert!(read("environments: {'a b': {}}").is_err());
        assert!(read("environments: {'-n': {}}").is_err());
    }
}
