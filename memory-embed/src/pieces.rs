//! Long texts in pieces.

/// Cuts a text into pieces of at most so many bytes, between words where there are any; nothing is left out but the spaces
/// between two pieces. At least one piece, for an empty text too.
pub(crate) fn pieces(text: &str, longest: usize) -> Vec<&str> {
    let (mut pieces, mut rest) = (Vec::new(), text);
    while rest.len() > longest {
        // A character is always taken, however short pieces are to be.
        let first = rest.chars().next().map_or(0, char::len_utf8);
        let end = (first..=longest).rev().find(|place| rest.is_char_boundary(*place)).unwrap_or(first);
        // Not so far back that pieces get much shorter than they may be.
        let word = rest[..end].rfind(char::is_whitespace).filter(|place| *place > end / 2).unwrap_or(end);
        pieces.push(&rest[..word]);
        rest = rest[word..].trim_start();
    }
    if !rest.is_empty() || pieces.is_empty() {
        pieces.push(rest);
    }
    pieces
}

/// The mean of vectors, weighted; all of one length, and at least one.
pub(crate) fn mean(vectors: &[(f64, Vec<f32>)]) -> Vec<f32> {
    let total: f64 = vectors.iter().map(|(weight, _)| weight).sum();
    let dimensions = vectors.first().map_or(0, |(_, vector)| vector.len());
    let component = |place: usize| {
        let sum: f64 = vectors.iter().map(|(weight, vector)| weight * f64::from(vector[place])).sum();
        narrow(sum / total)
    };
    (0..dimensions).map(component).collect()
}

/// The vector brought to length 1; a zero vector stays.
pub(crate) fn normalise(vector: &mut [f32]) {
    let norm = vector.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>().sqrt();
    if norm > 0.0 {
        vector.iter_mut().for_each(|x| *x = narrow(f64::from(*x) / norm));
    }
}

#[expect(clippy::cast_possible_truncation, reason = "a mean of f32, or a part of one, is within f32")]
fn narrow(x: f64) -> f32 {
    x as f32
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn pieces_are_short_enough_and_lose_no_letter(text in "(\\PC|\\s){0,300}", longest in 8_usize..80) {
            let letters = |text: &str| text.chars().filter(|c| !c.is_whitespace()).collect::<String>();
            let pieces = pieces(&text, longest);
            prop_assert!(pieces.iter().all(|piece| piece.len() <= longest));
            prop_assert!(!pieces.is_empty());
            prop_assert_eq!(letters(&pieces.concat()), letters(&text));
        }
    }

    #[test]
    fn cuts_between_words() {
        assert_eq!(pieces("one two three", 8), ["one two", "three"]);
        assert_eq!(pieces("", 8), [""]);
        assert_eq!(pieces("äöü", 1), ["ä", "ö", "ü"]);
    }

    #[test]
    fn means_and_lengths_are_right() {
        assert_eq!(mean(&[(1.0, vec![1.0, 0.0]), (3.0, vec![0.0, 1.0])]), [0.25, 0.75]);
        let mut vector = [3.0, 4.0];
        normalise(&mut vector);
        assert_eq!(vector, [0.6, 0.8]);
        let mut zero = [0.0, 0.0];
        normalise(&mut zero);
        assert_eq!(zero, [0.0, 0.0]);
    }
}
