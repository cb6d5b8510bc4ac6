//! Builds again when a migration comes or changes: `migrate!` alone does not see it.

fn main() {
    println!("cargo:rerun-if-changed=migrations");
}
