//! One object as the API server serves it: typed structs would drop the fields that are newer than they are.

use http::Request as HttpRequest;
use k8s_openapi::api::apps::v1;
use kube::api::GetParams;
use kube::core::Request;
use kube::{Client, Resource};
use rollback_core::observed::Deployment;
use serde_json::Value;

use crate::answer;
use crate::budget::Budget;
use crate::value::{Managers, read};

/// The Deployment, or `None`.
pub async fn deployment(
    client: &Client,
    namespace: &str,
    name: &str,
    budget: &Budget,
) -> kube::Result<Option<Deployment>> {
    let url = v1::Deployment::url_path(&(), Some(namespace));
    Ok(found(whole(client, &url, name, budget).await)?.map(Deployment))
}

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
