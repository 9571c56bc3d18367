//! Linear and logarithmic axes with few, readable labels.

/// The axis of a panel.
#[derive(Clone, Debug)]
pub struct Axis {
    pub label: String,
    pub log: bool,
    /// The range; by default that of the points.
    pub range: Option<(f64, f64)>,
}

impl Axis {
    pub fn linear(label: &str) -> Self {
        Axis {
            label: label.into(),
            log: false,
            range: None,
        }
    }

    pub fn log(label: &str) -> Self {
        Axis {
            label: label.into(),
            log: true,
            range: None,
        }
    }

    pub fn range(mut self, low: f64, high: f64) -> Self {
        self.range = Some((low, high));
        self
    }

    /// Whether a number can be shown.
    pub(crate) fn shows(&self, x: f64) -> bool {
        x.is_finite() && (!self.log || x > 0.0)
    }

    /// The scale for these numbers.
    pub(crate) fn scale(&self, numbers: impl Iterator<Item = f64>) -> Scale {
        let to = |x: f64| if self.log { x.log10() } else { x };
        let (mut low, mut high) = match self.range {
            Some((low, high)) => (to(low), to(high)),
            None => numbers
                .filter(|&x| self.shows(x))
                .map(to)
                .fold((f64::MAX, f64::MIN), |(low, high), x| {
                    (low.min(x), high.max(x))
                }),
        };
        if low > high {
            (low, high) = (0.0, 1.0);
        }
        if self.range.is_none() {
            let margin = if high > low { 0.03 * (high - low) } else { 0.5 };
            (low, high) = (low - margin, high + margin);
        }
        Scale {
            log: self.log,
            low,
            high,
        }
    }
}

/// Maps numbers to fractions of the length of an axis.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Scale {
    log: bool,
    low: f64,
    high: f64,
}

impl Scale {
    pub fn at(&self, x: f64) -> f64 {
        let x = if self.log { x.log10() } else { x };
        (x - self.low) / (self.high - self.low)
    }

    /// Places of at most about `most` labels, and the labels.
    pub fn ticks(&self, most: usize) -> Vec<(f64, String)> {
        let fraction = |x: f64| (x - self.low) / (self.high - self.low);
        let span = self.high - self.low;
        // Steps of 1, 2 or 5 times a power of ten; whole decades on a logarithmic axis.
        let least = span / most as f64;
        let decade = 10_f64.powf(least.log10().floor());
        let step = [1.0, 2.0, 5.0, 10.0].map(|m| m * decade);
        let step = step
            .into_iter()
            .find(|&step| step >= least)
            .unwrap_or(least);
        if self.log && span >= 1.0 {
            let step = step.max(1.0).round();
            let first = (self.low / step).ceil() as i64;
            let last = (self.high / step).floor() as i64;
            let decades = (first..=last).map(|k| (k as f64 * step) as i32);
            return decades
                .map(|k| (fraction(f64::from(k)), power_of_ten(k)))
                .collect();
        }
        if self.log {
            let bounds = (10_f64.powf(self.low), 10_f64.powf(self.high));
            let linear = Scale {
                log: false,
                low: bounds.0,
                high: bounds.1,
            };
            let ticks = linear.ticks(most).into_iter();
            return ticks
                .map(|(t, label)| {
                    (
                        fraction((bounds.0 + t * (bounds.1 - bounds.0)).log10()),
                        label,
                    )
                })
                .collect();
        }
        let digits = (-step.log10().floor()).max(0.0) as usize;
        let (first, last) = (
            (self.low / step).ceil() as i64,
            (self.high / step).floor() as i64,
        );
        let numbers = (first..=last).map(|k| k as f64 * step);
        numbers
            .map(|x| {
                let label = if x.abs() >= 1e5 {
                    format!("{x:.1e}")
                } else {
                    format!("{x:.digits$}")
                };
                (fraction(x), label)
            })
            .collect()
    }
}

fn power_of_ten(k: i32) -> String {
    match k {
        0..=4 => format!("{}", 10_u32.pow(k as u32)),
        -2..=-1 => format!("{:.*}", -k as usize, 10_f64.powi(k)),
        _ => format!("1e{k}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(axis: Axis, low: f64, high: f64) -> Vec<String> {
        let scale = axis.range(low, high).scale([].into_iter());
        scale.ticks(6).into_iter().map(|(_, label)| label).collect()
    }

    #[test]
    fn labels_are_few_and_round() {
        assert_eq!(
            labels(Axis::log(""), 1.0, 9999.999999999998),
            ["1", "10", "100", "1000", "10000"]
        );
        assert_eq!(
            labels(Axis::log(""), 1e-15, 1e3),
            ["1e-15", "1e-10", "1e-5", "1"]
        );
        assert_eq!(labels(Axis::log(""), 2.0, 9.0), ["2", "4", "6", "8"]);
        assert_eq!(
            labels(Axis::linear(""), 0.0, 1.0),
            ["0.0", "0.2", "0.4", "0.6", "0.8", "1.0"]
        );
        assert_eq!(
            labels(Axis::linear(""), -2.0, 2.0),
            ["-2", "-1", "0", "1", "2"]
        );
    }
}
