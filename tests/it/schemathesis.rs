//! The server does what its own OpenAPI document says, judged by a tool that we did not write: the short form of `make conformance`.

use crate::house::root;
use crate::support::TestNode;
use std::process::Command;
use std::time::Duration;

/// Seconds that the tool may try things.
const SECONDS: u64 = 30;
/// Installing it from a slow registry, once, and the run.
const PATIENCE: Duration = Duration::from_secs(300);

#[tokio::test]
async fn the_api_is_what_its_document_says() {
    let node = TestNode::start().await;
    let mut command = Command::new(root().join("scripts/schemathesis"));
    let soak = std::env::var("HUBBUB_SOAK").is_ok();
    let seconds = if soak { 10 * SECONDS } else { SECONDS };
    command.args([node.url(), seconds.to_string()]);
    // The short form is a test of the server, not of chance: what it finds it finds every time. The long one looks for what is new.
    if !soak {
        command.arg("1");
    }
    let patience = PATIENCE + Duration::from_secs(2 * seconds);
    let output = tokio::time::timeout(patience, tokio::task::spawn_blocking(move || command.output())).await;
    let output = output.unwrap_or_else(|_| panic!("it did not end within {patience:?}")).expect("no panic").expect("bash is there");
    let said = format!("{}\n{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{said}");
    assert!(said.contains("no failures"), "{said}");
}
