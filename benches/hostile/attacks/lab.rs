//! Requests to the lab that are short to send and expensive to compute.

use std::sync::Arc;

use serde_json::json;
use tokio::task::JoinSet;

use crate::attack::{Attack, Kind, Scene, Target, attacker, hammer, hammer_from};
use crate::wire::{post, request};

/// Time for three responses, one after the other. The attack ends with the last one.
const AFFINE_SECONDS: u64 = 30;

pub fn attacks() -> Vec<Attack> {
    vec![
        Attack {
            name: "affine-outer",
            what: "three times `POST /v1/affine` of 259 KB: (32500, 1) · (1, 64500)",
            defence: "refused with the estimate before anything is allocated",
            kind: Kind::Memory,
            scene: Scene::Models,
            expected: &[422, 503],
            seconds_min: AFFINE_SECONDS,
            run: |target| Box::pin(affine_outer(target)),
        },
        Attack {
            name: "convolution-border",
            what: "16 clients post `/v1/convolution`, 64 filters and padding of 64 zeros",
            defence: "priced by the bytes of its response; runs in the lane of the lab",
            kind: Kind::Memory,
            scene: Scene::Models,
            expected: &[200, 422, 503],
            seconds_min: 0,
            run: |target| Box::pin(convolution_border(target)),
        },
        Attack {
            name: "gradient-check-wide",
            what: "16 clients check the gradient of a layer of 16,384 units, 115 numbers of each tensor",
            defence: "priced by operations and bytes; the lane of the lab is bounded",
            kind: Kind::Memory,
            scene: Scene::Models,
            expected: &[200, 422, 503],
            seconds_min: 0,
            run: |target| Box::pin(gradient_check_wide(target)),
        },
        Attack {
            name: "gradient-check",
            what: "16 clients check the gradient of `cnn-best` repeatedly",
            defence: "the lane of the lab",
            kind: Kind::Starvation,
            scene: Scene::Models,
            expected: &[200, 422, 503],
            seconds_min: 0,
            run: |target| {
                let body = json!({ "network": "cnn-best" }).to_string();
                Box::pin(hammer(target, 16, vec![post("/v1/gradient-check", &body)]))
            },
        },
        Attack {
            name: "gradient-check-many",
            what: "64 connections from four addresses check the gradient of `mlp` repeatedly",
            defence: "the lane of the lab, of which one client can have half",
            kind: Kind::Starvation,
            scene: Scene::Models,
            expected: &[200, 503],
            seconds_min: 0,
            run: |target| {
                let body = json!({ "network": "mlp" }).to_string();
                Box::pin(hammer_from(target, 64, 4, vec![post("/v1/gradient-check", &body)]))
            },
        },
        Attack {
            name: "trace-arrays",
            what: "16 clients ask for all arrays of a trace of `cnn-best`",
            defence: "the lane of the lab",
            kind: Kind::Starvation,
            scene: Scene::Models,
            expected: &[200, 422, 503],
            seconds_min: 0,
            run: |target| {
                let body = json!({ "example": { "index": 0 } }).to_string();
                Box::pin(hammer(target, 16, vec![post("/v1/models/best/trace?arrays=true", &body)]))
            },
        },
        Attack {
            name: "explain",
            what: "16 clients have `cnn-best` explain 16 images",
            defence: "the lane of the lab",
            kind: Kind::Starvation,
            scene: Scene::Models,
            expected: &[200, 422, 503],
            seconds_min: 0,
            run: |target| {
                let headers = [("Content-Type", "application/octet-stream")];
                let message = request("POST", "/v1/models/best/explain", &headers, &[9; 16 * 784]);
                Box::pin(hammer(target, 16, vec![message]))
            },
        },
    ]
}

/// Without an estimate, each of the three requests would allocate 17 GB.
async fn affine_outer(target: Target) {
    let (x, w) = (vec!["[0]"; 32_500].join(","), vec!["0"; 64_500].join(","));
    let message = post("/v1/affine", &format!("{{\"x\":[{x}],\"w\":[[{w}]]}}"));
    for _ in 0..3 {
        let outcome = target.ask_once(attacker(0, 1), &message).await;
        target.count(outcome);
    }
}

/// A request of 10 KB for 192 × 192 × 64 numbers, which are 45 MB of JSON.
async fn convolution_border(target: Target) {
    let filters: Vec<f64> = (1..=64).map(|filter| f64::from(filter) / 7.0).collect();
    let row = vec!["1"; 64].join(",");
    let rows = vec![format!("[{row}]"); 64].join(",");
    let filters = serde_json::to_string(&filters).unwrap_or_default();
    let body = format!("{{\"input\":[{rows}],\"filter\":[[[{filters}]]],\"padding\":64}}");
    hammer(target, 16, vec![post("/v1/convolution", &body)]).await;
}

/// As many numbers as the estimate allows. All requests are sent once, in parallel.
async fn gradient_check_wide(target: Target) {
    let layers =
        json!([{ "type": "dense", "units": 16_384 }, { "type": "relu" }, { "type": "dense", "units": 10 }]);
    let body = json!({ "network": { "layers": layers }, "samples": 4, "parameters": 57 }).to_string();
    let message: Arc<[u8]> = post("/v1/gradient-check", &body).into();
    let mut attackers = JoinSet::new();
    for index in 0..16 {
        let (target, message) = (target.clone(), Arc::clone(&message));
        attackers.spawn(async move {
            let outcome = target.ask_once(attacker(index, 16), &message).await;
            target.count(outcome);
        });
    }
    attackers.join_all().await;
}
