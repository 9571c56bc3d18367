//! Objectives: values, gradients, batches, errors.
use crate::common::{numbers, spread};
use ndarray::{Array1, Array2, ArrayD, Axis, Ix1, Ix2, ShapeBuilder, array, s};
use ndarray_optim::{
    NamedArrays, NamedArraysMut,
    algorithm::Element,
    fit::{GradientError, GradientReport, check_gradient},
    objective::{Linear, Objective, ObjectiveError, Outputs, Regression, Rows},
};
use std::collections::BTreeMap;

/// The data of `fixtures/generators/objectives.py`, in which one row has the weight 0.
fn features() -> Array2<f64> {
    array![
        [0.5, -1.25, 2.0],
        [1.5, 0.25, -0.75],
        [-2.0, 1.0, 0.5],
        [0.0, 3.0, -1.5],
        [1.0, -0.5, -2.5],
        [-0.25, 0.75, 1.25],
    ]
}

fn targets() -> Array1<f64> {
    array![1.5, -0.5, 2.25, -3.0, 0.75, 4.0]
}

fn two_targets() -> Array2<f64> {
    array![
        [1.5, -0.5],
        [2.25, -3.0],
        [0.75, 4.0],
        [-1.0, 0.5],
        [0.0, 2.0],
        [-2.5, 1.0],
    ]
}

fn classes() -> Array1<f64> {
    array![1.0, 0.0, 0.0, 1.0, 1.0, 0.0]
}

fn counts() -> Array1<f64> {
    array![3.0, 0.0, 1.0, 7.0, 2.0, 0.0]
}

fn exposure() -> Array1<f64> {
    array![1.0, 2.0, 0.5, 10.0, 0.25, 4.0]
}

fn sample_weights() -> Array1<f64> {
    array![1.0, 0.5, 2.0, 0.0, 3.0, 0.25]
}

fn one() -> Linear<f64> {
    Linear {
        weights: array![0.3, -0.7, 0.45],
        bias: ndarray::arr0(0.2),
    }
}

fn three() -> Linear<f64, Ix2> {
    Linear {
        weights: array![[0.3, -0.2, 0.1], [-0.7, 0.4, 0.25], [0.45, 0.6, -0.5]],
        bias: array![0.2, -0.1, 0.35],
    }
}

fn two() -> Linear<f64, Ix2> {
    Linear {
        weights: three().weights.slice(s![.., ..2]).to_owned(),
        bias: array![0.2, -0.1],
    }
}

/// Compares value and gradient with those of torch.
fn agrees<'a, D: Outputs>(
    problem: Regression<'a, f64, D>,
    weights: &'a Array1<f64>,
    model: &Linear<f64, D>,
    value: f64,
    grad: &[f64],
) where
    Linear<f64, D>: NamedArrays<f64>,
{
    let mut problem = problem.l2(0.05).sample_weights(weights).unwrap();
    let mut grads = problem.zeros();
    let close = |x: f64, y: f64| (x - y).abs() <= 1e-14 * y.abs().max(1.0);
    let got = problem.value_and_grad(model, &mut grads).unwrap();
    assert!(close(got, value), "{got} for {value}");
    assert_eq!(problem.value(model), Ok(got));
    let entries: Vec<f64> = flat(&grads);
    assert_eq!(entries.len(), grad.len());
    for (&x, &y) in entries.iter().zip(grad) {
        assert!(close(x, y), "{entries:?} for {grad:?}");
    }
}

/// All entries of a set of arrays.
fn flat<A: Element>(set: &impl NamedArrays<A>) -> Vec<A> {
    let views = set.views().into_iter();
    views.flat_map(|(_, view)| view.to_owned()).collect()
}

#[test]
fn values_and_gradients_are_those_of_torch() {
    let (x, w) = (&features(), &sample_weights());
    let (y, y2) = (&targets(), &two_targets());
    agrees(
        Regression::least_squares(x, y).unwrap(),
        w,
        &one(),
        2.036054976851852,
        &[
            1.578958333333333,
            -0.9786805555555552,
            0.6930324074074078,
            -1.3837962962962962,
        ],
    );
    agrees(
        Regression::least_squares(x, y2).unwrap(),
        w,
        &two(),
        5.951092013888888,
        &[
            0.6576620370370369,
            0.30407407407407394,
            -0.571273148148148,
            -0.10351851851851859,
            0.5356250000000001,
            4.231296296296296,
            -0.5689814814814814,
            -2.3518518518518516,
        ],
    );
    agrees(
        Regression::huber(x, y, 1.25).unwrap(),
        w,
        &one(),
        1.3912372685185188,
        &[
            0.4438888888888888,
            -0.35124999999999995,
            1.0906018518518519,
            -0.7324074074074074,
        ],
    );
    agrees(
        Regression::huber(x, y2, 1.25).unwrap(),
        w,
        &two(),
        3.694462962962963,
        &[
            0.5443518518518519,
            0.3781481481481481,
            -0.48342592592592587,
            -0.21462962962962964,
            0.47787037037037045,
            1.4905555555555556,
            -0.4462962962962963,
            -0.6851851851851852,
        ],
    );
    agrees(
        Regression::logistic(x, &classes()).unwrap(),
        w,
        &one(),
        0.6178622339548454,
        &[
            -0.3504752471499495,
            0.18813537034043143,
            0.6837823342600914,
            -0.12161869161501007,
        ],
    );
    let poisson = &counts();
    agrees(
        Regression::poisson(x, poisson)
            .unwrap()
            .exposure(&exposure())
            .unwrap(),
        w,
        &one(),
        1.3292418332807798,
        &[
            0.30398433725500407,
            -0.7240611439052445,
            3.621301833130189,
            0.1012279443918907,
        ],
    );
    agrees(
        Regression::softmax(x, &[0, 2, 1, 1, 0, 2], 3).unwrap(),
        w,
        &three(),
        1.2476945382413747,
        &[
            -0.39926997538947195,
            0.22725867093963498,
            0.19201130444983694,
            0.19982869635440004,
            -0.08553813994867462,
            -0.11929055640572542,
            0.9609005950614513,
            0.04616949652253813,
            -0.9520700915839895,
            -0.3564149787368739,
            -0.045509529834291754,
            0.40192450857116563,
        ],
    );
}

/// Data of several blocks of rows.
struct Data<A> {
    x: Array2<A>,
    y: Array1<A>,
    y2: Array2<A>,
    classes: Array1<A>,
    counts: Array1<A>,
    counts2: Array2<A>,
    labels: Array1<usize>,
    weights: Array1<A>,
    exposure: Array1<A>,
}

const ROWS: usize = 1300;

fn data<A: Element>() -> Data<A> {
    let of = |shape: &[usize], seed| numbers::<A>(shape, seed);
    let one = |seed| of(&[ROWS], seed).into_dimensionality::<Ix1>().unwrap();
    let two = |seed| of(&[ROWS, 2], seed).into_dimensionality().unwrap();
    let count = |x: A| (x + A::one()) * A::from_f64(2.5);
    Data {
        x: of(&[ROWS, 3], 1).into_dimensionality().unwrap(),
        y: one(2),
        y2: two(3),
        classes: one(4).mapv(|x| if x > A::ZERO { A::one() } else { A::ZERO }),
        counts: one(5).mapv(|x| count(x).floor()),
        counts2: two(6).mapv(|x: A| count(x).floor()),
        labels: one(7).mapv(|x| (x.f64() * 2.0 + 2.0) as usize),
        weights: one(8).mapv(|x| x.max(A::ZERO)),
        exposure: one(9).mapv(|x| x + A::from_f64(1.5)),
    }
}

/// What is done with every objective, whatever its type.
trait Visitor<A: Element> {
    fn visit<D: Outputs>(&mut self, name: &str, problem: Regression<'_, A, D>)
    where
        Linear<A, D>: NamedArraysMut<A>;
}

/// Visits each loss, with and without weights, intercept and penalty.
fn each<A: Element>(data: &Data<A>, visitor: &mut impl Visitor<A>) {
    fn with<'a, A: Element, D: Outputs>(
        name: &str,
        problem: Result<Regression<'a, A, D>, ObjectiveError>,
        data: &'a Data<A>,
        visitor: &mut impl Visitor<A>,
    ) where
        Linear<A, D>: NamedArraysMut<A>,
    {
        let problem = problem.unwrap();
        visitor.visit(name, problem.clone());
        let weighted = problem.clone().sample_weights(&data.weights).unwrap();
        visitor.visit(&format!("{name} with weights"), weighted.l2(0.3));
        let through_zero = problem.intercept(false);
        visitor.visit(&format!("{name} without intercept"), through_zero);
    }
    let (d, v) = (data, visitor);
    with("least squares", Regression::least_squares(&d.x, &d.y), d, v);
    with("two outputs", Regression::least_squares(&d.x, &d.y2), d, v);
    with("Huber", Regression::huber(&d.x, &d.y, 0.4), d, v);
    let huber = Regression::huber(&d.x, &d.y2, 0.4);
    with("Huber, two outputs", huber, d, v);
    with("logistic", Regression::logistic(&d.x, &d.classes), d, v);
    with("Poisson", Regression::poisson(&d.x, &d.counts), d, v);
    let exposed = Regression::poisson(&d.x, &d.counts2).and_then(|p| p.exposure(&d.exposure));
    with("Poisson, exposure, two outputs", exposed, d, v);
    with("softmax", Regression::softmax(&d.x, &d.labels, 4), d, v);
}

/// A model with these entries.
fn model<A: Element, D: Outputs>(problem: &Regression<'_, A, D>, seed: u64) -> Linear<A, D>
where
    Linear<A, D>: NamedArraysMut<A>,
{
    let mut model = problem.zeros();
    model.visit_mut(&mut |_, mut view| {
        let values: ArrayD<A> = numbers(view.shape(), seed);
        view.assign(&values);
    });
    model
}

#[test]
fn gradients_are_differences_of_values_over_all_rows_and_batches() {
    struct Check(usize);
    impl<A: Element> Visitor<A> for Check {
        fn visit<D: Outputs>(&mut self, name: &str, mut problem: Regression<'_, A, D>)
        where
            Linear<A, D>: NamedArraysMut<A>,
        {
            let mut model = model(&problem, 11);
            let mut grads = problem.zeros();
            let some: Vec<usize> = (0..1100).map(|i| i * i % ROWS).collect();
            let batches = [
                Rows::from(0..ROWS),
                Rows::from(100..1250),
                Rows::from(7..8),
                Rows::from(&some),
            ];
            for rows in batches {
                // What was there before does not matter.
                grads.fill_all(A::nan());
                problem
                    .batch(rows.clone())
                    .value_and_grad(&model, &mut grads)
                    .unwrap();
                let mut batch = problem.batch(rows);
                let report = check_gradient(&mut model, &grads, |model| batch.value(model));
                report.unwrap_or_else(|wrong| panic!("{name}: {wrong}"));
                self.0 += 1;
            }
        }
    }
    let mut check = Check(0);
    each(&data::<f64>(), &mut check);
    each(&data::<f32>(), &mut check);
    assert_eq!(check.0, 2 * 8 * 3 * 4);
}

/// The report of a gradient that is wrong.
fn wrong(result: Result<GradientReport, GradientError>) -> GradientReport {
    match result {
        Err(GradientError::Wrong(report)) => report,
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_same_error_is_found_in_each_objective() {
    let x = Array2::from_shape_fn((40, 3), |(i, j)| ((i * 7 + j * 5) % 11) as f64 / 4.0 - 1.2);
    let y = Array1::from_shape_fn(40, |i| (i * 13 % 5) as f64);
    let classes = y.mapv(|y| if y > 2.0 { 1.0 } else { 0.0 });
    let mut problems = [
        Regression::least_squares(&x, &y).unwrap(),
        Regression::least_squares(&x, &y).unwrap().l2(0.3),
        Regression::huber(&x, &y, 1.0).unwrap(),
        Regression::logistic(&x, &classes).unwrap(),
        Regression::poisson(&x, &y).unwrap(),
    ];
    for problem in &mut problems {
        let (mut model, mut grads) = (problem.zeros(), problem.zeros());
        model.fill_all(0.1);
        problem.value_and_grad(&model, &mut grads).unwrap();
        check_gradient(&mut model, &grads, |model| problem.value(model)).unwrap();
        let mut other = grads.clone();
        other.weights.swap(0, 2);
        let report = wrong(check_gradient(&mut model, &other, |model| {
            problem.value(model)
        }));
        assert_eq!(report.wrong, 2);
        let mut other = grads.clone();
        other.bias *= -1.0;
        let report = wrong(check_gradient(&mut model, &other, |model| {
            problem.value(model)
        }));
        assert_eq!(
            (report.wrong, report.worst.unwrap().name.as_str()),
            (1, "bias")
        );
        // The penalty is missing in one weight.
        let mut penalized = problem.clone().l2(0.05);
        penalized.value_and_grad(&model, &mut grads).unwrap();
        grads.weights[1] -= 2.0 * 0.05 * model.weights[1];
        let report = wrong(check_gradient(&mut model, &grads, |model| {
            penalized.value(model)
        }));
        let worst = report.worst.unwrap();
        assert_eq!(
            (report.wrong, worst.name.as_str(), &*worst.index),
            (1, "weights", &[1][..])
        );
    }
    let labels = y.mapv(|y| y as usize);
    let mut softmax = Regression::softmax(&x, &labels, 5).unwrap();
    let (mut model, mut grads) = (softmax.zeros(), softmax.zeros());
    softmax.value_and_grad(&model, &mut grads).unwrap();
    check_gradient(&mut model, &grads, |model| softmax.value(model)).unwrap();
    grads.weights[[2, 4]] *= 2.0;
    let report = wrong(check_gradient(&mut model, &grads, |model| {
        softmax.value(model)
    }));
    assert_eq!(report.worst.unwrap().index, [2, 4]);
}

#[test]
fn the_data_term_is_the_mean_of_those_of_batches_of_equal_size() {
    struct Mean;
    impl Visitor<f64> for Mean {
        fn visit<D: Outputs>(&mut self, name: &str, problem: Regression<'_, f64, D>)
        where
            Linear<f64, D>: NamedArraysMut<f64>,
        {
            let mut problem = problem.l2(0.0);
            let model = model(&problem, 12);
            let (mut all, mut part) = (problem.zeros(), problem.zeros());
            let value = problem.value_and_grad(&model, &mut all).unwrap();
            // In an order that mixes all rows: 1009 and 1300 have no common divisor.
            let order: Vec<usize> = (0..ROWS).map(|i| i * 1009 % ROWS).collect();
            let (mut mean, mut mean_grads) = (0.0, vec![0.0; flat(&all).len()]);
            for batch in order.chunks(130) {
                let mut batch = problem.batch(batch);
                mean += batch.value_and_grad(&model, &mut part).unwrap() / 10.0;
                let parts = flat(&part);
                mean_grads
                    .iter_mut()
                    .zip(parts)
                    .for_each(|(mean, x)| *mean += x / 10.0);
            }
            assert!(
                (mean - value).abs() < 1e-14 * value.abs(),
                "{name}: {mean} {value}"
            );
            for (mean, x) in mean_grads.iter().zip(flat(&all)) {
                assert!((mean - x).abs() < 1e-14, "{name}: {mean} {x}");
            }
        }
    }
    each(&data(), &mut Mean);
}

/// The columns of an example's table, without the last one, and that one.
fn table(csv: &str) -> (Array2<f64>, Array1<f64>) {
    let columns = csv.lines().next().unwrap().split(',').count();
    let fields = csv.lines().skip(1).flat_map(|line| line.split(','));
    let values: Vec<f64> = fields.map(|field| field.parse().unwrap()).collect();
    let table = Array2::from_shape_vec((values.len() / columns, columns), values).unwrap();
    let (x, y) = table.view().split_at(Axis(1), columns - 1);
    (x.to_owned(), y.column(0).to_owned())
}

fn standardized(x: &Array2<f64>) -> Array2<f64> {
    (x - &x.mean_axis(Axis(0)).unwrap()) / x.std_axis(Axis(0), 0.0)
}

/// Compares the value at the minimum, and the norm of the gradient there in units of the data.
fn is_minimum<D: Outputs>(
    mut problem: Regression<'_, f64, D>,
    model: &Linear<f64, D>,
    [at_zero, optimum]: [f64; 2],
    most: f64,
) where
    Linear<f64, D>: NamedArrays<f64>,
{
    let mut grads = problem.zeros();
    let zero = problem.zeros();
    let close = |x: f64, y: f64| assert!((x - y).abs() < 1e-12 * y, "{x} for {y}");
    close(problem.value(&zero).unwrap(), at_zero);
    close(problem.value_and_grad(model, &mut grads).unwrap(), optimum);
    let norm = flat(&grads).iter().map(|g| g * g).sum::<f64>().sqrt();
    assert!(norm < most, "{norm:e}");
}

#[test]
fn known_minima_of_real_data_are_minima() {
    #[derive(serde::Deserialize)]
    struct Optimum {
        optimum: f64,
        at_zero: f64,
        #[serde(default)]
        weights: Vec<f64>,
        #[serde(default)]
        bias: f64,
    }
    let file = include_str!("../../examples/data/optima.json");
    let optima: BTreeMap<String, Optimum> = serde_json::from_str(file).unwrap();
    let linear = |optimum: &Optimum| Linear {
        weights: Array1::from(optimum.weights.clone()),
        bias: ndarray::arr0(optimum.bias),
    };

    let (x, y) = table(include_str!("../../examples/data/diabetes.csv"));
    let (x, optimum) = (standardized(&x), &optima["diabetes_ols"]);
    let values = [optimum.at_zero, optimum.optimum];
    let problem = Regression::least_squares(&x, &y).unwrap();
    is_minimum(problem, &linear(optimum), values, 1e-10);

    let (x, y) = table(include_str!("../../examples/data/breast_cancer.csv"));
    let (x, optimum) = (standardized(&x), &optima["breast_cancer_logistic_l2"]);
    let values = [optimum.at_zero, optimum.optimum];
    let problem = Regression::logistic(&x, &y).unwrap().l2(0.005);
    let right = problem.predict_class(&linear(optimum), &x).unwrap();
    let right = right.iter().zip(&y).filter(|(k, y)| **k as f64 == **y);
    assert_eq!(right.count(), 561); // training_accuracy 0.98594 of 569
    is_minimum(problem, &linear(optimum), values, 1e-15);

    let (x, y) = table(include_str!("../../examples/data/digits.csv"));
    let (x, labels) = (x / 16.0, y.mapv(|y| y as usize));
    let optimum = &optima["digits_softmax_l2"];
    // From `fixtures/generators/objectives.py`.
    let fixture = include_str!("../fixtures/objectives/digits_softmax.csv");
    let rows = fixture.lines().flat_map(|line| line.split(','));
    let rows: Vec<f64> = rows.map(|field| field.parse().unwrap()).collect();
    let rows = Array2::from_shape_vec((65, 10), rows).unwrap();
    let model = Linear {
        weights: rows.slice(s![..64, ..]).to_owned(),
        bias: rows.row(64).to_owned(),
    };
    let values = [optimum.at_zero, optimum.optimum];
    let problem = Regression::softmax(&x, &labels, 10).unwrap().l2(0.0005);
    let right = problem.predict_class(&model, &x).unwrap();
    let right = right.iter().zip(&labels).filter(|(k, y)| k == y).count();
    assert_eq!(right, 1759); // 0.97885 of 1797
    is_minimum(problem, &model, values, 1e-15);
}

#[test]
fn a_weight_counts_as_so_many_rows_and_zero_as_none() {
    let (x, y, model) = (features(), targets(), one());
    let weights = array![2.0, 1.0, 0.0, 3.0, 1.0, 0.0];
    let repeated = [0, 0, 1, 3, 3, 3, 4];
    let mut plain = Regression::huber(&x, &y, 1.0).unwrap();
    let mut weighted = plain.clone().sample_weights(&weights).unwrap();
    let (mut g, mut h) = (plain.zeros(), plain.zeros());
    let by_rows = plain.batch(&repeated).value_and_grad(&model, &mut g);
    let by_weight = weighted.value_and_grad(&model, &mut h).unwrap();
    assert!((by_rows.unwrap() - by_weight).abs() < 1e-15);
    for (g, h) in flat(&g).iter().zip(flat(&h)) {
        assert!((g - h).abs() < 1e-15);
    }
    // A row with the weight 0 has no influence even if its loss is infinite.
    let counts = counts();
    let mut poisson = Regression::poisson(&x, &counts).unwrap();
    let mut steep = one();
    steep.weights[1] = 1000.0;
    assert_eq!(poisson.value(&steep), Ok(f64::INFINITY));
    let only_first = array![1.0, 0.0, 0.0, 0.0, 0.0, 0.0];
    let mut poisson = poisson.sample_weights(&only_first).unwrap();
    let value = poisson.value_and_grad(&steep, &mut g).unwrap();
    assert!(value.is_finite() && flat(&g).iter().all(|g| g.is_finite()));
}

#[test]
fn without_an_intercept_the_bias_is_ignored() {
    let (x, y) = (features(), targets());
    let mut problem = Regression::least_squares(&x, &y).unwrap();
    let (mut model, mut grads) = (one(), one());
    model.bias.fill(0.0);
    let value = problem.value(&model).unwrap();
    model.bias.fill(5.0);
    let mut through_zero = problem.intercept(false);
    assert_eq!(through_zero.value_and_grad(&model, &mut grads), Ok(value));
    assert_eq!(grads.bias, ndarray::arr0(0.0));
    let predicted = through_zero.predict(&model, &x).unwrap();
    assert!((predicted[0] - 1.925).abs() < 1e-15); // 0.5 0.3 + 1.25 0.7 + 2 0.45
}

#[test]
fn predictions_are_means_probabilities_and_classes() {
    let x = features();
    let z = x.dot(&one().weights) + 0.2;
    let close = |got: &ArrayD<f64>, expected: &ArrayD<f64>| {
        assert_eq!(got.shape(), expected.shape());
        for (x, y) in got.iter().zip(expected) {
            assert!(
                (x - y).abs() < 1e-15 * y.abs().max(1.0),
                "{got} for {expected}"
            );
        }
    };
    let check = |problem: &Regression<'_, f64>, expected: Array1<f64>| {
        let got = problem.predict(&one(), &x).unwrap();
        close(&got.into_dyn(), &expected.into_dyn());
    };
    check(
        &Regression::least_squares(&x, &targets()).unwrap(),
        z.clone(),
    );
    check(&Regression::huber(&x, &targets(), 1.0).unwrap(), z.clone());
    let (counts, classes) = (counts(), classes());
    let poisson = Regression::poisson(&x, &counts).unwrap();
    check(&poisson, z.mapv(f64::exp));
    let logistic = Regression::logistic(&x, &classes).unwrap();
    check(&logistic, z.mapv(|z| 1.0 / (1.0 + (-z).exp())));
    let positive = z.mapv(|z| usize::from(z > 0.0));
    assert_eq!(logistic.predict_class(&one(), &x), Ok(positive));

    let softmax = Regression::softmax(&x, &[0, 2, 1, 1, 0, 2], 3).unwrap();
    let e = (x.dot(&three().weights) + &three().bias).mapv(f64::exp);
    let p = &e / &e.sum_axis(Axis(1)).insert_axis(Axis(1));
    let got = softmax.predict(&three(), x.slice(s![..;-1, ..])).unwrap();
    close(
        &got.into_dyn(),
        &p.slice(s![..;-1, ..]).to_owned().into_dyn(),
    );
    // The linear predictors by numpy: rows of x @ w + b, whose largest column is counted.
    let classes = softmax.predict_class(&three(), &x).unwrap();
    let largest = e
        .rows()
        .into_iter()
        .map(|row| (0..3).max_by(|&j, &k| row[j].total_cmp(&row[k])).unwrap());
    assert!(classes.iter().copied().eq(largest), "{classes}");
    // Of equal probabilities the first counts, and exactly one half is class 0.
    assert_eq!(
        softmax.predict_class(&softmax.zeros(), &x).unwrap(),
        Array1::<usize>::zeros(6)
    );
    assert_eq!(
        logistic.predict_class(&logistic.zeros(), &x).unwrap(),
        Array1::<usize>::zeros(6)
    );
    let none = poisson.predict_class(&one(), &x);
    assert_eq!(none, Err(ObjectiveError::NoClasses { loss: "Poisson" }));
}

/// Value and derivative of one row with one feature of 1.
fn at<A: Element>(problem: fn(&Array2<A>, A, A) -> [f64; 2], z: f64, y: f64) -> [f64; 2] {
    problem(&array![[A::one()]], A::from_f64(z), A::from_f64(y))
}

fn logistic<A: Element>(x: &Array2<A>, z: A, y: A) -> [f64; 2] {
    let y = array![y];
    let mut problem = Regression::logistic(x, &y).unwrap();
    let (mut model, mut grads) = (problem.zeros(), problem.zeros());
    model.weights[0] = z;
    let value = problem.value_and_grad(&model, &mut grads).unwrap();
    [value, grads.weights[0].f64()]
}

fn poisson<A: Element>(x: &Array2<A>, z: A, y: A) -> [f64; 2] {
    let y = array![y];
    let mut problem = Regression::poisson(x, &y).unwrap();
    let (mut model, mut grads) = (problem.zeros(), problem.zeros());
    model.weights[0] = z;
    let value = problem.value_and_grad(&model, &mut grads).unwrap();
    [value, grads.weights[0].f64()]
}

fn softmax<A: Element>(x: &Array2<A>, z: A, y: A) -> [f64; 2] {
    // The logistic loss once more, by two classes.
    let labels = [usize::from(y == A::one())];
    let mut problem = Regression::softmax(x, &labels, 2).unwrap();
    let (mut model, mut grads) = (problem.zeros(), problem.zeros());
    model.weights[[0, 1]] = z;
    let value = problem.value_and_grad(&model, &mut grads).unwrap();
    assert!((grads.weights.sum()).abs() <= A::epsilon());
    [value, grads.weights[[0, 1]].f64()]
}

#[test]
fn large_linear_predictors_neither_overflow_nor_lose_digits() {
    // log(1 + e^z) - y z and 1 / (1 + e^-z) - y, by mpmath.
    let cases = [
        (0.0, 1.0, std::f64::consts::LN_2, -0.5),
        (30.0, 1.0, 9.357622968839737e-14, -9.357622968839299e-14),
        (-30.0, 0.0, 9.357622968839737e-14, 9.357622968839299e-14),
        (80.0, 1.0, 1.8048513878454153e-35, -1.8048513878454153e-35),
        (30.0, 0.0, 30.000000000000094, 0.9999999999999064),
        (1e30, 0.0, 1e30, 1.0),
        (-1e30, 1.0, 1e30, -1.0),
        (1e30, 1.0, 0.0, 0.0),
        (-1e30, 0.0, 0.0, 0.0),
    ];
    for (z, y, value, grad) in cases {
        for [v, g] in [at::<f64>(logistic, z, y), at::<f64>(softmax, z, y)] {
            assert!((v - value).abs() <= 3e-16 * value, "{v:e} at {z}, {y}");
            assert!((g - grad).abs() <= 3e-16 * grad.abs(), "{g:e} at {z}, {y}");
        }
        for [v, g] in [at::<f32>(logistic, z, y), at::<f32>(softmax, z, y)] {
            assert!(
                (v - value).abs() <= 2e-7 * value,
                "{v:e} at {z}, {y} in f32"
            );
            assert!(
                (g - grad).abs() <= 2e-7 * grad.abs(),
                "{g:e} at {z}, {y} in f32"
            );
        }
    }
    assert_eq!(at::<f64>(poisson, 1.0, 0.0), [1_f64.exp(); 2]);
    assert_eq!(at::<f64>(poisson, -800.0, 2.0), [1600.0, -2.0]);
    assert_eq!(at::<f64>(poisson, 800.0, 2.0), [f64::INFINITY, f64::MAX]);
    assert_eq!(
        at::<f32>(poisson, 90.0, 2.0),
        [f64::INFINITY, f32::MAX.into()]
    );
    // Squares that overflow `f32`.
    let (x, y) = (array![[1.0_f32]], array![-1e30_f32]);
    let mut problem = Regression::least_squares(&x, &y).unwrap();
    let value = problem.value(&problem.zeros()).unwrap();
    assert!((value / 5e59 - 1.0).abs() < 1e-7);
}

#[test]
fn an_overflow_in_one_row_does_not_turn_gradients_into_nan() {
    let (x, y) = (array![[1.0, 0.0], [0.0, 1.0]], array![1.0, 1.0]);
    let mut problem = Regression::poisson(&x, &y).unwrap();
    let (mut model, mut grads) = (problem.zeros(), problem.zeros());
    model.weights[0] = 1000.0;
    let value = problem.value_and_grad(&model, &mut grads);
    assert_eq!(value, Ok(f64::INFINITY));
    assert_eq!(grads.weights, array![f64::MAX / 2.0, 0.0]);
}

#[test]
fn the_bits_depend_neither_on_the_memory_layout_nor_on_the_kind_of_batch() {
    fn bits<A: Element, D: Outputs>(
        mut problem: Regression<'_, A, D>,
        rows: Rows<'_>,
    ) -> (u64, Vec<u64>)
    where
        Linear<A, D>: NamedArraysMut<A>,
    {
        let (model, mut grads) = (model(&problem, 13), problem.zeros());
        let value = problem
            .batch(rows)
            .value_and_grad(&model, &mut grads)
            .unwrap();
        let grads = flat(&grads).iter().map(|g| g.f64().to_bits()).collect();
        (value.to_bits(), grads)
    }
    fn same<A: Element>() {
        for features in [1, 5, 40] {
            let number = |i| A::from_f64(spread(14, i, 2));
            let x = Array2::from_shape_fn((ROWS, features), |(i, j)| number(i * features + j));
            let data = data::<A>();
            let mut fortran = Array2::from_elem((ROWS, features).f(), A::ZERO);
            fortran.assign(&x);
            let mut wide = Array2::from_elem((2 * ROWS, 3 * features), A::nan());
            let mut strided = wide.slice_mut(s![..;-2, ..;3]);
            strided.assign(&x);
            let mut padded = Array2::from_elem((ROWS, features + 3), A::nan());
            padded.slice_mut(s![.., 1..=features]).assign(&x);
            let list: Vec<usize> = (3..1250).collect();
            let views = [
                x.view(),
                fortran.view(),
                strided.view(),
                padded.slice(s![.., 1..=features]),
            ];
            let results = views.map(|x| {
                let logistic = Regression::logistic(x, &data.classes).unwrap();
                let softmax = Regression::softmax(x, &data.labels, 4).unwrap();
                let all = (
                    bits(logistic.clone(), (0..ROWS).into()),
                    bits(softmax.clone(), (0..ROWS).into()),
                );
                let range = (
                    bits(logistic.clone(), (3..1250).into()),
                    bits(softmax.clone(), (3..1250).into()),
                );
                assert_eq!(
                    range,
                    (
                        bits(logistic, (&list).into()),
                        bits(softmax, (&list).into())
                    )
                );
                (all, range)
            });
            for result in &results[1..] {
                assert_eq!(*result, results[0], "{features} features");
            }
        }
    }
    same::<f32>();
    same::<f64>();
}

#[test]
fn with_one_output_the_bits_are_those_of_every_other_machine() {
    fn digest<A: Element>() -> u64 {
        struct Digest(u64);
        impl<A: Element> Visitor<A> for Digest {
            fn visit<D: Outputs>(&mut self, _: &str, mut problem: Regression<'_, A, D>)
            where
                Linear<A, D>: NamedArraysMut<A>,
            {
                let (model, mut grads) = (model(&problem, 15), problem.zeros());
                if model.weights.ndim() == 2 {
                    return;
                }
                let value = problem.value_and_grad(&model, &mut grads).unwrap();
                let numbers = flat(&grads).into_iter().map(|g| g.f64()).chain([value]);
                for number in numbers {
                    self.0 =
                        (self.0.rotate_left(5) ^ number.to_bits()).wrapping_mul(0x100_0000_01B3);
                }
            }
        }
        let mut digest = Digest(0);
        each(&data::<A>(), &mut digest);
        digest.0
    }
    let digests = (digest::<f32>(), digest::<f64>());
    assert_eq!(digests, (5752312365726978209, 12711042594319143436));
}

#[test]
fn wrong_data_are_refused_by_row_and_value() {
    use ObjectiveError::{
        Label, NoExposure, NoRows, NoTargets, Setting, Shape, Value, ZeroWeights,
    };
    let (x, y) = (features(), targets());
    let wrong = |array, row, column, value, expected| {
        Err(Value {
            array,
            row,
            column,
            value,
            expected,
        })
    };
    let done = |result: Result<Regression<'_, f64>, ObjectiveError>| result.map(|_| ());
    let mut bad = x.clone();
    bad[[4, 2]] = f64::INFINITY;
    let infinite = done(Regression::least_squares(&bad, &y));
    assert_eq!(infinite, wrong("x", 4, 2, f64::INFINITY, "a finite number"));
    let message = infinite.unwrap_err().to_string();
    assert_eq!(
        message,
        "row 4, column 2 of x is inf, expected a finite number"
    );
    let mut bad = y.clone();
    bad[3] = f64::NEG_INFINITY;
    let infinite = done(Regression::huber(&x, &bad, 1.0));
    assert_eq!(
        infinite,
        wrong("y", 3, 0, f64::NEG_INFINITY, "a finite number")
    );
    bad[3] = f64::NAN;
    let nan = Regression::least_squares(&x, &bad).unwrap_err().to_string();
    assert_eq!(nan, "row 3, column 0 of y is NaN, expected a finite number");
    let mut two = two_targets();
    two[[2, 1]] = -2.0;
    two[[2, 0]] = 0.0;
    two[[0, 1]] = 0.0;
    two[[1, 1]] = 0.0;
    let negative = Regression::poisson(&x, &two).map(|_| ());
    assert_eq!(negative, wrong("y", 2, 1, -2.0, "a number from 0 on"));
    let class = done(Regression::logistic(
        &x,
        &array![0.0, 1.0, 0.5, -1.0, 2.0, 0.0],
    ));
    assert_eq!(class, wrong("y", 3, 0, -1.0, "a number from 0 to 1"));
    let label = Regression::softmax(&x, &[0, 1, 2, 3, 4, 5], 3).map(|_| ());
    let expected = Label {
        row: 3,
        label: 3,
        classes: 3,
    };
    assert_eq!(label, Err(expected.clone()));
    assert_eq!(
        expected.to_string(),
        "the label of row 3 is 3, expected a class from 0 to 2"
    );

    let shape = |array, given: &[usize], expected: &[usize]| {
        Err(Shape {
            array,
            given: given.into(),
            expected: expected.into(),
        })
    };
    let short = array![1.0, 2.0];
    assert_eq!(
        done(Regression::logistic(&x, &short)),
        shape("y", &[2], &[6])
    );
    let two = Regression::least_squares(&x, &array![[1.0, 2.0]]).map(|_| ());
    assert_eq!(two, shape("y", &[1, 2], &[6, 2]));
    let labels = Regression::softmax(&x, &[0, 1], 3).map(|_| ());
    assert_eq!(labels, shape("labels", &[2], &[6]));
    let (no_rows, no_targets) = (Array2::<f64>::zeros((0, 3)), Array2::<f64>::zeros((6, 0)));
    assert_eq!(done(Regression::logistic(&no_rows, &array![])), Err(NoRows));
    let none = Regression::least_squares(&x, &no_targets).map(|_| ());
    assert_eq!(none, Err(NoTargets));
    let classes = Regression::softmax(&x, &[0; 6], usize::MAX).map(|_| ());
    assert!(matches!(
        classes,
        Err(Setting {
            name: "classes",
            ..
        })
    ));
    assert_eq!(
        Regression::softmax(&x, &[0; 6], 0).map(|_| ()),
        Err(NoTargets)
    );
    for delta in [0.0, -1.0, f64::NAN, f64::INFINITY] {
        let huber = done(Regression::huber(&x, &y, delta));
        assert!(
            matches!(huber, Err(Setting { name: "delta", .. })),
            "{delta}"
        );
    }

    let counts = counts();
    let poisson = Regression::poisson(&x, &counts).unwrap();
    let weights = |w: &Array1<f64>| poisson.clone().sample_weights(w).map(|_| ());
    assert_eq!(weights(&short), shape("sample weights", &[2], &[6]));
    assert_eq!(weights(&Array1::zeros(6)), Err(ZeroWeights { rows: 6 }));
    let mut bad = sample_weights();
    bad[5] = -0.5;
    let negative = wrong("sample weights", 5, 0, -0.5, "a number from 0 on");
    assert_eq!(weights(&bad), negative);
    bad[5] = f64::NAN;
    assert!(matches!(weights(&bad), Err(Value { row: 5, .. })));
    let exposed = |e: &Array1<f64>| poisson.clone().exposure(e).map(|_| ());
    assert_eq!(exposed(&short), shape("exposure", &[2], &[6]));
    let mut bad = exposure();
    bad[1] = 0.0;
    assert_eq!(
        exposed(&bad),
        wrong("exposure", 1, 0, 0.0, "a positive number")
    );
    let exposure = exposure();
    let other = Regression::huber(&x, &y, 1.0).unwrap().exposure(&exposure);
    assert_eq!(done(other), Err(NoExposure { loss: "Huber" }));
}

#[test]
fn wrong_evaluations_are_refused_and_gradients_stay() {
    use ObjectiveError::{EmptyBatch, RowIndex, Setting, Shape};
    let (x, y) = (features(), targets());
    let mut problem = Regression::least_squares(&x, &y).unwrap();
    let mut grads = one();
    let rows = |row| Err(RowIndex { row, rows: 6 });
    let mut of = |rows: Rows<'_>| problem.batch(rows).value_and_grad(&one(), &mut grads);
    assert_eq!(of((0..0).into()), Err(EmptyBatch));
    assert_eq!(of((2..2).into()), Err(EmptyBatch));
    assert_eq!(of((&[0; 0]).into()), Err(EmptyBatch));
    assert_eq!(of((4..7).into()), rows(6));
    assert_eq!(of((9..12).into()), rows(9));
    assert_eq!(of((&[1, 6, 8]).into()), rows(6));
    let message = of((&[1, 6]).into()).unwrap_err().to_string();
    assert_eq!(
        message,
        "the batch contains row 6, but the data have 6 rows"
    );
    let mut wrong = one();
    wrong.weights = array![1.0, 2.0];
    let expected = |array| {
        Err(Shape {
            array,
            given: vec![2],
            expected: vec![3],
        })
    };
    assert_eq!(
        problem.value_and_grad(&wrong, &mut grads),
        expected("the weights")
    );
    let gradient = problem.value_and_grad(&one(), &mut wrong);
    assert_eq!(gradient, expected("the gradient of the weights"));
    assert_eq!(
        problem.predict(&wrong, &x).map(|_| 0.0),
        expected("the weights")
    );
    let narrow = problem.predict(&one(), x.slice(s![.., ..2])).unwrap_err();
    assert_eq!(narrow.to_string(), "x has shape [6, 2], expected [6, 3]");
    let mut outputs = two();
    outputs.bias = array![1.0];
    let targets = two_targets();
    let bias = Regression::huber(&x, &targets, 1.0)
        .unwrap()
        .value(&outputs);
    assert_eq!(
        bias.unwrap_err().to_string(),
        "the bias has shape [1], expected [2]"
    );
    for l2 in [-1.0, f64::NAN, f64::INFINITY] {
        let mut problem = problem.clone().l2(l2);
        let refused = problem.value_and_grad(&one(), &mut grads);
        assert!(matches!(refused, Err(Setting { name: "l2", .. })), "{l2}");
    }
    assert_eq!(grads, one());
}

#[test]
fn a_loop_takes_any_objective_and_data_without_features_have_an_intercept() {
    fn value<O: Objective>(problem: &mut O, model: &O::Model) -> Result<f64, O::Error> {
        let (half, rows) = (problem.rows() / 2, problem.rows());
        Ok(problem.batch(0..half).value(model)? + problem.batch(half..rows).value(model)?)
    }
    let (x, y) = (Array2::<f64>::zeros((6, 0)), targets());
    let mut problem = Regression::least_squares(&x, &y).unwrap();
    let model = problem.zeros();
    let expected = (2.25 + 0.25 + 5.0625 + 9.0 + 0.5625 + 16.0) / 6.0;
    assert!((value(&mut problem, &model).unwrap() - expected).abs() < 1e-15);
    let mut grads = problem.zeros();
    problem.value_and_grad(&model, &mut grads).unwrap();
    assert!((grads.bias[()] + y.sum() / 6.0).abs() < 1e-15);
    assert_eq!(grads.weights.len(), 0);
}

/// A problem is as good as one on data that live shorter.
#[allow(dead_code)]
fn is_covariant<'s>(problem: Regression<'static, f64>) -> Regression<'s, f64> {
    problem
}
