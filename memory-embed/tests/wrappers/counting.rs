//! An embedder whose calls take time, are counted, and fail when told to.

use std::fmt;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use memory_core::{Embedder, Error, ErrorKind, HashEmbedder, Result, Role, Vector, VectorSpace};

/// The hash embedder, 20 ms away.
#[derive(Debug, Default)]
pub(crate) struct Counting {
    name: &'static str,
    inner: HashEmbedder,
    /// The texts of each call.
    pub(crate) asked: Mutex<Vec<Vec<String>>>,
    pub(crate) healths: AtomicUsize,
    pub(crate) down: AtomicBool,
    /// Whether it turns vectors around.
    pub(crate) wrong: AtomicBool,
}

pub(crate) const LATENCY: Duration = Duration::from_millis(20);

impl Counting {
    pub(crate) fn named(name: &'static str) -> Self {
        Self { name, ..Self::default() }
    }

    pub(crate) fn calls(&self) -> usize {
        self.asked.lock().unwrap().len()
    }

    pub(crate) fn set_down(&self, down: bool) {
        self.down.store(down, Ordering::Relaxed);
    }

    fn outage(&self) -> Result<()> {
        match self.down.load(Ordering::Relaxed) {
            true => Err(Error::new(ErrorKind::Unavailable, format!("{} is down", self.name)).with_temporary(true)),
            false => Ok(()),
        }
    }
}

impl fmt::Display for Counting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Counting({})", self.name)
    }
}

#[async_trait]
impl Embedder for Counting {
    fn space(&self) -> &VectorSpace {
        self.inner.space()
    }

    /// A text that begins with "bad" is refused, with all that came with it.
    async fn embed(&self, role: Role, texts: &[&str]) -> Result<Vec<Vector>> {
        self.asked.lock().unwrap().push(texts.iter().map(|text| (*text).to_owned()).collect());
        tokio::time::sleep(LATENCY).await;
        self.outage()?;
        if let Some(text) = texts.iter().find(|text| text.starts_with("bad")) {
            return Err(Error::invalid("text", text, "one that is not bad"));
        }
        let vectors = self.inner.embed(role, texts).await?;
        match self.wrong.load(Ordering::Relaxed) {
            true => {
                vectors.iter().map(|vector| Vector::new(vector.as_slice().iter().rev().copied().collect())).collect()
            }
            false => Ok(vectors),
        }
    }

    async fn health(&self) -> Result<()> {
        self.healths.fetch_add(1, Ordering::Relaxed);
        self.outage()
    }
}

/// The vector that a text has.
pub(crate) async fn truth(text: &str) -> Vector {
    HashEmbedder::new().embed(Role::Document, &[text]).await.unwrap().remove(0)
}
