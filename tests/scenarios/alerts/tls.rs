//! Certificates: of the receiver, which are renewed while it runs, and of senders.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use serde_json::{Value, json};

use super::stage::{Answered, Stage, answered, group, over, password};

/// An authority of a test.
pub struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    /// A new one.
    pub fn new(name: &str) -> Result<Self> {
        let mut params = CertificateParams::new(Vec::<String>::new())?;
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate()?)?;
        Ok(Self(issuer))
    }

    /// Its certificate, as PEM.
    pub fn pem(&self) -> String {
        self.0.pem()
    }

    /// A certificate for this name with this key, as PEM.
    pub fn certificate(&self, name: &str, key: &KeyPair) -> Result<String> {
        let mut params = CertificateParams::new(vec![name.to_owned()])?;
        params.distinguished_name.push(DnType::CommonName, name);
        Ok(params.signed_by(key, &self.0)?.pem())
    }

    /// A certificate and its key, as PEM.
    pub fn identity(&self, name: &str) -> Result<(String, String)> {
        let key = KeyPair::generate()?;
        Ok((self.certificate(name, &key)?, key.serialize_pem()))
    }
}

/// A client that trusts this authority, with this identity.
fn client(authority: &Authority, identity: Option<&(String, String)>) -> Result<reqwest::Client> {
    let root = reqwest::Certificate::from_pem(authority.pem().as_bytes())?;
    let mut builder = reqwest::Client::builder().no_proxy().tls_certs_only([root]);
    if let Some((certificate, key)) = identity {
        let both = format!("{certificate}{key}");
        builder = builder.identity(reqwest::Identity::from_pem(both.as_bytes())?);
    }
    Ok(builder.build()?)
}

async fn send(client: &reqwest::Client, url: &str, body: &str) -> Result<Answered> {
    let request = client
        .post(url)
        .header("content-type", "application/json")
        .header("authorization", password())
        .body(body.to_owned());
    answered(request.send().await?).await
}

/// Puts certificate and key of the receiver where it looks for them.
fn install(stage: &Stage, authority: &Authority, name: &str) -> Result<()> {
    let (certificate, key) = authority.identity(name)?;
    std::fs::write(stage.file("tls.crt"), certificate)?;
    std::fs::write(stage.file("tls.key"), key)?;
    Ok(())
}

/// Arguments for a receiver that finds them there.
pub fn arguments(stage: &Stage) -> [String; 4] {
    let path = |name: &str| stage.file(name).display().to_string();
    [
        "--tls-cert".into(),
        path("tls.crt"),
        "--tls-key".into(),
        path("tls.key"),
    ]
}

/// A receiver with a certificate of this authority.
pub async fn start(stage: &mut Stage, authority: &Authority, sources: &[Value]) -> Result<()> {
    install(stage, authority, "localhost")?;
    let arguments = arguments(stage);
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    stage.receiver = Some(stage.spawn(sources, &arguments).await?);
    Ok(())
}

/// A receiver with a source `prometheus` that an Alertmanager delivers to by TLS and with a token of the namespace; gives
/// the `webhook_configs` of that Alertmanager, as in docs/alerts.md.
pub async fn start_for_alertmanager(stage: &mut Stage) -> Result<Value> {
    let username = format!("system:serviceaccount:{}:alertmanager", stage.scene.ns());
    let bearer = json!({"bearer": {"usernames": [username]}});
    let source = stage.source("prometheus", "alertmanager", bearer);
    let authority = Authority::new("cluster")?;
    start(stage, &authority, &[source]).await?;
    std::fs::write(stage.file("ca.pem"), authority.pem())?;
    let token = stage.token("alertmanager", "rollback-receiver").await?;
    std::fs::write(stage.file("token"), token)?;
    Ok(json!([{
        "url": stage.receiver()?.url("prometheus"),
        "send_resolved": true,
        "http_config": {
            "authorization": {"type": "Bearer", "credentials_file": stage.file("token")},
            "tls_config": {"ca_file": stage.file("ca.pem")},
        },
    }]))
}

#[tokio::test]
async fn a_certificate_that_is_renewed_counts_without_a_restart() -> Result<()> {
    let mut stage = Stage::ungranted("renewed").await?;
    let (old, new) = (Authority::new("old")?, Authority::new("new")?);
    let source = stage.basic("prometheus", "alertmanager");
    start(&mut stage, &old, &[source]).await?;
    let body = group(&[over(stage.alert("Over"))]).to_string();
    let url = stage.receiver()?.url("prometheus");
    send(&client(&old, None)?, &url, &body)
        .await?
        .is("resolved")?;
    ensure!(
        send(&client(&new, None)?, &url, &body).await.is_err(),
        "anything is trusted"
    );
    let plain = url.replace("https://", "http://");
    ensure!(
        send(&client(&old, None)?, &plain, &body).await.is_err(),
        "it speaks plainly"
    );

    // Half of a renewal, which is seen by everybody who looks at the wrong moment, changes nothing.
    std::fs::write(stage.file("tls.crt"), "-----BEGIN CERTIFICATE-----\n")?;
    let page = format!("{}/metrics", stage.receiver()?.metrics_url());
    let plain = reqwest::Client::builder().no_proxy().build()?;
    testkit::eventually(
        "half a renewal is seen",
        Duration::from_secs(25),
        async || {
            let metrics = plain.get(&page).send().await?.text().await?;
            ensure!(!metrics.contains("certificate_errors_total 0"), "{metrics}");
            Ok(())
        },
    )
    .await?;
    send(&client(&old, None)?, &url, &body)
        .await?
        .is("resolved")?;

    install(&stage, &new, "localhost")?;
    testkit::eventually(
        "the new certificate counts",
        Duration::from_secs(25),
        async || {
            send(&client(&new, None)?, &url, &body)
                .await?
                .is("resolved")
        },
    )
    .await?;
    ensure!(
        send(&client(&old, None)?, &url, &body).await.is_err(),
        "the old one counts too"
    );
    Ok(())
}

/// A client certificate has to be of the authority of this source, and for one of its subjects.
#[tokio::test]
async fn a_sender_may_prove_itself_by_a_certificate() -> Result<()> {
    let mut stage = Stage::ungranted("mtls").await?;
    let server = Authority::new("server")?;
    let (ours, others) = (Authority::new("ours")?, Authority::new("others")?);
    std::fs::write(stage.file("ours.pem"), ours.pem())?;
    std::fs::write(stage.file("others.pem"), others.pem())?;
    let source = |name: &str, authority: &str| {
        let auth = json!({"mtls": {"caFile": stage.file(authority), "subjects": ["alertmanager.monitoring"]}});
        stage.source(name, "alertmanager", auth)
    };
    let sources = [
        source("ours", "ours.pem"),
        source("others", "others.pem"),
        stage.basic("password", "alertmanager"),
    ];
    start(&mut stage, &server, &sources).await?;
    let body = group(&[over(stage.alert("Over"))]).to_string();
    let receiver = stage.receiver.as_ref().context("no receiver")?;
    let to = async |source: &str, identity: Option<&(String, String)>| {
        send(&client(&server, identity)?, &receiver.url(source), &body).await
    };
    let right = ours.identity("alertmanager.monitoring")?;
    to("ours", Some(&right)).await?.is("resolved")?;
    ensure!(
        to("others", Some(&right)).await?.status == 401,
        "an authority counts for all"
    );
    ensure!(to("ours", None).await?.status == 401, "nobody counts");
    to("password", None).await?.is("resolved")?;
    let other = ours.identity("somebody.monitoring")?;
    ensure!(
        to("ours", Some(&other)).await?.status == 401,
        "anybody of the authority counts"
    );
    let foreign = Authority::new("ours")?.identity("alertmanager.monitoring")?;
    ensure!(
        to("ours", Some(&foreign)).await.is_err(),
        "anybody's authority counts"
    );
    Ok(())
}
