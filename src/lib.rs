//! chainrule: a server that trains small image classifiers by backpropagation and serves their
//! predictions.
//!
//! One crate, library and thin binary. `ARCHITECTURE.md` draws the rooms and which may import
//! which.

pub mod admission;
pub mod app;
pub mod artifact;
pub mod backup;
pub mod blobs;
pub mod cli;
pub mod config;
pub mod data;
pub mod fault;
pub mod fields;
pub mod folder;
pub mod graph;
pub mod http;
pub mod integrity;
pub mod inventory;
pub mod job;
pub mod lab;
pub mod model;
pub mod nn;
pub mod registry;
pub mod server;
pub mod store;
pub mod telemetry;
pub mod train;
pub mod upkeep;
pub mod worker;
