//! Command line and configuration file of the receiver.

mod check;
mod source;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use serde::Deserialize;

pub use source::{Auth, Basic, Bearer, Categories, CategoryRule, Hmac, Mtls, Sns, Source, Where};

/// Takes alerts, and asks for rollbacks.
///
/// The API server is found through KUBECONFIG or the ServiceAccount of the pod. Log level and filter
/// come from `RUST_LOG`.
#[derive(clap::Parser, Clone, Debug)]
#[command(name = "rollback-receiver", version)]
pub struct Arguments {
    /// The sources of alerts (YAML, see docs/alerts.md). It holds no secrets: it names the files that do.
    #[arg(long, value_name = "FILE", env = "ROLLBACK_RECEIVER_CONFIG")]
    pub config: PathBuf,

    /// Where alerts are taken.
    #[arg(long, default_value = "0.0.0.0:8443", env = "ROLLBACK_ADDRESS")]
    pub address: SocketAddr,

    /// Where /metrics, /healthz and /readyz are served.
    #[arg(long, default_value = "0.0.0.0:8080", env = "ROLLBACK_METRICS_ADDRESS")]
    pub metrics_address: SocketAddr,

    /// Certificate chain of the server, PEM. Read again when it changes.
    #[arg(
        long,
        value_name = "FILE",
        requires = "tls_key",
        env = "ROLLBACK_TLS_CERT"
    )]
    pub tls_cert: Option<PathBuf>,

    /// Private key of the server, PEM. Read again when it changes.
    #[arg(
        long,
        value_name = "FILE",
        requires = "tls_cert",
        env = "ROLLBACK_TLS_KEY"
    )]
    pub tls_key: Option<PathBuf>,

    /// Take alerts without TLS: only behind something that ends TLS on the same machine or in the same pod. Whoever can
    /// listen to the network reads the secrets of the senders.
    #[arg(long, conflicts_with = "tls_cert", env = "ROLLBACK_INSECURE_HTTP")]
    pub insecure_http: bool,

    /// How many connections are open at the same time. When one more comes, the one that has waited longest for the end
    /// of its request has to go.
    #[arg(
        long,
        default_value_t = 256,
        value_parser = clap::value_parser!(u32).range(1..=65_536),
        env = "ROLLBACK_CONNECTIONS"
    )]
    pub connections: u32,

    /// How many deliveries are worked on at the same time. Those above it are told to come again.
    #[arg(
        long,
        default_value_t = 16,
        value_parser = clap::value_parser!(u32).range(1..=1024),
        env = "ROLLBACK_CONCURRENCY"
    )]
    pub concurrency: u32,
}

/// The configuration file.
#[derive(Deserialize, Clone, Debug)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct File {
    /// Where alerts come from.
    pub sources: Vec<Source>,
}

/// Why the configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file cannot be read.
    #[error("cannot read {}; give it with --config", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// It is not YAML, or has a field that is unknown, missing or of another type.
    #[error("{}: {reason}", path.display())]
    Yaml {
        /// The file.
        path: PathBuf,
        /// What is wrong, and where.
        reason: String,
    },
    /// A field has a value that cannot be.
    #[error("{field}: {reason}")]
    Field {
        /// The field, as a path.
        field: String,
        /// What is wrong, and what to write.
        reason: String,
    },
}

impl File {
    /// Reads and checks the file.
    pub fn read(path: &Path, has_tls: bool) -> Result<Self, Error> {
        let text = std::fs::read_to_string(path).map_err(|source| Error::Unreadable {
            path: path.to_path_buf(),
            source,
        })?;
        Self::parse(&text, has_tls).map_err(|error| match error {
            Error::Yaml { reason, .. } => Error::Yaml {
                path: path.to_path_buf(),
                reason,
            },
            Error::Unreadable { .. } | Error::Field { .. } => error,
        })
    }

    fn parse(text: &str, has_tls: bool) -> Result<Self, Error> {
        // Without the lines around it: somebody may have written a secret there.
        let options = serde_saphyr::options! { with_snippet: false };
        let mut field = String::new();
        let read = serde_saphyr::with_deserializer_from_str_with_options(text, options, |from| {
            serde_path_to_error::deserialize(from).map_err(|error| {
                field = error.path().to_string();
                error.into_inner()
            })
        });
        let file: Self = read.map_err(|error| Error::Yaml {
            path: PathBuf::new(),
            reason: match field.as_str() {
                "" | "." => error.to_string(),
                field => format!("{field}: {error}"),
            },
        })?;
        check::check(&file, has_tls)?;
        Ok(file)
    }
}

#[cfg(test)]
mod tests;
