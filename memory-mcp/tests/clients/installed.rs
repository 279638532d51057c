//! Where `scripts/install-mcp-clients.sh` has put the clients. Without them their tests skip and say so, unless
//! KNOWHOW_REQUIRE_MCP_CLIENTS=1.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// The folder of the clients.
pub(crate) fn clients() -> Option<PathBuf> {
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| PathBuf::from("../target"), PathBuf::from);
    let folder = target.join("tools/mcp");
    if folder.join("installed").exists() {
        return Some(std::path::absolute(folder).unwrap());
    }
    let required = std::env::var_os("KNOWHOW_REQUIRE_MCP_CLIENTS").is_some_and(|required| required == "1");
    assert!(!required, "there are no clients in {}: run scripts/install-mcp-clients.sh", folder.display());
    eprintln!("SKIP: no MCP clients are installed");
    None
}

pub(crate) fn told(output: &Output) -> String {
    let [out, err] = [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes));
    format!("{out}\n{err}")
}

/// Runs what `client.py` checks, with these arguments.
pub(crate) fn python(clients: &Path, arguments: &[&str]) {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients/client.py");
    let output = Command::new(clients.join("bin/python")).arg(script).args(arguments).output().unwrap();
    assert!(output.status.success() && told(&output).contains("ok: "), "{}", told(&output));
}
