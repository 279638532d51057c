//! Batching: how many requests there are, whose vectors one gets, and who is harmed by whom.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use memory_core::testkit::{EmbedderFault, FaultyEmbedder};
use memory_core::{Embedder, ErrorKind, HashEmbedder, Result, Role, Vector};
use memory_embed::{BatchingConfig, BatchingEmbedder};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::counting::{Counting, LATENCY, truth};

type Batching = Arc<BatchingEmbedder<Counting>>;

fn batching() -> Batching {
    Arc::new(BatchingEmbedder::new(Counting::default(), BatchingConfig::default()).unwrap())
}

fn call(embedder: &Batching, role: Role, texts: &[&str]) -> JoinHandle<Result<Vec<Vector>>> {
    let (embedder, texts) = (Arc::clone(embedder), texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>());
    tokio::spawn(async move {
        let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
        embedder.embed(role, &texts).await
    })
}

#[tokio::test(start_paused = true)]
async fn a_hundred_calls_at_once_are_at_most_eight_requests_and_each_gets_its_own() {
    let embedder = batching();
    let calls: Vec<_> = (0..100).map(|n| call(&embedder, Role::Query, &[&format!("text {n}")])).collect();
    for (n, call) in calls.into_iter().enumerate() {
        assert_eq!(call.await.unwrap().unwrap(), [truth(&format!("text {n}")).await]);
    }
    assert!(embedder.get_ref().calls() <= 8, "{} requests", embedder.get_ref().calls());
    let stats = embedder.stats();
    assert_eq!((stats.calls, stats.texts, stats.taken_apart), (100, 100, 0));
    assert_eq!(usize::try_from(stats.requests).unwrap(), embedder.get_ref().calls());
}

/// Against a server 20 ms away.
#[tokio::test(start_paused = true)]
async fn thirty_two_callers_get_at_least_five_times_what_one_gets() {
    async fn took(callers: usize, embedder: Arc<dyn Embedder>) -> Duration {
        let begun = Instant::now();
        let callers: Vec<_> = (0..callers)
            .map(|caller| {
                let embedder = Arc::clone(&embedder);
                tokio::spawn(async move {
                    for n in 0..320 / callers {
                        embedder.embed(Role::Query, &[&format!("text {n} of {caller}")]).await.unwrap();
                    }
                })
            })
            .collect();
        for caller in callers {
            caller.await.unwrap();
        }
        begun.elapsed()
    }
    let alone = took(1, Arc::new(Counting::default())).await;
    let together = took(32, batching()).await;
    assert_eq!(alone, LATENCY * 320);
    assert!(alone >= together * 5, "{alone:?} one by one, {together:?} in batches");
}

#[tokio::test(start_paused = true)]
async fn a_call_that_stays_alone_takes_the_window_longer() {
    let (embedder, begun) = (batching(), Instant::now());
    embedder.embed(Role::Query, &["a"]).await.unwrap();
    assert!(begun.elapsed() <= LATENCY + Duration::from_millis(6), "{:?}", begun.elapsed());
}

#[tokio::test(start_paused = true)]
async fn queries_and_documents_do_not_mix() {
    let embedder = batching();
    let (query, document) = (call(&embedder, Role::Query, &["a"]), call(&embedder, Role::Document, &["b"]));
    query.await.unwrap().unwrap();
    document.await.unwrap().unwrap();
    assert_eq!(embedder.get_ref().calls(), 2);
}

#[tokio::test(start_paused = true)]
async fn the_texts_of_a_call_stay_together_and_a_large_call_goes_alone() {
    let embedder = batching();
    let many: Vec<String> = (0..40).map(|n| format!("text {n}")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    let calls = [&many[..20], &many[20..40], &many[..]].map(|texts| (texts, call(&embedder, Role::Query, texts)));
    for (texts, call) in calls {
        let vectors = call.await.unwrap().unwrap();
        for (vector, text) in vectors.iter().zip(texts) {
            assert_eq!(*vector, truth(text).await);
        }
    }
    let mut sizes: Vec<usize> = embedder.get_ref().asked.lock().unwrap().iter().map(Vec::len).collect();
    sizes.sort_unstable();
    assert_eq!(sizes, [20, 20, 40]);
    assert!(embedder.embed(Role::Query, &[]).await.unwrap().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_call_that_is_dropped_harms_nobody_and_is_not_asked_for() {
    let embedder = batching();
    let dropped = call(&embedder, Role::Query, &["dropped"]);
    let kept = call(&embedder, Role::Query, &["kept"]);
    tokio::time::sleep(Duration::from_millis(1)).await;
    dropped.abort();
    assert_eq!(kept.await.unwrap().unwrap(), [truth("kept").await]);
    assert_eq!(*embedder.get_ref().asked.lock().unwrap(), [["kept"]]);

    let dropped = call(&embedder, Role::Query, &["dropped"]);
    let kept = call(&embedder, Role::Query, &["kept"]);
    tokio::time::sleep(Duration::from_millis(15)).await;
    dropped.abort();
    assert_eq!(kept.await.unwrap().unwrap(), [truth("kept").await], "on its way");

    call(&embedder, Role::Query, &["dropped"]).abort();
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(embedder.get_ref().calls(), 2, "nothing is asked for nobody");
}

/// The timer of a batch ended with the runtime of its first call, and all later ones waited for ever.
#[test]
fn a_runtime_that_ends_stops_no_batch() {
    let embedder = batching();
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    runtime().block_on(async {
        let first = call(&embedder, Role::Query, &["first"]);
        tokio::task::yield_now().await;
        assert!(!first.is_finished());
    });
    runtime().block_on(async {
        let answer = tokio::time::timeout(Duration::from_secs(20), embedder.embed(Role::Query, &["second"])).await;
        assert_eq!(answer.unwrap().unwrap(), [truth("second").await]);
    });
}

#[tokio::test(start_paused = true)]
async fn one_text_that_is_refused_fails_its_own_call_only() {
    let embedder = batching();
    let calls: Vec<_> =
        (0..10).map(|n| call(&embedder, Role::Query, &[if n == 4 { "bad text" } else { "good text" }])).collect();
    for (n, call) in calls.into_iter().enumerate() {
        let answer = call.await.unwrap();
        match n {
            4 => assert_eq!(answer.unwrap_err().kind(), ErrorKind::Invalid),
            _ => assert_eq!(answer.unwrap(), [truth("good text").await]),
        }
    }
    assert_eq!((embedder.stats().requests, embedder.stats().taken_apart), (11, 1));
    assert_eq!(call(&embedder, Role::Query, &["bad"]).await.unwrap().unwrap_err().kind(), ErrorKind::Invalid);
    assert_eq!(embedder.stats().requests, 12, "a call that was alone is not made again");
}

#[tokio::test(start_paused = true)]
async fn an_outage_is_told_to_all_and_is_over_when_it_is() {
    let embedder = batching();
    embedder.get_ref().set_down(true);
    let calls: Vec<_> = (0..10).map(|_| call(&embedder, Role::Query, &["a"])).collect();
    for call in calls {
        let error = call.await.unwrap().unwrap_err();
        assert_eq!((error.kind(), error.is_temporary()), (ErrorKind::Unavailable, true));
    }
    assert_eq!(embedder.stats().requests, 1);
    assert!(embedder.health().await.is_err());
    assert_eq!(embedder.get_ref().healths.load(Ordering::Relaxed), 1);
    embedder.get_ref().set_down(false);
    embedder.embed(Role::Query, &["a"]).await.unwrap();
}

#[tokio::test]
async fn wrong_answers_are_errors_for_all() {
    let embedder = BatchingEmbedder::new(FaultyEmbedder::new(HashEmbedder::new()), BatchingConfig::default()).unwrap();
    for fault in [EmbedderFault::WrongCount, EmbedderFault::WrongLength] {
        embedder.get_ref().script(fault);
        let (one, two) = tokio::join!(embedder.embed(Role::Query, &["a"]), embedder.embed(Role::Query, &["b"]));
        for error in [one.unwrap_err(), two.unwrap_err()] {
            assert!(error.to_string().contains("FaultyEmbedder(HashEmbedder) answered"), "{error}");
        }
    }
}

#[test]
fn settings_out_of_range_are_refused() {
    let config = BatchingConfig::default();
    for (config, said) in [
        (config.with_window(Duration::ZERO), "batching.window is 0ns; allowed: 100µs..=1s"),
        (config.with_window(Duration::from_secs(2)), "batching.window is 2s; allowed: 100µs..=1s"),
        (config.with_texts(1), "batching.texts is 1; allowed: 2..=2048"),
    ] {
        let error = BatchingEmbedder::new(HashEmbedder::new(), config).unwrap_err().to_string();
        assert!(error.contains(said), "{error}");
    }
}
