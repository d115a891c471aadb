//! Labelled episodes: what a control plane shows while something is wrong with a release, or with something else.
//! They judge the triggers of the product, so nothing in here knows how those decide. Never shipped.
//!
//! - [`cause`] is the table of what is injected, and what follows from it;
//! - [`sim`] plays the Deployment controller, the `ReplicaSet` controller, the scheduler, the node lifecycle controller
//!   and the kubelets;
//! - [`film`] cuts what they show into frames;
//! - [`record`] records the same causes on a real control plane;
//! - [`library`] writes the files and finds where they differ from what the code makes now.

pub mod cause;
pub mod film;
pub mod library;
pub mod random;
pub mod record;
pub mod sim;
