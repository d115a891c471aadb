//! What may be a name. Labels of alerts may hold anything, templates that were not filled in among it.

pub use rollback_core::plan::references::is_subdomain;

/// Whether text is the name of a namespace, or of anything else that is a DNS-1123 label.
pub fn is_label(name: &str) -> bool {
    name.len() <= 63 && !name.contains('.') && is_subdomain(name)
}
