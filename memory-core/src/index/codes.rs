//! Vectors as one bit a dimension.
//!
//! A vector is rotated by random signs and a Hadamard transform (N. Ailon, B. Chazelle, "The Fast Johnson–Lindenstrauss
//! Transform", 2009), so that what it says is spread over all dimensions, also where it has many zeros; then only the signs
//! are kept. The share of the bits in which two codes differ estimates the angle between the vectors (M. Charikar,
//! "Similarity Estimation Techniques from Rounding Algorithms", 2002).

use pulp::{Arch, Simd, WithSimd};
use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::bits::Bits;
use crate::Vector;

/// The bits of the shortest code. Vectors of fewer dimensions are rotated in several ways.
const LEAST_BITS: usize = 256;

/// The signs of a vector after the rotation: of as many dimensions as the next power of two, at least 256.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Code(Vec<u64>);

impl Code {
    pub(super) fn of(vector: &Vector) -> Self {
        let dimensions = vector.dimensions().next_power_of_two().max(64);
        let rotations = LEAST_BITS.div_ceil(dimensions).max(1);
        let mut code = Vec::with_capacity(rotations * dimensions / 64);
        for rotation in 0..rotations {
            let mut rotated = vec![0.0_f32; dimensions];
            for ((place, component), rotated) in (0_u64..).zip(vector.as_slice()).zip(&mut rotated) {
                // Of unit length, so that no sum overflows or vanishes.
                #[expect(clippy::cast_possible_truncation, reason = "a share of 1 in single precision")]
                let share = (f64::from(*component) / vector.norm()) as f32;
                *rotated = if sign(rotation as u64, place) { share } else { -share };
            }
            hadamard(&mut rotated);
            let word = |signs: &[f32]| signs.iter().rev().fold(0, |word, x| word << 1 | u64::from(*x > 0.0));
            code.extend(rotated.chunks_exact(64).map(word));
        }
        Self(code)
    }
}

/// The random sign of a dimension in a rotation, the same for ever.
fn sign(rotation: u64, place: u64) -> bool {
    xxh3_64_with_seed(&(place / 64).to_le_bytes(), rotation) >> (place % 64) & 1 == 1
}

/// The Walsh–Hadamard transform, not normalised; the length is a power of two.
fn hadamard(values: &mut [f32]) {
    let mut half = 1;
    while half < values.len() {
        for block in values.chunks_exact_mut(2 * half) {
            let (low, high) = block.split_at_mut(half);
            for (a, b) in low.iter_mut().zip(high) {
                (*a, *b) = (*a + *b, *a - *b);
            }
        }
        half *= 2;
    }
}

/// The codes of the documents.
#[derive(Debug, Default)]
pub(super) struct Codes {
    /// Those of all documents, one behind the other; zeros for those without.
    pub(super) bits: Vec<u64>,
    /// The documents that have one.
    pub(super) coded: Bits,
}

impl Codes {
    /// The words of each code; 0 as long as there is none.
    fn width(&self) -> usize {
        self.bits.len().checked_div(self.coded.len()).unwrap_or_default()
    }

    pub(super) fn push(&mut self, code: Option<Code>) {
        let before = self.coded.len();
        self.coded.push(code.is_some());
        match code {
            Some(Code(words)) => {
                // Documents that came before the first code.
                self.bits.resize(before * words.len(), 0);
                self.bits.extend_from_slice(&words);
            }
            None => {
                let width = self.bits.len().checked_div(before).unwrap_or_default();
                self.bits.extend(std::iter::repeat_n(0, width));
            }
        }
    }

    /// The documents whose codes differ least from this one, about `depth` of them or all, in no order.
    pub(super) fn nearest(&self, code: &Code, accepted: &Bits, depth: usize, distances: &mut Vec<u16>) -> Vec<u32> {
        if self.width() != code.0.len() {
            return Vec::new(); // There is none.
        }
        let mut candidates = accepted.clone();
        candidates.intersect(&self.coded);
        let count = candidates.count();
        if count <= depth {
            return candidates.iter().collect();
        }
        let all = count > self.coded.len() / 4;
        let few: Vec<u32> = if all { Vec::new() } else { candidates.iter().collect() };
        if all {
            Arch::new().dispatch(Distances { codes: &self.bits, code: &code.0, of: None, into: distances });
            // What is no candidate is farther than anything.
            let words = candidates.words();
            for (chunk, word) in distances.chunks_mut(64).zip(words).filter(|(_, word)| **word != u64::MAX) {
                let others = chunk.iter_mut().enumerate().filter(|(place, _)| word >> place & 1 == 0);
                others.for_each(|(_, distance)| *distance = u16::MAX);
            }
        } else {
            Arch::new().dispatch(Distances { codes: &self.bits, code: &code.0, of: Some(&few), into: distances });
        }
        let farthest = u16::try_from(code.0.len() * 64).unwrap_or(u16::MAX - 1);
        let within = threshold(distances, farthest, depth);
        let near = distances.iter().enumerate().filter(|(_, distance)| **distance <= within).map(|(place, _)| place);
        let document = |place: usize| if all { super::number_of(place) } else { few[place] };
        near.map(document).collect()
    }

    pub(super) fn keep(&mut self, numbers: &[Option<u32>]) {
        let width = self.width();
        let mut kept = Self::default();
        for (document, _) in numbers.iter().enumerate().filter(|(_, number)| number.is_some()) {
            kept.bits.extend_from_slice(&self.bits[document * width..(document + 1) * width]);
            kept.coded.push(self.coded.contains(super::number_of(document)));
        }
        *self = kept;
    }

    pub(super) fn bytes(&self) -> usize {
        self.bits.capacity() * size_of::<u64>() + self.coded.bytes()
    }
}

/// The smallest distance within which at least `depth` lie; `farthest` is the largest that counts.
fn threshold(distances: &[u16], farthest: u16, depth: usize) -> u16 {
    let mut counts = vec![0_usize; usize::from(farthest) + 1];
    for distance in distances.iter().filter(|distance| **distance <= farthest) {
        counts[usize::from(*distance)] += 1;
    }
    let mut within = 0;
    let reached = counts.iter().position(|count| {
        within += count;
        within >= depth
    });
    reached.and_then(|place| u16::try_from(place).ok()).unwrap_or(farthest)
}

/// Counts in how many bits codes differ from one, with the instructions that the machine has.
struct Distances<'a> {
    codes: &'a [u64],
    code: &'a [u64],
    /// Which codes; `None` for all.
    of: Option<&'a [u32]>,
    into: &'a mut Vec<u16>,
}

impl WithSimd for Distances<'_> {
    type Output = ();

    /// Plain loops: a closure that is handed on would be compiled for the machine that all have.
    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        // Constant widths are unrolled: up to 1,024 dimensions.
        match self.code.len() {
            4 => self.of_width::<4>(),
            8 => self.of_width::<8>(),
            16 => self.of_width::<16>(),
            width => {
                self.into.resize(self.of.map_or(self.codes.len() / width, <[u32]>::len), 0);
                for (place, distance) in self.into.iter_mut().enumerate() {
                    let start = self.of.map_or(place, |few| few[place] as usize) * width;
                    *distance = difference(&self.codes[start..start + width], self.code);
                }
            }
        }
    }
}

impl Distances<'_> {
    #[inline(always)]
    fn of_width<const WIDTH: usize>(self) {
        let Some((code, _)) = self.code.split_first_chunk::<WIDTH>() else { return };
        let (codes, _) = self.codes.as_chunks::<WIDTH>();
        match self.of {
            None => {
                self.into.resize(codes.len(), 0);
                for (distance, own) in self.into.iter_mut().zip(codes) {
                    *distance = difference(own, code);
                }
            }
            Some(few) => {
                self.into.resize(few.len(), 0);
                for (distance, document) in self.into.iter_mut().zip(few) {
                    *distance = difference(&codes[*document as usize], code);
                }
            }
        }
    }
}

/// In how many bits two codes of one length differ; no more than 65,535 count.
#[inline(always)]
fn difference(a: &[u64], b: &[u64]) -> u16 {
    let mut bits = 0_u32;
    for (a, b) in a.iter().zip(b) {
        bits += (a ^ b).count_ones();
    }
    u16::try_from(bits).unwrap_or(u16::MAX)
}
