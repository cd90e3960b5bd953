//! Which URLs a tenant may name: what can be told without looking a name up.

use std::net::{IpAddr, Ipv4Addr};

use domain::Refusal;
use domain::scope::TenantMode;
use url::{Host, Url};

use crate::AllowList;

const LENGTH_MAX: usize = 2_048;
/// SSH, SMTP, PostgreSQL and Redis: services that may take an HTTP request for something else. And
/// none at all.
const PORTS_REFUSED: [u16; 5] = [0, 22, 25, 5432, 6379];

/// The URL, in the one spelling that is stored and sent to. Refused with `url-not-allowed`.
pub(crate) fn check(text: &str, mode: TenantMode, allowed: &AllowList) -> Result<Url, Refusal> {
    let refused = |reason| Err(Refusal::UrlNotAllowed { reason });
    if text.len() > LENGTH_MAX {
        return refused("it is longer than 2048 bytes");
    }
    // Before parsing, which would drop some of them without a word.
    if text.chars().any(|c| c.is_control() || c.is_whitespace()) {
        return refused("it has a space or a control character");
    }
    let Ok(url) = Url::parse(text) else { return refused("it is not a URL") };
    match (url.scheme(), mode) {
        ("https", _) | ("http", TenantMode::Test) => {}
        ("http", TenantMode::Live) => return refused("a live tenant's must be https"),
        _ => return refused("the scheme must be https"),
    }
    if !url.username().is_empty() || url.password().is_some() {
        return refused("it has a user name or a password");
    }
    if url.port_or_known_default().is_none_or(|port| PORTS_REFUSED.contains(&port)) {
        return refused("the port is another service's");
    }
    if url.as_str().len() > LENGTH_MAX {
        return refused("it is longer than 2048 bytes");
    }
    if !may_connect(&url, allowed) {
        return refused("the host is not on the public internet");
    }
    Ok(url)
}

/// Whether the host may be connected to, as far as its text tells: false for an address that is not
/// permitted, in whatever form (the parser knows `127.1` and `0x7f.1`), and for `localhost`. What
/// another name stands for is only known when it is resolved.
pub(crate) fn may_connect(url: &Url, allowed: &AllowList) -> bool {
    match url.host() {
        Some(Host::Ipv4(address)) => allowed.permits(IpAddr::V4(address)),
        Some(Host::Ipv6(address)) => allowed.permits(IpAddr::V6(address)),
        Some(Host::Domain(name)) => {
            let name = name.trim_end_matches('.');
            let is_local = name == "localhost" || name.ends_with(".localhost");
            !is_local || allowed.permits(IpAddr::V4(Ipv4Addr::LOCALHOST))
        }
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reason(text: &str, mode: TenantMode) -> Option<&'static str> {
        match check(text, mode, &AllowList::default()) {
            Ok(_) => None,
            Err(Refusal::UrlNotAllowed { reason }) => Some(reason),
            Err(other) => panic!("{other}"),
        }
    }

    #[track_caller]
    fn all_refused(texts: &[&str], because: &str) {
        for text in texts {
            for mode in [TenantMode::Test, TenantMode::Live] {
                assert_eq!(reason(text, mode), Some(because), "{text:?} in {mode:?}");
            }
        }
    }

    #[test]
    fn a_public_https_url_is_allowed_and_http_in_test_tenants_only() {
        for good in [
            "https://example.com/hook?x=1",
            "https://1.1.1.1:8443/",
            "https://[2606:4700::1111]/",
            "HTTPS://EXAMPLE.com",
        ] {
            assert_eq!(reason(good, TenantMode::Live), None, "{good}");
            assert_eq!(reason(good, TenantMode::Test), None, "{good}");
        }
        assert_eq!(reason("http://example.com", TenantMode::Test), None);
        assert_eq!(reason("http://example.com", TenantMode::Live), Some("a live tenant's must be https"));
        let url = check("https://EXAMPLE.com:443", TenantMode::Live, &AllowList::default()).unwrap();
        assert_eq!(url.as_str(), "https://example.com/", "one spelling");
    }

    #[test]
    fn a_host_inside_is_refused_however_it_is_written() {
        all_refused(
            &[
                "https://127.0.0.1",
                "https://127.0.0.1.",
                "https://localhost",
                "https://LOCALHOST.",
                "https://x.localhost",
                "https://127.1",
                "https://0x7f.1",
                "https://0x7f000001",
                "https://2130706433",
                "https://017700000001",
                "https://0",
                "https://%31%32%37.0.0.1",
                "https://\u{ff11}\u{ff12}\u{ff17}.0.0.1",
                "https://127\u{3002}0\u{3002}0\u{3002}1",
                "https://[::1]",
                "https://[::]",
                "https://[::ffff:127.0.0.1]",
                "https://[::ffff:a9fe:a9fe]",
                "https://[::127.0.0.1]",
                "https://[64:ff9b::7f00:1]",
                "https://[64:ff9b::169.254.169.254]",
                "https://[2002:7f00:1::]",
                "https://[fe80::1]",
                "https://[fc00::1]",
                "https://[ff02::1]",
                "https://0.0.0.0",
                "https://169.254.169.254/latest/meta-data",
                "https://10.1.2.3",
                "https://172.16.0.1",
                "https://192.168.0.1",
                "https://100.64.0.1",
                "https://224.0.0.1",
                "https://255.255.255.255",
            ],
            "the host is not on the public internet",
        );
    }

    #[test]
    fn the_rest_of_the_url_is_looked_at_too() {
        all_refused(
            &[
                "file:///etc/passwd",
                "gopher://example.com",
                "ftp://example.com",
                "javascript:1",
                "ws://example.com",
            ],
            "the scheme must be https",
        );
        all_refused(
            &["https://user:pw@example.com", "https://user@example.com", "https://:pw@example.com"],
            "it has a user name or a password",
        );
        all_refused(
            &[
                "https://example.com:22",
                "https://example.com:25",
                "https://example.com:5432",
                "https://example.com:6379",
                "https://example.com:0",
            ],
            "the port is another service's",
        );
        all_refused(
            &[
                "https://example.com/\r\nx: y",
                "https://exa\tmple.com",
                " https://example.com",
                "https://example.com/a b",
                "https://example.com/\0",
                "https://example.com/\u{85}",
            ],
            "it has a space or a control character",
        );
        all_refused(
            &["", "example.com", "/hook", "https://", "https://[::1", "https://a:99999", "https://1.2.3.256"],
            "it is not a URL",
        );
        all_refused(&[&format!("https://example.com/{}", "x".repeat(2_048))], "it is longer than 2048 bytes");
        let grows = format!("https://example.com/{}", "\u{e9}".repeat(700));
        all_refused(&[&grows], "it is longer than 2048 bytes");
    }

    #[test]
    fn what_the_operator_allows_is_an_address_and_nothing_else() {
        let allowed: AllowList = "127.0.0.1".parse().unwrap();
        let is_allowed = |text, mode| check(text, mode, &allowed).is_ok();
        assert!(is_allowed("http://127.0.0.1:8080/hook", TenantMode::Test));
        assert!(is_allowed("http://localhost:8080/hook", TenantMode::Test));
        assert!(!is_allowed("http://127.0.0.1:8080/hook", TenantMode::Live));
        assert!(!is_allowed("http://127.0.0.1:6379", TenantMode::Test));
        assert!(!is_allowed("http://127.0.0.2:8080", TenantMode::Test));
    }
}
