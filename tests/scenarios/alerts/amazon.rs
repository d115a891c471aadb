//! Alarms of `CloudWatch`, signed by Amazon: here by a key of the tests, behind a host of the tests.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Context as _, Result, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use rcgen::KeyPair;
use ring::rand::SystemRandom;
use ring::signature::{RSA_PKCS1_SHA256, RsaKeyPair};
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use super::stage::{Answered, Stage, post};
use super::tls::Authority;

/// The key of the tests; it has never signed anything else.
const SIGNER: &str = include_str!("sns-signer.pem");
const HOST: &str = "sns.eu-central-1.amazonaws.com";
const TOPIC: &str = "arn:aws:sns:eu-central-1:123456789012:alarms";
/// Another topic of ours.
const OTHER: &str = "arn:aws:sns:eu-central-1:123456789012:more-alarms";

/// What answers in Amazon's place.
struct Host {
    address: SocketAddr,
    certificates: Arc<AtomicUsize>,
    made_up: Arc<AtomicUsize>,
    confirmations: Arc<AtomicUsize>,
}

impl Host {
    /// Serves this certificate of the signer, under the name of Amazon's host.
    async fn start(authority: &Authority) -> Result<Self> {
        let signer = authority.certificate(HOST, &KeyPair::from_pem(SIGNER)?)?;
        let (certificate, key) = authority.identity(HOST)?;
        let chain = CertificateDer::from_pem_slice(certificate.as_bytes())?;
        let key = PrivateKeyDer::from_pem_slice(key.as_bytes())?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(vec![chain], key)?;
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let host = Self {
            address: listener.local_addr()?,
            certificates: Arc::default(),
            made_up: Arc::default(),
            confirmations: Arc::default(),
        };
        let made_up = host.made_up.clone();
        let (certificates, confirmations) = (host.certificates.clone(), host.confirmations.clone());
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let Ok(mut stream) = acceptor.accept(stream).await else {
                    continue;
                };
                let mut head = vec![0; 4096];
                let read = stream.read(&mut head).await.unwrap_or_default();
                let head = String::from_utf8_lossy(&head[..read]).into_owned();
                let answer = if head.starts_with("GET /large.pem ") {
                    format!("HTTP/1.1 200 OK\r\n\r\n{}", signer.repeat(200))
                } else if head.starts_with("GET /moved.pem ") {
                    "HTTP/1.1 302 Found\r\nlocation: /signer.pem\r\ncontent-length: 0\r\n\r\n"
                        .to_owned()
                } else if head.starts_with("GET /signer.pem ") {
                    certificates.fetch_add(1, Ordering::Relaxed);
                    format!("HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n{signer}")
                } else if head.starts_with("GET /made-up-") {
                    made_up.fetch_add(1, Ordering::Relaxed);
                    "HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n".to_owned()
                } else {
                    confirmations.fetch_add(1, Ordering::Relaxed);
                    "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n".to_owned()
                };
                let _ = stream.write_all(answer.as_bytes()).await;
                let _ = stream.shutdown().await;
            }
        });
        Ok(host)
    }
}

fn sign(message: &mut Value, fields: &[&str]) -> Result<()> {
    let text: String = fields
        .iter()
        .filter_map(|name| Some(format!("{name}\n{}\n", message[*name].as_str()?)))
        .collect();
    let pkcs8 = PrivateKeyDer::from_pem_slice(SIGNER.as_bytes())?;
    let key = RsaKeyPair::from_pkcs8(pkcs8.secret_der())
        .ok()
        .context("no key")?;
    let mut signature = vec![0; key.public().modulus_len()];
    key.sign(
        &RSA_PKCS1_SHA256,
        &SystemRandom::new(),
        text.as_bytes(),
        &mut signature,
    )
    .ok()
    .context("not signed")?;
    message["Signature"] = json!(STANDARD.encode(signature));
    Ok(())
}

fn envelope(kind: &str, topic: &str, text: &str) -> Value {
    json!({
        "Type": kind, "MessageId": "22b80b92-fdea-4c2c-8f9d-bdfb0c7bf324", "TopicArn": topic,
        "Message": text, "Timestamp": Timestamp::now().to_string(), "SignatureVersion": "2",
        "SigningCertURL": format!("https://{HOST}/signer.pem"),
        "UnsubscribeURL": format!("https://{HOST}/?Action=Unsubscribe"),
    })
}

/// An alarm, signed.
fn alarm(stage: &Stage, topic: &str, value: &str) -> Result<Value> {
    let text = json!({
        "AlarmName": "api-5xx", "AlarmDescription": "5xx of the shop", "AWSAccountId": "123456789012",
        "AlarmArn": "arn:aws:cloudwatch:eu-central-1:123456789012:alarm:api-5xx",
        "NewStateValue": value, "OldStateValue": "OK", "NewStateReason": "Threshold Crossed",
        "StateChangeTime": Timestamp::now().strftime("%Y-%m-%dT%H:%M:%S.%3f+0000").to_string(),
        "Region": "EU (Frankfurt)",
        "Trigger": {"MetricName": "5xx", "Namespace": "Shop", "Dimensions": [
            {"name": "namespace", "value": stage.scene.ns()}, {"name": "deployment", "value": "api"},
        ]},
    });
    let mut message = envelope("Notification", topic, &text.to_string());
    sign(
        &mut message,
        &["Message", "MessageId", "Timestamp", "TopicArn", "Type"],
    )?;
    Ok(message)
}

fn confirmation(topic: &str) -> Result<Value> {
    let mut message = envelope(
        "SubscriptionConfirmation",
        topic,
        "You have chosen to subscribe",
    );
    message["Token"] = json!("2336412f37fb687f5d51e6e2425e90ca");
    let url =
        format!("https://{HOST}/?Action=ConfirmSubscription&TopicArn={topic}&Token=2336412f37");
    message["SubscribeURL"] = json!(url);
    let fields = [
        "Message",
        "MessageId",
        "SubscribeURL",
        "Timestamp",
        "Token",
        "TopicArn",
        "Type",
    ];
    sign(&mut message, &fields)?;
    Ok(message)
}

async fn send(stage: &Stage, message: &Value) -> Result<Answered> {
    let headers = [
        ("content-type", "text/plain; charset=UTF-8"),
        ("x-amz-sns-message-type", "Notification"),
    ];
    post(
        &stage.receiver()?.url("cloudwatch"),
        &headers,
        message.to_string(),
    )
    .await
}

async fn stage(name: &str) -> Result<(Stage, Host)> {
    let mut stage = Stage::new(name).await?;
    let authority = Authority::new("Amazon of the tests")?;
    let host = Host::start(&authority).await?;
    std::fs::write(stage.file("roots.pem"), authority.pem())?;
    let auth = json!({"sns": {
        "topics": [TOPIC, OTHER], "rootsFile": stage.file("roots.pem"), "via": host.address.to_string(),
    }});
    let source = stage.source("cloudwatch", "sns", auth);
    stage.start(&[source]).await?;
    Ok((stage, host))
}

#[tokio::test]
async fn an_alarm_that_amazon_signed_becomes_a_request() -> Result<()> {
    let (stage, host) = stage("sns").await?;
    send(&stage, &alarm(&stage, TOPIC, "ALARM")?)
        .await?
        .is("asked")?;
    send(&stage, &alarm(&stage, TOPIC, "OK")?)
        .await?
        .is("resolved")?;
    send(&stage, &alarm(&stage, TOPIC, "INSUFFICIENT_DATA")?)
        .await?
        .is("ignored")?;
    stage.only_request().await?;
    let fetched = host.certificates.load(Ordering::Relaxed);
    ensure!(fetched == 1, "the certificate was fetched {fetched} times");
    Ok(())
}

#[tokio::test]
async fn what_amazon_did_not_sign_is_refused() -> Result<()> {
    let (stage, host) = stage("forged").await?;
    // Of another topic nothing is fetched at all.
    let foreign = alarm(
        &stage,
        "arn:aws:sns:eu-central-1:666666666666:alarms",
        "ALARM",
    )?;
    ensure!(
        send(&stage, &foreign).await?.status == 401,
        "another topic counts"
    );
    let elsewhere = |url: &str| -> Result<Value> {
        let mut message = alarm(&stage, TOPIC, "ALARM")?;
        message["SigningCertURL"] = json!(url);
        Ok(message)
    };
    let addresses = [
        format!("https://localhost:{}/signer.pem", host.address.port()),
        "https://sns.eu-central-1.amazonaws.com.evil.example/signer.pem".to_owned(),
        "https://sns.eu-central-1.amazonaws.com@evil.example/signer.pem".to_owned(),
        format!("http://{HOST}/signer.pem"),
        format!("https://{HOST}:8443/signer.pem"),
        "https://169.254.169.254/latest/meta-data.pem".to_owned(),
    ];
    for url in &addresses {
        let answer = send(&stage, &elsewhere(url)?).await?;
        ensure!(answer.status == 401, "{url}: {answer:?}");
    }
    ensure!(
        host.certificates.load(Ordering::Relaxed) == 0,
        "something was fetched"
    );
    let mut changed = alarm(&stage, TOPIC, "ALARM")?;
    changed["MessageId"] = json!("11111111-fdea-4c2c-8f9d-bdfb0c7bf324");
    ensure!(
        send(&stage, &changed).await?.status == 401,
        "a changed message counts"
    );
    let mut first = alarm(&stage, TOPIC, "ALARM")?;
    first["SignatureVersion"] = json!("1");
    ensure!(send(&stage, &first).await?.status == 401, "SHA-1 counts");
    // What cannot be fetched now is no verdict.
    for file in ["large.pem", "moved.pem"] {
        let answer = send(&stage, &elsewhere(&format!("https://{HOST}/{file}"))?).await?;
        ensure!(answer.status == 503, "{file}: {answer:?}");
    }
    ensure!(stage.requests().await?.is_empty(), "somebody was asked");
    Ok(())
}

#[tokio::test]
async fn a_subscription_to_a_topic_of_ours_is_confirmed() -> Result<()> {
    let (stage, host) = stage("subscribe").await?;
    let foreign = confirmation("arn:aws:sns:eu-central-1:666666666666:alarms")?;
    ensure!(
        send(&stage, &foreign).await?.status == 401,
        "any topic is confirmed"
    );
    ensure!(
        host.confirmations.load(Ordering::Relaxed) == 0,
        "any topic is confirmed"
    );
    let answer = send(&stage, &confirmation(TOPIC)?).await?;
    ensure!(answer.status == 202, "{answer:?}");
    ensure!(
        host.confirmations.load(Ordering::Relaxed) == 1,
        "it is not confirmed"
    );
    Ok(())
}

/// Messages of one topic that name certificates which there are not: each is asked for once, so many in a minute, and alarms
/// that Amazon signed get through meanwhile.
#[tokio::test]
async fn made_up_certificates_do_not_keep_real_alarms_out() -> Result<()> {
    let (stage, host) = stage("made-up").await?;
    send(&stage, &alarm(&stage, TOPIC, "OK")?)
        .await?
        .is("resolved")?;
    let made_up = |number: u32| -> Result<Value> {
        let mut message = alarm(&stage, TOPIC, "ALARM")?;
        message["SigningCertURL"] = json!(format!("https://{HOST}/made-up-{number}.pem"));
        Ok(message)
    };
    for _ in 0..5 {
        ensure!(send(&stage, &made_up(0)?).await?.status == 503);
    }
    let asked = host.made_up.load(Ordering::Relaxed);
    ensure!(asked == 1, "one certificate was asked for {asked} times");
    for number in 1..100 {
        ensure!(send(&stage, &made_up(number)?).await?.status == 503);
    }
    let asked = host.made_up.load(Ordering::Relaxed);
    ensure!(asked < 60, "{asked} certificates were asked for");
    // The certificate that was good, for the same topic; and one that is new, for another topic.
    send(&stage, &alarm(&stage, TOPIC, "OK")?)
        .await?
        .is("resolved")?;
    let mut other = alarm(&stage, OTHER, "OK")?;
    other["SigningCertURL"] = json!(format!("https://{HOST}/signer.pem?"));
    ensure!(send(&stage, &other).await?.status == 401, "a query counts");
    send(&stage, &alarm(&stage, OTHER, "OK")?)
        .await?
        .is("resolved")
}

/// Whoever forges messages of the real certificate does not have it fetched each time; one of another region is not fetched
/// at all.
#[tokio::test]
async fn forged_messages_have_a_certificate_fetched_once() -> Result<()> {
    let (stage, host) = stage("forged-often").await?;
    for number in 0..40 {
        let mut forged = alarm(&stage, TOPIC, "ALARM")?;
        forged["MessageId"] = json!(format!("forged-{number}"));
        ensure!(send(&stage, &forged).await?.status == 401);
    }
    let mut elsewhere = alarm(&stage, TOPIC, "ALARM")?;
    elsewhere["SigningCertURL"] = json!("https://sns.eu-west-1.amazonaws.com/signer.pem");
    ensure!(send(&stage, &elsewhere).await?.status == 401);
    let mut late = alarm(&stage, TOPIC, "ALARM")?;
    late["Timestamp"] = json!("2026-01-02T03:04:05.000Z");
    ensure!(send(&stage, &late).await?.status == 401);
    let fetched = host.certificates.load(Ordering::Relaxed);
    ensure!(fetched == 1, "the certificate was fetched {fetched} times");
    send(&stage, &alarm(&stage, TOPIC, "ALARM")?)
        .await?
        .is("asked")
}
