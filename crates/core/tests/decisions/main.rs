//! Every table and property of the decisions, in one program: linking dozens of them took longer than running them.

#![allow(
    clippy::unwrap_used,
    clippy::needless_pass_by_value,
    clippy::unnecessary_wraps,
    clippy::large_stack_arrays,
    clippy::expect_used,
    clippy::panic,
    clippy::too_many_lines,
    clippy::assigning_clones,
    clippy::format_collect,
    clippy::type_complexity,
    reason = "tables are long, and what is wrong in a test ends it"
)]

mod approval;
mod automatic;
mod capacity;
mod checks;
mod claim;
mod cluster;
mod commands;
mod conditions;
mod crowd;
mod data_risk;
mod decide;
mod diagnose;
mod diff;
mod effect;
mod ending;
mod episodes;
mod evidence;
mod example;
mod fallback;
mod field_pods;
mod finalizer;
mod foreign;
mod freeze;
mod health;
mod hearsay;
mod held;
mod history;
mod hostile;
mod job_plan;
mod jobs;
mod known_good;
mod lifecycle;
mod many;
mod notice;
mod notify;
mod notify_layout;
mod owner;
mod ownership;
mod plan;
mod purity;
mod redact;
mod references;
mod remedies;
mod report;
mod restore;
mod review;
mod risks;
mod rollout;
mod rules;
mod triggered;
mod voices;
mod watching;
mod workload;
mod world;
