//! Whether a new version is to be rolled back because of what its own pods show.
