//! Compares single predictions of two binaries, in turns. This is the cost of the limits for clients that
//! respect them.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rustix::process::Rlimit;
use tokio::runtime::Runtime;

use crate::attack::Scene;
use crate::good;
use crate::scene::Side;
use crate::wire::Connection;

const PAIRS: usize = 10;
const CONNECTIONS: usize = 4;

/// The least ratio of predictions per second that is accepted.
const RATIO_MIN: f64 = 0.98;

/// A body of 784 bytes, as the good client sends it.
const SCRIPT: &str = r#"wrk.method = "POST"
wrk.headers["Content-Type"] = "application/octet-stream"
wrk.body = string.rep(string.rep("\0", 12) .. string.rep("\255", 4) .. string.rep("\0", 12), 28)
"#;

/// Prints the median ratio. Returns false if it is below the least.
pub fn run(sides: &[Side], seconds: u64, runtime: &Runtime, files: &Rlimit) -> Result<bool> {
    let [before, after] = sides else { bail!("--single compares two binaries: give --before") };
    let before = runtime.block_on(before.set(Scene::Models, files))?;
    let after = runtime.block_on(after.set(Scene::Models, files))?;
    let folder = tempfile::tempdir()?;
    let script = folder.path().join("prediction.lua");
    fs::write(&script, SCRIPT)?;
    let has_wrk = Command::new("wrk").arg("-v").stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok();
    let client = if has_wrk { "wrk" } else { "this program's own client: wrk is not installed" };
    println!("single predictions, {PAIRS} pairs of {seconds} s, {CONNECTIONS} connections, by {client}");
    let rate = |address: SocketAddr| {
        if has_wrk { by_wrk(address, &script, seconds) } else { by_own(address, seconds, runtime) }
    };
    for set in [&before, &after] {
        good::alone(set.server.address, Duration::from_secs(1))?;
    }
    let mut ratios = Vec::new();
    for pair in 0..PAIRS {
        // The binaries take turns in going first, so that a drift of the machine favours neither.
        let (old, new) = if pair % 2 == 0 {
            let old = rate(before.server.address)?;
            (old, rate(after.server.address)?)
        } else {
            let new = rate(after.server.address)?;
            (rate(before.server.address)?, new)
        };
        println!("before {old:9.0}/s  after {new:9.0}/s  ratio {:.3}", new / old);
        ratios.push(new / old);
    }
    ratios.sort_unstable_by(f64::total_cmp);
    let median = (ratios[(PAIRS - 1) / 2] + ratios[PAIRS / 2]) / 2.0;
    println!(
        "median ratio {median:.3} [{:.3}, {:.3}], at least {RATIO_MIN} is promised",
        ratios[0],
        ratios[PAIRS - 1]
    );
    Ok(median >= RATIO_MIN)
}

/// Measures predictions per second with `wrk`.
fn by_wrk(address: SocketAddr, script: &Path, seconds: u64) -> Result<f64> {
    let output = Command::new("wrk")
        .args(["-t1", &format!("-c{CONNECTIONS}"), &format!("-d{seconds}s"), "-s"])
        .arg(script)
        .arg(format!("http://{address}/v1/models/digits/predict"))
        .output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    ensure!(output.status.success(), "wrk failed: {text}");
    let has_errors = text.contains("Non-2xx") || text.contains("Socket errors");
    ensure!(!has_errors, "predictions failed under wrk: {text}");
    let rate = text.lines().find_map(|line| line.trim().strip_prefix("Requests/sec:"));
    rate.and_then(|rate| rate.trim().parse().ok()).with_context(|| format!("wrk told no rate: {text}"))
}

fn by_own(address: SocketAddr, seconds: u64, runtime: &Runtime) -> Result<f64> {
    let message = good::prediction();
    let begun = Instant::now();
    let until = begun + Duration::from_secs(seconds);
    let clients: Vec<_> = (0..CONNECTIONS)
        .map(|_| {
            let message = message.clone();
            runtime.spawn(async move {
                let mut connection = Connection::open(good::ADDRESS, address).await?;
                let mut count = 0u32;
                while Instant::now() < until {
                    let answer =
                        connection.ask(&message).await.map_err(|outcome| anyhow::anyhow!("{outcome}"))?;
                    ensure!(answer.status == 200, "a prediction was answered with {}", answer.status);
                    count += 1;
                }
                Ok(count)
            })
        })
        .collect();
    let mut count = 0;
    for client in clients {
        count += runtime.block_on(client)??;
    }
    Ok(f64::from(count) / begun.elapsed().as_secs_f64())
}
