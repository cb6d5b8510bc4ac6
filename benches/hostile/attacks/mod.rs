//! Every attack.

mod growth;
mod lab;
mod pictures;
mod sockets;
mod text;

use crate::attack::Attack;
use crate::slow;

/// Every attack, in the order in which they are run.
pub fn all() -> Vec<Attack> {
    let mut all = lab::attacks();
    all.extend(text::attacks());
    all.extend(pictures::attacks());
    all.extend(sockets::attacks());
    all.extend(growth::attacks());
    all.extend(slow::attacks());
    // Those for memory first; the order within each kind stays.
    all.sort_by_key(|attack| attack.kind as u8);
    all
}
