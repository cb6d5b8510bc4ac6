//! Networks from outside: what is accepted, and why anything else is refused.

use chainrule_engine::artifact::{
    ModelFormat, UploadLimits, read_model, read_upload, upload_bytes, with_receipt, write_model,
};
use chainrule_engine::nn::{Init, LayerSpec, Network, Padding, Shape};
use serde_json::{Value, json};

const LIMITS: UploadLimits = UploadLimits { layers_max: 4, units_max: 64, flops_max: 1e6 };
const INPUT: Shape = Shape { height: 4, width: 4, channels: 1 };

fn layers() -> Vec<LayerSpec> {
    vec![
        LayerSpec::Conv2d { filters: 2, kernel: 3, padding: Padding::Same, stride: 1, init: Init::He },
        LayerSpec::BatchNorm,
        LayerSpec::Dense { units: 3, init: Init::Xavier },
    ]
}

fn model() -> Vec<u8> {
    let network = Network::new(INPUT, &layers(), 1).expect("layers that fit");
    write_model(&network, &layers(), &["a", "b", "c"].map(str::to_owned)).expect("a file")
}

/// The file with another header. `change` gets the header of safetensors and the metadata of this program.
fn changed(change: impl FnOnce(&mut Value, &mut Value)) -> Vec<u8> {
    let model = model();
    let (length, rest) = model.split_at(8);
    let (header, data) = rest.split_at(u64::from_le_bytes(length.try_into().expect("8 bytes")) as usize);
    let mut header: Value = serde_json::from_slice(header).expect("JSON");
    let own = header["__metadata__"]["chainrule"].as_str().expect("text");
    let mut own: Value = serde_json::from_str(own).expect("JSON");
    change(&mut header, &mut own);
    header["__metadata__"]["chainrule"] = json!(own.to_string());
    let header = header.to_string().into_bytes();
    [&(header.len() as u64).to_le_bytes()[..], &header, data].concat()
}

fn read(file: &[u8]) -> Result<chainrule_engine::artifact::Upload, String> {
    let format = ModelFormat::of(file);
    upload_bytes(file, format).map_err(|error| error.to_string())?;
    let images = |shape: Shape| vec![vec![255; shape.len()]; 2];
    read_upload(file, format, &LIMITS, None, images, &|| true).map_err(|error| error.to_string())
}

fn refusal(file: &[u8]) -> String {
    read(file).map(|upload| upload.layers).expect_err("a refusal")
}

#[test]
fn a_model_file_is_read_as_it_was_written() {
    let upload = read(&model()).expect("a network");
    assert_eq!((upload.layers, upload.classes), (layers(), ["a", "b", "c"].map(str::to_owned).to_vec()));
    assert!(upload.predictor.network() == &Network::new(INPUT, &layers(), 1).expect("layers that fit"));
    assert_eq!(upload.difference, None);
    let stopped =
        read_upload(&model(), ModelFormat::Safetensors, &LIMITS, None, |_| vec![vec![0; 16]], &|| false);
    assert_eq!(stopped.expect_err("stopped").to_string(), "stopped");
}

#[test]
fn a_receipt_changes_nothing_else() {
    let receipt = json!({ "model": "digits", "note": "a \"quoted\" word" });
    let noted = with_receipt(&model(), &receipt).expect("a file");
    assert_eq!(noted, with_receipt(&model(), &receipt).expect("a file"));
    assert!(noted.len() % 8 == model().len() % 8);
    let (header, network) = read_model(&noted).expect("a model");
    assert_eq!((header.layers, network), (layers(), read_model(&model()).expect("a model").1));
    let (length, rest) = noted.split_at(8);
    let found: Value =
        serde_json::from_slice(&rest[..u64::from_le_bytes(length.try_into().expect("8 bytes")) as usize])
            .expect("JSON");
    let found: Value =
        serde_json::from_str(found["__metadata__"]["receipt"].as_str().expect("text")).expect("JSON");
    assert_eq!(found, receipt);
    // A receipt replaces an earlier one.
    assert_eq!(
        with_receipt(&noted, &json!(1)).expect("a file"),
        with_receipt(&model(), &json!(1)).expect("a file")
    );
    assert!(with_receipt(b"\xff\xff\xff\xff\xff\xff\xff\x0f{}", &receipt).is_err());
}

#[test]
fn a_model_file_that_is_cut_or_lies_about_its_length_is_refused() {
    let model = model();
    for length in 0..model.len() {
        assert!(read(&model[..length]).is_err(), "cut after {length} bytes");
    }
    let claims = [&(1_u64 << 60).to_le_bytes()[..], &model[8..]].concat();
    assert!(upload_bytes(&claims, ModelFormat::Safetensors).is_err());
    assert_eq!(ModelFormat::of(&claims), ModelFormat::Onnx);
    let long = [&(2_u64 << 20).to_le_bytes()[..], b"{", &vec![b' '; 2 << 20]].concat();
    assert!(refusal(&long).contains("more than 1048576"), "{}", refusal(&long));
    let elsewhere = changed(|header, _| header["0.weight"]["data_offsets"] = json!([0, 1_u64 << 60]));
    assert!(refusal(&elsewhere).starts_with("not a safetensors file"), "{}", refusal(&elsewhere));
}

#[test]
fn layers_are_checked_before_anything_is_allocated() {
    let dense = |units: usize| json!({ "type": "dense", "units": units, "init": "he" });
    let conv = |field: &str, value: usize| {
        let mut layer = json!({ "type": "conv2d", "filters": 2, "kernel": 3, "padding": "same", "stride": 1, "init": "he" });
        layer[field] = json!(value);
        json!([layer, dense(3)])
    };
    let cases = [
        (json!([dense(1 << 40), dense(3)]), "a size that is not accepted"),
        (json!([dense(0), dense(3)]), "a size that is not accepted"),
        (conv("stride", 0), "a size that is not accepted"),
        (conv("kernel", 1 << 40), "a size that is not accepted"),
        (conv("filters", 65), "a size that is not accepted"),
        (json!([{ "type": "max_pool2d", "size": 0 }, dense(3)]), "a size that is not accepted"),
        (json!([{ "type": "dropout", "rate": 1.5 }, dense(3)]), "a size that is not accepted"),
        (json!([dense(64), dense(64), dense(3)]), "parameters, more than the file"),
        (json!([]), "0 layers"),
        (json!(vec![json!({ "type": "relu" }); 5]), "5 layers"),
        (json!([dense(4)]), "one unit for each of its 3 classes"),
        (json!([dense(3), { "type": "relu" }]), "last layer must be dense"),
        (
            json!([{ "type": "max_pool2d", "size": 4 }, { "type": "max_pool2d", "size": 4 }, dense(3)]),
            "layer 1",
        ),
        (json!([dense(3)]), "0.weight"),
    ];
    for (layers, expected) in cases {
        let found = refusal(&changed(|_, own| own["layers"] = layers));
        assert!(found.contains(expected), "{found}, not {expected}");
    }
    for (height, width, channels) in [(0_u64, 4_u64, 1), (1 << 40, 1 << 40, 1), (4, 4, 3), (512, 512, 1)] {
        let input = json!({ "height": height, "width": width, "channels": channels });
        let found = refusal(&changed(|_, own| own["input"] = input));
        assert!(found.contains("grey images"), "{found}");
    }
    let wide = refusal(&changed(|_, own| {
        own["input"] = json!({ "height": 256, "width": 256, "channels": 1 });
        own["layers"][0]["filters"] = json!(64);
    }));
    assert!(wide.contains("parameters, more than the file"), "{wide}");
    let names = refusal(&changed(|_, own| own["classes"] = json!(["a", "b", "c".repeat(20_000)])));
    assert!(names.contains("must have names"), "{names}");
    let empty = refusal(&changed(|_, own| own["classes"] = json!(["a", "b", ""])));
    assert!(empty.contains("must have names"), "{empty}");
}

#[test]
fn numbers_that_no_network_computes_with_are_refused() {
    let mut network = Network::new(INPUT, &layers(), 1).expect("layers that fit");
    let classes = ["a", "b", "c"].map(str::to_owned);
    let mut with = |tensor: &str, value: f32| {
        let kept: Vec<(String, Vec<f32>)> =
            network.tensors().map(|(name, _, values)| (name, values.to_vec())).collect();
        let mut found = kept.iter().cloned().collect::<std::collections::HashMap<String, Vec<f32>>>();
        found.get_mut(tensor).expect("a tensor").fill(value);
        let set = |network: &mut Network<f32>, tensors: &std::collections::HashMap<String, Vec<f32>>| {
            network
                .set_tensors::<chainrule_engine::nn::LengthError>(|name| Ok(tensors[name].clone()))
                .expect("tensors");
        };
        set(&mut network, &found);
        let file = write_model(&network, &layers(), &classes).expect("a file");
        set(&mut network, &kept.into_iter().collect());
        refusal(&file)
    };
    assert_eq!(with("2.weight", f32::NAN), "tensor 2.weight has an infinite number or NaN");
    assert_eq!(with("0.bias", f32::INFINITY), "tensor 0.bias has an infinite number or NaN");
    assert_eq!(with("1.running_var", -1.0), "tensor 1.running_var has a negative variance");
    // Sums of such numbers are infinite.
    assert_eq!(with("2.weight", f32::MAX), "it gives no finite probabilities for an image");
}
