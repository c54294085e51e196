//! Has the web app embedded again when it was built again (`src/http/app.rs`); nothing is run here, and Node is not needed.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    // Always there: the folder is in the repository, what is built into it is not.
    println!("cargo:rerun-if-changed=web/dist");
}
