//! The promises of chainrule, tested through its public surface.

mod accuracy;
mod answers;
mod architecture;
mod backup;
mod bad_requests;
mod client;
#[path = "../common/command.rs"]
mod command;
mod command_line;
#[path = "../../crates/engine/tests/engine/counting.rs"]
mod counting;
#[path = "../common/folders.rs"]
mod folders;
mod growth;
mod inside;
mod jobs;
mod lab;
mod lab_prices;
mod lesson;
mod lifecycle;
mod limits;
mod migrations;
mod models;
mod oip;
mod oip_bytes;
mod oip_refusals;
mod openapi;
mod operating;
mod prices;
mod process;
mod proofs;
mod queue;
mod raw;
mod reproducible;
mod schema;
mod seeing;
mod server;
mod service;
mod shared_folder;
mod state_machine;
mod survival;
mod usage;
mod who_may_ask;
