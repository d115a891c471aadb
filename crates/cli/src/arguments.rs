//! What can be typed.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use jiff::SignedDuration;
use rollback_api::request::{Category, Urgency};

use crate::to;

/// What stands below the help: the exit codes, and where the rest is.
const EXIT_CODES: &str = "Exit codes: 0 done or settled; 1 it could not be done; 2 wrong arguments; 3 the request ended without a rollback \
(denied, cancelled, expired, refused, superseded); 4 it was tried and failed, or was undone; 5 the time was over; 6 you may not; 7 the plan \
changed; 8 doctor found something; 130 you stopped watching.";

/// Roll back Deployments with a plan, an approval and a report.
#[derive(Parser, Debug)]
#[command(name = "kubectl-rollback", bin_name = "kubectl rollback", version, after_help = EXIT_CODES)]
pub struct Cli {
    /// Where, and as whom.
    #[command(flatten)]
    pub place: Place,
    /// What to do. Without it the guided form begins on a terminal.
    #[command(subcommand)]
    pub command: Option<Command>,
}

/// Where, and as whom.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Connection and output")]
pub struct Place {
    /// Namespace; else that of the context
    #[arg(short, long, global = true, value_name = "NAME", value_parser = to::namespace)]
    pub namespace: Option<String>,
    /// Context of the kubeconfig; else the current one
    #[arg(long, global = true, value_name = "NAME")]
    pub context: Option<String>,
    /// The kubeconfig; else $KUBECONFIG or ~/.kube/config
    #[arg(long, global = true, value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,
    /// Act as this user
    #[arg(long = "as", global = true, value_name = "USER")]
    pub impersonate: Option<String>,
    /// Act as a member of this group; may be given more than once
    #[arg(
        long = "as-group",
        global = true,
        value_name = "GROUP",
        requires = "impersonate"
    )]
    pub groups: Vec<String>,
    /// How to print what came of it
    #[arg(
        short,
        long,
        alias = "format",
        global = true,
        value_enum,
        value_name = "FORMAT"
    )]
    pub output: Option<Format>,
}

/// How to print.
#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// JSON.
    Json,
    /// YAML.
    Yaml,
    /// Names only, as kubectl takes them.
    Name,
    /// Text, with more columns.
    Wide,
    /// Markdown; for report.
    Md,
    /// One page that stands alone; for report.
    Html,
}

/// The commands.
#[derive(Subcommand, Debug)]
pub enum Command {
    /// Ask for a rollback; on a terminal without workloads it asks you
    Create(Create),
    /// Show what a rollback would do, without asking for it: the words of create, or the name of a request
    Plan(Create),
    /// Undo what a request did: go back to what there was before it
    Restore(Restore),
    /// Show a request, or the open ones of the namespace
    Status(Status),
    /// Read the plan of a request and approve it
    Approve(Approve),
    /// Say no to a request
    Deny {
        /// Name of the request
        #[arg(value_parser = to::request)]
        name: String,
        /// Why, for whoever asked and for the report
        #[arg(long, value_name = "TEXT")]
        reason: String,
    },
    /// End a request that is not wanted any more
    Cancel {
        /// Name of the request
        #[arg(value_parser = to::request)]
        name: String,
    },
    /// Say that you see to a request, so that nobody else is asked; it approves nothing
    Ack {
        /// Name of the request
        #[arg(value_parser = to::request)]
        name: String,
    },
    /// Take your own approval back
    Withdraw {
        /// Name of the request
        #[arg(value_parser = to::request)]
        name: String,
    },
    /// Show the revisions of a Deployment, with what is known of each
    History {
        /// For example deployment/api, or api
        workload: String,
    },
    /// Show what differs between two revisions
    Diff {
        /// For example deployment/api, or api
        workload: String,
        /// A revision, for example 3, or current
        from: String,
        /// A revision, for example 2, or current
        to: String,
    },
    /// Print the incident report of a request, or list the reviews that are still to be held
    Report {
        /// Name of the request
        #[arg(value_parser = to::request)]
        name: Option<String>,
        /// Say that you have held the review
        #[arg(long, requires = "name")]
        reviewed: bool,
    },
    /// Versions that are not chosen unless they are named
    Quarantine {
        /// What to do.
        #[command(subcommand)]
        command: Quarantine,
    },
    /// End what keeps the owner of a workload (Argo CD, Flux) from applying what is in Git, or list what is held
    Release {
        /// For example deployment/api, or api; without it, what is held is listed
        workload: Option<String>,
        /// Of which request, when there are holds of several
        request: Option<String>,
    },
    /// Stop what is rolled back without a person in this namespace
    Pause,
    /// Let what comes by itself be rolled back again
    Resume,
    /// The rules of the namespace
    Policy {
        /// What to do.
        #[command(subcommand)]
        command: Policy,
    },
    /// The notification channels of the namespace
    Notify {
        /// What to do.
        #[command(subcommand)]
        command: Notify,
    },
    /// Look whether everything is there that a rollback needs
    Doctor {
        /// Only the operator, nothing of the namespace and of your rights; what cannot be looked at counts as a finding
        #[arg(long)]
        operator: bool,
    },
    /// Serve a page to this machine only, with what you may see and do
    Ui(Ui),
    /// Print the completion script of a shell
    Completion {
        /// The shell
        shell: clap_complete::Shell,
    },
    /// Write the man pages into a folder
    #[command(hide = true)]
    Man {
        /// The folder, which exists
        folder: PathBuf,
    },
    /// What kubectl asks through kubectl_complete-rollback: candidates for the last word
    #[command(hide = true, name = "__complete")]
    Complete {
        /// The words behind kubectl rollback
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        words: Vec<String>,
    },
    /// What `kubectl rollback prod previous` is read as.
    #[command(hide = true, name = "in")]
    In(Environment),
    /// An environment of the configuration, and where to go back to.
    #[command(external_subcommand)]
    Environment(Vec<String>),
}

/// What of the quarantine.
#[derive(Subcommand, Debug)]
pub enum Quarantine {
    /// List the versions in quarantine
    List,
    /// Lift the quarantine of a version
    Lift {
        /// For example deployment/api, or api
        workload: String,
        /// Which revision, when more than one is in quarantine
        revision: Option<String>,
    },
}

/// What of the channels.
#[derive(Subcommand, Debug)]
pub enum Notify {
    /// Have the controller send a message to a channel, and say what became of it
    Test {
        /// Name of the channel in the policy
        channel: String,
        /// Send nothing: print what the service would get, of a request with --request
        #[arg(long)]
        dry_run: bool,
        /// What would be told of this request now
        #[arg(long, value_name = "NAME", requires = "dry_run", value_parser = to::request)]
        request: Option<String>,
    },
}

/// What of the policy.
#[derive(Subcommand, Debug)]
pub enum Policy {
    /// Show the rules in force
    Show,
    /// Say what would be asked of whom now, for a rollback of this workload
    Check {
        /// For example deployment/api, or api; else what holds for each
        workload: Option<String>,
        /// What kind of trouble it would be
        #[arg(long, value_enum, ignore_case = true, value_name = "KIND")]
        category: Option<Category>,
        /// How urgent it would be, when that is more than the category stands for
        #[arg(long, value_enum, ignore_case = true, value_name = "LEVEL")]
        urgency: Option<Urgency>,
    },
}

/// What `ui` takes.
#[derive(Args, Debug)]
pub struct Ui {
    /// Port of 127.0.0.1; 0 is any that is free
    #[arg(long, value_name = "PORT", default_value_t = 0)]
    pub port: u16,
    /// Print the address only, and open no browser
    #[arg(long)]
    pub no_open: bool,
}

/// What `status` takes.
#[derive(Args, Debug)]
pub struct Status {
    /// Name of the request
    #[arg(value_parser = to::request)]
    pub name: Option<String>,
    /// Follow the request until it ends
    #[arg(short, long, requires = "name")]
    pub watch: bool,
    /// With the logs of the new pods as they come, and what they use where that is measured
    #[arg(long, requires = "watch")]
    pub logs: bool,
    /// Give up after this time, for example 90s or 10m
    #[arg(long, value_name = "TIME", requires = "watch")]
    pub timeout: Option<SignedDuration>,
}

/// What `approve` takes.
#[derive(Args, Debug)]
pub struct Approve {
    /// Name of the request
    #[arg(value_parser = to::request)]
    pub name: String,
    /// The phrase of the plan, letter by letter; nothing else stands for it
    #[arg(long, value_name = "PHRASE")]
    pub confirm: Option<String>,
    /// The items of the checklist that are done, separated by commas
    #[arg(long, value_name = "ITEMS", value_delimiter = ',')]
    pub checklist: Vec<String>,
    /// Why the risk for the data is acceptable
    #[arg(long, value_name = "TEXT")]
    pub accept_data_risk: Option<String>,
    /// Approve alone, for this reason, where the policy allows it
    #[arg(long, value_name = "TEXT")]
    pub break_glass: Option<String>,
    /// Approve only this plan
    #[arg(long, value_name = "DIGEST")]
    pub plan: Option<String>,
    /// Do not ask whether the plan was read; the phrase is still asked for
    #[arg(short, long)]
    pub yes: bool,
    /// Follow the request until it ends
    #[arg(long)]
    pub wait: bool,
    /// Give up after this time, for example 90s or 10m
    #[arg(long, value_name = "TIME")]
    pub timeout: Option<SignedDuration>,
}

/// What `create` takes.
#[derive(Args, Debug)]
pub struct Create {
    /// Deployments, for example deployment/api, or api
    pub workloads: Vec<String>,
    /// The Deployments with these labels, for example app=api
    #[arg(short = 'l', long, value_name = "LABELS", conflicts_with = "workloads")]
    pub selector: Option<String>,
    /// The Deployments whose names begin so
    #[arg(long, value_name = "TEXT", conflicts_with_all = ["workloads", "selector"])]
    pub prefix: Option<String>,
    /// Every Deployment of the namespace
    #[arg(long, conflicts_with_all = ["workloads", "selector", "prefix"])]
    pub all: bool,
    /// previous, revision-3, v2.1.5, last-known-good, or backup-of=REQUEST
    #[arg(long, value_name = "VERSION")]
    pub to: Option<String>,
    /// The rest of the request.
    #[command(flatten)]
    pub wish: Wish,
}

/// What `restore` takes.
#[derive(Args, Debug)]
pub struct Restore {
    /// Name of the request to undo
    #[arg(value_parser = to::request)]
    pub request: String,
    /// Only these Deployments of it, for example deployment/api, or api
    pub workloads: Vec<String>,
    /// The rest of the request.
    #[command(flatten)]
    pub wish: Wish,
}

/// What `kubectl rollback prod previous` takes.
#[derive(Args, Debug)]
pub struct Environment {
    /// An environment of the configuration
    #[arg(id = "environment", value_name = "ENVIRONMENT")]
    pub name: String,
    /// previous, revision-3, v2.1.5, last-known-good, or backup-of=REQUEST
    pub to: Option<String>,
    /// The rest of the request.
    #[command(flatten)]
    pub wish: Wish,
}

/// Why, how, and what to do then.
#[derive(Args, Clone, Debug, Default)]
pub struct Wish {
    /// What is wrong, in one line
    #[arg(long, value_name = "TEXT")]
    pub reason: Option<String>,
    /// What kind of trouble
    #[arg(long, value_enum, ignore_case = true, value_name = "KIND")]
    pub category: Option<Category>,
    /// How urgent, when it is more than the category stands for
    #[arg(long, value_enum, ignore_case = true, value_name = "LEVEL")]
    pub urgency: Option<Urgency>,
    /// Name of the request; else it is made of the workload and the time
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,
    /// Publish the plan and stop: nothing is rolled back
    #[arg(long)]
    pub plan_only: bool,
    /// client prints the request; server has it checked and not stored
    #[arg(
        long,
        value_enum,
        value_name = "WHERE",
        num_args = 0..=1,
        require_equals = true,
        default_value = "none",
        default_missing_value = "client"
    )]
    pub dry_run: DryRun,
    /// Do not ask again before the request is made; approving it is another command
    #[arg(short, long)]
    pub yes: bool,
    /// Follow the request until it ends
    #[arg(long)]
    pub wait: bool,
    /// Give up after this time, for example 90s or 10m
    #[arg(long, value_name = "TIME", requires = "wait")]
    pub timeout: Option<SignedDuration>,
}

/// Where a dry run ends.
#[derive(ValueEnum, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DryRun {
    /// It is none.
    #[default]
    None,
    /// Nothing is sent.
    Client,
    /// The server checks it and stores nothing.
    Server,
}
