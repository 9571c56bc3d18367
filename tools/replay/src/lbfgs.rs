//! Runs of L-BFGS on objectives that are known here.
use crate::{Args, Dtype, Replay, Result, Saved, error, in_new_process, stop};
use ndarray::{Array1, ArrayViewMut1, Axis, Ix1};
use ndarray_optim::{
    Lbfgs, LbfgsConfig,
    algorithm::Element,
    state::{Data, Named},
};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::{fs, ops::RangeInclusive, path::Path};

/// The name of the only parameter.
const NAME: &str = "x";

#[derive(Deserialize)]
pub struct LbfgsCase {
    id: String,
    optimizer: Map<String, Value>,
    objective: Objective,
    start: Vec<f64>,
    #[serde(default)]
    expect: Vec<Call>,
    calls: Option<usize>,
}

/// What is known after a call.
#[derive(Deserialize, Serialize)]
struct Call {
    call: usize,
    params: Vec<f64>,
    loss: f64,
    evaluations: u64,
}

#[derive(Serialize)]
pub struct Computed {
    id: String,
    expect: Vec<Call>,
}

/// A call as the new process writes it, with the bits of its numbers.
type Later = (usize, Vec<u64>, u64, u64);

#[derive(Deserialize)]
#[serde(tag = "name", rename_all = "snake_case", deny_unknown_fields)]
enum Objective {
    /// Sum of `100 (x[i+1] - x[i]^2)^2 + (1 - x[i])^2`.
    Rosenbrock {},
    /// Half of the sum of `scale[i] (x[i] - center[i])^2`.
    Quadratic { scale: Vec<f64>, center: Vec<f64> },
    /// Mean logistic loss of a table, whose last column is the label, plus `l2 |w|^2`; `x` is `w`
    /// and then the intercept.
    Logistic { data: String, l2: f64 },
}

/// An objective that is ready to be evaluated: writes the gradient and returns the loss.
type Closure = Box<dyn Fn(&Array1<f64>, ArrayViewMut1<'_, f64>) -> f64>;

impl Objective {
    fn closure(&self, n: usize) -> Result<Closure> {
        let needs = |needed: usize| {
            let error = format!("`start` has {n} values, but the objective needs {needed}");
            (n == needed).then_some(()).ok_or(error)
        };
        match self {
            Objective::Rosenbrock {} => Ok(Box::new(rosenbrock)),
            Objective::Quadratic { scale, center } => {
                needs(scale.len())?;
                needs(center.len())?;
                let (scale, center) = (Array1::from_vec(scale.clone()), center.clone());
                let center = Array1::from_vec(center);
                Ok(Box::new(move |x, mut grad| {
                    let off = x - &center;
                    grad.assign(&(&scale * &off));
                    0.5 * (&scale * &off.mapv(|off| off * off)).sum()
                }))
            }
            Objective::Logistic { data, l2 } => {
                let (table, l2) = (table(data)?, *l2);
                let (x, y) = table
                    .view()
                    .split_at(Axis(1), table.ncols().saturating_sub(1));
                needs(x.ncols() + 1)?;
                let y = y.remove_axis(Axis(1)).to_owned();
                let mean = x.mean_axis(Axis(0)).ok_or("the table is empty")?;
                let x = (&x - &mean) / x.std_axis(Axis(0), 0.0);
                let rows = x.nrows() as f64;
                Ok(Box::new(move |point, grad| {
                    let (w, b) = point.view().split_at(Axis(0), x.ncols());
                    let z = x.dot(&w) + b[0];
                    // log(1 + e^z), without overflow.
                    let soft = z.mapv(|z| z.max(0.0) + (-z.abs()).exp().ln_1p());
                    let loss = (&soft - &(&y * &z)).sum() / rows;
                    let residual = (z.mapv(|z| 1.0 / (1.0 + (-z).exp())) - &y) / rows;
                    let (mut dw, mut db) = grad.split_at(Axis(0), x.ncols());
                    dw.assign(&(x.t().dot(&residual) + &w * (2.0 * l2)));
                    db[0] = residual.sum();
                    loss + l2 * w.dot(&w)
                }))
            }
        }
    }
}

fn rosenbrock(x: &Array1<f64>, mut grad: ArrayViewMut1<'_, f64>) -> f64 {
    grad.fill(0.0);
    let mut loss = 0.0;
    for i in 1..x.len() {
        let (a, b) = (1.0 - x[i - 1], x[i] - x[i - 1] * x[i - 1]);
        loss += 100.0 * (b * b) + a * a;
        grad[i - 1] += -400.0 * b * x[i - 1] - 2.0 * a;
        grad[i] += 200.0 * b;
    }
    loss
}

/// A table of `examples/data`, without its first line.
fn table(file: &str) -> Result<ndarray::Array2<f64>> {
    let name = Path::new(file).file_name().ok_or("`data` names no file")?;
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/data");
    let path = folder.join(name);
    let text = fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
    let mut columns = 0;
    let mut values = Vec::new();
    for line in text.lines().skip(1) {
        let row = line.split(',').map(|value| value.trim().parse::<f64>());
        let row = row.collect::<std::result::Result<Vec<_>, _>>()?;
        columns = row.len();
        values.extend(row);
    }
    let rows = values.len().checked_div(columns).unwrap_or(0);
    Ok(ndarray::Array2::from_shape_vec((rows, columns), values)?)
}

impl LbfgsCase {
    fn config(&self) -> Result<LbfgsConfig> {
        let mut keys = self.optimizer.clone();
        match keys.remove("name") {
            Some(Value::String(name)) if name == "lbfgs" => {}
            Some(name) => return Err(format!("optimizer {name}, expected \"lbfgs\"").into()),
            None => return Err("the optimizer has no name".into()),
        }
        Ok(serde_json::from_value(keys.into())?)
    }

    /// The number of calls.
    fn last(&self) -> usize {
        let last = self.expect.iter().map(|call| call.call).max();
        self.calls.or(last).unwrap_or(0)
    }

    fn run<A: Element>(&self, args: &Args, place: (&Path, usize)) -> Result<Computed> {
        let mut lbfgs = Lbfgs::<A>::new(self.config()?);
        let mut x: Array1<A> = self.start.iter().map(|&x| A::from_f64(x)).collect();
        let last = self.last();
        let stop = stop(args, last);
        let mut expect = self.advance(&mut lbfgs, &mut x, 1..=stop.unwrap_or(last))?;
        if stop.is_some() {
            let data = Data::from(x.into_dyn());
            let name = NAME.into();
            let saved = Saved {
                state: lbfgs.state_dict(),
                params: vec![Named { name, data }],
            };
            let later: Vec<Later> = in_new_process(args, place, &saved.write(args.format)?)?;
            expect.extend(
                later
                    .into_iter()
                    .map(|(call, params, loss, evaluations)| Call {
                        call,
                        params: params.into_iter().map(f64::from_bits).collect(),
                        loss: f64::from_bits(loss),
                        evaluations,
                    }),
            );
        }
        let id = self.id.clone();
        Ok(Computed { id, expect })
    }

    fn run_later<A: Element>(&self, args: &Args, saved: &[u8]) -> Result<String> {
        let saved = Saved::read(saved, args.format)?;
        let mut lbfgs = Lbfgs::<A>::new(self.config()?);
        lbfgs.load_state_dict(saved.state)?;
        let named = saved.params.iter().find(|named| named.name == NAME);
        let x = named.and_then(|named| named.data.view::<A>());
        let x = x.ok_or("the state file lacks the parameter")?;
        let mut x = x.into_dimensionality::<Ix1>()?.to_owned();
        let first = usize::try_from(args.interrupt.unwrap_or(1))? + 1;
        let calls = self.advance(&mut lbfgs, &mut x, first..=self.last())?;
        let later = calls.into_iter().map(|call| -> Later {
            let params = call.params.into_iter().map(f64::to_bits).collect();
            (call.call, params, call.loss.to_bits(), call.evaluations)
        });
        Ok(serde_json::to_string(&later.collect::<Vec<_>>())?)
    }

    /// Makes these calls.
    fn advance<A: Element>(
        &self,
        lbfgs: &mut Lbfgs<A>,
        x: &mut Array1<A>,
        calls: RangeInclusive<usize>,
    ) -> Result<Vec<Call>> {
        let closure = self.objective.closure(x.len())?;
        let mut grads = x.clone();
        let mut exact = Array1::zeros(x.len());
        let mut call = |call| {
            let report = lbfgs.step(x, &mut grads, |x, grads| {
                let loss = closure(&x.mapv(A::f64), exact.view_mut());
                grads.zip_mut_with(&exact, |g, &exact| *g = A::from_f64(exact));
                loss
            })?;
            Ok(Call {
                call,
                params: x.iter().map(|x| x.f64()).collect(),
                loss: report.first_loss,
                evaluations: lbfgs.evaluations(),
            })
        };
        calls.map(&mut call).collect()
    }
}

impl Replay for LbfgsCase {
    type Computed = Computed;

    fn id(&self) -> &str {
        &self.id
    }

    fn replay(&self, args: &Args, place: (&Path, usize)) -> Result<Computed> {
        match args.dtype {
            Dtype::F64 => self.run::<f64>(args, place),
            Dtype::F32 => self.run::<f32>(args, place),
        }
    }

    fn resume(&self, args: &Args, saved: &[u8]) -> Result<String> {
        match args.dtype {
            Dtype::F64 => self.run_later::<f64>(args, saved),
            Dtype::F32 => self.run_later::<f32>(args, saved),
        }
    }

    /// The numbers of evaluations have to be the same.
    fn worst_error(&self, computed: &Computed) -> Result<f64> {
        let mut worst: f64 = 0.0;
        for call in &self.expect {
            let found = computed.expect.iter().find(|found| found.call == call.call);
            let found = found.ok_or("calls count from 1")?;
            if found.params.len() != call.params.len() {
                let (call, params) = (call.call, call.params.len());
                return Err(format!("call {call} expects {params} parameters").into());
            }
            if found.evaluations != call.evaluations {
                return Ok(f64::INFINITY);
            }
            let params = found.params.iter().zip(&call.params);
            let all = params.chain([(&found.loss, &call.loss)]);
            worst = all.map(error).fold(worst, f64::max);
        }
        Ok(worst)
    }

    fn rtol(_: &Args) -> f64 {
        1e-9
    }
}
