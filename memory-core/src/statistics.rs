//! The statistics behind rules and uplift. All of them take real counts, because evidence fades.

use statrs::distribution::{ContinuousCDF, Normal, StudentsT};

/// Trials and successes, with the weight that they have now.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Rate {
    /// Trials; 0 or more.
    pub trials: f64,
    /// Successes; 0 to `trials`.
    pub successes: f64,
}

impl Rate {
    /// A rate of so many successes in so many trials.
    pub const fn new(trials: f64, successes: f64) -> Self {
        Self { trials, successes }
    }

    /// The share of successes in [0, 1]; one half without trials.
    pub fn share(&self) -> f64 {
        if self.trials > 0.0 { self.successes / self.trials } else { 0.5 }
    }

    /// Where the true share lies with the confidence of `z` standard deviations of the normal distribution: the Wilson score
    /// interval (E. B. Wilson, "Probable inference, the law of succession, and statistical inference", 1927).
    pub fn interval(&self, z: f64) -> (f64, f64) {
        if self.trials <= 0.0 {
            return (0.0, 1.0);
        }
        let (n, p) = (self.trials, self.share());
        let centre = (p + z * z / (2.0 * n)) / (1.0 + z * z / n);
        let half = z / (1.0 + z * z / n) * (p * (1.0 - p) / n + z * z / (4.0 * n * n)).sqrt();
        ((centre - half).max(0.0), (centre + half).min(1.0))
    }

    /// Both counts together.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self { trials: self.trials + other.trials, successes: self.successes + other.successes }
    }

    /// What is left without these; never below 0.
    #[must_use]
    pub fn minus(self, other: Self) -> Self {
        let trials = (self.trials - other.trials).max(0.0);
        Self { trials, successes: (self.successes - other.successes).clamp(0.0, trials) }
    }
}

/// The difference of two shares, `one - other`, with its 95 % interval: the hybrid score interval (method 10 of
/// R. G. Newcombe, "Interval estimation for the difference between independent proportions", 1998).
pub fn difference(one: Rate, other: Rate) -> (f64, (f64, f64)) {
    const Z: f64 = 1.959_963_984_540_054;
    let (p, q) = (one.share(), other.share());
    let ((low, high), (other_low, other_high)) = (one.interval(Z), other.interval(Z));
    let below = ((p - low).powi(2) + (other_high - q).powi(2)).sqrt();
    let above = ((high - p).powi(2) + (q - other_low).powi(2)).sqrt();
    (p - q, (p - q - below, p - q + above))
}

/// How much more likely two rates are if their shares differ than if they do not, whenever one looks: if they do not, the chance
/// that this ever rises to `k` is at most about `1 / k`, so that looking after every episode does no harm. The mixture
/// sequential probability ratio test for a difference of two shares, with a normal distribution of differences around 0
/// (R. Johari, L. Pekelis, D. J. Walsh, "Always valid inference: bringing sequential analysis to A/B testing", 2015). One
/// success and one failure are added to both, so that few trials do not pass for sure (A. Agresti, B. Caffo, "Simple and
/// effective confidence intervals for proportions and differences of proportions", 2000).
pub fn sequential_ratio(one: Rate, other: Rate) -> f64 {
    /// The variance of the differences that are looked for: 0.3 squared.
    const MIXED: f64 = 0.09;
    let more = Rate::new(2.0, 1.0);
    let (one, other) = (one.plus(more), other.plus(more));
    let variance_of = |rate: Rate| rate.share() * (1.0 - rate.share()) / rate.trials;
    let variance = variance_of(one) + variance_of(other);
    let difference = one.share() - other.share();
    let exponent = MIXED * difference * difference / (2.0 * variance * (variance + MIXED));
    (variance / (variance + MIXED)).sqrt() * exponent.exp()
}

/// The episodes of one task: those that did something, and those that did not.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Stratum {
    /// With it.
    pub with: Rate,
    /// Without it.
    pub without: Rate,
}

/// What it makes to do something, compared within each task, so that easy tasks do not pass for good habits.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Contrast {
    /// The episodes that did it, of all tasks.
    pub with: Rate,
    /// The episodes that did not, of all tasks.
    pub without: Rate,
    /// The tasks that tell the two apart: some episodes did it, some did not, some succeeded, some failed.
    pub tasks: usize,
    /// The common log odds ratio of success; above 0, it helps. N. Mantel, W. Haenszel, "Statistical aspects of the analysis
    /// of data from retrospective studies of disease", 1959; one half is added to both sums, so that it is finite.
    pub log_odds: f64,
    /// The chance of an effect as large as this if there were none, two-sided: Mantel and Haenszel's score, with a variance
    /// from the differences between the tasks instead of from the single episodes (K.-Y. Liang, S. L. Zeger,
    /// "Longitudinal data analysis using generalized linear models", 1986), against Student's t with `tasks - 1` degrees of
    /// freedom. Repeated runs of one task are thus not taken for independent tasks.
    pub p_value: f64,
    /// The 95 % interval of the log odds ratio: test-based (O. Miettinen, "Estimability and estimation in case-referent
    /// studies", 1976).
    pub interval: (f64, f64),
}

impl Contrast {
    /// Compares within strata; `None` if fewer than `tasks` strata, at least two, tell anything, and if none of them differs from what
    /// chance would be expected to give.
    pub fn of(strata: impl IntoIterator<Item = Stratum>, tasks: usize) -> Option<Self> {
        let (mut with, mut without) = (Rate::default(), Rate::default());
        let (mut numerator, mut denominator) = (0.0, 0.0);
        let (mut score, mut variance, mut informative) = (0.0, 0.0, 0_usize);
        for Stratum { with: a, without: b } in strata {
            (with, without) = (with.plus(a), without.plus(b));
            let all = a.plus(b);
            let failures = all.trials - all.successes;
            if [a.trials, b.trials, all.successes, failures].into_iter().any(|count| count <= 1e-9) {
                continue;
            }
            numerator += a.successes * (b.trials - b.successes) / all.trials;
            denominator += (a.trials - a.successes) * b.successes / all.trials;
            let beyond = a.successes - a.trials * all.successes / all.trials;
            score += beyond;
            variance += beyond * beyond;
            informative += 1;
        }
        if informative < tasks.max(2) || variance <= 0.0 {
            return None;
        }
        let log_odds = ((numerator + 0.5) / (denominator + 0.5)).ln();
        let t = score / variance.sqrt();
        let student = StudentsT::new(0.0, 1.0, informative as f64 - 1.0).ok()?;
        let p_value = 2.0 * student.sf(t.abs());
        // Near no effect both vanish, and their quotient is noise; this is what it tends to.
        let error = if t.abs() < 1e-9 { variance.sqrt() / (denominator + 0.5) } else { (log_odds / t).abs() };
        let reach = student.inverse_cdf(0.975) * error;
        let interval = (log_odds - reach, log_odds + reach);
        Some(Self { with, without, tasks: informative, log_odds, p_value, interval })
    }

    /// The end of the interval that is nearer to no effect, as a distance from it: how large the effect is at least.
    /// Negative if the interval contains no effect.
    pub fn at_least(&self) -> f64 {
        if self.log_odds >= 0.0 { self.interval.0 } else { -self.interval.1 }
    }

    /// The standard error of the log odds ratio that goes with its interval.
    fn error(&self) -> f64 {
        ((self.interval.1 - self.interval.0) / (2.0 * 1.96)).max(1e-9)
    }

    /// The probability that this effect is larger than another one, taking both as normal and independent.
    pub fn better_than(&self, other: &Self) -> f64 {
        let error = self.error().hypot(other.error());
        Normal::standard().cdf((self.log_odds - other.log_odds) / error)
    }

    /// The chance of two effects as different as these if they were the same, two-sided.
    pub fn same_as(&self, other: &Self) -> f64 {
        let error = self.error().hypot(other.error());
        2.0 * Normal::standard().sf(((self.log_odds - other.log_odds) / error).abs())
    }
}

/// Which of many tests to believe so that the share of false ones among them stays below `rate`: the largest p value that is
/// (Y. Benjamini, Y. Hochberg, "Controlling the false discovery rate", 1995). `None` if there is none.
pub fn false_discovery_threshold(p_values: impl IntoIterator<Item = f64>, rate: f64) -> Option<f64> {
    let mut sorted: Vec<f64> = p_values.into_iter().collect();
    sorted.sort_unstable_by(f64::total_cmp);
    let count = sorted.len() as f64;
    let ranked = sorted.iter().enumerate().rev();
    ranked.into_iter().find(|(place, p)| **p <= rate * (*place as f64 + 1.0) / count).map(|(_, p)| *p)
}

#[cfg(test)]
mod tests {
    use rand::rngs::StdRng;
    use rand::{RngExt as _, SeedableRng as _};

    use super::*;

    fn near(a: f64, b: f64) {
        assert!((a - b).abs() < 5e-4, "{a} is not {b}");
    }

    #[test]
    fn difference_matches_newcombes_examples() {
        // R. G. Newcombe 1998, table II, method 10: 56/70 - 48/80 and 9/10 - 3/10.
        let (difference_one, (low, high)) = difference(Rate::new(70.0, 56.0), Rate::new(80.0, 48.0));
        near(difference_one, 0.2);
        near(low, 0.0524);
        near(high, 0.3339);
        let (_, (low, high)) = difference(Rate::new(10.0, 9.0), Rate::new(10.0, 3.0));
        near(low, 0.1705);
        near(high, 0.8090);
    }

    #[test]
    fn the_sequential_ratio_is_the_published_one() {
        // Shares of 1/4 and 3/4 with the added ones: a difference of 1/2 with a variance of 2 * 3/16 / 12.
        let ratio = sequential_ratio(Rate::new(10.0, 2.0), Rate::new(10.0, 8.0));
        let (variance, mixed) = (0.031_25_f64, 0.09_f64);
        let log = mixed * 0.25 / (2.0 * variance * (variance + mixed));
        near(ratio, (variance / (variance + mixed)).sqrt() * log.exp());
        assert!(sequential_ratio(Rate::default(), Rate::default()) < 1.0);
    }

    #[test]
    fn looking_after_every_trial_rarely_finds_a_difference_that_is_none() {
        let mut random = StdRng::seed_from_u64(1);
        let mut found = |one: f64, other: f64, harmful: &dyn Fn(Rate, Rate) -> bool| {
            let found = (0..1_000).filter(|_| {
                let (mut a, mut b) = (Rate::default(), Rate::default());
                (0..60).any(|_| {
                    a = a.plus(Rate::new(1.0, f64::from(u8::from(random.random_bool(one)))));
                    b = b.plus(Rate::new(1.0, f64::from(u8::from(random.random_bool(other)))));
                    a.trials >= 3.0 && harmful(a, b)
                })
            });
            found.count()
        };
        let sequential = |a: Rate, b: Rate| a.share() < b.share() && sequential_ratio(a, b) >= 20.0;
        let fixed = |a: Rate, b: Rate| difference(a, b).1.1 < 0.0;
        let (wrong, wrong_by_interval) = (found(0.6, 0.6, &sequential), found(0.6, 0.6, &fixed));
        assert!(wrong <= 50 && wrong_by_interval >= 100, "{wrong} and {wrong_by_interval} of 1,000");
        assert!(found(0.3, 0.8, &sequential) >= 990);
    }

    #[test]
    fn without_trials_anything_is_possible() {
        let (difference, (low, high)) = difference(Rate::default(), Rate::default());
        near(difference, 0.0);
        assert!(low <= -0.7 && high >= 0.7);
    }

    #[test]
    fn easy_tasks_do_not_pass_for_good_habits() {
        // The habit is common where success is common, and makes no difference within any task.
        let easy = Stratum { with: Rate::new(20.0, 16.0), without: Rate::new(5.0, 4.0) };
        let hard = Stratum { with: Rate::new(5.0, 1.0), without: Rate::new(20.0, 4.0) };
        let contrast = Contrast::of([easy, hard, easy, hard, easy, hard], 5);
        assert_eq!(contrast, None, "nothing beyond what is expected");
        let tilted = Stratum { with: Rate::new(20.0, 17.0), ..easy };
        let contrast = Contrast::of([tilted, hard, easy, hard, easy, hard], 5).unwrap();
        assert!(contrast.p_value > 0.3 && contrast.at_least() < 0.0, "{contrast:?}");
        assert!(contrast.with.share() - contrast.without.share() > 0.2, "pooled, it would look like a good habit");
    }

    #[test]
    fn the_odds_ratio_is_mantel_and_haenszels() {
        let strata = [
            Stratum { with: Rate::new(10.0, 8.0), without: Rate::new(10.0, 4.0) },
            Stratum { with: Rate::new(6.0, 3.0), without: Rate::new(12.0, 3.0) },
            Stratum { with: Rate::new(8.0, 7.0), without: Rate::new(4.0, 2.0) },
        ];
        let contrast = Contrast::of(strata, 3).unwrap();
        let numerator = 8.0 * 6.0 / 20.0 + 3.0 * 9.0 / 18.0 + 7.0 * 2.0 / 12.0;
        let denominator = 2.0 * 4.0 / 20.0 + 3.0 * 3.0 / 18.0 + 1.0 * 2.0 / 12.0;
        near(contrast.log_odds, ((numerator + 0.5_f64) / (denominator + 0.5)).ln());
        // The score is 2 + 1 + 1, the variance 4 + 1 + 1; Student's t with 2 degrees of freedom.
        near(contrast.p_value, 0.2441);
        assert!(contrast.interval.0 < 0.0 && contrast.interval.1 > contrast.log_odds);
        assert_eq!(contrast.tasks, 3);
        assert_eq!(Contrast::of(strata, 4), None);
    }

    #[test]
    fn no_effect_is_as_certain_as_the_smallest() {
        let interval = |more: f64| {
            let helps = Stratum { with: Rate::new(10.0, 7.0 + more), without: Rate::new(10.0, 5.0) };
            let harms = Stratum { with: Rate::new(10.0, 5.0), without: Rate::new(10.0, 7.0) };
            Contrast::of([helps, harms, helps, harms, helps, harms], 5).unwrap().interval
        };
        let (none, least, most) = (interval(0.0), interval(1e-12), interval(1e-5));
        assert!((none.0 + none.1).abs() < 1e-9 && none.1 > 0.1 && none.1 < 2.0, "{none:?}");
        for (a, b) in [(none.0, least.0), (none.1, least.1), (none.0, most.0), (none.1, most.1)] {
            near(a, b);
        }
    }

    #[test]
    fn larger_effects_are_probably_better() {
        let strong = [Stratum { with: Rate::new(10.0, 9.0), without: Rate::new(10.0, 2.0) }; 6];
        let mut weak = [Stratum { with: Rate::new(10.0, 6.0), without: Rate::new(10.0, 5.0) }; 6];
        weak[0].with.successes = 3.0;
        let mut strong = strong;
        strong[0].with.successes = 8.0;
        let (strong, weak) = (Contrast::of(strong, 2).unwrap(), Contrast::of(weak, 2).unwrap());
        assert!(strong.better_than(&weak) > 0.95);
        near(strong.better_than(&weak) + weak.better_than(&strong), 1.0);
        near(strong.same_as(&strong), 1.0);
        assert!(strong.same_as(&weak) < 0.1);
    }

    #[test]
    fn false_discoveries_are_bounded_by_the_published_rule() {
        // Y. Benjamini, Y. Hochberg 1995, section 3.3: at 0.05, four of fifteen.
        let p = [
            0.0001, 0.0004, 0.0019, 0.0095, 0.0201, 0.0278, 0.0298, 0.0344, 0.0459, 0.3240, 0.4262, 0.5719, 0.6528,
            0.7590, 1.0,
        ];
        assert_eq!(false_discovery_threshold(p, 0.05), Some(0.0095));
        assert_eq!(false_discovery_threshold([0.2, 0.9], 0.1), None);
        assert_eq!(false_discovery_threshold([], 0.1), None);
    }
}
