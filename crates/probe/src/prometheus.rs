//! One instant query to Prometheus, of which only exactly one finite number is an answer.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::Value;
use url::Url;
use url::form_urlencoded::Serializer;

use crate::allow::{self, Oddity};
use crate::wire::{Client, Failure, Question, Reach, Refusal, host};

/// How much of an answer is read, in bytes. One number needs a few hundred.
const MAX_ANSWER: usize = 1024 * 1024;
/// How old a sample may be, in seconds: for as long, Prometheus itself takes the last sample for the current one.
const MAX_AGE: f64 = 300.0;
/// Longest `errorType` that is repeated.
const MAX_ERROR_TYPE: usize = 32;

/// Why a query gives no number. None of these is a good or a bad value.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum Unknown {
    /// The URL or its address may not be asked.
    #[error(transparent)]
    NotAllowed(Refusal),
    /// Prometheus is not there.
    #[error("Prometheus cannot be reached: {0}")]
    Unreachable(Failure),
    /// It does not answer in time.
    #[error("Prometheus does not answer in time")]
    TimedOut,
    /// It answers with an error: the HTTP status, and the kind of error that it names.
    #[error("Prometheus answers {0}{kind}", kind = kind(.1.as_ref()))]
    Status(u16, Option<String>),
    /// The answer has warnings: something that it should count was not counted.
    #[error("Prometheus warns that its answer is not whole")]
    Partial,
    /// There is no such series, or none with samples.
    #[error("the query finds nothing")]
    Empty,
    /// There is more than one series.
    #[error("the query finds {0} series instead of one; aggregate them, for example with sum()")]
    Several(usize),
    /// The value is NaN, +Inf or -Inf, for example after a division by zero.
    #[error("the query gives {0}, which is not a number to compare")]
    NotANumber(&'static str),
    /// The result is a matrix or a string.
    #[error("the query gives neither one series nor one number")]
    NotAScalarOrVector,
    /// The value is a native histogram.
    #[error("the query gives a histogram instead of a number")]
    Histogram,
    /// The answer cannot be read.
    #[error("the answer is not one of Prometheus, or is longer than 1 MiB")]
    Garbled,
    /// The sample is older than five minutes.
    #[error("the newest sample is more than 5 minutes old")]
    TooOld,
}

fn kind(error_type: Option<&String>) -> String {
    error_type.map_or_else(String::new, |kind| format!(" ({kind})"))
}

impl From<Failure> for Unknown {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::NotAllowed(refusal) => Self::NotAllowed(refusal),
            Failure::TimedOut { .. } => Self::TimedOut,
            Failure::NotHttp { .. } | Failure::TooLarge { .. } => Self::Garbled,
            failure @ (Failure::Unresolvable { .. }
            | Failure::Unreachable { .. }
            | Failure::Untrusted { .. }) => Self::Unreachable(failure),
        }
    }
}

impl Client {
    /// Why a Prometheus with this URL is not asked, as far as that is known without asking.
    pub fn unlisted(&self, base: &str) -> Option<Refusal> {
        self.listed(base).err()
    }

    fn listed(&self, base: &str) -> Result<Url, Refusal> {
        let url = allow::prefix(base).map_err(Refusal::Url)?;
        if self.prometheus.holds(&url) {
            Ok(url)
        } else {
            Err(Refusal::PrometheusNotListed { host: host(&url) })
        }
    }

    /// Asks for the value of `query` now. `base` is an http or https URL, with a path if Prometheus is served below one.
    /// The list of this client must name it, and every address of its host must be in the networks for pods.
    pub async fn query(&self, base: &str, query: &str, limit: Duration) -> Result<f64, Unknown> {
        let odd = |oddity| Unknown::NotAllowed(Refusal::Url(oddity));
        let mut url = self.listed(base).map_err(Unknown::NotAllowed)?;
        let path = format!("{}/api/v1/query", url.path().trim_end_matches('/'));
        url.set_path(&path);
        if url.path() != path {
            return Err(odd(Oddity::Path));
        }
        let form = Serializer::new(String::new())
            .append_pair("query", query)
            .append_pair("timeout", &format!("{}ms", limit.as_millis().max(1)))
            .finish();
        let question = Question {
            form: Some(form),
            ..Question::get(&url, Reach::Cluster, Some(MAX_ANSWER))
        };
        let reply = self.ask(question, limit).await?;
        if reply.cut {
            return Err(Unknown::Garbled);
        }
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default()
            .as_secs_f64();
        value(reply.status, &reply.body, now)
    }
}

/// The one finite number in an answer; `now` in seconds since 1970.
fn value(status: u16, body: &[u8], now: f64) -> Result<f64, Unknown> {
    let answer: Option<Value> = serde_json::from_slice(body).ok();
    let field = |name: &str| answer.as_ref().and_then(|answer| answer.get(name));
    let fine = field("status").and_then(Value::as_str) == Some("success");
    if !(200..300).contains(&status) || (field("status").is_some() && !fine) {
        return Err(Unknown::Status(status, error_type(field("errorType"))));
    }
    if !fine {
        return Err(Unknown::Garbled);
    }
    match field("warnings") {
        None | Some(Value::Null) => {}
        Some(Value::Array(warnings)) if warnings.iter().all(is_info) => {}
        Some(_) => return Err(Unknown::Partial),
    }
    let data = field("data").ok_or(Unknown::Garbled)?;
    let result = data.get("result").ok_or(Unknown::Garbled)?;
    match data.get("resultType").and_then(Value::as_str) {
        Some("scalar") => number(result, now),
        Some("vector") => number(only(result)?, now),
        Some("matrix" | "string") => Err(Unknown::NotAScalarOrVector),
        Some(_) | None => Err(Unknown::Garbled),
    }
}

/// Whether what is called a warning is information about the query: Thanos, and Prometheus before 2.54, put both into one
/// list. It spoils no number.
fn is_info(warning: &Value) -> bool {
    let text = warning.as_str();
    text.is_some_and(|text| text.trim_start().starts_with("PromQL info:"))
}

/// The sample of the only series.
fn only(result: &Value) -> Result<&Value, Unknown> {
    match result.as_array().ok_or(Unknown::Garbled)?.as_slice() {
        [] => Err(Unknown::Empty),
        [series] if series.get("histogram").is_some() => Err(Unknown::Histogram),
        [series] => series.get("value").ok_or(Unknown::Garbled),
        several => Err(Unknown::Several(several.len())),
    }
}

/// A sample is a time in seconds and a number in quotes.
fn number(sample: &Value, now: f64) -> Result<f64, Unknown> {
    let Some([at, text]) = sample.as_array().map(Vec::as_slice) else {
        return Err(Unknown::Garbled);
    };
    let at = at.as_f64().ok_or(Unknown::Garbled)?;
    let text = text.as_str().ok_or(Unknown::Garbled)?;
    let number: f64 = text.parse().map_err(|_| Unknown::Garbled)?;
    if number.is_nan() {
        Err(Unknown::NotANumber("NaN"))
    } else if number.is_infinite() {
        let text = if number > 0.0 { "+Inf" } else { "-Inf" };
        Err(Unknown::NotANumber(text))
    } else if at < now - MAX_AGE {
        Err(Unknown::TooOld)
    } else {
        Ok(number)
    }
}

/// The kind of error, if it looks like one. Its message is not repeated: it may quote anything.
fn error_type(field: Option<&Value>) -> Option<String> {
    let kind = field?.as_str()?;
    let plain = (1..=MAX_ERROR_TYPE).contains(&kind.len())
        && kind
            .bytes()
            .all(|byte| byte.is_ascii_lowercase() || byte == b'_');
    plain.then(|| kind.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: f64 = 1_764_340_000.0;

    fn read(result_type: &str, result: &str) -> Result<f64, Unknown> {
        let body = format!(
            r#"{{"status":"success","data":{{"resultType":"{result_type}","result":{result}}}}}"#
        );
        value(200, body.as_bytes(), NOW)
    }

    fn vector(value: &str) -> Result<f64, Unknown> {
        read(
            "vector",
            &format!(r#"[{{"metric":{{}},"value":[{NOW},{value}]}}]"#),
        )
    }

    #[test]
    fn one_finite_number_is_a_number() {
        assert_eq!(vector(r#""0.25""#), Ok(0.25));
        assert_eq!(vector(r#""-1e3""#), Ok(-1000.0));
        assert_eq!(read("scalar", r#"[1764340000.781,"2"]"#), Ok(2.0));
        let infos = br#"{"status":"success","infos":["i"],"warnings":[],"data":{"resultType":"scalar","result":[1764340000,"2"]}}"#;
        assert_eq!(value(200, infos, NOW), Ok(2.0));
    }

    /// Thanos today, Prometheus before 2.54: information about the query among the warnings.
    #[test]
    fn d1_information_among_the_warnings_spoils_no_number() {
        let with = |warnings: &str| {
            let body = format!(
                r#"{{"status":"success","warnings":{warnings},"data":{{"resultType":"scalar","result":[1764340000,"0.002"]}}}}"#
            );
            value(200, body.as_bytes(), NOW)
        };
        let info = r#""PromQL info: metric might not be a counter, name does not end in _total/_sum/_count/_bucket: \"x\" (1:6)""#;
        assert_eq!(with(&format!("[{info}]")), Ok(0.002));
        assert_eq!(with(&format!("[{info},{info}]")), Ok(0.002));
        for spoils in [
            r#"["PromQL warning: quantile value should be between 0 and 1, got NaN"]"#,
            r#"["No StoreAPIs matched for this query"]"#,
            r#"["a PromQL info: in the middle"]"#,
            r"[7]",
            r#""PromQL info: no list""#,
        ] {
            assert_eq!(with(spoils), Err(Unknown::Partial), "{spoils}");
        }
        let both = format!(r#"[{info},"PromQL warning: x"]"#);
        assert_eq!(with(&both), Err(Unknown::Partial));
    }

    #[test]
    fn everything_else_is_unknown() {
        for (text, shown) in [
            ("NaN", "NaN"),
            ("nan", "NaN"),
            ("+Inf", "+Inf"),
            ("Infinity", "+Inf"),
            ("1e999", "+Inf"),
            ("-Inf", "-Inf"),
        ] {
            assert_eq!(
                vector(&format!("\"{text}\"")),
                Err(Unknown::NotANumber(shown)),
                "{text}"
            );
        }
        for garbled in ["\"\"", "\"1 \"", "\"0x1\"", "1", "null", "\"1\",\"2\""] {
            assert_eq!(vector(garbled), Err(Unknown::Garbled), "{garbled}");
        }
        assert_eq!(read("vector", "[]"), Err(Unknown::Empty));
        assert_eq!(read("vector", "[{},{}]"), Err(Unknown::Several(2)));
        assert_eq!(read("vector", "[{}]"), Err(Unknown::Garbled));
        assert_eq!(
            read("vector", r#"[{"histogram":[1764340000,{}]}]"#),
            Err(Unknown::Histogram)
        );
        assert_eq!(read("matrix", "[]"), Err(Unknown::NotAScalarOrVector));
        assert_eq!(
            read("string", r#"[1,"1"]"#),
            Err(Unknown::NotAScalarOrVector)
        );
        assert_eq!(read("other", "[]"), Err(Unknown::Garbled));
        assert_eq!(
            read("scalar", r#"["1764340000","1"]"#),
            Err(Unknown::Garbled)
        );
        assert_eq!(read("scalar", r#"[1764339701,"1"]"#), Ok(1.0));
        assert_eq!(read("scalar", r#"[1764339699,"1"]"#), Err(Unknown::TooOld));
    }

    #[test]
    fn warnings_and_errors_are_unknown_even_with_a_value() {
        for (status, body, unknown) in [
            (
                200,
                r#"{"status":"success","warnings":["w"],"data":{"resultType":"scalar","result":[1764340000,"2"]}}"#,
                Unknown::Partial,
            ),
            (
                200,
                r#"{"status":"success","warnings":"w","data":{"resultType":"vector","result":[]}}"#,
                Unknown::Partial,
            ),
            (
                200,
                r#"{"status":"error","errorType":"execution","error":"secret"}"#,
                Unknown::Status(200, Some("execution".to_owned())),
            ),
            (
                503,
                r#"{"status":"error","errorType":"timeout","error":"secret"}"#,
                Unknown::Status(503, Some("timeout".to_owned())),
            ),
            (
                400,
                r#"{"status":"error","errorType":"Secret token"}"#,
                Unknown::Status(400, None),
            ),
            (502, "<html>secret", Unknown::Status(502, None)),
            (302, "", Unknown::Status(302, None)),
            (
                500,
                r#"{"status":"success","data":{"resultType":"scalar","result":[1764340000,"2"]}}"#,
                Unknown::Status(500, None),
            ),
            (200, "", Unknown::Garbled),
            (200, "[]", Unknown::Garbled),
            (200, r#"{"status":"success"}"#, Unknown::Garbled),
            (
                200,
                r#"{"status":"success","data":{"resultType":"scalar","result":[1764340000,"2"]}"#,
                Unknown::Garbled,
            ),
        ] {
            assert_eq!(
                value(status, body.as_bytes(), NOW),
                Err(unknown),
                "{status} {body}"
            );
        }
    }
}
