//! What the server had promised to clients before the power cut, from the requests and responses in the log.

use std::collections::HashMap;

use serde_json::Value;

use crate::checker::{History, What};
use crate::log::Operation;

/// A message of HTTP/1.1 that was received in one piece.
struct Message<'a> {
    first_line: &'a str,
    head: &'a str,
    body: &'a str,
}

/// Returns the history that the operations contain. A spec is named by the text of its request.
pub fn history(operations: &[Operation]) -> History {
    let history = History::new();
    let mut open: HashMap<u64, (u64, &[u8])> = HashMap::new();
    for operation in operations {
        match operation {
            Operation::Request { connection, data } => {
                if let Some((asked, request)) = open.insert(*connection, (history.now(), data)) {
                    note(&history, asked, request, None);
                }
            }
            Operation::Answer { connection, data } => {
                if let Some((asked, request)) = open.remove(connection) {
                    note(&history, asked, request, Some(data));
                }
            }
            _ => {}
        }
    }
    let mut open: Vec<(u64, &[u8])> = open.into_values().collect();
    open.sort_unstable();
    for (asked, request) in open {
        note(&history, asked, request, None);
    }
    history
}

fn note(history: &History, asked: u64, request: &[u8], answer: Option<&[u8]>) {
    let Some(request) = message(request) else { return };
    let answer = answer.and_then(message);
    let body: Value =
        answer.as_ref().and_then(|answer| serde_json::from_str(answer.body).ok()).unwrap_or_default();
    let mut words = request.first_line.split(' ');
    let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let path = target.split('?').next().unwrap_or_default();
    let parts: Vec<&str> = path.trim_start_matches("/v1/").split('/').collect();
    let what = match (method, parts.as_slice()) {
        ("POST", ["jobs"]) => What::Posted {
            key: header(request.head, "idempotency-key").unwrap_or_else(|| request.body.to_owned()),
            spec: request.body.to_owned(),
            id: body["id"].as_str().map(str::to_owned),
        },
        ("GET", ["jobs", _]) => {
            if body["id"].is_string() {
                history.told_job(asked, &body);
            }
            return;
        }
        ("POST", ["jobs", id, "cancel"]) => What::Cancelled { id: (*id).to_owned() },
        ("DELETE", ["jobs", id]) => What::Deleted { id: (*id).to_owned() },
        ("PUT", ["models", model, "aliases", alias]) => {
            let asked: Value = serde_json::from_str(request.body).unwrap_or_default();
            let (model, alias) = ((*model).to_owned(), (*alias).to_owned());
            What::Alias { model, alias, version: asked["version"].as_u64() }
        }
        ("DELETE", ["models", reference]) => {
            let Some((model, version)) = reference.split_once('@') else { return };
            let Ok(version) = version.parse() else { return };
            What::VersionDeleted { model: model.to_owned(), version }
        }
        _ => return,
    };
    match answer {
        Some(_) => history.told(asked, what),
        None => history.unanswered(asked, what),
    }
}

fn message(data: &[u8]) -> Option<Message<'_>> {
    let (head, body) = std::str::from_utf8(data).ok()?.split_once("\r\n\r\n")?;
    let length = header(head, "content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
    assert!(body.len() >= length, "a message in several pieces: {head}");
    Some(Message { first_line: head.split("\r\n").next()?, head, body })
}

fn header(head: &str, name: &str) -> Option<String> {
    head.split("\r\n")
        .filter_map(|line| line.split_once(':'))
        .find_map(|(found, value)| found.eq_ignore_ascii_case(name).then(|| value.trim().to_owned()))
}
