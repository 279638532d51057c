//! A set of documents.

/// One bit for each document.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Bits {
    words: Vec<u64>,
    len: usize,
}

impl Bits {
    pub(super) fn ones(len: usize) -> Self {
        let mut bits = Self { words: vec![u64::MAX; len.div_ceil(64)], len };
        if let Some(last) = bits.words.last_mut().filter(|_| !len.is_multiple_of(64)) {
            *last = (1 << (len % 64)) - 1;
        }
        bits
    }

    pub(super) fn zeros(len: usize) -> Self {
        Self { words: vec![0; len.div_ceil(64)], len }
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn push(&mut self, bit: bool) {
        if self.len.is_multiple_of(64) {
            self.words.push(0);
        }
        self.len += 1;
        if bit {
            self.words[(self.len - 1) / 64] |= 1 << ((self.len - 1) % 64);
        }
    }

    pub(super) fn set(&mut self, document: u32) {
        self.words[document as usize / 64] |= 1 << (document % 64);
    }

    pub(super) fn clear(&mut self, document: u32) {
        self.words[document as usize / 64] &= !(1 << (document % 64));
    }

    pub(super) fn contains(&self, document: u32) -> bool {
        self.words[document as usize / 64] >> (document % 64) & 1 == 1
    }

    pub(super) fn count(&self) -> usize {
        self.words.iter().map(|word| word.count_ones() as usize).sum()
    }

    /// Keeps what is in the other set, too.
    pub(super) fn intersect(&mut self, other: &Self) {
        self.words.iter_mut().zip(&other.words).for_each(|(own, other)| *own &= other);
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = u32> {
        (0_u32..).step_by(64).zip(&self.words).flat_map(|(first, word)| {
            let mut rest = *word;
            std::iter::from_fn(move || {
                let place = rest.trailing_zeros();
                rest &= rest.wrapping_sub(1);
                (place < 64).then_some(first + place)
            })
        })
    }

    pub(super) fn retain(&mut self, mut keep: impl FnMut(u32) -> bool) {
        for (first, word) in (0_u32..).step_by(64).zip(&mut self.words) {
            let mut rest = *word;
            while rest != 0 {
                let place = rest.trailing_zeros();
                rest &= rest - 1;
                if !keep(first + place) {
                    *word &= !(1 << place);
                }
            }
        }
    }

    pub(super) fn words(&self) -> &[u64] {
        &self.words
    }

    /// The set of so many documents with these words; `None` if these are too few, or have bits beyond.
    pub(super) fn of_words(words: Vec<u64>, len: usize) -> Option<Self> {
        let beyond = words.last().is_some_and(|last| !len.is_multiple_of(64) && last >> (len % 64) != 0);
        (words.len() == len.div_ceil(64) && !beyond).then_some(Self { words, len })
    }

    pub(super) fn bytes(&self) -> usize {
        self.words.capacity() * size_of::<u64>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn holds_what_was_set() {
        let mut bits = Bits::default();
        (0..200).for_each(|n| bits.push(n % 3 == 0));
        bits.clear(9);
        bits.set(10);
        let expected: Vec<u32> = (0..200).filter(|n| n % 3 == 0 && *n != 9 || *n == 10).collect();
        assert_eq!(bits.iter().collect::<Vec<_>>(), expected);
        assert_eq!((bits.count(), bits.len()), (expected.len(), 200));
        assert!(bits.contains(10) && !bits.contains(9));
        bits.retain(|n| n < 100);
        assert_eq!(bits.iter().max(), Some(99));
        let mut ones = Bits::ones(200);
        assert_eq!((ones.count(), Bits::zeros(200).count()), (200, 0));
        ones.intersect(&bits);
        assert_eq!(ones, bits);
        assert_eq!(Bits::of_words(ones.words().to_vec(), 200), Some(ones.clone()));
        assert_eq!(Bits::of_words(ones.words().to_vec(), 90), None);
        assert_eq!(Bits::of_words(vec![u64::MAX], 63), None);
    }
}
