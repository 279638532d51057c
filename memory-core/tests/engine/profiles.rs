//! What counts in a recall: the parts of a score, intents, thresholds and diversity.

use chrono::TimeDelta;
use memory_core::testkit::samples;
use memory_core::{
    ErrorKind, Freshness, Intent, Memory, NewNote, Outcome, Parts, Profile, Recalled, Recollection, Recording, Step,
    Task, Verdict, Weights,
};

use crate::{fresh, record_all, worked};

/// By words alone.
const WORDS: Weights = Weights::new(1.0, 0.0, 0.0);

/// A profile in which nothing but the words counts.
fn plain() -> Profile {
    let profile = Profile::default().with_episodes(WORDS).with_notes(WORDS).with_agreement(0.0);
    profile.with_context(0.0).with_evidence(0.0).with_recency(0.0).with_salience(0.0).with_threshold(0.0)
}

fn in_range(score: f64, parts: &Parts) -> bool {
    let Parts { words, trace, vector, reranked, relevance, context, evidence, recency, salience, .. } = *parts;
    let all = [score, words, trace, vector, relevance, context, evidence, recency, salience];
    all.into_iter().chain(reranked).all(|part| (0.0..=1.0).contains(&part))
}

/// That the score of an episode is made as [`Profile`] says.
pub(crate) fn check(recalled: &Recalled, profile: &Profile) {
    let Recalled { score, parts, freshness, .. } = recalled;
    assert!(in_range(*score, parts), "{recalled:?}");
    assert_eq!(parts.salience, 1.0);
    let Profile { context, evidence, recency, .. } = profile;
    let shares = context * parts.context + evidence * parts.evidence + recency * parts.recency;
    let whole = parts.relevance * (1.0 - context - evidence - recency + shares);
    let expected = if matches!(freshness, Freshness::Drifted(_)) { whole / 2.0 } else { whole };
    assert!((score - expected).abs() < 1e-12, "{score} is not {expected}: {recalled:?}");
}

/// The summaries of the episodes, which tell them apart.
fn order(found: &Recollection) -> Vec<&str> {
    found.episodes.iter().map(|recalled| &recalled.episode.outcome.summary[..]).collect()
}

/// A finished episode about the login, with this summary.
fn login(summary: &str) -> Recording {
    Recording::new(Task::new("fix the login"), Outcome::success(summary))
}

#[tokio::test(start_paused = true)]
async fn the_score_is_what_the_profile_says() {
    let memory = fresh().await;
    memory.record(login("a").step(Step::new("grep").input("login").error("no such login page"))).await.unwrap();
    let drifted = Recording::new(
        Task::new("login page").language("rust").tag("web").environment("lock", "old"),
        Outcome::partial("b"),
    );
    record_all(&memory, [drifted, Recording::new(Task::new("fix it"), Outcome::failure("c").reward(0.3))]).await;
    for n in 0..3 {
        memory.remember(NewNote::new(format!("the login page {n}")).salience(f64::from(n) / 2.0)).await.unwrap();
    }
    let task = Task::new("fix the login page").language("rust").tag("web").tag("ui").environment("lock", "new");
    for intent in Intent::ALL {
        for profile in [Profile::of(intent), Profile::of(intent).with_threshold(0.0).with_agreement(0.0)] {
            let found = memory.recall_with(&task, 100, &profile).await.unwrap();
            assert_eq!((found.episodes.len(), found.notes.len()), (3, 3), "{profile:?}");
            let drifted = |one: &Recalled| matches!(one.freshness, Freshness::Drifted(_));
            assert_eq!(found.episodes.iter().filter(|one| drifted(one)).count(), 1);
            for recalled in &found.episodes {
                check(recalled, &profile);
                let (weights, parts) = (profile.episodes, &recalled.parts);
                let sum = weights.words * parts.words + weights.trace * parts.trace + weights.vector * parts.vector;
                let alone = sum / (weights.words + weights.trace + weights.vector);
                let moved = (parts.relevance - alone).abs() > 1e-12;
                assert!(!moved || profile.agreement > 0.0, "{recalled:?}");
            }
            for recalled in &found.notes {
                let parts = &recalled.parts;
                assert!(in_range(recalled.score, parts), "{recalled:?}");
                assert!((parts.relevance - 0.9 * parts.words - 0.1 * parts.vector).abs() < 1e-12, "{recalled:?}");
                let Profile { recency, salience, .. } = profile;
                let shares = recency * parts.recency + salience * parts.salience;
                let expected = parts.relevance * (1.0 - recency - salience + shares);
                assert!((recalled.score - expected).abs() < 1e-12, "{recalled:?}");
            }
        }
    }
}

/// Of episodes that are equal otherwise, told worse ones last, so that in a tie the worst would come first: the order, and
/// the part of each.
async fn each(
    recordings: Vec<Recording>,
    task: &Task,
    profile: &Profile,
    part: fn(&Parts) -> f64,
) -> Vec<(String, f64)> {
    let memory = fresh().await;
    record_all(&memory, recordings).await;
    let found = memory.recall_with(task, 100, profile).await.unwrap();
    let scored = |recalled: &Recalled| (recalled.episode.outcome.summary.clone(), part(&recalled.parts));
    for recalled in &found.episodes {
        check(recalled, profile);
        let [first, own] = [&found.episodes[0].parts, &recalled.parts];
        assert_eq!((first.relevance, first.words, first.vector), (own.relevance, own.words, own.vector));
        // The other parts are the same.
        let all = |parts: &Parts| [parts.context, parts.evidence, parts.recency];
        let differing = all(first).into_iter().zip(all(own)).filter(|(a, b)| (a - b).abs() > 1e-6).count();
        assert!(differing <= 1, "{recalled:?}");
    }
    found.episodes.iter().map(scored).collect()
}

#[tokio::test(start_paused = true)]
async fn how_an_episode_ended_moves_its_evidence() {
    let ended = |verdict, name| Recording::new(Task::new("fix the login"), Outcome::new(verdict, name));
    let by_verdict = || {
        vec![ended(Verdict::Success, "success"), ended(Verdict::Partial, "partial"), ended(Verdict::Failure, "failure")]
    };
    let (task, evidence) = (Task::new("login"), |parts: &Parts| parts.evidence);
    let named = |names: [(&str, f64); 3]| names.map(|(name, part)| (name.to_owned(), part)).to_vec();
    let found = each(by_verdict(), &task, &plain().with_evidence(0.4), evidence).await;
    assert_eq!(found, named([("success", 1.0), ("partial", 0.6), ("failure", 0.2)]));
    let found = each(by_verdict(), &task, &plain(), evidence).await;
    assert_eq!(found, named([("failure", 0.2), ("partial", 0.6), ("success", 1.0)]), "a share of 0 orders nothing");
    for verdict in [Verdict::Abstained, Verdict::Interrupted] {
        let found = each(vec![ended(verdict, "")], &task, &plain(), evidence).await;
        assert_eq!(found, [(String::new(), 0.2)]);
    }
    let rewarded =
        |name: &str, reward| Recording::new(Task::new("fix the login"), Outcome::failure(name).reward(reward));
    let by_reward = vec![rewarded("high", 0.9), rewarded("low", 0.1), rewarded("none", 0.0)];
    let found = each(by_reward, &task, &plain().with_evidence(1.0), evidence).await;
    assert_eq!(found, named([("high", 0.9), ("low", 0.1), ("none", 0.0)]), "a reward says more than the verdict");
}

#[tokio::test(start_paused = true)]
async fn language_and_tags_move_the_context() {
    // The tags are words of an episode, too: all have as many of them.
    let about = |name: &str, language: &str, tags: [&str; 2]| {
        let task = Task::new("fix the login").language(language).tag(tags[0]).tag(tags[1]);
        Recording::new(task, Outcome::success(name))
    };
    let (profile, context) = (plain().with_context(0.5), |parts: &Parts| parts.context);
    let named =
        |names: &[(&str, f64)]| names.iter().map(|(name, part)| ((*name).to_owned(), *part)).collect::<Vec<_>>();

    let by_language = || vec![about("rust", "rust", ["ui", "db"]), about("go", "go", ["ui", "db"])];
    let found = each(by_language(), &Task::new("login").language("rust"), &profile, context).await;
    assert_eq!(found, named(&[("rust", 1.0), ("go", 0.0)]));
    let found = each(by_language(), &Task::new("login"), &profile, context).await;
    assert_eq!(found, named(&[("go", 1.0), ("rust", 1.0)]), "the task names none");

    let by_tag = || {
        let none = about("none", "go", ["css", "svg"]);
        vec![about("both", "go", ["ui", "db"]), about("one", "go", ["ui", "svg"]), none]
    };
    let task = Task::new("login").tag("ui").tag("db");
    assert_eq!(each(by_tag(), &task, &profile, context).await, named(&[("both", 1.0), ("one", 0.5), ("none", 0.0)]));
    let found = each(by_tag(), &task.clone().language("go"), &profile, context).await;
    assert_eq!(found, named(&[("both", 1.0), ("one", 0.75), ("none", 0.5)]), "half of it each");
    let found = each(by_tag(), &task, &plain(), context).await;
    assert_eq!(found, named(&[("none", 0.0), ("one", 0.5), ("both", 1.0)]), "a share of 0 orders nothing");
}

#[tokio::test(start_paused = true)]
async fn age_moves_the_recency() {
    let ago = |name: &str, days| {
        let end = samples::time(0) - TimeDelta::days(days);
        login(name).started_at(end - TimeDelta::minutes(1)).completed_at(end)
    };
    let memory = fresh().await;
    record_all(&memory, [ago("today", 0), ago("a half-life ago", 90), ago("long ago", 180)]).await;
    let by_age = plain().with_recency(0.5);
    let found = memory.recall_with(&Task::new("login"), 100, &by_age).await.unwrap();
    found.episodes.iter().for_each(|recalled| check(recalled, &by_age));
    assert_eq!(order(&found), ["today", "a half-life ago", "long ago"]);
    for (recalled, expected) in found.episodes.iter().zip([1.0, 0.5, 0.25]) {
        assert!((recalled.parts.recency - expected).abs() < 1e-6, "{recalled:?}");
    }

    // The older one ended better.
    let better = ago("better", 90);
    let mut worse = ago("", 0);
    worse.outcome = Outcome::failure("worse");
    let memory = fresh().await;
    record_all(&memory, [better, worse]).await;
    for (profile, expected) in [
        (plain().with_evidence(0.3), ["better", "worse"]),
        (plain().with_evidence(0.3).with_recency(0.6), ["worse", "better"]),
    ] {
        let found = memory.recall_with(&Task::new("login"), 100, &profile).await.unwrap();
        assert_eq!(order(&found), expected, "{profile:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_share_never_brings_up_what_is_not_relevant() {
    let memory = fresh().await;
    let task = Task::new("login page").language("rust").tag("web");
    let fitting = |text: &str| Task::new(text).language("rust").tag("web");
    record_all(
        &memory,
        [
            Recording::new(fitting("quarterly revenue"), Outcome::success("fits, and is about something else")),
            Recording::new(Task::new("login page"), Outcome::failure("about it")),
        ],
    )
    .await;
    memory.remember(NewNote::new("quarterly revenue").salience(1.0)).await.unwrap();
    memory.remember(NewNote::new("the login page").salience(0.0)).await.unwrap();
    for profile in [plain().with_context(1.0), plain().with_evidence(1.0), plain().with_salience(1.0)] {
        let found = memory.recall_with(&task, 100, &profile).await.unwrap();
        assert_eq!(order(&found), ["about it"], "{profile:?}");
        assert_eq!(found.notes.iter().map(|one| &one.note.text[..]).collect::<Vec<_>>(), ["the login page"]);
    }
}

#[tokio::test(start_paused = true)]
async fn an_error_that_happened_is_found_whatever_the_task_was() {
    let memory = fresh().await;
    let error = "ORA-00942: table or view does not exist";
    let met = Recording::new(Task::new("rotate signing keys"), Outcome::success("met it"));
    memory.record(met.step(Step::new("sql").error(error))).await.unwrap();
    for n in 0..20 {
        let thought = Step::new("think").ok("rivers wind through valleys towards harbours where ships unload grain");
        let other = Recording::new(Task::new(format!("write chapter {n}")), Outcome::success(""));
        memory.record(other.step(thought)).await.unwrap();
    }
    let task = Task::new(format!("nightly import fails with {error}"));
    let found = memory.recall(&task, 5).await.unwrap();
    assert_eq!((found.intent, order(&found)), (Intent::Debugging, vec!["met it"]));
    let parts = &found.episodes[0].parts;
    assert!(parts.trace > 0.2 && parts.words == 0.0, "{parts:?}");
    assert_eq!(found.pitfalls.len(), 1, "and what repaired it");
    let blind = Profile::of(Intent::Debugging).with_episodes(Weights::new(0.7, 0.0, 0.3));
    assert_eq!(memory.recall_with(&task, 5, &blind).await.unwrap().episodes, []);
}

#[tokio::test(start_paused = true)]
async fn those_in_which_the_same_happened_agree() {
    let memory = fresh().await;
    let happened = |text: &str, name: &str, seen: &str| {
        let step = Step::new("read").input(format!("{seen}.toml")).ok(format!("record {seen} found"));
        Recording::new(Task::new(text), Outcome::success(name)).step(step)
    };
    record_all(
        &memory,
        [
            happened("refund order of the shop customer", "best", "w77"),
            happened("refund", "agrees", "w77"),
            happened("refund", "differs", "x12"),
            happened("refund", "differs, too", "y13"),
        ],
    )
    .await;
    let task = Task::new("refund order of the shop customer");
    for (agreement, expected) in
        [(1.0, ["best", "agrees", "differs, too", "differs"]), (0.0, ["best", "differs, too", "differs", "agrees"])]
    {
        let found = memory.recall_with(&task, 5, &plain().with_agreement(agreement)).await.unwrap();
        assert_eq!(order(&found), expected, "agreement {agreement}");
        let drawn = found.episodes.iter().find(|one| one.episode.outcome.summary == "agrees").unwrap();
        let other = found.episodes.iter().find(|one| one.episode.outcome.summary == "differs").unwrap();
        assert_eq!(drawn.parts.words, other.parts.words);
        assert_eq!(drawn.parts.relevance > other.parts.relevance + 0.01, agreement == 1.0);
    }
}

#[tokio::test(start_paused = true)]
async fn the_intent_is_told_and_can_be_chosen() {
    let memory = fresh().await;
    for (text, intent) in [
        ("the login test fails", Intent::Debugging),
        ("add a logout button", Intent::Planning),
        ("Which database do we use?", Intent::Answering),
        ("logout", Intent::Free),
        ("", Intent::Free),
    ] {
        assert_eq!(memory.recall(&Task::new(text), 1).await.unwrap().intent, intent, "{text}");
        assert_eq!(memory.recall_notes(text, 1).await.unwrap().intent, intent, "{text}");
        if !text.is_empty() {
            assert_eq!(memory.start(Task::new(text)).await.unwrap().recall(1).await.unwrap().intent, intent);
        }
        for chosen in Intent::ALL {
            let profile = Profile::of(chosen);
            assert_eq!(memory.recall_with(&Task::new(text), 1, &profile).await.unwrap().intent, chosen);
            assert_eq!(memory.recall_notes_with(text, 1, &profile).await.unwrap().intent, chosen);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn the_words_choose_the_profile() {
    let memory = fresh().await;
    record_all(&memory, ["fix the login", "login page"].map(|text| worked(text, &["grep"]))).await;
    let task = Task::new("fix the login");
    let found = memory.recall(&task, 5).await.unwrap();
    let debugging = memory.recall_with(&task, 5, &Profile::of(Intent::Debugging)).await.unwrap();
    assert_eq!((&found, found.episodes.len()), (&debugging, 2));
    let free = memory.recall_with(&task, 5, &Profile::default()).await.unwrap();
    assert_ne!(found.episodes, free.episodes, "recency and trace count more");
}

#[tokio::test(start_paused = true)]
async fn what_is_asked_out_of_range_is_refused() {
    let memory = fresh().await;
    let both = async |text: &str, k: usize, profile: &Profile| {
        let errors = [
            memory.recall_with(&Task::new(text), k, profile).await.unwrap_err(),
            memory.recall_notes_with(text, k, profile).await.unwrap_err(),
        ];
        errors.map(|error| {
            assert_eq!(error.kind(), ErrorKind::Invalid, "{error}");
            error.to_string()
        })
    };
    let free = Profile::default();
    let nan = f64::NAN;
    for (profile, why) in [
        (free.with_agreement(-0.1), "profile.agreement is -0.1; allowed: 0..=1"),
        (free.with_context(1.5), "profile.context is 1.5; allowed: 0..=1"),
        (free.with_evidence(nan), "profile.evidence is NaN; allowed: 0..=1"),
        (free.with_recency(2.0), "profile.recency is 2; allowed: 0..=1"),
        (free.with_salience(-1.0), "profile.salience is -1; allowed: 0..=1"),
        (free.with_diversity(1.1), "profile.diversity is 1.1; allowed: 0..=1"),
        (free.with_threshold(f64::INFINITY), "profile.threshold is inf; allowed: 0..=1"),
        (free.with_episodes(Weights::new(0.0, 0.0, 0.0)), "profile.episodes is all zero"),
        (free.with_episodes(Weights::new(1.0, nan, 0.0)), "profile.episodes.trace is NaN"),
        (free.with_notes(Weights::new(0.0, 0.5, 0.0)), "profile.notes is all zero"),
        (free.with_notes(Weights::new(0.0, 0.5, 7.0)), "profile.notes.vector is 7"),
        (free.with_context(0.5).with_evidence(0.5), "profile: context + evidence + recency is 1.1; allowed: up to 1"),
        (free.with_recency(0.5).with_salience(0.6), "profile: recency + salience is 1.1; allowed: up to 1"),
        (free.with_depth(0), "profile.depth is 0; allowed: 1..=100"),
        (free.with_depth(101), "profile.depth is 101; allowed: 1..=100"),
    ] {
        for error in both("fix", 1, &profile).await {
            assert!(error.contains(why), "{error}, not {why}");
        }
    }
    for (k, why) in [(0, "k is 0; allowed: 1..=100"), (101, "k is 101; allowed: 1..=100")] {
        for error in both("fix", k, &free).await {
            assert!(error.contains(why), "{error}");
        }
    }
    for error in both(&"a".repeat(10_001), 1, &free).await {
        assert!(error.contains("is 10001 bytes; allowed: up to 10000 bytes"), "{error}");
    }
    for k in [1, 100] {
        memory.recall(&Task::new("a".repeat(10_000)), k).await.unwrap();
        memory.recall_notes(&"a".repeat(10_000), k).await.unwrap();
    }
}

/// Episodes and notes about the login, of which some have more to do with the page than others.
async fn about_login() -> Memory {
    let memory = fresh().await;
    record_all(&memory, ["login page of the shop", "login", "quarterly revenue"].map(|text| worked(text, &[]))).await;
    for text in ["the login page is frozen", "login with a key", "revenue is public"] {
        memory.remember(NewNote::new(text)).await.unwrap();
    }
    memory
}

#[tokio::test(start_paused = true)]
async fn a_query_without_words_finds_nothing_and_is_no_abstention() {
    let memory = about_login().await;
    for query in ["", " \n\t", "the of and", "?!"] {
        let found = memory.recall(&Task::new(query), 100).await.unwrap();
        assert!(found.episodes.is_empty() && found.notes.is_empty() && found.pitfalls.is_empty(), "{found:?}");
        assert_eq!((found.abstained, found.degraded), (None, None));
        let found = memory.recall_notes(query, 100).await.unwrap();
        assert_eq!((found.notes, found.abstained, found.degraded), (vec![], None, None));
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_below_the_threshold_is_not_told() {
    let memory = about_login().await;
    let task = Task::new("login page of another shop");
    let all = memory.recall_with(&task, 100, &plain()).await.unwrap();
    assert_eq!((all.episodes.len(), all.notes.len(), all.abstained), (2, 2, None));
    let relevances = |found: &Recollection| -> (Vec<f64>, Vec<f64>) {
        let episodes = found.episodes.iter().map(|one| one.parts.relevance).collect();
        (episodes, found.notes.iter().map(|one| one.parts.relevance).collect())
    };
    let (episodes, notes) = relevances(&all);
    assert!(episodes[0] > episodes[1] && notes[0] > notes[1] && episodes[0] > notes[0], "{all:?}");

    // A relevance as high as the threshold is enough.
    let some = memory.recall_with(&task, 100, &plain().with_threshold(notes[0])).await.unwrap();
    assert_eq!((relevances(&some), some.abstained), ((vec![episodes[0]], vec![notes[0]]), None));
    let best = memory.recall_with(&task, 100, &plain().with_threshold(episodes[0])).await.unwrap();
    assert_eq!((relevances(&best), best.abstained), ((vec![episodes[0]], vec![]), None), "one of both is something");
    let notes_alone = memory.recall_notes_with(&task.text, 100, &plain().with_threshold(episodes[0])).await.unwrap();
    assert_eq!((notes_alone.notes, notes_alone.abstained), (vec![], Some(notes[0])));

    let none = memory.recall_with(&task, 100, &plain().with_threshold(0.99)).await.unwrap();
    assert!(none.episodes.is_empty() && none.notes.is_empty() && none.pitfalls.is_empty());
    assert_eq!(none.abstained, Some(episodes[0]), "the best there was");
    let one = memory.recall_with(&task, 1, &plain().with_threshold(0.99)).await.unwrap();
    assert_eq!(one.abstained, none.abstained, "however few are asked for");
    let kept = memory.recall_notes_with(&task.text, 100, &plain()).await.unwrap();
    assert_eq!((&kept.notes, kept.abstained), (&all.notes, None));
    let nothing = memory.recall(&Task::new("zebra"), 100).await.unwrap();
    assert!(nothing.episodes.is_empty() && nothing.notes.is_empty());
}

/// A weak likeness is not told by the default profile; without a threshold it is.
#[tokio::test(start_paused = true)]
async fn by_default_noise_is_not_told() {
    let memory = fresh().await;
    let words = "alpha beta gamma delta epsilon zeta theta kappa lambda sigma omega walrus";
    let query = format!("{words} login");
    for n in 0..5 {
        memory.record(worked(&format!("login {n} {}", "long winding story ".repeat(9)), &[])).await.unwrap();
    }
    let found = memory.recall(&Task::new(&query), 5).await.unwrap();
    assert_eq!(found.episodes, []);
    let best = found.abstained.unwrap();
    assert!(best > 0.0 && best < 0.05, "{best}");
    let all = memory.recall_with(&Task::new(&query), 5, &Profile::default().with_threshold(0.0)).await.unwrap();
    assert_eq!((all.episodes.len(), all.abstained), (5, None));
}

#[tokio::test(start_paused = true)]
async fn what_says_the_same_comes_after_something_different() {
    let memory = fresh().await;
    let texts = ["deploy the web shop", "we deploy the web shop", "deploy by hand on Fridays after a long review"];
    let recordings = texts.map(|text| Recording::new(Task::new(text), Outcome::success(text)));
    record_all(&memory, recordings).await;
    for text in texts {
        memory.remember(NewNote::new(text)).await.unwrap();
    }
    let task = Task::new("deploy the web shop");
    for (diversity, place) in [(0.0, 2), (1.0, 1)] {
        let profile = plain().with_diversity(diversity);
        let found = memory.recall_with(&task, 3, &profile).await.unwrap();
        assert_eq!(order(&found)[place], texts[2], "diversity {diversity}");
        assert_eq!((found.episodes.len(), found.notes.len()), (3, 3));
        let notes = memory.recall_notes_with(&task.text, 3, &profile).await.unwrap().notes;
        assert_eq!((&notes[place].note.text[..], &notes), (texts[2], &found.notes));
        let two = memory.recall_with(&task, 2, &profile).await.unwrap();
        assert_eq!((&two.episodes[..], &two.notes[..]), (&found.episodes[..2], &found.notes[..2]));
    }
}
