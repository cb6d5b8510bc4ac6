use clap::Args;
use tokio_util::sync::CancellationToken;

use super::{CliError, Output, print, print_json, style};
use crate::app::StartError;
use crate::config::Config;
use crate::server::Server;
use crate::telemetry;

const EXAMPLES: &str = "\
Examples:
  chainrule serve
  chainrule serve --listen 127.0.0.1:0 --data-dir /var/lib/chainrule
  CHAINRULE_WORKERS=2 CHAINRULE_LOG_FORMAT=json chainrule serve

-h leaves out the limits; --help shows everything.";

/// Arguments of `chainrule serve`.
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub struct ServeArgs {
    #[command(flatten)]
    config: Config,
}

/// Serves until SIGTERM or Ctrl-C.
pub async fn run(args: ServeArgs, output: Output) -> Result<(), CliError> {
    let config = args.config;
    let is_colored = style::is_colored(output.color, &std::io::stderr());
    telemetry::log(config.log_format, config.log.clone(), is_colored)
        .map_err(|error| CliError::failed("can't set up the log", error))?;
    let stop = stop_signal()?;
    let server = Server::start(config).await?;
    let address = server.address().map_err(|error| CliError::failed("can't determine the address", error))?;
    if output.json {
        print_json(&serde_json::json!({ "event": "listening", "url": format!("http://{address}") }))?;
    } else {
        print(format!("listening on http://{address}"))?;
    }
    server.run(stop).await;
    Ok(())
}

/// Returns a token that the first SIGTERM or Ctrl-C cancels. A second one ends the process at once; running
/// jobs then resume from their last checkpoints.
pub fn stop_signal() -> Result<CancellationToken, CliError> {
    use tokio::signal::unix::{SignalKind, signal};
    let listen = |kind| signal(kind).map_err(|error| CliError::failed("can't listen for signals", error));
    let (mut terminate, mut interrupt) = (listen(SignalKind::terminate())?, listen(SignalKind::interrupt())?);
    let stop = CancellationToken::new();
    let token = stop.clone();
    tokio::spawn(async move {
        let mut next = async || {
            tokio::select! {
                _ = terminate.recv() => 128 + 15,
                _ = interrupt.recv() => 128 + 2,
            }
        };
        next().await;
        token.cancel();
        std::process::exit(next().await);
    });
    Ok(stop)
}

impl From<StartError> for CliError {
    fn from(error: StartError) -> Self {
        Self::Failed { what: error.to_string(), why: None, hint: error.hint() }
    }
}
