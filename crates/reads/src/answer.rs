//! One answer of the API server, read in parts.

use futures::AsyncBufReadExt as _;
use http::Request;
use kube::Client;
use tokio::sync::{Semaphore, SemaphorePermit};

/// Most bytes of one answer that are read.
pub const LARGEST: usize = 4 << 20;
/// From how many bytes on an answer waits until there is room for a large one.
const SMALL: usize = 256 << 10;
/// How many large answers are in memory at the same time, of the whole program.
const LARGE_AT_ONCE: usize = 2;

static LARGE: Semaphore = Semaphore::const_new(LARGE_AT_ONCE);

/// What is there is larger than it may be.
#[derive(Debug, thiserror::Error)]
pub enum TooLarge {
    /// The answer has too many bytes.
    #[error("the answer of the API server is larger than {0} bytes, so it was not read to its end")]
    Bytes(usize),
    /// It would take too much memory.
    #[error("what the API server answers would take more memory than there is for it")]
    Memory,
}

impl From<TooLarge> for kube::Error {
    fn from(error: TooLarge) -> Self {
        Self::Service(Box::new(error))
    }
}

/// The bytes of an answer. A large one keeps others waiting until it is dropped.
#[derive(Debug)]
pub struct Answer {
    bytes: Vec<u8>,
    _turn: Option<SemaphorePermit<'static>>,
}

impl Answer {
    /// The bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}

/// Reads at most so many bytes.
pub async fn read(client: &Client, request: Request<Vec<u8>>, most: usize) -> kube::Result<Answer> {
    let most = most.min(LARGEST);
    let mut body = std::pin::pin!(client.request_stream(request).await?);
    let mut bytes = Vec::new();
    let mut turn = None;
    loop {
        let part = body.fill_buf().await.map_err(kube::Error::ReadEvents)?;
        let length = part.len();
        if length == 0 {
            return Ok(Answer { bytes, _turn: turn });
        }
        if bytes.len() + length > most {
            return Err(TooLarge::Bytes(most).into());
        }
        bytes.extend_from_slice(part);
        body.consume_unpin(length);
        if turn.is_none() && bytes.len() > SMALL {
            // Nobody waits for a second one with a first one in the hand, so this ends. It is never closed.
            turn = LARGE.acquire().await.ok();
        }
    }
}
