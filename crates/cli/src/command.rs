//! The commands, one file for each.

pub mod approve;
mod asked;
mod complete;
mod completion;
mod create;
pub mod diff;
mod doctor;
mod guided;
pub mod history;
mod logs;
mod notify;
mod plan;
mod policy;
mod quarantine;
mod release;
pub mod report;
mod restore;
pub mod say;
mod status;

use std::time::Duration;

use jiff::SignedDuration;

use crate::Ending;
use crate::arguments::{
    Cli, Command, Create, Environment, Notify, Place, Policy, Quarantine, Wish,
};
use crate::cluster::Cluster;
use crate::error::Error;
use crate::{environments, prompt, ui};

/// By how much a command may take longer than its `--timeout`: what waits for a request says more when the time is over.
const GRACE: Duration = Duration::from_secs(5);

/// Runs what was typed, for no longer than it says. A server that takes a request and never answers it would hold a pipeline
/// for ever; who sits at a terminal has Ctrl-C, and all the time for answers.
pub async fn run(cli: Cli) -> Result<Ending, Error> {
    let Some(patience) = patience(&cli).filter(|_| !prompt::is_person()) else {
        return Box::pin(carry_out(cli)).await;
    };
    let patience = Duration::try_from(patience).unwrap_or_default() + GRACE;
    let done = tokio::time::timeout(patience, Box::pin(carry_out(cli))).await;
    done.unwrap_or_else(|_| {
        Err(Error::Deadline(
            "The time was over, and the API server has not answered. Whether anything was written it alone knows: kubectl rollback status."
                .to_owned(),
        ))
    })
}

/// The `--timeout` of the command.
fn patience(cli: &Cli) -> Option<SignedDuration> {
    match cli.command.as_ref()? {
        Command::Status(status) => status.timeout,
        Command::Approve(approve) => approve.timeout,
        Command::Create(create) => create.wish.timeout,
        Command::Restore(restore) => restore.wish.timeout,
        Command::In(environment) => environment.wish.timeout,
        Command::Plan(_)
        | Command::Deny { .. }
        | Command::Cancel { .. }
        | Command::Ack { .. }
        | Command::Withdraw { .. }
        | Command::History { .. }
        | Command::Diff { .. }
        | Command::Report { .. }
        | Command::Quarantine { .. }
        | Command::Release { .. }
        | Command::Pause
        | Command::Resume
        | Command::Policy { .. }
        | Command::Notify { .. }
        | Command::Doctor { .. }
        | Command::Ui(_)
        | Command::Completion { .. }
        | Command::Man { .. }
        | Command::Complete { .. }
        | Command::Environment(_) => None,
    }
}

async fn carry_out(cli: Cli) -> Result<Ending, Error> {
    let place = cli.place;
    match cli.command {
        Some(Command::Completion { shell }) => completion::script(shell),
        Some(Command::Man { folder }) => completion::pages(&folder),
        Some(Command::Complete { words }) => complete::run(place, &words).await,
        Some(Command::In(environment)) => Box::pin(within(place, environment)).await,
        Some(Command::Environment(words)) => {
            environments::find(words.first().map_or("", String::as_str))?;
            Ok(Ending::Done)
        }
        Some(Command::Doctor { operator }) => {
            doctor::run(&Cluster::connect(&place).await?, &place, operator).await
        }
        Some(Command::Ui(wanted)) => {
            ui::run(Cluster::connect(&place).await?, place.output, &wanted).await
        }
        Some(command) => Box::pin(on_cluster(&place, command)).await,
        None => {
            let cluster = Cluster::connect(&place).await?;
            Box::pin(create::run(&cluster, &place, empty(Wish::default()))).await
        }
    }
}

async fn on_cluster(place: &Place, command: Command) -> Result<Ending, Error> {
    let cluster = &Cluster::connect(place).await?;
    let format = place.output;
    match command {
        Command::Create(create) => Box::pin(create::run(cluster, place, create)).await,
        Command::Plan(words) => Box::pin(plan::run(cluster, format, words)).await,
        Command::Restore(restore) => Box::pin(restore::run(cluster, place, restore)).await,
        Command::Status(status) => status::run(cluster, place, &status).await,
        Command::Approve(approve) => approve::run(cluster, place, &approve).await,
        Command::Deny { name, reason } => say::deny(cluster, format, &name, &reason).await,
        Command::Cancel { name } => say::cancel(cluster, format, &name).await,
        Command::Ack { name } => say::acknowledge(cluster, format, &name).await,
        Command::Notify {
            command:
                Notify::Test {
                    channel,
                    dry_run,
                    request,
                },
        } => {
            if dry_run {
                notify::show(cluster, format, &channel, request.as_deref()).await
            } else {
                notify::test(cluster, format, &channel).await
            }
        }
        Command::Withdraw { name } => say::withdraw(cluster, format, &name).await,
        Command::History { workload } => history::run(cluster, format, &workload).await,
        Command::Diff { workload, from, to } => {
            diff::run(cluster, format, &workload, &from, &to).await
        }
        Command::Report { name: None, .. } => report::open(cluster, format).await,
        Command::Report {
            name: Some(name),
            reviewed: true,
        } => report::reviewed(cluster, format, &name).await,
        Command::Report {
            name: Some(name),
            reviewed: false,
        } => report::print(cluster, format, &name).await,
        Command::Quarantine {
            command: Quarantine::List,
        } => quarantine::list(cluster, format).await,
        Command::Quarantine {
            command: Quarantine::Lift { workload, revision },
        } => quarantine::lift(cluster, format, &workload, revision.as_deref()).await,
        Command::Release { workload, request } => {
            release::run(cluster, format, workload.as_deref(), request.as_deref()).await
        }
        Command::Pause => policy::pause(cluster, format, true).await,
        Command::Resume => policy::pause(cluster, format, false).await,
        Command::Policy {
            command: Policy::Show,
        } => policy::show(cluster, format).await,
        Command::Policy {
            command:
                Policy::Check {
                    workload,
                    category,
                    urgency,
                },
        } => asked::check(cluster, format, workload.as_deref(), category, urgency).await,
        Command::Doctor { .. }
        | Command::Ui(_)
        | Command::Completion { .. }
        | Command::Man { .. }
        | Command::Complete { .. }
        | Command::In(_)
        | Command::Environment(_) => Ok(Ending::Done),
    }
}

/// `kubectl rollback prod previous`: what is typed counts more than what the configuration says.
async fn within(mut place: Place, typed: Environment) -> Result<Ending, Error> {
    let environment = environments::find(&typed.name)?;
    place.context = place.context.or(environment.context);
    place.namespace = place.namespace.or(environment.namespace);
    let cluster = Cluster::connect(&place).await?;
    let create = Create {
        workloads: environment.workloads,
        to: typed.to,
        ..empty(typed.wish)
    };
    Box::pin(create::run(&cluster, &place, create)).await
}

fn empty(wish: Wish) -> Create {
    Create {
        workloads: Vec::new(),
        selector: None,
        prefix: None,
        all: false,
        to: None,
        wish,
    }
}
