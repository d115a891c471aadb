//! Chance that repeats itself: the same family and seed give the same episode, on any machine.

/// `SplitMix64`.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// Begins for one episode.
    pub fn new(family: &str, seed: u64) -> Self {
        let mut state = 0xcbf2_9ce4_8422_2325_u64;
        for byte in family.bytes() {
            state = (state ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
        Self(state ^ seed.wrapping_mul(0x9e37_79b9_7f4a_7c15))
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number from `least` to `most`, both included.
    pub fn between(&mut self, least: i64, most: i64) -> i64 {
        let width = most.saturating_sub(least).unsigned_abs() + 1;
        least.saturating_add_unsigned(self.next() % width)
    }

    /// A number of a span, both ends included.
    pub fn within(&mut self, (least, most): (i64, i64)) -> i64 {
        self.between(least, most)
    }

    /// True in so many of 100 cases.
    pub fn chance(&mut self, percent: i64) -> bool {
        self.between(0, 99) < percent
    }

    /// One of several things.
    pub fn one_of<T: Clone>(&mut self, things: &[T]) -> T {
        let last = i64::try_from(things.len()).unwrap_or(i64::MAX) - 1;
        let index = usize::try_from(self.between(0, last)).unwrap_or(0);
        things[index].clone()
    }

    /// A word as Kubernetes makes them for names.
    pub fn word(&mut self, length: usize) -> String {
        let letters: Vec<char> = "bcdfghjklmnpqrstvwxz2456789".chars().collect();
        (0..length).map(|_| self.one_of(&letters)).collect()
    }
}
