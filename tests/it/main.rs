//! What chainrule promises, through its public surface.

mod accuracy;
mod allocation;
mod architecture;
mod bad_requests;
mod command_line;
mod engine;
mod graph;
mod inside;
mod jobs;
mod kernels;
mod lab;
mod lesson;
mod lifecycle;
mod models;
mod operating;
mod process;
mod pytorch;
mod queue;
mod reproducible;
mod server;
mod shared_folder;
mod survival;
mod tape;
