//! What recall costs, in wall time, by how many episodes are stored: searching for ten and reading them, beside a plain scan of
//! the same vectors. Recall@10 is printed before each is measured.
//!
//! A million episodes, without their steps, are measured only if `RECALL_MILLION` is set: to make them takes minutes.
#![expect(clippy::unwrap_used, reason = "a benchmark that fails ends")]

use std::cell::LazyCell;
use std::time::Duration;

use criterion::{Criterion, criterion_group, criterion_main};
use memory_benches::{Corpus, Form, Kind, Query, Trial, by_wall_time};
use tokio::runtime::Runtime;

fn recall(criterion: &mut Criterion) {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let corpus = LazyCell::new(|| Corpus::new(1));
    let queries = LazyCell::new(|| corpus.queries());
    let million = std::env::var_os("RECALL_MILLION").map(|_| (1_000_000, Form::Reduced));
    let sizes = [1_000, 10_000, 100_000].map(|size| (size, Form::Whole));
    for (size, form) in sizes.into_iter().chain(million) {
        let trial = LazyCell::new(|| {
            runtime.block_on(async {
                let mut trial = Trial::new(form).await.unwrap();
                trial.grow(&corpus, size, || ()).await.unwrap();
                trial
            })
        });
        let mut group = criterion.benchmark_group(format!("recall/{size} stored"));
        for kind in Kind::ALL {
            let told = LazyCell::new(|| {
                if let Some(recall) = runtime.block_on(trial.recall(kind, &queries)).unwrap() {
                    println!("recall/{size} stored/{}: recall@10 is {recall:.4}", kind.as_str());
                }
            });
            group.bench_function(kind.as_str(), |bencher| {
                LazyCell::force(&told);
                bencher.iter_custom(|turns| searching(&runtime, &trial, kind, &queries, turns));
            });
        }
    }
}

/// The time that so many queries take, around and around.
fn searching(runtime: &Runtime, trial: &Trial, kind: Kind, queries: &[Query], turns: u64) -> Duration {
    runtime.block_on(async {
        let mut spent = Duration::ZERO;
        let asked = queries.iter().filter(|query| kind.asks(query)).cycle();
        for (query, _) in asked.zip(0..turns) {
            spent += trial.time(kind, query).await.unwrap();
        }
        spent
    })
}

criterion_group! { name = benches; config = by_wall_time(); targets = recall }
criterion_main!(benches);
