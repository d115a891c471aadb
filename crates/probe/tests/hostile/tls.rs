//! A server with a certificate for `status.example.com` and for no other name.

use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};

use crate::support::read_request;

/// Writes an authority, and a certificate with its key; says where the authority is.
pub fn make(folder: &Path) -> PathBuf {
    let mut authority = CertificateParams::new(Vec::new()).unwrap();
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(authority, KeyPair::generate().unwrap()).unwrap();
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new(vec!["status.example.com".to_owned()]).unwrap();
    let certificate = certificate.signed_by(&key, &authority).unwrap();
    std::fs::write(folder.join("server.crt"), certificate.pem()).unwrap();
    std::fs::write(folder.join("server.key"), key.serialize_pem()).unwrap();
    let path = folder.join("authority.crt");
    std::fs::write(&path, authority.pem()).unwrap();
    path
}

/// A request that came through TLS.
#[derive(Debug)]
pub struct Received {
    /// The name that the client asked for in the handshake.
    pub name: Option<String>,
    /// The request, in lower case.
    pub request: String,
}

/// Answers every request with 200.
pub fn serve(folder: &Path, address: SocketAddr) -> Receiver<Received> {
    let certificate = CertificateDer::from_pem_file(folder.join("server.crt")).unwrap();
    let key = PrivateKeyDer::from_pem_file(folder.join("server.key")).unwrap();
    let config = ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
        .unwrap();
    let config = Arc::new(config);
    let listener = TcpListener::bind(address).unwrap();
    let (sender, receiver) = channel();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let connection = ServerConnection::new(config.clone()).unwrap();
            let mut stream = StreamOwned::new(connection, stream.unwrap());
            let Some(request) = read_request(&mut stream) else {
                continue;
            };
            let name = stream.conn.server_name().map(str::to_owned);
            let request = request.to_lowercase();
            let _ = sender.send(Received { name, request });
            let _ = std::io::Write::write_all(&mut stream, &crate::support::ok("fine"));
            stream.conn.send_close_notify();
            let _ = stream.conn.complete_io(&mut stream.sock);
        }
    });
    receiver
}
