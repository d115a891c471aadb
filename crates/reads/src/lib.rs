//! Reads of the API server that are bounded in bytes, objects and memory: what one namespace holds must not take the
//! memory of everybody.
//!
//! - An answer is read in parts and given up when it is too long ([`answer`]).
//! - What becomes of it in memory is counted while it is read, because a byte of JSON may become fifty ([`value`]).
//! - Lists come in pages, and what is not wanted of a page is dropped at once ([`list`]).
//! - Of a history the metadata come first, and templates only as far as there is room ([`history`]).

pub mod answer;
pub mod bounded;
pub mod budget;
pub mod get;
pub mod history;
pub mod identity;
pub mod layer;
pub mod list;
pub mod value;

use answer::TooLarge;

/// Whether a read failed because what is there is larger than it may be. Trying again would not help.
pub fn is_too_large(error: &kube::Error) -> bool {
    let mut next: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = next {
        if error.is::<TooLarge>() || error.is::<http_body_util::LengthLimitError>() {
            return true;
        }
        next = error.source();
    }
    false
}
