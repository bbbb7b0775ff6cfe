//! Random moments that can be had again: the seed is printed, and `TONGTU_SEED` sets it.

use crate::wait;

/// A small generator (xorshift64*); good enough to choose moments and victims.
#[derive(Debug)]
pub struct Random(u64);

impl Random {
    /// From `TONGTU_SEED`, or from the time; says which.
    #[must_use]
    #[expect(clippy::new_without_default, reason = "it reads the environment and prints")]
    pub fn new() -> Self {
        let seed = std::env::var("TONGTU_SEED")
            .ok()
            .and_then(|text| text.parse().ok())
            .unwrap_or_else(|| wait::wall_ms().unsigned_abs());
        eprintln!("TONGTU_SEED={seed}");
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// A number from 0 to below `limit`.
    pub fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % limit.max(1)
    }
}
