//! One object.

use http::Request as HttpRequest;
use kube::Client;
use kube::api::GetParams;
use kube::core::Request;
use serde_json::Value;

use crate::answer;
use crate::budget::Budget;
use crate::value::{Managers, read};

/// The object as it is served.
pub async fn whole(client: &Client, url: &str, name: &str, budget: &Budget) -> kube::Result<Value> {
    let request = Request::new(url)
        .get(name, &GetParams::default())
        .map_err(kube::Error::BuildRequest)?;
    send(client, request, budget).await
}

/// Its metadata.
pub async fn metadata(
    client: &Client,
    url: &str,
    name: &str,
    budget: &Budget,
) -> kube::Result<Value> {
    let request = Request::new(url)
        .get_metadata(name, &GetParams::default())
        .map_err(kube::Error::BuildRequest)?;
    send(client, request, budget).await
}

/// What the API server answers.
pub async fn send(
    client: &Client,
    request: HttpRequest<Vec<u8>>,
    budget: &Budget,
) -> kube::Result<Value> {
    let answer = answer::read(client, request, answer::LARGEST).await?;
    read(answer.bytes(), budget, Managers::Kept)
}

/// `None` when it is not there.
pub fn found<T>(result: kube::Result<T>) -> kube::Result<Option<T>> {
    match result {
        Ok(found) => Ok(Some(found)),
        Err(kube::Error::Api(status)) if status.is_not_found() => Ok(None),
        Err(error) => Err(error),
    }
}
