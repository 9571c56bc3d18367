//! A chain of wrappers means what its order says: trajectories of `chains.json`, by file and by
//! type, in every memory layout, and what other orders make of them.

use crate::common::{Case, F32, F64, array, cases, filled, number, pool, worst_error};
use ndarray::{ArrayD, ArrayViewD, ArrayViewMutD, IxDyn, ShapeBuilder, Slice};
use ndarray_optim::{
    AnyAlgorithm, AnyWrap, Compose, ComposedConfig, Optimizer, Parallel, Params, StateDict,
    algorithm::{Element, HyperParameters},
    wrap::{
        AdaptiveClip, Bounds, Centralize, ClipByBlockRms, ClipByGlobalNorm, ClipByNorm,
        ClipByValue, Ema, Grokfast, L1, Lookahead, ScaleGradient, Swa, Watch, WeightDecay,
    },
};
use std::ops::Range;

/// The chains of the fixture.
fn chains() -> Vec<Case> {
    let all: Vec<_> = cases()
        .into_iter()
        .filter(|case| case.id.starts_with("chains-"))
        .collect();
    assert!(all.len() >= 50, "{} chains", all.len());
    all
}

fn parts(case: &Case) -> (&AnyAlgorithm, &[AnyWrap]) {
    match &case.optimizer {
        AnyAlgorithm::Composed(ComposedConfig { inner, wrap }) => (inner, wrap),
        other => panic!("{}: {other:?} is no chain", case.id),
    }
}

/// The errors in `f64` and `f32` of the same algorithm in other wrappers.
fn errors_of(case: &Case, wrap: &[AnyWrap]) -> (f64, f64) {
    let algorithm = parts(case).0.clone().in_wrappers(wrap.to_vec());
    (
        worst_error(case, &mut Optimizer::<f64>::new(algorithm.clone())),
        worst_error(case, &mut Optimizer::<f32>::new(algorithm)),
    )
}

/// The chain by type, if it is one of those below: `None` if it is not.
fn by_type<A: Element>(algorithm: &AnyAlgorithm) -> Option<Optimizer<A>> {
    let AnyAlgorithm::Composed(ComposedConfig { inner, wrap }) = algorithm else {
        return None;
    };
    macro_rules! typed {
        ($($inner:ident [$($wrap:ident),*];)*) => {
            $(
                if let AnyAlgorithm::$inner(inner) = &**inner
                    && wrap.iter().map(AnyWrap::name).eq([$($wrap::NAME),*])
                {
                    let mut wrap = wrap.iter();
                    let chain = inner.clone();
                    $(
                        let Some(AnyWrap::$wrap(next)) = wrap.next() else {
                            return None;
                        };
                        let chain = chain.wrap(next.clone());
                    )*
                    return Some(Optimizer::new(chain));
                }
            )*
        };
    }
    // From the inside out, as in files.
    typed! {
        Sgd [ScaleGradient, ClipByGlobalNorm];
        Sgd [ClipByGlobalNorm, ScaleGradient];
        Sgd [ClipByGlobalNorm, ScaleGradient, WeightDecay, ClipByGlobalNorm, ScaleGradient];
        AdamW [ScaleGradient, ClipByGlobalNorm, WeightDecay];
        Sgd [ClipByNorm, ClipByGlobalNorm];
        Sgd [ClipByGlobalNorm, ClipByNorm];
        Sgd [ClipByNorm, ClipByBlockRms, ClipByGlobalNorm];
        Sgd [ClipByNorm, ClipByGlobalNorm, ClipByGlobalNorm];
        Sgd [ClipByBlockRms, ClipByGlobalNorm, ClipByBlockRms];
        Sgd [ClipByGlobalNorm, WeightDecay, ClipByNorm, ClipByGlobalNorm];
        Sgd [Centralize, ClipByGlobalNorm];
        Sgd [ClipByGlobalNorm, Centralize];
        Sgd [WeightDecay, ClipByGlobalNorm];
        Adam [WeightDecay, Centralize, ClipByGlobalNorm, WeightDecay, Centralize];
        Lamb [Centralize, ScaleGradient, WeightDecay];
        Lamb [ClipByValue, Grokfast, Centralize];
        Lamb [WeightDecay, ClipByValue];
        Lars [ClipByValue, ScaleGradient, Centralize];
        Lars [Grokfast, ClipByValue];
        NovoGrad [Grokfast, ClipByValue];
        NovoGrad [ClipByGlobalNorm, Grokfast, Centralize, ScaleGradient, ClipByValue];
        NAdam [ClipByValue, Centralize, Grokfast, Ema];
        ScheduleFreeSgd [Grokfast, AdaptiveClip, ScaleGradient, Centralize];
        Adan [Grokfast, Centralize, ClipByValue, Ema];
        Muon [ScaleGradient, ClipByValue, Grokfast];
        Muon [Grokfast, ClipByGlobalNorm, ScaleGradient, Ema];
        Sgd [Bounds, ClipByGlobalNorm, WeightDecay, Ema];
        Lamb [L1, ClipByValue, Centralize, Swa, Lookahead];
        AdamW [
            ClipByValue, ScaleGradient, Grokfast, ClipByGlobalNorm, Centralize, WeightDecay,
            ClipByNorm, ClipByBlockRms, ScaleGradient, Ema
        ];
        Lamb [
            ClipByValue, Grokfast, Lookahead, AdaptiveClip, WeightDecay, ClipByGlobalNorm,
            WeightDecay, Centralize, Bounds, Watch, Ema
        ];
    }
    None
}

/// How arrays lie in memory.
#[derive(Clone, Copy, Debug)]
enum Layout {
    RowMajor,
    Fortran,
    /// Parameters in Fortran order, gradients row-major.
    Mixed,
    /// Every second element along each axis.
    Spread,
    /// Every second element along each axis, backwards and in Fortran order.
    Backwards,
}

/// An array with the memory around it, which holds [`GAP`].
struct Memory<A> {
    all: ArrayD<A>,
    step: isize,
}

const GAP: f64 = 99.0;

impl<A: Element> Memory<A> {
    fn new(values: &ArrayD<A>, layout: Layout, is_param: bool) -> Self {
        let (fortran, step): (bool, isize) = match layout {
            Layout::RowMajor => (false, 1),
            Layout::Fortran => (true, 1),
            Layout::Mixed => (is_param, 1),
            Layout::Spread => (false, 2),
            Layout::Backwards => (true, -2),
        };
        let shape: Vec<_> = values
            .shape()
            .iter()
            .map(|n| n * step.unsigned_abs())
            .collect();
        let all = ArrayD::from_elem(IxDyn(&shape).set_f(fortran), A::from_f64(GAP));
        let mut memory = Memory { all, step };
        memory.view_mut().assign(values);
        memory
    }

    fn view_mut(&mut self) -> ArrayViewMutD<'_, A> {
        let step = self.step;
        self.all.slice_each_axis_mut(|_| Slice::new(0, None, step))
    }

    fn view(&self) -> ArrayViewD<'_, A> {
        self.all.slice_each_axis(|_| Slice::new(0, None, self.step))
    }

    /// Whether nothing was written beside the array.
    fn has_gaps(mut self) -> bool {
        self.view_mut().fill(A::from_f64(GAP));
        self.all.iter().all(|x| x.f64() == GAP)
    }
}

/// What a run is made of.
struct Run<A> {
    names: Vec<String>,
    start: Vec<ArrayD<A>>,
    grads: Vec<Vec<ArrayD<A>>>,
}

impl<A: Element> Run<A> {
    /// The arrays of the fixture.
    fn of(case: &Case) -> Self {
        let shapes = || case.params.iter().map(|p| &*p.shape);
        let arrays = |values: &Vec<Vec<f64>>| {
            let pairs = shapes().zip(values);
            pairs.map(|(shape, values)| array(shape, values)).collect()
        };
        let names = case.params.iter().map(|p| p.name.clone());
        Run {
            names: names.collect(),
            start: case
                .params
                .iter()
                .map(|p| array(&p.shape, &p.values))
                .collect(),
            grads: case.grads.iter().map(arrays).collect(),
        }
    }

    /// Arrays of several chunks and blocks, with as many axes.
    fn larger(case: &Case) -> Self {
        let arrays = |seed: u64, size: f64| {
            let arrays = (0..).zip(&case.params).map(|(k, p)| {
                let mut shape = p.shape.clone();
                if let Some(last) = shape.last_mut() {
                    *last += 150 + 7 * k;
                }
                filled(&shape, |i| size * number(seed + k as u64, i))
            });
            arrays.collect()
        };
        Run {
            start: arrays(0, 1.0),
            grads: [0.02, 0.5, 0.1, 1.0]
                .iter()
                .zip(1..)
                .map(|(&size, t)| arrays(100 * t, size))
                .collect(),
            ..Run::of(case)
        }
    }

    /// The bits of the parameters and of the points to evaluate after each step. In the middle,
    /// the optimizer that `resume` makes of the saved state takes over.
    fn bits(
        &self,
        mut optimizer: Optimizer<A>,
        layout: Layout,
        resume: impl Fn(&[u8]) -> Option<Optimizer<A>>,
    ) -> Vec<u64> {
        let start = self.start.iter();
        let mut params: Vec<_> = start.map(|p| Memory::new(p, layout, true)).collect();
        let mut bits = Vec::new();
        for (t, grads) in self.grads.iter().enumerate() {
            let grads = grads.iter();
            let grads: Vec<_> = grads.map(|g| Memory::new(g, layout, false)).collect();
            let mut step = Params::new();
            for ((name, p), g) in self.names.iter().zip(&mut params).zip(&grads) {
                step.add_view(&**name, p.view_mut(), g.view()).unwrap();
            }
            optimizer.step(step).unwrap();
            for (name, p) in self.names.iter().zip(&params) {
                let p = p.view();
                let point = optimizer.evaluate_param(name, &p).unwrap();
                bits.extend(p.iter().chain(&point).map(|x| x.f64().to_bits()));
            }
            if t == self.grads.len() / 2
                && let Some(mut resumed) = resume(&optimizer.state_view().to_bytes().unwrap())
            {
                resumed.parallel = optimizer.parallel;
                optimizer = resumed;
            }
        }
        assert!(params.into_iter().all(Memory::has_gaps), "{layout:?}");
        bits
    }
}

/// What goes on after a run was saved.
#[derive(Clone, Copy, Debug)]
enum Resumed {
    /// The same optimizer: it was not saved.
    Not,
    /// The chain of the file.
    ByFile,
    /// The chain by type.
    ByType,
    /// A chain made from the state alone.
    FromState,
}

fn every_way_has_the_same_bits<A: Element>(case: &Case, run: &Run<A>, ways: Range<usize>) {
    let by_file = || Optimizer::<A>::new(case.optimizer.clone());
    let by_type = || by_type::<A>(&case.optimizer);
    if let Some(typed) = by_type() {
        let written = typed.state_dict().groups.remove(0).algorithm;
        assert_eq!(written.as_ref(), Some(&case.optimizer), "{}", case.id);
    }
    let mut serial = by_file();
    serial.parallel = Parallel::SERIAL;
    let expected = run.bits(serial, Layout::RowMajor, |_| None);
    let all = [
        (Layout::RowMajor, 1, Resumed::ByType),
        (Layout::RowMajor, 3, Resumed::ByFile),
        (Layout::Fortran, 2, Resumed::Not),
        (Layout::Fortran, 1, Resumed::FromState),
        (Layout::Mixed, 3, Resumed::Not),
        (Layout::Mixed, 2, Resumed::ByFile),
        (Layout::Spread, 1, Resumed::Not),
        (Layout::Spread, 3, Resumed::ByType),
        (Layout::Backwards, 2, Resumed::FromState),
    ];
    for (layout, threads, resumed) in all[ways].iter().copied() {
        let resume = |bytes: &[u8]| {
            let state = StateDict::from_bytes(bytes).unwrap();
            let mut optimizer = match resumed {
                Resumed::Not => return None,
                Resumed::FromState => return Some(Optimizer::from_state(state).unwrap()),
                Resumed::ByFile => by_file(),
                Resumed::ByType => by_type().unwrap_or_else(by_file),
            };
            optimizer.load_state_dict(state).unwrap();
            Some(optimizer)
        };
        for (kind, optimizer) in [("file", Some(by_file())), ("type", by_type())] {
            let Some(mut optimizer) = optimizer else {
                continue;
            };
            optimizer.parallel = Parallel {
                min_work: 0,
                chunk: 64,
            };
            let bits = pool(threads).install(|| run.bits(optimizer, layout, resume));
            assert!(
                bits == expected,
                "{} by {kind}, {layout:?}, {threads} threads, resumed: {resumed:?}",
                case.id
            );
        }
    }
}

#[test]
fn chains_by_file_and_by_type_have_the_same_bits_in_every_layout_and_after_resuming() {
    let chains = chains();
    for (i, case) in chains.iter().enumerate() {
        every_way_has_the_same_bits::<f64>(case, &Run::of(case), 0..9);
        every_way_has_the_same_bits::<f32>(case, &Run::of(case), 0..9);
        // Larger arrays take longer: a third of the ways for each chain.
        let some = 3 * (i % 3)..3 * (i % 3) + 3;
        if i % 2 == 0 {
            every_way_has_the_same_bits::<f32>(case, &Run::larger(case), some);
        } else {
            every_way_has_the_same_bits::<f64>(case, &Run::larger(case), some);
        }
    }
    let typed = chains
        .iter()
        .filter(|case| by_type::<f64>(&case.optimizer).is_some());
    assert_eq!(typed.count(), 31);
}

#[test]
fn chains_meet_their_trajectories_by_file_and_by_type() {
    let mut failed = Vec::new();
    for case in chains() {
        let mut check = |kind, f64: Option<Optimizer<f64>>, f32: Option<Optimizer<f32>>| {
            let e64 = f64.map_or(0.0, |mut f64| worst_error(&case, &mut f64));
            let e32 = f32.map_or(0.0, |mut f32| worst_error(&case, &mut f32));
            if e64 > F64 || e32 > F32 {
                failed.push(format!("{} by {kind}: {e64:e}, {e32:e}", case.id));
            }
        };
        check("file", Some(case.optimizer()), Some(case.optimizer()));
        check("type", by_type(&case.optimizer), by_type(&case.optimizer));
    }
    assert!(failed.is_empty(), "{failed:#?}");
}

#[test]
fn a_chain_around_a_chain_is_one_chain() {
    for case in chains() {
        let (inner, wrap) = parts(&case);
        let run = Run::<f64>::of(&case);
        let bits = |algorithm| run.bits(Optimizer::new(algorithm), Layout::RowMajor, |_| None);
        let expected = bits(case.optimizer.clone());
        for at in 1..wrap.len() {
            let (inside, outside) = wrap.split_at(at);
            let inside = inner.clone().in_wrappers(inside.to_vec());
            let nested = AnyAlgorithm::Composed(ComposedConfig {
                inner: Box::new(inside),
                wrap: outside.to_vec(),
            });
            assert!(bits(nested) == expected, "{} at {at}", case.id);
        }
    }
}

#[test]
fn the_reverse_order_is_another_trajectory() {
    let mut least = (f64::INFINITY, String::new());
    for case in chains() {
        let reverse: Vec<_> = parts(&case).1.iter().rev().cloned().collect();
        let (e64, e32) = errors_of(&case, &reverse);
        assert!(e64 > F64 && e32 > F32, "{}: {e64:e}, {e32:e}", case.id);
        if e64 < least.0 {
            least = (e64, case.id);
        }
    }
    println!("the least error of a reverse order: {least:?}");
}

/// What a wrapper does, as far as it matters for the order of two.
#[derive(Debug, PartialEq)]
enum Kind {
    /// A linear map of gradients, the same for all elements or a mean over axes.
    Linear,
    /// Multiplies all gradients by a number of their own norm.
    Rescale,
    /// Multiplies each gradient by a number of its own norm.
    RescaleEach,
    /// Anything else that changes gradients.
    Gradient,
    /// Changes parameters.
    Param,
    /// Looks at parameters.
    Average,
    /// Changes nothing.
    Nothing,
}

fn kind(wrap: &AnyWrap) -> Kind {
    match wrap {
        AnyWrap::Centralize(_) | AnyWrap::ScaleGradient(_) | AnyWrap::Grokfast(_) => Kind::Linear,
        AnyWrap::ClipByGlobalNorm(clip) if clip.eps == 0.0 => Kind::Rescale,
        AnyWrap::ClipByNorm(_) | AnyWrap::ClipByBlockRms(_) => Kind::RescaleEach,
        AnyWrap::WeightDecay(decay) if decay.decoupled => Kind::Param,
        AnyWrap::Lookahead(_) | AnyWrap::Bounds(_) | AnyWrap::L1(_) => Kind::Param,
        AnyWrap::Ema(_) | AnyWrap::Swa(_) => Kind::Average,
        AnyWrap::Watch(_) => Kind::Nothing,
        _ => Kind::Gradient,
    }
}

/// Whether two wrappers do the same in either order, by their formulas.
fn commute(a: &AnyWrap, b: &AnyWrap) -> bool {
    let on_params = |kind: &Kind| matches!(kind, Kind::Param | Kind::Average);
    match (kind(a), kind(b)) {
        (Kind::Nothing, _) | (_, Kind::Nothing) => true,
        (Kind::Average, Kind::Average) => true,
        (a, b) if on_params(&a) || on_params(&b) => !(on_params(&a) && on_params(&b)),
        (a, b) => a == b && a != Kind::Gradient,
    }
}

#[test]
fn two_neighbours_that_change_places_are_another_trajectory_unless_they_commute() {
    let (mut same, mut other) = (0, 0);
    let mut failed = Vec::new();
    for case in chains() {
        let wrap = parts(&case).1;
        for at in 1..wrap.len() {
            let mut swapped = wrap.to_vec();
            swapped.swap(at - 1, at);
            let (e64, e32) = errors_of(&case, &swapped);
            let fails = e64 > F64 && e32 > F32;
            if commute(&wrap[at - 1], &wrap[at]) {
                same += 1;
                if e64 > F64 || e32 > F32 {
                    failed.push(format!(
                        "{} at {at} should commute: {e64:e}, {e32:e}",
                        case.id
                    ));
                }
            } else {
                other += 1;
                if !fails {
                    failed.push(format!("{} at {at}: {e64:e}, {e32:e}", case.id));
                }
            }
        }
    }
    println!("{same} pairs commute, {other} do not");
    assert!(failed.is_empty(), "{failed:#?}");
}

#[test]
fn a_chain_without_one_of_its_wrappers_is_another_trajectory() {
    let mut failed = Vec::new();
    for case in chains() {
        let wrap = parts(&case).1;
        for at in 0..wrap.len() {
            let mut fewer = wrap.to_vec();
            let removed = fewer.remove(at);
            let (e64, e32) = errors_of(&case, &fewer);
            let fails = e64 > F64 && e32 > F32;
            if fails == matches!(removed, AnyWrap::Watch(_)) {
                failed.push(format!(
                    "{} without {}: {e64:e}, {e32:e}",
                    case.id,
                    removed.name()
                ));
            }
        }
        // All wrappers that look at whole arrays or at norms ignored.
        let whole = |wrap: &AnyWrap| {
            matches!(wrap, AnyWrap::Centralize(_) | AnyWrap::AdaptiveClip(_))
                || matches!(kind(wrap), Kind::Rescale | Kind::RescaleEach)
        };
        let elements: Vec<_> = wrap.iter().filter(|w| !whole(w)).cloned().collect();
        if elements.len() < wrap.len() {
            let (e64, e32) = errors_of(&case, &elements);
            if e64 <= F64 || e32 <= F32 {
                failed.push(format!("{} on elements: {e64:e}, {e32:e}", case.id));
            }
        }
    }
    assert!(failed.is_empty(), "{failed:#?}");
}
