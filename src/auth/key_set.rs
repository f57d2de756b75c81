//! A set of public keys as an identity provider publishes it (RFC 7517), read strictly and bounded.

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use jsonwebtoken::{
    Algorithm, DecodingKey,
    jwk::{AlgorithmParameters, EllipticCurve, Jwk, KeyAlgorithm, PublicKeyUse},
};
use serde::Deserialize;
use serde_json::Value;

use super::{InvalidToken, refusal::quoted};

/// Larger documents are refused. A key has about 400 bytes.
pub(super) const MAX_BYTES: usize = 256 * 1024;
/// More keys than this are refused: nobody rotates that many.
const MAX_KEYS: usize = 100;
/// Shortest RSA modulus, bytes: 2,048 bits, as RFC 7518 section 3.3 asks.
const SHORTEST_MODULUS_BYTES: usize = 256;

/// Public keys, each with the one algorithm it verifies.
#[derive(Default)]
pub(super) struct KeySet {
    keys: Vec<PublicKey>,
}

pub(super) struct PublicKey {
    id: Option<String>,
    pub(super) algorithm: Algorithm,
    pub(super) key: DecodingKey,
}

#[derive(Deserialize)]
struct Document {
    keys: Vec<Value>,
}

impl KeySet {
    /// Reads a document. Keys for other purposes and of other kinds are left out, as RFC 7517
    /// section 5 asks; a document without any usable key is an error.
    pub(super) fn parse(document: &[u8]) -> Result<Self, String> {
        if document.len() > MAX_BYTES {
            return Err(format!("is larger than {MAX_BYTES} bytes"));
        }
        let document: Document =
            serde_json::from_slice(document).map_err(|error| format!("is not a JSON Web Key Set ({error})"))?;
        if document.keys.len() > MAX_KEYS {
            return Err(format!("has {} keys, more than {MAX_KEYS}", document.keys.len()));
        }
        let (keys, unusable): (Vec<_>, Vec<_>) = document.keys.into_iter().map(public_key).partition(Result::is_ok);
        let keys: Vec<PublicKey> = keys.into_iter().flatten().collect();
        if keys.is_empty() {
            let reasons: Vec<_> = unusable.into_iter().filter_map(Result::err).take(3).collect();
            let why = if reasons.is_empty() { "it is empty".to_owned() } else { reasons.join("; ") };
            return Err(format!("has no key for RS256, ES256 or EdDSA signatures ({why})"));
        }
        Ok(Self { keys })
    }

    pub(super) fn len(&self) -> usize {
        self.keys.len()
    }

    /// The key that a token's header names; without a name the only one of that algorithm.
    pub(super) fn find(&self, algorithm: Algorithm, id: Option<&str>) -> Result<&PublicKey, InvalidToken> {
        let mut fitting = self.keys.iter().filter(|key| key.algorithm == algorithm);
        let name = || format!("{algorithm:?}");
        if let Some(id) = id {
            let unknown = || InvalidToken::UnknownKey { algorithm: name(), kid: quoted(id) };
            return fitting.find(|key| key.id.as_deref() == Some(id)).ok_or_else(unknown);
        }
        match (fitting.next(), fitting.count()) {
            (Some(key), 0) => Ok(key),
            (first, more) => {
                Err(InvalidToken::NoKeyNamed { algorithm: name(), keys: more + usize::from(first.is_some()) })
            }
        }
    }
}

fn public_key(value: Value) -> Result<PublicKey, String> {
    let jwk: Jwk = serde_json::from_value(value).map_err(|error| error.to_string())?;
    let id = jwk.common.key_id.clone();
    let shown = id.as_deref().map_or_else(|| "a key without `kid`".to_owned(), |id| format!("key `{}`", quoted(id)));
    if jwk.common.public_key_use.as_ref().is_some_and(|purpose| *purpose != PublicKeyUse::Signature) {
        return Err(format!("{shown} is not for signatures"));
    }
    let (algorithm, named) = match &jwk.algorithm {
        AlgorithmParameters::RSA(rsa) => {
            let modulus = BASE64_URL_SAFE_NO_PAD.decode(&rsa.n).unwrap_or_default();
            if modulus.iter().skip_while(|byte| **byte == 0).count() < SHORTEST_MODULUS_BYTES {
                return Err(format!("{shown} is an RSA key of fewer than 2,048 bits"));
            }
            (Algorithm::RS256, KeyAlgorithm::RS256)
        }
        AlgorithmParameters::EllipticCurve(curve) if curve.curve == EllipticCurve::P256 => {
            (Algorithm::ES256, KeyAlgorithm::ES256)
        }
        AlgorithmParameters::OctetKeyPair(pair) if pair.curve == EllipticCurve::Ed25519 => {
            (Algorithm::EdDSA, KeyAlgorithm::EdDSA)
        }
        _ => return Err(format!("{shown} is of another kind")),
    };
    // A key that names its algorithm is for that one only.
    if jwk.common.key_algorithm.is_some_and(|given| given != named) {
        return Err(format!("{shown} is for another algorithm"));
    }
    let key = DecodingKey::from_jwk(&jwk).map_err(|error| format!("{shown} cannot be used ({error})"))?;
    Ok(PublicKey { id, algorithm, key })
}
