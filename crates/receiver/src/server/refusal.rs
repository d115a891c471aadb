//! Deliveries that are not taken, and what their senders are told.

use std::time::Duration;

use axum::body::Body;
use axum::response::Response;
use http::{HeaderValue, StatusCode, header};
use rollback_receiver::intake::{After, Format, Unreadable};
use serde_json::{Value, json};

use crate::authenticate::Refused;
use crate::limits::{LARGEST_BODY, RETRY_AFTER_SECONDS};

/// Why a delivery is not taken.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// It is not known who sent it; `None` when there is no such source. The sender learns neither.
    #[error("who sent this is not known here")]
    Unauthorized(Option<Refused>),
    /// The body is too large.
    #[error("the body is larger than {LARGEST_BODY} bytes; send fewer alerts at once")]
    TooLarge,
    /// The body did not come in time.
    #[error("the body did not come in time")]
    TooSlow,
    /// The connection ended within the body.
    #[error("the body was cut off")]
    Cut,
    /// It is said to be something else.
    #[error("the content type is not application/json")]
    ContentType,
    /// It is not what the format of the source is.
    #[error(transparent)]
    Unreadable(#[from] Unreadable),
    /// The sender has sent too much.
    #[error("too many deliveries of this sender; come again later")]
    TooMany(Duration),
    /// There is too much to do.
    #[error("there is too much to do; come again later")]
    Busy,
    /// Something that is needed does not answer.
    #[error("this cannot be answered now; come again later")]
    Unavailable(String),
    /// SNS does not confirm the subscription.
    #[error("the subscription could not be confirmed; come again later")]
    Unconfirmed(String),
}

impl Refusal {
    /// Its name in metrics and logs.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Unauthorized(_) => "unauthorized",
            Self::TooLarge => "too-large",
            Self::TooSlow => "too-slow",
            Self::Cut => "cut",
            Self::ContentType => "content-type",
            Self::Unreadable(_) => "unreadable",
            Self::TooMany(_) => "too-many",
            Self::Busy => "busy",
            Self::Unavailable(_) => "unavailable",
            Self::Unconfirmed(_) => "unconfirmed",
        }
    }

    /// What the operator has to know, and the sender not.
    pub fn reason(&self) -> String {
        match self {
            Self::Unauthorized(None) => "there is no such source".to_owned(),
            Self::Unauthorized(Some(refused)) => refused.to_string(),
            Self::Unavailable(why) | Self::Unconfirmed(why) => why.clone(),
            Self::TooLarge
            | Self::TooSlow
            | Self::Cut
            | Self::ContentType
            | Self::Unreadable(_)
            | Self::TooMany(_)
            | Self::Busy => self.to_string(),
        }
    }

    /// The answer to a sender of this format.
    pub fn response(&self, format: Option<Format>) -> Response {
        let soon = Duration::from_secs(RETRY_AFTER_SECONDS);
        let (status, after) = match self {
            Self::Unauthorized(_) => (StatusCode::UNAUTHORIZED, None),
            Self::TooLarge => (StatusCode::PAYLOAD_TOO_LARGE, None),
            Self::TooSlow => (StatusCode::REQUEST_TIMEOUT, None),
            Self::Cut | Self::Unreadable(_) => (StatusCode::BAD_REQUEST, None),
            Self::ContentType => (StatusCode::UNSUPPORTED_MEDIA_TYPE, None),
            Self::TooMany(wait) => (too_many(format), Some(*wait)),
            Self::Busy | Self::Unavailable(_) | Self::Unconfirmed(_) => {
                (StatusCode::SERVICE_UNAVAILABLE, Some(soon))
            }
        };
        let mut response = json(status, after, &json!({"message": self.to_string()}));
        if status == StatusCode::UNAUTHORIZED {
            let challenge = HeaderValue::from_static("Bearer");
            response
                .headers_mut()
                .insert(header::WWW_AUTHENTICATE, challenge);
        }
        response
    }
}

/// The status after which this sender comes again by itself.
fn too_many(format: Option<Format>) -> StatusCode {
    match format.map(|format| format.description().comes_again) {
        Some(After::TooManyRequests) => StatusCode::TOO_MANY_REQUESTS,
        Some(After::ServiceUnavailable) | None => StatusCode::SERVICE_UNAVAILABLE,
    }
}

/// A response with this body, and after how long to come again.
pub fn json(status: StatusCode, after: Option<Duration>, body: &Value) -> Response {
    let mut response = Response::new(Body::from(format!("{body}\n")));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    let json = HeaderValue::from_static("application/json");
    headers.insert(header::CONTENT_TYPE, json);
    if let Some(after) = after {
        let seconds = after.as_secs().max(1);
        headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    response
}
