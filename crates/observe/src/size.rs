//! How much memory the reads of one request may take.

/// How much a pass may read. The numbers are estimates of what values take in memory; rather too high than too low.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Size {
    /// As much as ordinary requests need.
    #[default]
    Small,
    /// Many Deployments, or a long history.
    Medium,
    /// As much as one request may have.
    Large,
}

impl Size {
    /// How many bytes what is read may take.
    pub fn memory(self) -> usize {
        match self {
            Self::Small => 2 << 20,
            Self::Medium => 16 << 20,
            Self::Large => 40 << 20,
        }
    }

    /// The next larger one.
    pub fn larger(self) -> Option<Self> {
        match self {
            Self::Small => Some(Self::Medium),
            Self::Medium => Some(Self::Large),
            Self::Large => None,
        }
    }
}
