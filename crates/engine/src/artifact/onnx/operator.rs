use super::proto::{AttributeProto, NodeProto, attribute, element};
use super::tensor::Tensor;

/// An operator that is understood, with its settings.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Operator {
    Add,
    Sub,
    Mul,
    Div,
    Relu,
    Sigmoid,
    Tanh,
    Erf,
    Gelu,
    LeakyRelu { alpha: f64 },
    Softmax { axis: Option<i64> },
    LogSoftmax { axis: Option<i64> },
    Identity,
    Dropout { ratio: Option<f64> },
    Cast { to: i64 },
    Constant(Tensor),
    Gemm { alpha: f64, beta: f64, transposes: [bool; 2] },
    MatMul,
    Conv(Windows),
    MaxPool(Windows),
    AveragePool(Windows),
    GlobalAveragePool,
    BatchNormalization { epsilon: f64 },
    Flatten { axis: i64 },
    Reshape { copies_zero: bool },
    Transpose { perm: Option<Vec<i64>> },
    Squeeze { axes: Option<Vec<i64>> },
    Unsqueeze { axes: Option<Vec<i64>> },
    Shape,
    Gather { axis: i64 },
    Slice,
    Concat { axis: i64 },
}

/// The windows of a convolution or pooling, whose values are pairs for rows and columns.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Windows {
    /// Sides of a window. If there are none, those of the weight.
    pub kernel: Option<[usize; 2]>,
    pub strides: [usize; 2],
    pub padding: Padding,
    /// Whether a window that is partly outside of the image counts.
    pub rounds_up: bool,
}

/// The zeros around an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Padding {
    /// Zeros above, left, below and right.
    Of([usize; 4]),
    /// As many as are needed for ⌈side / stride⌉ windows, an odd one below and right.
    Same,
}

/// Largest side of a window, stride and padding.
const SIDE_MAX: i64 = 1 << 16;

impl Operator {
    /// The operator of a node.
    ///
    /// # Errors
    /// If the operator or one of its settings is not understood.
    pub fn of(node: &NodeProto) -> Result<Self, String> {
        if !matches!(node.domain.as_str(), "" | "ai.onnx") {
            return Err(format!("operators of the domain {:?} are not supported", node.domain));
        }
        let mut settings = Settings { list: node.attribute.iter().collect() };
        let operator = match node.op_type.as_str() {
            "Add" => Self::Add,
            "Sub" => Self::Sub,
            "Mul" => Self::Mul,
            "Div" => Self::Div,
            "Relu" => Self::Relu,
            "Sigmoid" => Self::Sigmoid,
            "Tanh" => Self::Tanh,
            "Erf" => Self::Erf,
            "Gelu" => match settings.text("approximate")?.as_deref() {
                None | Some("none") => Self::Gelu,
                Some(other) => {
                    return Err(format!("the approximation {other:?} is not supported, only the exact form"));
                }
            },
            "LeakyRelu" => Self::LeakyRelu { alpha: settings.float("alpha", 0.01)? },
            "Softmax" => Self::Softmax { axis: settings.int("axis")? },
            "LogSoftmax" => Self::LogSoftmax { axis: settings.int("axis")? },
            "Identity" => Self::Identity,
            "Dropout" => {
                settings.int("seed")?;
                let ratio = settings.take("ratio", attribute::FLOAT)?.map(|found| f64::from(found.f));
                Self::Dropout { ratio }
            }
            "Cast" => {
                settings.int("saturate")?;
                let to = settings.int("to")?.ok_or("its type is missing")?;
                let kinds = [element::FLOAT, element::DOUBLE, element::INT32, element::INT64].map(i64::from);
                if !kinds.contains(&to) {
                    let name = i32::try_from(to).map_or_else(|_| to.to_string(), element::name);
                    return Err(format!("a cast to {name} is not supported"));
                }
                Self::Cast { to }
            }
            "Constant" => Self::Constant(settings.constant()?),
            "Gemm" => Self::Gemm {
                alpha: settings.float("alpha", 1.0)?,
                beta: settings.float("beta", 1.0)?,
                transposes: [settings.flag("transA")?, settings.flag("transB")?],
            },
            "MatMul" => Self::MatMul,
            "Conv" => {
                settings.exactly("group", 1)?;
                Self::Conv(settings.windows()?)
            }
            "MaxPool" => {
                settings.exactly("storage_order", 0)?;
                Self::MaxPool(settings.pooling()?)
            }
            "AveragePool" => {
                settings.int("count_include_pad")?;
                Self::AveragePool(settings.pooling()?)
            }
            "GlobalAveragePool" => Self::GlobalAveragePool,
            "BatchNormalization" => {
                settings.exactly("training_mode", 0)?;
                settings.exactly("spatial", 1)?;
                settings.float("momentum", 0.9)?;
                Self::BatchNormalization { epsilon: settings.float("epsilon", 1e-5)? }
            }
            "Flatten" => Self::Flatten { axis: settings.int("axis")?.unwrap_or(1) },
            "Reshape" => Self::Reshape { copies_zero: !settings.flag("allowzero")? },
            "Transpose" => Self::Transpose { perm: settings.ints("perm")? },
            "Squeeze" => Self::Squeeze { axes: settings.ints("axes")? },
            "Unsqueeze" => Self::Unsqueeze { axes: settings.ints("axes")? },
            "Shape" => {
                settings.exactly("start", 0)?;
                Self::Shape
            }
            "Gather" => Self::Gather { axis: settings.int("axis")?.unwrap_or(0) },
            "Slice" => Self::Slice,
            "Concat" => Self::Concat { axis: settings.int("axis")?.ok_or("its axis is missing")? },
            _ => return Err("this operator is not supported".to_owned()),
        };
        settings.nothing_left()?;
        Ok(operator)
    }

    /// Whether the operator does not compute with its input, so that integers may pass.
    pub fn takes_integers(&self) -> bool {
        matches!(
            self,
            Self::Identity
                | Self::Cast { .. }
                | Self::Flatten { .. }
                | Self::Reshape { .. }
                | Self::Transpose { .. }
                | Self::Squeeze { .. }
                | Self::Unsqueeze { .. }
        )
    }
}

/// The attributes of a node that have not been read yet.
struct Settings<'a> {
    list: Vec<&'a AttributeProto>,
}

impl<'a> Settings<'a> {
    fn take(&mut self, name: &str, kind: i32) -> Result<Option<&'a AttributeProto>, String> {
        let Some(index) = self.list.iter().position(|found| found.name == name) else { return Ok(None) };
        let found = self.list.swap_remove(index);
        // Files of version 1 have no type.
        if found.kind == kind || found.kind == 0 {
            Ok(Some(found))
        } else {
            Err(format!("{name} has another type"))
        }
    }

    fn int(&mut self, name: &str) -> Result<Option<i64>, String> {
        Ok(self.take(name, attribute::INT)?.map(|found| found.i))
    }

    fn flag(&mut self, name: &str) -> Result<bool, String> {
        Ok(self.int(name)?.unwrap_or(0) != 0)
    }

    fn exactly(&mut self, name: &str, only: i64) -> Result<(), String> {
        match self.int(name)? {
            Some(found) if found != only => Err(format!("{name} is {found}; only {only} is supported")),
            _ => Ok(()),
        }
    }

    fn float(&mut self, name: &str, default: f64) -> Result<f64, String> {
        let value = self.take(name, attribute::FLOAT)?.map_or(default, |found| f64::from(found.f));
        if value.is_finite() { Ok(value) } else { Err(format!("{name} is {value}")) }
    }

    fn ints(&mut self, name: &str) -> Result<Option<Vec<i64>>, String> {
        Ok(self.take(name, attribute::INTS)?.map(|found| found.ints.clone()))
    }

    fn text(&mut self, name: &str) -> Result<Option<String>, String> {
        const STRING: i32 = 3;
        let found = self.take(name, STRING)?;
        Ok(found.map(|found| String::from_utf8_lossy(&found.s).into_owned()))
    }

    /// The value of a constant, in one of the forms that it can have.
    fn constant(&mut self) -> Result<Tensor, String> {
        if let Some(found) = self.take("value", attribute::TENSOR)? {
            return Tensor::read(found.t.as_ref().ok_or("its value is missing")?);
        }
        let integers =
            |values: Vec<i64>| Tensor::integers(values.into_iter().map(|value| value as f64).collect());
        let floats = |values: Vec<f64>| Tensor::new(vec![values.len()], values);
        let scalar = |tensor: Tensor| Tensor { shape: Vec::new(), ..tensor };
        let value = if let Some(value) = self.int("value_int")? {
            scalar(integers(vec![value]))
        } else if let Some(values) = self.ints("value_ints")? {
            integers(values)
        } else if let Some(found) = self.take("value_float", attribute::FLOAT)? {
            scalar(floats(vec![f64::from(found.f)]))
        } else if let Some(found) = self.take("value_floats", attribute::FLOATS)? {
            floats(found.floats.iter().map(|&value| f64::from(value)).collect())
        } else {
            return Err("its value is missing, or neither a tensor nor numbers".to_owned());
        };
        if value.values.iter().all(|value| value.is_finite()) {
            Ok(value)
        } else {
            Err("its value is not finite".to_owned())
        }
    }

    fn windows(&mut self) -> Result<Windows, String> {
        if let Some(dilations) = self.ints("dilations")?
            && dilations.iter().any(|&dilation| dilation != 1)
        {
            return Err(format!("dilations are {dilations:?}; only 1 is supported"));
        }
        let automatic = self.text("auto_pad")?.unwrap_or_else(|| "NOTSET".to_owned());
        let pads = self.sides::<4>("pads", 0)?.unwrap_or_default();
        let padding = match automatic.as_str() {
            "NOTSET" => Padding::Of(pads),
            "VALID" => Padding::Of([0; 4]),
            "SAME_UPPER" => Padding::Same,
            other => return Err(format!("auto_pad {other:?} is not supported")),
        };
        Ok(Windows {
            kernel: self.sides("kernel_shape", 1)?,
            strides: self.sides("strides", 1)?.unwrap_or([1; 2]),
            padding,
            rounds_up: false,
        })
    }

    fn pooling(&mut self) -> Result<Windows, String> {
        let rounds_up = self.flag("ceil_mode")?;
        let windows = Windows { rounds_up, ..self.windows()? };
        if windows.kernel.is_some() { Ok(windows) } else { Err("kernel_shape is missing".to_owned()) }
    }

    fn sides<const N: usize>(&mut self, name: &str, least: i64) -> Result<Option<[usize; N]>, String> {
        let Some(list) = self.ints(name)? else { return Ok(None) };
        let is_fit = list.len() == N && list.iter().all(|side| (least..=SIDE_MAX).contains(side));
        let mut sides = [0; N];
        if !is_fit {
            return Err(format!(
                "{name} has {} numbers; {N} from {least} to {SIDE_MAX} are supported",
                list.len()
            ));
        }
        sides.iter_mut().zip(list).for_each(|(side, value)| *side = value as usize);
        Ok(Some(sides))
    }

    fn nothing_left(&self) -> Result<(), String> {
        match self.list.first() {
            Some(other) => Err(format!("the attribute {:?} is not supported", other.name)),
            None => Ok(()),
        }
    }
}
