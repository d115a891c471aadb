//! Tokens of a cluster are told from made-up ones by its keys.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "what is wrong in a test ends it"
)]

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::Timestamp;
use proptest::prelude::*;
use ring::rand::SystemRandom;
use ring::rsa::PublicKeyComponents;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair,
    EcdsaSigningAlgorithm, KeyPair as _, RSA_PKCS1_SHA256, RSA_PKCS1_SHA512, RsaEncoding,
    RsaKeyPair,
};
use rollback_receiver::signature::jwt::{Keys, TokenCheck, read};
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject as _;
use serde_json::{Value, json};

const SIGNER: &str = include_str!("../../../tests/scenarios/alerts/sns-signer.pem");
const ISSUER: &str = "https://kubernetes.default.svc";
const NOW: i64 = 1_800_000_000;

fn base64(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

fn rsa() -> RsaKeyPair {
    let key = PrivateKeyDer::from_pem_slice(SIGNER.as_bytes()).unwrap();
    RsaKeyPair::from_pkcs8(key.secret_der()).unwrap()
}

fn rsa_key(id: &str) -> Value {
    let parts: PublicKeyComponents<Vec<u8>> = rsa().public().into();
    json!({"kty": "RSA", "kid": id, "use": "sig", "alg": "RS256", "n": base64(parts.n), "e": base64(parts.e)})
}

fn ec(algorithm: &'static EcdsaSigningAlgorithm) -> EcdsaKeyPair {
    let random = SystemRandom::new();
    let document = EcdsaKeyPair::generate_pkcs8(algorithm, &random).unwrap();
    EcdsaKeyPair::from_pkcs8(algorithm, document.as_ref(), &random).unwrap()
}

fn ec_key(id: &str, curve: &str, pair: &EcdsaKeyPair) -> Value {
    let point = &pair.public_key().as_ref()[1..];
    let (x, y) = point.split_at(point.len() / 2);
    json!({"kty": "EC", "kid": id, "crv": curve, "x": base64(x), "y": base64(y)})
}

fn keys(keys: &[Value]) -> Keys {
    let discovery = json!({"issuer": ISSUER, "jwks_uri": "https://elsewhere"});
    Keys::read(&discovery.to_string(), &json!({"keys": keys}).to_string()).unwrap()
}

fn claims() -> Value {
    json!({"iss": ISSUER, "sub": "system:serviceaccount:monitoring:alertmanager", "aud": ["rollback-receiver"],
        "exp": NOW + 3600, "nbf": NOW, "iat": NOW})
}

fn head(algorithm: &str, id: &str, claims: &Value) -> String {
    let header = json!({"alg": algorithm, "kid": id}).to_string();
    format!("{}.{}", base64(header), base64(claims.to_string()))
}

fn by_rsa(algorithm: &str, encoding: &'static dyn RsaEncoding, claims: &Value) -> String {
    let head = head(algorithm, "rsa", claims);
    let key = rsa();
    let mut signature = vec![0; key.public().modulus_len()];
    key.sign(
        encoding,
        &SystemRandom::new(),
        head.as_bytes(),
        &mut signature,
    )
    .unwrap();
    format!("{head}.{}", base64(signature))
}

fn by_ec(algorithm: &str, pair: &EcdsaKeyPair, claims: &Value) -> String {
    let head = head(algorithm, "ec", claims);
    let signature = pair.sign(&SystemRandom::new(), head.as_bytes()).unwrap();
    format!("{head}.{}", base64(signature))
}

fn judged(keys: &Keys, token: &str) -> TokenCheck {
    let token = read(token).unwrap_or_else(|| panic!("{token} cannot be read"));
    keys.judge(&token, Timestamp::from_second(NOW).unwrap())
}

#[test]
fn what_the_cluster_signed_is_known_by_each_kind_of_key() {
    let (p256, p384) = (
        ec(&ECDSA_P256_SHA256_FIXED_SIGNING),
        ec(&ECDSA_P384_SHA384_FIXED_SIGNING),
    );
    let rsa = keys(&[rsa_key("other"), rsa_key("rsa")]);
    assert_eq!(
        judged(&rsa, &by_rsa("RS256", &RSA_PKCS1_SHA256, &claims())),
        TokenCheck::Made
    );
    assert_eq!(
        judged(&rsa, &by_rsa("RS512", &RSA_PKCS1_SHA512, &claims())),
        TokenCheck::Made
    );
    let small = keys(&[ec_key("ec", "P-256", &p256)]);
    assert_eq!(
        judged(&small, &by_ec("ES256", &p256, &claims())),
        TokenCheck::Made
    );
    let large = keys(&[ec_key("ec", "P-384", &p384)]);
    assert_eq!(
        judged(&large, &by_ec("ES384", &p384, &claims())),
        TokenCheck::Made
    );
    // Two keys of one name, while one takes the place of the other.
    let both = keys(&[ec_key("ec", "P-384", &p384), ec_key("ec", "P-256", &p256)]);
    assert_eq!(
        judged(&both, &by_ec("ES256", &p256, &claims())),
        TokenCheck::Made
    );
}

#[test]
fn what_the_cluster_did_not_sign_is_wrong() {
    let pair = ec(&ECDSA_P256_SHA256_FIXED_SIGNING);
    let stranger = ec(&ECDSA_P256_SHA256_FIXED_SIGNING);
    let own = keys(&[ec_key("ec", "P-256", &pair), rsa_key("rsa")]);
    let wrong = |token: &str| {
        assert!(
            matches!(judged(&own, token), TokenCheck::Wrong(_)),
            "{token}"
        );
    };
    wrong(&by_ec("ES256", &stranger, &claims()));
    // Words of an algorithm that the key is not of.
    for algorithm in ["none", "HS256", "RS256", "ES384", "es256", ""] {
        wrong(&by_ec(algorithm, &pair, &claims()));
    }
    for algorithm in ["none", "HS256", "ES256", "RS384", "PS256"] {
        wrong(&by_rsa(algorithm, &RSA_PKCS1_SHA256, &claims()));
    }
    let good = by_ec("ES256", &pair, &claims());
    let (head, signature) = good.rsplit_once('.').unwrap();
    wrong(&format!("{head}."));
    wrong(&format!("{head}.{}", base64([0; 64])));
    let mut other = claims();
    other["sub"] = json!("system:serviceaccount:monitoring:other");
    let (header, _) = head.split_once('.').unwrap();
    wrong(&format!(
        "{header}.{}.{signature}",
        base64(other.to_string())
    ));
    let mut elsewhere = claims();
    elsewhere["iss"] = json!("https://another.example");
    wrong(&by_ec("ES256", &pair, &elsewhere));
}

#[test]
fn a_token_has_its_time() {
    let pair = ec(&ECDSA_P256_SHA256_FIXED_SIGNING);
    let own = keys(&[ec_key("ec", "P-256", &pair)]);
    for (exp, nbf, made) in [
        (NOW + 1, NOW, true),
        (NOW - 30, NOW - 3600, true),
        (NOW - 61, NOW - 3600, false),
        (NOW + 3600, NOW + 30, true),
        (NOW + 3600, NOW + 61, false),
        (i64::MAX, i64::MIN, true),
        (i64::MIN, i64::MAX, false),
    ] {
        let mut claims = claims();
        claims["exp"] = json!(exp);
        claims["nbf"] = json!(nbf);
        let verdict = judged(&own, &by_ec("ES256", &pair, &claims));
        assert_eq!(
            verdict == TokenCheck::Made,
            made,
            "{exp} {nbf}: {verdict:?}"
        );
    }
}

#[test]
fn a_key_that_is_not_known_is_no_verdict() {
    let pair = ec(&ECDSA_P256_SHA256_FIXED_SIGNING);
    let token = by_ec("ES256", &pair, &claims());
    assert_eq!(judged(&keys(&[]), &token), TokenCheck::UnknownKey);
    assert_eq!(
        judged(&keys(&[rsa_key("rsa")]), &token),
        TokenCheck::UnknownKey
    );
    for strange in [
        json!({"kid": "ec", "kty": "OKP", "crv": "Ed25519", "x": "AA"}),
        json!({"kid": "ec", "kty": "EC", "crv": "P-521", "x": "AA", "y": "AA"}),
        json!({"kid": "ec", "kty": "EC", "crv": "P-256", "x": "AA", "y": "AA"}),
        json!({"kid": "ec", "kty": "RSA", "n": "", "e": ""}),
    ] {
        assert_eq!(judged(&keys(&[strange]), &token), TokenCheck::Uncheckable);
    }
}

#[test]
fn what_is_no_token_is_not_read() {
    let pair = ec(&ECDSA_P256_SHA256_FIXED_SIGNING);
    let without = |key: &str| {
        let mut claims = claims();
        claims.as_object_mut().unwrap().remove(key);
        by_ec("ES256", &pair, &claims)
    };
    let header = json!({"alg": "ES256", "kid": "ec", "crit": ["exp"]}).to_string();
    let critical = format!("{}.{}.AAAA", base64(header), base64(claims().to_string()));
    let nameless = format!(
        "{}.{}.AAAA",
        base64("{\"alg\":\"ES256\"}"),
        base64(claims().to_string())
    );
    for token in [
        String::new(),
        "a.b.c".to_owned(),
        "..".to_owned(),
        "x".repeat(10_000),
        format!("{}.", by_ec("ES256", &pair, &claims())),
        format!("{}=", by_ec("ES256", &pair, &claims())),
        without("iss"),
        without("sub"),
        without("aud"),
        without("exp"),
        critical,
        nameless,
    ] {
        assert!(read(&token).is_none(), "{token}");
    }
    let token = by_ec("ES256", &pair, &claims());
    let token = read(&token).unwrap();
    assert_eq!(
        token.subject(),
        "system:serviceaccount:monitoring:alertmanager"
    );
    assert!(token.is_for("rollback-receiver") && !token.is_for("rollback"));
}

proptest! {
    #[test]
    fn anything_is_looked_at(token in ".{0,300}", parts in "[A-Za-z0-9_-]{0,80}\\.[A-Za-z0-9_-]{0,80}\\.[A-Za-z0-9_-]{0,80}", keys in ".{0,200}") {
        let _ = read(&token);
        let _ = read(&parts);
        let _ = Keys::read(&keys, &keys);
    }
}
