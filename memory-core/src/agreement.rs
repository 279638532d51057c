//! How much the same happened in episodes.
//!
//! Runs of one task use the same names, ids and tools, however differently the task was put. Among the episodes that a search
//! found, each one's relevance is therefore drawn towards that of those most like it in what happened.

use std::collections::HashSet;

use foldhash::fast::RandomState;
use xxhash_rust::xxh3::xxh3_64;

use crate::{Episode, Search};

/// How many of the most similar others count.
const NEIGHBOURS: usize = 10;
/// What more than this share of the episodes have tells nothing about any two of them.
const COMMON: f64 = 0.8;
/// How many tokens of each text count.
const TOKENS: usize = 10;
/// The weight of an episode's own relevance beside those of the others, which weigh as much as they are similar.
const OWN: f64 = 2.0;

/// The bits of a token that tell the episode: there are at most [`Search::MAX_K`].
const PLACE: u64 = 127;
const _: () = assert!(Search::MAX_K as u64 <= PLACE + 1);

fn place_of(token: u64) -> usize {
    usize::from((token & PLACE) as u8)
}

/// The relevances of episodes, each drawn towards those of the ten others in which most of the same happened: the mean of its
/// own, which weighs 2, and theirs, which weigh `strength` times the cosine of what happened, tokens weighted by how few of
/// these episodes have them.
pub(crate) fn agreed(episodes: &[&Episode], relevances: &[f64], strength: f64) -> Vec<f64> {
    let likeness = likeness(episodes);
    let count = relevances.len();
    (0..count)
        .map(|own| {
            let mut others: Vec<(f64, f64)> = (0..count)
                .filter(|other| *other != own)
                .map(|other| (likeness[own * count + other], relevances[other]))
                .collect();
            if others.len() > NEIGHBOURS {
                others.select_nth_unstable_by(NEIGHBOURS, |a, b| b.0.total_cmp(&a.0).then(b.1.total_cmp(&a.1)));
                others.truncate(NEIGHBOURS);
            }
            let weight: f64 = others.iter().map(|(likeness, _)| strength * likeness).sum();
            let sum: f64 = others.iter().map(|(likeness, relevance)| strength * likeness * relevance).sum();
            (OWN * relevances[own] + sum) / (OWN + weight)
        })
        .collect()
}

/// The cosines of what happened in each two of the episodes, row by row, in [0, 1].
fn likeness(episodes: &[&Episode]) -> Vec<f64> {
    let count = episodes.len();
    // In the upper bits the token, in the lower ones which episode has it: single numbers are sorted in half the time of pairs.
    let mut tokens: Vec<u64> = Vec::new();
    for (place, episode) in (0..).zip(episodes) {
        each_token(episode, |token| tokens.push(token & !PLACE | place));
    }
    tokens.sort_unstable();
    let mut products = vec![0.0; count * count];
    let mut having: Vec<(usize, f64)> = Vec::new();
    for same in tokens.chunk_by(|a, b| a & !PLACE == b & !PLACE) {
        having.clear();
        having.extend(same.chunk_by(|a, b| a == b).map(|often| (place_of(often[0]), 1.0 + (often.len() as f64).ln())));
        let found = having.len() as f64;
        if found > COMMON * count as f64 {
            continue;
        }
        let idf = (1.0 + (count as f64 - found + 0.5) / (found + 0.5)).ln();
        for (nth, (place, weight)) in having.iter().enumerate() {
            for (other, other_weight) in &having[nth..] {
                products[place * count + other] += weight * other_weight * idf * idf;
            }
        }
    }
    for place in 0..count {
        for other in 0..place {
            products[place * count + other] = products[other * count + place];
        }
    }
    let norms: Vec<f64> = (0..count).map(|place| products[place * count + place].sqrt()).collect();
    for (place, product) in products.iter_mut().enumerate() {
        let norm = norms[place / count] * norms[place % count];
        *product = if norm > 0.0 { *product / norm } else { 0.0 };
    }
    products
}

/// The tokens of what happened: runs of letters and digits of each tool, input and observation, in lower case, the first
/// ten of each text; a text that comes again counts once.
fn each_token(episode: &Episode, mut each: impl FnMut(u64)) {
    let mut seen = HashSet::<_, RandomState>::default();
    for step in &episode.steps {
        for (field, text) in [&step.tool, &step.input, &step.observation].into_iter().enumerate() {
            if seen.insert((field, xxh3_64(text.as_bytes()))) {
                let tokens = text.split(|c: char| !c.is_alphanumeric()).filter(|token| !token.is_empty());
                for token in tokens.take(TOKENS) {
                    each(if token.bytes().any(|byte| byte.is_ascii_uppercase() || !byte.is_ascii()) {
                        xxh3_64(token.to_lowercase().as_bytes())
                    } else {
                        xxh3_64(token.as_bytes())
                    });
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Step;
    use crate::testkit::samples;

    fn with(n: u32, observations: &[&str]) -> Episode {
        let mut episode = samples::episode(n, "task");
        episode.steps = observations.iter().map(|text| Step::new("read").ok(*text)).collect();
        episode
    }

    #[test]
    fn relevance_moves_towards_episodes_in_which_the_same_happened() {
        let all = [
            with(1, &["order W77 of Ada", "shoes"]),
            with(2, &["Order w77 of ada!", "shoes"]),
            with(3, &["order X12 of Bob", "lamp"]),
            with(4, &[]),
        ];
        let episodes: Vec<&Episode> = all.iter().collect();
        let moved = agreed(&episodes, &[0.9, 0.1, 0.1, 0.5], 1.0);
        assert!(moved[1] > 0.3 && moved[1] > moved[2] + 0.1, "{moved:?}");
        assert!(moved[0] < 0.9 && moved[0] > moved[1], "{moved:?}");
        // Nothing happened in the last.
        assert_eq!(moved[3], 0.5);
        assert_eq!(agreed(&episodes, &[0.9, 0.1, 0.1, 0.5], 0.0), [0.9, 0.1, 0.1, 0.5]);
        assert_eq!(agreed(&[], &[], 1.0), [0.0; 0]);
        assert_eq!(agreed(&episodes[..1], &[0.7], 1.0), [0.7]);
    }

    #[test]
    fn likeness_is_a_cosine() {
        let all = [with(1, &["a b", "c"]), with(2, &["a b", "c", "c"]), with(3, &["d"])];
        let episodes: Vec<&Episode> = all.iter().collect();
        let found = likeness(&episodes);
        assert!((found[1] - 1.0).abs() < 1e-12, "a text that comes again counts once: {found:?}");
        assert_eq!(found[2], 0.0, "the tool alone, which all have: {found:?}");
        assert!(found.iter().all(|one| (0.0..=1.0 + 1e-12).contains(one)));
    }

    /// Weights are (1 + ln frequency) ln(1 + (n - df + 0.5) / (df + 0.5)); the tool, which all have, counts nothing, and a word that
    /// four of five have does.
    #[test]
    fn words_weigh_by_how_often_and_how_rarely_they_come() {
        let all = [
            with(1, &["alpha alpha beta common"]),
            with(2, &["alpha gamma common"]),
            with(3, &["beta gamma gamma common"]),
            with(4, &["delta common"]),
            with(5, &["epsilon"]),
        ];
        let found = likeness(&all.iter().collect::<Vec<_>>());
        let expected = [
            [1.0, 0.622239, 0.278756, 0.033490, 0.0],
            [0.622239, 1.0, 0.622239, 0.045988, 0.0],
            [0.278756, 0.622239, 1.0, 0.033490, 0.0],
            [0.033490, 0.045988, 0.033490, 1.0, 0.0],
            [0.0, 0.0, 0.0, 0.0, 1.0],
        ];
        for (found, expected) in found.iter().zip(expected.as_flattened()) {
            assert!((found - expected).abs() < 1e-6, "{found} is not {expected}");
        }
    }
}
