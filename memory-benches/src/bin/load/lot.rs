//! Episodes that are made before a clock starts.

use std::ops::Range;

use memory_benches::{Corpus, Form};
use memory_core::{LoggedEpisode, Recording, Vector};

use crate::AnyError;

/// Episodes of which the bytes are made, for what writes bytes only; those of more would be of no other size.
const SAMPLES: usize = 2_000;

/// The next episodes of a corpus.
pub(crate) struct Lot {
    pub(crate) episodes: Vec<LoggedEpisode>,
}

impl Lot {
    pub(crate) fn new(corpus: &Corpus, places: Range<u32>) -> Self {
        Self { episodes: places.map(|place| corpus.episode(place, Form::Whole)).collect() }
    }

    pub(crate) fn recordings(&self) -> Vec<Recording> {
        self.episodes.iter().map(|logged| Recording::from(&*logged.episode)).collect()
    }

    /// The texts that are embedded, and their vectors.
    pub(crate) fn vectors(&self) -> impl Iterator<Item = (String, Vector)> {
        self.episodes.iter().filter_map(|logged| Some((logged.episode.task.text.clone(), logged.vector.clone()?)))
    }

    /// The records as bytes: JSON and vector.
    pub(crate) fn samples(&self) -> Result<Vec<Vec<u8>>, AnyError> {
        self.episodes.iter().take(SAMPLES).map(bytes).collect()
    }

    /// The bytes of all of them together.
    pub(crate) fn logical_bytes(&self) -> u64 {
        let vector = |logged: &LoggedEpisode| logged.vector.as_ref().map_or(0, |vector| 4 * vector.dimensions());
        self.episodes.iter().map(|logged| (logged.episode.encoded_len() + vector(logged)) as u64).sum()
    }
}

fn bytes(logged: &LoggedEpisode) -> Result<Vec<u8>, AnyError> {
    let mut bytes = serde_json::to_vec(&*logged.episode)?;
    let components = logged.vector.iter().flat_map(|vector| vector.as_slice());
    bytes.extend(components.flat_map(|component| component.to_le_bytes()));
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_counted_as_they_are_made() {
        let lot = Lot::new(&Corpus::new(1), 5..15);
        let samples = lot.samples().unwrap();
        assert_eq!(samples.len(), 10);
        assert_eq!(samples.iter().map(Vec::len).sum::<usize>() as u64, lot.logical_bytes());
        assert_eq!(lot.vectors().count(), 10);
    }
}
