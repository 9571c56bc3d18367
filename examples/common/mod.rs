//! The data of the examples, and a network. Each example uses some of it.
#![allow(dead_code)]
use ndarray::{Array1, Array2, ArrayView1, Axis, s};
use ndarray_optim::named_arrays;
use ndarray_rand::{RandomExt, rand_distr::StandardNormal};
use rand::{SeedableRng, rngs::StdRng};
use std::{error::Error, fs, ops::Range, path::Path};

/// All columns but the last, and the last, of a file in `examples/data`: numbers below a header.
pub fn read_csv(name: &str) -> Result<(Array2<f64>, Array1<f64>), Box<dyn Error>> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/data");
    let csv = fs::read_to_string(dir.join(name))?;
    let columns = csv.lines().next().ok_or("no header")?.split(',').count();
    let fields = csv.lines().skip(1).flat_map(|line| line.split(','));
    let values: Vec<f64> = fields.map(str::parse).collect::<Result<_, _>>()?;
    let table = Array2::from_shape_vec((values.len() / columns, columns), values)?;
    let x = table.slice(s![.., ..columns - 1]).to_owned();
    Ok((x, table.column(columns - 1).to_owned()))
}

/// Columns of mean 0 and variance 1: one learning rate suits the weights of all of them.
pub fn standardize(x: &Array2<f64>) -> Array2<f64> {
    let mean = x.sum_axis(Axis(0)) / x.nrows() as f64;
    (x - &mean) / x.std_axis(Axis(0), 0.0)
}

/// A network of two layers that classifies rows: tanh, then softmax.
pub struct Net {
    pub w1: Array2<f64>,
    pub b1: Array1<f64>,
    pub w2: Array2<f64>,
    pub b2: Array1<f64>,
}
named_arrays!(impl NamedArrays<f64> for Net { w1, b1, w2, b2 });

impl Net {
    /// Random weights; biases of 0.
    pub fn new(features: usize, hidden: usize, classes: usize) -> Self {
        let mut rng = StdRng::seed_from_u64(0);
        let mut random = |shape| 0.1 * Array2::random_using(shape, StandardNormal, &mut rng);
        let (w1, w2) = (random((features, hidden)), random((hidden, classes)));
        let (b1, b2) = (Array1::zeros(hidden), Array1::zeros(classes));
        Net { w1, b1, w2, b2 }
    }

    /// The gradient of the mean cross entropy over some rows.
    pub fn gradient(&self, x: &Array2<f64>, y: &Array1<f64>, rows: &[usize]) -> Net {
        let (x, n) = (x.select(Axis(0), rows), rows.len() as f64);
        let hidden = (x.dot(&self.w1) + &self.b1).tanh();
        let exp = (hidden.dot(&self.w2) + &self.b2).exp();
        let mut d2 = &exp / (n * exp.sum_axis(Axis(1)).insert_axis(Axis(1)));
        for (mut d2, &row) in d2.rows_mut().into_iter().zip(rows) {
            d2[y[row] as usize] -= 1.0 / n;
        }
        let d1 = d2.dot(&self.w2.t()) * (1.0 - hidden.pow2());
        let (b1, b2) = (d1.sum_axis(Axis(0)), d2.sum_axis(Axis(0)));
        let (w1, w2) = (x.t().dot(&d1), hidden.t().dot(&d2));
        Net { w1, b1, w2, b2 }
    }

    /// How many of these rows get the largest score for their class.
    pub fn correct(&self, x: &Array2<f64>, y: &Array1<f64>, rows: Range<usize>) -> usize {
        let hidden = (x.slice(s![rows.clone(), ..]).dot(&self.w1) + &self.b1).tanh();
        let scores = hidden.dot(&self.w2) + &self.b2;
        let right = |(scores, row): &(ArrayView1<f64>, usize)| {
            let score = scores[y[*row] as usize];
            scores.iter().all(|&other| other <= score)
        };
        scores.rows().into_iter().zip(rows).filter(right).count()
    }
}
