//! The chart: what it renders is what `deploy/` holds, a release of it is an installation, and its alerts fire when they
//! should.

mod alerts;
mod helm;
mod quick;
mod release;
mod rendered;
