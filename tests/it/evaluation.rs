//! Evaluations of models, comparisons of two, and model cards.

use chainrule::api;
use chainrule::artifact::write_model;
use chainrule::data::{Dataset, IMAGE_PIXELS, Split, SplitName, mnist};
use chainrule::evaluation::{Readings, Report, report_cost};
use chainrule::job::BlobKey;
use chainrule::model::ModelSource;
use chainrule::nn::{LayerSpec, Network};
use chainrule::service::{Evaluated, Examples};
use chainrule::store::NewModel;
use ndarray::Array2;
use reqwest::StatusCode;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::command_line::{json_lines, status};
use crate::counting::most_held;
use crate::process::{Process, output, text};
use crate::server::{TestServer, pointers, problem, quick};

const EVALUATE: &str = "/v1/models/digits/evaluate";

async fn evaluated(server: &TestServer, path: &str, request: Value) -> Value {
    let response = server.post(path, "application/json", request.to_string()).await;
    let found = response.status();
    let body = response.text().await.expect("a body");
    assert_eq!(found, StatusCode::OK, "{body}");
    serde_json::from_str(&body).expect("JSON")
}

fn list<T: serde::de::DeserializeOwned>(value: &Value) -> Vec<T> {
    serde_json::from_value(value.clone()).expect("a list")
}

/// Returns a PNG after a look at its first bytes, and its width.
async fn picture(response: reqwest::Response) -> (Vec<u8>, u32) {
    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(response.headers()["content-type"], "image/png");
    let png = response.bytes().await.expect("a body").to_vec();
    assert!(png.starts_with(b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR"));
    let width = u32::from_be_bytes(png[16..20].try_into().expect("four bytes"));
    (png, width)
}

/// Publishes a network with random weights.
async fn publish(server: &TestServer, name: &str, layers: Vec<LayerSpec>, classes: usize) {
    let classes: Vec<String> = (0..classes).map(|class| class.to_string()).collect();
    let network = Network::<f32>::new(mnist::shape().input, &layers, 1).expect("layers that fit");
    let bytes = write_model(&network, &layers, &classes).expect("a file");
    let key = BlobKey::UploadedModel { name: name.to_owned(), version: 1, upload: Uuid::now_v7() };
    let blob = server.app().blobs().put(&key.to_string(), bytes.into()).await.expect("a blob");
    let parameters = network.parameter_count();
    let model = NewModel { name: name.to_owned(), version: 1, parameters, layers, classes, blob };
    let published =
        server.app().dispatch().store().publish_model("x", ModelSource::Upload, &model, None).await;
    assert!(published.expect("rows").is_some());
    server.app().registry().refresh().await.expect("rows");
}

fn dense(units: usize) -> Vec<LayerSpec> {
    serde_json::from_value(json!([{ "type": "dense", "units": units, "init": "he" }])).expect("layers")
}

#[tokio::test(flavor = "multi_thread")]
async fn an_evaluation_has_the_figures_of_the_predictions() {
    let server = TestServer::start(&[]).await;
    let job = server.with_model().await;
    let evaluation = evaluated(&server, EVALUATE, json!({ "predictions": true, "worst": 7 })).await;
    for (field, expected) in [
        ("model", json!("digits")),
        ("version", json!(1)),
        ("dataset", json!("mnist")),
        ("split", json!("test")),
        ("examples", json!(10_000)),
        ("dataset_sha256", json!(mnist::dataset().sha256())),
    ] {
        assert_eq!(evaluation[field], expected, "{field}");
    }
    // The job multiplies pixels by 1/255, and predictions divide them by 255.
    let close = |field: &str, tolerance: f64| {
        let found = evaluation[field].as_f64().expect("a number");
        let expected = job["result"][format!("test_{field}")].as_f64().expect("a number");
        assert!((found - expected).abs() <= tolerance, "{field}: {found}, not {expected}");
    };
    close("accuracy", 2e-4);
    close("loss", 1e-5);

    let test = &mnist::dataset().test;
    let images = test.images().as_slice().expect("row order").to_vec();
    let predicted = server.post("/v1/models/digits/predict", "application/octet-stream", images).await;
    let predicted: Value = predicted.json().await.expect("JSON");
    let predicted = predicted["predictions"].as_array().expect("predictions");
    let all = &evaluation["predictions"];
    let (labels, read, confidence): (Vec<u16>, Vec<u16>, Vec<f64>) =
        (list(&all["label"]), list(&all["predicted"]), list(&all["confidence"]));
    assert_eq!(labels, test.labels());
    let mut confusion = vec![vec![0; 10]; 10];
    for (index, prediction) in predicted.iter().enumerate() {
        assert_eq!(
            (&prediction["label"], &prediction["confidence"]),
            (&json!(read[index]), &json!(confidence[index]))
        );
        confusion[usize::from(labels[index])][usize::from(read[index])] += 1;
    }
    assert_eq!(evaluation["confusion"], json!(confusion));
    let correct = (0..10).map(|class| confusion[class][class]).sum::<usize>();
    assert_eq!(evaluation["correct"], correct);
    assert_eq!(evaluation["accuracy"], correct as f64 / 1e4);
    let supports = evaluation["per_class"].as_array().expect("classes").iter().map(|class| &class["support"]);
    assert_eq!(supports.collect::<Vec<_>>(), [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]);
    let counts = evaluation["calibration"]["bins"].as_array().expect("bins").iter();
    assert_eq!(counts.filter_map(|bin| bin["count"].as_u64()).sum::<u64>(), 10_000);

    let worst = evaluation["worst"].as_array().expect("examples");
    let losses: Vec<f64> = worst.iter().filter_map(|read| read["loss"].as_f64()).collect();
    assert!(losses.len() == 7 && losses.is_sorted_by(|a, b| a >= b), "{losses:?}");
    let wrong = &evaluation["confidently_wrong"];
    let sure = |index: usize| read[index] != labels[index] && confidence[index] >= f64::from(0.9_f32);
    assert_eq!(wrong["count"], (0..10_000).filter(|&index| sure(index)).count());
    for example in wrong["examples"].as_array().expect("examples") {
        assert!(sure(example["index"].as_u64().expect("an index") as usize), "{example}");
    }
    let short = evaluated(&server, EVALUATE, json!({ "worst": 0 })).await;
    assert_eq!((&short["worst"], short.get("predictions")), (&json!([]), None));
    assert_eq!(short["confusion"], evaluation["confusion"]);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_evaluation_can_be_drawn() {
    let server = TestServer::start(&[]).await;
    server.with_model().await;
    let draw = |query: &str, worst: u64| {
        let request =
            server.http.post(server.path(&format!("{EVALUATE}{query}"))).header("Accept", "image/png");
        request.json(&json!({ "worst": worst })).send()
    };
    let (matrix, width) = picture(draw("", 20).await.expect("an answer")).await;
    assert!((300..500).contains(&width), "{width}");
    assert_eq!(picture(draw("?picture=confusion", 3).await.expect("an answer")).await.0, matrix);
    let (worst, width) = picture(draw("?picture=worst", 20).await.expect("an answer")).await;
    assert_eq!(width, 2 + 10 * (3 * 28 + 2));
    let (sure, _) = picture(draw("?picture=confidently_wrong", 20).await.expect("an answer")).await;
    assert_ne!(sure, worst);
    picture(draw("?picture=worst", 0).await.expect("an answer")).await;
    problem(draw("?picture=matrix", 20).await.expect("an answer"), 422, "invalid_query").await;
    let text = server.post(&format!("{EVALUATE}?picture=worst"), "application/json", "{}").await;
    let problem = problem(text, 422, "invalid_query").await;
    assert!(
        problem["detail"].as_str().is_some_and(|detail| detail.contains("Accept: image/png")),
        "{problem}"
    );
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_evaluation_that_can_not_be_is_refused_with_every_fault() {
    let server = TestServer::start(&[]).await;
    server.with_model().await;
    let request =
        json!({ "dataset": "mnits", "split": "validation", "predictions": 1, "worst": 201, "bins": 3 });
    let refused =
        problem(server.post(EVALUATE, "application/json", request.to_string()).await, 422, "invalid_request")
            .await;
    assert_eq!(pointers(&refused), ["/dataset", "/split", "/predictions", "/worst", "/bins"]);
    assert!(refused.to_string().contains("did you mean \\\"mnist\\\"?"), "{refused}");
    problem(server.post("/v1/models/letters/evaluate", "application/json", "{}").await, 404, "unknown_model")
        .await;
    problem(server.post(EVALUATE, "application/json", "").await, 400, "empty_body").await;
    let compare = "/v1/models/digits/compare/digits@1";
    for (query, pointer) in [
        ("dataset=mnits", "/dataset"),
        ("split=all", "/split"),
        ("cell=a", "/cell"),
        ("limit=x", "/limit"),
        ("worst=1", "/worst"),
    ] {
        let refused = problem(server.get(&format!("{compare}?{query}")).await, 422, "invalid_query").await;
        assert_eq!(pointers(&refused), [pointer], "{refused}");
    }
    for query in ["limit=201", "cursor=-1"] {
        problem(server.get(&format!("{compare}?{query}")).await, 422, "invalid_query").await;
    }
    problem(server.get("/v1/models/digits/compare/digits@9").await, 404, "unknown_version").await;
    problem(server.get("/v1/models/digits/compare/UP").await, 400, "invalid_model_reference").await;
    let card = problem(server.get("/v1/models/digits/card?dataset=mnits").await, 422, "invalid_query").await;
    assert_eq!(pointers(&card), ["/dataset"]);

    publish(&server, "three", dense(3), 3).await;
    for misfit in [
        server.post("/v1/models/three/evaluate", "application/json", "{}").await,
        server.get("/v1/models/digits/compare/three").await,
        server.get("/v1/models/three/card?dataset=mnist").await,
    ] {
        let detail = problem(misfit, 422, "dataset_misfit").await["detail"].to_string();
        assert!(
            detail.contains("three@1 reads 28×28×1 in 3 classes") && detail.contains("in 10 classes"),
            "{detail}"
        );
    }
    server.stop().await;
}

/// Reading 10,000 examples takes 4.1e9 operations.
#[tokio::test(flavor = "multi_thread")]
async fn an_evaluation_that_needs_too_many_operations_is_refused_with_their_number() {
    let server = TestServer::start(&["--predict-flops-max", "5e9"]).await;
    server.with_model().await;
    evaluated(&server, EVALUATE, json!({})).await;
    let train = server.post(EVALUATE, "application/json", r#"{"split": "train"}"#).await;
    let both = server.get("/v1/models/digits/compare/digits").await;
    for (refused, images, flops) in [(train, "60000", "2.4e10"), (both, "10000", "8.1e9")] {
        let detail = problem(refused, 422, "evaluation_too_large").await["detail"].to_string();
        assert!(detail.contains(images) && detail.contains(flops) && detail.contains("5.0e9"), "{detail}");
    }
    server.stop().await;
}

/// Sixty thousand images of a large network take half a minute. The work makes way for others, and ends with its client.
#[tokio::test(flavor = "multi_thread")]
async fn a_long_evaluation_makes_way_for_others_and_stops_with_its_client() {
    let server = TestServer::start(&["--long-work-max", "1", "--waiting-seconds-max", "600"]).await;
    let spec = crate::reproducible::spec(json!({ "network": "cnn-best" }));
    publish(&server, "best", spec.network.layers, 10).await;
    publish(&server, "small", dense(10), 10).await;
    let running = |server: &TestServer| {
        let mut lanes = server.app().admission().lanes();
        lanes.find(|lane| lane.lane.name() == "batch").expect("a lane").running
    };
    let request = server.client_at([127, 0, 0, 9]).post(server.path("/v1/models/best/evaluate"));
    let long = tokio::spawn(request.json(&json!({ "split": "train" })).send());
    while running(&server) == 0 {
        tokio::task::yield_now().await;
    }
    let one = server.post("/v1/models/small/predict", "application/octet-stream", vec![0; 784]).await;
    assert_eq!(one.status(), StatusCode::OK);
    evaluated(&server, "/v1/models/small/evaluate", json!({})).await;
    assert_eq!(server.get("/v1/models/small/compare/small").await.status(), StatusCode::OK);
    assert!(!long.is_finished(), "it has made way");
    long.abort();
    // The charge of a few connections remains.
    while running(&server) > 0 || server.app().admission().memory_bytes() > 1 << 20 {
        tokio::task::yield_now().await;
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_models_are_compared_example_by_example() {
    let server = TestServer::start(&[]).await;
    server.with_model().await;
    let job = server.create(json!({ "train_samples": 4_000, "epochs": 2 })).await;
    server.ended(job["id"].as_str().expect("an id")).await;
    let mut readings = Vec::new();
    for version in [1, 2] {
        let path = format!("/v1/models/digits@{version}/evaluate");
        let all = evaluated(&server, &path, json!({ "predictions": true })).await;
        readings.push((list::<u16>(&all["predictions"]["predicted"]), all));
    }
    let labels = mnist::dataset().test.labels().to_vec();
    let is_right = |model: usize, index: usize| readings[model].0[index] == labels[index];
    let path = "/v1/models/digits@1/compare/digits";
    let mut counted = 0;
    for (cell, sides) in [
        ("both_right", [true, true]),
        ("only_a", [true, false]),
        ("only_b", [false, true]),
        ("both_wrong", [false, false]),
    ] {
        let expected: Vec<usize> =
            (0..10_000).filter(|&index| [0, 1].map(|model| is_right(model, index)) == sides).collect();
        let query = format!("{path}?cell={cell}&limit=200");
        let mut page = server.get_json(&query).await;
        assert_eq!(page[cell], expected.len(), "{cell}");
        let mut found = Vec::new();
        let mut pages = 0;
        loop {
            for difference in page["differences"].as_array().expect("examples") {
                let index = difference["index"].as_u64().expect("an index") as usize;
                assert_eq!(difference["label"], labels[index]);
                for (model, side) in ["a", "b"].into_iter().enumerate() {
                    let confidence = &readings[model].1["predictions"]["confidence"][index];
                    assert_eq!(difference[side]["predicted"], readings[model].0[index]);
                    assert_eq!(&difference[side]["confidence"], confidence);
                }
                found.push(index);
            }
            pages += 1;
            let Some(cursor) = page["next_cursor"].as_str() else { break };
            // Reading the rest of 9,000 examples would teach nothing.
            if pages == 3 {
                break;
            }
            page = server.get_json(&format!("{query}&cursor={cursor}")).await;
        }
        assert!(expected.starts_with(&found) && found.len() == expected.len().min(600), "{cell}");
        counted += expected.len();
    }
    assert_eq!(counted, 10_000);
    let page = server.get_json(path).await;
    assert_eq!((&page["a"]["version"], &page["b"]["version"]), (&json!(1), &json!(2)));
    assert_eq!(page["a"]["accuracy"], readings[0].1["accuracy"]);
    assert_eq!(page["b"]["accuracy"], readings[1].1["accuracy"]);
    let (only_a, only_b) =
        (page["only_a"].as_f64().expect("a count"), page["only_b"].as_f64().expect("a count"));
    let statistic = ((only_a - only_b).abs() - 1.0).powi(2) / (only_a + only_b);
    assert_eq!(page["mcnemar"]["statistic"], statistic);
    assert!(page["mcnemar"]["p_value"].as_f64().is_some_and(|p| (0.0..=1.0).contains(&p)));

    let itself = server.get_json("/v1/models/digits@1/compare/digits@1").await;
    assert_eq!((&itself["only_a"], &itself["differences"]), (&json!(0), &json!([])));
    assert_eq!(itself["mcnemar"], json!({ "statistic": null, "p_value": 1.0 }));

    let sheet = |query: &str| {
        server.http.get(server.path(&format!("{path}{query}"))).header("Accept", "image/png").send()
    };
    let first = sheet("?limit=10&split=test").await.expect("an answer");
    let cursor =
        server.get_json(&format!("{path}?limit=10")).await["next_cursor"].as_str().expect("more").to_owned();
    let link = format!("<?limit=10&split=test&cursor={cursor}>; rel=\"next\"");
    assert_eq!(first.headers()["link"], link.as_str());
    let first = picture(first).await.0;
    let second = sheet(&format!("?limit=10&split=test&cursor={cursor}")).await.expect("an answer");
    assert_ne!(picture(second).await.0, first);
    let last = sheet("?cursor=9999").await.expect("an answer");
    assert!(!last.headers().contains_key("link"));
    picture(last).await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_card_says_what_is_known_about_a_version() {
    let server = TestServer::start(&[]).await;
    let job = server.with_model().await;
    server.put("/v1/models/digits/aliases/champion", json!({ "version": 1 })).await;
    let card = server.get_json("/v1/models/digits@champion/card").await;
    assert_eq!((&card["version"], &card["aliases"]), (&json!(1), &json!(["champion"])));
    assert_eq!(card["spec"], job["spec"]);
    assert_eq!(card["published"], server.get_json("/v1/models/digits").await["versions"][0]);
    assert_eq!(card["data"], server.get_json("/v1/datasets/mnist").await);
    assert_eq!(card["data"]["sha256"], mnist::dataset().sha256());
    let evaluation = evaluated(&server, EVALUATE, json!({ "worst": 10 })).await;
    assert_eq!(card["evaluation"], evaluation);
    assert!(card["limits"].as_array().is_some_and(|limits| limits.len() >= 4), "{card}");
    assert!(card["program"].as_str().is_some_and(|program| program.starts_with("chainrule ")));

    let markdown = server.http.get(server.path("/v1/models/digits/card")).header("Accept", "text/markdown");
    let markdown = markdown.send().await.expect("an answer");
    assert_eq!(markdown.headers()["content-type"], "text/markdown; charset=utf-8");
    let markdown = markdown.text().await.expect("text");
    for part in [
        "# digits@1\n",
        "## Training\n",
        "\"epochs\": 2",
        mnist::dataset().sha256(),
        "| 95 % interval (Wilson) | ",
        "### Confusion\n",
        "### Calibration\n",
        "## Limits of use\n",
    ] {
        assert!(markdown.contains(part), "{part} is not in\n{markdown}");
    }

    // The job is gone, so nobody knows what the version was trained on.
    let id = job["id"].as_str().expect("an id");
    assert_eq!(server.delete(&format!("/v1/jobs/{id}")).await.status(), StatusCode::NO_CONTENT);
    let card = server.get_json("/v1/models/digits/card").await;
    assert_eq!(
        (&card["spec"], &card["data"], &card["evaluation"]),
        (&Value::Null, &Value::Null, &Value::Null)
    );
    let markdown = server.http.get(server.path("/v1/models/digits/card")).header("Accept", "text/markdown");
    let markdown = markdown.send().await.expect("an answer").text().await.expect("text");
    assert!(markdown.contains("## Network\n") && markdown.contains("has no figures here"), "{markdown}");
    let card = server.get_json("/v1/models/digits/card?dataset=mnist").await;
    assert_eq!(card["evaluation"], evaluation);
    problem(server.get("/v1/models/digits@2/card").await, 404, "unknown_version").await;
    server.stop().await;
}

/// Readings of a data set with the longest names, each byte of which is escaped in JSON.
fn awkward(examples: usize, classes: usize) -> Evaluated {
    let labels: Vec<u16> = (0..examples).map(|index| (index % classes) as u16).collect();
    let split = || Split::new(Array2::zeros((examples, IMAGE_PIXELS)), labels.clone()).expect("a split");
    let names = (0..classes).map(|_| "\u{1}".repeat(40)).collect();
    let dataset = Dataset::new("awkward".to_owned(), names, split(), split()).expect("a data set");
    let readings = Readings {
        predicted: (0..examples).map(|index| (index * 7 % classes) as u16).collect(),
        confidence: (0..examples).map(|index| 0.9 + 0.1 / (index + 3) as f32).collect(),
        losses: (0..examples).map(|index| 1.0 / (index + 3) as f64).collect(),
        labels,
    };
    let report = Report::of(&readings, classes, 200);
    let examples = Examples { dataset: dataset.into(), split: SplitName::Test };
    Evaluated { model: "m".repeat(64), version: u32::MAX, examples, readings, report }
}

#[test]
fn an_evaluation_takes_the_memory_of_its_price() {
    for (examples, classes) in [(300, 2), (10_000, 10), (2_000, 1_000)] {
        for all in [false, true] {
            let evaluated = awkward(examples, classes);
            let Evaluated { model, version, examples: of, readings, .. } = &evaluated;
            let made = || {
                let (readings, examples) = (readings.clone(), of.clone());
                let report = Report::of(&readings, classes, 200);
                let evaluated =
                    Evaluated { model: model.clone(), version: *version, examples, readings, report };
                serde_json::to_vec(&api::Evaluation::new(evaluated, all)).expect("JSON")
            };
            // The digest is computed once.
            of.dataset.sha256();
            let (held, body) = most_held(made);
            let cost = report_cost(examples, classes, 40 * classes, 200, all);
            let what = format!("{examples} examples, {classes} classes, {all}");
            assert!(
                held as f64 <= cost.memory_bytes,
                "{what}: {held} bytes, {} estimated",
                cost.memory_bytes
            );
            assert!(
                body.len() as f64 <= cost.answer_bytes,
                "{what}: {} bytes, {} estimated",
                body.len(),
                cost.answer_bytes
            );
            assert!(
                cost.memory_bytes <= 6.0 * held as f64 + 3e5,
                "{what}: {held} bytes, {} estimated",
                cost.memory_bytes
            );
        }
    }
}

#[test]
fn models_are_judged_from_the_command_line() {
    let folder = tempfile::tempdir().expect("a folder");
    let process = Process::serve(folder.path());
    let run = |arguments: &[&str]| {
        let output = output(&[arguments, &["--server", &process.url]].concat());
        assert_eq!(status(&output), Some(0), "{arguments:?}: {}", text(&output.stderr));
        (text(&output.stdout).to_owned(), text(&output.stderr).to_owned())
    };
    for _ in 0..2 {
        run(&["train", "--follow", "-q", &quick().to_string()]);
    }
    let (evaluation, _) = run(&["models", "evaluate", "digits@1", "--worst", "3"]);
    for part in [
        "model              digits@1\n",
        "examples           10000 of mnist test\n",
        "PRECISION",
        "TRUE \\ READ",
        "worst examples",
    ] {
        assert!(evaluation.contains(part), "{part} is not in\n{evaluation}");
    }
    let (json, _) = run(&["models", "evaluate", "digits@1", "--json", "--predictions"]);
    let json = &json_lines(json.as_bytes())[0];
    assert_eq!(json["predictions"]["label"].as_array().map(Vec::len), Some(10_000));
    let (quiet, _) = run(&["models", "evaluate", "digits@1", "-q"]);
    assert_eq!(quiet.trim(), json["accuracy"].to_string());

    // The second version has the weights of the first, since their specs are the same.
    let (same, _) = run(&["models", "compare", "digits@1", "digits@2"]);
    assert!(same.contains("A right  ") && same.contains("(exact): p = 1.000"), "{same}");
    run(&["train", "--follow", "-q", r#"{"train_samples": 1000, "epochs": 1}"#]);
    let (other, more) = run(&["models", "compare", "digits@1", "digits", "--limit", "2"]);
    assert!(other.contains("only A is right\nINDEX  LABEL  A READS"), "{other}");
    let cursor = more.trim().strip_prefix("there are more: --cursor ").expect("a cursor");
    let (next, _) =
        run(&["models", "compare", "digits@1", "digits", "--limit", "2", "--cursor", cursor, "--json"]);
    let next = &json_lines(next.as_bytes())[0];
    assert!(next["differences"][0]["index"].as_u64() > cursor.parse().ok(), "{next}");
    let wrong =
        output(&["models", "compare", "digits@1", "digits@2", "--cell", "a", "--server", &process.url]);
    assert_eq!(status(&wrong), Some(2));
    let unknown = output(&["models", "evaluate", "digit", "--server", &process.url]);
    assert_eq!(status(&unknown), Some(1));
    assert!(text(&unknown.stderr).contains("did you mean \"digits\"?"));
}
