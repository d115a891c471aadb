//! Where a command was sent to, in words that send the next one there too. What people are told to type names the cluster
//! and the namespace whenever those are not what kubectl would take by itself: `kubectl rollback prod previous` goes to
//! the context of prod, and a command pasted after it must not go to another cluster.

use std::sync::OnceLock;

use rollback_core::message::shell;

use crate::arguments::Place;

/// Set when the cluster is known; there is one in the life of the program.
static HERE: OnceLock<String> = OnceLock::new();

/// Remembers where commands go.
pub fn remember(place: &Place) {
    // Whoever asks twice gets the first answer: there is one cluster.
    drop(HERE.set(flags(place)));
}

/// The flags that lead here, each with a blank before it; nothing where none was needed.
pub fn flags_to_here() -> &'static str {
    HERE.get().map_or("", String::as_str)
}

fn flags(place: &Place) -> String {
    let kubeconfig = place.kubeconfig.as_ref();
    let kubeconfig = kubeconfig.map(|file| file.display().to_string());
    let named = [
        ("--kubeconfig", kubeconfig.as_deref()),
        ("--context", place.context.as_deref()),
        ("-n", place.namespace.as_deref()),
    ];
    let flags = named.iter().filter_map(|(flag, value)| {
        let value = crate::output::clean((*value)?);
        Some(format!(" {flag} {}", shell::word(&value)))
    });
    flags.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_typed_is_what_is_to_be_typed_again() {
        assert_eq!(flags(&Place::default()), "");
        let place = Place {
            namespace: Some("shop".to_owned()),
            context: Some("arn:aws:eks:eu-1:1:cluster/prod eu".to_owned()),
            kubeconfig: Some("/home/o'neil/config".into()),
            ..Place::default()
        };
        let flags = flags(&place);
        assert_eq!(
            flags,
            " --kubeconfig '/home/o'\\''neil/config' --context 'arn:aws:eks:eu-1:1:cluster/prod eu' -n shop"
        );
    }
}
