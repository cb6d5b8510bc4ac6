//! What a client wants to get, or has already: the headers by which a request chooses its answer.

use axum::http::header::HeaderName;
use axum::http::{HeaderMap, header};

#[cfg(test)]
mod tests;

/// The form an answer has unless its client asks for another.
const JSON: &str = "application/json";

/// Entries of a header that are looked at; browsers send fewer than ten.
const ENTRIES_MAX: usize = 64;

/// Of the media types that an answer comes in besides JSON, the one that the client prefers to JSON, see [`preferred`].
pub fn asked_for<'a>(headers: &HeaderMap, media_types: &[&'a str]) -> Option<&'a str> {
    Some(preferred(headers, JSON, media_types)).filter(|chosen| *chosen != JSON)
}

/// Whether the client prefers `media_type` to JSON, see [`preferred`].
pub fn accepts(headers: &HeaderMap, media_type: &str) -> bool {
    asked_for(headers, &[media_type]).is_some()
}

/// The media type that `Accept` gives the most weight, of `default` and `others` (RFC 9110, section 12.5.1).
///
/// A type has the weight of the most specific range it is in. Of equal weights the one named more specifically wins,
/// then the one named first, then `default`; so `*/*` leaves it at `default`. Where nothing is acceptable it is
/// `default` as well, which is worth more to a client than a refusal. Parameters other than `q` are not compared.
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

/// What a header says about one media type.
struct Match {
    /// In thousandths; 0 is not acceptable.
    weight: u16,
    specificity: Specificity,
    place: usize,
}

/// How closely a range names a media type.
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
        // A range with parameters may come beside the same without: the larger weight counts.
        let key = |found: &Self| (found.specificity, found.weight, std::cmp::Reverse(found.place));
        matches.max_by_key(key).unwrap_or(nothing)
    }

    fn rank(&self) -> (u16, Specificity, std::cmp::Reverse<usize>) {
        (self.weight, self.specificity, std::cmp::Reverse(self.place))
    }
}

impl Specificity {
    /// How closely `range` names `media_type`, if it does.
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

/// Whether the answer may be compressed with gzip, and the client does not prefer it as it is (RFC 9110, section
/// 12.5.3).
pub fn accepts_gzip(headers: &HeaderMap) -> bool {
    let codings: Vec<Entry> = entries(headers, &header::ACCEPT_ENCODING).collect();
    let weight = |names: &[&str]| {
        let is_named = |coding: &&Entry| names.iter().any(|name| coding.name.eq_ignore_ascii_case(name));
        codings.iter().filter(is_named).map(|coding| coding.weight).max()
    };
    let gzip = weight(&["gzip", "x-gzip"]).or(weight(&["*"])).unwrap_or(0);
    gzip > 0 && gzip >= weight(&["identity"]).unwrap_or(0)
}

/// Whether the body of a request comes as it is: `Content-Encoding` is absent, empty or `identity`.
pub fn is_identity(headers: &HeaderMap) -> bool {
    headers.get_all(header::CONTENT_ENCODING).iter().all(|line| {
        let is_plain =
            |coding: &str| coding.trim().is_empty() || coding.trim().eq_ignore_ascii_case("identity");
        line.to_str().is_ok_and(|line| line.split(',').all(is_plain))
    })
}

/// The registered name of a media type that many clients call otherwise.
pub fn known_media_type(media_type: &str) -> &str {
    match media_type {
        "image/jpg" | "image/pjpeg" => "image/jpeg",
        "image/x-png" => "image/png",
        other => other,
    }
}

/// Whether `If-None-Match` names the answer that has this `ETag`, by weak comparison (RFC 9110, section 13.1.2).
pub fn etag_matches(headers: &HeaderMap, etag: &str) -> bool {
    let opaque = |tag: &str| -> String { tag.strip_prefix("W/").unwrap_or(tag).to_owned() };
    let wanted = opaque(etag);
    lines(headers, &header::IF_NONE_MATCH)
        .flat_map(|line| split(line, ','))
        .take(ENTRIES_MAX)
        .any(|tag| tag == "*" || opaque(tag) == wanted)
}

/// One entry of a list with weights.
struct Entry<'a> {
    name: &'a str,
    /// In thousandths.
    weight: u16,
}

/// The entries of a header, of all its lines; those with a weight that is none are left out.
fn entries<'a>(headers: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = Entry<'a>> {
    lines(headers, name).flat_map(|line| split(line, ',')).take(ENTRIES_MAX).filter_map(|entry| {
        let mut parts = split(entry, ';');
        let name = parts.next().filter(|name| !name.is_empty())?;
        let weight = parts.find_map(|part| part.strip_prefix("q=").or(part.strip_prefix("Q=")));
        let weight = weight.map_or(Some(1.0), |weight| weight.parse().ok())?;
        (0.0..=1.0f32).contains(&weight).then(|| Entry { name, weight: (weight * 1_000.0).round() as u16 })
    })
}

/// The lines of a header; those that are no text are left out.
fn lines<'a>(headers: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'a str> {
    headers.get_all(name).iter().filter_map(|line| line.to_str().ok())
}

/// The parts of a header between separators that don't stand in quotes.
fn split(text: &str, separator: char) -> impl Iterator<Item = &str> {
    let mut is_quoted = false;
    text.split(move |c| {
        is_quoted ^= c == '"';
        c == separator && !is_quoted
    })
    .map(str::trim)
}
