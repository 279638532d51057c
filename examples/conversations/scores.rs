//! How well evidence was ranked.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

/// What is measured of each question: recall@1, 5, 10 and 20, reciprocal rank, nDCG@10.
const NAMES: [&str; 6] = ["r1", "r5", "r10", "r20", "mrr", "ndcg10"];

/// The figures of one question.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Figures([f64; 6]);

impl Figures {
    /// Scores a ranking, best first, by the evidence that it should begin with.
    pub(crate) fn of<'a>(ranked: impl Iterator<Item = &'a str>, evidence: &[String]) -> Self {
        let hits: Vec<bool> = ranked.map(|turn| evidence.iter().any(|one| one == turn)).collect();
        let recall =
            |most: usize| hits.iter().take(most).filter(|hit| **hit).count() as f64 / evidence.len().max(1) as f64;
        let reciprocal = hits.iter().position(|hit| *hit).map_or(0.0, |place| 1.0 / (place + 1) as f64);
        let gain = |place: usize| 1.0 / ((place + 2) as f64).log2();
        let gained: f64 = hits.iter().take(10).enumerate().filter(|(_, hit)| **hit).map(|(place, _)| gain(place)).sum();
        let best: f64 = (0..evidence.len().min(10)).map(gain).sum();
        let ndcg = if best > 0.0 { gained / best } else { 0.0 };
        Self([recall(1), recall(5), recall(10), recall(20), reciprocal, ndcg])
    }
}

/// What is averaged over, and the figures.
type Row = (String, Vec<Figures>);

/// The figures of all questions, by what they are averaged over.
#[derive(Debug, Default)]
pub(crate) struct Scores {
    categories: BTreeMap<String, Vec<Figures>>,
    conversations: BTreeMap<String, Vec<Figures>>,
}

impl Scores {
    pub(crate) fn add(&mut self, conversation: &str, category: &str, figures: Figures) {
        self.categories.entry(category.to_owned()).or_default().push(figures);
        self.conversations.entry(conversation.to_owned()).or_default().push(figures);
    }

    /// The means over all questions, over those that can be answered, over each category, and over each conversation.
    fn rows(&self) -> [Vec<Row>; 2] {
        let all: Vec<Figures> = self.categories.values().flatten().copied().collect();
        let answerable = self.categories.iter().filter(|(category, _)| *category != "adversarial");
        let answerable = answerable.flat_map(|(_, figures)| figures).copied().collect();
        let mut rows = vec![("all".to_owned(), all), ("nonadversarial".to_owned(), answerable)];
        rows.extend(self.categories.clone());
        [rows, self.conversations.clone().into_iter().collect()]
    }

    pub(crate) fn json(&self) -> Value {
        let object = |figures: &[Figures]| {
            let mut object: Map<String, Value> =
                NAMES.iter().zip(means(figures)).map(|(name, mean)| ((*name).to_owned(), json!(mean))).collect();
            object.insert("n".to_owned(), json!(figures.len()));
            Value::Object(object)
        };
        let [rows, conversations] = self.rows();
        let mut json: Map<String, Value> = rows.iter().map(|(name, figures)| (name.clone(), object(figures))).collect();
        let conversations = conversations.iter().map(|(name, figures)| (name.clone(), object(figures)));
        json.insert("conversations".to_owned(), Value::Object(conversations.collect()));
        Value::Object(json)
    }

    pub(crate) fn table(&self) -> String {
        let titles: String = NAMES.iter().map(|name| format!("{name:>9}")).collect();
        let mut table = format!("{:16}{:>6}{titles}", "", "n");
        let [rows, conversations] = self.rows();
        for (name, figures) in rows.iter().chain(&conversations) {
            let means: String = means(figures).iter().map(|mean| format!("{mean:9.3}")).collect();
            table += &format!("\n{name:16}{:6}{means}", figures.len());
        }
        table
    }
}

fn means(figures: &[Figures]) -> [f64; 6] {
    let mean = |place: usize| figures.iter().map(|one| one.0[place]).sum::<f64>() / figures.len().max(1) as f64;
    [0, 1, 2, 3, 4, 5].map(mean)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ranking_is_scored_as_by_hand() {
        let evidence = ["b".to_owned(), "z".to_owned()];
        let Figures(found) = Figures::of(["a", "b", "c"].into_iter(), &evidence);
        let gain = (1.0 / 3_f64.log2()) / (1.0 + 1.0 / 3_f64.log2());
        assert_eq!(found, [0.0, 0.5, 0.5, 0.5, 0.5, gain]);
        assert_eq!(Figures::of(std::iter::empty(), &evidence), Figures([0.0; 6]));
        assert_eq!(Figures::of(["b", "z"].into_iter(), &evidence), Figures([0.5, 1.0, 1.0, 1.0, 1.0, 1.0]));
    }

    #[test]
    fn means_are_taken_by_category_and_conversation() {
        let mut scores = Scores::default();
        scores.add("one", "temporal", Figures([1.0; 6]));
        scores.add("one", "adversarial", Figures([0.0; 6]));
        let json = scores.json();
        assert_eq!((&json["all"]["r5"], &json["all"]["n"]), (&json!(0.5), &json!(2)));
        assert_eq!((&json["nonadversarial"]["mrr"], &json["temporal"]["n"]), (&json!(1.0), &json!(1)));
        assert_eq!(json["conversations"]["one"]["r1"], json!(0.5));
        assert!(scores.table().contains("adversarial"));
    }
}
