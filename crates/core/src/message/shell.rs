//! Words of commands that people are told to type. They paste them into a shell, so whatever may come from somebody else
//! stands there as a word that the shell takes as it is.

use crate::plan::references::is_subdomain;

/// One word of a command: as it is where a shell reads nothing into it, as names and digests are, else in single quotes.
///
/// A word that begins with a dash stays an option for whoever reads it: put values behind `key=`, and names through
/// [`name`].
pub fn word(value: &str) -> String {
    let is_harmless = |byte: u8| {
        byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-' | b':' | b'/' | b',')
    };
    if !value.is_empty() && !value.starts_with('-') && value.bytes().all(is_harmless) {
        value.to_owned()
    } else {
        quoted(value)
    }
}

/// A word in single quotes, where nothing means anything but the quote itself.
pub fn quoted(value: &str) -> String {
    format!("'{}'", value.replace('\'', "'\\''"))
}

/// The name of an object, or a placeholder for what cannot be one.
pub fn name<'a>(name: &'a str, placeholder: &'a str) -> &'a str {
    if is_subdomain(name) {
        name
    } else {
        placeholder
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_is_quoted_unless_it_is_harmless() {
        let table = [
            ("api-5xx", "api-5xx"),
            ("sha256:0123abcd", "sha256:0123abcd"),
            ("incident-documented,told", "incident-documented,told"),
            ("", "''"),
            ("-rf", "'-rf'"),
            ("ROLLBACK PRODUCTION", "'ROLLBACK PRODUCTION'"),
            ("$(x)", "'$(x)'"),
            ("`x`", "'`x`'"),
            ("d'Arcy", "'d'\\''Arcy'"),
            ("'; x; '", "''\\''; x; '\\'''"),
            ("a\nb", "'a\nb'"),
            ("anna@broxiva.example", "'anna@broxiva.example'"),
            ("Zoë", "'Zoë'"),
            ("a=b", "'a=b'"),
            ("~", "'~'"),
        ];
        for (value, expected) in table {
            assert_eq!(word(value), expected);
        }
    }

    #[test]
    fn what_is_no_name_is_not_printed_as_one() {
        assert_eq!(name("api.v2", "NAME"), "api.v2");
        for odd in ["", "-n", "a b", "$(x)", "API"] {
            assert_eq!(name(odd, "NAME"), "NAME");
        }
    }
}
