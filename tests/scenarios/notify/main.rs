//! People hear of it: every kind of channel against servers that behave as the real ones do, on loopback.

mod crash;
mod escalation;
mod many;
mod pager;
mod refused;
mod secrets;
mod services;
mod smtp;
mod stage;
mod story;
