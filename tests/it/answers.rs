//! How responses are sent: media types, compression, conditional requests.

use reqwest::header::{ACCEPT, ACCEPT_ENCODING, IF_NONE_MATCH};
use reqwest::{Method, Response, StatusCode};

use crate::server::TestServer;

async fn get(server: &TestServer, path: &str, headers: &[(reqwest::header::HeaderName, &str)]) -> Response {
    let mut request = server.http.get(server.path(path));
    for (name, value) in headers {
        request = request.header(name, *value);
    }
    request.send().await.expect("an answer")
}

fn header<'a>(response: &'a Response, name: &str) -> &'a str {
    response.headers().get(name).map_or("", |value| value.to_str().expect("text"))
}

#[tokio::test(flavor = "multi_thread")]
async fn an_img_element_gets_the_picture() {
    let server = TestServer::start(&[]).await;
    let picture = "/v1/datasets/mnist/test/0";
    for (accept, media_type) in [
        ("image/avif,image/webp,image/apng,image/svg+xml,image/*,*/*;q=0.8", "image/png"),
        ("image/avif,image/webp,*/*", "application/json"),
        ("*/*", "application/json"),
        ("text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,*/*;q=0.8", "application/json"),
    ] {
        let response = get(&server, picture, &[(ACCEPT, accept)]).await;
        assert_eq!(header(&response, "content-type"), media_type, "{accept}");
        assert!(header(&response, "vary").contains("Accept"), "{:?}", response.headers());
    }
    let two_lines = get(&server, picture, &[(ACCEPT, "text/html"), (ACCEPT, "image/png")]).await;
    assert_eq!(header(&two_lines, "content-type"), "image/png");
    let job = server.with_model().await;
    let metrics = format!("/v1/jobs/{}/metrics", job["id"].as_str().expect("an id"));
    let response = get(&server, &metrics, &[(ACCEPT, "*/*;q=1, text/csv;q=0.1")]).await;
    assert_eq!(header(&response, "content-type"), "application/json");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_the_client_has_already_is_not_sent_again() {
    let server = TestServer::start(&[]).await;
    let first = get(&server, "/v1/networks", &[]).await;
    let tag = header(&first, "etag").to_owned();
    assert!(tag.starts_with('"'), "{tag}");
    assert_eq!(
        (header(&first, "cache-control"), header(&first, "x-content-type-options")),
        ("no-cache", "nosniff")
    );
    let again = get(&server, "/v1/networks", &[(IF_NONE_MATCH, &tag)]).await;
    assert_eq!(again.status(), StatusCode::NOT_MODIFIED);
    assert_eq!(header(&again, "etag"), tag);
    assert!(again.bytes().await.expect("no body").is_empty());
    assert_eq!(get(&server, "/v1/networks", &[(IF_NONE_MATCH, "\"other\"")]).await.status(), StatusCode::OK);
    let head =
        server.http.request(Method::HEAD, server.path("/v1/networks")).send().await.expect("an answer");
    assert_eq!((head.status(), header(&head, "etag")), (StatusCode::OK, tag.as_str()));
    let posted = server.post("/v1/affine", "application/json", r#"{"x": [1], "w": [[1]]}"#).await;
    assert_eq!((posted.status(), header(&posted, "cache-control")), (StatusCode::OK, "no-store"));
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn large_text_is_compressed_if_the_client_accepts_it() {
    let server = TestServer::start(&[]).await;
    let curve = "/v1/activations/sigmoid?points=10000";
    let plain = get(&server, curve, &[]).await;
    assert_eq!(header(&plain, "content-encoding"), "");
    let plain_tag = header(&plain, "etag").to_owned();
    let plain = plain.bytes().await.expect("bytes");
    let packed = get(&server, curve, &[(ACCEPT_ENCODING, "br, gzip")]).await;
    assert_eq!(header(&packed, "content-encoding"), "gzip");
    assert_ne!(header(&packed, "etag"), plain_tag);
    let packed = packed.bytes().await.expect("bytes");
    assert!(packed.len() < plain.len() * 2 / 3, "{} of {}", packed.len(), plain.len());
    let mut unpacked = Vec::new();
    std::io::Read::read_to_end(&mut flate2::read::GzDecoder::new(&packed[..]), &mut unpacked).expect("gzip");
    assert!(unpacked == plain, "the same text");
    let refused = get(&server, curve, &[(ACCEPT_ENCODING, "gzip;q=0, identity")]).await;
    assert_eq!(header(&refused, "content-encoding"), "");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_checkpoint_is_sent_complete_and_with_its_digest() {
    let server = TestServer::start(&[]).await;
    let job = server.with_model().await;
    let id = job["id"].as_str().expect("an id");
    let list = server.get_json(&format!("/v1/jobs/{id}/checkpoints")).await;
    let newest = &list["checkpoints"][0];
    let path = format!("/v1/jobs/{id}/checkpoints/{}", newest["epoch"]);
    let response = get(&server, &path, &[]).await;
    assert_eq!(header(&response, "etag"), format!("\"{}\"", newest["sha256"].as_str().expect("hex")));
    let tag = header(&response, "etag").to_owned();
    let bytes = response.bytes().await.expect("bytes");
    assert_eq!(bytes.len() as u64, newest["size_bytes"].as_u64().expect("a size"));
    assert_eq!(chainrule::blobs::digest(&bytes), newest["sha256"].as_str().expect("hex"));
    assert_eq!(get(&server, &path, &[(IF_NONE_MATCH, &tag)]).await.status(), StatusCode::NOT_MODIFIED);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn jpegs_under_another_name_and_bodies_declared_as_plain_are_accepted() {
    let server = TestServer::start(&[]).await;
    server.with_model().await;
    let png = get(&server, "/v1/datasets/mnist/test/0", &[(ACCEPT, "image/png")])
        .await
        .bytes()
        .await
        .expect("bytes");
    for media_type in ["image/jpg", "IMAGE/PNG", "image/png; name=a"] {
        let response = server.post("/v1/models/digits/predict", media_type, png.clone()).await;
        assert_eq!(response.status(), StatusCode::OK, "{media_type}");
    }
    let request =
        server.http.post(server.path("/v1/models/digits/predict")).header("Content-Type", "image/png");
    let response = request.header("Content-Encoding", "identity").body(png).send().await.expect("an answer");
    assert_eq!(response.status(), StatusCode::OK);
    server.stop().await;
}
