//! Heuristics as the engine knows them: derived when the evidence has changed, judged by what showing them did.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;
use uuid::Uuid;
use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::projection::Mark;
use super::{Memory, Recollection};
use crate::derive::{derive, resolve};
use crate::learn::{SHOWN, WITHHELD, exposure_of};
use crate::statistics::Rate;
use crate::{
    Advice, Basis, Consent, EpisodeId, Feedback, Freshness, Heuristic, HeuristicId, Pattern, PatternId, Playbook,
    Receipt, Result, Scope, Standing, Task, Trust, Uplift,
};

/// Heuristics that take longer than this to derive are derived beside the callers of recall.
const AT_ONCE: Duration = Duration::from_millis(5);
/// How many times as long as deriving them took such heuristics are used before they are derived again.
const PATIENCE: u32 = 20;
/// Scopes whose heuristics are kept.
const SCOPES: usize = 1_000;

/// How often what would be shown is withheld.
#[derive(Clone, Copy, Debug)]
pub(crate) struct HoldOut {
    /// In [0, 1].
    pub(crate) probability: f64,
    pub(crate) seed: u64,
}

/// The heuristics of each scope, as they were last derived.
#[derive(Debug, Default)]
pub(crate) struct Derived(Mutex<HashMap<Scope, Entry>>);

impl Derived {
    fn map(&self) -> MutexGuard<'_, HashMap<Scope, Entry>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn get(&self, scope: &Scope) -> Option<Entry> {
        self.map().get(scope).cloned()
    }

    fn put(&self, scope: Scope, entry: Entry) {
        let mut map = self.map();
        if map.len() >= SCOPES {
            map.clear();
        }
        map.insert(scope, entry);
    }

    /// Takes note that the heuristics of a scope would be derived just as they are.
    fn confirm(&self, scope: &Scope) {
        if let Some(entry) = self.map().get_mut(scope) {
            entry.at = Instant::now();
        }
    }

    /// Scopes whose heuristics are being derived beside their callers.
    pub(crate) fn renewing(&self) -> u64 {
        self.map().values().filter(|entry| entry.renewing.load(Ordering::Relaxed)).count() as u64
    }
}

#[derive(Clone, Debug)]
struct Entry {
    mark: Mark,
    bucket: i64,
    at: Instant,
    took: Duration,
    heuristics: Arc<[Heuristic]>,
    /// Whether they are being derived again.
    renewing: Arc<AtomicBool>,
}

/// What showing memories did to the success of episodes.
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq)]
pub struct UpliftReport {
    /// All that was recalled, against episodes for which all of it was withheld; `None` as long as nothing was withheld.
    pub overall: Option<Uplift>,
    /// The heuristics that were shown in at least as many episodes as the quorum.
    pub heuristics: BTreeMap<HeuristicId, Uplift>,
}

/// A heuristic that fits a task.
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq)]
pub struct Advised {
    /// The heuristic.
    pub heuristic: Heuristic,
    /// Whether it still fits the task's environment.
    pub freshness: Freshness,
}

impl Memory {
    /// The heuristics that the evidence of this scope supports now, whatever their standing, best supported first.
    ///
    /// Derived from the habits of trusted episodes; reads them all if something was learned since the last time.
    ///
    /// # Errors
    /// The store's errors.
    pub async fn heuristics(&self) -> Result<Vec<Heuristic>> {
        Ok(self.derived().await.map_err(|error| error.in_operation("heuristics"))?.to_vec())
    }

    /// The heuristics that are shown, put together: one playbook for each situation, the best supported first.
    ///
    /// # Errors
    /// The store's errors.
    pub async fn playbooks(&self) -> Result<Vec<Playbook>> {
        let heuristics = self.derived().await.map_err(|error| error.in_operation("playbooks"))?;
        let shown: Vec<Heuristic> = heuristics.iter().filter(|one| self.shows(one)).cloned().collect();
        Ok(Playbook::compose(&shown))
    }

    /// Whether a heuristic of this scope is shown to agents: its [standing](Heuristic::standing) and the
    /// [consent](crate::MemoryBuilder::consent) allow it.
    pub fn shows(&self, heuristic: &Heuristic) -> bool {
        let allowed = |consent: &Arc<dyn Consent>| consent.allows(&self.scope, heuristic.id);
        heuristic.is_shown() && self.inner.consent.as_ref().is_none_or(allowed)
    }

    /// What showing memories did, overall and for each heuristic, with 95 % intervals.
    ///
    /// Causal as far as something was withheld by chance: see [`MemoryBuilder::hold_out`](crate::MemoryBuilder::hold_out).
    ///
    /// # Errors
    /// The store's errors.
    pub async fn uplift(&self) -> Result<UpliftReport> {
        let learner = self.inner.projection.id();
        let overall = exposure_of(learner, &self.scope, None).id;
        let pattern = self.inner.projection.patterns(&[overall]).await.map_err(|error| error.in_operation("uplift"))?;
        let overall = pattern.into_iter().flatten().next().and_then(|pattern| {
            let (shown, withheld) = (self.rate(&pattern, SHOWN), self.rate(&pattern, WITHHELD));
            (withheld.trials > 0.0).then(|| Uplift::new(shown, withheld, Basis::Withheld))
        });
        let derived = self.derived().await.map_err(|error| error.in_operation("uplift"))?;
        let heuristics = derived.iter().filter_map(|one| Some((one.id, one.uplift?))).collect();
        Ok(UpliftReport { overall, heuristics })
    }

    /// What untrusted sources have shown and too few trusted episodes have confirmed, by rising id: it has no part in any
    /// answer. A branch is confirmed when at least the quorum of trusted episodes have shown the same.
    ///
    /// # Errors
    /// The store's errors.
    pub async fn quarantined(&self) -> Result<Vec<Pattern>> {
        let all = self.patterns().await.map_err(|error| error.in_operation("quarantined"))?;
        let trusted: HashMap<PatternId, &Pattern> =
            all.iter().filter(|pattern| pattern.trust == Trust::Trusted).map(|pattern| (pattern.id, pattern)).collect();
        let quorum = u64::from(self.learner().quorum);
        let untrusted = all.iter().filter(|pattern| pattern.trust == Trust::Untrusted);
        let quarantined = untrusted.filter_map(|pattern| {
            let twin = trusted.get(&pattern.with_trust(Trust::Trusted).id);
            let confirmed = |branch: &String| {
                twin.and_then(|twin| twin.branches.get(branch)).is_some_and(|seen| seen.total().episodes >= quorum)
            };
            let mut rest = pattern.clone();
            rest.branches.retain(|branch, _| !confirmed(branch));
            (!rest.branches.is_empty()).then_some(rest)
        });
        Ok(quarantined.collect())
    }

    /// The heuristics that are shown and fit a task.
    pub(super) async fn fitting(&self, task: &Task) -> Result<Vec<Heuristic>> {
        let derived = self.derived_soon().await?;
        Ok(derived.iter().filter(|one| self.shows(one) && one.situation.fits(task)).cloned().collect())
    }

    /// The heuristics to show for a task, best supported first, those of another environment last.
    pub(super) async fn advice_for(&self, task: &Task) -> Result<Vec<Advised>> {
        const MOST: usize = 10;
        let fitting = self.fitting(task).await?.into_iter();
        let advised = fitting.map(|heuristic| Advised { freshness: heuristic.freshness(task), heuristic });
        let mut advised: Vec<Advised> = advised.collect();
        advised.sort_by_key(|one| matches!(one.freshness, Freshness::Drifted(_)));
        advised.truncate(MOST);
        Ok(advised)
    }

    /// Withholds what chance decides to, and says what was shown.
    ///
    /// Chance depends on the seed of the memory, the episode and the tool advised on alone, so that every recall of an episode,
    /// in any process, decides alike. All advice on one tool goes together: "do it" and "do it right after the start" move an
    /// agent alike, so that nothing would come of withholding one of them.
    pub(super) fn hold_out(&self, episode: EpisodeId, mut recalled: Recollection) -> (Recollection, Receipt) {
        let held_out = |what: &[u8]| {
            let name = [episode.as_uuid().as_bytes().as_slice(), what].concat();
            // The upper 53 bits as a number in [0, 1).
            let chance = (xxh3_64_with_seed(&name, self.inner.hold_out.seed) >> 11) as f64 / (1_u64 << 53) as f64;
            chance < self.inner.hold_out.probability
        };
        if held_out(Uuid::nil().as_bytes()) {
            let Recollection { query, degraded, .. } = recalled;
            let withheld = Recollection { query, withheld: true, degraded, ..Recollection::default() };
            return (withheld, Receipt { withheld: true, ..Receipt::default() });
        }
        let mut receipt = Receipt::default();
        recalled.advice.retain(|advised| {
            let id = advised.heuristic.id;
            let shown = !held_out(advised.heuristic.habit.tool.as_bytes());
            receipt.advice.insert(id, shown);
            shown
        });
        receipt.episodes = recalled.episodes.iter().map(|recalled| recalled.episode.id).collect();
        receipt.pitfalls = recalled.pitfalls.iter().map(|pitfall| pitfall.pattern).collect();
        receipt.notes = recalled.notes.iter().map(|recalled| recalled.note.id).collect();
        (recalled, receipt)
    }

    /// The heuristics as of now.
    async fn derived(&self) -> Result<Arc<[Heuristic]>> {
        let bucket = self.learner().bucket_of(self.inner.clock.read());
        match self.inner.derived.get(&self.scope) {
            Some(entry) if entry.bucket == bucket && entry.mark == self.inner.projection.mark().await? => {
                self.inner.derived.confirm(&self.scope);
                Ok(entry.heuristics)
            }
            _ => self.derive().await,
        }
    }

    /// The heuristics as of now; or, where deriving them takes long, as they were last derived, while they are derived again
    /// beside the caller.
    async fn derived_soon(&self) -> Result<Arc<[Heuristic]>> {
        let Some(entry) = self.inner.derived.get(&self.scope).filter(|entry| entry.took > AT_ONCE) else {
            return self.derived().await;
        };
        let due = entry.at.elapsed() >= entry.took.saturating_mul(PATIENCE);
        if due && !entry.renewing.swap(true, Ordering::Relaxed) {
            let memory = self.clone();
            tokio::spawn(async move {
                // A failure is told by health; the next caller tries again.
                let result = memory.derived().await;
                memory.inner.jobs.consolidation.ran(memory.inner.clock.read(), &result);
                entry.renewing.store(false, Ordering::Relaxed);
            });
        }
        Ok(entry.heuristics)
    }

    /// Derives the heuristics from all habits of the scope.
    async fn derive(&self) -> Result<Arc<[Heuristic]>> {
        let at = Instant::now();
        let result = self.try_derive(at).await;
        self.inner.jobs.consolidation.ran(self.inner.clock.read(), &result);
        result
    }

    async fn try_derive(&self, at: Instant) -> Result<Arc<[Heuristic]>> {
        let now = self.inner.clock.read();
        let (mark, mut habits) = self.inner.projection.habits(&self.scope).await?;
        habits.retain(|habit| habit.trust == Trust::Trusted);
        let mut heuristics = derive(self.learner(), &self.scope, &habits, now);
        self.judge(&mut heuristics).await?;
        resolve(&mut heuristics);
        let heuristics: Arc<[Heuristic]> = heuristics.into();
        let (bucket, renewing) = (self.learner().bucket_of(now), Arc::default());
        let entry = Entry { mark, bucket, at, took: at.elapsed(), heuristics: Arc::clone(&heuristics), renewing };
        self.inner.derived.put(self.scope.clone(), entry);
        Ok(heuristics)
    }

    /// Adds what showing the heuristics did, and retires those that do harm.
    async fn judge(&self, heuristics: &mut [Heuristic]) -> Result<()> {
        let learner = self.inner.projection.id();
        let ids: Vec<PatternId> =
            heuristics.iter().map(|one| exposure_of(learner, &self.scope, Some(one.id)).id).collect();
        let exposures = self.inner.projection.patterns(&ids).await?;
        let quorum = f64::from(self.learner().quorum);
        for (heuristic, exposure) in heuristics.iter_mut().zip(exposures) {
            let Some(exposure) = exposure else { continue };
            let (shown, withheld) = (self.rate(&exposure, SHOWN), self.rate(&exposure, WITHHELD));
            if shown.trials >= quorum {
                let otherwise = match heuristic.advice {
                    Advice::Do => heuristic.contrast.without,
                    Advice::Avoid => heuristic.contrast.with,
                };
                heuristic.uplift = Some(if withheld.trials >= quorum {
                    Uplift::new(shown, withheld, Basis::Withheld)
                } else {
                    Uplift::new(shown, otherwise, Basis::Observed)
                });
            }
            let harmed = heuristic.uplift.is_some_and(|uplift| uplift.is_harmful());
            if harmed || self.said_to_be_harmful(&exposure) {
                heuristic.standing = Standing::Retired;
            }
        }
        Ok(())
    }

    /// Whether enough agents said so, and more than half of those that said anything, with 90 % confidence.
    fn said_to_be_harmful(&self, exposure: &Pattern) -> bool {
        let said = |feedback: Feedback| self.rate(exposure, feedback.as_str()).trials;
        let harmful = said(Feedback::Harmful);
        let all = harmful + said(Feedback::Used) + said(Feedback::Ignored);
        harmful >= f64::from(self.learner().quorum) && Rate::new(all, harmful).interval(1.645).0 > 0.5
    }

    fn rate(&self, pattern: &Pattern, branch: &str) -> Rate {
        pattern.branches.get(branch).map(|evidence| Rate::from(self.support(evidence))).unwrap_or_default()
    }
}
