//! The definitions of our kinds as the API server serves them. Every identity may read them (`system:discovery`).

use kube::Client;
use rollback_api::{GROUP, VERSION, served};
use rollback_reads::budget::Budget;
use rollback_reads::get;
use serde_json::Value;

use super::{Error, reading};

/// What they may take in memory: twenty times what they take now.
const MOST: usize = 64 << 20;

/// What is missing from them that this program was built with, by path.
pub async fn missing(client: &Client) -> Result<Vec<String>, Error> {
    let what = "the definitions that the API server serves";
    let request = http::Request::get(format!("/openapi/v3/apis/{GROUP}/{VERSION}"))
        .body(Vec::new())
        .map_err(kube::Error::HttpError);
    let request = reading(what, request)?;
    let served = get::send(client, request, &Budget::of(MOST)).await;
    let served = reading(what, get::found(served))?;
    Ok(served::missing(&served.unwrap_or(Value::Null)))
}

/// Whether our kinds are served at all, of any age. Who may not even ask is told so by the reads that follow.
pub(super) async fn are_served(client: &Client) -> Result<bool, Error> {
    let what = "the kinds that the API server serves";
    let request = http::Request::get(format!("/apis/{GROUP}/{VERSION}"))
        .body(Vec::new())
        .map_err(kube::Error::HttpError);
    let request = reading(what, request)?;
    match get::send(client, request, &Budget::of(MOST)).await {
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(false),
        Ok(_) | Err(kube::Error::Api(_)) => Ok(true),
        Err(error) => reading(what, Err(error)),
    }
}
