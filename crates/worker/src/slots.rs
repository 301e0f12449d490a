//! Slots with generations: a stale number never reaches another occupant of the same slot.
//!
//! Connections and watched descriptors are named by [`Key`]s in epoll tokens and timer keys, which may come back after
//! their owner is gone. Kept small enough for an epoll token: 24 bits of generation, 32 of index.

/// Names one occupant of one slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Key {
    index: u32,
    generation: u32,
}

impl Key {
    const GENERATIONS: u32 = (1 << 24) - 1;

    /// The key with `kind` (not 0, at most 0xef) in the top byte.
    pub(crate) fn token(self, kind: u8) -> u64 {
        u64::from(kind) << 56 | u64::from(self.generation) << 32 | u64::from(self.index)
    }

    /// The inverse of [`Self::token`], without the kind.
    pub(crate) fn from_token(token: u64) -> Self {
        let low = u32::try_from(token & u64::from(u32::MAX)).unwrap_or(u32::MAX);
        let high = u32::try_from(token >> 32 & u64::from(Self::GENERATIONS)).unwrap_or(0);
        Self { index: low, generation: high }
    }

    fn at(self) -> usize {
        self.index as usize
    }
}

#[derive(Debug)]
struct Slot<T> {
    generation: u32,
    value: Option<T>,
}

/// A table of `T`s named by keys.
#[derive(Debug)]
pub(crate) struct Slots<T> {
    slots: Vec<Slot<T>>,
    free: Vec<u32>,
}

impl<T> Default for Slots<T> {
    fn default() -> Self {
        Self { slots: Vec::new(), free: Vec::new() }
    }
}

impl<T> Slots<T> {
    /// Puts `value` into a free slot.
    pub(crate) fn insert(&mut self, value: T) -> Key {
        if let Some(index) = self.free.pop()
            && let Some(slot) = self.slots.get_mut(index as usize)
        {
            slot.value = Some(value);
            return Key { index, generation: slot.generation };
        }
        let index = u32::try_from(self.slots.len()).unwrap_or(u32::MAX);
        self.slots.push(Slot { generation: 0, value: Some(value) });
        Key { index, generation: 0 }
    }

    /// The occupant, if the key still means it.
    pub(crate) fn get(&self, key: Key) -> Option<&T> {
        self.slots.get(key.at()).filter(|slot| slot.generation == key.generation)?.value.as_ref()
    }

    /// The occupant, if the key still means it.
    pub(crate) fn get_mut(&mut self, key: Key) -> Option<&mut T> {
        self.slots.get_mut(key.at()).filter(|slot| slot.generation == key.generation)?.value.as_mut()
    }

    /// Takes the occupant out; the key and its copies mean nobody from now on.
    pub(crate) fn remove(&mut self, key: Key) -> Option<T> {
        let slot = self.slots.get_mut(key.at()).filter(|slot| slot.generation == key.generation)?;
        let value = slot.value.take()?;
        slot.generation = (slot.generation + 1) & Key::GENERATIONS;
        self.free.push(key.index);
        Some(value)
    }

    /// How many are occupied.
    pub(crate) fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    /// All occupants.
    pub(crate) fn values(&self) -> impl Iterator<Item = &T> {
        self.slots.iter().filter_map(|slot| slot.value.as_ref())
    }

    /// The keys of all occupants.
    pub(crate) fn keys(&self) -> Vec<Key> {
        (0u32..)
            .zip(&self.slots)
            .filter(|(_, slot)| slot.value.is_some())
            .map(|(index, slot)| Key { index, generation: slot.generation })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stale_key_means_nobody() {
        let mut slots = Slots::default();
        let first = slots.insert("a");
        assert_eq!(slots.remove(first), Some("a"));
        let second = slots.insert("b");
        assert_eq!(slots.get(first), None);
        assert_eq!(slots.get_mut(second).copied(), Some("b"));
        assert_eq!((slots.len(), slots.keys()), (1, vec![second]));
        assert_eq!(slots.remove(first), None);
    }

    #[test]
    fn keys_survive_the_journey_through_a_token() {
        let key = Key { index: 0xdead_beef, generation: 0x00ab_cdef };
        assert_eq!(Key::from_token(key.token(0xef)), key);
        assert_eq!(key.token(3) >> 56, 3);
    }
}
