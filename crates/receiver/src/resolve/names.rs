//! What may be a name. Labels of alerts may hold anything, templates that were not filled in among it.

pub use rollback_core::plan::references::is_subdomain;

/// Whether text is the name of a namespace, or of anything else that is a DNS-1123 label.
pub fn is_label(name: &str) -> bool {
    name.len() <= 63 && !name.contains('.') && is_subdomain(name)
}

/// Whether a word is one that Kubernetes makes up for names: without vowels, and without what looks like one.
pub fn is_made_up(word: &str) -> bool {
    const MADE_OF: &str = "bcdfghjklmnpqrstvwxz2456789";
    word.chars().all(|char| MADE_OF.contains(char))
}

/// The `ReplicaSet` that a pod is named after, where it is named so: with the hash of a template, and five characters.
pub fn replica_set_of(pod: &str) -> Option<&str> {
    let (set, of_pod) = pod.rsplit_once('-')?;
    let (_, hash) = set.rsplit_once('-')?;
    let is_pod = of_pod.len() == 5 && is_made_up(of_pod);
    (is_pod && (6..=10).contains(&hash.len()) && is_made_up(hash)).then_some(set)
}
