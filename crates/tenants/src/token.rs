//! The text of a customer token: a JWT of ours, signed with Ed25519, that lets one customer read
//! its own affairs.
//!
//! One key, one algorithm, one use (RFC 8725): a token whose header is not exactly the one that
//! [`TokenKey::sign`] writes is refused before its signature is looked at, so no header of a token
//! ever chooses a key or an algorithm, let alone an address to fetch one from.

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use db::{Error, Result};
use domain::Timestamp;
use domain::id::{CustomerId, TenantId};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

const TYPE: &str = "tollgate-customer+jwt";
const ISSUER: &str = "tollgate";
const AUDIENCE: &str = "tollgate-customer";
/// By how much the clocks of two of our machines may differ.
const LEEWAY_SECONDS: u64 = 30;
pub(crate) const LIFE_SECONDS_MIN: u64 = 60;
pub(crate) const LIFE_SECONDS_MAX: u64 = 24 * 3_600;
/// No token of ours is half as long.
const TOKEN_LENGTH_MAX: usize = 2_048;

const PEM_BEGIN: &str = "-----BEGIN PRIVATE KEY-----";
const PEM_END: &str = "-----END PRIVATE KEY-----";

/// The key that signs and verifies customer tokens.
pub struct TokenKey {
    header: Header,
    encoding: EncodingKey,
    decoding: DecodingKey,
    validation: Validation,
}

/// What a token says. All instants in seconds of real time since 1970.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Claims {
    iss: String,
    aud: String,
    sub: CustomerId,
    tid: TenantId,
    iat: u64,
    nbf: u64,
    exp: u64,
}

impl TokenKey {
    /// From an Ed25519 private key as PKCS#8 in PEM, as [`TokenKey::generate`] or
    /// `openssl genpkey -algorithm ed25519` writes it. An error says nothing of the text.
    pub fn from_pem(pem: &str) -> Result<TokenKey> {
        let broken = || Error::broken("the token key is not an Ed25519 private key (PKCS#8 in PEM)");
        let der = der_of(pem).ok_or_else(broken)?;
        let pair = Ed25519KeyPair::from_pkcs8(&der).map_err(|_| broken())?;
        let public = pair.public_key().as_ref();
        let mut header = Header::new(Algorithm::EdDSA);
        header.typ = Some(TYPE.to_owned());
        let digest: [u8; 32] = Sha256::digest(public).into();
        header.kid = Some(digest.iter().take(16).map(|byte| format!("{byte:02x}")).collect());
        Ok(TokenKey {
            header,
            encoding: EncodingKey::from_ed_der(&der),
            decoding: DecodingKey::from_ed_der(public),
            validation: validation(),
        })
    }

    /// A new key as PEM text, for whoever keeps it.
    pub fn generate() -> Result<String> {
        let der = Ed25519KeyPair::generate_pkcs8v1(&SystemRandom::new())
            .map_err(|_| Error::broken("no key could be generated"))?;
        // 48 bytes of DER are 64 characters: one line of PEM.
        Ok(format!("{PEM_BEGIN}\n{}\n{PEM_END}\n", BASE64_STANDARD.encode(der)))
    }

    /// A token for `life_seconds` from `now`, in real time.
    pub(crate) fn sign(
        &self,
        tenant: TenantId,
        customer: CustomerId,
        now: Timestamp,
        life_seconds: u64,
    ) -> Result<String> {
        let now = seconds(now)?;
        let claims = Claims {
            iss: ISSUER.to_owned(),
            aud: AUDIENCE.to_owned(),
            sub: customer,
            tid: tenant,
            iat: now,
            nbf: now,
            exp: now + life_seconds,
        };
        jsonwebtoken::encode(&self.header, &claims, &self.encoding)
            .map_err(|error| Error::Fault(Box::new(error)))
    }

    /// Whose token this is, if it is one of ours and good at `now`, which is real time.
    pub(crate) fn verify(&self, token: &str, now: Timestamp) -> Option<(TenantId, CustomerId)> {
        if token.len() > TOKEN_LENGTH_MAX || jsonwebtoken::decode_header(token).ok()? != self.header {
            return None;
        }
        // Signature, iss, aud, exp and nbf; it reads the same clock that `now` was read from.
        let claims = jsonwebtoken::decode::<Claims>(token, &self.decoding, &self.validation).ok()?.claims;
        let is_issued = claims.iat <= seconds(now).ok()? + LEEWAY_SECONDS;
        let lives_long_enough_at_most = claims.exp.checked_sub(claims.iat)? <= LIFE_SECONDS_MAX;
        (is_issued && lives_long_enough_at_most).then_some((claims.tid, claims.sub))
    }
}

impl std::fmt::Debug for TokenKey {
    /// The public name only.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TokenKey").field("kid", &self.header.kid).finish_non_exhaustive()
    }
}

fn validation() -> Validation {
    let mut validation = Validation::new(Algorithm::EdDSA);
    validation.set_required_spec_claims(&["exp", "nbf", "iss", "aud", "sub"]);
    validation.set_issuer(&[ISSUER]);
    validation.set_audience(&[AUDIENCE]);
    validation.validate_nbf = true;
    validation.leeway = LEEWAY_SECONDS;
    validation
}

fn der_of(pem: &str) -> Option<Vec<u8>> {
    let body = pem.trim().strip_prefix(PEM_BEGIN)?.strip_suffix(PEM_END)?;
    BASE64_STANDARD.decode(body.split_ascii_whitespace().collect::<String>()).ok()
}

fn seconds(instant: Timestamp) -> Result<u64> {
    u64::try_from(instant.timestamp()).map_err(|_| Error::broken("a clock before 1970"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use base64::prelude::BASE64_URL_SAFE_NO_PAD;
    use serde_json::{Value, json};
    use uuid::Uuid;

    /// A key, and the means to forge with it.
    struct Forge {
        key: TokenKey,
        pair: Ed25519KeyPair,
        now: Timestamp,
    }

    impl Forge {
        fn new() -> Forge {
            let pem = TokenKey::generate().unwrap();
            let pair = Ed25519KeyPair::from_pkcs8(&der_of(&pem).unwrap()).unwrap();
            Forge { key: TokenKey::from_pem(&pem).unwrap(), pair, now: chrono::Utc::now() }
        }

        fn header(&self) -> Value {
            json!({ "typ": TYPE, "alg": "EdDSA", "kid": self.key.header.kid })
        }

        fn claims(&self) -> Value {
            let now = self.now.timestamp();
            json!({
                "iss": "tollgate", "aud": "tollgate-customer", "sub": customer(), "tid": tenant(),
                "iat": now, "nbf": now, "exp": now + 3_600,
            })
        }

        /// Signs whatever it is given.
        fn signed(&self, header: &str, claims: &str) -> String {
            let message = format!("{}.{}", encoded(header), encoded(claims));
            let signature = self.pair.sign(message.as_bytes());
            format!("{message}.{}", encoded(signature.as_ref()))
        }

        fn with_header(&self, name: &str, value: Value) -> String {
            let mut header = self.header();
            set(&mut header, name, value);
            self.signed(&header.to_string(), &self.claims().to_string())
        }

        fn with_claim(&self, name: &str, value: Value) -> String {
            let mut claims = self.claims();
            set(&mut claims, name, value);
            self.signed(&self.header().to_string(), &claims.to_string())
        }

        fn accepts(&self, token: &str) -> bool {
            self.key.verify(token, self.now) == Some((tenant(), customer()))
        }

        #[track_caller]
        fn refuses(&self, tokens: impl IntoIterator<Item = String>) {
            for token in tokens {
                assert_eq!(self.key.verify(&token, self.now), None, "{token}");
            }
        }
    }

    /// Null takes the member away.
    fn set(object: &mut Value, name: &str, value: Value) {
        let members = object.as_object_mut().unwrap();
        if value.is_null() {
            members.remove(name)
        } else {
            members.insert(name.to_owned(), value)
        };
    }

    fn encoded(part: impl AsRef<[u8]>) -> String {
        BASE64_URL_SAFE_NO_PAD.encode(part)
    }

    fn tenant() -> TenantId {
        TenantId::from_uuid(Uuid::from_u128(1))
    }

    fn customer() -> CustomerId {
        CustomerId::from_uuid(Uuid::from_u128(2))
    }

    #[test]
    fn what_we_sign_we_accept_and_the_forge_signs_the_same_way() {
        let forge = Forge::new();
        let token = forge.key.sign(tenant(), customer(), forge.now, 60).unwrap();
        assert!(forge.accepts(&token));
        assert!(forge.accepts(&forge.with_claim("exp", json!(forge.now.timestamp() + 60))));
        assert!(token.len() < TOKEN_LENGTH_MAX / 2);
        assert!(!Forge::new().accepts(&token), "another key");
    }

    #[test]
    fn no_other_algorithm_is_taken() {
        let forge = Forge::new();
        let unsigned = |alg: &str| {
            let mut header = forge.header();
            set(&mut header, "alg", json!(alg));
            format!("{}.{}.", encoded(header.to_string()), encoded(forge.claims().to_string()))
        };
        forge.refuses(["none", "None", "nOnE", "NONE", ""].map(unsigned));
        forge.refuses(
            ["none", "HS256", "RS256", "ES256", "PS256", "Ed25519", "eddsa"]
                .map(|alg| forge.with_header("alg", json!(alg))),
        );
        forge.refuses([
            forge.with_header("alg", Value::Null),
            forge.with_header("alg", json!(["EdDSA"])),
            forge.with_header("alg", json!(["none", "EdDSA"])),
        ]);
        // HS256 with the public key as its secret.
        let mut header = forge.key.header.clone();
        header.alg = Algorithm::HS256;
        let public = EncodingKey::from_secret(forge.pair.public_key().as_ref());
        forge.refuses([jsonwebtoken::encode(&header, &forge.claims(), &public).unwrap()]);
    }

    #[test]
    fn a_header_chooses_no_key_and_no_use() {
        let forge = Forge::new();
        let kid = forge.header()["kid"].as_str().unwrap().to_owned();
        forge.refuses(
            ["", "other", "../../dev/zero", "' or 1=1--", "http://127.0.0.1/k", &kid.to_uppercase()]
                .map(|kid| forge.with_header("kid", json!(kid))),
        );
        let url = "http://127.0.0.1:1/key";
        forge.refuses([
            forge.with_header("kid", Value::Null),
            forge.with_header("jku", json!(url)),
            forge.with_header("x5u", json!(url)),
            forge.with_header("x5c", json!(["AAAA"])),
            forge.with_header(
                "jwk",
                json!({ "kty": "OKP", "crv": "Ed25519", "x": encoded(forge.pair.public_key()) }),
            ),
            forge.with_header("crit", json!(["exp"])),
            forge.with_header("b64", json!(false)),
            forge.with_header("cty", json!("JWT")),
            forge.with_header("typ", json!("JWT")),
            forge.with_header("typ", json!("at+jwt")),
            forge.with_header("typ", Value::Null),
        ]);
    }

    #[test]
    fn every_claim_counts() {
        let forge = Forge::new();
        let now = forge.now.timestamp();
        let cases = [
            (
                "exp",
                vec![
                    Value::Null,
                    json!(now - 31),
                    json!("9999999999"),
                    json!(9.5e9),
                    json!(1e300),
                    json!(-1),
                    json!(u64::MAX),
                ],
            ),
            ("exp", vec![json!(now + 24 * 3_600 + 1), json!([now + 60])]),
            ("nbf", vec![Value::Null, json!(now + 120), json!("0"), json!(0.5), json!(-1)]),
            ("iat", vec![Value::Null, json!(now + 120), json!(now - 24 * 3_600), json!("0")]),
            ("iss", vec![Value::Null, json!("Tollgate"), json!(""), json!(["tollgate"]), json!(7)]),
            ("aud", vec![Value::Null, json!("tollgate"), json!(""), json!(["tollgate-customer"]), json!([])]),
            ("sub", vec![Value::Null, json!(""), json!(tenant()), json!(7), json!("cus_")]),
            ("tid", vec![Value::Null, json!(""), json!(customer()), json!(null)]),
            ("scope", vec![json!("admin")]),
        ];
        for (name, values) in cases {
            forge.refuses(values.into_iter().map(|value| forge.with_claim(name, value)));
        }
        let twice = forge.claims().to_string().replacen("{", r#"{"exp":99999999999,"#, 1);
        forge.refuses([forge.signed(&forge.header().to_string(), &twice)]);
    }

    #[test]
    fn a_token_that_was_touched_is_refused() {
        let forge = Forge::new();
        let token = forge.key.sign(tenant(), customer(), forge.now, 3_600).unwrap();
        let parts: Vec<&str> = token.split('.').collect();
        let [header, claims, signature] = parts[..] else { panic!("three parts") };
        let mut other_tenant = forge.claims();
        set(&mut other_tenant, "tid", json!(TenantId::from_uuid(Uuid::from_u128(3))));
        forge.refuses([
            format!("{header}.{}.{signature}", encoded(other_tenant.to_string())),
            format!("{header}.{claims}."),
            format!("{header}.{claims}"),
            format!("{header}.{claims}.{}", &signature[..signature.len() - 1]),
            format!("{header}.{claims}.{signature}=="),
            format!("{header}.{claims}.{signature}.{signature}"),
            format!("{header}.{claims}.{}", encoded([0; 64])),
            format!(" {token}"),
            format!("{token}\n"),
            format!("{header}.{claims}.{}", signature.repeat(20_000)),
            "x".repeat(1_000_000),
            ".".repeat(1_000),
            String::new(),
        ]);
        for at in 0..token.len() {
            let mut flipped = token.clone().into_bytes();
            flipped[at] ^= 1;
            // The last character's low bits are padding, which must be zero.
            forge.refuses([String::from_utf8(flipped).unwrap()]);
        }
    }

    #[test]
    fn a_key_is_pkcs8_in_pem_and_nothing_else() {
        let pem = TokenKey::generate().unwrap();
        assert!(TokenKey::from_pem(&format!("\n{}\n\n", pem.replace('\n', "\r\n"))).is_ok());
        for bad in [
            "",
            "secret",
            &pem[..pem.len() / 2],
            &pem.replace("PRIVATE", "PUBLIC"),
            &format!("{PEM_BEGIN}\n{}\n{PEM_END}", BASE64_STANDARD.encode([0; 48])),
        ] {
            let error = TokenKey::from_pem(bad).unwrap_err().to_string();
            assert_eq!(error, "the token key is not an Ed25519 private key (PKCS#8 in PEM)");
        }
        let key = TokenKey::from_pem(&pem).unwrap();
        assert!(!format!("{key:?}").contains(pem.lines().nth(1).unwrap()));
    }
}
