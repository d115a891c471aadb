//! Servers as the services are, as far as somebody who sends to them can tell.
//!
//! - Slack: <https://docs.slack.dev/reference/methods/chat.postMessage> and `chat.update`: 200 with `ok`, or 200 with `ok: false`
//!   and `error`; 429 with `Retry-After`; `message_not_found`. Incoming webhooks answer the text `ok`.
//! - `PagerDuty`: <https://developer.pagerduty.com/docs/send-alert-event>: 202, 400 for what is no event, 429.
//! - Teams workflows: 202; 413 above 28 KB.
//! - Alertmanager `POST /api/v2/alerts`: 200 without a body.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::Result;
use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

/// What somebody was sent.
#[derive(Clone, Debug)]
pub struct Received {
    /// To which path.
    pub path: String,
    /// The headers.
    pub headers: HeaderMap,
    /// The body.
    pub body: String,
    /// The status that it was answered with.
    pub status: u16,
    /// Whether the service has taken it.
    pub taken: bool,
}

impl Received {
    /// The body as JSON.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_default()
    }
}

/// How something is answered instead.
#[derive(Clone, Debug)]
pub struct Fault {
    /// The status.
    pub status: u16,
    /// `Retry-After`, in seconds.
    pub retry_after: Option<u32>,
    /// The body.
    pub body: String,
}

impl Fault {
    /// This status, with an empty body.
    pub fn status(status: u16) -> Self {
        Self {
            status,
            retry_after: None,
            body: String::new(),
        }
    }

    /// Slack says no.
    pub fn slack(error: &str) -> Self {
        Self {
            status: 200,
            retry_after: None,
            body: json!({"ok": false, "error": error}).to_string(),
        }
    }
}

type Hook = Box<dyn Fn(&Received) + Send>;

#[derive(Default)]
struct Memory {
    received: Vec<Received>,
    faults: HashMap<String, VecDeque<Fault>>,
    /// Answered so until it is taken away.
    lasting: HashMap<String, Fault>,
    /// Every body with this text in it is answered so.
    poisoned: Vec<(String, Fault)>,
    messages: HashMap<String, u32>,
    number: u32,
    hook: Option<Hook>,
}

/// All of them, at one address.
#[derive(Clone)]
pub struct Services {
    address: String,
    memory: Arc<Mutex<Memory>>,
}

impl Services {
    /// Starts them.
    pub async fn start() -> Result<Self> {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
        let address = format!("http://{}", listener.local_addr()?);
        let services = Self {
            address,
            memory: Arc::default(),
        };
        let router = Router::new().fallback(answer).with_state(services.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        Ok(services)
    }

    fn locked(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where they are.
    pub fn url(&self, path: &str) -> String {
        format!("{}{path}", self.address)
    }

    /// What came to a path, in this order.
    pub fn at(&self, path: &str) -> Vec<Received> {
        let memory = self.locked();
        memory
            .received
            .iter()
            .filter(|it| it.path == path)
            .cloned()
            .collect()
    }

    /// What came to a path and was taken.
    pub fn taken(&self, path: &str) -> Vec<Received> {
        self.at(path).into_iter().filter(|it| it.taken).collect()
    }

    /// Everything that came.
    pub fn all(&self) -> Vec<Received> {
        self.locked().received.clone()
    }

    /// The next request to this path is answered so.
    pub fn fail(&self, path: &str, fault: Fault) {
        let mut memory = self.locked();
        memory
            .faults
            .entry(path.to_owned())
            .or_default()
            .push_back(fault);
    }

    /// Every request with this text in its body is answered so, for good.
    pub fn poison(&self, text: &str, fault: Fault) {
        self.locked().poisoned.push((text.to_owned(), fault));
    }

    /// Every request to this path is answered so, until [`Services::mend`].
    pub fn break_down(&self, path: &str, fault: Fault) {
        self.locked().lasting.insert(path.to_owned(), fault);
    }

    /// The path answers again.
    pub fn mend(&self, path: &str) {
        self.locked().lasting.remove(path);
    }

    /// What Slack has is gone: an update finds nothing.
    pub fn delete_slack_messages(&self) {
        self.locked().messages.clear();
    }

    /// Called with everything that is taken, before it is answered.
    pub fn on_taken(&self, hook: impl Fn(&Received) + Send + 'static) {
        self.locked().hook = Some(Box::new(hook));
    }
}

async fn answer(
    State(services): State<Services>,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let mut memory = services.locked();
    let path = uri.path().to_owned();
    let mut received = Received {
        body: String::from_utf8_lossy(&body).into_owned(),
        path: path.clone(),
        headers,
        status: 0,
        taken: false,
    };
    let fault = memory.faults.get_mut(&path).and_then(VecDeque::pop_front);
    let fault = fault.or_else(|| memory.lasting.get(&path).cloned());
    let mut poisoned = memory.poisoned.iter();
    let poisoned = poisoned.find(|(text, _)| received.body.contains(text.as_str()));
    let fault = fault.or_else(|| poisoned.map(|(_, fault)| fault.clone()));
    let (status, retry_after, text) = if let Some(fault) = fault {
        (fault.status, fault.retry_after, fault.body)
    } else {
        let (status, text, taken) = memory.as_usual(&received);
        received.taken = taken;
        (status, None, text)
    };
    received.status = status;
    if let (true, Some(hook)) = (received.taken, &memory.hook) {
        hook(&received);
    }
    memory.received.push(received);
    let mut response = (StatusCode::from_u16(status).unwrap_or_default(), text).into_response();
    if let Some(seconds) = retry_after {
        response.headers_mut().insert("retry-after", seconds.into());
    }
    response
}

impl Memory {
    fn as_usual(&mut self, received: &Received) -> (u16, String, bool) {
        let body = received.json();
        match received.path.as_str() {
            "/api/chat.postMessage" => self.slack_post(received, &body),
            "/api/chat.update" => {
                let ts = body["ts"].as_str().unwrap_or_default().to_owned();
                if !self.messages.contains_key(&ts) {
                    return (
                        200,
                        json!({"ok": false, "error": "message_not_found"}).to_string(),
                        false,
                    );
                }
                (
                    200,
                    json!({"ok": true, "channel": body["channel"], "ts": ts}).to_string(),
                    true,
                )
            }
            "/v2/enqueue" | "/v2/change/enqueue" => pagerduty(&received.path, &body),
            "/teams" if received.body.len() > 28 * 1024 => (413, String::new(), false),
            "/teams" => (
                202,
                String::new(),
                body["attachments"][0]["content"]["type"] == "AdaptiveCard",
            ),
            "/api/v2/alerts" => (200, String::new(), body.is_array()),
            "/hook" | "/services/T0/B0/secret-of-the-hook" => (200, "ok".to_owned(), true),
            _ => (404, String::new(), false),
        }
    }

    fn slack_post(&mut self, received: &Received, body: &Value) -> (u16, String, bool) {
        let no = |error: &str| (200, json!({"ok": false, "error": error}).to_string(), false);
        if received
            .headers
            .get("authorization")
            .is_none_or(|it| it != "Bearer xoxb-of-the-test")
        {
            return no("invalid_auth");
        }
        if body["channel"] != "C0123ABCD" {
            return no("channel_not_found");
        }
        let is_lost = body["thread_ts"]
            .as_str()
            .is_some_and(|it| !self.messages.contains_key(it));
        if is_lost {
            return no("thread_not_found");
        }
        self.number += 1;
        let ts = format!("1700000000.{:06}", self.number);
        self.messages.insert(ts.clone(), self.number);
        (
            200,
            json!({"ok": true, "channel": "C0123ABCD", "ts": ts}).to_string(),
            true,
        )
    }
}

fn pagerduty(path: &str, body: &Value) -> (u16, String, bool) {
    let is_change = path == "/v2/change/enqueue";
    let has_summary = body["payload"]["summary"]
        .as_str()
        .is_some_and(|it| !it.is_empty() && it.chars().count() <= 1024);
    let has_key = body["routing_key"] == "R0123456789";
    let is_event = match body["event_action"].as_str() {
        Some("trigger") => {
            has_summary
                && body["payload"]["source"].is_string()
                && body["payload"]["severity"].is_string()
        }
        Some("acknowledge" | "resolve") => body["dedup_key"].is_string(),
        _ => false,
    };
    if has_key && (if is_change { has_summary } else { is_event }) {
        let answer = json!({"status": "success", "message": "Event processed", "dedup_key": body["dedup_key"]});
        return (202, answer.to_string(), true);
    }
    (400, json!({"status": "invalid event"}).to_string(), false)
}
