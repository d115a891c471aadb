//! The certificate of the server, and whose certificates clients may have. Read again when one of the files changes: they
//! are renewed while this runs.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::{RootCertStore, ServerConfig};
use tokio::sync::watch;

use crate::authenticate::authorities;
use crate::config::{Auth, Source};
use crate::metrics::Metrics;

/// How often the files are looked at.
const EVERY: Duration = Duration::from_secs(10);

/// Where the certificates and the key are.
#[derive(Clone, Debug)]
pub struct Files {
    /// Certificate chain of the server.
    pub certificate: PathBuf,
    /// Its key.
    pub key: PathBuf,
    /// Authorities of client certificates.
    pub authorities: Vec<PathBuf>,
}

/// Why the files cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// One of them cannot be read.
    #[error("cannot read {}: {reason}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// They do not fit together.
    #[error("the certificate and the key of the server cannot be used: {0}")]
    Unusable(String),
}

/// What the files held.
type Content = Vec<Vec<u8>>;

impl Files {
    /// The files of the server and of the sources.
    pub fn new(certificate: &Path, key: &Path, sources: &[Source]) -> Self {
        let authority = |source: &Source| match &source.auth {
            Auth::Mtls(mtls) => Some(mtls.ca_file.clone()),
            Auth::Bearer(_) | Auth::Basic(_) | Auth::Hmac(_) | Auth::Sns(_) => None,
        };
        Self {
            certificate: certificate.to_path_buf(),
            key: key.to_path_buf(),
            authorities: sources.iter().filter_map(authority).collect(),
        }
    }

    /// Reads them for the first time, and follows them from then on.
    pub fn watch(
        self,
        metrics: Arc<Metrics>,
    ) -> Result<(watch::Receiver<Arc<ServerConfig>>, impl Future<Output = ()>), Error> {
        let mut last = self.content()?;
        let (sender, receiver) = watch::channel(Arc::new(self.config(&last)?));
        let follow = async move {
            loop {
                tokio::time::sleep(EVERY).await;
                let new = self.content();
                if new.as_ref().is_ok_and(|new| *new == last) {
                    continue;
                }
                let config = new.and_then(|new| Ok((self.config(&new)?, new)));
                match config {
                    Ok((config, new)) => {
                        last = new;
                        sender.send_replace(Arc::new(config));
                        tracing::info!("the certificates have changed and count from now on");
                    }
                    // A file that is being written is whole the next time.
                    Err(error) => {
                        metrics.kept_certificate();
                        tracing::warn!(%error, "the certificates have changed and cannot be used; the old ones stay");
                    }
                }
            }
        };
        Ok((receiver, follow))
    }

    fn all(&self) -> impl Iterator<Item = &PathBuf> {
        [&self.certificate, &self.key]
            .into_iter()
            .chain(&self.authorities)
    }

    fn content(&self) -> Result<Content, Error> {
        let read = |path: &PathBuf| std::fs::read(path).map_err(|error| unreadable(path, &error));
        self.all().map(read).collect()
    }

    fn config(&self, content: &Content) -> Result<ServerConfig, Error> {
        let [certificate, key, others @ ..] = content.as_slice() else {
            return Err(Error::Unusable("there are none".to_owned()));
        };
        let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(certificate).collect();
        let chain = chain.map_err(|error| unreadable(&self.certificate, &error))?;
        let key =
            PrivateKeyDer::from_pem_slice(key).map_err(|error| unreadable(&self.key, &error))?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ServerConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .map_err(unusable)?;
        let builder = if others.is_empty() {
            builder.with_no_client_auth()
        } else {
            // Which authority and which subject a source takes is looked at when its delivery comes.
            let roots = Arc::new(self.roots(others)?);
            let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider)
                .allow_unauthenticated()
                .build()
                .map_err(unusable)?;
            builder.with_client_cert_verifier(verifier)
        };
        let mut config = builder.with_single_cert(chain, key).map_err(unusable)?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        // A session that is taken up again would bring along a client certificate that was good once.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        Ok(config)
    }

    fn roots(&self, others: &[Vec<u8>]) -> Result<RootCertStore, Error> {
        let mut all = RootCertStore::empty();
        for (path, pem) in self.authorities.iter().zip(others) {
            let roots = authorities(pem).map_err(|reason| Error::Unreadable {
                path: path.clone(),
                reason,
            })?;
            all.extend(roots.roots);
        }
        Ok(all)
    }
}

/// Errors of parsers name no content.
fn unreadable(path: &Path, error: &dyn std::error::Error) -> Error {
    Error::Unreadable {
        path: path.to_path_buf(),
        reason: error.to_string(),
    }
}

fn unusable(error: impl std::error::Error) -> Error {
    Error::Unusable(error.to_string())
}
