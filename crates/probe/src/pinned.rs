//! What everything that is asked or told over the network has in common: names are resolved once, by us, so that the addresses
//! can be judged, and only those are connected to; no proxy and no redirect leads elsewhere, and no error holds a URL.

use std::error::Error;
use std::future::ready;
use std::net::SocketAddr;
use std::sync::Arc;

use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::{Response, redirect, retry};
use rustls::client::Resumption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use url::{Host, Url};

use crate::wire::Failure;

/// How many headers an answer may have. Their bytes are bounded by the reader (about 400 KiB).
const MAX_HEADERS: usize = 100;
/// Who asks.
const USER_AGENT: &str = "rollback-controller";

/// What this system trusts. It reads the certificates from the disk, so make it once.
///
/// # Errors
/// TLS cannot be used.
pub fn trust() -> Result<ClientConfig, rustls::Error> {
    let mut roots = RootCertStore::empty();
    // An image may have no certificates, or a broken one among them: then less is trusted.
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut tls = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    tls.resumption = Resumption::disabled();
    Ok(tls)
}

/// TLS with whoever answers at an address, as a kubelet speaks it with the pods that it probes: their certificates are their
/// own, and what is asked is whether they answer.
///
/// # Errors
/// TLS cannot be used.
pub fn any_certificate() -> Result<ClientConfig, rustls::Error> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut tls = ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anyone(provider)))
        .with_no_client_auth();
    tls.resumption = Resumption::disabled();
    Ok(tls)
}

/// Takes any certificate that its holder can sign with.
#[derive(Debug)]
struct Anyone(Arc<CryptoProvider>);

impl ServerCertVerifier for Anyone {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let known = &self.0.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signature, known)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let known = &self.0.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, known)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

/// A client that knows these addresses and no others, whatever a URL says.
///
/// # Errors
/// It cannot be made.
pub fn client(tls: &ClientConfig, addresses: Vec<SocketAddr>) -> reqwest::Result<reqwest::Client> {
    reqwest::Client::builder()
        .tls_backend_preconfigured(tls.clone())
        .dns_resolver(Pinned(addresses))
        .redirect(redirect::Policy::none())
        .retry(retry::never())
        .no_proxy()
        .referer(false)
        .http1_only()
        .http1_max_headers(MAX_HEADERS)
        .pool_max_idle_per_host(0)
        .user_agent(USER_AGENT)
        .build()
}

struct Pinned(Vec<SocketAddr>);

impl Resolve for Pinned {
    fn resolve(&self, _: Name) -> Resolving {
        let addresses: Addrs = Box::new(self.0.clone().into_iter());
        Box::pin(ready(Ok(addresses)))
    }
}

/// The addresses that a URL leads to. `host` is what messages name.
///
/// # Errors
/// It has none.
pub async fn resolve(url: &Url, host: &str) -> Result<Vec<SocketAddr>, Failure> {
    let port = url.port_or_known_default().unwrap_or_default();
    match url.host() {
        Some(Host::Ipv4(address)) => Ok(vec![SocketAddr::new(address.into(), port)]),
        Some(Host::Ipv6(address)) => Ok(vec![SocketAddr::new(address.into(), port)]),
        Some(Host::Domain(name)) => lookup(name, port).await,
        None => Err(unresolvable(host)),
    }
}

/// The addresses of a name.
///
/// # Errors
/// It has none, or the resolver does not answer.
pub async fn lookup(name: &str, port: u16) -> Result<Vec<SocketAddr>, Failure> {
    let found = tokio::net::lookup_host((name, port)).await;
    let addresses: Vec<SocketAddr> = found.into_iter().flatten().collect();
    if addresses.is_empty() {
        return Err(unresolvable(name));
    }
    Ok(addresses)
}

fn unresolvable(host: &str) -> Failure {
    Failure::Unresolvable {
        host: host.to_owned(),
    }
}

/// At most `most` bytes of the body, and whether there are more.
///
/// # Errors
/// It broke off.
pub async fn read(response: &mut Response, most: usize) -> reqwest::Result<(Vec<u8>, bool)> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await? {
        let free = most.saturating_sub(body.len());
        if chunk.len() > free {
            body.extend(chunk.iter().take(free));
            return Ok((body, true));
        }
        body.extend_from_slice(&chunk);
    }
    Ok((body, false))
}

/// What an error of the client means. Its own text holds the whole URL.
pub fn explain(host: &str, error: &reqwest::Error) -> Failure {
    let host = host.to_owned();
    if is_tls(error) {
        Failure::Untrusted { host }
    } else if error.is_timeout() {
        Failure::TimedOut { host }
    } else if error.is_connect() || error.is_builder() {
        Failure::Unreachable { host }
    } else {
        Failure::NotHttp { host }
    }
}

/// Looks into I/O errors too: their source is that of the error they carry, not that error.
fn is_tls(error: &(dyn Error + 'static)) -> bool {
    let carried = error
        .downcast_ref::<std::io::Error>()
        .and_then(std::io::Error::get_ref);
    error.is::<rustls::Error>()
        || carried.is_some_and(|inner| is_tls(inner))
        || error.source().is_some_and(is_tls)
}
