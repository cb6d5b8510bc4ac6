use crate::data::{Augment, Elastic};
use crate::fields::{Fields, Interval, unknown};
use crate::nn::{OptimizerSpec, Schedule};

/// ε must not become 0 in `f32`.
const EPS: Interval = Interval::from(f32::MIN_POSITIVE as f64).to(1.0);

/// The optimiser that the request names, with its defaults, or the optimiser of the preset if it names none. Fields of
/// the request override either.
pub(super) fn optimizer(fields: &mut Fields, preset: OptimizerSpec) -> OptimizerSpec {
    let Some(mut fields) = fields.object("optimizer") else { return preset };
    let default = match fields.string("type") {
        None => Some(preset),
        Some(name) => {
            let named = OptimizerSpec::named(&name);
            if named.is_none() {
                fields.fault("type", unknown("optimizer", &name, &OptimizerSpec::NAMES));
            }
            named
        }
    };
    let Some(mut optimizer) = default else { return preset };
    let share = Interval::from(0.0).below(1.0);
    match &mut optimizer {
        OptimizerSpec::Sgd { learning_rate, weight_decay } => rates(&mut fields, learning_rate, weight_decay),
        OptimizerSpec::Momentum { learning_rate, momentum, weight_decay }
        | OptimizerSpec::Nesterov { learning_rate, momentum, weight_decay } => {
            rates(&mut fields, learning_rate, weight_decay);
            set(momentum, fields.number("momentum", share));
        }
        OptimizerSpec::Adagrad { learning_rate, lr_decay, eps, weight_decay } => {
            rates(&mut fields, learning_rate, weight_decay);
            set(lr_decay, fields.number("lr_decay", Interval::from(0.0).to(1e6)));
            set(eps, fields.number("eps", EPS));
        }
        OptimizerSpec::Rmsprop { learning_rate, alpha, eps, momentum, centered, weight_decay } => {
            rates(&mut fields, learning_rate, weight_decay);
            set(alpha, fields.number("alpha", share));
            set(eps, fields.number("eps", EPS));
            set(momentum, fields.number("momentum", share));
            set(centered, fields.boolean("centered"));
        }
        OptimizerSpec::Adam { learning_rate, betas, eps, weight_decay }
        | OptimizerSpec::Adamw { learning_rate, betas, eps, weight_decay } => {
            rates(&mut fields, learning_rate, weight_decay);
            set(betas, fields.betas());
            set(eps, fields.number("eps", EPS));
        }
    }
    fields.refuse_unknown();
    optimizer
}

fn rates(fields: &mut Fields, learning_rate: &mut f64, weight_decay: &mut f64) {
    set(learning_rate, fields.number("learning_rate", Interval::above(0.0).to(1e6)));
    set(weight_decay, fields.number("weight_decay", Interval::from(0.0).to(1e6)));
}

fn set<T>(field: &mut T, value: Option<T>) {
    if let Some(value) = value {
        *field = value;
    }
}

const SCHEDULE_TYPES: [&str; 4] = ["constant", "step", "cosine", "one_cycle"];

/// The schedule that the request names, with its defaults, or the schedule of the preset if it names none. Fields of
/// the request override either.
pub(super) fn schedule(fields: &mut Fields, preset: Schedule, epochs: u32) -> Schedule {
    let Some(mut fields) = fields.object("schedule") else { return preset };
    let none = 0.0;
    let mut schedule = match fields.string("type").as_deref() {
        None => preset,
        Some("constant") => Schedule::Constant { warmup_epochs: none },
        Some("step") => Schedule::Step { warmup_epochs: none, step_size: epochs.div_ceil(3), gamma: 0.1 },
        Some("cosine") => Schedule::Cosine { warmup_epochs: none },
        Some("one_cycle") => Schedule::ONE_CYCLE,
        Some(other) => {
            fields.fault("type", unknown("schedule", other, &SCHEDULE_TYPES));
            return preset;
        }
    };
    let warmup = fields.number("warmup_epochs", Interval::from(0.0).to(f64::from(epochs)));
    match &mut schedule {
        Schedule::Constant { warmup_epochs } | Schedule::Cosine { warmup_epochs } => {
            set(warmup_epochs, warmup)
        }
        Schedule::Step { warmup_epochs, step_size, gamma } => {
            set(warmup_epochs, warmup);
            set(step_size, fields.integer("step_size", 1..=u64::from(u32::MAX)).map(|epochs| epochs as u32));
            set(gamma, fields.number("gamma", Interval::above(0.0).to(1.0)));
        }
        Schedule::OneCycle { warmup_epochs, pct_start, div_factor, final_div_factor } => {
            set(warmup_epochs, warmup);
            set(pct_start, fields.number("pct_start", Interval::from(0.0).to(1.0)));
            set(div_factor, fields.number("div_factor", Interval::from(1.0).to(1e12)));
            set(final_div_factor, fields.number("final_div_factor", Interval::from(1.0).to(1e12)));
        }
    }
    fields.refuse_unknown();
    schedule
}

/// The augmentation in the request. Absent fields in it mean no change. Without `augment`, the result is the
/// augmentation of the preset. If `augment` is null, the result is `None`.
pub(super) fn augment(fields: &mut Fields, preset: Option<Augment>) -> Option<Augment> {
    let is_null = fields.is_null("augment");
    let Some(mut fields) = fields.object("augment") else { return if is_null { None } else { preset } };
    let mut augment =
        Augment { shift_pixels: 0.0, rotate_degrees: 0.0, scale: 0.0, shear: 0.0, elastic: None };
    set(&mut augment.shift_pixels, fields.number("shift_pixels", Interval::from(0.0).to(14.0)));
    set(&mut augment.rotate_degrees, fields.number("rotate_degrees", Interval::from(0.0).to(180.0)));
    set(&mut augment.scale, fields.number("scale", Interval::from(0.0).to(0.9)));
    set(&mut augment.shear, fields.number("shear", Interval::from(0.0).to(1.0)));
    if let Some(mut elastic) = fields.object("elastic") {
        let mut bends = Elastic { alpha: 34.0, sigma: 4.0 };
        set(&mut bends.alpha, elastic.number("alpha", Interval::from(0.0).to(1e3)));
        set(&mut bends.sigma, elastic.number("sigma", Interval::above(0.0).to(9.0)));
        elastic.refuse_unknown();
        augment.elastic = Some(bends);
    }
    fields.refuse_unknown();
    Some(augment)
}
