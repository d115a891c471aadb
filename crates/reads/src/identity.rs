//! Who we are, as the API server knows us.

use k8s_openapi::api::authentication::v1::SelfSubjectReview;
use kube::api::PostParams;
use kube::{Api, Client};
use rollback_api::Identity;

/// Asks. A name that the API server does not say is empty.
///
/// # Errors
/// It could not be asked, or not by us.
pub async fn who_am_i(client: &Client) -> kube::Result<Identity> {
    let api: Api<SelfSubjectReview> = Api::all(client.clone());
    let (parameters, review) = (PostParams::default(), SelfSubjectReview::default());
    let review = api.create(&parameters, &review).await?;
    let user = review.status.and_then(|status| status.user_info);
    let user = user.unwrap_or_default();
    Ok(Identity {
        username: user.username.unwrap_or_default(),
        uid: user.uid,
        groups: user.groups.unwrap_or_default(),
    })
}
