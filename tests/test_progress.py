"""How far a long work is, told in lines."""

import itertools

from creps_jax import progress


def test_lines_tell_how_far_each_stage_is(monkeypatch, capsys):
    clock = itertools.chain([0.0, 1.0, 20.0, 20.0], itertools.repeat(31.0))
    monkeypatch.setattr("time.monotonic", lambda: next(clock))
    with progress.progress() as shown:
        for _ in range(2):
            shown.stage(6, "tiles painted")
            shown.advance(1, 4_000_000)
        shown.stage(1.5, "tiles written")
        shown.advance(0.5, 5_500_000)
    assert capsys.readouterr().err == (
        "2/6 tiles painted  0.40 Mpixel/s  0m 40s left\n"
        "0/2 tiles written  0.50 Mpixel/s  0m 22s left\n"
    )


def test_lines_tell_how_far_a_vast_image_is_from_its_first_tile_on(monkeypatch, capsys):
    clock = itertools.count(0.0, 20.0)
    monkeypatch.setattr("time.monotonic", lambda: next(clock))
    tile = (512 / 2**20) ** 2
    with progress.progress() as shown:
        shown.stage(1, "images")
        shown.advance(0)
        shown.advance(tile, 512**2)
        shown.advance(1 - tile, 0)
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "0/1 images  0 a second"
    assert lines[1] == "0/1 images  0.01 Mpixel/s  46603h 22m left"
    assert lines[2] == "1/1 images  0.00 Mpixel/s  0m 00s left"
