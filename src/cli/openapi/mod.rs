mod markdown;

use clap::Args;

use super::{CliError, Output, print, print_json};
use crate::http::openapi::document;

/// Flags of `openapi`.
#[derive(Args)]
#[command(
    after_help = "Examples:\n  chainrule openapi > openapi.json     what GET /openapi.json answers with\n  chainrule openapi --markdown         the same for people: docs/api.md"
)]
pub struct OpenapiArgs {
    /// Write it as Markdown
    #[arg(long, conflicts_with = "json")]
    markdown: bool,
}

/// Describes every route.
pub fn run(args: &OpenapiArgs, output: Output) -> Result<(), CliError> {
    if args.markdown {
        return print(markdown::render(document()).trim_end());
    }
    if output.json { print_json(document()) } else { print(format!("{:#}", document())) }
}
