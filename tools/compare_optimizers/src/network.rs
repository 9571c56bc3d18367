//! A network with one hidden layer.
use ndarray::{Array1, Array2, ArrayView2, Axis, Zip, linalg::general_mat_mul};
use ndarray_optim::{
    named_arrays,
    objective::{Objective, Rows},
};
use std::convert::Infallible;

/// The mean cross entropy of `softmax(tanh(X W + b) V + c)`.
#[derive(Clone, Debug)]
pub struct Network<'d> {
    x: &'d Array2<f64>,
    labels: &'d Array1<usize>,
    hidden: usize,
    classes: usize,
}

/// The parameters of a [`Network`], and their gradients.
#[derive(Clone, Debug)]
pub struct Layers {
    pub hidden: Array2<f64>,
    pub hidden_bias: Array1<f64>,
    pub output: Array2<f64>,
    pub output_bias: Array1<f64>,
}
named_arrays!(impl NamedArrays<f64> for Layers { hidden, hidden_bias, output, output_bias });

impl<'d> Network<'d> {
    pub fn new(
        x: &'d Array2<f64>,
        labels: &'d Array1<usize>,
        hidden: usize,
        classes: usize,
    ) -> Self {
        Network {
            x,
            labels,
            hidden,
            classes,
        }
    }

    pub fn zeros(&self) -> Layers {
        Layers {
            hidden: Array2::zeros((self.x.ncols(), self.hidden)),
            hidden_bias: Array1::zeros(self.hidden),
            output: Array2::zeros((self.hidden, self.classes)),
            output_bias: Array1::zeros(self.classes),
        }
    }
}

impl Objective for Network<'_> {
    type Model = Layers;
    type Error = Infallible;

    fn rows(&self) -> usize {
        self.x.nrows()
    }

    fn evaluate(
        &mut self,
        model: &Layers,
        grads: Option<&mut Layers>,
        rows: &Rows<'_>,
    ) -> Result<f64, Infallible> {
        let rows: Vec<usize> = rows.iter().collect();
        let n = rows.len() as f64;
        let selected;
        let x = if rows.len() == self.x.nrows() {
            self.x.view()
        } else {
            selected = self.x.select(Axis(0), &rows);
            selected.view()
        };
        let h = (x.dot(&model.hidden) + &model.hidden_bias).mapv_into(f64::tanh);
        let mut z = h.dot(&model.output) + &model.output_bias;
        let mut value = 0.0;
        for (mut z, &row) in z.rows_mut().into_iter().zip(&rows) {
            let max = z.fold(f64::NEG_INFINITY, |max, &z| max.max(z));
            let of_label = z[self.labels[row]] - max;
            z.mapv_inplace(|z| (z - max).exp());
            let sum = z.sum();
            value += (sum.ln() - of_label) / n;
            z /= sum * n;
            z[self.labels[row]] -= 1.0 / n;
        }
        if let Some(grads) = grads {
            let product = |a: &ArrayView2<'_, f64>, b: &Array2<f64>, out: &mut Array2<f64>| {
                general_mat_mul(1.0, a, b, 0.0, out);
            };
            product(&h.t(), &z, &mut grads.output);
            grads.output_bias.assign(&z.sum_axis(Axis(0)));
            let mut by_h = z.dot(&model.output.t());
            Zip::from(&mut by_h)
                .and(&h)
                .for_each(|by_h, h| *by_h *= 1.0 - h * h);
            product(&x.t(), &by_h, &mut grads.hidden);
            grads.hidden_bias.assign(&by_h.sum_axis(Axis(0)));
        }
        Ok(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray_optim::fit::check_gradient;

    #[test]
    fn the_gradient_is_that_of_the_value() {
        let x = Array2::from_shape_fn((7, 3), |(i, j)| ((3 * i + 5 * j) % 7) as f64 / 3.0 - 1.0);
        let labels = Array1::from_shape_fn(7, |i| i % 4);
        let mut network = Network::new(&x, &labels, 5, 4);
        let mut model = network.zeros();
        let waves = |(i, j): (usize, usize)| (i as f64 + 2.3 * j as f64).sin();
        model.hidden = Array2::from_shape_fn(model.hidden.dim(), waves);
        model.output = Array2::from_shape_fn(model.output.dim(), waves);
        let mut grads = network.zeros();
        for rows in [vec![0, 1, 2, 3, 4, 5, 6], vec![6, 2, 2]] {
            network
                .batch(&rows)
                .value_and_grad(&model, &mut grads)
                .unwrap();
            check_gradient(&mut model, &grads, |model| {
                network.batch(&rows).value(model)
            })
            .unwrap();
        }
    }
}
