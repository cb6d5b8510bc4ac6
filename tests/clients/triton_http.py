"""Asks a chainrule server through tritonclient[http] from PyPI, which is unchanged, both sync and asyncio.

Usage: python triton_http.py HOST:PORT [MODEL]

The model must be trained on MNIST. The script unloads and loads it. Exit status 1 if a check fails.
"""

import asyncio
import base64
import json
import sys
import urllib.request
from contextlib import contextmanager

import numpy as np
import tritonclient.http as triton
import tritonclient.http.aio as triton_aio
from tritonclient.utils import InferenceServerException

IMAGES = 16


def fetch(address, path, accept="application/json"):
    request = urllib.request.Request(f"http://{address}{path}", headers={"Accept": accept})
    with urllib.request.urlopen(request) as response:
        return response.read()


def digits(address):
    """Returns the first test images of MNIST."""
    examples = [json.loads(fetch(address, f"/v1/datasets/mnist/test/{index}")) for index in range(IMAGES)]
    return np.array([example["image"] for example in examples], dtype=np.uint8)


def expected(address, model, images):
    """Returns the probabilities and labels that `POST /v1/models/…/predict` gives the images."""
    request = urllib.request.Request(
        f"http://{address}/v1/models/{model}/predict",
        data=images.tobytes(),
        headers={"Content-Type": "application/octet-stream"},
    )
    with urllib.request.urlopen(request) as response:
        predictions = json.load(response)["predictions"]
    probabilities = np.array([each["probabilities"] for each in predictions], dtype=np.float32)
    return probabilities, np.array([each["label"] for each in predictions])


def tensor(images, datatype, binary=True):
    kinds = {"UINT8": np.uint8, "FP32": np.float32, "FP64": np.float64}
    found = triton.InferInput("image", list(images.shape), datatype)
    found.set_data_from_numpy(images.astype(kinds[datatype]), binary_data=binary)
    return found


@contextmanager
def refused(*words):
    """Checks that a call fails with a message that has these words."""
    try:
        yield
    except InferenceServerException as error:
        missing = [word for word in words if word not in error.message()]
        assert not missing, f"{missing} not in {error.message()!r}"
    else:
        raise AssertionError(f"not refused, but should say {words}")


def check_descriptions(metadata, model, config, name):
    assert metadata["name"] == "chainrule" and "binary_tensor_data" in metadata["extensions"]
    assert model["name"] == name and "1" in model["versions"]
    assert model["inputs"] == [{"name": "image", "datatype": "UINT8", "shape": [-1, 28, 28]}]
    assert [output["name"] for output in model["outputs"]] == ["probabilities", "label"]
    assert config["max_batch_size"] > 1 and config["input"][0]["data_type"] == "TYPE_UINT8"


def check_result(result, images, wanted):
    probabilities, labels = wanted
    assert np.array_equal(result.as_numpy("label"), labels)
    assert np.array_equal(result.as_numpy("probabilities"), probabilities)
    assert result.as_numpy("probabilities").shape == (len(images), 10)


def check_classes(result, wanted, best):
    found = result.as_numpy("probabilities")
    assert found.shape == (len(wanted[1]), best), found.shape
    for texts, label, probabilities in zip(found, wanted[1], wanted[0]):
        best_text = texts[0] if isinstance(texts[0], str) else texts[0].decode()
        value, index, name = best_text.split(":")
        assert (int(index), name) == (label, str(label))
        assert value == f"{probabilities[label]:.6f}"


def sync(address, name, images, wanted):
    client = triton.InferenceServerClient(address)
    assert client.is_server_live() and client.is_server_ready()
    assert client.is_model_ready(name) and client.is_model_ready(name, "1")
    assert not client.is_model_ready(name, "999") and not client.is_model_ready("nothing")
    check_descriptions(
        client.get_server_metadata(), client.get_model_metadata(name), client.get_model_config(name), name
    )
    assert client.get_model_metadata(name, "1")["versions"] == ["1"]

    outputs = [triton.InferRequestedOutput("label"), triton.InferRequestedOutput("probabilities")]
    in_json = [
        triton.InferRequestedOutput("label", binary_data=False),
        triton.InferRequestedOutput("probabilities", binary_data=False),
    ]
    flat = images.reshape(IMAGES, 784)
    for datatype in ["UINT8", "FP32", "FP64"]:
        for shaped in [images, flat]:
            check_result(client.infer(name, [tensor(shaped, datatype)]), images, wanted)
            check_result(client.infer(name, [tensor(shaped, datatype)], outputs=outputs), images, wanted)
            check_result(client.infer(name, [tensor(shaped, datatype, binary=False)], outputs=in_json), images, wanted)
    unit = client.infer(name, [tensor(images / 255.0, "FP64")], parameters={"scale": "unit"})
    assert np.array_equal(unit.as_numpy("label"), wanted[1])
    for packing in ["gzip", "deflate"]:
        result = client.infer(
            name, [tensor(images, "FP32")], request_compression_algorithm=packing, response_compression_algorithm=packing
        )
        check_result(result, images, wanted)
    numbered = client.infer(name, [tensor(images, "UINT8")], model_version="1", request_id="42", query_params={"a": 1})
    response = numbered.get_response()
    assert (response["id"], response["model_name"], response["model_version"]) == ("42", name, "1")
    assert "id" not in client.infer(name, [tensor(images, "UINT8")]).get_response()
    check_result(client.async_infer(name, [tensor(images, "UINT8")]).get_result(), images, wanted)

    for best, is_binary in [(3, True), (1, False), (99, True)]:
        output = triton.InferRequestedOutput("probabilities", binary_data=is_binary, class_count=best)
        check_classes(client.infer(name, [tensor(images, "UINT8")], outputs=[output]), wanted, min(best, 10))

    pictures = [fetch(address, f"/v1/datasets/mnist/test/{index}", "image/png") for index in range(4)]
    files = triton.InferInput("image", [4], "BYTES")
    files.set_data_from_numpy(np.array(pictures, dtype=np.object_))
    raw = client.infer(name, [files], parameters={"prepare": "none"})
    assert np.array_equal(raw.as_numpy("label"), wanted[1][:4])
    texts = triton.InferInput("image", [4], "BYTES")
    encoded = [base64.b64encode(picture).decode() for picture in pictures]
    texts.set_data_from_numpy(np.array(encoded, dtype=np.object_), binary_data=False)
    coded = client.infer(name, [texts], parameters={"prepare": "none"})
    assert np.array_equal(coded.as_numpy("label"), wanted[1][:4])

    statistics = client.get_inference_statistics(name)["model_stats"][0]
    assert statistics["name"] == name and statistics["inference_count"] >= IMAGES
    assert statistics["inference_stats"]["success"]["count"] > 0 and statistics["batch_stats"]
    assert any(entry["name"] == name for entry in client.get_inference_statistics()["model_stats"])

    one = images[:1]
    with refused("Expected [-1,28,28]", "send [1,784]"):
        client.infer(name, [tensor(images[0], "UINT8")])
    with refused("got [16,27,28]"):
        client.infer(name, [tensor(images[:, :27], "UINT8")])
    with refused("nothing"):
        client.infer("nothing", [tensor(one, "UINT8")])
    with refused("no version 999"):
        client.infer(name, [tensor(one, "UINT8")], model_version="999")
    with refused("'x'"):
        client.infer(name, [tensor(one, "UINT8")], outputs=[triton.InferRequestedOutput("x")])
    with refused("scale"):
        client.infer(name, [tensor(one, "FP32")], parameters={"scale": "percent"})
    with refused("from 0 to 255"):
        client.infer(name, [tensor(np.full((1, 784), 256.0), "FP32")])
    with refused("nothing"):
        client.get_model_metadata("nothing")
    with refused("not supported"):
        client.load_model(name, files={"file:1/model.onnx": b"x"}, config="{}")

    def state():
        entries = [entry for entry in client.get_model_repository_index() if entry["name"] == name]
        return {entry["state"] for entry in entries}

    assert state() == {"READY"}
    client.unload_model(name)
    assert state() == {"UNAVAILABLE"} and not client.is_model_ready(name)
    with refused("unloaded"):
        client.infer(name, [tensor(one, "UINT8")])
    client.load_model(name)
    assert state() == {"READY"} and client.is_model_ready(name)
    check_result(client.infer(name, [tensor(images, "UINT8")]), images, wanted)
    client.close()


async def concurrent(address, name, images, wanted):
    async with triton_aio.InferenceServerClient(address) as client:
        assert await client.is_server_live() and await client.is_server_ready()
        assert await client.is_model_ready(name) and not await client.is_model_ready("nothing")
        check_descriptions(
            await client.get_server_metadata(),
            await client.get_model_metadata(name),
            await client.get_model_config(name),
            name,
        )
        many = np.tile(images, (40, 1, 1))
        for packing in [None, "gzip", "deflate"]:
            result = await client.infer(
                name,
                [tensor(many, "UINT8")],
                request_compression_algorithm=packing,
                response_compression_algorithm=packing,
            )
            assert np.array_equal(result.as_numpy("label"), np.tile(wanted[1], 40))
        in_json = [triton.InferRequestedOutput("label", binary_data=False)]
        asked = [client.infer(name, [tensor(images, "FP32", binary=False)], outputs=in_json) for _ in range(8)]
        for result in await asyncio.gather(*asked):
            assert np.array_equal(result.as_numpy("label"), wanted[1])
        best = triton.InferRequestedOutput("probabilities", class_count=2)
        check_classes(await client.infer(name, [tensor(images, "UINT8")], outputs=[best]), wanted, 2)
        assert any(entry["name"] == name for entry in await client.get_model_repository_index())
        assert (await client.get_inference_statistics(name))["model_stats"][0]["inference_count"] > 0
        with refused("send [1,784]"):
            await client.infer(name, [tensor(images[0], "UINT8")])
        with refused("nothing"):
            await client.get_model_metadata("nothing")


def main():
    address = sys.argv[1].removeprefix("http://")
    name = sys.argv[2] if len(sys.argv) > 2 else "digits"
    images = digits(address)
    wanted = expected(address, name, images)
    sync(address, name, images, wanted)
    asyncio.run(concurrent(address, name, images, wanted))
    print("tritonclient: metadata, ready, infer, classification, index, statistics and errors work, sync and asyncio")


if __name__ == "__main__":
    main()
