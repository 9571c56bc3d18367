//! What a newcomer trips over.
use ndarray::{Array2, array};
use ndarray_optim::{
    Adam, AdamW, Compose, Error, Evaluating, Group, NAdam, Optimizer, Params, Select, Sgd,
    algorithm::{Algorithm, Element, Rule, StepContext},
    hyper_parameters,
    schedule::{AnySchedule, Exponential, Schedules},
};

#[test]
fn moments_are_kept_when_an_average_is_added() {
    let (mut p, g) = (array![1.0, 2.0], array![0.5, -0.25]);
    let mut plain = Optimizer::<f64>::new(NAdam::new(0.1));
    for _ in 0..3 {
        plain.update(&mut p, &g).unwrap();
    }
    let mut averaged = Optimizer::<f64>::new(NAdam::new(0.1).ema(0.5));
    let report = averaged.load_matching(plain.state_view()).unwrap();
    assert_eq!(
        (&report.taken[..], &report.begun[..]),
        (&["variable".to_string()][..], &["variable".to_string()][..])
    );
    assert!(
        report.left_over.is_empty()
            && report
                .to_string()
                .contains("averages begun: [\"variable\"]")
    );
    // It can be saved before it begins.
    let mut resumed = Optimizer::<f64>::from_state(averaged.state_dict()).unwrap();
    assert_eq!(resumed.state_view(), averaged.state_view());
    let bytes = averaged.state_dict().to_bytes().unwrap();
    let mut again =
        Optimizer::<f64>::from_state(ndarray_optim::StateDict::from_bytes(&bytes).unwrap())
            .unwrap();
    // Until then the average is the parameter.
    assert_eq!(averaged.evaluate(&p).as_ref(), Ok(&p));
    assert!(averaged.swap_average(&mut p.clone()).is_err());
    assert_eq!(
        averaged.state("variable").len(),
        plain.state("variable").len()
    );
    let start = p.clone();
    let mut points = Vec::new();
    for optimizer in [&mut averaged, &mut resumed, &mut again] {
        let mut q = start.clone();
        optimizer.update(&mut q, &g).unwrap();
        points.push((q.clone(), optimizer.evaluate(&q).unwrap()));
    }
    plain.update(&mut p, &g).unwrap();
    // The steps go on as without the average, which starts at the parameter before the step:
    // w = (1 - 0.5) / (1 - 0.5^4).
    let w = 0.5 / (1.0 - 0.0625);
    let average = &start + &(w * (&p - &start));
    for (q, found) in points {
        assert_eq!(q, p);
        assert!(
            (&found - &average).iter().all(|e: &f64| e.abs() < 1e-15),
            "{found} {average}"
        );
    }
    // In any memory order, which is that of the moments.
    let (mut f, g) = (
        array![[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]],
        array![[0.5], [0.25]],
    );
    let g = g.broadcast((2, 3)).unwrap();
    let mut plain = Optimizer::<f64>::new(Adam::new(0.1));
    let lend = |optimizer: &mut Optimizer<f64>, p: &mut Array2<f64>, turned: bool| {
        if turned {
            let mut memory = p.t().as_standard_layout().into_owned();
            let mut view = memory.view_mut().reversed_axes();
            optimizer.update(&mut view, &g).unwrap();
            p.assign(&view);
        } else {
            optimizer.update(p, &g).unwrap();
        }
    };
    lend(&mut plain, &mut f, true);
    for turned in [false, true] {
        let mut averaged = Optimizer::<f64>::new(Adam::new(0.1).ema(0.5));
        assert_eq!(
            averaged
                .load_matching(plain.state_view())
                .unwrap()
                .begun
                .len(),
            1
        );
        let mut p = f.clone();
        lend(&mut averaged, &mut p, turned);
        let average = &f + &((&p - &f) * (0.5 / 0.75));
        let error = averaged.evaluate(&p).unwrap() - average;
        assert!(error.iter().all(|e| e.abs() < 1e-15), "{error}");
    }
    // A state without the average is still refused by a load of everything.
    assert!(averaged.load_state_dict(plain.state_dict()).is_err());
}

#[test]
fn the_evaluation_of_a_misspelt_name_is_an_error() {
    let mut optimizer = Optimizer::new(Sgd::new(0.1).ema(0.5));
    optimizer
        .add_group(Group::new("fixed", Select::prefix("fixed."), Sgd::new(0.1)))
        .unwrap();
    optimizer.freeze("fixed", true).unwrap();
    let mut p = array![1.0];
    // Before the first step every point is the parameter.
    assert_eq!(optimizer.evaluate_param("wieght", &p).as_ref(), Ok(&p));
    let g = array![1.0];
    optimizer
        .step(Params::new().add("weight", &mut p, &g).unwrap())
        .unwrap();
    optimizer.evaluate_param("weight", &p).unwrap();
    let unknown = |name: &str| Error::UnknownParameter { name: name.into() };
    assert_eq!(
        optimizer.evaluate_param("wieght", &p),
        Err(unknown("wieght"))
    );
    assert_eq!(optimizer.evaluate(&p), Err(unknown("variable")));
    assert_eq!(optimizer.evaluate_param("fixed.w", &p).as_ref(), Ok(&p));
    let shape = optimizer.evaluate_param("weight", &array![1.0, 2.0]);
    assert!(matches!(shape, Err(Error::ShapeChanged { .. })));
    let before = p.clone();
    let mut evaluating = Evaluating::new(&mut optimizer);
    assert_eq!(
        evaluating.enter_param("wieght", &mut p),
        Err(unknown("wieght"))
    );
    evaluating.finish().unwrap();
    assert_eq!(p, before);
}

hyper_parameters! {
    /// Gradient descent.
    struct Descent = "descent" {
        /// Learning rate.
        lr: f64 [>= 0] = 0.1;
        /// Two numbers.
        pair: (f64, f64) [finite] = (1.0, 2.0);
        /// No number.
        flag: bool = false;
    }
}

#[derive(Clone, Copy)]
struct Descend<A>(A);

impl<A: Element> Rule for Descend<A> {
    type Elem = A;
    type State = [A; 0];
    const STATE: &'static [&'static str] = &[];
    const COST: u64 = 1;
    #[inline(always)]
    fn delta(&self, _p: A, g: A, []: [A; 0]) -> (A, [A; 0]) {
        (self.0 * g, [])
    }
}

impl Algorithm for Descent {
    type Kernel<A: Element> = Descend<A>;
    #[inline(always)]
    fn kernel<A: Element>(&self, _step: &StepContext) -> Descend<A> {
        Descend(A::from_f64(self.lr))
    }
}

#[test]
fn the_numbers_of_a_custom_algorithm_are_scheduled_and_listed() {
    let mut optimizer = Optimizer::<f64>::new(Descent::default().ema(0.5));
    let schedules = Schedules::new()
        .drive("lr", Exponential::new(0.5, 0.5))
        .drive("pair[1]", 3.0);
    schedules.apply(&mut optimizer, 1).unwrap();
    assert_eq!(optimizer.lr(), 0.25);
    assert_eq!(optimizer.algorithm::<Descent>().unwrap().pair, (1.0, 3.0));
    let known = ["lr", "pair[0]", "pair[1]", "decay", "inv_gamma", "power"]
        .map(String::from)
        .to_vec();
    let error = Error::UnknownField {
        field: "learning_rate".into(),
        optimizer: "descent + ema".into(),
        known,
    };
    let unknown = Schedules::new().drive("learning_rate", 0.1);
    assert_eq!(unknown.apply(&mut optimizer, 0), Err(error));
    // The same for a chain from a file.
    let text = r#"{"name": "adam", "wrap": [{"name": "ema"}]}"#;
    if let Ok(config) = serde_json::from_str::<ndarray_optim::AnyAlgorithm>(text) {
        let mut optimizer = Optimizer::<f64>::new(config);
        let error = optimizer.number_mut(None, "beta1").unwrap_err();
        assert!(error.to_string().contains("\"betas[0]\""), "{error}");
    }
}

#[test]
fn a_closure_is_a_schedule() {
    let schedules = Schedules::new()
        .drive("lr", |step: u64| 0.1 / (step + 1) as f64)
        .drive(
            "weight_decay",
            AnySchedule::from(0.5).times(|step: u64| step as f64),
        );
    let mut adamw = Optimizer::<f64>::new(AdamW::new(1.0));
    schedules.apply(&mut adamw, 4).unwrap();
    assert_eq!(
        (adamw.lr(), *adamw.number_mut(None, "weight_decay").unwrap()),
        (0.02, 2.0)
    );
    assert_eq!(schedules.clone(), schedules);
    // Files cannot hold it, and say so.
    let error = serde_json::to_string(&schedules).unwrap_err().to_string();
    assert!(error.contains("cannot be serialized"), "{error}");
    assert!(serde_json::from_str::<AnySchedule>(r#"{"name": "function"}"#).is_err());
}

#[test]
fn a_step_takes_its_parameters_in_one_expression() -> Result<(), Error> {
    let mut sgd = Optimizer::new(Sgd::new(1.0));
    let (mut w, mut b, g) = (array![[1.0]], array![1.0], array![0.5]);
    sgd.step(Params::new().add("w", &mut w, &array![[0.5]])?)?;
    sgd.step(
        Params::new()
            .add("w", &mut w, &array![[0.5]])?
            .add("b", &mut b, &g)?,
    )?;
    assert_eq!((w[[0, 0]], b[0]), (0.0, 0.5));
    // The list is empty afterwards: nothing happens twice.
    let mut params = Params::new();
    params.add("b", &mut b, &g)?;
    sgd.step(&mut params)?;
    assert!(params.is_empty());
    sgd.step(params)?;
    assert_eq!((b[0], sgd.steps("b")), (0.0, 2));
    Ok(())
}

#[test]
fn a_second_array_of_another_shape_is_told_how_to_go_on() {
    let mut adam = Optimizer::new(Adam::new(0.1));
    adam.update(&mut array![1.0], &array![1.0]).unwrap();
    let error = adam
        .update(&mut array![1.0, 2.0], &array![1.0, 2.0])
        .unwrap_err()
        .to_string();
    assert!(error.contains("`step`"), "{error}");
    let mut sgd = Optimizer::new(Sgd::new(0.1));
    let (mut a, mut b) = (array![1.0], array![1.0, 2.0]);
    let (ga, gb) = (a.clone(), b.clone());
    sgd.step(Params::new().add("w", &mut a, &ga).unwrap())
        .unwrap();
    let error = sgd
        .step(Params::new().add("w", &mut b, &gb).unwrap())
        .unwrap_err()
        .to_string();
    assert!(!error.contains("`update`"), "{error}");
}
