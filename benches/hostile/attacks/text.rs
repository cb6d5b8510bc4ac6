//! JSON that needs far more memory than bytes on the wire.

use crate::attack::{Attack, Hold, Kind, Scene, Target, hammer, hammer_from};
use crate::wire::{head, post};

const PIXELS: [(&str, &str); 1] = [("Content-Type", "application/octet-stream")];

/// The largest bodies of a request to the lab or for a job, and of a prediction.
const REQUEST_BYTES: usize = 256 << 10;
const PREDICTION_BYTES: usize = 16 << 20;

pub fn attacks() -> Vec<Attack> {
    vec![
        Attack {
            name: "scale-json",
            what: "four clients send 16 MB of `{\"scale\":[{\"\":0},…]}` to a prediction",
            defence: "unknown fields are skipped and not built",
            kind: Kind::Memory,
            scene: Scene::Models,
            expected: &[400, 413, 422, 503],
            seconds_min: 0,
            run: |target| {
                let body = filled("{\"image\":[0],\"scale\":[", "{\"\":0}", "]}", PREDICTION_BYTES);
                Box::pin(hammer(target, 4, vec![post("/v1/models/digits/predict", &body)]))
            },
        },
        Attack {
            name: "deep-json",
            what: "16 clients send 256 KB of nested arrays, of one repeated key, and of empty objects",
            defence: "depth, keys and values are bounded as they are read; parsed bytes are charged",
            kind: Kind::Memory,
            scene: Scene::Models,
            expected: &[400, 413, 422, 503],
            seconds_min: 0,
            run: |target| Box::pin(hammer(target, 16, deep())),
        },
        Attack {
            name: "in-a-row",
            what: "256 KB of empty objects from 256 connections, then bodies without their last byte that fill the memory, \
                   then 1,800 connections with 61 KB of a body each",
            defence: "one ledger for all memory",
            kind: Kind::Memory,
            scene: Scene::Models,
            expected: &[400, 408, 413, 422, 503],
            seconds_min: 12,
            run: |target| Box::pin(in_a_row(target)),
        },
    ]
}

/// Runs three attacks, each for a third of the time.
async fn in_a_row(target: Target) {
    let message = post("/v1/jobs", &filled("{\"network\":\"mlp\",\"x\":[", "{}", "]}", REQUEST_BYTES));
    let third = target.part(3);
    hammer_from(third.clone(), 256, 8, vec![message]).await;
    let unfinished = |bytes: usize, connections| Hold {
        connections,
        addresses: 8,
        says: {
            let mut says = head("POST", "/v1/models/digits/predict", &PIXELS, bytes).into_bytes();
            says.resize(says.len() + bytes - 1, 0);
            says
        },
        drips: None,
    };
    let third = target.part(2);
    let sizes = [(16_000_000, 30), (4_000_000, 8), (1_000_000, 20), (300_000, 40), (90_000, 60)];
    let held =
        sizes.into_iter().map(|(bytes, connections)| unfinished(bytes, connections).run(third.clone()));
    futures_util::future::join_all(held).await;
    unfinished(61_000, 1_800).run(target.clone()).await;
}

fn deep() -> Vec<Vec<u8>> {
    let half = REQUEST_BYTES / 2;
    let bodies = [
        format!("{{\"x\":{}{}}}", "[".repeat(half - 8), "]".repeat(half - 8)),
        format!("{{\"x\":{}0{}}}", "[".repeat(120), "]".repeat(120)),
        filled("{", "\"a\":0", "}", REQUEST_BYTES),
        filled("{\"network\":{\"layers\":[", "{\"\":{}}", "]}}", REQUEST_BYTES),
        filled("{\"x\":[", "[{\"\":0}]", "]}", REQUEST_BYTES),
        filled("{\"inputs\":{", "\"a\":0", "},\"expression\":\"a\"}", REQUEST_BYTES),
    ];
    let paths = ["/v1/jobs", "/v1/affine", "/v1/graph", "/v1/gradient-check", "/v1/models/best/trace"];
    paths.iter().flat_map(|path| bodies.iter().map(|body| post(path, body))).collect()
}

/// Returns as many copies of `piece`, separated by commas, as fit between `begin` and `end`.
fn filled(begin: &str, piece: &str, end: &str, bytes: usize) -> String {
    let count = (bytes - begin.len() - end.len()) / (piece.len() + 1);
    format!("{begin}{}{end}", vec![piece; count].join(","))
}
