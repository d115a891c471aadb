//! Pages of HTML. Text is escaped as it is written; the only thing that is written as it is, is the style.

pub mod numbers;
pub mod report;
pub mod timeline;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use maud::{Markup, html};
use rollback_api::RequestState;
use rollback_core::time::stamp;
use sha2::{Digest as _, Sha256};

/// The style of all pages.
pub const STYLE: &str = include_str!("page/style.css");

/// What a page that stands alone may do: have this style, and nothing else.
pub fn only_style() -> String {
    let digest = STANDARD.encode(Sha256::digest(STYLE));
    format!("default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'")
}

/// A moment.
pub fn time(at: Timestamp) -> Markup {
    html! { time datetime=(at) { (stamp(at)) } }
}

/// How something stands: the word says it, the mark and the colour say it again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tone {
    /// Well.
    Good,
    /// Not well.
    Bad,
    /// Waits for somebody, or is not known.
    Waiting,
    /// Goes on.
    Busy,
    /// Over, with nothing done.
    Over,
}

impl Tone {
    /// That of a request; one that no controller has looked at yet waits.
    pub fn of(state: Option<RequestState>) -> Self {
        match state {
            Some(RequestState::Succeeded) => Self::Good,
            Some(RequestState::Failed | RequestState::Restored | RequestState::Newer(_)) => {
                Self::Bad
            }
            Some(
                RequestState::Refused
                | RequestState::Denied
                | RequestState::Expired
                | RequestState::Cancelled
                | RequestState::Superseded,
            ) => Self::Over,
            Some(RequestState::AwaitingApproval | RequestState::Blocked | RequestState::Frozen)
            | None => Self::Waiting,
            Some(
                RequestState::Planning
                | RequestState::BackingUp
                | RequestState::Reverting
                | RequestState::RollingOut
                | RequestState::Verifying
                | RequestState::Restoring,
            ) => Self::Busy,
        }
    }

    fn class(self) -> &'static str {
        match self {
            Self::Good => "word good",
            Self::Bad => "word bad",
            Self::Waiting => "word waiting",
            Self::Busy => "word busy",
            Self::Over => "word over",
        }
    }

    fn mark(self) -> &'static str {
        match self {
            Self::Good => "✓",
            Self::Bad => "✗",
            Self::Waiting => "?",
            Self::Busy => "▸",
            Self::Over => "–",
        }
    }
}

/// A word with its mark and colour.
pub fn word(tone: Tone, text: &str) -> Markup {
    html! { span class=(tone.class()) { span aria-hidden="true" { (tone.mark()) } " " (text) } }
}
