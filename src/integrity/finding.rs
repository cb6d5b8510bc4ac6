use std::fmt;

use crate::blobs::StoredFile;
use crate::job::JobId;
use crate::store::BlobOwner;

/// Something in a data folder that is to be told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FolderFinding {
    /// The pages of the database are damaged, or rows refer to others that are not there.
    Pages(String),
    /// A row can't be read.
    Rows(String),
    /// The disk does not give a blob's bytes, or its row can't be read: whether it is sound isn't known.
    Unreadable {
        /// Whose bytes.
        owner: BlobOwner,
        /// Why.
        why: String,
    },
    /// The bytes of a checkpoint are lost.
    Checkpoint {
        /// Its job.
        job: JobId,
        /// Steps taken by then.
        step: u64,
        /// Where its bytes should be.
        key: String,
        /// What is wrong with them.
        why: String,
    },
    /// The bytes of a model are lost.
    Model {
        /// Its name.
        name: String,
        /// Its version.
        version: u32,
        /// Where its bytes should be.
        key: String,
        /// The aliases that mean it.
        aliases: Vec<String>,
        /// Whether a checkpoint makes the same bytes again.
        can_be_rebuilt: bool,
        /// What is wrong with them.
        why: String,
    },
    /// A file of chainrule's that nobody will name.
    Stray(StoredFile),
    /// A file that is not chainrule's.
    Foreign(StoredFile),
    /// A damaged file that was set aside earlier.
    SetAside(StoredFile),
}

impl FolderFinding {
    /// A stable word for it.
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

    /// Whether the folder is not as it should be; the rest is told only.
    pub fn is_fault(&self) -> bool {
        !matches!(self, Self::Foreign(_) | Self::SetAside(_))
    }

    /// What a repair does about it, if it can do something.
    pub fn remedy(&self) -> Option<String> {
        Some(match self {
            Self::Checkpoint { .. } => {
                "sets it aside: its job goes on from the checkpoint before, or begins again".to_owned()
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

/// `alias a`, or `aliases a, b`.
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
                write!(f, "blobs/{} was not written to its end", file.key)
            }
            Self::Stray(file) => write!(f, "no row names blobs/{}", file.key),
            Self::Foreign(file) => write!(f, "blobs/{} is not chainrule's, and is left alone", file.key),
            Self::SetAside(file) => {
                write!(f, "blobs/{} was damaged and set aside earlier; it may be removed", file.key)
            }
        }
    }
}
