//! A server in every kind of trouble, asked ten thousand times by 64 callers at once. An eighth of its answers is good.
//!
//! No wrong vector comes through, to the caller or into a store; every call ends, and in time; every error has its kind, names
//! the server and says what is wrong; threads and connections stay as many as they may be.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use memory_core::{
    Embedder, Error, ErrorKind, InMemoryStore, Memory, MemoryStoreExt as _, Outcome, Record, RecordKind, Recording,
    Role, Scan, Task,
};
use memory_embed::{Model, OllamaEmbedder, OpenAiEmbedder, ServerConfig};

use crate::dialect::{Dialect, TINY, assert_alike, texts, tiny};
use crate::peer::{Peer, Reply, Request, ok, status};

const CALLS: usize = 10_000;
const CALLERS: usize = 64;
const RECORDED: usize = 500;
static TURN: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

/// A kind of trouble: what the server does, and what the caller is told.
struct Trouble {
    dialect: Dialect,
    timeout: Duration,
    reply: fn(Dialect, &Request) -> Reply,
    kind: ErrorKind,
    temporary: bool,
    said: &'static str,
}

impl Trouble {
    fn new(reply: fn(Dialect, &Request) -> Reply, kind: ErrorKind, temporary: bool, said: &'static str) -> Self {
        Self { dialect: Dialect::Ollama, timeout: Duration::from_secs(20), reply, kind, temporary, said }
    }

    fn within(self, timeout: Duration) -> Self {
        Self { timeout, ..self }
    }

    fn start(&self) -> (Peer, Arc<dyn Embedder>) {
        let (dialect, reply) = (self.dialect, self.reply);
        let peer = Peer::start_forgetful(move |request| match request.place % 8 {
            0 => dialect.serve(request, tiny),
            _ => reply(dialect, request),
        });
        let server = ServerConfig::new(peer.url()).with_timeout(self.timeout).with_concurrency(CALLERS);
        let model = Model::new("m").with_dimensions(TINY);
        let embedder: Arc<dyn Embedder> = match dialect {
            Dialect::OpenAi => Arc::new(OpenAiEmbedder::new(server, model).unwrap()),
            _ => Arc::new(OllamaEmbedder::new(server, model).unwrap()),
        };
        (peer, embedder)
    }

    fn check(&self, peer: &Peer, error: &Error) {
        let text = error.to_string();
        assert!(text.contains(&peer.url()), "{text} does not name the server");
        if self.kind == TimedOut && error.kind() == ErrorKind::Overloaded {
            // The requests before it have not ended yet.
            assert!(error.is_temporary() && text.contains("no place for a request"), "{text}");
            return;
        }
        assert_eq!((error.kind(), error.is_temporary()), (self.kind, self.temporary), "{text}");
        assert!(text.contains(self.said), "{text} does not say {}", self.said);
    }

    async fn storm(self) {
        // One after another, so that threads can be counted.
        let _turn = TURN.lock().await;
        let threads_before = threads();
        let (peer, embedder) = self.start();
        let trouble = Arc::new((self, peer));
        let (next, good) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let callers: Vec<_> = (0..CALLERS)
            .map(|_| {
                let (trouble, embedder) = (Arc::clone(&trouble), Arc::clone(&embedder));
                let (next, good) = (Arc::clone(&next), Arc::clone(&good));
                tokio::spawn(async move {
                    loop {
                        let n = next.fetch_add(1, Ordering::Relaxed);
                        if n >= CALLS {
                            return;
                        }
                        let text = format!("text {n}");
                        match embedder.embed(Role::Query, &[&text]).await {
                            Ok(vectors) => {
                                assert_eq!(vectors.len(), 1);
                                assert_alike(&vectors[0], &tiny(&text));
                                good.fetch_add(1, Ordering::Relaxed);
                            }
                            Err(error) => trouble.0.check(&trouble.1, &error),
                        }
                    }
                })
            })
            .collect();
        for caller in callers {
            tokio::time::timeout(Duration::from_secs(120), caller).await.unwrap().unwrap();
        }
        let good = good.load(Ordering::Relaxed);
        assert!(good >= CALLS / 16, "{good} good answers came through");
        // The peer notices the end of a connection later than the client, which has opened another by then.
        let (most, more) = (trouble.1.most(), threads().saturating_sub(threads_before));
        assert!(most <= 4 * CALLERS, "{most} connections at once");
        // tokio's for blocking calls, of which 64 at a time have something to do; names looked up; the peer's.
        assert!(more <= 512 + 5 * CALLERS, "{more} threads more");
        trouble.0.record(&trouble.1, embedder).await;
    }

    /// Records through a memory: an episode has the right vector, or none and the reason.
    async fn record(&self, peer: &Peer, embedder: Arc<dyn Embedder>) {
        let store = Arc::new(InMemoryStore::new());
        let memory = Memory::builder().store(Arc::clone(&store)).embedder(embedder).build().await.unwrap();
        let callers: Vec<_> = (0..CALLERS)
            .map(|caller| {
                let memory = memory.clone();
                tokio::spawn(async move {
                    let mut degraded = Vec::new();
                    for n in 0..RECORDED / CALLERS {
                        let task = Task::new(format!("task {n} of {caller}"));
                        let ack = memory.record(Recording::new(task, Outcome::success("done"))).await.unwrap();
                        degraded.extend(ack.degraded);
                    }
                    degraded
                })
            })
            .collect();
        let mut degraded = Vec::new();
        for caller in callers {
            degraded.extend(caller.await.unwrap());
        }
        assert!(degraded.iter().all(|why| why.contains(&peer.url()) && why.contains(self.said)), "{degraded:?}");
        let mut with_vector = 0;
        for stored in store.scan_all(Scan::new(RecordKind::Episode)).await.unwrap() {
            let Record::Episode(logged) = stored.record else { panic!("not an episode") };
            if let Some(vector) = logged.vector {
                assert_alike(&vector, &tiny(&logged.episode.task.text));
                with_vector += 1;
            }
        }
        assert_eq!(with_vector + degraded.len(), RECORDED / CALLERS * CALLERS, "each is told about, or has its vector");
    }
}

/// Threads of this process.
fn threads() -> usize {
    std::fs::read_dir("/proc/self/task").map_or(0, Iterator::count)
}

fn answer(dialect: Dialect, request: &Request, spoil: impl Fn(Vec<Vec<f32>>) -> Vec<Vec<f32>>) -> String {
    dialect.answer(&spoil(texts(request).iter().map(|text| tiny(text)).collect()))
}

fn good(dialect: Dialect, request: &Request) -> String {
    answer(dialect, request, |vectors| vectors)
}

fn hinted(code: u16) -> Reply {
    Reply::Whole {
        status: code,
        headers: vec![("retry-after", "1".to_owned())],
        body: r#"{"error":"busy"}"#.to_owned(),
    }
}

fn either(request: &Request, one: Reply, other: Reply) -> Reply {
    if request.place.is_multiple_of(2) { one } else { other }
}

macro_rules! troubles {
    ($($name:ident: $trouble:expr;)*) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                $trouble.storm().await;
            }
        )*
    };
}

use ErrorKind::{Invalid, RateLimited, TimedOut, Unavailable};

troubles! {
    slow: Trouble::new(
        |dialect, request| Reply::Late(Duration::from_millis(5), Box::new(ok(good(dialect, request)))),
        TimedOut, true, "no whole answer",
    );
    hanging: Trouble::new(|_, _| Reply::Hang, TimedOut, true, "no whole answer in 100ms").within(Duration::from_millis(100));
    losing_connections: Trouble::new(|_, request| either(request, Reply::Reset, Reply::Close), Unavailable, true, "onnect");
    limiting: Trouble::new(
        |_, request| either(request, hinted(429), status(429, r#"{"error":"busy"}"#)),
        RateLimited, true, "HTTP status 429: busy",
    );
    failing: Trouble::new(|_, _| status(500, r#"{"error":"boom"}"#), Unavailable, true, "HTTP status 500: boom");
    overloaded: Trouble::new(
        |_, request| either(request, hinted(503), status(503, r#"{"error":"busy"}"#)),
        Unavailable, true, "HTTP status 503: busy",
    );
    answering_half: Trouble::new(|dialect, request| Reply::Half(good(dialect, request)), Unavailable, true, "disconnected");
    answering_too_few_or_too_many: Trouble::new(
        |dialect, request| ok(answer(dialect, request, |vectors| match request.place % 2 {
            0 => vec![],
            _ => vec![tiny("another"), vectors[0].clone()],
        })),
        Unavailable, false, "vectors for 1 texts",
    );
    answering_vectors_of_another_length_or_none: Trouble::new(
        |dialect, request| ok(answer(dialect, request, |vectors| match request.place % 2 {
            0 => vec![vec![]],
            _ => vec![[&*vectors[0], &[0.5]].concat()],
        })),
        Unavailable, false, "components; allowed: those of ollama/m@ (4 dimensions, normalised)",
    );
    answering_no_numbers: Trouble::new(
        |dialect, request| {
            let spoilt = answer(dialect, request, |_| vec![vec![0.5; TINY]]);
            ok(spoilt.replacen("0.5", if request.place.is_multiple_of(2) { "null" } else { "NaN" }, 1))
        },
        Invalid, false, "NaN",
    );
    answering_a_page_or_nothing: Trouble::new(
        |_, request| either(request, ok("<html>Welcome</html>"), ok("")),
        Unavailable, true, "the answer is",
    );
    answering_at_wrong_places: Trouble {
        dialect: Dialect::OpenAi,
        ..Trouble::new(
            |dialect, request| ok(good(dialect, request).replace(r#""index":0"#, r#""index":1"#)),
            Unavailable, false, "index 1 of 1",
        )
    };
}
