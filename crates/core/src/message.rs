//! What people read: text of others made fit for a place, commands to type, and secrets taken out.

pub mod redact;
pub mod shell;
pub mod text;
