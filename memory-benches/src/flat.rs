//! The plain way to search vectors, which an index has to beat.

use memory_core::Vector;

/// Unit vectors in one block of memory, all of which are compared with every query: exact, and as fast as safe Rust reads them.
#[derive(Debug, Default)]
pub struct FlatScan {
    dimensions: usize,
    components: Vec<f32>,
}

impl FlatScan {
    /// Adds a vector; they are numbered from 0, and all must be as long as the first.
    pub fn push(&mut self, vector: &Vector) {
        self.dimensions = vector.dimensions();
        self.components.extend_from_slice(vector.as_slice());
    }

    /// The numbers of the `k` vectors nearest to a query among those accepted, and their cosines, nearest first.
    pub fn nearest(&self, query: &Vector, k: usize, accept: impl Fn(usize) -> bool) -> Vec<(usize, f32)> {
        let mut best: Vec<(usize, f32)> = Vec::with_capacity(k + 1);
        let mut least = f32::NEG_INFINITY;
        for (number, vector) in self.components.chunks_exact(self.dimensions.max(1)).enumerate() {
            let cosine = dot(vector, query.as_slice());
            if cosine > least && accept(number) {
                let place = best.partition_point(|(_, better)| *better >= cosine);
                best.insert(place, (number, cosine));
                best.truncate(k);
                if best.len() == k {
                    least = best[k - 1].1;
                }
            }
        }
        best
    }
}

/// The scalar product, in sixteen running sums, which the compiler keeps in vector registers.
pub(crate) fn dot(a: &[f32], b: &[f32]) -> f32 {
    const LANES: usize = 16;
    let mut sums = [0.0_f32; LANES];
    let (a_chunks, b_chunks) = (a.chunks_exact(LANES), b.chunks_exact(LANES));
    let rest: f32 = a_chunks.remainder().iter().zip(b_chunks.remainder()).map(|(x, y)| x * y).sum();
    for (x, y) in a_chunks.zip(b_chunks) {
        for lane in 0..LANES {
            sums[lane] += x[lane] * y[lane];
        }
    }
    sums.iter().sum::<f32>() + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_come_first_and_only_those_accepted() {
        let mut scan = FlatScan::default();
        let at = |angle: f32| Vector::new(vec![angle.cos(), angle.sin()]).unwrap();
        [0.3, 0.1, 0.2, 0.4].iter().for_each(|angle| scan.push(&at(*angle)));
        let numbers = |k, accept: fn(usize) -> bool| -> Vec<usize> {
            scan.nearest(&at(0.0), k, accept).into_iter().map(|(number, _)| number).collect()
        };
        assert_eq!(numbers(3, |_| true), [1, 2, 0]);
        assert_eq!(numbers(9, |number| number != 2), [1, 0, 3]);
        assert!((scan.nearest(&at(0.1), 1, |_| true)[0].1 - 1.0).abs() < 1e-6);
    }

    #[test]
    fn a_scalar_product_has_no_rest_left_out() {
        let ones = [1.0; 37];
        assert_eq!(dot(&ones, &ones), 37.0);
    }
}
