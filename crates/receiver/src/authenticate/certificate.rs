//! Client certificates.

use std::sync::Arc;

use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::WebPkiClientVerifier;
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

use super::{Refused, Sender, file};
use crate::config::Mtls;

/// The certificates that the other side of a connection has shown, its own first. It has proven that it holds the key.
#[derive(Clone, Debug)]
pub struct Peer(pub Arc<[CertificateDer<'static>]>);

/// Whether the other side has a certificate of this authority, for one of these subjects.
pub async fn check(mtls: &Mtls, peer: Option<&Peer>) -> Result<Sender, Refused> {
    let missing = Refused::Missing("there is no client certificate");
    let Some((own, others)) = peer.and_then(|peer| peer.0.split_first()) else {
        return Err(missing);
    };
    let pem = file(&mtls.ca_file).await?;
    let roots = authorities(&pem)
        .map_err(|reason| Refused::Unknowable(format!("{}: {reason}", mtls.ca_file.display())))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
        .build()
        .map_err(|error| Refused::Unknowable(error.to_string()))?;
    verifier
        .verify_client_cert(own, others, UnixTime::now())
        .map_err(|error| Refused::Wrong(format!("the client certificate: {error}")))?;
    let names = names(own).ok_or_else(|| Refused::Wrong("the certificate is unreadable".into()))?;
    let mut allowed = names
        .into_iter()
        .filter(|name| mtls.subjects.contains(name));
    allowed.next().ok_or_else(|| {
        let reason = "the client certificate names nobody of auth.mtls.subjects of the source";
        Refused::Wrong(reason.to_owned())
    })
}

/// The certificates of authorities in a PEM file; at least one.
pub fn authorities(pem: &[u8]) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem) {
        let certificate = certificate.map_err(|error| error.to_string())?;
        roots.add(certificate).map_err(|error| error.to_string())?;
    }
    if roots.is_empty() {
        return Err("there is no certificate in it".to_owned());
    }
    Ok(roots)
}

/// Common names, and alternative names that are DNS names or URIs.
fn names(certificate: &CertificateDer<'_>) -> Option<Vec<String>> {
    let (_, certificate) = X509Certificate::from_der(certificate).ok()?;
    let common = certificate.subject().iter_common_name();
    let mut names: Vec<String> = common
        .filter_map(|name| name.as_str().ok())
        .map(str::to_owned)
        .collect();
    if let Ok(Some(alternative)) = certificate.subject_alternative_name() {
        let known = |name: &GeneralName<'_>| match name {
            GeneralName::DNSName(name) | GeneralName::URI(name) => Some((*name).to_owned()),
            GeneralName::OtherName(..)
            | GeneralName::RFC822Name(_)
            | GeneralName::X400Address(_)
            | GeneralName::DirectoryName(_)
            | GeneralName::EDIPartyName(_)
            | GeneralName::IPAddress(_)
            | GeneralName::RegisteredID(_)
            | GeneralName::Invalid(..) => None,
        };
        names.extend(alternative.value.general_names.iter().filter_map(known));
    }
    Some(names)
}
