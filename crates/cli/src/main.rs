//! `kubectl rollback`: asks for rollbacks, approves and follows them. Everything that it does is also possible with
//! kubectl alone; what the server says of it is said in the server's words.

mod arguments;
mod cluster;
mod command;
mod environments;
mod error;
mod follow;
mod here;
mod output;
mod page;
mod prompt;
mod show;
mod to;
mod ui;
mod versions;

use std::process::ExitCode;

use clap::Parser;

use arguments::{Cli, Command};
use error::Error;

/// How a command ended; the exit code says it. What went wrong is in [`Error`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// Done, or settled: 0.
    Done,
    /// The request ended without a rollback, and nothing was changed: 3.
    NotDone,
    /// It was tried and did not work; a person has to look: 4.
    Failed,
    /// `doctor` found something: 8.
    Findings,
    /// Whoever watched has seen enough (Ctrl-C); the request goes on: 130, as shells say it.
    Interrupted,
}

impl Ending {
    fn code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::NotDone => 3,
            Self::Failed => 4,
            Self::Findings => 8,
            Self::Interrupted => 130,
        }
    }
}

fn main() -> ExitCode {
    let cli = parse();
    // One provider for TLS; a second one is never installed, so it cannot fail.
    drop(rustls::crypto::ring::default_provider().install_default());
    let ended = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(Error::Runtime)
        .and_then(|runtime| runtime.block_on(command::run(cli)));
    match ended {
        Ok(ending) => ExitCode::from(ending.code()),
        // Who reads no further has what they wanted.
        Err(Error::Output(error)) if error.kind() == std::io::ErrorKind::BrokenPipe => {
            ExitCode::SUCCESS
        }
        Err(error) => {
            output::complain(&error.to_string());
            ExitCode::from(error.code())
        }
    }
}

/// The arguments. The first word that is no command is an environment: `prod previous` is read as `in prod previous`,
/// so that flags may stand behind it.
fn parse() -> Cli {
    let cli = Cli::parse();
    let Some(Command::Environment(words)) = &cli.command else {
        return cli;
    };
    let mut arguments: Vec<_> = std::env::args_os().collect();
    let at = arguments.len().saturating_sub(words.len());
    arguments.insert(at, "in".into());
    Cli::parse_from(arguments)
}
