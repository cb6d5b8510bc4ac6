use clap::Args;
use serde_json::Value;

use super::client::Client;
use super::{CliError, Output, ServerArgs, print, print_json};

/// Flags of `health`.
#[derive(Args)]
#[command(
    after_help = "Example:\n  chainrule health && echo ready\n\nAsks GET /readyz: status 0 where it is ready, 1 where not, 5 where nothing answers."
)]
pub struct HealthArgs {
    #[command(flatten)]
    server: ServerArgs,

    /// Ask only whether it is alive (GET /healthz), be it busy or stopping
    #[arg(long)]
    live: bool,
}

/// Asks a server whether it is ready, or alive.
pub async fn run(args: HealthArgs, output: Output) -> Result<(), CliError> {
    let (path, word) = if args.live { ("/healthz", "alive") } else { ("/readyz", "ready") };
    let answer: Value = Client::new(&args.server.server)?.get(path).await?;
    if output.json { print_json(&answer) } else { print(word) }
}
