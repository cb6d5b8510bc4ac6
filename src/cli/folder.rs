use std::path::PathBuf;

use clap::Args;

use super::CliError;
use crate::app::StartError;
use crate::backup::BackupError;
use crate::folder::FolderError;

/// Which data folder a command works on.
#[derive(Args)]
pub struct FolderArgs {
    /// The data folder of the server
    #[arg(long, env = "CHAINRULE_DATA_DIR", default_value = "./chainrule-data", value_name = "FOLDER")]
    pub data_dir: PathBuf,
}

impl From<FolderError> for CliError {
    fn from(error: FolderError) -> Self {
        let hint = match &error {
            FolderError::Missing { .. } => Some(MISSING_HINT.to_owned()),
            FolderError::Shared(_) => Some(SHARED_HINT.to_owned()),
            FolderError::Start(error) => hint_of(error),
            FolderError::Blob(_) => None,
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
            BackupError::InUse(_) => Some("stop it first, or restore into another folder".to_owned()),
            BackupError::Start(error) => hint_of(error),
            _ => None,
        };
        Self::Failed { what: error.to_string(), why: None, hint }
    }
}

/// What to try where a folder can't be opened; a server that holds it was waited for.
fn hint_of(error: &StartError) -> Option<String> {
    match error {
        StartError::InUse(_) => Some("wait until the restore or the repair that holds it is done".to_owned()),
        error => error.hint(),
    }
}

const MISSING_HINT: &str = "name the data folder of a server with --data-dir";

const SHARED_HINT: &str =
    "stop the servers on it first: a repair needs it alone; without --repair it is checked beside them";

const UNSOUND_HINT: &str = "see what can be done with: chainrule check --data-dir FOLDER";

const NOT_EMPTY_HINT: &str = "restore into a new folder, or move what is in it away";
