//! Requests that come by themselves: from the controller's own watch, and from sources of alerts.

mod alerts;
mod blocked;
mod limit;
mod slipped;
mod stage;
mod taken;
mod turns;
mod watched;
