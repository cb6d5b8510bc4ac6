//! Input files of commands. `-` is standard input.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use super::{CliError, Output};

/// Reads a file of at most `bytes_max` bytes. The limit protects against devices, which have no end.
pub fn read(file: &Path, bytes_max: usize) -> Result<Vec<u8>, CliError> {
    let failed = |error| CliError::failed(format!("can't read {}", named(file)), error);
    let mut bytes = Vec::new();
    let most = bytes_max as u64 + 1;
    if is_standard(file) {
        std::io::stdin().take(most).read_to_end(&mut bytes).map_err(failed)?;
    } else {
        File::open(file).and_then(|file| file.take(most).read_to_end(&mut bytes)).map_err(failed)?;
    }
    if bytes.len() > bytes_max {
        let what = format!("{} is larger than {bytes_max} bytes", named(file));
        return Err(CliError::Failed { what, why: None, hint: None });
    }
    Ok(bytes)
}

/// Returns the name of a file for messages.
pub fn named(file: &Path) -> String {
    if is_standard(file) { "standard input".to_owned() } else { file.display().to_string() }
}

/// Returns whether a file is standard input.
pub fn is_standard(file: &Path) -> bool {
    file.as_os_str() == "-"
}

/// Runs `work` for each of `things`, in order. If one fails, prints the error and continues with the
/// next, unless `is_last` says that the others would fail in the same way.
pub async fn each<T>(
    things: &[T],
    output: Output,
    is_last: impl Fn(&CliError) -> bool,
    mut work: impl AsyncFnMut(&T) -> Result<(), CliError>,
) -> Result<(), CliError> {
    let mut failed = 0;
    for thing in things {
        match work(thing).await {
            Ok(()) => {}
            Err(error) if things.len() == 1 || is_of_all(&error) || is_last(&error) => return Err(error),
            Err(error) => {
                error.print(output);
                failed += 1;
            }
        }
    }
    if failed == 0 {
        return Ok(());
    }
    let what = format!("{failed} of {} failed", things.len());
    Err(CliError::Failed { what, why: None, hint: None })
}

/// Returns whether an error concerns the whole command and not only one of its inputs.
fn is_of_all(error: &CliError) -> bool {
    match error {
        CliError::Problem(problem) => matches!(problem.status, 401 | 403),
        CliError::Failed { .. } => false,
        _ => true,
    }
}
