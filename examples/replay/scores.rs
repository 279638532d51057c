//! Scores as the protocol defines them.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

/// The domains that the plain mean is taken over.
pub(crate) const MACRO_6: [&str; 6] = ["retail", "airline", "sql", "bash", "hotpotqa", "webshop"];

/// Scores of one part of the protocol, by domain.
#[derive(Debug)]
pub(crate) struct ByDomain<S>(pub(crate) BTreeMap<String, S>);

impl<S> Default for ByDomain<S> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

/// A score that collects single results and sums them up in named figures.
pub(crate) trait Score: Default {
    /// The figures; `None` where there is nothing to average.
    fn figures(&self) -> Vec<(&'static str, Option<f64>)>;
}

impl<S: Score> ByDomain<S> {
    pub(crate) fn of(&mut self, domain: &str) -> &mut S {
        self.0.entry(domain.to_owned()).or_default()
    }

    /// The plain mean of a figure over the six domains, where they have it.
    pub(crate) fn macro_6(&self, name: &str) -> Option<f64> {
        let scores = MACRO_6.iter().filter_map(|domain| self.0.get(*domain));
        mean(scores.filter_map(|score| figure(score, name)))
    }

    pub(crate) fn json(&self) -> Value {
        let mut map = Map::new();
        for (domain, score) in &self.0 {
            map.insert(
                domain.clone(),
                score.figures().into_iter().map(|(name, value)| (name.to_owned(), json!(value))).collect(),
            );
        }
        let names = S::default().figures().into_iter().map(|(name, _)| name);
        let means: Map<String, Value> = names.map(|name| (name.to_owned(), json!(self.macro_6(name)))).collect();
        map.insert("macro6".to_owned(), Value::Object(means));
        Value::Object(map)
    }
}

pub(crate) fn figure<S: Score>(score: &S, name: &str) -> Option<f64> {
    score.figures().into_iter().find(|(other, _)| *other == name).and_then(|(_, value)| value)
}

/// The places at which the right tool stood in ranked lists; `None` where it was missing.
#[derive(Debug, Default)]
pub(crate) struct Ranks(Vec<Option<usize>>);

impl Ranks {
    /// Adds a ranked list, best first.
    pub(crate) fn add<'a>(&mut self, mut ranked: impl Iterator<Item = &'a str>, right: &str) {
        self.0.push(ranked.position(|tool| tool == right).map(|place| place + 1));
    }
}

impl Score for Ranks {
    fn figures(&self) -> Vec<(&'static str, Option<f64>)> {
        let within = |most: usize| self.0.iter().map(move |rank| f64::from(rank.is_some_and(|rank| rank <= most)));
        let reciprocal = self.0.iter().map(|rank| rank.map_or(0.0, |rank| 1.0 / rank as f64));
        vec![
            ("hit1", mean(within(1))),
            ("hit3", mean(within(3))),
            ("mrr", mean(reciprocal)),
            ("steps", Some(self.0.len() as f64)),
        ]
    }
}

/// Predicted probabilities and what came.
#[derive(Debug, Default)]
pub(crate) struct Forecasts(Vec<(f64, bool)>);

impl Forecasts {
    pub(crate) fn add(&mut self, probability: f64, success: bool) {
        self.0.push((probability, success));
    }

    /// The area under the ROC curve: how often a success was given more than a failure, ties counting half.
    fn auc(&self) -> Option<f64> {
        let mut sorted = self.0.clone();
        sorted.sort_by(|a, b| a.0.total_cmp(&b.0));
        let (mut pairs, mut failures_below) = (0.0, 0.0);
        for tied in sorted.chunk_by(|a, b| a.0 == b.0) {
            let successes = tied.iter().filter(|(_, success)| *success).count() as f64;
            let failures = tied.len() as f64 - successes;
            pairs += successes * (failures_below + failures / 2.0);
            failures_below += failures;
        }
        let successes = sorted.len() as f64 - failures_below;
        (successes > 0.0 && failures_below > 0.0).then(|| pairs / (successes * failures_below))
    }
}

impl Score for Forecasts {
    /// Domains with fewer than 20 episodes are too small for an area.
    fn figures(&self) -> Vec<(&'static str, Option<f64>)> {
        let squares = self.0.iter().map(|(probability, success)| (probability - f64::from(*success)).powi(2));
        let enough = self.0.len() >= 20;
        vec![
            ("auc", self.auc().filter(|_| enough)),
            ("brier", mean(squares).filter(|_| enough)),
            ("n", Some(self.0.len() as f64)),
        ]
    }
}

/// Forecasts of about the same probability, and what came.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Bin {
    pub(crate) runs: usize,
    /// The mean forecast; `None` in an empty bin.
    pub(crate) forecast: Option<f64>,
    /// The share of successes.
    pub(crate) came: Option<f64>,
}

impl ByDomain<Forecasts> {
    /// The forecasts of all domains in ten bins of equal width, by rising probability: reliable ones come true as often as
    /// they say.
    pub(crate) fn reliability(&self) -> [Bin; 10] {
        let all = || self.0.values().flat_map(|forecasts| &forecasts.0);
        let place = |probability: f64| (1..10).take_while(|tenths| probability >= f64::from(*tenths) / 10.0).count();
        std::array::from_fn(|bin| {
            let within = || all().filter(move |(probability, _)| place(*probability) == bin);
            Bin {
                runs: within().count(),
                forecast: mean(within().map(|(probability, _)| *probability)),
                came: mean(within().map(|(_, success)| f64::from(*success))),
            }
        })
    }
}

/// Recall of the same task and precision of the same intent.
#[derive(Debug, Default)]
pub(crate) struct Retrieval {
    pub(crate) same_task: Vec<f64>,
    pub(crate) same_intent: Vec<f64>,
}

impl Score for Retrieval {
    fn figures(&self) -> Vec<(&'static str, Option<f64>)> {
        vec![
            ("same_task_r5", mean(self.same_task.iter().copied())),
            ("intent_p5", mean(self.same_intent.iter().copied())),
        ]
    }
}

fn mean(values: impl Iterator<Item = f64>) -> Option<f64> {
    let (sum, count) = values.fold((0.0, 0_u32), |(sum, count), value| (sum + value, count + 1));
    (count > 0).then(|| sum / f64::from(count))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranks_are_scored_as_the_protocol_says() {
        let mut ranks = Ranks::default();
        for right in ["a", "c", "missing"] {
            ranks.add(["a", "b", "c"].into_iter(), right);
        }
        let figures = [figure(&ranks, "hit1"), figure(&ranks, "hit3"), figure(&ranks, "mrr")].map(Option::unwrap);
        assert_eq!(figures, [1.0 / 3.0, 2.0 / 3.0, (1.0 + 1.0 / 3.0) / 3.0]);
    }

    #[test]
    fn auc_counts_ties_half() {
        let forecasts = |list: &[(f64, bool)]| Forecasts(list.to_vec()).auc();
        assert_eq!(forecasts(&[(0.1, false), (0.9, true)]), Some(1.0));
        assert_eq!(forecasts(&[(0.9, false), (0.1, true)]), Some(0.0));
        assert_eq!(forecasts(&[(0.5, false), (0.5, true), (0.5, true)]), Some(0.5));
        assert_eq!(forecasts(&[(0.5, true)]), None);
    }

    #[test]
    fn forecasts_fall_into_tenths() {
        let mut scores = ByDomain::<Forecasts>::default();
        for (domain, probability, success) in
            [("a", 0.0, false), ("b", 0.0625, true), ("a", 0.1, true), ("a", 0.9375, true), ("b", 1.0, false)]
        {
            scores.of(domain).add(probability, success);
        }
        let bins = scores.reliability();
        assert_eq!(bins[0], Bin { runs: 2, forecast: Some(0.03125), came: Some(0.5) });
        assert_eq!(bins[1], Bin { runs: 1, forecast: Some(0.1), came: Some(1.0) });
        assert_eq!(bins[2], Bin { runs: 0, forecast: None, came: None });
        assert_eq!(bins[9], Bin { runs: 2, forecast: Some(0.96875), came: Some(0.5) });
        assert_eq!(bins.iter().map(|bin| bin.runs).sum::<usize>(), 5);
    }

    #[test]
    fn the_mean_is_over_the_six_domains_only() {
        let mut scores = ByDomain::<Ranks>::default();
        scores.of("retail").add(["a"].into_iter(), "a");
        scores.of("sql").add(["a"].into_iter(), "b");
        scores.of("ctf").add(["a"].into_iter(), "a");
        assert_eq!(scores.macro_6("hit1"), Some(0.5));
    }
}
