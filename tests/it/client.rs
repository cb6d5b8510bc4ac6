//! An HTTP client that validates every response against the OpenAPI document.

use std::io::Read;

use flate2::read::{GzDecoder, ZlibDecoder};
use reqwest::header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderName, HeaderValue};
use reqwest::multipart::Form;
use reqwest::{Body, Method, RequestBuilder, Response, ResponseBuilderExt};
use serde::Serialize;

use crate::schema::{self, Answer};

/// A client with the address of this machine.
#[derive(Clone, Debug)]
pub struct Client(reqwest::Client);

/// A request that is being built.
pub struct Request(RequestBuilder);

impl Client {
    pub fn new() -> Self {
        Self(reqwest::Client::builder().no_proxy().build().expect("a client"))
    }

    /// A client at another address of this machine.
    pub fn at(address: [u8; 4]) -> Self {
        let client = reqwest::Client::builder().no_proxy().local_address(std::net::IpAddr::from(address));
        Self(client.build().expect("a client"))
    }

    pub fn request(&self, method: Method, url: impl AsRef<str>) -> Request {
        Request(self.0.request(method, url.as_ref()))
    }

    pub fn get(&self, url: impl AsRef<str>) -> Request {
        self.request(Method::GET, url)
    }

    pub fn post(&self, url: impl AsRef<str>) -> Request {
        self.request(Method::POST, url)
    }

    pub fn put(&self, url: impl AsRef<str>) -> Request {
        self.request(Method::PUT, url)
    }

    pub fn delete(&self, url: impl AsRef<str>) -> Request {
        self.request(Method::DELETE, url)
    }
}

impl Request {
    pub fn header<N, V>(self, name: N, value: V) -> Self
    where
        HeaderName: TryFrom<N, Error: Into<axum::http::Error>>,
        HeaderValue: TryFrom<V, Error: Into<axum::http::Error>>,
    {
        Self(self.0.header(name, value))
    }

    pub fn body(self, body: impl Into<Body>) -> Self {
        Self(self.0.body(body))
    }

    pub fn json(self, body: &(impl Serialize + ?Sized)) -> Self {
        Self(self.0.json(body))
    }

    pub fn multipart(self, form: Form) -> Self {
        Self(self.0.multipart(form))
    }

    /// Sends the request and returns the response.
    ///
    /// # Panics
    /// Panics if the response does not match the document.
    pub async fn send(self) -> reqwest::Result<Response> {
        let (client, request) = self.0.build_split();
        let request = request?;
        let (method, path) = (request.method().clone(), request.url().path().to_owned());
        let response = client.execute(request).await?;
        let status = response.status();
        let media_type = header(&response, CONTENT_TYPE);
        let media_type = media_type.as_deref().and_then(|value| value.split(';').next());
        let is_json =
            media_type.is_some_and(|media_type| media_type.ends_with("json")) && method != Method::HEAD;
        let coding = header(&response, CONTENT_ENCODING);
        let checked = |body: Option<&[u8]>| {
            let answer = Answer { status: status.as_u16(), media_type, body };
            let checked = schema::check(method.as_str(), &path, &answer);
            checked.unwrap_or_else(|fault| panic!("{method} {path} {status}: {fault}\n{}", shown(body)));
        };
        if !is_json {
            checked(None);
            return Ok(response);
        }
        let mut whole = axum::http::Response::builder()
            .status(status)
            .version(response.version())
            .url(response.url().clone());
        whole.headers_mut().expect("no fault yet").extend(response.headers().clone());
        let bytes = response.bytes().await?;
        checked(Some(&unpacked(&bytes, coding.as_deref())));
        Ok(whole.body(bytes).expect("an answer").into())
    }
}

fn header(response: &Response, name: HeaderName) -> Option<String> {
    Some(response.headers().get(name)?.to_str().expect("text").to_owned())
}

fn unpacked(bytes: &[u8], coding: Option<&str>) -> Vec<u8> {
    let mut unpacked = Vec::new();
    match coding {
        None => unpacked.extend_from_slice(bytes),
        Some("gzip") => drop(GzDecoder::new(bytes).read_to_end(&mut unpacked).expect("gzip")),
        Some("deflate") => drop(ZlibDecoder::new(bytes).read_to_end(&mut unpacked).expect("zlib")),
        Some(other) => panic!("an unknown coding: {other}"),
    }
    unpacked
}

fn shown(body: Option<&[u8]>) -> String {
    String::from_utf8_lossy(body.unwrap_or_default()).chars().take(2_000).collect()
}
