use std::path::PathBuf;

use clap::Args;
use serde_json::json;

use super::backup::told;
use super::folder::FolderArgs;
use super::{CliError, Output, print, print_json};
use crate::backup;

const EXAMPLES: &str = "\
Examples:
  chainrule restore chainrule-2026-07-01.tar --data-dir /var/lib/chainrule-restored
  chainrule serve --data-dir /var/lib/chainrule-restored

The folder must be empty or not there. What was restored is checked before it counts; a restore that
was cut is begun anew by the next. Jobs that were running go on when a server starts on the folder.";

/// Flags of `restore`.
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub struct RestoreArgs {
    #[command(flatten)]
    folder: FolderArgs,

    /// The backup to read
    #[arg(value_name = "FILE")]
    file: PathBuf,
}

/// Makes a data folder from a backup.
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
    print(format!("{}: {}", folder.display(), told(&contents)))
}
