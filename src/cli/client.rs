use std::time::Duration;

use futures_util::StreamExt;
use reqwest::{Response, StatusCode};
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::CliError;
use crate::api::{Job, Problem};
use crate::job::JobId;

/// How long a server may take to accept a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// How long a server may be silent within a response. Event streams send something every ten seconds.
const READ_TIMEOUT: Duration = Duration::from_secs(30);

/// A client of one server's HTTP API.
pub struct Client {
    http: reqwest::Client,
    server: String,
}

/// One server-sent event.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ServerEvent {
    /// The value of `Last-Event-ID` to continue after this event.
    pub id: String,
    /// The event's type: `state`, `progress`, `epoch` or `end`.
    pub kind: String,
    /// The data: an object of JSON.
    pub data: String,
}

impl Client {
    /// Creates a client for the server at this URL.
    pub fn new(server: &str) -> Result<Self, CliError> {
        Self::patient(server, READ_TIMEOUT)
    }

    /// Creates a client for the server at this URL, which may be silent for this long.
    pub fn patient(server: &str, read_timeout: Duration) -> Result<Self, CliError> {
        let usage = |what: String| CliError::Usage {
            what,
            hint: "write it as http://HOST:PORT, such as http://127.0.0.1:8080".to_owned(),
        };
        let url = reqwest::Url::parse(server).map_err(|error| {
            let why = if server.contains("://") { error.to_string() } else { "it lacks http://".to_owned() };
            usage(format!("{server:?} is not the address of a server: {why}"))
        })?;
        if url.scheme() != "http" {
            return Err(usage(format!(
                "{server:?} can't be reached: this program speaks http, not {}",
                url.scheme()
            )));
        }
        let http = reqwest::Client::builder()
            .no_proxy()
            .connect_timeout(CONNECT_TIMEOUT)
            .read_timeout(read_timeout)
            .build()
            .map_err(|error| CliError::failed("can't create a client", error))?;
        Ok(Self { http, server: server.trim_end_matches('/').to_owned() })
    }

    /// Sends `GET path`.
    pub async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, CliError> {
        self.json(self.http.get(self.url(path))).await
    }

    /// Sends `GET path` with the query parameters that have a value.
    pub async fn list(&self, path: &str, query: &[(&str, Option<String>)]) -> Result<Value, CliError> {
        let url = reqwest::Url::parse(&self.url(path));
        let mut url = url.map_err(|error| CliError::failed("can't create a request", error))?;
        for (name, value) in query {
            if let Some(value) = value {
                url.query_pairs_mut().append_pair(name, value);
            }
        }
        self.json(self.http.get(url)).await
    }

    /// Sends `PUT path` with a JSON body.
    pub async fn put<T: DeserializeOwned>(&self, path: &str, body: &Value) -> Result<T, CliError> {
        self.json(self.http.put(self.url(path)).json(body)).await
    }

    /// Sends `DELETE path`.
    pub async fn delete(&self, path: &str) -> Result<(), CliError> {
        self.send(self.http.delete(self.url(path))).await.map(|_| ())
    }

    /// Sends `POST path` without a body.
    pub async fn post_nothing<T: DeserializeOwned>(&self, path: &str) -> Result<T, CliError> {
        self.json(self.http.post(self.url(path))).await
    }

    /// Sends `POST path` with a body of this media type.
    pub async fn post<T: DeserializeOwned>(
        &self,
        path: &str,
        media_type: &str,
        body: impl Into<reqwest::Body>,
    ) -> Result<T, CliError> {
        self.json(self.http.post(self.url(path)).header("Content-Type", media_type).body(body)).await
    }

    /// Sends `GET path`. Returns the body and the header `Repr-Digest`.
    pub async fn download(&self, path: &str) -> Result<(Vec<u8>, Option<String>), CliError> {
        let response = self.send(self.http.get(self.url(path))).await?;
        let digest = response.headers().get("repr-digest").and_then(|digest| digest.to_str().ok());
        let digest = digest.map(str::to_owned);
        let bytes = response.bytes().await.map_err(|error| CliError::failed(UNREADABLE, error))?;
        Ok((bytes.into(), digest))
    }

    /// Sends `POST path` with a file and the header `Repr-Digest`.
    pub async fn upload<T: DeserializeOwned>(
        &self,
        path: &str,
        file: Vec<u8>,
        digest: &str,
    ) -> Result<T, CliError> {
        let request = self.http.post(self.url(path)).header("Content-Type", "application/octet-stream");
        self.json(request.header("Repr-Digest", digest).body(file)).await
    }

    /// Sends `POST path` with a JSON body and asks for a response in plain text.
    pub async fn post_for_text(&self, path: &str, body: &Value) -> Result<String, CliError> {
        let request = self.http.post(self.url(path)).header("Accept", "text/plain").json(body);
        let response = self.send(request).await?;
        response.text().await.map_err(|error| CliError::failed(UNREADABLE, error))
    }

    /// Creates a training job.
    pub async fn create_job(&self, request: &Value) -> Result<Job, CliError> {
        self.post("/v1/jobs", "application/json", request.to_string()).await
    }

    /// Calls `each` for every event of a job after the event `last`, until it returns `false` or the stream
    /// ends.
    pub async fn events(
        &self,
        id: JobId,
        last: &str,
        mut each: impl FnMut(ServerEvent) -> Result<bool, CliError>,
    ) -> Result<(), CliError> {
        let mut request = self.http.get(self.url(&format!("/v1/jobs/{id}/events")));
        if !last.is_empty() {
            request = request.header("Last-Event-ID", last);
        }
        let response = self.send(request).await?;
        let mut chunks = response.bytes_stream();
        let mut parser = EventParser::default();
        while let Some(chunk) = chunks.next().await {
            let chunk = chunk.map_err(|error| self.no_server(&error))?;
            for event in parser.push(&chunk) {
                if !each(event)? {
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    fn url(&self, path: &str) -> String {
        format!("{}{path}", self.server)
    }

    async fn json<T: DeserializeOwned>(&self, request: reqwest::RequestBuilder) -> Result<T, CliError> {
        let response = self.send(request).await?;
        response.json().await.map_err(|error| CliError::failed(UNREADABLE, error))
    }

    async fn send(&self, request: reqwest::RequestBuilder) -> Result<Response, CliError> {
        let response = request.send().await.map_err(|error| self.no_server(&error))?;
        if response.status().is_success() {
            return Ok(response);
        }
        let status = response.status();
        let problem = response.json::<Problem>().await;
        Err(problem.unwrap_or_else(|_| other_problem(status)).into())
    }

    fn no_server(&self, error: &reqwest::Error) -> CliError {
        let mut source: &dyn std::error::Error = error;
        while let Some(deeper) = source.source() {
            source = deeper;
        }
        CliError::NoServer { url: self.server.clone(), why: source.to_string() }
    }
}

const UNREADABLE: &str = "the server's response can't be read";

/// Deserialises a response.
pub fn parsed<T: DeserializeOwned>(answer: Value) -> Result<T, CliError> {
    serde_json::from_value(answer).map_err(|error| CliError::failed(UNREADABLE, error))
}

/// The problem for an error response without problem+json. A chainrule server never sends one.
fn other_problem(status: StatusCode) -> Problem {
    Problem {
        kind: "about:blank".to_owned(),
        title: status.canonical_reason().unwrap_or("Error").to_owned(),
        status: status.as_u16(),
        detail: "the response is not from a chainrule server".to_owned(),
        code: "unknown".to_owned(),
        request_id: None,
        errors: Vec::new(),
    }
}

/// A parser of server-sent events (HTML standard, section 9.2). It handles the parts that this server
/// sends: the fields `event`, `id` and `data`, and comments.
#[derive(Default)]
struct EventParser {
    rest: Vec<u8>,
    event: ServerEvent,
}

impl EventParser {
    fn push(&mut self, chunk: &[u8]) -> Vec<ServerEvent> {
        self.rest.extend_from_slice(chunk);
        let mut events = Vec::new();
        while let Some(end) = self.rest.iter().position(|&byte| byte == b'\n') {
            let line: Vec<u8> = self.rest.drain(..=end).collect();
            let line = String::from_utf8_lossy(&line);
            let line = line.trim_end_matches(['\r', '\n']);
            if line.is_empty() {
                let event = std::mem::take(&mut self.event);
                if !event.data.is_empty() {
                    events.push(event);
                }
                continue;
            }
            let (field, value) = line.split_once(':').unwrap_or((line, ""));
            let value = value.strip_prefix(' ').unwrap_or(value);
            match field {
                "event" => self.event.kind = value.to_owned(),
                "id" => self.event.id = value.to_owned(),
                "data" => self.event.data.push_str(value),
                _ => {}
            }
        }
        events
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_parsed_however_the_stream_is_split() {
        let stream =
            b": alive\n\nevent: epoch\nid: 1-2-3-4\ndata: {\"a\":1}\n\nevent: end\nid: x\ndata: {}\n\n";
        let expected = [("epoch", "1-2-3-4", "{\"a\":1}"), ("end", "x", "{}")];
        for size in 1..stream.len() {
            let mut parser = EventParser::default();
            let events: Vec<ServerEvent> = stream.chunks(size).flat_map(|chunk| parser.push(chunk)).collect();
            let found: Vec<_> =
                events.iter().map(|e| (e.kind.as_str(), e.id.as_str(), e.data.as_str())).collect();
            assert_eq!(found, expected, "in pieces of {size}");
        }
    }
}
