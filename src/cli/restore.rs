use std::path::PathBuf;

use clap::Args;
use serde_json::json;

use super::backup::described;
use super::folder::FolderArgs;
use super::{CliError, Output, print, print_json};
use crate::backup;

const EXAMPLES: &str = "\
Examples:
  chainrule restore chainrule-2026-07-01.tar --data-dir /var/lib/chainrule-restored
  chainrule serve --data-dir /var/lib/chainrule-restored

The folder must be empty or not exist. The restored data is checked before it can be used. After an
interrupted restore, run the command again. Jobs that were running resume when a server starts on it.";

/// Arguments of `chainrule restore`.
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub struct RestoreArgs {
    #[command(flatten)]
    folder: FolderArgs,

    /// The backup to restore
    #[arg(value_name = "FILE")]
    file: PathBuf,
}

/// Restores a data folder from a backup.
pub async fn run(args: RestoreArgs, output: Output) -> Result<(), CliError> {
    let folder = &args.folder.data_dir;
    let contents = backup::restore(&args.file, folder).await?;
    if output.json {
        let counts = contents.counts;
        return print_json(&json!({
            "folder": folder.to_string_lossy(), "jobs": counts.jobs, "models": counts.models,
            "checkpoints": counts.checkpoints, "bytes": contents.bytes,
        }));
    }
    if output.quiet {
        return print(folder.display());
    }
    print(format!("{}: {}", folder.display(), described(&contents)))
}
