//! A real MLX server: mlx-vlm with all-MiniLM-L6-v2. Built with the feature `process`, whose tests need the same Python.
#![cfg(all(feature = "process", unix))]
#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use std::fs::File;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use common::{assert_known_values, minilm, mlx_python};
use memory_core::{Embedder, ErrorKind};
use memory_embed::{MlxEmbedder, Model, ServerConfig, TooLong};
use tempfile::TempDir;

const KEY: &str = "a-key";

/// Starting the server takes longest: all that is asked of it is asked here.
#[tokio::test]
async fn an_mlx_server_gives_the_known_vectors_and_useful_errors() {
    let Some(mut server) = Server::start() else { return };
    let mlx = server.connect().await;
    assert_known_values(&mlx).await;
    mlx.health().await.unwrap();
    #[cfg(feature = "local")]
    {
        let local = memory_embed::LocalEmbedder::open(&server.directory, Some(server.model())).await.unwrap();
        common::assert_same_vectors(&mlx, &local).await;
    }

    let unknown = MlxEmbedder::connect(server.config(), Model::new("no-such-model")).await.unwrap_err();
    assert!(!unknown.is_temporary(), "{unknown}");
    assert!(unknown.to_string().contains("no-such-model"), "{unknown}");

    let stranger = ServerConfig::new(server.url()).with_key("another-key");
    let refused = MlxEmbedder::connect(stranger, server.model()).await.unwrap_err();
    assert!(refused.to_string().contains("401") && !refused.is_temporary(), "{refused}");
    assert!(!refused.to_string().contains("another-key"), "a key is shown: {refused}");

    server.child.kill().unwrap();
    server.child.wait().unwrap();
    let gone = mlx.health().await.unwrap_err();
    assert!(gone.kind() == ErrorKind::Unavailable && gone.is_temporary(), "{gone}");
}

/// A server, ended when this is dropped.
struct Server {
    child: Child,
    port: u16,
    directory: PathBuf,
    folder: TempDir,
}

impl Server {
    fn start() -> Option<Self> {
        let (directory, python) = (minilm()?, mlx_python()?);
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let folder = tempfile::tempdir().unwrap();
        let log = File::create(Self::log(folder.path())).unwrap();
        let child = Command::new(python)
            .args(["-m", "mlx_vlm.server", "--host", "127.0.0.1", "--port", &port.to_string(), "--api-key", KEY])
            .arg("--embedding-model")
            .arg(&directory)
            .env("HF_HUB_OFFLINE", "1")
            .current_dir(folder.path())
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        Some(Self { child, port, directory, folder })
    }

    fn log(folder: &Path) -> PathBuf {
        folder.join("log")
    }

    fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    fn config(&self) -> ServerConfig {
        ServerConfig::new(self.url()).with_key(KEY).with_timeout(Duration::from_secs(120))
    }

    /// The server cuts what is longer than the model takes, without a word; so texts are split before.
    fn model(&self) -> Model {
        Model::new(self.directory.display().to_string()).with_longest_text(700, TooLong::Split)
    }

    /// Connects, when it is there.
    async fn connect(&mut self) -> MlxEmbedder {
        let begun = Instant::now();
        loop {
            match MlxEmbedder::connect(self.config(), self.model()).await {
                Ok(mlx) => return mlx,
                Err(error) => {
                    let ended = self.child.try_wait().unwrap();
                    if ended.is_some() || begun.elapsed() > Duration::from_secs(120) {
                        let log = std::fs::read_to_string(Self::log(self.folder.path())).unwrap();
                        panic!("{error}; {ended:?}; {log}");
                    }
                }
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
