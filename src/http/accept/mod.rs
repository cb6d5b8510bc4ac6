//! Content negotiation and conditional requests: the headers that choose the form of a response.

use axum::http::header::HeaderName;
use axum::http::{HeaderMap, header};

#[cfg(test)]
mod tests;

/// The default media type of a response.
const JSON: &str = "application/json";

/// The most entries of a header that are parsed. Browsers send fewer than ten.
const ENTRIES_MAX: usize = 64;

/// Returns the media type that the client prefers to JSON, if there is one; see [`preferred`].
pub fn asked_for<'a>(headers: &HeaderMap, media_types: &[&'a str]) -> Option<&'a str> {
    Some(preferred(headers, JSON, media_types)).filter(|chosen| *chosen != JSON)
}

/// Returns whether the client prefers `media_type` to JSON; see [`preferred`].
pub fn accepts(headers: &HeaderMap, media_type: &str) -> bool {
    asked_for(headers, &[media_type]).is_some()
}

/// Returns the media type, of `default` and `others`, to which `Accept` gives the most weight (RFC 9110,
/// section 12.5.1).
///
/// Each type has the weight of the most specific range that contains it. Among equal weights, the type with
/// the more specific range wins, then the type whose range comes first, then `default`. So `*/*` selects
/// `default`. If nothing is acceptable, the result is `default` as well, which is more useful to a client
/// than a refusal. Parameters other than `q` are not compared.
pub fn preferred<'a>(headers: &HeaderMap, default: &'a str, others: &[&'a str]) -> &'a str {
    let ranges: Vec<Entry> = entries(headers, &header::ACCEPT).collect();
    let mut best = (default, Match::of(default, &ranges));
    for &media_type in others {
        let found = Match::of(media_type, &ranges);
        if found.weight > 0 && found.rank() > best.1.rank() {
            best = (media_type, found);
        }
    }
    best.0
}

/// How a header matches a media type.
struct Match {
    /// Weight in thousandths; 0 is not acceptable.
    weight: u16,
    specificity: Specificity,
    place: usize,
}

/// How specific a range is that contains a media type.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Specificity {
    Any,
    Kind,
    Exact,
}

impl Match {
    fn of(media_type: &str, ranges: &[Entry]) -> Self {
        let nothing = Self { weight: 0, specificity: Specificity::Any, place: usize::MAX };
        let matches = ranges.iter().enumerate().filter_map(|(place, range)| {
            let specificity = Specificity::of(range.name, media_type)?;
            Some(Self { weight: range.weight, specificity, place })
        });
        // A range may come both with and without parameters. The larger weight counts.
        let key = |found: &Self| (found.specificity, found.weight, std::cmp::Reverse(found.place));
        matches.max_by_key(key).unwrap_or(nothing)
    }

    fn rank(&self) -> (u16, Specificity, std::cmp::Reverse<usize>) {
        (self.weight, self.specificity, std::cmp::Reverse(self.place))
    }
}

impl Specificity {
    /// Returns how specifically `range` contains `media_type`, or `None` if it doesn't.
    fn of(range: &str, media_type: &str) -> Option<Self> {
        if range.eq_ignore_ascii_case(media_type) {
            return Some(Self::Exact);
        }
        let kind = media_type.split('/').next().unwrap_or_default();
        match range.strip_suffix("/*")? {
            "*" => Some(Self::Any),
            range if range.eq_ignore_ascii_case(kind) => Some(Self::Kind),
            _ => None,
        }
    }
}

/// A content coding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Coding {
    /// RFC 1952.
    Gzip,
    /// RFC 1950.
    Deflate,
}

impl Coding {
    /// Returns the coding with this name.
    pub fn named(name: &str) -> Option<Self> {
        let is_named = |coding: &Self| coding.names().iter().any(|known| name.eq_ignore_ascii_case(known));
        [Self::Gzip, Self::Deflate].into_iter().find(is_named)
    }

    /// Returns the registered name.
    pub fn name(self) -> &'static str {
        self.names()[0]
    }

    fn names(self) -> &'static [&'static str] {
        match self {
            Self::Gzip => &["gzip", "x-gzip"],
            Self::Deflate => &["deflate"],
        }
    }
}

/// Returns whether the client accepts gzip and does not prefer the uncompressed form.
pub fn accepts_gzip(headers: &HeaderMap) -> bool {
    accepted_coding(headers, &[Coding::Gzip]).is_some()
}

/// Returns the coding of `known` that the client likes best, unless it prefers the uncompressed form (RFC 9110, section
/// 12.5.3). Of equal ones, the first is taken.
pub fn accepted_coding(headers: &HeaderMap, known: &[Coding]) -> Option<Coding> {
    let codings: Vec<Entry> = entries(headers, &header::ACCEPT_ENCODING).collect();
    let weight = |names: &[&str]| {
        let is_named = |coding: &&Entry| names.iter().any(|name| coding.name.eq_ignore_ascii_case(name));
        codings.iter().filter(is_named).map(|coding| coding.weight).max()
    };
    let others = weight(&["*"]);
    let weighed = known.iter().map(|&coding| (weight(coding.names()).or(others).unwrap_or(0), coding));
    // The last of several largest ones is the maximum.
    let (best, coding) = weighed.rev().max_by_key(|(weight, _)| *weight)?;
    (best > 0 && best >= weight(&["identity"]).unwrap_or(0)).then_some(coding)
}

/// Returns whether the body of a request has no encoding: `Content-Encoding` is absent, empty or `identity`.
pub fn is_identity(headers: &HeaderMap) -> bool {
    headers.get_all(header::CONTENT_ENCODING).iter().all(|line| {
        let is_plain =
            |coding: &str| coding.trim().is_empty() || coding.trim().eq_ignore_ascii_case("identity");
        line.to_str().is_ok_and(|line| line.split(',').all(is_plain))
    })
}

/// Returns the registered name of a media type that many clients send under another name.
pub fn known_media_type(media_type: &str) -> &str {
    match media_type {
        "image/jpg" | "image/pjpeg" => "image/jpeg",
        "image/x-png" => "image/png",
        other => other,
    }
}

/// Returns whether `If-None-Match` contains this `ETag`, by weak comparison (RFC 9110, section 13.1.2).
pub fn etag_matches(headers: &HeaderMap, etag: &str) -> bool {
    let opaque = |tag: &str| -> String { tag.strip_prefix("W/").unwrap_or(tag).to_owned() };
    let wanted = opaque(etag);
    lines(headers, &header::IF_NONE_MATCH)
        .flat_map(|line| split(line, ','))
        .take(ENTRIES_MAX)
        .any(|tag| tag == "*" || opaque(tag) == wanted)
}

/// An entry of a list with weights.
struct Entry<'a> {
    name: &'a str,
    /// Weight in thousandths.
    weight: u16,
}

/// Returns the entries of all lines of a header. Entries with an invalid weight are left out.
fn entries<'a>(headers: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = Entry<'a>> {
    lines(headers, name).flat_map(|line| split(line, ',')).take(ENTRIES_MAX).filter_map(|entry| {
        let mut parts = split(entry, ';');
        let name = parts.next().filter(|name| !name.is_empty())?;
        let weight = parts.find_map(|part| part.strip_prefix("q=").or(part.strip_prefix("Q=")));
        let weight = weight.map_or(Some(1.0), |weight| weight.parse().ok())?;
        (0.0..=1.0f32).contains(&weight).then(|| Entry { name, weight: (weight * 1_000.0).round() as u16 })
    })
}

/// Returns the lines of a header that are valid text.
fn lines<'a>(headers: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'a str> {
    headers.get_all(name).iter().filter_map(|line| line.to_str().ok())
}

/// Splits a header at separators outside of quotes.
fn split(text: &str, separator: char) -> impl Iterator<Item = &str> {
    let mut is_quoted = false;
    text.split(move |c| {
        is_quoted ^= c == '"';
        c == separator && !is_quoted
    })
    .map(str::trim)
}
