use super::seen::Seen;
use super::subject::{Request, Subject};
use super::{binary, endpoints, infer, packing, repository};

/// Makes the request of a case, or says why the model has none.
pub type Make = Box<dyn Fn(&Subject) -> Result<Request, String>>;

/// Checks the response to a case.
pub type Check = Box<dyn Fn(&Subject, &Seen) -> Result<(), String>>;

/// What a case needs from a server.
#[derive(Clone, Copy)]
pub enum Need {
    /// The protocol itself.
    Core,
    /// An extension, which a server claims in its metadata.
    Extension(&'static str),
    /// Something that a server may refuse.
    Option,
}

/// One request, and what its response must be.
pub struct Case {
    pub name: &'static str,
    pub need: Need,
    pub request: Make,
    pub check: Check,
}

impl Case {
    /// A case.
    pub fn new(
        name: &'static str,
        need: Need,
        request: impl Fn(&Subject) -> Result<Request, String> + 'static,
        check: impl Fn(&Subject, &Seen) -> Result<(), String> + 'static,
    ) -> Self {
        Self { name, need, request: Box::new(request), check: Box::new(check) }
    }

    /// A case of the protocol itself.
    pub fn core(
        name: &'static str,
        request: impl Fn(&Subject) -> Result<Request, String> + 'static,
        check: impl Fn(&Subject, &Seen) -> Result<(), String> + 'static,
    ) -> Self {
        Self::new(name, Need::Core, request, check)
    }
}

/// Returns all cases that change nothing.
pub fn all() -> Vec<Case> {
    let groups = [
        endpoints::cases(),
        infer::cases(),
        infer::refusals(),
        binary::cases(),
        packing::cases(),
        repository::cases(),
    ];
    groups.into_iter().flatten().collect()
}

/// Checks that the status is 200.
pub fn succeeds(_: &Subject, seen: &Seen) -> Result<(), String> {
    if seen.status == 200 { Ok(()) } else { Err("the status is not 200".to_owned()) }
}

/// Checks that the request is refused as a fault of the client, with the error object.
pub fn is_refused(_: &Subject, seen: &Seen) -> Result<(), String> {
    match seen.status {
        400..=499 if seen.is_error_object() => Ok(()),
        400..=499 => Err("the body has no error".to_owned()),
        _ => Err("the status is not 4xx".to_owned()),
    }
}

/// Checks that the response is inference, or refused as a fault of the client.
pub fn infers_or_is_refused(subject: &Subject, seen: &Seen) -> Result<(), String> {
    if seen.status == 200 { infers(subject, seen) } else { is_refused(subject, seen) }
}

/// Checks that all outputs are there, with as many elements as their shapes have.
pub fn infers(subject: &Subject, seen: &Seen) -> Result<(), String> {
    let (json, tensors) = seen.inference()?;
    if json["model_name"] != subject.model.as_str() {
        return Err(format!("model_name is {}", json["model_name"]));
    }
    for output in &subject.outputs {
        let found = tensors.iter().find(|tensor| tensor.name == output.name);
        let found = found.ok_or_else(|| format!("there is no output {}", output.name))?;
        if found.datatype != output.datatype {
            return Err(format!("{} is {}, not {}", output.name, found.datatype, output.datatype));
        }
    }
    if tensors.is_empty() { Err("there are no outputs".to_owned()) } else { Ok(()) }
}
