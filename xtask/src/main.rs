//! The project's own commands: `cargo xtask demo | test | bench | fuzz | image | generate`.

mod bench;
mod cargo;
mod demo;
mod fuzz;
mod generate;
mod image;
mod node;
mod pages;
mod programs;
mod session;
mod story;
mod test;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

/// The project's own commands.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

/// Where to run.
#[derive(Args, Clone, Default)]
struct Place {
    /// Use this context of your kubeconfig instead of an embedded cluster. You need to be its
    /// administrator: the definitions, the guard and fake nodes are installed there.
    #[arg(long, value_name = "NAME")]
    context: Option<String>,
    /// An older minor version of Kubernetes for the embedded cluster; its first build takes about 10 minutes.
    #[arg(long, value_name = "MINOR", conflicts_with = "context", value_parser = older)]
    kubernetes: Option<String>,
    /// Leave out the policy that writes who asks and who approves, as before Kubernetes 1.36: people write it themselves.
    #[arg(long)]
    typed: bool,
}

impl Place {
    /// What the tests and the demo are told about it.
    fn variant(&self) -> testkit::Variant {
        testkit::Variant {
            kubernetes: self.kubernetes.clone(),
            typed: self.typed || self.kubernetes.is_some(),
        }
    }
}

fn older(word: &str) -> Result<String, String> {
    let known: Vec<&str> = testkit::build::older_versions().collect();
    if known.contains(&word) {
        return Ok(word.to_owned());
    }
    Err(format!(
        "there are modules of {}, and none of this",
        known.join(", ")
    ))
}

#[derive(Subcommand)]
enum Command {
    /// Watch a rollback from the first command to the report, on the embedded cluster.
    Demo {
        #[command(flatten)]
        place: Place,
        /// Leave the cluster up at the end, and print its kubeconfig.
        #[arg(long)]
        keep: bool,
    },
    /// Run all tests, with one cluster for those that need it.
    Test {
        #[command(flatten)]
        place: Place,
        /// At full size, which takes too long for every change: see docs/testing.md.
        #[arg(long, conflicts_with = "arguments")]
        full: bool,
        /// Passed on to `cargo test`, for example `-p rollback-core` or a part of a test's name.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Measure, against a null client in the same run.
    Bench {
        #[command(subcommand)]
        what: Bench,
    },
    /// Feed every parser of what strangers send with inputs that a fuzzer makes up.
    Fuzz {
        /// Only this target of `fuzz/`.
        target: Option<String>,
        /// How many executions of each target.
        #[arg(long, default_value_t = 100_000)]
        runs: u64,
        /// Afterwards, add the smallest of the inputs that reach something new to `fuzz/corpus/`.
        #[arg(long)]
        keep: bool,
    },
    /// Build what others install: images, archives of the plugin, and what is in each.
    Image(image::Order),
    /// Write the generated files (crds/) anew.
    Generate {
        /// Instead, write docs/conformance.md from what the last `cargo xtask test` has seen.
        #[arg(long)]
        conformance: bool,
    },
}

#[derive(Subcommand)]
enum Bench {
    /// From the approval to the PATCH of the Deployment, by the API server's audit log.
    Latency {
        /// How many rollbacks.
        #[arg(long, default_value_t = 200)]
        rollbacks: usize,
    },
    /// From the start of the plugin to its first output, beside kubectl and a bare list call.
    Plugin {
        /// How many times each.
        #[arg(long, default_value_t = 50)]
        rounds: usize,
        /// Of this program, which is built already; else the plugin is built, optimised.
        #[arg(long, value_name = "FILE")]
        program: Option<PathBuf>,
    },
    /// What writes of Deployments take in a namespace with versions in quarantine, beside one without.
    Quarantine {
        /// How many writes in each.
        #[arg(long, default_value_t = 1000)]
        writes: usize,
    },
    /// From the write that shows why pods do not come up to the status that names it, and from the one that shows a crash
    /// to the revert without a person, by the API server's audit log.
    Detect {
        /// How many times each cause is provoked; 0 leaves that out.
        #[arg(long, default_value_t = 20)]
        rounds: usize,
        /// How many versions crash; 0 leaves that out.
        #[arg(long, default_value_t = 30)]
        crashes: usize,
        /// How many other Deployments are idle meanwhile.
        #[arg(long, default_value_t = 1000)]
        deployments: usize,
        /// How many pods these have, all together.
        #[arg(long, default_value_t = 2000)]
        pods: usize,
        /// Seconds for which nothing happens while requests are counted.
        #[arg(long, default_value_t = 120)]
        idle_seconds: u64,
    },
}

fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Demo { place, keep } => {
            testkit::choose(place.variant());
            session::run(async |ctrl_c| demo::run(place, keep, ctrl_c).await)
        }
        Command::Test {
            place,
            full,
            arguments,
        } => {
            testkit::choose(place.variant());
            session::run(async |ctrl_c| test::run(place, full, arguments, ctrl_c).await)
        }
        Command::Bench {
            what: Bench::Latency { rollbacks },
        } => session::run(async |ctrl_c| bench::latency(rollbacks, ctrl_c).await),
        Command::Bench {
            what: Bench::Plugin { rounds, program },
        } => session::run(async |ctrl_c| bench::plugin(rounds, program, ctrl_c).await),
        Command::Bench {
            what: Bench::Quarantine { writes },
        } => session::run(async |ctrl_c| bench::quarantine(writes, ctrl_c).await),
        Command::Bench {
            what:
                Bench::Detect {
                    rounds,
                    crashes,
                    deployments,
                    pods,
                    idle_seconds,
                },
        } => {
            let size = bench::Size {
                crashes,
                deployments,
                pods,
                idle_seconds,
            };
            session::run(async |ctrl_c| bench::detect(rounds, size, ctrl_c).await)
        }
        Command::Fuzz { target, runs, keep } => fuzz::run(target.as_deref(), runs, keep),
        Command::Image(order) => session::run(async |_| image::run(order).await),
        Command::Generate { conformance: true } => generate::conformance(),
        Command::Generate { conformance: false } => generate::write(),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("\nerror: {error:#}");
            ExitCode::FAILURE
        }
    }
}
