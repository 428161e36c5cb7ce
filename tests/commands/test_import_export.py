"""`creps import` and `creps export`: official weights in, ours out."""

import dataclasses
import json
import pathlib
import re
import subprocess
import sys

import jax
import numpy as np
import pytest
import safetensors.numpy

import creps_jax
from creps_jax.checkpoint import load_networks
from creps_jax.config import parse
from creps_jax.interop import importing, official, stablehlo, state_dicts, weights
from creps_jax.interop.exporting import export_networks
from creps_jax.model.discriminator import Discriminator
from creps_jax.model.layers import variable_shapes
from experiments import official_files
from tests.helpers import parity_arrays
from tests.helpers.commands import assert_refused, creps, names, read
from tests.helpers.parity_arrays import TOLERANCE, disagreement, nhwc
from tests.helpers.saved import CONFIG, draw_variables

NETWORKS = ["networks_unconditional", "networks_conditional"]
README = pathlib.Path(__file__).parents[2] / "README.md"


def official_network(arrays, name):
    group = arrays.group(f"{name}/").items()
    return {k: a for k, a in group if name == "G" or k not in parity_arrays.D_RESULTS}


@pytest.fixture(scope="module", params=NETWORKS)
def arrays(request):
    return parity_arrays.load(request.param)


@pytest.fixture(scope="module")
def file(arrays, tmp_path_factory):
    """A checkpoint of the official program, whose average is G and whose G is another."""
    networks = {name: official_network(arrays, name) for name in ("G", "D")}
    networks |= {"G_ema": networks["G"], "G": {k: 2 * a for k, a in networks["G"].items()}}
    path = tmp_path_factory.mktemp("official") / "creps-church-64x64.pkl"
    path.write_bytes(official_files.official_pickle(networks, group_size=2))
    return path


@pytest.fixture(scope="module")
def imported(file, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("imported")
    result = creps("import", file, f"--out={workdir}")
    assert result.exit_code == 0, result.output
    return workdir, result.output


@pytest.fixture(scope="module")
def exported(imported, tmp_path_factory):
    path = tmp_path_factory.mktemp("exported") / "church.safetensors"
    result = creps("export", f"--workdir={imported[0]}", "--to=safetensors", f"--out={path}")
    assert result.exit_code == 0, result.output
    return path


def same(one, other):
    assert jax.tree.structure(one) == jax.tree.structure(other)
    return all(jax.tree.leaves(jax.tree.map(np.array_equal, one, other)))


# In.


@pytest.mark.parity
def test_an_imported_pickle_paints_the_official_images(arrays, imported):
    painter = creps_jax.load(imported[0])
    inputs = zip(arrays["z"], arrays["c"], strict=True)
    ws = np.stack([painter.map(z, int(c.argmax()) if c.size else None) for z, c in inputs])
    plan = painter.plan(size=painter.shape, sampling="endpoints")
    images = np.stack(list(painter.pictures(ws, plan, np.float32)))
    assert disagreement(images, nhwc(arrays["synthesis/native"])) < TOLERANCE["image"]


def test_what_is_in_it_is_told(arrays, imported):
    resolution, output = arrays.config("resolution"), imported[1]
    classes = arrays.config("c_dim")
    assert f"G, D, G_ema of {resolution} x {resolution} px, 3 channels, " in output
    assert (f"{classes} classes;" if classes else "no classes;") in output
    assert "Its name says 64x64" in output
    assert "entries are left out that the official program never uses" in output
    assert "Also left out: augment_pipe, training_set_kwargs" in output


def test_all_networks_and_the_config_are_in_the_checkpoint(arrays, imported):
    saved = load_networks(imported[0])
    _, average = official.generator_from_arrays(official_network(arrays, "G"))
    _, discriminator = official.discriminator_from_arrays(official_network(arrays, "D"))
    assert same(saved.networks["G_ema"], average) and same(saved.networks["D"], discriminator)
    assert same(saved.networks["G"]["params"], jax.tree.map(lambda x: 2 * x, average["params"]))
    assert saved.config["discriminator"]["mbstd_group_size"] == 2
    assert saved.imported.endswith("creps-church-64x64.pkl") and saved.step == 0
    for name in ("z_dim", "w_dim", "biline_channels", "thickness", "mapping_layers"):
        assert saved.config["generator"][name] == arrays.config(name)


def test_a_generator_alone_is_imported_and_told(arrays, tmp_path):
    np.savez(tmp_path / "g.npz", **official_network(arrays, "G"))
    result = creps("import", tmp_path / "g.npz", f"--out={tmp_path / 'run'}")
    assert result.exit_code == 0, result.output
    assert "There is no G: G_ema stands for it." in result.output
    assert "There is no D: training begins with a new one." in result.output
    assert load_networks(tmp_path / "run").networks.keys() == {"G", "G_ema"}
    np.savez(tmp_path / "d.npz", **official_network(arrays, "D"))
    result = creps("import", tmp_path / "d.npz", f"--out={tmp_path / 'other'}")
    assert result.exit_code == 1 and "holds no generator" in result.stderr
    assert names(tmp_path) == ["d.npz", "g.npz", "run"]


def test_what_does_not_fit_is_named(arrays, tmp_path):
    def told(**changes):
        entries = {f"G_ema/{k}": a for k, a in official_network(arrays, "G").items()}
        entries |= {f"D/{k}": a for k, a in official_network(arrays, "D").items()}
        np.savez(tmp_path / "a.npz", **(entries | changes))
        result = creps("import", tmp_path / "a.npz", f"--out={tmp_path / 'run'}")
        assert "Traceback" not in result.output and result.stderr.count("\n") <= 1
        return result

    one = np.ones(1, np.float32)
    result = told(**{"G_ema/synthesis.b4.fc1.bias": one})
    assert result.exit_code == 1
    assert "a.npz: G_ema: entry synthesis.b4.fc1.bias has shape (1,)" in result.stderr
    result = told(**{"G_ema/more": one})
    assert result.exit_code == 1 and "G_ema: unknown entry more" in result.stderr
    result = told(**{"G_ema/mapping.w_avg": np.full(arrays.config("w_dim"), np.nan, np.float32)})
    assert result.exit_code == 1
    assert "G_ema: entry mapping.w_avg has numbers that are not finite" in result.stderr
    result = told(**{"G_ema/x\ny": one})
    assert result.exit_code == 1 and "unknown entry x?y" in result.stderr
    result = told(**{"D/more": one})
    assert result.exit_code == 0 and "D is left out" in result.output
    assert "unknown entry more" in result.output and "a.npz: G_ema of" in result.output
    for out in ("run", "run/checkpoints", "run/checkpoints/0/more"):
        result = creps("import", tmp_path / "a.npz", f"--out={tmp_path / out}")
        assert result.exit_code == 1 and "run holds checkpoints already" in result.stderr
    result = creps("import", tmp_path / "a.npz", f"--out={tmp_path / 'a.npz' / 'run'}")
    assert result.exit_code == 1 and "a.npz is a file; give a folder" in result.stderr
    assert_refused(creps("import", tmp_path / "a.npz", "--out="), "--out", "'' must be a path")


@pytest.mark.parametrize("arrays", NETWORKS[1:], indirect=True)
def test_what_does_not_fit_the_average_is_left_out_and_told(arrays, tmp_path):
    """A damaged G, Ds for other classes or with numbers that are none, groups of no size."""
    g, d = official_network(arrays, "G"), official_network(arrays, "D")
    unconditional = official_network(parity_arrays.load(NETWORKS[0]), "D")
    no_classes = {k: a for k, a in d.items() if not k.startswith("mapping.")}
    no_classes |= {f"b4.out.{k}": d[f"b4.out.{k}"][:1] for k in ("weight", "bias")}
    larger = official_network(parity_arrays.load(NETWORKS[0]), "G")
    given = {
        "a": ({"G_ema": g, "G": g | {"more": g["mapping.w_avg"]}}, 4, "G is left out: unknown"),
        "b": ({"G_ema": g, "G": larger}, 4, "G is left out: it is of another size than G_ema"),
        "c": ({"G_ema": g, "D": d | {"b4.out.bias": np.full(1, np.inf, "f")}}, 4, "not finite"),
        "d": ({"G_ema": g, "D": unconditional}, 4, "D is left out, .* it has 3 blocks, G has 4"),
        "classes": ({"G_ema": g, "D": no_classes}, 4, "D is left out, .* it has 0 classes, G"),
        "e": ({"G_ema": g, "D": d}, 3, "group_size=3 is no power of two .*: 4 stands for it"),
        "f": ({"G_ema": g, "D": d}, True, "group_size=True is no power of two"),
        "church1024": ({"G_ema": g}, 4, "Its name says 1024; "),
        "of-10x20": ({"G_ema": g}, 4, "Its name says 10x20; "),
    }
    for name, (networks, group_size, message) in given.items():
        path = tmp_path / f"{name}.pkl"
        path.write_bytes(official_files.official_pickle(networks, group_size))
        result = creps("import", path, f"--out={tmp_path / name}")
        assert result.exit_code == 0 and re.search(message, result.output), result.output
        assert "left out: G" not in result.output or name in "ab"


def test_files_that_are_none(tmp_path):
    result = creps("import", tmp_path / "nowhere.pkl", f"--out={tmp_path / 'run'}")
    assert_refused(result, "FILE", "nowhere.pkl is no file")
    (tmp_path / "a.pkl").write_bytes(b"\x80\x04cos\nsystem\n.")
    result = creps("import", tmp_path / "a.pkl", f"--out={tmp_path / 'run'}")
    assert result.exit_code == 1 and result.stderr.count("\n") == 1
    assert "names 'os.system', which is not known and was not called" in result.stderr
    assert not (tmp_path / "run").exists()


# Out.


def test_exported_names_are_the_official_ones(arrays, exported):
    """Strictly, and in the official shapes; the constants are bit for bit those of the arrays."""
    found = safetensors.numpy.load_file(exported)
    for network, name in {"G_ema": "G", "G": "G", "D": "D"}.items():
        expected = official_network(arrays, name)
        part = {
            k.removeprefix(f"{network}/"): a
            for k, a in found.items()
            if k.startswith(f"{network}/")
        }
        assert part.keys() == expected.keys()
        for key, array in part.items():
            assert (array.shape, array.dtype) == (expected[key].shape, np.float32), key
            is_never_used = ".b4.tores." in key or ".decoder_8." in key
            if network != "G":
                zeros = np.zeros_like(array)
                np.testing.assert_array_equal(array, zeros if is_never_used else expected[key], key)


@pytest.mark.parametrize("arrays", NETWORKS[1:], indirect=True)
def test_round_trips_are_bit_for_bit(imported, exported, tmp_path):
    workdir, original = exported, load_networks(imported[0])
    for form in ("npz", "safetensors"):
        out = tmp_path / form
        assert creps("import", workdir, f"--out={out}").exit_code == 0
        again = load_networks(out)
        assert same(again.networks, original.networks)
        assert again.config == original.config
        workdir = tmp_path / f"again.{form}"
        arguments = f"--workdir={out}", f"--to={form}", f"--out={workdir}"
        assert creps("export", *arguments).exit_code == 0
    assert workdir.read_bytes() == exported.read_bytes()


@pytest.mark.parametrize("arrays", NETWORKS[:1], indirect=True)
def test_a_file_paints_what_its_checkpoint_does(file, imported, exported, tmp_path):
    """Also one of the average generator alone, and the official pickle itself."""
    alone = tmp_path / "alone.safetensors"
    command = "export", f"--workdir={imported[0]}", "--to=safetensors", f"--out={alone}"
    assert creps(*command, "--networks=G_ema").exit_code == 0
    assert weights.read(alone).networks.keys() == {"G_ema"}
    assert json.loads((tmp_path / "alone.safetensors.json").read_text())["parameters"].keys() == {
        "G_ema"
    }
    image = creps_jax.load(imported[0]).render(seed=3)
    for model in (file, exported, alone):
        out = tmp_path / f"{model.stem}.png"
        result = creps("render", f"--model={model}", "--seeds=3", f"--out={out}")
        assert result.exit_code == 0, result.output
        np.testing.assert_array_equal(read(out), image)


@pytest.mark.parametrize("arrays", NETWORKS[1:], indirect=True)
def test_what_is_no_network_is_said(imported, exported, tmp_path):
    options = "--seeds=3", f"--out={tmp_path / 'a.png'}"
    both = f"--workdir={imported[0]}", f"--model={exported}"
    for given in ((), both):
        assert_refused(creps("render", *given, *options), "--workdir", "--model=NAME")
    result = creps("render", f"--model={tmp_path / 'none'}", *options)
    assert_refused(result, "--model", "none is no file of weights")
    discriminator = tmp_path / "D.npz"
    command = "export", f"--workdir={imported[0]}", "--to=npz", f"--out={discriminator}"
    assert creps(*command, "--networks=D").exit_code == 0
    result = creps("render", f"--model={discriminator}", *options)
    assert result.exit_code == 1 and "holds no generator" in result.stderr
    assert_refused(creps(*command, "--networks=G,E"), "--networks", "'E' is not there, but G, D")


def test_a_card_is_beside_the_file(arrays, exported):
    folder, resolution = exported.parent, arrays.config("resolution")
    assert names(folder) == [
        "church.safetensors",
        *(f"church.safetensors.{kind}" for kind in ("json", "md", "png")),
    ]
    card = json.loads((folder / "church.safetensors.json").read_text())
    assert card["size_px"] == [resolution, resolution] and card["files"] == ["church.safetensors"]
    assert card["imported_from"] == "creps-church-64x64.pkl"
    assert card["config"]["resolution"] == resolution
    assert "fill in" in card["licence"] and card["metrics"] == {}
    text = (folder / "church.safetensors.md").read_text()
    assert "![images of the network](church.safetensors.png)" in text
    assert f"| {resolution} x {resolution} |" in text
    picture = read(folder / "church.safetensors.png")
    assert picture.shape == (2 * resolution, 4 * resolution, 3) and picture.std() > 1


@pytest.mark.parametrize("arrays", NETWORKS[1:], indirect=True)
def test_a_licence_that_was_filled_in_stays(imported, tmp_path):
    path, card = tmp_path / "a.npz", tmp_path / "a.npz.json"
    arguments = f"--workdir={imported[0]}", "--to=npz", f"--out={path}"
    assert creps("export", *arguments).exit_code == 0
    card.write_text(json.dumps(json.loads(card.read_text()) | {"licence": "CC0"}))
    assert creps("export", *arguments).exit_code == 0
    assert json.loads(card.read_text())["licence"] == "CC0"
    assert "| licence | CC0 |" in (tmp_path / "a.npz.md").read_text()


@pytest.mark.parametrize("arrays", NETWORKS[1:], indirect=True)
def test_programs_of_stablehlo_paint_any_size(imported, tmp_path):
    out = tmp_path / "programs"
    result = creps("export", f"--workdir={imported[0]}", "--to=stablehlo", f"--out={out}")
    assert result.exit_code == 0, result.output
    assert {"lines.stablehlo", "mapping.stablehlo", "pixels.stablehlo"} < set(names(out))
    saved = load_networks(imported[0])
    painter = creps_jax.load(imported[0])
    functions = stablehlo.functions(painter.generator, saved.networks["G_ema"])
    found = {
        name: jax.export.deserialize(bytearray((out / f"{name}.stablehlo").read_bytes()))
        for name in functions
    }
    assert all(program.platforms == ("cpu", "cuda", "tpu") for program in found.values())
    config = painter.generator.config
    z = np.random.default_rng(0).standard_normal((2, config.z_dim), np.float32)
    c = np.eye(2, config.num_classes, dtype=np.float32)
    y, x = np.linspace(0, 1, 7, dtype=np.float32), np.linspace(0, 1, 10, dtype=np.float32)

    def paint(call):
        ws = call("mapping", z, c, np.float32(0.7))
        rows = call("lines", ws, y, np.zeros(7, np.int32))
        columns = call("lines", ws, x, np.ones(10, np.int32))
        return ws, call("pixels", ws, rows, columns)

    ws, images = paint(lambda name, *inputs: found[name].call(*inputs))
    own_ws, own = paint(lambda name, *inputs: jax.jit(functions[name])(*inputs))
    assert images.shape == (2, 7, 10, config.image_channels)
    np.testing.assert_array_equal(ws, own_ws)
    np.testing.assert_array_equal(images, own)


@pytest.mark.parametrize("arrays", NETWORKS[1:], indirect=True)
def test_wrong_options_of_export(imported, tmp_path):
    def export(to, out):
        return creps("export", f"--workdir={imported[0]}", f"--to={to}", f"--out={tmp_path / out}")

    assert_refused(export("npz", "a.safetensors"), "--out", "must end with .npz")
    assert_refused(export("onnx", "a.onnx"), "--to", "onnx")
    result = creps("export", f"--workdir={tmp_path}", "--to=npz", f"--out={tmp_path / 'a.npz'}")
    assert result.exit_code == 1 and "no checkpoint" in result.stderr
    assert names(tmp_path) == []


@pytest.mark.parametrize("arrays", NETWORKS[:1], indirect=True)
def test_the_readmes_program_paints_with_jax_alone(imported, tmp_path):
    """But for the latent's size, which is the demo's there."""
    out = tmp_path / "runs" / "programs"
    arguments = f"--workdir={imported[0]}", "--to=stablehlo", f"--out={out}"
    assert creps("export", *arguments).exit_code == 0
    config = creps_jax.load(imported[0]).generator.config
    text = README.read_text(encoding="utf-8")
    (program,) = re.findall(r"```python\n(import pathlib.*?)```", text, re.DOTALL)
    assert len([line for line in program.splitlines() if line.strip()]) == 10
    program = program.replace("(1, 64)", f"(1, {config.z_dim})")
    program = program.replace("(1, 0)", f"(1, {config.num_classes})").replace("512", "24")
    check = "import sys; print(image.shape, 'creps_jax' in sys.modules, 'flax' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", program + check], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.stdout == f"(1, 24, 24, {config.image_channels}) False False\n", done.stderr


@pytest.mark.parametrize("arrays", NETWORKS[:1], indirect=True)
def test_a_full_disk_is_one_line_and_the_same_command_goes_on(file, tmp_path):
    """With the log of Orbax's threads it would be 500."""
    program = (
        "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (2**13, 2**13));"
        "from creps_jax.cli import run; run()"
    )
    arguments = "import", str(file), f"--out={tmp_path}"
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments], capture_output=True, text=True
    )
    assert done.returncode == 1
    assert re.fullmatch(r"Error: \[Errno 27\] File too large: .*\n", done.stderr), done.stderr
    result = creps("import", file, f"--out={tmp_path}")
    assert result.exit_code == 0 and load_networks(tmp_path).step == 0, result.output


def test_networks_that_are_not_square_come_back(tmp_path):
    """Of images of 16 x 24 px; the official program has none such."""
    config = CONFIG | {"resolution": 16, "width": 24}
    networks = {"G_ema": draw_variables(config)}
    shapes = variable_shapes(Discriminator(parse(config).discriminator))
    random = np.random.default_rng(0)
    networks["D"] = jax.tree.map(lambda x: random.normal(size=x.shape).astype(np.float32), shapes)
    for name in ("with.npz", "without.npz"):
        state_dicts.write(tmp_path / name, networks, config)
    with np.load(tmp_path / "without.npz") as arrays:  # Shapes and names tell the size as well.
        arrays = {name: array for name, array in arrays.items() if name != "config"}
    np.savez(tmp_path / "without.npz", **arrays)
    for name in ("with", "without"):
        result = creps("import", tmp_path / f"{name}.npz", f"--out={tmp_path / name}")
        assert result.exit_code == 0, result.output
        saved = load_networks(tmp_path / name)
        assert (saved.config["resolution"], saved.config["width"]) == (16, 24)
        assert same(saved.networks["D"], networks["D"])
        assert same(saved.networks["G_ema"], networks["G_ema"])


def test_a_config_that_is_not_the_arrays_is_named(tmp_path):
    variables = {"G_ema": draw_variables(CONFIG)}
    state_dicts.write(tmp_path / "a.npz", variables, CONFIG)
    with np.load(tmp_path / "a.npz") as arrays:
        arrays = dict(arrays)
    size = CONFIG["discriminator"]["channel_max"]
    wider = CONFIG | {"discriminator": CONFIG["discriminator"] | {"channel_max": 2 * size}}
    shapes = variable_shapes(Discriminator(parse(wider).discriminator))
    d = {"D": jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), shapes)}
    state_dicts.write(tmp_path / "d.npz", variables | d, wider)
    with np.load(tmp_path / "d.npz") as with_d:
        with_d = dict(with_d) | {"config": arrays["config"]}
    np.savez(tmp_path / "d.npz", **with_d)
    result = creps("import", tmp_path / "d.npz", f"--out={tmp_path / 'run'}")
    assert result.exit_code == 1 and "its config gives D channels" in result.stderr
    z_dim = CONFIG["generator"]["z_dim"]
    other = CONFIG | {"generator": CONFIG["generator"] | {"z_dim": z_dim + 1}}
    np.savez(tmp_path / "a.npz", **arrays | {"config": np.array(json.dumps(other))})
    result = creps("import", tmp_path / "a.npz", f"--out={tmp_path / 'run'}")
    assert result.exit_code == 1
    assert f"its config gives G z_dim {z_dim + 1}, its arrays have {z_dim}" in result.stderr


def test_widths_that_no_config_gives_are_refused():
    network = dataclasses.replace(parse(CONFIG).generator, channels=(4, 8, 4))
    with pytest.raises(ValueError, match="the generator's widths 4 8 4 are not min"):
        importing._widths("generator", network)


def test_from_python_a_path_must_end_as_its_format(tmp_path):
    with pytest.raises(ValueError, match=r"a.safetensors' must end with .npz"):
        export_networks(tmp_path, "npz", tmp_path / "a.safetensors")
    with pytest.raises(ValueError, match="to='onnx' must be one of"):
        export_networks(tmp_path, "onnx", tmp_path / "a.onnx")
