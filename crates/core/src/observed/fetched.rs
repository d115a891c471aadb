//! What a read found, or that nobody looked.

/// The result of a read that may not have been made, or may have found nothing.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Fetched<T> {
    /// Not read in this pass, so nothing is known. Unknown is never taken for a yes or a no.
    #[default]
    Unknown,
    /// Read, and not there.
    Absent,
    /// Read, and there.
    Found(T),
}

impl<T> Fetched<T> {
    /// What was found, if anything was.
    pub fn found(&self) -> Option<&T> {
        match self {
            Self::Found(value) => Some(value),
            Self::Unknown | Self::Absent => None,
        }
    }
}
