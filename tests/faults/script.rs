//! A client that sends one request after the other and records the responses.

use serde_json::Value;

use crate::checker::{History, What};
use crate::process::{Answer, Client};
use crate::workload::SOON;

/// A client and the history it records.
pub struct Script<'a> {
    pub client: Client,
    pub history: &'a History,
}

impl Script<'_> {
    /// Sends a request that changes something. Returns `None` if there is no response; the request may have
    /// been carried out or not.
    fn change(&self, method: &str, path: &str, body: &[u8], done: u16, what: What) -> Option<Answer> {
        let asked = self.history.now();
        let headers = [("Content-Type", "application/json")];
        let headers = if body.is_empty() { &headers[..0] } else { &headers[..] };
        match self.client.request(method, path, headers, body) {
            Ok(answer) => {
                if answer.status == done {
                    self.history.told(asked, what);
                } else if answer.status >= 500 {
                    self.history.unanswered(asked, what);
                }
                Some(answer)
            }
            Err(_) => {
                self.history.unanswered(asked, what);
                None
            }
        }
    }

    /// Posts the spec called `spec` under `key`. Returns the id of the job.
    pub fn post(&self, key: &str, spec: &str, body: &Value) -> Option<String> {
        let asked = self.history.now();
        let posted = |id| What::Posted { key: key.to_owned(), spec: spec.to_owned(), id };
        let Ok(answer) = self.client.post_job(body, Some(key)) else {
            self.history.unanswered(asked, posted(None));
            return None;
        };
        assert_eq!(answer.status, 202, "{key}: {}", answer.text());
        let job = answer.json();
        let id = job["id"].as_str().expect("an id").to_owned();
        self.history.told(asked, posted(Some(id.clone())));
        self.history.told_job(asked, &job);
        Some(id)
    }

    pub fn cancel(&self, id: &str) -> Option<Answer> {
        self.change("POST", &format!("/v1/jobs/{id}/cancel"), b"", 202, What::Cancelled { id: id.to_owned() })
    }

    pub fn resume(&self, id: &str) -> Option<Answer> {
        self.change("POST", &format!("/v1/jobs/{id}/resume"), b"", 202, What::Resumed { id: id.to_owned() })
    }

    pub fn delete(&self, id: &str) -> Option<Answer> {
        self.change("DELETE", &format!("/v1/jobs/{id}"), b"", 204, What::Deleted { id: id.to_owned() })
    }

    pub fn delete_version(&self, model: &str, version: u64) -> Option<Answer> {
        let what = What::VersionDeleted { model: model.to_owned(), version };
        self.change("DELETE", &format!("/v1/models/{model}@{version}"), b"", 204, what)
    }

    pub fn point(&self, model: &str, alias: &str, version: u64) -> Option<Answer> {
        let body = serde_json::json!({"version": version}).to_string();
        let what = What::Alias { model: model.to_owned(), alias: alias.to_owned(), version: Some(version) };
        self.change("PUT", &format!("/v1/models/{model}/aliases/{alias}"), body.as_bytes(), 200, what)
    }

    /// Polls a job until `is_so` holds or the job is gone. Returns `None` if the server is gone.
    pub fn until(&self, id: &str, is_so: impl Fn(&Value) -> bool) -> Option<Option<Value>> {
        let deadline = std::time::Instant::now() + SOON;
        loop {
            let asked = self.history.now();
            let answer = self.client.get(&format!("/v1/jobs/{id}?wait_seconds=0.02")).ok()?;
            if answer.status == 404 {
                return Some(None);
            }
            let job = answer.json();
            if answer.status == 200 {
                self.history.told_job(asked, &job);
                if is_so(&job) {
                    return Some(Some(job));
                }
            }
            assert!(std::time::Instant::now() < deadline, "it is not so after {SOON:?}: {job}");
        }
    }
}
