//! Addresses to listen at.

use std::io;
use std::net::SocketAddr;

use tokio::net::TcpListener;

/// An address cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("listening at {address}")]
pub struct Unusable {
    /// The address.
    pub address: SocketAddr,
    /// Why.
    pub source: io::Error,
}

/// Listens there.
pub async fn bind(address: SocketAddr) -> Result<TcpListener, Unusable> {
    TcpListener::bind(address)
        .await
        .map_err(|source| Unusable { address, source })
}
