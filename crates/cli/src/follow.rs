//! Watching one object until it is as somebody wants it. Nothing is polled.

use std::pin::pin;
use std::time::Duration;

use futures::{Stream, StreamExt};
use jiff::SignedDuration;
use kube::Api;
use kube::runtime::watcher::Error as WatchError;
use kube::runtime::{WatchStreamExt, watcher};
use rollback_api::RollbackRequest;
use rollback_core::message::shell;
use tokio::time::{Instant, sleep_until, timeout_at};

use crate::error::Error;
use crate::here::flags_to_here;
use crate::output::{clean, remark};

/// An error at once when there is no such request, or no server: a watch would try for ever.
pub async fn is_there(api: &Api<RollbackRequest>, name: &str) -> Result<(), Error> {
    match api.get_metadata_opt(name).await? {
        Some(_) => Ok(()),
        None => Err(gone(name)),
    }
}

/// The states of one request as they come; `None` when it is not there (any more).
pub fn states(
    api: Api<RollbackRequest>,
    name: &str,
) -> impl Stream<Item = Result<Option<RollbackRequest>, WatchError>> + use<> {
    watcher::watch_object(api, name).default_backoff()
}

/// Waits until `look` gives something, at most for `patience`.
pub async fn until<T>(
    api: Api<RollbackRequest>,
    name: &str,
    patience: SignedDuration,
    mut look: impl FnMut(&RollbackRequest) -> Option<T>,
) -> Result<T, Error> {
    is_there(&api, name).await?;
    let mut states = pin!(states(api, name));
    let deadline = deadline(Some(patience));
    loop {
        match next(&mut states, name, deadline).await? {
            Next::State(request) => {
                if let Some(found) = look(&request) {
                    return Ok(found);
                }
            }
            Next::Gone => return Err(gone(name)),
            Next::Lost(said) => remark(&said),
        }
    }
}

/// What comes of a watch.
pub enum Next {
    /// The request as it is now.
    State(Box<RollbackRequest>),
    /// It is not there (any more).
    Gone,
    /// The connection was lost, and is made again; this is what to say.
    Lost(String),
}

/// The next state. A connection that is lost is made again; who may not watch is told so.
pub async fn next(
    states: &mut (impl Stream<Item = Result<Option<RollbackRequest>, WatchError>> + Unpin),
    name: &str,
    deadline: Option<Instant>,
) -> Result<Next, Error> {
    loop {
        let state = match deadline {
            Some(deadline) => timeout_at(deadline, states.next()).await,
            None => Ok(states.next().await),
        };
        match state {
            Ok(Some(Ok(Some(state)))) => return Ok(Next::State(Box::new(state))),
            Ok(Some(Ok(None)) | None) => return Ok(Next::Gone),
            Ok(Some(Err(error))) => {
                if let Some(said) = lost(error)? {
                    return Ok(Next::Lost(said));
                }
            }
            Err(_) => {
                return Err(Error::Deadline(format!(
                    "The time was over before that came. It goes on without you: follow it with kubectl rollback status {} -w{}.",
                    shell::name(name, "REQUEST"),
                    flags_to_here()
                )));
            }
        }
    }
}

/// What is said when the connection is lost, or the server is busy; an error when trying again would not help.
fn lost(error: WatchError) -> Result<Option<String>, Error> {
    let code = match &error {
        WatchError::InitialListFailed(kube::Error::Api(status))
        | WatchError::WatchStartFailed(kube::Error::Api(status))
        | WatchError::WatchFailed(kube::Error::Api(status))
        | WatchError::WatchError(status) => status.code,
        WatchError::InitialListFailed(_)
        | WatchError::WatchStartFailed(_)
        | WatchError::WatchFailed(_)
        | WatchError::NoResourceVersion => 0,
    };
    match code {
        401 | 403 | 404 => Err(error.into()),
        // The history that a watch begins at is gone after a while; it begins anew by itself.
        410 => Ok(None),
        _ => {
            let why = clean(&Error::from(error).to_string());
            Ok(Some(format!(
                "The connection was lost, trying again: {why}"
            )))
        }
    }
}

/// There is no such request any more.
pub fn gone(name: &str) -> Error {
    Error::Refused(format!(
        "There is no request {} in this namespace (any more). kubectl rollback status{here} lists those that are open; the report of one that was deleted stays: kubectl rollback report {}{here}.",
        clean(name),
        shell::name(name, "REQUEST"),
        here = flags_to_here()
    ))
}

/// When so much time will be over; never without any.
pub fn deadline(patience: Option<SignedDuration>) -> Option<Instant> {
    let patience = Duration::try_from(patience?).unwrap_or(Duration::ZERO);
    Instant::now().checked_add(patience)
}

/// Waits for the next second of a clock that is shown.
pub async fn tick(since: Instant) {
    sleep_until(since + Duration::from_secs(1)).await;
}
