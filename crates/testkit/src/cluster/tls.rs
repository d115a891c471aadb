//! Keys and certificates of one cluster, made for it and gone with it.

use std::{fs, path::Path};

use anyhow::Result;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose};

/// Writes `ca.crt`, `server.crt`, `server.key` and the key pair that signs ServiceAccount tokens.
pub(crate) fn write(folder: &Path) -> Result<()> {
    let ca_key = KeyPair::generate()?;
    let mut ca = CertificateParams::new(Vec::new())?;
    ca.distinguished_name
        .push(DnType::CommonName, "rollback test cluster");
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    ca.key_usages = vec![
        KeyUsagePurpose::KeyCertSign,
        KeyUsagePurpose::DigitalSignature,
    ];
    fs::write(folder.join("ca.crt"), ca.self_signed(&ca_key)?.pem())?;

    let server_key = KeyPair::generate()?;
    // The last is the address of the kubernetes Service, for pods.
    let names = [
        "127.0.0.1",
        "localhost",
        "kubernetes.default.svc",
        "10.96.0.1",
    ];
    let mut server = CertificateParams::new(names.map(String::from))?;
    server
        .distinguished_name
        .push(DnType::CommonName, "kube-apiserver");
    let signed = server.signed_by(&server_key, &Issuer::from_params(&ca, &ca_key))?;
    fs::write(folder.join("server.crt"), signed.pem())?;
    fs::write(folder.join("server.key"), server_key.serialize_pem())?;

    let accounts = KeyPair::generate()?;
    fs::write(folder.join("accounts.key"), accounts.serialize_pem())?;
    fs::write(folder.join("accounts.pub"), accounts.public_key_pem())?;
    Ok(())
}
