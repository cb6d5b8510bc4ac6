use axum::http::{HeaderMap, HeaderName, HeaderValue, header};

use super::*;

fn headers(name: &HeaderName, lines: &[&str]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for line in lines {
        headers.append(name, HeaderValue::from_bytes(line.as_bytes()).expect("a value"));
    }
    headers
}

fn chosen<'a>(accept: &[&str], media_types: &[&'a str]) -> &'a str {
    asked_for(&headers(&header::ACCEPT, accept), media_types).unwrap_or("JSON")
}

const CHROME_IMG: &str = "image/avif,image/webp,image/apng,image/svg+xml,image/*,*/*;q=0.8";
const FIREFOX_IMG: &str = "image/avif,image/webp,image/png,image/svg+xml,image/*;q=0.8,*/*;q=0.5";
const SAFARI_IMG: &str = "image/webp,image/avif,image/jxl,image/heic,image/heic-sequence,video/*;q=0.8,\
                          image/png,image/svg+xml,image/*;q=0.8,*/*;q=0.5";
const CHROME_ADDRESS: &str = "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,\
                              image/apng,*/*;q=0.8,application/signed-exchange;v=b3;q=0.7";

#[test]
fn an_image_of_a_page_gets_the_picture_and_its_address_bar_json() {
    for accept in [CHROME_IMG, FIREFOX_IMG, SAFARI_IMG] {
        assert_eq!(chosen(&[accept], &["image/png"]), "image/png", "{accept}");
        assert_eq!(chosen(&[accept], &["image/png", "text/plain"]), "image/png", "{accept}");
        assert_eq!(
            chosen(&[accept], &["image/svg+xml", "text/vnd.graphviz", "text/plain"]),
            "image/svg+xml",
            "{accept}"
        );
        assert_eq!(chosen(&[accept], &["text/csv"]), "JSON", "{accept}");
    }
    assert_eq!(chosen(&[CHROME_ADDRESS], &["image/png", "text/plain", "text/csv"]), "JSON");
}

#[test]
fn json_is_the_answer_unless_something_else_is_preferred() {
    let offered = ["image/png", "text/plain"];
    for accept in [
        "",
        "*/*",
        "*/*;q=0.1",
        "application/json",
        "application/*",
        "application/json, text/plain, */*",
        "application/json, image/png",
        "application/json, image/png;q=0.1",
        "application/json;q=0.5, */*;q=0.5",
        "application/json, text/javascript, */*; q=0.01",
        "image/png;q=0",
        "image/gif",
        "text/html",
        "*/*;q=1, text/plain;q=0.1, image/png;q=0.999",
        "image/*;q=0, text/*;q=0, */*",
    ] {
        assert_eq!(chosen(&[accept], &offered), "JSON", "{accept:?}");
    }
    assert_eq!(asked_for(&HeaderMap::new(), &offered), None);
    assert!(!accepts(&headers(&header::ACCEPT, &["*/*;q=1, text/csv;q=0.1"]), "text/csv"));
}

#[test]
fn the_most_specific_range_has_the_say_then_the_first_of_equals() {
    let offered = ["image/png", "text/plain"];
    for (accept, expected) in [
        ("IMAGE/PNG", "image/png"),
        ("Image/*", "image/png"),
        ("text/*", "text/plain"),
        ("image/png, application/json", "image/png"),
        ("text/plain, image/png", "text/plain"),
        ("image/png, */*", "image/png"),
        ("text/*, image/*", "text/plain"),
        ("text/*, image/png", "image/png"),
        ("*/*, image/png", "image/png"),
        ("application/json;q=0.1, image/png;q=0.5", "image/png"),
        ("application/json;q=0, */*", "image/png"),
        ("application/json;q=0, */*, image/png;q=0", "text/plain"),
        ("image/*;q=0.9, image/png;q=0.2, text/plain;q=0.3", "text/plain"),
        ("text/plain;format=flowed;q=0, text/plain", "text/plain"),
        ("text/plain;version=\"0,0;4\";q=0.5, application/json;q=0.4", "text/plain"),
    ] {
        assert_eq!(chosen(&[accept], &offered), expected, "{accept:?}");
    }
}

#[test]
fn several_lines_are_one_list() {
    assert_eq!(chosen(&["application/json;q=0.2", "image/png;q=0.9"], &["image/png"]), "image/png");
    assert_eq!(chosen(&["*/*", "image/png;q=0"], &["image/png"]), "JSON");
}

#[test]
fn another_default_than_json_is_measured_the_same_way() {
    let openmetrics = "application/openmetrics-text";
    for (accept, expected) in [
        ("*/*", "text/plain"),
        ("text/plain, application/openmetrics-text;q=0.5", "text/plain"),
        (
            "application/openmetrics-text;version=1.0.0;q=0.5,application/openmetrics-text;version=0.0.1;q=0.4,\
             text/plain;version=0.0.4;q=0.3,*/*;q=0.1",
            openmetrics,
        ),
    ] {
        let headers = headers(&header::ACCEPT, &[accept]);
        assert_eq!(preferred(&headers, "text/plain", &[openmetrics]), expected, "{accept}");
    }
}

#[test]
fn a_malformed_header_chooses_nothing_and_costs_little() {
    for accept in [
        ";;;",
        ",,,",
        "/",
        "*",
        "q=1",
        "image/png;q=",
        "image/png;q=x",
        "image/png;q=nan",
        "image/png;q=2",
        "\"",
        "image/png;q=-1",
        "/*",
        "image",
    ] {
        assert_eq!(chosen(&[accept], &["image/png"]), "JSON", "{accept:?}");
    }
    let mut long = headers(&header::ACCEPT, &[&"image/gif,".repeat(10_000), "image/png"]);
    assert_eq!(asked_for(&long, &["image/png"]), None);
    long.insert(header::ACCEPT, HeaderValue::from_bytes(b"image/png, \xff").expect("a value"));
    assert_eq!(asked_for(&long, &["image/png"]), None);
}

#[test]
fn gzip_is_sent_to_those_who_take_it() {
    for (lines, expected) in [
        (&[][..], false),
        (&[""], false),
        (&["gzip"], true),
        (&["gzip, deflate, br, zstd"], true),
        (&["GZIP;q=0.5"], true),
        (&["x-gzip"], true),
        (&["deflate", "gzip"], true),
        (&["*"], true),
        (&["gzip;q=0, *"], false),
        (&["*;q=0"], false),
        (&["identity"], false),
        (&["identity, gzip"], true),
        (&["identity;q=1, gzip;q=0.5"], false),
        (&["identity;q=0.5, *;q=0.8"], true),
        (&["gzip;q=x"], false),
        (&["br"], false),
    ] {
        assert_eq!(accepts_gzip(&headers(&header::ACCEPT_ENCODING, lines)), expected, "{lines:?}");
    }
}

#[test]
fn a_body_that_is_not_encoded_may_say_so() {
    for (lines, expected) in [
        (&[][..], true),
        (&[""], true),
        (&["identity"], true),
        (&["Identity"], true),
        (&["identity, IDENTITY"], true),
        (&["gzip"], false),
        (&["identity, gzip"], false),
        (&["identity", "br"], false),
        (&["\u{e9}"], false),
    ] {
        assert_eq!(is_identity(&headers(&header::CONTENT_ENCODING, lines)), expected, "{lines:?}");
    }
}

#[test]
fn pictures_are_known_by_their_other_names() {
    for (name, expected) in [
        ("image/jpg", "image/jpeg"),
        ("image/pjpeg", "image/jpeg"),
        ("image/x-png", "image/png"),
        ("image/png", "image/png"),
        ("text/plain", "text/plain"),
    ] {
        assert_eq!(known_media_type(name), expected);
    }
}

#[test]
fn an_etag_is_found_in_every_form_of_if_none_match() {
    for (lines, expected) in [
        (&[][..], false),
        (&["\"a,b\""], true),
        (&["W/\"a,b\""], true),
        (&["\"x\", \"a,b\""], true),
        (&["\"x\"", "W/\"y\" ,W/\"a,b\""], true),
        (&["*"], true),
        (&["\"a\""], false),
        (&["a,b"], false),
        (&["\"A,B\""], false),
        (&["w/\"a,b\""], false),
        (&[""], false),
        (&["\""], false),
    ] {
        for etag in ["\"a,b\"", "W/\"a,b\""] {
            assert_eq!(
                etag_matches(&headers(&header::IF_NONE_MATCH, lines), etag),
                expected,
                "{lines:?} {etag}"
            );
        }
    }
}
