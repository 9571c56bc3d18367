//! Every legal value comes back from every format.
use ndarray::{ArrayD, array};
use ndarray_optim::{
    Adafactor, AdamW, AnyAlgorithm, AnyWrap, Checkpoint, ComposedConfig, Error, Group, GroupStats,
    Limits, LookaheadConfig, NonFinite, Optimizer, Parallel, Params, Prodigy, ReduceOnPlateau,
    ReduceOnPlateauConfig, RmsProp, Select, Sgd, StateDict,
    algorithm::{Element, Field, Scalars, Sums},
    schedule::{
        AnySchedule, Constant, Exponential, Linear, PiecewiseConstant, Product, Schedules,
        Sequential,
    },
    wrap::{Bounds, ClipByGlobalNorm, Ema, ScaleGradient, Watch},
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::{Value, from_value, json, to_value};
use std::{fmt::Debug, mem::ManuallyDrop};

/// Serde formats, as text and binary, self-describing and not.
const FORMATS: [&str; 6] = ["JSON", "a JSON value", "TOML", "RON", "CBOR", "postcard"];

/// TOML documents are tables.
#[derive(Serialize, Deserialize)]
struct Table<T> {
    inner: T,
}

fn through<T: Serialize + DeserializeOwned>(x: &T, format: &str) -> Result<T, String> {
    fn text<T>(result: Result<T, impl Debug>) -> Result<T, String> {
        result.map_err(|error| format!("{error:?}"))
    }
    match format {
        "JSON" => text(serde_json::from_str(&text(serde_json::to_string(x))?)),
        "a JSON value" => text(from_value(text(to_value(x))?)),
        "TOML" => {
            let table = text(toml::to_string(&Table { inner: x }))?;
            text(toml::from_str::<Table<T>>(&table)).map(|table| table.inner)
        }
        "RON" => text(ron::from_str(&text(ron::to_string(x))?)),
        "CBOR" => {
            let mut bytes = Vec::new();
            text(ciborium::into_writer(x, &mut bytes))?;
            text(ciborium::from_reader(&bytes[..]))
        }
        "postcard" => text(postcard::from_bytes(&text(postcard::to_stdvec(x))?)),
        _ => panic!("{format}"),
    }
}

/// Reads back the same, which shows the sign of zero and all digits in its `Debug`.
fn comes_back<T: Serialize + DeserializeOwned + Debug>(x: &T) {
    for format in FORMATS {
        match through(x, format) {
            Ok(read) => assert_eq!(format!("{read:?}"), format!("{x:?}"), "{format}"),
            Err(error) => panic!("{format}: {error} for {x:?}"),
        }
    }
}

/// Numbers that formats get wrong, as JSON has to write them.
fn odd_numbers() -> Vec<(Value, f64)> {
    let mut all = vec![
        (json!("inf"), f64::INFINITY),
        (json!("-inf"), f64::NEG_INFINITY),
        (json!("NaN"), f64::NAN),
    ];
    let finite = [
        -0.0,
        5e-324,
        f64::MIN_POSITIVE,
        f64::MAX,
        f64::MIN,
        0.1,
        1.0 / 3.0,
        1e16,
        9_007_199_254_740_993.0,
        f64::EPSILON,
    ];
    all.extend(finite.map(|x| (json!(x), x)));
    all
}

/// An object with another number in each place of each of these fields in turn.
fn changed(object: &Value, fields: &[Field], with: &Value, mut each: impl FnMut(Value, String)) {
    for field in fields.iter().filter(|field| field.ty.contains("f64")) {
        let places: Vec<Option<usize>> = match &object[field.name] {
            // Pairs of a step and a number.
            Value::Array(list) if list.iter().all(Value::is_array) => continue,
            Value::Array(list) => (0..list.len()).map(Some).collect(),
            _ => vec![None],
        };
        for place in places {
            let mut object = object.clone();
            match place {
                Some(i) => object[field.name][i] = with.clone(),
                None => object[field.name] = with.clone(),
            }
            each(object, format!("{}[{place:?}]", field.name));
        }
    }
}

fn every_number_comes_back<T>(all: &[T], fields: impl Fn(&T) -> Vec<Field>)
where
    T: Serialize + DeserializeOwned + Debug,
{
    let mut count = 0;
    for x in all {
        comes_back(x);
        let object = to_value(x).unwrap();
        for (text, number) in odd_numbers() {
            changed(&object, &fields(x), &text, |object, place| {
                let changed: T = from_value(object).unwrap();
                assert!(
                    format!("{changed:?}").contains(&format!("{number:?}")),
                    "{place} of {changed:?}"
                );
                comes_back(&changed);
                count += 1;
            });
        }
    }
    assert!(count > 100, "{count}");
}

#[test]
fn every_number_of_every_algorithm_comes_back_from_every_format() {
    every_number_comes_back(&AnyAlgorithm::all(), AnyAlgorithm::fields);
}

#[test]
fn every_number_of_every_wrapper_comes_back_from_every_format() {
    every_number_comes_back(&AnyWrap::all(), AnyWrap::fields);
    let mut lookahead = Optimizer::<f64>::new(Sgd::new(0.1));
    lookahead.limits.norm = Some(f64::INFINITY);
    comes_back(&lookahead.limits);
    for slow_step_size in [f64::INFINITY, f64::NAN, 0.3] {
        comes_back(&AnyAlgorithm::Lookahead(LookaheadConfig {
            inner: Box::new(RmsProp::default().into()),
            sync_period: 7,
            slow_step_size,
        }));
    }
}

#[test]
fn every_number_of_every_schedule_comes_back_from_every_format() {
    let all: Vec<_> = crate::schedules::all_samples().collect();
    every_number_comes_back(&all, AnySchedule::fields);
    comes_back(&AnySchedule::from(PiecewiseConstant {
        boundaries_and_scales: vec![(3, f64::INFINITY), (u64::MAX >> 1, f64::NAN), (9, 5e-324)],
        ..PiecewiseConstant::new(f64::NEG_INFINITY)
    }));
}

#[test]
fn numbers_of_structs_alone_come_back_from_every_format() {
    for x in odd_numbers().into_iter().map(|(_, x)| x) {
        comes_back(&AdamW {
            betas: (x, 0.1),
            ..AdamW::new(x)
        });
        comes_back(&RmsProp {
            alpha: x,
            eps_inside_sqrt: true,
            ..Default::default()
        });
        comes_back(&Adafactor {
            eps: (Some(x), x),
            ..Default::default()
        });
        comes_back(&Linear {
            end_factor: x,
            ..Linear::new(x)
        });
        comes_back(&Limits {
            norm: Some(x),
            skipped: Some(3),
        });
        comes_back(&ClipByGlobalNorm {
            max_norm: x,
            ..Default::default()
        });
        comes_back(&Sums::new([x, 1.0]));
        comes_back(
            &Schedules::new()
                .drive("lr", x)
                .drive_group("g", "betas[0]", x),
        );
        comes_back(&Group::new(
            "g",
            Select::rank(2),
            AnyAlgorithm::from(Sgd::new(x)),
        ));
        comes_back(&Group::new(
            "g",
            ["a", "b"],
            AnyAlgorithm::from(Sgd::new(x)),
        ));
        comes_back(&Group::new(
            "g",
            Select::prefix("e."),
            AnyAlgorithm::from(Sgd::new(x)),
        ));
    }
    comes_back(&Limits::default());
    comes_back(&Parallel::default());
    comes_back(&Adafactor::default());
}

#[test]
fn infinite_and_missing_bounds_are_different_bounds() {
    let bounds = [
        None,
        Some(f64::NEG_INFINITY),
        Some(0.0),
        Some(-0.0),
        Some(f64::INFINITY),
    ];
    for (lower, upper) in bounds.iter().flat_map(|&l| bounds.map(|u| (l, u))) {
        comes_back(&Bounds { lower, upper });
        comes_back(
            &AnyAlgorithm::from(Sgd::new(0.1)).in_wrappers([Bounds { lower, upper }.into()]),
        );
    }
    // As other programs write them.
    let read = |text: &str| serde_json::from_str::<Bounds>(text).unwrap();
    assert_eq!(read("{}").lower, Some(0.0));
    assert_eq!(read(r#"{"lower": null}"#).lower, None);
    assert_eq!(read(r#"{"lower": "none", "upper": 1}"#).upper, Some(1.0));
    let toml = toml::from_str::<Bounds>("lower = -inf\nupper = 3").unwrap();
    assert_eq!(
        (toml.lower, toml.upper),
        (Some(f64::NEG_INFINITY), Some(3.0))
    );
    let ron = ron::from_str::<Bounds>("(lower: None, upper: Some(2.5))").unwrap();
    assert_eq!((ron.lower, ron.upper), (None, Some(2.5)));
}

#[test]
fn configurations_are_written_by_hand_in_toml_and_ron() {
    let expected = AnyAlgorithm::from(AdamW {
        betas: (0.8, 0.99),
        ..AdamW::new(1.0)
    })
    .in_wrappers([ClipByGlobalNorm {
        norm: ndarray_optim::reduce::Norm::Max,
        ..Default::default()
    }
    .into()]);
    let toml = "name = 'composed'\n[inner]\nname = 'adamw'\nlr = 1\nbetas = [0.8, 0.99]\n\
                [[wrap]]\nname = 'clip_by_global_norm'\nnorm = 'max'\n";
    assert_eq!(toml::from_str::<AnyAlgorithm>(toml).unwrap(), expected);
    let ron = r#"(name: "composed", inner: (name: "adamw", lr: 1, betas: (0.8, 0.99)),
                  wrap: [(name: "clip_by_global_norm", norm: "max")])"#;
    assert_eq!(ron::from_str::<AnyAlgorithm>(ron).unwrap(), expected);
    // Variables of an environment are texts.
    let text = |lr: &str| serde_json::from_value::<Sgd>(json!({ "lr": lr }));
    assert_eq!(text("0.25").unwrap(), Sgd::new(0.25));
    assert!(
        ["1e999", "abc", "", "infinity", "nan", "NaN 0x0"]
            .iter()
            .all(|lr| text(lr).is_err())
    );
    let group = "(group: \"g\", params: {\"rank\": 2}, optimizer: (name: \"sgd\"))";
    let group: Group = ron::from_str(group).unwrap();
    assert_eq!(group.params, Select::rank(2));
}

/// A program in which another crate turns on serde_json's feature `arbitrary_precision` gets each
/// number as such a map wherever its type is not known in advance. `.ci/jobs features` runs these
/// tests with that feature, too.
#[test]
fn numbers_that_serde_json_has_not_interpreted_are_numbers() {
    let digits = |text: &str| json!({"$serde_json::private::Number": text});
    let config =
        json!({"name": "adamw", "lr": digits("1e-3"), "betas": [digits("0.5"), digits("0")]});
    let expected = AdamW {
        betas: (0.5, 0.0),
        ..AdamW::new(1e-3)
    };
    assert_eq!(from_value::<AnyAlgorithm>(config).unwrap(), expected.into());
    let adamw = json!({"lr": digits("1e-3"), "betas": [digits("0.5"), digits("0")]});
    assert_eq!(from_value::<AdamW>(adamw).unwrap(), expected);
    let schedule = json!({"name": "linear", "lr": digits("-0"), "total_steps": digits("18446744073709551615")});
    let AnySchedule::Linear(linear) = from_value(schedule).unwrap() else {
        panic!("another schedule")
    };
    assert_eq!(
        (linear.lr.to_bits(), linear.total_steps),
        ((-0.0_f64).to_bits(), u64::MAX)
    );
    let wrap = json!({"name": "bounds", "lower": digits("-2.5")});
    let bounds = Bounds {
        lower: Some(-2.5),
        upper: None,
    };
    assert_eq!(from_value::<AnyWrap>(wrap).unwrap(), bounds.into());
    assert!(from_value::<AdamW>(json!({"lr": digits("1e999")})).is_err());
    assert!(from_value::<AnyAlgorithm>(json!({"name": "sgd", "lr": digits("1e999")})).is_err());
    assert!(from_value::<AnyAlgorithm>(json!({"name": "sgd", "lr": {"digits": "1"}})).is_err());
}

/// The state of an optimizer in the middle of everything, with values of every kind.
fn odd_state<A: Element>(algorithm: &AnyAlgorithm) -> StateDict {
    let shape = |name: &str| if name == "c" { vec![2, 2] } else { vec![2, 3] };
    let mut optimizer = Optimizer::<A>::new(algorithm.clone());
    for (name, params) in [("names", Select::names(["b"])), ("rank", Select::rank(5))] {
        optimizer
            .add_group(Group::new(name, params, algorithm.clone()))
            .unwrap();
    }
    optimizer
        .add_group(Group::new("prefix", Select::prefix("c"), Prodigy::new(1.0)))
        .unwrap();
    optimizer.non_finite = NonFinite::Skip;
    optimizer.limits = Limits {
        norm: Some(f64::INFINITY),
        skipped: Some(1 << 40),
    };
    optimizer.clip = Some(ClipByGlobalNorm {
        max_norm: 3.0,
        ..Default::default()
    });
    optimizer.set_accumulation(2);
    for t in 0..3 {
        let names = ["a", "b", "c"];
        let mut params = names.map(|name| crate::common::numbers::<A>(&shape(name), 1));
        let grads = names.map(|name| crate::common::numbers::<A>(&shape(name), 2 + t));
        let mut lent = Params::new();
        lent.loss(1.5);
        for ((name, p), g) in names.iter().zip(&mut params).zip(&grads) {
            lent.add(*name, p, g).unwrap();
        }
        optimizer.step(lent).unwrap();
    }
    let mut state = optimizer.state_dict();
    let mut odd = odd_numbers().into_iter().map(|(_, x)| x).cycle();
    let nans = [
        0x7ff8_0000_0000_0001,
        0xfff0_0000_4000_0000,
        0x7ff4_dead_e000_0000,
    ];
    let mut nans = nans.into_iter().map(f64::from_bits).cycle();
    let mut next = move || [odd.next().unwrap(), nans.next().unwrap()];
    for param in &mut state.params {
        let [a, b] = next();
        param.scalars = Scalars::new([a, b, next()[0], next()[0]]);
        for named in param.arrays.iter_mut().chain(&mut param.factors) {
            let mut values = std::iter::from_fn(|| Some(next())).flatten();
            let shape = named.data.shape().to_vec();
            // f32 NaN with all kinds of bits too, which a conversion would change.
            named.data = if A::TYPE == f32::TYPE {
                let mut bits = [0x7f80_0001_u32, 0xffc1_2345, 0x7fbf_ffff]
                    .into_iter()
                    .cycle();
                ArrayD::from_shape_simple_fn(shape, || match values.next() {
                    Some(x) if !x.is_nan() => x as f32,
                    _ => f32::from_bits(bits.next().unwrap()),
                })
                .into()
            } else {
                ArrayD::from_shape_simple_fn(shape, || values.next().unwrap()).into()
            };
        }
    }
    for group in state
        .groups
        .iter_mut()
        .filter(|group| group.scalars.is_some())
    {
        group.scalars = Some(Scalars::new([next()[0], next()[1], next()[0], next()[1]]));
    }
    state.accumulation.as_mut().unwrap().loss = next()[1];
    state
}

fn carried(state: &StateDict, format: &str) -> Result<StateDict, String> {
    let text = |error: Error| error.to_string();
    match format {
        "bytes" => StateDict::from_bytes(&state.to_bytes().unwrap()).map_err(text),
        "safetensors" => {
            let file = state.to_safetensors().unwrap();
            StateDict::from_safetensors(&file)
                .map(|(state, _)| state)
                .map_err(text)
        }
        "checkpoint" => {
            let checkpoint = Checkpoint::new(1).state("o", state.view()).unwrap();
            let bytes = checkpoint.to_bytes().unwrap();
            let state = Checkpoint::from_bytes(&bytes).unwrap().take_state("o");
            state.map_err(|error| error.to_string())
        }
        format => through(state, format),
    }
}

#[test]
fn every_state_comes_back_from_every_format_bit_for_bit() {
    let mut tried = 0;
    for algorithm in AnyAlgorithm::all() {
        let wrapped = algorithm.clone().in_wrappers([
            Bounds {
                lower: Some(f64::NEG_INFINITY),
                upper: None,
            }
            .into(),
            Ema {
                decay: 0.9,
                ..Default::default()
            }
            .into(),
        ]);
        for algorithm in [algorithm, wrapped] {
            // Some algorithms with all of their own state arrays and that of the average do not
            // fit.
            if algorithm.validate().is_err()
                || Optimizer::<f64>::new(algorithm.clone())
                    .update(&mut array![[1.0, 2.0]], &array![[1.0, 2.0]])
                    .is_err_and(|error| error.to_string().contains("state arrays"))
            {
                continue;
            }
            for state in [odd_state::<f32>(&algorithm), odd_state::<f64>(&algorithm)] {
                let bits = state.to_bytes().unwrap();
                for format in FORMATS
                    .iter()
                    .chain(&["bytes", "safetensors", "checkpoint"])
                {
                    let read = carried(&state, format)
                        .unwrap_or_else(|error| panic!("{format}: {error} for {algorithm:?}"));
                    assert!(read.to_bytes().unwrap() == bits, "{format}: {algorithm:?}");
                    tried += 1;
                }
            }
        }
    }
    assert!(tried > 1500, "{tried}");
}

const NESTED: usize = 200_000;

fn nested_schedules(levels: usize, sequential: bool) -> AnySchedule {
    (0..levels).fold(Constant::new(0.5).into(), |inner, _| {
        if sequential {
            Sequential::new(vec![inner], Vec::new()).into()
        } else {
            Product::new(vec![inner, 1.0.into()]).into()
        }
    })
}

fn nested_wrappers(levels: usize, lookahead: bool) -> AnyAlgorithm {
    (0..levels).fold(Sgd::new(0.5).into(), |inner, _| {
        let inner = Box::new(inner);
        if lookahead {
            AnyAlgorithm::Lookahead(LookaheadConfig {
                inner,
                sync_period: 3,
                slow_step_size: 0.5,
            })
        } else {
            let wrap = vec![ScaleGradient { factor: 1.0 }.into()];
            AnyAlgorithm::Composed(ComposedConfig { inner, wrap })
        }
    })
}

/// On a thread with little stack.
fn on_a_small_stack(run: impl FnOnce() + Send + 'static) {
    let thread = std::thread::Builder::new().stack_size(1 << 19);
    thread.spawn(run).unwrap().join().unwrap();
}

fn is_too_deep(result: Result<(), Error>) -> bool {
    result.is_err_and(|error| {
        error
            .to_string()
            .contains("nested more than 16 levels deep")
    })
}

#[test]
fn schedules_in_schedules_beyond_all_measure_are_refused_and_overflow_nothing() {
    on_a_small_stack(|| {
        for sequential in [false, true] {
            let deep = nested_schedules(NESTED, sequential);
            let copy = deep.clone();
            assert!(copy == deep);
            assert!(nested_schedules(NESTED - 1, sequential) != deep);
            assert!(is_too_deep(deep.validate()));
            assert!(deep.value(7).is_nan());
            assert!(format!("{deep:?}").contains("nested more than 16 levels deep"));
            for error in [
                serde_json::to_string(&deep).unwrap_err().to_string(),
                toml::to_string(&deep).unwrap_err().to_string(),
                ron::to_string(&deep).unwrap_err().to_string(),
                ciborium::into_writer(&deep, Vec::new())
                    .unwrap_err()
                    .to_string(),
            ] {
                assert!(error.contains("nested more than 16 levels deep"), "{error}");
            }
            let schedules = Schedules::new().drive("lr", deep);
            assert!(serde_json::to_string(&schedules.clone()).is_err());
            drop((schedules, copy));
        }
    });
}

#[test]
fn schedules_in_16_schedules_work_and_in_17_are_refused() {
    for sequential in [false, true] {
        let schedule = nested_schedules(16, sequential);
        schedule.validate().unwrap();
        assert_eq!(schedule.value(3), 0.5);
        assert!(format!("{schedule:?}").contains("Constant"));
        comes_back(&schedule);
        let schedule = nested_schedules(17, sequential);
        assert!(is_too_deep(schedule.validate()) && schedule.value(3).is_nan());
        assert!(serde_json::to_string(&schedule).is_err());
        for levels in [17, 30, 60, 10_000] {
            let (before, after) = (r#"{"name":"product","schedules":["#, "]}");
            let text =
                before.repeat(levels) + r#"{"name":"constant","lr":1}"# + &after.repeat(levels);
            assert!(
                serde_json::from_str::<AnySchedule>(&text).is_err(),
                "{levels}"
            );
        }
    }
    // Wide ones are not deep.
    let wide = Product::new(vec![Exponential::new(1.0, 1.0).into(); 1000]);
    AnySchedule::from(wide.clone()).validate().unwrap();
    assert_eq!(AnySchedule::from(wide).value(3), 1.0);
}

#[test]
fn wrappers_in_wrappers_beyond_all_measure_are_refused_and_overflow_nothing() {
    on_a_small_stack(|| {
        for lookahead in [false, true] {
            let deep = nested_wrappers(NESTED, lookahead);
            let copy = deep.clone();
            assert!(copy == deep);
            assert!(nested_wrappers(NESTED - 1, lookahead) != deep);
            assert!(is_too_deep(deep.validate()));
            assert!(format!("{deep:?}").contains("nested more than 16 levels deep"));
            let group = Group::new("g", ["a"], deep.clone());
            for error in [
                serde_json::to_string(&group).unwrap_err().to_string(),
                ron::to_string(&group).unwrap_err().to_string(),
                ciborium::into_writer(&group, Vec::new())
                    .unwrap_err()
                    .to_string(),
            ] {
                assert!(error.contains("nested more than 16 levels deep"), "{error}");
            }
            let mut optimizer = Optimizer::<f64>::new(copy);
            let mut p = array![1.0];
            assert!(is_too_deep(
                optimizer.update(&mut p, &array![1.0]).map(|_| ())
            ));
            assert_eq!(p, array![1.0]);
            let refused = Optimizer::<f64>::new(Sgd::new(0.1)).add_group(group);
            let Err(Error::InGroup { source, .. }) = refused.map(|_| ()) else {
                panic!("added")
            };
            assert!(is_too_deep(Err(*source)));
        }
    });
}

#[test]
fn wrappers_in_16_wrappers_work_and_in_17_are_refused() {
    let algorithm = nested_wrappers(16, false);
    let mut p = array![1.0];
    let mut optimizer = Optimizer::<f64>::new(algorithm.clone());
    optimizer.update(&mut p, &array![1.0]).unwrap();
    assert_eq!(p, array![0.5]);
    algorithm.validate().unwrap();
    comes_back(&algorithm);
    assert!(is_too_deep(nested_wrappers(17, false).validate()));
    assert!(serde_json::to_string(&nested_wrappers(17, true)).is_err());
    for levels in [17, 30, 100, 10_000] {
        let (before, after) = (r#"{"name":"composed","wrap":[],"inner":"#, "}");
        let text = before.repeat(levels) + r#"{"name":"sgd"}"# + &after.repeat(levels);
        assert!(
            serde_json::from_str::<AnyAlgorithm>(&text).is_err(),
            "{levels}"
        );
    }
    // One after another they are one list.
    let scale = || [ScaleGradient { factor: 1.0 }.into()];
    let many = (0..100).fold(AnyAlgorithm::from(Sgd::new(0.5)), |inner, _| {
        inner.in_wrappers(scale())
    });
    many.validate().unwrap();
    comes_back(&many);
}

/// Objects of every kind that files have.
fn objects() -> Vec<(&'static str, Value)> {
    fn all<T: Serialize>(
        kind: &'static str,
        list: impl IntoIterator<Item = T>,
    ) -> impl Iterator<Item = (&'static str, Value)> {
        let values: Vec<_> = list.into_iter().map(|x| to_value(x).unwrap()).collect();
        values.into_iter().map(move |value| (kind, value))
    }
    let composed = AnyAlgorithm::from(Sgd::new(0.1)).in_wrappers([Ema {
        decay: 0.9,
        ..Default::default()
    }
    .into()]);
    let plateau = ReduceOnPlateau::new(ReduceOnPlateauConfig::new(0.1)).unwrap();
    let schedules = Schedules::new().drive("lr", Linear::new(0.1));
    let mut watched = Optimizer::<f64>::new(Sgd::new(0.1));
    watched.watch = true;
    watched.update(&mut array![1.0], &array![1.0]).unwrap();
    all("algorithm", AnyAlgorithm::all())
        .chain(all("algorithm", [composed, nested_wrappers(1, true)]))
        .chain(all("wrapper", AnyWrap::all()))
        .chain(all("schedule", crate::schedules::all_samples()))
        .chain(all(
            "group",
            [Group::new(
                "g",
                Select::rank(2),
                AnyAlgorithm::from(Sgd::new(1.0)),
            )],
        ))
        .chain(all("selection", [Select::rank(2), Select::prefix("a")]))
        .chain(all("plateau", [plateau.clone()]))
        .chain(all(
            "plateau's hyper-parameters",
            [plateau.config().clone()],
        ))
        .chain(all("driven", schedules.driven))
        .chain(all(
            "limits",
            [Limits {
                norm: Some(1.0),
                skipped: Some(2),
            }],
        ))
        .chain(all("parallel", [Parallel::default()]))
        .chain(all("statistics", watched.stats().to_vec()))
        .chain(all("state", [odd_state::<f64>(&Prodigy::new(1.0).into())]))
        .collect()
}

fn read(kind: &str, text: &str) -> Result<(), String> {
    fn as_a<T: DeserializeOwned>(text: &str) -> Result<(), String> {
        let read = serde_json::from_str::<T>(text).map(|_| ());
        read.map_err(|error| error.to_string())
    }
    match kind {
        "algorithm" => as_a::<AnyAlgorithm>(text),
        "wrapper" => as_a::<AnyWrap>(text),
        "schedule" => as_a::<AnySchedule>(text),
        "group" => as_a::<Group>(text),
        "selection" => as_a::<Select>(text),
        "plateau" => as_a::<ReduceOnPlateau>(text),
        "plateau's hyper-parameters" => as_a::<ReduceOnPlateauConfig>(text),
        "driven" => as_a::<ndarray_optim::schedule::Driven>(text),
        "limits" => as_a::<Limits>(text),
        "parallel" => as_a::<Parallel>(text),
        "statistics" => as_a::<GroupStats>(text),
        "state" => as_a::<StateDict>(text),
        _ => panic!("{kind}"),
    }
}

/// The texts of a value in which one key of one object is written twice, or is an unknown one.
fn with_another_key(value: &Value, repeated: bool) -> Vec<String> {
    match value {
        Value::Object(map) => {
            let text = |key: &str, value: &str| format!("{key:?}:{value}");
            let fields: Vec<(&String, String)> = map
                .iter()
                .map(|(key, value)| (key, value.to_string()))
                .collect();
            let object = |list: Vec<String>| format!("{{{}}}", list.join(","));
            let plain = || fields.iter().map(|(key, value)| text(key, value));
            let mut all: Vec<String> = if repeated {
                let again = fields.iter().map(|(key, value)| text(key, value));
                again
                    .map(|again| object(plain().chain([again]).collect()))
                    .collect()
            } else {
                vec![object(plain().chain([text("unknown", "1")]).collect())]
            };
            for (i, inner) in map.values().enumerate() {
                all.extend(
                    with_another_key(inner, repeated)
                        .into_iter()
                        .map(|changed| {
                            let list = fields.iter().enumerate().map(|(k, (key, value))| {
                                text(key, if k == i { &changed } else { value })
                            });
                            object(list.collect())
                        }),
                );
            }
            all
        }
        Value::Array(list) => {
            let mut all = Vec::new();
            for (i, inner) in list.iter().enumerate() {
                all.extend(
                    with_another_key(inner, repeated)
                        .into_iter()
                        .map(|changed| {
                            let list = list.iter().enumerate().map(|(k, value)| {
                                if k == i {
                                    changed.clone()
                                } else {
                                    value.to_string()
                                }
                            });
                            format!("[{}]", list.collect::<Vec<_>>().join(","))
                        }),
                );
            }
            all
        }
        _ => Vec::new(),
    }
}

#[test]
fn a_repeated_or_unknown_key_is_refused_at_every_place_of_every_file() {
    for repeated in [true, false] {
        let mut tried = 0;
        for (kind, value) in objects() {
            assert_eq!(read(kind, &value.to_string()), Ok(()), "{kind} {value}");
            for text in with_another_key(&value, repeated) {
                let error = read(kind, &text).expect_err(&text);
                let known = ["duplicate field", "unknown field", "one key too many"];
                assert!(
                    known.iter().any(|words| error.contains(words)),
                    "{error}: {text}"
                );
                tried += 1;
            }
        }
        assert!(tried > 150, "{tried}");
    }
}

#[test]
fn other_formats_refuse_repeated_keys_too() {
    let toml = "name = 'sgd'\nlr = 0.1\nlr = 0.2";
    assert!(toml::from_str::<AnyAlgorithm>(toml).is_err());
    let ron = r#"(name: "sgd", lr: 0.1, lr: 0.2)"#;
    assert!(
        ron::from_str::<AnyAlgorithm>(ron)
            .unwrap_err()
            .to_string()
            .contains("duplicate")
    );
    assert!(ron::from_str::<AnySchedule>(r#"(name: "constant", lr: 0.1, lr: 0.2)"#).is_err());
    assert!(ron::from_str::<Sgd>("(lr: 0.1, lr: 0.2)").is_err());
    // In the hyper-parameters inside of a binary state, which are a text.
    let state = odd_state::<f64>(&Sgd::new(0.125).into());
    let bytes = postcard::to_stdvec(&state).unwrap();
    let (old, new) = (
        br#""lr":0.125,"momentum":0.0"#,
        br#""lr":0.125,"lr":0.3333333"#,
    );
    let at = bytes
        .windows(old.len())
        .position(|window| window == old)
        .unwrap();
    let mut changed = bytes.clone();
    changed[at..at + old.len()].copy_from_slice(new);
    assert!(postcard::from_bytes::<StateDict>(&bytes).is_ok());
    assert!(postcard::from_bytes::<StateDict>(&changed).is_err());
}

#[test]
fn a_plateau_of_impossible_numbers_is_refused_when_it_is_read() {
    let plateau = ReduceOnPlateau::new(ReduceOnPlateauConfig::new(0.1)).unwrap();
    let value = to_value(&plateau).unwrap();
    assert_eq!(
        from_value::<ReduceOnPlateau>(value.clone()).unwrap(),
        plateau
    );
    let wrong = [
        ("/config/factor", json!(5)),
        ("/config/threshold", json!(-3)),
        ("/config/threshold", json!(1)),
        ("/config/lr", json!("NaN")),
        ("/config/eps", json!(-1)),
        ("/lr", json!(-0.1)),
        ("/lr", json!("inf")),
        ("/lr", json!("NaN")),
        ("/best", json!("-inf")),
        ("/best", json!("NaN")),
    ];
    for (place, number) in wrong {
        let mut value = value.clone();
        *value.pointer_mut(place).unwrap() = number.clone();
        let read = from_value::<ReduceOnPlateau>(value).map_err(|error| error.to_string());
        let field = place.rsplit('/').next().unwrap();
        assert!(
            read.is_err_and(|error| error.contains(field)),
            "{place} {number}"
        );
    }
}

#[test]
fn a_plateau_in_the_middle_comes_back_from_every_format() {
    let mut plateau = ReduceOnPlateau::new(ReduceOnPlateauConfig::new(0.1)).unwrap();
    comes_back(&plateau);
    for t in 0..13 {
        plateau.observe(0.3);
        plateau.observe([f64::NAN, f64::INFINITY][t % 2]);
        comes_back(&plateau);
    }
}

#[test]
fn a_report_with_infinite_norms_comes_back_from_every_format() {
    let mut optimizer =
        Optimizer::<f64>::new(AnyAlgorithm::from(Sgd::new(0.1)).in_wrappers([Watch {}.into()]));
    for g in [f64::INFINITY, f64::NAN, 1.0] {
        optimizer
            .update(&mut array![1.0, 2.0], &array![g, 1.0])
            .unwrap();
        let [stats] = optimizer.stats() else {
            panic!("another number of groups")
        };
        assert_eq!(stats.grad_norm.is_finite(), g.is_finite());
        comes_back(stats);
    }
}

#[test]
fn a_refused_learning_rate_is_saved_and_read_back() {
    for lr in [f64::INFINITY, f64::NEG_INFINITY, f64::NAN] {
        let mut sgd = Optimizer::<f64>::new(Sgd::new(0.1));
        let mut p = array![1.0];
        sgd.update(&mut p, &array![1.0]).unwrap();
        sgd.set_lr(lr);
        sgd.update(&mut p, &array![1.0]).unwrap_err();
        let state = sgd.state_dict();
        for format in FORMATS
            .iter()
            .chain(&["bytes", "safetensors", "checkpoint"])
        {
            let read = carried(&state, format).unwrap();
            assert!(
                read.to_bytes().unwrap() == state.to_bytes().unwrap(),
                "{format}"
            );
            // A load checks: the program has to set another one.
            let error = Optimizer::<f64>::from_state(read).unwrap_err();
            assert!(error.to_string().contains("`lr`"), "{error}");
        }
    }
}

/// 0 and -0 are equal, but not as factors.
#[test]
fn a_learning_rate_of_zero_with_a_sign_resumes_with_its_sign() {
    // -0 - 0 * 1 is -0, and -0 - -0 * 1 is 0.
    let mut sgd = Optimizer::<f64>::new(Sgd::new(0.1));
    for (lr, expected) in [(0.0, -0.0), (-0.0, 0.0), (0.0, -0.0_f64)] {
        let mut p = array![-0.0];
        sgd.set_lr(lr);
        sgd.update(&mut p, &array![1.0]).unwrap();
        assert_eq!(p[0].to_bits(), expected.to_bits());
    }
    let mut negative = 0;
    for algorithm in AnyAlgorithm::all() {
        let decay = ndarray_optim::wrap::WeightDecay {
            weight_decay: 0.1,
            decoupled: true,
            ..Default::default()
        };
        for algorithm in [algorithm.clone(), algorithm.in_wrappers([decay.into()])] {
            let mut whole = Optimizer::<f64>::new(algorithm);
            let mut resumed = whole.clone();
            resumed.set_lr(0.0);
            if resumed
                .clone()
                .update_with_loss(&mut array![1.0, 2.0], &array![0.0, 0.0], 1.0)
                .is_err_and(|error| error.to_string().contains("`lr`"))
            {
                continue;
            }
            let mut p = array![[0.0, -0.0], [1.0, -1.0]];
            let mut q = p.clone();
            for t in 0..8 {
                let lr = [0.0, -0.0, -0.0, 0.0][t % 4];
                let g = if t % 3 == 0 {
                    array![[1.0, -1.0], [0.0, -0.0]]
                } else {
                    array![[-1.0, 1.0], [0.5, 0.5]]
                };
                // As a program that has another rate before it sets this one.
                resumed.set_lr(0.25);
                resumed = Optimizer::from_state(
                    StateDict::from_bytes(&resumed.state_view().to_bytes().unwrap()).unwrap(),
                )
                .unwrap();
                for (optimizer, p) in [(&mut whole, &mut p), (&mut resumed, &mut q)] {
                    optimizer.set_lr(lr);
                    optimizer.update_with_loss(&mut *p, &g, 1.0).unwrap();
                }
                let bits = |p: &ndarray::Array2<f64>| p.map(|x| x.to_bits());
                assert_eq!(bits(&p), bits(&q), "{whole:?}");
                negative += usize::from(p[[0, 0]].is_sign_negative());
            }
        }
    }
    assert!(negative > 0);
}

/// A value has no format that limits how deep it is.
#[test]
fn values_nested_beyond_all_measure_are_refused_before_they_are_read() {
    on_a_small_stack(|| {
        let nest = |key: &str, list: bool| {
            let mut value = json!({"name": "constant", "lr": 1});
            for _ in 0..2000 {
                let mut map = serde_json::Map::from_iter([("name".into(), json!("product"))]);
                let inner = if list {
                    Value::Array(vec![value])
                } else {
                    value
                };
                map.insert(key.into(), inner);
                value = Value::Object(map);
            }
            value
        };
        for value in [
            nest("schedules", true),
            nest("inner", false),
            nest("lr", true),
        ] {
            // serde_json's own values overflow the stack when they are dropped.
            let value = ManuallyDrop::new(value);
            let error = AnySchedule::deserialize(&*value).unwrap_err().to_string();
            assert!(error.contains("nested more than 16 levels deep"), "{error}");
            assert!(AnyAlgorithm::deserialize(&*value).is_err());
            assert!(AnyWrap::deserialize(&*value).is_err());
            assert!(Select::deserialize(&*value).is_err());
            assert!(Limits::deserialize(&*value).is_err());
        }
    });
}

#[test]
fn a_state_without_the_scalars_of_its_steps_is_refused() {
    let mut prodigy = Optimizer::<f64>::new(Prodigy::new(1.0));
    let (mut p, g) = (array![1.0, 2.0], array![0.5, 0.5]);
    let before = prodigy.state_dict();
    assert_eq!(before.groups[0].scalars, None);
    Optimizer::<f64>::from_state(before).unwrap();
    prodigy.update(&mut p, &g).unwrap();
    let state = prodigy.state_dict();
    let mut value = to_value(&state).unwrap();
    value["groups"][0]
        .as_object_mut()
        .unwrap()
        .remove("scalars");
    let without: StateDict = from_value(value).unwrap();
    let error = Optimizer::<f64>::from_state(without).unwrap_err();
    assert!(error.to_string().contains("scalars: found none"), "{error}");
}
