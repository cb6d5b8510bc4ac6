//! Connections that send little, read nothing or wait.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::attack::{Attack, Hold, Kind, Scene, Target, Unread, attacker};
use crate::wire::{Connection, get, head, loopback, post};

/// The largest accepted body, and the bytes sent of an endless head.
const BODY_BYTES_MAX: usize = 16 << 20;
const HEAD_BYTES: usize = 300 << 10;

/// A timeout of a write, a body or a silent connection must have taken effect after this many seconds.
const PATIENCE: u64 = 35;

const PIXELS: [(&str, &str); 1] = [("Content-Type", "application/octet-stream")];
const PREDICT: &str = "/v1/models/digits/predict";

pub fn attacks() -> Vec<Attack> {
    let mut attacks = unread();
    attacks.extend(bodies());
    attacks.extend(waiting());
    attacks
}

fn unread() -> Vec<Attack> {
    let attack = |name, what, defence, expected, run| Attack {
        name,
        what,
        defence,
        kind: Kind::Memory,
        scene: Scene::Models,
        expected,
        seconds_min: PATIENCE,
        run,
    };
    vec![
        attack(
            "endless-heads",
            "2,048 connections from 8 addresses send 300 KB of an endless head",
            "a connection's share of memory; a head must arrive within 20 s",
            &[400, 408, 431, 503],
            |target| {
                let head = format!("GET / HTTP/1.1\r\nHost: localhost\r\nX: {}", "x".repeat(HEAD_BYTES));
                let hold = Hold { connections: 2_048, addresses: 8, says: head.into_bytes(), drips: None };
                Box::pin(hold.run(target))
            },
        ),
        attack(
            "unread-checkpoints",
            "60 connections ask for a checkpoint of 39 MB and read nothing",
            "responses are streamed; a write without progress for 20 s closes the connection",
            &[200, 408, 429, 503],
            |target| Box::pin(unread_checkpoints(target)),
        ),
        attack(
            "unread-lab",
            "16 connections ask for all arrays of a trace of a layer of 4,096 units and read nothing",
            "a response is charged until its last byte is sent; the same timeout of 20 s",
            &[200, 408, 422, 429, 503],
            |target| {
                let message = post("/v1/models/wide/trace?arrays=true", "{\"example\":{\"index\":0}}");
                let unread = Unread { connections: 16, addresses: 4, message, again: false };
                Box::pin(unread.run(target))
            },
        ),
        attack(
            "pipelined",
            "64 connections send one request after the other and read nothing",
            "a request is read after the previous response was sent",
            &[200, 408, 422, 429, 503],
            |target| {
                let message = get("/v1/activations/relu?points=10000").repeat(100);
                let unread = Unread { connections: 64, addresses: 4, message, again: true };
                Box::pin(unread.run(target))
            },
        ),
    ]
}

async fn unread_checkpoints(target: Target) {
    // The job that trained the wide model, from the list of its versions.
    let Ok(mut connection) = Connection::open(loopback(attacker(0, 1)), target.address).await else { return };
    let Ok(answer) = connection.ask(&get("/v1/jobs?model=wide&limit=1")).await else { return };
    let Some(job) = answer.json()["jobs"][0]["id"].as_str().map(str::to_owned) else { return };
    let message = get(&format!("/v1/jobs/{job}/checkpoints/1"));
    Unread { connections: 60, addresses: 1, message, again: false }.run(target).await;
}

fn bodies() -> Vec<Attack> {
    let attack = |name, what, defence, seconds_min, run| Attack {
        name,
        what,
        defence,
        kind: Kind::Starvation,
        scene: Scene::Models,
        expected: &[400, 408, 413, 429, 503],
        seconds_min,
        run,
    };
    vec![
        attack(
            "announced-16",
            "16 heads from one address announce a body of 16 MiB and never send it",
            "bytes are charged as they arrive",
            0,
            |target| Box::pin(announced(16, 1).run(target)),
        ),
        attack(
            "announced-400",
            "400 such heads from 16 addresses",
            "the same; small bodies have a reserve",
            0,
            |target| Box::pin(announced(400, 16).run(target)),
        ),
        attack(
            "trickled",
            "256 bodies from one address arrive at a byte per second",
            "a body must arrive within 30 s; a share of the connections for each client",
            PATIENCE,
            |target| {
                let says = head("POST", PREDICT, &PIXELS, BODY_BYTES_MAX).into_bytes();
                Box::pin(Hold { connections: 256, addresses: 1, says, drips: Some(b'0') }.run(target))
            },
        ),
    ]
}

fn announced(connections: usize, addresses: usize) -> Hold {
    let says = head("POST", PREDICT, &PIXELS, BODY_BYTES_MAX).into_bytes();
    Hold { connections, addresses, says, drips: None }
}

fn waiting() -> Vec<Attack> {
    let attack = |name, what, defence, scene, run| Attack {
        name,
        what,
        defence,
        kind: Kind::Starvation,
        scene,
        expected: &[200, 400, 408, 422, 429, 503],
        seconds_min: 0,
        run,
    };
    vec![
        attack(
            "long-polls",
            "1,024 requests from one address wait 60 s for a running job",
            "long polls use no places of working requests",
            Scene::RunningJob,
            |target| Box::pin(of_job(target, "?wait_seconds=60", 1_024)),
        ),
        attack(
            "event-streams",
            "600 event streams of a running job, from one address",
            "streams are limited; a share of the connections for each client",
            Scene::RunningJob,
            |target| Box::pin(of_job(target, "/events", 600)),
        ),
        attack(
            "idle-connections",
            "3,000 connections from one address send nothing",
            "a share of the connections for each client; the longest idle one is closed first",
            Scene::Models,
            |target| {
                let hold = Hold { connections: 3_000, addresses: 1, says: Vec::new(), drips: None };
                Box::pin(hold.run(target))
            },
        ),
        attack(
            "idle-connections-spread",
            "3,000 connections from 30 addresses send nothing",
            "the longest idle of all connections is closed first",
            Scene::Models,
            |target| {
                let hold = Hold { connections: 3_000, addresses: 30, says: Vec::new(), drips: None };
                Box::pin(hold.run(target))
            },
        ),
        attack(
            "silent-lab",
            "64 clients ask the lab for large responses and disconnect at once, repeatedly",
            "work of a disconnected client is stopped",
            Scene::Models,
            |target| Box::pin(hang_up(target)),
        ),
    ]
}

async fn of_job(target: Target, asks: &str, connections: usize) {
    let Some(job) = target.job.clone() else { return };
    let says = get(&format!("/v1/jobs/{job}{asks}"));
    Hold { connections, addresses: 1, says, drips: None }.run(target).await;
}

/// The clients do not wait for a response, so responses are not counted.
async fn hang_up(target: Target) {
    let message: Arc<[u8]> = post("/v1/gradient-check", "{\"network\":\"cnn-best\"}").into();
    let mut attackers = JoinSet::new();
    for index in 0..64 {
        let (target, message) = (target.clone(), Arc::clone(&message));
        attackers.spawn(async move {
            let from = loopback(attacker(index, 16));
            while !target.is_over() {
                let opened = Connection::open(from, target.address);
                let Some(Ok(mut connection)) = target.within(opened).await else { continue };
                // The server may have closed the connection already.
                let _ = connection.send(&message).await;
                sleep(Duration::from_millis(50)).await;
                target.count(connection.state());
            }
        });
    }
    attackers.join_all().await;
}
