use std::path::PathBuf;

use clap::Args;
use serde_json::json;

use super::check::listed;
use super::folder::FolderArgs;
use super::{CliError, Output, print, print_json, say};
use crate::backup::{self, Contents};
use crate::folder::Folder;

const EXAMPLES: &str = "\
Examples:
  chainrule backup chainrule-2026-07-01.tar --data-dir /var/lib/chainrule
  chainrule backup --force /mnt/backup/chainrule.tar && echo saved

Servers may run meanwhile. The file is a tar, as large as the data. It holds the rows of one moment
and the models and checkpoints that they name, each verified against its digest. It is called
FILE.partial until it is complete. Damaged checkpoints are left out; a damaged model is an error.";

/// Arguments of `chainrule backup`.
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub struct BackupArgs {
    #[command(flatten)]
    folder: FolderArgs,

    /// Replace FILE if it exists
    #[arg(long)]
    force: bool,

    /// The file to write to
    #[arg(value_name = "FILE")]
    file: PathBuf,
}

/// Backs up a data folder.
pub async fn run(args: BackupArgs, output: Output) -> Result<(), CliError> {
    if args.file.as_os_str() == "-" {
        return Err(CliError::Usage {
            what: "a backup can't be written to standard output".to_owned(),
            hint: "name a file: it is renamed into place once it is complete, but a pipe can end early"
                .to_owned(),
        });
    }
    let folder = Folder::beside(&args.folder.data_dir).await?;
    let backup = backup::backup(&folder, &args.file, args.force).await;
    folder.close().await;
    let (contents, left_out) = backup?;
    if output.json {
        let Contents { counts, bytes } = contents;
        return print_json(&json!({
            "file": args.file.to_string_lossy(), "jobs": counts.jobs, "models": counts.models,
            "checkpoints": counts.checkpoints, "bytes": bytes, "left_out": left_out,
        }));
    }
    for left_out in &left_out {
        say(format!("warning: left out {left_out}"));
    }
    if output.quiet {
        return print(args.file.display());
    }
    print(format!("{}: {}", args.file.display(), described(&contents)))
}

/// Describes the contents of a backup.
pub fn described(contents: &Contents) -> String {
    let counts = contents.counts;
    let parts = [("job", counts.jobs), ("model", counts.models), ("checkpoint", counts.checkpoints)];
    format!("{}, {} bytes", listed(&parts), contents.bytes)
}
