//! Chance comes from the host: counter-based keys, so that no draw depends on the order of any other.

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

/// What a stream of random numbers is for. The numbers are part of the format: never renumber.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u64)]
pub enum Purpose {
    /// Dealing examples to clients.
    Partition = 1,
    /// The global model's first weights.
    Init = 2,
    /// The order in which a client sees its examples.
    Shuffle = 3,
    /// Which clients take part in a round.
    Cohort = 4,
    /// Minibatches of circuit discovery.
    Discovery = 5,
    /// The drawn digits.
    Digits = 6,
    /// Random circuits, and searches done again.
    Controls = 7,
    /// Searches in the weights a run started from.
    Untrained = 8,
    /// Labels permuted, and searches with them.
    Permuted = 9,
    /// Weights shuffled, and searches in them.
    Shuffled = 10,
    /// Training without federation, and searches in its model.
    Centralised = 11,
    /// Images whose activations stand in for ablated ones.
    Donors = 12,
    /// Whether a client drops out of a round.
    Dropout = 13,
    /// Who does only some of the local epochs, and how many.
    Straggling = 14,
}

/// The key of a stream that belongs to no round.
pub const NO_ROUND: u64 = u64::MAX;
/// The key of a stream that belongs to no client.
pub const NO_CLIENT: u64 = u64::MAX;

/// The stream for (seed, round, client, purpose): equal keys give equal numbers, on every machine.
pub fn stream(seed: u64, round: u64, client: u64, purpose: Purpose) -> ChaCha8Rng {
    let mut key = [0u8; 32];
    for (slot, word) in key.chunks_exact_mut(8).zip([seed, round, client, purpose as u64]) {
        slot.copy_from_slice(&word.to_le_bytes());
    }
    ChaCha8Rng::from_seed(key)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::Rng;

    #[test]
    fn streams_differ_in_every_part_of_the_key_and_repeat() {
        let first = |s, r, c, p| stream(s, r, c, p).next_u64();
        let base = first(1, 2, 3, Purpose::Shuffle);
        assert_eq!(base, first(1, 2, 3, Purpose::Shuffle));
        for other in [
            first(2, 2, 3, Purpose::Shuffle),
            first(1, 3, 3, Purpose::Shuffle),
            first(1, 2, 4, Purpose::Shuffle),
            first(1, 2, 3, Purpose::Init),
        ] {
            assert_ne!(base, other);
        }
    }

    /// The numbers are part of the format: a seed's federation is another one where any of them changes.
    #[test]
    fn purposes_keep_their_numbers_and_keys_their_layout() {
        use Purpose::*;
        let all = [
            Partition,
            Init,
            Shuffle,
            Cohort,
            Discovery,
            Digits,
            Controls,
            Untrained,
            Permuted,
            Shuffled,
            Centralised,
            Donors,
            Dropout,
            Straggling,
        ];
        assert_eq!(all.map(|purpose| purpose as u64), std::array::from_fn(|i| i as u64 + 1));
        assert_eq!((NO_ROUND, NO_CLIENT), (u64::MAX, u64::MAX));
        for purpose in all {
            // Four words of eight bytes each, the least significant first.
            let mut key = [0; 32];
            (key[0], key[8], key[16], key[24]) = (1, 2, 3, purpose as u8);
            key[9] = 4;
            let want = ChaCha8Rng::from_seed(key).next_u64();
            assert_eq!(stream(1, 2 + 4 * 256, 3, purpose).next_u64(), want, "{purpose:?}");
        }
        assert_eq!(stream(1, 2, 3, Cohort).next_u64(), 0x10fb_f7e8_ae24_33fc, "on every machine");
    }
}
