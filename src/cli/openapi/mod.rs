mod markdown;

use clap::Args;

use super::{CliError, Output, print, print_json};
use crate::http::openapi::document;

/// Arguments of `chainrule openapi`.
#[derive(Args)]
#[command(
    after_help = "Examples:\n  chainrule openapi > openapi.json     the response to GET /openapi.json\n  chainrule openapi --markdown         the same for people, as in docs/api.md"
)]
pub struct OpenapiArgs {
    /// Print Markdown instead of JSON
    #[arg(long, conflicts_with = "json")]
    markdown: bool,
}

/// Prints the OpenAPI document.
pub fn run(args: &OpenapiArgs, output: Output) -> Result<(), CliError> {
    if args.markdown {
        return print(markdown::render(document()).trim_end());
    }
    if output.json { print_json(document()) } else { print(format!("{:#}", document())) }
}
