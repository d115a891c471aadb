//! Takes deliveries: limits, who sent it, what it holds, what becomes of it, in this order.

pub mod listen;
mod refusal;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Body;
use axum::extract::{Path, Request, State};
use axum::response::Response;
use axum::routing::post;
use bytes::{Bytes, BytesMut};
use http::request::Parts;
use http::{HeaderMap, StatusCode, header};
use http_body_util::BodyExt;
use jiff::Timestamp;
use rollback_receiver::alert::Delivery;
use rollback_receiver::intake::{self, Format};
use serde_json::json;
use tokio::sync::Semaphore;

use crate::ask::{Answer, Asker, Outcome};
use crate::authenticate::{Authenticator, Peer, Refused};
use crate::config::Source;
use crate::limits::{LARGEST_BODY, LOOKS, RETRY_AFTER_SECONDS, ROOM, Rates, Slot, WORK};
use crate::metrics::Metrics;
use refusal::Refusal;

/// How many refusals of a source are written to the log in a minute; all are counted.
const LOGGED_PER_MINUTE: u32 = 30;

/// Everything that takes deliveries.
pub struct Receiver {
    sources: BTreeMap<String, Source>,
    authenticator: Authenticator,
    asker: Asker,
    rates: Rates,
    logged: Rates,
    work: Semaphore,
    metrics: Arc<Metrics>,
}

/// The connection on which a delivery comes.
#[derive(Clone)]
pub struct Connection {
    /// Its place among the others.
    pub slot: Arc<Slot>,
    /// Until when the delivery must have come in.
    pub until: Instant,
    /// What the other side has shown.
    pub peer: Option<Peer>,
}

/// The routes.
pub fn router(receiver: Arc<Receiver>) -> Router {
    Router::new()
        .route("/v1/alerts/{source}", post(deliver))
        .with_state(receiver)
}

async fn deliver(
    State(receiver): State<Arc<Receiver>>,
    Path(name): Path<String>,
    request: Request,
) -> Response {
    let (parts, body) = request.into_parts();
    let source = receiver.sources.get(&name);
    match receiver.take(source, &parts, body).await {
        Ok(response) => response,
        Err(refusal) => {
            receiver.tell(source, &refusal);
            refusal.response(source.map(|source| source.format))
        }
    }
}

impl Receiver {
    /// Takes deliveries of these sources, so many at the same time.
    pub fn new(
        sources: Vec<Source>,
        client: &kube::Client,
        concurrency: usize,
        metrics: Arc<Metrics>,
    ) -> Self {
        let named = sources
            .into_iter()
            .map(|source| (source.name.clone(), source));
        Self {
            sources: named.collect(),
            authenticator: Authenticator::new(client.clone()),
            asker: Asker::new(client.clone(), metrics.clone()),
            rates: Rates::default(),
            logged: Rates::default(),
            work: Semaphore::new(concurrency),
            metrics,
        }
    }

    async fn take(
        &self,
        source: Option<&Source>,
        parts: &Parts,
        body: Body,
    ) -> Result<Response, Refusal> {
        let headers = &parts.headers;
        let connection = parts.extensions.get::<Connection>();
        let connection = connection.ok_or(Refusal::Cut)?;
        if length(headers).is_some_and(|length| length > LARGEST_BODY) {
            return Err(Refusal::TooLarge);
        }
        let source = source.ok_or(Refusal::Unauthorized(None))?;
        let peer = connection.peer.as_ref();
        let by_head = self.authenticator.by_head(source, headers, peer).await;
        let by_head = by_head.map_err(refused)?;
        let body = read(body, connection).await?;
        let sender = if let Some(sender) = by_head {
            sender
        } else {
            let by_body = self.authenticator.by_body(source, headers, &body).await;
            by_body.map_err(refused)?
        };
        connection.slot.keep();
        if !is_readable(source.format, headers) {
            return Err(Refusal::ContentType);
        }
        let delivery = intake::read(source.format, &body)?;
        drop(body);
        let bucket = format!("{}/{sender}", source.name);
        self.rates
            .take(&bucket, source.per_minute, Instant::now())
            .map_err(Refusal::TooMany)?;
        let _permit = self.work.try_acquire().map_err(|_| Refusal::Busy)?;
        tokio::time::timeout(WORK, self.answer(source, &sender, delivery))
            .await
            .map_err(|_| Refusal::Unavailable("it took too long".to_owned()))?
    }

    async fn answer(
        &self,
        source: &Source,
        sender: &str,
        delivery: Delivery,
    ) -> Result<Response, Refusal> {
        let (alerts, left_out) = match delivery {
            Delivery::Alerts(alerts) => (alerts, 0),
            Delivery::Truncated(alerts, left_out) => {
                self.metrics.left_out(&source.name, left_out);
                tracing::warn!(
                    source = source.name,
                    sender,
                    left_out,
                    "the sender has left alerts out: set max_alerts of its webhook to 0, or group by more labels"
                );
                (alerts, left_out)
            }
            Delivery::Confirm { topic, url } => {
                let confirmed = self.authenticator.confirm(source, &topic, &url).await;
                confirmed.map_err(|fault| Refusal::Unconfirmed(fault.to_string()))?;
                tracing::info!(source = source.name, topic, "a subscription was confirmed");
                return Ok(said("the subscription is confirmed"));
            }
            Delivery::Nothing(why) => {
                self.metrics.empty(&source.name);
                tracing::info!(
                    source = source.name,
                    sender,
                    why,
                    "a delivery held nothing to answer"
                );
                return Ok(said(&why));
            }
        };
        let answers = self.asker.answer(source, &alerts, Timestamp::now()).await;
        for answer in &answers {
            self.metrics.answered(&source.name, answer.outcome);
            tracing::info!(
                source = source.name,
                sender,
                alert = answer.alert,
                outcome = answer.outcome.as_str(),
                request = answer.request,
                message = answer.message,
                "an alert was answered"
            );
        }
        let too_many = answers.iter().filter(|it| it.outcome == Outcome::LeftOut);
        let too_many = too_many.count();
        if too_many > 0 {
            tracing::warn!(
                source = source.name,
                sender,
                too_many,
                "alerts of a delivery were left out, because it is about more than is looked up of one: group by more labels, or send them again"
            );
        }
        Ok(response(&answers, left_out, too_many))
    }

    fn tell(&self, source: Option<&Source>, refusal: &Refusal) {
        let name = source.map_or("", |source| source.name.as_str());
        self.metrics.refused(name, refusal.word());
        let may = self.logged.take(name, LOGGED_PER_MINUTE, Instant::now());
        if may.is_ok() {
            let reason = refusal.reason();
            tracing::warn!(
                source = name,
                word = refusal.word(),
                reason,
                "a delivery was refused"
            );
        }
    }
}

fn refused(refused: Refused) -> Refusal {
    match refused {
        Refused::Missing(_) | Refused::Wrong(_) | Refused::Signature(_) => {
            Refusal::Unauthorized(Some(refused))
        }
        Refused::Unknowable(why) => Refusal::Unavailable(why),
    }
}

/// How long the body is said to be.
fn length(headers: &HeaderMap) -> Option<usize> {
    let length = headers.get(header::CONTENT_LENGTH)?.to_str().ok()?;
    // Whatever is no number that fits is too long, or not let through by the parser of the head.
    Some(length.parse().unwrap_or(usize::MAX))
}

/// The whole body, unless it is too long or takes too long.
async fn read(mut body: Body, connection: &Connection) -> Result<Bytes, Refusal> {
    let mut all = BytesMut::new();
    let until = connection.until.into();
    loop {
        let frame = tokio::time::timeout_at(until, body.frame()).await;
        let Some(frame) = frame.map_err(|_| Refusal::TooSlow)? else {
            return Ok(all.freeze());
        };
        let Ok(part) = frame.map_err(|_| Refusal::Cut)?.into_data() else {
            continue;
        };
        if all.len() + part.len() > LARGEST_BODY {
            return Err(Refusal::TooLarge);
        }
        hold(&connection.slot, part.len()).await?;
        all.extend_from_slice(&part);
    }
}

/// Takes room for a part of a body, if need be that of another.
async fn hold(slot: &Slot, bytes: usize) -> Result<(), Refusal> {
    if slot.hold(bytes) {
        return Ok(());
    }
    slot.make_room();
    for _ in 0..LOOKS {
        tokio::time::sleep(ROOM / LOOKS).await;
        if slot.hold(bytes) {
            return Ok(());
        }
    }
    Err(Refusal::Busy)
}

/// Whether the body is said to be what the format is.
fn is_readable(format: Format, headers: &HeaderMap) -> bool {
    let said = headers
        .get(header::CONTENT_TYPE)
        .and_then(|said| said.to_str().ok());
    let essence = said.unwrap_or_default().split(';').next();
    let essence = essence.unwrap_or_default().trim().to_ascii_lowercase();
    let is_json = essence == "application/json"
        || (essence.starts_with("application/") && essence.ends_with("+json"));
    is_json
        || format
            .description()
            .content_types
            .contains(&essence.as_str())
}

fn said(message: &str) -> Response {
    let body = json!({"alerts": [], "message": message});
    refusal::json(StatusCode::ACCEPTED, None, &body)
}

/// Accepted, unless one of them has to be sent again: then all of them are, and the others are known by then.
fn response(answers: &[Answer], left_out: u64, too_many: usize) -> Response {
    let is_missing = |answer: &Answer| answer.outcome == Outcome::Unavailable;
    let mut body = json!({"alerts": answers});
    let by_sender = (left_out > 0).then(|| {
        format!("the sender has left out {left_out} more alerts, and nobody has seen them")
    });
    let by_us = (too_many > 0).then(|| {
        format!("{too_many} alerts were left out, because the delivery is about too much at once")
    });
    let told: Vec<String> = by_sender.into_iter().chain(by_us).collect();
    if !told.is_empty() {
        body["message"] = json!(told.join("; "));
    }
    if answers.iter().any(is_missing) {
        let after = Duration::from_secs(RETRY_AFTER_SECONDS);
        refusal::json(StatusCode::SERVICE_UNAVAILABLE, Some(after), &body)
    } else {
        refusal::json(StatusCode::ACCEPTED, None, &body)
    }
}
