//! Words of containers, made fit to be kept: what looks like a secret is taken out.

/// `text` without what looks like a secret.
pub fn redact(text: &str) -> String {
    // Nothing is known to be harmless yet.
    if text.is_empty() {
        String::new()
    } else {
        "[hidden]".to_owned()
    }
}
