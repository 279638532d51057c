//! What is kept when there is not room for all.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};

use foldhash::fast::RandomState;
use memory_core::Key;

/// Values by key, as many as there is room for.
///
/// Who goes when the room is full is decided by CLOCK (F. Corbató, "A Paging Experiment with the Multics System", 1968): a hand
/// goes round, passes over each value that was asked for since it last came by, and takes the first that was not. That is nearly
/// the least recently used, and asking for a value changes but a bit, so that readers do not wait for one another.
#[derive(Debug)]
pub(super) struct SecondChance<V> {
    most: usize,
    most_bytes: u64,
    bytes: u64,
    places: HashMap<Key, usize, RandomState>,
    slots: Vec<Option<Slot<V>>>,
    free: Vec<usize>,
    hand: usize,
}

#[derive(Debug)]
struct Slot<V> {
    key: Key,
    bytes: u64,
    asked: AtomicBool,
    value: V,
}

impl<V> SecondChance<V> {
    /// Room for so many values, and so many bytes.
    pub(super) fn new(most: usize, most_bytes: u64) -> Self {
        let places = HashMap::default();
        Self { most, most_bytes, bytes: 0, places, slots: Vec::new(), free: Vec::new(), hand: 0 }
    }

    /// The value of a key, which then stays when the hand next comes by.
    pub(super) fn get(&self, key: &Key) -> Option<&V> {
        let slot = self.slots[*self.places.get(key)?].as_ref()?;
        // Most are marked already: what is not written to is shared between the processors.
        if !slot.asked.load(Ordering::Relaxed) {
            slot.asked.store(true, Ordering::Relaxed);
        }
        Some(&slot.value)
    }

    /// Puts a value of so many bytes in place of the one with the same key, if any. Tells which others had to go, and the key
    /// itself if it is too large for all the room there is.
    pub(super) fn put(&mut self, key: Key, bytes: u64, value: V) -> Vec<Key> {
        self.remove(&key);
        if bytes > self.most_bytes {
            return vec![key];
        }
        let mut gone = Vec::new();
        while !self.has_room(bytes) {
            gone.extend(self.evict());
        }
        let slot = Some(Slot { key: key.clone(), bytes, asked: AtomicBool::new(false), value });
        let place = match self.free.pop() {
            Some(place) => {
                self.slots[place] = slot;
                place
            }
            None => {
                self.slots.push(slot);
                self.slots.len() - 1
            }
        };
        self.bytes += bytes;
        self.places.insert(key, place);
        gone
    }

    pub(super) fn remove(&mut self, key: &Key) -> Option<V> {
        let place = self.places.remove(key)?;
        let slot = self.slots[place].take()?;
        self.free.push(place);
        self.bytes -= slot.bytes;
        Some(slot.value)
    }

    /// Takes the first that nobody asked for since the hand last came by.
    fn evict(&mut self) -> Option<Key> {
        // Twice round: after once, nobody has asked.
        for _ in 0..2 * self.slots.len() {
            self.hand = (self.hand + 1) % self.slots.len();
            let spared = match &mut self.slots[self.hand] {
                Some(slot) => std::mem::take(slot.asked.get_mut()),
                None => true,
            };
            if !spared {
                let key = self.slots[self.hand].as_ref().map(|slot| slot.key.clone())?;
                self.remove(&key);
                return Some(key);
            }
        }
        None
    }

    /// All keys with their values, in no order.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&Key, &V)> {
        self.slots.iter().flatten().map(|slot| (&slot.key, &slot.value))
    }

    /// Whether so many bytes fit in without anything having to go.
    pub(super) fn has_room(&self, bytes: u64) -> bool {
        self.places.len() < self.most && self.bytes.saturating_add(bytes) <= self.most_bytes
    }

    /// The value of a key, without asking for it.
    pub(super) fn peek(&self, key: &Key) -> Option<&V> {
        self.slots[*self.places.get(key)?].as_ref().map(|slot| &slot.value)
    }

    /// Whether there is a value, without asking for it.
    pub(super) fn contains(&self, key: &Key) -> bool {
        self.places.contains_key(key)
    }

    pub(super) fn len(&self) -> usize {
        self.places.len()
    }

    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use memory_core::testkit::samples::episode_id;
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    fn key(n: u32) -> Key {
        Key::Episode(episode_id(n))
    }

    #[test]
    fn what_was_asked_for_stays_and_the_oldest_of_the_rest_goes() {
        let mut kept = SecondChance::new(4, 1_000);
        for n in 0..4 {
            assert_eq!(kept.put(key(n), 10, n), []);
        }
        assert_eq!((kept.get(&key(1)), kept.get(&key(9))), (Some(&1), None));
        let gone: Vec<Key> = (4..7).flat_map(|n| kept.put(key(n), 10, n)).collect();
        assert_eq!(gone.len(), 3);
        assert!(!gone.contains(&key(1)), "it was asked for: {gone:?}");
        assert_eq!(kept.get(&key(1)), Some(&1));
        // Asked for once, it does not stay for ever.
        let gone: Vec<Key> = (10..30).flat_map(|n| kept.put(key(n), 10, n)).collect();
        assert!(gone.contains(&key(1)) && kept.len() == 4);
    }

    #[test]
    fn bytes_make_room_as_well_as_numbers() {
        let mut kept = SecondChance::new(100, 100);
        for n in 0..10 {
            assert_eq!(kept.put(key(n), 10, n), []);
        }
        assert_eq!(kept.put(key(10), 95, 10).len(), 10, "all others go");
        assert_eq!((kept.len(), kept.bytes()), (1, 95));
        assert_eq!(kept.put(key(11), 101, 11), [key(11)], "too large for the room there is");
        assert_eq!(kept.put(key(10), 101, 12), [key(10)], "nor does the old one stay");
        assert_eq!((kept.len(), kept.bytes()), (0, 0));
        assert_eq!(kept.put(key(12), 0, 12), []);
        assert_eq!(kept.remove(&key(12)), Some(12));
        assert_eq!(kept.iter().count(), 0);
        assert!(SecondChance::new(3, 0).put(key(1), 1, ()) == [key(1)]);
    }

    proptest! {
        /// Whatever is put, asked for and removed: what is told to be gone is gone, all the rest is there, and both bounds hold.
        #[test]
        fn it_knows_what_it_has(changes in vec((0..3_u8, 0..12_u32, 0..50_u64), 0..200)) {
            let mut kept = SecondChance::new(6, 120);
            let mut model = std::collections::BTreeMap::new();
            for (change, n, bytes) in changes {
                match change {
                    0 => {
                        model.insert(n, bytes);
                        for gone in kept.put(key(n), bytes, bytes) {
                            model.retain(|n, _| key(*n) != gone);
                        }
                    }
                    1 => prop_assert_eq!(kept.get(&key(n)), model.get(&n)),
                    _ => prop_assert_eq!(kept.remove(&key(n)), model.remove(&n)),
                }
                prop_assert_eq!(kept.bytes(), model.values().sum::<u64>());
                prop_assert!(kept.len() <= 6 && kept.bytes() <= 120);
                let mut all: Vec<_> = kept.iter().map(|(key, bytes)| (key.clone(), *bytes)).collect();
                all.sort();
                prop_assert_eq!(all, model.iter().map(|(n, bytes)| (key(*n), *bytes)).collect::<Vec<_>>());
            }
        }
    }
}
