//! How relevant the turns of a thread are to a query.
//!
//! What a turn is about often stands beside it: the question that it answers, the name that it only refers to. A turn is
//! therefore scored by the words of a window around it, all together (BM25 over weighted fields; S. Robertson, H. Zaragoza,
//! M. Taylor, "Simple BM25 Extension to Multiple Weighted Fields", 2004), so that it counts for more when different turns
//! cover different words of the query. The constants were chosen on the conversations of LoCoMo; see
//! `docs/design.md`.

use std::collections::HashMap;

use chrono::{DateTime, Datelike as _, Utc};

use crate::text::{informative, stem, terms, words};
use crate::{Note, Place, Weights};

/// How far around a turn its window goes.
pub(crate) const REACH: u32 = 2;
const K1: f64 = 0.9;
const B: f64 = 0.75;
/// What the window counts: how far after the turn, and the weights of what is stated and of what is asked there. The question
/// right before a turn is what the turn answers; its own question is what the next one answers.
const WINDOW: [(i64, f64, f64); 5] =
    [(0, 1.0, 0.25), (-1, 0.3, 1.0), (-2, 0.3, 0.3), (1, 0.25, 0.25), (2, 0.125, 0.125)];
/// The factor of a turn that ends with a question: what is known is said by its answer.
const ASKS: f64 = 0.8;
/// The factor of a turn whose source the query names.
const NAMED: f64 = 1.2;
/// The factor of a turn of the month or the year that the query names.
const DATED: f64 = 1.5;
/// A turn of so many terms has half its score: the shortest say nothing by themselves.
const SHORT: f64 = 4.0;

/// A turn that was read, with the cosine of its vector to the query's.
pub(crate) struct Turn<'a> {
    pub(crate) note: &'a Note,
    pub(crate) place: &'a Place,
    pub(crate) cosine: f64,
}

/// How relevant a turn is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Relevance {
    /// How much of the query's information its window covers, in [0, 1].
    pub(crate) words: f64,
    /// Both words and vector, in [0, 1].
    pub(crate) whole: f64,
}

/// How often each of the query's terms occurs in a turn, and how many terms it has.
struct Counted {
    stated: Vec<f64>,
    asked: Vec<f64>,
    stated_length: f64,
    asked_length: f64,
    asks: bool,
}

impl Counted {
    fn of(text: &str, query: &[String]) -> Self {
        let none = || vec![0.0; query.len()];
        let mut counted =
            Self { stated: none(), asked: none(), stated_length: 0.0, asked_length: 0.0, asks: asks(text) };
        for sentence in sentences(text) {
            let (counts, length) = if is_question(sentence) {
                (&mut counted.asked, &mut counted.asked_length)
            } else {
                (&mut counted.stated, &mut counted.stated_length)
            };
            for word in informative(sentence) {
                *length += 1.0;
                // Stemming takes most of the time, and few words can become a term of the query.
                let may_be = |term: &String| term.chars().next() == word.chars().next();
                if query.iter().any(may_be)
                    && let Ok(place) = query.binary_search_by(|term| term.as_str().cmp(&stem(&word)))
                {
                    counts[place] += 1.0;
                }
            }
        }
        counted
    }

    fn has(&self, term: usize) -> bool {
        self.stated[term] + self.asked[term] > 0.0
    }
}

/// How relevant turns are to a query, in their order. What stands beside a turn counts if it is among them.
pub(crate) fn relevances(query: &str, turns: &[Turn<'_>], weights: Weights) -> Vec<Relevance> {
    let mut asked = terms(query);
    asked.sort_unstable();
    asked.dedup();
    let dates = Dates::of(query);
    let counted: Vec<Counted> = turns.iter().map(|turn| Counted::of(&turn.note.text, &asked)).collect();
    let number = |turn: &Turn<'_>| (turn.note.scope.as_str().to_owned(), turn.place.thread.clone());
    let places: HashMap<((String, String), i64), usize> =
        turns.iter().enumerate().map(|(at, turn)| ((number(turn), i64::from(turn.place.position)), at)).collect();
    let window = |turn: &Turn<'_>| -> Vec<(usize, f64, f64)> {
        let thread = number(turn);
        let near = |(distance, stated, asked): &(i64, f64, f64)| {
            let place = places.get(&(thread.clone(), i64::from(turn.place.position) + distance))?;
            Some((*place, *stated, *asked))
        };
        WINDOW.iter().filter_map(near).collect()
    };
    let windows: Vec<Vec<(usize, f64, f64)>> = turns.iter().map(window).collect();
    let sum = |window: &[(usize, f64, f64)], of: &dyn Fn(&Counted) -> (f64, f64)| -> f64 {
        let part = |(place, stated, asked): &(usize, f64, f64)| {
            let (of_stated, of_asked) = of(&counted[*place]);
            stated * of_stated + asked * of_asked
        };
        window.iter().map(part).sum()
    };
    let lengths: Vec<f64> =
        windows.iter().map(|window| sum(window, &|one| (one.stated_length, one.asked_length))).collect();
    let count = turns.len() as f64;
    let mean = (lengths.iter().sum::<f64>() / count.max(1.0)).max(1.0);
    let idfs: Vec<f64> = (0..asked.len())
        .map(|term| {
            let found = counted.iter().filter(|one| one.has(term)).count() as f64;
            (1.0 + (count - found + 0.5) / (found + 0.5)).ln()
        })
        .collect();
    let bound = idfs.iter().sum::<f64>();
    let relevance = |place: usize| {
        let (turn, own) = (&turns[place], &counted[place]);
        let norm = K1 * (1.0 - B + B * lengths[place] / mean);
        let part = |(term, idf): (usize, &f64)| {
            let frequency = sum(&windows[place], &|one| (one.stated[term], one.asked[term]));
            idf * frequency / (frequency + norm)
        };
        let covered: f64 = idfs.iter().enumerate().map(part).sum();
        let words = if bound > 0.0 { covered / bound } else { 0.0 };
        let mean = (weights.words * words + weights.vector * turn.cosine.max(0.0)) / (weights.words + weights.vector);
        let length = own.stated_length + own.asked_length;
        let named = terms(&turn.note.source).iter().any(|term| asked.binary_search(term).is_ok());
        let factors = [
            length / (length + SHORT),
            if own.asks { ASKS } else { 1.0 },
            if named { NAMED } else { 1.0 },
            if turn.place.at.is_some_and(|at| dates.name(at)) { DATED } else { 1.0 },
        ];
        Relevance { words, whole: (mean * factors.iter().product::<f64>()).min(1.0) }
    };
    (0..turns.len()).map(relevance).collect()
}

/// The sentences of a text: they end with `.`, `!` or `?` before white space.
fn sentences(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = text.trim_start();
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let mut before = ' ';
        let end = rest.char_indices().find_map(|(place, c)| {
            let ends = c.is_whitespace() && matches!(before, '.' | '!' | '?');
            before = c;
            ends.then_some(place)
        });
        let (sentence, after) = rest.split_at(end.unwrap_or(rest.len()));
        rest = after.trim_start();
        Some(sentence)
    })
}

fn is_question(sentence: &str) -> bool {
    sentence.trim_end_matches(|c: char| c.is_whitespace() || matches!(c, '"' | '”' | ')')).ends_with('?')
}

/// Whether a text ends with a question; a remark in square brackets at its end is passed over.
fn asks(text: &str) -> bool {
    let remark = if text.trim_end().ends_with(']') { text.rfind(" [") } else { None };
    is_question(remark.map_or(text, |start| &text[..start]))
}

const MONTHS: [&str; 12] = [
    "january",
    "february",
    "march",
    "april",
    "may",
    "june",
    "july",
    "august",
    "september",
    "october",
    "november",
    "december",
];

/// The months and years that a query names, in English and of the years 1900 to 2099.
struct Dates {
    months: Vec<u32>,
    years: Vec<i32>,
}

impl Dates {
    fn of(query: &str) -> Self {
        // The verb is written small.
        let verb = query.split(|c: char| !c.is_alphanumeric()).any(|word| word == "may");
        let mut dates = Self { months: Vec::new(), years: Vec::new() };
        for word in words(query) {
            match MONTHS.iter().position(|month| *month == word) {
                Some(4) if verb => {}
                Some(place) => dates.months.extend(u32::try_from(place + 1)),
                None => dates.years.extend(word.parse().ok().filter(|year| (1900..2100).contains(year))),
            }
        }
        dates
    }

    /// Whether the query names this moment's month, or year, and says nothing else of both.
    fn name(&self, at: DateTime<Utc>) -> bool {
        let Self { months, years } = self;
        let any = !months.is_empty() || !years.is_empty();
        any && (months.is_empty() || months.contains(&at.month())) && (years.is_empty() || years.contains(&at.year()))
    }
}

#[cfg(test)]
mod tests {
    use chrono::TimeZone as _;

    use super::*;
    use crate::testkit::samples;

    const WEIGHTS: Weights = Weights::new(1.0, 0.0, 0.0);

    fn scores(query: &str, texts: &[&str]) -> Vec<f64> {
        let notes: Vec<Note> = texts.iter().map(|text| samples::note(1, text)).collect();
        let places: Vec<Place> = (0..).zip(texts).map(|(n, _)| Place::new("chat", n)).collect();
        let turns: Vec<Turn<'_>> =
            notes.iter().zip(&places).map(|(note, place)| Turn { note, place, cosine: 0.0 }).collect();
        relevances(query, &turns, WEIGHTS).into_iter().map(|one| one.whole).collect()
    }

    #[test]
    fn an_answer_has_the_words_of_its_question() {
        let found = scores(
            "Where does Ada keep her bicycle?",
            &[
                "It rains here today again, so we stay in.",
                "Where do you keep the bicycle, Ada?",
                "In the cellar beside the old washing machine.",
                "The weather is better over there, they say.",
            ],
        );
        assert!([0, 1, 3].iter().all(|other| found[2] > 1.5 * found[*other]), "{found:?}");
    }

    #[test]
    fn turns_of_other_threads_are_no_neighbours() {
        let notes = ["Where is the bicycle?", "In the cellar beside the machine."].map(|text| samples::note(1, text));
        let turn = |place| [Place::new("a", 0), place];
        let of = |places: &[Place; 2]| {
            let turns: Vec<Turn<'_>> =
                notes.iter().zip(places).map(|(note, place)| Turn { note, place, cosine: 0.0 }).collect();
            relevances("bicycle", &turns, WEIGHTS)[1].whole
        };
        assert!(of(&turn(Place::new("a", 1))) > 0.1);
        assert_eq!(of(&turn(Place::new("b", 1))), 0.0);
        assert_eq!(of(&turn(Place::new("a", 4))), 0.0, "too far away");
    }

    #[test]
    fn short_turns_and_questions_count_less() {
        let found =
            scores("bicycle tour", &["A bicycle tour!", "The long bicycle tour through all of the northern hills"]);
        assert!(found[1] > found[0], "{found:?}");
        assert!(asks("Really? [shares a photo]") && asks("(so?)") && !asks("What? Never.") && !asks("[why?]"));
        assert_eq!(sentences(" One.  Two! Three? four").collect::<Vec<_>>(), ["One.", "Two!", "Three?", "four"]);
        assert_eq!(sentences("v1.2 is out").count(), 1);
        assert_eq!(sentences(" ").count(), 0);
    }

    #[test]
    fn dates_are_named_by_month_and_year() {
        let at = |year, month| Utc.with_ymd_and_hms(year, month, 3, 0, 0, 0).single().unwrap();
        let named = |query: &str, year, month| Dates::of(query).name(at(year, month));
        assert!(named("what happened in May 2023?", 2023, 5));
        assert!(!named("what happened in May 2023?", 2023, 6) && !named("what happened in May 2023?", 2022, 5));
        assert!(named("in march or april", 2020, 4) && named("since 2020", 2020, 1));
        assert!(!named("you may ask", 2020, 5) && !named("no date", 2020, 1) && !named("the 1812 overture", 1812, 1));
    }

    #[test]
    fn nothing_asked_is_nothing_found() {
        assert_eq!(scores("the of", &["a b c d e"]), [0.0]);
        assert_eq!(scores("x", &[]), [0.0; 0]);
        assert!(scores("a1 b1", &["a1 b1 ".repeat(50).as_str()]).iter().all(|score| (0.0..=1.0).contains(score)));
    }
}
