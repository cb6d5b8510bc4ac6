use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};

use super::seen::Seen;
use crate::cli::CliError;
use crate::oip::Datatype;

/// How long a server may take to answer.
const TIMEOUT: Duration = Duration::from_secs(30);

/// The text of an element of BYTES.
const TEXT: &str = "a";

/// The server and the model that are asked.
pub struct Subject {
    http: reqwest::Client,
    url: String,
    /// Name and version of the server.
    pub server: String,
    /// The extensions that it claims.
    pub extensions: Vec<String>,
    /// Name of the model.
    pub model: String,
    /// The versions that its metadata lists, or else the index.
    pub versions: Vec<String>,
    pub inputs: Vec<Tensor>,
    pub outputs: Vec<Tensor>,
}

/// An input or output in the metadata of a model.
pub struct Tensor {
    pub name: String,
    pub datatype: String,
    pub shape: Vec<i64>,
}

/// A request of a case.
pub struct Request {
    pub method: Method,
    pub path: String,
    pub headers: Vec<(&'static str, String)>,
    pub body: Vec<u8>,
}

impl Request {
    /// A request without a body.
    pub fn get(path: impl Into<String>) -> Self {
        Self { method: Method::GET, path: path.into(), headers: Vec::new(), body: Vec::new() }
    }

    /// A request with a body, and without a media type.
    pub fn post(path: impl Into<String>, body: impl Into<Vec<u8>>) -> Self {
        Self { method: Method::POST, path: path.into(), headers: Vec::new(), body: body.into() }
    }

    /// Adds a header.
    pub fn with(mut self, name: &'static str, value: impl ToString) -> Self {
        self.headers.push((name, value.to_string()));
        self
    }
}

impl Tensor {
    fn of(value: &Value) -> Option<Self> {
        Some(Self {
            name: value["name"].as_str()?.to_owned(),
            datatype: value["datatype"].as_str()?.to_owned(),
            shape: value["shape"].as_array()?.iter().map(Value::as_i64).collect::<Option<_>>()?,
        })
    }

    /// Returns the shape for one element of each variable side.
    pub fn sent_shape(&self) -> Vec<i64> {
        self.shape.iter().map(|&side| if side < 0 { 1 } else { side }).collect()
    }

    /// Returns the number of elements of this shape.
    pub fn count(&self) -> usize {
        self.sent_shape().iter().product::<i64>().max(0) as usize
    }

    fn datatype(&self) -> Option<Datatype> {
        Datatype::named(&self.datatype)
    }

    /// Returns `count` elements for JSON.
    pub fn data(&self, count: usize) -> Vec<Value> {
        let element = match self.datatype() {
            Some(Datatype::Bytes) => json!(TEXT),
            Some(Datatype::Bool) => json!(false),
            Some(Datatype::Fp16 | Datatype::Bf16 | Datatype::Fp32 | Datatype::Fp64) => json!(0.0),
            _ => json!(0),
        };
        vec![element; count]
    }

    /// Returns the elements as nested lists.
    pub fn nested(&self) -> Value {
        let mut list = self.data(self.count());
        for &side in self.sent_shape().iter().skip(1).rev() {
            list = list.chunks(side.max(1) as usize).map(|chunk| json!(chunk)).collect();
        }
        json!(list)
    }

    /// Returns the elements as bytes.
    pub fn raw(&self) -> Vec<u8> {
        match self.datatype().and_then(Datatype::size) {
            Some(size) => vec![0; self.count() * size],
            None => {
                let element = [&(TEXT.len() as u32).to_le_bytes(), TEXT.as_bytes()].concat();
                element.repeat(self.count())
            }
        }
    }

    /// Returns the tensor as JSON with these elements.
    pub fn with_data(&self, data: impl Into<Value>) -> Value {
        json!({ "name": self.name, "shape": self.sent_shape(), "datatype": self.datatype, "data": data.into() })
    }

    /// Returns the tensor as JSON whose elements follow as this many bytes.
    pub fn with_bytes(&self, bytes: usize) -> Value {
        let (name, shape, datatype) = (&self.name, self.sent_shape(), &self.datatype);
        json!({ "name": name, "shape": shape, "datatype": datatype, "parameters": { "binary_data_size": bytes } })
    }
}

impl Subject {
    /// Reads the metadata of a server and of the model to ask.
    pub async fn find(url: &str, model: Option<&str>) -> Result<Self, CliError> {
        // Each request has a connection of its own, because some servers close theirs after an error.
        let http = reqwest::Client::builder().no_proxy().timeout(TIMEOUT).pool_max_idle_per_host(0).build();
        let http = http.map_err(|error| CliError::failed("can't create a client", error))?;
        let mut subject = Self {
            http,
            url: url.trim_end_matches('/').to_owned(),
            server: String::new(),
            extensions: Vec::new(),
            model: String::new(),
            versions: Vec::new(),
            inputs: Vec::new(),
            outputs: Vec::new(),
        };
        let server = subject.metadata("/v2").await?;
        let word = |name: &str| server[name].as_str().unwrap_or("?").to_owned();
        subject.server = format!("{} {}", word("name"), word("version"));
        subject.extensions = texts(&server["extensions"]);
        subject.model = match model {
            Some(model) => model.to_owned(),
            None => subject.first_model().await?,
        };
        let found = subject.metadata(&subject.path("")).await?;
        let tensors = |value: &Value| -> Vec<Tensor> {
            value.as_array().into_iter().flatten().filter_map(Tensor::of).collect()
        };
        subject.versions = texts(&found["versions"]);
        if subject.versions.is_empty() {
            subject.versions = subject.versions_in_index().await;
        }
        subject.inputs = tensors(&found["inputs"]);
        subject.outputs = tensors(&found["outputs"]);
        if subject.inputs.is_empty() {
            return Err(CliError::Failed {
                what: format!("the metadata of model {} has no inputs", subject.model),
                why: None,
                hint: Some("name another model with --model".to_owned()),
            });
        }
        Ok(subject)
    }

    /// Returns the entries of the index, or nothing if the server has none.
    async fn index(&self) -> Vec<Value> {
        let index = self.send(Request::post("/v2/repository/index", "{}")).await.ok();
        match index.and_then(|seen| seen.json().ok()) {
            Some(Value::Array(entries)) => entries,
            _ => Vec::new(),
        }
    }

    async fn versions_in_index(&self) -> Vec<String> {
        let index = self.index().await;
        let own = index.iter().filter(|entry| entry["name"] == self.model.as_str());
        own.filter_map(|entry| entry["version"].as_str()).map(str::to_owned).collect()
    }

    async fn first_model(&self) -> Result<String, CliError> {
        let index = self.index().await;
        let name = index.first().and_then(|entry| entry["name"].as_str()).map(str::to_owned);
        name.ok_or_else(|| CliError::Usage {
            what: "the server lists no models".to_owned(),
            hint: "name one with --model".to_owned(),
        })
    }

    async fn metadata(&self, path: &str) -> Result<Value, CliError> {
        let seen = self.send(Request::get(path)).await;
        let seen = seen.map_err(|why| CliError::NoServer { url: self.url.clone(), why })?;
        match seen.json() {
            Ok(value) if seen.status == 200 => Ok(value),
            _ => Err(CliError::failed(format!("GET {path} does not describe anything"), seen.summary())),
        }
    }

    /// Sends a request.
    ///
    /// # Errors
    /// Returns why there is no response.
    pub async fn send(&self, request: Request) -> Result<Seen, String> {
        let Request { method, path, headers, body } = request;
        let mut sent = self.http.request(method.clone(), format!("{}{path}", self.url));
        for (name, value) in headers {
            sent = sent.header(name, value);
        }
        if method == Method::POST || !body.is_empty() {
            sent = sent.body(body);
        }
        let why = |error: reqwest::Error| {
            let mut source: &dyn std::error::Error = &error;
            while let Some(deeper) = source.source() {
                source = deeper;
            }
            source.to_string()
        };
        let response = sent.send().await.map_err(why)?;
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let body = response.bytes().await.map_err(why)?.to_vec();
        Ok(Seen { status, headers, body })
    }

    /// Returns a path below that of the model.
    pub fn path(&self, rest: &str) -> String {
        format!("/v2/models/{}{rest}", self.model)
    }

    /// Returns a path below that of a version, or why there is none.
    pub fn version_path(&self, rest: &str) -> Result<String, String> {
        let version = self.versions.first().ok_or("the server lists no versions")?;
        Ok(self.path(&format!("/versions/{version}{rest}")))
    }

    /// Returns the JSON of a request with zeros for every input.
    pub fn zeros(&self) -> Value {
        let inputs = self.inputs.iter().map(|input| input.with_data(input.data(input.count())));
        json!({ "inputs": inputs.collect::<Vec<_>>() })
    }

    /// Returns a request for inference with this JSON.
    pub fn infer(&self, json: &Value) -> Request {
        Request::post(self.path("/infer"), json.to_string())
    }

    /// Returns the only input, or why there are more.
    pub fn only_input(&self) -> Result<&Tensor, String> {
        match self.inputs.as_slice() {
            [only] => Ok(only),
            several => Err(format!("the model has {} inputs", several.len())),
        }
    }
}

fn texts(value: &Value) -> Vec<String> {
    value.as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
}
