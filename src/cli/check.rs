use std::path::Path;

use clap::Args;
use serde_json::json;

use super::folder::FolderArgs;
use super::{CliError, Output, print, print_json};
use crate::folder::Folder;
use crate::integrity::{self, FolderFinding, FolderReport, RepairError};

const EXAMPLES: &str = "\
Examples:
  chainrule check --data-dir /var/lib/chainrule            check it; servers may run
  chainrule check --data-dir /var/lib/chainrule --repair   repair it; no server may run

The command needs no server. Exit status: 0 if the folder is sound, 1 if faults were found or remain.";

/// Arguments of `chainrule check`.
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub struct CheckArgs {
    #[command(flatten)]
    folder: FolderArgs,

    /// Rebuild what can be rebuilt, move damaged files aside and delete rows whose files are lost
    #[arg(long)]
    repair: bool,
}

/// Checks a data folder, and repairs it if asked.
pub async fn run(args: CheckArgs, output: Output) -> Result<(), CliError> {
    let path = &args.folder.data_dir;
    let folder = if args.repair { Folder::alone(path).await? } else { Folder::beside(path).await? };
    let checked = check(&folder, args.repair, output).await;
    folder.close().await;
    checked
}

async fn check(folder: &Folder, repair: bool, output: Output) -> Result<(), CliError> {
    let look = async || integrity::check(&folder.store, &folder.blobs, repair).await;
    let failed = |error| CliError::failed(format!("can't check {}", folder.path.display()), error);
    let mut report = look().await.map_err(failed)?;
    let mut done = Vec::new();
    if repair && !report.is_sound() {
        match integrity::repair(&folder.store, &folder.blobs, &report).await {
            Ok(sentences) => done = sentences,
            // Nothing was repaired. The printed findings say why.
            Err(RepairError::Database) => {}
            Err(error) => {
                return Err(CliError::failed(format!("can't repair {}", folder.path.display()), error));
            }
        }
        if !done.is_empty() {
            report = look().await.map_err(failed)?;
        }
    }
    tell(&folder.path, &report, &done, output)?;
    if report.is_sound() { Ok(()) } else { Err(unsound(&folder.path, &report)) }
}

fn tell(path: &Path, report: &FolderReport, done: &[String], output: Output) -> Result<(), CliError> {
    let counts = report.counts;
    if output.json {
        let shown = |finding: &FolderFinding| {
            json!({
                "kind": finding.kind(), "is_fault": finding.is_fault(), "detail": finding.to_string(),
                "repair": finding.remedy(),
            })
        };
        let findings: Vec<_> = report.findings.iter().map(shown).collect();
        return print_json(&json!({
            "folder": path.to_string_lossy(), "is_sound": report.is_sound(), "jobs": counts.jobs,
            "models": counts.models, "checkpoints": counts.checkpoints, "findings": findings, "repaired": done,
        }));
    }
    if !output.quiet {
        done.iter().try_for_each(print)?;
        for finding in &report.findings {
            match finding.remedy() {
                Some(remedy) => print(format!("{finding} (--repair {remedy})"))?,
                None => print(finding)?,
            }
        }
    }
    if !report.is_sound() {
        return Ok(());
    }
    if output.quiet {
        return print("sound");
    }
    let parts = [("job", counts.jobs), ("model", counts.models), ("checkpoint", counts.checkpoints)];
    print(format!("{} is sound: {}", path.display(), listed(&parts)))
}

/// Joins counted words: `2 jobs, 1 model`.
pub fn listed(parts: &[(&str, usize)]) -> String {
    let counted = parts.iter().map(|(word, count)| {
        let ending = if *count == 1 { "" } else { "s" };
        format!("{count} {word}{ending}")
    });
    counted.collect::<Vec<_>>().join(", ")
}

/// Makes the error for a folder that is not sound. If there are only stray files, no data is at risk, and
/// the message is milder.
fn unsound(path: &Path, report: &FolderReport) -> CliError {
    let is_stray = |finding: &&FolderFinding| matches!(finding, FolderFinding::Stray(_));
    let strays = report.faults().filter(is_stray).count();
    let faults = report.faults().count() - strays;
    let can_repair = report.faults().any(|finding| finding.remedy().is_some());
    let is_damaged =
        report.faults().any(|fault| matches!(fault, FolderFinding::Pages(_) | FolderFinding::Rows(_)));
    let (word, parts, hint) = if faults == 0 {
        let hint = "no data is at risk: a server deletes them at its start and periodically; --repair deletes them now";
        ("not tidy", vec![("stray file", strays)], Some(hint))
    } else {
        let hint = if is_damaged {
            Some(
                "a damaged database can't be repaired: restore a backup into a new folder with chainrule restore",
            )
        } else if can_repair {
            Some("stop the servers on it, then run this command with --repair")
        } else {
            Some("repair the disk, and check again")
        };
        let mut parts = vec![("fault", faults)];
        if strays > 0 {
            parts.push(("stray file", strays));
        }
        ("not sound", parts, hint)
    };
    CliError::Failed {
        what: format!("the data folder {} is {word}: {}", path.display(), listed(&parts)),
        why: None,
        hint: hint.map(str::to_owned),
    }
}
