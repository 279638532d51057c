//! Seeded episodes with vectors in clusters, and queries for them.

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;
use std::time::Duration;

use chrono::TimeDelta;
use memory_core::{Episode, EpisodeId, LoggedEpisode, Outcome, Scope, Step, Task, Vector, VectorSpace, Verdict, text};
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};

use crate::workload::{PACE, beginning};

const DOMAINS: [&str; 12] =
    ["web", "data", "ops", "retail", "docs", "mobile", "search", "billing", "games", "robots", "network", "security"];
const LANGUAGES: [&str; 6] = ["rust", "python", "typescript", "go", "java", "sql"];
const TOOLS: [&str; 20] = [
    "grep", "open", "read", "edit", "lint", "test", "build", "commit", "search", "fetch", "select", "explain", "ssh",
    "tail", "curl", "rollback", "click", "scroll", "write", "ask",
];
const CLUSTERS: usize = 200;
const TAGS: usize = 200;
const VOCABULARY: usize = 2_000;
/// Words of the vocabulary that a cluster is about.
const TOPICAL: usize = 20;
const STEPS: usize = 8;
/// How far the vectors of a cluster lie from its centre.
const SPREAD: f64 = 0.8;

/// Episodes and queries, each a function of the seed and its place: the first 1,000 are the same in any number of them.
///
/// *Words.* 2,000 made-up ones, of which the one of rank *r* has the weight 1 / *r* (Zipf). Each of 200 clusters, of weight
/// 1 / √*r*, is about 20 of them, equally likely; 30 % of the words of an episode are such, and 60 % of a query's.
/// *Episode.* 16 to 24 words of task, one of 12 domains (80 % that of the cluster), one of 6 languages, 1 to 4 of 200 tags; 8
/// steps of 20 tools with 9 to 15 words of observation, of which 85 % are ok, latency log-normal around 400 ms; 70 % success,
/// 18 % partial, 12 % failure, with 12 words of summary. Each ends 78 s after the one before.
/// *Vector.* 384 components: the cluster's centre, a random unit vector, and 0.8 *Q s z*, normalised. *z* is standard normal,
/// *s*² falls as 1 / *j* and sums to 1, *Q* is an orthogonal matrix drawn evenly from all (Gram-Schmidt of normal vectors; that
/// it may mirror makes no difference, since *z* is symmetric).
/// *Query.* 8 words and a vector from the same distribution; every second one asks for its domain only.
#[derive(Debug)]
pub struct Corpus {
    seed: u64,
    vocabulary: Vec<String>,
    ranks: Weights,
    clusters: Weights,
    topics: Vec<Topic>,
    /// `SPREAD * Q s`, row by row.
    spread: Vec<f32>,
}

/// What a cluster is about.
#[derive(Debug)]
struct Topic {
    words: [usize; TOPICAL],
    domain: &'static str,
    centre: Vec<f32>,
}

/// How much of an episode is made.
#[expect(clippy::exhaustive_enums, reason = "there is no third")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// All of it: 3.3 kB with its vector.
    Whole,
    /// The same task and vector, without steps and summary: for a million in memory.
    Reduced,
}

/// What is looked for.
#[derive(Clone, Debug, PartialEq)]
pub struct Query {
    /// Its words.
    pub text: String,
    /// Its vector.
    pub vector: Vector,
    /// The only domain it asks for, for every second query.
    pub domain: Option<&'static str>,
}

/// What a random number is drawn for; each has numbers of its own.
#[derive(Clone, Copy)]
enum Stream {
    Language,
    Episode,
    Query,
}

impl Corpus {
    /// The length of the vectors.
    pub const DIMENSIONS: usize = 384;
    /// How many queries there are.
    pub const QUERIES: u32 = 500;

    /// The same seed makes the same corpus.
    pub fn new(seed: u64) -> Self {
        let mut random = source(seed, Stream::Language, 0);
        let vocabulary = vocabulary(&mut random);
        let topics = (0..CLUSTERS).map(|_| Topic::new(&mut random)).collect();
        let scale = (1..=Self::DIMENSIONS).map(|place| 1.0 / place as f64);
        let total: f64 = scale.clone().sum();
        let scale: Vec<f64> = scale.map(|share| SPREAD * (share / total).sqrt()).collect();
        let rotation = orthogonal(&mut random);
        let spread = rotation.iter().flat_map(|row| row.iter().zip(&scale).map(|(q, s)| single(q * s)));
        Self {
            seed,
            vocabulary,
            ranks: Weights::new((1..=VOCABULARY).map(|rank| 1.0 / rank as f64)),
            clusters: Weights::new((1..=CLUSTERS).map(|rank| 1.0 / (rank as f64).sqrt())),
            topics,
            spread: spread.collect(),
        }
    }

    /// The space of the vectors.
    pub fn space() -> VectorSpace {
        VectorSpace {
            provider: "knowhow".to_owned(),
            model: "synthetic".to_owned(),
            revision: "1".to_owned(),
            dimensions: Self::DIMENSIONS,
            normalised: true,
            query_prefix: String::new(),
            document_prefix: String::new(),
        }
    }

    /// The episode of this place.
    ///
    /// # Panics
    /// Never: all components are finite.
    pub fn episode(&self, place: u32, form: Form) -> LoggedEpisode {
        let random = &mut source(self.seed, Stream::Episode, place);
        let topic = &self.topics[self.clusters.draw(random)];
        let words = random.random_range(16..=24);
        let mut task = Task::new(self.text(random, topic, 0.3, words));
        task = task.domain(topic.domain(random)).language(pick(random, &LANGUAGES));
        let mut tags = BTreeSet::new();
        let count = random.random_range(1..=4);
        while tags.len() < count {
            tags.insert(format!("tag{}", random.random_range(0..TAGS)));
        }
        task.tags = tags;
        let vector = self.vector(random, topic);
        let completed_at = beginning() + PACE * i32::try_from(place).unwrap_or(i32::MAX);
        let (steps, outcome) = match form {
            Form::Whole => self.run(random, topic),
            Form::Reduced => (Vec::new(), Outcome::success("")),
        };
        let started_at = completed_at - TimeDelta::seconds(60);
        let id = id(random, completed_at.timestamp_millis(), place);
        let episode = Episode::new(id, Scope::default(), task, steps, outcome, started_at, completed_at);
        LoggedEpisode { episode: Arc::new(episode), vector: Some(vector) }
    }

    /// The place of an episode, which its id tells.
    pub fn place(id: &EpisodeId) -> u32 {
        let [.., a, b, c, d] = *id.as_uuid().as_bytes();
        u32::from_be_bytes([a, b, c, d])
    }

    /// The queries.
    pub fn queries(&self) -> Vec<Query> {
        (0..Self::QUERIES).map(|place| self.query(place)).collect()
    }

    fn query(&self, place: u32) -> Query {
        let random = &mut source(self.seed, Stream::Query, place);
        let topic = &self.topics[self.clusters.draw(random)];
        let text = self.text(random, topic, 0.6, 8);
        let vector = self.vector(random, topic);
        let domain = (place % 2 == 1).then(|| topic.domain(random));
        Query { text, vector, domain }
    }

    fn run(&self, random: &mut StdRng, topic: &Topic) -> (Vec<Step>, Outcome) {
        let mut step = || {
            let words = random.random_range(9..=15);
            let observation = self.text(random, topic, 0.3, words);
            let step = Step::new(pick(random, &TOOLS)).latency_ms(latency(random));
            if random.random_bool(0.85) { step.ok(observation) } else { step.error(observation) }
        };
        let steps = (0..STEPS).map(|_| step()).collect();
        let verdict = match random.random_range(0..100) {
            0..70 => Verdict::Success,
            70..88 => Verdict::Partial,
            _ => Verdict::Failure,
        };
        (steps, Outcome::new(verdict, self.text(random, topic, 0.3, 12)))
    }

    fn text(&self, random: &mut StdRng, topic: &Topic, topical: f64, words: usize) -> String {
        let mut text = String::new();
        for place in 0..words {
            let about = random.random_bool(topical);
            let word = if about { topic.words[random.random_range(0..TOPICAL)] } else { self.ranks.draw(random) };
            text.push_str(if place > 0 { " " } else { "" });
            text.push_str(&self.vocabulary[word]);
        }
        text
    }

    #[expect(clippy::unwrap_used, reason = "it is of length 1")]
    fn vector(&self, random: &mut StdRng, topic: &Topic) -> Vector {
        let z: Vec<f32> = (0..Self::DIMENSIONS).map(|_| single(normal(random))).collect();
        let rows = self.spread.chunks_exact(Self::DIMENSIONS);
        let components = rows.zip(&topic.centre).map(|(row, centre)| centre + crate::flat::dot(row, &z));
        Vector::new(normalised(components.collect())).unwrap()
    }
}

impl Topic {
    fn new(random: &mut StdRng) -> Self {
        let words = std::array::from_fn(|_| random.random_range(0..VOCABULARY));
        let centre = (0..Corpus::DIMENSIONS).map(|_| single(normal(random))).collect();
        Self { words, domain: pick(random, &DOMAINS), centre: normalised(centre) }
    }

    fn domain(&self, random: &mut StdRng) -> &'static str {
        if random.random_bool(0.8) { self.domain } else { pick(random, &DOMAINS) }
    }
}

/// Draws places by weight.
#[derive(Debug)]
struct Weights {
    sums: Vec<f64>,
}

impl Weights {
    fn new(weights: impl Iterator<Item = f64>) -> Self {
        let sums = weights.scan(0.0, |sum, weight| {
            *sum += weight;
            Some(*sum)
        });
        Self { sums: sums.collect() }
    }

    fn draw(&self, random: &mut StdRng) -> usize {
        let total = self.sums.last().copied().unwrap_or_default();
        let at = random.random::<f64>() * total;
        self.sums.partition_point(|sum| *sum <= at).min(self.sums.len() - 1)
    }
}

/// Random numbers for one thing, whatever else is made.
fn source(seed: u64, stream: Stream, place: u32) -> StdRng {
    let mut key = [0; 32];
    key[..8].copy_from_slice(&seed.to_le_bytes());
    key[8] = stream as u8;
    key[9..13].copy_from_slice(&place.to_le_bytes());
    StdRng::from_seed(key)
}

fn pick<T: Copy>(random: &mut StdRng, from: &[T]) -> T {
    from[random.random_range(0..from.len())]
}

/// A version 7 UUID of this moment, whose last four bytes tell the place.
fn id(random: &mut StdRng, millis: i64, place: u32) -> EpisodeId {
    let mut rest: [u8; 10] = random.random();
    rest[6..].copy_from_slice(&place.to_be_bytes());
    let millis = u64::try_from(millis).unwrap_or_default();
    EpisodeId::new(uuid::Builder::from_unix_timestamp_millis(millis, &rest).into_uuid())
}

/// A standard normal number (G. Box, M. Muller, 1958).
fn normal(random: &mut StdRng) -> f64 {
    let (a, b): (f64, f64) = (random.random(), random.random());
    (-2.0 * (1.0 - a).ln()).sqrt() * (std::f64::consts::TAU * b).cos()
}

#[expect(clippy::cast_possible_truncation, reason = "vectors are of single precision")]
const fn single(number: f64) -> f32 {
    number as f32
}

/// Milliseconds of a step: log-normal around 400.
fn latency(random: &mut StdRng) -> u64 {
    let latency = Duration::from_secs_f64(0.4 * normal(random).exp());
    u64::try_from(latency.as_millis()).unwrap_or(u64::MAX)
}

fn normalised(mut components: Vec<f32>) -> Vec<f32> {
    let norm = components.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>().sqrt();
    components.iter_mut().for_each(|x| *x = single(f64::from(*x) / norm));
    components
}

/// An orthogonal matrix, drawn evenly from all: the (modified) Gram-Schmidt process over normal vectors.
fn orthogonal(random: &mut StdRng) -> Vec<Vec<f64>> {
    let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(x, y)| x * y).sum::<f64>();
    let mut rows: Vec<Vec<f64>> = Vec::with_capacity(Corpus::DIMENSIONS);
    for _ in 0..Corpus::DIMENSIONS {
        let mut row: Vec<f64> = (0..Corpus::DIMENSIONS).map(|_| normal(random)).collect();
        for earlier in &rows {
            let along = dot(&row, earlier);
            row.iter_mut().zip(earlier).for_each(|(x, y)| *x -= along * y);
        }
        let norm = dot(&row, &row).sqrt();
        row.iter_mut().for_each(|x| *x /= norm);
        rows.push(row);
    }
    rows
}

/// Words that can be pronounced, and that stay distinct terms of a search.
fn vocabulary(random: &mut StdRng) -> Vec<String> {
    let (mut words, mut terms) = (Vec::with_capacity(VOCABULARY), HashSet::new());
    while words.len() < VOCABULARY {
        let word = syllable(random) + &syllable(random);
        let term = text::terms(&word);
        if term.len() == 1 && terms.insert(term) {
            words.push(word);
        }
    }
    words
}

fn syllable(random: &mut StdRng) -> String {
    let mut syllable =
        String::from(pick(random, &['b', 'd', 'f', 'g', 'k', 'l', 'm', 'n', 'p', 'r', 's', 't', 'v', 'z']));
    syllable.push(pick(random, &['a', 'e', 'i', 'o', 'u']));
    syllable
}

#[cfg(test)]
mod tests {
    use std::sync::LazyLock;

    use super::*;

    static CORPUS: LazyLock<Corpus> = LazyLock::new(|| Corpus::new(1));

    #[test]
    fn a_seed_makes_one_corpus_whatever_its_size() {
        let (corpus, again, other) = (&*CORPUS, Corpus::new(1), Corpus::new(2));
        // In another order, and without what lies between.
        let last_first: Vec<LoggedEpisode> = [299, 7, 0].map(|place| again.episode(place, Form::Whole)).into();
        let in_order: Vec<LoggedEpisode> = (0..300).map(|place| corpus.episode(place, Form::Whole)).collect();
        assert_eq!(last_first, [&in_order[299], &in_order[7], &in_order[0]].map(Clone::clone));
        assert_ne!(in_order[0], other.episode(0, Form::Whole));
        assert_eq!(corpus.queries(), again.queries());
        let ids: BTreeSet<EpisodeId> = in_order.iter().map(|logged| logged.episode.id).collect();
        assert!(ids.iter().map(Corpus::place).eq(0..300), "ids sort by time");
        assert!(in_order.is_sorted_by(|a, b| a.episode.completed_at < b.episode.completed_at));
    }

    #[test]
    fn a_reduced_episode_is_found_by_the_same() {
        let corpus = &*CORPUS;
        let (whole, reduced) = (corpus.episode(5, Form::Whole), corpus.episode(5, Form::Reduced));
        assert_eq!((&whole.episode.task, &whole.vector), (&reduced.episode.task, &reduced.vector));
        assert_eq!((whole.episode.steps.len(), reduced.episode.steps.len()), (8, 0));
        assert_eq!(Corpus::place(&reduced.episode.id), 5);
    }

    #[test]
    fn episodes_are_as_large_and_as_varied_as_described() {
        let corpus = &*CORPUS;
        let episodes: Vec<LoggedEpisode> = (0..500).map(|place| corpus.episode(place, Form::Whole)).collect();
        let mean = |of: &dyn Fn(&Episode) -> usize| {
            episodes.iter().map(|logged| of(&logged.episode)).sum::<usize>() as f64 / episodes.len() as f64
        };
        let encoded = mean(&Episode::encoded_len);
        // 1,657 where the workload was first used, with other names of the fields.
        assert!((encoded - 1_800.0).abs() < 20.0, "{encoded} bytes of JSON");
        let words = mean(&|episode| episode.task.text.split(' ').count());
        assert!((words - 20.0).abs() < 0.5, "{words} words");
        let ok = mean(&|episode| episode.steps.iter().filter(|step| step.ok).count()) / STEPS as f64;
        assert!((ok - 0.85).abs() < 0.01, "{ok} of the steps are ok");
        let done = mean(&|episode| usize::from(episode.succeeded()));
        assert!((done - 0.7).abs() < 0.06, "{done} of the episodes succeed");
        let distinct = |of: &dyn Fn(&Episode) -> Option<String>| {
            episodes.iter().map(|logged| of(&logged.episode)).collect::<BTreeSet<_>>().len()
        };
        assert_eq!(distinct(&|episode| episode.task.domain.clone()), 12);
        assert_eq!(distinct(&|episode| episode.task.language.clone()), 6);
        let queries = corpus.queries();
        assert_eq!((queries.len(), queries.iter().filter(|query| query.domain.is_some()).count()), (500, 250));
        assert!(queries.iter().all(|query| query.text.split(' ').count() == 8));
    }

    #[test]
    fn vectors_are_unit_and_lie_in_clusters() {
        let corpus = &*CORPUS;
        let vectors: Vec<Vector> = (0..400).filter_map(|place| corpus.episode(place, Form::Reduced).vector).collect();
        for vector in &vectors {
            assert_eq!(vector.dimensions(), Corpus::DIMENSIONS);
            let norm: f64 = vector.as_slice().iter().map(|x| f64::from(*x).powi(2)).sum();
            assert!((norm - 1.0).abs() < 1e-5, "{norm}");
        }
        // Two of one cluster have the cosine 1 / (1 + 0.8²) = 0.61 on average, two of different ones 0.
        let near = |vector: &Vector| vectors.iter().filter(|other| vector.cosine(other) > 0.4).count();
        let pairs: usize = vectors.iter().map(|vector| near(vector) - 1).sum();
        let share = pairs as f64 / (400.0 * 399.0);
        assert!((0.004..0.02).contains(&share), "{share} of the pairs are near");
    }

    #[test]
    fn the_matrix_of_the_spread_is_orthogonal() {
        let rows = orthogonal(&mut source(1, Stream::Language, 0));
        for (a, b) in [(0, 0), (0, 1), (17, 383), (383, 383), (200, 383)] {
            let dot: f64 = rows[a].iter().zip(&rows[b]).map(|(x, y)| x * y).sum();
            assert!((dot - if a == b { 1.0 } else { 0.0 }).abs() < 1e-9, "rows {a} and {b}: {dot}");
        }
    }
}
