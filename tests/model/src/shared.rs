//! What makes exploring fast: a quick hash, parts of a state that are shared until they change and hashed once, and a
//! table of the hashes that were seen. 64 bits a state: with ten million states the chance that any two meet is
//! about 3 in a million.

use std::cell::Cell;
use std::hash::{Hash, Hasher};
use std::rc::Rc;

/// A fast hash without a seed, so that every run counts the same states.
pub(crate) struct Fold(u64);

impl Default for Fold {
    fn default() -> Self {
        Self(0x9E37_79B9_7F4A_7C15)
    }
}

impl Hasher for Fold {
    fn finish(&self) -> u64 {
        let mut hash = self.0;
        hash = (hash ^ (hash >> 32)).wrapping_mul(0xd6e8_feb8_6659_fd93);
        hash = (hash ^ (hash >> 32)).wrapping_mul(0xd6e8_feb8_6659_fd93);
        hash ^ (hash >> 32)
    }

    fn write(&mut self, bytes: &[u8]) {
        let (words, rest) = bytes.as_chunks::<8>();
        for word in words {
            self.write_u64(u64::from_le_bytes(*word));
        }
        if !rest.is_empty() {
            self.write_u64(rest.iter().fold(0, |word, byte| word << 8 | u64::from(*byte)));
        }
    }

    fn write_u8(&mut self, value: u8) {
        self.write_u64(u64::from(value));
    }

    fn write_u32(&mut self, value: u32) {
        self.write_u64(u64::from(value));
    }

    fn write_usize(&mut self, value: usize) {
        self.write_u64(value as u64);
    }

    fn write_u64(&mut self, value: u64) {
        self.0 = (self.0.rotate_left(23) ^ value).wrapping_mul(0x517c_c1b7_2722_0a95);
    }
}

/// The hash of one value.
pub(crate) fn hash_of(value: &impl Hash) -> u64 {
    let mut fold = Fold::default();
    value.hash(&mut fold);
    fold.finish()
}

/// The hash of things whose order means nothing.
pub(crate) fn hash_unordered<T: Hash>(values: &[T]) -> u64 {
    values.iter().fold(values.len() as u64, |sum, value| sum.wrapping_add(hash_of(value)))
}

/// A part of a state: a clone shares it, a change copies it, its hash is computed once.
#[derive(Debug)]
pub(crate) struct Shared<T> {
    value: Rc<T>,
    /// 0: not computed since the last change.
    hash: Cell<u64>,
}

impl<T> Clone for Shared<T> {
    fn clone(&self) -> Self {
        Self { value: self.value.clone(), hash: self.hash.clone() }
    }
}

impl<T: Hash + Clone> Shared<T> {
    pub(crate) fn new(value: T) -> Self {
        Self { value: Rc::new(value), hash: Cell::new(0) }
    }

    pub(crate) fn get(&self) -> &T {
        &self.value
    }

    /// The value, to be changed.
    pub(crate) fn edit(&mut self) -> &mut T {
        self.hash.set(0);
        Rc::make_mut(&mut self.value)
    }

    pub(crate) fn hash_once(&self) -> u64 {
        if self.hash.get() == 0 {
            self.hash.set(hash_of(&*self.value) | 1);
        }
        self.hash.get()
    }
}

impl<T: Hash + Clone> Hash for Shared<T> {
    fn hash<H: Hasher>(&self, hasher: &mut H) {
        hasher.write_u64(self.hash_once());
    }
}

/// A set of hashes: open addressing, never shrinks.
pub(crate) struct Table {
    slots: Vec<u64>,
    len: usize,
}

impl Table {
    pub(crate) fn new() -> Self {
        Self { slots: vec![0; 1 << 12], len: 0 }
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Whether it was not there before.
    pub(crate) fn insert(&mut self, hash: u64) -> bool {
        if self.len * 2 >= self.slots.len() {
            let bigger = vec![0; self.slots.len() * 2];
            for old in std::mem::replace(&mut self.slots, bigger).into_iter().filter(|slot| *slot != 0) {
                self.place(old);
            }
        }
        let new = self.place(hash.max(1));
        self.len += usize::from(new);
        new
    }

    fn place(&mut self, hash: u64) -> bool {
        let mask = self.slots.len() - 1;
        let mut index = (hash >> 20) as usize & mask;
        loop {
            match self.slots[index] {
                0 => {
                    self.slots[index] = hash;
                    return true;
                }
                found if found == hash => return false,
                _ => index = (index + 1) & mask,
            }
        }
    }
}
