//! Access checks: the host that a request is for, the site that it comes from, and the framing of its body.

use std::net::{IpAddr, Ipv6Addr};

use axum::http::uri::Authority;
use axum::http::{HeaderMap, Method, Uri, Version, header};

use super::Problem;
use crate::api::Code;

const SEC_FETCH_SITE: &str = "sec-fetch-site";

/// Checks that a request is for this server and does not come from another site. `allowed_hosts` are this
/// server's names in addition to addresses and `localhost`.
///
/// # Errors
/// Returns 400 for an invalid host, 421 for a host that is not this server, 403 for a request from a page of
/// another site, and 501 for an unknown transfer coding.
pub fn check(
    method: &Method,
    uri: &Uri,
    version: Version,
    headers: &HeaderMap,
    allowed_hosts: &[String],
) -> Result<(), Problem> {
    let host = host(headers, version)?;
    for authority in [Some(&host), uri.authority()].into_iter().flatten() {
        if !is_of_this_server(authority, allowed_hosts) {
            let detail = format!(
                "this server does not answer for the host {:?}; start it with --allowed-hosts to add a name",
                shown(authority.host())
            );
            return Err(Problem::new(Code::UnknownHost, detail));
        }
    }
    if !method.is_safe() {
        same_site(headers, &host)?;
    }
    plain_framing(headers)
}

/// Returns the host of a request. There must be exactly one (RFC 9112, section 3.2).
fn host(headers: &HeaderMap, version: Version) -> Result<Authority, Problem> {
    let malformed = |detail: &str| Problem::new(Code::InvalidHost, detail);
    let mut hosts = headers.get_all(header::HOST).iter();
    let host = hosts.next().ok_or_else(|| malformed(&format!("{version:?} without a Host header")))?;
    if hosts.next().is_some() {
        return Err(malformed("more than one Host header"));
    }
    let host = host.to_str().ok().and_then(|host| host.parse::<Authority>().ok());
    host.filter(is_plain).ok_or_else(|| {
        malformed("the Host header is invalid; it must be a name or an address, optionally with a port")
    })
}

/// Returns whether the authority is only a host and a port. User information is not allowed.
fn is_plain(authority: &Authority) -> bool {
    match authority.as_str().strip_prefix(authority.host()) {
        Some("") => true,
        Some(rest) => {
            rest.strip_prefix(':').is_some_and(|port| port.is_empty() || port.parse::<u16>().is_ok())
        }
        None => false,
    }
}

/// Returns whether the host is an address, `localhost` or a name of this server. If an attacker's domain
/// resolves to this address, its pages send that domain as the host and are refused
/// (<https://en.wikipedia.org/wiki/DNS_rebinding>).
fn is_of_this_server(authority: &Authority, allowed_hosts: &[String]) -> bool {
    let host = authority.host();
    let bracketed = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    match bracketed {
        Some(address) => address.parse::<Ipv6Addr>().is_ok(),
        None => {
            host.parse::<IpAddr>().is_ok()
                || host.eq_ignore_ascii_case("localhost")
                || allowed_hosts.iter().any(|allowed| host.eq_ignore_ascii_case(allowed))
        }
    }
}

/// Checks that no page of another site has sent the request. Browsers report the site in `Sec-Fetch-Site`
/// (<https://www.w3.org/TR/fetch-metadata/>), older browsers in `Origin` (RFC 6454). Other clients send
/// neither.
fn same_site(headers: &HeaderMap, host: &Authority) -> Result<(), Problem> {
    let mut sites = headers.get_all(SEC_FETCH_SITE).iter().peekable();
    let is_own = match sites.peek() {
        Some(_) => sites.all(|site| matches!(site.as_bytes(), b"same-origin" | b"none")),
        None => headers.get_all(header::ORIGIN).iter().all(|origin| {
            origin.to_str().ok().and_then(|origin| origin.parse::<Uri>().ok()).is_some_and(|origin| {
                let default = match origin.scheme_str() {
                    Some("http") => 80,
                    Some("https") => 443,
                    _ => return false,
                };
                let port = |authority: &Authority| authority.port_u16().unwrap_or(default);
                origin.authority().filter(|own| is_plain(own)).is_some_and(|own| {
                    own.host().eq_ignore_ascii_case(host.host()) && port(own) == port(host)
                })
            })
        }),
    };
    if is_own {
        return Ok(());
    }
    let detail = "a page of another site has sent this; only this server's own pages and clients other than browsers may change something or ask for work";
    Err(Problem::new(Code::CrossSite, detail))
}

/// Checks that the body is sent as it is or in chunks. No other transfer coding is supported (RFC 9112,
/// section 6.1).
fn plain_framing(headers: &HeaderMap) -> Result<(), Problem> {
    let mut codings = headers.get_all(header::TRANSFER_ENCODING).iter();
    let Some(coding) = codings.next() else { return Ok(()) };
    if coding.as_bytes().trim_ascii().eq_ignore_ascii_case(b"chunked") && codings.next().is_none() {
        return Ok(());
    }
    let detail = format!("Transfer-Encoding {coding:?} is not supported; send the body as it is, or chunked");
    Err(Problem::new(Code::UnsupportedTransferEncoding, detail))
}

fn shown(host: &str) -> String {
    host.chars().take(64).collect()
}
