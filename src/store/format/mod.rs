//! The JSON in columns. These types belong to the rows. They are converted to and from the program's own
//! types field by field, so a change of the program's types does not change which rows can be read.
//!
//! Each value has the number of its format. Values written before formats were numbered have no number and
//! count as format 1. A format never changes: a new format is added next to it, and the earlier ones stay
//! readable. Some statements and indexes of the migrations read a path of a value, such as `$.train_loss`.
//! These paths are part of the format.

mod course;
mod model;
mod spec;
#[cfg(test)]
mod tests;

use std::fmt::Display;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::{StoreError, row_error};

/// A value that a column stores as JSON.
pub(super) trait Column: Sized {
    /// The name of the column.
    const NAME: &'static str;

    /// The number of the format that is written.
    const FORMAT: u32;

    /// Parses JSON of this format, or returns `None` if there is no such format.
    fn read(format: u32, text: &str) -> Option<serde_json::Result<Self>>;

    /// Returns the value in the format that is written, without its number.
    fn stored(&self) -> impl Serialize;
}

/// The number of a value's format.
#[derive(Deserialize)]
struct Format {
    #[serde(default = "first")]
    format: u32,
}

fn first() -> u32 {
    1
}

#[derive(Serialize)]
struct Numbered<T> {
    format: u32,
    #[serde(flatten)]
    value: T,
}

/// Parses the value of a column of the row `id`.
pub(super) fn read<T: Column>(id: impl Display, text: &str) -> Result<T, StoreError> {
    let error = |why: &dyn Display| row_error(T::NAME, &id.to_string(), why);
    let format = match text.starts_with('[') {
        // A bare list can't hold a number, so it is format 1.
        true => first(),
        false => serde_json::from_str::<Format>(text).map_err(|why| error(&why))?.format,
    };
    let read = T::read(format, text).ok_or_else(|| error(&format_args!("its format {format} is unknown")))?;
    read.map_err(|why| error(&why))
}

/// Like [`read`], for a column that may be NULL.
pub(super) fn read_optional<T: Column>(
    id: impl Display,
    text: Option<String>,
) -> Result<Option<T>, StoreError> {
    text.map(|text| read(id, &text)).transpose()
}

/// Returns the JSON to store in a column of the row `id`.
pub(super) fn write<T: Column>(id: impl Display, value: &T) -> Result<String, StoreError> {
    let numbered = Numbered { format: T::FORMAT, value: value.stored() };
    serde_json::to_string(&numbered).map_err(|why| row_error(T::NAME, &id.to_string(), &why))
}

/// A type of the rows, and the program's type that it represents.
trait Stored {
    type Meaning;

    fn of(meaning: &Self::Meaning) -> Self;

    fn meaning(self) -> Self::Meaning;
}

/// Parses JSON as `T` and converts it.
fn meaning<T: Stored + DeserializeOwned>(text: &str) -> serde_json::Result<T::Meaning> {
    serde_json::from_str(text).map(T::meaning)
}

macro_rules! plain {
    ($($type:ty),*) => {$(
        impl Stored for $type {
            type Meaning = Self;

            fn of(meaning: &Self) -> Self {
                meaning.clone()
            }

            fn meaning(self) -> Self {
                self
            }
        }
    )*};
}
plain!(bool, i32, u32, u64, usize, f64, [f64; 2], String);

impl<T: Stored> Stored for Option<T> {
    type Meaning = Option<T::Meaning>;

    fn of(meaning: &Self::Meaning) -> Self {
        meaning.as_ref().map(T::of)
    }

    fn meaning(self) -> Self::Meaning {
        self.map(T::meaning)
    }
}

impl<T: Stored> Stored for Vec<T> {
    type Meaning = Vec<T::Meaning>;

    fn of(meaning: &Self::Meaning) -> Self {
        meaning.iter().map(T::of).collect()
    }

    fn meaning(self) -> Self::Meaning {
        self.into_iter().map(T::meaning).collect()
    }
}

/// Defines a stored type and its conversions. If a field of the program's type is renamed, the code no
/// longer compiles. `#[serde(rename)]` then keeps the old name in the rows, which tests check.
macro_rules! stored {
    (
        $(#[$meta:meta])*
        struct $name:ident means $meaning:ident { $($(#[$field_meta:meta])* $field:ident: $type:ty,)* }
    ) => {
        #[derive(Serialize, Deserialize)]
        $(#[$meta])*
        pub(super) struct $name { $($(#[$field_meta])* $field: $type,)* }

        impl Stored for $name {
            type Meaning = $meaning;

            fn of(meaning: &$meaning) -> Self {
                let $meaning { $($field,)* } = meaning;
                Self { $($field: Stored::of($field),)* }
            }

            fn meaning(self) -> $meaning {
                $meaning { $($field: self.$field.meaning(),)* }
            }
        }
    };
    (
        $(#[$meta:meta])*
        enum $name:ident means $meaning:ident { $($variant:ident { $($field:ident: $type:ty),* })* }
    ) => {
        #[derive(Serialize, Deserialize)]
        #[serde(rename_all = "snake_case")]
        $(#[$meta])*
        pub(super) enum $name { $($variant { $($field: $type),* },)* }

        impl Stored for $name {
            type Meaning = $meaning;

            fn of(meaning: &$meaning) -> Self {
                match meaning {
                    $($meaning::$variant { $($field),* } => Self::$variant { $($field: Stored::of($field)),* },)*
                }
            }

            fn meaning(self) -> $meaning {
                match self {
                    $(Self::$variant { $($field),* } => $meaning::$variant { $($field: $field.meaning()),* },)*
                }
            }
        }
    };
    (words $name:ident means $meaning:ident { $($word:ident)* }) => {
        #[derive(Serialize, Deserialize)]
        #[serde(rename_all = "snake_case")]
        pub(super) enum $name { $($word,)* }

        impl Stored for $name {
            type Meaning = $meaning;

            fn of(meaning: &$meaning) -> Self {
                match meaning {
                    $($meaning::$word => Self::$word,)*
                }
            }

            fn meaning(self) -> $meaning {
                match self {
                    $(Self::$word => $meaning::$word,)*
                }
            }
        }
    };
}
use stored;

/// Implements a column that has one format.
macro_rules! column {
    ($meaning:ident, $name:literal, $stored:ident) => {
        impl Column for $meaning {
            const NAME: &'static str = $name;
            const FORMAT: u32 = 1;

            fn read(format: u32, text: &str) -> Option<serde_json::Result<Self>> {
                (format == 1).then(|| meaning::<$stored>(text))
            }

            fn stored(&self) -> impl Serialize {
                $stored::of(self)
            }
        }
    };
}
use column;
