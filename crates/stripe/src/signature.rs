//! The signature of a webhook: HMAC-SHA256 over the timestamp and the raw body.

use aws_lc_rs::hmac;
use chrono::TimeDelta;
use domain::Timestamp;

use crate::Secret;

/// How far the signature's time may lie from ours, in either direction: an old one may be a replay, and
/// one from the future would be good for as long.
pub const TOLERANCE: TimeDelta = TimeDelta::seconds(300);

/// No signature that we accept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the signature is missing, wrong, or too far from our time")]
pub struct BadSignature;

/// Checks a `Stripe-Signature` header (`t=SECONDS,v1=HEX[,v1=HEX..]`) over the body as it came in.
/// Any one v1 made with any one of the secrets will do, so that secrets can be rotated; v0, which any
/// test can make, never does. Only the lower-case hex that Stripe writes is a signature.
pub fn verify(body: &[u8], header: &str, secrets: &[Secret], now: Timestamp) -> Result<(), BadSignature> {
    let mut timestamp = None;
    let mut signatures = Vec::new();
    for part in header.split(',') {
        match part.split_once('=') {
            // Twice means that somebody is trying something.
            Some(("t", _)) if timestamp.is_some() => return Err(BadSignature),
            Some(("t", text)) => timestamp = Some(text),
            Some(("v1", hex)) => signatures.extend(bytes(hex)),
            _ => {}
        }
    }
    let timestamp = timestamp.filter(|text| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()));
    let timestamp = timestamp.ok_or(BadSignature)?;
    let seconds: i64 = timestamp.parse().map_err(|_| BadSignature)?;
    let is_near =
        now.timestamp().checked_sub(seconds).is_some_and(|apart| apart.abs() <= TOLERANCE.num_seconds());
    if !is_near {
        return Err(BadSignature);
    }
    let is_good = secrets.iter().any(|secret| {
        let key = hmac::Key::new(hmac::HMAC_SHA256, secret.reveal().as_bytes());
        let signed = [timestamp.as_bytes(), b".", body].concat();
        // In constant time.
        signatures.iter().any(|signature| hmac::verify(&key, &signed, signature).is_ok())
    });
    if is_good { Ok(()) } else { Err(BadSignature) }
}

/// The bytes of 64 lower-case hex digits.
fn bytes(hex: &str) -> Option<[u8; 32]> {
    let digits = hex.as_bytes();
    if digits.len() != 64 || !digits.iter().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
        return None;
    }
    let mut bytes = [0; 32];
    for (byte, pair) in bytes.iter_mut().zip(hex.as_bytes().chunks(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Headers made by Stripe's own SDK (`stripe` 16.1.0 for Python,
    /// `WebhookSignature.generate_signature_header(body, SECRET, SIGNED_AT)`).
    const MADE_BY_THE_SDK: [(&str, &str); 3] = [
        (BODY, "t=1769853600,v1=0ecb7d267ca46df571d17ae3228188bd366d79fc3009e5d87073e69d359b60ca"),
        (
            "{\"name\":\"caf\u{e9} \u{5c0f}\u{7c73}\"}",
            "t=1769853600,v1=fd0cc7884622299643a4ffac900461fdacd9c25f037dac87ac28ee3ede6ea163",
        ),
        ("", "t=1769853600,v1=b3031cc09231e094abdca539f845c3781f1412653af773fcbe62c00b25fc63ed"),
    ];
    const BODY: &str = r#"{"id":"evt_1","object":"event"}"#;
    const SECRET: &str = "whsec_tollgate_fixture";
    const SIGNED_AT: i64 = 1_769_853_600;

    fn secrets(texts: &[&str]) -> Vec<Secret> {
        texts.iter().map(|text| Secret::new((*text).to_owned())).collect()
    }

    fn at(seconds_later: i64) -> Timestamp {
        chrono::DateTime::from_timestamp(SIGNED_AT + seconds_later, 0).unwrap()
    }

    fn check(body: &str, header: &str) -> Result<(), BadSignature> {
        verify(body.as_bytes(), header, &secrets(&[SECRET]), at(0))
    }

    fn v1() -> &'static str {
        MADE_BY_THE_SDK[0].1.split_once("v1=").unwrap().1
    }

    #[test]
    fn what_stripes_own_sdk_signs_is_accepted() {
        for (body, header) in MADE_BY_THE_SDK {
            assert_eq!(check(body, header), Ok(()), "{body:?}");
            let rotated = secrets(&["whsec_the_next_one", SECRET]);
            assert_eq!(verify(body.as_bytes(), header, &rotated, at(0)), Ok(()));
            let others = secrets(&["whsec_the_next_one"]);
            assert_eq!(verify(body.as_bytes(), header, &others, at(0)), Err(BadSignature));
            assert_eq!(verify(body.as_bytes(), header, &[], at(0)), Err(BadSignature));
        }
    }

    /// A-16.
    #[test]
    fn anything_else_is_refused() {
        let (t, v1) = (SIGNED_AT, v1());
        for header in [
            String::new(),
            format!("t={t}"),
            format!("v1={v1}"),
            format!("t={t},v0={v1}"),
            format!("t=,v1={v1}"),
            format!("t=+{t},v1={v1}"),
            format!("t={t},t={t},v1={v1}"),
            format!("t={t}.0,v1={v1}"),
            format!("t=99999999999999999999,v1={v1}"),
            format!("t=-9223372036854775808,v1={v1}"),
            format!("t={t},v1={}", &v1[..63]),
            format!("t={t},v1={v1}0"),
            format!("t={},v1={v1}", t + 1),
            format!("t={t},v1={}", v1.to_uppercase()),
            format!("t={t};v1={v1}"),
        ] {
            assert_eq!(check(BODY, &header), Err(BadSignature), "{header}");
        }
        let header = format!("t={t},v1={v1}");
        for body in
            ["", "{\"id\":\"evt_1\",\"object\":\"event\"} ", "{\"object\":\"event\",\"id\":\"evt_1\"}"]
        {
            assert_eq!(check(body, &header), Err(BadSignature), "{body:?}");
        }
    }

    /// A-19.
    #[test]
    fn one_good_v1_of_several_will_do() {
        let bad = "0".repeat(64);
        let header = format!("t={SIGNED_AT},v1={bad},v1={},v0={bad},v1={}", "f".repeat(64), v1());
        assert_eq!(check(BODY, &header), Ok(()));
    }

    /// A-17, A-18.
    #[test]
    fn five_minutes_either_way_and_no_more() {
        for (seconds_later, answer) in [
            (0, Ok(())),
            (300, Ok(())),
            (-300, Ok(())),
            (301, Err(BadSignature)),
            (-301, Err(BadSignature)),
            (-3_600, Err(BadSignature)),
        ] {
            let header = MADE_BY_THE_SDK[0].1;
            let checked = verify(BODY.as_bytes(), header, &secrets(&[SECRET]), at(seconds_later));
            assert_eq!(checked, answer, "{seconds_later}");
        }
    }
}
