//! Implements, of the arrow `what the user wrote -> what it means`: the nearest valid name for a hint.
//!
//! Never: corrects anything by itself.

/// The candidate that `written` most likely stands for: the closest by edits (a swap counts one), when that is at most
/// a third of its length and at least one letter agrees. Ties go to the first candidate.
pub(crate) fn nearest<'a>(written: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    if written.len() > 64 {
        return None;
    }
    let folded = fold(written);
    candidates
        .into_iter()
        .map(|candidate| (strsim::osa_distance(&folded, &fold(candidate)), candidate))
        .filter(|(edits, candidate)| {
            let longest = candidate.chars().count().max(written.chars().count());
            *edits <= (longest / 3).max(1) && *edits < longest
        })
        .min_by_key(|(edits, _)| *edits)
        .map(|(_, candidate)| candidate)
}

/// Spellings that people take for one another: `errorPrefix`, `error-prefix`, `ERROR_PREFIX`.
fn fold(name: &str) -> String {
    let mut folded = String::with_capacity(name.len() + 4);
    let mut lower_before = false;
    for c in name.chars() {
        if c.is_ascii_uppercase() && lower_before {
            folded.push('_');
        }
        lower_before = c.is_ascii_lowercase();
        folded.push(if c == '-' || c == ' ' { '_' } else { c.to_ascii_lowercase() });
    }
    folded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn typing_errors_and_spellings_find_their_name() {
        let keys = ["bucket", "buffer", "prefix", "error_prefix", "compression"];
        assert_eq!(nearest("bukcet", keys), Some("bucket"));
        assert_eq!(nearest("errorPrefix", keys), Some("error_prefix"));
        assert_eq!(nearest("Error-Prefix", keys), Some("error_prefix"));
        assert_eq!(nearest("compresion", keys), Some("compression"));
        assert_eq!(nearest("zebra", keys), None);
        assert_eq!(nearest("", keys), None);
        assert_eq!(nearest("x", ["y"]), None);
    }
}
