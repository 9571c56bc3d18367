//! Sets of named arrays: names, steps, evaluations.
use ndarray::{Array1, Array2, ArrayD, arr0, array};
use ndarray_optim::{
    Adam, AdamW, Compose, Error, Evaluating, NamedArrays, NamedArraysMut, Optimizer, Params, Sgd,
    UNNAMED, named_arrays,
};
use std::collections::{BTreeMap, HashMap};

#[derive(Clone, Debug, PartialEq)]
struct Layer<A> {
    weight: Array2<A>,
    bias: Array1<A>,
}
named_arrays!(impl<A> NamedArrays<A> for Layer<A> { weight, bias });

#[derive(Clone, Debug, PartialEq)]
struct Network {
    hidden: Vec<Layer<f64>>,
    output: Layer<f64>,
    scale: f64,
    name: &'static str,
}
named_arrays!(impl NamedArrays<f64> for Network { hidden, output, scale });

fn layer<A: From<f32> + Clone>(value: f32) -> Layer<A> {
    Layer {
        weight: Array2::from_elem((2, 3), A::from(value)),
        bias: Array1::from_elem(3, A::from(value + 1.0)),
    }
}

fn network() -> Network {
    Network {
        hidden: vec![layer(1.0), layer(2.0)],
        output: layer(3.0),
        scale: 0.5,
        name: "network",
    }
}

fn names<A>(set: &(impl NamedArrays<A> + ?Sized)) -> Vec<String> {
    let views = set.views().into_iter();
    views.map(|(name, _)| name.into_owned()).collect()
}

#[test]
fn names_are_those_of_fields_indices_and_keys_joined_by_dots() {
    let mut network = network();
    let expected = [
        "hidden.0.weight",
        "hidden.0.bias",
        "hidden.1.weight",
        "hidden.1.bias",
        "output.weight",
        "output.bias",
        "scale",
    ];
    assert_eq!(names(&network), expected);
    let mutable = network.views_mut().into_iter();
    assert!(mutable.map(|(name, _)| name).eq(expected));

    let (a, b) = (array![1.0], arr0(2.0));
    assert_eq!(names(&(&a, b.view())), ["0", "1"]);
    assert_eq!(names(&((a.view(), 1.0), &b)), ["0.0", "0.1", "1"]);
    assert_eq!(names(&a), [""]);
    assert_eq!(names(&Some(&a)), [""]);
    assert_eq!(names::<f64>(&(None::<f64>, 1.0)), ["1"]);
    let map = BTreeMap::from([("b", layer::<f32>(1.0)), ("a", layer(1.0))]);
    assert_eq!(names(&map), ["a.weight", "a.bias", "b.weight", "b.bias"]);
}

#[test]
fn a_step_of_a_set_is_the_step_of_its_arrays() {
    let (mut set, mut arrays) = (network(), network());
    let mut grads = network();
    let mut by_set = Optimizer::new(AdamW::new(0.1));
    let mut by_name = Optimizer::new(AdamW::new(0.1));
    for step in 0..5 {
        grads.fill_all(0.3 - 0.2 * f64::from(step));
        by_set.step_with(&mut set, &grads).unwrap();
        let mut params = Params::new();
        for ((name, param), (_, grad)) in arrays.views_mut().into_iter().zip(grads.views()) {
            params.add_view(name, param, grad).unwrap();
        }
        by_name.step(params).unwrap();
    }
    assert_eq!(set, arrays);
    assert_ne!(set, network());
    assert_eq!(by_set.state_dict(), by_name.state_dict());
    assert_eq!(by_set.steps("hidden.1.bias"), 5);
}

#[test]
fn gradients_are_found_by_name_in_any_order() {
    let values = |x: f64| (0..20).map(move |i| (format!("p{i}"), x * f64::from(i)));
    let mut model: HashMap<String, f64> = values(1.0).collect();
    let grads: BTreeMap<String, f64> = values(0.5).collect();
    let mut sgd = Optimizer::new(Sgd::new(1.0));
    sgd.step_with(&mut model, &grads).unwrap();
    assert_eq!(model, values(0.5).collect());
}

#[test]
fn an_array_by_itself_is_that_of_update() {
    let (mut theta, grad) = (array![1.0, 2.0], array![0.5, 0.5]);
    let mut sgd = Optimizer::new(Sgd::new(1.0));
    sgd.step_with(&mut theta, &grad).unwrap();
    sgd.update(&mut theta, &grad).unwrap();
    assert_eq!((theta, sgd.steps(UNNAMED)), (array![0.0, 1.0], 2));
}

#[test]
fn sets_that_do_not_match_are_refused_and_nothing_changes() {
    let mut sgd = Optimizer::new(Sgd::new(1.0));
    let set = |names: &[&str]| -> BTreeMap<String, ArrayD<f64>> {
        let array = array![1.0, 2.0].into_dyn();
        names
            .iter()
            .map(|&name| (name.into(), array.clone()))
            .collect()
    };
    let mut model = set(&["a", "b"]);
    let missing = sgd.step_with(&mut model, &set(&["a"]));
    assert_eq!(missing, Err(Error::MissingGradient { name: "b".into() }));
    let unknown = sgd.step_with(&mut model, &set(&["a", "b", "c"]));
    assert_eq!(unknown, Err(Error::UnknownParameter { name: "c".into() }));
    let other = sgd.step_with(&mut (&mut model, 1.0), &(set(&["a", "c"]), 1.0));
    assert_eq!(other, Err(Error::MissingGradient { name: "0.b".into() }));
    let mut shapes = set(&["a", "b"]);
    shapes.insert("b".into(), array![1.0].into_dyn());
    let shape = sgd.step_with(&mut model, &shapes);
    assert!(matches!(shape, Err(Error::GradientShape { name, .. }) if name == "b"));
    assert_eq!((model, sgd.steps("a")), (set(&["a", "b"]), 0));
}

#[test]
fn a_set_enters_and_leaves_an_evaluation_as_a_whole() {
    let ema = Adam::new(0.1).ema(0.5);
    let mut optimizer = Optimizer::new(ema);
    let (mut model, mut grads) = (network(), network());
    for step in 0..3 {
        grads.fill_all(1.0 + f64::from(step));
        optimizer.step_with(&mut model, &grads).unwrap();
    }
    let training = model.clone();
    let expected = optimizer
        .evaluate_param("scale", &arr0(model.scale))
        .unwrap();

    let mut evaluating = Evaluating::new(&mut optimizer);
    let mut with_stranger = (model.clone(), 1.0);
    assert!(evaluating.enter_all(&mut with_stranger).is_err());
    assert_eq!(with_stranger, (training.clone(), 1.0));
    evaluating.enter_all(&mut model).unwrap();
    evaluating.enter_all(&mut model).unwrap();
    assert_eq!(arr0(model.scale), expected);
    let averages = model.clone();
    let refused = evaluating.restore_all(&mut with_stranger);
    assert!(matches!(refused, Err(Error::MissingParameter { .. })));
    assert_eq!(model, averages);
    evaluating.restore_all(&mut model).unwrap();
    evaluating.finish().unwrap();
    assert_eq!(model, training);
}
