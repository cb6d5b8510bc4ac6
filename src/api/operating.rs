use serde::Serialize;
use utoipa::ToSchema;

/// A server that answers.
#[derive(Serialize, ToSchema)]
pub struct Health {
    /// `ok`.
    pub status: &'static str,
    /// The version of the server.
    pub version: &'static str,
}

/// A server that takes work.
#[derive(Serialize, ToSchema)]
pub struct Ready {
    /// `ok`.
    pub status: &'static str,
    /// The version of the server.
    pub version: &'static str,
    /// What whoever runs the server should know, if there is anything.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub warning: Option<String>,
}
