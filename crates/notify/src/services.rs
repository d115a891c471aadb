//! The services that speak HTTP, each as it wants to be asked and as it answers.

use hmac::{Hmac, KeyInit, Mac};
use jiff::Timestamp;
use rollback_core::notify::Message;
use rollback_core::notify::layout::{alertmanager, pagerduty, slack, teams, webhook};
use serde_json::{Value, json};
use sha2::Sha256;
use url::Url;

use crate::Client;
use crate::address::Secret;
use crate::answer::Answer;
use crate::http::{Post, Reply, classified, parse};

/// Errors of Slack that condemn the message. Every other one is about the token, the channel or Slack itself, so the message
/// waits until that is mended: `invalid_auth`, `token_revoked`, `not_in_channel`.
/// <https://docs.slack.dev/reference/methods/chat.postMessage#errors>
const CONDEMNING: [&str; 12] = [
    "invalid_blocks",
    "invalid_blocks_format",
    "msg_blocks_too_long",
    "msg_too_long",
    "no_text",
    "invalid_arguments",
    "invalid_json",
    "json_not_object",
    "invalid_metadata_format",
    "invalid_metadata_schema",
    "metadata_too_large",
    "markdown_text_conflict",
];
/// Errors of Slack that mean that the message of a request is gone, or cannot be written any more.
const GONE: [&str; 4] = [
    "message_not_found",
    "cant_update_message",
    "edit_window_closed",
    "thread_not_found",
];

/// What Slack's web API said.
enum Said {
    /// It did it.
    Done {
        /// Channel and timestamp of the message.
        message: Option<String>,
    },
    /// The message that is meant is gone.
    Gone,
    /// Something else.
    Not(Answer),
}

impl Client {
    /// Posts JSON, and goes by the status of the answer.
    async fn post(&self, url: Url, body: &Value) -> Answer {
        self.sent(Post::json(url, body)).await
    }

    async fn sent(&self, post: Post) -> Answer {
        let host = post.url.host_str().unwrap_or_default().to_owned();
        match self.exchange(post).await {
            Ok(reply) => classified(&host, &reply),
            Err(answer) => answer,
        }
    }

    pub(crate) async fn slack_webhook(&self, url: &Secret, message: &Message) -> Answer {
        let url = match parse(url.expose()) {
            Ok(url) => url,
            Err(answer) => return answer,
        };
        self.post(url, &slack::layout(message)).await
    }

    /// One message for each request, kept up to date, with the story in its thread.
    pub(crate) async fn slack_bot(
        &self,
        token: &Secret,
        channel: &str,
        message: &Message,
        known: Option<&str>,
    ) -> Answer {
        // Of another channel, when the policy has changed, it is no message of this one.
        let known = known.and_then(|it| it.split_once('/'));
        let known = known.filter(|(of, _)| *of == channel);
        let mut body = slack::layout(message);
        body["channel"] = json!(channel);
        body["metadata"] = json!({
            "event_type": "rollback_notification",
            "event_payload": {"key": message.identity()},
        });
        body["unfurl_links"] = json!(false);
        if let Some((_, ts)) = known {
            body["ts"] = json!(ts);
            match self.slack_call(token, "chat.update", &body).await {
                Said::Done { .. } => return self.slack_reply(token, channel, ts, message).await,
                Said::Gone => {}
                Said::Not(answer) => return answer,
            }
        }
        if let Some(body) = body.as_object_mut() {
            body.remove("ts");
        }
        match self.slack_call(token, "chat.postMessage", &body).await {
            Said::Done { message } => Answer::Delivered { message },
            Said::Gone => Answer::later("Slack answered that there is no such message or thread"),
            Said::Not(answer) => answer,
        }
    }

    async fn slack_reply(
        &self,
        token: &Secret,
        channel: &str,
        ts: &str,
        message: &Message,
    ) -> Answer {
        let mut body = slack::reply(message);
        body["channel"] = json!(channel);
        body["thread_ts"] = json!(ts);
        body["reply_broadcast"] = json!(slack::is_broadcast(message));
        body["unfurl_links"] = json!(false);
        match self.slack_call(token, "chat.postMessage", &body).await {
            Said::Done { .. } | Said::Gone => Answer::delivered(),
            Said::Not(answer) => answer,
        }
    }

    async fn slack_call(&self, token: &Secret, method: &str, body: &Value) -> Said {
        let mut url = self.slack.clone();
        if let Ok(mut path) = url.path_segments_mut() {
            path.pop_if_empty().push(method);
        }
        let host = url.host_str().unwrap_or_default().to_owned();
        let mut post = Post::json(url, body);
        post.content_type = "application/json; charset=utf-8";
        post.bearer = Some(token.clone());
        let reply = match self.exchange(post).await {
            Ok(reply) => reply,
            Err(answer) => return Said::Not(answer),
        };
        match classified(&host, &reply) {
            Answer::Delivered { .. } => understood(&host, &reply),
            other => Said::Not(other),
        }
    }

    pub(crate) async fn teams(&self, url: &Secret, message: &Message) -> Answer {
        match parse(url.expose()) {
            Ok(url) => self.post(url, &teams::layout(message)).await,
            Err(answer) => answer,
        }
    }

    pub(crate) async fn page(&self, routing_key: &Secret, message: &Message) -> Answer {
        for (queue, mut event) in pagerduty::layout(message) {
            event["routing_key"] = json!(routing_key.expose());
            let mut url = self.pagerduty.clone();
            url.set_path(queue.path());
            let host = url.host_str().unwrap_or_default().to_owned();
            let reply = match self.exchange(Post::json(url, &event)).await {
                Ok(reply) => reply,
                Err(answer) => return answer,
            };
            match classified(&host, &reply) {
                Answer::Delivered { .. } => {}
                // A key that is not valid is the same status as an event that is none.
                Answer::Refused { .. } if names_the_key(&reply) => {
                    return Answer::later(format!("{host} does not take the routing key"));
                }
                other => return other,
            }
        }
        Answer::delivered()
    }

    /// Each of them is told, and it has arrived when each has it: they tell each other of notifications and silences, never of
    /// alerts. <https://prometheus.io/docs/alerting/latest/alertmanager/#high-availability>
    pub(crate) async fn alertmanager(
        &self,
        urls: &[String],
        bearer: Option<&Secret>,
        message: &Message,
        now: Timestamp,
    ) -> Answer {
        let Some(body) = alertmanager::layout(message, now) else {
            return Answer::delivered();
        };
        let mut last = Answer::later("the policy names no Alertmanager");
        let mut missing = 0;
        for url in urls {
            let answer = match parse(url) {
                Ok(mut url) => {
                    if let Ok(mut path) = url.path_segments_mut() {
                        path.pop_if_empty().extend(["api", "v2", "alerts"]);
                    }
                    let mut post = Post::json(url, &body);
                    post.bearer = bearer.cloned();
                    self.sent(post).await
                }
                Err(answer) => answer,
            };
            match answer {
                Answer::Delivered { .. } => continue,
                Answer::Refused { .. } if missing > 0 && matches!(last, Answer::Later { .. }) => {}
                Answer::Later { .. } | Answer::Refused { .. } => last = answer,
            }
            missing += 1;
        }
        if missing == 0 && !urls.is_empty() {
            return Answer::delivered();
        }
        last
    }

    pub(crate) async fn webhook(
        &self,
        url: &Secret,
        key: &Secret,
        message: &Message,
        now: Timestamp,
    ) -> Answer {
        let url = match parse(url.expose()) {
            Ok(url) => url,
            Err(answer) => return answer,
        };
        let mut post = Post::json(url, &webhook::layout(message));
        post.content_type = webhook::CONTENT_TYPE;
        post.signature = signature(key, now, &post.body);
        if post.signature.is_none() {
            return Answer::later("the key to sign with cannot be used");
        }
        self.sent(post).await
    }
}

/// `t=SECONDS,v1=HEX`: HMAC-SHA256 of `SECONDS.BODY`.
fn signature(key: &Secret, now: Timestamp, body: &str) -> Option<String> {
    let seconds = now.as_second();
    let mut mac = Hmac::<Sha256>::new_from_slice(key.expose().as_bytes()).ok()?;
    mac.update(format!("{seconds}.{body}").as_bytes());
    Some(format!(
        "t={seconds},v1={}",
        hex::encode(mac.finalize().into_bytes())
    ))
}

/// Slack answers 200 whatever happened: only `ok` tells.
fn understood(host: &str, reply: &Reply) -> Said {
    let Ok(body) = serde_json::from_slice::<Value>(&reply.body) else {
        return Said::Not(Answer::later(format!("{host}: the answer is no JSON")));
    };
    if body["ok"] == true {
        let message = match (body["channel"].as_str(), body["ts"].as_str()) {
            (Some(channel), Some(ts)) => Some(format!("{channel}/{ts}")),
            (_, _) => None,
        };
        return Said::Done { message };
    }
    let error = body["error"].as_str().unwrap_or("unknown");
    let is_code = error.len() <= 60
        && error
            .bytes()
            .all(|it| it.is_ascii_lowercase() || it == b'_');
    let error = if is_code { error } else { "unknown" };
    if GONE.contains(&error) {
        return Said::Gone;
    }
    let why = format!("Slack answered {error}");
    Said::Not(if CONDEMNING.contains(&error) {
        Answer::Refused { why }
    } else {
        Answer::Later {
            after: reply.retry_after,
            why,
        }
    })
}

/// Whether `PagerDuty` complains of the routing key: `{"errors": ["Invalid routing key"]}`, or of its length.
/// <https://developer.pagerduty.com/docs/send-alert-event#response-codes--retry-logic>
fn names_the_key(reply: &Reply) -> bool {
    let body: Value = serde_json::from_slice(&reply.body).unwrap_or_default();
    let errors = body["errors"].as_array();
    let mut errors = errors.into_iter().flatten().filter_map(Value::as_str);
    errors.any(|it| it.to_lowercase().replace('_', " ").contains("routing key"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reply(body: &Value) -> Reply {
        Reply {
            status: 200,
            retry_after: None,
            body: body.to_string().into_bytes(),
        }
    }

    #[test]
    fn slack_refuses_a_message_for_good_and_a_credential_until_it_is_mended() {
        let answer = |error: &str| match understood(
            "slack.com",
            &reply(&json!({"ok": false, "error": error})),
        ) {
            Said::Not(answer) => answer,
            Said::Done { .. } | Said::Gone => panic!("{error}"),
        };
        for error in ["invalid_blocks", "msg_too_long"] {
            assert!(matches!(answer(error), Answer::Refused { .. }), "{error}");
        }
        for error in [
            "invalid_auth",
            "token_revoked",
            "not_in_channel",
            "channel_not_found",
            "is_archived",
            "ratelimited",
            "something_new",
        ] {
            assert!(matches!(answer(error), Answer::Later { .. }), "{error}");
        }
    }

    #[test]
    fn a_routing_key_that_is_not_valid_is_told_from_an_event_that_is_none() {
        let names = |error: &str| names_the_key(&reply(&json!({"errors": [error]})));
        assert!(names("Invalid routing key"));
        assert!(names(
            "Length of 'routing_key' is incorrect (should be 32 characters)"
        ));
        assert!(!names("'payload.summary' is missing or blank"));
    }
}
