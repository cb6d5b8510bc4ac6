use clap::Args;
use serde_json::Value;

use super::client::Client;
use super::{CliError, Output, ServerArgs, print, print_json};

/// Arguments of `chainrule health`.
#[derive(Args)]
#[command(
    after_help = "Example:\n  chainrule health && echo ready\n\nSends GET /readyz. Exit status: 0 if the server is ready, 1 if it is not, 5 if none answers."
)]
pub struct HealthArgs {
    #[command(flatten)]
    server: ServerArgs,

    /// Check only that the server is alive (GET /healthz), even if it is busy or stopping
    #[arg(long)]
    live: bool,
}

/// Checks whether a server is ready, or alive.
pub async fn run(args: HealthArgs, output: Output) -> Result<(), CliError> {
    let (path, word) = if args.live { ("/healthz", "alive") } else { ("/readyz", "ready") };
    let answer: Value = Client::new(&args.server.server)?.get(path).await?;
    if output.json { print_json(&answer) } else { print(word) }
}
