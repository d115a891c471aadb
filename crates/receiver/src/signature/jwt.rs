//! Tokens of `ServiceAccounts` (JWT), checked against the keys of the cluster.
//!
//! That tells made-up ones from real ones without asking anybody. Whether a real one still counts, only the API server
//! knows: its pod, its account or its Secret may be gone.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::Timestamp;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, EcdsaVerificationAlgorithm,
    RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_2048_8192_SHA384, RSA_PKCS1_2048_8192_SHA512,
    RsaParameters, RsaPublicKeyComponents, UnparsedPublicKey,
};
use serde::Deserialize;
use serde::de::IgnoredAny;

/// Longest token, in bytes.
const LONGEST: usize = 8 * 1024;
/// Most keys of a cluster.
const MOST_KEYS: usize = 64;
/// How far the clocks may be apart, in seconds: as much as the API server allows.
const SKEW_SECONDS: i64 = 60;

/// A token of a form that those of `ServiceAccounts` have. What it says of itself anybody can write.
#[derive(Clone, Debug)]
pub struct Token<'a> {
    signed: &'a str,
    signature: Vec<u8>,
    header: Header,
    claims: Claims,
}

#[derive(Clone, Debug, Deserialize)]
struct Header {
    alg: String,
    kid: String,
    /// What has to be understood, and is not.
    crit: Option<IgnoredAny>,
}

#[derive(Clone, Debug, Deserialize)]
struct Claims {
    iss: String,
    sub: String,
    aud: Audiences,
    exp: i64,
    nbf: Option<i64>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
enum Audiences {
    One(String),
    Many(Vec<String>),
}

/// Reads a token; nothing when it is none that a cluster makes.
pub fn read(token: &str) -> Option<Token<'_>> {
    if token.len() > LONGEST {
        return None;
    }
    let (signed, signature) = token.rsplit_once('.')?;
    let (header, claims) = signed.split_once('.')?;
    let decoded = |part: &str| URL_SAFE_NO_PAD.decode(part).ok();
    let token = Token {
        signed,
        signature: decoded(signature)?,
        header: serde_json::from_slice(&decoded(header)?).ok()?,
        claims: serde_json::from_slice(&decoded(claims)?).ok()?,
    };
    token.header.crit.is_none().then_some(token)
}

impl Token<'_> {
    /// Whose it says that it is.
    pub fn subject(&self) -> &str {
        &self.claims.sub
    }

    /// Whether it says that it is for this audience.
    pub fn is_for(&self, audience: &str) -> bool {
        match &self.claims.aud {
            Audiences::One(one) => one == audience,
            Audiences::Many(many) => many.iter().any(|one| one == audience),
        }
    }
}

/// What the keys of a cluster say of a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenCheck {
    /// The cluster made it, and its time is not over.
    Made,
    /// No key of the cluster has the name that it says.
    UnknownKey,
    /// It says the name of a key of the cluster whose signatures cannot be checked here.
    Uncheckable,
    /// The cluster did not make it, or its time is over, or has not come; in words.
    Wrong(&'static str),
}

/// The keys by which a cluster signs tokens, and its name in them.
#[derive(Clone, Debug)]
pub struct Keys {
    issuer: String,
    keys: Vec<(String, Key)>,
}

#[derive(Clone, Debug)]
enum Key {
    Rsa {
        modulus: Vec<u8>,
        exponent: Vec<u8>,
    },
    P256(Vec<u8>),
    P384(Vec<u8>),
    /// Of a kind that is not known here.
    Other,
}

/// What the API server says of itself.
#[derive(Deserialize)]
struct Discovery {
    issuer: String,
}

#[derive(Deserialize)]
struct KeySet {
    keys: Vec<Described>,
}

#[derive(Deserialize)]
struct Described {
    #[serde(default)]
    kid: String,
    #[serde(default)]
    kty: String,
    #[serde(default)]
    crv: String,
    #[serde(default)]
    n: String,
    #[serde(default)]
    e: String,
    #[serde(default)]
    x: String,
    #[serde(default)]
    y: String,
}

impl Keys {
    /// Reads what the API server serves at `/.well-known/openid-configuration` and at `/openid/v1/jwks`.
    pub fn read(discovery: &str, keys: &str) -> Result<Self, serde_json::Error> {
        let discovery: Discovery = serde_json::from_str(discovery)?;
        let set: KeySet = serde_json::from_str(keys)?;
        let keys = set.keys.into_iter().take(MOST_KEYS);
        Ok(Self {
            issuer: discovery.issuer,
            keys: keys
                .map(|key| (key.kid.clone(), key.key().unwrap_or(Key::Other)))
                .collect(),
        })
    }

    /// Whether the cluster made this token, and its time is `now`.
    pub fn judge(&self, token: &Token, now: Timestamp) -> TokenCheck {
        let named = |(id, _): &&(String, Key)| *id == token.header.kid;
        let mut named = self
            .keys
            .iter()
            .filter(named)
            .map(|(_, key)| key)
            .peekable();
        if named.peek().is_none() {
            return TokenCheck::UnknownKey;
        }
        let mut uncheckable = false;
        for key in named {
            match key.has_signed(token) {
                Some(true) => return self.judge_claims(&token.claims, now),
                Some(false) => {}
                None => uncheckable = true,
            }
        }
        if uncheckable {
            TokenCheck::Uncheckable
        } else {
            TokenCheck::Wrong("no key of the cluster has signed the token")
        }
    }

    fn judge_claims(&self, claims: &Claims, now: Timestamp) -> TokenCheck {
        let now = now.as_second();
        let begun = |at: i64| at <= now.saturating_add(SKEW_SECONDS);
        if claims.iss != self.issuer {
            TokenCheck::Wrong("the token names another issuer than the cluster")
        } else if claims.exp <= now.saturating_sub(SKEW_SECONDS) {
            TokenCheck::Wrong("the time of the token is over")
        } else if !claims.nbf.is_none_or(begun) {
            TokenCheck::Wrong("the time of the token has not come")
        } else {
            TokenCheck::Made
        }
    }
}

impl Described {
    fn key(&self) -> Option<Key> {
        let number = |text: &str| {
            let bytes = URL_SAFE_NO_PAD.decode(text).ok()?;
            let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
            Some(bytes.get(zeros..)?.to_vec()).filter(|number| !number.is_empty())
        };
        let point = |length: usize| {
            let mut point = vec![4];
            for text in [&self.x, &self.y] {
                let half = URL_SAFE_NO_PAD.decode(text).ok();
                point.extend(half.filter(|half| half.len() == length)?);
            }
            Some(point)
        };
        match (self.kty.as_str(), self.crv.as_str()) {
            ("RSA", _) => Some(Key::Rsa {
                modulus: number(&self.n)?,
                exponent: number(&self.e)?,
            }),
            ("EC", "P-256") => Some(Key::P256(point(32)?)),
            ("EC", "P-384") => Some(Key::P384(point(48)?)),
            (_, _) => None,
        }
    }
}

impl Key {
    /// Whether it signed the token; nothing when that cannot be told here.
    fn has_signed(&self, token: &Token) -> Option<bool> {
        let algorithm = token.header.alg.as_str();
        match self {
            Self::Rsa { modulus, exponent } => {
                let parameters: &RsaParameters = match algorithm {
                    "RS256" => &RSA_PKCS1_2048_8192_SHA256,
                    "RS384" => &RSA_PKCS1_2048_8192_SHA384,
                    "RS512" => &RSA_PKCS1_2048_8192_SHA512,
                    _other => return Some(false),
                };
                let key = RsaPublicKeyComponents {
                    n: modulus,
                    e: exponent,
                };
                let verified = key.verify(parameters, token.signed.as_bytes(), &token.signature);
                Some(verified.is_ok())
            }
            Self::P256(point) if algorithm == "ES256" => {
                Some(verified(&ECDSA_P256_SHA256_FIXED, point, token))
            }
            Self::P384(point) if algorithm == "ES384" => {
                Some(verified(&ECDSA_P384_SHA384_FIXED, point, token))
            }
            Self::P256(_) | Self::P384(_) => Some(false),
            Self::Other => None,
        }
    }
}

fn verified(algorithm: &'static EcdsaVerificationAlgorithm, point: &[u8], token: &Token) -> bool {
    UnparsedPublicKey::new(algorithm, point)
        .verify(token.signed.as_bytes(), &token.signature)
        .is_ok()
}
