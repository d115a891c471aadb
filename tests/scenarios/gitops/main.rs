//! Scenarios: gitops.
