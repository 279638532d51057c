//! Reading [prompts](crate::Prompt) back.

use std::collections::BTreeSet;

use crate::prompt::HEADING;
use crate::quote::is_invisible;
use crate::text::{RECALLED_BEGIN, RECALLED_END, strip_recalled};
use crate::{Citation, Episode, Freshness, Heuristic, Prompt, Recollection, Step};

/// Reads a quote at the beginning of a text, strictly: the text that was quoted, and what comes after the closing quote.
pub fn read(quote: &str) -> Option<(String, &str)> {
    let (mut text, mut rest) = (String::new(), quote.strip_prefix('"')?);
    loop {
        let c = rest.chars().next()?;
        rest = &rest[c.len_utf8()..];
        text.push(match c {
            '"' => return Some((text, rest)),
            '\\' => {
                let kind = rest.chars().next()?;
                rest = &rest[kind.len_utf8()..];
                match kind {
                    '"' | '\\' => kind,
                    'n' => '\n',
                    'r' => '\r',
                    't' => '\t',
                    'u' => {
                        let (code, after) = rest.strip_prefix('{')?.split_once('}')?;
                        rest = after;
                        char::from_u32(u32::from_str_radix(code, 16).ok()?)?
                    }
                    _ => return None,
                }
            }
            c if is_invisible(c) => return None,
            c => c,
        });
    }
}

/// The texts that stand in quotes in the line of a source, in their order.
fn quotes(recollection: &Recollection, cited: Citation) -> Vec<String> {
    let told = |text: &String| (!text.is_empty()).then(|| text.clone());
    let episode = |id| recollection.episodes.iter().find(|one| one.episode.id == id).unwrap();
    let mut texts = Vec::new();
    let freshness = match cited {
        Citation::Rule(id) => {
            let advised = recollection.advice.iter().find(|one| one.heuristic.id == id).unwrap();
            let Heuristic { habit, situation, .. } = &advised.heuristic;
            texts.push(habit.tool.clone());
            texts.extend(habit.after.iter().map(|part| part[1..].to_owned()));
            texts.extend(situation.domain.iter().chain(&situation.context).chain(&situation.unless).cloned());
            &advised.freshness
        }
        Citation::Pitfall(id) => {
            let pitfall = recollection.pitfalls.iter().find(|one| one.pattern == id).unwrap();
            texts.push(pitfall.tool.clone());
            texts.extend(told(&pitfall.error));
            texts.extend(pitfall.recoveries.iter().filter_map(|one| told(&one.tools)));
            &pitfall.freshness
        }
        Citation::Note(id) => {
            let recalled = recollection.notes.iter();
            let note = recalled
                .flat_map(|one| std::iter::once(&one.note).chain(&one.around))
                .find(|one| one.id == id)
                .unwrap();
            texts.extend([note.text.clone(), note.source.clone()]);
            texts.extend(note.place.iter().map(|place| place.thread.clone()));
            &Freshness::Fresh
        }
        Citation::Episode(id) => {
            let Episode { task, outcome, source, .. } = &*episode(id).episode;
            texts.push(task.text.clone());
            texts.extend(told(&outcome.summary));
            texts.push(source.name.clone());
            &episode(id).freshness
        }
        Citation::Step { episode: id, number } => {
            let Step { tool, action, input, observation, .. } = &episode(id).episode.steps[number - 1];
            texts.push(tool.clone());
            texts.extend([action, input, observation].into_iter().filter_map(told));
            &Freshness::Fresh
        }
    };
    if let Freshness::Drifted(facts) = freshness {
        texts.extend(facts.clone());
    }
    texts
}

/// Reads a prompt back, strictly, and compares it with what was recalled.
pub fn check(recollection: &Recollection, prompt: &Prompt) {
    assert_eq!(strip_recalled(&prompt.text).trim(), "");
    if prompt.text.is_empty() {
        assert_eq!((prompt.tokens, prompt.cited.len()), (0, 0));
        return;
    }
    let body = prompt.text.strip_prefix(RECALLED_BEGIN).and_then(|text| text.strip_suffix(RECALLED_END)).unwrap();
    let mut lines = body.split('\n');
    assert_eq!(lines.next(), Some(HEADING));
    assert_eq!(lines.clone().count(), prompt.cited.len());
    let mut under = None;
    for (line, cited) in lines.zip(&prompt.cited) {
        let rest = line.strip_prefix(&format!("[{cited}] "));
        let mut rest = rest.unwrap_or_else(|| panic!("{line} does not cite {cited}"));
        let mut texts = Vec::new();
        let plain = |label: &str| label.chars().all(|c| c.is_ascii_alphanumeric() || " .,;:()".contains(c));
        while let Some((label, _)) = rest.split_once('"') {
            assert!(plain(label), "{label}");
            let (text, after) = read(&rest[label.len()..]).unwrap_or_else(|| panic!("{rest} has no quote"));
            texts.push(text);
            rest = after;
        }
        assert!(plain(rest), "{rest}");
        assert_eq!(texts, quotes(recollection, *cited));
        match cited {
            Citation::Episode(id) => under = Some(*id),
            Citation::Step { episode, .. } => assert_eq!(under, Some(*episode), "no step without its episode"),
            _ => assert_eq!(under, None, "episodes come last"),
        }
    }
    // Within one section, citations need not sort; the sections do, and no line comes twice.
    assert!(prompt.cited.is_sorted_by_key(|cited| match cited {
        Citation::Rule(_) => 0,
        Citation::Pitfall(_) => 1,
        Citation::Note(_) => 2,
        Citation::Episode(_) | Citation::Step { .. } => 3,
    }));
    assert_eq!(prompt.cited.iter().collect::<BTreeSet<_>>().len(), prompt.cited.len());
}
