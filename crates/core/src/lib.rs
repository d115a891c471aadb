//! What to do next, as pure functions: no client, no runtime, no clock.
//!
//! One pass over a request reads [`observed::Observed`], calls [`decide::decide`], commits the
//! status that comes out of it, and only then takes the one [`step::Step`]. Everything that can be
//! known about a request is in its status and in the cluster, so that a crash is just another pass.

pub mod approval;
pub mod artifact;
pub mod conditions;
pub mod consent;
pub mod data_risk;
pub mod decide;
pub mod diagnose;
pub mod diff;
pub mod evidence;
pub mod freeze;
pub mod health;
pub mod history;
pub mod image;
pub mod intent;
pub mod job;
pub mod ledger;
mod named;
pub mod notice;
pub mod observed;
pub mod outcome;
pub mod owner;
pub mod pace;
pub mod phase;
pub mod plan;
pub mod promql;
pub mod redact;
pub mod references;
pub mod report;
pub mod review;
pub mod risks;
pub mod rollout;
pub mod rules;
pub mod shell;
pub mod step;
pub mod template;
pub mod text;
pub mod time;
pub mod trigger;
