use std::fmt;

use crate::blobs::StoredFile;
use crate::job::JobId;
use crate::store::BlobOwner;

/// Something that a check of a data folder reports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FolderFinding {
    /// The pages of the database are damaged, or a foreign key has no target.
    Pages(String),
    /// A row can't be parsed.
    Rows(String),
    /// A blob or the row of its job can't be read, so it is unknown whether the blob is sound.
    Unreadable {
        /// The checkpoint or model that the blob belongs to.
        owner: BlobOwner,
        /// The error of the read.
        why: String,
    },
    /// The blob of a checkpoint is lost.
    Checkpoint {
        /// The job of the checkpoint.
        job: JobId,
        /// Training steps that the checkpoint contains.
        step: u64,
        /// Key of the blob.
        key: String,
        /// What is wrong with the blob.
        why: String,
    },
    /// The blob of a model is lost.
    Model {
        /// The name of the model.
        name: String,
        /// The version of the model.
        version: u32,
        /// Key of the blob.
        key: String,
        /// Aliases of this version.
        aliases: Vec<String>,
        /// Whether a checkpoint can reproduce the same bytes.
        can_be_rebuilt: bool,
        /// What is wrong with the blob.
        why: String,
    },
    /// An orphan or temporary file of chainrule that no row will name.
    Stray(StoredFile),
    /// A file that chainrule did not make.
    Foreign(StoredFile),
    /// A damaged file that an earlier repair or server set aside.
    SetAside(StoredFile),
}

impl FolderFinding {
    /// Returns a stable identifier of this kind of finding, for `--json`.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Pages(_) => "damaged_database",
            Self::Rows(_) => "unreadable_row",
            Self::Unreadable { .. } => "unreadable_blob",
            Self::Checkpoint { .. } => "lost_checkpoint",
            Self::Model { .. } => "lost_model",
            Self::Stray(file) if file.is_temporary => "temporary_file",
            Self::Stray(_) => "orphan",
            Self::Foreign(_) => "foreign_file",
            Self::SetAside(_) => "set_aside",
        }
    }

    /// Returns whether the finding means that the folder is not sound. Other findings are only
    /// reported.
    pub fn is_fault(&self) -> bool {
        !matches!(self, Self::Foreign(_) | Self::SetAside(_))
    }

    /// Returns what a repair would do about the finding, or `None` if it can do nothing.
    pub fn remedy(&self) -> Option<String> {
        Some(match self {
            Self::Checkpoint { .. } => {
                "sets it aside; its job resumes from the previous checkpoint or starts over".to_owned()
            }
            Self::Model { can_be_rebuilt: true, .. } => {
                "writes it again from the last checkpoint of its job".to_owned()
            }
            Self::Model { aliases, .. } if aliases.is_empty() => {
                "sets it aside and deletes the version".to_owned()
            }
            Self::Model { aliases, .. } => {
                format!("sets it aside and deletes the version and its {}", counted("alias", aliases))
            }
            Self::Stray(_) => "removes it".to_owned(),
            Self::Pages(_)
            | Self::Rows(_)
            | Self::Unreadable { .. }
            | Self::Foreign(_)
            | Self::SetAside(_) => return None,
        })
    }
}

/// Returns `alias a` or `aliases a, b`.
pub(super) fn counted(alias: &str, names: &[String]) -> String {
    format!("{alias}{} {}", if names.len() == 1 { "" } else { "es" }, names.join(", "))
}

impl fmt::Display for FolderFinding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pages(why) => write!(f, "the database is damaged: {why}"),
            Self::Rows(why) => write!(f, "a row can't be read: {why}"),
            Self::Unreadable { owner, why } => write!(f, "{owner} can't be judged: {why}"),
            Self::Checkpoint { job, step, why, .. } => {
                write!(f, "{}: {why}", BlobOwner::Checkpoint { job: *job, step: *step })
            }
            Self::Model { name, version, why, .. } => {
                write!(f, "{}: {why}", BlobOwner::Model { name: name.clone(), version: *version })
            }
            Self::Stray(file) if file.is_temporary => {
                write!(f, "blobs/{} was not written completely", file.key)
            }
            Self::Stray(file) => write!(f, "no row names blobs/{}", file.key),
            Self::Foreign(file) => {
                write!(f, "blobs/{} does not belong to chainrule and is left alone", file.key)
            }
            Self::SetAside(file) => {
                write!(f, "blobs/{} was damaged and set aside earlier; it may be removed", file.key)
            }
        }
    }
}
