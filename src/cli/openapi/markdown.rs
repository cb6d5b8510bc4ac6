//! The OpenAPI document as Markdown.

use std::fmt::Write;

use serde_json::{Map, Value};

const SCHEMAS: &str = "#/components/schemas/";
const RESPONSES: &str = "#/components/responses/";

/// The longest example that is shown.
const EXAMPLE_CHARS_MAX: usize = 1_200;

/// Renders the document as one page: operations by tag, then schemas, then codes.
pub fn render(document: &Value) -> String {
    let mut page = format!(
        "# The API\n\n{}\nThis page is `chainrule openapi --markdown`; `GET /openapi.json` has the same for programs.\n",
        words(&document["info"], "description")
    );
    for tag in list(&document["tags"]) {
        let _ = write!(page, "\n## {}\n\n{}\n", words(tag, "name"), words(tag, "description"));
        for (path, methods) in fields(&document["paths"]) {
            for (method, operation) in
                fields(methods).filter(|(_, operation)| operation["tags"][0] == tag["name"])
            {
                self::operation(&mut page, &format!("{} {path}", method.to_uppercase()), operation);
            }
        }
    }
    page.push_str("\n## Schemas\n");
    for (name, schema) in fields(&document["components"]["schemas"]) {
        let _ = write!(page, "\n### {name}\n\n");
        self::schema(&mut page, schema);
    }
    codes(&mut page, document);
    page
}

fn operation(page: &mut String, title: &str, operation: &Value) {
    let _ = write!(page, "\n### `{title}`\n\n{}.\n", words(operation, "summary"));
    if let Some(description) = operation["description"].as_str() {
        let _ = write!(page, "\n{description}\n");
    }
    let parameters = list(&operation["parameters"]);
    if !parameters.is_empty() {
        page.push_str("\n| parameter | in | type | |\n| --- | --- | --- | --- |\n");
    }
    for parameter in parameters {
        let (name, place) = (words(parameter, "name"), words(parameter, "in"));
        let (kind, text) = (kind(&parameter["schema"]), line(words(parameter, "description")));
        let _ = writeln!(page, "| `{name}` | {place} | {kind} | {text} |");
    }
    for (media_type, content) in fields(&operation["requestBody"]["content"]) {
        let _ = write!(page, "\nBody, `{media_type}`: {}\n", kind(&content["schema"]));
        let examples =
            fields(&content["examples"]).map(|(_, example)| (words(example, "summary"), &example["value"]));
        let alone = content.get("example").map(|example| ("", example));
        for (summary, example) in examples.chain(alone).filter(|(_, example)| !example.is_null()) {
            self::example(page, summary, example);
        }
    }
    page.push_str("\n| status | body | |\n| --- | --- | --- |\n");
    let responses = || fields(&operation["responses"]);
    for (status, response) in responses().filter(|(_, response)| codes_of(response).is_empty()) {
        let bodies = fields(&response["content"]).map(|(media_type, content)| match media_type.as_str() {
            "application/json" => kind(&content["schema"]),
            other => format!("`{other}`"),
        });
        let bodies = bodies.collect::<Vec<_>>().join(", ");
        let _ = writeln!(page, "| {status} | {bodies} | {} |", line(words(response, "description")));
    }
    let problems = responses().map(|(status, response)| (status, codes_of(response)));
    let problems = problems.filter(|(_, codes)| !codes.is_empty());
    let problems: Vec<String> =
        problems.map(|(status, codes)| format!("{status} {}", codes.join(", "))).collect();
    let _ = write!(page, "\n[Problems](#codes): {}.\n", problems.join("; "));
}

/// The codes of the problems that a response has, each as code.
fn codes_of(response: &Value) -> Vec<String> {
    let narrowed = &response["content"]["application/problem+json"]["schema"]["allOf"][1]["properties"];
    let one = response["$ref"].as_str().map(|reference| reference.trim_start_matches(RESPONSES));
    let several = list(&narrowed["code"]["enum"]).iter().filter_map(Value::as_str);
    one.into_iter().chain(several).map(|code| format!("`{code}`")).collect()
}

/// Renders an example as a code block, shortened if it is long.
fn example(page: &mut String, summary: &str, example: &Value) {
    let text = example.to_string();
    let shown: String = text.chars().take(EXAMPLE_CHARS_MAX).collect();
    let rest = if shown.len() < text.len() { "…" } else { "" };
    let summary = if summary.is_empty() { "For example" } else { summary };
    let _ = write!(page, "\n{summary}:\n\n```json\n{shown}{rest}\n```\n");
}

fn schema(page: &mut String, schema: &Value) {
    if let Some(description) = schema["description"].as_str() {
        let _ = write!(page, "{description}\n\n");
    }
    let variants = list(&schema["oneOf"]);
    if schema.get("properties").is_some() {
        properties(page, schema, true);
    } else if variants.iter().any(|variant| variant["properties"]["type"].get("enum").is_some()) {
        for variant in variants {
            let name = variant["properties"]["type"]["enum"][0].as_str().unwrap_or_default();
            let _ = write!(page, "`\"type\": \"{name}\"`: {}\n\n", words(variant, "description"));
            if fields(&variant["properties"]).count() > 1 {
                properties(page, variant, false);
                page.push('\n');
            }
        }
    } else {
        let _ = writeln!(page, "{}", kind(schema));
    }
}

/// Renders a table of fields.
fn properties(page: &mut String, schema: &Value, with_type: bool) {
    let required = list(&schema["required"]);
    page.push_str("| field | type | |\n| --- | --- | --- |\n");
    for (name, field) in fields(&schema["properties"]).filter(|(name, _)| with_type || *name != "type") {
        let is_optional = !required.iter().any(|required| required == name);
        let absent = if is_optional { " (may be absent)" } else { "" };
        let text = line(words(field, "description"));
        let _ = writeln!(page, "| `{name}` | {}{absent} | {text} |", kind(field));
    }
}

fn codes(page: &mut String, document: &Value) {
    page.push_str("\n## Codes\n\n| status | code | |\n| --- | --- | --- |\n");
    let mut rows: Vec<(u64, &str, &str)> = fields(&document["components"]["responses"])
        .map(|(code, response)| {
            let narrowed =
                &response["content"]["application/problem+json"]["schema"]["allOf"][1]["properties"];
            let status = narrowed["status"]["const"].as_u64().unwrap_or_default();
            let text = words(response, "description");
            (status, code.as_str(), text.split_once(": ").map_or(text, |(_, meaning)| meaning))
        })
        .collect();
    rows.sort_unstable();
    for (status, code, meaning) in rows {
        let _ = writeln!(page, "| {status} | `{code}` | {meaning} |");
    }
}

/// Describes a schema in a few words.
fn kind(schema: &Value) -> String {
    let mut text = shape(schema);
    let limits = [
        ("minimum", "≥"),
        ("exclusiveMinimum", ">"),
        ("maximum", "≤"),
        ("exclusiveMaximum", "<"),
        ("minItems", "items ≥"),
        ("maxItems", "items ≤"),
        ("minLength", "characters ≥"),
        ("maxLength", "characters ≤"),
    ];
    for (name, sign) in limits {
        if let Some(limit) = schema.get(name) {
            let _ = write!(text, ", {sign} {limit}");
        }
    }
    if let Some(default) = schema.get("default") {
        let _ = write!(text, ", default `{default}`");
    }
    text
}

fn shape(schema: &Value) -> String {
    if let Some(reference) = schema["$ref"].as_str() {
        return link(reference.trim_start_matches(SCHEMAS));
    }
    for choice in ["oneOf", "anyOf", "allOf"] {
        if let Some(choices) = schema[choice].as_array() {
            return choices.iter().map(kind).collect::<Vec<_>>().join(" or ");
        }
    }
    if let Some(words) = schema["enum"].as_array() {
        let words = words.iter().filter_map(Value::as_str);
        return words.map(|word| format!("`{word}`")).collect::<Vec<_>>().join(", ");
    }
    let word = |kind: &Value| match kind.as_str().unwrap_or("any") {
        "array" if schema.get("items").is_some() => format!("array of ({})", kind_of_items(schema)),
        "object" if schema["additionalProperties"].is_object() => {
            format!("object of ({})", self::kind(&schema["additionalProperties"]))
        }
        "string" => match schema["format"].as_str() {
            Some(format) => format!("string, {format}"),
            None => "string".to_owned(),
        },
        other => other.to_owned(),
    };
    match &schema["type"] {
        Value::Array(kinds) => kinds.iter().map(word).collect::<Vec<_>>().join(" or "),
        one => word(one),
    }
}

fn kind_of_items(schema: &Value) -> String {
    kind(&schema["items"])
}

/// Returns a link to a schema on this page.
fn link(name: &str) -> String {
    format!("[{name}](#{})", name.to_lowercase())
}

/// Escapes text for a cell of a table.
fn line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ").replace('|', "\\|")
}

fn words<'a>(value: &'a Value, field: &str) -> &'a str {
    value[field].as_str().unwrap_or_default()
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn fields(value: &Value) -> impl Iterator<Item = (&String, &Value)> {
    value.as_object().into_iter().flat_map(Map::iter)
}
