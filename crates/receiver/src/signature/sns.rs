//! Messages of Amazon SNS, which are signed by RSA over some of their fields.
//!
//! The message names the certificate itself. So its address must be one of SNS, the certificate must lead to the given
//! roots and be issued to SNS in the same region, and only then is the message's word that SNS wrote it worth anything.
//! Which topic it is of, the caller checks.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use jiff::{SignedDuration, Timestamp};
use ring::signature::{RSA_PKCS1_2048_8192_SHA256, UnparsedPublicKey};
use rustls::RootCertStore;
use rustls::client::verify_server_cert_signed_by_trust_anchor;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use serde::Deserialize;
use url::Url;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::{Rejected, near};
use crate::intake;

/// How old a message may be: SNS tries again for about that long.
pub const TOLERANCE: SignedDuration = SignedDuration::from_hours(1);

/// Largest file of certificates that is read, in bytes.
const LARGEST_CHAIN: usize = 64 << 10;
/// Most certificates of a chain.
const LONGEST_CHAIN: usize = 8;

/// What a message is about, which decides what of it is signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
enum MessageType {
    Notification,
    SubscriptionConfirmation,
    UnsubscribeConfirmation,
}

/// The message as it is written. A field that comes twice is an error, so that what is checked is also what is read.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase", expecting = "an object")]
struct Envelope {
    #[serde(rename = "Type")]
    kind: MessageType,
    message_id: String,
    topic_arn: String,
    subject: Option<String>,
    message: String,
    timestamp: String,
    token: Option<String>,
    #[serde(rename = "SubscribeURL")]
    subscribe_url: Option<String>,
    signature_version: String,
    signature: String,
    #[serde(rename = "SigningCertURL")]
    signing_cert_url: String,
}

/// A message whose form has been checked, but not yet who wrote it.
#[derive(Clone, Debug)]
pub struct Message {
    topic: String,
    certificate: Url,
    region: String,
    moment: Timestamp,
    signed: String,
    signature: Vec<u8>,
}

/// Reads a message.
pub fn read(body: &[u8]) -> Result<Message, Rejected> {
    if body.len() > intake::LARGEST {
        return Err(wrong("body", "is larger than SNS writes it"));
    }
    let unsigned = wrong(
        "body",
        "is not one that SNS signs: subscribe without raw message delivery",
    );
    // A list would be taken for the fields of an object in their order.
    if !body.trim_ascii_start().starts_with(b"{") {
        return Err(unsigned);
    }
    let envelope: Envelope = serde_json::from_slice(body).map_err(|_| unsigned)?;
    match envelope.signature_version.as_str() {
        "2" => {}
        "1" => {
            return Err(wrong(
                "SignatureVersion",
                "is 1, which is signed by SHA-1: set the attribute SignatureVersion of the topic to 2",
            ));
        }
        _other => return Err(wrong("SignatureVersion", "is not 2")),
    }
    let certificate = Url::parse(&envelope.signing_cert_url).ok();
    let certificate = certificate.filter(is_file);
    let address = "is not the https address of a .pem file on sns.<region>.amazonaws.com";
    let certificate = certificate.ok_or(wrong("SigningCertURL", address))?;
    let region = intake::sns::region(&certificate);
    let region = region.ok_or(wrong("SigningCertURL", address))?.to_owned();
    let signature = STANDARD.decode(&envelope.signature);
    let signature = signature.map_err(|_| wrong("Signature", "is not base64"))?;
    let moment = envelope.timestamp.parse();
    let moment = moment.map_err(|_| Rejected::BadTimestamp {
        expected: "one by RFC 3339",
    })?;
    Ok(Message {
        signed: signed(&envelope)?,
        topic: envelope.topic_arn,
        certificate,
        region,
        moment,
        signature,
    })
}

/// Whether the address is of a file of certificates, and asks for nothing else.
fn is_file(url: &Url) -> bool {
    url.path().strip_suffix(".pem").is_some() && url.query().is_none() && url.fragment().is_none()
}

const fn wrong(field: &'static str, reason: &'static str) -> Rejected {
    Rejected::Message { field, reason }
}

/// What is signed: name and value of some fields, by name, each on a line of its own.
fn signed(envelope: &Envelope) -> Result<String, Rejected> {
    let message = ("Message", envelope.message.as_str());
    let id = ("MessageId", envelope.message_id.as_str());
    let timestamp = ("Timestamp", envelope.timestamp.as_str());
    let topic = ("TopicArn", envelope.topic_arn.as_str());
    let fields = match envelope.kind {
        MessageType::Notification => {
            let subject = envelope.subject.as_deref();
            let mut fields = vec![message, id];
            fields.extend(subject.map(|subject| ("Subject", subject)));
            fields.extend([timestamp, topic, ("Type", "Notification")]);
            fields
        }
        MessageType::SubscriptionConfirmation => {
            confirmation(envelope, "SubscriptionConfirmation")?
        }
        MessageType::UnsubscribeConfirmation => confirmation(envelope, "UnsubscribeConfirmation")?,
    };
    let lines = fields
        .iter()
        .flat_map(|(name, value)| [*name, "\n", *value, "\n"]);
    Ok(lines.collect())
}

fn confirmation<'a>(
    envelope: &'a Envelope,
    kind: &'a str,
) -> Result<Vec<(&'a str, &'a str)>, Rejected> {
    let url = envelope.subscribe_url.as_deref();
    let token = envelope.token.as_deref();
    Ok(vec![
        ("Message", &envelope.message),
        ("MessageId", &envelope.message_id),
        (
            "SubscribeURL",
            url.ok_or(wrong("SubscribeURL", "is missing"))?,
        ),
        ("Timestamp", &envelope.timestamp),
        ("Token", token.ok_or(wrong("Token", "is missing"))?),
        ("TopicArn", &envelope.topic_arn),
        ("Type", kind),
    ])
}

impl Message {
    /// The topic that it says it is of.
    pub fn topic(&self) -> &str {
        &self.topic
    }

    /// Where the certificate is: an `https` address on a host of SNS.
    pub fn certificate_url(&self) -> &str {
        self.certificate.as_str()
    }

    /// Whether the certificate is of the region of the topic: SNS signs with no other.
    pub fn is_of_its_region(&self) -> bool {
        self.topic.split(':').nth(3) == Some(self.region.as_str())
    }

    /// Checks when the message was written: the same that [`Self::verify`] checks first.
    pub fn is_recent(&self, now: Timestamp) -> Result<(), Rejected> {
        near(self.moment, now, TOLERANCE)
    }

    /// Checks who wrote the message, and when. The last thing is whether the key of the certificate signed it: a
    /// [`Rejected::Mismatch`] says nothing against the certificate.
    ///
    /// `chain` holds certificates as PEM, the one by which SNS signed first. It must lead to one of the `roots`, which may
    /// be any certificates of authorities: the file that SNS publishes may hold the first certificate only, and then the
    /// authority that issued it has to be among them.
    pub fn verify(
        &self,
        chain: &[u8],
        roots: &[CertificateDer<'_>],
        now: Timestamp,
    ) -> Result<(), Rejected> {
        self.is_recent(now)?;
        let chain = certificates(chain)?;
        let (leaf, issuers) = chain
            .split_first()
            .ok_or(certificate("cannot be read: the file holds none"))?;
        self.check_certificate(leaf, issuers, roots, now)?;
        let (_, leaf) =
            X509Certificate::from_der(leaf).map_err(|_| certificate("cannot be read"))?;
        let key = &leaf.public_key().subject_public_key.data;
        UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, key)
            .verify(self.signed.as_bytes(), &self.signature)
            .map_err(|_| Rejected::Mismatch)
    }

    fn check_certificate(
        &self,
        leaf: &CertificateDer<'_>,
        issuers: &[CertificateDer<'_>],
        roots: &[CertificateDer<'_>],
        now: Timestamp,
    ) -> Result<(), Rejected> {
        let leaf = ParsedCertificate::try_from(leaf).map_err(|_| certificate("cannot be read"))?;
        let mut store = RootCertStore::empty();
        store.add_parsable_certificates(roots.iter().cloned());
        let seconds = u64::try_from(now.as_second()).unwrap_or_default();
        verify_server_cert_signed_by_trust_anchor(
            &leaf,
            &store,
            issuers,
            UnixTime::since_unix_epoch(std::time::Duration::from_secs(seconds)),
            rustls::crypto::ring::default_provider()
                .signature_verification_algorithms
                .all,
        )
        .map_err(|_| {
            certificate(
                "does not lead to a root that is trusted, or is not valid now: give the authority that issued it in rootsFile (the intermediate one, where SNS publishes the first certificate alone)",
            )
        })?;
        let named = |name: String| {
            ServerName::try_from(name)
                .is_ok_and(|name| rustls::client::verify_server_name(&leaf, &name).is_ok())
        };
        if self.signers().into_iter().any(named) {
            Ok(())
        } else {
            Err(certificate(
                "is not issued to SNS in the region of its address",
            ))
        }
    }

    /// Whom the certificate of this region may be issued to: SNS has had several names over the years.
    fn signers(&self) -> Vec<String> {
        let region = &self.region;
        let china = self
            .certificate
            .domain()
            .is_some_and(|host| host.ends_with(".amazonaws.com.cn"));
        let domain = if china {
            "amazonaws.com.cn"
        } else {
            "amazonaws.com"
        };
        let mut names = vec![
            format!("sns.{region}.{domain}"),
            format!("sns-signing.{region}.{domain}"),
            format!("sns-{region}.{domain}"),
        ];
        if !china {
            names.push("sns.amazonaws.com".to_owned());
        }
        if region.starts_with("us-gov-") {
            names.push("sns-us-gov-west-1.amazonaws.com".to_owned());
        }
        names
    }
}

const fn certificate(reason: &'static str) -> Rejected {
    Rejected::Certificate { reason }
}

fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, Rejected> {
    let unreadable = certificate("cannot be read: the file is not PEM");
    if pem.len() > LARGEST_CHAIN {
        return Err(certificate("cannot be read: the file is too large"));
    }
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem)
        .take(LONGEST_CHAIN)
        .collect();
    chain.map_err(|_| unreadable)
}
