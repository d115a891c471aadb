//! The pages of `kubectl rollback ui` and of `report -o html`: the real binary against a real API server, asked by hand
//! as an attacker would, and looked at by a real browser.

mod browser;
mod hostile;
mod look;
mod many;
mod server;
mod stage;
