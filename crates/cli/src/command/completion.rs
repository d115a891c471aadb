//! `completion`, and the man pages.

use std::path::Path;

use clap::CommandFactory;
use clap_complete::Shell;

use crate::Ending;
use crate::arguments::Cli;
use crate::error::Error;

/// The name of the program, which the scripts complete.
const PROGRAM: &str = "kubectl-rollback";

/// Prints the script of a shell.
pub fn script(shell: Shell) -> Result<Ending, Error> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), PROGRAM, &mut script);
    std::io::Write::write_all(&mut std::io::stdout().lock(), &script)?;
    Ok(Ending::Done)
}

/// Writes the man pages, one for each command.
pub fn pages(folder: &Path) -> Result<Ending, Error> {
    let cli = Cli::command().name(PROGRAM).bin_name(PROGRAM);
    clap_mangen::generate_to(cli, folder)?;
    Ok(Ending::Done)
}
