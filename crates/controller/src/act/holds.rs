//! Placing a hold, and ending it: one JSON Patch each, whose preconditions say what is written over.

use kube::Client;
use kube::ResourceExt;
use kube::api::Patch;
use kube::core::Request;
use rollback_api::RollbackRequest;
use rollback_api::hold::{HeldObject, HoldMeans};
use rollback_core::execution::step::PlaceHold;
use rollback_core::hold::{self, HoldState};
use rollback_core::observed::{Fetched, Rejection, is_refusal};
use serde_json::Value;

use super::{Error, patching};
use crate::context::Context;

/// Places a hold that the ledger has. A refusal is remembered, so that the next pass can tell one that is final from a
/// race that was lost. So is an answer in which the hold is not to be seen: a schema that does not know the field drops it.
pub(super) async fn place(
    context: &Context,
    request: &RollbackRequest,
    place: &PlaceHold,
) -> Result<(), Error> {
    let uid = request.uid().unwrap_or_default();
    let object = &place.hold.object;
    let refuse = |code: u16, message: String| {
        let rejection = Rejection {
            patch: place.patch.clone(),
            code,
            message,
        };
        context.note(&uid, |memory| {
            memory.refused_holds.insert(object.uid.clone(), rejection);
        });
    };
    match write(&context.client, place.hold.means, object, &place.patch).await {
        Ok(stored) => {
            let stored = Fetched::Found(stored);
            let state = hold::state(place.hold.means, &object.uid, &stored, &place.mark);
            if state == HoldState::Ours {
                context.note(&uid, |memory| {
                    let placed = memory.placed_holds.entry(object.uid.clone()).or_default();
                    *placed = placed.saturating_add(1);
                });
            } else {
                let what = "the API server takes the write, and the hold is not in what it stores";
                refuse(200, what.to_owned());
            }
            Ok(())
        }
        Err(kube::Error::Api(status)) if is_refusal(status.code) => {
            refuse(status.code, status.message.clone());
            Ok(())
        }
        // Looking again tells: it is gone, or somebody was faster.
        Err(kube::Error::Api(status)) if status.is_not_found() || status.is_conflict() => Ok(()),
        Err(source) => Err(Error::Hold {
            owner: place.hold.owner.clone(),
            source,
        }),
    }
}

/// Writes the object of a hold; what is stored then.
pub async fn write(
    client: &Client,
    means: HoldMeans,
    object: &HeldObject,
    patch: &Value,
) -> kube::Result<Value> {
    let Some(lookup) = hold::lookup(means, object) else {
        // Nothing asks for that: a plan with such means ends before.
        return Ok(Value::Null);
    };
    let url = format!(
        "/apis/{}/{}/namespaces/{}/{}",
        lookup.group, lookup.version, object.namespace, lookup.plural
    );
    let patch: json_patch::Patch =
        serde_json::from_value(patch.clone()).map_err(kube::Error::SerdeError)?;
    let http = Request::new(url)
        .patch::<()>(&lookup.name, &patching(), &Patch::Json(patch))
        .map_err(kube::Error::BuildRequest)?;
    client.request::<Value>(http).await
}
