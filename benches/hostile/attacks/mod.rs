//! The attacks, one file for each kind.

mod growth;
mod lab;
mod pictures;
mod sockets;
mod text;

use crate::attack::Attack;
use crate::slow;

/// Returns every attack, in the order in which they run.
pub fn all() -> Vec<Attack> {
    let mut all = lab::attacks();
    all.extend(text::attacks());
    all.extend(pictures::attacks());
    all.extend(sockets::attacks());
    all.extend(growth::attacks());
    all.extend(slow::attacks());
    // Attacks on memory come first. Within each kind the order stays the same.
    all.sort_by_key(|attack| attack.kind as u8);
    all
}
