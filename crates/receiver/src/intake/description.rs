//! What there is to know of a format besides its name. Each file of a format says it once, as its constant `FORMAT`.

use jiff::Timestamp;

use super::Unreadable;
use crate::alert::Delivery;
use crate::signature::Rejected;

/// A format.
pub struct Description {
    /// What to send so that it can be read.
    pub(super) remedy: &'static str,
    /// Reads the body of a delivery.
    pub(super) read: fn(&[u8]) -> Result<Delivery, Unreadable>,
    /// How its sender can prove who it is.
    pub proof: Proof,
    /// What its sender says its deliveries are, when it does not say JSON.
    pub content_types: &'static [&'static str],
    /// When a sender that has sent too much comes again by itself.
    pub comes_again: After,
}

/// How a sender can prove who it is.
pub enum Proof {
    /// It signs nothing: by a token, a password or a client certificate.
    Credentials,
    /// By the same, or by a code over the body.
    Hmac(Hmac),
    /// By Amazon's signature, and by nothing else.
    Amazon,
}

/// A code that only the holder of a secret can make.
pub struct Hmac {
    /// Header with the code.
    pub header: &'static str,
    /// Whether the sender lets one choose another name for its headers.
    pub can_be_renamed: bool,
    /// What it is a code of.
    pub signed: Signed,
}

/// What is signed.
pub enum Signed {
    /// The body.
    Body(OfBody),
    /// A time and the body.
    TimeAndBody {
        /// Header with the time.
        header: &'static str,
        /// Whether the code fits.
        fits: OfTimeAndBody,
    },
}

/// Whether this code was made of the body by a holder of the secret.
pub type OfBody = fn(secret: &[u8], code: &str, body: &[u8]) -> Result<(), Rejected>;

/// The same of the time as it came and the body, not too long ago.
pub type OfTimeAndBody =
    fn(secret: &[u8], code: &str, time: &str, body: &[u8], now: Timestamp) -> Result<(), Rejected>;

/// The status after which a sender comes again.
#[derive(Clone, Copy)]
pub enum After {
    /// 429, which says what is so.
    TooManyRequests,
    /// 503, where it does not come again after a 429.
    ServiceUnavailable,
}
