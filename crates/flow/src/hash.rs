//! One hash for everything that is only to be told apart: leases put in an order, configs named, traces compared.
//! It keeps no secret, and is the same on every machine and in every version, because some of it is stored.

/// 64 well mixed bits of [`hash128`] (the finalizer is MurmurHash3's fmix64: orders drawn from it look random).
pub fn hash64(parts: &[&[u8]]) -> u64 {
    let hash = hash128(parts);
    let mut hash = (hash >> 64) as u64 ^ hash as u64;
    hash = (hash ^ (hash >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    hash = (hash ^ (hash >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    hash ^ (hash >> 33)
}

/// FNV-1a over the parts, each closed by its length, 128 bits.
pub fn hash128(parts: &[&[u8]]) -> u128 {
    const OFFSET: u128 = 0x6c62_272e_07bb_0142_62b8_2175_6295_c58d;
    const PRIME: u128 = 0x0000_0000_0100_0000_0000_0000_0000_013b;
    let mut hash = OFFSET;
    let mut add = |byte: u8| hash = (hash ^ u128::from(byte)).wrapping_mul(PRIME);
    for part in parts {
        part.iter().copied().for_each(&mut add);
        (part.len() as u64).to_be_bytes().into_iter().for_each(&mut add);
    }
    hash
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_do_not_run_parts_together() {
        assert_ne!(hash128(&[b"ab", b"c"]), hash128(&[b"a", b"bc"]));
        assert_ne!(hash64(&[b"a"]), hash64(&[b"b"]));
    }

    #[test]
    fn what_is_stored_stays_what_it_is() {
        assert_eq!(hash64(&[b"standpipe"]), 0xa561_abeb_d4ce_6de1, "commit ids carry a fingerprint made of this");
    }
}
