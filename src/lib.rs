//! chainrule: a server that trains small image classifiers by backpropagation and serves their predictions.
//!
//! This library and its small binary build on `chainrule-engine`, which contains everything that needs no I/O.
//! `ARCHITECTURE.md` describes the rooms and which may import which.

pub use chainrule_engine::{artifact, data, evaluation, fields, graph, lab, nn, train};

pub mod admission;
pub mod api;
pub mod app;
pub mod backup;
pub mod blobs;
pub mod cli;
pub mod config;
pub mod dispatch;
pub mod failpoint;
pub mod folder;
pub mod http;
pub mod integrity;
pub mod inventory;
pub mod job;
pub mod model;
pub mod oip;
pub mod priority;
pub mod registry;
pub mod server;
pub mod service;
pub mod store;
pub mod telemetry;
pub mod upkeep;
pub mod worker;
