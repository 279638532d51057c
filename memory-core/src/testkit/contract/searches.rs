//! Searches find the best by words and by vector, with exact scores.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, Utc};

use super::scans::{SCOPES, filtered, filtered_notes};
use super::{delete, found, get_all, note_words, number_of, put, scan, search, words};
use crate::ranking::{candidates, rescored};
use crate::testkit::samples::{
    self, awkward_texts, episode, episode_id, logged, logged_with, noted, noted_with, time, vector,
};
use crate::text::terms;
use crate::{
    Episode, ErrorKind, Filter, Hit, Key, LoggedEpisode, MemoryStore, Note, NoteFilter, Record, RecordKind, Scan,
    Scope, Search, Searched, Step, Stored, StoredNote, Trust, Vector, Verdict,
};

/// Rounding that adding the same numbers in another order may cause.
const ROUNDING: f64 = 1e-12;

fn assert_hits(hits: &[Hit], expected: &[Hit], why: &str) {
    assert_eq!(found(hits), found(expected), "{why}: {hits:?}, expected {expected:?}");
    for (hit, expected) in hits.iter().zip(expected) {
        assert!((hit.words - expected.words).abs() <= ROUNDING, "{why}: {hit:?}, expected {expected:?}");
        assert!((hit.trace - expected.trace).abs() <= ROUNDING, "{why}: {hit:?}, expected {expected:?}");
        assert!((hit.vector - expected.vector).abs() <= 1e-6, "{why}: {hit:?}, expected {expected:?}");
        assert_eq!(hit.version, expected.version, "{why}: the version that get tells");
    }
}

/// A stored record with its terms counted.
struct Document<'a> {
    stored: &'a Stored,
    kind: Searched,
    words: BTreeMap<String, f64>,
    trace: BTreeMap<String, f64>,
    vector: Option<&'a Vector>,
    at: DateTime<Utc>,
}

impl<'a> Document<'a> {
    fn of(stored: &'a Stored) -> Option<Self> {
        let (kind, vector, at) = match &stored.record {
            Record::Episode(LoggedEpisode { episode, vector }) => (Searched::Episodes, vector, episode.completed_at),
            Record::Note(StoredNote { note, vector }) => (Searched::Notes, vector, note.updated_at),
            _ => return None,
        };
        let [words, trace] = counted(&stored.record);
        let vector = vector.as_ref().filter(|vector| vector.as_slice().iter().any(|x| *x != 0.0));
        Some(Self { stored, kind, words, trace, vector, at })
    }

    fn matches(&self, search: &Search) -> bool {
        match &self.stored.record {
            Record::Episode(logged) => search.filter.matches(&logged.episode),
            Record::Note(stored) => search.notes.matches(&stored.note),
            _ => false,
        }
    }
}

/// What a search must find among all documents, straight from the words of the contract; all that is nearest by vector.
fn expected_hits(all: &[Document<'_>], search: &Search) -> Vec<Hit> {
    let searched = |document: &&Document<'_>| {
        document.kind == search.kind && document.stored.record.scope() == Some(&search.scope)
    };
    let documents: Vec<&Document> = all.iter().filter(searched).collect();
    let query: BTreeSet<String> = terms(search.text.as_deref().unwrap_or_default()).into_iter().collect();
    let accepted: Vec<usize> = (0..documents.len()).filter(|place| documents[*place].matches(search)).collect();
    let tie = |a: usize, b: usize| {
        let key = |place: usize| documents[place].stored.record.key();
        documents[b].at.cmp(&documents[a].at).then(key(a).cmp(&key(b)))
    };
    let best = |mut scored: Vec<(usize, f64)>, k: usize| -> Vec<usize> {
        scored.sort_by(|a, b| b.1.total_cmp(&a.1).then(tie(a.0, b.0)));
        scored.into_iter().take(k).map(|(place, _)| place).collect()
    };
    // The scores of all by one kind of words, and the best.
    let by_words = |of: for<'a> fn(&'a Document) -> &'a BTreeMap<String, f64>| -> (Vec<f64>, Vec<usize>) {
        let counts: Vec<&BTreeMap<String, f64>> = documents.iter().map(|document| of(document)).collect();
        let lengths: Vec<f64> = counts.iter().map(|terms| terms.values().sum()).collect();
        let mean = (lengths.iter().sum::<f64>() / documents.len() as f64).max(1.0);
        let idf = |found: f64| (1.0 + (documents.len() as f64 - found + 0.5) / (found + 0.5)).ln();
        // Each term with how many documents have it, rarest first.
        let found = |term: &String| counts.iter().filter(|terms| terms.contains_key(term)).count() as f64;
        let mut all: Vec<(f64, &String)> = query.iter().map(|term| (found(term), term)).collect();
        all.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(b.1)));
        let bound: f64 = all.iter().map(|(found, _)| idf(*found) * 2.2).sum();
        let score = |place: usize, terms: &[(f64, &String)]| -> f64 {
            let part = |(found, term): &(f64, &String)| {
                let frequency = counts[place].get(*term).copied().unwrap_or_default();
                let norm = 1.2 * (0.25 + 0.75 * lengths[place] / mean);
                idf(*found) * frequency * 2.2 / (frequency + norm) / bound
            };
            terms.iter().map(part).filter(|part| *part > 0.0).sum()
        };
        let (mut rare, mut sum) = (Vec::new(), 0.0);
        for (found, term) in &all {
            if search.exact || sum == 0.0 || sum + found <= candidates(documents.len() as u64) as f64 {
                rare.push((*found, *term));
                sum += found;
            } else {
                break;
            }
        }
        let mut chosen: Vec<(usize, f64)> = accepted.iter().map(|place| (*place, score(*place, &rare))).collect();
        chosen.retain(|(_, score)| *score > 0.0);
        if rare.len() < all.len() {
            let kept = best(chosen, rescored(search.k));
            chosen = kept.into_iter().map(|place| (place, score(place, &all))).collect();
        }
        ((0..documents.len()).map(|place| score(place, &all)).collect(), best(chosen, search.k))
    };
    let (words, mut union) = by_words(|document| &document.words);
    let (trace, found_in_trace) = by_words(|document| &document.trace);
    if search.trace {
        union.extend(found_in_trace);
    }
    let query_vector = search.vector.as_ref().filter(|vector| vector.as_slice().iter().any(|x| *x != 0.0));
    let cosine = |place: usize| query_vector.zip(documents[place].vector).map(|(query, own)| query.cosine(own));
    union.extend(best(accepted.iter().filter_map(|place| Some((*place, cosine(*place)?))).collect(), search.k));
    union.sort_unstable();
    union.dedup();
    let hit = |place: &usize| Hit {
        key: documents[*place].stored.record.key(),
        version: documents[*place].stored.version,
        words: words[*place],
        trace: if search.trace { trace[*place] } else { 0.0 },
        vector: cosine(*place).unwrap_or_default(),
    };
    let mut hits: Vec<(usize, Hit)> = union.iter().map(|place| (*place, hit(place))).collect();
    hits.sort_by(|(a, first), (b, second)| {
        let scores = |hit: &Hit| [hit.words, hit.vector, hit.trace];
        let (first, second) = (scores(first), scores(second));
        let order = first.iter().zip(&second).map(|(first, second)| second.total_cmp(first));
        order.fold(Ordering::Equal, Ordering::then).then(tie(*a, *b))
    });
    hits.into_iter().map(|(_, hit)| hit).collect()
}

/// The terms of a record's words and trace, counted.
fn counted(record: &Record) -> [BTreeMap<String, f64>; 2] {
    let mut counts = [BTreeMap::new(), BTreeMap::new()];
    let mut add = |which: usize, text: &str, weight: f64| {
        for term in terms(text).into_iter().take([usize::MAX, 30][which]) {
            *counts[which].entry(term).or_default() += weight;
        }
    };
    match record {
        Record::Episode(LoggedEpisode { episode, .. }) => {
            add(0, &episode.task.text, 1.0);
            episode.task.tags.iter().for_each(|tag| add(0, tag, 1.0));
            for step in &episode.steps {
                add(1, &step.tool, 1.0);
                add(1, &step.action, 1.0);
                add(1, &step.input, 1.0);
                add(1, &step.observation, if step.ok { 1.0 } else { 2.0 });
            }
            add(1, &episode.outcome.summary, 1.0);
        }
        Record::Note(StoredNote { note, .. }) => {
            add(0, &note.text, 1.0);
            note.tags.iter().for_each(|tag| add(0, tag, 1.0));
        }
        _ => {}
    }
    counts.map(|counts| counts.into_iter().map(|(term, count): (String, f64)| (term, count.min(255.0))).collect())
}

async fn check_against_model(store: &dyn MemoryStore, searches: &[Search], why: &str) {
    let mut stored = scan(store, Scan::new(RecordKind::Episode)).await;
    stored.extend(scan(store, Scan::new(RecordKind::Note)).await);
    let documents: Vec<Document> = stored.iter().filter_map(Document::of).collect();
    for one in searches {
        let why = format!("{why}: {one:?}");
        assert_hits(&search(store, one).await, &expected_hits(&documents, one), &why);
    }
}

/// Words are scored by BM25 as a share of its upper bound: here, three short texts whose scores were computed by hand.
pub async fn search_scores_are_those_of_a_hand_computed_corpus(store: &dyn MemoryStore) {
    // Three documents of 2, 4 and 3 terms; the mean is 3. So norm = 1.2 * (0.25 + 0.75 * length / 3) is 0.9, 1.5 and 1.2.
    let texts = ["alpha beta", "the alpha and the alpha of gamma delta", "gamma, delta: epsilon!"];
    let records: Vec<Record> = (1..).zip(texts).map(|(n, text)| logged(episode(n, text))).collect();
    put(store, records.clone()).await;
    let versions: Vec<_> = get_all(store, &records).await.iter().map(|stored| stored.version).collect();
    // A term in two of three documents has idf = ln(1 + 1.5 / 2.5) = ln 1.6, in one ln(8 / 3), in none ln 8. The share of
    // one term is frequency / (frequency + norm).
    let cases: [(&str, &[(u128, f64)]); 9] = [
        ("alpha", &[(2, 2.0 / 3.5), (1, 1.0 / 1.9)]),
        ("Alphas, ALPHA alpha's", &[(2, 2.0 / 3.5), (1, 1.0 / 1.9)]),
        ("what is alpha", &[(2, 2.0 / 3.5), (1, 1.0 / 1.9)]),
        // A term that no document has lowers the share: ln 1.6 / (ln 1.6 + ln 8) of the above.
        ("alpha zeta", &[(2, 0.105_345_863_283_904_05), (1, 0.097_029_084_603_595_83)]),
        ("gamma epsilon", &[(3, 1.0 / 2.2), (2, 0.129_581_741_630_895_78)]),
        ("beta", &[(1, 1.0 / 1.9)]),
        ("epsilon", &[(3, 1.0 / 2.2)]),
        ("gamma delta", &[(3, 1.0 / 2.2), (2, 0.4)]),
        ("zeta", &[]),
    ];
    for (text, expected) in cases {
        let expected: Vec<Hit> = expected
            .iter()
            .map(|(n, words)| {
                let place = records.iter().position(|record| record.key() == Key::Episode(id(*n))).expect("a record");
                Hit { key: Key::Episode(id(*n)), version: versions[place], words: *words, trace: 0.0, vector: 0.0 }
            })
            .collect();
        assert_hits(&search(store, &words(text)).await, &expected, text);
    }
}

fn id(n: u128) -> crate::EpisodeId {
    crate::EpisodeId::new(samples::uuid(n))
}

const WORDS: [&str; 12] =
    ["login", "test", "fix", "deploy", "query", "report", "server", "token", "cache", "the", "users", "naïve"];

/// Episode `n` of a corpus in two scopes with repeated words, vectors for two of three, and times with ties.
fn random_episode(n: u32) -> Record {
    let mut state = u64::from(n).wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut next = |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        usize::try_from(state % 1_000_003).expect("small") % below
    };
    let text: Vec<&str> = (0..1 + next(9)).map(|_| WORDS[next(WORDS.len())]).collect();
    let mut episode = episode(n, &format!("{} alone{n}", text.join(" ")));
    if next(4) == 0 {
        episode.scope = samples::scope("default/other");
    }
    episode.task.domain = [None, Some("web".to_owned()), Some("data".to_owned())][next(3)].clone();
    episode.outcome.verdict = [Verdict::Success, Verdict::Failure][next(2)];
    episode.outcome.summary = WORDS[next(WORDS.len())].to_owned();
    episode.task.tags = (0..next(3)).map(|_| WORDS[next(WORDS.len())].to_owned()).collect();
    episode.steps = (0..next(4)).map(|_| random_step(&mut next)).collect();
    episode.completed_at = time(i64::try_from(next(5)).expect("small"));
    let components = [next(5), next(5), next(5)].map(|component| component as f32 - 2.0);
    if next(3) == 0 { logged(episode) } else { logged_with(episode, vector(&components)) }
}

fn random_step(next: &mut impl FnMut(usize) -> usize) -> Step {
    let mut word = || WORDS[next(WORDS.len())];
    let step = Step::new(word()).action(word()).input(word());
    let observation = format!("{} {}", word(), word());
    if next(3) == 0 { step.error(observation) } else { step.ok(observation) }
}

/// A note like the episode of this number: the same text, scope, moment and vector. Those of successes in the domain `web`
/// expire never, the others long ago. Those in the domain `data` are not trusted.
fn random_note(n: u32) -> Record {
    let Record::Episode(LoggedEpisode { episode, vector }) = random_episode(n) else { unreachable!("an episode") };
    let mut note = samples::note(n, &episode.task.text);
    (note.scope, note.updated_at) = (episode.scope.clone(), episode.completed_at);
    let lives = episode.task.domain.as_deref() == Some("web") && episode.succeeded();
    note.expires_at = (!lives).then(|| time(-1_000));
    if episode.task.domain.as_deref() == Some("data") {
        note.trust = Trust::Untrusted;
    }
    Record::Note(StoredNote { note: note.into(), vector })
}

fn random_records(numbers: impl Iterator<Item = u32>) -> Vec<Record> {
    numbers.flat_map(|n| [random_episode(n), random_note(n)]).collect()
}

/// Searches by words, by vector and by both, for all and for few, filtered and not.
fn searches() -> Vec<Search> {
    let mut searches = Vec::new();
    for scope in [Scope::default(), samples::scope("default/other")] {
        for k in [1, 3, 10, 100] {
            let any = || Search::new(scope.clone()).k(k);
            for search in [
                any(),
                any().filter(Filter::default().domain("web").verdict(Verdict::Success)),
                any().for_notes(NoteFilter::default()),
                any().for_notes(NoteFilter::default().alive_at(time(0)).quorum(1)),
                any().for_notes(NoteFilter::default().trust(Trust::Trusted)),
            ] {
                let search = || search.clone();
                let near = Some(vector(&[1.0, 0.5, -1.0]));
                searches.push(search().text("fix the login test"));
                searches.push(search().text("fix the login test").trace(true));
                searches.push(search().text("users report naïve unknownword alone7"));
                searches.push(search().vector(near.clone()));
                searches.push(search().text("deploy server server").vector(near.clone()).trace(true));
                searches.push(search().text("cache token").vector(near).exact());
                searches.push(search().text("token").vector(Some(vector(&[0.0, 0.0, 0.0]))));
                searches.push(search().text("the").vector(Some(vector(&[-3.0, 0.0, 0.0]))));
            }
        }
    }
    searches
}

/// Every answer is that of a plain model: hits, scores, order and versions; also with many equal scores.
pub async fn search_agrees_with_a_plain_model(store: &dyn MemoryStore) {
    put(store, [Record::Space(samples::space(3))]).await;
    check_against_model(store, &searches(), "empty").await;
    for part in 0..4 {
        put(store, random_records(part * 30..part * 30 + 30)).await;
        check_against_model(store, &searches(), "growing").await;
    }
}

/// The keys of the episode and of the note of this number.
fn keys(n: u32) -> [Key; 2] {
    [Key::Episode(episode_id(n)), Key::Note(samples::note_id(n))]
}

/// Words that many records have do not make candidates; those that are chosen by the others are scored by all. An exact search
/// leaves none out.
pub async fn search_takes_rare_words_first(store: &dyn MemoryStore) {
    let note = |n: u32| {
        let mut words = vec!["everywhere always usually normally".to_owned(), format!("alone{n}")];
        words.extend((!n.is_multiple_of(3)).then(|| "often".to_owned()));
        words.extend(n.is_multiple_of(2).then(|| "often also".to_owned()));
        words.extend(n.is_multiple_of(5).then(|| "seldom ".repeat(1 + n as usize % 4)));
        noted(samples::note(n, &words.join(" ")))
    };
    for part in 0..5 {
        put(store, (part * 500..part * 500 + 500).map(note)).await;
    }
    const LONG: &str = "everywhere always usually normally often also seldom";
    let asked = [LONG, "everywhere always usually normally often", "everywhere unheard", "seldom alone7"];
    let searches = asked
        .into_iter()
        .flat_map(|text| [3, 100].map(|k| [note_words(text).k(k), note_words(text).k(k).exact()]))
        .flatten();
    let searches: Vec<Search> = searches.collect();
    check_against_model(store, &searches, "rare words first").await;
    let found = search(store, &note_words(LONG).k(100)).await;
    assert!(found.len() == 100 && found.iter().all(|hit| hit.words > 0.0), "{found:?}");
    delete(store, (0..2_500).step_by(9).map(|n| Key::Note(samples::note_id(n)))).await;
    check_against_model(store, &searches, "after deletes").await;
}

/// Of many records, a search by vector finds nearly all of the nearest, and an exact one all of them; what it finds has
/// exact scores.
pub async fn search_by_vector_misses_little(store: &dyn MemoryStore) {
    const DIMENSIONS: u32 = 48;
    let point = |n: u32| {
        let component = |place: u32| {
            let mixed = xxhash_rust::xxh3::xxh3_64_with_seed(&place.to_le_bytes(), u64::from(n));
            (mixed % 2_001) as f32 / 1_000.0 - 1.0
        };
        vector(&(0..DIMENSIONS).map(component).collect::<Vec<f32>>())
    };
    put(store, [Record::Space(samples::space(48))]).await;
    for part in 0..6 {
        let numbers = part * 500..part * 500 + 500;
        put(
            store,
            numbers.map(|n| {
                let mut episode = episode(n, "a point");
                episode.task.domain = (n % 2 == 0).then(|| "even".to_owned());
                logged_with(episode, point(n))
            }),
        )
        .await;
    }
    delete(store, (0..3_000).step_by(7).map(|n| Key::Episode(episode_id(n)))).await;
    let stored = scan(store, Scan::new(RecordKind::Episode)).await;
    let documents: Vec<Document> = stored.iter().filter_map(Document::of).collect();
    for filter in [Filter::default(), Filter::default().domain("even")] {
        let (mut found, mut asked) = (0, 0);
        for query in 10_000..10_030 {
            let near = Search::new(Scope::default()).vector(Some(point(query))).filter(filter.clone());
            let expected = expected_hits(&documents, &near);
            assert_hits(&search(store, &near.clone().exact()).await, &expected, "exact");
            let hits = search(store, &near).await;
            asked += expected.len();
            found += hits.iter().filter(|hit| expected.contains(hit)).count();
            assert_eq!(hits.len(), expected.len());
        }
        assert!(10 * found >= 9 * asked, "{found} of {asked} with {filter:?}");
    }
}

/// A vector of zeros has no direction: nothing is found by it, nor is a record found that has one.
pub async fn search_compares_no_zero_vectors(store: &dyn MemoryStore) {
    put(store, [Record::Space(samples::space(2))]).await;
    put(
        store,
        [logged_with(episode(1, "walrus"), vector(&[0.0, 0.0])), logged_with(episode(2, "seal"), vector(&[0.0, 1.0]))],
    )
    .await;
    let near = |x, y| Search::new(Scope::default()).vector(Some(vector(&[x, y])));
    assert!(search(store, &near(0.0, 0.0)).await.is_empty());
    assert_eq!(found(&search(store, &near(1.0, 0.0)).await), [2]);
    let both = search(store, &near(0.0, 0.0).text("walrus")).await;
    assert_eq!((found(&both), both[0].vector), (vec![1], 0.0));
}

/// A word of a step, an error or an outcome is found where the trace is asked for, and nowhere else.
pub async fn search_finds_what_happened(store: &dyn MemoryStore) {
    let mut happened = episode(1, "repair the report");
    happened.steps =
        vec![Step::new("psql").input("select whale").error("walrus is locked"), Step::new("grep").ok("seal")];
    happened.outcome.summary = format!("the otter {} dugong", "and a whale ".repeat(30));
    put(store, [logged(happened), logged(episode(2, "walrus"))]).await;
    assert_eq!(found(&search(store, &words("walrus whale")).await), [2], "not asked for");
    for word in ["psql", "whale", "walrus", "seal", "otter"] {
        let hits = search(store, &words(word).trace(true)).await;
        let traced: Vec<u128> = hits.iter().filter(|hit| hit.trace > 0.0).map(|hit| number_of(&hit.key)).collect();
        assert_eq!(traced, [1], "{word}: {hits:?}");
    }
    let score = async |word: &str| {
        search(store, &words(word).trace(true)).await.iter().map(|hit| hit.trace).fold(0.0, f64::max)
    };
    assert!(score("walrus").await > score("seal").await, "errors weigh more");
    let beyond = search(store, &words("dugong").trace(true)).await;
    assert!(beyond.is_empty(), "of a long text the first thirty terms count: {beyond:?}");
    let marked = crate::text::mark_recalled("narwhal");
    let mut told = episode(3, "again");
    told.steps = vec![Step::new("read").ok(marked)];
    put(store, [logged(told)]).await;
    assert!(search(store, &words("narwhal").trace(true)).await.is_empty(), "what the memory supplied");
}

/// What was deleted or replaced neither is found nor counts: the answers are those of a store that never saw it.
pub async fn search_finds_the_same_after_deletes_and_replacements(store: &dyn MemoryStore) {
    put(store, [Record::Space(samples::space(3))]).await;
    put(store, random_records(0..100)).await;
    let gone = (0..100).step_by(3).flat_map(keys);
    delete(store, gone).await;
    check_against_model(store, &searches(), "after deletes").await;
    // The numbers of half of the rest, with the content of others.
    let moved = (1..100).step_by(6).flat_map(|n| random_records(n + 1_000..n + 1_001)).map(|record| match record {
        Record::Episode(LoggedEpisode { episode, vector }) => {
            let id = episode_id(u32::try_from(episode.id.as_uuid().as_u128()).expect("small") - 1_000);
            let episode = Episode { id, ..Episode::clone(&episode) };
            Record::Episode(LoggedEpisode { episode: episode.into(), vector })
        }
        Record::Note(StoredNote { note, vector }) => {
            let id = samples::note_id(u32::try_from(note.id.as_uuid().as_u128()).expect("small") - 1_000);
            Record::Note(StoredNote { note: Note { id, ..Note::clone(&note) }.into(), vector })
        }
        other => other,
    });
    put(store, moved).await;
    check_against_model(store, &searches(), "after replacements").await;
    put(store, random_records((0..100).step_by(9))).await;
    check_against_model(store, &searches(), "put again").await;
    delete(store, (0..100).flat_map(keys)).await;
    check_against_model(store, &searches(), "after deleting all").await;
    put(store, [logged(episode(1, "alpha beta")), logged(episode(2, "gamma alpha alpha alpha"))]).await;
    // As in a store of these two: the mean is 3, the norms 0.9 and 1.5.
    let scores: Vec<f64> = search(store, &words("alpha")).await.iter().map(|hit| hit.words).collect();
    assert!((scores[0] - 3.0 / 4.5).abs() <= ROUNDING && (scores[1] - 1.0 / 1.9).abs() <= ROUNDING, "{scores:?}");
}

/// The answer unites the best `k` by words and the best `k` by vector; each hit has both scores, of words or vector alone
/// too.
pub async fn search_unites_the_best_by_words_and_by_vector(store: &dyn MemoryStore) {
    let records = [
        logged(episode(1, "walrus walrus")),
        logged_with(episode(2, "walrus and seal"), vector(&[0.0, 1.0])),
        logged_with(episode(3, "seal"), vector(&[1.0, 0.0])),
        logged_with(episode(4, "whale"), vector(&[-1.0, 0.0])),
        logged_with(episode(5, "whale"), vector(&[3.0, 4.0])),
    ];
    put(store, [Record::Space(samples::space(2))].into_iter().chain(records)).await;
    let near = || Search::new(Scope::default()).vector(Some(vector(&[2.0, 0.0])));
    let both = |k| near().text("walrus").k(k);
    assert_eq!(found(&search(store, &both(1)).await), [1, 3], "one by words without a vector, one by vector");
    assert_eq!(found(&search(store, &both(2)).await), [1, 2, 3, 5], "two by words, two by vector");
    assert_eq!(found(&search(store, &both(3)).await), [1, 2, 3, 5], "only two have the word; 2 is in both lists");
    assert_eq!(found(&search(store, &both(4)).await), [1, 2, 3, 5, 4], "an opposite vector is compared too");
    let hits = search(store, &both(100)).await;
    let vectors: Vec<f64> = hits.iter().map(|hit| hit.vector).collect();
    for (score, expected) in vectors.iter().zip([0.0_f64, 0.0, 1.0, 0.6, -1.0]) {
        assert!((score - expected).abs() < 1e-6, "the cosine on every hit: {hits:?}");
    }
    assert!(hits[0].words > hits[1].words && hits[1].words > 0.0, "the words score on every hit: {hits:?}");
    assert!(hits[2..].iter().all(|hit| hit.words == 0.0), "no word, no score: {hits:?}");

    let hits = search(store, &near()).await;
    assert_eq!(found(&hits), [3, 5, 2, 4], "by vector only: those with one");
    assert!(hits.iter().all(|hit| hit.words == 0.0), "no text was given: {hits:?}");
    let hits = search(store, &words("walrus")).await;
    assert_eq!(found(&hits), [1, 2], "by words only: those with a matching word");
    assert!(hits.iter().all(|hit| hit.vector == 0.0), "no vector was given: {hits:?}");
    assert_eq!(found(&search(store, &near().text("")).await), [3, 5, 2, 4], "a text without words adds nothing");
    assert_eq!(found(&search(store, &near().text("the of")).await), [3, 5, 2, 4], "nor do stop words");
}

/// Equal scores are ordered by later completion, then by smaller id; the same order says who is among the best `k`.
pub async fn search_breaks_ties_by_completion_then_id(store: &dyn MemoryStore) {
    let at = |n: u32, seconds: i64, nanoseconds: i64| {
        let mut episode = episode(n, "an equal task");
        episode.completed_at = time(seconds) + chrono::TimeDelta::nanoseconds(nanoseconds);
        logged_with(episode, vector(&[1.0, 1.0]))
    };
    let records = [at(5, 0, 0), at(4, 9, 0), at(7, 9, 0), at(6, 9, 1), at(1, 5, 0), at(300, 9, 0), at(2, -9, 0)];
    put(store, [Record::Space(samples::space(2))].into_iter().chain(records)).await;
    let expected = [6, 4, 7, 300, 1, 5, 2];
    for k in [1, 2, 3, 4, 7, 100] {
        let best = &expected[..k.min(expected.len())];
        let near = Search::new(Scope::default()).vector(Some(vector(&[1.0, 1.0]))).k(k);
        assert_eq!(found(&search(store, &words("task").k(k)).await), best, "by words, k = {k}");
        assert_eq!(found(&search(store, &near).await), best, "by vector, k = {k}");
        assert_eq!(found(&search(store, &near.text("task")).await), best, "by both, k = {k}");
    }
}

/// A search finds only what its filter lets through, with words, with a vector, with both, and for the smallest k.
pub async fn search_filters_by_every_field(store: &dyn MemoryStore) {
    let (episodes, filters) = filtered();
    let records = episodes.into_iter().map(|episode| logged_with(episode, vector(&[1.0])));
    put(store, [Record::Space(samples::space(1))].into_iter().chain(records)).await;
    for (filter, expected) in filters {
        // By vector all six have the same score, and a later completion the higher the number.
        let expected: Vec<u128> = expected.into_iter().rev().collect();
        let text = words("task").filter(filter.clone());
        let near = Search::new(Scope::default()).vector(Some(vector(&[1.0]))).k(Search::MAX_K).filter(filter.clone());
        let mut by_words = found(&search(store, &text).await);
        by_words.sort_unstable_by(|a, b| b.cmp(a));
        assert_eq!(by_words, expected, "by words, {filter:?}");
        assert_eq!(found(&search(store, &near).await), expected, "by vector, {filter:?}");
        let first = &expected[..expected.len().min(1)];
        assert_eq!(found(&search(store, &near.clone().k(1)).await), first, "{filter:?}");
        assert_eq!(search(store, &near.text("task")).await.len(), expected.len(), "by both, {filter:?}");
    }
}

/// A search finds only the notes that its filter lets through, with words, with a vector, with both, and for the smallest k;
/// the filter does not change the scores.
pub async fn search_filters_notes_by_every_field(store: &dyn MemoryStore) {
    let (notes, filters) = filtered_notes();
    let records = notes.into_iter().map(|note| noted_with(note, vector(&[1.0])));
    put(store, [Record::Space(samples::space(1))].into_iter().chain(records)).await;
    let all = search(store, &note_words("note")).await;
    for (filter, expected) in filters {
        let text = note_words("note").for_notes(filter.clone());
        let near =
            Search::new(Scope::default()).vector(Some(vector(&[1.0]))).k(Search::MAX_K).for_notes(filter.clone());
        let kept: Vec<Hit> = all.iter().filter(|hit| expected.contains(&number_of(&hit.key))).cloned().collect();
        assert_hits(&search(store, &text).await, &kept, &format!("by words, {filter:?}"));
        assert_eq!(found(&search(store, &near).await), expected, "by vector, {filter:?}");
        let first = &expected[..expected.len().min(1)];
        assert_eq!(found(&search(store, &near.clone().k(1)).await), first, "{filter:?}");
        assert_eq!(search(store, &near.text("note")).await.len(), expected.len(), "by both, {filter:?}");
    }
}

/// A search for episodes finds no notes, nor do they count in its statistics, and the other way.
pub async fn search_keeps_episodes_and_notes_apart(store: &dyn MemoryStore) {
    let near = || Search::new(Scope::default()).text("walrus seal").vector(Some(vector(&[1.0])));
    put(store, [Record::Space(samples::space(1))]).await;
    put(store, [logged_with(episode(1, "walrus and seal"), vector(&[1.0]))]).await;
    let alone = search(store, &near()).await[0].words;
    assert!(search(store, &near().for_notes(NoteFilter::default())).await.is_empty(), "no episode is a note");
    put(store, (2..5).map(|n| noted_with(samples::note(n, "a walrus"), vector(&[1.0])))).await;
    let hits = search(store, &near()).await;
    assert_eq!((found(&hits), hits[0].words), (vec![1], alone), "no note is an episode");
    let hits = search(store, &near().for_notes(NoteFilter::default())).await;
    assert_eq!(found(&hits), [4, 3, 2], "the last told first");
    assert!(hits.iter().all(|hit| matches!(hit.key, Key::Note(_)) && hit.vector == 1.0), "{hits:?}");
}

/// Text that the memory supplied and marked has no words, in a record as in a query.
pub async fn search_passes_over_recalled_text(store: &dyn MemoryStore) {
    let marked = crate::text::mark_recalled("walrus");
    let told = format!("seal {marked}");
    put(store, [logged(episode(1, &told)), noted(samples::note(1, &told))]).await;
    for text in ["walrus", &marked] {
        assert!(search(store, &words(text)).await.is_empty(), "{text}");
        assert!(search(store, &note_words(text)).await.is_empty(), "{text}");
    }
    let plain = search(store, &words("seal")).await;
    assert_eq!(search(store, &words(&told)).await, plain);
    assert_eq!((found(&plain), found(&search(store, &note_words(&told)).await)), (vec![1], vec![1]));
    check_against_model(store, &[words("seal"), note_words("seal")], "recalled text").await;
    // What is deleted is counted as it was when it came.
    delete(store, keys(1)).await;
    put(store, [logged(episode(2, "seal")), noted(samples::note(2, "seal"))]).await;
    check_against_model(store, &[words("seal"), note_words("seal")], "after deleting").await;
}

/// A filter changes who is found, and not the score.
pub async fn search_statistics_do_not_depend_on_the_filter(store: &dyn MemoryStore) {
    let (episodes, filters) = filtered();
    let mut texts = ["alpha", "alpha beta", "beta beta gamma", "gamma", "alpha gamma delta", "delta"].into_iter();
    let episodes = episodes.into_iter().map(|mut episode| {
        episode.task.text = texts.next().expect("six texts").to_owned();
        logged(episode)
    });
    put(store, episodes).await;
    let all = search(store, &words("alpha gamma")).await;
    assert_eq!(all.len(), 5);
    for (filter, expected) in filters {
        let kept: Vec<Hit> = all.iter().filter(|hit| expected.contains(&number_of(&hit.key))).cloned().collect();
        let hits = search(store, &words("alpha gamma").filter(filter.clone())).await;
        assert_hits(&hits, &kept, &format!("{filter:?}"));
    }
}

/// Episodes of other scopes, above, below or named alike, are neither found nor counted in the statistics.
pub async fn search_stays_in_its_scope(store: &dyn MemoryStore) {
    put(store, [Record::Space(samples::space(1))]).await;
    let own = |n: u32, scope: &str| {
        let mut episode = episode(n, "walrus and seal");
        episode.scope = samples::scope(scope);
        logged_with(episode, vector(&[1.0]))
    };
    put(store, [own(1, SCOPES[0])]).await;
    let alone = search(store, &Search::new(samples::scope(SCOPES[0])).text("walrus whale")).await[0].words;
    for (n, scope) in (1..).zip(SCOPES) {
        put(store, [own(n, scope)]).await;
    }
    for ((n, number), scope) in (1..).zip(1..).zip(SCOPES) {
        let scoped = || Search::new(samples::scope(scope)).k(Search::MAX_K);
        let hits = search(store, &scoped().text("walrus whale")).await;
        assert_eq!(found(&hits), [n], "by words in {scope}");
        assert!((hits[0].words - alone).abs() <= ROUNDING, "{scope} scores as if it were alone: {hits:?}, not {alone}");
        assert_eq!(found(&search(store, &scoped().vector(Some(vector(&[1.0])))).await), [n], "by vector in {scope}");
        let note = Note { scope: samples::scope(scope), ..samples::note(number, "walrus and seal") };
        put(store, [noted_with(note, vector(&[1.0]))]).await;
    }
    for (n, scope) in (1..).zip(SCOPES) {
        let scoped = || Search::new(samples::scope(scope)).k(Search::MAX_K).for_notes(NoteFilter::default());
        let hits = search(store, &scoped().text("walrus whale")).await;
        assert_eq!(found(&hits), [n], "notes by words in {scope}");
        assert!((hits[0].words - alone).abs() <= ROUNDING, "{scope} scores as if it were alone: {hits:?}, not {alone}");
        assert_eq!(found(&search(store, &scoped().vector(Some(vector(&[1.0])))).await), [n], "notes by vector");
    }
    let nobody = Search::new(samples::scope("acme/coder/2")).text("walrus").vector(Some(vector(&[1.0])));
    assert!(search(store, &nobody).await.is_empty(), "a scope without episodes");
}

/// A query is words and nothing else: no syntax of any query language, however long or odd.
pub async fn search_takes_awkward_texts_as_words(store: &dyn MemoryStore) {
    let texts = awkward_texts();
    put(store, (1..).zip(&texts).map(|(n, text)| logged(episode(n, text)))).await;
    put(store, (101..).zip(WORDS).map(|(n, text)| logged(episode(n, text)))).await;
    let queries =
        ["login*", "-login", "NOT login", "\"login test\"", "log*", "login OR 1=1", "text:login", "(((", "a AND"];
    let long = WORDS.join(" ").repeat(150);
    let all = texts.iter().map(String::as_str).chain(queries).chain([long.as_str()]);
    let searches: Vec<Search> = all.flat_map(|text| [words(text), words(text).k(2)]).collect();
    check_against_model(store, &searches, "awkward").await;
}

/// No match is an empty answer and no error: in an empty store, without a term, with unknown words, without vectors.
pub async fn search_without_a_match_is_empty(store: &dyn MemoryStore) {
    for text in ["walrus", "", " ", "the of and", "!?", "\0", "👩‍👩‍👧‍👦"] {
        assert!(search(store, &words(text)).await.is_empty(), "{text:?} in an empty store");
    }
    put(store, [Record::Space(samples::space(1)), logged(episode(1, "seal")), logged(episode(2, "the"))]).await;
    for text in ["walrus", "", " ", "the of and", "!?", "\0", "👩‍👩‍👧‍👦"] {
        assert!(search(store, &words(text)).await.is_empty(), "{text:?}");
    }
    let near = Search::new(Scope::default()).vector(Some(vector(&[1.0])));
    assert!(search(store, &near).await.is_empty(), "no episode has a vector");
    put(store, samples::one_of_each(3).into_iter().filter(|record| record.key().kind() != RecordKind::Episode)).await;
    assert!(search(store, &words("task 3")).await.is_empty(), "only completed episodes are found");
}

/// `k` out of range, a vector without a space or of another length, and neither text nor vector are invalid, whatever the
/// store holds.
pub async fn search_refuses_what_it_cannot_do(store: &dyn MemoryStore) {
    let any = || Search::new(Scope::default());
    let refuse = async |search: Search| {
        let answer = store.search(&search).await;
        let kind = answer.as_ref().map_err(crate::Error::kind).err();
        assert_eq!(kind, Some(ErrorKind::Invalid), "{search:?} gave {answer:?}");
    };
    refuse(any().vector(Some(vector(&[1.0])))).await;
    for round in 0..2 {
        for k in [0, 101, usize::MAX] {
            refuse(any().text("task").k(k)).await;
        }
        refuse(any()).await;
        refuse(any().filter(Filter::default().domain("web"))).await;
        refuse(any().for_notes(NoteFilter::default())).await;
        refuse(any().text("task").filter(Filter::default().domain("web")).for_notes(NoteFilter::default())).await;
        let mut episodes = any().text("task");
        episodes.notes = NoteFilter::default().quorum(1);
        refuse(episodes).await;
        for k in [1, 100] {
            search(store, &any().text("task").k(k)).await;
        }
        if round == 0 {
            put(store, [Record::Space(samples::space(2)), logged(episode(1, "task"))]).await;
        }
        for components in [&[1.0][..], &[1.0, 2.0, 3.0]] {
            refuse(any().vector(Some(vector(components)))).await;
            refuse(any().text("task").vector(Some(vector(components)))).await;
            refuse(any().vector(Some(vector(components))).for_notes(NoteFilter::default())).await;
        }
    }
}
