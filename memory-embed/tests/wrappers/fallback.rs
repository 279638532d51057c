//! Fallback: who answers, when it goes back, and whom it does not take.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use async_trait::async_trait;
use memory_core::testkit::{EmbedderFault, FaultyEmbedder};
use memory_core::{Embedder, Error, ErrorKind, HashEmbedder, Result, Role, Vector, VectorSpace};
use memory_embed::{Fallback, FallbackConfig};

use crate::counting::{Counting, truth};

fn three() -> [Arc<Counting>; 3] {
    ["a", "b", "c"].map(|name| Arc::new(Counting::named(name)))
}

async fn between(members: &[Arc<Counting>]) -> Result<Fallback> {
    let members = members.iter().map(|member| Arc::clone(member) as Arc<dyn Embedder>).collect();
    Fallback::between(members, FallbackConfig::default()).await
}

/// How often each was asked for something other than the vector to compare.
fn calls(members: &[Arc<Counting>]) -> Vec<usize> {
    let asked =
        |member: &Arc<Counting>| member.asked.lock().unwrap().iter().filter(|call| **call != ["hello world"]).count();
    members.iter().map(asked).collect()
}

#[tokio::test(start_paused = true)]
async fn the_first_answers_as_long_as_it_works() {
    let members = three();
    let embedder = between(&members).await.unwrap();
    for _ in 0..5 {
        assert_eq!(embedder.embed(Role::Query, &["log in"]).await.unwrap(), [truth("log in").await]);
    }
    assert_eq!(calls(&members), [5, 0, 0]);
    assert_eq!(embedder.to_string(), "Fallback(answering: Counting(a), Counting(b), Counting(c))");
}

#[tokio::test(start_paused = true)]
async fn it_remembers_who_works_and_goes_back_after_a_pause() {
    let members = three();
    let embedder = between(&members).await.unwrap();
    members[0].set_down(true);
    members[1].set_down(true);
    for _ in 0..5 {
        embedder.embed(Role::Query, &["log in"]).await.unwrap();
    }
    assert_eq!(calls(&members), [1, 1, 5], "who failed is not asked again and again");
    assert_eq!(embedder.to_string(), "Fallback(Counting(a), Counting(b), answering: Counting(c))");

    tokio::time::advance(Duration::from_secs(31)).await;
    for _ in 0..5 {
        embedder.embed(Role::Query, &["log in"]).await.unwrap();
    }
    let healths: Vec<usize> = members.iter().map(|member| member.healths.load(Ordering::Relaxed)).collect();
    assert_eq!((calls(&members), healths), (vec![1, 1, 10], vec![1, 1, 0]), "one question in a pause");

    members[1].set_down(false);
    tokio::time::advance(Duration::from_secs(31)).await;
    embedder.embed(Role::Query, &["log in"]).await.unwrap();
    assert_eq!(embedder.stats().answering, 1);
    members[0].set_down(false);
    tokio::time::advance(Duration::from_secs(31)).await;
    embedder.embed(Role::Query, &["log in"]).await.unwrap();
    let stats = embedder.stats();
    assert_eq!(stats.answering, 0);
    let counts: Vec<_> = stats.members.iter().map(|member| (&*member.name, member.answered, member.failed)).collect();
    assert_eq!(counts, [("Counting(a)", 1, 1), ("Counting(b)", 1, 1), ("Counting(c)", 10, 0)]);
}

#[tokio::test(start_paused = true)]
async fn one_after_the_one_that_fails_then_those_before() {
    let members = three();
    let embedder = between(&members).await.unwrap();
    members[0].set_down(true);
    embedder.embed(Role::Query, &["log in"]).await.unwrap();
    members[0].set_down(false);
    members[1].set_down(true);
    members[2].set_down(true);
    embedder.embed(Role::Query, &["log in"]).await.expect("the first is up again, though the pause is not over");
    assert_eq!(embedder.stats().answering, 0);
}

#[tokio::test(start_paused = true)]
async fn when_all_fail_the_error_says_how_each_did() {
    let members = three();
    let embedder = between(&members).await.unwrap();
    members.iter().for_each(|member| member.set_down(true));
    let error = embedder.embed(Role::Query, &["log in"]).await.unwrap_err();
    assert_eq!((error.kind(), error.is_temporary()), (ErrorKind::Unavailable, true));
    for name in ["a is down", "b is down", "c is down"] {
        assert!(error.to_string().contains(name), "{error}");
    }
    assert!(embedder.health().await.is_err());
    members[2].set_down(false);
    embedder.health().await.unwrap();
    embedder.embed(Role::Query, &["log in"]).await.unwrap();
}

/// A breaker around it counted these as answers.
#[tokio::test(start_paused = true)]
async fn when_all_have_given_up_the_error_is_persistent() {
    let failing = |error: Error| {
        let embedder = FaultyEmbedder::new(HashEmbedder::new());
        (0..2).for_each(|_| embedder.script(EmbedderFault::Fail(error.again())));
        Arc::new(embedder) as Arc<dyn Embedder>
    };
    let error = |kind| Error::new(kind, "scripted");
    let given_up = error(ErrorKind::TimedOut).with_temporary(true).into_persistent();
    let permanent = error(ErrorKind::Invalid);
    let temporary = error(ErrorKind::Busy).with_temporary(true);
    for (errors, expected) in [
        ([&permanent, &given_up], (ErrorKind::TimedOut, false, true)),
        ([&given_up, &temporary], (ErrorKind::Busy, true, false)),
        ([&permanent, &permanent], (ErrorKind::Invalid, false, false)),
    ] {
        let members = errors.map(|error| failing(error.again()));
        let embedder = Fallback::between(members.into(), FallbackConfig::default()).await.unwrap();
        let error = embedder.embed(Role::Query, &["log in"]).await.unwrap_err();
        assert_eq!((error.kind(), error.is_temporary(), error.is_persistent()), expected, "{error}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_text_that_is_refused_is_no_outage() {
    let members = three();
    let embedder = between(&members).await.unwrap();
    let error = embedder.embed(Role::Query, &["bad text"]).await.unwrap_err();
    assert_eq!((error.kind(), error.is_temporary()), (ErrorKind::Invalid, false));
    assert_eq!(embedder.stats().answering, 0);
}

#[tokio::test]
async fn wrong_answers_are_failures() {
    let faulty = Arc::new(FaultyEmbedder::new(HashEmbedder::new()));
    let members: Vec<Arc<dyn Embedder>> = vec![Arc::clone(&faulty) as _, Arc::new(HashEmbedder::new())];
    let embedder = Fallback::between(members, FallbackConfig::default()).await.unwrap();
    faulty.script(EmbedderFault::WrongLength);
    assert_eq!(embedder.embed(Role::Query, &["log in"]).await.unwrap(), [truth("log in").await]);
    assert_eq!(embedder.stats().answering, 1);
}

#[tokio::test(start_paused = true)]
async fn vectors_that_differ_in_spite_of_one_name_are_refused_when_it_is_made() {
    let members = three();
    members[1].wrong.store(true, Ordering::Relaxed);
    let error = between(&members).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::SpaceMismatch);
    let text = error.to_string();
    assert!(text.contains("Counting(b)") && text.contains("cosine") && text.contains("allowed: 0.999"), "{text}");
}

#[tokio::test(start_paused = true)]
async fn one_that_was_down_is_compared_before_it_first_answers() {
    let members = three();
    members[1].set_down(true);
    members[1].wrong.store(true, Ordering::Relaxed);
    let embedder = between(&members).await.unwrap();
    members[1].set_down(false);
    members[0].set_down(true);
    assert_eq!(embedder.embed(Role::Query, &["log in"]).await.unwrap(), [truth("log in").await]);
    assert_eq!(embedder.stats().answering, 2);
    members[2].set_down(true);
    let error = embedder.embed(Role::Query, &["log in"]).await.unwrap_err();
    assert!(error.to_string().contains("Counting(b) says that its vectors are of"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_check_that_hangs_is_bounded() {
    let members: Vec<Arc<dyn Embedder>> = vec![Arc::new(Hanging(HashEmbedder::new())), Arc::new(Counting::named("b"))];
    let begun = tokio::time::Instant::now();
    let embedder = Fallback::between(members, FallbackConfig::default()).await.unwrap();
    assert!(begun.elapsed() <= Duration::from_secs(6));
    embedder.embed(Role::Query, &["log in"]).await.unwrap();
    let begun = tokio::time::Instant::now();
    tokio::time::advance(Duration::from_secs(31)).await;
    embedder.embed(Role::Query, &["log in"]).await.unwrap();
    assert!(begun.elapsed() <= Duration::from_secs(31 + 6), "{:?}", begun.elapsed());
    embedder.health().await.unwrap();
}

#[tokio::test]
async fn embedders_of_different_spaces_are_refused_with_both_named() {
    let mut other = HashEmbedder::new().space().clone();
    other.revision = "2".to_owned();
    let members: Vec<Arc<dyn Embedder>> = vec![Arc::new(HashEmbedder::new()), Arc::new(Of(other))];
    let error = Fallback::between(members, FallbackConfig::default()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::SpaceMismatch);
    let text = error.to_string();
    assert!(text.contains("knowhow/hash@1") && text.contains("knowhow/hash@2"), "{text}");
    assert!(text.contains("Model::with_identity"), "{text}");
}

#[tokio::test]
async fn what_cannot_be_is_refused() {
    let config = FallbackConfig::default();
    let two = || -> Vec<Arc<dyn Embedder>> { vec![Arc::new(HashEmbedder::new()), Arc::new(HashEmbedder::new())] };
    for (members, config, said) in [
        (vec![], config, "fallback.embedders is 0; allowed: 2..=16"),
        (two().split_off(1), config, "fallback.embedders is 1; allowed: 2..=16"),
        (two(), config.with_pause(Duration::ZERO), "fallback.pause is 0ns; allowed: 10ms..=86400s"),
        (two(), config.with_check_timeout(Duration::ZERO), "fallback.check_timeout is 0ns; allowed: 10ms..=3600s"),
    ] {
        let error = Fallback::between(members, config).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid);
        assert!(error.to_string().contains(said), "{error}");
    }
}

#[derive(Debug)]
struct Hanging(HashEmbedder);

impl std::fmt::Display for Hanging {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Hanging")
    }
}

#[async_trait]
impl Embedder for Hanging {
    fn space(&self) -> &VectorSpace {
        self.0.space()
    }

    async fn embed(&self, _role: Role, _texts: &[&str]) -> Result<Vec<Vector>> {
        std::future::pending().await
    }

    async fn health(&self) -> Result<()> {
        std::future::pending().await
    }
}

#[derive(Debug)]
struct Of(VectorSpace);

impl std::fmt::Display for Of {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Of")
    }
}

#[async_trait]
impl Embedder for Of {
    fn space(&self) -> &VectorSpace {
        &self.0
    }

    async fn embed(&self, _role: Role, _texts: &[&str]) -> Result<Vec<Vector>> {
        Err(Error::new(ErrorKind::Unavailable, "never"))
    }

    async fn health(&self) -> Result<()> {
        Ok(())
    }
}
