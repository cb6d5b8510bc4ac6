//! The documents of the lesson. Their commands are run in order, and each must print the output shown below
//! it.

use std::path::Path;
use std::str::Lines;

use reqwest::Method;
use serde_json::Value;
use tempfile::TempDir;

use crate::client::Client;
use crate::process::{Process, chainrule, text};

const ENGLISH: &str = include_str!("../../docs/lesson/en.md");
const KOREAN: &str = include_str!("../../docs/lesson/ko.md");
const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/lesson");

/// The address of the server in the documents. [`JOB_ID`] stands for the id of the newest job, and
/// [`ANYTHING`] for any text.
const SERVER: &str = "http://127.0.0.1:8080";
const JOB_ID: &str = "JOB_ID";
const ANYTHING: &str = "…";

/// A command of a document and the output shown below it.
#[derive(Debug, PartialEq)]
struct Step {
    command: String,
    answer: Answer,
}

/// JSON or text. The flag says whether its numbers are exact, or depend on the processor or the clock.
#[derive(Debug, PartialEq)]
enum Answer {
    Json(Value, bool),
    Text(String, bool),
    /// The name of the file that the command writes.
    Picture(String),
}

/// Returns the commands of a document.
fn steps(document: &str) -> Result<Vec<Step>, String> {
    let mut lines = document.lines();
    let mut steps = Vec::new();
    while let Some(line) = lines.next() {
        if line == "```sh" {
            let command = block(&mut lines)?;
            let answer = answer(&command, &mut lines).map_err(|why| format!("{command}\n{why}"))?;
            steps.push(Step { command, answer });
        } else if line.starts_with("```") {
            return Err(format!("{line} without a command"));
        }
    }
    Ok(steps)
}

/// Returns the lines up to the end of a block.
fn block(lines: &mut Lines) -> Result<String, String> {
    let mut block = Vec::new();
    loop {
        match lines.next().ok_or("a block does not end")? {
            "```" => return Ok(block.join("\n")),
            line => block.push(line),
        }
    }
}

/// Returns the output shown for a command.
fn answer(command: &str, lines: &mut Lines) -> Result<Answer, String> {
    let line = lines.find(|line| !line.is_empty()).unwrap_or_default();
    let words = words(command)?;
    if let Some(at) = words.iter().position(|word| word == "-o") {
        let file = words.get(at + 1).ok_or("-o without a file")?;
        let is_shown = line.starts_with("![") && line.ends_with(&format!("]({file})"));
        return is_shown.then(|| Answer::Picture(file.clone())).ok_or(format!("{file} is not shown"));
    }
    let is_exact = !line.ends_with(" about");
    match line {
        "```json" | "```json about" => {
            Ok(Answer::Json(serde_json::from_str(&block(lines)?).map_err(said)?, is_exact))
        }
        "```text" | "```text about" => Ok(Answer::Text(block(lines)?, is_exact)),
        _ => Err("there is no answer".to_owned()),
    }
}

fn said(error: impl std::fmt::Display) -> String {
    error.to_string()
}

/// Splits a command into words as a shell does. Only single quotes and a backslash at the end of a line have
/// a special meaning.
fn words(command: &str) -> Result<Vec<String>, String> {
    let command = command.replace("\\\n", " ");
    let pieces: Vec<&str> = command.split('\'').collect();
    let mut words = Vec::new();
    for (at, piece) in pieces.iter().enumerate() {
        if at % 2 == 1 {
            words.push((*piece).to_owned());
            continue;
        }
        let is_apart = (at == 0 || piece.is_empty() || piece.starts_with(' '))
            && (at + 1 == pieces.len() || piece.ends_with(' '));
        if !is_apart || piece.contains(|letter| "\n\t\"\\$`|&;<>()*?[]{}~#!".contains(letter)) {
            return Err(format!("more than words: {piece}"));
        }
        words.extend(piece.split(' ').filter(|word| !word.is_empty()).map(str::to_owned));
    }
    if pieces.len() % 2 == 1 { Ok(words) } else { Err(format!("a quote is open in {command}")) }
}

/// A reader who pastes the commands into a terminal.
struct Reader {
    server: Process,
    http: Client,
    folder: TempDir,
}

impl Reader {
    /// Runs a step and compares the output.
    async fn follow(&self, step: &Step) -> Result<(), String> {
        let mut words = words(&step.command)?;
        for word in words.iter_mut().filter(|word| word.contains(JOB_ID)) {
            let newest = self.server.get("/v1/jobs?limit=1");
            let id = newest["jobs"][0]["id"].as_str().ok_or("there is no job yet")?;
            *word = word.replace(JOB_ID, id);
        }
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        match words.as_slice() {
            ["curl", rest @ ..] => compare(&step.answer, &self.curl(rest).await?),
            ["chainrule", rest @ ..] => compare(&step.answer, &self.chainrule(rest)?),
            _ => Err("neither curl nor chainrule".to_owned()),
        }
    }

    /// Returns what `curl` prints or writes with these flags. With `wait_seconds`, waits until the job has
    /// ended.
    async fn curl(&self, words: &[&str]) -> Result<Vec<u8>, String> {
        let (mut url, mut body, mut file) = (None, None, None);
        let mut headers = Vec::new();
        let mut rest = words.iter();
        while let Some(&word) = rest.next() {
            let mut value = || rest.next().copied().ok_or(format!("{word} without a value"));
            match word {
                "-s" => {}
                "-H" => headers.push(value()?.split_once(": ").ok_or("a header is Name: value")?),
                "-d" => body = Some(value()?.as_bytes().to_vec()),
                "--data-binary" => {
                    let name = value()?.strip_prefix('@').ok_or("--data-binary takes @FILE")?;
                    body = Some(std::fs::read(self.folder.path().join(name)).map_err(said)?);
                }
                "-o" => file = Some(value()?),
                address if address.starts_with(SERVER) && url.is_none() => url = Some(address),
                other => return Err(format!("curl {other} is not understood")),
            }
        }
        let url = url.ok_or("curl without an address of the server")?.replace(SERVER, &self.server.url);
        let method = if body.is_some() { Method::POST } else { Method::GET };
        if body.is_some() && !headers.iter().any(|(name, _)| *name == "Content-Type") {
            return Err("curl would send a form: Content-Type is missing".to_owned());
        }
        loop {
            let to = self.http.request(method.clone(), &url).body(body.clone().unwrap_or_default());
            let to = headers.iter().fold(to, |to, (name, value)| to.header(*name, *value));
            let response = to.send().await.map_err(said)?;
            let status = response.status();
            let found = response.bytes().await.map_err(said)?.to_vec();
            if !status.is_success() {
                return Err(format!("{status}: {}", text(&found)));
            }
            let job: Value = serde_json::from_slice(&found).unwrap_or_default();
            if url.contains("wait_seconds=") && matches!(job["state"].as_str(), Some("queued" | "running")) {
                continue;
            }
            if let Some(file) = file {
                std::fs::write(self.folder.path().join(file), &found).map_err(said)?;
            }
            return Ok(found);
        }
    }

    /// Returns what `chainrule` prints in a terminal.
    fn chainrule(&self, words: &[&str]) -> Result<Vec<u8>, String> {
        let mut arguments = words.to_vec();
        match words.first() {
            Some(&("train" | "predict" | "trace")) => arguments.extend(["--server", &self.server.url]),
            Some(&("graph" | "summary" | "gradient-check")) => {}
            _ => return Err("a command of chainrule that is not understood".to_owned()),
        }
        let output = chainrule(&arguments).current_dir(self.folder.path()).output().map_err(said)?;
        let shown = [output.stderr, output.stdout].concat();
        if output.status.success() { Ok(shown) } else { Err(text(&shown).to_owned()) }
    }
}

/// Compares an output with the one in the document.
fn compare(answer: &Answer, found: &[u8]) -> Result<(), String> {
    match answer {
        Answer::Json(expected, is_exact) => {
            let found: Value = serde_json::from_slice(found).map_err(said)?;
            is_json(expected, &found, *is_exact, "")
        }
        Answer::Text(expected, is_exact) if is_text(expected, text(found), *is_exact) => Ok(()),
        Answer::Text(expected, _) => Err(format!("expected\n{expected}\nfound\n{}", text(found))),
        Answer::Picture(file) => {
            let shown = std::fs::read(Path::new(FOLDER).join(file)).map_err(said)?;
            let is_png = file.ends_with(".png") && png_size(&shown).is_some();
            let is_same = if is_png { png_size(&shown) == png_size(found) } else { shown == found };
            if is_same { Ok(()) } else { Err(format!("{file} is another picture")) }
        }
    }
}

/// Returns the width and height in the header of a PNG, as bytes (RFC 2083, section 4.1.1).
fn png_size(bytes: &[u8]) -> Option<&[u8]> {
    bytes.strip_prefix(b"\x89PNG\r\n\x1a\n").and_then(|chunks| chunks.get(8..16))
}

fn is_json(expected: &Value, found: &Value, is_exact: bool, place: &str) -> Result<(), String> {
    let differs = || Err(format!("{place}: expected {expected}, found {found}"));
    match (expected, found) {
        (Value::String(anything), _) if anything == ANYTHING => Ok(()),
        (Value::Object(expected), Value::Object(members)) => {
            for (name, value) in expected.iter().filter(|(name, _)| *name != ANYTHING) {
                let place = format!("{place}/{name}");
                let member = members.get(name).ok_or_else(|| format!("{place}: is missing in {found}"))?;
                is_json(value, member, is_exact, &place)?;
            }
            let more = members.keys().find(|name| !expected.contains_key(*name));
            let more = more.filter(|_| !expected.contains_key(ANYTHING));
            more.map_or(Ok(()), |more| Err(format!("{place}: there is {more} too")))
        }
        (Value::Array(all), Value::Array(elements)) => {
            let has_more = all.last().is_some_and(|last| last == ANYTHING);
            let shown = &all[..all.len() - usize::from(has_more)];
            if elements.len() < shown.len() || (elements.len() > shown.len() && !has_more) {
                return differs();
            }
            let mut pairs = shown.iter().zip(elements).enumerate();
            pairs.try_for_each(|(at, (a, b))| is_json(a, b, is_exact, &format!("{place}/{at}")))
        }
        (Value::String(expected), Value::String(found)) if is_text(expected, found, is_exact) => Ok(()),
        (Value::Number(a), Value::Number(b)) if is_text(&a.to_string(), &b.to_string(), is_exact) => Ok(()),
        _ if expected == found => Ok(()),
        _ => differs(),
    }
}

fn is_text(expected: &str, found: &str, is_exact: bool) -> bool {
    let lines = |text: &str| -> Vec<Vec<Part>> { text.trim_end().lines().map(parts).collect() };
    let is_line = |expected: &Vec<Part>, found: &Vec<Part>| {
        is_alike(expected, found, |part| *part == Part::Anything, |a, b| a.is(b, is_exact))
    };
    is_alike(&lines(expected), &lines(found), |line| line == &[Part::Anything], is_line)
}

/// Returns whether `found` equals `expected`. An element for which `is_anything` is true matches any number
/// of elements.
fn is_alike<T>(
    expected: &[T],
    found: &[T],
    is_anything: impl Fn(&T) -> bool + Copy,
    is_same: impl Fn(&T, &T) -> bool + Copy,
) -> bool {
    let Some((first, rest)) = expected.split_first() else { return found.is_empty() };
    if is_anything(first) {
        return (0..=found.len()).any(|skipped| is_alike(rest, &found[skipped..], is_anything, is_same));
    }
    let next = found.split_first().filter(|(next, _)| is_same(first, next));
    next.is_some_and(|(_, found)| is_alike(rest, found, is_anything, is_same))
}

/// A part of a line.
#[derive(Clone, Debug, PartialEq)]
enum Part {
    Anything,
    /// A number. The flag says whether it is a whole number below a thousand: a count, which is always exact.
    Number(f64, bool),
    Letter(char),
}

impl Part {
    fn is(&self, found: &Self, is_exact: bool) -> bool {
        let (Self::Number(a, is_count), Self::Number(b, _)) = (self, found) else { return self == found };
        let larger = a.abs().max(b.abs());
        (a - b).abs() <= if is_exact || *is_count { 1e-6 * larger } else { f64::max(0.02, 0.3 * larger) }
    }
}

/// Splits a line into parts. Any run of spaces counts as one.
fn parts(line: &str) -> Vec<Part> {
    let line = line.replace('−', "-");
    let mut rest = line.trim();
    let mut parts = Vec::new();
    while let Some(letter) = rest.chars().next() {
        let reach = rest.find(|letter| !"+-.e0123456789".contains(letter)).unwrap_or(rest.len());
        let may_begin = letter == '-' || letter.is_ascii_digit();
        let number = (1..=reach).rev().filter(|_| may_begin).find_map(|end| {
            let text =
                Some(&rest[..end]).filter(|text| text.ends_with(|last: char| last.is_ascii_digit()))?;
            let number: f64 = text.parse().ok()?;
            Some((end, Part::Number(number, !text.contains(['.', 'e']) && number.abs() < 1_000.0)))
        });
        let (length, part) = number.unwrap_or_else(|| {
            let part = match letter {
                '…' => Part::Anything,
                space if space.is_whitespace() => Part::Letter(' '),
                letter => Part::Letter(letter),
            };
            (letter.len_utf8(), part)
        });
        parts.push(part);
        rest = &rest[length..];
    }
    parts.dedup_by(|part, before| *part == Part::Letter(' ') && part == before);
    parts
}

/// Runs all commands of a document.
async fn follow(document: &str) -> Result<(), String> {
    let folder = tempfile::tempdir().expect("a folder");
    let server = Process::serve(&folder.path().join("data"));
    let reader = Reader { server, http: Client::new(), folder };
    for step in steps(document)? {
        reader.follow(&step).await.map_err(|why| format!("{}\n{why}", step.command))?;
    }
    Ok(())
}

#[tokio::test]
async fn every_command_of_the_english_lesson_gives_the_answer_it_shows() {
    follow(ENGLISH).await.unwrap_or_else(|why| panic!("docs/lesson/en.md: {why}"));
}

#[tokio::test]
async fn every_command_of_the_korean_lesson_gives_the_answer_it_shows() {
    follow(KOREAN).await.unwrap_or_else(|why| panic!("docs/lesson/ko.md: {why}"));
}

#[test]
fn both_lessons_hold_the_same_commands_and_answers() {
    let steps = [ENGLISH, KOREAN].map(|document| steps(document).expect("commands with answers"));
    assert!(steps[0].len() > 30);
    assert_eq!(steps[0], steps[1]);
}

#[test]
fn every_row_of_the_lesson_is_in_a_heading_of_both() {
    for document in [ENGLISH, KOREAN] {
        let headings: String = document.lines().filter(|line| line.starts_with("## ")).collect();
        let named: Vec<&str> = headings.split(|letter: char| !letter.is_ascii_alphanumeric()).collect();
        for row in 1..=16 {
            assert!(named.contains(&format!("L{row}").as_str()), "L{row}");
        }
    }
}

#[tokio::test]
async fn a_document_with_a_changed_number_fails() {
    for (shown, wrong) in [("7·1 + 2·1 = 9", "7·1 + 2·1 = 8"), ("\"b\": 9.0", "\"b\": 9.1")] {
        let why = follow(&ENGLISH.replacen(shown, wrong, 1)).await.expect_err("a wrong number");
        assert!(why.contains("x = a + b"), "{why}");
    }
}

#[test]
fn only_differences_that_the_rules_allow_are_ignored() {
    for (expected, found, is_exact, is_same) in [
        (r#"{"a": 1.0, "…": "…"}"#, r#"{"a": 1.0000005, "b": 2}"#, true, true),
        (r#"{"a": 1.0}"#, r#"{"a": 1.00001}"#, true, false),
        (r#"{"a": 1.0}"#, r#"{"a": 1.0, "b": 2}"#, true, false),
        (r#"{"a": 1, "…": "…"}"#, r#"{"b": 1}"#, true, false),
        (r#"[1, "…"]"#, "[1, 2, 3]", true, true),
        ("[1]", "[1, 2]", true, false),
        (r#""a … c""#, r#""a b d""#, true, false),
        ("1.2", "1.5", false, true),
        ("1.2", "1.8", false, false),
        ("6", "7", false, false),
    ] {
        let json = |text: &str| -> Value { serde_json::from_str(text).expect("JSON") };
        let result = is_json(&json(expected), &json(found), is_exact, "");
        assert_eq!(result.is_ok(), is_same, "{expected} {found}: {result:?}");
    }
    for (expected, found, is_exact, is_same) in [
        ("a  −1\n…\nb …", "a -1\nc\nd\nb 7 e", true, true),
        ("loss 4.2 … %", "loss 4.3 → 2 %", false, true),
        ("loss 4.2 … %", "loss 9.3 → 2 %", false, false),
        ("2e−11", "2e-12", true, false),
    ] {
        assert_eq!(is_text(expected, found, is_exact), is_same, "{expected} {found}");
    }
}

#[test]
fn a_block_that_is_not_understood_is_a_failure() {
    for document in [
        "```sh\nchainrule graph x x=1\n```\n",
        "```sh\ncurl -s http://127.0.0.1:8080/v1/activations | head\n```\n```text\n```\n",
        "```sh\ncurl -s http://127.0.0.1:8080/v1/graph -o graph.svg\n```\n![](other.svg)\n",
        "```json\n{}\n```\n",
    ] {
        assert!(steps(document).is_err(), "{document}");
    }
    assert_eq!(words("a 'b c' \\\n  d").expect("words"), ["a", "b c", "d"]);
}
