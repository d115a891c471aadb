//! `cargo run -p episodes -- generate | record | list`.

use anyhow::Result;
use clap::Parser;
use episodes::{cause, library, record};

/// Labelled episodes that judge the triggers.
#[derive(Parser)]
enum Command {
    /// Write tests/episodes/ anew; what was recorded stays.
    Generate,
    /// Record the episodes of a real control plane anew; this takes minutes.
    Record {
        /// Only those of this cause.
        cause: Option<String>,
    },
    /// Say what the families are.
    List,
}

fn main() -> Result<()> {
    match Command::parse() {
        Command::Generate => library::write(),
        Command::Record { cause } => {
            tokio::runtime::Runtime::new()?.block_on(record::record(cause))
        }
        Command::List => {
            for it in cause::ALL {
                println!("{:<28}{:<6}{:>3}", it.name, it.expect.as_str(), it.seeds);
            }
            Ok(())
        }
    }
}
