use std::path::PathBuf;

use clap::Args;

use super::CliError;
use crate::backup::BackupError;
use crate::folder::FolderError;

/// The data folder that a command works on.
#[derive(Args)]
pub struct FolderArgs {
    /// Data folder of the server
    #[arg(long, env = "CHAINRULE_DATA_DIR", default_value = "./chainrule-data", value_name = "FOLDER")]
    pub data_dir: PathBuf,
}

impl From<FolderError> for CliError {
    fn from(error: FolderError) -> Self {
        let hint = match &error {
            FolderError::Shared(_) => Some(SHARED_HINT.to_owned()),
            error => error.hint(),
        };
        Self::Failed { what: error.to_string(), why: None, hint }
    }
}

impl From<BackupError> for CliError {
    fn from(error: BackupError) -> Self {
        let hint = match &error {
            BackupError::Exists(_) => Some("name another file, or replace it with --force".to_owned()),
            BackupError::Model { .. } | BackupError::Unsound { .. } => Some(UNSOUND_HINT.to_owned()),
            BackupError::NotEmpty { .. } => Some(NOT_EMPTY_HINT.to_owned()),
            BackupError::Folder(FolderError::Shared(_)) => {
                Some("stop it first, or restore into another folder".to_owned())
            }
            BackupError::Folder(error) => error.hint(),
            _ => None,
        };
        Self::Failed { what: error.to_string(), why: None, hint }
    }
}

const SHARED_HINT: &str = "stop the servers on it first: a repair needs the folder to itself; a check without --repair can run next to them";

const UNSOUND_HINT: &str = "see what can be done with: chainrule check --data-dir FOLDER";

const NOT_EMPTY_HINT: &str = "restore into a new folder, or move its contents elsewhere";
