//! `cargo run -p episodes -- generate | list`.

use anyhow::Result;
use clap::Parser;
use episodes::{cause, library};

/// Labelled episodes that judge the triggers.
#[derive(Parser)]
enum Command {
    /// Write tests/episodes/ anew; what was recorded stays.
    Generate,
    /// Say what the families are.
    List,
}

fn main() -> Result<()> {
    match Command::parse() {
        Command::Generate => library::write(),
        Command::List => {
            for it in cause::ALL {
                println!("{:<28}{:<6}{:>3}", it.name, it.expect.as_str(), it.seeds);
            }
            Ok(())
        }
    }
}
