//! The project's own commands: `cargo xtask generate | demo | test | bench`.

mod generate;

use clap::{Parser, Subcommand};

/// The project's own commands.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Write the generated files (crds/) anew.
    Generate,
}

fn main() -> anyhow::Result<()> {
    match Cli::parse().command {
        Command::Generate => generate::write(),
    }
}
